//! PURE. The Raft protocol: Figure 2 of the paper as a plain value.
//!
//! [`Raft`] is one server's share of the protocol. It has no clock, socket, disk, thread or lock:
//! things *happen to it* (`tick`, `step`, `propose`, `persisted` …) and afterwards it can be *asked
//! what it wants done* (`take_write`, `take_messages`, `take_applies`). So it can be compared,
//! cloned, replayed, simulated and searched exhaustively, and the very same code serves traffic.
//!
//! | file | what it teaches |
//! |---|---|
//! | `types`, `message` | the nouns, and the RPCs with their replies |
//! | `interface` | what the core is given, why it refuses, what it wants done |
//! | `log` | the log and its invariants; where two logs can agree |
//! | `quorum` | all counting of majorities |
//! | `election` | §5.2, §5.4.1: timeouts, pre-votes, votes, becoming leader |
//! | `canvass` | whom a candidate still has to ask |
//! | `append_entries` | §5.3, the follower: consistency check, repair, what it owes |
//! | `replication` | §5.3, §5.4.2, the leader: what to send, the replies, the commit rule |
//! | `progress` | what a leader knows about one follower |
//! | `snapshots` | §7: taking snapshots, and what is forgotten of the log |
//! | `install_snapshot` | §7, Figure 13: sending and receiving them |
//! | `transfer` | diss. §3.10: handing leadership over |
//! | `read_index` | diss. §6.4: linearizable reads without log entries |
//! | `durability` | what the disk holds and which promises may leave |
//! | `event`, `status` | what happened; what may be asked |
//! | `rest` | which tick may do something |
//! | `invariants`, `random` | what must always be true; the dice |
//!
//! # One entry's life
//!
//! `propose` appends it to the leader's log [L2]. `take_write` hands it to the leader's disk and
//! `take_messages` to the followers [L3], both at once. A follower's `step` checks and stores it
//! [AE2]–[AE4]; when its disk has it (`persisted`), the follower's `take_messages` acknowledges it.
//! With a majority of disks the leader commits it [L4] and `take_applies` hands it to the state
//! machine [ALL1]; the next message tells the followers to do the same [AE5].
//!
//! # What is owed belongs to one term
//!
//! Replies are not stored when a request arrives; they are made when they are *taken*, from what is
//! true then. A stored acknowledgement that leaves after a change of term could commit an entry
//! that has been replaced meanwhile; one that waits for the newest entry to be synced would never
//! leave under steady load. A change of term drops everything that is owed.
//!
//! Conditions with `removed(Rule::…)` are the switches of [`crate::lab`]: read past them.
//!
//! # Departures from the paper
//!
//! - **Entries carry a stamp**, the leader's word for when it appended them. The core only keeps it
//!   from falling along a leader's log; what expires by it is the state machine's business.
//! - **Pre-vote** (diss. §9.6): a server asks whether it could win before it spends a term, so that
//!   one that was cut off does not depose a healthy leader when it returns. Who refuses tells its
//!   term, or a short log in a high term and a long one in a low refused each other for ever.
//! - **Check-quorum** (diss. §6.2): a leader steps down that no majority answers any more.
//! - **Votes are withheld** while a leader is heard (diss. §4.2.3); losing the leader's connection
//!   ends that at once, so a killed leader is replaced within milliseconds. Safety does not depend
//!   on it.
//! - **Durability is a guard, not a step**: the paper says "persist before responding to RPCs";
//!   here a response exists only once it is true on disk. A leader sends entries while it is still
//!   writing them (diss. §10.2.1) and counts itself only when it has.
//! - **Backing up** skips whole terms on both sides (the optimization at the end of §5.3).
//! - **Probes carry no entries**: until the logs are known to agree, an empty AppendEntries asks.
//! - **InstallSnapshot is resumed and flow-controlled**: the follower says how far it has come, and
//!   a lost part is asked for again. That all of it is installed is told like any other agreement:
//!   by the match index of an AppendEntriesReply.
//! - **A snapshot of what is committed here anyway** is answered by saying so, and changes nothing.
//! - **A server alone in its cluster** stands for election at once (§5.2 lets it wait): there is
//!   nobody that it could hear.
//! - **Servers take turns with snapshots**: each still decides alone (§7), but the first of a log
//!   comes at another time on each, so that not all of their disks are busy with it at once.
//! - **A leader at rest**, whose followers have all of its log, sends heartbeats half as often.
//! - **News of a commit** goes with the next entries to a follower where nobody waits for it, or
//!   with a tick. Where somebody does, it leaves at once.
//! - **ReadIndex** (diss. §6.4) for reads. When there are many, they ask no more followers than a
//!   majority needs, as long as these answer. A follower that asks for a read has echoed by asking,
//!   so of three servers no other is asked. Forwarding and request ids live in `gateway` and `kv`.

