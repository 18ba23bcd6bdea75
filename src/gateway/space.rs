//! Who has room for more: a server tells the others when its disk fills up, and each refuses for
//! itself what could not be appended, before it leaves.
//!
//! Only that is a refusal. What was handed over to a leader that has no room waits there, or comes
//! back to be handed over again, and may be appended yet: at its deadline its outcome is unknown.
//!
//! Example: n1 leads and is full. It says so to n2 and n3; a client of n2 is refused with NOSPACE
//! although n2 itself has room. When n3 leads, n2 takes writes again. When n3 fills up, too, no
//! majority is left to acknowledge, and everybody refuses.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::message::GatewayMessage;
use super::{Gateway, Refusal, Request};
use crate::kv::encoding;
use crate::raft::types::ServerId;

/// How much room a server has, the least first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Level {
    /// Nothing can be written but terms and votes.
    None,
    /// What is left is kept for a snapshot, and for writes that need no room or make some.
    Low,
    /// There is room.
    #[default]
    Ample,
}

impl Level {
    /// What is said by a server that has little room left or not, whose journal has so much
    /// reserved, and where a deletion takes so much. Less than that is none: what is left over is
    /// never used up to the last byte, and a deletion that does not fit would wait for its
    /// deadline.
    pub fn of(is_low: bool, room_bytes: u64, deletion_bytes: u64) -> Level {
        match is_low {
            false => Level::Ample,
            true if room_bytes < deletion_bytes => Level::None,
            true => Level::Low,
        }
    }
}

/// What a server says about its room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Space {
    /// How much there is.
    pub level: Level,
    /// Bytes that its data directory takes.
    pub used_bytes: u64,
    /// Bytes that it may take.
    pub limit_bytes: u64,
}

/// What a gateway knows about room in its cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Spaces {
    own: Space,
    /// Who is to know of it.
    listeners: Vec<ServerId>,
    /// Since when the listeners have not been told again.
    told_at: u64,
    /// Those that have said that they have little or none, and when.
    peers: BTreeMap<ServerId, (Space, u64)>,
    /// Because of whose lack of room writes are refused now.
    refuses: Option<(ServerId, Space)>,
}

/// A full server says so again and again. One that was not heard for so many times is believed to
/// have room: that it has may have been lost on the way.
const MISSED_MAX: u64 = 4;

impl Gateway {
    /// How much room this server has. The others are told when its level changes.
    pub fn set_space(&mut self, space: Space, listeners: Vec<ServerId>) {
        let changed = space.level != self.spaces.own.level;
        self.spaces.own = space;
        self.spaces.listeners = listeners;
        if changed {
            self.tell_space();
        }
    }

    /// How much room a server has, as far as we know.
    pub fn space_of(&self, server: ServerId) -> Space {
        if server == self.id {
            return self.spaces.own;
        }
        self.spaces.peers.get(&server).map_or(Space::default(), |(space, _)| *space)
    }

    /// Whether nobody has said anything else.
    pub fn all_have_room(&self) -> bool {
        self.spaces.own.level == Level::Ample
            && self.spaces.peers.is_empty()
            && self.spaces.refuses.is_none()
    }

    /// Because of whom writes are refused from now on, if they are.
    pub fn refuse_for_space(&mut self, whose: Option<ServerId>) {
        self.spaces.refuses = whose.map(|server| (server, self.space_of(server)));
    }

    /// What a peer says about itself.
    pub fn handle_space(&mut self, from: ServerId, space: Space) {
        match space.level {
            Level::Ample => self.spaces.peers.remove(&from),
            Level::None | Level::Low => self.spaces.peers.insert(from, (space, self.now)),
        };
    }

    /// A full server repeats itself, and what others have said gets old.
    pub(super) fn tick_spaces(&mut self) {
        let (now, resend_ticks) = (self.now, self.options.resend_ticks);
        let is_fresh = |heard_at: u64| now - heard_at <= MISSED_MAX * resend_ticks;
        self.spaces.peers.retain(|_, (_, heard_at)| is_fresh(*heard_at));
        if self.spaces.own.level < Level::Ample && now - self.spaces.told_at >= resend_ticks {
            self.tell_space();
        }
    }

    fn tell_space(&mut self) {
        self.spaces.told_at = self.now;
        for &peer in &self.spaces.listeners {
            let replies = self.replies.entry(peer).or_default();
            replies.retain(|message| !matches!(message, GatewayMessage::Space(_)));
            replies.push(GatewayMessage::Space(self.spaces.own));
        }
    }

    /// Whether there is no room for this request, and so it is not accepted.
    pub(super) fn no_space(&self, request: &Request) -> Option<Refusal> {
        let (server, space) = self.spaces.refuses?;
        let Request::Write(command) = request else { return None };
        let refuses = space.level == Level::None || encoding::needs_room(&command.0);
        refuses.then_some(Refusal::NoSpace { server, space })
    }
}
