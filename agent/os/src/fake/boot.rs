//! The scripted machine's boots: the real guard decides at each of them.

use super::machine::{Machine, Power};
use super::script::{self, Behaviour, OnLethal, Script};
use crate::host::HostError;
use crate::marker;
use ringward_domain::Millis;
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// Boots in a row after which a machine comes up whatever its script says. The guard takes a trial
/// back after two bad boots; a release that was lethal without a trial (nothing to go back to) must
/// not spin for ever.
const BOOTS_MAX: u32 = 8;

/// How many boots a power-up took, and what the guard did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PowerUp {
    /// Boots made; zero where the machine was running.
    pub boots: u32,
    /// Whether the guard took the host back in one of them.
    pub reverted: bool,
}

/// Boot until one boot lives, or the bound is reached; then wait out a dark time.
pub(super) async fn until_alive(
    root: &Path,
    script: &Script,
    machine: &mut Machine,
) -> Result<PowerUp, HostError> {
    let mut done = PowerUp::default();
    if machine.power == Power::On {
        return Ok(done);
    }
    let dark_until =
        (machine.power == Power::Dark).then(|| Instant::now() + duration(script.dark_ms));
    while done.boots < BOOTS_MAX {
        sleep(duration(script.boot_ms)).await;
        machine.reboot();
        machine.write(root)?;
        done.boots += 1;
        // Asked at every boot, also at those that do not live until the agent starts: otherwise a
        // marker from before them would make their deaths look clean.
        marker::consume(root, machine.boot)?;
        done.reverted |= super::guard::at_boot(root, machine.boot)?;
        let dies = script.on_lethal != OnLethal::ServiceCrashLoop
            && script::behaviour(root) == Behaviour::Lethal;
        if !dies {
            break;
        }
        sleep(duration(script.dies_after_ms)).await;
    }
    if let Some(until) = dark_until {
        sleep_until(until).await;
    }
    machine.power = Power::On;
    machine.write(root)?;
    Ok(done)
}

pub(super) fn duration(time: Millis) -> Duration {
    Duration::from_millis(time.0)
}
