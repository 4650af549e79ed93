//! Just enough of HTTP/2 (RFC 9113) to break it: frames as bytes, sent without asking the other side.

use rustls_pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, WriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;

/// The client's first bytes.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A peer that takes no bytes for so long is given up.
const PATIENCE: Duration = Duration::from_secs(3);

/// Kinds of frames.
pub mod kind {
    /// Bytes of a body.
    pub const DATA: u8 = 0;
    /// The head of a request.
    pub const HEADERS: u8 = 1;
    /// An order of streams, which nobody heeds any more.
    pub const PRIORITY: u8 = 2;
    /// The end of a stream.
    pub const RST_STREAM: u8 = 3;
    /// What a side accepts.
    pub const SETTINGS: u8 = 4;
    /// A question for a sign of life.
    pub const PING: u8 = 6;
    /// Room for more bytes.
    pub const WINDOW_UPDATE: u8 = 8;
    /// More of a head.
    pub const CONTINUATION: u8 = 9;
}

/// Flag: no more of this head follows.
pub const END_HEADERS: u8 = 4;
/// Flag: no more of this stream follows.
pub const END_STREAM: u8 = 1;

/// One frame.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(9 + payload.len());
    bytes.extend(&(payload.len() as u32).to_be_bytes()[1..]);
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A number in HPACK's prefix form (RFC 7541, 5.1) with 7 bits.
fn number(mut value: usize, out: &mut Vec<u8>) {
    if value < 127 {
        out.push(value as u8);
        return;
    }
    out.push(127);
    value -= 127;
    while value >= 128 {
        out.push((value % 128) as u8 | 128);
        value /= 128;
    }
    out.push(value as u8);
}

/// One header field, literal and not indexed.
#[must_use]
pub fn field(name: &str, value: &str) -> Vec<u8> {
    let mut out = vec![0];
    for text in [name, value] {
        number(text.len(), &mut out);
        out.extend(text.bytes());
    }
    out
}

/// The head of a gRPC call of the agents' service.
#[must_use]
pub fn head(method: &str) -> Vec<u8> {
    let path = format!("/ringward.v1.AgentService/{method}");
    [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", &path),
        (":authority", "ringward-server"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
    .iter()
    .flat_map(|(name, value)| field(name, value))
    .collect()
}

/// A gRPC message as it stands in a body.
#[must_use]
pub fn message(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0];
    out.extend((bytes.len() as u32).to_be_bytes());
    out.extend(bytes);
    out
}

/// A TCP connection from an address of the loopback network, so that attackers and honest hosts do not
/// count as one.
///
/// # Errors
/// The server does not take it.
pub async fn tcp(to: SocketAddr, from: std::net::Ipv4Addr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    // Elsewhere than on Linux one address is all there is.
    let _ = socket.bind(SocketAddr::from((from, 0)));
    tokio::time::timeout(PATIENCE, socket.connect(to))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// A TLS connection whose answers are read and thrown away.
pub struct Line {
    out: WriteHalf<TlsStream<TcpStream>>,
    reader: JoinHandle<()>,
    closed: Arc<AtomicBool>,
}

impl Line {
    /// Connects; `reads` is false for a peer that never takes an answer.
    ///
    /// # Errors
    /// No connection, or TLS refuses.
    pub async fn open(
        to: SocketAddr,
        from: std::net::Ipv4Addr,
        tls: &Arc<ClientConfig>,
        reads: bool,
    ) -> io::Result<Self> {
        let tcp = tcp(to, from).await?;
        tcp.set_nodelay(true)?;
        let name =
            ServerName::try_from(ringward_wire::tls::SERVER_NAME).map_err(io::Error::other)?;
        let connect = TlsConnector::from(Arc::clone(tls)).connect(name, tcp);
        let stream = tokio::time::timeout(Duration::from_secs(15), connect)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let (mut answers, out) = tokio::io::split(stream);
        let closed = Arc::new(AtomicBool::new(false));
        let is_closed = Arc::clone(&closed);
        let reader = tokio::spawn(async move {
            let mut buffer = [0; 4096];
            if !reads {
                std::future::pending::<()>().await;
            }
            while answers.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
            is_closed.store(true, Relaxed);
        });
        Ok(Self {
            out,
            reader,
            closed,
        })
    }

    /// Preface and settings.
    ///
    /// # Errors
    /// The server closed the line.
    pub async fn greet(&mut self) -> io::Result<()> {
        self.send(&[PREFACE, &frame(kind::SETTINGS, 0, 0, &[])].concat())
            .await
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// The server closed the line, or takes nothing any more.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.closed.load(Relaxed) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let send = async {
            self.out.write_all(bytes).await?;
            self.out.flush().await
        };
        tokio::time::timeout(PATIENCE, send)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_and_fields_are_as_the_standards_say() {
        assert_eq!(
            frame(kind::PING, 1, 7, &[9]),
            [0, 0, 1, 6, 1, 0, 0, 0, 7, 9]
        );
        let long = field("a", &"x".repeat(300));
        assert_eq!(long[..5], [0, 1, b'a', 127, 173]);
        assert_eq!((long[5], long.len()), (1, 306));
    }
}
