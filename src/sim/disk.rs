//! A server's disk: the real journal over a simulated directory, what it holds for certain, and
//! what a crash leaves.

use super::checks::{Checked, ensure};
use super::files::{Directory, OpenFile};
use super::misfortunes::CLUSTER;
use super::plan::DiskHabits;
use super::queue::Micros;
use super::random::Random;
use super::snapshots::Snapshotter;
use crate::kv::StateMachine;
use crate::raft::Recovered;
use crate::raft::durability::Write;
use crate::raft::types::{Entry, EntryId, HardState, Index, SnapshotId};
use crate::state_file;
use crate::storage::chores::{self, Chore};
use crate::storage::error::JournalError;
use crate::storage::journal::{self, Journal};
use crate::storage::pace::Pace;
use crate::storage::record;
use crate::storage::recovery;
use crate::storage::reserve::{Reservation, Reserved, Spare};
use crate::storage::snapshot::{self, SnapshotFile, Snapshots};

/// What a disk holds for certain: what a server that crashed now would find at least.
///
/// It is kept beside the journal and from the writes alone, so that recovery has something to be
/// compared with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Term and vote.
    pub hard_state: HardState,
    /// The last entry of its newest snapshot.
    base: EntryId,
    /// The ids of the entries behind it. Their contents are the log's concern.
    entries: Vec<EntryId>,
}

impl Image {
    /// What the disk holds after this write.
    pub fn apply(&mut self, write: &Write) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(base) = write.base {
            assert!(base.last.index <= self.base.index, "a log begins behind a snapshot on disk");
            self.entries.clear();
        }
        for entry in write.entries.iter().filter(|entry| entry.id.index > self.base.index) {
            self.entries.truncate(self.offset(entry.id.index));
            self.entries.push(entry.id);
        }
    }

    /// What the disk holds when a snapshot that ends with this entry is on it: the log that agrees
    /// with it, behind it.
    pub fn publish(&mut self, last: EntryId) {
        if last.index <= self.base.index {
            return;
        }
        let agrees = self.entries.get(self.offset(last.index)) == Some(&last);
        let covered = self.offset(last.index) + 1;
        self.entries.drain(..if agrees { covered } else { self.entries.len() });
        self.base = last;
    }

    /// What recovery found.
    pub fn of(recovered: &Recovered) -> Image {
        let entries = recovered.entries.iter().map(|entry| entry.id).collect();
        Image { hard_state: recovered.hard_state, base: recovered.snapshot.last, entries }
    }

    /// Whether this entry is on the disk. A snapshot holds what is committed, and nothing else is
    /// asked about so far back.
    pub fn holds(&self, id: EntryId) -> bool {
        if id.index <= self.base.index {
            return id.index < self.base.index || id == self.base;
        }
        self.entries.get(self.offset(id.index)) == Some(&id)
    }

    /// Where the log on the disk ends.
    pub fn last(&self) -> EntryId {
        self.entries.last().copied().unwrap_or(self.base)
    }

    fn offset(&self, index: Index) -> usize {
        let offset = index.0 - self.base.index.0 - 1;
        usize::try_from(offset).expect("a log in memory is shorter than the address space")
    }
}

/// How often a start is preceded by an audit, in ten-thousandths.
const AUDITS: u32 = 3_000;

/// How often a chore comes further between two writes, in ten-thousandths.
const CHORES_GO_ON: u32 = 6_000;

/// How far a chore is.
#[derive(Debug)]
enum Stage {
    /// The journal has given it out.
    Taken(Chore),
    /// It has been done, or failed, and the journal does not know it.
    Done(Result<Option<Spare<OpenFile>>, JournalError>),
}

/// All that a journal says, and in how many batches.
fn read(directory: &Directory, journal_id: u64) -> Result<(record::Image, u64), JournalError> {
    let mut image = record::Image::default();
    let mut take = |found: &recovery::Found| recovery::apply(directory, &mut image, found);
    let walked = recovery::walk(directory, journal_id, &mut take)?;
    Ok((image, walked.report.batches))
}

