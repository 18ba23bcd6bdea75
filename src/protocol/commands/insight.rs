//! Commands about the server: what it knows, what is in its log, what changes.

use crate::kv::command::parse_integer;
use crate::limits::{BACKUP_READ_BYTES_MAX, LOG_ENTRIES_SHOWN_MAX, WAIT_INDEX_MS_MAX};
use crate::protocol::error::{Wrong, shown};
use crate::protocol::request::{Admin, Insight, Local, Request};

use super::arguments::{Arguments, is};
use super::session::local;
use super::{Action, Arity, docs};

/// Entries that LOG shows unless the client says otherwise.
const LOG_ENTRIES_SHOWN: usize = 10;

/// STATUS
pub fn status(_: Arguments<'_>) -> Result<Action, Wrong> {
    local(Local::Insight(Insight::Status))
}

/// INFO [section…]
pub fn info(arguments: Arguments<'_>) -> Result<Action, Wrong> {
    local(Local::Insight(Insight::Info { sections: arguments.into_words().collect() }))
}

/// LOG from [count]
pub fn log(mut arguments: Arguments<'_>) -> Result<Action, Wrong> {
    let from = arguments.position(1)?;
    let max = LOG_ENTRIES_SHOWN_MAX;
    let count = match arguments.next() {
        None => LOG_ENTRIES_SHOWN,
        Some(word) => {
            let number = parse_integer(&word).ok_or(Wrong::NotInteger)?;
            let count = usize::try_from(number).ok().filter(|count| (1..=max).contains(count));
            let text = || Wrong::Other(format!("LOG shows from 1 to {max} entries at once"));
            count.ok_or_else(text)?
        }
    };
    local(Local::Insight(Insight::Log { from, count }))
}

/// WAITINDEX index ms
pub fn wait_index(mut arguments: Arguments<'_>) -> Result<Action, Wrong> {
    let (index, wait_ms) = (arguments.position(0)?, arguments.position(0)?);
    if wait_ms > WAIT_INDEX_MS_MAX {
        let text = format!("WAITINDEX waits for at most {WAIT_INDEX_MS_MAX} ms");
        return Err(Wrong::Other(text));
    }
    Ok(Action::Ask(Request::WaitIndex { index, wait_ms }))
}

/// CONFIG GET pattern…
pub fn config(mut arguments: Arguments<'_>) -> Result<Action, Wrong> {
    let word = arguments.word();
    if !is(&word, "GET") {
        return Err(Wrong::UnknownSubcommand { command: "CONFIG", word: shown(&word) });
    }
    if arguments.count() == 0 {
        return Err(Wrong::Arity { command: "CONFIG GET", arity: Arity::at_least(1), got: 0 });
    }
    let patterns = (0..arguments.count()).map(|_| arguments.pattern());
    let patterns = patterns.collect::<Result<_, _>>()?;
    local(Local::Insight(Insight::ConfigGet { patterns }))
}

/// RAFT TRANSFER [server] | RAFT SNAPSHOT
pub fn raft(mut arguments: Arguments<'_>) -> Result<Action, Wrong> {
    let word = arguments.word();
    let server = arguments.next();
    let admin = match &server {
        None if is(&word, "SNAPSHOT") => Admin::Snapshot,
        None if is(&word, "TRANSFER") => Admin::Transfer { to: None },
        Some(server) if is(&word, "TRANSFER") => {
            let id = parse_integer(server).and_then(|id| u32::try_from(id).ok());
            Admin::Transfer { to: Some(id.ok_or(Wrong::NotInteger)?) }
        }
        Some(_) if is(&word, "SNAPSHOT") => {
            return Err(Wrong::Arity {
                command: "RAFT SNAPSHOT",
                arity: Arity::exactly(0),
                got: 1,
            });
        }
        _ => return Err(Wrong::UnknownSubcommand { command: "RAFT", word: shown(&word) }),
    };
    local(Local::Admin(admin))
}

/// BACKUP BEGIN index | BACKUP READ index offset count
pub fn backup(mut arguments: Arguments<'_>) -> Result<Action, Wrong> {
    let word = arguments.word();
    let got = arguments.count();
    let exactly = |command, count| match got == count {
        true => Ok(()),
        false => Err(Wrong::Arity { command, arity: Arity::exactly(count), got }),
    };
    let admin = if is(&word, "BEGIN") {
        exactly("BACKUP BEGIN", 1)?;
        Admin::BackupBegin { index: arguments.position(0)? }
    } else if is(&word, "READ") {
        exactly("BACKUP READ", 3)?;
        let (index, offset_bytes) = (arguments.position(1)?, arguments.position(0)?);
        let max = BACKUP_READ_BYTES_MAX;
        let count = usize::try_from(arguments.position(0)?).ok();
        let count_bytes = count.filter(|count| (1..=max).contains(count)).ok_or_else(|| {
            Wrong::Other(format!("BACKUP READ answers from 1 to {max} bytes at once"))
        })?;
        Admin::BackupRead { index, offset_bytes, count_bytes }
    } else {
        return Err(Wrong::UnknownSubcommand { command: "BACKUP", word: shown(&word) });
    };
    local(Local::Admin(admin))
}

/// FEED prefix [FROM index]
pub fn feed(mut arguments: Arguments<'_>) -> Result<Action, Wrong> {
    let prefix = arguments.key()?;
    let from = match arguments.next() {
        None => None,
        Some(word) if is(&word, "FROM") && arguments.count() == 1 => Some(arguments.position(1)?),
        Some(word) => return Err(arguments.unexpected("FROM index", &word)),
    };
    Ok(Action::Ask(Request::Feed { prefix, from }))
}

/// COMMAND [COUNT|LIST|INFO [name…]|DOCS [name…]]
pub fn command(mut arguments: Arguments<'_>) -> Result<Action, Wrong> {
    let word = arguments.next();
    let names: Vec<_> = arguments.into_words().collect();
    let reply = match &word {
        None => docs::info(&[]),
        Some(word) if is(word, "INFO") => docs::info(&names),
        Some(word) if is(word, "DOCS") => docs::docs(&names),
        Some(word) if is(word, "COUNT") && names.is_empty() => docs::count(),
        Some(word) if is(word, "LIST") && names.is_empty() => docs::list(),
        Some(word) => {
            return Err(Wrong::UnknownSubcommand { command: "COMMAND", word: shown(word) });
        }
    };
    Ok(Action::Answer(reply))
}
