//! A few servers with wires and disks in hand: nothing arrives and nothing is lost unless the
//! script says so.
//!
//! After every command each server hands over all that it wants done: messages go onto the wires,
//! entries to its state machine, and writes to its disk, which syncs at once unless the script has
//! slowed it down.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use raft_server::raft::durability::Write;
use raft_server::raft::event::Event;
use raft_server::raft::message::Message;
use raft_server::raft::quorum::Membership;
use raft_server::raft::types::{Bytes, Entry, EntryId, ServerId, SnapshotId, Term};
use raft_server::raft::{Apply, ConnectionId, Options, Raft, ReadId, Recovered, SnapshotWork};

use crate::render;
use crate::support_raft::{entry, options};

/// The length of every snapshot: three parts.
const SNAPSHOT_BYTES: u64 = 2500;

/// Which wire: from one server to another.
pub type Wire = (ServerId, ServerId);

pub struct Cluster {
    nodes: BTreeMap<ServerId, Node>,
    wires: BTreeMap<Wire, VecDeque<Message>>,
    /// Copies of messages that will arrive a second time, late.
    copies: BTreeMap<Wire, Vec<Message>>,
    /// The wires on which everything is lost.
    cut: BTreeSet<Wire>,
    /// The timings and bounds of all servers.
    options: Options,
    connections: u64,
    reads: u64,
    /// Told nothing of the messages while this is set.
    pub events_only: bool,
    happened: Vec<String>,
    /// Who was seen to lead which term (Election Safety).
    leaders: BTreeMap<Term, ServerId>,
    /// What any server has applied, by index (State Machine Safety).
    applied: BTreeMap<u64, Entry>,
}

struct Node {
    /// `None` while it is down.
    raft: Option<Raft>,
    disk: Recovered,
    slow: bool,
    writing: Option<Write>,
    /// By peer, the newest connection that it has opened to us.
    connections: BTreeMap<ServerId, ConnectionId>,
}

impl Cluster {
    pub fn new(servers: u32) -> Cluster {
        let mut cluster = Cluster {
            nodes: BTreeMap::new(),
            wires: BTreeMap::new(),
            copies: BTreeMap::new(),
            cut: BTreeSet::new(),
            options: options(),
            connections: 0,
            reads: 0,
            events_only: false,
            happened: Vec::new(),
            leaders: BTreeMap::new(),
            applied: BTreeMap::new(),
        };
        for id in (1..=servers).map(ServerId) {
            let (disk, connections) = (Recovered::default(), BTreeMap::new());
            let node = Node { raft: None, disk, slow: false, writing: None, connections };
            cluster.nodes.insert(id, node);
        }
        cluster.servers().into_iter().for_each(|id| cluster.start(id));
        cluster.happened.clear();
        cluster
    }

    pub fn servers(&self) -> Vec<ServerId> {
        self.nodes.keys().copied().collect()
    }

    pub fn raft(&mut self, id: ServerId) -> Result<&mut Raft, String> {
        let node = self.nodes.get_mut(&id).ok_or(format!("there is no {id}"))?;
        node.raft.as_mut().ok_or(format!("{id} is down"))
    }

    /// From now on a message carries one entry. Before anything has happened, because all start
    /// anew.
    pub fn one_entry_a_message(&mut self) {
        self.options.append_bytes_max = 1;
        self.servers().into_iter().for_each(|id| self.start(id));
    }

    /// Notes something that happened.
    pub fn tell(&mut self, line: String) {
        self.happened.push(line);
    }

    pub fn take_happened(&mut self) -> Vec<String> {
        std::mem::take(&mut self.happened)
    }

    // ---- Disks and processes. ----

    /// Gives a server this past: a log, by the terms of its entries, and a current term.
    pub fn set_past(&mut self, id: ServerId, terms: &[u64], current_term: Term) {
        let node = self.nodes.get_mut(&id).expect("asked by the caller");
        let id_at =
            |(before, &term): (usize, &u64)| crate::support_raft::at(before as u64 + 1, term);
        node.disk.entries = terms.iter().enumerate().map(id_at).map(entry).collect();
        node.disk.hard_state.current_term = current_term;
        node.disk.hard_state.voted_for = None;
        self.start(id);
        self.happened.clear();
    }

