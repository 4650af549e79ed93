//! Backup of a running server, and what a restore makes of it.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Context, Server, act, hello, signal};
use ringward_domain::session::{Hello, ToAgent, ToServer};
use ringward_domain::{Epoch, Generation};
use ringward_server::backup::{Restored, restore, take};
use ringward_server::config::Engine;
use ringward_server::{Config, DataDir, start};
use ringward_wire::merkle::verify_growth;
use ringward_wire::pb;
use ringward_wire::pb::audit_service_client::AuditServiceClient;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tonic::Code;

async fn status(server: &Server) -> pb::StatusResponse {
    let asked = pb::StatusRequest {
        count_signals: true,
    };
    server
        .fleet()
        .await
        .status(asked)
        .await
        .unwrap()
        .into_inner()
}

/// A server on a restored folder, reached as the same admin.
async fn restored_server(dir: tempfile::TempDir, old: &Server) -> Server {
    let data = DataDir::new(dir.path().join("restored"));
    let config = Config::load(data).unwrap();
    let running = Some(start(config.clone()).await.unwrap());
    Server {
        dir,
        config,
        context: Context {
            server: String::new(),
            ca: old.context.ca.clone(),
            certificate: old.context.certificate.clone(),
            key: old.context.key.clone(),
        },
        running,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_server_is_paused_under_a_raised_epoch_with_dead_tokens_and_all_else() {
    let mut server = Server::start(Engine::Sled).await;
    let token = server.token(5).await;
    let host = server.enrol(&token).await.unwrap();
    let release = server.publish("1.0").await;
    let mut session = server.session(&host, hello()).await.unwrap();
    session
        .send(ToServer::Signals(vec![signal(1), signal(2)]))
        .await;
    let durable = |message: &ToAgent| {
        matches!(message, ToAgent::SignalsDurable { through } if through.0 == 2).then_some(())
    };
    session.until(durable).await;
    let head = pb::AuditHeadRequest { from: 0 };
    let mut audit = AuditServiceClient::new(server.admin().await);
    let known = audit.head(head).await.unwrap().into_inner();
    let known = ringward_domain::AuditShown::try_from(known).unwrap().head;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("backup.jsonl");
    take(&server.config, &file).await.unwrap();
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(
        take(&server.config, &file).await.is_err(),
        "never overwrites"
    );
    // What happens after it is lost, and must not confuse what comes back.
    let late = server.enrol(&token).await.unwrap();
    server.running.take().unwrap().stop().await.unwrap();

    let data = DataDir::new(dir.path().join("restored"));
    let done = restore(&data, &file).await.unwrap();
    let expected = Restored {
        taken_unix_ms: done.taken_unix_ms,
        epoch: 2,
        hosts: 1,
        audit: known.size,
        signals: 2,
        tokens: 1,
        artefacts: 1,
    };
    assert_eq!(done, expected);
    assert!(restore(&data, &file).await.is_err(), "never overwrites");

    let restored = restored_server(dir, &server).await;
    let stands = status(&restored).await;
    assert_eq!(
        (stands.epoch, stands.hosts, stands.signals_stored),
        (2, 1, Some(2))
    );
    // The host's certificate is of the same authority, and what it accepted is of an older epoch.
    let followed = Hello {
        accepted: (Epoch(1), Generation(1 << 40)),
        ..hello()
    };
    let mut session = restored.session(&host, followed).await.unwrap();
    let epoch = |message: &ToAgent| match message {
        ToAgent::Desired(desired) => Some(desired.epoch),
        _ => None,
    };
    assert_eq!(session.until(epoch).await, Epoch(2));
    let unknown = restored.session(&late, hello()).await.err().unwrap();
    assert_eq!(unknown.code(), Code::PermissionDenied);
    let config = ringward_wire::tls::enrolment_config(token.ca).unwrap();
    let channel = ringward_wire::client::channel(&restored.agents(), config.into()).await;
    drop(channel.unwrap());
    let dead = ringward_wire::token::EnrolmentToken {
        addresses: vec![restored.agents()],
        ..token
    };
    let refused = restored.enrol(&dead).await.map(|host| host.id).unwrap_err();
    assert!(refused.message().contains("revoked"), "{refused}");
    // Paused: a rollout starts and grants nobody anything before a person says so.
    let order = pb::StartRequest {
        act: act("too early"),
        release: release.0.to_vec(),
    };
    let mut rollouts = restored.rollouts().await;
    let started = rollouts.start(order).await.unwrap().into_inner();
    let view = rollouts
        .get(pb::GetRolloutRequest {
            rollout: started.rollout.unwrap(),
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(view.state(), pb::RolloutState::Paused);
    // The log goes on from where it was: whoever knew it then sees that.
    let mut audit = AuditServiceClient::new(restored.admin().await);
    let head = pb::AuditHeadRequest { from: known.size };
    let shown = audit.head(head).await.unwrap().into_inner();
    let shown = ringward_domain::AuditShown::try_from(shown).unwrap();
    assert_eq!(verify_growth(&known, &shown), Ok(()));
    assert!(shown.head.size > known.size, "the restore is in the log");
}

async fn offline_backup(dir: &Path) -> Vec<u8> {
    let mut server = Server::start(Engine::Sled).await;
    server.token(1).await;
    server.running.take().unwrap().stop().await.unwrap();
    let file = dir.join("backup.jsonl");
    take(&server.config, &file).await.unwrap();
    std::fs::read(file).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_not_whole_restores_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let whole = offline_backup(dir.path()).await;
    let file = dir.path().join("given.jsonl");
    let data = DataDir::new(dir.path().join("restored"));
    let try_with = async |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        let outcome = restore(&data, &file).await;
        if outcome.is_err() {
            assert!(!data.root().exists(), "nothing was made");
        }
        outcome.map(drop)
    };
    // Every cut of the last lines, and flips over the whole file.
    for cut in [0, 1, 100, whole.len() / 2, whole.len() - 1] {
        assert!(try_with(&whole[..cut]).await.is_err(), "cut at {cut}");
    }
    for i in 0..200 {
        let at = i * whole.len() / 200;
        let mut flipped = whole.clone();
        flipped[at] ^= 4;
        assert!(try_with(&flipped).await.is_err(), "flipped at {at}");
    }
    let twice = [whole.as_slice(), whole.as_slice()].concat();
    assert!(try_with(&twice).await.is_err(), "twice in one file");
    let lines: Vec<&[u8]> = whole.split_inclusive(|b| *b == b'\n').collect();
    let without_one: Vec<u8> = [&lines[..3], &lines[4..]].concat().concat();
    assert!(try_with(&without_one).await.is_err(), "a line is missing");
    for path in [
        "../out",
        "/etc/out",
        "store/db",
        "pki/../out",
        "a/b/c",
        "run/x",
    ] {
        let line = format!("{{\"file\":{{\"path\":{path:?},\"mode\":420,\"content\":\"\"}}}}\n");
        let mut lines = lines.clone();
        lines.insert(1, line.as_bytes());
        let error = try_with(&lines.concat()).await.unwrap_err().to_string();
        assert!(error.contains("does not belong"), "{path}: {error}");
    }
    try_with(&whole).await.unwrap();
    let doctor = ringward_server::doctor(&Config::load(data).unwrap(), &[]);
    assert!(doctor.is_healthy(), "{doctor}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_is_whole_and_of_one_moment() {
    let server = std::sync::Arc::new(Server::start(Engine::Sled).await);
    let token = server.token(200).await;
    let enrolling: Vec<_> = (0..60)
        .map(|_| {
            let (server, token) = (std::sync::Arc::clone(&server), token.clone());
            tokio::spawn(async move { server.enrol(&token).await.map(drop) })
        })
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("backup.jsonl");
    take(&server.config, &file).await.unwrap();
    for enrolled in enrolling {
        enrolled.await.unwrap().unwrap();
    }
    let data = DataDir::new(dir.path().join("restored"));
    let done = restore(&data, &file).await.unwrap();
    // A host and the entry that says so are of one commit: the first admin's seat, one token, and as
    // many entries as hosts.
    assert_eq!(done.audit, done.hosts + 2, "{done:?}");
}
