//! What clients send, and which of it reaches a server together.

use super::checks::{Checked, Violation};
use super::clients::Action;
use super::queue::{Event, Micros, Place};
use super::world::{World, id_of};
use crate::gateway::{ClientId, Request, Slot};

/// How often a client asks in the same round as another one of its server, per ten thousand.
const ASKS_TOO: u32 = 2_000;

impl World {
    /// A client may do something; so may others of its server, in the same round of the thread that
    /// reads from all of them.
    pub(super) fn client(&mut self, client: u16) -> Checked {
        if let Some(until) = self.is_kept_waiting(client) {
            self.queue.push(until, Event::Client(client)); // its bytes wait in the socket
            return Ok(());
        }
        let pause = self.random.between(100, self.plan.clients.think_max);
        self.queue.push(self.now + pause, Event::Client(client));
        match self.act(client)? {
            Action::Wait => Ok(()),
            Action::HangUp(place, _, connection) => {
                self.hang_up(client, place, connection);
                self.after(place)
            }
            Action::Submit(place, _, connection, requests) => {
                self.tell(|| format!("client {client} asks {}: {requests:?}", id_of(place)));
                let mut arrived = of_client(connection, requests);
                self.others_who_ask(client, place, &mut arrived)?;
                self.tell_time(place);
                self.server(place).submit(arrived);
                self.after(place)
            }
        }
    }

    /// What other clients of the same server do at the same time: a round of the crowd.
    fn others_who_ask(
        &mut self,
        client: u16,
        place: Place,
        arrived: &mut Vec<(ClientId, Slot, Request)>,
    ) -> Checked {
        for other in 0..self.clients.count() {
            let is_here = self.clients.place_of(other, self.now, &self.plan.clients) == Some(place);
            if other == client || !is_here || !self.random.chance(ASKS_TOO) {
                continue;
            }
            match self.act(other)? {
                Action::Wait => {}
                Action::HangUp(place, _, connection) => self.hang_up(other, place, connection),
                Action::Submit(_, _, connection, requests) => {
                    self.tell(|| format!("client {other} asks too: {requests:?}"));
                    arrived.extend(of_client(connection, requests));
                }
            }
        }
        Ok(())
    }

    /// What a client does next.
    fn act(&mut self, client: u16) -> Result<Action, Violation> {
        let mut lives = [None; 8];
        for (place, (life, machine)) in lives.iter_mut().zip(&self.machines).enumerate() {
            let process = machine.process.as_ref().filter(|_| !self.is_out(place as Place));
            *life = process.map(|process| (machine.life, process.ticks));
        }
        let when = (self.now, self.stats.steps);
        let lives = &lives[..self.plan.servers];
        let deadline = self.plan.gateway.deadline_ticks;
        self.clients.act(client, when, &self.plan.clients, lives, deadline)
    }

    fn hang_up(&mut self, client: u16, place: Place, connection: ClientId) {
        self.tell(|| format!("client {client} hangs up on {}", id_of(place)));
        self.server(place).hang_up(connection);
    }

    /// Until when the server that this client talks to is frozen, if the client bears with that.
    fn is_kept_waiting(&self, client: u16) -> Option<Micros> {
        let place = self.clients.place_of(client, self.now, &self.plan.clients)?;
        if self.is_out(place) {
            return None; // its clients have given it up
        }
        let until = self.machines[usize::from(place)].frozen_until;
        (until > self.now).then_some(until)
    }
}

fn of_client(client: ClientId, requests: Vec<(Slot, Request)>) -> Vec<(ClientId, Slot, Request)> {
    requests.into_iter().map(|(slot, request)| (client, slot, request)).collect()
}
