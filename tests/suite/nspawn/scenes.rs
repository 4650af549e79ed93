//! The scenes, in the order in which they are played.

use crate::machine::{Machine, STATE};
use crate::{quarantine, rpms, staged};
use anyhow::{Context, Result, bail, ensure};
use ringward_suite::trial;
use std::time::{Duration, Instant};

type Scene = fn(&mut Machine) -> Result<String>;

/// All scenes.
pub const ALL: &[(&str, Scene)] = &[
    ("packages install", install),
    ("a host is enrolled and its agent runs", enrol),
    ("a crash-looping unit is named", crash_loop),
    ("evidence of a dead boot is read", evidence),
    ("an upgrade is no crash", upgrade),
    ("a clean reboot is clean", clean_reboot),
    ("a power cut is unclean", power_cut),
    ("a deb is a release", staged::a_deb_is_a_release),
    (
        "the guard takes a deb back",
        staged::the_guard_takes_it_back,
    ),
    ("an rpm is a release", rpms::an_rpm_is_a_release),
    ("the guard goes back on the third boot", guard),
    ("rescue reads the host", rescue),
    (
        "a quarantine holds over reboots, from the first packet on",
        quarantine::over_a_reboot,
    ),
    ("packages are removed and purged", purge),
    (
        "rpm installs, upgrades, downgrades and erases the agent",
        rpms::the_agent_as_an_rpm,
    ),
];

/// So many scenes until a host is enrolled and its agent runs.
pub const ENROLLED: usize = 2;

const PATIENCE: Duration = Duration::from_secs(180);
/// From the third restart to the signal.
const NAMED_WITHIN: Duration = Duration::from_secs(15);
/// Seconds where a fleet has minutes and hours; a bench takes the defaults.
pub const RINGS: &str = "soak_s = 2\nheartbeat_s = 2\nsilence_s = 120\nsilence_reboot_s = 120\n\
    restart_grace_s = 10\nattribution_s = 600\nverify_boot = false\n[[ring]]\nname = \"all\"\n";

fn install(machine: &mut Machine) -> Result<String> {
    // A container's own boot id is a mount over the kernel's, which these protections cover up again.
    machine.say(
        "mkdir -p /etc/systemd/system/ringward-agent.service.d \
         && printf '[Service]\\nProtectKernelTunables=no\\nProtectControlGroups=no\\n' > /etc/systemd/system/ringward-agent.service.d/container.conf",
    )?;
    machine.say("dpkg -i /srv/first/*.deb")?;
    for unit in [
        "ringward-guard",
        "ringward-isolation",
        "ringward-agent",
        "ringward-server",
    ] {
        let enabled = machine.say(&format!("systemctl is-enabled {unit}"))?;
        ensure!(enabled.trim() == "enabled", "{unit} is {enabled}");
    }
    let problems = machine.say("systemd-analyze verify ringward-guard.service ringward-agent.service ringward-server.service 2>&1 | grep ringward || true")?;
    ensure!(problems.is_empty(), "{problems}");
    let score = |unit: &str| -> Result<String> {
        let text = machine.say(&format!(
            "systemd-analyze security --no-pager {unit} 2>/dev/null | tail -1"
        ))?;
        let score = text
            .split_whitespace()
            .find(|word| word.parse::<f64>().is_ok());
        Ok(format!("{unit} {}", score.context("no score")?))
    };
    Ok(format!(
        "exposure {}, {}",
        score("ringward-agent.service")?,
        score("ringward-server.service")?
    ))
}

