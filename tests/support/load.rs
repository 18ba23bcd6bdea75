//! Load that records what it saw, and judges it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use raft_server::kv::command::{Bytes, Condition, Outcome};
use raft_server::sim::linearizability::{Action, Operation, check};

use super::client::{Answer, Client};

/// What some clients did and saw.
#[derive(Default)]
pub struct Seen {
    pub history: Vec<Operation>,
    /// Answers that were not *done*, in words.
    pub trouble: Vec<String>,
    /// The longest that any answered operation took.
    pub slowest: Duration,
}

impl Seen {
    /// The history is linearizable, and not empty.
    pub fn check(&self) {
        assert!(self.history.len() > 50, "the load got somewhere: {:?}", self.trouble);
        let known = self.history.iter().filter(|operation| operation.ret.is_some()).count();
        println!("{known} of {} known, slowest {:?}", self.history.len(), self.slowest);
        check(&self.history).expect_linearizable();
    }
}

/// A load of clients; each goes round its own list of servers.
pub struct Load {
    pub clients: Vec<Vec<String>>,
    pub keys: Vec<String>,
    /// Whether a client moves to its next server after every operation.
    pub hop: bool,
    /// Only INCR: its answers count themselves.
    pub only_increments: bool,
}

impl Load {
    /// Six clients that hop between all these servers.
    pub fn hopping(addresses: &[String]) -> Load {
        let mut clients = Vec::new();
        for i in 0..6 {
            let mut addresses = addresses.to_vec();
            let by = i % addresses.len();
            addresses.rotate_left(by);
            clients.push(addresses);
        }
        let keys = (0..12).map(|i| format!("key{i}")).collect();
        Load { clients, keys, hop: true, only_increments: false }
    }

    /// Runs the load for as long as `nemesis` runs.
    pub fn run(&self, nemesis: impl FnOnce()) -> Seen {
        let (stop, start) = (AtomicBool::new(false), Instant::now());
        let (seen, serial) = (Mutex::new(Seen::default()), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for (number, addresses) in self.clients.iter().enumerate() {
                let (stop, seen, serial) = (&stop, &seen, &serial);
                scope.spawn(move || {
                    let mine = self.one(number as u64, addresses, start, stop, serial);
                    let mut all = seen.lock().expect("no client panics with the lock");
                    all.history.extend(mine.history);
                    all.trouble.extend(mine.trouble);
                    all.slowest = all.slowest.max(mine.slowest);
                });
            }
            // The clients are stopped even if the nemesis panics: else the test would hang.
            let stopper = StopOnDrop(&stop);
            nemesis();
            drop(stopper);
        });
        seen.into_inner().expect("no client panics with the lock")
    }

    fn one(
        &self,
        number: u64,
        addresses: &[String],
        start: Instant,
        stop: &AtomicBool,
        serial: &AtomicU64,
    ) -> Seen {
        let mut client = Client::connect(addresses.to_vec());
        let mut seen = Seen::default();
        let mut dice = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut person = number;
        while !stop.load(Ordering::Relaxed) {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            let key = &self.keys[(dice >> 8) as usize % self.keys.len()];
            let unique = serial.fetch_add(1, Ordering::Relaxed);
            let action = match dice % 10 {
                _ if self.only_increments => Action::Increment { delta: 1 },
                0..4 => Action::Get,
                4..6 => {
                    let value = Bytes::from(unique.to_string().into_bytes());
                    Action::Set { value, condition: Condition::Always }
                }
                6 => Action::Delete,
                _ => Action::Increment { delta: 1 },
            };
            let micros = |start: Instant| start.elapsed().as_micros() as u64;
            let (call, asked) = (micros(start), Instant::now());
            let answer = client.ask(&line_of(&action, key));
            let (ret, took) = (micros(start), asked.elapsed());
            let (ret, outcome) = match answer {
                Answer::Done(reply) => {
                    seen.slowest = seen.slowest.max(took);
                    (Some(ret), Some(outcome_of(&action, &reply)))
                }
                Answer::Refused(why) => {
                    seen.trouble.push(why);
                    client.hop();
                    std::thread::sleep(Duration::from_millis(5)); // a dead server refuses at once
                    continue;
                }
                Answer::Unknown(why) => {
                    seen.trouble.push(why);
                    client.hop();
                    (None, None)
                }
            };
            let key = Bytes::from(key.clone().into_bytes());
            seen.history.push(Operation { client: person, key, call, ret, action, outcome });
            if ret.is_none() {
                person += 1000; // what comes after an unknown end is as if from another client
            }
            if self.hop {
                client.hop();
            }
        }
        seen
    }
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn line_of(action: &Action, key: &str) -> String {
    match action {
        Action::Get => format!("GET {key}"),
        Action::Set { value, .. } => format!("SET {key} {}", String::from_utf8_lossy(value)),
        Action::Delete => format!("DEL {key}"),
        Action::Increment { delta } => format!("INCRBY {key} {delta}"),
        other => panic!("the load does not ask {other}"),
    }
}

fn outcome_of(action: &Action, reply: &str) -> Outcome {
    match (action, reply.split_at_checked(1)) {
        (_, Some(("_", ""))) => Outcome::Nothing,
        (Action::Set { .. }, Some(("+", "OK"))) => Outcome::Done,
        (_, Some(("+", value))) => Outcome::Value(Bytes::from(value.as_bytes().to_vec())),
        (_, Some((":", number))) => Outcome::Integer(number.parse().expect("an integer reply")),
        (_, Some(("-", error))) if error.starts_with("NOTINT") => Outcome::NotInteger,
        _ => panic!("{action} was answered with {reply:?}"),
    }
}
