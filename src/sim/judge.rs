//! What the clients saw, judged when the run is over.

use std::collections::BTreeMap;

use super::checks::{Checked, ensure};
use super::clients::{Asked, Recorded};
use super::linearizability::{self, Action, Verdict};
use super::requests::is_ours;
use super::world::World;
use crate::kv::command::{Bytes, Command, Operation, Query, RequestId, Write};
use crate::kv::encoding;
use crate::raft::types::{Index, Payload};

impl World {
    /// Compares the committed log with what clients were told.
    pub fn judge(&mut self) -> Checked {
        self.stats.simulated = self.now;
        self.stats.committed = self.checks.committed_count() as u64;
        self.stats.operations = self.clients.history.len() as u64;
        self.stats.done = self.clients.counts.done;
        self.stats.refused = self.clients.counts.refused;
        let executed = self.executed_in_log();
        self.judge_promises(&executed)?;
        self.judge_answers(&executed)?;
        self.judge_by_replay()
    }

    /// Could one register per key have given these answers?
    fn judge_answers(&mut self, executed: &BTreeMap<usize, Index>) -> Checked {
        for view in [View::Clients, View::Log] {
            let operations = self.operations(executed, view);
            match linearizability::check_within(&operations, CONFIGURATIONS_MAX) {
                Verdict::Linearizable => return Ok(()),
                Verdict::Undecided { .. } => {}
                Verdict::Violation(violation) => {
                    return ensure(false, "Linearizability", || violation.to_string());
                }
            }
        }
        self.stats.undecided += 1;
        Ok(())
    }

    /// What clients did and heard, as one of the two sees it.
    fn operations(
        &self,
        executed: &BTreeMap<usize, Index>,
        view: View,
    ) -> Vec<linearizability::Operation> {
        let mut operations = Vec::with_capacity(self.clients.history.len());
        for recorded in self.clients.history.iter().filter(|recorded| !recorded.refused) {
            let Recorded { client, asked, call, ret, outcome, .. } = recorded;
            match asked {
                Asked::Write(write) => {
                    let Write::Command(command) = write else { continue };
                    let Some(ret) = self.fate(write, *ret, executed) else { continue };
                    let place = name_of(write).and_then(|name| executed.get(&name));
                    // Without the key that only carries its name, a DEL is one of a single key.
                    let command = &match command {
                        Command::Delete { keys } => Command::Delete { keys: keys[..1].to_vec() },
                        other => other.clone(),
                    };
                    let time = match (view, place) {
                        (View::Clients, _) => (*call, ret.map(|ret| ret.max(*call))),
                        (View::Log, Some(index)) => self.instant_of(*index),
                        (View::Log, None) => continue,
                    };
                    let parts = linearizability::Operation::of_command(
                        *client,
                        command,
                        time,
                        outcome.as_ref(),
                    );
                    operations.extend(parts.into_iter().filter(|part| !is_ours(&part.key)));
                }
                Asked::Read(_) if ret.is_none() => {} // nobody heard it, nothing changed
                Asked::Read(query) => {
                    let Some((key, action)) = action_of(query) else { continue };
                    if is_ours(&key) {
                        continue;
                    }
                    operations.push(linearizability::Operation {
                        client: *client,
                        key,
                        call: view.scaled(*call),
                        ret: ret.map(|ret| view.scaled(ret + 1) - 1),
                        action,
                        outcome: outcome.clone(),
                    });
                }
                Asked::Stale(_) | Asked::Wait { .. } => {}
            }
        }
        operations
    }

    /// The instant at which a write takes place in the log's view: when it was committed, and of
    /// those committed in one step, after the ones before it.
    fn instant_of(&self, index: Index) -> (u64, Option<u64>) {
        let instant = View::Log.scaled(self.checks.committed_at(index)) + index.0 % INSTANTS;
        (instant, Some(instant))
    }

    /// When a write had happened at the latest; `None` if it never did.
    ///
    /// The client knows only what it was told, and an unknown outcome doubles the judge's work: it
    /// may take place at any time, or never. We know more. If the log does not have it, it never
    /// happened; if it does, it had happened when it was committed. Both leave fewer ways to
    /// explain what others saw, so the judgement becomes stricter as well as faster.
    fn fate(
        &self,
        write: &Write,
        ret: Option<u64>,
        executed: &BTreeMap<usize, Index>,
    ) -> Option<Option<u64>> {
        let Some(name) = name_of(write) else { return Some(ret) };
        let committed = executed.get(&name).map(|index| self.checks.committed_at(*index));
        match (committed, ret) {
            (None, None) => None,
            (Some(at), Some(ret)) => Some(Some(ret.min(at))),
            (at, ret) => Some(ret.or(at)),
        }
    }

