//! How much room there is on the disk, and what follows from it.
//!
//! The log writer asks now and then ([`Keeper::tend`]). What is left is the quota less what the
//! data directory takes, or what the file system has, whichever is less. A part of it is not
//! offered: one more snapshot must fit, as that is how the log is freed; and before the journal may
//! take nothing more, some of what it may take is left to writes that make room. (A little the
//! journal has in any case: when no snapshot fits, deletions make it smaller.) So there are three
//! levels, from what is left:
//!
//! ```text
//!   0        needed for a snapshot      + a reserve                  the limit
//!   |--------- none (*) ----------------|------- low -----|------ ample -------|
//! ```
//!
//! (*) as soon as the journal has used up what it had reserved. The level is looked at again all
//! the time, so service resumes by itself. Long before it is low a snapshot is asked for, if that
//! may free anything; while it would, none that is under way rests.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::gateway::{Level, Space};
use crate::limits;
use crate::server::Server;
use crate::storage::disk::Disk;
use crate::storage::error::JournalError;
use crate::storage::journal::Journal;
use crate::storage::pace::Hurry;
use crate::storage::reserve::{Reservation, Reserved};

use super::monitor::{Deliver, Monitor};

/// How often the disk is looked at while room may become scarce.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How often it is looked at while there is plenty. Only others can use that up so soon, and what
/// the journal has reserved they cannot take.
const LOOK_SELDOM: Duration = Duration::from_secs(1);

/// How soon another piece is reserved when one was, and nothing is written meanwhile.
const STEP_EVERY: Duration = Duration::from_millis(10);

/// There is plenty when so many times that is left what is kept for a snapshot and a reserve.
const PLENTY: u64 = 8;

/// At least so long lies between two snapshots that are taken for want of space.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(1);

/// Deeper directories are not ours.
const DEPTH_MAX: u32 = 3;

/// What is to be kept room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// The next snapshot, at most: the last one and all the log behind it.
    pub snapshot_bytes: u64,
    /// The log behind the last snapshot, which the next one would free.
    pub log_bytes: u64,
    /// Writes that make room.
    pub reserve_bytes: u64,
    /// What the journal is to have reserved in any case: else nothing could be deleted any more,
    /// and nothing would ever make room.
    pub journal_bytes: u64,
    /// What a deletion takes.
    pub deletion_bytes: u64,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How much room there is.
    pub level: Level,
    /// What the journal may still take.
    pub budget_bytes: u64,
    /// A snapshot would help.
    pub snapshot_helps: bool,
    /// It is enough to look again after so many bytes of log,
    pub look_after_bytes: u64,
    /// or so much time.
    pub look_after: Duration,
}

/// Judges what is left. `room_bytes` is what the journal has reserved; `before` is what was said
/// last: a level is left only when there is clearly more.
pub fn judge(left_bytes: u64, needs: Needs, room_bytes: u64, before: Level) -> Verdict {
    let beside_snapshot = left_bytes.saturating_sub(needs.snapshot_bytes);
    let lacking = needs.journal_bytes.saturating_sub(room_bytes);
    let budget_bytes = beside_snapshot.max(lacking.min(left_bytes));
    let slack = if before == Level::Ample { 0 } else { needs.reserve_bytes / 4 };
    let is_low = beside_snapshot < needs.reserve_bytes + slack;
    let level = Level::of(is_low, room_bytes, needs.deletion_bytes);
    let is_near = left_bytes < 2 * (needs.snapshot_bytes + needs.reserve_bytes);
    let frees_much = needs.log_bytes > 0 && needs.log_bytes >= left_bytes / 4;
    let snapshot_helps = needs.log_bytes > 0 && is_low || is_near && frees_much;
    let is_plenty = left_bytes / PLENTY > needs.snapshot_bytes + needs.reserve_bytes;
    let (look_after_bytes, look_after) = match is_plenty {
        true => (left_bytes / (8 * PLENTY), LOOK_SELDOM),
        false => (needs.reserve_bytes / 8, LOOK_EVERY),
    };
    Verdict { level, budget_bytes, snapshot_helps, look_after_bytes, look_after }
}

