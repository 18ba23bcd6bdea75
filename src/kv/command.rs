//! What clients ask of the store, and what they get.
//!
//! A [`Command`] changes the store and travels in the log; `kv::encoding` says in which bytes. A
//! [`Query`] changes nothing and never enters the log. Both are answered by an [`Outcome`], which
//! knows nothing of dialects: the same one is printed as a line for a person or as RESP for a
//! program.
//!
//! Everything that decides an outcome is in the command, in the store, or a constant of `limits`.
//! A setting of one server must never be: two servers would come to different states.

use std::fmt;

pub use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Names one write for ever, so that the state machine executes it at most once however often it is
/// sent: the server that accepted it, which of that server's lives, and a number that rises in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId {
    /// The server whose gateway accepted the request (the number of its `ServerId`).
    pub server: u32,
    /// The server's incarnation: a durable counter raised at each start.
    pub incarnation: u64,
    /// Rises by one with each write of the incarnation, from 1.
    pub serial: u64,
}

/// When a SET takes place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Condition {
    /// Always.
    #[default]
    Always,
    /// NX: only if the key does not exist.
    IfAbsent,
    /// XX: only if the key exists.
    IfPresent,
    /// IFEQ: only if the key's value equals this one.
    IfEqual(Bytes),
}

/// A command that changes the store. It travels in the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Command {
    /// SET key value [NX|XX|IFEQ old] → `Done`, or `Nothing` when the condition does not hold.
    Set {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
        /// When to set it.
        condition: Condition,
    },
    /// DEL key… → `Integer`: how many existed.
    Delete {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// APPEND key value → `Integer`: the new length in bytes.
    Append {
        /// The key; an absent one counts as empty.
        key: Bytes,
        /// What to add to its value.
        value: Bytes,
    },
    /// CAS key old new → `Integer(1)` done, `Integer(0)` not equal, `Nothing` no such key.
    CompareAndSet {
        /// The key.
        key: Bytes,
        /// The value it must have.
        old: Bytes,
        /// The value it gets.
        new: Bytes,
    },
    /// INCR, DECR, INCRBY, DECRBY → `Integer`: the new value, or `NotInteger`.
    Increment {
        /// The key; an absent one counts as 0.
        key: Bytes,
        /// What to add.
        delta: i64,
    },
    /// MSET key value… → `Done`.
    SetMany {
        /// Keys and values, set in this order, all in one entry.
        pairs: Vec<(Bytes, Bytes)>,
    },
}

/// A question to the store that changes nothing. It never enters the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Query {
    /// GET key → `Value` or `Nothing`.
    Get {
        /// The key.
        key: Bytes,
    },
    /// EXISTS key… → `Integer`: how many exist, counted as often as they are named.
    Exists {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// STRLEN key → `Integer`: the length of its value in bytes, 0 if absent.
    Length {
        /// The key.
        key: Bytes,
    },
    /// MGET key… → `List` with `Nothing` for absent ones.
    GetMany {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// RANGE from to [LIMIT n] and PREFIX p [LIMIT n] → `List`: key, value, key, value … in order.
    Range {
        /// The first key that may be included.
        from: Bytes,
        /// The first key that is beyond the end; `None` if there is no end.
        to: Option<Bytes>,
        /// How many pairs at the most.
        pairs_max: usize,
    },
    /// DBSIZE → `Integer`: how many keys there are.
    Count,
}

/// What the store answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Done, and there is nothing to tell.
    Done,
    /// No such key, or a condition that did not hold.
    Nothing,
    /// A number.
    Integer(i64),
    /// A value.
    Value(Bytes),
    /// Several answers.
    List(Vec<Outcome>),
    /// Not executed: the value is not a 64-bit integer, or would leave its range.
    NotInteger,
    /// Not executed: the value would become longer than `limits::VALUE_BYTES_MAX`.
    TooBig {
        /// How long it would become, in bytes.
        bytes: usize,
    },
    /// Not answered: the reply would exceed `limits::REPLY_BYTES_MAX`.
    ReplyTooBig,
}

/// What a command or query is taken to weigh beside its keys and values, in bytes.
const OVERHEAD_BYTES: usize = 64;

/// Of a key or value, how many bytes a rendering for people shows.
const SHOWN_BYTES_MAX: usize = 32;

impl Command {
    /// The weight of this command against the byte bounds, in bytes; at least what it takes in the
    /// log.
    pub fn bytes(&self) -> usize {
        OVERHEAD_BYTES
            + match self {
                Command::Set { key, value, condition } => {
                    let old = match condition {
                        Condition::IfEqual(old) => old.len(),
                        _ => 0,
                    };
                    key.len() + value.len() + old
                }
                Command::Delete { keys } => weight(keys),
                Command::Append { key, value } => key.len() + value.len(),
                Command::CompareAndSet { key, old, new } => key.len() + old.len() + new.len(),
                Command::Increment { key, .. } => key.len(),
                Command::SetMany { pairs } => {
                    pairs.iter().map(|(key, value)| 2 * ITEM_BYTES + key.len() + value.len()).sum()
                }
            }
    }
}

