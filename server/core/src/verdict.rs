//! The verdict: whether a release may go on, from evidence and limits alone.
//!
//! All halting rules together spend α: the e-process 0.7 α (it halts at `1 / 0.7α`), the hard rules
//! 0.3 α, a third each: too many failures in a ring, one signature on two hosts, a ring that ends
//! below its share. They are decided on the event that brings the evidence, never in planning.

use crate::evidence::{Evidence, RingCounts};
use crate::flaws::{Flaw, flawed};
use crate::stats;
use crate::strata::Worst;
use ringward_domain::incident::StratumView;
use ringward_domain::report::{Decision, HaltWhy, HoldWhy, VerdictReport};

/// What the verdict is held to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Probability with which a clean release may be halted, over the whole rollout; used within
    /// 10⁻⁹..=0.5.
    pub alpha: f64,
    /// Index of the ring under way.
    pub ring: usize,
    /// Its members.
    pub ring_size: u64,
    /// Members of all rings.
    pub fleet_size: u64,
    /// Nothing is in flight in the ring and nobody can be granted.
    pub ring_exhausted: bool,
    /// Hosts of one site went silent together and no unexposed host is there to tell why.
    pub site_silent_without_control: bool,
    /// The manifest expired: nothing new may be exposed to it.
    pub release_expired: bool,
}

/// Weight of the whole rollout in the average of e-values; strata and signatures share the rest.
const GLOBAL_WEIGHT: f64 = 0.5;
/// Share of a ring's exposures that must be confirmed.
pub const CONFIRMED_SHARE: f64 = 0.95;

/// The control's failure rate as the verdict uses it.
#[must_use]
pub fn base_rate(evidence: &Evidence) -> f64 {
    evidence.p0()
}

/// How many exposures of a ring may fail before they are proven: `max(1, 1 % of the ring, the smallest
/// k with P(Poisson(exposed * p0) > k) <= α/10)`. What fails later is judged by the e-process alone.
///
/// The bound is asked on every failure. As long as less than a twentieth of a failure is expected one
/// look is all there is; beyond, each doubling of the exposures is one, taken at its end with α/100.
#[must_use]
pub fn max_failed(ring: RingCounts, p0: f64, limits: &Limits) -> u64 {
    if flawed(Flaw::MaxFailedUnbounded) {
        return u64::MAX;
    }
    let exposed = ring.exposed.max(ring.confirmed.saturating_add(ring.failed));
    let (now, later) = (
        exposed as f64 * p0,
        exposed.saturating_mul(2).min(limits.ring_size.max(exposed)) as f64 * p0,
    );
    let bound = match now < 0.05 {
        true => stats::poisson_limit(now, alpha(limits) / 10.0),
        false => stats::poisson_limit(later, alpha(limits) / 100.0),
    };
    bound.max(limits.ring_size / 100).max(1)
}

fn alpha(limits: &Limits) -> f64 {
    if limits.alpha.is_nan() {
        1e-3
    } else {
        limits.alpha.clamp(1e-9, 0.5)
    }
}

/// The e-value at which a rollout halts.
#[must_use]
pub fn e_threshold(limits: &Limits) -> f64 {
    let spent = if flawed(Flaw::ThresholdTooLow) {
        7.0
    } else {
        0.7
    };
    1.0 / (spent * alpha(limits))
}

/// The decision alone: what the event path asks.
#[must_use]
pub fn decide(evidence: &Evidence, limits: &Limits) -> Decision {
    let (total, ring, p0) = (
        evidence.total(),
        evidence.ring(limits.ring),
        base_rate(evidence),
    );
    if let Some(why) = halted_by_counts(evidence, ring, p0, limits) {
        return Decision::Halt(why);
    }
    if let Some((signature, hosts)) = evidence.top_signature()
        && hosts >= 2
        && stats::poisson_above(total.exposed as f64 * p0, 1) <= alpha(limits) / 10.0
    {
        return Decision::Halt(HaltWhy::RepeatedSignature {
            signature: signature.to_owned(),
            hosts,
        });
    }
    if limits.ring_exhausted && below_share(ring, p0, evidence.is_ceiling(), limits) {
        return Decision::Halt(HaltWhy::RingBelowShare {
            confirmed: ring.confirmed,
            failed: ring.failed,
        });
    }
    if limits.site_silent_without_control {
        return Decision::Hold(HoldWhy::SiteSilentWithoutControl);
    }
    if limits.release_expired {
        return Decision::Hold(HoldWhy::ReleaseExpired);
    }
    if limits.ring_exhausted && limits.ring_size > 0 && ring.confirmed + ring.failed == 0 {
        return Decision::Hold(HoldWhy::NobodyExposed);
    }
    Decision::Continue
}

