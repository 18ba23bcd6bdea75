//! MULTI, WATCH, and versions.

use super::*;
use crate::limits::{REPLY_BYTES_MAX, TOMBSTONE_SPAN_ENTRIES, TOMBSTONES_MAX};

/// Every way in which a key can change and look as if it had not.
#[test]
fn a_watched_key_that_was_touched_aborts() {
    let expire = |key: &str, ms| Command::Expire {
        key: bytes(key),
        deadline: Deadline::In(ms),
        condition: ExpireCondition::Always,
    };
    let touches: [(&str, &str, Vec<Command>); 9] = [
        ("written", "k", vec![set("k", "2")]),
        ("written with the same value", "k", vec![set("k", "1")]),
        ("deleted", "k", vec![delete("k")]),
        ("deleted and created afresh", "k", vec![delete("k"), set("k", "1")]),
        ("flushed and created afresh", "k", vec![Command::Flush, set("k", "1")]),
        ("given a deadline", "k", vec![expire("k", 1000)]),
        ("created", "none", vec![set("none", "1")]),
        ("created and deleted", "none", vec![set("none", "1"), delete("none")]),
        ("created and flushed", "none", vec![set("none", "1"), Command::Flush]),
    ];
    for (what, key, commands) in touches {
        let mut server = Server::default();
        server.write(set("k", "1"));
        let watch = server.watch(key);
        assert!(server.clone().exec(&watch));
        commands.into_iter().for_each(|command| drop(server.write(command)));
        assert!(!server.exec(&watch), "{what}");
    }
}

/// As in Redis, to take a key's deadline away is a change; to take away what it has not is none.
#[test]
fn a_watched_key_that_was_made_to_stay_aborts() {
    let persist = || Command::Persist { key: bytes("k") };
    let keep = || Command::GetAndExpire { key: bytes("k"), expiry: Expiry::Never };
    for command in [persist, keep] {
        let mut server = Server::default();
        server.write(set_for("k", "1", 1000));
        let watch = server.watch("k");
        server.write(command());
        assert!(!server.exec(&watch));
        let watch = server.watch("k");
        server.write(command());
        assert!(server.exec(&watch));
    }
}

/// What did not touch the key does not abort, however much happened.
#[test]
fn a_watched_key_that_was_left_alone_does_not_abort() {
    let mut server = Server::default();
    server.write(set("k", "1"));
    server.write(set("gone", "1"));
    server.write(delete("gone"));
    let watches = ["k", "gone", "never"].map(|key| server.watch(key));
    server.write(set("other", "2"));
    server.write(delete("other"));
    server.write(delete("never"));
    server.write(Command::CompareAndSet { key: bytes("k"), old: bytes("2"), new: bytes("3") });
    server.write(Command::Persist { key: bytes("k") });
    server.tick(1_000_000);
    assert!(watches.iter().all(|watch| server.exec(watch)));
    server.write(Command::Flush);
    assert!(!server.exec(&watches[0]));
    assert!(server.exec(&watches[1]), "it was not there to be flushed");
    assert!(server.exec(&watches[2]));
}

/// To expire is no entry's doing, but who saw the key must not act as if it were there.
#[test]
fn expiry_between_watch_and_exec_is_noticed() {
    let mut server = Server::default();
    server.write(set_for("k", "1", 10)); // at 1: until 11
    let watch = server.watch("k");
    server.tick(10);
    assert!(!server.clone().exec(&watch), "EXEC's own stamp is the deadline");
    server.tick(11);
    let absent = server.watch("k");
    assert!(!server.exec(&watch), "expired");
    assert!(server.exec(&absent), "it was not there, and is not");
    server.write(set_for("k", "1", 10));
    assert!(!server.exec(&watch), "expired and created afresh");
    server.tick(1000);
    assert!(!server.exec(&absent), "created and expired");
}

/// A key that WATCH found expired, but that is still in memory, is taken out by a later entry:
/// nothing happened to it.
#[test]
fn the_removal_of_an_expired_key_is_no_change() {
    let (mut machine, mut changes) = (StateMachine::default(), Vec::new());
    let mut entry = machine.advance_to(1, 1, 0, &mut changes);
    machine.execute(&mut entry, set_for("k", "1", 1).into());
    machine.advance_to(2, 5, 0, &mut changes);
    let mut server = Server { machine, now_ms: 5, changes: Vec::new() };
    let watch = server.watch("k");
    assert!(!watch.existed);
    assert_eq!(server.machine.next_deadline_ms(), Some(2), "it is still there");

    let mut flushed = server.clone();
    let mut entry = flushed.machine.advance_to(3, 6, 0, &mut changes);
    flushed.machine.execute(&mut entry, Command::Flush.into());
    assert_eq!(flushed.machine.next_deadline_ms(), None);
    assert!(flushed.exec(&watch));

    assert!(server.exec(&watch));
    assert_eq!(server.machine.next_deadline_ms(), None, "the entry of EXEC has removed it");
    assert!(server.exec(&watch));
}

