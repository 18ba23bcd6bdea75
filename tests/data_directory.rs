//! The data directory: how it comes to be, whose it is, and what a start refuses. Rows of
//! `scenarios.md`: S20 clones, S43 interrupted init, S44 lost disks, S46 two processes, S47 unsafe
//! directories, S97 modes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use raft_server::raft::durability::{Write, WriteTicket};
use raft_server::raft::types::{HardState, ServerId, SnapshotId, Term};
use raft_server::storage::disk::Disk;
use raft_server::storage::identity::{
    self, DIRECTORY_FORMAT, DataDirectory, DirectoryError, Expected, Identity,
};
use raft_server::storage::init::{fill, init};
use raft_server::storage::journal::Options;
use raft_server::storage::memory_disk::MemoryDisk;
use raft_server::storage::peers_met::PeersMet;
use raft_server::storage::recording_disk::{Cuts, Files, RecordingDisk};
use raft_server::storage::recovery;

fn expected() -> Expected {
    Expected {
        cluster_id: "c".to_owned(),
        server_id: ServerId(1),
        membership: vec![ServerId(1), ServerId(2)],
    }
}

/// Opens all of it, as a server does.
fn start(path: &Path) -> Result<DataDirectory, DirectoryError> {
    let directory = DataDirectory::open(path, &expected())?;
    directory.peers_met()?;
    let options = Options::new(directory.identity().journal_id, 5);
    recovery::open(directory.journal_disk()?, options, SnapshotId::NONE)?;
    Ok(directory)
}

fn made() -> (tempfile::TempDir, std::path::PathBuf) {
    let parent = tempfile::tempdir().expect("a temporary directory");
    let path = parent.path().join("1");
    init(&path, &expected()).expect("an empty directory");
    (parent, path)
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
}

/// S43, S46, S97: a directory is made once, locked while open, and checked against the
/// configuration.
#[test]
fn a_data_directory_belongs_to_one_server() {
    let parent = tempfile::tempdir().expect("a temporary directory");
    let path = parent.path().join("1");
    let expected = expected();
    let missing = DataDirectory::open(&path, &expected);
    assert!(matches!(missing, Err(DirectoryError::NotInitialized(_))));
    init(&path, &expected).expect("an empty directory");
    assert!(matches!(init(&path, &expected), Err(DirectoryError::AlreadyInitialized(_))));
    fs::remove_file(path.join("identity.json")).expect("as an interrupted init leaves it");
    init(&path, &expected).expect("an interrupted init is run again");
    let other = Expected { server_id: ServerId(2), ..expected.clone() };
    assert!(matches!(DataDirectory::open(&path, &other), Err(DirectoryError::NotOurs { .. })));
    let directory = DataDirectory::open(&path, &expected).expect("it is ours");
    assert!(matches!(DataDirectory::open(&path, &expected), Err(DirectoryError::Locked { .. })));
    let options = Options::new(directory.identity().journal_id, 5);
    let disk = directory.journal_disk().expect("it exists");
    let (mut journal, _) = recovery::open(disk, options, SnapshotId::NONE).expect("it is new");
    let hard_state = Some(HardState { current_term: Term(1), voted_for: None });
    let write = Write { ticket: WriteTicket(0), hard_state, base: None, entries: Vec::new() };
    journal.append_and_sync(&write).expect("the disk is well");
    let mut met = directory.peers_met().expect("nobody was met");
    met.check_and_remember(ServerId(2), 3, 9).expect("a new peer");
    let mut met = directory.peers_met().expect("one was met");
    assert!(met.check_and_remember(ServerId(2), 2, 8).is_err(), "an old copy");
    assert!(met.check_and_remember(ServerId(2), 3, 8).is_err(), "a clone");
    met.check_and_remember(ServerId(2), 4, 8).expect("a restart");
    let mode =
        |name: &str| path.join(name).metadata().expect("exists").permissions().mode() & 0o777;
    assert_eq!((mode(""), mode("journal/00000001.seg"), mode("met.json")), (0o700, 0o600, 0o600));
    let snapshots = directory.snapshots_disk().expect("it exists");
    snapshots.create("x").expect("it is ours");
    assert_eq!((mode("snapshots"), mode("snapshots/x")), (0o700, 0o600));
    drop(directory);
    // A used journal without its identity is not an interrupted init.
    fs::remove_file(path.join("identity.json")).expect("by a careless hand");
    assert!(matches!(init(&path, &expected), Err(DirectoryError::NotEmpty { .. })));
    fs::remove_file(path.join("snapshots/x")).expect("by the same hand");
    assert!(matches!(init(&path, &expected), Err(DirectoryError::NotEmpty { .. })));
    // Nor is what is left of one when its first segment is gone too.
    let (first, second) = (path.join("journal/00000001.seg"), path.join("journal/00000002.seg"));
    fs::rename(first, second).expect("by the same hand");
    assert!(matches!(init(&path, &expected), Err(DirectoryError::NotEmpty { .. })));
}