    /// The process comes up with what its disk holds; it and all others connect to each other.
    pub fn start(&mut self, id: ServerId) {
        let membership = Membership::new(self.servers());
        let node = self.nodes.get_mut(&id).expect("asked by the caller");
        let (recovered, options) = (node.disk.clone(), self.options.clone());
        node.raft = Some(Raft::new(id, membership, options, recovered, u64::from(id.0)));
        for peer in self.servers() {
            if peer != id && self.nodes[&peer].raft.is_some() && !self.cut.contains(&(id, peer)) {
                self.connect(id, peer);
                self.connect(peer, id);
            }
        }
    }

    /// The process dies. What was not synced is gone, and its connections close.
    pub fn crash(&mut self, id: ServerId) {
        let node = self.nodes.get_mut(&id).expect("asked by the caller");
        node.raft = None;
        node.writing = None;
        node.connections.clear();
        for peer in self.servers() {
            self.wires.remove(&(peer, id));
            self.wires.remove(&(id, peer));
            if !self.cut.contains(&(id, peer)) {
                self.disconnect(id, peer);
            }
        }
    }

    fn connect(&mut self, from: ServerId, to: ServerId) {
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        let receiver = self.nodes.get_mut(&to).expect("a server of the cluster");
        receiver.connections.insert(from, connection);
        if let Some(raft) = &mut receiver.raft {
            raft.connected(from, connection);
        }
        if let Ok(raft) = self.raft(from) {
            raft.link_renewed(to);
        }
    }

    fn disconnect(&mut self, from: ServerId, to: ServerId) {
        let receiver = self.nodes.get_mut(&to).expect("a server of the cluster");
        if let Some(connection) = receiver.connections.remove(&from)
            && let Some(raft) = &mut receiver.raft
        {
            raft.disconnected(from, connection);
        }
    }

    /// From now on this disk works only when the script says so.
    pub fn slow_disk(&mut self, id: ServerId) {
        self.nodes.get_mut(&id).expect("asked by the caller").slow = true;
    }

    /// A slow disk begins a write, of this many bytes of entries at most, but at least one entry.
    pub fn begin_write(&mut self, id: ServerId, bytes_max: usize) -> Result<(), String> {
        let write =
            self.raft(id)?.take_write(bytes_max).ok_or(format!("{id} has nothing to write"))?;
        let hard_state = write.hard_state.map_or(String::new(), |it| {
            let vote = it.voted_for.map_or("-".to_string(), |candidate| candidate.to_string());
            format!(" term={} vote={vote}", it.current_term)
        });
        self.tell(format!("{id}  writes{hard_state} entries={}", render::ids(&write.entries)));
        self.nodes.get_mut(&id).expect("it has a core").writing = Some(write);
        Ok(())
    }

    /// A slow disk ends the write that it has begun.
    pub fn end_write(&mut self, id: ServerId) -> Result<(), String> {
        let node = self.nodes.get_mut(&id).expect("asked by the caller");
        let write = node.writing.take().ok_or(format!("{id} has begun no write"))?;
        persist(node, write);
        Ok(())
    }

    // ---- Wires. ----

