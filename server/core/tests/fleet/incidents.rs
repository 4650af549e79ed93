//! Incidents, suspects, newcomers, and words that come too late.

use crate::agent::Fate;
use crate::world::{DEMO, World};
use crate::{BAD, GOOD, complete, lethal};
use ringward_domain::ids::{BootId, SignalSeq};
use ringward_domain::report::RolloutState;
use ringward_domain::session::ToServer;
use ringward_domain::signal::{Signal, SignalKind};
use ringward_domain::{HostId, Millis, ReleaseDigest};
use ringward_server_core::event::Event;
use ringward_server_core::record::RecordKey;

fn fine(_: HostId, _: &ReleaseDigest) -> Fate {
    Fate::Fine
}

fn tell(world: &mut World, host: u64, seq: u64, kind: SignalKind, what: &str) {
    let signal = Signal {
        seq: SignalSeq(seq),
        kind,
        key: format!("{what} {seq}"),
        boot: BootId([1; 16]),
        at_boottime: Millis::ZERO,
        release: None,
        title: what.to_owned(),
        signature: what.to_owned(),
        evidence: String::new(),
    };
    world.handle(Event::Message {
        host: HostId(host),
        message: ToServer::Signals(vec![signal]),
    });
}

fn connected(hosts: u64) -> World {
    let mut world = World::new(hosts, DEMO, 1, fine);
    assert!(world.until(Millis::mins(1), |w| w.agents.values().all(|a| a.connected)));
    world
}

#[test]
fn a_halt_names_its_suspect_opens_an_incident_and_proposes_the_way_back() {
    let mut world = World::new(50, DEMO, 1, lethal);
    let good = world.publish(GOOD);
    complete(&mut world, good);
    let bad = world.publish(BAD);
    let rollout = world.start(bad);
    assert!(world.until(Millis::mins(5), |w| w.state(rollout)
        == RolloutState::Halted));
    let view = world.view(rollout);
    let suspect = &view.suspects[0];
    assert!(suspect.changes[0].starts_with("release app"), "{suspect:?}");
    assert_eq!(suspect.failed, view.verdict.failed);
    assert_eq!(suspect.others_failed, 0);
    assert!(view.proposal.contains("rollback app@"), "{}", view.proposal);
    assert!(!view.verdict.strata.is_empty(), "{:?}", view.verdict);

    let incident = world.control.incidents(false).remove(0);
    assert!(incident.cause.contains("halted"), "{}", incident.cause);
    assert_eq!(incident.failed, view.verdict.failed);
    assert_eq!(incident.proposal, view.proposal);

    // Neither is forgotten by a restart.
    world.restart_server();
    let restored = world.control.incidents(false).remove(0);
    assert_eq!(restored.cause, incident.cause);
    assert_eq!(restored.failed_hosts, incident.failed_hosts);
    let sentences = |s: &[ringward_domain::incident::SuspectView]| -> Vec<String> {
        s.iter().map(|s| s.sentence.clone()).collect()
    };
    assert_eq!(sentences(&restored.suspects), sentences(&incident.suspects));
    assert_eq!(
        sentences(&world.view(rollout).suspects),
        sentences(&view.suspects)
    );
}

#[test]
fn a_change_of_others_is_named_with_the_hosts_at_risk_though_nothing_is_rolled_out() {
    let mut world = connected(60);
    for host in 1..=60 {
        tell(&mut world, host, 1, SignalKind::Change, "harmless.so");
    }
    for host in 1..=10 {
        tell(&mut world, host, 2, SignalKind::Change, "C-291.sys");
    }
    for host in 1..=9 {
        assert!(world.control.incidents(true).is_empty() || host > 3);
        tell(&mut world, host, 3, SignalKind::KernelPanic, "0x50");
    }
    world.until(Millis::secs(30), |_| false);
    let incident = world.control.incidents(false).remove(0);
    assert_eq!(incident.suspects[0].changes, ["C-291.sys"]);
    assert!(incident.suspects[0].named, "{incident:?}");
    assert_eq!((incident.failed, incident.at_risk_count), (9, 1));
    assert_eq!(incident.at_risk, [HostId(10)]);
    assert!(
        incident.suspects[0]
            .sentence
            .contains("9 of 10 hosts with it failed; 0 of 50")
    );
    assert_eq!(world.control.incident(incident.number), Some(incident));

    // A day without failures ends it, for the store too.
    world.now = world.now + Millis::hours(25);
    world.handle(Event::Tick);
    assert!(world.control.incidents(false).is_empty());
    world.restart_server();
    assert!(world.control.incidents(true)[0].closed);
    assert!(world.records.contains_key(&RecordKey::Incident(1)));
}

#[test]
fn two_failures_open_nothing_and_the_first_is_not_forgotten_before_the_second() {
    // Half a minute apart, where attribution is 5 s.
    let mut world = connected(60);
    for host in 1..=2 {
        tell(&mut world, host, 1, SignalKind::KernelPanic, "0x50");
        world.until(Millis::secs(30), |_| false);
    }
    assert!(world.control.incidents(true).is_empty());
    assert_eq!(world.control.watched(), (60, 2, 0));
}

#[test]
fn newcomers_are_no_control_once_the_fleet_is_older() {
    let mut world = connected(25);
    let good = world.publish(GOOD);
    let failures = |world: &World, rollout| world.view(rollout).verdict.control_failures;
    world.now = world.now + Millis::hours(25);
    world.handle(Event::Tick);
    for host in 100..103 {
        world.enrol(HostId(host), fine);
    }
    assert!(world.until(Millis::mins(1), |w| w.agents.values().all(|a| a.connected)));
    let rollout = world.start(good);
    for host in 100..103 {
        tell(&mut world, host, 1, SignalKind::KernelPanic, "lie");
    }
    assert_eq!(failures(&world, rollout), 0);
    tell(&mut world, 1, 1, SignalKind::KernelPanic, "truth");
    assert_eq!(failures(&world, rollout), 1);
}

#[test]
fn a_young_fleet_is_its_own_control() {
    let mut world = connected(25);
    let good = world.publish(GOOD);
    let rollout = world.start(good);
    tell(&mut world, 1, 1, SignalKind::KernelPanic, "truth");
    assert_eq!(world.view(rollout).verdict.control_failures, 1);
}

#[test]
fn a_restart_does_not_forget_what_the_control_went_through() {
    let mut world = connected(50);
    world.until(Millis::mins(11), |_| false);
    let good = world.publish(GOOD);
    world.restart_server();
    assert!(world.until(Millis::mins(1), |w| w.agents.values().all(|a| a.connected)));
    let rollout = world.start(good);
    // Fifty hosts for ten minutes; what came after the last write is lost.
    let units = world.view(rollout).verdict.control_units;
    assert!(units > 49.0 * 10.0 / (24.0 * 60.0), "{units}");
}
