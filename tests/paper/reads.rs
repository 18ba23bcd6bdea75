//! Linearizable reads without log entries (diss. §6.4; §8 of the paper).

use raft_server::raft::message::Round;
use raft_server::raft::{Apply, DoneRead, ReadId, Refused, RoleName};

use crate::support_raft::*;

const READ: ReadId = ReadId(40);

fn ready(read: ReadId, number: u64) -> Apply {
    Apply::ReadReady { read, index: index(number) }
}

fn done(read: ReadId, number: u64) -> Option<DoneRead> {
    Some(DoneRead::Ready { read, index: index(number) })
}

/// §8: "I am the leader" is no licence to answer: a majority must say so after the read arrived
/// (L7, S21).
#[test]
fn a_read_waits_for_a_majority_to_echo_a_round() {
    let mut leader = server(1).of(5).settled_leader();
    leader.request_read(READ).expect("it leads");
    assert_eq!(leader.take_applies(usize::MAX), []);
    let round = leader.appends(N2)[0].round;
    leader.step(N2, reply(term(1)).matching(1).round(round.0));
    assert_eq!(leader.take_applies(usize::MAX), [], "two of five");
    leader.step(N3, reply(term(1)).matching(1).round(round.0));
    assert_eq!(leader.take_applies(usize::MAX), [ready(READ, 1)]);
}

/// Who asks was in our term, or an older one, when it asked, and that was after the read arrived
/// there. So of three servers nobody else needs to be asked, whatever we are waiting for ourselves.
#[test]
fn a_followers_question_is_its_echo() {
    let mut leader = server(1).settled_leader();
    leader.request_read(ReadId(1)).expect("it leads");
    leader.request_read_for(N3, ReadId(2)).expect("it leads");
    assert_eq!(leader.next_read_of_others(), done(ReadId(2), 1));
    assert_eq!(leader.take_applies(usize::MAX), []);
    let round = leader.appends(N2)[0].round;
    leader.step(N2, reply(term(1)).matching(1).round(round.0));
    assert_eq!(leader.take_applies(usize::MAX), [ready(ReadId(1), 1)]);
    leader.send_all();
    leader.request_read_for(N2, ReadId(3)).expect("it leads");
    assert!(leader.sent(N2).is_empty() && leader.sent(N3).is_empty(), "there is nothing to ask");
}

/// Two of five may be cut off together.
#[test]
fn a_followers_question_is_one_echo_of_those_that_are_needed() {
    let mut leader = server(1).of(5).settled_leader();
    leader.request_read_for(N2, READ).expect("it leads");
    assert_eq!(leader.next_read_of_others(), None);
    let round = leader.appends(N2)[0].round;
    leader.step(N2, reply(term(1)).matching(1).round(round.0));
    assert_eq!(leader.next_read_of_others(), None, "it is the same voice again");
    leader.step(N3, reply(term(1)).matching(1).round(round.0));
    assert_eq!(leader.next_read_of_others(), done(READ, 1));
}

/// Who needs one echo less is confirmed before those who asked earlier.
#[test]
fn a_followers_question_waits_for_no_read_before_it() {
    let mut leader = server(1).of(5).settled_leader();
    leader.request_read(ReadId(1)).expect("it leads");
    leader.request_read_for(N2, READ).expect("it leads");
    let round = leader.appends(N3)[0].round;
    leader.step(N3, reply(term(1)).matching(1).round(round.0));
    assert_eq!(leader.next_read_of_others(), done(READ, 1));
    assert_eq!(leader.take_applies(usize::MAX), []);
    leader.step(N2, reply(term(1)).matching(1).round(round.0));
    assert_eq!(leader.take_applies(usize::MAX), [ready(ReadId(1), 1)]);
}

/// How far our own state machine has come is nothing to who asks.
#[test]
fn a_followers_question_waits_for_no_apply_here() {
    let mut leader = server(1).settled_leader();
    leader.propose(command("x")).expect("it leads");
    leader.sync();
    leader.send_all();
    leader.step(N2, reply(term(1)).matching(2));
    leader.request_read_for(N3, READ).expect("it leads");
    assert_eq!(leader.next_read_of_others(), done(READ, 2));
}

/// The no-op of a fresh leader tells how far its predecessor had committed, and no echo does.
#[test]
fn a_followers_question_waits_for_the_noop() {
    let mut leader = server(1).leader();
    leader.sync();
    leader.request_read_for(N2, READ).expect("it leads");
    assert_eq!(leader.next_read_of_others(), None);
    let round = leader.appends(N3)[0].round;
    leader.step(N3, reply(term(1)).matching(1).round(round.0));
    assert_eq!(leader.next_read_of_others(), done(READ, 1));
}

/// Who asked is told, and asks the next leader.
#[test]
fn a_followers_question_fails_with_the_leadership() {
    let mut leader = server(1).of(5).settled_leader();
    leader.request_read_for(N2, READ).expect("it leads");
    leader.step(N3, reply(term(2)));
    assert_eq!(leader.next_read_of_others(), Some(DoneRead::Failed { read: READ }));
    assert_eq!(leader.take_applies(usize::MAX), []);
}

