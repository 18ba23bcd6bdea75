//! When keys that do not exist were last written or deleted.
//!
//! WATCH saw that a key did not exist. Until EXEC somebody may have created it *and* deleted it
//! again; the transaction must not be executed then, but nothing is left of the key to tell. So a
//! key that goes leaves a tombstone: the log index of the last entry that wrote or deleted it.
//!
//! Tombstones are kept for a bounded span of the log and up to a bounded number. What has been
//! forgotten raises the *horizon*: of a key without a tombstone we know that it was left alone in
//! every entry after the horizon, and nothing about those before. A WATCH that looked before the
//! horizon may have missed something, and its EXEC must not take place.
//!
//! A key that exists needs no tombstone: its version tells.

use imbl::{OrdMap, OrdSet};

use super::digest::{Digest, Kind, Sum};
use super::key::{Key, Name};
use super::snapshot::{Checked, Octets, Record, ensure};
use crate::lab::{Rule, removed};
use crate::limits::{TOMBSTONE_SPAN_ENTRIES, TOMBSTONES_FORGOTTEN_PER_ENTRY_MAX, TOMBSTONES_MAX};

/// The tombstones, and how far back they reach.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Tombstones {
    /// The last index at which each was written or deleted.
    by_key: OrdMap<Key, u64>,
    /// The same, the oldest first.
    by_index: OrdSet<(u64, Name)>,
    /// The highest index of a tombstone that has been forgotten. Only rises.
    horizon: u64,
    /// Of the hashes of all tombstones.
    sum: Sum,
}

/// The hash of one tombstone.
fn hash(key: &[u8], index: u64) -> u64 {
    Digest::of(Kind::Tombstone).bytes(key).number(index).value()
}

impl Tombstones {
    /// A key has gone that was last written or deleted at `index`.
    pub(super) fn record(&mut self, key: Key, index: u64) {
        self.forget(&Key::new(key.name()));
        if index <= self.horizon || removed(Rule::DeletionLeavesATombstone) {
            return; // the horizon says as much
        }
        self.sum.add(hash(key.name(), index));
        self.by_index.insert((index, Name::clone(key.name())));
        self.by_key.insert(key, index);
        while self.by_key.len() > TOMBSTONES_MAX {
            self.forget_oldest();
        }
    }

    /// A key exists again.
    pub(super) fn forget(&mut self, key: &Key<&[u8]>) {
        if let Some((key, index)) = self.by_key.remove_with_key(key) {
            self.sum.subtract(hash(key.name(), index));
            self.by_index.remove(&(index, Name::clone(key.name())));
        }
    }

    /// Forgets some of what is older than the span, now that the log has come to `index`: a few per
    /// entry, so that no entry takes long.
    pub(super) fn forget_old(&mut self, index: u64) {
        for _ in 0..TOMBSTONES_FORGOTTEN_PER_ENTRY_MAX {
            match self.by_index.get_min() {
                Some((oldest, _)) if oldest + TOMBSTONE_SPAN_ENTRIES < index => {
                    self.forget_oldest();
                }
                _ => return,
            }
        }
    }

    /// The index of the last entry that wrote or deleted this key, which does not exist. A key that
    /// has left no tombstone may have been touched as late as at the horizon, but no later.
    pub(super) fn last_touched(&self, key: &Key<&[u8]>) -> u64 {
        self.by_key.get(key).copied().unwrap_or(self.horizon)
    }

    pub(super) fn hash(&self) -> u64 {
        let digest = Digest::of(Kind::Table).number(self.horizon).number(self.sum.value());
        digest.number(self.by_key.len() as u64).value()
    }

    /// The highest index of a tombstone that has been forgotten.
    pub(super) fn horizon(&self) -> u64 {
        self.horizon
    }

