//! What the server answers, before it is known in which dialect.
//!
//! A client gets one of three kinds of answer: done, refused (certainly not executed), or unknown.
//! What is not done is an [`Error`], whose type tells the kind (see `error`).

use crate::kv::command::{Bytes, Change, Outcome};
pub use crate::protocol::error::{Error, Refused, Unknown, Wrong};

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
    /// No list: a transaction that was not executed, because what it depends on has changed.
    NoList,
    /// Several answers, each with its name.
    Map(Vec<(Reply, Reply)>),
    /// Text for people, line by line.
    Lines(Vec<String>),
    /// Not an answer: a change that FEED tells.
    Change(Change),
    /// It was not done, or nobody knows.
    Error(Error),
}

impl Reply {
    /// What it takes in memory beside a fixed part, in bytes, about.
    pub fn bytes(&self) -> usize {
        let item = size_of::<Reply>();
        match self {
            Reply::Value(value) => value.len(),
            Reply::List(items) => items.iter().map(|it| item + it.bytes()).sum(),
            Reply::Map(pairs) => {
                pairs.iter().map(|(name, it)| 2 * item + name.bytes() + it.bytes()).sum()
            }
            Reply::Lines(lines) => lines.iter().map(|line| item + line.len()).sum(),
            _ => 0,
        }
    }

    /// ERR: the request is wrong, and the text says what and where.
    pub fn err(text: impl Into<String>) -> Reply {
        Reply::Error(Error::Wrong(Wrong::Other(text.into())))
    }

    /// TOOBIG: `what` has `size`, and the limit is `max`.
    pub fn too_big(what: &str, size: usize, max: usize) -> Reply {
        Reply::too_big_because(format!("{what}: {size}, the limit is {max}"))
    }

    /// TOOBIG, where the size is not the whole story.
    pub fn too_big_because(text: impl Into<String>) -> Reply {
        Reply::Error(Error::Wrong(Wrong::TooBig(text.into())))
    }

    /// TOOBIG: the reply would be longer than `bytes_max`.
    pub fn reply_too_big(bytes_max: usize) -> Reply {
        Reply::too_big_because(format!(
            "the reply would exceed {bytes_max} bytes; ask for fewer keys at once"
        ))
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

    /// The request came while the server was starting, busy with `doing`.
    pub fn loading(doing: &'static str, seconds: u64) -> Reply {
        Reply::Error(Error::Refused(Refused::Loading { doing, seconds }))
    }

    /// NOSPACE: for a request that never left this server, as there is no room on that server's
    /// disk.
    pub fn no_space(server: u32, used_bytes: u64, limit_bytes: u64) -> Reply {
        Reply::Error(Error::Refused(Refused::NoSpace { server, used_bytes, limit_bytes }))
    }

    /// UNKNOWN: the request had left this server or entered a log. The text says what is known.
    pub fn unknown(text: impl Into<String>) -> Reply {
        Reply::Error(Error::Unknown(Unknown(text.into())))
    }
}

impl From<Wrong> for Reply {
    fn from(wrong: Wrong) -> Reply {
        Reply::Error(Error::Wrong(wrong))
    }
}

/// A frozen question is answered here: call this where it may take long.
impl From<Outcome> for Reply {
    fn from(outcome: Outcome) -> Reply {
        match outcome {
            Outcome::Done | Outcome::Watched { .. } => Reply::Ok,
            Outcome::Nothing => Reply::Nothing,
            Outcome::Integer(number) => Reply::Integer(number),
            Outcome::Value(value) => Reply::Value(value),
            Outcome::Text(text) => Reply::Text(text),
            Outcome::List(items) => Reply::List(items.into_iter().map(Reply::from).collect()),
            Outcome::Aborted => Reply::NoList,
            Outcome::Frozen(query) => Reply::from(query.answer()),
            Outcome::NoSuchKey => Reply::err("no such key"),
            Outcome::NotInteger => Reply::not_integer(),
            Outcome::Overflow => Wrong::Overflow.into(),
            Outcome::BadDeadline => Wrong::ExpireTime { command: None }.into(),
            Outcome::TooBig { bytes, bytes_max } => {
                Reply::too_big("bytes the value would have", bytes, bytes_max)
            }
            Outcome::ReplyTooBig { bytes_max } => Reply::reply_too_big(bytes_max),
            Outcome::TooMany { keys_max } => Reply::too_big_because(format!(
                "more than {keys_max} keys at once, nothing was done; take them in parts, with \
                 SCAN or PREFIX"
            )),
            Outcome::OnceUnknownClient => Reply::err(
                "ONCE: this client is unknown or was forgotten, and its number is above 1; not \
                 executed now, whether earlier cannot be told; take a new name and begin at 1",
            ),
            Outcome::OnceGap { expected } => Reply::err(format!(
                "ONCE: the client's next number is {expected}; nothing was executed"
            )),
            Outcome::OnceForgotten { last } => Reply::err(format!(
                "ONCE: executed before, but its answer is no longer remembered; the client's last \
                 number is {last}"
            )),
        }
    }
}
