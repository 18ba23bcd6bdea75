//! Values that were read lately, where a GET finds them at once.
//!
//! Looking up a key in the table waits for memory four times, one after the other: for the place in
//! the index, for the row, for what counts the value's owners, and for the value. Here a key has
//! two places that follow from its hash, in one line of the processor's cache, and the value lies
//! behind the key: so there is one wait for the places, and one for what they point to. A key that
//! is read takes one of them; if both are taken, it may have to be read a few times until the key
//! that came first leaves.
//!
//! Only what is read is here: a server that nobody has read from, as most followers are, pays
//! nothing for it. It is no part of the state. A copy of the state begins with an empty one, and
//! states with different ones are equal. Each key here is in the store, without a deadline and with
//! that very value; the store sees to it, whenever it changes a key. (Else SET, GET, SET, GET would
//! answer the first value.)

use std::hash::{Hash, Hasher};
use std::hint::black_box;

use crate::kv::bytes::Bytes;
use crate::kv::digest::{Digest, Kind};
use crate::lab::{Rule, removed};
use crate::limits::{CACHED_BYTES_MAX, CACHED_KEYS_MAX, CACHED_PAIR_BYTES_MAX};

/// How many keys have the same places.
const WAYS: usize = 2;

/// Places for each key of a small store, at least: with four, one key in a hundred finds both of
/// its places taken, with two one in twenty.
const PLACES_PER_KEY: usize = 4;

/// One in so many keys that are offered drives out another. To do so means to wait for the memory
/// of both, and where most keys find no place it would be done with most reads.
const OFFERS_TAKEN: u64 = 8;

/// Copies of some of the keys of a store that have no deadline, with their values.
#[derive(Debug, Default)]
pub(super) struct ReadCache {
    /// A power of two, or none.
    sets: Vec<Set>,
    /// Of all keys and values.
    bytes: usize,
    /// How often a key was offered that would drive out another.
    offers: u64,
    /// Where the next one is driven out if there are too many bytes.
    hand: usize,
}

/// Keys with the same places: as long as a line of the processor's cache.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Set {
    /// The newest first.
    ways: [Option<Cached>; WAYS],
}

/// A key with its value.
#[derive(Debug)]
struct Cached {
    /// See [`ReadCache::hash`].
    hash: u64,
    /// The key and, behind it, the value.
    pair: Box<[u8]>,
    key_bytes: u32,
}

impl ReadCache {
    /// By which a key is found. Keys that an adversary makes collide drive each other out, and are
    /// found in the table.
    pub(super) fn hash(key: &[u8]) -> u64 {
        Digest::of(Kind::Pair).bytes(key).value()
    }

    /// Whether no key was ever taken in.
    pub(super) fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// A copy of the value of a key with this hash.
    pub(super) fn get(&self, hash: u64, key: &[u8]) -> Option<Bytes> {
        if self.is_empty() {
            return None;
        }
        let mut ways = self.sets[self.place(hash)].ways.iter().flatten();
        let found = ways.find(|cached| cached.is(hash, key))?;
        Some(found.value().into())
    }

    /// Brings into the processor's caches what `get` will look at for keys with these hashes. Here
    /// it waits for many places in memory at once, and there it would for one after the other.
    pub(super) fn fetch(&self, hashes: &[u64]) {
        if self.is_empty() {
            return;
        }
        let sets = || hashes.iter().map(|hash| (*hash, &self.sets[self.place(*hash)]));
        let taken = sets().filter(|(_, set)| set.ways[0].is_some()).count();
        let found = sets().flat_map(|(hash, set)| {
            set.ways.iter().flatten().find(|cached| cached.hash == hash).map(|cached| &cached.pair)
        });
        let lines = found.flat_map(|pair| pair.iter().step_by(size_of::<Set>()));
        // What is read must be of use to somebody, or the compiler does not read it.
        black_box((taken, lines.fold(0, |all, byte| all ^ byte)));
    }

