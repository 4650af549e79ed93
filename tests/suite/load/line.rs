//! One TLS connection to whatever is measured, from an address of the loopback network.

use anyhow::{Context, Result};
use rustls_pki_types::ServerName;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;

/// Time for TCP and TLS together, as an agent has it.
const CONNECT: Duration = Duration::from_secs(10);
/// Source addresses: an address has some 28,000 ports, and a server counts strangers by address.
const SOURCES: u32 = 250;
/// The longest greeting before TLS (a NATS `INFO`).
const PLAIN_BYTES_MAX: usize = 8 * 1024;

/// Where a connection goes, and how it begins.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The listener.
    pub address: SocketAddr,
    /// Whether it says a line in the clear before TLS.
    pub plain_first: bool,
}

/// The address from which the connection of agent number `index` comes.
pub fn source(index: usize) -> Ipv4Addr {
    Ipv4Addr::from(0x7f01_0001 + (index as u32) % SOURCES)
}

/// Connects.
///
/// # Errors
/// TCP or TLS refuse, or take longer than an agent waits.
pub async fn open(
    target: Target,
    index: usize,
    tls: Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>> {
    timeout(CONNECT, dial(target, index, tls))
        .await
        .with_context(|| format!("no TLS connection within {} s", CONNECT.as_secs()))?
}

async fn dial(
    target: Target,
    index: usize,
    tls: Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((source(index), 0)))?;
    let mut tcp = socket.connect(target.address).await.context("TCP")?;
    tcp.set_nodelay(true)?;
    if target.plain_first {
        skip_line(&mut tcp).await?;
    }
    let name = ServerName::try_from(ringward_wire::tls::SERVER_NAME)?;
    let connector = TlsConnector::from(tls);
    connector.connect(name, tcp).await.context("TLS")
}

async fn skip_line(tcp: &mut TcpStream) -> Result<()> {
    for _ in 0..PLAIN_BYTES_MAX {
        if tcp.read_u8().await? == b'\n' {
            return Ok(());
        }
    }
    anyhow::bail!("the greeting does not end within {PLAIN_BYTES_MAX} bytes")
}
