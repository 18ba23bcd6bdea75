//! The state that is searched: three servers, their disks, the messages under way, and what may
//! still go wrong. One [`Action`] leads from one [`World`] to the next.
//!
//! A world is cheap to copy, because it shares what an action does not touch: an action happens to
//! one server, so its successor owns one server and shares two.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use raft_server::raft::durability::Write;
use raft_server::raft::event::Event;
use raft_server::raft::message::Message;
use raft_server::raft::quorum::Membership;
use raft_server::raft::types::{Command, Entry, HardState, Index, ServerId, SnapshotId};
use raft_server::raft::{
    Apply, ConnectionId, DoneRead, Options, Raft, ReadId, Recovered, SnapshotOptions,
};

use crate::checks::History;
use crate::render;

/// The largest cluster that a scenario may have.
pub const SERVERS_MAX: usize = 4;

/// Time is not counted here: `Action::Timeout` lets as much of it pass as it takes. So the timeouts
/// only have to be too long for the few heartbeats of a scenario to reach them. One entry goes with
/// each message, so that a crash can fall between any two entries (Figure 8 needs that).
const OPTIONS: Options = Options {
    heartbeat_ticks: 1,
    election_min_ticks: 10,
    election_max_ticks: 11,
    append_bytes_max: 1,
    window_bytes_max: 1 << 20,
    uncommitted_bytes_max: 1 << 20,
    snapshots: SnapshotOptions::NEVER,
};

/// One entry a write as well: then a new term may be on disk while an old entry is still on its
/// way.
const WRITE_BYTES_MAX: usize = 1;

/// The only connection from one server to another; it may break and be made again.
const CONNECTION: ConnectionId = ConnectionId(1);

/// What does not change during a search.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// The workers do their part with each step: what is to be sent is under way, what is to be
    /// written has been given to the disk. Otherwise each of them is an action of its own that may
    /// come late, so that a server has changed its mind meanwhile. That space is much larger.
    pub prompt_workers: bool,
    /// A heard leader stays heard until a timeout, and votes are withheld that long. Otherwise each
    /// connection from a leader breaks as soon as it has brought a message, and every server is
    /// ready to vote at any time: that can only add to what may happen.
    pub leaders_stay_heard: bool,
    /// A crash loses the disk, too. Raft does not survive that: it must be found.
    pub disks_forget: bool,
    /// A disk says that a write is synced when it is not. Raft does not survive that either.
    pub disks_lie: bool,
    /// A follower may ask whoever takes itself for a leader for a read index, and not only whom it
    /// follows. Then a question is no echo, and reads are stale.
    pub anybody_is_asked: bool,
}

/// What may still happen. Without bounds a cluster has infinitely many states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// How often each server may lose its patience: start an election, or step down.
    pub timeouts: [u8; SERVERS_MAX],
    /// How often each server may crash; it comes back at once.
    pub crashes: [u8; SERVERS_MAX],
    /// Commands that clients will still propose.
    pub proposals: u8,
    /// How often a message is delivered and stays under way, to arrive again.
    pub duplicates: u8,
    /// Heartbeats of leaders: they repeat what was lost.
    pub heartbeats: u8,
    /// Reads that clients will still ask for.
    pub reads: u8,
}

/// One state of the whole cluster.
#[derive(Clone)]
pub struct World {
    /// The server at place 0 is `n1`.
    pub servers: Vec<Rc<Server>>,
    /// Messages under way: a multiset, kept in the order of their keys. There is no action that
    /// loses one, because one that is never delivered is as good as lost.
    pub network: Vec<Rc<Envelope>>,
    /// Reads that wait for their read index.
    pub questions: Vec<Question>,
    /// Those that were given one in the last step.
    pub answered: Vec<(Question, Index)>,
    pub history: Rc<History>,
    pub budget: Budget,
}

/// One server with its disk.
#[derive(Clone)]
pub struct Server {
    pub raft: Raft,
    /// What a crash would leave.
    pub disk: Disk,
    /// Given to the disk and not synced: a crash may lose it, or keep any first part of it.
    pub writing: Option<Write>,
    /// The essence of all this.
    key: u128,
}

