//! The lobby: where clients wait that come while the server starts.
//!
//! Most starts take less than a second. Who comes meanwhile is let in when it is over, and notices
//! nothing. When it takes longer, whoever has asked for something is told `LOADING`, so that it can
//! turn to another server, and its connection ends. From those who have asked for nothing nothing
//! is read, so they can be let in all the same.

use std::io::Write;
use std::mem;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::protocol::{Dialect, Reply};
use crate::transport::listener::{Accepted, Listener};
use crate::transport::socket::receive_nonblocking;

use super::progress::Doing;

/// A start that takes no longer than this is not spoken of.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often it is looked who has asked for something.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A client that was told may take so long to read it.
const LINGER: Duration = Duration::from_secs(1);

/// Clients that wait; the others wait where the system keeps them, to be accepted. Each takes a
/// descriptor.
const GUESTS_MAX: usize = 512;

/// Takes clients that have connected.
pub type Admit = Box<dyn Fn(TcpStream, SocketAddr) + Send>;

/// Where clients wait.
pub struct Lobby {
    since: Instant,
    doing: Doing,
    state: Mutex<State>,
    /// Signalled when the doors open, and when there is room for another guest.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    guests: Vec<Guest>,
    /// The server has started: who comes is taken in by this.
    admit: Option<Admit>,
}

struct Guest {
    socket: TcpStream,
    peer: SocketAddr,
    /// When it was told that it came too early.
    told_at: Option<Instant>,
}

impl Lobby {
    /// For a server that began to start at `since`; `doing` tells what it is busy with.
    pub fn new(since: Instant, doing: Doing) -> Arc<Lobby> {
        let (state, changed) = (Mutex::default(), Condvar::new());
        Arc::new(Lobby { since, doing, state, changed })
    }

    /// The body of the thread `client-accept`: takes clients until the listener is closed.
    pub fn accept(&self, mut listener: Listener) {
        loop {
            match listener.accept() {
                Accepted::Connection(socket, peer) => self.come(socket, peer),
                Accepted::Trouble(error) => log::warn!("cannot accept a client: {error}"),
                Accepted::Closed => return,
            }
        }
    }

    /// The body of the thread `lobby`, which ends when the server has started.
    pub fn attend(&self) {
        let mut state = self.state.lock();
        while state.admit.is_none() {
            self.look(&mut state, Instant::now());
            self.changed.wait_for(&mut state, LOOK_EVERY);
        }
    }

    /// Tells who has asked for something, and sees who has gone.
    fn look(&self, state: &mut State, now: Instant) {
        if now - self.since >= PATIENCE {
            state.guests.retain_mut(|guest| self.stays(guest, now));
            self.changed.notify_all();
        }
    }

    /// The server has started.
    pub fn open(&self, admit: Admit) {
        let mut state = self.state.lock();
        let guests = mem::take(&mut state.guests);
        for Guest { socket, peer, .. } in guests.into_iter().filter(|it| it.told_at.is_none()) {
            admit(socket, peer);
        }
        state.admit = Some(admit);
        self.changed.notify_all();
    }

    fn come(&self, socket: TcpStream, peer: SocketAddr) {
        let mut state = self.state.lock();
        while state.admit.is_none() && state.guests.len() >= GUESTS_MAX {
            self.changed.wait(&mut state);
        }
        match &state.admit {
            Some(admit) => admit(socket, peer),
            None => state.guests.push(Guest { socket, peer, told_at: None }),
        }
    }

    /// Tells a guest that has asked for something. Returns `false` when there is no use for its
    /// connection any more.
    fn stays(&self, guest: &mut Guest, now: Instant) -> bool {
        // What it asks is of no interest: it is refused. But unread it would make the system reset
        // the connection, and destroy the answer.
        let mut asked = false;
        let mut buffer = [0; 4096];
        loop {
            match receive_nonblocking(&guest.socket, &mut buffer) {
                Ok(1..) => asked = true,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Ok(0) | Err(_) => return asked && guest.told_at.is_none() && self.tell(guest, now),
            }
        }
        match guest.told_at {
            Some(at) => now - at < LINGER,
            None => !asked || self.tell(guest, now),
        }
    }

    /// The last words to a guest. Returns whether it can hear them.
    fn tell(&self, guest: &mut Guest, now: Instant) -> bool {
        let reply = Reply::loading(self.doing.now(), (now - self.since).as_secs());
        let mut words = Vec::new();
        Dialect::UNKNOWN.print(&reply, &mut words);
        guest.told_at = Some(now);
        let told = guest.socket.write_all(&words); // a few bytes, and the first: it does not block
        told.is_ok() && guest.socket.shutdown(Shutdown::Write).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};
    use std::net::TcpListener;
    use std::thread;

