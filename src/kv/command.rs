//! What clients ask of the store.
//!
//! A [`Write`] is what one entry of the log carries (`kv::encoding` says in which bytes): one
//! [`Command`], a transaction, or a command that a client may send again. A [`Query`] changes
//! nothing and never enters the log. All are answered by an [`Outcome`](super::outcome::Outcome).
//!
//! Everything that decides an outcome is in the write, in the state machine, or a constant of
//! `limits`. A setting of one server must never be, and neither its clock: two servers would come
//! to different states. Time is log time: the stamps that leaders put on entries, in milliseconds.

use std::fmt;

pub use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use super::outcome::{Change, Outcome};

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
    /// IFEQ: only if the key exists and its value equals this one.
    IfEqual(Bytes),
    /// IFVER: only if the key exists and was last written by the entry at this log index; 0: only
    /// if it does not exist.
    IfVersion(u64),
}

/// A time at which a key is to expire, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Deadline {
    /// EX, PX: so long after the stamp of the entry. May be negative for EXPIRE.
    In(i64),
    /// EXAT, PXAT: when the log time is this, counted from the Unix epoch.
    At(i64),
}

/// What becomes of a key's deadline when its value is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Expiry {
    /// It has none afterwards.
    #[default]
    Never,
    /// KEEPTTL: it stays as it is.
    Keep,
    /// It is this one.
    Set(Deadline),
}

/// When EXPIRE takes place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExpireCondition {
    /// Always.
    #[default]
    Always,
    /// NX: only if the key has no deadline.
    IfNone,
    /// XX: only if the key has a deadline.
    IfSome,
    /// GT: only if the new deadline is later; none counts as the latest of all.
    IfLater,
    /// LT: only if the new deadline is sooner; none counts as the latest of all.
    IfSooner,
}

/// What a SET answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SetAnswer {
    /// `Done`, or `Nothing` when the condition does not hold.
    #[default]
    Done,
    /// GET: the value before, or `Nothing` if there was none; whether or not it was set.
    Old,
    /// SETNX: `Integer(1)`, or `Integer(0)` when the condition does not hold.
    Flag,
}

/// A command that changes the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Command {
    /// SET key value [NX|XX|IFEQ old|IFVER n] [GET] [EX|PX|EXAT|PXAT n|KEEPTTL] → see `SetAnswer`.
    Set {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
        /// When to set it.
        condition: Condition,
        /// What becomes of its deadline.
        expiry: Expiry,
        /// What to answer.
        answer: SetAnswer,
    },
    /// DEL key… → `Integer`: how many existed.
    Delete {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// DELEX key IFEQ old → `Integer`: 1 deleted, 0 not equal or absent.
    DeleteIfEqual {
        /// The key.
        key: Bytes,
        /// The value it must have.
        old: Bytes,
    },
    /// GETDEL key → `Value`, the last one, or `Nothing`.
    GetAndDelete {
        /// The key.
        key: Bytes,
    },
    /// GETEX key PERSIST|EX|PX|EXAT|PXAT n → `Value` or `Nothing`.
    GetAndExpire {
        /// The key.
        key: Bytes,
        /// What becomes of its deadline.
        expiry: Expiry,
    },
    /// APPEND key value → `Integer`: the new length in bytes, or `TooBig`. Keeps the deadline.
    Append {
        /// The key; an absent one counts as empty.
        key: Bytes,
        /// What to add to its value.
        value: Bytes,
        /// The longest that the value may become, in bytes: a setting of the server that accepted
        /// the command travels with it.
        value_bytes_max: u64,
    },
    /// CAS key old new → `Integer(1)` done, `Integer(0)` not equal, `Nothing` no such key. Keeps
    /// the deadline.
    CompareAndSet {
        /// The key.
        key: Bytes,
        /// The value it must have.
        old: Bytes,
        /// The value it gets.
        new: Bytes,
    },
    /// INCR, DECR, INCRBY, DECRBY → `Integer`: the new value, or `NotInteger`, or `Overflow`. Keeps
    /// the deadline.
    Increment {
        /// The key; an absent one counts as 0.
        key: Bytes,
        /// What to add.
        delta: i64,
    },
    /// MSET key value… → `Done`; MSETNX → `Integer(1)`, or `Integer(0)` if any of the keys exists.
    SetMany {
        /// Keys and values, set in this order, all in one entry.
        pairs: Vec<(Bytes, Bytes)>,
        /// MSETNX: all or none.
        if_absent: bool,
    },
    /// EXPIRE, PEXPIRE, EXPIREAT, PEXPIREAT → `Integer`: 1 done, 0 no such key or condition. A
    /// deadline in the past deletes the key.
    Expire {
        /// The key.
        key: Bytes,
        /// When.
        deadline: Deadline,
        /// On which condition.
        condition: ExpireCondition,
    },
    /// PERSIST → `Integer`: 1 if the key had a deadline, else 0.
    Persist {
        /// The key.
        key: Bytes,
    },
    /// FLUSHALL → `Done`: deletes every key.
    Flush,
}

