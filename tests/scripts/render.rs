//! How messages and states look in a script.

use raft_server::raft::message::{Message, Round};
use raft_server::raft::types::{Entry, Index, Payload};
use raft_server::raft::{Raft, RoleName};

/// One message, in one line.
pub fn message(message: &Message) -> String {
    match message {
        Message::PreVote(it) => format!("PreVote {} last={}", it.term, it.last),
        Message::PreVoteReply(it) => {
            let heard = if it.leader_heard { " (a leader is heard)" } else { "" };
            format!("PreVoteReply {} {}{heard}", it.term, granted(it.granted))
        }
        Message::RequestVote(it) => format!("RequestVote {} last={}", it.term, it.last),
        Message::RequestVoteReply(it) => {
            format!("RequestVoteReply {} {}", it.term, granted(it.granted))
        }
        Message::AppendEntries(it) => {
            let entries = ids(&it.entries);
            let commit = it.leader_commit;
            let round = round(it.round);
            format!(
                "AppendEntries {} prev={} entries={entries} commit={commit}{round}",
                it.term, it.prev
            )
        }
        Message::AppendEntriesReply(it) => {
            let mismatch = it.mismatch.map_or(String::new(), |mismatch| {
                format!(" mismatch={} hint={}", mismatch.prev_index, mismatch.hint)
            });
            format!(
                "AppendEntriesReply {} match={}{}{mismatch}",
                it.term,
                it.match_index,
                round(it.round)
            )
        }
        Message::InstallSnapshot(it) => format!(
            "InstallSnapshot {} snapshot={} bytes {}+{} of {}",
            it.term, it.snapshot, it.offset_bytes, it.length_bytes, it.total_bytes
        ),
        Message::InstallSnapshotReply(it) => {
            let gap = if it.gap { " (a part is missing)" } else { "" };
            let (last, stored) = (it.last_index, it.stored_bytes);
            format!("InstallSnapshotReply {} snapshot={last} stored={stored}{gap}", it.term)
        }
        Message::TimeoutNow(it) => format!("TimeoutNow {}", it.term),
        Message::TransferVote(it) => format!("TransferVote {} last={}", it.term, it.last),
    }
}

/// Entries by their ids: `[2@T1 3@T2]`.
pub fn ids(entries: &[Entry]) -> String {
    let ids: Vec<String> = entries.iter().map(|entry| entry.id.to_string()).collect();
    format!("[{}]", ids.join(" "))
}

/// One entry with what it carries: `2@T1 x`. An entry of a past given by `log` carries only its id.
pub fn entry(entry: &Entry) -> String {
    let id = entry.id.to_string();
    match &entry.payload {
        Payload::Noop => format!("{id} no-op"),
        Payload::Command(command) if *command.0 == *id.as_bytes() => id,
        Payload::Command(command) => format!("{id} {}", String::from_utf8_lossy(&command.0)),
    }
}

/// A server in one line. Its log is written as in Figure 7, by the terms of its entries; `|`
/// follows the last that it knows to be committed.
pub fn state(raft: &Raft) -> String {
    let status = raft.status();
    let role = match status.role {
        RoleName::Follower => "follower",
        RoleName::PreCandidate => "pre-candidate",
        RoleName::Candidate => "candidate",
        RoleName::Leader => "leader",
    };
    let vote = status.voted_for.map_or("-".to_string(), |candidate| candidate.to_string());
    let mut log = String::new();
    if status.first_index > Index(1) {
        log += &format!(" ..{}", status.first_index.previous());
    }
    for number in status.first_index.0..=status.last_index.0 {
        let term = raft.log().term_at(Index(number)).expect("within the log");
        let committed = if number == status.commit_index.0 { " |" } else { "" };
        log += &format!(" {}{committed}", term.0);
    }
    let behind = if status.durable_index < status.last_index {
        format!("  (on disk up to {})", status.durable_index)
    } else {
        String::new()
    };
    format!("{}  {role:13} {} vote={vote:2} log:{log}{behind}", status.id, status.term)
}

fn granted(granted: bool) -> &'static str {
    if granted { "granted" } else { "refused" }
}

fn round(round: Round) -> String {
    if round == Round(0) { String::new() } else { format!(" round={}", round.0) }
}
