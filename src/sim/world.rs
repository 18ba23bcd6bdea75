//! The event loop: one thread, one clock that jumps, one queue of what will happen.
//!
//! A *step* gives one input to one server: a tick, a message, the end of a sync, finished tasks, a
//! client's requests, a fault. After every step the server's workers take what `work()` names,
//! exactly as the threads of `node` do, and the checks look at what has changed.

use super::checks::{Checked, Checks, Violation, check_batch, check_pending, ensure};
use super::clients::{Action, Clients};
use super::disk::{Disk, Ending};
use super::faults::{FaultKind, Plan, TICK};
use super::leaders::{self, Heard};
use super::network::{Network, Sent};
use super::queue::{Event, Micros, Place, Queue, Worker};
use super::random::Random;
use super::report::{Stats, Trace};
use crate::kv::StateMachine;
use crate::limits::APPLY_BYTES_MAX;
use crate::raft::message::Message;
use crate::raft::quorum::Membership;
use crate::raft::types::{Payload, ServerId};
use crate::raft::{ConnectionId, event};
use crate::server::{Finished, Server, Task, execute};

/// A whole cluster with its clients, its network and its misfortunes.
#[derive(Debug)]
pub struct World {
    pub(super) plan: Plan,
    pub(super) now: Micros,
    pub(super) queue: Queue,
    pub(super) machines: Vec<Machine>,
    pub(super) network: Network,
    pub(super) clients: Clients,
    pub(super) checks: Checks,
    pub(super) stats: Stats,
    pub(super) trace: Trace,
    /// Faults no longer begin.
    pub(super) peace: bool,
    /// Faults that wait for the next leader, by number.
    awaiting_leader: Vec<u16>,
    random: Random,
}

/// A machine: its disk, and the server that runs on it when it does.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) disk: Disk,
    pub(super) process: Option<Process>,
    /// Counts the processes that have run here.
    pub(super) life: u32,
    /// How many faults keep it down.
    down: u32,
    pub(super) frozen_until: Micros,
    tick_percent: u64,
}

/// A running server.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) server: Server,
    pub(super) state: StateMachine,
    heard: Heard,
    /// What the applier is busy with.
    tasks: Vec<Task>,
    /// Workers that will wake up; see `bell`.
    ringing: u32,
    /// When each peer's socket takes more.
    socket_free: [Micros; 8],
}

/// The id of the server at a place.
pub(super) fn id_of(place: Place) -> ServerId {
    ServerId(u32::from(place) + 1)
}

impl World {
    /// A world in which nothing has happened yet.
    pub fn new(plan: Plan, trace: Trace) -> World {
        let servers = plan.servers;
        let machine = |place: usize| Machine {
            disk: Disk::new(plan.seed, place as u64, plan.disk.segment_bytes),
            process: None,
            life: 0,
            down: 0,
            frozen_until: 0,
            tick_percent: 100,
        };
        let mut world = World {
            now: 0,
            queue: Queue::default(),
            machines: (0..servers).map(machine).collect(),
            network: Network::new(servers, plan.seed),
            clients: Clients::new(plan.seed, plan.clients.count),
            checks: Checks::new(servers),
            stats: Stats::default(),
            trace,
            peace: false,
            awaiting_leader: Vec::new(),
            random: Random::part(plan.seed, 4),
            plan,
        };
        for place in 0..servers as Place {
            world.queue.push(0, Event::Restart(place));
        }
        for client in 0..world.plan.clients.count as u16 {
            world.queue.push(u64::from(client) * 1_000, Event::Client(client));
        }
        for (number, fault) in world.plan.faults.iter().enumerate() {
            world.queue.push(fault.at, Event::Fault(number as u16));
        }
        world
    }

