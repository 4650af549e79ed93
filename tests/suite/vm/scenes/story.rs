//! The whole story with a server: panic, panic, back without network, and the evidence of it.

use super::{HEALED_WITHIN, PATIENCE, enrol, healed, running, tree};
use crate::Options;
use crate::control::{self, Control, find};
use crate::guest::{Guest, Hardware};
use crate::image;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

const NAME: &str = "story";
const PACKAGE: &str = "endpoint-shield";

pub fn play(options: &Options) -> Result<String> {
    let image = image::make(options, NAME, false, |_| Ok(()))?;
    let control = control::start(options, NAME)?;
    let mut guest = Guest::start(options, &image, &Hardware::default())?;
    let state = guest.wait_booted()?;
    ensure!(
        state == "running",
        "a fresh machine is {state}: {}",
        guest.say("systemctl --failed --no-pager")?
    );
    enrol(&mut guest, &control)?;
    for (version, module) in [("1.0", None), ("1.1", Some(options.module.as_path()))] {
        let folder = options.work.join(NAME).join(version);
        tree(version, &folder, module)?;
        let boot: &[&str] = if module.is_some() { &["--boot"] } else { &[] };
        control.publish(PACKAGE, version, folder.as_os_str(), boot)?;
    }
    start(&control, "1.0")?;
    control.rollout_is("completed", PATIENCE)?;
    guest.say("systemctl restart endpoint-shield")?;

    start_and_cut_off(&control, &mut guest)?;
    let guard = healed(&mut guest, running)?;
    let halted = control.rollout_is("halted", HEALED_WITHIN)?;
    judge_silence(&halted)?;

    guest.cable(true)?;
    let told = control.wait_for("the whole story", PATIENCE, |control| {
        story(&control.ctl(&["hosts", "show", "shielded"])?)
    })?;
    ensure!(running(&guest)? == "1.0", "the host moved again");
    guest.wait_for("kernel.panic as it was", PATIENCE, |guest| {
        let panic = guest.say("cat /proc/sys/kernel/panic")?;
        Ok((panic.trim() == "0").then_some(()))
    })?;
    Ok(format!(
        "{guard}; halted by silence alone; then told: {told}"
    ))
}

pub(super) fn start(control: &Control, version: &str) -> Result<()> {
    let release = format!("{PACKAGE}@{version}");
    control.ctl(&["rollouts", "start", &release, "--reason", "test", "--yes"])?;
    Ok(())
}

/// Starts 1.1, and takes the network away when the host reboots into it.
pub(super) fn start_and_cut_off(control: &Control, guest: &mut Guest) -> Result<()> {
    start(control, "1.1")?;
    control.wait_for("a host that reboots into 1.1", PATIENCE, |control| {
        let members = control.ctl(&["rollouts", "show", "--hosts"])?.to_string();
        Ok(members.contains("rebooting").then_some(()))
    })?;
    guest.cable(false)
}

/// Nothing but silence was known when the rollout halted: the network was cut all the time.
pub(super) fn judge_silence(halted: &Value) -> Result<()> {
    let named = |list: &str| {
        let members = halted[list].as_array().map_or(0, Vec::len);
        (members, halted[list].to_string())
    };
    let (silent, who) = named("silent_hosts");
    ensure!(
        silent == 1 && who.contains("shielded"),
        "silent hosts: {who}"
    );
    let (failed, who) = named("failed_hosts");
    ensure!(failed == 0, "the network is cut, and yet known: {who}");
    Ok(())
}

/// The panic with its module and the record it is from, and the way back, in one page of one host.
pub(super) fn story(host: &Value) -> Result<Option<String>> {
    let signals = find(host, "signals").and_then(Value::as_array);
    let signals = signals.context("the host has no signals")?;
    let of = |kind: &str| signals.iter().find(|signal| signal["kind"] == kind);
    if of("guard-reverted").is_none() {
        bail!("no guard-reverted among {}", titles(signals));
    }
    let Some(panic) = of("kernel-panic") else {
        bail!("no kernel-panic among {}", titles(signals));
    };
    let evidence = panic["evidence"].to_string();
    for word in ["endpoint_shield", "endpoint_shield_tick", "pstore"] {
        if !evidence.contains(word) {
            bail!("the panic's evidence lacks {word}: {evidence}");
        }
    }
    Ok(Some(panic["title"].as_str().unwrap_or_default().to_owned()))
}

fn titles(signals: &[Value]) -> String {
    let titles = signals
        .iter()
        .map(|signal| format!("{}: {}", signal["kind"], signal["title"]));
    titles.collect::<Vec<_>>().join("; ")
}
