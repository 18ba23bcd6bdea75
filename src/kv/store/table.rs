//! Keys with their values: found by hash, walked through in order, and frozen in no time.
//!
//! ```text
//! index: hash ─▶ row ─┐
//! order: key  ─▶ row ─┴─▶ rows: key and value
//! ```
//!
//! A search in an ordered map of a hundred thousand keys waits for memory some ten times, one after
//! the other: which place to look at next depends on what was found at the last. Most requests name
//! one key and need no order, so a hash table tells its row. That is three waits: for the place in
//! the index, for the row, in which the key lies too if it is short, and for the value with the
//! count of its owners (and for the head of the row's leaf, if it is to change). And they can be
//! shared: who knows which keys come next fetches what these lookups will touch for all of them at
//! once (`fetch_to_get`, `fetch_to_set`), and the processor waits for many places at the same time.
//!
//! Rows have no gaps: when a key is removed, the last row moves into its place. Which row a key has
//! depends on the way a server has come, so it is no part of the state: tables are equal if they
//! hold the same keys and values.
//!
//! Rows and order are persistent, and a clone shares them with its original until either changes.
//! The index is not. A clone has none, and finds its rows by the order: it is made to be written to
//! a snapshot, or to answer a long question.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::hint::black_box;
use std::iter;

use hashbrown::HashTable;
use imbl::OrdMap;

use super::Versioned;
use super::rows::Rows;
use crate::kv::bytes::Bytes;
use crate::kv::digest;
use crate::kv::key::{Key, Name};
use crate::lab::{Rule, removed};

/// How much memory the processor brings at once, in bytes.
const LINE_BYTES: usize = 64;

/// So many lines of a value are fetched before it is told: what follows these comes by itself.
const LINES_FETCHED: usize = 16;

/// So many values are fetched together when all are read.
const ROWS_FETCHED: usize = 16;

