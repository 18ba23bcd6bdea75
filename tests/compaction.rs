//! A snapshot and the log behind it, after every crash: of taking a snapshot, of receiving one, of
//! removing the segments it covers, and of beginning the log anew behind it. What a start finds has
//! no gap, and nothing that was acknowledged is missing. Rows of `scenarios.md`: S34–S38, S42.

use raft_server::raft::durability::{Write, WriteTicket};
use raft_server::raft::types::{
    Command, Entry, EntryId, HardState, Index, Payload, ServerId, SnapshotId, Stamp, Term,
};
use raft_server::storage::chores::{Chore, is_spare, perform};
use raft_server::storage::disk::Disk;
use raft_server::storage::error::{Damage, JournalError};
use raft_server::storage::journal::{Journal, Options, segment_name, segment_number};
use raft_server::storage::memory_disk::MemoryDisk;
use raft_server::storage::pace::{Hurry, Pace};
use raft_server::storage::recording_disk::{Cuts, Files, RecordingDisk};
use raft_server::storage::recovery::{self, Recovered};
use raft_server::storage::reserve::{Reservation, Reserved, Spare};
use raft_server::storage::snapshot::{self, Found, Header, SnapshotError, SnapshotFile, Snapshots};

/// Segments of two or three batches.
const OPTIONS: Options = Options { journal_id: 0xFEED, run_id: 7, segment_bytes: 200 };

/// A journal that reserves: the newest segment grows in small steps, a spare stands by, and
/// obsolete segments are used again.
const RESERVATION: Reservation =
    Reservation { step_bytes: 150, ahead_bytes: 500, kept_bytes: 0, ready_max: 2 };

/// Opens the journal, with reserved space or without.
fn open_journal(
    disk: &RecordingDisk,
    snapshot: SnapshotId,
    reserves: bool,
) -> Result<(Journal<RecordingDisk>, Recovered), JournalError> {
    let segment_bytes = if reserves { 600 } else { OPTIONS.segment_bytes };
    let options = Options { segment_bytes, ..OPTIONS };
    let (mut journal, recovered) = recovery::open(disk.clone(), options, snapshot)?;
    if reserves {
        journal.keep_reserved(RESERVATION);
        while journal.reserve(0)? == Reserved::Some {}
    }
    Ok((journal, recovered))
}

fn entry(index: u64, term: u64) -> Entry {
    let command = Command::from(format!("{index}@{term}").as_bytes());
    let id = EntryId::new(Term(term), Index(index));
    Entry { id, stamp: Stamp(7 * index), payload: Payload::Command(command) }
}

fn write(term: u64, indexes: std::ops::RangeInclusive<u64>) -> Write {
    let hard_state = HardState { current_term: Term(term), voted_for: Some(ServerId(1)) };
    let entries = indexes.map(|index| entry(index, term)).collect();
    Write { ticket: WriteTicket(0), hard_state: Some(hard_state), base: None, entries }
}

fn id(index: u64, term: u64) -> SnapshotId {
    SnapshotId { last: EntryId::new(Term(term), Index(index)), stamp: Stamp(7 * index) }
}

fn open_snapshots<D: Disk>(disk: D) -> Result<(Snapshots<D>, Found<D>), SnapshotError> {
    Snapshots::open(disk, snapshot::Options::new("c".to_owned()))
}

fn take<D: Disk>(
    snapshots: &Snapshots<D>,
    id: SnapshotId,
) -> Result<SnapshotFile<D>, SnapshotError> {
    let membership = vec![ServerId(1)];
    let mut writer = snapshots.begin(Header {
        cluster_id: "c".to_owned(),
        membership,
        id,
        state_hash: 1,
        keys: 2,
    })?;
    writer.item(b"the state")?;
    writer.finish()
}

fn remove_all<D: Disk>(journal: &mut Journal<D>) -> Result<(), JournalError> {
    while journal.do_chore()? {}
    Ok(())
}

/// What the server has promised to remember: the log from index 1 on, as if nothing were ever
/// removed. Entries that only a snapshot covers are made up: nobody sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    hard_state: HardState,
    log: Vec<Entry>,
}

