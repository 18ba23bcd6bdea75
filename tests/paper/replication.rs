//! What we added to §5.3 on the leader's side: probing, streaming within a window, and what a
//! message asks for.

use raft_server::raft::message::{AppendEntries, Message, Mismatch, Round};
use raft_server::raft::progress::COMMITS_TOLD_MAX;
use raft_server::raft::types::{Command, EntryId};
use raft_server::raft::{ReadId, Refused, RoleName};

use crate::support_raft::*;

fn ids(messages: &[AppendEntries]) -> Vec<Vec<EntryId>> {
    messages.iter().map(|it| it.entries.iter().map(|entry| entry.id).collect()).collect()
}

/// §5.3: "heartbeat" is no kind of message: an empty AppendEntries is checked like any other (L2,
/// S9).
#[test]
fn a_heartbeat_checks_the_previous_entry_too() {
    let mut follower = server(2).with_log(&[(1, 1)]);
    follower.step(LEADER, append(term(2)).after(5, 2).leader_commit(5).round(1));
    let mismatch = Mismatch { prev_index: index(5), hint: at(1, 1) };
    assert_eq!(follower.append_reply(LEADER).mismatch, Some(mismatch));
    assert_eq!(follower.status().commit_index, index(0));
    // A later check that succeeds takes the complaint back.
    follower.step(LEADER, append(term(2)).after(5, 2).round(2));
    follower.step(LEADER, append(term(2)).after(1, 1).round(3));
    assert_eq!(follower.append_reply(LEADER).mismatch, None);
}

/// §5.3: until the logs are known to agree, entries would be sent in vain. One empty question at a
/// time, repeated with the heartbeats in case it was lost.
#[test]
fn a_leader_probes_with_empty_messages_until_a_match_is_found() {
    let mut leader = server(1).with_log(&[(1, 1), (2, 1)]).leader();
    assert_eq!(ids(&leader.appends(N2)), [[]]);
    leader.propose(command("x")).expect("it leads");
    assert!(leader.sent(N2).is_empty(), "a probe is under way");
    leader.ticks(2);
    assert_eq!(ids(&leader.appends(N2)), [[]], "again");
    leader.step(N2, reply(term(2)).matching(2).round(1));
    assert_eq!(ids(&leader.appends(N2)), [[at(3, 2), at(4, 2)]], "and now all at once");
}

/// While it streams a leader does not wait for acknowledgements: proposals made while a message was
/// taken leave with the next one.
#[test]
fn a_leader_streams_entries_as_they_come() {
    let mut leader = server(1).settled_leader();
    leader.propose(command("x")).expect("it leads");
    assert_eq!(ids(&leader.appends(N2)), [[at(2, 1)]]);
    leader.propose(command("y")).expect("it leads");
    leader.propose(command("z")).expect("it leads");
    assert_eq!(ids(&leader.appends(N2)), [[at(3, 1), at(4, 1)]]);
}

/// The entries on their way to a slow follower are bounded (S54); an acknowledgement makes room.
/// The window holds back entries only: never heartbeats, rounds or the commit index.
#[test]
fn a_full_window_holds_back_entries_and_nothing_else() {
    let mut leader = server(1)
        .with_options(|options| options.append_bytes_max = 400) // and its window has 1000
        .settled_leader();
    for _ in 0..4 {
        leader.propose(Command::from([b'x'; 290].as_slice())).expect("it leads");
    }
    leader.sync();
    assert_eq!(ids(&leader.appends(N2)), [[at(2, 1)], [at(3, 1)], [at(4, 1)]], "330 bytes each");
    assert!(leader.sent(N2).is_empty());

    leader.request_read(ReadId(1)).expect("it leads");
    let round = leader.appends(N2);
    assert!(round[0].entries.is_empty() && round[0].round > Round(0));
    assert_eq!(round[0].prev, at(4, 1), "after what was sent last, so that a loss is noticed");
    leader.ticks(2);
    assert_eq!(leader.appends(N2).len(), 1, "a heartbeat");
    leader.step(N3, reply(term(1)).matching(3));
    assert_eq!(leader.appends(N2)[0].leader_commit, index(3));

    leader.step(N2, reply(term(1)).round(round[0].round.0)); // an echo makes no room
    assert!(leader.sent(N2).is_empty());
    leader.step(N2, reply(term(1)).matching(2)); // 660 bytes are still under way
    assert_eq!(ids(&leader.appends(N2)), [[at(5, 1)]]);
}

