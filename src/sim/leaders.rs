//! What leaders and those who hear them owe each other: rules that no log shows, because breaking
//! them costs time and not data.
//!
//! - A server that hears its leader grants no vote (diss. §4.2.3).
//! - A leader that no majority talks to steps down (check-quorum, diss. §6.2; S15).
//! - A leader whose disk hangs, while a majority is further without it, steps down (S16).

use super::checks::{Checked, ensure};
use super::queue::Place;
use crate::raft::message::Message;
use crate::raft::types::Term;
use crate::raft::{Options, Raft, Role};

/// What one server has heard of its peers, by the messages that were delivered to it.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    /// Ticks since each peer's last message.
    silent_ticks: [u32; 8],
    /// The term that this server led at its last tick.
    led: Option<Term>,
}

impl Heard {
    /// A message from this peer has arrived.
    pub(super) fn from(&mut self, peer: Place) {
        self.silent_ticks[usize::from(peer)] = 0;
    }

    /// The server has ticked.
    pub(super) fn tick(&mut self, raft: &Raft, place: Place, options: &Options) -> Checked {
        self.silent_ticks.iter_mut().for_each(|ticks| *ticks = ticks.saturating_add(1));
        let leads = raft.is_leader().then(|| raft.current_term());
        if leads != self.led {
            self.led = leads;
            self.silent_ticks = [0; 8]; // a new leader gives everybody the benefit of the doubt
        }
        if leads.is_none() {
            return Ok(());
        }
        let patience = options.election_max_ticks;
        let voters = raft.membership().servers().count();
        let near = self.silent_ticks.iter().take(voters).enumerate();
        let near = near.filter(|(peer, ticks)| *peer == usize::from(place) || **ticks <= patience);
        ensure(near.count() > voters / 2, "A leader hears a majority", || {
            format!("n{} leads, and these ticks ago heard {:?}", place + 1, self.silent_ticks)
        })?;
        self.check_disk(raft, patience)
    }

    fn check_disk(&self, raft: &Raft, patience: u32) -> Checked {
        let (age, durable) = (raft.durable().write_age_ticks(), raft.durable().index());
        if age <= patience {
            return Ok(());
        }
        let status = raft.status();
        let further = status.peers.iter().filter(|peer| peer.match_index > durable).count();
        ensure(further * 2 <= status.peers.len() + 1, "A hung disk does not lead", || {
            format!("its write is {age} ticks old, and {further} others are further: {status:?}")
        })
    }
}

/// Whether a message, arriving alone, must leave its receiver in its term: a pre-vote always (it
/// asks what would be), a request for its vote if it hears a leader or leads.
pub(super) fn must_refuse(raft: &Raft, messages: &[Message], options: &Options) -> bool {
    let asks = match messages {
        [Message::PreVote(_)] => return true,
        [Message::RequestVote(_)] => true,
        _ => false,
    };
    asks && match raft.role() {
        Role::Leader(_) => true,
        Role::Follower(follower) => {
            follower.heard_ago_ticks.is_some_and(|ticks| ticks < options.election_min_ticks)
        }
        Role::PreCandidate(_) | Role::Candidate(_) => false,
    }
}

/// After that message: the server is in the term it was in.
pub(super) fn check_refused(raft: &Raft, before: Term) -> Checked {
    ensure(raft.current_term() == before, "A leader that is heard is left alone", || {
        format!("{} left {before} for a candidate of {}", raft.id(), raft.current_term())
    })
}
