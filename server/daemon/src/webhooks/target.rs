//! `[[webhook]]` of `server.toml`: where messages go, and where they must not.

use crate::data_dir::{DataDir, check_private, read_bounded};
use crate::error::ServerError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use ring::hmac;
use ringward_server_core::webhooks::{Endpoint, Kind};
use ringward_wire::tls;
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Webhooks of one server.
const TARGETS_MAX: usize = 16;
/// Bytes of a secret as the Standard Webhooks scheme wants them.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
const SECRET_FILE_BYTES_MAX: u64 = 256;
const CA_BYTES_MAX: u64 = 1024 * 1024;
/// Where systems keep the authorities that they trust, as one PEM file.
const AUTHORITIES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
];

/// One webhook as a person writes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookFile {
    /// What it is called by `ringwardctl webhooks`: letters, digits and `-`.
    pub name: String,
    /// Where to: `https://…`; its path may be a secret of the receiver's and is never shown.
    pub url: String,
    /// File with the secret that signs, `whsec_` and base64 of 24-64 bytes; readable by its owner
    /// alone. Relative to the data directory.
    pub secret_file: PathBuf,
    /// What it wants to hear of; absent: everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<Kind>>,
    /// Addresses of this machine and this link may be meant too, and `http://`.
    #[serde(default)]
    pub local: bool,
    /// The authorities that may vouch for it (PEM); absent: those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

/// One webhook, ready to be sent to.
#[derive(Clone)]
pub struct Target {
    /// What is decided with.
    pub endpoint: Endpoint,
    /// Where to.
    pub url: Uri,
    /// Whether this machine and this link may be meant.
    pub local: bool,
    pub(super) secret: hmac::Key,
    pub(super) tls: Option<Arc<ClientConfig>>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Target({} at {})", self.endpoint.name, self.place())
    }
}

fn refused(name: &str, why: impl std::fmt::Display, next: &str) -> ServerError {
    ServerError::refused(format!("server.toml: webhook {name:?} {why}"), next)
}

impl Target {
    /// All of them, checked.
    ///
    /// # Errors
    /// The first that cannot be used, and why.
    pub fn load(files: &[WebhookFile], data: &DataDir) -> Result<Vec<Self>, ServerError> {
        if files.len() > TARGETS_MAX {
            return Err(ServerError::refused(
                format!(
                    "server.toml: {} webhooks; at most {TARGETS_MAX} do",
                    files.len()
                ),
                "let one receiver pass them on",
            ));
        }
        let mut targets: Vec<Self> = Vec::new();
        for file in files {
            let target = Self::read(file, data)?;
            if targets.iter().any(|t| t.endpoint.name == file.name) {
                return Err(refused(&file.name, "is there twice", "rename one"));
            }
            targets.push(target);
        }
        Ok(targets)
    }

    fn read(file: &WebhookFile, data: &DataDir) -> Result<Self, ServerError> {
        let name = &file.name;
        let fits = (1..=32).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !fits {
            let next = "use 1-32 letters, digits and '-'";
            return Err(refused(name, "has a name that cannot be", next));
        }
        let bad_url = |why: &str| {
            refused(
                name,
                format!("has a url that {why}"),
                "write https://HOST/…",
            )
        };
        let url: Uri = file.url.parse().map_err(|_| bad_url("cannot be read"))?;
        if url.host().is_none() || url.authority().is_some_and(|a| a.as_str().contains('@')) {
            return Err(bad_url("names no host, or a user"));
        }
        let tls = match url.scheme_str() {
            Some("https") => Some(client_config(name, file.ca_file.as_deref())?),
            Some("http") if file.local => None,
            Some("http") => return Err(bad_url("is not encrypted; with `local = true` it may be")),
            _ => return Err(bad_url("is neither https nor http")),
        };
        let kinds = file.events.clone().unwrap_or_else(|| Kind::ALL.to_vec());
        Ok(Self {
            endpoint: Endpoint {
                name: name.clone(),
                kinds: kinds.into_iter().collect(),
            },
            url,
            local: file.local,
            secret: secret(name, &data.root().join(&file.secret_file))?,
            tls,
        })
    }

    /// Scheme, host and port: what of the URL is no secret.
    #[must_use]
    pub fn place(&self) -> String {
        let authority = self.url.authority().map_or("", |a| a.as_str());
        format!(
            "{}://{authority}",
            self.url.scheme_str().unwrap_or_default()
        )
    }

    /// Why no message may go to an address.
    #[must_use]
    pub fn forbids(&self, address: IpAddr) -> Option<&'static str> {
        forbidden(address).filter(|_| !self.local)
    }
}

