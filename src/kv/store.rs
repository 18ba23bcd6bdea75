//! The keys and values, and the orders in which they are looked for.
//!
//! By key, for GET and RANGE (`table`); by deadline, for what has expired; by position, for SCAN.
//! This file keeps the three in step, and the tombstones with them: everything else changes the
//! store through `put`, `change`, `set_deadline`, `remove` and `clear`.
//!
//! The maps are persistent: a clone shares them with its original until one of them changes, and
//! then only the path to the change is copied. So a long question, or a snapshot, takes a clone
//! in no time and reads it at leisure while the store goes on.
//!
//! **Log time.** A key has expired when its deadline is at or before `clock_ms`, the highest stamp
//! applied. From that entry on it is absent for every command and question, though it may still lie
//! in the maps: it is *overdue*. Overdue keys are taken out a few per entry, so that a million keys
//! with one deadline do not stop the server.

mod loading;
mod rows;
mod table;

use imbl::OrdSet;

use super::bytes::Bytes;
use super::digest::{Digest, Kind, Sum};
use super::key::{Key, Name};
use super::outcome::Change;
use super::scan;
use super::snapshot::{Octets, Record};
use super::tombstones::Tombstones;
use crate::lab::{Rule, removed};

pub(super) use loading::Loading;
use table::Table;

/// All keys with their values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Store {
    /// Every key with its value. Overdue ones are still in it.
    values: Table,
    /// Every deadline with its key.
    deadlines: OrdSet<(u64, Name)>,
    /// Every key with its position in the order of SCAN.
    positions: OrdSet<(u64, Name)>,
    /// How many keys are overdue.
    overdue: usize,
    /// Of the hashes of all keys with their values.
    sum: Sum,
    /// What is known of keys that do not exist.
    tombstones: Tombstones,
    /// The highest stamp applied, in milliseconds.
    clock_ms: u64,
}

/// A value, and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Versioned {
    /// The value.
    pub value: Bytes,
    /// The log index of the last entry that wrote the value or its deadline: the same on every
    /// server.
    pub version: u64,
    /// When the key expires, in milliseconds of log time; `None`: never.
    pub deadline_ms: Option<u64>,
    /// The hash of all this under its key. Kept, because whoever replaces a value needs its hash,
    /// and to compute it again would mean to fetch from memory a value that nobody wants any more.
    pub(super) hash: u64,
}

impl Versioned {
    /// A value under a key, with its hash.
    pub(super) fn new(
        key: &[u8],
        value: Bytes,
        version: u64,
        deadline_ms: Option<u64>,
    ) -> Versioned {
        let hash = pair_hash(key, &value, version, deadline_ms);
        Versioned { value, version, deadline_ms, hash }
    }

    /// The hash, computed afresh from every byte.
    fn computed_hash(&self, key: &[u8]) -> u64 {
        pair_hash(key, &self.value, self.version, self.deadline_ms)
    }
}

/// The hash of a key with its value.
pub(super) fn pair_hash(key: &[u8], value: &[u8], version: u64, deadline_ms: Option<u64>) -> u64 {
    let digest = Digest::of(Kind::Pair).bytes(key).bytes(value);
    // No deadline is that late.
    digest.number(version).number(deadline_ms.unwrap_or(u64::MAX)).value()
}

/// The entry that is being applied.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    /// Its log index.
    pub(super) index: u64,
    /// Where its changes are told.
    pub(super) changes: &'a mut Vec<Change>,
    /// In a transaction: the keys that it has changed so far, to be told at its end.
    pub(super) untold: Option<Vec<Bytes>>,
}

impl Entry<'_> {
    /// A key has another value now, or none.
    fn changed(&mut self, key: Bytes, value: Option<Bytes>) {
        match &mut self.untold {
            Some(untold) => untold.push(key),
            None => self.changes.push(Change { index: self.index, key, value }),
        }
    }
}

impl Store {
    /// The value of a key that exists.
    pub fn get(&self, key: &[u8]) -> Option<&Versioned> {
        self.values.get(&Key::new(key)).filter(|found| !self.is_overdue(found))
    }

    /// See [`StateMachine::fetch_to_get`](super::StateMachine::fetch_to_get).
    pub(super) fn fetch_to_get(&self, keys: &[&[u8]]) {
        self.values.fetch_to_get(keys);
    }

    /// See [`StateMachine::fetch_to_set`](super::StateMachine::fetch_to_set).
    pub(super) fn fetch_to_set(&self, keys: &[&[u8]]) {
        self.values.fetch_to_set(keys);
    }

    /// How many keys exist.
    pub fn len(&self) -> usize {
        self.values.len() - self.overdue
    }

