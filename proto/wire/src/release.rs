//! Releases on the wire.

use crate::code::Coded;
use crate::error::DecodeError;
use crate::field::{clip, id, malformed, message, messages, parse, size, texts};
use crate::pb;
use ringward_domain::limits::{LABEL_BYTES_MAX, MANIFEST_BYTES_MAX, SIGNATURES_MAX};
use ringward_domain::manifest::{Envelope, ReleaseRoot, Signature};
use ringward_domain::report::{ReleaseView, Standing};

/// Bytes of an artefact's content in one message.
pub const CHUNK_BYTES_MAX: usize = 64 * 1024;

impl From<Envelope> for pb::Envelope {
    fn from(envelope: Envelope) -> Self {
        Self {
            payload: envelope.payload,
            signatures: envelope
                .signatures
                .into_iter()
                .map(|signature| pb::Signature {
                    key: signature.key.0.to_vec(),
                    signature: signature.signature,
                })
                .collect(),
        }
    }
}

impl TryFrom<pb::Envelope> for Envelope {
    type Error = DecodeError;
    fn try_from(envelope: pb::Envelope) -> Result<Self, DecodeError> {
        size(
            "payload",
            envelope.payload.len(),
            MANIFEST_BYTES_MAX,
            "bytes",
        )?;
        Ok(Self {
            payload: envelope.payload,
            signatures: messages("signatures", envelope.signatures, SIGNATURES_MAX)?,
        })
    }
}

impl TryFrom<pb::Signature> for Signature {
    type Error = DecodeError;
    fn try_from(signature: pb::Signature) -> Result<Self, DecodeError> {
        if signature.signature.len() != 64 {
            return Err(malformed("signature", "needs exactly 64 bytes"));
        }
        Ok(Self {
            key: id("key", &signature.key)?,
            signature: signature.signature,
        })
    }
}

fn hex(raw: &[u8]) -> String {
    use std::fmt::Write;
    raw.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Keys that are not 32 bytes of hexadecimal are sent as nothing, which the receiver refuses.
impl From<ReleaseRoot> for pb::ReleaseRoot {
    fn from(root: ReleaseRoot) -> Self {
        let raw = |key: &String| {
            key.parse::<ringward_domain::Sha256>()
                .map(|bytes| bytes.0.to_vec())
                .unwrap_or_default()
        };
        Self {
            version: root.version,
            threshold: root.threshold,
            keys: root.keys.iter().map(raw).collect(),
        }
    }
}

impl TryFrom<pb::ReleaseRoot> for ReleaseRoot {
    type Error = DecodeError;
    fn try_from(root: pb::ReleaseRoot) -> Result<Self, DecodeError> {
        let keys: Vec<ringward_domain::Sha256> =
            crate::field::ids("keys", root.keys, SIGNATURES_MAX)?;
        if root.threshold == 0 || root.threshold as usize > keys.len() {
            return Err(malformed(
                "threshold",
                "must be between 1 and the number of keys",
            ));
        }
        Ok(Self {
            version: root.version,
            threshold: root.threshold,
            keys: keys.iter().map(|key| hex(&key.0)).collect(),
        })
    }
}

impl From<ReleaseView> for pb::ReleaseView {
    fn from(release: ReleaseView) -> Self {
        Self {
            release: release.release.0.to_vec(),
            package: release.package.into(),
            version: release.version.into(),
            standing: release.standing.code(),
            published_unix_ms: release.published_unix_ms,
            signed_by: release
                .signed_by
                .into_iter()
                .take(SIGNATURES_MAX)
                .map(|key| clip(key, LABEL_BYTES_MAX))
                .collect(),
            bytes: release.bytes,
            hosts_running: release.hosts_running,
        }
    }
}

impl TryFrom<pb::ReleaseView> for ReleaseView {
    type Error = DecodeError;
    fn try_from(release: pb::ReleaseView) -> Result<Self, DecodeError> {
        Ok(Self {
            release: id("release", &release.release)?,
            package: parse("package", &release.package)?,
            version: parse("version", &release.version)?,
            standing: Standing::decode("standing", release.standing)?,
            published_unix_ms: release.published_unix_ms,
            signed_by: texts(
                "signed_by",
                release.signed_by,
                SIGNATURES_MAX,
                LABEL_BYTES_MAX,
            )?,
            bytes: release.bytes,
            hosts_running: release.hosts_running,
        })
    }
}

/// One release in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseDetail {
    /// Its standing and numbers.
    pub view: ReleaseView,
    /// The manifest as signed.
    pub envelope: Envelope,
}

impl From<ReleaseDetail> for pb::ReleaseDetail {
    fn from(detail: ReleaseDetail) -> Self {
        Self {
            view: Some(detail.view.into()),
            envelope: Some(detail.envelope.into()),
        }
    }
}

impl TryFrom<pb::ReleaseDetail> for ReleaseDetail {
    type Error = DecodeError;
    fn try_from(detail: pb::ReleaseDetail) -> Result<Self, DecodeError> {
        Ok(Self {
            view: message("view", detail.view)?,
            envelope: message("envelope", detail.envelope)?,
        })
    }
}
