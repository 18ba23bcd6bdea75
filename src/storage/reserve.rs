//! Space that the journal has before it needs it, so that a full disk is a state and no end.
//!
//! A write that meets a full disk halfway leaves nobody knowing what is on it, and that is the end
//! of the process. So the journal writes only where blocks have been written already: the newest
//! segment is zero-filled some way ahead, and the next one stands by as a *spare* file. Only
//! reserving may meet a full disk, and then nothing has happened yet. Overwriting also makes syncs
//! cheaper than growing a file.
//!
//! Recovery takes zeros behind the last batch for nothing. Instead of being removed, an obsolete
//! segment may become the spare: what it holds are batches with lower numbers, which recovery
//! ignores, too. The crash points:
//!
//! 1. while a spare is prepared: it has a name of its own, counts for nothing, and the next start
//!    removes it (it may be half done);
//! 2. while it becomes a segment: its first batch is synced under the spare's name, and only then
//!    it is renamed. So whenever a segment has its name, its first batch is whole, and proves that
//!    the segment before it is. What stands in a spare that was not renamed was promised to nobody.
//!
//! **How much room there is.** Say that the segment has C bytes left and the spare S. A batch that
//! fits nowhere here goes to the spare, so anything that is S bytes long in all fits, however it is
//! divided into batches: what the segment takes of it leaves more of the spare. Anything that is C
//! bytes long fits here. The waste at the end of a segment is why the two are not added.

use std::io;

use super::disk::{Disk, DiskFile};
use super::error::JournalError;
use super::journal::{Journal, segment_name};
use crate::lab::{Rule, removed};
use crate::raft::durability::{WRITE_OVERHEAD_BYTES, Write};

/// The name of the file that will be the next segment.
pub const SPARE_NAME: &str = "spare.seg";

/// What is written to reserve space.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// How much a journal reserves ahead of what it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// The newest segment is extended by so much at a time.
    pub step_bytes: u64,
    /// The spare has at least so much: the largest entry must fit.
    pub ahead_bytes: u64,
    /// So much of it is kept for terms and votes, and not offered as room for entries.
    pub kept_bytes: u64,
}

/// What an attempt to reserve came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// All that is wanted is there.
    Enough,
    /// Something was reserved; there may be more to do.
    Some,
    /// There is no space for it.
    NoSpace,
}

/// The file that will be the next segment.
#[derive(Debug)]
pub(super) struct Spare<F> {
    pub(super) file: F,
    /// How much of it has been written, with zeros or with what is obsolete.
    pub(super) reserved_bytes: u64,
}

/// What a journal that reserves knows about it.
#[derive(Debug)]
pub(super) struct Ahead<F> {
    pub(super) options: Reservation,
    /// The newest segment's file has been written up to here.
    pub(super) reserved_bytes: u64,
    pub(super) spare: Option<Spare<F>>,
    /// How much may still be taken from the disk.
    budget_bytes: u64,
    /// Obsolete segments are given back to the disk.
    frugal: bool,
}

impl<D: Disk> Journal<D> {
    /// From now on the journal writes only into space that it has reserved, and a full disk is an
    /// answer of `append_and_sync` that leaves everything as it was.
    pub fn keep_reserved(&mut self, options: Reservation) {
        self.ahead = Some(Ahead {
            options,
            reserved_bytes: self.segment_length_bytes,
            spare: None,
            budget_bytes: u64::MAX,
            frugal: false,
        });
    }

    /// How much the journal may still take from the disk, and whether it is to give back what it
    /// can.
    pub fn set_budget(&mut self, budget_bytes: u64, frugal: bool) {
        if let Some(ahead) = &mut self.ahead {
            (ahead.budget_bytes, ahead.frugal) = (budget_bytes, frugal);
        }
    }

    /// How many bytes of entries certainly fit, with all that is written around them, at
    /// `WRITE_OVERHEAD_BYTES` each.
    pub fn room_bytes(&self) -> u64 {
        let Some(ahead) = &self.ahead else { return u64::MAX };
        let here = ahead.reserved_bytes.saturating_sub(self.segment_length_bytes);
        let spare = ahead.spare.as_ref().map_or(0, |spare| spare.reserved_bytes);
        if removed(Rule::RoomIsReserved) {
            return u64::MAX;
        }
        here.max(spare).saturating_sub(ahead.options.kept_bytes)
    }

