//! What clients ask without changing anything.
//!
//! A [`Query`] is answered from one server's state as it is, and never enters the log, except as a
//! step of a transaction. Whether that state is recent enough is decided before (diss. §6.4).

use serde::{Deserialize, Serialize};

use super::bytes::Bytes;
use super::command::{OVERHEAD_BYTES, weight};

/// In which unit and from when a deadline is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DeadlineFormat {
    /// TTL: whole seconds from now, rounded to the nearest.
    Seconds,
    /// PTTL: milliseconds from now.
    Milliseconds,
    /// EXPIRETIME: whole seconds since the Unix epoch.
    UnixSeconds,
    /// PEXPIRETIME: milliseconds since the Unix epoch.
    UnixMilliseconds,
}

/// A question to the store that changes nothing. It never enters the log, except as a step of a
/// transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Query {
    /// GET key → `Value` or `Nothing`.
    Get {
        /// The key.
        key: Bytes,
    },
    /// GETV key → `List` of `Value` and `Integer`, the version; or `Nothing`.
    GetVersioned {
        /// The key.
        key: Bytes,
    },
    /// GETRANGE key start end → `Value`: the bytes from start to end, both included, negative ones
    /// counted from the end; empty if there are none.
    GetRange {
        /// The key.
        key: Bytes,
        /// The first byte.
        start: i64,
        /// The last byte.
        end: i64,
    },
    /// EXISTS key… → `Integer`: how many exist, counted as often as they are named.
    Exists {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// TYPE key → `Text`: `string` or `none`.
    Type {
        /// The key.
        key: Bytes,
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
    /// SCAN cursor [MATCH glob] [COUNT n] → `List` of `Value`, the next cursor in decimal, and
    /// `List` of keys. Cursor 0 begins, and comes back at the end.
    Scan {
        /// Where to go on.
        cursor: u64,
        /// Which keys to answer.
        pattern: Option<Bytes>,
        /// How many keys to examine, about.
        count: usize,
    },
    /// KEYS glob → `Frozen`: the keys, unsorted; or `TooMany`.
    Keys {
        /// Which keys.
        pattern: Bytes,
    },
    /// DBSIZE → `Integer`: how many keys there are.
    Count,
    /// TTL and its kin → `Integer`: -2 no such key, -1 no deadline, else as the format says.
    TimeToLive {
        /// The key.
        key: Bytes,
        /// In which unit, from when.
        format: DeadlineFormat,
    },
    /// WATCH key… → `Watched`.
    Watch {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// LASTINDEX → `Integer`: the log index of the last entry applied.
    AppliedIndex,
    /// PING and ECHO as steps of a transaction → `Value` of the message, or `Text` PONG without
    /// one.
    Echo {
        /// What to answer.
        message: Option<Bytes>,
    },
    /// What has no effect within a transaction and is answered in its turn, such as UNWATCH →
    /// `Done`.
    Acknowledge,
}

impl Query {
    /// The weight of this query against the byte bounds, in bytes.
    pub fn bytes(&self) -> usize {
        OVERHEAD_BYTES
            + match self {
                Query::Get { key }
                | Query::GetVersioned { key }
                | Query::GetRange { key, .. }
                | Query::Type { key }
                | Query::Length { key }
                | Query::TimeToLive { key, .. } => key.len(),
                Query::Exists { keys } | Query::GetMany { keys } | Query::Watch { keys } => {
                    weight(keys)
                }
                Query::Range { from, to, .. } => from.len() + to.as_ref().map_or(0, |to| to.len()),
                Query::Scan { pattern, .. } => pattern.as_ref().map_or(0, |glob| glob.len()),
                Query::Keys { pattern } => pattern.len(),
                Query::Echo { message } => message.as_ref().map_or(0, |message| message.len()),
                Query::Count | Query::AppliedIndex | Query::Acknowledge => 0,
            }
    }
}
