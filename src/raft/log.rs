//! The log in memory (§5.3).
//!
//! What is always true of it:
//! - entries are consecutive: the entry after index i has index i + 1;
//! - terms never fall from one entry to the next;
//! - two logs that hold an entry with the same id agree on everything before it (Log Matching).
//!
//! The log begins after `base`, an entry that a snapshot covers (`SnapshotId::NONE` before the
//! first snapshot). Everything at or before `base` is committed, so it agrees with every leader's
//! log.

use std::collections::VecDeque;

use super::types::{Entry, EntryId, Index, Payload, SnapshotId, Stamp, Term};

/// The entries after `base`, with their sizes summed up so that byte bounds cost nothing to ask.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Log {
    /// The last entry before the ones held here, and its stamp.
    base: SnapshotId,
    entries: VecDeque<Entry>,
    /// `bytes_through[i]`: bytes of all entries ever appended up to and including `entries[i]`.
    bytes_through: VecDeque<u64>,
    /// The same up to and including `base`.
    bytes_through_base: u64,
}

impl Log {
    /// A log of these consecutive entries after `base`.
    pub fn new(base: SnapshotId, entries: Vec<Entry>) -> Log {
        let mut log = Log {
            base,
            entries: VecDeque::with_capacity(entries.len()),
            bytes_through: VecDeque::with_capacity(entries.len()),
            bytes_through_base: 0,
        };
        for entry in entries {
            log.append(entry);
        }
        log
    }

    /// The last entry before those held here.
    pub fn base(&self) -> EntryId {
        self.base.last
    }

    /// The id of the last entry, or `base` if there is none.
    pub fn last(&self) -> EntryId {
        self.entries.back().map_or(self.base.last, |entry| entry.id)
    }

    /// The stamp of the last entry, or of `base` if there is none.
    pub fn last_stamp(&self) -> Stamp {
        self.entries.back().map_or(self.base.stamp, |entry| entry.stamp)
    }

    /// The index of the last entry.
    pub fn last_index(&self) -> Index {
        self.last().index
    }

