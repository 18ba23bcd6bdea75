//! The command table: one row per command, from which parsing, arity errors and HELP are made.
//!
//! To add a command, add a row and the function that turns its arguments into a [`Request`].

use std::fmt;

use crate::kv::command::{Bytes, Command, Condition, Query, Write, parse_integer};
use crate::limits::{
    ARGUMENTS_MAX, KEY_BYTES_MAX, RANGE_PAIRS_MAX, REQUEST_BYTES_MAX, VALUE_BYTES_MAX,
};
use crate::protocol::reply::Reply;
use crate::protocol::request::{Local, Request};

/// What there is to know about a command.
pub struct Entry {
    /// Its word, in capitals; clients may write it as they like.
    pub name: &'static str,
    /// Its arguments, as HELP shows them.
    pub arguments: &'static str,
    /// How many arguments it takes, its own word not counted.
    pub arity: Arity,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Where it belongs.
    pub group: Group,
    /// Whether it changes the store.
    pub writes: bool,
    /// Makes a request of as many arguments as `arity` allows.
    build: fn(Arguments) -> Result<Request, Reply>,
}

/// Where a command belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// About the connection.
    Connection,
    /// About keys and values.
    Data,
    /// About keys in their order.
    Scan,
    /// About the server.
    Insight,
}

/// How many arguments a command takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arity {
    /// At least so many.
    pub min: usize,
    /// At most so many; `None`: as many as a request may have.
    pub max: Option<usize>,
}

impl Arity {
    const fn exactly(count: usize) -> Arity {
        Arity { min: count, max: Some(count) }
    }

    const fn between(min: usize, max: usize) -> Arity {
        Arity { min, max: Some(max) }
    }

    const fn at_least(min: usize) -> Arity {
        Arity { min, max: None }
    }

    fn allows(self, count: usize) -> bool {
        count >= self.min && self.max.is_none_or(|max| count <= max)
    }
}

/// `1 argument`, `0 or 1 arguments`, `2 to 4 arguments`, `at least 1 argument`.
impl fmt::Display for Arity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count| if count == 1 { "argument" } else { "arguments" };
        let min = self.min;
        match self.max {
            Some(0) => write!(formatter, "no arguments"),
            Some(max) if max == min => write!(formatter, "{min} {}", plural(min)),
            Some(max) if max == min + 1 => write!(formatter, "{min} or {max} arguments"),
            Some(max) => write!(formatter, "{min} to {max} arguments"),
            None => write!(formatter, "at least {min} {}", plural(min)),
        }
    }
}

macro_rules! table {
    ($($name:literal $arguments:literal, $arity:expr, $group:ident, $writes:literal, $build:expr,
       $summary:literal;)*) => {
        /// All commands, in the order in which HELP lists them.
        pub static COMMANDS: &[Entry] = &[$(Entry {
            name: $name,
            arguments: $arguments,
            arity: $arity,
            summary: $summary,
            group: Group::$group,
            writes: $writes,
            build: $build,
        }),*];
    };
}