/// Looks after the space of one data directory.
#[derive(Debug)]
pub struct Keeper {
    data: PathBuf,
    /// 0: what the disk has.
    quota_bytes: u64,
    /// A snapshot under way is to be there soon: it makes room.
    hurry: Hurry,
    reservation: Reservation,
    space: Space,
    /// Everything has been reserved once.
    has_begun: bool,
    /// When the disk was looked at.
    looked_at: Instant,
    /// When it is to be looked at again.
    look_at: Instant,
    /// How much log is to have been written by then.
    look_at_bytes: u64,
    /// Whether there may be more to reserve.
    is_reserving: bool,
    asked_for_snapshot: Option<Instant>,
}

impl Keeper {
    /// For a data directory with this quota (0: none), whose log may have entries of so many bytes.
    /// `hurry` is for the snapshots in it.
    pub fn new(
        data: &Path,
        quota_bytes: u64,
        segment_bytes: u64,
        entry_bytes_max: u64,
        hurry: Hurry,
    ) -> Keeper {
        let reservation = Reservation {
            step_bytes: limits::RESERVED_STEP_BYTES.min(segment_bytes),
            ahead_bytes: entry_bytes_max + 2 * limits::RESERVED_FOR_VOTES_BYTES,
            kept_bytes: limits::RESERVED_FOR_VOTES_BYTES,
            ready_max: limits::READY_SEGMENTS_MAX,
        };
        Keeper {
            data: data.to_path_buf(),
            quota_bytes,
            hurry,
            reservation,
            space: Space::default(),
            has_begun: false,
            looked_at: Instant::now(),
            look_at: Instant::now(),
            look_at_bytes: 0,
            is_reserving: false,
            asked_for_snapshot: None,
        }
    }

    /// Before the first write: reserves all that is to be reserved.
    pub fn begin(
        &mut self,
        monitor: &Monitor<impl Deliver>,
        journal: &mut Journal<impl Disk>,
    ) -> Result<(), JournalError> {
        journal.keep_reserved(self.reservation);
        self.look(monitor, journal)?;
        while journal.reserve(0)? == Reserved::Some {}
        self.has_begun = true;
        let room = journal.room_bytes();
        monitor.with(|server| server.set_room(room));
        Ok(())
    }

    /// Reserves a piece of what is missing and, if it is time, looks at the disk again. To be
    /// called while no write is under way.
    pub fn tend(
        &mut self,
        monitor: &Monitor<impl Deliver>,
        journal: &mut Journal<impl Disk>,
    ) -> Result<(), JournalError> {
        // Much can be written between two looks.
        if self.until_look().is_zero() || journal.written_bytes() >= self.look_at_bytes {
            self.look(monitor, journal)?;
        }
        let (told, wanted) =
            monitor.look(|server| (server.raft().room_bytes(), server.raft().wanted_bytes()));
        let reserved = journal.reserve(wanted)?;
        self.is_reserving = reserved == Reserved::Some;
        if reserved == Reserved::NoSpace {
            // Others have used up what there was, however plenty.
            self.look_at = self.look_at.min(self.looked_at + LOOK_EVERY);
        }
        let room = journal.room_bytes();
        if reserved == Reserved::Some || room != told {
            monitor.with(|server| server.set_room(room));
        }
        Ok(())
    }

    /// In how much time there is something to do again, if nothing is written.
    pub fn patience(&self) -> Duration {
        let step_every = if self.is_reserving { STEP_EVERY } else { Duration::MAX };
        self.until_look().min(step_every)
    }

    fn until_look(&self) -> Duration {
        self.look_at.saturating_duration_since(Instant::now())
    }

