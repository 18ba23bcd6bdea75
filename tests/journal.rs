//! The journal against crashes and damage. Rows of `scenarios.md`: S28 torn, S29 zeros, S30 stale
//! bytes, S31 and S32 flipped bits, S33 unsynced bytes, S34 failed sync, S35 half a write, S36 lost
//! names, S41 interrupted truncation, S42 rotation, S98 crafted files. `crash_states.rs` tries all
//! crashes of one workload; here are the random ones, and damage.

use std::cell::Cell;
use std::io::{self, BufRead};
use std::rc::Rc;

use proptest::prelude::*;
use raft_server::raft::durability::{WRITE_OVERHEAD_BYTES, Write, WriteTicket};
use raft_server::raft::types::{
    Command, Entry, EntryId, HardState, Index, Payload, ServerId, SnapshotId, Stamp, Term,
};
use raft_server::storage::disk::{Disk, DiskFile};
use raft_server::storage::error::JournalError;
use raft_server::storage::journal::{Journal, Options, segment_name};
use raft_server::storage::memory_disk::MemoryDisk;
use raft_server::storage::recovery::{self, Recovered};
use raft_server::storage::reserve::{Reservation, Reserved};

const OPTIONS: Options = Options { journal_id: 0xFEED, run_id: 7, segment_bytes: 240 };

fn entry(index: u64, term: u64) -> Entry {
    let command = Command::from(format!("{index}@{term}").as_bytes());
    Entry {
        id: EntryId::new(Term(term), Index(index)),
        stamp: Stamp(7 * index),
        payload: Payload::Command(command),
    }
}

fn write(term: u64, indexes: std::ops::RangeInclusive<u64>) -> Write {
    let hard_state = HardState { current_term: Term(term), voted_for: Some(ServerId(1)) };
    let entries = indexes.map(|index| entry(index, term)).collect();
    Write { ticket: WriteTicket(0), hard_state: Some(hard_state), base: None, entries }
}

fn open(disk: &MemoryDisk) -> Result<(Journal<MemoryDisk>, Recovered), JournalError> {
    recovery::open(disk.clone(), OPTIONS, SnapshotId::NONE)
}

fn opened(disk: &MemoryDisk) -> (Journal<MemoryDisk>, Recovered) {
    open(disk).expect("the journal is well")
}

fn created() -> MemoryDisk {
    let disk = MemoryDisk::new();
    recovery::create(&disk, OPTIONS.journal_id).expect("the disk is well");
    disk
}

/// Eight writes over several segments, the third of which replaces entry 2.
fn filled() -> (MemoryDisk, Journal<MemoryDisk>) {
    let disk = created();
    let (mut journal, _) = opened(&disk);
    for step in [write(1, 1..=2), write(1, 3..=3), write(2, 2..=2)] {
        journal.append_and_sync(&step).expect("the disk is well");
    }
    for index in 3..=7 {
        journal.append_and_sync(&write(2, index..=index)).expect("the disk is well");
    }
    assert!(journal.segment() >= 3, "the test wants several segments");
    (disk, journal)
}

/// A separate directory with the same bytes.
fn copy(disk: &MemoryDisk) -> MemoryDisk {
    let copied = MemoryDisk::new();
    for name in disk.list().expect("memory") {
        copied.overwrite(&name, disk.read(&name).expect("memory"));
    }
    copied
}

fn newest(disk: &MemoryDisk) -> String {
    disk.list().expect("memory").into_iter().max().expect("there is a segment")
}

/// S41: what was replaced stays replaced, and each start is a new incarnation.
#[test]
fn a_journal_gives_back_what_was_written() {
    let (disk, _) = filled();
    let (_, first) = opened(&disk);
    let (_, second) = opened(&disk);
    assert_eq!((first.incarnation, second.incarnation), (2, 3));
    assert_eq!(first.entries, second.entries);
    let expected: Vec<Entry> =
        (1..=7).map(|index| entry(index, 1 + u64::from(index > 1))).collect();
    assert_eq!(first.entries, expected);
}

