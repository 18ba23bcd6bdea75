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

use bytes::Bytes;
use imbl::OrdMap;

use super::digest::Fnv1a;
use super::outcome::Outcome;
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
        client.used_at = index;
        client.used_ms = clock_ms;
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
        let mut client = self.take_out(&name).unwrap_or_else(|| Client {
            last: 0,
            answers: VecDeque::new(),
            used_at: index,
            used_ms: clock_ms,
            bytes: OVERHEAD_BYTES + name.len(),
        });
        client.last += 1;
        client.bytes += OVERHEAD_BYTES + answer.bytes();
        client.answers.push_back(answer.clone());
        // The newest answer stays however long it is: it is the one that is asked for again.
        let bytes_max = OVERHEAD_BYTES + name.len() + ONCE_ANSWERS_BYTES_MAX;
        while client.answers.len() > 1
            && (client.answers.len() > ONCE_ANSWERS_MAX || client.bytes > bytes_max)
            && let Some(oldest) = client.answers.pop_front()
        {
            client.bytes -= OVERHEAD_BYTES + oldest.bytes();
        }
        self.bytes += client.bytes;
        self.by_use.insert(client.used_at, name.clone());
        self.clients.insert(name, client);
        while self.clients.len() > ONCE_CLIENTS_MAX
            || self.bytes > ONCE_BYTES_MAX && self.clients.len() > 1
        {
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

    pub(super) fn digest(&self, hash: &mut Fnv1a) {
        hash.number(self.clients.len() as u64);
        for (name, client) in self.clients.iter() {
            hash.bytes(name);
            hash.number(client.last);
            hash.number(client.used_at);
            hash.number(client.used_ms);
            hash.number(client.answers.len() as u64);
            client.answers.iter().for_each(|answer| answer.digest(hash));
        }
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
        Some(client)
    }
}
