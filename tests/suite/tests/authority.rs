//! Another authority in place of the first, with real processes: hosts follow while they work, and who
//! was away for all of it is told to enrol again.
#![allow(clippy::unwrap_used)]

use ringward_agent::identity;
use ringward_suite::hosts::{self, AgentProcess};
use ringward_suite::lab::Lab;
use ringward_suite::process::{Programs, wait_for};
use std::path::{Path, PathBuf};
use std::time::Duration;

const HARNESS: &str = env!("CARGO_BIN_EXE_ringward-harness");
const PATIENCE: Duration = Duration::from_secs(60);

/// The folder of the built programs; they are there where the whole workspace is tested.
fn programs() -> Option<PathBuf> {
    let folder = Path::new(HARNESS).parent()?;
    let built = ["ringward-server", "ringward-agent", "ringwardctl"]
        .iter()
        .all(|name| folder.join(name).exists());
    if !built {
        println!("skipped: server, agent and ringwardctl are not built; test the whole workspace");
    }
    built.then(|| folder.to_owned())
}

/// Waits until a host knows its servers by so many roots of this version.
async fn knows(agent: &AgentProcess, version: u64, roots: usize) {
    wait_for("the authorities followed", PATIENCE, async || {
        let known = identity::authority(&agent.root())?;
        Ok(((known.version, known.roots.len()) == (version, roots)).then_some(()))
    })
    .await
    .unwrap();
}

async fn connected(lab: &Lab, hosts: u64) {
    wait_for("the hosts connected", PATIENCE, async || {
        let status = lab.client().status(false).await?;
        Ok((status.connected == hosts).then_some(()))
    })
    .await
    .unwrap();
}

fn certificate(agent: &AgentProcess) -> String {
    std::fs::read_to_string(agent.root().join("identity/cert.pem")).unwrap()
}

/// A running agent looks for other authorities once an hour, and when it starts.
async fn restart(agent: &mut AgentProcess) {
    agent.stop().await.unwrap();
    agent.start().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_follow_to_another_authority_and_both_certificates_work_meanwhile() {
    let Some(programs) = programs() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut lab = Lab::set_up(Programs::new(programs), dir.path())
        .await
        .unwrap();
    let old_token = lab.token(4).await.unwrap();
    let enrol = async |lab: &Lab, name: &str, token: &str| {
        AgentProcess::enrol_with(lab, &hosts::script(name), token, None).await
    };
    let mut follower = enrol(&lab, "follower", &old_token).await.unwrap();
    let mut away = enrol(&lab, "away", &old_token).await.unwrap();
    connected(&lab, 2).await;
    away.stop().await.unwrap();
    let first = certificate(&follower);
    let admin_before = std::fs::read_to_string(lab.context()).unwrap();

    lab.stop_server().await.unwrap();
    let next = lab.server_verb("rotate-authority", &[]).await.unwrap();
    assert!(next.contains("--finish"), "{next}");
    // The admin's context is the old one here, and so is the host's certificate.
    lab.start_server().await.unwrap();
    connected(&lab, 1).await;
    assert_eq!(certificate(&follower), first);
    restart(&mut follower).await;
    knows(&follower, 2, 2).await;
    wait_for("another certificate", PATIENCE, async || {
        Ok((certificate(&follower) != first).then_some(()))
    })
    .await
    .unwrap();
    let joined = enrol(&lab, "joined", &old_token).await.unwrap();
    knows(&joined, 2, 2).await;
    connected(&lab, 2).await;
    lab.server_verb("admin-context", &[]).await.unwrap();
    assert_ne!(
        std::fs::read_to_string(lab.context()).unwrap(),
        admin_before
    );

    lab.stop_server().await.unwrap();
    lab.server_verb("rotate-authority", &["--finish"])
        .await
        .unwrap();
    lab.start_server().await.unwrap();
    // Both hold certificates of the new authority; one of them looks at once.
    connected(&lab, 2).await;
    restart(&mut follower).await;
    knows(&follower, 3, 1).await;
    connected(&lab, 2).await;
    let newest = enrol(&lab, "newest", &lab.token(1).await.unwrap()).await;
    knows(newest.as_ref().unwrap(), 3, 1).await;
    connected(&lab, 3).await;
    let refused = enrol(&lab, "late", &old_token).await.unwrap_err();
    assert!(
        format!("{refused:#}").contains("certificate"),
        "{refused:#}"
    );
    away.start().unwrap();
    wait_for("the host that was away told why", PATIENCE, async || {
        let log = std::fs::read_to_string(away.log())?;
        Ok(log.contains("invalid peer certificate").then_some(()))
    })
    .await
    .unwrap();
    connected(&lab, 3).await;
    lab.check().unwrap();
    lab.stop().await.unwrap();
}
