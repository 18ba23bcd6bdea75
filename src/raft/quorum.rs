//! Who votes, and all counting. Nothing else in the core knows what a majority is.
//!
//! Two majorities of one membership share a server: every safety argument of the paper rests on
//! that. Membership is fixed by cluster.toml for now; joint configurations (§6) fit in here,
//! because callers only ever ask "does a majority …?" and "what does a majority have at least?".

use std::collections::BTreeSet;

use super::types::{Index, ServerId};

/// The voting members of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Membership {
    voters: BTreeSet<ServerId>,
}

impl Membership {
    /// The membership of these voters. Requires at least one.
    pub fn new(voters: impl IntoIterator<Item = ServerId>) -> Membership {
        let voters: BTreeSet<ServerId> = voters.into_iter().collect();
        assert!(!voters.is_empty(), "a cluster has at least one voter");
        Membership { voters }
    }

    /// Whether `server` is a member.
    pub fn contains(&self, server: ServerId) -> bool {
        self.voters.contains(&server)
    }

    /// All members, in the order of their ids.
    pub fn servers(&self) -> impl Iterator<Item = ServerId> + '_ {
        self.voters.iter().copied()
    }

    /// All members but `server`.
    pub fn peers_of(&self, server: ServerId) -> impl Iterator<Item = ServerId> + '_ {
        self.servers().filter(move |&other| other != server)
    }

    /// Whether more than half of the voters satisfy `holds`.
    pub fn has_majority(&self, holds: impl Fn(ServerId) -> bool) -> bool {
        let count = self.servers().filter(|&server| holds(server)).count();
        count >= self.majority()
    }

    /// The highest value that a majority of the voters have at least, if `value` tells what each
    /// has.
    ///
    /// With three servers at 7, 5 and 3 it is 5: two of them, a majority, have 5 or more.
    pub fn majority_value<T: Ord + Copy>(&self, value: impl Fn(ServerId) -> T) -> T {
        let mut values: Vec<T> = self.servers().map(value).collect();
        values.sort_unstable();
        values[values.len() - self.majority()]
    }

    /// The highest index that is on a majority, if `match_index` tells how far each server's disk
    /// agrees with the leader's log [L4].
    pub fn committed_index(&self, match_index: impl Fn(ServerId) -> Index) -> Index {
        self.majority_value(match_index)
    }

    fn majority(&self) -> usize {
        self.voters.len() / 2 + 1
    }
}
