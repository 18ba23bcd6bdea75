//! Snapshot files against crashes, damage and a full disk. Rows of `scenarios.md`: S35 full disk,
//! S36 lost names, S38 short and corrupt files, S39 names, S98 crafted files. `crash_states.rs` has
//! snapshots and the journal together.

use std::io;

use proptest::prelude::*;
use raft_server::kv::StateMachine;
use raft_server::limits::SNAPSHOT_ITEM_BYTES_MAX;
use raft_server::raft::types::{EntryId, Index, ServerId, SnapshotId, Stamp, Term};
use raft_server::state_file::{self, StateFileError};
use raft_server::storage::disk::{Disk, DiskReader, RealDisk};
use raft_server::storage::memory_disk::MemoryDisk;
use raft_server::storage::pace::{Hurry, Pace};
use raft_server::storage::recording_disk::{Cuts, Files, RecordingDisk};
use raft_server::storage::snapshot::format::{self, Kind};
use raft_server::storage::snapshot::{
    Found, Header, Options, Reader, SnapshotError, SnapshotFile, Snapshots, file_name, store,
};

const CLUSTER: &str = "c";

/// Blocks of two or three items.
fn options() -> Options {
    Options { block_bytes: 40, ..Options::new(CLUSTER.to_owned()) }
}

fn id(index: u64, term: u64) -> SnapshotId {
    SnapshotId { last: EntryId::new(Term(term), Index(index)), stamp: Stamp(7 * index) }
}

fn header(id: SnapshotId) -> Header {
    let membership = vec![ServerId(1), ServerId(2), ServerId(3)];
    Header { cluster_id: CLUSTER.to_owned(), membership, id, state_hash: 0xABCD, keys: 9 }
}

/// Among them are an empty one, and one that is longer than a block.
fn items(id: SnapshotId) -> Vec<Vec<u8>> {
    let lengths = [3, 9, 0, 12, 90, 1, 17, 20];
    lengths.into_iter().map(|length| vec![id.last.index.0 as u8; length]).collect()
}

fn open<D: Disk>(disk: D) -> (Snapshots<D>, Found<D>) {
    Snapshots::open(disk, options()).expect("the disk is well")
}

/// All items in one block: few writes, and so few ways to lose them.
fn open_few(disk: &RecordingDisk) -> (Snapshots<RecordingDisk>, Found<RecordingDisk>) {
    let options = Options { block_bytes: 1000, ..options() };
    Snapshots::open(disk.clone(), options).expect("the disk is well")
}

fn take<D: Disk>(
    snapshots: &Snapshots<D>,
    id: SnapshotId,
) -> Result<SnapshotFile<D>, SnapshotError> {
    let mut writer = snapshots.begin(header(id))?;
    for item in items(id) {
        writer.item(&item)?;
    }
    writer.finish()
}

fn read<R: DiskReader>(mut reader: Reader<R>) -> Result<Vec<Vec<u8>>, SnapshotError> {
    let mut items = Vec::new();
    while let Some(item) = reader.next_item()? {
        items.push(item.to_vec());
    }
    assert!(reader.next_item()?.is_none(), "what has ended stays so");
    Ok(items)
}

/// A directory with the snapshot of entry 5 and that of entry 9.
fn two() -> MemoryDisk {
    let disk = MemoryDisk::new();
    let (snapshots, _) = open(disk.clone());
    for id in [id(5, 1), id(9, 2)] {
        take(&snapshots, id).expect("the disk is well");
    }
    disk
}

fn bytes_of(disk: &MemoryDisk, id: SnapshotId) -> Vec<u8> {
    disk.read(&file_name(id.last)).expect("it is there")
}

/// What a start takes, and how many damaged ones it has seen before.
fn start(disk: MemoryDisk) -> (SnapshotId, usize) {
    let (_, found) = open(disk);
    (found.id(), found.damaged.len())
}

