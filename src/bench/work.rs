//! Which requests there are: keys, values, and what a right answer is.
//!
//! The key of number 17 with 256-byte values is `bench:256:17`: runs with different lengths do not
//! meet. Its value is `17:a3f0:` and then filler from place `a3f0` on, cut at its length. Whoever
//! reads a value can therefore say whether it is one that somebody may have written to this key,
//! without remembering who wrote what.

use std::time::Instant;

use super::wire::{Family, Protocol, Reply, push_decimal};

/// Places at which the filler of a value may begin.
const FILLER_PLACES: usize = 1 << 16;

/// A request that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// When it was made.
    pub made: Instant,
    /// Whether it reads; else it writes.
    pub reads: bool,
    /// The number of its key.
    pub key: u64,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done; a read found the key, or it was a write.
    Done,
    /// A read found no such key.
    Absent,
    /// An error was answered.
    Failed(Family),
    /// No answer came before its connection was over: perhaps it was executed, perhaps not (§8).
    Lost,
    /// The answer cannot be right.
    Nonsense,
}

/// Makes requests and judges their answers.
pub struct Work {
    protocol: Protocol,
    keys: u64,
    value_bytes: usize,
    reads_percent: u64,
    /// Take the keys in order instead of at random.
    in_order: bool,
    /// Requests that may still be made.
    budget: u64,
    /// Requests that were made.
    made: u64,
    dice: Dice,
    filler: Vec<u8>,
    key_prefix: Vec<u8>,
    /// The key of the request that is being made.
    key: Vec<u8>,
}

impl Work {
    /// Requests on `keys` keys, of which so many in a hundred read.
    pub fn new(protocol: Protocol, keys: u64, value_bytes: usize, reads_percent: u64) -> Work {
        let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
        let letter = |_| b'a' + (dice.roll() % 26) as u8;
        let filler = (0..value_bytes + FILLER_PLACES).map(letter).collect();
        // Two runs at the same time, or one after the other, write different keys.
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seed = now.map_or(0, |now| now.as_nanos() as u64) ^ u64::from(std::process::id());
        Work {
            protocol,
            keys,
            value_bytes,
            reads_percent,
            in_order: false,
            budget: u64::MAX,
            made: 0,
            dice: Dice(seed | 1),
            filler,
            key_prefix: format!("bench:{value_bytes}:").into_bytes(),
            key: Vec::new(),
        }
    }

    /// At most so many requests.
    pub fn with_budget(self, budget: u64) -> Work {
        Work { budget, ..self }
    }

    /// Keys 0, 1, 2 … instead of random ones.
    pub fn in_order(self) -> Work {
        Work { in_order: true, ..self }
    }

    /// Appends the next request to `output`; `None` if there are no more.
    pub fn request(&mut self, now: Instant, output: &mut Vec<u8>) -> Option<Request> {
        self.budget = self.budget.checked_sub(1)?;
        let key = if self.in_order { self.made } else { self.dice.roll() } % self.keys;
        self.made += 1;
        self.key.clear();
        self.key.extend_from_slice(&self.key_prefix);
        push_decimal(&mut self.key, key);
        let reads = self.dice.roll() % 100 < self.reads_percent;
        if reads {
            self.protocol.get(&self.key, output);
        } else {
            self.protocol.begin_set(&self.key, self.value_bytes, output);
            let place = self.dice.roll() as usize % FILLER_PLACES;
            self.push_value(key, place, output);
            self.protocol.end_set(output);
        }
        Some(Request { made: now, reads, key })
    }

    /// What the answer to a request means.
    pub fn judge(&self, request: &Request, reply: Reply<'_>) -> Outcome {
        match reply {
            Reply::Error(text) => Outcome::Failed(Family::of(text)),
            Reply::Text(value) if request.reads && self.may_be_value(request.key, value) => {
                Outcome::Done
            }
            Reply::Nothing if request.reads => Outcome::Absent,
            Reply::Text(b"OK") if !request.reads => Outcome::Done,
            _ => Outcome::Nonsense,
        }
    }

    fn push_value(&self, key: u64, place: usize, output: &mut Vec<u8>) {
        let start = output.len();
        push_decimal(output, key);
        output.push(b':');
        for shift in [12, 8, 4, 0] {
            output.push(b"0123456789abcdef"[place >> shift & 0xF]);
        }
        output.push(b':');
        let header_bytes = output.len() - start;
        let filler_bytes = self.value_bytes.saturating_sub(header_bytes);
        output.extend_from_slice(&self.filler[place..place + filler_bytes]);
        output.truncate(start + self.value_bytes);
    }

