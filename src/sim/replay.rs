//! The judge of everything that time, transactions and repetitions have to do with.
//!
//! The committed log with its stamps decides everything: what was executed, when keys expired,
//! which EXEC was aborted. So once the run is over, the log is read again, by a [`Chronicle`] that
//! shares nothing with the state machine, and whatever clients were told is held against it:
//!
//! - a write was answered with what its entry comes to;
//! - a read shows the state after *one* entry, between what was committed when it was asked and
//!   what was committed when it was answered. All keys of a question are of that one state;
//! - a stale read may show an older state, but none before its connection's own writes;
//! - log time never falls.
//!
//! Unlike [`linearizability`](super::linearizability) it believes the log, and Raft's checks vouch
//! for that. In return it needs no search, and can judge commands of several keys, and time.

use std::collections::BTreeMap;

use super::checks::{Checked, Checks, Violation, ensure};
use super::chronicle::Chronicle;
use super::clients::{Asked, Recorded};
use super::judge::name_of;
use super::world::World;
use crate::kv::command::{Bytes, DeadlineFormat, Outcome, Query, Write};
use crate::kv::encoding;
use crate::raft::types::{Index, Payload};

/// What the log comes to.
struct Replay {
    chronicle: Chronicle,
    /// At which step each entry was committed.
    committed_at: Vec<u64>,
    /// What each named write came to, and at which entry.
    named: BTreeMap<usize, (u64, Outcome)>,
    /// The same of each number of each client of ONCE, every time it was sent.
    once: BTreeMap<(Bytes, u64), Vec<(u64, Outcome)>>,
}

impl World {
    /// Holds what clients were told against the log.
    pub(super) fn judge_by_replay(&self) -> Checked {
        let replay = Replay::of(&self.checks)?;
        // The last write of each connection that its client knows to be done.
        let mut own_write: BTreeMap<u64, u64> = BTreeMap::new();
        for (name, recorded) in self.clients.history.iter().enumerate() {
            let Recorded { asked, ret: Some(ret), outcome: Some(outcome), .. } = recorded else {
                continue; // refused, or nobody knows
            };
            let own = own_write.entry(recorded.connection).or_default();
            let until = replay.committed_by(*ret);
            let since = (*own).max(replay.committed_by(recorded.call.saturating_sub(1)));
            let told = |property, expected: String| {
                ensure(false, property, || format!("{recorded:?}\n    {expected}"))
            };
            match asked {
                Asked::Write(write) => match replay.explain(name, write, outcome, (since, until)) {
                    Ok(index) => *own = index,
                    Err(expected) => told(property_of(write), expected)?,
                },
                Asked::Read(query) => {
                    let mut indexes = since..=until;
                    if !indexes.any(|index| replay.allows(query, index, outcome)) {
                        let expected = replay.shown(query, since, until);
                        told("A read shows a state of its time", expected)?;
                    }
                }
                Asked::Stale(query) => {
                    let mut indexes = (*own..=until).rev();
                    if !indexes.any(|index| replay.allows(query, index, outcome)) {
                        let expected = replay.shown(query, *own, until);
                        told("A stale read shows its connection's writes", expected)?;
                    }
                }
                Asked::Wait { .. } => {
                    let applied = match outcome {
                        Outcome::Integer(index) => u64::try_from(*index).ok(),
                        _ => None,
                    };
                    if applied.is_none_or(|index| index < *own || index > until) {
                        let expected = format!("applied is between {own} and {until}");
                        told("A stale read shows its connection's writes", expected)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// What it breaks to answer such a write wrongly.
fn property_of(write: &Write) -> &'static str {
    match write {
        Write::Command(_) => "A write is answered with what it did",
        Write::Transaction { .. } => "EXEC does all or nothing, and nothing if a key has changed",
        Write::Once { .. } => "ONCE is executed once",
    }
}

impl Replay {
    /// Reads the committed log.
    fn of(checks: &Checks) -> Result<Replay, Violation> {
        let mut replay = Replay {
            chronicle: Chronicle::default(),
            committed_at: Vec::with_capacity(checks.committed_count()),
            named: BTreeMap::new(),
            once: BTreeMap::new(),
        };
        let mut last_stamp = 0;
        for entry in checks.committed() {
            let (index, stamp) = (entry.id.index.0, entry.stamp.0);
            ensure(stamp >= last_stamp, "Log time never falls", || {
                format!("the entry {index} is stamped {stamp} ms, the one before {last_stamp} ms")
            })?;
            last_stamp = stamp;
            replay.committed_at.push(checks.committed_at(Index(index)));
            replay.chronicle.entry(stamp);
            if let Payload::Command(bytes) = &entry.payload {
                replay.execute(index, &bytes.0);
            }
        }
        Ok(replay)
    }

    fn execute(&mut self, index: u64, bytes: &[u8]) {
        let (request, floor, write) = encoding::decode(bytes).expect("servers have executed it");
        if !self.chronicle.admit(request, floor) {
            return;
        }
        let outcome = self.chronicle.execute(&write);
        if let Write::Once { client, sequence, .. } = &write {
            let attempts = self.once.entry((client.clone(), *sequence)).or_default();
            attempts.push((index, outcome));
        } else if let Some(name) = name_of(&write) {
            self.named.insert(name, (index, outcome));
        }
    }

    /// How many entries had been committed when this step was over.
    fn committed_by(&self, step: u64) -> u64 {
        self.committed_at.partition_point(|at| *at <= step) as u64
    }

    /// The entry that explains this answer, or what it should have been. Each attempt at a number
    /// of ONCE is an entry of its own; any that was committed in time will do.
    fn explain(
        &self,
        name: usize,
        write: &Write,
        outcome: &Outcome,
        (since, until): (u64, u64),
    ) -> Result<u64, String> {
        let attempts = match write {
            Write::Once { client, sequence, .. } => {
                self.once.get(&(client.clone(), *sequence)).map(Vec::as_slice)
            }
            _ => self.named.get(&name).map(std::slice::from_ref),
        };
        let attempts = attempts.unwrap_or_default();
        let explains = |(index, came_to): &&(u64, Outcome)| {
            (since + 1..=until).contains(index) && came_to == outcome
        };
        attempts.iter().find(explains).map(|(index, _)| *index).ok_or_else(|| {
            format!("it can be one of the entries {}..={until}; by index: {attempts:?}", since + 1)
        })
    }

    /// Whether a state machine that has applied `index` may give this answer.
    fn allows(&self, query: &Query, index: u64, told: &Outcome) -> bool {
        let outcome = self.chronicle.answer(query, index);
        let counts_down =
            matches!(query, Query::TimeToLive { format: DeadlineFormat::Milliseconds, .. });
        match (&outcome, told) {
            // The server may have guessed that log time has come further, but not that it is over.
            (Outcome::Integer(most), Outcome::Integer(left)) if counts_down && *most >= 0 => {
                (0..=*most).contains(left)
            }
            _ => outcome == *told,
        }
    }

    /// For the report: what would have been a right answer, at the first and at the last index.
    fn shown(&self, query: &Query, since: u64, until: u64) -> String {
        let at = |index| self.chronicle.answer(query, index);
        format!("at {since} it is {:?}, at {until} {:?}", at(since), at(until))
    }
}
