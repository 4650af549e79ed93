//! Enrolment tokens: the text that a new host is given, and what is kept of it.

use crate::error::DecodeError;
use crate::field::{clip, labels, malformed, message, text, texts};
use crate::pb;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use ringward_domain::host::Labels;
use ringward_domain::limits::{LABEL_BYTES_MAX, REASON_BYTES_MAX, TITLE_BYTES_MAX};
use ringward_domain::{Millis, Sha256};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What every token's text starts with.
pub const PREFIX: &str = "rw1.";
/// Bytes of a token's text.
pub const TEXT_BYTES_MAX: usize = 4096;
/// Addresses in one token.
pub const ADDRESSES_MAX: usize = 16;

/// Networks that one token names.
const NETWORKS_MAX: usize = 16;

/// What proves that a host was invited: 32 random bytes. Never printed; the server keeps its hash.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Around random bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for the one message that carries them.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// What the server keeps of it and finds it by.
    #[must_use]
    pub fn hash(&self) -> Sha256 {
        sha256(&self.0)
    }

    /// The token's name: the first 16 hexadecimal digits of [`hash`](Self::hash).
    #[must_use]
    pub fn id(&self) -> String {
        let mut id = self.hash().to_string();
        id.truncate(16);
        id
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// SHA-256 (FIPS 180-4) of some bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Sha256 {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    Sha256(out)
}

/// Everything a new host needs to join: where the server is, how to know it, and the right to.
#[derive(Debug, Clone)]
pub struct EnrolmentToken {
    /// Addresses of the agents' listener as `host:port`, tried in turn; 1-16.
    pub addresses: Vec<String>,
    /// SHA-256 over the SubjectPublicKeyInfo of the server's root certificate.
    pub ca: Sha256,
    /// The right to join.
    pub secret: Secret,
}

/// Why a text is no token. Says nothing of the text itself, which holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "reading the enrolment token: {0}; copy the whole line that `ringwardctl tokens create` printed"
)]
pub struct TokenError(&'static str);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    addresses: Vec<String>,
    ca: Sha256,
    secret: Sha256,
}

impl EnrolmentToken {
    /// The text that `ringward-agent enroll` takes: `rw1.` and base64url (RFC 4648 §5) of JSON. It
    /// holds the secret.
    #[must_use]
    pub fn to_text(&self) -> String {
        let body = Body {
            addresses: self.addresses.clone(),
            ca: self.ca,
            secret: Sha256(self.secret.0),
        };
        // Strings and hex cannot fail to serialise.
        let json = serde_json::to_vec(&body).unwrap_or_default();
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(json))
    }
}

impl FromStr for EnrolmentToken {
    type Err = TokenError;
    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.len() > TEXT_BYTES_MAX {
            return Err(TokenError("it is too long"));
        }
        let raw = text
            .strip_prefix(PREFIX)
            .ok_or(TokenError("it does not start with rw1."))?;
        let json = URL_SAFE_NO_PAD
            .decode(raw)
            .map_err(|_| TokenError("a character of it is missing or wrong"))?;
        let body: Body = serde_json::from_slice(&json)
            .map_err(|_| TokenError("its content is damaged, or of a newer version"))?;
        if !(1..=ADDRESSES_MAX).contains(&body.addresses.len()) {
            return Err(TokenError("it does not hold 1-16 server addresses"));
        }
        Ok(Self {
            addresses: body.addresses,
            ca: body.ca,
            secret: Secret(body.secret.0),
        })
    }
}

/// What a token allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenSpec {
    /// How many hosts may join by it; at least 1.
    pub uses: u32,
    /// How long it lives from its making; at least 1 s.
    pub life_ms: Millis,
    /// Labels each host that joins by it gets.
    pub labels: Labels,
    /// Whether hosts take part at once, or wait for a person's approval.
    pub approve: bool,
    /// Hosts that join by it leave when nothing was heard of them for so long; `None`: they stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral_ms: Option<Millis>,
    /// Networks (CIDR) from which hosts may join by it; none: any. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
    /// Selector over what the host says of itself (os, arch, hostname); empty: any host.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub only: String,
}