/// An entry that is larger than the window would never be sent if an empty window did not admit it
/// (S56).
#[test]
fn an_empty_window_admits_an_entry_of_any_size() {
    let mut leader = server(1).settled_leader();
    leader.propose(Command::from([b'x'; 5000].as_slice())).expect("it leads");
    leader.propose(command("y")).expect("it leads");
    assert_eq!(ids(&leader.appends(N2)), [[at(2, 1)]]);
    leader.step(N2, reply(term(1)).matching(2));
    assert_eq!(ids(&leader.appends(N2)), [[at(3, 1)]]);
}

/// One message carries a bounded number of bytes, and the window takes several messages.
#[test]
fn a_long_way_to_go_is_cut_into_messages() {
    let mut leader =
        server(1).with_options(|options| options.append_bytes_max = 130).settled_leader();
    for _ in 0..6 {
        leader.propose(command("x")).expect("it leads");
    }
    let sizes: Vec<usize> = leader.appends(N2).iter().map(|it| it.entries.len()).collect();
    assert_eq!(sizes, [3, 3]); // of 41 bytes
}

/// A message that was lost on the way is noticed by the next one, which names what was sent before
/// it (S49).
#[test]
fn a_lost_message_is_sent_again() {
    let mut leader = server(1).settled_leader();
    leader.propose(command("x")).expect("it leads");
    leader.sent(N2); // lost
    leader.ticks(2);
    let heartbeat = leader.appends(N2);
    assert_eq!(heartbeat[0].prev, at(2, 1));
    leader.step(N2, reply(term(1)).matching(1).mismatch(2, at(1, 1)));
    leader.sent(N2); // the probe at 1
    leader.step(N2, reply(term(1)).matching(1));
    assert_eq!(ids(&leader.appends(N2)), [[at(2, 1)]]);
}

/// What was sent on a connection that has ended may be lost, so the leader asks where the follower
/// stands.
#[test]
fn a_new_link_is_probed() {
    let mut leader = server(1).settled_leader();
    leader.propose(command("x")).expect("it leads");
    leader.sent(N2); // on the old link
    leader.link_renewed(N2);
    let probe = leader.appends(N2);
    assert_eq!((probe[0].prev, ids(&probe)), (at(1, 1), vec![vec![]]));
    leader.step(N2, reply(term(1)).matching(1));
    assert_eq!(ids(&leader.appends(N2)), [[at(2, 1)]]);
}

/// A server that was down during the election comes back: it is asked about the end of the log, as
/// any follower of a new leader. Nothing is known to match, and that is no reason to send it all.
#[test]
fn a_new_link_during_a_probe_repeats_the_probe() {
    let mut leader = server(1).with_log(&[(1, 1), (2, 1), (3, 1)]).leader();
    leader.sent(N2); // the probe at 3, lost with the old link
    leader.link_renewed(N2);
    let probe = leader.appends(N2);
    assert_eq!((probe[0].prev, ids(&probe)), (at(3, 1), vec![vec![]]));
}

/// A refusal that was overtaken by an acknowledgement of the same place is old news, as is an old
/// acknowledgement (S10).
#[test]
fn stale_replies_move_nothing_back() {
    let mut leader = server(1).settled_leader();
    leader.propose(command("x")).expect("it leads");
    leader.sync();
    leader.sent(N2);
    leader.step(N2, reply(term(1)).matching(2));
    leader.send_all();
    let before = leader.status();
    leader.step(N2, reply(term(1)).matching(1).mismatch(2, at(1, 1)));
    leader.step(N2, reply(term(1)).matching(1));
    assert_eq!(leader.status(), before);
    assert!(leader.sent(N2).is_empty(), "nobody is probed because of it");
}

/// What matches is on the follower's disk and stays there: however far back a hint points,
/// it is not asked about again (S10).
#[test]
fn a_refusal_never_leads_below_what_matches() {
    let mut leader = server(1).settled_leader();
    for number in [2, 3] {
        leader.propose(command("x")).expect("it leads");
        leader.sent(N2);
        leader.step(N2, reply(term(1)).matching(2.min(number)));
    }
    leader.step(N2, reply(term(1)).mismatch(3, EntryId::ZERO));
    assert_eq!(leader.appends(N2)[0].prev, at(2, 1));
}

