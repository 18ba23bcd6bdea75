//! A small language for speaking to one `Raft` value: servers with a given past, messages in few
//! words, and the two things that happen most often around a server, its disk syncing and its clock
//! ticking.
//!
//! A log is written as pairs `(index, term)`, so `&[(1, 1), (2, 1)]` is two entries of term 1.

#![allow(dead_code)] // each test file uses the words it needs

use std::ops::{Deref, DerefMut};

use raft_server::raft::event::Event;
use raft_server::raft::message::{
    AppendEntries, AppendEntriesReply, InstallSnapshot, InstallSnapshotReply, Message, Mismatch,
    PreVote, PreVoteReply, RequestVote, RequestVoteReply, Round, TimeoutNow,
};
use raft_server::raft::quorum::Membership;
use raft_server::raft::types::{
    Bytes, Command, Entry, EntryId, HardState, Index, Payload, ServerId, SnapshotId, Stamp, Term,
};
use raft_server::raft::{
    Apply, Options, Raft, Recovered, RoleName, SnapshotOptions, SnapshotWork, TransferId,
};

/// The three servers of most tests. By custom the first one leads.
pub const N1: ServerId = ServerId(1);
pub const N2: ServerId = ServerId(2);
pub const N3: ServerId = ServerId(3);
/// Who leads when the server under test follows.
pub const LEADER: ServerId = N1;

pub fn term(number: u64) -> Term {
    Term(number)
}

pub fn index(number: u64) -> Index {
    Index(number)
}

/// The entry at `index` of `term`, in the order in which a log is written down.
pub fn at(index: u64, term: u64) -> EntryId {
    EntryId::new(Term(term), Index(index))
}

pub fn command(text: &str) -> Command {
    Command::from(text.as_bytes())
}

/// An entry whose command tells where it came from, so that two entries with one id are equal.
pub fn entry(id: EntryId) -> Entry {
    Entry { id, stamp: Stamp::default(), payload: Payload::Command(command(&format!("{id}"))) }
}

fn entries(ids: &[(u64, u64)]) -> Vec<Entry> {
    ids.iter().map(|&(index, term)| entry(at(index, term))).collect()
}

/// Ticks instead of milliseconds: a heartbeat every 2, elections after 10 to 20.
pub fn options() -> Options {
    Options {
        heartbeat_ticks: 2,
        election_min_ticks: 10,
        election_max_ticks: 20,
        append_bytes_max: 1000,
        window_bytes_max: 1000,
        uncommitted_bytes_max: 10_000,
        snapshots: SnapshotOptions::NEVER,
    }
}

/// One server under test. It behaves like the `Raft` in it.
#[derive(Clone, Debug)]
pub struct Server {
    raft: Raft,
    id: ServerId,
    servers: u32,
    options: Options,
    recovered: Recovered,
}

/// Server `id` of a cluster of three, as it comes up with an empty disk.
pub fn server(id: u32) -> Server {
    let id = ServerId(id);
    let (options, recovered) = (options(), Recovered::default());
    let membership = Membership::new((1..=3).map(ServerId));
    let raft = Raft::new(id, membership, options.clone(), recovered.clone(), 7);
    Server { raft, id, servers: 3, options, recovered }
}

impl Deref for Server {
    type Target = Raft;
    fn deref(&self) -> &Raft {
        &self.raft
    }
}

impl DerefMut for Server {
    fn deref_mut(&mut self) -> &mut Raft {
        &mut self.raft
    }
}

// ---- Given: a server with a past. ----

impl Server {
    fn restarted(mut self) -> Server {
        let membership = Membership::new((1..=self.servers).map(ServerId));
        let (options, recovered) = (self.options.clone(), self.recovered.clone());
        self.raft = Raft::new(self.id, membership, options, recovered, 7);
        self
    }

    /// Of a cluster of this size.
    pub fn of(mut self, servers: u32) -> Server {
        self.servers = servers;
        self.restarted()
    }

