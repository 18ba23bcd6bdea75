//! A disk in memory that loses what a real one may lose.
//!
//! Each file has two contents: what a reader sees (the page cache) and what a crash leaves. A write
//! changes the first; `sync` moves it to the second. Names likewise, with `sync_directory`. Which
//! unsynced things survive a crash is asked of a function, `choose(n)`, that answers below `n`: a
//! seeded generator makes random crashes of it, a counter makes all of them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use super::disk::{Disk, DiskFile, DiskReader, read_from};

/// A directory in memory. Clones are the same directory.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    state: Rc<RefCell<State>>,
}

#[derive(Debug, Default)]
struct State {
    files: Vec<Content>,
    names: BTreeMap<String, usize>,
    /// The directory after each operation on names since the last sync of the directory; the first
    /// is what is durable. File systems keep these in order, so a crash leaves one of them.
    histories: Vec<BTreeMap<String, usize>>,
    /// Rises at each crash: files opened before it are dead.
    life: u64,
    /// How many more operations succeed; `None` if all do.
    operations_left: Option<u64>,
    operations: u64,
}

#[derive(Debug, Default)]
struct Content {
    written: Vec<u8>,
    durable: Vec<u8>,
    /// A sync failed: the pages count as clean, and no later sync writes them.
    forgotten: bool,
}

/// An open file of a [`MemoryDisk`].
#[derive(Debug)]
pub struct MemoryFile {
    disk: MemoryDisk,
    file: usize,
    life: u64,
}

impl MemoryDisk {
    /// An empty directory.
    pub fn new() -> MemoryDisk {
        MemoryDisk::default()
    }

    /// Lets this many more changing operations succeed; the one after them fails half done, and so
    /// do all later ones until the next crash. `None` lets all succeed.
    pub fn fail_after(&self, operations: Option<u64>) {
        self.state.borrow_mut().operations_left = operations;
    }

    /// How many changing operations there have been.
    pub fn operations(&self) -> u64 {
        self.state.borrow().operations
    }

    /// Loses power. Of each file's unsynced bytes `choose` keeps none, all, a part at the front, or
    /// the length but zeros in place of the rear part. Names are those of one moment since the last
    /// sync.
    pub fn crash(&self, choose: &mut dyn FnMut(usize) -> usize) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        state.life += 1;
        state.operations_left = None;
        state.histories.push(state.names.clone());
        let kept = choose(state.histories.len());
        state.names = state.histories.swap_remove(kept);
        state.histories.clear();
        for content in state.files.iter_mut() {
            if content.written != content.durable {
                content.durable = survivor(content, choose);
            }
            content.written = content.durable.clone();
            content.forgotten = false;
        }
    }

    /// Replaces a file's content, seen and durable: damage by somebody else.
    pub fn overwrite(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.state.borrow_mut();
        let content = Content { written: bytes.clone(), durable: bytes, forgotten: false };
        state.files.push(content);
        let file = state.files.len() - 1;
        state.names.insert(name.to_owned(), file);
    }

    /// Counts an operation; an error if it is the one that fails, or a later one.
    fn operate(&self) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        state.operations += 1;
        match &mut state.operations_left {
            Some(0) => Err(io::Error::other("the disk fails, as the test asked")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn change_names(&self, change: impl FnOnce(&mut BTreeMap<String, usize>)) {
        let mut state = self.state.borrow_mut();
        let before = state.names.clone();
        state.histories.push(before);
        change(&mut state.names);
    }

    fn find(&self, name: &str) -> io::Result<usize> {
        let found = self.state.borrow().names.get(name).copied();
        found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

/// What a crash leaves of a file with unsynced bytes.
fn survivor(content: &Content, choose: &mut dyn FnMut(usize) -> usize) -> Vec<u8> {
    let (written, durable) = (&content.written, &content.durable);
    let same = written.iter().zip(durable).take_while(|(left, right)| left == right).count();
    match choose(4) {
        0 => durable.clone(),
        1 => written.clone(),
        2 => written[..same + choose(written.len() - same + 1)].to_vec(),
        _ => {
            let mut zeroed = written.clone();
            let from = same + choose(written.len() - same + 1);
            zeroed[from..].fill(0);
            zeroed
        }
    }
}

impl Disk for MemoryDisk {
    type File = MemoryFile;
    type Reader = MemoryFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state.borrow().names.keys().cloned().collect())
    }

    fn length_bytes(&self, name: &str) -> io::Result<u64> {
        Ok(self.read(name)?.len() as u64)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let file = self.find(name)?;
        Ok(self.state.borrow().files[file].written.clone())
    }

    fn open(&self, name: &str) -> io::Result<MemoryFile> {
        let file = self.find(name)?;
        Ok(MemoryFile { disk: self.clone(), file, life: self.state.borrow().life })
    }

    fn create(&self, name: &str) -> io::Result<MemoryFile> {
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
        Ok(MemoryFile { disk: self.clone(), file, life })
    }

    fn reopen(&self, name: &str) -> io::Result<MemoryFile> {
        self.open(name)
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
        self.state.borrow_mut().histories.clear();
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("memory").join(name)
    }
}

impl MemoryFile {
    fn check_alive(&self) -> io::Result<()> {
        if self.disk.state.borrow().life == self.life {
            return Ok(());
        }
        Err(io::Error::other("this file was opened before the crash"))
    }
}

impl DiskFile for MemoryFile {
    fn write_at(&mut self, offset_bytes: u64, bytes: &[u8]) -> io::Result<()> {
        self.check_alive()?;
        let result = self.disk.operate();
        // A write that fails may have written a part: the first half here.
        let bytes = if result.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        let from = usize::try_from(offset_bytes).expect("a test's file fits into memory");
        let mut state = self.disk.state.borrow_mut();
        let written = &mut state.files[self.file].written;
        written.resize(written.len().max(from + bytes.len()), 0);
        written[from..from + bytes.len()].copy_from_slice(bytes);
        result
    }

    fn sync(&mut self) -> io::Result<()> {
        self.check_alive()?;
        let result = self.disk.operate();
        let mut state = self.disk.state.borrow_mut();
        let content = &mut state.files[self.file];
        content.forgotten |= result.is_err();
        if !content.forgotten {
            content.durable = content.written.clone();
        }
        result
    }
}

impl DiskReader for MemoryFile {
    fn length_bytes(&self) -> io::Result<u64> {
        self.check_alive()?;
        Ok(self.disk.state.borrow().files[self.file].written.len() as u64)
    }

    fn read_at(&self, offset_bytes: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.check_alive()?;
        read_from(&self.disk.state.borrow().files[self.file].written, offset_bytes, bytes)
    }
}
