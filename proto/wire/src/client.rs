//! Connecting to a server: HTTP/2 over TLS over TCP, with the bounds of DESIGN §7.

use crate::tls::SERVER_NAME;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

/// Time for name resolution, TCP and TLS together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A ping goes out after so long without traffic …
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// … and the connection is dead when no answer came in this time.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// HTTP/2 flow-control window of a stream, in bytes.
pub const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// HTTP/2 flow-control window of a connection, in bytes.
pub const CONNECTION_WINDOW_BYTES: u32 = 128 * 1024;
/// HTTP/2 header list, in bytes.
pub const HEADER_LIST_BYTES: u32 = 8 * 1024;

/// Why a server was not reached.
#[derive(Debug, thiserror::Error)]
#[error("connecting to {address}")]
pub struct ConnectError {
    /// As it was dialled.
    pub address: String,
    /// The cause.
    #[source]
    pub source: tonic::transport::Error,
}

/// A connection to the server at `address` (`host:port`, the host a name, an IPv4 address or an IPv6
/// address in brackets), which must prove to be [`SERVER_NAME`].
///
/// The channel connects again by itself when a call follows a lost connection. Time limits of calls
/// are the caller's: a session has none.
///
/// # Errors
/// An address that is none, and whatever name resolution, TCP and TLS report.
pub async fn channel(address: &str, config: Arc<ClientConfig>) -> Result<Channel, ConnectError> {
    let failed = |source| ConnectError {
        address: address.to_owned(),
        source,
    };
    // Dialling is the connector's part; the URI only names the server in requests.
    let endpoint = Endpoint::from_shared(format!("http://{SERVER_NAME}"))
        .map_err(failed)?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_max_header_list_size(HEADER_LIST_BYTES)
        .buffer_size(64);
    let connector = Connector {
        address: address.into(),
        tls: TlsConnector::from(config),
    };
    endpoint
        .connect_with_connector(connector)
        .await
        .map_err(failed)
}

#[derive(Clone)]
struct Connector {
    address: Arc<str>,
    tls: TlsConnector,
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        let Self { address, tls } = self.clone();
        Box::pin(async move {
            tokio::time::timeout(CONNECT_TIMEOUT, dial(&address, &tls))
                .await
                .unwrap_or_else(|_| {
                    let why = format!("no TLS connection within {} s", CONNECT_TIMEOUT.as_secs());
                    Err(io::Error::new(io::ErrorKind::TimedOut, why))
                })
                .map(TokioIo::new)
        })
    }
}

async fn dial(address: &str, tls: &TlsConnector) -> io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    // Frames are small and latency is what they are for.
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
    tls.connect(name, tcp).await
}
