//! The applier: the only thread that touches the state machine, which it owns.

use std::collections::VecDeque;

use crate::kv::StateMachine;
use crate::limits;
use crate::server::{self, Finished, Server, Task};

use super::doorbell::Bell;
use super::monitor::{Deliver, Monitor, Worker};

/// The body of the thread `applier`: takes committed entries and confirmed reads, executes them,
/// and tells the gateway, which answers.
pub fn run<D: Deliver>(monitor: &Monitor<D>, bell: &Bell, machine: &mut StateMachine) {
    let mut finished: Vec<Finished> = Vec::new();
    let mut tasks: VecDeque<Task> = VecDeque::new();
    loop {
        let tell_and_take = |server: &mut Server| {
            server.finished(std::mem::take(&mut finished));
            if tasks.is_empty() {
                tasks.extend(server.take_tasks(limits::APPLY_BYTES_MAX));
            }
            (!tasks.is_empty()).then_some(())
        };
        match monitor.take_or_wait(Worker::Applier, tell_and_take) {
            Some(()) => {
                finished = server::execute_some(machine, &mut tasks, limits::OUTCOME_BYTES_MAX);
            }
            None => {
                bell.wait();
            }
        }
    }
}
