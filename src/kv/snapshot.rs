//! A whole state as a row of byte strings, and back.
//!
//! A snapshot is taken of a clone, which shares its memory with the original and stands still while
//! the server goes on. [`write`] walks through it and hands out *items*, one after the other, so
//! that no more than one of them is in memory; [`Restore`] takes them in the same order. What an
//! item is made of concerns nobody else: a file stores it, a message carries it.
//!
//! An item is a run of *records*, each as postcard writes it, without a count: it ends where its
//! bytes end. Records are put together up to 32 KiB; a larger one is an item by itself. All of them
//! in a row are, in this order:
//!
//! - `Encoding`: which version of this encoding follows. Nothing else is read before it is known.
//! - `Head`: the index applied, the log time, and the horizon of the tombstones.
//! - a `Pair` for each key, in the order of the keys: value, version, deadline. Overdue keys, too:
//!   that they are still there is part of the state.
//! - a `Tombstone` for each deleted key that is remembered, in the order of the keys.
//! - a `Server` for each server of `kv::session`, in the order of their numbers, and behind each
//!   one its `Range`s, ascending.
//! - a `Client` for each name of ONCE, in the order of the names, and behind each one the `Answer`s
//!   that are remembered, the newest last.
//! - `End`: nothing is missing; and the hash that the state must have.
//!
//! The orders in which the store looks for keys otherwise, all sums and counts follow from this.
//! Equal states give equal bytes, as everything is in an order that the content decides. What is
//! left out or doubled would make a server differ from the others for ever: without the sessions
//! and the answers of ONCE, a command sent again behind a snapshot would be executed twice (S72).
//!
//! **Nothing is believed** (S98). What comes from a disk or a peer may be damaged or crafted, so
//! each record is checked for what the tables rely on: order, bounds, what may stand beside what.
//! No length allocates more than the item that claims it holds. At last the hash of what has been
//! built must be the one that was written.

mod restore;
mod show;

use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

use super::StateMachine;
use super::command::Bytes;
use super::digest::Sum;
use super::outcome::Outcome;
use super::store::pair_hash;
use crate::limits::SNAPSHOT_ITEM_BYTES;

pub use restore::Restore;
pub use show::{Pair, pairs};

/// The version of this encoding, and of the hash in it.
const ENCODING: u32 = 1;

/// Why items are not a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RestoreError {
    /// Another version of ours wrote them.
    #[error("the state is written in encoding {found}, and this version reads {ENCODING}")]
    Encoding {
        /// The encoding that they name.
        found: u32,
    },
    /// They are damaged, or no server wrote them.
    #[error("the state is damaged in item {item}: {what}")]
    Damaged {
        /// Which item, counted from 1; the last one if it is noticed at the end.
        item: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The last item is missing.
    #[error("the state is not complete: it ends after item {item}")]
    Incomplete {
        /// How many items there were.
        item: u64,
    },
    /// Every item can be read, and still the state is another one than was written.
    #[error("the state has the hash {found:016x}, and {expected:016x} was written")]
    Hash {
        /// The hash of what was restored.
        found: u64,
        /// The hash of what was written.
        expected: u64,
    },
}

/// A check of what has been read; if it fails, what is wrong.
pub(super) type Checked = Result<(), &'static str>;

/// An error with this text unless the condition holds.
pub(super) fn ensure(holds: bool, otherwise: &'static str) -> Checked {
    if holds { Ok(()) } else { Err(otherwise) }
}

/// One step of the row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Record<'a> {
    Encoding(u32),
    Head {
        applied_index: u64,
        clock_ms: u64,
        horizon: u64,
    },
    Pair {
        #[serde(borrow)]
        key: Octets<'a>,
        value: Octets<'a>,
        version: u64,
        deadline_ms: Option<u64>,
    },
    Tombstone {
        key: Octets<'a>,
        index: u64,
    },
    Server {
        server: u32,
        incarnation: u64,
        floor: u64,
    },
    Range {
        first: u64,
        last: u64,
    },
    Client {
        name: Octets<'a>,
        last: u64,
        used_at: u64,
        used_ms: u64,
    },
    Answer(Answer<'a>),
    End {
        hash: u64,
    },
}

/// The outcomes that single commands have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer<'a> {
    Done,
    Nothing,
    Integer(i64),
    Value(#[serde(borrow)] Octets<'a>),
    NotInteger,
    Overflow,
    BadDeadline,
    TooBig { bytes: usize, bytes_max: usize },
    TooMany { keys_max: usize },
    NoSuchKey,
}

