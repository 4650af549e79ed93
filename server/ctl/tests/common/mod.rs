//! A server that answers what it is told, over real TLS, and the context to reach it.
#![allow(clippy::unwrap_used, dead_code)]

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use ringward_domain::report::RolloutView;
use ringward_wire::pb::rollout_service_server::{RolloutService, RolloutServiceServer};
use ringward_wire::pb::watch_service_server::{WatchService, WatchServiceServer};
use ringward_wire::{pb, tls};
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::PrivateKeyDer;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status};

type Answer<T> = Result<Response<T>, Status>;

/// What the fake answers, and what it was told.
#[derive(Default)]
pub struct Script {
    /// Answer to `Start`: of a dry run too.
    pub start: Option<Result<pb::Outcome, Status>>,
    /// What a watch tells before it ends.
    pub watched: Vec<RolloutView>,
    /// What `List` tells.
    pub rollouts: Vec<RolloutView>,
    /// Orders received, as (verb, dry run).
    pub orders: Vec<(&'static str, bool)>,
}

#[derive(Clone, Default)]
pub struct Fake(pub Arc<Mutex<Script>>);

impl Fake {
    fn ordered(&self, verb: &'static str, act: Option<pb::Act>) -> Answer<pb::Outcome> {
        let mut script = self.0.lock().unwrap();
        let act = act.unwrap();
        assert_eq!(act.request_id.len(), 16);
        script.orders.push((verb, act.dry_run));
        let done = pb::Outcome {
            summary: format!("{verb} done"),
            ..pb::Outcome::default()
        };
        Ok(Response::new(done))
    }

    pub fn orders(&self) -> Vec<(&'static str, bool)> {
        self.0.lock().unwrap().orders.clone()
    }
}

#[tonic::async_trait]
impl RolloutService for Fake {
    async fn start(&self, request: Request<pb::StartRequest>) -> Answer<pb::Outcome> {
        let scripted = self.0.lock().unwrap().start.clone();
        let done = self.ordered("start", request.into_inner().act);
        scripted.map_or(done, |answer| answer.map(Response::new))
    }
    async fn rollback(&self, request: Request<pb::RollbackRequest>) -> Answer<pb::Outcome> {
        self.ordered("rollback", request.into_inner().act)
    }
    async fn pause(&self, request: Request<pb::RolloutCommand>) -> Answer<pb::Outcome> {
        self.ordered("pause", request.into_inner().act)
    }
    async fn resume(&self, request: Request<pb::RolloutCommand>) -> Answer<pb::Outcome> {
        self.ordered("resume", request.into_inner().act)
    }
    async fn abort(&self, request: Request<pb::RolloutCommand>) -> Answer<pb::Outcome> {
        self.ordered("abort", request.into_inner().act)
    }
    async fn stop_all(&self, request: Request<pb::FleetCommand>) -> Answer<pb::Outcome> {
        self.ordered("stop-all", request.into_inner().act)
    }
    async fn resume_all(&self, request: Request<pb::FleetCommand>) -> Answer<pb::Outcome> {
        self.ordered("resume-all", request.into_inner().act)
    }
    async fn list(&self, _: Request<pb::ListRolloutsRequest>) -> Answer<pb::ListRolloutsResponse> {
        let script = self.0.lock().unwrap();
        Ok(Response::new(pb::ListRolloutsResponse {
            rollouts: script.rollouts.iter().cloned().map(Into::into).collect(),
            ..pb::ListRolloutsResponse::default()
        }))
    }
    async fn get(&self, _: Request<pb::GetRolloutRequest>) -> Answer<pb::RolloutView> {
        Err(Status::unimplemented("not scripted"))
    }
    async fn members(&self, _: Request<pb::MembersRequest>) -> Answer<pb::MembersResponse> {
        Err(Status::unimplemented("not scripted"))
    }
}

#[tonic::async_trait]
impl WatchService for Fake {
    type WatchStream =
        Pin<Box<dyn tokio_stream::Stream<Item = Result<pb::WatchEvent, Status>> + Send + 'static>>;
    async fn watch(&self, _: Request<pb::WatchRequest>) -> Answer<Self::WatchStream> {
        use ringward_wire::watch::WatchEvent;
        let watched = self.0.lock().unwrap().watched.clone();
        let events = watched
            .into_iter()
            .map(|view| Ok(WatchEvent::Rollout(Box::new(view)).into()));
        Ok(Response::new(Box::pin(tokio_stream::iter(
            events.collect::<Vec<_>>(),
        ))))
    }
}

/// A fake server at work.
pub struct Server {
    pub fake: Fake,
    pub context: PathBuf,
    _dir: tempfile::TempDir,
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn leaf(
    ca: &CertifiedIssuer<'static, KeyPair>,
    name: &str,
    usage: ExtendedKeyUsagePurpose,
) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.extended_key_usages = vec![usage];
    (params.signed_by(&key, ca).unwrap(), key)
}

fn server_config(ca: &CertifiedIssuer<'static, KeyPair>) -> ServerConfig {
    let (cert, key) = leaf(ca, tls::SERVER_NAME, ExtendedKeyUsagePurpose::ServerAuth);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), tls::provider())
        .build()
        .unwrap();
    let mut config = ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(
            vec![cert.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![tls::ALPN.to_vec()];
    config
}

/// Writes the context of an admin, as `ringward-server init` does: PEM texts, mode 0600.
pub fn write_context(
    dir: &std::path::Path,
    server: &str,
    ca: &str,
    cert: &str,
    key: &str,
) -> PathBuf {
    let path = dir.join("context.toml");
    let text = format!(
        "server = '{server}'\nca = '''{ca}'''\ncertificate = '''{cert}'''\nkey = '''{key}'''\n"
    );
    std::fs::write(&path, text).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    path
}

pub async fn serve(script: Script) -> Server {
    let ca = authority();
    let config = server_config(&ca);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (cert, key) = leaf(&ca, "alice", ExtendedKeyUsagePurpose::ClientAuth);
    let dir = tempfile::tempdir().unwrap();
    let context = write_context(
        dir.path(),
        &address,
        &ca.pem(),
        &cert.pem(),
        &key.serialize_pem(),
    );
    let fake = Fake(Arc::new(Mutex::new(script)));
    let router = tonic::transport::Server::builder()
        .add_service(RolloutServiceServer::new(fake.clone()))
        .add_service(WatchServiceServer::new(fake.clone()));
    tokio::spawn(router.serve_with_incoming(accept(listener, config)));
    Server {
        fake,
        context,
        _dir: dir,
    }
}

fn accept(
    listener: TcpListener,
    config: ServerConfig,
) -> impl tokio_stream::Stream<Item = io::Result<Io>> {
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let (send, receive) = tokio::sync::mpsc::channel(4);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            if let Ok(tls) = acceptor.accept(tcp).await
                && send.send(Ok(Io(tls))).await.is_err()
            {
                return;
            }
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(receive)
}

/// A TLS connection as the server takes it.
pub struct Io(TlsStream<TcpStream>);

impl Connected for Io {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}
impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}
impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
