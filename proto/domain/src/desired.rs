//! What the server wants of a host: a level, ordered by (epoch, generation).

use crate::ids::{Epoch, Generation, ReleaseDigest, RolloutId};
use crate::order::OrdersDesired;
use crate::time::Millis;
use crate::version::{PackageName, Version};
use serde::{Deserialize, Serialize};

/// The whole desired state of one host. A newer one replaces an older one entirely.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// Raised by a restore of the server.
    pub epoch: Epoch,
    /// Raised by every change of this host's desired state.
    pub generation: Generation,
    /// At most one per package.
    pub assignments: Vec<Assignment>,
    /// Releases that must not be installed on this host.
    pub bars: Vec<ReleaseDigest>,
    /// Releases whose bar a person lifted for this host: the agent clears its own.
    pub lifted: Vec<ReleaseDigest>,
    /// How often the host says that it lives.
    pub heartbeat: Millis,
    /// Whether it should be isolated, and what else people want of it.
    pub orders: OrdersDesired,
    /// Everything is stopped: no install begins anywhere; rollbacks and what has begun go on.
    pub stopped: bool,
}

/// One release this host should run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The rollout it belongs to.
    pub rollout: RolloutId,
    /// Install or rollback.
    pub kind: AssignmentKind,
    /// The package.
    pub package: PackageName,
    /// The release to run.
    pub release: ReleaseDigest,
    /// Its version.
    pub version: Version,
    /// How long it must stay healthy on the host before it counts as proven there.
    pub soak: Millis,
    /// Reboot after the switch even if the manifest needs none, and soak after that boot.
    pub verify_boot: bool,
    /// Whether a grant request has a chance now; before that the host prepares and waits quietly.
    pub invited: bool,
}

/// Which way an assignment goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AssignmentKind {
    /// To a release not yet proven on the fleet.
    Install,
    /// Back to an earlier release.
    Rollback,
}
