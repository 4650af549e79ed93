//! A rollout driven by hand.

pub use ringward_domain::absence::Absence;
pub use ringward_domain::ids::{AgentStart, BootId, RolloutId, SignalSeq};
pub use ringward_domain::ledger::{NotSwitchedWhy, RevertWhy};
pub use ringward_domain::observed::{AttemptObserved, PhaseObserved};
pub use ringward_domain::report::{RolloutState, WaitWhy};
pub use ringward_domain::session::BeginRefusal;
pub use ringward_domain::signal::{Signal, SignalKind};
pub use ringward_domain::{AssignmentKind, HostId, Millis, Nonce, ReleaseDigest, Timestamp};
pub use ringward_server_core::policy::{HourlyCap, Pace};
pub use ringward_server_core::rollout::member::{Ending, Readiness, Stage};
pub use ringward_server_core::rollout::{
    Ask, AttemptSeen, BeginAnswer, GrantAnswer, PlannedRing, Rollout, SignalSeen, Spec,
};
pub use ringward_server_core::salt::Salt;

pub const T0: Timestamp = Timestamp(1_000_000);
pub const RELEASE: ReleaseDigest = ReleaseDigest([9; 32]);

pub fn at(s: u64) -> Timestamp {
    T0 + Millis::secs(s)
}

pub fn spec(kind: AssignmentKind) -> Spec {
    Spec {
        kind,
        package: "app".parse().unwrap(),
        release: RELEASE,
        version: "2".parse().unwrap(),
        boots: false,
        leaves: None,
        expires_unix_s: None,
        number: 1,
        started_by: "ann".into(),
        reason: String::new(),
        started_unix_ms: 0,
    }
}

/// One ring of hosts that are all ready, without added reboots.
pub fn rollout_of(kind: AssignmentKind, hosts: &[(u64, u64)], pace: Pace) -> Rollout {
    let hosts: Vec<(HostId, u64)> = hosts
        .iter()
        .map(|(host, group)| (HostId(*host), *group))
        .collect();
    let ring = PlannedRing {
        name: "all".parse().unwrap(),
        hosts: hosts.clone(),
    };
    let mut rollout = Rollout::new(RolloutId(1), spec(kind), pace, Salt(1), &[ring], T0);
    for (host, _) in hosts {
        rollout.readiness(host, Readiness::Ready, T0);
    }
    rollout.plan(T0);
    rollout
}

pub fn pace() -> Pace {
    Pace {
        verify_boot: false,
        ..Pace::default()
    }
}

pub fn install(hosts: u64) -> Rollout {
    let hosts: Vec<(u64, u64)> = (1..=hosts).map(|i| (i, 0)).collect();
    rollout_of(AssignmentKind::Install, &hosts, pace())
}

pub fn ask(host: u64, n: u8) -> Ask {
    Ask {
        nonce: Nonce([n; 16]),
        boot: BootId([host as u8; 16]),
        agent_start: AgentStart([host as u8; 16]),
        blocked: None,
        next_signal: SignalSeq(10),
        boottime: Millis(0),
    }
}

pub fn begin(rollout: &mut Rollout, host: u64, n: u8, now: Timestamp) {
    assert!(matches!(
        rollout.request(HostId(host), &ask(host, n), now),
        GrantAnswer::Grant(_)
    ));
    assert_eq!(
        rollout.begin(HostId(host), &ask(host, n), None, now),
        BeginAnswer::Begun
    );
}

pub fn says(rollout: &mut Rollout, host: u64, n: u8, phase: PhaseObserved, now: Timestamp) {
    let attempt = AttemptObserved {
        nonce: Nonce([n; 16]),
        rollout: RolloutId(1),
        package: "app".parse().unwrap(),
        release: RELEASE,
        phase,
    };
    let seen = AttemptSeen {
        attempt: Some(&attempt),
        running: Some(RELEASE),
        boot: BootId([host as u8; 16]),
        agent_start: AgentStart([host as u8; 16]),
        hello: false,
        next_signal: SignalSeq(10),
        boottime: Millis(0),
    };
    rollout.heard(HostId(host), now);
    rollout.observed(HostId(host), &seen, now);
}

pub fn confirm(rollout: &mut Rollout, host: u64, n: u8, now: Timestamp) -> Timestamp {
    begin(rollout, host, n, now);
    says(rollout, host, n, PhaseObserved::Applied, now);
    let soaked = now + Millis::mins(15);
    says(rollout, host, n, PhaseObserved::Committed, soaked);
    assert!(
        matches!(stage(rollout, host), Stage::Ended(Ending::Confirmed, _)),
        "{:?}",
        stage(rollout, host)
    );
    rollout.plan(soaked);
    soaked
}

pub fn stage(rollout: &Rollout, host: u64) -> &Stage {
    &rollout.member(HostId(host)).unwrap().stage
}

pub fn state(rollout: &Rollout) -> RolloutState {
    rollout.status().state()
}

pub fn restarted(rollout: &mut Rollout, now: Timestamp) -> Rollout {
    let hosts: Vec<HostId> = rollout.members().iter().map(|m| m.host).collect();
    let changed = hosts
        .iter()
        .filter_map(|h| rollout.member_record(*h))
        .map(|r| r.member)
        .collect();
    Rollout::restore(rollout.record(), rollout.cohort_records(), changed, now)
}
