//! Strata: the fleet cut by OS build, model, kernel and drivers, and site. A release that kills one of fifty
//! models shows in that model long before it shows in the fleet.
//!
//! Each stratum runs its own e-process; their weighted average is one again, because an average of
//! e-values is an e-value however they depend on each other (Vovk & Wang 2021).

use crate::flaws::{Flaw, flawed};
use crate::stats;

/// Ways to cut: OS build, model, driver set, site.
pub const DIMENSIONS: usize = 4;
/// Words for them.
pub const DIMENSION_NAMES: [&str; DIMENSIONS] = ["OS build", "model", "kernel and drivers", "site"];
/// The dimension that is a place.
pub const SITE: usize = 3;
/// Values of one dimension told apart; rarer ones share in the whole fleet's evidence only.
const VALUES_MAX: usize = 1024;
/// Weight of each dimension; the fleet as a whole has a half and signatures a tenth.
pub const DIMENSION_WEIGHT: f64 = 0.1;

/// The strata of one host.
pub type Kinds = [u16; DIMENSIONS];
/// In no stratum.
pub const NO_KINDS: Kinds = [u16::MAX; DIMENSIONS];

/// Counts of one stratum.
#[derive(Debug, Clone, PartialEq, Default)]
struct Stratum {
    word: String,
    members: u64,
    trials: u64,
    failed: u64,
    control_failures: u64,
}

/// All strata of one rollout.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Strata {
    values: [Vec<Stratum>; DIMENSIONS],
    index: [std::collections::BTreeMap<String, u16>; DIMENSIONS],
}

/// Strata listed at most.
pub const WORST_MAX: usize = 8;

/// A stratum that speaks against the release.
#[derive(Debug, Clone, PartialEq)]
pub struct Worst {
    /// Which way of cutting.
    pub dimension: &'static str,
    /// Its value.
    pub word: String,
    /// Exposures of it that failed.
    pub failed: u64,
    /// Exposures of it that came back or failed.
    pub trials: u64,
    /// Its weighted e-value.
    pub e_value: f64,
}

impl Strata {
    /// The strata of a host with these words, as a new member of them; an empty word is none.
    pub fn join(&mut self, words: &[String; DIMENSIONS]) -> Kinds {
        let mut kinds = NO_KINDS;
        for (d, word) in words.iter().enumerate().filter(|(_, w)| !w.is_empty()) {
            let values = &mut self.values[d];
            let place = match self.index[d].get(word) {
                Some(place) => *place,
                None if values.len() >= VALUES_MAX => continue,
                None => {
                    let place = values.len() as u16;
                    values.push(Stratum {
                        word: word.clone(),
                        ..Stratum::default()
                    });
                    self.index[d].insert(word.clone(), place);
                    place
                }
            };
            values[usize::from(place)].members += 1;
            kinds[d] = place;
        }
        kinds
    }

    fn each(&mut self, kinds: Kinds, edit: impl Fn(&mut Stratum)) {
        for (values, kind) in self.values.iter_mut().zip(kinds) {
            if let Some(stratum) = values.get_mut(usize::from(kind)) {
                edit(stratum);
            }
        }
    }

    /// A host of these strata came back on the release, or failed before.
    pub fn trial(&mut self, kinds: Kinds) {
        self.each(kinds, |s| s.trials = s.trials.saturating_add(1));
    }

    /// A host of these strata failed.
    pub fn failure(&mut self, kinds: Kinds) {
        self.each(kinds, |s| s.failed = s.failed.saturating_add(1));
    }

    /// A failure of these strata turned out not to be one.
    pub fn take_back(&mut self, kinds: Kinds) {
        self.each(kinds, |s| s.failed = s.failed.saturating_sub(1));
    }

    /// An unexposed host of these strata failed.
    pub fn control_failure(&mut self, kinds: Kinds) {
        self.each(kinds, |s| {
            s.control_failures = s.control_failures.saturating_add(1)
        });
    }

