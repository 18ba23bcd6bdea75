//! A directory in memory that behaves as a real one does in a crash, and costs little to use.
//!
//! A file is what a reader sees (the page cache); beside it stands what it takes to go back to what
//! the medium holds: the old bytes under each write since the last sync. A sync forgets them, so it
//! costs nothing; a loss of power goes back, or part of the way. The journal's own `MemoryDisk`
//! tells the same story by copying whole files: better for trying every crash, slower for syncing a
//! million times.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use super::random::Random;
use crate::storage::disk::{Disk, DiskFile, DiskReader, read_from};

/// A directory. Clones are the same directory.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    state: Rc<RefCell<State>>,
}

#[derive(Debug, Default)]
struct State {
    files: Vec<Content>,
    names: BTreeMap<String, usize>,
    /// The names after each change since the directory was synced, oldest first: a crash leaves one
    /// of these.
    histories: Vec<BTreeMap<String, usize>>,
    /// Files opened before this life are dead.
    life: u64,
    /// After how many more operations the server or the disk fails.
    fails_after: Option<u64>,
    /// It fails only once.
    only_once: bool,
    /// Files cannot grow.
    full: bool,
}

#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    /// What each write since the last sync has replaced, oldest first.
    unsynced: Vec<Replaced>,
    /// A sync failed: the kernel has dropped the pages, and no later sync writes them.
    forgotten: bool,
}

#[derive(Debug)]
struct Replaced {
    offset: usize,
    old: Vec<u8>,
    length: usize,
}

/// A file open for reading. Nobody writes to it any more, and its name may go: it has a copy.
#[derive(Debug)]
pub struct ReadFile {
    directory: Directory,
    bytes: Vec<u8>,
    life: u64,
}

/// An open file.
#[derive(Debug)]
pub struct OpenFile {
    directory: Directory,
    file: usize,
    life: u64,
}

impl Directory {
    /// After this many more operations, one fails half done, and all after it.
    pub fn fail_after(&self, operations: u64) {
        let mut state = self.state.borrow_mut();
        (state.fails_after, state.only_once) = (Some(operations), false);
    }

    /// After this many more operations, one fails half done; those after it succeed again.
    pub fn fail_once_after(&self, operations: u64) {
        let mut state = self.state.borrow_mut();
        (state.fails_after, state.only_once) = (Some(operations), true);
    }

    /// From now on there is no room for a longer file, or there is again.
    pub fn fill(&self, full: bool) {
        self.state.borrow_mut().full = full;
    }

    /// Whether there is no room.
    pub fn is_full(&self) -> bool {
        self.state.borrow().full
    }

    /// The process is gone, the machine is not: what was written is still to be seen, synced or
    /// not.
    pub fn kill(&self) {
        let mut state = self.state.borrow_mut();
        state.life += 1;
        state.fails_after = None;
    }

    /// Power is gone. Of what was not synced, anything may be lost.
    pub fn lose_power(&self, random: &mut Random) {
        self.kill();
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        if !state.histories.is_empty() {
            let kept = random.position(state.histories.len() + 1);
            if kept < state.histories.len() {
                state.names = state.histories.swap_remove(kept);
            }
            state.histories.clear();
        }
        for content in &mut state.files {
            content.lose_power(random);
        }
    }

    /// The same files on another disk.
    pub fn copy(&self) -> Directory {
        let state = self.state.borrow();
        let bytes =
            |content: &Content| Content { bytes: content.bytes.clone(), ..Content::default() };
        let files = state.files.iter().map(bytes).collect();
        let copied = State { files, names: state.names.clone(), ..State::default() };
        Directory { state: Rc::new(RefCell::new(copied)) }
    }

    /// One bit of one file turns over.
    pub fn rot(&self, random: &mut Random) {
        let mut state = self.state.borrow_mut();
        let named: Vec<usize> = state.names.values().copied().collect();
        let file = random.pick(&named);
        let bytes = &mut state.files[file].bytes;
        if !bytes.is_empty() {
            let at = random.position(bytes.len());
            bytes[at] ^= 1 << random.below(8);
        }
    }

    fn check_alive(&self, life: u64) -> io::Result<()> {
        if self.state.borrow().life == life {
            return Ok(());
        }
        Err(io::Error::other("this file was opened by a process that is gone"))
    }

