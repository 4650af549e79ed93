//! The accept loop and the life of one connection.

use super::http::Answer;
use super::limits::{AddressGate, Ticket};
use super::{Identity, Peer};
use crate::clock::unix_ms;
use crate::config::Limits;
use crate::error::ServerError;
use crate::metrics::Metrics;
use crate::pki::{IdentityError, Which, admin_identity, host_identity, random};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;

/// Pause after an accept that failed: descriptors run out for moments, and a loop without pause would
/// take the processor from those who could give some back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections that the system accepts ahead of us; it takes its own limit where that is lower.
const BACKLOG: u32 = 4_096;
/// How long an aged connection has to finish its streams.
const GOODBYE: Duration = Duration::from_secs(5);

/// One listener, ready to run.
pub struct Listener<A> {
    shared: Arc<Shared<A>>,
    tcp: TcpListener,
}

type Tls = Box<TlsStream<TcpStream>>;

struct Shared<A> {
    which: Which,
    tls: TlsAcceptor,
    limits: Limits,
    metrics: Arc<Metrics>,
    answer: A,
    connections: Arc<Semaphore>,
    handshakes: Semaphore,
    gate: Arc<AddressGate>,
}

/// Binds an address; answers the one really taken too.
///
/// # Errors
/// Where it is taken or not ours.
pub async fn bind(
    address: SocketAddr,
    who: &'static str,
) -> Result<(TcpListener, SocketAddr), ServerError> {
    let listen_error = |source| ServerError::Listen {
        address: address.to_string(),
        who,
        source,
    };
    let tcp = listen(address).map_err(listen_error)?;
    let local = tcp.local_addr().map_err(listen_error)?;
    Ok((tcp, local))
}

