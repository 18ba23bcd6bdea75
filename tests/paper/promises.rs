//! Durability as a guard (diss. §3.8, §10.2.1): a promise leaves when the disk could repeat it
//! after a crash. And: what is owed belongs to one term.

use raft_server::raft::RoleName;
use raft_server::raft::event::{Event, StepDownReason};
use raft_server::raft::message::{Message, RequestVote, Round};
use raft_server::raft::types::{HardState, ServerId};

use crate::support_raft::*;

/// Figure 2, "persistent state": a vote that is told and then forgotten elects two leaders in one
/// term (S1, L9).
#[test]
fn a_vote_is_on_disk_before_it_is_sent() {
    let mut voter = server(2);
    voter.step(N1, request_vote(term(1), at(1, 1)));
    assert!(voter.sent(N1).is_empty(), "decided, not durable");
    let write = voter.take_write(usize::MAX).expect("term and vote are to be written");
    let vote_in_1 = HardState { current_term: term(1), voted_for: Some(N1) };
    assert_eq!(write.hard_state, Some(vote_in_1), "in one record (S2)");
    assert!(voter.sent(N1).is_empty(), "taken by the writer, not durable");

    let mut crashed = voter.clone().crash();
    crashed.step(N3, request_vote(term(1), at(1, 1)));
    assert_eq!(crashed.status().voted_for, Some(N3), "nobody has heard of the first vote");

    voter.persisted(write.ticket);
    assert_eq!(voter.sent(N1), [vote(term(1))]);
    let mut crashed = voter.crash();
    crashed.step(N3, request_vote(term(1), at(1, 1)));
    assert_eq!(crashed.status().voted_for, Some(N1));
}

/// A refusal promises nothing, so it waits for no disk: not even one that is busy with a vote for
/// another.
#[test]
fn a_refused_vote_is_sent_at_once() {
    let mut voter = server(2);
    voter.step(N1, request_vote(term(1), at(1, 1)));
    voter.step(N3, request_vote(term(1), at(1, 1)));
    assert_eq!(voter.sent(N3), [no_vote(term(1))]);
}

/// A request for votes tells everybody that we voted for ourselves. Until that is on disk it does
/// not leave, our own vote does not count, and our clock does not run: nobody has been asked yet.
#[test]
fn a_vote_request_is_sent_when_our_own_vote_is_on_disk() {
    let mut candidate = server(1).candidate();
    candidate.ticks(100);
    assert_eq!(candidate.role_name(), RoleName::Candidate);
    assert!(candidate.sent(N2).is_empty());
    candidate.step(N2, vote(term(1)));
    candidate.step(N3, vote(term(1)));
    assert_eq!(candidate.role_name(), RoleName::Candidate, "two votes, and ours is not on disk");

    let mut asking = server(1).candidate();
    asking.sync();
    let request = RequestVote { term: term(1), last: at(0, 0) };
    assert_eq!(asking.sent(N2), [Message::RequestVote(request)]);
    candidate.sync();
    assert_eq!(candidate.role_name(), RoleName::Leader);
}

/// §5.3: an acknowledgement is counted towards commitment, so it vouches only for what is on disk
/// (S33, L9). The echo promises only the term: it leaves at once, or a slow disk would look like a
/// dead server (S48).
#[test]
fn the_echo_leaves_at_once_and_the_acknowledgement_waits_for_the_disk() {
    let mut follower = server(2).in_term(1);
    follower.step(LEADER, append(term(1)).entries(&[(1, 1), (2, 1)]).round(5));
    let echo = follower.append_reply(LEADER);
    assert_eq!((echo.round, echo.match_index), (Round(5), index(0)));

    let write = follower.take_write(usize::MAX).expect("the entries are to be written");
    follower.step(LEADER, append(term(1)).after(2, 1).entries(&[(3, 1)])); // while the disk works
    assert!(follower.sent(LEADER).is_empty(), "nothing new to say");
    follower.persisted(write.ticket);
    assert_eq!(follower.append_reply(LEADER).match_index, index(2), "what that write proved");
    follower.sync();
    assert_eq!(follower.append_reply(LEADER).match_index, index(3));
}

