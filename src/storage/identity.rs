//! Whose data directory this is, and that nobody else has it.
//!
//! ```text
//! LOCK            held by the running server (advisory; its content is the server's process id)
//! README          what is what
//! identity.json   format, cluster id, server id, initial membership, journal id
//! met.json        which lives of its peers this server has met
//! journal/        00000001.seg, …
//! snapshots/      the state at some index; see `snapshot`
//! tmp/            cleared at each start
//! ```
//!
//! Only `init` creates a directory: a server that lost its disk and started with an empty one would
//! vote again in terms it voted in before.
//!
//! **What is seen need not be on disk.** An `init` that was killed has made names that no sync
//! covers; so has somebody who moved the directory here with `cp`. If we served from them and then
//! lost power, acknowledged writes would be gone with them. So `open` first syncs all files, the
//! directories, and the names of the directories above.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::disk::RealDisk;
use super::error::JournalError;
use super::peers_met::{PeerIdentityError, PeersMet};
use crate::raft::types::{EntryId, ServerId, SnapshotId};

/// The format of data directories that this program makes.
pub const DIRECTORY_FORMAT: u32 = 2;
/// The format without `snapshots/`, which a start adds.
pub const DIRECTORY_FORMAT_WITHOUT_SNAPSHOTS: u32 = 1;

/// The directory of the snapshots.
pub const SNAPSHOTS: &str = "snapshots";

pub(super) const IDENTITY: &str = "identity.json";

/// Who the owner of a data directory is. It is written once, by `init`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The format of the directory.
    pub format: u32,
    /// The cluster's unique id.
    pub cluster_id: String,
    /// The server's id.
    pub server_id: ServerId,
    /// The servers that the cluster began with, in order.
    pub membership: Vec<ServerId>,
    /// Random; all batches of the journal carry it.
    pub journal_id: u64,
    /// The backup that `restore` began with; `None` after `init`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<Origin>,
}

/// Where a restored server's first state comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The cluster that the backup was taken of.
    pub cluster_id: String,
    /// What the backup stands for.
    pub snapshot: SnapshotId,
    /// The hash of the state in it.
    pub state_hash: u64,
}

impl Identity {
    /// What servers call their cluster when they meet: its id, and behind a `+` the backup it began
    /// with, if it did. So only servers that began alike talk to each other. The failing schedule:
    /// two of three servers are restored, the third is made by `init`, or restored from yesterday's
    /// file. It would vote, and count in majorities, with another past than the others have; with
    /// two such servers the restored state would be outvoted and replaced by an empty one.
    pub fn name_among_peers(&self) -> String {
        match &self.restored {
            None => self.cluster_id.clone(),
            Some(Origin { snapshot, state_hash, .. }) => {
                let EntryId { term, index } = snapshot.last;
                format!("{}+{}.{}.{state_hash:016x}", self.cluster_id, index.0, term.0)
            }
        }
    }
}

/// What the configuration says about the directory's owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The cluster's id.
    pub cluster_id: String,
    /// The server's id.
    pub server_id: ServerId,
    /// The cluster's servers.
    pub membership: Vec<ServerId>,
}

/// Why a data directory cannot be created or opened.
#[derive(Debug, Error)]
pub enum DirectoryError {
    /// There is no data directory, or its `init` did not finish.
    #[error(
        "{} holds no server's data (or its init was interrupted). Run `raft-server init` once for \
         a new server. If this server had data before, its promises are lost with it: give its id \
         up and add a server under a new id", .0.display()
    )]
    NotInitialized(PathBuf),
    /// `init` or `restore` found a server's data.
    #[error("{} already holds a server's data; nothing was changed there", .0.display())]
    AlreadyInitialized(PathBuf),
    /// `init` or `restore` found something it did not make.
    #[error(
        "{} holds {found:?}, which it would not have left if it had been interrupted. Use an empty \
         directory",
        directory.display()
    )]
    NotEmpty {
        /// The directory.
        directory: PathBuf,
        /// What was found.
        found: String,
    },
    /// Another process has the directory (exit code 4).
    #[error("{} is in use by another server (process {process})", directory.display())]
    Locked {
        /// The directory.
        directory: PathBuf,
        /// What the lock file says.
        process: String,
    },
    /// The directory is another server's, or of a format we do not know (exit code 4).
    #[error("{} has {what} {recorded}, but {configured} is expected", directory.display())]
    NotOurs {
        /// The directory.
        directory: PathBuf,
        /// What differs.
        what: &'static str,
        /// What the directory says.
        recorded: String,
        /// What the configuration says.
        configured: String,
    },
    /// Others may write to it, or another user owns it (exit code 4).
    #[error("{} {problem}: use chown, or chmod go-w", path.display())]
    NotSafe {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A file that `init` has made is missing or cannot be understood (exit code 5).
    #[error(
        "{} is missing or damaged: {source}. The server refuses to guess what it said. Keep the \
         directory. If a majority of the other servers is well, replace this server by a new one \
         under a new id",
        file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What the operating system or the decoder said.
        source: io::Error,
    },
    /// The disk refused (exit code 7).
    #[error("{doing} {} failed: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The journal cannot be created.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The record of the peers met cannot be read.
    #[error(transparent)]
    Peers(#[from] PeerIdentityError),
}

