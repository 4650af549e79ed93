//! What people are told of the end of a rollout.

use crate::support::*;

fn rings(sizes: &[u64]) -> Vec<PlannedRing> {
    let mut next = 1;
    let ring = |(i, size): (usize, &u64)| {
        let hosts = (next..next + size).map(|h| (HostId(h), 0)).collect();
        next += size;
        PlannedRing {
            name: format!("r{i}").parse().unwrap(),
            hosts,
        }
    };
    sizes.iter().enumerate().map(ring).collect()
}

fn rollout(sizes: &[u64], ready: u64) -> Rollout {
    let mut spec = spec(AssignmentKind::Install);
    spec.boots = true;
    let mut rollout = Rollout::new(RolloutId(1), spec, pace(), Salt(1), &rings(sizes), T0);
    for host in 1..=ready {
        rollout.readiness(HostId(host), Readiness::Ready, T0);
    }
    rollout.plan(T0);
    rollout
}

/// 10,000 hosts take 9.6 h in the simulator.
#[test]
fn a_forecast_is_what_the_simulator_sees_within_a_third() {
    let forecast = rollout(&[100, 900, 9000], 10_000).forecast().unwrap();
    let hours = forecast.remaining_ms.unwrap().as_secs_f64() / 3600.0;
    assert!((6.5..13.0).contains(&hours), "{hours}");
    assert!(forecast.limited_by.contains("confirmed"), "{forecast:?}");
    assert_eq!(forecast.not_counted, 0);
}

#[test]
fn hosts_that_cannot_be_exposed_are_not_promised() {
    let some = rollout(&[5, 20], 10).forecast().unwrap();
    assert_eq!(some.not_counted, 15);
    assert!(some.remaining_ms.is_some());
    // Where nobody can be exposed the rollout holds, and its hold says why.
    let nobody = rollout(&[5, 20], 0);
    assert_eq!(
        nobody.status().state(),
        ringward_domain::report::RolloutState::Held
    );
    assert_eq!(nobody.forecast(), None);
}

#[test]
fn what_exposes_nobody_has_no_forecast() {
    let mut paused = rollout(&[5], 5);
    assert!(paused.pause("lunch".into()));
    assert_eq!(paused.forecast(), None);
}