/// A key that a transaction depends on, as WATCH found it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Watch {
    /// The key.
    pub key: Bytes,
    /// The log index up to which the state machine had applied when WATCH looked.
    pub seen_at: u64,
    /// Whether the key existed then.
    pub existed: bool,
}

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Operation {
    /// A command.
    Command(Command),
    /// A question, answered from the state in the middle of the transaction.
    Query(Query),
}

/// What one entry of the log carries.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Write {
    /// One command.
    Command(Command),
    /// MULTI … EXEC → `List` of what its operations answer, or `Aborted` if a watched key has been
    /// written, deleted or has expired since WATCH looked, or if that is too long ago to tell.
    /// Nothing else happens in between, and an operation that fails does not undo the others.
    Transaction {
        /// What WATCH saw.
        watches: Vec<Watch>,
        /// What to do, in order.
        operations: Vec<Operation>,
    },
    /// ONCE client sequence command → what the command answers, or answered when it was executed
    /// under this sequence number before.
    Once {
        /// The client's name, chosen by itself.
        client: Bytes,
        /// Counts the client's commands, from 1.
        sequence: u64,
        /// What to do.
        command: Command,
    },
}

impl From<Command> for Write {
    fn from(command: Command) -> Write {
        Write::Command(command)
    }
}

/// In which unit and from when a deadline is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DeadlineFormat {
    /// TTL: whole seconds from now, rounded to the nearest.
    Seconds,
    /// PTTL: milliseconds from now.
    Milliseconds,
    /// EXPIRETIME: whole seconds since the Unix epoch.
    UnixSeconds,
    /// PEXPIRETIME: milliseconds since the Unix epoch.
    UnixMilliseconds,
}

