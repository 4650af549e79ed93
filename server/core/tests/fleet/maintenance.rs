//! Maintenance windows over the whole control.

use crate::agent::Fate;
use crate::world::{DEMO, World};
use crate::{BAD, GOOD, complete};
use ringward_domain::command::Action;
use ringward_domain::report::{RolloutState, WaitWhy};
use ringward_domain::{HostId, Millis, ReleaseDigest};

const HOUR_MS: u64 = 3_600_000;

fn fine(_: HostId, _: &ReleaseDigest) -> Fate {
    Fate::Fine
}

/// One ring; hosts of the site berlin begin from one to two in the morning.
fn policy() -> String {
    let (pace, _) = DEMO.split_once("[[ring]]").unwrap();
    format!(
        "{pace}verify_boot = false\n[[ring]]\nname = \"all\"\n[[maintenance]]\nname = \"nights\"\n\
         selector = \"site=berlin\"\nfrom = \"01:00\"\nuntil = \"02:00\"\n"
    )
}

fn on(world: &World, release: ReleaseDigest) -> Vec<u64> {
    let running = world
        .agents
        .iter()
        .filter(|(_, a)| a.running.as_ref().map(|r| r.0) == Some(release));
    running.map(|(id, _)| id.0).collect()
}

/// Ten hosts, the first three in Berlin.
fn world() -> World {
    let mut world = World::new(10, &policy(), 1, fine);
    for id in 1..=3 {
        let labels = [("site".to_owned(), "berlin".to_owned())].into();
        world.act(Action::SetLabels(HostId(id), labels)).unwrap();
    }
    world
}

#[test]
fn hosts_begin_only_while_a_window_that_binds_them_is_open() {
    let mut world = world();
    let good = world.publish(GOOD);
    let rollout = world.start(good);
    let rest: Vec<u64> = (4..=10).collect();
    assert!(world.until(Millis::mins(5), |w| on(w, good) == rest));
    assert!(!world.until(Millis::mins(2), |w| on(w, good) != rest));
    let view = world.view(rollout);
    assert_eq!(view.state, RolloutState::Running);
    assert_eq!(view.rings[0].waits, [(WaitWhy::OutsideMaintenance, 3)]);
    let note = view.notes.iter().find(|n| n.contains("maintenance"));
    assert_eq!(
        note.unwrap(),
        "3 hosts wait for a maintenance window; nights (01:00-02:00 UTC) is the next to open, in 1 h 00 min"
    );

    world.control.wall_clock(HOUR_MS);
    assert!(world.until(Millis::mins(5), |w| {
        w.state(rollout) == RolloutState::Completed
    }));
    assert_eq!(on(&world, good).len(), 10);
    assert!(
        !world
            .view(rollout)
            .notes
            .iter()
            .any(|n| n.contains("window;"))
    );
}

#[test]
fn a_policy_without_the_window_lets_its_hosts_go_at_once() {
    let mut world = world();
    let good = world.publish(GOOD);
    let rollout = world.start(good);
    assert!(world.until(Millis::mins(5), |w| on(w, good).len() == 7));
    let (open, _) = policy()
        .split_once("[[maintenance]]")
        .map(|(open, rest)| (open.to_owned(), rest.to_owned()))
        .unwrap();
    world.act(Action::ApplyPolicy(open)).unwrap();
    assert!(world.until(Millis::mins(5), |w| {
        w.state(rollout) == RolloutState::Completed
    }));
    assert_eq!(on(&world, good).len(), 10);
}

#[test]
fn a_rollback_does_not_wait_for_a_window() {
    let mut world = world();
    world.control.wall_clock(HOUR_MS);
    let good = world.publish(GOOD);
    complete(&mut world, good);
    let next = world.publish(BAD);
    complete(&mut world, next);
    world.control.wall_clock(3 * HOUR_MS);
    world
        .act(Action::Rollback {
            leave: next,
            to: None,
        })
        .unwrap();
    assert!(world.until(Millis::mins(5), |w| on(w, good).len() == 10));
}

#[test]
fn a_label_set_later_binds_the_host_at_once() {
    let mut world = world();
    let good = world.publish(GOOD);
    let labels = [("site".to_owned(), "berlin".to_owned())].into();
    world.act(Action::SetLabels(HostId(10), labels)).unwrap();
    world.start(good);
    assert!(world.until(Millis::mins(5), |w| on(w, good).len() == 6));
    assert!(!world.until(Millis::mins(2), |w| on(w, good).len() != 6));
    // Bound by nothing any more.
    let none = std::collections::BTreeMap::new();
    world.act(Action::SetLabels(HostId(10), none)).unwrap();
    assert!(world.until(Millis::mins(5), |w| on(w, good).contains(&10)));
}
