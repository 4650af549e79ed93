//! The bytes of every session message, held fast: peers of other versions read and write them. When
//! a change is meant, `RINGWARD_BLESS=1 cargo test -p ringward-wire --test golden` writes them anew.
#![allow(clippy::unwrap_used)]

use prost::Message;
use ringward_domain::desired::{Assignment, AssignmentKind, Desired};
use ringward_domain::host::{Arch, Facts, GuardTier, Os};
use ringward_domain::ids::*;
use ringward_domain::ledger::{FailWhy, NotSwitchedWhy, RevertWhy};
use ringward_domain::observed::*;
use ringward_domain::report::{RolloutState, WaitWhy};
use ringward_domain::session::*;
use ringward_domain::signal::{Signal, SignalKind};
use ringward_domain::{Absence, AuditHead, AuditShown, Millis};
use ringward_wire::pb;
use std::fmt::Write;
use std::path::{Path, PathBuf};

const NONCE: Nonce = Nonce([0xa1; 16]);
const ROLLOUT: RolloutId = RolloutId(0x0102_0304_0506_0708);
const RELEASE: ReleaseDigest = ReleaseDigest([0xb2; 32]);

fn observed(phase: PhaseObserved) -> Observed {
    Observed {
        packages: vec![PackageObserved {
            package: "demo".parse().unwrap(),
            running: Some(RELEASE),
            running_version: Some("1.1".parse().unwrap()),
            committed: Some(ReleaseDigest([0xb1; 32])),
            committed_version: Some("1.0".parse().unwrap()),
        }],
        preparing: Some(Preparing {
            rollout: ROLLOUT,
            release: RELEASE,
            state: PrepareState::Refused(RefuseWhy::Signature),
        }),
        attempt: Some(AttemptObserved {
            nonce: NONCE,
            rollout: ROLLOUT,
            package: "demo".parse().unwrap(),
            release: RELEASE,
            phase,
        }),
        bars: vec![ReleaseDigest([0xb3; 32])],
        orders: Default::default(),
    }
}

fn hello() -> ToServer {
    ToServer::Hello(Box::new(Hello {
        protocol_min: 1,
        protocol_max: 1,
        capabilities: vec!["guard".into()],
        agent_version: "0.1.0".into(),
        boot: BootId([0xc1; 16]),
        agent_start: AgentStart([0xc2; 16]),
        boottime: Millis(123_456),
        last_stop_clean: Some(false),
        accepted: (Epoch(1), Generation(42)),
        next_signal: SignalSeq(7),
        facts: Facts {
            hostname: "till-7".into(),
            os: Os::Linux,
            os_build: "Debian 12".into(),
            arch: Arch::X86_64,
            kernel: "6.1.0-28-amd64".into(),
            model: "KVM".into(),
            fingerprint: "f1".into(),
            memory_mib: 2048,
            cpus: 2,
            guard_tier: GuardTier::Service,
        },
        observed: observed(PhaseObserved::Soaking {
            soaked: Millis(3000),
        }),
    }))
}

fn from_agents() -> Vec<(&'static str, ToServer)> {
    let beat = |soaked| {
        ToServer::Heartbeat(Heartbeat {
            accepted: (Epoch(1), Generation(42)),
            boottime: Millis(123_456),
            soaked,
        })
    };
    let signal = Signal {
        seq: SignalSeq(7),
        kind: SignalKind::KernelPanic,
        key: "boot:c1".into(),
        boot: BootId([0xc1; 16]),
        at_boottime: Millis(99),
        release: Some(RELEASE),
        title: "kernel panic".into(),
        signature: "panic:foo+0x1".into(),
        evidence: "{\"cpu\":0}".into(),
    };
    let look = |phase| ToServer::Observed(Box::new(observed(phase)));
    vec![
        ("hello", hello()),
        ("heartbeat", beat(None)),
        ("heartbeat-soaking", beat(Some((NONCE, Millis(1500))))),
        ("signals", ToServer::Signals(vec![signal])),
        ("observed-switching", look(PhaseObserved::Switching)),
        ("observed-applied", look(PhaseObserved::Applied)),
        ("observed-rebooting", look(PhaseObserved::Rebooting)),
        ("observed-committed", look(PhaseObserved::Committed)),
        (
            "observed-reverted",
            look(PhaseObserved::Reverted(RevertWhy::BadBoots)),
        ),
        (
            "observed-failed",
            look(PhaseObserved::Failed(FailWhy::Disk)),
        ),
        (
            "observed-not-switched",
            look(PhaseObserved::NotSwitched(NotSwitchedWhy::NoBegun)),
        ),
        (
            "request-grant",
            ToServer::RequestGrant(RequestGrant {
                nonce: NONCE,
                rollout: ROLLOUT,
                release: RELEASE,
            }),
        ),
        ("begin", ToServer::Begin(Begin { nonce: NONCE })),
        ("absent", ToServer::Absent(Absence::PowerOff)),
        ("audit-known", ToServer::AuditKnown { size: 5 }),
    ]
}

