//! The one object that window, hard rules and verdict all read, updated by each event.

use crate::baseline::{Baseline, Counts, Exposed};
use crate::flaws::{Flaw, flawed};
use crate::stats;
use crate::strata::{Kinds, Strata, Worst};
use ringward_domain::{HostId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How an exposure resolved, as far as the release is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Proven on the host.
    Confirmed,
    /// Failed, silent or reverted.
    Failed {
        /// What recurs on other hosts with the same cause, where something does.
        signature: Option<String>,
    },
}

/// Counts of one ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RingCounts {
    /// `Begin` recorded.
    pub exposed: u64,
    /// Proven.
    pub confirmed: u64,
    /// Failed, silent or reverted.
    pub failed: u64,
    /// Ended without credit or failure (deferred, away).
    pub uncounted: u64,
    /// Taken out as trouble of network or server.
    pub censored: u64,
    /// Of the failed, those that were proven first.
    #[serde(default)]
    pub late: u64,
    /// Of the failed, those on hosts too new to be trusted alone.
    #[serde(default)]
    pub newcomers: u64,
}

impl RingCounts {
    /// Failures that the hard rule counts: not those that came after the proof, which the e-process
    /// judges with the time they took, and not those of newcomers.
    #[must_use]
    pub fn held_against(&self) -> u64 {
        self.failed
            .saturating_sub(self.late.saturating_add(self.newcomers))
    }
}

/// A cause that recurs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Signature {
    hosts: BTreeSet<HostId>,
    /// Trials when it was first seen: from then on it is bet upon.
    since_trials: u64,
    /// Its place in the order of first sight, from 1.
    order: u64,
}

/// Everything known for and against one release in one rollout.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Evidence {
    rings: Vec<RingCounts>,
    baseline: Baseline,
    exposed: Exposed,
    /// Reboots of exposed hosts after their exposure.
    #[serde(default)]
    later: u64,
    /// Part of the failures that their age takes away.
    faded: f64,
    /// Host-time is counted up to here.
    counted_to: Timestamp,
    signatures: BTreeMap<String, Signature>,
    #[serde(skip)]
    strata: Strata,
    /// Weighted e-values of strata and signatures at the newest failure; only failures raise them.
    #[serde(skip)]
    parts: f64,
    #[serde(skip)]
    worst: Vec<Worst>,
}

/// Distinct signatures remembered; a release that fails in more ways is halted by its count.
const SIGNATURES_MAX: usize = 256;
/// Hosts remembered a signature; two decide.
const SIGNATURE_HOSTS_MAX: usize = 64;
/// Weight of all signatures in the average of e-values.
const SIGNATURES_WEIGHT: f64 = 0.1;
const DAY_MS: f64 = 86_400_000.0;

impl Evidence {
    fn ring_mut(&mut self, ring: usize) -> &mut RingCounts {
        if self.rings.len() <= ring {
            self.rings.resize(ring + 1, RingCounts::default());
        }
        &mut self.rings[ring]
    }

    /// A host's `Begin` was recorded.
    pub fn exposed(&mut self, ring: usize) {
        let counts = self.ring_mut(ring);
        counts.exposed = counts.exposed.saturating_add(1);
    }

    /// Exposed hosts lived on until now. Told before anything else of that moment.
    pub fn elapse(&mut self, now: Timestamp) {
        let total = self.total();
        let gone = total
            .failed
            .saturating_add(total.uncounted)
            .saturating_add(total.censored);
        let days = now.since(self.counted_to).0 as f64 / DAY_MS;
        self.exposed.days += days * total.exposed.saturating_sub(gone) as f64;
        self.counted_to = self.counted_to.max(now);
    }

    /// An exposed host is back on the release, or failed before it was: from now on it is a trial.
    /// Survivors count when they come back and not when they are confirmed, because failures are
    /// known before the soak of their cohort ends; the other order would count failures too early.
    pub fn returned(&mut self, kinds: Kinds, rebooted: bool) {
        if flawed(Flaw::TrialsWhenConfirmed) {
            return;
        }
        self.exposed.trials = self.exposed.trials.saturating_add(1);
        self.exposed.reboots = self.exposed.reboots.saturating_add(u64::from(rebooted));
        self.strata.trial(kinds);
    }

    /// An exposed host came through a later reboot, or did not: both count against the control.
    pub fn rebooted(&mut self, kinds: Kinds) {
        self.strata.trial(kinds);
        self.later = self.later.saturating_add(1);
        self.exposed.trials = self.exposed.trials.saturating_add(1);
        self.exposed.reboots = self.exposed.reboots.saturating_add(1);
    }

    /// An exposure ended with credit or failure.
    pub fn resolved(&mut self, ring: usize, host: HostId, outcome: &Outcome) {
        let counts = self.ring_mut(ring);
        match outcome {
            Outcome::Confirmed => counts.confirmed = counts.confirmed.saturating_add(1),
            Outcome::Failed { signature } => {
                counts.failed = counts.failed.saturating_add(1);
                self.note_signature(host, signature.as_deref());
            }
        }
    }