/// S28: a write cut at any byte is cut away, and nothing before it.
#[test]
fn a_torn_tail_is_cut_and_nothing_else() {
    let (disk, mut journal) = filled();
    journal.seal().expect("the disk is well");
    let name = newest(&disk);
    let before = disk.read(&name).expect("memory");
    journal.append_and_sync(&write(2, 8..=8)).expect("the disk is well");
    assert_eq!(name, newest(&disk), "the test wants the last write in the same segment");
    let after = disk.read(&name).expect("memory");
    for cut in before.len()..=after.len() {
        let torn = copy(&disk);
        torn.overwrite(&name, after[..cut].to_vec());
        let entries = opened(&torn).1.entries.len();
        assert_eq!(entries, if cut == after.len() { 8 } else { 7 }, "cut at {cut}");
    }
}

/// S31, S32: in a sealed journal no flipped bit goes unnoticed; only the seal itself may be cut.
#[test]
fn every_flipped_bit_of_a_sealed_journal_is_refused_or_harmless() {
    let (disk, mut journal) = filled();
    journal.seal().expect("the disk is well");
    let expected = opened(&copy(&disk)).1.entries;
    let last = newest(&disk);
    for name in disk.list().expect("memory") {
        let bytes = disk.read(&name).expect("memory");
        for bit in 0..bytes.len() * 8 {
            let flipped = copy(&disk);
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            flipped.overwrite(&name, damaged);
            match open(&flipped) {
                Err(JournalError::Damaged { file, offset_bytes, .. }) => {
                    assert_eq!(file, disk.path(&name), "bit {bit}");
                    assert!(offset_bytes <= bit as u64 / 8, "bit {bit}");
                }
                Err(error) => panic!("bit {bit} of {name}: {error}"),
                Ok((_, recovered)) => {
                    let in_the_seal = name == last && bit / 8 >= bytes.len() - 48;
                    assert!(in_the_seal, "bit {bit} of {name} went unnoticed");
                    assert_eq!(recovered.entries, expected);
                }
            }
        }
    }
}

/// S29, S30: zeros and older batches behind the end are ignored.
#[test]
fn zeros_and_stale_bytes_behind_the_end_are_ignored() {
    let (disk, _) = filled();
    let expected = opened(&copy(&disk)).1.entries;
    let stale = disk.read(&segment_name(1)).expect("memory");
    for tail in [vec![0; 4096], stale] {
        for name in disk.list().expect("memory") {
            let longer = copy(&disk);
            let mut bytes = disk.read(&name).expect("memory");
            bytes.extend(&tail);
            longer.overwrite(&name, bytes);
            assert_eq!(opened(&longer).1.entries, expected, "behind {name}");
        }
    }
}

/// S42: a missing segment, an empty first one, and another journal's file are named.
#[test]
fn missing_and_foreign_segments_are_refused() {
    // The first one holds no entries here, and what else it says is said again by the second.
    for segment in 2..filled().1.segment() {
        let (disk, _) = filled();
        disk.remove(&segment_name(segment)).expect("memory");
        assert!(matches!(open(&disk), Err(JournalError::Damaged { .. })));
    }
    let (disk, _) = filled();
    let other = Options { journal_id: 1, ..OPTIONS };
    assert!(matches!(
        recovery::open(disk, other, SnapshotId::NONE),
        Err(JournalError::Damaged { .. })
    ));
    assert!(matches!(open(&MemoryDisk::new()), Err(JournalError::Damaged { .. })));
}

