//! Keys with deadlines.

use super::*;
use crate::limits::{EXPIRED_PER_CLOCK_ENTRY_MAX, EXPIRED_PER_ENTRY_MAX};

fn ttl(server: &mut Server, key: &str, now_ms: u64, format: DeadlineFormat) -> Outcome {
    server.machine.query(&Query::TimeToLive { key: bytes(key), format }, now_ms, REPLY_BYTES_MAX)
}

/// The clock is that of the log: it is the stamp of the entry that decides, and the same one for
/// the write and for what it finds.
#[test]
fn a_key_is_absent_from_its_deadline_on() {
    let mut server = Server::default();
    server.write(set_for("k", "v", 100)); // at 1: until 101
    server.tick(100);
    assert_eq!(server.ask(get("k")), value("v"));
    server.tick(101);
    assert_eq!(server.ask(get("k")), Outcome::Nothing);
    assert_eq!(server.ask(Query::Count), Outcome::Integer(0));
    let gone = Change { index: 3, key: bytes("k"), value: None };
    assert_eq!(server.changes.last(), Some(&gone));
}

/// A leader whose clock is behind must not bring keys back, nor make them live longer than said.
#[test]
fn time_does_not_go_back() {
    let mut server = Server::default();
    server.tick(1000);
    server.now_ms = 10;
    server.write(set_for("k", "v", 5)); // counts from 1000, not from 11
    assert_eq!(server.machine.clock_ms(), 1000);
    assert_eq!(server.machine.next_deadline_ms(), Some(1005));
    server.tick(500);
    assert_eq!(server.ask(get("k")), value("v"));
    server.tick(1005);
    assert_eq!(server.ask(get("k")), Outcome::Nothing);
}

/// A million keys with one deadline must not stop the server: they are absent at once, and leave
/// the memory a few per entry.
#[test]
fn expired_keys_are_absent_at_once_and_removed_a_few_at_a_time() {
    let mut server = Server::default();
    let count = EXPIRED_PER_CLOCK_ENTRY_MAX + EXPIRED_PER_ENTRY_MAX + 10;
    let set_at = |key: String| Command::Set {
        key: bytes(&key),
        value: bytes("v"),
        condition: Condition::Always,
        expiry: Expiry::Set(Deadline::At(1_000_000)),
        answer: SetAnswer::Done,
    };
    for number in 0..count {
        server.write(set_at(format!("k{number:05}")));
    }
    server.write(set("z", "stays"));
    server.changes.clear();
    server.tick(1_000_000);
    assert_eq!(server.changes.len(), EXPIRED_PER_CLOCK_ENTRY_MAX);
    assert_eq!(server.ask(Query::Count), Outcome::Integer(1));
    assert_eq!(server.machine.next_deadline_ms(), Some(1_000_000), "there is more to remove");

    // One that is overdue and still in memory is gone for everybody.
    let last = format!("k{:05}", count - 1);
    assert_eq!(server.ask(get(&last)), Outcome::Nothing);
    assert_eq!(server.ask(Query::Exists { keys: vec![bytes(&last)] }), Outcome::Integer(0));
    let range = Query::Range { from: bytes("k"), to: None, pairs_max: 5 };
    assert_eq!(server.ask(range), Outcome::List(vec![value("z"), value("stays")]));
    assert_eq!(server.ask(Query::Keys { pattern: bytes("*") }), Outcome::List(vec![value("z")]));

    server.changes.clear();
    assert_eq!(server.write(delete(&last)), Outcome::Integer(0));
    assert_eq!(server.changes.len(), EXPIRED_PER_ENTRY_MAX);
    server.write(increment(&last));
    assert_eq!(server.ask(get(&last)), value("1"), "it begins at nothing, not at the old value");
    assert_eq!(ttl(&mut server, &last, 0, DeadlineFormat::Seconds), Outcome::Integer(-1));
    assert_eq!(server.machine.next_deadline_ms(), None);
    assert_eq!(server.ask(Query::Count), Outcome::Integer(2));
    server.machine.store.check();
}