    /// Looks at the disk, tells the server and the journal what follows from it, and frees what can
    /// be freed.
    pub fn look(
        &mut self,
        monitor: &Monitor<impl Deliver>,
        journal: &mut Journal<impl Disk>,
    ) -> Result<(), JournalError> {
        self.looked_at = Instant::now();
        self.look_at = self.looked_at + LOOK_EVERY;
        self.look_at_bytes = journal.written_bytes() + self.reservation.step_bytes;
        let (used_bytes, limit_bytes) = match self.measure() {
            Ok(measured) => measured,
            Err(error) => {
                log::warn!("cannot tell how full {} is: {error}", self.data.display());
                return Ok(());
            }
        };
        let left_bytes = limit_bytes.saturating_sub(used_bytes);
        let needs = monitor.look(|server| self.needs(server));
        let room_bytes = if self.has_begun { journal.room_bytes() } else { limits::DELETION_BYTES };
        let verdict = judge(left_bytes, needs, room_bytes, self.space.level);
        self.look_at = self.looked_at + verdict.look_after;
        self.look_at_bytes = journal.written_bytes() + verdict.look_after_bytes;
        let space = Space { level: verdict.level, used_bytes, limit_bytes };
        let is_frugal = space.level < Level::Ample;
        self.hurry.set(verdict.snapshot_helps);
        journal.set_budget(verdict.budget_bytes, is_frugal);
        if space.level != self.space.level {
            self.announce(space);
        }
        if is_frugal && journal.rotate_obsolete()? {
            log::info!("begins a new segment, to free the last one");
        }
        let ask = verdict.snapshot_helps
            && self.asked_for_snapshot.is_none_or(|at| at.elapsed() >= SNAPSHOT_EVERY);
        if ask {
            self.asked_for_snapshot = Some(Instant::now());
        }
        if ask || space.level != self.space.level || is_frugal {
            monitor.with(|server| {
                server.set_space(space);
                if ask {
                    server.request_snapshot();
                }
            });
        }
        self.space = space;
        Ok(())
    }

    fn needs(&self, server: &Server) -> Needs {
        let raft = server.raft();
        let newest = raft.snapshots().newest().last.index.max(raft.log().base().index);
        let log_bytes = raft.log().bytes_between(newest, raft.last_applied().max(newest));
        let Reservation { step_bytes, ahead_bytes, .. } = self.reservation;
        Needs {
            snapshot_bytes: raft.snapshots().newest_bytes() + log_bytes,
            log_bytes,
            reserve_bytes: ahead_bytes + 2 * step_bytes,
            journal_bytes: ahead_bytes,
            deletion_bytes: limits::DELETION_BYTES,
        }
    }

    fn announce(&self, space: Space) {
        let Space { level, used_bytes: used, limit_bytes: limit } = space;
        match level {
            Level::Ample => log::info!("there is room again used={used} limit={limit}"),
            Level::Low => log::error!(
                "disk full used={used} limit={limit}: writes that need room are refused; \
                 deletions and reads go on"
            ),
            Level::None => log::error!(
                "disk full used={used} limit={limit}: nothing is written or acknowledged any more \
                 but terms and votes; reads go on"
            ),
        }
    }

    /// What the data directory takes, and what it may take.
    fn measure(&self) -> io::Result<(u64, u64)> {
        let used = bytes_of(&self.data, DEPTH_MAX)?;
        let system = rustix::fs::statvfs(&self.data)?;
        let has = used.saturating_add(system.f_bavail.saturating_mul(system.f_frsize));
        let limit = if self.quota_bytes == 0 { has } else { self.quota_bytes.min(has) };
        Ok((used, limit))
    }
}

