//! InstallSnapshot at the receiver (Figure 13), in the figure's order, then what a leader does, and
//! what is forgotten of the log when a snapshot is taken (§7).
//!
//! A snapshot has 2500 bytes here and travels in parts of 1000.

use raft_server::raft::event::Event;
use raft_server::raft::message::Message;
use raft_server::raft::types::ServerId;
use raft_server::raft::{Apply, Options, Refused, RoleName, SnapshotWork};

use crate::support_raft::*;

/// A follower in term 3 with this log, to which the leader has sent all parts of the snapshot of 5
/// (written in term 2), and which has stored them.
fn about_to_install(log: &[(u64, u64)]) -> Server {
    let mut follower = server(2).with_log(log).in_term(3);
    send_all_parts(&mut follower);
    follower
}

fn send_all_parts(follower: &mut Server) {
    for offset in [0, 1000, 2000] {
        follower.step(LEADER, install(term(3), at(5, 2), offset, 1000.min(2500 - offset)));
    }
}

fn installed(log: &[(u64, u64)]) -> Server {
    let mut follower = about_to_install(log);
    let (transfer, snapshot) = follower.store_parts().expect("all parts are there");
    follower.snapshot_installed(transfer, snapshot, 2500);
    follower
}

/// [IS1] §5.1: as with every request, who leads no more is told our term.
#[test]
fn a_stale_leaders_snapshot_is_answered_with_our_term() {
    let mut follower = server(2).with_log(&[(1, 1)]).in_term(3);
    follower.step(LEADER, install(term(2), at(5, 2), 0, 1000));
    assert!(follower.store_parts().is_none());
    assert_eq!(follower.append_reply(LEADER).term, term(3));
    assert_eq!(follower.status().receiving, None);
}

/// [IS2] Parts belong to one snapshot: another one, or another leader, begins a file of its own.
#[test]
fn a_new_snapshot_begins_a_new_file() {
    let mut follower = server(2).in_term(3);
    follower.step(LEADER, install(term(3), at(5, 2), 0, 1000));
    follower.store_parts();
    assert_eq!(follower.stored(LEADER), Some((1000, false)));
    // The leader has taken another snapshot meanwhile, and the rest of this one was lost.
    follower.step(LEADER, install(term(3), at(7, 3), 1000, 1000));
    assert_eq!(follower.stored(LEADER), Some((0, true)), "its beginning is missing");
    follower.step(LEADER, install(term(3), at(7, 3), 0, 1000));
    follower.store_parts();
    assert_eq!(follower.status().receiving, Some((1000, 2500)));
    // A part of the older one arrives late.
    follower.step(LEADER, install(term(3), at(5, 2), 1000, 1000));
    follower.store_parts();
    assert_eq!(follower.status().receiving, Some((1000, 2500)), "it changes nothing");
    // Another leader's file may be made of other bytes.
    follower.step(N3, install(term(4), at(7, 3), 1000, 1000));
    assert_eq!(follower.stored(N3), Some((0, true)));
}

/// [IS3] A part goes where it belongs, and nowhere else: doubled ones are stepped over, and behind
/// a hole nothing is stored (S82).
#[test]
fn parts_are_stored_in_order_once() {
    let mut follower = server(2).in_term(3);
    follower.step(LEADER, install(term(3), at(5, 2), 1000, 1000));
    follower.store_parts();
    assert_eq!(follower.stored(LEADER), Some((0, true)));
    for offset in [0, 0, 1000, 0, 1000] {
        follower.step(LEADER, install(term(3), at(5, 2), offset, 1000));
    }
    assert_eq!(follower.stored(LEADER), Some((0, false)), "taken, and not yet stored");
    follower.store_parts();
    assert_eq!(follower.stored(LEADER), Some((2000, false)), "told unasked");
    follower.step(LEADER, install(term(3), at(5, 2), 2000, 0));
    assert_eq!(follower.stored(LEADER), Some((2000, false)), "and told when asked");
}