/// One server's disk. It outlives the server's crashes.
#[derive(Debug)]
pub struct Disk {
    random: Random,
    directory: Directory,
    /// The directory of the snapshots.
    snapshots: Directory,
    journal: Option<Journal<Directory>>,
    chore: Option<Stage>,
    segment_bytes: u64,
    reservation: Option<Reservation>,
    image: Image,
    /// Given to the journal's thread and not synced.
    pending: Option<Write>,
    incarnation: u64,
    /// How many times slower than usual it is.
    pub slower: u64,
    /// It does nothing until this time.
    pub hangs_until: Micros,
    /// When the write that was begun last is synced.
    pub busy_until: Micros,
    /// The next write or sync fails.
    pub fails_next: bool,
    /// A quiet tick has passed since the last write: the journal has had its chance to seal.
    quiet: bool,
    /// Dice of their own: an audit changes nothing.
    rot: Random,
    /// Dice of their own: when a chore comes further.
    chores: Random,
}

/// What a start finds.
#[derive(Debug)]
pub struct Start {
    /// For the core.
    pub recovered: Recovered,
    /// Which of the server's lives this is.
    pub incarnation: u64,
    /// The state at the newest snapshot.
    pub state: StateMachine,
    /// Who writes the next ones.
    pub snapshotter: Snapshotter,
}

/// What became of a write.
#[derive(Debug)]
pub enum Outcome {
    /// It is on the disk.
    Synced(Write),
    /// There was no room for it. It is tried again.
    NoSpace,
    /// It failed, and nobody knows how much of it is on the disk.
    Failed(JournalError),
}

/// How a server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The process is killed; the operating system lives on, with all that was written.
    Killed,
    /// Power fails: what was not synced may be lost.
    PowerLost,
}

impl Disk {
    /// An empty disk with a new journal.
    pub fn new(seed: u64, place: u64, habits: &DiskHabits) -> Disk {
        let directory = Directory::default();
        recovery::create(&directory, place + 1).expect("an empty disk that works takes a journal");
        Disk {
            random: Random::part(seed, 100 + place),
            directory,
            snapshots: Directory::default(),
            journal: None,
            chore: None,
            segment_bytes: habits.segment_bytes,
            reservation: habits.reservation,
            image: Image::default(),
            pending: None,
            incarnation: 0,
            slower: 1,
            hangs_until: 0,
            busy_until: 0,
            fails_next: false,
            quiet: true,
            rot: Random::part(seed, 200 + place),
            chores: Random::part(seed, 300 + place),
        }
    }

    /// What is synced.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Whether a write is not synced yet.
    pub fn is_busy(&self) -> bool {
        self.pending.is_some()
    }

    /// Begins a write. Returns when it is synced.
    pub fn begin(&mut self, now: Micros, habits: &DiskHabits, write: Write) -> Micros {
        assert!(self.pending.is_none(), "one write at a time");
        self.pending = Some(write);
        self.quiet = false;
        let takes = self.random.between(habits.sync_min, habits.sync_max) * self.slower;
        self.busy_until = now.max(self.hangs_until) + takes;
        self.busy_until
    }

    /// The write is synced, or not.
    pub fn finish(&mut self) -> Outcome {
        let write = self.pending.take().expect("a write was begun");
        if std::mem::take(&mut self.fails_next) {
            self.directory.fail_once_after(self.random.below(3));
        }
        let journal = self.journal.as_mut().expect("a server that writes has a journal");
        match journal.append_and_sync(&write) {
            Ok(()) => {}
            Err(JournalError::NoSpace { .. }) => {
                self.pending = Some(write);
                return match self.tend_files() {
                    Ok(()) => Outcome::NoSpace,
                    Err(error) => Outcome::Failed(error),
                };
            }
            Err(error) => {
                // The disk may work again by now. The journal must not: it would write behind a
                // hole.
                let again = journal.append_and_sync(&write).is_ok();
                assert!(!again, "a journal that has failed once must never succeed again");
                return Outcome::Failed(error);
            }
        }
        self.image.apply(&write);
        // A disk that fails at a chore ends the server like any other failure.
        match self.tend_files() {
            Ok(()) => Outcome::Synced(write),
            Err(error) => Outcome::Failed(error),
        }
    }

