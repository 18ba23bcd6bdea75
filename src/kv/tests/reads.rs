//! Values: what they may be, and how much of them is answered at once.

use super::*;
use crate::limits::{
    FLUSHED_KEYS_MAX, QUERY_WORK_MAX, RANGE_BYTES_MAX, RANGE_PAIRS_MAX, REPLY_BYTES_MAX,
    VALUE_BYTES_MAX,
};

/// S99: all servers must agree on what a number is and where it ends.
#[test]
fn integers_are_canonical_and_do_not_wrap() {
    for text in ["0", "7", "-7", "9223372036854775807", "-9223372036854775808"] {
        assert_eq!(parse_integer(text.as_bytes()), text.parse().ok(), "{text}");
    }
    let not_integers = ["", "-", "-0", "00", "07", "-07", "+7", " 7", "7 ", "7\n", "1e3", "0x7"];
    let too_big = ["9223372036854775808", "-9223372036854775809", "99999999999999999999"];
    for text in not_integers.iter().chain(&too_big) {
        assert_eq!(parse_integer(text.as_bytes()), None, "{text:?}");
    }

    let mut server = Server::default();
    let mut add = |delta| {
        let outcome = server.write(Command::Increment { key: bytes("n"), delta });
        (outcome, server.machine.store.get(&bytes("n")).map(|found| found.version))
    };
    assert_eq!(add(i64::MAX), (Outcome::Integer(i64::MAX), Some(1)));
    assert_eq!(add(1), (Outcome::Overflow, Some(1)), "a refused increment leaves no trace");
    assert_eq!(add(i64::MIN), (Outcome::Integer(-1), Some(3)));
    assert_eq!(add(i64::MIN), (Outcome::Overflow, Some(3)));
    server.write(set("n", "07"));
    assert_eq!(server.write(increment("n")), Outcome::NotInteger);
}

/// The bound holds where values grow, not only where they arrive.
#[test]
fn append_stops_at_the_largest_value() {
    let mut server = Server::default();
    let append = |length| Command::Append {
        key: bytes("k"),
        value: Bytes::from(vec![b'x'; length]),
        value_bytes_max: VALUE_BYTES_MAX as u64,
    };
    let max = VALUE_BYTES_MAX as i64;
    assert_eq!(server.write(append(VALUE_BYTES_MAX - 1)), Outcome::Integer(max - 1));
    assert_eq!(server.write(append(1)), Outcome::Integer(max));
    let too_big = Outcome::TooBig { bytes: VALUE_BYTES_MAX + 1, bytes_max: VALUE_BYTES_MAX };
    assert_eq!(server.write(append(1)), too_big);
    assert_eq!(server.machine.store.get(&bytes("k")).map(|found| found.version), Some(2));
}

/// SETRANGE fills what is missing with zeros, up to the same bound, and keeps the time to live.
#[test]
fn a_part_is_written_over_a_value() {
    let mut server = Server::default();
    let set_range = |offset, value: &str| Command::SetRange {
        key: bytes("k"),
        offset,
        value: bytes(value),
        value_bytes_max: 8,
    };
    assert_eq!(server.write(set_range(3, "")), Outcome::Integer(0));
    assert_eq!(server.ask(get("k")), Outcome::Nothing, "nothing is written");
    assert_eq!(server.write(set_range(2, "ab")), Outcome::Integer(4));
    assert_eq!(server.ask(get("k")), value("\0\0ab"));
    assert_eq!(server.write(set_range(3, "cdefg")), Outcome::Integer(8));
    let too_big = Outcome::TooBig { bytes: 9, bytes_max: 8 };
    assert_eq!(server.write(set_range(4, "hijkl")), too_big);
    let too_big = Outcome::TooBig { bytes: usize::MAX, bytes_max: 8 };
    assert_eq!(server.write(set_range(u64::MAX, "x")), too_big);
    server.write(set_for("k", "abc", 1000));
    assert_eq!(server.write(set_range(1, "x")), Outcome::Integer(3));
    assert_eq!(server.ask(get("k")), value("axc"));
    let deadline_ms = server.machine.store.get(b"k").and_then(|found| found.deadline_ms);
    assert!(deadline_ms.is_some(), "as APPEND does");
}