/// [IS4] Nothing changes before all parts are there, on disk, and make a state.
#[test]
fn a_snapshot_counts_when_all_of_it_does() {
    let mut follower = about_to_install(&[(1, 1)]);
    let (transfer, _) = follower.store_parts().expect("all parts are there");
    assert_eq!(
        (follower.status().last_index, follower.status().commit_index),
        (index(1), index(0))
    );
    assert!(follower.sent(LEADER).iter().all(|message| match message {
        Message::AppendEntriesReply(reply) => reply.match_index < index(5),
        _ => true,
    }));
    // The file was damaged on its way.
    follower.snapshot_refused(transfer);
    follower.ticks(1);
    follower.step(LEADER, install(term(3), at(5, 2), 2500, 0));
    assert_eq!(follower.stored(LEADER), Some((0, true)), "all of it, please");
    assert_eq!(follower.log_ids(), [(1, 1)]);
}

/// S35: a follower whose disk is full cannot store what it is sent. It says where it is, and asks
/// for nothing before a pause is over: the leader would send it a window with each heartbeat.
#[test]
fn what_could_not_be_stored_is_not_asked_for_at_once() {
    let mut follower = server(2)
        .with_log(&[(1, 1)])
        .with_options(|options| options.snapshots.retry_ticks = 3)
        .in_term(3);
    follower.step(LEADER, install(term(3), at(5, 2), 0, 1000));
    let Some(SnapshotWork::Store { transfer, .. }) = follower.take_snapshot_work() else {
        panic!("there is a part");
    };
    follower.snapshot_refused(transfer);
    for _ in 0..3 {
        follower.step(LEADER, install(term(3), at(5, 2), 1000, 1000));
        follower.step(LEADER, install(term(3), at(5, 2), 2500, 0));
        assert_eq!(follower.stored(LEADER), Some((0, false)), "nothing is missing yet");
        assert!(!follower.work().snapshot);
        follower.ticks(1);
    }
    follower.step(LEADER, install(term(3), at(5, 2), 2500, 0));
    assert_eq!(follower.stored(LEADER), Some((0, true)), "now all of it");
}

/// [IS5] The newest snapshot is the one that counts; a crash comes back with it.
#[test]
fn an_installed_snapshot_replaces_older_ones() {
    let mut follower = server(2).with_snapshot(2, 1, 900).with_log(&[(3, 1)]).in_term(3);
    for offset in [0, 1000, 2000] {
        follower.step(LEADER, install(term(3), at(5, 2), offset, 1000.min(2500 - offset)));
    }
    let (transfer, snapshot) = follower.store_parts().expect("all parts are there");
    follower.snapshot_installed(transfer, snapshot, 2500);
    assert_eq!(follower.snapshots_in_use(), [snapshot]);
    let crashed = follower.crash();
    assert_eq!(crashed.status().snapshot, snapshot);
    assert_eq!((crashed.status().commit_index, crashed.last_applied()), (index(5), index(5)));
}

/// [IS6] What follows the snapshot in a log that agrees with it stays: it may be acknowledged
/// (L12).
#[test]
fn a_suffix_that_agrees_is_kept() {
    let log = [(1, 1), (2, 1), (3, 2), (4, 2), (5, 2), (6, 2), (7, 3)];
    let mut follower = installed(&log);
    assert_eq!(follower.log_ids(), [(6, 2), (7, 3)]);
    assert!(follower.take_write(usize::MAX).is_none(), "its journal has all of it");
    follower.step(LEADER, append(term(3)).after(5, 2).entries(&[(6, 2)]).round(1));
    assert_eq!(follower.log_ids(), [(6, 2), (7, 3)], "and it goes on behind it");
}

/// [IS7] A log that ends before the snapshot, or has something else there, is of no use. The
/// journal begins anew behind it.
#[test]
fn a_log_that_does_not_agree_is_discarded() {
    for log in [&[(1, 1)][..], &[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1)]] {
        let mut follower = installed(log);
        assert_eq!(follower.log_ids(), []);
        assert_eq!(follower.log().last(), at(5, 2), "its term is known (L12)");
        let write = follower.take_write(usize::MAX).expect("the journal is to begin anew");
        assert_eq!((write.base, write.entries.len()), (Some(snapshot(5, 2)), 0));
        follower.persisted(write.ticket);
        assert!(!follower.has_write());
    }
}

