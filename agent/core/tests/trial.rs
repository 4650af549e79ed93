//! Soak, probes, and going back alone.
#![allow(clippy::unwrap_used)]

mod host;

use host::{Host, desired, installed, release};
use ringward_agent_core::{Effect, Event};
use ringward_domain::ledger::{AttemptPhase, RevertWhy};
use ringward_domain::observed::{PrepareState, RefuseWhy};
use ringward_domain::session::{ToAgent, ToServer};
use ringward_domain::signal::{SignalDraft, SignalKind};
use ringward_domain::{AssignmentKind, BootId, Desired, Millis, RolloutId};

fn crash_loop(host: &Host) -> Event {
    Event::Signal(SignalDraft {
        kind: SignalKind::CrashLoop,
        key: "crash-loop:demo.service".to_owned(),
        boot: BootId([host.boot; 16]),
        at_boottime: Millis(host.now.0),
        title: "demo.service restarts again and again".to_owned(),
        signature: "demo.service".to_owned(),
        evidence: "{}".to_owned(),
    })
}

fn rollback(generation: u64, to: u8) -> Desired {
    let mut wanted = desired(generation, to);
    wanted.assignments[0].kind = AssignmentKind::Rollback;
    wanted.assignments[0].rollout = RolloutId(99);
    wanted
}

/// Time passes while every round of probes fails.
fn pass_unhealthy(host: &mut Host, time: Millis) {
    let end = host.now + time;
    while host.now < end {
        host.answer_probes(false);
        host.now = host.now + Millis(500);
        host.settle();
    }
}

#[test]
fn time_asleep_earns_no_soak() {
    let mut host = Host::on_release(1);
    host.until_trial(desired(1, 2));
    host.pass(Millis::secs(20));
    host.now = host.now + Millis::hours(8);
    host.step(Event::Resumed {
        slept: Millis::hours(8),
    });
    host.pass(Millis::secs(20));
    assert_eq!(host.phase(), Some(AttemptPhase::Trial));
    host.pass(Millis::secs(40));
    assert_eq!(host.phase(), Some(AttemptPhase::Committed));
}

#[test]
fn a_sleep_that_is_told_late_earns_almost_nothing() {
    let mut host = Host::on_release(1);
    host.until_trial(desired(1, 2));
    host.pass(Millis::secs(20));
    host.now = host.now + Millis::hours(8);
    host.settle();
    host.answer_probes(true);
    assert_eq!(host.phase(), Some(AttemptPhase::Trial));
}

#[test]
fn a_release_that_cuts_the_host_off_is_never_proven() {
    let mut host = Host::on_release(1);
    host.until_trial(desired(1, 2));
    host.step(Event::NetworkReachable(false));
    host.pass(Millis::mins(5));
    assert_eq!(host.phase(), Some(AttemptPhase::Trial));
}

#[test]
fn probes_that_do_not_pass_take_the_host_back_and_bar_the_release() {
    let mut host = Host::on_release(1);
    host.until_trial(desired(1, 2));
    pass_unhealthy(&mut host, Millis::secs(70));
    assert_eq!(
        host.phase(),
        Some(AttemptPhase::Reverted(RevertWhy::ProbesFailed))
    );
    host.answer_switch(true);
    assert_eq!(host.slot, Some(installed(1)));
    assert!(host.ledger.bars.contains(&release(2)));
    host.settle();
    let kinds: Vec<_> = host.spool.iter().map(|signal| signal.kind).collect();
    assert_eq!(kinds, [SignalKind::ProbeFailed, SignalKind::SelfReverted]);
    host.message(ToAgent::Desired(Box::new(desired(2, 2))));
    host.pass(Millis::mins(10));
    let preparing = host.machine.observed().preparing.unwrap();
    assert_eq!(preparing.state, PrepareState::Refused(RefuseWhy::Barred));
    assert_eq!(host.switches_asked(), 0);
}

