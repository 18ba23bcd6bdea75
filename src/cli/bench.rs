//! `raft-server bench`: load for a cluster, and what it does to it.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};
use raft_server::bench::{self, Options, Progress, Protocol, To, Until};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::exit::{self, FAILED, Failure, OK};

/// Clients of a run that does not say how many.
const CLIENTS: usize = 64;

/// The same with --outage: a few steady writers.
const CLIENTS_OUTAGE: usize = 8;

/// Seconds that are measured, if neither they nor a number of requests is given.
const SECONDS: f64 = 10.0;

/// The same with --outage: time to find the process and to kill it.
const SECONDS_OUTAGE: f64 = 30.0;

/// Above a server's own deadline, which answers UNKNOWN: 5 s by default.
const TIMEOUT_MS: u64 = 10_000;

/// The same with --outage: a frozen server answers nothing, and its clients try another one.
const TIMEOUT_MS_OUTAGE: u64 = 500;

/// Bytes of values in flight: what the load may take of memory here, and perhaps at the servers.
const FLIGHT_BYTES_MAX: usize = 1 << 30;

/// Load for a cluster.
#[derive(Args)]
#[command(after_help = "\
Keys are named bench:LENGTH:NUMBER and stay in the store. Every value that is read is checked to be
one that somebody may have written to this key.

The loop is closed: a client makes its next request when an answer has come. While the servers stand
still, the requests that users would make meanwhile are not made and not counted (coordinated
omission): then percentiles look better than what users with a rate of their own see. What standing
still costs is what --outage reports.

Errors are counted apart: refused (certainly not executed), unknown (answered so: perhaps executed),
lost (no answer before the connection was over or given up: perhaps executed), wrong (the request
cannot be executed), nonsense (no right answer). Latencies are those of requests that succeeded.
What is in flight when the time is over is unfinished: perhaps executed, and counted nowhere else.

Ctrl-C ends the run early, with a report of what was measured; a second one ends it at once.

Exit codes: 0 the load ran, and its report is on stdout; 1 no server, no leader, no request
succeeded, nothing measured yet, or answers were nonsense; 2 wrong usage.")]
pub struct BenchArguments {
    /// Where servers listen for clients, each as host:port
    #[arg(required = true, value_name = "ADDRESS", num_args = 1..=bench::PLACES_MAX)]
    addresses: Vec<String>,
    /// Connections [default: 64, with --outage 8]
    #[arg(long, value_name = "N", value_parser = count(20_000))]
    clients: Option<usize>,
    /// Requests that each client keeps in flight
    #[arg(long, value_name = "N", default_value = "1", value_parser = count(10_000))]
    pipeline: usize,
    /// How many of a hundred requests are reads
    #[arg(long, value_name = "PERCENT", default_value_t = 0,
        value_parser = clap::value_parser!(u64).range(0..=100))]
    reads: u64,
    /// How many different keys there are; each request draws one
    #[arg(long, value_name = "N", default_value_t = 100_000,
        value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    keys: u64,
    /// Length of a value
    #[arg(long, value_name = "N", default_value = "256", value_parser = count(4 << 20))]
    value_bytes: usize,
    /// Time that is measured [default: 10, with --outage 30]
    #[arg(long, value_name = "S", value_parser = seconds)]
    seconds: Option<Duration>,
    /// End when so many requests have ended, instead of after a time
    #[arg(long, value_name = "N", conflicts_with = "seconds",
        value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
    /// Time before the measuring begins [default: 1, with --requests 0]
    #[arg(long, value_name = "S", value_parser = seconds, conflicts_with = "requests")]
    warmup: Option<Duration>,
    /// Write every key once before, so that reads find something
    #[arg(long)]
    fill: bool,
    /// Which servers get the load: the leader (clients move when it changes), or all [default:
    /// leader, with --outage spread]
    #[arg(long, value_enum)]
    to: Option<ToArgument>,
    /// How requests are spelled: as Redis' clients do, or as lines
    #[arg(long, value_enum, default_value_t = ProtocolArgument::Resp)]
    protocol: ProtocolArgument,
    /// Give up a request, and its connection, after this time [default: 10000, with --outage 500]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=120_000))]
    timeout_ms: Option<u64>,
    /// Write steadily and report the times without a successful write, while you kill servers: the
    /// longest, and those of --gap-ms, each with its beginning
    #[arg(long, conflicts_with = "reads")]
    outage: bool,
    /// How long such a time must be
    #[arg(long, value_name = "MS", default_value_t = 50, requires = "outage",
        value_parser = clap::value_parser!(u64).range(1..=120_000))]
    gap_ms: u64,
    /// Print JSON, one object
    #[arg(long)]
    json: bool,
    /// Tell on stderr once a second how it goes, also if that is no terminal
    #[arg(long)]
    progress: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum ToArgument {
    Leader,
    Spread,
}

#[derive(Clone, Copy, ValueEnum)]
enum ProtocolArgument {
    Resp,
    Line,
}