/// A read on its own asks everybody, and the first answer is enough.
#[test]
fn a_lone_read_asks_everybody() {
    let mut leader = server(1).settled_leader();
    for read in [1, 2] {
        leader.request_read(ReadId(read)).expect("it leads");
        let round = leader.appends(N2)[0].round;
        assert_eq!(leader.appends(N3)[0].round, round);
        leader.step(N3, reply(term(1)).matching(1).round(round.0));
        assert_eq!(leader.take_applies(usize::MAX), [ready(ReadId(read), 1)]);
    }
}

/// One echo is enough for three servers: when reads meet, only one is asked. If it does not answer,
/// all are with the tick after next, and who answers is asked first from then on.
#[test]
fn many_reads_ask_no_more_than_a_majority_unless_they_wait() {
    let mut leader = server(1).with_options(|it| it.heartbeat_ticks = 9).settled_leader();
    let ask = |leader: &mut Server, first| {
        for read in [first, first + 1] {
            leader.request_read(ReadId(read)).expect("it leads");
        }
    };
    ask(&mut leader, 1);
    assert!(leader.sent(N3).is_empty(), "N2 is enough");
    assert_eq!((leader.appends(N2).len(), leader.ticks_until_due()), (1, 1));
    leader.ticks(1);
    assert!(leader.sent(N3).is_empty(), "it may have been asked just before that tick");
    leader.ticks(1);
    let round = leader.appends(N3)[0].round;
    leader.step(N3, reply(term(1)).matching(1).round(round.0));
    assert_eq!(leader.take_applies(usize::MAX), [1, 2].map(|read| ready(ReadId(read), 1)));
    leader.send_all();

    ask(&mut leader, 3);
    assert!(leader.sent(N2).is_empty(), "N3 has echoed the last round");
    let round = leader.appends(N3)[0].round;
    leader.step(N3, reply(term(1)).matching(1).round(round.0));
    assert_eq!(leader.take_applies(usize::MAX), [3, 4].map(|read| ready(ReadId(read), 1)));

    // The link to N3 is down: nobody takes what it should be asked.
    ask(&mut leader, 5);
    leader.ticks(1);
    assert!(leader.sent(N2).is_empty());
    leader.ticks(1);
    let round = leader.appends(N2)[0].round;
    leader.step(N2, reply(term(1)).matching(1).round(round.0));
    assert_eq!(leader.take_applies(usize::MAX), [5, 6].map(|read| ready(ReadId(read), 1)));
    leader.send_all();

    // Time passes, and the next read is on its own again.
    leader.ticks(2);
    leader.send_all();
    leader.request_read(ReadId(7)).expect("it leads");
    assert_eq!((leader.appends(N2).len(), leader.appends(N3).len()), (1, 1));
}

/// A server that lives is asked before one that is dead, though the dead one's log was whole and
/// the other is being sent a snapshot.
#[test]
fn whoever_answers_is_asked_first() {
    let mut leader = server(1).settled_leader();
    leader.link_renewed(N3); // N3 is probed, N2 streams
    leader.send_all();
    for read in [1, 2] {
        leader.request_read(ReadId(read)).expect("it leads");
    }
    leader.ticks(2);
    let round = leader.appends(N3)[0].round;
    leader.step(N3, reply(term(1)).round(round.0)); // N2 is dead
    assert_eq!(leader.take_applies(usize::MAX), [1, 2].map(|read| ready(ReadId(read), 1)));
    for read in [3, 4] {
        leader.request_read(ReadId(read)).expect("it leads");
    }
    assert!(leader.appends(N3)[0].round > round);
}

/// diss. §6.4: an echo of a message that left before the read arrived proves nothing about the time
/// since. So the round is stamped when a message is taken, and the read waits for one that is taken
/// later (S23).
#[test]
fn an_echo_confirms_only_reads_that_came_before_its_message() {
    let mut leader = server(1).settled_leader();
    leader.ticks(3);
    let before = leader.appends(N2)[0].round;
    leader.request_read(READ).expect("it leads");
    leader.step(N2, reply(term(1)).matching(1).round(before.0));
    assert_eq!(leader.take_applies(usize::MAX), [], "that heartbeat is older than the read");

    let after = leader.appends(N2)[0].round;
    assert!(after > before);
    leader.request_read(ReadId(41)).expect("it leads"); // too late for the round just taken
    leader.step(N2, reply(term(1)).matching(1).round(after.0));
    assert_eq!(leader.take_applies(usize::MAX), [ready(READ, 1)]);
    let next = leader.appends(N2)[0].round;
    leader.step(N2, reply(term(1)).matching(1).round(next.0));
    assert_eq!(leader.take_applies(usize::MAX), [ready(ReadId(41), 1)]);
}