    /// Lets the next thing happen.
    pub fn step(&mut self) -> Checked {
        let (at, event) = self.queue.pop();
        self.now = at;
        if let Some(until) = self.frozen_until(event)
            && until > at
        {
            self.queue.push(until, event);
            return Ok(());
        }
        self.stats.mix(at);
        match event {
            Event::Tick(place, life) if self.lives(place, life) => self.tick(place),
            Event::Deliver(packet) => self.deliver(packet),
            Event::Synced(place, life) if self.lives(place, life) => self.synced(place),
            Event::Executed(place, life) if self.lives(place, life) => self.executed(place),
            Event::Wake(place, life, worker) if self.lives(place, life) => self.wake(place, worker),
            Event::Client(client) => self.client(client),
            Event::Fault(number) if !self.peace => self.fault_begins(number),
            Event::FaultEnds(number) => self.fault_ends(number),
            Event::Restart(place) => self.start(place),
            Event::Dial(from, to) => self.dial(from, to),
            Event::HungUp { at, life, from, connection } if self.lives(at, life) => {
                self.tell(|| format!("{} loses a connection from {}", id_of(at), id_of(from)));
                self.server(at).disconnected(id_of(from), ConnectionId(connection.into()));
                self.after(at)
            }
            _ => Ok(()), // it belonged to a process that is gone
        }
    }

    // ---- What happens to servers. ----

    fn tick(&mut self, place: Place) -> Checked {
        let machine = &self.machines[usize::from(place)];
        let next = self.now + TICK * machine.tick_percent / 100 + self.random.below(200);
        self.queue.push(next, Event::Tick(place, machine.life));
        // The log writer seals on a quiet tick.
        if !self.machines[usize::from(place)].disk.seal() {
            self.queue.push(self.now + 50_000, Event::Restart(place));
            return self.crash(place, Ending::Killed);
        }
        self.server(place).tick();
        let options = &self.plan.raft;
        let process = self.machines[usize::from(place)].process.as_mut().expect("it lives");
        process.heard.tick(process.server.raft(), place, options)?;
        self.after(place)
    }

    fn deliver(&mut self, number: u32) -> Checked {
        let packet = self.network.take(number);
        let (from, to) = (packet.from, packet.to);
        let stale = self.network.connection(from, to) != Some(packet.connection);
        if self.machines[usize::from(to)].process.is_none() || (self.plan.network.ordered && stale)
        {
            return Ok(());
        }
        self.stats.messages += 1;
        self.tell(|| format!("{} → {}  {}", id_of(from), id_of(to), super::report::said(&packet)));
        for message in &packet.content.raft {
            let shape = message.check_shape();
            ensure(shape.is_ok(), "Servers send well-formed messages", || format!("{message:?}"))?;
        }
        for message in &packet.content.gateway {
            let shape = message.check_shape(id_of(from));
            ensure(shape.is_ok(), "Servers send well-formed messages", || format!("{message:?}"))?;
        }
        let options = &self.plan.raft;
        let process = self.machines[usize::from(to)].process.as_mut().expect("asked above");
        process.heard.from(from);
        let before = process.server.raft().current_term();
        let must_refuse =
            leaders::must_refuse(process.server.raft(), &packet.content.raft, options);
        process.server.step(id_of(from), packet.content);
        if must_refuse {
            leaders::check_refused(process.server.raft(), before)?;
        }
        self.after(to)
    }

    fn synced(&mut self, place: Place) -> Checked {
        let machine = &mut self.machines[usize::from(place)];
        if self.now < machine.disk.hangs_until {
            self.queue.push(machine.disk.hangs_until, Event::Synced(place, machine.life));
            return Ok(());
        }
        let Some(write) = machine.disk.finish() else {
            self.tell(|| format!("{}: a write fails, the server ends", id_of(place)));
            let back = self.now + self.random.between(10_000, 200_000);
            self.queue.push(back, Event::Restart(place));
            return self.crash(place, Ending::Killed);
        };
        self.tell(|| {
            format!("{} has synced up to {:?}", id_of(place), write.entries.last().map(|e| e.id))
        });
        self.server(place).persisted(write.ticket);
        self.after(place)
    }