impl Model {
    fn with_write(&self, write: &Write) -> Model {
        let mut next = self.clone();
        next.hard_state = write.hard_state.unwrap_or(next.hard_state);
        for entry in &write.entries {
            next.log.truncate(entry.id.index.0 as usize - 1);
            next.log.push(entry.clone());
        }
        next
    }

    /// A start with this snapshot: [IS6] [IS7].
    fn with_snapshot(&self, snapshot: SnapshotId) -> Model {
        let mut next = self.clone();
        let (index, term) = (snapshot.last.index.0, snapshot.last.term.0);
        if !self.log.iter().any(|entry| entry.id == snapshot.last) {
            next.log = (1..=index).map(|index| entry(index, term)).collect();
        }
        if self.hard_state.current_term < snapshot.last.term {
            let current_term = snapshot.last.term;
            next.hard_state = HardState { current_term, voted_for: None };
        }
        next
    }

    fn is(&self, recovered: &Recovered) -> bool {
        let from = recovered.snapshot.last.index.0 as usize;
        let base = if from == 0 {
            Some(EntryId::ZERO)
        } else {
            self.log.get(from - 1).map(|entry| entry.id)
        };
        self.hard_state == recovered.hard_state
            && base == Some(recovered.snapshot.last)
            && self.log.get(from..) == Some(&recovered.entries)
    }
}

/// What the server does next. Each step changes one of the two directories only.
#[derive(Clone, Debug)]
enum Step {
    OpenSnapshots,
    /// Always right behind the other.
    OpenJournal,
    Append(Write),
    /// Publish a snapshot, our own or a leader's.
    Take(SnapshotId),
    /// Do a chore, without telling the journal.
    Perform,
    /// Do all chores: remove the segments that the newest snapshot covers, or keep them as spares.
    Compact,
    KeepNewest,
}

/// The two directories, and what may be found in them after a crash at each moment.
struct Server {
    snapshots_disk: RecordingDisk,
    journal_disk: RecordingDisk,
    snapshots: Option<Snapshots<RecordingDisk>>,
    newest: Option<SnapshotFile<RecordingDisk>>,
    journal: Option<Journal<RecordingDisk>>,
    /// What came of a chore, before the journal is told.
    done: Option<Result<Option<Spare<<RecordingDisk as Disk>::File>>, JournalError>>,
    /// Whether the journal reserves its space.
    reserves: bool,
    /// How many operations each directory has seen, and what was promised then.
    moments: Vec<((usize, usize), Vec<Model>)>,
}

impl Server {
    fn new(reserves: bool) -> Server {
        let journal_disk = RecordingDisk::default();
        recovery::create(&journal_disk, OPTIONS.journal_id).expect("the disk is well");
        let mut server = Server {
            snapshots_disk: RecordingDisk::default(),
            journal_disk,
            snapshots: None,
            newest: None,
            journal: None,
            done: None,
            reserves,
            moments: Vec::new(),
        };
        server.moments.push((server.now(), vec![Model::default()]));
        server
    }

    fn now(&self) -> (usize, usize) {
        (self.snapshots_disk.operations(), self.journal_disk.operations())
    }

    fn models(&self) -> Vec<Model> {
        self.moments.last().expect("it begins with one").1.clone()
    }

    fn newest_id(&self) -> SnapshotId {
        self.newest.as_ref().map_or(SnapshotId::NONE, SnapshotFile::id)
    }

    /// Does a step, and notes what was promised while it was done and after it.
    fn step(&mut self, step: &Step) -> Result<(), String> {
        let before = self.models();
        let from = self.now();
        let (result, after) = self.act(step, &before);
        let mut during = before;
        during.extend(after.clone());
        let to = self.now();
        for snapshots in from.0..=to.0 {
            for journal in from.1..=to.1 {
                self.moments.push(((snapshots, journal), during.clone()));
            }
        }
        let last = if result.is_ok() { after } else { during };
        self.moments.push((to, last));
        result
    }

