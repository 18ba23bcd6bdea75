//! After the storm: with the faults gone, the cluster has no excuse.
//!
//! Safety says that nothing bad ever happens, and a cluster that does nothing at all is perfectly
//! safe. So every run ends with peace, and within a stated time there must be one leader, every
//! client must be served, and every server must have applied the same log. If a minority is still
//! out, that is asked of the others first (`absence`), and of all when it is back.
//!
//! # How long it may take
//!
//! Peace ends faults, not slowness: disks, networks and threads stay as slow as they are, as long
//! as a vote can be heard within an election timeout (`Plan::make_peace`). So the time follows from
//! the plan. Let `e` be what passes until entries are committed and what was under way before has
//! been answered: ten election timeouts, two deadlines of requests and a client's patience. Let
//! `n` be the entries to come: those that the slowest server misses, the requests that wait in
//! gateways, and what clients ask until they are content. An entry takes at most `t`: in a world of
//! the smallest windows they go one by one. So do the chunks of a snapshot that somebody may have
//! to be sent, which adds their time to `e`. That makes `e + n t`, if each request is asked once.
//!
//! But one that has waited for a whole deadline ends as "unknown", keeps its place in the log, and
//! its client asks again. In peace all clients together ask so little that what they have under way
//! takes half a deadline, so these requests come at most half as fast as entries are committed: by
//! the time `T` there are `T / 2t` of them. All is done when `T - e ≥ (n + T / 2t) t`, which is at
//! `T = 2 (e + n t)`.

use super::checks::{Checked, ensure};
use super::faults::TICK;
use super::queue::{Micros, Place};
use super::world::{Machine, Process, World};

/// Election timeouts (the longest of the cluster's) that recovery may take: one until somebody
/// notices, a few for split votes, which become rarer with each.
const ELECTION_TIMEOUTS_MAX: u64 = 10;

/// For how many of them a leader must be left alone while a minority is out: enough for each of its
/// servers to have lost patience more than once.
const ELECTION_TIMEOUTS_WATCHED: u64 = 3;

/// How often we look, in microseconds.
const POLL: Micros = 20_000;

impl World {
    /// Ends the faults and waits for the cluster to recover.
    pub fn recover(&mut self) -> Checked {
        self.make_peace()?;
        let Some(absence) = self.plan.absence else { return self.settle() };
        self.absence_begins(absence)?;
        self.settle()?;
        let watched = ELECTION_TIMEOUTS_WATCHED * self.election_timeout();
        self.leader_is_left_alone(self.now + watched, POLL)?;
        let leader = self.leader_in_contact();
        let harmless = self.absence_ends()?;
        self.settle()?;
        if harmless { self.check_leader(leader) } else { Ok(()) }
    }

    /// Waits for whoever is not out to serve every client and to agree.
    fn settle(&mut self) -> Checked {
        let excused = self.last_excuse();
        // What clients have under way may have to run into its deadline first, once in the queue of
        // its connection and once as it is.
        let deadlines = 2 * self.plan.gateway.deadline_ticks * TICK + self.plan.clients.patience;
        // Whoever asks a server that is behind is served when it is not.
        let to_come = self.clients.requests_to_come(&self.plan.clients);
        let entries = self.entries_missing() + self.requests_waiting() + to_come;
        let recovery = ELECTION_TIMEOUTS_MAX * self.election_timeout() + deadlines;
        let recovery = recovery + self.snapshot_takes_max();
        let mut until = excused + 2 * (recovery + entries * self.plan.entry_takes_max());
        self.clients.expect_service();
        let mut look_at = self.now;
        loop {
            self.step()?;
            if self.now < look_at {
                continue;
            }
            look_at = self.now + POLL;
            self.absence_lasts(look_at + POLL);
            if self.clients.all_served() && !self.clients.quiet {
                self.clients.quiet = true;
                let entries = self.entries_missing() + self.requests_waiting();
                let entries_take = entries * self.plan.entry_takes_max();
                until = until.max(self.now) + entries_take + self.snapshot_takes_max();
            }
            // Before a leader is to be left alone, what is left of the faults must be over: one
            // whose disk still hangs has to step down.
            let calm = self.absence.is_none() || self.now >= excused;
            if self.clients.quiet && calm && self.has_settled() {
                return self.check_states();
            }
            ensure(self.now < until, "Liveness", || self.why_not_settled())?;
        }
    }

