//! Snapshot files: the whole state machine at one index, in a file of its own (§7).
//!
//! What a snapshot's file holds is for the state machine to say; here it is a header and a sequence
//! of *items*, opaque bytes. The promise of this room: a file that has a snapshot's name was
//! complete and synced before it got that name, and nothing of it is believed before its checksums
//! have been seen to be right. Why so strict: the log's segments behind a snapshot are removed, and
//! then the snapshot is all there is of what they held.
//!
//! - [`format`]: the bytes of a file. [`reader`]: reading them, and noticing all damage.
//! - [`draft`]: how a file comes to be, written by us or received from a leader.
//! - [`store`]: the directory `snapshots/`, and which of its files counts.
//!
//! Names begin with the index: the newest snapshot is the one with the highest *index*, whatever
//! its term (S39). Example: `00000000000000001234-0000000000000007.snap` covers entry 1234 of term
//! 7. A file under way is called `written-3.new` or `received-4.new`, counts for nothing, and is
//! removed at the next start.

pub mod draft;
pub mod format;
pub mod reader;
pub mod store;

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::disk::Disk;
use crate::raft::types::{EntryId, Index, SnapshotId, Term};

pub use draft::{Receiver, Writer};
pub use format::Header;
pub use reader::{Reader, Summary};
pub use store::{Found, Options, SnapshotFile, Snapshots};

/// Why a snapshot cannot be written, received or read.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// The file is not as it was written, or not what was announced.
    #[error("snapshot {} is damaged at byte {offset_bytes}: {reason}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where its first bytes stand that cannot be trusted.
        offset_bytes: u64,
        /// What is wrong there.
        reason: &'static str,
    },
    /// The file is well, but not ours to read.
    #[error(
        "snapshot {} has format {found}, and this program knows format {known}: start the version \
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
    /// There is a snapshot of this entry already, it is well, and it says something else. What is
    /// committed is the same everywhere: one of the two states is wrong.
    #[error("snapshot {} differs from another one of the same entry", file.display())]
    Differs {
        /// The file that is there and was kept.
        file: PathBuf,
    },
    /// Bytes came that are not the next ones. The file under way is as it was.
    #[error(
        "{length_bytes} bytes for offset {offset_bytes} of a snapshot do not fit: {stored_bytes} \
         of {total_bytes} bytes are there"
    )]
    Misplaced {
        /// Where they belong.
        offset_bytes: u64,
        /// How many came.
        length_bytes: usize,
        /// How many are stored.
        stored_bytes: u64,
        /// How many will be, in all.
        total_bytes: u64,
    },
    /// An item is longer than any may be.
    #[error("an item of a snapshot has {0} bytes, more than any may have")]
    ItemTooLong(usize),
    /// The disk refused. What was there before is as it was.
    #[error("{doing} snapshot {} failed: {source}", file.display())]
    Io {
        /// What was being done, for example "writing".
        doing: &'static str,
        /// To which file.
        file: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// The name of a snapshot's file.
pub fn file_name(last: EntryId) -> String {
    format!("{:020}-{:016}.snap", last.index.0, last.term.0)
}

/// The last entry that the snapshot with this name covers; `None` if we did not make the file.
pub fn entry_of_name(name: &str) -> Option<EntryId> {
    let (index, term) = name.strip_suffix(".snap")?.split_once('-')?;
    let last = EntryId::new(Term(term.parse().ok()?), Index(index.parse().ok()?));
    (last.index > Index::ZERO && file_name(last) == name).then_some(last)
}

/// Whether a file with this name is on its way to be a snapshot.
pub fn is_draft(name: &str) -> bool {
    draft::KINDS.iter().any(|kind| draft::serial(name, kind).is_some())
}

fn io_error<'a, D: Disk>(
    disk: &'a D,
    doing: &'static str,
    name: &'a str,
) -> impl FnOnce(io::Error) -> SnapshotError + 'a {
    move |source| SnapshotError::Io { doing, file: disk.path(name), source }
}

/// Whether a snapshot stands for something at all.
fn is_some(id: SnapshotId) -> bool {
    id.last.index > Index::ZERO && id.last.term > Term::ZERO
}
