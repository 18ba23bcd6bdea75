//! What a client asks for, once its words are understood.

use crate::kv::command::{Bytes, Query, Write};
use crate::protocol::commands;
use crate::protocol::reply::Reply;

/// A request, by the way it takes through the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Changes the store: goes into the log.
    Write(Write),
    /// Asks the store: answered once the state is known to be recent enough.
    Read(Query),
    /// Concerns only this connection or this server: answered at once.
    Local(Local),
}

/// A request that needs neither log nor store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Local {
    /// PING [message]
    Ping {
        /// What to send back instead of PONG.
        message: Option<Bytes>,
    },
    /// ECHO message
    Echo {
        /// What to send back.
        message: Bytes,
    },
    /// HELP [command]
    Help {
        /// The command to explain; without it all are listed.
        command: Option<Bytes>,
    },
    /// QUIT: nothing after it is executed; close once the answer is sent.
    Quit,
    /// STATUS
    Status,
}

impl Request {
    /// The weight of this request against the byte bounds.
    pub fn bytes(&self) -> usize {
        match self {
            Request::Write(write) => write.bytes(),
            Request::Read(query) => query.bytes(),
            Request::Local(
                Local::Ping { message: Some(bytes) } | Local::Echo { message: bytes },
            ) => bytes.len(),
            Request::Local(_) => 0,
        }
    }
}

impl Local {
    /// The answer, where the protocol alone knows it; `None` for STATUS, which only the server
    /// knows.
    pub fn reply(&self) -> Option<Reply> {
        match self {
            Local::Ping { message: None } => Some(Reply::Text("PONG")),
            Local::Ping { message: Some(message) } | Local::Echo { message } => {
                Some(Reply::Value(message.clone()))
            }
            Local::Help { command } => Some(commands::help(command.as_ref())),
            Local::Quit => Some(Reply::Ok),
            Local::Status => None,
        }
    }
}
