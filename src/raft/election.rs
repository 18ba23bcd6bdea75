//! Elections (§5.2, §5.4.1), pre-votes (diss. §9.6), and withheld votes (diss. §4.2.3).
//!
//! ```text
//!              times out               majority would vote           majority voted
//! Follower [F2] ───────▶ PreCandidate ─────────────────▶ Candidate ────────────────▶ Leader
//!     ▲                     │   ▲                          │  │ [C1]           [C2]    │
//!     │ hears a leader [C3] │   └──── times out [C4] ──────┘  │                        │
//!     └─────────────────────┴────────── higher term [ALL2] ───┴────────────────────────┘
//! ```
//!
//! A pre-vote costs nothing and promises nothing: no term moves, no vote is used up. Only when a
//! majority says it would vote does the candidate spend a term. So a server that was cut off for an
//! hour returns with the term it left with, and the healthy leader stays.

use std::collections::BTreeSet;

use super::canvass::Canvass;
use super::event::{Event, StepDownReason, VoteRefusal};
use super::message::{Message, PreVote, PreVoteReply, RequestVote, RequestVoteReply};
use super::quorum::Membership;
use super::random::Random;
use super::replication::Leader;
use super::types::{EntryId, Index, Payload, ServerId, Term};
use super::{Options, Raft, Role};
use crate::lab::{Rule, removed};

/// How often in a row a server may try again soon. Without a bound, two halves of a cluster that
/// cannot elect anybody would ask each other for ever at full speed.
pub const HURRIES_MAX: u8 = 8;

/// "Soon", in ticks: long enough that two servers rarely choose the same moment, short enough that
/// a killed leader is replaced within tens of milliseconds.
const HURRY_TICKS_MAX: u32 = 4;

/// What a follower knows of its leader.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Follower {
    /// The leader of the current term, once it has been heard.
    pub leader: Option<ServerId>,
    /// Ticks since it was heard; `None` if it never was, or its connection has ended since.
    pub heard_ago_ticks: Option<u32>,
}

/// Who would vote for us.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PreCandidate {
    granted: BTreeSet<ServerId>,
    canvass: Canvass,
    /// Somebody still hears a leader: the next try comes soon.
    hurried: bool,
}

/// Who has voted for us. Sets, not counts: a reply that is delivered twice is one vote.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Candidate {
    granted: BTreeSet<ServerId>,
    refused: BTreeSet<ServerId>,
    canvass: Canvass,
    /// The leader of the last term wants us to lead (diss. §3.10): its followers may vote for us.
    is_successor: bool,
}

impl PreCandidate {
    pub(super) fn ask_again(&mut self, peer: ServerId) {
        self.canvass.ask_again(peer);
    }
}

impl Candidate {
    pub(super) fn ask_again(&mut self, peer: ServerId) {
        self.canvass.ask_again(peer);
    }
}

/// Counts towards the next election. Everybody draws a different timeout, so that usually one
/// server times out first and wins before the others do (§5.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ElectionTimer {
    elapsed_ticks: u32,
    timeout_ticks: u32,
}

impl ElectionTimer {
    /// At the start. A server alone in its cluster has nobody to wait for.
    pub fn at_start(
        membership: &Membership,
        options: &Options,
        random: &mut Random,
    ) -> ElectionTimer {
        match membership.servers().count() {
            1 => ElectionTimer::hurry(random),
            _ => ElectionTimer::draw(options, random),
        }
    }

    /// Starts afresh with a new random timeout.
    pub fn draw(options: &Options, random: &mut Random) -> ElectionTimer {
        let timeout_ticks = random.between(options.election_min_ticks, options.election_max_ticks);
        ElectionTimer { elapsed_ticks: 0, timeout_ticks }
    }

    /// Starts afresh with a timeout of a few ticks.
    fn hurry(random: &mut Random) -> ElectionTimer {
        ElectionTimer { elapsed_ticks: 0, timeout_ticks: random.between(1, HURRY_TICKS_MAX) }
    }

    /// How many more ticks it takes.
    pub(super) fn ticks_left(&self) -> u32 {
        self.timeout_ticks.saturating_sub(self.elapsed_ticks)
    }

    fn tick(&mut self) -> bool {
        self.elapsed_ticks += 1;
        self.elapsed_ticks >= self.timeout_ticks
    }
}

