//! The control: how often comparable hosts fail without the release, by kind of trouble and time.
//!
//! A host can fail to come back from a reboot, or fail while it simply runs. Exposed hosts do both
//! too, so both are compared like with like: reboots with reboots, host-time with host-time. The 72 h
//! before the start show the usual rate; what happens during the rollout shows whether it drifts.

use crate::flaws::{Flaw, flawed};
use ringward_domain::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Control reboots (or host-days, for releases that reboot nobody) below which the ceiling stands in.
pub const CONTROL_UNITS_MIN: f64 = 100.0;
/// Failure rate assumed of a fleet too young to have shown its own.
pub const CEILING: f64 = 0.01;
/// No fleet is believed to fail less often than this.
pub const FLOOR: f64 = 1e-4;
/// Expected failures at which exposures begin to be able to tell a drift of the base rate from
/// chance: from there on a control without failures is believed only as far as it reaches.
const DRIFT_MATTERS: f64 = 0.2;
/// Host-days of one exposure where none has resolved yet: 30 min.
const EXPOSURE_DAYS: f64 = 1.0 / 48.0;
/// How far back the control is looked at.
const HISTORY_HOURS: u64 = 72;
/// Distinct signatures of the control remembered.
const SIGNATURES_MAX: usize = 256;

/// Reboots and host-time with their failures.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Reboots.
    pub reboots: f64,
    /// Of them without return, or with a crash.
    pub reboot_failures: u64,
    /// Host-time, days.
    pub days: f64,
    /// Failures within it.
    pub time_failures: u64,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        let unit = |x: f64| if x.is_finite() { x.max(0.0) } else { 0.0 };
        self.reboots += unit(other.reboots);
        self.days += unit(other.days);
        self.reboot_failures = self.reboot_failures.saturating_add(other.reboot_failures);
        self.time_failures = self.time_failures.saturating_add(other.time_failures);
    }
}

/// The control of the last 72 h, whatever is rolled out.
#[derive(Debug, Clone, Default)]
pub struct History {
    hours: VecDeque<(u64, Counts)>,
}

impl History {
    /// Adds what happened now.
    pub fn add(&mut self, now: Timestamp, counts: &Counts) {
        let hour = now.0 / Millis::hours(1).0;
        match self.hours.back_mut() {
            Some((at, sum)) if *at >= hour => sum.add(counts),
            _ => self.hours.push_back((hour, *counts)),
        }
        while self
            .hours
            .front()
            .is_some_and(|(at, _)| at + HISTORY_HOURS <= hour)
        {
            self.hours.pop_front();
        }
    }

    /// Hour by hour, oldest first.
    #[must_use]
    pub fn hours(&self) -> Vec<(u64, Counts)> {
        self.hours.iter().copied().collect()
    }

    /// Goes on from what [`hours`](Self::hours) told. Hours later than `now` are left out: the fleet
    /// clock never ran that far.
    #[must_use]
    pub fn from_hours(hours: Vec<(u64, Counts)>, now: Timestamp) -> Self {
        let last = now.0 / Millis::hours(1).0;
        let mut kept: BTreeMap<u64, Counts> = BTreeMap::new();
        for (hour, counts) in hours.into_iter().filter(|(hour, _)| *hour <= last) {
            if hour.saturating_add(HISTORY_HOURS) > last {
                kept.entry(hour).or_default().add(&counts);
            }
        }
        Self {
            hours: kept.into_iter().collect(),
        }
    }

    /// All that happened in the 72 h until now.
    #[must_use]
    pub fn sum(&self, now: Timestamp) -> Counts {
        let hour = now.0 / Millis::hours(1).0;
        let mut sum = Counts::default();
        for (_, counts) in self
            .hours
            .iter()
            .filter(|(at, _)| at + HISTORY_HOURS > hour)
        {
            sum.add(counts);
        }
        sum
    }
}

/// What exposed hosts lived through, in the control's units.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Exposed {
    /// Exposures that came back, confirmed or failed, and later reboots of exposed hosts.
    pub trials: u64,
    /// Of them with a reboot.
    pub reboots: u64,
    /// Host-time since `Begin`, days.
    pub days: f64,
}

/// The control of one rollout.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Baseline {
    /// Up to the start.
    history: Counts,
    /// Since then.
    since: Counts,
    signatures: BTreeMap<String, u64>,
}

impl Baseline {
    /// Adds what happened before the start.
    pub fn before(&mut self, counts: &Counts) {
        self.history.add(counts);
    }

