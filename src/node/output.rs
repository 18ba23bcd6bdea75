//! What goes back to one client: its replies, in the order of its requests, whoever completes them.
//!
//! A reply is written by the thread that completes it (usually the applier), without blocking. What
//! the socket does not take is left to a writer thread that exists only while there is a remainder.
//! So a client that does not read holds up nobody: when its remainder passes the bound, or does not
//! shrink in time, its connection is cut.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::config::Limits;
use crate::gateway::Slot;
use crate::kv::FrozenQuery;
use crate::protocol::{CloseReason, Dialect, Reply};
use crate::transport::socket;

/// How long a client may leave the writer thread stuck before it is cut off.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);

/// Questions about all keys that may wait on one connection. Each holds the store as it was when it
/// was asked.
const LONG_QUERIES_MAX: usize = 8;

/// Bytes that the writer thread writes at once: what has left counts as unread no longer.
const WRITE_BYTES_MAX: usize = 256 * 1024;

/// What a feed may leave unread before it waits, in bytes.
const PUSH_UNREAD_BYTES_MAX: usize = 256 * 1024;

/// Stack of the writer threads, in bytes: they only write.
const WRITER_STACK_BYTES: usize = 64 * 1024;

/// The sending half of a client connection.
pub struct Output {
    name: String,
    socket: Arc<TcpStream>,
    limits: Arc<Limits>,
    state: Mutex<State>,
    /// Signalled when replies have left, for the reader that waits for room or for the end.
    progress: Condvar,
}

#[derive(Default)]
struct State {
    /// The slot of the oldest request whose reply has not been printed.
    first: u64,
    /// Requests in order, each with its reply once it is known.
    waiting: VecDeque<Waiting>,
    /// Bytes of the requests in `waiting`.
    waiting_bytes: usize,
    /// Printed replies that the socket has not taken yet.
    unsent: Vec<u8>,
    /// A writer thread exists, and this many bytes are in its hands.
    writer_bytes: Option<usize>,
    /// The socket is of no use any more: replies are dropped.
    broken: bool,
    /// The client's reader has ended: nothing is pushed to it any more.
    ended: bool,
    /// What the client calls itself.
    label: Vec<u8>,
    /// What the last WATCH found, until its reader takes it.
    watched: Option<Watched>,
    /// Questions that take long, to be answered by a thread of this connection.
    long_queries: VecDeque<(Slot, FrozenQuery)>,
    /// That thread exists.
    has_query_thread: bool,
    /// A thread that feeds this client exists.
    has_feed_thread: bool,
}

/// What a WATCH found: the index it looked at, and which of its keys existed.
pub type Watched = (u64, Vec<bool>);

impl State {
    /// Bytes of replies that the socket has not taken.
    fn unread_bytes(&self) -> usize {
        self.unsent.len() + self.writer_bytes.unwrap_or(0)
    }

    fn is_printed(&self, slot: Slot) -> bool {
        self.first > slot.0
    }

    /// Another thread works for the connection.
    fn has_helpers(&self) -> bool {
        self.has_query_thread || self.has_feed_thread || self.writer_bytes.is_some()
    }

    /// A reader may go on, if only to see that it is over.
    fn has_room(&self, limits: &Limits) -> bool {
        let has_room = self.waiting.len() < limits.pipeline_commands
            && self.waiting_bytes < limits.pipeline_bytes;
        has_room || self.broken
    }

    /// Every request is answered and every reply has left.
    fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.unsent.is_empty() && self.writer_bytes.is_none()
    }
}

struct Waiting {
    dialect: Dialect,
    bytes: usize,
    due: Option<Due>,
}

/// What is to be sent in its turn.
#[derive(Clone, Debug)]
pub enum Due {
    /// A reply.
    Reply(Reply),
    /// The last words before the connection is closed.
    Farewell(CloseReason),
}

/// A request that has been read.
#[derive(Clone, Debug)]
pub struct Expected {
    /// How to print what is due.
    pub dialect: Dialect,
    /// What the request weighs, in bytes.
    pub bytes: usize,
    /// What is due, if it is known at once.
    pub due: Option<Due>,
}