    /// All of them, for a snapshot.
    pub(super) fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let tombstones = self.by_key.iter();
        tombstones.map(|(key, index)| Record::Tombstone { key: Octets(key.name()), index: *index })
    }

    /// The keys that have one, in order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.by_key.keys().map(|key| &key.name()[..])
    }

    /// No tombstones, but a horizon, to be [loaded](Self::load).
    pub(super) fn with_horizon(horizon: u64) -> Tombstones {
        Tombstones { horizon, ..Tombstones::default() }
    }

    /// Takes the next tombstone of a snapshot.
    pub(super) fn load(&mut self, key: &[u8], index: u64) -> Checked {
        let last = self.by_key.get_max();
        ensure(last.is_none_or(|(last, _)| last.name()[..] < *key), "tombstones are not in order")?;
        ensure(index > self.horizon, "a tombstone lies behind the horizon")?;
        ensure(self.by_key.len() < TOMBSTONES_MAX, "there are more tombstones than are kept")?;
        let name = Name::from(key);
        self.sum.add(hash(key, index));
        self.by_index.insert((index, Name::clone(&name)));
        self.by_key.insert(Key::new(name), index);
        Ok(())
    }

    /// Computes the sum afresh.
    pub(super) fn sum_up(&mut self) {
        self.sum = self.by_key.iter().map(|(key, index)| hash(key.name(), *index)).collect();
    }

    fn forget_oldest(&mut self) {
        if let Some((index, name)) = self.by_index.remove_min() {
            self.sum.subtract(hash(&name, index));
            self.by_key.remove(&Key::new(&name[..]));
            self.horizon = self.horizon.max(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Key {
        Key::new(Name::from(number.to_string().as_bytes()))
    }

    fn last_touched(tombstones: &Tombstones, key: &Key) -> u64 {
        tombstones.last_touched(&Key::new(key.name()))
    }

    /// The sum that is kept is the one that would be computed.
    fn check_sum(tombstones: &Tombstones) {
        let mut summed_up = tombstones.clone();
        summed_up.sum_up();
        assert_eq!(tombstones.sum, summed_up.sum);
    }

    /// What has been forgotten must count as touched: better one EXEC too few.
    #[test]
    fn what_is_forgotten_raises_the_horizon() {
        let mut tombstones = Tombstones::default();
        for number in 1..=TOMBSTONES_MAX {
            tombstones.record(key(number), number as u64);
        }
        assert_eq!(last_touched(&tombstones, &key(0)), 0);
        assert_eq!(last_touched(&tombstones, &key(1)), 1);
        tombstones.record(key(0), TOMBSTONES_MAX as u64 + 1);
        assert_eq!(tombstones.by_key.len(), TOMBSTONES_MAX);
        assert_eq!(last_touched(&tombstones, &key(1)), 1, "from the horizon now");
        assert_eq!(tombstones.last_touched(&Key::new(b"never seen")), 1);
        assert_eq!(last_touched(&tombstones, &key(2)), 2);

        tombstones.forget(&Key::new(key(2).name()));
        assert_eq!(last_touched(&tombstones, &key(2)), 1, "it exists, so nobody asks");
        check_sum(&tombstones);
    }

    /// Old tombstones go a few per entry, and not before their time.
    #[test]
    fn tombstones_outlive_a_span_of_the_log() {
        let mut tombstones = Tombstones::default();
        let many = TOMBSTONES_FORGOTTEN_PER_ENTRY_MAX + 1;
        for number in 0..many {
            tombstones.record(key(number), 7);
        }
        tombstones.forget_old(7 + TOMBSTONE_SPAN_ENTRIES);
        assert_eq!(tombstones.by_key.len(), many);
        tombstones.forget_old(8 + TOMBSTONE_SPAN_ENTRIES);
        assert_eq!((tombstones.by_key.len(), tombstones.horizon), (1, 7));
        check_sum(&tombstones);
        tombstones.forget_old(9 + TOMBSTONE_SPAN_ENTRIES);
        assert_eq!((tombstones.by_key.len(), tombstones.by_index.len()), (0, 0));
        tombstones.record(key(1), 7);
        assert!(tombstones.by_key.is_empty(), "the horizon says as much");
    }
}
