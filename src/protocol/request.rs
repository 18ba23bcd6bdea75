//! What a client asks for, once its words are understood.

use crate::kv::command::{Bytes, Query, Write};
use crate::protocol::commands::help;
use crate::protocol::reply::Reply;

/// A request, by the way it takes through the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Changes the store: goes into the log.
    Write(Write),
    /// Asks the store: answered once the state is known to be recent enough.
    Read(Query),
    /// Asks the store as this server has it, however old that is.
    StaleRead(Query),
    /// WATCH key…: a read whose outcome the conversation must be told.
    Watch {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// WAITINDEX index ms: answers the applied index as an integer, once it is at least `index` or
    /// the time is over.
    WaitIndex {
        /// The index to wait for.
        index: u64,
        /// How long to wait, in milliseconds.
        wait_ms: u64,
    },
    /// FEED prefix [FROM index]: from now on tells the changes of these keys.
    Feed {
        /// What their names begin with.
        prefix: Bytes,
        /// The log index of the first change to tell; `None`: from now on.
        from: Option<u64>,
    },
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
    /// A question about this server.
    Insight(Insight),
    /// Something that its operator wants this server to do; only from the same host.
    Admin(Admin),
}

/// What an operator can ask of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admin {
    /// RAFT TRANSFER [id]: hand leadership over to this server, or to the one best placed.
    Transfer {
        /// Whom to.
        to: Option<u32>,
    },
    /// RAFT SNAPSHOT: take a snapshot now.
    Snapshot,
    /// BACKUP BEGIN index: wait for a snapshot of this index or a later one, and keep it at hand
    /// for this connection.
    BackupBegin {
        /// What it is to hold at the least.
        index: u64,
    },
    /// BACKUP READ index offset count: bytes of the snapshot that the connection has at hand.
    BackupRead {
        /// The index that BEGIN has answered.
        index: u64,
        /// Where the bytes stand in the snapshot's file.
        offset_bytes: u64,
        /// How many at the most.
        count_bytes: usize,
    },
}

impl Admin {
    /// Whether the answer may take long: what stands before it must not wait for it.
    pub fn waits(&self) -> bool {
        matches!(self, Admin::BackupBegin { .. })
    }
}

/// What can be asked about a server, and only the server knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Insight {
    /// STATUS
    Status,
    /// INFO [section…]
    Info {
        /// Which sections; none: the usual ones.
        sections: Vec<Bytes>,
    },
    /// LOG from [count]
    Log {
        /// The first index.
        from: u64,
        /// How many entries at the most.
        count: usize,
    },
    /// CONFIG GET pattern…
    ConfigGet {
        /// Globs, of which one has to match a setting's name.
        patterns: Vec<Bytes>,
    },
    /// CLIENT LIST
    ClientList,
}

impl Request {
    /// The weight of this request against the byte bounds.
    pub fn bytes(&self) -> usize {
        match self {
            Request::Write(write) => write.bytes(),
            Request::Read(query) | Request::StaleRead(query) => query.bytes(),
            Request::Watch { keys } => keys.iter().map(|key| key.len()).sum(),
            Request::Feed { prefix, .. } => prefix.len(),
            Request::Local(
                Local::Ping { message: Some(bytes) } | Local::Echo { message: bytes },
            ) => bytes.len(),
            Request::Local(_) | Request::WaitIndex { .. } => 0,
        }
    }
}

impl Local {
    /// The answer, where the protocol alone knows it; `None` for what only the server knows.
    pub fn reply(&self) -> Option<Reply> {
        match self {
            Local::Ping { message: None } => Some(Reply::Text("PONG")),
            Local::Ping { message: Some(message) } | Local::Echo { message } => {
                Some(Reply::Value(message.clone()))
            }
            Local::Help { command } => Some(help::help(command.as_ref())),
            Local::Quit => Some(Reply::Ok),
            Local::Insight(_) | Local::Admin(_) => None,
        }
    }
}
