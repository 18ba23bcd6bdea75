//! Why a connection is to be closed, and what it is told before.

use std::fmt;

use crate::protocol::dialect::Dialect;
use crate::protocol::reply::Reply;

/// Why a connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// A line is longer than this many bytes: where it ends, nobody knows.
    LineTooLong {
        /// The limit.
        bytes_max: usize,
    },
    /// The input ended within a request. Executing a part could set `x` to 10 where 100 was meant.
    Unterminated,
    /// An array that is none: where the next request begins, nobody knows.
    Malformed(Malformed),
    /// A RESP type that is no request.
    RespSigil,
    /// An HTTP request line.
    Http,
    /// Something a browser sends when a web page makes it talk to us (S94).
    CrossProtocol,
    /// The first byte of a TLS handshake.
    Tls,
}

/// What is wrong with an array, in the words of Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The number after `*` is none, or beyond everything.
    Count,
    /// The line after `*` does not end.
    CountTooLong,
    /// Something other than `$` begins an argument.
    Sigil(u8),
    /// The number after `$` is none, or beyond everything.
    Length,
    /// The line after `$` does not end.
    LengthTooLong,
    /// An argument is not followed by CR LF.
    End,
}

impl CloseReason {
    /// What to send before closing; nothing to those who would not understand it.
    pub fn farewell(self, dialect: Dialect, out: &mut Vec<u8>) {
        match self {
            CloseReason::CrossProtocol | CloseReason::Tls => {}
            CloseReason::Http => out.extend_from_slice(
                b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n\
                This port speaks lines and RESP, not HTTP. Try: nc HOST PORT, then HELP\r\n",
            ),
            CloseReason::LineTooLong { bytes_max } => {
                let text = format!("the line is longer than {bytes_max} bytes");
                dialect.print(&Reply::too_big_because(text), out);
            }
            CloseReason::Unterminated => match dialect {
                Dialect::Line(_) => dialect.print(&Reply::err("unterminated line"), out),
                _ => dialect.print(&Reply::err("Protocol error: unterminated request"), out),
            },
            CloseReason::Malformed(what) => {
                dialect.print(&Reply::err(format!("Protocol error: {what}")), out);
            }
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
            CloseReason::LineTooLong { .. } => "a line is too long",
            CloseReason::Unterminated => "the input ended within a request",
            CloseReason::Malformed(what) => return write!(formatter, "malformed array: {what}"),
            CloseReason::RespSigil => "a RESP type that is not a request",
            CloseReason::Http => "an HTTP request on the client port",
            CloseReason::CrossProtocol => "a line that only a browser would send",
            CloseReason::Tls => "a TLS handshake on a plain port",
        })
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Malformed::Count => "invalid multibulk length",
            Malformed::CountTooLong => "too big mbulk count string",
            Malformed::Sigil(byte) => {
                return write!(formatter, "expected '$', got '{}'", byte.escape_ascii());
            }
            Malformed::Length => "invalid bulk length",
            Malformed::LengthTooLong => "too big bulk count string",
            Malformed::End => "expected CR LF after an argument",
        })
    }
}
