//! A minority that stays out when the faults stop.
//!
//! Raft promises service while a majority can talk, and not only once everybody is back. So in many
//! runs peace comes in two parts. In the first, some servers are still down, frozen or cut off, or
//! links stay cut so that servers meet only in others (S12, S14, S18); whoever can talk to a leader
//! that can talk to a majority must be served all the same, and that leader must be left alone. In
//! the second, everybody returns, and nobody is deposed by a server that brings no newer term.

use std::fmt;

use super::checks::{Checked, Violation, ensure};
use super::disk::Ending;
use super::faults::{FaultKind, Kinds};
use super::queue::{Micros, Place};
use super::random::Random;
use super::world::World;
use crate::raft::Role;
use crate::raft::types::Term;

/// What does not end when the faults do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// These servers (a bit each) are down.
    Down(u8, Ending),
    /// These servers (a bit each) are frozen.
    Frozen(u8),
    /// Messages from server i to the servers in `blocked[i]` (a bit each) do not arrive.
    CutOff([u8; 8]),
}

/// Names the partition of an absence among those of the faults, which are numbered from 0.
const PARTITION: u16 = u16::MAX;

impl Absence {
    /// Half of the worlds that have a minority to lose keep one out.
    pub fn draw(seed: u64, servers: usize, kinds: Kinds) -> Option<Absence> {
        let mut random = Random::part(seed, 5);
        if servers < 3 || random.chance(5_000) {
            return None;
        }
        let choices = [(kinds.crashes, 0), (kinds.freezes, 1), (kinds.partitions, 2)];
        let allowed: Vec<u8> =
            choices.into_iter().filter_map(|(on, choice)| on.then_some(choice)).collect();
        if allowed.is_empty() {
            return None;
        }
        let mut out = 0u8;
        for _ in 0..random.between(1, (servers as u64 - 1) / 2) {
            out |= 1 << random.position(servers); // the same one twice is one
        }
        Some(match random.pick(&allowed) {
            0 => Absence::Down(out, random.pick(&[Ending::Killed, Ending::PowerLost])),
            1 => Absence::Frozen(out),
            _ => Absence::CutOff(draw_cuts(&mut random, servers, out)),
        })
    }

    /// The servers (a bit each) that exchange messages with the one at `place`, and itself.
    fn contacts(&self, place: Place) -> u8 {
        match self {
            Absence::Down(out, _) | Absence::Frozen(out) if out & (1 << place) != 0 => 0,
            Absence::Down(out, _) | Absence::Frozen(out) => !out,
            Absence::CutOff(blocked) => (0..8u8).fold(0, |contacts, peer| {
                let cut = blocked[usize::from(place)] & (1 << peer) != 0
                    || blocked[usize::from(peer)] & (1 << place) != 0;
                contacts | u8::from(!cut) << peer
            }),
        }
    }
}

/// Shapes in which some server can still exchange messages with a majority, where `out` is a
/// minority.
fn draw_cuts(random: &mut Random, servers: usize, out: u8) -> [u8; 8] {
    let all = ((1u16 << servers) - 1) as u8;
    let side = random.bits() as u8 & all;
    let (one, other) = (random.position(servers), random.position(servers));
    let shape = random.below(6);
    std::array::from_fn(|from| {
        let bit = (1u16 << from) as u8;
        let is_out = out & bit != 0;
        let across = if side & bit != 0 { !side } else { side };
        let blocked = match shape {
            // The minority is among itself; or heard by nobody; or hears nobody.
            0 | 1 if is_out => !out,
            0 => out,
            1 => 0,
            2 if is_out => 0,
            2 => out,
            // Two halves meet in one server only: with it, the larger one is a majority.
            3 if from == one => 0,
            3 => across & !(1 << one),
            // A ring: three neighbours are a majority of up to five.
            4 if servers <= 5 => {
                !(1 << ((from + 1) % servers) | 1 << ((from + servers - 1) % servers))
            }
            // One link: both ends see all the others.
            _ if from == one => 1 << other,
            _ if from == other => 1 << one,
            _ => 0,
        };
        if from < servers { blocked & all & !bit } else { 0 }
    })
}

impl World {
    /// The servers (a bit each) that exchange messages with the one at `place`, and itself.
    pub(super) fn contacts(&self, place: Place) -> u8 {
        let all = ((1u16 << self.plan.servers) - 1) as u8;
        self.absence.map_or(all, |absence| absence.contacts(place) & all)
    }