/// S33–S36: whichever operation fails and whatever the crash keeps, what was acknowledged is there
/// after the next start, and stays there when that start is interrupted by a crash too.
#[test]
fn no_crash_loses_an_acknowledged_write() {
    for seed in 0..4000_u64 {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut choose = move |options: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % options
        };
        let disk = created();
        let (mut acknowledged, mut incarnation) = (0, 0);
        for _ in 0..4 {
            disk.fail_after(Some(choose(30) as u64));
            if let Ok((mut journal, recovered)) = open(&disk) {
                assert!(recovered.incarnation > incarnation, "seed {seed}: an incarnation twice");
                incarnation = recovered.incarnation;
                let mut last = recovered.entries.len() as u64;
                assert!(last >= acknowledged, "seed {seed}: an acknowledged entry is lost");
                acknowledged = last; // recovery vouches for what it returns
                while journal.append_and_sync(&write(1, last + 1..=last + 1)).is_ok() {
                    last += 1;
                    acknowledged = last;
                    if choose(3) == 0 && journal.seal().is_err() {
                        break;
                    }
                }
                disk.fail_after(None);
                assert!(journal.seal().is_err(), "seed {seed}: a failed journal goes on");
            }
            disk.crash(&mut choose);
        }
        let (_, recovered) = open(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(recovered.entries.len() as u64 >= acknowledged, "seed {seed}: entry lost");
    }
}

/// `log verify` must say what a start then does, and change nothing.
#[test]
fn the_verdict_is_what_a_start_does() {
    use raft_server::storage::dump::{Form, Verdict, dump};
    let (disk, _) = filled();
    let mut text = Vec::new();
    let render = |command: &Command| command.0.escape_ascii().to_string();
    let operations = disk.operations();
    let verdict = dump(&disk, OPTIONS.journal_id, SnapshotId::NONE, &render, Form::Text, &mut text)
        .expect("memory");
    assert_eq!(disk.operations(), operations);
    let Verdict::Starts { last, .. } = verdict else { panic!("refused: {verdict:?}") };
    assert_eq!(last, EntryId::new(Term(2), Index(7)));
    assert!(String::from_utf8_lossy(&text).contains("entry 7@T2 7@2"));
    let mut lines = Vec::new();
    dump(&disk, OPTIONS.journal_id, SnapshotId::NONE, &render, Form::Json, &mut lines)
        .expect("memory");
    assert_eq!(lines.lines().count(), text.lines().count());
    for line in lines.lines() {
        let line = line.expect("memory");
        let value: serde_json::Value = serde_json::from_str(&line).expect("one object each");
        assert!(value["record"].is_string() && value["offset_bytes"].is_u64(), "{line}");
    }
    disk.remove(&segment_name(2)).expect("memory");
    let verdict = dump(&disk, OPTIONS.journal_id, SnapshotId::NONE, &render, Form::Text, &mut text)
        .expect("memory");
    let Verdict::Refuses { file, offset_bytes, .. } = verdict else { panic!("{verdict:?}") };
    assert_eq!((file, offset_bytes), (Some(disk.path(&segment_name(3))), Some(0)));
}

/// A restart must not keep a cluster waiting: a million entries of 256 bytes (in the wide suite,
/// which writes 300 MB; otherwise a fiftieth of it) in under 3 s.
#[test]
fn a_million_entries_are_read_in_seconds() {
    let batches = if std::env::var_os("RAFT_TEST_WIDE").is_some() { 1000 } else { 20 };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let disk = || raft_server::storage::disk::RealDisk::open(directory.path()).expect("it exists");
    recovery::create(&disk(), 1).expect("the disk is well");
    let (mut journal, _) =
        recovery::open(disk(), Options::new(1, 1), SnapshotId::NONE).expect("it is new");
    for batch in 0..batches {
        let mut step = write(1, batch * 1000 + 1..=(batch + 1) * 1000);
        for entry in &mut step.entries {
            entry.payload = Payload::Command(Command::from([7; 256].as_slice()));
        }
        journal.append_and_sync(&step).expect("the disk is well");
    }
    let began = std::time::Instant::now();
    let (_, recovered) =
        recovery::open(disk(), Options::new(1, 2), SnapshotId::NONE).expect("it is well");
    println!("{} entries in {:?}", recovered.entries.len(), began.elapsed());
    assert!(began.elapsed() < std::time::Duration::from_secs(3));
}