    fn act(&mut self, step: &Step, before: &[Model]) -> (Result<(), String>, Vec<Model>) {
        let same = before.to_vec();
        match step {
            Step::OpenSnapshots => {
                (self.snapshots, self.newest, self.journal) = (None, None, None);
                self.done = None;
                let opened = open_snapshots(self.snapshots_disk.clone()).map(|(opened, found)| {
                    assert!(found.damaged.is_empty(), "{:?}", found.damaged);
                    (self.snapshots, self.newest) = (Some(opened), found.newest);
                });
                (opened.map_err(|error| error.to_string()), same)
            }
            Step::OpenJournal => {
                match open_journal(&self.journal_disk, self.newest_id(), self.reserves) {
                    Ok((journal, recovered)) => {
                        let is = same.iter().find(|model| model.is(&recovered)).cloned();
                        let model = is.unwrap_or_else(|| panic!("{recovered:?}, not {same:?}"));
                        self.journal = Some(journal);
                        (Ok(()), vec![model])
                    }
                    Err(error) => (Err(error.to_string()), same),
                }
            }
            Step::Append(write) => {
                let journal = self.journal.as_mut().expect("open comes first");
                let written = journal.append_and_sync(write).map_err(|error| error.to_string());
                (written, before.iter().map(|model| model.with_write(write)).collect())
            }
            Step::Take(id) => {
                let taken = take(self.snapshots.as_ref().expect("open comes first"), *id);
                let taken = taken.map(|file| self.newest = Some(file));
                let after = before.iter().map(|model| model.with_snapshot(*id)).collect();
                (taken.map_err(|error| error.to_string()), after)
            }
            Step::Perform => {
                let newest = self.newest_id();
                let journal = self.journal.as_mut().expect("open comes first");
                journal.snapshot_published(newest);
                let chore = journal.take_chore();
                let done = chore.map(|chore| perform(&self.journal_disk, &chore, &Pace::Full));
                let result = match &done {
                    Some(Err(error)) => Err(error.to_string()),
                    _ => Ok(()),
                };
                self.done = done;
                (result, same)
            }
            Step::Compact => {
                let newest = self.newest_id();
                let journal = self.journal.as_mut().expect("open comes first");
                journal.snapshot_published(newest);
                let told = self.done.take().map_or(Ok(()), |done| journal.finish_chore(done));
                let compacted = told.and_then(|()| remove_all(journal));
                (compacted.map_err(|error| error.to_string()), same)
            }
            Step::KeepNewest => {
                let newest = self.newest.clone().expect("one was taken");
                let snapshots = self.snapshots.as_ref().expect("open comes first");
                let kept = snapshots.keep_only(&newest).map(|_| ());
                (kept.map_err(|error| error.to_string()), same)
            }
        }
    }
}

/// Elections, truncations, our own snapshots, and a leader's: beyond our log, and at an index where
/// our log has an entry of another term.
fn workload() -> Vec<Step> {
    let based = |write: Write, base: SnapshotId| Step::Append(Write { base: Some(base), ..write });
    let mut steps = vec![
        Step::OpenSnapshots,
        Step::OpenJournal,
        Step::Append(write(1, 1..=4)),
        Step::Append(write(1, 5..=8)),
        Step::Take(id(6, 1)),
        Step::Compact,
        Step::KeepNewest,
        Step::Append(write(2, 7..=9)),
        Step::OpenSnapshots,
        Step::OpenJournal,
        Step::Append(write(2, 10..=12)),
        Step::Append(write(2, 13..=14)),
        Step::Take(id(12, 2)),
        Step::KeepNewest,
        Step::Perform,
        Step::Append(write(2, 15..=15)),
        Step::Compact,
        Step::Append(write(2, 16..=16)),
        Step::Take(id(30, 3)),
        based(write(3, 31..=32), id(30, 3)),
        Step::Compact,
        Step::KeepNewest,
        Step::OpenSnapshots,
        Step::OpenJournal,
        Step::Append(write(3, 33..=36)),
        Step::Append(write(3, 37..=38)),
        Step::Take(id(35, 4)),
        based(write(4, 36..=37), id(35, 4)),
        Step::Append(write(4, 38..=40)),
        Step::Take(id(40, 4)),
        Step::Compact,
        Step::KeepNewest,
        Step::Perform,
        Step::Append(write(4, 41..=44)),
        Step::Append(write(4, 45..=46)),
        Step::Compact,
        Step::OpenSnapshots,
        Step::OpenJournal,
        Step::Append(write(4, 47..=47)),
    ];
    // On and on: the segments that are used again come to their turn.
    for index in (48..=78).step_by(3) {
        steps.push(Step::Append(write(4, index..=index)));
        steps.push(Step::Append(write(4, index + 1..=index + 2)));
        steps.push(Step::Take(id(index, 4)));
        steps.push(if index % 2 == 0 { Step::Compact } else { Step::Perform });
        steps.push(Step::KeepNewest);
    }
    steps
}

