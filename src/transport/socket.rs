//! The socket calls that std lacks: sending without waiting, and noticing that the other is gone.
//!
//! All sockets are in blocking mode, for the thread that may block. A thread that may not block
//! says so at each call (`MSG_DONTWAIT`), which leaves the socket as it is for the others.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use socket2::{SockRef, TcpKeepalive};

use crate::limits::LINK_SILENCE_MS_MAX;

/// After this long without a word from a client its host is asked whether it is there …
const CLIENT_SILENCE: Duration = Duration::from_secs(60);

/// … and again after each of these, a few times (the system decides how often).
const CLIENT_PROBES: Duration = Duration::from_secs(10);

/// Prepares a connection between servers: a dead peer is noticed in seconds, also while nothing is
/// said, and small frames leave at once.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let second = Duration::from_secs(1);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(second).with_interval(second))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(Duration::from_millis(LINK_SILENCE_MS_MAX)))?;
    Ok(())
}

/// Makes small replies leave at once, and a client whose host has vanished give up its place: it
/// may be silent as long as it likes, its host may not.
pub fn prepare_for_client(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let probes = TcpKeepalive::new().with_time(CLIENT_SILENCE).with_interval(CLIENT_PROBES);
    SockRef::from(stream).set_tcp_keepalive(&probes)
}

/// Sends what the socket takes without waiting, and says how many bytes that was.
pub fn send_nonblocking(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    send(stream, bytes, SendFlags::DONTWAIT)
}

/// Sends what the socket takes within `patience`, and says how many bytes that was: 0 if it took
/// none in this time.
pub fn send_blocking(stream: &TcpStream, bytes: &[u8], patience: Duration) -> io::Result<usize> {
    stream.set_write_timeout(Some(patience))?;
    send(stream, bytes, SendFlags::empty())
}

fn send(stream: &TcpStream, bytes: &[u8], flags: SendFlags) -> io::Result<usize> {
    loop {
        match rustix::net::send(stream, bytes, flags | SendFlags::NOSIGNAL) {
            Ok(count) => return Ok(count),
            Err(Errno::AGAIN) => return Ok(0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Receives what has arrived without waiting: 0 bytes at the end, `WouldBlock` if nothing has.
pub fn receive_nonblocking(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match rustix::net::recv(stream, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((_, count)) => return Ok(count),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether the peer still holds an outgoing connection. It never writes on it, so anything to read
/// is its end or its error.
pub fn is_open(stream: &TcpStream) -> bool {
    let mut byte = [0_u8; 1];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    matches!(rustix::net::recv(stream, &mut byte, flags), Err(Errno::AGAIN | Errno::INTR))
}

/// Ends a connection in both directions; an error means that it had ended already.
pub fn close(stream: &TcpStream) {
    drop(stream.shutdown(Shutdown::Both));
}
