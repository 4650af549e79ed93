//! A recorded session of protocol version 1 is answered today as it was then, and peers that are
//! newer than this server are understood as far as they can be.
//!
//! `proto/wire/tests/golden/install-1.txt` holds the frames as they went over the wire: `>` from the host, `<`
//! from the server. Of the server's frames the kind counts, and the nonce where there is one; the
//! number of the rollout is put in place of the recorded one.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Server, Session, act, envelope, hello};
use prost::Message;
use ringward_domain::observed::{
    AttemptObserved, Observed, PackageObserved, PhaseObserved, PrepareState, Preparing,
};
use ringward_domain::session::{
    Begin, Heartbeat, Hello, PROTOCOL, RequestGrant, ToAgent, ToServer,
};
use ringward_domain::signal::Signal;
use ringward_domain::{
    Assignment, AssignmentKind, Desired, Epoch, Generation, Millis, Nonce, PackageName, RolloutId,
    SignalSeq, Version,
};
use ringward_server::config::Engine;
use ringward_server::storage::RECORD_KINDS;
use ringward_store::{AnyStore, Batch, Committed, Key, Store as _};
use ringward_wire::pb::agent_frame::Body;
use ringward_wire::{pb, status};
use std::path::{Path, PathBuf};
use tonic::Code;

/// The rollout's number in the recording, as it stands in its bytes.
const RECORDED_ROLLOUT: u64 = 0x1122_3344_5566_7788;

fn fixture() -> PathBuf {
    // Replayed against the agent too.
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/wire/tests/golden/install-1.txt")
}

/// The frames as a host of version 1 sends them, and what it waits for in between.
/// `RINGWARD_RECORD=1` writes them anew; that is for a version 2 in a file of its own.
fn record() {
    let nonce = Nonce([5; 16]);
    let (rollout, release) = (
        RolloutId(RECORDED_ROLLOUT),
        envelope("1.0", b"content of 1.0").1,
    );
    let package: PackageName = "demo".parse().unwrap();
    let version: Version = "1.0".parse().unwrap();
    let look = |phase: Option<PhaseObserved>| {
        let on_it = phase.is_some().then_some(release);
        let committed = (phase == Some(PhaseObserved::Committed)).then_some(release);
        let observed = Observed {
            packages: vec![PackageObserved {
                package: package.clone(),
                running: on_it,
                running_version: on_it.map(|_| version.clone()),
                committed,
                committed_version: committed.map(|_| version.clone()),
            }],
            preparing: Some(Preparing {
                rollout,
                release,
                state: PrepareState::Ready,
            }),
            attempt: phase.map(|phase| AttemptObserved {
                nonce,
                rollout,
                package: package.clone(),
                release,
                phase,
            }),
            ..Observed::default()
        };
        ToServer::Observed(Box::new(observed))
    };
    let signal = Signal {
        at_boottime: Millis(900),
        ..common::signal(1)
    };
    let desired = |invited| {
        ToAgent::Desired(Box::new(Desired {
            epoch: Epoch(1),
            generation: Generation(1 + u64::from(invited)),
            assignments: vec![Assignment {
                rollout,
                kind: AssignmentKind::Install,
                package: package.clone(),
                release,
                version: version.clone(),
                soak: Millis::secs(1),
                verify_boot: false,
                invited,
            }],
            heartbeat: Millis::secs(1),
            bars: Vec::new(),
            lifted: Vec::new(),
            orders: Default::default(),
            stopped: false,
        }))
    };
    let request = RequestGrant {
        nonce,
        rollout,
        release,
    };
    let beat = Heartbeat {
        accepted: (Epoch(1), Generation(1)),
        boottime: Millis(6_000),
        soaked: Some((nonce, Millis(1_000))),
    };
    let life = Millis::secs(60);
    let soaked = Millis(1_000);
    let frames: Vec<(Option<ToServer>, Option<ToAgent>)> = vec![
        (Some(ToServer::Hello(Box::new(hello()))), None),
        (None, Some(ToAgent::Welcome { protocol: 1 })),
        (None, Some(desired(false))),
        (Some(ToServer::Signals(vec![signal])), None),
        (
            None,
            Some(ToAgent::SignalsDurable {
                through: SignalSeq(1),
            }),
        ),
        (Some(look(None)), None),
        (None, Some(desired(true))),
        (Some(ToServer::RequestGrant(request)), None),
        (None, Some(ToAgent::Grant { nonce, life })),
        (Some(ToServer::Begin(Begin { nonce })), None),
        (None, Some(ToAgent::Begun { nonce })),
        (Some(look(Some(PhaseObserved::Switching))), None),
        (Some(look(Some(PhaseObserved::Applied))), None),
        (Some(look(Some(PhaseObserved::Soaking { soaked }))), None),
        (Some(ToServer::Heartbeat(beat)), None),
        (Some(look(Some(PhaseObserved::Committed))), None),
    ];
    let mut text = String::from("# a host installs demo 1.0: protocol version 1\n");
    for (from_host, from_server) in frames {
        let (side, bytes) = match (from_host, from_server) {
            (Some(message), _) => (">", pb::AgentFrame::from(message).encode_to_vec()),
            (None, Some(message)) => ("<", pb::ServerFrame::from(message).encode_to_vec()),
            (None, None) => continue,
        };
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        text.push_str(&format!("{side} {digits}\n"));
    }
    std::fs::write(fixture(), text).unwrap();
}

