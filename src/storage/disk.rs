//! The Disk seam: the few things the journal and the snapshots ask of one directory of a file
//! system.
//!
//! It is narrow on purpose. A simulator implements it in memory and loses what was not synced; a
//! test implements it to try every crash. What a real file system promises, and no more: bytes
//! written are durable once `DiskFile::sync` has returned, and a *name* (created, renamed, removed)
//! once `Disk::sync_directory` has. Until then either may be lost, in part, or not at all.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::pace::Pace;
use crate::limits::FREED_STEP_BYTES;

/// One directory, holding files only.
pub trait Disk {
    /// A file open for writing.
    type File: DiskFile + fmt::Debug;
    /// A file open for reading.
    type Reader: DiskReader + fmt::Debug;

    /// The names of all files, in no particular order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// The length of a file, in bytes.
    fn length_bytes(&self, name: &str) -> io::Result<u64>;
    /// A file's whole content.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// Opens a file for reading. It stays readable after its name is removed.
    fn open(&self, name: &str) -> io::Result<Self::Reader>;
    /// Creates an empty file that must not exist yet.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// Opens a file that exists for writing, to use its space again.
    fn reopen(&self, name: &str) -> io::Result<Self::File>;
    /// Gives a file another name, replacing the file that had it. An open file stays open.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Removes a file, which may be large, that nobody has open. A disk that would hold up others
    /// with it frees the space a little at a time, at this pace.
    fn remove_unread(&self, name: &str, _pace: &Pace) -> io::Result<()> {
        self.remove(name)
    }
    /// Makes everything done to names so far durable.
    fn sync_directory(&self) -> io::Result<()>;
    /// What a person calls this file, for error messages.
    fn path(&self, name: &str) -> PathBuf;
}

/// An open file of a [`Disk`].
pub trait DiskFile {
    /// Writes all bytes at an offset. After an error, any part of them may have been written.
    fn write_at(&mut self, offset_bytes: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was written durable. After an error nothing is known about any unsynced byte, and
    /// asking again would lie: the kernel may have dropped the pages and forgotten the error.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file of a [`Disk`], open for reading. Nobody writes to it meanwhile: what is read piece by
/// piece is complete before it is opened.
pub trait DiskReader {
    /// The length of the file, in bytes.
    fn length_bytes(&self) -> io::Result<u64>;
    /// Fills `bytes` with what stands at an offset; an error if the file ends before they are full.
    fn read_at(&self, offset_bytes: u64, bytes: &mut [u8]) -> io::Result<()>;
}

/// `DiskReader::read_at` for a file that is in memory.
pub fn read_from(content: &[u8], offset_bytes: u64, bytes: &mut [u8]) -> io::Result<()> {
    let from = usize::try_from(offset_bytes).ok();
    let found = from.and_then(|from| content.get(from..)?.get(..bytes.len()));
    bytes.copy_from_slice(found.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
    Ok(())
}

impl<R: DiskReader> DiskReader for Arc<R> {
    fn length_bytes(&self) -> io::Result<u64> {
        R::length_bytes(self)
    }

    fn read_at(&self, offset_bytes: u64, bytes: &mut [u8]) -> io::Result<()> {
        R::read_at(self, offset_bytes, bytes)
    }
}

/// A directory of the operating system.
#[derive(Debug)]
pub struct RealDisk {
    directory: PathBuf,
    /// Kept open, because syncing a directory needs it open.
    handle: File,
}

impl RealDisk {
    /// Opens a directory that exists.
    pub fn open(directory: &Path) -> io::Result<RealDisk> {
        Ok(RealDisk { directory: directory.to_path_buf(), handle: File::open(directory)? })
    }
}

impl Disk for RealDisk {
    type File = RealFile;
    type Reader = RealFile;

    fn list(&self) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(&self.directory)?;
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn length_bytes(&self, name: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.path(name))?.len())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path(name))
    }

    fn open(&self, name: &str) -> io::Result<RealFile> {
        Ok(RealFile { file: File::open(self.path(name))? })
    }

    fn create(&self, name: &str) -> io::Result<RealFile> {
        let options = OpenOptions::new().write(true).create_new(true).mode(0o600).to_owned();
        let file = options.open(self.path(name))?;
        // The process's umask can only take permissions away; we need exactly ours (S97).
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        Ok(RealFile { file })
    }

    fn reopen(&self, name: &str) -> io::Result<RealFile> {
        Ok(RealFile { file: OpenOptions::new().write(true).open(self.path(name))? })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn remove_unread(&self, name: &str, pace: &Pace) -> io::Result<()> {
        let opened = OpenOptions::new().write(true).open(self.path(name));
        self.remove(name)?;
        // No crash may leave the name with a part of the file.
        self.sync_directory()?;
        // It is removed. How gently its space is freed is no longer a question of failing: what is
        // left of it is freed when the file is closed, or was when it could not be opened.
        match opened.and_then(|file| free_in_steps(&file, pace)) {
            Ok(()) => {}
            Err(error) => log::warn!("the space of {name} is freed in one step: {error}"),
        }
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// Cuts a file down to nothing, so that no single step takes long. A file system frees all that a
/// file has in one commit, and where it also tells the device (`discard`) every sync waits for it:
/// the journal's waited up to 220 ms for the removal of 1 GiB. The sync after each step makes it a
/// commit of its own.
fn free_in_steps(file: &File, pace: &Pace) -> io::Result<()> {
    let mut length_bytes = file.metadata()?.len();
    while length_bytes > 0 {
        length_bytes = length_bytes.saturating_sub(FREED_STEP_BYTES);
        pace.work(|| {
            file.set_len(length_bytes)?;
            file.sync_all()
        })?;
    }
    Ok(())
}

/// A file of the operating system.
#[derive(Debug)]
pub struct RealFile {
    file: File,
}

impl DiskFile for RealFile {
    fn write_at(&mut self, offset_bytes: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset_bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data() // also syncs the length: without it the bytes could not be read back
    }
}

impl DiskReader for RealFile {
    fn length_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset_bytes: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(bytes, offset_bytes)
    }
}
