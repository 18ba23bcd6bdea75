//! The ticker: time, as the core knows it.
//!
//! A server that was stopped (SIGSTOP, a sleeping laptop) does not get the ticks it missed: the
//! channel holds one. So it wakes up with its timers where they were, and does not start an
//! election at once.

use std::time::{Duration, Instant};

use super::monitor::{Deliver, Monitor};

/// The body of the thread `ticker`.
pub fn run<D: Deliver>(monitor: &Monitor<D>, tick: Duration) {
    let start = Instant::now();
    for _instant in crossbeam_channel::tick(tick) {
        let now_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        monitor.with(|server| server.tick(now_ms));
    }
}
