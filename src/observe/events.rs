//! Events of the core as log lines. These are all the prose there is about Raft's state.

use log::Level;

use super::logger;
use crate::raft::event::Event;
use crate::raft::types::ServerId;

/// Logs what happened in server `id`'s core, and from then on names its new term and role in every
/// line.
pub fn log_event(id: ServerId, event: &Event) {
    if let Some((term, role)) = new_role(event) {
        logger::set_context(id.0, term, role);
    }
    log::log!(target: "raft", level(event), "{event}");
}

/// The term and the role's letter after an event that changes them.
fn new_role(event: &Event) -> Option<(u64, u8)> {
    match event {
        Event::BecameFollower { term }
        | Event::FollowsLeader { term, .. }
        | Event::SteppedDown { term, .. } => Some((term.0, b'F')),
        Event::BecamePreCandidate { term } => Some((term.0.saturating_sub(1), b'P')),
        Event::BecameCandidate { term, .. } => Some((term.0, b'C')),
        Event::BecameLeader { term, .. } => Some((term.0, b'L')),
        _ => None,
    }
}

/// One line at `info` for each change of role, and what a person looks for after an incident; what
/// happens with every write only at `trace`.
fn level(event: &Event) -> Level {
    match event {
        Event::BecameFollower { .. }
        | Event::FollowsLeader { .. }
        | Event::LostLeader { .. }
        | Event::BecameCandidate { .. }
        | Event::BecameLeader { .. }
        | Event::Truncated { .. }
        | Event::SnapshotSaved { .. }
        | Event::SendsSnapshot { .. }
        | Event::SnapshotInstalled { .. }
        | Event::HandsOver { .. } => Level::Info,
        Event::SteppedDown { .. }
        | Event::HandoverFailed { .. }
        | Event::IgnoredStranger { .. } => Level::Warn,
        Event::BecamePreCandidate { .. }
        | Event::Voted { .. }
        | Event::RefusedVote { .. }
        | Event::Mismatched { .. } => Level::Debug,
        Event::Committed { .. } => Level::Trace,
    }
}
