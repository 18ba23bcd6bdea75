//! The ticker: time, as the core knows it.
//!
//! The core counts ticks. Whoever enters the monitor first tells it those that have passed, so that
//! the core hears everything in the order in which it happened. The ticker is needed only while
//! nobody comes: it sets an alarm for the tick that may do something, and sleeps till then. At rest
//! that is the next heartbeat, or half an election timeout: an idle follower costs less than half
//! of what it would if it woke up with each tick.
//!
//! A server that was stopped (SIGSTOP, a sleeping laptop) does not get the ticks it missed, or it
//! would start an election as soon as it goes on: none are told beyond the alarm. So it wakes up
//! with its timers where they were, or a little further.

use std::time::Duration;

use super::monitor::{Deliver, Monitor};

/// Up to so many ticks the ticker sleeps until the very one that is due; of more, at most half at
/// once. So after a pause of the process, half of an election timeout is still to come.
const EXACT_TICKS_MAX: u32 = 8;

/// When the ticker wakes up so many ticks after its alarm, it is only late: on a busy machine that
/// happens, and the ticks count. Later, there was a pause.
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
    /// All ticks up to here have been told.
    told_ms: u64,
    /// When the ticker wakes up: `told_ms` and some ticks.
    alarm_ms: u64,
}

impl Ticks {
    /// From the beginning of the clock on.
    pub fn new(tick: Duration) -> Ticks {
        let tick_ms = u64::try_from(tick.as_millis()).expect("a tick is short");
        assert!(tick_ms > 0, "a tick takes time");
        Ticks { tick_ms, told_ms: 0, alarm_ms: tick_ms }
    }

    /// How long a tick is.
    pub fn tick_ms(&self) -> u64 {
        self.tick_ms
    }

    /// How many ticks have passed since the last call, as far as they are to be told.
    pub fn take(&mut self, now_ms: u64) -> u64 {
        let passed = now_ms.min(self.alarm_ms).saturating_sub(self.told_ms) / self.tick_ms;
        self.told_ms += passed * self.tick_ms;
        passed
    }

    /// For the ticker, after `take`: the tick that is this many ahead may do something.
    pub fn set_alarm(&mut self, now_ms: u64, due_ticks: u32) {
        if now_ms > self.told_ms + LATE_TICKS_MAX * self.tick_ms {
            self.told_ms = now_ms; // after a pause
        }
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
        ticks.set_alarm(0, 5);
        let told = [9, 10, 19, 41, 41, 50].map(|now_ms| ticks.take(now_ms));
        assert_eq!(told, [0, 1, 0, 3, 0, 1]);
        // Who comes late does not shift the others.
        ticks.set_alarm(53, 1);
        assert_eq!(ticks.until_alarm(53), ms(7));
        assert_eq!([59, 60].map(|now_ms| ticks.take(now_ms)), [0, 1]);
    }

    #[test]
    fn the_ticker_sleeps_until_a_tick_may_do_something() {
        let mut ticks = ticks();
        for (due_ticks, sleep_ms) in [(1, 10), (5, 50), (8, 80), (10, 80), (30, 150), (60, 300)] {
            ticks.set_alarm(0, due_ticks);
            assert_eq!(ticks.until_alarm(0), ms(sleep_ms), "{due_ticks}");
        }
    }

    #[test]
    fn the_ticker_is_woken_when_a_tick_matters_earlier() {
        let mut ticks = ticks();
        ticks.set_alarm(0, 5);
        assert!(!ticks.set_alarm_earlier(|_| 9));
        assert_eq!(ticks.take(11), 1);
        assert!(ticks.set_alarm_earlier(|_| 2), "at 30, not at 50");
        assert_eq!(ticks.until_alarm(11), ms(19));
        assert!(!ticks.set_alarm_earlier(|_| 2), "it knows");
        assert_eq!(ticks.take(100), 2, "no more than up to the alarm");
        assert!(!ticks.set_alarm_earlier(|_| 1), "it is about to wake up");
    }

    #[test]
    fn a_ticker_that_is_late_catches_up() {
        let mut ticks = ticks();
        ticks.set_alarm(0, 1);
        let mut told = Vec::new();
        while ticks.until_alarm(38).is_zero() {
            told.push(ticks.take(38));
            ticks.set_alarm(38, 1);
        }
        assert_eq!((told, ticks.until_alarm(38)), (vec![1, 1, 1], ms(2)));
    }

    /// After a pause of an hour, time goes on about where it was.
    #[test]
    fn a_pause_is_not_made_up_for() {
        let (mut ticks, hour_ms) = (ticks(), 3_600_000);
        ticks.set_alarm(0, 30);
        assert_eq!(ticks.take(hour_ms), 15, "half of what was to come");
        assert_eq!(ticks.take(hour_ms + 25), 0, "the ticker has not looked yet");
        ticks.set_alarm(hour_ms + 25, 2);
        assert_eq!([34, 35, 99].map(|ms| ticks.take(hour_ms + ms)), [0, 1, 1]);
    }
}
