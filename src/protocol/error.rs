//! Errors, by what a client may conclude from them.
//!
//! For errors the kind of answer is a type: [`Wrong`] (never retry), [`Refused`] (certainly not
//! executed: retry is safe) and [`Unknown`] (may have been executed). Whoever makes an error has to
//! choose, so an unknown cannot be dressed as a refusal by a slip in a string.
//!
//! Each is spelled twice: for people in a sentence that says what and where (`Display`), and for
//! programs as Redis spells it ([`Error::for_programs`]), because clients and their tests compare.

use std::fmt;

use crate::protocol::commands::Arity;

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

/// Why a request is wrong. Nothing of it was executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// ERR: what the text says, in both spellings.
    Other(String),
    /// ERR: options that do not exist or contradict each other; the text says which.
    Syntax(String),
    /// ERR: no such command.
    UnknownCommand {
        /// The client's word, made fit to be shown.
        word: String,
        /// The first of its arguments, each in quotes and followed by a space.
        arguments: String,
        /// A command that may be meant.
        nearest: Option<&'static str>,
    },
    /// ERR: a command with subcommands has none of this name.
    UnknownSubcommand {
        /// The command.
        command: &'static str,
        /// The client's word, made fit to be shown.
        word: String,
    },
    /// ERR: too few or too many arguments.
    Arity {
        /// The command.
        command: &'static str,
        /// How many it takes.
        arity: Arity,
        /// How many there were.
        got: usize,
    },
    /// ERR: a command takes pairs of key and value, and one half is missing.
    Pairs {
        /// The command.
        command: &'static str,
        /// How many arguments there were.
        got: usize,
    },
    /// ERR: a deadline that is not positive where it must be, or beyond what can be counted.
    ExpireTime {
        /// The command; `None` if only the store found out.
        command: Option<&'static str>,
    },
    /// ERR: SELECT of anything but 0.
    DatabaseIndex,
    /// ERR: SCAN with something that is no cursor.
    Cursor,
    /// TOOBIG: over a limit.
    TooBig(String),
    /// NOTINT: not an integer.
    NotInteger,
    /// NOTINT: the sum would leave the range of integers.
    Overflow,
    /// NOPROTO: HELLO with a version that does not exist.
    ProtocolVersion,
    /// ERR: a command stands where transactions do not allow it.
    Transaction(TransactionError),
    /// NOPERM: what an operator may do, and only from the server's own host.
    NotPermitted,
    /// EXECABORT: the transaction was not executed, as one of its commands had an error.
    Discarded,
    /// EXECABORT: the transaction was not executed, as a WATCH had an error.
    WatchFailed,
}

/// What cannot be done with transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionError {
    /// MULTI within MULTI.
    Nested,
    /// EXEC without MULTI.
    ExecOutside,
    /// DISCARD without MULTI.
    DiscardOutside,
    /// WATCH within MULTI.
    WatchInside,
}

/// Why a request was refused. To be used only where it is proven that no log entry exists for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// NOLEADER: no leader is known, and the request never left this server.
    NoLeader(String),
    /// NOTLEADER: must be asked of the leader itself.
    NotLeader {
        /// The leader's id.
        server: u32,
        /// Where clients reach it.
        address: String,
    },
    /// TRYAGAIN: a limit is reached; the text names it.
    TryAgain {
        /// What is full.
        limit: &'static str,
        /// The limit's value.
        max: usize,
    },
    /// TRYAGAIN: there was no room, or no answer, in time.
    Busy(&'static str),
    /// NOSPACE: there is no room on the leader's disk, or not on those of a majority.
    NoSpace {
        /// Whose.
        server: u32,
        /// Bytes that its data directory takes.
        used_bytes: u64,
        /// Bytes that it may take.
        limit_bytes: u64,
    },
    /// LOADING: this server is starting.
    Loading {
        /// What it is busy with.
        doing: &'static str,
        /// For how long it has been starting.
        seconds: u64,
    },
    /// SHUTDOWN: this server is stopping.
    Shutdown,
}

