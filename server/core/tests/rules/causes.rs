//! What failed hosts told of their failures: kept, counted and named, also after the halt.

use crate::support::*;
use ringward_domain::cause::CAUSES_MAX;
use ringward_domain::report::RolloutView;

fn told(kind: SignalKind, seq: u64, title: &str, signature: &str, evidence: &str) -> Signal {
    Signal {
        seq: SignalSeq(seq),
        kind,
        key: format!("k{seq}"),
        boot: BootId([200; 16]),
        at_boottime: Millis::ZERO,
        release: Some(RELEASE),
        title: title.to_owned(),
        signature: signature.to_owned(),
        evidence: evidence.to_owned(),
    }
}

fn bugcheck(seq: u64, offset: &str) -> Signal {
    told(
        SignalKind::Bugcheck,
        seq,
        &format!("bugcheck 0x50 in acme.sys+{offset}"),
        "bugcheck:0x50:acme.sys",
        r#"{"module":"acme.sys","code":"0x50"}"#,
    )
}

fn unclean(seq: u64) -> Signal {
    told(SignalKind::UncleanBoot, seq, "an unclean stop", "", "{}")
}

fn hears(rollout: &mut Rollout, host: u64, signal: &Signal, now: Timestamp) {
    let boots = [BootId([host as u8; 16])];
    let seen = SignalSeen {
        signal,
        boots: &boots,
    };
    rollout.signal(HostId(host), &seen, now);
}

fn view(rollout: &Rollout, now: Timestamp) -> RolloutView {
    rollout.view(&|host| host.to_string(), now)
}

/// Two hosts that take it and go back for bad boots: it halts before anybody knows why.
fn halted() -> Rollout {
    let mut rollout = install(40);
    begin(&mut rollout, 1, 1, T0);
    begin(&mut rollout, 2, 2, T0);
    for host in [1, 2] {
        let phase = PhaseObserved::Reverted(RevertWhy::BadBoots);
        says(&mut rollout, host, host as u8, phase, at(60));
    }
    assert_eq!(state(&rollout), RolloutState::Halted);
    rollout
}

#[test]
fn a_crash_told_after_the_halt_is_named_in_its_reason() {
    let mut rollout = halted();
    let before = view(&rollout, at(61));
    assert!(before.causes.is_empty() && !before.state_reason.contains("hosts failed:"));
    hears(&mut rollout, 1, &bugcheck(11, "0x10"), at(90));
    hears(&mut rollout, 2, &bugcheck(11, "0x20"), at(91));
    for rollout in [rollout.clone(), restarted(&mut rollout, at(100))] {
        let view = view(&rollout, at(100));
        let [most] = view.causes.as_slice() else {
            panic!("{:?}", view.causes);
        };
        assert_eq!((most.hosts, most.cause.kind), (2, SignalKind::Bugcheck));
        assert_eq!(most.cause.module.as_deref(), Some("acme.sys"));
        let reason = &view.state_reason;
        assert!(reason.starts_with(&before.state_reason), "{reason}");
        assert!(
            reason.contains("2 hosts failed: bugcheck 0x50 in acme.sys+"),
            "{reason}"
        );
        assert!(reason.ends_with("(2 of 2 hosts)"), "{reason}");
        for host in &view.failed_hosts {
            let cause = host.cause.as_ref().unwrap();
            assert_eq!(cause.signature, "bugcheck:0x50:acme.sys");
        }
    }
}

#[test]
fn a_kernel_panic_is_named_with_module_and_function() {
    let mut rollout = halted();
    let panic = told(
        SignalKind::KernelPanic,
        11,
        "kernel panic in bad_init [badmod]",
        "kernel-panic:badmod:bad_init",
        r#"{"module":"badmod","function":"bad_init"}"#,
    );
    hears(&mut rollout, 1, &panic, at(90));
    let view = view(&rollout, at(100));
    let cause = &view.causes[0].cause;
    assert_eq!(cause.module.as_deref(), Some("badmod"));
    assert_eq!(cause.function.as_deref(), Some("bad_init"));
    let named = "2 hosts failed: kernel panic in bad_init [badmod] (1 of 2 hosts)";
    assert!(view.state_reason.ends_with(named), "{}", view.state_reason);
}

#[test]
fn what_explains_less_never_hides_what_explains_more() {
    let mut rollout = halted();
    hears(&mut rollout, 1, &unclean(11), at(80));
    let shown = |rollout: &Rollout| {
        let members = view(rollout, at(100)).failed_hosts;
        let first = members.into_iter().find(|m| m.host == HostId(1));
        first.unwrap().cause.unwrap().title
    };
    assert_eq!(shown(&rollout), "an unclean stop");
    hears(&mut rollout, 1, &bugcheck(12, "0x10"), at(90));
    let nobody = told(
        SignalKind::Bugcheck,
        13,
        "bugcheck 0x50",
        "bugcheck:0x50:nobody",
        "{}",
    );
    for later in [unclean(14), nobody] {
        hears(&mut rollout, 1, &later, at(95));
        assert_eq!(shown(&rollout), "bugcheck 0x50 in acme.sys+0x10");
    }
    // Of equals the newest.
    hears(&mut rollout, 1, &bugcheck(15, "0x30"), at(96));
    assert_eq!(shown(&rollout), "bugcheck 0x50 in acme.sys+0x30");
}

#[test]
fn many_causes_are_shown_by_their_counts_and_few_of_them() {
    let mut rollout = install(400);
    for host in 1..=40 {
        begin_alone(&mut rollout, host);
        let kind = match host % 8 {
            0..=3 => "a",
            4 | 5 => "b",
            6 => "c",
            _ => "d",
        };
        let signal = told(SignalKind::CrashLoop, 11, kind, kind, "no json");
        hears(&mut rollout, host, &signal, at(host));
        // Only the evidence is of interest here.
        rollout.resume();
    }
    let causes = view(&rollout, at(100)).causes;
    let counts: Vec<(&str, u64)> = causes
        .iter()
        .map(|told| (told.cause.title.as_str(), told.hosts))
        .collect();
    assert_eq!(counts[..2], [("a", 20), ("b", 10)]);
    assert_eq!(counts.len(), CAUSES_MAX);
}

fn begin_alone(rollout: &mut Rollout, host: u64) {
    rollout.plan(at(host));
    begin(rollout, host, host as u8, at(host));
}

#[test]
fn signals_that_are_no_failure_or_older_than_begin_are_no_cause() {
    let mut rollout = halted();
    let change = told(SignalKind::Change, 11, "a file was changed", "file", "{}");
    let mut older = bugcheck(3, "0x10");
    older.release = None;
    for signal in [change, older] {
        hears(&mut rollout, 1, &signal, at(90));
    }
    assert!(view(&rollout, at(100)).causes.is_empty());
}
