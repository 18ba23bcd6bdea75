//! Who the other servers are, where to reach them, and whether the one that shows up may be the one
//! we know.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::raft::types::ServerId;
use crate::storage::peers_met::PeersMet;
use crate::transport::hello::Identity;

/// The other servers of the cluster.
pub struct Peers {
    ours: Identity,
    addresses: BTreeMap<ServerId, String>,
    /// What we remember of them, on disk. A leaf lock: held while a meeting is written down.
    met: Mutex<PeersMet>,
}

impl Peers {
    /// The others, at these addresses.
    pub fn new(
        ours: Identity,
        addresses: impl IntoIterator<Item = (ServerId, String)>,
        met: PeersMet,
    ) -> Peers {
        Peers { ours, addresses: addresses.into_iter().collect(), met: Mutex::new(met) }
    }

    /// Who we are.
    pub fn ours(&self) -> &Identity {
        &self.ours
    }

    /// Their ids.
    pub fn ids(&self) -> Vec<ServerId> {
        self.addresses.keys().copied().collect()
    }

    /// Where to dial a peer; to be resolved at each dial.
    pub fn address(&self, peer: ServerId) -> String {
        self.addresses[&peer].clone()
    }

    /// Whether this may be the server we have met under its id: not an older life of it, and not a
    /// second process in the same life (S20, S44, S45). What is new is on disk when this returns.
    /// The error is one line for the log and for the peer.
    pub fn check(&self, theirs: &Identity) -> Result<(), String> {
        self.met
            .lock()
            .check_and_remember(theirs.server, theirs.incarnation, theirs.run_id)
            .map_err(|error| error.to_string())
    }
}