/// A map from keys to their values.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    /// Every key with its value, in no order.
    rows: Rows<(Name, Versioned)>,
    /// The row of every key.
    order: OrdMap<Key, u32>,
    /// The same, by the keys' hashes.
    index: Index,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn get(&self, key: &Key<&[u8]>) -> Option<&Versioned> {
        self.rows.get(self.row(key)?).map(|(_, found)| found)
    }

    /// The value of a key, to be changed, and the key as it is kept here.
    pub(super) fn get_mut(&mut self, key: &Key<&[u8]>) -> Option<(&Name, &mut Versioned)> {
        let row = self.row(key)?;
        self.rows.get_mut(row).map(|(name, found)| (&*name, found))
    }

    /// Adds a key that is not here.
    pub(super) fn insert(&mut self, key: Key, value: Versioned) {
        let row = u32::try_from(self.rows.len()).expect("so many keys do not fit into memory");
        self.index.insert(key.name(), row);
        self.rows.push((Name::clone(key.name()), value));
        let before = self.order.insert(key, row);
        assert!(before.is_none() || removed(Rule::MovedRowsAreFound), "a key has one row");
    }

    /// Removes a key.
    pub(super) fn remove(&mut self, key: &Key<&[u8]>) -> Option<(Key, Versioned)> {
        let (key, row) = self.order.remove_with_key(key)?;
        self.index.remove(key.name(), row);
        let (name, last) = self.rows.pop().expect("a key has a row");
        let at = row as usize;
        if at == self.rows.len() {
            return Some((key, last));
        }
        let from = u32::try_from(self.rows.len()).expect("it was the number of a row");
        self.index.moved(&name, from, row);
        let moved = self.order.get_mut(&Key::new(&name[..]));
        *moved.expect("every row's key is in the order") = row;
        let place = self.rows.get_mut(at).expect("it is no longer the last");
        Some((key, std::mem::replace(place, (name, last)).1))
    }

    /// All keys in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, &Versioned)> {
        self.order.iter().map(|(key, row)| (key, self.found(*row)))
    }

    /// The keys from `from` on, in their order.
    pub(super) fn iter_from(&self, from: Key<&[u8]>) -> impl Iterator<Item = (&Key, &Versioned)> {
        self.order.range(from..).map(|(key, row)| (key, self.found(*row)))
    }

    /// All keys in their order, for whoever reads all of the values: the next few are fetched
    /// together.
    pub(super) fn iter_all(&self) -> impl Iterator<Item = &(Name, Versioned)> {
        let mut order = self.order.iter();
        let together = iter::from_fn(move || {
            let rows: Vec<u32> = order.by_ref().take(ROWS_FETCHED).map(|(_, row)| *row).collect();
            (!rows.is_empty()).then(|| self.fetch_to_tell(&rows))
        });
        together.flatten()
    }

    /// All keys in no order, which is quicker.
    pub(super) fn rows(&self) -> impl Iterator<Item = &(Name, Versioned)> {
        self.rows.iter()
    }

    /// These keys will be asked for: brings into the processor's caches what `get` will touch, and
    /// the beginnings of the values.
    pub(super) fn fetch_to_get(&self, keys: &[&[u8]]) {
        self.fetch_to_tell(&self.first_rows(keys));
    }

    /// These rows, with the beginnings of the values.
    fn fetch_to_tell(&self, rows: &[u32]) -> Vec<&(Name, Versioned)> {
        let found = self.fetch_rows(rows);
        let values = || found.iter().map(|(_, found)| &found.value);
        Bytes::fetch_owners(values());
        let lines = values().flat_map(|value| value.iter().step_by(LINE_BYTES).take(LINES_FETCHED));
        black_box(lines.fold(0, |all, byte| all ^ byte));
        found
    }

    /// These keys will get other values: brings into the processor's caches what `get_mut` will
    /// touch, and of the old values what counts their owners, as hardly anybody looks at the rest.
    pub(super) fn fetch_to_set(&self, keys: &[&[u8]]) {
        let rows = self.first_rows(keys);
        let found = self.fetch_rows(&rows);
        black_box(rows.iter().filter(|row| self.rows.is_own(**row as usize)).count());
        Bytes::fetch_owners(found.iter().map(|(_, found)| &found.value));
    }

    /// The rows of the first keys with the hashes of these.
    fn first_rows(&self, keys: &[&[u8]]) -> Vec<u32> {
        // First all hashes: to compute them between the lookups would take up the processor, which
        // looks some hundred steps ahead for what it can fetch.
        let hashes: Vec<u32> = keys.iter().map(|key| self.index.hash(key)).collect();
        let mut rows = Vec::with_capacity(keys.len());
        rows.extend(hashes.iter().filter_map(|hash| self.index.first_of(*hash)));
        rows
    }

    fn fetch_rows(&self, rows: &[u32]) -> Vec<&(Name, Versioned)> {
        let mut found = Vec::with_capacity(rows.len());
        found.extend(rows.iter().filter_map(|row| self.rows.get(*row as usize)));
        // Two places of each row, as it is longer than a line of the caches. What is read must be
        // of use to somebody, or the compiler does not read it.
        let read = found.iter().map(|(name, found)| name.len() as u64 ^ found.hash);
        black_box(read.fold(0, |all, number| all ^ number));
        found
    }

    fn found(&self, row: u32) -> &Versioned {
        &self.rows.get(row as usize).expect("the order knows rows that exist").1
    }

    fn row(&self, key: &Key<&[u8]>) -> Option<usize> {
        let hash = self.index.hash(key.name());
        let row = match self.index.part(hash) {
            Some(part) => {
                let is_it = |place: &Place| {
                    let row = self.rows.get(place.row as usize);
                    place.hash == hash && row.is_some_and(|(kept, _)| kept[..] == **key.name())
                };
                part.find(spread(hash), is_it)?.row
            }
            None => *self.order.get(key)?,
        };
        Some(row as usize)
    }

    /// Whether its three parts agree.
    #[cfg(test)]
    pub(super) fn check(&self) {
        assert_eq!(self.order.len(), self.rows.len());
        for (row, (name, _)) in self.rows.iter().enumerate() {
            let key = Key::new(&name[..]);
            assert_eq!(self.order.get(&key), Some(&u32::try_from(row).expect("few rows")));
            assert_eq!(self.row(&key), Some(row));
        }
        let places: usize = self.index.parts.iter().map(HashTable::len).sum();
        assert!(places == self.rows.len() || self.index.parts.is_empty());
    }
}

impl PartialEq for Table {
    fn eq(&self, other: &Table) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Table {}

impl Hash for Table {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.iter().for_each(|pair| pair.hash(hasher));
    }
}

