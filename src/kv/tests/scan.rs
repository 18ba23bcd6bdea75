//! Walking through all keys while they change.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::limits::{RANGE_PAIRS_MAX, REPLY_BYTES_MAX, SCAN_KEYS_MAX};

fn page(
    server: &mut Server,
    cursor: u64,
    pattern: Option<&str>,
    count: usize,
) -> (u64, Vec<Bytes>) {
    let Outcome::List(mut parts) =
        server.ask(Query::Scan { cursor, pattern: pattern.map(bytes), count })
    else {
        panic!("SCAN answers a list");
    };
    let (Some(Outcome::List(keys)), Some(Outcome::Value(cursor))) = (parts.pop(), parts.pop())
    else {
        panic!("of a cursor and a list of keys");
    };
    let key = |outcome| match outcome {
        Outcome::Value(key) => key,
        other => panic!("keys are values, not {other:?}"),
    };
    let cursor = std::str::from_utf8(&cursor).expect("cursors are decimal");
    (cursor.parse().expect("cursors are decimal"), keys.into_iter().map(key).collect())
}

/// Some are neighbours in the order of SCAN, and some are not.
fn number() -> impl Strategy<Value = u32> {
    (0..6_u32, 0..10_u32).prop_map(|(hundreds, ones)| hundreds * 100 + ones)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// What Redis promises: a key that is there from the beginning to the end comes at least once,
    /// whatever comes and goes meanwhile; and one that was never there does not come.
    #[test]
    fn a_key_that_stays_is_seen(
        keys in proptest::collection::btree_set(number(), 0..40),
        meanwhile in proptest::collection::vec((number(), any::<bool>()), 0..80),
        counts in proptest::collection::vec(0..9_usize, 1..9),
    ) {
        let mut server = Server::default();
        let mut staying: BTreeSet<u32> = keys.clone();
        let mut ever = keys.clone();
        keys.iter().for_each(|key| { server.write(set(&key.to_string(), "v")); });
        let (mut cursor, mut seen) = (0, BTreeMap::new());
        let mut meanwhile = meanwhile.into_iter();
        for round in 0.. {
            let (next, keys) = page(&mut server, cursor, None, counts[round % counts.len()]);
            for key in keys {
                *seen.entry(String::from_utf8_lossy(&key).parse::<u32>().expect("a number"))
                    .or_insert(0) += 1;
            }
            cursor = next;
            if cursor == 0 {
                break;
            }
            prop_assert!(cursor < 1 << 53, "some clients keep it in a floating-point number");
            for (key, is_set) in meanwhile.by_ref().take(2) {
                if is_set {
                    server.write(set(&key.to_string(), "v"));
                    ever.insert(key);
                } else {
                    server.write(delete(&key.to_string()));
                    staying.remove(&key);
                }
            }
        }
        let told: BTreeSet<u32> = seen.keys().copied().collect();
        prop_assert!(told.is_superset(&staying), "{:?} are missing", staying.difference(&told));
        prop_assert!(told.is_subset(&ever));
        prop_assert!(seen.values().all(|times| *times == 1));
    }
}

/// The applier looks at a bounded number of keys, however many are asked for.
#[test]
fn a_page_is_bounded() {
    let mut server = Server::default();
    for number in 0..3 * SCAN_KEYS_MAX {
        server.write(set(&number.to_string(), "v"));
    }
    let (cursor, keys) = page(&mut server, 0, None, usize::MAX);
    assert_eq!(keys.len(), SCAN_KEYS_MAX);
    let (_, more) = page(&mut server, cursor, None, 0);
    assert_eq!(more.len(), 1, "there is always progress");
    assert!(!keys.contains(&more[0]));
    let (beyond, keys) = page(&mut server, u64::MAX, None, 10);
    assert_eq!((beyond, keys.len()), (0, 0), "no cursor of ours, and no harm");

    // A pattern may take long to compare: then a page has fewer keys.
    let long = format!("*{}", "x".repeat(10_000));
    let (cursor, keys) = page(&mut server, 0, Some(&long), usize::MAX);
    assert!(cursor != 0 && keys.is_empty());
}

/// During an upgrade a client may bring a cursor of a server that had another order: it must not
/// miss keys because of that.
#[test]
fn a_cursor_of_the_former_order_begins_anew() {
    let mut server = Server::default();
    let keys: BTreeSet<Bytes> = (0..100).map(|number| bytes(&number.to_string())).collect();
    for number in 0..100 {
        server.write(set(&number.to_string(), "v"));
    }
    let latest_former = (1 << 52) - 1;
    for cursor in [1, 1 << 36, latest_former] {
        let (next, told) = page(&mut server, cursor, None, 1000);
        assert_eq!((next, told.into_iter().collect()), (0, keys.clone()));
    }
}

/// A cursor could not say where among them to go on.
#[test]
fn keys_with_equal_places_come_together() {
    let twins = ["475510:x", "678461:x"];
    let place = |key: &str| crate::kv::scan::position(key.as_bytes());
    assert_eq!(place(twins[0]), place(twins[1]));
    let mut server = Server::default();
    twins.iter().for_each(|key| {
        server.write(set(key, "v"));
    });
    assert_eq!(page(&mut server, 0, None, 1), (0, twins.map(bytes).to_vec()));
}

/// Half an answer would look like a whole one.
#[test]
fn keys_answers_all_or_says_that_there_are_too_many() {
    let mut server = Server::default();
    for number in 0..RANGE_PAIRS_MAX {
        server.write(set(&format!("user:{number}"), "v"));
    }
    server.write(set("other", "v"));
    let keys = |server: &mut Server, pattern: &str| {
        let asked =
            server.machine.query(&Query::Keys { pattern: bytes(pattern) }, 0, REPLY_BYTES_MAX);
        assert!(matches!(asked, Outcome::Frozen(_)), "it may take long");
        server.ask(Query::Keys { pattern: bytes(pattern) })
    };
    let count = |outcome| match outcome {
        Outcome::List(list) => list.len(),
        other => panic!("not a list, but {other:?}"),
    };
    assert_eq!(keys(&mut server, "*"), Outcome::TooMany { keys_max: RANGE_PAIRS_MAX });
    assert_eq!(count(keys(&mut server, "user:*")), RANGE_PAIRS_MAX);
    assert_eq!(keys(&mut server, "o?h[a-f]r"), Outcome::List(vec![value("other")]));
    assert_eq!(keys(&mut server, r"\user:7"), Outcome::List(vec![value("user:7")]));

    // The view is of the moment when it was asked.
    let frozen = server.machine.query(&Query::Keys { pattern: bytes("o*") }, 0, REPLY_BYTES_MAX);
    server.write(Command::Flush);
    let Outcome::Frozen(frozen) = frozen else { panic!("KEYS is answered elsewhere") };
    assert_eq!(frozen.answer(), Outcome::List(vec![value("other")]));
}
