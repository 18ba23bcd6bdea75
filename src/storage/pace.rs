//! How much of the disk a long job takes.
//!
//! A disk does one thing after the other, and entries wait for its syncs. A snapshot of a gigabyte
//! that is written as fast as the disk can keeps every one of them waiting for seconds; what nobody
//! waits for is therefore done in small pieces, with pauses for others in between.

use std::thread;
use std::time::{Duration, Instant};

use crate::limits::{DISK_REST_MS_MAX, DISK_REST_PER_WORK};

/// How a long job goes about its work on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As fast as it can: somebody waits for it, or nobody else needs the disk.
    Full,
    /// Resting after each piece, for longer the slower the disk is.
    Considerate,
}

impl Pace {
    /// Does a piece of the work, and rests after it if others come first.
    pub fn work<T>(self, piece: impl FnOnce() -> T) -> T {
        let since = Instant::now();
        let done = piece();
        match self {
            Pace::Full => {}
            Pace::Considerate => thread::sleep(rest_after(since.elapsed())),
        }
        done
    }
}

/// How long to rest after a piece that took so long.
fn rest_after(took: Duration) -> Duration {
    (took * DISK_REST_PER_WORK).min(Duration::from_millis(DISK_REST_MS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_follows_the_work_and_is_bounded() {
        let ms = Duration::from_millis;
        assert_eq!(rest_after(ms(2)), ms(2 * u64::from(DISK_REST_PER_WORK)));
        assert_eq!(rest_after(ms(10_000)), ms(DISK_REST_MS_MAX));
    }

    #[test]
    fn only_the_considerate_rest() {
        let piece = || thread::sleep(Duration::from_millis(3));
        let since = Instant::now();
        Pace::Considerate.work(piece);
        assert!(since.elapsed() >= Duration::from_millis(3) * (1 + DISK_REST_PER_WORK));
        assert_eq!(Pace::Full.work(|| 7), 7, "what the piece gives is passed on");
    }
}
