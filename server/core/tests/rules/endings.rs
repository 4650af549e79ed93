//! What counts against a release, how rings end, and rollbacks.

use crate::support::*;

fn crash(seq: u64, boot: u8, release: Option<ReleaseDigest>) -> Signal {
    Signal {
        seq: SignalSeq(seq),
        kind: SignalKind::KernelPanic,
        key: format!("k{seq}"),
        boot: BootId([boot; 16]),
        at_boottime: Millis::ZERO,
        release,
        title: String::new(),
        signature: String::new(),
        evidence: String::new(),
    }
}

#[test]
fn failures_within_the_attribution_time_count_after_confirmation_too() {
    let mut rollout = install(5);
    let mut now = confirm(&mut rollout, 1, 1, at(0));
    now = confirm(&mut rollout, 2, 2, now);
    let late = now + Millis::hours(20);
    for (host, when) in [(1, late), (2, late)] {
        let signal = crash(20, host as u8, None);
        rollout.signal(
            HostId(host),
            &SignalSeen {
                signal: &signal,
                boots: &[],
            },
            when,
        );
    }
    assert_eq!(rollout.evidence().total().failed, 2);
    assert_eq!(state(&rollout), RolloutState::Halted);
}

/// At 70 h a failure weighs half: two of two could still be chance, four of four cannot.
#[test]
fn hosts_that_die_on_the_third_day_still_halt() {
    let mut rollout = install(5);
    let mut now = at(0);
    for host in 1..=4 {
        now = confirm(&mut rollout, host, host as u8, now);
    }
    for host in 1..=4 {
        assert_ne!(state(&rollout), RolloutState::Halted, "{host}");
        let signal = crash(20, host as u8, None);
        let seen = SignalSeen {
            signal: &signal,
            boots: &[],
        };
        rollout.signal(HostId(host), &seen, now + Millis::hours(70));
    }
    assert_eq!(state(&rollout), RolloutState::Halted);
}

#[test]
fn what_happened_before_begin_or_after_the_attribution_time_does_not_count() {
    let mut rollout = install(5);
    let now = confirm(&mut rollout, 1, 1, at(0));
    let before = crash(9, 1, None);
    rollout.signal(
        HostId(1),
        &SignalSeen {
            signal: &before,
            boots: &[],
        },
        now,
    );
    let older_boot = crash(20, 7, None);
    let boots = [BootId([7; 16]), BootId([1; 16])];
    rollout.signal(
        HostId(1),
        &SignalSeen {
            signal: &older_boot,
            boots: &boots,
        },
        now,
    );
    let after = crash(21, 1, None);
    rollout.signal(
        HostId(1),
        &SignalSeen {
            signal: &after,
            boots: &boots,
        },
        at(1) + Millis::hours(72),
    );
    assert_eq!(rollout.evidence().total().failed, 0);
}

#[test]
fn a_proven_host_gone_without_a_word_counts_and_one_that_said_so_does_not() {
    let mut rollout = install(5);
    let mut now = confirm(&mut rollout, 1, 1, at(0));
    now = confirm(&mut rollout, 2, 2, now);
    rollout.readiness(HostId(1), Readiness::Unreachable, now);
    rollout.readiness(HostId(2), Readiness::Away(Absence::PowerOff), now);
    rollout.tick(now + Millis::hours(1));
    assert!(matches!(
        stage(&rollout, 1),
        Stage::Ended(Ending::Silent, _)
    ));
    assert!(matches!(
        stage(&rollout, 2),
        Stage::Ended(Ending::Confirmed, _)
    ));
}

#[test]
fn hosts_of_one_redundancy_group_are_never_exposed_together() {
    let mut rollout = rollout_of(
        AssignmentKind::Install,
        &[(1, 8), (2, 8), (3, 0), (4, 0)],
        Pace {
            start_share: 1.0,
            cap_share: 1.0,
            ..pace()
        },
    );
    begin(&mut rollout, 1, 1, at(0));
    assert_eq!(
        rollout.request(HostId(2), &ask(2, 2), at(0)),
        GrantAnswer::Wait(WaitWhy::RedundancyGroup)
    );
    begin(&mut rollout, 3, 3, at(0));
    rollout.tick(at(61));
    // Host 1 is dark now: the other one of its group must not follow.
    assert!(matches!(
        stage(&rollout, 1),
        Stage::Ended(Ending::Silent, _)
    ));
    let mut on = rollout.clone();
    on.resume();
    assert_eq!(
        on.request(HostId(2), &ask(2, 5), at(62)),
        GrantAnswer::Wait(WaitWhy::RedundancyGroup)
    );
}

#[test]
fn one_failure_in_a_ring_of_two_to_nineteen_may_complete_and_a_lone_host_halts() {
    let mut small = install(5);
    begin(&mut small, 1, 1, at(0));
    says(
        &mut small,
        1,
        1,
        PhaseObserved::Reverted(RevertWhy::CrashLoop),
        at(5),
    );
    let mut now = at(5);
    for host in 2..=5 {
        now = confirm(&mut small, host, host as u8, now);
    }
    small.plan(now);
    assert_eq!(state(&small), RolloutState::Completed);

    let mut lone = install(1);
    begin(&mut lone, 1, 1, at(0));
    says(
        &mut lone,
        1,
        1,
        PhaseObserved::Reverted(RevertWhy::CrashLoop),
        at(5),
    );
    lone.plan(at(5));
    assert_eq!(state(&lone), RolloutState::Halted);
}

