//! How much of the disk a long job takes.
//!
//! A disk does one thing after the other, and entries wait for its syncs. A snapshot of a gigabyte
//! that is written as fast as the disk can keeps every one of them waiting for seconds; what nobody
//! waits for is therefore done in small pieces, with pauses for others in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::limits::{DISK_REST_MS_MAX, DISK_REST_PER_WORK};

/// How a long job goes about its work on the disk.
#[derive(Clone, Debug)]
pub enum Pace {
    /// As fast as it can: somebody waits for it, or nobody else needs the disk.
    Full,
    /// Resting after each piece, for longer the slower the disk is, except in a hurry.
    Considerate(Hurry),
}

/// Whether what is done considerately is needed soon after all: the disk fills up faster than a
/// snapshot frees it. Clones tell of the same.
#[derive(Clone, Debug, Default)]
pub struct Hurry {
    is_on: Arc<AtomicBool>,
}

impl Hurry {
    /// Says that there is one, or none any more. It holds from the next rest on.
    pub fn set(&self, is_on: bool) {
        self.is_on.store(is_on, Ordering::Relaxed);
    }

    fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }
}

impl Pace {
    /// Does a piece of the work, and rests after it if others come first.
    pub fn work<T>(&self, piece: impl FnOnce() -> T) -> T {
        let since = Instant::now();
        let done = piece();
        let rest = self.rest_after(since.elapsed());
        if !rest.is_zero() {
            thread::sleep(rest);
        }
        done
    }

    /// Whether space is so short that what is not needed now had better not be made.
    pub fn is_hurried(&self) -> bool {
        matches!(self, Pace::Considerate(hurry) if hurry.is_on())
    }

    /// How long to rest after a piece that took so long.
    fn rest_after(&self, took: Duration) -> Duration {
        match self {
            Pace::Considerate(hurry) if !hurry.is_on() => {
                (took * DISK_REST_PER_WORK).min(Duration::from_millis(DISK_REST_MS_MAX))
            }
            Pace::Considerate(_) | Pace::Full => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn a_rest_follows_considerate_work_and_is_bounded() {
        let pace = Pace::Considerate(Hurry::default());
        assert_eq!(pace.rest_after(ms(2)), ms(2 * u64::from(DISK_REST_PER_WORK)));
        assert_eq!(pace.rest_after(ms(10_000)), ms(DISK_REST_MS_MAX));
    }

    #[test]
    fn nobody_rests_at_full_pace_or_in_a_hurry() {
        let hurry = Hurry::default();
        let pace = Pace::Considerate(hurry.clone());
        hurry.set(true);
        assert_eq!(pace.rest_after(ms(10)), ms(0));
        assert_eq!(Pace::Full.rest_after(ms(10)), ms(0));
        hurry.set(false);
        assert_ne!(pace.rest_after(ms(10)), ms(0));
    }

    #[test]
    fn the_rest_is_taken_and_the_result_passed_on() {
        let since = Instant::now();
        let done = Pace::Considerate(Hurry::default()).work(|| {
            thread::sleep(ms(3));
            7
        });
        assert_eq!(done, 7);
        assert!(since.elapsed() >= ms(3) * (1 + DISK_REST_PER_WORK));
    }
}
