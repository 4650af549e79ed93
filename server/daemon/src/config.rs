//! `server.toml`: parsed ([`ConfigFile`]), merged over the defaults, validated ([`Config`]).

use crate::data_dir::{DataDir, read_bounded};
use crate::error::ServerError;
use crate::retention::Kept;
use crate::webhooks::WebhookFile;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::Duration;

/// Bytes of `server.toml`.
const CONFIG_BYTES_MAX: u64 = 64 * 1024;
/// A host certificate never lives longer (DESIGN §7).
const HOST_CERTIFICATE_DAYS_MAX: u32 = 180;

/// The file as a person writes it; every section but the two listeners may be left out.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// The agents' listener.
    pub agents: ListenerFile,
    /// The admins' listener.
    pub admins: AdminListenerFile,
    /// The dashboard's plain listener; absent: browsers need a certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dashboard: Option<DashboardFile>,
    /// Where and how state is kept.
    #[serde(default)]
    pub store: StoreFile,
    /// Lifetimes of what the authority issues.
    #[serde(default)]
    pub certificates: CertificatesFile,
    /// How long things are kept.
    #[serde(default)]
    pub retention: RetentionFile,
    /// Bounds on what clients get.
    #[serde(default)]
    pub limits: LimitsFile,
    /// Who is told of halts, holds, incidents and the like.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub webhook: Vec<WebhookFile>,
}

/// How long things are kept. The audit log is kept for good.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionFile {
    /// Days of the server's work after which a signal goes, 0-3650; 0 keeps all.
    pub signals_days: u32,
    /// Most signals, of which the oldest go first, 1000-1000000000; 0 is no bound. About 1,300
    /// bytes of disk each.
    pub signals_max: u64,
}
impl Default for RetentionFile {
    fn default() -> Self {
        Self {
            signals_days: 400,
            signals_max: 5_000_000,
        }
    }
}

/// One listener.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerFile {
    /// Address to bind, `IP:PORT`; port 0 takes a free one, written to `run/addresses.json`.
    pub listen: SocketAddr,
    /// Address that clients are told, `HOST:PORT`.
    pub address: String,
}

/// The admins' listener.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminListenerFile {
    /// As [`ListenerFile::listen`].
    pub listen: SocketAddr,
    /// As [`ListenerFile::address`].
    pub address: String,
    /// Whether nobody gets in without a certificate: API tokens and passwords alone do not do then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub certificate_only: bool,
}

/// The dashboard for browsers without a certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DashboardFile {
    /// Address to bind, on loopback only; port 0 takes a free one, written to `run/addresses.json`.
    pub listen: SocketAddr,
}

/// Where state is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreFile {
    /// `sled` on disk, or `mem` for tests: gone with the process.
    pub engine: Engine,
}
impl Default for StoreFile {
    fn default() -> Self {
        Self {
            engine: Engine::Sled,
        }
    }
}

/// Kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// Embedded, on disk.
    Sled,
    /// In memory.
    Mem,
}

/// Lifetimes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CertificatesFile {
    /// Days a host's certificate is valid, 1-180.
    pub host_days: u32,
    /// Days an admin's certificate is valid, 1-730.
    pub admin_days: u32,
}
impl Default for CertificatesFile {
    fn default() -> Self {
        Self {
            host_days: 90,
            admin_days: 365,
        }
    }
}

