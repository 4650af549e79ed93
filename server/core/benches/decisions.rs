//! How long one decision takes: `cargo bench -p ringward-server-core`.
#![allow(missing_docs)]

use divan::{Bencher, black_box};
use ringward_domain::host::Labels;
use ringward_domain::ids::{RolloutId, Sha256};
use ringward_domain::{AssignmentKind, HostId, ReleaseDigest, Timestamp};
use ringward_server_core::baseline::Counts;
use ringward_server_core::evidence::{Evidence, Outcome};
use ringward_server_core::policy::Policy;
use ringward_server_core::rollout::member::Readiness;
use ringward_server_core::rollout::order::{Candidate, plan_rings};
use ringward_server_core::rollout::{Rollout, Spec};
use ringward_server_core::salt::Salt;
use ringward_server_core::strata::NO_KINDS;
use ringward_server_core::suspects::Suspects;
use ringward_server_core::verdict::{Limits, decide};
use ringward_server_core::window::{RingWindow, WindowPolicy, window};

fn main() {
    divan::main();
}

fn evidence() -> Evidence {
    let mut evidence = Evidence::default();
    evidence.control_before(&Counts {
        reboots: 300_000.0,
        reboot_failures: 30,
        ..Counts::default()
    });
    for i in 0..50_000 {
        evidence.exposed(0);
        evidence.returned(NO_KINDS, true);
        let failed = i % 10_000 == 0;
        let outcome = if failed {
            Outcome::Failed { signature: None }
        } else {
            Outcome::Confirmed
        };
        evidence.resolved(0, HostId(i), &outcome);
    }
    evidence
}

#[divan::bench]
fn verdict_on_one_event(bencher: Bencher<'_, '_>) {
    let evidence = evidence();
    let limits = Limits {
        alpha: 1e-3,
        ring: 0,
        ring_size: 90_000,
        fleet_size: 100_000,
        ring_exhausted: false,
        site_silent_without_control: false,
        release_expired: false,
    };
    bencher.bench_local(|| decide(black_box(&evidence), black_box(&limits)));
}

#[divan::bench]
fn window_on_one_event(bencher: Bencher<'_, '_>) {
    let evidence = evidence();
    let ring = RingWindow {
        index: 2,
        size: 90_000,
        confirmed: 40_000,
        previous: 1800,
    };
    bencher.bench_local(|| {
        window(
            black_box(&evidence),
            black_box(&ring),
            &WindowPolicy::default(),
        )
    });
}

#[divan::bench(args = [100_000, 1_000_000], sample_count = 10)]
fn planning_rings(bencher: Bencher<'_, '_>, hosts: u64) {
    let policy = Policy::default();
    let labels: Vec<Labels> = (0..25)
        .map(|s| Labels::from([("site".to_owned(), format!("s{s}"))]))
        .collect();
    let models: Vec<String> = (0..50).map(|m| format!("m{m}")).collect();
    let candidate = |i: u64| Candidate {
        host: HostId(i),
        labels: &labels[(i % 25) as usize],
        model: &models[(i % 50) as usize],
        os_build: "b",
    };
    let fleet: Vec<Candidate<'_>> = (0..hosts).map(candidate).collect();
    bencher.bench_local(|| plan_rings(black_box(&policy.rings), black_box(&fleet), Salt(7)));
}

#[divan::bench(args = [100_000, 1_000_000], sample_count = 10)]
fn planning_a_running_rollout(bencher: Bencher<'_, '_>, hosts: u64) {
    let policy = Policy::default();
    let labels = Labels::new();
    let candidate = |i: u64| Candidate {
        host: HostId(i),
        labels: &labels,
        model: "m",
        os_build: "b",
    };
    let fleet: Vec<Candidate<'_>> = (0..hosts).map(candidate).collect();
    let (rings, _) = plan_rings(&policy.rings, &fleet, Salt(7));
    let spec = Spec {
        kind: AssignmentKind::Install,
        package: "content".parse().expect("a valid name"),
        release: ReleaseDigest([9; 32]),
        version: "2.0.0".parse().expect("a valid version"),
        boots: true,
        leaves: None,
        expires_unix_s: None,
        number: 1,
        started_by: String::new(),
        reason: String::new(),
        started_unix_ms: 0,
    };
    let mut rollout = Rollout::new(
        RolloutId(1),
        spec,
        policy.pace,
        Salt(7),
        &rings,
        Timestamp(1),
    );
    for i in 0..hosts {
        rollout.readiness(HostId(i), Readiness::Ready, Timestamp(1));
    }
    bencher.bench_local(|| rollout.plan(Timestamp(2)));
}

#[divan::bench(sample_count = 10)]
fn ranking_of_10_000_changes(bencher: Bencher<'_, '_>) {
    let mut suspects = Suspects::default();
    for c in 0..10_000u64 {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&c.to_be_bytes());
        for h in 0..20 {
            suspects.took(HostId((c * 7 + h * 31) % 1000), Sha256(bytes), "c");
        }
    }
    for h in 0..100 {
        suspects.failed(HostId(h * 10));
    }
    bencher.bench_local(|| black_box(&suspects).ranking(20));
}
