//! The words in which a gateway is spoken to and answers: what clients ask, what they get, and the
//! bounds.

use super::Space;
use crate::kv::command::{Outcome, Query};
use crate::raft::types::{Command, Index, ServerId};

/// Names a client connection for the life of this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

/// Numbers the requests of one connection, rising: where in its sequence of replies an answer
/// belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u64);

impl From<Slot> for u64 {
    fn from(slot: Slot) -> u64 {
        slot.0
    }
}

/// What a client asks of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A change, encoded by `kv::command::encode`; its header is still blank.
    Write(Command),
    /// A question.
    Read(Query),
    /// A question that any state will do for, as far as this server has applied: the one weaker
    /// read. It still sees the earlier writes of its connection.
    StaleRead(Query),
    /// To be told the index that this server has applied, as soon as that is `index`, or else after
    /// so many ticks, at most half a deadline.
    Wait {
        /// The index to wait for.
        index: Index,
        /// For how long, in ticks.
        ticks: u64,
    },
}

impl Request {
    /// The weight of this request against the byte bound: its bytes and what is kept about it.
    pub(super) fn bytes(&self) -> usize {
        const BOOKKEEPING_BYTES: usize = 128;
        BOOKKEEPING_BYTES
            + match self {
                Request::Write(command) => command.len(),
                Request::Read(query) | Request::StaleRead(query) => query.bytes(),
                Request::Wait { .. } => 0,
            }
    }
}

/// What a client gets. The kind is a promise; see the module's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Executed.
    Done(Outcome),
    /// Certainly not executed, and never will be.
    Refused(Refusal),
    /// Executed, or not, or not yet.
    Unknown,
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No leader is known, or none was for as long as the request waited.
    NoLeader {
        /// The last leader that was known.
        last: Option<ServerId>,
    },
    /// Too many bytes are pending here.
    TooMuchPending {
        /// The limit, in bytes.
        limit_bytes: usize,
    },
    /// There is a leader, but the request could not be handed over, or the read not be confirmed
    /// and executed, before the deadline: the leader's log is full, it does not answer, or this
    /// server has not caught up.
    NotInTime,
    /// There is no room for it on the leader's disk, or not on those of a majority.
    NoSpace {
        /// The leader, or one of the full ones.
        server: ServerId,
        /// What that server has said.
        space: Space,
    },
    /// This server is stopping.
    Stopping,
}

/// An answer on its way to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Whom to tell.
    pub client: ClientId,
    /// Which of its requests.
    pub slot: Slot,
    /// What.
    pub answer: Answer,
}

/// Bounds in bytes and ticks. All are at least 1; `node` fills them from cluster.toml and `limits`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of everything pending here; beyond it requests are refused before they are accepted.
    pub pending_bytes_max: usize,
    /// Ticks until a request is answered at the latest.
    pub deadline_ticks: u64,
    /// Ticks without progress after which everything outstanding is handed over again. Below the
    /// deadline, or nothing that was lost is ever sent again.
    pub resend_ticks: u64,
    /// Ticks to wait after the leader refused to take more.
    pub backoff_ticks: u64,
    /// Bytes of commands in one forwarded message; a larger one goes alone.
    pub forward_bytes_max: usize,
}
