//! The worker threads of a server, without threads: which bells ring after a step, and what each
//! worker takes when it wakes up.
//!
//! `work()` is the law here. A worker is rung exactly when `work()` names it, and what it then
//! takes must be exactly what was named: a bell that does not ring leaves a real server asleep with
//! work to do, and one that rings for nothing keeps a real processor busy for ever. So each take is
//! held against its bell.
//!
//! A worker may wake up late (`Plan::wake_max`) and find that what it was rung for is gone: a
//! message meanwhile changed the term, say. And a socket may be busy: what gathers behind it leaves
//! as one batch.

use super::bounds::{check_batch, check_room, check_window};
use super::checks::{Checked, Violation, ensure};
use super::faults::Moment;
use super::network::Sent;
use super::queue::{Event, Place, Worker};
use super::world::{World, id_of};
use crate::limits::APPLY_BYTES_MAX;
use crate::raft::message::Message;

/// Rounds of work that one step may cause: far more than there are entries or messages to take.
const RINGS_MAX: u32 = 10_000;

impl World {
    /// Lets workers take until nothing is left to take at once.
    pub(super) fn ring_until_quiet(&mut self, place: Place) -> Checked {
        let mut rings = 0;
        while self.ring_bells(place)? {
            rings += 1;
            ensure(rings < RINGS_MAX, "Work comes to an end", || {
                let work = self.process(place).server.work();
                format!("{} has had {rings} rounds of work, and has {work:?}", id_of(place))
            })?;
        }
        Ok(())
    }

    /// Rings the bells that `work()` names. Returns whether a worker has taken something at once,
    /// after which there may be more to do.
    fn ring_bells(&mut self, place: Place) -> Result<bool, Violation> {
        let machine = &self.machines[usize::from(place)];
        let Some(process) = &machine.process else { return Ok(false) };
        let work = process.server.work();
        let mut took = false;
        if work.write && !machine.disk.is_busy() {
            took |= self.ring(place, Worker::Write)?;
        }
        let machine = &self.machines[usize::from(place)];
        if work.apply && machine.process.as_ref().is_some_and(|process| process.tasks.is_empty()) {
            took |= self.ring(place, Worker::Apply)?;
        }
        if work.answers {
            took |= self.ring(place, Worker::Answer)?;
        }
        took |= self.ring_snapshotter(place);
        for peer in work.send {
            let to = (peer.0 - 1) as Place;
            if self.network.connection(place, to).is_some() {
                took |= self.ring(place, Worker::Send(to))?;
            }
        }
        Ok(took)
    }

    /// Wakes a worker: at once, or after a moment. Returns whether it has taken something.
    fn ring(&mut self, place: Place, worker: Worker) -> Result<bool, Violation> {
        let bell = 1 << bell(worker);
        if self.process(place).ringing & bell != 0 {
            return Ok(false);
        }
        let mut at = self.now;
        if let Worker::Send(to) = worker {
            at = at.max(self.process(place).socket_free[usize::from(to)]);
        }
        if self.plan.wake_max > 0 {
            at += self.random.between(0, self.plan.wake_max);
        }
        if at > self.now {
            self.process(place).ringing |= bell;
            let life = self.machines[usize::from(place)].life;
            self.queue.push(at, Event::Wake(place, life, worker));
            return Ok(false);
        }
        self.work(place, worker, true)?;
        Ok(true)
    }

    /// A worker that was rung wakes up. What it was rung for may be gone.
    pub(super) fn wake(&mut self, place: Place, worker: Worker) -> Checked {
        self.process(place).ringing &= !(1 << bell(worker));
        let work = self.process(place).server.work();
        let named = match worker {
            Worker::Write => work.write,
            Worker::Apply => work.apply,
            Worker::Answer => work.answers,
            Worker::Send(to) => work.send.contains(&id_of(to)),
        };
        self.work(place, worker, named)?;
        self.ring_until_quiet(place)?;
        self.check(place)
    }

    /// A worker takes. `work()` must have told the truth about what there is.
    fn work(&mut self, place: Place, worker: Worker, named: bool) -> Checked {
        let took = match worker {
            Worker::Write => self.take_write(place)?,
            Worker::Apply => self.take_tasks(place, named)?,
            Worker::Answer => self.take_answers(place)?,
            Worker::Send(to) if self.network.connection(place, to).is_none() => return Ok(()),
            Worker::Send(to) => self.take_messages(place, to)?,
        };
        ensure(took == named, "Work is what there is to take", || {
            format!("{}: {worker:?} named={named} but took={took}", id_of(place))
        })
    }

