//! The window: how many hosts may be in flight.
//!
//! It bounds the expected excess loss in flight by L: with `ub` the upper bound of the failure rate
//! and `p0` the control's, `W * (ub - p0) <= L` (DESIGN §4). Without failures `ub` is about
//! 3 / confirmed, so W grows with what was confirmed and doubles each round by itself.

use crate::evidence::Evidence;
use crate::flaws::{Flaw, flawed};
use crate::stats;

/// Constants of the window; a ring policy may tighten them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WindowPolicy {
    /// Expected excess failures in flight that are accepted (L).
    pub excess_loss: f64,
    /// Share of the ring with which it starts, at most two hosts.
    pub start_share: f64,
    /// Share of the ring that may be in flight at most.
    pub cap_share: f64,
    /// Confidence of the upper bound.
    pub confidence: f64,
}

impl Default for WindowPolicy {
    fn default() -> Self {
        Self {
            excess_loss: 3.0,
            start_share: 0.05,
            cap_share: 0.20,
            confidence: 0.95,
        }
    }
}

/// Where the ring stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingWindow {
    /// Its index; 0 is the first.
    pub index: usize,
    /// Its members.
    pub size: u64,
    /// Confirmed in it.
    pub confirmed: u64,
    /// The window with which the ring before it ended; ignored for the first.
    pub previous: u64,
}

/// With how many in flight a ring starts, and how many there may be at most.
#[must_use]
pub fn bounds(size: u64, index: usize, previous: u64, policy: &WindowPolicy) -> (u64, u64) {
    let share = |part: f64| (size as f64 * part.clamp(0.0, 1.0)).min(1e15);
    let least = (share(policy.start_share).ceil() as u64).clamp(1, 2);
    let cap = if flawed(Flaw::CapIgnored) {
        u64::MAX
    } else {
        least.max(share(policy.cap_share).floor() as u64)
    };
    let start = match index {
        0 => least,
        _ => cap.min(least.max(previous / 4)),
    };
    (start, cap)
}

/// The in-flight number at which no further grant is made; at least 1.
#[must_use]
pub fn window(evidence: &Evidence, ring: &RingWindow, policy: &WindowPolicy) -> u64 {
    let (start, cap) = bounds(ring.size, ring.index, ring.previous, policy);
    let by_progress = start.saturating_add(ring.confirmed).min(cap).max(1);
    let total = evidence.total();
    if total.failed > 0 && total.confirmed == 0 && !flawed(Flaw::FirstFailureIgnored) {
        // All that is known is a failure: a release that kills every host costs no third one.
        return 1;
    }
    by_progress
        .min(by_evidence(evidence, by_progress, policy))
        .max(1)
}

