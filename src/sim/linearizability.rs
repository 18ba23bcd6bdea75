//! Was this history linearizable? The judge of everything that clients may rely on.
//!
//! # The question
//!
//! Clients call, wait, and get answers. The store is *linearizable* if each operation can be given
//! one instant between its call and its return at which it takes place, so that a single register
//! that executes them one at a time gives the very answers that the clients got. Three clients of
//! one key:
//!
//! ```text
//!   time   0    1    2    3    4    5    6
//!   A      |--- SET x ----------|              answer +OK
//!   B           |-GET-|                        answer x
//!   C                      |-GET-|             answer _ (nothing)
//! ```
//!
//! B saw x, so SET stands before B's GET. C called after B had its answer, so it stands behind B's
//! GET and thereby behind SET, but it saw nothing: no order explains all three. With C's answer x
//! the order SET, B, C would. Had C called at time 1, then C, SET, B would.
//!
//! # The search (Wing and Gong; Lowe)
//!
//! Build the order from its front. An operation may come next if no other that still waits for its
//! place had returned before it was called. Execute it on the register; a different answer than the
//! recorded one is a dead end: go back and try another. Three ideas make it fast:
//!
//! - **One key at a time.** Commands of one key do not touch another, and linearizability composes:
//!   the whole is linearizable exactly if each key is.
//! - **Remember configurations.** What may follow depends only on *which* operations have their
//!   place and on the register's value, not on their order. A configuration met twice is a dead
//!   end.
//! - **Normal forms.** An operation whose answer says that it changed nothing (a GET, a CAS that
//!   missed) takes its place as soon as its answer is right: it is in nobody's way there.
//!
//! # Answers that never came
//!
//! A client that hears nothing, or `UNKNOWN`, has an operation without a return: it may take place
//! at any later time, or never. Each of them doubles the possibilities, so these are not tried
//! blindly: one that changes nothing, or whose change is overwritten unseen, might as well not take
//! place; of two with the same action the one called first is used first. A *refused* operation
//! certainly did not take place and does not belong in the history at all: if that was a lie,
//! somebody's answer will not be explained.
//!
//! # What it leaves out
//!
//! Commands on several keys are judged key by key ([`Operation::of_command`]), so an MSET that is
//! torn apart between its keys is not noticed. The question is NP-complete: a search that passes a
//! bound of configurations ends as [`Verdict::Undecided`] and never as a guess.

mod register;
mod search;

use std::collections::BTreeMap;
use std::fmt;

pub use register::Action;

use crate::kv::command::{Bytes, Command, Outcome};
use search::{Found, Search};

/// Configurations that the search of one key may remember. Each costs about 50 bytes; a correct
/// history needs little more than one for each operation.
const CONFIGURATIONS_MAX: usize = 4_000_000;

/// What one client asked about one key, when, and what it heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who asked; only for people who read the transcript.
    pub client: u64,
    /// The key.
    pub key: Bytes,
    /// When it was sent, in any unit that only rises: microseconds, or steps of a simulation.
    pub call: u64,
    /// When its answer arrived, in the same unit; `None` if the outcome is unknown. Operations that
    /// return at the very time another is called count as concurrent with it.
    pub ret: Option<u64>,
    /// What it asked.
    pub action: Action,
    /// What it heard. `None` beside a `ret` means that it took place, but that nothing is known
    /// about its answer. Without a `ret` it means nothing.
    pub outcome: Option<Outcome>,
}

impl Operation {
    /// The parts of a command, one for each of its keys, as operations of `client`.
    ///
    /// A DEL of several keys answers with a sum; its parts claim an answer only where the sum
    /// leaves no doubt.
    pub fn of_command(
        client: u64,
        command: &Command,
        (call, ret): (u64, Option<u64>),
        outcome: Option<&Outcome>,
    ) -> Vec<Operation> {
        let mut actions: BTreeMap<Bytes, Action> = BTreeMap::new();
        for (key, action) in Action::of_command(command) {
            // Of a key named twice the last stands, which is right for MSET and DEL alike.
            actions.insert(key, action);
        }
        let parts = actions.len();
        let outcome = match outcome {
            Some(Outcome::Integer(sum)) if parts > 1 => match usize::try_from(*sum) {
                Ok(0) => Some(Outcome::Integer(0)),
                Ok(sum) if sum == parts => Some(Outcome::Integer(1)),
                _ => None,
            },
            other => other.cloned(),
        };
        let part = |(key, action)| {
            let outcome = outcome.clone();
            Operation { client, key, call, ret, action, outcome }
        };
        actions.into_iter().map(part).collect()
    }
}

/// One line of a transcript, such as `c3  [12, 15]  SET x -> Done`.
impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ret = self.ret.map_or("?".to_owned(), |ret| ret.to_string());
        write!(f, "c{:<3} [{}, {ret}]  {} -> ", self.client, self.call, self.action)?;
        match (&self.ret, &self.outcome) {
            (None, _) => write!(f, "unknown"),
            (Some(_), None) => write!(f, "done, answer not recorded"),
            (Some(_), Some(outcome)) => write!(f, "{}", register::Shown(outcome)),
        }
    }
}

