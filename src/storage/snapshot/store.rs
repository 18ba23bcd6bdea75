//! The directory `snapshots/`: which of its files counts, and which may go.
//!
//! A start takes the newest snapshot that *proves* readable: all of it is read and checked. One
//! that does not is left alone, for people, and the one before it is taken. Whether that will do,
//! the journal says: it knows where its own entries begin.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::draft::{Draft, RECEIVED, Receiver, WRITTEN, Writer};
use super::format::Header;
use super::reader::{Reader, Summary};
use super::{SnapshotError, entry_of_name, file_name, io_error, is_draft};
use crate::limits::SNAPSHOT_BLOCK_BYTES;
use crate::raft::types::{EntryId, SnapshotId};
use crate::storage::disk::{Disk, DiskReader};
use crate::storage::pace::Pace;

/// What is to be known to open the directory.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cluster's unique id. Snapshots of another cluster are refused.
    pub cluster_id: String,
    /// Items are gathered into blocks of about this length, in bytes.
    pub block_bytes: usize,
    /// At which pace snapshots are written and removed. They are received at full pace: the server
    /// that receives one is of no use to anybody before it has it.
    pub pace: Pace,
}

impl Options {
    /// Options with blocks of the usual size, and at full pace.
    pub fn new(cluster_id: String) -> Options {
        Options { cluster_id, block_bytes: SNAPSHOT_BLOCK_BYTES, pace: Pace::Full }
    }
}

/// The directory, open.
#[derive(Debug)]
pub struct Snapshots<D: Disk> {
    disk: Arc<D>,
    options: Options,
    /// Numbers the files under way.
    drafts: AtomicU64,
}

/// What a start found.
#[derive(Debug)]
pub struct Found<D: Disk> {
    /// The newest snapshot that is whole and well.
    pub newest: Option<SnapshotFile<D>>,
    /// Why each one that is newer is not.
    pub damaged: Vec<SnapshotError>,
    /// Files in the directory that are not ours. They are left alone.
    pub unrecognised: Vec<String>,
}

impl<D: Disk> Found<D> {
    /// What the newest one stands for; `NONE` if there is none.
    pub fn id(&self) -> SnapshotId {
        self.newest.as_ref().map_or(SnapshotId::NONE, SnapshotFile::id)
    }
}

impl<D: Disk> Snapshots<D> {
    /// Opens the directory at a start. What it finds is durable on return; what was under way when
    /// the server ended is removed.
    pub fn open(disk: D, options: Options) -> Result<(Snapshots<D>, Found<D>), SnapshotError> {
        let listed = disk.list().map_err(io_error(&disk, "listing", ""))?;
        for leftover in listed.iter().filter(|name| is_draft(name)) {
            disk.remove(leftover).map_err(io_error(&disk, "removing", leftover))?;
        }
        // After a kill the directory may show a name that no sync has covered yet.
        disk.sync_directory().map_err(io_error(&disk, "syncing the directory of", ""))?;
        let found = look(&disk, &options.cluster_id)?;
        Ok((Snapshots { disk: Arc::new(disk), options, drafts: AtomicU64::new(1) }, found))
    }

    /// Begins to write a snapshot, and drops one whose writing was not finished.
    pub fn begin(&self, header: Header) -> Result<Writer<D>, SnapshotError> {
        assert_eq!(header.cluster_id, self.options.cluster_id, "it is a snapshot of our cluster");
        let draft = Draft::create(&self.disk, WRITTEN, self.serial(), self.options.pace.clone())?;
        Writer::begin(draft, header, self.options.block_bytes)
    }

    /// Begins to receive a snapshot of so many bytes, and drops one that was half received.
    pub fn receive(&self, id: SnapshotId, total_bytes: u64) -> Result<Receiver<D>, SnapshotError> {
        let draft = Draft::create(&self.disk, RECEIVED, self.serial(), Pace::Full)?;
        Ok(Receiver::new(draft, id, self.options.cluster_id.clone(), total_bytes))
    }