/// A question to the store that changes nothing. It never enters the log, except as a step of a
/// transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Query {
    /// GET key → `Value` or `Nothing`.
    Get {
        /// The key.
        key: Bytes,
    },
    /// GETV key → `List` of `Value` and `Integer`, the version; or `Nothing`.
    GetVersioned {
        /// The key.
        key: Bytes,
    },
    /// GETRANGE key start end → `Value`: the bytes from start to end, both included, negative ones
    /// counted from the end; empty if there are none.
    GetRange {
        /// The key.
        key: Bytes,
        /// The first byte.
        start: i64,
        /// The last byte.
        end: i64,
    },
    /// EXISTS key… → `Integer`: how many exist, counted as often as they are named.
    Exists {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// TYPE key → `Text`: `string` or `none`.
    Type {
        /// The key.
        key: Bytes,
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
    /// SCAN cursor [MATCH glob] [COUNT n] → `List` of `Value`, the next cursor in decimal, and
    /// `List` of keys. Cursor 0 begins, and comes back at the end.
    Scan {
        /// Where to go on.
        cursor: u64,
        /// Which keys to answer.
        pattern: Option<Bytes>,
        /// How many keys to examine, about.
        count: usize,
    },
    /// KEYS glob → `Frozen`: the keys, unsorted; or `TooMany`.
    Keys {
        /// Which keys.
        pattern: Bytes,
    },
    /// DBSIZE → `Integer`: how many keys there are.
    Count,
    /// TTL and its kin → `Integer`: -2 no such key, -1 no deadline, else as the format says.
    TimeToLive {
        /// The key.
        key: Bytes,
        /// In which unit, from when.
        format: DeadlineFormat,
    },
    /// WATCH key… → `Watched`.
    Watch {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// LASTINDEX → `Integer`: the log index of the last entry applied.
    AppliedIndex,
}

/// What a command or query is taken to weigh beside its keys and values, in bytes.
const OVERHEAD_BYTES: usize = 64;

/// What each item of a list weighs beside its bytes: the vector that holds them, and their length.
const ITEM_BYTES: usize = 40;

/// Of a key or value, how many bytes a rendering for people shows.
const SHOWN_BYTES_MAX: usize = 32;

impl Write {
    /// The weight of this write against the byte bounds, in bytes; at least what it takes in the
    /// log.
    pub fn bytes(&self) -> usize {
        match self {
            Write::Command(command) => OVERHEAD_BYTES + command.bytes(),
            Write::Transaction { watches, operations } => {
                let watched = watches.iter().map(|watch| OVERHEAD_BYTES + watch.key.len());
                let done = operations.iter().map(|operation| match operation {
                    Operation::Command(command) => command.bytes(),
                    Operation::Query(query) => query.bytes(),
                });
                OVERHEAD_BYTES + watched.sum::<usize>() + done.sum::<usize>()
            }
            Write::Once { client, command, .. } => OVERHEAD_BYTES + client.len() + command.bytes(),
        }
    }
}

impl Command {
    /// SET key value with a condition and no other option.
    pub fn set(key: Bytes, value: Bytes, condition: Condition) -> Command {
        let (expiry, answer) = (Expiry::Never, SetAnswer::Done);
        Command::Set { key, value, condition, expiry, answer }
    }

    /// The weight of this command against the byte bounds, in bytes.
    pub fn bytes(&self) -> usize {
        OVERHEAD_BYTES
            + match self {
                Command::Set { key, value, condition, .. } => {
                    let old = match condition {
                        Condition::IfEqual(old) => old.len(),
                        _ => 0,
                    };
                    key.len() + value.len() + old
                }
                Command::Delete { keys } => weight(keys),
                Command::Append { key, value, .. } => key.len() + value.len(),
                Command::CompareAndSet { key, old, new } => key.len() + old.len() + new.len(),
                Command::DeleteIfEqual { key, old } => key.len() + old.len(),
                Command::Increment { key, .. }
                | Command::GetAndDelete { key }
                | Command::GetAndExpire { key, .. }
                | Command::Expire { key, .. }
                | Command::Persist { key } => key.len(),
                Command::SetMany { pairs, .. } => {
                    pairs.iter().map(|(key, value)| 2 * ITEM_BYTES + key.len() + value.len()).sum()
                }
                Command::Flush => 0,
            }
    }
}

impl Query {
    /// The weight of this query against the byte bounds, in bytes.
    pub fn bytes(&self) -> usize {
        OVERHEAD_BYTES
            + match self {
                Query::Get { key }
                | Query::GetVersioned { key }
                | Query::GetRange { key, .. }
                | Query::Type { key }
                | Query::Length { key }
                | Query::TimeToLive { key, .. } => key.len(),
                Query::Exists { keys } | Query::GetMany { keys } | Query::Watch { keys } => {
                    weight(keys)
                }
                Query::Range { from, to, .. } => from.len() + to.as_ref().map_or(0, |to| to.len()),
                Query::Scan { pattern, .. } => pattern.as_ref().map_or(0, |glob| glob.len()),
                Query::Keys { pattern } => pattern.len(),
                Query::Count | Query::AppliedIndex => 0,
            }
    }
}

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
impl fmt::Display for Write {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Write::Command(command) => command.fmt(formatter),
            Write::Transaction { watches, operations } => {
                for watch in watches {
                    write!(formatter, "WATCH {}@{}; ", Shown(&watch.key), watch.seen_at)?;
                }
                formatter.write_str("MULTI")?;
                for operation in operations.iter().take(SHOWN_ITEMS_MAX) {
                    match operation {
                        Operation::Command(command) => write!(formatter, "; {command}")?,
                        Operation::Query(query) => write!(formatter, "; {query}")?,
                    }
                }
                let hidden = operations.len().saturating_sub(SHOWN_ITEMS_MAX);
                if hidden > 0 { write!(formatter, "; …(+{hidden})") } else { Ok(()) }
            }
            Write::Once { client, sequence, command } => {
                write!(formatter, "ONCE {} {sequence} {command}", Shown(client))
            }
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Set { key, value, condition, expiry, answer } => {
                write!(formatter, "SET {} {}", Shown(key), Shown(value))?;
                match condition {
                    Condition::Always => {}
                    Condition::IfAbsent => formatter.write_str(" NX")?,
                    Condition::IfPresent => formatter.write_str(" XX")?,
                    Condition::IfEqual(old) => write!(formatter, " IFEQ {}", Shown(old))?,
                    Condition::IfVersion(version) => write!(formatter, " IFVER {version}")?,
                }
                write!(formatter, "{expiry}")?;
                if *answer == SetAnswer::Old { formatter.write_str(" GET") } else { Ok(()) }
            }
            Command::Delete { keys } => {
                formatter.write_str("DEL")?;
                show_all(formatter, keys.iter())
            }
            Command::DeleteIfEqual { key, old } => {
                write!(formatter, "DELEX {} IFEQ {}", Shown(key), Shown(old))
            }
            Command::GetAndDelete { key } => write!(formatter, "GETDEL {}", Shown(key)),
            Command::GetAndExpire { key, expiry: Expiry::Never } => {
                write!(formatter, "GETEX {} PERSIST", Shown(key))
            }
            Command::GetAndExpire { key, expiry } => {
                write!(formatter, "GETEX {}{expiry}", Shown(key))
            }
            Command::Append { key, value, .. } => {
                write!(formatter, "APPEND {} {}", Shown(key), Shown(value))
            }
            Command::CompareAndSet { key, old, new } => {
                write!(formatter, "CAS {} {} {}", Shown(key), Shown(old), Shown(new))
            }
            Command::Increment { key, delta } => {
                write!(formatter, "INCRBY {} {delta}", Shown(key))
            }
            Command::SetMany { pairs, if_absent } => {
                formatter.write_str(if *if_absent { "MSETNX" } else { "MSET" })?;
                show_all(formatter, pairs.iter().flat_map(|(key, value)| [key, value]))
            }
            Command::Expire { key, deadline, condition } => {
                let (word, number) = match deadline {
                    Deadline::In(number) => ("PEXPIRE", number),
                    Deadline::At(number) => ("PEXPIREAT", number),
                };
                let condition = match condition {
                    ExpireCondition::Always => "",
                    ExpireCondition::IfNone => " NX",
                    ExpireCondition::IfSome => " XX",
                    ExpireCondition::IfLater => " GT",
                    ExpireCondition::IfSooner => " LT",
                };
                write!(formatter, "{word} {} {number}{condition}", Shown(key))
            }
            Command::Persist { key } => write!(formatter, "PERSIST {}", Shown(key)),
            Command::Flush => formatter.write_str("FLUSHALL"),
        }
    }
}

