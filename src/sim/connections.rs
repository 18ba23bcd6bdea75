//! Connections: who dials whom, when that succeeds, and who notices that one is gone.
//!
//! Each server sends on connections that it has dialled itself and receives on those that others
//! have. The two ends of one never learn of its end together: the receiver notices sooner, later,
//! or only when a newer connection takes its place, and the core must bear all three.

use super::checks::{Checked, ensure};
use super::queue::{Event, Place};
use super::world::{World, id_of};
use crate::raft::{ConnectionId, Raft, Role};

impl World {
    pub(super) fn dial(&mut self, from: Place, to: Place) -> Checked {
        self.network.dialled(from, to);
        let up = |place: Place| self.machines[usize::from(place)].process.is_some();
        if !up(from) || self.network.connection(from, to).is_some() {
            return Ok(());
        }
        let passes = self.network.reaches(from, to) && self.network.reaches(to, from);
        let frozen =
            [from, to].iter().any(|&p| self.machines[usize::from(p)].frozen_until > self.now);
        if !up(to) || frozen || (self.plan.network.ordered && !passes) {
            self.dial_later(from, to);
            return Ok(());
        }
        let connection = self.network.connect(from, to);
        self.tell(|| format!("{} connects to {}", id_of(from), id_of(to)));
        self.process(to).witness.newest[usize::from(from)] = connection;
        self.process(to).courier.link_renewed(from);
        self.process(from).courier.link_renewed(to);
        self.server(to).connected(id_of(from), ConnectionId(connection.into()));
        self.after(to)?;
        self.process(from).witness.link_renewed(to);
        self.server(from).link_renewed(id_of(to));
        self.after(from)
    }

    pub(super) fn dial_later(&mut self, from: Place, to: Place) {
        if self.network.dials(from, to) {
            let pause = self.random.between(500, 30_000);
            self.queue.push(self.now + pause, Event::Dial(from, to));
        }
    }

    /// A server notices that a connection has ended. If it was the newest one from its leader, the
    /// leader is heard no more; an older one that closes late means nothing.
    pub(super) fn hung_up(&mut self, at: Place, from: Place, connection: u32) -> Checked {
        let is_newest = self.process(at).witness.newest[usize::from(from)] == connection;
        let heard = |raft: &Raft| match raft.role() {
            Role::Follower(it) if it.leader == Some(id_of(from)) => it.heard_ago_ticks,
            _ => None,
        };
        let before = heard(self.server(at).raft());
        self.server(at).disconnected(id_of(from), ConnectionId(connection.into()));
        let after = heard(self.server(at).raft());
        let expected = if is_newest { None } else { before };
        ensure(after == expected, "Only the newest connection's end is one", || {
            format!("n{}: newest {is_newest}, heard {before:?}, then {after:?}", at + 1)
        })?;
        self.after(at)
    }

    /// The connection from `from` to `to` is gone. The other end notices sooner, later, or when it
    /// is replaced.
    pub(super) fn break_connection(&mut self, from: Place, to: Place) {
        let Some(connection) = self.network.disconnect(from, to) else { return };
        let machine = &self.machines[usize::from(to)];
        if machine.process.is_some() && !self.random.chance(self.plan.network.silent_close) {
            let at = self.now + self.random.between(10, 50_000);
            let life = machine.life;
            self.queue.push(at, Event::HungUp { at: to, life, from, connection });
        }
        self.dial_later(from, to);
    }
}
