//! Each limit of the listener and of a session: reached, counted, and no harm to others.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Server, hello, signal};
use ringward_domain::session::{Heartbeat, ToAgent, ToServer};
use ringward_domain::{Epoch, Generation, Millis, SignalSeq};
use ringward_server::config::{Engine, LimitsFile};
use ringward_wire::pb::agent_service_client::AgentServiceClient;
use ringward_wire::{pb, tls};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tonic::Code;

async fn tight(change: impl FnOnce(&mut LimitsFile)) -> Server {
    let mut server = Server::start(Engine::Mem).await;
    let mut limits = LimitsFile::default();
    change(&mut limits);
    server.config.limits = limits.try_into().unwrap();
    server.restart().await;
    server
}

async fn closed(mut stream: impl tokio::io::AsyncRead + Unpin) {
    let mut rest = Vec::new();
    let end = stream.read_to_end(&mut rest);
    let ended = tokio::time::timeout(Duration::from_secs(20), end).await;
    ended.expect("the server closes it").ok();
}

async fn count(server: &Server, name: &str) -> u64 {
    let page = common::page(server, "/metrics").await;
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    line.expect("it is on the page").trim().parse().unwrap()
}

/// Waits until a counter stands at one or more.
async fn counted(server: &Server, name: &str) {
    let counts = async {
        loop {
            if count(server, name).await > 0 {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), counts)
        .await
        .unwrap_or_else(|_| panic!("{name} stays 0"));
}

async fn host(server: &Server) -> common::Host {
    let token = server.token(1).await;
    server.enrol(&token).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_waits_too_long_for_its_turn_is_shed() {
    let server = tight(|limits| {
        limits.handshakes = 1;
        limits.handshake_wait_ms = 100;
        limits.handshake_timeout_ms = 3_000;
    })
    .await;
    let _held = TcpStream::connect(server.agents()).await.unwrap();
    closed(TcpStream::connect(server.agents()).await.unwrap()).await;
    counted(&server, "ringward_shed_handshake_wait_total").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_sent_away_when_its_time_is_over() {
    let server = tight(|limits| limits.unauthenticated_age_s = 1).await;
    let token = server.token(1).await;
    let config = tls::enrolment_config(token.ca).unwrap();
    let tcp = TcpStream::connect(server.agents()).await.unwrap();
    let name = tls::SERVER_NAME.try_into().unwrap();
    let stream = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config))
        .connect(name, tcp)
        .await
        .unwrap();
    closed(stream).await;
    counted(&server, "ringward_connections_aged_total").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_not_finished_in_time_is_answered_so() {
    let server = tight(|limits| limits.unary_timeout_ms = 200).await;
    let channel = server.channel(&host(&server).await).await.unwrap();
    let never = tokio_stream::pending::<pb::AgentFrame>();
    let refused = AgentServiceClient::new(channel).session(never).await;
    assert_eq!(refused.unwrap_err().code(), Code::DeadlineExceeded);
    counted(&server, "ringward_calls_timed_out_total").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_above_an_agents_limit_ends_the_session() {
    let server = tight(|limits| limits.agent_message_bytes = 4_096).await;
    let mut session = server.session(&host(&server).await, hello()).await.unwrap();
    let frame = pb::AgentFrame {
        body: Some(pb::agent_frame::Body::Signals(pb::Signals {
            signals: vec![pb::Signal {
                evidence: "x".repeat(8_000),
                ..pb::Signal::default()
            }],
        })),
    };
    session.out.send(frame).await.unwrap();
    session.ended().await;
    counted(&server, "ringward_messages_refused_total").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_messages_is_slowed_and_its_session_goes_on() {
    let server = tight(|limits| {
        limits.host_message_burst = 5;
        limits.host_messages_per_s = 50;
    })
    .await;
    let mut session = server.session(&host(&server).await, hello()).await.unwrap();
    for _ in 0..20 {
        let beat = Heartbeat {
            accepted: (Epoch(0), Generation(0)),
            boottime: Millis(1),
            soaked: None,
        };
        session.send(ToServer::Heartbeat(beat)).await;
    }
    session.send(ToServer::AuditKnown { size: 0 }).await;
    session
        .until(|message| matches!(message, ToAgent::AuditHead(_)).then_some(()))
        .await;
    counted(&server, "ringward_messages_delayed_total").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_signals_is_slowed_whatever_session_it_comes_by() {
    const BURST: u64 = 30;
    let server = tight(|limits| {
        limits.host_signal_burst = BURST as u32;
        limits.host_signals_per_s = 1;
    })
    .await;
    let host = host(&server).await;
    let flood = |first: u64| ToServer::Signals((first..first + BURST).map(signal).collect());
    let mut session = server.session(&host, hello()).await.unwrap();
    session.send(flood(1)).await;
    let through = SignalSeq(BURST);
    session
        .until(|told| (*told == ToAgent::SignalsDurable { through }).then_some(()))
        .await;
    assert_eq!(count(&server, "ringward_messages_delayed_total").await, 0);
    let session = server.session(&host, hello()).await.unwrap();
    session.send(flood(BURST + 1)).await;
    counted(&server, "ringward_messages_delayed_total").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_beyond_the_streams_of_a_connection_waits_for_one_to_end() {
    let server = tight(|limits| limits.agent_streams = 1).await;
    let channel = server.channel(&host(&server).await).await.unwrap();
    let session = common::open(channel.clone(), hello()).await.unwrap();
    let mut client = AgentServiceClient::new(channel);
    let asked = client.get_release(pb::GetReleaseRequest { release: vec![7] });
    let mut asked = std::pin::pin!(asked);
    let soon = tokio::time::timeout(Duration::from_millis(300), &mut asked).await;
    assert!(soon.is_err(), "two streams at once: {soon:?}");
    drop(session);
    assert_eq!(asked.await.unwrap_err().code(), Code::InvalidArgument);
}