    /// Takes in a key that is not here, of a store of so many keys, unless it is long, or would
    /// drive out another and it is not its turn.
    pub(super) fn offer(&mut self, hash: u64, keys: usize, key: &[u8], value: &[u8]) {
        let bytes = key.len() + value.len();
        if bytes > CACHED_PAIR_BYTES_MAX {
            return;
        }
        let wanted =
            (PLACES_PER_KEY * keys).min(CACHED_KEYS_MAX).div_ceil(WAYS).next_power_of_two();
        if self.sets.len() < wanted {
            self.grow(wanted);
        }
        let is_full = self.sets[self.place(hash)].ways.iter().all(Option::is_some);
        if is_full || self.bytes + bytes > CACHED_BYTES_MAX {
            self.offers += 1;
            if !self.offers.is_multiple_of(OFFERS_TAKEN) {
                return;
            }
        }
        while self.bytes + bytes > CACHED_BYTES_MAX {
            let driven_out = std::mem::take(&mut self.sets[self.hand]);
            let pairs = driven_out.ways.iter().flatten().map(|cached| cached.pair.len());
            self.bytes -= pairs.sum::<usize>();
            self.hand = (self.hand + 1) % self.sets.len();
        }
        let key_bytes = u32::try_from(key.len()).expect("a key is shorter than a request");
        self.bytes += bytes;
        self.push(Cached { hash, pair: [key, value].concat().into(), key_bytes });
    }

    /// A key has got another value, and no deadline.
    pub(super) fn replace(&mut self, key: &[u8], value: &[u8]) {
        if let Some(way) = self.way_of(key)
            && let Some(cached) = way
        {
            if cached.value().len() == value.len() {
                cached.pair[key.len()..].copy_from_slice(value);
            } else {
                let bytes = cached.pair.len();
                *way = None;
                self.bytes -= bytes;
            }
        }
    }

    /// A key is gone, has got a deadline, or is about to change.
    pub(super) fn forget(&mut self, key: &[u8]) {
        if let Some(cached) = self.way_of(key).and_then(Option::take) {
            self.bytes -= cached.pair.len();
        }
    }

    /// All that is here.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let cached = self.sets.iter().flat_map(|set| set.ways.iter().flatten());
        cached.map(|cached| (cached.key(), cached.value()))
    }

    /// Where a key is, if it is here.
    fn way_of(&mut self, key: &[u8]) -> Option<&mut Option<Cached>> {
        if self.is_empty() || removed(Rule::CacheFollowsWrites) {
            return None;
        }
        let hash = ReadCache::hash(key);
        let place = self.place(hash);
        let is_it =
            |way: &&mut Option<Cached>| way.as_ref().is_some_and(|cached| cached.is(hash, key));
        self.sets[place].ways.iter_mut().find(is_it)
    }

    fn grow(&mut self, sets: usize) {
        let old = std::mem::take(&mut self.sets);
        self.sets.resize_with(sets, Default::default);
        let oldest_first = old.into_iter().flat_map(|set| set.ways.into_iter().rev().flatten());
        oldest_first.for_each(|cached| self.push(cached));
    }

    fn push(&mut self, cached: Cached) {
        let place = self.place(cached.hash);
        let [newest, older] = &mut self.sets[place].ways;
        if let Some(next) = newest.replace(cached)
            && let Some(driven_out) = older.replace(next)
        {
            self.bytes -= driven_out.pair.len();
        }
    }

    fn place(&self, hash: u64) -> usize {
        let mask = self.sets.len() as u64 - 1;
        usize::try_from(hash & mask).expect("it is less than the number of sets")
    }
}

impl Cached {
    fn is(&self, hash: u64, key: &[u8]) -> bool {
        self.hash == hash && self.key() == key
    }

    fn key(&self) -> &[u8] {
        &self.pair[..self.key_bytes as usize]
    }