    /// With this log on its disk, in the term of its last entry unless it is in a later one.
    pub fn with_log(mut self, ids: &[(u64, u64)]) -> Server {
        self.recovered.entries = entries(ids);
        let last = self.recovered.entries.last().map_or(Term::ZERO, |entry| entry.id.term);
        let current = &mut self.recovered.hard_state.current_term;
        *current = (*current).max(last);
        self.restarted()
    }

    /// With a snapshot of this length on its disk that ends at `index` of `term`; the log given by
    /// `with_log` follows it.
    pub fn with_snapshot(mut self, index: u64, term: u64, bytes: u64) -> Server {
        self.recovered.snapshot = snapshot(index, term);
        self.recovered.snapshot_bytes = bytes;
        let current = &mut self.recovered.hard_state.current_term;
        *current = (*current).max(Term(term));
        self.restarted()
    }

    /// In this term, without having voted in it.
    pub fn in_term(mut self, number: u64) -> Server {
        self.recovered.hard_state = HardState { current_term: Term(number), voted_for: None };
        self.restarted()
    }

    /// With other timings or bounds.
    pub fn with_options(mut self, change: impl FnOnce(&mut Options)) -> Server {
        change(&mut self.options);
        self.restarted()
    }

    /// After its election timeout: asks for pre-votes.
    pub fn pre_candidate(mut self) -> Server {
        self.tick_until(RoleName::PreCandidate);
        self
    }

    /// After a majority would vote for it: votes for itself and wants that on disk.
    pub fn candidate(mut self) -> Server {
        self.tick_until(RoleName::PreCandidate);
        let asked = self.current_term().next();
        for peer in self.majority_of_peers() {
            self.step(peer, pre_vote_granted(asked));
        }
        assert_eq!(self.status().role, RoleName::Candidate);
        self
    }

    /// After winning the next term's election. The no-op is in its log, and neither synced nor
    /// sent.
    pub fn leader(self) -> Server {
        let mut server = self.candidate();
        server.sync();
        let current = server.current_term();
        for peer in server.majority_of_peers() {
            server.step(peer, vote(current));
        }
        assert_eq!(server.status().role, RoleName::Leader);
        server.take_events();
        server
    }

    /// As `leader`, with everything of its log synced and known to be on all followers too.
    pub fn settled_leader(self) -> Server {
        let mut server = self.leader();
        server.sync();
        let (current, last) = (server.current_term(), server.status().last_index);
        for peer in server.peers() {
            server.sent(peer); // the probe
            server.step(peer, reply(current).matching(last.0));
        }
        server.send_all(); // the no-op and the commit index
        assert_eq!(server.status().commit_index, last);
        server.take_applies(usize::MAX);
        server.take_events();
        server
    }

    fn majority_of_peers(&self) -> Vec<ServerId> {
        self.peers().into_iter().take(self.servers as usize / 2).collect()
    }

    fn peers(&self) -> Vec<ServerId> {
        self.membership().peers_of(self.id).collect()
    }
}

// ---- When: something happens to it. ----

impl Server {
    /// A message arrives. It must be one that a real connection would have let through.
    pub fn step(&mut self, from: ServerId, message: impl Into<Message>) {
        let message = message.into();
        assert_eq!(message.check_shape(), Ok(()), "the test speaks like a peer");
        self.raft.step(from, message);
    }

    /// The disk works until everything is on it.
    pub fn sync(&mut self) {
        while let Some(write) = self.raft.take_write(usize::MAX) {
            self.raft.persisted(write.ticket);
        }
    }

    pub fn ticks(&mut self, count: u32) {
        (0..count).for_each(|_| self.raft.tick());
    }

    /// Ticks until the server has this role; fails if that takes more than two of the longest
    /// timeouts.
    pub fn tick_until(&mut self, role: RoleName) {
        for _ in 0..2 * self.options.election_max_ticks {
            if self.status().role == role {
                return;
            }
            self.raft.tick();
        }
        panic!("{} does not become {role:?} by waiting", self.id);
    }

