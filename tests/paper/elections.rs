//! What we added to §5.2: pre-votes, withheld votes, closed connections, check-quorum; and who is
//! listened to.

use raft_server::raft::event::{Event, StepDownReason};
use raft_server::raft::message::{Malformed, Message, PreVote, PreVoteReply};
use raft_server::raft::types::NUMBER_MAX;
use raft_server::raft::types::{EntryId, ServerId};
use raft_server::raft::{ConnectionId, Options, RoleName};

use crate::support_raft::*;

/// diss. §9.6: asking costs nothing. Neither the asker's nor the asked server's term moves, and no
/// vote is used up, so a server that was cut off for an hour comes back with the term it left with
/// (S13).
#[test]
fn a_pre_vote_moves_no_term_and_uses_no_vote() {
    let mut asker = server(1).with_log(&[(1, 1)]).pre_candidate();
    assert_eq!(asker.sent(N2), [Message::PreVote(PreVote { term: term(2), last: at(1, 1) })]);
    assert_eq!((asker.current_term(), asker.status().voted_for), (term(1), None));
    assert!(!asker.work().write, "there is nothing to remember");

    let mut asked = server(2).with_log(&[(1, 1)]);
    asked.step(N1, pre_vote(term(2), at(1, 1)));
    asked.step(N3, pre_vote(term(2), at(1, 1)));
    assert_eq!(asked.sent(N1), [pre_vote_granted(term(2))]);
    assert_eq!(asked.sent(N3), [pre_vote_granted(term(2))], "it could promise nothing to both");
    assert_eq!((asked.current_term(), asked.status().voted_for), (term(1), None));
    assert!(!asked.work().write);
}

/// diss. §9.6: a majority must say yes before a term is spent on an election.
#[test]
fn an_election_begins_when_a_majority_would_vote() {
    let mut asker = server(1).of(5).pre_candidate();
    asker.step(N2, pre_vote_granted(term(1)));
    asker.step(N2, pre_vote_granted(term(1)));
    assert_eq!(asker.role_name(), RoleName::PreCandidate, "two of five");
    asker.step(N3, pre_vote_granted(term(1)));
    assert_eq!((asker.role_name(), asker.current_term()), (RoleName::Candidate, term(1)));

    let mut of_four = server(1).of(4).pre_candidate();
    of_four.step(N2, pre_vote_granted(term(1)));
    assert_eq!(of_four.role_name(), RoleName::PreCandidate, "half is no majority");

    let mut again = server(1).in_term(1).pre_candidate();
    again.step(N2, pre_vote_granted(term(1)));
    assert_eq!(again.role_name(), RoleName::PreCandidate, "an answer to an earlier question");
}

/// diss. §9.6: with a long log in a low term here and a short log in a high term there, each would
/// refuse the other for ever, if the refusal did not bring the asker into the higher term (S11).
#[test]
fn a_refused_pre_vote_brings_the_asker_into_the_refusers_term() {
    let mut ahead = server(2).in_term(7);
    ahead.step(N1, pre_vote(term(2), at(3, 1)));
    assert_eq!(ahead.sent(N1), [pre_vote_refused(term(7))]);

    let mut asker = server(1).with_log(&[(1, 1), (2, 1), (3, 1)]).pre_candidate();
    asker.step(N2, pre_vote_refused(term(7)));
    assert_eq!((asker.role_name(), asker.current_term()), (RoleName::Follower, term(7)));
}

/// §5.2: whoever gives its vote away waits for the outcome instead of going on to its own election.
#[test]
fn a_pre_candidate_that_votes_for_another_follows() {
    let mut asker = server(2).in_term(1).pre_candidate();
    asker.step(N3, request_vote(term(1), EntryId::ZERO));
    assert_eq!((asker.role_name(), asker.status().voted_for), (RoleName::Follower, Some(N3)));
    asker.step(N1, pre_vote_granted(term(2)));
    assert_eq!(asker.current_term(), term(1));
}