/// What goes in comes out, in order, on this server and on one that has received the file.
#[test]
fn a_snapshot_gives_back_what_was_written() {
    let disk = two();
    let (snapshots, found) = open(disk.clone());
    let newest = found.newest.expect("there are two");
    assert_eq!((newest.id(), newest.header()), (id(9, 2), &header(id(9, 2))));
    assert_eq!(read(newest.read().expect("it is well")).expect("it is well"), items(id(9, 2)));
    let older = snapshots.read(id(5, 1)).expect("it is well");
    assert_eq!(read(older).expect("it is well"), items(id(5, 1)));

    let follower = MemoryDisk::new();
    let (snapshots, found) = open(follower.clone());
    assert!(found.newest.is_none() && found.damaged.is_empty());
    let mut receiver = snapshots.receive(newest.id(), newest.length_bytes()).expect("memory");
    while receiver.stored_bytes() < newest.length_bytes() {
        let offset = receiver.stored_bytes();
        let chunk = newest.chunk(offset, 11).expect("it is open");
        let early = receiver.store(offset + 1, &chunk);
        assert!(matches!(early, Err(SnapshotError::Misplaced { .. })));
        receiver.store(offset, &chunk).expect("memory");
        let again = receiver.store(offset, &chunk);
        assert!(matches!(again, Err(SnapshotError::Misplaced { .. })));
    }
    assert!(newest.chunk(newest.length_bytes(), 11).expect("it is open").is_empty());
    let received = receiver.finish().expect("it is whole");
    assert_eq!(received.header(), newest.header());
    assert_eq!(bytes_of(&follower, id(9, 2)), bytes_of(&disk, id(9, 2)), "equal to the byte");
    assert_eq!(start(follower), (id(9, 2), 0));
}

/// S38: cut at any byte, with any bit flipped, or longer, a snapshot is damaged, and a start takes
/// the one before it.
#[test]
fn every_cut_and_flip_is_noticed_and_the_snapshot_before_is_taken() {
    let disk = two();
    let bytes = bytes_of(&disk, id(9, 2));
    let mut damaged: Vec<Vec<u8>> = Vec::new();
    damaged.extend((0..bytes.len()).map(|length| bytes[..length].to_vec()));
    damaged.extend((0..bytes.len() * 8).map(|bit| {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    }));
    // Zeros in place of the rear part, and something behind the end.
    damaged.extend((0..bytes.len()).map(|from| {
        let mut zeroed = bytes.clone();
        zeroed[from..].fill(0);
        zeroed
    }));
    damaged.extend([&[0][..], &[0; 4096], b"x", &bytes].map(|tail| [&bytes, tail].concat()));
    for (number, bytes) in damaged.into_iter().enumerate() {
        let expected = bytes == bytes_of(&disk, id(9, 2)); // where zeros stood already
        let copy = MemoryDisk::new();
        copy.overwrite(&file_name(id(5, 1).last), bytes_of(&disk, id(5, 1)));
        copy.overwrite(&file_name(id(9, 2).last), bytes);
        let taken = start(copy.clone());
        assert_eq!(taken == (id(9, 2), 0), expected, "damage {number}: {taken:?}");
        assert!(expected || taken == (id(5, 1), 1), "damage {number}: {taken:?}");
        let (snapshots, _) = open(copy);
        if let (false, Ok(mut reader)) = (expected, snapshots.read(id(9, 2))) {
            while let Ok(Some(_)) = reader.next_item() {}
            assert!(reader.next_item().is_err(), "what is damaged stays so");
        }
    }
}

/// S38: with no other snapshot there is none, and the damaged file is named.
#[test]
fn a_damaged_snapshot_is_named_and_left_alone() {
    let disk = two();
    for id in [id(5, 1), id(9, 2)] {
        let mut bytes = bytes_of(&disk, id);
        bytes.pop();
        disk.overwrite(&file_name(id.last), bytes);
    }
    let (snapshots, found) = open(disk.clone());
    assert_eq!((found.id(), found.damaged.len()), (SnapshotId::NONE, 2));
    let message = found.damaged[0].to_string();
    assert!(message.contains(&file_name(id(9, 2).last)), "{message}");
    // The next one that is well replaces those before it, damaged or not.
    let newest = take(&snapshots, id(9, 2)).expect("the disk is well");
    assert_eq!(snapshots.keep_only(&newest).expect("the disk is well"), 1);
    assert_eq!(disk.list().expect("memory"), [file_name(id(9, 2).last)]);
    assert_eq!(start(disk), (id(9, 2), 0));
}

