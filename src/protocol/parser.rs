//! From the bytes of a connection to requests, however the network has cut them.
//!
//! The caller pushes what it has read and pulls until there is nothing more. What comes out depends
//! on the bytes alone, never on where they were split. A request is taken only when it is complete;
//! what is held is what was received and not yet taken, and never more than a line and what came
//! with it. Nothing is allocated because a client *says* that much will come (S88).
//!
//! Whatever ends the connection ends the parsing: after a `Close`, and after QUIT, nothing is
//! executed that the client may have sent behind it.

use std::fmt;

use crate::limits::{ARGUMENTS_MAX, LINE_BYTES_MAX};
use crate::protocol::commands;
use crate::protocol::line::{self, LineEnd};
use crate::protocol::quoting::{self, QuotingError};
use crate::protocol::reply::Reply;
use crate::protocol::request::{Local, Request};

/// Takes requests out of a stream of bytes.
#[derive(Clone, Debug, Default)]
pub struct Parser {
    /// Bytes received and not yet dropped.
    buffer: Vec<u8>,
    /// Where in `buffer` the next request begins.
    start: usize,
    /// Up to where in `buffer` there is certainly no line end after `start`: what has been searched
    /// once is not searched again, or a long line that arrives byte by byte would cost its square.
    searched: usize,
    /// Nothing more is to be executed.
    closed: bool,
}

/// One thing that the parser found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// What it is.
    pub input: Input,
    /// How to answer it.
    pub dialect: Dialect,
    /// How many bytes it took.
    pub bytes: usize,
}

/// What a client's bytes ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// To execute this.
    Request(Request),
    /// Nothing that can be executed: send this reply in its turn, and go on.
    Wrong(Reply),
    /// To end: send what `CloseReason::farewell` says after the replies still due, and close.
    Close(CloseReason),
}

/// In which dialect a request came, and its reply is to go. RESP2 and RESP3 will stand beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Lines, with this end.
    Line(LineEnd),
}

impl Dialect {
    /// Appends the reply in this dialect to `out`.
    pub fn print(self, reply: &Reply, out: &mut Vec<u8>) {
        match self {
            Dialect::Line(end) => line::print(reply, end, out),
        }
    }
}

/// Why a connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// A line is longer than `limits::LINE_BYTES_MAX`: where it ends, nobody knows.
    LineTooLong,
    /// The input ended within a line. Executing it could set `x` to 10 where 100 was meant.
    Unterminated,
    /// A RESP array; its parser has its place here.
    RespArray,
    /// A RESP type that is no request.
    RespSigil,
    /// An HTTP request line.
    Http,
    /// Something a browser sends when a web page makes it talk to us (S94).
    CrossProtocol,
    /// The first byte of a TLS handshake.
    Tls,
}

impl CloseReason {
    /// What to send before closing; nothing to those who would not understand it.
    pub fn farewell(self, dialect: Dialect, out: &mut Vec<u8>) {
        match self {
            CloseReason::CrossProtocol | CloseReason::Tls => {}
            CloseReason::Http => out.extend_from_slice(
                b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n\
                This port speaks lines, not HTTP. Try: nc HOST PORT, then HELP\r\n",
            ),
            CloseReason::LineTooLong => {
                let text = format!("the line is longer than {LINE_BYTES_MAX} bytes");
                dialect.print(&Reply::too_big_because(text), out);
            }
            CloseReason::Unterminated => dialect.print(&Reply::err("unterminated line"), out),
            CloseReason::RespArray => dialect.print(&Reply::err("RESP comes later"), out),
            CloseReason::RespSigil => {
                dialect.print(&Reply::err("protocol: expected '*' or a command word"), out);
            }
        }
    }
}

/// For the log.
impl fmt::Display for CloseReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            CloseReason::LineTooLong => "a line is too long",
            CloseReason::Unterminated => "the input ended within a line",
            CloseReason::RespArray => "a RESP array, which is not spoken yet",
            CloseReason::RespSigil => "a RESP type that is not a request",
            CloseReason::Http => "an HTTP request on the client port",
            CloseReason::CrossProtocol => "a line that only a browser would send",
            CloseReason::Tls => "a TLS handshake on a plain port",
        })
    }
}

