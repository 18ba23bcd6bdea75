//! The options of SET, GETEX and the EXPIRE family: conditions, and times to live.
//!
//! Options may stand in any order, and contradictions are errors, as in Redis. Times in seconds are
//! turned into milliseconds here. Whether they are relative is kept: what `EX 10` means is decided
//! by the stamp of the log entry and not by this server's clock.

use crate::kv::command::SetAnswer;
use crate::kv::command::{Bytes, Command, Condition, Deadline, ExpireCondition, Expiry, Query};
use crate::protocol::error::{Wrong, shown};
use crate::protocol::request::Request;

use super::Action;
use super::arguments::{Arguments, is};
use super::data::write;

/// A relative time above this would lie beyond 2^63 milliseconds for any stamp of the next
/// centuries (2^43 ms after 1970 is the year 2248).
const RELATIVE_MS_MAX: i64 = i64::MAX - (1 << 43);

/// SET key value [options]
pub fn set(mut arguments: Arguments<'_>) -> Result<Action, Wrong> {
    let (key, value) = (arguments.key()?, arguments.value()?);
    let (mut condition, mut expiry) = (None, None);
    let mut answer = SetAnswer::Done;
    while let Some(option) = arguments.next() {
        if is(&option, "GET") {
            answer = SetAnswer::Old;
        } else if let Some(found) = condition_option(&option, &mut arguments)? {
            set_once(
                &mut condition,
                option,
                found,
                "SET takes only one of NX, XX, IFEQ and IFVER",
            )?;
        } else if let Some(found) = expiry_option(&option, &mut arguments)? {
            let text = "SET takes only one of EX, PX, EXAT, PXAT and KEEPTTL";
            set_once(&mut expiry, option, found, text)?;
        } else {
            let expected =
                "NX, XX, IFEQ old, IFVER n, GET, EX s, PX ms, EXAT s, PXAT ms or KEEPTTL";
            return Err(arguments.unexpected(expected, &option));
        }
    }
    let condition = condition.map_or(Condition::Always, |(_, condition)| condition);
    let expiry = expiry.map_or(Expiry::Never, |(_, expiry)| expiry);
    write(Command::Set { key, value, condition, expiry, answer })
}

fn condition_option(
    option: &[u8],
    arguments: &mut Arguments<'_>,
) -> Result<Option<Condition>, Wrong> {
    Ok(if is(option, "NX") {
        Some(Condition::IfAbsent)
    } else if is(option, "XX") {
        Some(Condition::IfPresent)
    } else if is(option, "IFEQ") {
        need(arguments, "SET: IFEQ takes the old value")?;
        Some(Condition::IfEqual(arguments.value()?))
    } else if is(option, "IFVER") {
        need(arguments, "SET: IFVER takes the version, as GETV answers it")?;
        Some(Condition::IfVersion(arguments.position(0)?))
    } else {
        None
    })
}

fn expiry_option(option: &[u8], arguments: &mut Arguments<'_>) -> Result<Option<Expiry>, Wrong> {
    if arguments.command == "SET" && is(option, "KEEPTTL") {
        return Ok(Some(Expiry::Keep));
    }
    if arguments.command == "GETEX" && is(option, "PERSIST") {
        return Ok(Some(Expiry::Never));
    }
    for (name, unit_ms, is_absolute) in
        [("EX", 1000, false), ("PX", 1, false), ("EXAT", 1000, true), ("PXAT", 1, true)]
    {
        if is(option, name) {
            let number = arguments.number_of(name)?;
            return live_for(arguments.command, number, unit_ms, is_absolute).map(Some);
        }
    }
    Ok(None)
}

/// A time that must lie in the future.
fn live_for(
    command: &'static str,
    number: i64,
    unit_ms: i64,
    is_absolute: bool,
) -> Result<Expiry, Wrong> {
    if number <= 0 {
        return Err(Wrong::ExpireTime { command: Some(command) });
    }
    deadline(command, number, unit_ms, is_absolute).map(Expiry::Set)
}

fn deadline(
    command: &'static str,
    number: i64,
    unit_ms: i64,
    is_absolute: bool,
) -> Result<Deadline, Wrong> {
    let wrong = Wrong::ExpireTime { command: Some(command) };
    match number.checked_mul(unit_ms) {
        None => Err(wrong),
        Some(ms) if is_absolute => Ok(Deadline::At(ms)),
        Some(ms) if ms > RELATIVE_MS_MAX => Err(wrong),
        Some(ms) => Ok(Deadline::In(ms)),
    }
}

/// The same option twice is no contradiction; the last one counts.
fn set_once<T>(
    place: &mut Option<(Bytes, T)>,
    option: Bytes,
    found: T,
    contradiction: &str,
) -> Result<(), Wrong> {
    if place.as_ref().is_some_and(|(before, _)| !before.eq_ignore_ascii_case(&option)) {
        return Err(Wrong::Syntax(contradiction.to_owned()));
    }
    *place = Some((option, found));
    Ok(())
}

