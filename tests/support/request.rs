//! What the load asks, and what it means for the judge of linearizability, who knows nothing of
//! transactions and of time:
//!
//! - MULTI … EXEC on two keys is one operation on each of them, at the same time;
//! - WATCH, GET, MULTI, SET, EXEC is a CAS: if it was executed, the key still had the value that
//!   was read. If it was aborted, nothing happened;
//! - a key with a deadline may be deleted, as long as it has that value, at any time from its
//!   deadline on, counted from the call.

use raft_server::kv::command::{Bytes, Condition, Outcome};
use raft_server::sim::linearizability::{Action, Operation};

use super::client::{Answer, Client};

/// How the names of the keys begin that have deadlines.
pub const BRIEF: &str = "brief";

/// A server counts time in ticks of 10 ms, and on a busy machine a tick may come late: a key may
/// expire so much earlier than a clock of ours says.
const EARLY_MICROS_MAX: u64 = 100_000;

/// Keys with deadlines come and go, as the judge has to guess when each expired: one begins with
/// every so many requests …
const REQUESTS_PER_BRIEF_KEY: u64 = 40;

/// … and this many are in use, so that each is for longer than it lives.
const BRIEF_KEYS: usize = 30;

/// Dice of one client.
pub struct Dice(pub u64);

impl Dice {
    /// A number below `count`.
    pub fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 8) as usize % count
    }
}

/// One or more actions that a client asks for.
pub struct Request {
    parts: Vec<(String, Action)>,
    shape: Shape,
}

enum Shape {
    /// A command by itself.
    Plain,
    /// A SET with a deadline, so many milliseconds from now.
    For(u64),
    /// All in one MULTI.
    Multi,
    /// One SET in a MULTI, if the key has not changed since it was read.
    Watched,
}

impl Request {
    /// One command.
    pub fn one(key: &str, action: Action) -> Request {
        Request { parts: vec![(key.to_owned(), action)], shape: Shape::Plain }
    }

    /// Any request; what it writes is `unique`.
    pub fn draw(dice: &mut Dice, keys: &[String], unique: u64) -> Request {
        let set = || {
            let value = Bytes::from(unique.to_string());
            Action::Set { value, condition: Condition::Always }
        };
        let first = dice.below(keys.len());
        let key = &keys[first];
        let age = dice.below(BRIEF_KEYS) as u64;
        let brief = format!("{BRIEF}{}", (unique / REQUESTS_PER_BRIEF_KEY).saturating_sub(age));
        match dice.below(18) {
            0..5 => Request::one(key, Action::Get),
            5 | 6 => Request::one(key, set()),
            7 => Request::one(key, Action::Delete),
            8..10 => Request::one(key, Action::Increment { delta: 1 }),
            10 | 11 => {
                let other = &keys[(first + 1 + dice.below(keys.len() - 1)) % keys.len()];
                let mut action = || match dice.below(4) {
                    0 => Action::Get,
                    1 => Action::Increment { delta: 1 },
                    _ => set(),
                };
                let parts = vec![(key.clone(), action()), (other.clone(), action())];
                Request { parts, shape: Shape::Multi }
            }
            12 | 13 => Request { parts: vec![(key.clone(), set())], shape: Shape::Watched },
            14 => {
                let shape = Shape::For(150 + 50 * dice.below(5) as u64);
                Request { parts: vec![(brief, set())], shape }
            }
            _ => Request::one(&brief, Action::Get),
        }
    }

    /// Does what comes before EXEC: WATCH and GET. If they fail, nothing of the request happens.
    pub fn prepare(mut self, client: &mut Client) -> Result<Request, (Request, Answer)> {
        let [(key, Action::Set { value, .. })] = &mut self.parts[..] else { return Ok(self) };
        if !matches!(self.shape, Shape::Watched) {
            return Ok(self);
        }
        let lines = [format!("WATCH {key}"), format!("GET {key}")];
        let found = match client.ask_all(&lines) {
            Answer::Done(reply) => outcome_of(&Action::Get, &reply),
            Answer::Refused(why) | Answer::Unknown(why) => {
                return Err((self, Answer::Refused(why)));
            }
        };
        let new = std::mem::take(value);
        self.parts[0].1 = match found {
            Outcome::Value(old) => Action::CompareAndSet { old, new },
            _ => Action::Set { value: new, condition: Condition::IfAbsent },
        };
        Ok(self)
    }

