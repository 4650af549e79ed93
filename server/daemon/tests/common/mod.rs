//! A server in this process, and clients that speak to it over loopback TLS.
#![allow(dead_code, clippy::unwrap_used)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use ringward_domain::host::{Arch, Facts, GuardTier, Os};
use ringward_domain::manifest::{Envelope, ReleaseRoot, SIGNING_CONTEXT, Signature};
use ringward_domain::observed::Observed;
use ringward_domain::session::{Hello, PROTOCOL, ToAgent, ToServer};
use ringward_domain::signal::{Signal, SignalKind};
use ringward_domain::{
    AgentStart, BootId, Epoch, Generation, HostId, KeyId, Millis, ReleaseDigest, RequestId, Sha256,
    SignalSeq,
};
use ringward_server::config::{Engine, LimitsFile};
use ringward_server::webhooks::WebhookFile;
use ringward_server::{Config, InitOptions, Running, init, start, trust_root};
use ringward_wire::command::Act;
use ringward_wire::enrolment::{EnrolRequest, Enrolled};
use ringward_wire::pb::agent_service_client::AgentServiceClient;
use ringward_wire::pb::fleet_service_client::FleetServiceClient;
use ringward_wire::pb::release_service_client::ReleaseServiceClient;
use ringward_wire::pb::rollout_service_client::RolloutServiceClient;
use ringward_wire::token::{EnrolmentToken, sha256};
use ringward_wire::{client, pb, tls};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// Seconds instead of minutes; the least that a policy may say.
pub const QUICK_RINGS: &str = r#"
soak_s = 1
heartbeat_s = 1
silence_reboot_s = 8
silence_s = 8
restart_grace_s = 1
attribution_s = 5
verify_boot = false
[[ring]]
name = "all"
"#;

/// Bytes of one piece of an upload.
const PIECE: usize = 64 * 1024;

#[derive(serde::Deserialize)]
pub struct Context {
    pub server: String,
    pub ca: String,
    pub certificate: String,
    pub key: String,
}

pub struct Server {
    pub dir: tempfile::TempDir,
    pub config: Config,
    pub context: Context,
    pub running: Option<Running>,
}

/// An enrolled host, as its folder would hold it.
pub struct Host {
    pub id: HostId,
    pub chain: Vec<CertificateDer<'static>>,
    pub roots: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

pub struct Session {
    pub out: mpsc::Sender<pb::AgentFrame>,
    pub inbox: Streaming<pb::ServerFrame>,
    pub channel: Channel,
}

pub fn request_id() -> RequestId {
    RequestId(
        KeyPair::generate().unwrap().serialized_der()[40..56]
            .try_into()
            .unwrap(),
    )
}

pub fn act(reason: &str) -> Option<pb::Act> {
    let act = Act {
        request: request_id(),
        reason: reason.to_owned(),
        dry_run: false,
        break_glass: false,
    };
    Some(act.into())
}

pub fn release_key() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
}

impl Server {
    pub async fn start(engine: Engine) -> Self {
        Self::start_with(engine, &[]).await
    }

    /// With these people seated beside Ada from the start.
    pub async fn start_with(engine: Engine, seated: &[&str]) -> Self {
        Self::set_up(engine, seated, |_| {}).await
    }

    /// With webhooks, whose secret is this.
    pub async fn start_hooked(engine: Engine, hooks: Vec<WebhookFile>, secret: &[u8]) -> Self {
        Self::set_up(engine, &[], |config| {
            let path = config.data.root().join("hook.secret");
            let text = format!("whsec_{}", STANDARD.encode(secret));
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            config.webhooks = hooks;
        })
        .await
    }

    /// Where nobody gets in without a certificate.
    pub async fn start_certificate_only(engine: Engine) -> Self {
        Self::set_up(engine, &[], |config| config.admins.certificate_only = true).await
    }

    /// With other bounds on what clients get.
    pub async fn start_limited(engine: Engine, change: impl FnOnce(&mut LimitsFile)) -> Self {
        Self::set_up(engine, &[], |config| {
            let mut limits = LimitsFile::default();
            change(&mut limits);
            config.limits = limits.try_into().unwrap();
        })
        .await
    }

