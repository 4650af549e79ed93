//! Commands, bars, holds and sessions over the whole control.

use crate::agent::{Agent, Fate};
use crate::world::{DEMO, World};
use crate::{BAD, GOOD, complete, lethal};
use ringward_domain::command::{Action, Refusal};
use ringward_domain::ids::{BootId, SignalSeq};
use ringward_domain::report::{MemberState, RolloutState, Standing, WaitWhy};
use ringward_domain::session::{ToAgent, ToServer};
use ringward_domain::signal::{Signal, SignalKind};
use ringward_domain::{HostId, Millis, ReleaseDigest};
use ringward_server_core::event::{Effect, Event};
use ringward_server_core::selector::Selector;

fn fine(_: HostId, _: &ReleaseDigest) -> Fate {
    Fate::Fine
}

#[test]
fn a_dry_run_says_exactly_what_the_start_does_and_changes_nothing() {
    let mut world = World::new(50, DEMO, 1, fine);
    let good = world.publish(GOOD);
    let mut command = world.request(Action::StartRollout { release: good }, true);
    let before = world.records.clone();
    let said = world.send_command(&command).unwrap();
    assert_eq!(world.records, before);
    assert!(world.control.rollouts().is_empty());
    command.dry_run = false;
    assert_eq!(world.send_command(&command).unwrap(), said);
    let rollout = said.rollout.unwrap();
    let members = world.control.members(rollout, &|_| true, 0, 1000).unwrap();
    let planned: Vec<HostId> = said
        .hosts
        .iter()
        .flat_map(|(_, hosts)| hosts.clone())
        .collect();
    assert_eq!(members.iter().map(|m| m.host).collect::<Vec<_>>(), planned);
    assert_eq!(planned.len(), 50);
    assert!(
        said.warnings
            .iter()
            .any(|w| w.contains("smallest failure rate")),
        "{:?}",
        said.warnings
    );
}

#[test]
fn a_repeated_request_answers_the_same_even_after_a_restart_and_does_nothing() {
    let mut world = World::new(5, DEMO, 1, fine);
    let good = world.publish(GOOD);
    let command = world.request(Action::StartRollout { release: good }, false);
    let said = world.send_command(&command).unwrap();
    world.restart_server();
    assert_eq!(world.send_command(&command).unwrap(), said);
    assert_eq!(world.control.rollouts().len(), 1);
    let mut other = command;
    other.action = Action::StopAll;
    assert!(matches!(
        world.send_command(&other),
        Err(Refusal::Conflict { .. })
    ));
}

#[test]
fn memory_of_commands_is_bounded() {
    let mut world = World::new(1, DEMO, 1, fine);
    for _ in 0..1100 {
        world.act(Action::Freeze(HostId(1))).unwrap();
    }
    let kept = world
        .records
        .keys()
        .filter(|k| matches!(k, ringward_server_core::record::RecordKey::Request(_)))
        .count();
    assert_eq!(kept, 1000);
}

#[test]
fn what_was_rolled_back_stays_barred_over_a_restart_until_a_person_lifts_it() {
    let mut world = World::new(12, DEMO, 1, lethal);
    let good = world.publish(GOOD);
    complete(&mut world, good);
    let bad = world.publish(BAD);
    let rollout = world.start(bad);
    assert!(world.until(Millis::mins(5), |w| w.state(rollout)
        == RolloutState::Halted));
    world
        .act(Action::Rollback {
            leave: bad,
            to: None,
        })
        .unwrap();
    world.restart_server();
    assert!(matches!(
        world.act(Action::StartRollout { release: bad }),
        Err(Refusal::Barred { .. })
    ));
    assert!(matches!(
        world.act(Action::Resume(rollout)),
        Err(Refusal::Barred { .. })
    ));
    assert!(world.until(Millis::mins(5), |w| w.agents.values().all(|a| a.connected)));
    let told = |w: &World| {
        w.agents
            .values()
            .all(|a| a.desired.as_ref().is_some_and(|d| d.bars.contains(&bad)))
    };
    assert!(world.until(Millis::mins(1), told));
    assert!(world.agents.values().any(|a| a.bars.contains(&bad)));
    world.act(Action::LiftBar(bad)).unwrap();
    assert!(world.until(Millis::mins(1), |w| {
        w.agents.values().all(|a| a.bars.is_empty())
    }));
    assert_eq!(
        world.control.release(bad).unwrap().standing,
        Standing::Unproven
    );
}

