//! Clients: what they ask, whom, how long they wait, and what they remember of it for the judge.

use std::collections::VecDeque;

use super::checks::{Checked, Violation, ensure};
use super::plan::ClientHabits;
use super::queue::{Micros, Place};
use super::random::{PerTenThousand, Random};
use super::requests::Talk;
use crate::gateway::{Answer, Answered, ClientId, Request, Slot};
use crate::kv::command::{Bytes, Command, Condition, Outcome, Query, Write};
use crate::kv::encoding;
use crate::raft::types::{self, Index};

/// Something a client asked.
#[derive(Clone, Debug)]
pub enum Asked {
    /// A change.
    Write(Write),
    /// A question.
    Read(Query),
    /// A question for which any state will do.
    Stale(Query),
    /// To be told what has been applied: as soon as that is `index`, or after so many ticks.
    Wait {
        /// What to wait for.
        index: u64,
        /// For how long.
        ticks: u64,
    },
}

/// One request and what became of it. Times are steps: no two things happen in the same one.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Who asked.
    pub client: u64,
    /// On which of its connections.
    pub connection: u64,
    /// What.
    pub asked: Asked,
    /// When.
    pub call: u64,
    /// When the answer came, if one came that says what happened.
    pub ret: Option<u64>,
    /// What it said.
    pub outcome: Option<Outcome>,
    /// It was refused: it never happened.
    pub refused: bool,
}

/// All clients.
#[derive(Debug)]
pub struct Clients {
    random: Random,
    clients: Vec<Client>,
    connections: u64,
    /// Everything that was asked.
    pub history: Vec<Recorded>,
    /// Whoever has been served often asks no more. A server that is behind and whose disk is no
    /// faster than the leader's never catches up while clients ask as fast as they can.
    frugal: bool,
    /// No new requests.
    pub quiet: bool,
    /// Requests that were executed, refused, and whose outcome is unknown.
    pub counts: Counts,
}

/// How requests ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Executed.
    pub done: u64,
    /// Certainly not executed.
    pub refused: u64,
    /// Nobody knows.
    pub unknown: u64,
}

#[derive(Debug)]
struct Client {
    connection: Option<Connection>,
    /// It was refused: it does not ask again before this time.
    rests_until: Micros,
    /// Requests executed since the last `expect_service`.
    served: u64,
    /// Of these, whether one was a write, and whether one was a read.
    wrote: bool,
    read: bool,
    /// What it has begun and not finished.
    talk: Talk,
}

#[derive(Debug)]
struct Connection {
    id: ClientId,
    place: Place,
    life: u32,
    next_slot: u64,
    /// What it has asked and not heard of, in order.
    waiting: VecDeque<Waiting>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    slot: Slot,
    /// Position in the history.
    name: usize,
    sent: Micros,
    /// When it was sent, in ticks of the server.
    sent_tick: u64,
    is_write: bool,
}

/// What a client does next.
#[derive(Debug)]
pub enum Action {
    /// Nothing.
    Wait,
    /// Closes its connection.
    HangUp(Place, u32, ClientId),
    /// Sends these.
    Submit(Place, u32, ClientId, Vec<(Slot, Request)>),
}

impl Clients {
    /// Clients that have not asked anything yet.
    pub fn new(seed: u64, count: usize) -> Clients {
        let client = |number| Client {
            connection: None,
            rests_until: 0,
            served: 0,
            wrote: false,
            read: false,
            talk: Talk::new(number),
        };
        Clients {
            random: Random::part(seed, 3),
            clients: (0..count).map(client).collect(),
            connections: 0,
            history: Vec::new(),
            frugal: false,
            quiet: false,
            counts: Counts::default(),
        }
    }

