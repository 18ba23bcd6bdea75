//! The state machine as a whole: against the model, and each rule by itself.

mod expiry;
mod machine;
mod model_agrees;
mod once;
mod reads;
mod scan;
mod snapshot;
mod transactions;

use super::command::*;
use super::*;
use crate::limits::REPLY_BYTES_MAX;

/// A state machine that is given one write after the other, each 1 ms after the one before.
#[derive(Clone, Default)]
struct Server {
    machine: StateMachine,
    now_ms: u64,
    changes: Vec<Change>,
}

impl Server {
    fn write(&mut self, write: impl Into<Write>) -> Outcome {
        self.now_ms += 1;
        let index = self.machine.applied_index() + 1;
        let mut bytes = encoding::encode(&write.into());
        encoding::stamp(&mut bytes, RequestId { server: 1, incarnation: 1, serial: index }, 1);
        let applied = self.machine.apply(index, self.now_ms, &bytes, &mut self.changes);
        applied.outcome.expect("each request is new")
    }

    /// An entry that only carries time.
    fn tick(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.machine.apply_nothing(self.machine.applied_index() + 1, now_ms, &mut self.changes);
    }

    fn ask(&mut self, query: Query) -> Outcome {
        match self.machine.query(&query, self.now_ms, REPLY_BYTES_MAX) {
            Outcome::Frozen(frozen) => frozen.answer(),
            outcome => outcome,
        }
    }

    fn watch(&mut self, key: &str) -> Watch {
        match self.ask(Query::Watch { keys: vec![bytes(key)] }) {
            Outcome::Watched { seen_at, existed } => {
                Watch { key: bytes(key), seen_at, existed: existed[0] }
            }
            other => panic!("WATCH answers what it saw, not {other:?}"),
        }
    }

    /// Whether a transaction under this watch takes place.
    fn exec(&mut self, watch: &Watch) -> bool {
        let operations = vec![Operation::Query(Query::AppliedIndex)];
        let watches = vec![watch.clone()];
        self.write(Write::Transaction { watches, operations }) != Outcome::Aborted
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::from(text.to_string())
}

fn value(text: &str) -> Outcome {
    Outcome::Value(bytes(text))
}

fn set(key: &str, value: &str) -> Command {
    Command::set(bytes(key), bytes(value), Condition::Always)
}

/// SET key value PX ms.
fn set_for(key: &str, value: &str, ms: i64) -> Command {
    Command::Set {
        key: bytes(key),
        value: bytes(value),
        condition: Condition::Always,
        expiry: Expiry::Set(Deadline::In(ms)),
        answer: SetAnswer::Done,
    }
}

fn delete(key: &str) -> Command {
    Command::Delete { keys: vec![bytes(key)] }
}

fn get(key: &str) -> Query {
    Query::Get { key: bytes(key) }
}

fn increment(key: &str) -> Command {
    Command::Increment { key: bytes(key), delta: 1 }
}
