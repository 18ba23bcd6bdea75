//! Load that records what it saw, and judges it.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use raft_server::sim::linearizability::{Action, Operation, check};

use super::client::{Answer, Client, Voice};
use super::request::{BRIEF, Dice, Request};

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

    /// The keys that were given a deadline: all of them expire within the longest, whatever
    /// happened.
    pub fn brief_keys(&self) -> BTreeSet<String> {
        let keys = self.history.iter().map(|operation| String::from_utf8_lossy(&operation.key));
        keys.filter(|key| key.starts_with(BRIEF)).map(String::from).collect()
    }
}

/// A load of clients; each goes round its own list of servers. Every other one speaks RESP.
pub struct Load {
    pub clients: Vec<Vec<String>>,
    pub keys: Vec<String>,
    /// Whether a client moves to its next server after every operation.
    pub hop: bool,
    /// Only INCR of the first key: its answers count themselves.
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
        let voice = if number.is_multiple_of(2) { Voice::Lines } else { Voice::Resp };
        let mut client = Client::speaking(voice, addresses.to_vec());
        let mut seen = Seen::default();
        let mut dice = Dice(number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut person = number;
        while !stop.load(Ordering::Relaxed) {
            let unique = serial.fetch_add(1, Ordering::Relaxed);
            let request = if self.only_increments {
                Request::one(&self.keys[0], Action::Increment { delta: 1 })
            } else {
                Request::draw(&mut dice, &self.keys, unique)
            };
            let micros = || start.elapsed().as_micros() as u64;
            let prepared = request.prepare(&mut client);
            let call = micros();
            let (request, answer) = match prepared {
                Ok(request) => {
                    let answer = client.ask_all(&request.lines());
                    (request, answer)
                }
                Err(failed) => failed,
            };
            let ret = micros();
            let (ret, outcomes) = match answer {
                Answer::Done(reply) => {
                    seen.slowest = seen.slowest.max(Duration::from_micros(ret - call));
                    let Some(outcomes) = request.outcomes(&reply) else { continue };
                    (Some(ret), outcomes)
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
                    (None, Vec::new())
                }
            };
            seen.history.extend(request.operations(person, (call, ret), outcomes));
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
