//! What the applier does with the tasks it has taken: the only place where the state machine is
//! touched.

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
    tasks.into_iter().filter_map(|task| execute_one(machine, task)).collect()
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