pub mod durability;
pub mod event;
pub mod interface;
pub mod log;
pub mod message;
pub mod progress;
pub mod quorum;
pub mod read_index;
pub mod types;

mod append_entries;
mod canvass;
mod election;
mod install_snapshot;
mod invariants;
mod random;
mod replication;
mod rest;
mod snapshots;
mod status;
mod transfer;

use std::collections::{BTreeMap, VecDeque};

pub use self::append_entries::{Owed, OwedInstall};
pub use self::election::{Candidate, ElectionTimer, Follower, PreCandidate};
pub use self::install_snapshot::{SnapshotWork, TransferId};
pub use self::interface::{
    Apply, ConnectionId, Options, Recovered, Refused, SnapshotOptions, Work,
};
pub use self::read_index::{DoneRead, ReadId};
pub use self::replication::Leader;
pub use self::snapshots::Snapshots;
pub use self::status::{PeerStatus, RoleName, Status};

use self::durability::Durable;
use self::event::Event;
use self::invariants::Invariants;
use self::log::Log;
use self::message::{Message, PreVoteReply};
use self::quorum::Membership;
use self::random::Random;
use self::snapshots::Turn;
use self::types::{HardState, Index, ServerId, SnapshotId, Stamp, Term};
use crate::lab::{Rule, removed};

/// One server's Raft state: Figure 2's "State" box, and what our departures add to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Raft {
    /// Who we are; one of the membership.
    id: ServerId,
    options: Options,
    membership: Membership,

    // Persistent state on all servers (Figure 2). `durable` knows how much of it the disk really
    // holds.
    /// Latest term this server has seen; increases only.
    current_term: Term,
    /// Candidate that received our vote in `current_term`, if any.
    voted_for: Option<ServerId>,
    /// The log entries.
    log: Log,

    // Volatile state on all servers (Figure 2).
    /// Index of the highest entry known to be committed; increases only.
    commit_index: Index,
    /// Index of the highest entry handed to the state machine; increases only.
    last_applied: Index,

    /// Follower, candidate or leader, with the state that only that role has.
    role: Role,
    /// What the disk holds, and the write in flight.
    durable: Durable,
    /// The snapshots that are taken and received.
    snapshots: Snapshots,

    // What belongs to `current_term` and is dropped with it. Say that this term's leader has sent
    // entries 1 to 9, our disk holds 1 to 7, and we have told the leader of 5: then `verified` is
    // 9, `durable.index()` 7, `acknowledged` 5, and the next acknowledgement says 7.
    /// The highest last-new index agreed with this term's leader: how far we could vouch for our
    /// log. The leader never replaces its own entries, so truncation never reaches below it.
    verified: Index,
    /// The highest match index told to this term's leader.
    acknowledged: Index,
    /// Replies that are due, by server.
    owed: BTreeMap<ServerId, Owed>,

    /// What the next entry of our own is stamped with: an input.
    log_time: Stamp,
    /// When to start an election.
    timer: ElectionTimer,
    /// How often in a row we may try again soon instead of waiting a whole election timeout.
    hurries_left: u8,
    /// The newest inbound connection of each peer.
    connections: BTreeMap<ServerId, ConnectionId>,
    /// Reads that are confirmed or failed and not yet taken.
    reads_done: VecDeque<DoneRead>,
    /// The same, asked for by other servers.
    others_reads_done: VecDeque<DoneRead>,
    random: Random,
    events: Vec<Event>,
    invariants: Invariants,
}

/// What a server is in its term (Figure 4), with what only that role knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Answers candidates and leaders.
    Follower(Follower),
    /// Asks whether it could win an election (diss. §9.6). It is a follower in all other respects.
    PreCandidate(PreCandidate),
    /// Asks for votes.
    Candidate(Candidate),
    /// Has won its term's election.
    Leader(Leader),
}