fn secret(name: &str, path: &Path) -> Result<hmac::Key, ServerError> {
    check_private(path)?;
    let text = read_bounded(path, SECRET_FILE_BYTES_MAX)?;
    let text = String::from_utf8_lossy(&text);
    let bytes = text
        .trim()
        .strip_prefix("whsec_")
        .and_then(|secret| STANDARD.decode(secret).ok())
        .filter(|secret| SECRET_BYTES.contains(&secret.len()));
    let bytes = bytes.ok_or_else(|| {
        refused(
            name,
            format!("has no secret in {}", path.display()),
            "write whsec_ and base64 of 24-64 random bytes, \
             as of `echo whsec_$(head -c 32 /dev/urandom | base64)`",
        )
    })?;
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

fn client_config(name: &str, ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, ServerError> {
    let file = match ca_file {
        Some(file) => Some(file.to_owned()),
        None => AUTHORITIES
            .iter()
            .map(PathBuf::from)
            .find(|file| file.exists()),
    };
    let next = "name a PEM file of authorities in its ca_file";
    let file = file.ok_or_else(|| refused(name, "finds no authorities on this system", next))?;
    let pem = read_bounded(&file, CA_BYTES_MAX)?;
    let found = tls::certificates("webhook.ca_file", &pem)
        .map_err(|error| refused(name, format!("has a ca_file that {error}"), next))?;
    let mut roots = RootCertStore::empty();
    // Of the hundreds in a system's file one may be of a kind that rustls does not take.
    let (taken, _) = roots.add_parsable_certificates(found);
    if taken == 0 {
        return Err(refused(name, "has a ca_file without an authority", next));
    }
    let config = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| refused(name, error, next))?;
    Ok(Arc::new(
        config.with_root_certificates(roots).with_no_client_auth(),
    ))
}

/// Why an address is this machine's, this link's, or a cloud's for its own machines: whoever may name
/// a webhook could otherwise make the server ask there.
fn forbidden(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => forbidden_v4(v4),
        IpAddr::V6(v6) => forbidden_v6(v6),
    }
}

fn forbidden_v4(v4: Ipv4Addr) -> Option<&'static str> {
    // 100.100.100.200 and 192.0.0.192 answer with metadata in two clouds outside of 169.254/16.
    let metadata = [[100, 100, 100, 200], [192, 0, 0, 192]];
    match v4.octets() {
        [127, ..] => Some("loopback"),
        [0, ..] => Some("this host"),
        [169, 254, ..] => Some("link-local"),
        octets if metadata.contains(&octets) => Some("a cloud's metadata"),
        _ if v4.is_multicast() || v4.is_broadcast() => Some("many hosts at once"),
        _ => None,
    }
}

fn forbidden_v6(v6: Ipv6Addr) -> Option<&'static str> {
    let s = v6.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        forbidden_v4(Ipv4Addr::new(a, b, c, d))
    };
    match s {
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("loopback"),
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("this host"),
        // Mapped, compatible, translated (NAT64) and 6to4 addresses lead to an IPv4 address.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            embedded(high, low)
        }
        [0x2002, high, low, ..] => embedded(high, low),
        [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254] => Some("a cloud's metadata"),
        [first, ..] if first & 0xffc0 == 0xfe80 => Some("link-local"),
        [first, ..] if first >> 8 == 0xff => Some("many hosts at once"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn this_machine_this_link_and_metadata_are_no_targets_in_any_spelling() {
        for bad in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "169.254.169.254",
            "100.100.100.200",
            "255.255.255.255",
            "224.0.0.1",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "2002:7f00:1::",
            "fe80::1",
            "fd00:ec2::254",
            "ff02::1",
        ] {
            assert!(forbidden(bad.parse().unwrap()).is_some(), "{bad}");
        }
        for good in [
            "10.1.2.3",
            "192.0.2.7",
            "2001:db8::7",
            "64:ff9b::192.0.2.7",
            "fd12::1",
        ] {
            assert_eq!(forbidden(good.parse().unwrap()), None, "{good}");
        }
    }

    fn load(change: impl FnOnce(&mut WebhookFile), secret: &str) -> Result<Vec<Target>, String> {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hook.secret");
        std::fs::write(&path, secret).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let mut file = WebhookFile {
            name: "oncall".to_owned(),
            url: "http://hooks.example/T0/secret".to_owned(),
            secret_file: "hook.secret".into(),
            events: None,
            local: true,
            ca_file: None,
        };
        change(&mut file);
        Target::load(&[file], &DataDir::new(dir.path())).map_err(|error| error.to_string())
    }

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n";

    #[test]
    fn a_webhook_shows_where_it_leads_and_not_its_secrets() {
        let targets = load(|_| {}, SECRET).unwrap();
        assert_eq!(targets[0].place(), "http://hooks.example");
        assert!(!format!("{targets:?}").contains("T0"));
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_its_reason() {
        assert!(load(|file| file.local = false, SECRET).is_err());
        assert!(load(|file| file.url = "ftp://x".to_owned(), SECRET).is_err());
        assert!(load(|file| file.url = "http://a@b/".to_owned(), SECRET).is_err());
        assert!(load(|file| file.name = "a b".to_owned(), SECRET).is_err());
        for secret in [
            "",
            "whsec_",
            "whsec_c2hvcnQ=",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        ] {
            assert!(
                load(|_| {}, secret).unwrap_err().contains("no secret"),
                "{secret}"
            );
        }
    }
}