/// `min(L / (ub - p0), enough)`; asks one probability first, because most windows are bounded by
/// `enough` and the exact bound costs sixty.
fn by_evidence(evidence: &Evidence, enough: u64, policy: &WindowPolicy) -> u64 {
    let total = evidence.total();
    // Later reboots of exposed hosts bring late failures: both count, like the control's.
    let trials = total
        .confirmed
        .saturating_add(total.failed)
        .saturating_add(evidence.later_reboots());
    let p0 = if flawed(Flaw::EverythingForgiven) {
        1.0
    } else {
        evidence.forgiven_rate()
    };
    let loss = policy.excess_loss.max(0.0);
    let tolerated = p0 + loss / enough as f64;
    let miss = 1.0 - policy.confidence.clamp(0.0, 1.0);
    if trials > 0
        && total.failed < trials
        && stats::at_most(total.failed, trials, tolerated) <= miss
    {
        return enough;
    }
    let ub = stats::upper_bound(total.failed, trials, policy.confidence);
    (loss / (ub - p0).max(1e-9)).floor().clamp(1.0, 1e15) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Outcome;
    use proptest::prelude::*;
    use ringward_domain::HostId;

    fn evidence(confirmed: u64, failed: u64) -> Evidence {
        let mut evidence = Evidence::default();
        for i in 0..confirmed {
            evidence.resolved(0, HostId(i), &Outcome::Confirmed);
        }
        for i in 0..failed {
            evidence.resolved(0, HostId(i), &Outcome::Failed { signature: None });
        }
        evidence
    }

    fn ring(size: u64, confirmed: u64) -> RingWindow {
        RingWindow {
            index: 0,
            size,
            confirmed,
            previous: 0,
        }
    }

    #[test]
    fn a_ring_starts_with_one_or_two_hosts() {
        let policy = WindowPolicy::default();
        for (size, window_expected) in [(0, 1), (1, 1), (3, 1), (20, 1), (21, 2), (100_000, 2)] {
            assert_eq!(
                window(&evidence(0, 0), &ring(size, 0), &policy),
                window_expected,
                "{size}"
            );
        }
    }

    #[test]
    fn a_failure_before_any_host_is_proven_closes_it_to_one() {
        let policy = WindowPolicy::default();
        assert_eq!(window(&evidence(0, 1), &ring(100_000, 0), &policy), 1);
        assert!(window(&evidence(1, 1), &ring(100_000, 1), &policy) > 1);
    }

    #[test]
    fn without_failures_it_doubles_each_round_once_a_few_are_confirmed() {
        let policy = WindowPolicy::default();
        let mut confirmed = 0;
        let mut sizes = Vec::new();
        for _ in 0..6 {
            let w = window(&evidence(confirmed, 0), &ring(100_000, confirmed), &policy);
            sizes.push(w);
            confirmed += w;
        }
        assert_eq!(sizes, [2, 3, 6, 12, 24, 48]);
    }

    #[test]
    fn failures_close_it_and_a_failing_control_opens_it_again() {
        let policy = WindowPolicy::default();
        let mut bad = evidence(90, 10);
        let closed = window(&bad, &ring(100_000, 90), &policy);
        assert!(closed < 40, "{closed}");
        bad.control(1000.0, 100);
        assert!(window(&bad, &ring(100_000, 90), &policy) > closed);
    }

    #[test]
    fn one_failed_control_host_does_not_open_it() {
        let policy = WindowPolicy::default();
        let mut bad = evidence(90, 10);
        let closed = window(&bad, &ring(100_000, 90), &policy);
        bad.control(1.0, 1);
        assert_eq!(window(&bad, &ring(100_000, 90), &policy), closed);
    }

    #[test]
    fn a_later_ring_starts_at_a_quarter_of_the_window_before() {
        let policy = WindowPolicy::default();
        let later = RingWindow {
            index: 1,
            size: 10_000,
            confirmed: 0,
            previous: 200,
        };
        assert_eq!(window(&evidence(1000, 0), &later, &policy), 50);
    }

    proptest! {
        #[test]
        fn it_is_at_least_one_and_never_over_a_fifth_of_a_large_ring(
            size in 0u64..1_000_000, confirmed in 0u64..1000, failed in 0u64..100, previous in any::<u64>(), index in 0usize..3,
        ) {
            let w = window(&evidence(confirmed, failed), &RingWindow { index, size, confirmed, previous }, &WindowPolicy::default());
            prop_assert!(w >= 1);
            prop_assert!(w <= (size / 5).max(2));
        }

        #[test]
        fn the_short_cut_answers_what_the_exact_bound_does(confirmed in 1u64..400, failed in 0u64..20, enough in 1u64..500) {
            let policy = WindowPolicy::default();
            let evidence = evidence(confirmed, failed);
            let ub = stats::upper_bound(failed, confirmed + failed, 0.95);
            let exact = (3.0 / ub.max(1e-9)).floor() as u64;
            let quick = by_evidence(&evidence, enough, &policy);
            // Equal up to one host where the bound falls on a whole number.
            prop_assert!(quick.min(enough).abs_diff(exact.min(enough)) <= 1, "{quick} {exact}");
        }
    }
}