/// An acknowledgement vouches for entries in the leader's *term*: a server that forgot the term
/// could follow the leader before it again, which would replace these very entries.
#[test]
fn nothing_is_acknowledged_in_a_term_that_is_not_on_disk() {
    let mut follower = server(2).with_log(&[(1, 1)]);
    follower.step(LEADER, append(term(2)).after(1, 1).round(1));
    assert_eq!(follower.append_reply(LEADER).match_index, index(0), "term 2 is not on disk");
    follower.sync();
    assert_eq!(follower.append_reply(LEADER).match_index, index(1));
}

/// A tail left by an earlier leader is on disk, but it is not this leader's: we vouch only for what
/// this leader's messages have covered (S9).
#[test]
fn only_what_this_terms_leader_has_covered_is_acknowledged() {
    let mut follower = server(2).with_log(&[(1, 1), (2, 1), (3, 1)]).in_term(2);
    follower.step(LEADER, append(term(2)).after(1, 1).entries(&[(2, 1)]).round(1));
    assert_eq!(follower.append_reply(LEADER).match_index, index(2));
}

/// diss. §10.2.1: the leader sends while it writes, so it must count itself like a follower: by its
/// disk (S33).
#[test]
fn a_leader_counts_itself_when_its_disk_has_the_entry() {
    let mut leader = server(1).settled_leader();
    leader.propose(command("x")).expect("it leads");
    assert_eq!(leader.appends(N2).len(), 1, "sent before it is synced");
    leader.step(N2, reply(term(1)).matching(2));
    assert_eq!(leader.status().commit_index, index(1), "on one disk, not two");
    let mut other = leader.clone();
    leader.sync();
    assert_eq!(leader.status().commit_index, index(2));
    other.step(N3, reply(term(1)).matching(2));
    assert_eq!(other.status().commit_index, index(2), "a majority need not include the leader");
}

/// The log may be replaced while the old one is being written. What that write proves then ends
/// before the replaced entry, or we would acknowledge an entry that is not on disk (S41).
#[test]
fn truncation_clamps_what_the_disk_proves() {
    let given = || server(2).with_log(&[(1, 1), (2, 1), (3, 1)]);
    let replace = || append(term(2)).after(1, 1).entries(&[(2, 2), (3, 2)]);

    let mut follower = given();
    follower.step(LEADER, replace());
    assert_eq!(follower.status().durable_index, index(1), "3@T1 is durable, 3@T2 is not");

    // The same with the old entries still on their way to the disk.
    let mut follower = server(2).in_term(1);
    follower.step(N3, append(term(1)).entries(&[(1, 1), (2, 1), (3, 1)]));
    let write = follower.take_write(usize::MAX).expect("three entries of term 1");
    assert_eq!(write.entries.len(), 3);
    follower.step(LEADER, replace());
    assert_eq!(follower.take_write(usize::MAX), None, "one write at a time");
    follower.persisted(write.ticket);
    assert_eq!(follower.status().durable_index, index(1), "the write proves only entry 1");
    let write = follower.take_write(usize::MAX).expect("what replaced them");
    assert_eq!(write.entries, [entry(at(2, 2)), entry(at(3, 2))]);
    assert_eq!(write.hard_state.map(|it| it.current_term), Some(term(2)));
    follower.persisted(write.ticket);
    assert_eq!(follower.append_reply(LEADER).match_index, index(3));
}

/// A write is bounded, so that a vote waits for one of known size; and one entry always fits (S48).
#[test]
fn a_write_takes_a_bounded_number_of_bytes() {
    let mut follower = server(2);
    follower.step(LEADER, append(term(1)).entries(&[(1, 1), (2, 1), (3, 1)]));
    let sizes: Vec<usize> = std::iter::from_fn(|| {
        let write = follower.take_write(2 * entry(at(1, 1)).bytes())?;
        follower.persisted(write.ticket);
        Some(write.entries.len())
    })
    .collect();
    assert_eq!(sizes, [2, 1]);
    follower.step(LEADER, append(term(1)).after(3, 1).entries(&[(4, 1)]));
    assert_eq!(follower.take_write(0).map(|write| write.entries.len()), Some(1));
}