impl Parser {
    /// Takes in what was received. Pull all there is with `next` before the next push.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.closed {
            return;
        }
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next thing found, or `None` until more is pushed. Blank lines are nothing.
    // Not an iterator: `None` does not mean the end.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Parsed> {
        while !self.closed {
            let first = *self.buffer.get(self.start)?;
            if let Some((reason, end)) = not_a_line(first) {
                return Some(self.close(reason, end));
            }
            let Some(line_feed) = self.line_feed() else {
                return self
                    .is_too_long()
                    .then(|| self.close(CloseReason::LineTooLong, LineEnd::Lf));
            };
            let begin = self.start;
            let (line, end) = match self.buffer[begin..line_feed].strip_suffix(b"\r") {
                Some(line) => (line, LineEnd::CrLf),
                None => (&self.buffer[begin..line_feed], LineEnd::Lf),
            };
            if line.len() > LINE_BYTES_MAX {
                return Some(self.close(CloseReason::LineTooLong, LineEnd::Lf));
            }
            let input = parse_line(line);
            self.start = line_feed + 1;
            self.searched = self.start;
            match input {
                None => continue,
                Some(Input::Close(reason)) => return Some(self.close(reason, end)),
                Some(input) => {
                    if input == Input::Request(Request::Local(Local::Quit)) {
                        self.stop();
                    }
                    let bytes = line_feed + 1 - begin;
                    return Some(Parsed { input, dialect: Dialect::Line(end), bytes });
                }
            }
        }
        None
    }

    /// The client will send no more. To be called when `next` has returned `None`.
    pub fn finish(&mut self) -> Option<Parsed> {
        self.is_within_request().then(|| self.close(CloseReason::Unterminated, LineEnd::Lf))
    }

    /// Whether a request has begun to arrive and is not complete: it has a deadline.
    pub fn is_within_request(&self) -> bool {
        !self.closed && self.start < self.buffer.len()
    }

    /// Whether the input is over for this parser: after a close or QUIT it ignores what is pushed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// How much memory the parser holds, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    fn line_feed(&mut self) -> Option<usize> {
        let found = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
        let line_feed = found.map(|distance| self.searched + distance);
        self.searched = line_feed.unwrap_or(self.buffer.len());
        line_feed
    }

    /// Whether no line end that could still come would make this a line. A last CR may be half of
    /// one.
    fn is_too_long(&self) -> bool {
        let line = &self.buffer[self.start..];
        line.strip_suffix(b"\r").unwrap_or(line).len() > LINE_BYTES_MAX
    }

    fn close(&mut self, reason: CloseReason, end: LineEnd) -> Parsed {
        self.stop();
        Parsed { input: Input::Close(reason), dialect: Dialect::Line(end), bytes: 0 }
    }

    fn stop(&mut self) {
        *self = Parser { closed: true, ..Parser::default() };
    }
}

/// What the first byte of a request gives away, before there is a line; and how to end the answer.
/// RESP's other types are never requests.
fn not_a_line(first: u8) -> Option<(CloseReason, LineEnd)> {
    match first {
        b'*' => Some((CloseReason::RespArray, LineEnd::CrLf)),
        b'$' | b':' | b'+' | b'-' => Some((CloseReason::RespSigil, LineEnd::CrLf)),
        0x16 => Some((CloseReason::Tls, LineEnd::CrLf)),
        _ => None,
    }
}

/// What a complete line asks for; `None` if it is blank.
fn parse_line(line: &[u8]) -> Option<Input> {
    if let Some(reason) = web_request(line) {
        return Some(Input::Close(reason));
    }
    match quoting::split(line) {
        Ok(arguments) if arguments.is_empty() => None,
        Ok(arguments) => Some(match commands::request(arguments) {
            Ok(request) => Input::Request(request),
            Err(reply) => Input::Wrong(reply),
        }),
        Err(error @ QuotingError::TooMany) => {
            Some(Input::Wrong(Reply::too_big_because(error.to_string())))
        }
        Err(error) => Some(Input::Wrong(Reply::err(error.to_string()))),
    }
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

const _: () =
    assert!(ARGUMENTS_MAX < LINE_BYTES_MAX, "a line can hold as many arguments as allowed");