impl Output {
    /// The output of a connection; `name` is for its threads and log lines.
    pub fn new(name: String, socket: Arc<TcpStream>, limits: Arc<Limits>) -> Arc<Output> {
        let state = Mutex::new(State::default());
        Arc::new(Output { name, socket, limits, state, progress: Condvar::new() })
    }

    /// Requests have been read. Returns the slot of the first; the others follow it one by one.
    /// What is due already and whose turn it is leaves at once.
    pub fn expect(self: &Arc<Output>, requests: impl IntoIterator<Item = Expected>) -> Slot {
        let mut state = self.state.lock();
        let slot = Slot(state.first + state.waiting.len() as u64);
        for Expected { dialect, bytes, due } in requests {
            state.waiting_bytes += bytes;
            state.waiting.push_back(Waiting { dialect, bytes, due });
        }
        self.print_and_flush(state);
        slot
    }

    /// Replies have become known. Those whose turn it is leave in one write. Each slot is one that
    /// `expect` has given out, and is completed once.
    pub fn complete(self: &Arc<Output>, replies: impl IntoIterator<Item = (Slot, Reply)>) {
        let mut state = self.state.lock();
        for (slot, reply) in replies {
            let position = slot.0.checked_sub(state.first).and_then(|at| usize::try_from(at).ok());
            let waiting = position.and_then(|at| state.waiting.get_mut(at));
            let waiting = waiting.expect("a request is answered once, after it was expected");
            waiting.due = Some(Due::Reply(reply));
        }
        self.print_and_flush(state);
    }

    /// Prints what is due from the front on, and sends it as far as the socket takes it.
    fn print_and_flush(self: &Arc<Output>, mut state: MutexGuard<'_, State>) {
        let before = state.waiting.len();
        while let Some(waiting) = state.waiting.pop_front_if(|waiting| waiting.due.is_some()) {
            state.first += 1;
            state.waiting_bytes -= waiting.bytes;
            if state.broken {
                continue;
            }
            match waiting.due {
                Some(Due::Reply(reply)) => waiting.dialect.print(&reply, &mut state.unsent),
                Some(Due::Farewell(reason)) => reason.farewell(waiting.dialect, &mut state.unsent),
                None => unreachable!("only what is due was popped"),
            }
            // Not only at the end: a pipeline of small questions can have gigabytes of answers.
            if state.unread_bytes() > self.limits.unread_reply_bytes {
                self.send(&mut state);
            }
        }
        if state.waiting.len() < before {
            self.flush(state);
        }
    }

    /// A question that takes long is to be answered from a frozen view of the store. A thread of
    /// this connection does it, one question after the other, so it holds up nobody else.
    pub fn answer_later(self: &Arc<Output>, slot: Slot, query: FrozenQuery) {
        let mut state = self.state.lock();
        if state.broken {
            return;
        }
        if state.long_queries.len() >= LONG_QUERIES_MAX {
            drop(state);
            let limit = "questions of this connection about all keys";
            return self.complete([(slot, Reply::try_again(limit, LONG_QUERIES_MAX))]);
        }
        state.long_queries.push_back((slot, query));
        if std::mem::replace(&mut state.has_query_thread, true) {
            return;
        }
        drop(state);
        let output = Arc::clone(self);
        let thread = thread::Builder::new().name(format!("client-query-{}", self.name));
        if let Err(error) = thread.spawn(move || output.answer_long_queries()) {
            log::warn!("no thread to answer client {}: {error}", self.name);
            self.state.lock().has_query_thread = false;
            self.cut();
        }
    }

    /// The body of the thread that answers long questions: ends when there is none.
    fn answer_long_queries(self: &Arc<Output>) {
        loop {
            let mut state = self.state.lock();
            let next = if state.broken { None } else { state.long_queries.pop_front() };
            let Some((slot, query)) = next else {
                state.has_query_thread = false;
                drop(state);
                self.progress.notify_all();
                return;
            };
            drop(state);
            self.complete([(slot, Reply::from(query.answer()))]);
        }
    }

