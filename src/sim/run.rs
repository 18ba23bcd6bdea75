//! Running seeds, one after the other, and what to do when one fails.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::checks::Violation;
use super::faults::{Fault, Kinds, Plan};
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
}

/// Runs seeds until one fails.
pub fn run(options: &Options) -> Report {
    let mut report = Report { seeds: 0, stats: Stats::default(), failure: None };
    for seed in options.first_seed..options.first_seed + options.seeds {
        let (stats, result) = run_seed(options, seed);
        report.seeds += 1;
        report.stats.add(&stats);
        if let Err(violation) = result {
            report.failure = Some(explain(options, seed, stats.steps, violation));
            break;
        }
    }
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
    let mut world = World::new(plan, trace);
    let result = catch_unwind(AssertUnwindSafe(|| {
        while world.stats.steps < options.steps {
            world.step()?;
        }
        world.recover()?;
        world.judge()
    }));
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

/// How many steps before the end a transcript begins.
const TRANSCRIPT_STEPS: u64 = 150;

/// Runs a failing seed again: with ever fewer faults, then for its transcript.
fn explain(options: &Options, seed: u64, step: u64, violation: Violation) -> Failure {
    let mut plan = Plan::draw(seed, options.servers, options.faults);
    plan.faults = shrink(options, &plan, &violation);
    let (world, _) = run_plan(options, plan.clone(), Trace::off());
    let from = world.stats.steps.saturating_sub(TRANSCRIPT_STEPS);
    let (world, result) = run_plan(options, plan.clone(), Trace::from(from));
    let violation = result.err().unwrap_or(violation);
    let step = world.stats.steps.min(step.max(world.stats.steps));
    let transcript = world.trace.lines().to_vec();
    Failure { seed, violation, step, faults: plan.faults, transcript }
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
    let mut size = faults.len().div_ceil(2);
    let mut runs_left = 200;
    while size > 0 && runs_left > 0 {
        let mut at = 0;
        while at < faults.len() && runs_left > 0 {
            runs_left -= 1;
            let mut fewer = faults.clone();
            fewer.drain(at..(at + size).min(faults.len()));
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
