//! The host's ledger: the one small fsynced file from which agent and guard agree what this host
//! runs, what is on trial and what may not come back. Written before the act it describes.

use crate::desired::AssignmentKind;
use crate::ids::{BootId, Epoch, Generation, Nonce, ReleaseDigest, RolloutId};
use crate::time::Millis;
use crate::version::{PackageName, Version};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Everything the ledger holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ledger {
    /// Newest desired state accepted; older ones are refused.
    pub accepted: (Epoch, Generation),
    /// What each package of ours runs, and what it can go back to.
    pub packages: BTreeMap<PackageName, PackageLedger>,
    /// The newest attempt to switch, kept until the next one begins.
    pub attempt: Option<Attempt>,
    /// Nonces that got no `Begun`: nothing about them does anything again. Newest last, at most
    /// [`BURNED_MAX`](crate::limits::BURNED_MAX).
    pub burned: Vec<Nonce>,
    /// Releases this host reverted from by itself; only a person's lifting at the server clears one.
    pub bars: BTreeSet<ReleaseDigest>,
}

/// One package's installed releases.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PackageLedger {
    /// Proven on this host.
    pub committed: Option<Installed>,
    /// Proven earlier, newest last: the host's own signed history, at most
    /// [`HISTORY_MAX`](crate::limits::HISTORY_MAX). A rollback may only go to one of these.
    pub history: Vec<Installed>,
}

/// A release on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// Which release.
    pub release: ReleaseDigest,
    /// Its version.
    pub version: Version,
}

/// One attempt to switch one package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Names it.
    pub nonce: Nonce,
    /// The rollout that asked for it.
    pub rollout: RolloutId,
    /// Install or rollback.
    pub kind: AssignmentKind,
    /// The package.
    pub package: PackageName,
    /// What it switches to.
    pub to: Installed,
    /// What the host ran before; `None` on a first install.
    pub from: Option<Installed>,
    /// Whether the release must prove itself through a boot.
    pub boot_required: bool,
    /// How long it must stay healthy.
    pub soak: Millis,
    /// Boot in which the switch was made.
    pub switched_in: BootId,
    /// Boots since the switch, oldest first; at most
    /// [`BAD_BOOTS_MAX`](crate::limits::BAD_BOOTS_MAX) + 2.
    pub boots: Vec<TrialBoot>,
    /// How far it got.
    pub phase: AttemptPhase,
}

/// One boot of a release on trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialBoot {
    /// The boot.
    pub boot: BootId,
    /// Whether the agent saw the host healthy in it (probes passed); until then it counts as bad.
    pub healthy: bool,
}

/// How far an attempt got. What stands here was decided before it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttemptPhase {
    /// `Begun` received, the switch may have happened: the slot tells.
    Switching,
    /// Switched, unproven.
    Trial,
    /// Proven on this host.
    Committed,
    /// Going back or gone back; the slot tells. The reason was written first.
    Reverted(RevertWhy),
    /// The switch was refused by the host itself and nothing changed.
    Failed(FailWhy),
    /// No `Begun` came, or the process died before the switch: nothing changed.
    NotSwitched(NotSwitchedWhy),
}

/// Why a host went back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevertWhy {
    /// The guard counted too many bad boots.
    BadBoots,
    /// A service of the host crash-looped during the trial.
    CrashLoop,
    /// The manifest's probes did not pass in time.
    ProbesFailed,
    /// Reached server and gateway before the switch, and neither for 10 min after it.
    NetworkLost,
    /// The server ordered it.
    Ordered,
    /// A person ran the rescue command.
    Rescue,
}

/// Why a switch failed on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailWhy {
    /// The installer or the switch reported an error.
    Install,
    /// The disk is full or read-only.
    Disk,
}

/// Why a begun attempt did not switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotSwitchedWhy {
    /// No `Begun` within 10 s.
    NoBegun,
    /// The server refused `Begin`.
    BeginRefused,
    /// The agent or host restarted in between.
    Restarted,
    /// The host suspended in between.
    Suspended,
    /// The desired state changed in between.
    Superseded,
    /// Another installer held the package database: nothing was touched.
    Busy,
}
