//! What the applier does with the tasks it has taken: the only place where the state machine is
//! touched.

use std::collections::VecDeque;

use crate::gateway::{ClientId, Slot};
use crate::kv::StateMachine;
use crate::kv::command::{Change, Outcome, RequestId};
use crate::lab::{Rule, removed};
use crate::limits;
use crate::raft::types::{Entry, Payload, Stamp};

pub use crate::gateway::PendingRead;

/// Something for the state machine, to be done in the order it was handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Apply this committed entry [ALL1].
    Apply(Entry),
    /// Execute this query as the store is now.
    Query(PendingRead),
}

/// What became of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finished {
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
    /// What has changed in the store, in order, for those who watch it.
    pub changes: Vec<Change>,
    /// When the next key expires.
    pub next_deadline: Option<Stamp>,
}

/// How much the applier builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerBounds {
    /// The largest answer to one query, in bytes of keys and values.
    pub reply_bytes_max: usize,
    /// Outcomes and changes that are gathered before they are handed on, in bytes, about.
    pub outcome_bytes_max: usize,
}

impl Default for AnswerBounds {
    fn default() -> AnswerBounds {
        AnswerBounds {
            reply_bytes_max: limits::REPLY_BYTES_MAX,
            outcome_bytes_max: limits::OUTCOME_BYTES_MAX,
        }
    }
}

/// Does the tasks in order. `now` is the server's estimate of the log time, which TTL counts from.
pub fn execute(machine: &mut StateMachine, tasks: Vec<Task>, now: Stamp) -> Executed {
    let bounds = AnswerBounds { outcome_bytes_max: usize::MAX, ..AnswerBounds::default() };
    execute_some(machine, &mut VecDeque::from(tasks), now, bounds)
}

/// Does the tasks in order until their outcomes and changes weigh more than the bound; at
/// least one, and leaves the rest. A question of a few bytes can have an answer of megabytes, so
/// what bounds the questions does not bound the memory that their answers take.
pub fn execute_some(
    machine: &mut StateMachine,
    tasks: &mut VecDeque<Task>,
    now: Stamp,
    bounds: AnswerBounds,
) -> Executed {
    let mut executed = Executed::default();
    let (mut bytes, mut counted) = (0, 0);
    while bytes <= bounds.outcome_bytes_max
        && let Some(task) = tasks.pop_front()
    {
        if let Some(done) = execute_one(machine, task, now, bounds, &mut executed.changes) {
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
        }
    }
}

fn execute_one(
    machine: &mut StateMachine,
    task: Task,
    now: Stamp,
    bounds: AnswerBounds,
    changes: &mut Vec<Change>,
) -> Option<Finished> {
    match task {
        Task::Apply(Entry { id, stamp, payload: Payload::Noop }) => {
            let stamp = if removed(Rule::StampsTellTheTime) { now } else { stamp };
            machine.apply_nothing(id.index.0, stamp.0, changes);
            None
        }
        Task::Apply(Entry { id, stamp, payload: Payload::Command(command) }) => {
            let stamp = if removed(Rule::StampsTellTheTime) { now } else { stamp };
            let applied = machine.apply(id.index.0, stamp.0, &command.0, changes);
            Some(Finished::Applied { request: applied.request, outcome: applied.outcome })
        }
        Task::Query(PendingRead { client, slot, query }) => {
            let outcome = machine.query(&query, now.0, bounds.reply_bytes_max);
            Some(Finished::Answered { client, slot, outcome })
        }
    }
}