/// [IS7] What was being written when the snapshot came is part of what was discarded.
#[test]
fn a_write_under_way_proves_nothing_behind_the_snapshot() {
    let mut follower = server(2).in_term(3);
    follower.sync();
    let entries = [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1)];
    follower.step(LEADER, append(term(3)).entries(&entries));
    let write = follower.take_write(usize::MAX).expect("entries are to be written");
    for offset in [0, 1000, 2000] {
        follower.step(LEADER, install(term(3), at(4, 1), offset, 1000.min(2500 - offset)));
    }
    let (transfer, snapshot) = follower.store_parts().expect("all parts are there");
    follower.snapshot_installed(transfer, snapshot, 2500);
    follower.persisted(write.ticket);
    assert_eq!(follower.status().durable_index, index(4), "5 and 6 are written again");
    let write = follower.take_write(usize::MAX).expect("there is more");
    assert_eq!(write.base, Some(snapshot));
    assert_eq!(write.entries.iter().map(|entry| entry.id.index.0).collect::<Vec<_>>(), [5, 6]);
    follower.persisted(write.ticket);
    let acknowledged =
        |it: &Message| matches!(it, Message::AppendEntriesReply(it) if it.match_index == index(6));
    assert!(follower.sent(LEADER).iter().any(acknowledged));
}

/// [IS8] The state machine goes on from the snapshot, and then from what follows it, in order.
#[test]
fn the_state_machine_goes_on_from_the_snapshot() {
    let mut follower = installed(&[(1, 1)]);
    follower.step(LEADER, append(term(3)).after(5, 2).entries(&[(6, 3)]).leader_commit(6));
    let applies = follower.take_applies(usize::MAX);
    assert!(
        matches!(&applies[..], [Apply::Restore(first), Apply::Entry(next)]
            if *first == snapshot(5, 2) && next.id == at(6, 3)),
        "{applies:?}"
    );
    assert!(follower.take_applies(usize::MAX).is_empty());
}

/// A snapshot of what is committed here anyway changes nothing, and the leader learns that it may
/// go on (S82).
#[test]
fn an_old_snapshot_changes_nothing() {
    let log = [(1, 1), (2, 1), (3, 2), (4, 2), (5, 2), (6, 2)];
    let mut follower = server(2).with_log(&log).in_term(3);
    follower.step(LEADER, append(term(3)).after(6, 2).leader_commit(6));
    follower.take_applies(usize::MAX);
    follower.sync();
    assert_eq!(follower.append_reply(LEADER).match_index, index(6));
    follower.step(LEADER, install(term(3), at(5, 2), 0, 1000));
    assert!(follower.store_parts().is_none());
    assert_eq!(follower.append_reply(LEADER).match_index, index(6), "said again");
    assert_eq!(follower.log_ids(), log);
}

/// A snapshot that was complete when the term changed is as good as before: what it holds is
/// committed.
#[test]
fn a_snapshot_outlives_the_leader_that_sent_it() {
    let mut follower = about_to_install(&[(1, 1)]);
    let (transfer, snapshot) = follower.store_parts().expect("all parts are there");
    follower.step(N3, append(term(4)).round(1));
    follower.snapshot_installed(transfer, snapshot, 2500);
    assert_eq!(follower.log().last(), at(5, 2));
    follower.sync();
    assert_eq!(follower.append_reply(N3).match_index, index(5));
}

/// A leader that lost its term and won another sends the snapshot again that is being installed.
/// The second copy is not built, too (S82).
#[test]
fn a_snapshot_that_comes_again_is_installed_once() {
    let mut follower = about_to_install(&[(1, 1)]);
    let (transfer, snapshot) = follower.store_parts().expect("all parts are there");
    for offset in [0, 1000, 2000] {
        follower.step(LEADER, install(term(5), at(5, 2), offset, 1000.min(2500 - offset)));
    }
    assert!(follower.snapshot_installed(transfer, snapshot, 2500));
    assert!(follower.store_parts().is_none() && !follower.work().snapshot);
    follower.sync();
    assert_eq!(follower.append_reply(LEADER).match_index, index(5), "the leader is told so");
}