/// S43: wherever `init` is interrupted and whatever the crash keeps, a start refuses or all is
/// there; and `init` can be run again.
#[test]
fn an_init_interrupted_anywhere_is_run_again() {
    let identity = Identity {
        format: DIRECTORY_FORMAT,
        cluster_id: "c".to_owned(),
        server_id: ServerId(1),
        membership: vec![ServerId(1), ServerId(2)],
        journal_id: 0xFEED,
        restored: None,
    };
    let (root, journal) = (RecordingDisk::default(), RecordingDisk::default());
    fill(&root, &journal, &identity).expect("the disk is well");
    let mut states: Vec<(Files, Files)> = Vec::new();
    for operations in 0..=journal.operations() {
        journal.crash_states(operations, Cuts::Few, &mut |files| {
            states.push((Files::new(), files));
        });
    }
    for operations in 0..=root.operations() {
        root.crash_states(operations, Cuts::Few, &mut |files| {
            states.push((files, journal.files()));
        });
    }
    let mut complete = 0;
    for (root, journal) in &states {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let path = parent.path();
        set_mode(path, 0o700);
        for (directory, files) in [(path.to_path_buf(), root), (path.join("journal"), journal)] {
            let _ = fs::create_dir(&directory);
            set_mode(&directory, 0o700);
            for (name, bytes) in files {
                fs::write(directory.join(name), bytes).expect("it is ours");
                set_mode(&directory.join(name), 0o600);
            }
        }
        for name in ["tmp", "snapshots"] {
            fs::create_dir(path.join(name)).expect("it is ours");
            set_mode(&path.join(name), 0o700);
        }
        match start(path) {
            Ok(_) => complete += 1,
            Err(DirectoryError::NotInitialized(_)) => {
                init(path, &expected()).expect("an interrupted init is run again");
                start(path).expect("it is complete now");
            }
            Err(error) => panic!("{error} in {root:?} {journal:?}"),
        }
    }
    println!("{} states of an interrupted init, {complete} of them complete", states.len());
    assert!(complete > 0 && complete < states.len());
}

/// S43: before there is any file.
#[test]
fn an_init_interrupted_early_is_run_again() {
    for made in 0..5 {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let path = parent.path().join("1");
        for name in ["", "LOCK", "tmp", "snapshots", "journal"].into_iter().take(made + 1) {
            match name {
                "LOCK" => fs::write(path.join(name), "").expect("it is ours"),
                _ => fs::create_dir(path.join(name)).expect("it is ours"),
            }
        }
        for directory in ["", "tmp", "snapshots", "journal"] {
            if path.join(directory).exists() {
                set_mode(&path.join(directory), 0o700);
            }
        }
        assert!(matches!(start(&path), Err(DirectoryError::NotInitialized(_))));
        init(&path, &expected()).expect("an interrupted init is run again");
        start(&path).expect("it is complete now");
    }
}

/// A directory from before there were snapshots is given its place for them; one that had it is
/// not, for what was in it is lost.
#[test]
fn a_directory_without_snapshots_gets_its_place_once() {
    let (_parent, path) = made();
    fs::remove_dir(path.join("snapshots")).expect("it is ours");
    assert!(matches!(start(&path), Err(DirectoryError::Damaged { .. })));
    let file = path.join("identity.json");
    let text = fs::read_to_string(&file).expect("it is ours");
    let old = text.replace("\"format\": 2", "\"format\": 1");
    assert_ne!(old, text);
    fs::write(&file, old).expect("it is ours");
    start(&path).expect("an old directory");
    let mode = path.join("snapshots").metadata().expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    start(&path).expect("again");
}

/// S46: of many inits at once one succeeds, and what it made stays.
#[test]
fn one_of_many_inits_succeeds() {
    for _ in 0..20 {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let path = &parent.path().join("1");
        let inits: Vec<_> = std::thread::scope(|scope| {
            let spawned: Vec<_> = (0..4).map(|_| scope.spawn(|| init(path, &expected()))).collect();
            spawned.into_iter().map(|init| init.join().expect("no panic")).collect()
        });
        let made: Vec<_> = inits.iter().flatten().collect();
        assert_eq!(made.len(), 1, "{inits:?}");
        let directory = start(path).expect("it is complete");
        assert_eq!(directory.identity(), made[0]);
    }
}