    fn make_peace(&mut self) -> Checked {
        self.peace = true;
        self.plan.make_peace();
        self.tell(|| "PEACE: no more faults".to_owned());
        for number in 0..self.plan.faults.len() as u16 {
            self.network.heal(number);
        }
        for place in 0..self.plan.servers as Place {
            self.heal_machine(place)?;
        }
        Ok(())
    }

    fn election_timeout(&self) -> Micros {
        u64::from(self.plan.raft.election_max_ticks) * TICK
    }

    /// When the last effect of a fault is over: frozen servers, hung disks, messages that are late.
    fn last_excuse(&self) -> Micros {
        let excuses = self.machines.iter().flat_map(|Machine { disk, frozen_until, .. }| {
            [*frozen_until, disk.hangs_until, disk.busy_until]
        });
        let late = self.now + self.plan.network.late_max;
        excuses.max().unwrap_or(0).max(late)
    }

    /// How many entries the server that is furthest behind still has to get.
    fn entries_missing(&self) -> u64 {
        let processes = self.processes();
        let end = processes.clone().map(|it| it.server.raft().log().last_index().0).max();
        let start = processes.map(|it| it.state.applied_index()).min();
        end.unwrap_or(0).saturating_sub(start.unwrap_or(0))
    }

    /// How long it takes to send the largest snapshot, and to install it.
    fn snapshot_takes_max(&self) -> Micros {
        let bytes = self.processes().map(|it| it.server.raft().status().snapshot_bytes).max();
        let chunks = bytes.unwrap_or(0).div_ceil(self.plan.raft.snapshots.chunk_bytes);
        (chunks + 1) * self.plan.chunk_takes_max()
    }

    /// How many requests wait in gateways; each may become an entry.
    fn requests_waiting(&self) -> u64 {
        self.processes().map(|it| it.server.gateway().pending_requests() as u64).sum()
    }

    fn processes(&self) -> impl Iterator<Item = &Process> + Clone {
        self.machines.iter().filter_map(|machine| machine.process.as_ref())
    }

    /// One leader, and everybody whom it reaches has applied all that it has, in its term.
    fn has_settled(&self) -> bool {
        let Some((leader, term)) = self.leader_in_contact() else { return false };
        let end = self.process_at(leader).map(|process| process.server.raft().log().last_index());
        let agrees = |place: Place| {
            self.process_at(place).is_some_and(|process| {
                let raft = process.server.raft();
                let ends = [raft.log().last_index(), raft.commit_index()];
                raft.current_term() == term
                    && Some(process.state.applied_index()) == end.map(|index| index.0)
                    && ends.iter().all(|&index| Some(index) == end)
            })
        };
        let reached = self.contacts(leader);
        let mut places = 0..self.plan.servers as Place;
        self.clients.nobody_waits()
            && places.all(|place| reached & (1 << place) == 0 || agrees(place))
    }

    fn check_states(&mut self) -> Checked {
        for (place, machine) in self.machines.iter().enumerate() {
            if let Some(process) = &machine.process {
                self.checks.state(place as Place, &process.state)?;
            }
        }
        Ok(())
    }

    fn process_at(&self, place: Place) -> Option<&Process> {
        self.machines[usize::from(place)].process.as_ref()
    }

    pub(super) fn why_not_settled(&self) -> String {
        let mut why = String::from("the cluster has not recovered in time:");
        if let Some(absence) = self.absence {
            why.push_str(&format!("\n    still out: {absence}"));
        }
        for machine in &self.machines {
            match &machine.process {
                None => why.push_str("\n    a server is down"),
                Some(process) => {
                    let status = process.server.raft().status();
                    let applied = process.state.applied_index();
                    why.push_str(&format!("\n    state machine at {applied}; {status:?}"));
                }
            }
        }
        let (served, waits) = (self.clients.all_served(), !self.clients.nobody_waits());
        why.push_str(&format!("\n    all clients served: {served}; some still wait: {waits}"));
        why
    }
}