/// §5.4.1: a pre-vote says what the vote would say about the log.
#[test]
fn a_pre_vote_is_refused_to_a_log_that_is_behind() {
    let mut asked = server(2).with_log(&[(1, 1), (2, 2)]);
    asked.step(N1, pre_vote(term(3), at(9, 1)));
    assert_eq!(asked.sent(N1), [pre_vote_refused(term(2))]);
}

/// diss. §4.2.3: who hears a leader lets nobody disturb it: no vote, no pre-vote, and its term
/// stays (S14).
#[test]
fn votes_are_withheld_while_a_leader_is_heard() {
    let refused = PreVoteReply { term: term(1), granted: false, leader_heard: true };
    let mut follower = server(2);
    follower.step(LEADER, append(term(1)));
    for mut given in [follower.clone(), server(2).leader()] {
        given.step(N3, request_vote(term(2), at(9, 1)));
        given.step(N3, pre_vote(term(2), at(9, 1)));
        assert_eq!(given.current_term(), term(1));
        assert!(given.sent(N3).contains(&Message::PreVoteReply(refused.clone())));
    }
    let patient = |options: &mut Options| options.election_max_ticks = 1_000_000;
    let mut follower = server(2).with_options(patient);
    follower.step(LEADER, append(term(1)));
    follower.ticks(9);
    follower.step(LEADER, append(term(1))); // heard once more
    follower.ticks(9);
    follower.step(N3, request_vote(term(2), at(9, 1)));
    assert_eq!(follower.current_term(), term(1), "heard within the shortest election timeout");
    follower.tick();
    follower.step(N3, request_vote(term(2), at(9, 1)));
    assert_eq!(follower.status().leader, None, "not heard any more, though it has not timed out");
    assert_eq!(follower.status().voted_for, Some(N3));
}

/// A killed leader's connection ends at once, and then nobody needs to wait for a timeout: the next
/// leader is there within a few ticks. If the old one lives after all it is heard again before
/// that.
#[test]
fn losing_the_leaders_newest_connection_starts_an_election_soon() {
    let mut follower = server(2);
    follower.connected(LEADER, ConnectionId(1));
    follower.step(LEADER, append(term(1)));
    follower.disconnected(LEADER, ConnectionId(1));
    assert!(follower.tells(|it| *it == Event::LostLeader { leader: LEADER }));

    let mut voter = follower.clone();
    voter.step(N3, request_vote(term(2), EntryId::ZERO));
    assert_eq!(voter.status().voted_for, Some(N3), "it withholds its vote no more");

    follower.ticks(4);
    assert_eq!(follower.role_name(), RoleName::PreCandidate);
}

/// An older connection that closes late has been replaced: the leader is still heard on the newer
/// one (S53).
#[test]
fn an_older_connection_that_closes_late_means_nothing() {
    let mut follower = server(2);
    follower.connected(LEADER, ConnectionId(1));
    follower.step(LEADER, append(term(1)));
    follower.connected(LEADER, ConnectionId(2));
    let before = follower.clone();
    follower.disconnected(LEADER, ConnectionId(1));
    assert_eq!(*follower, *before);
    follower.take_events();
    follower.connected(N3, ConnectionId(3));
    follower.disconnected(N3, ConnectionId(3));
    assert!(!follower.has_events(), "nor does anybody else's");
}

/// Whoever has lost the leader asks others who may still hear it. They will know in a moment too,
/// so it asks again soon; but not for ever, or two halves of a cluster would ask each other at full
/// speed.
#[test]
fn who_is_refused_because_of_a_heard_leader_asks_again_soon_a_few_times() {
    let mut asker = server(2).pre_candidate();
    let refused = PreVoteReply { term: term(0), granted: false, leader_heard: true };
    let mut soon = |_| {
        asker.take_events();
        asker.step(N3, Message::PreVoteReply(refused.clone()));
        asker.ticks(4);
        asker.tells(|it| matches!(it, Event::BecamePreCandidate { .. }))
    };
    assert!((0..8).all(&mut soon));
    let later = (0..20).filter(|&number| soon(number)).count();
    assert!(later <= 8, "once in a timeout of at least 10 ticks, not {later} times in 80");

    // Hearing a leader ends the search, and the next one may hurry again.
    asker.step(LEADER, append(term(1)));
    asker.connected(LEADER, ConnectionId(1));
    asker.disconnected(LEADER, ConnectionId(1));
    asker.ticks(4);
    assert_eq!(asker.role_name(), RoleName::PreCandidate);
}

