//! Space that the journal has before it needs it, so that a full disk is a state and no end.
//!
//! A write that meets a full disk halfway leaves nobody knowing what is on it, and that is the end
//! of the process. So the journal writes only where blocks have been written already: the newest
//! segment is zero-filled some way ahead, and the next one stands by as a *spare* file. Only
//! reserving may meet a full disk, and then nothing has happened yet. Overwriting also makes syncs
//! cheaper than growing a file.
//!
//! What is reserved here, between two writes, is little: a step ahead, and a spare for the largest
//! entry. A journal that is busy and has room is given spares of a segment's size beside the
//! writing ([`super::chores`]), and then goes from one to the next.
//!
//! Recovery takes zeros behind the last batch for nothing. Instead of being removed, an obsolete
//! segment may become a spare: what it holds are batches with lower numbers, which recovery
//! ignores, too. The crash points:
//!
//! 1. while a spare is prepared: it has a name of its own, counts for nothing, and the next start
//!    removes it (it may be half done);
//! 2. while it becomes a segment: its first batch is synced under the spare's name, and only then
//!    it is renamed. So whenever a segment has its name, its first batch is whole, and proves that
//!    the segment before it is. What stands in a spare that was not renamed was promised to nobody.
//!
//! **How much room there is.** Say that the segment has C bytes left and a spare S. A batch that
//! fits nowhere here goes to the spare, so anything that is S bytes long in all fits, however it is
//! divided into batches: what the segment takes of it leaves more of the spare. Anything that is C
//! bytes long fits here. The waste at the end of a segment is why the two are not added. Nor are
//! two spares: a batch goes to the first that is ready, and only if it is too long for that one to
//! the one reserved here, and leaves the first as it is. So the larger of the two counts.

use std::collections::VecDeque;
use std::io;

use super::chores::Chore;
use super::disk::{Disk, DiskFile};
use super::error::JournalError;
use super::journal::Journal;
use super::pace::Pace;
use crate::lab::{Rule, removed};
use crate::raft::durability::{WRITE_OVERHEAD_BYTES, Write};

/// The name of the spare that is reserved between two writes.
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
    /// So many obsolete segments are kept to be used again where there is plenty of room.
    pub ready_max: usize,
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

/// A file that may be the next segment.
#[derive(Debug)]
pub struct Spare<F> {
    pub(super) name: String,
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
    /// The spare that was reserved between two writes, for when none is ready that is large enough.
    own: Option<Spare<F>>,
    /// Spares of a segment's size or more, made beside the writing. The first is the next; only its
    /// room counts, and the others are for later.
    pub(super) ready: VecDeque<Spare<F>>,
    /// The number of the last of these.
    pub(super) last_spare: u64,
    /// There was no room to prepare another. It is tried again with the next segment, or when
    /// something has been removed.
    pub(super) has_failed: bool,
    /// How much may still be taken from the disk.
    pub(super) budget_bytes: u64,
    /// Obsolete segments are given back to the disk.
    pub(super) frugal: bool,
}

impl<F> Ahead<F> {
    /// The spare that a batch of so many bytes would begin.
    fn next(&self, bytes: u64) -> Option<&Spare<F>> {
        let ready = self.ready.front().filter(|ready| ready.reserved_bytes >= bytes);
        ready.or(self.own.as_ref())
    }

    /// Takes it.
    pub(super) fn take_spare(&mut self, bytes: u64) -> Option<Spare<F>> {
        if self.ready.front().is_some_and(|ready| ready.reserved_bytes >= bytes) {
            return self.ready.pop_front();
        }
        self.own.take()
    }

    /// A spare has been made.
    pub(super) fn add_ready(&mut self, spare: Spare<F>) {
        match self.ready.front() {
            Some(first) if first.reserved_bytes < spare.reserved_bytes => {
                self.ready.push_front(spare);
            }
            _ => self.ready.push_back(spare),
        }
    }

    /// What is reserved elsewhere than in the newest segment, in one piece.
    fn spare_bytes(&self) -> u64 {
        let ready = self.ready.front().map_or(0, |spare| spare.reserved_bytes);
        ready.max(self.own_spare_bytes())
    }

    /// The same, without what was made beside the writing.
    pub(super) fn own_spare_bytes(&self) -> u64 {
        self.own.as_ref().map_or(0, |spare| spare.reserved_bytes)
    }
}

impl<D: Disk> Journal<D> {
    /// From now on the journal writes only into space that it has reserved, and a full disk is an
    /// answer of `append_and_sync` that leaves everything as it was.
    pub fn keep_reserved(&mut self, options: Reservation) {
        self.ahead = Some(Ahead {
            options,
            reserved_bytes: self.segment_length_bytes,
            own: None,
            ready: VecDeque::new(),
            has_failed: false,
            last_spare: 0,
            budget_bytes: u64::MAX,
            frugal: false,
        });
    }

    /// How much the journal may still take from the disk, and whether it is to give back what it
    /// can.
    pub fn set_budget(&mut self, budget_bytes: u64, frugal: bool) {
        let taken_bytes = match self.chore {
            Some(Chore::Prepare { bytes, .. }) => bytes, // some of it, and the rest soon
            _ => 0,
        };
        if let Some(ahead) = &mut self.ahead {
            ahead.budget_bytes = budget_bytes.saturating_sub(taken_bytes);
            ahead.frugal = frugal;
        }
    }

