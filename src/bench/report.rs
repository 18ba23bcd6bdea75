//! What a run tells: a table for a person, one JSON object for a program.
//!
//! ```text
//! {
//!   "protocol": "resp", "to": "leader", "clients": 64, "pipeline": 1, "reads_percent": 0,
//!   "keys": 100000, "value_bytes": 256,      what was asked for
//!   "machine": "2 cores …",                  where the load came from
//!   "seconds": 10.0,                         how long it was measured
//!   "requests": 317430,                      that ended in this time, well or not
//!   "done": 317430,                          that succeeded
//!   "throughput": 31743.0,                   of those, a second
//!   "latency_ms": { "count": 317430, "mean": 2.0, "p50": 1.9, "p90": 2.6, "p99": 4.4,
//!                   "p99_9": 7.1, "max": 9.0 },
//!   "writes": { … }, "reads": null,          the same for each kind, null if there was none
//!   "reads_absent": 0,                       reads that found no such key
//!   "errors": { "refused": 0, "unknown": 0, "wrong": 0, "nonsense": 0 },
//!   "connections": { "cut": 0, "not_made": 0 },
//!   "examples": { "refused": "…" },          the first text of each kind of trouble
//!   "gaps": [ { "start_s": 3.1, "length_ms": 15.2 } ]    longest first; only with --outage
//! }
//! ```

use std::collections::BTreeMap;
use std::fmt;

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
    requests: u64,
    done: u64,
    throughput: f64,
    latency_ms: Latencies,
    writes: Option<Latencies>,
    reads: Option<Latencies>,
    reads_absent: u64,
    errors: Errors,
    connections: Connections,
    examples: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gaps: Option<Vec<GapReport>>,
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
    length_ms: f64,
}

impl Report {
    pub(super) fn new(options: &Options, tally: &Tally) -> Report {
        let Options { protocol, to, clients, pipeline, reads_percent, keys, value_bytes, .. } =
            *options;
        let mut all = tally.writes.clone();
        all.add(&tally.reads).expect("both histograms have the same bounds");
        let seconds = tally.elapsed.as_secs_f64();
        let trouble = &tally.trouble;
        let gap = |gap: &Gap| GapReport {
            start_s: gap.start.as_secs_f64(),
            length_ms: gap.length.as_secs_f64() * 1e3,
        };
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
                wrong: trouble.wrong,
                nonsense: trouble.nonsense,
            },
            connections: Connections { cut: trouble.cut, not_made: trouble.not_connected },
            examples: trouble.examples.clone(),
            gaps: options.outage.then(|| tally.gaps.longest().iter().map(gap).collect()),
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
            To::First => "the first server",
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
            "throughput {:.0} a second: {} in {:.2} s",
            self.throughput, self.done, self.seconds
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
        let Errors { refused, unknown, wrong, nonsense } = self.errors;
        let Connections { cut, not_made } = self.connections;
        write!(
            f,
            "errors     refused {refused}, unknown {unknown}, wrong {wrong}, nonsense {nonsense}; \
             connections cut {cut}, not made {not_made}"
        )?;
        for (kind, text) in &self.examples {
            write!(f, "\n           the first {kind}: {text}")?;
        }
        if let Some(gaps) = &self.gaps {
            write!(f, "\nlongest times without a successful write")?;
            for GapReport { start_s, length_ms } in gaps {
                write!(f, "\n           {length_ms:>9.1} ms, from second {start_s:.3}")?;
            }
        }
        Ok(())
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