    /// With its plain dashboard listener on loopback.
    pub async fn start_with_dashboard(engine: Engine) -> Self {
        let listen = Some("127.0.0.1:0".parse().unwrap());
        Self::set_up(engine, &["bea"], |config| config.dashboard = listen).await
    }

    /// Where the plain dashboard listens.
    pub fn dashboard(&self) -> std::net::SocketAddr {
        self.running.as_ref().unwrap().addresses.dashboard.unwrap()
    }

    async fn set_up(engine: Engine, seated: &[&str], change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rings = dir.path().join("rings.toml");
        std::fs::write(&rings, QUICK_RINGS).unwrap();
        let made = init(&InitOptions {
            data: dir.path().join("data"),
            agent_address: "127.0.0.1:0".to_owned(),
            admin_address: "127.0.0.1:0".to_owned(),
            admin: "ada".to_owned(),
            rings: Some(rings),
            release_root: None,
        })
        .unwrap();
        let mut config = Config::load(made.data.clone()).unwrap();
        config.engine = engine;
        change(&mut config);
        let seats = [&["ada"], seated].concat().join("\n");
        std::fs::write(config.data.seats(), seats).unwrap();
        let context = toml::from_str(&std::fs::read_to_string(&made.context).unwrap()).unwrap();
        let key = KeyId::try_from(release_key().public_key().as_ref()).unwrap();
        let root = ReleaseRoot {
            version: 1,
            threshold: 1,
            keys: vec![key.to_string()],
        };
        let file = dir.path().join("release-root.json");
        std::fs::write(&file, serde_json::to_vec(&root).unwrap()).unwrap();
        trust_root(&made.data, &file).unwrap();
        let running = Some(start(config.clone()).await.unwrap());
        Self {
            dir,
            config,
            context,
            running,
        }
    }

    pub async fn restart(&mut self) {
        self.running.take().unwrap().stop().await.unwrap();
        self.running = Some(start(self.config.clone()).await.unwrap());
    }

    pub fn agents(&self) -> String {
        self.running.as_ref().unwrap().addresses.agents.to_string()
    }

    pub fn admins(&self) -> String {
        self.running.as_ref().unwrap().addresses.admins.to_string()
    }

    pub fn pki(&self) -> PathBuf {
        self.config.data.pki()
    }

