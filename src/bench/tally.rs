//! What was seen: latencies, errors by family, and the times in which nothing succeeded.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use hdrhistogram::Histogram;

use super::wire::Family;
use super::work::{Outcome, Request};

/// Latencies are told apart down to this, in nanoseconds.
const LATENCY_NANOS_MIN: u64 = 100;

/// Longer latencies count as this, in nanoseconds: two minutes.
const LATENCY_NANOS_MAX: u64 = 120_000_000_000;

/// Digits of a latency that are kept.
const LATENCY_DIGITS: u8 = 3;

/// How many gaps are kept beside the longest: a run that has more does not stand still now and
/// then, it creeps. The rest is only counted.
const GAPS_KEPT: usize = 1000;

/// Everything that one run counted.
pub struct Tally {
    /// Latencies of writes that were done, in nanoseconds.
    pub writes: Histogram<u64>,
    /// Latencies of reads that were answered, in nanoseconds.
    pub reads: Histogram<u64>,
    /// Reads that found no such key.
    pub reads_absent: u64,
    /// Requests that were in flight at the end: perhaps executed, perhaps not.
    pub unfinished: u64,
    /// What went wrong.
    pub trouble: Trouble,
    /// When writes stood still.
    pub gaps: Gaps,
    /// When the counting began.
    pub since: Instant,
    /// The same by the clock on the wall, to find a gap in the logs of servers.
    pub began: SystemTime,
    /// How long it was counted.
    pub elapsed: Duration,
}

/// Counts of what was not done.
#[derive(Clone, Debug, Default)]
pub struct Trouble {
    /// Answers of the refused family.
    pub refused: u64,
    /// Answers of the unknown family.
    pub unknown: u64,
    /// Answers of the wrong family.
    pub wrong: u64,
    /// Answers that cannot be right.
    pub nonsense: u64,
    /// Requests whose connection was over before the answer came.
    pub lost: u64,
    /// Connections that were lost, or given up because an answer did not come.
    pub cut: u64,
    /// Connections that could not be made.
    pub not_connected: u64,
    /// The first text of each kind.
    pub examples: BTreeMap<&'static str, String>,
}

impl Tally {
    /// Nothing yet. A time of `gap` without a successful write is to be reported.
    pub fn new(now: Instant, gap: Duration) -> Tally {
        let histogram = || {
            Histogram::new_with_bounds(LATENCY_NANOS_MIN, LATENCY_NANOS_MAX, LATENCY_DIGITS)
                .expect("the bounds are in order and three digits are allowed")
        };
        Tally {
            writes: histogram(),
            reads: histogram(),
            reads_absent: 0,
            unfinished: 0,
            trouble: Trouble::default(),
            gaps: Gaps::new(now, gap),
            since: now,
            began: SystemTime::now(),
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
            Outcome::Lost => self.trouble.lost += 1,
        }
    }

    /// The run is over, and so many requests were in flight.
    pub fn finish(&mut self, now: Instant, unfinished: usize) {
        self.elapsed = now - self.since;
        self.unfinished = unfinished as u64;
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
        self.refused + self.unknown + self.wrong + self.nonsense + self.lost
    }

