//! The snapshot files that may still be sent: the newest, and older ones that a follower is in the
//! middle of. An open file stays readable after its name is gone.
//!
//! Whoever needs a snapshot that is not there yet, a backup, waits here for news.

use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::raft::message::{InstallSnapshot, Message};
use crate::raft::types::{Bytes, Index, SnapshotId};
use crate::storage::disk::RealDisk;
use crate::storage::snapshot::SnapshotFile;

/// Open snapshot files. A leaf lock: held to find one, not while it is read.
#[derive(Debug, Default)]
pub struct SnapshotFiles {
    open: Mutex<Open>,
    /// Signalled when there is a new one, or none because it could not be written.
    news: Condvar,
}

#[derive(Debug, Default)]
struct Open {
    files: Vec<SnapshotFile<RealDisk>>,
    /// How many were to be written and could not be.
    failures: u64,
}

impl Open {
    fn newest(&self) -> Option<&SnapshotFile<RealDisk>> {
        self.files.iter().max_by_key(|file| file.id().last.index)
    }
}

/// Why there is no snapshot to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSnapshot {
    /// One could not be written.
    Failed,
    /// None came in time.
    TooLate,
}

impl SnapshotFiles {
    /// One more that may be sent.
    pub fn add(&self, file: SnapshotFile<RealDisk>) {
        self.open.lock().files.push(file);
        self.news.notify_all();
    }

    /// One that was to be written could not be.
    pub fn note_failure(&self) {
        self.open.lock().failures += 1;
        self.news.notify_all();
    }

    /// Waits until the newest snapshot is of this index or a later one. `ask` is called whenever it
    /// is not, before the wait: it lets another one be taken, and must not come back here.
    pub fn wait_for(
        &self,
        index: Index,
        until: Instant,
        ask: impl Fn(),
    ) -> Result<SnapshotFile<RealDisk>, NoSnapshot> {
        let failures = self.open.lock().failures;
        loop {
            let mut seen = SnapshotId::NONE;
            if let Some(file) = self.open.lock().newest() {
                seen = file.id();
                if seen.last.index >= index {
                    return Ok(file.clone());
                }
            }
            ask(); // the lock is free: the snapshotter may be quick
            let mut open = self.open.lock();
            while open.newest().map_or(SnapshotId::NONE, SnapshotFile::id) == seen {
                if open.failures > failures {
                    return Err(NoSnapshot::Failed);
                }
                if self.news.wait_until(&mut open, until).timed_out() {
                    return Err(NoSnapshot::TooLate);
                }
            }
        }
    }

    /// Gives all others up. Nobody who does not have them can get at them any more.
    pub fn keep_only(&self, used: &[SnapshotId]) -> Vec<SnapshotFile<RealDisk>> {
        self.open.lock().files.extract_if(.., |file| !used.contains(&file.id())).collect()
    }

    /// An open file.
    pub fn get(&self, id: SnapshotId) -> Option<SnapshotFile<RealDisk>> {
        self.open.lock().files.iter().find(|file| file.id() == id).cloned()
    }

    /// Fills in the parts of snapshots among these messages: the core knows only which they are. A
    /// part that cannot be read is left out; it will be asked for again.
    pub fn fill_in(&self, messages: &mut Vec<Message>) {
        messages.retain_mut(|message| match message {
            Message::InstallSnapshot(part) => self.read(part),
            _ => true,
        });
    }

    fn read(&self, part: &mut InstallSnapshot) -> bool {
        if part.length_bytes == 0 {
            return true;
        }
        let Some(file) = self.get(part.snapshot) else {
            log::error!("snapshot={} is to be sent, and is not open", part.snapshot);
            return false;
        };
        let length = usize::try_from(part.length_bytes).expect("a part fits into a message");
        match file.chunk(part.offset_bytes, length) {
            Ok(bytes) if bytes.len() == length => {
                part.data = Bytes(bytes.into());
                true
            }
            Ok(_) => unreachable!("the core asks for bytes within the file"),
            Err(error) => {
                log::error!("snapshot={} cannot be read: {error}", part.snapshot);
                false
            }
        }
    }
}
