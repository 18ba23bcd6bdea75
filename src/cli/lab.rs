//! `raft-server lab`: take one rule out of the server, and see what breaks.
//!
//! The rules stand in `raft_server::lab`. Only a program built with the feature `lab` can forget
//! one, and only in the simulator.

use clap::{Args, Subcommand};

#[cfg(not(feature = "lab"))]
use super::exit::Failure;

/// What to do in the lab.
#[derive(Subcommand)]
pub enum LabCommand {
    /// Every rule that can be switched off, where it stands, and what breaks without it
    List,
    /// Switch a rule off and run seeds until something breaks; tell the whole story
    Run(RunArguments),
    /// Switch each rule off in turn: how many seeds does it take until something breaks?
    Measure(MeasureArguments),
}

/// What to run.
#[derive(Args)]
pub struct RunArguments {
    /// The switch, as `lab list` names it
    name: String,
    /// How many seeds to try
    #[arg(long, default_value_t = SEEDS_MAX)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Steps of each run before the faults end
    #[arg(long, default_value_t = STEPS)]
    steps: u64,
}

/// What to measure.
#[derive(Args)]
pub struct MeasureArguments {
    /// Only these switches
    names: Vec<String>,
    /// From how many first seeds to look
    #[arg(long, default_value_t = 9)]
    starts: u64,
    /// How many seeds to try from each
    #[arg(long, default_value_t = SEEDS_MAX)]
    seeds: u64,
    /// Steps of each run before the faults end
    #[arg(long, default_value_t = STEPS)]
    steps: u64,
}

/// No switch may take more seeds than this.
const SEEDS_MAX: u64 = 20_000;

/// Steps of one run.
const STEPS: u64 = 15_000;

/// Without the feature there is no lab.
#[cfg(not(feature = "lab"))]
pub fn run(_: &LabCommand) -> Result<i32, Failure> {
    Err(Failure::usage(HOW_TO_BUILD))
}

const HOW_TO_BUILD: &str = "this program cannot do without a rule. Build one that can: \
                            cargo run --profile lab --features lab -- lab list";

#[cfg(feature = "lab")]
pub use rooms::{refuse_to_serve, run};

#[cfg(feature = "lab")]
mod rooms {
    use std::io::{self, Write};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::thread;

    use raft_server::lab::Rule;
    use raft_server::sim::Options;
    use raft_server::sim::lab::{self, Hit};

    use super::super::exit::{FAILED, FALSE, Failure, OK};
    use super::{LabCommand, MeasureArguments, RunArguments};

    /// Threads that measure.
    const THREADS: usize = 2;

    /// How far apart the first seeds of a measurement are.
    const START_DISTANCE: u64 = 1_000_000;

    /// Does what is asked in the lab.
    pub fn run(command: &LabCommand) -> Result<i32, Failure> {
        match command {
            LabCommand::List => list(),
            // A broken assertion is a finding here, and must not end the program.
            _ if cfg!(panic = "abort") => Err(Failure::usage(super::HOW_TO_BUILD)),
            LabCommand::Run(arguments) => run_one(arguments),
            LabCommand::Measure(arguments) => measure(arguments),
        }
    }

    /// A server with a rule switched off would lose the data of whoever trusts it.
    pub fn refuse_to_serve() -> Result<(), Failure> {
        match raft_server::lab::switched_off() {
            None => Ok(()),
            Some(rule) => {
                let name = rule.lesson().name;
                Err(Failure::usage(format!(
                    "{name} is on: a server without a rule serves nobody; use the simulator"
                )))
            }
        }
    }

    fn list() -> Result<i32, Failure> {
        let mut output = io::stdout().lock();
        for rule in Rule::ALL {
            let lesson = rule.lesson();
            writeln!(output, "{}", lesson.name)?;
            writeln!(output, "    rule    {}", lesson.rule)?;
            writeln!(output, "    where   {}", lesson.place)?;
            writeln!(output, "    breaks  {}", lesson.properties.join(", or "))?;
        }
        writeln!(output, "\n{} switches", Rule::ALL.len())?;
        output.flush()?;
        Ok(OK)
    }

    fn rule(name: &str) -> Result<Rule, Failure> {
        let unknown = || Failure::usage(format!("no switch is called {name:?}: see `lab list`"));
        Rule::named(name).ok_or_else(unknown)
    }