    /// A client looks around. `lives` tells which servers are up, and in which life.
    pub fn act(
        &mut self,
        who: u16,
        (now, step): (Micros, u64),
        habits: &ClientHabits,
        lives: &[Option<(u32, u64)>],
        deadline_ticks: u64,
    ) -> Result<Action, Violation> {
        let client = &mut self.clients[usize::from(who)];
        if let Some(connection) = &client.connection {
            let here = lives[usize::from(connection.place)];
            let gone = here.map(|(life, _)| life) != Some(connection.life);
            if let (Some(first), Some((_, tick)), false) = (connection.waiting.front(), here, gone)
            {
                let waited = tick - first.sent_tick;
                ensure(
                    waited <= deadline_ticks + GRACE_TICKS,
                    "Every request is answered",
                    || format!("{:?} waits for {waited} ticks", self.history[first.name]),
                )?;
            }
            let impatient =
                connection.waiting.front().is_some_and(|first| now - first.sent > habits.patience);
            let hops = connection.waiting.is_empty() && self.random.chance(habits.hop);
            if gone || impatient || hops || self.random.chance(habits.hang_up) {
                let left = client.connection.take().expect("just seen");
                self.counts.unknown += left.waiting.len() as u64;
                client.talk.lost();
                return Ok(if gone {
                    Action::Wait
                } else {
                    Action::HangUp(left.place, left.life, left.id)
                });
            }
        }
        let content = self.frugal && client.served >= SERVED_ENOUGH && client.wrote && client.read;
        if self.quiet || content || now < client.rests_until {
            return Ok(Action::Wait);
        }
        if client.connection.is_none() {
            let place = self.random.position(lives.len());
            let Some((life, _)) = lives[place] else { return Ok(Action::Wait) };
            self.connections += 1;
            client.connection = Some(Connection {
                id: ClientId(self.connections),
                place: place as Place,
                life,
                next_slot: 0,
                waiting: VecDeque::new(),
            });
        }
        let connection = client.connection.as_mut().expect("just made");
        let room = habits.pipeline_max.saturating_sub(connection.waiting.len());
        if room == 0 {
            return Ok(Action::Wait);
        }
        let sent_tick = lives[usize::from(connection.place)].map_or(0, |(_, tick)| tick);
        let count = self.random.position(room) + 1;
        let mut requests = Vec::with_capacity(count);
        for _ in 0..count {
            let name = self.history.len();
            // Who must be served must be served in both ways.
            let reads = if self.frugal { 5_000 } else { habits.reads };
            let asked = if self.random.chance(habits.beyond_plain) {
                client.talk.draw(&mut self.random, name)
            } else {
                draw_request(&mut self.random, habits, reads, name)
            };
            let slot = Slot(connection.next_slot);
            connection.next_slot += 1;
            let is_write = matches!(asked, Asked::Write(_));
            connection.waiting.push_back(Waiting { slot, name, sent: now, sent_tick, is_write });
            requests.push((slot, request_of(&asked)));
            self.history.push(Recorded {
                client: u64::from(who),
                connection: connection.id.0,
                asked,
                call: step,
                ret: None,
                outcome: None,
                refused: false,
            });
        }
        Ok(Action::Submit(connection.place, connection.life, connection.id, requests))
    }

    /// Whom `act` may be asked about: as many, counted from 0.
    pub fn count(&self) -> u16 {
        self.clients.len() as u16
    }

    /// The server that a client is connected to, unless it is about to lose its patience with it.
    pub fn place_of(&self, who: u16, now: Micros, habits: &ClientHabits) -> Option<Place> {
        let connection = self.clients[usize::from(who)].connection.as_ref()?;
        let first = connection.waiting.front();
        let impatient = first.is_some_and(|first| now - first.sent > habits.patience);
        (!impatient).then_some(connection.place)
    }

    /// An answer arrives.
    pub fn answered(
        &mut self,
        (now, step): (Micros, u64),
        place: Place,
        answered: Answered,
    ) -> Checked {
        let holder = self.clients.iter_mut().find(|client| {
            let connection = client.connection.as_ref();
            connection.is_some_and(|it| it.id == answered.client && it.place == place)
        });
        let Some(client) = holder else { return Ok(()) }; // it has hung up
        let connection = client.connection.as_mut().expect("just found");
        let position = connection.waiting.iter().position(|it| it.slot == answered.slot);
        ensure(position.is_some(), "A request is answered once", || format!("{answered:?}"))?;
        let found = position.and_then(|at| connection.waiting.remove(at));
        let Some(Waiting { name, is_write, .. }) = found else { return Ok(()) };
        // Only reads may overtake each other.
        let is_done = matches!(answered.answer, Answer::Done(_));
        let mut before = connection.waiting.iter().take(position.unwrap_or(0));
        let overtakes = is_done && before.any(|earlier| earlier.is_write || is_write);
        ensure(!overtakes, "A connection's requests are executed in order", || {
            format!("{answered:?} came before the answer to an earlier request")
        })?;
        let recorded = &mut self.history[name];
        client.talk.heard(name, &recorded.asked, &answered.answer);
        match answered.answer {
            Answer::Done(outcome) => {
                recorded.ret = Some(step);
                recorded.outcome = Some(outcome);
                client.served += 1;
                client.wrote |= is_write;
                client.read |= !is_write;
                self.counts.done += 1;
            }
            Answer::Refused(_) => {
                recorded.refused = true;
                client.rests_until = now + REST;
                self.counts.refused += 1;
            }
            Answer::Unknown => self.counts.unknown += 1,
        }
        Ok(())
    }

