//! Why hosts failed, on the wire.

use crate::code::{signal_code, signal_kind};
use crate::error::DecodeError;
use crate::field::{clip, message, text};
use crate::pb;
use ringward_domain::cause::{Cause, CauseCount};
use ringward_domain::limits::TITLE_BYTES_MAX;

impl From<Cause> for pb::CauseView {
    fn from(cause: Cause) -> Self {
        Self {
            kind: signal_code(cause.kind),
            signature: clip(cause.signature, TITLE_BYTES_MAX),
            title: clip(cause.title, TITLE_BYTES_MAX),
            module: cause.module.map(|name| clip(name, TITLE_BYTES_MAX)),
            function: cause.function.map(|name| clip(name, TITLE_BYTES_MAX)),
        }
    }
}

impl TryFrom<pb::CauseView> for Cause {
    type Error = DecodeError;
    fn try_from(cause: pb::CauseView) -> Result<Self, DecodeError> {
        let name = |field: &str, name: Option<String>| {
            name.map(|name| text(field, name, TITLE_BYTES_MAX))
                .transpose()
        };
        Ok(Self {
            kind: signal_kind(cause.kind),
            signature: text("signature", cause.signature, TITLE_BYTES_MAX)?,
            title: text("title", cause.title, TITLE_BYTES_MAX)?,
            module: name("module", cause.module)?,
            function: name("function", cause.function)?,
        })
    }
}

impl From<CauseCount> for pb::CauseCount {
    fn from(told: CauseCount) -> Self {
        Self {
            cause: Some(told.cause.into()),
            hosts: told.hosts,
        }
    }
}

impl TryFrom<pb::CauseCount> for CauseCount {
    type Error = DecodeError;
    fn try_from(told: pb::CauseCount) -> Result<Self, DecodeError> {
        Ok(Self {
            cause: message("cause", told.cause)?,
            hosts: told.hosts,
        })
    }
}
