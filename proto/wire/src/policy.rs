//! The ring policy in force, as people read it.

use crate::command::POLICY_BYTES_MAX;
use crate::error::DecodeError;
use crate::field::{clip, messages, parse, text};
use crate::pb;
use crate::report::RINGS_MAX;
use ringward_domain::limits::{REASON_BYTES_MAX, TITLE_BYTES_MAX};
use ringward_domain::{Millis, RingName};
use serde::Serialize;

/// The policy in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyView {
    /// As it was applied.
    pub policy_toml: String,
    /// Its rings in order.
    pub rings: Vec<RingSummary>,
    /// Who applied it.
    pub applied_by: String,
    /// When, Unix milliseconds.
    pub applied_unix_ms: u64,
}

/// One ring of the policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RingSummary {
    /// Its name.
    pub name: RingName,
    /// Which hosts match it, in words.
    pub matches: String,
    /// Active hosts that fall into it now.
    pub hosts: u64,
    /// How long a release soaks in it.
    pub soak_ms: Millis,
    /// Whether each host reboots after the switch even where the manifest needs no boot.
    pub verify_boot: bool,
}

impl From<PolicyView> for pb::PolicyView {
    fn from(policy: PolicyView) -> Self {
        Self {
            policy_toml: policy.policy_toml,
            rings: policy.rings.into_iter().map(Into::into).collect(),
            applied_by: clip(policy.applied_by, TITLE_BYTES_MAX),
            applied_unix_ms: policy.applied_unix_ms,
        }
    }
}

impl TryFrom<pb::PolicyView> for PolicyView {
    type Error = DecodeError;
    fn try_from(policy: pb::PolicyView) -> Result<Self, DecodeError> {
        Ok(Self {
            policy_toml: text("policy_toml", policy.policy_toml, POLICY_BYTES_MAX)?,
            rings: messages("rings", policy.rings, RINGS_MAX)?,
            applied_by: text("applied_by", policy.applied_by, TITLE_BYTES_MAX)?,
            applied_unix_ms: policy.applied_unix_ms,
        })
    }
}

impl From<RingSummary> for pb::RingSummary {
    fn from(ring: RingSummary) -> Self {
        Self {
            name: ring.name.into(),
            matches: clip(ring.matches, REASON_BYTES_MAX),
            hosts: ring.hosts,
            soak_ms: ring.soak_ms.0,
            verify_boot: ring.verify_boot,
        }
    }
}

impl TryFrom<pb::RingSummary> for RingSummary {
    type Error = DecodeError;
    fn try_from(ring: pb::RingSummary) -> Result<Self, DecodeError> {
        Ok(Self {
            name: parse("name", &ring.name)?,
            matches: text("matches", ring.matches, REASON_BYTES_MAX)?,
            hosts: ring.hosts,
            soak_ms: Millis(ring.soak_ms),
            verify_boot: ring.verify_boot,
        })
    }
}