    /// Adds what happens meanwhile.
    pub fn meanwhile(&mut self, counts: &Counts) {
        if flawed(Flaw::ControlFailuresLost) {
            return self.since.add(&Counts {
                reboot_failures: 0,
                time_failures: 0,
                ..*counts
            });
        }
        self.since.add(counts);
    }

    /// A failure of the control had this signature.
    pub fn signature(&mut self, signature: &str) {
        if self.signatures.len() < SIGNATURES_MAX || self.signatures.contains_key(signature) {
            let count = self.signatures.entry(signature.to_owned()).or_default();
            *count = count.saturating_add(1);
        }
    }

    /// All units and failures.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut all = self.history;
        all.add(&self.since);
        all
    }

    /// Share of the control's failures that have this signature, at most; 1 where nothing is known.
    #[must_use]
    pub fn share_of(&self, signature: &str) -> f64 {
        let all = self.counts();
        let failures = all.reboot_failures.saturating_add(all.time_failures) as f64;
        let same = self.signatures.get(signature).copied().unwrap_or(0) as f64;
        ((same + 1.0) / (failures + 1.0)).min(1.0)
    }

    /// Whether the ceiling stands in: too little control for what the exposures went through.
    #[must_use]
    pub fn is_ceiling(&self, exposed: &Exposed) -> bool {
        let all = self.counts();
        let reboots = exposed.reboots > 0 || exposed.trials == 0;
        let runs = exposed.trials > exposed.reboots;
        let known = (all.reboots, all.days);
        if flawed(Flaw::NoCeiling) {
            return false;
        }
        (reboots && known.0 < CONTROL_UNITS_MIN)
            || (runs && known.0.max(known.1) < CONTROL_UNITS_MIN)
    }

    /// Expected failures of what the exposures went through, had nothing been wrong with the release.
    #[must_use]
    pub fn expected(&self, exposed: &Exposed) -> f64 {
        self.rate(exposed) * exposed.trials as f64
    }

    /// Failure rate of one trial under the null, within [`FLOOR`]`..=1`.
    #[must_use]
    pub fn rate(&self, exposed: &Exposed) -> f64 {
        if self.is_ceiling(exposed) {
            return CEILING;
        }
        let trials = exposed.trials.max(1) as f64;
        let share = if exposed.trials == 0 {
            1.0
        } else {
            exposed.reboots as f64 / trials
        };
        let days = if exposed.trials == 0 {
            EXPOSURE_DAYS
        } else {
            exposed.days.max(0.0) / trials
        };
        let all = self.counts();
        let reboot = rate(
            (all.reboot_failures, all.reboots),
            (self.since.reboot_failures, self.since.reboots),
            trials * share,
        );
        let time = match all.time_failures {
            0 => 0.0,
            _ if flawed(Flaw::TimeIgnored) => 0.0,
            _ => rate(
                (all.time_failures, all.days),
                (self.since.time_failures, self.since.days),
                trials * days,
            ),
        };
        (reboot * share + time * days).clamp(if flawed(Flaw::NoFloor) { 0.0 } else { FLOOR }, 1.0)
    }
}

