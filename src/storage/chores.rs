//! What is to be done to the journal's files beside the writing, by whoever has time for it.
//!
//! To create, fill, rename or remove a file makes the file system commit what it knows about *all*
//! files, and that waits for whatever else is on its way to the disk, such as a snapshot. Writing
//! over blocks that a file has does not. And servers that hold the same log come to the same point
//! of it at the same moment, so what holds up each of them holds up their cluster: with a step of
//! zeros reserved between two writes, all three paused for 8 ms and more, eight times a second.
//!
//! So the journal says what is to be done, one [`Chore`] at a time; a thread of its own may
//! [`perform`] it meanwhile; and the journal is told what came of it. In between it goes on as if
//! nothing had been done: a segment that is being removed still counts, a spare that is being
//! prepared does not count yet. What must not wait, [`super::reserve`] still does at once.
//!
//! While a journal is busy, and there is plenty of room, the next spare of the full size is made
//! before it is needed. Obsolete segments become spares, a few at most: as long as the log has no
//! more of them between two snapshots, nothing is filled with zeros or removed any more.
//!
//! A segment becomes a spare by a new name, and is written to only when that is durable. The
//! failing schedule: segment 3 becomes a spare, which becomes segment 9; then power fails, the
//! first of the two new names is lost, and a start finds a segment 3 that begins with the batches
//! of segment 9.

use super::disk::Disk;
use super::error::JournalError;
use super::journal::{Journal, OlderSegment, segment_name};
use super::pace::Pace;
use super::reserve::{SPARE_NAME, Spare, create_spare, is_no_space};
use crate::lab::{Rule, removed};
use crate::limits;
use crate::raft::types::{Index, SnapshotId};

/// Something to be done to files that are not being written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chore {
    /// This segment is obsolete: it becomes a spare with this name, or goes.
    Retire {
        /// The segment's number.
        segment: u64,
        /// The name of the spare.
        spare: Option<String>,
    },
    /// A spare of this size is to be made.
    Prepare {
        /// Its name.
        spare: String,
        /// Its size.
        bytes: u64,
        /// It is filled by so many bytes at a time.
        step_bytes: u64,
    },
    /// The space of this spare is wanted elsewhere.
    GiveBack {
        /// Its name.
        spare: String,
        /// Its size.
        bytes: u64,
    },
}

/// Whether a file of this name is a spare. What it holds counts for nothing.
pub fn is_spare(name: &str) -> bool {
    let number = name.strip_prefix("spare-").and_then(|rest| rest.strip_suffix(".seg"));
    let number = number.and_then(|number| number.parse().ok());
    name == SPARE_NAME || number.is_some_and(|number| spare_name(number) == name)
}

fn spare_name(number: u64) -> String {
    format!("spare-{number}.seg")
}

/// Does a chore at this pace, on the disk of the journal that gave it out. Returns the spare that
/// came of it; a disk without room for one is no error. What was done is durable.
pub fn perform<D: Disk>(
    disk: &D,
    chore: &Chore,
    pace: &Pace,
) -> Result<Option<Spare<D::File>>, JournalError> {
    let failed = |doing: &'static str, name: &str| {
        let file = disk.path(name);
        move |source| JournalError::Io { doing, file, source }
    };
    let sync = |name: &str| disk.sync_directory().map_err(failed("syncing the directory of", name));
    let remove = |name: &str| {
        disk.remove_unread(name, pace).map_err(failed("removing", name))?;
        sync(name).map(|()| None)
    };
    match chore {
        Chore::Retire { segment, spare: Some(spare) } => {
            let name = segment_name(*segment);
            match disk.rename(&name, spare) {
                Err(error) if is_no_space(&error) => return remove(&name),
                renamed => renamed.map_err(failed("renaming", &name))?,
            }
            if !removed(Rule::SpareHasOneName) {
                sync(&name)?;
            }
            let file = disk.reopen(spare).map_err(failed("opening", spare))?;
            let length = disk.length_bytes(spare).map_err(failed("measuring", spare))?;
            Ok(Some(Spare { name: spare.clone(), file, reserved_bytes: length }))
        }
        Chore::Retire { segment, spare: None } => remove(&segment_name(*segment)),
        Chore::Prepare { spare, bytes, step_bytes } => {
            create_spare(disk, spare, *bytes, *step_bytes, pace)
                .map_err(failed("reserving space in", spare))
        }
        Chore::GiveBack { spare, .. } => remove(spare),
    }
}

impl<D: Disk> Journal<D> {
    /// This snapshot is durable: segments whose entries it covers may go. Older ones than one that
    /// was told before change nothing.
    pub fn snapshot_published(&mut self, snapshot: SnapshotId) {
        self.published = self.published.max(snapshot.last.index);
    }

    /// What is to be done next, if anything is and nothing else is being done. Whoever takes it
    /// brings what [`perform`] returns to [`finish_chore`](Self::finish_chore).
    pub fn take_chore(&mut self) -> Option<Chore> {
        if self.is_poisoned() || self.chore.is_some() {
            return None;
        }
        self.chore = self.retiring().or_else(|| self.returning()).or_else(|| self.preparing());
        self.chore.clone()
    }