#[test]
fn stop_all_exposes_nobody_more_and_resume_all_goes_on() {
    let mut world = World::new(50, DEMO, 1, fine);
    let good = world.publish(GOOD);
    let rollout = world.start(good);
    let some = |w: &World| {
        w.control
            .rollout(rollout)
            .unwrap()
            .evidence()
            .total()
            .confirmed
            >= 3
    };
    assert!(world.until(Millis::mins(5), some));
    world.act(Action::StopAll).unwrap();
    let exposed = |w: &World| {
        w.control
            .rollout(rollout)
            .unwrap()
            .evidence()
            .total()
            .exposed
    };
    let at_stop = exposed(&world);
    world.restart_server();
    for _ in 0..400 {
        world.step();
    }
    assert_eq!(exposed(&world), at_stop);
    assert_eq!(world.view(rollout).state, RolloutState::Paused);
    world.act(Action::ResumeAll).unwrap();
    assert!(world.until(Millis::mins(20), |w| w.state(rollout)
        == RolloutState::Completed));
}

#[test]
fn a_frozen_host_waits_with_its_reason_and_takes_part_when_it_thaws() {
    let mut world = World::new(5, DEMO, 1, fine);
    world.act(Action::Freeze(HostId(3))).unwrap();
    let good = world.publish(GOOD);
    let rollout = world.start(good);
    let others = |w: &World| {
        w.control
            .rollout(rollout)
            .unwrap()
            .evidence()
            .total()
            .confirmed
            >= 4
    };
    let done = world.until(Millis::mins(10), others);
    let waits = |s: &MemberState| *s == MemberState::Waiting(WaitWhy::Frozen);
    let frozen = world.control.members(rollout, &waits, 0, 10).unwrap();
    assert_eq!(
        frozen.iter().map(|m| m.host).collect::<Vec<_>>(),
        [HostId(3)]
    );
    if !done {
        // The frozen host is a ring of its own: the rollout holds and says so.
        assert_eq!(
            world.state(rollout),
            RolloutState::Held,
            "{:#?}",
            world.view(rollout)
        );
    }
    world.act(Action::Unfreeze(HostId(3))).unwrap();
    assert!(world.until(Millis::mins(10), |w| {
        w.agents[&HostId(3)].committed.is_some()
    }));
}

#[test]
fn a_host_enrolled_later_joins_as_a_straggler() {
    let mut world = World::new(5, DEMO, 1, fine);
    let good = world.publish(GOOD);
    complete(&mut world, good);
    world.enrol(HostId(77), fine);
    assert!(world.until(Millis::mins(5), |w| {
        w.agents[&HostId(77)].committed.is_some()
    }));
}

#[test]
fn a_host_installed_anew_takes_the_release_again() {
    let mut world = World::new(5, DEMO, 1, fine);
    let good = world.publish(GOOD);
    complete(&mut world, good);
    world.reimage(HostId(2), fine);
    assert!(world.until(Millis::mins(5), |w| {
        w.agents[&HostId(2)].committed.is_some()
    }));
}

fn signal(seq: u64) -> Signal {
    Signal {
        seq: SignalSeq(seq),
        kind: SignalKind::OomKill,
        key: seq.to_string(),
        boot: BootId([1; 16]),
        at_boottime: Millis::ZERO,
        release: None,
        title: String::new(),
        signature: String::new(),
        evidence: String::new(),
    }
}

/// Sends signals; answers what was acknowledged and how many were stored.
fn send_signals(world: &mut World, seqs: &[u64]) -> (SignalSeq, usize) {
    let message = ToServer::Signals(seqs.iter().map(|seq| signal(*seq)).collect());
    let effects = world.control.handle(
        Event::Message {
            host: HostId(1),
            message,
        },
        world.now,
    );
    let stored = effects
        .iter()
        .filter(|e| matches!(e, Effect::StoreSignal(..)))
        .count();
    let acknowledged = effects.iter().find_map(|e| match e {
        Effect::Send(_, message) => match **message {
            ToAgent::SignalsDurable { through } => Some(through),
            _ => None,
        },
        _ => None,
    });
    (acknowledged.unwrap(), stored)
}

