//! The judge is judged: our linearizability checker against brute force, and against histories that
//! we break on purpose. (S27, S70, S71 are such breaks.)

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use raft_server::kv::command::{Bytes, Command, Condition, Outcome};
use raft_server::sim::linearizability::{Action, Operation, Verdict, check, check_within};

fn bytes(text: &str) -> Bytes {
    Bytes::from(text.as_bytes().to_vec())
}

fn set(value: &str) -> Action {
    Action::Set { value: bytes(value), condition: Condition::Always }
}

fn value(text: &str) -> Outcome {
    Outcome::Value(bytes(text))
}

/// An operation on the key `k` that returned.
fn done(client: u64, (call, ret): (u64, u64), action: Action, outcome: Outcome) -> Operation {
    Operation { client, key: bytes("k"), call, ret: Some(ret), action, outcome: Some(outcome) }
}

/// An operation on the key `k` that nobody knows the end of.
fn open(client: u64, call: u64, action: Action) -> Operation {
    Operation { client, key: bytes("k"), call, ret: None, action, outcome: None }
}

/// The register a third time, as short as it can be said.
fn execute(action: &Action, register: &mut Option<Vec<u8>>) -> Outcome {
    let before = register.clone();
    match (action, before) {
        (Action::Get, Some(before)) => Outcome::Value(Bytes::from(before)),
        (Action::Get, None) => Outcome::Nothing,
        (Action::Exists, before) => Outcome::Integer(before.is_some().into()),
        (Action::Length, before) => Outcome::Integer(before.unwrap_or_default().len() as i64),
        (Action::Set { value, condition }, before) => {
            let fails = match condition {
                Condition::Always => false,
                Condition::IfAbsent => before.is_some(),
                Condition::IfPresent => before.is_none(),
                Condition::IfEqual(old) => before != Some(old.to_vec()),
                Condition::IfVersion(_) => unreachable!("a register has no versions"),
            };
            if fails {
                return Outcome::Nothing;
            }
            *register = Some(value.to_vec());
            Outcome::Done
        }
        (Action::Delete, before) => {
            *register = None;
            Outcome::Integer(before.is_some().into())
        }
        (Action::DeleteIfEqual { old }, before) => {
            let is_equal = before.as_deref() == Some(old.as_ref());
            if is_equal {
                *register = None;
            }
            Outcome::Integer(is_equal.into())
        }
        (Action::Append { value }, before) => {
            let mut whole = before.unwrap_or_default();
            whole.extend_from_slice(value);
            let answer = Outcome::Integer(whole.len() as i64);
            *register = Some(whole);
            answer
        }
        (Action::CompareAndSet { .. }, None) => Outcome::Nothing,
        (Action::CompareAndSet { old, new }, Some(before)) => {
            if before != old.to_vec() {
                return Outcome::Integer(0);
            }
            *register = Some(new.to_vec());
            Outcome::Integer(1)
        }
        (Action::Increment { delta }, before) => {
            let text = String::from_utf8(before.unwrap_or(b"0".to_vec())).expect("test values");
            match text.parse::<i64>() {
                Ok(number) => {
                    *register = Some((number + delta).to_string().into_bytes());
                    Outcome::Integer(number + delta)
                }
                Err(_) => Outcome::NotInteger,
            }
        }
    }
}

/// The definition itself: tries every order, and every choice of open operations that took place.
fn brute_force(waiting: &[Operation], register: &Option<Vec<u8>>) -> bool {
    if waiting.iter().all(|operation| operation.ret.is_none()) {
        return true;
    }
    (0..waiting.len()).any(|next| {
        let operation = &waiting[next];
        let too_late = |other: &Operation| other.ret.is_some_and(|ret| ret < operation.call);
        if waiting.iter().any(too_late) {
            return false;
        }
        let mut register = register.clone();
        let answer = execute(&operation.action, &mut register);
        let checked = operation.ret.is_some() && operation.outcome.is_some();
        if checked && operation.outcome.as_ref() != Some(&answer) {
            return false;
        }
        let mut rest = waiting.to_vec();
        rest.remove(next);
        brute_force(&rest, &register)
    })
}

fn any_text() -> impl Strategy<Value = Bytes> {
    prop_oneof![Just(bytes("1")), Just(bytes("2")), Just(bytes("a")), Just(bytes("12"))]
}

