//! What is refused, what is clipped, and what is skipped.
#![allow(clippy::unwrap_used)]

use prost::Message;
use ringward_domain::command::Outcome;
use ringward_domain::host::{Arch, Facts, GuardTier, Os};
use ringward_domain::limits::*;
use ringward_domain::session::{ToAgent, ToServer};
use ringward_domain::signal::{Signal, SignalKind};
use ringward_domain::{BootId, HostId, Millis, SignalSeq};
use ringward_wire::error::Fault;
use ringward_wire::{DecodeError, pb, session};

fn signal(seq: u64) -> Signal {
    Signal {
        seq: SignalSeq(seq),
        kind: SignalKind::CrashLoop,
        key: "unit:demo".into(),
        boot: BootId([1; 16]),
        at_boottime: Millis(5),
        release: None,
        title: "demo.service restarted 5 times".into(),
        signature: "crash-loop demo.service".into(),
        evidence: "{}".into(),
    }
}

fn read(body: pb::agent_frame::Body) -> Result<ToServer, DecodeError> {
    ToServer::try_from(pb::AgentFrame { body: Some(body) })
}

fn facts() -> pb::Facts {
    Facts {
        hostname: "till-7".into(),
        os: Os::Linux,
        os_build: "Debian 12".into(),
        arch: Arch::X86_64,
        kernel: "6.1.0".into(),
        model: String::new(),
        fingerprint: String::new(),
        memory_mib: 2048,
        cpus: 2,
        guard_tier: GuardTier::Service,
    }
    .into()
}

fn hello() -> pb::Hello {
    pb::Hello {
        protocol_min: 1,
        protocol_max: 1,
        boot: vec![1; 16],
        agent_start: vec![2; 16],
        accepted: Some(pb::Accepted::default()),
        next_signal: 1,
        facts: Some(facts()),
        observed: Some(pb::Observed::default()),
        ..pb::Hello::default()
    }
}

#[test]
fn too_many_signals_are_refused_by_count() {
    let signals = (1..=65).map(|seq| signal(seq).into()).collect();
    let error = read(pb::agent_frame::Body::Signals(pb::Signals { signals })).unwrap_err();
    assert_eq!(
        error.to_string(),
        "signals: has 65 elements, at most 64 are allowed"
    );
}

#[test]
fn an_error_names_the_field_through_lists_and_messages() {
    let mut bad: pb::Signal = signal(2).into();
    bad.boot = vec![1; 15];
    let signals = vec![signal(1).into(), bad];
    let error = read(pb::agent_frame::Body::Signals(pb::Signals { signals })).unwrap_err();
    assert_eq!(error.to_string(), "signals[1].boot: needs exactly 16 bytes");
    assert!(!error.is_unknown());
}

#[test]
fn a_hello_beyond_its_limits_is_refused_by_field() {
    type Spoil = fn(&mut pb::Hello);
    let spoiled: [(&str, Spoil); 8] = [
        ("hello.facts", |h| h.facts = None),
        ("hello.facts.os", |h| h.facts.as_mut().unwrap().os = 0),
        ("hello.facts.kernel", |h| {
            h.facts.as_mut().unwrap().kernel = "x".repeat(LABEL_BYTES_MAX + 1);
        }),
        ("hello.boot", |h| h.boot.clear()),
        ("hello.capabilities", |h| {
            h.capabilities = vec![String::new(); 33]
        }),
        ("hello.observed.bars", |h| {
            h.observed.as_mut().unwrap().bars = vec![vec![0; 32]; BARS_MAX + 1];
        }),
        ("hello.observed.packages[0].package", |h| {
            h.observed.as_mut().unwrap().packages = vec![pb::PackageObserved {
                package: "../etc".into(),
                ..pb::PackageObserved::default()
            }];
        }),
        ("hello.accepted", |h| h.accepted = None),
    ];
    assert!(read(pb::agent_frame::Body::Hello(hello())).is_ok());
    for (field, spoil) in spoiled {
        let mut hello = hello();
        spoil(&mut hello);
        let error = read(pb::agent_frame::Body::Hello(hello)).unwrap_err();
        assert_eq!(error.field, field, "{error}");
    }
}

#[test]
fn values_of_a_newer_peer_are_told_from_broken_ones() {
    // A frame whose body has a number of the future: field 99, one byte long.
    let frame = pb::ServerFrame::decode([0x9a, 0x06, 0x01, 0x00].as_slice()).unwrap();
    assert!(ToAgent::try_from(frame).unwrap_err().is_unknown());
    let mut newer = hello();
    newer.facts.as_mut().unwrap().os = 77;
    let error = read(pb::agent_frame::Body::Hello(newer)).unwrap_err();
    assert_eq!(error.why, Fault::Unknown { value: 77 });
    assert!(error.is_unknown());
}

#[test]
fn a_kind_of_signal_of_the_future_is_kept() {
    let mut newer: pb::Signal = signal(1).into();
    newer.kind = 4711;
    let read = Signal::try_from(newer).unwrap();
    assert_eq!(read.kind, SignalKind::Unknown(4711));
    assert_eq!(pb::Signal::from(read).kind, 4711);
}