/// What is on disk: term, vote and log.
#[derive(Clone, Debug, Default, Hash)]
pub struct Disk {
    pub hard_state: HardState,
    pub entries: Vec<Entry>,
}

/// A message under way.
pub struct Envelope {
    pub from: ServerId,
    pub to: ServerId,
    pub message: Message,
    key: u128,
}

/// A read that has begun, and waits for its read index.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    pub read: ReadId,
    /// The server that has the read.
    pub from: ServerId,
    /// The leader that it asks; perhaps itself.
    pub to: ServerId,
    /// How many entries were committed when the question was put.
    pub committed: usize,
    /// It has reached the leader, and may arrive no more.
    pub arrived: bool,
}

/// One thing that happens. Servers are named by their place, messages by their place in `network`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A message arrives; if it is doubled, it will arrive again.
    Deliver { message: u8, doubled: bool },
    /// A sender takes what there is to tell this peer.
    Send { from: u8, to: u8 },
    /// The log writer takes what there is to write.
    StartWrite(u8),
    /// The write is synced, and the core is told.
    FinishWrite(u8),
    /// The server loses its memory and comes back with its disk. Of the write under way, this many
    /// of its records (the hard state, then the entries) had reached the disk.
    Crash { at: u8, kept: u8 },
    /// A client proposes a command to a leader.
    Propose(u8),
    /// Time passes for this server alone, until it starts an election or steps down.
    Timeout(u8),
    /// A leader's clock reaches the next heartbeat.
    Heartbeat(u8),
    /// A client reads from a server, which asks a leader for the read index.
    Ask { from: u8, to: u8 },
    /// A question arrives.
    Hear { question: u8 },
}

impl World {
    /// A cluster that comes up with these disks.
    pub fn recovered(disks: Vec<Disk>) -> World {
        let membership = Membership::new((0..disks.len() as u8).map(id));
        let server = |(place, disk)| Server::recovered(id(place), membership.clone(), disk);
        let servers = (0..).zip(disks).map(server).map(Rc::new).collect();
        World {
            servers,
            network: Vec::new(),
            questions: Vec::new(),
            answered: Vec::new(),
            history: Rc::default(),
            budget: Budget::default(),
        }
    }

    /// Everything that may happen now.
    pub fn actions(&self, rules: &Rules) -> Vec<Action> {
        let mut actions = Vec::new();
        for (place, envelope) in self.network.iter().enumerate() {
            if place > 0 && self.network[place - 1].key == envelope.key {
                continue; // the same message once more
            }
            let message = place as u8;
            actions.push(Action::Deliver { message, doubled: false });
            if self.budget.duplicates > 0 {
                actions.push(Action::Deliver { message, doubled: true });
            }
        }
        for (at, server) in self.servers.iter().enumerate() {
            self.add_actions_of(at, server, &mut actions);
            if self.budget.reads > 0 {
                let asked = (0..self.servers.len()).filter(|&to| self.is_asked(at, to, rules));
                actions.extend(asked.map(|to| Action::Ask { from: at as u8, to: to as u8 }));
            }
        }
        let under_way = (0..).zip(&self.questions).filter(|(_, question)| !question.arrived);
        actions.extend(under_way.map(|(question, _)| Action::Hear { question }));
        actions
    }

    /// Whether the server at `from` asks the one at `to` for a read index.
    fn is_asked(&self, from: usize, to: usize, rules: &Rules) -> bool {
        let follows = self.servers[from].raft.leader() == Some(id(to as u8));
        follows || rules.anybody_is_asked && from != to && self.servers[to].raft.is_leader()
    }

