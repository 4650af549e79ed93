//! `cargo xtask nspawn-test`: the packages on a whole Debian system in a container.
//!
//! Needs root, `mount -t overlay` and Debian's archive; says "skipped" and why where one is missing.
//! What it downloads and builds is kept in `target/nspawn`.

use crate::{build, dist};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const SUITE: &str = "bookworm";
const ARCHIVE: &str = "http://deb.debian.org/debian";
/// Taken apart instead of installed: installing could remove what the machine has.
const TOOLS: [&str; 2] = ["systemd-container", "debootstrap"];

#[derive(clap::Args)]
pub struct Args {
    /// Use the packages of the last run
    #[arg(long)]
    pub no_build: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let folder = build::target_dir()?.join("nspawn");
    if let Err(why) = prepare(&folder) {
        println!("skipped: {why:#}");
        return Ok(());
    }
    let mut test = Command::new(build::binaries(&["ringward-nspawn"])?.join("ringward-nspawn"));
    for (flag, version) in [("--first", "0.1.0"), ("--second", "0.1.1")] {
        let out = folder.join(version);
        if !args.no_build {
            let args = dist::Args {
                package_version: Some(version.to_owned()),
                debug: true,
                out: Some(out.clone()),
            };
            let names: &[&str] = match flag {
                "--first" => &["ringward-agent", "ringward-server", "ringwardctl"],
                _ => &["ringward-agent"],
            };
            dist::make(&args, names)?;
        }
        test.arg(flag).arg(out);
    }
    build::run(over(&mut test, &folder))
}

/// Names tools and base system to the program that uses them.
pub fn over<'a>(test: &'a mut Command, folder: &Path) -> &'a mut Command {
    test.arg("--nspawn")
        .arg(folder.join("tools/usr/bin/systemd-nspawn"))
        .arg("--base")
        .arg(folder.join("base"))
        .arg("--work")
        .arg(folder.join("work"))
}

/// Tools and base system, made once.
pub fn prepare(folder: &Path) -> Result<()> {
    if !is_root()? {
        bail!("a container needs root");
    }
    for program in ["nsenter", "mount", "dpkg-deb", "apt-get"] {
        let there = Command::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        there.with_context(|| format!("{program} is not there"))?;
    }
    let tools = folder.join("tools");
    if !tools.join("usr/bin/systemd-nspawn").exists()
        || !tools.join("usr/sbin/debootstrap").exists()
    {
        fetch_tools(&tools)?;
    }
    let base = folder.join("base");
    if !base.exists() {
        debootstrap(&tools, &base)?;
    }
    Ok(())
}

fn is_root() -> Result<bool> {
    let output = Command::new("id")
        .arg("-u")
        .output()
        .context("starting id")?;
    Ok(output.stdout.starts_with(b"0\n"))
}

fn fetch_tools(tools: &Path) -> Result<()> {
    let debs = tools.with_extension("debs");
    std::fs::create_dir_all(&debs)?;
    build::run(
        Command::new("apt-get")
            .args(["-q", "download"])
            .args(TOOLS)
            .current_dir(&debs),
    )
    .context("Debian's archive does not give the tools")?;
    for entry in debs.read_dir()? {
        build::run(
            Command::new("dpkg-deb")
                .arg("-x")
                .arg(entry?.path())
                .arg(tools),
        )?;
    }
    Ok(())
}

fn debootstrap(tools: &Path, base: &Path) -> Result<()> {
    let new: PathBuf = base.with_extension("new");
    if new.exists() {
        std::fs::remove_dir_all(&new)?;
    }
    build::run(
        Command::new(tools.join("usr/sbin/debootstrap"))
            .env("DEBOOTSTRAP_DIR", tools.join("usr/share/debootstrap"))
            .args([
                "--variant=minbase",
                "--include=systemd,systemd-sysv,dbus",
                SUITE,
            ])
            .arg(&new)
            .arg(ARCHIVE)
            .stdout(Stdio::null()),
    )
    .context("Debian's archive does not give a base system")?;
    std::fs::rename(&new, base).with_context(|| format!("naming {}", base.display()))
}
