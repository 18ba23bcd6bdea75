//! The log writer: everything that has gathered, one write, one sync, with the mutex free
//! meanwhile.
//!
//! That is group commit without a timer: the slower the disk, the larger the batch. While one batch
//! is being synced the next one gathers.

use std::thread;
use std::time::{Duration, Instant};

use crate::limits;
use crate::raft::durability::Write;
use crate::storage::disk::RealDisk;
use crate::storage::error::JournalError;
use crate::storage::journal::Journal;

use super::caretaker::Caretaker;
use super::doorbell::Bell;
use super::monitor::{Deliver, Monitor};
use super::space::{Keeper, LOOK_EVERY};

/// A sync that takes longer than this is worth a person's attention: every write waits for it,
/// unless a majority of the other disks is faster.
const SLOW_SYNC: Duration = Duration::from_millis(500);

/// The body of the thread `log-writer`. It returns only when a write or sync has failed, which is
/// the end of the process: what the disk holds is not known any more (the kernel may have dropped
/// the pages). A full disk is no failure: writes wait.
pub fn run<D: Deliver>(
    monitor: &Monitor<D>,
    bell: &Bell,
    journal: &mut Journal<RealDisk>,
    caretaker: &Caretaker,
    keeper: &mut Keeper,
    quiet: Duration,
) -> JournalError {
    if let Err(error) = keeper.begin(monitor, journal) {
        return error;
    }
    let mut sealed = false;
    let mut round = || -> Result<(), JournalError> {
        while let Some(write) = monitor.take_write_or_wait(limits::WRITE_BYTES_MAX) {
            append(monitor, journal, caretaker, keeper, &write)?;
            sealed = false;
            let room = journal.room_bytes();
            let newest = monitor.with(|server| {
                server.set_room(room);
                server.persisted(write.ticket);
                server.raft().snapshots().newest()
            });
            journal.snapshot_published(newest);
            caretaker.tend(journal)?;
            keeper.tend(monitor, journal)?;
        }
        // The snapshotter rings when there is a new one, and the caretaker when it is done.
        let newest = monitor.look(|server| server.raft().snapshots().newest());
        journal.snapshot_published(newest);
        caretaker.tend(journal)?;
        keeper.tend(monitor, journal)?;
        // After a sync, the first quiet spell seals the journal: then damage to its last batch can
        // be told from a torn write.
        if sealed {
            bell.wait_at_most(keeper.patience());
        } else if !bell.wait_at_most(quiet) {
            journal.seal()?;
            sealed = true;
        }
        Ok(())
    };
    loop {
        if let Err(error) = round() {
            return error;
        }
    }
}

/// Makes a write durable. The core hands out only what there is room for; but when the last that
/// was kept for terms and votes is used up, even those must wait.
fn append<D: Deliver>(
    monitor: &Monitor<D>,
    journal: &mut Journal<RealDisk>,
    caretaker: &Caretaker,
    keeper: &mut Keeper,
    write: &Write,
) -> Result<(), JournalError> {
    let since = Instant::now();
    let mut waits = false;
    loop {
        match journal.append_and_sync(write) {
            Err(JournalError::NoSpace { bytes }) => {
                if !waits {
                    log::error!("disk full: a write of bytes={bytes} waits");
                }
                waits = true;
                thread::sleep(LOOK_EVERY);
                keeper.look(monitor, journal)?;
                let newest = monitor.look(|server| server.raft().snapshots().newest());
                journal.snapshot_published(newest);
                caretaker.tend(journal)?;
            }
            other => {
                warn_if_slow(since.elapsed(), write.entries.len());
                return other;
            }
        }
    }
}

fn warn_if_slow(took: Duration, entries: usize) {
    if took > SLOW_SYNC {
        log::warn!(
            "slow disk: a write and its sync took ms={} entries={entries}",
            took.as_millis()
        );
    }
}
