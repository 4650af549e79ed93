//! Probes over the loopback address: a release is asked on the host it runs on, nowhere else.

use ringward_domain::Millis;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A probe that asks for more time than this gets this much: a round must end before the next.
const TIMEOUT_MS_MAX: u64 = 60_000;

fn bounded(limit: Millis) -> Duration {
    Duration::from_millis(limit.0.clamp(1, TIMEOUT_MS_MAX))
}

/// A TCP port of this host accepts.
pub(crate) async fn tcp(port: u16, limit: Millis) -> Result<(), String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match timeout(bounded(limit), TcpStream::connect(address)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("{address} does not accept: {error}")),
        Err(_) => Err(format!("{address} does not accept within {limit}")),
    }
}

/// An HTTP GET on this host answers 2xx. The status line is all that is read.
pub(crate) async fn http(port: u16, path: &str, limit: Millis) -> Result<(), String> {
    match timeout(bounded(limit), http_status(port, path)).await {
        Ok(Ok(200..=299)) => Ok(()),
        Ok(Ok(status)) => Err(format!("GET {path} on port {port} answers {status}")),
        Ok(Err(error)) => Err(format!("GET {path} on port {port}: {error}")),
        Err(_) => Err(format!(
            "GET {path} on port {port} does not answer within {limit}"
        )),
    }
}

async fn http_status(port: u16, path: &str) -> std::io::Result<u16> {
    if !path.starts_with('/') || !path.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(std::io::Error::other(
            "the path has to start with / and hold no spaces",
        ));
    }
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).await?;
    std::str::from_utf8(&head)
        .ok()
        .and_then(|head| head.strip_prefix("HTTP/1."))
        .and_then(|rest| rest.get(2..5))
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| std::io::Error::other("the answer is not HTTP/1"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::net::TcpListener;

    async fn answering(answer: &'static str) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 256];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        });
        port
    }

    #[tokio::test]
    async fn only_2xx_passes() {
        let good = answering("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(http(good, "/health", Millis::secs(5)).await, Ok(()));
        let bad = answering("HTTP/1.1 503 Busy\r\n\r\n").await;
        let why = http(bad, "/health", Millis::secs(5)).await.unwrap_err();
        assert!(why.contains("503"), "{why}");
    }

    #[tokio::test]
    async fn a_closed_port_and_a_foreign_protocol_fail_in_words() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(tcp(port, Millis::secs(5)).await, Ok(()));
        drop(listener);
        assert!(
            tcp(port, Millis::secs(5))
                .await
                .unwrap_err()
                .contains("does not accept")
        );
        let ssh = answering("SSH-2.0-OpenSSH_9.2\r\n").await;
        assert!(
            http(ssh, "/", Millis::secs(5))
                .await
                .unwrap_err()
                .contains("not HTTP")
        );
    }
}
