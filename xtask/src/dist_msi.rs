//! The agent's MSI, by wixl.

use crate::{build, windows};
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

const SECURE: &str = "UPDATE `Property` SET `Value`=\
    'WIX_DOWNGRADE_DETECTED;WIX_UPGRADE_DETECTED;TOKENFILE;PURGE' \
    WHERE `Property`='SecureCustomProperties'";

/// Whether the tools that make an MSI are there; an error says what to install.
pub fn can_make() -> Result<()> {
    let wixl = Command::new("wixl").arg("--version").output();
    if !wixl.is_ok_and(|output| output.status.success()) {
        bail!("no MSI without wixl (apt-get install wixl msitools)");
    }
    Ok(())
}

/// Writes the MSI, or says why not: the other packages are made wherever Rust is.
pub fn make_or_say(version: &str, out: &Path) -> Result<Option<PathBuf>> {
    let programs = can_make().and_then(|()| windows::release_programs());
    match programs {
        Ok(programs) => make(version, &programs, out).map(Some),
        Err(why) => {
            println!("skipped: no MSI: {why:#}");
            Ok(None)
        }
    }
}

/// Writes the MSI of these programs.
pub fn make(version: &str, programs: &Path, out: &Path) -> Result<PathBuf> {
    // Windows Installer compares the first three numbers and refuses anything but numbers.
    let number: Vec<&str> = version.split(['.', '-', '+']).take(3).collect();
    if number.len() != 3 || number.iter().any(|part| part.parse::<u16>().is_err()) {
        bail!("an MSI needs a version of three numbers, {version} has not");
    }
    let msi = out.join(format!("ringward-agent-{version}-x64.msi"));
    let msi = std::path::absolute(msi)?;
    // wixl looks for files where it is started.
    build::run(
        Command::new("wixl")
            .args(["-a", "x64", "-D"])
            .arg(format!("Version={}", number.join(".")))
            .arg("-o")
            .arg(&msi)
            .arg(crate::root().join("deploy/windows/agent.wxs"))
            .current_dir(programs),
    )?;
    // wixl fills this property itself and has no word for others: without it a set-up that a person
    // started with the rights of a user would drop what they gave.
    build::run(Command::new("msibuild").arg(&msi).arg("-q").arg(SECURE))?;
    Ok(msi)
}

/// Writes the MSI of a product of somebody else's, for tests: one file that says its version.
pub fn make_product(version: &str, out: &Path) -> Result<()> {
    let files = out.join(format!("acme-{version}"));
    std::fs::create_dir_all(&files)?;
    std::fs::write(files.join("version.txt"), version)?;
    let msi = std::path::absolute(out.join(format!("acme-{version}.msi")))?;
    build::run(
        Command::new("wixl")
            .args(["-a", "x64", "-D"])
            .arg(format!("Version={version}"))
            .arg("-o")
            .arg(&msi)
            .arg(crate::root().join("tests/suite/wine/product.wxs"))
            .current_dir(files),
    )
}
