//! Debian systems in folders, made by debootstrap from Debian's archive. Nothing is installed on the
//! machine itself: installing could remove what it has.

use crate::build;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const SUITE: &str = "bookworm";

/// What making such a folder needs of the machine.
pub fn needs() -> Result<()> {
    let output = Command::new("id")
        .arg("-u")
        .output()
        .context("starting id")?;
    if !output.stdout.starts_with(b"0\n") {
        bail!("making Debian systems needs root");
    }
    for program in ["nsenter", "mount", "dpkg-deb", "apt-get"] {
        let there = Command::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        there.with_context(|| format!("{program} is not there"))?;
    }
    Ok(())
}

/// Packages taken apart into a folder.
pub fn unpack(names: &[&str], to: &Path) -> Result<()> {
    let debs = to.with_extension("debs");
    std::fs::create_dir_all(&debs)?;
    build::run(
        Command::new("apt-get")
            .args(["-q", "download"])
            .args(names)
            .current_dir(&debs),
    )
    .context("Debian's archive does not give the tools; `apt-get update` may help")?;
    for entry in debs.read_dir()? {
        let path = entry?.path();
        build::run(Command::new("dpkg-deb").arg("-x").arg(path).arg(to))?;
    }
    Ok(())
}

/// A system with these packages and what they need, once; `debootstrap` lies unpacked in `tools`.
pub fn system(tools: &Path, to: &Path, packages: &[&str]) -> Result<()> {
    if to.exists() {
        return Ok(());
    }
    let new: PathBuf = to.with_extension("new");
    if new.exists() {
        std::fs::remove_dir_all(&new)?;
    }
    build::run(
        Command::new(tools.join("usr/sbin/debootstrap"))
            .env("DEBOOTSTRAP_DIR", tools.join("usr/share/debootstrap"))
            .arg("--variant=minbase")
            .arg(format!("--include={}", packages.join(",")))
            .arg(SUITE)
            .arg(&new)
            .stdout(Stdio::null()),
    )
    .with_context(|| format!("Debian's archive does not give {}", to.display()))?;
    // Left mounted by some versions; an ordinary folder is as good.
    let _ = Command::new("umount")
        .arg("-q")
        .arg(new.join("proc"))
        .status();
    std::fs::rename(&new, to).with_context(|| format!("naming {}", to.display()))
}
