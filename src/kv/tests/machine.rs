//! Entries: each once, in order, and all of them in the hash.

use super::*;

fn request(serial: u64) -> RequestId {
    RequestId { server: 1, incarnation: 1, serial }
}

fn stamped(request: RequestId, write: impl Into<Write>) -> ByteView {
    let mut bytes = encoding::encode(&write.into());
    encoding::stamp(&mut bytes, request, 1);
    bytes
}

fn apply(machine: &mut StateMachine, index: u64, bytes: &ByteView) -> Applied {
    machine.apply(index, 0, bytes, &mut Vec::new())
}

/// S71: the same request twice in the log counts once, and the second entry answers nobody.
#[test]
fn a_command_that_is_in_the_log_twice_is_executed_once() {
    let mut machine = StateMachine::default();
    let bytes = stamped(request(1), increment("n"));
    let first = apply(&mut machine, 1, &bytes);
    assert_eq!(first, Applied { request: request(1), outcome: Some(Outcome::Integer(1)) });
    let second = apply(&mut machine, 2, &bytes);
    assert_eq!(second, Applied { request: request(1), outcome: None });
    let other = RequestId { server: 2, ..request(1) };
    machine.apply_nothing(3, 0, &mut Vec::new());
    let third = apply(&mut machine, 4, &stamped(other, increment("n")));
    assert_eq!(third.outcome, Some(Outcome::Integer(2)));
    assert_eq!(machine.applied_index(), 4);
}

/// An entry left out or applied twice makes servers diverge for ever: better no server than that.
#[test]
#[should_panic(expected = "entries are applied in order, each once")]
fn an_entry_cannot_be_skipped() {
    apply(&mut StateMachine::default(), 2, &stamped(request(1), increment("n")));
}

/// Ignoring bytes that one version cannot read, and another can, would make servers diverge.
#[test]
#[should_panic(expected = "the committed entry 1 cannot be executed")]
fn bytes_that_nobody_checked_are_not_ignored() {
    apply(&mut StateMachine::default(), 1, &ByteView::from(b"not a command"));
}

/// Every part of the state has its share in the hash.
#[test]
fn different_states_have_different_hashes() {
    let other_server = RequestId { server: 2, ..request(1) };
    let once =
        |client: &str, sequence, command| Write::Once { client: bytes(client), sequence, command };
    let writes: [(RequestId, u64, Write); 11] = [
        (request(1), 0, set("ab", "c").into()),
        (request(1), 0, set("a", "bc").into()),
        (request(2), 0, set("a", "bc").into()),
        (other_server, 0, set("a", "bc").into()),
        (request(1), 1, set("a", "bc").into()),
        (request(1), 0, set_for("a", "bc", 1).into()),
        (request(1), 0, set_for("a", "bc", 2).into()),
        (request(1), 0, set_for("a", "bc", 0).into()), // leaves a tombstone and nothing else
        (request(1), 0, set_for("b", "bc", 0).into()),
        (request(1), 0, once("x", 1, set("a", "bc"))),
        (request(1), 0, once("y", 1, set("a", "bc"))),
    ];
    let mut machines = vec![StateMachine::default()];
    for (request, stamp_ms, write) in writes {
        let mut machine = StateMachine::default();
        machine.apply(1, stamp_ms, &stamped(request, write), &mut Vec::new());
        machines.push(machine.clone());
        machine.apply_nothing(2, stamp_ms, &mut Vec::new());
        machines.push(machine);
    }
    for (position, machine) in machines.iter().enumerate() {
        assert_eq!(machine.clone().state_hash(), machine.state_hash());
        for other in &machines[..position] {
            assert_ne!(machine.state_hash(), other.state_hash(), "{machine:?} and {other:?}");
        }
    }
}
