//! Each planted bug breaks what it says it breaks, and without it the same check passes.
#![cfg(feature = "planted-bugs")]
#![allow(clippy::unwrap_used, missing_docs)]

use ringward_domain::command::{Action, Command};
use ringward_domain::host::{Arch, Facts, GuardTier, Labels, Os};
use ringward_domain::ids::{
    AgentStart, BootId, Epoch, Generation, RequestId, RolloutId, Sha256, SignalSeq,
};
use ringward_domain::ledger::FailWhy;
use ringward_domain::manifest::{BootNeed, Envelope, Installer, Manifest, RevertClass};
use ringward_domain::observed::{AttemptObserved, Observed, PhaseObserved};
use ringward_domain::report::{RolloutState, Standing};
use ringward_domain::session::Hello;
use ringward_domain::signal::{Signal, SignalKind};
use ringward_domain::{AssignmentKind, HostId, Millis, Nonce, ReleaseDigest, Timestamp};
use ringward_server_core::control::{Control, Enrolment};
use ringward_server_core::event::{Effect, Event};
use ringward_server_core::planted::{Bug, plant};
use ringward_server_core::policy::{Pace, Policy};
use ringward_server_core::release::ReleaseRecord;
use ringward_server_core::rollout::member::Readiness;
use ringward_server_core::rollout::{
    Ask, AttemptSeen, BeginAnswer, PlannedRing, Rollout, SignalSeen, Spec,
};
use ringward_server_core::salt::Salt;

const T0: Timestamp = Timestamp(1_000_000);
const RELEASE: ReleaseDigest = ReleaseDigest([9; 32]);

fn rollout() -> Rollout {
    let hosts: Vec<(HostId, u64)> = (1..=100).map(|i| (HostId(i), 0)).collect();
    let ring = PlannedRing {
        name: "all".parse().unwrap(),
        hosts: hosts.clone(),
    };
    let spec = Spec {
        kind: AssignmentKind::Install,
        package: "app".parse().unwrap(),
        release: RELEASE,
        version: "2".parse().unwrap(),
        boots: false,
        leaves: None,
        expires_unix_s: None,
        number: 1,
        started_by: String::new(),
        reason: String::new(),
        started_unix_ms: 0,
    };
    let pace = Pace {
        verify_boot: false,
        ..Pace::default()
    };
    let mut rollout = Rollout::new(RolloutId(1), spec, pace, Salt(1), &[ring], T0);
    for (host, _) in hosts {
        rollout.readiness(host, Readiness::Ready, T0);
    }
    rollout.plan(T0);
    rollout
}

fn ask(host: u64) -> Ask {
    Ask {
        nonce: Nonce([host as u8; 16]),
        boot: BootId([1; 16]),
        agent_start: AgentStart([1; 16]),
        blocked: None,
        next_signal: SignalSeq(1),
        boottime: Millis(0),
    }
}

fn begin(rollout: &mut Rollout, host: u64) -> BeginAnswer {
    rollout.request(HostId(host), &ask(host), T0);
    rollout.begin(HostId(host), &ask(host), None, T0)
}

fn two_silent() -> Rollout {
    let mut rollout = rollout();
    begin(&mut rollout, 1);
    begin(&mut rollout, 2);
    rollout.tick(T0 + Millis::mins(2));
    rollout
}

/// Upper bound of 2 in 12 is 0.44, so that three lost hosts are expected of seven in flight.
fn after_ten_good_and_two_bad() -> Rollout {
    let mut rollout = rollout();
    for host in 1..=12 {
        let phase = match host {
            1..=10 => PhaseObserved::Committed,
            _ => PhaseObserved::Failed(FailWhy::Disk),
        };
        begin(&mut rollout, host);
        let attempt = AttemptObserved {
            nonce: ask(host).nonce,
            rollout: RolloutId(1),
            package: "app".parse().unwrap(),
            release: RELEASE,
            phase,
        };
        let seen = AttemptSeen {
            attempt: Some(&attempt),
            running: Some(RELEASE),
            boot: BootId([1; 16]),
            agent_start: AgentStart([1; 16]),
            hello: false,
            next_signal: SignalSeq(1),
            boottime: Millis(0),
        };
        rollout.observed(HostId(host), &seen, T0);
        rollout.heard(HostId(host), T0 + Pace::default().soak);
        rollout.tick(T0 + Pace::default().soak);
    }
    rollout
}