#[test]
fn a_ring_that_nobody_can_join_holds_and_lifts_itself() {
    let mut rollout = install(3);
    for host in 1..=3 {
        rollout.readiness(HostId(host), Readiness::Unreachable, at(1));
    }
    rollout.plan(at(1));
    assert_eq!(state(&rollout), RolloutState::Held);
    rollout.readiness(HostId(2), Readiness::Ready, at(2));
    rollout.plan(at(2));
    assert_eq!(state(&rollout), RolloutState::Running);
    let now = confirm(&mut rollout, 2, 2, at(3));
    assert_eq!(state(&rollout), RolloutState::Completed);
    // Stragglers come under the same window.
    rollout.readiness(HostId(1), Readiness::Ready, now);
    rollout.readiness(HostId(3), Readiness::Ready, now);
    begin(&mut rollout, 1, 1, now);
    assert_eq!(
        rollout.request(HostId(3), &ask(3, 3), now),
        GrantAnswer::Wait(WaitWhy::WindowFull)
    );
}

#[test]
fn a_resumed_halt_starts_from_nothing_and_halts_again_on_new_evidence() {
    let mut rollout = install(100);
    for (host, s) in [(1, 0), (2, 1)] {
        begin(&mut rollout, host, host as u8, at(s));
    }
    rollout.tick(at(70));
    assert_eq!(state(&rollout), RolloutState::Halted);
    assert!(rollout.resume());
    rollout.plan(at(71));
    assert_eq!(
        (state(&rollout), rollout.window()),
        (RolloutState::Running, 2)
    );
    for host in [3, 4] {
        begin(&mut rollout, host, host as u8, at(72));
    }
    rollout.tick(at(140));
    assert_eq!(state(&rollout), RolloutState::Halted);
}

#[test]
fn rollbacks_go_on_under_pause_and_andon_and_installs_do_not() {
    for (kind, goes_on) in [
        (AssignmentKind::Rollback, true),
        (AssignmentKind::Install, false),
    ] {
        let mut rollout = rollout_of(kind, &[(1, 0), (2, 0)], pace());
        rollout.set_andon(true);
        let answer = rollout.request(HostId(1), &ask(1, 1), at(0));
        assert_eq!(matches!(answer, GrantAnswer::Grant(_)), goes_on, "{kind:?}");
    }
}

#[test]
fn hosts_that_failed_skip_the_window_of_a_rollback_under_their_hourly_cap() {
    let hosts: Vec<(u64, u64)> = (1..=40).map(|i| (i, 0)).collect();
    let mut rollout = rollout_of(
        AssignmentKind::Rollback,
        &hosts,
        Pace {
            rollback_cap: HourlyCap {
                least: 5,
                share: 0.0,
            },
            ..pace()
        },
    );
    for host in 1..=10 {
        rollout.failed_before(HostId(host), T0);
    }
    let granted = (1..=10).filter(|h| {
        matches!(
            rollout.request(HostId(*h), &ask(*h, *h as u8), at(0)),
            GrantAnswer::Grant(_)
        )
    });
    // Five ahead of the window, then two within it.
    assert_eq!(granted.count(), 7);
    assert_eq!(rollout.in_flight(), 2);
}

#[test]
fn added_reboots_of_the_first_ring_are_capped_by_the_hour() {
    let hosts: Vec<(u64, u64)> = (1..=10).map(|i| (i, 0)).collect();
    let capped = Pace {
        verify_boot: true,
        start_share: 1.0,
        cap_share: 1.0,
        ..Pace::default()
    };
    let mut rollout = rollout_of(AssignmentKind::Install, &hosts, capped);
    for host in [1, 2] {
        begin(&mut rollout, host, host as u8, at(0));
        says(
            &mut rollout,
            host,
            host as u8,
            PhaseObserved::Applied,
            at(1),
        );
        says(
            &mut rollout,
            host,
            host as u8,
            PhaseObserved::Committed,
            at(901),
        );
    }
    assert_eq!(
        rollout.request(HostId(3), &ask(3, 3), at(902)),
        GrantAnswer::Wait(WaitWhy::Capped)
    );
    assert!(matches!(
        rollout.request(HostId(3), &ask(3, 4), at(3601)),
        GrantAnswer::Grant(_)
    ));
}

#[test]
fn an_invited_host_that_does_not_ask_gives_its_place_to_the_next() {
    let mut rollout = install(10);
    let first = rollout.drain().invites;
    assert_eq!(first, [HostId(1)]);
    rollout.tick(at(21));
    rollout.plan(at(21));
    assert_eq!(rollout.drain().invites, [HostId(2)]);
    // It may still ask; the window is the law.
    begin(&mut rollout, 2, 2, at(22));
    assert_eq!(
        rollout.request(HostId(1), &ask(1, 1), at(22)),
        GrantAnswer::Wait(WaitWhy::WindowFull)
    );
}

#[test]
fn a_host_that_switched_without_a_recorded_begin_counts_as_exposed() {
    let mut rollout = install(10);
    says(&mut rollout, 5, 5, PhaseObserved::Applied, at(0));
    assert_eq!(
        (rollout.in_flight(), rollout.evidence().total().exposed),
        (1, 1)
    );
}
