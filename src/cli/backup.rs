//! `raft-server backup`: a snapshot of a running cluster, in a file that is proven before it has
//! its name.
//!
//! A backup *is* a snapshot file of a server, byte for byte (see `node/backup.rs` for the server's
//! side). It is received under another name, synced, read back through the code that a start uses,
//! its state built and held against its hash, and only then renamed. Whatever happens on the way,
//! there is never half a backup under the name that was asked for.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use raft_server::limits::{BACKUP_READ_BYTES_MAX, BACKUP_WAIT_MS_MAX};
use raft_server::state_file;
use raft_server::storage::disk::{Disk, RealDisk};
use raft_server::storage::snapshot::{Header, SnapshotError, store};
use serde::Serialize;

use super::exit::{self, DAMAGED, FAILED, Failure, REFUSED, USAGE};
use super::resp::{Answer, Connection};
use super::wiring::failure;

/// How long a server may take to answer, beside what it may wait for a snapshot: longer than its
/// own deadline for requests.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// The codes of answers that a later attempt may find otherwise.
const REFUSALS: [&str; 6] = ["CLUSTERDOWN", "NOLEADER", "TRYAGAIN", "LOADING", "SHUTDOWN", "MOVED"];

/// Whom to ask, and where to write.
#[derive(Args)]
#[command(after_help = "\
Exit codes: 0 the backup is written and verified, 1 no server could be reached, or FILE exists,
2 wrong usage, or no ADDRESS is of this host, 5 what was received is damaged, 7 disk error,
8 disk full, 10 refused: try again. FILE is there as a whole with code 0, untouched otherwise.")]
pub struct BackupArguments {
    /// Where servers on this host listen for clients; the first that can gives the backup
    #[arg(required = true, value_name = "ADDRESS")]
    addresses: Vec<String>,
    /// The file to write; FILE.new while it is not complete
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Replace FILE if it exists
    #[arg(long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was backed up.
#[derive(Serialize)]
struct Report<'a> {
    file: &'a Path,
    address: &'a str,
    cluster: String,
    index: u64,
    term: u64,
    keys: u64,
    bytes: u64,
    ms: u64,
}

/// Takes a backup from the first server that gives one.
pub fn run(arguments: &BackupArguments) -> Result<i32, Failure> {
    let BackupArguments { addresses, to, force, json } = arguments;
    if let Some(address) = addresses.iter().find(|address| !address.contains(':')) {
        let message = format!("{address} has no port: say {address}:7001, where it serves clients");
        return Err(Failure::usage(message));
    }
    let since = Instant::now();
    check_free(to, *force)?;
    let mut draft = Draft::create(to)?;
    let mut failures = Vec::new();
    for address in addresses {
        let taken = receive(address, &draft).and_then(|given| draft.prove(&given));
        let header = match taken {
            Ok(header) => header,
            Err(Trouble::Here(failure)) => return Err(failure),
            Err(Trouble::There { code, text }) => {
                failures.push((code, format!("{address} {text}")));
                continue;
            }
        };
        check_free(to, *force)?;
        let bytes = draft.publish()?;
        let ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (index, term) = (header.id.last.index.0, header.id.last.term.0);
        let Header { cluster_id: cluster, keys, .. } = header;
        let report = Report { file: to, address, cluster, index, term, keys, bytes, ms };
        return print(&report, *json);
    }
    // What may succeed later counts more than what will not.
    let refused = failures.iter().any(|(code, _)| *code == REFUSED);
    let code = if refused { REFUSED } else { failures.first().map_or(FAILED, |it| it.0) };
    let texts: Vec<String> = failures.into_iter().map(|(_, text)| text).collect();
    Err(Failure::new(code, format!("no backup: {}", texts.join("; "))))
}

