//! Writing the journal: one write and one sync for each batch, and never a batch behind a doubtful
//! one.
//!
//! Files are named `00000001.seg`, `00000002.seg`, …; a segment that has reached its size is
//! followed by the next. Batch n+1 is written only after n is synced: recovery reads its evidence
//! from that. A new segment's *name* is synced before its first batch counts, so the names need no
//! record elsewhere.
//!
//! Each new segment begins with a `Head`, which repeats what all before it amount to. So segments
//! whose entries a snapshot covers can be removed, the oldest first, and what is left can be read.
//! Example: segments 1 and 2 hold entries 1 to 90, with a snapshot of entry 100 both may go; had
//! entry 120 been written to segment 2 and been replaced since, both would stay until a snapshot
//! covers 120.
//!
//! What it writes into has been reserved before: [`super::reserve`]. Segments are removed, or used
//! again, beside the writing: [`super::chores`].
//!
//! The failing schedule behind `Poisoned`: a sync fails, the kernel drops the pages and forgets the
//! error, the next sync succeeds, and we acknowledge a batch that stands behind a hole. So the
//! first failure is the last thing this journal does; only a new start may look at the files again.

use std::io;

use super::batch::{self, FORMAT_VERSION, HEADER_BYTES, Header};
use super::chores::Chore;
use super::disk::{Disk, DiskFile};
use super::error::JournalError;
use super::record::{self, Record, check_base, check_entry, check_succession};
use super::reserve::Ahead;
use super::scan::Chain;
use crate::lab::{Rule, removed};
use crate::limits;
use crate::raft::durability::{WRITE_OVERHEAD_BYTES, Write};
use crate::raft::types::{Entry, EntryId, HardState, Index, SnapshotId};

/// What is to be known to open a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The id that the journal was created with.
    pub journal_id: u64,
    /// A random number for this start of the server.
    pub run_id: u64,
    /// Size in bytes after which the next segment is begun.
    pub segment_bytes: u64,
}

impl Options {
    /// Options with segments of the usual size.
    pub fn new(journal_id: u64, run_id: u64) -> Options {
        Options { journal_id, run_id, segment_bytes: limits::SEGMENT_BYTES }
    }
}

/// The journal, open for writing. `recovery::open` makes one.
#[derive(Debug)]
pub struct Journal<D: Disk> {
    pub(super) disk: D,
    pub(super) options: Options,
    /// The newest segment.
    pub(super) file: D::File,
    segment: u64,
    /// The end of its last batch, where the next goes.
    pub(super) segment_length_bytes: u64,
    /// What is reserved; `None` if files grow as they are written.
    pub(super) ahead: Option<Ahead<D::File>>,
    chain: Chain,
    /// Whether the last batch is a seal.
    sealed: bool,
    /// Whether a write or sync has failed.
    poisoned: bool,
    /// Which life of the server this is.
    incarnation: u64,
    /// What the journal holds, to check that what comes can follow it.
    hard_state: HardState,
    /// The log is settled up to here: no entry may be replaced any more.
    floor: Index,
    last: EntryId,
    /// The highest index that was ever written, replaced or not.
    highest: Index,
    /// The segments before the newest, the oldest first.
    pub(super) older: Vec<OlderSegment>,
    /// What is being done beside the writing.
    pub(super) chore: Option<Chore>,
    /// The newest snapshot that is durable covers the entries up to here.
    pub(super) published: Index,
    /// How much has been written in this life.
    pub(super) written_bytes: u64,
    /// The batch being built; kept for its memory.
    buffer: Vec<u8>,
}

/// A segment that is written no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OlderSegment {
    pub(super) segment: u64,
    /// The highest index that was ever written to it or to those before it.
    pub(super) highest: Index,
    /// Whether the segment behind it can be read without it.
    pub(super) followed_by_head: bool,
}

/// What a batch finds when it comes, in case it begins a segment.
struct Before {
    head: Record<&'static Entry>,
    highest: Index,
}

/// Where recovery hands over to the journal.
#[derive(Debug)]
pub(super) struct Position<F> {
    pub(super) file: F,
    pub(super) segment: u64,
    pub(super) segment_length_bytes: u64,
    pub(super) chain: Chain,
    pub(super) incarnation: u64,
    pub(super) hard_state: HardState,
    pub(super) last: EntryId,
    pub(super) highest: Index,
    pub(super) older: Vec<OlderSegment>,
    pub(super) snapshot: SnapshotId,
}