    fn value(&self) -> &[u8] {
        &self.pair[self.key_bytes as usize..]
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

    fn value_of(cache: &mut ReadCache, key: &str) -> Option<Bytes> {
        cache.get(ReadCache::hash(key.as_bytes()), key.as_bytes())
    }

    fn insert(cache: &mut ReadCache, key: &str, keys: usize) {
        cache.offer(ReadCache::hash(key.as_bytes()), keys, key.as_bytes(), key.as_bytes());
        let bytes = cache.iter().map(|(key, value)| key.len() + value.len());
        assert_eq!(cache.bytes, bytes.sum::<usize>());
    }

    fn cached(cache: &mut ReadCache, keys: usize) -> usize {
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
        assert_eq!(cache.sets.len() * WAYS, 4096);
        let few = cached(&mut cache, 100);
        assert!(few > 95, "{few} of 100");
        for keys in [10_000, 1_000_000_000] {
            insert(&mut cache, "last", keys);
            assert_eq!(cached(&mut cache, 100), few, "places that were apart stay apart");
            assert!(cache.sets.len() > before);
            before = cache.sets.len();
        }
        assert_eq!(before * WAYS, CACHED_KEYS_MAX);
    }

    /// Whatever is read drives out one key at most, and the one that came first; and not each time.
    #[test]
    fn of_two_keys_with_the_same_places_the_first_leaves() {
        let mut cache = ReadCache::default();
        // A store of no keys has one set.
        let found =
            |cache: &mut ReadCache| ["a", "b", "c"].map(|key| value_of(cache, key).is_some());
        insert(&mut cache, "a", 0);
        insert(&mut cache, "b", 0);
        assert_eq!(cache.sets.len(), 1);
        for _ in 1..OFFERS_TAKEN {
            insert(&mut cache, "c", 0);
            assert_eq!(found(&mut cache), [true, true, false], "it would drive out another");
        }
        insert(&mut cache, "c", 0);
        assert_eq!(found(&mut cache), [false, true, true]);

        cache.replace(b"a", b"A");
        cache.replace(b"b", b"B");
        assert_eq!(value_of(&mut cache, "a"), None, "only what is read is here");
        assert_eq!(value_of(&mut cache, "b"), Some(Bytes::from(b"B")));
        cache.forget(b"c");
        assert_eq!(value_of(&mut cache, "c"), None);
        insert(&mut cache, "a", 0);
        assert!(value_of(&mut cache, "b").is_some(), "there was a free place");
        cache.replace(b"b", b"longer");
        assert_eq!(found(&mut cache), [true, false, false], "it is taken in with the next read");
        insert(&mut cache, "b", 0);
        assert_eq!(found(&mut cache), [true, true, false], "there was a free place");
    }

    /// However long the values are; and who reads other keys than before finds them here.
    #[test]
    fn its_bytes_are_bounded() {
        let mut cache = ReadCache::default();
        let value = [b'v'; 2000];
        let hash = |number: usize| ReadCache::hash(&number.to_be_bytes());
        let is_cached = |cache: &mut ReadCache, number: usize| {
            cache.get(hash(number), &number.to_be_bytes()).is_some()
        };
        let fitting = CACHED_BYTES_MAX / 2008;
        for number in 0..2 * fitting {
            cache.offer(hash(number), 1_000_000, &number.to_be_bytes(), &value);
            assert!(cache.bytes <= CACHED_BYTES_MAX);
        }
        for _ in 0..OFFERS_TAKEN {
            cache.offer(hash(usize::MAX), 1_000_000, &usize::MAX.to_be_bytes(), &value);
        }
        assert!(is_cached(&mut cache, usize::MAX), "it has its turn");
        let early = (0..fitting).filter(|number| is_cached(&mut cache, *number)).count();
        let late = (fitting..2 * fitting).filter(|number| is_cached(&mut cache, *number)).count();
        assert!(early > fitting / 2 && late > fitting / 16, "{early} and {late} of {fitting} each");
        let long = [b'v'; CACHED_PAIR_BYTES_MAX];
        cache.offer(hash(7), 1, &[7], &long);
        assert!(cache.bytes <= CACHED_BYTES_MAX && cache.get(hash(7), &[7]).is_none());
    }
}
