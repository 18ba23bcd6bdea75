//! Faults as they happen: what each does to the world when it begins and when it ends, and the life
//! and death of servers.

use super::checks::{Checked, Violation};
use super::disk::{Ending, Start};
use super::faults::{FaultKind, Moment, TICK};
use super::gateways::Courier;
use super::leaders::Heard;
use super::queue::{Event, Place};
use super::stamps::Stamps;
use super::witness::Witness;
use super::world::{Process, World, id_of};
use crate::raft::quorum::Membership;
use crate::server::{Server, Shelf};

/// An hour, in milliseconds of log time.
const HOUR_MS: u64 = 3_600_000;

/// The id of every simulated cluster.
pub(super) const CLUSTER: &str = "simulated";

impl World {
    pub(super) fn fault_begins(&mut self, number: u16) -> Checked {
        match self.plan.faults[usize::from(number)].kind {
            FaultKind::Leader(Moment::Now, what) => {
                let kind = what.at(self.leader(), self.plan.servers);
                self.plan.faults[usize::from(number)].kind = kind;
            }
            FaultKind::Leader(moment, _) => {
                self.ambushes.push((moment, number));
                return Ok(());
            }
            _ => {}
        }
        self.fault_strikes(number)
    }

    /// A leader has come to a moment of its work; whoever lies in ambush for it strikes.
    pub(super) fn spring(&mut self, (leader, moment): (Place, Moment)) -> Checked {
        let waits = self.ambushes.iter().position(|(other, _)| *other == moment);
        let Some(waits) = waits.filter(|_| !self.peace) else { return Ok(()) };
        let (_, number) = self.ambushes.remove(waits);
        let fault = &mut self.plan.faults[usize::from(number)];
        if let FaultKind::Leader(_, what) = fault.kind {
            fault.kind = what.at(leader, self.plan.servers);
            fault.at = self.now;
        }
        self.fault_strikes(number)
    }

    fn fault_strikes(&mut self, number: u16) -> Checked {
        let fault = self.plan.faults[usize::from(number)];
        self.tell(|| format!("FAULT: {}", fault.kind));
        self.stats.faults += 1;
        let until = self.now + fault.lasts;
        self.queue.push(until, Event::FaultEnds(number));
        match fault.kind {
            FaultKind::Crash(who, ending) => {
                for place in (0..self.plan.servers as Place).filter(|place| who & (1 << place) != 0)
                {
                    self.machines[usize::from(place)].down += 1;
                    self.crash(place, ending)?;
                }
            }
            FaultKind::Partition(blocked) => self.network.part(number, blocked),
            FaultKind::Break(a, b) => {
                self.break_connection(a, b);
                self.break_connection(b, a);
            }
            FaultKind::Freeze(place) => {
                let machine = &mut self.machines[usize::from(place)];
                machine.frozen_until = machine.frozen_until.max(until);
            }
            FaultKind::Clock(place, percent) => {
                self.machines[usize::from(place)].tick_percent = percent.into();
            }
            FaultKind::SlowDisk(place, times) => {
                self.machines[usize::from(place)].disk.slower = times.into();
            }
            FaultKind::HungDisk(place) => {
                let disk = &mut self.machines[usize::from(place)].disk;
                disk.hangs_until = disk.hangs_until.max(until);
            }
            FaultKind::BadDisk(place) => {
                self.machines[usize::from(place)].disk.fails_next = true;
            }
            FaultKind::FullDisk(place) => self.machines[usize::from(place)].disk.fill(true),
            FaultKind::Leader(..) => unreachable!("it has become a fault of one server"),
        }
        Ok(())
    }

    pub(super) fn fault_ends(&mut self, number: u16) -> Checked {
        let fault = self.plan.faults[usize::from(number)];
        self.tell(|| format!("END: {}", fault.kind));
        match fault.kind {
            FaultKind::Crash(who, _) => {
                for place in (0..self.plan.servers as Place).filter(|place| who & (1 << place) != 0)
                {
                    let machine = &mut self.machines[usize::from(place)];
                    machine.down = machine.down.saturating_sub(1);
                    self.start(place)?;
                }
            }
            FaultKind::Partition(_) => self.network.heal(number),
            FaultKind::Clock(place, _) => {
                let place = usize::from(place);
                self.machines[place].tick_percent = self.plan.tick_percent[place];
            }
            FaultKind::SlowDisk(place, _) => self.machines[usize::from(place)].disk.slower = 1,
            FaultKind::FullDisk(place) => {
                self.machines[usize::from(place)].disk.fill(false);
                self.start(place)?;
            }
            FaultKind::Break(..)
            | FaultKind::Freeze(_)
            | FaultKind::HungDisk(_)
            | FaultKind::BadDisk(_)
            | FaultKind::Leader(..) => {}
        }
        Ok(())
    }

