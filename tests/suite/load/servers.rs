//! What Ringward is compared with, each as its users would run it: a bare tonic echo with tonic's own
//! server and settings, a loop over rustls, and the brokers that Debian ships.

use crate::dialect::raw::{RECORD, TOLD};
use anyhow::{Context, Result};
use ringward_domain::SignalSeq;
use ringward_domain::session::ToAgent;
use ringward_wire::pb;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context as Cx, Poll};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::{NamedService, StreamingService};
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

/// Messages to one client that may wait.
const QUEUE: usize = 64;

/// Mutual TLS from `server.pem`, `server.key` and `ca.pem` of a folder.
pub fn tls(folder: &Path, h2: bool) -> Result<TlsAcceptor> {
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(folder.join("server.pem"))?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key"))?;
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(folder.join("ca.pem"))? {
        roots.add(root?)?;
    }
    let provider = ringward_wire::tls::provider();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&tokio_rustls::rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    if h2 {
        config.alpn_protocols = vec![b"h2".to_vec()];
    }
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Says where it listens, and then calls `tell` for each line that it is told.
async fn listen(tell: impl Fn() + Send + 'static) -> Result<TcpListener> {
    let tcp = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    println!("{}", tcp.local_addr()?);
    tokio::spawn(async move {
        let mut lines = tokio::io::BufReader::new(tokio::io::stdin()).lines();
        while let Ok(Some(_)) = lines.next_line().await {
            tell();
        }
        // Whoever started this is gone.
        std::process::exit(0);
    });
    Ok(tcp)
}

type Out = mpsc::Sender<Result<pb::ServerFrame, Status>>;
type Outs = Arc<Mutex<Vec<Out>>>;

fn desired(stopped: bool) -> pb::ServerFrame {
    pb::ServerFrame {
        body: Some(pb::server_frame::Body::Desired(pb::Desired {
            epoch: 1,
            generation: 1_000_000,
            heartbeat_ms: 10_000,
            stopped,
            ..pb::Desired::default()
        })),
    }
}

/// A bare tonic server: each message is answered by a small one, a line on its input tells everybody.
pub async fn echo(folder: &Path) -> Result<()> {
    let outs = Outs::default();
    let told = Arc::clone(&outs);
    let tcp = listen(move || {
        let mut outs = told.lock().unwrap_or_else(|e| e.into_inner());
        outs.retain(|out| out.try_send(Ok(desired(true))).is_ok());
    })
    .await?;
    let acceptor = tls(folder, true)?;
    let (accepted, incoming) = mpsc::channel::<io::Result<Tls>>(1_024);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = tcp.accept().await {
            let (acceptor, accepted) = (acceptor.clone(), accepted.clone());
            tokio::spawn(async move {
                let _ = tcp.set_nodelay(true);
                if let Ok(tls) = acceptor.accept(tcp).await {
                    let _ = accepted.send(Ok(Tls(tls))).await;
                }
            });
        }
    });
    tonic::transport::Server::builder()
        .add_service(Echo(outs))
        .serve_with_incoming(ReceiverStream::new(incoming))
        .await
        .context("serving the echo")
}

struct Tls(TlsStream<TcpStream>);

impl Connected for Tls {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Tls {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Cx<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tls {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Cx<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// The session's path alone, with tonic's own codec: the generated service has Ringward's.
#[derive(Clone)]
struct Echo(Outs);

type Answers = ReceiverStream<Result<pb::ServerFrame, Status>>;

impl NamedService for Echo {
    const NAME: &'static str = "ringward.v1.AgentService";
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Cx<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let echo = self.clone();
        Box::pin(async move {
            let codec = ProstCodec::<pb::ServerFrame, pb::AgentFrame>::default();
            Ok(tonic::server::Grpc::new(codec)
                .streaming(echo, request)
                .await)
        })
    }
}

impl StreamingService<pb::AgentFrame> for Echo {
    type Response = pb::ServerFrame;
    type ResponseStream = Answers;
    type Future = BoxFuture<Response<Answers>, Status>;

    fn call(&mut self, request: Request<Streaming<pb::AgentFrame>>) -> Self::Future {
        let outs = Arc::clone(&self.0);
        Box::pin(async move { Ok(Response::new(answer(&outs, request.into_inner()))) })
    }
}

fn answer(outs: &Outs, mut frames: Streaming<pb::AgentFrame>) -> Answers {
    let (out, answers) = mpsc::channel(QUEUE);
    let _ = out.try_send(Ok(ToAgent::Welcome { protocol: 1 }.into()));
    outs.lock()
        .unwrap_or_else(|e| e.into_inner())
        .push(out.clone());
    tokio::spawn(async move {
        // The hello is answered already.
        let _ = frames.message().await;
        let through = SignalSeq(0);
        while let Ok(Some(_)) = frames.message().await {
            let echo = ToAgent::SignalsDurable { through }.into();
            if out.send(Ok(echo)).await.is_err() {
                break;
            }
        }
    });
    ReceiverStream::new(answers)
}

/// A loop over rustls: each record comes back, a line on its input tells everybody.
pub async fn raw(folder: &Path) -> Result<()> {
    let (tell, _) = broadcast::channel::<()>(16);
    let told = tell.clone();
    let tcp = listen(move || drop(told.send(()))).await?;
    let acceptor = tls(folder, false)?;
    loop {
        let (tcp, _) = tcp.accept().await?;
        let (acceptor, told) = (acceptor.clone(), tell.subscribe());
        tokio::spawn(async move {
            let _ = tcp.set_nodelay(true);
            if let Ok(tls) = acceptor.accept(tcp).await {
                let _ = converse(tls, told).await;
            }
        });
    }
}

async fn converse(
    mut tls: TlsStream<TcpStream>,
    mut told: broadcast::Receiver<()>,
) -> io::Result<()> {
    let mut record = [0; RECORD];
    let mut have = 0;
    loop {
        tokio::select! {
            read = tls.read(&mut record[have..]) => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                have += read;
                if have == RECORD {
                    tls.write_all(&record).await?;
                    tls.flush().await?;
                    have = 0;
                }
            }
            Ok(()) = told.recv() => {
                tls.write_all(&[TOLD; RECORD]).await?;
                tls.flush().await?;
            }
        }
    }
}
