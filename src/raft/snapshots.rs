//! Taking snapshots, and what is then forgotten of the log (§7).
//!
//! The state machine belongs to the applier, so the core only says when: behind an entry it hands
//! out `Apply::Freeze`, somebody writes the frozen view to a file, and `snapshot_saved` says that
//! the file is durable and readable. From then on the log before it is needed only by followers
//! that are a little behind: a bounded tail stays in memory for them. On disk nothing of it is
//! needed: after a restart the log begins at the snapshot.
//!
//! A leader never waits with it for a slow follower. One that needs more than the tail is sent the
//! snapshot ([`super::install_snapshot`]).
//!
//! **They take turns.** Servers hold the same log, so all of them would come to the next snapshot
//! at the same moment; the disks of a majority would be busy with it, and every write would wait
//! for one of them. So of three servers that may stand at the same point, the first takes its next
//! snapshot when the log is as long as it may be, the second after a third of that, the last after
//! two thirds. From then on each goes the whole way, and they stay apart. They may stand at the
//! same point when they start without a snapshot or with nothing behind it (that of a backup, say),
//! and after a snapshot that somebody has asked for: probably all of them were asked. A follower
//! that was sent a snapshot stands where the leader stands, and takes its next turn as if the
//! leader were the first of them.

use super::event::Event;
use super::install_snapshot::{Incoming, TransferId};
use super::progress::Mode;
use super::quorum::Membership;
use super::types::{Index, ServerId, SnapshotId};
use super::{Raft, Role};
use crate::lab::{Rule, removed};

/// How much of the way to its next snapshot a server goes: so many parts of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Turn {
    parts: u64,
    of: u64,
}

impl Turn {
    /// All of it.
    pub(super) const WHOLE: Turn = Turn { parts: 1, of: 1 };

    /// Where `id` is to stand when `first` goes all the way; by default the first member.
    pub(super) fn after(first: Option<ServerId>, id: ServerId, membership: &Membership) -> Turn {
        let place = |server| membership.servers().take_while(|other| *other < server).count();
        let of = membership.servers().count();
        let behind = (place(id) + of - first.map_or(0, place)) % of;
        Turn { parts: if behind == 0 { of } else { behind } as u64, of: of as u64 }
    }

    /// The part of a bound that this is; at least 1.
    fn part(self, whole: u64) -> u64 {
        if self.parts == self.of { whole } else { (whole / self.of * self.parts).max(1) }
    }
}

/// What a server knows of its own snapshots.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Snapshots {
    /// The newest one, on disk and proven readable; `NONE` if there is none.
    pub(super) newest: SnapshotId,
    /// The length of its file, in bytes.
    pub(super) newest_bytes: u64,
    /// Up to here the log is to be forgotten.
    pub(super) forget_to: Index,
    /// The one that is being written.
    pub(super) freezing: Option<SnapshotId>,
    /// Somebody has asked for one.
    pub(super) requested: bool,
    /// How much of the way leads from the newest one to the next.
    pub(super) turn: Turn,
    /// The same from the one that is being written.
    pub(super) turn_after: Turn,
    /// Ticks since the newest was saved, or since the start.
    pub(super) age_ticks: u64,
    /// Ticks until the next attempt after one that failed.
    pub(super) pause_ticks: u64,
    /// Ticks until another one is received after one that was of no use, or could not be stored.
    pub(super) refusal_ticks: u64,
    /// The one that is being received.
    pub(super) incoming: Option<Incoming>,
    /// Numbers what is received, for the worker's answers to name it.
    pub(super) last_transfer: TransferId,
    /// Installed, and not yet handed to the applier.
    pub(super) restore: Option<SnapshotId>,
}

impl Snapshots {
    /// At the start, with the snapshot that was found.
    pub(super) fn new(newest: SnapshotId, newest_bytes: u64) -> Snapshots {
        Snapshots {
            newest,
            newest_bytes,
            forget_to: newest.last.index,
            freezing: None,
            requested: false,
            turn: Turn::WHOLE,
            turn_after: Turn::WHOLE,
            age_ticks: 0,
            pause_ticks: 0,
            refusal_ticks: 0,
            incoming: None,
            last_transfer: TransferId(0),
            restore: None,
        }
    }

