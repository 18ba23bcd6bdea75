//! The one mutex. Every thread that touches the server's state does so inside [`Monitor::with`],
//! and inside it there is no I/O, no logging, no encoding and no waiting.
//!
//! When a thread leaves, it carries out what its input made possible, so that nothing waits for a
//! wake-up: it delivers the answers that became known, it *takes and sends* to every peer whose
//! link is idle, and it applies what is small. On the path of a single write that saves a hand-over
//! between threads (about 25 µs each) at the leader's proposal, the follower's echo, the follower's
//! acknowledgement, and when the leader learns that the write is committed.
//!
//! # Who may send to a peer
//!
//! At most one thread at a time has the *right to send* to a peer; a link is idle when nobody has
//! it. Rights are taken and given back under the mutex, and whoever gives one back looks first
//! whether more has become due meanwhile. So when a thread finds messages due and the link not
//! idle, it need not do or ring anything: the holder will see them. The holder is either a thread
//! that passes by, which never blocks, or the link's own worker, which may: it connects, reads
//! parts of snapshots from the disk, and sends what a full socket did not take.
//!
//! # Who applies
//!
//! The same, with a thing instead of a right: the state machine rests behind the mutex while nobody
//! applies (see `applier`).
//!
//! # What time it is
//!
//! Whoever enters to tell the server something brings its ticks up to date first. So the ticker
//! need not: it sleeps until a tick may do something (see `ticker`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::gateway::Answered;
use crate::raft::durability::Write;
use crate::raft::event::Event;
use crate::raft::types::ServerId;
use crate::server::divergence::Difference;
use crate::server::{Outgoing, Server};

use super::applier::Applier;
use super::doorbell::Button;
use super::links::Links;
use super::ticker::Ticks;

/// How often in a row a passing thread sends to the same peers before it leaves the rest to their
/// workers.
const ROUNDS_MAX: usize = 4;

/// The server's state behind its mutex, and the bells of those who work for it.
pub struct Monitor<D: Deliver> {
    state: Mutex<State>,
    started: Instant,
    /// Wakes the ticker.
    alarm: Condvar,
    workers: Workers,
    links: Arc<Links>,
    deliver: D,
}

/// The way to those who work for the server.
pub struct Workers {
    /// For what is to be on disk.
    pub log_writer: Button,
    /// For what is to be applied. There is one `Applier`, so there is always room for it.
    pub applier: Sender<Box<Applier>>,
    /// For snapshots.
    pub snapshotter: Button,
}

/// Where what leaves the mutex goes, other than to peers.
pub trait Deliver {
    /// Answers for clients, in the order in which they became known.
    fn answers(&self, answers: Vec<Answered>);
    /// What happened in the core.
    fn events(&self, events: Vec<Event>);
    /// Our state is not another server's.
    fn difference(&self, difference: Difference);
}

struct State {
    server: Server,
    /// Whether the log writer waits at its bell. Only then it must be rung for: while it is at work
    /// (under load always) it comes by itself before it waits.
    log_writer_waits: bool,
    /// Who applies, while it rests.
    applier: Option<Box<Applier>>,
    /// The right to send to each peer.
    rights: BTreeMap<ServerId, Right>,
    /// How far time has come for the server.
    ticks: Ticks,
    /// Our state is not the others', and the process about to end.
    is_wrong: bool,
}

impl State {
    /// The state machine with tasks, if it rests and there are any.
    fn take_applier(&mut self) -> Option<Box<Applier>> {
        if !self.server.has_tasks() {
            return None;
        }
        let mut applier = self.applier.take()?;
        if applier.take(&mut self.server) {
            return Some(applier);
        }
        self.applier = Some(applier);
        None
    }
}

/// Who may send to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    /// The link is up and nobody sends.
    Free,
    /// Somebody has it, and will look again before giving it back.
    Taken,
}

impl<D: Deliver> Monitor<D> {
    /// Puts `server` behind the mutex. All workers start awake, and all links' workers hold their
    /// rights; the state machine is not there until `apply` was called.
    pub fn new(
        server: Server,
        tick: Duration,
        workers: Workers,
        links: Arc<Links>,
        deliver: D,
    ) -> Monitor<D> {
        let rights = links.peers().map(|peer| (peer, Right::Taken)).collect();
        let ticks = Ticks::new(tick);
        let (log_writer_waits, applier, is_wrong) = (false, None, false);
        let state = State { server, log_writer_waits, applier, rights, ticks, is_wrong };
        let (state, alarm, started) = (Mutex::new(state), Condvar::new(), Instant::now());
        Monitor { state, started, alarm, workers, links, deliver }
    }

