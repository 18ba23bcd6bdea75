//! BACKUP: a snapshot's file for whoever keeps it elsewhere, byte for byte.
//!
//! A backup is to hold every write that was acknowledged before it began. So it begins with a
//! linearizable LASTINDEX, whose answer is at or behind all of them, and with BACKUP BEGIN of that
//! index, which waits until a snapshot has come as far. It is the client's own thread that waits;
//! nobody else is held up.
//!
//! The snapshot then stays at hand for the connection. Newer ones may replace it meanwhile, and its
//! name may be gone: an open file stays readable. So that a forgotten connection cannot fill the
//! disk with files that have no names, only a few backups are open at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::gateway::ClientId;
use crate::limits::{BACKUP_WAIT_MS_MAX, BACKUPS_MAX};
use crate::protocol::Reply;
use crate::raft::types::Index;
use crate::storage::disk::RealDisk;
use crate::storage::snapshot::SnapshotFile;

use super::monitor::{Deliver, Monitor};
use super::snapshot_files::{NoSnapshot, SnapshotFiles};

/// The backups that are being read.
pub struct Backups<D: Deliver> {
    /// The server.
    monitor: Arc<Monitor<D>>,
    /// Where its snapshots are.
    files: Arc<SnapshotFiles>,
    /// Who reads, or waits for something to read. A leaf lock: held to look something up.
    open: Mutex<BTreeMap<ClientId, Option<SnapshotFile<RealDisk>>>>,
}

impl<D: Deliver> Backups<D> {
    /// None yet.
    pub fn new(monitor: Arc<Monitor<D>>, files: Arc<SnapshotFiles>) -> Backups<D> {
        Backups { monitor, files, open: Mutex::default() }
    }

    /// BACKUP BEGIN: waits for a snapshot of this index or a later one. Answers its index, term and
    /// length in bytes.
    pub fn begin(&self, client: ClientId, index: u64) -> Reply {
        {
            let mut open = self.open.lock();
            if open.len() >= BACKUPS_MAX && !open.contains_key(&client) {
                return Reply::try_again("backups being read from this server", BACKUPS_MAX);
            }
            open.insert(client, None);
        }
        let until = Instant::now() + Duration::from_millis(BACKUP_WAIT_MS_MAX);
        let ask = || self.monitor.with(|server| server.request_snapshot());
        match self.files.wait_for(Index(index), until, ask) {
            Ok(file) => {
                let last = file.id().last;
                let numbers = [last.index.0, last.term.0, file.length_bytes()];
                self.open.lock().insert(client, Some(file));
                let integer = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
                Reply::List(numbers.into_iter().map(integer).map(Reply::Integer).collect())
            }
            Err(reason) => {
                self.end(client);
                Reply::busy(match reason {
                    NoSnapshot::Failed => {
                        "this server could not write a snapshot; its log says why"
                    }
                    NoSnapshot::TooLate => {
                        "no snapshot of this index came in time; begin again, or ask another server"
                    }
                })
            }
        }
    }

    /// BACKUP READ: bytes of the snapshot at hand; none behind its end.
    pub fn read(&self, client: ClientId, index: u64, offset_bytes: u64, count: usize) -> Reply {
        let file = self.open.lock().get(&client).cloned().flatten();
        let Some(file) = file.filter(|file| file.id().last.index == Index(index)) else {
            return Reply::err(format!(
                "BACKUP READ: no BACKUP BEGIN of this connection gave {index}"
            ));
        };
        match file.chunk(offset_bytes, count) {
            Ok(bytes) => Reply::Value(bytes.into()),
            Err(error) => {
                log::error!("a backup of snapshot={} cannot be read: {error}", file.id());
                Reply::err(format!("BACKUP READ: the snapshot cannot be read: {error}"))
            }
        }
    }

    /// The connection needs its snapshot no more.
    pub fn end(&self, client: ClientId) {
        self.open.lock().remove(&client);
    }
}