fn halted_by_counts(
    evidence: &Evidence,
    ring: RingCounts,
    p0: f64,
    limits: &Limits,
) -> Option<HaltWhy> {
    // One broken host is never enough: at a base of 10⁻⁴ the first exposure alone would otherwise
    // spend a tenth of α.
    if evidence.total().failed >= 2 || flawed(Flaw::OneFailureHalts) {
        let (e_value, threshold) = (e_value(evidence, p0), e_threshold(limits));
        if e_value >= threshold {
            return Some(HaltWhy::EvidenceOfHarm { e_value, threshold });
        }
    }
    // The share alone is asked first: the exact bound costs forty incomplete gamma functions.
    let failed = ring.held_against();
    if failed <= (limits.ring_size / 100).max(1) {
        return None;
    }
    let max_failed = max_failed(ring, p0, limits);
    (failed > max_failed).then_some(HaltWhy::MaxFailed { failed, max_failed })
}

/// One failure in a ring of 2-19 with another host confirmed may complete; a fleet that small would
/// otherwise need 20 clean hosts for one broken disk. A larger ring may complete where a measured
/// control fails as often: at a base of 1 % six of a hundred are chance once in 2,000 rollouts.
fn below_share(ring: RingCounts, p0: f64, ceiling: bool, limits: &Limits) -> bool {
    let resolved = ring.confirmed.saturating_add(ring.failed);
    if ring.failed == 0 || (ring.confirmed as f64) >= CONFIRMED_SHARE * resolved as f64 {
        return false;
    }
    if flawed(Flaw::ShareIgnored) {
        return false;
    }
    let small = !flawed(Flaw::SmallRingNotForgiven)
        && (2..=19).contains(&limits.ring_size)
        && ring.failed == 1
        && ring.confirmed >= 1;
    let usual = limits.ring_size >= 20
        && !ceiling
        && stats::at_least(ring.failed, resolved, p0) > alpha(limits) / 10.0;
    !small && !usual
}

/// Whether the ring's evidence lets the next ring start, once nothing is in flight or grantable.
#[must_use]
pub fn ring_may_complete(evidence: &Evidence, limits: &Limits) -> bool {
    let ring = evidence.ring(limits.ring);
    ring.confirmed >= 1
        && !below_share(ring, evidence.p0(), evidence.is_ceiling(), limits)
        && decide(evidence, limits) == Decision::Continue
}

/// The weighted average of the e-values of the whole rollout, its strata and its signatures.
fn e_value(evidence: &Evidence, p0: f64) -> f64 {
    let failures = evidence.failures_weighed();
    let survived = evidence.trials().saturating_sub(evidence.total().failed) as f64;
    GLOBAL_WEIGHT * e_of(failures, survived, p0) + evidence.parts()
}

fn e_of(failed: f64, survived: f64, p0: f64) -> f64 {
    // Beyond e^690 a double overflows; nothing asks for more than the threshold.
    stats::log_e_value(failed, survived, p0).min(690.0).exp()
}

