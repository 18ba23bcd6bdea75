//! What clients ask beyond single commands on keys that stay: keys that expire, transactions,
//! commands that may be sent again, and the weaker reads.
//!
//! All of it is about a few keys of its own, `t0`, `t1` …, which live as long as the run and are
//! judged by `replay`. The keys of the plain commands are judged by `linearizability`, which knows
//! nothing of time.
//!
//! Some of it takes more than one request. Who watches keys waits for what WATCH has seen and sends
//! it along with EXEC. Who uses ONCE sends the same number again until it knows how that ended,
//! perhaps to another server. What a client has to remember for that is its [`Talk`].

use super::clients::Asked;
use super::random::Random;
use crate::gateway::Answer;
use crate::kv::command::{
    Bytes, Command, Condition, Deadline, DeadlineFormat, ExpireCondition, Expiry, Operation,
    Outcome, Query, SetAnswer, Watch, Write,
};

/// What a client remembers from request to request.
#[derive(Debug)]
pub(super) struct Talk {
    once: Once,
    watching: Watching,
    /// A value that it has read, the version of one, a deadline, and an index of the log: to ask
    /// for just that again.
    value: Bytes,
    version: u64,
    deadline_ms: i64,
    index: u64,
}

/// A client of ONCE.
#[derive(Debug)]
struct Once {
    name: Bytes,
    /// What it has asked, in the order of its numbers, which count from 1.
    commands: Vec<Command>,
    /// It knows how the last one ended.
    settled: bool,
    /// The request under way, and its number.
    waiting: Option<(usize, u64)>,
}

/// How far a client has come with a transaction.
#[derive(Debug)]
enum Watching {
    Nothing,
    /// This request asks for what WATCH sees.
    Asked(usize),
    /// WATCH has seen this.
    Seen(Vec<Watch>),
}

impl Talk {
    /// A client that has not asked anything yet.
    pub(super) fn new(client: usize) -> Talk {
        let name = Bytes::from(format!("c{client}"));
        Talk {
            once: Once { name, commands: Vec::new(), settled: true, waiting: None },
            watching: Watching::Nothing,
            value: Bytes::default(),
            version: 0,
            deadline_ms: 0,
            index: 0,
        }
    }

    /// The next request, which will have this name.
    pub(super) fn draw(&mut self, random: &mut Random, name: usize) -> Asked {
        if matches!(self.watching, Watching::Seen(_)) && random.chance(3_000) {
            let seen = std::mem::replace(&mut self.watching, Watching::Nothing);
            let Watching::Seen(watches) = seen else { unreachable!("just looked") };
            return Asked::Write(self.transaction(random, name, watches));
        }
        match random.below(20) {
            0..5 => Asked::Read(self.query(random)),
            5..7 => Asked::Stale(self.query(random)),
            7 => Asked::Wait { index: self.index + random.below(20), ticks: random.between(1, 20) },
            8..12 => Asked::Write(Write::Command(self.named_command(random, name))),
            12..14 => Asked::Write(self.transaction(random, name, Vec::new())),
            14..17 if matches!(self.watching, Watching::Nothing) => {
                self.watching = Watching::Asked(name);
                let count = random.position(2) + 1;
                Asked::Read(Query::Watch { keys: (0..count).map(|_| key(random)).collect() })
            }
            17..20 if self.once.waiting.is_none() => Asked::Write(self.once(random, name)),
            _ => Asked::Read(self.query(random)),
        }
    }

    /// A request of ours has been answered.
    pub(super) fn heard(&mut self, name: usize, asked: &Asked, answer: &Answer) {
        let outcome = match answer {
            Answer::Done(outcome) => Some(outcome),
            Answer::Refused(_) | Answer::Unknown => None,
        };
        if let Some((_, sequence)) = self.once.waiting.take_if(|(waiting, _)| *waiting == name) {
            self.once.settled |= outcome.is_some() && sequence == self.once.last();
        }
        if matches!(self.watching, Watching::Asked(waiting) if waiting == name) {
            self.watching = Watching::Nothing;
        }
        let (Asked::Read(query), Some(outcome)) = (asked, outcome) else { return };
        match (query, outcome) {
            (Query::Watch { keys }, Outcome::Watched { seen_at, existed }) => {
                let both = keys.iter().zip(existed);
                let watch = |(key, existed): (&Bytes, &bool)| Watch {
                    key: key.clone(),
                    seen_at: *seen_at,
                    existed: *existed,
                };
                self.watching = Watching::Seen(both.map(watch).collect());
                self.index = *seen_at;
            }
            (Query::Get { .. }, Outcome::Value(value)) => self.value = value.clone(),
            (Query::GetVersioned { .. }, Outcome::List(both)) => {
                if let [_, Outcome::Integer(version)] = both[..] {
                    self.version = version.unsigned_abs();
                }
            }
            (
                Query::TimeToLive { format: DeadlineFormat::UnixMilliseconds, .. },
                Outcome::Integer(at_ms),
            ) => self.deadline_ms = *at_ms,
            _ => {}
        }
    }

    /// The connection has gone with all that was under way on it.
    pub(super) fn lost(&mut self) {
        self.once.waiting = None;
        self.watching = Watching::Nothing; // it belonged to the connection
    }

    fn query(&self, random: &mut Random) -> Query {
        let key = key(random);
        match random.below(10) {
            0..3 => Query::Get { key },
            3 | 4 => Query::GetVersioned { key },
            5 => Query::TimeToLive { key, format: DeadlineFormat::Milliseconds },
            6 => Query::TimeToLive { key, format: DeadlineFormat::UnixMilliseconds },
            7 => Query::Exists { keys: vec![key.clone(), key_number(0), key] },
            8 => Query::GetMany { keys: (0..KEYS).map(key_number).collect() },
            _ => Query::Range { from: Bytes::from("t"), to: Some(Bytes::from("u")), pairs_max: 4 },
        }
    }

