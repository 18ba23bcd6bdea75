//! Values that were read lately, where a GET finds them at once.
//!
//! A search in a map of a hundred thousand keys waits for memory some ten times, one after the
//! other: which place to look at next depends on what was found at the last. Here a key has two
//! places that follow from its hash, so there is one wait for them, and one for what they point to.
//! A key that is read takes one of them; if both are taken, it may have to be read a few times
//! until the key that came first leaves.
//!
//! Only what is read is here: a server that nobody has read from, as most followers are, pays
//! nothing for it. It is no part of the state. A copy of the state begins with an empty one, and
//! states with different ones are equal. Each key here is in the store, without a deadline and with
//! that very value; the store sees to it, whenever it changes a key. (Else SET, GET, SET, GET would
//! answer the first value.)

use std::hash::{Hash, Hasher};

use bytes::Bytes;

use crate::kv::digest::{Digest, Kind};
use crate::kv::key::Name;
use crate::lab::{Rule, removed};
use crate::limits::CACHED_KEYS_MAX;

/// How many keys have the same places.
const WAYS: usize = 2;

/// One in so many keys that are offered drives out another. To do so means to wait for the memory
/// of both, and where most keys find no place it would be done with most reads.
const OFFERS_TAKEN: u64 = 8;

/// Some of the keys of a store that have no deadline, with their values.
#[derive(Debug, Default)]
pub(super) struct ReadCache {
    /// A power of two, or none.
    sets: Vec<[Option<Cached>; WAYS]>,
    /// How often a key was offered that would drive out another.
    offers: u64,
}

/// A key with its value. As long as a line of the processor's cache.
#[derive(Debug)]
#[repr(align(64))]
struct Cached {
    /// See [`ReadCache::hash`].
    hash: u64,
    name: Name,
    value: Bytes,
}

impl ReadCache {
    /// By which a key is found. Keys that an adversary makes collide drive each other out, and are
    /// found in the map as before.
    pub(super) fn hash(key: &[u8]) -> u64 {
        Digest::of(Kind::Pair).bytes(key).value()
    }

    /// The value of a key with this hash.
    pub(super) fn get(&self, hash: u64, key: &[u8]) -> Option<&Bytes> {
        if self.sets.is_empty() {
            return None;
        }
        let set = &self.sets[self.place(hash)];
        set.iter().flatten().find(|cached| cached.is(hash, key)).map(|cached| &cached.value)
    }

    /// Takes in a key that is not here, of a store of so many keys, unless it would drive out
    /// another and it is not its turn.
    pub(super) fn offer(&mut self, hash: u64, keys: usize, pair: impl FnOnce() -> (Name, Bytes)) {
        let wanted = (2 * keys).min(CACHED_KEYS_MAX).div_ceil(WAYS).next_power_of_two();
        if self.sets.len() < wanted {
            let old = std::mem::take(&mut self.sets);
            self.sets.resize_with(wanted, Default::default);
            let oldest_first = old.into_iter().flat_map(|set| set.into_iter().rev().flatten());
            oldest_first.for_each(|cached| self.push(cached));
        }
        if self.sets[self.place(hash)].iter().all(Option::is_some) {
            self.offers += 1;
            if !self.offers.is_multiple_of(OFFERS_TAKEN) {
                return;
            }
        }
        let (name, value) = pair();
        self.push(Cached { hash, name, value });
    }

    /// A key has got another value, and no deadline.
    pub(super) fn replace(&mut self, key: &[u8], value: &Bytes) {
        if let Some(cached) = self.entry(key).and_then(Option::as_mut) {
            cached.value = Bytes::clone(value);
        }
    }

    /// A key is gone, has got a deadline, or is about to change.
    pub(super) fn forget(&mut self, key: &[u8]) {
        if let Some(entry) = self.entry(key) {
            *entry = None;
        }
    }