/// The decision with all it rests on.
#[must_use]
pub fn verdict(evidence: &Evidence, limits: &Limits) -> VerdictReport {
    let (total, ring, p0) = (
        evidence.total(),
        evidence.ring(limits.ring),
        base_rate(evidence),
    );
    let (control_units, control_failures) = evidence.control_counts();
    let decision = decide(evidence, limits);
    let trials = total.confirmed.saturating_add(total.failed);
    let mut report = VerdictReport {
        sentence: String::new(),
        failed: total.failed,
        confirmed: total.confirmed,
        censored: total.censored,
        control_failures,
        control_units,
        p0,
        upper_bound: stats::upper_bound(total.failed, trials, 0.95),
        e_value: e_value(evidence, p0),
        e_threshold: e_threshold(limits),
        max_failed: max_failed(ring, p0, limits),
        smallest_detectable_rate: smallest_detectable_rate(p0, limits),
        failures_to_halt: failures_to_halt(evidence, ring, p0, limits),
        assumed: evidence.is_ceiling(),
        strata: evidence.worst_strata().iter().map(stratum_view).collect(),
        decision,
    };
    report.sentence = sentence(&report, ring, evidence);
    report
}

fn stratum_view(stratum: &Worst) -> StratumView {
    StratumView {
        dimension: stratum.dimension.to_owned(),
        value: stratum.word.clone(),
        failed: stratum.failed,
        trials: stratum.trials,
        // What a reader of numbers can take; nothing asks for more than the threshold.
        e_value: stratum.e_value.min(1e300),
    }
}

/// How many further failures in a row would halt, were they of no stratum in particular; 0 where it
/// halts already.
fn failures_to_halt(evidence: &Evidence, ring: RingCounts, p0: f64, limits: &Limits) -> u64 {
    let threshold = e_threshold(limits);
    let survived = evidence.trials().saturating_sub(evidence.total().failed) as f64;
    let halts = |more: u64| {
        let two = evidence.total().failed.saturating_add(more) >= 2;
        let whole = GLOBAL_WEIGHT * e_of(evidence.failures_weighed() + more as f64, survived, p0)
            + evidence.parts();
        let failed = ring.failed.saturating_add(more);
        let exposed = ring.exposed.max(ring.confirmed.saturating_add(failed));
        (two && whole >= threshold)
            || (RingCounts { failed, ..ring }).held_against()
                > max_failed(
                    RingCounts {
                        failed,
                        exposed,
                        ..ring
                    },
                    p0,
                    limits,
                )
    };
    first(1 << 40, halts)
}

/// Smallest count in `0..=high` for which a monotone condition holds, or `high`.
fn first(high: u64, holds: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0, high);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            high = middle
        } else {
            low = middle + 1
        }
    }
    low
}

/// Smallest rate at which so many of the whole fleet fail that the rollout halts, with 95 %
/// probability, before it is through.
fn smallest_detectable_rate(p0: f64, limits: &Limits) -> Option<f64> {
    let n = limits.fleet_size;
    if n == 0 {
        return None;
    }
    let threshold = e_threshold(limits);
    let needed = first(n, |k| {
        let whole = RingCounts {
            exposed: n,
            confirmed: n - k.min(n),
            failed: k,
            ..RingCounts::default()
        };
        let as_one_ring = Limits {
            ring_size: n,
            ..*limits
        };
        GLOBAL_WEIGHT * e_of(k as f64, (n - k.min(n)) as f64, p0) >= threshold
            || k > max_failed(whole, p0, &as_one_ring)
            || below_share(whole, p0, true, &as_one_ring)
    })
    .max(1);
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..40 {
        let rate = f64::midpoint(low, high);
        if stats::at_least(needed, n, rate) >= 0.95 {
            high = rate
        } else {
            low = rate
        }
    }
    Some(high)
}

/// The stratum that most of the evidence comes from, where it is not all that was exposed.
fn concentrated(evidence: &Evidence, e_value: f64) -> String {
    let worst = evidence.worst_strata().first();
    let worst = worst.filter(|w| w.e_value > 0.5 * e_value && w.trials < evidence.trials());
    worst.map_or_else(String::new, |w| {
        format!(
            ", {} of {} of {} {}",
            w.failed, w.trials, w.dimension, w.word
        )
    })
}

