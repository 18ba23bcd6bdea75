//! Clients: accepting them, and the thread that reads from each.
//!
//! A reader parses all that one `read` brought and enters the server once with it. It never waits
//! for replies (see `output`), except when its client is too far ahead: then it stops reading, and
//! TCP tells the client to wait.

use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::config::Limits;
use crate::gateway::{self, ClientId, Slot};
use crate::kv::command::Query;
use crate::kv::encoding;
use crate::protocol::{self, Conversation, Dialect, Input, Local, Parsed, Reply, Request};
use crate::raft::types::{Command, Index};
use crate::transport::listener::{Accepted, Listener};
use crate::transport::socket::prepare_for_client;

use super::admin::Admins;
use super::connections::Connections;
use super::feed::Feed;
use super::history::{History, Position};
use super::insight::Insights;
use super::monitor::{Deliver, Monitor};
use super::output::{Due, Expected, Output};

/// Stack of a reader thread, in bytes. It is reserved, not used: an idle connection costs a few
/// pages.
const READER_STACK_BYTES: usize = 256 * 1024;

/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;

/// Bytes of answers that are made before any of them is given to the output, about.
const REPLY_BYTES_AT_ONCE: usize = 256 * 1024;

/// After the last words to a client: how long, and how many bytes of, what it still sends is
/// swallowed, so that the kernel does not destroy the words by resetting the connection.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What reader threads share.
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

