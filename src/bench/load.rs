//! The loop that drives all clients: wait for sockets, count answers, send requests; every few
//! milliseconds look at the clients that have no connection, or no answer.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Interest, Poll, Token};

use super::client::{Client, End, Shared, State};
use super::places::{Leadership, Places};
use super::tally::{Gap, Tally};
use super::work::Work;
use super::{BenchError, FILL_PIPELINE_MIN, Options, Until};

/// How often clients without a connection, or without an answer, are looked at.
const SWEEP_EVERY: Duration = Duration::from_millis(5);

/// The longest wait for a socket.
const WAIT_MAX: Duration = Duration::from_millis(5);

/// How often somebody is told how it goes.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What a client rests after it lost its connection: a server that is gone refuses at once, and
/// trying again and again would take the processor from those that are to be measured.
const REST: Duration = Duration::from_millis(5);

/// The same after it could not connect.
const REST_UNCONNECTED: Duration = Duration::from_millis(20);

/// Time that a connection may take to be made.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// A number of requests is given up when nothing ends for this long.
pub const SILENCE_MAX: Duration = Duration::from_secs(30);

/// What one read brings at most, in bytes.
const READ_BYTES_MAX: usize = 256 * 1024;

/// Sockets that one wait reports at most.
const EVENTS_MAX: usize = 1024;

/// One of the two parts of a run.
pub struct Plan {
    until: Until,
    warmup: Duration,
    pipeline: usize,
    reads_percent: u64,
    in_order: bool,
}

impl Plan {
    /// Every key is written once.
    pub fn fill(options: &Options) -> Plan {
        Plan {
            until: Until::Requests(options.keys),
            warmup: Duration::ZERO,
            pipeline: options.pipeline.max(FILL_PIPELINE_MIN),
            reads_percent: 0,
            in_order: true,
        }
    }

    /// What was asked for.
    pub fn run(options: &Options) -> Plan {
        Plan {
            until: options.until,
            warmup: options.warmup,
            pipeline: options.pipeline,
            reads_percent: options.reads_percent,
            in_order: false,
        }
    }
}

/// How a run goes, once a second.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Whether it is the part before the run in which keys are written.
    pub filling: bool,
    /// Whether the measuring has begun.
    pub measuring: bool,
    /// Time since the part, or the measuring, began.
    pub elapsed: Duration,
    /// Requests a second that succeeded since the last report.
    pub per_second: f64,
    /// Requests that failed so far.
    pub failed: u64,
    /// Clients that are connected.
    pub connected: usize,
    /// The longest time without a successful write since the last report, if it was long enough.
    pub gap: Option<Gap>,
    /// How long no write has succeeded by now, if it is long enough.
    pub silent: Option<Duration>,
}

/// All clients of a run and the one thread's view of them.
pub struct Load<'a> {
    plan: &'a Plan,
    places: &'a Places,
    options: &'a Options,
    /// Somebody has seen enough.
    stop: &'a AtomicBool,
    clients: Vec<Client>,
    shared: Shared,
    poll: Poll,
    /// The leadership that the clients were last told of.
    leadership: Leadership,
    /// When the part began.
    start: Instant,
    measuring: bool,
    /// Of the last report: when, and how many were done then.
    told: (Instant, u64),
    /// Of the last end of a request: when, and how many had ended then.
    heard: (Instant, u64),
}

