//! Making a server's data directory, once in its life.
//!
//! The steps, each of which may be the last before a crash: directories, journal, README,
//! `met.json`, and `identity.json` last. Each name is durable before the next step, so a directory
//! that has an identity has all the rest, and one that has none was never served from (S43). That
//! goes for the directory's own name and those above it, too. The failing schedule: `init` ends
//! without syncing the parent, the server votes, the power fails, and the whole directory is gone;
//! the next `init` finds nothing and makes a server that votes again in the same term.
//!
//! `restore` does the same with one step before the others: the snapshot that the server begins
//! with. Its first start finds a journal that was never used and a snapshot, and begins the log
//! behind it ([`recovery`]), with a term that is at least the snapshot's.

use std::fs;
use std::io;
use std::path::Path;

use super::batch::Header;
use super::disk::{Disk, RealDisk};
use super::identity::{
    DIRECTORY_FORMAT, DirectoryError, Expected, IDENTITY, Identity, Origin, SNAPSHOTS, check_safe,
    create_directory, failed, lock, random_number, sync_with_ancestors,
};
use super::journal::{segment_name, segment_number};
use super::peers_met;
use super::record::Image;
use super::recovery;
use super::snapshot;
use super::walk::FRESH_SUFFIX;

const IDENTITY_FRESH: &str = "identity.json.new";
const README: &str = "README";
const README_FRESH: &str = "README.new";
const README_TEXT: &str = "The data directory of one server of a Raft cluster. Never copy it to \
another server,\nnever restore an old copy of it, never edit a file: the server would break \
promises.\n\nLOCK           held by the running server\nidentity.json  which cluster and server \
this is\nmet.json       the lives of its peers it has met\njournal/       term, vote and log; see \
`raft-server log dump`\nsnapshots/     the state \
at some index of the log; see `raft-server snapshot dump`\ntmp/           cleared at each start\n";
/// What an interrupted `init` may have left.
const OURS: [&str; 9] = [
    "LOCK",
    README,
    README_FRESH,
    IDENTITY_FRESH,
    peers_met::FILE_NAME,
    peers_met::FRESH_NAME,
    "journal",
    SNAPSHOTS,
    "tmp",
];

/// Creates a server's data directory. It may be interrupted at any moment, and run again.
pub fn init(path: &Path, expected: &Expected) -> Result<Identity, DirectoryError> {
    make(path, expected, None, |_| Ok(()))
}

/// The same for a server that begins with a snapshot: `write` makes it, durably, in the directory
/// that it is given. It may be run again with the same backup, and not with another one.
pub fn restore<E: From<DirectoryError>>(
    path: &Path,
    expected: &Expected,
    origin: Origin,
    write: impl FnOnce(RealDisk) -> Result<(), E>,
) -> Result<Identity, E> {
    make(path, expected, Some(origin), write)
}

fn make<E: From<DirectoryError>>(
    path: &Path,
    expected: &Expected,
    restored: Option<Origin>,
    write: impl FnOnce(RealDisk) -> Result<(), E>,
) -> Result<Identity, E> {
    create_directory(path)?;
    check_safe(path)?;
    let origin = restored.as_ref();
    check_initializable(path, origin)?; // before a lock file appears in a directory not ours
    let _lock = lock(path)?;
    check_initializable(path, origin)?; // what another init did before we had the lock
    create_directory(&path.join("tmp"))?;
    create_directory(&path.join(SNAPSHOTS))?;
    let journal_path = path.join("journal");
    create_directory(&journal_path)?;
    let unfinished = journal_path.join(segment_name(1));
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("removing", &unfinished)(error).into());
        }
        _ => {}
    }
    sync_with_ancestors(path)?;
    let root = RealDisk::open(path).map_err(failed("opening", path))?;
    let journal = RealDisk::open(&journal_path).map_err(failed("opening", &journal_path))?;
    let identity = Identity {
        format: DIRECTORY_FORMAT,
        cluster_id: expected.cluster_id.clone(),
        server_id: expected.server_id,
        membership: expected.membership.clone(),
        journal_id: random_number()?,
        restored,
    };
    let snapshots = path.join(SNAPSHOTS);
    let snapshots = RealDisk::open(&snapshots).map_err(failed("opening", &snapshots))?;
    fill_behind(&root, &journal, snapshots, &identity, write)?;
    Ok(identity)
}