fn need(arguments: &Arguments<'_>, text: &str) -> Result<(), Wrong> {
    if arguments.count() == 0 { Err(Wrong::Syntax(text.to_owned())) } else { Ok(()) }
}

/// SETNX key value
pub fn set_if_absent(mut arguments: Arguments<'_>) -> Result<Action, Wrong> {
    let (key, value) = (arguments.key()?, arguments.value()?);
    let (condition, expiry) = (Condition::IfAbsent, Expiry::Never);
    write(Command::Set { key, value, condition, expiry, answer: SetAnswer::Flag })
}

/// SETEX key seconds value, PSETEX key milliseconds value
pub fn set_for(mut arguments: Arguments<'_>, unit_ms: i64) -> Result<Action, Wrong> {
    let (key, number) = (arguments.key()?, arguments.number()?);
    let expiry = live_for(arguments.command, number, unit_ms, false)?;
    let (condition, answer) = (Condition::Always, SetAnswer::Done);
    write(Command::Set { key, value: arguments.value()?, condition, expiry, answer })
}

/// GETSET key value
pub fn get_and_set(mut arguments: Arguments<'_>) -> Result<Action, Wrong> {
    let (key, value) = (arguments.key()?, arguments.value()?);
    let (condition, expiry) = (Condition::Always, Expiry::Never);
    write(Command::Set { key, value, condition, expiry, answer: SetAnswer::Old })
}

/// GETEX key [PERSIST|EX s|PX ms|EXAT s|PXAT ms]
pub fn get_and_expire(mut arguments: Arguments<'_>) -> Result<Action, Wrong> {
    let key = arguments.key()?;
    let mut expiry = None;
    while let Some(option) = arguments.next() {
        match expiry_option(&option, &mut arguments)? {
            Some(found) => set_once(&mut expiry, option, found, "GETEX takes only one option")?,
            None => {
                let expected = "PERSIST, EX s, PX ms, EXAT s or PXAT ms";
                return Err(arguments.unexpected(expected, &option));
            }
        }
    }
    match expiry {
        None => Ok(Action::Ask(Request::Read(Query::Get { key }))), // changes nothing
        Some((_, expiry)) => write(Command::GetAndExpire { key, expiry }),
    }
}

/// EXPIRE, PEXPIRE, EXPIREAT, PEXPIREAT: key number [NX|XX|GT|LT]
pub fn expire(
    mut arguments: Arguments<'_>,
    unit_ms: i64,
    is_absolute: bool,
) -> Result<Action, Wrong> {
    let (key, number) = (arguments.key()?, arguments.number()?);
    let command = arguments.command;
    let condition = expire_condition(arguments)?;
    let deadline = deadline(command, number, unit_ms, is_absolute)?;
    write(Command::Expire { key, deadline, condition })
}

fn expire_condition(mut arguments: Arguments<'_>) -> Result<ExpireCondition, Wrong> {
    let (mut nx, mut xx, mut gt, mut lt) = (false, false, false, false);
    while let Some(option) = arguments.next() {
        let names = [("NX", &mut nx), ("XX", &mut xx), ("GT", &mut gt), ("LT", &mut lt)];
        match names.into_iter().find(|(name, _)| is(&option, name)) {
            Some((_, flag)) => *flag = true,
            None => return Err(Wrong::Other(format!("Unsupported option {}", shown(&option)))),
        }
    }
    match (nx, xx, gt, lt) {
        (true, true, _, _) | (true, _, true, _) | (true, _, _, true) => {
            let text = "NX and XX, GT or LT options at the same time are not compatible";
            Err(Wrong::Other(text.to_owned()))
        }
        (_, _, true, true) => {
            Err(Wrong::Other("GT and LT options at the same time are not compatible".to_owned()))
        }
        (_, true, _, true) => Ok(ExpireCondition::IfSomeAndSooner),
        // GT never holds for a key without a deadline, so XX adds nothing to it.
        (_, _, true, _) => Ok(ExpireCondition::IfLater),
        (_, _, _, true) => Ok(ExpireCondition::IfSooner),
        (_, true, _, _) => Ok(ExpireCondition::IfSome),
        (true, ..) => Ok(ExpireCondition::IfNone),
        _ => Ok(ExpireCondition::Always),
    }
}

/// SCAN's cursor: unsigned, unlike every other number.
pub fn cursor(word: &[u8]) -> Result<u64, Wrong> {
    let digits = std::str::from_utf8(word).ok();
    let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).ok_or(Wrong::Cursor)
}

/// `key value key value …`
pub fn pairs(arguments: &mut Arguments<'_>) -> Result<Vec<(Bytes, Bytes)>, Wrong> {
    (0..arguments.count() / 2).map(|_| Ok((arguments.key()?, arguments.value()?))).collect()
}