    /// Reserves a piece of what is missing, as the log writer does between two writes. Returns how
    /// much room there is.
    pub fn tend(&mut self, wanted_bytes: u64) -> Result<u64, JournalError> {
        let full = self.is_full();
        let Some(journal) = &mut self.journal else { return Ok(0) };
        if self.pending.is_none() {
            journal.set_budget(u64::MAX, full);
            journal.reserve(wanted_bytes)?;
            if full {
                journal.rotate_obsolete()?;
            }
        }
        Ok(journal.room_bytes())
    }

    /// How much room there is for entries.
    pub fn room_bytes(&self) -> u64 {
        self.journal.as_ref().map_or(0, Journal::room_bytes)
    }

    /// The entries of the write that is under way.
    pub fn pending_entries(&self) -> &[Entry] {
        self.pending.as_ref().map_or(&[], |write| &write.entries)
    }

    /// Whether a full disk is no end here.
    pub fn reserves(&self) -> bool {
        self.reservation.is_some()
    }

    /// A snapshot that ends with this entry is on the disk.
    pub fn published(&mut self, snapshot: SnapshotId) {
        self.image.publish(snapshot.last);
        if let Some(journal) = &mut self.journal {
            journal.snapshot_published(snapshot);
        }
    }

    /// What is done beside the writing: chores are taken, done and told of, each in its time.
    fn tend_files(&mut self) -> Result<(), JournalError> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        if !self.chores.chance(CHORES_GO_ON) {
            return Ok(());
        }
        self.chore = match self.chore.take() {
            None => journal.take_chore().map(Stage::Taken),
            Some(Stage::Taken(chore)) => {
                Some(Stage::Done(chores::perform(&self.directory, &chore, &Pace::Full)))
            }
            Some(Stage::Done(done)) => {
                journal.finish_chore(done)?;
                journal.take_chore().map(Stage::Taken)
            }
        };
        Ok(())
    }

    /// The server is gone, perhaps in the middle of a write.
    pub fn crash(&mut self, ending: Ending, end_snapshotter: impl FnOnce()) {
        self.snapshots.fail_after(self.random.below(12));
        end_snapshotter();
        if let Some(Stage::Taken(chore)) = self.chore.take() {
            self.directory.fail_after(self.chores.below(4));
            let _ = chores::perform(&self.directory, &chore, &Pace::Full);
        }
        if let (Some(write), Some(journal)) = (self.pending.take(), self.journal.as_mut()) {
            self.directory.fail_after(self.random.below(5));
            if journal.append_and_sync(&write).is_ok() {
                self.image.apply(&write); // synced, but the server did not live to see it
            }
        }
        self.journal = None;
        match ending {
            Ending::Killed => {
                self.directory.kill();
                self.snapshots.kill();
            }
            Ending::PowerLost => {
                self.directory.lose_power(&mut self.random);
                self.snapshots.lose_power(&mut self.random);
            }
        }
    }

    /// Leaves no room for another byte, or makes room again.
    pub fn fill(&mut self, full: bool) {
        self.directory.fill(full);
        self.snapshots.fill(full);
    }

    /// Whether there is no room.
    pub fn is_full(&self) -> bool {
        self.directory.is_full()
    }

    /// Seals the journal, as the log writer does on a quiet tick. `false`: the disk failed.
    pub fn seal(&mut self) -> bool {
        match &mut self.journal {
            Some(journal) if self.pending.is_none() => match journal.seal() {
                Ok(_) => {
                    self.quiet = !journal.needs_seal();
                    self.tend_files().is_ok()
                }
                Err(_) => false,
            },
            _ => true,
        }
    }

    /// Tries what a start would say if a bit of the disk had rotted: on a copy, now and then. It
    /// may refuse, or miss nothing. Only in the moment before a seal may it take the last batch for
    /// torn.
    pub fn audit(&mut self, journal_id: u64) -> Checked {
        if !self.rot.chance(AUDITS) {
            return Ok(());
        }
        let copy = self.directory.copy();
        let Ok((well, batches)) = read(&copy, journal_id) else { return Ok(()) };
        copy.rot(&mut self.rot);
        let Ok((rotten, found)) = read(&copy, journal_id) else { return Ok(()) };
        let one_is_lost = !self.quiet && found + 1 == batches;
        ensure(rotten == well || one_is_lost, "Rot is no tear", || {
            format!("a flipped bit makes a start forget {} of {batches} batches", batches - found)
        })
    }

    /// A server starts: what it finds, and which of its lives this is.
    pub fn recover(&mut self, journal_id: u64) -> Result<Start, String> {
        // Power may fail in the middle of recovery, too, several times.
        while self.random.chance(1_000) {
            self.directory.fail_after(self.random.below(8));
            self.snapshots.fail_after(self.random.below(8));
            if let Ok((_, newest)) = self.open_snapshots() {
                let _ = self.open(journal_id, id_of(newest.as_ref()));
            }
            self.directory.lose_power(&mut self.random);
            self.snapshots.lose_power(&mut self.random);
        }
        let (snapshots, newest) = self.open_snapshots()?;
        let state = match &newest {
            Some(file) => state_file::load(file).map_err(|error| error.to_string())?,
            None => StateMachine::default(),
        };
        let (journal, found) = self.open(journal_id, id_of(newest.as_ref()))?;
        self.journal = Some(journal);
        self.quiet = true; // a start ends in a seal
        if found.incarnation <= self.incarnation {
            return Err(format!(
                "life {} comes after life {}",
                found.incarnation, self.incarnation
            ));
        }
        self.incarnation = found.incarnation;
        let recovered = Recovered {
            hard_state: found.hard_state,
            snapshot: found.snapshot,
            snapshot_bytes: newest.as_ref().map_or(0, SnapshotFile::length_bytes),
            entries: found.entries,
        };
        let snapshotter = Snapshotter::new(snapshots, newest);
        Ok(Start { recovered, incarnation: found.incarnation, state, snapshotter })
    }

    fn open_snapshots(
        &self,
    ) -> Result<(Snapshots<Directory>, Option<SnapshotFile<Directory>>), String> {
        let options =
            snapshot::Options { block_bytes: 100, ..snapshot::Options::new(CLUSTER.to_owned()) };
        let opened = Snapshots::open(self.snapshots.clone(), options);
        let (snapshots, found) = opened.map_err(|error| error.to_string())?;
        match found.damaged.first() {
            // Nothing rots here: what has a snapshot's name was whole.
            Some(error) => Err(error.to_string()),
            None => Ok((snapshots, found.newest)),
        }
    }

    /// What was found is durable from now on.
    pub fn found(&mut self, recovered: &Recovered) {
        self.image = Image::of(recovered);
    }

    fn open(
        &mut self,
        journal_id: u64,
        snapshot: SnapshotId,
    ) -> Result<(Journal<Directory>, recovery::Recovered), String> {
        let run_id = self.random.bits();
        let options = journal::Options { journal_id, run_id, segment_bytes: self.segment_bytes };
        let opened = recovery::open(self.directory.clone(), options, snapshot);
        let (mut journal, found) = opened.map_err(|error| error.to_string())?;
        if let Some(reservation) = self.reservation {
            journal.keep_reserved(reservation);
            let mut reserve = || journal.reserve(0).map_err(|error| error.to_string());
            while reserve()? == Reserved::Some {}
        }
        Ok((journal, found))
    }
}

fn id_of(newest: Option<&SnapshotFile<Directory>>) -> SnapshotId {
    newest.map_or(SnapshotId::NONE, SnapshotFile::id)
}
