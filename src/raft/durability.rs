//! What the disk holds, and which promises may therefore leave (diss. §3.8, §10.2.1).
//!
//! A vote that is told and then forgotten elects two leaders in one term. An entry that is
//! acknowledged and then forgotten was counted towards a majority that does not exist. So the core
//! remembers how much of itself is on disk, and every promise asks here before it leaves: a vote or
//! a vote request needs the hard state on disk, an acknowledgement vouches for entries only as far
//! as they are on disk, and a leader counts itself by the same rule. Heartbeats, echoes and
//! pre-votes promise nothing that a crash could break, so they never wait.
//!
//! One write is in flight at a time; the log writer takes everything that has gathered meanwhile as
//! the next one (group commit). The lock is free while the disk works, so the log may change under
//! a write: *truncation clamps*. If entries 5 to 9 are being written and the leader replaces the
//! log from 7, what that write will prove is only 5 and 6.

use std::hash::Hash;

use super::types::{Entry, HardState, Index, Payload, SnapshotId};
use super::{Raft, Refused};
use crate::lab::{Rule, removed};

/// What is written around an entry and around a batch, at most: room for an entry is counted with
/// all of it, as each may have to be written alone.
pub const WRITE_OVERHEAD_BYTES: u64 = 256;

/// Names one write, so that its completion can be told to the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteTicket(pub u64);

/// What the log writer is to put on disk, in one write and one sync.
///
/// On disk an entry at an index that exists replaces it and all after it, so truncation needs no
/// operation of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Write {
    /// To be given back to `Raft::persisted` once the write is synced.
    pub ticket: WriteTicket,
    /// The hard state, if the disk does not hold it yet. It comes before the entries.
    pub hard_state: Option<HardState>,
    /// The log begins anew behind this snapshot, which is on disk: all entries written before are
    /// void, and the next one has the index after it. It comes before the entries.
    pub base: Option<SnapshotId>,
    /// Consecutive entries.
    pub entries: Vec<Entry>,
}

/// How much of the persistent state the disk really holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Durable {
    /// The hard state on disk.
    hard_state: HardState,
    /// The log on disk agrees with the log in memory up to here.
    index: Index,
    /// The log begins anew behind this snapshot, and the journal does not say so yet. The snapshot
    /// itself is on disk, so a start would find it and come to the same log.
    base_due: Option<SnapshotId>,
    /// The write that the log writer has taken and not yet synced.
    in_flight: Option<InFlight>,
    /// The ticket of the last write taken.
    last_ticket: WriteTicket,
    /// Bytes of entries beyond `index` that certainly fit on the disk: an input.
    room_bytes: u64,
    /// What the last proposal would have needed that was refused for want of room.
    wanted_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct InFlight {
    ticket: WriteTicket,
    hard_state: HardState,
    /// The last index that this write will prove to be on disk; clamped by truncation.
    index: Index,
    /// Ticks since the write was taken: how long the disk has kept us waiting.
    age_ticks: u32,
}

impl Durable {
    /// All that was recovered is on disk: recovery has written it afresh and synced it.
    pub fn recovered(hard_state: HardState, index: Index) -> Durable {
        Durable {
            hard_state,
            index,
            base_due: None,
            in_flight: None,
            last_ticket: WriteTicket(0),
            room_bytes: u64::MAX,
            wanted_bytes: 0,
        }
    }

    /// The log is on disk up to here.
    pub fn index(&self) -> Index {
        self.index
    }

    /// The hard state on disk.
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// For how many ticks the write in flight has not been synced; 0 if there is none.
    pub fn write_age_ticks(&self) -> u32 {
        self.in_flight.as_ref().map_or(0, |write| write.age_ticks)
    }

    /// One more tick without the sync of the write in flight.
    pub fn tick(&mut self) {
        if let Some(write) = &mut self.in_flight {
            write.age_ticks = write.age_ticks.saturating_add(1);
        }
    }

    /// What the disk holds and will hold, without the numbers of the writes and their ages.
    pub(super) fn essence(&self) -> impl Hash {
        let in_flight = self.in_flight.as_ref().map(|write| (write.hard_state, write.index));
        (self.hard_state, self.index, self.base_due, in_flight)
    }

    /// The log is about to be replaced from `from` on: what the disk holds there is the past.
    pub fn clamp(&mut self, from: Index) {
        let kept = from.previous();
        if !removed(Rule::TruncationClampsDurable) {
            self.index = self.index.min(kept);
        }
        if let Some(write) = &mut self.in_flight
            && !removed(Rule::TruncationClampsWrite)
        {
            write.index = write.index.min(kept);
        }
    }

    /// A snapshot has been installed, and it is on disk. If the journal has come as far and agrees,
    /// it simply goes on. Otherwise it must begin anew behind the snapshot, and nothing that it
    /// holds or is being given counts any more.
    pub fn begin_behind(&mut self, snapshot: SnapshotId, log_agrees: bool) {
        let index = snapshot.last.index;
        if log_agrees && self.index >= index {
            return;
        }
        self.index = index;
        self.base_due = Some(snapshot);
        if let Some(write) = &mut self.in_flight
            && !removed(Rule::SnapshotClampsWrite)
        {
            write.index = write.index.min(index);
        }
    }
}

impl Raft {
    /// Bytes of entries that the disk has room for, beyond those that it holds, with
    /// `WRITE_OVERHEAD_BYTES` for each. To be told after each write before `persisted`, and when it
    /// changes otherwise; before the first time everything fits.
    ///
    /// What does not fit is not written: so a full disk holds up the entries, and acknowledges none
    /// of them, but terms and votes go on, and so do reads.
    pub fn set_room(&mut self, bytes: u64) {
        self.durable.room_bytes = bytes;
        self.durable.wanted_bytes = 0;
    }

