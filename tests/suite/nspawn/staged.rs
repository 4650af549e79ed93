//! A Debian package as a release: installed, deferred while another installer works, taken back by the
//! guard and by order, each time by dpkg itself.

use crate::machine::{Machine, STATE};
use anyhow::{Context, Result, ensure};
use ringward_domain::ledger::{AttemptPhase, TrialBoot};
use ringward_domain::{BootId, PackageName};
use ringward_guard::{LedgerStore, SystemFiles};
use std::time::Duration;

const PACKAGE: &str = "shieldd";
pub const CTL: &str = "ringwardctl --context /srv/server/admin.context.toml -o json";
/// A rollout of one host whose soak is two seconds.
pub const PATIENCE: Duration = Duration::from_secs(240);
/// Of the package's only service.
pub const UNIT: &str =
    "[Service]\\nExecStart=/bin/sleep infinity\\n[Install]\\nWantedBy=multi-user.target\\n";

/// Builds a package inside, as a vendor would.
fn build(machine: &Machine, name: &str, version: &str, postinst: &str) -> Result<()> {
    machine.say(&format!(
        "rm -rf /srv/tree && mkdir -p /srv/tree/DEBIAN /srv/tree/usr/lib/systemd/system /srv/tree/usr/share/{name} \
         && printf '{UNIT}' > /srv/tree/usr/lib/systemd/system/{name}.service \
         && echo {version} > /srv/tree/usr/share/{name}/version \
         && printf 'Package: {name}\\nVersion: {version}\\nArchitecture: all\\nMaintainer: T <t@example.org>\\nDescription: test\\n' > /srv/tree/DEBIAN/control \
         && printf '#!/bin/sh\\n{postinst}\\n' > /srv/tree/DEBIAN/postinst && chmod 755 /srv/tree/DEBIAN/postinst \
         && dpkg-deb --build /srv/tree /srv/{name}_{version}_all.deb"
    ))?;
    Ok(())
}

fn installed(machine: &Machine) -> Result<String> {
    let told = machine.say(&format!(
        "dpkg-query -W -f '${{Status}} ${{Version}}' {PACKAGE}; echo; cat /usr/share/{PACKAGE}/version"
    ))?;
    Ok(told.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn publish(machine: &Machine, version: &str) -> Result<()> {
    machine.say(&format!(
        "ringwardctl releases sign --package {PACKAGE} --version {version} --installer deb \
         --bundle /srv/{PACKAGE}_{version}_all.deb --key /srv/keys/release-1.key --out /srv/releases \
         && {CTL} releases publish /srv/releases/{PACKAGE}-{version}.release.json --reason test --yes"
    ))?;
    Ok(())
}

fn order(machine: &Machine, verb: &str, version: &str) -> Result<()> {
    machine.say(&format!(
        "{CTL} rollouts {verb} {PACKAGE}@{version} --reason test --yes"
    ))?;
    Ok(())
}

/// Waits until the newest rollout is completed.
pub fn completed(machine: &Machine) -> Result<()> {
    machine.wait_for("a completed rollout", PATIENCE, |machine| {
        let shown = machine.say(&format!("{CTL} rollouts show"))?;
        let shown: serde_json::Value = serde_json::from_str(&shown)?;
        let state = find(&shown, "state").and_then(|state| state.as_str());
        ensure!(state == Some("completed"), "it is {state:?}: {shown}");
        Ok(Some(()))
    })
}

fn find<'a>(value: &'a serde_json::Value, name: &str) -> Option<&'a serde_json::Value> {
    if let Some(found) = value.get(name) {
        return Some(found);
    }
    match value {
        serde_json::Value::Object(fields) => fields.values().find_map(|value| find(value, name)),
        serde_json::Value::Array(items) => items.iter().find_map(|value| find(value, name)),
        _ => None,
    }
}

/// The server of the first scene ended with its boot.
pub fn server_is_up(machine: &Machine) -> Result<()> {
    machine.say("systemctl is-active -q test-server || systemd-run --quiet --unit=test-server ringward-server run --data /srv/server")?;
    machine.wait_for("an answer of the server", PATIENCE, |machine| {
        Ok(machine
            .say(&format!("{CTL} hosts list"))
            .is_ok()
            .then_some(()))
    })
}

