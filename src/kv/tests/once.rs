//! Clients that number their commands.

use super::*;
use crate::kv::once::OnceTable;
use crate::limits::{
    ONCE_ANSWERS_BYTES_MAX, ONCE_ANSWERS_MAX, ONCE_BYTES_MAX, ONCE_CLIENTS_MAX, ONCE_IDLE_MS_MAX,
};

fn once(client: &str, sequence: u64, command: Command) -> Write {
    Write::Once { client: bytes(client), sequence, command }
}

/// S71: the second attempt gets the first one's answer, through whichever server it comes.
#[test]
fn a_number_is_executed_once_and_answered_as_often_as_asked() {
    let mut server = Server::default();
    for _ in 0..3 {
        assert_eq!(server.write(once("ana", 1, increment("n"))), Outcome::Integer(1));
    }
    assert_eq!(server.write(once("ana", 2, increment("n"))), Outcome::Integer(2));
    assert_eq!(server.write(once("ana", 1, increment("n"))), Outcome::Integer(1), "no restart");
    assert_eq!(server.write(once("bob", 1, increment("n"))), Outcome::Integer(3));
    // What was not executed because of the value is an answer, too, and stays it.
    server.write(set("n", "x"));
    assert_eq!(server.write(once("ana", 3, increment("n"))), Outcome::NotInteger);
    server.write(set("n", "7"));
    assert_eq!(server.write(once("ana", 3, increment("n"))), Outcome::NotInteger);
    assert_eq!(server.ask(get("n")), value("7"));
}

/// Whatever we are not sure about is not executed.
#[test]
fn gaps_strangers_and_the_forgotten_are_refused() {
    let mut server = Server::default();
    assert_eq!(server.write(once("ana", 2, increment("n"))), Outcome::OnceUnknownClient);
    assert_eq!(server.write(once("ana", 0, increment("n"))), Outcome::OnceUnknownClient);
    server.write(once("ana", 1, increment("n")));
    assert_eq!(server.write(once("ana", 3, increment("n"))), Outcome::OnceGap { expected: 2 });
    let many = ONCE_ANSWERS_MAX as u64 + 1;
    for sequence in 2..=many {
        server.write(once("ana", sequence, increment("n")));
    }
    let forgotten = Outcome::OnceForgotten { last: many };
    assert_eq!(server.write(once("ana", 1, increment("n"))), forgotten);
    assert_eq!(server.machine.state_hash(), server.machine.recomputed_hash());
    assert_eq!(server.write(once("ana", 2, increment("n"))), Outcome::Integer(2));
    assert_eq!(server.write(once("ana", 0, increment("n"))), forgotten);
    assert_eq!(server.ask(get("n")), Outcome::Value(bytes(&many.to_string())));
}

/// A day of log time counts from the last time that the client was heard, also with a repetition.
#[test]
fn an_idle_client_is_forgotten_after_a_day() {
    let mut server = Server::default();
    server.write(once("ana", 1, increment("n"))); // at 1
    server.now_ms = 99;
    server.write(once("ana", 1, increment("n"))); // at 100
    server.tick(99 + ONCE_IDLE_MS_MAX);
    let mut late = server.clone();
    assert_eq!(late.machine.once, server.machine.once);
    late.tick(100 + ONCE_IDLE_MS_MAX);
    assert_eq!(late.write(once("ana", 2, increment("n"))), Outcome::OnceUnknownClient);
    assert_eq!(late.machine.once, OnceTable::default());
    server.now_ms = 0; // the stamp of a clock that is behind: time does not go back
    assert_eq!(server.write(once("ana", 2, increment("n"))), Outcome::Integer(2));
}

/// Names cost nothing, so anybody could invent them without end.
#[test]
fn beyond_the_bound_the_idlest_client_is_forgotten() {
    let mut table = OnceTable::default();
    let mut index = 0;
    let mut use_it = |table: &mut OnceTable, name: &str, sequence: u64, answer: &Outcome| {
        index += 1;
        let found = table.look_up(index, 0, &bytes(name), sequence);
        if found.is_none() {
            table.remember(index, 0, bytes(name), answer);
        }
        found
    };
    for number in 0..ONCE_CLIENTS_MAX {
        assert_eq!(use_it(&mut table, &number.to_string(), 1, &Outcome::Done), None);
    }
    assert_eq!(use_it(&mut table, "0", 1, &Outcome::Done), Some(Outcome::Done));
    assert_eq!(use_it(&mut table, "one more", 1, &Outcome::Done), None);
    let unknown = Some(Outcome::OnceUnknownClient);
    assert_eq!(use_it(&mut table, "1", 2, &Outcome::Done), unknown);
    assert_eq!(use_it(&mut table, "0", 2, &Outcome::Done), None, "it was used since");

    // Bytes are bounded, too, per client and in all; but the newest answer is never given up.
    let large = Outcome::Value(Bytes::from(vec![b'x'; ONCE_ANSWERS_BYTES_MAX]));
    for sequence in 1..=3 {
        assert_eq!(use_it(&mut table, "large", sequence, &large), None);
    }
    assert_eq!(use_it(&mut table, "large", 3, &large), Some(large.clone()));
    let forgotten = Outcome::OnceForgotten { last: 3 };
    assert_eq!(use_it(&mut table, "large", 2, &large), Some(forgotten));
    let mut summed_up = table.clone();
    summed_up.sum_up();
    assert_eq!(table, summed_up, "the sums that are kept are those that would be computed");
    for number in 0..=ONCE_BYTES_MAX / ONCE_ANSWERS_BYTES_MAX {
        use_it(&mut table, &format!("large {number}"), 1, &large);
    }
    assert_eq!(use_it(&mut table, "large", 4, &large), unknown);
    let last = format!("large {}", ONCE_BYTES_MAX / ONCE_ANSWERS_BYTES_MAX);
    assert_eq!(use_it(&mut table, &last, 1, &large), Some(large));
}