impl Raft {
    /// A server as it comes up: a follower with what its disk holds. `seed` decides all its dice.
    pub fn new(
        id: ServerId,
        membership: Membership,
        options: Options,
        recovered: Recovered,
        seed: u64,
    ) -> Raft {
        assert!(membership.contains(id), "a server is a member of its own cluster");
        assert!(options.heartbeat_ticks >= 1, "a heartbeat takes time");
        assert!(options.heartbeat_ticks < options.election_min_ticks, "§5.6: heartbeats first");
        assert!(options.election_min_ticks < options.election_max_ticks, "timeouts must differ");
        let log = Log::new(recovered.snapshot, recovered.entries);
        let HardState { current_term, voted_for } = recovered.hard_state;
        assert!(log.last().term <= current_term, "no entry is newer than the recovered term");
        let mut random = Random::new(seed);
        let timer = ElectionTimer::at_start(&membership, &options, &mut random);
        let mut snapshots = Snapshots::new(recovered.snapshot, recovered.snapshot_bytes);
        let is_first = recovered.snapshot == SnapshotId::NONE;
        if is_first || log.last_index() == log.base().index {
            snapshots.turn = Turn::after(None, id, &membership);
        }
        Raft {
            id,
            membership,
            current_term,
            voted_for,
            commit_index: log.base().index,
            last_applied: log.base().index,
            role: Role::Follower(Follower::default()),
            durable: Durable::recovered(recovered.hard_state, log.last_index()),
            snapshots,
            log,
            verified: Index::ZERO,
            acknowledged: Index::ZERO,
            owed: BTreeMap::new(),
            log_time: Stamp::default(),
            timer,
            hurries_left: election::HURRIES_MAX,
            connections: BTreeMap::new(),
            reads_done: VecDeque::new(),
            others_reads_done: VecDeque::new(),
            random,
            events: Vec::new(),
            invariants: Invariants::default(),
            options,
        }
    }

    // ---- Inputs: what happens to a server. ----

    /// Time passes.
    pub fn tick(&mut self) {
        self.durable.tick();
        self.tick_snapshots();
        match self.role {
            Role::Leader(_) => self.tick_leader(), // [L1]
            _ => self.tick_election(),             // [F2] [C4]
        }
        self.check_invariants();
    }

    /// A message from another server. Requires `message.check_shape()` to have succeeded.
    ///
    /// The term rules stand here, in one place, and handlers only assert them: a higher term makes
    /// us a follower [ALL2]; a stale request is told our term [AE1] [RV1]; a stale reply dropped.
    /// (Of pre-votes their handlers judge: a refusal from a lower term is no old one.)
    pub fn step(&mut self, from: ServerId, message: Message) {
        debug_assert_eq!(message.check_shape(), Ok(()), "malformed messages stop at the door");
        if from == self.id || !self.membership.contains(from) {
            self.record(Event::IgnoredStranger { from });
            return;
        }
        let term = message.term();
        if term > self.current_term {
            match &message {
                // A pre-vote speaks of a term that nobody is in yet, and so does the reply that
                // grants it; only a refusal tells a term that is real.
                Message::PreVote(_) if !removed(Rule::PreVoteMovesNoTerm) => {}
                Message::PreVoteReply(PreVoteReply { granted: true, .. }) => {}
                Message::PreVoteReply(_) if removed(Rule::RefusalTellsTheTerm) => {}
                // A server that hears its leader does not let a candidate disturb it (diss.
                // §4.2.3).
                Message::RequestVote(_)
                    if self.hears_a_leader() && !removed(Rule::VotesAreWithheld) =>
                {
                    return self.withhold_vote(from, term);
                }
                _ if removed(Rule::HigherTermIsAdopted) => return,
                _ => self.become_follower(term), // [ALL2]
            }
        }
        match message {
            Message::PreVote(request) => self.handle_pre_vote(from, &request),
            Message::PreVoteReply(reply) => self.handle_pre_vote_reply(from, &reply),
            Message::RequestVote(_)
            | Message::TransferVote(_)
            | Message::AppendEntries(_)
            | Message::InstallSnapshot(_)
                if term < self.current_term =>
            {
                self.owe_our_term(from, &message); // [AE1] [RV1] [IS1]
            }
            Message::TimeoutNow(_) if term < self.current_term => {}
            _ if term < self.current_term && !removed(Rule::StaleRepliesAreDropped) => {}
            Message::RequestVote(request) | Message::TransferVote(request) => {
                self.handle_request_vote(from, &request);
            }
            Message::RequestVoteReply(reply) => self.handle_request_vote_reply(from, &reply),
            Message::AppendEntries(request) => self.handle_append_entries(from, request),
            Message::AppendEntriesReply(reply) => self.handle_append_entries_reply(from, &reply),
            Message::InstallSnapshot(request) => self.handle_install_snapshot(from, request),
            Message::InstallSnapshotReply(reply) => {
                self.handle_install_snapshot_reply(from, &reply);
            }
            Message::TimeoutNow(request) => self.handle_timeout_now(from, &request),
        }
        self.check_invariants();
    }

