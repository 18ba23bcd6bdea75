//! What happened, in Raft's words. Log lines, transcripts, traces and metrics render these; the
//! core itself never logs.

use std::fmt;

use super::types::{EntryId, Index, ServerId, SnapshotId, Term};

/// Something that happened inside the core, worth telling.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Became follower in a new term, of a leader not known yet.
    BecameFollower {
        /// The new term.
        term: Term,
    },
    /// Heard this term's leader for the first time.
    FollowsLeader {
        /// The leader's term.
        term: Term,
        /// The leader.
        leader: ServerId,
    },
    /// The leader's newest connection has ended.
    LostLeader {
        /// The leader that is no longer heard.
        leader: ServerId,
    },
    /// Asks whether an election could be won (diss. §9.6).
    BecamePreCandidate {
        /// The term an election would be held in.
        term: Term,
    },
    /// Started an election [C1].
    BecameCandidate {
        /// The election's term.
        term: Term,
        /// The candidate's last entry.
        last: EntryId,
    },
    /// Won an election [C2].
    BecameLeader {
        /// The term it leads.
        term: Term,
        /// Its no-op.
        noop: EntryId,
    },
    /// Gave up leadership without having seen a higher term.
    SteppedDown {
        /// The term it led.
        term: Term,
        /// Why.
        reason: StepDownReason,
    },
    /// Gave its vote; the reply leaves once the vote is durable.
    Voted {
        /// The election's term.
        term: Term,
        /// Who gets it.
        candidate: ServerId,
    },
    /// Refused a vote.
    RefusedVote {
        /// The election's term.
        term: Term,
        /// Who asked.
        candidate: ServerId,
        /// Why.
        reason: VoteRefusal,
    },
    /// Removed entries that conflict with the leader's [AE3].
    Truncated {
        /// The first index removed.
        from: Index,
        /// The last index removed.
        last: Index,
    },
    /// A follower's log does not match at `prev`: the leader looks further back [L3].
    Mismatched {
        /// The follower.
        follower: ServerId,
        /// Where its log does not match.
        prev: Index,
        /// The next index to be sent.
        next: Index,
    },
    /// The commit index moved.
    Committed {
        /// To here.
        index: Index,
    },
    /// A snapshot of our own is on disk; the log before it may be forgotten.
    SnapshotSaved {
        /// Which.
        snapshot: SnapshotId,
        /// The length of its file.
        bytes: u64,
    },
    /// A follower needs what the log no longer holds: it is sent a snapshot (§7).
    SendsSnapshot {
        /// The follower.
        follower: ServerId,
        /// Which snapshot.
        snapshot: SnapshotId,
        /// Its length.
        bytes: u64,
    },
    /// A leader's snapshot is on disk and takes the place of our state.
    SnapshotInstalled {
        /// Which.
        snapshot: SnapshotId,
        /// The length of its file.
        bytes: u64,
        /// Our log agrees with it, and goes on behind it [IS6]; otherwise it was discarded [IS7].
        suffix_kept: bool,
    },
    /// A leader has begun to hand over to this server.
    HandsOver {
        /// Who is to lead.
        successor: ServerId,
    },
    /// That server did not take over in time: the leader leads on.
    HandoverFailed {
        /// Who was to lead.
        successor: ServerId,
    },
    /// A message from a server that is not a member was ignored.
    IgnoredStranger {
        /// Who sent it.
        from: ServerId,
    },
}

/// Why a leader steps down in its own term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepDownReason {
    /// No majority has answered for an election timeout (diss. §6.2).
    NoMajority,
    /// Its disk hangs while a majority's disks do not.
    HungDisk,
}

/// Why a vote is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VoteRefusal {
    /// A leader is still heard (diss. §4.2.3).
    LeaderHeard,
    /// The candidate's log is behind (§5.4.1).
    LogBehind,
    /// The vote of this term is given to another.
    VotedForAnother,
}

impl fmt::Display for Event {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::BecameFollower { term } => write!(out, "becomes follower term={term}"),
            Event::FollowsLeader { term, leader } => {
                write!(out, "follows leader={leader} term={term}")
            }
            Event::LostLeader { leader } => write!(out, "lost the connection from leader={leader}"),
            Event::BecamePreCandidate { term } => write!(out, "asks for pre-votes term={term}"),
            Event::BecameCandidate { term, last } => {
                write!(out, "becomes candidate term={term} last={last}")
            }
            Event::BecameLeader { term, noop } => {
                write!(out, "becomes leader term={term} noop={noop}")
            }
            Event::SteppedDown { term, reason } => {
                write!(out, "steps down term={term} reason=\"{reason}\"")
            }
            Event::Voted { term, candidate } => write!(out, "votes for={candidate} term={term}"),
            Event::RefusedVote { term, candidate, reason } => {
                write!(out, "refuses vote to={candidate} term={term} reason=\"{reason}\"")
            }
            Event::Truncated { from, last } => write!(out, "truncates from={from} to={last}"),
            Event::Mismatched { follower, prev, next } => {
                write!(out, "backs up follower={follower} mismatch={prev} next={next}")
            }
            Event::Committed { index } => write!(out, "commits index={index}"),
            Event::SnapshotSaved { snapshot, bytes } => {
                write!(out, "saved snapshot={snapshot} bytes={bytes}")
            }
            Event::SendsSnapshot { follower, snapshot, bytes } => {
                write!(out, "sends snapshot={snapshot} to={follower} bytes={bytes}")
            }
            Event::SnapshotInstalled { snapshot, bytes, suffix_kept } => {
                write!(out, "installed snapshot={snapshot} bytes={bytes} suffix_kept={suffix_kept}")
            }
            Event::HandsOver { successor } => write!(out, "hands over to={successor}"),
            Event::HandoverFailed { successor } => {
                write!(out, "still leads: no hand-over to={successor} in time")
            }
            Event::IgnoredStranger { from } => {
                write!(out, "ignores a message from={from}, not a member")
            }
        }
    }
}

impl fmt::Display for StepDownReason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            StepDownReason::NoMajority => "no majority answers",
            StepDownReason::HungDisk => "own disk hangs",
        })
    }
}

impl fmt::Display for VoteRefusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            VoteRefusal::LeaderHeard => "a leader is heard",
            VoteRefusal::LogBehind => "its log is behind",
            VoteRefusal::VotedForAnother => "voted for another",
        })
    }
}