    /// The process dies and comes back with exactly what its disk holds.
    pub fn crash(mut self) -> Server {
        let snapshot = self.snapshots().newest();
        let entry_at = |number| self.log().slice(Index(number), 0).remove(0);
        let first = snapshot.last.index.0 + 1;
        self.recovered.entries = (first..=self.durable().index().0).map(entry_at).collect();
        self.recovered.snapshot = snapshot;
        self.recovered.snapshot_bytes = self.snapshots().newest_bytes();
        self.recovered.hard_state = self.durable().hard_state();
        self.restarted()
    }
}

// ---- Then: what it wants done and what is true of it. ----

impl Server {
    /// Everything it would tell `to` now.
    pub fn sent(&mut self, to: ServerId) -> Vec<Message> {
        let mut all = Vec::new();
        while self.has_messages(to) {
            let messages = self.take_messages(to);
            assert!(!messages.is_empty(), "has_messages promised some");
            all.extend(messages);
            assert!(all.len() < 1000, "taking ends: what was said is not said again and again");
        }
        assert!(self.take_messages(to).is_empty(), "has_messages promised none");
        all
    }

    /// Hands everything over to all peers and forgets it.
    pub fn send_all(&mut self) {
        for peer in self.peers() {
            self.sent(peer);
        }
    }

    /// The AppendEntries among what it would tell `to` now.
    pub fn appends(&mut self, to: ServerId) -> Vec<AppendEntries> {
        let append = |message| match message {
            Message::AppendEntries(append) => Some(append),
            _ => None,
        };
        self.sent(to).into_iter().filter_map(append).collect()
    }

    /// The one AppendEntriesReply it would send to `to` now.
    pub fn append_reply(&mut self, to: ServerId) -> AppendEntriesReply {
        match self.sent(to).as_slice() {
            [Message::AppendEntriesReply(reply)] => reply.clone(),
            other => panic!("expected one AppendEntriesReply, found {other:?}"),
        }
    }

    /// The log as it is written in `with_log`.
    pub fn log_ids(&self) -> Vec<(u64, u64)> {
        let term_at = |number| self.log().term_at(Index(number)).expect("within the log").0;
        let first = self.log().base().index.0 + 1;
        (first..=self.log().last_index().0).map(|number| (number, term_at(number))).collect()
    }

    /// Takes a snapshot of what is applied, of 2500 bytes, and saves it.
    pub fn take_snapshot(&mut self) -> SnapshotId {
        self.request_snapshot();
        let frozen = |apply| match apply {
            Apply::Freeze(snapshot) => Some(snapshot),
            _ => None,
        };
        let applies = self.take_applies(usize::MAX);
        let snapshot = applies.into_iter().find_map(frozen).expect("one was asked for");
        self.snapshot_saved(snapshot, 2500);
        snapshot
    }

    /// The parts of a snapshot among what it would tell `to` now: offsets and lengths.
    pub fn parts(&mut self, to: ServerId) -> Vec<(u64, u64)> {
        let part = |message| match message {
            Message::InstallSnapshot(part) => Some((part.offset_bytes, part.length_bytes)),
            _ => None,
        };
        self.sent(to).into_iter().filter_map(part).collect()
    }

    /// What it says about the snapshot that `to` sends it: bytes stored, and whether some are
    /// missing.
    pub fn stored(&mut self, to: ServerId) -> Option<(u64, bool)> {
        let stored = |message| match message {
            Message::InstallSnapshotReply(reply) => Some((reply.stored_bytes, reply.gap)),
            _ => None,
        };
        self.sent(to).into_iter().find_map(stored)
    }

    /// The worker for snapshots stores all parts that have come. Returns the transfer whose file is
    /// to be installed, if one is complete.
    pub fn store_parts(&mut self) -> Option<(TransferId, SnapshotId)> {
        while let Some(work) = self.take_snapshot_work() {
            match work {
                SnapshotWork::Install { transfer, snapshot } => return Some((transfer, snapshot)),
                SnapshotWork::Store { transfer, offset_bytes, parts, .. } => {
                    let length: usize = parts.iter().map(|part| part.0.len()).sum();
                    self.snapshot_stored(transfer, offset_bytes + length as u64);
                }
            }
        }
        None
    }

    pub fn role_name(&self) -> RoleName {
        self.status().role
    }