    /// Reserves one piece of what is missing. An entry that takes `wanted_bytes` must fit
    /// afterwards. After an error the process must end, as after one of `append_and_sync`.
    pub fn reserve(&mut self, wanted_bytes: u64) -> Result<Reserved, JournalError> {
        if self.is_poisoned() {
            return Err(JournalError::Poisoned);
        }
        let Some(ahead) = &self.ahead else { return Ok(Reserved::Enough) };
        let Reservation { step_bytes, ahead_bytes, kept_bytes } = ahead.options;
        let spare_bytes = ahead_bytes.max(wanted_bytes.saturating_add(2 * kept_bytes));
        let has_bytes = ahead.spare.as_ref().map_or(0, |spare| spare.reserved_bytes);
        if has_bytes < spare_bytes {
            // A step at a time: writes wait for it.
            return self.reserve_spare(spare_bytes.min(has_bytes + step_bytes));
        }
        let soon = (self.segment_length_bytes + step_bytes / 2).min(self.options.segment_bytes);
        if ahead.reserved_bytes < soon { self.reserve_here(soon) } else { Ok(Reserved::Enough) }
    }

    /// Begins a new segment if nothing in this one is needed any more, so that it can be removed
    /// before it is full. Returns whether it did.
    pub fn rotate_obsolete(&mut self) -> Result<bool, JournalError> {
        let Some(ahead) = &self.ahead else { return Ok(false) };
        let spare_bytes = ahead.spare.as_ref().map_or(0, |spare| spare.reserved_bytes);
        let is_worth_it = ahead.reserved_bytes > 2 * spare_bytes;
        if !is_worth_it || spare_bytes < 2 * WRITE_OVERHEAD_BYTES || !self.is_obsolete() {
            return Ok(false);
        }
        self.write_seal(true)?;
        Ok(true)
    }

    /// Makes sure that a batch with this write fits, here or into the spare.
    pub(super) fn make_room(&mut self, write: &Write) -> Result<(), JournalError> {
        let entries = write.entries.iter().map(|entry| entry.bytes() as u64);
        self.make_room_for(WRITE_OVERHEAD_BYTES + entries.sum::<u64>())
    }

    /// The same for a batch of so many bytes at most.
    pub(super) fn make_room_for(&mut self, bytes: u64) -> Result<(), JournalError> {
        let Some(ahead) = &self.ahead else { return Ok(()) };
        if removed(Rule::RoomIsReserved) {
            return Ok(());
        }
        let end = self.segment_length_bytes + bytes;
        let (reserved_bytes, ahead_bytes) = (ahead.reserved_bytes, ahead.options.ahead_bytes);
        let spare_bytes = ahead.spare.as_ref().map_or(0, |spare| spare.reserved_bytes);
        let belongs_here = end <= self.options.segment_bytes || self.segment_length_bytes == 0;
        let fits = end <= reserved_bytes
            || (belongs_here && self.reserve_here(end)? == Reserved::Some)
            || spare_bytes >= bytes
            || self.reserve_spare(bytes.max(ahead_bytes))? == Reserved::Some
            || self.reserve_spare(bytes)? == Reserved::Some;
        if fits {
            return Ok(());
        }
        Err(JournalError::NoSpace { bytes })
    }

    /// Whether a batch that would end here in the newest segment goes into the next one. Usually
    /// that is so when the segment has its size; but as long as it has more room than the spare,
    /// that room was promised.
    pub(super) fn goes_to_next(&self, end: u64) -> bool {
        let over_segment = end > self.options.segment_bytes && self.segment_length_bytes > 0;
        let Some(ahead) = &self.ahead else { return over_segment };
        let here = ahead.reserved_bytes.saturating_sub(self.segment_length_bytes);
        let spare = ahead.spare.as_ref().map(|spare| spare.reserved_bytes);
        match spare {
            Some(spare) => end > ahead.reserved_bytes || (over_segment && spare >= here),
            None => over_segment && end > ahead.reserved_bytes,
        }
    }

