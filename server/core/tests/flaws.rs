//! Every bug planted in verdict, window and attribution is found by a check that passes without it.
#![cfg(feature = "planted-bugs")]
#![allow(missing_docs)]

use ringward_domain::HostId;
use ringward_domain::ids::Sha256;
use ringward_domain::report::{Decision, HaltWhy, VerdictReport};
use ringward_server_core::baseline::{Baseline, Counts, Exposed, FLOOR};
use ringward_server_core::evidence::{Evidence, Outcome};
use ringward_server_core::flaws::{Flaw, plant};
use ringward_server_core::strata::{NO_KINDS, Strata};
use ringward_server_core::suspects::Suspects;
use ringward_server_core::verdict::{Limits, decide, ring_may_complete, verdict};
use ringward_server_core::window::{RingWindow, WindowPolicy, window};

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

/// So many returned, of them so many confirmed, and so many failed; control reboots and failures.
fn evidence(returned: u64, confirmed: u64, failed: u64, control: (f64, u64)) -> Evidence {
    let mut evidence = Evidence::default();
    evidence.control_before(&Counts {
        reboots: control.0,
        reboot_failures: control.1,
        ..Counts::default()
    });
    for _ in 0..returned + failed {
        evidence.exposed(0);
        evidence.returned(NO_KINDS, true);
    }
    for i in 0..confirmed {
        evidence.resolved(0, HostId(i), &Outcome::Confirmed);
    }
    for i in 0..failed {
        evidence.resolved(
            0,
            HostId(1_000_000 + i),
            &Outcome::Failed { signature: None },
        );
    }
    evidence
}

fn report(evidence: &Evidence) -> VerdictReport {
    verdict(evidence, &limits(10_000))
}

const QUIET: (f64, u64) = (300_000.0, 30);

fn with_signature(signature: &str, hosts: u64) -> Evidence {
    let mut evidence = evidence(1000, 1000, 0, (300_000.0, 0));
    for i in 0..hosts {
        evidence.exposed(0);
        evidence.returned(NO_KINDS, true);
        evidence.resolved(
            0,
            HostId(2_000_000 + i),
            &Outcome::Failed {
                signature: Some(signature.into()),
            },
        );
        evidence.failed_in(NO_KINDS);
    }
    evidence
}

fn late(age: f64) -> Evidence {
    let mut evidence = evidence(500, 500, 0, QUIET);
    for i in 0..3 {
        evidence.fade(age);
        evidence.failed_after_confirm(0, HostId(i), None);
    }
    evidence
}

fn rate(baseline: &Baseline, trials: u64) -> f64 {
    baseline.rate(&Exposed {
        trials,
        reboots: trials,
        days: trials as f64 / 48.0,
    })
}

fn one_model_fails(own_failures: u64) -> f64 {
    let mut strata = Strata::default();
    let words = |m: u64| [String::new(), format!("m{m}"), String::new(), String::new()];
    for i in 0..1000 {
        let _ = strata.join(&words(i % 50));
    }
    let kinds = strata.join(&words(7));
    for _ in 0..own_failures {
        strata.control_failure(kinds);
    }
    strata.trial(kinds);
    strata.trial(kinds);
    strata.failure(kinds);
    strata.evidence(1e-3, 1e5).0
}

fn suspects(candidates: u64, order: bool) -> Suspects {
    let mut suspects = Suspects::default();
    let print = |c: u64| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&c.to_be_bytes());
        Sha256(bytes)
    };
    for i in 0..1000 {
        suspects.host(HostId(i));
    }
    for c in 1..candidates {
        suspects.took(HostId(c % 1000), print(c), "other");
    }
    for i in 0..30 {
        if order {
            suspects.took(HostId(i), print(0), "it");
        }
        if i < 4 {
            suspects.failed(HostId(i));
        }
        if !order {
            suspects.took(HostId(i), print(0), "it");
        }
    }
    suspects
}

