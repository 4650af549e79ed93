//! Artefacts from an HTTPS mirror that serves, lies, breaks off or never ends.

use crate::daemon::{Running, enrolled, phase, run_with};
use crate::support::{Authority, Server};
use ringward_agent::config::{MirrorSettings, Settings};
use ringward_agent_os::fake::OnLethal;
use ringward_domain::AssignmentKind;
use ringward_domain::observed::PhaseObserved;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What the mirror does with every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    /// Serves the file, or the part asked for.
    Serves,
    /// Serves the whole file whatever was asked for.
    IgnoresRanges,
    /// The right number of wrong bytes.
    Lies,
    /// Breaks off after so many bytes.
    BreaksOffAfter(usize),
    /// Never stops sending.
    NeverEnds,
    /// Answers another part than the one asked for.
    SendsAnotherPart,
    /// Sends the host elsewhere.
    Redirects,
    /// Knows no such file.
    HasNothing,
}

struct Mirror {
    address: String,
    /// First bytes that were asked for.
    asked: Arc<Mutex<Vec<usize>>>,
    authority: Authority,
}

impl Mirror {
    /// A mirror of one file.
    async fn start(deed: Deed, name: &str, content: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let authority = Authority::new();
        let acceptor = TlsAcceptor::from(authority.mirror_config(name));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let Ok(tls) = acceptor.accept(tcp).await else {
                    continue;
                };
                // Whoever breaks off is what the test is about.
                let _ = answer(tls, deed, &content, &told).await;
            }
        });
        Self {
            address: format!("https://localhost:{port}/files/"),
            asked,
            authority,
        }
    }

    fn settings(&self, folder: &std::path::Path) -> MirrorSettings {
        let file = folder.join("mirror-ca.pem");
        let pem = pem::encode(&pem::Pem::new("CERTIFICATE", self.authority.root_der()));
        std::fs::write(&file, pem).unwrap();
        MirrorSettings {
            urls: vec![self.address.parse().unwrap()],
            ca_file: Some(file),
        }
    }

    fn asked(&self) -> Vec<usize> {
        self.asked.lock().unwrap().clone()
    }
}

async fn answer(
    tls: TlsStream<TcpStream>,
    deed: Deed,
    content: &[u8],
    asked: &Mutex<Vec<usize>>,
) -> std::io::Result<()> {
    let mut tls = BufReader::new(tls);
    let (mut from, mut line) = (0, String::new());
    while tls.read_line(&mut line).await? > 2 {
        let lower = line.to_lowercase();
        if let Some(range) = lower.strip_prefix("range: bytes=") {
            from = range.trim().trim_end_matches('-').parse().unwrap();
        }
        line.clear();
    }
    asked.lock().unwrap().push(from);
    let size = content.len();
    let part = |from: usize| {
        format!(
            "HTTP/1.1 206 Partial Content\r\ncontent-length: {}\r\ncontent-range: bytes {from}-{}/{size}\r\n\r\n",
            size - from,
            size - 1
        )
    };
    let whole = format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n");
    let head = |from: usize| match from {
        0 => whole.clone(),
        from => part(from),
    };
    let (head, body) = match deed {
        Deed::Serves => (head(from), content[from..].to_vec()),
        Deed::IgnoresRanges => (whole, content.to_vec()),
        Deed::Lies => (head(from), vec![7; size - from]),
        Deed::BreaksOffAfter(bytes) => (head(from), content[from..(from + bytes).min(size)].into()),
        Deed::NeverEnds => ("HTTP/1.1 200 OK\r\n\r\n".to_owned(), vec![0; size * 2]),
        Deed::SendsAnotherPart => (part(1), content[1..].to_vec()),
        Deed::Redirects => (
            "HTTP/1.1 302 Found\r\nlocation: https://localhost:1/\r\ncontent-length: 0\r\n\r\n"
                .into(),
            Vec::new(),
        ),
        Deed::HasNothing => (
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".into(),
            Vec::new(),
        ),
    };
    tls.write_all(head.as_bytes()).await?;
    tls.write_all(&body).await?;
    tls.flush().await?;
    tls.get_mut().shutdown().await
}

const SIZE: usize = 300_000;

