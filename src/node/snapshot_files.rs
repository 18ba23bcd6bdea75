//! The snapshot files that may still be sent: the newest, and older ones that a follower is in the
//! middle of. An open file stays readable after its name is gone.
//!
//! Whoever needs a snapshot that is not there yet, a backup, waits here for news.

use std::collections::BTreeSet;
use std::mem;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::raft::message::{InstallSnapshot, Message};
use crate::raft::types::{Bytes, EntryId, Index, SnapshotId};
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

    /// Gives all others up: nobody who does not have them can get at them any more. Returns the
    /// last entries of those that are read all the same, for a follower or by a backup that has
    /// opened one: such a file must stay whole.
    pub fn keep_only(&self, used: &[SnapshotId]) -> BTreeSet<EntryId> {
        let mut open = self.open.lock();
        let (kept, given_up) = mem::take(&mut open.files)
            .into_iter()
            .partition::<Vec<_>, _>(|file| used.contains(&file.id()));
        open.files = kept;
        // Under the lock: a clone that exists was made before, and no more can be made.
        let held = given_up.iter().filter(|file| file.is_shared());
        held.chain(&open.files).map(|file| file.id().last).collect()
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

#[cfg(test)]
mod tests {
    use crate::raft::types::{ServerId, Term};
    use crate::storage::snapshot::{Header, Options, Snapshots, Writer};

    use super::*;

    /// A file that a backup has opened, or that is sent to a follower, counts as read though newer
    /// ones replace it, and one that only we have open does not.
    #[test]
    fn what_is_given_up_and_held_elsewhere_is_still_read() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let disk = RealDisk::open(directory.path()).expect("it exists");
        let options = Options::new("c".to_owned());
        let (snapshots, _) = Snapshots::open(disk, options).expect("it is empty");
        let files = SnapshotFiles::default();
        let id =
            |index| SnapshotId { last: EntryId::new(Term(1), Index(index)), ..SnapshotId::NONE };
        let ids @ [held, sent, _unread, newest] = [1, 2, 3, 4].map(id);
        for id in ids {
            let (cluster_id, membership) = ("c".to_owned(), vec![ServerId(1)]);
            let header = Header { cluster_id, membership, id, state_hash: 0, keys: 0 };
            let written = snapshots.begin(header).and_then(Writer::finish);
            files.add(written.expect("the disk is well"));
        }
        let backup = files.get(held).expect("it is open");

        let read = files.keep_only(&[sent, newest]);
        assert_eq!(read, BTreeSet::from([held.last, sent.last, newest.last]));
        let open = ids.map(|id| files.get(id).is_some());
        assert_eq!(open, [false, true, false, true]);
        assert!(backup.chunk(0, 1).is_ok());
    }
}
