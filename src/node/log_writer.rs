//! The log writer: everything that has gathered, one write, one sync, with the mutex free
//! meanwhile.
//!
//! That is group commit without a timer: the slower the disk, the larger the batch. While one batch
//! is being synced the next one gathers.

use std::time::{Duration, Instant};

use crate::limits;
use crate::raft::types::SnapshotId;
use crate::server::Server;
use crate::storage::disk::Disk;
use crate::storage::error::JournalError;
use crate::storage::journal::Journal;

use super::doorbell::Bell;
use super::monitor::{Deliver, Monitor, Worker};

/// A sync that takes longer than this is worth a person's attention: every write waits for it,
/// unless a majority of the other disks is faster.
const SLOW_SYNC: Duration = Duration::from_millis(500);

/// The body of the thread `log-writer`. It returns only when a write or sync has failed, which is
/// the end of the process: what the disk holds is not known any more (the kernel may have dropped
/// the pages).
pub fn run<D: Deliver>(
    monitor: &Monitor<D>,
    bell: &Bell,
    journal: &mut Journal<impl Disk>,
    quiet: Duration,
) -> JournalError {
    let mut sealed = false;
    loop {
        let take = |server: &mut Server| server.take_write(limits::WRITE_BYTES_MAX);
        while let Some(write) = monitor.take_or_wait(Worker::LogWriter, take) {
            let since = Instant::now();
            if let Err(error) = journal.append_and_sync(&write) {
                return error;
            }
            warn_if_slow(since.elapsed(), write.entries.len());
            sealed = false;
            let newest = monitor.with(|server| {
                server.persisted(write.ticket);
                server.raft().snapshots().newest()
            });
            if let Err(error) = forget_one(journal, newest) {
                return error;
            }
        }
        // The snapshotter rings when there is a new one.
        let newest = monitor.look(|server| server.raft().snapshots().newest());
        match forget_one(journal, newest) {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => return error,
        }
        // After a sync, the first quiet spell seals the journal: then damage to its last batch can
        // be told from a torn write.
        if sealed {
            bell.wait();
        } else if !bell.wait_at_most(quiet) {
            if let Err(error) = journal.seal() {
                return error;
            }
            sealed = true;
        }
    }
}

/// Removes a segment that the newest snapshot has made superfluous, if there is one: one at a time,
/// as writes wait for it. Returns whether there was.
fn forget_one(journal: &mut Journal<impl Disk>, newest: SnapshotId) -> Result<bool, JournalError> {
    journal.snapshot_published(newest);
    journal.remove_obsolete()
}

fn warn_if_slow(took: Duration, entries: usize) {
    if took > SLOW_SYNC {
        log::warn!(
            "slow disk: a write and its sync took ms={} entries={entries}",
            took.as_millis()
        );
    }
}