    fn add_actions_of(&self, place: usize, server: &Server, actions: &mut Vec<Action>) {
        let at = place as u8;
        let Server { raft, writing, .. } = server;
        let peers = raft.membership().peers_of(raft.id());
        let to = peers.filter(|&to| raft.has_messages(to)).map(self::place);
        actions.extend(to.map(|to| Action::Send { from: at, to }));
        if raft.has_write() {
            actions.push(Action::StartWrite(at));
        }
        if writing.is_some() {
            actions.push(Action::FinishWrite(at));
        }
        if self.budget.timeouts[place] > 0 {
            actions.push(Action::Timeout(at));
        }
        if self.budget.crashes[place] > 0 {
            let kept_max = writing.as_ref().map_or(0, records);
            actions.extend((0..=kept_max).map(|kept| Action::Crash { at, kept }));
        }
        if raft.is_leader() && self.budget.proposals > 0 {
            actions.push(Action::Propose(at));
        }
        if raft.is_leader() && self.budget.heartbeats > 0 {
            actions.push(Action::Heartbeat(at));
        }
    }

    /// The server to which an action happens.
    pub fn place_of(&self, action: Action) -> usize {
        usize::from(match action {
            Action::Deliver { message, .. } => place(self.network[usize::from(message)].to),
            Action::Hear { question } => place(self.questions[usize::from(question)].to),
            Action::Send { from: at, .. }
            | Action::StartWrite(at)
            | Action::FinishWrite(at)
            | Action::Crash { at, .. }
            | Action::Propose(at)
            | Action::Timeout(at)
            | Action::Heartbeat(at)
            | Action::Ask { from: at, .. } => at,
        })
    }

    /// Lets `action` happen; tells what was recorded meanwhile and what was handed to the state
    /// machine.
    pub fn perform(&mut self, action: Action, rules: &Rules) -> (Vec<Event>, Vec<Entry>) {
        let at = self.place_of(action);
        let mut server = Server::clone(&self.servers[at]);
        self.answered.clear();
        match action {
            Action::Deliver { message, doubled } => {
                self.deliver(&mut server, message, doubled, rules)
            }
            Action::Send { to, .. } => self.send(&mut server, id(to)),
            Action::StartWrite(_) => server.start_write(),
            Action::FinishWrite(_) => server.finish_write(rules),
            Action::Crash { kept, .. } => {
                self.budget.crashes[at] -= 1;
                self.questions.retain(|question| !question.arrived || question.to != id(at as u8));
                server.crash(kept, rules);
            }
            Action::Propose(_) => {
                self.budget.proposals -= 1;
                let command = Command::from([b'x' + self.budget.proposals].as_slice());
                let entry = server.raft.propose(command);
                let entry = entry.expect("a leader far from its bounds accepts");
                let peers: Vec<_> = server.raft.membership().peers_of(server.raft.id()).collect();
                peers.into_iter().for_each(|peer| server.raft.await_commit(peer, entry.index));
            }
            Action::Timeout(_) => {
                self.budget.timeouts[at] -= 1;
                server.lose_patience();
            }
            Action::Heartbeat(_) => {
                self.budget.heartbeats -= 1;
                server.raft.tick();
            }
            Action::Ask { to, .. } => {
                self.budget.reads -= 1;
                let (from, to) = (id(at as u8), id(to));
                let (read, arrived) = (ReadId(self.budget.reads.into()), from == to);
                if arrived {
                    server.raft.request_read(read).expect("it leads");
                }
                let committed = self.history.committed();
                self.questions.push(Question { read, from, to, committed, arrived });
            }
            Action::Hear { question } => {
                let question = usize::from(question);
                let Question { read, from, .. } = self.questions[question];
                if server.raft.request_read_for(from, read).is_ok() {
                    self.questions[question].arrived = true;
                } else {
                    self.questions.remove(question);
                }
            }
        }
        if rules.prompt_workers {
            server.start_write();
            for to in (0..self.servers.len() as u8).map(id) {
                self.send(&mut server, to);
            }
        }
        let (applied, reads) = server.apply();
        reads.into_iter().for_each(|done| self.finish(&done));
        let events = server.raft.take_events();
        server.key = server.essence();
        self.servers[at] = Rc::new(server);
        (events, applied)
    }

    fn finish(&mut self, done: &DoneRead) {
        let (DoneRead::Ready { read, .. } | DoneRead::Failed { read }) = *done;
        let place = self.questions.iter().position(|question| question.read == read);
        let question = self.questions.remove(place.expect("what was not asked has no answer"));
        if let DoneRead::Ready { index, .. } = *done {
            self.answered.push((question, index));
        }
    }

