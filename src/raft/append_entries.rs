//! AppendEntries at the follower (Figure 2; §5.3), and what a server owes to those who asked it
//! something.

use super::event::Event;
use super::message::{
    AppendEntries, AppendEntriesReply, InstallSnapshotReply, Message, Mismatch, PreVoteReply,
    RequestVoteReply, Round,
};
use super::types::{Entry, Index, ServerId};
use super::{ElectionTimer, Raft, Role};
use crate::lab::{Rule, removed};

/// Replies that are due to one server. What they say is decided when they are taken; only a
/// pre-vote, which promises nothing, is remembered as it was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Owed {
    /// The answer to its pre-vote.
    pub pre_vote: Option<PreVoteReply>,
    /// It asked for our vote. Whether it has it is written in `voted_for`.
    pub vote: bool,
    /// It believes to lead, in a term that is over.
    pub our_term: bool,
    /// It is this term's leader and wants an answer.
    pub append: Option<OwedAppend>,
    /// It is this term's leader and sends a snapshot.
    pub install: Option<OwedInstall>,
}

/// What this term's leader wants to hear about the snapshot that it sends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct OwedInstall {
    /// Which snapshot: the index of its last entry.
    pub last_index: Index,
    /// A part has come that does not follow those before it.
    pub gap: bool,
}

/// What this term's leader wants to hear beside our match index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct OwedAppend {
    /// The highest round to be echoed.
    pub round: Round,
    /// The last consistency check that failed, unless one has succeeded since.
    pub mismatch: Option<Mismatch>,
}

impl Raft {
    /// AppendEntries at the receiver (Figure 2). `step` has applied the term rules [AE1] [ALL2].
    pub(super) fn handle_append_entries(&mut self, leader: ServerId, request: AppendEntries) {
        assert_eq!(request.term, self.current_term, "step runs the term rules first");
        let agree = self.log.contains(request.prev);
        if removed(Rule::CandidateYields) && self.leader().is_none() && !agree {
            return;
        }
        self.follow(leader); // [C3] [F1]

        // The echo promises only that we are in this term, so it leaves at once, matching or not: a
        // follower with a slow disk is still there.
        if request.round > Round(0) {
            let owed = self.owed.entry(leader).or_default().append.get_or_insert_default();
            owed.round = owed.round.max(request.round);
        }

        // [AE2] Agreeing on the entry before the new ones means agreeing on everything before it
        // (Log Matching). A heartbeat is no exception.
        let exempt = removed(Rule::HeartbeatIsChecked) && request.entries.is_empty();
        if !agree && !exempt {
            return self.owe_mismatch(leader, &request);
        }
        if let Some(owed) = self.owed.get_mut(&leader).and_then(|owed| owed.append.as_mut()) {
            owed.mismatch = None;
        }

        let last_new = request.last_new_index();
        self.replace_suffix(request.entries);

        // [AE5] Bounded by what this message vouched for, not by our own last index: our tail may
        // still be some earlier leader's.
        let bound = if removed(Rule::CommitUpToLastNew) { self.log.last_index() } else { last_new };
        self.commit_up_to(request.leader_commit.min(bound));

        // From now on we can vouch for these entries, as far as our disk has them; the
        // acknowledgement is made when it is taken.
        self.verified = self.verified.max(last_new);
    }

    /// [AE1] [RV1] The request is of a term that is over: its sender must learn ours.
    pub(super) fn owe_our_term(&mut self, from: ServerId, request: &Message) {
        assert!(request.term() < self.current_term, "only a stale request is told our term");
        if removed(Rule::StaleRequestIsAnswered) {
            return;
        }
        if removed(Rule::StaleLeadersResetNoClock) {
            self.timer = ElectionTimer::draw(&self.options, &mut self.random);
        }
        let owed = self.owed.entry(from).or_default();
        match request {
            Message::RequestVote(_) | Message::TransferVote(_) => owed.vote = true,
            _ => owed.our_term = true,
        }
    }

    /// Keeps what agrees with `entries`, replaces everything from the first difference on.
    ///
    /// A late, shorter message changes nothing: it must not cut off newer entries that this
    /// follower has acknowledged.
    fn replace_suffix(&mut self, entries: Vec<Entry>) {
        let is_new =
            |entry: &Entry| !self.log.contains(entry.id) || removed(Rule::TruncateOnlyOnConflict);
        let Some(first_new) = entries.iter().position(is_new) else { return };
        let from = entries[first_new].id.index;
        if from <= self.log.last_index() {
            self.truncate(from); // [AE3]
        }
        for entry in entries.into_iter().skip(first_new) {
            self.log.append(entry); // [AE4]
        }
    }

