//! `raft-server sim`: the simulator as a tool. Watch Raft work, and try to break it.

use std::io::{self, Write};
use std::time::Instant;

use clap::Args;
use raft_server::sim::{self, Kinds, Options, Report};

use super::exit::{FAILED, Failure, OK};

/// What to simulate.
#[derive(Args)]
#[command(after_help = "\
Exit codes: 0 no property was broken, 1 one was (its seed, and the command that replays it, are
printed), 2 wrong usage.")]
pub struct SimArguments {
    /// Servers of each cluster, 1 to 7 [default: each seed draws its own number]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=7))]
    servers: Option<u8>,
    /// How many seeds to run; each is another world [default: 100, or 1 with --seed]
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed; without --seeds the only one: the same seed is the same run
    #[arg(long)]
    seed: Option<u64>,
    /// How many events each run has before the faults end and the cluster must recover
    #[arg(long, default_value_t = 10_000)]
    steps: u64,
    /// What may go wrong: all, none, or a list such as crashes,disks. There are crashes,
    /// partitions, messages, freezes, clocks, disks and clients
    #[arg(long, default_value = "all", value_parser = Kinds::parse)]
    faults: Kinds,
    /// Print everything that happens; best with --seed
    #[arg(long)]
    trace: bool,
    /// Threads that share the seeds; it changes nothing about any of them
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    threads: u8,
    /// Pretend that an assertion breaks at this step, to see what is told when one does
    #[arg(long)]
    break_at: Option<u64>,
}

/// Runs the seeds, with a line of progress on stderr. A broken promise is told with its seed, the
/// command that replays it, the faults it takes and the last events; then the exit code is 1.
pub fn run(arguments: &SimArguments) -> Result<i32, Failure> {
    let one = if arguments.seed.is_some() { 1 } else { 100 };
    let options = Options {
        servers: arguments.servers.map(usize::from),
        seeds: arguments.seeds.unwrap_or(one),
        first_seed: arguments.seed.unwrap_or(0),
        steps: arguments.steps,
        faults: arguments.faults,
        trace: arguments.trace,
        threads: usize::from(arguments.threads),
        break_at: arguments.break_at,
    };
    let since = Instant::now();
    let mut told = since;
    let report = sim::run_telling(&options, |so_far| {
        if told.elapsed().as_secs() >= 1 {
            told = Instant::now();
            tell_progress(so_far, options.seeds);
        }
    });
    let seconds = since.elapsed().as_secs_f64();
    let mut output = io::stdout().lock();
    writeln!(output, "{report}")?;
    writeln!(
        output,
        "{:.1} s, {:.0} steps a second",
        seconds,
        report.stats.steps as f64 / seconds
    )?;
    output.flush()?;
    Ok(if report.failure.is_some() { FAILED } else { OK })
}

fn tell_progress(report: &Report, seeds: u64) {
    // Nobody may be looking; the run goes on.
    let _ = writeln!(
        io::stderr(),
        "seeds {}/{seeds}  steps {}  operations {}",
        report.seeds,
        report.stats.steps,
        report.stats.operations
    );
}
