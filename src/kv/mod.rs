//! PURE. The replicated state machine: commands, the store they act on, request ids already seen.
//!
//! Every server feeds the committed entries, in order, into a [`StateMachine`] of its own. It
//! decodes the command (`encoding`), asks whether the request was seen before (`session`) and, if
//! not, executes it on the keys and values (`store`). All of it is one plain value: cloned for a
//! snapshot, compared between servers by a test.

pub mod command;
pub mod encoding;
pub mod outcome;
pub mod session;
pub mod store;

pub use encoding::{DecodeError, check};

use command::Write;
use command::{Query, RequestId};
use outcome::{Change, Outcome};
use session::Sessions;
use store::Store;

/// What all servers agree on, after the same entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct StateMachine {
    /// The keys and values.
    store: Store,
    /// The requests seen.
    sessions: Sessions,
    /// The index of the last entry applied; 0 before the first.
    applied_index: u64,
    /// The highest stamp applied, in milliseconds: the time that decides what has expired.
    clock_ms: u64,
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
        bytes: &[u8],
        changes: &mut Vec<Change>,
    ) -> Applied {
        self.advance_to(index, stamp_ms, changes);
        let (request, floor, write) = encoding::decode(bytes).unwrap_or_else(|error| {
            panic!("State Machine Safety: the committed entry {index} cannot be executed: {error}")
        });
        let is_new = self.sessions.admit(request, floor);
        let outcome = is_new.then(|| match write {
            Write::Command(command) => self.store.execute(index, command),
            _ => Outcome::Nothing,
        });
        Applied { request, outcome }
    }

    /// Applies an entry at `index` that carries no command: the first one of a leader, or one that
    /// only carries time.
    pub fn apply_nothing(&mut self, index: u64, stamp_ms: u64, changes: &mut Vec<Change>) {
        self.advance_to(index, stamp_ms, changes);
    }

    /// Answers a query from the state as of `applied_index`. Whether that is recent enough for the
    /// client is the caller's concern (diss. §6.4). `now_ms` is the caller's estimate of the log
    /// time: it only counts down what TTL shows, and decides nothing.
    pub fn query(&self, query: &Query, _now_ms: u64) -> Outcome {
        self.store.query(query)
    }

    /// The log time up to which this state has come: the highest stamp applied, in milliseconds.
    pub fn clock_ms(&self) -> u64 {
        self.clock_ms
    }

    /// When the next key expires that is still kept; in the past if there are keys to be removed.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        None
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
    /// ones: for comparing servers at the same `applied_index`. It is computed afresh from
    /// every byte of the state, so it is asked for now and then, never per entry.
    pub fn state_hash(&self) -> u64 {
        let mut hash = Fnv1a::new();
        hash.number(self.applied_index);
        hash.number(self.store.iter().len() as u64);
        for (key, found) in self.store.iter() {
            hash.bytes(key);
            hash.bytes(&found.value);
            hash.number(found.version);
        }
        self.sessions.numbers().for_each(|number| hash.number(number));
        hash.0
    }

    fn advance_to(&mut self, index: u64, stamp_ms: u64, _changes: &mut Vec<Change>) {
        assert_eq!(index, self.applied_index + 1, "entries are applied in order, each once");
        self.applied_index = index;
        self.clock_ms = self.clock_ms.max(stamp_ms);
    }
}

/// FNV-1a, 64 bits: simple, and the same on every machine and in every version of ours, which the
/// standard library's hasher does not promise.
struct Fnv1a(u64);

impl Fnv1a {
    fn new() -> Fnv1a {
        Fnv1a(0xcbf2_9ce4_8422_2325)
    }

    fn number(&mut self, number: u64) {
        self.raw(&number.to_le_bytes());
    }

    /// The length goes first, so that `ab` + `c` and `a` + `bc` differ.
    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.raw(bytes);
    }

    fn raw(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::command::{Bytes, Command, Condition};
    use super::*;

    fn request(serial: u64) -> RequestId {
        RequestId { server: 1, incarnation: 1, serial }
    }

    fn stamped(request: RequestId, command: &Command) -> Vec<u8> {
        let mut bytes = encoding::encode(command);
        encoding::stamp(&mut bytes, request, 1);
        bytes
    }

    fn increment() -> Command {
        Command::Increment { key: Bytes::from(b"n".to_vec()), delta: 1 }
    }

    /// S71: the same request twice in the log counts once, and the second entry answers nobody.
    #[test]
    fn a_command_that_is_in_the_log_twice_is_executed_once() {
        let mut machine = StateMachine::default();
        let bytes = stamped(request(1), &increment());
        let first = machine.apply(1, &bytes);
        let executed = Some(Outcome::Integer(1));
        assert_eq!(first, Applied { request: request(1), outcome: executed.clone() });
        assert_eq!(machine.apply(2, &bytes), Applied { request: request(1), outcome: None });
        let other = RequestId { server: 2, ..request(1) };
        machine.apply_nothing(3);
        assert_eq!(
            machine.apply(4, &stamped(other, &increment())).outcome,
            Some(Outcome::Integer(2))
        );
        assert_eq!(machine.applied_index(), 4);
    }

    /// An entry left out or applied twice makes servers diverge for ever: better no server than
    /// that.
    #[test]
    #[should_panic(expected = "entries are applied in order, each once")]
    fn an_entry_cannot_be_skipped() {
        StateMachine::default().apply(2, &stamped(request(1), &increment()));
    }

    /// Ignoring bytes that one version cannot read, and another can, would make servers diverge.
    #[test]
    #[should_panic(expected = "the committed entry 1 cannot be executed")]
    fn bytes_that_nobody_checked_are_not_ignored() {
        StateMachine::default().apply(1, b"not a command");
    }

    /// Every part of the state has its share in the hash.
    #[test]
    fn different_states_have_different_hashes() {
        let set = |key: &[u8], value: &[u8]| Command::Set {
            key: Bytes::from(key.to_vec()),
            value: Bytes::from(value.to_vec()),
            condition: Condition::Always,
        };
        let mut machines = vec![StateMachine::default()];
        let other_server = RequestId { server: 2, ..request(1) };
        for (request, command) in [
            (request(1), set(b"ab", b"c")),
            (request(1), set(b"a", b"bc")),
            (request(2), set(b"a", b"bc")),
            (other_server, set(b"a", b"bc")),
        ] {
            let mut machine = StateMachine::default();
            machine.apply(1, &stamped(request, &command));
            machines.push(machine.clone());
            machine.apply_nothing(2);
            machines.push(machine);
        }
        for (position, machine) in machines.iter().enumerate() {
            assert_eq!(machine.clone().state_hash(), machine.state_hash());
            for other in &machines[..position] {
                assert_ne!(machine.state_hash(), other.state_hash(), "{machine:?} and {other:?}");
            }
        }
    }
}
