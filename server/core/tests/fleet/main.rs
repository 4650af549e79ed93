//! Whole rollouts over the real control, with a small fleet around it.
#![allow(clippy::unwrap_used, missing_docs)]

mod agent;
mod commands;
mod incidents;
mod maintenance;
mod world;

use agent::Fate;
use proptest::prelude::*;
use ringward_domain::command::Action;
use ringward_domain::report::{RolloutState, Standing};
use ringward_domain::{HostId, Millis, ReleaseDigest};
use world::{DEMO, Trouble, World};

fn lethal(host: HostId, release: &ReleaseDigest) -> Fate {
    match (release.0[0] >= 100, host.0 % 2) {
        (false, _) => Fate::Fine,
        (true, 0) => Fate::Dark,
        (true, _) => Fate::Reverts,
    }
}

const GOOD: u8 = 1;
const BAD: u8 = 101;

fn complete(world: &mut World, release: ReleaseDigest) {
    let rollout = world.start(release);
    let done = world.until(Millis::mins(20), |w| {
        w.state(rollout) == RolloutState::Completed
    });
    assert!(done, "{:#?}", world.view(rollout));
}

#[test]
fn a_good_release_reaches_every_host_of_any_fleet() {
    for hosts in [1, 5, 12, 50, 203] {
        let mut world = World::new(hosts, DEMO, 1, lethal);
        let good = world.publish(GOOD);
        complete(&mut world, good);
        assert!(
            world
                .agents
                .values()
                .all(|a| a.committed.as_ref().map(|c| c.0) == Some(good)),
            "{hosts}"
        );
        assert_eq!(
            world.control.release(good).unwrap().standing,
            Standing::Good
        );
    }
}

#[test]
fn a_host_that_refuses_is_asked_once_a_session_and_counts_as_refused() {
    // Alone in its ring, and beside others; with a release before, and without.
    for (hosts, before) in [(1, false), (1, true), (12, true)] {
        let mut world = World::new(hosts, DEMO, 1, |_, release| match release.0[0] >= 100 {
            true => Fate::Refuses,
            false => Fate::Fine,
        });
        if before {
            let good = world.publish(GOOD);
            complete(&mut world, good);
        }
        let refused = world.publish(BAD);
        let rollout = world.start(refused);
        let rings = |w: &World| -> u64 { w.view(rollout).rings.iter().map(|r| r.refused).sum() };
        assert!(world.until(Millis::mins(1), |w| rings(w) > 0));
        world.until(Millis::mins(1), |_| false);
        let orders = |w: &World| w.agents.values().map(|a| a.accepted.1.0).max().unwrap();
        let (given, said) = (orders(&world), rings(&world));
        world.until(Millis::mins(2), |_| false);
        assert_eq!(orders(&world), given, "{hosts}: orders go on and on");
        assert_eq!(rings(&world), said);
        // Its next session asks again: another agent may think otherwise.
        world.disconnect(HostId(1));
        world.until(Millis::mins(1), |_| false);
        assert!(orders(&world) > given);
        assert_eq!(rings(&world), said);
    }
}

#[test]
fn a_lethal_release_halts_in_a_fleet_of_any_size_and_is_rolled_back() {
    for hosts in [1, 5, 12, 50, 203] {
        let mut world = World::new(hosts, DEMO, 1, lethal);
        let good = world.publish(GOOD);
        complete(&mut world, good);
        let bad = world.publish(BAD);
        let rollout = world.start(bad);
        let halted = world.until(Millis::mins(5), |w| {
            w.state(rollout) == RolloutState::Halted
        });
        let view = world.view(rollout);
        assert!(halted, "{view:#?}");
        let allowed = (hosts as f64 * 0.05).ceil().max(1.0) as u64 + 1;
        assert!(view.verdict.failed <= allowed, "{hosts}: {view:#?}");
        assert!(view.verdict.smallest_detectable_rate.is_some());

        let outcome = world
            .act(Action::Rollback {
                leave: bad,
                to: None,
            })
            .unwrap();
        let back = outcome.rollout.unwrap();
        let all_back = world.until(Millis::mins(5), |w| {
            w.agents
                .values()
                .all(|a| a.running.as_ref().map(|r| r.0) == Some(good))
        });
        assert!(all_back, "{hosts}: {:#?}", world.view(back));
        let done = world.until(Millis::mins(5), |w| {
            w.state(back) == RolloutState::Completed
        });
        assert!(done, "{hosts}: {:#?}", world.view(back));
        let resumed = world.act(Action::Resume(rollout));
        assert!(resumed.is_err(), "{resumed:?}");
        assert!(world.act(Action::StartRollout { release: bad }).is_err());
    }
}

