//! The paper as tests. Here: one test per rule of Figure 2, in the figure's order, each with the
//! rule's tag. In `paper/`: the rules that we added to the figure, by subject.
//!
//! Every test speaks to a single server: given a past, when this happens, then that is true.
//!
//! Numbers such as (S8) and (L3) are rows of `tests/scenarios.md`: what has gone wrong elsewhere.
//! `[L3]` in square brackets is a rule of the figure.

mod support_raft;

#[path = "paper/elections.rs"]
mod elections;
#[path = "paper/promises.rs"]
mod promises;
#[path = "paper/reads.rs"]
mod reads;
#[path = "paper/replication.rs"]
mod replication;
#[path = "paper/snapshots.rs"]
mod snapshots;

use raft_server::raft::message::{Message, Mismatch, RequestVote, Round};
use raft_server::raft::types::{EntryId, Payload, ServerId};
use raft_server::raft::{Apply, Options, RoleName};
use support_raft::*;

// ---- AppendEntries at the receiver. ----

/// [AE1] §5.1: whoever believes to lead a term that is over must learn that, and must change
/// nothing.
#[test]
fn a_stale_leader_is_answered_with_our_term() {
    let mut follower = server(2).with_log(&[(1, 1)]).in_term(3);
    follower.step(LEADER, append(term(2)).after(1, 1).entries(&[(2, 2)]).leader_commit(2).round(9));
    assert_eq!(follower.log_ids(), [(1, 1)]);
    assert_eq!(follower.status().commit_index, index(0));
    assert_eq!(follower.status().leader, None);
    let answer = follower.append_reply(LEADER);
    assert_eq!((answer.term, answer.round, answer.match_index), (term(3), Round(0), index(0)));
}

/// [AE2] §5.3: entries may only follow an entry that both logs hold, or Log Matching would break.
#[test]
fn entries_that_do_not_follow_our_log_are_refused() {
    let mut follower = server(2).with_log(&[(1, 1), (2, 1)]);
    // Entry 2 of the leader is of term 2; ours is of term 1.
    follower.step(LEADER, append(term(3)).after(2, 2).entries(&[(3, 3)]).leader_commit(3).round(1));
    assert_eq!(follower.log_ids(), [(1, 1), (2, 1)]);
    assert_eq!(follower.status().commit_index, index(0));
    let answer = follower.append_reply(LEADER);
    assert_eq!(answer.mismatch, Some(Mismatch { prev_index: index(2), hint: at(2, 1) }));
    assert_eq!(answer.match_index, index(0), "nothing is vouched for");
}

/// [AE3] §5.3: from the first entry that differs, the leader's log replaces ours.
#[test]
fn a_conflicting_entry_goes_with_all_that_follow() {
    let mut follower = server(2).with_log(&[(1, 1), (2, 1), (3, 1), (4, 1)]);
    follower.step(LEADER, append(term(2)).after(1, 1).entries(&[(2, 1), (3, 2)]));
    assert_eq!(follower.log_ids(), [(1, 1), (2, 1), (3, 2)]);
}

/// [AE4] §5.3: what is not in the log yet is appended; what is there already stays (L3, S8).
#[test]
fn only_entries_that_are_missing_are_appended() {
    let mut follower = server(2).with_log(&[(1, 1)]);
    follower.step(LEADER, append(term(2)).after(1, 1).entries(&[(2, 2), (3, 2)]));
    assert_eq!(follower.log_ids(), [(1, 1), (2, 2), (3, 2)]);
    // A late, shorter message of the same leader: entry 2 is there, and 3 may be acknowledged.
    follower.step(LEADER, append(term(2)).after(1, 1).entries(&[(2, 2)]));
    follower.step(LEADER, append(term(2)).after(1, 1));
    assert_eq!(follower.log_ids(), [(1, 1), (2, 2), (3, 2)]);
}

