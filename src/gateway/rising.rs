//! A map whose keys rise.
//!
//! Slots and serials are given out in order, and what they name is mostly finished in that order.
//! A queue that is searched by halves is then as good as a tree, and allocates nothing for an
//! element; a tree allocates a node even for a client that asks one thing at a time.

use std::collections::VecDeque;

/// Values in the order of their keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rising<K, V>(VecDeque<(K, V)>);

impl<K, V> Default for Rising<K, V> {
    fn default() -> Rising<K, V> {
        Rising(VecDeque::new())
    }
}

impl<K: Copy + Ord, V> Rising<K, V> {
    /// Adds a value under a key above all others.
    pub(super) fn push(&mut self, key: K, value: V) {
        assert!(self.0.back().is_none_or(|(last, _)| *last < key), "keys rise");
        self.0.push_back((key, value));
    }

    pub(super) fn get(&self, key: K) -> Option<&V> {
        self.position(key).map(|at| &self.0[at].1)
    }

    pub(super) fn get_mut(&mut self, key: K) -> Option<&mut V> {
        self.position(key).map(|at| &mut self.0[at].1)
    }

    pub(super) fn contains(&self, key: K) -> bool {
        self.position(key).is_some()
    }

    /// Takes a value out. Quick near both ends.
    pub(super) fn remove(&mut self, key: K) -> Option<V> {
        let (_, value) = self.position(key).and_then(|at| self.0.remove(at))?;
        Some(value)
    }

    pub(super) fn first(&self) -> Option<&(K, V)> {
        self.0.front()
    }

    /// The first value with this key or a higher one.
    pub(super) fn first_from(&self, key: K) -> Option<&(K, V)> {
        self.0.get(self.0.partition_point(|(below, _)| *below < key))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(K, V)> {
        self.0.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn position(&self, key: K) -> Option<usize> {
        self.0.binary_search_by(|(it, _)| it.cmp(&key)).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is taken out, and wherever: it is what a tree would hold.
        #[test]
        fn it_is_a_map(steps in proptest::collection::vec((any::<bool>(), 0..40_u64), 0..100)) {
            let (mut rising, mut tree, mut last) = (Rising::default(), BTreeMap::new(), 0);
            for (is_new, number) in steps {
                if is_new {
                    last += 1 + number % 3;
                    rising.push(last, number);
                    tree.insert(last, number);
                } else {
                    prop_assert_eq!(rising.remove(number), tree.remove(&number));
                }
                prop_assert_eq!(rising.contains(number), tree.contains_key(&number));
                prop_assert_eq!(rising.get(number), tree.get(&number));
                prop_assert_eq!(rising.get_mut(number), tree.get_mut(&number));
                let pair = |it: &(u64, u64)| *it;
                let of_tree = |(key, value): (&u64, &u64)| (*key, *value);
                prop_assert_eq!(rising.first().map(pair), tree.first_key_value().map(of_tree));
                let next = tree.range(number..).next().map(of_tree);
                prop_assert_eq!(rising.first_from(number).map(pair), next);
                prop_assert_eq!((rising.len(), rising.is_empty()), (tree.len(), tree.is_empty()));
            }
            prop_assert!(rising.iter().copied().eq(tree));
        }
    }
}
