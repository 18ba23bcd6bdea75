//! Hashes that are the same on every machine and in every version of ours.
//!
//! Servers compare hashes of their states, and SCAN's cursors come from hashes, and a client may
//! bring them to another server. The standard library's hasher promises neither.
//!
//! The hash of a state is asked for often and a state is large, so it is never computed: it is
//! *kept*. Each table that is part of the state has a [`Sum`] of the hashes of its elements, and
//! whoever changes an element subtracts the old hash and adds the new one. A sum knows no order, so
//! equal tables have equal sums whatever way led to them.
//!
//! That makes hashing part of every write, and it must be fast. [`Digest`] takes eight bytes at a
//! time, and of long values four times eight whose multiplications do not wait for each other: 256
//! bytes take some 30 ns, where FNV-1a, a byte at a time, takes 300. (Two rounds of CRC-32 would be
//! as fast, but CRCs are linear: sums of them meet far too easily.) It withstands accidents and no
//! adversary, and need not: all servers apply the same log, whoever wrote it.

/// FNV-1a, 64 bits: for SCAN's order.
pub(super) struct Fnv1a(u64);

impl Fnv1a {
    pub(super) fn new() -> Fnv1a {
        Fnv1a(0xcbf2_9ce4_8422_2325)
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub(super) fn value(&self) -> u64 {
        self.0
    }
}

/// Spreads what differs over all bits, and takes different numbers to different ones.
pub(super) fn spread(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// What kind of thing is hashed, so that things of two kinds with the same content differ.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// A key with its value.
    Pair = 1,
    /// A deleted key.
    Tombstone,
    /// A range of serials.
    Range,
    /// A client of ONCE.
    Client,
    /// What it was answered.
    Answer,
    /// A table with all of its elements.
    Table,
    /// A whole state.
    State,
}

/// The hash of one thing, in the making.
#[derive(Clone, Copy)]
pub(super) struct Digest(u64);

impl Digest {
    pub(super) fn of(kind: Kind) -> Digest {
        Digest(0).number(kind as u64)
    }

    /// Two digests that differ go on differing, and so do those of two numbers.
    #[inline]
    pub(super) fn number(self, number: u64) -> Digest {
        let product = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Digest(product ^ (product >> 32))
    }

    /// The length goes first, so that `ab` + `c` and `a` + `bc` differ, and a short end can be
    /// filled up with zeros.
    pub(super) fn bytes(self, bytes: &[u8]) -> Digest {
        let mut digest = self.number(bytes.len() as u64);
        let (blocks, rest) = bytes.as_chunks::<32>();
        if !blocks.is_empty() {
            let mut lanes = [1, 2, 3, 4].map(Digest);
            for block in blocks {
                for (lane, word) in lanes.iter_mut().zip(block.as_chunks::<8>().0) {
                    *lane = lane.number(u64::from_le_bytes(*word));
                }
            }
            digest = lanes.into_iter().fold(digest, |digest, lane| digest.number(lane.0));
        }
        for word in rest.chunks(8) {
            let mut filled = [0; 8];
            filled[..word.len()].copy_from_slice(word);
            digest = digest.number(u64::from_le_bytes(filled));
        }
        digest
    }

    pub(super) fn value(self) -> u64 {
        spread(self.0)
    }
}

/// The sum of the hashes of a table's elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Sum(u64);

impl Sum {
    pub(super) fn add(&mut self, element: u64) {
        self.0 = self.0.wrapping_add(element);
    }

    pub(super) fn subtract(&mut self, element: u64) {
        self.0 = self.0.wrapping_sub(element);
    }

    pub(super) fn value(self) -> u64 {
        self.0
    }
}

impl FromIterator<u64> for Sum {
    fn from_iter<I: IntoIterator<Item = u64>>(elements: I) -> Sum {
        Sum(elements.into_iter().fold(0, u64::wrapping_add))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn hash(bytes: &[u8]) -> u64 {
        Digest::of(Kind::Pair).bytes(bytes).value()
    }

    /// Servers of two versions compare their states, and a snapshot is checked by a later version:
    /// these numbers may change only together with the version of the snapshot's encoding.
    #[test]
    fn hashes_are_the_same_everywhere_and_for_ever() {
        let bytes: Vec<u8> = (0..100).collect();
        assert_eq!(hash(b""), 0x9ef9_ea8d_d217_236e);
        assert_eq!(hash(b"color"), 0x79ab_d864_5d02_b2b8);
        assert_eq!(hash(&bytes), 0x07b3_7733_ffd9_f41a);
    }

    /// One byte more, less or different anywhere makes another hash.
    #[test]
    fn every_byte_has_its_share() {
        let mut seen = BTreeSet::new();
        for length in 0..100 {
            let mut bytes = vec![0; length];
            assert!(seen.insert(hash(&bytes)), "{length} zeros");
            for position in 0..length {
                for bit in 0..8 {
                    bytes[position] = 1 << bit;
                    assert!(seen.insert(hash(&bytes)), "bit {bit} of byte {position} of {length}");
                }
                bytes[position] = 0;
            }
        }
    }
}