    /// Opens a snapshot and reads it in order. What the reader gives is checked; what it has not
    /// given yet may be damaged.
    pub fn read(&self, id: SnapshotId) -> Result<Reader<D::Reader>, SnapshotError> {
        let name = file_name(id.last);
        let reader = open(&*self.disk, &name)?;
        check_header(reader.header(), id.last, &self.options.cluster_id)
            .map_err(|reason| damaged(self.disk.path(&name), reason))?;
        Ok(reader)
    }

    /// Removes all snapshots before this one, and returns how many there were. That it is well is
    /// proven by there being a [`SnapshotFile`].
    pub fn keep_only(&self, newest: &SnapshotFile<D>) -> Result<usize, SnapshotError> {
        self.remove_before(newest, |_| true)
    }

    /// As `keep_only`, but what nobody reads is freed a little at a time, at the pace of the
    /// options, so that the journal need not wait for a gigabyte to be freed. `is_read` says of an
    /// older snapshot whether somebody may have its file open: that one stays readable for him.
    pub fn remove_before(
        &self,
        newest: &SnapshotFile<D>,
        is_read: impl Fn(EntryId) -> bool,
    ) -> Result<usize, SnapshotError> {
        let disk = &*self.disk;
        let kept = newest.id().last.index;
        let listed = disk.list().map_err(io_error(disk, "listing", ""))?;
        let snapshots = listed.iter().filter_map(|name| Some((name, entry_of_name(name)?)));
        let older: Vec<_> = snapshots.filter(|(_, last)| last.index < kept).collect();
        for &(name, last) in &older {
            let removed = match is_read(last) {
                true => disk.remove(name),
                false => disk.remove_unread(name, &self.options.pace),
            };
            removed.map_err(io_error(disk, "removing", name))?;
        }
        if !older.is_empty() {
            disk.sync_directory().map_err(io_error(disk, "syncing the directory of", ""))?;
        }
        Ok(older.len())
    }

    fn serial(&self) -> u64 {
        self.drafts.fetch_add(1, Ordering::Relaxed)
    }
}

