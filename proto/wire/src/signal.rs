//! Signals on the wire.

use crate::code::{signal_code, signal_kind};
use crate::error::DecodeError;
use crate::field::{clip, id, malformed, maybe_id, text};
use crate::pb;
use ringward_domain::limits::{EVIDENCE_BYTES_MAX, TITLE_BYTES_MAX};
use ringward_domain::signal::{Signal, SignalKind};
use ringward_domain::{Millis, SignalSeq};

/// The number of a kind on the wire.
#[must_use]
pub fn kind_code(kind: SignalKind) -> i32 {
    signal_code(kind)
}

impl From<Signal> for pb::Signal {
    fn from(signal: Signal) -> Self {
        Self {
            seq: signal.seq.0,
            kind: signal_code(signal.kind),
            key: clip(signal.key, TITLE_BYTES_MAX),
            boot: signal.boot.0.to_vec(),
            at_boottime_ms: signal.at_boottime.0,
            release: signal.release.map(|r| r.0.to_vec()),
            title: clip(signal.title, TITLE_BYTES_MAX),
            signature: clip(signal.signature, TITLE_BYTES_MAX),
            evidence: clip(signal.evidence, EVIDENCE_BYTES_MAX),
        }
    }
}

impl TryFrom<pb::Signal> for Signal {
    type Error = DecodeError;
    fn try_from(signal: pb::Signal) -> Result<Self, DecodeError> {
        if signal.seq == 0 {
            return Err(malformed("seq", "the first signal's seq is 1"));
        }
        Ok(Self {
            seq: SignalSeq(signal.seq),
            kind: signal_kind(signal.kind),
            key: text("key", signal.key, TITLE_BYTES_MAX)?,
            boot: id("boot", &signal.boot)?,
            at_boottime: Millis(signal.at_boottime_ms),
            release: maybe_id("release", signal.release.as_deref())?,
            title: text("title", signal.title, TITLE_BYTES_MAX)?,
            signature: text("signature", signal.signature, TITLE_BYTES_MAX)?,
            evidence: text("evidence", signal.evidence, EVIDENCE_BYTES_MAX)?,
        })
    }
}
