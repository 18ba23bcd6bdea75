//! InstallSnapshot (§7, Figure 13): how a follower gets a snapshot that needs what the leader's log
//! no longer holds.
//!
//! **Sending.** The leader sends the snapshot's file in parts (`progress::Transfer`). The core
//! knows the file only by its length: whoever sends a part reads it. Heartbeats go on meanwhile.
//!
//! **Receiving.** Parts are stored in order by a worker (`take_snapshot_work`), outside the mutex
//! like everything that is slow. When all are stored, the worker builds the new state, makes the
//! file durable and says `snapshot_installed`. Only now does anything change here: until then a
//! crash finds the server as it was.
//!
//! An example. Server 3 has the log 1..5 and was away; the leader's log begins behind 9. The leader
//! sends the snapshot of 9. Server 3 stores it, forgets its log, which ends before 9, and takes the
//! snapshot for its state. Its log now begins behind 9 as well, and the next AppendEntries has
//! prev = 9.
//!
//! A snapshot holds only what is committed. So one that has been received counts whoever leads by
//! then, and a part that comes late or twice does no harm: it is not the next one.

use std::collections::VecDeque;

use super::append_entries::OwedInstall;
use super::event::Event;
use super::log::Log;
use super::message::{InstallSnapshot, InstallSnapshotReply};
use super::progress::Mode;
use super::snapshots::Turn;
use super::types::{Bytes, Index, ServerId, SnapshotId};
use super::{Raft, Role};
use crate::lab::{Rule, removed};

/// Numbers the snapshots that a server begins to receive: an answer about an older one means
/// nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransferId(pub u64);

/// A snapshot that the leader of our term is sending.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Incoming {
    transfer: TransferId,
    pub(super) snapshot: SnapshotId,
    pub(super) total_bytes: u64,
    /// In the worker's file.
    pub(super) stored_bytes: u64,
    /// Taken from the leader: stored, with the worker, or waiting for it.
    accepted_bytes: u64,
    /// Parts that wait for the worker.
    waiting: VecDeque<Bytes>,
    /// What the worker is doing.
    work: Option<Doing>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Doing {
    Storing,
    Installing,
}

/// Something for the worker that handles snapshots; one at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotWork {
    /// Append these parts to the file of this transfer; with the first ones (offset 0) it begins.
    /// What was received before is void. Then say `snapshot_stored`.
    Store {
        /// Which transfer.
        transfer: TransferId,
        /// Which snapshot.
        snapshot: SnapshotId,
        /// How long it will be.
        total_bytes: u64,
        /// Where the parts belong.
        offset_bytes: u64,
        /// The parts, one after the other.
        parts: Vec<Bytes>,
    },
    /// The file is complete. Verify it, build the state from it, make it durable, and say
    /// `snapshot_installed`; or `snapshot_refused`.
    Install {
        /// Which transfer.
        transfer: TransferId,
        /// Which snapshot.
        snapshot: SnapshotId,
    },
}

/// Sending.
impl Raft {
    /// Which snapshots are being sent, beside the newest: their files are still needed.
    pub fn snapshots_in_use(&self) -> Vec<SnapshotId> {
        let mut used = vec![self.snapshots.newest];
        if let Role::Leader(leader) = &self.role {
            used.extend(leader.progress.values().filter_map(|progress| match progress.mode {
                Mode::Snapshot(transfer) => Some(transfer.snapshot),
                _ => None,
            }));
        }
        used.sort_unstable();
        used.dedup();
        used
    }

    /// Followers whose next entry is gone are sent the newest snapshot instead. To be called when
    /// the log was cut or `next_index` went back.
    pub(super) fn send_snapshots(&mut self) {
        let base = self.log.base().index;
        let (newest, bytes) = (self.snapshots.newest, self.snapshots.newest_bytes);
        let Role::Leader(leader) = &mut self.role else { return };
        let mut begun = Vec::new();
        for (&follower, progress) in &mut leader.progress {
            let is_gone = progress.next_index <= base;
            if is_gone && !matches!(progress.mode, Mode::Snapshot(_)) {
                assert!(newest.last.index >= base, "what the log lacks, the snapshot has");
                progress.send_snapshot(newest, bytes);
                begun.push(follower);
            }
        }
        for follower in begun {
            self.record(Event::SendsSnapshot { follower, snapshot: newest, bytes });
        }
    }

    /// Whether `take_messages(to)` would return a part of a snapshot: its bytes are on disk.
    pub fn has_snapshot_part(&self, to: ServerId) -> bool {
        self.next_snapshot_part(to).is_some()
    }