fn recording() -> Vec<(bool, Vec<u8>)> {
    if std::env::var_os("RINGWARD_RECORD").is_some() {
        record();
    }
    let text = std::fs::read_to_string(fixture()).unwrap();
    let frame = |line: &str| {
        let (side, digits) = line.split_once(' ').unwrap();
        let bytes = (0..digits.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap())
            .collect();
        (side == ">", bytes)
    };
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(frame).collect()
}

fn replaced(mut bytes: Vec<u8>, rollout: u64) -> Vec<u8> {
    let (old, new) = (RECORDED_ROLLOUT.to_le_bytes(), rollout.to_le_bytes());
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(8).position(|window| window == old) {
        at += found;
        bytes[at..at + 8].copy_from_slice(&new);
        at += 8;
    }
    bytes
}

/// What counts of a server's frame.
fn essence(message: &ToAgent) -> String {
    match message {
        ToAgent::Welcome { protocol } => format!("welcome {protocol}"),
        ToAgent::Desired(desired) => {
            let first = desired.assignments.first();
            format!(
                "desired {:?}",
                first.map(|first| (first.kind, first.invited))
            )
        }
        ToAgent::Grant { nonce, .. } => format!("grant {nonce}"),
        ToAgent::Begun { nonce } => format!("begun {nonce}"),
        ToAgent::SignalsDurable { through } => format!("durable {through}"),
        other => format!("{other:?}"),
    }
}

/// A field that no version has yet.
fn with_unknown_field(frame: &mut Vec<u8>) {
    // Field 500, length-delimited, three bytes.
    frame.extend_from_slice(&[0xa2, 0x1f, 0x03, 1, 2, 3]);
}