/// S39: the highest index is the newest, whatever the terms; and a name must fit what is inside.
#[test]
fn the_newest_snapshot_is_the_one_with_the_highest_index() {
    let disk = two();
    let (snapshots, _) = open(disk.clone());
    // As an old server of a high term, and a new one of a low term, would leave them.
    for id in [id(3, 900), id(10, 2), id(100, 2)] {
        take(&snapshots, id).expect("the disk is well");
    }
    assert_eq!(start(disk.clone()), (id(100, 2), 0));
    disk.overwrite(&file_name(id(101, 1).last), bytes_of(&disk, id(3, 900)));
    assert_eq!(start(disk.clone()), (id(100, 2), 1), "a snapshot under another's name");
    let (snapshots, found) = open(disk.clone());
    let newest = found.newest.expect("there are some");
    assert_eq!(snapshots.keep_only(&newest).expect("the disk is well"), 4);
    assert_eq!(start(disk), (id(100, 2), 1));
}

/// What is not ours stays; what was under way goes.
#[test]
fn files_of_others_are_left_alone_and_half_made_ones_removed() {
    let disk = two();
    let strange = ["notes.txt", "9-2.snap", "x.new", "00000000000000000000-0000000000000001.snap"];
    for name in strange {
        disk.overwrite(name, Vec::new());
    }
    disk.overwrite("written-1.new", vec![1]);
    disk.overwrite("received-7.new", vec![1]);
    let (snapshots, found) = open(disk.clone());
    assert_eq!(found.unrecognised.len(), strange.len());
    assert_eq!(disk.list().expect("memory").len(), 2 + strange.len());
    let newest = found.newest.expect("there are two");
    assert_eq!(snapshots.keep_only(&newest).expect("the disk is well"), 1);
    assert_eq!(disk.list().expect("memory").len(), 1 + strange.len());
}

/// A second attempt drops the first, whose owner cannot publish it any more.
#[test]
fn a_second_attempt_drops_the_first() {
    let disk = two();
    let (snapshots, found) = open(disk.clone());
    let bytes = bytes_of(&disk, id(9, 2));
    let newest = found.newest.expect("there are two");
    let receive = || snapshots.receive(newest.id(), newest.length_bytes()).expect("memory");
    let mut first = receive();
    first.store(0, &bytes).expect("memory");
    let second = receive();
    assert_eq!(disk.list().expect("memory").len(), 3);
    assert!(first.finish().is_err());
    second.abandon();
    let first = snapshots.begin(header(id(11, 2))).expect("memory");
    let second = snapshots.begin(header(id(12, 2))).expect("memory");
    assert!(first.finish().is_err());
    assert_eq!(second.finish().expect("memory").id(), id(12, 2));
    assert_eq!(disk.list().expect("memory").len(), 3);
}

/// A file that was being sent stays readable while newer ones replace it.
#[test]
fn an_open_snapshot_outlives_its_name() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (snapshots, _) = open(RealDisk::open(directory.path()).expect("it exists"));
    let old = take(&snapshots, id(5, 1)).expect("the disk is well");
    let whole = old.chunk(0, 10_000).expect("it is open");
    let new = take(&snapshots, id(9, 2)).expect("the disk is well");
    assert_eq!(snapshots.keep_only(&new).expect("the disk is well"), 1);
    assert!(!old.path().exists() && new.path().exists());
    assert_eq!(old.clone().chunk(0, 10_000).expect("it is open"), whole);
    assert_eq!(read(old.read().expect("it is open")).expect("it is well"), items(id(5, 1)));
}

