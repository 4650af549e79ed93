//! Webhooks to a receiver that runs: signed, told once, tried again, dead and replayed; and where they
//! never go.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{Server, act};
use ring::hmac;
use ringward_server::config::Engine;
use ringward_server::webhooks::{WebhookFile, signature};
use ringward_wire::pb;
use ringward_wire::pb::rollout_service_client::RolloutServiceClient;
use ringward_wire::pb::webhook_service_client::WebhookServiceClient;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use tonic::transport::Channel;

const SECRET: &[u8; 32] = b"0123456789abcdef0123456789abcdef";
const PATIENCE: Duration = Duration::from_secs(30);

/// One message as it came.
struct Got {
    headers: BTreeMap<String, String>,
    body: String,
}

/// A receiver that answers with these, and with 204 from then on.
fn receiver(answers: &'static [&'static str]) -> (u16, Receiver<Got>) {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    let (tell, got) = channel();
    std::thread::spawn(move || {
        let mut answers = answers.iter();
        for stream in tcp.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream);
            let mut headers = BTreeMap::new();
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) <= 2 {
                    break;
                }
                if let Some((name, value)) = line.split_once(':') {
                    headers.insert(name.to_lowercase(), value.trim().to_owned());
                }
            }
            let length = headers
                .get("content-length")
                .map_or(0, |n| n.parse().unwrap());
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let answer = answers.next().unwrap_or(&"204 No Content");
            let said =
                format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            reader.get_mut().write_all(said.as_bytes()).unwrap();
            let body = String::from_utf8(body).unwrap();
            if tell.send(Got { headers, body }).is_err() {
                return;
            }
        }
    });
    (port, got)
}

fn webhook(name: &str, url: String, local: bool) -> WebhookFile {
    WebhookFile {
        name: name.to_owned(),
        url,
        secret_file: "hook.secret".into(),
        events: None,
        local,
        ca_file: None,
    }
}

async fn server(hook: WebhookFile) -> Server {
    Server::start_hooked(Engine::Mem, vec![hook], SECRET).await
}

/// A server whose webhook leads to a receiver that answers so.
async fn told_to(answers: &'static [&'static str]) -> (Server, Receiver<Got>) {
    let (port, got) = receiver(answers);
    let hook = webhook("a", format!("http://127.0.0.1:{port}/x"), true);
    (server(hook).await, got)
}

/// Asks again and again until there is an answer; gives up loudly.
async fn eventually<T, F: Future<Output = Option<T>>>(mut ask: impl FnMut() -> F) -> T {
    let looked = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, looked).await.unwrap()
}

impl Got {
    fn kind(&self) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        body["type"].as_str().unwrap().to_owned()
    }

    fn is_signed(&self) {
        let at = self.headers["webhook-timestamp"].parse().unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
        let right = signature(&key, &self.headers["webhook-id"], at, &self.body);
        assert_eq!(self.headers["webhook-signature"], right);
    }
}

fn andon(channel: Channel) -> RolloutServiceClient<Channel> {
    RolloutServiceClient::new(channel)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_andon_is_told_once_signed_and_so_is_its_end() {
    let (server, got) = told_to(&[]).await;
    let mut fleet = andon(server.admin().await);
    fleet
        .stop_all(pb::FleetCommand { act: act("test") })
        .await
        .unwrap();
    let fired = got.recv_timeout(PATIENCE).unwrap();
    fired.is_signed();
    assert_eq!(fired.kind(), "andon.fired");
    fleet
        .resume_all(pb::FleetCommand { act: act("test") })
        .await
        .unwrap();
    let over = got.recv_timeout(PATIENCE).unwrap();
    over.is_signed();
    assert_eq!(over.kind(), "andon.resolved");
    assert_ne!(over.headers["webhook-id"], fired.headers["webhook-id"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_gone_is_a_dead_letter_that_goes_again_under_its_id() {
    let (server, got) = told_to(&["410 Gone"]).await;
    let mut hooks = WebhookServiceClient::new(server.admin().await);
    let name = "a".to_owned();
    let order = pb::TestWebhookRequest {
        act: act("try"),
        name,
    };
    hooks.test(order).await.unwrap();
    let first = got.recv_timeout(PATIENCE).unwrap();
    assert_eq!(first.kind(), "test.fired");
    let dead = eventually(|| {
        let mut hooks = hooks.clone();
        async move {
            let dead = hooks.dead(pb::ListDeadLettersRequest {}).await.unwrap();
            Some(dead.into_inner().letters).filter(|letters| !letters.is_empty())
        }
    })
    .await;
    assert_eq!(dead[0].id, first.headers["webhook-id"]);
    let order = pb::ReplayWebhookRequest {
        act: act("again"),
        id: dead[0].id.clone(),
    };
    hooks.replay(order).await.unwrap();
    let second = got.recv_timeout(PATIENCE).unwrap();
    second.is_signed();
    assert_eq!(second.headers["webhook-id"], first.headers["webhook-id"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_fails_gets_the_message_again() {
    let (server, got) = told_to(&["503 Service Unavailable"]).await;
    let mut fleet = andon(server.admin().await);
    fleet
        .stop_all(pb::FleetCommand { act: act("test") })
        .await
        .unwrap();
    let first = got.recv_timeout(PATIENCE).unwrap();
    let second = got.recv_timeout(PATIENCE).unwrap();
    assert_eq!(first.headers["webhook-id"], second.headers["webhook-id"]);
    assert_eq!(first.body, second.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_goes_to_this_machine_unless_allowed() {
    let (port, got) = receiver(&[]);
    let server = server(webhook("a", format!("https://localhost:{port}/x"), false)).await;
    let mut hooks = WebhookServiceClient::new(server.admin().await);
    let name = "a".to_owned();
    hooks
        .test(pb::TestWebhookRequest {
            act: act("try"),
            name,
        })
        .await
        .unwrap();
    let trouble = eventually(|| {
        let mut hooks = hooks.clone();
        async move {
            let list = hooks.list(pb::ListWebhooksRequest {}).await.unwrap();
            let trouble = list.into_inner().webhooks.remove(0).trouble;
            Some(trouble).filter(|trouble| !trouble.is_empty())
        }
    })
    .await;
    assert!(trouble.contains("loopback"), "{trouble}");
    assert!(got.try_recv().is_err(), "it was connected to");
}
