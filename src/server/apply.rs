//! What the applier does with the tasks it has taken: the only place where the state machine is
//! touched.

use std::collections::VecDeque;
use std::iter;

use super::divergence::StateHash;
use crate::gateway::{ClientId, Slot};
use crate::kv::StateMachine;
use crate::kv::command::{Change, Outcome, Query, RequestId};
use crate::kv::session::Sessions;
use crate::lab::{Rule, removed};
use crate::limits::{self, STATE_HASH_EVERY_ENTRIES};
use crate::raft::types::{Entry, Index, Payload, SnapshotId, Stamp};

pub use crate::gateway::PendingRead;

/// An entry of up to so many bytes is short.
const SHORT_ENTRY_BYTES_MAX: usize = 4096;

/// Tasks whose keys are looked for in memory together, before the first of them is executed.
const FETCHED_TASKS: usize = 32;

/// Something for the state machine, to be done in the order it was handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Go on from this snapshot, which has been installed.
    Restore(SnapshotId),
    /// A snapshot of the state as it is now is to be written.
    Freeze(SnapshotId),
    /// Apply this committed entry [ALL1].
    Apply(Entry),
    /// Execute this query as the store is now.
    Query(PendingRead),
}

impl Task {
    /// Who asks, if it is a query.
    fn reader(&self) -> Option<ClientId> {
        match self {
            Task::Query(read) => Some(read.client),
            _ => None,
        }
    }

    /// The key of a GET.
    fn key_to_get(&self) -> Option<&[u8]> {
        match self {
            Task::Query(PendingRead { query: Query::Get { key }, .. }) => Some(key),
            _ => None,
        }
    }

    /// The command of an entry.
    fn command(&self) -> Option<&[u8]> {
        match self {
            Task::Apply(Entry { payload: Payload::Command(command), .. }) => Some(&command.0),
            _ => None,
        }
    }

    /// Whether it is certain to cost about as much as looking up a key.
    pub fn is_short(&self) -> bool {
        match self {
            Task::Restore(_) | Task::Freeze(_) => false,
            Task::Apply(entry) => entry.payload.len() <= SHORT_ENTRY_BYTES_MAX,
            Task::Query(read) => {
                matches!(read.query, Query::Get { .. } | Query::Type { .. } | Query::AppliedIndex)
            }
        }
    }
}

/// What became of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finished {
    /// The state was replaced by a snapshot's, which holds the effects of entries that were not
    /// applied here.
    Restored {
        /// The requests that are among them.
        sessions: Sessions,
    },
    /// A command was applied.
    Applied {
        /// Its request id.
        request: RequestId,
        /// Its outcome; `None` if it was a duplicate and was ignored.
        outcome: Option<Outcome>,
    },
    /// A query was executed.
    Answered {
        /// Who asked.
        client: ClientId,
        /// Which of its requests.
        slot: Slot,
        /// The answer.
        outcome: Outcome,
    },
}

/// What executing tasks came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Executed {
    /// For the gateway, in order.
    pub finished: Vec<Finished>,
    /// The state was replaced by that of a snapshot, which stands at this log index. What has
    /// changed on the way to it is not known.
    pub restored_at: Option<u64>,
    /// What has changed in the store, in order, for those who watch it; since the snapshot, if
    /// there was one.
    pub changes: Vec<Change>,
    /// When the next key expires.
    pub next_deadline: Option<Stamp>,
    /// The state's hash at the last index among these that servers compare.
    pub hash: Option<StateHash>,
}

/// Where states wait on their way between the one who applies entries and the one who writes and
/// reads snapshots.
pub trait SnapshotShelf {
    /// This is the state at `snapshot`: to be written.
    fn freeze(&mut self, snapshot: SnapshotId, state: StateMachine);
    /// The state that was built from this snapshot when it was installed.
    fn restored(&mut self, snapshot: SnapshotId) -> StateMachine;
}

/// A shelf for where one thread does everything.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    /// Frozen and not yet written.
    pub frozen: Option<(SnapshotId, StateMachine)>,
    /// Built from snapshots and not yet gone on from. Usually one: the next may be installed before
    /// its predecessor's turn has come.
    pub restored: Vec<(SnapshotId, StateMachine)>,
}

impl Shelf {
    /// The state that was built last, from this snapshot, is not needed: its snapshot was no news.
    ///
    /// An older one of the same snapshot may still wait for its turn. (A leader sends a snapshot,
    /// loses its term, wins another and sends the same one again: when the second copy is complete,
    /// the first has been installed, and the applier may not have come to it.)
    pub fn take_back(&mut self, snapshot: SnapshotId) {
        self.restored.pop_if(|(last, _)| *last == snapshot);
    }
}

impl SnapshotShelf for Shelf {
    fn freeze(&mut self, snapshot: SnapshotId, state: StateMachine) {
        self.frozen = Some((snapshot, state));
    }

    fn restored(&mut self, snapshot: SnapshotId) -> StateMachine {
        let found = self.restored.iter().position(|(id, _)| *id == snapshot);
        let found = found.expect("a state is put here before its snapshot is installed");
        self.restored.drain(..=found).next_back().expect("it was found").1
    }
}

/// How much the applier builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerBounds {
    /// The largest answer to one query, in bytes of keys and values.
    pub reply_bytes_max: usize,
    /// Outcomes that are gathered before they are handed on: clients go on while the next ones are
    /// being executed.
    pub outcomes_max: usize,
    /// The same, in readers: a client's consecutive queries count once, as they are answered with
    /// one call of the system.
    pub readers_max: usize,
    /// The same for outcomes and changes, in bytes, about.
    pub outcome_bytes_max: usize,
}