#[test]
fn two_assignments_of_one_package_are_refused() {
    let assignment = pb::Assignment {
        kind: 1,
        package: "demo".into(),
        release: vec![1; 32],
        version: "1.0".into(),
        ..pb::Assignment::default()
    };
    let desired = pb::Desired {
        assignments: vec![assignment.clone(), assignment],
        heartbeat_ms: 1000,
        ..pb::Desired::default()
    };
    let body = Some(pb::server_frame::Body::Desired(desired));
    let error = ToAgent::try_from(pb::ServerFrame { body }).unwrap_err();
    assert_eq!(error.field, "desired.assignments");
}

#[test]
fn an_honest_sender_is_clipped_not_refused() {
    let mut long = signal(1);
    long.title = "ä".repeat(TITLE_BYTES_MAX);
    long.evidence = "x".repeat(2 * EVIDENCE_BYTES_MAX);
    let read = Signal::try_from(pb::Signal::from(long)).unwrap();
    assert_eq!(read.title.len(), TITLE_BYTES_MAX);
    assert_eq!(read.evidence.len(), EVIDENCE_BYTES_MAX);
}

#[test]
fn the_signals_said_to_fit_fill_a_frame_and_never_more() {
    let mut large = signal(1);
    large.evidence = "x".repeat(EVIDENCE_BYTES_MAX);
    let signals = vec![large; 64];
    let count = session::signals_that_fit(&signals);
    assert!((14..64).contains(&count), "{count}");
    let frame = pb::AgentFrame::from(ToServer::Signals(signals[..count].to_vec()));
    assert!(frame.encoded_len() <= session::FRAME_BYTES_MAX);
    assert_eq!(session::signals_that_fit(&vec![signal(1); 100]), 64);
    assert_eq!(session::signals_that_fit(&[]), 0);
}

#[test]
fn hosts_left_out_beyond_the_list_are_counted_in_words() {
    let outcome = Outcome {
        summary: "would expose 10".into(),
        rollout: None,
        hosts: Vec::new(),
        left_out: (0..1500).map(|i| (HostId(i), "frozen".into())).collect(),
        warnings: Vec::new(),
        order: None,
        approval: None,
    };
    let read = Outcome::try_from(pb::Outcome::from(outcome)).unwrap();
    assert_eq!(read.left_out.len(), 1000);
    assert!(read.warnings[0].starts_with("500 more hosts"));
}

#[test]
fn the_largest_messages_keep_within_a_frame() {
    let package = "p".repeat(100);
    let version = "1".repeat(100);
    let observed = pb::Observed {
        packages: vec![
            pb::PackageObserved {
                package: package.clone(),
                running: Some(vec![1; 32]),
                running_version: Some(version.clone()),
                committed: Some(vec![1; 32]),
                committed_version: Some(version.clone()),
            };
            PACKAGES_MAX
        ],
        bars: vec![vec![1; 32]; BARS_MAX],
        orders: Some(pb::OrdersObserved {
            escapes: vec!["e".repeat(LABEL_BYTES_MAX); ESCAPES_MAX],
            once: vec![
                pb::OrderObserved {
                    order: u64::MAX,
                    state: Some(pb::order_observed::State::Refused(1)),
                };
                ORDERS_MAX
            ],
            ..pb::OrdersObserved::default()
        }),
        ..pb::Observed::default()
    };
    let mut large = hello();
    large.capabilities = vec!["c".repeat(LABEL_BYTES_MAX); session::CAPABILITIES_MAX];
    large.observed = Some(observed);
    assert!(
        large.encoded_len() < session::FRAME_BYTES_MAX,
        "{}",
        large.encoded_len()
    );
    let desired = pb::Desired {
        assignments: vec![
            pb::Assignment {
                package,
                version,
                release: vec![1; 32],
                soak_ms: u64::MAX,
                ..pb::Assignment::default()
            };
            PACKAGES_MAX
        ],
        bars: vec![vec![1; 32]; BARS_MAX],
        lifted: vec![vec![1; 32]; BARS_MAX],
        orders: Some(largest_orders()),
        ..pb::Desired::default()
    };
    let len = desired.encoded_len();
    assert!(len < session::FRAME_BYTES_MAX, "{len}");
}

fn largest_orders() -> pb::OrdersDesired {
    let warrant = pb::Warrant {
        origin: 1,
        not_after_unix_ms: u64::MAX,
        targets: Some(pb::OrderTargets {
            count: u64::MAX,
            root: vec![1; 32],
            index: u64::MAX,
            proof: vec![vec![1; 32]; TARGET_PROOF_MAX],
        }),
        endorsements: vec![
            pb::Signature {
                key: vec![1; 32],
                signature: vec![1; 64],
            };
            ENDORSEMENTS_MAX
        ],
    };
    pb::OrdersDesired {
        containment: Some(pb::Containment {
            wanted: Some(pb::containment::Wanted::Quarantined(pb::Quarantine {
                order: u64::MAX,
                allow: vec!["tcp/65535@ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".into(); ALLOW_MAX],
                life_ms: Some(u64::MAX),
                warrant: Some(warrant.clone()),
            })),
        }),
        frozen: true,
        pins: vec!["p".repeat(LABEL_BYTES_MAX); PINS_MAX],
        once: vec![
            pb::Order {
                id: u64::MAX,
                act: 1,
                warrant: Some(warrant),
            };
            ORDERS_MAX
        ],
    }
}
