//! The keys and values, and what each command does to them.
//!
//! `execute` is the only way to change the store, and it is a function: equal stores that execute
//! equal commands at equal indexes are equal afterwards and give equal outcomes. That, and a log
//! that all servers agree on, is the whole of "replicated state machine" (§2). So nothing here
//! looks at a clock, at a setting, or at the order of a hash table.
//!
//! A command does all it says or nothing: an outcome such as `TooBig` leaves the store untouched.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::BytesMut;

use crate::kv::command::{Bytes, Command, Condition, Query, parse_integer};
use crate::kv::outcome::Outcome;
use crate::limits::{RANGE_BYTES_MAX, REPLY_BYTES_MAX, VALUE_BYTES_MAX};

/// All keys with their values, ordered by the bytes of the key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Store {
    values: BTreeMap<Bytes, Versioned>,
}

/// A query that takes long, and the store as it was when it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FrozenQuery {
    store: Store,
    query: Query,
}

impl FrozenQuery {
    /// Answers it.
    pub fn answer(&self) -> Outcome {
        self.store.query(&self.query)
    }
}

/// A value, and when it was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Versioned {
    /// The value.
    pub value: Bytes,
    /// The log index of the command that last wrote it: the same on every server.
    pub version: u64,
}

impl Store {
    /// Executes the command that the log holds at `index`.
    pub fn execute(&mut self, index: u64, command: Command) -> Outcome {
        match command {
            Command::Set { key, value, condition, .. } => self.set(index, key, value, &condition),
            Command::Delete { keys } => {
                let existed = keys.iter().filter(|key| self.values.remove(*key).is_some()).count();
                integer(existed)
            }
            Command::Append { key, value, .. } => self.append(index, key, &value),
            Command::CompareAndSet { key, old, new } => match self.values.get_mut(&key) {
                None => Outcome::Nothing,
                Some(current) if current.value != old => Outcome::Integer(0),
                Some(current) => {
                    *current = Versioned { value: new, version: index };
                    Outcome::Integer(1)
                }
            },
            Command::Increment { key, delta } => self.increment(index, key, delta),
            Command::SetMany { pairs, .. } => {
                for (key, value) in pairs {
                    self.write(index, key, value);
                }
                Outcome::Done
            }
            _ => Outcome::Nothing,
        }
    }

    /// Answers a query. Replies that could become large are measured before they are built.
    pub fn query(&self, query: &Query) -> Outcome {
        match query {
            Query::Get { key } => self.value_or_nothing(key),
            Query::Exists { keys } => {
                integer(keys.iter().filter(|key| self.values.contains_key(*key)).count())
            }
            Query::Length { key } => integer(self.get(key).map_or(0, |found| found.value.len())),
            Query::GetMany { keys } => self.get_many(keys),
            Query::Range { from, to, pairs_max } => self.range(from, to.as_ref(), *pairs_max),
            Query::Count => integer(self.values.len()),
            _ => Outcome::Nothing,
        }
    }

    /// The value of a key, with its version.
    pub fn get(&self, key: &Bytes) -> Option<&Versioned> {
        self.values.get(key)
    }

    /// All keys and values, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Bytes, &Versioned)> {
        self.values.iter()
    }

    fn write(&mut self, index: u64, key: Bytes, value: Bytes) {
        self.values.insert(key, Versioned { value, version: index });
    }

    fn set(&mut self, index: u64, key: Bytes, value: Bytes, condition: &Condition) -> Outcome {
        let current = self.values.get(&key);
        let holds = match condition {
            Condition::Always => true,
            Condition::IfAbsent => current.is_none(),
            Condition::IfPresent => current.is_some(),
            Condition::IfEqual(old) => current.is_some_and(|current| current.value == *old),
            Condition::IfVersion(version) => {
                current.map_or(0, |current| current.version) == *version
            }
        };
        if !holds {
            return Outcome::Nothing;
        }
        self.write(index, key, value);
        Outcome::Done
    }

    fn append(&mut self, index: u64, key: Bytes, addition: &[u8]) -> Outcome {
        let current_bytes = self.values.get(&key).map_or(0, |current| current.value.len());
        let bytes = current_bytes + addition.len();
        if bytes > VALUE_BYTES_MAX {
            return Outcome::TooBig { bytes, bytes_max: VALUE_BYTES_MAX };
        }
        let current = self.values.remove(&key).map_or(Bytes::new(), |current| current.value);
        // Nobody else has a hold of the value as a rule, and then it grows in its place.
        let mut value = current.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        value.extend_from_slice(addition);
        self.write(index, key, value.freeze());
        integer(bytes)
    }

    fn increment(&mut self, index: u64, key: Bytes, delta: i64) -> Outcome {
        let current = match self.values.get(&key) {
            None => Some(0),
            Some(current) => parse_integer(&current.value),
        };
        let Some(sum) = current.and_then(|current| current.checked_add(delta)) else {
            return Outcome::NotInteger;
        };
        self.write(index, key, Bytes::from(sum.to_string().into_bytes()));
        Outcome::Integer(sum)
    }

    fn value_or_nothing(&self, key: &Bytes) -> Outcome {
        self.get(key).map_or(Outcome::Nothing, |found| Outcome::Value(found.value.clone()))
    }

    /// Bounds the bytes of the values; what frames them is bounded by `limits::ARGUMENTS_MAX`.
    fn get_many(&self, keys: &[Bytes]) -> Outcome {
        let lengths = keys.iter().filter_map(|key| self.get(key)).map(|found| found.value.len());
        if lengths.sum::<usize>() > REPLY_BYTES_MAX {
            return Outcome::ReplyTooBig;
        }
        Outcome::List(keys.iter().map(|key| self.value_or_nothing(key)).collect())
    }

    /// Ends early rather than fail: the caller goes on after the last key it got, so there is
    /// always at least one pair if there is any.
    fn range(&self, from: &Bytes, to: Option<&Bytes>, pairs_max: usize) -> Outcome {
        if to.is_some_and(|to| to <= from) {
            return Outcome::List(Vec::new()); // a BTreeMap panics on a range that runs backwards
        }
        let end = to.map_or(Bound::Unbounded, Bound::Excluded);
        let mut list = Vec::new();
        let mut bytes = 0;
        let pairs = self.values.range::<Bytes, _>((Bound::Included(from), end));
        for (key, found) in pairs.take(pairs_max) {
            bytes += key.len() + found.value.len();
            if bytes > RANGE_BYTES_MAX && !list.is_empty() {
                break;
            }
            list.push(Outcome::Value(key.clone()));
            list.push(Outcome::Value(found.value.clone()));
        }
        Outcome::List(list)
    }
}