    /// Extends the newest segment by a step or more, so that it reaches at least to `end`.
    fn reserve_here(&mut self, end: u64) -> Result<Reserved, JournalError> {
        let Some(ahead) = &mut self.ahead else { return Ok(Reserved::Enough) };
        let from = ahead.reserved_bytes;
        let step = (from + ahead.options.step_bytes).min(self.options.segment_bytes);
        let to = end.max(step);
        if to - from > ahead.budget_bytes {
            return Ok(Reserved::NoSpace);
        }
        match zero_fill(&mut self.file, from, to) {
            Ok(Reserved::Some) => {
                ahead.reserved_bytes = to;
                ahead.budget_bytes -= to - from;
                Ok(Reserved::Some)
            }
            Ok(other) => Ok(other),
            Err(source) => {
                self.poison();
                Err(self.failed("reserving space in", source))
            }
        }
    }

    /// Prepares a spare of at least so many bytes, or extends the one that there is.
    fn reserve_spare(&mut self, bytes: u64) -> Result<Reserved, JournalError> {
        let Some(ahead) = &mut self.ahead else { return Ok(Reserved::Enough) };
        let from = ahead.spare.as_ref().map_or(0, |spare| spare.reserved_bytes);
        if bytes <= from {
            return Ok(Reserved::Enough);
        }
        if bytes - from > ahead.budget_bytes {
            return Ok(Reserved::NoSpace);
        }
        let prepared = match &mut ahead.spare {
            Some(spare) => zero_fill(&mut spare.file, from, bytes),
            None => match create_spare(&self.disk, bytes) {
                Ok(created) => {
                    let is_there = created.is_some();
                    ahead.spare = created;
                    Ok(if is_there { Reserved::Some } else { Reserved::NoSpace })
                }
                Err(error) => Err(error),
            },
        };
        match prepared {
            Ok(Reserved::Some) => {
                ahead.budget_bytes -= bytes - from;
                ahead.spare.as_mut().expect("it was prepared").reserved_bytes = bytes;
                Ok(Reserved::Some)
            }
            Ok(other) => Ok(other),
            Err(source) => {
                self.poison();
                let file = self.disk.path(SPARE_NAME);
                Err(JournalError::Io { doing: "reserving space in", file, source })
            }
        }
    }

    /// Keeps an obsolete segment as the spare, if there is none and it is not unusually large.
    /// Returns whether it has; its name is then gone, and durably so.
    pub(super) fn recycle(&mut self, segment: u64) -> io::Result<bool> {
        let Some(ahead) = &mut self.ahead else { return Ok(false) };
        let name = segment_name(segment);
        if ahead.spare.is_some() || ahead.frugal {
            return Ok(false);
        }
        let reserved_bytes = self.disk.length_bytes(&name)?;
        if reserved_bytes > 2 * self.options.segment_bytes.max(ahead.options.ahead_bytes) {
            return Ok(false);
        }
        self.disk.rename(&name, SPARE_NAME)?;
        self.disk.sync_directory()?;
        ahead.spare = Some(Spare { file: self.disk.reopen(SPARE_NAME)?, reserved_bytes });
        Ok(true)
    }
}

/// Creates the spare and reserves its space; `None` if there is none.
fn create_spare<D: Disk>(disk: &D, bytes: u64) -> io::Result<Option<Spare<D::File>>> {
    let mut file = match disk.create(SPARE_NAME) {
        Ok(file) => file,
        Err(error) if is_no_space(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    if zero_fill(&mut file, 0, bytes)? == Reserved::NoSpace {
        disk.remove(SPARE_NAME)?; // what there was room for is wanted elsewhere
        return Ok(None);
    }
    disk.sync_directory()?;
    Ok(Some(Spare { file, reserved_bytes: bytes }))
}

/// Writes zeros, and syncs them. That there is no space is no error; a sync that fails always is.
fn zero_fill(file: &mut impl DiskFile, from: u64, to: u64) -> io::Result<Reserved> {
    let mut at = from;
    while at < to {
        let length = ZEROS.len().min(usize::try_from(to - at).unwrap_or(usize::MAX));
        match file.write_at(at, &ZEROS[..length]) {
            Ok(()) => at += length as u64,
            Err(error) if is_no_space(&error) => return Ok(Reserved::NoSpace),
            Err(error) => return Err(error),
        }
    }
    file.sync()?;
    Ok(Reserved::Some)
}

/// Whether the disk, or the user's quota on it, is full; anything else is a broken disk.
pub fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
