//! The audit log as hosts and people see it.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Server, act, hello};
use ringward_domain::session::{ToAgent, ToServer};
use ringward_domain::{AuditHead, AuditShown, Sha256};
use ringward_server::config::Engine;
use ringward_wire::merkle::{leaf, verify_growth};
use ringward_wire::pb;
use ringward_wire::pb::audit_service_client::AuditServiceClient;

async fn shown_in_session(server: &Server, host: &common::Host, size: u64) -> AuditShown {
    let mut session = server.session(host, hello()).await.unwrap();
    session.send(ToServer::AuditKnown { size }).await;
    session
        .until(|message| match message {
            ToAgent::AuditHead(shown) => Some(shown.as_ref().clone()),
            _ => None,
        })
        .await
}

#[tokio::test]
async fn a_host_is_shown_a_head_that_adds_to_the_one_it_knew_over_restarts() {
    let mut server = Server::start(Engine::Sled).await;
    let token = server.token(1).await;
    let host = server.enrol(&token).await.unwrap();
    let nothing = AuditHead {
        size: 0,
        root: Sha256([0; 32]),
    };
    let first = shown_in_session(&server, &host, 0).await;
    assert_eq!(verify_growth(&nothing, &first), Ok(()));
    assert!(first.head.size > 0);
    server.restart().await;
    for reason in ["one", "two", "three"] {
        let order = pb::HostCommand {
            act: act(reason),
            host: host.id.0,
        };
        server.fleet().await.freeze(order).await.unwrap();
    }
    let second = shown_in_session(&server, &host, first.head.size).await;
    assert!(second.head.size >= first.head.size + 3);
    assert_eq!(verify_growth(&first.head, &second), Ok(()));
    let other = AuditHead {
        root: Sha256([9; 32]),
        ..first.head
    };
    assert!(verify_growth(&other, &second).is_err());
}

#[tokio::test]
async fn people_read_every_entry_as_it_was_hashed() {
    let server = Server::start(Engine::Mem).await;
    for _ in 0..3 {
        server.token(1).await;
    }
    let mut audit = AuditServiceClient::new(server.admin().await);
    let list = |from| pb::ListAuditRequest { from, page_size: 2 };
    let page = audit.list(list(0)).await.unwrap().into_inner();
    assert_eq!((page.entries.len(), page.size), (2, 4));
    let rest = audit.list(list(2)).await.unwrap().into_inner();
    for (index, record) in page.entries.iter().chain(&rest.entries).enumerate() {
        assert_eq!(record.index, index as u64);
        assert_eq!(record.leaf_hash, leaf(&record.entry).0);
        let entry: serde_json::Value = serde_json::from_slice(&record.entry).unwrap();
        // The first entry seats the one whom `init` named.
        let (action, actor) = match index {
            0 => ("people seat", "ringward"),
            _ => ("token create", "ada"),
        };
        assert_eq!(entry["action"], action);
        assert_eq!(entry["actor"], actor);
    }
    let head = audit.head(pb::AuditHeadRequest { from: 2 }).await.unwrap();
    assert_eq!(head.into_inner().size, 4);
}
