//! What is known of a host: facts it reports, labels the server assigns.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Operating system family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Os {
    /// Linux.
    Linux,
    /// Windows.
    Windows,
}

/// Processor architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit ARM.
    Aarch64,
}

/// The earliest point at which the guard can act on this host (DESIGN §6).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum GuardTier {
    /// No guard is armed before a reboot: the host cannot heal itself.
    #[default]
    None,
    /// Tier c: a service ordered before the release's units.
    Service,
    /// Tier b: an initramfs hook.
    Initramfs,
    /// Tier a: the boot loader's counter.
    BootLoader,
}

/// What an agent reports of its host. Facts inform people and strata; they never decide a ring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Host name as the OS tells it.
    pub hostname: String,
    /// Operating system family.
    pub os: Os,
    /// Distribution and version, or Windows build (`Debian 12`, `10.0.22631`).
    pub os_build: String,
    /// Processor architecture.
    pub arch: Arch,
    /// Kernel release.
    pub kernel: String,
    /// Hardware model, or the hypervisor's name; empty where unknown.
    pub model: String,
    /// SHA-256 (hex) over stable machine identifiers; an attribute, never the identity.
    pub fingerprint: String,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Logical processors.
    pub cpus: u32,
    /// Where the guard can act.
    pub guard_tier: GuardTier,
}

/// Labels assigned by the server: only they decide ring, criticality, protection, site and grants.
/// Well-known keys: `site`, `criticality` (`low`, `normal`, `high`), `group` (redundancy group),
/// `protected`.
pub type Labels = BTreeMap<String, String>;

/// Where a host stands in its life with this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostState {
    /// Enrolled, waits for a person's approval.
    Pending,
    /// Takes part.
    Active,
    /// Left the fleet; its certificate is revoked.
    Retired,
}
