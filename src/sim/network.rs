//! The network between the servers: every message on its way, and the connections.
//!
//! A world has one of two networks. In an *ordered* one, connections behave as TCP: what arrives,
//! arrives in order, and losing anything means losing the connection with all that is under way on
//! it; then the sender dials again. In the other every message travels alone and may be lost,
//! doubled, late and overtaken. Real servers use the first; Raft promises to be safe in the second,
//! which finds more.

use super::plan::NetworkHabits;
use super::queue::{Micros, Place};
use super::random::Random;
use super::stragglers::{Straggler, Stragglers};
use crate::server::Outgoing;

/// Messages and connections of a cluster.
#[derive(Debug)]
pub struct Network {
    servers: usize,
    random: Random,
    /// One per ordered pair of servers.
    links: Vec<Link>,
    /// Messages under way, by number; the numbers of those that have arrived are used again.
    packets: Vec<Option<Packet>>,
    free: Vec<u32>,
    connections: u32,
    /// A bit for each server that the one at this position cannot reach, one row for each partition
    /// that lasts: partitions may overlap.
    partitions: Vec<(u16, [u8; 8])>,
    /// Copies of old messages.
    stragglers: Stragglers,
}

/// The connection from one server to another. Each server sends on connections that it has dialled.
#[derive(Clone, Debug, Default)]
struct Link {
    /// The number of the connection, if there is one.
    connection: Option<u32>,
    /// When the last message on it arrives: the next one arrives later.
    busy_until: Micros,
    /// The sender will dial.
    dialling: bool,
}

/// A message under way.
#[derive(Debug)]
pub struct Packet {
    /// Its sender.
    pub from: Place,
    /// Its receiver.
    pub to: Place,
    /// The connection it travels on.
    pub connection: u32,
    /// What it says.
    pub content: Outgoing,
}

impl Network {
    /// A network without connections.
    pub fn new(servers: usize, seed: u64) -> Network {
        Network {
            servers,
            random: Random::part(seed, 2),
            links: vec![Link::default(); servers * servers],
            packets: Vec::new(),
            free: Vec::new(),
            connections: 0,
            partitions: Vec::new(),
            stragglers: Stragglers::default(),
        }
    }

    fn link(&mut self, from: Place, to: Place) -> &mut Link {
        &mut self.links[from as usize * self.servers + to as usize]
    }

    /// The number of the connection on which `from` sends to `to`.
    pub fn connection(&self, from: Place, to: Place) -> Option<u32> {
        self.links[from as usize * self.servers + to as usize].connection
    }

    /// `from` has dialled `to`. Returns the number of the new connection.
    pub fn connect(&mut self, from: Place, to: Place) -> u32 {
        self.connections += 1;
        let connection = self.connections;
        *self.link(from, to) =
            Link { connection: Some(connection), busy_until: 0, dialling: false };
        connection
    }

    /// `from` will dial `to`. Returns whether that is news.
    pub fn dials(&mut self, from: Place, to: Place) -> bool {
        !std::mem::replace(&mut self.link(from, to).dialling, true)
    }

    /// `from` dials `to` now.
    pub fn dialled(&mut self, from: Place, to: Place) {
        self.link(from, to).dialling = false;
    }

    /// The connection from `from` to `to` ends; what is under way on it is lost.
    pub fn disconnect(&mut self, from: Place, to: Place) -> Option<u32> {
        self.link(from, to).connection.take()
    }

    /// Partition number `name` begins.
    pub fn part(&mut self, name: u16, blocked: [u8; 8]) {
        self.partitions.push((name, blocked));
    }

    /// Partition number `name` ends.
    pub fn heal(&mut self, name: u16) {
        self.partitions.retain(|(other, _)| *other != name);
    }

    /// Whether messages from `from` to `to` arrive at present.
    pub fn reaches(&self, from: Place, to: Place) -> bool {
        self.partitions.iter().all(|(_, blocked)| blocked[from as usize] & (1 << to) == 0)
    }

