//! Building a store from its keys in order, as a snapshot tells them.
//!
//! A server that starts waits for this, so it is made for speed. The values come in the order of
//! their order; the other two are gathered, sorted, and put in at the end. Putting a million
//! things into a tree in ascending order is quick, as the same few nodes are at hand all the time,
//! but it leaves each node half empty: it is split when it is full, and nothing comes to its left
//! half any more. [`Filler`] prevents that.
//!
//! Each value has memory of its own. To share one piece among the values of an item would save some
//! time here. But then a single value that stays, while its neighbours are overwritten, would hold
//! on to all 32 KiB, and a server would slowly come to need many times the memory of its data.

use std::collections::VecDeque;

use imbl::OrdSet;

use super::{Store, Table, Versioned};
use crate::kv::bytes::Bytes;
use crate::kv::digest::Sum;
use crate::kv::key::{Key, Name};
use crate::kv::scan;
use crate::kv::snapshot::{Checked, ensure};
use crate::kv::tombstones::Tombstones;

/// A store that is being built.
#[derive(Debug, Default)]
pub(in crate::kv) struct Loading {
    /// The index of the last entry applied.
    applied_index: u64,
    /// The log time, in milliseconds.
    clock_ms: u64,
    /// The values so far, but for those that the filler holds back.
    values: Table,
    /// Brings the values into an order that fills the tree of their keys.
    filler: Filler<(Key, Versioned)>,
    /// Of the hashes of all keys with their values.
    sum: Sum,
    /// The keys in their order, each with its position in the order of SCAN.
    positions: Vec<(u64, Name)>,
    /// The deadlines of those that have one.
    deadlines: Vec<(u64, Name)>,
    /// The tombstones so far.
    tombstones: Tombstones,
}

impl Loading {
    /// What a snapshot's head says.
    pub(in crate::kv) fn new(applied_index: u64, clock_ms: u64, horizon: u64) -> Loading {
        let tombstones = Tombstones::with_horizon(horizon);
        Loading { applied_index, clock_ms, tombstones, ..Loading::default() }
    }

    /// Takes the next key.
    pub(in crate::kv) fn pair(
        &mut self,
        key: &[u8],
        value: &[u8],
        version: u64,
        deadline_ms: Option<u64>,
    ) -> Checked {
        let last = self.positions.last();
        ensure(last.is_none_or(|(_, last)| last[..] < *key), "keys are not in order")?;
        ensure(self.is_past(version), "a value will be written only later")?;
        // Deadlines are told to clients as signed numbers; 0 is never in the future.
        let is_time = |at_ms: u64| at_ms > 0 && i64::try_from(at_ms).is_ok();
        ensure(deadline_ms.is_none_or(is_time), "a deadline is no time")?;

        let found = Versioned::new(key, Bytes::from(value), version, deadline_ms);
        self.sum.add(found.hash);
        let name = Name::from(key);
        self.positions.push((scan::position(key), Name::clone(&name)));
        if let Some(deadline_ms) = deadline_ms {
            self.deadlines.push((deadline_ms, Name::clone(&name)));
        }
        self.filler.push((Key::new(name), found), |(key, found)| {
            self.values.insert(key, found);
        });
        Ok(())
    }

    /// Takes the next tombstone.
    pub(in crate::kv) fn tombstone(&mut self, key: &[u8], index: u64) -> Checked {
        ensure(self.is_past(index), "a key will be deleted only later")?;
        self.tombstones.load(key, index)
    }

    /// The store, when all has come.
    pub(in crate::kv) fn finish(mut self) -> Result<Store, &'static str> {
        self.filler.finish(|(key, found)| {
            self.values.insert(key, found);
        });
        let mut keys = self.tombstones.keys();
        let is_gone = keys.all(|key| self.values.get(&Key::new(key)).is_none());
        ensure(is_gone, "a key that exists has a tombstone")?;
        drop(keys);

        self.deadlines.sort_unstable();
        let overdue = self.deadlines.partition_point(|(at_ms, _)| *at_ms <= self.clock_ms);
        Ok(Store {
            values: self.values,
            deadlines: filled(self.deadlines),
            positions: {
                self.positions.sort_unstable();
                filled(self.positions)
            },
            overdue,
            sum: self.sum,
            tombstones: self.tombstones,
            clock_ms: self.clock_ms,
        })
    }

    fn is_past(&self, index: u64) -> bool {
        (1..=self.applied_index).contains(&index)
    }
}

/// A set of things that are in order.
fn filled(sorted: Vec<(u64, Name)>) -> OrdSet<(u64, Name)> {
    let (mut set, mut filler) = (OrdSet::new(), Filler::default());
    let mut insert = |thing| {
        set.insert(thing);
    };
    sorted.into_iter().for_each(|thing| filler.push(thing, &mut insert));
    filler.finish(&mut insert);
    set
}

/// How far a node must be behind until nothing makes it split any more: a node has 16 places.
const NODE_PLACES: usize = 16;

/// Changes the order of ascending things a little, so that a tree gets full nodes: every other one
/// is held back until those that surround it lie in a node that has been split off, half empty, and
/// then takes a free place there. If the tree's nodes were of another size it would still be built
/// rightly.
#[derive(Debug)]
struct Filler<T> {
    /// Those held back, in order.
    waiting: VecDeque<T>,
    /// Whether the next one is held back.
    is_next_held: bool,
}

impl<T> Default for Filler<T> {
    fn default() -> Filler<T> {
        Filler { waiting: VecDeque::with_capacity(NODE_PLACES + 1), is_next_held: false }
    }
}

impl<T> Filler<T> {
    fn push(&mut self, thing: T, mut insert: impl FnMut(T)) {
        if self.is_next_held {
            self.waiting.push_back(thing);
        } else {
            insert(thing);
            if self.waiting.len() >= NODE_PLACES {
                self.waiting.pop_front().into_iter().for_each(insert);
            }
        }
        self.is_next_held = !self.is_next_held;
    }

    fn finish(self, insert: impl FnMut(T)) {
        self.waiting.into_iter().for_each(insert);
    }
}