    /// Whether no key exists.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The keys from `from` on, in order, with their values: `None` for those that are overdue, so
    /// that whoever bounds his work can count them.
    pub fn iter_from(&self, from: &[u8]) -> impl Iterator<Item = (&[u8], Option<&Versioned>)> {
        self.values.iter_from(Key::new(from)).map(|(key, found)| {
            (&key.name()[..], Some(found).filter(|found| !self.is_overdue(found)))
        })
    }

    /// The keys from a position of SCAN's order on, as `iter_from`.
    pub(super) fn scan_from(&self, position: u64) -> impl Iterator<Item = (u64, &[u8], bool)> {
        let range = self.positions.range((position, Name::default())..);
        range.map(|(position, name)| (*position, &name[..], self.get(name).is_some()))
    }

    /// The index of the last entry that wrote or deleted this key, or its deadline, or could have
    /// done so. That a key expires is no entry's doing and does not count.
    pub(super) fn last_touched(&self, key: &[u8]) -> u64 {
        let key = Key::new(key);
        match self.values.get(&key) {
            Some(found) => found.version,
            None => self.tombstones.last_touched(&key),
        }
    }

    /// The log time, in milliseconds.
    pub fn clock_ms(&self) -> u64 {
        self.clock_ms
    }

    /// The earliest deadline of the keys that are kept, in milliseconds; also of overdue ones.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.deadlines.get_min().map(|(deadline_ms, _)| *deadline_ms)
    }

    /// The log has come to this entry: time moves, and some of what is overdue or old is removed.
    pub(super) fn advance(&mut self, entry: &mut Entry<'_>, stamp_ms: u64, removed_max: usize) {
        if stamp_ms > self.clock_ms {
            let since = (self.clock_ms + 1, Name::default());
            let due = self.deadlines.range(since..).take_while(|(at_ms, _)| *at_ms <= stamp_ms);
            self.overdue += due.count();
            self.clock_ms = stamp_ms;
        }
        for _ in 0..self.overdue.min(removed_max) {
            let (_, name) = self.deadlines.get_min().expect("an overdue key has a deadline");
            let name = Name::clone(name);
            let (key, found) =
                self.take_out(&Key::new(&name)).expect("a deadline belongs to a key");
            self.tombstones.record(key, found.version);
            entry.changed(Name::clone(&name), None);
        }
        self.tombstones.forget_old(entry.index);
    }

    /// Gives a key a value, and a deadline in the future or none.
    pub(super) fn put(
        &mut self,
        entry: &mut Entry<'_>,
        key: Bytes,
        value: Bytes,
        deadline_ms: Option<u64>,
    ) {
        let new = Versioned::new(&key, value.clone(), entry.index, deadline_ms);
        let sought = Key::new(&key[..]);
        // The key that is there stays: the other orders share its memory.
        if let Some((name, found)) = self.values.get_mut(&sought) {
            self.sum.add(new.hash);
            let old = std::mem::replace(found, new);
            self.sum.subtract(old.hash);
            let old_ms = old.deadline_ms;
            if old_ms != deadline_ms {
                let name = Name::clone(name);
                self.move_deadline(&name, old_ms, deadline_ms);
            }
        } else {
            self.tombstones.forget(&sought);
            let name = Name::from(&key[..]);
            self.move_deadline(&name, None, deadline_ms);
            self.positions.insert((scan::position(&key), Name::clone(&name)));
            self.sum.add(new.hash);
            self.values.insert(Key::new(name), new);
        }
        entry.changed(key, Some(value));
    }

    /// Changes the value of a key that exists, and nothing about its deadline.
    pub(super) fn change(
        &mut self,
        entry: &mut Entry<'_>,
        key: Bytes,
        change: impl FnOnce(&Bytes) -> Bytes,
    ) {
        let found = self.values.get_mut(&Key::new(&key[..]));
        let (_, found) = found.expect("only a key that exists is changed");
        self.sum.subtract(found.hash);
        found.value = change(&found.value);
        found.version = entry.index;
        found.hash = found.computed_hash(&key);
        self.sum.add(found.hash);
        entry.changed(key, Some(found.value.clone()));
    }

    /// Gives a key that exists another deadline, in the future, or none.
    pub(super) fn set_deadline(&mut self, entry: &Entry<'_>, key: &[u8], deadline_ms: Option<u64>) {
        let found = self.values.get_mut(&Key::new(key));
        let (name, found) = found.expect("only a key that exists gets a deadline");
        self.sum.subtract(found.hash);
        if !removed(Rule::DeadlineIsAChange) {
            found.version = entry.index;
        }
        let old_ms = std::mem::replace(&mut found.deadline_ms, deadline_ms);
        found.hash = found.computed_hash(key);
        self.sum.add(found.hash);
        let name = Name::clone(name);
        self.move_deadline(&name, old_ms, deadline_ms);
    }

    /// Deletes a key. One that does not exist is deleted as if it had been created just before.
    pub(super) fn remove(&mut self, entry: &mut Entry<'_>, key: &Bytes) -> Option<Versioned> {
        let taken = self.take_out(&Key::new(key));
        entry.changed(key.clone(), None);
        let (kept, found) = taken.unzip();
        let kept = kept.unwrap_or_else(|| Key::new(Name::from(&key[..])));
        self.tombstones.record(kept, entry.index);
        found
    }

    /// Deletes every key. Each one leaves a tombstone, as far as there is room for them: whoever
    /// watches a key that did not exist before has nothing to do with it.
    pub(super) fn clear(&mut self, entry: &mut Entry<'_>) {
        self.deadlines.clear();
        self.positions.clear();
        self.overdue = 0;
        self.sum = Sum::default();
        for (key, found) in std::mem::take(&mut self.values).iter() {
            let index = if self.is_overdue(found) { found.version } else { entry.index };
            entry.changed(Name::clone(key.name()), None);
            self.tombstones.record(key.clone(), index);
        }
    }

    /// The hash of all that makes a difference; the other orders follow from the values.
    pub(super) fn hash(&self) -> u64 {
        let digest = Digest::of(Kind::Table).number(self.clock_ms).number(self.sum.value());
        digest.number(self.values.len() as u64).number(self.tombstones.hash()).value()
    }

    /// What is known of keys that do not exist.
    pub(super) fn tombstones(&self) -> &Tombstones {
        &self.tombstones
    }

    /// All keys with their values, for a snapshot.
    pub(super) fn records(&self) -> impl Iterator<Item = Record<'_>> {
        self.values.iter_all().map(|(name, found)| Record::Pair {
            key: Octets(name),
            value: Octets(&found.value),
            version: found.version,
            deadline_ms: found.deadline_ms,
        })
    }

    /// The sum of the hashes of all keys with their values, computed afresh from every byte.
    pub(super) fn computed_sum(&self) -> Sum {
        self.values.rows().map(|(name, found)| found.computed_hash(name)).collect()
    }

    /// This is the sum of the keys' hashes; computes that of the tombstones afresh.
    pub(super) fn sum_up(&mut self, pairs: Sum) {
        self.sum = pairs;
        self.tombstones.sum_up();
    }

    /// See [`StateMachine::damage`](super::StateMachine::damage).
    #[cfg(test)]
    pub(super) fn damage(&mut self) {
        self.sum.add(1);
    }

    fn is_overdue(&self, found: &Versioned) -> bool {
        found.deadline_ms.is_some_and(|deadline_ms| deadline_ms <= self.clock_ms)
    }

    fn take_out(&mut self, sought: &Key<&[u8]>) -> Option<(Key, Versioned)> {
        let (key, found) = self.values.remove(sought)?;
        self.sum.subtract(found.hash);
        self.positions.remove(&(scan::position(key.name()), Name::clone(key.name())));
        self.move_deadline(key.name(), found.deadline_ms, None);
        Some((key, found))
    }

    fn move_deadline(&mut self, name: &Name, old_ms: Option<u64>, new_ms: Option<u64>) {
        if old_ms == new_ms {
            return;
        }
        if let Some(old_ms) = old_ms {
            self.deadlines.remove(&(old_ms, Name::clone(name)));
            self.overdue -= usize::from(old_ms <= self.clock_ms);
        }
        if let Some(new_ms) = new_ms {
            assert!(new_ms > self.clock_ms, "a key never gets a deadline in the past");
            self.deadlines.insert((new_ms, Name::clone(name)));
        }
    }

    /// Whether the orders agree. It looks at every key.
    #[cfg(test)]
    pub(super) fn check(&self) {
        self.values.check();
        let deadlines: OrdSet<_> = self
            .values
            .iter()
            .filter_map(|(key, found)| Some((found.deadline_ms?, Name::clone(key.name()))))
            .collect();
        let keys = self.values.iter().map(|(key, _)| key);
        let positions: OrdSet<_> =
            keys.map(|key| (scan::position(key.name()), Name::clone(key.name()))).collect();
        let overdue = self.values.iter().filter(|(_, found)| self.is_overdue(found)).count();
        assert_eq!(deadlines, self.deadlines);
        assert_eq!(positions, self.positions);
        assert_eq!(overdue, self.overdue);
    }
}