    /// The next part for this follower, without its bytes.
    pub(super) fn take_snapshot_part(&mut self, to: ServerId) -> Option<InstallSnapshot> {
        let (offset_bytes, length_bytes) = self.next_snapshot_part(to)?;
        let term = self.current_term;
        let Role::Leader(leader) = &mut self.role else { return None };
        let progress = leader.progress.get_mut(&to).expect("asked above");
        let Mode::Snapshot(transfer) = &mut progress.mode else { return None };
        transfer.sent(length_bytes);
        let (snapshot, total_bytes, data) =
            (transfer.snapshot, transfer.total_bytes, Bytes::default());
        Some(InstallSnapshot { term, snapshot, total_bytes, offset_bytes, length_bytes, data })
    }

    fn next_snapshot_part(&self, to: ServerId) -> Option<(u64, u64)> {
        let Role::Leader(leader) = &self.role else { return None };
        let Mode::Snapshot(transfer) = &leader.progress.get(&to)?.mode else { return None };
        let options = &self.options.snapshots;
        transfer.next_part(options.chunk_bytes, options.window_bytes_max)
    }

    /// A follower says how much of a snapshot it has. An answer about another one is old.
    ///
    /// One that has to begin again, because what came was damaged or its disk was full, gets the
    /// newest: our file of the older one may be what is damaged, and no attempt would ever succeed.
    /// For the same reason another one is taken if all of it was stored and came to nothing.
    pub(super) fn handle_install_snapshot_reply(
        &mut self,
        from: ServerId,
        reply: &InstallSnapshotReply,
    ) {
        let current = reply.term == self.current_term;
        assert!(current || removed(Rule::StaleRepliesAreDropped), "step runs the term rules first");
        let (newest, bytes) = (self.snapshots.newest, self.snapshots.newest_bytes);
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        progress.heard_ago_ticks = 0;
        let Mode::Snapshot(transfer) = &mut progress.mode else { return };
        if transfer.snapshot.last.index != reply.last_index {
            return;
        }
        let begins_again = reply.stored_bytes == 0 && transfer.stored_bytes > 0;
        let was_complete = transfer.stored_bytes == transfer.total_bytes;
        transfer.stored(reply.stored_bytes, reply.gap);
        if begins_again && newest.last.index > reply.last_index {
            progress.send_snapshot(newest, bytes);
            self.record(Event::SendsSnapshot { follower: from, snapshot: newest, bytes });
        } else if begins_again && was_complete {
            self.request_snapshot();
        }
    }
}

/// Receiving.
impl Raft {
    /// InstallSnapshot at the receiver (Figure 13). `step` has applied the term rules [IS1].
    pub(super) fn handle_install_snapshot(&mut self, leader: ServerId, request: InstallSnapshot) {
        assert_eq!(request.term, self.current_term, "step runs the term rules first");
        self.follow(leader);
        let last_index = request.snapshot.last.index;
        // Nothing new: we have committed all of it, so we agree with the leader up to there. (Not
        // in the figure; it is what makes a doubled or late snapshot harmless, S82.)
        if last_index <= self.commit_index {
            self.verified = self.verified.max(last_index);
            self.owed.entry(leader).or_default().append.get_or_insert_default();
            return;
        }
        let gap = !self.accept_part(request);
        let owed = self.owed.entry(leader).or_default().install.get_or_insert_default();
        *owed = OwedInstall { last_index, gap };
    }

    /// Takes a part if it is the next one. Returns false if something before it is missing.
    fn accept_part(&mut self, request: InstallSnapshot) -> bool {
        let InstallSnapshot { snapshot, total_bytes, offset_bytes, length_bytes, data, .. } =
            request;
        let own = &mut self.snapshots;
        // Of one leader, snapshots only rise: an older one is late.
        if own.incoming.as_ref().is_some_and(|it| snapshot.last.index < it.snapshot.last.index) {
            return true;
        }
        // After a failure it is not asked for at once: with a full disk here, the leader would send
        // a window of it with each heartbeat, for nothing.
        if own.refusal_ticks > 0 {
            return true;
        }
        if own.incoming.as_ref().is_none_or(|it| it.snapshot != snapshot) {
            own.last_transfer.0 += 1; // [IS2] a new file
            own.incoming = Some(Incoming {
                transfer: own.last_transfer,
                snapshot,
                total_bytes,
                stored_bytes: 0,
                accepted_bytes: 0,
                waiting: VecDeque::new(),
                work: None,
            });
        }
        let incoming = own.incoming.as_mut().expect("made above");
        // [IS3] At its offset, and that is where the last part ended: what is there already is
        // stepped over, and what would leave a hole is not taken.
        let is_next = offset_bytes == incoming.accepted_bytes || removed(Rule::PartsLeaveNoHole);
        if is_next && length_bytes > 0 && incoming.accepted_bytes < incoming.total_bytes {
            incoming.accepted_bytes += length_bytes;
            incoming.waiting.push_back(data);
        }
        offset_bytes <= incoming.accepted_bytes
    }