/// The lengths of all files in a directory. Files that vanish meanwhile count for nothing.
fn bytes_of(directory: &Path, depth: u32) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let Ok(entry) = entry else { continue };
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() && depth > 0 {
            bytes += bytes_of(&entry.path(), depth - 1).unwrap_or(0);
        } else if metadata.is_file() {
            bytes += metadata.len();
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::node::monitor::testing::Nobody;
    use crate::raft::types::SnapshotId;
    use crate::storage::journal::Options;
    use crate::storage::memory_disk::MemoryDisk;
    use crate::storage::recovery;

    const SEGMENT_BYTES: u64 = 64 * 1024;

    fn journal() -> Journal<MemoryDisk> {
        let disk = MemoryDisk::new();
        let mut options = Options::new(1, 1);
        options.segment_bytes = SEGMENT_BYTES;
        recovery::create(&disk, options.journal_id).expect("the disk is well");
        recovery::open(disk, options, SnapshotId::NONE).expect("the journal is well").0
    }

    fn keeper(data: &Path) -> Keeper {
        Keeper::new(data, 0, SEGMENT_BYTES, 1 << 20, Hurry::default())
    }

    /// Large entries and small segments: what they need is reserved in many pieces, and they wait.
    #[test]
    fn pieces_are_reserved_one_soon_after_the_other() {
        let data = tempfile::tempdir().expect("there is a place for it");
        let (mut keeper, mut journal) = (keeper(data.path()), journal());
        let monitor = Monitor::of_three(Nobody);
        journal.keep_reserved(keeper.reservation);
        let mut pieces = 0;
        loop {
            keeper.tend(&monitor, &mut journal).expect("the disk is well");
            if keeper.patience() > STEP_EVERY {
                break;
            }
            pieces += 1;
        }
        assert!(pieces > 10, "{pieces}");
        assert!(journal.room_bytes() >= 1 << 20);
    }

    /// Whoever cannot tell how full the disk is says so now and then, and not with each write.
    #[test]
    fn a_look_that_fails_is_not_repeated_at_once() {
        let (mut keeper, mut journal) = (keeper(Path::new("/does/not/exist")), journal());
        let monitor = Monitor::of_three(Nobody);
        keeper.look(&monitor, &mut journal).expect("a look that fails is no end");
        assert!(keeper.patience() > Duration::ZERO);
        assert!(keeper.look_at_bytes > journal.written_bytes());
    }

    /// Others have used up at once what there was: that is not noticed only with the next look.
    #[test]
    fn a_disk_without_space_is_looked_at_soon() {
        let data = tempfile::tempdir().expect("there is a place for it");
        let (mut keeper, mut journal) = (keeper(data.path()), journal());
        let monitor = Monitor::of_three(Nobody);
        keeper.tend(&monitor, &mut journal).expect("the disk is well");
        assert!(keeper.until_look() > LOOK_EVERY, "there is plenty");
        journal.keep_reserved(keeper.reservation);
        journal.set_budget(0, false);
        keeper.tend(&monitor, &mut journal).expect("the disk is well");
        assert!(keeper.until_look() <= LOOK_EVERY);
    }

    const NEEDS: Needs = Needs {
        snapshot_bytes: 100,
        log_bytes: 50,
        reserve_bytes: 40,
        journal_bytes: 10,
        deletion_bytes: 4,
    };

    /// S35: what is left is first given to writes, then to those that make room, and never what a
    /// snapshot needs.
    #[test]
    fn a_snapshot_always_fits() {
        for left in 0..300 {
            let Verdict { level, budget_bytes, .. } = judge(left, NEEDS, 10, Level::Ample);
            assert!(budget_bytes + NEEDS.snapshot_bytes <= left.max(NEEDS.snapshot_bytes));
            let expected = if left < 140 { Level::Low } else { Level::Ample };
            assert_eq!(level, expected, "left {left}");
            // A remainder in which nothing fits is no room either.
            for room in 0..4 {
                let nothing_reserved = judge(left, NEEDS, room, Level::Ample).level;
                assert_eq!(nothing_reserved == Level::None, left < 140, "left {left}");
            }
        }
    }

    /// When not even a snapshot fits, something can still be deleted: so it will fit.
    #[test]
    fn deletions_come_before_the_snapshot() {
        for left in 0..100 {
            assert_eq!(judge(left, NEEDS, 0, Level::None).budget_bytes, left.min(10));
            assert_eq!(judge(left, NEEDS, 10, Level::Low).budget_bytes, 0);
        }
    }

    /// A disk at the edge does not change its mind with every file that comes or goes.
    #[test]
    fn a_level_is_left_only_when_there_is_clearly_more() {
        assert_eq!(judge(140, NEEDS, 10, Level::Low).level, Level::Low);
        assert_eq!(judge(150, NEEDS, 10, Level::Low).level, Level::Ample);
    }

    /// A snapshot is asked for before it is too late, and not when it frees nothing.
    #[test]
    fn a_snapshot_is_asked_for_when_it_frees_something() {
        assert!(judge(139, NEEDS, 10, Level::Ample).snapshot_helps);
        assert!(judge(180, NEEDS, 10, Level::Ample).snapshot_helps);
        assert!(!judge(280, NEEDS, 10, Level::Ample).snapshot_helps);
        let nothing_new = Needs { log_bytes: 0, ..NEEDS };
        assert!(!judge(10, nothing_new, 10, Level::Low).snapshot_helps);
    }
}
