//! The crowd: one thread that reads from all clients that need not wait.
//!
//! It sleeps until the system says that some of them have sent something, reads and understands
//! what there is, and enters the server once with the requests of all. So a busy server pays one
//! lock, one question for a read index and one frame to each peer for a whole round of clients,
//! instead of a change of threads for each of them; and an idle client costs no thread.
//!
//! It never waits for one client: whoever must wait, or ends, leaves for a thread of its own (see
//! `client`).

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};

use crate::gateway::ClientId;
use crate::transport::socket::receive_nonblocking;

use super::client::{Client, Clients, Leave, Round, Wait};
use super::monitor::Deliver;

/// Bytes read from one client at once.
const READ_BYTES: usize = 64 * 1024;

/// Clients that the system reports at once.
const EVENTS_MAX: usize = 1024;

/// Somebody is at the door. Clients' numbers begin with 1.
const NEWCOMERS: Token = Token(0);

/// Where a client joins the crowd.
pub struct Door {
    sender: Sender<Client>,
    bell: Waker,
}

impl Door {
    /// From now on the crowd's thread reads from this client.
    pub fn enter(&self, client: Client) {
        self.sender.send(client).expect("the crowd's thread lives as long as the process");
        if let Err(error) = self.bell.wake() {
            log::error!("the thread that reads from clients cannot be woken: {error}");
        }
    }
}

/// All clients that need not wait.
pub struct Crowd {
    poll: Poll,
    newcomers: Receiver<Client>,
    members: HashMap<ClientId, Client>,
    /// Members whose request has begun to arrive, by when it must be complete.
    deadlines: BTreeSet<(Instant, ClientId)>,
    /// Members that may have sent more than was read: the system tells only of what is new.
    unread: Vec<ClientId>,
}

/// An empty crowd, and the way into it. Fails if the system has no more descriptors.
pub fn crowd() -> io::Result<(Door, Crowd)> {
    let poll = Poll::new()?;
    let bell = Waker::new(poll.registry(), NEWCOMERS)?;
    let (sender, newcomers) = crossbeam_channel::unbounded();
    let (members, deadlines, unread) = (HashMap::new(), BTreeSet::new(), Vec::new());
    Ok((Door { sender, bell }, Crowd { poll, newcomers, members, deadlines, unread }))
}

impl Crowd {
    /// The body of the thread `client-read`.
    pub fn run<D: Deliver + Send + Sync + 'static>(mut self, clients: &Arc<Clients<D>>) {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut buffer = vec![0; READ_BYTES];
        let mut round = Round::default();
        let mut ready = Vec::new();
        loop {
            if !events.is_empty() {
                thread::yield_now(); // see "Stepping aside" in `node`
            }
            self.wait(&mut events);
            ready.append(&mut self.unread);
            for event in &events {
                match event.token() {
                    NEWCOMERS => self.let_in(clients),
                    Token(number) => {
                        let client = ClientId(number as u64);
                        ready.push(client);
                        // Its end is no news again when what it sent before that has been read.
                        if event.is_read_closed() {
                            self.unread.push(client);
                        }
                    }
                }
            }
            let now = Instant::now();
            let mut leaving = Vec::new();
            for id in ready.drain(..) {
                if let Some(why) = self.read(clients, id, now, &mut buffer, &mut round) {
                    leaving.extend(self.remove(id).map(|client| (client, why)));
                }
            }
            clients.submit(&mut round);
            self.end_overdue(now, clients.limits.request_arrival_ms, &mut leaving);
            for (client, why) in leaving {
                clients.leave(client, why);
            }
        }
    }

    fn wait(&mut self, events: &mut Events) {
        let patience = if self.unread.is_empty() {
            let next = self.deadlines.first();
            next.map(|(at, _)| at.saturating_duration_since(Instant::now()))
        } else {
            Some(Duration::ZERO)
        };
        if let Err(error) = self.poll.poll(events, patience)
            && error.kind() != io::ErrorKind::Interrupted
        {
            panic!("clients cannot be waited for: {error}");
        }
    }

    fn let_in<D: Deliver + Send + Sync + 'static>(&mut self, clients: &Arc<Clients<D>>) {
        for client in self.newcomers.try_iter() {
            match register(self.poll.registry(), &client) {
                Ok(()) => drop(self.members.insert(client.id(), client)),
                Err(error) => {
                    log::warn!("refusing a client: the system does not watch it: {error}");
                    clients.turn_away(&client, "this server cannot watch another connection");
                }
            }
        }
    }

    /// Reads from a member what one read brings, and adds what it asks to the round. Returns why it
    /// leaves, if it does.
    fn read<D: Deliver + Send + Sync + 'static>(
        &mut self,
        clients: &Arc<Clients<D>>,
        id: ClientId,
        now: Instant,
        buffer: &mut [u8],
        round: &mut Round,
    ) -> Option<Leave> {
        let client = self.members.get_mut(&id)?;
        if !client.output().has_room() {
            return Some(Leave::Waits(Wait::Room));
        }
        let received = match receive_nonblocking(client.socket(), buffer) {
            Ok(0) => {
                clients.finish(client);
                return Some(Leave::Ended { half_closed: true });
            }
            Ok(count) => &buffer[..count],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(_reset) => {
                client.output().cut();
                return Some(Leave::Ended { half_closed: true });
            }
        };
        if received.len() == buffer.len() {
            self.unread.push(id);
        }
        let before = client.deadline();
        let leave = clients.take(client, received, now, round);
        let after = client.deadline();
        if before != after {
            before.map(|at| self.deadlines.remove(&(at, id)));
            after.map(|at| self.deadlines.insert((at, id)));
        }
        leave
    }

    /// Takes a member out of the crowd.
    fn remove(&mut self, id: ClientId) -> Option<Client> {
        let client = self.members.remove(&id)?;
        client.deadline().map(|at| self.deadlines.remove(&(at, id)));
        if let Err(error) =
            self.poll.registry().deregister(&mut SourceFd(&client.socket().as_raw_fd()))
        {
            log::debug!("client {}: cannot be let go: {error}", id.0);
        }
        Some(client)
    }

    /// Whose request has not arrived in time is told so, and ends.
    fn end_overdue(&mut self, now: Instant, patience_ms: u64, leaving: &mut Vec<(Client, Leave)>) {
        while let Some(&(at, id)) = self.deadlines.first()
            && at <= now
        {
            let client = self.remove(id).expect("deadlines are those of members");
            client.tell_too_slow(patience_ms);
            leaving.push((client, Leave::Ended { half_closed: false }));
        }
    }
}

fn register(registry: &Registry, client: &Client) -> io::Result<()> {
    let token = Token(usize::try_from(client.id().0).map_err(io::Error::other)?);
    registry.register(&mut SourceFd(&client.socket().as_raw_fd()), token, Interest::READABLE)
}
