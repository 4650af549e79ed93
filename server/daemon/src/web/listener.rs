//! The plain listener: loopback only, for a browser on the server's own machine or at the end of an
//! SSH tunnel. It takes a session cookie instead of a certificate.

use super::login;
use super::session::{SESSION_LIFE_MS, Session, Sessions};
use super::{assets, header_text, is_cross_origin, json, refuse_cross_origin, text};
use crate::accounts::{AccountError, Accounts};
use crate::clock::unix_ms;
use crate::data_dir::DataDir;
use crate::error::ServerError;
use crate::listener::{Answer, Identity, Peer, Serve};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
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
/// Bytes of a login.
const LOGIN_BYTES_MAX: usize = 1024;
/// Pause after an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a connection has to finish at a stop.
const GOODBYE: Duration = Duration::from_secs(2);
/// Before the port in the cookie's name: cookies do not know ports, so two servers on one machine
/// would sign each other's people out.
const COOKIE: &str = "ringward_";

/// What a browser sends to sign in.
#[derive(serde::Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Login {
    Word { token: String },
    Password { name: String, password: String },
}

/// The plain dashboard listener.
pub struct Dashboard {
    tcp: TcpListener,
    shared: Arc<Shared>,
}

/// The ways in: a one-time word from the data directory, or a name with its password.
pub struct Ways {
    /// Words wait there.
    pub data: DataDir,
    /// Passwords are known here.
    pub accounts: Arc<Accounts>,
}

struct Shared {
    serve: Serve,
    sessions: Sessions,
    ways: Ways,
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
        ways: Ways,
        stop: CancellationToken,
    ) -> Self {
        Self {
            tcp,
            shared: Arc::new(Shared {
                serve,
                sessions: Sessions::new(stop.child_token()),
                ways,
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
        let path = request.uri().path().to_owned();
        match (request.method(), path.as_str()) {
            (&Method::GET, "/session") => self.who(&request),
            (&Method::GET | &Method::HEAD, path) => assets::answer(path),
            (&Method::POST, "/login") if is_kind(&request, "application/json") => {
                self.login(request).await
            }
            (&Method::POST, "/logout") if is_kind(&request, "application/json") => {
                self.logout(&request)
            }
            // A form or a script of another page cannot send this kind without asking first, and
            // nobody here answers such a question.
            (&Method::POST, _) if is_kind(&request, "application/grpc-web") => {
                self.call(request, address).await
            }
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

    fn who(&self, request: &Request<Incoming>) -> Response<Body> {
        match self.session(request) {
            Some(session) => json(
                StatusCode::OK,
                &serde_json::json!({
                    "actor": session.admin.name,
                    "by": "login",
                    "expires_unix_ms": session.expires_unix_ms,
                }),
            ),
            // No error: a browser would put one into its console for a question that was fair.
            None => json(StatusCode::OK, &serde_json::Value::Null),
        }
    }

    async fn login(&self, request: Request<Incoming>) -> Response<Body> {
        let body = Limited::new(request.into_body(), LOGIN_BYTES_MAX);
        let Ok(body) = body
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes)
        else {
            return text(StatusCode::BAD_REQUEST, "the login cannot be read\n");
        };
        let said = serde_json::from_slice::<Login>(&body);
        let admin = match said {
            Ok(Login::Word { token }) => self.by_word(token).await,
            Ok(Login::Password { name, password }) => self.by_password(name, password).await,
            Err(_) => Err(text(
                StatusCode::BAD_REQUEST,
                "a login is {\"token\": …} or {\"name\": …, \"password\": …}\n",
            )),
        };
        let admin = match admin {
            Ok(admin) => admin,
            Err(refused) => return refused,
        };
        tracing::info!(actor = admin, "signed in to the dashboard");
        let secret = self.sessions.open(admin.clone(), unix_ms());
        let mut response = json(StatusCode::OK, &serde_json::json!({ "actor": admin }));
        self.set_cookie(&mut response, &secret, SESSION_LIFE_MS / 1_000);
        response
    }

    async fn by_word(&self, word: String) -> Result<String, Response<Body>> {
        let data = self.ways.data.clone();
        let taken = tokio::task::spawn_blocking(move || login::take(&data, &word, unix_ms()));
        taken.await.ok().flatten().ok_or_else(|| {
            tracing::warn!("a login with a word that is not good was refused");
            text(
                StatusCode::FORBIDDEN,
                "This word is not good: used, older than two minutes, or mistyped. Ask for another \
                 with `ringward-server login`.\n",
            )
        })
    }

    /// Wrong names, wrong passwords and names without one are answered alike.
    async fn by_password(&self, name: String, password: String) -> Result<String, Response<Body>> {
        match self.ways.accounts.sign_in(&name, password).await {
            Ok(()) => Ok(name),
            Err(AccountError::TooMany) => {
                tracing::warn!("too many logins with a password: refused unread");
                let words = "Too many were tried: wait a quarter of an hour, or use a word of \
                    `ringward-server login`.\n";
                Err(text(StatusCode::TOO_MANY_REQUESTS, words))
            }
            Err(AccountError::Store(error)) => {
                tracing::error!(%error, "passwords cannot be read");
                let words = "Passwords cannot be read at this moment: try again.\n";
                Err(text(StatusCode::SERVICE_UNAVAILABLE, words))
            }
            Err(_) => {
                tracing::warn!("a login with a wrong name or password was refused");
                let words = "Name or password is wrong.\n";
                Err(text(StatusCode::FORBIDDEN, words))
            }
        }
    }

    fn logout(&self, request: &Request<Incoming>) -> Response<Body> {
        if let Some(secret) = self.cookie(request) {
            self.sessions.close(&secret);
        }
        let mut response = json(StatusCode::OK, &serde_json::Value::Null);
        self.set_cookie(&mut response, "", 0);
        response
    }

    async fn call(&self, request: Request<Incoming>, address: SocketAddr) -> Response<Body> {
        let Some(session) = self.session(&request) else {
            return signed_out();
        };
        let peer = Peer {
            address,
            identity: Identity::Admin(Arc::clone(&session.admin)),
            stop: session.ended.clone(),
            closing: session.ended,
        };
        self.serve.answer(request, &peer).await
    }

    fn session(&self, request: &Request<Incoming>) -> Option<Session> {
        self.sessions.find(&self.cookie(request)?, unix_ms())
    }

    fn cookie(&self, request: &Request<Incoming>) -> Option<String> {
        let name = format!("{COOKIE}{}", self.port);
        let all = header_text(request, &header::COOKIE)?;
        all.split(';')
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.to_owned())
    }

    fn set_cookie(&self, response: &mut Response<Body>, secret: &str, age_s: u64) {
        let cookie = format!(
            "{COOKIE}{}={secret}; Path=/; HttpOnly; SameSite=Strict; Max-Age={age_s}",
            self.port
        );
        if let Ok(value) = HeaderValue::from_str(&cookie) {
            response.headers_mut().insert(header::SET_COOKIE, value);
        }
    }
}

fn is_kind(request: &Request<Incoming>, kind: &str) -> bool {
    header_text(request, &header::CONTENT_TYPE).is_some_and(|value| value.starts_with(kind))
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
