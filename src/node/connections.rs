//! The client connections that are open, so that an answer finds the one it is for.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::gateway::{Answer, Answered, ClientId, Refusal};
use crate::limits;
use crate::protocol::Reply;

use super::output::Output;

/// All open client connections.
pub struct Connections {
    open: RwLock<HashMap<ClientId, Arc<Output>>>,
    last: AtomicU64,
    connections_max: usize,
}

impl Connections {
    /// None yet, and never more than `connections_max`.
    pub fn new(connections_max: usize) -> Connections {
        Connections { open: RwLock::default(), last: AtomicU64::new(0), connections_max }
    }

    /// A name for a new connection, never used before in this life of the server.
    pub fn next_id(&self) -> ClientId {
        ClientId(self.last.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Adds a connection, unless there are too many: a few places are kept for connections from
    /// this host, so that an operator gets in when a crowd has taken the rest.
    pub fn add(&self, client: ClientId, peer: SocketAddr, output: &Arc<Output>) -> bool {
        let mut open = self.open.write();
        let kept = if peer.ip().is_loopback() { 0 } else { limits::CONNECTIONS_FOR_LOOPBACK };
        if open.len() + kept >= self.connections_max {
            return false;
        }
        open.insert(client, Arc::clone(output));
        true
    }

    /// A connection is closed.
    pub fn remove(&self, client: ClientId) {
        self.open.write().remove(&client);
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.open.read().len()
    }

    /// Gives each answer to its connection; consecutive answers of one leave in one write.
    pub fn deliver(&self, answers: Vec<Answered>) {
        let mut answers = answers.into_iter().peekable();
        while let Some(Answered { client, slot, answer }) = answers.next() {
            let mut replies = vec![(slot, reply(answer))];
            while let Some(next) = answers.next_if(|next| next.client == client) {
                replies.push((next.slot, reply(next.answer)));
            }
            // A connection that is gone wants no answer.
            let output = self.open.read().get(&client).cloned();
            if let Some(output) = output {
                output.complete(replies);
            }
        }
    }
}

/// What a client is told. The three kinds of answer become the three families of replies.
fn reply(answer: Answer) -> Reply {
    match answer {
        Answer::Done(outcome) => Reply::from(outcome),
        Answer::Unknown => Reply::unknown(
            "no answer before the deadline; it may have been executed, or may still be: \
             look before you retry",
        ),
        Answer::Refused(Refusal::NoLeader { last }) => {
            let last = last.map_or(String::new(), |last| format!(" (the last one was {last})"));
            Reply::no_leader(format!("no leader is known{last}; nothing was executed, try again"))
        }
        Answer::Refused(Refusal::TooMuchPending { limit_bytes }) => {
            Reply::try_again("bytes pending at this server (limits.gateway_bytes)", limit_bytes)
        }
        Answer::Refused(Refusal::Busy { limit_bytes }) => Reply::try_again(
            "the leader's log not yet committed (limits.uncommitted_bytes)",
            limit_bytes,
        ),
        Answer::Refused(Refusal::Stopping) => Reply::shutdown(),
    }
}
