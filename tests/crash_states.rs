//! Every state that a crash could leave, recovered. A workload runs over a disk that writes down
//! each operation; after each of them the power may fail, and what no sync has covered may be
//! there, be lost, be cut after any byte or be zeros. Whatever is left must give back exactly what
//! was acknowledged, or that and the one write that was under way; never less, never anything else.
//!
//! Rows of `scenarios.md`: S28, S29, S33–S36, S41–S43.

use raft_server::raft::durability::{Write, WriteTicket};
use raft_server::raft::types::{
    Command, Entry, EntryId, HardState, Index, Payload, ServerId, SnapshotId, Stamp, Term,
};
use raft_server::storage::disk::Disk;
use raft_server::storage::error::JournalError;
use raft_server::storage::journal::{Journal, Options, segment_name};
use raft_server::storage::recording_disk::{Cuts, Files, RecordingDisk};
use raft_server::storage::recovery::{self, Recovered};
use raft_server::storage::reserve::{Reservation, Reserved};

/// Segments of two or three batches: rotation at every turn.
const OPTIONS: Options = Options { journal_id: 0xFEED, run_id: 7, segment_bytes: 300 };

/// A journal that reserves: little at a time, and a spare for one write.
const RESERVATION: Reservation =
    Reservation { step_bytes: 100, ahead_bytes: 400, kept_bytes: 0, ready_max: 2 };

/// What a journal holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    hard_state: HardState,
    entries: Vec<Entry>,
}

impl Model {
    fn with(&self, write: &Write) -> Model {
        let mut next = self.clone();
        next.hard_state = write.hard_state.unwrap_or(next.hard_state);
        for entry in &write.entries {
            next.entries.truncate(entry.id.index.0 as usize - 1);
            next.entries.push(entry.clone());
        }
        next
    }
}

/// What the server does next.
#[derive(Clone, Debug)]
enum Step {
    Create,
    /// Open, or open again without a loss of power: kill -9.
    Open,
    Append(Write),
    Seal,
}

/// What was promised to whom, as the operations went by.
#[derive(Debug)]
struct Witness {
    disk: RecordingDisk,
    /// Whether the journal reserves its space.
    reserves: bool,
    /// For each number of operations: what may be found after a crash right there.
    allowed: Vec<Promise>,
}

#[derive(Clone, Debug)]
struct Promise {
    /// Whether the journal's creation has been reported as done.
    created: bool,
    /// The highest incarnation that anybody was told.
    incarnation: Option<u64>,
    models: Vec<Model>,
}

fn entry(index: u64, term: u64) -> Entry {
    let payload = match index % 3 {
        0 => Payload::Noop,
        _ => Payload::Command(Command::from(format!("{index}@{term}").as_bytes())),
    };
    Entry { id: EntryId::new(Term(term), Index(index)), stamp: Stamp(7 * index), payload }
}

fn hard_state(term: u64, vote: u32) -> Option<HardState> {
    let voted_for = (vote > 0).then_some(ServerId(vote));
    Some(HardState { current_term: Term(term), voted_for })
}

fn append(
    hard_state: Option<HardState>,
    term: u64,
    indexes: std::ops::RangeInclusive<u64>,
) -> Step {
    let entries = indexes.map(|index| entry(index, term)).collect();
    Step::Append(Write { ticket: WriteTicket(0), hard_state, base: None, entries })
}

/// Elections, entries, truncation, seals, rotation, and restarts in all of that.
#[expect(clippy::reversed_empty_ranges, reason = "a hard state without entries")]
fn workload() -> Vec<Step> {
    vec![
        Step::Create,
        Step::Open,
        append(hard_state(1, 0), 1, 1..=0),
        append(hard_state(1, 2), 1, 1..=2),
        Step::Seal,
        append(None, 1, 3..=5),
        append(hard_state(2, 0), 2, 4..=4),
        append(hard_state(2, 3), 2, 1..=0),
        Step::Open,
        append(None, 2, 5..=5),
        append(None, 2, 6..=8),
        Step::Seal,
        append(hard_state(4, 1), 4, 2..=2),
        Step::Open,
        Step::Open,
        append(None, 4, 3..=4),
        Step::Seal,
        append(hard_state(5, 1), 5, 1..=0),
    ]
}

