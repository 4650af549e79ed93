//! Signing in to the dashboard with a password, over real HTTP.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{Server, act};
use ringward_server::config::Engine;
use ringward_wire::pb;
use ringward_wire::pb::people_service_client::PeopleServiceClient;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const PASSWORD: &str = "correct horse battery";

/// One request as a browser makes it; the answer's text.
async fn ask(at: SocketAddr, line: &str, headers: &str, body: &str) -> String {
    let mut tcp = TcpStream::connect(at).await.unwrap();
    let text = format!(
        "{line} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    tcp.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn login(at: SocketAddr, name: &str, password: &str) -> String {
    let body = serde_json::json!({ "name": name, "password": password }).to_string();
    let headers = format!("origin: http://{at}\r\ncontent-type: application/json\r\n");
    ask(at, "POST /login", &headers, &body).await
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

async fn with_password() -> (Server, SocketAddr) {
    let server = Server::start_with_dashboard(Engine::Mem).await;
    PeopleServiceClient::new(server.admin().await)
        .set_password(pb::SetPasswordRequest {
            act: act("test"),
            person: "bea".to_owned(),
            password: PASSWORD.to_owned(),
        })
        .await
        .unwrap();
    let at = server.dashboard();
    (server, at)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_signs_in_until_signed_out() {
    let (_server, at) = with_password().await;
    let answer = login(at, "bea", PASSWORD).await;
    assert_eq!(status(&answer), 200, "{answer}");
    let cookie = answer
        .lines()
        .find_map(|line| line.strip_prefix("set-cookie: "))
        .unwrap();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    assert!(cookie.contains("Max-Age="), "{cookie}");
    let pair = cookie.split(';').next().unwrap();
    let headers = format!("cookie: {pair}\r\n");
    let who = ask(at, "GET /session", &headers, "").await;
    assert!(who.contains("\"actor\":\"bea\""), "{who}");
    let leaving = format!("{headers}origin: http://{at}\r\ncontent-type: application/json\r\n");
    assert_eq!(status(&ask(at, "POST /logout", &leaving, "").await), 200);
    let who = ask(at, "GET /session", &headers, "").await;
    assert!(who.ends_with("null"), "{who}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_names_and_wrong_passwords_are_answered_alike_and_no_cookie_comes() {
    let (_server, at) = with_password().await;
    let wrong = login(at, "bea", "wrong horse battery").await;
    let unknown = login(at, "nobody", "wrong horse battery").await;
    let body = |answer: &str| answer.split("\r\n\r\n").nth(1).map(str::to_owned);
    assert_eq!((status(&wrong), status(&unknown)), (403, 403));
    assert_eq!(body(&wrong), body(&unknown));
    assert!(!wrong.contains("set-cookie"));
    let both = r#"{"token":"x","name":"bea","password":"y"}"#;
    let headers = "content-type: application/json\r\n";
    let answer = ask(at, "POST /login", headers, both).await;
    assert_eq!(status(&answer), 400, "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_guesses_run_out_and_another_origin_is_refused() {
    let (_server, at) = with_password().await;
    let guesses = (0..40).map(|_| tokio::spawn(login(at, "bea", "wrong horse battery")));
    let guesses: Vec<_> = guesses.collect();
    let mut hashed = 0;
    for guess in guesses {
        hashed += u32::from(status(&guess.await.unwrap()) == 403);
    }
    assert!(hashed <= 5, "{hashed} guesses were looked at");
    // The right one is not looked at either: who guesses learns nothing.
    assert_eq!(status(&login(at, "bea", PASSWORD).await), 429);
    let body = serde_json::json!({ "name": "ada", "password": PASSWORD }).to_string();
    let headers = "origin: http://evil.example\r\ncontent-type: application/json\r\n";
    let answer = ask(at, "POST /login", headers, &body).await;
    assert_eq!(status(&answer), 403, "{answer}");
    assert!(answer.contains("origin"), "{answer}");
}
