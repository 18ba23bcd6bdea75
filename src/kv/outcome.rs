//! What the store answers. It knows nothing of dialects: the same outcome is printed as a line for
//! a person or as RESP for a program.

use super::answer::FrozenQuery;
use super::bytes::Bytes;
use super::digest::{Digest, Kind};

/// What the store answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Done, and there is nothing to tell.
    Done,
    /// No such key, or a condition that did not hold.
    Nothing,
    /// A number.
    Integer(i64),
    /// A value.
    Value(Bytes),
    /// A fixed word.
    Text(&'static str),
    /// Several answers.
    List(Vec<Outcome>),
    /// A transaction that was not executed, because what it depends on has changed.
    Aborted,
    /// What WATCH found.
    Watched {
        /// The log index up to which the state machine had applied.
        seen_at: u64,
        /// Which of the keys existed, in their order.
        existed: Vec<bool>,
    },
    /// A question that takes long, and the store as it was when it was asked: to be answered
    /// elsewhere, by `FrozenQuery::answer`.
    Frozen(Box<FrozenQuery>),
    /// Not executed: RENAME of a key that does not exist.
    NoSuchKey,
    /// Not executed: the value is not a 64-bit integer.
    NotInteger,
    /// Not executed: the sum would leave the range of 64-bit integers.
    Overflow,
    /// Not executed: the deadline lies beyond what can be counted.
    BadDeadline,
    /// Not executed: the value would become too long.
    TooBig {
        /// How long it would become, in bytes.
        bytes: usize,
        /// The longest it may become.
        bytes_max: usize,
    },
    /// Not answered: the reply would be too long.
    ReplyTooBig {
        /// The longest it may be, in bytes of keys and values.
        bytes_max: usize,
    },
    /// Not answered: more keys match than may be answered at once.
    TooMany {
        /// How many may.
        keys_max: usize,
    },
    /// Not executed: ONCE of a client that is not known (any more), with a sequence number above 1.
    OnceUnknownClient,
    /// Not executed: ONCE with a number that leaves out others.
    OnceGap {
        /// The next number in the client's sequence.
        expected: u64,
    },
    /// Executed before, but its answer is no longer remembered.
    OnceForgotten {
        /// The last number of the client that was executed.
        last: u64,
    },
}

impl Outcome {
    /// Bytes of keys and values in it.
    pub fn bytes(&self) -> usize {
        match self {
            Outcome::Value(value) => value.len(),
            Outcome::List(list) => list.iter().map(Outcome::bytes).sum(),
            _ => 0,
        }
    }

    /// The hash of what a command answered, for the state that remembers it.
    pub(super) fn hash(&self) -> u64 {
        let digest = Digest::of(Kind::Answer);
        let digest = match self {
            Outcome::Done => digest.number(0),
            Outcome::Nothing => digest.number(1),
            Outcome::Integer(number) => digest.number(2).number(number.cast_unsigned()),
            Outcome::Value(value) => digest.number(3).bytes(value),
            Outcome::NotInteger => digest.number(4),
            Outcome::Overflow => digest.number(5),
            Outcome::BadDeadline => digest.number(6),
            Outcome::TooBig { bytes, bytes_max } => {
                digest.number(7).number(*bytes as u64).number(*bytes_max as u64)
            }
            Outcome::TooMany { keys_max } => digest.number(8).number(*keys_max as u64),
            Outcome::NoSuchKey => digest.number(9),
            Outcome::Text(_)
            | Outcome::List(_)
            | Outcome::Aborted
            | Outcome::Watched { .. }
            | Outcome::Frozen(_)
            | Outcome::ReplyTooBig { .. }
            | Outcome::OnceUnknownClient
            | Outcome::OnceGap { .. }
            | Outcome::OnceForgotten { .. } => unreachable!("no single command answers {self:?}"),
        };
        digest.value()
    }
}

/// One change of one key, as watchers of the store see it. An entry is applied at once, so of a
/// transaction that writes a key twice they see what it left, and one change of each key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The log index of the entry that made it.
    pub index: u64,
    /// The key.
    pub key: Bytes,
    /// Its new value; `None`: it was deleted, or has expired.
    pub value: Option<Bytes>,
}

impl Change {
    /// What it weighs against byte bounds. Each change has a value of its own, so whoever gathers
    /// changes must bound these.
    pub fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, |value| value.len())
    }
}
