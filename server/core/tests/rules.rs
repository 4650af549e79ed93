//! The rules of one rollout, each on the machine alone (DESIGN §2, §4).
#![allow(clippy::unwrap_used, missing_docs)]

use ringward_domain::absence::Absence;
use ringward_domain::ids::{AgentStart, BootId, RolloutId, SignalSeq};
use ringward_domain::ledger::{NotSwitchedWhy, RevertWhy};
use ringward_domain::observed::{AttemptObserved, PhaseObserved};
use ringward_domain::report::{RolloutState, WaitWhy};
use ringward_domain::session::BeginRefusal;
use ringward_domain::signal::{Signal, SignalKind};
use ringward_domain::{AssignmentKind, HostId, Millis, Nonce, ReleaseDigest, Timestamp};
use ringward_server_core::policy::{HourlyCap, Pace};
use ringward_server_core::rollout::member::{Ending, Readiness, Stage};
use ringward_server_core::rollout::{
    Ask, AttemptSeen, BeginAnswer, GrantAnswer, PlannedRing, Rollout, SignalSeen, Spec,
};
use ringward_server_core::salt::Salt;

const T0: Timestamp = Timestamp(1_000_000);
const RELEASE: ReleaseDigest = ReleaseDigest([9; 32]);

fn at(s: u64) -> Timestamp {
    T0 + Millis::secs(s)
}