/// §5.2: when a majority has refused, the election is lost, and waiting for its end would be time
/// without a leader.
#[test]
fn a_lost_election_is_not_waited_out() {
    let mut candidate = server(1).candidate();
    candidate.sync();
    candidate.step(N2, no_vote(term(1)));
    candidate.ticks(4);
    assert_eq!(candidate.role_name(), RoleName::Candidate, "N3 can still elect us");
    candidate.step(N3, no_vote(term(1)));
    candidate.ticks(4);
    assert_eq!(candidate.role_name(), RoleName::PreCandidate);
}

/// §5.5: messages get lost. Who has not answered is asked again with each heartbeat; who has is
/// left alone.
#[test]
fn unanswered_vote_requests_are_repeated() {
    for mut asker in [server(1).of(5).pre_candidate(), server(1).of(5).candidate()] {
        asker.sync();
        asker.send_all();
        assert!(asker.sent(N2).is_empty());
        asker.step(
            N3,
            if asker.role_name() == RoleName::Candidate {
                vote(term(1))
            } else {
                pre_vote_granted(term(1))
            },
        );
        asker.ticks(2);
        assert_eq!((asker.sent(N2).len(), asker.sent(N3).len()), (1, 0));
    }
}

/// diss. §6.2: a leader that no majority answers must not keep its clients waiting; as long as one
/// does, it stays (S15). It hears itself.
#[test]
fn a_leader_without_a_majority_steps_down() {
    let mut leader = server(1).of(5).leader();
    for _ in 0..30 {
        leader.step(N2, reply(term(1)).round(1));
        leader.step(N3, reply(term(1)).round(1));
        leader.tick();
    }
    assert_eq!(leader.role_name(), RoleName::Leader, "three of five");
    for _ in 0..21 {
        leader.step(N2, reply(term(1)).round(1));
        leader.tick();
    }
    assert_eq!(leader.role_name(), RoleName::Follower, "two of five");
    let reason = StepDownReason::NoMajority;
    assert!(leader.tells(|it| *it == Event::SteppedDown { term: term(1), reason }));
    assert!(leader.propose(command("x")).is_err());
    leader.tick_until(RoleName::PreCandidate); // its clock runs again
}

/// §5.2: a leader has no election clock. When it ends, in its own term or a higher one, its clock
/// begins anew, or it would disturb its successor at once (L1).
#[test]
fn a_former_leader_waits_a_whole_timeout() {
    let late_winner = || {
        let mut server = server(1).candidate();
        server.sync();
        let mut impatient = server.clone();
        while impatient.role_name() == RoleName::Candidate {
            impatient.tick();
            if impatient.role_name() == RoleName::Candidate {
                server.tick(); // up to one tick before its timeout
            }
        }
        server.step(N2, vote(term(1)));
        server
    };
    let mut deposed = late_winner();
    deposed.step(N2, no_vote(term(2)));
    deposed.ticks(9);
    assert_eq!(deposed.role_name(), RoleName::Follower);

    let mut lonely = late_winner();
    lonely.tick_until(RoleName::Follower);
    lonely.ticks(9);
    assert_eq!(lonely.role_name(), RoleName::Follower);
}

/// What was asked on a connection that has ended may be lost: it is asked again on the new one.
#[test]
fn a_new_link_is_asked_again() {
    for mut asker in [server(1).pre_candidate(), server(1).candidate()] {
        asker.sync();
        asker.send_all();
        asker.link_renewed(N2);
        assert_eq!((asker.sent(N2).len(), asker.sent(N3).len()), (1, 0));
    }
}

