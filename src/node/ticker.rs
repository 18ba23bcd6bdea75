//! The ticker: time, as the core knows it.
//!
//! The core counts ticks. Whoever enters the monitor first tells it those that have passed, so that
//! the core hears everything in the order in which it happened. The ticker is needed only while
//! nobody comes: it sets an alarm for the tick that may do something, and sleeps till then. At rest
//! that is the next heartbeat, or half of what is left of an election timeout: an idle follower
//! costs less than half of what it would if it woke up with each tick.
//!
//! A server that was stopped (SIGSTOP, a sleeping laptop) does not get the ticks it missed. They
//! would start an election as soon as it goes on, before it reads that its leader is there. It was
//! stopped if nobody has come although the alarm was due a while ago; its timers are then where
//! they would have been shortly before the alarm.

use std::time::Duration;

use super::monitor::{Deliver, Monitor};

/// Up to so many ticks the ticker sleeps until the very one that is due; of more, half. A leader's
/// heartbeats are not to cost it a second wake-up.
const EXACT_TICKS_MAX: u32 = 10;

/// So many ticks after the alarm somebody may still come: threads run late on a busy machine. Later
/// than that, the process has been stopped.
const LATE_TICKS_MAX: u64 = 5;

/// The body of the thread `ticker`.
pub fn run<D: Deliver>(monitor: &Monitor<D>) {
    loop {
        monitor.tick_and_sleep();
    }
}

/// Which ticks have passed, and for when the ticker has set its alarm. Times are milliseconds of
/// the monitor's clock.
#[derive(Debug)]
pub(super) struct Ticks {
    tick_ms: u64,
    /// All ticks up to here have been told, or were missed.
    told_ms: u64,
    /// When somebody came last.
    entered_ms: u64,
    /// When the ticker wakes up: some ticks after `told_ms`, unless it is late.
    alarm_ms: u64,
}

impl Ticks {
    /// From the beginning of the clock on.
    pub fn new(tick: Duration) -> Ticks {
        let tick_ms = u64::try_from(tick.as_millis()).expect("a tick is short");
        assert!(tick_ms > 0, "a tick takes time");
        Ticks { tick_ms, told_ms: 0, entered_ms: 0, alarm_ms: tick_ms }
    }

    /// How long a tick is.
    pub fn tick_ms(&self) -> u64 {
        self.tick_ms
    }

    /// Somebody comes: how many ticks are to be told now.
    pub fn take(&mut self, now_ms: u64) -> u64 {
        let expected_ms = self.entered_ms.max(self.alarm_ms);
        self.entered_ms = now_ms;
        if now_ms > expected_ms + LATE_TICKS_MAX * self.tick_ms {
            // The one for which the alarm was set comes next, after what waits to be read.
            let missed = self.alarm_ms.saturating_sub(self.told_ms) / self.tick_ms;
            self.told_ms = now_ms;
            return missed.saturating_sub(1).max(1);
        }
        let passed = now_ms.saturating_sub(self.told_ms) / self.tick_ms;
        self.told_ms += passed * self.tick_ms;
        passed
    }

    /// For the ticker, after `take`: the tick that is this many ahead may do something.
    pub fn set_alarm(&mut self, due_ticks: u32) {
        self.alarm_ms = self.told_ms + self.sleep_ms(due_ticks);
    }

    /// For whoever else has changed something: whether a tick may do something before the alarm,
    /// for which the ticker must be woken. `due_ticks` tells which, if that is of interest.
    pub fn set_alarm_earlier(&mut self, due_ticks: impl FnOnce(u64) -> u32) -> bool {
        if self.alarm_ms <= self.told_ms + self.tick_ms {
            return false;
        }
        let alarm_ms = self.told_ms + self.sleep_ms(due_ticks(self.tick_ms));
        let is_earlier = alarm_ms < self.alarm_ms;
        if is_earlier {
            self.alarm_ms = alarm_ms;
        }
        is_earlier
    }

    /// How long the ticker is to sleep.
    pub fn until_alarm(&self, now_ms: u64) -> Duration {
        Duration::from_millis(self.alarm_ms.saturating_sub(now_ms))
    }

    fn sleep_ms(&self, due_ticks: u32) -> u64 {
        let half = (due_ticks / 2).max(EXACT_TICKS_MAX);
        u64::from(due_ticks.min(half)) * self.tick_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks() -> Ticks {
        Ticks::new(Duration::from_millis(10))
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn each_tick_is_told_once() {
        let mut ticks = ticks();
        ticks.set_alarm(5);
        let told = [9, 10, 19, 41, 41, 50].map(|now_ms| ticks.take(now_ms));
        assert_eq!(told, [0, 1, 0, 3, 0, 1]);
        // Who comes late does not shift the others.
        ticks.set_alarm(1);
        assert_eq!(ticks.until_alarm(53), ms(7));
        assert_eq!([59, 60].map(|now_ms| ticks.take(now_ms)), [0, 1]);
    }

    #[test]
    fn the_ticker_sleeps_until_a_tick_may_do_something() {
        let mut ticks = ticks();
        for (due_ticks, sleep_ms) in [(1, 10), (5, 50), (10, 100), (12, 100), (30, 150), (60, 300)]
        {
            ticks.set_alarm(due_ticks);
            assert_eq!(ticks.until_alarm(0), ms(sleep_ms), "{due_ticks}");
        }
    }

    #[test]
    fn the_ticker_is_woken_when_a_tick_matters_earlier() {
        let mut ticks = ticks();
        ticks.set_alarm(5);
        assert!(!ticks.set_alarm_earlier(|_| 9));
        assert_eq!(ticks.take(11), 1);
        assert!(ticks.set_alarm_earlier(|_| 2), "at 30, not at 50");
        assert_eq!(ticks.until_alarm(11), ms(19));
        assert!(!ticks.set_alarm_earlier(|_| 2), "it knows");
        assert_eq!(ticks.take(20), 1);
        assert!(!ticks.set_alarm_earlier(|_| 1), "it is about to wake up");
    }

    /// When the ticker is late and others come, they tell what has passed: ticks that it told later
    /// would come after the heartbeats that those others have brought.
    #[test]
    fn a_ticker_that_is_late_holds_up_nobody() {
        let mut ticks = ticks();
        ticks.set_alarm(1);
        let told = [10, 38, 80, 129, 170].map(|now_ms| ticks.take(now_ms));
        assert_eq!(told, [1, 2, 5, 4, 5]);
        assert_eq!(ticks.until_alarm(170), ms(0));
    }

    /// After a pause of an hour time goes on about where it was, and not with the tick that is due:
    /// what that one waits for may lie in a socket.
    #[test]
    fn a_pause_is_not_made_up_for() {
        let hour_ms = 3_600_000;
        for (due_ticks, told) in [(1, 1), (2, 1), (4, 3), (30, 14)] {
            let mut ticks = ticks();
            ticks.set_alarm(due_ticks);
            assert_eq!(ticks.take(hour_ms), told, "{due_ticks}");
            assert_eq!([5, 9, 10, 25].map(|ms| ticks.take(hour_ms + ms)), [0, 0, 1, 1]);
        }
    }
}