fn run(reserves: bool) -> Server {
    let mut server = Server::new(reserves);
    for step in workload() {
        server.step(&step).expect("the disks are well");
    }
    server
}

/// A start from what a crash has left; then the server works on, compacts, and starts again.
fn check(snapshots: &Files, journal: &Files, allowed: &[Model]) {
    let context = || format!("allowed {allowed:#?}, from {snapshots:?} and {journal:?}");
    let (opened, found) = open_snapshots(RecordingDisk::new(snapshots)).expect("the disk is well");
    assert!(found.damaged.is_empty(), "{:?}, {}", found.damaged, context());
    let disk = RecordingDisk::new(journal);
    let start = |snapshot| {
        let opened = recovery::open(disk.clone(), OPTIONS, snapshot);
        opened.unwrap_or_else(|error| panic!("refused: {error}, {}", context()))
    };
    let (mut journal, recovered) = start(found.id());
    let model = allowed.iter().find(|model| model.is(&recovered));
    let model = model.unwrap_or_else(|| panic!("recovered {recovered:#?}, {}", context()));
    let next = model.log.len() as u64 + 1;
    journal.append_and_sync(&write(9, next..=next)).expect("the disk is well");
    remove_all(&mut journal).expect("the disk is well");
    let model = model.with_write(&write(9, next..=next));
    assert!(model.is(&start(found.id()).1), "{}", context());
    let newest = id(next, 9);
    take(&opened, newest).expect("the disk is well");
    assert!(model.is(&start(newest).1), "{}", context());
}

fn check_moment(server: &Server, moment: &((usize, usize), Vec<Model>), cuts: Cuts) -> u64 {
    let ((snapshots, journal), allowed) = moment;
    let mut states: Vec<Files> = Vec::new();
    server.snapshots_disk.crash_states(*snapshots, cuts, &mut |files| states.push(files));
    states.sort();
    states.dedup();
    let mut checked = 0;
    server.journal_disk.crash_states(*journal, cuts, &mut |journal| {
        for snapshots in &states {
            check(snapshots, &journal, allowed);
            checked += 1;
        }
    });
    checked
}

/// S36, S37, S38, S42: the power fails after any operation on either directory.
#[test]
fn every_crash_state_has_a_snapshot_and_the_log_behind_it() {
    for (reserves, least) in [(false, 8), (true, 2)] {
        let server = run(reserves);
        assert!(server.journal.as_ref().is_some_and(|journal| journal.segment() > least));
        assert!(server.journal_disk.list().expect("memory").len() < 5, "old segments are gone");
        assert_eq!(server.snapshots_disk.list().expect("memory").len(), 1);
        let mut recoveries = 0;
        for moment in &server.moments {
            recoveries += check_moment(&server, moment, Cuts::Every);
        }
        println!("{recoveries} crash states of {:?} operations, 0 wrong", server.now());
        assert!(recoveries > 1000, "the workload has become too small: {recoveries}");
    }
}

/// S34, S35: each operation of either directory fails once; the process ends, is started again,
/// works on and compacts, and the power fails.
#[test]
fn every_failed_operation_leaves_a_snapshot_and_the_log_behind_it() {
    for reserves in [false, true] {
        fail_each_operation(reserves);
    }
}

