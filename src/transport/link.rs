//! The outgoing side of one peer, shared between its worker and whoever has something to say.
//!
//! Any thread may *take and send* while the link is idle, which saves waking the worker; the worker
//! does what may block: connecting, and pushing out what the socket did not take. Two rules keep
//! the order:
//!
//! 1. The right to send is acquired **before** messages are taken from the state. If A took first
//!    and B second, but B got to the socket first, the parts of a forward would arrive out of
//!    order.
//! 2. Nothing is taken while an unsent remainder exists: it goes first, and only the worker sends
//!    it.
//!
//! Whoever does not get the right, or does not get rid of everything, rings the worker's bell: the
//! holder of the right may have taken before the new work was there. The right is never waited for
//! under the monitor, and only the worker blocks while it holds it.

use std::io::{self, Write};
use std::net::TcpStream;

use parking_lot::{Mutex, MutexGuard};

use super::frame::Frame;
use super::socket;

/// Memory that an idle link keeps for its next frame, in bytes.
const IDLE_BYTES_MAX: usize = 1024 * 1024;

/// One peer's outgoing connection, up or down.
#[derive(Debug, Default)]
pub struct PeerLink {
    wire: Mutex<Wire>,
}

#[derive(Debug, Default)]
struct Wire {
    /// `None` while the link is down.
    stream: Option<TcpStream>,
    /// Encoded frames; the socket has taken the first `sent` bytes.
    bytes: Vec<u8>,
    sent: usize,
}

/// What became of a frame.
#[must_use = "unless all was sent, the worker's bell must ring"]
#[derive(Debug)]
pub enum Sent {
    /// The socket took it.
    All,
    /// A remainder waits for the worker.
    Rest,
    /// The connection broke and the link is down: the worker reconnects.
    Broken(io::Error),
}

impl PeerLink {
    /// The right to send without waiting; `None` if the link is down, busy, or has a remainder.
    pub fn try_acquire(&self) -> Option<SendingRight<'_>> {
        let wire = self.wire.try_lock()?;
        (wire.stream.is_some() && wire.bytes.is_empty()).then_some(SendingRight { wire })
    }

    /// For the worker only, and never under the monitor: waits for the right; `None` if the link is
    /// down. A remainder must be finished before anything is taken.
    pub fn acquire(&self) -> Option<SendingRight<'_>> {
        let wire = self.wire.lock();
        wire.stream.is_some().then_some(SendingRight { wire })
    }

    /// Makes the link usable: `stream` comes from `dial`.
    pub fn install(&self, stream: TcpStream) {
        let mut wire = self.wire.lock();
        wire.close();
        wire.stream = Some(stream);
    }

    /// Notices a peer that has closed the connection while nothing was sent, so that the first
    /// message after its restart is not lost. False if the link is down: ring the worker's bell.
    pub fn check_open(&self) -> bool {
        let Some(mut wire) = self.wire.try_lock() else { return true };
        if wire.stream.as_ref().is_some_and(socket::is_open) {
            return true;
        }
        wire.close();
        false
    }

    /// Takes the link down. Waits for a send in progress, half a second at the most.
    pub fn close(&self) {
        self.wire.lock().close();
    }
}

/// The right to send on a link, while it lives.
#[derive(Debug)]
pub struct SendingRight<'a> {
    wire: MutexGuard<'a, Wire>,
}

impl SendingRight<'_> {
    /// Whether bytes of an earlier frame still wait.
    pub fn has_remainder(&self) -> bool {
        !self.wire.bytes.is_empty()
    }

    /// Sends what the socket takes without waiting. Requires that there is no remainder.
    pub fn send(&mut self, frame: &Frame) -> Sent {
        self.encode(frame);
        self.wire.push(socket::send_now)
    }

    /// For the worker: sends, and waits for the socket up to its time-out; then calls
    /// `finish_blocking` again unless it is to stop. Requires that there is no remainder.
    pub fn send_blocking(&mut self, frame: &Frame) -> Sent {
        self.encode(frame);
        self.finish_blocking()
    }

    /// For the worker: goes on with the remainder.
    pub fn finish_blocking(&mut self) -> Sent {
        self.wire.push(|mut stream, bytes| match stream.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            taken => taken,
        })
    }

    fn encode(&mut self, frame: &Frame) {
        assert!(!self.has_remainder(), "a remainder goes before anything new");
        frame.encode(&mut self.wire.bytes);
    }
}

impl Wire {
    /// Pushes bytes until all are gone or `send` takes none.
    fn push(&mut self, send: impl Fn(&TcpStream, &[u8]) -> io::Result<usize>) -> Sent {
        while self.sent < self.bytes.len() {
            let Some(stream) = &self.stream else {
                return Sent::Broken(io::Error::from(io::ErrorKind::NotConnected));
            };
            match send(stream, &self.bytes[self.sent..]) {
                Ok(0) => return Sent::Rest,
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
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
        self.bytes.shrink_to(IDLE_BYTES_MAX);
        self.sent = 0;
    }
}
