//! What hostile or broken clients get, and that the honest ones beside them do not notice.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Server, act, hello};
use ringward_domain::session::ToAgent;
use ringward_server::config::{Engine, LimitsFile};
use ringward_wire::pb::agent_service_client::AgentServiceClient;
use ringward_wire::{pb, tls};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A server whose limits are small enough to reach.
async fn tight(change: impl FnOnce(&mut LimitsFile)) -> Server {
    let mut server = Server::start(Engine::Mem).await;
    let mut limits = LimitsFile::default();
    change(&mut limits);
    server.config.limits = limits.try_into().unwrap();
    server.restart().await;
    server
}

/// Waits until the server closes this connection.
async fn closed(mut stream: TcpStream) {
    let mut rest = Vec::new();
    let end = stream.read_to_end(&mut rest);
    tokio::time::timeout(Duration::from_secs(5), end)
        .await
        .expect("the server closes it")
        .ok();
}

async fn counted(server: &Server, line: &str) -> bool {
    common::page(server, "/metrics").await.contains(line)
}

async fn honest(server: &Server) {
    let token = server.token(1).await;
    let host = server.enrol(&token).await.unwrap();
    let mut session = server.session(&host, hello()).await.unwrap();
    session
        .until(|m| matches!(m, ToAgent::Welcome { .. }).then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_says_nothing_is_closed_and_counted() {
    let server = tight(|limits| limits.handshake_timeout_ms = 200).await;
    closed(TcpStream::connect(server.agents()).await.unwrap()).await;
    assert!(counted(&server, "ringward_handshakes_timed_out_total 1\n").await);
    honest(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn junk_instead_of_tls_ends_the_connection_and_not_the_listener() {
    let server = tight(|_| {}).await;
    for junk in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0x16, 3, 1, 0xff, 0xff],
        &[0; 64],
    ] {
        let mut stream = TcpStream::connect(server.agents()).await.unwrap();
        stream.write_all(junk).await.unwrap();
        stream.shutdown().await.unwrap();
        closed(stream).await;
    }
    honest(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_above_the_limit_are_shed_at_once() {
    let server = tight(|limits| limits.agent_connections = 4).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(TcpStream::connect(server.agents()).await.unwrap());
    }
    closed(TcpStream::connect(server.agents()).await.unwrap()).await;
    assert!(counted(&server, "ringward_shed_connections_total 1\n").await);
    drop(held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_of_one_address_wait_their_turn_and_do_not_starve_known_hosts() {
    let server = tight(|limits| {
        limits.unauthenticated_per_address = 2;
        limits.waiting_per_address = 1;
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(TcpStream::connect(server.agents()).await.unwrap());
    }
    closed(TcpStream::connect(server.agents()).await.unwrap()).await;
    assert!(counted(&server, "ringward_shed_unauthenticated_total 1\n").await);
    drop(held);
    honest(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_above_the_limit_are_refused() {
    let server = tight(|_| {}).await;
    let mut request = tonic::Request::new(pb::FleetCommand { act: act("x") });
    let long = "x".repeat(20_000).parse().unwrap();
    request.metadata_mut().insert("x-long", long);
    let refused = server.rollouts().await.stop_all(request).await;
    assert!(refused.is_err());
    assert!(
        server
            .rollouts()
            .await
            .list(pb::ListRolloutsRequest::default())
            .await
            .is_ok()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_above_the_limit_is_refused() {
    let server = tight(|limits| limits.admin_message_bytes = 4_096).await;
    let refused = pb::policy_service_client::PolicyServiceClient::new(server.admin().await)
        .check(pb::CheckPolicyRequest {
            policy_toml: "#".repeat(10_000),
        })
        .await
        .unwrap_err();
    assert_eq!(refused.code(), tonic::Code::OutOfRange);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aged_connection_is_asked_to_come_back() {
    let server = tight(|limits| limits.connection_age_s = 1).await;
    let token = server.token(1).await;
    let host = server.enrol(&token).await.unwrap();
    let mut session = server.session(&host, hello()).await.unwrap();
    session
        .until(|m| matches!(m, ToAgent::ComeBack { .. }).then_some(()))
        .await;
    session.ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_speaks_grpc_web_too() {
    let server = tight(|_| {}).await;
    let text = common::grpc_web(&server, "/ringward.v1.RolloutService/List").await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(text.contains("application/grpc-web"), "{text}");
    assert!(text.contains("grpc-status:0"), "{text}");
}

/// TLS as an enrolled host, and nothing above it yet.
async fn raw(server: &Server) -> tokio_rustls::client::TlsStream<TcpStream> {
    let host = server.enrol(&server.token(1).await).await.unwrap();
    let identity = tls::Identity {
        chain: host.chain.clone(),
        key: host.key.clone_key(),
    };
    let config = tls::client_config(&host.roots, identity).unwrap();
    let tcp = TcpStream::connect(server.agents()).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from(tls::SERVER_NAME).unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_answers_no_ping_is_closed_and_counted() {
    let server = tight(|limits| {
        limits.keepalive_interval_s = 1;
        limits.keepalive_timeout_s = 1;
    })
    .await;
    let mut stream = raw(&server).await;
    // The preface, settings, and the acknowledgement of the server's: then silence.
    let opening = [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        &[0, 0, 0, 4, 0, 0, 0, 0, 0],
        &[0, 0, 0, 4, 1, 0, 0, 0, 0],
    ];
    stream.write_all(&opening.concat()).await.unwrap();
    let mut said = Vec::new();
    let end = stream.read_to_end(&mut said);
    let ended = tokio::time::timeout(Duration::from_secs(20), end).await;
    assert!(ended.is_ok(), "the server keeps a dead connection");
    // A PING frame: 8 bytes of payload, type 6.
    let ping = said.windows(4).any(|head| head == [0, 0, 8, 6]);
    assert!(ping, "{said:?}");
    assert!(counted(&server, "ringward_connections_broken_total 1\n").await);
    honest(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn downloads_above_the_limit_are_asked_to_come_back_and_get_their_turn() {
    let server = tight(|limits| limits.downloads = 1).await;
    let content = vec![7; 2 << 20];
    let sha256 = server.publish_content("1.0", &content).await;
    let token = server.token(2).await;
    let first = server.enrol(&token).await.unwrap();
    let second = server.enrol(&token).await.unwrap();
    let ask = async |host| {
        let channel = server.channel(host).await.unwrap();
        let request = pb::FetchArtifactRequest {
            sha256: sha256.0.to_vec(),
            offset: 0,
        };
        AgentServiceClient::new(channel)
            .fetch_artifact(request)
            .await
    };
    // It takes the first chunk and then no more: flow control keeps the rest at the server.
    let mut slow = ask(&first).await.unwrap().into_inner();
    assert!(slow.message().await.unwrap().is_some());
    let refused = ask(&second).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused}");
    assert!(counted(&server, "ringward_downloads_refused_total 1\n").await);
    drop(slow);
    let mut whole = ask(&second).await.unwrap().into_inner();
    let mut bytes = 0;
    while let Some(chunk) = whole.message().await.unwrap() {
        bytes += chunk.data.len();
    }
    assert_eq!(bytes, content.len());
}