/// [AE5] §5.3: a follower's stale tail must not be committed by a short message from the new leader
/// (S9).
#[test]
fn commit_stops_at_the_last_new_entry() {
    let mut follower = server(2).with_log(&[(1, 1), (2, 1), (3, 1)]); // 3@T1 is the stale tail
    follower.step(LEADER, append(term(2)).after(1, 1).entries(&[(2, 1)]).leader_commit(3));
    assert_eq!(follower.status().commit_index, index(2));
    // And it never falls, whatever an older message says.
    follower.step(LEADER, append(term(2)).after(2, 1).leader_commit(1));
    assert_eq!(follower.status().commit_index, index(2));
}

// ---- RequestVote at the receiver. ----

/// [RV1] §5.1: a candidate of a term that is over gets no vote and learns our term.
#[test]
fn a_stale_candidate_is_refused_with_our_term() {
    let mut voter = server(2).in_term(3);
    voter.step(N3, request_vote(term(2), at(9, 2)));
    assert_eq!(voter.status().voted_for, None);
    assert_eq!(voter.sent(N3), [no_vote(term(3))]);
}

/// [RV2] §5.2, §5.4.1: one vote a term, and only for a log that holds everything that may be
/// committed. The last term decides before the length does (L10, S6).
#[test]
fn one_vote_a_term_for_a_log_at_least_as_up_to_date() {
    let voter = || server(2).with_log(&[(1, 1), (2, 2), (3, 2)]);
    let granted = |candidates: &[(u32, EntryId)]| {
        let mut voter = voter();
        let mut granted = Vec::new();
        for &(candidate, last) in candidates {
            let candidate = ServerId(candidate);
            voter.step(candidate, request_vote(term(4), last));
            voter.sync();
            granted.push(voter.sent(candidate) == [vote(term(4))]);
        }
        granted
    };
    assert_eq!(granted(&[(3, at(3, 2))]), [true], "equal logs");
    assert_eq!(granted(&[(3, at(1, 3))]), [true], "a later term, however short");
    assert_eq!(granted(&[(3, at(9, 1))]), [false], "an earlier term, however long");
    assert_eq!(granted(&[(3, at(2, 2))]), [false], "the same term, shorter");
    assert_eq!(granted(&[(3, at(3, 2)), (1, at(9, 3))]), [true, false], "first come, first served");
    assert_eq!(granted(&[(3, at(3, 2)), (3, at(3, 2))]), [true, true], "asking twice is one vote");
    assert_eq!(
        granted(&[(3, at(2, 2)), (1, at(3, 2))]),
        [false, true],
        "a refusal uses up nothing"
    );
}

// ---- All servers. ----

/// [ALL1] §5.3: every server applies the same entries in the same order, and none before it is
/// committed (S27).
#[test]
fn committed_entries_are_applied_once_and_in_order() {
    let mut follower = server(2);
    let sent = append(term(1)).entries(&[(1, 1), (2, 1), (3, 1)]);
    follower.step(LEADER, sent.clone());
    assert_eq!(follower.take_applies(usize::MAX), []);
    follower.step(LEADER, sent.leader_commit(2));
    let applied = |applies: Vec<Apply>| -> Vec<EntryId> {
        let id = |apply| match apply {
            Apply::Entry(entry) => entry.id,
            other => panic!("no reads here, but {other:?}"),
        };
        applies.into_iter().map(id).collect()
    };
    assert!(follower.work().apply);
    assert_eq!(applied(follower.take_applies(1)), [at(1, 1)], "at least one, whatever the bound");
    assert_eq!(applied(follower.take_applies(usize::MAX)), [at(2, 1)]);
    assert_eq!(follower.status().last_applied, index(2));
    assert!(!follower.work().apply);
}