/// The outcome is unknown; the text says what is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown(pub String);

impl Error {
    /// The error's stable first word, for people.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Wrong(Wrong::TooBig(_)) => "TOOBIG",
            Error::Wrong(Wrong::NotInteger | Wrong::Overflow) => "NOTINT",
            Error::Wrong(Wrong::ProtocolVersion) => "NOPROTO",
            Error::Wrong(Wrong::NotPermitted) => "NOPERM",
            Error::Wrong(Wrong::Discarded | Wrong::WatchFailed) => "EXECABORT",
            Error::Wrong(_) => "ERR",
            Error::Refused(Refused::NoLeader(_)) => "NOLEADER",
            Error::Refused(Refused::NotLeader { .. }) => "NOTLEADER",
            Error::Refused(Refused::TryAgain { .. } | Refused::Busy(_)) => "TRYAGAIN",
            Error::Refused(Refused::NoSpace { .. }) => "NOSPACE",
            Error::Refused(Refused::Loading { .. }) => "LOADING",
            Error::Refused(Refused::Shutdown) => "SHUTDOWN",
            Error::Unknown(_) => "UNKNOWN",
        }
    }

    /// The whole error as Redis spells it, the code included; in our words where Redis has none.
    pub fn for_programs(&self) -> String {
        match self {
            Error::Wrong(wrong) => wrong.for_programs(),
            Error::Refused(Refused::NoLeader(text)) => format!("CLUSTERDOWN No leader: {text}"),
            Error::Refused(Refused::NotLeader { address, .. }) => format!("MOVED 0 {address}"),
            _ => format!("{} {self}", self.code()),
        }
    }
}

impl Wrong {
    fn for_programs(&self) -> String {
        let lower = str::to_ascii_lowercase;
        match self {
            Wrong::Other(text) => format!("ERR {text}"),
            Wrong::Syntax(_) => "ERR syntax error".to_owned(),
            Wrong::UnknownCommand { word, arguments, .. } => {
                format!("ERR unknown command '{word}', with args beginning with: {arguments}")
            }
            Wrong::UnknownSubcommand { command, word } => {
                format!("ERR unknown subcommand '{word}'. Try HELP {command}.")
            }
            Wrong::Arity { command, .. } | Wrong::Pairs { command, .. } => {
                let command = lower(command).replace(' ', "|");
                format!("ERR wrong number of arguments for '{command}' command")
            }
            Wrong::ExpireTime { command } => {
                let command = command.map_or("expire".to_owned(), lower);
                format!("ERR invalid expire time in '{command}' command")
            }
            Wrong::DatabaseIndex => "ERR DB index is out of range".to_owned(),
            Wrong::Cursor => "ERR invalid cursor".to_owned(),
            Wrong::NotInteger => "ERR value is not an integer or out of range".to_owned(),
            Wrong::Overflow => "ERR increment or decrement would overflow".to_owned(),
            Wrong::ProtocolVersion => "NOPROTO unsupported protocol version".to_owned(),
            Wrong::Transaction(TransactionError::Nested) => {
                "ERR MULTI calls can not be nested".to_owned()
            }
            Wrong::Transaction(TransactionError::ExecOutside) => {
                "ERR EXEC without MULTI".to_owned()
            }
            Wrong::Transaction(TransactionError::DiscardOutside) => {
                "ERR DISCARD without MULTI".to_owned()
            }
            Wrong::Transaction(TransactionError::WatchInside) => {
                "ERR WATCH inside MULTI is not allowed".to_owned()
            }
            Wrong::Discarded => {
                "EXECABORT Transaction discarded because of previous errors.".to_owned()
            }
            Wrong::WatchFailed => {
                "EXECABORT Transaction discarded because WATCH failed.".to_owned()
            }
            Wrong::NotPermitted => format!("NOPERM {self}"),
            Wrong::TooBig(text) => format!("TOOBIG {text}"),
        }
    }
}

