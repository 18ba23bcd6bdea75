//! What a run tells: numbers when all is well, and a transcript when it is not.

use std::fmt;

use super::checks::Violation;
use super::network::Packet;
use super::queue::Micros;
use super::run::{Failure, Report};
use crate::gateway::message::GatewayMessage;
use crate::raft::message::Message;

/// What happened in one run, or in many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Inputs given to servers.
    pub steps: u64,
    /// Virtual time, in microseconds.
    pub simulated: Micros,
    /// Candidacies.
    pub elections: u64,
    /// Elections won.
    pub leaders: u64,
    /// Logs cut by a new leader.
    pub truncations: u64,
    /// Servers that crashed.
    pub crashes: u64,
    /// Faults that began.
    pub faults: u64,
    /// Minorities that stayed out when the faults ended.
    pub absences: u64,
    /// Batches of messages that arrived.
    pub messages: u64,
    /// Writes given to disks.
    pub writes: u64,
    /// Entries committed.
    pub committed: u64,
    /// Snapshots that servers took of themselves.
    pub snapshots: u64,
    /// Snapshots of leaders that were installed.
    pub installs: u64,
    /// Leaderships that an operator let hand over.
    pub handovers: u64,
    /// Requests whose answers were judged.
    pub operations: u64,
    /// Of these, executed.
    pub done: u64,
    /// Of these, refused.
    pub refused: u64,
    /// Histories that were too hard to judge.
    pub undecided: u64,
    /// A number that two runs share only if the same things happened in them.
    pub fingerprint: u64,
}

impl Stats {
    /// Something happened.
    pub(super) fn mix(&mut self, number: u64) {
        self.fingerprint = (self.fingerprint ^ number).wrapping_mul(0x0000_0100_0000_01b3);
        self.fingerprint ^= self.fingerprint >> 29;
    }

    /// Adds another run's numbers.
    pub fn add(&mut self, other: &Stats) {
        self.steps += other.steps;
        self.simulated += other.simulated;
        self.elections += other.elections;
        self.leaders += other.leaders;
        self.truncations += other.truncations;
        self.crashes += other.crashes;
        self.faults += other.faults;
        self.absences += other.absences;
        self.messages += other.messages;
        self.writes += other.writes;
        self.committed += other.committed;
        self.snapshots += other.snapshots;
        self.installs += other.installs;
        self.handovers += other.handovers;
        self.operations += other.operations;
        self.done += other.done;
        self.refused += other.refused;
        self.undecided += other.undecided;
        self.mix(other.fingerprint);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { seeds, stats, failure } = self;
        let Stats { steps, elections, leaders, truncations, crashes, faults, .. } = stats;
        let Stats {
            absences,
            messages,
            writes,
            committed,
            snapshots,
            installs,
            handovers,
            operations,
            done,
            refused,
            undecided,
            ..
        } = stats;
        let unknown = operations - done - refused;
        writeln!(
            out,
            "{seeds} seeds, {steps} steps, {} simulated seconds",
            stats.simulated / 1_000_000
        )?;
        writeln!(
            out,
            "{elections} elections, {leaders} won; {truncations} logs cut; \
             {committed} entries committed"
        )?;
        writeln!(
            out,
            "{faults} faults, {crashes} crashes; after the faults a minority stayed out {absences} \
             times"
        )?;
        writeln!(out, "{messages} batches of messages, {writes} writes")?;
        writeln!(
            out,
            "{snapshots} snapshots taken, {installs} installed; {handovers} leaderships handed over"
        )?;
        writeln!(
            out,
            "{operations} requests: {done} done, {refused} refused, {unknown} unknown; \
             {undecided} histories too hard to judge"
        )?;
        match failure {
            None if !self.is_conclusive() => {
                writeln!(out, "TOO MANY histories were too hard to judge: this proves little")
            }
            None => writeln!(out, "no property was broken"),
            Some(failure) => write!(out, "{failure}"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "the last events of seed {} (seconds, step, what happened):", self.seed)?;
        self.transcript.iter().try_for_each(|line| writeln!(out, "{line}"))?;
        writeln!(out, "\nthe faults that it takes (seconds):")?;
        self.faults.iter().try_for_each(|fault| writeln!(out, "  {fault}"))?;
        let Violation { property, detail } = &self.violation;
        writeln!(out, "\nBROKEN after {} steps: {property}\n  {detail}", self.step)?;
        writeln!(out, "replay: {}", self.command)
    }
}

/// The transcript, from some step on. Nothing is formatted before: a failing run is simply run
/// again.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The first step to tell about.
    from: u64,
    /// Print at once.
    aloud: bool,
    lines: Vec<String>,
}

