//! How a snapshot's file comes to be: under another name, and only what is proven gets the real
//! one.
//!
//! Both ways end in the same steps: sync the file, read all of it back through the code that a
//! start uses, rename it, sync the directory. What is received must also make a state before it is
//! renamed: a start takes the newest file that is whole, and one that is whole and makes no state
//! (a leader whose memory had been damaged wrote it) would keep a server from starting that was
//! well without it. The crash points of that:
//!
//! 1. before the rename is durable: the file has no snapshot's name, and the next start removes it.
//! 2. after: it is whole, because it was synced under its old name.
//!
//! Whatever fails on the way, a full disk above all, removes the file under way and changes nothing
//! else: snapshots are a way to save space, and the server lives on without a new one.

use std::io;
use std::sync::Arc;

use super::format::{self, FRAME_HEAD_BYTES, Header, ITEM_HEAD_BYTES, Kind};
use super::store::SnapshotFile;
use super::{SnapshotError, file_name, io_error};
use crate::lab::{Rule, removed};
use crate::limits::{SNAPSHOT_ITEM_BYTES_MAX, SNAPSHOT_SYNC_BYTES};
use crate::raft::types::SnapshotId;
use crate::storage::disk::{Disk, DiskFile};
use crate::storage::pace::Pace;

/// How the name of a file begins that we write, and of one that we receive.
pub(super) const WRITTEN: &str = "written";
pub(super) const RECEIVED: &str = "received";
pub(super) const KINDS: [&str; 2] = [WRITTEN, RECEIVED];

/// A snapshot that is being written.
#[derive(Debug)]
pub struct Writer<D: Disk> {
    draft: Draft<D>,
    header: Header,
    /// A block is written when it has reached this length, in bytes.
    block_bytes: usize,
    /// The block being filled, with room for what stands before it.
    block: Vec<u8>,
    /// The CRC of the frame before it.
    crc: u32,
    items: u64,
}

impl<D: Disk> Writer<D> {
    pub(super) fn begin(
        mut draft: Draft<D>,
        header: Header,
        block_bytes: usize,
    ) -> Result<Writer<D>, SnapshotError> {
        if let Err(reason) = header.check() {
            panic!("a snapshot that could not be read again must not be written: {reason}");
        }
        let mut frame = format::header_frame(&header);
        let crc = format::finish(0, Kind::Header, &mut frame);
        draft.append(&frame)?;
        let block = vec![0; FRAME_HEAD_BYTES];
        Ok(Writer { draft, header, block_bytes, block, crc, items: 0 })
    }

    /// Adds an item. After an error nothing is left of the snapshot, and the writer is of no use.
    pub fn item(&mut self, item: &[u8]) -> Result<(), SnapshotError> {
        if item.len() > SNAPSHOT_ITEM_BYTES_MAX {
            self.draft.discard();
            return Err(SnapshotError::ItemTooLong(item.len()));
        }
        if self.block.len() + ITEM_HEAD_BYTES + item.len() > FRAME_HEAD_BYTES + self.block_bytes {
            self.write_block()?;
        }
        let length = u32::try_from(item.len()).expect("items are bounded");
        self.block.extend(length.to_le_bytes());
        self.block.extend(item);
        self.items += 1;
        Ok(())
    }

    /// Makes the snapshot durable and gives it its name. When this returns `Ok`, no crash can lose
    /// it, and all of it has been read back.
    pub fn finish(mut self) -> Result<SnapshotFile<D>, SnapshotError> {
        self.write_block()?;
        self.block.extend(self.items.to_le_bytes());
        format::finish(self.crc, Kind::End, &mut self.block);
        self.draft.append(&self.block)?;
        let (file, ()) =
            self.draft.publish(self.header.id, &self.header.cluster_id, nothing_more)?;
        Ok(file)
    }

    /// Gives the snapshot up and removes its file.
    pub fn abandon(mut self) {
        self.draft.discard();
    }