    fn executed(&mut self, place: Place) -> Checked {
        let process = self.process(place);
        let tasks = std::mem::take(&mut process.tasks);
        let is_command = |task: &Task| match task {
            Task::Apply(entry) => {
                matches!(entry.payload, Payload::Command(_)).then_some(entry.id.index.0)
            }
            Task::Query(_) => None,
        };
        let indexes: Vec<u64> = tasks.iter().filter_map(is_command).collect();
        let before = process.state.applied_index();
        let finished = execute(&mut process.state, tasks);
        let mut indexes = indexes.into_iter();
        for done in &finished {
            if let Finished::Applied { request, outcome } = done {
                let index = indexes.next().expect("each command has one result");
                self.checks.applied(place, index, *request, outcome.is_some())?;
            }
        }
        let process =
            self.machines[usize::from(place)].process.as_mut().expect("asked by the caller");
        if process.state.applied_index() > before {
            self.checks.state(place, &process.state)?;
        }
        process.server.finished(finished);
        self.after(place)
    }

    fn client(&mut self, client: u16) -> Checked {
        let pause = self.random.between(100, self.plan.clients.think_max);
        self.queue.push(self.now + pause, Event::Client(client));
        let mut lives = [None; 8];
        for (life, machine) in lives.iter_mut().zip(&self.machines) {
            *life = machine.process.is_some().then_some(machine.life);
        }
        let when = (self.now, self.stats.steps);
        let lives = &lives[..self.plan.servers];
        match self.clients.act(client, when, &self.plan.clients, lives) {
            Action::Wait => Ok(()),
            Action::HangUp(place, _, connection) => {
                self.tell(|| format!("client {client} hangs up on {}", id_of(place)));
                self.server(place).hang_up(connection);
                self.after(place)
            }
            Action::Submit(place, _, connection, requests) => {
                self.tell(|| format!("client {client} asks {}: {requests:?}", id_of(place)));
                self.server(place).submit(connection, requests);
                self.after(place)
            }
        }
    }

    // ---- Workers. ----