    /// Whether somebody may have written `value` to this key.
    fn may_be_value(&self, key: u64, value: &[u8]) -> bool {
        if value.len() != self.value_bytes {
            return false;
        }
        let mut name = Vec::with_capacity(24);
        push_decimal(&mut name, key);
        name.push(b':');
        let Some((header, rest)) = value.split_at_checked(name.len() + 5) else {
            // Too short to say where its filler begins.
            return value.iter().zip(&name).all(|(one, other)| one == other);
        };
        let (its_name, place) = header.split_at(name.len());
        let place = place.strip_suffix(b":").and_then(|hex| std::str::from_utf8(hex).ok());
        let place = place.and_then(|hex| usize::from_str_radix(hex, 16).ok());
        its_name == name && place.is_some_and(|at| rest == &self.filler[at..at + rest.len()])
    }
}

/// A small generator (xorshift) that is good enough to choose keys.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_of(key: u64) -> Request {
        Request { made: Instant::now(), reads: false, key }
    }

    fn read_of(key: u64) -> Request {
        Request { reads: true, ..write_of(key) }
    }

    /// A store that answers nonsense must be noticed, whatever is wrong with the value.
    #[test]
    fn a_value_that_nobody_can_have_written_is_noticed() {
        for value_bytes in [1, 3, 4, 9, 10, 11, 256] {
            let work = Work::new(Protocol::Resp, 1000, value_bytes, 50);
            let mut value = Vec::new();
            work.push_value(123, 0xA3F0, &mut value);
            assert_eq!(value.len(), value_bytes);
            let judge = |value: &[u8]| work.judge(&read_of(123), Reply::Text(value));
            assert_eq!(judge(&value), Outcome::Done, "{value_bytes}");
            assert_eq!(judge(&value[1..]), Outcome::Nonsense, "a byte is lost: {value_bytes}");
            assert_eq!(work.judge(&read_of(923), Reply::Text(&value)), Outcome::Nonsense);
            let last = value.len() - 1;
            value[last] ^= 1;
            let hidden = (5..10).contains(&value_bytes); // the place of a filler that is cut off
            assert!(hidden || judge(&value) == Outcome::Nonsense, "a flipped bit: {value_bytes}");
        }
    }

    #[test]
    fn answers_of_the_wrong_kind_are_nonsense() {
        let work = Work::new(Protocol::Line, 10, 5, 50);
        assert_eq!(work.judge(&write_of(1), Reply::Text(b"OK")), Outcome::Done);
        assert_eq!(work.judge(&write_of(1), Reply::Text(b"1:a3f")), Outcome::Nonsense);
        assert_eq!(work.judge(&write_of(1), Reply::Nothing), Outcome::Nonsense);
        assert_eq!(work.judge(&read_of(1), Reply::Nothing), Outcome::Absent);
        assert_eq!(work.judge(&read_of(1), Reply::Text(b"OK")), Outcome::Nonsense);
        let unknown = Reply::Error(b"UNKNOWN deadline");
        assert_eq!(work.judge(&write_of(1), unknown), Outcome::Failed(Family::Unknown));
    }

    #[test]
    fn the_budget_and_the_share_of_reads_are_kept() {
        let mut work = Work::new(Protocol::Line, 7, 20, 30).with_budget(10_000);
        let (mut output, now) = (Vec::new(), Instant::now());
        let mut reads = 0;
        while let Some(request) = work.request(now, &mut output) {
            assert!(request.key < 7);
            reads += u32::from(request.reads);
        }
        assert_eq!(output.iter().filter(|byte| **byte == b'\n').count(), 10_000);
        assert!((2700..3300).contains(&reads), "{reads} reads of 10,000 are not 30 %");
    }

    #[test]
    fn keys_in_order_are_all_keys() {
        let mut work = Work::new(Protocol::Line, 50, 4, 0).with_budget(50).in_order();
        let (mut output, now) = (Vec::new(), Instant::now());
        let keys: Vec<u64> =
            std::iter::from_fn(|| work.request(now, &mut output)).map(|r| r.key).collect();
        assert_eq!(keys, (0..50).collect::<Vec<_>>());
    }
}
