//! The words in which the core is spoken to and answers: what it is given at the start, why it
//! refuses, and what it wants done.

use thiserror::Error;

use super::read_index::ReadId;
use super::types::{Entry, HardState, Index, ServerId, SnapshotId};

/// Timings in ticks and bounds in bytes. A tick is whatever the caller makes of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Options {
    /// A leader sends a heartbeat this often, in ticks. At least 1. See
    /// [`Options::heartbeat_at_rest_ticks`].
    pub heartbeat_ticks: u32,
    /// The shortest election timeout, in ticks; also how long a heard leader counts as heard.
    /// Several heartbeats.
    pub election_min_ticks: u32,
    /// The longest election timeout, in ticks; also how long a leader goes on without a majority.
    /// Above the shortest, so that the servers' timeouts differ (§5.2).
    pub election_max_ticks: u32,
    /// Bytes of entries in one AppendEntries.
    pub append_bytes_max: usize,
    /// Bytes of entries under way to one follower.
    pub window_bytes_max: usize,
    /// Bytes of entries that may be not yet both committed and on the leader's disk.
    pub uncommitted_bytes_max: usize,
    /// When snapshots are taken, what is kept of the log, and how they are sent.
    pub snapshots: SnapshotOptions,
}

impl Options {
    /// How often a leader sends a heartbeat when its followers have all of its log, in ticks. Then
    /// there is nothing to repeat, and heartbeats are only for the followers' clocks: up to twice
    /// as seldom, as long as there are three within the shortest election timeout, so that two of
    /// them may be lost. (An idle server does little else, and what it costs is to be woken.)
    pub fn heartbeat_at_rest_ticks(&self) -> u32 {
        ((self.election_min_ticks - 1) / 3).clamp(self.heartbeat_ticks, 2 * self.heartbeat_ticks)
    }
}

/// When a snapshot is due, how much of the log is kept beside it, and how it travels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotOptions {
    /// A snapshot is due when the log behind the last one has this many bytes …
    pub log_bytes_max: u64,
    /// … or this many entries …
    pub log_entries_max: u64,
    /// … or any entry, and the last one is this many ticks old.
    pub age_ticks_max: u64,
    /// Ticks until the next attempt after one that failed.
    pub retry_ticks: u64,
    /// Bytes of the log before the snapshot that memory keeps for followers that are a little
    /// behind.
    pub tail_bytes: u64,
    /// Entries that are dropped from memory at once, at the most, unless a 64th of what is to be
    /// dropped is more; the others follow, tick by tick. At least 1.
    pub forget_entries_max: u64,
    /// Bytes of the log that memory keeps for a follower that is being sent a snapshot, so that the
    /// log goes on where the snapshot ends; beyond it that follower needs another one.
    pub catch_up_bytes_max: u64,
    /// Bytes of a snapshot in one InstallSnapshot. At least 1.
    pub chunk_bytes: u64,
    /// Bytes of a snapshot under way to one follower and not yet stored. At least a chunk.
    pub window_bytes_max: u64,
}

impl SnapshotOptions {
    /// No snapshot is ever due by itself; what is asked for is sent in chunks of 1000 bytes.
    pub const NEVER: SnapshotOptions = SnapshotOptions {
        log_bytes_max: u64::MAX,
        log_entries_max: u64::MAX,
        age_ticks_max: u64::MAX,
        retry_ticks: 1,
        tail_bytes: 0,
        forget_entries_max: u64::MAX,
        catch_up_bytes_max: 0,
        chunk_bytes: 1000,
        window_bytes_max: 4000,
    };
}

/// What recovery found on the disk, all of it durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Term and vote.
    pub hard_state: HardState,
    /// The snapshot that the state machine begins with; `NONE` if it begins empty.
    pub snapshot: SnapshotId,
    /// The length of that snapshot's file, in bytes.
    pub snapshot_bytes: u64,
    /// The log behind the snapshot.
    pub entries: Vec<Entry>,
}

/// Numbers the inbound connections of this server's life, rising: a later one is newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Why a proposal was refused. Nothing was appended.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// Only the leader appends.
    #[error("not the leader")]
    NotLeader {
        /// The leader of our term, if we know one.
        hint: Option<ServerId>,
    },
    /// Too much is waiting to be committed and synced.
    #[error("{bytes} bytes of log are not committed yet")]
    TooMuchUncommitted {
        /// How much is waiting, in bytes.
        bytes: u64,
    },
    /// The leader's disk may have no room for it.
    #[error("there is room for {room_bytes} bytes on the leader's disk")]
    NoRoom {
        /// How much there is room for, in bytes.
        room_bytes: u64,
    },
    /// The leader is handing over to another server, and takes nothing more meanwhile.
    #[error("leadership is being transferred")]
    Transferring,
    /// There is no follower that could take over now.
    #[error("no follower is ready to take over")]
    NobodyIsReady,
}

/// Whose bells to ring: what could be taken now. A level, not an edge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// `take_write` has something.
    pub write: bool,
    /// `take_messages` has something for these peers.
    pub send: Vec<ServerId>,
    /// `take_applies` has something.
    pub apply: bool,
    /// `take_snapshot_work` has something.
    pub snapshot: bool,
}

/// Something for the applier, in the order in which it must be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Apply {
    /// Go on from this snapshot, which has been installed: it replaces the state machine's state.
    Restore(SnapshotId),
    /// The state machine stands at this index, and a snapshot of it is due: keep a frozen view for
    /// whoever writes it, and say `snapshot_saved` or `snapshot_failed` at the end.
    Freeze(SnapshotId),
    /// Apply this committed entry [ALL1].
    Entry(Entry),
    /// This read may be answered from the state machine as it is now: everything that was committed
    /// when the read arrived has been handed out before.
    ReadReady {
        /// Which read.
        read: ReadId,
        /// The read index: any state machine that has applied it may answer.
        index: Index,
    },
    /// Leadership ended before this read was confirmed.
    ReadFailed {
        /// Which read.
        read: ReadId,
    },
}