/// Of the files that a newer one replaces, that which somebody reads stays whole for him, and the
/// space of the others is given back before their removal returns, though we have them open.
#[test]
fn what_is_read_stays_whole_and_what_is_not_is_freed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut options = options();
    options.pace = Pace::Considerate(Hurry::default());
    let disk = RealDisk::open(directory.path()).expect("it exists");
    let (snapshots, _) = Snapshots::open(disk, options).expect("it is empty");
    let taken = |index| take(&snapshots, id(index, 1)).expect("the disk is well");
    let (read_on, unread, new) = (taken(5), taken(6), taken(9));
    assert!(!read_on.is_shared());
    let reader = read_on.clone();
    assert!(read_on.is_shared() && reader.is_shared());
    let is_read = |last| last == read_on.id().last;
    assert_eq!(snapshots.remove_before(&new, is_read).expect("the disk is well"), 2);
    assert_eq!(read(reader.read().expect("it is open")).expect("it is well"), items(id(5, 1)));
    assert!(unread.chunk(0, 1).is_err(), "nothing is left of it");
    let disk = RealDisk::open(directory.path()).expect("it exists");
    assert_eq!(store::look(&disk, CLUSTER).expect("it is well").id(), new.id());
}

/// A leader's file must be what was announced, and of this cluster.
#[test]
fn what_was_not_announced_is_refused() {
    let disk = two();
    let bytes = bytes_of(&disk, id(9, 2));
    let receive = |disk: &MemoryDisk, options, id, bytes: &[u8], claimed| {
        let (snapshots, _) = Snapshots::open(disk.clone(), options).expect("memory");
        let mut receiver = snapshots.receive(id, claimed).expect("memory");
        receiver.store(0, bytes)?;
        receiver.finish().map(|_| ())
    };
    let other_stamp = SnapshotId { stamp: Stamp(1), ..id(9, 2) };
    let elsewhere = Options { cluster_id: "d".to_owned(), ..options() };
    let length = bytes.len() as u64;
    for (options, id, bytes) in [
        (options(), id(9, 3), &bytes[..]),
        (options(), id(8, 2), &bytes[..]),
        (options(), other_stamp, &bytes[..]),
        (elsewhere, id(9, 2), &bytes[..]),
        (options(), id(9, 2), &bytes[..bytes.len() - 1]),
        (options(), id(9, 2), &[]),
    ] {
        let follower = MemoryDisk::new();
        let refused = receive(&follower, options, id, bytes, length);
        assert!(matches!(refused, Err(SnapshotError::Damaged { .. })), "{refused:?}");
        assert!(follower.list().expect("memory").is_empty());
    }
    let follower = MemoryDisk::new();
    let more = receive(&follower, options(), id(9, 2), &bytes, length - 1);
    assert!(matches!(more, Err(SnapshotError::Misplaced { .. })));
}

/// What a leader's damaged memory has written is whole as a file and makes no state. It must not
/// get its name: the next start would take it, find no state in it and give up, although what was
/// there before is well.
#[test]
fn what_makes_no_state_gets_no_name() {
    let wrong = MemoryDisk::new();
    let (snapshots, _) = open(wrong.clone());
    take(&snapshots, id(9, 2)).expect("it is whole");
    let bytes = bytes_of(&wrong, id(9, 2));

    let follower = MemoryDisk::new();
    let (snapshots, _) = open(follower.clone());
    let mut state = StateMachine::default();
    (1..=5).for_each(|index| state.apply_nothing(index, 7 * index, &mut Vec::new()));
    let before = state_file::save(&snapshots, CLUSTER, vec![ServerId(1)], id(5, 1), &state);
    let before = before.expect("the disk is well").id();
    let mut receiver = snapshots.receive(id(9, 2), bytes.len() as u64).expect("memory");
    receiver.store(0, &bytes).expect("memory");
    let refused = state_file::install(receiver);
    assert!(matches!(refused, Err(StateFileError::State { .. })), "{refused:?}");
    assert_eq!(follower.list().expect("memory"), [file_name(before.last)]);
    let (_, found) = open(follower);
    state_file::load(&found.newest.expect("it is there")).expect("a start goes on from it");
}

/// Two states of one index: one of them is wrong, and neither replaces the other unseen.
#[test]
fn a_snapshot_that_is_there_is_not_replaced() {
    let disk = two();
    let before = bytes_of(&disk, id(9, 2));
    let (snapshots, _) = open(disk.clone());
    assert_eq!(take(&snapshots, id(9, 2)).expect("it is the same").id(), id(9, 2));
    let other = Header { state_hash: 1, ..header(id(9, 2)) };
    let differs = snapshots.begin(other).expect("memory").finish();
    assert!(matches!(differs, Err(SnapshotError::Differs { .. })));
    assert_eq!(bytes_of(&disk, id(9, 2)), before);
    assert_eq!(disk.list().expect("memory").len(), 2);
}

