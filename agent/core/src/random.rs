//! Randomness from the seed of `Started`: xoshiro256++ (Blackman and Vigna, 2019). It draws jitter
//! and nonces; nonces need to be distinct, not secret (they travel under mTLS and bind to the
//! host's identity).

use ringward_domain::{Millis, Nonce};

#[derive(Debug, Clone)]
pub(crate) struct Random([u64; 4]);

impl Random {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        let mut state = [0; 4];
        for (word, bytes) in state.iter_mut().zip(seed.chunks_exact(8)) {
            *word = bytes.iter().fold(0, |w, b| w << 8 | u64::from(*b));
        }
        if state == [0; 4] {
            state[0] = 1; // the one state that would stay at zero for ever
        }
        Self(state)
    }

    pub(crate) fn next(&mut self) -> u64 {
        let s = &mut self.0;
        let out = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        out
    }

    /// Evenly from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: Millis, high: Millis) -> Millis {
        let span = high.0.saturating_sub(low.0).saturating_add(1);
        Millis(low.0 + self.next() % span.max(1))
    }

    /// Between half of `d` and `d`: spreads a fleet, yet never waits longer than said.
    pub(crate) fn jitter(&mut self, d: Millis) -> Millis {
        self.between(Millis(d.0 / 2), d)
    }

    pub(crate) fn nonce(&mut self) -> Nonce {
        let mut raw = [0; 16];
        raw[..8].copy_from_slice(&self.next().to_be_bytes());
        raw[8..].copy_from_slice(&self.next().to_be_bytes());
        Nonce(raw)
    }
}

/// Delay before try number `tries` (from 0): `base` doubled each time up to `max`, then jittered
/// down to at least half.
pub(crate) fn backoff(random: &mut Random, base: Millis, max: Millis, tries: u32) -> Millis {
    let grown = base.0.saturating_mul(1 << tries.min(20));
    random.jitter(Millis(grown.min(max.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_stays_between_half_and_whole_of_its_bound() {
        let mut random = Random::new([7; 32]);
        for tries in 0..64 {
            let d = backoff(&mut random, Millis::secs(1), Millis::secs(60), tries);
            let whole = 1000u64.saturating_mul(1 << tries.min(20)).min(60_000);
            assert!(d.0 >= whole / 2 && d.0 <= whole, "try {tries}: {d}");
        }
    }

    #[test]
    fn a_seed_of_zeros_still_gives_distinct_nonces() {
        let mut random = Random::new([0; 32]);
        let drawn: std::collections::BTreeSet<_> = (0..1000).map(|_| random.nonce()).collect();
        assert_eq!(drawn.len(), 1000);
    }
}
