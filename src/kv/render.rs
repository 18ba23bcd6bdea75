//! Commands and queries as people read them, in log dumps and transcripts: one short line each.

use std::fmt;

use super::command::{
    Bytes, Command, Condition, Deadline, ExpireCondition, Expiry, Operation, SetAnswer, Write,
};
use super::query::{DeadlineFormat, Query};

/// Of a key or value, how many bytes a rendering for people shows.
const SHOWN_BYTES_MAX: usize = 32;

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
                    ExpireCondition::IfSomeAndSooner => " XX LT",
                };
                write!(formatter, "{word} {} {number}{condition}", Shown(key))
            }
            Command::Persist { key } => write!(formatter, "PERSIST {}", Shown(key)),
            Command::Flush => formatter.write_str("FLUSHALL"),
            Command::SetRange { key, offset, value, .. } => {
                write!(formatter, "SETRANGE {} {offset} {}", Shown(key), Shown(value))
            }
            Command::Rename { key, new_key, if_absent } => {
                let word = if *if_absent { "RENAMENX" } else { "RENAME" };
                write!(formatter, "{word} {} {}", Shown(key), Shown(new_key))
            }
            Command::Copy { key, new_key, replace } => {
                let replace = if *replace { " REPLACE" } else { "" };
                write!(formatter, "COPY {} {}{replace}", Shown(key), Shown(new_key))
            }
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
            Query::Echo { message: None } => formatter.write_str("PING"),
            Query::Echo { message: Some(message) } => write!(formatter, "ECHO {}", Shown(message)),
            Query::Acknowledge => formatter.write_str("UNWATCH"),
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
