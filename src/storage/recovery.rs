//! Reading the journal at start: what was kept, what was torn, what is damaged.
//!
//! [`walk`](super::walk) tells these apart; here is what a start makes of them.
//!
//! **What was read need not be on disk.** After kill -9 the page cache may show a batch that was
//! never synced, and after a failed sync it shows one that never will be. If we answered from it
//! and then lost power, we would have vouched for what nobody has. So the valid content of the
//! newest segment is written afresh under another name, synced, and renamed over the old one,
//! before anything counts; older segments were synced before their successor was created. The crash
//! points of that:
//!
//! 1. before the rename is durable: the old file is found again, and recovery does the same again.
//!    The incarnation in the lost copy was used by nobody, since `open` had not returned.
//! 2. after: the new file is whole, because it was synced under its old name.
//!
//! The new file ends in the `Start` record of this life and a seal. Both appear together with the
//! rename or not at all, so rot in what a start left behind is always told from a tear.
//!
//! **The log begins behind the newest snapshot.** Entries that it covers are dropped; if the log
//! does not hold the snapshot's last entry (it was received, and the crash came before the log had
//! begun anew behind it), all of the log is, and the new file says so with a `Base` record. What is
//! missing *before* the log must be covered by the snapshot: segments before the oldest one, and
//! what a `Base` record has declared void. If it is not, a snapshot or a segment is lost, and we
//! refuse.

use std::io;

use super::batch::{self, FORMAT_VERSION_WITH_HEADS, HEADER_BYTES, Header};
use super::chores::is_spare;
use super::disk::{Disk, DiskFile};
use super::error::{Damage, JournalError};
use super::journal::{
    Journal, OlderSegment, Options, Position, next_header, segment_name, segment_number,
};
use super::record::{self, Image, Record};
use super::scan::Chain;
use super::walk::{FRESH_SUFFIX, damaged, io_error, list_segments, no_beginning};
use crate::lab::{Rule, removed};
use crate::raft::types::{Entry, HardState, Index, SnapshotId};

pub use super::walk::{Found, Report, Walked, walk};

/// What a server gets back from its disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Term and vote.
    pub hard_state: HardState,
    /// The snapshot that the log begins behind: the one that `open` was given.
    pub snapshot: SnapshotId,
    /// The log behind it.
    pub entries: Vec<Entry>,
    /// The number of this life of the server: one more than at the last start.
    pub incarnation: u64,
    /// The random number that goes with it.
    pub run_id: u64,
    /// What recovery saw, for the log.
    pub report: Report,
}

/// Creates a journal that has never been used, in a directory without one. Durable on return.
pub fn create<D: Disk>(disk: &D, journal_id: u64) -> Result<(), JournalError> {
    if let Some(&segment) = list_segments(disk)?.segments.last() {
        let exists = io::Error::from(io::ErrorKind::AlreadyExists);
        return Err(io_error(disk, "creating", &segment_name(segment))(exists));
    }
    let options = Options::new(journal_id, 0);
    let start = Record::Start { incarnation: 0, run_id: 0 };
    write_afresh(disk, &options, 1, Vec::new(), Chain::BEGINNING, &[start])?;
    Ok(())
}

/// Opens the journal for a new life of the server. When it returns, what it returns is durable.
/// Requires that `snapshot` is, the newest there is.
pub fn open<D: Disk>(
    disk: D,
    options: Options,
    snapshot: SnapshotId,
) -> Result<(Journal<D>, Recovered), JournalError> {
    let mut image = Image::default();
    let mut older = Vec::new();
    let walked = walk(&disk, options.journal_id, &mut |found| {
        if found.offset_bytes == 0 {
            note_segment(&mut older, found, &image);
        }
        apply(&disk, &mut image, found)
    })?;
    let Report { oldest_segment, newest_segment: segment, .. } = walked.report;
    let (previous, run_id) = image.start.ok_or_else(|| no_beginning(&disk, oldest_segment))?;
    let incarnation = previous.checked_add(1).expect("nobody starts a server 2^64 times");
    let (hard_state, last) = (image.hard_state, image.last());
    let head = Record::Head { incarnation: previous, run_id, hard_state, last };
    let begins = walked.newest_bytes.is_empty() && segment > 1;
    if begins {
        // Its first batch was torn, and so nobody has noted it.
        let highest = image.highest;
        older.push(OlderSegment { segment: segment - 1, highest, followed_by_head: true });
    }
    let mut records: Vec<Record<&Entry>> = Vec::from_iter(begins.then_some(head));
    records.extend(settle(&disk, oldest_segment, &mut image, snapshot)?);
    if !removed(Rule::LifeIsRecorded) {
        records.push(Record::Start { incarnation, run_id: options.run_id });
    }
    let (file, segment_length_bytes, chain) =
        write_afresh(&disk, &options, segment, walked.newest_bytes, walked.chain, &records)?;
    older.splice(..0, walked.leftovers.into_iter().map(leftover));
    let position = Position {
        file,
        segment,
        segment_length_bytes,
        chain,
        incarnation,
        hard_state: image.hard_state,
        last: image.last(),
        highest: image.highest,
        older,
        snapshot,
    };
    let recovered = Recovered {
        hard_state: image.hard_state,
        snapshot,
        entries: image.entries,
        incarnation,
        run_id: options.run_id,
        report: walked.report,
    };
    Ok((Journal::at(disk, options, position), recovered))
}