    /// What to send.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.parts.iter().map(|part| self.line(part)).collect();
        if matches!(self.shape, Shape::Multi | Shape::Watched) {
            lines.insert(0, "MULTI".to_owned());
            lines.push("EXEC".to_owned());
        }
        lines
    }

    fn line(&self, (key, action): &(String, Action)) -> String {
        match (action, &self.shape) {
            (Action::Get, _) => format!("GET {key}"),
            (Action::Delete, _) => format!("DEL {key}"),
            (Action::Increment { delta }, _) => format!("INCRBY {key} {delta}"),
            (Action::Set { value, .. }, Shape::For(span_ms)) => {
                format!("SET {key} {} PX {span_ms}", text(value))
            }
            (Action::Set { value: new, .. } | Action::CompareAndSet { new, .. }, _) => {
                format!("SET {key} {}", text(new))
            }
            (other, _) => panic!("the load does not ask {other}"),
        }
    }

    /// What each part came to; `None` if nothing happened.
    pub fn outcomes(&self, reply: &str) -> Option<Vec<Outcome>> {
        let [(_, first), ..] = &self.parts[..] else { panic!("a request has a part") };
        match self.shape {
            Shape::Plain | Shape::For(_) => Some(vec![outcome_of(first, reply)]),
            Shape::Multi => {
                let mut items = reply.lines();
                assert_eq!(items.next(), Some("*2"), "EXEC answers for each: {reply:?}");
                Some(
                    self.parts
                        .iter()
                        .zip(items)
                        .map(|(part, it)| outcome_of(&part.1, it))
                        .collect(),
                )
            }
            Shape::Watched if reply == "_" || reply.starts_with("-EXECABORT") => None,
            Shape::Watched => {
                assert_eq!(reply, "*1\n+OK", "EXEC answers for its SET");
                Some(vec![match first {
                    Action::CompareAndSet { .. } => Outcome::Integer(1),
                    _ => Outcome::Done,
                }])
            }
        }
    }

    /// What it means for the judge. Without outcomes nobody knows how it ended.
    pub fn operations(
        self,
        client: u64,
        (call, ret): (u64, Option<u64>),
        outcomes: Vec<Outcome>,
    ) -> Vec<Operation> {
        let mut outcomes = outcomes.into_iter();
        let mut operations = Vec::new();
        for (key, action) in self.parts {
            let key = Bytes::from(key);
            if let (Action::Set { value, .. }, Shape::For(span_ms)) = (&action, &self.shape) {
                operations.push(Operation {
                    client,
                    key: key.clone(),
                    call: call + (span_ms * 1_000).saturating_sub(EARLY_MICROS_MAX),
                    ret: None,
                    action: Action::DeleteIfEqual { old: value.clone() },
                    outcome: None,
                });
            }
            let outcome = outcomes.next();
            operations.push(Operation { client, key, call, ret, action, outcome });
        }
        operations
    }
}

fn text(value: &Bytes) -> String {
    String::from_utf8_lossy(value).into_owned()
}

fn outcome_of(action: &Action, reply: &str) -> Outcome {
    match (action, reply.split_at_checked(1)) {
        (_, Some(("_", ""))) => Outcome::Nothing,
        (Action::Set { .. }, Some(("+", "OK"))) => Outcome::Done,
        (_, Some(("+", value))) => Outcome::Value(Bytes::from(value.as_bytes().to_vec())),
        (_, Some((":", number))) => Outcome::Integer(number.parse().expect("an integer reply")),
        (_, Some(("-", error))) if error.contains("not an integer") => Outcome::NotInteger,
        _ => panic!("{action} was answered with {reply:?}"),
    }
}
