//! What a server does about room on its own disk and on others'.
//!
//! Its disk says how much there is ([`Server::set_room`], [`Server::set_space`]). The core then
//! appends and writes only what fits. The gateway refuses writes when the leader has no room, or so
//! many servers have none that no majority could acknowledge them. And a leader without room hands
//! over to a server that has some, if a majority has.

use super::Server;
use crate::gateway::{Level, Space};
use crate::raft::types::ServerId;

/// A leader that has tried to hand over tries again after so many election timeouts: meanwhile it
/// takes writes that need no room.
const HAND_OVER_PAUSE: u32 = 4;

impl Server {
    /// See [`crate::raft::Raft::set_room`].
    pub fn set_room(&mut self, bytes: u64) {
        self.raft.set_room(bytes);
        self.join();
    }

    /// How much room there is on this server's disk. A change of the level is told to the others.
    pub fn set_space(&mut self, space: Space) {
        let peers: Vec<ServerId> = self.raft.membership().peers_of(self.raft.id()).collect();
        self.gateway.set_space(space, peers);
        self.join();
    }

    /// How much room there is on this server's disk.
    pub fn space(&self) -> Space {
        self.gateway.space_of(self.raft.id())
    }

    /// Lets the gateway know because of whom writes are to be refused.
    pub(super) fn observe_space(&mut self) {
        if self.gateway.all_have_room() {
            return;
        }
        let level = |server| self.gateway.space_of(server).level;
        let of_majority = self.raft.membership().majority_value(level);
        let leader = self.raft.leader().filter(|&leader| level(leader) <= of_majority);
        let fullest = || self.raft.membership().servers().find(|&it| level(it) == of_majority);
        let whose = leader.or_else(fullest).filter(|&server| level(server) < Level::Ample);
        self.gateway.refuse_for_space(whose);
    }

    /// A leader without room lets another one lead that has some.
    pub(super) fn hand_over_when_full(&mut self) {
        self.hand_over_pause = self.hand_over_pause.saturating_sub(1);
        let is_full = self.space().level < Level::Ample && self.raft.is_leader();
        if !is_full || self.hand_over_pause > 0 {
            return;
        }
        let has_room = |server| self.gateway.space_of(server).level == Level::Ample;
        if self.raft.is_handing_over() || !self.raft.membership().has_majority(has_room) {
            return;
        }
        let status = self.raft.status();
        let ready = status.peers.iter().filter(|peer| {
            has_room(peer.id)
                && self.raft.is_connected(peer.id)
                && peer.match_index >= status.commit_index
        });
        let Some(successor) = ready.max_by_key(|peer| peer.match_index).map(|peer| peer.id) else {
            return;
        };
        self.hand_over_pause = HAND_OVER_PAUSE * self.raft.options().election_max_ticks;
        // Refused: it was not heard for a while. Another time.
        let _begun = self.raft.transfer_leadership(Some(successor));
    }
}
