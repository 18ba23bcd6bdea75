//! What a leader says of the time, beside the server's own clock.
//!
//! A stamp is no older than the entry: log time goes on from the last stamp by what has passed on
//! the server's clock since that entry was stored, up to the moment at which the next is appended,
//! and not only up to the last tick. A key whose deadline counts from an older stamp would expire
//! before its time.

use super::checks::{Checked, ensure};
use crate::raft::Raft;
use crate::raft::types::{Index, Stamp};

/// The last entry in a server's log, and when that server stored it.
#[derive(Debug, Default)]
pub struct Stamps {
    last: Index,
    stamp: Stamp,
    /// By the server's own clock, in milliseconds.
    stored_at_ms: u64,
}

impl Stamps {
    /// A server comes up with this log, and its clock begins.
    pub fn new(raft: &Raft) -> Stamps {
        Stamps { last: raft.log().last_index(), stamp: raft.last_stamp(), stored_at_ms: 0 }
    }

    /// Something has happened to the server when its clock said `now_ms`.
    pub fn check(&mut self, raft: &Raft, now_ms: u64) -> Checked {
        let (last, stamp) = (raft.log().last_index(), raft.last_stamp());
        // The first entry of all takes the time of day.
        let is_own = raft.is_leader() && last > self.last && self.last > Index::ZERO;
        let now = Stamp(self.stamp.0 + now_ms - self.stored_at_ms);
        ensure(!is_own || stamp >= now, "A stamp is no older than its entry", || {
            format!("{} stamps {last} with {} ms when it is {} ms", raft.id(), stamp.0, now.0)
        })?;
        if stamp != self.stamp {
            (self.stamp, self.stored_at_ms) = (stamp, now_ms);
        }
        self.last = last;
        Ok(())
    }
}