    /// Everything between servers of different groups is lost from now on.
    pub fn partition(&mut self, groups: &[Vec<ServerId>]) {
        let group_of = |id: ServerId| groups.iter().position(|group| group.contains(&id));
        for from in self.servers() {
            for to in self.servers() {
                if group_of(from) != group_of(to) {
                    self.cut.insert((from, to));
                    self.wires.remove(&(from, to));
                }
            }
        }
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// The wires with something on them.
    pub fn busy_wires(&self) -> Vec<Wire> {
        self.wires.iter().filter(|(_, queue)| !queue.is_empty()).map(|(&wire, _)| wire).collect()
    }

    /// Takes what is on a wire: all of it, or the first `count`.
    pub fn take_wire(&mut self, wire: Wire, count: usize) -> Result<Vec<Message>, String> {
        let nothing = format!("nothing is on its way from {} to {}", wire.0, wire.1);
        let queue = self.wires.get_mut(&wire).filter(|queue| !queue.is_empty()).ok_or(nothing)?;
        Ok(queue.drain(..count.min(queue.len())).collect())
    }

    /// Sets aside a copy of what is on a wire.
    pub fn copy(&mut self, wire: Wire) {
        let copies = self.wires.get(&wire).into_iter().flatten().cloned().collect();
        self.copies.insert(wire, copies);
    }

    /// Puts the copies that were set aside behind what is on the wire.
    pub fn put_copies(&mut self, wire: Wire) -> Result<(), String> {
        let copies = self.copies.remove(&wire).ok_or("no copy was set aside".to_string())?;
        for message in copies {
            self.tell(format!("{} -> {}  {}  (late)", wire.0, wire.1, render::message(&message)));
            self.wires.entry(wire).or_default().push_back(message);
        }
        Ok(())
    }

    pub fn deliver(&mut self, wire: Wire, count: usize) -> Result<(), String> {
        for message in self.take_wire(wire, count)? {
            message.check_shape().map_err(|problem| problem.to_string())?;
            self.raft(wire.1)?.step(wire.0, message);
            self.tell_events(wire.1);
        }
        Ok(())
    }

    // ---- After every command. ----

    pub fn read(&mut self, id: ServerId) -> Result<(), String> {
        self.reads += 1;
        let read = self.reads;
        match self.raft(id)?.request_read(ReadId(read)) {
            Ok(()) => self.tell(format!("{id}  takes read {read}")),
            Err(refused) => self.tell(format!("{id}  refuses read {read}: {refused}")),
        }
        Ok(())
    }

    /// All servers hand over what they want done, until nobody wants anything any more.
    pub fn work(&mut self) {
        while self.servers().into_iter().any(|id| self.work_of(id)) {}
        self.check();
    }

    fn work_of(&mut self, id: ServerId) -> bool {
        self.tell_events(id);
        let node = self.nodes.get_mut(&id).expect("a server of the cluster");
        let slow = node.slow;
        let Some(raft) = &mut node.raft else { return false };
        let work = raft.work();
        let write = if slow { None } else { raft.take_write(usize::MAX) };
        let applies = raft.take_applies(usize::MAX);
        work_on_snapshot(raft, &mut node.disk);
        let worked = write.is_some() || !applies.is_empty() || !work.send.is_empty();
        if let Some(write) = write {
            persist(node, write);
        }
        self.tell_events(id);
        self.apply(id, applies);
        for to in work.send {
            for mut message in self.raft(id).expect("it is up").take_messages(to) {
                if let Message::InstallSnapshot(part) = &mut message {
                    part.data = Bytes(vec![0; part.length_bytes as usize].into());
                }
                self.send((id, to), message);
            }
        }
        worked
    }

    fn apply(&mut self, id: ServerId, applies: Vec<Apply>) {
        let mut entries = Vec::new();
        let mut reads = Vec::new();
        for apply in applies {
            match apply {
                Apply::Restore(snapshot) => {
                    self.tell(format!("{id}  goes on from snapshot={snapshot}"));
                }
                Apply::Freeze(snapshot) => {
                    let node = self.nodes.get_mut(&id).expect("a server of the cluster");
                    node.disk.begin_behind(snapshot);
                    self.raft(id).expect("it is up").snapshot_saved(snapshot, SNAPSHOT_BYTES);
                }
                Apply::Entry(entry) => {
                    entries.push(render::entry(&entry));
                    let first = self.applied.entry(entry.id.index.0).or_insert(entry.clone());
                    assert_eq!(*first, entry, "State Machine Safety: {id} applies something else");
                }
                Apply::ReadReady { read, index } => {
                    reads.push(format!("{id}  answers read {} at index {index}", read.0));
                }
                Apply::ReadFailed { read } => reads.push(format!("{id}  fails read {}", read.0)),
            }
        }
        if !entries.is_empty() {
            self.tell(format!("{id}  applies {}", entries.join(", ")));
        }
        reads.into_iter().for_each(|line| self.tell(line));
    }

    fn send(&mut self, wire: Wire, message: Message) {
        let down = self.nodes[&wire.1].raft.is_none();
        let lost = down || self.cut.contains(&wire);
        if !self.events_only {
            let note = if lost { "  (lost)" } else { "" };
            self.tell(format!("{} -> {}  {}{note}", wire.0, wire.1, render::message(&message)));
        }
        if !lost {
            self.wires.entry(wire).or_default().push_back(message);
        }
    }

    fn tell_events(&mut self, id: ServerId) {
        let Ok(raft) = self.raft(id) else { return };
        for event in raft.take_events() {
            if let Event::BecameLeader { term, .. } = event {
                let first = *self.leaders.entry(term).or_insert(id);
                assert_eq!(first, id, "Election Safety: two leaders in {term}");
            }
            self.tell(format!("{id}  {event}"));
        }
    }

    /// Log Matching: where two logs hold the same id, they hold the same entries up to there.
    fn check(&self) {
        let logs: Vec<_> =
            self.nodes.values().filter_map(|it| it.raft.as_ref()).map(Raft::log).collect();
        for (number, log) in logs.iter().enumerate() {
            for other in &logs[..number] {
                let ends = log.last_index().min(other.last_index()).0;
                let first = log.base().index.max(other.base().index).next().0;
                let same = |id: &u64| -> bool {
                    let at = |log: &raft_server::raft::log::Log| -> EntryId {
                        log.id_at(crate::support_raft::index(*id))
                    };
                    at(log) == at(other)
                };
                let agree = (first..=ends).rev().find(same).unwrap_or(0);
                assert!((first..=agree).all(|id| same(&id)), "Log Matching");
            }
        }
    }
}

/// What the worker for snapshots does: it is never slow here.
fn work_on_snapshot(raft: &mut Raft, disk: &mut Recovered) {
    while let Some(work) = raft.take_snapshot_work() {
        match work {
            SnapshotWork::Store { transfer, offset_bytes, parts, .. } => {
                let length: usize = parts.iter().map(|part| part.0.len()).sum();
                raft.snapshot_stored(transfer, offset_bytes + length as u64);
            }
            SnapshotWork::Install { transfer, snapshot } => {
                disk.begin_behind(snapshot);
                raft.snapshot_installed(transfer, snapshot, SNAPSHOT_BYTES);
            }
        }
    }
}

/// What a start makes of a snapshot and an older log: what agrees and follows it is kept.
trait Disk {
    fn begin_behind(&mut self, snapshot: SnapshotId);
}

impl Disk for Recovered {
    fn begin_behind(&mut self, snapshot: SnapshotId) {
        let agrees = self.entries.iter().any(|entry| entry.id == snapshot.last);
        self.entries.retain(|entry| agrees && entry.id.index > snapshot.last.index);
        self.snapshot = snapshot;
        self.snapshot_bytes = SNAPSHOT_BYTES;
    }
}

/// On disk, an entry at an index that exists replaces it and all after it.
fn persist(node: &mut Node, write: Write) {
    node.disk.hard_state = write.hard_state.unwrap_or(node.disk.hard_state);
    if let Some(base) = write.base {
        node.disk.entries.retain(|_| false);
        assert_eq!(node.disk.snapshot, base, "it was on disk before");
    }
    if let Some(first) = write.entries.first() {
        node.disk.entries.retain(|entry| entry.id.index < first.id.index);
    }
    node.disk.entries.extend(write.entries);
    if let Some(raft) = &mut node.raft {
        raft.persisted(write.ticket);
    }
}