/// [ALL2] §5.1: whoever learns of a higher term follows in it, in whatever role and by whatever
/// message. A deposed leader's clock runs again (L1).
#[test]
fn a_higher_term_makes_a_follower_of_anybody() {
    let messages: [Message; 4] = [
        append(term(9)).into(),
        reply(term(9)).into(),
        no_vote(term(9)),
        pre_vote_refused(term(9)),
    ];
    for message in messages {
        for given in
            [server(1), server(1).pre_candidate(), server(1).candidate(), server(1).leader()]
        {
            let mut server = given;
            server.step(N2, message.clone());
            assert_eq!(server.role_name(), RoleName::Follower);
            assert_eq!(server.current_term(), term(9));
            assert_eq!(server.status().voted_for, None, "a new term, a new vote");
            server.tick_until(RoleName::PreCandidate);
        }
    }
}

// ---- Followers. ----

/// [F1] §5.2: a follower answers candidates and leaders, and of itself says nothing.
#[test]
fn a_follower_answers_and_never_asks() {
    let mut follower = server(2);
    assert!(follower.sent(N1).is_empty() && follower.sent(N3).is_empty());
    follower.step(LEADER, append(term(1)).round(4));
    assert_eq!(follower.append_reply(LEADER).round, Round(4));
    follower.step(N3, request_vote(term(1), at(9, 1)));
    assert_eq!(follower.sent(N3), [no_vote(term(1))]);
    assert!(follower.sent(LEADER).is_empty(), "one answer to one question");
}

/// [F2] §5.2: only the leader's messages and a vote that was granted put off the election. Were it
/// any request, a server that cannot win could keep the others from ever trying (L1).
#[test]
fn a_follower_that_hears_nothing_starts_an_election() {
    let patience = |disturb: &dyn Fn(&mut support_raft::Server)| {
        let mut follower = server(2).with_log(&[(1, 2)]).in_term(5);
        (1..200).find(|&tick| {
            follower.tick();
            if follower.role_name() == RoleName::PreCandidate {
                return true;
            }
            if tick % 5 == 0 {
                disturb(&mut follower);
            }
            false
        })
    };
    let undisturbed = patience(&|_| {}).expect("it times out");
    assert!((10..=20).contains(&undisturbed), "after {undisturbed} ticks");
    let same = Some(undisturbed);
    assert_eq!(patience(&|it| it.step(N3, request_vote(term(5), at(9, 1)))), same, "vote refused");
    assert_eq!(patience(&|it| it.step(N3, pre_vote(term(6), at(9, 5)))), same, "pre-vote granted");
    assert_eq!(patience(&|it| it.step(LEADER, append(term(4)))), same, "a stale leader");
    assert_eq!(patience(&|it| it.step(N3, request_vote(term(6), at(9, 1)))), same, "a higher term");
    assert_eq!(patience(&|it| it.step(LEADER, append(term(5)))), None, "a leader is heard");
    assert_ne!(patience(&|it| it.step(N3, request_vote(term(5), at(9, 5)))), same, "vote granted");
}

// ---- Candidates. ----

/// [C1] §5.2: the next term, a vote for itself, its clock from the start, and the question to
/// everybody else.
#[test]
fn a_candidate_votes_for_itself_and_asks_all_others() {
    let mut candidate = server(1).with_log(&[(1, 1), (2, 3)]).pre_candidate();
    candidate.ticks(9);
    candidate.step(N2, pre_vote_granted(term(4)));
    assert_eq!(candidate.current_term(), term(4));
    assert_eq!(candidate.status().voted_for, Some(N1));
    candidate.sync();
    for peer in [N2, N3] {
        let request = RequestVote { term: term(4), last: at(2, 3) };
        assert_eq!(candidate.sent(peer), [Message::RequestVote(request)]);
    }
    candidate.ticks(9);
    assert_eq!(candidate.role_name(), RoleName::Candidate, "its clock began anew");
}