/// Runs the steps. When one fails, the process ends and another one opens the journal again, as a
/// supervisor would have it; then the rest is done.
fn run(disk: RecordingDisk, steps: &[Step], promise: Promise, reserves: bool) -> Witness {
    let mut witness = Witness { disk, reserves, allowed: vec![promise] };
    let mut journal: Option<Journal<RecordingDisk>> = None;
    for step in steps {
        if witness.take(step, &mut journal).is_err() {
            // The dead journal acknowledges nothing any more, however well the disk is now (S34).
            if let Some(dead) = &mut journal {
                assert!(matches!(dead.seal(), Err(JournalError::Poisoned)));
            }
            if !witness.now().created {
                witness.take(&Step::Create, &mut journal).expect("a disk fails once");
            }
            witness.take(&Step::Open, &mut journal).expect("a disk fails once");
        }
    }
    witness
}

impl Witness {
    fn now(&self) -> &Promise {
        self.allowed.last().expect("it begins with one")
    }

    fn take(
        &mut self,
        step: &Step,
        journal: &mut Option<Journal<RecordingDisk>>,
    ) -> Result<(), JournalError> {
        let before = self.now().clone();
        let mut during = before.clone();
        let mut after = before.clone();
        let result = match step {
            Step::Create => {
                after.created = true;
                // As `init` does, before it makes another attempt.
                let _ = self.disk.remove(&segment_name(1));
                recovery::create(&self.disk, OPTIONS.journal_id)
            }
            Step::Open => reopen(&self.disk, journal, self.reserves).map(|recovered| {
                let model = Model { hard_state: recovered.hard_state, entries: recovered.entries };
                assert!(before.models.contains(&model), "read {model:?}, allowed {before:?}");
                assert!(Some(recovered.incarnation) > before.incarnation, "an incarnation twice");
                after.models = vec![model];
                after.incarnation = Some(recovered.incarnation);
            }),
            Step::Append(write) => {
                let [model] = before.models.as_slice() else { panic!("open comes first") };
                let next = fitting(write, model);
                after.models = vec![model.with(&next)];
                during.models.extend(after.models.clone());
                let journal = journal.as_mut().expect("open comes first");
                // As the log writer does between two writes.
                let reserved = journal.reserve(0).and_then(|_| journal.reserve(0));
                let prepared = reserved.and_then(|_: Reserved| journal.do_chore());
                prepared.and_then(|_| journal.append_and_sync(&next))
            }
            Step::Seal => journal.as_mut().expect("open comes first").seal().map(|_| ()),
        };
        self.allowed.resize(self.disk.operations().max(self.allowed.len()), during.clone());
        match result {
            Ok(()) if self.allowed.len() > self.disk.operations() => {
                *self.allowed.last_mut().expect("it begins with one") = after;
            }
            Ok(()) => self.allowed.push(after),
            Err(_) if self.allowed.len() > self.disk.operations() => {}
            Err(_) => self.allowed.push(during),
        }
        result
    }
}

/// The process that had the journal is gone, whether the next one can open it or not.
fn reopen(
    disk: &RecordingDisk,
    journal: &mut Option<Journal<RecordingDisk>>,
    reserves: bool,
) -> Result<Recovered, JournalError> {
    *journal = None;
    let segment_bytes = if reserves { 500 } else { OPTIONS.segment_bytes };
    let options = Options { segment_bytes, ..OPTIONS };
    let (mut opened, recovered) = recovery::open(disk.clone(), options, SnapshotId::NONE)?;
    if reserves {
        opened.keep_reserved(RESERVATION);
    }
    *journal = Some(opened);
    Ok(recovered)
}

/// After a failure the log may be shorter than the script thinks: a write then begins at its end.
fn fitting(write: &Write, model: &Model) -> Write {
    let mut write = write.clone();
    if write.hard_state.is_none() && model.hard_state == HardState::default() {
        write.hard_state = hard_state(1, 0);
    }
    if let Some(next) = write.hard_state {
        assert!(next.current_term >= model.hard_state.current_term, "the script's terms rise");
    }
    let term = write.hard_state.unwrap_or(model.hard_state).current_term;
    let first = write.entries.first().map_or(1, |entry| entry.id.index.0);
    let first = first.min(model.entries.len() as u64 + 1);
    for (index, old) in (first..).zip(&mut write.entries) {
        *old = entry(index, term.0);
    }
    write
}