fn enrol(machine: &mut Machine) -> Result<String> {
    machine.say(
        "ringwardctl keys init --dir /srv/keys \
         && ringward-server init --data /srv/server --agent-address 127.0.0.1:7443 --admin-address 127.0.0.1:7444 \
            $(test ! -e /srv/rings.toml || echo --rings /srv/rings.toml) --release-root /srv/keys/release-root.json \
         && systemd-run --quiet --unit=test-server ringward-server run --data /srv/server",
    )?;
    machine.wait_for("a token", PATIENCE, |machine| {
        let made = "ringwardctl --context /srv/server/admin.context.toml tokens create --uses 1 -o json > /srv/token.json";
        Ok(machine.say(made).is_ok().then_some(()))
    })?;
    machine.say(
        r#"sed -n 's/.*"token": *"\([^"]*\)".*/\1/p' /srv/token.json | ringward-agent enroll --token-stdin && systemctl start ringward-agent"#,
    )?;
    machine.agent_says("connected", PATIENCE)?;
    machine.wait_for("a lock of ours at logind", PATIENCE, |machine| {
        let locks = machine.say("systemd-inhibit --list --no-pager")?;
        Ok(locks.contains("Ringward").then_some(()))
    })?;
    let doctor = machine.say("ringward-agent doctor || true")?;
    let guard = doctor.lines().find(|line| line.contains("guard"));
    let guard = guard.context("the doctor does not speak of the guard")?;
    ensure!(guard.contains("tier c"), "{guard}");
    Ok(guard.trim().to_owned())
}

fn crash_loop(machine: &mut Machine) -> Result<String> {
    let unit = "[Unit]\\nStartLimitIntervalSec=0\\n[Service]\\nExecStart=/bin/sh -c \"kill -SEGV $$$$\"\\nRestart=always\\nRestartSec=1\\n";
    machine.say(&format!("printf '{unit}' > /etc/systemd/system/crasher.service && systemctl daemon-reload && systemctl start crasher"))?;
    machine.wait_for("a third restart", PATIENCE, |machine| {
        let count: u32 = machine
            .say("systemctl show -P NRestarts crasher")?
            .trim()
            .parse()?;
        Ok((count >= 3).then_some(()))
    })?;
    let at = Instant::now();
    let line = machine.agent_says("crash-loop:crasher.service", NAMED_WITHIN)?;
    let took = at.elapsed();
    machine.say("systemctl stop crasher")?;
    ensure!(line.contains("CrashLoop"), "{line}");
    Ok(format!(
        "{:.1} s after its third restart",
        took.as_secs_f64()
    ))
}

fn evidence(machine: &mut Machine) -> Result<String> {
    machine.say("test -d /var/lib/systemd/pstore")?;
    let record =
        "Panic#1 Part1\\n<0>[    5.000000] Kernel panic - not syncing: Attempted to kill init!\\n";
    machine.say(&format!(
        "mkdir /var/lib/systemd/pstore/1700000000 && printf '{record}' > /var/lib/systemd/pstore/1700000000/dmesg-efi-170000000001001"
    ))?;
    let line = machine.agent_says("KernelPanic", PATIENCE)?;
    ensure!(line.contains("Attempted to kill init"), "{line}");
    Ok("by the child without rights".to_owned())
}

fn upgrade(machine: &mut Machine) -> Result<String> {
    let before = machine.say("systemctl show -P InvocationID ringward-agent")?;
    machine.say("dpkg -i /srv/second/ringward-agent_*.deb")?;
    machine.wait_for("another run of the agent", PATIENCE, |machine| {
        let now = machine.say("systemctl show -P InvocationID ringward-agent")?;
        let active = machine.say("systemctl is-active ringward-agent || true")?;
        Ok((now != before && active.trim() == "active").then_some(()))
    })?;
    let log = machine.agent_log()?;
    ensure!(
        !log.contains("UncleanBoot"),
        "the upgrade was told as an unclean stop"
    );
    ensure!(
        !log.contains("crash-loop:ringward-agent"),
        "the upgrade was told as a crash loop"
    );
    let restarts = machine.say("systemctl show -P NRestarts ringward-agent")?;
    ensure!(
        restarts.trim() == "0",
        "systemd counts {restarts} crashes of the agent"
    );
    machine.say("dpkg -i /srv/first/ringward-agent_*.deb")?;
    let version = machine.say("dpkg-query -W -f '${Version}' ringward-agent")?;
    machine.say("systemctl is-active ringward-agent")?;
    Ok(format!("up and down again to {version}"))
}

