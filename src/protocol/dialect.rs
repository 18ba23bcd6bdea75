//! In which of the three dialects a reply goes out. It belongs to the request, never to the
//! connection: a person's line is answered by a line, a program's array by RESP, on the same port
//! and even on the same connection.

use crate::protocol::line::{self, LineEnd};
use crate::protocol::reply::Reply;
use crate::protocol::resp::{self, Version};

/// In which dialect a request came, and its reply is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Lines, with this end.
    Line(LineEnd),
    /// RESP2: what every Redis client understands.
    Resp2,
    /// RESP3: after `HELLO 3`.
    Resp3,
}

impl Dialect {
    /// For an error to somebody of whom no request was read. Errors look alike in all dialects, if
    /// they end in what programs wait for.
    pub const UNKNOWN: Dialect = Dialect::Line(LineEnd::CrLf);

    /// Appends the reply in this dialect to `out`.
    pub fn print(self, reply: &Reply, out: &mut Vec<u8>) {
        match self {
            Dialect::Line(end) => line::print(reply, end, out),
            Dialect::Resp2 => resp::print(reply, Version::Two, out),
            Dialect::Resp3 => resp::print(reply, Version::Three, out),
        }
    }

    /// The number by which HELLO calls it.
    pub fn number(self) -> i64 {
        match self {
            Dialect::Line(_) => 1,
            Dialect::Resp2 => 2,
            Dialect::Resp3 => 3,
        }
    }
}
