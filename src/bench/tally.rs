//! What was seen: latencies, errors by family, and the times in which nothing succeeded.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::wire::Family;
use super::work::{Outcome, Request};

/// Latencies are told apart down to this, in nanoseconds.
const LATENCY_NANOS_MIN: u64 = 100;

/// Longer latencies count as this, in nanoseconds: two minutes.
const LATENCY_NANOS_MAX: u64 = 120_000_000_000;

/// Digits of a latency that are kept.
const LATENCY_DIGITS: u8 = 3;

/// How many of the longest gaps are kept.
const GAPS_KEPT: usize = 5;

/// A time without a success that is told while it is fresh.
const GAP_TOLD: Duration = Duration::from_millis(50);

/// Everything that one run counted.
pub struct Tally {
    /// Latencies of writes that were done, in nanoseconds.
    pub writes: Histogram<u64>,
    /// Latencies of reads that were answered, in nanoseconds.
    pub reads: Histogram<u64>,
    /// Reads that found no such key.
    pub reads_absent: u64,
    /// What went wrong.
    pub trouble: Trouble,
    /// When writes stood still.
    pub gaps: Gaps,
    /// When the counting began.
    pub since: Instant,
    /// How long it was counted.
    pub elapsed: Duration,
}

/// Counts of what was not done.
#[derive(Clone, Debug, Default)]
pub struct Trouble {
    /// Answers of the refused family.
    pub refused: u64,
    /// Answers of the unknown family, and requests whose connection was lost before the answer.
    pub unknown: u64,
    /// Answers of the wrong family.
    pub wrong: u64,
    /// Answers that cannot be right.
    pub nonsense: u64,
    /// Connections that were lost, or given up because an answer did not come.
    pub cut: u64,
    /// Connections that could not be made.
    pub not_connected: u64,
    /// The first text of each kind.
    pub examples: BTreeMap<&'static str, String>,
}

impl Tally {
    /// Nothing yet.
    pub fn new(now: Instant) -> Tally {
        let histogram = || {
            Histogram::new_with_bounds(LATENCY_NANOS_MIN, LATENCY_NANOS_MAX, LATENCY_DIGITS)
                .expect("the bounds are in order and three digits are allowed")
        };
        Tally {
            writes: histogram(),
            reads: histogram(),
            reads_absent: 0,
            trouble: Trouble::default(),
            gaps: Gaps::new(now),
            since: now,
            elapsed: Duration::ZERO,
        }
    }

    /// Counts how a request ended.
    pub fn count(&mut self, request: &Request, outcome: Outcome, now: Instant) {
        match outcome {
            Outcome::Done | Outcome::Absent => {
                let nanos = (now - request.made).as_nanos() as u64;
                let latencies = if request.reads { &mut self.reads } else { &mut self.writes };
                latencies.saturating_record(nanos);
                self.reads_absent += u64::from(outcome == Outcome::Absent);
                if !request.reads {
                    self.gaps.success(now);
                }
            }
            Outcome::Failed(Family::Refused) => self.trouble.refused += 1,
            Outcome::Failed(Family::Unknown) => self.trouble.unknown += 1,
            Outcome::Failed(Family::Wrong) => self.trouble.wrong += 1,
            Outcome::Nonsense => self.trouble.nonsense += 1,
        }
    }

    /// The run is over.
    pub fn finish(&mut self, now: Instant) {
        self.elapsed = now - self.since;
        self.gaps.success(now); // a silence that lasts to the end is one too
    }

    /// Requests that succeeded.
    pub fn done(&self) -> u64 {
        self.writes.len() + self.reads.len()
    }

    /// Requests that ended, well or not.
    pub fn ended(&self) -> u64 {
        self.done() + self.trouble.requests()
    }
}

impl Trouble {
    /// Requests that were not done.
    pub fn requests(&self) -> u64 {
        self.refused + self.unknown + self.wrong + self.nonsense
    }

    /// Keeps the first text of each kind.
    pub fn example(&mut self, kind: &'static str, text: impl FnOnce() -> String) {
        self.examples.entry(kind).or_insert_with(text);
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Trouble { refused, unknown, wrong, nonsense, cut, not_connected, examples } = self;
        write!(
            f,
            "refused {refused}, unknown {unknown}, wrong {wrong}, nonsense {nonsense}; connections \
             cut {cut}, not made {not_connected}"
        )?;
        for (kind, text) in examples {
            write!(f, "; {kind}, first: {text}")?;
        }
        Ok(())
    }
}

