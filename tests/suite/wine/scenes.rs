//! The scenes, in the order in which they are played.

use crate::Stage;
use crate::draft::{Draft, THEIRS};
use crate::machine::{Ending, Machine, STATE};
use crate::msi;
use anyhow::{Context, Result, ensure};
use ringward_suite::control::find;
use serde_json::Value;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

type Scene = fn(&mut Stage) -> Result<String>;

/// All scenes.
pub const ALL: &[(&str, Scene)] = &[
    ("the MSI installs and enrols", install),
    ("a release is taken, applied and confirmed", confirmed),
    (
        "a release that fails its probe is taken back by the host",
        unhealthy,
    ),
    (
        "a driver that stops the machine in every boot halts the rollout by name",
        bugchecks,
    ),
    (
        "an MSI release that fails gives way to what others had installed",
        msi::first_fails,
    ),
    (
        "an MSI release is confirmed, and the next one goes back to it",
        msi::second_fails,
    ),
    ("a stop by a person is clean and no crash", stopped),
    ("an upgrade keeps identity, ledger and releases", upgrade),
    ("an uninstallation leaves nothing but the state", uninstall),
    ("a purge leaves nothing", purge),
];

pub const PATIENCE: Duration = Duration::from_secs(120);
const PACKAGE: &str = "endpoint-shield";
const AGENT: &str = "RingwardAgent";
const GUARD: &str = "RingwardGuard";
const INSTALLED: &str = "Program Files/Ringward";
/// How the driver of the lethal release dies.
const CODE: u32 = 0x1000_007e;

pub fn copy_in(machine: &Machine, from: &Path, to: &str) -> Result<()> {
    let to = machine.file(to);
    std::fs::copy(from, &to).with_context(|| format!("copying to {}", to.display()))?;
    Ok(())
}

pub fn msiexec(machine: &Machine, words: &[&str]) -> Result<()> {
    let mut line = vec!["msiexec"];
    line.extend(words);
    line.extend(["/qn", "/l*v", r"C:\install.log"]);
    machine.say(&line)?;
    Ok(())
}

fn running(machine: &Machine) -> Result<()> {
    machine.wait_for("both services at work", PATIENCE, |machine| {
        let agent = machine.service(AGENT)?;
        ensure!(agent == "RUNNING", "the agent's is {agent}");
        Ok(Some(()))
    })
}

/// Waits for a line of the agent's log that holds `words`; answers the last one.
fn says(machine: &Machine, words: &str) -> Result<String> {
    machine.wait_for(&format!("the agent's {words:?}"), PATIENCE, |machine| {
        let log = machine.agent_log();
        let line = log.lines().rev().find(|line| line.contains(words));
        Ok(line.map(str::to_owned))
    })
}

fn install(stage: &mut Stage) -> Result<String> {
    let (machine, control) = (&mut stage.machine, &stage.control);
    machine.boot(&Ending::Clean)?;
    let token = control.token()?;
    std::fs::write(machine.file("token.txt"), &token)?;
    copy_in(machine, &stage.options.first, "first.msi")?;
    copy_in(machine, &stage.options.second, "second.msi")?;
    let arguments = ["/i", r"C:\first.msi", r"TOKENFILE=C:\token.txt"];
    msiexec(machine, &arguments)?;
    running(machine)?;
    let log = std::fs::read(machine.file("install.log")).unwrap_or_default();
    let narrow: Vec<u8> = log.into_iter().filter(|byte| *byte != 0).collect();
    let log = String::from_utf8_lossy(&narrow);
    ensure!(
        !log.contains(&token),
        "the log of the installer holds the token"
    );
    for name in [AGENT, GUARD] {
        let key = format!(r"HKLM\SYSTEM\CurrentControlSet\Services\{name}");
        let said = machine.say(&["reg", "query", &key, "/v", "ImagePath"])?;
        ensure!(
            said.contains("    \"C:\\Program Files\\"),
            "unquoted: {said}"
        );
        for mode in ["Minimal", "Network"] {
            let key = format!(r"HKLM\SYSTEM\CurrentControlSet\Control\SafeBoot\{mode}\{name}");
            let said = machine.say(&["reg", "query", &key, "/ve"])?;
            ensure!(
                said.contains("Service"),
                "not in Safe Mode ({mode}): {said}"
            );
        }
    }
    let host = control.wait_for("one host of the fleet", PATIENCE, |control| {
        let hosts = control.ctl(&["hosts", "list"])?;
        let connected = find(&hosts, "connected").and_then(Value::as_bool);
        Ok((connected == Some(true)).then_some(hosts))
    })?;
    let os = find(&host, "os")
        .and_then(Value::as_str)
        .unwrap_or_default();
    ensure!(os == "windows", "it calls itself {os:?}: {host}");
    no_quarantine(&stage.machine)?;
    Ok("two quoted services, in Safe Mode too; connected over mutual TLS".to_owned())
}

