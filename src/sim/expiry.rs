//! After the storm, and when nobody asks for anything any more: keys expire all the same.
//!
//! What expires is decided by the stamps in the log. If nobody writes there are none, and a key
//! would stay for ever in memory, and for whoever watches it. So the leader appends an entry for
//! its stamp alone when a key is due. In peace the key is gone from every server within a stated
//! time after its deadline on the leader's clock: the pause between two such entries, and the time
//! that two entries take to be committed and applied (one may be under way already). A disk that
//! hangs is waited for first: behind it, what is committed may not have come to its server yet.

use super::checks::{Checked, ensure};
use super::faults::TICK;
use super::queue::Micros;
use super::queue::Place;
use super::world::{World, id_of};
use crate::limits::CLOCK_ENTRY_MS_MIN;
use crate::raft::types::Term;

/// For how long we watch keys expire. Longer than the bound, so that what is due within the first
/// part of it must be gone at its end.
const WATCHED: Micros = 300_000;

impl World {
    /// Nobody writes, and keys expire. Requires that the cluster has recovered.
    pub(super) fn keys_expire_in_peace(&mut self) -> Checked {
        // A server can recover while its disk still hangs, but then it takes no more entries than
        // its leader sends without an acknowledgement.
        while self.machines.iter().any(|machine| machine.disk.hangs_until > self.now) {
            self.step()?;
        }
        let late_max = CLOCK_ENTRY_MS_MIN * 1_000 + 3 * TICK + 2 * self.plan.entry_takes_max();
        let until = self.now + late_max + WATCHED;
        let Some((term, begun_ms)) = self.leader_and_time() else { return Ok(()) };
        let in_time = begun_ms + WATCHED / 1_000;
        let is_due = |deadline_ms: u64| deadline_ms <= in_time;
        if !self.next_deadlines().any(|(_, deadline_ms)| is_due(deadline_ms)) {
            return Ok(());
        }
        while self.now < until {
            self.step()?;
        }
        let Some((term_now, now_ms)) = self.leader_and_time() else { return Ok(()) };
        if term_now != term {
            return Ok(()); // a slow network may lose a leader even in peace
        }
        let overdue = self.next_deadlines().find(|&(_, deadline_ms)| is_due(deadline_ms));
        ensure(overdue.is_none(), "Keys expire in peace", || {
            let (place, deadline_ms) = overdue.expect("just looked");
            format!(
                "{} still has a key that was due at {deadline_ms} ms; it is {now_ms} ms by the \
                 clock of its leader, and nobody has written since {begun_ms} ms",
                id_of(place)
            )
        })
    }

    /// The term, and what the leader takes for the log time.
    fn leader_and_time(&self) -> Option<(Term, u64)> {
        let servers = self.machines.iter().filter_map(|machine| machine.process.as_ref());
        let mut leaders = servers.filter(|process| process.server.raft().is_leader());
        let server = &leaders.next()?.server;
        Some((server.raft().current_term(), server.log_time().0))
    }

    /// When the next key of each server is due.
    fn next_deadlines(&self) -> impl Iterator<Item = (Place, u64)> {
        let state = |(place, process): (Place, &super::world::Process)| {
            Some((place, process.state.next_deadline_ms()?))
        };
        let places = (0..).zip(&self.machines);
        places.filter_map(|(place, it)| Some((place, it.process.as_ref()?))).filter_map(state)
    }
}