    fn deliver(&mut self, server: &mut Server, message: u8, doubled: bool, rules: &Rules) {
        let place = usize::from(message);
        let envelope = if doubled {
            self.budget.duplicates -= 1;
            Rc::clone(&self.network[place])
        } else {
            self.network.remove(place)
        };
        server.raft.step(envelope.from, envelope.message.clone());
        if !rules.leaders_stay_heard {
            server.raft.disconnected(envelope.from, CONNECTION);
            server.raft.connected(envelope.from, CONNECTION);
        }
    }

    fn send(&mut self, server: &mut Server, to: ServerId) {
        while server.raft.has_messages(to) {
            for message in server.raft.take_messages(to) {
                let from = server.raft.id();
                let key = key_of(|hasher| (from, to, &message).hash(hasher));
                let place = self.network.partition_point(|other| other.key < key);
                self.network.insert(place, Rc::new(Envelope { from, to, message, key }));
            }
        }
    }

    /// Two worlds with the same key have the same future: see `Raft::hash_essence`.
    pub fn key(&self) -> u128 {
        key_of(|hasher| {
            for server in &self.servers {
                hasher.write_u128(server.key);
            }
            for envelope in &self.network {
                hasher.write_u128(envelope.key);
            }
            (&self.questions, &self.history, &self.budget).hash(hasher);
        })
    }

    /// An action in one line.
    pub fn tell(&self, action: Action) -> String {
        let server = id(self.place_of(action) as u8);
        match action {
            Action::Deliver { message, doubled } => {
                let Envelope { from, to, message, .. } = &*self.network[usize::from(message)];
                let again = if doubled { " (and will again)" } else { "" };
                format!("{from} -> {to}  {} arrives{again}", render::message(message))
            }
            Action::Send { to, .. } => format!("{server} sends what it has for {}", id(to)),
            Action::StartWrite(_) => format!("{server} starts to write"),
            Action::FinishWrite(at) => {
                let writing = self.servers[usize::from(at)].writing.as_ref();
                format!("{server} has synced {}", writing.map_or(String::new(), written))
            }
            Action::Crash { at, .. } if self.servers[usize::from(at)].writing.is_none() => {
                format!("{server} crashes and comes back")
            }
            Action::Crash { kept, .. } => {
                format!("{server} crashes with {kept} records of its write on disk, and comes back")
            }
            Action::Propose(_) => format!("{server} is given a command"),
            Action::Timeout(_) => format!("{server} loses its patience"),
            Action::Heartbeat(_) => format!("{server} owes a heartbeat"),
            Action::Ask { to, .. } => {
                format!("a client reads from {server}, which asks {}", id(to))
            }
            Action::Hear { question } => {
                let Question { from, committed, .. } = self.questions[usize::from(question)];
                format!(
                    "{server} hears the question of {from}, put when {committed} were committed"
                )
            }
        }
    }
}

impl Server {
    fn recovered(id: ServerId, membership: Membership, disk: Disk) -> Server {
        let Disk { hard_state, entries } = disk.clone();
        let recovered =
            Recovered { hard_state, snapshot: SnapshotId::NONE, snapshot_bytes: 0, entries };
        let mut raft = Raft::new(id, membership.clone(), OPTIONS, recovered, 0);
        for peer in membership.peers_of(id) {
            raft.connected(peer, CONNECTION);
        }
        let mut server = Server { raft, disk, writing: None, key: 0 };
        server.key = server.essence();
        server
    }

    fn start_write(&mut self) {
        if self.writing.is_none() {
            self.writing = self.raft.take_write(WRITE_BYTES_MAX);
        }
    }

    fn finish_write(&mut self, rules: &Rules) {
        let write = self.writing.take().expect("only a write under way is finished");
        let kept = if rules.disks_lie { 0 } else { records(&write) };
        self.disk.keep(&write, kept);
        self.raft.persisted(write.ticket);
    }