impl Default for AnswerBounds {
    fn default() -> AnswerBounds {
        AnswerBounds {
            reply_bytes_max: limits::REPLY_BYTES_MAX,
            outcomes_max: limits::OUTCOMES_MAX,
            readers_max: limits::READERS_MAX,
            outcome_bytes_max: limits::OUTCOME_BYTES_MAX,
        }
    }
}

/// Does the tasks in order. `now` is the server's estimate of the log time, which TTL counts from.
pub fn execute(
    machine: &mut StateMachine,
    tasks: Vec<Task>,
    now: Stamp,
    shelf: &mut impl SnapshotShelf,
) -> Executed {
    let bounds = AnswerBounds {
        outcomes_max: usize::MAX,
        readers_max: usize::MAX,
        outcome_bytes_max: usize::MAX,
        ..AnswerBounds::default()
    };
    execute_some(machine, &mut VecDeque::from(tasks), now, bounds, shelf)
}

/// Does the tasks in order until their outcomes and changes come to a bound; at least one, and
/// leaves the rest. A question of a few bytes can have an answer of megabytes, so what bounds the
/// questions does not bound the memory that their answers take.
pub fn execute_some(
    machine: &mut StateMachine,
    tasks: &mut VecDeque<Task>,
    now: Stamp,
    bounds: AnswerBounds,
    shelf: &mut impl SnapshotShelf,
) -> Executed {
    let outcomes = tasks.len().min(bounds.outcomes_max);
    let writes = tasks.iter().take(outcomes).filter(|task| task.command().is_some()).count();
    let mut executed = Executed {
        finished: Vec::with_capacity(outcomes),
        changes: Vec::with_capacity(writes),
        ..Executed::default()
    };
    let (mut bytes, mut counted) = (0, 0);
    let (mut readers, mut last_reader) = (0, None);
    let mut fetched_left = 0;
    while executed.finished.len() < bounds.outcomes_max
        && bytes <= bounds.outcome_bytes_max
        && let Some(task) = tasks.pop_front_if(|task| {
            let is_next_reader = task.reader().is_some_and(|reader| last_reader != Some(reader));
            readers < bounds.readers_max || !is_next_reader
        })
    {
        if fetched_left == 0 {
            fetched_left = FETCHED_TASKS;
            let next = || iter::once(&task).chain(tasks.iter()).take(FETCHED_TASKS);
            machine.fetch_to_set(next().filter_map(Task::command));
            machine.fetch_to_get(next().filter_map(Task::key_to_get));
        }
        fetched_left -= 1;
        let done = match task {
            Task::Restore(snapshot) => {
                *machine = shelf.restored(snapshot);
                executed.restored_at = Some(machine.applied_index());
                executed.changes.clear();
                counted = 0;
                Some(Finished::Restored { sessions: machine.sessions().clone() })
            }
            Task::Freeze(snapshot) => {
                shelf.freeze(snapshot, machine.clone());
                None
            }
            Task::Apply(entry) => {
                let done = apply(machine, entry, now, &mut executed.changes);
                let index = machine.applied_index();
                if index.is_multiple_of(STATE_HASH_EVERY_ENTRIES) {
                    let hash = machine.state_hash();
                    executed.hash = Some(StateHash { index: Index(index), hash });
                }
                done
            }
            Task::Query(PendingRead { client, slot, query }) => {
                readers += usize::from(last_reader.replace(client) != Some(client));
                let outcome = machine.query(&query, now.0, bounds.reply_bytes_max);
                Some(Finished::Answered { client, slot, outcome })
            }
        };
        if let Some(done) = done {
            bytes += done.bytes();
            executed.finished.push(done);
        }
        bytes += executed.changes[counted..].iter().map(Change::bytes).sum::<usize>();
        counted = executed.changes.len();
    }
    executed.next_deadline = machine.next_deadline_ms().map(Stamp);
    executed
}

impl Finished {
    /// Bytes of keys and values in the outcome.
    fn bytes(&self) -> usize {
        match self {
            Finished::Applied { outcome, .. } => outcome.as_ref().map_or(0, Outcome::bytes),
            Finished::Answered { outcome, .. } => outcome.bytes(),
            Finished::Restored { .. } => 0,
        }
    }
}

fn apply(
    machine: &mut StateMachine,
    entry: Entry,
    now: Stamp,
    changes: &mut Vec<Change>,
) -> Option<Finished> {
    let Entry { id, stamp, payload } = entry;
    let stamp = if removed(Rule::StampsTellTheTime) { now } else { stamp };
    match payload {
        Payload::Noop => {
            machine.apply_nothing(id.index.0, stamp.0, changes);
            None
        }
        Payload::Command(command) => {
            let applied = machine.apply(id.index.0, stamp.0, &command.0, changes);
            Some(Finished::Applied { request: applied.request, outcome: applied.outcome })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::types::{EntryId, Term};

    /// S82: a snapshot that comes twice is installed once, and the applier finds its state.
    #[test]
    fn a_state_that_is_no_news_leaves_the_one_that_was() {
        let snapshot = SnapshotId { last: EntryId::new(Term(1), Index(5)), stamp: Stamp(7) };
        let mut shelf = Shelf::default();
        shelf.restored.push((snapshot, StateMachine::default()));
        shelf.restored.push((snapshot, StateMachine::default()));
        shelf.take_back(snapshot);
        assert_eq!(shelf.restored.len(), 1);
        let mut machine = StateMachine::default();
        let now = Stamp::default();
        let executed = execute(&mut machine, vec![Task::Restore(snapshot)], now, &mut shelf);
        assert!(executed.restored_at.is_some());
        // The applier was faster, and the copy that is left is the second.
        shelf.restored.push((snapshot, StateMachine::default()));
        shelf.take_back(snapshot);
        assert!(shelf.restored.is_empty());
    }
}
