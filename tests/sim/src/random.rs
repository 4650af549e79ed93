//! The one source of chance of a run: splitmix64 (Steele, Lea and Flood, 2014) from the run's seed.

/// Seeded chance.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// From a seed; equal seeds give equal runs.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Evenly below `n`; zero for `n = 0`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.any() % n.max(1)
    }

    /// Evenly from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True so often in a thousand.
    pub fn permille(&mut self, n: u64) -> bool {
        self.below(1000) < n
    }

    /// 32 random bytes.
    pub fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for chunk in bytes.chunks_exact_mut(8) {
            chunk.copy_from_slice(&self.any().to_be_bytes());
        }
        bytes
    }
}
