//! From the bytes of a connection to the arguments of requests, however the network has cut them.
//!
//! The caller pushes what it has read and pulls until there is nothing more. What comes out depends
//! on the bytes alone, never on where they were split. A request is taken only when it is complete;
//! what is held is what was received and not yet taken, and never more than one request and what
//! came with it. Nothing is allocated because a client *says* that much will come (S88).
//!
//! The first byte tells what a request is: `*` begins an array (see `array`), anything that is no
//! other RESP type a line (see `quoting`).

use memchr::memchr;

use crate::kv::command::Bytes;
use crate::protocol::array::{Array, Taken};
use crate::protocol::bounds::Limits;
use crate::protocol::close::CloseReason;
use crate::protocol::error::Wrong;
use crate::protocol::line::LineEnd;
use crate::protocol::quoting::{self, QuotingError};

/// Memory that a parser keeps for its next request when it has taken all it received, in bytes: a
/// connection that once sent a giant must not hold its memory for ever.
const IDLE_BYTES_MAX: usize = 64 * 1024;

/// Takes requests out of a stream of bytes.
#[derive(Clone, Debug)]
pub struct Parser {
    limits: Limits,
    /// Bytes received and not yet dropped.
    buffer: Vec<u8>,
    /// Where in `buffer` the next request, or the next part of an array, begins.
    start: usize,
    /// Up to where in `buffer` there is certainly no line end after `start`: what has been searched
    /// once is not searched again, or a long line that arrives byte by byte would cost its square.
    searched: usize,
    /// The array that is arriving.
    array: Option<Array>,
    /// Nothing more is to be executed.
    closed: bool,
}

/// One thing that the parser found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub what: Piece,
    /// In which form it came.
    pub form: Form,
    /// How many bytes it took.
    pub bytes: usize,
}

/// What can be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A request: its arguments, of which there is at least one, the command word.
    Arguments(Vec<Bytes>),
    /// A request that cannot be taken apart, or was too large to be kept.
    Wrong {
        /// Why.
        wrong: Wrong,
        /// Its command word, as far as it is known.
        word: Bytes,
    },
    /// The end.
    Close(CloseReason),
}

/// The two forms of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A line that ended so.
    Line(LineEnd),
    /// A RESP array.
    Array,
}

impl Parser {
    /// A parser that has received nothing.
    pub fn new(limits: Limits) -> Parser {
        Parser { limits, buffer: Vec::new(), start: 0, searched: 0, array: None, closed: false }
    }

