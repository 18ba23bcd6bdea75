//! What clients ask of the store.
//!
//! A [`Write`] is what one entry of the log carries (`kv::encoding` says in which bytes): one
//! [`Command`], a transaction, or a command that a client may send again. A [`Query`] changes
//! nothing and never enters the log. All are answered by an [`Outcome`].
//!
//! Everything that decides an outcome is in the write, in the state machine, or a constant of
//! `limits`. A setting of one server must never be, and neither its clock: two servers would come
//! to different states. Time is log time: the stamps that leaders put on entries, in milliseconds.

use serde::{Deserialize, Serialize};

pub use super::bytes::Bytes;
pub use super::outcome::{Change, Outcome};
pub use super::query::{DeadlineFormat, Query};

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
    /// IFEQ: only if the key exists and its value equals this one.
    IfEqual(Bytes),
    /// IFVER: only if the key exists and was last written by the entry at this log index; 0: only
    /// if it does not exist.
    IfVersion(u64),
}

/// A time at which a key is to expire, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Deadline {
    /// EX, PX: so long after the stamp of the entry. May be negative for EXPIRE.
    In(i64),
    /// EXAT, PXAT: when the log time is this, counted from the Unix epoch.
    At(i64),
}

/// What becomes of a key's deadline when its value is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Expiry {
    /// It has none afterwards.
    #[default]
    Never,
    /// KEEPTTL: it stays as it is.
    Keep,
    /// It is this one.
    Set(Deadline),
}

/// When EXPIRE takes place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExpireCondition {
    /// Always.
    #[default]
    Always,
    /// NX: only if the key has no deadline.
    IfNone,
    /// XX: only if the key has a deadline.
    IfSome,
    /// GT: only if the new deadline is later; none counts as the latest of all.
    IfLater,
    /// LT: only if the new deadline is sooner; none counts as the latest of all.
    IfSooner,
    /// XX LT: only if the key has a deadline and the new one is sooner. (XX GT is GT.)
    IfSomeAndSooner,
}

/// What a SET answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SetAnswer {
    /// `Done`, or `Nothing` when the condition does not hold.
    #[default]
    Done,
    /// GET: the value before, or `Nothing` if there was none; whether or not it was set.
    Old,
    /// SETNX: `Integer(1)`, or `Integer(0)` when the condition does not hold.
    Flag,
}

