//! Clients: accepting them, and what each has said and is owed.
//!
//! Whoever reads from a client (the crowd's thread, or one of its own if it must wait) parses all
//! that one `read` brought and enters the server once with it. It never waits for replies (see
//! `output`). The way of some bytes:
//!
//! ```text
//! take ──▶ gather: parse ──▶ add, each request ──▶ place: a slot for each reply ──▶ submit, once
//! ```
//!
//! `take` to `place` are done client by client and end in a `Round`; one `submit` gives the server
//! what all clients of the round ask.

use std::mem;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Limits;
use crate::gateway::{self, ClientId, Slot};
use crate::kv::command::Query;
use crate::kv::encoding;
use crate::protocol::{self, Conversation, Dialect, Input, Local, Parsed, Reply, Request};
use crate::raft::types::{Command, Index};
use crate::transport::socket::prepare_for_client;

use super::admin::Admins;
use super::connections::Connections;
use super::crowd::Door;
use super::feed::Feed;
use super::history::{History, Position};
use super::insight::Insights;
use super::monitor::{Deliver, Monitor};
use super::output::{Due, Expected, Output, Watched};

/// Bytes of answers that are made before any of them is given to the output, about.
const REPLY_BYTES_AT_ONCE: usize = 256 * 1024;

/// For how many requests a round keeps room from one time to the next.
const ROUND_REQUESTS_KEPT: usize = 4096;

/// How long somebody who is refused may take to be told so.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(1);

/// What those who read from clients share.
pub struct Clients<D: Deliver> {
    /// The server.
    pub monitor: Arc<Monitor<D>>,
    /// All open connections.
    pub connections: Arc<Connections>,
    /// Bounds.
    pub limits: Arc<Limits>,
    /// What has changed lately.
    pub history: Arc<History>,
    /// What there is to tell about this server.
    pub insights: Insights<D>,
    /// What its operator may ask of it.
    pub admins: Admins<D>,
    /// Milliseconds of a tick.
    pub tick_ms: u64,
}

/// One connection, in the hands of whoever reads from it.
pub struct Client {
    id: ClientId,
    /// Shared, not cloned: one descriptor for each connection.
    socket: Arc<TcpStream>,
    output: Arc<Output>,
    conversation: Conversation,
    /// What the client calls itself, as the output knows it.
    label: Vec<u8>,
    /// When the request that is arriving must be complete.
    deadline: Option<Instant>,
}

/// Requests of one client that were read together. Its vectors are used again for the next client.
#[derive(Default)]
struct Batch {
    /// All of them, in their order.
    expected: Vec<Expected>,
    /// Those that the server is asked, by their place in `expected`.
    requests: Vec<(u64, gateway::Request)>,
    /// One of them begins a feed; behind it are only PING and QUIT.
    feed: Option<Feed>,
    /// The last of them asked for a feed and does not get it.
    feed_refused: bool,
    /// Bytes of the answers that are known already.
    reply_bytes: usize,
}

/// Requests of any number of clients with which the server is entered once.
#[derive(Default)]
pub struct Round {
    /// Of the client that is being read from, what is not placed yet.
    batch: Batch,
    requests: Vec<(ClientId, Slot, gateway::Request)>,
    /// Feeds that begin, each behind the request in this slot.
    feeds: Vec<(Feed, Slot)>,
}

/// What must happen before more of a client can be understood.
pub enum Wait {
    /// The WATCH in this slot is answered: what follows it depends on the answer.
    Watch(Slot),
    /// Replies leave: there are too many.
    Room,
    /// This wish, which takes long, is fulfilled.
    Wish(Box<Parsed>),
}

/// Why a client gets a thread of its own.
pub enum Leave {
    /// It must wait.
    Waits(Wait),
    /// It has ended, or is to be ended, and its last replies may take their time. `half_closed`: it
    /// has said itself that it will send nothing more.
    Ended {
        /// It has.
        half_closed: bool,
    },
}

impl Client {
    /// By which number the server knows it.
    pub fn id(&self) -> ClientId {
        self.id
    }

    /// Where to read from it.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Where its replies go.
    pub fn output(&self) -> &Arc<Output> {
        &self.output
    }

    /// When the request that is arriving must be complete, if one is. Between requests a client may
    /// think as long as it likes.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The request that is arriving has taken too long.
    pub fn tell_too_slow(&self, patience_ms: u64) {
        self.say_last(format!("the request did not arrive within {patience_ms} ms"));
    }

    /// What the WATCH that was waited for has found.
    pub fn watched(&mut self, seen: Option<Watched>) {
        self.conversation.watched(seen);
    }

    /// Whether nothing that the client still sends is of interest.
    fn is_over(&self) -> bool {
        self.conversation.is_closed() || self.output.is_broken()
    }