    fn take_write(&mut self, place: Place) -> Result<bool, Violation> {
        let bytes_max = self.plan.disk.write_bytes_max;
        let now = self.now;
        let server = &mut self.process(place).server;
        let room_bytes = server.raft().room_bytes();
        let Some(write) = server.take_write(bytes_max) else {
            return Ok(false);
        };
        check_batch(&write.entries, bytes_max)?;
        check_room(&write, room_bytes, server.raft().log())?;
        self.stats.writes += 1;
        let machine = &mut self.machines[usize::from(place)];
        let at = machine.disk.begin(now, &self.plan.disk, write);
        let life = machine.life;
        self.queue.push(at, Event::Synced(place, life));
        Ok(true)
    }

    fn take_tasks(&mut self, place: Place, named: bool) -> Result<bool, Violation> {
        let tasks = self.process(place).server.take_tasks(APPLY_BYTES_MAX);
        if tasks.is_empty() {
            // What was named were perhaps only reads, which the gateway has now.
            let left = named && self.process(place).server.work().apply;
            ensure(!left, "Work is what there is to take", || {
                format!("{}: tasks are named, and none can be taken", id_of(place))
            })?;
            return Ok(named);
        }
        self.process(place).tasks = tasks;
        let slowest = self.plan.apply_max[usize::from(place)];
        let at = self.now + self.random.between(0, self.plan.wake_max.max(slowest));
        let life = self.machines[usize::from(place)].life;
        self.queue.push(at, Event::Executed(place, life));
        Ok(true)
    }

    fn take_answers(&mut self, place: Place) -> Result<bool, Violation> {
        let answers = self.process(place).server.take_answers();
        let took = !answers.is_empty();
        for answer in answers {
            self.tell(|| format!("{} answers {answer:?}", id_of(place)));
            self.clients.answered((self.now, self.stats.steps), place, answer)?;
        }
        Ok(took)
    }

    fn take_messages(&mut self, place: Place, to: Place) -> Result<bool, Violation> {
        let now = self.now;
        let busy = self.random.between(0, self.plan.socket_max);
        let process = self.process(place);
        process.socket_free[usize::from(to)] = now + busy;
        let mut outgoing = process.server.take_messages(id_of(to));
        if outgoing.is_empty() {
            return Ok(false);
        }
        process.snapshotter.fill_in(&mut outgoing);
        let machine = &mut self.machines[usize::from(place)];
        let process = machine.process.as_mut().expect("just used");
        let (raft, witness) = (process.server.raft(), &mut process.witness);
        let carries =
            |it: &Message| matches!(it, Message::AppendEntries(it) if !it.entries.is_empty());
        if outgoing.raft.iter().any(carries) {
            self.moment = Some((place, Moment::Sent));
            check_window(raft, id_of(to), self.plan.raft.window_bytes_max)?;
        }
        for message in &outgoing.raft {
            self.checks.promise(raft, to, message, machine.disk.image())?;
            witness.leaves(to, message, raft)?;
            if let Message::AppendEntries(append) = message {
                check_batch(&append.entries, self.plan.raft.append_bytes_max)?;
            }
        }
        for message in &outgoing.gateway {
            process.courier.leaves(to, message, raft.current_term())?;
            let committed = self.checks.committed_count();
            self.questions.leaves((place, to), message, committed)?;
            witness.answers(to, message, raft)?;
        }
        let (habits, queue) = (&self.plan.network, &mut self.queue);
        let arrives = |at, number| queue.push(at, Event::Deliver(number));
        let sent = self.network.send(now, habits, (place, to), outgoing, arrives);
        if sent == Sent::ConnectionBreaks {
            self.break_connection(place, to);
        }
        Ok(true)
    }
}

/// Each worker's bit.
fn bell(worker: Worker) -> u32 {
    match worker {
        Worker::Write => 8,
        Worker::Apply => 9,
        Worker::Answer => 10,
        Worker::Send(to) => u32::from(to),
    }
}
