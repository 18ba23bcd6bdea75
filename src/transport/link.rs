//! The outgoing side of one peer, shared between its worker and whoever passes by with something to
//! say.
//!
//! Sending in passing saves waking the worker; the worker does what may block: connecting, and
//! pushing out what the socket did not take. **Who** may send is not decided here: one thread at a
//! time has the right to, and that right is kept under the one mutex, where messages are taken (see
//! `node::monitor`). The right comes *before* the messages: if A took messages first and B second,
//! but B came to the socket first, the parts of a forward would arrive out of order. So the lock in
//! this file is free whenever somebody wants it, and it is never held together with the one mutex.
//!
//! **What** is sent has one rule: nothing new is sent while an unsent remainder exists, and only
//! the worker, which may block, sends the remainder. Bytes of half a frame are never dropped from a
//! connection that goes on, and never carried to a new one.

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::dial::Dialled;
use super::frame::Frame;
use super::hello::PEER_PROTOCOL_VERSION;
use super::socket;
use crate::limits::{LINK_IDLE_BYTES_MAX, LINK_SEND_MS_MAX};

/// How long one blocking send may take before the worker comes back to look around.
const SEND_MAX: Duration = Duration::from_millis(LINK_SEND_MS_MAX);

/// One peer's outgoing connection, up or down.
#[derive(Debug, Default)]
pub struct PeerLink {
    wire: Mutex<Wire>,
}

#[derive(Debug, Default)]
struct Wire {
    /// `None` while the link is down.
    stream: Option<TcpStream>,
    /// The version that is spoken on it.
    version: u32,
    /// Encoded frames; the socket has taken the first `sent` bytes.
    bytes: Vec<u8>,
    /// See `bytes`; 0 when there are none.
    sent: usize,
}

/// What became of a frame.
#[must_use = "unless all was sent, the worker's bell must ring"]
#[derive(Debug)]
pub enum Sent {
    /// The socket took it.
    All,
    /// A remainder waits for the worker: `finish_blocking`.
    Rest,
    /// The connection broke and the link is down: the worker reconnects.
    Broken(io::Error),
}

impl PeerLink {
    /// The connection, for whoever has the right to send on it; `None` if the link is down. A
    /// remainder must be finished before anything new is sent.
    pub fn lock_if_up(&self) -> Option<OpenWire<'_>> {
        let wire = self.wire.lock();
        wire.stream.is_some().then_some(OpenWire { wire })
    }

    /// Makes the link usable.
    pub fn install(&self, dialled: Dialled) {
        let mut wire = self.wire.lock();
        wire.close();
        wire.stream = Some(dialled.stream);
        wire.version = dialled.version;
    }

    /// Notices a peer that has closed the connection while nothing was sent, so that the first
    /// message after its restart is not lost. False if the link is down.
    pub fn check_open(&self) -> bool {
        // Whoever is sending now will notice it too.
        let Some(mut wire) = self.wire.try_lock() else { return true };
        if wire.stream.as_ref().is_some_and(socket::is_open) {
            return true;
        }
        wire.close();
        false
    }
}

/// A link that is up, in the hands of the thread that may send on it.
#[derive(Debug)]
pub struct OpenWire<'a> {
    wire: MutexGuard<'a, Wire>,
}

impl OpenWire<'_> {
    /// Whether bytes of an earlier frame still wait.
    pub fn has_remainder(&self) -> bool {
        !self.wire.bytes.is_empty()
    }

    /// Sends what the socket takes without waiting. Requires that there is no remainder.
    pub fn send(&mut self, frame: &Frame) -> Sent {
        self.encode(frame);
        self.wire.push(socket::send_nonblocking)
    }

    /// For the worker: sends, and waits a while for the socket; what is left then is for
    /// `finish_blocking`. Requires that there is no remainder.
    pub fn send_blocking(&mut self, frame: &Frame) -> Sent {
        // Usually the socket takes all at once, and no time-out need be set.
        match self.send(frame) {
            Sent::Rest => self.finish_blocking(),
            sent => sent,
        }
    }

    /// For the worker: goes on with the remainder, and waits a while for the socket. Call it again
    /// while it returns `Rest`; it ends, because a peer that takes nothing for seconds is cut off.
    pub fn finish_blocking(&mut self) -> Sent {
        self.wire.push(|stream, bytes| socket::send_blocking(stream, bytes, SEND_MAX))
    }

    fn encode(&mut self, frame: &Frame) {
        assert!(!self.has_remainder(), "a remainder goes before anything new");
        if self.wire.version < PEER_PROTOCOL_VERSION {
            return frame.without_what_is_new().encode(&mut self.wire.bytes);
        }
        frame.encode(&mut self.wire.bytes);
    }
}

impl Wire {
    /// Pushes bytes until all are gone or `send` takes none.
    fn push(&mut self, send: impl Fn(&TcpStream, &[u8]) -> io::Result<usize>) -> Sent {
        while self.sent < self.bytes.len() {
            let Some(stream) = &self.stream else {
                self.forget_bytes();
                return Sent::Broken(io::Error::from(io::ErrorKind::NotConnected));
            };
            match send(stream, &self.bytes[self.sent..]) {
                Ok(0) => return Sent::Rest,
                Ok(count) => self.sent += count,
                Err(error) => {
                    self.close();
                    return Sent::Broken(error);
                }
            }
        }
        self.forget_bytes();
        Sent::All
    }

    /// A new connection begins with a new frame: half of an old one would be garbage there.
    fn close(&mut self) {
        if let Some(stream) = self.stream.take() {
            socket::close(&stream);
        }
        self.forget_bytes();
    }

    fn forget_bytes(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(LINK_IDLE_BYTES_MAX);
        self.sent = 0;
    }
}