fn fail_each_operation(reserves: bool) {
    let (snapshots, journal) = run(reserves).now();
    let first = Server::new(reserves).now().1;
    let mut recoveries = 0;
    let mut fail = |place: &dyn Fn(&Server) -> RecordingDisk, failing: usize| {
        let mut server = Server::new(reserves);
        place(&server).fail_at(failing);
        for step in workload() {
            if server.step(&step).is_err() {
                break;
            }
        }
        server.step(&Step::OpenSnapshots).expect("a disk fails once");
        server.step(&Step::OpenJournal).expect("a disk fails once");
        let [model] = &server.models()[..] else { panic!("a start decides") };
        let last = model.log.len() as u64;
        server.step(&Step::Append(write(5, last + 1..=last + 2))).expect("a disk fails once");
        server.step(&Step::Take(id(last + 1, 5))).expect("a disk fails once");
        server.step(&Step::KeepNewest).expect("a disk fails once");
        server.step(&Step::Compact).expect("a disk fails once");
        recoveries += check_moment(&server, server.moments.last().expect("many"), Cuts::Few);
    };
    for failing in 0..snapshots {
        fail(&|server: &Server| server.snapshots_disk.clone(), failing);
    }
    for failing in first..journal {
        fail(&|server: &Server| server.journal_disk.clone(), failing);
    }
    println!("{recoveries} crash states after a failed operation, 0 wrong");
    assert!(recoveries > 200, "the workload has become too small: {recoveries}");
}

/// Entries 1 to 20 in segments of their own, a snapshot of entry 10, and all that it covers gone.
fn compacted() -> MemoryDisk {
    let disk = MemoryDisk::new();
    recovery::create(&disk, OPTIONS.journal_id).expect("memory");
    let options = Options { segment_bytes: 1, ..OPTIONS };
    let (mut journal, _) = recovery::open(disk.clone(), options, SnapshotId::NONE).expect("memory");
    for index in 1..=20 {
        journal.append_and_sync(&write(1, index..=index)).expect("memory");
    }
    journal.snapshot_published(id(10, 1));
    remove_all(&mut journal).expect("memory");
    disk
}

fn open(disk: &MemoryDisk, snapshot: SnapshotId) -> Result<Recovered, JournalError> {
    recovery::open(disk.clone(), OPTIONS, snapshot).map(|(_, recovered)| recovered)
}

/// S37, S38: what is not in the journal must be in a snapshot, or there is no start.
#[test]
fn a_gap_between_snapshot_and_log_is_refused() {
    for snapshot in [SnapshotId::NONE, id(9, 1)] {
        let refused = open(&compacted(), snapshot).expect_err("entry 10 is nowhere");
        let JournalError::Damaged { damage, .. } = &refused else { panic!("{refused}") };
        assert_eq!(*damage, Damage::Uncovered { needed: Index(10), snapshot });
    }
    for index in 10..=20 {
        let recovered = open(&compacted(), id(index, 1)).expect("all is there");
        assert_eq!(recovered.entries.len() as u64, 20 - index);
    }
    // Beyond the log, or with another entry than the log's: the log is void.
    for (index, term) in [(30, 1), (15, 2), (20, 7)] {
        let disk = compacted();
        let recovered = open(&disk, id(index, term)).expect("the snapshot is all there is");
        assert!(recovered.entries.is_empty());
        assert!(open(&disk, id(index, term)).expect("again").entries.is_empty());
        let refused = open(&disk, id(10, 1)).expect_err("the log begins behind the other");
        assert!(matches!(refused, JournalError::Damaged { .. }), "{refused}");
    }
}

