//! The RPCs of Figure 2 and their replies, as messages between servers.
//!
//! Nobody else's bytes may reach an assertion of the core: `Message::check_shape` is asked about
//! everything that came off the wire before it is given to `Raft::step`.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::types::{Bytes, Entry, EntryId, Index, NUMBER_MAX, SnapshotId, Term};

/// A number that a leader gives to the AppendEntries it sends, rising within its term. The receiver
/// echoes it, so the leader knows that the receiver still followed it *after* the round had begun:
/// that is what a read waits for (diss. §6.4). `Round(0)` asks for no echo.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Round(pub u64);

/// One message from one server's core to another's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Message {
    /// "Would you vote for me?", asked before a term is spent on an election (diss. §9.6).
    PreVote(PreVote),
    /// The answer to `PreVote`. It promises nothing.
    PreVoteReply(PreVoteReply),
    /// RequestVote (Figure 2; §5.2, §5.4.1).
    RequestVote(RequestVote),
    /// The answer to `RequestVote`.
    RequestVoteReply(RequestVoteReply),
    /// AppendEntries (Figure 2; §5.3): entries, heartbeat, commit index.
    AppendEntries(AppendEntries),
    /// The answer to `AppendEntries`.
    AppendEntriesReply(AppendEntriesReply),
    /// A part of a snapshot (Figure 13; §7).
    InstallSnapshot(InstallSnapshot),
    /// How far the receiver of `InstallSnapshot` has come.
    InstallSnapshotReply(InstallSnapshotReply),
    /// "Stand for election now": leadership is handed over (diss. §3.10).
    TimeoutNow(TimeoutNow),
    /// RequestVote of a candidate that the leader itself has told to stand: nobody withholds a vote
    /// because that leader is heard.
    TransferVote(RequestVote),
}

/// Asks whether a vote would be granted in `term`, one above the sender's current term.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PreVote {
    /// The term the sender would campaign in.
    pub term: Term,
    /// The sender's last entry.
    pub last: EntryId,
}

/// Answers a `PreVote`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PreVoteReply {
    /// When granted, the term that was asked about; when refused, the refuser's current term, which
    /// the asker adopts if it is higher than its own.
    pub term: Term,
    /// Whether a vote would be granted.
    pub granted: bool,
    /// Refused only because the refuser still hears a leader: worth asking again in a moment.
    pub leader_heard: bool,
}

/// RequestVote (Figure 2). The candidate is the sender.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RequestVote {
    /// The candidate's term.
    pub term: Term,
    /// The candidate's last entry: lastLogTerm and lastLogIndex.
    pub last: EntryId,
}

/// Answers a `RequestVote`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RequestVoteReply {
    /// The voter's current term, for the candidate to update itself.
    pub term: Term,
    /// Whether the candidate received the vote. Sent only once the vote is durable.
    pub granted: bool,
}

/// AppendEntries (Figure 2). The leader is the sender.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AppendEntries {
    /// The leader's term.
    pub term: Term,
    /// The entry immediately before the new ones: prevLogTerm and prevLogIndex.
    pub prev: EntryId,
    /// Entries to store, consecutive from `prev.index + 1`; none in a heartbeat.
    pub entries: Vec<Entry>,
    /// The leader's commit index.
    pub leader_commit: Index,
    /// To be echoed in the reply; `Round(0)` if no reply is wanted.
    pub round: Round,
}

impl AppendEntries {
    /// The index of the last entry this message vouches for: of `entries`, or `prev` if there are
    /// none.
    pub fn last_new_index(&self) -> Index {
        self.entries.last().map_or(self.prev.index, |entry| entry.id.index)
    }
}

/// Answers `AppendEntries`. Made when it is taken, not when the request arrived: it tells what is
/// true of the follower *now*, in the term it names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AppendEntriesReply {
    /// The follower's current term.
    pub term: Term,
    /// The highest round received from the leader of `term`; it promises only that the sender was
    /// in that term after the round had begun.
    pub round: Round,
    /// Everything up to here agrees with the leader's log *and is on the follower's disk*.
    pub match_index: Index,
    /// Set when the consistency check failed: where to look further back.
    pub mismatch: Option<Mismatch>,
}