/// A number from 1 to `max`.
fn count(max: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=max)
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "it is no number of seconds".to_owned())?;
    let time = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    if time > Duration::from_secs(7 * 24 * 3600) {
        return Err("that is more than a week".to_owned());
    }
    Ok(time)
}

/// Runs the load and prints its report.
pub fn run(arguments: &BenchArguments) -> Result<i32, Failure> {
    let options = options(arguments)?;
    let stop = stop_at_a_signal()
        .map_err(|error| Failure::new(FAILED, format!("cannot wait for Ctrl-C: {error}")))?;
    let tells = arguments.progress || io::stderr().is_terminal();
    let mut tell = |progress: &Progress| {
        if tells {
            // Nobody may be looking; the run goes on.
            let _ = writeln!(io::stderr(), "{}", progress_line(progress, &options));
        }
    };
    let report = bench::run(&options, &stop, &mut tell)
        .map_err(|error| Failure::new(FAILED, error.to_string()))?;
    let text = if arguments.json { report.to_json() } else { report.to_string() };
    exit::write_lines(&mut io::stdout().lock(), &[text])?;
    match report.nonsense() {
        0 => Ok(OK),
        count => {
            let message = format!("{count} answers are none that a working store can give");
            Err(Failure::new(FAILED, message))
        }
    }
}

/// Becomes true at the first SIGINT or SIGTERM; the second one ends the process.
fn stop_at_a_signal() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: whichever comes first sees what the one before has left.
        flag::register_conditional_default(signal, Arc::clone(&stop))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

fn options(arguments: &BenchArguments) -> Result<Options, Failure> {
    let outage = arguments.outage;
    if let Some(address) = arguments.addresses.iter().find(|address| !address.contains(':')) {
        let message = format!("{address} has no port: say {address}:7001, where it serves clients");
        return Err(Failure::usage(message));
    }
    let default_time = Duration::from_secs_f64(if outage { SECONDS_OUTAGE } else { SECONDS });
    let (until, warmup) = match arguments.requests {
        Some(requests) => (Until::Requests(requests), Duration::ZERO),
        None => (
            Until::Elapsed(arguments.seconds.unwrap_or(default_time)),
            arguments.warmup.unwrap_or(Duration::from_secs(1)),
        ),
    };
    let clients = arguments.clients.unwrap_or(if outage { CLIENTS_OUTAGE } else { CLIENTS });
    let pipeline_min = if arguments.fill { bench::FILL_PIPELINE_MIN } else { 1 };
    let flight = clients * arguments.pipeline.max(pipeline_min);
    if flight * arguments.value_bytes > FLIGHT_BYTES_MAX {
        let message = format!(
            "{flight} requests in flight with values of {} bytes are more than 1 GiB",
            arguments.value_bytes
        );
        return Err(Failure::usage(message));
    }
    if until == Until::Elapsed(Duration::ZERO) {
        return Err(Failure::usage("--seconds 0 measures nothing"));
    }
    let default_timeout = if outage { TIMEOUT_MS_OUTAGE } else { TIMEOUT_MS };
    Ok(Options {
        addresses: arguments.addresses.clone(),
        clients,
        pipeline: arguments.pipeline,
        reads_percent: arguments.reads,
        keys: arguments.keys,
        value_bytes: arguments.value_bytes,
        until,
        warmup,
        fill: arguments.fill,
        to: match arguments.to {
            Some(ToArgument::Leader) => To::Leader,
            Some(ToArgument::Spread) => To::Spread,
            None if outage => To::Spread,
            None => To::Leader,
        },
        protocol: match arguments.protocol {
            ProtocolArgument::Resp => Protocol::Resp,
            ProtocolArgument::Line => Protocol::Line,
        },
        timeout: Duration::from_millis(arguments.timeout_ms.unwrap_or(default_timeout)),
        outage,
        gap: Duration::from_millis(arguments.gap_ms),
    })
}

/// `    3 s   31743 a second, 64 connected`, and what is unusual.
fn progress_line(progress: &Progress, options: &Options) -> String {
    let Progress { filling, measuring, elapsed, per_second, failed, connected, gap, silent } =
        progress;
    let part = match (filling, measuring) {
        (true, _) => " (writing every key)",
        (false, false) => " (warming up)",
        (false, true) => "",
    };
    let mut line = format!(
        "{:>5.0} s{part} {per_second:>9.0} a second, {connected} connected",
        elapsed.as_secs_f64()
    );
    if *failed > 0 {
        line += &format!(", {failed} failed");
    }
    if let Some(gap) = gap.filter(|_| options.outage) {
        let (start, length) = (gap.start.as_secs_f64(), gap.length.as_secs_f64() * 1e3);
        line += &format!(", no write succeeded for {length:.0} ms from second {start:.3}");
    }
    if let Some(silent) = silent.filter(|_| options.outage) {
        line += &format!(", none for {:.1} s by now", silent.as_secs_f64());
    }
    line
}
