//! What a host reports of itself: a level too, repeated until it changes.

use crate::ids::{Nonce, ReleaseDigest, RolloutId};
use crate::ledger::{FailWhy, NotSwitchedWhy, RevertWhy};
use crate::order::OrdersObserved;
use crate::time::Millis;
use crate::version::{PackageName, Version};
use serde::{Deserialize, Serialize};

/// The host's own account of what it runs and does.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Observed {
    /// What each package runs; read from the slots, not from memory.
    pub packages: Vec<PackageObserved>,
    /// What it prepares, and whether that is ready to switch.
    pub preparing: Option<Preparing>,
    /// The newest attempt and how it stands; repeated until the next attempt.
    pub attempt: Option<AttemptObserved>,
    /// Releases the host itself bars.
    pub bars: Vec<ReleaseDigest>,
    /// How it stands with its isolation and with each order it was given.
    #[serde(default)]
    pub orders: OrdersObserved,
}

/// One package on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageObserved {
    /// The package.
    pub package: PackageName,
    /// The release its current slot holds.
    pub running: Option<ReleaseDigest>,
    /// Its version.
    pub running_version: Option<Version>,
    /// The release proven on this host.
    pub committed: Option<ReleaseDigest>,
    /// Its version.
    pub committed_version: Option<Version>,
}

/// Getting ready for a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preparing {
    /// For which rollout.
    pub rollout: RolloutId,
    /// Which release.
    pub release: ReleaseDigest,
    /// How far.
    pub state: PrepareState,
}

/// How far a preparation got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PrepareState {
    /// Downloads and verifies.
    Working,
    /// Verified and staged; can switch at once.
    Ready,
    /// Did not work; tried again later.
    Retrying(PrepareError),
    /// Will not be installed on this host.
    Refused(RefuseWhy),
}

/// Why preparing failed for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PrepareError {
    /// No source delivered the artefact.
    Download,
    /// The content does not match its digest.
    Digest,
    /// The disk is full or read-only.
    Disk,
}

/// Why a host will not install a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefuseWhy {
    /// Signatures do not meet the host's release root.
    Signature,
    /// The manifest cannot be read or breaks a rule.
    Manifest,
    /// The bundle breaks a rule (absolute path, link, device, collision, size).
    Bundle,
    /// No artefact for this OS and architecture.
    Platform,
    /// Below the security floor without a release-key signature.
    SecurityFloor,
    /// The manifest has expired.
    Expired,
    /// The host itself bars it.
    Barred,
    /// Not in the host's own signed history (rollback only).
    UnknownHistory,
    /// The host's local policy forbids it.
    LocalPolicy,
}

/// An attempt as the host sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptObserved {
    /// Names it.
    pub nonce: Nonce,
    /// For which rollout.
    pub rollout: RolloutId,
    /// The package.
    pub package: PackageName,
    /// Which release.
    pub release: ReleaseDigest,
    /// How it stands.
    pub phase: PhaseObserved,
}

/// How an attempt stands on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PhaseObserved {
    /// `Begun` received; switching.
    Switching,
    /// On the release; about to reboot, or waits for its first healthy probe round.
    Applied,
    /// Reboots now.
    Rebooting,
    /// On the release and healthy for this long (awake time only), out of the soak asked for.
    Soaking {
        /// Healthy awake time so far.
        soaked: Millis,
    },
    /// Soaked in full and committed.
    Committed,
    /// Went back.
    Reverted(RevertWhy),
    /// The switch failed; the host is on the old release.
    Failed(FailWhy),
    /// Never switched; the host is on the old release.
    NotSwitched(NotSwitchedWhy),
}
