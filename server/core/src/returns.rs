//! How long hosts of a kind take to come back from a reboot, so that a slow kind is not called silent.

use ringward_domain::Millis;
use std::collections::{BTreeMap, VecDeque};

/// Newest reboots remembered of a kind.
const SAMPLES_MAX: usize = 256;
/// Reboots below which a kind's p99 is not known: the largest of 20 stands in for it.
const SAMPLES_MIN: usize = 20;
/// Of these written down a kind: a fifth more than are needed to know its p99.
const SAMPLES_KEPT: usize = 24;
/// Kinds told apart; hosts of further ones keep the policy's deadline.
const KINDS_MAX: usize = 1024;
/// A longer absence was no reboot but somebody's night.
const REBOOT_MAX: Millis = Millis::mins(30);

/// Times from the last word before a reboot to the first one after it, by kind of host.
#[derive(Debug, Clone, Default)]
pub struct Returns {
    kinds: BTreeMap<String, VecDeque<Millis>>,
}

impl Returns {
    /// An unexposed host of this kind came back from a reboot after so long.
    pub fn took(&mut self, kind: &str, time: Millis) {
        if time > REBOOT_MAX || (self.kinds.len() >= KINDS_MAX && !self.kinds.contains_key(kind)) {
            return;
        }
        let times = self.kinds.entry(kind.to_owned()).or_default();
        times.push_back(time);
        if times.len() > SAMPLES_MAX {
            times.pop_front();
        }
    }

    /// The newest times of each kind, oldest first.
    #[must_use]
    pub fn newest(&self) -> BTreeMap<String, Vec<Millis>> {
        let newest = |times: &VecDeque<Millis>| {
            let skip = times.len().saturating_sub(SAMPLES_KEPT);
            times.iter().skip(skip).copied().collect()
        };
        let kinds = self.kinds.iter();
        kinds.map(|(kind, t)| (kind.clone(), newest(t))).collect()
    }

    /// Goes on from what [`newest`](Self::newest) told.
    #[must_use]
    pub fn from_newest(kinds: &BTreeMap<String, Vec<Millis>>) -> Self {
        let mut returns = Self::default();
        for (kind, times) in kinds {
            for time in times {
                returns.took(kind, *time);
            }
        }
        returns
    }

    /// Silence after which a host of this kind does not come back: twice the 99th percentile of its
    /// kind, so at most an hour; zero while too few reboots are known.
    #[must_use]
    pub fn patience(&self, kind: &str) -> Millis {
        let Some(times) = self.kinds.get(kind).filter(|t| t.len() >= SAMPLES_MIN) else {
            return Millis::ZERO;
        };
        let mut sorted: Vec<Millis> = times.iter().copied().collect();
        sorted.sort_unstable();
        let rank = (sorted.len() * 99).div_ceil(100);
        sorted
            .get(rank.saturating_sub(1))
            .map_or(Millis::ZERO, |p99| p99.times(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_kind_gets_twice_its_99th_percentile_and_others_nothing() {
        let mut returns = Returns::default();
        for minute in 1..=19 {
            returns.took("slow", Millis::mins(minute));
        }
        assert_eq!(returns.patience("slow"), Millis::ZERO);
        returns.took("slow", Millis::mins(20));
        assert_eq!(returns.patience("slow"), Millis::mins(40));
        assert_eq!(returns.patience("other"), Millis::ZERO);
    }

    #[test]
    fn what_was_written_down_gives_the_same_patience_when_times_did_not_change() {
        let mut returns = Returns::default();
        for _ in 0..100 {
            returns.took("slow", Millis::mins(12));
            returns.took("fast", Millis::mins(1));
        }
        let kept = returns.newest();
        assert!(kept.values().all(|times| times.len() == SAMPLES_KEPT));
        let again = Returns::from_newest(&kept);
        for kind in ["slow", "fast", "unknown"] {
            assert_eq!(again.patience(kind), returns.patience(kind));
        }
    }

    #[test]
    fn one_night_is_no_reboot_and_memory_is_bounded() {
        let mut returns = Returns::default();
        for _ in 0..1000 {
            returns.took("k", Millis::mins(2));
        }
        returns.took("k", Millis::hours(9));
        assert_eq!(returns.patience("k"), Millis::mins(4));
        assert_eq!(returns.kinds["k"].len(), SAMPLES_MAX);
        for kind in 0..2 * KINDS_MAX {
            returns.took(&kind.to_string(), Millis::mins(1));
        }
        assert_eq!(returns.kinds.len(), KINDS_MAX);
    }
}