fn bars_survive() -> bool {
    let mut control = Control::new(Policy::default(), T0);
    let manifest = Manifest {
        format: 1,
        package: "app".parse().unwrap(),
        version: "2".parse().unwrap(),
        security_floor: None,
        expires_unix_s: None,
        artefacts: Vec::new(),
        installer: Installer::Bundle,
        revert_class: RevertClass::Atomic,
        boot: BootNeed::None,
        probes: Vec::new(),
    };
    let envelope = Envelope {
        payload: Vec::new(),
        signatures: Vec::new(),
    };
    let (standing, published_by) = (Standing::Unproven, String::new());
    let release = ReleaseRecord {
        release: RELEASE,
        manifest,
        envelope,
        standing,
        published_unix_ms: 0,
        published_by,
    };
    let mut effects = control.publish(release, T0).unwrap();
    let command = Command {
        request: RequestId([1; 16]),
        actor: "ann".into(),
        reason: String::new(),
        dry_run: false,
        action: Action::MarkBad(RELEASE),
    };
    effects.extend(control.command(&command, T0).unwrap().1);
    let puts = effects.into_iter().filter_map(|effect| match effect {
        Effect::Put(record) => Some((record.key(), *record)),
        _ => None,
    });
    let records: std::collections::BTreeMap<_, _> = puts.collect();
    let control = Control::restore(Policy::default(), records.into_values().collect(), T0).unwrap();
    control.release(RELEASE).unwrap().barred()
}

fn written_before_sent() -> bool {
    let mut control = Control::new(Policy::default(), T0);
    let facts = Facts {
        hostname: "one".into(),
        os: Os::Linux,
        os_build: String::new(),
        arch: Arch::X86_64,
        kernel: String::new(),
        model: String::new(),
        fingerprint: String::new(),
        memory_mib: 1,
        cpus: 1,
        guard_tier: GuardTier::None,
    };
    let (host, labels, key) = (HostId(1), Labels::new(), Sha256([0; 32]));
    let enrolment = Enrolment {
        host,
        facts: facts.clone(),
        labels,
        key,
        pending: false,
        ephemeral: None,
    };
    control.enrol(enrolment, T0);
    let hello = Hello {
        protocol_min: 1,
        protocol_max: 1,
        capabilities: Vec::new(),
        agent_version: "1".into(),
        boot: BootId([1; 16]),
        agent_start: AgentStart([1; 16]),
        boottime: Millis(0),
        last_stop_clean: None,
        accepted: (Epoch(0), Generation(0)),
        next_signal: SignalSeq(1),
        facts,
        observed: Observed::default(),
    };
    let effects = control.handle(
        Event::Connected {
            host,
            hello: Box::new(hello),
        },
        T0,
    );
    let place = |wanted: fn(&Effect) -> bool| effects.iter().position(wanted).unwrap();
    place(|effect| matches!(effect, Effect::Put(_)))
        < place(|effect| matches!(effect, Effect::Send(..)))
}

fn holds(bug: Bug) -> bool {
    match bug {
        Bug::AcknowledgeBeforeDurable => written_before_sent(),
        Bug::WindowFromConfirmedOnly => after_ten_good_and_two_bad().window() < 10,
        Bug::SilenceNotCounted => two_silent().evidence().total().failed == 2,
        Bug::HaltOnlyInPlanner => two_silent().status().state() == RolloutState::Halted,
        Bug::BarForgottenAfterRestart => bars_survive(),
        Bug::DoubleBegun => {
            let mut rollout = rollout();
            rollout.request(HostId(1), &ask(1), T0);
            let late = T0 + Millis::mins(2);
            rollout.tick(late);
            rollout.begin(HostId(1), &ask(1), None, late) != BeginAnswer::Begun
        }
        Bug::EvidenceDroppedAfterResolution => {
            let mut rollout = two_silent();
            let signal = Signal {
                seq: SignalSeq(5),
                kind: SignalKind::Bugcheck,
                key: String::new(),
                boot: BootId([1; 16]),
                at_boottime: Millis::ZERO,
                release: Some(RELEASE),
                title: String::new(),
                signature: "0x50 csagent.sys".into(),
                evidence: String::new(),
            };
            rollout.signal(
                HostId(1),
                &SignalSeen {
                    signal: &signal,
                    boots: &[],
                },
                T0 + Millis::mins(3),
            );
            rollout.evidence().top_signature().is_some()
        }
    }
}

#[test]
fn every_planted_bug_breaks_its_rule_and_nothing_else_does() {
    for bug in Bug::ALL {
        plant(None);
        assert!(holds(bug), "{bug:?} without it");
        plant(Some(bug));
        assert!(!holds(bug), "{bug:?} is not noticed");
        plant(None);
    }
}
