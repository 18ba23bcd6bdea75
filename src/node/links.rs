//! The links to the other servers, as the monitor and the workers see them.
//!
//! A link is used by whoever has the right to send on it (see `monitor`). When that thread cannot
//! go on (the socket is full, the connection has broken, or it has sent enough), it leaves the
//! right to the link's worker and rings its bell.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::raft::types::ServerId;
use crate::server::Outgoing;
use crate::transport::frame::Frame;
use crate::transport::link::{PeerLink, Sent};

use super::doorbell::Button;
use super::snapshot_files::SnapshotFiles;

/// All links of this server.
pub struct Links {
    links: BTreeMap<ServerId, Link>,
    snapshots: Arc<SnapshotFiles>,
}

/// One link and its worker's bell.
pub struct Link {
    /// The connection.
    pub wire: PeerLink,
    worker: Button,
    /// The right to send was left to the worker, which takes it with this flag.
    left_to_worker: AtomicBool,
}

impl Links {
    /// Links that are all down, each with the bell of its worker. Snapshots are sent from these
    /// files.
    pub fn new(
        workers: impl IntoIterator<Item = (ServerId, Button)>,
        snapshots: Arc<SnapshotFiles>,
    ) -> Links {
        let link = |worker| Link {
            wire: PeerLink::default(),
            worker,
            // The workers begin: they connect.
            left_to_worker: AtomicBool::new(true),
        };
        let links = workers.into_iter().map(|(peer, bell)| (peer, link(bell))).collect();
        Links { links, snapshots }
    }

    /// Whom they lead to.
    pub fn peers(&self) -> impl Iterator<Item = ServerId> + '_ {
        self.links.keys().copied()
    }

    /// The link to `peer`, which must be a peer.
    pub fn to(&self, peer: ServerId) -> &Link {
        &self.links[&peer]
    }

    /// For whoever has the right: sends without blocking. Returns whether the right is still the
    /// caller's; otherwise it has been left to the worker.
    pub fn send(&self, peer: ServerId, messages: Outgoing) -> bool {
        let link = self.to(peer);
        let sent = match link.wire.lock_if_up() {
            Some(mut wire) if !wire.has_remainder() => wire.send(&self.frame(messages)),
            _ => Sent::Rest,
        };
        let all = matches!(sent, Sent::All);
        if !all {
            self.leave_to_worker(peer);
        }
        all
    }

    /// For whoever has the right: the worker gets it.
    pub fn leave_to_worker(&self, peer: ServerId) {
        let link = self.to(peer);
        link.left_to_worker.store(true, Ordering::Release);
        link.worker.ring();
    }

    /// What goes into one frame.
    pub fn frame(&self, mut messages: Outgoing) -> Frame {
        self.snapshots.fill_in(&mut messages.raft);
        Frame { raft: messages.raft, gateway: messages.gateway }
    }

    /// Asks the worker to see whether the connection still stands: the peer has come or gone.
    pub fn ask_to_check(&self, peer: ServerId) {
        self.to(peer).worker.ring();
    }
}

impl Link {
    /// For the worker: whether the right to send was left to it.
    pub fn take_over(&self) -> bool {
        self.left_to_worker.swap(false, Ordering::AcqRel)
    }
}