    /// A command that carries its name in what it writes, or in a key that never exists.
    fn named_command(&self, random: &mut Random, name: usize) -> Command {
        let (key, value) = (key(random), Bytes::from(format!("{name}.")));
        match random.below(12) {
            0..7 => self.set(random, key, value),
            7 => Command::Append { key, value, value_bytes_max: 1_000 },
            8 => Command::Increment { key, delta: name as i64 },
            9 => Command::CompareAndSet { key, old: self.value.clone(), new: value },
            10 => Command::Delete { keys: vec![key, value] },
            _ => Command::SetMany {
                pairs: vec![(key, value.clone()), (key_number(0), value)],
                if_absent: random.chance(5_000),
            },
        }
    }

    /// A command whose name stands elsewhere.
    fn command(&self, random: &mut Random, name: usize) -> Command {
        let key = key(random);
        match random.below(13) {
            0 => Command::GetAndDelete { key },
            1 | 2 => Command::DeleteIfEqual { key, old: self.value.clone() },
            3 => Command::GetAndExpire { key, expiry: self.expiry(random) },
            4 | 5 => {
                let condition = random.pick(&[
                    ExpireCondition::Always,
                    ExpireCondition::Always,
                    ExpireCondition::IfNone,
                    ExpireCondition::IfSome,
                    ExpireCondition::IfLater,
                    ExpireCondition::IfSooner,
                    ExpireCondition::IfSomeAndSooner,
                ]);
                Command::Expire { key, deadline: self.deadline(random), condition }
            }
            6 => Command::Persist { key },
            // A number, so that INCR has something to count.
            7 => self.set(random, key, Bytes::from(name.to_string())),
            8 | 9 => Command::Increment { key, delta: 1 },
            _ => self.named_command(random, name),
        }
    }

    fn set(&self, random: &mut Random, key: Bytes, value: Bytes) -> Command {
        let condition = match random.below(8) {
            0 => Condition::IfAbsent,
            1 => Condition::IfPresent,
            2 => Condition::IfEqual(self.value.clone()),
            3 => Condition::IfVersion(random.pick(&[0, self.version])),
            _ => Condition::Always,
        };
        let answer = random.pick(&[SetAnswer::Done, SetAnswer::Old, SetAnswer::Flag]);
        Command::Set { key, value, condition, expiry: self.expiry(random), answer }
    }

    fn expiry(&self, random: &mut Random) -> Expiry {
        match random.below(5) {
            0 => Expiry::Never,
            1 => Expiry::Keep,
            _ => Expiry::Set(self.deadline(random)),
        }
    }

    /// A short life, as a rule: time must pass while somebody looks.
    fn deadline(&self, random: &mut Random) -> Deadline {
        match random.below(5) {
            0 => Deadline::At(self.deadline_ms + random.below(400) as i64 - 200),
            1 => Deadline::In(random.pick(&[-1, 0, 1])),
            _ => Deadline::In(random.pick(&[10, 50, 200, 500, 1_000])),
        }
    }

    /// MULTI … EXEC. Its name is in its first question, about a key that never exists.
    fn transaction(&self, random: &mut Random, name: usize, watches: Vec<Watch>) -> Write {
        let named = Query::Exists { keys: vec![Bytes::from(format!("{name}."))] };
        let mut operations = vec![Operation::Query(named)];
        for _ in 0..=random.below(4) {
            operations.push(match random.below(8) {
                0 => Operation::Query(Query::Count),
                1 | 2 => Operation::Query(self.query(random)),
                _ => Operation::Command(self.command(random, name)),
            });
        }
        Write::Transaction { watches, operations }
    }

    /// ONCE: the next number, or one again.
    fn once(&mut self, random: &mut Random, name: usize) -> Write {
        if random.chance(300) {
            // Somebody whom nobody knows goes on where he left off.
            let (client, command) = (format!("nobody{name}"), self.command(random, name));
            return Write::Once { client: client.into(), sequence: 2, command };
        }
        if self.once.settled && (self.once.commands.is_empty() || random.chance(7_000)) {
            let command = self.command(random, name);
            self.once.commands.push(command);
            self.once.settled = false;
        } else if self.once.settled && random.chance(2_000) {
            return self.again(random.between(1, self.once.last() + 2), name);
        }
        self.again(self.once.last(), name)
    }

    /// ONCE under this number: what was asked under it, or something if nothing was.
    fn again(&mut self, sequence: u64, name: usize) -> Write {
        let at = usize::try_from(sequence - 1).expect("it counts what is in memory");
        let command = self.once.commands.get(at).cloned();
        let command = command.unwrap_or(Command::Delete { keys: vec![key_number(0)] });
        // What lies beyond the next number must not be executed: that would leave one out.
        let sequence = if at == self.once.commands.len() { sequence + 1 } else { sequence };
        self.once.waiting = Some((name, sequence));
        Write::Once { client: self.once.name.clone(), sequence, command }
    }
}

impl Once {
    fn last(&self) -> u64 {
        self.commands.len() as u64
    }
}

/// How many keys there are.
const KEYS: u64 = 5;

/// Whether `replay` is the only judge of this key.
pub(super) fn is_ours(key: &Bytes) -> bool {
    key.starts_with(b"t")
}

fn key_number(number: u64) -> Bytes {
    Bytes::from(format!("t{number}"))
}

fn key(random: &mut Random) -> Bytes {
    key_number(random.below(KEYS))
}