fn print(report: &Report<'_>, json: bool) -> Result<i32, Failure> {
    let line = if json {
        serde_json::to_string(report).expect("a report can be written as JSON")
    } else {
        let Report { file, address, cluster, index, term, keys, bytes, ms } = report;
        format!(
            "{} holds cluster {cluster} up to index {index}, term {term}: keys={keys} \
             bytes={bytes} ms={ms} from {address}, verified",
            file.display()
        )
    };
    exit::write_lines(&mut io::stdout().lock(), &[line])?;
    Ok(exit::OK)
}

fn check_free(file: &Path, force: bool) -> Result<(), Failure> {
    if !force && file.symlink_metadata().is_ok() {
        let text =
            format!("{} exists and is left alone: use --force to replace it", file.display());
        return Err(Failure::new(FAILED, text));
    }
    Ok(())
}

/// Why one server's backup did not come.
enum Trouble {
    /// Of this server; another one may do better.
    There { code: i32, text: String },
    /// Of our own disk.
    Here(Failure),
}

impl Trouble {
    fn there(code: i32, text: impl Into<String>) -> Trouble {
        Trouble::There { code, text: text.into() }
    }

    /// An answer that is none of those expected.
    fn answered(answer: &Answer) -> Trouble {
        let Answer::Error(words) = answer else {
            return Trouble::there(FAILED, format!("is no raft-server: it answers {answer:?}"));
        };
        match words.split(' ').next() {
            Some("NOPERM") => Trouble::there(
                USAGE,
                "gives backups only to its own host: run this command there, with an address of \
                 that host",
            ),
            Some(code) if REFUSALS.contains(&code) => {
                Trouble::there(REFUSED, format!("refuses: {words}"))
            }
            _ => Trouble::there(FAILED, format!("answers: {words}")),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::there(FAILED, format!("cannot be reached: {error}"))
    }
}

/// What a server says of the snapshot it gives.
struct Given {
    index: u64,
    term: u64,
    bytes: u64,
}

/// Fills the file with a snapshot that holds everything acknowledged before now.
fn receive(address: &str, draft: &Draft) -> Result<Given, Trouble> {
    let mut server = Connection::open(address)?;
    // Linearizable: the answer is at or behind every write that was acknowledged before.
    let index = match server.ask(&["LASTINDEX"], ANSWER_TIME_MAX)? {
        Answer::Integer(index) => index.to_string(),
        other => return Err(Trouble::answered(&other)),
    };
    let patience = ANSWER_TIME_MAX + Duration::from_millis(BACKUP_WAIT_MS_MAX);
    let begun = server.ask(&["BACKUP", "BEGIN", &index], patience)?;
    let given = match &begun {
        Answer::List(items) => match items[..] {
            [Answer::Integer(index), Answer::Integer(term), Answer::Integer(bytes)] => {
                let number = |number: i64| u64::try_from(number).unwrap_or_default();
                Given { index: number(index), term: number(term), bytes: number(bytes) }
            }
            _ => return Err(Trouble::answered(&begun)),
        },
        other => return Err(Trouble::answered(other)),
    };
    draft.clear()?;
    let (index, count) = (given.index.to_string(), BACKUP_READ_BYTES_MAX.to_string());
    let mut offset = 0;
    while offset < given.bytes {
        let words = ["BACKUP", "READ", &index, &offset.to_string(), &count];
        match server.ask(&words, ANSWER_TIME_MAX)? {
            Answer::Bytes(bytes) if !bytes.is_empty() => {
                draft.write_at(offset, &bytes)?;
                offset += bytes.len() as u64;
            }
            Answer::Bytes(_) => return Err(Trouble::there(DAMAGED, "ends its snapshot early")),
            other => return Err(Trouble::answered(&other)),
        }
    }
    Ok(given)
}

/// The file while it is not proven. It is removed unless it becomes the backup.
struct Draft {
    file: File,
    /// The directory that it is in.
    disk: RealDisk,
    /// Its name there, and the one that it will have.
    name: String,
    final_name: String,
    /// It has that one.
    is_published: bool,
}

impl Draft {
    /// Makes the file, or takes over what an interrupted backup has left of it.
    fn create(to: &Path) -> Result<Draft, Failure> {
        let (disk, final_name) = place(to)?;
        let name = format!("{final_name}.new");
        let path = disk.path(&name);
        let broken = |source| failure(io_trouble("creating", &path, source));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(broken)?;
        let busy = || {
            let text = format!("{} is being written by another backup", path.display());
            Failure::new(FAILED, text)
        };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(busy()),
            Err(TryLockError::Error(source)) => return Err(broken(source)),
            Ok(()) => {}
        }
        // Opened a moment before another backup gave it its name: then it is that backup by now.
        let inode = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let ours = file.metadata().map(inode).map_err(broken)?;
        if fs::metadata(&path).map(inode).ok() != Some(ours) {
            return Err(busy());
        }
        file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(broken)?;
        Ok(Draft { file, disk, name, final_name, is_published: false })
    }