/// The usual rate, or that of the present where it is worse. `exposed` units are judged by it: few of
/// them cannot tell a drift from chance, so only for many does a silent control count as unknown.
fn rate(all: (u64, f64), since: (u64, f64), exposed: f64) -> f64 {
    let usual = (all.0 as f64 + 0.5) / (all.1 + 1.0);
    let matters = (exposed * usual.max(FLOOR) / DRIFT_MATTERS).min(1.0);
    let unknown = if since.1 >= 1.0 {
        0.5 * matters / (since.1 + 1.0)
    } else {
        0.0
    };
    let seen = match since.0 {
        0 => 0.0,
        // One standard deviation more where many exposures could tell it from a drift.
        // A quarter of a failure at the usual rate keeps one early failure from blinding the test.
        failures => {
            (failures as f64 + 0.5 + matters * (failures as f64 + 0.5).sqrt())
                / (since.1 + 0.25 / usual.max(FLOOR))
        }
    };
    if flawed(Flaw::DriftIgnored) {
        return usual;
    }
    usual.max(unknown).max(seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exposed(trials: u64) -> Exposed {
        Exposed {
            trials,
            reboots: trials,
            days: trials as f64 / 60.0,
        }
    }

    fn quiet(reboots: f64, failures: u64) -> Counts {
        Counts {
            reboots,
            reboot_failures: failures,
            ..Counts::default()
        }
    }

    #[test]
    fn the_ceiling_stands_in_only_below_a_hundred_control_reboots() {
        let mut baseline = Baseline::default();
        baseline.before(&quiet(99.0, 0));
        assert!((baseline.rate(&exposed(1)) - CEILING).abs() < 1e-12);
        baseline.before(&quiet(1.0, 0));
        assert!(baseline.rate(&exposed(1)) < CEILING);
    }

    #[test]
    fn no_fleet_is_believed_to_fail_less_than_the_floor() {
        let mut baseline = Baseline::default();
        baseline.before(&quiet(1e9, 0));
        assert!((baseline.rate(&exposed(10)) - FLOOR).abs() < 1e-12);
    }

    #[test]
    fn a_drift_of_the_control_raises_the_null() {
        let mut baseline = Baseline::default();
        baseline.before(&quiet(300_000.0, 30));
        let usual = baseline.rate(&exposed(10_000));
        baseline.meanwhile(&quiet(30_000.0, 9));
        assert!(baseline.rate(&exposed(10_000)) > 2.5 * usual);
    }

    #[test]
    fn failures_while_running_are_weighed_by_the_time_exposed() {
        let mut baseline = Baseline::default();
        baseline.before(&Counts {
            reboots: 1e5,
            reboot_failures: 10,
            days: 1e5,
            time_failures: 3000,
        });
        let short = baseline.rate(&Exposed {
            trials: 100,
            reboots: 100,
            days: 2.0,
        });
        let long = baseline.rate(&Exposed {
            trials: 100,
            reboots: 100,
            days: 20.0,
        });
        assert!(long > 5.0 * short, "{long} {short}");
    }

    #[test]
    fn a_signature_that_the_control_shows_too_counts_for_less() {
        let mut baseline = Baseline::default();
        assert!((baseline.share_of("a") - 1.0).abs() < 1e-12);
        baseline.before(&quiet(300_000.0, 30));
        let new = baseline.share_of("a");
        for _ in 0..20 {
            baseline.signature("a");
        }
        assert!(new < 0.05 && baseline.share_of("a") > 0.6);
    }

    #[test]
    fn what_is_older_than_three_days_is_forgotten() {
        let mut history = History::default();
        let hour = |h: u64| Timestamp(Millis::hours(h).0);
        for h in 0..100 {
            history.add(hour(h), &quiet(1.0, 0));
        }
        assert!((history.sum(hour(99)).reboots - 72.0).abs() < 1e-9);
        assert!((history.sum(hour(150)).reboots - 21.0).abs() < 1e-9);
    }

    #[test]
    fn a_history_goes_on_from_its_hours_and_believes_none_of_the_future() {
        let mut history = History::default();
        let hour = |h: u64| Timestamp(Millis::hours(h).0);
        for h in 0..100 {
            history.add(hour(h), &quiet(1.0, 1));
        }
        let again = History::from_hours(history.hours(), hour(99));
        assert_eq!(again.sum(hour(99)), history.sum(hour(99)));
        assert!((again.sum(hour(99)).reboots - 72.0).abs() < 1e-9);
        let young = History::from_hours(history.hours(), hour(50));
        assert!((young.sum(hour(50)).reboots - 23.0).abs() < 1e-9);
        let broken = vec![(u64::MAX, quiet(f64::NAN, u64::MAX)), (5, quiet(-1.0, 0))];
        assert_eq!(
            History::from_hours(broken, hour(5)).sum(hour(5)),
            Counts::default()
        );
    }

    proptest! {
        #[test]
        fn any_counts_give_a_rate(
            r in prop::num::f64::ANY, f in any::<u64>(), d in prop::num::f64::ANY, t in any::<u64>(), trials in any::<u64>(), reboots in any::<u64>(), days in prop::num::f64::ANY,
        ) {
            let mut baseline = Baseline::default();
            let counts = Counts { reboots: r, reboot_failures: f, days: d, time_failures: t };
            baseline.before(&counts);
            baseline.meanwhile(&counts);
            let exposed = Exposed { trials, reboots: reboots.min(trials), days };
            let rate = baseline.rate(&exposed);
            prop_assert!((FLOOR..=1.0).contains(&rate), "{rate}");
            prop_assert!((0.0..=1.0).contains(&baseline.share_of("x")));
        }
    }
}