/// [C2] §5.2: more than half of all servers, itself included, and each counted once (L4, S5).
#[test]
fn a_majority_of_votes_makes_a_leader() {
    let mut candidate = server(1).of(5).in_term(3).candidate();
    candidate.sync();
    candidate.step(N2, vote(term(4)));
    candidate.step(N2, vote(term(4))); // delivered twice
    candidate.step(N3, vote(term(3))); // for an election that is over
    candidate.step(N3, no_vote(term(4)));
    assert_eq!(candidate.role_name(), RoleName::Candidate);
    candidate.step(ServerId(4), vote(term(4)));
    assert_eq!(candidate.role_name(), RoleName::Leader);
    assert_eq!(candidate.current_term(), term(4));
}

/// [C3] §5.2: whoever sends AppendEntries in our term has won it, even if its log does not match
/// ours (L11).
#[test]
fn a_candidate_yields_to_the_leader_of_its_term() {
    let (empty, longer_than_ours) = (append(term(1)), append(term(1)).after(7, 1));
    for message in [empty, longer_than_ours] {
        let mut candidate = server(2).candidate();
        candidate.step(LEADER, message);
        assert_eq!(candidate.role_name(), RoleName::Follower);
        assert_eq!(candidate.status().leader, Some(LEADER));
        assert_eq!(candidate.status().voted_for, Some(N2), "its vote of this term stays given");
    }
}

/// [C4] §5.2: an election that nobody wins is held again; in our case it begins with asking (diss.
/// §9.6).
#[test]
fn a_candidate_without_a_majority_tries_again() {
    let mut candidate = server(1).candidate();
    candidate.sync();
    candidate.tick_until(RoleName::PreCandidate);
    assert_eq!(candidate.current_term(), term(1), "asking again costs no term");
    candidate.step(N2, pre_vote_granted(term(2)));
    assert_eq!((candidate.role_name(), candidate.current_term()), (RoleName::Candidate, term(2)));
}

// ---- Leaders. ----

/// [L1] §5.2: a leader speaks to everybody at once and then again before anybody's patience ends.
#[test]
fn a_leader_sends_heartbeats_at_once_and_then_regularly() {
    let mut leader = server(1).settled_leader();
    let mut fresh = server(1).leader();
    for peer in [N2, N3] {
        assert_eq!(fresh.appends(peer).len(), 1, "at once");
        assert_eq!(leader.appends(peer).len(), 0);
    }
    for _ in 0..5 {
        leader.ticks(3); // an election timeout is 10 or more
        for peer in [N2, N3] {
            let heartbeat = leader.appends(peer);
            assert_eq!(heartbeat.len(), 1, "one heartbeat");
            assert!(heartbeat[0].entries.is_empty() && heartbeat[0].round > Round(0));
            leader.step(peer, reply(term(1)).matching(1));
        }
    }
}

/// A leader whose followers have all of its log speaks to them half as often, but thrice in the
/// shortest election timeout. As long as one has not, or is not known to have, heartbeats repeat
/// what may be lost.
#[test]
fn a_leader_at_rest_sends_fewer_heartbeats() {
    let mut leader = server(1).with_options(|it| it.election_min_ticks = 11).settled_leader();
    let ticks_to_heartbeat = |leader: &mut Server| {
        let due = leader.ticks_until_due();
        leader.ticks(due - 1);
        assert!(leader.sent(N2).is_empty(), "not before it is due");
        leader.ticks(1);
        assert_eq!((leader.appends(N2).len(), leader.appends(N3).len()), (1, 1));
        due
    };
    assert_eq!(ticks_to_heartbeat(&mut leader), 3);
    assert_eq!(ticks_to_heartbeat(&mut leader), 3);

    leader.ticks(2);
    leader.propose(command("x")).expect("it leads");
    leader.sync();
    leader.send_all();
    assert_eq!(ticks_to_heartbeat(&mut leader), 1, "the last was two ticks ago");
    assert_eq!(ticks_to_heartbeat(&mut leader), 2);
    leader.step(N2, reply(term(1)).matching(2));
    leader.send_all();
    assert_eq!(ticks_to_heartbeat(&mut leader), 2, "N3 has not got it");
    leader.step(N3, reply(term(1)).matching(2));
    leader.send_all();
    assert_eq!(ticks_to_heartbeat(&mut leader), 3);

    leader.link_renewed(N3);
    leader.send_all();
    assert_eq!(ticks_to_heartbeat(&mut leader), 2, "a probe may have been lost");

    for (heartbeat_ticks, election_min_ticks, at_rest_ticks) in
        [(5, 30, 9), (5, 300, 10), (5, 19, 6), (5, 18, 5), (4, 9, 4)]
    {
        let options = Options { heartbeat_ticks, election_min_ticks, ..options() };
        assert_eq!(options.heartbeat_at_rest_ticks(), at_rest_ticks, "{options:?}");
    }
}

