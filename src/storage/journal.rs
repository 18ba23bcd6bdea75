//! Writing the journal: one write and one sync for each batch, and never a batch behind a doubtful
//! one.
//!
//! Files are named `00000001.seg`, `00000002.seg`, …; a segment that has reached its size is
//! followed by the next. Batch n+1 is written only after n is synced: recovery reads its evidence
//! from that. A new segment's *name* is synced before its first batch counts, so the names need no
//! record elsewhere.
//!
//! The failing schedule behind `Poisoned`: a sync fails, the kernel drops the pages and forgets the
//! error, the next sync succeeds, and we acknowledge a batch that stands behind a hole. So the
//! first failure is the last thing this journal does; only a new start may look at the files again.

use std::io;

use super::batch::{self, FORMAT_VERSION, HEADER_BYTES, Header};
use super::disk::{Disk, DiskFile};
use super::error::JournalError;
use super::record::{self, Record, check_entry, check_succession};
use super::scan::Chain;
use crate::lab::{Rule, removed};
use crate::limits;
use crate::raft::durability::Write;
use crate::raft::types::{Entry, HardState, Index};

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
    disk: D,
    options: Options,
    /// The newest segment.
    file: D::File,
    segment: u64,
    /// The end of its last batch, where the next goes.
    segment_length_bytes: u64,
    chain: Chain,
    /// Whether the last batch is a seal.
    sealed: bool,
    /// Whether a write or sync has failed.
    poisoned: bool,
    /// What the journal holds, to check that what comes can follow it.
    hard_state: HardState,
    base: Index,
    last: Index,
    /// The batch being built; kept for its memory.
    buffer: Vec<u8>,
}

/// Where recovery hands over to the journal.
#[derive(Debug)]
pub(super) struct Position<F> {
    pub(super) file: F,
    pub(super) segment: u64,
    pub(super) segment_length_bytes: u64,
    pub(super) chain: Chain,
    pub(super) hard_state: HardState,
    pub(super) base: Index,
    pub(super) last: Index,
}

impl<D: Disk> Journal<D> {
    /// Continues at a position that is durable and ends in a seal.
    pub(super) fn at(disk: D, options: Options, position: Position<D::File>) -> Journal<D> {
        let Position { file, segment, segment_length_bytes, chain, hard_state, base, last } =
            position;
        Journal {
            disk,
            options,
            file,
            segment,
            segment_length_bytes,
            chain,
            sealed: true,
            poisoned: false,
            hard_state,
            base,
            last,
            buffer: Vec::new(),
        }
    }

    /// Makes a write durable: when this returns `Ok`, no crash can lose it. After an error the
    /// process must end; whether the write is on disk is unknown.
    ///
    /// Requires what Raft ensures: terms and votes that follow the rules, entries without gaps.
    pub fn append_and_sync(&mut self, write: &Write) -> Result<(), JournalError> {
        if self.poisoned && !removed(Rule::FailedJournalIsOver) {
            return Err(JournalError::Poisoned);
        }
        if write.hard_state.is_none() && write.entries.is_empty() {
            return Ok(());
        }
        self.buffer.clear();
        self.buffer.resize(HEADER_BYTES, 0);
        if let Some(hard_state) = write.hard_state {
            self.add_hard_state(hard_state);
        }
        for entry in &write.entries {
            self.add_entry(entry);
        }
        self.write_batch()?;
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
        if self.sealed || removed(Rule::QuietJournalIsSealed) {
            return Ok(false);
        }
        self.buffer.clear();
        self.buffer.resize(HEADER_BYTES, 0);
        self.write_batch()?;
        self.sealed = true;
        Ok(true)
    }

    /// Whether the last batch still waits for its seal.
    pub fn needs_seal(&self) -> bool {
        !self.sealed
    }

    /// The number of the segment being written.
    pub fn segment(&self) -> u64 {
        self.segment
    }

    fn add_hard_state(&mut self, next: HardState) {
        // The same checks stand in recovery: what could not be read back must not be written.
        if let Err(reason) = check_succession(&self.hard_state, &next) {
            panic!("Election Safety: {reason}, from {:?} to {next:?}", self.hard_state);
        }
        self.hard_state = next;
        record::encode(&Record::HardState(next), &mut self.buffer);
    }

    fn add_entry(&mut self, entry: &Entry) {
        if let Err(reason) = check_entry(entry, self.base, self.last, &self.hard_state) {
            panic!("Log Matching: {reason}: {} after index {}", entry.id, self.last);
        }
        self.last = entry.id.index;
        record::encode(&Record::Entry(entry), &mut self.buffer);
    }

    /// Writes and syncs the batch in the buffer, in this segment or at the start of the next.
    fn write_batch(&mut self) -> Result<(), JournalError> {
        let full =
            self.segment_length_bytes + self.buffer.len() as u64 > self.options.segment_bytes;
        let rotate = full && self.segment_length_bytes > 0;
        // Poisoned until proven well: every way out of here with an error leaves it so.
        self.poisoned = true;
        if rotate {
            self.segment += 1;
            self.segment_length_bytes = 0;
            let created = self.disk.create(&segment_name(self.segment));
            self.file = created.map_err(|source| self.failed("creating", source))?;
        }
        let header = next_header(&self.options, self.segment, &self.chain);
        let crc = batch::finish(&header, &mut self.buffer);
        let written = self.file.write_at(self.segment_length_bytes, &self.buffer);
        written.map_err(|source| self.failed("writing", source))?;
        let synced = self.file.sync();
        if !removed(Rule::FailedSyncEndsTheServer) {
            synced.map_err(|source| self.failed("syncing", source))?;
        }
        if rotate && !removed(Rule::NewSegmentHasItsName) {
            // Without its name a synced file is lost with all it holds (S36).
            let synced = self.disk.sync_directory();
            synced.map_err(|source| self.failed("syncing the directory of", source))?;
        }
        self.segment_length_bytes += self.buffer.len() as u64;
        self.chain = Chain::after(&Header { crc, ..header });
        self.poisoned = false;
        Ok(())
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> JournalError {
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
