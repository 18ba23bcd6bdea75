//! Applying: what is done by whoever has the state machine.
//!
//! There is one state machine, and who has it has the right to apply. It rests behind the monitor's
//! mutex. A thread that leaves with something to apply takes it out with the tasks; what is small
//! it does itself, which saves a hand-over, and the rest is the applier's thread's (see `monitor`).
//! Whoever has it does what has become due meanwhile before laying it to rest, so nobody else need
//! look.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_channel::Receiver;

use crate::kv::StateMachine;
use crate::limits;
use crate::raft::types::{Index, Stamp};
use crate::server::divergence::StateHash;
use crate::server::{self, AnswerBounds, Finished, Server, Task};

use super::history::History;
use super::monitor::{Deliver, Monitor};
use super::snapshotter::Shelf;

/// Entries that a passing thread applies itself. Measured: with more of them a hand-over is cheaper
/// than to keep the thread that learns of commits from the next one (256 writers: 9 %).
const PASSING_ENTRIES_MAX: usize = 4;

/// Up to so many queries a passing thread begins to execute. A read round has nothing to wait for
/// meanwhile (256 readers are 18 % slower if all is handed over at once).
const PASSING_QUERIES_MAX: usize = 256;

/// The readers whose queries a passing thread executes before it hands over the others. Most of the
/// time of a read is the system call that sends the answer, so two threads are faster: side by side
/// 64 readers got 1.07 times as much as with one, and 256 readers 1.14 times.
const PASSING_READERS_MAX: usize = 16;

/// The state machine with what it has been told to do and what it has done.
pub struct Applier {
    machine: StateMachine,
    /// Where those who watch look for what has changed.
    history: Arc<History>,
    /// Where states wait on their way from and to snapshots.
    shelf: Shelf,
    bounds: AnswerBounds,
    tasks: VecDeque<Task>,
    /// The log time when they were taken.
    now: Stamp,
    /// Up to which index the log was forgotten then.
    forgotten: Index,
    /// Done, and not told to the server.
    finished: Vec<Finished>,
    next_deadline: Option<Stamp>,
    hash: Option<StateHash>,
}

impl Applier {
    /// Applies to `machine`. No answer to a query is longer than `reply_bytes_max`.
    pub fn new(
        machine: StateMachine,
        history: Arc<History>,
        reply_bytes_max: usize,
        shelf: Shelf,
    ) -> Applier {
        Applier {
            history,
            shelf,
            bounds: AnswerBounds { reply_bytes_max, ..AnswerBounds::default() },
            tasks: VecDeque::new(),
            now: Stamp::default(),
            forgotten: Index::ZERO,
            finished: Vec::new(),
            next_deadline: machine.next_deadline_ms().map(Stamp),
            hash: None,
            machine,
        }
    }

    /// Under the lock: takes what is to be done. Returns whether there is anything.
    pub fn take(&mut self, server: &mut Server) -> bool {
        self.now = server.log_time();
        self.forgotten = server.raft().log().base().index;
        if self.tasks.is_empty() && server.has_tasks() {
            self.tasks.extend(server.take_tasks(limits::APPLY_BYTES_MAX));
        }
        !self.tasks.is_empty()
    }

    /// Under the lock: tells what has been done.
    pub fn tell(&mut self, server: &mut Server) {
        let finished = std::mem::take(&mut self.finished);
        server.finished(finished, self.next_deadline, self.hash.take());
    }

    /// Outside: does tasks, all of them if their outcomes are not too many and not too large.
    pub fn execute(&mut self) {
        self.execute_within(self.bounds);
    }

    /// The same for a thread that passes by: leaves what others can do meanwhile.
    pub fn execute_passing(&mut self) {
        self.execute_within(AnswerBounds { readers_max: PASSING_READERS_MAX, ..self.bounds });
    }

    fn execute_within(&mut self, bounds: AnswerBounds) {
        let executed = server::execute_some(
            &mut self.machine,
            &mut self.tasks,
            self.now,
            bounds,
            &mut self.shelf,
        );
        if let Some(index) = executed.restored_at {
            self.history.begin_anew(index);
        }
        self.history.add(executed.changes, self.forgotten.0);
        self.finished = executed.finished;
        (self.next_deadline, self.hash) = (executed.next_deadline, executed.hash);
    }

    /// Whether the tasks are so few and short that a passing thread begins with them.
    pub fn is_quickly_done(&self) -> bool {
        let entries = self.tasks.iter().filter(|task| matches!(task, Task::Apply(_))).count();
        entries <= PASSING_ENTRIES_MAX
            && self.tasks.len() <= PASSING_QUERIES_MAX
            && self.tasks.iter().all(Task::is_short)
    }
}

/// The body of the thread `applier`: gets the state machine whenever there is more to do than a
/// passing thread should.
pub fn run<D: Deliver>(monitor: &Monitor<D>, handed_over: &Receiver<Box<Applier>>) {
    for applier in handed_over {
        monitor.apply(applier);
    }
}