/// What a snapshot covers need not be on our own disk: a majority of others has it. It is still to
/// be written, so it is not forgotten (L13).
#[test]
fn only_what_is_on_disk_is_forgotten() {
    let mut follower = server(2).in_term(1);
    follower.sync();
    follower.step(LEADER, append(term(1)).entries(&[(1, 1), (2, 1)]).leader_commit(2));
    follower.take_snapshot();
    assert_eq!(follower.log_ids(), [(1, 1), (2, 1)]);
    let write = follower.take_write(usize::MAX).expect("entries are to be written");
    assert_eq!(write.entries.len(), 2);
}

/// A bounded tail of the log stays for followers that are a little behind; the rest goes.
#[test]
fn a_tail_of_the_log_is_kept() {
    let log: Vec<(u64, u64)> = (1..=20).map(|index| (index, 1)).collect();
    let mut leader = server(1)
        .with_log(&log)
        .with_options(|options| options.snapshots.tail_bytes = 5 * 40)
        .settled_leader();
    leader.take_snapshot();
    let kept = leader.log_ids().len();
    assert!((1..=6).contains(&kept), "{kept} entries of some 45 bytes are kept");
}

/// To free a large log takes a while, and nobody gets the lock meanwhile: it goes bit by bit. What
/// stands between is as good a beginning of the log as any.
#[test]
fn a_large_log_is_forgotten_tick_by_tick() {
    let log: Vec<(u64, u64)> = (1..=20).map(|index| (index, 1)).collect();
    let mut leader = server(1)
        .with_log(&log)
        .with_options(|options| options.snapshots.forget_entries_max = 8)
        .settled_leader();
    leader.take_snapshot();
    let newest = leader.log().last_index().0;
    let mut bases = vec![leader.log().base().index.0];
    for _ in 0..4 {
        leader.ticks(1);
        bases.push(leader.log().base().index.0);
    }
    assert_eq!(bases, [8, 16, newest, newest, newest]);
}

/// §7: a follower that needs what is gone is sent the snapshot, within a window, with heartbeats in
/// between; and then what follows it.
#[test]
fn a_follower_far_behind_is_sent_the_snapshot() {
    let mut leader = server(1)
        .with_log(&[(1, 1), (2, 1), (3, 1)])
        .with_options(|options| options.snapshots.window_bytes_max = 2000)
        .leader();
    commit_up_to(&mut leader, 4);
    let taken = leader.take_snapshot();
    assert_eq!(taken.last, at(4, 2));

    assert_eq!(leader.appends(N3)[0].prev, at(4, 2), "it may have all that is gone");
    leader.step(N3, reply(term(2)).mismatch(4, at(0, 0)));
    assert!(leader.tells(|event| matches!(event, Event::SendsSnapshot { follower: N3, .. })));
    assert_eq!(leader.parts(N3), [(0, 1000), (1000, 1000)], "the window is full");
    leader.ticks(2);
    let sent = leader.sent(N3);
    assert!(sent.iter().any(|it| matches!(it, Message::AppendEntries(_))), "a heartbeat goes on");
    leader.step(N3, install_reply(term(2), 4, 1000, false));
    assert_eq!(leader.parts(N3), [(2000, 500)]);
    leader.step(N3, install_reply(term(2), 4, 2500, false));
    assert_eq!(leader.parts(N3), []);

    leader.propose(command("x")).expect("it leads");
    assert!(leader.appends(N3).is_empty(), "it is not installed yet");
    leader.step(N3, reply(term(2)).matching(4));
    let appended = leader.appends(N3);
    assert_eq!((appended[0].prev, appended[0].entries.len()), (at(4, 2), 1));
}