/// Bounds on what clients get (DESIGN §7, hostile clients). Each is a plain number with its unit in
/// its name; what is shed is counted in the metrics.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsFile {
    /// Connections on the agents' listener.
    pub agent_connections: usize,
    /// Connections on the admins' listener.
    pub admin_connections: usize,
    /// Connections without a verified certificate, an address; further ones wait.
    pub unauthenticated_per_address: usize,
    /// Connections of one address that wait for that; further ones are closed.
    pub waiting_per_address: usize,
    /// TLS handshakes at once, a listener.
    pub handshakes: usize,
    /// How long a handshake may take.
    pub handshake_timeout_ms: u64,
    /// How long a connection may wait for its handshake.
    pub handshake_wait_ms: u64,
    /// How long a connection without certificate lives: long enough to enrol.
    pub unauthenticated_age_s: u64,
    /// How long a call that is no stream may take.
    pub unary_timeout_ms: u64,
    /// HTTP/2 streams at once, an agent's connection.
    pub agent_streams: u32,
    /// HTTP/2 streams at once, an admin's connection.
    pub admin_streams: u32,
    /// HTTP/2 streams reset before they were looked at, at once; further ones end the connection.
    pub reset_streams: usize,
    /// Bytes of a request's headers.
    pub header_list_bytes: u32,
    /// Bytes in flight, a stream.
    pub stream_window_bytes: u32,
    /// Bytes in flight, a connection.
    pub connection_window_bytes: u32,
    /// Bytes of a message from an agent.
    pub agent_message_bytes: usize,
    /// Bytes of a message from an admin.
    pub admin_message_bytes: usize,
    /// Idle time after which a ping is sent.
    pub keepalive_interval_s: u64,
    /// Time within which it must be answered.
    pub keepalive_timeout_s: u64,
    /// Age at which a connection is closed in an orderly way, ± 20 %.
    pub connection_age_s: u64,
    /// Session messages a second from one host, over all its sessions, in the long run.
    pub host_messages_per_s: u32,
    /// Session messages from one host in one go.
    pub host_message_burst: u32,
    /// Signals a second from one host, over all its sessions, in the long run.
    pub host_signals_per_s: u32,
    /// Signals from one host in one go: what it kept while it could reach nobody.
    pub host_signal_burst: u32,
    /// Messages to one host that wait to be sent; a slower reader is closed.
    pub host_queue: usize,
    /// Events that wait for the one task that decides.
    pub event_queue: usize,
    /// Artefact downloads at once.
    pub downloads: usize,
    /// How long a stop may take.
    pub drain_s: u64,
}
impl Default for LimitsFile {
    fn default() -> Self {
        Self {
            agent_connections: 12_000,
            admin_connections: 256,
            unauthenticated_per_address: 16,
            waiting_per_address: 512,
            handshakes: 64,
            handshake_timeout_ms: 5_000,
            handshake_wait_ms: 10_000,
            unauthenticated_age_s: 60,
            unary_timeout_ms: 10_000,
            agent_streams: 16,
            admin_streams: 64,
            reset_streams: 20,
            header_list_bytes: 8 * 1024,
            stream_window_bytes: 64 * 1024,
            connection_window_bytes: 128 * 1024,
            agent_message_bytes: 64 * 1024,
            admin_message_bytes: 1024 * 1024,
            keepalive_interval_s: 30,
            keepalive_timeout_s: 10,
            connection_age_s: 30 * 60,
            host_messages_per_s: 50,
            host_message_burst: 200,
            host_signals_per_s: 100,
            host_signal_burst: 1_000,
            host_queue: 64,
            event_queue: 4_096,
            downloads: 64,
            drain_s: 10,
        }
    }
}

/// Validated settings of a running server.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data directory.
    pub data: DataDir,
    /// The agents' listener.
    pub agents: ListenerFile,
    /// The admins' listener.
    pub admins: AdminListenerFile,
    /// The dashboard's plain listener on loopback.
    pub dashboard: Option<SocketAddr>,
    /// Kind of store.
    pub engine: Engine,
    /// Lifetimes.
    pub certificates: CertificatesFile,
    /// How many signals are kept.
    pub signals: Kept,
    /// Bounds.
    pub limits: Limits,
    /// Who is told of halts, holds, incidents and the like.
    pub webhooks: Vec<WebhookFile>,
}

/// Validated bounds: every number above zero.
#[derive(Debug, Clone)]
pub struct Limits(LimitsFile);

impl std::ops::Deref for Limits {
    type Target = LimitsFile;
    fn deref(&self) -> &LimitsFile {
        &self.0
    }
}

impl Limits {
    /// See [`LimitsFile::unary_timeout_ms`].
    pub fn unary_timeout(&self) -> Duration {
        Duration::from_millis(self.unary_timeout_ms)
    }
    /// See [`LimitsFile::drain_s`].
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_s)
    }
}

impl TryFrom<LimitsFile> for Limits {
    type Error = ServerError;
    fn try_from(file: LimitsFile) -> Result<Self, ServerError> {
        let as_value = serde_json::to_value(&file).unwrap_or_default();
        let zero = as_value
            .as_object()
            .and_then(|fields| fields.iter().find(|(_, v)| v.as_u64() == Some(0)));
        if let Some((name, _)) = zero {
            return Err(ServerError::refused(
                format!("server.toml: limits.{name} is 0"),
                "write a number above 0, or leave the line out for the default",
            ));
        }
        if file.stream_window_bytes > file.connection_window_bytes {
            return Err(ServerError::refused(
                "server.toml: limits.stream_window_bytes is larger than \
                 limits.connection_window_bytes",
                "a stream cannot use more than its connection; lower the first",
            ));
        }
        Ok(Self(file))
    }
}

impl Config {
    /// Reads and validates `server.toml` of a data directory.
    ///
    /// # Errors
    /// Where it is missing, does not parse, or a value makes no sense; the field is named.
    pub fn load(data: DataDir) -> Result<Self, ServerError> {
        let path = data.config();
        if !path.exists() {
            return Err(ServerError::refused(
                format!("{} does not exist", path.display()),
                format!(
                    "run `ringward-server init --data {}` first",
                    data.root().display()
                ),
            ));
        }
        let text = String::from_utf8(read_bounded(&path, CONFIG_BYTES_MAX)?).map_err(|_| {
            ServerError::refused(
                format!("{} is not UTF-8 text", path.display()),
                "restore it, or write it anew by the reference in the README",
            )
        })?;
        let file: ConfigFile = toml::from_str(&text).map_err(|error| {
            ServerError::refused(
                format!("{}: {}", path.display(), error.to_string().trim_end()),
                "mend that line",
            )
        })?;
        Self::validate(data, file)
    }

