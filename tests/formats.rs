//! Data directories that earlier versions of this program have written, one for each format of the
//! journal, in `tests/formats/`. An upgrade must find everything in them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use raft_server::raft::durability::{Write, WriteTicket};
use raft_server::raft::types::{
    Command, Entry, EntryId, HardState, Index, Payload, ServerId, SnapshotId, Stamp, Term,
};
use raft_server::storage::disk::{Disk, RealDisk};
use raft_server::storage::identity::{DataDirectory, Expected};
use raft_server::storage::init::init;
use raft_server::storage::journal::{Journal, Options};
use raft_server::storage::recovery;
use raft_server::storage::snapshot::{self, Found, Header, SnapshotFile, Snapshots};

/// What a snapshot holds.
const ITEMS: [&[u8]; 3] = [b"one", b"", b"three"];

fn expected() -> Expected {
    Expected {
        cluster_id: "formats".to_owned(),
        server_id: ServerId(1),
        membership: vec![ServerId(1), ServerId(2), ServerId(3)],
    }
}

/// Segments of two or three batches.
fn options(directory: &DataDirectory) -> Options {
    Options { segment_bytes: 400, ..Options::new(directory.identity().journal_id, 7) }
}

fn entry(index: u64, term: u64) -> Entry {
    let payload = match index % 4 {
        0 => Payload::Noop,
        _ => Payload::Command(Command::from(format!("{index}@{term}").repeat(5).as_bytes())),
    };
    Entry { id: EntryId::new(Term(term), Index(index)), stamp: Stamp(7 * index), payload }
}

fn state(term: u64, vote: Option<u32>) -> Option<HardState> {
    Some(HardState { current_term: Term(term), voted_for: vote.map(ServerId) })
}

fn write(
    hard_state: Option<HardState>,
    term: u64,
    indexes: std::ops::RangeInclusive<u64>,
) -> Write {
    let entries = indexes.map(|index| entry(index, term)).collect();
    Write { ticket: WriteTicket(0), hard_state, base: None, entries }
}

fn append<D: Disk>(journal: &mut Journal<D>, writes: &[Write]) {
    for write in writes {
        journal.append_and_sync(write).expect("the disk is well");
    }
}

fn id(index: u64, term: u64) -> SnapshotId {
    SnapshotId { last: EntryId::new(Term(term), Index(index)), stamp: Stamp(7 * index) }
}

fn open_snapshots(directory: &DataDirectory) -> (Snapshots<RealDisk>, Found<RealDisk>) {
    let options = snapshot::Options::new(expected().cluster_id);
    Snapshots::open(directory.snapshots_disk().expect("it exists"), options).expect("it is well")
}

fn take_snapshot(snapshots: &Snapshots<RealDisk>, index: u64, term: u64) -> SnapshotFile<RealDisk> {
    let Expected { cluster_id, membership, .. } = expected();
    let id = id(index, term);
    let header = Header { cluster_id, membership, id, state_hash: 0xABCD, keys: 2 };
    let mut writer = snapshots.begin(header).expect("the disk is well");
    for item in ITEMS {
        writer.item(item).expect("the disk is well");
    }
    writer.finish().expect("the disk is well")
}

/// Makes a directory of the format that the program has now, for the versions to come:
/// `RAFT_TEST_FORMAT=tests/formats/3 cargo test --test formats -- --ignored`, and then remove what
/// is empty, `LOCK` and `tmp/`.
#[test]
#[ignore = "done once for each format"]
fn make_a_directory_of_this_format() {
    let path = std::env::var_os("RAFT_TEST_FORMAT").expect("RAFT_TEST_FORMAT names a directory");
    let path = PathBuf::from(path);
    init(&path, &expected()).expect("an empty directory");
    let directory = DataDirectory::open(&path, &expected()).expect("it is ours");
    let open = || {
        let disk = directory.journal_disk().expect("it exists");
        recovery::open(disk, options(&directory), SnapshotId::NONE).expect("it is well").0
    };
    let mut journal = open();
    append(&mut journal, &[write(state(1, Some(1)), 1, 1..=4), write(None, 1, 5..=6)]);
    journal.seal().expect("the disk is well");
    let mut journal = open();
    // Entries 3 to 6 of the first term are replaced.
    append(&mut journal, &[write(state(2, None), 2, 3..=5), write(None, 2, 6..=9)]);
    append(&mut journal, &[write(None, 2, 10..=12), write(state(3, Some(2)), 3, 13..=13)]);
    // Since format 3: a snapshot, what it covers gone, and a log that begins anew.
    let (snapshots, _) = open_snapshots(&directory);
    take_snapshot(&snapshots, 8, 2);
    journal.snapshot_published(id(8, 2));
    while journal.do_chore().expect("the disk is well") {}
    let newest = take_snapshot(&snapshots, 20, 3);
    snapshots.keep_only(&newest).expect("the disk is well");
    let anew = Write { base: Some(id(20, 3)), ..write(None, 3, 21..=22) };
    append(&mut journal, &[anew, write(None, 3, 23..=25)]);
    directory.peers_met().expect("it is new").check_and_remember(ServerId(2), 4, 9).expect("new");
}