table! {
    "PING" "[message]", Arity::between(0, 1), Connection, false, ping,
        "answers PONG, or the message";
    "ECHO" "message", Arity::exactly(1), Connection, false, echo,
        "answers the message";
    "HELP" "[command]", Arity::between(0, 1), Connection, false, help_request,
        "lists the commands, or explains one";
    "QUIT" "", Arity::exactly(0), Connection, false, |_| Ok(Request::Local(Local::Quit)),
        "closes the connection";
    "GET" "key", Arity::exactly(1), Data, false, get,
        "the key's value, _ if there is none";
    "SET" "key value [NX|XX|IFEQ old]", Arity::between(2, 4), Data, true, set,
        "sets the key; NX: if absent, XX: if present, IFEQ: if it equals old; else answers _";
    "DEL" "key [key ...]", Arity::at_least(1), Data, true, delete,
        "deletes the keys and counts those that existed";
    "EXISTS" "key [key ...]", Arity::at_least(1), Data, false, exists,
        "counts the keys that exist";
    "STRLEN" "key", Arity::exactly(1), Data, false, length,
        "the length of the key's value in bytes, 0 if there is none";
    "APPEND" "key value", Arity::exactly(2), Data, true, append,
        "adds to the end of the key's value and answers its new length";
    "CAS" "key old new", Arity::exactly(3), Data, true, compare_and_set,
        "sets the key if its value equals old: 1 done, 0 not equal, _ no such key";
    "INCR" "key", Arity::exactly(1), Data, true, |arguments| increment_by_one(arguments, 1),
        "adds 1 to the key's integer and answers the sum";
    "DECR" "key", Arity::exactly(1), Data, true, |arguments| increment_by_one(arguments, -1),
        "subtracts 1 from the key's integer and answers the difference";
    "INCRBY" "key number", Arity::exactly(2), Data, true, increment,
        "adds the number to the key's integer and answers the sum";
    "DECRBY" "key number", Arity::exactly(2), Data, true, decrement,
        "subtracts the number from the key's integer and answers the difference";
    "MGET" "key [key ...]", Arity::at_least(1), Data, false, get_many,
        "the values of the keys, _ where there is none";
    "MSET" "key value [key value ...]", Arity::at_least(2), Data, true, set_many,
        "sets all the keys at once";
    "PREFIX" "prefix [LIMIT n]", Arity::between(1, 3), Scan, false, prefix,
        "keys that begin with the prefix, and their values, in order";
    "RANGE" "from to [LIMIT n]", Arity::between(2, 4), Scan, false, range,
        "keys from `from` up to but not including `to`, and their values, in order";
    "DBSIZE" "", Arity::exactly(0), Scan, false, |_| Ok(Request::Read(Query::Count)),
        "counts all keys";
    "STATUS" "", Arity::exactly(0), Insight, false, |_| Ok(Request::Local(Local::Status)),
        "what this server knows of the cluster";
}

/// Understands a request: its arguments, the command word first and certainly there.
pub fn request(arguments: Vec<Bytes>) -> Result<Request, Reply> {
    let count = arguments.len();
    if count > ARGUMENTS_MAX {
        return Err(Reply::too_big("arguments", count, ARGUMENTS_MAX));
    }
    let bytes = arguments.iter().map(|argument| argument.len()).sum();
    if bytes > REQUEST_BYTES_MAX {
        return Err(Reply::too_big("bytes of the request", bytes, REQUEST_BYTES_MAX));
    }
    let mut arguments = arguments.into_iter();
    let word = arguments.next().expect("the caller has a command word");
    let entry = find(&word).ok_or_else(|| unknown_command(&word))?;
    if !entry.arity.allows(count - 1) {
        let (name, arity) = (entry.name, entry.arity);
        return Err(Reply::err(format!("{name} takes {arity}, got {}", count - 1)));
    }
    (entry.build)(Arguments(arguments))
}

/// What HELP answers.
pub fn help(command: Option<&Bytes>) -> Reply {
    let Some(word) = command else {
        let usage = |entry: &Entry| format!("{} {}", entry.name, entry.arguments);
        let line = |entry| format!("{:<34}{}", usage(entry), entry.summary);
        return Reply::Lines(COMMANDS.iter().map(line).collect());
    };
    match find(word) {
        None => unknown_command(word),
        Some(entry) => {
            let usage = format!("{} {}", entry.name, entry.arguments).trim_end().to_owned();
            Reply::Lines(vec![usage, entry.summary.to_owned()])
        }
    }
}

fn find(word: &[u8]) -> Option<&'static Entry> {
    COMMANDS.iter().find(|entry| entry.name.as_bytes().eq_ignore_ascii_case(word))
}

fn unknown_command(word: &[u8]) -> Reply {
    let shown = shown(word);
    let upper = word.to_ascii_uppercase();
    // One slip in a short word is about as likely as two in a long one.
    let slips_max = if word.len() < 4 { 1 } else { 2 };
    let nearest = COMMANDS
        .iter()
        .map(|entry| (slips(entry.name.as_bytes(), &upper), entry.name))
        .min()
        .filter(|(slips, _)| *slips <= slips_max);
    Reply::err(match nearest {
        Some((_, name)) => format!("unknown command {shown}; did you mean {name}?"),
        None => format!("unknown command {shown}; HELP lists all commands"),
    })
}