    /// Exposures begin anew, members and control stay.
    pub fn forget_exposures(&mut self) {
        for stratum in self.values.iter_mut().flatten() {
            (stratum.trials, stratum.failed) = (0, 0);
        }
    }

    /// Sum of the weighted e-values of all strata with failures, and the worst, most first. Strata
    /// without failures would add at most their weight and are left out.
    #[must_use]
    pub fn evidence(&self, p0: f64, control_units: f64) -> (f64, Vec<Worst>) {
        let mut sum = 0.0;
        let mut worst: Vec<Worst> = Vec::new();
        for (d, values) in self.values.iter().enumerate() {
            let fleet: u64 = values.iter().map(|s| s.members).sum();
            let weight = if flawed(Flaw::StrataUnweighted) {
                1.0
            } else {
                DIMENSION_WEIGHT / values.len().max(1) as f64
            };
            for s in values.iter().filter(|s| s.failed > 0) {
                // Its own control, where that is worse than the fleet's.
                let units = control_units * s.members as f64 / fleet.max(1) as f64;
                let own = if flawed(Flaw::OwnControlIgnored) {
                    0.0
                } else {
                    s.control_failures as f64 / units.max(1.0)
                };
                let survived = s.trials.saturating_sub(s.failed);
                let e_value = weight
                    * stats::log_e_value(s.failed as f64, survived as f64, p0.max(own.min(1.0)))
                        .min(600.0)
                        .exp();
                sum += e_value;
                let place = worst.partition_point(|w| w.e_value >= e_value);
                if place < WORST_MAX {
                    worst.truncate(WORST_MAX - 1);
                    let stratum = Worst {
                        dimension: DIMENSION_NAMES[d],
                        word: s.word.clone(),
                        failed: s.failed,
                        trials: s.trials,
                        e_value,
                    };
                    worst.insert(place, stratum);
                }
            }
        }
        (sum, worst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(model: &str) -> [String; DIMENSIONS] {
        ["b".into(), model.into(), String::new(), "s".into()]
    }

    #[test]
    fn two_failures_of_one_rare_model_outweigh_a_healthy_fleet() {
        let mut strata = Strata::default();
        let healthy: Vec<Kinds> = (0..49)
            .map(|i| strata.join(&words(&format!("m{i}"))))
            .collect();
        let dying = strata.join(&words("dies"));
        for kinds in healthy {
            strata.trial(kinds);
        }
        for _ in 0..2 {
            strata.trial(dying);
            strata.failure(dying);
        }
        let (sum, worst) = strata.evidence(1e-4, 1e5);
        assert!(sum > 1.0 / 0.0007, "{sum}");
        assert_eq!(
            worst
                .first()
                .map(|w| (w.dimension, w.word.as_str(), w.failed)),
            Some(("model", "dies", 2))
        );
    }

    #[test]
    fn a_model_that_always_failed_is_compared_with_itself() {
        let mut strata = Strata::default();
        for i in 0..98 {
            let _ = strata.join(&words(&format!("m{}", i % 49)));
        }
        let flaky = strata.join(&words("flaky"));
        let fresh = strata.clone();
        let fail = |strata: &mut Strata| {
            for _ in 0..2 {
                strata.trial(flaky);
                strata.failure(flaky);
            }
            strata.evidence(1e-4, 1e5).0
        };
        let mut known = fresh.clone();
        for _ in 0..50 {
            known.control_failure(flaky);
        }
        assert!(fail(&mut known) < fail(&mut fresh.clone()) / 10.0);
    }

    #[test]
    fn an_empty_word_is_no_stratum_and_too_many_values_are_not_told_apart() {
        let mut strata = Strata::default();
        assert_eq!(strata.join(&words("m"))[2], u16::MAX);
        for i in 0..2 * VALUES_MAX {
            let _ = strata.join(&words(&format!("x{i}")));
        }
        assert_eq!(strata.join(&words("another"))[1], u16::MAX);
        strata.failure(NO_KINDS);
        assert!(strata.evidence(1e-4, 0.0).0.abs() < 1e-12);
    }
}