    /// The one server that leads and can talk to a majority, with its term.
    pub(super) fn leader_in_contact(&self) -> Option<(Place, Term)> {
        let mut leaders = (0..self.plan.servers as Place).filter_map(|place| {
            let process = self.machines[usize::from(place)].process.as_ref()?;
            let raft = process.server.raft();
            let contacts = self.contacts(place).count_ones() as usize;
            let leads = raft.is_leader() && contacts > self.plan.servers / 2;
            leads.then_some((place, raft.current_term()))
        });
        let leader = leaders.next()?;
        leaders.next().is_none().then_some(leader)
    }

    /// Whether no client can expect to be served at `place`, for as long as the absence lasts.
    pub(super) fn is_out(&self, place: Place) -> bool {
        self.absence.is_some()
            && match self.leader_in_contact() {
                Some((leader, _)) => self.contacts(leader) & (1 << place) == 0,
                None => self.contacts(place) == 0,
            }
    }

    /// Whether the server stays down.
    pub(super) fn stays_down(&self, place: Place) -> bool {
        matches!(self.absence, Some(Absence::Down(out, _)) if out & (1 << place) != 0)
    }

    /// Everybody is well but these.
    pub(super) fn absence_begins(&mut self, absence: Absence) -> Checked {
        self.tell(|| format!("STILL OUT: {absence}"));
        self.absence = Some(absence);
        self.stats.absences += 1;
        match absence {
            Absence::Down(out, ending) => {
                for place in places(out) {
                    self.crash(place, ending)?;
                }
            }
            Absence::Frozen(_) => {} // see `absence_lasts`
            Absence::CutOff(blocked) => self.network.part(PARTITION, blocked),
        }
        Ok(())
    }

    /// Those who are frozen stay so at least until then.
    pub(super) fn absence_lasts(&mut self, until: Micros) {
        if let Some(Absence::Frozen(out)) = self.absence {
            for place in places(out) {
                self.machines[usize::from(place)].frozen_until = until;
            }
        }
    }

    /// Everybody is back. Returns whether nobody brings trouble along, so that the leader must stay
    /// what it is: no newer term, and no election that was under way when its candidate froze and
    /// whose votes it is about to find in its inbox.
    pub(super) fn absence_ends(&mut self) -> Result<bool, Violation> {
        self.tell(|| "ALL RETURN".to_owned());
        self.absence_lasts(self.now);
        let Some(absence) = self.absence.take() else { return Ok(true) };
        self.network.heal(PARTITION);
        for place in 0..self.plan.servers as Place {
            self.heal_machine(place)?;
        }
        let newest = self.leader_in_contact().map(|(_, term)| term);
        let harmless = |place: Place| {
            let Some(process) = &self.machines[usize::from(place)].process else { return false };
            let raft = process.server.raft();
            let asks = matches!(raft.role(), Role::PreCandidate(_) | Role::Candidate(_));
            let froze = matches!(absence, Absence::Frozen(out) if out & (1 << place) != 0);
            Some(raft.current_term()) <= newest && !(froze && asks)
        };
        Ok((0..self.plan.servers as Place).all(harmless))
    }

    /// The cluster has settled: until then, whoever leads goes on leading in its term. And nobody
    /// enters a newer one: a server that is cut off asks before it does (diss. §9.6), or it would
    /// come back with a term that deposes the leader for nothing (S13).
    pub(super) fn leader_is_left_alone(&mut self, until: Micros, poll: Micros) -> Checked {
        let leader = self.leader_in_contact();
        let newest = self.newest_term();
        while self.now < until {
            self.absence_lasts(self.now + 2 * poll);
            let next = self.now + poll;
            while self.now < next {
                self.step()?;
            }
            self.check_leader(leader)?;
            ensure(self.newest_term() == newest, "Who cannot win starts no term", || {
                format!("the newest was {newest:?}; {}", self.why_not_settled())
            })?;
        }
        Ok(())
    }

    fn newest_term(&self) -> Option<Term> {
        let processes = self.machines.iter().filter_map(|machine| machine.process.as_ref());
        processes.map(|process| process.server.raft().current_term()).max()
    }

    /// Nobody has deposed this leader.
    pub(super) fn check_leader(&self, leader: Option<(Place, Term)>) -> Checked {
        let now = self.leader_in_contact();
        ensure(now == leader, "A leader that reaches a majority is left alone", || {
            format!("(server, term) was {leader:?} and is {now:?}; {}", self.why_not_settled())
        })
    }
}

fn places(set: u8) -> impl Iterator<Item = Place> {
    (0..8).filter(move |place| set & (1 << place) != 0)
}

impl fmt::Display for Absence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Absence::Down(who, ending) => FaultKind::Crash(who, ending).fmt(out),
            Absence::CutOff(blocked) => FaultKind::Partition(blocked).fmt(out),
            Absence::Frozen(who) => {
                write!(out, "frozen:")?;
                places(who).try_for_each(|place| write!(out, " n{}", place + 1))
            }
        }
    }
}
