//! What must be true after every step, checked after every step, in release too: it costs a few
//! comparisons and a pass over the peers. A server that finds one broken stops before it spreads.

use super::progress::Mode;
use super::types::{HardState, Index, Term};
use super::{Raft, Role};
use crate::lab::{Rule, removed};

/// What was true after the last step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Invariants {
    hard_state: HardState,
    commit_index: Index,
    last_applied: Index,
    /// The term this server led at the last check, and where its log ended then.
    led: Option<(Term, Index)>,
}

impl Raft {
    /// Checks this server's own invariants. Those that need several servers are the simulator's.
    pub fn check_invariants(&mut self) {
        let last_index = self.log.last_index();
        let before = &self.invariants;
        assert!(self.current_term >= before.hard_state.current_term, "terms only rise");
        if self.current_term == before.hard_state.current_term {
            assert!(
                before.hard_state.voted_for.is_none_or(|vote| Some(vote) == self.voted_for),
                "Election Safety: a vote given in {} was changed",
                self.current_term
            );
        }
        assert!(self.commit_index >= before.commit_index, "the commit index only rises");
        assert!(self.last_applied >= before.last_applied, "the applied index only rises");
        assert!(self.last_applied <= self.commit_index, "only committed entries are applied");
        assert!(self.commit_index <= last_index, "only entries in the log are committed");
        assert!(self.durable.index() <= last_index, "truncation clamps what the disk proves");
        assert!(self.verified <= last_index, "we vouch only for entries that we have");
        assert!(self.acknowledged <= self.verified, "we acknowledge only what we verified");
        assert!(self.log.last().term <= self.current_term, "no entry is newer than our term");
        let base = self.log.base().index;
        assert!(base <= self.durable.index(), "what is not on our disk is not forgotten");
        assert!(base <= self.last_applied, "only what was applied is forgotten");
        assert!(base <= self.snapshots.newest().last.index, "what is forgotten is in a snapshot");
        let led = self.check_leader();
        self.invariants = Invariants {
            hard_state: self.hard_state(),
            commit_index: self.commit_index,
            last_applied: self.last_applied,
            led,
        };
    }

    /// What must be true of a leader; returns the term it leads and where its log ends.
    fn check_leader(&self) -> Option<(Term, Index)> {
        let Role::Leader(leader) = &self.role else { return None };
        let last_index = self.log.last_index();
        assert_eq!(self.voted_for, Some(self.id), "a leader voted for itself");
        assert!(
            self.log.term_at(leader.noop) == Some(self.current_term)
                || leader.noop < self.log.base().index
                || removed(Rule::LeaderAppendsNoop),
            "a leader's no-op is in its log"
        );
        if let Some((term, ended)) = self.invariants.led {
            assert!(
                term != self.current_term || last_index >= ended,
                "Leader Append-Only: the log was cut by its own leader"
            );
        }
        for (peer, progress) in &leader.progress {
            assert!(progress.match_index <= last_index, "{peer} matches more than there is");
            assert!(progress.match_index < progress.next_index, "{peer}: what matches is not sent");
            assert!(progress.next_index <= last_index.next(), "{peer} is sent only what there is");
            let is_there = progress.next_index > self.log.base().index;
            let has_snapshot = matches!(progress.mode, Mode::Snapshot(_));
            assert!(is_there || has_snapshot, "{peer} gets from a snapshot what the log lacks");
        }
        Some((self.current_term, last_index))
    }
}
