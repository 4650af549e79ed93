//! Sample things for the tests of views.
#![allow(clippy::unwrap_used, missing_docs)]

use ringward_domain::host::{Arch, Facts, GuardTier, HostState, Os};
use ringward_domain::ids::*;
use ringward_domain::ledger::RevertWhy;
use ringward_domain::observed::{Observed, PackageObserved};
use ringward_domain::report::*;
use ringward_domain::{Absence, AssignmentKind, Millis};

pub fn host(id: u64) -> HostView {
    HostView {
        id: HostId(id),
        state: HostState::Active,
        facts: Facts {
            hostname: "till-7".into(),
            os: Os::Linux,
            os_build: "Debian 12".into(),
            arch: Arch::X86_64,
            kernel: "6.1.0-28-amd64".into(),
            model: "KVM".into(),
            fingerprint: "f1".into(),
            memory_mib: 2048,
            cpus: 2,
            guard_tier: GuardTier::Service,
        },
        labels: [("site".into(), "kassel".into())].into(),
        agent_version: "0.1.0".into(),
        connected: true,
        last_seen_ms: Millis(800),
        observed: Observed {
            packages: vec![PackageObserved {
                package: "demo".parse().unwrap(),
                running: Some(ReleaseDigest([2; 32])),
                running_version: Some("1.1".parse().unwrap()),
                committed: Some(ReleaseDigest([1; 32])),
                committed_version: Some("1.0".parse().unwrap()),
            }],
            ..Observed::default()
        },
        attention: Vec::new(),
        signals: Vec::new(),
    }
}

pub fn release(n: u8) -> ReleaseView {
    ReleaseView {
        release: ReleaseDigest([n; 32]),
        package: "demo".parse().unwrap(),
        version: format!("1.{n}").parse().unwrap(),
        standing: Standing::Unproven,
        published_unix_ms: 1_700_000_000_000,
        signed_by: vec!["a1b2c3d4e5f6".into()],
        bytes: 4096,
        hosts_running: 3,
    }
}

pub fn member(id: u64, name: &str, state: MemberState) -> MemberView {
    MemberView {
        host: HostId(id),
        hostname: name.into(),
        state,
        late: false,
        nonce: None,
        for_ms: Millis::secs(90),
        cause: None,
    }
}

fn ring(name: &str, state: RingState, members: u64) -> RingView {
    RingView {
        name: name.parse().unwrap(),
        state,
        members,
        in_flight: 0,
        window: 0,
        waiting: 0,
        soaking: 0,
        confirmed: 0,
        already_there: 0,
        failed: 0,
        reverted: 0,
        silent: 0,
        deferred: 0,
        refused: 0,
        away: 0,
        stragglers: 0,
        waits: Vec::new(),
    }
}

/// A rollout that halted in its second ring.
pub fn rollout(id: u64) -> RolloutView {
    let canary = RingView {
        confirmed: 1,
        already_there: 1,
        ..ring("canary", RingState::Complete, 2)
    };
    let early = RingView {
        in_flight: 2,
        window: 3,
        waiting: 11,
        soaking: 1,
        confirmed: 2,
        reverted: 1,
        silent: 1,
        waits: vec![
            (WaitWhy::NotRunning(RolloutState::Halted), 9),
            (WaitWhy::Away(Absence::Suspend), 2),
        ],
        ..ring("early", RingState::Open, 18)
    };
    let broad = RingView {
        waiting: 183,
        waits: vec![(WaitWhy::EarlierRing, 183)],
        ..ring("broad", RingState::Waiting, 183)
    };
    RolloutView {
        id: RolloutId(id),
        kind: AssignmentKind::Install,
        package: "demo".parse().unwrap(),
        version: "1.1".parse().unwrap(),
        release: ReleaseDigest([2; 32]),
        leaves: None,
        state: RolloutState::Halted,
        state_reason: "2 of 6 exposures failed, 1 may fail in ring early".into(),
        started_unix_ms: 1_700_000_000_000,
        started_by: "alice".into(),
        reason: "monthly update".into(),
        rings: vec![canary, early, broad],
        verdict: VerdictReport {
            decision: Decision::Halt(HaltWhy::MaxFailed {
                failed: 2,
                max_failed: 1,
            }),
            sentence: "halt: 2 failed in ring early, 1 may fail; 3 confirmed".into(),
            failed: 2,
            confirmed: 3,
            censored: 0,
            control_failures: 0,
            control_units: 14.5,
            p0: 0.0312,
            upper_bound: 0.7287,
            e_value: 87.512,
            e_threshold: 1428.57,
            max_failed: 1,
            smallest_detectable_rate: Some(0.021),
            failures_to_halt: 0,
            assumed: false,
            strata: Vec::new(),
        },
        silent_hosts: vec![member(1, "till-1", MemberState::Silent)],
        failed_hosts: vec![member(
            2,
            "till-2",
            MemberState::Reverted(RevertWhy::CrashLoop),
        )],
        evidence_to_halt_ms: Some(4),
        notes: vec!["soak is 3 s, shorter than the default of 15 min".into()],
        suspects: Vec::new(),
        proposal: String::new(),
        forecast: None,
        causes: Vec::new(),
    }
}