    fn clear(&self) -> Result<(), Trouble> {
        self.file.set_len(0).map_err(|source| self.trouble("emptying", source))
    }

    fn write_at(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), Trouble> {
        let written = self.file.write_all_at(bytes, offset_bytes);
        written.map_err(|source| self.trouble("writing", source))
    }

    /// Makes the file durable, and proves that it is the snapshot that was announced.
    fn prove(&self, given: &Given) -> Result<Header, Trouble> {
        self.file.sync_all().map_err(|source| self.trouble("syncing", source))?;
        let reader = store::open(&self.disk, &self.name).map_err(Trouble::received)?;
        let header = reader.header().clone();
        let last = header.id.last;
        if (last.index.0, last.term.0) != (given.index, given.term) {
            return Err(Trouble::there(DAMAGED, "gave another snapshot than it announced"));
        }
        let state = state_file::build(reader).map_err(Trouble::received)?;
        if state.store().len() as u64 != header.keys {
            return Err(Trouble::there(DAMAGED, "gave a snapshot that miscounts its keys"));
        }
        Ok(header)
    }

    /// Gives the file its name, durably. Returns its length in bytes.
    fn publish(&mut self) -> Result<u64, Failure> {
        let broken = |doing| {
            let path = self.disk.path(&self.final_name);
            move |source| failure(io_trouble(doing, &path, source))
        };
        let bytes = self.file.metadata().map_err(broken("looking at"))?.len();
        self.disk.rename(&self.name, &self.final_name).map_err(broken("renaming"))?;
        self.is_published = true;
        self.disk.sync_directory().map_err(broken("syncing the directory of"))?;
        Ok(bytes)
    }

    fn trouble(&self, doing: &'static str, source: io::Error) -> Trouble {
        Trouble::Here(failure(io_trouble(doing, &self.disk.path(&self.name), source)))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Once it is published, a file of this name is another backup's.
        if !self.is_published {
            let _ = self.disk.remove(&self.name);
        }
    }
}

impl Trouble {
    /// What has been received cannot be used. If our own disk is the reason, no other server helps.
    fn received(error: impl Into<state_file::StateFileError>) -> Trouble {
        let error = error.into();
        match &error {
            state_file::StateFileError::File(SnapshotError::Io { .. }) => {
                Trouble::Here(failure(error))
            }
            _ => Trouble::there(DAMAGED, format!("gave what is no backup: {error}")),
        }
    }
}

fn io_trouble(doing: &'static str, file: &Path, source: io::Error) -> SnapshotError {
    SnapshotError::Io { doing, file: file.to_path_buf(), source }
}

/// A file's directory, open, and its name there.
pub fn place(file: &Path) -> Result<(RealDisk, String), Failure> {
    let Some(name) = file.file_name().and_then(|name| name.to_str()) else {
        return Err(Failure::usage(format!("{} is no name for a file", file.display())));
    };
    let parent = match file.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    };
    match RealDisk::open(parent) {
        Ok(disk) => Ok((disk, name.to_owned())),
        Err(error) => {
            let text = format!("cannot open the directory {}: {error}", parent.display());
            Err(Failure::new(FAILED, text))
        }
    }
}
