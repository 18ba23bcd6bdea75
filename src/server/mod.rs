//! PURE. One server without its threads: the core, its gateway, and how the two are joined.
//!
//! The threads of `node` hold one `Server` behind the one mutex; the simulator holds a handful of
//! them in plain variables. Both call the same inputs and take the same outputs, so what the
//! simulator proves is what serves traffic.
//!
//! # One SET
//!
//! Whoever reads from clients (`node/crowd.rs`) parses it and calls `submit`, which gives it a
//! request id ([`Gateway`], `gateway/writes.rs`). If this server leads, `join` proposes it to
//! [`Raft`]; otherwise the next `take_messages` to the leader carries it there, and the leader's
//! `step` proposes it. When the entry is committed, *every* server's `take_tasks` hands it to its
//! state machine (`node/applier.rs`), and the server that accepted the request answers it
//! (`finished`, `take_answers`). In between it is an entry: [`crate::raft`] tells its life.
//!
//! # One GET
//!
//! `submit` adds it to the question that the gateway is about to ask (`gateway/reads.rs`): "up to
//! which index must I have applied?" `join` puts the question to the core, or `take_messages` to
//! the leader. When the read index is confirmed ([`crate::raft::read_index`]) and everything up to
//! it has been handed out here, `take_tasks` hands out the query behind it.
//!
//! # One key that expires
//!
//! The leader stamps each entry with the log time ([`clock`]), which `tick` moves on. `SET k v EX
//! 10` is an entry like any other; the state machine notes the deadline, stamp + 10 s, and
//! `finished` tells the server the next one. When it is due and nothing else is written,
//! `tell_the_time` appends an entry that carries nothing but its stamp, and when that is committed
//! every state machine knows that the key is gone.

mod apply;
pub mod clock;
pub mod divergence;
mod space;

pub use self::apply::{
    AnswerBounds, Executed, Finished, Shelf, SnapshotShelf, Task, execute, execute_some,
};

use self::clock::LogClock;
use self::divergence::{Difference, Divergence, StateHash};

use crate::gateway::message::GatewayMessage;
use crate::gateway::{self, Answered, ClientId, Gateway, Request, Slot};
use crate::kv::encoding;
use crate::lab::{Rule, removed};
use crate::limits::CLOCK_ENTRY_MS_MIN;
use crate::raft::durability::{Write, WriteTicket};
use crate::raft::event::Event;
use crate::raft::message::Message;
use crate::raft::quorum::Membership;
use crate::raft::types::{Command, Index, ServerId, SnapshotId, Stamp};
use crate::raft::{
    self, Apply, ConnectionId, DoneRead, Raft, ReadId, Recovered, Refused, SnapshotWork, TransferId,
};

/// One server: inputs are what happens to it, outputs what it wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    raft: Raft,
    gateway: Gateway,
    clock: LogClock,
    divergence: Divergence,
    /// When the next key expires, as far as our state machine knows, in log time.
    next_deadline: Option<Stamp>,
    /// Ticks until a leader without room may try again to hand over.
    hand_over_pause: u32,
}

/// What one server tells another in one go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// The core's messages. They go first.
    pub raft: Vec<Message>,
    /// The gateway's.
    pub gateway: Vec<GatewayMessage>,
}

impl Outgoing {
    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.raft.is_empty() && self.gateway.is_empty()
    }
}

/// Whose bells to ring: which takes would return something. A level, not an edge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// `take_write`.
    pub write: bool,
    /// `take_messages` to these peers.
    pub send: Vec<ServerId>,
    /// `take_tasks`.
    pub apply: bool,
    /// `take_answers`.
    pub answers: bool,
    /// `take_snapshot_work`.
    pub snapshot: bool,
}

impl Server {
    /// A server as it comes up, in its `incarnation`-th life (from 1, never used before: request
    /// ids are unique by it). `seed` decides the core's dice. Ticks and bounds are in the options.
    pub fn new(
        id: ServerId,
        membership: Membership,
        raft_options: raft::Options,
        gateway_options: gateway::Options,
        recovered: Recovered,
        incarnation: u64,
        seed: u64,
    ) -> Server {
        let raft = Raft::new(id, membership, raft_options, recovered, seed);
        let clock = LogClock::new(raft.last_stamp());
        let gateway = Gateway::new(id, incarnation, gateway_options);
        let divergence = Divergence::default();
        Server { raft, gateway, clock, divergence, next_deadline: None, hand_over_pause: 0 }
    }

    /// Where the log time of a cluster whose log is empty begins: at the time of day, in
    /// milliseconds since the Unix epoch. Log time that has begun is not changed by it.
    pub fn begin_log_time(&mut self, unix_ms: u64) {
        if self.raft.log().last_index() == Index::ZERO {
            self.clock = LogClock::new(Stamp(unix_ms));
        }
    }

