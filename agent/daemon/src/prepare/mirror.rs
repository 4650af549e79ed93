//! Artefacts from HTTPS mirrors: `GET <url>/<sha256 of the file>`, from where an earlier try stopped. A
//! mirror is believed nothing: what it sends is bounded by the manifest and judged by its digest.

use super::fetch::{FetchError, Part};
use crate::config::MirrorSettings;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_RANGE, HOST, HeaderMap, RANGE, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use ringward_domain::Sha256;
use ringward_wire::tls;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Name resolution, TCP, TLS and the answer's head take at most this.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// The next bytes come within this.
const BYTES_TIMEOUT: Duration = Duration::from_secs(30);
/// A mirror that is slower than this over the whole file is given up: the server is there too.
const BYTES_PER_S_MIN: u64 = 16 * 1024;
/// Where systems keep the authorities that they trust, as one PEM file.
const AUTHORITIES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
];

/// The mirrors of this host, in the order in which they are asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mirrors {
    urls: Vec<Uri>,
    tls: Option<Arc<ClientConfig>>,
}

impl Mirrors {
    /// From settings; where no authority can be read there is no mirror, and the log says so.
    pub(crate) fn new(settings: &MirrorSettings) -> Self {
        if settings.urls.is_empty() {
            return Self::default();
        }
        match client_config(settings.ca_file.as_deref()) {
            Ok(config) => Self {
                urls: settings.urls.clone(),
                tls: Some(Arc::new(config)),
            },
            Err(why) => {
                tracing::error!(why, "no mirror is used; artefacts come from the server");
                Self::default()
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.urls.is_empty()
    }

    /// Takes what is missing from one mirror after the other, until the part has its whole size.
    /// Whatever a mirror does, the next source goes on.
    pub(super) async fn fill(&self, part: &mut Part, sha256: &Sha256) -> Result<(), FetchError> {
        let Some(tls) = &self.tls else { return Ok(()) };
        for url in &self.urls {
            if part.missing() == 0 {
                return Ok(());
            }
            let (before, limit) = (part.missing(), BYTES_TIMEOUT.as_secs());
            let limit = Duration::from_secs(limit + before / BYTES_PER_S_MIN);
            let took = timeout(limit, from_one(url, tls, part, sha256)).await;
            let bytes = before.saturating_sub(part.missing());
            match took.unwrap_or(Err(Trouble::Slow)) {
                Ok(()) => tracing::info!(%url, bytes, "artefact from a mirror"),
                Err(Trouble::Disk(error)) => return Err(error),
                Err(trouble) => tracing::warn!(%url, bytes, %trouble, "a mirror does not serve"),
            }
        }
        Ok(())
    }
}

/// Why a mirror is of no use.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{doing}: {why}")]
    Connection { doing: &'static str, why: String },
    #[error("it answers {0}, which is neither the file nor a part of it")]
    Status(StatusCode),
    #[error("it answers with another part than the one asked for: {0}")]
    OtherPart(String),
    #[error("it sends more than the manifest says")]
    TooLong,
    #[error("it ends too early")]
    TooShort,
    #[error("it is too slow")]
    Slow,
    #[error(transparent)]
    Disk(FetchError),
}

fn broken(doing: &'static str) -> impl Fn(&dyn std::fmt::Display) -> Trouble {
    move |why| Trouble::Connection {
        doing,
        why: why.to_string(),
    }
}

async fn from_one(
    url: &Uri,
    tls: &Arc<ClientConfig>,
    part: &mut Part,
    sha256: &Sha256,
) -> Result<(), Trouble> {
    let asked = timeout(ANSWER_TIMEOUT, ask(url, tls, sha256, part.offset())).await;
    let response = asked.map_err(|_| Trouble::Slow)??;
    match response.status() {
        StatusCode::PARTIAL_CONTENT => check_part(response.headers(), part)?,
        // It does not know of parts, and sends everything.
        StatusCode::OK => part.restart().map_err(Trouble::Disk)?,
        other => return Err(Trouble::Status(other)),
    }
    let mut body = response.into_body();
    loop {
        let frame = timeout(BYTES_TIMEOUT, body.frame()).await;
        let Some(frame) = frame.map_err(|_| Trouble::Slow)? else {
            break;
        };
        let frame = frame.map_err(|error| broken("receiving")(&error))?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        if data.len() as u64 > part.missing() {
            return Err(Trouble::TooLong);
        }
        part.append(data).map_err(Trouble::Disk)?;
    }
    match part.missing() {
        0 => Ok(()),
        _ => Err(Trouble::TooShort),
    }
}

/// A part of the file must be the one that is missing, and of a file of the right size.
fn check_part(headers: &HeaderMap, part: &Part) -> Result<(), Trouble> {
    let range = headers.get(CONTENT_RANGE).and_then(|v| v.to_str().ok());
    let range = range.unwrap_or_default();
    let fits = range.strip_prefix("bytes ").is_some_and(|range| {
        let (span, size) = range.split_once('/').unwrap_or_default();
        let from = span.split('-').next().and_then(|from| from.parse().ok());
        from == Some(part.offset()) && (size == "*" || size.parse() == Ok(part.size()))
    });
    match fits {
        true => Ok(()),
        false => Err(Trouble::OtherPart(range.chars().take(64).collect())),
    }
}

async fn ask(
    url: &Uri,
    tls: &Arc<ClientConfig>,
    sha256: &Sha256,
    offset: u64,
) -> Result<Response<Incoming>, Trouble> {
    let (host, port) = (url.host().unwrap_or_default(), url.port_u16());
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let tcp = TcpStream::connect((bare, port.unwrap_or(443)))
        .await
        .map_err(|error| broken("connecting")(&error))?;
    let name = ServerName::try_from(bare.to_owned())
        .map_err(|error| broken("naming the mirror")(&error))?;
    let tls = TlsConnector::from(Arc::clone(tls))
        .connect(name, tcp)
        .await
        .map_err(|error| broken("TLS")(&error))?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(64 * 1024)
        .handshake(TokioIo::new(tls))
        .await
        .map_err(|error| broken("HTTP")(&error))?;
    // It ends with the answer: sender and body are all that holds it.
    tokio::spawn(connection);
    let path = format!("{}/{sha256}", url.path().trim_end_matches('/'));
    let authority = url.authority().map_or(host, |authority| authority.as_str());
    let mut request = Request::get(path)
        .header(HOST, authority)
        .header(USER_AGENT, "ringward-agent");
    if offset > 0 {
        request = request.header(RANGE, format!("bytes={offset}-"));
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|error| broken("asking")(&error))?;
    let sent = sender.send_request(request).await;
    sent.map_err(|error| broken("asking")(&error))
}

fn client_config(ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    let file = match ca_file {
        Some(file) => file.to_owned(),
        None => AUTHORITIES
            .iter()
            .map(PathBuf::from)
            .find(|file| file.exists())
            .ok_or("this system keeps no file of authorities: name one in mirrors.ca_file")?,
    };
    let pem = std::fs::read(&file)
        .map_err(|error| format!("reading mirrors.ca_file {}: {error}", file.display()))?;
    let mut roots = RootCertStore::empty();
    let found = tls::certificates("mirrors.ca_file", &pem).map_err(|error| error.to_string())?;
    // Of the hundreds in a system's file one may be of a kind that rustls does not take.
    let (taken, _) = roots.add_parsable_certificates(found);
    if taken == 0 {
        return Err(format!("{} holds no authority", file.display()));
    }
    ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_root_certificates(roots).with_no_client_auth())
        .map_err(|error| error.to_string())
}