/// What the checker says about a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// An order exists that explains every answer.
    Linearizable,
    /// No order does.
    Violation(Box<Violation>),
    /// The search of this key passed its bound. Fewer clients on a key, or fewer unknown outcomes,
    /// help.
    Undecided {
        /// The key whose search was given up.
        key: Bytes,
    },
}

impl Verdict {
    /// Panics with the transcript unless the history is linearizable.
    pub fn expect_linearizable(&self) {
        assert!(matches!(self, Verdict::Linearizable), "Linearizability: {self}");
    }
}

/// The proof that a history is not linearizable, cut down to what a person can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The key whose operations cannot be ordered.
    pub key: Bytes,
    /// The shortest beginning of the key's history that cannot be ordered, by call. Operations that
    /// return later are in it without an outcome.
    pub prefix: Vec<Operation>,
    /// An order of as many operations of `prefix` as possible: positions in it.
    pub explained: Vec<usize>,
    /// The register's value after `explained`.
    pub value: Option<Bytes>,
    /// What would have to come next, and what the register would answer: positions in `prefix`.
    pub stuck: Vec<(usize, Outcome)>,
}

/// Judges a history: operations of any number of keys and clients, in any order.
pub fn check(history: &[Operation]) -> Verdict {
    check_within(history, CONFIGURATIONS_MAX)
}

/// Like [`check`], with a bound of one's own on the configurations remembered for each key.
pub fn check_within(history: &[Operation], configurations_max: usize) -> Verdict {
    let mut keys: BTreeMap<&Bytes, Vec<&Operation>> = BTreeMap::new();
    for operation in history {
        let in_order = operation.ret.is_none_or(|ret| operation.call <= ret);
        assert!(in_order, "an operation returns after its call: {operation}");
        keys.entry(&operation.key).or_default().push(operation);
    }
    for (key, mut operations) in keys {
        operations.sort_by_key(|operation| operation.call);
        match Search::new(&operations).run(configurations_max) {
            Found::Order => {}
            Found::Nothing { .. } => {
                return shortest_violation(key, &operations, configurations_max);
            }
            Found::TooMuch => return Verdict::Undecided { key: key.clone() },
        }
    }
    Verdict::Linearizable
}

/// Cuts a history that cannot be ordered down to its shortest such beginning. A beginning of an
/// orderable history is orderable, so the return that makes the difference is found by bisection.
fn shortest_violation(
    key: &Bytes,
    operations: &[&Operation],
    configurations_max: usize,
) -> Verdict {
    let mut returns: Vec<u64> = operations.iter().filter_map(|operation| operation.ret).collect();
    returns.sort_unstable();
    let cut = |time: u64| -> Vec<Operation> {
        let called = operations.iter().filter(|operation| operation.call <= time);
        let as_seen = |operation: &&Operation| {
            let returned = operation.ret.is_some_and(|ret| ret <= time);
            let mut operation = Operation::clone(operation);
            if !returned {
                operation.ret = None;
                operation.outcome = None;
            }
            operation
        };
        called.map(as_seen).collect()
    };
    let run = |prefix: &[Operation]| {
        Search::new(&prefix.iter().collect::<Vec<_>>()).run(configurations_max)
    };
    let orderable = |time: &u64| !matches!(run(&cut(*time)), Found::Nothing { .. });
    let first = returns.partition_point(orderable).min(returns.len().saturating_sub(1));
    let time = *returns.get(first).expect("a history without returns is always orderable");
    let prefix = cut(time);
    match run(&prefix) {
        Found::Nothing { explained, value, stuck } => {
            let key = key.clone();
            Verdict::Violation(Box::new(Violation { key, prefix, explained, value, stuck }))
        }
        // Only when a beginning took more configurations than the whole.
        Found::Order | Found::TooMuch => Verdict::Undecided { key: key.clone() },
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Linearizable => write!(f, "linearizable"),
            Verdict::Undecided { key } => {
                write!(f, "undecided: too many configurations for key {}", register::Text(key))
            }
            Verdict::Violation(violation) => write!(f, "{violation}"),
        }
    }
}

/// Operations shown of an order that worked: the last ones are where it went wrong.
const EXPLAINED_SHOWN: usize = 12;

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = register::Text(&self.key);
        let (explained, all) = (self.explained.len(), self.prefix.len());
        writeln!(f, "no order explains what the clients of key {key} saw")?;
        writeln!(f, "the shortest beginning without an order has {all} operations")?;
        writeln!(f, "  the best order explains {explained}; it ends with (client [call, return])")?;
        for &position in &self.explained[explained.saturating_sub(EXPLAINED_SHOWN)..] {
            writeln!(f, "    {}", self.prefix[position])?;
        }
        match &self.value {
            Some(value) => writeln!(f, "  the value is now {}", register::Text(value))?,
            None => writeln!(f, "  the key does not exist now")?,
        }
        writeln!(f, "  one of these must come next, and none can")?;
        for (position, answer) in &self.stuck {
            let answer = register::Shown(answer);
            writeln!(f, "    {}, but it would answer {answer}", self.prefix[*position])?;
        }
        Ok(())
    }
}
