//! What the applier does with the tasks it has taken: the only place where the state machine is
//! touched.

use std::collections::VecDeque;

use crate::gateway::{ClientId, Slot};
use crate::kv::StateMachine;
use crate::kv::command::{Outcome, RequestId};
use crate::raft::types::{Entry, Payload};

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

/// Does the tasks in order.
pub fn execute(machine: &mut StateMachine, tasks: Vec<Task>) -> Vec<Finished> {
    execute_some(machine, &mut VecDeque::from(tasks), usize::MAX)
}

/// Does the tasks in order until their outcomes weigh more than `outcome_bytes_max`; at least one,
/// and leaves the rest. A question of a few bytes can have an answer of megabytes, so what bounds
/// the questions does not bound the memory that their answers take.
pub fn execute_some(
    machine: &mut StateMachine,
    tasks: &mut VecDeque<Task>,
    outcome_bytes_max: usize,
) -> Vec<Finished> {
    let mut finished = Vec::new();
    let mut bytes = 0;
    while bytes <= outcome_bytes_max
        && let Some(task) = tasks.pop_front()
    {
        if let Some(done) = execute_one(machine, task) {
            bytes += done.bytes();
            finished.push(done);
        }
    }
    finished
}

impl Finished {
    /// Bytes of keys and values in the outcome.
    fn bytes(&self) -> usize {
        match self {
            Finished::Applied { outcome, .. } => outcome.as_ref().map_or(0, outcome_bytes),
            Finished::Answered { outcome, .. } => outcome_bytes(outcome),
        }
    }
}

fn outcome_bytes(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Value(value) => value.len(),
        Outcome::List(list) => list.iter().map(outcome_bytes).sum(),
        _ => 0,
    }
}

fn execute_one(machine: &mut StateMachine, task: Task) -> Option<Finished> {
    match task {
        Task::Apply(Entry { id, payload: Payload::Noop }) => {
            machine.apply_nothing(id.index.0);
            None
        }
        Task::Apply(Entry { id, payload: Payload::Command(command) }) => {
            let applied = machine.apply(id.index.0, &command.0);
            Some(Finished::Applied { request: applied.request, outcome: applied.outcome })
        }
        Task::Query(PendingRead { client, slot, query }) => {
            let outcome = machine.query(&query);
            Some(Finished::Answered { client, slot, outcome })
        }
    }
}