/// What is kept of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenView {
    /// Its name, see [`Secret::id`].
    pub id: String,
    /// What it allows.
    pub spec: TokenSpec,
    /// Hosts that joined by it.
    pub used: u32,
    /// Whether a person ended it.
    pub revoked: bool,
    /// Whether its life has passed.
    pub expired: bool,
    /// When it was made, Unix milliseconds.
    pub created_unix_ms: u64,
    /// When its life ends, Unix milliseconds.
    pub expires_unix_ms: u64,
    /// Who made it.
    pub created_by: String,
    /// For what reason.
    pub reason: String,
}

impl From<TokenSpec> for pb::TokenSpec {
    fn from(spec: TokenSpec) -> Self {
        Self {
            uses: spec.uses,
            life_ms: spec.life_ms.0,
            labels: spec.labels,
            approve: spec.approve,
            ephemeral_ms: spec.ephemeral_ms.map_or(0, |ttl| ttl.0),
            networks: spec.networks,
            only: clip(spec.only, REASON_BYTES_MAX),
        }
    }
}

impl TryFrom<pb::TokenSpec> for TokenSpec {
    type Error = DecodeError;
    fn try_from(spec: pb::TokenSpec) -> Result<Self, DecodeError> {
        if spec.uses == 0 {
            return Err(malformed("uses", "must be at least 1"));
        }
        if spec.life_ms < 1000 {
            return Err(malformed("life_ms", "must be at least 1000"));
        }
        Ok(Self {
            uses: spec.uses,
            life_ms: Millis(spec.life_ms),
            labels: labels("labels", spec.labels)?,
            approve: spec.approve,
            ephemeral_ms: (spec.ephemeral_ms > 0).then_some(Millis(spec.ephemeral_ms)),
            networks: texts("networks", spec.networks, NETWORKS_MAX, LABEL_BYTES_MAX)?,
            only: text("only", spec.only, REASON_BYTES_MAX)?,
        })
    }
}

impl From<TokenView> for pb::TokenView {
    fn from(view: TokenView) -> Self {
        Self {
            id: clip(view.id, LABEL_BYTES_MAX),
            spec: Some(view.spec.into()),
            used: view.used,
            revoked: view.revoked,
            expired: view.expired,
            created_unix_ms: view.created_unix_ms,
            expires_unix_ms: view.expires_unix_ms,
            created_by: clip(view.created_by, TITLE_BYTES_MAX),
            reason: clip(view.reason, REASON_BYTES_MAX),
        }
    }
}

impl TryFrom<pb::TokenView> for TokenView {
    type Error = DecodeError;
    fn try_from(view: pb::TokenView) -> Result<Self, DecodeError> {
        Ok(Self {
            id: text("id", view.id, LABEL_BYTES_MAX)?,
            spec: message("spec", view.spec)?,
            used: view.used,
            revoked: view.revoked,
            expired: view.expired,
            created_unix_ms: view.created_unix_ms,
            expires_unix_ms: view.expires_unix_ms,
            created_by: text("created_by", view.created_by, TITLE_BYTES_MAX)?,
            reason: text("reason", view.reason, REASON_BYTES_MAX)?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn token() -> EnrolmentToken {
        EnrolmentToken {
            addresses: vec!["192.0.2.7:8443".into(), "[2001:db8::7]:8443".into()],
            ca: Sha256([7; 32]),
            secret: Secret::new([0xab; 32]),
        }
    }

    #[test]
    fn a_token_reads_back_what_it_printed() {
        let text = token().to_text();
        let back: EnrolmentToken = format!("  {text}\n").parse().unwrap();
        assert_eq!(back.addresses, token().addresses);
        assert_eq!(back.ca, token().ca);
        assert_eq!(back.secret.expose(), token().secret.expose());
    }

    #[test]
    fn neither_debug_nor_an_error_shows_the_secret() {
        let shown = format!("{:?}", token());
        assert!(!shown.contains("abab") && !shown.contains("171"), "{shown}");
        let mut text = token().to_text();
        text.truncate(text.len() - 3);
        let error = text.parse::<EnrolmentToken>().unwrap_err().to_string();
        assert!(!error.contains(&text[8..40]), "{error}");
        assert!(error.contains("tokens create"), "{error}");
    }

    #[test]
    fn texts_that_are_no_tokens_are_refused() {
        let long = format!("rw1.{}", "A".repeat(TEXT_BYTES_MAX));
        for text in ["", "rw1.", "rw2.e30", "rw1.e30", "rw1.%%%", &long] {
            assert!(text.parse::<EnrolmentToken>().is_err(), "{text:?}");
        }
    }
}
