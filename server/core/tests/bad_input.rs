//! Nonsense in, something defined out: no panic, no NaN, counts saturate.
#![allow(clippy::unwrap_used, missing_docs)]

use ringward_domain::ids::RolloutId;
use ringward_domain::report::{Decision, HaltWhy, VerdictReport};
use ringward_domain::{AssignmentKind, HostId, ReleaseDigest, Timestamp};
use ringward_server_core::baseline::Counts;
use ringward_server_core::evidence::{Evidence, Outcome};
use ringward_server_core::policy::{Pace, Policy};
use ringward_server_core::rollout::member::Readiness;
use ringward_server_core::rollout::{PlannedRing, Rollout, Spec};
use ringward_server_core::salt::Salt;
use ringward_server_core::strata::{NO_KINDS, Strata};
use ringward_server_core::verdict::{Limits, verdict};

fn limits(alpha: f64, ring_size: u64, fleet_size: u64) -> Limits {
    Limits {
        alpha,
        ring: 0,
        ring_size,
        fleet_size,
        ring_exhausted: false,
        site_silent_without_control: false,
        release_expired: false,
    }
}

fn evidence(confirmed: u64, failed: u64, control: Counts) -> Evidence {
    let mut evidence = Evidence::default();
    evidence.control_before(&control);
    for host in 0..confirmed + failed {
        evidence.exposed(0);
        evidence.returned(NO_KINDS, true);
        let outcome = if host < failed {
            Outcome::Failed { signature: None }
        } else {
            Outcome::Confirmed
        };
        evidence.resolved(0, HostId(host), &outcome);
    }
    evidence
}

fn reboots(reboots: f64, reboot_failures: u64) -> Counts {
    Counts {
        reboots,
        reboot_failures,
        ..Counts::default()
    }
}

fn finite(report: &VerdictReport) -> bool {
    let figures = [
        report.p0,
        report.upper_bound,
        report.e_value,
        report.e_threshold,
        report.smallest_detectable_rate.unwrap_or(0.0),
    ];
    figures.iter().all(|x| x.is_finite())
}

fn rollout(rings: &[Vec<u64>]) -> Rollout {
    let planned: Vec<PlannedRing> = rings
        .iter()
        .enumerate()
        .map(|(i, hosts)| PlannedRing {
            name: format!("r{i}").parse().unwrap(),
            hosts: hosts.iter().map(|h| (HostId(*h), 0)).collect(),
        })
        .collect();
    let spec = Spec {
        kind: AssignmentKind::Install,
        package: "app".parse().unwrap(),
        release: ReleaseDigest([9; 32]),
        version: "2".parse().unwrap(),
        boots: false,
        leaves: None,
        expires_unix_s: None,
        number: 1,
        started_by: String::new(),
        reason: String::new(),
        started_unix_ms: 0,
    };
    Rollout::new(
        RolloutId(1),
        spec,
        Pace::default(),
        Salt(1),
        &planned,
        Timestamp(1),
    )
}

#[test]
fn no_rings_no_hosts_and_one_host_are_planned() {
    for rings in [vec![], vec![vec![]], vec![vec![], vec![1], vec![]]] {
        let mut rollout = rollout(&rings);
        for host in rings.iter().flatten() {
            rollout.readiness(HostId(*host), Readiness::Ready, Timestamp(1));
        }
        for second in 1..100 {
            rollout.plan(Timestamp(second * 1000));
            rollout.tick(Timestamp(second * 1000));
        }
        let view = rollout.view(&|_| String::new(), Timestamp(200_000));
        assert!(finite(&view.verdict), "{rings:?}: {:?}", view.verdict);
    }
}

#[test]
fn a_ring_larger_than_the_fleet_is_judged_by_what_there_is() {
    let report = verdict(
        &evidence(3, 1, Counts::default()),
        &limits(1e-3, 1_000_000, 4),
    );
    assert!(finite(&report), "{report:?}");
    assert_eq!(report.decision, Decision::Continue);
}

#[test]
fn a_stratum_of_one_host_counts_like_any_other() {
    let mut strata = Strata::default();
    let words = ["b", "m", "k", "s"].map(str::to_owned);
    let kinds = strata.join(&words);
    strata.trial(kinds);
    strata.failure(kinds);
    let (sum, worst) = strata.evidence(1e-4, 0.0);
    assert!(sum.is_finite() && sum > 0.0);
    assert_eq!(worst.len(), 4);
}

#[test]
fn a_control_that_never_fails_or_always_fails_gives_a_rate() {
    let never = verdict(&evidence(50, 1, reboots(1e12, 0)), &limits(1e-3, 100, 100));
    assert!(finite(&never) && never.p0 > 0.0, "{never:?}");
    let always = verdict(
        &evidence(0, 10, reboots(1e4, 10_000)),
        &limits(1e-3, 100, 100),
    );
    assert!(finite(&always) && always.p0 <= 1.0, "{always:?}");
    let harm = matches!(
        always.decision,
        Decision::Halt(HaltWhy::EvidenceOfHarm { .. })
    );
    assert!(!harm, "{always:?}");
}

#[test]
fn figures_that_are_no_numbers_do_not_spread() {
    for nonsense in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -5.0] {
        let counts = Counts {
            days: nonsense,
            ..reboots(nonsense, u64::MAX)
        };
        let mut evidence = evidence(5, 2, counts);
        evidence.control(nonsense, u64::MAX);
        evidence.fade(nonsense);
        let report = verdict(&evidence, &limits(nonsense, u64::MAX, u64::MAX));
        assert!(finite(&report), "{nonsense}: {report:?}");
    }
}

#[test]
fn an_alpha_of_nought_or_one_is_bounded_and_no_policy_takes_it() {
    for alpha in [0.0, 1.0, -1.0, 7.0] {
        let report = verdict(&evidence(5, 3, reboots(1e5, 10)), &limits(alpha, 100, 100));
        assert!(
            finite(&report) && report.e_threshold >= 1.0,
            "{alpha}: {report:?}"
        );
        let text = format!("alpha = {alpha:?}\n[[ring]]\nname = \"a\"\n");
        assert_eq!(Policy::parse(&text).unwrap_err().field, "alpha", "{alpha}");
    }
    for soak in ["-3", "0", "nan"] {
        let text = format!("soak_s = {soak}\n[[ring]]\nname = \"a\"\n");
        assert!(Policy::parse(&text).is_err(), "{soak}");
    }
}

#[test]
fn counts_saturate() {
    let mut evidence = Evidence::default();
    for _ in 0..2 {
        evidence.control(f64::MAX, u64::MAX);
        evidence.control_before(&reboots(f64::MAX, u64::MAX));
    }
    assert_eq!(evidence.control_counts().1, u64::MAX);
    assert!(finite(&verdict(
        &evidence,
        &limits(1e-3, u64::MAX, u64::MAX)
    )));
}
