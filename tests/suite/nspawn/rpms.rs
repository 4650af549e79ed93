//! Debian's rpm and dnf stand in for an rpm distribution: the agent as an rpm, and an rpm as a release.

use crate::machine::{Machine, STATE};
use crate::staged::{CTL, PATIENCE, UNIT, after_bad_boots, completed, server_is_up};
use anyhow::{Context, Result, ensure};

const PACKAGE: &str = "sentinel";

/// rpm, and dnf with its version locks. On Debian rpm wants to be told that it may install: the program
/// of that name here tells it so, whatever it is asked for. The real one keeps its name, by which it
/// finds its aliases; dnf wants to know which release of a distribution this is.
pub fn prepare(machine: &Machine) -> Result<()> {
    machine.add_package("rpm dnf dnf-plugins-core")?;
    let root = machine.root();
    let (rpm, own) = (root.join("usr/bin/rpm"), root.join("usr/libexec/debian"));
    std::fs::create_dir_all(&own)?;
    std::fs::rename(&rpm, own.join("rpm")).context("setting rpm aside")?;
    std::fs::write(
        &rpm,
        "#!/bin/sh\ncase \"$1\" in\n-q*|-K|--*) exec /usr/libexec/debian/rpm \"$@\" ;;\nesac\n\
         exec /usr/libexec/debian/rpm --force-debian --nodeps \"$@\"\n",
    )?;
    std::fs::create_dir_all(root.join("etc/dnf/vars"))?;
    std::fs::write(root.join("etc/dnf/vars/releasever"), "12\n")?;
    let status = std::process::Command::new("chmod")
        .arg("755")
        .arg(&rpm)
        .status()?;
    ensure!(status.success(), "chmod ended with {status}");
    Ok(())
}

/// What matters here are our scripts, not whose libraries are there.
pub fn the_agent_as_an_rpm(machine: &mut Machine) -> Result<String> {
    machine.say("rpm -i /srv/first/ringward-agent-*.rpm")?;
    for unit in ["ringward-guard", "ringward-trial", "ringward-agent"] {
        let enabled = machine.say(&format!("systemctl is-enabled {unit}"))?;
        ensure!(enabled.trim() == "enabled", "{unit} is {enabled}");
    }
    machine.say("test -d /var/lib/ringward-agent && echo '# mine' >> /etc/ringward/agent.toml")?;
    machine.say("rpm -U /srv/second/ringward-agent-*.rpm")?;
    let second = machine.say("rpm -q ringward-agent")?;
    machine
        .say("grep -q '# mine' /etc/ringward/agent.toml && systemctl is-enabled ringward-agent")?;
    machine.say("rpm -U --oldpackage /srv/first/ringward-agent-*.rpm")?;
    machine.say("systemctl is-enabled ringward-agent")?;
    machine.say("rpm -e ringward-agent")?;
    machine.say("test ! -e /usr/bin/ringward-agent && test -d /var/lib/ringward-agent")?;
    // A server from the first scene is there where not every scene is played.
    let links = machine
        .say("find /etc/systemd -type l -name 'ringward*' ! -name ringward-server.service")?;
    ensure!(links.is_empty(), "left behind: {links}");
    Ok(format!("{} and back, then gone", second.trim()))
}

/// Builds a package inside, as a vendor would.
fn build(machine: &Machine, version: &str) -> Result<()> {
    machine.say(&format!(
        "mkdir -p /srv/rpm && printf '{UNIT}' > /srv/rpm/unit && cat > /srv/rpm/{PACKAGE}.spec <<'END'\n\
         Name: {PACKAGE}\nVersion: {version}\nRelease: 1\nSummary: test\nLicense: none\nBuildArch: noarch\n\
         %description\ntest\n%install\n\
         mkdir -p %{{buildroot}}/usr/lib/systemd/system %{{buildroot}}/usr/share/{PACKAGE}\n\
         cp /srv/rpm/unit %{{buildroot}}/usr/lib/systemd/system/{PACKAGE}.service\n\
         echo {version} > %{{buildroot}}/usr/share/{PACKAGE}/version\n\
         %post\nsystemctl daemon-reload\nsystemctl enable -q {PACKAGE}\nsystemctl restart --no-block {PACKAGE}\n\
         %files\n/usr/lib/systemd/system/{PACKAGE}.service\n/usr/share/{PACKAGE}\nEND\n\
         rpmbuild -bb --quiet --define '_topdir /srv/rpm' /srv/rpm/{PACKAGE}.spec 2>&1 \
         && ls /srv/rpm/RPMS/noarch/{PACKAGE}-{version}-1.noarch.rpm"
    ))
    .context("building an rpm")?;
    Ok(())
}