    /// The term of the entry at `index`; `None` if it is beyond the end or before `base`.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base().index {
            return Some(self.base().term);
        }
        self.entry_at(index).map(|entry| entry.id.term)
    }

    /// Whether the log agrees with a leader's log on `id` and so on everything before it.
    pub fn contains(&self, id: EntryId) -> bool {
        id.index < self.base().index || self.term_at(id.index) == Some(id.term)
    }

    /// The id of the entry at `index`, which must be at or after `base` and not beyond the end.
    pub fn id_at(&self, index: Index) -> EntryId {
        EntryId::new(self.term_at(index).expect("the index is within the log"), index)
    }

    /// Adds an entry that follows the last one.
    pub fn append(&mut self, entry: Entry) {
        let last = self.last();
        assert_eq!(entry.id.index, last.index.next(), "log entries are consecutive");
        assert!(entry.id.term >= last.term, "terms never fall along the log");
        let bytes = self.bytes_through(last.index) + entry.bytes() as u64;
        self.entries.push_back(entry);
        self.bytes_through.push_back(bytes);
    }

    /// Removes the entry at `from` and all after it. Requires that `from` is after `base`.
    pub fn truncate(&mut self, from: Index) {
        assert!(from > self.base().index, "entries covered by a snapshot are committed");
        let keep = self.offset(from);
        self.entries.truncate(keep);
        self.bytes_through.truncate(keep);
    }

    /// Forgets the entries up to and including the one at `to`, which a snapshot covers. Requires
    /// that it is in the log.
    pub fn compact(&mut self, to: Index) {
        assert!(to <= self.last_index(), "only what is there is forgotten");
        if to <= self.base().index {
            return;
        }
        let base = self.snapshot_id_at(to);
        self.bytes_through_base = self.bytes_through(to);
        let forgotten = self.offset(to) + 1;
        self.entries.drain(..forgotten);
        self.bytes_through.drain(..forgotten);
        self.base = base;
    }

    /// What a snapshot that ends at `index` stands for. `index` must be at or after `base` and not
    /// beyond the end.
    pub fn snapshot_id_at(&self, index: Index) -> SnapshotId {
        if index == self.base().index {
            return self.base;
        }
        let entry = self.entry_at(index).expect("the index is within the log");
        SnapshotId { last: entry.id, stamp: entry.stamp }
    }

    /// The last index, at or before `end`, behind which up to and including `end` there are at
    /// least `bytes` bytes of entries; `base` if there are not so many.
    pub fn index_before(&self, end: Index, bytes: u64) -> Index {
        let through_end = self.bytes_through(end);
        let within = self.offset(end.next()).min(self.bytes_through.len());
        // Sums only rise, so those that are far enough come first.
        let far_enough = |through: &u64| through_end.saturating_sub(*through) >= bytes;
        let count = self.bytes_through.partition_point(far_enough).min(within);
        self.base().index.plus(count as u64)
    }

    /// Entries from `from` on, as many as fit into `bytes_max`; at least one if there is one, so
    /// that an entry of any size can pass. Requires that `from` is after `base`.
    pub fn slice(&self, from: Index, bytes_max: usize) -> Vec<Entry> {
        self.slice_up_to(from, self.last_index(), bytes_max)
    }

    /// As `slice`, but with no entry after `to`.
    pub fn slice_up_to(&self, from: Index, to: Index, bytes_max: usize) -> Vec<Entry> {
        assert!(
            from > self.base().index,
            "entries covered by a snapshot cannot be read from the log"
        );
        assert!(to <= self.last_index(), "the slice ends within the log");
        if from > to {
            return Vec::new();
        }
        let before = self.bytes_through(from.previous());
        let (first, end) = (self.offset(from), self.offset(to) + 1);
        let fits = |&&bytes: &&u64| bytes - before <= bytes_max as u64;
        let count = self.bytes_through.range(first..end).take_while(fits).count().max(1);
        self.entries.range(first..first + count).cloned().collect()
    }

    /// Bytes of the entries after `after` up to and including `to`.
    pub fn bytes_between(&self, after: Index, to: Index) -> u64 {
        self.bytes_through(to).saturating_sub(self.bytes_through(after))
    }

    /// Bytes of the entry at `index`.
    pub fn bytes_at(&self, index: Index) -> usize {
        self.entry_at(index).expect("the index is within the log").bytes()
    }

    /// What the entry at `index` carries. Requires that it is in the log.
    pub fn payload_at(&self, index: Index) -> &Payload {
        &self.entry_at(index).expect("the index is within the log").payload
    }

    /// The last entry at or before `id.index` whose term is not above `id.term`.
    ///
    /// Both sides use it for fast backing up (§5.3). If a follower does not contain the leader's
    /// `prev`, their logs can agree at most up to the follower's answer to this question about
    /// `prev`, and then at most up to the leader's answer about that: each round trip skips a whole
    /// term on both sides.
    pub fn last_not_after(&self, id: EntryId) -> EntryId {
        let within = if id.index <= self.base().index {
            0
        } else {
            (self.offset(id.index) + 1).min(self.entries.len())
        };
        // Terms never fall, so those not above `id.term` come first.
        let count = self.entries.partition_point(|entry| entry.id.term <= id.term).min(within);
        if count == 0 { self.base() } else { self.entries[count - 1].id }
    }

    fn entry_at(&self, index: Index) -> Option<&Entry> {
        if index <= self.base().index { None } else { self.entries.get(self.offset(index)) }
    }

    fn bytes_through(&self, index: Index) -> u64 {
        if index <= self.base().index {
            return self.bytes_through_base;
        }
        self.bytes_through[self.offset(index)]
    }

    /// Where the entry at `index` is or would be in `entries`. Requires that it is after `base`.
    fn offset(&self, index: Index) -> usize {
        let offset = index.0 - self.base().index.0 - 1;
        usize::try_from(offset).expect("a log in memory is shorter than the address space")
    }
}