/// Wine has no filtering engine: a host without one says that it cannot be isolated, and by what it could.
fn no_quarantine(machine: &Machine) -> Result<()> {
    says(machine, "no isolation on this host")?;
    let agent = format!(r"C:\{}\ringward-agent.exe", INSTALLED.replace('/', r"\"));
    let (_, told) = machine.ask(&[&agent, "doctor"])?;
    let line = told.lines().find(|line| line.contains("quarantine"));
    let plain = line.is_some_and(|line| line.starts_with("BAD") && line.contains("BFE"));
    ensure!(plain, "doctor says {told:?}");
    Ok(())
}

/// Publishes a release for Windows and starts its rollout.
fn roll_out(stage: &Stage, version: &str, options: &[&str]) -> Result<()> {
    let folder = stage.options.work.join(version);
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("version"), version)?;
    let mut bundle = OsString::from("windows=");
    bundle.push(&folder);
    stage.control.publish(PACKAGE, version, &bundle, options)?;
    let release = format!("{PACKAGE}@{version}");
    let order = ["rollouts", "start", &release, "--reason", "test", "--yes"];
    stage.control.ctl(&order)?;
    Ok(())
}

/// The version that is current, from the machine's own disk: behind a junction, or where there are none
/// the folder that a small file names.
fn current(machine: &Machine) -> Result<String> {
    let slots = machine.file(&format!("{STATE}/slots/{PACKAGE}"));
    let link = slots.join("current");
    let tree = match link.is_file() {
        true => slots.join(std::fs::read_to_string(&link)?),
        false => link,
    };
    let version = tree.join("version");
    std::fs::read_to_string(&version).with_context(|| format!("reading {}", version.display()))
}

fn confirmed(stage: &mut Stage) -> Result<String> {
    roll_out(stage, "1.0", &[])?;
    stage.control.rollout_is("completed", PATIENCE)?;
    let current = current(&stage.machine)?;
    ensure!(current == "1.0", "the host runs {current}");
    Ok("1.0 runs".to_owned())
}

fn unhealthy(stage: &mut Stage) -> Result<String> {
    roll_out(stage, "1.1", &["--probe", "tcp:9"])?;
    let shown = stage.control.rollout_is("halted", PATIENCE)?;
    let current = current(&stage.machine)?;
    ensure!(current == "1.0", "the host runs {current}");
    let hosts = stage.control.ctl(&["rollouts", "show", "--hosts"])?;
    let told = hosts.to_string();
    ensure!(
        told.contains("reverted"),
        "it is not told as reverted: {told}"
    );
    Ok(format!("1.0 runs; halted: {}", halt(&shown)))
}

/// Why a rollout halted, in the server's words.
pub fn halt(shown: &Value) -> String {
    let why = find(shown, "state_reason").and_then(Value::as_str);
    why.unwrap_or("without a reason").to_owned()
}

/// Power on; answers what the guard said in that boot.
fn boot(machine: &mut Machine, end: &Ending) -> Result<String> {
    let last = format!("{STATE}/guard.last");
    // Not there before the guard's first boot.
    let _ = std::fs::remove_file(machine.file(&last));
    machine.boot(end)?;
    machine.wait_for("a word of the guard", PATIENCE, |machine| {
        let said = machine.text(&last);
        Ok((!said.is_empty()).then_some(said))
    })
}

/// What the machine's kernel would leave behind: a dump, and what the log says at the next start.
fn dies(machine: &mut Machine, nth: u32) -> Result<Ending> {
    machine.power_cut()?;
    let params = [0xffff_ffff_c000_0005, THEIRS + 0x1a5, 0x2, 0x3];
    let dump = machine.file("windows/Minidump");
    std::fs::create_dir_all(&dump)?;
    let name = format!("112326-{nth}-01.dmp");
    std::fs::write(dump.join(&name), Draft::x64(CODE, params).build())?;
    Ok(Ending::Bugcheck {
        code: CODE,
        params,
        dump: format!(r"C:\windows\Minidump\{name}"),
    })
}

fn bugchecks(stage: &mut Stage) -> Result<String> {
    roll_out(stage, "1.2", &["--boot"])?;
    says(&stage.machine, "rebooting the host")?;
    let version = current(&stage.machine)?;
    ensure!(version == "1.2", "the host runs {version}");
    let machine = &mut stage.machine;
    machine.power_cut()?;
    boot(machine, &Ending::Clean)?;
    for nth in 1..=2 {
        let death = dies(machine, nth)?;
        let guard = boot(machine, &death)?;
        let went_back = guard.contains("went back to 1.0");
        ensure!(
            went_back == (nth == 2),
            "after death {nth} the guard says {guard}"
        );
    }
    let version = current(machine)?;
    ensure!(version == "1.0", "after two deaths the host runs {version}");
    running(machine)?;
    stage.control.rollout_is("halted", PATIENCE)?;
    let what = "a halt that names driver and bugcheck";
    let why = stage.control.wait_for(what, PATIENCE, |control| {
        let shown = control.rollout()?;
        let cause = find(&shown, "causes").and_then(|causes| causes.get(0));
        let module = cause.and_then(|cause| find(cause, "module"));
        ensure!(
            module.and_then(Value::as_str) == Some("acme.sys"),
            "the causes: {cause:?}"
        );
        let why = halt(&shown);
        let named = why.contains("acme.sys") && why.contains("0x1000007e");
        ensure!(named, "the halt: {why}");
        Ok(Some(why))
    })?;
    Ok(format!("back on 1.0; halted: {why}"))
}

/// The unclean stops that the agent told of, by key: one is told again by each start in its boot.
fn unclean(machine: &Machine) -> BTreeSet<String> {
    let log = machine.agent_log();
    let keys = log.lines().filter(|line| line.contains("UncleanBoot"));
    let keys = keys.filter_map(|line| line.split("key=").nth(1));
    keys.map(str::to_owned).collect()
}

fn stopped(stage: &mut Stage) -> Result<String> {
    let machine = &stage.machine;
    let before = unclean(machine);
    let starts = |machine: &Machine| machine.agent_log().matches("starts host=").count();
    let started = starts(machine);
    machine.say(&["net", "stop", AGENT])?;
    machine.say(&["net", "start", AGENT])?;
    running(machine)?;
    machine.wait_for("another session", PATIENCE, |machine| {
        let log = machine.agent_log();
        let last = log.rsplit("starts host=").next().unwrap_or_default();
        let connected = starts(machine) > started && last.contains("connected");
        Ok(connected.then_some(()))
    })?;
    let told = unclean(machine);
    ensure!(
        told == before,
        "a person's stop was told as unclean: {told:?}"
    );
    Ok("nothing new told".to_owned())
}

fn upgrade(stage: &mut Stage) -> Result<String> {
    let machine = &stage.machine;
    let identity = machine.text(&format!("{STATE}/identity/cert.pem"));
    ensure!(!identity.is_empty(), "no identity before");
    msiexec(machine, &["/i", r"C:\second.msi"])?;
    running(machine)?;
    let now = machine.text(&format!("{STATE}/identity/cert.pem"));
    ensure!(now == identity, "another identity after the upgrade");
    let version = current(machine)?;
    ensure!(version == "1.0", "the host runs {version}");
    stage
        .control
        .wait_for("the host again", PATIENCE, |control| {
            let hosts = control.ctl(&["hosts", "list"])?;
            let connected = find(&hosts, "connected").and_then(Value::as_bool);
            Ok((connected == Some(true)).then_some(()))
        })?;
    Ok("connected again".to_owned())
}

/// Services and programs are gone; a service that is just ending holds its program for a moment.
fn gone(machine: &Machine) -> Result<()> {
    machine.wait_for("an end of services and programs", PATIENCE, |machine| {
        for name in [AGENT, GUARD] {
            let state = machine.service(name)?;
            ensure!(state == "NONE", "service {name} is {state}");
        }
        for file in ["ringward-agent.exe", "ringward-guard.exe"] {
            let path = machine.file(&format!("{INSTALLED}/{file}"));
            ensure!(!path.exists(), "{} is still there", path.display());
        }
        Ok(Some(()))
    })
}

fn uninstall(stage: &mut Stage) -> Result<String> {
    let machine = &stage.machine;
    msiexec(machine, &["/x", r"C:\second.msi"])?;
    gone(machine)?;
    ensure!(
        machine.file(STATE).join("ledger").exists(),
        "the ledger is gone"
    );
    Ok("services and programs are gone, the ledger is kept".to_owned())
}

fn purge(stage: &mut Stage) -> Result<String> {
    let machine = &stage.machine;
    msiexec(machine, &["/i", r"C:\second.msi"])?;
    running(machine)?;
    msiexec(machine, &["/x", r"C:\second.msi", "PURGE=1"])?;
    gone(machine)?;
    let state = machine.file("ProgramData/Ringward");
    ensure!(!state.exists(), "{} is still there", state.display());
    Ok("installed over the kept identity, then gone with it".to_owned())
}
