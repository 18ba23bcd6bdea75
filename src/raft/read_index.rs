//! Linearizable reads without log entries (diss. §6.4).
//!
//! A leader may have been deposed without knowing it, so "I am the leader" is no licence to answer.
//! But if a majority still follows it *after the read arrived*, then nobody else can have committed
//! anything by then, and its commit index covers every write that was acknowledged before. So:
//!
//! 1. The read gets a read index: the commit index, or this term's no-op if that is not committed
//!    yet, because a fresh leader does not know how far its predecessor had committed.
//! 2. It waits for a round of echoes from a majority. The round is stamped on messages when they
//!    are *taken*, so it begins after the read arrived. Any number of reads share it, and no disk
//!    is involved. All followers are asked; but when there are many reads only as many as a
//!    majority needs, unless one keeps us waiting.
//! 3. It may be answered from any state machine that has applied the read index.
//!
//! A follower's question is its echo. It goes to the leader of the follower's own term only, and
//! leaves after the read has arrived. So at that moment the follower was in our term or an older
//! one, and had helped no newer leader to commit anything. If it does so while the question is
//! under way, the read began before that and need not see it; what older leaders committed is
//! covered by the no-op (1). With the leader that makes two voices. Of three servers they are a
//! majority, and nobody else is asked. Of five, one more must echo: two that are cut off know
//! nothing of what the other three commit. And a follower that has followed a newer leader must not
//! ask the old one: it may have acknowledged what the old one has never seen.
//!
//! A leader that steps down hands its unconfirmed reads back as failed; whoever asked asks the next
//! leader.

use std::cmp::Reverse;

use super::message::Round;
use super::progress::Mode;
use super::replication::Leader;
use super::types::{Index, ServerId};
use super::{Apply, Raft, Refused, Role};
use crate::lab::{Rule, removed};

/// So many ticks count as busy after a read came while another was waiting.
const MANY_READS_TICKS: u32 = 2;

/// Names a read towards the core; opaque here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

/// A read that waits for its round.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PendingRead {
    /// Which read.
    pub read: ReadId,
    /// Everything acknowledged before the read arrived is at or below this index.
    pub index: Index,
    /// A majority must echo this round or a later one.
    pub round: Round,
    /// Who asked for it: a follower, which has echoed by asking, or ourselves.
    pub asker: ServerId,
}

/// A read whose fate is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DoneRead {
    /// Confirmed; to be answered once `index` is applied where the read is.
    Ready {
        /// Which read.
        read: ReadId,
        /// Its read index.
        index: Index,
    },
    /// Leadership ended first.
    Failed {
        /// Which read.
        read: ReadId,
    },
}

impl Leader {
    /// The highest round that a read is waiting for.
    pub(super) fn round_wanted(&self) -> Round {
        self.reads.back().map_or(Round(0), |read| read.round)
    }

    /// A tick passes. Returns whether a read has waited since before the last one, perhaps for a
    /// round that nobody has been asked for, as the link to whom it asks first is down.
    pub(super) fn tick_reads(&mut self) -> bool {
        self.many_reads_ticks_left = self.many_reads_ticks_left.saturating_sub(1);
        let before = self.round_wanted_at_tick;
        self.round_wanted_at_tick = self.round_wanted();
        let is_overdue = self.reads.front().is_some_and(|read| read.round <= before);
        is_overdue && !removed(Rule::LateReadsAskAll)
    }
}

impl Raft {
    /// Asks for a read to be confirmed. `take_applies` returns it, ready or failed.
    pub fn request_read(&mut self, read: ReadId) -> Result<(), Refused> {
        self.request_read_for(self.id, read)
    }

    /// The same for another server; `next_read_of_others` returns it. Requires that `asker` put its
    /// question after the read had arrived there, and to the leader of the term in which it was.
    /// (That it asks is no sign of life for check-quorum: its other messages are.)
    pub fn request_read_for(&mut self, asker: ServerId, read: ReadId) -> Result<(), Refused> {
        let hint = self.leader();
        let Role::Leader(leader) = &self.role else {
            return Err(Refused::NotLeader { hint });
        };
        let mut index = self.commit_index.max(leader.noop);
        if removed(Rule::ReadWaitsForNoop) {
            index = self.commit_index;
        }
        // The next round has not begun: no message stamped with it has been taken.
        let mut round = Round(leader.round.0 + 1);
        if removed(Rule::ReadBeginsARound) {
            round = leader.round;
        }
        let pending = PendingRead { read, index, round, asker };
        if self.is_confirmed(leader, &pending) {
            self.finish_read(asker, DoneRead::Ready { read, index });
        } else if let Role::Leader(leader) = &mut self.role {
            leader.reads.push_back(pending);
            if leader.reads.len() > 1 {
                leader.many_reads_ticks_left = MANY_READS_TICKS;
            }
        }
        Ok(())
    }