    /// A confirmed host failed within the attribution time: its credit is taken back.
    pub fn failed_after_confirm(&mut self, ring: usize, host: HostId, signature: Option<&str>) {
        let counts = self.ring_mut(ring);
        if !flawed(Flaw::LateKeepsCredit) {
            counts.confirmed = counts.confirmed.saturating_sub(1);
        }
        counts.failed = counts.failed.saturating_add(1);
        counts.late = counts.late.saturating_add(1);
        self.note_signature(host, signature);
    }

    /// The newest failure of a ring is a newcomer's, and not a late one.
    pub fn newcomer_failed(&mut self, ring: usize) {
        let counts = self.ring_mut(ring);
        counts.newcomers = counts.newcomers.saturating_add(1);
    }

    /// The newest failure came so late (0 just begun ..= 1 at the end of the attribution time): it
    /// weighs in full for a third of that time, then less and less, down to a half. Other causes
    /// become likelier with time, but where every host dies on the third day the release still did it.
    pub fn fade(&mut self, age: f64) {
        let age = if age.is_nan() {
            0.0
        } else {
            age.clamp(0.0, 1.0)
        };
        if flawed(Flaw::LateWeighsInFull) {
            return;
        }
        self.faded += ((age - 1.0 / 3.0) * 0.75).max(0.0);
    }

    /// A host of these strata failed: strata and signatures are weighed anew.
    pub fn failed_in(&mut self, kinds: Kinds) {
        self.strata.failure(kinds);
        self.weigh_parts();
    }

    fn weigh_parts(&mut self) {
        let (p0, units) = (self.p0(), self.baseline.counts().reboots);
        let (strata, worst) = self.strata.evidence(p0, units);
        let trials = self.trials();
        let signatures: f64 = self
            .signatures
            .iter()
            .filter(|(_, s)| s.hosts.len() >= 2)
            .map(|(word, s)| {
                // The first sight chose it; what came after is the evidence.
                let again = s.hosts.len() as f64
                    - if flawed(Flaw::SignatureChosenTwice) {
                        0.0
                    } else {
                        1.0
                    };
                let survived = trials.saturating_sub(s.since_trials) as f64 - again;
                let weight = SIGNATURES_WEIGHT / (s.order as f64 * (s.order as f64 + 1.0));
                weight
                    * stats::log_e_value(
                        again,
                        survived.max(0.0),
                        p0 * self.baseline.share_of(word),
                    )
                    .min(600.0)
                    .exp()
            })
            .sum();
        self.parts = strata + signatures;
        self.worst = worst;
    }

    /// A failure learnt without its cause got one (a dump that arrived after the boot).
    pub fn note_signature(&mut self, host: HostId, signature: Option<&str>) {
        let Some(signature) =
            signature.filter(|s| !s.is_empty() && !flawed(Flaw::SignatureDropped))
        else {
            return;
        };
        if !self.signatures.contains_key(signature) && self.signatures.len() >= SIGNATURES_MAX {
            return;
        }
        let (since_trials, order) = (self.trials(), self.signatures.len() as u64 + 1);
        let entry = self
            .signatures
            .entry(signature.to_owned())
            .or_insert_with(|| Signature {
                hosts: BTreeSet::new(),
                since_trials,
                order,
            });
        if entry.hosts.len() < SIGNATURE_HOSTS_MAX {
            entry.hosts.insert(host);
        }
    }

    /// An exposure ended without credit or failure: deferred, or away beyond its slot.
    pub fn uncounted(&mut self, ring: usize) {
        let counts = self.ring_mut(ring);
        counts.uncounted = counts.uncounted.saturating_add(1);
        if flawed(Flaw::UncountedCredited) {
            counts.confirmed = counts.confirmed.saturating_add(1);
        }
    }

    /// A failure turned out to be trouble of a network or of the server.
    pub fn censored(&mut self, ring: usize) {
        let counts = self.ring_mut(ring);
        if !flawed(Flaw::CensoredCounts) {
            counts.failed = counts.failed.saturating_sub(1);
        }
        counts.censored = counts.censored.saturating_add(1);
    }

    /// A control host's failure, in its strata and with what recurs.
    pub fn control_failed(&mut self, kinds: Kinds, signature: Option<&str>) {
        self.strata.control_failure(kinds);
        if let Some(signature) = signature.filter(|s| !s.is_empty()) {
            self.baseline.signature(signature);
        }
    }

    /// Control hosts lived through so many reboots, with so many failures.
    pub fn control(&mut self, reboots: f64, failures: u64) {
        self.baseline.meanwhile(&Counts {
            reboots,
            reboot_failures: failures,
            ..Counts::default()
        });
    }

    /// What happens to control hosts meanwhile.
    pub fn control_counted(&mut self, counts: &Counts) {
        self.baseline.meanwhile(counts);
    }

    /// What happened to control hosts before the start.
    pub fn control_before(&mut self, counts: &Counts) {
        self.baseline.before(counts);
    }