    fn crash(&mut self, kept: u8, rules: &Rules) {
        if let Some(write) = self.writing.take() {
            self.disk.keep(&write, kept);
        }
        let disk =
            if rules.disks_forget { Disk::default() } else { std::mem::take(&mut self.disk) };
        *self = Server::recovered(self.raft.id(), self.raft.membership().clone(), disk);
    }

    /// Ticks until the server does something about the silence. A candidate whose vote is not on
    /// disk yet waits for its disk, not for the clock, and then nothing happens.
    fn lose_patience(&mut self) {
        for _ in 0..=OPTIONS.election_max_ticks {
            self.raft.tick();
            let gave_up = |event: &Event| {
                matches!(event, Event::BecamePreCandidate { .. } | Event::SteppedDown { .. })
            };
            let events = self.raft.clone().take_events();
            if events.iter().any(gave_up) {
                return;
            }
        }
    }

    /// Applies what is committed, at once: it moves `last_applied`, which no rule of the protocol
    /// reads, so nothing is gained by waiting.
    fn apply(&mut self) -> (Vec<Entry>, Vec<DoneRead>) {
        let (mut applied, mut reads) = (Vec::new(), Vec::new());
        for apply in self.raft.take_applies(usize::MAX) {
            match apply {
                Apply::Entry(entry) => applied.push(entry),
                Apply::ReadReady { read, index } => reads.push(DoneRead::Ready { read, index }),
                Apply::ReadFailed { read } => reads.push(DoneRead::Failed { read }),
                Apply::Restore(_) | Apply::Freeze(_) => unreachable!("no snapshot is ever due"),
            }
        }
        reads.extend(std::iter::from_fn(|| self.raft.next_read_of_others()));
        (applied, reads)
    }

    fn essence(&self) -> u128 {
        let writing = self.writing.as_ref().map(|write| (write.hard_state, &write.entries));
        key_of(|hasher| {
            self.raft.hash_essence(hasher);
            (&self.disk, writing).hash(hasher);
        })
    }
}

impl Disk {
    /// The first `kept` records of `write` reach the disk. An entry replaces the one at its index
    /// and all after it.
    fn keep(&mut self, write: &Write, kept: u8) {
        let mut left = usize::from(kept);
        if let (Some(hard_state), 1..) = (write.hard_state, left) {
            self.hard_state = hard_state;
            left -= 1;
        }
        for entry in write.entries.iter().take(left) {
            self.entries.truncate(entry.id.index.previous().0 as usize);
            self.entries.push(entry.clone());
        }
    }

    /// Whether the disk holds this entry.
    pub fn holds(&self, entry: &Entry) -> bool {
        let Index(index) = entry.id.index;
        self.entries.get(index as usize - 1) == Some(entry)
    }
}

/// The id of the server at this place.
pub fn id(place: u8) -> ServerId {
    ServerId(u32::from(place) + 1)
}

/// The place of the server with this id.
fn place(id: ServerId) -> u8 {
    u8::try_from(id.0 - 1).expect("clusters are tiny")
}

fn records(write: &Write) -> u8 {
    u8::from(write.hard_state.is_some()) + write.entries.len() as u8
}

fn written(write: &Write) -> String {
    let hard_state = write.hard_state.map_or(String::new(), |state| {
        let vote = state.voted_for.map_or("nobody".to_string(), |vote| vote.to_string());
        format!("term={} vote={vote} ", state.current_term)
    });
    format!("{hard_state}{}", render::ids(&write.entries))
}

/// 128 bits: among ten million states the chance that any two share a key by accident is below
/// 10^-24. If two did, the second would only go unexplored: a state could be missed, never a false
/// alarm raised.
fn key_of(hash: impl Fn(&mut TwoHashers)) -> u128 {
    let mut hashers = TwoHashers(DefaultHasher::new(), DefaultHasher::new());
    hashers.1.write_u8(1); // makes it another function
    hash(&mut hashers);
    u128::from(hashers.0.finish()) << 64 | u128::from(hashers.1.finish())
}

struct TwoHashers(DefaultHasher, DefaultHasher);

impl Hasher for TwoHashers {
    fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
        self.1.write(bytes);
    }

    fn finish(&self) -> u64 {
        self.0.finish()
    }
}
