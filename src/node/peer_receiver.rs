//! Peers that connect to us: accepting them, and the thread that reads from each.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use crate::gateway::message::GatewayMessage;
use crate::raft::ConnectionId;
use crate::raft::types::ServerId;
use crate::server::Outgoing;
use crate::transport::hello::Identity;
use crate::transport::listener::{Accepted, Inbound, Listener, accept_hello};

use super::links::Links;
use super::monitor::{Deliver, Monitor};
use super::peers::Peers;

/// Connections to the peer port that have not said who they are yet; more are closed at once. Peers
/// need one each.
const STRANGERS_MAX: usize = 64;

/// What receiver threads share.
pub struct PeerReceivers<D: Deliver> {
    /// The server.
    pub monitor: Arc<Monitor<D>>,
    /// Our own links, to be checked when a peer comes or goes.
    pub links: Arc<Links>,
    /// Whom we have met.
    pub peers: Arc<Peers>,
    /// The number of the last connection.
    pub last_connection: AtomicU64,
    /// Connections that have not said who they are.
    pub strangers: AtomicUsize,
}

impl<D: Deliver + Send + Sync + 'static> PeerReceivers<D> {
    /// The body of the thread `peer-accept`: one receiver thread for each connection.
    pub fn accept(self: Arc<Self>, mut listener: Listener) {
        loop {
            let (socket, address) = match listener.accept() {
                Accepted::Connection(socket, address) => (socket, address),
                Accepted::Trouble(error) => {
                    log::warn!("cannot accept a peer: {error}");
                    continue;
                }
                Accepted::Closed => return,
            };
            if self.strangers.fetch_add(1, Ordering::AcqRel) >= STRANGERS_MAX {
                self.strangers.fetch_sub(1, Ordering::AcqRel);
                log::warn!("closing {address}: {STRANGERS_MAX} others have not said who they are");
                continue;
            }
            let shared = Arc::clone(&self);
            let thread = thread::Builder::new().name(format!("peer-recv-{address}"));
            let spawned = thread.spawn(move || shared.receive(socket));
            if let Err(error) = spawned {
                self.strangers.fetch_sub(1, Ordering::AcqRel);
                log::warn!("no thread to receive from {address}: {error}");
            }
        }
    }

    /// The body of a receiver thread.
    fn receive(&self, socket: TcpStream) {
        let check = &mut |theirs: &Identity| self.peers.check(theirs);
        let accepted = accept_hello(socket, self.peers.ours(), &self.peers.ids(), check);
        self.strangers.fetch_sub(1, Ordering::AcqRel);
        let inbound = match accepted {
            Ok(inbound) => inbound,
            Err(error) => return log::warn!("a connection to the peer port failed: {error}"),
        };
        let peer = inbound.peer.server;
        let connection = ConnectionId(self.last_connection.fetch_add(1, Ordering::AcqRel) + 1);
        log::info!("peer={peer} connected run={}", inbound.peer.incarnation);
        self.monitor.with(|server| server.connected(peer, connection));
        self.links.ask_to_check(peer);
        let reason = self.receive_frames(peer, inbound);
        log::info!("peer={peer} disconnected: {reason}");
        self.monitor.with(|server| server.disconnected(peer, connection));
        self.links.ask_to_check(peer);
    }

    /// Gives the server what arrives, all frames of one read under one lock. Returns why it ended.
    fn receive_frames(&self, peer: ServerId, mut inbound: Inbound) -> String {
        loop {
            let frame = match inbound.receive() {
                Ok(frame) => frame,
                Err(error) => return error.to_string(),
            };
            let malformed =
                frame.gateway.iter().find_map(|message| message.check_shape(peer).err());
            if let Some(error) = malformed {
                return format!("dropped: {error}");
            }
            // Its questions are answered by now, and nobody here has anything to do.
            let only_asks = frame.raft.is_empty()
                && frame.gateway.iter().all(|it| matches!(it, GatewayMessage::ReadQuestion { .. }));
            let incoming = Outgoing { raft: frame.raft, gateway: frame.gateway };
            let others_have_work = self.monitor.with(|server| {
                server.step(peer, incoming);
                let raft = server.raft();
                raft.is_leader() || raft.durable().index() < raft.log().last_index()
            });
            if others_have_work && !only_asks {
                thread::yield_now(); // see "Stepping aside" in `node`
            }
        }
    }
}