    /// From now on every client must be served.
    pub fn expect_service(&mut self) {
        self.frugal = true;
        self.quiet = false;
        for client in &mut self.clients {
            (client.served, client.wrote, client.read) = (0, false, false);
        }
    }

    /// How many more requests clients may make now that service is expected.
    pub fn requests_to_come(&self, habits: &ClientHabits) -> u64 {
        self.clients.len() as u64 * (SERVED_ENOUGH + habits.pipeline_max as u64)
    }

    /// Whether every client has been served since then: a write and a read of it.
    pub fn all_served(&self) -> bool {
        self.clients.iter().all(|client| client.wrote && client.read)
    }

    /// Whether nobody waits for an answer.
    pub fn nobody_waits(&self) -> bool {
        let waits = |client: &Client| {
            client.connection.as_ref().is_some_and(|connection| !connection.waiting.is_empty())
        };
        !self.clients.iter().any(waits)
    }
}

/// After this many requests of all clients they turn to other keys.
const REQUESTS_PER_AGE: usize = 60;

/// Ticks after its deadline by which an answer must have arrived: the worker that carries it wakes
/// up late, and the tick that finds the deadline is the one after it.
const GRACE_TICKS: u64 = 4;

/// How often a frugal client is served before it asks no more.
const SERVED_ENOUGH: u64 = 20;

/// How long a client that was refused waits before it asks again.
const REST: Micros = 100_000;

fn request_of(asked: &Asked) -> Request {
    match asked {
        Asked::Write(write) => Request::Write(types::Command(encoding::encode(write))),
        Asked::Read(query) => Request::Read(query.clone()),
        Asked::Stale(query) => Request::StaleRead(query.clone()),
        Asked::Wait { index, ticks } => Request::Wait { index: Index(*index), ticks: *ticks },
    }
}

/// A request nobody has made before: values carry the request's name, so that the judge knows who
/// wrote what was read.
fn draw_request(
    random: &mut Random,
    habits: &ClientHabits,
    reads: PerTenThousand,
    name: usize,
) -> Asked {
    // Keys come and go: each unknown outcome doubles the judge's work, so no key's history may be
    // long.
    let age = name / REQUESTS_PER_AGE;
    let key_of = |number: u64| Bytes::from(format!("k{number}.{age}").into_bytes());
    let key = key_of(random.below(habits.keys));
    if random.chance(reads) {
        return Asked::Read(match random.below(10) {
            0 => Query::Exists { keys: vec![key] },
            1 => Query::Length { key },
            _ => Query::Get { key },
        });
    }
    let mut value = format!("{name}.").into_bytes();
    if random.chance(1_000) {
        value.resize(habits.value_bytes_max.max(value.len()), b'x');
    }
    let value = Bytes::from(value);
    Asked::Write(Write::Command(match random.below(12) {
        0..5 => Command::set(key, value, Condition::Always),
        5 => Command::set(key, value, Condition::IfAbsent),
        6 | 7 => {
            Command::Append { key, value, value_bytes_max: crate::limits::VALUE_BYTES_MAX as u64 }
        }
        8 => {
            // A DEL has no value to carry its name, so a second key does, which never exists.
            Command::Delete { keys: vec![key, Bytes::from(format!("{name}.").into_bytes())] }
        }
        9 => Command::Increment {
            key: Bytes::from(format!("n.{age}").into_bytes()),
            delta: name as i64,
        },
        10 => {
            let old = Bytes::from(format!("{}.", random.below(name as u64 + 1)).into_bytes());
            Command::CompareAndSet { key, old, new: value }
        }
        _ => {
            let other = key_of(random.below(habits.keys));
            Command::SetMany { pairs: vec![(key, value.clone()), (other, value)], if_absent: false }
        }
    }))
}