    /// What a WATCH has found, for the reader that waits in `wait_for_watch`. To be told before its
    /// reply is.
    pub fn note_watched(&self, watched: Watched) {
        self.state.lock().watched = Some(watched);
    }

    /// Waits until the WATCH in this slot is answered, and returns what it found; `None` if it
    /// could not be executed, or the connection is cut.
    pub fn wait_for_watch(&self, slot: Slot) -> Option<Watched> {
        let mut state = self.state.lock();
        while !state.broken && !state.is_printed(slot) {
            self.progress.wait(&mut state);
        }
        state.watched.take()
    }

    /// Waits until the reply to this slot has been printed, or never will be.
    pub fn wait_until_printed(&self, slot: Slot) {
        let mut state = self.state.lock();
        while !state.broken && !state.is_printed(slot) {
            self.progress.wait(&mut state);
        }
    }

    /// Sends what nobody has asked for: the changes of a feed. Waits first until the client has
    /// read most of what it was sent before.
    pub fn push(self: &Arc<Output>, dialect: Dialect, replies: impl IntoIterator<Item = Reply>) {
        let mut state = self.state.lock();
        for reply in replies {
            while !state.broken && !state.ended && state.unread_bytes() > PUSH_UNREAD_BYTES_MAX {
                self.flush_locked(&mut state);
                if state.unread_bytes() > PUSH_UNREAD_BYTES_MAX && !state.broken {
                    self.progress.wait(&mut state);
                }
            }
            if state.broken || state.ended {
                return;
            }
            dialect.print(&reply, &mut state.unsent);
        }
        self.flush(state);
    }

    /// Closes the connection once everything printed has left: its reader wakes up.
    pub fn close(&self) {
        let mut state = self.state.lock();
        while !state.broken && state.unread_bytes() > 0 {
            self.progress.wait(&mut state);
        }
        self.give_up(&mut state);
    }

    /// A thread that feeds this client is about to start, or has ended.
    pub fn set_feeding(&self, feeding: bool) {
        self.state.lock().has_feed_thread = feeding;
        self.progress.notify_all();
    }

    /// Waits until no other thread works for this connection: each holds its socket open.
    pub fn wait_for_helpers(&self) {
        let mut state = self.state.lock();
        while state.has_helpers() {
            self.progress.wait(&mut state);
        }
    }

    /// Whether the connection can end without waiting: neither for a reply nor for a thread.
    pub fn needs_nobody(&self) -> bool {
        let state = self.state.lock();
        (state.broken || state.is_done()) && !state.has_helpers()
    }

    /// Whether the client is on this host: it has come over loopback, or from the very address that
    /// it has come to. A server may listen on an outer address only, and its answers to that one
    /// never leave the host.
    pub fn is_local(&self) -> bool {
        let addresses = (self.socket.peer_addr(), self.socket.local_addr());
        let (Ok(peer), Ok(ours)) = addresses else { return false };
        let peer = peer.ip().to_canonical();
        peer.is_loopback() || peer == ours.ip().to_canonical()
    }

    /// The client's reader has ended.
    pub fn end(&self) {
        self.state.lock().ended = true;
        self.progress.notify_all();
    }

    /// Whether nothing is to be pushed to this client any more.
    pub fn is_over(&self) -> bool {
        let state = self.state.lock();
        state.ended || state.broken
    }

    /// The client calls itself this.
    pub fn set_label(&self, label: &[u8]) {
        let mut state = self.state.lock();
        state.label = label.to_owned();
    }

    /// What the client calls itself; empty if it has not said.
    pub fn label(&self) -> Vec<u8> {
        self.state.lock().label.clone()
    }

    /// For thread names and log lines.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the connection has few enough unanswered requests for its reader to go on.
    pub fn has_room(&self) -> bool {
        self.state.lock().has_room(&self.limits)
    }

