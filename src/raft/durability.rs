//! What the disk holds, and which promises may therefore leave (diss. §3.8, §10.2.1).

use super::types::{Entry, HardState};

/// Names one write, so that its completion can be told to the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteTicket(pub u64);

/// What the log writer is to put on disk, in one write and one sync.
///
/// On disk an entry at an index that exists replaces it and all after it, so truncation needs no
/// operation of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Write {
    /// To be given back to `Raft::persisted` once the write is synced.
    pub ticket: WriteTicket,
    /// The hard state, if the disk does not hold it yet. It comes before the entries.
    pub hard_state: Option<HardState>,
    /// Consecutive entries.
    pub entries: Vec<Entry>,
}
