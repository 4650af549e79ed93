//! A host walks a rollout over real gRPC and TLS; the server halts, restarts and runs out of disk.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Host, Server, Session, act, hello};
use ringward_domain::observed::{
    AttemptObserved, Observed, PackageObserved, PhaseObserved, PrepareState, Preparing,
};
use ringward_domain::session::{Begin, Heartbeat, RequestGrant, ToAgent, ToServer};
use ringward_domain::signal::{Signal, SignalKind};
use ringward_domain::{Assignment, Epoch, Generation, Millis, Nonce, ReleaseDigest, RolloutId};
use ringward_server::config::Engine;
use ringward_store::{AnyStore, Disk, Options, OsDisk, Store};
use ringward_wire::pb::agent_service_client::AgentServiceClient;
use ringward_wire::{pb, status};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const NONCE: Nonce = Nonce([5; 16]);

async fn begin_rollout(server: &Server, release: ReleaseDigest) -> RolloutId {
    let outcome = server
        .rollouts()
        .await
        .start(pb::StartRequest {
            act: act("go"),
            release: release.0.to_vec(),
        })
        .await
        .unwrap()
        .into_inner();
    RolloutId(outcome.rollout.unwrap())
}

async fn rollout(server: &Server, id: RolloutId) -> pb::RolloutView {
    let request = pb::GetRolloutRequest { rollout: id.0 };
    let answer = server.rollouts().await.get(request).await;
    answer.unwrap().into_inner()
}