/// A later format is not damage: the program names both formats instead of refusing as damaged.
#[test]
fn a_later_format_is_named() {
    use raft_server::storage::batch::{self, Header};
    let disk = created();
    let mut bytes = disk.read(&segment_name(1)).expect("memory");
    let header = Header::decode(&bytes).expect("it begins with a batch");
    let later = Header { version: batch::FORMAT_VERSION + 1, ..header };
    batch::finish(&later, &mut bytes[..header.batch_bytes()]);
    disk.overwrite(&segment_name(1), bytes);
    let error = open(&disk).expect_err("refused");
    assert!(matches!(error, JournalError::UnknownFormat { found: 4, known: 3, .. }), "{error}");
}

/// S28: any file cut at any byte. A finished segment is missed; of the newest, a whole number of
/// writes remains.
#[test]
fn a_journal_cut_anywhere_is_refused_or_a_prefix() {
    let (disk, mut journal) = filled();
    journal.seal().expect("the disk is well");
    let last = newest(&disk);
    for name in disk.list().expect("memory") {
        let bytes = disk.read(&name).expect("memory");
        for length in 0..bytes.len() {
            let cut = copy(&disk);
            cut.overwrite(&name, bytes[..length].to_vec());
            match open(&cut) {
                Ok((_, recovered)) => {
                    assert_eq!(name, last, "a finished segment was cut at {length}");
                    let term = |index| 1 + u64::from(index > 1);
                    let indexes = 1..=recovered.entries.len() as u64;
                    let expected: Vec<Entry> =
                        indexes.map(|index| entry(index, term(index))).collect();
                    assert_eq!(recovered.entries, expected, "cut at {length}");
                }
                Err(JournalError::Damaged { .. }) => assert_ne!(name, last, "cut at {length}"),
                Err(error) => panic!("{name} cut at {length}: {error}"),
            }
        }
    }
}

/// A batch that checks, with any payload, as somebody could craft it.
fn craft(disk: &MemoryDisk, payload: &[u8]) {
    use raft_server::storage::batch::{self, HEADER_BYTES, Header};
    let name = segment_name(1);
    let mut bytes = disk.read(&name).expect("memory");
    let (mut at, mut last) = (0, None);
    while let Some(header) = Header::decode(&bytes[at..]) {
        at += header.batch_bytes();
        last = Some(header);
    }
    let last = last.expect("a journal begins with a batch");
    let header = Header { batch: last.batch + 1, previous_crc: last.crc, ..last };
    bytes.resize(at + HEADER_BYTES, 0);
    bytes.extend(payload);
    batch::finish(&header, &mut bytes[at..]);
    disk.overwrite(&name, bytes);
}

