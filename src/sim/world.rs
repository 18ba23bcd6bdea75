//! The event loop: one thread, one clock that jumps, one queue of what will happen.
//!
//! A *step* gives one input to one server: a tick, a message, the end of a sync, finished tasks, a
//! client's requests, a fault. After every step the server's workers take what `work()` names,
//! exactly as the threads of `node` do, and the checks look at what has changed.

use super::absence::Absence;
use super::bounds::{check_pending, check_uncommitted};
use super::checks::{Checked, Checks, ensure};
use super::clients::Clients;
use super::disk::{Disk, Ending, Outcome};
use super::faults::{Moment, TICK};
use super::gateways::{self, Courier, Questions};
use super::leaders::{self, Heard};
use super::network::Network;
use super::plan::Plan;
use super::queue::{Event, Micros, Place, Queue};
use super::random::Random;
use super::report::{Stats, Trace};
use super::rest::Rest;
use super::snapshots::Snapshotter;
use super::stamps::Stamps;
use super::witness::Witness;
use crate::kv::StateMachine;
use crate::raft::event;
use crate::raft::types::{Payload, ServerId};
use crate::server::{Finished, Server, Shelf, Task, execute};

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
    pub(super) questions: Questions,
    pub(super) stats: Stats,
    pub(super) trace: Trace,
    /// Faults no longer begin.
    pub(super) peace: bool,
    /// Who is still out although the faults have ended.
    pub(super) absence: Option<Absence>,
    /// Faults that wait for a leader to come to a moment of its work.
    pub(super) ambushes: Vec<(Moment, u16)>,
    /// The moment to which this step has brought a leader.
    pub(super) moment: Option<(Place, Moment)>,
    pub(super) random: Random,
}

/// A machine: its disk, and the server that runs on it when it does.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) disk: Disk,
    pub(super) process: Option<Process>,
    /// Counts the processes that have run here.
    pub(super) life: u32,
    /// How many faults keep it down.
    pub(super) down: u32,
    pub(super) frozen_until: Micros,
    pub(super) tick_percent: u64,
}

/// A running server.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) server: Server,
    pub(super) state: StateMachine,
    pub(super) shelf: Shelf,
    pub(super) snapshotter: Snapshotter,
    pub(super) heard: Heard,
    pub(super) witness: Witness,
    pub(super) courier: Courier,
    pub(super) stamps: Stamps,
    /// What the applier is busy with.
    pub(super) tasks: Vec<Task>,
    /// Workers that will wake up; see `bell`.
    pub(super) ringing: u32,
    /// What its own clock says, and when it was read last.
    pub(super) clock: Micros,
    pub(super) clock_read_at: Micros,
    /// How often its clock has ticked.
    pub(super) ticks: u64,
    /// When each peer's socket takes more.
    pub(super) socket_free: [Micros; 8],
}

/// States are compared at one index in so many, and when a cluster has settled: to hash a state
/// takes longer than most steps.
const STATES_COMPARED: u64 = 4;

/// The id of the server at a place.
pub(super) fn id_of(place: Place) -> ServerId {
    ServerId(u32::from(place) + 1)
}