#[test]
fn planning_twice_changes_nothing() {
    let mut world = World::new(12, DEMO, 1, lethal);
    let good = world.publish(GOOD);
    let rollout = world.start(good);
    for _ in 0..200 {
        world.step();
        let mut alone = world.control.rollout(rollout).unwrap().clone();
        alone.plan(world.now);
        let _ = alone.drain();
        alone.plan(world.now);
        assert!(!alone.changed());
    }
}

fn trouble() -> impl Strategy<Value = Trouble> {
    (0u64..200, 0u64..200, 0u64..30, 0u64..10, 0u64..10).prop_map(
        |(doubled, delayed, session_lost, agent_restart, server_restart)| Trouble {
            doubled,
            delayed,
            session_lost,
            agent_restart,
            server_restart,
            ..Trouble::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// First safety (checked at every effect), then the network heals and progress is demanded.
    #[test]
    fn whatever_the_network_does_nothing_unsafe_happens_and_healed_runs_end(seed in any::<u64>(), hosts in 1u64..30, trouble in trouble(), bad in any::<bool>()) {
        let mut world = World::new(hosts, DEMO, seed, lethal);
        let release = world.publish(if bad { BAD } else { GOOD });
        world.trouble = trouble;
        let rollout = world.start(release);
        for _ in 0..800 {
            world.step();
        }
        world.trouble = Trouble::default();
        for _ in 0..3 {
            let ends = world.until(Millis::mins(90), |w| {
                let r = w.control.rollout(rollout).unwrap();
                r.rests() && r.members().iter().all(|m| !matches!(m.stage, ringward_server_core::rollout::member::Stage::Exposed(_)))
            });
            let stuck: Vec<_> = world.control.rollout(rollout).unwrap().members().iter().filter(|m| m.lane().is_some() || m.grantable()).map(|m| (m.clone(), world.agents[&m.host].clone())).collect();
            prop_assert!(ends, "{:#?} {:?} {:#?}", stuck, world.now, world.view(rollout));
            if world.state(rollout) != RolloutState::Halted || bad {
                break;
            }
            // Sessions lost for too long are silence; a person looks and goes on.
            world.act(Action::Resume(rollout)).unwrap();
        }
    }

    /// Persons who meddle, hosts that sleep and a network that fails: whatever happened, a rollback
    /// brings every host back in the end.
    #[test]
    fn a_rollback_brings_every_host_back_whatever_happened_before(seed in any::<u64>(), hosts in 1u64..20, trouble in trouble(), sleep in 0u64..10, admin in 0u64..40, bad in any::<bool>()) {
        let mut world = World::new(hosts, DEMO, seed, lethal);
        let good = world.publish(GOOD);
        complete(&mut world, good);
        let next = world.publish(if bad { BAD } else { GOOD + 1 });
        world.start(next);
        world.trouble = Trouble { sleep, admin, ..trouble };
        for _ in 0..600 {
            world.step();
        }
        world.trouble = Trouble::default();
        let _ = world.act(Action::ResumeAll);
        let _ = world.act(Action::Unfreeze(HostId(1)));
        let on_good = |w: &World| w.agents.values().all(|a| a.running.as_ref().map(|r| r.0) == Some(good));
        for _ in 0..8 {
            let _ = world.act(Action::Rollback { leave: next, to: None });
            if world.until(Millis::mins(90), on_good) {
                break;
            }
            // A halted rollback waits for a person, who looks and goes on.
            if let Some((id, RolloutState::Halted | RolloutState::Paused)) = world.control.rollouts().last().copied() {
                let _ = world.act(Action::Resume(id));
            }
        }
        let newest = world.control.rollouts().last().unwrap().0;
        prop_assert!(on_good(&world), "{:#?} {:#?}", world.view(newest), world.agents.values().filter(|a| a.running.as_ref().map(|r| r.0) != Some(good)).collect::<Vec<_>>());
    }
}