/// A segment begins: the one before it, if there is one, has ended.
fn note_segment(older: &mut Vec<OlderSegment>, found: &Found, image: &Image) {
    if image.start.is_some() {
        let highest = image.highest;
        let followed_by_head = has_head(found);
        older.push(OlderSegment { segment: found.segment - 1, highest, followed_by_head });
    }
}

/// A segment behind a gap: a snapshot covers what it held, else there were no start.
fn leftover(segment: u64) -> OlderSegment {
    OlderSegment { segment, highest: Index::ZERO, followed_by_head: true }
}

/// Whether a batch begins a segment that can be read without those before it.
fn has_head(found: &Found) -> bool {
    found.segment > 1
        && found.offset_bytes == 0
        && found.header.version >= FORMAT_VERSION_WITH_HEADS
}

/// Takes the records of a batch into the image.
pub fn apply<D: Disk>(disk: &D, image: &mut Image, found: &Found) -> Result<(), JournalError> {
    let damaged = |damage| damaged(disk, found.segment, found.offset_bytes, damage);
    let head = has_head(found);
    if !head && found.segment > 1 && image.start.is_none() {
        return Err(damaged(Damage::MissingSegment(found.segment - 1)));
    }
    for (at, record) in record::records(found.payload).enumerate() {
        let record = record.and_then(|record| {
            if matches!(record, Record::Head { .. }) != (head && at == 0) {
                return Err("a segment's head stands where none belongs, or is missing");
            }
            image.apply(record)
        });
        let batch = found.header.batch;
        record.map_err(|reason| damaged(Damage::Impossible { batch, reason }))?;
    }
    Ok(())
}

/// Lets the log begin behind the newest snapshot, and returns what must be written so that the
/// journal says the same.
pub(super) fn settle<D: Disk>(
    disk: &D,
    oldest_segment: u64,
    image: &mut Image,
    snapshot: SnapshotId,
) -> Result<Vec<Record<&'static Entry>>, JournalError> {
    let mut records = Vec::new();
    if image.needs > snapshot.last.index {
        let damage = Damage::Uncovered { needed: image.needs, snapshot };
        return Err(damaged(disk, oldest_segment, 0, damage));
    }
    // A snapshot may have become durable before the term in which it came.
    let is_newer = image.hard_state.current_term < snapshot.last.term;
    if is_newer && !removed(Rule::SnapshotRaisesTerm) {
        image.hard_state = HardState { current_term: snapshot.last.term, voted_for: None };
        records.push(Record::HardState(image.hard_state));
    }
    if image.begin_behind(snapshot) {
        records.push(Record::Base(snapshot));
    }
    Ok(records)
}

/// Writes a segment's valid content, some records and a seal under another name, syncs, and renames
/// it.
fn write_afresh<D: Disk>(
    disk: &D,
    options: &Options,
    segment: u64,
    mut bytes: Vec<u8>,
    chain: Chain,
    records: &[Record<&Entry>],
) -> Result<(D::File, u64, Chain), JournalError> {
    let chain = add_batch(options, segment, &mut bytes, &chain, records);
    let chain = add_batch(options, segment, &mut bytes, &chain, &[]);
    let name = segment_name(segment);
    let fresh = name.clone() + FRESH_SUFFIX;
    let listed = disk.list().map_err(io_error(disk, "listing", ""))?;
    // What an interrupted start left. It counted for nothing, and its bytes must not show through.
    for leftover in listed.iter().filter(|listed| {
        is_spare(listed)
            || listed.strip_suffix(FRESH_SUFFIX).is_some_and(|name| segment_number(name).is_some())
    }) {
        disk.remove(leftover).map_err(io_error(disk, "removing", leftover))?;
    }
    let mut file = disk.create(&fresh).map_err(io_error(disk, "creating", &fresh))?;
    file.write_at(0, &bytes).map_err(io_error(disk, "writing", &fresh))?;
    if !removed(Rule::FoundIsMadeDurable) {
        file.sync().map_err(io_error(disk, "syncing", &fresh))?;
    }
    disk.rename(&fresh, &name).map_err(io_error(disk, "renaming", &fresh))?;
    if !removed(Rule::RenameIsMadeDurable) {
        disk.sync_directory().map_err(io_error(disk, "syncing the directory of", &name))?;
    }
    Ok((file, bytes.len() as u64, chain))
}

/// Adds a batch with these records, or a seal, to the bytes of a segment.
fn add_batch(
    options: &Options,
    segment: u64,
    bytes: &mut Vec<u8>,
    chain: &Chain,
    records: &[Record<&Entry>],
) -> Chain {
    let offset = bytes.len();
    bytes.resize(offset + HEADER_BYTES, 0);
    for record in records {
        record::encode(record, bytes);
    }
    let header = next_header(options, segment, chain);
    let crc = batch::finish(&header, &mut bytes[offset..]);
    Chain::after(&Header { crc, ..header })
}
