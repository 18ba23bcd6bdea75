//! What a run tells: a table for a person, one JSON object for a program.
//!
//! ```text
//! {
//!   "protocol": "resp", "to": "leader", "clients": 64, "pipeline": 1, "reads_percent": 0,
//!   "keys": 100000, "value_bytes": 256,      what was asked for
//!   "machine": "2 cores …",                  where the load came from
//!   "seconds": 10.0,                         how long it was measured
//!   "interrupted": false,                    whether it was stopped before its time
//!   "requests": 317430,                      that ended in this time, well or not
//!   "done": 317430,                          that succeeded
//!   "throughput": 31743.0,                   of those, a second
//!   "latency_ms": { "count": 317430, "mean": 2.0, "p50": 1.9, "p90": 2.6, "p99": 4.4,
//!                   "p99_9": 7.1, "max": 9.0 },
//!   "writes": { … }, "reads": null,          the same for each kind, null if there was none
//!   "reads_absent": 0,                       reads that found no such key
//!   "errors": { "refused": 0, "unknown": 0, "lost": 0, "wrong": 0, "nonsense": 0 },
//!   "unfinished": 64,                        in flight at the end: perhaps executed, not counted
//!   "connections": { "cut": 0, "not_made": 0 },
//!   "examples": { "refused": "…" },          the first text of each kind of trouble
//!   "outage": {                              only if it was asked for
//!     "longest": { "start_s": 3.1, "start_unix_ms": 1790000003100, "length_ms": 15.2 },
//!     "threshold_ms": 50.0,
//!     "gaps": [ … ],                         those that are at least that long, as they came
//!     "gaps_unlisted": 0                     how many more there were
//!   }
//! }
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::time::UNIX_EPOCH;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::tally::{Gap, Tally};
use super::{Options, Protocol, To};

/// What a run tells.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    protocol: Protocol,
    to: To,
    clients: usize,
    pipeline: usize,
    reads_percent: u64,
    keys: u64,
    value_bytes: usize,
    machine: String,
    seconds: f64,
    interrupted: bool,
    requests: u64,
    done: u64,
    throughput: f64,
    latency_ms: Latencies,
    writes: Option<Latencies>,
    reads: Option<Latencies>,
    reads_absent: u64,
    errors: Errors,
    unfinished: u64,
    connections: Connections,
    examples: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outage: Option<Outage>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Latencies {
    count: u64,
    mean: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    p99_9: f64,
    max: f64,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Errors {
    refused: u64,
    unknown: u64,
    lost: u64,
    wrong: u64,
    nonsense: u64,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Connections {
    cut: u64,
    not_made: u64,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct GapReport {
    start_s: f64,
    start_unix_ms: u64,
    length_ms: f64,
}

#[derive(Clone, Debug, Serialize)]
struct Outage {
    longest: GapReport,
    threshold_ms: f64,
    gaps: Vec<GapReport>,
    gaps_unlisted: u64,
}

impl Report {
    pub(super) fn new(options: &Options, tally: &Tally, interrupted: bool) -> Report {
        let Options { protocol, to, clients, pipeline, reads_percent, keys, value_bytes, .. } =
            *options;
        let mut all = tally.writes.clone();
        all.add(&tally.reads).expect("both histograms have the same bounds");
        let seconds = tally.elapsed.as_secs_f64();
        let trouble = &tally.trouble;
        let kind =
            |latencies: &Histogram<u64>| (!latencies.is_empty()).then(|| Latencies::of(latencies));
        Report {
            protocol,
            to,
            clients,
            pipeline,
            reads_percent,
            keys,
            value_bytes,
            machine: machine(),
            seconds,
            interrupted,
            requests: tally.ended(),
            done: tally.done(),
            throughput: tally.done() as f64 / seconds,
            latency_ms: Latencies::of(&all),
            writes: kind(&tally.writes),
            reads: kind(&tally.reads),
            reads_absent: tally.reads_absent,
            errors: Errors {
                refused: trouble.refused,
                unknown: trouble.unknown,
                lost: trouble.lost,
                wrong: trouble.wrong,
                nonsense: trouble.nonsense,
            },
            unfinished: tally.unfinished,
            connections: Connections { cut: trouble.cut, not_made: trouble.not_connected },
            examples: trouble.examples.clone(),
            outage: options.outage.then(|| Outage::of(options, tally)),
        }
    }

    /// Answers that no store that does its work can give.
    pub fn nonsense(&self) -> u64 {
        self.errors.nonsense
    }

    /// For a program.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("it is numbers and strings under string keys")
    }
}

impl Outage {
    fn of(options: &Options, tally: &Tally) -> Outage {
        let report = |gap: &Gap| {
            let since_epoch = (tally.began + gap.start).duration_since(UNIX_EPOCH);
            GapReport {
                start_s: gap.start.as_secs_f64(),
                start_unix_ms: since_epoch.unwrap_or_default().as_millis() as u64,
                length_ms: gap.length.as_secs_f64() * 1e3,
            }
        };
        let (gaps, gaps_unlisted) = tally.gaps.long();
        Outage {
            longest: report(&tally.gaps.longest()),
            threshold_ms: options.gap.as_secs_f64() * 1e3,
            gaps: gaps.iter().map(report).collect(),
            gaps_unlisted,
        }
    }
}

/// `  312.4 ms from 03:12:44.120Z, second 3.402`: the time of day is that of the servers' logs.
impl fmt::Display for GapReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let GapReport { start_s, start_unix_ms, length_ms } = self;
        let (seconds, ms) = (start_unix_ms / 1000 % 86_400, start_unix_ms % 1000);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(
            f,
            "{length_ms:.1} ms from {hour:02}:{minute:02}:{second:02}.{ms:03}Z, second {start_s:.3}"
        )
    }
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outage { longest, threshold_ms, gaps, gaps_unlisted } = self;
        let count = gaps.len() as u64 + gaps_unlisted;
        write!(f, "outage     no write succeeded for {longest}")?;
        write!(f, "\n           times of {threshold_ms} ms or more: {count}")?;
        if count <= 1 {
            return Ok(()); // it would be the longest again
        }
        for gap in gaps {
            write!(f, "\n             {gap}")?;
        }
        if *gaps_unlisted > 0 {
            write!(f, "\n             and {gaps_unlisted} more")?;
        }
        Ok(())
    }
}