/// S98: what checks is not yet sane. No panic, now or in the core, and no giant allocation.
#[test]
fn crafted_records_are_refused() {
    use raft_server::raft::types::NUMBER_MAX;
    use raft_server::storage::record::{Record, encode};
    let at = |index, term| Entry { id: EntryId::new(Term(term), Index(index)), ..entry(1, 1) };
    let state = |term| {
        Record::HardState(HardState { current_term: Term(term), voted_for: Some(ServerId(1)) })
    };
    let (gap, zero, far, high) = (at(3, 1), at(0, 1), at(u64::MAX, 1), at(1, 9));
    let (second, lower) = (at(1, 1), at(2, 0));
    let base = |index, term| {
        let last = EntryId::new(Term(term), Index(index));
        Record::Base(SnapshotId { last, stamp: Stamp(0) })
    };
    let (hard_state, last) = (HardState::default(), EntryId::ZERO);
    let head = Record::Head { incarnation: 0, run_id: 0, hard_state, last };
    for records in [
        vec![Record::Start { incarnation: u64::MAX, run_id: 1 }],
        vec![Record::Start { incarnation: 0, run_id: 1 }],
        vec![state(NUMBER_MAX + 1)],
        vec![state(2), state(1)],
        vec![state(1), Record::Entry(&gap)],
        vec![state(1), Record::Entry(&zero)],
        vec![state(1), Record::Entry(&far)],
        vec![state(1), Record::Entry(&high)],
        vec![state(1), Record::Entry(&second), Record::Entry(&lower)],
        vec![head],
        vec![state(1), base(1, 2)],
        vec![state(NUMBER_MAX), base(NUMBER_MAX + 1, 1)],
        vec![state(2), base(9, 2), base(8, 2)],
        vec![state(2), base(9, 2), Record::Entry(&at(9, 2))],
        vec![state(2), base(9, 2), Record::Entry(&at(11, 2))],
        vec![state(2), base(9, 2)],
    ] {
        let disk = created();
        let mut payload = Vec::new();
        records.iter().for_each(|record| encode(record, &mut payload));
        craft(&disk, &payload);
        assert!(matches!(open(&disk), Err(JournalError::Damaged { .. })), "{records:?}");
    }
    // A command that says it has 2^62 bytes.
    let disk = created();
    craft(&disk, &[2, 1, 1, 1, 255, 255, 255, 255, 255, 255, 255, 255, 63]);
    assert!(matches!(open(&disk), Err(JournalError::Damaged { .. })));
}