    /// Validates what was parsed.
    ///
    /// # Errors
    /// Where a value makes no sense; the field is named.
    pub fn validate(data: DataDir, file: ConfigFile) -> Result<Self, ServerError> {
        let (agents, admins) = (&file.agents.address, &file.admins.address);
        for (name, address) in [("agents", agents), ("admins", admins)] {
            split_address(address).map_err(|why| {
                ServerError::refused(
                    format!("server.toml: {name}.address {address:?} {why}"),
                    "write HOST:PORT as clients reach it",
                )
            })?;
        }
        let days = &file.certificates;
        if !(1..=HOST_CERTIFICATE_DAYS_MAX).contains(&days.host_days)
            || !(1..=730).contains(&days.admin_days)
        {
            return Err(ServerError::refused(
                "server.toml: certificates.host_days must be 1-180 and \
                 certificates.admin_days 1-730",
                "choose a value within",
            ));
        }
        if file.retention.signals_days > 3650 {
            return Err(ServerError::refused(
                "server.toml: retention.signals_days must be 0-3650",
                "choose a value within; 0 keeps all",
            ));
        }
        if !matches!(file.retention.signals_max, 0 | 1_000..=1_000_000_000) {
            return Err(ServerError::refused(
                "server.toml: retention.signals_max must be 0 or 1000-1000000000",
                "choose a value within; 0 is no bound",
            ));
        }
        Ok(Self {
            data,
            agents: file.agents,
            admins: file.admins,
            dashboard: file.dashboard.map(|dashboard| dashboard.listen),
            engine: file.store.engine,
            certificates: file.certificates,
            signals: Kept {
                days: file.retention.signals_days,
                most: file.retention.signals_max,
            },
            limits: file.limits.try_into()?,
            webhooks: file.webhook,
        })
    }
}

/// Splits `HOST:PORT`; an IPv6 address stands in brackets, which are taken off.
pub(crate) fn split_address(address: &str) -> Result<(String, u16), &'static str> {
    let (host, port) = address.rsplit_once(':').ok_or("names no port")?;
    let port = port.parse().map_err(|_| "has no valid port")?;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').ok_or("lacks its closing bracket")?,
        None if host.contains(':') => return Err("is an IPv6 address without brackets"),
        None => host,
    };
    let fits = (1..=253).contains(&host.len())
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-:".contains(&b));
    if fits {
        Ok((host.to_owned(), port))
    } else {
        Err("has no valid host name")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SMALL: &str = r#"
[agents]
listen = "127.0.0.1:0"
address = "ringward.example:7443"
[admins]
listen = "127.0.0.1:0"
address = "ringward.example:7444"
"#;

    fn load(text: &str) -> Result<Config, String> {
        let file = toml::from_str(text).map_err(|e| e.to_string())?;
        Config::validate(DataDir::new("/nowhere"), file).map_err(|e| e.to_string())
    }

    #[test]
    fn two_listeners_are_enough_and_the_rest_has_defaults() {
        let config = load(SMALL).unwrap();
        assert_eq!(config.limits.agent_connections, 12_000);
        assert_eq!(config.certificates.host_days, 90);
    }

    #[test]
    fn nonsense_is_refused_with_the_name_of_the_field() {
        for (extra, named) in [
            ("[limits]\nhandshakes = 0", "limits.handshakes"),
            ("[limits]\nhandshake = 3", "handshake"),
            ("[certificates]\nhost_days = 181", "host_days"),
            (
                "[limits]\nstream_window_bytes = 999999",
                "stream_window_bytes",
            ),
            ("[retention]\nsignals_days = 4000", "signals_days"),
            ("[retention]\nsignals_max = 999", "signals_max"),
            ("[stroe]\n", "stroe"),
        ] {
            let error = load(&format!("{SMALL}\n{extra}\n")).unwrap_err();
            assert!(error.contains(named), "{extra}: {error}");
        }
        let error = load(&SMALL.replace("ringward.example:7443", "no-port")).unwrap_err();
        assert!(error.contains("agents.address"), "{error}");
    }

    #[test]
    fn addresses_split_into_host_and_port() {
        assert_eq!(
            split_address("[2001:db8::1]:7443").unwrap(),
            ("2001:db8::1".to_owned(), 7443)
        );
        for bad in ["x", ":1", "a b:1", "::1:7443", "host:70000"] {
            assert!(split_address(bad).is_err(), "{bad}");
        }
    }
}
