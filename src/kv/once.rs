//! ONCE: a client's own retries are executed once.
//!
//! `kv::session` keeps a *server* from executing a write twice that it sent twice. But when a
//! client's connection breaks, only the client knows that its next attempt, through another server,
//! is the same command again. So it may give itself a name and number its commands: `ONCE ana 1
//! INCR visits`. The state machine remembers the last number of each name and its last few answers,
//! and tells them again instead of executing again (diss. §6.3).
//!
//! Memory is bounded: clients that are idle for a day of log time are forgotten, and beyond a
//! number of clients, or of bytes, the one that has been idle longest. A forgotten client that goes
//! on with its numbers is told so. It must not be executed: it may have been before. Only number 1
//! of an unknown client can be nobody's repetition, as far as we can remember.
//!
//! All of it follows from the entries and their stamps, and is part of the state.

use std::collections::VecDeque;

use imbl::OrdMap;

use super::bytes::Bytes;
use super::digest::{Digest, Kind, Sum};
use super::outcome::Outcome;
use super::snapshot::{Checked, Octets, Record, ensure};
use crate::lab::{Rule, removed};
use crate::limits::{
    ONCE_ANSWERS_BYTES_MAX, ONCE_ANSWERS_MAX, ONCE_BYTES_MAX, ONCE_CLIENTS_MAX, ONCE_IDLE_MS_MAX,
};

/// What a client or an answer is taken to weigh beside its bytes.
const OVERHEAD_BYTES: usize = 64;

/// The clients that use ONCE.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct OnceTable {
    /// By name.
    clients: OrdMap<Bytes, Client>,
    /// The names by the index of the entry that last named them: the one idle longest comes first.
    by_use: OrdMap<u64, Bytes>,
    /// The weight of all of it, in bytes.
    bytes: usize,
    /// Of the hashes of all clients.
    sum: Sum,
}

/// What is remembered of a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Client {
    /// The last number that was executed.
    last: u64,
    /// The answers to the last few numbers, the newest at the end, which belongs to `last`.
    answers: VecDeque<Outcome>,
    /// The index of the entry that last named it.
    used_at: u64,
    /// The log time then, in milliseconds.
    used_ms: u64,
    /// Its weight, in bytes.
    bytes: usize,
    /// Of the hashes of its answers: they are long, and hashed when they come and go.
    sum: Sum,
}

impl Client {
    fn new(name: &[u8], last: u64, used_at: u64, used_ms: u64) -> Client {
        let (answers, sum) = (VecDeque::new(), Sum::default());
        Client { last, answers, used_at, used_ms, bytes: OVERHEAD_BYTES + name.len(), sum }
    }

    /// Whether the oldest answer must go. The newest stays however long it is: it is the one that
    /// is asked for again.
    fn has_too_much(&self, name: &[u8]) -> bool {
        let bytes_max = OVERHEAD_BYTES + name.len() + ONCE_ANSWERS_BYTES_MAX;
        self.answers.len() > 1 && (self.answers.len() > ONCE_ANSWERS_MAX || self.bytes > bytes_max)
    }

    fn hash(&self, name: &[u8]) -> u64 {
        let digest = Digest::of(Kind::Client).bytes(name).number(self.last);
        let digest = digest.number(self.used_at).number(self.used_ms).number(self.sum.value());
        digest.number(self.answers.len() as u64).value()
    }
}

/// The hash of the answer to a number.
fn answer_hash(sequence: u64, answer: &Outcome) -> u64 {
    Digest::of(Kind::Answer).number(sequence).number(answer.hash()).value()
}

impl OnceTable {
    /// Looks at a number of a client: `None`, it is the next one and is to be executed, and its
    /// answer [remembered](Self::remember); otherwise the answer.
    pub(super) fn look_up(
        &mut self,
        index: u64,
        clock_ms: u64,
        name: &Bytes,
        sequence: u64,
    ) -> Option<Outcome> {
        let Some(client) = self.clients.get_mut(name) else {
            let may_execute = sequence == 1 || removed(Rule::UnknownOnceIsRefused);
            return if may_execute { None } else { Some(Outcome::OnceUnknownClient) };
        };
        self.by_use.remove(&client.used_at);
        self.by_use.insert(index, name.clone());
        self.sum.subtract(client.hash(name));
        client.used_at = index;
        client.used_ms = clock_ms;
        self.sum.add(client.hash(name));
        let expected = client.last + 1;
        if sequence >= expected {
            let is_gap = sequence > expected && !removed(Rule::OnceLeavesNoGaps);
            return is_gap.then_some(Outcome::OnceGap { expected });
        }
        if removed(Rule::OnceIsRemembered) {
            return None;
        }
        let age = usize::try_from(client.last - sequence).unwrap_or(usize::MAX);
        let remembered = client.answers.iter().rev().nth(age).cloned();
        Some(remembered.unwrap_or(Outcome::OnceForgotten { last: client.last }))
    }