/// What has been forgotten must not pass for "nothing happened".
#[test]
fn a_watch_from_before_the_horizon_aborts() {
    let mut server = Server::default();
    server.write(set("k", "1"));
    let (missing, present) = (server.watch("missing"), server.watch("k"));
    server.write(set("missing", "1"));
    server.write(delete("missing"));
    let mut by_age = server.clone();
    for _ in 0..=TOMBSTONE_SPAN_ENTRIES {
        by_age.tick(1);
    }
    let mut by_number = server;
    for number in 0..TOMBSTONES_MAX.div_ceil(1000) {
        let key = |each: usize| bytes(&format!("{number}.{each}"));
        let pairs: Vec<_> = (0..1000).map(|each| (key(each), bytes(""))).collect();
        let keys = (0..1000).map(key).collect();
        by_number.write(Command::SetMany { pairs, if_absent: false });
        by_number.write(Command::Delete { keys });
    }
    for mut server in [by_age, by_number] {
        assert!(!server.exec(&missing));
        assert!(server.exec(&present), "a key that exists tells by itself");
        let recent = server.watch("missing");
        assert!(server.exec(&recent));
    }
}

/// IFVER is for the same purpose, one key at a time: a version never comes back.
#[test]
fn a_version_is_of_one_write_only() {
    let set_if = |version| Command::set(bytes("k"), bytes("v"), Condition::IfVersion(version));
    let mut server = Server::default();
    assert_eq!(server.write(set_if(1)), Outcome::Nothing, "it does not exist");
    assert_eq!(server.write(set_if(0)), Outcome::Done); // 2
    assert_eq!(server.write(set_if(0)), Outcome::Nothing, "it exists");
    let versioned = Outcome::List(vec![value("v"), Outcome::Integer(2)]);
    assert_eq!(server.ask(Query::GetVersioned { key: bytes("k") }), versioned);
    server.write(delete("k"));
    server.write(set("k", "v")); // 5
    assert_eq!(server.write(set_if(2)), Outcome::Nothing);
    assert_eq!(server.write(set_if(5)), Outcome::Done);
    server.write(set_for("k", "v", 5));
    server.tick(100);
    assert_eq!(server.write(set_if(7)), Outcome::Nothing, "it has expired");
    assert_eq!(server.write(set_if(0)), Outcome::Done);
}

/// One entry: the queries see what the commands before them did, and an operation that fails does
/// not undo the others.
#[test]
fn operations_follow_each_other_in_one_entry() {
    let mut server = Server::default();
    let operations = vec![
        Operation::Command(set("n", "x")),
        Operation::Command(increment("n")),
        Operation::Command(set("n", "1")),
        Operation::Command(increment("n")),
        Operation::Query(get("n")),
        Operation::Query(Query::Keys { pattern: bytes("*") }),
        Operation::Query(Query::AppliedIndex),
    ];
    let outcome = server.write(Write::Transaction { watches: Vec::new(), operations });
    let expected = vec![
        Outcome::Done,
        Outcome::NotInteger,
        Outcome::Done,
        Outcome::Integer(2),
        value("2"),
        Outcome::List(vec![value("n")]),
        Outcome::Integer(1),
    ];
    assert_eq!(outcome, Outcome::List(expected));
    let told = Change { index: 1, key: bytes("n"), value: Some(bytes("2")) };
    assert_eq!(server.changes, [told], "watchers see what the entry left");
}

/// S76: a few bytes of questions can ask for gigabytes. The answers are bounded, and what was to be
/// done is done.
#[test]
fn the_answers_of_a_transaction_are_bounded() {
    let mut server = Server::default();
    let large = Bytes::from(vec![b'x'; 1024 * 1024]);
    server.write(Command::set(bytes("k"), large.clone(), Condition::Always));
    let fitting = REPLY_BYTES_MAX / large.len();
    let mut operations = vec![Operation::Query(get("k")); fitting + 1];
    operations.push(Operation::Command(Command::GetAndDelete { key: bytes("k") }));
    operations.push(Operation::Query(get("k")));
    let Outcome::List(list) = server.write(Write::Transaction { watches: Vec::new(), operations })
    else {
        panic!("it takes place");
    };
    let too_big = Outcome::ReplyTooBig { bytes_max: REPLY_BYTES_MAX };
    assert!(list[..fitting].iter().all(|outcome| *outcome == Outcome::Value(large.clone())));
    assert_eq!(
        list[fitting..],
        [too_big.clone(), too_big, Outcome::Nothing],
        "GETDEL has deleted it"
    );
}

/// The applier has nobody to hand a long question to in the middle of an entry.
#[test]
fn the_keys_that_a_transaction_looks_at_are_bounded() {
    let mut server = Server::default();
    for number in 0..6000 {
        server.write(set(&number.to_string(), "v"));
    }
    let keys = || Operation::Query(Query::Keys { pattern: bytes("*x") });
    let scan = Query::Scan { cursor: 0, pattern: None, count: 10 };
    let operations = vec![keys(), keys(), keys(), Operation::Query(scan)];
    let Outcome::List(list) = server.write(Write::Transaction { watches: Vec::new(), operations })
    else {
        panic!("it takes place");
    };
    assert_eq!(list[0], Outcome::List(Vec::new()));
    assert!(list[1..3].iter().all(|outcome| matches!(outcome, Outcome::TooMany { .. })));
}