    /// Keeps the first text of each kind.
    pub fn example(&mut self, kind: &'static str, text: impl FnOnce() -> String) {
        self.examples.entry(kind).or_insert_with(text);
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Trouble { refused, unknown, wrong, nonsense, lost, cut, not_connected, examples } =
            self;
        write!(
            f,
            "refused {refused}, unknown {unknown}, lost {lost}, wrong {wrong}, nonsense \
             {nonsense}; connections cut {cut}, not made {not_connected}"
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

/// The times between two successful writes, of whichever clients.
pub struct Gaps {
    origin: Instant,
    last: Instant,
    /// A gap of this length is kept.
    threshold: Duration,
    longest: Gap,
    /// At least of the threshold's length, in the order in which they were; the first so many.
    kept: Vec<Gap>,
    /// Those that would have been kept had there been room.
    more: u64,
    told: Option<Gap>,
}

impl Gaps {
    fn new(now: Instant, threshold: Duration) -> Gaps {
        let longest = Gap { start: Duration::ZERO, length: Duration::ZERO };
        let (kept, more, told) = (Vec::new(), 0, None);
        Gaps { origin: now, last: now, threshold, longest, kept, more, told }
    }

    fn success(&mut self, now: Instant) {
        let gap = Gap { start: self.last - self.origin, length: now - self.last };
        self.last = now;
        if gap.length > self.longest.length {
            self.longest = gap;
        }
        if gap.length < self.threshold {
            return; // nearly always
        }
        if self.kept.len() < GAPS_KEPT {
            self.kept.push(gap);
        } else {
            self.more += 1;
        }
        if self.told.is_none_or(|told| gap.length > told.length) {
            self.told = Some(gap);
        }
    }

    /// The longest of all, however short.
    pub fn longest(&self) -> Gap {
        self.longest
    }

    /// Those that reach the threshold, in the order in which they were, and how many more there
    /// were than are kept.
    pub fn long(&self) -> (&[Gap], u64) {
        (&self.kept, self.more)
    }

    /// How long it is now since the last success, if that reaches the threshold.
    pub fn silent(&self, now: Instant) -> Option<Duration> {
        Some(now - self.last).filter(|silent| *silent >= self.threshold)
    }

    /// The longest that reached the threshold since it was last asked.
    pub fn take_told(&mut self) -> Option<Gap> {
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
        let mut tally = Tally::new(start, ms(20));
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
            (write, Outcome::Lost),
        ];
        for (number, (request, outcome)) in ends.into_iter().enumerate() {
            tally.count(&request, outcome, start + ms(1));
            assert_eq!(tally.ended(), number as u64 + 1);
        }
        assert_eq!((tally.writes.len(), tally.reads.len(), tally.reads_absent), (1, 2, 1));
        let Trouble { refused, unknown, wrong, nonsense, lost, .. } = tally.trouble;
        assert_eq!([refused, unknown, wrong, nonsense, lost], [1, 1, 1, 1, 1]);
        assert_eq!(tally.done(), 3);
    }

    /// Percentiles are those of all answers, within three digits.
    #[test]
    fn percentiles_are_right_to_three_digits() {
        let start = Instant::now();
        let mut tally = Tally::new(start, ms(20));
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
    fn gaps_are_found_wherever_they_are() {
        let start = Instant::now();
        let mut tally = Tally::new(start, ms(20));
        let request = Request { made: start, reads: false, key: 1 };
        for at in [30, 31, 32, 132, 133, 134, 135, 136] {
            tally.count(&request, Outcome::Done, start + ms(at));
        }
        assert_eq!(tally.gaps.take_told(), Some(Gap { start: ms(32), length: ms(100) }));
        assert_eq!(tally.gaps.take_told(), None);
        tally.count(&request, Outcome::Failed(Family::Refused), start + ms(150));
        let read = Request { reads: true, ..request };
        tally.count(&read, Outcome::Done, start + ms(150));
        assert_eq!(
            (tally.gaps.silent(start + ms(155)), tally.gaps.silent(start + ms(156))),
            (None, Some(ms(20)))
        );
        tally.finish(start + ms(176), 3);
        assert_eq!(tally.unfinished, 3);
        let times = |gap: &Gap| (gap.start.as_millis(), gap.length.as_millis());
        let (long, more) = tally.gaps.long();
        assert_eq!(long.iter().map(times).collect::<Vec<_>>(), [(0, 30), (32, 100), (136, 40)]);
        assert_eq!((times(&tally.gaps.longest()), more), ((32, 100), 0));
    }

    /// A run that creeps for days must not fill the memory; and the longest is known all the same.
    #[test]
    fn gaps_beyond_the_bound_are_counted() {
        let start = Instant::now();
        let mut tally = Tally::new(start, ms(20));
        let request = Request { made: start, reads: false, key: 1 };
        for number in 1..=GAPS_KEPT as u64 + 5 {
            tally.count(&request, Outcome::Done, start + ms(20 * number));
        }
        tally.finish(start + ms(20 * (GAPS_KEPT as u64 + 5) + 21), 0);
        let (long, more) = tally.gaps.long();
        assert_eq!((long.len(), more), (GAPS_KEPT, 6));
        assert_eq!(tally.gaps.longest().length, ms(21));
    }
}