/// How many letters must be added, dropped, replaced or swapped with their neighbour to get from
/// one word to the other.
fn slips(from: &[u8], to: &[u8]) -> usize {
    if from.len().abs_diff(to.len()) > 2 {
        return usize::MAX; // far apart, and perhaps very long
    }
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let same = usize::from(from[i - 1] != to[j - 1]);
            let mut best = (rows[i - 1][j - 1] + same).min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

/// A client's word within an error: one line, and not all of it.
fn shown(word: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 32;
    let ellipsis = if word.len() > SHOWN_BYTES_MAX { "..." } else { "" };
    format!("{}{ellipsis}", word[..word.len().min(SHOWN_BYTES_MAX)].escape_ascii())
}

/// The arguments after the command word; `Arity` has counted those that must be there.
struct Arguments(std::vec::IntoIter<Bytes>);

impl Arguments {
    fn word(&mut self) -> Bytes {
        self.0.next().expect("the arity was checked")
    }

    fn key(&mut self) -> Result<Bytes, Reply> {
        at_most(self.word(), "bytes of the key", KEY_BYTES_MAX)
    }

    /// One end of a range. Who goes on after the longest key asks from that key and `\0`.
    fn bound(&mut self) -> Result<Bytes, Reply> {
        at_most(self.word(), "bytes of a range's end", KEY_BYTES_MAX + 1)
    }

    fn value(&mut self) -> Result<Bytes, Reply> {
        at_most(self.word(), "bytes of the value", VALUE_BYTES_MAX)
    }

    fn keys(mut self) -> Result<Vec<Bytes>, Reply> {
        (0..self.0.len()).map(|_| self.key()).collect()
    }

    fn number(&mut self) -> Result<i64, Reply> {
        parse_integer(&self.word()).ok_or_else(Reply::not_integer)
    }

    /// `[LIMIT n]`, and nothing after it.
    fn limit(mut self, command: &str) -> Result<usize, Reply> {
        let Some(word) = self.0.next() else {
            return Ok(RANGE_PAIRS_MAX);
        };
        let number = self.0.next();
        if !word.eq_ignore_ascii_case(b"LIMIT") || number.is_none() {
            return Err(Reply::err(format!("{command}: expected LIMIT n, got {}", shown(&word))));
        }
        let number = number.and_then(|number| usize::try_from(parse_integer(&number)?).ok());
        number.filter(|number| (1..=RANGE_PAIRS_MAX).contains(number)).ok_or_else(|| {
            Reply::err(format!("{command}: LIMIT takes a number from 1 to {RANGE_PAIRS_MAX}"))
        })
    }
}

fn at_most(argument: Bytes, what: &str, max: usize) -> Result<Bytes, Reply> {
    let bytes = argument.len();
    if bytes > max { Err(Reply::too_big(what, bytes, max)) } else { Ok(argument) }
}

fn ping(mut arguments: Arguments) -> Result<Request, Reply> {
    Ok(Request::Local(Local::Ping { message: arguments.0.next() }))
}

fn echo(mut arguments: Arguments) -> Result<Request, Reply> {
    Ok(Request::Local(Local::Echo { message: arguments.word() }))
}

fn help_request(mut arguments: Arguments) -> Result<Request, Reply> {
    Ok(Request::Local(Local::Help { command: arguments.0.next() }))
}

fn get(mut arguments: Arguments) -> Result<Request, Reply> {
    Ok(Request::Read(Query::Get { key: arguments.key()? }))
}

fn set(mut arguments: Arguments) -> Result<Request, Reply> {
    let (key, value) = (arguments.key()?, arguments.value()?);
    let option = arguments.0.next().map(|option| option.to_ascii_uppercase());
    let condition = match option.as_deref() {
        None => Condition::Always,
        Some(b"NX") => Condition::IfAbsent,
        Some(b"XX") => Condition::IfPresent,
        Some(b"IFEQ") if arguments.0.len() > 0 => Condition::IfEqual(arguments.value()?),
        Some(b"IFEQ") => return Err(Reply::err("SET: IFEQ takes the old value")),
        Some(other) => {
            let text = format!("SET: expected NX, XX or IFEQ old, got {}", shown(other));
            return Err(Reply::err(text));
        }
    };
    match arguments.0.next() {
        None => Ok(Request::Write(Command::set(key, value, condition).into())),
        Some(_) => Err(Reply::err("SET takes only one of NX, XX and IFEQ old")),
    }
}

fn delete(arguments: Arguments) -> Result<Request, Reply> {
    Ok(Request::Write(Write::Command(Command::Delete { keys: arguments.keys()? })))
}

fn exists(arguments: Arguments) -> Result<Request, Reply> {
    Ok(Request::Read(Query::Exists { keys: arguments.keys()? }))
}

fn length(mut arguments: Arguments) -> Result<Request, Reply> {
    Ok(Request::Read(Query::Length { key: arguments.key()? }))
}

fn append(mut arguments: Arguments) -> Result<Request, Reply> {
    let (key, value) = (arguments.key()?, arguments.value()?);
    Ok(Request::Write(Write::Command(Command::Append {
        key,
        value,
        value_bytes_max: VALUE_BYTES_MAX as u64,
    })))
}

fn compare_and_set(mut arguments: Arguments) -> Result<Request, Reply> {
    let (key, old, new) = (arguments.key()?, arguments.value()?, arguments.value()?);
    Ok(Request::Write(Write::Command(Command::CompareAndSet { key, old, new })))
}

fn increment_by_one(mut arguments: Arguments, delta: i64) -> Result<Request, Reply> {
    Ok(Request::Write(Write::Command(Command::Increment { key: arguments.key()?, delta })))
}

fn increment(mut arguments: Arguments) -> Result<Request, Reply> {
    let (key, delta) = (arguments.key()?, arguments.number()?);
    Ok(Request::Write(Write::Command(Command::Increment { key, delta })))
}

fn decrement(mut arguments: Arguments) -> Result<Request, Reply> {
    let (key, number) = (arguments.key()?, arguments.number()?);
    let delta = number.checked_neg().ok_or_else(Reply::not_integer)?;
    Ok(Request::Write(Write::Command(Command::Increment { key, delta })))
}

fn get_many(arguments: Arguments) -> Result<Request, Reply> {
    Ok(Request::Read(Query::GetMany { keys: arguments.keys()? }))
}

fn set_many(mut arguments: Arguments) -> Result<Request, Reply> {
    let count = arguments.0.len();
    if !count.is_multiple_of(2) {
        return Err(Reply::err(format!(
            "MSET takes pairs of key and value, got {count} arguments"
        )));
    }
    let pairs = (0..count / 2).map(|_| Ok((arguments.key()?, arguments.value()?)));
    Ok(Request::Write(Write::Command(Command::SetMany {
        pairs: pairs.collect::<Result<_, Reply>>()?,
        if_absent: false,
    })))
}

fn range(mut arguments: Arguments) -> Result<Request, Reply> {
    let (from, to) = (arguments.bound()?, arguments.bound()?);
    let pairs_max = arguments.limit("RANGE")?;
    Ok(Request::Read(Query::Range { from, to: Some(to), pairs_max }))
}

fn prefix(mut arguments: Arguments) -> Result<Request, Reply> {
    let from = arguments.key()?;
    let to = after_prefix(&from);
    let pairs_max = arguments.limit("PREFIX")?;
    Ok(Request::Read(Query::Range { from, to, pairs_max }))
}

/// The first key after all that begin with `prefix`: `ca` → `cb`; `c\xff` → `d`; none for `\xff`.
fn after_prefix(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut next = prefix[..=last].to_vec();
    next[last] += 1;
    Some(Bytes::from(next))
}