    /// Which requests were executed, and where in the log.
    fn executed_in_log(&self) -> BTreeMap<usize, Index> {
        let mut executed = BTreeMap::new();
        for entry in self.checks.committed() {
            let Payload::Command(bytes) = &entry.payload else { continue };
            let Ok((request, _, write)) = encoding::decode(&bytes.0) else { continue };
            let here = self.checks.executed_at(&RequestId { ..request }) == Some(entry.id.index.0);
            if here && let Some(name) = name_of(&write) {
                executed.insert(name, entry.id.index);
            }
        }
        executed
    }

    /// Refused is a promise: it never happened. Done is one, too: it is in the log. And what a
    /// client sends on one connection happens in the order in which it was sent, however often the
    /// gateway has to hand it over.
    fn judge_promises(&self, executed: &BTreeMap<usize, Index>) -> Checked {
        let mut last_of: BTreeMap<u64, Index> = BTreeMap::new();
        for (name, recorded) in self.clients.history.iter().enumerate() {
            let Asked::Write(write) = &recorded.asked else { continue };
            if name_of(write).is_none() {
                continue;
            }
            ensure(
                !recorded.refused || !executed.contains_key(&name),
                "Refused never happens",
                || format!("{recorded:?} was executed"),
            )?;
            ensure(
                recorded.ret.is_none() || executed.contains_key(&name),
                "Done has happened",
                || format!("{recorded:?} is in no log"),
            )?;
            let Some(index) = executed.get(&name) else { continue };
            let at = self.checks.committed_at(*index);
            ensure(
                recorded.call <= at && recorded.ret.is_none_or(|ret| at <= ret),
                "Done has happened",
                || format!("{recorded:?} was committed at {at}"),
            )?;
            let last = last_of.insert(recorded.connection, *index);
            ensure(
                last.is_none_or(|last| last < *index),
                "A connection's requests are executed in order",
                || format!("{recorded:?} is at {index}, an earlier one at {last:?}"),
            )?;
        }
        Ok(())
    }
}

/// Who tells when things happened. Both must be linearizable.
#[derive(Clone, Copy, PartialEq, Eq)]
enum View {
    /// The clients: a write took place at some time between call and answer. That is what they were
    /// promised, and it asks nothing of the server's insides; but where many write at once there
    /// may be too many orders to try.
    Clients,
    /// The log: a write took place at the instant at which it was committed. That is stricter, and
    /// leaves one order of writes only, so nothing is too hard to judge.
    Log,
}

/// Instants within a step, in the log's view. No step commits more entries.
const INSTANTS: u64 = 1 << 24;

impl View {
    fn scaled(self, step: u64) -> u64 {
        match self {
            View::Clients => step,
            View::Log => step * INSTANTS,
        }
    }
}

/// Configurations that the judge may remember for one key: some
/// milliseconds' worth.
const CONFIGURATIONS_MAX: usize = 50_000;

/// A question about one key.
fn action_of(query: &Query) -> Option<(Bytes, Action)> {
    match query {
        Query::Get { key } => Some((key.clone(), Action::Get)),
        Query::Length { key } => Some((key.clone(), Action::Length)),
        Query::Exists { keys } => Some((keys.first()?.clone(), Action::Exists)),
        _ => None,
    }
}

/// The name of the request that a write comes from, if it carries one. Each attempt at a number of
/// ONCE is a request, but what stands in the log is the same.
pub(super) fn name_of(write: &Write) -> Option<usize> {
    let command = match write {
        Write::Command(command) => command,
        Write::Transaction { operations, .. } => match operations.first()? {
            Operation::Query(Query::Exists { keys }) => return number_in(keys.first()?),
            _ => return None,
        },
        Write::Once { .. } => return None,
    };
    let value = match command {
        Command::Set { value, .. } | Command::Append { value, .. } => value,
        Command::CompareAndSet { new, .. } => new,
        Command::SetMany { pairs, .. } => &pairs.first()?.1,
        Command::Increment { delta, .. } => return usize::try_from(*delta).ok(),
        Command::Delete { keys } => keys.get(1)?,
        _ => return None,
    };
    number_in(value)
}

fn number_in(value: &Bytes) -> Option<usize> {
    let digits = value.split(|byte| *byte == b'.').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