/// RENAME and COPY take the time to live along, and lose nothing when the two keys are one.
#[test]
fn a_value_moves_with_its_deadline() {
    let mut server = Server::default();
    let rename = |key: &str, new_key: &str, if_absent| Command::Rename {
        key: bytes(key),
        new_key: bytes(new_key),
        if_absent,
    };
    let copy = |replace| Command::Copy { key: bytes("b"), new_key: bytes("a"), replace };
    let found = |server: &Server, key: &str| server.machine.store.get(key.as_bytes()).cloned();
    server.write(set_for("a", "1", 1000));
    let deadline_ms = found(&server, "a").and_then(|found| found.deadline_ms);
    assert_eq!(server.write(rename("x", "a", false)), Outcome::NoSuchKey);
    assert_eq!(server.write(rename("a", "a", false)), Outcome::Done);
    assert_eq!(server.write(rename("a", "a", true)), Outcome::Integer(0));
    assert_eq!(server.ask(get("a")), value("1"));

    server.changes.clear();
    assert_eq!(server.write(rename("a", "b", true)), Outcome::Integer(1));
    let told: Vec<_> = server.changes.iter().map(|it| (&it.key[..], it.value.is_some())).collect();
    assert_eq!(told, [(b"a".as_slice(), false), (b"b".as_slice(), true)], "who watches sees both");
    assert_eq!(server.ask(get("a")), Outcome::Nothing);
    assert_eq!(found(&server, "b").and_then(|found| found.deadline_ms), deadline_ms);

    assert_eq!(server.write(copy(false)), Outcome::Integer(1));
    assert_eq!(found(&server, "a").and_then(|found| found.deadline_ms), deadline_ms);
    server.write(set("b", "2"));
    assert_eq!(server.write(copy(false)), Outcome::Integer(0));
    assert_eq!(server.write(rename("b", "a", true)), Outcome::Integer(0));
    assert_eq!(server.ask(get("a")), value("1"));
    assert_eq!(server.write(copy(true)), Outcome::Integer(1));
    let copied = found(&server, "a").map(|found| (found.value, found.deadline_ms));
    assert_eq!(copied, Some((bytes("2"), None)));
    server.machine.store.check();
}

/// Who has been given the old value keeps it.
#[test]
fn append_changes_no_value_that_was_told() {
    let append = Command::Append {
        key: bytes("k"),
        value: bytes(&["x"; 30].concat()),
        value_bytes_max: 1000,
    };
    let mut server = Server::default();
    server.write(append.clone());
    let Outcome::Value(old) = server.ask(get("k")) else { panic!("it exists") };
    server.write(append);
    assert_eq!(old, bytes(&["x"; 30].concat()));
    assert_eq!(server.ask(Query::Length { key: bytes("k") }), Outcome::Integer(60));
}

/// A reply is measured before it takes memory (S76).
#[test]
fn large_replies_are_refused_or_end_early() {
    let mut server = Server::default();
    let half = Bytes::from(vec![b'x'; RANGE_BYTES_MAX / 2]);
    for key in ["a", "b", "c"] {
        server.write(Command::set(bytes(key), half.clone(), Condition::Always));
    }
    let range = |server: &mut Server, from: &str, to: Option<&str>, pairs_max| {
        let query = Query::Range { from: bytes(from), to: to.map(bytes), pairs_max };
        match server.ask(query) {
            Outcome::List(list) => list.len() / 2,
            other => panic!("a range is a list, not {other:?}"),
        }
    };
    assert_eq!(range(&mut server, "", None, 10), 1, "two would be a few bytes too many");
    assert_eq!(range(&mut server, "b", Some("b"), 10), 0);
    assert_eq!(range(&mut server, "c", Some("a"), 10), 0);
    assert_eq!(range(&mut server, "", None, 0), 0);

    let mut mget = |keys| server.ask(Query::GetMany { keys: vec![bytes("a"); keys] });
    let keys_max = REPLY_BYTES_MAX / half.len();
    assert!(matches!(mget(keys_max), Outcome::List(list) if list.len() == keys_max));
    assert_eq!(mget(keys_max + 1), Outcome::ReplyTooBig { bytes_max: REPLY_BYTES_MAX });

    for number in 0..RANGE_PAIRS_MAX + 1 {
        server.write(set(&format!("d{number}"), ""));
    }
    assert_eq!(range(&mut server, "d", None, usize::MAX), RANGE_PAIRS_MAX);
}

/// A range smaller than its first pair still makes progress.
#[test]
fn a_range_returns_at_least_one_pair() {
    let mut server = Server::default();
    server.write(set("k", &"x".repeat(VALUE_BYTES_MAX)));
    let query = Query::Range { from: bytes(""), to: None, pairs_max: 10 };
    assert!(matches!(server.ask(query), Outcome::List(list) if list.len() == 2));
}

