//! What clients ask of the store, what they get, and how a command looks inside a log entry.

use serde::{Deserialize, Serialize};
pub use serde_bytes::ByteBuf as Bytes;

/// Names one write for ever, so that the state machine executes it at most once however often it is
/// sent: the server that accepted it, which of that server's lives, and a number that rises in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId {
    /// The server whose gateway accepted the request (the number of its `ServerId`).
    pub server: u32,
    /// The server's incarnation: a durable counter raised at each start.
    pub incarnation: u64,
    /// Rises by one with each write of the incarnation, from 1.
    pub serial: u64,
}

/// When a SET takes place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Condition {
    /// Always.
    #[default]
    Always,
    /// NX: only if the key does not exist.
    IfAbsent,
    /// XX: only if the key exists.
    IfPresent,
    /// IFEQ: only if the key's value equals this one.
    IfEqual(Bytes),
}

/// A command that changes the store. It travels in the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Command {
    /// SET key value [NX|XX|IFEQ old] → `Done`, or `Nothing` when the condition does not hold.
    Set {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
        /// When to set it.
        condition: Condition,
    },
    /// DEL key… → `Integer`: how many existed.
    Delete {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// APPEND key value → `Integer`: the new length in bytes.
    Append {
        /// The key; an absent one counts as empty.
        key: Bytes,
        /// What to add to its value.
        value: Bytes,
    },
    /// CAS key old new → `Integer(1)` done, `Integer(0)` not equal, `Nothing` no such key.
    CompareAndSet {
        /// The key.
        key: Bytes,
        /// The value it must have.
        old: Bytes,
        /// The value it gets.
        new: Bytes,
    },
    /// INCR, DECR, INCRBY, DECRBY → `Integer`: the new value, or `NotInteger`.
    Increment {
        /// The key; an absent one counts as 0.
        key: Bytes,
        /// What to add.
        delta: i64,
    },
    /// MSET key value… → `Done`.
    SetMany {
        /// Keys and values, set in this order, all in one entry.
        pairs: Vec<(Bytes, Bytes)>,
    },
}

/// A question to the store that changes nothing. It never enters the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Query {
    /// GET key → `Value` or `Nothing`.
    Get {
        /// The key.
        key: Bytes,
    },
    /// EXISTS key… → `Integer`: how many exist, counted as often as they are named.
    Exists {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// STRLEN key → `Integer`: the length of its value in bytes, 0 if absent.
    Length {
        /// The key.
        key: Bytes,
    },
    /// MGET key… → `List` with `Nothing` for absent ones.
    GetMany {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// RANGE from to [LIMIT n] and PREFIX p [LIMIT n] → `List`: key, value, key, value … in order.
    Range {
        /// The first key that may be included.
        from: Bytes,
        /// The first key that is beyond the end; `None` if there is no end.
        to: Option<Bytes>,
        /// How many pairs at the most.
        pairs_max: usize,
    },
    /// DBSIZE → `Integer`: how many keys there are.
    Count,
}

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
    /// Several answers.
    List(Vec<Outcome>),
    /// Not executed: the value is not a 64-bit integer, or would leave its range.
    NotInteger,
    /// Not executed: the value would become longer than `limits::VALUE_BYTES_MAX`.
    TooBig {
        /// How long it would become, in bytes.
        bytes: usize,
    },
    /// Not answered: the reply would exceed `limits::REPLY_BYTES_MAX`.
    ReplyTooBig,
}
