//! The requests of one connection that are accepted and not answered.
//!
//! They come in the order of their slots and are mostly answered in that order, so a queue that is
//! searched by halves holds them: a tree would allocate a node for each client that asks one thing
//! at a time.

use std::collections::VecDeque;

use super::Slot;

/// In the order of their slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outstanding(VecDeque<Accepted>);

/// A request that is accepted and not answered. Of one with a higher slot the deadline is no
/// sooner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Accepted {
    pub(super) slot: Slot,
    /// The tick when it came.
    pub(super) accepted_at: u64,
    /// Its weight.
    pub(super) bytes: usize,
    pub(super) stage: Stage,
}

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// In the connection's queue.
    Queued,
    /// A write with this serial.
    Write(u64),
    /// A read.
    Read,
}

impl Outstanding {
    pub(super) fn push(&mut self, accepted: Accepted) {
        let rises = self.0.back().is_none_or(|last| last.slot < accepted.slot);
        assert!(rises, "a client's slots rise");
        self.0.push_back(accepted);
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Accepted> {
        self.position(slot).map(|at| &self.0[at])
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Accepted> {
        self.position(slot).map(|at| &mut self.0[at])
    }

    pub(super) fn contains(&self, slot: Slot) -> bool {
        self.position(slot).is_some()
    }

    pub(super) fn remove(&mut self, slot: Slot) -> Option<Accepted> {
        self.position(slot).and_then(|at| self.0.remove(at))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Accepted> {
        self.0.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn position(&self, slot: Slot) -> Option<usize> {
        self.0.binary_search_by_key(&slot, |accepted| accepted.slot).ok()
    }
}
