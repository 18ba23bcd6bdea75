//! The ticker: time, as the core knows it.
//!
//! A server that was stopped (SIGSTOP, a sleeping laptop) does not get the ticks it missed: the
//! channel holds one. So it wakes up with its timers where they were, and does not start an
//! election at once.

use std::time::Duration;

use super::monitor::{Deliver, Monitor};

/// The body of the thread `ticker`.
pub fn run<D: Deliver>(monitor: &Monitor<D>, tick: Duration) {
    for _instant in crossbeam_channel::tick(tick) {
        monitor.with(|server| server.tick(monitor.now_ms()));
    }
}