/// Reads go on while all disks are full (S35), behind a new leader, too. Its reads wait for its
/// no-op, so that is written into what is kept for terms and votes: a term has one of each.
#[test]
fn a_fresh_leader_of_full_servers_answers_reads() {
    let [mut candidate, mut follower] = [1, 2].map(|id| server(id).with_log(&[(1, 1)]));
    candidate.set_room(0);
    follower.set_room(0);
    let mut leader = candidate.leader();
    assert!(matches!(leader.propose(command("x")), Err(Refused::NoRoom { .. })));
    leader.request_read(READ).expect("it leads");
    leader.sync();
    for _ in 0..3 {
        leader.ticks(2);
        for message in leader.sent(N2) {
            follower.step(LEADER, message);
        }
        follower.sync();
        for message in follower.sent(LEADER) {
            leader.step(N2, message);
        }
    }
    assert_eq!(leader.status().commit_index, index(2));
    assert!(leader.take_applies(usize::MAX).contains(&ready(READ, 2)));
    // Nothing else is written there.
    follower.step(LEADER, append(term(2)).after(2, 2).entries(&[(3, 2)]));
    assert!(follower.waits_for_room() && !follower.has_write());
}

/// Any number of reads share one round, and no disk is involved.
#[test]
fn reads_that_arrive_together_share_a_round() {
    let mut leader = server(1).settled_leader();
    for number in 0..10 {
        leader.request_read(ReadId(number)).expect("it leads");
    }
    let messages = leader.appends(N2);
    assert_eq!(messages.len(), 1);
    leader.step(N2, reply(term(1)).matching(1).round(messages[0].round.0));
    assert_eq!(leader.take_applies(usize::MAX).len(), 10);
    assert!(!leader.work().write);
}

/// §8: a fresh leader has all that is committed but does not know how far that is, until its no-op
/// commits (L8, S22).
#[test]
fn a_fresh_leaders_read_waits_for_its_no_op() {
    let mut leader = server(1).with_log(&[(1, 1), (2, 1)]).leader(); // its no-op is 3@T2
    leader.sync();
    leader.request_read(READ).expect("it leads");
    let round = leader.appends(N2)[0].round;
    leader.step(N2, reply(term(2)).matching(2).round(round.0));
    assert_eq!(leader.take_applies(usize::MAX), [], "confirmed, but what is committed?");
    leader.step(N2, reply(term(2)).matching(3));
    let applies = leader.take_applies(usize::MAX);
    assert_eq!(applies.len(), 4, "three entries, and then the read");
    assert_eq!(applies[3], ready(READ, 3));
}

/// diss. §6.4, step 3: the state machine may not be behind the read (S24).
#[test]
fn a_read_is_handed_out_after_the_entries_it_must_see() {
    let mut leader = server(1).settled_leader();
    leader.propose(command("x")).expect("it leads");
    leader.propose(command("y")).expect("it leads");
    leader.sync();
    leader.send_all();
    leader.step(N2, reply(term(1)).matching(3));
    leader.request_read(READ).expect("it leads");
    let round = leader.appends(N2)[0].round;
    leader.step(N2, reply(term(1)).matching(3).round(round.0));
    assert!(matches!(leader.take_applies(1).as_slice(), [Apply::Entry(_)]), "2 of 3");
    assert!(matches!(
        leader.take_applies(1).as_slice(),
        [Apply::Entry(_), Apply::ReadReady { .. }]
    ));
}

/// A leader that ends hands its reads back as failed, in its own term or a higher one: they could
/// wait for ever (S21).
#[test]
fn reads_are_handed_back_as_failed_when_leadership_ends() {
    let mut deposed = server(1).settled_leader();
    deposed.request_read(READ).expect("it leads");
    deposed.step(N2, no_vote(term(2)));
    assert!(deposed.work().apply);
    assert_eq!(deposed.take_applies(usize::MAX), [Apply::ReadFailed { read: READ }]);

    let mut lonely = server(1).settled_leader();
    lonely.request_read(READ).expect("it leads");
    lonely.tick_until(RoleName::Follower);
    assert_eq!(lonely.take_applies(usize::MAX), [Apply::ReadFailed { read: READ }]);
    assert_eq!(lonely.request_read(READ), Err(Refused::NotLeader { hint: None }));
}

/// A late echo of an earlier term, with a high round, confirms nothing in this one (S23, L4).
#[test]
fn an_echo_of_an_earlier_term_confirms_nothing() {
    let mut leader = server(1).in_term(1).settled_leader();
    leader.request_read(READ).expect("it leads");
    leader.step(N2, reply(term(1)).round(1000));
    assert_eq!(leader.take_applies(usize::MAX), []);
    assert!(leader.appends(N2)[0].round > Round(0), "and it still asks");
}

/// A cluster of one needs no echo, but its no-op must be committed.
#[test]
fn a_single_server_reads_once_its_no_op_is_on_disk() {
    let mut alone = server(1).of(1);
    alone.tick_until(RoleName::Candidate);
    let vote = alone.take_write(usize::MAX).expect("its own vote");
    alone.persisted(vote.ticket);
    alone.request_read(READ).expect("it leads");
    assert_eq!(alone.take_applies(usize::MAX), []);
    alone.sync();
    assert_eq!(alone.take_applies(usize::MAX).last(), Some(&ready(READ, 1)));
    alone.request_read(READ).expect("it leads");
    assert_eq!(alone.take_applies(usize::MAX), [ready(READ, 1)]);
}