    /// After every step: workers take, checks look.
    fn after(&mut self, place: Place) -> Checked {
        self.stats.steps += 1;
        while self.ring_bells(place)? {}
        self.check(place)
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
    fn wake(&mut self, place: Place, worker: Worker) -> Checked {
        self.process(place).ringing &= !(1 << bell(worker));
        let work = self.process(place).server.work();
        let named = match worker {
            Worker::Write => work.write,
            Worker::Apply => work.apply,
            Worker::Answer => work.answers,
            Worker::Send(to) => work.send.contains(&id_of(to)),
        };
        self.work(place, worker, named)?;
        while self.ring_bells(place)? {}
        self.check(place)
    }

    /// A worker takes. `work()` must have told the truth about what there is.
    fn work(&mut self, place: Place, worker: Worker, named: bool) -> Checked {
        let took = match worker {
            Worker::Write => self.take_write(place)?,
            Worker::Apply => self.take_tasks(place, named),
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
        let Some(write) = self.process(place).server.take_write(bytes_max) else {
            return Ok(false);
        };
        check_batch(&write.entries, bytes_max)?;
        self.stats.writes += 1;
        let machine = &mut self.machines[usize::from(place)];
        let at = machine.disk.begin(now, &self.plan.disk, write);
        let life = machine.life;
        self.queue.push(at, Event::Synced(place, life));
        Ok(true)
    }

    fn take_tasks(&mut self, place: Place, named: bool) -> bool {
        let tasks = self.process(place).server.take_tasks(APPLY_BYTES_MAX);
        if tasks.is_empty() {
            // What was named were perhaps only reads, which the gateway has now.
            return named;
        }
        self.process(place).tasks = tasks;
        let at = self.now + self.random.between(0, self.plan.wake_max);
        let life = self.machines[usize::from(place)].life;
        self.queue.push(at, Event::Executed(place, life));
        true
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
        let outgoing = process.server.take_messages(id_of(to));
        if outgoing.is_empty() {
            return Ok(false);
        }
        let machine = &self.machines[usize::from(place)];
        let raft = machine.process.as_ref().expect("just used").server.raft();
        for message in &outgoing.raft {
            self.checks.promise(raft, to, message, machine.disk.image())?;
            if let Message::AppendEntries(append) = message {
                check_batch(&append.entries, self.plan.raft.append_bytes_max)?;
            }
        }
        let (habits, queue) = (&self.plan.network, &mut self.queue);
        let arrives = |at, number| queue.push(at, Event::Deliver(number));
        let sent = self.network.send(now, habits, (place, to), outgoing, arrives);
        if sent == Sent::ConnectionBreaks {
            self.break_connection(place, to);
        }
        Ok(true)
    }

    // ---- Connections. ----

    fn dial(&mut self, from: Place, to: Place) -> Checked {
        self.network.dialled(from, to);
        let up = |place: Place| self.machines[usize::from(place)].process.is_some();
        if !up(from) || self.network.connection(from, to).is_some() {
            return Ok(());
        }
        let passes = self.network.reaches(from, to) && self.network.reaches(to, from);
        let frozen =
            [from, to].iter().any(|&p| self.machines[usize::from(p)].frozen_until > self.now);
        if !up(to) || frozen || (self.plan.network.ordered && !passes) {
            self.dial_later(from, to);
            return Ok(());
        }
        let connection = self.network.connect(from, to);
        self.tell(|| format!("{} connects to {}", id_of(from), id_of(to)));
        self.server(to).connected(id_of(from), ConnectionId(connection.into()));
        self.after(to)?;
        self.server(from).link_renewed(id_of(to));
        self.after(from)
    }

    fn dial_later(&mut self, from: Place, to: Place) {
        if self.network.dials(from, to) {
            let pause = self.random.between(500, 30_000);
            self.queue.push(self.now + pause, Event::Dial(from, to));
        }
    }

    /// The connection from `from` to `to` is gone. The other end notices sooner, later, or when it
    /// is replaced.
    fn break_connection(&mut self, from: Place, to: Place) {
        let Some(connection) = self.network.disconnect(from, to) else { return };
        let machine = &self.machines[usize::from(to)];
        if machine.process.is_some() && !self.random.chance(self.plan.network.silent_close) {
            let at = self.now + self.random.between(10, 50_000);
            let life = machine.life;
            self.queue.push(at, Event::HungUp { at: to, life, from, connection });
        }
        self.dial_later(from, to);
    }

    // ---- Faults. ----

    fn fault_begins(&mut self, number: u16) -> Checked {
        if let FaultKind::Leader(what) = self.plan.faults[usize::from(number)].kind {
            let kind = what.at(self.leader(), self.plan.servers);
            self.plan.faults[usize::from(number)].kind = kind;
        }
        let fault = self.plan.faults[usize::from(number)];
        if let FaultKind::NewLeader(..) = fault.kind {
            self.awaiting_leader.push(number);
            return Ok(());
        }
        self.tell(|| format!("FAULT: {}", fault.kind));
        self.stats.faults += 1;
        let until = self.now + fault.lasts;
        self.queue.push(until, Event::FaultEnds(number));
        match fault.kind {
            FaultKind::Crash(who, ending) => {
                for place in (0..self.plan.servers as Place).filter(|place| who & (1 << place) != 0)
                {
                    self.machines[usize::from(place)].down += 1;
                    self.crash(place, ending)?;
                }
            }
            FaultKind::Partition(blocked) => self.network.part(number, blocked),
            FaultKind::Break(a, b) => {
                self.break_connection(a, b);
                self.break_connection(b, a);
            }
            FaultKind::Freeze(place) => {
                let machine = &mut self.machines[usize::from(place)];
                machine.frozen_until = machine.frozen_until.max(until);
            }
            FaultKind::Clock(place, percent) => {
                self.machines[usize::from(place)].tick_percent = percent.into();
            }
            FaultKind::SlowDisk(place, times) => {
                self.machines[usize::from(place)].disk.slower = times.into();
            }
            FaultKind::HungDisk(place) => {
                let disk = &mut self.machines[usize::from(place)].disk;
                disk.hangs_until = disk.hangs_until.max(until);
            }
            FaultKind::BadDisk(place) => {
                self.machines[usize::from(place)].disk.fails_next = true;
            }
            FaultKind::Leader(_) | FaultKind::NewLeader(..) => {
                unreachable!("it was resolved above")
            }
        }
        Ok(())
    }

    /// A leader is elected: what waited for it will happen.
    fn strike_new_leader(&mut self, place: Place) {
        for number in std::mem::take(&mut self.awaiting_leader) {
            let fault = &mut self.plan.faults[usize::from(number)];
            if let FaultKind::NewLeader(what, after) = fault.kind {
                fault.kind = what.at(place, self.plan.servers);
                self.queue.push(self.now + after, Event::Fault(number));
            }
        }
    }

    fn fault_ends(&mut self, number: u16) -> Checked {
        let fault = self.plan.faults[usize::from(number)];
        self.tell(|| format!("END: {}", fault.kind));
        match fault.kind {
            FaultKind::Crash(who, _) => {
                for place in (0..self.plan.servers as Place).filter(|place| who & (1 << place) != 0)
                {
                    let machine = &mut self.machines[usize::from(place)];
                    machine.down = machine.down.saturating_sub(1);
                    self.start(place)?;
                }
            }
            FaultKind::Partition(_) => self.network.heal(number),
            FaultKind::Clock(place, _) => self.machines[usize::from(place)].tick_percent = 100,
            FaultKind::SlowDisk(place, _) => self.machines[usize::from(place)].disk.slower = 1,
            FaultKind::Break(..)
            | FaultKind::Freeze(_)
            | FaultKind::HungDisk(_)
            | FaultKind::BadDisk(_)
            | FaultKind::Leader(_)
            | FaultKind::NewLeader(..) => {}
        }
        Ok(())
    }

    /// Who leads: of several, the one in the highest term; if nobody does, the first.
    fn leader(&self) -> Place {
        let term_led = |place: &Place| {
            let process = self.machines[usize::from(*place)].process.as_ref();
            let leads = process.filter(|process| process.server.raft().is_leader());
            leads.map(|process| process.server.raft().current_term())
        };
        let places = 0..self.plan.servers as Place;
        places.max_by_key(|place| (term_led(place), std::cmp::Reverse(*place))).unwrap_or(0)
    }

    /// A server ends. What was synced stays.
    fn crash(&mut self, place: Place, ending: Ending) -> Checked {
        let machine = &mut self.machines[usize::from(place)];
        if machine.process.take().is_none() {
            if ending == Ending::PowerLost {
                machine.disk.crash(ending); // what a killed process had written may still be lost
            }
            return Ok(());
        }
        self.stats.crashes += 1;
        machine.life += 1;
        machine.frozen_until = 0;
        machine.disk.crash(ending);
        for peer in (0..self.plan.servers as Place).filter(|&peer| peer != place) {
            self.break_connection(place, peer);
            self.break_connection(peer, place);
        }
        Ok(())
    }

    /// A server comes up, unless it is up or something keeps it down.
    fn start(&mut self, place: Place) -> Checked {
        let machine = &mut self.machines[usize::from(place)];
        if machine.process.is_some() || machine.down > 0 {
            return Ok(());
        }
        machine.disk.audit(u64::from(place) + 1)?;
        let before = machine.disk.image().clone();
        let recovered = machine.disk.recover(u64::from(place) + 1);
        let (found, incarnation) = recovered.map_err(|error| Violation {
            property: "A server that crashed starts again",
            detail: format!("{}: {error}", id_of(place)),
        })?;
        self.checks.recovered(place, &before, &found)?;
        self.machines[usize::from(place)].disk.found(&found);
        let membership = Membership::new((0..self.plan.servers as Place).map(id_of));
        let server = Server::new(
            id_of(place),
            membership,
            self.plan.raft.clone(),
            self.plan.gateway.clone(),
            found,
            incarnation,
            self.random.bits(),
        );
        let state = StateMachine::default();
        let process = Process {
            server,
            state,
            heard: Heard::default(),
            tasks: Vec::new(),
            ringing: 0,
            socket_free: [0; 8],
        };
        let machine = &mut self.machines[usize::from(place)];
        machine.process = Some(process);
        let life = machine.life;
        self.tell(|| format!("{} starts, life {incarnation}", id_of(place)));
        self.queue.push(self.now + self.random.between(1, TICK), Event::Tick(place, life));
        for peer in (0..self.plan.servers as Place).filter(|&peer| peer != place) {
            self.dial_later(place, peer);
        }
        self.after(place)
    }

    /// Everything that was wrong with a machine is right again.
    pub(super) fn heal_machine(&mut self, place: Place) -> Checked {
        let machine = &mut self.machines[usize::from(place)];
        machine.tick_percent = 100;
        machine.disk.slower = 1;
        machine.disk.fails_next = false;
        machine.down = 0;
        self.start(place)
    }

    // ---- Private. ----

    fn check(&mut self, place: Place) -> Checked {
        let machine = &mut self.machines[usize::from(place)];
        let Some(process) = &mut machine.process else { return Ok(()) };
        if process.server.raft().has_events() {
            let mut elected = false;
            for event in process.server.take_events() {
                self.stats.saw(&event);
                elected |= matches!(event, event::Event::BecameLeader { .. });
                if self.trace.is_on(self.stats.steps) {
                    let line = format!("        {} {event}", id_of(place));
                    self.trace.tell(self.now, self.stats.steps, line);
                }
            }
            if elected {
                self.strike_new_leader(place);
            }
        }
        let machine = &self.machines[usize::from(place)];
        let Some(process) = &machine.process else { return Ok(()) };
        let raft = process.server.raft();
        self.checks.after_step(place, machine.life, raft)?;
        if self.checks.has_committed(place, raft) {
            let machines = &self.machines;
            let on_disks =
                |id| machines.iter().filter(|machine| machine.disk.image().holds(id)).count();
            self.checks.after_commit(place, raft, on_disks)?;
        }
        self.stats.mix(raft.commit_index().0 ^ raft.current_term().0 << 32);
        check_pending(&process.server, self.plan.gateway.pending_bytes_max)
    }

    /// Until when the server that this happens to is frozen.
    fn frozen_until(&self, event: Event) -> Option<Micros> {
        let place = match event {
            Event::Tick(place, _)
            | Event::Synced(place, _)
            | Event::Executed(place, _)
            | Event::Wake(place, ..)
            | Event::HungUp { at: place, .. } => place,
            Event::Deliver(number) => self.network.peek(number).to,
            _ => return None,
        };
        Some(self.machines[usize::from(place)].frozen_until)
    }

    fn lives(&self, place: Place, life: u32) -> bool {
        let machine = &self.machines[usize::from(place)];
        machine.process.is_some() && machine.life == life
    }

    fn process(&mut self, place: Place) -> &mut Process {
        self.machines[usize::from(place)].process.as_mut().expect("the caller knows that it runs")
    }

    fn server(&mut self, place: Place) -> &mut Server {
        &mut self.process(place).server
    }

    /// Adds a line to the transcript, if there is one.
    pub(super) fn tell(&mut self, line: impl FnOnce() -> String) {
        if self.trace.is_on(self.stats.steps) {
            self.trace.tell(self.now, self.stats.steps, line());
        }
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

impl Stats {
    fn saw(&mut self, event: &event::Event) {
        match event {
            event::Event::BecameCandidate { .. } => self.elections += 1,
            event::Event::BecameLeader { .. } => self.leaders += 1,
            event::Event::Truncated { .. } => self.truncations += 1,
            _ => {}
        }
    }
}
