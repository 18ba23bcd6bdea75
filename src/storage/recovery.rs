//! Reading the journal at start: what was kept, what was torn, what is damaged.
//!
//! Three things can stand behind the last batch that checks, and they must be told apart, because
//! one of them may be thrown away and another must never be. After a batch that does not check we
//! look at everything behind it, in this segment and later ones:
//!
//! - a header that checks by itself and has a *higher* number: the batch was synced before that one
//!   was written, so somebody was told it is safe. It is damaged. We refuse to start.
//! - only lower numbers: stale bytes of a file used before. They are ignored.
//! - nothing: a write that a crash interrupted. Nobody was told that it is safe. It is cut.
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

use super::batch::{self, FORMAT_VERSION, FORMAT_VERSION_WITH_HEADS, HEADER_BYTES, Header};
use super::disk::{Disk, DiskFile};
use super::error::{Damage, JournalError};
use super::journal::{
    Journal, OlderSegment, Options, Position, next_header, segment_name, segment_number,
};
use super::record::{self, Image, Record};
use super::scan::{self, Chain};
use crate::lab::{Rule, removed};
use crate::raft::types::{Entry, HardState, Index, SnapshotId};

/// Longest file that recovery reads into memory, in bytes. Segments end soon after their size.
pub const SEGMENT_FILE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// How the name of a segment that is being written afresh ends.
pub(super) const FRESH_SUFFIX: &str = ".new";

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

/// What a walk through the journal saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// How many segments there are.
    pub segments: u64,
    /// The oldest segment: those before it were removed.
    pub oldest_segment: u64,
    /// How many batches check.
    pub batches: u64,
    /// The newest segment: the one that is written afresh.
    pub newest_segment: u64,
    /// How many bytes of it are valid.
    pub valid_bytes: u64,
    /// How many bytes behind them are cut: a torn write, zeros or stale bytes.
    pub cut_bytes: u64,
    /// Files in the directory that are not ours. They are left alone.
    pub unrecognised: Vec<String>,
}

/// One batch that checks, and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The number of its segment.
    pub segment: u64,
    /// Where it begins in the segment's file.
    pub offset_bytes: u64,
    /// Its header.
    pub header: &'a Header,
    /// Its payload, still encoded.
    pub payload: &'a [u8],
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
    if image.hard_state.current_term < snapshot.last.term {
        image.hard_state = HardState { current_term: snapshot.last.term, voted_for: None };
        records.push(Record::HardState(image.hard_state));
    }
    if image.begin_behind(snapshot) {
        records.push(Record::Base(snapshot));
    }
    Ok(records)
}

/// What `walk` leaves for the one who asked.
#[derive(Debug)]
pub struct Walked {
    /// What was seen.
    pub report: Report,
    /// The valid bytes of the newest segment.
    pub newest_bytes: Vec<u8>,
    /// Segments behind a gap, which count for nothing.
    pub leftovers: Vec<u64>,
    /// What the next batch has to say about itself.
    pub chain: Chain,
}

/// Visits all batches in order, changes nothing, and refuses what a start must refuse.
pub fn walk<D: Disk>(
    disk: &D,
    journal_id: u64,
    visit: &mut dyn FnMut(&Found) -> Result<(), JournalError>,
) -> Result<Walked, JournalError> {
    let Segments { leftovers, segments, unrecognised } = list_segments(disk)?;
    let (Some(&oldest), Some(&newest)) = (segments.first(), segments.last()) else {
        return Err(no_beginning(disk, 1));
    };
    let mut chain = Chain::BEGINNING;
    let mut first_batch = chain.next_batch;
    // Where the segment before this one ended in bytes that do not check.
    let mut doubtful: Option<(u64, u64)> = None;
    for &segment in &segments {
        let mut bytes = read_segment(disk, segment)?;
        check_owner(disk, segment, &bytes, journal_id)?;
        if segment == oldest && segment > 1 {
            chain = Chain::before(&bytes, journal_id, segment).unwrap_or(chain);
            first_batch = chain.next_batch;
        }
        let before = chain;
        let end = walk_segment(segment, &bytes, journal_id, &mut chain, visit)?;
        check_version(disk, segment, end, &bytes)?;
        let evidence = |file, at| later_batch(disk, &segments, file, at, journal_id, &chain);
        // A finished segment is whole: its successor was created only after its last batch was
        // synced. If that successor goes on where the chain ends, what stands behind was no part of
        // it. If it does not, the bytes at its end were a batch once.
        if let Some((file, at)) = doubtful.filter(|_| chain == before) {
            let damage = Damage::BeforeSegment { batch: chain.next_batch };
            return Err(evidence(file, at)?.unwrap_or_else(|| damaged(disk, file, at, damage)));
        }
        if segment == oldest && end == 0 {
            return Err(evidence(oldest, 0)?.unwrap_or_else(|| no_beginning(disk, oldest)));
        }
        if segment == newest {
            check_end(disk, segment, end, &bytes, journal_id, &chain)?;
            if end < bytes.len()
                && let Some(error) = evidence(segment, end as u64)?
            {
                return Err(error);
            }
            let report = Report {
                segments: segments.len() as u64,
                oldest_segment: oldest,
                newest_segment: newest,
                batches: chain.next_batch - first_batch,
                valid_bytes: end as u64,
                cut_bytes: (bytes.len() - end) as u64,
                unrecognised,
            };
            bytes.truncate(end);
            return Ok(Walked { report, newest_bytes: bytes, leftovers, chain });
        }
        doubtful = (end < bytes.len()).then_some((segment, end as u64));
    }
    unreachable!("the newest segment is among the segments, and the walk ends there")
}

