//! What gateways say to each other: forwarded writes, and questions for a read index.

use serde::{Deserialize, Serialize};

use crate::raft::types::{Command, Index, Term};

/// Names one question for a read index: rising within the asker's incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QuestionId {
    /// The asking server's incarnation.
    pub incarnation: u64,
    /// Rises by one with each question of the incarnation.
    pub serial: u64,
}

/// One message from one server's gateway to another's. It travels beside Raft's messages, behind them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum GatewayMessage {
    /// Writes for the leader's log, in order. The receiver takes part `n` of an attempt only after part
    /// `n - 1`, and nothing of an attempt once it has refused a part of it: so the writes of one gateway
    /// enter the log in the order it accepted them.
    Forward {
        /// The sender's incarnation.
        incarnation: u64,
        /// Counts the times the sender has started again from its oldest outstanding write.
        attempt: u64,
        /// Counts the messages of this attempt, from 0.
        part: u64,
        /// The commands, each tagged with its request id.
        commands: Vec<Command>,
    },
    /// The receiver of a `Forward` could not append all of it: send it again later. It does *not* mean
    /// that none of the commands is in a log.
    ForwardRefused {
        /// The incarnation and attempt that were refused.
        incarnation: u64,
        /// See above.
        attempt: u64,
        /// The refuser's term.
        term: Term,
    },
    /// "Up to which index must I have applied, to answer reads that are with me now?" (diss. §6.4)
    ReadQuestion {
        /// Which question.
        question: QuestionId,
    },
    /// The answer to a `ReadQuestion`.
    ReadAnswer {
        /// Which question.
        question: QuestionId,
        /// Reads may be answered from a store that has applied this index.
        read_index: Index,
    },
    /// The receiver of a `ReadQuestion` is not, or is no longer, leader: ask again.
    ReadRefused {
        /// Which question.
        question: QuestionId,
    },
}