#[test]
fn a_crash_loop_in_trial_takes_the_host_back_before_the_next_event() {
    let mut host = Host::on_release(1);
    host.until_trial(desired(1, 2));
    host.pass(Millis::secs(5));
    let event = crash_loop(&host);
    host.step(event);
    assert!(
        host.asked
            .iter()
            .any(|asked| matches!(asked, Effect::Revert { .. }))
    );
    assert_eq!(
        host.phase(),
        Some(AttemptPhase::Reverted(RevertWhy::CrashLoop))
    );
    assert_eq!(host.spool[0].release, Some(release(2)));
}

#[test]
fn a_crash_loop_without_a_trial_is_only_reported() {
    let mut host = Host::on_release(1);
    let event = crash_loop(&host);
    host.step(event);
    host.settle();
    assert_eq!(host.spool[0].release, None);
    assert!(
        !host
            .asked
            .iter()
            .any(|asked| matches!(asked, Effect::Revert { .. }))
    );
}

#[test]
fn a_way_back_that_fails_is_tried_again_until_it_works() {
    let mut host = Host::on_release(1);
    host.until_trial(desired(1, 2));
    let event = crash_loop(&host);
    host.step(event);
    host.answer_switch(false);
    assert_eq!(host.slot, Some(installed(2)));
    host.pass(Millis::secs(31));
    host.answer_switch(true);
    assert_eq!(host.slot, Some(installed(1)));
}

#[test]
fn a_clock_that_jumps_takes_nobody_back() {
    let mut host = Host::on_release(1);
    host.until_trial(desired(1, 2));
    host.step(Event::NetworkReachable(false));
    host.now = host.now + Millis::hours(1);
    host.settle();
    host.answer_probes(true);
    assert_eq!(host.phase(), Some(AttemptPhase::Trial));
    host.step(Event::NetworkReachable(true));
    host.pass(Millis::secs(75));
    assert_eq!(host.phase(), Some(AttemptPhase::Committed));
}

#[test]
fn losing_the_server_alone_never_takes_a_host_back_and_proves_nothing() {
    let mut host = Host::on_release(1);
    host.until_trial(desired(1, 2));
    host.step(Event::Disconnected);
    host.pass(Millis::hours(2));
    assert_eq!(host.phase(), Some(AttemptPhase::Trial));
    host.step(Event::Connected);
    host.message(ToAgent::Welcome { protocol: 1 });
    host.settle();
    assert_eq!(host.phase(), Some(AttemptPhase::Committed));
}

#[test]
fn losing_the_whole_network_for_ten_minutes_takes_a_trial_back() {
    let mut host = Host::on_release(1);
    let mut wanted = desired(1, 2);
    wanted.assignments[0].soak = Millis::hours(1);
    host.until_trial(wanted);
    host.step(Event::NetworkReachable(false));
    host.pass(Millis::mins(9));
    host.step(Event::NetworkReachable(true));
    host.step(Event::NetworkReachable(false));
    host.pass(Millis::mins(9));
    assert_eq!(host.phase(), Some(AttemptPhase::Trial));
    host.pass(Millis::mins(2));
    assert_eq!(
        host.phase(),
        Some(AttemptPhase::Reverted(RevertWhy::NetworkLost))
    );
}

#[test]
fn a_release_that_needs_a_boot_soaks_only_after_it() {
    let mut host = Host::on_release(1);
    let mut wanted = desired(1, 2);
    wanted.assignments[0].verify_boot = true;
    host.until_trial(wanted);
    assert_eq!(host.reboots, 1);
    host.pass(Millis::mins(4));
    assert_eq!(host.phase(), Some(AttemptPhase::Trial));
    host.restart(true);
    host.step(Event::Connected);
    host.message(ToAgent::Welcome { protocol: 1 });
    host.pass(Millis::secs(75));
    assert_eq!(host.phase(), Some(AttemptPhase::Committed));
    assert_eq!(host.reboots, 1);
}