/// S42: a segment that is missing is noticed, unless all it held is in the snapshot.
#[test]
fn a_missing_segment_is_refused_unless_a_snapshot_covers_it() {
    let names = compacted().list().expect("memory");
    let segments: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
    let oldest = segments[0];
    assert!(oldest > 5, "old segments are gone: {segments:?}");
    for &segment in &segments[..segments.len() - 1] {
        let disk = compacted();
        disk.remove(&segment_name(segment)).expect("memory");
        assert!(open(&disk, id(10, 1)).is_err(), "segment {segment} is missed");
        // The entry in it is the one behind those of the segments before it.
        let covered = 11 + segment - oldest;
        assert!(open(&disk, id(covered - 1, 1)).is_err());
        let recovered = open(&disk, id(covered, 1)).expect("the snapshot covers it");
        assert_eq!(recovered.entries.len() as u64, 20 - covered);
    }
}

/// No flipped bit in a journal that begins later goes unnoticed: heads are checked like the rest.
#[test]
fn flipped_bits_behind_removed_segments_are_noticed() {
    let disk = compacted();
    let expected = open(&disk, id(10, 1)).expect("it is well").entries;
    let names = disk.list().expect("memory");
    let newest = names.iter().max().expect("there are some").clone();
    for name in names {
        let bytes = disk.read(&name).expect("memory");
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            disk.overwrite(&name, flipped);
            let read = recovery::open(copy(&disk), OPTIONS, id(10, 1));
            let in_the_seal = name == newest && bit / 8 >= bytes.len() - 48;
            match read {
                Ok((_, recovered)) => {
                    assert!(in_the_seal, "bit {bit} of {name} went unnoticed");
                    assert_eq!(recovered.entries, expected);
                }
                Err(JournalError::Damaged { .. }) => {}
                Err(error) => panic!("bit {bit} of {name}: {error}"),
            }
        }
        disk.overwrite(&name, bytes);
    }
}

fn copy(disk: &MemoryDisk) -> MemoryDisk {
    let copied = MemoryDisk::new();
    for name in disk.list().expect("memory") {
        copied.overwrite(&name, disk.read(&name).expect("memory"));
    }
    copied
}

/// A segment stays as long as an entry was ever written to it that no snapshot covers; and an entry
/// may come that replaces some of a segment that is gone.
#[test]
fn entries_of_removed_segments_can_be_replaced() {
    let disk = MemoryDisk::new();
    recovery::create(&disk, OPTIONS.journal_id).expect("memory");
    let options = Options { segment_bytes: 1, ..OPTIONS };
    let start = |snapshot| recovery::open(disk.clone(), options, snapshot).expect("it is well");
    let (mut journal, _) = start(SnapshotId::NONE);
    journal.append_and_sync(&write(1, 1..=9)).expect("memory");
    journal.append_and_sync(&write(2, 5..=5)).expect("memory");
    journal.snapshot_published(id(5, 2));
    remove_all(&mut journal).expect("memory");
    assert!(disk.read(&segment_name(2)).is_ok(), "entry 9 was written there");
    journal.append_and_sync(&write(2, 6..=9)).expect("memory");
    journal.snapshot_published(id(9, 2));
    remove_all(&mut journal).expect("memory");
    assert!(disk.read(&segment_name(2)).is_err());
    let (mut journal, recovered) = start(id(9, 2));
    assert!(recovered.entries.is_empty());
    journal.append_and_sync(&write(3, 10..=10)).expect("memory");
    let (_, recovered) = start(id(9, 2));
    assert_eq!(recovered.entries, [entry(10, 3)]);
}

