//! Reaching a peer: resolve, connect, hello; and how long to wait before trying again.
//!
//! A name is resolved at every dial, because the machine behind it may have moved. Everything here
//! is bounded in time, and nothing here tries twice: `peer-send-N` decides when to dial again, and
//! [`Backoff`] only says how long to wait (S52). Nobody else waits for a peer that is away.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use thiserror::Error;

use super::hello::{self, CheckHistory, HelloError, Identity};
use super::socket;
use crate::limits::{CONNECT_MS_MAX, DIAL_PAUSE_MS_MAX, DIAL_PAUSE_MS_MIN};
use crate::raft::types::ServerId;

const CONNECT_MAX: Duration = Duration::from_millis(CONNECT_MS_MAX);

/// Why a peer could not be reached.
#[derive(Debug, Error)]
pub enum DialError {
    /// The name has no address now.
    #[error("cannot resolve {address}: {source}")]
    Resolve {
        /// As configured.
        address: String,
        /// The resolver's reason.
        source: io::Error,
    },
    /// Nobody accepts there.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// The address tried last.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// Somebody is there, and it is not the right one.
    #[error("{address}: {source}")]
    Hello {
        /// The address that answered.
        address: SocketAddr,
        /// What went wrong.
        source: HelloError,
    },
}

/// A connection to a peer.
#[derive(Debug)]
pub struct Dialled {
    /// The connection.
    pub stream: TcpStream,
    /// Who answered.
    pub peer: Identity,
    /// The version that is spoken on it.
    pub version: u32,
}

/// Dials one peer, trying every address its name resolves to now.
pub fn dial(
    address: &str,
    ours: &Identity,
    peer: ServerId,
    check: &mut CheckHistory,
) -> Result<Dialled, DialError> {
    let resolve = |source| DialError::Resolve { address: address.to_owned(), source };
    let mut last = resolve(io::Error::from(io::ErrorKind::NotFound));
    for address in address.to_socket_addrs().map_err(resolve)? {
        match dial_one(address, ours, peer, check) {
            Ok(reached) => return Ok(reached),
            // A wrong server behind one address tells more than a closed port behind the next.
            Err(DialError::Connect { .. }) if matches!(last, DialError::Hello { .. }) => {}
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn dial_one(
    address: SocketAddr,
    ours: &Identity,
    peer: ServerId,
    check: &mut CheckHistory,
) -> Result<Dialled, DialError> {
    match dial_in_version(address, hello::PEER_PROTOCOL_VERSION, ours, peer, check) {
        Err(DialError::Hello { source: HelloError::Older(version), .. }) => {
            dial_in_version(address, version, ours, peer, check)
        }
        decided => decided,
    }
}

fn dial_in_version(
    address: SocketAddr,
    version: u32,
    ours: &Identity,
    peer: ServerId,
    check: &mut CheckHistory,
) -> Result<Dialled, DialError> {
    let connect = |source| DialError::Connect { address, source };
    let stream = TcpStream::connect_timeout(&address, CONNECT_MAX).map_err(connect)?;
    socket::prepare(&stream).map_err(connect)?;
    let deadline = Instant::now() + hello::HANDSHAKE_MAX;
    let peer = hello::greet(&stream, version, ours, peer, check, deadline)
        .map_err(|source| DialError::Hello { address, source })?;
    Ok(Dialled { stream, peer, version })
}

/// How long to wait before the next dial: 10 ms doubling to 500 ms, less a jitter of up to half, so
/// that the servers of a cluster do not dial in step.
#[derive(Clone, Debug)]
pub struct Backoff {
    /// State of the generator that the jitter is drawn from.
    seed: u64,
    /// Failures since the last `reset`.
    failures: u32,
}

impl Backoff {
    /// A back-off whose jitter is drawn from `seed`.
    pub fn new(seed: u64) -> Backoff {
        Backoff { seed, failures: 0 }
    }

    /// The pause after one more failure, or after a link that was up has broken.
    pub fn next_pause(&mut self) -> Duration {
        let pause_ms = (DIAL_PAUSE_MS_MIN << self.failures.min(6)).min(DIAL_PAUSE_MS_MAX);
        self.failures = self.failures.saturating_add(1);
        // Knuth's multiplier; the high bits are the good ones.
        self.seed = self.seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        Duration::from_millis(pause_ms - (self.seed >> 33) % (pause_ms / 2 + 1))
    }

    /// The peer was reached.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures since the peer was last reached: the first is logged, the rest are summed up.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}
