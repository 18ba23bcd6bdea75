//! Reads: questions for a read index, and when a read may be executed (diss. §6.4).
//!
//! Reads that arrive together share one question. A read joins only a question that has not been
//! taken: one that is under way was perhaps answered before the read arrived, and its index would
//! be too old. Each time it is asked again, a read gets a new question; the answer to an old one is
//! ignored (S23).

use std::collections::{BTreeMap, BTreeSet};

use super::message::{GatewayMessage, QuestionId};
use super::{Answer, ClientId, Gateway, Slot};
use crate::kv::command::{Outcome, Query};
use crate::lab::{Rule, removed};
use crate::raft::types::{Index, ServerId};

/// The reads that a gateway has started and not answered, and the questions it was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// Waiting for a question to be taken.
    open: Vec<PendingRead>,
    /// Waiting for the answer to the question with this serial.
    asked: BTreeMap<u64, Vec<PendingRead>>,
    /// Waiting for the state machine to reach this index.
    confirmed: BTreeMap<Index, Vec<PendingRead>>,
    /// Reads that are confirmed but wait only so long for their index, by the tick at which they
    /// give up.
    waits: BTreeSet<(u64, Index, ClientId, Slot)>,
    /// May be executed.
    ready: Vec<PendingRead>,
    /// The serial of the last question asked.
    last_question: u64,
    /// Other gateways' questions to us as leader, by the number under which our core knows them.
    askers: BTreeMap<u64, (ServerId, QuestionId)>,
    /// Whom we asked was not the leader; ask again at this tick.
    paused_until: Option<u64>,
}

/// A query and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingRead {
    /// Who asks.
    pub client: ClientId,
    /// Which of its requests.
    pub slot: Slot,
    /// What.
    pub query: Query,
}

impl Reads {
    pub(super) fn start(&mut self, client: ClientId, slot: Slot, query: Query) {
        let read = PendingRead { client, slot, query };
        match self.asked.last_entry() {
            Some(mut asked) if removed(Rule::ReadJoinsOpenQuestion) => asked.get_mut().push(read),
            _ => self.open.push(read),
        }
    }

    /// A read that needs no confirmation: the state as it is will do.
    pub(super) fn start_stale(&mut self, client: ClientId, slot: Slot, query: Query) {
        let read = PendingRead { client, slot, query };
        if removed(Rule::StaleReadWaitsForWrites) {
            self.ready.push(read);
        } else {
            self.confirmed.entry(Index::ZERO).or_default().push(read);
        }
    }

    /// A read of the applied index that waits for `index`, until the tick `until`.
    pub(super) fn start_wait(&mut self, client: ClientId, slot: Slot, index: Index, until: u64) {
        let read = PendingRead { client, slot, query: Query::AppliedIndex };
        self.confirmed.entry(index).or_default().push(read);
        self.waits.insert((until, index, client, slot));
    }

    /// Waits that have lasted long enough are over, whatever has been applied. Thousands may wait
    /// for one index and end together, so they are looked up together.
    pub(super) fn end_waits(&mut self, now: u64) {
        let later = self.waits.split_off(&(now + 1, Index::ZERO, ClientId(0), Slot(0)));
        let ended = std::mem::replace(&mut self.waits, later);
        let mut by_index: BTreeMap<Index, BTreeSet<(ClientId, Slot)>> = BTreeMap::new();
        for (_, index, client, slot) in ended {
            by_index.entry(index).or_default().insert((client, slot));
        }
        for (index, ended) in by_index {
            let Some(reads) = self.confirmed.remove(&index) else { continue };
            let is_over = |read: &PendingRead| ended.contains(&(read.client, read.slot));
            let (over, waiting): (Vec<_>, Vec<_>) = reads.into_iter().partition(is_over);
            if !waiting.is_empty() {
                self.confirmed.insert(index, waiting);
            }
            if !over.is_empty() {
                self.confirmed.entry(Index::ZERO).or_default().extend(over);
            }
        }
    }

    pub(super) fn has_open(&self) -> bool {
        self.paused_until.is_none() && !self.open.is_empty()
    }