    /// How many bytes of entries certainly fit, with all that is written around them, at
    /// `WRITE_OVERHEAD_BYTES` each.
    pub fn room_bytes(&self) -> u64 {
        let Some(ahead) = &self.ahead else { return u64::MAX };
        let here = ahead.reserved_bytes.saturating_sub(self.segment_length_bytes);
        if removed(Rule::RoomIsReserved) {
            return u64::MAX;
        }
        here.max(ahead.spare_bytes()).saturating_sub(ahead.options.kept_bytes)
    }

    /// Reserves one piece of what is missing. An entry that takes `wanted_bytes` must fit
    /// afterwards. After an error the process must end, as after one of `append_and_sync`.
    pub fn reserve(&mut self, wanted_bytes: u64) -> Result<Reserved, JournalError> {
        if self.is_poisoned() {
            return Err(JournalError::Poisoned);
        }
        let Some(ahead) = &self.ahead else { return Ok(Reserved::Enough) };
        let Reservation { step_bytes, ahead_bytes, kept_bytes, .. } = ahead.options;
        let enough_bytes = ahead_bytes.max(wanted_bytes.saturating_add(2 * kept_bytes));
        if ahead.spare_bytes() < enough_bytes {
            let has_bytes = ahead.own_spare_bytes();
            // A step at a time: writes wait for it.
            return self.reserve_spare(enough_bytes.min(has_bytes + step_bytes));
        }
        if !ahead.ready.is_empty() {
            return Ok(Reserved::Enough); // to go there costs less
        }
        let soon = (self.segment_length_bytes + step_bytes / 2).min(self.options.segment_bytes);
        if ahead.reserved_bytes < soon { self.reserve_here(soon) } else { Ok(Reserved::Enough) }
    }

    /// Begins a new segment if nothing in this one is needed any more, so that it can be removed
    /// before it is full. Returns whether it did.
    pub fn rotate_obsolete(&mut self) -> Result<bool, JournalError> {
        let Some(ahead) = &self.ahead else { return Ok(false) };
        let is_worth_it = ahead.reserved_bytes > 2 * ahead.own_spare_bytes();
        let fits = ahead.spare_bytes() >= 2 * WRITE_OVERHEAD_BYTES;
        if !is_worth_it || !fits || !self.is_obsolete() {
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
        let own_bytes = ahead.own_spare_bytes();
        let belongs_here = end <= self.options.segment_bytes || self.segment_length_bytes == 0;
        let is_ready = ahead.ready.front().is_some_and(|ready| ready.reserved_bytes >= bytes);
        let fits = end <= reserved_bytes
            || is_ready
            || (belongs_here && self.reserve_here(end)? == Reserved::Some)
            || own_bytes >= bytes
            || self.reserve_spare(bytes.max(ahead_bytes))? == Reserved::Some
            || self.reserve_spare(bytes)? == Reserved::Some;
        if fits {
            return Ok(());
        }
        Err(JournalError::NoSpace { bytes })
    }

    /// Whether a batch that would end here in the newest segment goes into the next one. Usually
    /// that is so when the segment has its size; but as long as it has more room than the spare,
    /// that room was promised. (There a head is added to the batch. If that makes it too long for
    /// the spare that is ready, it takes the other one, in which `make_room_for` has found room for
    /// it with its head.)
    pub(super) fn goes_to_next(&self, end: u64) -> bool {
        let over_segment = end > self.options.segment_bytes && self.segment_length_bytes > 0;
        let Some(ahead) = &self.ahead else { return over_segment };
        let here = ahead.reserved_bytes.saturating_sub(self.segment_length_bytes);
        match ahead.next(end - self.segment_length_bytes).map(|spare| spare.reserved_bytes) {
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
        let from = ahead.own_spare_bytes();
        if bytes <= from {
            return Ok(Reserved::Enough);
        }
        if bytes - from > ahead.budget_bytes {
            return Ok(Reserved::NoSpace);
        }
        let prepared = match &mut ahead.own {
            Some(spare) => zero_fill(&mut spare.file, from, bytes),
            None => match create_spare(&self.disk, SPARE_NAME, bytes, bytes, &Pace::Full) {
                Ok(created) => {
                    let is_there = created.is_some();
                    ahead.own = created;
                    Ok(if is_there { Reserved::Some } else { Reserved::NoSpace })
                }
                Err(error) => Err(error),
            },
        };
        match prepared {
            Ok(Reserved::Some) => {
                ahead.budget_bytes -= bytes - from;
                ahead.own.as_mut().expect("it was prepared").reserved_bytes = bytes;
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
}

/// Creates a spare and reserves its space, a step at a time; `None` if there is no space.
pub(super) fn create_spare<D: Disk>(
    disk: &D,
    name: &str,
    bytes: u64,
    step_bytes: u64,
    pace: &Pace,
) -> io::Result<Option<Spare<D::File>>> {
    let mut file = match disk.create(name) {
        Ok(file) => file,
        Err(error) if is_no_space(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut from = 0;
    while from < bytes {
        let to = bytes.min(from + step_bytes);
        let filled = pace.work(|| zero_fill(&mut file, from, to))?;
        if filled == Reserved::NoSpace || pace.is_hurried() {
            disk.remove(name)?; // what there was room for is wanted elsewhere
            return Ok(None);
        }
        from = to;
    }
    disk.sync_directory()?;
    Ok(Some(Spare { name: name.to_owned(), file, reserved_bytes: bytes }))
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