#[test]
fn signals_are_acknowledged_without_gaps_and_doubles_are_not_stored_again() {
    let mut world = World::new(1, DEMO, 1, fine);
    assert!(world.until(Millis::secs(5), |w| w.agents[&HostId(1)].connected));
    assert_eq!(send_signals(&mut world, &[1, 2]), (SignalSeq(2), 2));
    assert_eq!(send_signals(&mut world, &[1, 2, 3]), (SignalSeq(3), 1));
    // Seq 4 was lost on the way: nothing after it may be acknowledged.
    assert_eq!(send_signals(&mut world, &[5, 6]), (SignalSeq(3), 2));
    assert_eq!(send_signals(&mut world, &[4, 5, 6]), (SignalSeq(6), 3));
    // A spool that lost seq 7 for good begins with 8 for ever: in the end that is believed.
    for _ in 0..2 {
        assert_eq!(send_signals(&mut world, &[8]).0, SignalSeq(6));
        for _ in 0..5 {
            world.step();
        }
    }
    assert_eq!(send_signals(&mut world, &[8]).0, SignalSeq(8));
}

#[test]
fn hosts_are_listed_by_label_and_page_without_losing_one() {
    let mut world = World::new(10, DEMO, 1, fine);
    for i in [2, 4, 6] {
        let labels = [("site".to_owned(), "berlin".to_owned())].into();
        world.act(Action::SetLabels(HostId(i), labels)).unwrap();
    }
    let selector: Selector = "site=berlin".parse().unwrap();
    let first = world.control.hosts(Some(&selector), false, None, 2);
    let rest = world
        .control
        .hosts(Some(&selector), false, first.last().map(|h| h.id), 2);
    let ids: Vec<u64> = first.iter().chain(&rest).map(|h| h.id.0).collect();
    assert_eq!(ids, [2, 4, 6]);
    let bad = [("a b".to_owned(), String::new())].into();
    assert!(matches!(
        world.act(Action::SetLabels(HostId(1), bad)),
        Err(Refusal::Invalid { .. })
    ));
}

#[test]
fn a_policy_is_checked_like_it_is_applied_and_survives_a_restart() {
    let mut world = World::new(3, DEMO, 1, fine);
    let refused = world.act(Action::ApplyPolicy("ring = []".to_owned()));
    assert!(
        matches!(refused, Err(Refusal::Invalid { .. })),
        "{refused:?}"
    );
    let other = DEMO.replace("soak_s = 3", "soak_s = 4");
    let said = world.act(Action::ApplyPolicy(other)).unwrap();
    assert!(said.warnings.iter().any(|w| w.contains("soak 4 s")));
    world.restart_server();
    assert_eq!(world.control.policy().pace.soak, Millis::secs(4));
}

#[test]
fn unknown_and_retired_hosts_get_no_session() {
    let mut world = World::new(2, DEMO, 1, fine);
    world.act(Action::RetireHost(HostId(2))).unwrap();
    for host in [HostId(2), HostId(99)] {
        let hello = Box::new(Agent::new(host, fine).hello(world.now));
        let effects = world
            .control
            .handle(Event::Connected { host, hello }, world.now);
        assert!(effects.contains(&Effect::Close(host)), "{effects:?}");
        assert!(!effects.iter().any(|e| matches!(e, Effect::Send(..))));
    }
}

#[test]
fn a_proven_host_that_is_away_as_announced_is_not_silent_after_a_restart() {
    let mut world = World::new(3, DEMO, 1, fine);
    let slow = DEMO.replace("attribution_s = 5", "attribution_s = 3600");
    world.act(Action::ApplyPolicy(slow)).unwrap();
    let good = world.publish(GOOD);
    let rollout = world.start(good);
    assert!(world.until(Millis::mins(5), |w| w.state(rollout)
        == RolloutState::Completed));
    for (host, says_so) in [(HostId(1), true), (HostId(2), false)] {
        if says_so {
            let message = ToServer::Absent(ringward_domain::Absence::PowerOff);
            world.handle(Event::Message { host, message });
        }
        world.agents.get_mut(&host).unwrap().dark_until = Some(world.now + Millis::mins(10));
    }
    world.step();
    world.restart_server();
    let until = world.now + Millis::mins(5);
    world.until(Millis::mins(6), |w| w.now >= until);
    let silent: Vec<HostId> = world
        .view(rollout)
        .silent_hosts
        .iter()
        .map(|m| m.host)
        .collect();
    assert_eq!(silent, [HostId(2)]);
}