/// A refusal can arrive after the leader has gone back by itself and begun to stream again. It
/// speaks of entries that are not sent any more, and "back" must never mean forward (S53).
#[test]
fn a_refusal_of_what_is_not_under_way_any_more_is_stale() {
    let mut leader = server(1).settled_leader();
    for _ in 0..3 {
        leader.propose(command("x")).expect("it leads");
    }
    leader.sent(N2); // 2 to 4 arrive, and wait for the follower's disk …
    leader.propose(command("y")).expect("it leads");
    leader.sent(N2); // … 5 is lost …
    leader.ticks(2);
    leader.sent(N2); // … and a heartbeat after 5 is refused; the refusal takes its time.
    leader.link_renewed(N2);
    leader.sent(N2); // the probe at 1
    leader.step(N2, reply(term(1)).matching(1));
    // Here it comes, from an older connection than the answer before: "not 5, but perhaps 4@T1".
    leader.step(N2, reply(term(1)).matching(1).mismatch(5, at(4, 1)));
    assert_eq!(leader.status().peers[0].next_index, index(2));
    assert_eq!(ids(&leader.appends(N2)), [[at(2, 1), at(3, 1), at(4, 1), at(5, 1)]]);
}

/// A message that only tells the commit index is not worth a reply.
#[test]
fn who_waits_for_a_commit_is_told_at_once_and_asks_no_reply() {
    let mut leader = server(1).settled_leader();
    let last_one = 2 + u64::from(COMMITS_TOLD_MAX);
    for last in 2..=last_one {
        leader.propose(command("x")).expect("it leads");
        leader.await_commit(N3, index(last));
        leader.sync();
        leader.send_all();
        leader.step(N2, reply(term(1)).matching(last));
        let news = leader.appends(N3);
        assert_eq!((news[0].leader_commit, news[0].round, news.len()), (index(last), Round(0), 1));

        let log: Vec<_> = (1..=last).map(|index| (index, 1)).collect();
        let mut follower = server(3).with_log(&log);
        follower.step(N1, append(term(1)).after(last, 1).round(1));
        follower.sent(N1);
        follower.step(N1, Message::AppendEntries(news[0].clone()));
        assert_eq!(follower.status().commit_index, index(last));
        assert!(follower.sent(N1).is_empty());
    }
    // Its clients may also begin to wait when the entry is committed.
    leader.propose(command("x")).expect("it leads");
    leader.sync();
    leader.send_all();
    leader.step(N2, reply(term(1)).matching(last_one + 1));
    assert_eq!(leader.appends(N3), []);
    leader.await_commit(N3, index(last_one + 1));
    assert_eq!(leader.appends(N3)[0].leader_commit, index(last_one + 1));
}

/// A follower believes a commit index only as far as the message reaches. The failing schedule: it
/// has 2 on its disk, and its answer is lost with both connections; 2 is committed with the other
/// one; the probe reaches to 1; the answer comes, and nothing is left to be sent.
#[test]
fn a_probe_tells_no_commit_beyond_its_own_place() {
    let mut leader = server(1).settled_leader();
    leader.propose(command("x")).expect("it leads");
    leader.sync();
    leader.send_all();
    leader.step(N2, reply(term(1)).matching(2));
    leader.link_renewed(N3);
    let probe = leader.appends(N3).remove(0);
    assert_eq!((probe.prev, probe.leader_commit), (at(1, 1), index(2)));
    leader.step(N3, reply(term(1)).matching(2).round(probe.round.0));
    let news = leader.appends(N3).remove(0);
    assert_eq!((news.prev, news.leader_commit), (at(2, 1), index(2)));
}

/// What was told is lost with the connection. The failing schedule: the last news of a commit, and
/// a read's round, were on the old one, and an acknowledgement comes before the new one's probe is
/// sent: it is not needed any more, and nothing is left to be sent.
#[test]
fn what_was_told_on_a_lost_link_is_told_again() {
    let mut leader = server(1).settled_leader();
    leader.propose(command("x")).expect("it leads");
    leader.await_commit(N3, index(2));
    leader.sync();
    leader.send_all();
    leader.request_read(ReadId(1)).expect("it leads");
    leader.step(N2, reply(term(1)).matching(2));
    leader.send_all(); // lost
    leader.link_renewed(N3);
    leader.link_renewed(N2);
    leader.step(N3, reply(term(1)).matching(2));
    leader.step(N2, reply(term(1)).matching(2));
    assert_eq!(leader.appends(N3)[0].leader_commit, index(2));
    assert!(leader.appends(N2)[0].round > Round(1), "one of the two is asked for the round");
}