/// Asks again until the rollout is as `wanted`.
async fn until(
    server: &Server,
    id: RolloutId,
    wanted: impl Fn(&pb::RolloutView) -> bool,
) -> pb::RolloutView {
    let mut rollouts = server.rollouts().await;
    let seen = async {
        loop {
            let request = pb::GetRolloutRequest { rollout: id.0 };
            let view = rollouts.get(request).await.unwrap().into_inner();
            if wanted(&view) {
                return view;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), seen)
        .await
        .expect("the rollout gets there")
}

fn is_state(view: &pb::RolloutView, state: pb::RolloutState) -> bool {
    view.state == state as i32
}

fn assigned(message: &ToAgent, invited: bool) -> Option<Assignment> {
    let ToAgent::Desired(desired) = message else {
        return None;
    };
    let first = desired.assignments.first()?;
    (first.invited || !invited).then(|| first.clone())
}

fn observed(assignment: &Assignment, phase: Option<PhaseObserved>) -> Observed {
    let on_it = phase.is_some();
    let committed = phase == Some(PhaseObserved::Committed);
    Observed {
        packages: vec![PackageObserved {
            package: assignment.package.clone(),
            running: on_it.then_some(assignment.release),
            running_version: on_it.then(|| assignment.version.clone()),
            committed: committed.then_some(assignment.release),
            committed_version: committed.then(|| assignment.version.clone()),
        }],
        preparing: Some(Preparing {
            rollout: assignment.rollout,
            release: assignment.release,
            state: PrepareState::Ready,
        }),
        attempt: phase.map(|phase| AttemptObserved {
            nonce: NONCE,
            rollout: assignment.rollout,
            package: assignment.package.clone(),
            release: assignment.release,
            phase,
        }),
        bars: Vec::new(),
        orders: Default::default(),
    }
}

async fn report(session: &Session, assignment: &Assignment, phase: Option<PhaseObserved>) {
    let observed = observed(assignment, phase);
    session.send(ToServer::Observed(Box::new(observed))).await;
}

/// Fetches and verifies what is assigned, asks for a grant and begins.
async fn begin(server: &Server, host: &Host, session: &mut Session) -> Assignment {
    let assignment = session.until(|m| assigned(m, false)).await;
    let mut agent = AgentServiceClient::new(server.channel(host).await.unwrap());
    let release = agent
        .get_release(pb::GetReleaseRequest {
            release: assignment.release.0.to_vec(),
        })
        .await
        .unwrap()
        .into_inner();
    assert!(!release.envelope.unwrap().signatures.is_empty());
    report(session, &assignment, None).await;
    let assignment = session.until(|m| assigned(m, true)).await;
    let request = RequestGrant {
        nonce: NONCE,
        rollout: assignment.rollout,
        release: assignment.release,
    };
    session.send(ToServer::RequestGrant(request)).await;
    session
        .until(|m| matches!(m, ToAgent::Grant { nonce, .. } if *nonce == NONCE).then_some(()))
        .await;
    session.send(ToServer::Begin(Begin { nonce: NONCE })).await;
    session
        .until(|m| matches!(m, ToAgent::Begun { nonce } if *nonce == NONCE).then_some(()))
        .await;
    assignment
}

/// Soaks in full, heartbeats included.
async fn soak(session: &Session, assignment: &Assignment) {
    report(session, assignment, Some(PhaseObserved::Applied)).await;
    let mut beat = tokio::time::interval(Duration::from_millis(250));
    for quarter in 0..8 {
        beat.tick().await;
        let soaked = Millis(quarter * 250);
        report(session, assignment, Some(PhaseObserved::Soaking { soaked })).await;
        let heartbeat = Heartbeat {
            accepted: (Epoch(1), Generation(u64::MAX / 2)),
            boottime: Millis(5_000 + quarter * 250),
            soaked: Some((NONCE, soaked)),
        };
        session.send(ToServer::Heartbeat(heartbeat)).await;
    }
    report(session, assignment, Some(PhaseObserved::Committed)).await;
}

fn signal(seq: u64, release: Option<ReleaseDigest>, kind: SignalKind) -> Signal {
    Signal {
        kind,
        at_boottime: Millis(6_000),
        release,
        title: "demo.service restarts again and again".to_owned(),
        signature: "crash-loop demo.service".to_owned(),
        ..common::signal(seq)
    }
}

async fn enrolled(server: &Server) -> (Host, Session) {
    let token = server.token(1).await;
    let host = server.enrol(&token).await.unwrap();
    let session = server.session(&host, hello()).await.unwrap();
    (host, session)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_walks_from_publication_to_confirmed() {
    let server = Server::start(Engine::Mem).await;
    let (host, mut session) = enrolled(&server).await;
    let release = server.publish("1.0").await;
    let id = begin_rollout(&server, release).await;
    let assignment = begin(&server, &host, &mut session).await;
    let view = rollout(&server, id).await;
    assert_eq!(view.rings[0].in_flight, 1);
    soak(&session, &assignment).await;
    let view = until(&server, id, |v| is_state(v, pb::RolloutState::Completed)).await;
    assert_eq!(view.rings[0].confirmed, 1);
    assert_eq!(view.started_by, "ada");
    let members = server
        .rollouts()
        .await
        .members(pb::MembersRequest {
            rollout: id.0,
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(members.members.len(), 1);
    assert_eq!(members.members[0].host, host.id.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_artefact_comes_whole_and_from_any_offset() {
    let server = Server::start(Engine::Mem).await;
    let (host, _session) = enrolled(&server).await;
    server.publish("1.0").await;
    let content = b"content of 1.0";
    let mut agent = AgentServiceClient::new(server.channel(&host).await.unwrap());
    for offset in [0, 8, content.len() as u64] {
        let mut chunks = agent
            .fetch_artifact(pb::FetchArtifactRequest {
                sha256: ringward_wire::token::sha256(content).0.to_vec(),
                offset,
            })
            .await
            .unwrap()
            .into_inner();
        let mut got = Vec::new();
        while let Some(chunk) = chunks.message().await.unwrap() {
            assert_eq!(chunk.offset, offset + got.len() as u64);
            got.extend(chunk.data);
        }
        assert_eq!(got, content[offset as usize..]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_halt_the_rollout_and_the_time_to_halt_is_told() {
    let server = Server::start(Engine::Sled).await;
    let token = server.token(3).await;
    let mut hosts = Vec::new();
    for _ in 0..3 {
        let host = server.enrol(&token).await.unwrap();
        let session = server.session(&host, hello()).await.unwrap();
        hosts.push((host, session));
    }
    let release = server.publish("1.0").await;
    let id = begin_rollout(&server, release).await;
    // Hosts are invited one after another; each fails until the rollout stops.
    let mut failing = Vec::new();
    for (host, mut session) in hosts {
        let server_ref = &server;
        failing.push(async move {
            let assignment = begin(server_ref, &host, &mut session).await;
            report(&session, &assignment, Some(PhaseObserved::Applied)).await;
            let kind = SignalKind::CrashLoop;
            let signals = vec![signal(1, Some(assignment.release), kind)];
            session.send(ToServer::Signals(signals)).await;
            // The session stays open until the test ends.
            std::future::pending::<()>().await;
        });
    }
    let [a, b, c] = <[_; 3]>::try_from(failing).ok().unwrap();
    let view = tokio::select! {
        _ = async { tokio::join!(a, b, c) } => unreachable!("hosts wait for ever"),
        view = until(&server, id, |v| v.evidence_to_halt_ms.is_some()) => view,
    };
    println!("evidence to halt: {:?} ms", view.evidence_to_halt_ms);
    assert!(is_state(&view, pb::RolloutState::Halted), "{view:?}");
    assert!(!view.state_reason.is_empty());
    assert!(!view.failed_hosts.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_are_acknowledged_when_durable_and_counted_once() {
    let mut server = Server::start(Engine::Sled).await;
    let (host, mut session) = enrolled(&server).await;
    let signals: Vec<_> = (1..=3)
        .map(|seq| signal(seq, None, SignalKind::OomKill))
        .collect();
    for _ in 0..2 {
        session.send(ToServer::Signals(signals.clone())).await;
        session
            .until(|m| match m {
                ToAgent::SignalsDurable { through } => (through.0 == 3).then_some(()),
                _ => None,
            })
            .await;
    }
    drop(session);
    server.restart().await;
    let mut fleet = server.fleet().await;
    let status = fleet
        .status(pb::StatusRequest {
            count_signals: true,
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(status.signals_stored, Some(3));
    let shown = fleet
        .get_host(pb::GetHostRequest { host: host.id.0 })
        .await
        .unwrap()
        .into_inner();
    let seqs: Vec<_> = shown.signals.iter().map(|s| s.seq).collect();
    assert_eq!(seqs, [3, 2, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_hosts_tokens_releases_rollouts_and_exposures() {
    let mut server = Server::start(Engine::Sled).await;
    let (host, mut session) = enrolled(&server).await;
    let unused = server.token(1).await;
    let release = server.publish("1.0").await;
    let id = begin_rollout(&server, release).await;
    let assignment = begin(&server, &host, &mut session).await;
    report(&session, &assignment, Some(PhaseObserved::Applied)).await;
    let clock = |status: pb::StatusResponse| status.fleet_clock_ms;
    let asked = pb::StatusRequest::default();
    let before = server
        .fleet()
        .await
        .status(asked)
        .await
        .unwrap()
        .into_inner();
    server.restart().await;
    let after = server
        .fleet()
        .await
        .status(asked)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(after.hosts, 1);
    let passed = clock(after).abs_diff(clock(before));
    assert!(
        passed < 4_000,
        "the fleet clock goes on where it was: {passed}"
    );
    session.ended().await;
    let hello = ringward_domain::session::Hello {
        observed: observed(&assignment, Some(PhaseObserved::Applied)),
        ..hello()
    };
    let session = server.session(&host, hello).await.unwrap();
    soak(&session, &assignment).await;
    let view = until(&server, id, |v| is_state(v, pb::RolloutState::Completed)).await;
    assert_eq!(view.rings[0].confirmed, 1);
    assert!(server.enrol(&unused).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_asked_to_come_back_when_the_server_stops() {
    let mut server = Server::start(Engine::Mem).await;
    let (_host, mut session) = enrolled(&server).await;
    session
        .until(|m| matches!(m, ToAgent::Welcome { .. }).then_some(()))
        .await;
    let running = server.running.take().unwrap();
    let (stopped, ()) = tokio::join!(
        running.stop(),
        session.until(|m| matches!(m, ToAgent::ComeBack { .. }).then_some(()))
    );
    stopped.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_session_of_a_host_wins() {
    let server = Server::start(Engine::Mem).await;
    let (host, mut old) = enrolled(&server).await;
    old.until(|m| matches!(m, ToAgent::Welcome { .. }).then_some(()))
        .await;
    let mut new = server.session(&host, hello()).await.unwrap();
    old.ended().await;
    new.until(|m| matches!(m, ToAgent::Welcome { .. }).then_some(()))
        .await;
    new.send(ToServer::Signals(vec![signal(
        1,
        None,
        SignalKind::OomKill,
    )]))
    .await;
    new.until(|m| matches!(m, ToAgent::SignalsDurable { .. }).then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_is_not_signed_by_the_root_is_refused_by_field() {
    let server = Server::start(Engine::Mem).await;
    let (mut envelope, _) = common::envelope("1.0", b"x");
    envelope.signatures[0].signature[3] ^= 1;
    let start = pb::PublishRequest {
        part: Some(pb::publish_request::Part::Start(pb::PublishStart {
            act: act("a forgery"),
            envelope: Some(envelope.into()),
        })),
    };
    let refused = pb::release_service_client::ReleaseServiceClient::new(server.admin().await)
        .publish(tokio_stream::iter([start]))
        .await
        .err()
        .unwrap();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(matches!(
        status::refusal(&refused),
        Some(ringward_domain::command::Refusal::Invalid { field, .. })
            if field == "envelope.signatures"
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lost_its_lease_stops_before_it_answers() {
    let mut server = Server::start(Engine::Mem).await;
    server.running.take().unwrap().stop().await.unwrap();
    let store = Arc::new(AnyStore::mem());
    let stop = tokio_util::sync::CancellationToken::new();
    let running = ringward_server::start_on(server.config.clone(), Arc::clone(&store)).await;
    server.running = Some(running.unwrap());
    let (_host, mut session) = enrolled(&server).await;
    session
        .until(|m| matches!(m, ToAgent::Welcome { .. }).then_some(()))
        .await;
    let far = u64::MAX / 2;
    let taken = store.lease("control", "another", far, 1_000).await.unwrap();
    assert!(taken.is_some());
    session
        .send(ToServer::Signals(vec![signal(
            1,
            None,
            SignalKind::OomKill,
        )]))
        .await;
    let running = server.running.take().unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(10), running.until(stop)).await;
    let error = ended.expect("it stops by itself").unwrap_err();
    assert!(error.to_string().contains("another server"), "{error}");
    assert!(store.signals(None, None, 10).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_hears_what_stands_then_what_changes() {
    use ringward_wire::watch::WatchEvent;
    let server = Server::start(Engine::Mem).await;
    let (_host, _session) = enrolled(&server).await;
    let release = server.publish("1.0").await;
    let mut events = pb::watch_service_client::WatchServiceClient::new(server.admin().await)
        .watch(pb::WatchRequest::default())
        .await
        .unwrap()
        .into_inner();
    let mut next = async || {
        let event = tokio::time::timeout(Duration::from_secs(5), events.message()).await;
        WatchEvent::try_from(event.unwrap().unwrap().unwrap()).unwrap()
    };
    assert_eq!(next().await, WatchEvent::Andon(None));
    assert_eq!(next().await, WatchEvent::CaughtUp);
    let id = begin_rollout(&server, release).await;
    loop {
        if let WatchEvent::Rollout(view) = next().await {
            assert_eq!(view.id, id);
            break;
        }
    }
    let stop = pb::FleetCommand { act: act("smoke") };
    server.rollouts().await.stop_all(stop).await.unwrap();
    loop {
        if let WatchEvent::Andon(Some(andon)) = next().await {
            assert_eq!(
                (andon.actor.as_str(), andon.reason.as_str()),
                ("ada", "smoke")
            );
            break;
        }
    }
}

/// A disk that is full when told so.
#[derive(Debug, Default)]
struct Fills(AtomicBool);

impl Disk for Fills {
    fn sync_data(&self, file: &File, path: &Path) -> io::Result<()> {
        if self.0.load(Ordering::SeqCst) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        OsDisk.sync_data(file, path)
    }
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        OsDisk.sync_folder(folder)
    }
    fn free_bytes(&self, folder: &Path) -> io::Result<u64> {
        if self.0.load(Ordering::SeqCst) {
            return Ok(0);
        }
        OsDisk.free_bytes(folder)
    }
}

async fn on_a_disk_that_fills() -> (Server, Arc<Fills>) {
    let mut server = Server::start(Engine::Mem).await;
    server.running.take().unwrap().stop().await.unwrap();
    let disk = Arc::new(Fills::default());
    let options = Options {
        disk: Arc::clone(&disk) as Arc<dyn Disk>,
        ..Options::default()
    };
    let store = AnyStore::sled(&server.config.data.store(), options).unwrap();
    let running = ringward_server::start_on(server.config.clone(), Arc::new(store)).await;
    server.running = Some(running.unwrap());
    (server, disk)
}

/// Asks for a page until it holds `wanted`.
async fn until_page(server: &Server, path: &str, wanted: &str) -> String {
    let seen = async {
        loop {
            let text = common::page(server, path).await;
            if text.contains(wanted) {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let seen = tokio::time::timeout(Duration::from_secs(10), seen).await;
    seen.expect("the page gets there")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_nothing_is_acknowledged_and_with_room_everything_is() {
    let (server, disk) = on_a_disk_that_fills().await;
    let (_host, mut session) = enrolled(&server).await;
    session
        .until(|m| matches!(m, ToAgent::Desired(_)).then_some(()))
        .await;
    disk.0.store(true, Ordering::SeqCst);
    session
        .send(ToServer::Signals(vec![signal(
            1,
            None,
            SignalKind::OomKill,
        )]))
        .await;
    let channel = server.admin().await;
    let mut fleet = pb::fleet_service_client::FleetServiceClient::new(channel);
    // Questions are answered meanwhile, and say that nothing of it is stored.
    let text = until_page(&server, "/readyz", "503").await;
    assert!(text.contains("the store fails"), "{text}");
    let asked = pb::StatusRequest::default();
    tokio::select! {
        biased;
        early = session.inbox.message() => panic!("answered before it was durable: {early:?}"),
        status = fleet.status(asked) => assert_eq!(status.unwrap().into_inner().connected, 1),
    }
    disk.0.store(false, Ordering::SeqCst);
    session
        .until(|m| match m {
            ToAgent::SignalsDurable { through } => (through.0 == 1).then_some(()),
            _ => None,
        })
        .await;
    assert!(common::page(&server, "/readyz").await.contains("200"));
    let metrics = common::page(&server, "/metrics").await;
    assert!(metrics.contains("ringward_store_failing 0"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_given_up_while_it_was_opened_does_not_linger() {
    let (server, disk) = on_a_disk_that_fills().await;
    let token = server.token(1).await;
    let host = server.enrol(&token).await.unwrap();
    let (_other, session) = enrolled(&server).await;
    disk.0.store(true, Ordering::SeqCst);
    session
        .send(ToServer::Signals(vec![signal(
            1,
            None,
            SignalKind::OomKill,
        )]))
        .await;
    until_page(&server, "/readyz", "503").await;
    let patience = Duration::from_millis(300);
    let given_up = tokio::time::timeout(patience, server.session(&host, hello())).await;
    assert!(
        given_up.is_err(),
        "no session opens while nothing can be written"
    );
    disk.0.store(false, Ordering::SeqCst);
    until_page(&server, "/readyz", "200").await;
    until_page(&server, "/metrics", "ringward_sessions_open 1\n").await;
}