/// One server's setting bounds each of its answers, whatever the question.
#[test]
fn no_answer_is_longer_than_it_may_be() {
    let mut server = Server::default();
    for key in ["ab", "ac", "ad"] {
        server.write(set(key, "12345678"));
    }
    let all = || bytes("*");
    let list = |count: usize| Query::GetMany { keys: vec![bytes("ab"); count] };
    let prefix = Query::Range { from: bytes("a"), to: None, pairs_max: 10 };
    let ask = |query: &Query, reply_bytes_max| match server.machine.query(query, 0, reply_bytes_max)
    {
        Outcome::Frozen(frozen) => frozen.answer(),
        outcome => outcome,
    };
    for (query, bytes) in [
        (Query::Get { key: bytes("ab") }, 8),
        (Query::GetVersioned { key: bytes("ab") }, 8),
        (Query::GetRange { key: bytes("ab"), start: 0, end: 4 }, 5),
        (list(3), 24),
        (Query::Scan { cursor: 0, pattern: Some(all()), count: 10 }, 7), // and the cursor
        (Query::Keys { pattern: all() }, 6),
        (Query::Echo { message: Some(all()) }, 1),
    ] {
        let fitting = ask(&query, bytes);
        assert_eq!(fitting.bytes(), bytes, "{query:?}");
        let too_big = Outcome::ReplyTooBig { bytes_max: bytes - 1 };
        assert_eq!(ask(&query, bytes - 1), too_big, "{query:?}");
    }
    // RANGE answers less instead.
    assert_eq!(ask(&prefix, 30).bytes(), 30);
    assert_eq!(ask(&prefix, 29).bytes(), 20);
}

/// Overdue keys are nobody's, but looking past a million of them takes long: another thread does.
#[test]
fn a_range_behind_many_overdue_keys_is_answered_elsewhere() {
    let (mut machine, mut changes) = (StateMachine::default(), Vec::new());
    let mut entry = machine.advance_to(1, 1, 0, &mut changes);
    for number in 0..QUERY_WORK_MAX {
        machine.execute(&mut entry, set_for(&number.to_string(), "v", 1).into());
    }
    machine.execute(&mut entry, set("z", "v").into());
    machine.advance_to(2, 10, 0, &mut changes);
    let query = Query::Range { from: bytes(""), to: None, pairs_max: 1 };
    let Outcome::Frozen(frozen) = machine.query(&query, 0, REPLY_BYTES_MAX) else {
        panic!("it takes long")
    };
    assert_eq!(frozen.answer(), Outcome::List(vec![value("z"), value("v")]));
}

/// As Redis: both ends included, counted from the end if negative, and cut to what is there.
#[test]
fn a_part_of_a_value_is_cut_to_what_there_is() {
    let mut server = Server::default();
    server.write(set("k", "This is a string"));
    for (start, end, part) in [
        (0, 3, "This"),
        (-3, -1, "ing"),
        (0, -1, "This is a string"),
        (10, 100, "string"),
        (i64::MIN, i64::MAX, "This is a string"),
        (5, 3, ""),
        (16, 20, ""),
        (-1, -5, ""),
        (0, i64::MIN, ""),
    ] {
        let query = Query::GetRange { key: bytes("k"), start, end };
        assert_eq!(server.ask(query), value(part), "{start} {end}");
    }
    assert_eq!(server.ask(Query::GetRange { key: bytes("-"), start: 0, end: -1 }), value(""));
}

/// A byte of a value must not keep the whole of it: nobody who counts bytes would see that, and
/// each APPEND behind it would have to copy.
#[test]
fn a_part_of_a_value_does_not_hold_on_to_all_of_it() {
    let mut server = Server::default();
    let value = Bytes::from(vec![b'x'; 1000]);
    server.write(Command::set(bytes("k"), value, Condition::Always));
    let range = |end| Query::GetRange { key: bytes("k"), start: 0, end };
    let all = server.machine.store.get(b"k").expect("it was set").value.as_ptr_range();
    for end in [9, 899] {
        let Outcome::Value(part) = server.ask(range(end)) else { panic!("a part") };
        assert!(!all.contains(&part.as_ptr()));
    }
}

/// Every server stops for as long as a FLUSHALL takes.
#[test]
fn a_flush_is_bounded() {
    let mut server = Server::default();
    for number in 0..FLUSHED_KEYS_MAX {
        server.write(set(&number.to_string(), "v"));
    }
    let mut one_more = server.clone();
    one_more.write(set("one more", "v"));
    let refused = Outcome::TooMany { keys_max: FLUSHED_KEYS_MAX };
    assert_eq!(one_more.write(Command::Flush), refused);
    assert_eq!(one_more.ask(Query::Count), Outcome::Integer(FLUSHED_KEYS_MAX as i64 + 1));
    // ONCE remembers also this answer, and it has its share in the hash and in a snapshot.
    let once = Write::Once { client: bytes("ana"), sequence: 1, command: Command::Flush };
    assert_eq!(one_more.write(once.clone()), refused);
    assert_eq!(one_more.machine.state_hash(), one_more.machine.recomputed_hash());
    one_more.machine = snapshot::reread(&one_more.machine);
    assert_eq!(one_more.write(once), refused);
    assert_eq!(server.write(Command::Flush), Outcome::Done);
    assert_eq!(server.ask(Query::Count), Outcome::Integer(0));
}
