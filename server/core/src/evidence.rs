//! The one object that window, hard rules and verdict all read, updated by each event.

use ringward_domain::HostId;
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
}

/// Everything known for and against one release in one rollout.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Evidence {
    rings: Vec<RingCounts>,
    control_units: f64,
    control_failures: u64,
    signatures: BTreeMap<String, BTreeSet<HostId>>,
}

/// Distinct signatures remembered; a release that fails in more ways is halted by its count.
const SIGNATURES_MAX: usize = 256;
/// Hosts remembered a signature; two decide.
const SIGNATURE_HOSTS_MAX: usize = 64;

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
        counts.confirmed = counts.confirmed.saturating_sub(1);
        counts.failed = counts.failed.saturating_add(1);
        self.note_signature(host, signature);
    }

    /// A failure learnt without its cause got one (a dump that arrived after the boot).
    pub fn note_signature(&mut self, host: HostId, signature: Option<&str>) {
        let Some(signature) = signature.filter(|s| !s.is_empty()) else {
            return;
        };
        if !self.signatures.contains_key(signature) && self.signatures.len() >= SIGNATURES_MAX {
            return;
        }
        let hosts = self.signatures.entry(signature.to_owned()).or_default();
        if hosts.len() < SIGNATURE_HOSTS_MAX {
            hosts.insert(host);
        }
    }

    /// An exposure ended without credit or failure: deferred, or away beyond its slot.
    pub fn uncounted(&mut self, ring: usize) {
        let counts = self.ring_mut(ring);
        counts.uncounted = counts.uncounted.saturating_add(1);
    }

    /// A failure turned out to be trouble of a network or of the server.
    pub fn censored(&mut self, ring: usize) {
        let counts = self.ring_mut(ring);
        counts.failed = counts.failed.saturating_sub(1);
        counts.censored = counts.censored.saturating_add(1);
    }

    /// Control hosts lived through this many reboots and host-days, with so many failures.
    pub fn control(&mut self, units: f64, failures: u64) {
        if units.is_finite() && units > 0.0 {
            self.control_units += units;
        }
        self.control_failures = self.control_failures.saturating_add(failures);
    }

    /// Replace the control counts by those of the present window of time.
    pub fn set_control(&mut self, units: f64, failures: u64) {
        self.control_units = if units.is_finite() {
            units.max(0.0)
        } else {
            0.0
        };
        self.control_failures = failures;
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
            })
    }

    /// (reboots and host-days, failures) of the control.
    #[must_use]
    pub fn control_counts(&self) -> (f64, u64) {
        (self.control_units, self.control_failures)
    }

    /// The signature seen on most hosts, with their number.
    #[must_use]
    pub fn top_signature(&self) -> Option<(&str, u64)> {
        self.signatures
            .iter()
            .map(|(signature, hosts)| (signature.as_str(), hosts.len() as u64))
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