/// With a space before it, or nothing at all.
impl fmt::Display for Expiry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expiry::Never => Ok(()),
            Expiry::Keep => formatter.write_str(" KEEPTTL"),
            Expiry::Set(Deadline::In(number)) => write!(formatter, " PX {number}"),
            Expiry::Set(Deadline::At(number)) => write!(formatter, " PXAT {number}"),
        }
    }
}

impl fmt::Display for Query {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let many = |formatter: &mut fmt::Formatter<'_>, word, keys: &[Bytes]| {
            formatter.write_str(word)?;
            show_all(formatter, keys.iter())
        };
        match self {
            Query::Get { key } => write!(formatter, "GET {}", Shown(key)),
            Query::GetVersioned { key } => write!(formatter, "GETV {}", Shown(key)),
            Query::GetRange { key, start, end } => {
                write!(formatter, "GETRANGE {} {start} {end}", Shown(key))
            }
            Query::Exists { keys } => many(formatter, "EXISTS", keys),
            Query::Type { key } => write!(formatter, "TYPE {}", Shown(key)),
            Query::Length { key } => write!(formatter, "STRLEN {}", Shown(key)),
            Query::GetMany { keys } => many(formatter, "MGET", keys),
            Query::Range { from, to: Some(to), pairs_max } => {
                write!(formatter, "RANGE {} {} LIMIT {pairs_max}", Shown(from), Shown(to))
            }
            Query::Range { from, to: None, pairs_max } => {
                write!(formatter, "RANGE {} (end) LIMIT {pairs_max}", Shown(from))
            }
            Query::Scan { cursor, pattern: None, count } => {
                write!(formatter, "SCAN {cursor} COUNT {count}")
            }
            Query::Scan { cursor, pattern: Some(glob), count } => {
                write!(formatter, "SCAN {cursor} MATCH {} COUNT {count}", Shown(glob))
            }
            Query::Keys { pattern } => write!(formatter, "KEYS {}", Shown(pattern)),
            Query::Count => formatter.write_str("DBSIZE"),
            Query::TimeToLive { key, format } => {
                let word = match format {
                    DeadlineFormat::Seconds => "TTL",
                    DeadlineFormat::Milliseconds => "PTTL",
                    DeadlineFormat::UnixSeconds => "EXPIRETIME",
                    DeadlineFormat::UnixMilliseconds => "PEXPIRETIME",
                };
                write!(formatter, "{word} {}", Shown(key))
            }
            Query::Watch { keys } => many(formatter, "WATCH", keys),
            Query::AppliedIndex => formatter.write_str("LASTINDEX"),
        }
    }
}

/// How many items of a list a rendering for people shows.
const SHOWN_ITEMS_MAX: usize = 8;

/// The first few items, and how many more there are.
fn show_all<'a>(
    formatter: &mut fmt::Formatter<'_>,
    items: impl Iterator<Item = &'a Bytes>,
) -> fmt::Result {
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
            expiry: Expiry::Never,
            answer: SetAnswer::Done,
        };
        assert_eq!(set.to_string(), r#"SET color "dark\nblue\xff" IFEQ """#);

        let long =
            Command::Append { key: bytes(b"k"), value: bytes(&[b'x'; 1000]), value_bytes_max: 1 };
        assert_eq!(long.to_string(), format!("APPEND k {}…(1000 bytes)", "x".repeat(32)));

        let many = Command::Delete { keys: vec![bytes(b"k"); 10] };
        assert_eq!(many.to_string(), "DEL k k k k k k k k …(+2)");
    }
}