impl<D: Disk> Journal<D> {
    /// Continues at a position that is durable and ends in a seal.
    pub(super) fn at(disk: D, options: Options, position: Position<D::File>) -> Journal<D> {
        Journal {
            disk,
            options,
            file: position.file,
            segment: position.segment,
            segment_length_bytes: position.segment_length_bytes,
            ahead: None,
            chain: position.chain,
            sealed: true,
            poisoned: false,
            incarnation: position.incarnation,
            hard_state: position.hard_state,
            floor: position.snapshot.last.index,
            last: position.last,
            highest: position.highest,
            older: position.older,
            chore: None,
            published: position.snapshot.last.index,
            written_bytes: 0,
            buffer: Vec::new(),
        }
    }

    /// Makes a write durable: when this returns `Ok`, no crash can lose it. After `NoSpace` nothing
    /// has happened; after any other error the process must end; whether the write is on disk is
    /// unknown.
    ///
    /// Requires what Raft ensures: terms and votes that follow the rules, entries without gaps.
    pub fn append_and_sync(&mut self, write: &Write) -> Result<(), JournalError> {
        if self.poisoned && !removed(Rule::FailedJournalIsOver) {
            return Err(JournalError::Poisoned);
        }
        if write.hard_state.is_none() && write.base.is_none() && write.entries.is_empty() {
            return Ok(());
        }
        self.make_room(write)?;
        let before = self.before();
        self.buffer.clear();
        self.buffer.resize(HEADER_BYTES, 0);
        if let Some(hard_state) = write.hard_state {
            self.add_hard_state(hard_state);
        }
        if let Some(base) = write.base {
            self.add_base(base);
        }
        for entry in &write.entries {
            self.add_entry(entry);
        }
        self.write_batch(&before, false)?;
        self.sealed = false;
        Ok(())
    }

    /// Ends a burst of writes with an empty batch, so that rot in the last real batch can be told
    /// from a torn write. To be called on the first quiet tick. Says whether there was anything to
    /// seal.
    pub fn seal(&mut self) -> Result<bool, JournalError> {
        if self.poisoned {
            return Err(JournalError::Poisoned);
        }
        if removed(Rule::QuietJournalIsSealed) {
            self.sealed = true;
        }
        if self.sealed {
            return Ok(false);
        }
        match self.make_room_for(WRITE_OVERHEAD_BYTES) {
            Err(JournalError::NoSpace { .. }) => return Ok(false),
            other => other?,
        }
        self.write_seal(false)?;
        Ok(true)
    }

    /// Writes an empty batch: here, or at the start of the next segment.
    pub(super) fn write_seal(&mut self, rotate: bool) -> Result<(), JournalError> {
        self.buffer.clear();
        self.buffer.resize(HEADER_BYTES, 0);
        self.write_batch(&self.before(), rotate)?;
        self.sealed = true;
        Ok(())
    }

    /// Whether the last batch still waits for its seal.
    pub fn needs_seal(&self) -> bool {
        !self.sealed
    }

    /// How many bytes this journal has written since it was opened.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// The number of the segment being written.
    pub fn segment(&self) -> u64 {
        self.segment
    }

    /// Whether the newest snapshot covers all that this segment holds.
    pub(super) fn is_obsolete(&self) -> bool {
        self.highest <= self.published
    }

    pub(super) fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    pub(super) fn poison(&mut self) {
        self.poisoned = true;
    }

    fn add_hard_state(&mut self, next: HardState) {
        // The same checks stand in recovery: what could not be read back must not be written.
        if let Err(reason) = check_succession(&self.hard_state, &next) {
            panic!("Election Safety: {reason}, from {:?} to {next:?}", self.hard_state);
        }
        self.hard_state = next;
        record::encode(&Record::HardState(next), &mut self.buffer);
    }

    fn add_base(&mut self, base: SnapshotId) {
        if let Err(reason) = check_base(&base, self.floor, &self.hard_state) {
            panic!("Leader Completeness: {reason}, from {} to {base}", self.floor);
        }
        self.snapshot_published(base); // it is on disk: so `Write` says
        (self.floor, self.last) = (base.last.index, base.last);
        record::encode(&Record::Base(base), &mut self.buffer);
    }

    fn add_entry(&mut self, entry: &Entry) {
        if let Err(reason) = check_entry(entry, self.floor, self.last.index, &self.hard_state) {
            panic!("Log Matching: {reason}: {} after {}", entry.id, self.last);
        }
        self.last = entry.id;
        self.highest = self.highest.max(entry.id.index);
        record::encode(&Record::Entry(entry), &mut self.buffer);
    }