/// A whole batch of a copy that lived on elsewhere is not a torn one of ours.
#[test]
fn a_segment_of_a_clone_is_refused() {
    let disk = created();
    let clone = copy(&disk);
    let small = Options { segment_bytes: 1, ..OPTIONS };
    for (disk, run_id) in [(&disk, 1), (&clone, 2)] {
        let (mut journal, _) =
            recovery::open(disk.clone(), Options { run_id, ..small }, SnapshotId::NONE)
                .expect("it is well");
        journal.append_and_sync(&write(1, 1..=1)).expect("the disk is well");
    }
    disk.overwrite(&segment_name(2), clone.read(&segment_name(2)).expect("memory"));
    assert!(matches!(open(&disk), Err(JournalError::Damaged { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// S98: bytes from anywhere are refused or read, and never a panic.
    #[test]
    fn random_bytes_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        payload in proptest::collection::vec(any::<u8>(), 0..60),
        changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..8),
        segment in 1_u64..4,
    ) {
        let random = MemoryDisk::new();
        random.overwrite(&segment_name(1), bytes.clone());
        prop_assert!(open(&random).is_err());
        let crafted = created();
        craft(&crafted, &payload);
        let _ = open(&crafted);
        let (disk, _) = filled();
        let mut changed = disk.read(&segment_name(segment)).expect("memory");
        for (at, byte) in changes {
            let at = usize::from(at) % changed.len();
            changed[at] = byte;
        }
        changed.extend(bytes);
        disk.overwrite(&segment_name(segment), changed);
        let _ = open(&disk);
    }

    /// Any sequence of writes, seals and restarts, in segments of any size, gives back what a plain
    /// vector holds.
    #[test]
    fn a_journal_is_a_log_that_restarts_cannot_change(
        segment_bytes in 1_u64..1000,
        steps in proptest::collection::vec((0_u8..8, any::<u64>(), 0_u64..5, 0_u64..2), 1..40),
    ) {
        let disk = created();
        let options = Options { segment_bytes, ..OPTIONS };
        let start = || {
            recovery::open(disk.clone(), options, SnapshotId::NONE).expect("it is well")
        };
        let (mut journal, _) = start();
        let mut model: Vec<Entry> = Vec::new();
        let (mut state, mut lives) = (HardState::default(), 1);
        for (kind, first, count, rise) in steps {
            match kind {
                0 => {
                    let (opened, recovered) = start();
                    lives += 1;
                    prop_assert_eq!(&recovered.entries, &model);
                    prop_assert_eq!((recovered.hard_state, recovered.incarnation), (state, lives));
                    journal = opened;
                }
                1 => {
                    journal.seal().expect("the disk is well");
                }
                _ => {
                    let term = state.current_term.0.max(1) + rise;
                    let mut step = write(term, 1..=count);
                    let first = first % (model.len() as u64 + 1) + 1;
                    for (entry, index) in step.entries.iter_mut().zip(first..) {
                        entry.id.index = Index(index);
                    }
                    state = step.hard_state.expect("write gives one");
                    for entry in &step.entries {
                        model.truncate(entry.id.index.0 as usize - 1);
                        model.push(entry.clone());
                    }
                    journal.append_and_sync(&step).expect("the disk is well");
                }
            }
        }
        let (_, recovered) = start();
        prop_assert_eq!(recovered.entries, model);
    }
}

fn bytes_of(disk: &MemoryDisk) -> u64 {
    let listed = disk.list().expect("memory");
    listed.iter().map(|name| disk.length_bytes(name).expect("it is there")).sum()
}

/// S35: what was told as room is there, however it is used: entries that weigh no more than that
/// are written, in writes of any size, on a disk that gives nothing more. Beyond it a write is
/// refused, nothing has changed, and when there is space again it succeeds.
#[test]
fn a_full_disk_changes_nothing_and_room_is_never_promised_twice() {
    let mut refusals = 0;
    for seed in 0..2000_u64 {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut choose = move |options: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % options
        };
        let segment_bytes = if choose(2) == 0 { 150 } else { 300 + choose(3000) };
        let options = Options { segment_bytes, ..OPTIONS };
        let disk = created();
        let (mut journal, _) =
            recovery::open(disk.clone(), options, SnapshotId::NONE).expect("it is well");
        let reservation = Reservation {
            step_bytes: 50 + choose(1000),
            ahead_bytes: 1000 + choose(5000),
            kept_bytes: 400,
            ready_max: 2,
        };
        journal.keep_reserved(reservation);
        let mut last = 0;
        for _ in 0..10 {
            journal.set_budget(choose(40_000), false);
            for _ in 0..choose(3) {
                journal.do_chore().expect("it is well");
            }
            while journal.reserve(0).expect("it is well") == Reserved::Some {
                if choose(4) == 0 {
                    break;
                }
            }
            journal.set_budget(0, false);
            // A seal, a vote: what is kept is for them.
            let mut room = journal.room_bytes();
            for _ in 0..choose(3) {
                journal.do_chore().expect("it is well");
            }
            journal.set_budget(0, false); // what was given back is wanted elsewhere
            let before = bytes_of(&disk);
            if choose(2) == 0 {
                journal.seal().expect("it is well");
            }
            loop {
                let count = if choose(8) == 0 { 1 + choose(30) } else { 1 + choose(4) };
                let next = write(1, last + 1..=last + count);
                let weighs = |entry: &Entry| entry.bytes() as u64 + WRITE_OVERHEAD_BYTES;
                let weight: u64 = next.entries.iter().map(weighs).sum();
                if weight > room {
                    break;
                }
                journal.append_and_sync(&next).expect("there was room for it");
                room -= weight;
                last += count;
            }
            assert!(bytes_of(&disk) <= before, "seed {seed}: a file has grown");
            let large = write(1, last + 1..=last + 300);
            match journal.append_and_sync(&large) {
                Err(JournalError::NoSpace { .. }) => refusals += 1,
                other => panic!("seed {seed}: {other:?}"),
            }
        }
        journal.set_budget(u64::MAX, false);
        journal.append_and_sync(&write(1, last + 1..=last + 1)).expect("there is space again");
        drop(journal);
        let (_, recovered) = recovery::open(disk, options, SnapshotId::NONE).expect("it is well");
        assert_eq!(recovered.entries.len() as u64, last + 1, "seed {seed}");
    }
    assert_eq!(refusals, 20_000);
}

/// A disk on which its user may take only so much more, which the system does not tell.
#[derive(Clone, Debug)]
struct Rationed {
    disk: MemoryDisk,
    left_bytes: Rc<Cell<u64>>,
    zeros_bytes: Rc<Cell<u64>>,
}

#[derive(Debug)]
struct RationedFile {
    file: <MemoryDisk as Disk>::File,
    length_bytes: u64,
    disk: Rationed,
}

impl DiskFile for RationedFile {
    fn write_at(&mut self, offset_bytes: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset_bytes + bytes.len() as u64;
        let grows = end.saturating_sub(self.length_bytes);
        let left = self.disk.left_bytes.get().checked_sub(grows);
        self.disk.left_bytes.set(left.ok_or(io::ErrorKind::QuotaExceeded)?);
        self.length_bytes += grows;
        let zeros = bytes.iter().filter(|byte| **byte == 0).count() as u64;
        self.disk.zeros_bytes.set(self.disk.zeros_bytes.get() + zeros);
        self.file.write_at(offset_bytes, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }
}

impl Disk for Rationed {
    type File = RationedFile;
    type Reader = <MemoryDisk as Disk>::Reader;

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }
    fn length_bytes(&self, name: &str) -> io::Result<u64> {
        self.disk.length_bytes(name)
    }
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.disk.read(name)
    }
    fn open(&self, name: &str) -> io::Result<Self::Reader> {
        self.disk.open(name)
    }
    fn create(&self, name: &str) -> io::Result<RationedFile> {
        Ok(RationedFile { file: self.disk.create(name)?, length_bytes: 0, disk: self.clone() })
    }
    fn reopen(&self, name: &str) -> io::Result<RationedFile> {
        let length_bytes = self.length_bytes(name)?;
        Ok(RationedFile { file: self.disk.reopen(name)?, length_bytes, disk: self.clone() })
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.left_bytes.set(self.left_bytes.get() + self.length_bytes(name)?);
        self.disk.remove(name)
    }
    fn sync_directory(&self) -> io::Result<()> {
        self.disk.sync_directory()
    }
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.disk.path(name)
    }
}