/// From a package that others installed to 1.0, then to 1.1 while another installer is at work.
pub fn a_deb_is_a_release(machine: &mut Machine) -> Result<String> {
    let enable = format!("systemctl enable --now -q {PACKAGE}");
    for version in ["0.9", "1.0", "1.1"] {
        build(machine, PACKAGE, version, &enable)?;
    }
    build(machine, "slowpoke", "1.0", "touch /run/at-work; sleep 8")?;
    machine.say(&format!(
        "dpkg -i /srv/{PACKAGE}_0.9_all.deb && cp /srv/{PACKAGE}_0.9_all.deb /var/cache/apt/archives/"
    ))?;
    server_is_up(machine)?;
    publish(machine, "1.0")?;
    publish(machine, "1.1")?;
    order(machine, "start", "1.0")?;
    completed(machine)?;
    let first = installed(machine)?;
    ensure!(
        first == "hold ok installed 1.0 1.0",
        "the system has {first}"
    );
    machine
        .say(&format!(
            "dpkg-deb -f /{STATE}/slots/{PACKAGE}/before/package.deb Version | grep -qx 0.9"
        ))
        .context("the vault lacks what was there before")?;

    machine.say("systemd-run -q --unit=slowpoke dpkg -i /srv/slowpoke_1.0_all.deb; while ! test -e /run/at-work; do sleep 0.1; done")?;
    order(machine, "start", "1.1")?;
    machine.agent_says("another installer is at work", PATIENCE)?;
    completed(machine)?;
    let second = installed(machine)?;
    ensure!(
        second == "hold ok installed 1.1 1.1",
        "the system has {second}"
    );
    Ok("0.9 to the vault, 1.0, then 1.1 after another installer was through".to_owned())
}

/// Writes two boots of the release on trial down as bad and cuts the power: in the next boot the guard
/// goes back to 1.0. Answers what it said.
pub fn after_bad_boots(machine: &mut Machine, package: &str, boots: [u8; 2]) -> Result<String> {
    machine.say("systemctl stop ringward-agent")?;
    let state = machine.root().join(STATE);
    let store = LedgerStore::new(SystemFiles, &state);
    let mut file = store.read()?.context("no ledger")?;
    let package: PackageName = package.parse()?;
    let attempt = file.ledger.attempt.as_mut().context("no attempt")?;
    attempt.phase = AttemptPhase::Trial;
    attempt.boots = boots
        .map(|n| TrialBoot {
            boot: BootId([n; 16]),
            healthy: false,
        })
        .to_vec();
    let known = file.ledger.packages.entry(package).or_default();
    known.committed.clone_from(&attempt.from);
    store.write(&file)?;
    machine.power_cut()?;
    machine.boot()?;
    let guard = machine.say("journalctl -b -u ringward-guard -o cat --no-pager")?;
    ensure!(guard.contains("went back to 1.0"), "the guard says {guard}");
    Ok(guard)
}

/// Two boots of 1.1 are written down as bad: in the next one the guard goes back.
pub fn the_guard_takes_it_back(machine: &mut Machine) -> Result<String> {
    let guard = after_bad_boots(machine, PACKAGE, [1, 2])?;
    ensure!(
        guard.contains("units of shieldd wait"),
        "the guard says {guard}"
    );
    machine.wait_for("1.0 by dpkg", PATIENCE, |machine| {
        let has = installed(machine)?;
        ensure!(has == "hold ok installed 1.0 1.0", "the system has {has}");
        Ok(Some(()))
    })?;
    machine.wait_for("its unit", PATIENCE, |machine| {
        Ok(machine
            .say(&format!("systemctl is-active {PACKAGE}"))
            .is_ok()
            .then_some(()))
    })?;
    let journal = machine.say(&format!(
        "journalctl -b -u {PACKAGE} -o cat --no-pager | head -3"
    ))?;
    let began = journal.lines().next().unwrap_or_default();
    ensure!(
        began.contains("condition") || began.contains("ConditionPathExists"),
        "the unit was not held back first: {journal}"
    );
    machine.agent_says("GuardReverted", PATIENCE)?;
    Ok("its unit waited, then ran with 1.0".to_owned())
}