    /// The chore that was taken last has been done. After an error the process must end, as after
    /// one of `append_and_sync`.
    pub fn finish_chore(
        &mut self,
        done: Result<Option<Spare<D::File>>, JournalError>,
    ) -> Result<(), JournalError> {
        let chore = self.chore.take().expect("a chore that was done was taken before");
        let spare = done.inspect_err(|_| self.poison())?;
        if let Chore::Retire { segment, .. } = &chore {
            self.forget_segment(*segment);
        }
        let Some(ahead) = &mut self.ahead else { return Ok(()) };
        match (chore, spare) {
            (_, Some(spare)) => ahead.add_ready(spare),
            (Chore::Prepare { bytes, .. }, None) => {
                ahead.budget_bytes = ahead.budget_bytes.saturating_add(bytes);
                ahead.has_failed = true;
            }
            (Chore::GiveBack { bytes, .. }, None) => {
                ahead.budget_bytes = ahead.budget_bytes.saturating_add(bytes);
                ahead.has_failed = false;
            }
            (Chore::Retire { .. }, None) => ahead.has_failed = false,
        }
        Ok(())
    }

    /// Does the next chore at once. Returns whether there was one.
    pub fn do_chore(&mut self) -> Result<bool, JournalError> {
        let Some(chore) = self.take_chore() else { return Ok(false) };
        let done = perform(&self.disk, &chore, &Pace::Full);
        self.finish_chore(done).map(|()| true)
    }

    /// An obsolete segment, the oldest first: each is durably gone before the next one goes, so
    /// what a crash leaves are the newest segments, without gaps.
    fn retiring(&mut self) -> Option<Chore> {
        // Segments of format 2 have no head: those that cannot be read alone go together, the
        // newest of them first. What is left of them is behind a gap and counts for nothing.
        let last = self.older.iter().position(|older| older.followed_by_head)?;
        let is_needed = |older: &OlderSegment| older.highest > self.published;
        if self.older[..=last].iter().any(is_needed) && !removed(Rule::OnlyWhatIsCoveredGoes) {
            return None;
        }
        let OlderSegment { segment, highest, .. } = self.older[last];
        // What was found behind a gap has no entries that are known of, and nobody has read it.
        let is_kept = highest > Index::ZERO && self.is_worth_keeping(segment);
        let spare = if is_kept { self.next_spare_name() } else { None };
        Some(Chore::Retire { segment, spare })
    }

    /// A spare that is one too many now that there is not plenty of room. One stays, in which room
    /// for entries may have been promised, unless what the journal has reserved itself is as large.
    fn returning(&mut self) -> Option<Chore> {
        let is_roomy = self.is_roomy();
        let ahead = self.ahead.as_mut()?;
        let is_only_one = ahead.ready.len() == 1;
        let is_needed = is_only_one && ahead.ready[0].reserved_bytes > ahead.own_spare_bytes();
        if is_roomy || is_needed {
            return None;
        }
        // Only the first has been promised.
        let Spare { name, reserved_bytes, .. } = ahead.ready.pop_back()?;
        Some(Chore::GiveBack { spare: name, bytes: reserved_bytes })
    }

    /// A spare for a journal that is written to and has none of the full size.
    fn preparing(&mut self) -> Option<Chore> {
        let ahead = self.ahead.as_ref()?;
        let (step_bytes, bytes) = (ahead.options.step_bytes, self.options.segment_bytes);
        let is_busy = self.written_bytes >= step_bytes / 2;
        // With the spare there must still be plenty, else it would be given back at once.
        let is_roomy = !ahead.frugal && ahead.budget_bytes >= self.plenty_bytes() + bytes;
        if !is_busy || !is_roomy || !ahead.ready.is_empty() || ahead.has_failed {
            return None;
        }
        let spare = self.next_spare_name()?;
        self.ahead.as_mut()?.budget_bytes -= bytes;
        Some(Chore::Prepare { spare, bytes, step_bytes })
    }

    fn is_worth_keeping(&self, segment: u64) -> bool {
        let Some(ahead) = &self.ahead else { return false };
        let segment_bytes = self.options.segment_bytes;
        let fits = segment_bytes..=2 * segment_bytes.max(ahead.options.ahead_bytes);
        let length = self.disk.length_bytes(&segment_name(segment));
        self.is_roomy()
            && ahead.ready.len() < ahead.options.ready_max
            && length.is_ok_and(|length| fits.contains(&length))
    }

    /// Whether there is so much room that files may be kept to be used again.
    fn is_roomy(&self) -> bool {
        let plenty = self.plenty_bytes();
        self.ahead.as_ref().is_some_and(|ahead| !ahead.frugal && ahead.budget_bytes >= plenty)
    }

    fn plenty_bytes(&self) -> u64 {
        let ahead_bytes = self.ahead.as_ref().map_or(0, |ahead| ahead.options.ahead_bytes);
        self.options.segment_bytes.max(ahead_bytes).saturating_mul(limits::PLENTY_OF_SEGMENTS)
    }

    fn next_spare_name(&mut self) -> Option<String> {
        let ahead = self.ahead.as_mut()?;
        ahead.last_spare += 1;
        Some(spare_name(ahead.last_spare))
    }
}