fn spec(kind: AssignmentKind) -> Spec {
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
fn rollout_of(kind: AssignmentKind, hosts: &[(u64, u64)], pace: Pace) -> Rollout {
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

fn pace() -> Pace {
    Pace {
        verify_boot: false,
        ..Pace::default()
    }
}

fn install(hosts: u64) -> Rollout {
    let hosts: Vec<(u64, u64)> = (1..=hosts).map(|i| (i, 0)).collect();
    rollout_of(AssignmentKind::Install, &hosts, pace())
}

fn ask(host: u64, n: u8) -> Ask {
    Ask {
        nonce: Nonce([n; 16]),
        boot: BootId([host as u8; 16]),
        agent_start: AgentStart([host as u8; 16]),
        blocked: None,
        next_signal: SignalSeq(10),
        boottime: Millis(0),
    }
}

fn begin(rollout: &mut Rollout, host: u64, n: u8, now: Timestamp) {
    assert!(matches!(
        rollout.request(HostId(host), &ask(host, n), now),
        GrantAnswer::Grant(_)
    ));
    assert_eq!(
        rollout.begin(HostId(host), &ask(host, n), None, now),
        BeginAnswer::Begun
    );
}

fn says(rollout: &mut Rollout, host: u64, n: u8, phase: PhaseObserved, now: Timestamp) {
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

fn confirm(rollout: &mut Rollout, host: u64, n: u8, now: Timestamp) -> Timestamp {
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

fn stage(rollout: &Rollout, host: u64) -> &Stage {
    &rollout.member(HostId(host)).unwrap().stage
}

fn state(rollout: &Rollout) -> RolloutState {
    rollout.status().state()
}

fn restarted(rollout: &mut Rollout, now: Timestamp) -> Rollout {
    let hosts: Vec<HostId> = rollout.members().iter().map(|m| m.host).collect();
    let changed = hosts
        .iter()
        .filter_map(|h| rollout.member_record(*h))
        .map(|r| r.member)
        .collect();
    Rollout::restore(rollout.record(), rollout.cohort_records(), changed, now)
}

#[test]
fn silence_after_begin_is_failure_and_counted_from_the_last_word() {
    let mut rollout = install(100);
    begin(&mut rollout, 1, 1, at(0));
    rollout.heard(HostId(1), at(50));
    rollout.tick(at(109));
    assert!(matches!(stage(&rollout, 1), Stage::Exposed(_)));
    rollout.tick(at(110));
    assert!(matches!(
        stage(&rollout, 1),
        Stage::Ended(Ending::Silent, _)
    ));
    assert_eq!(rollout.evidence().total().failed, 1);
    rollout.heard(HostId(1), at(500));
    assert!(rollout.member(HostId(1)).unwrap().late);
    assert_eq!(rollout.evidence().total().failed, 1);
}

#[test]
fn two_silent_hosts_halt_on_the_event_without_any_planning() {
    let mut rollout = install(100);
    begin(&mut rollout, 1, 1, at(0));
    begin(&mut rollout, 2, 2, at(1));
    rollout.tick(at(70));
    assert_eq!(state(&rollout), RolloutState::Halted);
    assert_eq!(
        rollout.request(HostId(3), &ask(3, 3), at(70)),
        GrantAnswer::Wait(WaitWhy::NotRunning(RolloutState::Halted))
    );
}

#[test]
fn announced_absence_is_no_silence_frees_its_slot_late_and_soaks_on() {
    let mut rollout = install(5);
    begin(&mut rollout, 1, 1, at(0));
    says(&mut rollout, 1, 1, PhaseObserved::Applied, at(0));
    rollout.absent(HostId(1), Absence::Suspend, at(60));
    rollout.tick(at(60 + 1799));
    assert_eq!(rollout.in_flight(), 1);
    rollout.tick(at(60 + 1800));
    assert_eq!(
        (rollout.in_flight(), rollout.evidence().total().failed),
        (0, 0)
    );
    rollout.back(HostId(1), at(10_000));
    // 14 min are missing from the soak, however long the host slept.
    says(&mut rollout, 1, 1, PhaseObserved::Committed, at(10_000));
    assert!(matches!(stage(&rollout, 1), Stage::Exposed(_)));
    for s in (10_000..10_840).step_by(30) {
        rollout.heard(HostId(1), at(s));
        rollout.tick(at(s));
    }
    assert!(matches!(stage(&rollout, 1), Stage::Exposed(_)));
    rollout.tick(at(10_840));
    assert!(matches!(
        stage(&rollout, 1),
        Stage::Ended(Ending::Confirmed, _)
    ));
}

#[test]
fn after_a_restart_silence_runs_in_full_once_agents_had_time() {
    let mut rollout = install(100);
    begin(&mut rollout, 1, 1, at(0));
    let mut rollout = restarted(&mut rollout, at(55));
    rollout.tick(at(55 + 120 + 59));
    assert!(matches!(stage(&rollout, 1), Stage::Exposed(_)));
    rollout.tick(at(55 + 120 + 60));
    assert!(matches!(
        stage(&rollout, 1),
        Stage::Ended(Ending::Silent, _)
    ));
}

#[test]
fn an_open_grant_counts_as_just_received_after_a_restart_and_expires_deferred() {
    let mut rollout = install(100);
    assert!(matches!(
        rollout.request(HostId(1), &ask(1, 1), at(0)),
        GrantAnswer::Grant(_)
    ));
    let mut rollout = restarted(&mut rollout, at(59));
    rollout.tick(at(118));
    assert_eq!(rollout.in_flight(), 1);
    rollout.tick(at(120));
    assert_eq!(rollout.in_flight(), 0);
    assert_eq!(
        stage(&rollout, 1),
        &Stage::Deferred(NotSwitchedWhy::NoBegun)
    );
    assert_eq!(
        rollout.begin(HostId(1), &ask(1, 1), None, at(121)),
        BeginAnswer::Refused(BeginRefusal::NoGrant)
    );
}

#[test]
fn nobody_is_granted_at_a_full_window() {
    let mut rollout = install(100);
    assert_eq!(rollout.window(), 2);
    begin(&mut rollout, 1, 1, at(0));
    begin(&mut rollout, 2, 2, at(0));
    assert_eq!(
        rollout.request(HostId(3), &ask(3, 3), at(0)),
        GrantAnswer::Wait(WaitWhy::WindowFull)
    );
    let mut rollout = restarted(&mut rollout, at(1));
    rollout.readiness(HostId(3), Readiness::Ready, at(1));
    assert_ne!(
        rollout.request(HostId(3), &ask(3, 4), at(1)),
        GrantAnswer::Grant(pace().grant_life)
    );
}

#[test]
fn begin_is_idempotent_bound_to_its_process_and_refused_for_ever_once_refused() {
    let mut rollout = install(100);
    begin(&mut rollout, 1, 1, at(0));
    assert_eq!(
        rollout.begin(HostId(1), &ask(1, 1), None, at(5)),
        BeginAnswer::Begun
    );
    assert_eq!(rollout.evidence().total().exposed, 1);
    let other_process = Ask {
        agent_start: AgentStart([77; 16]),
        ..ask(1, 1)
    };
    assert_eq!(
        rollout.begin(HostId(1), &other_process, None, at(5)),
        BeginAnswer::Refused(BeginRefusal::OtherBoot)
    );

    assert!(matches!(
        rollout.request(HostId(2), &ask(2, 2), at(0)),
        GrantAnswer::Grant(_)
    ));
    assert!(rollout.pause("lunch".into()));
    assert_eq!(
        rollout.begin(HostId(2), &ask(2, 2), None, at(1)),
        BeginAnswer::Refused(BeginRefusal::NotRunning)
    );
    assert!(rollout.resume());
    assert_eq!(
        rollout.begin(HostId(2), &ask(2, 2), None, at(2)),
        BeginAnswer::Refused(BeginRefusal::NoGrant)
    );
    assert_eq!(
        rollout.request(HostId(2), &ask(2, 2), at(2)),
        GrantAnswer::Wait(WaitWhy::NotItsTurn)
    );
}

#[test]
fn a_newer_request_takes_the_place_of_the_older_and_kills_its_nonce() {
    let mut rollout = install(100);
    assert!(matches!(
        rollout.request(HostId(1), &ask(1, 1), at(0)),
        GrantAnswer::Grant(_)
    ));
    assert!(matches!(
        rollout.request(HostId(1), &ask(1, 2), at(1)),
        GrantAnswer::Grant(_)
    ));
    assert_eq!(rollout.in_flight(), 1);
    assert_eq!(
        rollout.begin(HostId(1), &ask(1, 1), None, at(2)),
        BeginAnswer::Refused(BeginRefusal::Superseded)
    );
    assert_eq!(
        rollout.begin(HostId(1), &ask(1, 2), None, at(2)),
        BeginAnswer::Begun
    );
}

#[test]
fn a_burned_nonce_reported_before_its_begin_resolves_without_credit_or_failure() {
    let mut rollout = install(100);
    begin(&mut rollout, 1, 1, at(0));
    says(
        &mut rollout,
        1,
        1,
        PhaseObserved::NotSwitched(NotSwitchedWhy::NoBegun),
        at(11),
    );
    let total = rollout.evidence().total();
    assert_eq!(
        (rollout.in_flight(), total.uncounted, total.failed),
        (0, 1, 0)
    );
    assert_eq!(
        rollout.begin(HostId(1), &ask(1, 1), None, at(12)),
        BeginAnswer::Refused(BeginRefusal::NoGrant)
    );
}

#[test]
fn a_host_that_hurries_is_confirmed_only_after_the_soak_by_the_servers_clock() {
    let mut rollout = install(100);
    begin(&mut rollout, 1, 1, at(0));
    says(&mut rollout, 1, 1, PhaseObserved::Committed, at(1));
    assert!(matches!(stage(&rollout, 1), Stage::Exposed(_)));
    for s in (1..901).step_by(30) {
        rollout.heard(HostId(1), at(s));
        rollout.tick(at(s));
        assert!(matches!(stage(&rollout, 1), Stage::Exposed(_)));
    }
    rollout.tick(at(901));
    assert!(matches!(
        stage(&rollout, 1),
        Stage::Ended(Ending::Confirmed, _)
    ));
}

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
    let late = now + Millis::hours(70);
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