impl Raft {
    /// Followers and candidates wait for the election timeout.
    ///
    /// The clock is reset only by this term's leader, by granting a vote, and by starting an
    /// election: never by a request that was refused, or a server with a hopeless log could keep
    /// the others from ever timing out.
    pub(super) fn tick_election(&mut self) {
        match &mut self.role {
            Role::Follower(follower) => {
                if let Some(ticks) = &mut follower.heard_ago_ticks {
                    *ticks = ticks.saturating_add(1);
                }
            }
            Role::PreCandidate(candidate) => candidate.canvass.tick(self.options.heartbeat_ticks),
            Role::Candidate(candidate) => {
                candidate.canvass.tick(self.options.heartbeat_ticks);
                // Nobody has been asked before our vote for ourselves is on disk: the clock waits
                // too.
                if !self.hard_state_is_durable() && !removed(Rule::CandidateClockWaits) {
                    return;
                }
            }
            Role::Leader(_) => unreachable!("leaders do not wait for an election"),
        }
        if self.timer.tick() {
            self.become_pre_candidate(); // [F2] [C4]
        }
    }

    /// Asks everybody whether an election could be won.
    fn become_pre_candidate(&mut self) {
        self.record(Event::BecamePreCandidate { term: self.current_term.next() });
        self.role = Role::PreCandidate(PreCandidate {
            granted: BTreeSet::from([self.id]),
            canvass: Canvass::new(self.membership.peers_of(self.id).collect()),
            hurried: false,
        });
        self.timer = ElectionTimer::draw(&self.options, &mut self.random);
        self.count_pre_votes();
    }

    /// [C1] Starts an election: next term, vote for ourselves, clock from the start. The requests
    /// leave once term and vote are on disk; see `has_vote_request`.
    pub(super) fn become_candidate(&mut self, is_successor: bool) {
        self.enter_term(self.current_term.next());
        self.voted_for = Some(self.id);
        self.record(Event::BecameCandidate { term: self.current_term, last: self.log.last() });
        self.role = Role::Candidate(Candidate {
            granted: BTreeSet::new(), // our own vote counts when it is on disk
            refused: BTreeSet::new(),
            canvass: Canvass::new(self.membership.peers_of(self.id).collect()),
            is_successor,
        });
        self.timer = ElectionTimer::draw(&self.options, &mut self.random);
    }

    /// [C2] Wins the election: from now on this term has one leader, us. The no-op is the entry of
    /// our own term through which earlier terms' entries commit (§5.4.2).
    fn become_leader(&mut self) {
        assert!(self.hard_state_is_durable(), "Election Safety: a leader's own vote is on disk");
        assert_eq!(self.voted_for, Some(self.id), "Election Safety: a leader voted for itself");
        let noop = EntryId::new(self.current_term, self.log.last_index().next());
        let peers = self.membership.peers_of(self.id);
        self.role = Role::Leader(Leader::new(peers, noop.index));
        if !removed(Rule::LeaderAppendsNoop) {
            self.append_own(Payload::Noop);
        }
        self.record(Event::BecameLeader { term: self.current_term, noop });
    }

    /// [ALL2] A higher term exists: whatever we were, we follow in that term.
    ///
    /// A server that was already waiting to start an election keeps its clock; a leader had none
    /// and starts one.
    pub(super) fn become_follower(&mut self, term: Term) {
        assert!(term > self.current_term, "terms only rise");
        self.fail_reads();
        let had_no_clock = self.is_leader();
        self.enter_term(term);
        self.record(Event::BecameFollower { term });
        self.role = Role::Follower(Follower::default());
        if had_no_clock && !removed(Rule::FormerLeaderStartsItsClock) {
            self.timer = ElectionTimer::draw(&self.options, &mut self.random);
        }
    }

    /// A leader gives up in its own term. Nobody else can lead this term, so we follow nobody.
    pub(super) fn step_down(&mut self, reason: StepDownReason) {
        assert!(self.is_leader(), "only a leader steps down");
        self.fail_reads();
        self.record(Event::SteppedDown { term: self.current_term, reason });
        self.role = Role::Follower(Follower::default());
        self.timer = ElectionTimer::draw(&self.options, &mut self.random);
    }