/// A connection that breaks loses parts, and a follower that restarts has none: the leader goes on
/// from where the follower says it is.
#[test]
fn a_snapshot_is_resumed_where_the_follower_is() {
    let mut leader = sending_leader(0);
    assert_eq!(leader.parts(N3), [(0, 1000), (1000, 1000), (2000, 500)]);
    leader.step(N3, install_reply(term(2), 4, 1000, false));
    leader.link_renewed(N3);
    assert_eq!(leader.parts(N3), [(1000, 1000), (2000, 500)], "the rest again");
    leader.step(N3, install_reply(term(2), 4, 0, true));
    assert_eq!(leader.parts(N3), [(0, 1000), (1000, 1000), (2000, 500)], "all again");
    leader.step(N3, install_reply(term(2), 3, 2500, false));
    assert_eq!(leader.parts(N3), [], "an answer about another snapshot is old");
    leader.ticks(2);
    assert_eq!(leader.parts(N3), [(2500, 0)], "and it is asked");
}

/// S83: while a snapshot is under way the log behind it stays, or the follower would be sent
/// snapshots for ever; but only up to a bound.
#[test]
fn the_log_behind_a_snapshot_under_way_is_kept_up_to_a_bound() {
    for (bound, base) in [(1_000_000, 4), (0, 6)] {
        let mut leader = sending_leader(bound);
        leader.propose(command("x")).expect("it leads");
        leader.propose(command("y")).expect("it leads");
        commit_up_to(&mut leader, 6);
        leader.take_snapshot();
        assert_eq!(leader.log().base().index, index(base));
        assert_eq!(leader.snapshots_in_use().len(), 2, "the older file is still needed");
    }
}

/// S83: what is kept for a follower is decided with each snapshot, and not each time that some of
/// the log is forgotten: a follower that has just got an older one goes on behind that.
#[test]
fn the_log_behind_a_snapshot_is_kept_when_the_follower_has_got_it() {
    let mut leader = sending_leader(1_000_000);
    leader.propose(command("x")).expect("it leads");
    leader.propose(command("y")).expect("it leads");
    commit_up_to(&mut leader, 6);
    leader.take_snapshot();
    leader.step(N3, reply(term(2)).matching(4));
    assert_eq!(leader.snapshots_in_use().len(), 1, "it needs no file any more");
    leader.ticks(5);
    assert_eq!(leader.log().base().index, index(4), "but the log behind it");
}

/// A follower that has to begin again, because what came was damaged or its disk was full, gets the
/// newest: the leader's older file may be what is damaged, and would be for ever.
#[test]
fn who_begins_again_is_sent_the_newest() {
    let mut leader = sending_leader(1_000_000);
    assert_eq!(leader.parts(N3), [(0, 1000), (1000, 1000), (2000, 500)]);
    leader.step(N3, install_reply(term(2), 4, 2500, false));
    leader.propose(command("x")).expect("it leads");
    commit_up_to(&mut leader, 5);
    let newest = leader.take_snapshot();
    leader.ticks(2);
    assert_eq!(leader.parts(N3), [(2500, 0)], "it may be about to install the older one");
    leader.step(N3, install_reply(term(2), 4, 0, true));
    let sent = leader.sent(N3);
    let parts = sent.iter().filter_map(|message| match message {
        Message::InstallSnapshot(part) => Some((part.snapshot, part.offset_bytes)),
        _ => None,
    });
    assert_eq!(parts.collect::<Vec<_>>(), [0, 1000, 2000].map(|offset| (newest, offset)));
    // What it says of the older one from now on is old.
    leader.step(N3, install_reply(term(2), 4, 0, true));
    assert_eq!(leader.parts(N3), []);
    // All of the newest comes to nothing, too: another one is taken as soon as there is news.
    leader.step(N3, install_reply(term(2), 5, 2500, false));
    leader.propose(command("y")).expect("it leads");
    leader.sync();
    leader.sent(N2);
    leader.step(N2, reply(term(2)).matching(6));
    assert!(!freezes(&mut leader));
    leader.step(N3, install_reply(term(2), 5, 0, true));
    assert!(freezes(&mut leader));
}

/// A server that is down must not cost the leader its memory and its disk: when it comes back it is
/// sent what is newest then.
#[test]
fn nothing_is_kept_for_a_follower_that_is_down() {
    let mut leader = sending_leader(1_000_000);
    for _ in 0..25 {
        leader.tick();
        leader.step(N2, reply(term(2)).matching(4));
    }
    leader.propose(command("x")).expect("it leads");
    commit_up_to(&mut leader, 5);
    let newest = leader.take_snapshot();
    assert_eq!(leader.log().base().index, index(5));
    assert_eq!(leader.snapshots_in_use(), [newest]);
}

