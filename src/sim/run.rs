//! Running seeds, and what to do when one fails.
//!
//! Seeds know nothing of each other, so threads may share them; their results are put together in
//! the order of the seeds, and what a run of many says does not depend on who was faster.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

use super::checks::{Checked, Violation};
use super::faults::{Fault, Kinds};
use super::panics;
use super::plan::Plan;
use super::report::{Stats, Trace};
use super::world::World;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many servers; `None`: each seed draws its own number.
    pub servers: Option<usize>,
    /// How many seeds.
    pub seeds: u64,
    /// The first of them.
    pub first_seed: u64,
    /// Steps of each run, before the faults end.
    pub steps: u64,
    /// What may go wrong.
    pub faults: Kinds,
    /// Print everything that happens.
    pub trace: bool,
    /// How many threads share the seeds. It changes nothing about any of them.
    pub threads: usize,
    /// Pretend that an assertion breaks at this step, to see what is told when one does.
    pub break_at: Option<u64>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            servers: None,
            seeds: 100,
            first_seed: 0,
            steps: 10_000,
            faults: Kinds::ALL,
            trace: false,
            threads: 1,
            break_at: None,
        }
    }
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Report {
    /// Seeds that were run.
    pub seeds: u64,
    /// The sum of their numbers.
    pub stats: Stats,
    /// The first one that failed.
    pub failure: Option<Failure>,
}

/// A run in which a property was broken.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// What was broken.
    pub violation: Violation,
    /// After how many steps.
    pub step: u64,
    /// The faults that it takes.
    pub faults: Vec<Fault>,
    /// The last events.
    pub transcript: Vec<String>,
    /// The command line that runs it again (with all its faults).
    pub command: String,
}

/// Of so many histories, one may be too hard to judge. More would mean that the clients are drawn
/// badly: a history that nobody can judge proves nothing.
const SEEDS_PER_UNDECIDED: u64 = 500;

impl Report {
    /// Whether enough of the histories were judged for "no property was broken" to mean something.
    pub fn is_conclusive(&self) -> bool {
        self.stats.undecided <= self.seeds.div_ceil(SEEDS_PER_UNDECIDED)
    }
}

impl Options {
    /// The command line that runs this seed again.
    pub fn command(&self, seed: u64) -> String {
        let servers = self.servers.map(|count| format!(" --servers {count}")).unwrap_or_default();
        let (steps, faults) = (self.steps, self.faults);
        let break_at = self.break_at.map(|step| format!(" --break-at {step}")).unwrap_or_default();
        format!(
            "raft-server sim{servers} --seed {seed} --steps {steps} --faults {faults}{break_at} \
             --trace"
        )
    }
}

/// Runs seeds until one fails.
pub fn run(options: &Options) -> Report {
    run_telling(options, |_| {})
}

/// As `run`; calls `progress` after each seed.
pub fn run_telling(options: &Options, mut progress: impl FnMut(&Report)) -> Report {
    let mut report = Report { seeds: 0, stats: Stats::default(), failure: None };
    let end = options.first_seed + options.seeds;
    let next = AtomicU64::new(options.first_seed);
    let stop = AtomicBool::new(false);
    let (results, arrivals) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..options.threads.max(1) {
            let (results, next, stop) = (results.clone(), &next, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || results.send((seed, run_seed(options, seed))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(results); // so that the arrivals end with the last thread
        let mut early = BTreeMap::new();
        for (seed, outcome) in arrivals {
            early.insert(seed, outcome);
            while let Some((stats, result)) = early.remove(&(options.first_seed + report.seeds)) {
                let seed = options.first_seed + report.seeds;
                report.seeds += 1;
                report.stats.add(&stats);
                if let Err(violation) = result {
                    stop.store(true, Ordering::Relaxed);
                    report.failure = Some(explain(options, seed, violation));
                    return;
                }
                progress(&report);
            }
        }
    });
    report
}

/// Runs one seed.
pub fn run_seed(options: &Options, seed: u64) -> (Stats, Result<(), Violation>) {
    let plan = Plan::draw(seed, options.servers, options.faults);
    let trace = if options.trace { Trace::aloud(0) } else { Trace::off() };
    let (world, result) = run_plan(options, plan, trace);
    (world.stats, result)
}

fn run_plan(options: &Options, plan: Plan, trace: Trace) -> (World, Result<(), Violation>) {
    panics::begin(options, plan.seed);
    let mut world = World::new(plan, trace);
    let result = catch_unwind(AssertUnwindSafe(|| world.run_to_end(options)));
    panics::end();
    let result = result.unwrap_or_else(|panic| {
        let detail = match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(other) => match other.downcast::<&str>() {
                Ok(text) => (*text).to_owned(),
                Err(_) => "a panic without a text".to_owned(),
            },
        };
        Err(Violation { property: "An assertion of the server", detail })
    });
    (world, result)
}

impl World {
    /// A whole run: trouble, recovery, judgement.
    pub(super) fn run_to_end(&mut self, options: &Options) -> Checked {
        while self.stats.steps < options.steps {
            panics::at_step(self.stats.steps);
            assert!(
                options.break_at.is_none_or(|step| self.stats.steps < step),
                "an assertion broken on purpose"
            );
            self.step()?;
        }
        self.recover()?;
        self.keys_expire_in_peace()?;
        self.judge()
    }
}

/// How many steps before the end a transcript begins.
pub(super) const TRANSCRIPT_STEPS: u64 = 150;

/// Runs a failing seed again: with ever fewer faults, then for its transcript.
pub(super) fn explain(options: &Options, seed: u64, violation: Violation) -> Failure {
    let mut plan = Plan::draw(seed, options.servers, options.faults);
    plan.faults = shrink(options, &plan, &violation);
    let (world, _) = run_plan(options, plan.clone(), Trace::off());
    let from = world.stats.steps.saturating_sub(TRANSCRIPT_STEPS);
    let (world, result) = run_plan(options, plan.clone(), Trace::from(from));
    let violation = result.err().unwrap_or(violation);
    let (step, transcript) = (world.stats.steps, world.trace.lines().to_vec());
    let command = options.command(seed);
    let happened = |fault: &Fault| fault.at <= world.now;
    // From the world and not from the plan: there an ambush has become what it did, and to whom.
    let faults = world.plan.faults.iter().copied().filter(happened).collect();
    Failure { seed, violation, step, faults, transcript, command }
}

/// Leaves out ever smaller parts of the fault schedule as long as the same property still breaks
/// (delta debugging, Zeller 2002).
fn shrink(options: &Options, plan: &Plan, violation: &Violation) -> Vec<Fault> {
    let fails = |faults: &[Fault]| {
        let plan = Plan { faults: faults.to_vec(), ..plan.clone() };
        let (_, result) = run_plan(options, plan, Trace::off());
        result.is_err_and(|found| found.property == violation.property)
    };
    let mut faults = plan.faults.clone();
    let without = |at: usize, size: usize, faults: &[Fault]| {
        let mut fewer = faults.to_vec();
        fewer.drain(at..(at + size).min(faults.len()));
        fewer
    };
    let mut size = faults.len().div_ceil(2);
    let mut runs_left = 200;
    while size > 0 && runs_left > 0 {
        let mut at = 0;
        while at < faults.len() && runs_left > 0 {
            runs_left -= 1;
            let fewer = without(at, size, &faults);
            if fails(&fewer) {
                faults = fewer;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    faults
}