fn any_action() -> impl Strategy<Value = Action> {
    let condition = prop_oneof![
        3 => Just(Condition::Always),
        1 => Just(Condition::IfAbsent),
        1 => Just(Condition::IfPresent),
        1 => any_text().prop_map(Condition::IfEqual),
    ];
    let any_set =
        (any_text(), condition).prop_map(|(value, condition)| Action::Set { value, condition });
    prop_oneof![
        4 => Just(Action::Get),
        1 => Just(Action::Exists),
        1 => Just(Action::Length),
        4 => any_set,
        2 => Just(Action::Delete),
        2 => any_text().prop_map(|old| Action::DeleteIfEqual { old }),
        2 => any_text().prop_map(|value| Action::Append { value }),
        2 => (any_text(), any_text()).prop_map(|(old, new)| Action::CompareAndSet { old, new }),
        2 => (1i64..3).prop_map(|delta| Action::Increment { delta }),
    ]
}

/// One operation before its answer: what, when called, how long until it takes place, how long
/// until it returns then, whether the answer arrives, and a stranger's answer to mix in.
type Draft = (Action, u64, u64, u64, u8, Option<Outcome>);

fn any_draft() -> impl Strategy<Value = Draft> {
    let foreign = prop_oneof![
        Just(Outcome::Nothing),
        Just(Outcome::Done),
        (0i64..4).prop_map(Outcome::Integer),
        any_text().prop_map(Outcome::Value),
    ];
    let foreign = prop_oneof![4 => Just(None), 1 => foreign.prop_map(Some)];
    (any_action(), 0u64..12, 0u64..5, 0u64..5, 0u8..10, foreign)
}

/// Executes drafts one after the other in the order of the instants at which they take place.
/// Without foreign answers, the result is linearizable.
fn history_of(drafts: &[Draft], with_foreign: bool) -> Vec<Operation> {
    let mut order: Vec<(u64, usize)> = Vec::new();
    order.extend(drafts.iter().enumerate().map(|(i, draft)| (draft.1 + draft.2, i)));
    order.sort_unstable();
    let mut register = None;
    let mut history = Vec::new();
    for (instant, i) in order {
        let (action, call, _, until_return, luck, foreign) = &drafts[i];
        let client = i as u64;
        if *luck == 0 {
            history.push(open(client, *call, action.clone())); // it never took place
            continue;
        }
        let outcome = execute(action, &mut register);
        if *luck <= 2 {
            history.push(open(client, *call, action.clone())); // it did, but nobody heard
            continue;
        }
        let outcome = foreign.clone().filter(|_| with_foreign).unwrap_or(outcome);
        let span = (*call, instant + until_return);
        history.push(done(client, span, action.clone(), outcome));
        if *luck == 3 {
            history.last_mut().expect("just pushed").outcome = None;
        }
    }
    history
}