    /// The newest snapshot; `NONE` if there is none.
    pub fn newest(&self) -> SnapshotId {
        self.newest
    }

    /// The length of its file, in bytes.
    pub fn newest_bytes(&self) -> u64 {
        self.newest_bytes
    }

    /// The one that is being received, how much of it is stored, and how long it is, in bytes.
    pub fn incoming(&self) -> Option<(SnapshotId, u64, u64)> {
        let incoming = self.incoming.as_ref()?;
        Some((incoming.snapshot, incoming.stored_bytes, incoming.total_bytes))
    }

    /// What belongs to a term and is dropped with it: another leader's file may differ.
    pub(super) fn enter_term(&mut self) {
        self.incoming = None;
        self.refusal_ticks = 0;
    }
}

impl Raft {
    /// A snapshot is to be taken as soon as possible, whatever the log's length.
    pub fn request_snapshot(&mut self) {
        self.snapshots.requested = true;
    }

    pub(super) fn tick_snapshots(&mut self) {
        self.snapshots.age_ticks += 1;
        self.snapshots.pause_ticks = self.snapshots.pause_ticks.saturating_sub(1);
        self.snapshots.refusal_ticks = self.snapshots.refusal_ticks.saturating_sub(1);
        self.forget_some();
    }

    /// In how many ticks there may be something to do: 0 if only because it has not been done yet.
    pub(super) fn ticks_until_snapshot(&self) -> u32 {
        let own = &self.snapshots;
        if own.pause_ticks > 0 || own.forget_to > self.log.base().index {
            return 1;
        }
        if own.freezing.is_some() || self.last_applied <= own.newest.last.index {
            return u32::MAX;
        }
        let age_ticks_max = own.turn.part(self.options.snapshots.age_ticks_max);
        u32::try_from(age_ticks_max.saturating_sub(own.age_ticks)).unwrap_or(u32::MAX)
    }

    /// Whether the state machine, as far as entries have been handed out, is to be frozen. One at a
    /// time; and nothing new is no reason for another one.
    pub(super) fn snapshot_is_due(&self) -> bool {
        let (own, options) = (&self.snapshots, &self.options.snapshots);
        let behind = own.newest.last.index;
        if own.freezing.is_some() || own.pause_ticks > 0 || self.last_applied <= behind {
            return false;
        }
        let (turn, bytes) = (own.turn, self.log.bytes_between(behind, self.last_applied));
        own.requested
            || self.last_applied.0 - behind.0 >= turn.part(options.log_entries_max)
            || bytes >= turn.part(options.log_bytes_max)
            || own.age_ticks >= turn.part(options.age_ticks_max)
    }

    /// Begins the snapshot that is due.
    pub(super) fn freeze(&mut self) -> SnapshotId {
        let snapshot = self.log.snapshot_id_at(self.last_applied);
        self.snapshots.turn_after = match std::mem::take(&mut self.snapshots.requested) {
            true => Turn::after(None, self.id, &self.membership),
            false => Turn::WHOLE,
        };
        self.snapshots.freezing = Some(snapshot);
        snapshot
    }

    /// The snapshot that `Apply::Freeze` named is on disk under its name, and was read back.
    pub fn snapshot_saved(&mut self, snapshot: SnapshotId, bytes: u64) {
        assert_eq!(self.snapshots.freezing, Some(snapshot), "one is written at a time");
        self.snapshots.freezing = None;
        self.record(Event::SnapshotSaved { snapshot, bytes });
        if snapshot.last.index > self.snapshots.newest.last.index {
            self.snapshots.turn = self.snapshots.turn_after;
        }
        self.publish(snapshot, bytes);
        self.check_invariants();
    }

    /// It could not be written; another one is tried later.
    pub fn snapshot_failed(&mut self, snapshot: SnapshotId) {
        assert_eq!(self.snapshots.freezing, Some(snapshot), "one is written at a time");
        self.snapshots.freezing = None;
        self.snapshots.pause_ticks = self.options.snapshots.retry_ticks;
    }

