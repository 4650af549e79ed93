//! One line of a backup.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ringward_domain::Sha256;
use serde::{Deserialize, Serialize};

/// What a line holds. Bytes are base64 (RFC 4648 §4).
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Line {
    /// The first: what this is.
    Backup {
        /// Version of the format.
        format: u32,
        /// Version of the server that wrote it.
        server: String,
        /// When, Unix milliseconds.
        at_unix_ms: u64,
    },
    /// A file of the data directory.
    File {
        /// Path below it.
        path: String,
        /// Its permissions.
        mode: u32,
        /// Its content.
        content: Bytes,
    },
    /// A value of the store.
    Value {
        /// Kind.
        kind: String,
        /// Id within the kind.
        id: Bytes,
        /// The bytes.
        value: Bytes,
    },
    /// The next entry of the audit log.
    Audit {
        /// As it was hashed.
        entry: Bytes,
    },
    /// A signal.
    Signal {
        /// Host.
        host: u64,
        /// Seq.
        seq: u64,
        /// The bytes.
        value: Bytes,
    },
    /// A piece of an artefact, in order.
    Artefact {
        /// Of which.
        sha256: Sha256,
        /// Size of the whole.
        size: u64,
        /// Where the piece belongs.
        offset: u64,
        /// The piece.
        content: Bytes,
    },
    /// The last.
    End {
        /// Lines before this one.
        lines: u64,
        /// SHA-256 over all of them, line ends and all.
        sha256: Sha256,
    },
    /// Instead of the end: why there is none.
    Failed {
        /// In words.
        why: String,
    },
}

/// Bytes as base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        let decoded = STANDARD.decode(text.as_bytes());
        decoded.map(Self).map_err(serde::de::Error::custom)
    }
}