    /// Enters, lets `act` happen to the server, leaves, and carries out what that made possible.
    pub fn with<R>(&self, act: impl FnOnce(&mut Server) -> R) -> R {
        let mut state = self.enter();
        let result = act(&mut state.server);
        self.leave(state);
        result
    }

    /// As `with`, for the log writer: when there is nothing to take, it is noted that it is about
    /// to wait at its bell.
    pub fn take_write_or_wait(&self, bytes_max: usize) -> Option<Write> {
        let mut state = self.enter();
        let write = state.server.take_write(bytes_max);
        state.log_writer_waits = write.is_none();
        self.leave(state);
        write
    }

    /// For the ticker: brings time up to date, and then sleeps until a tick may do something.
    pub fn tick_and_sleep(&self) {
        let mut state = self.enter();
        let State { server, ticks, .. } = &mut *state;
        ticks.set_alarm(server.ticks_until_due(ticks.tick_ms()));
        self.leave(state);
        let mut state = self.state.lock();
        let sleep = state.ticks.until_alarm(self.now_ms());
        if !sleep.is_zero() {
            self.alarm.wait_for(&mut state, sleep);
        }
    }

    /// For whoever has the state machine: does its tasks and what has become due meanwhile, and
    /// lays it to rest.
    pub fn apply(&self, mut applier: Box<Applier>) {
        loop {
            applier.execute();
            let mut state = self.enter();
            applier.tell(&mut state.server);
            if !applier.take(&mut state.server) {
                state.applier = Some(applier);
                return self.leave(state);
            }
            self.leave(state);
        }
    }

    /// As `apply`, for a thread that passes by and has done all it came for: what is too much for
    /// it, it hands over.
    fn apply_passing(&self, mut applier: Box<Applier>) {
        if !applier.is_quickly_done() {
            return self.give_to_applier(applier);
        }
        applier.execute_passing();
        let mut state = self.enter();
        applier.tell(&mut state.server);
        if applier.take(&mut state.server) {
            self.leave_with(state, Some(applier));
        } else {
            state.applier = Some(applier);
            self.leave(state);
        }
    }

    fn give_to_applier(&self, applier: Box<Applier>) {
        let given = self.workers.applier.send(applier);
        given.expect("the applier's thread lives as long as the process");
    }

