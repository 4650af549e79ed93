//! What the server writes down, one record a thing. Unknown fields are ignored on reading, new ones
//! have defaults, so that version N-1 reads what N wrote.

use ringward_domain::HostId;
use ringward_domain::ids::{ReleaseDigest, RolloutId};
use serde::{Deserialize, Serialize};

/// Key of a record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RecordKey {
    /// Epoch, generation reserve, andon, policy in force.
    Control,
    /// A host.
    Host(HostId),
    /// A release.
    Release(ReleaseDigest),
    /// A rollout with its rings and evidence.
    Rollout(RolloutId),
    /// A host's part in a rollout.
    Member(RolloutId, HostId),
}

/// A record. The owner of `Control` fills the variants' types.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Record {}
