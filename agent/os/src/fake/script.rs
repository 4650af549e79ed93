//! What a scripted host does: `script.toml` in its root, and the file `behaviour` in the bundle that
//! its current slot holds.

use crate::host::HostError;
use crate::marker::read_small;
use ringward_domain::{Millis, PackageName};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Name of the script in the host's root.
pub const SCRIPT_FILE: &str = "script.toml";
/// Name of the file in a bundle that says how a scripted host fares on it.
pub const BEHAVIOUR_FILE: &str = "behaviour";

/// How one scripted host behaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Script {
    /// Its host name.
    pub hostname: String,
    /// Distribution and version it claims.
    pub os_build: String,
    /// Hardware model it claims.
    pub model: String,
    /// Off the network for this long at each boot.
    pub boot_ms: Millis,
    /// Its services answer a probe so long after a switch or a boot; less than a probe may take.
    pub starts_ms: Millis,
    /// What a lethal release does to it.
    pub on_lethal: OnLethal,
    /// A lethal release kills this long after the switch or the boot (`crash-loop`,
    /// `service-crash-loop`).
    pub dies_after_ms: Millis,
    /// Stays away this long in all (`go-dark`).
    pub dark_ms: Millis,
    /// Tells of a change so often a second, all the time; 0 for never, at most 1,000.
    pub changes_per_s: u32,
    /// What comes of an order to isolate it.
    pub firewall: Firewall,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            hostname: "scripted".to_owned(),
            os_build: "Scripted 1".to_owned(),
            model: "scripted".to_owned(),
            boot_ms: Millis::secs(1),
            starts_ms: Millis::ZERO,
            on_lethal: OnLethal::CrashLoop,
            dies_after_ms: Millis(300),
            dark_ms: Millis::secs(20),
            changes_per_s: 0,
            firewall: Firewall::Works,
        }
    }
}

/// What the scripted firewall does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firewall {
    /// What it is told.
    Works,
    /// There is none.
    Absent,
    /// It takes no rules.
    Refuses,
}

/// What a lethal release does to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnLethal {
    /// The machine dies soon after the switch and at each boot before its network comes up, until
    /// the guard takes it back.
    CrashLoop,
    /// The machine is gone with the switch, its guard takes it back unseen, and it returns much
    /// later.
    GoDark,
    /// The machine lives; one of its services crash-loops.
    ServiceCrashLoop,
}

/// How a scripted host fares on what its slots hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Well.
    Good,
    /// Badly, as the script says.
    Lethal,
}

impl Script {
    /// Read the script of a host; all defaults where there is none.
    ///
    /// # Errors
    /// The file exists and is not a script; the error names the key.
    pub fn read(root: &Path) -> Result<Self, HostError> {
        let path = root.join(SCRIPT_FILE);
        let text = read_small(&path)?.unwrap_or_default();
        toml::from_str(&text).map_err(|error| HostError::Malformed {
            what: path.display().to_string(),
            why: error.to_string(),
            next: "correct the file or remove it",
        })
    }

    /// Write the script of a host.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn write(&self, root: &Path) -> Result<(), HostError> {
        let text = toml::to_string(self).expect("a plain struct always serialises");
        let path = root.join(SCRIPT_FILE);
        std::fs::write(&path, text).map_err(|source| HostError::File {
            doing: "writing",
            path: path.display().to_string(),
            next: "check that the folder is writable",
            source,
        })
    }
}

/// The behaviour of one package's current slot; good without the file or without a slot.
#[must_use]
pub fn behaviour_of(root: &Path, package: &PackageName) -> Behaviour {
    behaviour_in(&root.join("slots").join(package.as_str()))
}

/// The worst behaviour of all current slots.
#[must_use]
pub fn behaviour(root: &Path) -> Behaviour {
    let Ok(packages) = std::fs::read_dir(root.join("slots")) else {
        return Behaviour::Good;
    };
    let lethal = packages
        .flatten()
        .any(|package| behaviour_in(&package.path()) == Behaviour::Lethal);
    if lethal {
        Behaviour::Lethal
    } else {
        Behaviour::Good
    }
}

fn behaviour_in(package: &Path) -> Behaviour {
    let link = package.join("current");
    // Without junctions a small file names the release.
    let tree = match std::fs::read_to_string(&link) {
        Ok(name) => package.join(name.trim()),
        Err(_) => link,
    };
    match std::fs::read_to_string(tree.join(BEHAVIOUR_FILE)) {
        Ok(text) if text.trim() == "lethal" => Behaviour::Lethal,
        _ => Behaviour::Good,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_script_reads_back_and_an_unknown_key_is_named() {
        let root = tempfile::tempdir().unwrap();
        let script = Script {
            on_lethal: OnLethal::GoDark,
            ..Script::default()
        };
        script.write(root.path()).unwrap();
        assert_eq!(Script::read(root.path()).unwrap(), script);
        std::fs::write(root.path().join(SCRIPT_FILE), "darkness = 3").unwrap();
        let error = Script::read(root.path()).unwrap_err().to_string();
        assert!(error.contains("darkness"), "{error}");
    }

    #[test]
    fn the_worst_current_slot_decides() {
        let root = tempfile::tempdir().unwrap();
        for (package, text) in [("a", "good\n"), ("b", "lethal\n")] {
            let slot = root.path().join("slots").join(package).join("current");
            std::fs::create_dir_all(&slot).unwrap();
            std::fs::write(slot.join(BEHAVIOUR_FILE), text).unwrap();
        }
        assert_eq!(behaviour(root.path()), Behaviour::Lethal);
        assert_eq!(
            behaviour_of(root.path(), &"a".parse().unwrap()),
            Behaviour::Good
        );
        assert_eq!(
            behaviour_of(root.path(), &"c".parse().unwrap()),
            Behaviour::Good
        );
    }
}