/// Which row a key has, by the key's hash.
#[derive(Debug)]
struct Index {
    /// Each has the keys of some hashes, and grows by itself: one table of all would stop everybody
    /// when it grows, for 40 ms at two million keys, and 280 at eight. Empty in a copy, which looks
    /// in the order.
    parts: Vec<HashTable<Place>>,
    /// Keys come from clients, and one who knew the hashes could choose keys that have the same:
    /// each of their lookups would pass by all of them. So every server has hashes of its own. They
    /// decide nothing but where a row is found: nobody walks through the parts.
    hasher: RandomState,
}

/// How many parts there are: a power of two.
const PARTS: usize = 256;

/// A part has room for up to so many times as many places as are taken.
const FREE_PER_PLACE_MAX: usize = 8;

/// A key, as the index knows it.
#[derive(Debug)]
struct Place {
    /// Kept, so that a part can grow without looking at the keys.
    hash: u32,
    row: u32,
}

impl Index {
    fn hash(&self, key: &[u8]) -> u32 {
        (self.hasher.hash_one(key) >> 32) as u32
    }

    fn part(&self, hash: u32) -> Option<&HashTable<Place>> {
        self.parts.get(part_of(hash))
    }

    /// The row of the first key that has this hash.
    fn first_of(&self, hash: u32) -> Option<u32> {
        let place = self.part(hash)?.find(spread(hash), |place| place.hash == hash);
        place.map(|place| place.row)
    }

    fn insert(&mut self, key: &[u8], row: u32) {
        let hash = self.hash(key);
        if let Some(part) = self.parts.get_mut(part_of(hash)) {
            part.insert_unique(spread(hash), Place { hash, row }, |place| spread(place.hash));
        }
    }

    fn remove(&mut self, key: &[u8], row: u32) {
        let hash = self.hash(key);
        if let Some(part) = self.parts.get_mut(part_of(hash))
            && let Ok(place) = part.find_entry(spread(hash), |place| place.row == row)
        {
            place.remove();
            // What is free is given back when it is most of the part.
            if part.len() < part.capacity() / FREE_PER_PLACE_MAX {
                part.shrink_to(2 * part.len(), |place| spread(place.hash));
            }
        }
    }

    /// The key has another row now.
    fn moved(&mut self, key: &[u8], from: u32, to: u32) {
        let hash = self.hash(key);
        if let Some(part) = self.parts.get_mut(part_of(hash))
            && let Some(place) = part.find_mut(spread(hash), |place| place.row == from)
            && !removed(Rule::MovedRowsAreFound)
        {
            place.row = to;
        }
    }
}

/// What a part goes by: its lowest bits say where to look, and its 7 highest are kept there.
fn spread(hash: u32) -> u64 {
    digest::spread(hash.into())
}

/// Which part has the keys of a hash: it goes by bits between those.
fn part_of(hash: u32) -> usize {
    (spread(hash) >> 32) as usize % PARTS
}

/// Of an empty table.
impl Default for Index {
    fn default() -> Index {
        Index { parts: (0..PARTS).map(|_| HashTable::new()).collect(), hasher: RandomState::new() }
    }
}

