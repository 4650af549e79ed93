//! The plain listener: loopback only, for a browser on the server's own machine or at the end of an
//! SSH tunnel. It takes a session cookie instead of a certificate.

use super::sign_in::SignIn;
use super::{assets, header_text, is_cross_origin, refuse_cross_origin, text};
use crate::error::ServerError;
use crate::listener::{Answer, Identity, Peer, Serve};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tonic::body::Body;

/// Connections at once: a browser opens six a page.
const CONNECTIONS: usize = 128;
/// How long a request's headers may take.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a connection's read buffer, and so of a request's headers.
const HEADERS_BYTES_MAX: usize = 16 * 1024;
/// Pause after an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a connection has to finish at a stop.
const GOODBYE: Duration = Duration::from_secs(2);
/// The plain dashboard listener.
pub struct Dashboard {
    tcp: TcpListener,
    shared: Arc<Shared>,
}

struct Shared {
    serve: Serve,
    sign_in: SignIn,
    port: u16,
    connections: Arc<Semaphore>,
    stop: CancellationToken,
}

/// Binds the plain listener; answers the address really taken too.
///
/// # Errors
/// Where the address is not loopback, taken, or not ours.
pub async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServerError> {
    if !address.ip().is_loopback() {
        return Err(ServerError::refused(
            format!("server.toml: dashboard.listen {address} is not on loopback"),
            "write 127.0.0.1:PORT, and reach it from afar through an SSH tunnel or on the admins' \
             address with a certificate",
        ));
    }
    crate::listener::bind(address, "the dashboard").await
}

impl Dashboard {
    /// Puts the listener together; nothing is accepted before [`Dashboard::run`].
    pub fn new(
        tcp: TcpListener,
        address: SocketAddr,
        serve: Serve,
        sign_in: SignIn,
        stop: CancellationToken,
    ) -> Self {
        Self {
            tcp,
            shared: Arc::new(Shared {
                serve,
                sign_in,
                port: address.port(),
                connections: Arc::new(Semaphore::new(CONNECTIONS)),
                stop,
            }),
        }
    }

    /// Accepts until the stop; no error ends it.
    pub async fn run(self, tasks: TaskTracker) {
        loop {
            let accepted = tokio::select! {
                () = self.shared.stop.cancelled() => return,
                accepted = self.tcp.accept() => accepted,
            };
            match accepted {
                Ok((tcp, address)) => {
                    let Ok(place) = Arc::clone(&self.shared.connections).try_acquire_owned() else {
                        continue;
                    };
                    let shared = Arc::clone(&self.shared);
                    tasks.spawn(async move {
                        shared.connection(tcp, address).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(listener = "dashboard", %error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl Shared {
    async fn connection(self: Arc<Self>, tcp: TcpStream, address: SocketAddr) {
        let stop = self.stop.clone();
        let service = service_fn(move |request| {
            let shared = Arc::clone(&self);
            async move { Ok::<_, Infallible>(shared.answer(request, address).await) }
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS_TIMEOUT)
            .max_buf_size(HEADERS_BYTES_MAX);
        let connection = builder.serve_connection(TokioIo::new(tcp), service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            _ = &mut connection => return,
            () = stop.cancelled() => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(GOODBYE, connection).await;
    }

    async fn answer(&self, request: Request<Incoming>, address: SocketAddr) -> Response<Body> {
        if !self.is_our_name(&request) {
            return text(
                StatusCode::MISDIRECTED_REQUEST,
                "this listener answers to localhost only\n",
            );
        }
        if is_cross_origin(&request) {
            return refuse_cross_origin();
        }
        let request = match self.sign_in.answer(request, address.ip()).await {
            Ok(answered) => return answered,
            Err(request) => request,
        };
        match *request.method() {
            Method::GET | Method::HEAD => assets::answer(request.uri().path()),
            // A form or a script of another page cannot send this kind without asking first, and
            // nobody here answers such a question.
            Method::POST if is_grpc_web(&request) => self.call(request, address).await,
            _ => text(StatusCode::NOT_FOUND, "nothing is here\n"),
        }
    }

    /// A name rebound to loopback by somebody's DNS is not ours.
    fn is_our_name(&self, request: &Request<Incoming>) -> bool {
        let Some(host) = header_text(request, &header::HOST) else {
            return false;
        };
        ["127.0.0.1", "localhost", "[::1]"]
            .iter()
            .any(|name| host == format!("{name}:{}", self.port))
    }

    async fn call(&self, request: Request<Incoming>, address: SocketAddr) -> Response<Body> {
        let Some(session) = self.sign_in.session(request.headers()) else {
            return signed_out();
        };
        let peer = Peer {
            address,
            identity: Identity::Admin(Arc::clone(&session.admin)),
            stop: session.ended.clone(),
            closing: session.ended,
            vouched: None,
        };
        self.serve.answer(request, &peer).await
    }
}

fn is_grpc_web(request: &Request<Incoming>) -> bool {
    header_text(request, &header::CONTENT_TYPE)
        .is_some_and(|value| value.starts_with("application/grpc-web"))
}

/// What a gRPC-web client takes as "sign in first".
fn signed_out() -> Response<Body> {
    let mut response: Response<Body> =
        Status::unauthenticated("the session is over: sign in again").into_http();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc-web+proto"),
    );
    response
}
