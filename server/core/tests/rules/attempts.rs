//! Attempts, silence, absence and restarts.

use crate::support::*;

/// A late, doubled word of an older time says that the host runs the release; the next says that it
/// does not.
#[test]
fn a_host_that_only_seemed_to_be_there_already_gets_its_turn() {
    let mut rollout = install(3);
    rollout.readiness(HostId(1), Readiness::Runs, at(1));
    assert_eq!(stage(&rollout, 1), &Stage::AlreadyThere);
    rollout.readiness(HostId(1), Readiness::Unreachable, at(2));
    assert_eq!(stage(&rollout, 1), &Stage::AlreadyThere);
    rollout.readiness(HostId(1), Readiness::Preparing, at(3));
    assert_eq!(stage(&rollout, 1), &Stage::Waiting);
    rollout.readiness(HostId(1), Readiness::Ready, at(4));
    rollout.plan(at(4));
    begin(&mut rollout, 1, 1, at(5));
}

#[test]
fn a_kind_that_is_slow_to_return_is_silent_later_and_no_kind_earlier() {
    let mut slow = spec(AssignmentKind::Install);
    slow.boots = true;
    let ring = PlannedRing {
        name: "all".parse().unwrap(),
        hosts: (1..=40).map(|i| (HostId(i), 0)).collect(),
    };
    let mut rollout = Rollout::new(RolloutId(1), slow, pace(), Salt(1), &[ring], T0);
    for host in 1..=40 {
        rollout.readiness(HostId(host), Readiness::Ready, T0);
    }
    rollout.plan(T0);
    for (host, patience) in [(1, 40), (2, 4)] {
        begin(&mut rollout, host, host as u8, at(0));
        rollout.slow_to_return(HostId(host), Millis::mins(patience), at(0));
    }
    rollout.tick(at(11 * 60));
    assert!(matches!(stage(&rollout, 1), Stage::Exposed(_)));
    assert!(matches!(
        stage(&rollout, 2),
        Stage::Ended(Ending::Silent, _)
    ));
    rollout.tick(at(41 * 60));
    assert!(matches!(
        stage(&rollout, 1),
        Stage::Ended(Ending::Silent, _)
    ));
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
