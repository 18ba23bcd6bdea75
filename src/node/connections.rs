//! The client connections that are open, so that an answer finds the one it is for.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::gateway::{Answer, Answered, ClientId, Refusal};
use crate::kv::command::Outcome;
use crate::limits;
use crate::protocol::Reply;

use super::output::Output;

/// Descriptors that clients do not get: for the journal and its directory, the listeners, the
/// standard streams, waiting for clients, connections that are about to be refused.
const DESCRIPTORS_KEPT: usize = 26;

/// The same for each peer: two connections, two more while they are replaced.
const DESCRIPTORS_KEPT_FOR_PEER: usize = 4;

/// How many clients may connect: what the configuration allows, and what leaves the journal and the
/// peers their descriptors (S65). A server that cannot open its next segment must stop, so a crowd
/// of clients must never get that far. Raises the process's soft limit to its hard limit.
pub fn connections_max(configured: usize, peers: usize) -> usize {
    let hard = getrlimit(Resource::Nofile).maximum;
    // If it cannot be raised, what it is now counts.
    let _as_it_is = setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard });
    let descriptors = getrlimit(Resource::Nofile).current;
    let admitted = clients_admitted(configured, peers, descriptors);
    if admitted < configured {
        log::warn!(
            "connections={admitted} instead of {configured} (limits.connections): the system \
             allows {} open files; raise `ulimit -n`",
            descriptors.unwrap_or(u64::MAX)
        );
    }
    admitted
}

fn clients_admitted(configured: usize, peers: usize, descriptors: Option<u64>) -> usize {
    let kept = DESCRIPTORS_KEPT + peers * DESCRIPTORS_KEPT_FOR_PEER;
    let descriptors = descriptors.and_then(|count| usize::try_from(count).ok());
    configured.min(descriptors.unwrap_or(usize::MAX).saturating_sub(kept))
}

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

    /// Who is connected, one a line: id, address, name.
    pub fn list(&self) -> Vec<String> {
        let open = self.open.read();
        let mut clients: Vec<(&ClientId, &Arc<Output>)> = open.iter().collect();
        clients.sort_by_key(|(client, _)| **client);
        let line = |(client, output): (&ClientId, &Arc<Output>)| {
            let label = output.label();
            format!("id={} addr={} name={}", client.0, output.name(), label.escape_ascii())
        };
        clients.into_iter().map(line).collect()
    }

    /// Whether nobody waits for a reply, or for the rest of one.
    pub fn are_done(&self) -> bool {
        self.open.read().values().all(|output| output.is_done())
    }

    /// Gives each answer to its connection; consecutive answers of one leave in one write.
    pub fn deliver(&self, answers: Vec<Answered>) {
        let mut answers = answers.into_iter().peekable();
        let mut replies = Vec::new();
        while let Some(client) = answers.peek().map(|answered| answered.client) {
            let output = self.open.read().get(&client).cloned();
            while let Some(Answered { slot, answer, .. }) =
                answers.next_if(|next| next.client == client)
            {
                // A connection that is gone wants no answer, and to find it may take long.
                let Some(output) = &output else { continue };
                match answer {
                    Answer::Done(Outcome::Frozen(query)) => output.answer_later(slot, *query),
                    Answer::Done(Outcome::Watched { seen_at, existed }) => {
                        output.note_watched((seen_at, existed));
                        replies.push((slot, Reply::Ok));
                    }
                    answer => replies.push((slot, reply(answer))),
                }
            }
            if let Some(output) = output {
                output.complete(replies.drain(..));
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
        Answer::Refused(Refusal::NotInTime) => Reply::busy(
            "the leader took no more, or did not answer, before the deadline; nothing was \
             executed, try again",
        ),
        Answer::Refused(Refusal::NoSpace { server, space }) => {
            Reply::no_space(server.0, space.used_bytes, space.limit_bytes)
        }
        Answer::Refused(Refusal::Stopping) => Reply::shutdown(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S65: clients are refused before the journal and the peers go without.
    #[test]
    fn clients_leave_the_journal_and_the_peers_their_descriptors() {
        assert_eq!(clients_admitted(4096, 2, None), 4096);
        assert_eq!(clients_admitted(4096, 2, Some(1 << 20)), 4096);
        assert_eq!(clients_admitted(4096, 2, Some(1024)), 1024 - 26 - 8);
        assert_eq!(clients_admitted(4096, 8, Some(10)), 0);
    }
}