/// What a follower tells about an AppendEntries whose `prev` it does not have (§5.3, fast backing
/// up).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mismatch {
    /// The `prev.index` that did not match, so that the leader can tell a stale refusal from a new
    /// one.
    pub prev_index: Index,
    /// The follower's last entry at or before `prev` whose term is not above `prev`'s: the logs
    /// cannot agree on anything later (conflict term and conflict index in one).
    pub hint: EntryId,
}

/// InstallSnapshot (Figure 13). The leader is the sender. The figure's `done` is that the part ends
/// where the snapshot does.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InstallSnapshot {
    /// The leader's term.
    pub term: Term,
    /// What the snapshot covers: lastIncludedIndex and lastIncludedTerm.
    pub snapshot: SnapshotId,
    /// The length of the whole snapshot, in bytes.
    pub total_bytes: u64,
    /// Where this part begins.
    pub offset_bytes: u64,
    /// The length of this part; 0 asks only how far the follower has come.
    pub length_bytes: u64,
    /// The part. The core leaves it empty: whoever sends the message reads it from the file.
    pub data: Bytes,
}

/// Answers `InstallSnapshot`. That all of it is installed is told by the match index of an
/// `AppendEntriesReply` instead.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InstallSnapshotReply {
    /// The follower's current term.
    pub term: Term,
    /// Which snapshot.
    pub last_index: Index,
    /// So much of it, from its beginning, the follower has stored.
    pub stored_bytes: u64,
    /// A part has come that does not follow those before it: something was lost.
    pub gap: bool,
}

/// Tells a follower that has the leader's whole log to stand for election at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TimeoutNow {
    /// The leader's term.
    pub term: Term,
}

/// Why a message that came off the wire cannot be right, whatever the state of the two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// Terms and indexes near the end of their range would leave no room to go on.
    #[error("a term or index of {0} is beyond any a cluster can reach")]
    NumberTooLarge(u64),
    /// A request in term 0 cannot exist: elections begin with term 1.
    #[error("a request carries term 0")]
    TermZero,
    /// The entries do not follow `prev` one by one.
    #[error("entry {found} follows {before}")]
    NotConsecutive {
        /// The entry before the one that is wrong.
        before: EntryId,
        /// The entry that does not follow.
        found: EntryId,
    },
    /// An entry is newer than the message's term.
    #[error("entry {entry} is newer than the sender's term {term}")]
    FromTheFuture {
        /// The entry.
        entry: EntryId,
        /// The message's term.
        term: Term,
    },
    /// A follower hints at a place after the one that did not match.
    #[error("hint {} is after the mismatch at {}", .0.hint, .0.prev_index)]
    HintAhead(Mismatch),
    /// A part of a snapshot reaches beyond its end, or is not as long as it says.
    #[error("{length} bytes at {offset} are no part of a snapshot of {total}")]
    NoSuchPart {
        /// Where it begins.
        offset: u64,
        /// How long it says it is.
        length: u64,
        /// How long the snapshot is.
        total: u64,
    },
    /// An id that is zero in only one of its halves.
    #[error("{0} is no position in a log")]
    NoSuchPosition(EntryId),
}

impl Message {
    /// The term the message was sent in (for a `PreVote` the term it asks about).
    pub fn term(&self) -> Term {
        match self {
            Message::PreVote(message) => message.term,
            Message::PreVoteReply(message) => message.term,
            Message::RequestVote(message) => message.term,
            Message::RequestVoteReply(message) => message.term,
            Message::AppendEntries(message) => message.term,
            Message::AppendEntriesReply(message) => message.term,
            Message::InstallSnapshot(message) => message.term,
            Message::InstallSnapshotReply(message) => message.term,
            Message::TimeoutNow(message) => message.term,
            Message::TransferVote(message) => message.term,
        }
    }

