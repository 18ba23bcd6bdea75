//! Every write and every query does what the model does, with time moving on.

use proptest::prelude::*;

use super::*;
use crate::kv::encoding::tests::{query_of, write_of};
use crate::kv::model::{Model, Pair};

const KEYS: [&str; 4] = ["", "a", "ab", "b"];

fn keys() -> BoxedStrategy<Bytes> {
    proptest::sample::select(KEYS.map(bytes).to_vec()).boxed()
}

fn values() -> BoxedStrategy<Bytes> {
    proptest::sample::select(["", "1", "x", "01"].map(bytes).to_vec()).boxed()
}

fn has_scan(write: &Write) -> bool {
    let is_scan = |operation: &Operation| matches!(operation, Operation::Query(Query::Scan { .. }));
    matches!(write, Write::Transaction { operations, .. } if operations.iter().any(is_scan))
}

/// Watches look at the past, and the strategy does not know how far the log has come: what it chose
/// is an offset from the end, and what was there then is looked up.
fn look_back(write: &mut Write, past: &[Model]) {
    let Write::Transaction { watches, .. } = write else { return };
    for watch in watches {
        let seen_at = past.len().saturating_sub(1 + watch.seen_at as usize / 4);
        watch.seen_at = seen_at as u64;
        watch.existed = past[seen_at].pairs.iter().any(|pair| pair.key == watch.key);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_state_machine_does_what_the_model_does(
        steps in proptest::collection::vec((
            proptest::option::weighted(0.9, write_of(keys(), values())),
            prop_oneof![Just(0_u64), 0..12_u64],
            query_of(keys()),
        ), 0..40),
        removed_max in 0..3_usize,
    ) {
        let (mut machine, mut past) = (StateMachine::default(), vec![Model::default()]);
        let mut mirror: std::collections::BTreeMap<Bytes, Bytes> = Default::default();
        let mut stamp_ms = 0;
        for (index, (write, step_ms, query)) in (1_u64..).zip(steps) {
            // A stamp may also lie before the last one: time does not go back.
            stamp_ms = if step_ms == 11 { stamp_ms / 2 } else { stamp_ms + step_ms };
            let mut model = past.last().expect("there is always one").clone();
            model.advance(index, stamp_ms);

            let mut changes = Vec::new();
            let mut entry = machine.advance_to(index, stamp_ms, removed_max, &mut changes);
            if let Some(mut write) = write.filter(|write| !has_scan(write)) {
                look_back(&mut write, &past);
                let expected = model.apply(&write);
                prop_assert_eq!(machine.execute(&mut entry, write), expected);
            }
            machine.store.check();
            prop_assert_eq!(machine.state_hash(), machine.recomputed_hash());

            let now_ms = machine.clock_ms() + 3;
            machine.fetch_to_get(KEYS.iter().map(|key| key.as_bytes()));
            for key in KEYS {
                let get = get(key);
                let outcome = machine.query(&get, now_ms, REPLY_BYTES_MAX);
                prop_assert_eq!(outcome, model.query(&get, i128::from(now_ms)), "{}", get);
            }
            if !matches!(query, Query::Scan { .. }) {
                let mut outcome = machine.query(&query, now_ms, REPLY_BYTES_MAX);
                if let Outcome::Frozen(frozen) = outcome {
                    outcome = frozen.answer();
                }
                prop_assert_eq!(outcome, model.query(&query, i128::from(now_ms)), "{}", query);
            }

            // Whoever follows the changes has the same keys; expired ones perhaps a little longer.
            for change in changes {
                prop_assert_eq!(change.index, index);
                match change.value {
                    Some(value) => mirror.insert(change.key, value),
                    None => mirror.remove(&change.key),
                };
            }
            let mut live = mirror.clone();
            live.retain(|key, _| machine.store.get(key).is_some());
            let expected = model.pairs.iter().map(|pair| (pair.key.clone(), pair.value.clone()));
            prop_assert_eq!(live, expected.collect());
            prop_assert!(removed_max == 0 || mirror.len() <= model.pairs.len() + 4);

            for Pair { key, version, deadline_ms, .. } in &model.pairs {
                let found = machine.store.get(key).expect("compared above");
                prop_assert_eq!(found.version, *version);
                prop_assert_eq!(found.deadline_ms.map(i128::from), *deadline_ms);
            }
            past.push(model);
        }
    }
}