/// Where nobody waits for what is committed, few messages in each tick tell it alone. Otherwise it
/// goes with the next entries.
#[test]
fn other_news_of_commits_go_with_entries_or_with_ticks() {
    let mut leader = server(1).with_options(|options| options.heartbeat_ticks = 3).settled_leader();
    let commit = |leader: &mut Server, last| {
        leader.propose(command("x")).expect("it leads");
        leader.sync();
        let entries = leader.appends(N3);
        leader.sent(N2);
        leader.step(N2, reply(term(1)).matching(last));
        assert_eq!(leader.status().commit_index, index(last));
        entries[0].leader_commit
    };
    // One has told of the leader's first entry.
    let alone = u64::from(COMMITS_TOLD_MAX);
    for last in 2..=alone {
        commit(&mut leader, last);
        assert_eq!(leader.appends(N3)[0].leader_commit, index(last));
    }
    assert_eq!(commit(&mut leader, alone + 1), index(alone));
    assert_eq!(leader.appends(N3), [], "the next waits …");
    assert_eq!(commit(&mut leader, alone + 2), index(alone + 1), "… for the next entries …");
    assert_eq!((leader.appends(N3), leader.ticks_until_due()), (vec![], 1));
    leader.ticks(1);
    assert_eq!(leader.appends(N3)[0].leader_commit, index(alone + 2), "… or the next tick");
    leader.sent(N2);
    assert!(leader.ticks_until_due() > 1, "and all know it");
}

/// A cluster without a majority must not fill its leader's memory (S55). Nothing is appended by a
/// refusal.
#[test]
fn proposals_are_refused_when_too_much_is_uncommitted() {
    let mut leader =
        server(1).with_options(|options| options.uncommitted_bytes_max = 100).settled_leader();
    leader.propose(Command::from([b'x'; 500].as_slice())).expect("one of any size");
    let before = leader.status().last_index;
    assert_eq!(leader.propose(command("y")), Err(Refused::TooMuchUncommitted { bytes: 540 }));
    assert_eq!(leader.status().last_index, before);
    leader.step(N2, reply(term(1)).matching(2));
    leader.step(N3, reply(term(1)).matching(2));
    assert_eq!(leader.status().commit_index, index(2));
    assert!(leader.propose(command("y")).is_err(), "committed, but not on our own disk");
    leader.sync();
    assert!(leader.propose(command("y")).is_ok());
}

/// Only the leader appends; others say whom to ask.
#[test]
fn a_follower_refuses_and_names_the_leader() {
    let mut follower = server(2);
    assert_eq!(follower.propose(command("x")), Err(Refused::NotLeader { hint: None }));
    follower.step(LEADER, append(term(1)));
    assert_eq!(follower.propose(command("x")), Err(Refused::NotLeader { hint: Some(LEADER) }));
    assert_eq!(follower.log_ids(), []);
}

/// Two leaders in one term would be the end of all safety: the server that sees them stops.
#[test]
#[should_panic(expected = "Election Safety")]
fn a_second_leader_in_a_term_stops_the_server() {
    let mut follower = server(2);
    follower.step(N1, append(term(1)));
    follower.step(N3, append(term(1)));
}

/// Leader Completeness (§5.4): a committed entry is never replaced; the server that should do it
/// stops.
#[test]
#[should_panic(expected = "Leader Completeness")]
fn a_committed_entry_is_never_replaced() {
    let mut follower = server(2);
    follower.step(N1, append(term(1)).entries(&[(1, 1)]).leader_commit(1));
    follower.step(N3, append(term(2)).entries(&[(1, 2)]));
}

/// §5.2: vote request and AppendEntries that arrive together, in either order: never a vote for one
/// and an acknowledgement for another in one term (S7).
#[test]
fn a_term_that_has_a_leader_gives_no_vote_to_another() {
    let mut follower = server(2).with_log(&[(1, 1)]);
    follower.step(LEADER, append(term(2)).after(1, 1));
    follower.step(N3, request_vote(term(2), at(1, 1)));
    assert_eq!(follower.status().voted_for, None);

    let mut voter = server(2).with_log(&[(1, 1)]);
    voter.step(N3, request_vote(term(2), at(1, 1)));
    voter.step(LEADER, append(term(2)).after(1, 1));
    assert_eq!(voter.status().voted_for, Some(N3));
    assert_eq!((voter.role_name(), voter.status().leader), (RoleName::Follower, Some(LEADER)));
}
