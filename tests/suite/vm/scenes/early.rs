//! Releases on trial on machines that never see a server: what the guard does alone.

use super::{HEALED_WITHIN, healed, running, tree};
use crate::Options;
use crate::guest::{Guest, Hardware};
use crate::image::{self, Image, STATE};
use anyhow::{Result, ensure};
use ringward_suite::trial;
use std::path::Path;
use std::time::{Duration, Instant};

/// Starts before everything that the guard's own unit could be ordered before.
const EARLY_UNIT: &str = "[Unit]\nDescription=A driver of Endpoint Shield\nDefaultDependencies=no\n\
    After=systemd-remount-fs.service\nBefore=ringward-guard.service sysinit.target\n\
    [Service]\nType=oneshot\n\
    ExecStart=/bin/sh /var/lib/ringward-agent/slots/endpoint-shield/current/start\n\
    [Install]\nWantedBy=sysinit.target\n";
/// A stock kernel waits after a panic for ever; this is as long as we look.
const STANDS_STILL: Duration = Duration::from_secs(60);

/// A machine with 1.1 on trial, armed by an agent that is not there any more.
fn on_trial(options: &Options, name: &str, early: bool, var_apart: bool) -> Result<Image> {
    image::make(options, name, var_apart, |root| {
        let state = root.join(STATE);
        let module = options.module.as_path();
        trial::write(&state, |version, folder| {
            tree(version, folder, (version == "1.1").then_some(module))
        })?;
        std::fs::write(state.join("guard-armed"), "armed\n")?;
        if early {
            enable(
                root,
                "endpoint-driver.service",
                EARLY_UNIT,
                "sysinit.target",
            )?;
        }
        Ok(())
    })
}

fn enable(root: &Path, name: &str, unit: &str, target: &str) -> Result<()> {
    let folder = root.join("etc/systemd/system");
    std::fs::write(folder.join(name), unit)?;
    let wants = folder.join(format!("{target}.wants"));
    std::fs::create_dir_all(&wants)?;
    std::os::unix::fs::symlink(format!("/etc/systemd/system/{name}"), wants.join(name))?;
    Ok(())
}

pub(super) fn tier(guest: &Guest) -> Result<String> {
    let told = guest.say("ringward-agent doctor | grep guard || true")?;
    Ok(told.trim().to_owned())
}

pub fn in_the_initrd(options: &Options) -> Result<String> {
    let image = on_trial(options, "initrd", true, false)?;
    let mut guest = Guest::start(options, &image, &Hardware::default())?;
    let guard = healed(&mut guest, running)?;
    let tier = tier(&guest)?;
    ensure!(tier.contains("tier b"), "{tier}");
    let watchdog = guest.say("systemctl show -P RuntimeWatchdogUSec")?;
    Ok(format!("{guard}; {tier}; watchdog {}", watchdog.trim()))
}

/// Tier c cannot heal this, and says so while the host still works.
pub fn without_the_hook(options: &Options) -> Result<String> {
    let image = on_trial(options, "no-hook", true, false)?;
    let hardware = Hardware {
        old_initrd: true,
        ..Hardware::default()
    };
    let mut guest = Guest::start(options, &image, &hardware)?;
    guest.wait_for("a panic", HEALED_WITHIN, |guest| {
        Ok((guest.panics() >= 1).then_some(()))
    })?;
    let end = Instant::now() + STANDS_STILL;
    guest.wait_for("the end of the wait", STANDS_STILL * 2, |_| {
        Ok((Instant::now() >= end).then_some(()))
    })?;
    let console = guest.console();
    ensure!(
        guest.panics() == 1 && !console.contains("Rebooting in"),
        "a stock kernel came back by itself; then tier c heals more than it says"
    );
    drop(guest);
    // The same host before the release: it names what it would not survive.
    let image = image::make(options, "no-hook-before", false, |_| Ok(()))?;
    let mut guest = Guest::start(options, &image, &hardware)?;
    guest.wait_booted()?;
    let tier = tier(&guest)?;
    ensure!(
        tier.contains("tier c") && tier.contains("not healed"),
        "{tier}"
    );
    Ok(format!(
        "stands still as a stock kernel does; before it: {tier}"
    ))
}

pub fn var_apart(options: &Options) -> Result<String> {
    let image = on_trial(options, "var", false, true)?;
    let mut guest = Guest::start(options, &image, &Hardware::default())?;
    let guard = healed(&mut guest, running)?;
    let cycles =
        guest.say("journalctl -b -o cat --no-pager | grep -ci 'ordering cycle' || true")?;
    ensure!(
        cycles.trim() == "0",
        "systemd found {cycles} ordering cycles"
    );
    let tier = tier(&guest)?;
    ensure!(
        tier.contains("tier c"),
        "/var is not there for the initrd, and yet: {tier}"
    );
    Ok(format!("{guard}; {tier}"))
}