    fn operate(&self) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        let only_once = state.only_once;
        match &mut state.fails_after {
            Some(0) => {
                if only_once {
                    state.fails_after = None;
                }
                Err(io::Error::other("the disk fails"))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn find(&self, name: &str) -> io::Result<usize> {
        let found = self.state.borrow().names.get(name).copied();
        found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn change_names(&self, change: impl FnOnce(&mut BTreeMap<String, usize>)) {
        let mut state = self.state.borrow_mut();
        let before = state.names.clone();
        state.histories.push(before);
        change(&mut state.names);
    }
}

impl Content {
    fn lose_power(&mut self, random: &mut Random) {
        if self.unsynced.is_empty() {
            return;
        }
        let written = self.bytes.clone();
        while let Some(Replaced { offset, old, length }) = self.unsynced.pop() {
            self.bytes.truncate(length);
            self.bytes[offset..offset + old.len()].copy_from_slice(&old);
        }
        self.forgotten = false;
        let same = written.iter().zip(&self.bytes).take_while(|(new, old)| new == old).count();
        let kept = same + random.position(written.len() - same + 1);
        match random.below(5) {
            0 => {}                                     // nothing of it
            1 => self.bytes = written,                  // all of it
            2 => self.bytes = written[..kept].to_vec(), // torn
            3 => {
                self.bytes = written; // the length, but not the bytes
                self.bytes[kept..].fill(0);
            }
            _ => {
                self.bytes = written; // what the blocks held before: old bytes of such a file
                for at in kept..self.bytes.len() {
                    self.bytes[at] = self.bytes[at - kept];
                }
            }
        }
    }
}

impl Disk for Directory {
    type File = OpenFile;
    type Reader = ReadFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state.borrow().names.keys().cloned().collect())
    }

    fn length_bytes(&self, name: &str) -> io::Result<u64> {
        let file = self.find(name)?;
        Ok(self.state.borrow().files[file].bytes.len() as u64)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let file = self.find(name)?;
        Ok(self.state.borrow().files[file].bytes.clone())
    }

    fn open(&self, name: &str) -> io::Result<ReadFile> {
        let bytes = self.read(name)?;
        Ok(ReadFile { directory: self.clone(), bytes, life: self.state.borrow().life })
    }

    fn create(&self, name: &str) -> io::Result<OpenFile> {
        self.operate()?;
        if self.find(name).is_ok() {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        let (file, life) = {
            let mut state = self.state.borrow_mut();
            state.files.push(Content::default());
            (state.files.len() - 1, state.life)
        };
        self.change_names(|names| {
            names.insert(name.to_owned(), file);
        });
        Ok(OpenFile { directory: self.clone(), file, life })
    }

    fn reopen(&self, name: &str) -> io::Result<OpenFile> {
        let file = self.find(name)?;
        Ok(OpenFile { directory: self.clone(), file, life: self.state.borrow().life })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.operate()?;
        let file = self.find(from)?;
        self.change_names(|names| {
            names.remove(from);
            names.insert(to.to_owned(), file);
        });
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.operate()?;
        self.find(name)?;
        self.change_names(|names| {
            names.remove(name);
        });
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.operate()?;
        let mut state = self.state.borrow_mut();
        state.histories.clear();
        // Files that no name leads to are gone.
        let kept: Vec<usize> = state.names.values().copied().collect();
        for (number, content) in state.files.iter_mut().enumerate() {
            if !kept.contains(&number) {
                *content = Content::default();
            }
        }
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("simulated").join(name)
    }
}

impl OpenFile {
    /// Whether a write makes the file longer, and so takes room.
    fn grows(&self, offset_bytes: u64, length: usize) -> bool {
        let state = self.directory.state.borrow();
        offset_bytes + length as u64 > state.files[self.file].bytes.len() as u64
    }
}

impl DiskFile for OpenFile {
    fn write_at(&mut self, offset_bytes: u64, bytes: &[u8]) -> io::Result<()> {
        self.directory.check_alive(self.life)?;
        let mut result = self.directory.operate();
        if self.directory.is_full() && self.grows(offset_bytes, bytes.len()) {
            result = Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        // A write that fails may have written a part.
        let bytes = if result.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        let offset = usize::try_from(offset_bytes).expect("a simulated file is small");
        let mut state = self.directory.state.borrow_mut();
        let content = &mut state.files[self.file];
        let length = content.bytes.len();
        let end = offset + bytes.len();
        let old = content.bytes[offset.min(length)..end.min(length)].to_vec();
        content.unsynced.push(Replaced { offset: offset.min(length), old, length });
        content.bytes.resize(length.max(end), 0);
        content.bytes[offset..end].copy_from_slice(bytes);
        result
    }

    fn sync(&mut self) -> io::Result<()> {
        self.directory.check_alive(self.life)?;
        let result = self.directory.operate();
        let mut state = self.directory.state.borrow_mut();
        let content = &mut state.files[self.file];
        content.forgotten |= result.is_err();
        if !content.forgotten {
            content.unsynced.clear();
        }
        result
    }
}

impl DiskReader for ReadFile {
    fn length_bytes(&self) -> io::Result<u64> {
        self.directory.check_alive(self.life)?;
        Ok(self.bytes.len() as u64)
    }

    fn read_at(&self, offset_bytes: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.directory.check_alive(self.life)?;
        read_from(&self.bytes, offset_bytes, bytes)
    }
}