    /// Exposures begin anew, after a person's word; the control and the strata stay.
    pub fn begin_anew(&mut self) {
        let (baseline, mut strata, counted_to) = (
            self.baseline.clone(),
            std::mem::take(&mut self.strata),
            self.counted_to,
        );
        if flawed(Flaw::ControlForgotten) {
            *self = Self::default();
            return;
        }
        strata.forget_exposures();
        *self = Self {
            baseline,
            strata,
            counted_to,
            ..Self::default()
        };
    }

    /// The strata, to add members.
    pub fn strata_mut(&mut self) -> &mut Strata {
        &mut self.strata
    }

    /// Counts of one ring.
    #[must_use]
    pub fn ring(&self, ring: usize) -> RingCounts {
        self.rings.get(ring).copied().unwrap_or_default()
    }

    /// Counts of the whole rollout.
    #[must_use]
    pub fn total(&self) -> RingCounts {
        self.rings
            .iter()
            .fold(RingCounts::default(), |a, b| RingCounts {
                exposed: a.exposed.saturating_add(b.exposed),
                confirmed: a.confirmed.saturating_add(b.confirmed),
                failed: a.failed.saturating_add(b.failed),
                uncounted: a.uncounted.saturating_add(b.uncounted),
                censored: a.censored.saturating_add(b.censored),
                late: a.late.saturating_add(b.late),
                newcomers: a.newcomers.saturating_add(b.newcomers),
            })
    }

    /// Reboots of exposed hosts after their exposure.
    #[must_use]
    pub fn later_reboots(&self) -> u64 {
        self.later
    }

    /// Exposures that came back, confirmed or failed, and later reboots of exposed hosts.
    #[must_use]
    pub fn trials(&self) -> u64 {
        let total = self.total();
        self.exposed
            .trials
            .max(total.confirmed.saturating_add(total.failed))
    }

    fn went_through(&self) -> Exposed {
        let trials = self.trials();
        // Where no return was told (a record of an older version), exposures count as reboots.
        let untold = trials - self.exposed.trials;
        Exposed {
            trials,
            reboots: self.exposed.reboots.saturating_add(untold),
            days: self.exposed.days,
        }
    }

    /// Failures as far as they weigh: late ones less.
    #[must_use]
    pub fn failures_weighed(&self) -> f64 {
        (self.total().failed as f64 - self.faded).max(0.0)
    }

    /// Failure rate of one trial had nothing been wrong with the release.
    #[must_use]
    pub fn p0(&self) -> f64 {
        self.baseline.rate(&self.went_through())
    }

    /// Whether there is too little control and the ceiling stands in.
    #[must_use]
    pub fn is_ceiling(&self) -> bool {
        self.baseline.is_ceiling(&self.went_through())
    }

    /// The control's rate of a trial as the window forgives it: the verdict's own, and 0 while the
    /// control is too small to know one. Neither one failed control host nor the ceiling that the
    /// verdict assumes of a young fleet may open the window.
    #[must_use]
    pub fn forgiven_rate(&self) -> f64 {
        if self.is_ceiling() { 0.0 } else { self.p0() }
    }

    /// Weighted e-values of strata and signatures.
    #[must_use]
    pub fn parts(&self) -> f64 {
        self.parts
    }

    /// The strata that speak most against the release, most first.
    #[must_use]
    pub fn worst_strata(&self) -> &[Worst] {
        &self.worst
    }

    /// (reboots and host-days, failures) of the control.
    #[must_use]
    pub fn control_counts(&self) -> (f64, u64) {
        let all = self.baseline.counts();
        (
            all.reboots + all.days,
            all.reboot_failures.saturating_add(all.time_failures),
        )
    }

    /// The signature seen on most hosts, with their number.
    #[must_use]
    pub fn top_signature(&self) -> Option<(&str, u64)> {
        self.signatures
            .iter()
            .map(|(signature, s)| (signature.as_str(), s.hosts.len() as u64))
            .max_by_key(|(_, hosts)| *hosts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_failure_takes_its_credit_back() {
        let mut evidence = Evidence::default();
        evidence.exposed(0);
        evidence.resolved(0, HostId(1), &Outcome::Confirmed);
        evidence.failed_after_confirm(0, HostId(1), Some("panic foo"));
        let total = evidence.total();
        assert_eq!((total.confirmed, total.failed), (0, 1));
        assert_eq!(evidence.top_signature(), Some(("panic foo", 1)));
    }

    #[test]
    fn one_host_failing_twice_is_one_host_of_a_signature() {
        let mut evidence = Evidence::default();
        let failed = Outcome::Failed {
            signature: Some("0x50 csagent.sys".into()),
        };
        evidence.resolved(0, HostId(1), &failed);
        evidence.resolved(1, HostId(1), &failed);
        assert_eq!(evidence.top_signature().map(|t| t.1), Some(1));
    }

    #[test]
    fn memory_stays_bounded_however_many_ways_hosts_fail() {
        let mut evidence = Evidence::default();
        for i in 0..10_000u64 {
            evidence.resolved(
                0,
                HostId(i),
                &Outcome::Failed {
                    signature: Some(format!("s{}", i % 1000)),
                },
            );
        }
        assert_eq!(evidence.total().failed, 10_000);
        assert!(evidence.signatures.len() <= SIGNATURES_MAX);
    }
}