fn fixed_runner(cases: u32) -> TestRunner {
    let config = Config { failure_persistence: None, cases, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// On histories of up to six operations the checker and the definition agree, both ways.
#[test]
fn the_checker_agrees_with_brute_force() {
    let mut verdicts = BTreeMap::new();
    let drafts = prop::collection::vec(any_draft(), 1..=6);
    let seen = std::cell::RefCell::new(&mut verdicts);
    let agree = |drafts: Vec<Draft>| {
        let history = history_of(&drafts, true);
        let expected = brute_force(&history, &None);
        let verdict = check(&history);
        *seen.borrow_mut().entry(expected).or_insert(0) += 1;
        prop_assert_eq!(matches!(verdict, Verdict::Linearizable), expected, "{}", verdict);
        Ok(())
    };
    fixed_runner(20_000).run(&drafts, agree).expect("the checker and brute force agree");
    let [accepted, rejected] = [verdicts[&true], verdicts[&false]];
    println!("{accepted} histories accepted, {rejected} rejected");
    assert!(accepted > 2000 && rejected > 2000, "both verdicts are exercised");
}

/// What one register really did is always accepted, however long and concurrent.
#[test]
fn histories_of_a_real_register_are_accepted() {
    let drafts = prop::collection::vec(any_draft(), 1..40);
    let accepted = |drafts: Vec<Draft>| {
        let spread = |(i, draft): (usize, &Draft)| {
            let mut draft = draft.clone();
            draft.1 = draft.1 / 3 + 2 * i as u64; // a handful at a time
            draft
        };
        let drafts: Vec<Draft> = drafts.iter().enumerate().map(spread).collect();
        let verdict = check(&history_of(&drafts, false));
        prop_assert_eq!(&verdict, &Verdict::Linearizable, "{}", verdict);
        Ok(())
    };
    fixed_runner(500).run(&drafts, accepted).expect("a real register's histories are accepted");
}

/// A violation's prefix is the shortest: without the answer that came last there is an order.
#[test]
fn the_transcript_shows_the_shortest_beginning() {
    let drafts = prop::collection::vec(any_draft(), 1..=6);
    let shortest = |drafts: Vec<Draft>| {
        if let Verdict::Violation(violation) = check(&history_of(&drafts, true)) {
            prop_assert!(!brute_force(&violation.prefix, &None));
            let last = violation.prefix.iter().filter_map(|operation| operation.ret).max();
            let mut shorter = violation.prefix.clone();
            shorter.retain(|operation| Some(operation.call) <= last);
            for operation in shorter.iter_mut().filter(|operation| operation.ret == last) {
                operation.ret = None;
            }
            prop_assert!(brute_force(&shorter, &None));
            prop_assert!(!violation.stuck.is_empty());
        }
        Ok(())
    };
    fixed_runner(5000).run(&drafts, shortest).expect("prefixes are shortest");
}

/// A register that serves clients taking turns: the ground from which the histories below are
/// broken.
fn counted(operations: u64, clients: u64) -> Vec<Operation> {
    let mut register = None;
    let mut history = Vec::new();
    for i in 0..operations {
        let action = match i % 4 {
            0 => Action::Increment { delta: 1 },
            1 | 2 => Action::Get,
            _ => Action::CompareAndSet { old: bytes("1000000"), new: bytes("0") },
        };
        let outcome = execute(&action, &mut register);
        let span = (10 * i, 10 * (i + clients));
        history.push(done(i % clients, span, action, outcome));
    }
    history
}

/// S21, S22: a read that returns what was there before a write that had been answered.
#[test]
fn a_stale_read_is_rejected() {
    let mut history = counted(400, 3);
    check(&history).expect_linearizable();
    let stale = value("20"); // at operation 201 the counter stands at 51
    assert_eq!(history[201].outcome, Some(value("51")));
    history[201].outcome = Some(stale.clone());
    let Verdict::Violation(violation) = check(&history) else { panic!("a stale read passed") };
    let text = violation.to_string();
    assert!(text.contains("GET -> \"20\", but it would answer"), "{text}");
    assert!(violation.prefix.len() < 210, "the rest of the history is left out:\n{text}");
}

/// An acknowledged write that nobody ever sees again.
#[test]
fn a_lost_write_is_rejected() {
    let history = [
        done(1, (0, 1), set("x"), Outcome::Done),
        done(1, (2, 3), set("y"), Outcome::Done),
        done(2, (4, 5), Action::Get, value("x")),
    ];
    assert!(matches!(check(&history), Verdict::Violation(_)));
    let mut later = counted(400, 3);
    later.retain(|operation| operation.call != 2000); // now nobody asked for this increment
    assert!(matches!(check(&later), Verdict::Violation(_)));
}

/// S71: a request that was sent again and applied twice.
#[test]
fn a_doubled_increment_is_rejected() {
    let increment = || Action::Increment { delta: 1 };
    let mut history = vec![
        done(1, (0, 1), increment(), Outcome::Integer(1)),
        done(1, (2, 3), increment(), Outcome::Integer(3)),
    ];
    assert!(matches!(check(&history), Verdict::Violation(_)));
    // With another client's increment of unknown end, 3 is right; a doubled unknown one is not.
    history.push(open(2, 0, increment()));
    check(&history).expect_linearizable();
    history.push(done(3, (4, 5), Action::Get, value("4")));
    assert!(matches!(check(&history), Verdict::Violation(_)));
}

/// S70: an operation of unknown end may take place at any later time, or never, but not twice and
/// not before it was called.
#[test]
fn an_unknown_outcome_stays_open() {
    let late = [
        open(1, 0, set("x")),
        done(2, (1, 2), set("y"), Outcome::Done),
        done(2, (3, 4), Action::Get, value("y")),
        done(2, (1000, 1001), Action::Get, value("x")),
    ];
    check(&late).expect_linearizable();
    let mut hearsay = late.clone();
    hearsay[0].outcome = Some(Outcome::Nothing); // without a return it means nothing
    check(&hearsay).expect_linearizable();
    let mut twice = late.to_vec();
    twice.push(done(2, (1002, 1003), set("y"), Outcome::Done));
    check(&twice).expect_linearizable();
    twice.push(done(2, (1004, 1005), Action::Get, value("x")));
    assert!(matches!(check(&twice), Verdict::Violation(_)));
    let early = [done(2, (0, 1), Action::Get, value("x")), open(1, 2, set("x"))];
    assert!(matches!(check(&early), Verdict::Violation(_)));
}

/// Keys are judged apart, and a command on several keys by its parts.
#[test]
fn commands_are_taken_apart_by_key() {
    let pairs = vec![(bytes("a"), bytes("1")), (bytes("b"), bytes("2")), (bytes("a"), bytes("3"))];
    let command = Command::SetMany { pairs, if_absent: false };
    let mut history = Operation::of_command(1, &command, (0, Some(1)), Some(&Outcome::Done));
    assert_eq!(history.len(), 2);
    let keys = vec![bytes("a"), bytes("b"), bytes("c")];
    let delete = Command::Delete { keys };
    let sum = Outcome::Integer(2);
    history.extend(Operation::of_command(1, &delete, (2, Some(3)), Some(&sum)));
    let get = |key, outcome| Operation { key, ..done(2, (4, 5), Action::Get, outcome) };
    history.push(get(bytes("a"), Outcome::Nothing));
    check(&history).expect_linearizable();
    history.push(get(bytes("b"), value("2")));
    assert!(matches!(check(&history), Verdict::Violation(v) if v.key == bytes("b")));
}

/// A search that runs out of its bound says so.
#[test]
fn a_bound_ends_a_search_without_a_verdict() {
    let undecided = Verdict::Undecided { key: bytes("k") };
    assert_eq!(check_within(&counted(400, 3), 10), undecided);
}

/// Pseudo-random numbers for the long histories: a linear congruence is random enough here.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Thirty clients, a hundred thousand operations, some of unknown end: what a test of whole
/// clusters brings home. Each takes place at a random instant of its span.
fn long_history(keys: u64, dice: &mut Dice) -> Vec<Operation> {
    const CLIENTS: usize = 30;
    let mut registers: BTreeMap<u64, Option<Vec<u8>>> = BTreeMap::new();
    // Each client: its operation and its three instants, call, effect, return.
    let mut running: Vec<(u64, u64, u64, u64, Action)> = Vec::new();
    let mut history = Vec::new();
    let mut free: Vec<(u64, u64)> = (0..CLIENTS as u64).map(|client| (client, client)).collect();
    while history.len() < 100_000 {
        for (client, now) in free.drain(..) {
            let action = match dice.below(10) {
                0..4 => Action::Get,
                4..6 => set(&format!("{}", dice.below(1000))),
                6..8 => Action::Increment { delta: 1 },
                8 => Action::Delete,
                _ => {
                    let old = bytes(&dice.below(1000).to_string());
                    Action::CompareAndSet { old, new: bytes("7") }
                }
            };
            let effect = now + 1 + dice.below(100);
            running.push((client, now, effect, effect + dice.below(100), action));
        }
        running.sort_by_key(|r| std::cmp::Reverse(r.2));
        let (client, call, _, ret, action) = running.pop().expect("there are clients");
        let key = dice.below(keys);
        let outcome = execute(&action, registers.entry(key).or_default());
        let known = dice.below(500) > 0;
        history.push(Operation {
            client,
            key: bytes(&key.to_string()),
            call,
            ret: known.then_some(ret),
            action,
            outcome: known.then_some(outcome),
        });
        free.push((client, ret + 1 + dice.below(5)));
    }
    history
}

/// A hundred thousand operations are judged in the time that a test can spare, right or wrong.
#[test]
fn long_histories_are_judged_quickly() {
    let mut dice = Dice(1);
    for keys in [100, 20] {
        let mut history = long_history(keys, &mut dice);
        let start = Instant::now();
        check(&history).expect_linearizable();
        let accepted = start.elapsed();
        let position = history.iter().rposition(|operation| {
            matches!(operation.outcome, Some(Outcome::Value(_))) && operation.action == Action::Get
        });
        history[position.expect("there are reads")].outcome = Some(value("never written"));
        let start = Instant::now();
        assert!(matches!(check(&history), Verdict::Violation(_)));
        println!("{keys} keys: accepted in {accepted:?}, rejected in {:?}", start.elapsed());
        assert!(accepted < Duration::from_secs(20), "{keys} keys took {accepted:?}");
    }
}