    /// Takes in what was received. Pull all there is with `next` before the next push.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.closed {
            return;
        }
        self.buffer.drain(..self.start);
        self.searched = self.searched.saturating_sub(self.start);
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next thing found, or `None` until more is pushed. Blank lines and empty arrays are
    /// nothing.
    // Not an iterator: `None` does not mean the end.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Found> {
        while !self.closed {
            let Some(first) = self.buffer.get(self.start) else {
                self.rest();
                return None;
            };
            if self.array.is_none() {
                if let Some((reason, form)) = not_a_request(*first) {
                    return Some(self.close(reason, form));
                }
                if *first == b'*' {
                    self.array = Some(Array::default());
                }
            }
            let taken = match &mut self.array {
                Some(_) => self.next_of_array(),
                None => self.next_line(),
            };
            match taken {
                Step::Found(found) => return Some(found),
                Step::Nothing => continue,
                Step::Incomplete => return None,
            }
        }
        None
    }

    /// The client will send no more. To be called when `next` has returned `None`.
    pub fn finish(&mut self) -> Option<Found> {
        let form = if self.array.is_some() { Form::Array } else { Form::Line(LineEnd::Lf) };
        self.is_within_request().then(|| self.close(CloseReason::Unterminated, form))
    }

    /// Whether a request has begun to arrive and is not complete: it has a deadline.
    pub fn is_within_request(&self) -> bool {
        !self.closed && (self.array.is_some() || self.start < self.buffer.len())
    }

    /// Whether the input is over for this parser: it ignores what is pushed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// How much memory the parser holds, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.buffer.capacity() + self.array.as_ref().map_or(0, Array::held_bytes)
    }

    /// Nothing more is to be executed: forgets what it holds, and ignores what will be pushed.
    pub fn stop(&mut self) {
        self.closed = true;
        self.buffer = Vec::new();
        (self.start, self.searched, self.array) = (0, 0, None);
    }

    fn next_of_array(&mut self) -> Step {
        let array = self.array.as_mut().expect("the caller has looked");
        let (used, taken) = array.take(&self.buffer[self.start..], &self.limits);
        self.start += used;
        let what = match taken {
            Taken::More => {
                self.rest();
                return Step::Incomplete;
            }
            Taken::Malformed(what) => {
                let reason = CloseReason::Malformed(what);
                return Step::Found(self.close(reason, Form::Array));
            }
            Taken::Empty => {
                self.array = None;
                return Step::Nothing;
            }
            Taken::Arguments(arguments) => Piece::Arguments(arguments),
            Taken::Wrong(wrong, word) => Piece::Wrong { wrong, word },
        };
        let bytes = array.kept_bytes();
        self.array = None;
        Step::Found(Found { what, form: Form::Array, bytes })
    }

    fn next_line(&mut self) -> Step {
        let Some(line_feed) = self.line_feed() else {
            return if self.is_too_long() { self.line_too_long() } else { Step::Incomplete };
        };
        let begin = self.start;
        let (line, end) = match self.buffer[begin..line_feed].strip_suffix(b"\r") {
            Some(line) => (line, LineEnd::CrLf),
            None => (&self.buffer[begin..line_feed], LineEnd::Lf),
        };
        if line.len() > self.limits.line_bytes {
            return self.line_too_long();
        }
        let form = Form::Line(end);
        let what = match web_request(line) {
            Some(reason) => return Step::Found(self.close(reason, form)),
            None => take_apart(line, self.limits.arguments),
        };
        self.start = line_feed + 1;
        self.searched = self.start;
        match what {
            None => Step::Nothing,
            Some(what) => Step::Found(Found { what, form, bytes: line_feed + 1 - begin }),
        }
    }

    fn line_feed(&mut self) -> Option<usize> {
        self.searched = self.searched.max(self.start);
        let found = memchr(b'\n', &self.buffer[self.searched..]);
        let line_feed = found.map(|distance| self.searched + distance);
        self.searched = line_feed.unwrap_or(self.buffer.len());
        line_feed
    }

    /// Whether no line end that could still come would make this a line. A last CR may be half of
    /// one.
    fn is_too_long(&self) -> bool {
        let line = &self.buffer[self.start..];
        line.strip_suffix(b"\r").unwrap_or(line).len() > self.limits.line_bytes
    }

    fn line_too_long(&mut self) -> Step {
        let reason = CloseReason::LineTooLong { bytes_max: self.limits.line_bytes };
        Step::Found(self.close(reason, Form::Line(LineEnd::Lf)))
    }

    fn close(&mut self, reason: CloseReason, form: Form) -> Found {
        self.stop();
        Found { what: Piece::Close(reason), form, bytes: 0 }
    }

    /// Gives memory back where all that was received has been taken.
    fn rest(&mut self) {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.buffer.shrink_to(IDLE_BYTES_MAX);
            (self.start, self.searched) = (0, 0);
        }
    }
}

enum Step {
    Found(Found),
    /// Something was taken that asks for nothing.
    Nothing,
    Incomplete,
}

/// What the first byte of a request gives away. RESP's other types are never requests.
fn not_a_request(first: u8) -> Option<(CloseReason, Form)> {
    match first {
        b'$' | b':' | b'+' | b'-' => Some((CloseReason::RespSigil, Form::Array)),
        0x16 => Some((CloseReason::Tls, Form::Array)),
        _ => None,
    }
}

/// The arguments of a complete line; `None` if it is blank.
fn take_apart(line: &[u8], arguments_max: usize) -> Option<Piece> {
    match quoting::split(line, arguments_max) {
        Ok(arguments) if arguments.is_empty() => None,
        Ok(arguments) => Some(Piece::Arguments(arguments)),
        Err(error @ QuotingError::TooMany { .. }) => {
            Some(Piece::Wrong { wrong: Wrong::TooBig(error.to_string()), word: word_of(line) })
        }
        Err(error) => {
            Some(Piece::Wrong { wrong: Wrong::Other(error.to_string()), word: word_of(line) })
        }
    }
}

/// What stands before the first blank of a line.
fn word_of(line: &[u8]) -> Bytes {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let word = line.split(is_blank).find(|word| !word.is_empty());
    Bytes::from(word.unwrap_or_default())
}

/// A web page can make a browser POST a body full of commands to us: it must not get beyond line
/// one.
fn web_request(line: &[u8]) -> Option<CloseReason> {
    let mut words =
        line.split(|byte| *byte == b' ' || *byte == b'\t').filter(|word| !word.is_empty());
    let first = words.next()?;
    let methods: [&[u8]; 6] = [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS"];
    let is_post = first.eq_ignore_ascii_case(b"POST");
    if is_post || methods.contains(&first) {
        let is_http = words.nth(1).is_some_and(|version| version.starts_with(b"HTTP/1."));
        if is_http && words.next().is_none() {
            return Some(CloseReason::Http);
        }
    }
    let is_host = first.get(..5).is_some_and(|word| word.eq_ignore_ascii_case(b"Host:"));
    (is_post || is_host).then_some(CloseReason::CrossProtocol)
}