    /// All that is here.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &Bytes)> {
        let cached = self.sets.iter().flatten().flatten();
        cached.map(|cached| (&cached.name[..], &cached.value))
    }

    /// Where a key is, if it is here.
    fn entry(&mut self, key: &[u8]) -> Option<&mut Option<Cached>> {
        if self.sets.is_empty() || removed(Rule::CacheFollowsWrites) {
            return None;
        }
        let hash = ReadCache::hash(key);
        let place = self.place(hash);
        let is_it =
            |entry: &&mut Option<Cached>| entry.as_ref().is_some_and(|cached| cached.is(hash, key));
        self.sets[place].iter_mut().find(is_it)
    }

    fn push(&mut self, cached: Cached) {
        let place = self.place(cached.hash);
        let [newest, older] = &mut self.sets[place];
        if let Some(next) = newest.replace(cached) {
            *older = Some(next);
        }
    }

    fn place(&self, hash: u64) -> usize {
        let mask = self.sets.len() as u64 - 1;
        usize::try_from(hash & mask).expect("it is less than the number of sets")
    }
}

impl Cached {
    fn is(&self, hash: u64, key: &[u8]) -> bool {
        self.hash == hash && self.name[..] == *key
    }
}

/// Empty: a copy of the state is made to be written, or compared.
impl Clone for ReadCache {
    fn clone(&self) -> ReadCache {
        ReadCache::default()
    }
}

impl PartialEq for ReadCache {
    fn eq(&self, _other: &ReadCache) -> bool {
        true
    }
}

impl Eq for ReadCache {}

impl Hash for ReadCache {
    fn hash<H: Hasher>(&self, _hasher: &mut H) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value_of(cache: &ReadCache, key: &str) -> Option<Bytes> {
        cache.get(ReadCache::hash(key.as_bytes()), key.as_bytes()).cloned()
    }

    fn insert(cache: &mut ReadCache, key: &str, keys: usize) {
        let pair = || (Name::from(key.as_bytes()), Bytes::copy_from_slice(key.as_bytes()));
        cache.offer(ReadCache::hash(key.as_bytes()), keys, pair);
    }

    fn cached(cache: &ReadCache, keys: usize) -> usize {
        let is_cached = |number: &usize| value_of(cache, &number.to_string()).is_some();
        (0..keys).filter(is_cached).count()
    }

    /// It takes memory as there are keys, and no more than it may; when it grows, what was in
    /// it stays.
    #[test]
    fn it_grows_with_the_store_up_to_its_bound() {
        let mut cache = ReadCache::default();
        let mut before = 0;
        for number in 0..100 {
            insert(&mut cache, &number.to_string(), 1000);
        }
        assert_eq!(cache.sets.len() * WAYS, 2048);
        let few = cached(&cache, 100);
        assert!(few > 95, "{few} of 100");
        for keys in [10_000, 1_000_000_000] {
            insert(&mut cache, "last", keys);
            assert_eq!(cached(&cache, 100), few, "places that were apart stay apart");
            assert!(cache.sets.len() > before);
            before = cache.sets.len();
        }
        assert_eq!(before * WAYS, CACHED_KEYS_MAX);
    }

    /// Whatever is read drives out one key at most, and the one that came first; and not each time.
    #[test]
    fn of_two_keys_with_the_same_places_the_first_leaves() {
        let mut cache = ReadCache::default();
        // A store of one key has one set.
        let found = |cache: &ReadCache| ["a", "b", "c"].map(|key| value_of(cache, key).is_some());
        insert(&mut cache, "a", 1);
        insert(&mut cache, "b", 1);
        assert_eq!(cache.sets.len(), 1);
        for _ in 1..OFFERS_TAKEN {
            insert(&mut cache, "c", 1);
            assert_eq!(found(&cache), [true, true, false], "it would drive out another");
        }
        insert(&mut cache, "c", 1);
        assert_eq!(found(&cache), [false, true, true]);

        cache.replace(b"a", &Bytes::from("another"));
        cache.replace(b"b", &Bytes::from("another"));
        assert_eq!(value_of(&cache, "a"), None, "only what is read is here");
        assert_eq!(value_of(&cache, "b"), Some(Bytes::from("another")));
        cache.forget(b"c");
        assert_eq!(value_of(&cache, "c"), None);
        insert(&mut cache, "a", 1);
        assert!(value_of(&cache, "b").is_some(), "there was a free place");
    }
}