/// A later format is not damage: an older snapshot must not be taken in its place.
#[test]
fn a_later_format_is_named() {
    let disk = two();
    let mut frame = format::header_frame(&header(id(9, 2)));
    frame[format::FRAME_HEAD_BYTES] += 1;
    format::finish(0, Kind::Header, &mut frame);
    disk.overwrite(&file_name(id(9, 2).last), frame);
    let error = Snapshots::open(disk, options()).expect_err("refused");
    assert!(matches!(error, SnapshotError::UnknownFormat { found: 2, known: 1, .. }), "{error}");
}

/// S35: each operation fails once. What was there before is there as before, nothing is left over,
/// and the next attempt succeeds.
#[test]
fn whatever_fails_nothing_changes_and_the_next_snapshot_succeeds() {
    let begin = |disk: &RecordingDisk| {
        let (snapshots, _) = open_few(disk);
        take(&snapshots, id(5, 1)).expect("the disk is well");
        snapshots
    };
    let disk = RecordingDisk::default();
    let snapshots = begin(&disk);
    let (first, before) = (disk.operations(), disk.files());
    take(&snapshots, id(9, 2)).expect("the disk is well");
    for failing in first..disk.operations() {
        let disk = RecordingDisk::default();
        let snapshots = begin(&disk);
        disk.fail_at(failing);
        let failed = take(&snapshots, id(9, 2));
        assert!(matches!(failed, Err(SnapshotError::Io { .. })), "operation {failing}");
        assert_eq!(disk.files(), before, "operation {failing}");
        let newest = take(&snapshots, id(10, 2)).expect("the disk fails once");
        snapshots.keep_only(&newest).expect("the disk fails once");
        disk.crash_states(disk.operations(), Cuts::Few, &mut |files| {
            let (_, found) = open(RecordingDisk::new(&files));
            assert!(found.damaged.is_empty(), "{:?}", found.damaged);
            assert_eq!(found.id(), id(10, 2));
        });
    }
}

/// S36, S38: after any operation of taking, receiving and removing the power fails. A start finds
/// the newest snapshot that was finished, or the one that was being finished; never half of one.
#[test]
fn every_crash_state_has_the_newest_finished_snapshot() {
    let disk = RecordingDisk::default();
    let mut finished: Vec<SnapshotId> = vec![SnapshotId::NONE];
    let mut note = |disk: &RecordingDisk, during: SnapshotId, after: SnapshotId| {
        finished.resize(disk.operations(), during);
        finished.push(after);
    };
    let (snapshots, _) = open_few(&disk);
    note(&disk, SnapshotId::NONE, SnapshotId::NONE);
    let mut before = SnapshotId::NONE;
    for id in [id(5, 1), id(9, 2)] {
        let file = take(&snapshots, id).expect("the disk is well");
        note(&disk, before, id);
        snapshots.keep_only(&file).expect("the disk is well");
        note(&disk, id, id);
        before = id;
    }
    let leader = RecordingDisk::default();
    let sent = take(&open(leader).0, id(20, 3)).expect("the disk is well");
    let mut receiver = snapshots.receive(sent.id(), sent.length_bytes()).expect("memory");
    receiver.store(0, &sent.chunk(0, 100).expect("open")).expect("memory");
    receiver.store(100, &sent.chunk(100, 10_000).expect("open")).expect("memory");
    let file = receiver.finish().expect("the disk is well");
    note(&disk, before, sent.id());
    snapshots.keep_only(&file).expect("the disk is well");
    note(&disk, sent.id(), sent.id());
    let mut states = 0;
    for (operations, promised) in finished.iter().enumerate() {
        disk.crash_states(operations, Cuts::Every, &mut |files: Files| {
            let (_, found) = open(RecordingDisk::new(&files));
            assert!(found.damaged.is_empty(), "{:?}", found.damaged);
            let index = found.id().last.index;
            assert!(index >= promised.last.index, "{index} after {promised}");
            states += 1;
        });
    }
    println!("{states} crash states, 0 wrong");
    assert!(states > 1000, "the workload has become too small: {states}");
}