    fn run_one(arguments: &RunArguments) -> Result<i32, Failure> {
        let rule = rule(&arguments.name)?;
        let options = Options {
            seeds: arguments.seeds,
            first_seed: arguments.seed,
            steps: arguments.steps,
            ..Options::default()
        };
        let lesson = rule.lesson();
        let mut output = io::stdout().lock();
        writeln!(output, "switched off: {}\n    {}\n", lesson.rule, lesson.place)?;
        let Some((hit, mut failure)) = lab::explain(rule, &options) else {
            writeln!(output, "nothing broke in {} seeds", options.seeds)?;
            return Ok(FALSE);
        };
        let (name, seed, steps) = (lesson.name, failure.seed, options.steps);
        failure.command = format!("raft-server lab run {name} --seed {seed} --steps {steps}");
        writeln!(output, "{failure}\nIt took {} seeds to break: {}", hit.seeds, hit.property())?;
        output.flush()?;
        Ok(OK)
    }

    /// What was measured of one switch: a hit, or none, from each first seed.
    type Measured = Vec<Option<Hit>>;

    fn measure(arguments: &MeasureArguments) -> Result<i32, Failure> {
        let mut rules = Rule::ALL.to_vec();
        if !arguments.names.is_empty() {
            rules = arguments.names.iter().map(|name| rule(name)).collect::<Result<_, _>>()?;
        }
        let mut all_found = true;
        let next = AtomicUsize::new(0);
        let (done, measured) = mpsc::channel();
        thread::scope(|scope| -> Result<(), Failure> {
            for _ in 0..THREADS {
                let (done, next, rules) = (done.clone(), &next, &rules);
                scope.spawn(move || {
                    while let Some(&rule) = rules.get(next.fetch_add(1, Ordering::Relaxed)) {
                        // Nobody listens any more if stdout is gone.
                        let _ = done.send((rule, measure_one(rule, arguments)));
                    }
                });
            }
            drop(done);
            println_row(["switch", "median", "most", "found", "what breaks (how often)"])?;
            for (rule, hits) in measured {
                all_found &= hits.iter().all(Option::is_some);
                tell(rule, &hits)?;
            }
            Ok(())
        })?;
        Ok(if all_found { OK } else { FAILED })
    }

    fn measure_one(rule: Rule, arguments: &MeasureArguments) -> Measured {
        let options = |start| Options {
            seeds: arguments.seeds,
            first_seed: start * START_DISTANCE,
            steps: arguments.steps,
            ..Options::default()
        };
        (0..arguments.starts).map(|start| lab::find(rule, &options(start))).collect()
    }

    fn tell(rule: Rule, hits: &Measured) -> Result<(), Failure> {
        let seeds = |hit: &Option<Hit>| hit.as_ref().map_or(u64::MAX, |hit| hit.seeds);
        let mut counts: Vec<u64> = hits.iter().map(seeds).collect();
        counts.sort_unstable();
        let shown = |count: u64| match count {
            u64::MAX => "never".to_owned(),
            count => count.to_string(),
        };
        let median = shown(counts[counts.len() / 2]);
        let most = shown(counts[counts.len() - 1]);
        let mut names: Vec<&str> = hits.iter().flatten().map(Hit::property).collect();
        names.sort_unstable();
        let mut properties = names.clone();
        properties.dedup();
        let times = |name: &&str| names.iter().filter(|other| *other == name).count();
        let properties: Vec<String> =
            properties.iter().map(|name| format!("{name} ({})", times(name))).collect();
        let found = format!("{}/{}", names.len(), hits.len());
        println_row([rule.lesson().name, &median, &most, &found, &properties.join("; ")])
    }

    fn println_row(cells: [&str; 5]) -> Result<(), Failure> {
        let [name, median, most, found, properties] = cells;
        let mut output = io::stdout().lock();
        writeln!(output, "{name:<30} {median:>6} {most:>6} {found:>6}  {properties}")?;
        Ok(output.flush()?)
    }

    /// Whoever serves keeps all the rules.
    #[test]
    fn a_server_with_a_switch_on_refuses_to_serve() {
        assert!(refuse_to_serve().is_ok());
        let refused = raft_server::lab::without(Rule::VoteWaitsForDisk, refuse_to_serve);
        assert!(format!("{refused:?}").contains("vote-before-fsync is on"));
    }
}
