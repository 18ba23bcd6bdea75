//! Accepting connections, and the incoming side of a peer.
//!
//! `accept` must go on when descriptors run out (S65). A plain accept loop then spins: the system
//! call fails at once, for as long as the shortage lasts, and whoever wants to connect hangs. So a
//! listener keeps one descriptor in reserve. In a shortage it gives it up and waits for the next
//! connection with it. If the shortage is over by then, well; if not, that connection is closed.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use thiserror::Error;

use super::frame::{Frame, FrameError, FrameReader};
use super::hello::{self, CheckHistory, HANDSHAKE_MAX, HelloError, Identity};
use super::socket;
use crate::limits::SHORTAGE_PAUSE_MS;
use crate::raft::types::ServerId;

/// How long the accept loop rests when descriptors are short and not even the reserve is left.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(SHORTAGE_PAUSE_MS);

/// Why nothing listens.
#[derive(Debug, Error)]
pub enum BindError {
    /// Somebody else has the address.
    #[error("{0} is in use: stop what listens there, or choose another address")]
    InUse(String),
    /// Anything else.
    #[error("cannot listen on {address}: {source}")]
    Io {
        /// As configured.
        address: String,
        /// The system's reason.
        source: io::Error,
    },
}

/// A listening socket whose accept loop can be ended from outside.
#[derive(Debug)]
pub struct Listener {
    socket: Arc<TcpListener>,
    /// Set by a `ListenerCloser`, once.
    closed: Arc<AtomicBool>,
    /// A descriptor that is given up when there are no others (S65). `None` in a shortage so bad
    /// that somebody else took it.
    reserve: Option<File>,
}

/// What `accept` brought.
#[derive(Debug)]
pub enum Accepted {
    /// A connection.
    Connection(TcpStream, SocketAddr),
    /// None, for a reason worth a warning; accept again.
    Trouble(io::Error),
    /// The listener was closed.
    Closed,
}

impl Listener {
    /// Listens on `address`, `host:port`. std sets SO_REUSEADDR, so a restart finds its port free.
    pub fn bind(address: &str) -> Result<Listener, BindError> {
        let io_error = |source| BindError::Io { address: address.to_owned(), source };
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for candidate in address.to_socket_addrs().map_err(io_error)? {
            match TcpListener::bind(candidate) {
                Ok(socket) => {
                    let (socket, closed) = (Arc::new(socket), Arc::default());
                    return Ok(Listener { socket, closed, reserve: reserve() });
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    return Err(BindError::InUse(address.to_owned()));
                }
                Err(error) => last = error,
            }
        }
        Err(io_error(last))
    }

    /// Where it listens.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// A handle that ends the accept loop.
    pub fn closer(&self) -> ListenerCloser {
        ListenerCloser { socket: self.socket.clone(), closed: self.closed.clone() }
    }

    /// Waits for a connection.
    pub fn accept(&mut self) -> Accepted {
        let accepted = match self.socket.accept() {
            Err(error) if is_shortage(&error) => self.accept_in_shortage(error),
            accepted => accepted,
        };
        // Asked last: closing wakes whichever call was waiting.
        if self.closed.load(Ordering::Acquire) {
            return Accepted::Closed;
        }
        match accepted {
            Ok((stream, address)) => Accepted::Connection(stream, address),
            // The connection was gone before we took it: nothing is wrong here.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {
                Accepted::Trouble(error)
            }
            // Short of memory, say: the next try would fail at once, and so on at full speed.
            Err(error) => {
                std::thread::sleep(SHORTAGE_PAUSE);
                Accepted::Trouble(error)
            }
        }
    }

    /// Waits for a connection with the reserve's descriptor. Ensures that an accept loop does not
    /// spin: each return has cost somebody a connection, or a pause.
    fn accept_in_shortage(&mut self, shortage: io::Error) -> io::Result<(TcpStream, SocketAddr)> {
        self.reserve = None;
        let accepted = self.socket.accept();
        self.reserve = reserve();
        match accepted {
            Ok(connection) if self.reserve.is_some() => Ok(connection),
            Ok((refused, _)) => {
                drop(refused);
                self.reserve = reserve();
                Err(shortage)
            }
            // Another thread was faster.
            Err(error) if is_shortage(&error) => {
                std::thread::sleep(SHORTAGE_PAUSE);
                Err(error)
            }
            Err(error) => Err(error),
        }
    }
}

/// A descriptor to be given up.
fn reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

fn is_shortage(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE]
        .iter()
        .any(|errno| code == Some(errno.raw_os_error()))
}

/// Ends a listener's accept loop from another thread.
#[derive(Clone, Debug)]
pub struct ListenerCloser {
    socket: Arc<TcpListener>,
    closed: Arc<AtomicBool>,
}

impl ListenerCloser {
    /// Makes `accept` return `Closed`, now and from now on.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let shut = socket2::SockRef::from(&*self.socket).shutdown(std::net::Shutdown::Both);
        // Where a listening socket cannot be shut down, a connection of our own wakes `accept`.
        if let (Err(_), Ok(address)) = (shut, self.socket.local_addr()) {
            drop(TcpStream::connect_timeout(&address, SHORTAGE_PAUSE));
        }
    }
}

/// The incoming side of one peer.
#[derive(Debug)]
pub struct Inbound {
    /// Who it is.
    pub peer: Identity,
    stream: TcpStream,
    reader: FrameReader,
}

/// Why an incoming connection ended.
#[derive(Debug, Error)]
pub enum ReceiveError {
    /// The peer closed it between two frames or within one.
    #[error("closed by the peer")]
    Closed,
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The peer sent something that is no frame.
    #[error("dropped: {0}")]
    Frame(#[from] FrameError),
}

/// Answers the hello of an accepted connection.
pub fn accept_hello(
    stream: TcpStream,
    ours: &Identity,
    peers: &[ServerId],
    check: &mut CheckHistory,
) -> Result<Inbound, HelloError> {
    let peer = hello::answer(&stream, ours, peers, check, Instant::now() + HANDSHAKE_MAX)?;
    stream.set_read_timeout(None)?;
    socket::prepare(&stream)?;
    Ok(Inbound { peer, stream, reader: FrameReader::default() })
}

impl Inbound {
    /// Waits for frames and returns all that have arrived, as one.
    pub fn receive(&mut self) -> Result<Frame, ReceiveError> {
        loop {
            match self.reader.read_from(&mut &self.stream) {
                Ok(0) => return Err(ReceiveError::Closed),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            }
            let mut all = Frame::default();
            while let Some(frame) = self.reader.next_frame()? {
                all.raft.extend(frame.raft);
                all.gateway.extend(frame.gateway);
            }
            if !all.is_empty() {
                return Ok(all);
            }
        }
    }
}
