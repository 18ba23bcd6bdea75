//! The commands: what each is called, what it takes, and what it means.
//!
//! `table` has one row per command, from which parsing, arity errors, HELP and COMMAND are made. To
//! add a command, add a row and the function that turns its arguments into an [`Action`].
//!
//! ```text
//! table ─ the rows          arguments ─ what those functions take them from
//! help  ─ HELP              data, options, session, insight ─ those functions, by subject
//! docs  ─ COMMAND           nearest ─ did you mean …?
//! ```

mod arguments;
mod data;
mod docs;
pub mod help;
mod insight;
mod nearest;
mod options;
mod session;
mod table;

use std::fmt;

use crate::kv::command::Bytes;
use crate::protocol::bounds::Limits;
use crate::protocol::error::{Wrong, shown};
use crate::protocol::reply::Reply;
use crate::protocol::request::Request;

use arguments::Arguments;
pub use table::COMMANDS;

/// What there is to know about a command.
pub struct Entry {
    /// Its word, in capitals; clients may write it as they like.
    pub name: &'static str,
    /// Its arguments, as HELP shows them: `key` and other words stand for what the client chooses,
    /// capitals for themselves, `[]` can be left out, `|` separates alternatives.
    pub arguments: &'static str,
    /// How many arguments it takes, its own word not counted.
    pub arity: Arity,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Where it belongs.
    pub group: Group,
    /// Whether it changes the store.
    pub writes: bool,
    /// Makes an action of as many arguments as `arity` allows.
    build: fn(Arguments<'_>) -> Result<Action, Wrong>,
}

/// Where a command belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// About keys and values.
    Data,
    /// About compare-and-set, transactions, and commands that are executed once.
    Transactions,
    /// About keys that expire.
    Expiry,
    /// About keys in their order.
    Scan,
    /// About the server.
    Insight,
    /// About the connection.
    Connection,
}

impl Group {
    /// All, in the order in which HELP shows them.
    pub const ALL: [Group; 6] = [
        Group::Data,
        Group::Transactions,
        Group::Expiry,
        Group::Scan,
        Group::Insight,
        Group::Connection,
    ];
}

/// What a command means to the conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// To ask the server.
    Ask(Request),
    /// To answer this at once.
    Answer(Reply),
    /// To change or to tell the connection's own state.
    Session(Session),
}

/// What concerns the connection's own state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Session {
    /// HELLO
    Hello {
        /// 1, 2 or 3; `None`: as before.
        version: Option<u8>,
        /// SETNAME
        name: Option<Bytes>,
    },
    /// CLIENT SETNAME
    SetName(Bytes),
    /// CLIENT GETNAME
    GetName,
    /// CLIENT ID
    Id,
    /// CLIENT INFO
    Info,
    /// MULTI
    Multi,
    /// EXEC
    Exec,
    /// DISCARD
    Discard,
    /// UNWATCH
    Unwatch,
    /// RESET
    Reset,
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

/// Understands a request: its arguments, the command word first and certainly there.
pub fn understand(arguments: Vec<Bytes>, limits: &Limits) -> Result<Action, Wrong> {
    let mut arguments = arguments.into_iter();
    let word = arguments.next().expect("the caller has a command word");
    let Some(entry) = find(&word) else {
        return Err(unknown_command(&word, arguments.as_slice()));
    };
    build(entry, arguments, limits)
}

fn build(
    entry: &'static Entry,
    arguments: std::vec::IntoIter<Bytes>,
    limits: &Limits,
) -> Result<Action, Wrong> {
    let got = arguments.len();
    if !entry.arity.allows(got) {
        return Err(Wrong::Arity { command: entry.name, arity: entry.arity, got });
    }
    (entry.build)(Arguments::new(entry.name, arguments, limits))
}

fn find(word: &[u8]) -> Option<&'static Entry> {
    COMMANDS.iter().find(|entry| entry.name.as_bytes().eq_ignore_ascii_case(word))
}

fn unknown_command(word: &[u8], arguments: &[Bytes]) -> Wrong {
    const SHOWN_ARGUMENTS_MAX: usize = 4;
    let arguments = arguments.iter().take(SHOWN_ARGUMENTS_MAX);
    Wrong::UnknownCommand {
        word: shown(word),
        arguments: arguments.map(|argument| format!("'{}' ", shown(argument))).collect(),
        nearest: nearest::nearest(word),
    }
}
