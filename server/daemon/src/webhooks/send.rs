//! One message over HTTP, signed by the Standard Webhooks scheme. Addresses are looked at before they
//! are connected to, and those very addresses are connected to; redirects are not followed.

use super::target::Target;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ring::hmac;
use ringward_server_core::webhooks::Delivery;
use rustls_pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Name resolution, TCP, TLS, message and answer together: the scheme proposes 15-30 s.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// Nobody was reached.
    #[error("{doing}: {why}")]
    Connection {
        /// What was being done.
        doing: &'static str,
        /// The cause.
        why: String,
    },
    /// The name leads to where nothing is sent.
    #[error("it leads to {address} ({why}); with `local = true` it may")]
    Forbidden {
        /// The address.
        address: std::net::IpAddr,
        /// What it is.
        why: &'static str,
    },
    /// It answers something else than success.
    #[error("it answers {0}")]
    Answer(StatusCode),
    /// No answer in time.
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Slow,
}

impl Failed {
    /// Whether the receiver wants no more of it.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Answer(StatusCode::GONE))
    }
}

fn failed<E: std::fmt::Display>(doing: &'static str) -> impl Fn(E) -> Failed {
    move |why| Failed::Connection {
        doing,
        why: why.to_string(),
    }
}

/// Sends one message; `unix_s` is the time that its signature says.
///
/// # Errors
/// Why it did not arrive, or may not have.
pub async fn send(target: &Target, delivery: &Delivery, unix_s: u64) -> Result<(), Failed> {
    let answer = timeout(TIMEOUT, post(target, delivery, unix_s)).await;
    match answer.map_err(|_| Failed::Slow)?? {
        status if status.is_success() => Ok(()),
        status => Err(Failed::Answer(status)),
    }
}

/// What `webhook-signature` says of a message.
#[must_use]
pub fn signature(secret: &hmac::Key, id: &str, unix_s: u64, body: &str) -> String {
    let tag = hmac::sign(secret, format!("{id}.{unix_s}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(tag))
}

async fn post(target: &Target, delivery: &Delivery, unix_s: u64) -> Result<StatusCode, Failed> {
    let host = target.url.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let usual = if target.tls.is_some() { 443 } else { 80 };
    let tcp = connect(target, bare, target.url.port_u16().unwrap_or(usual)).await?;
    let request = request(target, delivery, unix_s)?;
    match &target.tls {
        None => exchange(tcp, request).await,
        Some(tls) => {
            let name = ServerName::try_from(bare.to_owned()).map_err(failed("naming it"))?;
            let tls = TlsConnector::from(Arc::clone(tls));
            let stream = tls.connect(name, tcp).await.map_err(failed("TLS"))?;
            exchange(stream, request).await
        }
    }
}

async fn connect(target: &Target, host: &str, port: u16) -> Result<TcpStream, Failed> {
    let found = lookup_host((host, port))
        .await
        .map_err(failed("looking up its name"))?;
    let addresses: Vec<SocketAddr> = found.take(ADDRESSES_MAX).collect();
    // One bad address among good ones is how a name is made to point here.
    for address in &addresses {
        if let Some(why) = target.forbids(address.ip()) {
            let address = address.ip();
            return Err(Failed::Forbidden { address, why });
        }
    }
    let mut last = failed("looking up its name")("it has no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(tcp) => return Ok(tcp),
            Err(error) => last = failed("connecting")(error),
        }
    }
    Err(last)
}

fn request(
    target: &Target,
    delivery: &Delivery,
    unix_s: u64,
) -> Result<Request<Full<Bytes>>, Failed> {
    let authority = target.url.authority().map_or("", |a| a.as_str());
    let path = target
        .url
        .path_and_query()
        .map_or("/", |path| path.as_str());
    let signature = signature(&target.secret, &delivery.id, unix_s, &delivery.body);
    Request::post(path)
        .header(header::HOST, authority)
        .header(header::USER_AGENT, "ringward-server")
        .header(header::CONTENT_TYPE, "application/json")
        .header("webhook-id", &delivery.id)
        .header("webhook-timestamp", unix_s)
        .header("webhook-signature", signature)
        .body(Full::from(delivery.body.clone()))
        .map_err(failed("asking"))
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> Result<StatusCode, Failed> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(16 * 1024)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(failed("HTTP"))?;
    // It ends with the answer: the sender is all that holds it.
    tokio::spawn(connection);
    let answer = sender.send_request(request).await;
    Ok(answer.map_err(failed("asking"))?.status())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_signed_as_the_scheme_says() {
        // Computed with `openssl dgst -sha256 -mac HMAC -macopt hexkey:…` over the same bytes.
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &[7; 24]);
        let signed = signature(&secret, "msg_1", 1_614_265_330, "{\"test\": 2432232314}");
        assert_eq!(signed, "v1,7uBtESEWGtDKv2DcFOvwVnDWKwiIT+87mO9EJbkknYM=");
    }
}
