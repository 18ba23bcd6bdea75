//! The core's only randomness: a small generator with an injected seed, so that a run can be
//! replayed.

/// SplitMix64 (Steele, Lea, Flood 2014): eight bytes of state, good enough to spread timeouts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Random {
    state: u64,
}

impl Random {
    /// A generator whose whole future is decided by `seed`.
    pub fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// A number between `low` and `high`, both included. Requires `low <= high`.
    pub fn between(&mut self, low: u32, high: u32) -> u32 {
        assert!(low <= high, "an empty range has no number in it");
        let span = u64::from(high - low) + 1;
        // The high half of a 64-by-32-bit product: unbiased enough for spans of a few hundred.
        let offset = ((self.next() >> 32) * span) >> 32;
        low + u32::try_from(offset).expect("the offset is below a 33-bit span")
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
