//! The socket options that peers and clients need and std lacks.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags};
use socket2::{SockRef, TcpKeepalive};

/// After this long without an acknowledgement a connection is dead (S51): a half-open link must not
/// keep a healed peer waiting for minutes.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// How long one blocking send may take before the thread comes back to look around.
const SEND_MAX: Duration = Duration::from_millis(500);

/// After this long without a word from a client its host is asked whether it is there …
const CLIENT_SILENCE: Duration = Duration::from_secs(60);

/// … and again after each of these, a few times (the system decides how often).
const CLIENT_PROBES: Duration = Duration::from_secs(10);

/// Makes a dead peer noticed in seconds, and small frames leave at once.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(SEND_MAX))?;
    let socket = SockRef::from(stream);
    let second = Duration::from_secs(1);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(second).with_interval(second))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(SILENCE_MAX))?;
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
pub fn send_now(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match rustix::net::send(stream, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Ok(count) => Ok(count),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Whether the peer still holds an outgoing connection. It never writes on it, so anything to read
/// is its end or its error.
pub fn is_open(stream: &TcpStream) -> bool {
    let mut byte = [0_u8; 1];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    matches!(rustix::net::recv(stream, &mut byte, flags), Err(rustix::io::Errno::AGAIN))
}

/// Ends a connection in both directions; an error means that it had ended already.
pub fn close(stream: &TcpStream) {
    drop(stream.shutdown(Shutdown::Both));
}
