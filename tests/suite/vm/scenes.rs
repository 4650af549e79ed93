//! The scenes; each has a machine of its own.

mod early;
mod loader;
mod story;

use crate::Options;
use crate::control::Control;
use crate::cuts;
use crate::guest::{BOOT_PATIENCE, Guest};
use crate::image::STATE;
use anyhow::{Result, ensure};
use std::path::Path;
use std::time::Duration;

/// One scene.
pub struct Scene {
    /// What comes about.
    pub name: &'static str,
    /// Whether it is in the short tier.
    pub is_short: bool,
    /// Plays it; answers what was seen.
    pub play: fn(&Options) -> Result<String>,
}

/// All scenes.
pub const ALL: &[Scene] = &[
    Scene {
        name: "a release that panics every boot is taken back without network, and the server hears it all",
        is_short: true,
        play: story::play,
    },
    Scene {
        name: "a module that panics before sysinit is taken back by the guard in a real initrd",
        is_short: false,
        play: early::in_the_initrd,
    },
    Scene {
        name: "the same without the guard in the initrd stands still, and the host said so before",
        is_short: false,
        play: early::without_the_hook,
    },
    Scene {
        name: "a release whose kernel dies in its initrd is left by the boot loader, and then taken back",
        is_short: false,
        play: loader::play,
    },
    Scene {
        name: "a release that panics is taken back where /var is a file system of its own",
        is_short: false,
        play: early::var_apart,
    },
    Scene {
        name: "a power cut at any moment of an update leaves a whole release",
        is_short: false,
        play: cuts::play,
    },
];

/// Two panics with 30 s after each, and three boots.
const HEALED_WITHIN: Duration = Duration::from_secs(1_500);

/// For what a server and an agent do with each other.
const PATIENCE: Duration = Duration::from_secs(600);

/// Enrols the guest at the server and starts its agent.
pub fn enrol(guest: &mut Guest, control: &Control) -> Result<()> {
    guest.wait_for("a way to the server", PATIENCE, |guest| {
        Ok(guest.say("ip -4 route get 10.0.2.2").is_ok().then_some(()))
    })?;
    let token = control.token()?;
    guest.say(&format!(
        "printf %s '{token}' > /run/token && ringward-agent enroll --token-file /run/token && systemctl start ringward-agent"
    ))?;
    Ok(())
}

/// What a release's tree holds: a program that its unit starts at each boot.
fn tree(version: &str, tree: &Path, module: Option<&Path>) -> Result<()> {
    std::fs::create_dir_all(tree)?;
    std::fs::write(tree.join("version"), version)?;
    let start = match module {
        None => "exit 0\n".to_owned(),
        Some(module) => {
            std::fs::copy(module, tree.join("endpoint_shield.ko"))?;
            // Loading succeeds; the machine dies a moment later, whatever comes next.
            format!("insmod /{STATE}/slots/endpoint-shield/current/endpoint_shield.ko && sleep 5\n")
        }
    };
    std::fs::write(tree.join("start"), start)?;
    Ok(())
}

/// The version that the guest runs, from its own disk.
fn running(guest: &Guest) -> Result<String> {
    let version = guest.say(&format!(
        "cat /{STATE}/slots/endpoint-shield/current/version"
    ))?;
    Ok(version.trim().to_owned())
}

/// Waits for two panics and the boot that follows, which runs 1.0; answers what the guard said in it.
fn healed(guest: &mut Guest, running: fn(&Guest) -> Result<String>) -> Result<String> {
    guest.wait_for("two panics", HEALED_WITHIN, |guest| {
        Ok((guest.panics() >= 2).then_some(()))
    })?;
    guest.wait_for(
        "1.0 on the disk of a booted system",
        BOOT_PATIENCE,
        |guest| {
            let state = guest.say("systemctl is-system-running || true")?;
            let up = matches!(state.trim(), "running" | "degraded");
            Ok((up && running(guest)? == "1.0").then_some(()))
        },
    )?;
    let panics = guest.panics();
    ensure!(panics == 2, "{panics} panics until the guard went back");
    // By its name: what it says in an initramfs comes by the kernel's log, whose reader cuts the name off.
    let said = guest.say("journalctl -b -t ringward-guard -o cat --no-pager")?;
    ensure!(said.contains("went back to 1.0"), "the guard says {said:?}");
    let said = said.replace("ringward-guard: ", "");
    Ok(said.trim().replace('\n', ", "))
}
