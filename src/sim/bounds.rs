//! Queues are bounded. A queue without a bound is a failure that waits for its load, and none of
//! the other checks would see it: a simulated machine never runs out of memory.

use super::checks::{Checked, ensure};
use crate::raft::Raft;
use crate::raft::durability::{WRITE_OVERHEAD_BYTES, Write};
use crate::raft::log::Log;
use crate::raft::types::{Entry, EntryId, Payload, ServerId};
use crate::server::Server;

/// What a leader has accepted and not committed is bounded, but for one entry that is larger than
/// the bound. Its predecessors' entries and its no-op are none that it has accepted.
pub fn check_uncommitted(leader: &Raft, bytes_max: usize) -> Checked {
    let (log, term) = (leader.log(), leader.current_term());
    let last = log.last();
    if !leader.is_leader() || last == EntryId::ZERO {
        return Ok(());
    }
    let accepted = last.term == term && log.term_at(last.index.previous()) == Some(term);
    let settled = leader.commit_index().min(leader.durable().index());
    let bytes = log.bytes_between(settled, last.index);
    let bytes_max = bytes_max + Entry::OVERHEAD_BYTES; // the last one was weighed without it
    let bounded = bytes <= bytes_max as u64 || settled.next() == last.index;
    ensure(!accepted || bounded, "Queues are bounded", || {
        format!("{} has {bytes} bytes uncommitted; {bytes_max} is the bound", leader.id())
    })
}

/// What a gateway has pending is bounded.
pub fn check_pending(server: &Server, pending_max: usize) -> Checked {
    let pending = server.gateway().pending_bytes();
    ensure(pending <= pending_max, "Queues are bounded", || {
        format!("{} has {pending} bytes pending of {pending_max}", server.raft().id())
    })
}

/// What is taken at once is bounded; an entry of any size may pass alone.
pub fn check_batch(entries: &[Entry], bytes_max: usize) -> Checked {
    let bytes: usize = entries.iter().map(Entry::bytes).sum();
    ensure(entries.len() <= 1 || bytes <= bytes_max, "Queues are bounded", || {
        format!(
            "{} entries of {bytes} bytes were taken at once; {bytes_max} is the bound",
            entries.len()
        )
    })
}

/// Whether this is one no-op with which a leader has begun its term. (One that tells the time is a
/// no-op, too, and there may be any number of those.)
pub fn is_a_terms_first(entries: &[Entry], log: &Log) -> bool {
    let [Entry { id, payload: Payload::Noop, .. }] = entries else { return false };
    log.term_at(id.index.previous()).is_none_or(|before| before != id.term)
}

/// What is written fits into the room that was told, with all that is written around it. Only a new
/// leader's no-op, alone, may take what is kept for terms and votes.
pub fn check_room(write: &Write, room_bytes: u64, log: &Log) -> Checked {
    let entries = write.entries.iter().map(|entry| entry.bytes() as u64 + WRITE_OVERHEAD_BYTES);
    let bytes: u64 = entries.sum();
    let fits = bytes <= room_bytes || is_a_terms_first(&write.entries, log);
    ensure(fits, "Writes fit into the room that there is", || {
        format!(
            "{} entries take {bytes} bytes; there is room for {room_bytes}",
            write.entries.len()
        )
    })
}

/// What is under way to a follower is bounded, but for one entry that is larger than the bound.
pub fn check_window(leader: &Raft, to: ServerId, bytes_max: usize) -> Checked {
    let status = leader.status();
    let Some(peer) = status.peers.iter().find(|peer| peer.id == to) else { return Ok(()) };
    let (matched, sent) = (peer.match_index, peer.next_index.previous());
    let bytes = leader.log().bytes_between(matched, sent);
    let bounded = bytes <= bytes_max as u64 || sent == matched.next();
    ensure(bounded, "Queues are bounded", || {
        format!("{} has {bytes} bytes under way to {to}; {bytes_max} is the bound", leader.id())
    })
}
