//! What can go wrong with a journal, as things a caller does something different about.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::raft::types::{Index, SnapshotId};

/// Why the journal cannot be opened or written.
#[derive(Debug, Error)]
pub enum JournalError {
    /// Something that was complete once is damaged. Starting would forget acknowledged writes.
    #[error(
        "{} is damaged at byte {offset_bytes}: {damage}. Starting would forget what this server \
         has acknowledged, so it refuses. Nothing was changed. Keep the directory; look at it with \
         `raft-server log verify`. If a majority of the other servers is well, replace this server \
         by a new one under a new id",
        file.display()
    )]
    Damaged {
        /// The damaged file.
        file: PathBuf,
        /// Where its first bytes stand that cannot be trusted.
        offset_bytes: u64,
        /// What is wrong there.
        damage: Damage,
    },
    /// The files are well, but not ours to read.
    #[error(
        "{} has journal format {found}, and this program knows format {known}: start the version \
         of raft-server that wrote it, or a later one",
        file.display()
    )]
    UnknownFormat {
        /// The file.
        file: PathBuf,
        /// The format it says it has.
        found: u16,
        /// The format that this program knows.
        known: u16,
    },
    /// The disk refused. The journal is of no use any more: the process must end (exit code 7).
    #[error(
        "{doing} {} failed: {source}. Restart the server once the disk is well",
        file.display()
    )]
    Io {
        /// What was being done, for example "writing".
        doing: &'static str,
        /// To which file.
        file: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// There is no room for this write in what is reserved, and no more can be reserved. Nothing
    /// was written: it may be tried again.
    #[error("the disk is full: there is no room for {bytes} bytes of journal")]
    NoSpace {
        /// How much was to be written, at most.
        bytes: u64,
    },
    /// An earlier write or sync failed, so nothing may be written behind it.
    #[error("the journal failed before and takes no more writes until the process is restarted")]
    Poisoned,
}

/// What is wrong with a damaged file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Damage {
    /// A batch does not check, although a later one exists: so it was synced, and well, once.
    #[error(
        "batch {batch} does not check, but batch {later} follows at byte {later_offset_bytes} \
         of {}",
        later_file.display()
    )]
    BeforeBatch {
        /// The number of the batch that does not check.
        batch: u64,
        /// The number of the later batch.
        later: u64,
        /// The file in which the later batch stands.
        later_file: PathBuf,
        /// Where in that file.
        later_offset_bytes: u64,
    },
    /// A finished segment ends in bytes that do not check, and the next segment does not go on.
    #[error("batch {batch} does not check, but a later segment exists")]
    BeforeSegment {
        /// The number of the batch that does not check.
        batch: u64,
    },
    /// A whole batch stands where it belongs by its number, but follows another one than ours.
    #[error(
        "batch {batch} is whole but does not follow the batch before it: files of two copies of \
         the directory were mixed"
    )]
    Mixed {
        /// The number of the batch.
        batch: u64,
    },
    /// The journal has no first batch at all: it is created with one.
    #[error("the first batch of the journal is missing")]
    NoBeginning,
    /// A segment is missing before this one.
    #[error("segment {0} is missing before it")]
    MissingSegment(u64),
    /// The journal does not hold the entries up to some index, and no snapshot does either.
    #[error(
        "the entries up to index {needed} are not in the journal, and the newest snapshot that can \
         be read covers those up to index {} (a snapshot, or a segment before this one, is missing \
         or damaged)",
        snapshot.last.index
    )]
    Uncovered {
        /// How far a snapshot must reach.
        needed: Index,
        /// The newest that there is.
        snapshot: SnapshotId,
    },
    /// The segment belongs to another server's journal.
    #[error("it belongs to another journal ({found:016x}, this one is {expected:016x})")]
    Foreign {
        /// The journal id in the file.
        found: u64,
        /// Our journal id.
        expected: u64,
    },
    /// The file is far too long to be one of ours.
    #[error("the file has {0} bytes, more than any segment")]
    TooLong(u64),
    /// A batch checks, but what it holds cannot be.
    #[error("batch {batch} checks but cannot be right: {reason}")]
    Impossible {
        /// The number of the batch.
        batch: u64,
        /// What cannot be.
        reason: &'static str,
    },
}