/// All up to `last` is on two disks, committed and handed out.
fn commit_up_to(leader: &mut Server, last: u64) {
    leader.sync();
    leader.sent(N2);
    leader.step(N2, reply(term(2)).matching(last));
    leader.take_applies(usize::MAX);
}

fn freezes(leader: &mut Server) -> bool {
    leader.take_applies(usize::MAX).iter().any(|apply| matches!(apply, Apply::Freeze(_)))
}

/// A leader whose log begins behind 4, and which is sending its snapshot to server 3. It keeps so
/// many bytes of log meanwhile.
fn sending_leader(catch_up_bytes_max: u64) -> Server {
    let mut leader = server(1)
        .with_log(&[(1, 1), (2, 1), (3, 1)])
        .with_options(|options| options.snapshots.catch_up_bytes_max = catch_up_bytes_max)
        .leader();
    commit_up_to(&mut leader, 4);
    leader.take_snapshot();
    leader.sent(N3);
    leader.step(N3, reply(term(2)).mismatch(4, at(0, 0)));
    leader
}

// ---- Handing over (diss. §3.10). ----

/// The successor is told to stand when it has all of the log, and not before: nobody would vote for
/// it. Meanwhile the log does not grow.
#[test]
fn a_successor_stands_when_it_has_the_whole_log() {
    let mut leader = server(1).settled_leader();
    leader.propose(command("x")).expect("it leads");
    leader.sync();
    assert_eq!(leader.transfer_leadership(Some(N2)), Ok(N2));
    assert_eq!(leader.propose(command("y")), Err(Refused::Transferring));
    let is_told = |leader: &mut Server, to: ServerId| {
        leader.sent(to).iter().any(|message| matches!(message, Message::TimeoutNow(_)))
    };
    assert!(!is_told(&mut leader, N2), "it lacks an entry");
    leader.step(N2, reply(term(1)).matching(2));
    assert!(is_told(&mut leader, N2));
    assert!(!is_told(&mut leader, N3));
}

/// A successor that does not take over must not keep its clients waiting for ever.
#[test]
fn a_hand_over_that_fails_is_given_up() {
    let mut leader = server(1).settled_leader();
    leader.transfer_leadership(None).expect("both followers are there");
    for _ in 0..21 {
        leader.tick();
        for peer in [N2, N3] {
            leader.step(peer, reply(term(1)).matching(1));
        }
    }
    assert!(leader.tells(|event| matches!(event, Event::HandoverFailed { .. })));
    assert!(leader.propose(command("y")).is_ok());
}