    use crossbeam_channel::{Receiver, unbounded};

    use super::*;

    /// A lobby that has been there for so long, and a way to connect to it.
    fn lobby(seconds: u64) -> (Arc<Lobby>, TcpListener) {
        let since = Instant::now().checked_sub(Duration::from_secs(seconds)).expect("it is up");
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
        (Lobby::new(since, Doing::new("reading")), listener)
    }

    fn connect(lobby: &Lobby, listener: &TcpListener) -> TcpStream {
        let client = TcpStream::connect(listener.local_addr().expect("it is bound"));
        let (socket, peer) = listener.accept().expect("a client connects");
        lobby.come(socket, peer);
        client.expect("a listener is there")
    }

    fn attended(lobby: &Arc<Lobby>) -> thread::JoinHandle<()> {
        let lobby = Arc::clone(lobby);
        thread::spawn(move || lobby.attend())
    }

    fn admitting() -> (Admit, Receiver<TcpStream>) {
        let (sender, admitted) = unbounded();
        let admit: Admit = Box::new(move |socket, _| sender.send(socket).expect("it waits"));
        (admit, admitted)
    }

    fn line_of(client: &TcpStream) -> String {
        let mut line = String::new();
        BufReader::new(client).read_line(&mut line).expect("something is said");
        line
    }

    #[test]
    fn who_asks_while_the_start_takes_long_is_told_and_the_others_are_let_in() {
        let (lobby, listener) = lobby(7);
        let (asks, waits) = (connect(&lobby, &listener), connect(&lobby, &listener));
        (&asks).write_all(b"GET a\r\nGET b\r\n").expect("it is open");
        let attendant = attended(&lobby);
        let line = line_of(&asks);
        assert!(
            line.starts_with("-LOADING this server is starting, reading, 7 s so far"),
            "{line}"
        );
        assert!(line.ends_with("\r\n"));
        assert_eq!((&asks).read(&mut [0; 1]).expect("its end is orderly"), 0);
        let (admit, admitted) = admitting();
        lobby.open(admit);
        attendant.join().expect("it ends");
        (&waits).write_all(b"PING\n").expect("it is open");
        let mut socket = admitted.try_recv().expect("it was let in");
        let mut first = [0; 5];
        socket.read_exact(&mut first).expect("nothing of it was read before");
        assert_eq!(&first, b"PING\n");
        assert!(admitted.try_recv().is_err(), "and no other");
    }

    #[test]
    fn a_start_that_takes_no_longer_is_not_spoken_of() {
        let (lobby, listener) = lobby(0);
        let client = connect(&lobby, &listener);
        (&client).write_all(b"PING\n").expect("it is open");
        {
            let mut state = lobby.state.lock();
            state.guests[0].socket.peek(&mut [0; 1]).expect("it arrives");
            lobby.look(&mut state, lobby.since + PATIENCE - Duration::from_millis(1));
            assert_eq!(state.guests[0].told_at, None);
        }
        let (admit, admitted) = admitting();
        lobby.open(admit);
        let mut first = [0; 5];
        admitted.try_recv().expect("it was let in").read_exact(&mut first).expect("all of it");
        assert_eq!(&first, b"PING\n");
        let later = connect(&lobby, &listener);
        let admitted = admitted.try_recv().expect("the doors are open");
        assert_eq!(admitted.peer_addr().ok(), later.local_addr().ok());
    }

    /// A guest that has gone, or has been told and does not go, keeps no place.
    #[test]
    fn guests_do_not_stay_for_ever() {
        let (lobby, listener) = lobby(2);
        drop(connect(&lobby, &listener));
        let client = connect(&lobby, &listener);
        (&client).write_all(b"PING\n").expect("it is open");
        let stay = |now| {
            let mut state = lobby.state.lock();
            lobby.look(&mut state, now);
            state.guests.len()
        };
        let now = Instant::now();
        // What is sent over loopback may take a moment.
        let end = now + Duration::from_secs(10);
        while stay(now) > 1 || lobby.state.lock().guests[0].told_at.is_none() {
            assert!(Instant::now() < end, "one is gone, one is told");
        }
        (&client).write_all(b"PING\n").expect("the server still listens");
        assert_eq!(stay(now + LINGER / 2), 1);
        assert_eq!(stay(now + LINGER), 0);
    }
}