/// S30, S35: a segment that is used again holds old batches behind the new ones; they count for
/// nothing, wherever the new one is torn, and what was synced is never taken for torn.
#[test]
fn stale_batches_of_a_recycled_segment_count_for_nothing() {
    let disk = MemoryDisk::new();
    recovery::create(&disk, OPTIONS.journal_id).expect("memory");
    let options = Options { segment_bytes: 600, ..OPTIONS };
    let opened = recovery::open(disk.clone(), options, SnapshotId::NONE);
    let (mut journal, _) = opened.expect("memory");
    journal.keep_reserved(RESERVATION);
    let mut index = 0;
    let append = |journal: &mut Journal<MemoryDisk>, index: &mut u64| {
        *index += 1;
        journal.append_and_sync(&write(1, *index..=*index)).expect("there is room");
        while journal.reserve(0).expect("memory") == Reserved::Some {}
    };
    while journal.segment() < 5 {
        append(&mut journal, &mut index);
        // One behind, so that the last segment but one stays, and the spare is a recycled one.
        journal.snapshot_published(id(index - 1, 1));
        remove_all(&mut journal).expect("memory");
    }
    append(&mut journal, &mut index);
    let name = segment_name(journal.segment());
    let before = disk.read(&name).expect("memory");
    let known = id(index - 2, 1);
    journal.append_and_sync(&write(1, index + 1..=index + 1)).expect("there is room");
    let after = disk.read(&name).expect("memory");
    assert_eq!(before.len(), after.len(), "what is reserved does not grow");
    let changed: Vec<usize> = (0..before.len()).filter(|&at| before[at] != after[at]).collect();
    let (first, last) = (changed[0], changed[changed.len() - 1]);
    assert!(before[last + 1..].iter().any(|&byte| byte != 0), "it has been used before");
    for cut in first..=last {
        let torn = MemoryDisk::new();
        for name in disk.list().expect("memory") {
            torn.overwrite(&name, disk.read(&name).expect("memory"));
        }
        torn.overwrite(&name, [&after[..=cut], &before[cut + 1..]].concat());
        let (_, recovered) = recovery::open(torn.clone(), options, known).expect("it is torn");
        let ends = recovered.entries.last().map(|entry| entry.id.index.0);
        assert_eq!(ends, Some(if cut == last { index + 1 } else { index }), "cut at {cut}");
        let listed = torn.list().expect("memory");
        assert!(!listed.iter().any(|name| is_spare(name)), "spares go at a start");
    }
}

/// A journal that writes on and on, with a snapshot behind it and a caretaker beside it.
struct Busy {
    disk: RecordingDisk,
    journal: Journal<RecordingDisk>,
    index: u64,
}

impl Busy {
    fn new() -> Busy {
        let disk = RecordingDisk::default();
        recovery::create(&disk, OPTIONS.journal_id).expect("memory");
        let (journal, _) = open_journal(&disk, SnapshotId::NONE, true).expect("memory");
        let mut busy = Busy { disk, journal, index: 0 };
        while busy.journal.segment() < 6 {
            busy.write();
            busy.compact();
        }
        busy
    }

    /// Writes an entry, and reserves between two writes. Returns whether that was of use.
    fn write(&mut self) -> Reserved {
        self.index += 1;
        let next = write(1, self.index..=self.index);
        self.journal.append_and_sync(&next).expect("there is room");
        self.journal.reserve(0).expect("memory")
    }

    /// A snapshot covers all but the last entry, and what follows from that is done.
    fn compact(&mut self) {
        self.journal.snapshot_published(id(self.index - 1, 1));
        remove_all(&mut self.journal).expect("memory");
    }

    fn bytes(&self) -> u64 {
        let listed = self.disk.list().expect("memory");
        listed.iter().map(|name| self.disk.length_bytes(name).expect("it is there")).sum()
    }
}

/// Between two writes of a busy journal no file is created, filled or removed, except that each
/// segment gets its name, and what the files take does not grow.
#[test]
fn a_busy_journal_with_plenty_of_room_only_overwrites() {
    let mut busy = Busy::new();
    let (bytes, segment) = (busy.bytes(), busy.journal.segment());
    let mut written = 0;
    while busy.journal.segment() < segment + 20 {
        let (before, segment) = (busy.disk.operations(), busy.journal.segment());
        assert_eq!(busy.write(), Reserved::Enough, "all of it was reserved before");
        // A write and a sync; a rename and a sync of the directory.
        let usual = if busy.journal.segment() > segment { 4 } else { 2 };
        assert_eq!(busy.disk.operations() - before, usual, "entry {}", busy.index);
        busy.compact();
        assert!(busy.bytes() <= bytes, "{} bytes, and {bytes} before", busy.bytes());
        written += 1;
    }
    assert!(written > 40, "the segments have become too short");
}

