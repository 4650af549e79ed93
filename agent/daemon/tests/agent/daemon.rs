//! The daemon on a scripted machine against a server over loopback with mutual TLS.

use crate::support::{HOST, MONTH, Server, next_root, package};
use ringward_agent::config::Settings;
use ringward_agent::counters::Counters;
use ringward_agent::daemon::StartError;
use ringward_agent::enroll::{EnrollError, enroll};
use ringward_agent::{identity, scripted, status};
use ringward_agent_os::Host;
use ringward_agent_os::fake::{OnLethal, Script, ScriptedHost};
use ringward_agent_os::machine::Notifier;
use ringward_domain::ledger::RevertWhy;
use ringward_domain::observed::{Observed, PhaseObserved, PrepareState, RefuseWhy};
use ringward_domain::signal::SignalKind;
use ringward_domain::{Absence, AssignmentKind, Millis, ReleaseDigest};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

const GOOD: &[(&str, &str)] = &[("behaviour", "good\n"), ("bin/tool", "#!/bin/sh\n")];
const LETHAL: &[(&str, &str)] = &[("behaviour", "lethal\n")];

/// An enrolled host whose agent runs.
pub struct Running {
    root: tempfile::TempDir,
    counters: Arc<Counters>,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), StartError>>,
}

pub async fn enrolled(server: &Server, on_lethal: OnLethal) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let script = Script {
        boot_ms: Millis(50),
        dies_after_ms: Millis(20),
        dark_ms: Millis(600),
        on_lethal,
        ..Script::default()
    };
    script.write(root.path()).unwrap();
    let facts = ScriptedHost::open(root.path()).unwrap().facts();
    let (host, _) = enroll(root.path(), &server.token(), facts).await.unwrap();
    assert_eq!(host, HOST);
    root
}

pub fn run(root: tempfile::TempDir) -> Running {
    let settings = Settings::scripted(root.path()).unwrap();
    run_with(root, settings)
}

pub fn run_with(root: tempfile::TempDir, settings: Settings) -> Running {
    let (stop, stopped) = watch::channel(false);
    let counters = Arc::new(Counters::open(root.path()).unwrap());
    let told = Arc::clone(&counters);
    let task =
        tokio::spawn(
            async move { scripted::run(&settings, told, Notifier::silent, stopped).await },
        );
    Running {
        root,
        counters,
        stop,
        task,
    }
}

pub async fn start(server: &Server, on_lethal: OnLethal) -> Running {
    run(enrolled(server, on_lethal).await)
}

impl Running {
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    fn version(&self) -> Option<String> {
        status::running_version(self.path(), &package())
    }

    pub async fn stop(self) -> tempfile::TempDir {
        self.stop.send_replace(true);
        self.task.await.unwrap().unwrap();
        self.root
    }
}

pub fn phase(observed: Option<&Observed>) -> Option<(ReleaseDigest, PhaseObserved)> {
    let attempt = observed?.attempt.as_ref()?;
    Some((attempt.release, attempt.phase))
}

async fn install_good(server: &Server) -> ReleaseDigest {
    let good = server.publish("1.0", GOOD, &[1]);
    server.want(good, "1.0", AssignmentKind::Install, false);
    let committed = Some((good, PhaseObserved::Committed));
    server
        .until("1.0 committed", |state| {
            phase(state.observed.as_ref()) == committed
        })
        .await;
    good
}

#[tokio::test]
async fn a_good_release_is_fetched_verified_switched_soaked_and_committed() {
    let server = Server::start().await;
    let agent = start(&server, OnLethal::CrashLoop).await;
    install_good(&server).await;
    assert_eq!(agent.version().as_deref(), Some("1.0"));
    let tool = agent.path().join("slots/demo/current/bin/tool");
    assert_eq!(std::fs::read_to_string(tool).unwrap(), "#!/bin/sh\n");
    let ledger = status::look(agent.path()).ledger.unwrap();
    let committed = ledger.packages[&package()].committed.as_ref().unwrap();
    assert_eq!(committed.version.as_str(), "1.0");
    assert_eq!(server.state().begun, 1);
}

#[tokio::test]
async fn verify_boot_reboots_once_and_soaks_after_it() {
    let server = Server::start().await;
    let agent = start(&server, OnLethal::CrashLoop).await;
    let good = server.publish("1.0", GOOD, &[1]);
    server.want(good, "1.0", AssignmentKind::Install, true);
    let committed = Some((good, PhaseObserved::Committed));
    server
        .until("1.0 committed", |state| {
            phase(state.observed.as_ref()) == committed
        })
        .await;
    assert_eq!(server.state().hellos, 2);
    assert!(
        server.state().signals.is_empty(),
        "an ordered reboot is clean"
    );
    assert_eq!(agent.version().as_deref(), Some("1.0"));
}