fn from_server() -> Vec<(&'static str, ToAgent)> {
    let desired = Desired {
        epoch: Epoch(1),
        generation: Generation(43),
        assignments: vec![Assignment {
            rollout: ROLLOUT,
            kind: AssignmentKind::Rollback,
            package: "demo".parse().unwrap(),
            release: RELEASE,
            version: "1.0".parse().unwrap(),
            soak: Millis::mins(15),
            verify_boot: true,
            invited: true,
        }],
        bars: vec![ReleaseDigest([0xb3; 32])],
        lifted: vec![ReleaseDigest([0xb4; 32])],
        heartbeat: Millis::secs(10),
        orders: Default::default(),
        stopped: false,
    };
    let wait = |why| ToAgent::Wait {
        nonce: NONCE,
        why,
        retry_after: Millis::secs(30),
    };
    vec![
        ("welcome", ToAgent::Welcome { protocol: 1 }),
        ("desired", ToAgent::Desired(Box::new(desired))),
        (
            "grant",
            ToAgent::Grant {
                nonce: NONCE,
                life: Millis::secs(60),
            },
        ),
        ("wait", wait(WaitWhy::WindowFull)),
        ("wait-away", wait(WaitWhy::Away(Absence::Suspend))),
        (
            "wait-halted",
            wait(WaitWhy::NotRunning(RolloutState::Halted)),
        ),
        ("begun", ToAgent::Begun { nonce: NONCE }),
        (
            "begin-refused",
            ToAgent::BeginRefused {
                nonce: NONCE,
                why: BeginRefusal::OtherBoot,
            },
        ),
        (
            "signals-durable",
            ToAgent::SignalsDurable {
                through: SignalSeq(7),
            },
        ),
        (
            "come-back",
            ToAgent::ComeBack {
                after: Millis::secs(5),
            },
        ),
        (
            "audit-head",
            ToAgent::AuditHead(Box::new(AuditShown {
                head: AuditHead {
                    size: 9,
                    root: Sha256([0xd1; 32]),
                },
                from: 5,
                proof: vec![Sha256([0xd2; 32]), Sha256([0xd3; 32])],
            })),
        ),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/session-1.txt")
}

/// The bytes that a message of this name had when protocol version 1 was fixed.
fn golden(name: &str) -> Vec<u8> {
    let text = std::fs::read_to_string(fixture()).unwrap();
    let digits = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .unwrap_or_else(|| panic!("{name} is not in the fixture"));
    (0..digits.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap())
        .collect()
}

#[test]
fn the_bytes_of_session_messages_stay_as_they_are() {
    let agents = from_agents()
        .into_iter()
        .map(|(name, m)| (name, pb::AgentFrame::from(m).encode_to_vec()));
    let server = from_server()
        .into_iter()
        .map(|(name, m)| (name, pb::ServerFrame::from(m).encode_to_vec()));
    let now: String = agents
        .chain(server)
        .map(|(name, bytes)| format!("{name} {}\n", hex(&bytes)))
        .collect();
    if std::env::var_os("RINGWARD_BLESS").is_some() {
        std::fs::create_dir_all(fixture().parent().unwrap()).unwrap();
        std::fs::write(fixture(), &now).unwrap();
    }
    let golden = std::fs::read_to_string(fixture()).unwrap();
    for (was, is) in golden.lines().zip(now.lines()) {
        assert_eq!(was, is);
    }
    assert_eq!(golden.lines().count(), now.lines().count());
}

#[test]
fn the_golden_bytes_read_as_the_messages_they_were() {
    for (name, message) in from_agents() {
        let frame = pb::AgentFrame::decode(golden(name).as_slice()).unwrap();
        assert_eq!(ToServer::try_from(frame).unwrap(), message, "{name}");
    }
    for (name, message) in from_server() {
        let frame = pb::ServerFrame::decode(golden(name).as_slice()).unwrap();
        assert_eq!(ToAgent::try_from(frame).unwrap(), message, "{name}");
    }
}
