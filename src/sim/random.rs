//! The simulator's dice. Everything that happens in a run is drawn from here, so a seed is
//! everything.

/// SplitMix64 (Steele, Lea, Flood 2014): fast, and any seed is a good one.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

/// A probability in ten-thousandths: whole numbers, because floating point differs between
/// machines.
pub type PerTenThousand = u32;

impl Random {
    /// A generator whose whole future is decided by `seed`.
    pub fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// A generator for one part of the world. Parts do not share dice: a fault that is taken out of
    /// a schedule must not change what the clients do.
    pub fn part(seed: u64, part: u64) -> Random {
        let mut random = Random::new(seed ^ part.wrapping_mul(0xd6e8_feb8_6659_fd93));
        random.bits();
        random
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `count`. Requires that there is one.
    pub fn below(&mut self, count: u64) -> u64 {
        assert!(count > 0, "there is no number below 0");
        // The high half of a 64-by-64-bit product: no division, and unbiased enough.
        ((u128::from(self.bits()) * u128::from(count)) >> 64) as u64
    }

    /// A position in a list of `count`.
    pub fn position(&mut self, count: usize) -> usize {
        usize::try_from(self.below(count as u64)).expect("it is below a usize")
    }

    /// A number between `low` and `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// The same, for the core's 32-bit options.
    pub fn ticks(&mut self, low: u32, high: u32) -> u32 {
        low + u32::try_from(self.below(u64::from(high - low) + 1)).expect("it is below 33 bits")
    }

    /// True this often.
    pub fn chance(&mut self, probability: PerTenThousand) -> bool {
        probability > 0 && self.below(10_000) < u64::from(probability)
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.position(choices.len())]
    }
}
