//! After the storm: with the faults gone, the cluster has no excuse.
//!
//! Safety says that nothing bad ever happens, and a cluster that does nothing at all is perfectly
//! safe. So every run ends with peace, and within a stated time there must be one leader, every
//! client must be served, and every server must have applied the same log.
//!
//! The time is ten election timeouts, two deadlines of requests and a client's patience, and for
//! each entry that the slowest server misses as long as one entry takes at most: in a world of the
//! smallest windows they go one by one. Peace ends faults, not slowness: disks, networks and
//! threads stay as slow as they are, as long as a vote can be heard within an election timeout
//! (`Plan::make_peace`).

use super::checks::{Checked, ensure};
use super::faults::TICK;
use super::queue::{Micros, Place};
use super::world::{Machine, World};

/// Election timeouts (the longest of the cluster's) that recovery may take: one until somebody
/// notices, a few for split votes, which become rarer with each.
const ELECTION_TIMEOUTS_MAX: u64 = 10;

/// How often a majority must recover alone first, in ten-thousandths.
const MINORITY_LOST: u32 = 3_000;

/// How often we look, in microseconds.
const POLL: Micros = 20_000;

impl World {
    /// Ends the faults and waits for the cluster to recover.
    pub fn recover(&mut self) -> Checked {
        self.make_peace()?;
        if self.plan.servers > 2 && self.random.chance(MINORITY_LOST) {
            self.lose_a_minority()?;
            self.settle()?;
            for place in 0..self.plan.servers as Place {
                self.heal_machine(place)?;
            }
        }
        self.settle()
    }

    /// Waits until the servers that are up have recovered.
    fn settle(&mut self) -> Checked {
        self.clients.quiet = false;
        let excused = self.last_excuse();
        let timeout = u64::from(self.plan.raft.election_max_ticks) * TICK;
        // What clients have under way may have to run into its deadline first, once in the queue of
        // its connection and once as it is.
        let deadlines = 2 * self.plan.gateway.deadline_ticks * TICK + self.plan.clients.patience;
        // Whoever asks a server that is behind is served when it is not.
        let entries = self.entries_missing() + self.clients.requests_to_come(&self.plan.clients);
        let mut until = excused
            + ELECTION_TIMEOUTS_MAX * timeout
            + deadlines
            + entries * self.plan.entry_takes_max();
        self.clients.expect_service();
        let mut look_at = self.now;
        loop {
            self.step()?;
            if self.now < look_at {
                continue;
            }
            look_at = self.now + POLL;
            if self.clients.all_served() && !self.clients.quiet {
                self.clients.quiet = true;
                until = until.max(self.now) + self.entries_missing() * self.plan.entry_takes_max();
            }
            if self.clients.quiet && self.has_settled() {
                return Ok(());
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
        let processes = self.machines.iter().filter_map(|machine| machine.process.as_ref());
        let end = processes.clone().map(|it| it.server.raft().log().last_index().0).max();
        let start = processes.map(|it| it.state.applied_index()).min();
        end.unwrap_or(0).saturating_sub(start.unwrap_or(0))
    }

    /// One leader, and everybody has applied all that it has.
    fn has_settled(&self) -> bool {
        let mut servers = self.machines.iter().filter_map(|machine| machine.process.as_ref());
        let leaders = servers.clone().filter(|process| process.server.raft().is_leader()).count();
        let end = |process: &super::world::Process| {
            let raft = process.server.raft();
            let applied = process.state.applied_index();
            (applied == raft.log().last_index().0 && applied == raft.commit_index().0)
                .then_some((applied, raft.current_term()))
        };
        let Some(first) = servers.next().and_then(end) else { return false };
        let all_up = servers.clone().count() + 1 == self.expected_up();
        all_up
            && leaders == 1
            && self.clients.nobody_waits()
            && servers.all(|process| end(process) == Some(first))
    }

    fn why_not_settled(&self) -> String {
        let mut why = String::from("the cluster has not recovered in time:");
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