impl World {
    /// A world in which nothing has happened yet.
    pub fn new(plan: Plan, trace: Trace) -> World {
        let servers = plan.servers;
        let machine = |place: usize| Machine {
            disk: Disk::new(plan.seed, place as u64, &plan.disk),
            process: None,
            life: 0,
            down: 0,
            frozen_until: 0,
            tick_percent: plan.tick_percent[place],
        };
        let mut world = World {
            now: 0,
            queue: Queue::default(),
            machines: (0..servers).map(machine).collect(),
            network: Network::new(servers, plan.seed),
            clients: Clients::new(plan.seed, plan.clients.count),
            checks: Checks::new(servers),
            questions: Questions::default(),
            stats: Stats::default(),
            trace,
            peace: false,
            absence: None,
            ambushes: Vec::new(),
            moment: None,
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
        self.happens(event)?;
        if let Some((leader, Moment::Elected)) = self.moment {
            // The worst time for what was said long ago to arrive.
            let (now, queue) = (self.now, &mut self.queue);
            let arrives = |number| queue.push(now + 1, Event::Deliver(number));
            self.network.stragglers_arrive(leader, arrives);
        }
        match self.moment.take() {
            Some(moment) if !self.ambushes.is_empty() => self.spring(moment),
            _ => Ok(()),
        }
    }

    fn happens(&mut self, event: Event) -> Checked {
        match event {
            Event::Tick(place, life) if self.lives(place, life) => self.tick(place),
            Event::Deliver(packet) => self.deliver(packet),
            Event::Synced(place, life) if self.lives(place, life) => self.synced(place),
            Event::Executed(place, life) if self.lives(place, life) => self.executed(place),
            Event::Snapshot(place, life) if self.lives(place, life) => self.snapshot_done(place),
            Event::Wake(place, life, worker) if self.lives(place, life) => self.wake(place, worker),
            Event::Client(client) => self.client(client),
            Event::Fault(number) if !self.peace => self.fault_begins(number),
            Event::FaultEnds(number) => self.fault_ends(number),
            Event::Restart(place) => self.start(place),
            Event::Dial(from, to) => self.dial(from, to),
            Event::HungUp { at, life, from, connection } if self.lives(at, life) => {
                self.tell(|| format!("{} loses a connection from {}", id_of(at), id_of(from)));
                self.hung_up(at, from, connection)
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
        if !self.tend_disk(place)? {
            return Ok(());
        }
        let now_ms = self.tell_time(place);
        let options = &self.plan.raft;
        let process = self.machines[usize::from(place)].process.as_mut().expect("it lives");
        process.ticks += 1;
        process.witness.before_tick(process.server.raft(), options)?;
        let rest = Rest::of(&process.server);
        process.server.tick(now_ms);
        rest.check(&process.server)?;
        process.witness.after_tick(process.server.raft(), options)?;
        process.heard.tick(process.server.raft(), place, options)?;
        self.operator_acts(place);
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
        self.tell_time(to);
        let options = &self.plan.raft;
        let process = self.machines[usize::from(to)].process.as_mut().expect("asked above");
        process.heard.from(from);
        let before = process.server.raft().current_term();
        let must_refuse =
            leaders::must_refuse(process.server.raft(), &packet.content.raft, options);
        let told =
            process.witness.before_step(process.server.raft(), from, &packet.content.raft, options);
        process.courier.hears(&packet.content.gateway);
        let forwarded = gateways::forwarded(&packet.content.gateway);
        process.server.step(id_of(from), packet.content);
        told.check(process.server.raft(), id_of(from))?;
        if must_refuse {
            leaders::check_refused(process.server.raft(), before)?;
        }
        self.after(to)?;
        self.check_taken(from, to, &forwarded)
    }

    fn synced(&mut self, place: Place) -> Checked {
        let machine = &mut self.machines[usize::from(place)];
        if self.now < machine.disk.hangs_until {
            self.queue.push(machine.disk.hangs_until, Event::Synced(place, machine.life));
            return Ok(());
        }
        let write = match machine.disk.finish() {
            Outcome::Synced(write) => write,
            Outcome::NoSpace => return self.write_waits(place),
            Outcome::Failed(error) => return self.write_failed(place, &error),
        };
        self.tell(|| {
            format!("{} has synced up to {:?}", id_of(place), write.entries.last().map(|e| e.id))
        });
        self.tell_time(place);
        self.tell_room(place);
        self.server(place).persisted(write.ticket);
        let raft = self.server(place).raft();
        if raft.is_leader() && raft.commit_index() < raft.log().last_index() {
            self.moment = Some((place, Moment::Synced));
        }
        self.after(place)
    }

    fn executed(&mut self, place: Place) -> Checked {
        self.tell_time(place);
        let process = self.process(place);
        let tasks = std::mem::take(&mut process.tasks);
        let is_command = |task: &Task| match task {
            Task::Apply(entry) => {
                matches!(entry.payload, Payload::Command(_)).then_some(entry.id.index.0)
            }
            Task::Query(_) | Task::Restore(_) | Task::Freeze(_) => None,
        };
        let indexes: Vec<u64> = tasks.iter().filter_map(is_command).collect();
        let before = process.state.applied_index();
        let now = process.server.log_time();
        let executed = execute(&mut process.state, tasks, now, &mut process.shelf);
        let mut indexes = indexes.into_iter();
        for done in &executed.finished {
            if let Finished::Applied { request, outcome } = done {
                let index = indexes.next().expect("each command has one result");
                self.checks.applied(place, index, *request, outcome.is_some())?;
            }
        }
        let process =
            self.machines[usize::from(place)].process.as_mut().expect("asked by the caller");
        let index = process.state.applied_index();
        if index > before && index.is_multiple_of(STATES_COMPARED) {
            self.checks.state(place, &process.state)?;
        }
        process.server.finished(executed.finished, executed.next_deadline, executed.hash);
        if executed.restored_at.is_some() {
            self.checks.after_restore(place, process.server.gateway(), index)?;
        }
        self.after(place)
    }

    // ---- Workers. ----

    /// After every step: workers take, checks look.
    pub(super) fn after(&mut self, place: Place) -> Checked {
        self.stats.steps += 1;
        self.ring_until_quiet(place)?;
        self.check(place)
    }

    pub(super) fn check(&mut self, place: Place) -> Checked {
        let machine = &mut self.machines[usize::from(place)];
        let Some(process) = &mut machine.process else { return Ok(()) };
        process.stamps.check(process.server.raft(), process.clock / 1000)?;
        if process.server.raft().has_events() {
            for event in process.server.take_events() {
                self.stats.saw(&event);
                process.witness.saw(&event, process.server.raft(), &self.plan.raft)?;
                match event {
                    event::Event::BecameLeader { .. } => {
                        self.moment = Some((place, Moment::Elected));
                    }
                    event::Event::Committed { .. } if process.server.raft().is_leader() => {
                        self.moment = Some((place, Moment::Committed));
                    }
                    _ => {}
                }
                if self.trace.is_on(self.stats.steps) {
                    let line = format!("        {} {event}", id_of(place));
                    self.trace.tell(self.now, self.stats.steps, line);
                }
            }
        }
        let machine = &self.machines[usize::from(place)];
        let Some(process) = &machine.process else { return Ok(()) };
        let raft = process.server.raft();
        ensure(!process.server.has_difference(), "State Machine Safety", || {
            format!("{} has another state than the others", id_of(place))
        })?;
        self.checks.after_step(place, machine.life, raft)?;
        if self.checks.has_committed(place, raft) {
            let machines = &self.machines;
            let on_disks =
                |id| machines.iter().filter(|machine| machine.disk.image().holds(id)).count();
            self.checks.after_commit((place, self.stats.steps), raft, on_disks)?;
        }
        self.stats.mix(raft.commit_index().0 ^ raft.current_term().0 << 32);
        check_uncommitted(raft, self.plan.raft.uncommitted_bytes_max)?;
        check_pending(&process.server, self.plan.gateway.pending_bytes_max)
    }

    /// Until when the server that this happens to is frozen.
    fn frozen_until(&self, event: Event) -> Option<Micros> {
        let place = match event {
            Event::Tick(place, _)
            | Event::Synced(place, _)
            | Event::Executed(place, _)
            | Event::Snapshot(place, _)
            | Event::Wake(place, ..)
            | Event::HungUp { at: place, .. } => place,
            Event::Deliver(number) => self.network.peek(number).to,
            _ => return None,
        };
        Some(self.machines[usize::from(place)].frozen_until)
    }

    pub(super) fn lives(&self, place: Place, life: u32) -> bool {
        let machine = &self.machines[usize::from(place)];
        machine.process.is_some() && machine.life == life
    }

    pub(super) fn process(&mut self, place: Place) -> &mut Process {
        self.machines[usize::from(place)].process.as_mut().expect("the caller knows that it runs")
    }

    /// Moves a server's own clock to now and tells the server: it may run fast or slow, and it goes
    /// on while the server is frozen.
    pub(super) fn tell_time(&mut self, place: Place) -> u64 {
        let now = self.now;
        let machine = &mut self.machines[usize::from(place)];
        let percent = machine.tick_percent;
        let process = machine.process.as_mut().expect("only a server that lives is told");
        process.clock += (now - process.clock_read_at) * 100 / percent;
        process.clock_read_at = now;
        let now_ms = process.clock / 1000;
        process.server.set_time(now_ms);
        now_ms
    }

    pub(super) fn server(&mut self, place: Place) -> &mut Server {
        &mut self.process(place).server
    }

    /// Adds a line to the transcript, if there is one.
    pub(super) fn tell(&mut self, line: impl FnOnce() -> String) {
        if self.trace.is_on(self.stats.steps) {
            self.trace.tell(self.now, self.stats.steps, line());
        }
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