impl Trace {
    /// No transcript.
    pub fn off() -> Trace {
        Trace { from: u64::MAX, aloud: false, lines: Vec::new() }
    }

    /// A transcript from this step on, kept until it is asked for.
    pub fn from(step: u64) -> Trace {
        Trace { from: step, aloud: false, lines: Vec::new() }
    }

    /// A transcript of everything, on stdout as it happens.
    pub fn aloud(step: u64) -> Trace {
        Trace { from: step, aloud: true, lines: Vec::new() }
    }

    /// Whether this step is to be told.
    pub fn is_on(&self, step: u64) -> bool {
        step >= self.from
    }

    /// Adds a line.
    pub fn tell(&mut self, now: Micros, step: u64, line: String) {
        let line = format!("{:>12.6} {step:>7}  {line}", now as f64 / 1e6);
        if self.aloud {
            println!("{line}");
        } else {
            self.lines.push(line);
        }
    }

    /// What was told.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }
}

/// A batch of messages in one line.
pub(super) fn said(packet: &Packet) -> String {
    let raft = packet.content.raft.iter().map(message);
    let gateway = packet.content.gateway.iter().map(gateway_message);
    raft.chain(gateway).collect::<Vec<String>>().join(" · ")
}

fn message(message: &Message) -> String {
    let term = message.term();
    match message {
        Message::PreVote(ask) => format!("PreVote {term} last={}", ask.last),
        Message::PreVoteReply(reply) => {
            format!("PreVoteReply {term} granted={} heard={}", reply.granted, reply.leader_heard)
        }
        Message::RequestVote(ask) => format!("RequestVote {term} last={}", ask.last),
        Message::RequestVoteReply(reply) => {
            format!("RequestVoteReply {term} granted={}", reply.granted)
        }
        Message::AppendEntries(append) => {
            let (count, commit, round) =
                (append.entries.len(), append.leader_commit, append.round.0);
            let prev = append.prev;
            format!("AppendEntries {term} prev={prev} +{count} commit={commit} round={round}")
        }
        Message::AppendEntriesReply(reply) => {
            let missing =
                reply.mismatch.map(|it| format!(" mismatch={} hint={}", it.prev_index, it.hint));
            let (matched, round) = (reply.match_index, reply.round.0);
            let missing = missing.unwrap_or_default();
            format!("AppendEntriesReply {term} match={matched} round={round}{missing}")
        }
        Message::InstallSnapshot(part) => {
            let (snapshot, offset, length, total) =
                (part.snapshot, part.offset_bytes, part.length_bytes, part.total_bytes);
            format!("InstallSnapshot {term} snapshot={snapshot} at={offset} +{length} of {total}")
        }
        Message::InstallSnapshotReply(reply) => {
            let (last, stored, gap) = (reply.last_index, reply.stored_bytes, reply.gap);
            format!("InstallSnapshotReply {term} snapshot={last} stored={stored} gap={gap}")
        }
        Message::TimeoutNow(_) => format!("TimeoutNow {term}"),
        Message::TransferVote(ask) => format!("TransferVote {term} last={}", ask.last),
    }
}

fn gateway_message(message: &GatewayMessage) -> String {
    match message {
        GatewayMessage::Forward { attempt, part, commands, .. } => {
            format!("Forward attempt={attempt} part={part} +{}", commands.len())
        }
        other => format!("{other:?}"),
    }
}
