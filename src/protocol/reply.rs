//! What the server answers, before it is known in which dialect.
//!
//! A client gets one of three kinds of answer, and for errors the kind is a type: [`Wrong`] (never
//! retry), [`Refused`] (certainly not executed: retry is safe) and [`Unknown`] (may have been
//! executed). Whoever makes an error has to choose, so an unknown cannot be dressed as a refusal by
//! a slip in a string.

use std::fmt;

use crate::kv::command::{Bytes, Outcome};
use crate::limits::REPLY_BYTES_MAX;

/// An answer to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done.
    Ok,
    /// A fixed word, such as PONG.
    Text(&'static str),
    /// A number.
    Integer(i64),
    /// No such key, or a condition that did not hold.
    Nothing,
    /// Bytes of the client's.
    Value(Bytes),
    /// Several answers.
    List(Vec<Reply>),
    /// Text for people, line by line.
    Lines(Vec<String>),
    /// It was not done, or nobody knows.
    Error(Error),
}

/// An error, by family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The request is wrong: sending it again gives the same error.
    Wrong(Wrong),
    /// The request was certainly not executed and never will be.
    Refused(Refused),
    /// The request may have been executed, or may still be.
    Unknown(Unknown),
}

/// Why a request is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// ERR: syntax, unknown command, arity.
    Syntax(String),
    /// TOOBIG: over a limit.
    TooBig(String),
    /// NOTINT: not an integer, or out of range.
    NotInteger,
}

/// Why a request was refused. To be used only where it is proven that no log entry exists for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// NOLEADER: no leader is known, and the request never left this server.
    NoLeader(String),
    /// TRYAGAIN: a limit is reached; the text names it.
    TryAgain {
        /// What is full.
        limit: &'static str,
        /// The limit's value.
        max: usize,
    },
    /// TRYAGAIN: there was no room, or no answer, in time.
    Busy(&'static str),
    /// SHUTDOWN: this server is stopping.
    Shutdown,
}

/// The outcome is unknown; the text says what is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown(pub String);

impl Error {
    /// The error's stable first word.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Wrong(Wrong::Syntax(_)) => "ERR",
            Error::Wrong(Wrong::TooBig(_)) => "TOOBIG",
            Error::Wrong(Wrong::NotInteger) => "NOTINT",
            Error::Refused(Refused::NoLeader(_)) => "NOLEADER",
            Error::Refused(Refused::TryAgain { .. } | Refused::Busy(_)) => "TRYAGAIN",
            Error::Refused(Refused::Shutdown) => "SHUTDOWN",
            Error::Unknown(_) => "UNKNOWN",
        }
    }
}

/// The error's prose, without the code.
impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Wrong(Wrong::Syntax(text) | Wrong::TooBig(text))
            | Error::Refused(Refused::NoLeader(text))
            | Error::Unknown(Unknown(text)) => formatter.write_str(text),
            Error::Wrong(Wrong::NotInteger) => {
                formatter.write_str("value is not an integer or out of range")
            }
            Error::Refused(Refused::TryAgain { limit, max }) => {
                write!(
                    formatter,
                    "{limit} reached its limit of {max}; nothing was executed, try again"
                )
            }
            Error::Refused(Refused::Busy(text)) => formatter.write_str(text),
            Error::Refused(Refused::Shutdown) => formatter
                .write_str("this server is stopping; nothing was executed, use another one"),
        }
    }
}

impl Reply {
    /// ERR: the request is wrong, and the text says what and where.
    pub fn err(text: impl Into<String>) -> Reply {
        Reply::Error(Error::Wrong(Wrong::Syntax(text.into())))
    }

    /// TOOBIG: `what` has `size`, and the limit is `max`.
    pub fn too_big(what: &str, size: usize, max: usize) -> Reply {
        Reply::too_big_because(format!("{what}: {size}, the limit is {max}"))
    }

    /// TOOBIG, where the size is not the whole story.
    pub fn too_big_because(text: impl Into<String>) -> Reply {
        Reply::Error(Error::Wrong(Wrong::TooBig(text.into())))
    }

    /// NOTINT.
    pub fn not_integer() -> Reply {
        Reply::Error(Error::Wrong(Wrong::NotInteger))
    }

    /// NOLEADER: for a request that never left this server. The text names the last leader, if any.
    pub fn no_leader(text: impl Into<String>) -> Reply {
        Reply::Error(Error::Refused(Refused::NoLeader(text.into())))
    }

    /// TRYAGAIN: `limit` names what is full ("bytes pending at this server"), said before anything
    /// was accepted.
    pub fn try_again(limit: &'static str, max: usize) -> Reply {
        Reply::Error(Error::Refused(Refused::TryAgain { limit, max }))
    }

    /// TRYAGAIN: for a request that never left this server, or only asked. The text says why.
    pub fn busy(text: &'static str) -> Reply {
        Reply::Error(Error::Refused(Refused::Busy(text)))
    }

    /// SHUTDOWN: for a request that never left this server.
    pub fn shutdown() -> Reply {
        Reply::Error(Error::Refused(Refused::Shutdown))
    }

    /// UNKNOWN: the request had left this server or entered a log. The text says what is known.
    pub fn unknown(text: impl Into<String>) -> Reply {
        Reply::Error(Error::Unknown(Unknown(text.into())))
    }
}

impl From<Outcome> for Reply {
    fn from(outcome: Outcome) -> Reply {
        match outcome {
            Outcome::Done => Reply::Ok,
            Outcome::Nothing => Reply::Nothing,
            Outcome::Integer(number) => Reply::Integer(number),
            Outcome::Value(value) => Reply::Value(value),
            Outcome::List(items) => Reply::List(items.into_iter().map(Reply::from).collect()),
            Outcome::NotInteger => Reply::not_integer(),
            Outcome::TooBig { bytes, bytes_max } => {
                Reply::too_big("bytes the value would have", bytes, bytes_max)
            }
            Outcome::Frozen(query) => Reply::from(query.answer()),
            Outcome::ReplyTooBig => Reply::too_big_because(format!(
                "the reply would exceed {REPLY_BYTES_MAX} bytes; ask for fewer keys at once"
            )),
            _ => Reply::Ok,
        }
    }
}