fn sentence(report: &VerdictReport, ring: RingCounts, evidence: &Evidence) -> String {
    let ceiling = evidence.is_ceiling();
    let resolved = report.failed.saturating_add(report.confirmed);
    let base = if ceiling {
        format!(
            "assumed at most {:.2} % of hosts fail anyway (only {:.0} control reboots and host-days so far)",
            report.p0 * 100.0,
            report.control_units
        )
    } else {
        format!(
            "{} failures in {:.0} control reboots and host-days (rate {:.3} %)",
            report.control_failures,
            report.control_units,
            report.p0 * 100.0
        )
    };
    match &report.decision {
        Decision::Continue if resolved == 0 => format!("no exposure has resolved yet; {base}"),
        Decision::Continue => format!(
            "{} of {resolved} resolved exposures failed; {base}; {} more failures in a row would halt",
            report.failed, report.failures_to_halt
        ),
        Decision::Hold(HoldWhy::NobodyExposed) => "holds: no host of the ring can be exposed now".into(),
        Decision::Hold(HoldWhy::SiteSilentWithoutControl) => "holds: a site went silent and no unexposed host is there to tell whether the release or the network did it".into(),
        Decision::Hold(HoldWhy::ReleaseExpired) => "holds: the manifest has expired; publish a newly signed one".into(),
        Decision::Halt(HaltWhy::EvidenceOfHarm { e_value, threshold }) => format!(
            "{} of {resolved} resolved exposures failed{}; {base}; evidence {e_value:.0} reached the halt at {threshold:.0}",
            report.failed,
            concentrated(evidence, *e_value)
        ),
        Decision::Halt(HaltWhy::MaxFailed { failed, max_failed }) => {
            format!("{failed} exposures failed in this ring where at most {max_failed} may; {base}")
        }
        Decision::Halt(HaltWhy::RepeatedSignature { signature, hosts }) => {
            format!("{hosts} of {resolved} exposures failed in the same way ({signature}); {base}")
        }
        Decision::Halt(HaltWhy::RingBelowShare { confirmed, failed }) => format!(
            "{failed} failed and only {confirmed} confirmed of {} exposed in this ring: below 95 %; {base}",
            ring.exposed
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Outcome;
    use proptest::prelude::*;
    use ringward_domain::HostId;

    fn limits(ring_size: u64) -> Limits {
        Limits {
            alpha: 1e-3,
            ring: 0,
            ring_size,
            fleet_size: ring_size,
            ring_exhausted: false,
            site_silent_without_control: false,
            release_expired: false,
        }
    }

    fn evidence(confirmed: u64, failed: u64) -> Evidence {
        let mut evidence = Evidence::default();
        for i in 0..confirmed + failed {
            evidence.exposed(0);
            let outcome = if i < failed {
                Outcome::Failed { signature: None }
            } else {
                Outcome::Confirmed
            };
            evidence.resolved(0, HostId(i), &outcome);
        }
        evidence
    }

    #[test]
    fn a_release_that_kills_every_host_halts_at_the_second() {
        assert_eq!(decide(&evidence(0, 1), &limits(1000)), Decision::Continue);
        assert!(matches!(
            decide(&evidence(0, 2), &limits(1000)),
            Decision::Halt(HaltWhy::EvidenceOfHarm { .. })
        ));
    }

    #[test]
    fn failures_at_the_rate_of_the_control_do_not_halt() {
        let mut flaky = evidence(9_900, 100);
        assert!(matches!(
            decide(&flaky, &limits(100_000)),
            Decision::Continue
        ));
        flaky.control(100_000.0, 1_000);
        assert_eq!(decide(&flaky, &limits(100_000)), Decision::Continue);
        let mut quiet = evidence(9_900, 100);
        quiet.control(100_000.0, 10);
        assert!(matches!(
            decide(&quiet, &limits(100_000)),
            Decision::Halt(_)
        ));
    }

    #[test]
    fn one_signature_on_two_hosts_halts_only_while_chance_cannot_explain_it() {
        let mut evidence = evidence(50, 0);
        evidence.control(1e6, 10);
        for i in 0..2 {
            evidence.exposed(0);
            evidence.resolved(
                0,
                HostId(i),
                &Outcome::Failed {
                    signature: Some("0x7e amdppm.sys".into()),
                },
            );
        }
        assert!(matches!(
            decide(&evidence, &limits(10_000)),
            Decision::Halt(_)
        ));
    }

    #[test]
    fn newcomers_alone_halt_by_no_hard_rule_but_by_the_e_process() {
        let mut evidence = evidence(10_000, 0);
        evidence.control(1e6, 1_000);
        let fail = |evidence: &mut Evidence, host: u64, newcomer: bool| {
            evidence.exposed(0);
            evidence.resolved(0, HostId(host), &Outcome::Failed { signature: None });
            if newcomer {
                evidence.newcomer_failed(0);
            }
        };
        let small = limits(100);
        for host in 0..12 {
            fail(&mut evidence, 20_000 + host, true);
        }
        assert_eq!(decide(&evidence, &small), Decision::Continue);
        for host in 0..60 {
            fail(&mut evidence, 30_000 + host, true);
        }
        assert!(matches!(
            decide(&evidence, &small),
            Decision::Halt(HaltWhy::EvidenceOfHarm { .. })
        ));
    }

    #[test]
    fn a_small_ring_may_complete_with_one_broken_host_but_not_without_a_good_one() {
        let exhausted = Limits {
            ring_exhausted: true,
            ..limits(5)
        };
        assert!(ring_may_complete(&evidence(1, 1), &exhausted));
        assert!(matches!(
            decide(&evidence(0, 1), &exhausted),
            Decision::Halt(HaltWhy::RingBelowShare { .. })
        ));
        let single = Limits {
            ring_exhausted: true,
            ..limits(1)
        };
        assert!(matches!(
            decide(&evidence(0, 1), &single),
            Decision::Halt(HaltWhy::RingBelowShare { .. })
        ));
    }

    #[test]
    fn an_exhausted_ring_in_which_nobody_was_exposed_holds_with_its_reason() {
        let exhausted = Limits {
            ring_exhausted: true,
            ..limits(5)
        };
        assert_eq!(
            decide(&evidence(0, 0), &exhausted),
            Decision::Hold(HoldWhy::NobodyExposed)
        );
        assert!(!ring_may_complete(&evidence(0, 0), &exhausted));
    }

    #[test]
    fn the_report_says_what_a_fleet_of_this_size_can_detect() {
        assert_eq!(
            verdict(&evidence(0, 0), &limits(0)).smallest_detectable_rate,
            None
        );
        let mut last = 1.1;
        for size in [1, 5, 12, 50, 1000] {
            let rate = verdict(&evidence(0, 0), &limits(size))
                .smallest_detectable_rate
                .unwrap_or(2.0);
            assert!(rate <= last, "{size}: {rate} after {last}");
            last = rate;
        }
        assert!(last < 0.05, "{last}");
    }

    #[test]
    fn the_report_says_how_many_failures_away_the_halt_is() {
        assert_eq!(verdict(&evidence(0, 0), &limits(1000)).failures_to_halt, 2);
        assert_eq!(verdict(&evidence(0, 2), &limits(1000)).failures_to_halt, 0);
    }

    proptest! {
        #[test]
        fn no_limits_or_counts_give_nan_or_panic(
            confirmed in 0u64..200, failed in 0u64..50, alpha in prop::num::f64::ANY, ring_size in any::<u64>(),
            fleet_size in any::<u64>(), exhausted in any::<bool>(), units in prop::num::f64::ANY, control_failures in any::<u64>(),
        ) {
            let mut evidence = evidence(confirmed, failed);
            evidence.control(units, control_failures);
            let limits = Limits { alpha, ring_size, fleet_size, ring_exhausted: exhausted, ..limits(0) };
            let report = verdict(&evidence, &limits);
            for figure in [report.p0, report.upper_bound, report.e_value, report.e_threshold, report.smallest_detectable_rate.unwrap_or(0.0)] {
                prop_assert!(figure.is_finite(), "{report:?}");
            }
            prop_assert!(!report.sentence.is_empty());
        }
    }
}
