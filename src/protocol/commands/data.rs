//! Commands about keys and values, and about keys in their order.

use crate::kv::command::{Bytes, Command, DeadlineFormat, Query, Write, parse_integer};
use crate::limits::{RANGE_PAIRS_MAX, SCAN_COUNT_MAX};
use crate::protocol::error::Wrong;
use crate::protocol::request::Request;

use super::arguments::{Arguments, is};
use super::options::{cursor, pairs};
use super::{Action, Arity};

/// Keys that SCAN examines unless the client says otherwise.
const SCAN_COUNT: usize = 10;

/// To execute this command.
pub fn write(command: Command) -> Result<Action, Wrong> {
    Ok(Action::Ask(Request::Write(Write::Command(command))))
}

/// To answer this query.
pub fn read(query: Query) -> Result<Action, Wrong> {
    Ok(Action::Ask(Request::Read(query)))
}

/// GET key [STALE]
pub fn get(mut arguments: Arguments<'_>) -> Result<Action, Wrong> {
    let key = arguments.key()?;
    match arguments.next() {
        None => read(Query::Get { key }),
        Some(word) if is(&word, "STALE") => Ok(Action::Ask(Request::StaleRead(Query::Get { key }))),
        // Whoever writes a second word here has most likely forgotten quotes.
        Some(_) => Err(Wrong::Arity { command: "GET", arity: Arity::exactly(1), got: 2 }),
    }
}

/// Commands with a key and nothing else, that ask.
pub fn read_key(mut arguments: Arguments<'_>, query: fn(Bytes) -> Query) -> Result<Action, Wrong> {
    read(query(arguments.key()?))
}

/// Commands with a key and nothing else, that write.
pub fn write_key(
    mut arguments: Arguments<'_>,
    command: fn(Bytes) -> Command,
) -> Result<Action, Wrong> {
    write(command(arguments.key()?))
}

/// TTL, PTTL, EXPIRETIME, PEXPIRETIME: key
pub fn time_to_live(mut arguments: Arguments<'_>, format: DeadlineFormat) -> Result<Action, Wrong> {
    read(Query::TimeToLive { key: arguments.key()?, format })
}

/// GETRANGE key start end
pub fn get_range(mut arguments: Arguments<'_>) -> Result<Action, Wrong> {
    let key = arguments.key()?;
    read(Query::GetRange { key, start: arguments.number()?, end: arguments.number()? })
}

/// MGET key…
pub fn get_many(arguments: Arguments<'_>) -> Result<Action, Wrong> {
    read(Query::GetMany { keys: arguments.keys()? })
}

/// EXISTS, TOUCH: key…
pub fn exists(arguments: Arguments<'_>) -> Result<Action, Wrong> {
    read(Query::Exists { keys: arguments.keys()? })
}

/// DEL, UNLINK: key…
pub fn delete(arguments: Arguments<'_>) -> Result<Action, Wrong> {
    write(Command::Delete { keys: arguments.keys()? })
}

/// DELEX key IFEQ old
pub fn delete_if_equal(mut arguments: Arguments<'_>) -> Result<Action, Wrong> {
    let key = arguments.key()?;
    let option = arguments.word();
    if !is(&option, "IFEQ") {
        return Err(arguments.unexpected("IFEQ old", &option));
    }
    write(Command::DeleteIfEqual { key, old: arguments.value()? })
}

/// APPEND key value
pub fn append(mut arguments: Arguments<'_>) -> Result<Action, Wrong> {
    let (key, value) = (arguments.key()?, arguments.value()?);
    let value_bytes_max = arguments.limits.value_bytes as u64;
    write(Command::Append { key, value, value_bytes_max })
}

/// SETRANGE key offset value
pub fn set_range(mut arguments: Arguments<'_>) -> Result<Action, Wrong> {
    let key = arguments.key()?;
    let offset = u64::try_from(arguments.number()?);
    let offset = offset.map_err(|_negative| Wrong::Other("offset is out of range".to_owned()))?;
    let value = arguments.value()?;
    let value_bytes_max = arguments.limits.value_bytes as u64;
    write(Command::SetRange { key, offset, value, value_bytes_max })
}

/// RENAME, RENAMENX: key newkey
pub fn rename(mut arguments: Arguments<'_>, if_absent: bool) -> Result<Action, Wrong> {
    let (key, new_key) = (arguments.key()?, arguments.key()?);
    write(Command::Rename { key, new_key, if_absent })
}

/// COPY key newkey [DB 0] [REPLACE]
pub fn copy(mut arguments: Arguments<'_>) -> Result<Action, Wrong> {
    let (key, new_key) = (arguments.key()?, arguments.key()?);
    let mut replace = false;
    while let Some(option) = arguments.next() {
        if is(&option, "REPLACE") {
            replace = true;
        } else if !is(&option, "DB") {
            return Err(arguments.unexpected("REPLACE or DB 0", &option));
        } else if arguments.number_of("DB")? != 0 {
            return Err(Wrong::DatabaseIndex);
        }
    }
    if key == new_key {
        let text = "source and destination objects are the same";
        return Err(Wrong::Other(text.to_owned()));
    }
    write(Command::Copy { key, new_key, replace })
}