    /// An error that answers no request, in its turn.
    fn say_last(&self, text: String) {
        self.output.expect(vec![Expected {
            dialect: Dialect::UNKNOWN,
            bytes: 0,
            due: Some(Due::Reply(Reply::err(text))),
        }]);
    }

    fn note_label(&mut self) {
        if self.conversation.name() != self.label {
            self.label = self.conversation.name().to_owned();
            self.output.set_label(&self.label);
        }
    }
}

impl<D: Deliver + Send + Sync + 'static> Clients<D> {
    /// A client has connected: lets it into the crowd, unless there are too many.
    pub fn let_in(&self, socket: TcpStream, peer: SocketAddr, door: &Door) {
        if let Some(client) = self.admit(socket, peer) {
            door.enter(client);
        }
    }

    fn admit(&self, socket: TcpStream, peer: SocketAddr) -> Option<Client> {
        if let Err(error) = prepare_for_client(&socket) {
            log::debug!("client {peer} is gone already: {error}");
            return None;
        }
        let socket = Arc::new(socket);
        let output = Output::new(peer.to_string(), Arc::clone(&socket), Arc::clone(&self.limits));
        let id = self.connections.next_id();
        if !self.connections.add(id, peer, &output) {
            log::warn!("refusing client {peer}: too many connections (limits.connections)");
            refuse(&socket, "too many connections; limits.connections is reached");
            return None;
        }
        let conversation =
            Conversation::new(id.0, peer.to_string(), conversation_limits(&self.limits));
        let (label, deadline) = (Vec::new(), None);
        Some(Client { id, socket, output, conversation, label, deadline })
    }

    /// A client that was admitted cannot be served after all.
    pub fn turn_away(&self, client: &Client, why: &str) {
        refuse(&client.socket, why);
        client.output.cut();
        self.connections.remove(client.id);
    }

    /// Adds to the round what a client asks with the bytes that have arrived now. Returns why it
    /// cannot go on like this, if it cannot.
    pub fn take(
        &self,
        client: &mut Client,
        received: &[u8],
        now: Instant,
        round: &mut Round,
    ) -> Option<Leave> {
        client.conversation.push(received);
        let wait = self.gather(client, now, round);
        client.note_label();
        match wait {
            Some(wait) => Some(Leave::Waits(wait)),
            None if client.is_over() => Some(Leave::Ended { half_closed: false }),
            None => None,
        }
    }

    /// Adds to the round what can be understood of what has arrived: all of it, in one batch, as a
    /// rule. Returns what must be waited for before the rest.
    pub fn gather(&self, client: &mut Client, now: Instant, round: &mut Round) -> Option<Wait> {
        let mut wait = None;
        while let Some(parsed) = client.conversation.next() {
            // A client that never pauses between two requests is not slow: each has its own time.
            client.deadline = None;
            match parsed.input {
                Input::Request(Request::Local(Local::Admin(ref wish))) if wish.waits() => {
                    wait = Some(Wait::Wish(Box::new(parsed)));
                    break;
                }
                Input::Request(Request::Watch { .. }) => {
                    self.add(client, parsed, &mut round.batch);
                    return Some(Wait::Watch(self.place(client, round)));
                }
                _ => self.add(client, parsed, &mut round.batch),
            }
            if mem::take(&mut round.batch.feed_refused) {
                client.conversation.feed_refused();
            }
            if round.batch.reply_bytes > REPLY_BYTES_AT_ONCE {
                wait = Some(Wait::Room);
                break;
            }
        }
        if wait.is_none() {
            let due = now + Duration::from_millis(self.limits.request_arrival_ms);
            let is_arriving = client.conversation.is_within_request();
            client.deadline = is_arriving.then(|| client.deadline.unwrap_or(due));
        }
        self.place(client, round);
        wait
    }

    /// The client will send no more.
    pub fn finish(&self, client: &mut Client) {
        if let Some(parsed) = client.conversation.finish() {
            let mut batch = Batch::default();
            self.add(client, parsed, &mut batch);
            client.output.expect(batch.expected);
        }
    }

    /// Fulfils a wish that takes long.
    pub fn fulfil(&self, client: &Client, wish: Parsed) {
        let mut batch = Batch::default();
        self.add(client, wish, &mut batch);
        client.output.expect(batch.expected);
    }

    /// Gives the requests of the batch their places in the client's output, and adds to the round
    /// what the server is asked. Returns the slot of the last.
    fn place(&self, client: &Client, round: &mut Round) -> Slot {
        let batch = &mut round.batch;
        batch.reply_bytes = 0;
        let count = batch.expected.len() as u64;
        // Before the server has them: an answer finds its place waiting, however soon it comes.
        let first = client.output.expect(batch.expected.drain(..));
        let last = Slot((first.0 + count).saturating_sub(1));
        let asked = batch.requests.drain(..);
        round.requests.extend(asked.map(|(at, request)| (client.id, Slot(first.0 + at), request)));
        round.feeds.extend(batch.feed.take().map(|feed| (feed, last)));
        last
    }

    /// Enters the server once with all of the round, and leaves the round empty.
    pub fn submit(&self, round: &mut Round) {
        if !round.requests.is_empty() {
            self.monitor.with(|server| server.submit(round.requests.drain(..)));
            // One great round must not hold its memory for ever.
            round.requests.shrink_to(ROUND_REQUESTS_KEPT);
        }
        for (feed, last) in round.feeds.drain(..) {
            feed.start(last);
        }
    }

    /// Sorts what was parsed: what is answered here, and what the server is asked.
    fn add(&self, client: &Client, parsed: Parsed, batch: &mut Batch) {
        let Parsed { input, dialect, bytes } = parsed;
        let mut ask = |request| batch.requests.push((batch.expected.len() as u64, request));
        let due = match input {
            Input::Reply(reply) => Some(Due::Reply(reply)),
            Input::Close(reason) => {
                log::info!("closing a client connection: {reason}");
                Some(Due::Farewell(reason))
            }
            Input::Request(Request::Local(local)) => Some(Due::Reply(self.answer(client, &local))),
            Input::Request(Request::Write(write)) => {
                let command = Command(encoding::encode(&write));
                ask(gateway::Request::Write(command));
                None
            }
            Input::Request(Request::Read(query)) => {
                ask(gateway::Request::Read(query));
                None
            }
            Input::Request(Request::StaleRead(query)) => {
                ask(gateway::Request::StaleRead(query));
                None
            }
            Input::Request(Request::Watch { keys }) => {
                ask(gateway::Request::Read(Query::Watch { keys }));
                None
            }
            Input::Request(Request::WaitIndex { index, wait_ms }) => {
                let ticks = wait_ms.div_ceil(self.tick_ms);
                ask(gateway::Request::Wait { index: Index(index), ticks });
                None
            }
            Input::Request(Request::Feed { prefix, from }) => {
                Some(Due::Reply(match self.begin_feed(from) {
                    Ok((position, from)) => {
                        let output = Arc::clone(&client.output);
                        let history = Arc::clone(&self.history);
                        batch.feed =
                            Some(Feed { history, output, dialect, prefix, position, from });
                        Reply::Integer(i64::try_from(from).unwrap_or(i64::MAX))
                    }
                    Err(reply) => {
                        batch.feed_refused = true;
                        reply
                    }
                }))
            }
        };
        // A short request may have a long answer, which waits for those before it.
        let reply_bytes = match &due {
            Some(Due::Reply(reply)) => reply.bytes(),
            _ => 0,
        };
        batch.reply_bytes += reply_bytes;
        batch.expected.push(Expected { dialect, bytes: bytes + reply_bytes, due });
    }

    /// Where a feed begins, and the first index that it tells of. Without one to begin with that is
    /// the first that is not committed yet, which a server that is just coming up does not know: it
    /// would tell the whole log anew.
    fn begin_feed(&self, from: Option<u64>) -> Result<(Position, u64), Reply> {
        let from = match from {
            Some(from) => from,
            None => {
                let status = self.monitor.look(|server| server.raft().status());
                if !status.committed_in_term {
                    let text = "this server does not know yet what is committed; try again";
                    return Err(Reply::busy(text));
                }
                status.commit_index.0 + 1
            }
        };
        match self.history.begin(from) {
            Ok(position) => Ok((position, from)),
            Err(gone) => Err(Reply::err(gone.to_string())),
        }
    }

    fn answer(&self, client: &Client, local: &Local) -> Reply {
        let reply = match local {
            Local::Insight(question) => self.insights.answer(question),
            // Bounded by itself: a part of a backup.
            Local::Admin(wish) => {
                return self.admins.answer(client.id, wish, client.output.is_local());
            }
            local => local.reply().expect("all else the protocol knows"),
        };
        if reply.bytes() > self.limits.reply_bytes {
            return Reply::reply_too_big(self.limits.reply_bytes);
        }
        reply
    }
}

/// The bounds that the protocol keeps.
fn conversation_limits(limits: &Limits) -> protocol::Limits {
    protocol::Limits {
        line_bytes: limits.line_bytes,
        key_bytes: limits.key_bytes,
        value_bytes: limits.value_bytes,
        arguments: limits.arguments,
        request_bytes: limits.request_bytes,
        transaction_commands: limits.transaction_commands,
        transaction_bytes: limits.transaction_bytes,
    }
}

fn refuse(mut socket: &TcpStream, why: &str) {
    use std::io::Write;
    // Whoever is refused may be gone already; nothing is owed to it.
    let _ = socket.set_write_timeout(Some(REFUSAL_PATIENCE));
    let _ = socket.write_all(format!("-ERR {why}\r\n").as_bytes());
    let _ = socket.shutdown(Shutdown::Write);
}