/// An open data directory. Dropping it releases the lock.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    identity: Identity,
    _lock: File,
}

impl DataDirectory {
    /// Opens and locks the directory, and checks that it belongs to the configured server.
    pub fn open(path: &Path, expected: &Expected) -> Result<DataDirectory, DirectoryError> {
        let file = path.join(IDENTITY);
        if !file.try_exists().map_err(failed("looking for", &file))? {
            return Err(DirectoryError::NotInitialized(path.to_path_buf()));
        }
        for checked in [path, &path.join("tmp")] {
            check_safe(checked)?;
        }
        let lock = lock(path)?;
        let identity = read_identity(path)?;
        check_identity(path, &identity, expected)?;
        let snapshots = path.join(SNAPSHOTS);
        if identity.format == DIRECTORY_FORMAT_WITHOUT_SNAPSHOTS {
            create_directory(&snapshots)?;
        } else if let Err(source) = fs::metadata(&snapshots) {
            return Err(DirectoryError::Damaged { file: snapshots, source });
        }
        check_and_sync_files(path)?;
        check_and_sync_files(&path.join("journal"))?;
        check_and_sync_files(&snapshots)?;
        sync_with_ancestors(path)?;
        clear_temporary(&path.join("tmp"))?;
        Ok(DataDirectory { path: path.to_path_buf(), identity, _lock: lock })
    }

    /// Whose directory it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The directory of the journal.
    pub fn journal_disk(&self) -> Result<RealDisk, DirectoryError> {
        let journal = self.path.join("journal");
        RealDisk::open(&journal).map_err(failed("opening", &journal))
    }

    /// The directory of the snapshots.
    pub fn snapshots_disk(&self) -> Result<RealDisk, DirectoryError> {
        let snapshots = self.path.join(SNAPSHOTS);
        RealDisk::open(&snapshots).map_err(failed("opening", &snapshots))
    }

    /// How long this disk takes to make 4 KiB durable: what every write will wait for at the least.
    pub fn time_a_sync(&self) -> Result<Duration, DirectoryError> {
        let path = self.path.join("tmp").join("sync-probe");
        let mut file = File::create(&path).map_err(failed("creating", &path))?;
        let since = Instant::now();
        let synced = file.write_all(&[0; 4096]).and_then(|()| file.sync_data());
        let took = since.elapsed();
        synced.and_then(|()| fs::remove_file(&path)).map_err(failed("writing", &path))?;
        Ok(took)
    }

    /// The peers this server has met.
    pub fn peers_met(&self) -> Result<PeersMet, DirectoryError> {
        let disk = RealDisk::open(&self.path).map_err(failed("opening", &self.path))?;
        PeersMet::open(disk).map_err(|error| match error {
            PeerIdentityError::Damaged { file, source } => DirectoryError::Damaged { file, source },
            other => DirectoryError::Peers(other),
        })
    }
}

/// Reads who a directory's owner is, without the lock.
pub fn read_identity(path: &Path) -> Result<Identity, DirectoryError> {
    let file = path.join(IDENTITY);
    let bytes = match fs::read(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(DirectoryError::NotInitialized(path.to_path_buf()));
        }
        read => read.map_err(failed("reading", &file))?,
    };
    serde_json::from_slice(&bytes)
        .map_err(|error| DirectoryError::Damaged { file, source: error.into() })
}

/// A random number from the operating system, for run ids.
pub fn random_number() -> Result<u64, DirectoryError> {
    let source = Path::new("/dev/urandom");
    let mut bytes = [0; 8];
    let read = File::open(source).and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(failed("reading", source))?;
    Ok(u64::from_le_bytes(bytes))
}

fn check_identity(path: &Path, own: &Identity, expected: &Expected) -> Result<(), DirectoryError> {
    let text = |ids: &[ServerId]| {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.iter().map(ServerId::to_string).collect::<Vec<_>>().join(" ")
    };
    // Obeying an edited list would change what a majority is, on one server at a time.
    let known = own.format == DIRECTORY_FORMAT_WITHOUT_SNAPSHOTS;
    let format = if known { own.format } else { DIRECTORY_FORMAT };
    let pairs = [
        ("directory format", own.format.to_string(), format.to_string()),
        ("cluster id", own.cluster_id.clone(), expected.cluster_id.clone()),
        ("server id", own.server_id.to_string(), expected.server_id.to_string()),
        ("the membership", text(&own.membership), text(&expected.membership)),
    ];
    for (what, recorded, configured) in pairs {
        if recorded != configured {
            let directory = path.to_path_buf();
            return Err(DirectoryError::NotOurs { directory, what, recorded, configured });
        }
    }
    Ok(())
}

