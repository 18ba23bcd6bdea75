//! A disk in memory that writes down what it was asked to do, and builds from that every state in
//! which a crash could have left it.
//!
//! `MemoryDisk` draws one crash at random; this one has them all. A crash comes after some number
//! of operations. Those that a later sync has covered are decided. Each of the others has a *fate*
//! of its own: a name operation is lost or kept, whatever happened to the ones before it (no file
//! system promises us their order); a write is lost, kept, cut after any byte, or leaves zeros. A
//! failed sync decides nothing, now or later: what it should have written is *forgotten*, and no
//! sync after it will write it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use super::disk::{Disk, DiskFile, DiskReader, read_from};

/// The files of a directory, by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Writes up to this long are cut after every byte; longer ones in steps, and everywhere near
/// their ends.
const CUT_EVERYWHERE_BYTES: usize = 256;
const CUT_STEP_BYTES: usize = 7;

/// A directory in memory. Clones are the same directory.
#[derive(Clone, Debug, Default)]
pub struct RecordingDisk {
    state: Rc<RefCell<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// What was durable when the recording began.
    beginning: Files,
    /// What a reader sees: the page cache.
    files: Vec<Vec<u8>>,
    names: BTreeMap<String, usize>,
    operations: Vec<Operation>,
    /// The number of the operation that fails, once.
    fails: Option<usize>,
}

/// One changing operation. Files are numbered in the order in which they came to be.
#[derive(Clone, Debug)]
enum Operation {
    Create {
        name: String,
        file: usize,
    },
    Rename {
        from: String,
        to: String,
        file: usize,
    },
    Remove {
        name: String,
        file: usize,
    },
    Write {
        file: usize,
        offset: usize,
        bytes: Vec<u8>,
    },
    Sync {
        file: usize,
        succeeded: bool,
    },
    SyncDirectory {
        succeeded: bool,
    },
    /// Something that failed and changed nothing.
    Nothing,
}

/// What became of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    Lost,
    /// Only so many bytes were written.
    Cut(usize),
    /// The file has its length, but zeros behind so many bytes.
    Zeros(usize),
}

/// How many fates of a write are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cuts {
    /// Every byte, as far as that is affordable.
    Every,
    /// None, half, all, and zeros.
    Few,
}

/// An open file of a [`RecordingDisk`].
#[derive(Debug)]
pub struct RecordingFile {
    disk: RecordingDisk,
    file: usize,
}

impl RecordingDisk {
    /// A directory with these files, all durable.
    pub fn new(files: &Files) -> RecordingDisk {
        let names = files.keys().cloned().zip(0..).collect();
        let state = State {
            beginning: files.clone(),
            files: files.values().cloned().collect(),
            names,
            ..State::default()
        };
        RecordingDisk { state: Rc::new(RefCell::new(state)) }
    }

    /// Lets the operation with this number (from 0) fail, half done; those after it succeed.
    pub fn fail_at(&self, operation: usize) {
        self.state.borrow_mut().fails = Some(operation);
    }

    /// How many changing operations there have been.
    pub fn operations(&self) -> usize {
        self.state.borrow().operations.len()
    }

    /// The files as a reader sees them.
    pub fn files(&self) -> Files {
        let state = self.state.borrow();
        state.names.iter().map(|(name, &file)| (name.clone(), state.files[file].clone())).collect()
    }

    /// Visits every state that a crash right after the first `operations` operations could leave.
    pub fn crash_states(&self, operations: usize, cuts: Cuts, visit: &mut dyn FnMut(Files)) {
        let state = self.state.borrow();
        let done = &state.operations[..operations];
        let open = undecided(done);
        let newest_write = open.iter().copied().filter(|&at| written_bytes(&done[at]) > 0).max();
        let fates: Vec<Vec<Fate>> = open
            .iter()
            .map(|&at| {
                let every = cuts == Cuts::Every && Some(at) == newest_write;
                fates_of(&done[at], if every { Cuts::Every } else { Cuts::Few })
            })
            .collect();
        // Counts through all combinations, like an odometer.
        let mut chosen = vec![0; open.len()];
        loop {
            let mut fate = vec![Fate::Kept; done.len()];
            for ((&at, fates), &choice) in open.iter().zip(&fates).zip(&chosen) {
                fate[at] = fates[choice];
            }
            visit(replay(&state.beginning, done, &fate));
            let Some(wheel) = (0..chosen.len()).find(|&at| chosen[at] + 1 < fates[at].len()) else {
                return;
            };
            chosen[wheel] += 1;
            chosen[..wheel].fill(0);
        }
    }