    /// Keeps what the next number of a client has come to.
    pub(super) fn remember(&mut self, index: u64, clock_ms: u64, name: Bytes, answer: &Outcome) {
        let known = self.take_out(&name);
        let mut client = known.unwrap_or_else(|| Client::new(&name, 0, index, clock_ms));
        client.last += 1;
        client.sum.add(answer_hash(client.last, answer));
        client.bytes += OVERHEAD_BYTES + answer.bytes();
        client.answers.push_back(answer.clone());
        while client.has_too_much(&name)
            && let Some(oldest) = client.answers.pop_front()
        {
            client.bytes -= OVERHEAD_BYTES + oldest.bytes();
            let sequence = client.last - client.answers.len() as u64;
            client.sum.subtract(answer_hash(sequence, &oldest));
        }
        self.bytes += client.bytes;
        self.sum.add(client.hash(&name));
        self.by_use.insert(client.used_at, name.clone());
        self.clients.insert(name, client);
        while self.has_too_much() {
            self.forget_idlest();
        }
    }

    /// Forgets clients that have been idle for too long, now that the log time is `clock_ms`: all
    /// of them, as each was one entry's work.
    pub(super) fn forget_idle(&mut self, clock_ms: u64) {
        while let Some((_, name)) = self.by_use.get_min()
            && let Some(client) = self.clients.get(name)
            && client.used_ms.saturating_add(ONCE_IDLE_MS_MAX) <= clock_ms
        {
            self.forget_idlest();
        }
    }

    pub(super) fn hash(&self) -> u64 {
        let digest = Digest::of(Kind::Table).number(self.sum.value());
        digest.number(self.clients.len() as u64).value()
    }

    /// All of it, for a snapshot.
    pub(super) fn records(&self) -> impl Iterator<Item = Record<'_>> {
        self.clients.iter().flat_map(|(name, client)| {
            let Client { last, used_at, used_ms, .. } = *client;
            let head = Record::Client { name: Octets(name), last, used_at, used_ms };
            [head].into_iter().chain(client.answers.iter().map(|it| Record::Answer(it.into())))
        })
    }

    /// Takes the next client of a snapshot.
    pub(super) fn load_client(
        &mut self,
        name: &[u8],
        last: u64,
        used_at: u64,
        used_ms: u64,
    ) -> Checked {
        let before = self.clients.get_max();
        ensure(before.is_none_or(|(before, _)| before[..] < *name), "clients are not in order")?;
        ensure(self.clients.len() < ONCE_CLIENTS_MAX, "there are more clients than are kept")?;
        // Each number was an entry, and each entry names one client.
        ensure((1..=used_at).contains(&last), "a client has done more than there was time for")?;
        ensure(!self.by_use.contains_key(&used_at), "two clients were named by one entry")?;
        let name = Bytes::from(name);
        let client = Client::new(&name, last, used_at, used_ms);
        self.bytes += client.bytes;
        self.by_use.insert(used_at, name.clone());
        self.clients.insert(name, client);
        Ok(())
    }

    /// Takes the next answer to the client that came last. Which number it belongs to is known only
    /// when all are there, so the sums are computed then.
    pub(super) fn load_answer(&mut self, answer: Outcome) -> Checked {
        let name = self.clients.get_max().map(|(name, _)| name.clone());
        let name = name.ok_or("an answer belongs to no client")?;
        let client = self.clients.get_mut(&name).expect("it has just been found");
        let bytes = OVERHEAD_BYTES + answer.bytes();
        client.bytes += bytes;
        self.bytes += bytes;
        client.answers.push_back(answer);
        let is_possible = client.answers.len() as u64 <= client.last;
        ensure(
            is_possible && !client.has_too_much(&name),
            "a client has more answers than are kept",
        )
    }

    /// Whether all that was loaded fits together.
    pub(super) fn check_loaded(&self) -> Checked {
        let has_answers = self.clients.values().all(|client| !client.answers.is_empty());
        ensure(has_answers, "a client has no answer")?;
        ensure(!self.has_too_much(), "more is kept of clients than there is room for")?;
        let names = self.by_use.values();
        let uses = names.filter_map(|name| self.clients.get(name).map(|client| client.used_ms));
        ensure(uses.is_sorted(), "log time went back between two clients")
    }

    fn has_too_much(&self) -> bool {
        self.clients.len() > ONCE_CLIENTS_MAX
            || self.bytes > ONCE_BYTES_MAX && self.clients.len() > 1
    }

    /// Computes the sums afresh, from every answer of every client.
    pub(super) fn sum_up(&mut self) {
        let clients = std::mem::take(&mut self.clients).into_iter().map(|(name, mut client)| {
            let numbered = (1..=client.last).rev().zip(client.answers.iter().rev());
            client.sum = numbered.map(|(number, answer)| answer_hash(number, answer)).collect();
            (name, client)
        });
        self.clients = clients.collect();
        self.sum = self.clients.iter().map(|(name, client)| client.hash(name)).collect();
    }

    fn forget_idlest(&mut self) {
        if let Some((_, name)) = self.by_use.get_min() {
            let name = name.clone();
            self.take_out(&name);
        }
    }

    fn take_out(&mut self, name: &Bytes) -> Option<Client> {
        let client = self.clients.remove(name)?;
        self.by_use.remove(&client.used_at);
        self.bytes -= client.bytes;
        self.sum.subtract(client.hash(name));
        Some(client)
    }
}
