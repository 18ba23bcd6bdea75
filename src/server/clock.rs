//! Log time: the clock that decides what has expired.
//!
//! Servers' clocks disagree, jump and are set by people, so none of them may decide whether a key
//! still exists: two servers, or one server before and after a restart, would disagree. Instead
//! time travels in the log. The leader puts a *stamp* on each entry that it appends, and every
//! state machine takes the highest stamp that it has applied for the time.
//!
//! Between two stamps the leader's own monotonic clock measures how far time has come: stamp = last
//! stamp + what has passed here since that entry was stored. So log time
//! - never goes back, whoever leads, as each leader goes on from the last stamp in its log;
//! - is the same for all: an example of three servers with clocks an hour apart needs none of them;
//! - stands still while no leader appends anything: a key lives a little longer then, never less.
//!
//! Only the very first entry of a cluster needs a time of day; it takes that of its leader, so that
//! EXAT and PXAT, which name a time since the Unix epoch, mean something.

use crate::lab::{Rule, removed};
use crate::raft::types::Stamp;

/// An estimate of the log time at one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogClock {
    /// The stamp of the last entry in our log that we know of.
    last_stamp: Stamp,
    /// What our monotonic clock said when that entry was stored, in milliseconds.
    stored_at_ms: u64,
    /// What our monotonic clock said last, in milliseconds. It counts from any time.
    now_ms: u64,
}

impl LogClock {
    /// A clock that goes on from the last stamp in the log. Its own time begins at 0.
    pub fn new(last_stamp: Stamp) -> LogClock {
        LogClock { last_stamp, stored_at_ms: 0, now_ms: 0 }
    }

    /// Our monotonic clock says `now_ms`; it never goes back, and if it does, that is ignored.
    pub fn advance(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// The last entry in our log has this stamp.
    pub fn observe(&mut self, last_stamp: Stamp) {
        if last_stamp != self.last_stamp {
            self.last_stamp = last_stamp;
            self.stored_at_ms = self.now_ms;
        }
    }

    /// What an entry that is appended now would be stamped.
    pub fn now(&self) -> Stamp {
        if removed(Rule::StampsNeverFall) {
            return Stamp(self.now_ms);
        }
        Stamp(self.last_stamp.0.saturating_add(self.now_ms - self.stored_at_ms))
    }

    /// How long ago the last entry in our log was stored, in milliseconds.
    pub fn quiet_ms(&self) -> u64 {
        self.now_ms - self.stored_at_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S57: a leader goes on from the stamp of its predecessor, however far its own clock is.
    #[test]
    fn time_goes_on_from_the_last_stamp() {
        let mut clock = LogClock::new(Stamp(1000));
        clock.advance(50);
        assert_eq!(clock.now(), Stamp(1050));
        clock.observe(Stamp(5000)); // an entry of another leader
        assert_eq!(clock.now(), Stamp(5000));
        clock.advance(70);
        clock.advance(60);
        assert_eq!((clock.now(), clock.quiet_ms()), (Stamp(5020), 20));
        clock.observe(Stamp(5000)); // nothing new
        assert_eq!(clock.now(), Stamp(5020));
    }
}
