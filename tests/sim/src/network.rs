//! A network that loses, doubles, delays and reorders.
//!
//! Within a session messages keep their order, as on a TCP stream; a lost one leaves a gap, a
//! doubled one comes again at any later time, even into another session, boot or agent process.

use crate::random::Random;

/// How bad the network is; times in ms of real time.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// Messages lost, in a thousand.
    pub lost_permille: u64,
    /// Messages that come again later, in a thousand.
    pub doubled_permille: u64,
    /// Messages that hold their session up for long, in a thousand.
    pub slow_permille: u64,
    /// Longest such delay.
    pub slow_max_ms: u64,
    /// Sessions that break with a message, in a thousand.
    pub broken_permille: u64,
}

/// Ten minutes: the longest a message may be under way.
pub const DELAY_MAX_MS: u64 = 600_000;

impl Weather {
    /// Nothing goes wrong, messages take 5 to 40 ms.
    pub const CLEAR: Self = Self {
        lost_permille: 0,
        doubled_permille: 0,
        slow_permille: 0,
        slow_max_ms: 0,
        broken_permille: 0,
    };

    /// A storm, different each time.
    pub fn storm(random: &mut Random) -> Self {
        let pick = |random: &mut Random, of: [u64; 4]| of[random.below(4) as usize];
        Self {
            lost_permille: pick(random, [0, 5, 20, 60]),
            doubled_permille: pick(random, [0, 10, 50, 150]),
            slow_permille: pick(random, [0, 2, 5, 15]),
            slow_max_ms: pick(random, [3_000, 15_000, 90_000, DELAY_MAX_MS]),
            broken_permille: pick(random, [0, 1, 5, 20]),
        }
    }

    /// When a message sent `now` arrives in its session, not before `after` (what was sent before it);
    /// `None` if it is lost.
    pub fn arrival(&self, random: &mut Random, now: u64, after: u64) -> Option<u64> {
        if random.permille(self.lost_permille) {
            return None;
        }
        let slow = random.permille(self.slow_permille);
        let delay = if slow {
            random.below(self.slow_max_ms.min(DELAY_MAX_MS))
        } else {
            random.between(5, 40)
        };
        Some((now + delay).max(after))
    }

    /// When the same message comes again, if it does.
    pub fn echo(&self, random: &mut Random, now: u64) -> Option<u64> {
        if !random.permille(self.doubled_permille) {
            return None;
        }
        let longest = match random.below(3) {
            0 => 200,
            1 => 20_000,
            _ => DELAY_MAX_MS,
        };
        Some(now + 5 + random.below(longest))
    }

    /// Whether a session breaks with this message.
    pub fn breaks(&self, random: &mut Random) -> bool {
        random.permille(self.broken_permille)
    }
}