impl<'a> Load<'a> {
    /// Clients that are not connected yet.
    pub fn new(
        options: &'a Options,
        plan: &'a Plan,
        places: &'a Places,
        stop: &'a AtomicBool,
    ) -> Result<Load<'a>, BenchError> {
        let Options { protocol, keys, value_bytes, clients, .. } = *options;
        let mut work = Work::new(protocol, keys, value_bytes, plan.reads_percent);
        if let Until::Requests(requests) = plan.until {
            work = work.with_budget(requests);
        }
        if plan.in_order {
            work = work.in_order();
        }
        let now = Instant::now();
        let shared = Shared {
            work,
            tally: Tally::new(now, options.gap),
            protocol,
            pipeline: plan.pipeline,
            buffer: vec![0; READ_BYTES_MAX],
        };
        Ok(Load {
            plan,
            places,
            options,
            stop,
            clients: (0..clients).map(|_| Client::new(now)).collect(),
            shared,
            poll: Poll::new()?,
            leadership: places.leadership(),
            start: now,
            measuring: plan.warmup.is_zero(),
            told: (now, 0),
            heard: (now, 0),
        })
    }

    /// Runs to the end.
    pub fn run(mut self, tell: &mut dyn FnMut(&Progress)) -> Result<Tally, BenchError> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut swept = self.start;
        self.sweep(self.start);
        loop {
            self.wait(&mut events)?;
            for event in &events {
                self.handle(event);
            }
            let now = Instant::now();
            if now - swept >= SWEEP_EVERY {
                swept = now;
                self.sweep(now);
            }
            if !self.measuring && now - self.start >= self.plan.warmup {
                self.measuring = true;
                self.shared.tally = Tally::new(now, self.options.gap);
                self.told = (now, 0);
                self.heard = (now, 0);
            }
            if now - self.told.0 >= TELL_EVERY {
                tell(&self.progress(now));
            }
            if self.is_over(now)? {
                let unfinished = self.clients.iter().map(Client::in_flight).sum();
                self.shared.tally.finish(now, unfinished);
                return Ok(self.shared.tally);
            }
        }
    }

    fn wait(&mut self, events: &mut Events) -> Result<(), BenchError> {
        match self.poll.poll(events, Some(WAIT_MAX)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                Err(BenchError::Poll(error))
            }
            _ => Ok(()),
        }
    }

    fn is_over(&mut self, now: Instant) -> Result<bool, BenchError> {
        if self.stop.load(Ordering::Relaxed) {
            let nothing_yet = !self.measuring || self.plan.in_order;
            return if nothing_yet { Err(BenchError::Stopped) } else { Ok(true) };
        }
        match self.plan.until {
            Until::Elapsed(time) => Ok(self.measuring && now - self.shared.tally.since >= time),
            Until::Requests(requests) => {
                let ended = self.shared.tally.ended();
                if ended > self.heard.1 {
                    self.heard = (now, ended);
                }
                if now - self.heard.0 > SILENCE_MAX {
                    let trouble = self.shared.tally.trouble.to_string();
                    return Err(BenchError::Silence { ended, requests, trouble });
                }
                Ok(ended >= requests)
            }
        }
    }

    /// Something happened on a client's socket. It is told once, so all that can be done is done.
    fn handle(&mut self, event: &Event) {
        let number = event.token().0;
        if let State::Connecting(stream, _) = &self.clients[number].state {
            match stream.take_error().unwrap_or_else(Some) {
                None if !event.is_writable() => return,
                None => self.connected(number),
                Some(error) => return self.not_connected(number, &error.to_string()),
            }
        }
        let client = &mut self.clients[number];
        // If it was closed while the event was on the way, neither does anything.
        let sent = if event.is_writable() { client.send() } else { Ok(()) };
        let received = sent.and_then(|()| {
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                client.receive(event.is_read_closed(), &mut self.shared)
            } else {
                Ok(())
            }
        });
        if let Err(end) = received {
            self.ended(number, &end);
        }
    }

    fn connected(&mut self, number: usize) {
        let client = &mut self.clients[number];
        let state = std::mem::replace(&mut client.state, State::Resting(self.start));
        if let State::Connecting(stream, _) = state {
            client.state = State::Connected(stream);
        }
        if let Err(end) = client.begin(&mut self.shared) {
            self.ended(number, &end);
        }
    }

    fn not_connected(&mut self, number: usize, reason: &str) {
        let address = self.places.address(self.clients[number].place);
        let trouble = &mut self.shared.tally.trouble;
        trouble.not_connected += 1;
        trouble.example("not connected", || format!("{address}: {reason}"));
        self.rest(number, REST_UNCONNECTED);
    }

    /// A connection is over: on to the next server.
    fn ended(&mut self, number: usize, end: &End) {
        if let End::Cut(reason) = end {
            let address = self.places.address(self.clients[number].place);
            let trouble = &mut self.shared.tally.trouble;
            trouble.cut += 1;
            trouble.example("cut", || format!("{address}: {reason}"));
        }
        self.rest(number, REST);
    }

    fn rest(&mut self, number: usize, time: Duration) {
        let client = &mut self.clients[number];
        // Not if it was called away: then it has yet to try where it should be.
        if client.place == self.places.after(number, client.failures) {
            client.failures += 1;
        }
        let now = Instant::now();
        client.disconnect(&mut self.shared.tally, now, now + time);
    }

    /// Connects who has rested, gives up who has waited too long, and follows the leader.
    fn sweep(&mut self, now: Instant) {
        let leadership = self.places.leadership();
        let moved = leadership != self.leadership;
        self.leadership = leadership;
        for number in 0..self.clients.len() {
            let client = &mut self.clients[number];
            if moved {
                client.failures = 0;
                let is_home = client.place == self.places.after(number, 0);
                client.leaving |= !is_home && !matches!(client.state, State::Resting(_));
            }
            match client.state {
                State::Resting(until) if now >= until => self.connect(number, now),
                State::Connecting(_, since) if now - since > CONNECT_WITHIN => {
                    self.not_connected(number, "no answer");
                }
                State::Connected(_) if client.is_late(now, self.options.timeout) => {
                    let reason =
                        format!("no answer within {} ms", self.options.timeout.as_millis());
                    self.ended(number, &End::Cut(reason));
                }
                State::Connected(_) if client.leaving && client.in_flight() == 0 => {
                    self.ended(number, &End::Left);
                }
                _ => {}
            }
        }
    }

    fn connect(&mut self, number: usize, now: Instant) {
        let client = &mut self.clients[number];
        client.place = self.places.after(number, client.failures);
        let both = Interest::READABLE | Interest::WRITABLE;
        let stream = Client::connect(self.places.address(client.place)).and_then(|mut stream| {
            self.poll.registry().register(&mut stream, Token(number), both)?;
            Ok(stream)
        });
        match stream {
            Ok(stream) => client.state = State::Connecting(stream, now),
            Err(error) => self.not_connected(number, &error.to_string()),
        }
    }

    fn progress(&mut self, now: Instant) -> Progress {
        let done = self.shared.tally.done();
        let (before, done_before) = std::mem::replace(&mut self.told, (now, done));
        let is_connected = |client: &&Client| matches!(client.state, State::Connected(_));
        Progress {
            filling: self.plan.in_order,
            measuring: self.measuring,
            elapsed: now - self.shared.tally.since,
            per_second: (done - done_before) as f64 / (now - before).as_secs_f64(),
            failed: self.shared.tally.trouble.requests(),
            connected: self.clients.iter().filter(is_connected).count(),
            gap: self.shared.tally.gaps.take_told(),
            silent: self.shared.tally.gaps.silent(now),
        }
    }
}