/// [L2] §5.3: a command is appended in the leader's term, and is handed out for the answer only
/// when committed.
#[test]
fn a_leader_appends_and_answers_after_applying() {
    let mut leader = server(1).settled_leader();
    assert_eq!(leader.propose(command("x")), Ok(at(2, 1)));
    assert_eq!(leader.log_ids(), [(1, 1), (2, 1)]);
    leader.sync();
    assert_eq!(leader.take_applies(usize::MAX), [], "on one disk of three");
    leader.step(N2, reply(term(1)).matching(2));
    let applies = leader.take_applies(usize::MAX);
    let [Apply::Entry(entry)] = applies.as_slice() else { panic!("{applies:?}") };
    assert_eq!((entry.id, &entry.payload), (at(2, 1), &Payload::Command(command("x"))));
}

/// [L3] §5.3: a follower gets what follows its log; if it does not match, the leader looks further
/// back, and what it then knows to match is what the follower said, not what was sent (L5).
#[test]
fn a_leader_backs_up_until_the_logs_agree_and_sends_the_rest() {
    let mut leader = server(1).with_log(&[(1, 1), (2, 1), (3, 3), (4, 3)]).leader();
    assert_eq!(leader.appends(N2)[0].prev, at(4, 3), "first question: the end of the old log");
    // The follower's entries 3 and 4 are of term 2; its last before that is 2@T1.
    leader.step(N2, reply(term(4)).mismatch(4, at(4, 2)));
    let probe = leader.appends(N2);
    assert_eq!((probe[0].prev, probe[0].entries.len()), (at(2, 1), 0), "all of term 3 is skipped");
    leader.step(N2, reply(term(4)).matching(2));
    let rest = leader.appends(N2);
    let sent: Vec<EntryId> = rest.iter().flat_map(|it| &it.entries).map(|it| it.id).collect();
    assert_eq!(sent, [at(3, 3), at(4, 3), at(5, 4)]);
    let follower = &leader.status().peers[0];
    assert_eq!((follower.match_index, follower.next_index), (index(2), index(6)));
}

/// [L4] §5.3, §5.4.2, Figure 8: only an entry of the leader's own term commits by being on a
/// majority; it takes all earlier ones with it (L6, S4).
#[test]
fn an_old_entry_commits_only_through_one_of_our_term() {
    let mut leader = server(1).of(5).with_log(&[(1, 1), (2, 2)]).leader(); // its no-op is 3@T3
    leader.sync();
    for follower in [N2, N3] {
        leader.step(follower, reply(term(3)).matching(2));
    }
    assert_eq!(leader.status().commit_index, index(0), "2@T2 on three of five is not enough");
    leader.step(N2, reply(term(3)).matching(3));
    assert_eq!(leader.status().commit_index, index(0), "3@T3 on two of five");
    leader.step(N3, reply(term(3)).matching(3));
    assert_eq!(leader.status().commit_index, index(3), "3@T3 on three of five");
}
