//! The thread of one client that must wait: for the answer to its WATCH, for an operator's wish to
//! be fulfilled, until it has read its replies, or for its end. Once it has had to wait, it keeps
//! its thread; most clients never do.

use std::io::{self, Read};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::gateway::ClientId;

use super::client::{Client, Clients, Leave, Round, Wait};
use super::monitor::Deliver;

/// Stack of such a thread, in bytes. It is reserved, not used: a client that does nothing costs a
/// few pages.
const STACK_BYTES: usize = 256 * 1024;

/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;

/// After the last words to a client: how long, and how many bytes of, what it still sends is
/// swallowed, so that the kernel does not destroy the words by resetting the connection.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 16 * 1024 * 1024;

impl<D: Deliver + Send + Sync + 'static> Clients<D> {
    /// A client leaves the crowd, for a thread of its own unless it has nothing to wait for.
    pub fn leave(self: &Arc<Self>, client: Client, why: Leave) {
        if let Leave::Ended { half_closed: true } = why
            && client.output().needs_nobody()
        {
            return self.end(&client, true);
        }
        let (id, output, shared) = (client.id(), Arc::clone(client.output()), Arc::clone(self));
        let thread =
            thread::Builder::new().name(format!("client-{}", id.0)).stack_size(STACK_BYTES);
        if let Err(error) = thread.spawn(move || shared.serve(client, why)) {
            log::warn!("closing client {}: no thread for it: {error}", output.name());
            output.cut();
            self.forget(id);
        }
    }

    /// The body of the thread.
    fn serve(&self, mut client: Client, why: Leave) {
        let half_closed = match why {
            Leave::Waits(wait) => self.read_on(&mut client, wait),
            Leave::Ended { half_closed } => half_closed,
        };
        self.end(&client, half_closed);
    }

    /// Waits, then reads and submits until it must wait again, and so on, until the client ends or
    /// is to be ended. Returns whether the client has said that it will send nothing more.
    fn read_on(&self, client: &mut Client, wait: Wait) -> bool {
        let mut buffer = [0; READ_BYTES];
        let mut timeout = None;
        let mut next = self.go_on(client, wait);
        loop {
            match next {
                Some(Leave::Waits(wait)) => {
                    next = self.go_on(client, wait);
                    continue;
                }
                Some(Leave::Ended { half_closed }) => return half_closed,
                None => {}
            }
            client.output().wait_for_room();
            set_deadline(client, &mut timeout);
            next = match client.socket().read(&mut buffer) {
                Ok(0) => {
                    self.finish(client);
                    return true;
                }
                Ok(count) => {
                    let mut round = Round::default();
                    let next = self.take(client, &buffer[..count], Instant::now(), &mut round);
                    self.submit(&mut round);
                    next
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
                Err(error) if is_timeout(&error) => {
                    client.tell_too_slow(self.limits.request_arrival_ms);
                    return false;
                }
                Err(_reset) => {
                    client.output().cut();
                    return true;
                }
            };
        }
    }

    /// Waits, and submits what can be understood then.
    fn go_on(&self, client: &mut Client, wait: Wait) -> Option<Leave> {
        match wait {
            Wait::Watch(slot) => client.watched(client.output().wait_for_watch(slot)),
            Wait::Room => client.output().wait_for_room(),
            Wait::Wish(wish) => self.fulfil(client, *wish),
        }
        let mut round = Round::default();
        let next = self.take(client, &[], Instant::now(), &mut round);
        self.submit(&mut round);
        next
    }

    /// Waits until the last reply has left, and takes the client off the books.
    fn end(&self, client: &Client, half_closed: bool) {
        let output = client.output();
        output.end();
        output.wait_until_done();
        self.monitor.with(|server| server.hang_up(client.id()));
        self.admins.backups.end(client.id());
        if !half_closed && !output.is_broken() {
            linger(client.socket());
        }
        // Only now: as long as it has threads and a descriptor, it counts.
        output.wait_for_helpers();
        self.connections.remove(client.id());
    }

    /// Takes a client off the books whose connection has been cut.
    fn forget(&self, id: ClientId) {
        self.monitor.with(|server| server.hang_up(id));
        self.admins.backups.end(id);
        self.connections.remove(id);
    }
}

/// The rest of the time that the request that is arriving has; all the time in the world if none
/// is. `timeout` is what the socket was told last.
fn set_deadline(client: &Client, timeout: &mut Option<Duration>) {
    let rest = |at: Instant| at.saturating_duration_since(Instant::now());
    let wanted = client.deadline().map(|at| rest(at).max(Duration::from_millis(1)));
    if wanted.is_none() && timeout.is_none() {
        return;
    }
    *timeout = wanted;
    if let Err(error) = client.socket().set_read_timeout(wanted) {
        log::debug!("a client's socket takes no timeout: {error}");
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Closes our direction and swallows what still comes, for a moment.
fn linger(socket: &TcpStream) {
    if socket.shutdown(Shutdown::Write).is_err() || socket.set_read_timeout(Some(LINGER)).is_err() {
        return;
    }
    let since = Instant::now();
    let mut swallowed = 0;
    let mut buffer = [0; READ_BYTES];
    let mut socket = socket;
    while let Ok(count @ 1..) = socket.read(&mut buffer) {
        swallowed += count;
        if swallowed > LINGER_BYTES_MAX || since.elapsed() > LINGER {
            return;
        }
    }
}