    /// Whether reads wait for a round for which this follower is to be asked.
    pub(super) fn reads_ask(&self, leader: &Leader, follower: ServerId) -> bool {
        let are_many = leader.many_reads_ticks_left > 0;
        leader.round_wanted() > leader.progress[&follower].round_sent
            && !(are_many && self.is_spared(leader, follower))
    }

    /// Whether, with us, those that are asked before this follower are a majority: the newest echo
    /// first, then whoever streams, then the lowest id. If one of them does not answer, everybody
    /// is asked with the tick after next, and whoever answers comes first from then on.
    ///
    /// A second echo costs as much as the first: without it, 16 readers get a seventh more reads,
    /// with four fifths of the processor time. A reader on its own does better with the first
    /// answer of all.
    fn is_spared(&self, leader: &Leader, follower: ServerId) -> bool {
        let rank = |server: ServerId| {
            let progress = &leader.progress[&server];
            (progress.round_echoed, progress.mode == Mode::Stream, Reverse(server))
        };
        self.membership.has_majority(|server| {
            server == self.id || server != follower && rank(server) > rank(follower)
        })
    }

    /// The round that the oldest unconfirmed read waits for, if we lead.
    pub fn round_awaited(&self) -> Option<Round> {
        let Role::Leader(leader) = &self.role else { return None };
        leader.reads.front().map(|read| read.round)
    }

    /// Whether a majority has echoed the read's round, and what it must see is committed.
    fn is_confirmed(&self, leader: &Leader, read: &PendingRead) -> bool {
        let PendingRead { index, round, asker, .. } = *read;
        let has_echoed = |server: ServerId| {
            server == self.id || server == asker || leader.progress[&server].round_echoed >= round
        };
        let led = self.membership.has_majority(has_echoed)
            || removed(Rule::ReadWaitsForEchoes)
            || removed(Rule::AskerIsOneVoice) && asker != self.id;
        led && index <= self.commit_index
    }

    /// Hands over the reads that are confirmed. A later one may be among them and an earlier one
    /// not, as they were asked for by different servers.
    pub(super) fn confirm_reads(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.reads.is_empty() {
            return;
        }
        let echoes = leader.progress.values().map(|progress| progress.round_echoed);
        let newest = echoes.max().unwrap_or(Round(u64::MAX)); // who is alone waits for no echo
        let mut reads = std::mem::take(&mut leader.reads);
        let mut at = 0;
        // Rounds and indexes rise along the reads, so none behind these can be confirmed.
        while let Role::Leader(leader) = &self.role
            && let Some(read) = reads.get(at)
            && read.round <= newest
            && read.index <= self.commit_index
        {
            if !self.is_confirmed(leader, read) {
                at += 1;
            } else if let Some(PendingRead { read, index, asker, .. }) = reads.remove(at) {
                self.finish_read(asker, DoneRead::Ready { read, index });
            }
        }
        if let Role::Leader(leader) = &mut self.role {
            leader.reads = reads;
        }
    }

    /// Leadership ends: what is not confirmed now never will be.
    pub(super) fn fail_reads(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        for PendingRead { read, asker, .. } in std::mem::take(&mut leader.reads) {
            self.finish_read(asker, DoneRead::Failed { read });
        }
    }

    fn finish_read(&mut self, asker: ServerId, done: DoneRead) {
        let is_ours = asker == self.id;
        let whose = if is_ours { &mut self.reads_done } else { &mut self.others_reads_done };
        whose.push_back(done);
    }

    /// The fate of the next read that was asked for by another server. It is told at once: how far
    /// *our* state machine has come is nothing to who asks, whose own one must reach the index.
    pub fn next_read_of_others(&mut self) -> Option<DoneRead> {
        self.others_reads_done.pop_front()
    }

    pub(super) fn has_done_reads(&self) -> bool {
        self.reads_done.front().is_some_and(|read| self.may_be_taken(read))
    }

    /// Adds the reads that may be answered once everything handed out so far is applied.
    pub(super) fn take_done_reads(&mut self, applies: &mut Vec<Apply>) {
        while self.has_done_reads() {
            let done = self.reads_done.pop_front().expect("there is a front");
            applies.push(match done {
                DoneRead::Ready { read, index } => Apply::ReadReady { read, index },
                DoneRead::Failed { read } => Apply::ReadFailed { read },
            });
        }
    }

    /// Reads are answered in order, so the first one speaks for those behind it.
    fn may_be_taken(&self, read: &DoneRead) -> bool {
        match read {
            DoneRead::Ready { index, .. } => *index <= self.last_applied,
            DoneRead::Failed { .. } => true,
        }
    }
}