    /// Writes the block that has been filled, if there is anything in it.
    fn write_block(&mut self) -> Result<(), SnapshotError> {
        if self.block.len() > FRAME_HEAD_BYTES {
            self.crc = format::finish(self.crc, Kind::Block, &mut self.block);
            self.draft.append(&self.block)?;
            self.block.truncate(FRAME_HEAD_BYTES);
        }
        Ok(())
    }
}

/// A snapshot that comes from a leader, byte by byte as it stands in the leader's file.
#[derive(Debug)]
pub struct Receiver<D: Disk> {
    draft: Draft<D>,
    id: SnapshotId,
    cluster_id: String,
    total_bytes: u64,
}

impl<D: Disk> Receiver<D> {
    pub(super) fn new(
        draft: Draft<D>,
        id: SnapshotId,
        cluster_id: String,
        total_bytes: u64,
    ) -> Receiver<D> {
        Receiver { draft, id, cluster_id, total_bytes }
    }

    /// Which snapshot it will be.
    pub fn id(&self) -> SnapshotId {
        self.id
    }

    /// How many bytes are there: the offset of the next ones.
    pub fn stored_bytes(&self) -> u64 {
        self.draft.length_bytes
    }

    /// Stores the next bytes. Others are refused with `Misplaced`, and nothing is lost; after any
    /// other error nothing is left of the snapshot, and the receiver is of no use.
    pub fn store(&mut self, offset_bytes: u64, bytes: &[u8]) -> Result<(), SnapshotError> {
        let (stored_bytes, total_bytes) = (self.draft.length_bytes, self.total_bytes);
        let left = total_bytes.saturating_sub(stored_bytes);
        if offset_bytes != stored_bytes || bytes.len() as u64 > left {
            let length_bytes = bytes.len();
            return Err(SnapshotError::Misplaced {
                offset_bytes,
                length_bytes,
                stored_bytes,
                total_bytes,
            });
        }
        self.draft.append(bytes)
    }

    /// Verifies what has been received, makes it durable and gives it its name. When this returns
    /// `Ok`, no crash can lose it. Bytes that are still missing are found as damage.
    pub fn finish(self) -> Result<SnapshotFile<D>, SnapshotError> {
        let (file, ()) = self.finish_if(nothing_more)?;
        Ok(file)
    }

    /// As `finish`, but only if `build` can make something of it, which is returned as well.
    pub fn finish_if<T, E: From<SnapshotError>>(
        self,
        build: impl FnOnce(&SnapshotFile<D>) -> Result<T, E>,
    ) -> Result<(SnapshotFile<D>, T), E> {
        self.draft.publish(self.id, &self.cluster_id, build)
    }

    /// Gives the snapshot up and removes its file.
    pub fn abandon(mut self) {
        self.draft.discard();
    }
}

/// The bytes are all there is to be looked at.
fn nothing_more<D: Disk>(_file: &SnapshotFile<D>) -> Result<(), SnapshotError> {
    Ok(())
}

/// A file that does not have its name yet.
#[derive(Debug)]
pub(super) struct Draft<D: Disk> {
    disk: Arc<D>,
    name: String,
    file: D::File,
    length_bytes: u64,
    /// Of these, how many have not been synced.
    unsynced_bytes: u64,
    pace: Pace,
    /// It was removed after an error.
    discarded: bool,
}

impl<D: Disk> Draft<D> {
    /// Creates a file of this kind in place of all others of its kind.
    pub(super) fn create(
        disk: &Arc<D>,
        kind: &str,
        serial: u64,
        pace: Pace,
    ) -> Result<Draft<D>, SnapshotError> {
        let listed = disk.list().map_err(io_error(&**disk, "listing", ""))?;
        for leftover in listed.iter().filter(|name| self::serial(name, kind).is_some()) {
            disk.remove(leftover).map_err(io_error(&**disk, "removing", leftover))?;
        }
        let name = format!("{kind}-{serial}.new");
        let file = disk.create(&name).map_err(io_error(&**disk, "creating", &name))?;
        let disk = disk.clone();
        Ok(Draft { disk, name, file, length_bytes: 0, unsynced_bytes: 0, pace, discarded: false })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.check_alive()?;
        let written = self.file.write_at(self.length_bytes, bytes);
        self.or_discard("writing", written)?;
        self.length_bytes += bytes.len() as u64;
        self.unsynced_bytes += bytes.len() as u64;
        // One sync of it all at the end would keep the journal's syncs waiting for seconds.
        if self.unsynced_bytes >= SNAPSHOT_SYNC_BYTES {
            let synced = self.pace.work(|| self.file.sync());
            self.or_discard("syncing", synced)?;
            self.unsynced_bytes = 0;
        }
        Ok(())
    }