impl Query {
    /// The weight of this query against the byte bounds, in bytes.
    pub fn bytes(&self) -> usize {
        OVERHEAD_BYTES
            + match self {
                Query::Get { key } | Query::Length { key } => key.len(),
                Query::Exists { keys } | Query::GetMany { keys } => weight(keys),
                Query::Range { from, to, .. } => from.len() + to.as_ref().map_or(0, |to| to.len()),
                Query::Count => 0,
            }
    }
}

/// What each item of a list weighs beside its bytes: the vector that holds them, and their length.
const ITEM_BYTES: usize = 24;

fn weight(keys: &[Bytes]) -> usize {
    keys.iter().map(|key| ITEM_BYTES + key.len()).sum()
}

/// The integer that these bytes spell in the one way in which we would print it. `007`, `+7`, ` 7`
/// and `-0` are text: if they counted, INCR would change bytes that the client never meant as a
/// number.
pub fn parse_integer(bytes: &[u8]) -> Option<i64> {
    let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let is_canonical = match digits {
        [] => false,
        [b'0'] => digits.len() == bytes.len(),
        [first, ..] => *first != b'0' && digits.iter().all(u8::is_ascii_digit),
    };
    if !is_canonical {
        return None;
    }
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// One line for people, as in log dumps and transcripts: `SET color "dark blue" NX`. Long keys and
/// values are shortened, so it cannot be parsed back.
impl fmt::Display for Command {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Set { key, value, condition } => {
                write!(formatter, "SET {} {}", Shown(key), Shown(value))?;
                match condition {
                    Condition::Always => Ok(()),
                    Condition::IfAbsent => formatter.write_str(" NX"),
                    Condition::IfPresent => formatter.write_str(" XX"),
                    Condition::IfEqual(old) => write!(formatter, " IFEQ {}", Shown(old)),
                }
            }
            Command::Delete { keys } => {
                formatter.write_str("DEL")?;
                show_all(formatter, keys.iter())
            }
            Command::Append { key, value } => {
                write!(formatter, "APPEND {} {}", Shown(key), Shown(value))
            }
            Command::CompareAndSet { key, old, new } => {
                write!(formatter, "CAS {} {} {}", Shown(key), Shown(old), Shown(new))
            }
            Command::Increment { key, delta } => {
                write!(formatter, "INCRBY {} {delta}", Shown(key))
            }
            Command::SetMany { pairs } => {
                formatter.write_str("MSET")?;
                show_all(formatter, pairs.iter().flat_map(|(key, value)| [key, value]))
            }
        }
    }
}

/// The first few items, and how many more there are.
fn show_all<'a>(
    formatter: &mut fmt::Formatter<'_>,
    items: impl Iterator<Item = &'a Bytes>,
) -> fmt::Result {
    const SHOWN_ITEMS_MAX: usize = 8;
    let mut hidden = 0_usize;
    for (position, item) in items.enumerate() {
        if position < SHOWN_ITEMS_MAX {
            write!(formatter, " {}", Shown(item))?;
        } else {
            hidden += 1;
        }
    }
    if hidden > 0 { write!(formatter, " …(+{hidden})") } else { Ok(()) }
}

/// A key or value as people may see it: one line, escaped, and shortened.
struct Shown<'a>(&'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(SHOWN_BYTES_MAX)];
        let is_plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\');
        if !shown.is_empty() && shown.iter().all(is_plain) {
            write!(formatter, "{}", shown.escape_ascii())?;
        } else {
            write!(formatter, "\"{}\"", shown.escape_ascii())?;
        }
        if shown.len() < self.0.len() {
            write!(formatter, "…({} bytes)", self.0.len())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &[u8]) -> Bytes {
        Bytes::from(text.to_vec())
    }

    /// A dump is read by people and by `grep`: a value must not be able to forge a second line
    /// (S95).
    #[test]
    fn a_rendered_command_is_one_short_line() {
        let set = Command::Set {
            key: bytes(b"color"),
            value: bytes(b"dark\nblue\xff"),
            condition: Condition::IfEqual(bytes(b"")),
        };
        assert_eq!(set.to_string(), r#"SET color "dark\nblue\xff" IFEQ """#);

        let long = Command::Append { key: bytes(b"k"), value: bytes(&[b'x'; 1000]) };
        assert_eq!(long.to_string(), format!("APPEND k {}…(1000 bytes)", "x".repeat(32)));

        let many = Command::Delete { keys: vec![bytes(b"k"); 10] };
        assert_eq!(many.to_string(), "DEL k k k k k k k k …(+2)");
    }
}