/// Writes all files of a new data directory, the snapshot before them: a directory that has an
/// identity has what it says it was restored from.
pub fn fill_behind<D: Disk, E: From<DirectoryError>>(
    root: &D,
    journal: &D,
    snapshots: D,
    identity: &Identity,
    write: impl FnOnce(D) -> Result<(), E>,
) -> Result<(), E> {
    write(snapshots)?;
    fill(root, journal, identity)?;
    Ok(())
}

/// Writes all files of a new data directory; the one that makes it a server's comes last.
pub fn fill<D: Disk>(root: &D, journal: &D, identity: &Identity) -> Result<(), DirectoryError> {
    recovery::create(journal, identity.journal_id)?;
    let nobody_met = peers_met::nobody();
    let text = serde_json::to_vec_pretty(identity).expect("an identity can be written as JSON");
    for (fresh, name, bytes) in [
        (README_FRESH, README, README_TEXT.as_bytes()),
        (peers_met::FRESH_NAME, peers_met::FILE_NAME, &nobody_met),
        (IDENTITY_FRESH, IDENTITY, &text),
    ] {
        let replaced = peers_met::replace(root, fresh, name, bytes);
        replaced.map_err(failed("writing", &root.path(name)))?;
    }
    Ok(())
}

/// Refuses what `init` did not make: above all a journal that has been used. What cannot be looked
/// at may be just that, so every error is a refusal.
fn check_initializable(path: &Path, origin: Option<&Origin>) -> Result<(), DirectoryError> {
    for name in names(path)? {
        if name == IDENTITY {
            return Err(DirectoryError::AlreadyInitialized(path.to_path_buf()));
        }
        if !OURS.contains(&name.as_str()) {
            return Err(not_empty(path, name));
        }
    }
    // It is empty until there is a server, but for what an interrupted restore was about to make.
    // Another backup's snapshot might be the newer one, and the server would begin with that.
    let ours = |name: &String| {
        origin.is_some_and(|origin| {
            snapshot::is_draft(name) || *name == snapshot::file_name(origin.snapshot.last)
        })
    };
    let snapshots = path.join(SNAPSHOTS);
    if snapshots.try_exists().map_err(failed("looking at", &snapshots))?
        && let Some(name) = names(&snapshots)?.iter().find(|name| !ours(name))
    {
        return Err(not_empty(path, format!("{SNAPSHOTS}/{name}")));
    }
    let journal = path.join("journal");
    match fs::metadata(&journal) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("looking at", &journal)(error)),
        Ok(_) => check_unused(path, &journal),
    }
}

/// A journal from an interrupted init holds the record of its creation and a seal: nothing else.
fn check_unused(path: &Path, journal: &Path) -> Result<(), DirectoryError> {
    let names = names(journal)?;
    let first = segment_name(1);
    for name in &names {
        if segment_number(name.strip_suffix(FRESH_SUFFIX).unwrap_or(name)) != Some(1) {
            return Err(not_empty(path, format!("journal/{name}")));
        }
    }
    if !names.contains(&first) {
        return Ok(());
    }
    let file = journal.join(&first);
    let bytes = fs::read(&file).map_err(failed("reading", &file))?;
    let disk = RealDisk::open(journal).map_err(failed("opening", journal))?;
    let journal_id = Header::decode(&bytes).map_or(0, |header| header.journal_id);
    let mut image = Image::default();
    let walked =
        recovery::walk(&disk, journal_id, &mut |found| recovery::apply(&disk, &mut image, found))?;
    let unused = Image { start: Some((0, 0)), ..Image::default() };
    if image != unused || walked.report.cut_bytes != 0 {
        return Err(not_empty(path, "a journal that has been used".to_owned()));
    }
    Ok(())
}

fn not_empty(path: &Path, found: String) -> DirectoryError {
    DirectoryError::NotEmpty { directory: path.to_path_buf(), found }
}

fn names(path: &Path) -> Result<Vec<String>, DirectoryError> {
    let entries = fs::read_dir(path).map_err(failed("listing", path))?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect::<io::Result<_>>().map_err(failed("listing", path))
}