/// The error's sentence for people, without the code.
impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Wrong(wrong) => wrong.fmt(formatter),
            Error::Refused(refused) => refused.fmt(formatter),
            Error::Unknown(Unknown(text)) => formatter.write_str(text),
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Other(text) | Wrong::Syntax(text) | Wrong::TooBig(text) => {
                formatter.write_str(text)
            }
            Wrong::UnknownCommand { word, nearest: Some(nearest), .. } => {
                write!(formatter, "unknown command {word}; did you mean {nearest}?")
            }
            Wrong::UnknownCommand { word, nearest: None, .. } => {
                write!(formatter, "unknown command {word}; HELP lists all commands")
            }
            Wrong::UnknownSubcommand { command, word } => {
                write!(formatter, "{command}: unknown subcommand {word}; see HELP {command}")
            }
            Wrong::Arity { command, arity, got } => {
                write!(formatter, "{command} takes {arity}, got {got}")
            }
            Wrong::Pairs { command, got } => {
                write!(formatter, "{command} takes pairs of key and value, got {got} arguments")
            }
            Wrong::ExpireTime { command } => write!(
                formatter,
                "{}: the time to expire must be positive and below 2^63 milliseconds",
                command.unwrap_or("expiry")
            ),
            Wrong::DatabaseIndex => formatter.write_str("there is only database 0"),
            Wrong::Cursor => formatter
                .write_str("SCAN: the cursor is a number: 0 to begin, then what SCAN answered"),
            Wrong::NotInteger => formatter.write_str("value is not an integer or out of range"),
            Wrong::Overflow => formatter
                .write_str("the result would be out of range for a 64-bit integer; unchanged"),
            Wrong::ProtocolVersion => {
                formatter.write_str("HELLO takes 1 (lines), 2 (RESP2) or 3 (RESP3)")
            }
            Wrong::NotPermitted => {
                formatter.write_str("only from the host that the server runs on")
            }
            Wrong::Transaction(error) => error.fmt(formatter),
            Wrong::Discarded => formatter
                .write_str("a queued command had an error; nothing was executed, MULTI is over"),
            Wrong::WatchFailed => formatter.write_str(
                "WATCH could not read its keys; nothing was executed, begin again with WATCH",
            ),
        }
    }
}

impl fmt::Display for TransactionError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            TransactionError::Nested => "MULTI has begun already; end it with EXEC or DISCARD",
            TransactionError::ExecOutside => "EXEC ends what MULTI begins, and there is no MULTI",
            TransactionError::DiscardOutside => {
                "DISCARD ends what MULTI begins, and there is no MULTI"
            }
            TransactionError::WatchInside => "WATCH must come before MULTI",
        })
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::NoLeader(text) => formatter.write_str(text),
            Refused::NotLeader { server, address } => write!(
                formatter,
                "server {server} at {address} leads; nothing was executed, ask there"
            ),
            Refused::TryAgain { limit, max } => write!(
                formatter,
                "{limit} reached its limit of {max}; nothing was executed, try again"
            ),
            Refused::Busy(text) => formatter.write_str(text),
            Refused::NoSpace { server, used_bytes, limit_bytes } => write!(
                formatter,
                "{used_bytes}/{limit_bytes} bytes used on server {server}: the disk is full; \
                 nothing was executed, reads go on, deletions make room"
            ),
            Refused::Loading { doing, seconds } => write!(
                formatter,
                "this server is starting, {doing}, {seconds} s so far; nothing was executed, try \
                 again or use another one"
            ),
            Refused::Shutdown => formatter
                .write_str("this server is stopping; nothing was executed, use another one"),
        }
    }
}

impl From<TransactionError> for Wrong {
    fn from(error: TransactionError) -> Wrong {
        Wrong::Transaction(error)
    }
}

/// A client's bytes within an error or a list: on one line, and not all of them.
pub fn shown(bytes: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 32;
    let ellipsis = if bytes.len() > SHOWN_BYTES_MAX { "..." } else { "" };
    format!("{}{ellipsis}", bytes[..bytes.len().min(SHOWN_BYTES_MAX)].escape_ascii())
}