    fn publish<T, E: From<SnapshotError>>(
        mut self,
        id: SnapshotId,
        cluster_id: &str,
        build: impl FnOnce(&SnapshotFile<D>) -> Result<T, E>,
    ) -> Result<(SnapshotFile<D>, T), E> {
        self.check_alive()?;
        let published = self.prove(id, cluster_id).map_err(E::from).and_then(|file| {
            let built = build(&file)?;
            Ok((self.rename(file, cluster_id)?, built))
        });
        if published.is_err() {
            self.discard();
        }
        published
    }

    /// Makes the file durable and reads it back.
    fn prove(
        &mut self,
        id: SnapshotId,
        cluster_id: &str,
    ) -> Result<SnapshotFile<D>, SnapshotError> {
        let disk = &*self.disk;
        if !removed(Rule::SnapshotIsWholeWhenNamed) {
            self.file.sync().map_err(io_error(disk, "syncing", &self.name))?;
        }
        let file = SnapshotFile::verified(disk, &self.name, id.last, cluster_id)?;
        if file.id() != id {
            return Err(SnapshotError::Damaged {
                file: disk.path(&self.name),
                offset_bytes: 0,
                reason: "it is not the snapshot that was announced",
            });
        }
        Ok(file)
    }

    /// Gives the file that was proven its name.
    fn rename(
        &mut self,
        file: SnapshotFile<D>,
        cluster_id: &str,
    ) -> Result<SnapshotFile<D>, SnapshotError> {
        let (disk, last) = (self.disk.clone(), file.id().last);
        let name = file_name(last);
        // A snapshot that is there, and well, may be all that is left of the log: it stays.
        let listed = disk.list().map_err(io_error(&*disk, "listing", ""))?;
        if listed.contains(&name)
            && let Ok(there) = SnapshotFile::verified(&*disk, &name, last, cluster_id)
        {
            if there.header() != file.header() {
                return Err(SnapshotError::Differs { file: disk.path(&name) });
            }
            self.discard();
            return Ok(there);
        }
        disk.rename(&self.name, &name).map_err(io_error(&*disk, "renaming", &self.name))?;
        if !removed(Rule::SnapshotHasItsName)
            && let Err(source) = disk.sync_directory()
        {
            // The next start must not find what may yet be lost, and remove the log behind it.
            let _ = disk.remove(&name);
            return Err(io_error(&*disk, "syncing the directory of", &name)(source));
        }
        Ok(file.renamed(disk.path(&name)))
    }

    fn check_alive(&self) -> Result<(), SnapshotError> {
        if !self.discarded {
            return Ok(());
        }
        let over = io::Error::other("it was given up after an error");
        Err(io_error(&*self.disk, "writing", &self.name)(over))
    }

    fn or_discard(
        &mut self,
        doing: &'static str,
        result: io::Result<()>,
    ) -> Result<(), SnapshotError> {
        result.map_err(|source| {
            self.discard();
            io_error(&*self.disk, doing, &self.name)(source)
        })
    }

    /// Removes the file, to have its space back. If that fails too, the next one of its kind does
    /// it, or the next start.
    fn discard(&mut self) {
        if !self.discarded {
            self.discarded = true;
            let _ = self.disk.remove(&self.name);
        }
    }
}

/// The number in the name of a file of this kind.
pub(super) fn serial(name: &str, kind: &str) -> Option<u64> {
    name.strip_prefix(kind)?.strip_prefix('-')?.strip_suffix(".new")?.parse().ok()
}