/// Git keeps neither modes nor empty directories.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("it is ours");
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).expect("it is ours");
    for entry in fs::read_dir(from).expect("it is in the repository") {
        let entry = entry.expect("a directory can be listed");
        let copied = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &copied);
        } else {
            fs::copy(entry.path(), &copied).expect("it is ours");
            fs::set_permissions(&copied, fs::Permissions::from_mode(0o600)).expect("it is ours");
        }
    }
}

/// A directory of some format, as its server left it.
fn directory(format: u32) -> (tempfile::TempDir, PathBuf) {
    let parent = tempfile::tempdir().expect("a temporary directory");
    let path = parent.path().join("data");
    let stored = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats");
    copy(&stored.join(format.to_string()), &path);
    fs::create_dir(path.join("tmp")).expect("it is ours");
    fs::set_permissions(path.join("tmp"), fs::Permissions::from_mode(0o700)).expect("it is ours");
    (parent, path)
}

/// Format 2: several segments, none of which repeats what came before it.
#[test]
fn a_directory_of_format_2_opens_with_all_its_content() {
    let (_parent, path) = directory(2);
    let directory = DataDirectory::open(&path, &expected()).expect("it is ours");
    assert!(fs::read_dir(path.join("journal")).expect("it exists").count() >= 3);
    let mut met = directory.peers_met().expect("it is well");
    assert!(met.check_and_remember(ServerId(2), 3, 9).is_err(), "whom it has met");
    let disk = directory.journal_disk().expect("it exists");
    let (_, recovered) =
        recovery::open(disk, options(&directory), SnapshotId::NONE).expect("it is well");
    let terms = [1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3];
    let entries: Vec<Entry> = (1..).zip(terms).map(|(index, term)| entry(index, term)).collect();
    assert_eq!(recovered.entries, entries);
    assert_eq!(Some(recovered.hard_state), state(3, Some(2)));
    assert_eq!(recovered.incarnation, 3);
}

/// Of format 2, too, a server lives on: once a snapshot covers its segments, they are removed.
#[test]
fn segments_of_format_2_are_removed_when_a_snapshot_covers_them() {
    let (_parent, path) = directory(2);
    let directory = DataDirectory::open(&path, &expected()).expect("it is ours");
    let open = |snapshot| {
        let disk = directory.journal_disk().expect("it exists");
        recovery::open(disk, options(&directory), snapshot).expect("it is well")
    };
    let segments = || fs::read_dir(path.join("journal")).expect("it exists").count();
    let (mut journal, _) = open(SnapshotId::NONE);
    append(&mut journal, &[write(None, 3, 14..=16), write(None, 3, 17..=18)]);
    journal.snapshot_published(id(12, 2));
    assert!(!journal.do_chore().expect("the disk is well"), "none can be read alone");
    let (snapshots, _) = open_snapshots(&directory);
    let newest = take_snapshot(&snapshots, 16, 3).id();
    journal.snapshot_published(newest);
    let before = segments();
    while journal.do_chore().expect("the disk is well") {
        assert_eq!(open(newest).1.entries, [entry(17, 3), entry(18, 3)]);
    }
    assert!(segments() + 2 < before, "{before} segments, and now {}", segments());
}

/// Format 3: a log that begins behind a snapshot, in segments the first of which are gone.
#[test]
fn a_directory_of_format_3_opens_with_all_its_content() {
    let (_parent, path) = directory(3);
    let directory = DataDirectory::open(&path, &expected()).expect("it is ours");
    let (_, found) = open_snapshots(&directory);
    let newest = found.newest.expect("there is one");
    assert_eq!((newest.id(), newest.header().state_hash), (id(20, 3), 0xABCD));
    let mut reader = newest.read().expect("it is well");
    for item in ITEMS {
        assert_eq!(reader.next_item().expect("it is well"), Some(item));
    }
    assert!(reader.next_item().expect("it is well").is_none());
    let disk = directory.journal_disk().expect("it exists");
    let (_, recovered) = recovery::open(disk, options(&directory), id(20, 3)).expect("it is well");
    let entries: Vec<Entry> = (21..=25).map(|index| entry(index, 3)).collect();
    assert_eq!(recovered.entries, entries);
    assert_eq!(Some(recovered.hard_state), state(3, Some(2)));
    assert_eq!((recovered.incarnation, recovered.report.oldest_segment > 1), (3, true));
}