/// A spare that is ready costs less than to extend the segment, however young that is.
#[test]
fn a_spare_that_is_ready_is_gone_to() {
    let disk = RecordingDisk::default();
    recovery::create(&disk, OPTIONS.journal_id).expect("memory");
    let (mut journal, _) = open_journal(&disk, SnapshotId::NONE, true).expect("memory");
    assert_eq!(journal.take_chore(), None, "nothing has been written");
    journal.append_and_sync(&write(1, 1..=4)).expect("there is room");
    assert!(journal.do_chore().expect("memory"), "a spare is prepared");
    assert!(!journal.do_chore().expect("memory"), "and no second one");
    for index in 5..20 {
        assert_eq!(journal.reserve(0).expect("memory"), Reserved::Enough);
        journal.append_and_sync(&write(1, index..=index)).expect("there is room");
        if journal.segment() > 1 {
            let length = disk.length_bytes(&segment_name(1)).expect("memory");
            return assert!(length < 600, "it was left early, at {length} bytes");
        }
    }
    panic!("the spare is not used");
}

/// When there is not plenty of room, nothing is kept that may be wanted elsewhere, but the one
/// spare in which room may have been promised.
#[test]
fn spares_are_given_back_when_there_is_little_room() {
    let mut busy = Busy::new();
    let spares = |busy: &Busy| {
        let listed = busy.disk.list().expect("memory");
        listed.iter().filter(|name| is_spare(name)).count()
    };
    let segment = busy.journal.segment();
    while busy.journal.segment() < segment + 5 {
        busy.write();
    }
    busy.compact();
    assert_eq!(spares(&busy), 3, "two that are ready, and the reserve");
    let room = busy.journal.room_bytes();
    busy.journal.set_budget(0, false);
    remove_all(&mut busy.journal).expect("memory");
    assert_eq!(spares(&busy), 2);
    assert_eq!(busy.journal.room_bytes(), room, "it was promised");
    let before = busy.bytes();
    for _ in 0..100 {
        busy.write();
        busy.compact();
        busy.journal.set_budget(1_000, true);
    }
    assert!(busy.bytes() <= before, "{} bytes, and {before} before", busy.bytes());
    assert_eq!(spares(&busy), 1, "segments are removed and not kept");
}

/// What is prepared before it is needed must not be given back as soon as it is there: with room at
/// the bound, files would be made and removed for ever.
#[test]
fn a_spare_is_prepared_only_where_it_can_stay() {
    for budget in (0..20_000).step_by(100) {
        let disk = RecordingDisk::default();
        recovery::create(&disk, OPTIONS.journal_id).expect("memory");
        let options = Options { segment_bytes: 600, ..OPTIONS };
        let opened = recovery::open(disk.clone(), options, SnapshotId::NONE);
        let (mut journal, _) = opened.expect("memory");
        // What it reserves itself is enough: no other spare has to stay.
        journal.keep_reserved(Reservation { ahead_bytes: 700, ..RESERVATION });
        while journal.reserve(0).expect("memory") == Reserved::Some {}
        journal.append_and_sync(&write(1, 1..=4)).expect("there is room");
        let before = disk.operations();
        for _ in 0..10 {
            journal.set_budget(budget, false);
            for _ in 0..3 {
                journal.do_chore().expect("memory");
            }
        }
        // A spare of 600 bytes in steps of 150: made once, or not at all.
        assert!(disk.operations() - before <= 10, "with a budget of {budget} bytes");
    }
}

/// While the disk fills up, what is only being prepared makes room for what is needed.
#[test]
fn a_spare_is_not_prepared_while_space_is_short() {
    let disk = MemoryDisk::new();
    let hurry = Hurry::default();
    let pace = Pace::Considerate(hurry.clone());
    let prepare = Chore::Prepare { spare: "spare-1.seg".to_owned(), bytes: 600, step_bytes: 150 };
    hurry.set(true);
    assert!(perform(&disk, &prepare, &pace).expect("memory").is_none());
    assert!(disk.list().expect("memory").is_empty());
    hurry.set(false);
    assert!(perform(&disk, &prepare, &pace).expect("memory").is_some());
}