fn integer(count: usize) -> Outcome {
    Outcome::Integer(i64::try_from(count).expect("lengths in memory fit into 63 bits"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kv::encoding::tests::command_of;

    fn bytes(text: &str) -> Bytes {
        Bytes::from(text.as_bytes().to_vec())
    }

    fn set(key: &str, value: &str) -> Command {
        Command::Set { key: bytes(key), value: bytes(value), condition: Condition::Always }
    }

    fn increment(store: &mut Store, delta: i64) -> Outcome {
        store.execute(9, Command::Increment { key: bytes("n"), delta })
    }

    /// S99: all servers must agree on what a number is and where it ends.
    #[test]
    fn integers_are_canonical_and_do_not_wrap() {
        for text in ["0", "7", "-7", "9223372036854775807", "-9223372036854775808"] {
            assert_eq!(parse_integer(text.as_bytes()), text.parse().ok(), "{text}");
        }
        let not_integers =
            ["", "-", "-0", "00", "07", "-07", "+7", " 7", "7 ", "7\n", "1e3", "0x7"];
        let too_big = ["9223372036854775808", "-9223372036854775809", "99999999999999999999"];
        for text in not_integers.iter().chain(&too_big) {
            assert_eq!(parse_integer(text.as_bytes()), None, "{text:?}");
        }

        let mut store = Store::default();
        assert_eq!(increment(&mut store, i64::MAX), Outcome::Integer(i64::MAX));
        let before = store.clone();
        assert_eq!(increment(&mut store, 1), Outcome::NotInteger);
        assert_eq!(store, before, "a refused increment leaves no trace");
        assert_eq!(increment(&mut store, i64::MIN), Outcome::Integer(-1));
        assert_eq!(increment(&mut store, i64::MIN), Outcome::NotInteger);
    }

    /// The bound holds where values grow, not only where they arrive.
    #[test]
    fn append_stops_at_the_largest_value() {
        let mut store = Store::default();
        let append =
            |length| Command::Append { key: bytes("k"), value: Bytes::from(vec![b'x'; length]) };
        let max = VALUE_BYTES_MAX as i64;
        assert_eq!(store.execute(1, append(VALUE_BYTES_MAX - 1)), Outcome::Integer(max - 1));
        assert_eq!(store.execute(2, append(1)), Outcome::Integer(max));
        let too_big = Outcome::TooBig { bytes: VALUE_BYTES_MAX + 1 };
        assert_eq!(store.execute(3, append(1)), too_big);
        assert_eq!(store.get(&bytes("k")).map(|found| found.version), Some(2));
    }

    /// A reply is measured before it takes memory (S76).
    #[test]
    fn large_replies_are_refused_or_end_early() {
        let mut store = Store::default();
        let half = Bytes::from(vec![b'x'; RANGE_BYTES_MAX / 2]);
        for (index, key) in ["a", "b", "c"].into_iter().enumerate() {
            let condition = Condition::Always;
            let set = Command::Set { key: bytes(key), value: half.clone(), condition };
            store.execute(index as u64 + 1, set);
        }
        let range = |from: &str, to: Option<&str>, pairs_max| {
            let query = Query::Range { from: bytes(from), to: to.map(bytes), pairs_max };
            match store.query(&query) {
                Outcome::List(list) => list.len() / 2,
                other => panic!("a range is a list, not {other:?}"),
            }
        };
        assert_eq!(range("", None, 10), 1, "two would be a few bytes too many");
        assert_eq!(range("b", Some("b"), 10), 0);
        assert_eq!(range("c", Some("a"), 10), 0);
        assert_eq!(range("", None, 0), 0);

        let mget = |keys| store.query(&Query::GetMany { keys: vec![bytes("a"); keys] });
        let keys_max = REPLY_BYTES_MAX / half.len();
        assert!(matches!(mget(keys_max), Outcome::List(list) if list.len() == keys_max));
        assert_eq!(mget(keys_max + 1), Outcome::ReplyTooBig);
    }

    /// A range smaller than its first pair still makes progress.
    #[test]
    fn a_range_returns_at_least_one_pair() {
        let mut store = Store::default();
        store.execute(1, set("k", &"x".repeat(VALUE_BYTES_MAX)));
        let query = Query::Range { from: bytes(""), to: None, pairs_max: 10 };
        assert!(matches!(store.query(&query), Outcome::List(list) if list.len() == 2));
    }

    /// The store, written as naively as possible: a list of pairs and one rule per command.
    #[derive(Default)]
    struct Model(Vec<(Bytes, Bytes)>);

    impl Model {
        fn get(&self, key: &Bytes) -> Option<Bytes> {
            self.0.iter().find(|(its_key, _)| its_key == key).map(|(_, value)| value.clone())
        }

        fn remove(&mut self, key: &Bytes) {
            self.0.retain(|(its_key, _)| its_key != key);
        }

        fn put(&mut self, key: &Bytes, value: Vec<u8>) {
            self.remove(key);
            self.0.push((key.clone(), Bytes::from(value)));
        }

        fn execute(&mut self, command: &Command) -> Outcome {
            match command {
                Command::Set { key, value, condition, .. } => {
                    let refused = match (condition, self.get(key)) {
                        (Condition::Always, _) => false,
                        (Condition::IfAbsent, current) => current.is_some(),
                        (Condition::IfPresent, current) => current.is_none(),
                        (Condition::IfEqual(old), current) => current != Some(old.clone()),
                    };
                    if refused {
                        return Outcome::Nothing;
                    }
                    self.put(key, value.to_vec());
                    Outcome::Done
                }
                Command::Delete { keys } => {
                    let before = self.0.len();
                    keys.iter().for_each(|key| self.remove(key));
                    Outcome::Integer((before - self.0.len()) as i64)
                }
                Command::Append { key, value, .. } => {
                    let both =
                        [self.get(key).unwrap_or_default().to_vec(), value.to_vec()].concat();
                    self.put(key, both.clone());
                    Outcome::Integer(both.len() as i64)
                }
                Command::CompareAndSet { key, old, new } => match self.get(key) {
                    None => Outcome::Nothing,
                    Some(current) if current == *old => {
                        self.put(key, new.to_vec());
                        Outcome::Integer(1)
                    }
                    Some(_) => Outcome::Integer(0),
                },
                Command::Increment { key, delta } => {
                    let text =
                        self.get(key).map_or(Ok("0".into()), |v| String::from_utf8(v.to_vec()));
                    let number = text.ok().and_then(|text| {
                        let number: i128 = text.parse().ok()?;
                        (number.to_string() == text).then_some(number)
                    });
                    let sum = number.map(|number| number + i128::from(*delta));
                    match sum.and_then(|sum| i64::try_from(sum).ok()) {
                        None => Outcome::NotInteger,
                        Some(sum) => {
                            self.put(key, sum.to_string().into_bytes());
                            Outcome::Integer(sum)
                        }
                    }
                }
                Command::SetMany { pairs } => {
                    pairs.iter().for_each(|(key, value)| self.put(key, value.to_vec()));
                    Outcome::Done
                }
            }
        }
    }

    proptest! {
        /// Every command does what a list of pairs would do, and a version is the index of the last
        /// write.
        #[test]
        fn the_store_does_what_a_list_of_pairs_would(commands in proptest::collection::vec(
            command_of(
                proptest::sample::select(["", "a", "b"].map(bytes).to_vec()).boxed(),
                proptest::sample::select(["", "1", "x", "01"].map(bytes).to_vec()).boxed(),
            ), 0..30,
        )) {
            let (mut store, mut model) = (Store::default(), Model::default());
            for (index, command) in (1_u64..).zip(commands) {
                let before = store.clone();
                prop_assert_eq!(model.execute(&command), store.execute(index, command));
                model.0.sort();
                let pairs: Vec<_> =
                    store.iter().map(|(key, found)| (key.clone(), found.value.clone())).collect();
                prop_assert_eq!(&pairs, &model.0);
                for (key, found) in store.iter() {
                    prop_assert!(found.version == index || before.get(key) == Some(found));
                }
            }
        }
    }
}