/// What one crash state gives back, compared with what was promised.
fn check(files: &Files, promise: &Promise) -> Option<RecordingDisk> {
    let disk = RecordingDisk::new(files);
    match recovery::open(disk.clone(), OPTIONS, SnapshotId::NONE) {
        Ok((_, recovered)) => {
            let model = Model { hard_state: recovered.hard_state, entries: recovered.entries };
            assert!(
                promise.models.contains(&model),
                "recovered {model:#?}, allowed {promise:#?}, from {files:?}"
            );
            assert!(Some(recovered.incarnation) > promise.incarnation, "an incarnation twice");
            Some(disk)
        }
        Err(error) => {
            assert!(!promise.created, "refused: {error}, allowed {promise:#?}, from {files:?}");
            None
        }
    }
}

/// Every crash state of a run, from an operation on.
fn check_all(witness: &Witness, from: usize, cuts: Cuts, each: &mut dyn FnMut(&Files, &Promise)) {
    assert_eq!(witness.allowed.len(), witness.disk.operations() + 1);
    for (operations, promise) in witness.allowed.iter().enumerate().skip(from) {
        witness.disk.crash_states(operations, cuts, &mut |files| each(&files, promise));
    }
}

fn nothing_promised() -> Promise {
    Promise { created: false, incarnation: None, models: vec![Model::default()] }
}

/// S28, S29, S33, S36, S41, S42: the power fails anywhere, and any part of what was not synced is
/// gone.
#[test]
fn every_crash_state_gives_back_what_was_acknowledged() {
    for reserves in [false, true] {
        let witness = run(RecordingDisk::default(), &workload(), nothing_promised(), reserves);
        let mut recoveries = 0_u64;
        check_all(&witness, 0, Cuts::Every, &mut |files, promise| {
            check(files, promise);
            recoveries += 1;
        });
        println!("{recoveries} crash states of {} operations, 0 wrong", witness.disk.operations());
        assert!(recoveries > 5_000, "the workload has become too small: {recoveries}");
    }
}

/// The recovery from a crash is interrupted by a crash as well, and so is the write after it.
#[test]
fn every_crash_state_of_a_recovery_gives_back_the_same() {
    let witness = run(RecordingDisk::default(), &workload(), nothing_promised(), false);
    let mut recoveries = 0_u64;
    check_all(&witness, 0, Cuts::Every, &mut |files, promise| {
        if check(files, promise).is_none() {
            return;
        }
        let steps = [Step::Open, append(hard_state(9, 1), 9, 1..=1)];
        let again = run(RecordingDisk::new(files), &steps, promise.clone(), false);
        check_all(&again, 0, Cuts::Few, &mut |files, promise| {
            check(files, promise);
            recoveries += 1;
        });
    });
    println!("{recoveries} recoveries of interrupted recoveries, 0 wrong");
    assert!(recoveries > 100_000, "the workload has become too small: {recoveries}");
}

/// S34, S35: each operation fails once and all later ones succeed; the process ends, is started
/// again, works on, and loses power later. What the failed sync forgot is on no disk.
#[test]
fn every_failed_operation_and_every_crash_after_it() {
    let (mut recoveries, whole) = (0_u64, |reserves| {
        let witness = run(RecordingDisk::default(), &workload(), nothing_promised(), reserves);
        witness.disk.operations()
    });
    let with_all = |reserves| (0..whole(reserves)).map(move |failing| (reserves, failing));
    for (reserves, failing) in with_all(false).chain(with_all(true)) {
        let disk = RecordingDisk::default();
        disk.fail_at(failing);
        let witness = run(disk, &workload(), nothing_promised(), reserves);
        check_all(&witness, failing, Cuts::Few, &mut |files, promise| {
            check(files, promise);
            recoveries += 1;
        });
    }
    println!("{recoveries} crash states after a failed operation, 0 wrong");
    assert!(recoveries > 20_000, "the workload has become too small: {recoveries}");
}
