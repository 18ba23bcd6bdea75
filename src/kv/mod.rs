//! PURE. The replicated state machine: what clients may ask, and the store that they ask it of.
//!
//! Every server feeds the committed entries, in order, into a [`StateMachine`] of its own. It
//! decodes the write (`encoding`), asks whether the request was seen before (`session`) and, if
//! not, executes it. All of it is one plain value: cloned for a snapshot in no time, compared
//! between servers by a test.
//!
//! | file | what it tells |
//! |---|---|
//! | `command`, `query`, `outcome` | what is asked, and what is answered |
//! | `encoding`, `render` | how that looks in the log, and to people |
//! | `store`, `key` | the keys and values, and the orders in which they are looked for |
//! | `store/table`, `store/rows` | a key with its value, found at once, and all of them in order |
//! | `execute`, `answer` | what each command does, what each query answers |
//! | `expiry` | how long keys live, in log time |
//! | `scan`, `glob` | walking through all keys |
//! | `transaction`, `tombstones` | MULTI and WATCH, and what is remembered of deleted keys |
//! | `once`, `session` | a client's retries, and a server's |
//! | `snapshot`, `store/loading` | a whole state as bytes, and back |
//! | `digest` | one number for a whole state, kept while it changes |

mod answer;
mod bytes;
pub mod command;
mod digest;
pub mod encoding;
mod execute;
mod expiry;
pub mod glob;
mod key;
mod once;
pub mod outcome;
pub mod query;
mod render;
mod scan;
pub mod session;
pub mod snapshot;
pub mod store;
mod tombstones;
mod transaction;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub use answer::FrozenQuery;
pub use encoding::{DecodeError, check};

use byteview::ByteView;

use answer::Asking;
use command::{Bytes, Command, RequestId, Write};
use digest::{Digest, Kind, Sum};
use once::OnceTable;
use outcome::{Change, Outcome};
use query::Query;
use session::Sessions;
use store::{Entry, Store};

use crate::limits::{EXPIRED_PER_CLOCK_ENTRY_MAX, EXPIRED_PER_ENTRY_MAX, QUERY_WORK_MAX};

/// What all servers agree on, after the same entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct StateMachine {
    /// The keys and values, and the log time.
    store: Store,
    /// The requests seen of servers.
    sessions: Sessions,
    /// The commands seen of clients that use ONCE.
    once: OnceTable,
    /// The index of the last entry applied; 0 before the first.
    applied_index: u64,
}

/// What became of the command in one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Whose request it was.
    pub request: RequestId,
    /// What the command did. `None`: the request was seen before, or is no longer waited for, and
    /// has been ignored. That is *not* an answer: whether and how it was executed is another
    /// entry's story.
    pub outcome: Option<Outcome>,
}

impl StateMachine {
    /// Applies the write that the log holds at `index`: the next one, with bytes that passed
    /// [`check`] before they were proposed, under the stamp of its entry in milliseconds. What it
    /// changed, and what has expired by its stamp, is added to `changes`. Panics at any other
    /// index, and at bytes that cannot be read: going on would mean that this server's state is not
    /// the others'.
    pub fn apply(
        &mut self,
        index: u64,
        stamp_ms: u64,
        command: &ByteView,
        changes: &mut Vec<Change>,
    ) -> Applied {
        let mut entry = self.advance_to(index, stamp_ms, EXPIRED_PER_ENTRY_MAX, changes);
        let (request, floor, write) = encoding::decode_shared(command).unwrap_or_else(|error| {
            panic!("State Machine Safety: the committed entry {index} cannot be executed: {error}")
        });
        let is_new = self.sessions.admit(request, floor);
        let outcome = is_new.then(|| self.execute(&mut entry, write));
        Applied { request, outcome }
    }

    /// Applies an entry at `index` that carries no command: the first one of a leader, or one that
    /// only carries time.
    pub fn apply_nothing(&mut self, index: u64, stamp_ms: u64, changes: &mut Vec<Change>) {
        self.advance_to(index, stamp_ms, EXPIRED_PER_CLOCK_ENTRY_MAX, changes);
    }

    /// Answers a query from the state as of `applied_index`. Whether that is recent enough for the
    /// client is the caller's concern (diss. §6.4). `now_ms` is the caller's estimate of the log
    /// time: it only counts down what TTL shows, and decides nothing. Answers are at most
    /// `reply_bytes_max` long, in bytes of keys and values.
    pub fn query(&self, query: &Query, now_ms: u64, reply_bytes_max: usize) -> Outcome {
        let (applied_index, work_left) = (self.applied_index, QUERY_WORK_MAX);
        self.store.query(query, Asking { applied_index, now_ms, work_left, reply_bytes_max })
    }