/// Version by rpm, by its file, and whether its unit runs.
fn installed(machine: &Machine) -> Result<String> {
    let told = machine.say(&format!(
        "rpm -q --qf '%{{VERSION}} ' {PACKAGE}; cat /usr/share/{PACKAGE}/version; systemctl is-active {PACKAGE} || true"
    ))?;
    Ok(told.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn roll(machine: &Machine, verb: &str, version: &str) -> Result<()> {
    machine.say(&format!(
        "{CTL} rollouts {verb} {PACKAGE}@{version} --reason test --yes"
    ))?;
    completed(machine)
}

fn is_locked(machine: &Machine) -> Result<bool> {
    Ok(machine.say("dnf -q versionlock list")?.contains(PACKAGE))
}

/// From an rpm that others installed to 1.0 and 1.1, back by order; then to 1.2, and back by the guard.
pub fn an_rpm_is_a_release(machine: &mut Machine) -> Result<String> {
    for version in ["0.9", "1.0", "1.1", "1.2"] {
        build(machine, version)?;
    }
    // Where dnf leaves what it downloaded.
    machine.say(&format!(
        "rpm -U /srv/rpm/RPMS/noarch/{PACKAGE}-0.9-1.noarch.rpm && mkdir -p /var/cache/dnf/base/packages \
         && cp /srv/rpm/RPMS/noarch/{PACKAGE}-0.9-1.noarch.rpm /var/cache/dnf/base/packages/"
    ))?;
    server_is_up(machine)?;
    for version in ["1.0", "1.1", "1.2"] {
        machine.say(&format!(
            "ringwardctl releases sign --package {PACKAGE} --version {version} --installer rpm \
             --bundle /srv/rpm/RPMS/noarch/{PACKAGE}-{version}-1.noarch.rpm --key /srv/keys/release-1.key --out /srv/releases \
             && {CTL} releases publish /srv/releases/{PACKAGE}-{version}.release.json --reason test --yes"
        ))?;
    }
    for version in ["1.0", "1.1"] {
        roll(machine, "start", version)?;
        let has = installed(machine)?;
        ensure!(
            has == format!("{version} {version} active"),
            "after {version} the system has {has}"
        );
        ensure!(is_locked(machine)?, "{version} is not locked against dnf");
    }
    let kept = machine.say(&format!(
        "rpm -qp --qf '%{{VERSION}}' /{STATE}/slots/{PACKAGE}/before/package.rpm"
    ))?;
    ensure!(
        kept == "0.9",
        "the vault has {kept}, not what was there before"
    );
    roll(machine, "rollback", "1.1")?;
    let has = installed(machine)?;
    ensure!(has == "1.0 1.0 active", "after the rollback: {has}");

    roll(machine, "start", "1.2")?;
    the_guard_goes_back(machine)?;
    Ok("0.9 to the vault, 1.0, 1.1, back by order; 1.2, back by the guard; each by rpm, locked for dnf".to_owned())
}

/// Two boots of 1.2 are written down as bad: in the next one the guard goes back.
fn the_guard_goes_back(machine: &mut Machine) -> Result<()> {
    after_bad_boots(machine, PACKAGE, [3, 4])?;
    machine.wait_for("1.0 by rpm, and its unit", PATIENCE, |machine| {
        let has = installed(machine)?;
        ensure!(has == "1.0 1.0 active", "the system has {has}");
        Ok(Some(()))
    })?;
    machine.agent_says("GuardReverted", PATIENCE)?;
    Ok(())
}
