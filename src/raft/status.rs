//! What the core tells about itself to those who watch it.

use std::hash::{Hash, Hasher};

use super::durability::Durable;
use super::log::Log;
use super::progress::Mode;
use super::quorum::Membership;
use super::types::{HardState, Index, ServerId, SnapshotId, Stamp, Term};
use super::{Options, Raft, Role, Snapshots};

/// A server's state at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Who.
    pub id: ServerId,
    /// Its term.
    pub term: Term,
    /// Its role.
    pub role: RoleName,
    /// The leader it knows.
    pub leader: Option<ServerId>,
    /// Its vote in this term.
    pub voted_for: Option<ServerId>,
    /// Highest entry known to be committed.
    pub commit_index: Index,
    /// Highest entry handed to the state machine.
    pub last_applied: Index,
    /// End of its log.
    pub last_index: Index,
    /// How far its disk holds the log.
    pub durable_index: Index,
    /// The first entry that is still in its log, or would be.
    pub first_index: Index,
    /// Its newest snapshot.
    pub snapshot: SnapshotId,
    /// The length of that snapshot's file, in bytes.
    pub snapshot_bytes: u64,
    /// The snapshot that it is receiving: how much of it is stored, and how long it is, in bytes.
    pub receiving: Option<(u64, u64)>,
    /// Whether it knows an entry of its term to be committed: a leader that does knows of all
    /// that is.
    pub committed_in_term: bool,
    /// On a follower, ticks since its leader was heard; `None` if it was not, or is not any more.
    pub leader_heard_ago_ticks: Option<u32>,
    /// On a leader, its view of the others.
    pub peers: Vec<PeerStatus>,
}

/// A role without its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RoleName {
    /// Follows.
    Follower,
    /// Asks for pre-votes.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// A leader's view of one follower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who.
    pub id: ServerId,
    /// The follower's disk agrees with the leader's log up to here.
    pub match_index: Index,
    /// The next entry to send.
    pub next_index: Index,
    /// Ticks since it last answered.
    pub heard_ago_ticks: u32,
    /// Whether it is sent entries as they come; otherwise it is being probed.
    pub streaming: bool,
    /// The snapshot that it is being sent: how much of it is stored, and how long it is, in bytes.
    pub snapshot: Option<(u64, u64)>,
}

/// Questions.
impl Raft {
    /// Who we are.
    pub fn id(&self) -> ServerId {
        self.id
    }

    /// The term we are in.
    pub fn current_term(&self) -> Term {
        self.current_term
    }

    /// Term and vote, as the disk should hold them.
    pub fn hard_state(&self) -> HardState {
        HardState { current_term: self.current_term, voted_for: self.voted_for }
    }

    /// The stamp of the last entry in our log; zero if it is empty.
    pub fn last_stamp(&self) -> Stamp {
        self.log.last_stamp()
    }

    /// The leader of our term, if we know one: the hint for whoever asks us instead.
    pub fn leader(&self) -> Option<ServerId> {
        match &self.role {
            Role::Leader(_) => Some(self.id),
            Role::Follower(follower) => follower.leader,
            Role::PreCandidate(_) | Role::Candidate(_) => None,
        }
    }

    /// Whether we lead our term.
    pub fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// Who votes.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Its timings and bounds.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Whether `peer` has a connection open to us.
    pub fn is_connected(&self, peer: ServerId) -> bool {
        self.connections.contains_key(&peer)
    }

    /// What we are.
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// The log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The snapshots that are taken and received.
    pub fn snapshots(&self) -> &Snapshots {
        &self.snapshots
    }

    /// What the disk holds.
    pub fn durable(&self) -> &Durable {
        &self.durable
    }

    /// Index of the highest entry known to be committed.
    pub fn commit_index(&self) -> Index {
        self.commit_index
    }

    /// Index of the highest entry handed to the state machine.
    pub fn last_applied(&self) -> Index {
        self.last_applied
    }

    /// A picture of this server.
    pub fn status(&self) -> Status {
        let mut status = Status {
            id: self.id,
            term: self.current_term,
            role: self.role.name(),
            leader: self.leader(),
            voted_for: self.voted_for,
            commit_index: self.commit_index,
            last_applied: self.last_applied,
            last_index: self.log.last_index(),
            durable_index: self.durable.index(),
            first_index: self.log.base().index.next(),
            snapshot: self.snapshots.newest(),
            snapshot_bytes: self.snapshots.newest_bytes(),
            receiving: self.snapshots.incoming().map(|(_, stored, total)| (stored, total)),
            committed_in_term: self.log.term_at(self.commit_index) == Some(self.current_term),
            leader_heard_ago_ticks: match &self.role {
                Role::Follower(follower) => follower.heard_ago_ticks,
                _ => None,
            },
            peers: Vec::new(),
        };
        if let Role::Leader(leader) = &self.role {
            status.peers = leader
                .progress
                .iter()
                .map(|(&id, progress)| PeerStatus {
                    id,
                    match_index: progress.match_index,
                    next_index: progress.next_index,
                    heard_ago_ticks: progress.heard_ago_ticks,
                    streaming: progress.mode == Mode::Stream,
                    snapshot: match progress.mode {
                        Mode::Snapshot(transfer) => {
                            Some((transfer.stored_bytes, transfer.total_bytes))
                        }
                        _ => None,
                    },
                })
                .collect();
        }
        status
    }

    /// Hashes what decides how this server answers, and nothing else: for searches that must
    /// recognise a state which they have seen.
    ///
    /// Left out is what only decides *when* it stops waiting (clock, dice, hurries), what only
    /// watches (events, the memory of the invariants), and the names of writes and connections.
    pub fn hash_essence(&self, hasher: &mut impl Hasher) {
        (self.id, self.hard_state(), &self.log).hash(hasher);
        (self.commit_index, self.last_applied, &self.role).hash(hasher);
        self.durable.essence().hash(hasher);
        self.snapshots.hash(hasher);
        (self.verified, self.acknowledged, &self.owed, &self.reads_done, &self.others_reads_done)
            .hash(hasher);
    }
}

impl Role {
    /// Which role it is.
    pub fn name(&self) -> RoleName {
        match self {
            Role::Follower(_) => RoleName::Follower,
            Role::PreCandidate(_) => RoleName::PreCandidate,
            Role::Candidate(_) => RoleName::Candidate,
            Role::Leader(_) => RoleName::Leader,
        }
    }
}