    /// Waits for that.
    pub fn wait_for_room(&self) {
        let mut state = self.state.lock();
        while !state.has_room(&self.limits) {
            self.progress.wait(&mut state);
        }
    }

    /// Waits until every request is answered and every reply has left, or cannot.
    pub fn wait_until_done(&self) {
        let mut state = self.state.lock();
        while !state.broken && !state.is_done() {
            self.progress.wait(&mut state);
        }
    }

    /// Whether every request is answered and every reply has left, or cannot.
    pub fn is_done(&self) -> bool {
        let state = self.state.lock();
        state.broken || state.is_done()
    }

    /// Whether the connection has been cut.
    pub fn is_broken(&self) -> bool {
        self.state.lock().broken
    }

    /// Cuts the connection: nothing more is sent, and its reader wakes up.
    pub fn cut(&self) {
        self.give_up(&mut self.state.lock());
    }

    /// Sends what has been printed, as far as the socket takes it.
    fn flush(self: &Arc<Output>, mut state: MutexGuard<'_, State>) {
        self.flush_locked(&mut state);
        drop(state);
        self.progress.notify_all();
    }

    fn flush_locked(self: &Arc<Output>, state: &mut State) {
        self.send(state);
        if !state.unsent.is_empty() && state.writer_bytes.is_none() && !state.broken {
            self.start_writer(state);
        }
    }

    /// Gives the socket what it takes without waiting, and cuts the connection if what remains is
    /// too much.
    fn send(&self, state: &mut State) {
        if state.writer_bytes.is_none() && !state.broken {
            match socket::send_nonblocking(&self.socket, &state.unsent) {
                Ok(sent) => {
                    state.unsent.drain(..sent);
                }
                Err(_gone) => self.give_up(state),
            }
        }
        if state.unread_bytes() > self.limits.unread_reply_bytes && !state.broken {
            log::warn!(
                "client {} leaves more than {} bytes of replies unread: closing its connection",
                self.name,
                self.limits.unread_reply_bytes
            );
            self.give_up(state);
        }
    }

    fn start_writer(self: &Arc<Output>, state: &mut State) {
        let output = Arc::clone(self);
        let thread = thread::Builder::new()
            .name(format!("client-out-{}", self.name))
            .stack_size(WRITER_STACK_BYTES);
        match thread.spawn(move || output.write_remainder()) {
            Ok(_) => state.writer_bytes = Some(0),
            Err(error) => {
                log::warn!("no thread to write to client {}: {error}", self.name);
                self.give_up(state);
            }
        }
    }

    /// The body of the writer thread: blocks on the socket until nothing is left.
    fn write_remainder(&self) {
        loop {
            let chunk = {
                let mut state = self.state.lock();
                let chunk = std::mem::take(&mut state.unsent);
                if chunk.is_empty() || state.broken {
                    state.writer_bytes = None;
                    drop(state);
                    self.progress.notify_all();
                    return;
                }
                state.writer_bytes = Some(chunk.len());
                chunk
            };
            if !self.write_in_time(&chunk) {
                log::warn!(
                    "client {} does not read its replies: closing its connection",
                    self.name
                );
                self.cut();
            }
        }
    }

    /// Blocks until the socket has taken all of it. Returns `false` if it takes none for too long.
    fn write_in_time(&self, mut chunk: &[u8]) -> bool {
        if self.socket.set_write_timeout(Some(WRITE_PATIENCE)).is_err() {
            return false;
        }
        while !chunk.is_empty() {
            match (&*self.socket).write(&chunk[..chunk.len().min(WRITE_BYTES_MAX)]) {
                Ok(count @ 1..) => {
                    chunk = &chunk[count..];
                    self.state.lock().writer_bytes = Some(chunk.len());
                    self.progress.notify_all();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => return false,
            }
        }
        true
    }

    fn give_up(&self, state: &mut State) {
        state.broken = true;
        state.unsent = Vec::new();
        state.long_queries = VecDeque::new();
        let _already_closed = self.socket.shutdown(Shutdown::Both);
        self.progress.notify_all();
    }
}