    /// [AE3] Removes entries that conflict with the leader's. Nothing that was promised goes with
    /// them.
    fn truncate(&mut self, from: Index) {
        assert!(
            from > self.commit_index,
            "Leader Completeness: a committed entry would be replaced at {from}"
        );
        assert!(
            from > self.verified,
            "Leader Append-Only: this term's leader replaces its own entry at {from}"
        );
        self.record(Event::Truncated { from, last: self.log.last_index() });
        self.durable.clamp(from);
        self.log.truncate(from);
    }

    /// Entries up to `index` are committed. Old messages may say less than we know.
    pub(super) fn commit_up_to(&mut self, index: Index) {
        assert!(index <= self.log.last_index(), "only entries in the log are committed");
        if index > self.commit_index {
            self.commit_index = index;
            self.record(Event::Committed { index });
        }
    }

    /// [AE2] fails: tell where to look further back. A conflicting entry is at the earliest after
    /// our last one whose term is not above the leader's at that place.
    fn owe_mismatch(&mut self, leader: ServerId, request: &AppendEntries) {
        let prev = request.prev;
        assert!(
            prev.index > self.commit_index,
            "Leader Completeness: the leader lacks our committed entry at {}",
            prev.index
        );
        let hint = self.log.last_not_after(prev);
        let owed = self.owed.entry(leader).or_default().append.get_or_insert_default();
        owed.mismatch = Some(Mismatch { prev_index: prev.index, hint });
    }

    /// Whether a reply to `to` may leave now.
    pub(super) fn has_replies(&self, to: ServerId) -> bool {
        let owed = self.owed.get(&to).is_some_and(|owed| {
            owed.pre_vote.is_some()
                || owed.our_term
                || owed.install.is_some()
                || (owed.append.is_some()
                    && !(removed(Rule::EchoWaitsForNothing) && self.has_write()))
                || (owed.vote && self.vote_reply_may_leave(to))
        });
        owed || self.has_acknowledgement(to)
    }

    /// Makes the replies that may leave now, from what is true now.
    pub(super) fn take_replies(&mut self, to: ServerId, messages: &mut Vec<Message>) {
        let acknowledges = self.has_acknowledgement(to);
        let mut owed = self.owed.remove(&to).unwrap_or_default();
        let term = self.current_term;
        if let Some(reply) = owed.pre_vote.take() {
            messages.push(Message::PreVoteReply(reply));
        }
        if owed.vote && self.vote_reply_may_leave(to) {
            owed.vote = false;
            let granted = self.voted_for == Some(to);
            messages.push(Message::RequestVoteReply(RequestVoteReply { term, granted }));
        }
        if std::mem::take(&mut owed.our_term) {
            messages.push(Message::AppendEntriesReply(AppendEntriesReply {
                term,
                round: Round(0),
                match_index: Index::ZERO,
                mismatch: None,
            }));
        }
        if let Some(OwedInstall { last_index, gap }) = owed.install.take() {
            let stored_bytes = self.stored_bytes_of(last_index);
            let reply = InstallSnapshotReply { term, last_index, stored_bytes, gap };
            messages.push(Message::InstallSnapshotReply(reply));
        }
        let append = owed.append.take();
        if acknowledges || append.is_some() {
            let OwedAppend { round, mismatch } = append.unwrap_or_default();
            let match_index = self.durable_match();
            self.acknowledged = self.acknowledged.max(match_index);
            let reply = AppendEntriesReply { term, round, match_index, mismatch };
            messages.push(Message::AppendEntriesReply(reply));
        }
        if owed != Owed::default() {
            self.owed.insert(to, owed);
        }
    }

    /// The guard: a vote is told when it is on disk. A refusal promises nothing.
    fn vote_reply_may_leave(&self, to: ServerId) -> bool {
        self.voted_for != Some(to)
            || self.hard_state_is_durable()
            || removed(Rule::VoteWaitsForDisk)
    }

    /// Whether our disk has caught up with more of this term's leader's log than we have told.
    /// (While we ask for pre-votes nobody is told; the leader's next message makes us its follower
    /// again.)
    fn has_acknowledgement(&self, to: ServerId) -> bool {
        matches!(&self.role, Role::Follower(follower) if follower.leader == Some(to))
            && self.durable_match() > self.acknowledged
    }

    /// The guard: what we may vouch for to this term's leader. It agrees with its log (`verified`)
    /// and is on our disk, and so is the term: a server that forgets the term could follow the
    /// term's old leader again and replace these very entries.
    fn durable_match(&self) -> Index {
        if !self.hard_state_is_durable() && !removed(Rule::AckWaitsForTerm) {
            return Index::ZERO;
        }
        if removed(Rule::AckWaitsForDisk) {
            return self.verified;
        }
        self.verified.min(self.durable.index())
    }
}