/// A command that changes the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Command {
    /// SET key value [NX|XX|IFEQ old|IFVER n] [GET] [EX|PX|EXAT|PXAT n|KEEPTTL] → see `SetAnswer`.
    Set {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
        /// When to set it.
        condition: Condition,
        /// What becomes of its deadline.
        expiry: Expiry,
        /// What to answer.
        answer: SetAnswer,
    },
    /// DEL key… → `Integer`: how many existed.
    Delete {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// DELEX key IFEQ old → `Integer`: 1 deleted, 0 not equal or absent.
    DeleteIfEqual {
        /// The key.
        key: Bytes,
        /// The value it must have.
        old: Bytes,
    },
    /// GETDEL key → `Value`, the last one, or `Nothing`.
    GetAndDelete {
        /// The key.
        key: Bytes,
    },
    /// GETEX key PERSIST|EX|PX|EXAT|PXAT n → `Value` or `Nothing`.
    GetAndExpire {
        /// The key.
        key: Bytes,
        /// What becomes of its deadline.
        expiry: Expiry,
    },
    /// APPEND key value → `Integer`: the new length in bytes, or `TooBig`. Keeps the deadline.
    Append {
        /// The key; an absent one counts as empty.
        key: Bytes,
        /// What to add to its value.
        value: Bytes,
        /// The longest that the value may become, in bytes: a setting of the server that accepted
        /// the command travels with it.
        value_bytes_max: u64,
    },
    /// CAS key old new → `Integer(1)` done, `Integer(0)` not equal, `Nothing` no such key. Keeps
    /// the deadline.
    CompareAndSet {
        /// The key.
        key: Bytes,
        /// The value it must have.
        old: Bytes,
        /// The value it gets.
        new: Bytes,
    },
    /// INCR, DECR, INCRBY, DECRBY → `Integer`: the new value, or `NotInteger`, or `Overflow`. Keeps
    /// the deadline.
    Increment {
        /// The key; an absent one counts as 0.
        key: Bytes,
        /// What to add.
        delta: i64,
    },
    /// MSET key value… → `Done`; MSETNX → `Integer(1)`, or `Integer(0)` if any of the keys exists.
    SetMany {
        /// Keys and values, set in this order, all in one entry.
        pairs: Vec<(Bytes, Bytes)>,
        /// MSETNX: all or none.
        if_absent: bool,
    },
    /// EXPIRE, PEXPIRE, EXPIREAT, PEXPIREAT → `Integer`: 1 done, 0 no such key or condition. A
    /// deadline in the past deletes the key.
    Expire {
        /// The key.
        key: Bytes,
        /// When.
        deadline: Deadline,
        /// On which condition.
        condition: ExpireCondition,
    },
    /// PERSIST → `Integer`: 1 if the key had a deadline, else 0.
    Persist {
        /// The key.
        key: Bytes,
    },
    /// FLUSHALL → `Done`: deletes every key; or `TooMany`.
    Flush,
    /// SETRANGE key offset value → `Integer`: the new length in bytes, or `TooBig`. Keeps the
    /// deadline.
    SetRange {
        /// The key; an absent one counts as empty.
        key: Bytes,
        /// Where the bytes go. What is missing before them is filled with zeros.
        offset: u64,
        /// The bytes; without any nothing is changed.
        value: Bytes,
        /// The longest that the value may become, as for APPEND.
        value_bytes_max: u64,
    },
    /// RENAME key newkey → `Done`; RENAMENX → `Integer(1)`, or `Integer(0)` if the new key exists;
    /// `NoSuchKey`. The deadline goes with the value.
    Rename {
        /// The key.
        key: Bytes,
        /// What it is to be called.
        new_key: Bytes,
        /// RENAMENX: only if there is no such key yet.
        if_absent: bool,
    },
    /// COPY key newkey [REPLACE] → `Integer(1)`, or `Integer(0)` if there is no such key or the new
    /// one exists. The deadline is copied, too.
    Copy {
        /// The key.
        key: Bytes,
        /// The key that gets its value; another one.
        new_key: Bytes,
        /// REPLACE: even if it exists.
        replace: bool,
    },
}

/// A key that a transaction depends on, as WATCH found it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Watch {
    /// The key.
    pub key: Bytes,
    /// The log index up to which the state machine had applied when WATCH looked.
    pub seen_at: u64,
    /// Whether the key existed then.
    pub existed: bool,
}

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Operation {
    /// A command.
    Command(Command),
    /// A question, answered from the state in the middle of the transaction.
    Query(Query),
}

/// What one entry of the log carries.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Write {
    /// One command.
    Command(Command),
    /// MULTI … EXEC → `List` of what its operations answer, or `Aborted` if a watched key has been
    /// written, deleted or has expired since WATCH looked, or if that is too long ago to tell.
    /// Nothing else happens in between, and an operation that fails does not undo the others.
    Transaction {
        /// What WATCH saw.
        watches: Vec<Watch>,
        /// What to do, in order.
        operations: Vec<Operation>,
    },
    /// ONCE client sequence command → what the command answers, or answered when it was executed
    /// under this sequence number before.
    Once {
        /// The client's name, chosen by itself.
        client: Bytes,
        /// Counts the client's commands, from 1.
        sequence: u64,
        /// What to do.
        command: Command,
    },
}

impl From<Command> for Write {
    fn from(command: Command) -> Write {
        Write::Command(command)
    }
}

/// What a command or query is taken to weigh beside its keys and values, in bytes.
pub(super) const OVERHEAD_BYTES: usize = 64;

/// What each item of a list weighs beside its bytes: the vector that holds them, and their length.
const ITEM_BYTES: usize = 40;

