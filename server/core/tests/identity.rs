//! Who is who, without a server: stale hellos, machines that share an identity, replacements, hosts
//! that were only meant for a while.
#![allow(clippy::unwrap_used, missing_docs)]

use ringward_domain::command::{Action, Command};
use ringward_domain::host::{Arch, Facts, GuardTier, HostState, Labels, Os};
use ringward_domain::observed::Observed;
use ringward_domain::session::{Heartbeat, Hello, ToServer};
use ringward_domain::{
    AgentStart, BootId, Epoch, Generation, HostId, Millis, RequestId, Sha256, SignalSeq, Timestamp,
};
use ringward_server_core::control::{Control, Enrolment, NotAdmitted};
use ringward_server_core::event::{Effect, Event};
use ringward_server_core::policy::Policy;
use ringward_server_core::record::Record;

const T0: Timestamp = Timestamp(1_000_000);
const HOST: HostId = HostId(1);

fn facts(fingerprint: &str) -> Facts {
    Facts {
        hostname: "till-1".into(),
        os: Os::Linux,
        os_build: String::new(),
        arch: Arch::X86_64,
        kernel: String::new(),
        model: String::new(),
        fingerprint: fingerprint.into(),
        memory_mib: 1,
        cpus: 1,
        guard_tier: GuardTier::None,
    }
}

fn enrolment(host: HostId, fingerprint: &str, ephemeral: Option<Millis>) -> Enrolment {
    Enrolment {
        host,
        facts: facts(fingerprint),
        labels: Labels::from([("site".into(), format!("of-{host}"))]),
        key: Sha256([7; 32]),
        pending: false,
        ephemeral,
    }
}

fn control() -> Control {
    let mut control = Control::new(Policy::default(), T0);
    control.enrol(enrolment(HOST, "f1", None), T0);
    control
}

fn hello(boot: u8, start: u8, boottime: u64) -> Hello {
    Hello {
        protocol_min: 1,
        protocol_max: 1,
        capabilities: Vec::new(),
        agent_version: "1".into(),
        boot: BootId([boot; 16]),
        agent_start: AgentStart([start; 16]),
        boottime: Millis(boottime),
        last_stop_clean: None,
        accepted: (Epoch(0), Generation(0)),
        next_signal: SignalSeq(1),
        facts: facts("f1"),
        observed: Observed::default(),
    }
}

/// As the server's edge does it: asked first, then connected.
fn connect(control: &mut Control, hello: Hello) -> Result<(), NotAdmitted> {
    let (admitted, _) = control.admit(HOST, &hello, T0);
    admitted?;
    let hello = Box::new(hello);
    control.handle(Event::Connected { host: HOST, hello }, T0);
    Ok(())
}

fn order(control: &mut Control, n: u8, action: Action) -> Vec<Effect> {
    let command = Command {
        request: RequestId([n; 16]),
        actor: "ada".into(),
        reason: "a test".into(),
        dry_run: false,
        action,
    };
    control.command(&command, T0).unwrap().1
}

fn audited(effects: &[Effect], wanted: &str) -> bool {
    effects
        .iter()
        .any(|effect| matches!(effect, Effect::Audit(entry) if entry.action == wanted))
}

#[test]
fn a_host_that_reboots_restarts_and_reconnects_is_one_machine() {
    let mut control = control();
    let lives = [
        (1, 1, 10_000),
        (1, 1, 20_000),
        (1, 2, 30_000),
        (2, 3, 5_000),
    ];
    for (boot, start, boottime) in lives {
        assert_eq!(connect(&mut control, hello(boot, start, boottime)), Ok(()));
    }
    assert!(control.host_view(HOST).unwrap().connected);
}

#[test]
fn a_stale_hello_of_an_older_boot_is_refused_and_the_newer_session_goes_on() {
    let mut control = control();
    connect(&mut control, hello(1, 1, 10_000)).unwrap();
    connect(&mut control, hello(2, 2, 1_000)).unwrap();
    let refused = connect(&mut control, hello(1, 1, 11_000));
    assert_eq!(refused, Err(NotAdmitted::Stale));
    assert!(control.host_view(HOST).unwrap().connected);
    assert!(control.admits(HOST));
}

#[test]
fn a_hello_from_before_what_the_same_agent_said_since_is_stale() {
    let mut control = control();
    connect(&mut control, hello(1, 1, 10_000)).unwrap();
    let beat = Heartbeat {
        accepted: (Epoch(0), Generation(0)),
        boottime: Millis(90_000),
        soaked: None,
    };
    let message = ToServer::Heartbeat(beat);
    control.handle(
        Event::Message {
            host: HOST,
            message,
        },
        T0,
    );
    let replayed = connect(&mut control, hello(1, 1, 10_000));
    assert_eq!(replayed, Err(NotAdmitted::Stale));
}