    /// Records an operation, or what is left of it if it is the one that fails.
    fn record(&self, operation: Operation, failed: Operation) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        let fails = state.fails == Some(state.operations.len());
        state.operations.push(if fails { failed } else { operation });
        if fails { Err(io::Error::other("the disk fails, as the test asked")) } else { Ok(()) }
    }

    fn find(&self, name: &str) -> io::Result<usize> {
        let found = self.state.borrow().names.get(name).copied();
        found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

/// The operations that no sync has made durable.
fn undecided(done: &[Operation]) -> Vec<usize> {
    let mut open: Vec<usize> = Vec::new();
    // What a failed sync has forgotten stays open for ever.
    let mut forgotten: Vec<usize> = Vec::new();
    for (at, operation) in done.iter().enumerate() {
        let covered = |earlier: &usize| match (operation, &done[*earlier]) {
            (Operation::Sync { file, .. }, Operation::Write { file: written, .. }) => {
                file == written
            }
            (Operation::SyncDirectory { .. }, operation) => {
                !matches!(operation, Operation::Write { .. })
            }
            _ => false,
        };
        match operation {
            Operation::Nothing => {}
            Operation::Sync { succeeded, .. } | Operation::SyncDirectory { succeeded } => {
                let decided = open.extract_if(.., |earlier| covered(earlier));
                let decided: Vec<usize> = decided.collect();
                if !succeeded {
                    forgotten.extend(decided);
                }
            }
            _ => open.push(at),
        }
    }
    open.extend(forgotten);
    open
}

fn written_bytes(operation: &Operation) -> usize {
    if let Operation::Write { bytes, .. } = operation { bytes.len() } else { 0 }
}

fn fates_of(operation: &Operation, cuts: Cuts) -> Vec<Fate> {
    let length = written_bytes(operation);
    let mut fates = vec![Fate::Kept, Fate::Lost];
    if length == 0 {
        return fates;
    }
    let near =
        |cut: usize| cut < CUT_EVERYWHERE_BYTES / 2 || length - cut < CUT_EVERYWHERE_BYTES / 2;
    let tried = |cut: usize| match cuts {
        Cuts::Every => near(cut) || cut.is_multiple_of(CUT_STEP_BYTES),
        Cuts::Few => cut == length / 2,
    };
    for cut in (1..length).filter(|&cut| tried(cut)) {
        fates.push(Fate::Cut(cut));
        fates.push(Fate::Zeros(cut));
    }
    fates.push(Fate::Zeros(0));
    fates
}

/// The directory after these operations, each with its fate.
fn replay(beginning: &Files, done: &[Operation], fates: &[Fate]) -> Files {
    let mut contents: Vec<Vec<u8>> = beginning.values().cloned().collect();
    let mut names: BTreeMap<&str, usize> = beginning.keys().map(String::as_str).zip(0..).collect();
    for (operation, &fate) in done.iter().zip(fates) {
        match operation {
            Operation::Create { file, .. } if contents.len() <= *file => {
                contents.resize(file + 1, Vec::new());
            }
            _ => {}
        }
        if fate == Fate::Lost {
            continue;
        }
        match operation {
            Operation::Create { name, file } => {
                names.insert(name, *file);
            }
            Operation::Rename { from, to, file } => {
                if names.get(from.as_str()) == Some(file) {
                    names.remove(from.as_str());
                }
                names.insert(to, *file);
            }
            Operation::Remove { name, file } => {
                if names.get(name.as_str()) == Some(file) {
                    names.remove(name.as_str());
                }
            }
            Operation::Write { file, offset, bytes } => {
                write_into(&mut contents[*file], *offset, bytes, fate);
            }
            Operation::Sync { .. } | Operation::SyncDirectory { .. } | Operation::Nothing => {}
        }
    }
    names.into_iter().map(|(name, file)| (name.to_owned(), contents[file].clone())).collect()
}

fn write_into(content: &mut Vec<u8>, offset: usize, bytes: &[u8], fate: Fate) {
    let (kept, length) = match fate {
        Fate::Lost => (0, 0),
        Fate::Kept => (bytes.len(), bytes.len()),
        Fate::Cut(cut) => (cut, cut),
        Fate::Zeros(from) => (from, bytes.len()),
    };
    if content.len() < offset + length {
        content.resize(offset + length, 0);
    }
    content[offset..offset + kept].copy_from_slice(&bytes[..kept]);
    content[offset + kept..offset + length].fill(0);
}

impl Disk for RecordingDisk {
    type File = RecordingFile;
    type Reader = RecordingFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state.borrow().names.keys().cloned().collect())
    }

    fn length_bytes(&self, name: &str) -> io::Result<u64> {
        Ok(self.read(name)?.len() as u64)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let file = self.find(name)?;
        Ok(self.state.borrow().files[file].clone())
    }

    fn open(&self, name: &str) -> io::Result<RecordingFile> {
        Ok(RecordingFile { disk: self.clone(), file: self.find(name)? })
    }

    fn create(&self, name: &str) -> io::Result<RecordingFile> {
        if self.find(name).is_ok() {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        let file = self.state.borrow().files.len();
        let name = name.to_owned();
        self.record(Operation::Create { name: name.clone(), file }, Operation::Nothing)?;
        let mut state = self.state.borrow_mut();
        state.files.push(Vec::new());
        state.names.insert(name, file);
        Ok(RecordingFile { disk: self.clone(), file })
    }

    fn reopen(&self, name: &str) -> io::Result<RecordingFile> {
        self.open(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let file = self.find(from)?;
        let (from, to) = (from.to_owned(), to.to_owned());
        let operation = Operation::Rename { from: from.clone(), to: to.clone(), file };
        self.record(operation, Operation::Nothing)?;
        let mut state = self.state.borrow_mut();
        state.names.remove(&from);
        state.names.insert(to, file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let file = self.find(name)?;
        self.record(Operation::Remove { name: name.to_owned(), file }, Operation::Nothing)?;
        self.state.borrow_mut().names.remove(name);
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let sync = |succeeded| Operation::SyncDirectory { succeeded };
        self.record(sync(true), sync(false))
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("memory").join(name)
    }
}

impl DiskFile for RecordingFile {
    fn write_at(&mut self, offset_bytes: u64, bytes: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset_bytes).expect("a test's file fits into memory");
        let write =
            |bytes: &[u8]| Operation::Write { file: self.file, offset, bytes: bytes.into() };
        let half = &bytes[..bytes.len() / 2];
        let result = self.disk.record(write(bytes), write(half));
        let seen = if result.is_ok() { bytes } else { half };
        let mut state = self.disk.state.borrow_mut();
        write_into(&mut state.files[self.file], offset, seen, Fate::Kept);
        result
    }

    fn sync(&mut self) -> io::Result<()> {
        let sync = |succeeded| Operation::Sync { file: self.file, succeeded };
        self.disk.record(sync(true), sync(false))
    }
}

impl DiskReader for RecordingFile {
    fn length_bytes(&self) -> io::Result<u64> {
        Ok(self.disk.state.borrow().files[self.file].len() as u64)
    }

    fn read_at(&self, offset_bytes: u64, bytes: &mut [u8]) -> io::Result<()> {
        read_from(&self.disk.state.borrow().files[self.file], offset_bytes, bytes)
    }
}
