//! A hash that is the same on every machine and in every version of ours.
//!
//! Servers compare hashes of their states, and SCAN's cursors are hashes that a client may bring to
//! another server. The standard library's hasher promises neither.

/// FNV-1a, 64 bits.
pub(super) struct Fnv1a(u64);

impl Fnv1a {
    pub(super) fn new() -> Fnv1a {
        Fnv1a(0xcbf2_9ce4_8422_2325)
    }

    pub(super) fn number(&mut self, number: u64) {
        self.raw(&number.to_le_bytes());
    }

    /// The length goes first, so that `ab` + `c` and `a` + `bc` differ.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.raw(bytes);
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