/// CAS key old new
pub fn compare_and_set(mut arguments: Arguments<'_>) -> Result<Action, Wrong> {
    let (key, old, new) = (arguments.key()?, arguments.value()?, arguments.value()?);
    write(Command::CompareAndSet { key, old, new })
}

/// INCR, DECR: key
pub fn increment_by_one(mut arguments: Arguments<'_>, delta: i64) -> Result<Action, Wrong> {
    write(Command::Increment { key: arguments.key()?, delta })
}

/// INCRBY key number
pub fn increment(mut arguments: Arguments<'_>) -> Result<Action, Wrong> {
    let (key, delta) = (arguments.key()?, arguments.number()?);
    write(Command::Increment { key, delta })
}

/// DECRBY key number
pub fn decrement(mut arguments: Arguments<'_>) -> Result<Action, Wrong> {
    let (key, number) = (arguments.key()?, arguments.number()?);
    let delta = number.checked_neg().ok_or(Wrong::Overflow)?;
    write(Command::Increment { key, delta })
}

/// MSET, MSETNX: key value…
pub fn set_many(mut arguments: Arguments<'_>, if_absent: bool) -> Result<Action, Wrong> {
    let count = arguments.count();
    if !count.is_multiple_of(2) {
        return Err(Wrong::Pairs { command: arguments.command, got: count });
    }
    write(Command::SetMany { pairs: pairs(&mut arguments)?, if_absent })
}

/// FLUSHALL, FLUSHDB: [ASYNC|SYNC]
pub fn flush(mut arguments: Arguments<'_>) -> Result<Action, Wrong> {
    match arguments.next() {
        Some(word) if !is(&word, "ASYNC") && !is(&word, "SYNC") => {
            Err(arguments.unexpected("ASYNC or SYNC", &word))
        }
        _ => write(Command::Flush),
    }
}

/// RANGE from to [LIMIT n]
pub fn range(mut arguments: Arguments<'_>) -> Result<Action, Wrong> {
    let (from, to) = (arguments.bound()?, arguments.bound()?);
    let pairs_max = arguments.limit(RANGE_PAIRS_MAX)?;
    read(Query::Range { from, to: Some(to), pairs_max })
}

/// PREFIX prefix [LIMIT n]
pub fn prefix(mut arguments: Arguments<'_>) -> Result<Action, Wrong> {
    let from = arguments.key()?;
    let to = after_prefix(&from);
    let pairs_max = arguments.limit(RANGE_PAIRS_MAX)?;
    read(Query::Range { from, to, pairs_max })
}

/// The first key after all that begin with `prefix`: `ca` → `cb`; `c\xff` → `d`; none for `\xff`.
fn after_prefix(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut next = prefix[..=last].to_vec();
    next[last] += 1;
    Some(Bytes::from(next))
}

/// SCAN cursor [MATCH glob] [COUNT n] [TYPE string]
pub fn scan(mut arguments: Arguments<'_>) -> Result<Action, Wrong> {
    let cursor = cursor(&arguments.word())?;
    let (mut pattern, mut count, mut strings) = (None, SCAN_COUNT, true);
    while let Some(option) = arguments.next() {
        let argument = arguments.next();
        let expected = "MATCH glob, COUNT n or TYPE string";
        let argument = argument.ok_or_else(|| arguments.unexpected(expected, &option))?;
        if is(&option, "MATCH") {
            if argument.len() > arguments.limits.key_bytes {
                return Err(Wrong::TooBig("bytes of the pattern: longer than any key".to_owned()));
            }
            pattern = Some(argument);
        } else if is(&option, "COUNT") {
            let number = parse_integer(&argument).ok_or(Wrong::NotInteger)?;
            let positive = usize::try_from(number).ok().filter(|number| *number > 0);
            let wrong = || Wrong::Syntax("SCAN: COUNT takes a number from 1".to_owned());
            count = positive.ok_or_else(wrong)?.min(SCAN_COUNT_MAX);
        } else if is(&option, "TYPE") {
            strings = is(&argument, "STRING");
        } else {
            return Err(arguments.unexpected(expected, &option));
        }
    }
    // All values are strings: of other types there are no keys but those behind the last.
    read(Query::Scan { cursor: if strings { cursor } else { u64::MAX }, pattern, count })
}

/// KEYS glob
pub fn keys(mut arguments: Arguments<'_>) -> Result<Action, Wrong> {
    read(Query::Keys { pattern: arguments.pattern()? })
}