    /// What is true before the next batch.
    fn before(&self) -> Before {
        let head = Record::Head {
            incarnation: self.incarnation,
            run_id: self.options.run_id,
            hard_state: self.hard_state,
            last: self.last,
        };
        Before { head, highest: self.highest }
    }

    /// Writes and syncs the batch in the buffer, in this segment or at the start of the next.
    fn write_batch(&mut self, before: &Before, rotate: bool) -> Result<(), JournalError> {
        let end = self.segment_length_bytes + self.buffer.len() as u64;
        let rotate = rotate || self.goes_to_next(end);
        // Poisoned until proven well: every way out of here with an error leaves it so.
        self.poisoned = true;
        let mut spare_name = None;
        if rotate {
            self.segment += 1;
            self.segment_length_bytes = 0;
            let mut head = Vec::new();
            record::encode(&before.head, &mut head);
            self.buffer.splice(HEADER_BYTES..HEADER_BYTES, head);
            spare_name = self.begin_segment(self.buffer.len() as u64)?;
        }
        let header = next_header(&self.options, self.segment, &self.chain);
        let crc = batch::finish(&header, &mut self.buffer);
        let written = self.file.write_at(self.segment_length_bytes, &self.buffer);
        written.map_err(|source| self.failed("writing", source))?;
        let synced = self.file.sync();
        if !removed(Rule::FailedSyncEndsTheServer) {
            synced.map_err(|source| self.failed("syncing", source))?;
        }
        if let Some(spare_name) = spare_name.filter(|_| !removed(Rule::SegmentIsWholeWhenNamed)) {
            let renamed = self.disk.rename(&spare_name, &segment_name(self.segment));
            renamed.map_err(|source| self.failed("naming", source))?;
        }
        if rotate && !removed(Rule::NewSegmentHasItsName) {
            // Without its name a synced file is lost with all it holds (S36).
            let synced = self.disk.sync_directory();
            synced.map_err(|source| self.failed("syncing the directory of", source))?;
        }
        if rotate {
            let segment = self.segment - 1;
            let highest = before.highest;
            self.older.push(OlderSegment { segment, highest, followed_by_head: true });
        }
        self.segment_length_bytes += self.buffer.len() as u64;
        self.written_bytes += self.buffer.len() as u64;
        self.chain = Chain::after(&Header { crc, ..header });
        self.poisoned = false;
        Ok(())
    }

    /// Opens the next segment: a spare, which still has its own name, or a new file. The batch that
    /// begins it is `bytes` long.
    fn begin_segment(&mut self, bytes: u64) -> Result<Option<String>, JournalError> {
        let name = segment_name(self.segment);
        if let Some(ahead) = &mut self.ahead {
            (ahead.reserved_bytes, ahead.has_failed) = (0, false);
            if let Some(spare) = ahead.take_spare(bytes) {
                (self.file, ahead.reserved_bytes) = (spare.file, spare.reserved_bytes);
                if removed(Rule::SegmentIsWholeWhenNamed) {
                    let renamed = self.disk.rename(&spare.name, &name);
                    renamed.map_err(|source| self.failed("naming", source))?;
                }
                return Ok(Some(spare.name));
            }
        }
        let created = self.disk.create(&name);
        self.file = created.map_err(|source| self.failed("creating", source))?;
        Ok(None)
    }

    /// A segment is durably gone.
    pub(super) fn forget_segment(&mut self, segment: u64) {
        let at = self.older.iter().position(|older| older.segment == segment);
        let at = at.expect("a segment goes once");
        self.older.remove(at);
        for leftover in &mut self.older[..at] {
            leftover.followed_by_head = true;
        }
    }

    pub(super) fn failed(&self, doing: &'static str, source: io::Error) -> JournalError {
        JournalError::Io { doing, file: self.disk.path(&segment_name(self.segment)), source }
    }
}

/// The header of the batch that comes next; `batch::finish` adds length and CRC.
pub(super) fn next_header(options: &Options, segment: u64, chain: &Chain) -> Header {
    Header {
        version: FORMAT_VERSION,
        journal_id: options.journal_id,
        segment,
        batch: chain.next_batch,
        payload_bytes: 0,
        previous_crc: chain.previous_crc,
        crc: 0,
    }
}

/// The name of a segment's file.
pub fn segment_name(segment: u64) -> String {
    format!("{segment:08}.seg")
}

/// The number of the segment whose file has this name; `None` if we did not make the file.
pub fn segment_number(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".seg")?.parse().ok()?;
    (number > 0 && segment_name(number) == name).then_some(number)
}
