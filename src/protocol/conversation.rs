//! A connection's side of the protocol: from bytes to requests, and what the connection remembers
//! between them: HELLO's version, a name, MULTI's queue, what WATCH found, and whether it feeds.
//!
//! The conversation answers by itself what concerns only itself; it hands the rest on as
//! [`Request`]s. Whatever ends the connection ends the parsing: after a `Close`, and after QUIT,
//! nothing is executed that the client may have sent behind it.
//!
//! In a transaction only commands and queries can be queued that the store answers. What concerns
//! the connection or the server is refused when it would be queued: the transaction is executed by
//! every server when it is applied, and there is no connection there.

use crate::kv::command::{Bytes, Operation, Query, Write};
use crate::protocol::bounds::Limits;
use crate::protocol::close::CloseReason;
use crate::protocol::commands::{self, Action, Session};
use crate::protocol::dialect::Dialect;
use crate::protocol::error::Wrong;
use crate::protocol::parser::{Form, Found, Parser, Piece};
use crate::protocol::reply::Reply;
use crate::protocol::request::{Local, Request};
use crate::protocol::transaction::Transaction;

/// The Redis whose behaviour ours is where commands have the same name; clients ask for it.
pub const REDIS_VERSION: &str = "7.2.0";

/// One client's side of the protocol.
#[derive(Clone, Debug)]
pub struct Conversation {
    parser: Parser,
    limits: Limits,
    /// By which CLIENT ID names the connection.
    client_id: u64,
    /// Where the client is, for people.
    peer: String,
    /// What HELLO chose: 1, 2 or 3.
    version: u8,
    /// What the client calls its connection; empty if it has not.
    name: Bytes,
    transaction: Transaction,
    /// After FEED.
    feeding: bool,
}

/// One thing that a client's bytes ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// What it is.
    pub input: Input,
    /// How to answer it.
    pub dialect: Dialect,
    /// How many bytes it takes until it is answered.
    pub bytes: usize,
}

/// What a client's bytes ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// To execute this.
    Request(Request),
    /// Nothing that the server has to execute: send this reply in its turn, and go on.
    Reply(Reply),
    /// To end: send what `CloseReason::farewell` says after the replies still due, and close.
    Close(CloseReason),
}

impl Conversation {
    /// A conversation with a client that has said nothing yet.
    pub fn new(client_id: u64, peer: String, limits: Limits) -> Conversation {
        Conversation {
            parser: Parser::new(limits.clone()),
            limits,
            client_id,
            peer,
            version: 1,
            name: Bytes::default(),
            transaction: Transaction::default(),
            feeding: false,
        }
    }

    /// Takes in what was received. Pull all there is with `next` before the next push.
    pub fn push(&mut self, bytes: &[u8]) {
        self.parser.push(bytes);
    }

