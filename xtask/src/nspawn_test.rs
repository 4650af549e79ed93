//! `cargo xtask nspawn-test`: the packages on a whole Debian system in a container.
//!
//! Needs root, `mount -t overlay` and Debian's archive; says "skipped" and why where one is missing.
//! What it downloads and builds is kept in `target/nspawn`.

use crate::{build, debian, dist};
use anyhow::Result;
use std::path::Path;
use std::process::Command;

/// Taken apart instead of installed: installing could remove what the machine has.
const TOOLS: [&str; 2] = ["systemd-container", "debootstrap"];
const BASE: [&str; 3] = ["systemd", "systemd-sysv", "dbus"];

#[derive(clap::Args)]
pub struct Args {
    /// Use the packages of the last run
    #[arg(long)]
    pub no_build: bool,
    /// Only the scenes whose name holds this, and the first two
    #[arg(long, value_name = "WORD")]
    pub only: Option<String>,
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
    if let Some(word) = &args.only {
        test.args(["--only", word]);
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
    debian::needs()?;
    let tools = folder.join("tools");
    if !tools.join("usr/bin/systemd-nspawn").exists()
        || !tools.join("usr/sbin/debootstrap").exists()
    {
        debian::unpack(&TOOLS, &tools)?;
    }
    debian::system(&tools, &folder.join("base"), &BASE)
}
