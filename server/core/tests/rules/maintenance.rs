//! Maintenance windows as one rollout sees them.

use crate::support::*;

fn outside(hosts: u64, waiting: &[u64]) -> Rollout {
    let mut rollout = install(hosts);
    for host in waiting {
        rollout.readiness(HostId(*host), Readiness::OutsideMaintenance, T0);
    }
    rollout.plan(T0);
    rollout
}

#[test]
fn a_ring_waits_a_day_for_windows_to_open_and_the_rarer_ones_follow_as_stragglers() {
    let mut rollout = outside(2, &[2]);
    let proven = confirm(&mut rollout, 1, 1, at(0));
    assert_eq!(state(&rollout), RolloutState::Running);
    rollout.tick(proven + Millis::hours(24));
    rollout.plan(proven + Millis::hours(24));
    assert_eq!(state(&rollout), RolloutState::Running);
    let later = T0 + Millis::hours(25) + Millis::secs(1);
    rollout.tick(later);
    rollout.plan(later);
    assert_eq!(state(&rollout), RolloutState::Completed);

    // Its window opens at last: it is exposed like every straggler.
    let opened = later + Millis::hours(72);
    rollout.readiness(HostId(2), Readiness::Ready, opened);
    rollout.plan(opened);
    confirm(&mut rollout, 2, 2, opened + Millis::secs(1));
}

#[test]
fn a_ring_of_which_every_window_is_closed_waits_and_does_not_hold() {
    let mut rollout = outside(3, &[1, 2, 3]);
    for hour in 1..24 {
        let now = T0 + Millis::hours(hour);
        rollout.tick(now);
        rollout.plan(now);
        assert_eq!(state(&rollout), RolloutState::Running, "after {hour} h");
        assert_eq!(rollout.in_flight(), 0);
    }
    let answer = rollout.request(
        HostId(1),
        &Ask {
            blocked: Some(WaitWhy::OutsideMaintenance),
            ..ask(1, 1)
        },
        T0 + Millis::hours(24),
    );
    assert_eq!(answer, GrantAnswer::Wait(WaitWhy::OutsideMaintenance));
}

#[test]
fn what_was_begun_soaks_on_after_its_window_closed() {
    let mut rollout = install(2);
    begin(&mut rollout, 1, 1, at(0));
    says(&mut rollout, 1, 1, PhaseObserved::Applied, at(1));
    rollout.readiness(HostId(1), Readiness::OutsideMaintenance, at(2));
    rollout.readiness(HostId(2), Readiness::OutsideMaintenance, at(2));
    let soaked = at(1) + Millis::mins(15);
    says(&mut rollout, 1, 1, PhaseObserved::Committed, soaked);
    assert!(matches!(
        stage(&rollout, 1),
        Stage::Ended(Ending::Confirmed, _)
    ));
}