/// Visits the batches of one segment, moves the chain on, and returns where they end.
fn walk_segment(
    segment: u64,
    bytes: &[u8],
    journal_id: u64,
    chain: &mut Chain,
    visit: &mut dyn FnMut(&Found) -> Result<(), JournalError>,
) -> Result<usize, JournalError> {
    let mut offset = 0;
    while let Some((header, payload)) = scan::batch_at(bytes, offset, journal_id, segment, chain) {
        visit(&Found { segment, offset_bytes: offset as u64, header: &header, payload })?;
        *chain = Chain::after(&header);
        offset += header.batch_bytes();
    }
    Ok(offset)
}

/// A whole batch with the right number that does not follow the one before it is no torn write, and
/// not stale either, for numbers only rise: files of two copies of the directory were mixed.
fn check_end<D: Disk>(
    disk: &D,
    segment: u64,
    end: usize,
    bytes: &[u8],
    journal_id: u64,
    chain: &Chain,
) -> Result<(), JournalError> {
    let rest = &bytes[end..];
    match Header::decode(rest) {
        Some(header)
            if header.journal_id == journal_id
                && header.batch == chain.next_batch
                && batch::payload_of(&header, rest).is_some() =>
        {
            let damage = Damage::Mixed { batch: header.batch };
            Err(damaged(disk, segment, end as u64, damage))
        }
        _ => Ok(()),
    }
}

/// Looks at everything behind a batch that does not check for the proof that it did once.
fn later_batch<D: Disk>(
    disk: &D,
    segments: &[u64],
    segment: u64,
    offset_bytes: u64,
    journal_id: u64,
    chain: &Chain,
) -> Result<Option<JournalError>, JournalError> {
    let batch = chain.next_batch;
    if removed(Rule::DamageIsNoTear) {
        return Ok(None);
    }
    for &later in segments.iter().filter(|&&later| later >= segment) {
        let bytes = read_segment(disk, later)?;
        let from = if later == segment { offset_bytes as usize } else { 0 };
        if let Some((at, header)) = scan::find_later(&bytes, from, journal_id, batch) {
            let damage = Damage::BeforeBatch {
                batch,
                later: header.batch,
                later_file: disk.path(&segment_name(later)),
                later_offset_bytes: at as u64,
            };
            return Ok(Some(damaged(disk, segment, offset_bytes, damage)));
        }
    }
    Ok(None)
}

/// The files of the journal's directory.
struct Segments {
    /// Those that others are missing behind. They are obsolete, or the journal cannot be read: the
    /// oldest of the rest says which.
    leftovers: Vec<u64>,
    /// The newest ones, in order and without gaps.
    segments: Vec<u64>,
    /// The names of the files that are not ours.
    unrecognised: Vec<String>,
}

fn list_segments<D: Disk>(disk: &D) -> Result<Segments, JournalError> {
    let listed = disk.list().map_err(io_error(disk, "listing", ""))?;
    let mut leftovers: Vec<u64> = listed.iter().filter_map(|name| segment_number(name)).collect();
    leftovers.sort_unstable();
    let before_gap = leftovers.windows(2).rposition(|pair| pair[0] + 1 != pair[1]);
    let segments = leftovers.split_off(before_gap.map_or(0, |at| at + 1));
    let ours = |name: &String| segment_number(name.trim_end_matches(FRESH_SUFFIX)).is_some();
    let mut unrecognised: Vec<String> = listed.into_iter().filter(|name| !ours(name)).collect();
    unrecognised.sort();
    Ok(Segments { leftovers, segments, unrecognised })
}

fn read_segment<D: Disk>(disk: &D, segment: u64) -> Result<Vec<u8>, JournalError> {
    let name = segment_name(segment);
    let length = disk.length_bytes(&name).map_err(io_error(disk, "measuring", &name))?;
    if length > SEGMENT_FILE_BYTES_MAX {
        return Err(damaged(disk, segment, SEGMENT_FILE_BYTES_MAX, Damage::TooLong(length)));
    }
    disk.read(&name).map_err(io_error(disk, "reading", &name))
}

/// A file of another server's journal must not pass for a torn one of ours.
fn check_owner<D: Disk>(
    disk: &D,
    segment: u64,
    bytes: &[u8],
    expected: u64,
) -> Result<(), JournalError> {
    match Header::decode(bytes) {
        Some(Header { journal_id: found, .. }) if found != expected => {
            Err(damaged(disk, segment, 0, Damage::Foreign { found, expected }))
        }
        _ => Ok(()),
    }
}

/// A batch of a later format must not pass for a torn one of ours.
fn check_version<D: Disk>(
    disk: &D,
    segment: u64,
    offset: usize,
    bytes: &[u8],
) -> Result<(), JournalError> {
    match Header::decode(&bytes[offset..]) {
        Some(header) if !header.is_known() => {
            let found = header.version;
            let file = disk.path(&segment_name(segment));
            Err(JournalError::UnknownFormat { file, found, known: FORMAT_VERSION })
        }
        _ => Ok(()),
    }
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
        listed.strip_suffix(FRESH_SUFFIX).is_some_and(|name| segment_number(name).is_some())
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

fn no_beginning<D: Disk>(disk: &D, oldest: u64) -> JournalError {
    damaged(disk, oldest, 0, Damage::NoBeginning)
}

fn damaged<D: Disk>(disk: &D, segment: u64, offset_bytes: u64, damage: Damage) -> JournalError {
    JournalError::Damaged { file: disk.path(&segment_name(segment)), offset_bytes, damage }
}

fn io_error<'a, D: Disk>(
    disk: &'a D,
    doing: &'static str,
    name: &'a str,
) -> impl FnOnce(io::Error) -> JournalError + 'a {
    move |source| JournalError::Io { doing, file: disk.path(name), source }
}