/// S35: there is less room than the system says. A spare that could not be prepared is not tried
/// again and again, which would take all there is each time; and what does fit is written.
#[test]
fn a_spare_for_which_there_is_no_room_is_not_tried_for_ever() {
    let disk = Rationed {
        disk: MemoryDisk::new(),
        left_bytes: Rc::new(Cell::new(u64::MAX)),
        zeros_bytes: Rc::default(),
    };
    recovery::create(&disk, OPTIONS.journal_id).expect("memory");
    let options = Options { segment_bytes: 10_000, ..OPTIONS };
    let opened = recovery::open(disk.clone(), options, SnapshotId::NONE);
    let (mut journal, _) = opened.expect("memory");
    let (step_bytes, ahead_bytes, kept_bytes) = (200, 600, 0);
    journal.keep_reserved(Reservation { step_bytes, ahead_bytes, kept_bytes, ready_max: 2 });
    while journal.reserve(0).expect("memory") == Reserved::Some {}
    journal.append_and_sync(&write(1, 1..=9)).expect("there is room");
    disk.left_bytes.set(8_000);
    disk.zeros_bytes.set(0);
    for _ in 0..100 {
        journal.set_budget(u64::MAX, false);
        for _ in 0..3 {
            journal.do_chore().expect("no room is no failure");
        }
    }
    let zeros = disk.zeros_bytes.get();
    assert!((1..=8_000).contains(&zeros), "it was tried once: {zeros}");
    assert_eq!(disk.left_bytes.get(), 8_000, "and nothing is left of it");
    for index in 10..100 {
        journal.append_and_sync(&write(1, index..=index)).expect("there is room for it");
        journal.do_chore().expect("no room is no failure");
    }
}