/// To copy it would take long, and copies are asked little.
impl Clone for Index {
    fn clone(&self) -> Index {
        Index { parts: Vec::new(), hasher: self.hasher.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::hash::DefaultHasher;

    use proptest::prelude::*;

    use super::*;

    /// Some keys have to be compared further than to the end of their prefix.
    fn name(number: u8) -> Vec<u8> {
        if number.is_multiple_of(2) {
            vec![number]
        } else {
            [&b"longer than a prefix"[..], &[number]].concat()
        }
    }

    fn found(name: &[u8], version: u64) -> Versioned {
        Versioned::new(name, Bytes::from(&version.to_be_bytes()), version, None)
    }

    /// The same keys and values as in a tree, wherever they are looked for.
    fn compare(table: &Table, tree: &BTreeMap<Vec<u8>, Versioned>) {
        table.check();
        let all = || table.iter().map(|(key, found)| (&key.name()[..], found));
        assert!(all().eq(tree.iter().map(|(name, found)| (&name[..], found))));
        assert_eq!(table.rows().count(), tree.len());
        for number in 0..=u8::MAX {
            let name = name(number);
            assert_eq!(table.get(&Key::new(&name)), tree.get(&name));
            let first = table.iter_from(Key::new(&name)).next().map(|(key, _)| &key.name()[..]);
            assert_eq!(first, tree.range(name..).next().map(|(name, _)| &name[..]));
        }
    }

    fn hash(table: &Table) -> u64 {
        let mut hasher = DefaultHasher::new();
        table.hash(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn keys_with_the_same_hash_are_told_apart() {
        let mut table = Table::default();
        for (version, name) in [(1, b"a"), (2, b"b")] {
            table.insert(Key::new(Name::from(&name[..])), found(name, version));
        }
        let hash = table.index.hash(b"a");
        let part = &mut table.index.parts[part_of(hash)];
        part.clear();
        for row in [1, 0] {
            part.insert_unique(spread(hash), Place { hash, row }, |place| spread(place.hash));
        }
        assert_eq!(table.get(&Key::new(b"a")), Some(&found(b"a", 1)));
    }

    /// The rows' tree has several levels, and parts of the index grow, shrink and have gaps.
    #[test]
    fn it_grows_and_shrinks() {
        const KEYS: u64 = 20_000;
        let name = |number: u64| number.to_be_bytes();
        // Each number once, in no order.
        let scrambled = || (0..KEYS).map(|at| at * 7919 % KEYS);
        let insert = |table: &mut Table, number: u64| {
            table.insert(Key::new(Name::from(&name(number)[..])), found(&name(number), number));
        };
        let mut table = Table::default();
        scrambled().for_each(|number| insert(&mut table, number));
        let frozen = table.clone();
        for number in scrambled().filter(|number| number.is_multiple_of(2)) {
            let removed = table.remove(&Key::new(&name(number))).map(|(_, found)| found.version);
            assert_eq!(removed, Some(number));
        }
        table.check();
        let left = || (0..KEYS).filter(|number| !number.is_multiple_of(2));
        assert!(table.iter().map(|(_, found)| found.version).eq(left()));
        (0..KEYS / 2).for_each(|number| insert(&mut table, 2 * number));
        table.check();
        frozen.check();
        assert!(table == frozen);

        for number in scrambled() {
            assert!(table.remove(&Key::new(&name(number))).is_some());
            let room: usize = table.index.parts.iter().map(HashTable::capacity).sum();
            assert!(room <= FREE_PER_PLACE_MAX * (table.len() + 2 * PARTS), "{room} places");
        }
        table.check();
        frozen.check();
        assert_eq!((table.len(), frozen.len() as u64), (0, KEYS));
    }

    proptest! {
        /// With an index, in a copy that has none and is changed no less, and in a frozen copy.
        #[test]
        fn it_is_a_map(steps in proptest::collection::vec((any::<u8>(), 0..4_u8), 0..300)) {
            let (mut tables, mut frozen) = (Vec::from([Table::default()]), None);
            let mut tree: BTreeMap<Vec<u8>, Versioned> = BTreeMap::new();
            for (version, (number, step)) in (1_u64..).zip(&steps) {
                // Usually few keys, so that many steps meet one that is there.
                let number = if version < 200 { number % 32 } else { *number };
                let name = name(number);
                let new = found(&name, version);
                for table in &mut tables {
                    table.fetch_to_get(&[&name]);
                    table.fetch_to_set(&[&name]);
                    if *step == 0 {
                        let removed = table.remove(&Key::new(&name));
                        let removed = removed.map(|(key, found)| (key.name().to_vec(), found));
                        let expected = tree.get(&name).map(|found| (name.clone(), found.clone()));
                        prop_assert_eq!(removed, expected);
                    } else if let Some((kept, found)) = table.get_mut(&Key::new(&name)) {
                        prop_assert_eq!(&kept[..], &name[..]);
                        *found = new.clone();
                    } else {
                        table.insert(Key::new(Name::from(&name[..])), new.clone());
                    }
                }
                if *step == 0 {
                    tree.remove(&name);
                } else {
                    tree.insert(name, new);
                }
                if version == 100 {
                    tables.push(tables[0].clone());
                    frozen = Some((tables[0].clone(), tree.clone()));
                }
            }
            for table in &tables {
                compare(table, &tree);
            }
            if let Some((table, tree)) = frozen {
                compare(&table, &tree);
            }
            // The same keys with the same values, in other rows.
            let mut other = Table::default();
            for (name, found) in tree.iter().rev() {
                other.insert(Key::new(Name::from(&name[..])), found.clone());
            }
            prop_assert!(other == tables[0] && hash(&other) == hash(&tables[0]));
            if let Some((name, _)) = tree.pop_first() {
                other.remove(&Key::new(&name));
                prop_assert!(other != tables[0]);
            }
        }
    }
}