    pub fn root(&self) -> Vec<CertificateDer<'static>> {
        tls::certificates("root", self.context.ca.as_bytes()).unwrap()
    }

    /// The context of somebody else, with a certificate and no more.
    pub fn person(&self, name: &str) -> Context {
        let file = ringward_server::new_admin(&self.config, name).unwrap();
        toml::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
    }

    pub async fn admin_as(&self, context: &Context) -> Channel {
        let config = tls::client_config_from_pem(
            context.ca.as_bytes(),
            context.certificate.as_bytes(),
            context.key.as_bytes(),
        );
        client::channel(&self.admins(), Arc::new(config.unwrap()))
            .await
            .unwrap()
    }

    pub fn admin_tls(&self) -> rustls::ClientConfig {
        tls::client_config_from_pem(
            self.context.ca.as_bytes(),
            self.context.certificate.as_bytes(),
            self.context.key.as_bytes(),
        )
        .unwrap()
    }

    /// The admins' listener as somebody without a certificate reaches it.
    pub async fn anonymous(&self) -> Result<Channel, client::ConnectError> {
        let config = tls::anonymous_config_from_pem(self.context.ca.as_bytes()).unwrap();
        client::channel(&self.admins(), Arc::new(config)).await
    }

    pub async fn admin(&self) -> Channel {
        client::channel(&self.admins(), Arc::new(self.admin_tls()))
            .await
            .unwrap()
    }

    pub async fn fleet(&self) -> FleetServiceClient<Channel> {
        FleetServiceClient::new(self.admin().await)
    }

    pub async fn rollouts(&self) -> RolloutServiceClient<Channel> {
        RolloutServiceClient::new(self.admin().await)
    }

    pub async fn token(&self, uses: u32) -> EnrolmentToken {
        let answer = self
            .fleet()
            .await
            .create_token(pb::CreateTokenRequest {
                act: act("a test"),
                spec: Some(pb::TokenSpec {
                    uses,
                    life_ms: 60_000,
                    labels: [("site".to_owned(), "lab".to_owned())].into(),
                    approve: true,
                    ..pb::TokenSpec::default()
                }),
            })
            .await
            .unwrap()
            .into_inner();
        answer.token.parse().unwrap()
    }

    pub async fn enrol(&self, token: &EnrolmentToken) -> Result<Host, Status> {
        let config = tls::enrolment_config(token.ca).unwrap();
        let channel = client::channel(&token.addresses[0], Arc::new(config))
            .await
            .unwrap();
        let key = KeyPair::generate().unwrap();
        let csr = CertificateParams::default()
            .serialize_request(&key)
            .unwrap();
        let request = EnrolRequest {
            secret: token.secret.clone(),
            csr_der: csr.der().to_vec(),
            facts: facts(),
            agent_version: "1.0".to_owned(),
        };
        let answer = AgentServiceClient::new(channel)
            .enroll(pb::EnrollRequest::from(request))
            .await?;
        let enrolled = Enrolled::try_from(answer.into_inner()).unwrap();
        assert!(enrolled.release_root.is_some());
        let der = |all: Vec<Vec<u8>>| all.into_iter().map(CertificateDer::from).collect();
        Ok(Host {
            id: enrolled.host,
            chain: der(enrolled.certificates.chain_der),
            roots: der(enrolled.certificates.roots_der),
            key: PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
        })
    }

    pub async fn channel(&self, host: &Host) -> Result<Channel, client::ConnectError> {
        let identity = tls::Identity {
            chain: host.chain.clone(),
            key: host.key.clone_key(),
        };
        let config = tls::client_config(&host.roots, identity).unwrap();
        client::channel(&self.agents(), Arc::new(config)).await
    }

    pub async fn session(&self, host: &Host, hello: Hello) -> Result<Session, Status> {
        let channel = self.channel(host).await.unwrap();
        open(channel, hello).await
    }

    /// Publishes a release of package `demo` with one small artefact.
    pub async fn publish(&self, version: &str) -> ReleaseDigest {
        let content = format!("content of {version}").into_bytes();
        let digest = envelope(version, &content).1;
        self.publish_content(version, &content).await;
        digest
    }

    /// Publishes a release of package `demo` with this artefact.
    pub async fn publish_content(&self, version: &str, content: &[u8]) -> Sha256 {
        let (envelope, digest) = envelope(version, content);
        let start = pb::PublishRequest {
            part: Some(pb::publish_request::Part::Start(pb::PublishStart {
                act: act("a test"),
                envelope: Some(envelope.into()),
            })),
        };
        let sha256 = sha256(content);
        let part = |(i, data): (usize, &[u8])| pb::PublishRequest {
            part: Some(pb::publish_request::Part::Content(pb::ArtefactPart {
                sha256: sha256.0.to_vec(),
                chunk: Some(pb::ArtefactChunk {
                    offset: (i * PIECE) as u64,
                    data: data.to_vec(),
                }),
            })),
        };
        let parts: Vec<_> = content.chunks(PIECE).enumerate().map(part).collect();
        let messages = [start].into_iter().chain(parts);
        let answer = ReleaseServiceClient::new(self.admin().await)
            .publish(tokio_stream::iter(messages.collect::<Vec<_>>()))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(answer.release.unwrap().release, digest.0);
        sha256
    }
}

pub fn envelope(version: &str, content: &[u8]) -> (Envelope, ReleaseDigest) {
    // Written out: recorded sessions name the digest of these very bytes, and the order of a map's keys
    // depends on which crates are built beside this one.
    let payload = format!(
        r#"{{"format":1,"package":"demo","version":"{version}","artefacts":[{{"os":"linux","sha256":"{}","size":{}}}],"installer":"bundle","revert_class":"atomic"}}"#,
        sha256(content),
        content.len()
    )
    .into_bytes();
    let key = release_key();
    let message = [SIGNING_CONTEXT, &payload].concat();
    let digest = ReleaseDigest(sha256(&payload).0);
    let envelope = Envelope {
        payload,
        signatures: vec![Signature {
            key: KeyId(sha256(key.public_key().as_ref()).0),
            signature: key.sign(&message).as_ref().to_vec(),
        }],
    };
    (envelope, digest)
}