impl Write {
    /// The weight of this write against the byte bounds, in bytes; at least what it takes in the
    /// log.
    pub fn bytes(&self) -> usize {
        match self {
            Write::Command(command) => OVERHEAD_BYTES + command.bytes(),
            Write::Transaction { watches, operations } => {
                let watched = watches.iter().map(|watch| OVERHEAD_BYTES + watch.key.len());
                let done = operations.iter().map(|operation| match operation {
                    Operation::Command(command) => command.bytes(),
                    Operation::Query(query) => query.bytes(),
                });
                OVERHEAD_BYTES + watched.sum::<usize>() + done.sum::<usize>()
            }
            Write::Once { client, command, .. } => OVERHEAD_BYTES + client.len() + command.bytes(),
        }
    }
}

impl Write {
    /// Whether it may leave more in the store than it finds there.
    pub fn needs_room(&self) -> bool {
        match self {
            Write::Command(command) | Write::Once { command, .. } => command.needs_room(),
            Write::Transaction { operations, .. } => operations.iter().any(|operation| {
                matches!(operation, Operation::Command(command) if command.needs_room())
            }),
        }
    }
}

impl Command {
    fn needs_room(&self) -> bool {
        match self {
            Command::Set { .. }
            | Command::Append { .. }
            | Command::CompareAndSet { .. }
            | Command::Increment { .. }
            | Command::SetRange { .. }
            | Command::Copy { .. }
            | Command::Rename { .. }
            | Command::SetMany { .. } => true,
            Command::Delete { .. }
            | Command::DeleteIfEqual { .. }
            | Command::GetAndDelete { .. }
            | Command::GetAndExpire { .. }
            | Command::Expire { .. }
            | Command::Persist { .. }
            | Command::Flush => false,
        }
    }

    /// SET key value with a condition and no other option.
    pub fn set(key: Bytes, value: Bytes, condition: Condition) -> Command {
        let (expiry, answer) = (Expiry::Never, SetAnswer::Done);
        Command::Set { key, value, condition, expiry, answer }
    }

    /// The weight of this command against the byte bounds, in bytes.
    pub fn bytes(&self) -> usize {
        OVERHEAD_BYTES
            + match self {
                Command::Set { key, value, condition, .. } => {
                    let old = match condition {
                        Condition::IfEqual(old) => old.len(),
                        _ => 0,
                    };
                    key.len() + value.len() + old
                }
                Command::Delete { keys } => weight(keys),
                Command::Append { key, value, .. } | Command::SetRange { key, value, .. } => {
                    key.len() + value.len()
                }
                Command::Rename { key, new_key, .. } | Command::Copy { key, new_key, .. } => {
                    key.len() + new_key.len()
                }
                Command::CompareAndSet { key, old, new } => key.len() + old.len() + new.len(),
                Command::DeleteIfEqual { key, old } => key.len() + old.len(),
                Command::Increment { key, .. }
                | Command::GetAndDelete { key }
                | Command::GetAndExpire { key, .. }
                | Command::Expire { key, .. }
                | Command::Persist { key } => key.len(),
                Command::SetMany { pairs, .. } => {
                    pairs.iter().map(|(key, value)| 2 * ITEM_BYTES + key.len() + value.len()).sum()
                }
                Command::Flush => 0,
            }
    }
}

/// What the keys of a list weigh, in bytes.
pub(super) fn weight(keys: &[Bytes]) -> usize {
    keys.iter().map(|key| ITEM_BYTES + key.len()).sum()
}

/// The integer that these bytes spell in the one way in which we would print it. `007`, `+7`, ` 7`
/// and `-0` are text: if they counted, INCR would change bytes that the client never meant as a
/// number.
pub fn parse_integer(bytes: &[u8]) -> Option<i64> {
    let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let is_canonical = match digits {
        [] => false,
        [b'0'] => digits.len() == bytes.len(),
        [first, ..] => *first != b'0' && digits.iter().all(u8::is_ascii_digit),
    };
    if !is_canonical {
        return None;
    }
    std::str::from_utf8(bytes).ok()?.parse().ok()
}