    /// Who leads: of several, the one in the highest term; if nobody does, the first.
    fn leader(&self) -> Place {
        let term_led = |place: &Place| {
            let process = self.machines[usize::from(*place)].process.as_ref();
            let leads = process.filter(|process| process.server.raft().is_leader());
            leads.map(|process| process.server.raft().current_term())
        };
        let places = 0..self.plan.servers as Place;
        places.max_by_key(|place| (term_led(place), std::cmp::Reverse(*place))).unwrap_or(0)
    }

    /// A server ends. What was synced stays.
    pub(super) fn crash(&mut self, place: Place, ending: Ending) -> Checked {
        let machine = &mut self.machines[usize::from(place)];
        let Some(process) = machine.process.take() else {
            if ending == Ending::PowerLost {
                // What a killed process had written may still be lost.
                machine.disk.crash(ending, || ());
            }
            return Ok(());
        };
        self.stats.crashes += 1;
        machine.life += 1;
        self.network.life_ends(place);
        machine.frozen_until = 0;
        let servers = self.plan.servers;
        machine.disk.crash(ending, || process.snapshotter.end_busy(servers));
        for peer in (0..self.plan.servers as Place).filter(|&peer| peer != place) {
            self.break_connection(place, peer);
            self.break_connection(peer, place);
        }
        Ok(())
    }

    /// A server comes up, unless it is up or something keeps it down.
    pub(super) fn start(&mut self, place: Place) -> Checked {
        let stays_down = self.stays_down(place);
        let machine = &mut self.machines[usize::from(place)];
        if machine.process.is_some() || machine.down > 0 || stays_down {
            return Ok(());
        }
        machine.disk.audit(u64::from(place) + 1)?;
        let before = machine.disk.image().clone();
        let recovered = machine.disk.recover(u64::from(place) + 1);
        if recovered.is_err() && machine.disk.is_full() {
            self.tell(|| format!("{} cannot start: its disk is full", id_of(place)));
            return Ok(()); // somebody will make room, and start it again
        }
        let Start { recovered: found, incarnation, state, snapshotter } =
            recovered.map_err(|error| Violation {
                property: "A server that crashed starts again",
                detail: format!("{}: {error}", id_of(place)),
            })?;
        self.checks.recovered(place, &before, &found)?;
        self.machines[usize::from(place)].disk.found(&found);
        let membership = Membership::new((0..self.plan.servers as Place).map(id_of));
        let mut server = Server::new(
            id_of(place),
            membership,
            self.plan.raft.clone(),
            self.plan.gateway.clone(),
            found,
            incarnation,
            self.random.bits(),
        );
        // Each machine has another time of day; only the first entry of all takes one.
        server.begin_log_time(HOUR_MS * (u64::from(place) + 1));
        let process = Process {
            stamps: Stamps::new(server.raft()),
            server,
            state,
            shelf: Shelf::default(),
            snapshotter,
            heard: Heard::default(),
            witness: Witness::default(),
            courier: Courier::default(),
            tasks: Vec::new(),
            ringing: 0,
            socket_free: [0; 8],
            clock: 0,
            clock_read_at: self.now,
            ticks: 0,
        };
        let machine = &mut self.machines[usize::from(place)];
        machine.process = Some(process);
        let life = machine.life;
        self.tell_room(place);
        self.tell(|| format!("{} starts, life {incarnation}", id_of(place)));
        self.queue.push(self.now + self.random.between(1, TICK), Event::Tick(place, life));
        for peer in (0..self.plan.servers as Place).filter(|&peer| peer != place) {
            self.dial_later(place, peer);
        }
        self.after(place)
    }

    /// Everything that was wrong with a machine is right again.
    pub(super) fn heal_machine(&mut self, place: Place) -> Checked {
        let machine = &mut self.machines[usize::from(place)];
        machine.tick_percent = 100;
        machine.disk.slower = 1;
        machine.disk.fails_next = false;
        machine.disk.fill(false);
        machine.down = 0;
        self.start(place)
    }
}