/// Whether what the flaw breaks holds.
fn holds(flaw: Flaw) -> bool {
    let policy = WindowPolicy::default();
    let ring = |size, confirmed| RingWindow {
        index: 0,
        size,
        confirmed,
        previous: 0,
    };
    match flaw {
        Flaw::LateKeepsCredit => late(0.0).total().confirmed == 497,
        Flaw::LateWeighsInFull => report(&late(1.0)).e_value < report(&late(0.0)).e_value / 10.0,
        Flaw::TrialsWhenConfirmed => {
            report(&evidence(400, 0, 2, QUIET)).e_value
                < report(&evidence(0, 0, 2, QUIET)).e_value / 10.0
        }
        Flaw::SignatureDropped => with_signature("a", 3).top_signature() == Some(("a", 3)),
        Flaw::SignatureChosenTwice => with_signature("a", 2).parts() < 1e4,
        Flaw::CensoredCounts => {
            let mut evidence = evidence(10, 10, 2, QUIET);
            evidence.censored(0);
            evidence.total().failed == 1
        }
        Flaw::UncountedCredited => {
            let mut evidence = evidence(10, 10, 0, QUIET);
            evidence.uncounted(0);
            evidence.total().confirmed == 10
        }
        Flaw::ControlForgotten => {
            let mut evidence = evidence(10, 10, 2, QUIET);
            evidence.begin_anew();
            evidence.control_counts().0 > 1e5 && evidence.total().failed == 0
        }
        Flaw::NoCeiling => {
            rate(&Baseline::default(), 5) >= 0.01 && evidence(0, 0, 0, (50.0, 0)).p0() >= 0.01
        }
        Flaw::NoFloor => {
            let mut baseline = Baseline::default();
            baseline.before(&Counts {
                reboots: 1e9,
                ..Counts::default()
            });
            rate(&baseline, 5) >= FLOOR
        }
        Flaw::DriftIgnored | Flaw::ControlFailuresLost => {
            let mut baseline = Baseline::default();
            baseline.before(&Counts {
                reboots: 300_000.0,
                reboot_failures: 30,
                ..Counts::default()
            });
            baseline.meanwhile(&Counts {
                reboots: 30_000.0,
                reboot_failures: 9,
                ..Counts::default()
            });
            rate(&baseline, 10_000) > 2.5e-4
        }
        Flaw::TimeIgnored => {
            let mut baseline = Baseline::default();
            baseline.before(&Counts {
                reboots: 1e5,
                reboot_failures: 10,
                days: 1e5,
                time_failures: 5000,
            });
            rate(&baseline, 100) > 1e-3
        }
        Flaw::StrataUnweighted => one_model_fails(0) < 10.0,
        Flaw::OwnControlIgnored => one_model_fails(200) < one_model_fails(0) / 3.0,
        Flaw::ThresholdTooLow => report(&evidence(1, 1, 1, QUIET)).e_threshold > 1000.0,
        Flaw::OneFailureHalts => {
            decide(&evidence(0, 0, 1, QUIET), &limits(100_000)) == Decision::Continue
        }
        Flaw::MaxFailedUnbounded => {
            let four = evidence(2000, 2000, 4, (300_000.0, 30_000));
            report(&four).max_failed < 1000
        }
        Flaw::ShareIgnored => {
            let exhausted = Limits {
                ring_exhausted: true,
                ..limits(1)
            };
            matches!(
                decide(&evidence(0, 0, 1, (0.0, 0)), &exhausted),
                Decision::Halt(HaltWhy::RingBelowShare { .. })
            )
        }
        Flaw::SmallRingNotForgiven => ring_may_complete(
            &evidence(4, 4, 1, (0.0, 0)),
            &Limits {
                ring_exhausted: true,
                ..limits(5)
            },
        ),
        Flaw::CapIgnored => {
            window(&evidence(5000, 5000, 0, QUIET), &ring(1000, 5000), &policy) <= 200
        }
        Flaw::FirstFailureIgnored => {
            window(&evidence(0, 0, 1, QUIET), &ring(1000, 0), &policy) == 1
        }
        Flaw::EverythingForgiven => {
            window(&evidence(90, 90, 10, QUIET), &ring(100_000, 90), &policy) < 40
        }
        Flaw::CandidatesNotCorrected => suspects(5000, true).ranking(1).iter().all(|s| !s.named),
        Flaw::BlamedAfterwards => exposed_of(&suspects(1, false)) == 26,
    }
}

/// Takers of the change as the ranking would count them, after one more failure among them.
fn exposed_of(suspects: &Suspects) -> u64 {
    let mut suspects = suspects.clone();
    suspects.host(HostId(5000));
    suspects.failed(HostId(10));
    suspects.ranking(1).first().map_or(0, |s| s.exposed)
}

#[test]
fn every_planted_flaw_is_found_and_nothing_is_found_without() {
    let mut unfound = Vec::new();
    for flaw in Flaw::ALL {
        plant(None);
        assert!(holds(flaw), "{flaw:?} is found where it is not planted");
        plant(Some(flaw));
        if holds(flaw) {
            unfound.push(flaw);
        }
    }
    plant(None);
    assert!(unfound.is_empty(), "not found: {unfound:?}");
}