/// Refuses what somebody else could change. A link is as safe as what it leads to.
pub(super) fn check_safe(path: &Path) -> Result<(), DirectoryError> {
    let metadata = fs::metadata(path).map_err(failed("looking at", path))?;
    let (owner, we) = (metadata.uid(), rustix::process::geteuid().as_raw());
    let problem = if owner != we {
        format!("belongs to user {owner}, and this process runs as user {we}")
    } else if metadata.mode() & 0o022 != 0 {
        format!("can be written by others (mode {:03o})", metadata.mode() & 0o777)
    } else {
        return Ok(());
    };
    Err(DirectoryError::NotSafe { path: path.to_path_buf(), problem })
}

pub(super) fn lock(path: &Path) -> Result<File, DirectoryError> {
    let file = path.join("LOCK");
    let options = OpenOptions::new().read(true).write(true).create(true).mode(0o600).to_owned();
    let mut lock = options.open(&file).map_err(failed("opening", &file))?;
    match try_lock(&lock) {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let process = fs::read_to_string(&file).unwrap_or_default().trim().to_owned();
            return Err(DirectoryError::Locked { directory: path.to_path_buf(), process });
        }
        Err(TryLockError::Error(source)) => return Err(failed("locking", &file)(source)),
    }
    let written = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
    written.map_err(failed("writing", &file))?;
    Ok(lock)
}

/// `in_use_by` holds the lock for an instant: that must not keep a server from starting.
fn try_lock(lock: &File) -> Result<(), TryLockError> {
    for _ in 0..3 {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(10)),
            decided => return decided,
        }
    }
    lock.try_lock()
}

/// The process that has the directory, if one has: what is read there may change meanwhile, and end
/// in a write under way.
pub fn in_use_by(path: &Path) -> Result<Option<String>, DirectoryError> {
    let file = path.join("LOCK");
    let lock = match File::open(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed("opening", &file))?,
    };
    match lock.try_lock_shared() {
        Ok(()) => Ok(None), // closing the file gives it back
        Err(TryLockError::WouldBlock) => {
            Ok(Some(fs::read_to_string(&file).unwrap_or_default().trim().to_owned()))
        }
        Err(TryLockError::Error(source)) => Err(failed("locking", &file)(source)),
    }
}

/// Makes a directory that only we can read, if it is not there yet.
pub(super) fn create_directory(path: &Path) -> Result<(), DirectoryError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed("creating", path)(error)),
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(0o700))
            .map_err(failed("setting the mode of", path)),
    }
}

/// Each file of a directory must be ours alone, and on disk.
fn check_and_sync_files(path: &Path) -> Result<(), DirectoryError> {
    check_safe(path)?;
    for entry in fs::read_dir(path).map_err(failed("listing", path))? {
        let file = entry.map_err(failed("listing", path))?.path();
        check_safe(&file)?;
        if file.is_file() {
            let synced = File::open(&file).and_then(|file| file.sync_all());
            synced.map_err(failed("syncing", &file))?;
        }
    }
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(failed("syncing", path))
}

/// Makes a directory's names durable, its own name, and those of the directories above it up to
/// where its file system is mounted. One that we may not read is not one that we have made.
pub(super) fn sync_with_ancestors(path: &Path) -> Result<(), DirectoryError> {
    let whole = path.canonicalize().map_err(failed("resolving", path))?;
    let device = fs::metadata(&whole).map_err(failed("looking at", &whole))?.dev();
    for ancestor in whole.ancestors() {
        match File::open(ancestor) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(failed("opening", ancestor)(error)),
            Ok(directory) => {
                let metadata = directory.metadata().map_err(failed("looking at", ancestor))?;
                if metadata.dev() != device {
                    break;
                }
                directory.sync_all().map_err(failed("syncing", ancestor))?;
            }
        }
    }
    Ok(())
}

/// Empties `tmp/`, which also shows that the directory can be written (S47).
fn clear_temporary(path: &Path) -> Result<(), DirectoryError> {
    let probe = path.join("probe");
    fs::write(&probe, b"").map_err(failed("writing", &probe))?;
    for entry in fs::read_dir(path).map_err(failed("listing", path))? {
        let file = entry.map_err(failed("listing", path))?.path();
        if !file.is_dir() {
            fs::remove_file(&file).map_err(failed("removing", &file))?;
        }
    }
    Ok(())
}

pub(super) fn failed<'a>(
    doing: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> DirectoryError + 'a {
    move |source| DirectoryError::Io { doing, path: path.to_path_buf(), source }
}