/// Items of any number and length: blocks are bounded, the file is read in little memory.
#[test]
fn items_of_full_size_pass_and_longer_ones_do_not() {
    let disk = MemoryDisk::new();
    let (snapshots, _) =
        Snapshots::open(disk.clone(), Options::new(CLUSTER.to_owned())).expect("the disk is well");
    let mut writer = snapshots.begin(header(id(1, 1))).expect("memory");
    let full = vec![3; SNAPSHOT_ITEM_BYTES_MAX];
    writer.item(&full).expect("it is not too long");
    writer.item(b"small").expect("memory");
    let file = writer.finish().expect("memory");
    let mut reader = file.read().expect("it is well");
    assert!(reader.next_item().expect("it is well") == Some(&full[..]));
    assert_eq!(reader.next_item().expect("it is well"), Some(&b"small"[..]));
    let mut writer = snapshots.begin(header(id(2, 1))).expect("memory");
    let too_long = writer.item(&vec![3; SNAPSHOT_ITEM_BYTES_MAX + 1]);
    assert!(matches!(too_long, Err(SnapshotError::ItemTooLong(_))));
    assert!(writer.item(b"small").is_ok() || disk.list().expect("memory").len() == 1);
    assert!(writer.finish().is_err());
    assert_eq!(disk.list().expect("memory").len(), 1);
}

/// A file of whatever frames, each of which checks: as somebody could craft it (S98).
fn crafted(frames: &[(Kind, Vec<u8>)]) -> Vec<u8> {
    let (mut bytes, mut crc) = (Vec::new(), 0);
    for (kind, payload) in frames {
        let mut frame = vec![0; format::FRAME_HEAD_BYTES];
        frame.extend(payload);
        crc = format::finish(crc, *kind, &mut frame);
        bytes.extend(frame);
    }
    bytes
}

fn is_refused(bytes: Vec<u8>) -> bool {
    let disk = MemoryDisk::new();
    disk.overwrite(&file_name(id(9, 2).last), bytes);
    store::verify(&disk, id(9, 2).last, CLUSTER).is_err()
}