    /// Whether an event of this kind was recorded since the last look.
    pub fn tells(&mut self, kind: impl Fn(&Event) -> bool) -> bool {
        self.take_events().iter().any(kind)
    }
}

// ---- Messages. ----

/// An AppendEntries under construction: an empty one after index 0 that wants no echo.
#[derive(Clone, Debug)]
pub struct Append(AppendEntries);

pub fn append(term: Term) -> Append {
    Append(AppendEntries {
        term,
        prev: EntryId::ZERO,
        entries: Vec::new(),
        leader_commit: Index::ZERO,
        round: Round(0),
    })
}

impl Append {
    /// Following the entry at `index` of `term`.
    pub fn after(mut self, index: u64, term: u64) -> Append {
        self.0.prev = at(index, term);
        self
    }

    pub fn entries(mut self, ids: &[(u64, u64)]) -> Append {
        self.0.entries = entries(ids);
        self
    }

    pub fn leader_commit(mut self, index: u64) -> Append {
        self.0.leader_commit = Index(index);
        self
    }

    /// Asking for an echo.
    pub fn round(mut self, round: u64) -> Append {
        self.0.round = Round(round);
        self
    }
}

impl From<Append> for Message {
    fn from(append: Append) -> Message {
        Message::AppendEntries(append.0)
    }
}

/// An AppendEntriesReply under construction.
#[derive(Clone, Debug)]
pub struct Reply(AppendEntriesReply);

pub fn reply(term: Term) -> Reply {
    Reply(AppendEntriesReply { term, round: Round(0), match_index: Index::ZERO, mismatch: None })
}

impl Reply {
    pub fn matching(mut self, index: u64) -> Reply {
        self.0.match_index = Index(index);
        self
    }

    pub fn round(mut self, round: u64) -> Reply {
        self.0.round = Round(round);
        self
    }

    /// What was to be found at index `prev` is not there; `hint` is the last that could agree.
    pub fn mismatch(mut self, prev: u64, hint: EntryId) -> Reply {
        self.0.mismatch = Some(Mismatch { prev_index: Index(prev), hint });
        self
    }
}

impl From<Reply> for Message {
    fn from(reply: Reply) -> Message {
        Message::AppendEntriesReply(reply.0)
    }
}

pub fn snapshot(index: u64, term: u64) -> SnapshotId {
    SnapshotId { last: at(index, term), stamp: Stamp::default() }
}

/// A part of a snapshot of 2500 bytes that ends at `last`.
pub fn install(term: Term, last: EntryId, offset_bytes: u64, length_bytes: u64) -> Message {
    Message::InstallSnapshot(InstallSnapshot {
        term,
        snapshot: SnapshotId { last, stamp: Stamp::default() },
        total_bytes: 2500,
        offset_bytes,
        length_bytes,
        data: Bytes(vec![0; length_bytes as usize].into()),
    })
}

pub fn install_reply(term: Term, last_index: u64, stored_bytes: u64, gap: bool) -> Message {
    let last_index = Index(last_index);
    Message::InstallSnapshotReply(InstallSnapshotReply { term, last_index, stored_bytes, gap })
}

pub fn timeout_now(term: Term) -> Message {
    Message::TimeoutNow(TimeoutNow { term })
}

pub fn request_vote(term: Term, last: EntryId) -> Message {
    Message::RequestVote(RequestVote { term, last })
}

pub fn vote(term: Term) -> Message {
    Message::RequestVoteReply(RequestVoteReply { term, granted: true })
}

pub fn no_vote(term: Term) -> Message {
    Message::RequestVoteReply(RequestVoteReply { term, granted: false })
}

pub fn pre_vote(term: Term, last: EntryId) -> Message {
    Message::PreVote(PreVote { term, last })
}

pub fn pre_vote_granted(term: Term) -> Message {
    Message::PreVoteReply(PreVoteReply { term, granted: true, leader_heard: false })
}

pub fn pre_vote_refused(term: Term) -> Message {
    Message::PreVoteReply(PreVoteReply { term, granted: false, leader_heard: false })
}