#[test]
fn a_boot_that_comes_back_again_and_again_fences_both_machines() {
    let mut control = control();
    connect(&mut control, hello(1, 1, 10_000)).unwrap();
    connect(&mut control, hello(2, 2, 1_000)).unwrap();
    let _ = connect(&mut control, hello(1, 1, 12_000));
    let (refused, effects) = control.admit(HOST, &hello(1, 1, 14_000), T0);
    assert_eq!(refused, Err(NotAdmitted::Fenced));
    assert!(audited(&effects, "host fence"));
    assert!(effects.iter().any(|e| matches!(e, Effect::Close(HOST))));
    let stored = effects.iter().any(|effect| {
        let Effect::Put(record) = effect else {
            return false;
        };
        matches!(record.as_ref(), Record::Host(host) if host.fenced)
    });
    assert!(stored, "the fence outlives a restart");
    let neither = connect(&mut control, hello(2, 2, 2_000));
    assert_eq!(neither, Err(NotAdmitted::Fenced));
    order(&mut control, 1, Action::UnfenceHost(HOST));
    assert_eq!(connect(&mut control, hello(2, 2, 3_000)), Ok(()));
}

#[test]
fn two_sessions_of_one_agent_that_speak_at_once_fence_both() {
    let mut control = control();
    connect(&mut control, hello(1, 1, 10_000)).unwrap();
    connect(&mut control, hello(1, 1, 20_000)).unwrap();
    // What was on its way when the agent changed over proves nothing.
    assert!(control.still_speaks(HOST, Millis(19_900), T0).is_empty());
    assert!(control.admits(HOST));
    let effects = control.still_speaks(HOST, Millis(25_000), T0);
    assert!(audited(&effects, "host fence"));
    assert!(!control.admits(HOST));
}

#[test]
fn the_same_machine_enrolled_again_takes_its_old_place_when_a_person_says_so() {
    let mut control = control();
    let new = HostId(2);
    control.enrol(enrolment(new, "f1", None), T0);
    let view = control.host_view(new).unwrap();
    assert!(
        view.attention
            .iter()
            .any(|line| line.contains(&HOST.to_string()))
    );
    order(&mut control, 1, Action::Freeze(HOST));
    order(&mut control, 2, Action::SetLabels(new, Labels::new()));
    order(&mut control, 3, Action::ReplaceHost(new));
    let view = control.host_view(new).unwrap();
    assert_eq!(view.labels["site"], format!("of-{HOST}"));
    assert!(view.attention.iter().any(|line| line.contains("frozen")));
    assert_eq!(control.host_view(HOST).unwrap().state, HostState::Retired);
    let third = HostId(3);
    control.enrol(enrolment(third, "f3", None), T0);
    let again = Command {
        request: RequestId([9; 16]),
        actor: "ada".into(),
        reason: String::new(),
        dry_run: false,
        action: Action::ReplaceHost(third),
    };
    assert!(control.command(&again, T0).is_err());
}

#[test]
fn an_ephemeral_host_leaves_when_it_was_silent_for_its_time_and_not_before() {
    let mut control = Control::new(Policy::default(), T0);
    control.enrol(enrolment(HOST, "f1", Some(Millis::mins(10))), T0);
    let state = |control: &Control| control.host_view(HOST).unwrap().state;
    let at = |minutes| T0 + Millis::mins(minutes);
    let said = hello(1, 1, 1_000);
    control.admit(HOST, &said, at(5)).0.unwrap();
    let hello = Box::new(said);
    control.handle(Event::Connected { host: HOST, hello }, at(5));
    control.handle(Event::Tick, at(60));
    assert_eq!(state(&control), HostState::Active, "it has a session");
    control.handle(Event::Disconnected { host: HOST }, at(60));
    let effects = control.handle(Event::Tick, at(61));
    assert_eq!(state(&control), HostState::Retired, "silent since minute 5");
    assert!(audited(&effects, "host expire"));
}

#[test]
fn after_a_restart_an_ephemeral_host_has_its_time_from_when_it_was_heard_of_last() {
    let mut control = Control::new(Policy::default(), T0);
    let effects = control.enrol(enrolment(HOST, "f1", Some(Millis::mins(10))), T0);
    let records: Vec<Record> = effects
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::Put(record) => Some(*record),
            _ => None,
        })
        .collect();
    let restart = T0 + Millis::mins(30);
    let mut control = Control::restore(Policy::default(), records, restart).unwrap();
    control.heard_before(HOST, T0 + Millis::mins(25));
    control.handle(Event::Tick, T0 + Millis::mins(31));
    assert_eq!(control.host_view(HOST).unwrap().state, HostState::Active);
    control.handle(Event::Tick, T0 + Millis::mins(36));
    assert_eq!(control.host_view(HOST).unwrap().state, HostState::Retired);
}