    /// Puts a message on its way. Calls `arrives` with the time and number of each copy; with none
    /// if it is lost. Requires a connection.
    pub fn send(
        &mut self,
        now: Micros,
        habits: &NetworkHabits,
        (from, to): (Place, Place),
        content: Outgoing,
        mut arrives: impl FnMut(Micros, u32),
    ) -> Sent {
        let connection = self.connection(from, to).expect("messages are sent on connections");
        let lost = self.random.chance(habits.loss) || !self.reaches(from, to);
        if habits.ordered {
            if lost {
                return Sent::ConnectionBreaks;
            }
            let at = (now + self.delay(habits)).max(self.link(from, to).busy_until + 1);
            self.link(from, to).busy_until = at;
            arrives(at, self.keep(Packet { from, to, connection, content }));
            return Sent::OnItsWay;
        }
        for single in split(content) {
            if habits.stragglers && !single.gateway.is_empty() {
                self.ask_the_past(now, habits, (from, to), &single, &mut arrives);
            }
            if !self.reaches(from, to) || self.random.chance(habits.loss) {
                continue;
            }
            if self.random.chance(habits.twice) {
                let at = now + self.delay(habits);
                if habits.stragglers {
                    let copy = Straggler { from, to, content: single.clone() };
                    self.stragglers.keep(copy, &mut self.random);
                    let mut old = self.stragglers.any_to(from, &mut self.random);
                    old = old.or_else(|| self.stragglers.any_to(to, &mut self.random));
                    old.into_iter().for_each(|old| arrives(at, self.keep(old.into())));
                }
                arrives(at, self.keep(Packet { from, to, connection, content: single.clone() }));
            }
            let at = now + self.delay(habits);
            arrives(at, self.keep(Packet { from, to, connection, content: single }));
        }
        Sent::OnItsWay
    }

    /// A gateway says something, and if it has just come up, it hears before all answers what its
    /// former life was answered.
    fn ask_the_past(
        &mut self,
        now: Micros,
        habits: &NetworkHabits,
        (from, to): (Place, Place),
        content: &Outgoing,
        arrives: &mut impl FnMut(Micros, u32),
    ) {
        for old in self.stragglers.asks(Straggler { from, to, content: content.clone() }) {
            let at = now + self.random.between(1, habits.delay_min);
            arrives(at, self.keep(old.into()));
        }
    }

    /// A server's life ends.
    pub fn life_ends(&mut self, place: Place) {
        self.stragglers.life_ends(place);
    }

    /// All stragglers to `to` arrive now.
    pub fn stragglers_arrive(&mut self, to: Place, mut arrives: impl FnMut(u32)) {
        for old in self.stragglers.take_to(to) {
            arrives(self.keep(old.into()));
        }
    }

    /// Takes a message that arrives.
    pub fn take(&mut self, number: u32) -> Packet {
        self.free.push(number);
        self.packets[number as usize].take().expect("a message arrives once")
    }

    /// The message that will arrive.
    pub fn peek(&self, number: u32) -> &Packet {
        self.packets[number as usize].as_ref().expect("a message arrives once")
    }

    fn keep(&mut self, packet: Packet) -> u32 {
        if let Some(number) = self.free.pop() {
            self.packets[number as usize] = Some(packet);
            return number;
        }
        self.packets.push(Some(packet));
        u32::try_from(self.packets.len() - 1).expect("fewer than 4 billion messages are under way")
    }

    fn delay(&mut self, habits: &NetworkHabits) -> Micros {
        if self.random.chance(habits.late) {
            self.random.between(habits.delay_max, habits.delay_max.max(habits.late_max))
        } else {
            self.random.between(habits.delay_min, habits.delay_max)
        }
    }
}

impl From<Straggler> for Packet {
    /// It belongs to no connection any more.
    fn from(Straggler { from, to, content }: Straggler) -> Packet {
        Packet { from, to, connection: 0, content }
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It may arrive.
    OnItsWay,
    /// It is lost, and its connection with it.
    ConnectionBreaks,
}

/// Where every message travels alone, a batch is its messages.
fn split(batch: Outgoing) -> impl Iterator<Item = Outgoing> {
    let raft =
        batch.raft.into_iter().map(|message| Outgoing { raft: vec![message], gateway: vec![] });
    let gateway =
        batch.gateway.into_iter().map(|message| Outgoing { raft: vec![], gateway: vec![message] });
    raft.chain(gateway)
}