    /// The room that was told last.
    pub fn room_bytes(&self) -> u64 {
        self.durable.room_bytes
    }

    /// What must fit so that this server can go on: the next entry that it has to write, or has
    /// refused to append.
    pub fn wanted_bytes(&self) -> u64 {
        let next = self.durable.index.next();
        let waits = next <= self.log.last_index() && !self.room_is_unbounded();
        let waiting = if waits { self.weight_between(next.previous(), next) } else { 0 };
        waiting.max(self.durable.wanted_bytes)
    }

    /// Whether the next entry to be written waits for room.
    pub fn waits_for_room(&self) -> bool {
        self.durable.index < self.log.last_index() && self.fitting() == self.durable.index
    }

    /// Refuses an entry of our own that the disk may have no room for.
    pub(super) fn check_room(&mut self, payload_bytes: usize) -> Result<(), Refused> {
        let entry = (Entry::OVERHEAD_BYTES + payload_bytes) as u64 + WRITE_OVERHEAD_BYTES;
        let waiting = self.weight_between(self.durable.index, self.log.last_index());
        if waiting.saturating_add(entry) <= self.durable.room_bytes {
            return Ok(());
        }
        self.durable.wanted_bytes = self.durable.wanted_bytes.max(entry);
        Err(Refused::NoRoom { room_bytes: self.durable.room_bytes })
    }

    /// The last entry that there is room for, of those not on disk.
    fn fitting(&self) -> Index {
        let (durable, last) = (self.durable.index, self.log.last_index());
        if self.room_is_unbounded() || self.weight_between(durable, last) <= self.durable.room_bytes
        {
            return last;
        }
        // Weights rise with each entry.
        let (mut fits, mut too_far) = (durable.0, last.0);
        while too_far - fits > 1 {
            let middle = fits + (too_far - fits) / 2;
            match self.weight_between(durable, Index(middle)) <= self.durable.room_bytes {
                true => fits = middle,
                false => too_far = middle,
            }
        }
        if Index(fits) == durable && self.begins_a_term(durable.next()) {
            return durable.next();
        }
        Index(fits)
    }

    /// Whether this is a new leader's no-op. It is written into what is kept for terms and votes,
    /// of which a term has no more either: without it nothing is committed and no read answered.
    fn begins_a_term(&self, index: Index) -> bool {
        let is_noop = self.log.payload_at(index) == &Payload::Noop;
        let is_first = self.log.term_at(index) > self.log.term_at(index.previous());
        is_noop && (is_first || removed(Rule::OneNoopIsFree))
    }

    fn room_is_unbounded(&self) -> bool {
        self.durable.room_bytes == u64::MAX || removed(Rule::RoomIsReserved)
    }

    /// What these entries take on disk, at most.
    fn weight_between(&self, after: Index, to: Index) -> u64 {
        self.log.bytes_between(after, to) + (to.0 - after.0) * WRITE_OVERHEAD_BYTES
    }

    /// Whether there is something to write, and room for it, and no write in flight.
    pub fn has_write(&self) -> bool {
        let behind = !self.hard_state_is_durable()
            || self.durable.index < self.fitting()
            || self.durable.base_due.is_some();
        behind && self.durable.in_flight.is_none()
    }

    /// Takes what is not on disk yet, up to `bytes_max` of entries (at least one if there is one);
    /// nothing while a write is in flight. Hard state comes first, then entries, in one write, so
    /// they cannot be reordered.
    pub fn take_write(&mut self, bytes_max: usize) -> Option<Write> {
        if !self.has_write() {
            return None;
        }
        let hard_state = self.hard_state();
        let bytes_max = if removed(Rule::WritesAreBounded) { usize::MAX } else { bytes_max };
        let entries = self.log.slice_up_to(self.durable.index.next(), self.fitting(), bytes_max);
        let index = entries.last().map_or(self.durable.index, |entry| entry.id.index);
        let ticket = WriteTicket(self.durable.last_ticket.0 + 1);
        self.durable.last_ticket = ticket;
        self.durable.in_flight = Some(InFlight { ticket, hard_state, index, age_ticks: 0 });
        let changed = hard_state != self.durable.hard_state
            && !(removed(Rule::HardStateIsWritten) && entries.is_empty());
        let hard_state = changed.then_some(hard_state);
        let base = self.durable.base_due.take().filter(|_| !removed(Rule::LogBeginsAnew));
        Some(Write { ticket, hard_state, base, entries })
    }

    /// The write is synced. Votes and acknowledgements that waited for it may leave now.
    pub fn persisted(&mut self, ticket: WriteTicket) {
        let write = self.durable.in_flight.take().expect("a write is in flight");
        assert_eq!(write.ticket, ticket, "writes are synced in the order they were taken");
        assert!(write.index <= self.log.last_index(), "truncation clamps the write in flight");
        self.durable.hard_state = write.hard_state;
        self.durable.index = self.durable.index.max(write.index);
        self.count_own_vote(); // [C1] [C2]
        self.advance_commit_index(); // [L4] our own disk counts as one of the majority
        self.check_invariants();
    }

    /// The guard of every promise: whether term and vote are on disk.
    pub(super) fn hard_state_is_durable(&self) -> bool {
        self.durable.hard_state == self.hard_state()
    }
}