pub async fn open(channel: Channel, hello: Hello) -> Result<Session, Status> {
    let (out, frames) = mpsc::channel(16);
    out.send(ToServer::Hello(Box::new(hello)).into())
        .await
        .unwrap();
    let inbox = AgentServiceClient::new(channel.clone())
        .session(ReceiverStream::new(frames))
        .await?
        .into_inner();
    Ok(Session {
        out,
        inbox,
        channel,
    })
}

impl Session {
    pub async fn send(&self, message: ToServer) {
        self.out.send(message.into()).await.unwrap();
    }

    /// The next message that `wanted` picks; others are passed over.
    pub async fn until<T>(&mut self, wanted: impl Fn(&ToAgent) -> Option<T>) -> T {
        let next = async {
            loop {
                let frame = self.inbox.message().await.unwrap();
                let message = ToAgent::try_from(frame.expect("the session goes on")).unwrap();
                if let Some(found) = wanted(&message) {
                    return found;
                }
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), next)
            .await
            .expect("the message comes")
    }

    /// Waits until the server ends the session.
    pub async fn ended(&mut self) {
        let end = async { while let Ok(Some(_)) = self.inbox.message().await {} };
        tokio::time::timeout(std::time::Duration::from_secs(5), end)
            .await
            .expect("the session ends");
    }
}

pub fn facts() -> Facts {
    Facts {
        hostname: "lab-1".to_owned(),
        os: Os::Linux,
        os_build: "Debian 12".to_owned(),
        arch: Arch::X86_64,
        kernel: "6.1".to_owned(),
        model: String::new(),
        fingerprint: "00".repeat(32),
        memory_mib: 1024,
        cpus: 2,
        guard_tier: GuardTier::Service,
    }
}

/// A signal of no release.
pub fn signal(seq: u64) -> Signal {
    Signal {
        seq: SignalSeq(seq),
        kind: SignalKind::KernelOops,
        key: format!("oops-{seq}"),
        boot: BootId([1; 16]),
        at_boottime: Millis(seq),
        release: None,
        title: "an oops".to_owned(),
        signature: String::new(),
        evidence: "{}".to_owned(),
    }
}

pub fn hello() -> Hello {
    Hello {
        protocol_min: PROTOCOL,
        protocol_max: PROTOCOL,
        capabilities: Vec::new(),
        agent_version: "1.0".to_owned(),
        boot: BootId([1; 16]),
        agent_start: AgentStart([2; 16]),
        boottime: Millis(1_000),
        last_stop_clean: Some(true),
        accepted: (Epoch(0), Generation(0)),
        next_signal: SignalSeq(1),
        facts: facts(),
        observed: Observed::default(),
    }
}

/// A page of the admins' listener over HTTP/1.1, status line and all.
pub async fn page(server: &Server, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    http1(server, request.as_bytes()).await
}

/// A call with an empty request message, as a browser makes it.
pub async fn grpc_web(server: &Server, path: &str) -> String {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/grpc-web+proto\r\ncontent-length: 5\r\n\r\n"
    );
    http1(server, &[head.as_bytes(), &[0; 5]].concat()).await
}

async fn http1(server: &Server, request: &[u8]) -> String {
    over_tls(server, server.admin_tls(), request).await
}

/// The same without a certificate.
pub async fn anonymous_http1(server: &Server, request: &[u8]) -> String {
    let config = tls::anonymous_config_from_pem(server.context.ca.as_bytes()).unwrap();
    over_tls(server, config, request).await
}

async fn over_tls(server: &Server, mut config: rustls::ClientConfig, request: &[u8]) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let tcp = tokio::net::TcpStream::connect(server.admins())
        .await
        .unwrap();
    let name = rustls_pki_types::ServerName::try_from(tls::SERVER_NAME).unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
        .unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}