    /// The next thing asked for, or `None` until more is pushed.
    // Not an iterator: `None` does not mean the end.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Parsed> {
        let found = self.parser.next()?;
        Some(self.understand(found))
    }

    /// The client will send no more. To be called when `next` has returned `None`.
    pub fn finish(&mut self) -> Option<Parsed> {
        let found = self.parser.finish()?;
        Some(self.understand(found))
    }

    /// The outcome of the last `Request::Watch`, to be told before `next` is called again: the log
    /// index up to which the state machine had applied, and which of the keys existed. `None`: it
    /// could not be read; then the next EXEC executes nothing.
    pub fn watched(&mut self, seen: Option<(u64, Vec<bool>)>) {
        self.transaction.watched(seen);
    }

    /// Whether a request has begun to arrive and is not complete: it has a deadline.
    pub fn is_within_request(&self) -> bool {
        self.parser.is_within_request()
    }

    /// Whether the input is over: after a close or QUIT it ignores what is pushed.
    pub fn is_closed(&self) -> bool {
        self.parser.is_closed()
    }

    /// How much memory the client's bytes take here, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.parser.held_bytes() + self.transaction.held_bytes()
    }

    /// What the client calls its connection; empty if it has not.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The last `Request::Feed` was refused: the connection goes on as before.
    pub fn feed_refused(&mut self) {
        self.feeding = false;
    }

    /// In which dialect a request in this form is answered.
    fn dialect(&self, form: Form) -> Dialect {
        match (form, self.version) {
            (Form::Line(end), 1) => Dialect::Line(end),
            (_, 3) => Dialect::Resp3,
            _ => Dialect::Resp2,
        }
    }

    fn understand(&mut self, found: Found) -> Parsed {
        let Found { what, form, bytes } = found;
        let input = match what {
            Piece::Close(reason) => Input::Close(reason),
            Piece::Wrong { wrong, word } => self.refuse(is_watch(&word), wrong),
            Piece::Arguments(arguments) => {
                let is_watch = is_watch(&arguments[0]);
                match commands::understand(arguments, &self.limits)
                    .and_then(|action| self.act(action, form))
                {
                    Ok(input) => input,
                    Err(wrong) => self.refuse(is_watch, wrong),
                }
            }
        };
        // After the request was understood: HELLO is answered as it chose.
        Parsed { input, dialect: self.dialect(form), bytes }
    }

    /// Errors of the transaction's own words leave it as it is, as in Redis; every other error
    /// poisons it.
    fn refuse(&mut self, is_watch: bool, wrong: Wrong) -> Input {
        if is_watch && matches!(wrong, Wrong::TooBig(_)) {
            self.transaction.watch_failed();
        }
        if !matches!(wrong, Wrong::Transaction(_)) {
            self.transaction.poison();
        }
        Input::Reply(wrong.into())
    }

    fn act(&mut self, action: Action, form: Form) -> Result<Input, Wrong> {
        if self.feeding && !is_allowed_while_feeding(&action) {
            let text = "after FEED only PING and QUIT are accepted; open another connection";
            return Err(Wrong::Other(text.to_owned()));
        }
        match action {
            Action::Session(session) => self.change(session, form),
            Action::Ask(Request::Local(Local::Quit)) => {
                self.parser.stop();
                Ok(Input::Request(Request::Local(Local::Quit)))
            }
            Action::Ask(Request::Watch { keys }) => {
                self.transaction.watch(&keys, &self.limits)?;
                Ok(Input::Request(Request::Watch { keys }))
            }
            action if self.transaction.is_open() => self.queue(action),
            Action::Answer(reply) => Ok(Input::Reply(reply)),
            Action::Ask(Request::Feed { prefix, from }) => {
                if self.dialect(form) == Dialect::Resp2 {
                    let text = "FEED needs RESP3, which has push messages: send HELLO 3 first";
                    return Err(Wrong::Other(text.to_owned()));
                }
                self.feeding = true;
                Ok(Input::Request(Request::Feed { prefix, from }))
            }
            Action::Ask(Request::Local(local)) => Ok(match local.reply() {
                Some(reply) => Input::Reply(reply),
                None => Input::Request(Request::Local(local)),
            }),
            Action::Ask(request) => Ok(Input::Request(request)),
        }
    }

    fn queue(&mut self, action: Action) -> Result<Input, Wrong> {
        let operation = match action {
            Action::Ask(Request::Write(Write::Command(command))) => Operation::Command(command),
            Action::Ask(Request::Read(query)) => Operation::Query(query),
            // What is answered at once outside of a transaction is answered in its turn within one.
            Action::Answer(Reply::Ok) => Operation::Query(Query::Acknowledge),
            Action::Ask(Request::Local(Local::Ping { message })) => {
                Operation::Query(Query::Echo { message })
            }
            Action::Ask(Request::Local(Local::Echo { message })) => {
                Operation::Query(Query::Echo { message: Some(message) })
            }
            _ => {
                let text = "only commands about keys can be part of a transaction, and no ONCE or \
                            STALE; EXEC will execute nothing";
                return Err(Wrong::Other(text.to_owned()));
            }
        };
        self.transaction.queue(operation, &self.limits)?;
        Ok(Input::Reply(Reply::Text("QUEUED")))
    }

    fn change(&mut self, session: Session, form: Form) -> Result<Input, Wrong> {
        let reply = match session {
            Session::Multi => self.transaction.begin().map(|()| Reply::Ok)?,
            Session::Discard => self.transaction.discard().map(|()| Reply::Ok)?,
            Session::Exec => match self.transaction.take()? {
                Some(write) => return Ok(Input::Request(Request::Write(write))),
                None => Reply::List(Vec::new()),
            },
            Session::Reset => {
                self.transaction = Transaction::default();
                (self.version, self.name) = (1, Bytes::default());
                Reply::Text("RESET")
            }
            Session::Unwatch if self.transaction.is_open() => {
                return self.queue(Action::Answer(Reply::Ok));
            }
            _ if self.transaction.is_open() => {
                let text = "the connection cannot be changed within a transaction; EXEC will \
                            execute nothing";
                return Err(Wrong::Other(text.to_owned()));
            }
            Session::Unwatch => {
                self.transaction.unwatch();
                Reply::Ok
            }
            Session::Hello { version, name } => {
                self.version = version.unwrap_or(self.version);
                self.name = name.unwrap_or_else(|| self.name.clone());
                self.introduction(form)
            }
            Session::SetName(name) => {
                self.name = name;
                Reply::Ok
            }
            Session::GetName if self.name.is_empty() => Reply::Nothing,
            Session::GetName => Reply::Value(self.name.clone()),
            Session::Id => Reply::Integer(self.id()),
            Session::Info => Reply::Lines(vec![self.description(form)]),
        };
        Ok(Input::Reply(reply))
    }

    /// What HELLO answers. `master` on every server: to clients that know replicas it means that
    /// writes are welcome.
    fn introduction(&self, form: Form) -> Reply {
        let text = |text: &str| Reply::Value(Bytes::from(text.as_bytes()));
        Reply::Map(vec![
            (text("server"), text("raft-server")),
            (text("version"), text(REDIS_VERSION)),
            (text("proto"), Reply::Integer(self.dialect(form).number())),
            (text("id"), Reply::Integer(self.id())),
            (text("mode"), text("standalone")),
            (text("role"), text("master")),
            (text("modules"), Reply::List(Vec::new())),
        ])
    }

    fn id(&self) -> i64 {
        i64::try_from(self.client_id).unwrap_or(i64::MAX)
    }

    fn description(&self, form: Form) -> String {
        let (id, peer) = (self.client_id, &self.peer);
        let name = String::from_utf8_lossy(&self.name);
        format!("id={id} addr={peer} name={name} resp={}", self.dialect(form).number())
    }
}

fn is_watch(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"WATCH")
}

fn is_allowed_while_feeding(action: &Action) -> bool {
    matches!(action, Action::Ask(Request::Local(Local::Ping { .. } | Local::Quit)))
}