async fn replay(newer: bool) -> Server {
    let server = Server::start(Engine::Sled).await;
    let host = server.enrol(&server.token(1).await).await.unwrap();
    let release = server.publish("1.0").await;
    let start = pb::StartRequest {
        act: act("go"),
        release: release.0.to_vec(),
    };
    let started = server.rollouts().await.start(start).await.unwrap();
    let rollout = started.into_inner().rollout.unwrap();
    let mut frames = recording().into_iter();
    let sent = |bytes| {
        let mut bytes = replaced(bytes, rollout);
        if newer {
            with_unknown_field(&mut bytes);
        }
        pb::AgentFrame::decode(bytes.as_slice()).unwrap()
    };
    let (_, first) = frames.next().unwrap();
    let mut session = open(&server, &host, sent(first)).await;
    for (from_host, bytes) in frames {
        if from_host {
            session.out.send(sent(bytes)).await.unwrap();
            if newer {
                // A kind of frame that this server has never heard of.
                let unknown = pb::AgentFrame::decode(&[0xa2, 0x1f, 0x01, 7][..]).unwrap();
                assert!(unknown.body.is_none());
                session.out.send(unknown).await.unwrap();
            }
            continue;
        }
        let frame = pb::ServerFrame::decode(replaced(bytes, rollout).as_slice()).unwrap();
        let wanted = essence(&ToAgent::try_from(frame).unwrap());
        // Who is invited was assigned before that.
        let came = |message: &ToAgent| {
            let came = essence(message);
            (came == wanted || came == wanted.replace("false", "true")).then_some(())
        };
        session.until(came).await;
    }
    let done = async {
        let request = || pb::GetRolloutRequest { rollout };
        let mut rollouts = server.rollouts().await;
        loop {
            let view = rollouts.get(request()).await.unwrap().into_inner();
            if view.state() == pb::RolloutState::Completed {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), done)
        .await
        .expect("the recorded host is confirmed");
    server
}

async fn open(server: &Server, host: &common::Host, hello: pb::AgentFrame) -> Session {
    let Some(Body::Hello(hello)) = hello.body else {
        panic!("a session begins with hello")
    };
    let hello = Hello::try_from(hello).unwrap();
    server.session(host, hello).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorded_session_of_protocol_1_installs_a_release_today() {
    let server = replay(false).await;
    if std::env::var_os("RINGWARD_RECORD").is_some() {
        record_records(server).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_host_with_fields_and_frames_of_its_own_installs_it_too() {
    replay(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_is_not_spoken_is_refused_with_what_to_do() {
    let server = Server::start(Engine::Mem).await;
    let host = server.enrol(&server.token(1).await).await.unwrap();
    for (min, max, next) in [
        (PROTOCOL + 1, PROTOCOL + 3, "update the server"),
        (0, 0, "update the agent"),
    ] {
        let other = Hello {
            protocol_min: min,
            protocol_max: max,
            ..hello()
        };
        let refused = server.session(&host, other).await.err().unwrap();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert_eq!(status::next(&refused).as_deref(), Some(next));
    }
}

fn records() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded/records-1.txt")
}

async fn store_of(server: &mut Server) -> AnyStore {
    server.running.take().unwrap().stop().await.unwrap();
    AnyStore::sled(&server.config.data.store(), Default::default()).unwrap()
}

/// What a server has written after that session: one line a record, its kind, its id, its JSON.
async fn record_records(mut server: Server) {
    let store = store_of(&mut server).await;
    let mut text = String::from("# after one host installed demo 1.0: records of format 1\n");
    for kind in RECORD_KINDS {
        for (key, value) in store.list(kind, None, 1_000).await.unwrap() {
            let id: String = key.id.iter().map(|byte| format!("{byte:02x}")).collect();
            let json = String::from_utf8(value.value).unwrap();
            text.push_str(&format!("{kind} {id} {json}\n"));
        }
    }
    std::fs::write(records(), text).unwrap();
}

/// Every object of a JSON text gets a field that no version has yet.
fn with_unknown_fields(value: &mut serde_json::Value, depth: usize) {
    match value {
        serde_json::Value::Object(fields) => {
            let inner = fields.values_mut();
            inner.for_each(|value| with_unknown_fields(value, depth + 1));
            // The outermost names the kind of the record, and nothing else.
            if depth == 1 {
                fields.insert("of_a_later_version".to_owned(), 7.into());
            }
        }
        serde_json::Value::Array(items) => {
            let items = items.iter_mut();
            items.for_each(|value| with_unknown_fields(value, depth + 1));
        }
        _ => {}
    }
}

async fn restored(newer: bool) {
    let mut server = Server::start(Engine::Sled).await;
    let store = store_of(&mut server).await;
    let text = std::fs::read_to_string(records()).unwrap();
    let mut puts = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let [kind, id, json] = line.splitn(3, ' ').collect::<Vec<_>>().try_into().unwrap();
        let pairs = (0..id.len()).step_by(2);
        let id = pairs.map(|at| u8::from_str_radix(&id[at..at + 2], 16).unwrap());
        let mut value: serde_json::Value = serde_json::from_str(json).unwrap();
        if newer {
            with_unknown_fields(&mut value, 0);
        }
        let key = Key::read(kind, id.collect()).unwrap();
        puts.push((key, value.to_string().into_bytes()));
    }
    assert!(puts.len() >= 5, "{} records", puts.len());
    let batch = Batch {
        request_id: [1; 16],
        puts,
        ..Batch::default()
    };
    assert!(matches!(
        store.commit(batch).await.unwrap(),
        Committed::Ok(_)
    ));
    drop(store);
    server.running = Some(ringward_server::start(server.config.clone()).await.unwrap());
    let listed = server
        .rollouts()
        .await
        .list(pb::ListRolloutsRequest::default())
        .await
        .unwrap()
        .into_inner();
    let states: Vec<_> = listed.rollouts.iter().map(|view| view.state()).collect();
    assert_eq!(states, [pb::RolloutState::Completed]);
    let hosts = server
        .fleet()
        .await
        .list_hosts(pb::ListHostsRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(hosts.hosts.len(), 1);
    // It goes on from there: the same release again changes nothing, the next one is taken.
    server.publish("1.0").await;
    server.publish("1.1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_format_1_are_restored_and_gone_on_with() {
    restored(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_a_later_version_with_more_fields_are_restored_too() {
    restored(true).await;
}
