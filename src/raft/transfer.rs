//! Handing leadership over (diss. §3.10): before a leader is stopped, or when another server would
//! do better.
//!
//! The leader takes no more proposals, so that its successor can catch up, and when that one has
//! all of its log tells it to stand for election at once (`TimeoutNow`). The others would withhold
//! their votes, as they still hear the leader; so the successor asks with `TransferVote`, which
//! says that this leader wants it.
//!
//! It is only an election, with all of its rules: if the successor dies, or the message is lost,
//! nothing has happened. The leader then leads on and takes proposals again.

use super::event::Event;
use super::message::TimeoutNow;
use super::types::ServerId;
use super::{Raft, Refused, Role};
use crate::lab::{Rule, removed};

/// A handing over that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Handover {
    /// Who is to lead.
    successor: ServerId,
    /// Ticks since it began.
    elapsed_ticks: u32,
    /// It is to be told to stand as soon as it has the whole log; again with each heartbeat.
    due: bool,
}

impl Raft {
    /// Begins to hand leadership over to this follower, or to the one that has most of the log. It
    /// is done when we are leader no more, and given up after an election timeout.
    pub fn transfer_leadership(&mut self, to: Option<ServerId>) -> Result<ServerId, Refused> {
        let hint = self.leader();
        let heard_within = self.options.election_min_ticks;
        let Role::Leader(leader) = &mut self.role else {
            return Err(Refused::NotLeader { hint });
        };
        let ready = leader.progress.iter().filter(|(peer, progress)| {
            to.is_none_or(|to| to == **peer) && progress.heard_ago_ticks <= heard_within
        });
        let furthest = ready.max_by_key(|(_, progress)| progress.match_index);
        let Some((&successor, _)) = furthest else { return Err(Refused::NobodyIsReady) };
        leader.handover = Some(Handover { successor, elapsed_ticks: 0, due: true });
        self.record(Event::HandsOver { successor });
        Ok(successor)
    }

    /// Whether leadership is being handed over.
    pub fn is_handing_over(&self) -> bool {
        matches!(&self.role, Role::Leader(leader) if leader.handover.is_some())
    }

    pub(super) fn tick_handover(&mut self, heartbeat: bool) {
        let election_max_ticks = self.options.election_max_ticks;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(handover) = &mut leader.handover else { return };
        handover.elapsed_ticks += 1;
        handover.due |= heartbeat;
        if handover.elapsed_ticks > election_max_ticks && !removed(Rule::HandoverEnds) {
            let successor = handover.successor;
            leader.handover = None;
            self.record(Event::HandoverFailed { successor });
        }
    }

    pub(super) fn has_timeout_now(&self, to: ServerId) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let has_all = |to| leader.progress[&to].match_index == self.log.last_index();
        let Some(handover) = &leader.handover else { return false };
        handover.successor == to && handover.due && has_all(to)
    }

    pub(super) fn take_timeout_now(&mut self, to: ServerId) -> Option<TimeoutNow> {
        if !self.has_timeout_now(to) {
            return None;
        }
        let Role::Leader(leader) = &mut self.role else { return None };
        leader.handover.as_mut()?.due = false;
        Some(TimeoutNow { term: self.current_term })
    }

    /// Our leader wants us to lead: no pre-vote, no waiting.
    pub(super) fn handle_timeout_now(&mut self, from: ServerId, request: &TimeoutNow) {
        assert_eq!(request.term, self.current_term, "step runs the term rules first");
        // Only the leader that we follow may say so; a candidate is one already.
        if matches!(&self.role, Role::Follower(follower) if follower.leader == Some(from)) {
            self.become_candidate(true);
        }
    }
}
