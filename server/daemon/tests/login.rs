//! Signing in to the dashboard with a password, over real HTTP.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{Server, act};
use ringward_server::config::Engine;
use ringward_wire::pb;
use ringward_wire::pb::audit_service_client::AuditServiceClient;
use ringward_wire::pb::people_service_client::PeopleServiceClient;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;

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

/// The same on the admins' listener, without a certificate.
async fn ask_tls(server: &Server, line: &str, headers: &str, body: &str) -> String {
    let at = server.admins();
    let text = format!(
        "{line} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    common::anonymous_http1(server, text.as_bytes()).await
}

async fn with_password() -> (Server, SocketAddr) {
    let server = Server::start_with_dashboard(Engine::Mem).await;
    let bea = server.admin_as(&server.person("bea")).await;
    PeopleServiceClient::new(bea)
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

const LIST_PEOPLE: &str = "POST /ringward.v1.PeopleService/List";
const GRPC_WEB: &str = "content-type: application/grpc-web+proto\r\n";
const EMPTY: &str = "\0\0\0\0\0";

async fn cookie_over_tls(server: &Server) -> String {
    let body = serde_json::json!({ "name": "bea", "password": PASSWORD }).to_string();
    let headers = format!(
        "origin: https://{}\r\ncontent-type: application/json\r\n",
        server.admins()
    );
    let answer = ask_tls(server, "POST /login", &headers, &body).await;
    assert_eq!(status(&answer), 200, "{answer}");
    let cookie = answer
        .lines()
        .find_map(|line| line.strip_prefix("set-cookie: "))
        .unwrap();
    for wanted in ["__Host-", "; Secure", "; HttpOnly", "; SameSite=Strict"] {
        assert!(cookie.contains(wanted), "{cookie}");
    }
    let pair = cookie.split(';').next().unwrap();
    format!("cookie: {pair}\r\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_a_password_does_without_a_certificate_and_its_change_ends_the_session() {
    let (server, _) = with_password().await;
    let page = ask_tls(&server, "GET /", "", "").await;
    assert_eq!(status(&page), 200, "{page}");
    let who = ask_tls(&server, "GET /session", "", "").await;
    assert!(who.ends_with("null"), "{who}");
    let refused = ask_tls(&server, LIST_PEOPLE, GRPC_WEB, EMPTY).await;
    assert!(refused.contains("grpc-status: 16"), "{refused}");
    let cookie = cookie_over_tls(&server).await;
    let headers = format!("{cookie}{GRPC_WEB}");
    let people = ask_tls(&server, LIST_PEOPLE, &headers, EMPTY).await;
    assert!(people.contains("grpc-status:0"), "{people}");
    // Another page's request comes with the cookie of an old browser, and is refused all the same.
    let headers = format!("{headers}origin: https://evil.example\r\n");
    let refused = ask_tls(&server, LIST_PEOPLE, &headers, EMPTY).await;
    assert_eq!(status(&refused), 403, "{refused}");
    PeopleServiceClient::new(server.admin().await)
        .set_password(pb::SetPasswordRequest {
            act: act("she left"),
            person: "bea".to_owned(),
            password: String::new(),
        })
        .await
        .unwrap();
    let who = ask_tls(&server, "GET /session", &cookie, "").await;
    assert!(who.ends_with("null"), "{who}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approver_sets_their_own_password_and_nobody_elses() {
    let server = Server::start_with_dashboard(Engine::Mem).await;
    let at = server.dashboard();
    let bea = server.admin_as(&server.person("bea")).await;
    let set = |channel, person: &str| {
        let request = pb::SetPasswordRequest {
            act: act("test"),
            person: person.to_owned(),
            password: "another horse battery".to_owned(),
        };
        async move {
            let mut people = PeopleServiceClient::new(channel);
            people.set_password(request).await
        }
    };
    set(bea.clone(), "bea").await.unwrap();
    assert_eq!(
        status(&login(at, "bea", "another horse battery").await),
        200
    );
    let refused = set(server.admin().await, "bea").await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    // Bea holds every role of the first people; with the approver's alone she decides on nobody.
    let grants = vec![pb::RoleGrant {
        role: pb::Role::Approver.into(),
        ..pb::RoleGrant::default()
    }];
    let mut people = PeopleServiceClient::new(server.admin().await);
    let grant = pb::GrantRequest {
        act: act("less"),
        person: "bea".to_owned(),
        grants,
    };
    people.grant(grant).await.unwrap();
    let refused = set(bea.clone(), "ada").await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    set(bea, "bea").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_log_tells_who_signed_in_and_when_guesses_ran_out() {
    let (server, at) = with_password().await;
    login(at, "bea", PASSWORD).await;
    login(at, "nobody", "wrong horse battery").await;
    for _ in 0..7 {
        login(at, "bea", "wrong horse battery").await;
    }
    let mut audit = AuditServiceClient::new(server.admin().await);
    let entries = audit.list(pb::ListAuditRequest::default());
    let entries = entries.await.unwrap().into_inner().entries;
    let of_session: Vec<(String, String)> = entries
        .iter()
        .map(|record| serde_json::from_slice::<serde_json::Value>(&record.entry).unwrap())
        .map(|entry| {
            let text = |field: &str| entry[field].as_str().unwrap().to_owned();
            (text("actor"), text("action"))
        })
        .filter(|(_, action)| action.starts_with("session"))
        .collect();
    let of_bea = |action: &str| ("bea".to_owned(), action.to_owned());
    assert_eq!(
        of_session,
        [of_bea("session open"), of_bea("session refuse")]
    );
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