/// S98: what checks is not yet sane.
#[test]
fn crafted_files_are_refused() {
    let header_of = |header: &Header| {
        let payload = format::header_frame(header)[format::FRAME_HEAD_BYTES..].to_vec();
        (Kind::Header, payload)
    };
    let sound = header_of(&header(id(9, 2)));
    let end = |items: u64| (Kind::End, items.to_le_bytes().to_vec());
    let block = |bytes: &[u8]| (Kind::Block, bytes.to_vec());
    assert!(!is_refused(crafted(&[sound.clone(), end(0)])));
    assert!(!is_refused(crafted(&[sound.clone(), block(&[1, 0, 0, 0, 7]), end(1)])));
    let mut longer = sound.clone();
    longer.1.push(0);
    let wrong = |change: fn(&mut Header)| {
        let mut header = header(id(9, 2));
        change(&mut header);
        header_of(&header)
    };
    for frames in [
        vec![],
        vec![end(0)],
        vec![block(&[0; 4]), end(1)],
        vec![sound.clone()],
        vec![sound.clone(), sound.clone(), end(0)],
        vec![sound.clone(), end(1)],
        vec![sound.clone(), end(0), end(0)],
        vec![sound.clone(), end(0), block(&[0; 4])],
        vec![sound.clone(), (Kind::End, Vec::new())],
        vec![sound.clone(), block(&[1, 0, 0]), end(1)],
        vec![sound.clone(), block(&[2, 0, 0, 0, 7]), end(1)],
        vec![sound.clone(), block(&[255, 255, 255, 255, 7]), end(1)],
        vec![longer, end(0)],
        vec![(Kind::Header, vec![1]), end(0)],
        vec![(Kind::Header, vec![1, 0, 255, 255, 255, 255, 255, 255, 255, 255, 127]), end(0)],
        vec![wrong(|header| header.id = SnapshotId::NONE), end(0)],
        vec![wrong(|header| header.id.last.index = Index(u64::MAX)), end(0)],
        vec![wrong(|header| header.id.last.term = Term(u64::MAX)), end(0)],
        vec![wrong(|header| header.membership = Vec::new()), end(0)],
        vec![wrong(|header| header.cluster_id = "d".to_owned()), end(0)],
    ] {
        assert!(is_refused(crafted(&frames)), "{frames:?}");
    }
    // A block that says it has 4 GiB.
    let mut claims = crafted(&[sound]);
    claims.extend(b"RSB1");
    claims.extend([255; 8]);
    assert!(is_refused(claims));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// S98: bytes from anywhere are refused or read, and never a panic.
    #[test]
    fn random_bytes_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        payload in proptest::collection::vec(any::<u8>(), 0..60),
        changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..8),
    ) {
        is_refused(bytes);
        is_refused(crafted(&[(Kind::Header, payload.clone())]));
        let sound = format::header_frame(&header(id(9, 2)))[format::FRAME_HEAD_BYTES..].to_vec();
        is_refused(crafted(&[(Kind::Header, sound), (Kind::Block, payload)]));
        let mut changed = bytes_of(&two(), id(9, 2));
        for (at, byte) in changes {
            let at = usize::from(at) % changed.len();
            changed[at] = byte;
        }
        let same = changed == bytes_of(&two(), id(9, 2));
        prop_assert!(same || is_refused(changed));
    }

    /// Any items, in blocks of any length, come back as they were.
    #[test]
    fn any_items_come_back(
        lengths in proptest::collection::vec(0_usize..300, 0..40),
        block_bytes in 1_usize..400,
    ) {
        let options = Options { block_bytes, ..options() };
        let (snapshots, _) = Snapshots::open(MemoryDisk::new(), options).expect("memory");
        let items: Vec<Vec<u8>> =
            lengths.iter().map(|&length| vec![length as u8; length]).collect();
        let mut writer = snapshots.begin(header(id(1, 1))).expect("memory");
        for item in &items {
            writer.item(item).expect("memory");
        }
        let file = writer.finish().expect("memory");
        prop_assert_eq!(read(file.read().expect("it is well")).expect("it is well"), items);
    }
}

/// A restart must not keep a cluster waiting: 300 MB are verified in well under 3 s (in the wide
/// suite; otherwise a fiftieth of it).
#[test]
fn a_large_snapshot_is_verified_in_seconds() {
    let items = if std::env::var_os("RAFT_TEST_WIDE").is_some() { 1_000_000 } else { 20_000 };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let disk = || RealDisk::open(directory.path()).expect("it exists");
    let options = Options::new(CLUSTER.to_owned());
    let (snapshots, _) = Snapshots::open(disk(), options.clone()).expect("it is empty");
    let began = std::time::Instant::now();
    let mut writer = snapshots.begin(header(id(7, 1))).expect("the disk is well");
    for _ in 0..items {
        writer.item(&[7; 296]).expect("the disk is well");
    }
    let file = writer.finish().expect("the disk is well");
    println!("{} bytes written and proven in {:?}", file.length_bytes(), began.elapsed());
    let began = std::time::Instant::now();
    let (_, found) = Snapshots::open(disk(), options).expect("it is well");
    println!("{} bytes verified in {:?}", file.length_bytes(), began.elapsed());
    assert_eq!(found.id(), id(7, 1));
    assert!(began.elapsed() < std::time::Duration::from_secs(3));
}

/// The chunk of a file on a real disk ends where the file ends, and an offset beyond it is empty.
#[test]
fn chunks_end_with_the_file() -> io::Result<()> {
    let directory = tempfile::tempdir()?;
    let (snapshots, _) = open(RealDisk::open(directory.path())?);
    let file = take(&snapshots, id(5, 1)).expect("the disk is well");
    let length = file.length_bytes();
    assert_eq!(file.chunk(0, usize::MAX)?.len() as u64, length);
    assert_eq!(file.chunk(length - 3, 10)?.len(), 3);
    assert!(file.chunk(length, 10)?.is_empty() && file.chunk(u64::MAX, 10)?.is_empty());
    Ok(())
}