/// A time without a successful write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// From the beginning of the measuring to its beginning.
    pub start: Duration,
    /// How long it was.
    pub length: Duration,
}

/// The longest times between two successful writes, of whichever clients.
pub struct Gaps {
    origin: Instant,
    last: Instant,
    /// Longest first.
    longest: Vec<Gap>,
    told: Option<Gap>,
}

impl Gaps {
    fn new(now: Instant) -> Gaps {
        Gaps { origin: now, last: now, longest: Vec::new(), told: None }
    }

    fn success(&mut self, now: Instant) {
        let gap = Gap { start: self.last - self.origin, length: now - self.last };
        self.last = now;
        let shortest_kept = self.longest.get(GAPS_KEPT - 1).map_or(Duration::ZERO, |g| g.length);
        if gap.length <= shortest_kept {
            return; // nearly always
        }
        let at = self.longest.partition_point(|kept| kept.length >= gap.length);
        self.longest.insert(at, gap);
        self.longest.truncate(GAPS_KEPT);
        if gap.length >= GAP_TOLD && self.told.is_none_or(|told| gap.length > told.length) {
            self.told = Some(gap);
        }
    }

    /// Longest first.
    pub fn longest(&self) -> &[Gap] {
        &self.longest
    }

    /// The longest gap since it was last asked, if it was one that a person would notice.
    pub fn take_noticed(&mut self) -> Option<Gap> {
        self.told.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Every request ends in exactly one count.
    #[test]
    fn each_end_is_counted_once_and_in_its_family() {
        let start = Instant::now();
        let mut tally = Tally::new(start);
        let write = Request { made: start, reads: false, key: 1 };
        let read = Request { reads: true, ..write };
        let ends = [
            (write, Outcome::Done),
            (read, Outcome::Done),
            (read, Outcome::Absent),
            (write, Outcome::Failed(Family::Refused)),
            (write, Outcome::Failed(Family::Unknown)),
            (read, Outcome::Failed(Family::Wrong)),
            (read, Outcome::Nonsense),
        ];
        for (number, (request, outcome)) in ends.into_iter().enumerate() {
            tally.count(&request, outcome, start + ms(1));
            assert_eq!(tally.ended(), number as u64 + 1);
        }
        assert_eq!((tally.writes.len(), tally.reads.len(), tally.reads_absent), (1, 2, 1));
        let Trouble { refused, unknown, wrong, nonsense, .. } = tally.trouble;
        assert_eq!([refused, unknown, wrong, nonsense], [1, 1, 1, 1]);
        assert_eq!(tally.done(), 3);
    }

    /// Percentiles are those of all answers, within three digits.
    #[test]
    fn percentiles_are_right_to_three_digits() {
        let start = Instant::now();
        let mut tally = Tally::new(start);
        let request = Request { made: start, reads: false, key: 1 };
        for micros in 1..=10_000 {
            tally.count(&request, Outcome::Done, start + Duration::from_micros(micros));
        }
        for (percent, micros) in [(50.0, 5000.0), (90.0, 9000.0), (99.9, 9990.0)] {
            let found = tally.writes.value_at_percentile(percent) as f64 / 1000.0;
            assert!((found - micros).abs() <= micros / 500.0, "p{percent} is {found} µs");
        }
    }

    /// A pause at the beginning or at the end is one too, and failures do not end one.
    #[test]
    fn the_longest_gaps_are_found_wherever_they_are() {
        let start = Instant::now();
        let mut tally = Tally::new(start);
        let request = Request { made: start, reads: false, key: 1 };
        for at in [30, 31, 32, 132, 133, 134, 135, 136] {
            tally.count(&request, Outcome::Done, start + ms(at));
        }
        assert_eq!(tally.gaps.take_noticed(), Some(Gap { start: ms(32), length: ms(100) }));
        assert_eq!(tally.gaps.take_noticed(), None);
        tally.count(&request, Outcome::Failed(Family::Refused), start + ms(150));
        let read = Request { reads: true, ..request };
        tally.count(&read, Outcome::Done, start + ms(150));
        tally.finish(start + ms(176));
        let longest: Vec<(u128, u128)> = tally
            .gaps
            .longest()
            .iter()
            .map(|gap| (gap.start.as_millis(), gap.length.as_millis()))
            .collect();
        assert_eq!(longest, [(32, 100), (136, 40), (0, 30), (30, 1), (31, 1)]);
    }
}
