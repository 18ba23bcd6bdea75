//! When time matters next. A server at rest need not be woken for each tick: those that change
//! nothing but counters may be told late and together, as long as they come before any other input.

use super::{Raft, Role};

impl Raft {
    /// Which of the coming ticks is the first that may do something: 1 is the next one. Another
    /// input may bring it nearer.
    pub fn ticks_until_due(&self) -> u32 {
        let of_role = match &self.role {
            Role::Follower(_) => self.timer.ticks_left(), // [F2]
            Role::PreCandidate(_) | Role::Candidate(_) => 1,
            Role::Leader(leader) => {
                let heartbeat = self.ticks_until_heartbeat(leader); // [L1]
                // What is so old now is within the limit even then.
                let ago = self.options.election_max_ticks.saturating_sub(heartbeat);
                let is_safe = leader.reads.is_empty()
                    && self.hears_a_majority_within(ago)
                    && self.durable.write_age_ticks() <= ago
                    && leader.handover.is_none();
                if is_safe && !self.tick_tells_commit() { heartbeat } else { 1 }
            }
        };
        of_role.min(self.ticks_until_snapshot()).max(1)
    }
}
