//! From the request to the switch, and everything that must keep the switch from happening.
#![allow(clippy::unwrap_used)]

mod host;

use host::{Host, desired, installed, release};
use ringward_agent_core::Event;
use ringward_domain::ledger::{AttemptPhase, FailWhy, NotSwitchedWhy};
use ringward_domain::observed::PhaseObserved;
use ringward_domain::session::{BeginRefusal, ToAgent, ToServer};
use ringward_domain::{Absence, Millis};

fn not_switched(host: &Host) -> Option<NotSwitchedWhy> {
    match host.phase() {
        Some(AttemptPhase::NotSwitched(why)) => Some(why),
        _ => None,
    }
}

fn begins(sent: &[ToServer]) -> usize {
    let begin = |message: &&ToServer| matches!(message, ToServer::Begin(_));
    sent.iter().filter(begin).count()
}

#[test]
fn a_release_goes_from_desired_to_committed() {
    let mut host = Host::new();
    host.until_trial(desired(1, 1));
    assert_eq!(host.phase(), Some(AttemptPhase::Trial));
    host.pass(Millis::secs(75));
    assert_eq!(host.phase(), Some(AttemptPhase::Committed));
    let known = &host.ledger.packages[&host::package()];
    assert_eq!(known.committed, Some(installed(1)));
    let attempt = host.machine.observed().attempt.unwrap();
    assert_eq!(attempt.phase, PhaseObserved::Committed);
}

#[test]
fn a_host_that_is_not_invited_prepares_and_asks_for_nothing() {
    let mut host = Host::new();
    let mut wanted = desired(1, 1);
    wanted.assignments[0].invited = false;
    host.step(Event::Connected);
    host.message(ToAgent::Welcome { protocol: 1 });
    host.message(ToAgent::Desired(Box::new(wanted)));
    host.pass(Millis::secs(10));
    host.answer_prepare();
    host.pass(Millis::mins(5));
    assert_eq!(host.requested_now(), None);
    host.message(ToAgent::Desired(Box::new(desired(2, 1))));
    assert!(host.requested_now().is_some());
}

#[test]
fn while_all_is_stopped_no_install_is_asked_for_and_then_it_goes_on() {
    let mut host = Host::new();
    let mut wanted = desired(1, 1);
    wanted.stopped = true;
    host.step(Event::Connected);
    host.message(ToAgent::Welcome { protocol: 1 });
    host.message(ToAgent::Desired(Box::new(wanted)));
    host.pass(Millis::secs(10));
    host.answer_prepare();
    host.pass(Millis::mins(5));
    assert_eq!(host.requested_now(), None);
    host.message(ToAgent::Desired(Box::new(desired(2, 1))));
    assert!(host.requested_now().is_some());
}

#[test]
fn the_life_of_a_grant_runs_from_its_request() {
    let mut host = Host::new();
    let nonce = host.until_requested(desired(1, 1));
    host.now = host.now + Millis::secs(59);
    host.message(ToAgent::Grant {
        nonce,
        life: Millis::secs(59),
    });
    assert_eq!(begins(&host.take_sent()), 0);
}

#[test]
fn begin_is_resent_each_second_and_burned_after_ten() {
    let mut host = Host::new();
    let nonce = host.until_requested(desired(1, 1));
    host.grant(nonce);
    host.pass(Millis::secs(10));
    assert_eq!(begins(&host.take_sent()), 11);
    assert_eq!(
        not_switched(&host),
        None,
        "at ten seconds Begun still counts"
    );
    host.pass(Millis(1));
    assert_eq!(not_switched(&host), Some(NotSwitchedWhy::NoBegun));
    assert!(host.ledger.burned.contains(&nonce));
    host.message(ToAgent::Begun { nonce });
    assert_eq!(host.switches_asked(), 0);
}

#[test]
fn a_refused_begin_burns_the_nonce() {
    let mut host = Host::new();
    let nonce = host.until_requested(desired(1, 1));
    host.grant(nonce);
    let why = BeginRefusal::NotRunning;
    host.message(ToAgent::BeginRefused { nonce, why });
    assert_eq!(not_switched(&host), Some(NotSwitchedWhy::BeginRefused));
    host.message(ToAgent::Begun { nonce });
    assert_eq!(host.switches_asked(), 0);
}