#[tokio::test]
async fn a_host_that_dies_on_a_release_is_taken_back_by_its_guard_and_tells() {
    let server = Server::start().await;
    let agent = start(&server, OnLethal::CrashLoop).await;
    install_good(&server).await;
    let lethal = server.publish("1.1", LETHAL, &[1]);
    server.want(lethal, "1.1", AssignmentKind::Install, false);
    let reverted = Some((lethal, PhaseObserved::Reverted(RevertWhy::BadBoots)));
    server
        .until("1.1 reverted", |state| {
            let told = |kind| state.signals.values().any(|signal| signal.kind == kind);
            phase(state.observed.as_ref()) == reverted
                && told(SignalKind::GuardReverted)
                && told(SignalKind::UncleanBoot)
        })
        .await;
    assert_eq!(agent.version().as_deref(), Some("1.0"));
    let bars = server.state().observed.as_ref().unwrap().bars.clone();
    assert_eq!(
        bars,
        [lethal],
        "what the host reverted from it bars by itself"
    );
    let stored = server.state().signals.len() as u64;
    assert_eq!(agent.counters.signals_told(), stored);
}

#[tokio::test]
async fn a_host_that_goes_dark_says_nothing_and_comes_back_reverted() {
    let server = Server::start().await;
    let agent = start(&server, OnLethal::GoDark).await;
    install_good(&server).await;
    let hellos = server.state().hellos;
    let lethal = server.publish("1.1", LETHAL, &[1]);
    server.want(lethal, "1.1", AssignmentKind::Install, false);
    server.until("begun", |state| state.begun == 2).await;
    server.until("back", |state| state.hellos > hellos).await;
    let last = phase(server.state().observed.as_ref());
    assert_eq!(
        last,
        Some((lethal, PhaseObserved::Reverted(RevertWhy::BadBoots)))
    );
    assert_eq!(
        server.state().hellos,
        hellos + 1,
        "nothing was heard in the dark"
    );
    assert_eq!(agent.version().as_deref(), Some("1.0"));
}

#[tokio::test]
async fn a_crash_looping_service_makes_the_agent_go_back_by_itself() {
    let server = Server::start().await;
    let agent = start(&server, OnLethal::ServiceCrashLoop).await;
    install_good(&server).await;
    let lethal = server.publish("1.1", LETHAL, &[1]);
    server.want(lethal, "1.1", AssignmentKind::Install, false);
    let reverted = Some((lethal, PhaseObserved::Reverted(RevertWhy::CrashLoop)));
    server
        .until("1.1 reverted", |state| {
            phase(state.observed.as_ref()) == reverted
        })
        .await;
    assert_eq!(server.state().hellos, 1, "the agent lived through it");
    agent.stop().await;
}

