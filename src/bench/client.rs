//! One client: a connection that does not block, and the requests that are in flight on it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use super::tally::Tally;
use super::wire::{Family, Protocol, Reply};
use super::work::{Outcome, Request, Work};

/// What all clients of a run share, as they run in one thread.
pub struct Shared {
    /// Makes requests and judges answers.
    pub work: Work,
    /// Counts them.
    pub tally: Tally,
    /// How requests are spelled.
    pub protocol: Protocol,
    /// Requests that each client keeps in flight.
    pub pipeline: usize,
    /// What one read brings.
    pub buffer: Vec<u8>,
}

/// Where a client is.
pub enum State {
    /// It has no connection and makes one at this time.
    Resting(Instant),
    /// Its connection is being made, since this time.
    Connecting(TcpStream, Instant),
    /// It is connected.
    Connected(TcpStream),
}

/// Why a connection is over.
#[derive(Debug)]
pub enum End {
    /// It was lost, or is of no use.
    Cut(String),
    /// The client leaves by itself: nothing is in flight.
    Left,
}

/// One closed loop.
pub struct Client {
    /// Where it is.
    pub state: State,
    /// The server that it is connected to, or tries to reach.
    pub place: usize,
    /// How often it had to leave since it was last at home.
    pub failures: usize,
    /// It makes no more requests here, and leaves when nothing is in flight.
    pub leaving: bool,
    /// Oldest first, as answers come.
    flight: VecDeque<Request>,
    output: Vec<u8>,
    /// Bytes of `output` that have been sent.
    sent_bytes: usize,
    /// The beginning of an answer whose end has not come.
    rest: Vec<u8>,
}

impl Client {
    /// Connects when it is first looked at.
    pub fn new(now: Instant) -> Client {
        Client {
            state: State::Resting(now),
            place: 0,
            failures: 0,
            leaving: false,
            flight: VecDeque::new(),
            output: Vec::new(),
            sent_bytes: 0,
            rest: Vec::new(),
        }
    }

    /// Begins to connect; the socket becomes writable when that is decided.
    pub fn connect(address: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Fills the pipeline of a new connection.
    pub fn begin(&mut self, shared: &mut Shared) -> Result<(), End> {
        let now = Instant::now();
        for _ in 0..shared.pipeline {
            self.request(shared, now);
        }
        self.send()
    }

    /// Reads what is there, counts it, and makes as many new requests. `to_end`: the server has
    /// closed the connection, and nobody will say so again.
    pub fn receive(&mut self, to_end: bool, shared: &mut Shared) -> Result<(), End> {
        let mut buffer = std::mem::take(&mut shared.buffer);
        let result = self.receive_into(&mut buffer, to_end, shared);
        shared.buffer = buffer;
        result?;
        self.send()?;
        if self.leaving && self.flight.is_empty() { Err(End::Left) } else { Ok(()) }
    }

    fn receive_into(
        &mut self,
        buffer: &mut [u8],
        to_end: bool,
        shared: &mut Shared,
    ) -> Result<(), End> {
        loop {
            let State::Connected(stream) = &mut self.state else { return Ok(()) };
            let count = match stream.read(buffer) {
                Ok(0) => return Err(End::Cut("the server closed the connection".to_owned())),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(End::Cut(error.to_string())),
            };
            let read = &buffer[..count];
            if self.rest.is_empty() {
                let used = self.take_answers(read, shared)?;
                self.rest.extend_from_slice(&read[used..]);
            } else {
                let mut bytes = std::mem::take(&mut self.rest);
                bytes.extend_from_slice(read);
                let used = self.take_answers(&bytes, shared)?;
                bytes.drain(..used);
                self.rest = bytes;
            }
            if count < buffer.len() && !to_end {
                return Ok(());
            }
        }
    }

    /// Takes all whole answers, and says how many bytes they were.
    fn take_answers(&mut self, bytes: &[u8], shared: &mut Shared) -> Result<usize, End> {
        let now = Instant::now();
        let mut used = 0;
        loop {
            let (length, reply) = match shared.protocol.reply(&bytes[used..]) {
                Ok(None) => return Ok(used),
                Ok(Some(answer)) => answer,
                Err(_) => {
                    let start = &bytes[used..bytes.len().min(used + 60)];
                    let text = String::from_utf8_lossy(start).into_owned();
                    shared.tally.trouble.example("nonsense", || text);
                    if let Some(request) = self.flight.pop_front() {
                        shared.tally.count(&request, Outcome::Nonsense, now);
                    }
                    return Err(End::Cut("it does not speak this protocol".to_owned()));
                }
            };
            used += length;
            let Some(request) = self.flight.pop_front() else {
                return Err(End::Cut(format!("unasked it says {}", text_of(reply))));
            };
            let outcome = shared.work.judge(&request, reply);
            shared.tally.count(&request, outcome, now);
            if let Some(kind) = kind_of_trouble(outcome) {
                shared.tally.trouble.example(kind, || text_of(reply));
                // Whoever refuses would refuse the next one too, and at once.
                self.leaving |= outcome == Outcome::Failed(Family::Refused);
            }
            self.request(shared, now);
        }
    }

    /// Makes one more request, unless the client leaves or there is nothing left to do.
    fn request(&mut self, shared: &mut Shared, now: Instant) {
        if !self.leaving {
            self.flight.extend(shared.work.request(now, &mut self.output));
        }
    }

    /// Sends what the socket takes.
    pub fn send(&mut self) -> Result<(), End> {
        let State::Connected(stream) = &mut self.state else { return Ok(()) };
        while self.sent_bytes < self.output.len() {
            match stream.write(&self.output[self.sent_bytes..]) {
                Ok(count) => self.sent_bytes += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(End::Cut(error.to_string())),
            }
        }
        self.output.clear();
        self.sent_bytes = 0;
        Ok(())
    }

    /// Requests whose answers have not come.
    pub fn in_flight(&self) -> usize {
        self.flight.len()
    }

    /// Whether the oldest request has waited longer than this.
    pub fn is_late(&self, now: Instant, timeout: Duration) -> bool {
        self.flight.front().is_some_and(|request| now - request.made > timeout)
    }

    /// Closes the connection; what was in flight is lost.
    pub fn disconnect(&mut self, tally: &mut Tally, now: Instant, until: Instant) {
        for request in self.flight.drain(..) {
            tally.count(&request, Outcome::Lost, now);
        }
        self.output.clear();
        self.sent_bytes = 0;
        self.rest.clear();
        self.leaving = false;
        self.state = State::Resting(until);
    }
}

fn kind_of_trouble(outcome: Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Done | Outcome::Absent | Outcome::Lost => None, // or what "cut" tells
        Outcome::Failed(Family::Refused) => Some("refused"),
        Outcome::Failed(Family::Unknown) => Some("unknown"),
        Outcome::Failed(Family::Wrong) => Some("wrong"),
        Outcome::Nonsense => Some("nonsense"),
    }
}

fn text_of(reply: Reply<'_>) -> String {
    let (sign, text) = match reply {
        Reply::Text(text) => ("+", text),
        Reply::Error(text) => ("-", text),
        Reply::Nothing => ("_", &b""[..]),
    };
    let shown = &text[..text.len().min(100)];
    format!("{sign}{}", String::from_utf8_lossy(shown))
}
