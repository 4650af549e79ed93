//! Published releases and how the fleet thinks of them.

use ringward_domain::ids::ReleaseDigest;
use ringward_domain::manifest::{BootNeed, Envelope, Manifest};
use ringward_domain::report::Standing;
use serde::{Deserialize, Serialize};

/// A published release. Signatures were verified at the edge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReleaseRecord {
    /// SHA-256 of the signed manifest bytes.
    pub release: ReleaseDigest,
    /// The manifest that was signed.
    pub manifest: Manifest,
    /// Exactly what was signed, with its signatures: what agents verify.
    pub envelope: Envelope,
    /// How the fleet thinks of it; `Bad` bars it on the fleet.
    pub standing: Standing,
    /// When it was published, Unix milliseconds, for display only.
    pub published_unix_ms: u64,
    /// By whom.
    pub published_by: String,
}

impl ReleaseRecord {
    /// Whether nobody may get it.
    #[must_use]
    pub fn barred(&self) -> bool {
        self.standing == Standing::Bad
    }

    /// Whether it takes effect only after a boot.
    #[must_use]
    pub fn boots(&self) -> bool {
        self.manifest.boot == BootNeed::Required
    }

    /// `package version` for people.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{} {}", self.manifest.package, self.manifest.version)
    }
}
