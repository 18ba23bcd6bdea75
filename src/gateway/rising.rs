//! A map whose keys rise.
//!
//! The slots of a connection and the serials of a gateway are given out in order, and what they
//! stand for is mostly done in that order. So a queue holds them, which is quicker than a tree: a
//! key is as far from the first as their numbers say, if none between was left out, and else it is
//! searched by halves. What is taken out of the middle leaves a gap, as to close it would move all
//! that follows: a client that hangs up behind ten thousand requests must not cost the square of
//! that. Gaps at the ends vanish at once, the others when there are more of them than of values.

use std::collections::VecDeque;

/// How many gaps are not worth closing.
const GAPS_MIN: usize = 32;

/// For how many values an empty map, or queue, keeps room: each idle connection has one of both.
pub(super) const ROOM_KEPT: usize = 64;

/// Beyond that, a map has room for up to so many times as many entries as there are.
const FREE_PER_ENTRY_MAX: usize = 8;

/// Values in the order of their keys.
#[derive(Clone, Debug)]
pub(super) struct Rising<K, V> {
    /// `None` is a gap. Neither the first nor the last is one.
    entries: VecDeque<(K, Option<V>)>,
    gaps: usize,
}

impl<K, V> Default for Rising<K, V> {
    fn default() -> Rising<K, V> {
        Rising { entries: VecDeque::new(), gaps: 0 }
    }
}

impl<K: Copy + Ord + Into<u64>, V: PartialEq> PartialEq for Rising<K, V> {
    fn eq(&self, other: &Rising<K, V>) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<K: Copy + Ord + Into<u64>, V: Eq> Eq for Rising<K, V> {}

impl<K: Copy + Ord + Into<u64>, V> Rising<K, V> {
    /// Adds a value under a key above all others.
    pub(super) fn push(&mut self, key: K, value: V) {
        assert!(self.entries.back().is_none_or(|(last, _)| *last < key), "keys rise");
        self.entries.push_back((key, Some(value)));
    }

    pub(super) fn get(&self, key: K) -> Option<&V> {
        self.entries[self.position(key).ok()?].1.as_ref()
    }

    pub(super) fn get_mut(&mut self, key: K) -> Option<&mut V> {
        let at = self.position(key).ok()?;
        self.entries[at].1.as_mut()
    }

    /// Takes a value out.
    pub(super) fn remove(&mut self, key: K) -> Option<V> {
        let at = self.position(key).ok()?;
        let value = self.entries[at].1.take()?;
        self.gaps += 1;
        let is_gap = |(_, value): &mut (K, Option<V>)| value.is_none();
        while self
            .entries
            .pop_front_if(is_gap)
            .or_else(|| self.entries.pop_back_if(is_gap))
            .is_some()
        {
            self.gaps -= 1;
        }
        if self.gaps > self.len() + GAPS_MIN {
            self.entries.retain(|(_, value)| value.is_some());
            self.gaps = 0;
        }
        let wanted = self.entries.len();
        if self.entries.capacity() > ROOM_KEPT.max(FREE_PER_ENTRY_MAX * wanted) {
            self.entries.shrink_to(ROOM_KEPT.max(2 * wanted));
        }
        Some(value)
    }

    pub(super) fn first_key(&self) -> Option<K> {
        self.entries.front().map(|(key, _)| *key)
    }

    pub(super) fn last_key(&self) -> Option<K> {
        self.entries.back().map(|(key, _)| *key)
    }

    /// The first value whose key is not below this one.
    pub(super) fn first_from(&self, key: K) -> Option<(K, &V)> {
        let at = self.position(key).unwrap_or_else(|at| at);
        self.entries.range(at..).find_map(|(key, value)| Some((*key, value.as_ref()?)))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.entries.iter().filter_map(|(key, value)| Some((*key, value.as_ref()?)))
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.gaps
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Where a key is, or else where it would be.
    fn position(&self, key: K) -> Result<usize, usize> {
        let first = self.first_key().ok_or(0_usize)?;
        let distance = key.into().saturating_sub(first.into());
        let at = usize::try_from(distance).unwrap_or(usize::MAX);
        match self.entries.get(at) {
            Some((it, _)) if *it == key => Ok(at),
            _ => self.entries.binary_search_by(|(it, _)| it.cmp(&key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is taken out, and wherever: it is what a tree would hold.
        #[test]
        fn it_is_a_map(steps in proptest::collection::vec((0..4_u8, 0..300_u64), 0..400)) {
            let (mut rising, mut tree, mut last) = (Rising::default(), BTreeMap::new(), 0);
            for (kind, number) in steps {
                if kind == 0 {
                    // Several at once: gaps are closed when there are some.
                    for _ in 0..number % 50 {
                        last += 1 + number % 2;
                        rising.push(last, number);
                        tree.insert(last, number);
                    }
                } else {
                    prop_assert_eq!(rising.remove(number), tree.remove(&number));
                }
                prop_assert_eq!(rising.get(number), tree.get(&number));
                prop_assert_eq!(rising.get_mut(number), tree.get_mut(&number));
                let from = tree.range(number..).next().map(|(key, value)| (*key, value));
                prop_assert_eq!(rising.first_from(number), from);
                prop_assert_eq!(rising.first_key(), tree.keys().next().copied());
                prop_assert_eq!(rising.last_key(), tree.keys().last().copied());
                prop_assert_eq!((rising.len(), rising.is_empty()), (tree.len(), tree.is_empty()));
                prop_assert!(rising.entries.len() <= 2 * tree.len() + GAPS_MIN);
                let room_max = ROOM_KEPT.max(FREE_PER_ENTRY_MAX * rising.entries.len());
                prop_assert!(kind == 0 || rising.entries.capacity() <= room_max);
            }
            prop_assert!(rising.iter().eq(tree.iter().map(|(key, value)| (*key, value))));
            let mut without_gaps = Rising::default();
            tree.into_iter().for_each(|(key, value)| without_gaps.push(key, value));
            prop_assert_eq!(rising, without_gaps);
        }
    }

    /// From the middle to the ends, where closing each gap would take half a minute.
    #[test]
    fn taking_all_out_takes_no_square_of_the_time() {
        let count = 200_000_u64;
        let mut rising = Rising::default();
        (0..count).for_each(|key| rising.push(key, [key; 4]));
        let since = Instant::now();
        for step in 0..count / 2 {
            assert!(rising.remove(count / 2 + step).is_some());
            assert!(rising.remove(count / 2 - 1 - step).is_some());
        }
        assert!(rising.is_empty());
        assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    }
}
