//! API tokens without a client certificate, on the admins' listener.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{Server, act, anonymous_http1};
use ringward_server::config::Engine;
use ringward_wire::pb;
use ringward_wire::pb::audit_service_client::AuditServiceClient;
use ringward_wire::pb::fleet_service_client::FleetServiceClient;
use ringward_wire::pb::people_service_client::PeopleServiceClient;
use ringward_wire::pb::watch_service_client::WatchServiceClient;
use std::time::Duration;
use tokio::net::TcpStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// A token of Ada's with one role; its text and its id.
async fn token(server: &Server, role: pb::Role, life_ms: u64) -> (String, String) {
    let mut people = PeopleServiceClient::new(server.admin().await);
    let made = people
        .create_api_token(pb::CreateApiTokenRequest {
            act: act("a test"),
            label: "ci".to_owned(),
            grants: vec![pb::RoleGrant {
                role: role.into(),
                ..pb::RoleGrant::default()
            }],
            life_ms,
        })
        .await
        .unwrap()
        .into_inner();
    let all = people.list_api_tokens(pb::ListApiTokensRequest {});
    let all = all.await.unwrap().into_inner().tokens;
    (made.token, all.last().unwrap().id.clone())
}

fn shown<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let text = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", text);
    request
}

async fn list(channel: &Channel, token: &str) -> Result<(), Status> {
    let query = shown(pb::ListHostsRequest::default(), token);
    let mut fleet = FleetServiceClient::new(channel.clone());
    fleet.list_hosts(query).await.map(drop)
}

#[tokio::test]
async fn a_token_alone_does_what_its_role_carries_until_it_is_revoked() {
    let server = Server::start(Engine::Mem).await;
    let (viewer, id) = token(&server, pb::Role::Viewer, 600_000).await;
    let nobody = server.anonymous().await.unwrap();
    list(&nobody, &viewer).await.unwrap();
    let stop = pb::FleetCommand { act: act("no") };
    let mut rollouts = pb::rollout_service_client::RolloutServiceClient::new(nobody.clone());
    let refused = rollouts.stop_all(shown(stop, &viewer)).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    let mut watch = WatchServiceClient::new(nobody.clone());
    let query = shown(pb::WatchRequest::default(), &viewer);
    let mut events = watch.watch(query).await.unwrap().into_inner();
    events.message().await.unwrap();
    let revoke = pb::RevokeApiTokenRequest {
        act: act("leaked"),
        id,
    };
    let mut people = PeopleServiceClient::new(server.admin().await);
    people.revoke_api_token(revoke).await.unwrap();
    let refused = list(&nobody, &viewer).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let ended = async { while let Ok(Some(_)) = events.message().await {} };
    let ended = tokio::time::timeout(Duration::from_secs(5), ended).await;
    ended.expect("what a revoked token opened ends");
}

#[tokio::test]
async fn a_stream_ends_with_the_life_of_its_token() {
    let server = Server::start(Engine::Mem).await;
    let (viewer, _) = token(&server, pb::Role::Viewer, 1_500).await;
    let nobody = server.anonymous().await.unwrap();
    let query = shown(pb::WatchRequest::default(), &viewer);
    let mut watch = WatchServiceClient::new(nobody.clone());
    let mut events = watch.watch(query).await.unwrap().into_inner();
    let ended = async { while let Ok(Some(_)) = events.message().await {} };
    let ended = tokio::time::timeout(Duration::from_secs(10), ended).await;
    ended.expect("what an expired token opened ends");
    let refused = list(&nobody, &viewer).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn the_audit_log_tells_a_tokens_deeds_from_its_owners() {
    let server = Server::start(Engine::Mem).await;
    let (admin, id) = token(&server, pb::Role::Operator, 600_000).await;
    let nobody = server.anonymous().await.unwrap();
    let stop = pb::FleetCommand { act: act("stop") };
    let mut rollouts = pb::rollout_service_client::RolloutServiceClient::new(nobody.clone());
    rollouts.stop_all(shown(stop, &admin)).await.unwrap();
    let query = pb::ListAuditRequest::default();
    let mut audit = AuditServiceClient::new(server.admin().await);
    let records = audit.list(query).await.unwrap().into_inner().entries;
    let text: Vec<_> = records
        .iter()
        .map(|record| String::from_utf8_lossy(&record.entry).into_owned())
        .collect();
    let named = format!("ada by token {id}");
    let by_token = text.iter().filter(|line| line.contains(&named));
    let by_token: Vec<_> = by_token.collect();
    assert_eq!(by_token.len(), 1, "{text:#?}");
    assert!(by_token[0].contains("stop-all"), "{by_token:?}");
    // Nothing of its secret anywhere.
    assert!(text.iter().all(|line| !line.contains(&admin)));
}

#[tokio::test]
async fn metrics_are_read_with_a_token_and_not_without() {
    let server = Server::start(Engine::Mem).await;
    let (viewer, _) = token(&server, pb::Role::Viewer, 600_000).await;
    let get = |header: String| {
        format!("GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{header}\r\n")
    };
    let without = anonymous_http1(&server, get(String::new()).as_bytes()).await;
    assert!(without.starts_with("HTTP/1.1 403"), "{without}");
    let with = get(format!("authorization: Bearer {viewer}\r\n"));
    let with = anonymous_http1(&server, with.as_bytes()).await;
    assert!(with.contains("ringward_"), "{with}");
}

#[tokio::test]
async fn where_certificates_are_demanded_a_token_alone_does_not_do() {
    let server = Server::start_certificate_only(Engine::Mem).await;
    let (viewer, _) = token(&server, pb::Role::Viewer, 600_000).await;
    // TLS 1.3 tells the client of a missing certificate only after its own handshake.
    let refused = match server.anonymous().await {
        Ok(channel) => list(&channel, &viewer).await.is_err(),
        Err(_) => true,
    };
    assert!(refused);
    list(&server.admin().await, &viewer).await.unwrap();
}

#[tokio::test]
async fn whoever_proves_nothing_keeps_a_strangers_place_and_a_token_gives_it_back() {
    let server = Server::start_limited(Engine::Mem, |limits| {
        limits.unauthenticated_per_address = 1;
        limits.waiting_per_address = 1;
        limits.handshake_wait_ms = 60_000;
    })
    .await;
    let (viewer, _) = token(&server, pb::Role::Viewer, 600_000).await;
    let first = server.anonymous().await.unwrap();
    let query = || Request::new(pb::ListHostsRequest::default());
    let mut fleet = FleetServiceClient::new(first.clone());
    let refused = fleet.list_hosts(query()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    // One more may wait, and whoever comes then is turned away.
    let waiting = TcpStream::connect(server.admins()).await.unwrap();
    assert!(server.anonymous().await.is_err(), "three strangers at once");
    drop(waiting);
    list(&first, &viewer).await.unwrap();
    let place = async { while server.anonymous().await.is_err() {} };
    let place = tokio::time::timeout(Duration::from_secs(10), place).await;
    place.expect("the place is free");
}
