//! The applier: the only thread that touches the state machine, which it owns.

use std::collections::VecDeque;

use crate::kv::StateMachine;
use crate::limits;
use crate::raft::types::Stamp;
use crate::server::{self, AnswerBounds, Finished, Server, SnapshotShelf, Task};

use super::doorbell::Bell;
use super::history::History;
use super::monitor::{Deliver, Monitor, Worker};

/// The body of the thread `applier`: takes committed entries and confirmed reads, executes them,
/// tells the gateway, which answers, and leaves what has changed to those who watch. No answer to a
/// query is longer than `reply_bytes_max`.
pub fn run<D: Deliver>(
    monitor: &Monitor<D>,
    bell: &Bell,
    machine: &mut StateMachine,
    history: &History,
    reply_bytes_max: usize,
    shelf: &mut impl SnapshotShelf,
) {
    let bounds = AnswerBounds { reply_bytes_max, ..AnswerBounds::default() };
    let mut finished: Vec<Finished> = Vec::new();
    let mut next_deadline = machine.next_deadline_ms().map(Stamp);
    let mut hash = None;
    let mut now = Stamp::default();
    let mut tasks: VecDeque<Task> = VecDeque::new();
    loop {
        let tell_and_take = |server: &mut Server| {
            server.finished(std::mem::take(&mut finished), next_deadline, hash.take());
            now = server.log_time();
            if tasks.is_empty() {
                tasks.extend(server.take_tasks(limits::APPLY_BYTES_MAX));
            }
            (!tasks.is_empty()).then_some(())
        };
        match monitor.take_or_wait(Worker::Applier, tell_and_take) {
            Some(()) => {
                let executed = server::execute_some(machine, &mut tasks, now, bounds, shelf);
                if let Some(index) = executed.restored_at {
                    history.begin_anew(index);
                }
                history.add(executed.changes);
                (finished, next_deadline) = (executed.finished, executed.next_deadline);
                hash = executed.hash;
            }
            None => {
                bell.wait();
            }
        }
    }
}