/// A host with a mirror named so installs a release; the server's and the mirror's first bytes asked for.
async fn installs(deed: Deed, name: &str) -> (Vec<u64>, Vec<usize>) {
    let server = Server::start().await;
    let big = "x".repeat(SIZE);
    let release = server.publish("1.0", &[("behaviour", "good\n"), ("big", &big)], &[1]);
    let bundle = server.state().artefacts.values().next().unwrap().clone();
    let mirror = Mirror::start(deed, name, bundle).await;
    let root = enrolled(&server, OnLethal::CrashLoop).await;
    let mut settings = Settings::scripted(root.path()).unwrap();
    settings.mirrors = mirror.settings(root.path());
    let agent: Running = run_with(root, settings);
    server.want(release, "1.0", AssignmentKind::Install, false);
    server
        .until("1.0 committed", |state| {
            phase(state.observed.as_ref()) == Some((release, PhaseObserved::Committed))
        })
        .await;
    let big_there = std::fs::read_to_string(agent.path().join("slots/demo/current/big")).unwrap();
    assert_eq!(big_there, big);
    agent.stop().await;
    let offsets = server.state().offsets.clone();
    (offsets, mirror.asked())
}

#[tokio::test]
async fn a_mirror_spares_the_server_the_artefact() {
    assert_eq!(installs(Deed::Serves, "localhost").await, (vec![], vec![0]));
}

#[tokio::test]
async fn the_server_goes_on_where_a_mirror_broke_off() {
    let (server, mirror) = installs(Deed::BreaksOffAfter(100_000), "localhost").await;
    assert_eq!((server, mirror), (vec![100_000], vec![0]));
}

#[tokio::test]
async fn wrong_bytes_of_a_mirror_are_dropped_and_the_server_sends_all() {
    for deed in [Deed::Lies, Deed::NeverEnds] {
        let (server, mirror) = installs(deed, "localhost").await;
        assert_eq!(server.last(), Some(&0), "{deed:?}");
        assert_eq!(mirror, vec![0], "{deed:?}");
    }
}

#[tokio::test]
async fn a_mirror_that_does_not_serve_costs_nothing() {
    for deed in [Deed::Redirects, Deed::HasNothing, Deed::SendsAnotherPart] {
        let (server, mirror) = installs(deed, "localhost").await;
        assert_eq!((server, mirror), (vec![0], vec![0]), "{deed:?}");
    }
}

#[tokio::test]
async fn a_mirror_that_cannot_prove_its_name_is_told_nothing() {
    let (server, mirror) = installs(Deed::Serves, "elsewhere.example").await;
    assert_eq!((server, mirror), (vec![0], vec![]));
}

/// A host that was stopped in the middle of a download asks the mirror for the rest.
async fn resumes(deed: Deed) -> (Vec<u64>, Vec<usize>) {
    let server = Server::start().await;
    let big = "x".repeat(SIZE);
    let release = server.publish("1.0", &[("behaviour", "good\n"), ("big", &big)], &[1]);
    let (sha256, bundle) = {
        let state = server.state();
        let (sha256, bundle) = state.artefacts.iter().next().unwrap();
        (*sha256, bundle.clone())
    };
    let mirror = Mirror::start(deed, "localhost", bundle.clone()).await;
    let root = enrolled(&server, OnLethal::CrashLoop).await;
    let staging = root.path().join("staging");
    std::fs::create_dir(&staging).unwrap();
    std::fs::write(staging.join(format!("{sha256}.part")), &bundle[..50_000]).unwrap();
    let mut settings = Settings::scripted(root.path()).unwrap();
    settings.mirrors = mirror.settings(root.path());
    let agent = run_with(root, settings);
    server.want(release, "1.0", AssignmentKind::Install, false);
    server
        .until("1.0 committed", |state| {
            phase(state.observed.as_ref()) == Some((release, PhaseObserved::Committed))
        })
        .await;
    agent.stop().await;
    let offsets = server.state().offsets.clone();
    (offsets, mirror.asked())
}

#[tokio::test]
async fn what_is_there_already_is_not_asked_of_a_mirror_again() {
    assert_eq!(resumes(Deed::Serves).await, (vec![], vec![50_000]));
}

#[tokio::test]
async fn a_mirror_without_ranges_sends_the_whole_file() {
    assert_eq!(resumes(Deed::IgnoresRanges).await, (vec![], vec![50_000]));
}