fn agent_is_up(machine: &Machine) -> Result<String> {
    machine.agent_says("agent ", PATIENCE)?;
    machine.wait_for("a ready agent", PATIENCE, |machine| {
        Ok(machine
            .say("systemctl is-active ringward-agent")
            .is_ok()
            .then_some(()))
    })?;
    machine.agent_log()
}

fn clean_reboot(machine: &mut Machine) -> Result<String> {
    machine.shut_down()?;
    let seconds = machine.boot()?;
    let log = agent_is_up(machine)?;
    ensure!(!log.contains("UncleanBoot"), "told as unclean:\n{log}");
    Ok(format!("up after {seconds:.1} s, nothing told"))
}

fn power_cut(machine: &mut Machine) -> Result<String> {
    machine.power_cut()?;
    machine.boot()?;
    machine.agent_says("UncleanBoot", PATIENCE)
}

fn guard(machine: &mut Machine) -> Result<String> {
    let state = machine.root().join(STATE);
    machine.say("systemctl stop ringward-agent")?;
    trial::write(&state, |_, _| Ok(()))?;
    for boot in 1..=2 {
        machine.power_cut()?;
        machine.boot()?;
        agent_is_up(machine)?;
        let running = trial::running(&state)?;
        ensure!(running == "1.1", "boot {boot} runs {running}");
    }
    machine.power_cut()?;
    machine.boot()?;
    let running = trial::running(&state)?;
    if running != "1.0" {
        bail!("the third boot runs {running}");
    }
    let guard = machine.say("journalctl -b -u ringward-guard -o cat --no-pager")?;
    ensure!(guard.contains("went back to 1.0"), "the guard says {guard}");
    let order = machine.say("systemctl show -P ExecMainExitTimestampMonotonic ringward-guard; systemctl show -P ActiveEnterTimestampMonotonic sysinit.target")?;
    let times: Vec<u64> = order.lines().filter_map(|line| line.parse().ok()).collect();
    ensure!(
        times.len() == 2 && times[0] <= times[1],
        "the guard came after sysinit.target: {order}"
    );
    machine.agent_says("GuardReverted", PATIENCE)?;
    let times = machine.say("systemctl show -P ExecMainStartTimestampMonotonic ringward-guard; systemctl show -P ExecMainExitTimestampMonotonic ringward-guard")?;
    let times: Vec<u64> = times.lines().filter_map(|line| line.parse().ok()).collect();
    let [start, exit] = times.as_slice() else {
        bail!("systemd does not know when the guard ran");
    };
    Ok(format!(
        "1.0 runs again, the guard took {:.1} ms",
        exit.saturating_sub(*start) as f64 / 1000.0
    ))
}

fn rescue(machine: &mut Machine) -> Result<String> {
    let told = machine.say("ringward-agent rescue --root / --list")?;
    ensure!(told.contains("runs 1.0"), "{told}");
    machine.say("ringward-agent rescue --root / --revert; test $? -eq 4")?;
    Ok("1.0 runs, nothing left to take back".to_owned())
}

fn purge(machine: &mut Machine) -> Result<String> {
    machine.say("dpkg -r ringward-agent ringward-server ringwardctl")?;
    machine.say("test -e /etc/ringward/agent.toml && test -d /var/lib/ringward-agent/identity")?;
    let left = machine.say("systemctl is-active ringward-agent || true")?;
    ensure!(left.trim() != "active", "the agent still runs");
    machine.say("dpkg -P ringward-agent ringward-server ringwardctl")?;
    machine.say("test ! -e /etc/ringward && test ! -e /var/lib/ringward-agent && test ! -e /usr/lib/ringward")?;
    let links = machine.say("find /etc/systemd -type l -name 'ringward*'")?;
    ensure!(links.is_empty(), "left behind: {links}");
    Ok("state and settings are kept by a removal and gone after a purge".to_owned())
}