#[test]
fn two_bad_boots_take_the_host_back_where_no_guard_ran() {
    let mut host = Host::on_release(1);
    let mut wanted = desired(1, 2);
    wanted.assignments[0].verify_boot = true;
    host.until_trial(wanted);
    host.restart(true);
    host.restart(true);
    assert_eq!(host.phase(), Some(AttemptPhase::Trial));
    host.restart(true);
    assert_eq!(
        host.phase(),
        Some(AttemptPhase::Reverted(RevertWhy::BadBoots))
    );
    host.answer_switch(true);
    assert_eq!(host.slot, Some(installed(1)));
}

#[test]
fn a_rollback_leaves_a_trial_and_goes_to_what_the_host_has_proven() {
    let mut host = Host::on_release(1);
    host.until_trial(desired(1, 2));
    host.message(ToAgent::Desired(Box::new(rollback(2, 1))));
    host.settle();
    host.answer_prepare();
    let nonce = host.requested_now().expect("no grant was asked for");
    host.grant(nonce);
    host.message(ToAgent::Begun { nonce });
    host.answer_switch(true);
    host.pass(Millis::secs(75));
    assert_eq!(host.slot, Some(installed(1)));
    assert_eq!(host.phase(), Some(AttemptPhase::Committed));
}

#[test]
fn a_rollback_to_what_was_never_proven_here_is_refused() {
    let mut host = Host::on_release(1);
    host.step(Event::Connected);
    host.message(ToAgent::Welcome { protocol: 1 });
    host.message(ToAgent::Desired(Box::new(rollback(1, 7))));
    host.pass(Millis::mins(1));
    let preparing = host.machine.observed().preparing.unwrap();
    assert_eq!(
        preparing.state,
        PrepareState::Refused(RefuseWhy::UnknownHistory)
    );
}

#[test]
fn a_rollback_without_begun_leaves_the_trial_in_the_ledger_and_is_told() {
    let mut host = Host::on_release(1);
    let mut long = desired(1, 2);
    long.assignments[0].soak = Millis::hours(1);
    let trial = host.until_trial(long);
    host.message(ToAgent::Desired(Box::new(rollback(2, 1))));
    host.settle();
    host.answer_prepare();
    let nonce = host.requested_now().expect("no grant was asked for");
    host.grant(nonce);
    host.pass(Millis::secs(11));
    assert_eq!(host.ledger.attempt.as_ref().unwrap().nonce, trial);
    assert!(host.ledger.burned.contains(&nonce));
    let told: Vec<_> = host
        .take_sent()
        .into_iter()
        .filter_map(|sent| match sent {
            ToServer::Observed(observed) => observed.attempt.map(|attempt| attempt.nonce),
            _ => None,
        })
        .collect();
    assert!(told.contains(&nonce), "the burned nonce was not told");
    assert_eq!(told.last(), Some(&trial), "the trial is told after it");
}

#[test]
fn a_trial_without_its_manifest_is_never_taken_for_healthy() {
    let mut host = Host::on_release(1);
    host.until_trial(desired(1, 2));
    let started = ringward_agent_core::event::Started {
        orders: Default::default(),
        boot: BootId([1; 16]),
        agent_start: ringward_domain::AgentStart([9; 16]),
        seed: [9; 32],
        ledger: Some(host.ledger.clone()),
        trial_manifest: None,
        slots: host.machine.observed().packages,
        facts: host::facts(),
        agent_version: String::new(),
        last_stop_clean: Some(true),
        spool: Default::default(),
    };
    let (machine, _) = ringward_agent_core::Machine::start(started, host.now);
    host.machine = machine;
    host.pass(Millis::mins(2));
    assert_eq!(
        host.phase(),
        Some(AttemptPhase::Reverted(RevertWhy::ProbesFailed))
    );
}
