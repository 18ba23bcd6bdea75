//! The applier: the only thread that touches the state machine, which it owns.

use crate::kv::StateMachine;
use crate::limits;
use crate::server::{self, Finished, Server};

use super::doorbell::Bell;
use super::monitor::{Deliver, Monitor, Worker};

/// The body of the thread `applier`: takes committed entries and confirmed reads, executes them,
/// and tells the gateway, which answers.
pub fn run<D: Deliver>(monitor: &Monitor<D>, bell: &Bell, machine: &mut StateMachine) {
    let mut finished: Vec<Finished> = Vec::new();
    loop {
        let tell_and_take = |server: &mut Server| {
            server.finished(std::mem::take(&mut finished));
            let tasks = server.take_tasks(limits::APPLY_BYTES_MAX);
            (!tasks.is_empty()).then_some(tasks)
        };
        match monitor.take_or_wait(Worker::Applier, tell_and_take) {
            Some(tasks) => finished = server::execute(machine, tasks),
            None => {
                bell.wait();
            }
        }
    }
}