/// The successor asks at once, without a pre-vote, and those that hear the leader vote for it.
#[test]
fn a_successors_votes_are_not_withheld() {
    let mut successor = server(2).with_log(&[(1, 1)]);
    successor.step(LEADER, append(term(1)).after(1, 1).round(1));
    successor.step(LEADER, timeout_now(term(1)));
    successor.sync();
    let asked = successor.sent(N3);
    let [Message::TransferVote(request)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((request.term, request.last), (term(2), at(1, 1)));

    let mut voter = server(3).with_log(&[(1, 1)]);
    voter.step(LEADER, append(term(1)).after(1, 1).round(1));
    voter.send_all();
    voter.step(N2, request_vote(term(2), at(1, 1)));
    assert!(voter.sent(N2).is_empty(), "anybody else is not even answered");
    voter.step(N2, asked[0].clone());
    voter.sync();
    assert_eq!(voter.sent(N2), [vote(term(2))]);
}

/// Only the leader that is followed may say so.
#[test]
fn a_stranger_cannot_make_a_candidate() {
    let mut follower = server(2).with_log(&[(1, 1)]);
    follower.step(LEADER, append(term(1)).after(1, 1).round(1));
    follower.send_all();
    follower.step(N3, timeout_now(term(1)));
    assert_eq!((follower.status().term, follower.role_name()), (term(1), RoleName::Follower));
}

/// After which of the 30 entries behind `last` (of term 3, `last` of `last_term`) this server takes
/// its snapshots.
fn snapshots_taken(
    server: &mut Server,
    leader: ServerId,
    last: u64,
    mut last_term: u64,
) -> Vec<u64> {
    let mut taken = Vec::new();
    for number in last + 1..=last + 30 {
        let entries = append(term(3)).after(number - 1, last_term);
        last_term = 3;
        server.step(leader, entries.entries(&[(number, 3)]).leader_commit(number));
        server.sync();
        for apply in server.take_applies(usize::MAX) {
            if let Apply::Freeze(snapshot) = apply {
                server.snapshot_saved(snapshot, 2500);
                taken.push(snapshot.last.index.0);
            }
        }
    }
    taken
}

/// Servers hold the same log. They take turns, so that no majority is busy with a snapshot at once:
/// with the first one of an empty log, after one that somebody has asked for, and after one that a
/// leader has sent.
#[test]
fn servers_take_turns_with_their_snapshots() {
    let nine = |options: &mut Options| options.snapshots.log_entries_max = 9;
    let mut fresh = [(1, N3), (2, N1), (3, N1)]
        .map(|(id, leader)| (server(id).with_options(nine).in_term(3), leader));
    let taken = fresh.each_mut().map(|(server, leader)| snapshots_taken(server, *leader, 0, 0));
    assert_eq!(taken, [vec![9, 18, 27], vec![3, 12, 21, 30], vec![6, 15, 24]]);
    let mut restarted = [(1, N3), (2, N1), (3, N1)]
        .map(|(id, leader)| (server(id).with_options(nine).with_log(&[(1, 1)]).in_term(3), leader));
    let again = restarted.each_mut().map(|(server, leader)| snapshots_taken(server, *leader, 1, 1));
    assert_eq!(again, taken, "before the first one");
    let mut restored = [(1, N3), (2, N1), (3, N1)].map(|(id, leader)| {
        (server(id).with_options(nine).with_snapshot(5, 1, 2500).in_term(3), leader)
    });
    let taken = restored.each_mut().map(|(server, leader)| snapshots_taken(server, *leader, 5, 1));
    assert_eq!(taken, [vec![14, 23, 32], vec![8, 17, 26, 35], vec![11, 20, 29]]);
    let mut asked = [(1, N3), (2, N1), (3, N1)].map(|(id, leader)| {
        let mut server = server(id).with_options(nine).in_term(3);
        server.request_snapshot();
        (server, leader)
    });
    let taken = asked.each_mut().map(|(server, leader)| snapshots_taken(server, *leader, 0, 0));
    assert_eq!(taken, [vec![1, 10, 19, 28], vec![1, 4, 13, 22], vec![1, 7, 16, 25]]);
    let mut follower = server(2).with_options(nine).with_snapshot(1, 1, 2500).in_term(3);
    send_all_parts(&mut follower);
    let (transfer, snapshot) = follower.store_parts().expect("all parts are there");
    follower.snapshot_installed(transfer, snapshot, 2500);
    assert_eq!(snapshots_taken(&mut follower, LEADER, 5, 2), [8, 17, 26, 35], "5 and a third of 9");
}

/// A snapshot that was still being written when the leader's was installed comes too late to count.
#[test]
fn an_older_snapshot_of_our_own_leaves_the_turn_as_it_is() {
    let mut follower = server(2)
        .with_options(|options| options.snapshots.log_entries_max = 9)
        .with_log(&[(1, 1), (2, 2), (3, 2)])
        .in_term(3);
    follower.step(LEADER, append(term(3)).after(3, 2).leader_commit(3));
    let applies = follower.take_applies(usize::MAX);
    let Some(&Apply::Freeze(ours)) = applies.last() else { panic!("a third of 9") };
    send_all_parts(&mut follower);
    let (transfer, snapshot) = follower.store_parts().expect("all parts are there");
    follower.snapshot_installed(transfer, snapshot, 2500);
    follower.snapshot_saved(ours, 900);
    assert_eq!(snapshots_taken(&mut follower, LEADER, 5, 2), [8, 17, 26, 35]);
}