    /// Whether servers know this message that speak the peer protocol of version 2. They could not
    /// decode it, and would drop the connection.
    pub fn is_known_to_version_2(&self) -> bool {
        !matches!(
            self,
            Message::InstallSnapshot(_)
                | Message::InstallSnapshotReply(_)
                | Message::TimeoutNow(_)
                | Message::TransferVote(_)
        )
    }

    /// Checks everything about a message that can be checked without knowing the receiver's state.
    /// Required before `Raft::step`.
    pub fn check_shape(&self) -> Result<(), Malformed> {
        check_number(self.term().0)?;
        match self {
            Message::PreVote(PreVote { term, last })
            | Message::RequestVote(RequestVote { term, last })
            | Message::TransferVote(RequestVote { term, last }) => {
                check_request_term(*term)?;
                check_position(*last, *term)
            }
            Message::AppendEntries(request) => request.check_shape(),
            Message::AppendEntriesReply(reply) => reply.check_shape(),
            Message::InstallSnapshot(request) => request.check_shape(),
            Message::InstallSnapshotReply(reply) => check_number(reply.last_index.0),
            Message::TimeoutNow(request) => check_request_term(request.term),
            Message::PreVoteReply(_) | Message::RequestVoteReply(_) => Ok(()),
        }
    }
}

impl AppendEntries {
    fn check_shape(&self) -> Result<(), Malformed> {
        check_request_term(self.term)?;
        check_position(self.prev, self.term)?;
        check_number(self.leader_commit.0)?;
        check_number(self.round.0)?;
        let mut before = self.prev;
        for entry in &self.entries {
            let follows = entry.id.index == before.index.next() && entry.id.term >= before.term;
            if !follows || entry.id.term == Term::ZERO {
                return Err(Malformed::NotConsecutive { before, found: entry.id });
            }
            check_position(entry.id, self.term)?;
            before = entry.id;
        }
        Ok(())
    }
}

impl AppendEntriesReply {
    fn check_shape(&self) -> Result<(), Malformed> {
        check_number(self.round.0)?;
        check_number(self.match_index.0)?;
        if let Some(mismatch) = self.mismatch {
            check_number(mismatch.prev_index.0)?;
            check_position(mismatch.hint, self.term)?;
            if mismatch.hint.index > mismatch.prev_index {
                return Err(Malformed::HintAhead(mismatch));
            }
        }
        Ok(())
    }
}

impl InstallSnapshot {
    /// Whether the snapshot ends with this part (Figure 13: `done`).
    pub fn is_last(&self) -> bool {
        self.offset_bytes + self.length_bytes == self.total_bytes
    }

    fn check_shape(&self) -> Result<(), Malformed> {
        check_request_term(self.term)?;
        check_position(self.snapshot.last, self.term)?;
        check_number(self.total_bytes)?;
        let (offset, length, total) = (self.offset_bytes, self.length_bytes, self.total_bytes);
        let fits = offset <= total && length <= total - offset;
        if !fits || length != self.data.0.len() as u64 || self.snapshot.last == EntryId::ZERO {
            return Err(Malformed::NoSuchPart { offset, length, total });
        }
        Ok(())
    }
}

fn check_number(number: u64) -> Result<(), Malformed> {
    if number > NUMBER_MAX { Err(Malformed::NumberTooLarge(number)) } else { Ok(()) }
}

fn check_request_term(term: Term) -> Result<(), Malformed> {
    if term == Term::ZERO { Err(Malformed::TermZero) } else { Ok(()) }
}

fn check_position(id: EntryId, term: Term) -> Result<(), Malformed> {
    check_number(id.term.0)?;
    check_number(id.index.0)?;
    if (id.term == Term::ZERO) != (id.index == Index::ZERO) {
        return Err(Malformed::NoSuchPosition(id));
    }
    if id.term > term {
        return Err(Malformed::FromTheFuture { entry: id, term });
    }
    Ok(())
}
