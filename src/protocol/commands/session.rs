//! Commands about the connection, about transactions, and ONCE.

use crate::kv::command::{Bytes, Write, parse_integer};
use crate::limits::CONNECTION_NAME_BYTES_MAX;
use crate::protocol::error::{Wrong, shown};
use crate::protocol::reply::Reply;
use crate::protocol::request::{Insight, Local, Request};

use super::arguments::{Arguments, is};
use super::{Action, Arity, Session, build, find, unknown_command};

/// PING [message]
pub fn ping(mut arguments: Arguments<'_>) -> Result<Action, Wrong> {
    local(Local::Ping { message: arguments.next() })
}

/// ECHO message
pub fn echo(mut arguments: Arguments<'_>) -> Result<Action, Wrong> {
    local(Local::Echo { message: arguments.word() })
}

/// HELP [command]
pub fn help(mut arguments: Arguments<'_>) -> Result<Action, Wrong> {
    local(Local::Help { command: arguments.next() })
}

/// To be answered by this server at once.
pub fn local(local: Local) -> Result<Action, Wrong> {
    Ok(Action::Ask(Request::Local(local)))
}

/// READONLY, READWRITE: every server answers reads and writes alike.
pub fn nothing_to_do(_: Arguments<'_>) -> Result<Action, Wrong> {
    Ok(Action::Answer(Reply::Ok))
}

/// SELECT index
pub fn select(mut arguments: Arguments<'_>) -> Result<Action, Wrong> {
    match arguments.number()? {
        0 => Ok(Action::Answer(Reply::Ok)),
        _ => Err(Wrong::DatabaseIndex),
    }
}

/// HELLO [version [AUTH user password] [SETNAME name]]
pub fn hello(mut arguments: Arguments<'_>) -> Result<Action, Wrong> {
    let version = match arguments.next() {
        None => None,
        Some(word) => match parse_integer(&word) {
            None => {
                let text = "Protocol version is not an integer or out of range";
                return Err(Wrong::Other(text.to_owned()));
            }
            Some(number) if number < 1 => return Err(Wrong::ProtocolVersion),
            // A newer client is glad of the newest there is.
            Some(number) => Some(u8::try_from(number.min(3)).expect("from 1 to 3")),
        },
    };
    let mut name = None;
    while let Some(option) = arguments.next() {
        if is(&option, "SETNAME") && arguments.count() > 0 {
            name = Some(connection_name(arguments.word())?);
        } else if is(&option, "AUTH") && arguments.count() > 1 {
            return Err(Wrong::Other(
                "AUTH <password> called without any password configured for the default user. \
                 Are you sure your configuration is correct?"
                    .to_owned(),
            ));
        } else {
            let option = shown(&option);
            return Err(Wrong::Other(format!("Syntax error in HELLO option '{option}'")));
        }
    }
    Ok(Action::Session(Session::Hello { version, name }))
}

/// A name must fit into CLIENT LIST, where blanks separate.
fn connection_name(name: Bytes) -> Result<Bytes, Wrong> {
    if !name.iter().all(u8::is_ascii_graphic) {
        let text = "Client names cannot contain spaces, newlines or special characters.";
        return Err(Wrong::Other(text.to_owned()));
    }
    let (bytes, max) = (name.len(), CONNECTION_NAME_BYTES_MAX);
    if bytes > max {
        return Err(Wrong::TooBig(format!("bytes of the name: {bytes}, the limit is {max}")));
    }
    Ok(name)
}

/// CLIENT ID|INFO|LIST|GETNAME|SETNAME name|SETINFO attribute text
pub fn client(mut arguments: Arguments<'_>) -> Result<Action, Wrong> {
    let word = arguments.word();
    let subcommands = [
        ("ID", "CLIENT ID", 0),
        ("INFO", "CLIENT INFO", 0),
        ("LIST", "CLIENT LIST", 0),
        ("GETNAME", "CLIENT GETNAME", 0),
        ("SETNAME", "CLIENT SETNAME", 1),
        ("SETINFO", "CLIENT SETINFO", 2),
    ];
    let Some((name, command, count)) = subcommands.into_iter().find(|(name, ..)| is(&word, name))
    else {
        return Err(Wrong::UnknownSubcommand { command: "CLIENT", word: shown(&word) });
    };
    if arguments.count() != count {
        let (arity, got) = (Arity::exactly(count), arguments.count());
        return Err(Wrong::Arity { command, arity, got });
    }
    match name {
        "ID" => Ok(Action::Session(Session::Id)),
        "INFO" => Ok(Action::Session(Session::Info)),
        "LIST" => local(Local::Insight(Insight::ClientList)),
        "GETNAME" => Ok(Action::Session(Session::GetName)),
        "SETNAME" => Ok(Action::Session(Session::SetName(connection_name(arguments.word())?))),
        _ => set_info(arguments),
    }
}

/// Client libraries tell who they are. It is accepted, and nothing is made of it.
fn set_info(mut arguments: Arguments<'_>) -> Result<Action, Wrong> {
    let attribute = arguments.word();
    if !is(&attribute, "LIB-NAME") && !is(&attribute, "LIB-VER") {
        return Err(Wrong::Other(format!("Unrecognized option '{}'", shown(&attribute))));
    }
    connection_name(arguments.word()).map(|_| Action::Answer(Reply::Ok))
}

/// WATCH key…
pub fn watch(arguments: Arguments<'_>) -> Result<Action, Wrong> {
    Ok(Action::Ask(Request::Watch { keys: arguments.keys()? }))
}

/// ONCE client sequence command…
pub fn once(mut arguments: Arguments<'_>) -> Result<Action, Wrong> {
    let client = arguments.key()?;
    if client.is_empty() {
        return Err(Wrong::Other("ONCE: the client's name is empty".to_owned()));
    }
    let sequence = arguments.position(1)?;
    let word = arguments.word();
    let limits = arguments.limits;
    let words = arguments.into_words();
    let entry = find(&word).ok_or_else(|| unknown_command(&word, words.as_slice()))?;
    let not_a_write = || {
        let name = entry.name;
        Wrong::Other(format!("ONCE takes a single command that writes, and {name} is none"))
    };
    // Asked before the command is built: ONCE within ONCE within ONCE … must not go deep (S89).
    if !entry.writes || entry.name == "ONCE" {
        return Err(not_a_write());
    }
    match build(entry, words, limits)? {
        Action::Ask(Request::Write(Write::Command(command))) => {
            Ok(Action::Ask(Request::Write(Write::Once { client, sequence, command })))
        }
        _ => Err(not_a_write()),
    }
}