    /// These keys will be asked for next, with GET: what that will look at is fetched from memory
    /// for all of them at once. It changes nothing but how long the queries will take.
    pub fn fetch_to_get<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) {
        self.store.fetch_to_get(&keys.collect::<Vec<_>>());
    }

    /// The same for commands that will be applied next, if they are SETs.
    pub fn fetch_to_set<'a>(&self, commands: impl Iterator<Item = &'a [u8]>) {
        self.store.fetch_to_set(&commands.filter_map(encoding::key_of_set).collect::<Vec<_>>());
    }

    /// The log time up to which this state has come: the highest stamp applied, in milliseconds.
    pub fn clock_ms(&self) -> u64 {
        self.store.clock_ms()
    }

    /// When the next key expires that is still kept; in the past if there are keys to be removed.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.store.next_deadline_ms()
    }

    /// The index of the last entry applied; 0 before the first.
    pub fn applied_index(&self) -> u64 {
        self.applied_index
    }

    /// The keys and values.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The requests seen.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// A number that is equal for equal states and, as far as accidents go, different for different
    /// ones: for comparing servers at the same `applied_index`. Its parts are kept up to date with
    /// each change, so it costs next to nothing to ask.
    pub fn state_hash(&self) -> u64 {
        let digest = Digest::of(Kind::State).number(self.applied_index).number(self.store.hash());
        digest.number(self.once.hash()).number(self.sessions.hash()).value()
    }

    /// What [`state_hash`](Self::state_hash) must be, computed afresh from every byte of the state:
    /// for tests, and whoever suspects the memory. It takes about as long as reading it all.
    pub fn recomputed_hash(&self) -> u64 {
        self.hash_with(self.store.computed_sum())
    }

    /// The same for whoever has computed the sum of the hashes of all keys with their values.
    fn hash_with(&self, pairs: Sum) -> u64 {
        let mut copy = self.clone();
        copy.store.sum_up(pairs);
        copy.once.sum_up();
        copy.sessions.sum_up();
        copy.state_hash()
    }

    /// What is stored is no longer what was written: a bit has flipped.
    #[cfg(test)]
    pub fn damage(&mut self) {
        self.store.damage();
    }

    /// Forgets which requests of servers were seen: for a state that another cluster begins with,
    /// and nothing else. Those servers count their lives from 1 again. The failing schedule: server
    /// 1 of the old cluster came to its life 5; server 1 of the new one hands over its first SET as
    /// request 1 of life 1. By the old table that is a leftover of a life long over: every write of
    /// every new server would be ignored, and its client told UNKNOWN.
    ///
    /// No request of the old servers can come any more, since the two clusters never talk. What
    /// *clients* are owed stays: ONCE goes on where it was.
    pub fn forget_servers(&mut self) {
        self.sessions = Sessions::default();
    }

    /// Begins an entry: time moves on, and with it what is kept only for a time.
    fn advance_to<'a>(
        &mut self,
        index: u64,
        stamp_ms: u64,
        expired_max: usize,
        changes: &'a mut Vec<Change>,
    ) -> Entry<'a> {
        assert_eq!(index, self.applied_index + 1, "entries are applied in order, each once");
        self.applied_index = index;
        let mut entry = Entry { index, changes, untold: None };
        self.store.advance(&mut entry, stamp_ms, expired_max);
        self.once.forget_idle(self.store.clock_ms());
        entry
    }

    fn execute(&mut self, entry: &mut Entry<'_>, write: Write) -> Outcome {
        match write {
            Write::Command(command) => self.store.execute(entry, command),
            Write::Transaction { watches, operations } => {
                self.store.transact(entry, &watches, operations)
            }
            Write::Once { client, sequence, command } => {
                self.execute_once(entry, client, sequence, command)
            }
        }
    }

    fn execute_once(
        &mut self,
        entry: &mut Entry<'_>,
        client: Bytes,
        sequence: u64,
        command: Command,
    ) -> Outcome {
        let clock_ms = self.store.clock_ms();
        if let Some(answer) = self.once.look_up(entry.index, clock_ms, &client, sequence) {
            return answer;
        }
        let outcome = self.store.execute(entry, command);
        self.once.remember(entry.index, clock_ms, client, &outcome);
        outcome
    }
}
