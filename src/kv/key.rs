//! A key as the store keeps it, made to be compared.
//!
//! A search in an ordered map compares the key sought with a dozen others. If each of these is a
//! pointer to bytes elsewhere, then each comparison waits for memory, and the search takes most of
//! the time of a new key, of a deletion, of a range. So a key carries its first 16 bytes with it,
//! and lies with its neighbours in a node of the map: few comparisons have to look further.

use std::cmp::Ordering;
use std::ops::Deref;

use equivalent::Comparable;

use super::bytes::Bytes;

/// The bytes of a key, in memory that no command and no value has a share in: all orders in which
/// the store keeps the key have it, for as long as it is there.
pub(super) type Name = Bytes;

/// How many bytes a prefix holds.
const PREFIX_BYTES: usize = 16;

/// A key, kept or, as `Key<&[u8]>`, sought. In the order of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key<N = Name> {
    /// The first bytes as big-endian numbers, so that numbers compare like the bytes; zeros after
    /// the end. Two numbers and not one of 128 bits, which would have to lie at multiples of 16.
    prefix: [u64; 2],
    /// All bytes.
    name: N,
}

impl<N: Deref<Target = [u8]>> Key<N> {
    pub(super) fn new(name: N) -> Key<N> {
        let mut prefix = [0; PREFIX_BYTES];
        let length = name.len().min(PREFIX_BYTES);
        prefix[..length].copy_from_slice(&name[..length]);
        let number = u128::from_be_bytes(prefix);
        Key { prefix: [(number >> 64) as u64, number as u64], name }
    }

    pub(super) fn name(&self) -> &N {
        &self.name
    }

    fn compare_with<M: Deref<Target = [u8]>>(&self, other: &Key<M>) -> Ordering {
        self.prefix.cmp(&other.prefix).then_with(|| self.compare_further(other))
    }

    /// Compares keys of equal prefixes. Short ones are still not looked at: one of them is the
    /// other with zeros appended.
    fn compare_further<M: Deref<Target = [u8]>>(&self, other: &Key<M>) -> Ordering {
        if self.name.len().min(other.name.len()) <= PREFIX_BYTES {
            self.name.len().cmp(&other.name.len())
        } else {
            self.name[PREFIX_BYTES..].cmp(&other.name[PREFIX_BYTES..])
        }
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Key) -> Ordering {
        self.compare_with(other)
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Key) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Comparable<Key> for Key<&[u8]> {
    fn compare(&self, other: &Key) -> Ordering {
        self.compare_with(other)
    }
}

impl equivalent::Equivalent<Key> for Key<&[u8]> {
    fn equivalent(&self, other: &Key) -> bool {
        self.compare_with(other).is_eq()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Keys that begin alike, end in zeros, and are about as long as a prefix.
    fn name() -> impl Strategy<Value = Vec<u8>> {
        let filler = prop_oneof![Just(0), Just(b'a'), Just(255)];
        (0..20_usize, filler, proptest::collection::vec(prop_oneof![Just(0), any::<u8>()], 0..4))
            .prop_map(|(length, filler, end)| [vec![filler; length], end].concat())
    }

    proptest! {
        /// RANGE promises the order of the bytes.
        #[test]
        fn keys_are_in_the_order_of_their_bytes(left in name(), right in name()) {
            let kept = Key::new(Name::from(&right[..]));
            prop_assert_eq!(Key::new(Name::from(&left[..])).cmp(&kept), left.cmp(&right));
            prop_assert_eq!(Key::new(&left[..]).compare(&kept), left.cmp(&right));
        }
    }
}