/// Bytes that are written and read as a whole; those read still lie in their item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Octets<'a>(pub(super) &'a [u8]);

impl Serialize for Octets<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'a> From<&'a Outcome> for Answer<'a> {
    fn from(outcome: &'a Outcome) -> Answer<'a> {
        match outcome {
            Outcome::Done => Answer::Done,
            Outcome::Nothing => Answer::Nothing,
            Outcome::Integer(number) => Answer::Integer(*number),
            Outcome::Value(value) => Answer::Value(Octets(value)),
            Outcome::NotInteger => Answer::NotInteger,
            Outcome::Overflow => Answer::Overflow,
            Outcome::BadDeadline => Answer::BadDeadline,
            Outcome::TooBig { bytes, bytes_max } => {
                Answer::TooBig { bytes: *bytes, bytes_max: *bytes_max }
            }
            Outcome::TooMany { keys_max } => Answer::TooMany { keys_max: *keys_max },
            Outcome::NoSuchKey => Answer::NoSuchKey,
            Outcome::Text(_)
            | Outcome::List(_)
            | Outcome::Aborted
            | Outcome::Watched { .. }
            | Outcome::Frozen(_)
            | Outcome::ReplyTooBig { .. }
            | Outcome::OnceUnknownClient
            | Outcome::OnceGap { .. }
            | Outcome::OnceForgotten { .. } => {
                unreachable!("no single command answers {outcome:?}")
            }
        }
    }
}

impl From<Answer<'_>> for Outcome {
    fn from(answer: Answer<'_>) -> Outcome {
        match answer {
            Answer::Done => Outcome::Done,
            Answer::Nothing => Outcome::Nothing,
            Answer::Integer(number) => Outcome::Integer(number),
            Answer::Value(Octets(value)) => Outcome::Value(Bytes::from(value)),
            Answer::NotInteger => Outcome::NotInteger,
            Answer::Overflow => Outcome::Overflow,
            Answer::BadDeadline => Outcome::BadDeadline,
            Answer::TooBig { bytes, bytes_max } => Outcome::TooBig { bytes, bytes_max },
            Answer::TooMany { keys_max } => Outcome::TooMany { keys_max },
            Answer::NoSuchKey => Outcome::NoSuchKey,
        }
    }
}

/// Hands out the items of a state in order, until one of them is refused: then that is the answer.
/// No item is empty, and none is larger than [`SNAPSHOT_ITEM_BYTES`] unless a single key with its
/// value, or a single answer, is.
///
/// Before the last one, which says that nothing is missing, it panics if what it has handed out is
/// not what was applied. A bit that flipped in memory would make a file that is whole and that no
/// start can use, and with it the snapshot before and the log would go. They are well now: so this
/// is the time to end, and to start again from them.
pub fn write<E>(
    machine: &StateMachine,
    item: &mut impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let store = &machine.store;
    let (applied_index, clock_ms) = (machine.applied_index, store.clock_ms());
    let head = Record::Head { applied_index, clock_ms, horizon: store.tombstones().horizon() };
    let records = [Record::Encoding(ENCODING), head].into_iter();
    let records = records.chain(store.records()).chain(store.tombstones().records());
    let records = records.chain(machine.sessions.records()).chain(machine.once.records());

    let mut gathered = Vec::with_capacity(2 * SNAPSHOT_ITEM_BYTES);
    let mut put = |record: &Record<'_>| {
        let before = gathered.len();
        postcard::to_io(record, &mut gathered).expect("memory takes any record");
        if gathered.len() > SNAPSHOT_ITEM_BYTES && before > 0 {
            item(&gathered[..before])?;
            gathered.drain(..before);
        }
        Ok(())
    };
    // A value is hashed when it has just been fetched from memory to be written.
    let mut pairs = Sum::default();
    for record in records {
        put(&record)?;
        if let Record::Pair { key: Octets(key), value: Octets(value), version, deadline_ms } =
            record
        {
            pairs.add(pair_hash(key, value, version, deadline_ms));
        }
    }
    let (kept, found) = (machine.state_hash(), machine.hash_with(pairs));
    assert_eq!(found, kept, "State Machine Safety: the state in memory is not what was applied");
    put(&Record::End { hash: kept })?;
    item(&gathered)
}
