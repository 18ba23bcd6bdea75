//! Whom a candidate still has to ask for a vote or a pre-vote.

use std::collections::BTreeSet;

use super::types::ServerId;

/// Whom to ask. Unanswered requests are repeated with each heartbeat interval.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Canvass {
    /// Peers whose answer is missing.
    unanswered: BTreeSet<ServerId>,
    /// Of these, the ones to be sent a request now.
    due: BTreeSet<ServerId>,
    /// Ticks since all unanswered ones were last due.
    ticks: u32,
}

impl Canvass {
    pub(super) fn new(peers: BTreeSet<ServerId>) -> Canvass {
        Canvass { due: peers.clone(), unanswered: peers, ticks: 0 }
    }

    pub(super) fn tick(&mut self, heartbeat_ticks: u32) {
        self.ticks += 1;
        if self.ticks >= heartbeat_ticks {
            self.ticks = 0;
            self.due = self.unanswered.clone();
        }
    }

    pub(super) fn answered(&mut self, peer: ServerId) {
        self.unanswered.remove(&peer);
        self.due.remove(&peer);
    }

    pub(super) fn ask_again(&mut self, peer: ServerId) {
        if self.unanswered.contains(&peer) {
            self.due.insert(peer);
        }
    }

    pub(super) fn is_due(&self, peer: ServerId) -> bool {
        self.due.contains(&peer)
    }

    /// A request to this peer has been taken.
    pub(super) fn asked(&mut self, peer: ServerId) {
        self.due.remove(&peer);
    }

    /// Somebody whose answer is missing.
    pub(super) fn first_unanswered(&self) -> Option<&ServerId> {
        self.unanswered.first()
    }
}