    // ---- Inputs. ----

    /// What the server's monotonic clock says, in milliseconds from any beginning. To be told
    /// before each input that may append an entry, and not only with ticks: after a pause of the
    /// process, the first thing to happen may be a `SET … PX 500` that waited in a socket. Stamped
    /// with the time before the pause, it would expire at the first tick.
    pub fn set_time(&mut self, now_ms: u64) {
        if !removed(Rule::TimeComesFirst) {
            self.advance_clock(now_ms);
        }
    }

    /// One tick passes: the unit of all timeouts in the options. `now_ms` is as for `set_time`.
    pub fn tick(&mut self, now_ms: u64) {
        self.advance_clock(now_ms);
        self.raft.tick();
        self.gateway.tick();
        self.join();
        self.tell_the_time();
        self.hand_over_when_full();
    }

    /// What another server has told us. Requires that each message's `check_shape` has succeeded.
    pub fn step(&mut self, from: ServerId, incoming: Outgoing) {
        for message in incoming.raft {
            self.raft.step(from, message);
        }
        // The gateway must know a new leader before it reads what gateways say to it.
        self.join();
        for message in incoming.gateway {
            self.step_gateway(from, message);
        }
        self.join();
    }

    /// `peer` has opened a connection to us, newer than all before.
    pub fn connected(&mut self, peer: ServerId, connection: ConnectionId) {
        self.raft.connected(peer, connection);
        if !removed(Rule::NewLinkStartsAgain) {
            self.gateway.link_renewed(peer); // its answers may have been lost with the old one
        }
        self.join();
    }

    /// A connection from `peer` has ended.
    pub fn disconnected(&mut self, peer: ServerId, connection: ConnectionId) {
        self.raft.disconnected(peer, connection);
        self.join();
    }

    /// Our connection to `peer` is new.
    pub fn link_renewed(&mut self, peer: ServerId) {
        self.raft.link_renewed(peer);
        self.gateway.link_renewed(peer);
        self.join();
    }

    /// Requests that have arrived together, of any number of clients; the slots of each client
    /// rise. Each is answered exactly once by `take_answers`, at the latest after the gateway's
    /// deadline, unless its client hangs up first.
    pub fn submit(&mut self, arrived: impl IntoIterator<Item = (ClientId, Slot, Request)>) {
        for (client, slot, request) in arrived {
            self.gateway.submit(client, slot, request);
        }
        self.join();
    }

    /// A client has hung up. What has been handed over goes on; nobody is told how it ends.
    pub fn hang_up(&mut self, client: ClientId) {
        self.gateway.hang_up(client);
    }

    /// Every later request is refused: the server is stopping.
    pub fn stop(&mut self) {
        self.gateway.stop();
    }

    /// The write that `take_write` gave out under this ticket is synced: only now does it count.
    pub fn persisted(&mut self, ticket: WriteTicket) {
        self.raft.persisted(ticket);
        self.join();
    }

    /// The state machine has done what `take_tasks` handed out, in that order; `next_deadline` is
    /// when its next key expires, `hash` that of its state, where servers compare it.
    pub fn finished(
        &mut self,
        finished: Vec<Finished>,
        next_deadline: Option<Stamp>,
        hash: Option<StateHash>,
    ) {
        self.next_deadline = next_deadline;
        if let Some(state) = hash {
            self.divergence.ours(self.raft.id(), state, self.raft.membership());
        }
        for done in finished {
            match done {
                Finished::Restored { sessions } => {
                    self.gateway.restored(|request| sessions.contains(request));
                }
                Finished::Applied { request, outcome } => self.gateway.applied(request, outcome),
                Finished::Answered { client, slot, outcome } => {
                    self.gateway.answered(client, slot, outcome);
                }
            }
        }
        self.join();
    }

    /// See [`Raft::request_snapshot`].
    pub fn request_snapshot(&mut self) {
        self.raft.request_snapshot();
    }

    /// See [`Raft::snapshot_saved`].
    pub fn snapshot_saved(&mut self, snapshot: SnapshotId, bytes: u64) {
        self.raft.snapshot_saved(snapshot, bytes);
    }

    /// See [`Raft::snapshot_failed`].
    pub fn snapshot_failed(&mut self, snapshot: SnapshotId) {
        self.raft.snapshot_failed(snapshot);
    }

    /// See [`Raft::snapshot_stored`].
    pub fn snapshot_stored(&mut self, transfer: TransferId, stored_bytes: u64) {
        self.raft.snapshot_stored(transfer, stored_bytes);
    }

    /// See [`Raft::snapshot_refused`].
    pub fn snapshot_refused(&mut self, transfer: TransferId) {
        self.raft.snapshot_refused(transfer);
    }

