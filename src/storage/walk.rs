//! Reading all batches of a journal in order, and telling what stands behind the last one.
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
//! The journal begins with segment 1, or with a later one whose first batch says what came before.

use std::io;

use super::batch::{self, FORMAT_VERSION, Header};
use super::chores::is_spare;
use super::disk::Disk;
use super::error::{Damage, JournalError};
use super::journal::{segment_name, segment_number};
use super::scan::{self, Chain};
use crate::lab::{Rule, removed};

/// Longest file that recovery reads into memory, in bytes. Segments end soon after their size.
pub const SEGMENT_FILE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// How the name of a segment that is being written afresh ends.
pub(super) const FRESH_SUFFIX: &str = ".new";

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
    /// How many bytes behind them are cut: a torn write, or what a segment held that was used
    /// again. Zeros at the end are space that was reserved.
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
                cut_bytes: bytes[end..].iter().rposition(|&byte| byte != 0).map_or(0, |at| at + 1)
                    as u64,
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
pub(super) struct Segments {
    /// Those that others are missing behind. They are obsolete, or the journal cannot be read: the
    /// oldest of the rest says which.
    pub(super) leftovers: Vec<u64>,
    /// The newest ones, in order and without gaps.
    pub(super) segments: Vec<u64>,
    /// The names of the files that are not ours.
    pub(super) unrecognised: Vec<String>,
}

pub(super) fn list_segments<D: Disk>(disk: &D) -> Result<Segments, JournalError> {
    let listed = disk.list().map_err(io_error(disk, "listing", ""))?;
    let mut leftovers: Vec<u64> = listed.iter().filter_map(|name| segment_number(name)).collect();
    leftovers.sort_unstable();
    let before_gap = leftovers.windows(2).rposition(|pair| pair[0] + 1 != pair[1]);
    let segments = leftovers.split_off(before_gap.map_or(0, |at| at + 1));
    let ours = |name: &String| {
        is_spare(name) || segment_number(name.trim_end_matches(FRESH_SUFFIX)).is_some()
    };
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

pub(super) fn no_beginning<D: Disk>(disk: &D, oldest: u64) -> JournalError {
    damaged(disk, oldest, 0, Damage::NoBeginning)
}

pub(super) fn damaged<D: Disk>(
    disk: &D,
    segment: u64,
    offset_bytes: u64,
    damage: Damage,
) -> JournalError {
    JournalError::Damaged { file: disk.path(&segment_name(segment)), offset_bytes, damage }
}

pub(super) fn io_error<'a, D: Disk>(
    disk: &'a D,
    doing: &'static str,
    name: &'a str,
) -> impl FnOnce(io::Error) -> JournalError + 'a {
    move |source| JournalError::Io { doing, file: disk.path(name), source }
}