    /// `peer` has opened a connection to us.
    pub fn connected(&mut self, peer: ServerId, connection: ConnectionId) {
        let newest = self.connections.entry(peer).or_insert(connection);
        *newest = connection.max(*newest);
    }

    /// A connection from `peer` has ended. An older one that closes late means nothing.
    pub fn disconnected(&mut self, peer: ServerId, connection: ConnectionId) {
        let newest = self.connections.get(&peer) == Some(&connection);
        if newest || removed(Rule::LateCloseIsIgnored) {
            self.connections.remove(&peer);
            self.lose_leader(peer);
        }
    }

    /// Our own connection to `peer` is new: what was sent on the old one may be lost.
    pub fn link_renewed(&mut self, peer: ServerId) {
        match &mut self.role {
            Role::Leader(leader) => {
                leader.probe_again(peer);
                self.send_snapshots(); // if the log does not reach back so far any more
            }
            Role::Candidate(candidate) => candidate.ask_again(peer),
            Role::PreCandidate(candidate) => candidate.ask_again(peer),
            // Our acknowledgements may be lost; tell this term's leader again.
            Role::Follower(follower) if follower.leader == Some(peer) => {
                self.acknowledged = Index::ZERO;
            }
            Role::Follower(_) => {}
        }
    }

    // ---- Outputs: what it wants done. One worker each. (`take_write` is in `durability`.) ----

    /// What could be taken now.
    pub fn work(&self) -> Work {
        let has_messages = |&peer: &ServerId| self.has_messages(peer);
        Work {
            write: self.has_write(),
            send: self.membership.peers_of(self.id).filter(has_messages).collect(),
            apply: self.has_applies(),
            snapshot: self.has_snapshot_work(),
        }
    }

    /// Whether `take_messages(to)` would return anything.
    pub fn has_messages(&self, to: ServerId) -> bool {
        self.has_requests(to) || self.has_replies(to)
    }

    /// What we would tell this peer now. Call again until it is empty: one AppendEntries carries a
    /// bounded number of bytes.
    pub fn take_messages(&mut self, to: ServerId) -> Vec<Message> {
        let mut messages = Vec::new();
        self.take_replies(to, &mut messages);
        self.take_requests(to, &mut messages);
        messages
    }

    /// Whether `take_applies` would return anything.
    pub fn has_applies(&self) -> bool {
        self.last_applied < self.commit_index
            || self.has_done_reads()
            || self.has_restore()
            || self.snapshot_is_due()
    }

    /// A snapshot to go on from, committed entries in order [ALL1], up to `bytes_max` of them (at
    /// least one if there is one), the reads that may be answered after them, and the snapshot that
    /// is to be taken then.
    pub fn take_applies(&mut self, bytes_max: usize) -> Vec<Apply> {
        let mut applies: Vec<Apply> = self.take_restore().map(Apply::Restore).into_iter().collect();
        let from = self.last_applied.next();
        let mut end = self.commit_index;
        if removed(Rule::ApplyOnlyCommitted) {
            end = self.log.last_index();
        }
        let entries = self.log.slice_up_to(from, end, bytes_max);
        if let Some(last) = entries.last() {
            assert!(last.id.index <= self.commit_index, "only committed entries are applied");
            self.last_applied = last.id.index;
        }
        applies.extend(entries.into_iter().map(Apply::Entry));
        self.take_done_reads(&mut applies);
        if self.snapshot_is_due() {
            applies.push(Apply::Freeze(self.freeze()));
        }
        self.check_invariants();
        applies
    }

    /// What happened since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Whether anything happened since the last `take_events`.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    // ---- Private steps. ----

    fn take_requests(&mut self, to: ServerId, messages: &mut Vec<Message>) {
        match self.role {
            Role::Follower(_) => {}
            Role::PreCandidate(_) | Role::Candidate(_) => {
                messages.extend(self.take_vote_request(to));
            }
            Role::Leader(_) => {
                messages.extend(self.take_append_entries(to).map(Message::AppendEntries));
                messages.extend(self.take_timeout_now(to).map(Message::TimeoutNow));
                messages.extend(self.take_snapshot_part(to).map(Message::InstallSnapshot));
            }
        }
    }

    fn has_requests(&self, to: ServerId) -> bool {
        match &self.role {
            Role::Follower(_) => false,
            Role::PreCandidate(_) | Role::Candidate(_) => self.has_vote_request(to),
            Role::Leader(_) => {
                self.has_append_entries(to)
                    || self.has_timeout_now(to)
                    || self.has_snapshot_part(to)
            }
        }
    }

    fn record(&mut self, event: Event) {
        self.events.push(event);
    }
}