impl<D: Deliver + Send + Sync + 'static> Clients<D> {
    /// The body of the thread `client-accept`: one reader thread for each connection, until the
    /// listener is closed.
    pub fn accept(self: Arc<Self>, mut listener: Listener) {
        loop {
            let (socket, peer) = match listener.accept() {
                Accepted::Connection(socket, peer) => (socket, peer),
                Accepted::Trouble(error) => {
                    log::warn!("cannot accept a client: {error}");
                    continue;
                }
                Accepted::Closed => return,
            };
            let client = self.connections.next_id();
            let shared = Arc::clone(&self);
            let thread = thread::Builder::new()
                .name(format!("client-{}", client.0))
                .stack_size(READER_STACK_BYTES);
            // Shared, not cloned: one descriptor for each connection.
            let socket = Arc::new(socket);
            let reader = Arc::clone(&socket);
            if let Err(error) = thread.spawn(move || shared.serve(client, reader, peer)) {
                log::warn!("refusing client {peer}: no thread for it: {error}");
                refuse(&socket, "this server has no thread left for another connection");
            }
        }
    }

    /// The body of a reader thread.
    fn serve(&self, client: ClientId, socket: Arc<TcpStream>, peer: SocketAddr) {
        if let Err(error) = prepare_for_client(&socket) {
            return log::debug!("client {peer} is gone already: {error}");
        }
        let limits = Arc::clone(&self.limits);
        let output = Output::new(peer.to_string(), Arc::clone(&socket), limits);
        if !self.connections.add(client, peer, &output) {
            log::warn!("refusing client {peer}: too many connections (limits.connections)");
            return refuse(&socket, "too many connections; limits.connections is reached");
        }
        let conversation =
            Conversation::new(client.0, peer.to_string(), conversation_limits(&self.limits));
        let half_closed = self.read_requests(client, conversation, &socket, &output);
        output.end();
        output.wait_until_done();
        self.monitor.with(|server| server.hang_up(client));
        self.admins.backups.end(client);
        if !half_closed && !output.is_broken() {
            linger(&socket);
        }
        // Only now: as long as it has threads and a descriptor, it counts.
        output.wait_for_helpers();
        self.connections.remove(client);
    }

    /// Reads and submits until the client ends, or is to be ended. Returns whether the client has
    /// said that it will send nothing more.
    fn read_requests(
        &self,
        client: ClientId,
        mut conversation: Conversation,
        socket: &TcpStream,
        output: &Arc<Output>,
    ) -> bool {
        let mut buffer = [0; READ_BYTES];
        let mut begun: Option<Instant> = None;
        let mut label = Vec::new();
        loop {
            output.wait_for_room();
            let count = match (&*socket).read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if is_timeout(&error) => {
                    output.expect(vec![too_slow(self.limits.request_arrival_ms)]);
                    return false;
                }
                Err(_reset) => {
                    output.cut();
                    return true;
                }
            };
            conversation.push(&buffer[..count]);
            let completed = self.take_requests(client, &mut conversation, output, count == 0);
            if conversation.name() != label {
                label = conversation.name().to_owned();
                output.set_label(&label);
            }
            if count == 0 {
                return true;
            }
            if conversation.is_closed() || output.is_broken() {
                return false;
            }
            let before = begun;
            begun = begun_at(before, completed, conversation.is_within_request(), Instant::now());
            self.set_deadline(socket, before, begun);
        }
    }

    /// Submits everything that has arrived completely, in one go as a rule: only a WATCH must be
    /// answered before what follows it can be understood. Returns whether there was anything.
    fn take_requests(
        &self,
        client: ClientId,
        conversation: &mut Conversation,
        output: &Arc<Output>,
        is_end: bool,
    ) -> bool {
        let mut completed = false;
        let mut batch = Batch::default();
        while let Some(parsed) = conversation.next() {
            completed = true;
            let watches = matches!(parsed.input, Input::Request(Request::Watch { .. }));
            if let Input::Request(Request::Local(Local::Admin(wish))) = &parsed.input
                && wish.waits()
            {
                self.submit(client, output, std::mem::take(&mut batch));
            }
            self.add(client, parsed, output, &mut batch);
            if std::mem::take(&mut batch.feed_refused) {
                conversation.feed_refused();
            }
            if batch.reply_bytes > REPLY_BYTES_AT_ONCE {
                self.submit(client, output, std::mem::take(&mut batch));
                output.wait_for_room();
            }
            if watches {
                let last = self.submit(client, output, std::mem::take(&mut batch));
                conversation.watched(output.wait_for_watch(last));
            }
        }
        if is_end && let Some(parsed) = conversation.finish() {
            completed = true;
            self.add(client, parsed, output, &mut batch);
        }
        self.submit(client, output, batch);
        completed
    }

    /// A request that has begun to arrive must be complete in time; between requests a client may
    /// think as long as it likes.
    fn set_deadline(&self, socket: &TcpStream, before: Option<Instant>, begun: Option<Instant>) {
        if before.is_none() && begun.is_none() {
            return;
        }
        let patience = Duration::from_millis(self.limits.request_arrival_ms);
        let rest = |begun: Instant| patience.saturating_sub(begun.elapsed());
        let timeout = begun.map(|begun| rest(begun).max(Duration::from_millis(1)));
        if let Err(error) = socket.set_read_timeout(timeout) {
            log::debug!("a client's socket takes no timeout: {error}");
        }
    }

    /// Sorts what was parsed: what is answered here, and what the server is asked.
    fn add(&self, client: ClientId, parsed: Parsed, output: &Arc<Output>, batch: &mut Batch) {
        let Parsed { input, dialect, bytes } = parsed;
        let mut ask = |request| batch.requests.push((batch.expected.len() as u64, request));
        let due = match input {
            Input::Reply(reply) => Some(Due::Reply(reply)),
            Input::Close(reason) => {
                log::info!("closing a client connection: {reason}");
                Some(Due::Farewell(reason))
            }
            Input::Request(Request::Local(local)) => {
                Some(Due::Reply(self.answer(client, &local, output)))
            }
            Input::Request(Request::Write(write)) => {
                let command = Command(Arc::from(encoding::encode(&write)));
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
                        let (history, output) = (Arc::clone(&self.history), Arc::clone(output));
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

    /// Enters the server once with all of the batch. Returns the slot of its last request.
    fn submit(&self, client: ClientId, output: &Arc<Output>, batch: Batch) -> Slot {
        let Batch { expected, requests, feed, .. } = batch;
        let count = expected.len() as u64;
        // Before the server has them: an answer finds its place waiting, however soon it comes.
        let first = output.expect(expected);
        let last = Slot((first.0 + count).saturating_sub(1));
        if !requests.is_empty() {
            let in_slots =
                requests.into_iter().map(|(at, request)| (Slot(first.0 + at), request)).collect();
            self.monitor.with(|server| server.submit(client, in_slots));
        }
        if let Some(feed) = feed {
            feed.start(last);
        }
        last
    }

    fn answer(&self, client: ClientId, local: &Local, output: &Output) -> Reply {
        let reply = match local {
            Local::Insight(question) => self.insights.answer(question),
            // Bounded by itself: a part of a backup.
            Local::Admin(wish) => {
                return self.admins.answer(client, wish, output.is_local());
            }
            local => local.reply().expect("all else the protocol knows"),
        };
        if reply.bytes() > self.limits.reply_bytes {
            return Reply::reply_too_big(self.limits.reply_bytes);
        }
        reply
    }
}

/// Requests that were read together.
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

/// When the request that is arriving now began to, after one more read. One that was completed by
/// that read makes room for the next: a client that never pauses between two requests is not slow.
fn begun_at(
    begun: Option<Instant>,
    completed: bool,
    within_request: bool,
    now: Instant,
) -> Option<Instant> {
    let same_request = begun.filter(|_| !completed);
    within_request.then(|| same_request.unwrap_or(now))
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn too_slow(patience_ms: u64) -> Expected {
    use crate::protocol::line::LineEnd;
    let text = format!("the request did not arrive within {patience_ms} ms");
    let due = Some(Due::Reply(Reply::err(text)));
    // An error looks alike in all dialects, if it ends in what programs wait for.
    Expected { dialect: Dialect::Line(LineEnd::CrLf), bytes: 0, due }
}

fn refuse(mut socket: &TcpStream, why: &str) {
    use std::io::Write;
    // Whoever is refused may be gone already; nothing is owed to it.
    let _ = socket.set_write_timeout(Some(LINGER));
    let _ = socket.write_all(format!("-ERR {why}\r\n").as_bytes());
    let _ = socket.shutdown(Shutdown::Write);
}

/// Closes our direction and swallows what still comes, for a moment.
fn linger(socket: &TcpStream) {
    if socket.shutdown(Shutdown::Write).is_err() || socket.set_read_timeout(Some(LINGER)).is_err() {
        return;
    }
    let since = Instant::now();
    let mut swallowed = 0;
    let mut buffer = [0; READ_BYTES];
    while let Ok(count @ 1..) = (&*socket).read(&mut buffer) {
        swallowed += count;
        if swallowed > LINGER_BYTES_MAX || since.elapsed() > LINGER {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bulk load is cut into reads at any byte, so it is always within some request; each has its
    /// own deadline.
    #[test]
    fn each_request_has_a_deadline_of_its_own() {
        let start = Instant::now();
        let later = start + Duration::from_secs(1);
        assert_eq!(begun_at(None, false, true, start), Some(start));
        assert_eq!(begun_at(Some(start), false, true, later), Some(start), "byte by byte");
        assert_eq!(begun_at(Some(start), true, true, later), Some(later));
        assert_eq!(begun_at(Some(start), true, false, later), None);
    }
}