    /// See [`Raft::snapshot_installed`].
    pub fn snapshot_installed(
        &mut self,
        transfer: TransferId,
        snapshot: SnapshotId,
        bytes: u64,
    ) -> bool {
        let is_news = self.raft.snapshot_installed(transfer, snapshot, bytes);
        self.join();
        is_news
    }

    /// See [`Raft::transfer_leadership`].
    pub fn transfer_leadership(&mut self, to: Option<ServerId>) -> Result<ServerId, Refused> {
        self.raft.transfer_leadership(to)
    }

    // ---- Outputs. ----

    /// Which takes would return something.
    pub fn work(&self) -> Work {
        let raft::Work { write, mut send, apply: _, snapshot } = self.raft.work();
        for peer in self.raft.membership().peers_of(self.raft.id()) {
            if self.has_gateway_messages(peer) && !send.contains(&peer) {
                send.push(peer);
            }
        }
        let apply = self.has_tasks();
        Work { write, send, apply, answers: self.gateway.has_answers(), snapshot }
    }

    /// For the log writer: what is not on disk, up to `bytes_max` of entries, but at least one.
    /// `None` if all is, or while a write is in flight.
    pub fn take_write(&mut self, bytes_max: usize) -> Option<Write> {
        self.raft.take_write(bytes_max)
    }

    /// Whether there is something to tell this peer.
    pub fn has_messages(&self, to: ServerId) -> bool {
        self.raft.has_messages(to) || self.has_gateway_messages(to)
    }

    fn has_gateway_messages(&self, to: ServerId) -> bool {
        self.gateway.has_messages(to) || self.divergence.has_for(to)
    }

    /// For the sender to this peer: what we would tell it now, bounded by the options. There may be
    /// more behind it: take until it is empty.
    pub fn take_messages(&mut self, to: ServerId) -> Outgoing {
        let mut gateway = self.gateway.take_messages(to);
        for message in &gateway {
            if let GatewayMessage::ReadAnswer { read_index, .. } = message {
                self.raft.await_commit(to, *read_index);
            }
        }
        if let Some(StateHash { index, hash }) = self.divergence.take_for(to) {
            gateway.push(GatewayMessage::StateHash { index, hash });
        }
        Outgoing { raft: self.raft.take_messages(to), gateway }
    }

    /// Whether `take_tasks` would return something.
    pub fn has_tasks(&self) -> bool {
        self.raft.has_applies() || self.gateway.has_queries(self.raft.last_applied())
    }

    /// For the applier: committed entries, up to `bytes_max` of them but at least one, and the
    /// reads that may be executed after them. To be done in this order.
    pub fn take_tasks(&mut self, bytes_max: usize) -> Vec<Task> {
        let applies = self.raft.take_applies(bytes_max);
        let mut tasks = Vec::with_capacity(applies.len());
        for apply in applies {
            match apply {
                Apply::Restore(snapshot) => tasks.push(Task::Restore(snapshot)),
                Apply::Entry(entry) => tasks.push(Task::Apply(entry)),
                Apply::Freeze(snapshot) => tasks.push(Task::Freeze(snapshot)),
                Apply::ReadReady { read, index } => self.gateway.read_confirmed(read.0, index),
                Apply::ReadFailed { read } => self.gateway.read_failed(read.0),
            }
        }
        if removed(Rule::ApplyInOrder) {
            tasks.reverse();
        }
        // Everything up to `last_applied` has been handed out before them.
        let queries = self.gateway.take_queries(self.raft.last_applied());
        tasks.extend(queries.into_iter().map(Task::Query));
        tasks
    }

    /// For whoever stores snapshots: what is to be done next, one thing at a time.
    pub fn take_snapshot_work(&mut self) -> Option<SnapshotWork> {
        self.raft.take_snapshot_work()
    }

    /// Answers for clients, in the order in which they became known. Those of one client need not
    /// be in the order of its slots.
    pub fn take_answers(&mut self) -> Vec<Answered> {
        self.gateway.take_answers()
    }

    /// Whether `take_difference` has anything.
    pub fn has_difference(&self) -> bool {
        self.divergence.has_found()
    }

    /// Where our state was found to differ from another server's since the last call.
    pub fn take_difference(&mut self) -> Option<Difference> {
        self.divergence.take_found()
    }

