//! Releases: a manifest names content-addressed artefacts; an envelope carries its signatures.

use crate::host::{Arch, Os};
use crate::ids::{KeyId, Sha256};
use crate::time::Millis;
use crate::version::{PackageName, Version};
use serde::{Deserialize, Serialize};

/// One release as its author signed it (the envelope's payload is this, as JSON).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Format of this document; this version writes and reads 1.
    pub format: u32,
    /// The package.
    pub package: PackageName,
    /// Its version.
    pub version: Version,
    /// No host may go below this version again without a release-key signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_floor: Option<Version>,
    /// After this time (Unix seconds) nothing new is exposed to this release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_unix_s: Option<u64>,
    /// One artefact per (os, arch); at most 16.
    pub artefacts: Vec<Artefact>,
    /// How it is installed.
    pub installer: Installer,
    /// How a host goes back.
    pub revert_class: RevertClass,
    /// Whether it needs a boot to take effect.
    #[serde(default)]
    pub boot: BootNeed,
    /// What must hold on a host for its soak to count; at most 16.
    #[serde(default)]
    pub probes: Vec<Probe>,
}

/// One content-addressed file for one kind of host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artefact {
    /// Operating system it is for.
    pub os: Os,
    /// Architecture it is for; `None` fits all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<Arch>,
    /// SHA-256 of the file.
    pub sha256: Sha256,
    /// Its size in bytes.
    pub size: u64,
}

/// How a release is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Installer {
    /// A tar archive unpacked into a slot of its own; one switch makes it current.
    Bundle,
    /// A tar archive that holds a Debian package as [`DEB`], installed by dpkg. The slots are the
    /// vault: the package before it lies complete beside it.
    Deb,
    /// The same with an RPM package as [`RPM`], installed by rpm.
    Rpm,
    /// The same with a Windows Installer package as [`MSI`], installed by msiexec. It can be installed
    /// and taken back in a usual boot only: neither in Safe Mode nor in WinRE.
    Msi,
}

/// Name of the one file in the bundle of [`Installer::Deb`].
pub const DEB: &str = "package.deb";
/// Name of the one file in the bundle of [`Installer::Rpm`].
pub const RPM: &str = "package.rpm";
/// Name of the one file in the bundle of [`Installer::Msi`].
pub const MSI: &str = "package.msi";

impl Installer {
    /// The file that the system's own installer is given; `None` where the tree itself is the release.
    #[must_use]
    pub fn package_file(self) -> Option<&'static str> {
        match self {
            Self::Bundle => None,
            Self::Deb => Some(DEB),
            Self::Rpm => Some(RPM),
            Self::Msi => Some(MSI),
        }
    }
}

/// How a host goes back from a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevertClass {
    /// The previous tree is complete on disk; one switch.
    Atomic,
    /// The previous package is in the vault; units disabled at once, package reverted later.
    Staged,
    /// There is no way back; two people must say so.
    Irreversible,
}

/// Whether a release needs a boot to take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootNeed {
    /// Takes effect without one.
    #[default]
    None,
    /// Takes effect after the next boot.
    Required,
}

/// One health probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Probe {
    /// A service unit is active.
    Unit {
        /// Its name.
        name: String,
    },
    /// A TCP port of this host accepts.
    Tcp {
        /// Port on the loopback address.
        port: u16,
        /// How long it may take.
        timeout_ms: Millis,
    },
    /// An HTTP GET on this host answers 2xx.
    Http {
        /// Port on the loopback address.
        port: u16,
        /// Path, starting with `/`.
        path: String,
        /// How long it may take.
        timeout_ms: Millis,
    },
}

/// A manifest's bytes with the signatures over them (Ed25519, RFC 8032, over
/// `"ringward release v1\n"` followed by the payload).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The manifest as JSON, exactly as signed.
    pub payload: Vec<u8>,
    /// Signatures by distinct keys.
    pub signatures: Vec<Signature>,
}

/// What every release signature starts with, so that it can stand for nothing else.
pub const SIGNING_CONTEXT: &[u8] = b"ringward release v1\n";

/// What every signature of a release root starts with. A signed root is an [`Envelope`] whose payload
/// is a [`ReleaseRoot`] as JSON.
pub const ROOT_CONTEXT: &[u8] = b"ringward release root v1\n";

/// One signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// SHA-256 of the public key.
    pub key: KeyId,
    /// 64 bytes.
    pub signature: Vec<u8>,
}

/// The keys that may sign releases, and how many must.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRoot {
    /// Grows by one with each change of the keys.
    pub version: u64,
    /// How many distinct keys must sign a release; at least 1.
    pub threshold: u32,
    /// The public keys, 32 bytes each, lower-case hex.
    pub keys: Vec<String>,
}
