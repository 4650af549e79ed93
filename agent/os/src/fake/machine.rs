//! What a scripted machine remembers while its process is gone.

use crate::host::HostError;
use crate::machine::{awake, boottime};
use crate::marker::read_small;
use ring::rand::{SecureRandom, SystemRandom};
use ringward_domain::{BootId, Millis, Timestamp};
use serde::{Deserialize, Serialize};
use std::path::Path;

const MACHINE_FILE: &str = "machine.toml";

/// Whether the machine runs, or how it went down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Power {
    /// Runs.
    On,
    /// Never ran yet.
    Off,
    /// Went down in good order, to come back.
    Rebooting,
    /// Died, and reboots by itself.
    Panicked,
    /// Died, and stays off the network for the time the script says.
    Dark,
}

/// One machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Machine {
    /// Its newest boot.
    pub(super) boot: BootId,
    /// Boot-time clock of the machine beneath when this boot began.
    pub(super) booted_at: Timestamp,
    /// How long the machine beneath had slept by then, since its own boot.
    pub(super) asleep_before: Millis,
    /// Whether it runs.
    pub(super) power: Power,
}

impl Machine {
    /// The machine as it was left, or a new one.
    pub(super) fn read(root: &Path) -> Result<Self, HostError> {
        let path = root.join(MACHINE_FILE);
        let Some(text) = read_small(&path)? else {
            return Ok(Self {
                boot: random_boot(),
                booted_at: boottime(),
                asleep_before: asleep(),
                power: Power::Off,
            });
        };
        let mut machine: Self = toml::from_str(&text).map_err(|error| HostError::Malformed {
            what: path.display().to_string(),
            why: error.to_string(),
            next: "remove the file: the scripted machine then boots anew",
        })?;
        if machine.booted_at > boottime() {
            // The machine beneath was rebooted, and took this one with it.
            machine.power = Power::Panicked;
        }
        Ok(machine)
    }

    /// Write it whole, so that a killed process leaves no half of it. Not fsynced: when the machine
    /// beneath loses power the simulated one may forget a boot.
    pub(super) fn write(&self, root: &Path) -> Result<(), HostError> {
        let text = toml::to_string(self).expect("a plain struct always serialises");
        let path = root.join(MACHINE_FILE);
        let temporary = root.join("machine.toml.new");
        std::fs::write(&temporary, text)
            .and_then(|()| std::fs::rename(&temporary, &path))
            .map_err(|source| HostError::File {
                doing: "writing",
                path: path.display().to_string(),
                next: "check that the folder is writable",
                source,
            })
    }

    /// Begin another boot.
    pub(super) fn reboot(&mut self) {
        self.boot = random_boot();
        self.booted_at = boottime();
        self.asleep_before = asleep();
    }

    /// Time since this boot, without the time that the machine beneath slept in it.
    pub(super) fn awake(&self) -> Millis {
        boottime().since(self.booted_at) - (asleep() - self.asleep_before)
    }
}

/// How long the machine beneath has slept since its own boot.
fn asleep() -> Millis {
    let awake = awake();
    Millis(boottime().0) - awake
}

fn random_boot() -> BootId {
    let mut id = [0; 16];
    SystemRandom::new()
        .fill(&mut id)
        .expect("the kernel's random source answers since boot");
    BootId(id)
}