/// A vote that arrives late, for this term or an earlier one, makes nobody a leader (L4).
#[test]
fn a_vote_for_another_time_does_not_count() {
    let mut candidate = server(1).in_term(4).candidate();
    candidate.sync();
    candidate.step(N2, vote(term(4)));
    assert_eq!(candidate.role_name(), RoleName::Candidate, "a vote of the term before");
    candidate.step(N3, append(term(5)));
    candidate.step(N2, vote(term(5)));
    assert_eq!(candidate.role_name(), RoleName::Follower, "somebody else has won meanwhile");
}

/// Whoever is not a member has no say, whatever it says (S91).
#[test]
fn strangers_are_ignored() {
    let stranger = ServerId(9);
    for mut given in [server(2), server(2).candidate(), server(2).leader()] {
        let before = given.status();
        given.take_events();
        given.step(stranger, append(term(99)).entries(&[(1, 1)]).leader_commit(1));
        given.step(stranger, request_vote(term(99), at(9, 9)));
        given.step(stranger, vote(before.term));
        given.step(stranger, vote(before.term));
        given.step(N2, append(term(99))); // nobody hears from itself either
        assert_eq!(given.status(), before);
        assert!(!given.has_messages(N1) || before.role == RoleName::Leader);
        assert_eq!(given.take_events().len(), 5, "and it is told");
    }
}

/// A term or index near the end of its range would leave no room to go on. It is refused at the
/// door, as is whatever contradicts itself, so that no peer can make an assertion fail (S93).
#[test]
fn impossible_messages_are_refused_before_they_are_read() {
    let too_large = NUMBER_MAX + 1;
    let shape = |message: Message| message.check_shape();
    let number = Err(Malformed::NumberTooLarge(too_large));
    assert_eq!(shape(append(term(too_large)).into()), number);
    assert_eq!(shape(append(term(1)).leader_commit(too_large).into()), number);
    assert_eq!(shape(append(term(1)).round(too_large).into()), number);
    assert_eq!(shape(append(term(1)).after(too_large, 1).into()), number);
    assert_eq!(shape(reply(term(1)).matching(too_large).into()), number);
    assert_eq!(shape(reply(term(1)).round(too_large).into()), number);
    assert_eq!(shape(reply(term(1)).mismatch(too_large, at(1, 1)).into()), number);
    assert_eq!(shape(request_vote(term(2), at(too_large, 1))), number);
    assert_eq!(shape(vote(term(too_large))), number);
    assert_eq!(shape(pre_vote_granted(term(too_large))), number);

    assert_eq!(shape(append(term(0)).into()), Err(Malformed::TermZero));
    assert_eq!(shape(request_vote(term(0), EntryId::ZERO)), Err(Malformed::TermZero));
    let gap = append(term(2)).after(1, 1).entries(&[(3, 1)]).into();
    assert!(matches!(shape(gap), Err(Malformed::NotConsecutive { .. })));
    let falling = append(term(2)).after(1, 2).entries(&[(2, 1)]).into();
    assert!(matches!(shape(falling), Err(Malformed::NotConsecutive { .. })));
    let newer = append(term(2)).after(1, 1).entries(&[(2, 3)]).into();
    assert!(matches!(shape(newer), Err(Malformed::FromTheFuture { .. })));
    assert!(matches!(shape(append(term(2)).after(0, 1).into()), Err(Malformed::NoSuchPosition(_))));
    let ahead = reply(term(2)).mismatch(3, at(4, 1)).into();
    assert!(matches!(shape(ahead), Err(Malformed::HintAhead(_))));
}

/// A cluster of one is a majority by itself, and has nobody to wait for. It still waits for its
/// disk (S33).
#[test]
fn a_single_server_elects_itself_and_commits_when_its_disk_has_it() {
    let mut alone = server(1).of(1);
    for _ in 0..4 {
        alone.tick(); // as an election timeout takes at least ten
    }
    assert_eq!(alone.role_name(), RoleName::Candidate);
    assert_eq!(alone.current_term(), term(1));
    alone.sync();
    assert_eq!(alone.role_name(), RoleName::Leader);
    alone.propose(command("x")).expect("it leads");
    let write = alone.take_write(usize::MAX).expect("the command is to be written");
    alone.persisted(write.ticket);
    assert_eq!(alone.status().commit_index, index(2));
}