/// As tokio binds, but with a queue that takes a fleet that comes back at once: what does not fit
/// into it is tried again by TCP after a second, then three, then seven.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl<A: Answer> Listener<A> {
    /// Puts a listener together; nothing is accepted before [`Listener::run`].
    pub fn new(
        which: Which,
        tcp: TcpListener,
        tls: Arc<ServerConfig>,
        limits: Limits,
        metrics: Arc<Metrics>,
        answer: A,
    ) -> Self {
        let connections = match which {
            Which::Agents => limits.agent_connections,
            Which::Admins => limits.admin_connections,
        };
        Self {
            shared: Arc::new(Shared {
                which,
                tls: TlsAcceptor::from(tls),
                connections: Arc::new(Semaphore::new(connections)),
                handshakes: Semaphore::new(limits.handshakes),
                gate: AddressGate::new(
                    limits.unauthenticated_per_address,
                    limits.waiting_per_address,
                ),
                limits,
                metrics,
                answer,
            }),
            tcp,
        }
    }

    /// Accepts until `stop`; no error ends it.
    pub async fn run(self, stop: CancellationToken, tasks: TaskTracker) {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.tcp.accept() => accepted,
            };
            match accepted {
                Ok((tcp, address)) => self.admit(tcp, address, &stop, &tasks),
                Err(error) => {
                    self.shared.metrics.accept_errors.add_one();
                    tracing::warn!(listener = self.shared.which.name(), %error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(
        &self,
        tcp: TcpStream,
        address: SocketAddr,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) {
        let metrics = &self.shared.metrics;
        metrics.connections_accepted.add_one();
        let Ok(place) = Arc::clone(&self.shared.connections).try_acquire_owned() else {
            metrics.shed_connections.add_one();
            return;
        };
        let Some(ticket) = self.shared.gate.enter(address.ip()) else {
            metrics.shed_unauthenticated.add_one();
            return;
        };
        let shared = Arc::clone(&self.shared);
        let stop = stop.clone();
        tasks.spawn(async move {
            shared.connection(tcp, address, place, ticket, stop).await;
        });
    }
}

impl<A: Answer> Shared<A> {
    async fn connection(
        &self,
        tcp: TcpStream,
        address: SocketAddr,
        _place: OwnedSemaphorePermit,
        ticket: Ticket,
        stop: CancellationToken,
    ) {
        let _open = self.metrics.connections_open.hold();
        // Boxed, so that a task keeps only the part it is in: all of them are alive at once.
        let Some((tls, ticket, identity)) = Box::pin(self.authenticate(tcp, address, ticket)).await
        else {
            return;
        };
        let (age, held) = match identity {
            Identity::None | Identity::Expired(_) => (
                Duration::from_secs(self.limits.unauthenticated_age_s),
                Some(ticket),
            ),
            Identity::Host(_) | Identity::Admin(_) => {
                drop(ticket);
                (spread(self.limits.connection_age_s), None)
            }
        };
        let is_person = self.which == Which::Admins && held.is_some();
        let peer = Peer {
            address,
            identity,
            closing: stop.child_token(),
            stop,
            vouched: is_person.then(CancellationToken::new),
        };
        match self.which {
            Which::Agents => {
                Box::pin(self.serve_http2(tls, peer, age)).await;
                drop(held);
            }
            Which::Admins => {
                let aging = self.aging(peer.vouched.clone(), age, held);
                Box::pin(self.serve_any(tls, peer, aging)).await;
            }
        }
    }

    /// Ends when a connection is old enough. One that was a stranger's, until a token or a session
    /// told whose it is, gives the stranger's place back and lives as long as others.
    async fn aging(&self, vouched: Option<CancellationToken>, age: Duration, held: Option<Ticket>) {
        let Some(vouched) = vouched else {
            return tokio::time::sleep(age).await;
        };
        tokio::select! {
            () = tokio::time::sleep(age) => return,
            () = vouched.cancelled() => {}
        }
        drop(held);
        tokio::time::sleep(spread(self.limits.connection_age_s)).await;
    }

    /// The handshake, and who came. The stream is boxed: each future that it is handed on to would
    /// keep room for its 1.3 KiB, of every agent there is.
    async fn authenticate(
        &self,
        tcp: TcpStream,
        address: SocketAddr,
        ticket: Ticket,
    ) -> Option<(Tls, Ticket, Identity)> {
        let (tls, ticket) = self.handshake(tcp, ticket).await?;
        let leaf = tls.get_ref().1.peer_certificates().and_then(<[_]>::first);
        match self.identify(leaf) {
            Ok(identity) => Some((Box::new(tls), ticket, identity)),
            Err(error) => {
                self.metrics.handshakes_failed.add_one();
                tracing::info!(%address, %error, "connection refused");
                None
            }
        }
    }

    async fn handshake(
        &self,
        tcp: TcpStream,
        mut ticket: Ticket,
    ) -> Option<(TlsStream<TcpStream>, Ticket)> {
        let _ = tcp.set_nodelay(true);
        let wait = Duration::from_millis(self.limits.handshake_wait_ms);
        let turn = async {
            ticket.admit().await;
            self.handshakes.acquire().await
        };
        let Ok(Ok(_turn)) = timeout(wait, turn).await else {
            self.metrics.shed_handshake_wait.add_one();
            return None;
        };
        let limit = Duration::from_millis(self.limits.handshake_timeout_ms);
        match timeout(limit, self.tls.accept(tcp)).await {
            Ok(Ok(tls)) => Some((tls, ticket)),
            Ok(Err(error)) => {
                self.metrics.handshakes_failed.add_one();
                tracing::debug!(%error, "handshake failed");
                None
            }
            Err(_) => {
                self.metrics.handshakes_timed_out.add_one();
                None
            }
        }
    }

    fn identify(&self, leaf: Option<&CertificateDer<'_>>) -> Result<Identity, IdentityError> {
        let Some(leaf) = leaf else {
            return Ok(Identity::None);
        };
        match self.which {
            Which::Agents => host_identity(leaf).map(|identity| {
                let expired = identity.not_after_unix_s < unix_ms() / 1000;
                let identity = Arc::new(identity);
                match expired {
                    true => Identity::Expired(identity),
                    false => Identity::Host(identity),
                }
            }),
            Which::Admins => admin_identity(leaf).map(|i| Identity::Admin(Arc::new(i))),
        }
    }

    async fn serve_http2(&self, tls: Tls, peer: Peer, age: Duration) {
        let limits = &self.limits;
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.agent_streams)
            .max_pending_accept_reset_streams(limits.reset_streams)
            .max_local_error_reset_streams(limits.reset_streams)
            .max_header_list_size(limits.header_list_bytes)
            .initial_stream_window_size(limits.stream_window_bytes)
            .initial_connection_window_size(limits.connection_window_bytes)
            .max_send_buf_size(limits.stream_window_bytes as usize)
            .keep_alive_interval(Duration::from_secs(limits.keepalive_interval_s))
            .keep_alive_timeout(Duration::from_secs(limits.keepalive_timeout_s));
        let connection =
            builder.serve_connection(TokioIo::new(tls), service_fn(self.service(&peer)));
        let mut connection = pin!(connection);
        tokio::select! {
            ended = &mut connection => return self.ended(ended.is_err()),
            () = peer.closing.cancelled() => {}
            () = tokio::time::sleep(age) => self.aged(&peer),
        }
        connection.as_mut().graceful_shutdown();
        let _ = timeout(GOODBYE, connection).await;
    }

    async fn serve_any(&self, tls: Tls, peer: Peer, aging: impl Future<Output = ()>) {
        let limits = &self.limits;
        let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_millis(limits.handshake_timeout_ms))
            .max_buf_size(limits.stream_window_bytes as usize);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.admin_streams)
            .max_pending_accept_reset_streams(limits.reset_streams)
            .max_local_error_reset_streams(limits.reset_streams)
            .max_header_list_size(limits.header_list_bytes)
            .initial_stream_window_size(limits.stream_window_bytes)
            .initial_connection_window_size(limits.connection_window_bytes)
            .keep_alive_interval(Duration::from_secs(limits.keepalive_interval_s))
            .keep_alive_timeout(Duration::from_secs(limits.keepalive_timeout_s));
        let connection =
            builder.serve_connection(TokioIo::new(tls), service_fn(self.service(&peer)));
        let mut connection = pin!(connection);
        tokio::select! {
            ended = &mut connection => return self.ended(ended.is_err()),
            () = peer.closing.cancelled() => {}
            () = aging => self.aged(&peer),
        }
        connection.as_mut().graceful_shutdown();
        let _ = timeout(GOODBYE, connection).await;
    }

    fn ended(&self, broken: bool) {
        if broken {
            self.metrics.connections_broken.add_one();
        }
    }

    fn aged(&self, peer: &Peer) {
        self.metrics.connections_aged.add_one();
        peer.closing.cancel();
    }

    fn service(
        &self,
        peer: &Peer,
    ) -> impl Fn(http::Request<Incoming>) -> Answered + Send + 'static + use<A> {
        let (answer, peer) = (self.answer.clone(), peer.clone());
        move |request| {
            let response = answer.answer(request, &peer);
            Box::pin(async move { Ok(response.await) })
        }
    }
}

/// A request being answered.
type Answered =
    Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send + 'static>>;

/// A duration ± 20 %, so that what began together does not end together.
fn spread(seconds: u64) -> Duration {
    let fraction = f64::from(u16::from_be_bytes(random::<2>())) / f64::from(u16::MAX);
    Duration::from_secs(seconds).mul_f64(0.8 + 0.4 * fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_spread_by_a_fifth_at_most() {
        for _ in 0..1_000 {
            let age = spread(1_800).as_secs_f64();
            assert!((1_440.0..=2_160.0).contains(&age), "{age}");
        }
    }
}
