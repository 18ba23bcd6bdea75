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
use crate::kv::encoding;
use crate::protocol::status::StatusReport;
use crate::protocol::{Input, Local, Parsed, Parser, Reply, Request};
use crate::raft::types::Command;
use crate::transport::listener::{Accepted, Listener};

use super::connections::Connections;
use super::monitor::{Deliver, Monitor};
use super::output::{Due, Expected, Output};

/// Stack of a reader thread, in bytes. It is reserved, not used: an idle connection costs a few
/// pages.
const READER_STACK_BYTES: usize = 256 * 1024;

/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;

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
    /// Answers STATUS, line by line.
    pub status: Box<dyn Fn() -> StatusReport + Send + Sync>,
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
            let refused = socket.try_clone();
            if let Err(error) = thread.spawn(move || shared.serve(client, socket, peer)) {
                log::warn!("refusing client {peer}: no thread for it: {error}");
                refuse(refused.ok(), "this server has no thread left for another connection");
            }
        }
    }

    /// The body of a reader thread.
    fn serve(&self, client: ClientId, socket: TcpStream, peer: SocketAddr) {
        let sending_half = match socket.set_nodelay(true).and_then(|()| socket.try_clone()) {
            Ok(half) => half,
            Err(error) => return log::debug!("client {peer} is gone already: {error}"),
        };
        let output = Output::new(peer.to_string(), sending_half, Arc::clone(&self.limits));
        if !self.connections.add(client, peer, &output) {
            log::warn!("refusing client {peer}: too many connections (limits.connections)");
            return refuse(Some(socket), "too many connections; limits.connections is reached");
        }
        let half_closed = self.read_requests(client, &socket, &output);
        output.wait_until_done();
        self.monitor.with(|server| server.hang_up(client));
        self.connections.remove(client);
        if !half_closed && !output.is_broken() {
            linger(&socket);
        }
    }

    /// Reads and submits until the client ends, or is to be ended. Returns whether the client has
    /// said that it will send nothing more.
    fn read_requests(&self, client: ClientId, socket: &TcpStream, output: &Arc<Output>) -> bool {
        let mut parser = Parser::default();
        let mut buffer = [0; READ_BYTES];
        let mut begun: Option<Instant> = None;
        let mut requests = Vec::new();
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
            parser.push(&buffer[..count]);
            while let Some(parsed) = parser.next() {
                requests.push(parsed);
            }
            if count == 0 {
                requests.extend(parser.finish());
            }
            self.submit(client, output, requests.drain(..));
            if count == 0 {
                return true;
            }
            if parser.is_closed() || output.is_broken() {
                return false;
            }
            begun = self.set_deadline(socket, parser.is_within_request(), begun);
        }
    }

    /// A request that has begun to arrive must be complete in time; between requests a client may
    /// think as long as it likes. Returns when the unfinished request began.
    fn set_deadline(
        &self,
        socket: &TcpStream,
        within_request: bool,
        begun: Option<Instant>,
    ) -> Option<Instant> {
        let patience = Duration::from_millis(self.limits.request_arrival_ms);
        let timeout = match (within_request, begun) {
            (false, None) => return None,
            (false, Some(_)) => None,
            (true, begun) => {
                let waited = begun.map_or(Duration::ZERO, |begun| begun.elapsed());
                Some(patience.saturating_sub(waited).max(Duration::from_millis(1)))
            }
        };
        if let Err(error) = socket.set_read_timeout(timeout) {
            log::debug!("a client's socket takes no timeout: {error}");
        }
        within_request.then(|| begun.unwrap_or_else(Instant::now))
    }

    /// Enters the server once with all that was read.
    fn submit(&self, client: ClientId, output: &Arc<Output>, parsed: impl Iterator<Item = Parsed>) {
        let mut expected = Vec::new();
        let mut requests = Vec::new();
        for Parsed { input, dialect, bytes } in parsed {
            let due = match input {
                Input::Wrong(reply) => Some(Due::Reply(reply)),
                Input::Close(reason) => {
                    log::info!("closing a client connection: {reason}");
                    Some(Due::Farewell(reason))
                }
                Input::Request(Request::Local(local)) => Some(Due::Reply(self.answer(&local))),
                Input::Request(Request::Write(command)) => {
                    let command = Command(Arc::from(encoding::encode(&command)));
                    requests.push((expected.len() as u64, gateway::Request::Write(command)));
                    None
                }
                Input::Request(Request::Read(query)) => {
                    requests.push((expected.len() as u64, gateway::Request::Read(query)));
                    None
                }
            };
            expected.push(Expected { dialect, bytes, due });
        }
        if expected.is_empty() {
            return;
        }
        let first = output.expect(expected);
        if requests.is_empty() {
            return;
        }
        let in_slots =
            requests.into_iter().map(|(at, request)| (Slot(first.0 + at), request)).collect();
        self.monitor.with(|server| server.submit(client, in_slots));
    }

    fn answer(&self, local: &Local) -> Reply {
        local.reply().unwrap_or_else(|| Reply::Lines((self.status)().to_lines()))
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn too_slow(patience_ms: u64) -> Expected {
    use crate::protocol::Dialect;
    use crate::protocol::line::LineEnd;
    let text = format!("the request did not arrive within {patience_ms} ms");
    let due = Some(Due::Reply(Reply::err(text)));
    Expected { dialect: Dialect::Line(LineEnd::Lf), bytes: 0, due }
}

fn refuse(socket: Option<TcpStream>, why: &str) {
    use std::io::Write;
    if let Some(mut socket) = socket {
        // Whoever is refused may be gone already; nothing is owed to it.
        let _ = socket.set_write_timeout(Some(LINGER));
        let _ = socket.write_all(format!("-ERR {why}\r\n").as_bytes());
        let _ = socket.shutdown(Shutdown::Write);
    }
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
