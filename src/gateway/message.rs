//! What gateways say to each other: forwarded writes, questions for a read index, and how full
//! their disks are.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Space;
use crate::kv::encoding::{self, DecodeError};
use crate::raft::types::{Command, Index, NUMBER_MAX, ServerId};

/// Names one question for a read index: rising within the asker's incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QuestionId {
    /// The asking server's incarnation.
    pub incarnation: u64,
    /// Rises by one with each question of the incarnation.
    pub serial: u64,
}

/// One message from one server's gateway to another's. It travels beside Raft's messages, behind
/// them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum GatewayMessage {
    /// Writes for the leader's log, in order. The receiver takes part `n` of an attempt only after
    /// part `n - 1`, and nothing of an attempt once it has refused a part of it: so the writes of
    /// one gateway enter the log in the order it accepted them.
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
    /// The receiver of a `Forward` could not append all of it: send it again later. It does *not*
    /// mean that none of the commands is in a log.
    ForwardRefused {
        /// The asker's incarnation, as its `Forward` said it.
        incarnation: u64,
        /// The attempt of which nothing more is taken.
        attempt: u64,
    },
    /// "Up to which index must I have applied, to answer reads that are with me now?" (diss. §6.4)
    /// It goes to the leader of the sender's term, and so is an echo, too (`raft::read_index`).
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
    /// The hash of the sender's state at this index, for the receiver to compare with its own.
    StateHash {
        /// Where the state stood.
        index: Index,
        /// Its hash.
        hash: u64,
    },
    /// How much room the sender has on its disk. Version 2 does not know it.
    Space(Space),
}

/// Why a gateway message that came off the wire cannot be right.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MalformedForGateway {
    /// The state machine could not read a forwarded command.
    #[error("a forwarded command cannot be read: {0}")]
    Command(#[from] DecodeError),
    /// A server forwards only requests that it has accepted itself, in its present life.
    #[error("{from} forwards a request that n{server} accepted in its life {incarnation}")]
    NotItsOwn {
        /// Who sent the message.
        from: ServerId,
        /// Who accepted the request.
        server: u32,
        /// In which of its lives.
        incarnation: u64,
    },
    /// An index that no log reaches.
    #[error("index {0} is beyond any a log can reach")]
    IndexTooLarge(Index),
}

impl GatewayMessage {
    /// Whether servers know this message that speak the peer protocol of version 2. They could not
    /// decode it, and would drop the connection.
    pub fn is_known_to_version_2(&self) -> bool {
        !matches!(self, GatewayMessage::StateHash { .. } | GatewayMessage::Space(_))
    }

    /// Checks everything that can be checked without knowing the receiver's state, so that nobody
    /// else's bytes reach the state machine unread. Required before the message is given to
    /// `Server::step`.
    pub fn check_shape(&self, from: ServerId) -> Result<(), MalformedForGateway> {
        match self {
            GatewayMessage::Forward { incarnation, commands, .. } => {
                commands.iter().try_for_each(|command| check_command(from, *incarnation, command))
            }
            GatewayMessage::ReadAnswer { read_index: index, .. }
            | GatewayMessage::StateHash { index, .. }
                if index.0 > NUMBER_MAX =>
            {
                Err(MalformedForGateway::IndexTooLarge(*index))
            }
            _ => Ok(()),
        }
    }
}

fn check_command(
    from: ServerId,
    incarnation: u64,
    command: &Command,
) -> Result<(), MalformedForGateway> {
    let request = encoding::check(&command.0)?;
    if (request.server, request.incarnation) != (from.0, incarnation) {
        let (server, incarnation) = (request.server, request.incarnation);
        return Err(MalformedForGateway::NotItsOwn { from, server, incarnation });
    }
    Ok(())
}
