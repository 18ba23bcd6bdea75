//! What STATUS tells about a running server.

use crate::gateway::Level;
use crate::protocol::status::{PeerReport, PeerState, RoleName, StatusReport};
use crate::raft;
use crate::raft::types::ServerId;

use super::monitor::{Deliver, Monitor};

/// What does not change while a server runs, and what counts beside its state.
pub struct Reporter {
    /// The cluster's id.
    pub cluster: String,
    /// Milliseconds of a tick.
    pub tick_ms: u64,
}

impl Reporter {
    /// A picture of the server now, with this many clients connected.
    pub fn report<D: Deliver>(&self, monitor: &Monitor<D>, connections: usize) -> StatusReport {
        let (status, others, pending, pending_bytes, disk_full) = monitor.with(|server| {
            let (raft, gateway) = (server.raft(), server.gateway());
            let others: Vec<(ServerId, bool)> = raft
                .membership()
                .peers_of(raft.id())
                .map(|peer| (peer, raft.is_connected(peer)))
                .collect();
            let disk_full = server.space().level < Level::Ample;
            let (pending, bytes) = (gateway.pending_requests(), gateway.pending_bytes());
            (raft.status(), others, pending, bytes, disk_full)
        });
        let peers =
            others.into_iter().map(|(id, connected)| self.peer(id, connected, &status)).collect();
        StatusReport {
            server: status.id.0,
            cluster: self.cluster.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            role: match status.role {
                raft::RoleName::Follower => RoleName::Follower,
                raft::RoleName::PreCandidate => RoleName::PreCandidate,
                raft::RoleName::Candidate => RoleName::Candidate,
                raft::RoleName::Leader => RoleName::Leader,
            },
            term: status.term.0,
            leader: status.leader.map(|leader| leader.0),
            voted_for: status.voted_for.map(|candidate| candidate.0),
            commit: status.commit_index.0,
            applied: status.last_applied.0,
            last_index: status.last_index.0,
            durable_index: status.durable_index.0,
            first_index: status.first_index.0,
            snapshot: status.snapshot.last.index.0,
            snapshot_bytes: status.snapshot_bytes,
            disk_full,
            committed_in_term: status.committed_in_term,
            connections: connections as u64,
            pending: pending as u64,
            pending_bytes: pending_bytes as u64,
            peers,
        }
    }

    /// A peer as the leader sees it; other servers only know whether it is connected.
    fn peer(&self, id: ServerId, connected: bool, status: &raft::Status) -> PeerReport {
        let led = status.peers.iter().find(|peer| peer.id == id);
        let heard_ago_ticks = match led {
            Some(peer) => Some(peer.heard_ago_ticks),
            None if status.leader == Some(id) => status.leader_heard_ago_ticks,
            None => None,
        };
        let state = match (connected, led) {
            (false, _) => PeerState::Down,
            (true, None) => PeerState::Connected,
            (true, Some(peer)) if peer.streaming => PeerState::Stream,
            (true, Some(peer)) if peer.snapshot.is_some() => PeerState::Snapshot,
            (true, Some(_)) => PeerState::Probe,
        };
        PeerReport {
            id: id.0,
            match_index: led.map(|peer| peer.match_index.0),
            next_index: led.map(|peer| peer.next_index.0),
            last_contact_ms: heard_ago_ticks.map(|ticks| u64::from(ticks) * self.tick_ms),
            state,
        }
    }
}