    fn enter(&self) -> MutexGuard<'_, State> {
        let mut guard = self.state.lock();
        let now_ms = self.now_ms();
        let State { server, ticks, .. } = &mut *guard;
        server.set_time(now_ms);
        for _ in 0..ticks.take(now_ms) {
            server.tick(now_ms);
        }
        guard
    }

    /// What our monotonic clock says, in milliseconds since the start. Asked under the lock: a
    /// process may be paused while it waits for it.
    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Looks without changing anything.
    pub fn look<R>(&self, ask: impl FnOnce(&Server) -> R) -> R {
        ask(&self.state.lock().server)
    }

    /// For a link's worker, which has the right to send: what is due, or `None` after giving the
    /// right back.
    pub fn take_messages_or_release(&self, to: ServerId) -> Option<Outgoing> {
        let mut state = self.state.lock();
        if state.server.has_messages(to) {
            let outgoing = state.server.take_messages(to);
            self.leave(state);
            return Some(outgoing);
        }
        state.rights.insert(to, Right::Free);
        None
    }

    /// For a link's worker: takes the right to send if nobody has it.
    pub fn try_acquire(&self, to: ServerId) -> bool {
        self.state.lock().rights.insert(to, Right::Taken) == Some(Right::Free)
    }

    /// Takes what `state.server` now wants done, unlocks, and does it: the disk is set to work
    /// first, then the peers' disks, then come the clients, and at last what this thread applies.
    fn leave(&self, state: MutexGuard<'_, State>) {
        self.leave_with(state, None);
    }

    /// The same with tasks that are begun: the applier's thread goes on with them while this one
    /// sends answers.
    fn leave_with(&self, mut state: MutexGuard<'_, State>, begun: Option<Box<Applier>>) {
        // Before the messages: what may be applied can make more to send.
        let applier = state.take_applier();
        let work = state.server.work();
        let ring_log_writer = work.write && std::mem::take(&mut state.log_writer_waits);
        let (mut outgoing, mut for_workers) = (Vec::new(), Vec::new());
        for peer in work.send {
            if state.rights.get(&peer) == Some(&Right::Free) {
                state.rights.insert(peer, Right::Taken);
                if state.server.raft().has_snapshot_part(peer) {
                    for_workers.push(peer); // it is read from disk, which blocks
                } else {
                    outgoing.push((peer, state.server.take_messages(peer)));
                }
            }
        }
        let answers = if work.answers { state.server.take_answers() } else { Vec::new() };
        let events = state.server.take_events();
        let difference = state.server.take_difference();
        state.is_wrong |= matches!(difference, Some(Difference::Ours { .. }));
        let is_wrong = state.is_wrong;
        let State { server, ticks, .. } = &mut *state;
        let wake_ticker = ticks.set_alarm_earlier(|tick_ms| server.ticks_until_due(tick_ms));
        drop(state);

        if ring_log_writer {
            self.workers.log_writer.ring();
        }
        for peer in for_workers {
            self.links.leave_to_worker(peer);
        }
        self.send(outgoing);
        if work.snapshot {
            self.workers.snapshotter.ring();
        }
        if wake_ticker {
            self.alarm.notify_one();
        }
        if let Some(begun) = begun {
            self.give_to_applier(begun);
        }
        if let Some(difference) = difference {
            self.deliver.difference(difference);
        }
        // A state that is not the others' answers nobody.
        if !answers.is_empty() && !is_wrong {
            self.deliver.answers(answers);
        }
        if !events.is_empty() {
            self.deliver.events(events);
        }
        if let Some(applier) = applier {
            self.apply_passing(applier);
        }
    }

    /// With the rights to send to these peers: sends without blocking, looks whether more has
    /// become due, and so on. Each right is given back when nothing is due, or left to the link's
    /// worker: if the link is down or full, if the disk must be read, or after `ROUNDS_MAX` rounds.
    fn send(&self, mut outgoing: Vec<(ServerId, Outgoing)>) {
        for round in 1.. {
            outgoing.retain_mut(|(peer, due)| self.links.send(*peer, std::mem::take(due)));
            if outgoing.is_empty() {
                return;
            }
            let mut state = self.state.lock();
            let mut for_workers = Vec::new();
            outgoing.retain_mut(|(peer, messages)| {
                if round == ROUNDS_MAX || state.server.raft().has_snapshot_part(*peer) {
                    for_workers.push(*peer);
                    return false;
                }
                if !state.server.has_messages(*peer) {
                    state.rights.insert(*peer, Right::Free);
                    return false;
                }
                *messages = state.server.take_messages(*peer);
                true
            });
            drop(state);
            for peer in for_workers {
                self.links.leave_to_worker(peer);
            }
        }
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    use crossbeam_channel::bounded;

    use crate::gateway;
    use crate::node::doorbell::doorbell;
    use crate::raft::quorum::Membership;
    use crate::raft::{self, Recovered};

    /// Where nobody wants to know.
    pub struct Nobody;

    impl Deliver for Nobody {
        fn answers(&self, _: Vec<Answered>) {}
        fn events(&self, _: Vec<Event>) {}
        fn difference(&self, _: Difference) {}
    }

    /// Server `id` of this many, as it found itself on its disk.
    pub fn server(id: u32, of: u32, recovered: Recovered) -> Server {
        let raft_options = raft::Options {
            heartbeat_ticks: 2,
            election_min_ticks: 10,
            election_max_ticks: 20,
            append_bytes_max: 1000,
            window_bytes_max: 1000,
            uncommitted_bytes_max: 1000,
            snapshots: raft::SnapshotOptions::NEVER,
        };
        let gateway_options = gateway::Options {
            pending_bytes_max: 10_000,
            deadline_ticks: 500,
            resend_ticks: 20,
            backoff_ticks: 2,
            forward_bytes_max: 1000,
        };
        let membership = Membership::new((1..=of).map(ServerId));
        Server::new(ServerId(id), membership, raft_options, gateway_options, recovered, 1, 1)
    }

    impl<D: Deliver> Monitor<D> {
        /// Of a server whose links to these peers are down, and for which nobody works.
        pub fn around(server: Server, peers: &[u32], deliver: D) -> Monitor<D> {
            Monitor::around_with(server, Duration::from_millis(10), peers, deliver)
        }

        /// The same, with ticks of another length.
        pub fn around_with(
            server: Server,
            tick: Duration,
            peers: &[u32],
            deliver: D,
        ) -> Monitor<D> {
            let workers = Workers {
                log_writer: doorbell().0,
                applier: bounded(1).0,
                snapshotter: doorbell().0,
            };
            let senders = peers.iter().map(|peer| (ServerId(*peer), doorbell().0));
            let links = Arc::new(Links::new(senders, Arc::default()));
            Monitor::new(server, tick, workers, links, deliver)
        }

        /// Of a server of three that hears nobody, so that what it is asked stays pending.
        pub fn of_three(deliver: D) -> Monitor<D> {
            Monitor::around(server(1, 3, Recovered::default()), &[], deliver)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{Nobody, server};
    use super::*;

    use crate::gateway::message::GatewayMessage;
    use crate::gateway::{ClientId, Request, Slot};
    use crate::kv::StateMachine;
    use crate::kv::command::Query;
    use crate::node::doorbell::doorbell;
    use crate::node::history::History;
    use crate::node::snapshotter::Shelf;
    use crate::raft::Recovered;
    use crate::raft::types::{Command, EntryId, HardState, Index, SnapshotId, Stamp, Term};
    use crate::server::divergence::StateHash;

    /// What was delivered, in its order.
    #[derive(Default)]
    struct Heard(Mutex<Vec<&'static str>>);

    impl Deliver for Heard {
        fn answers(&self, _: Vec<Answered>) {
            self.0.lock().push("answers");
        }
        fn events(&self, _: Vec<Event>) {}
        fn difference(&self, _: Difference) {
            self.0.lock().push("difference");
        }
    }

    /// Asks what is refused at once, hears at the same moment which hash others have, asks again.
    fn asked_and_told(others: [u64; 2]) -> Vec<&'static str> {
        let monitor = Monitor::of_three(Heard::default());
        monitor.with(|server| {
            let (index, hash) = (Index(256), 1);
            server.finished(Vec::new(), None, Some(StateHash { index, hash }));
            ask_too_much(server);
            for (peer, hash) in [2, 3].into_iter().zip(others) {
                let gateway = vec![GatewayMessage::StateHash { index, hash }];
                server.step(ServerId(peer), Outgoing { gateway, ..Outgoing::default() });
            }
        });
        monitor.with(ask_too_much);
        monitor.deliver.0.into_inner()
    }

    /// What is answered at once.
    fn ask_too_much(server: &mut Server) {
        let too_much = Request::Write(Command::from(&[0; 20_000][..]));
        server.submit([(ClientId(1), Slot(0), too_much)]);
    }

    #[test]
    fn a_server_whose_state_is_wrong_answers_nobody() {
        assert_eq!(asked_and_told([1, 1]), ["answers", "answers"]);
        assert_eq!(asked_and_told([2, 3]), ["difference", "answers", "answers"], "who is wrong?");
        assert_eq!(asked_and_told([2, 2]), ["difference"]);
    }

    /// Who was answered, one answer after the other.
    #[derive(Default)]
    struct Answers(Mutex<Vec<ClientId>>);

    impl Deliver for Answers {
        fn answers(&self, answers: Vec<Answered>) {
            self.0.lock().extend(answers.into_iter().map(|answered| answered.client));
        }
        fn events(&self, _: Vec<Event>) {}
        fn difference(&self, _: Difference) {}
    }

    /// Most of a read is to send its answer, and two threads do that faster than one.
    #[test]
    fn who_passes_by_answers_some_readers_and_hands_over_the_others() {
        let (to_applier, handed_over) = crossbeam_channel::bounded(1);
        let alone = server(1, 1, Recovered::default());
        let mut monitor = Monitor::around(alone, &[], Answers::default());
        monitor.workers.applier = to_applier;
        let history = Arc::new(History::new(0, 1000));
        let shelf = Shelf::new(doorbell().0);
        monitor.apply(Box::new(Applier::new(StateMachine::default(), history, 1000, shelf)));
        for now_ms in 1..1000 {
            monitor.with(|server| {
                server.tick(now_ms);
                while let Some(write) = server.take_write(usize::MAX) {
                    server.persisted(write.ticket);
                }
            });
        }
        let ask = |clients: std::ops::Range<u64>| {
            let read = || Request::Read(Query::AppliedIndex);
            monitor.with(|server| server.submit(clients.map(|id| (ClientId(id), Slot(0), read()))));
        };
        ask(0..14);
        assert_eq!(monitor.deliver.0.lock().len(), 14);
        assert!(handed_over.is_empty(), "there was nothing left");
        ask(14..34);
        assert_eq!(monitor.deliver.0.lock().len(), 30, "16 of them");
        monitor.apply(handed_over.try_recv().expect("it was handed over"));
        assert_eq!(*monitor.deliver.0.lock(), (0..34).map(ClientId).collect::<Vec<_>>());
    }

    /// Until now only the election timeout mattered; a request must be looked after with each tick.
    #[test]
    fn the_ticker_is_woken_by_who_makes_a_tick_matter_earlier() {
        let hour = Duration::from_secs(3600);
        let monitor =
            Arc::new(Monitor::around_with(server(1, 3, Recovered::default()), hour, &[], Nobody));
        let (awake, is_awake) = crossbeam_channel::bounded(1);
        let ticker = Arc::clone(&monitor);
        std::thread::spawn(move || {
            ticker.tick_and_sleep();
            awake.send(()).expect("the test waits");
        });
        while monitor.state.lock().ticks.until_alarm(0) <= hour {
            std::thread::yield_now();
        }
        monitor.with(|server| server.step(ServerId(2), Outgoing::default()));
        assert!(is_awake.is_empty(), "nothing has changed");
        let request = Request::Wait { index: Index(9), ticks: 100 };
        monitor.with(|server| server.submit([(ClientId(1), Slot(0), request)]));
        is_awake.recv_timeout(Duration::from_secs(60)).expect("it was woken");
        assert_eq!(monitor.state.lock().ticks.until_alarm(0), hour);
    }

    /// Else a heartbeat would reset a clock that is then told what had passed before it.
    #[test]
    fn whoever_enters_tells_first_what_time_it_is() {
        let tick = Duration::from_millis(1);
        let of_three = server(1, 3, Recovered::default());
        let monitor = Monitor::around_with(of_three, tick, &[], Nobody);
        let request = Request::Wait { index: Index(9), ticks: 1 };
        monitor.with(|server| server.submit([(ClientId(1), Slot(0), request)]));
        let since = Instant::now();
        while monitor.with(|server| server.gateway().pending_requests()) > 0 {
            assert!(since.elapsed() < Duration::from_secs(60), "time does not go on");
            std::thread::yield_now();
        }
    }

    /// A thread that passes by must not wait for the disk: parts of snapshots are the worker's.
    #[test]
    fn who_passes_by_leaves_parts_of_snapshots_to_the_worker() {
        let last = EntryId::new(Term(1), Index(10));
        let recovered = Recovered {
            hard_state: HardState { current_term: Term(1), voted_for: None },
            snapshot: SnapshotId { last, stamp: Stamp(5) },
            snapshot_bytes: 900, // one part
            entries: Vec::new(),
        };
        let (us, peer) = (ServerId(1), ServerId(2));
        let monitor = Monitor::around(server(1, 2, recovered), &[2], Nobody);
        let mut other = server(2, 2, Recovered::default());
        let write = |server: &mut Server| {
            while let Some(write) = server.take_write(usize::MAX) {
                server.persisted(write.ticket);
            }
        };
        for now_ms in 1..1000 {
            monitor.try_acquire(peer);
            monitor.with(|server| {
                server.tick(now_ms);
                write(server);
            });
            loop {
                // As the link's worker: sends all there is, and gives the right back.
                monitor.try_acquire(peer);
                while let Some(outgoing) = monitor.take_messages_or_release(peer) {
                    other.step(us, outgoing);
                    write(&mut other);
                }
                if !other.has_messages(us) {
                    break;
                }
                let incoming = other.take_messages(us);
                monitor.with(|server| {
                    server.step(peer, incoming);
                    write(server);
                });
                if monitor.look(|server| server.raft().has_snapshot_part(peer)) {
                    assert!(!monitor.try_acquire(peer), "the worker has the right to send it");
                    return;
                }
            }
        }
        panic!("no part of a snapshot is left to the worker");
    }
}