    /// What happened inside the core since the last call, in order.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.raft.take_events()
    }

    // ---- Questions. ----

    /// The core, to look at.
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    /// Which of the coming ticks is the first that may do something: 1 is the next one. Those
    /// before it may be told late, but before any other input; that one may be nearer afterwards.
    /// A tick lasts `tick_ms` milliseconds.
    pub fn ticks_until_due(&self, tick_ms: u64) -> u32 {
        if !self.gateway.is_at_rest() {
            return 1;
        }
        let until_deadline = match self.next_deadline {
            Some(deadline) if self.raft.is_leader() => {
                let left_ms = deadline.0.saturating_sub(self.clock.now().0);
                u32::try_from(left_ms / tick_ms).unwrap_or(u32::MAX)
            }
            _ => u32::MAX,
        };
        self.raft.ticks_until_due().min(until_deadline).max(1)
    }

    /// What time it is, as far as this server can tell from its log and its own clock.
    pub fn log_time(&self) -> Stamp {
        self.clock.now()
    }

    /// The gateway, to look at.
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    // ---- Private steps. ----

    /// Lets the gateway know who leads, and if it is us, hands its requests to the core, and the
    /// core's answers to other servers' questions to it. Called after every input, so that nothing
    /// waits for a wake-up of its own.
    fn join(&mut self) {
        self.observe_stamps();
        self.gateway.observe_leader(self.raft.leader(), self.raft.current_term());
        self.observe_space();
        while let Some((serial, command)) = self.gateway.next_proposal() {
            if self.raft.propose(command).is_err() {
                break; // too much is uncommitted, or there is no room: it stays first in line
            }
            self.gateway.proposed(serial);
        }
        while let Some(number) = self.gateway.next_question() {
            if self.raft.request_read(ReadId(number)).is_err() {
                self.gateway.read_failed(number);
                break;
            }
        }
        while let Some(done) = self.raft.next_read_of_others() {
            match done {
                DoneRead::Ready { read, index } => self.gateway.read_confirmed(read.0, index),
                DoneRead::Failed { read } => self.gateway.read_failed(read.0),
            }
        }
        self.observe_stamps();
    }

    /// Log time goes on from the last stamp in the log, and from the moment at which its entry was
    /// stored: noticed with a later input, it would have stood still in between.
    fn observe_stamps(&mut self) {
        if self.raft.log().last_index() > Index::ZERO {
            self.clock.observe(self.raft.last_stamp());
        }
        self.raft.set_log_time(self.clock.now());
    }

    fn advance_clock(&mut self, now_ms: u64) {
        self.clock.advance(now_ms);
        self.raft.set_log_time(self.clock.now());
    }

    /// A key is due, and nothing is written that would tell the state machines so: the leader
    /// appends an entry for its stamp alone.
    fn tell_the_time(&mut self) {
        let is_due = self.next_deadline.is_some_and(|deadline| deadline <= self.clock.now());
        if is_due
            && self.clock.quiet_ms() >= CLOCK_ENTRY_MS_MIN
            && self.raft.is_leader()
            && !removed(Rule::TimeIsTold)
        {
            // Refused: then there are entries enough that carry the time.
            let _told = self.raft.propose_time();
            self.join();
        }
    }

    fn step_gateway(&mut self, from: ServerId, message: GatewayMessage) {
        match message {
            GatewayMessage::Forward { incarnation, attempt, part, commands } => {
                if self.gateway.accepts_forward(from, incarnation, attempt, part)
                    && !self.propose_all(from, commands)
                {
                    self.gateway.refuse_forward(from, incarnation, attempt);
                }
            }
            GatewayMessage::ForwardRefused { incarnation, attempt } => {
                self.gateway.handle_forward_refused(from, incarnation, attempt);
            }
            GatewayMessage::ReadQuestion { question } => {
                let number = self.gateway.adopt_question(from, question);
                if self.raft.request_read_for(from, ReadId(number)).is_err() {
                    self.gateway.read_failed(number);
                }
            }
            GatewayMessage::ReadAnswer { question, read_index } => {
                self.gateway.handle_read_answer(question, read_index);
            }
            GatewayMessage::ReadRefused { question } => self.gateway.handle_read_refused(question),
            GatewayMessage::StateHash { index, hash } => {
                let (id, state) = (self.raft.id(), StateHash { index, hash });
                self.divergence.theirs(id, from, state, self.raft.membership());
            }
            GatewayMessage::Space(space) => self.gateway.handle_space(from, space),
        }
    }

    /// A forward goes one hop: it is proposed here or refused, never passed on.
    /// What this leadership has appended already is not appended again. Returns whether all is in
    /// the log.
    fn propose_all(&mut self, from: ServerId, commands: Vec<Command>) -> bool {
        for command in commands {
            let request = encoding::request_id(&command.0).expect("check_shape has read it");
            if self.gateway.has_appended(from, request) {
                continue;
            }
            if self.raft.propose(command).is_err() {
                return false;
            }
            self.gateway.appended(from, request);
            self.raft.await_commit(from, self.raft.log().last_index());
        }
        true
    }
}
