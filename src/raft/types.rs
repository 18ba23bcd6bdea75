//! The nouns of Raft: servers, terms, indexes, entries, and what must survive a crash.
//!
//! Each is a type of its own, so that a term can never be passed where an index is meant.

use std::fmt;

use byteview::ByteView;
use serde::{Deserialize, Serialize};

/// The name of a server, unique in its cluster for ever: a server that lost its disk comes back
/// under a new one, because its old promises are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServerId(pub u32);

/// Raft's logical clock (§5.1): terms number elections, and at most one leader exists in each.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Term(pub u64);

/// A position in the log. The first entry has index 1; 0 means "before everything".
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Index(pub u64);

/// The highest term or index that is believed (2^62): one per nanosecond for a century is below it.
pub const NUMBER_MAX: u64 = 1 << 62;

impl Term {
    /// The term before the first election.
    pub const ZERO: Term = Term(0);

    /// The next term. `Message::check_shape` keeps peers from bringing us near the end of the
    /// numbers.
    pub fn next(self) -> Term {
        Term(self.0.checked_add(1).expect("terms are bounded by Message::check_shape"))
    }
}

impl Index {
    /// The position before the first entry.
    pub const ZERO: Index = Index(0);

    /// The position after this one.
    pub fn next(self) -> Index {
        self.plus(1)
    }

    /// The position `count` entries further on.
    pub fn plus(self, count: u64) -> Index {
        Index(self.0.checked_add(count).expect("indexes are bounded by Message::check_shape"))
    }

    /// The position before this one; the caller knows that there is one.
    pub fn previous(self) -> Index {
        Index(self.0.checked_sub(1).expect("no position precedes index 0"))
    }
}

/// Which entry: its term and index. Two entries with equal ids are equal (Log Matching, §5.3).
///
/// The order is term first, then index. Comparing the last ids of two logs with `>=` is exactly the
/// "at least as up-to-date" of §5.4.1.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct EntryId {
    /// The term of the leader that created the entry.
    pub term: Term,
    /// The entry's position in the log.
    pub index: Index,
}

impl EntryId {
    /// The id before the first entry: every log agrees on it.
    pub const ZERO: EntryId = EntryId { term: Term::ZERO, index: Index::ZERO };

    /// The id of the entry at `index` created in `term`.
    pub fn new(term: Term, index: Index) -> EntryId {
        EntryId { term, index }
    }
}

/// A command for the state machine: opaque bytes to `raft`, shared without copies between the log,
/// the peers and the disk.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Command(pub ByteView);

impl Command {
    /// The command's length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the command has no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&[u8]> for Command {
    fn from(bytes: &[u8]) -> Command {
        Command(ByteView::new(bytes))
    }
}

/// Opaque bytes, shared without copies.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub ByteView);

/// Log time in milliseconds: the leader's word for when it appended an entry. The core only sees to
/// it that a leader's stamps never fall below those before them; `server::clock` says what they
/// mean.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Stamp(pub u64);

/// What a snapshot stands for: all entries up to and including `last` (Figure 13:
/// lastIncludedIndex, lastIncludedTerm). Everything in it is committed, so two snapshots of one
/// index are equal.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct SnapshotId {
    /// The last entry that it covers.
    pub last: EntryId,
    /// That entry's stamp: the log time at which the snapshot stands.
    pub stamp: Stamp,
}

impl SnapshotId {
    /// Before the first entry: what a server without a snapshot begins with.
    pub const NONE: SnapshotId = SnapshotId { last: EntryId::ZERO, stamp: Stamp(0) };
}

/// What an entry carries.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Payload {
    /// Nothing but its stamp: a new leader's first entry, through which earlier terms' entries
    /// commit (§5.4.2, §8), or one that only tells the time.
    Noop,
    /// A command for the state machine.
    Command(Command),
}

impl Payload {
    /// Its length in bytes.
    // Nothing asks whether a payload is empty.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        match self {
            Payload::Noop => 0,
            Payload::Command(command) => command.len(),
        }
    }
}

/// One entry of the log (Figure 2: "log entries").
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// The entry's term and index.
    pub id: EntryId,
    /// When its leader appended it, in log time.
    pub stamp: Stamp,
    /// What the state machine does when the entry is applied.
    pub payload: Payload,
}

impl Entry {
    /// What an entry is taken to weigh beside its command, in bytes: its headers in memory, on the
    /// wire and on disk.
    pub const OVERHEAD_BYTES: usize = 40;

    /// The weight of this entry against the byte bounds, in bytes.
    pub fn bytes(&self) -> usize {
        Entry::OVERHEAD_BYTES + self.payload.len()
    }
}

/// The part of Figure 2's persistent state that is not the log.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct HardState {
    /// Latest term this server has seen; increases only.
    pub current_term: Term,
    /// Candidate that received this server's vote in `current_term`, if any.
    pub voted_for: Option<ServerId>,
}

impl fmt::Display for ServerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "n{}", self.0)
    }
}

impl fmt::Display for Term {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "T{}", self.0)
    }
}

impl fmt::Display for Index {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// `index@term`, as in the golden scripts: `7@T3`.
impl fmt::Display for EntryId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{}", self.index, self.term)
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.last.fmt(formatter)
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"{}\"", self.0.escape_ascii())
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes", self.0.len())
    }
}