    /// [C3] This term has a leader and we follow it, whatever its log looks like beside ours.
    pub(super) fn follow(&mut self, leader: ServerId) {
        match &mut self.role {
            Role::Leader(_) => {
                panic!("Election Safety: {leader} and {} lead {}", self.id, self.current_term)
            }
            Role::Follower(Follower { leader: Some(known), heard_ago_ticks }) => {
                assert_eq!(*known, leader, "Election Safety: two leaders in {}", self.current_term);
                *heard_ago_ticks = Some(0);
            }
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                let heard_ago_ticks = Some(0);
                self.role = Role::Follower(Follower { leader: Some(leader), heard_ago_ticks });
                self.record(Event::FollowsLeader { term: self.current_term, leader });
            }
        }
        self.hurries_left = HURRIES_MAX;
        self.timer = ElectionTimer::draw(&self.options, &mut self.random);
    }

    /// The newest connection from `peer` is gone. If it was our leader, it is heard no more: we
    /// would vote now, and try ourselves in a moment. If it lives, it will be heard again before
    /// that costs anything.
    pub(super) fn lose_leader(&mut self, peer: ServerId) {
        if let Role::Follower(follower) = &mut self.role
            && follower.leader == Some(peer)
        {
            follower.heard_ago_ticks.take_if(|_| !removed(Rule::LostIsUnheard));
            self.record(Event::LostLeader { leader: peer });
            self.hurry();
        }
    }

    /// Would we vote for a candidate with this log in this term? It grants nothing.
    pub(super) fn handle_pre_vote(&mut self, from: ServerId, request: &PreVote) {
        let up_to_date = self.is_up_to_date(request.last);
        let granted = request.term > self.current_term && up_to_date && !self.hears_a_leader();
        // Only "I still hear a leader" is worth asking again soon; a log does not grow by asking.
        let leader_heard = up_to_date && self.hears_a_leader();
        let term = if granted { request.term } else { self.current_term };
        self.owed.entry(from).or_default().pre_vote =
            Some(PreVoteReply { term, granted, leader_heard });
    }

    /// `step` has adopted a refuser's higher term already; then we are no pre-candidate any more.
    pub(super) fn handle_pre_vote_reply(&mut self, from: ServerId, reply: &PreVoteReply) {
        let asked = self.current_term.next();
        let Role::PreCandidate(candidate) = &mut self.role else { return };
        if reply.granted {
            if reply.term == asked {
                candidate.canvass.answered(from);
                candidate.granted.insert(from);
                self.count_pre_votes();
            }
        } else if reply.term <= self.current_term {
            candidate.canvass.answered(from);
            if reply.leader_heard && !candidate.hurried {
                candidate.hurried = true; // once for all who refuse this time
                self.hurry();
            }
        }
    }

    /// RequestVote at the receiver (Figure 2). `step` has applied the term rules: [RV1] is done.
    pub(super) fn handle_request_vote(&mut self, from: ServerId, request: &RequestVote) {
        assert_eq!(request.term, self.current_term, "step runs the term rules first");
        // [RV2] One vote a term, first come first served, and only for a log at least as up-to-date
        // as ours (§5.4.1): then it holds everything that is committed, because a committed entry
        // is on a majority and this vote is part of another. A term that has a leader needs no
        // other.
        let up_to_date = self.is_up_to_date(request.last);
        let voted = self.voted_for.is_some() && !removed(Rule::OneVoteATerm);
        let refusal = if voted || self.leader().is_some() {
            Some(VoteRefusal::VotedForAnother)
        } else if !up_to_date {
            Some(VoteRefusal::LogBehind)
        } else {
            None
        };
        match refusal {
            _ if self.voted_for == Some(from) => {} // it asks again, and has our vote
            Some(reason) => {
                let term = self.current_term;
                self.record(Event::RefusedVote { term, candidate: from, reason });
            }
            None => self.vote_for(from),
        }
        self.owed.entry(from).or_default().vote = true;
    }

    /// "At least as up-to-date as ours" (§5.4.1): the order of ids is term first, then index.
    fn is_up_to_date(&self, last: EntryId) -> bool {
        last >= self.log.last()
            || removed(Rule::VoterHasNoMore)
            || (removed(Rule::TermBeforeLength) && last.index >= self.log.last_index())
    }

    /// Gives our vote. It is told when it is on disk.
    fn vote_for(&mut self, candidate: ServerId) {
        self.record(Event::Voted { term: self.current_term, candidate });
        self.voted_for = Some(candidate);
        if matches!(self.role, Role::PreCandidate(_)) {
            self.role = Role::Follower(Follower::default()); // the other was faster
        }
        self.timer = ElectionTimer::draw(&self.options, &mut self.random); // [F2]
    }

    /// A vote of our term. In another role it is late: we have won, or lost.
    pub(super) fn handle_request_vote_reply(&mut self, from: ServerId, reply: &RequestVoteReply) {
        let current = reply.term == self.current_term;
        assert!(current || removed(Rule::StaleRepliesAreDropped), "step runs the term rules first");
        let Role::Candidate(candidate) = &mut self.role else { return };
        candidate.canvass.answered(from);
        if reply.granted {
            let first = candidate.granted.insert(from);
            if !first && removed(Rule::VotesAreASet) {
                candidate.granted.extend(candidate.canvass.first_unanswered()); // "one more"
            }
            self.count_votes();
        } else {
            candidate.refused.insert(from);
            let refused = candidate.refused.clone();
            if !self.membership.has_majority(|server| !refused.contains(&server)) {
                self.hurry(); // the vote is split or lost: no use in waiting it out
            }
        }
    }

    /// Our own vote counts like any other: when it is on disk. Called when a write completes.
    pub(super) fn count_own_vote(&mut self) {
        if self.hard_state_is_durable()
            && let Role::Candidate(candidate) = &mut self.role
        {
            candidate.granted.insert(self.id);
            self.count_votes();
        }
    }

    /// A candidate of a higher term is not even answered, because a leader is alive (diss. §4.2.3).
    /// In our own term it could do no harm: that vote is ours to give, or given.
    pub(super) fn withhold_vote(&mut self, candidate: ServerId, term: Term) {
        let reason = VoteRefusal::LeaderHeard;
        self.record(Event::RefusedVote { term, candidate, reason });
    }

    pub(super) fn has_vote_request(&self, to: ServerId) -> bool {
        match &self.role {
            Role::PreCandidate(candidate) => candidate.canvass.is_due(to),
            // The guard: a request tells everybody that we voted for ourselves in this term.
            Role::Candidate(candidate) => {
                let ready = self.hard_state_is_durable() || removed(Rule::VoteRequestWaitsForDisk);
                ready && candidate.canvass.is_due(to)
            }
            Role::Follower(_) | Role::Leader(_) => false,
        }
    }

    pub(super) fn take_vote_request(&mut self, to: ServerId) -> Option<Message> {
        if !self.has_vote_request(to) {
            return None;
        }
        let last = self.log.last();
        match &mut self.role {
            Role::PreCandidate(candidate) => {
                candidate.canvass.asked(to);
                Some(Message::PreVote(PreVote { term: self.current_term.next(), last }))
            }
            Role::Candidate(candidate) => {
                candidate.canvass.asked(to);
                let request = RequestVote { term: self.current_term, last };
                Some(if candidate.is_successor {
                    Message::TransferVote(request)
                } else {
                    Message::RequestVote(request)
                })
            }
            Role::Follower(_) | Role::Leader(_) => None,
        }
    }

    fn count_pre_votes(&mut self) {
        let Role::PreCandidate(candidate) = &self.role else { return };
        let granted = |it| candidate.granted.contains(&it) || removed(Rule::TermNeedsPreVotes);
        if self.membership.has_majority(granted) {
            self.become_candidate(false);
        }
    }

    fn count_votes(&mut self) {
        let Role::Candidate(candidate) = &self.role else { return };
        // Our own vote first: without it on disk a majority of others could elect us in a term that
        // we would not remember having stood in.
        let voted = |server| candidate.granted.contains(&server);
        if voted(self.id) && self.membership.has_majority(voted) {
            self.become_leader();
        }
    }

    /// Whether a leader is known to be there: one we heard within the shortest election timeout, or
    /// us.
    pub(super) fn hears_a_leader(&self) -> bool {
        match &self.role {
            Role::Leader(_) => !removed(Rule::LeaderHearsItself),
            Role::Follower(follower) => follower
                .heard_ago_ticks
                .is_some_and(|ticks| ticks < self.options.election_min_ticks),
            Role::PreCandidate(_) | Role::Candidate(_) => false,
        }
    }

    /// Tries again soon, a few times in a row.
    fn hurry(&mut self) {
        if self.hurries_left > 0 {
            self.hurries_left -= 1;
            self.timer = ElectionTimer::hurry(&mut self.random);
        }
    }

    /// Moves to another term: a new vote; what the old one owed or vouched for is over.
    fn enter_term(&mut self, term: Term) {
        self.current_term = term;
        self.voted_for = self.voted_for.filter(|_| removed(Rule::TermHasItsOwnVote));
        if !removed(Rule::AgreementBelongsToTerm) {
            self.verified = Index::ZERO;
            self.acknowledged = Index::ZERO;
        }
        self.owed.retain(|_, _| removed(Rule::DebtsBelongToTerm));
        self.snapshots.enter_term();
    }
}