impl Latencies {
    fn of(nanos: &Histogram<u64>) -> Latencies {
        let ms = |nanos: u64| nanos as f64 / 1e6;
        let percentile = |percent| ms(nanos.value_at_percentile(percent));
        Latencies {
            count: nanos.len(),
            mean: nanos.mean() / 1e6,
            p50: percentile(50.0),
            p90: percentile(90.0),
            p99: percentile(99.0),
            p99_9: percentile(99.9),
            max: ms(nanos.max()),
        }
    }

    fn row(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Latencies { count, mean, p50, p90, p99, p99_9, max } = self;
        writeln!(
            f,
            "{name:10} {count:>10} {mean:>9.3} {p50:>9.3} {p90:>9.3} {p99:>9.3} {p99_9:>9.3} \
             {max:>9.3}"
        )
    }
}

/// For a person.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { clients, pipeline, reads_percent, keys, value_bytes, .. } = self;
        let to = match self.to {
            To::Leader => "the leader",
            To::Spread => "all servers",
        };
        let protocol = if self.protocol == Protocol::Resp { "RESP" } else { "lines" };
        writeln!(
            f,
            "load       {clients} clients, {pipeline} in flight each, {reads_percent} % reads, \
             {keys} keys, {value_bytes}-byte values, {protocol}, to {to}"
        )?;
        writeln!(f, "machine    {}", self.machine)?;
        writeln!(
            f,
            "throughput {:.0} a second: {} in {:.2} s{}",
            self.throughput,
            self.done,
            self.seconds,
            if self.interrupted { ", then stopped" } else { "" }
        )?;
        let heads = ["latency ms", "count", "mean", "p50", "p90", "p99", "p99.9", "max"];
        let [name, count, rest @ ..] = heads;
        write!(f, "{name:10} {count:>10}")?;
        for head in rest {
            write!(f, " {head:>9}")?;
        }
        writeln!(f)?;
        for (name, latencies) in [("  writes", self.writes), ("  reads", self.reads)] {
            if let Some(latencies) = latencies {
                latencies.row(name, f)?;
            }
        }
        if self.reads_absent > 0 {
            writeln!(f, "           {} reads found no such key", self.reads_absent)?;
        }
        let Errors { refused, unknown, lost, wrong, nonsense } = self.errors;
        let Connections { cut, not_made } = self.connections;
        write!(
            f,
            "errors     refused {refused}, wrong {wrong}: not executed; unknown {unknown}, lost \
             {lost}, unfinished {}: perhaps executed\n           nonsense {nonsense}; connections \
             cut {cut}, not made {not_made}",
            self.unfinished
        )?;
        for (kind, text) in &self.examples {
            write!(f, "\n           the first {kind}: {text}")?;
        }
        match &self.outage {
            Some(outage) => write!(f, "\n{outage}"),
            None => Ok(()),
        }
    }
}

/// The machine that the load comes from, in a line.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let read = |file| std::fs::read_to_string(file).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or(std::env::consts::ARCH, |(_, model)| model);
    let release = read("/proc/sys/kernel/osrelease");
    format!("{cores} cores, {model}, {} {}", std::env::consts::OS, release.trim())
}