#[tokio::test]
async fn a_rollback_to_a_release_on_disk_needs_no_download() {
    let server = Server::start().await;
    let agent = start(&server, OnLethal::CrashLoop).await;
    let first = install_good(&server).await;
    let second = server.publish("1.1", &[("behaviour", "good\n"), ("more", "x")], &[1]);
    server.want(second, "1.1", AssignmentKind::Install, false);
    let committed = Some((second, PhaseObserved::Committed));
    server
        .until("1.1 committed", |state| {
            phase(state.observed.as_ref()) == committed
        })
        .await;
    let fetched = server.state().offsets.len();
    server.state().releases.clear();
    server.want(first, "1.0", AssignmentKind::Rollback, false);
    let back = Some((first, PhaseObserved::Committed));
    server
        .until("1.0 again", |state| phase(state.observed.as_ref()) == back)
        .await;
    assert_eq!(server.state().offsets.len(), fetched);
    assert_eq!(agent.version().as_deref(), Some("1.0"));
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_stopped() {
    let server = Server::start().await;
    server.state().break_fetch_after = Some(700);
    let agent = start(&server, OnLethal::CrashLoop).await;
    install_good(&server).await;
    assert_eq!(server.state().offsets, [0, 700]);
    assert_eq!(agent.version().as_deref(), Some("1.0"));
}

#[tokio::test]
async fn a_release_signed_by_a_strange_key_is_refused_and_nothing_is_fetched() {
    let server = Server::start().await;
    let agent = start(&server, OnLethal::CrashLoop).await;
    let strange = server.publish("1.0", GOOD, &[2]);
    server.want(strange, "1.0", AssignmentKind::Install, false);
    server
        .until("refused", |state| {
            let preparing = state.observed.as_ref().and_then(|o| o.preparing.as_ref());
            preparing.map(|p| p.state) == Some(PrepareState::Refused(RefuseWhy::Signature))
        })
        .await;
    assert_eq!(agent.version(), None);
    assert!(server.state().offsets.is_empty());
}

#[tokio::test]
async fn a_host_follows_to_new_keys_and_believes_a_revoked_one_no_more() {
    let server = Server::start().await;
    let agent = start(&server, OnLethal::CrashLoop).await;
    // Signed by the key that is to be revoked, before anybody heard of that.
    let before = install_good(&server).await;
    server.note(|state| state.roots = vec![next_root(2, &[2], &[1, 2])]);
    let old_key = server.publish("1.1", &[("behaviour", "good\n"), ("more", "y")], &[1]);
    server.want(old_key, "1.1", AssignmentKind::Install, false);
    let refused = |release: ReleaseDigest| {
        move |state: &crate::support::State| {
            let preparing = state.observed.as_ref().and_then(|o| o.preparing.as_ref());
            preparing.is_some_and(|p| {
                p.release == release && p.state == PrepareState::Refused(RefuseWhy::Signature)
            })
        }
    };
    server.until("the old key refused", refused(old_key)).await;
    let new_key = server.publish("1.2", &[("behaviour", "good\n"), ("more", "z")], &[2]);
    server.want(new_key, "1.2", AssignmentKind::Install, false);
    let committed = Some((new_key, PhaseObserved::Committed));
    server
        .until("1.2 committed", |state| {
            phase(state.observed.as_ref()) == committed
        })
        .await;
    let root = identity::release_root(agent.path()).unwrap().unwrap();
    assert_eq!(root.version, 2);
    // A root that its own keys alone signed leads nowhere, and the way back needs no key at all.
    server.note(|state| state.roots.push(next_root(3, &[3], &[3])));
    let stolen = server.publish("1.3", &[("behaviour", "good\n"), ("more", "!")], &[3]);
    server.want(stolen, "1.3", AssignmentKind::Install, false);
    server.until("the thief refused", refused(stolen)).await;
    server.want(before, "1.0", AssignmentKind::Rollback, false);
    let back = Some((before, PhaseObserved::Committed));
    server
        .until("1.0 again", |state| phase(state.observed.as_ref()) == back)
        .await;
    assert_eq!(identity::release_root(agent.path()).unwrap(), Some(root));
}

#[tokio::test]
async fn an_artefact_with_other_content_never_becomes_a_slot() {
    let server = Server::start().await;
    let agent = start(&server, OnLethal::CrashLoop).await;
    let release = server.publish("1.0", GOOD, &[1]);
    for bytes in server.state().artefacts.values_mut() {
        bytes[600] ^= 1;
    }
    server.want(release, "1.0", AssignmentKind::Install, false);
    server
        .until("retrying", |state| {
            let preparing = state.observed.as_ref().and_then(|o| o.preparing.as_ref());
            matches!(preparing.map(|p| p.state), Some(PrepareState::Retrying(_)))
        })
        .await;
    assert!(
        !agent
            .path()
            .join("slots/demo")
            .join(release.to_string())
            .exists()
    );
    assert_eq!(server.state().begun, 0);
}

#[tokio::test]
async fn a_person_who_stops_the_agent_is_announced_and_the_stop_is_clean() {
    let server = Server::start().await;
    let agent = start(&server, OnLethal::CrashLoop).await;
    install_good(&server).await;
    let root = agent.stop().await;
    server
        .until("announced", |state| state.absent == [Absence::UserStop])
        .await;
    let agent = run(root);
    server.until("back", |state| state.hellos == 2).await;
    assert!(server.state().signals.is_empty());
    agent.stop().await;
}

#[tokio::test]
async fn a_token_is_good_for_one_host_and_one_server() {
    let server = Server::start().await;
    let root = enrolled(&server, OnLethal::CrashLoop).await;
    let facts = || ScriptedHost::open(root.path()).unwrap().facts();
    let again = enroll(root.path(), &server.token(), facts()).await;
    assert!(matches!(again, Err(EnrollError::Enrolled { host: HOST })));
    let other = tempfile::tempdir().unwrap();
    let spent = enroll(other.path(), &server.token(), facts()).await;
    assert!(matches!(spent, Err(EnrollError::Refused { .. })));
    assert!(!identity::exists(other.path()));
    // A server with another CA is not asked at all.
    let stranger = Server::start().await;
    let mut token: ringward_wire::token::EnrolmentToken = server.token().parse().unwrap();
    token.addresses = vec![stranger.address.clone()];
    let misled = enroll(other.path(), &token.to_text(), facts()).await;
    assert!(matches!(misled, Err(EnrollError::Unreachable(_))));
    assert!(!stranger.state().secret_spent);
}

#[tokio::test]
async fn a_certificate_is_renewed_after_two_thirds_of_its_life_for_the_same_key() {
    let server = Server::start().await;
    server.state().certificate_age = 3 * MONTH;
    let root = enrolled(&server, OnLethal::CrashLoop).await;
    let key = std::fs::read(root.path().join("identity/key.pem")).unwrap();
    let old = std::fs::read(root.path().join("identity/cert.pem")).unwrap();
    let agent = run(root);
    let changed = async {
        while std::fs::read(agent.path().join("identity/cert.pem")).unwrap() == old {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), changed)
        .await
        .unwrap();
    let root = agent.stop().await;
    assert_eq!(server.state().renewals, 1);
    assert_eq!(
        std::fs::read(root.path().join("identity/key.pem")).unwrap(),
        key
    );
    let (from, until) = identity::validity(root.path()).unwrap();
    assert!(until.duration_since(from).unwrap() < 2 * MONTH);
}
