//! Time as an argument. No value here is ever a wall clock.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, AddAssign, Sub};

/// A length of time in milliseconds. Arithmetic saturates.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// From whole seconds.
    #[must_use]
    pub const fn secs(s: u64) -> Self {
        Self(s.saturating_mul(1000))
    }
    /// From whole minutes.
    #[must_use]
    pub const fn mins(m: u64) -> Self {
        Self::secs(m.saturating_mul(60))
    }
    /// From whole hours.
    #[must_use]
    pub const fn hours(h: u64) -> Self {
        Self::mins(h.saturating_mul(60))
    }
    /// In seconds, fractions kept.
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }
    /// This many times as long.
    #[must_use]
    pub const fn times(self, n: u64) -> Self {
        Self(self.0.saturating_mul(n))
    }
}
impl Add for Millis {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}
impl AddAssign for Millis {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}
impl Sub for Millis {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}
impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.0 / 1000;
        match self.0 {
            0..1000 => write!(f, "{} ms", self.0),
            1000..120_000 if self.0.is_multiple_of(1000) => write!(f, "{s} s"),
            1000..120_000 => write!(f, "{}.{} s", s, self.0 % 1000 / 100),
            120_000..7_200_000 => write!(f, "{} min", s / 60),
            _ => write!(f, "{}.{} h", s / 3600, s % 3600 / 360),
        }
    }
}

/// A point on a monotonic clock, in milliseconds.
///
/// On an agent this is the boot-time clock (suspend counts); on the server the *fleet clock*, which
/// advances only while the server runs and never steps back, so deadlines stand still while it is
/// down and a wrong wall clock changes no decision (DESIGN §2.11). Values of two machines, or of two
/// boots of one machine, are never compared.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Time passed since `earlier`; zero if that is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}
impl Add<Millis> for Timestamp {
    type Output = Self;
    fn add(self, d: Millis) -> Self {
        Self(self.0.saturating_add(d.0))
    }
}
impl Sub<Millis> for Timestamp {
    type Output = Self;
    fn sub(self, d: Millis) -> Self {
        Self(self.0.saturating_sub(d.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_wraps() {
        assert_eq!(Timestamp(u64::MAX) + Millis::hours(1), Timestamp(u64::MAX));
        assert_eq!(Timestamp(5).since(Timestamp(9)), Millis::ZERO);
    }

    #[test]
    fn durations_read_as_people_say_them() {
        for (ms, text) in [
            (5, "5 ms"),
            (8_000, "8 s"),
            (1_500, "1.5 s"),
            (600_000, "10 min"),
            (9_000_000, "2.5 h"),
        ] {
            assert_eq!(Millis(ms).to_string(), text);
        }
    }
}