    /// How much of this snapshot we have stored, in bytes.
    pub(super) fn stored_bytes_of(&self, last_index: Index) -> u64 {
        let incoming = self.snapshots.incoming.as_ref();
        incoming
            .filter(|incoming| incoming.snapshot.last.index == last_index)
            .map_or(0, |incoming| incoming.stored_bytes)
    }

    pub(super) fn has_snapshot_work(&self) -> bool {
        self.snapshots.incoming.as_ref().is_some_and(|incoming| {
            let is_stored = incoming.stored_bytes == incoming.total_bytes;
            incoming.work.is_none() && (!incoming.waiting.is_empty() || is_stored)
        })
    }

    /// For the worker that handles snapshots: what is to be done now, one thing at a time.
    pub fn take_snapshot_work(&mut self) -> Option<SnapshotWork> {
        if !self.has_snapshot_work() {
            return None;
        }
        let incoming = self.snapshots.incoming.as_mut()?;
        let Incoming { transfer, snapshot, total_bytes, stored_bytes, .. } = *incoming;
        if incoming.waiting.is_empty() {
            incoming.work = Some(Doing::Installing); // [IS4] all parts are there
            return Some(SnapshotWork::Install { transfer, snapshot });
        }
        incoming.work = Some(Doing::Storing);
        let parts = incoming.waiting.drain(..).collect();
        let offset_bytes = stored_bytes;
        Some(SnapshotWork::Store { transfer, snapshot, total_bytes, offset_bytes, parts })
    }

    /// The parts that were taken are in the file, which is this long now.
    pub fn snapshot_stored(&mut self, transfer: TransferId, stored_bytes: u64) {
        let Some(incoming) = self.incoming(transfer) else { return };
        incoming.work = None;
        incoming.stored_bytes = stored_bytes;
        let last_index = incoming.snapshot.last.index;
        if let Role::Follower(follower) = &self.role
            && let Some(leader) = follower.leader
        {
            let owed = self.owed.entry(leader).or_default().install.get_or_insert_default();
            owed.last_index = last_index;
        }
    }

    /// The worker could not store the parts, or the file is not what it should be: after a pause it
    /// is received again from its beginning.
    pub fn snapshot_refused(&mut self, transfer: TransferId) {
        if self.incoming(transfer).is_some() {
            self.snapshots.incoming = None;
            self.snapshots.refusal_ticks = self.options.snapshots.retry_ticks;
        }
    }

    /// The snapshot is on disk under its name, and a state machine was built from it. What it holds
    /// is committed, so it counts even if another leader or term has come meanwhile; unless we have
    /// come as far without it. Returns whether the state machine will be told to go on from it.
    pub fn snapshot_installed(
        &mut self,
        transfer: TransferId,
        snapshot: SnapshotId,
        bytes: u64,
    ) -> bool {
        let index = snapshot.last.index;
        // The same one may be coming again, from a leader of another term: it is of no use (S82).
        let is_over =
            |it: &mut Incoming| it.transfer == transfer || it.snapshot.last.index <= index;
        if self.snapshots.incoming.take_if(is_over).is_some() {
            // The acknowledgement says it all.
            self.owed.values_mut().for_each(|owed| owed.install = None);
        }
        let is_news = index > self.last_applied;
        if is_news {
            let log_agrees = self.log.term_at(index) == Some(snapshot.last.term)
                && !removed(Rule::ValidSuffixIsKept);
            self.durable.begin_behind(snapshot, log_agrees);
            if log_agrees {
                self.log.compact(index); // [IS6] what follows it is still good
            } else {
                assert!(!self.is_leader(), "Leader Completeness: {snapshot} is committed");
                self.log = Log::new(snapshot, Vec::new()); // [IS7]
            }
            self.verified = self.verified.max(index);
            self.commit_index = self.commit_index.max(index);
            self.last_applied = index;
            self.snapshots.restore = Some(snapshot); // [IS8]
            self.snapshots.turn = Turn::after(self.leader(), self.id, &self.membership);
            self.record(Event::SnapshotInstalled { snapshot, bytes, suffix_kept: log_agrees });
        }
        self.publish(snapshot, bytes); // [IS5] an older one is of no use any more
        self.check_invariants();
        is_news
    }

    /// The snapshot that the state machine has to go on from.
    pub(super) fn take_restore(&mut self) -> Option<SnapshotId> {
        self.snapshots.restore.take()
    }

    pub(super) fn has_restore(&self) -> bool {
        self.snapshots.restore.is_some()
    }

    fn incoming(&mut self, transfer: TransferId) -> Option<&mut Incoming> {
        self.snapshots.incoming.as_mut().filter(|incoming| incoming.transfer == transfer)
    }
}
