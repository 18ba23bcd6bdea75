//! Noticing that a server's state is not the others'.
//!
//! Equal logs make equal states: that is what everything else rests on. A bit that flips in memory,
//! or a command that one version executes otherwise than another, breaks it silently, and for ever:
//! the server goes on and answers from a state that nobody else has. So every server remembers the
//! hash of its state at some indexes, tells it to the others, and compares.
//!
//! Who differs from a *majority* stops. One against one proves nothing, so then both go on, and say
//! so; with three servers the one that is wrong is always found, even if it leads.
//!
//! It is a check, no part of the protocol: a hash that is lost is simply not compared.

use std::collections::BTreeMap;

use crate::raft::quorum::Membership;
use crate::raft::types::{Index, ServerId};

/// Indexes for which hashes are remembered: more than servers usually are apart.
const REMEMBERED_MAX: usize = 64;

/// The hash of the state machine's state at an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateHash {
    /// Where the state stood.
    pub index: Index,
    /// Its hash.
    pub hash: u64,
}

/// What a comparison has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// A majority agrees on another state than ours: ours is wrong.
    Ours {
        /// Where.
        at: StateHash,
        /// What the others have.
        theirs: u64,
    },
    /// This server has another state than we, and no majority says who is right.
    Theirs {
        /// Whose.
        server: ServerId,
        /// Where, and ours.
        at: StateHash,
        /// What it has.
        theirs: u64,
    },
}

/// The hashes that are known, and those to be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Divergence {
    /// By index and server; our own among them.
    known: BTreeMap<Index, BTreeMap<ServerId, u64>>,
    /// Our newest, which these servers have not been told.
    newest: Option<StateHash>,
    untold: Vec<ServerId>,
    /// Found and not yet taken.
    found: Option<Difference>,
}

impl Divergence {
    /// Our state has this hash.
    pub fn ours(&mut self, id: ServerId, state: StateHash, membership: &Membership) {
        self.newest = Some(state);
        self.untold = membership.peers_of(id).collect();
        self.learn(id, id, state, membership);
    }

    /// Another server's state has this hash.
    pub fn theirs(&mut self, id: ServerId, from: ServerId, state: StateHash, all: &Membership) {
        self.learn(id, from, state, all);
    }

    /// Whether `take_for` has something.
    pub fn has_for(&self, peer: ServerId) -> bool {
        self.untold.contains(&peer)
    }

    /// What this server is to be told: our newest.
    pub fn take_for(&mut self, peer: ServerId) -> Option<StateHash> {
        let at = self.untold.iter().position(|untold| *untold == peer)?;
        self.untold.swap_remove(at);
        self.newest
    }

    /// A difference that was found since the last call.
    pub fn take_found(&mut self) -> Option<Difference> {
        self.found.take()
    }

    /// Whether a difference was found and not taken.
    pub fn has_found(&self) -> bool {
        self.found.is_some()
    }

    fn learn(&mut self, id: ServerId, from: ServerId, state: StateHash, membership: &Membership) {
        let StateHash { index, hash } = state;
        self.known.entry(index).or_default().insert(from, hash);
        while self.known.len() > REMEMBERED_MAX {
            self.known.pop_first();
        }
        let Some(at_index) = self.known.get(&index) else { return };
        let Some(&ours) = at_index.get(&id) else { return };
        let Some((&server, &theirs)) = at_index.iter().find(|(_, hash)| **hash != ours) else {
            return;
        };
        let at = StateHash { index, hash: ours };
        let agree =
            |hash: u64| membership.has_majority(|server| at_index.get(&server) == Some(&hash));
        if let Some(theirs) = at_index.values().copied().find(|hash| *hash != ours && agree(*hash))
        {
            self.found = Some(Difference::Ours { at, theirs });
        } else if !agree(ours) && self.found.is_none() {
            self.found = Some(Difference::Theirs { server, at, theirs });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [ServerId; 3] = [ServerId(1), ServerId(2), ServerId(3)];

    fn state(index: u64, hash: u64) -> StateHash {
        StateHash { index: Index(index), hash }
    }

    /// The one that is wrong finds out, whichever of them leads, and the others go on.
    #[test]
    fn who_differs_from_a_majority_finds_out() {
        let all = Membership::new(ALL);
        let (mut right, mut wrong) = (Divergence::default(), Divergence::default());
        right.ours(ALL[0], state(256, 7), &all);
        right.theirs(ALL[0], ALL[1], state(256, 7), &all);
        right.theirs(ALL[0], ALL[2], state(256, 9), &all);
        assert_eq!(right.take_found(), None, "a majority agrees with us");
        wrong.theirs(ALL[2], ALL[0], state(256, 7), &all);
        wrong.theirs(ALL[2], ALL[1], state(256, 7), &all);
        assert_eq!(wrong.take_found(), None, "we have not come so far");
        wrong.ours(ALL[2], state(256, 9), &all);
        let found = wrong.take_found();
        assert_eq!(found, Some(Difference::Ours { at: state(256, 9), theirs: 7 }));
    }

    /// One against one: nobody knows who is right, and both say so.
    #[test]
    fn without_a_majority_nobody_is_wrong() {
        let all = Membership::new(ALL);
        let mut one = Divergence::default();
        one.ours(ALL[0], state(256, 7), &all);
        one.theirs(ALL[0], ALL[1], state(256, 9), &all);
        let found = one.take_found();
        let expected = Difference::Theirs { server: ALL[1], at: state(256, 7), theirs: 9 };
        assert_eq!(found, Some(expected));
        one.theirs(ALL[0], ALL[2], state(256, 9), &all);
        assert_eq!(one.take_found(), Some(Difference::Ours { at: state(256, 7), theirs: 9 }));
    }

    /// Everybody is told the newest, once; and old ones take no memory.
    #[test]
    fn the_newest_is_told_once() {
        let all = Membership::new(ALL);
        let mut one = Divergence::default();
        for number in 1..=1000 {
            one.ours(ALL[0], state(number, number), &all);
        }
        assert_eq!(one.known.len(), REMEMBERED_MAX);
        assert!(one.has_for(ALL[1]) && !one.has_for(ALL[0]));
        assert_eq!(one.take_for(ALL[1]), Some(state(1000, 1000)));
        assert_eq!(one.take_for(ALL[1]), None);
        assert!(one.has_for(ALL[2]));
    }
}
