//! What gateways owe each other. A breach of the rules about forwards costs no data but leaves a
//! client without an answer; one of the rule about questions, and a client may read what is old.
//!
//! - The answer to a question for a read index covers all that was committed anywhere when the
//!   question was put.
//! - A new leadership is handed everything from the beginning: what an earlier one was sent may be
//!   lost with it, even if the same server leads again. So is whoever leads on a new connection.
//! - Nothing follows what was refused: it starts again, in another attempt.
//! - What a leader claims to have appended already stands in its log, as long as somebody waits for
//!   it. It is skipped when it is forwarded again, so otherwise nobody would ever execute it.

use std::collections::BTreeMap;

use super::checks::{Checked, ensure};
use super::queue::Place;
use super::world::{World, id_of};
use crate::gateway::message::{GatewayMessage, QuestionId};
use crate::kv::command::RequestId;
use crate::kv::encoding;
use crate::raft::types::Term;

/// What one server's gateway has sent, in one of its lives.
#[derive(Clone, Debug, Default)]
pub(super) struct Courier {
    /// The term in which each peer was last forwarded something on a link that still is the same.
    forwarded: [Term; 8],
    /// The last attempt that somebody has refused, with its incarnation.
    refused: (u64, u64),
}

impl Courier {
    /// A message leaves for the gateway at `to`, in this term of its sender.
    pub(super) fn leaves(&mut self, to: Place, message: &GatewayMessage, term: Term) -> Checked {
        let GatewayMessage::Forward { incarnation, attempt, part, .. } = message else {
            return Ok(());
        };
        ensure((*incarnation, *attempt) > self.refused, "What was refused starts again", || {
            format!("n{} is sent part {part} of attempt {attempt}, which was refused", to + 1)
        })?;
        let before = std::mem::replace(&mut self.forwarded[usize::from(to)], term);
        ensure(before == term || *part == 0, "A new leadership is handed everything", || {
            format!("n{} leads {term} and is sent part {part} of attempt {attempt} first", to + 1)
        })
    }

    /// Messages from other gateways arrive.
    pub(super) fn hears(&mut self, messages: &[GatewayMessage]) {
        for message in messages {
            if let GatewayMessage::ForwardRefused { incarnation, attempt } = *message {
                self.refused = self.refused.max((incarnation, attempt));
            }
        }
    }

    /// A connection with this peer is new, in either direction: what was under way may be lost.
    pub(super) fn link_renewed(&mut self, peer: Place) {
        self.forwarded[usize::from(peer)] = Term::ZERO;
    }
}

/// How many entries were committed when a question was put that has not been answered.
#[derive(Debug, Default)]
pub(super) struct Questions(BTreeMap<(Place, QuestionId), usize>);

impl Questions {
    /// A message leaves for another gateway, while so many entries are committed.
    pub(super) fn leaves(
        &mut self,
        (from, to): (Place, Place),
        message: &GatewayMessage,
        committed: usize,
    ) -> Checked {
        match *message {
            GatewayMessage::ReadQuestion { question } => {
                self.0.insert((from, question), committed);
                Ok(())
            }
            GatewayMessage::ReadAnswer { question, read_index } => {
                let before = self.0.remove(&(to, question)).unwrap_or(0);
                ensure(
                    read_index.0 >= before as u64,
                    "A read index covers what was committed",
                    || {
                        let (from, to) = (from + 1, to + 1);
                        format!("n{from} tells n{to} {read_index}; {before} were when it asked")
                    },
                )
            }
            _ => Ok(()),
        }
    }
}

/// The requests that these messages forward.
pub(super) fn forwarded(messages: &[GatewayMessage]) -> Vec<RequestId> {
    let commands = messages.iter().filter_map(|message| match message {
        GatewayMessage::Forward { commands, .. } => Some(commands),
        _ => None,
    });
    let requests = commands.flatten().map(|command| encoding::request_id(&command.0));
    requests.map(|request| request.expect("`check_shape` has read it")).collect()
}

impl World {
    /// The server at `to` has been forwarded these requests by the one at `from`.
    pub(super) fn check_taken(&self, from: Place, to: Place, requests: &[RequestId]) -> Checked {
        let process = |place: Place| self.machines[usize::from(place)].process.as_ref();
        let (Some(sender), Some(leader)) = (process(from), process(to)) else { return Ok(()) };
        if !leader.server.raft().is_leader() {
            return Ok(());
        }
        let skipped = requests.iter().filter(|&&request| {
            leader.server.gateway().has_appended(id_of(from), request)
                && sender.server.gateway().waits_for(request)
        });
        for request in skipped {
            let in_log = self.checks.is_in_log(leader.server.raft(), request);
            ensure(in_log, "What a leader has taken is in its log", || {
                format!("n{} takes {request:?} for appended, and nowhere in its log it is", to + 1)
            })?;
        }
        Ok(())
    }
}
