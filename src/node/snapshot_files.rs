//! The snapshot files that may still be sent: the newest, and older ones that a follower is in the
//! middle of. An open file stays readable after its name is gone.

use parking_lot::Mutex;

use crate::raft::message::{InstallSnapshot, Message};
use crate::raft::types::{Bytes, SnapshotId};
use crate::storage::disk::RealDisk;
use crate::storage::snapshot::SnapshotFile;

/// Open snapshot files. A leaf lock: held to find one, not while it is read.
#[derive(Debug, Default)]
pub struct SnapshotFiles {
    open: Mutex<Vec<SnapshotFile<RealDisk>>>,
}

impl SnapshotFiles {
    /// One more that may be sent.
    pub fn add(&self, file: SnapshotFile<RealDisk>) {
        self.open.lock().push(file);
    }

    /// Closes all others.
    pub fn keep_only(&self, used: &[SnapshotId]) {
        self.open.lock().retain(|file| used.contains(&file.id()));
    }

    /// An open file.
    pub fn get(&self, id: SnapshotId) -> Option<SnapshotFile<RealDisk>> {
        self.open.lock().iter().find(|file| file.id() == id).cloned()
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