    /// This snapshot is on disk. If it is our newest, the log before it need not be kept.
    pub(super) fn publish(&mut self, snapshot: SnapshotId, bytes: u64) {
        if snapshot.last.index <= self.snapshots.newest.last.index {
            return;
        }
        assert!(snapshot.last.index <= self.last_applied, "a snapshot holds what was applied");
        self.snapshots.newest = snapshot;
        self.snapshots.newest_bytes = bytes;
        self.snapshots.age_ticks = 0;
        self.compact();
    }

    /// Decides how much of the log before the newest snapshot is forgotten: all but a tail, and
    /// nothing that is not on our own disk: it is still to be written.
    fn compact(&mut self) {
        self.send_newer_to_the_absent();
        let options = &self.options.snapshots;
        let snapshot = self.snapshots.newest.last.index;
        let mut to = self.log.index_before(snapshot, options.tail_bytes);
        to = to.min(self.durable.index()).min(snapshot);
        if let Role::Leader(leader) = &self.role {
            // A follower that is being sent an older snapshot will go on behind that one: if it is
            // gone by then, the follower would be sent snapshots for ever (S83). But no follower
            // may hold up more than a bound.
            for progress in leader.progress.values() {
                let Mode::Snapshot(transfer) = &progress.mode else { continue };
                let needed = transfer.snapshot.last.index.max(self.log.base().index);
                let held = self.log.bytes_between(needed, self.log.last_index());
                if held <= options.catch_up_bytes_max && !removed(Rule::CatchUpIsKept) {
                    to = to.min(needed);
                }
            }
        }
        if removed(Rule::TailIsDurable) {
            to = snapshot;
        }
        self.snapshots.forget_to = to;
        self.forget_some();
    }

    /// Forgets some of it. To free a hundred thousand entries takes longer than a follower's round
    /// trip, and everybody waits meanwhile. (Decided once for each snapshot and not with each step:
    /// a follower that has just been sent an older one still needs the log behind it.)
    fn forget_some(&mut self) {
        let (base, all) = (self.log.base().index, self.snapshots.forget_to);
        let step = self.options.snapshots.forget_entries_max.max(all.0.saturating_sub(base.0) / 64);
        let to = all.min(Index(base.0.saturating_add(step)));
        if to <= base {
            return;
        }
        self.log.compact(to);
        let first = self.log.base().index.next();
        if let Role::Leader(leader) = &mut self.role {
            for progress in leader.progress.values_mut() {
                if matches!(progress.mode, Mode::Probe { .. }) && progress.next_index < first {
                    progress.probe_forward(first);
                }
            }
        }
        self.send_snapshots();
    }

    /// Who has not answered for an election timeout takes nothing of an older snapshot now, and may
    /// never: neither its file nor the log behind it is kept for a server that is down.
    fn send_newer_to_the_absent(&mut self) {
        let (newest, bytes) = (self.snapshots.newest, self.snapshots.newest_bytes);
        let absent_ticks = self.options.election_max_ticks;
        let Role::Leader(leader) = &mut self.role else { return };
        for progress in leader.progress.values_mut() {
            let is_absent = progress.heard_ago_ticks > absent_ticks;
            if is_absent && matches!(progress.mode, Mode::Snapshot(_)) {
                progress.send_snapshot(newest, bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(first: Option<u32>, ids: [u32; 3]) -> [u64; 3] {
        let membership = Membership::new(ids.map(ServerId));
        ids.map(|id| Turn::after(first.map(ServerId), ServerId(id), &membership).part(100))
    }

    #[test]
    fn servers_take_turns_at_equal_distances() {
        assert_eq!(parts(None, [1, 2, 3]), [100, 33, 66]);
        assert_eq!(parts(None, [4, 7, 200]), [100, 33, 66], "ids need not follow each other");
        assert_eq!(parts(Some(2), [1, 2, 3]), [66, 100, 33]);
        let alone = Membership::new([ServerId(5)]);
        assert_eq!(Turn::after(None, ServerId(5), &alone).part(u64::MAX), u64::MAX);
    }

    #[test]
    fn a_part_of_a_small_bound_is_something() {
        let membership = Membership::new([1, 2, 3].map(ServerId));
        assert_eq!(Turn::after(None, ServerId(2), &membership).part(1), 1);
    }
}