/// S47: what others can write to, or is not ours, or cannot be written to, is refused.
#[test]
fn an_unsafe_directory_is_refused() {
    for name in [
        "",
        "journal",
        "tmp",
        "snapshots",
        "identity.json",
        "met.json",
        "journal/00000001.seg",
        "snapshots/1.snap",
    ] {
        let (_parent, path) = made();
        fs::write(path.join("snapshots/1.snap"), "").expect("it is ours");
        set_mode(&path.join("snapshots/1.snap"), 0o600);
        let touched = path.join(name);
        let mode = touched.metadata().expect("it exists").permissions().mode();
        for others in [0o002, 0o020] {
            set_mode(&touched, mode | others);
            assert!(matches!(start(&path), Err(DirectoryError::NotSafe { .. })), "{name:?}");
        }
        set_mode(&touched, mode);
        if std::os::unix::fs::chown(&touched, Some(12345), None).is_ok() {
            assert!(matches!(start(&path), Err(DirectoryError::NotSafe { .. })), "{name:?}");
        }
    }
    let (parent, path) = made();
    let link = parent.path().join("link");
    std::os::unix::fs::symlink(&path, &link).expect("it is ours");
    start(&link).expect("a link is as good as what it leads to");
    set_mode(&path, 0o777);
    assert!(matches!(start(&link), Err(DirectoryError::NotSafe { .. })));
    // Read-only: root may write to everything, so for root the probe is made impossible otherwise.
    let (_parent, path) = made();
    set_mode(&path.join("tmp"), 0o500);
    let _ = fs::create_dir(path.join("tmp/probe")); // only root can
    assert!(matches!(start(&path), Err(DirectoryError::Io { .. })));
}

/// S20, S44: a flipped bit in the small files must not make somebody else of us, nor change whom we
/// have met; and without them there is no start.
#[test]
fn every_flipped_bit_of_the_small_files_is_refused_or_harmless() {
    let (_parent, path) = made();
    let directory = start(&path).expect("it is new");
    let mut met = directory.peers_met().expect("nobody was met");
    met.check_and_remember(ServerId(2), 3, 9).expect("a new peer");
    drop(directory);
    let file = path.join("met.json");
    let bytes = fs::read(&file).expect("it is ours");
    for bit in 0..bytes.len() * 8 {
        let disk = MemoryDisk::new();
        disk.overwrite("met.json", flipped(&bytes, bit));
        if let Ok(mut met) = PeersMet::open(disk) {
            assert!(met.check_and_remember(ServerId(2), 2, 9).is_err(), "bit {bit}");
            assert!(met.check_and_remember(ServerId(2), 3, 8).is_err(), "bit {bit}");
            met.check_and_remember(ServerId(2), 3, 9).expect("the same life");
        }
    }
    fs::remove_file(&file).expect("it is ours");
    assert!(matches!(start(&path), Err(DirectoryError::Damaged { .. })));
    fs::write(&file, bytes).expect("it is ours");
    set_mode(&file, 0o600);
    let file = path.join("identity.json");
    let bytes = fs::read(&file).expect("it is ours");
    let identity = identity::read_identity(&path).expect("it is well");
    for bit in 0..bytes.len() * 8 {
        fs::write(&file, flipped(&bytes, bit)).expect("it is ours");
        // Whatever still reads as another identity contradicts the configuration or the journal.
        if identity::read_identity(&path).is_ok_and(|read| read != identity) {
            assert!(start(&path).is_err(), "bit {bit}");
        }
    }
    fs::write(&file, bytes).expect("it is ours");
    start(&path).expect("all is as it was");
}

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut flipped = bytes.to_vec();
    flipped[bit / 8] ^= 1 << (bit % 8);
    flipped
}

/// `log` reads without the lock: it must be able to say that somebody is writing.
#[test]
fn a_directory_says_who_uses_it() {
    let (_parent, path) = made();
    assert_eq!(identity::in_use_by(&path).expect("it is ours"), None);
    let directory = start(&path).expect("it is new");
    let process = std::process::id().to_string();
    assert_eq!(identity::in_use_by(&path).expect("it is ours"), Some(process));
    drop(directory);
    assert_eq!(identity::in_use_by(&path).expect("it is ours"), None);
}
