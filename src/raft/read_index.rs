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
//! A server that asks for somebody's read needs not be asked itself: its question is its echo. It
//! asks the leader of its own term, so until it asked, and that was after the read arrived there,
//! it had voted for nobody newer. In a cluster of three that is a majority, and the leader answers
//! at once. The failing schedules: of five, two that are cut off know nothing of what the other
//! three commit, so it counts as one voice and no more; and a server that has voted for another
//! leader must not ask the one before, so it forgets whom it followed when its term ends.
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
    /// Confirmed; to be handed out once `index` is applied.
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

    /// The same for another server. Requires that the read had arrived there when it put its
    /// question, and that we were the leader it knew of in the term in which it then was.
    pub fn request_read_for(&mut self, asker: ServerId, read: ReadId) -> Result<(), Refused> {
        let hint = self.leader();
        let Role::Leader(leader) = &mut self.role else {
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
        leader.reads.push_back(PendingRead { read, index, round, asker });
        self.confirm_reads(); // perhaps nobody else needs to be asked
        if let Role::Leader(leader) = &mut self.role
            && leader.reads.len() > 1
        {
            leader.many_reads_ticks_left = MANY_READS_TICKS;
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

    /// Hands over the reads whose round a majority has echoed. A later one may be among them and an
    /// earlier one not, as they were asked for by different servers.
    pub(super) fn confirm_reads(&mut self) {
        let Role::Leader(Leader { reads, progress, .. }) = &mut self.role else { return };
        let is_ready = |PendingRead { index, round, asker, .. }: &PendingRead| {
            let has_echoed = |server: ServerId| {
                server == self.id || server == *asker || progress[&server].round_echoed >= *round
            };
            let asker_is_enough = removed(Rule::AskerIsOneVoice) && *asker != self.id;
            let led = self.membership.has_majority(has_echoed)
                || removed(Rule::ReadWaitsForEchoes)
                || asker_is_enough;
            led && *index <= self.commit_index
        };
        reads.retain(|read| {
            let is_ready = is_ready(read);
            if is_ready {
                let PendingRead { read, index, .. } = *read;
                self.reads_done.push_back(DoneRead::Ready { read, index });
            }
            !is_ready
        });
    }

    /// Leadership ends: what is not confirmed now never will be.
    pub(super) fn fail_reads(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let failed = leader.reads.drain(..).map(|pending| DoneRead::Failed { read: pending.read });
        self.reads_done.extend(failed);
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