/// Redis rounds to the nearest second, and so a key set for 10 s shows 10 and not 9.
#[test]
fn the_time_left_is_counted_from_now_and_never_below_zero() {
    let mut server = Server::default();
    server.tick(999);
    server.write(set_for("k", "v", 10_000)); // at 1000: until 11000
    for (now_ms, seconds, ms) in
        [(1000, 10, 10_000), (1500, 10, 9500), (1501, 9, 9499), (10_999, 0, 1), (99_999, 0, 0)]
    {
        let mut shown = |format| ttl(&mut server, "k", now_ms, format);
        assert_eq!(shown(DeadlineFormat::Seconds), Outcome::Integer(seconds), "at {now_ms}");
        assert_eq!(shown(DeadlineFormat::Milliseconds), Outcome::Integer(ms));
        assert_eq!(shown(DeadlineFormat::UnixSeconds), Outcome::Integer(11));
        assert_eq!(shown(DeadlineFormat::UnixMilliseconds), Outcome::Integer(11_000));
    }
    let before_the_clock = ttl(&mut server, "k", 0, DeadlineFormat::Milliseconds);
    assert_eq!(before_the_clock, Outcome::Integer(10_000), "an estimate behind is no estimate");
    assert_eq!(ttl(&mut server, "none", 0, DeadlineFormat::Seconds), Outcome::Integer(-2));
}

/// As in Redis: a deadline in the past does what it says, at once.
#[test]
fn a_deadline_in_the_past_leaves_no_key() {
    let expire = |deadline| Command::Expire {
        key: bytes("k"),
        deadline,
        condition: ExpireCondition::Always,
    };
    for past in [Deadline::In(0), Deadline::In(-1), Deadline::In(i64::MIN), Deadline::At(50)] {
        let mut server = Server::default();
        server.tick(100);
        server.write(set("k", "v"));
        assert_eq!(server.write(expire(Deadline::In(i64::MAX))), Outcome::BadDeadline);
        let version = server.machine.store.get(&bytes("k")).map(|found| found.version);
        assert_eq!(version, Some(2), "what is refused leaves no trace");
        assert_eq!(server.write(expire(past)), Outcome::Integer(1));
        assert_eq!(server.ask(get("k")), Outcome::Nothing);
        let index = server.machine.applied_index();
        assert_eq!(server.changes.last(), Some(&Change { index, key: bytes("k"), value: None }));
        assert_eq!(server.write(set_for("k", "v", 0)), Outcome::Done);
        assert_eq!(server.ask(get("k")), Outcome::Nothing);
    }
}

/// What makes a new value ends the old one's deadline; what works on the old value keeps it.
#[test]
fn some_commands_keep_the_deadline() {
    let key = || bytes("k");
    let keeping: [Command; 4] = [
        increment("k"),
        Command::Append { key: key(), value: bytes("1"), value_bytes_max: 9 },
        Command::CompareAndSet { key: key(), old: bytes("1"), new: bytes("2") },
        Command::Set {
            key: key(),
            value: bytes("2"),
            condition: Condition::Always,
            expiry: Expiry::Keep,
            answer: SetAnswer::Done,
        },
    ];
    let clearing = [
        set("k", "1"),
        Command::SetMany { pairs: vec![(key(), bytes("2"))], if_absent: false },
        Command::Persist { key: key() },
        Command::GetAndExpire { key: key(), expiry: Expiry::Never },
    ];
    for (commands, deadline) in [(keeping, Some(101)), (clearing, None)] {
        for command in commands {
            let mut server = Server::default();
            server.write(set_for("k", "1", 100));
            server.write(command.clone());
            assert_eq!(server.machine.next_deadline_ms(), deadline, "{command}");
        }
    }
}