#[test]
fn a_suspend_between_begin_and_begun_burns_the_nonce() {
    for announced in [true, false] {
        let mut host = Host::new();
        let nonce = host.until_requested(desired(1, 1));
        host.grant(nonce);
        if announced {
            host.step(Event::GoingAway(Absence::Suspend));
        }
        host.now = host.now + Millis::secs(4);
        host.step(Event::Resumed {
            slept: Millis::secs(4),
        });
        assert_eq!(not_switched(&host), Some(NotSwitchedWhy::Suspended));
        host.message(ToAgent::Begun { nonce });
        assert_eq!(host.switches_asked(), 0);
    }
}

#[test]
fn a_desired_state_that_drops_the_release_burns_what_was_announced() {
    let mut host = Host::new();
    let nonce = host.until_requested(desired(1, 1));
    host.grant(nonce);
    let mut other = desired(2, 1);
    other.bars = vec![release(1)];
    host.message(ToAgent::Desired(Box::new(other)));
    assert_eq!(not_switched(&host), Some(NotSwitchedWhy::Superseded));
    host.message(ToAgent::Begun { nonce });
    assert_eq!(host.switches_asked(), 0);
}

#[test]
fn a_begun_of_an_earlier_process_does_nothing() {
    let mut host = Host::new();
    let nonce = host.until_requested(desired(1, 1));
    host.grant(nonce);
    host.restart(false);
    host.until_requested(desired(1, 1));
    host.message(ToAgent::Begun { nonce });
    assert_eq!(host.switches_asked(), 0);
}

#[test]
fn a_doubled_begun_switches_once() {
    let mut host = Host::new();
    let nonce = host.until_trial(desired(1, 1));
    host.message(ToAgent::Begun { nonce });
    assert_eq!(host.switches_asked(), 0);
}

#[test]
fn a_host_that_died_in_the_switch_reports_what_its_slot_holds() {
    for done in [true, false] {
        let mut host = Host::new();
        let nonce = host.until_requested(desired(1, 1));
        host.grant(nonce);
        host.message(ToAgent::Begun { nonce });
        if done {
            host.slot = Some(installed(1));
        }
        host.restart(true);
        if done {
            assert_eq!(host.phase(), Some(AttemptPhase::Trial));
            let boots = &host.ledger.attempt.as_ref().unwrap().boots;
            assert_eq!(boots.iter().filter(|noted| !noted.healthy).count(), 2);
        } else {
            assert_eq!(not_switched(&host), Some(NotSwitchedWhy::Restarted));
        }
    }
}

#[test]
fn a_full_disk_before_the_switch_means_no_switch() {
    let mut host = Host::new();
    let nonce = host.until_requested(desired(1, 1));
    host.grant(nonce);
    host.full_disk = true;
    host.message(ToAgent::Begun { nonce });
    assert_eq!(host.switches_asked(), 0);
    host.full_disk = false;
    host.pass(Millis::secs(6));
    assert_eq!(host.phase(), Some(AttemptPhase::Failed(FailWhy::Disk)));
}

#[test]
fn an_older_desired_state_is_refused_even_after_a_restart() {
    let mut host = Host::new();
    host.until_requested(desired(5, 1));
    host.restart(true);
    host.step(Event::Connected);
    host.message(ToAgent::Welcome { protocol: 1 });
    host.message(ToAgent::Desired(Box::new(desired(4, 2))));
    host.pass(Millis::mins(1));
    assert_eq!(host.machine.observed().preparing, None);
    host.message(ToAgent::Desired(Box::new(desired(5, 1))));
    assert!(host.machine.observed().preparing.is_some());
}

#[test]
fn a_desired_state_asked_for_after_a_restart_is_seen_by_the_heartbeat() {
    let mut host = Host::new();
    host.until_requested(desired(5, 1));
    host.restart(false);
    host.step(Event::Connected);
    host.message(ToAgent::Welcome { protocol: 1 });
    host.pass(Millis::secs(11));
    let heartbeat = host.take_sent().into_iter().find_map(|sent| match sent {
        ToServer::Heartbeat(heartbeat) => Some(heartbeat),
        _ => None,
    });
    assert_eq!(heartbeat.unwrap().accepted.1.0, 0, "it holds none");
}