    pub(super) fn any_asked(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Reads whose question may be lost join the next one, ahead of those that arrived later.
    pub(super) fn ask_again(&mut self) {
        let mut again: Vec<PendingRead> =
            std::mem::take(&mut self.asked).into_values().flatten().collect();
        again.append(&mut self.open);
        self.open = again;
        self.paused_until = None;
    }

    pub(super) fn end_pause(&mut self, now: u64) {
        if self.paused_until.is_some_and(|until| now >= until) {
            self.paused_until = None;
        }
    }

    /// Drops the reads that nobody waits for any more.
    pub(super) fn retain(&mut self, wanted: impl Fn(&PendingRead) -> bool) {
        self.open.retain(&wanted);
        self.ready.retain(&wanted);
        for reads in self.asked.values_mut().chain(self.confirmed.values_mut()) {
            reads.retain(&wanted);
        }
        self.asked.retain(|_, reads| !reads.is_empty());
        self.confirmed.retain(|_, reads| !reads.is_empty());
    }

    /// The connection's earlier writes are done, so these may be executed.
    pub(super) fn release(&mut self, client: ClientId, reads: Vec<(Slot, Query)>) {
        let pending = |(slot, query)| PendingRead { client, slot, query };
        self.ready.extend(reads.into_iter().map(pending));
    }

    /// Closes the open question: no read joins it from now on.
    fn take_open(&mut self) -> Option<u64> {
        if !self.has_open() {
            return None;
        }
        self.last_question += 1;
        self.asked.insert(self.last_question, std::mem::take(&mut self.open));
        Some(self.last_question)
    }
}

impl Gateway {
    /// The question that all our waiting reads share, to be put to our own core, if it leads. The
    /// answer is told to `read_confirmed` or `read_failed` under this number.
    pub fn next_question(&mut self) -> Option<u64> {
        if self.leads() { self.reads.take_open() } else { None }
    }

    /// Another gateway asks us as leader. Returns the number under which to put it to our core.
    pub fn adopt_question(&mut self, from: ServerId, question: QuestionId) -> u64 {
        self.reads.last_question += 1;
        let number = self.reads.last_question;
        self.reads.askers.insert(number, (from, question));
        number
    }

    /// Our core has confirmed a question: ours, or one we adopted.
    pub fn read_confirmed(&mut self, number: u64, read_index: Index) {
        if let Some((asker, question)) = self.reads.askers.remove(&number) {
            self.reply(asker, GatewayMessage::ReadAnswer { question, read_index });
        }
        self.confirm(number, read_index);
    }

    /// Our core could not confirm a question: it does not lead, or no longer.
    pub fn read_failed(&mut self, number: u64) {
        if let Some((asker, question)) = self.reads.askers.remove(&number) {
            self.reply(asker, GatewayMessage::ReadRefused { question });
        }
        if let Some(reads) = self.reads.asked.remove(&number) {
            self.reads.open.extend(reads);
        }
    }

    /// The leader has answered a question of ours, perhaps of an earlier life.
    pub fn handle_read_answer(&mut self, question: QuestionId, read_index: Index) {
        if question.incarnation == self.incarnation || removed(Rule::AnswerNamesItsLife) {
            self.confirm(question.serial, read_index);
        }
    }

    /// Whom we asked is not the leader. The reads wait for one, and ask again a little later.
    pub fn handle_read_refused(&mut self, question: QuestionId) {
        if question.incarnation != self.incarnation {
            return;
        }
        if let Some(reads) = self.reads.asked.remove(&question.serial) {
            self.reads.open.extend(reads);
            self.reads.paused_until = Some(self.now + self.options.backoff_ticks);
        }
    }

    pub(super) fn take_question(&mut self) -> Option<GatewayMessage> {
        let serial = self.reads.take_open()?;
        let question = QuestionId { incarnation: self.incarnation, serial };
        Some(GatewayMessage::ReadQuestion { question })
    }

    /// Whether there are reads that may be executed by a state machine that has applied `applied`.
    pub fn has_queries(&self, applied: Index) -> bool {
        let confirmed = self.reads.confirmed.first_key_value();
        !self.reads.ready.is_empty() || confirmed.is_some_and(|(&index, _)| reached(index, applied))
    }

    /// The reads that may be executed by a state machine that has applied `applied`.
    pub fn take_queries(&mut self, applied: Index) -> Vec<PendingRead> {
        while let Some(entry) = self.reads.confirmed.first_entry()
            && reached(*entry.key(), applied)
        {
            for read in entry.remove() {
                self.execute_or_block(read);
            }
        }
        std::mem::take(&mut self.reads.ready)
    }

    /// The state machine has executed a read.
    pub fn answered(&mut self, client: ClientId, slot: Slot, outcome: Outcome) {
        self.answer(client, slot, Answer::Done(outcome));
    }

    fn confirm(&mut self, mut number: u64, read_index: Index) {
        if removed(Rule::AnswerNamesItsQuestion) {
            number = self.reads.asked.first_key_value().map_or(number, |(&first, _)| first);
        }
        if let Some(reads) = self.reads.asked.remove(&number) {
            self.progress_at = self.now;
            self.reads.confirmed.entry(read_index).or_default().extend(reads);
        }
    }

    /// On one connection a read is answered after the writes before it.
    fn execute_or_block(&mut self, read: PendingRead) {
        let Some(connection) = self.connections.get_mut(&read.client) else { return };
        if connection.outstanding.get(read.slot).is_none() {
            return; // its deadline has passed
        }
        if connection.writes_started > 0 && !removed(Rule::ReadFollowsWrites) {
            connection.blocked_reads.push((read.slot, read.query));
        } else {
            self.reads.ready.push(read);
        }
    }
}

/// A read may be executed by a state machine that has applied its read index (diss. §6.4).
fn reached(read_index: Index, applied: Index) -> bool {
    read_index <= applied || removed(Rule::ReadWaitsForApply)
}