/// What a start would find, without changing anything.
pub fn look<D: Disk>(disk: &D, cluster_id: &str) -> Result<Found<D>, SnapshotError> {
    let Listing { snapshots, unrecognised } = list(disk)?;
    let mut found = Found { newest: None, damaged: Vec::new(), unrecognised };
    for last in snapshots {
        match SnapshotFile::verified(disk, &file_name(last), last, cluster_id) {
            Ok(file) => {
                found.newest = Some(file);
                break;
            }
            Err(error @ SnapshotError::Damaged { .. }) => found.damaged.push(error),
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The files of the directory by their names alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The snapshots, the newest first: the one with the highest index (S39).
    pub snapshots: Vec<EntryId>,
    /// Files that are not ours.
    pub unrecognised: Vec<String>,
}

/// Lists the directory.
pub fn list<D: Disk>(disk: &D) -> Result<Listing, SnapshotError> {
    let mut listing = Listing::default();
    for name in disk.list().map_err(io_error(disk, "listing", ""))? {
        match entry_of_name(&name) {
            Some(last) => listing.snapshots.push(last),
            None if is_draft(&name) => {}
            None => listing.unrecognised.push(name),
        }
    }
    listing.snapshots.sort_by_key(|last| std::cmp::Reverse((last.index, last.term)));
    listing.unrecognised.sort();
    Ok(listing)
}

/// Reads all of a snapshot, and says what it amounts to if it is well.
pub fn verify<D: Disk>(
    disk: &D,
    last: EntryId,
    cluster_id: &str,
) -> Result<Summary, SnapshotError> {
    let name = file_name(last);
    let summary = open(disk, &name)?.verify()?;
    check_header(&summary.header, last, cluster_id)
        .map_err(|reason| damaged(disk.path(&name), reason))?;
    Ok(summary)
}

/// Opens a snapshot's file, which need not have its name yet.
pub fn open<D: Disk>(disk: &D, name: &str) -> Result<Reader<D::Reader>, SnapshotError> {
    let source = disk.open(name).map_err(io_error(disk, "opening", name))?;
    Reader::open(source, &disk.path(name))
}

/// A snapshot that was whole and well when it was opened. Clones are the same open file, which
/// stays readable when newer snapshots have replaced it.
pub struct SnapshotFile<D: Disk> {
    source: Arc<D::Reader>,
    about: Arc<About>,
}

#[derive(Debug)]
struct About {
    file: PathBuf,
    header: Header,
    length_bytes: u64,
}

impl<D: Disk> SnapshotFile<D> {
    /// Opens a file, reads all of it, and checks that it is what it should be.
    pub(super) fn verified(
        disk: &D,
        name: &str,
        last: EntryId,
        cluster_id: &str,
    ) -> Result<SnapshotFile<D>, SnapshotError> {
        let file = disk.path(name);
        let source = Arc::new(disk.open(name).map_err(io_error(disk, "opening", name))?);
        let summary = Reader::open(source.clone(), &file)?.verify()?;
        check_header(&summary.header, last, cluster_id)
            .map_err(|reason| damaged(file.clone(), reason))?;
        let Summary { header, file_bytes, .. } = summary;
        Ok(SnapshotFile {
            source,
            about: Arc::new(About { file, header, length_bytes: file_bytes }),
        })
    }

    /// The same file under the name that it has now.
    pub(super) fn renamed(self, file: PathBuf) -> SnapshotFile<D> {
        let About { header, length_bytes, .. } = &*self.about;
        let about = About { file, header: header.clone(), length_bytes: *length_bytes };
        SnapshotFile { source: self.source, about: Arc::new(about) }
    }

    /// What it stands for.
    pub fn id(&self) -> SnapshotId {
        self.about.header.id
    }

    /// What it says about itself.
    pub fn header(&self) -> &Header {
        &self.about.header
    }

    /// What a person calls it.
    pub fn path(&self) -> &Path {
        &self.about.file
    }

    /// Whether there is a clone of this, by which somebody else may read the file.
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.source) > 1
    }

    /// Its length, in bytes.
    pub fn length_bytes(&self) -> u64 {
        self.about.length_bytes
    }

    /// Bytes of the file as they are, to be sent to another server: at most so many, fewer only at
    /// the end.
    pub fn chunk(&self, offset_bytes: u64, bytes_max: usize) -> io::Result<Vec<u8>> {
        let left = self.length_bytes().saturating_sub(offset_bytes);
        let length = usize::try_from(left).map_or(bytes_max, |left| left.min(bytes_max));
        let mut bytes = vec![0; length];
        self.source.read_at(offset_bytes, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads it in order, checking everything once more.
    pub fn read(&self) -> Result<Reader<Arc<D::Reader>>, SnapshotError> {
        Reader::open(self.source.clone(), &self.about.file)
    }
}

impl<D: Disk> Clone for SnapshotFile<D> {
    fn clone(&self) -> SnapshotFile<D> {
        SnapshotFile { source: self.source.clone(), about: self.about.clone() }
    }
}

impl<D: Disk> fmt::Debug for SnapshotFile<D> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.about.fmt(formatter)
    }
}

/// Whether a header is one of the snapshot that the name says.
fn check_header(header: &Header, last: EntryId, cluster_id: &str) -> Result<(), &'static str> {
    if header.cluster_id != cluster_id {
        return Err("it belongs to another cluster");
    }
    if header.id.last != last {
        return Err("it covers another entry than its name says");
    }
    Ok(())
}

fn damaged(file: PathBuf, reason: &'static str) -> SnapshotError {
    SnapshotError::Damaged { file, offset_bytes: 0, reason }
}