/// A reply of an older term that leaves later could vouch for an entry that has been replaced
/// meanwhile. So a change of term drops all that is owed (S53).
#[test]
fn what_is_owed_is_dropped_with_its_term() {
    let mut follower = server(2);
    follower.step(LEADER, append(term(1)).entries(&[(1, 1)]).round(3));
    follower.sync();
    follower.step(N3, pre_vote(term(2), at(0, 0)));
    follower.step(N3, request_vote(term(1), at(1, 1)));
    assert!(follower.has_messages(LEADER) && follower.has_messages(N3));
    follower.step(N3, no_vote(term(2)));
    assert!(follower.sent(LEADER).is_empty() && follower.sent(N3).is_empty());

    // Nor may what the old leader's messages covered be told to the new one.
    follower.sync();
    follower.step(N3, append(term(2)).round(1));
    assert_eq!(follower.append_reply(N3).match_index, index(0));
}

/// What an earlier leader was told, this term's leader does not know: it is told as well.
#[test]
fn each_terms_leader_is_told_what_matches() {
    let mut follower = server(2).in_term(1);
    follower.step(LEADER, append(term(1)).entries(&[(1, 1)]));
    follower.sync();
    assert_eq!(follower.append_reply(LEADER).match_index, index(1));
    follower.step(N3, append(term(2)).entries(&[(1, 1)]));
    follower.sync();
    assert_eq!(follower.append_reply(N3).match_index, index(1));
}

/// Questions that arrive together are answered together, with what is true by then.
#[test]
fn a_reply_is_made_when_it_is_taken() {
    let mut follower = server(2).in_term(1);
    follower.step(LEADER, append(term(1)).entries(&[(1, 1)]).round(3));
    follower.step(LEADER, append(term(1)).after(1, 1).entries(&[(2, 1)]).round(4));
    follower.step(LEADER, append(term(1)).entries(&[(1, 1)]).round(2)); // late
    follower.sync();
    let answer = follower.append_reply(LEADER);
    assert_eq!((answer.round, answer.match_index), (Round(4), index(2)), "one reply for both");
}

/// A leader whose disk hangs while a majority's do not freezes the cluster: one of them would do
/// better. If all disks are slow, stepping down helps nobody (S16, S48).
#[test]
fn a_leader_whose_disk_hangs_steps_down_if_the_others_do_not() {
    let hung = |matched: &[ServerId], write_ticks: u32| {
        let mut leader = server(1).settled_leader();
        let mut write = None;
        leader.propose(command("x")).expect("it leads");
        for tick in 0..30 {
            for peer in [N2, N3] {
                let match_index = if matched.contains(&peer) { 2 } else { 1 };
                leader.step(peer, reply(term(1)).matching(match_index));
            }
            if tick == 0 {
                write = leader.take_write(usize::MAX);
            } else if tick == write_ticks {
                leader.persisted(write.take().expect("taken at the first tick").ticket);
            }
            leader.tick();
        }
        let reason = StepDownReason::HungDisk;
        leader.tells(|it| *it == Event::SteppedDown { term: term(1), reason })
    };
    let for_ever = u32::MAX;
    assert!(hung(&[N2, N3], for_ever));
    assert!(!hung(&[N2], for_ever), "one other is no majority without us");
    assert!(!hung(&[], for_ever));
    assert!(!hung(&[N2, N3], 20), "slow, but it works");
}

/// Everything a server promised survives its crash; what it only decided may not.
#[test]
fn a_server_comes_back_with_what_its_disk_held() {
    let mut follower = server(2);
    follower.step(LEADER, append(term(1)).entries(&[(1, 1)]).leader_commit(1));
    follower.sync();
    follower.step(LEADER, append(term(1)).after(1, 1).entries(&[(2, 1)]));
    let back = follower.crash();
    assert_eq!((back.current_term(), back.status().last_index), (term(1), index(1)));
    assert_eq!(back.status().commit_index, index(0), "volatile: the leader will tell it again");
}
