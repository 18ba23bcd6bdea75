//! A server of one, whose log is a counter: conversation, state machine and printer.

use raft_server::kv::command::{Outcome, Query, RequestId};
use raft_server::kv::{StateMachine, encoding};
use raft_server::limits::REPLY_BYTES_MAX;
use raft_server::protocol::{CloseReason, Conversation, Input, Limits, Parsed, Reply, Request};

pub struct Server {
    pub conversation: Conversation,
    pub machine: StateMachine,
    /// What the client has received.
    pub output: Vec<u8>,
    pub closed: Option<CloseReason>,
}

impl Default for Server {
    fn default() -> Server {
        Server::with_limits(Limits::default())
    }
}

impl Server {
    pub fn with_limits(limits: Limits) -> Server {
        Server {
            conversation: Conversation::new(7, "127.0.0.1:5000".to_owned(), limits),
            machine: StateMachine::default(),
            output: Vec::new(),
            closed: None,
        }
    }

    pub fn receive(&mut self, bytes: &[u8]) {
        self.conversation.push(bytes);
        while let Some(parsed) = self.conversation.next() {
            self.handle(parsed);
        }
    }

    pub fn finish(&mut self) {
        if let Some(parsed) = self.conversation.finish() {
            self.handle(parsed);
        }
    }

    fn handle(&mut self, parsed: Parsed) {
        let reply = match parsed.input {
            Input::Reply(reply) => reply,
            Input::Close(reason) => {
                assert_eq!(self.closed, None, "a connection closes once");
                self.closed = Some(reason);
                return reason.farewell(parsed.dialect, &mut self.output);
            }
            Input::Request(request) => self.execute(request),
        };
        parsed.dialect.print(&reply, &mut self.output);
    }

    fn execute(&mut self, request: Request) -> Reply {
        match request {
            Request::Read(query) | Request::StaleRead(query) => {
                self.machine.query(&query, 0, REPLY_BYTES_MAX).into()
            }
            Request::Local(local) => local.reply().unwrap_or(Reply::Lines(vec!["fine".into()])),
            Request::Watch { keys } => {
                let outcome = self.machine.query(&Query::Watch { keys }, 0, REPLY_BYTES_MAX);
                self.conversation.watched(match &outcome {
                    Outcome::Watched { seen_at, existed } => Some((*seen_at, existed.clone())),
                    _ => None,
                });
                outcome.into()
            }
            Request::WaitIndex { .. } => {
                self.machine.query(&Query::AppliedIndex, 0, REPLY_BYTES_MAX).into()
            }
            Request::Feed { .. } => Reply::Ok,
            Request::Write(command) => {
                let index = self.machine.applied_index() + 1;
                let mut bytes = encoding::encode(&command);
                let id = RequestId { server: 1, incarnation: 1, serial: index };
                encoding::stamp(&mut bytes, id, index);
                let outcome = self.machine.apply(index, 0, &bytes, &mut Vec::new()).outcome;
                outcome.expect("every serial is new").into()
            }
        }
    }
}

/// What a new server answers to this input, which then ends.
pub fn answers(input: impl AsRef<[u8]>) -> String {
    let mut server = Server::default();
    server.receive(input.as_ref());
    server.finish();
    String::from_utf8(server.output).expect("the answers are UTF-8")
}

/// `> ` lines are typed, the others must come back.
pub fn play(script: &str) {
    let mut server = Server::default();
    let mut expected = String::new();
    for line in script.lines().map(str::trim_start).filter(|line| !line.is_empty()) {
        if let Some(typed) = line.strip_prefix("> ") {
            assert_eq!(String::from_utf8_lossy(&server.output), expected);
            server.receive(format!("{typed}\n").as_bytes());
        } else {
            expected += &format!("{line}\n");
        }
    }
    assert_eq!(String::from_utf8_lossy(&server.output), expected);
}

/// A request as programs send it.
pub fn array<A: AsRef<[u8]>>(arguments: &[A]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        let argument = argument.as_ref();
        bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// The same, of words between blanks.
pub fn words(text: &str) -> Vec<u8> {
    array(&text.split(' ').collect::<Vec<_>>())
}

/// All that is asked for in this input, which then ends.
pub fn inputs(input: impl AsRef<[u8]>) -> Vec<Input> {
    let mut conversation = Conversation::new(7, String::new(), Limits::default());
    conversation.push(input.as_ref());
    let mut found = Vec::new();
    while let Some(parsed) = conversation.next() {
        found.push(parsed.input);
    }
    found.extend(conversation.finish().map(|parsed| parsed.input));
    found
}
