//! `cargo xtask dashboard`: builds the page that the server embeds. Nothing else of the workspace
//! needs Node.js: a server built without the page says how to get it.

use crate::build;
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Oldest Node.js that the page's tools run on.
const NODE_MIN: (u32, u32) = (20, 19);

/// Why the page cannot be built here.
pub struct Missing(pub String);

/// Build the page into `server/dashboard/dist`.
pub fn run() -> Result<()> {
    if let Err(Missing(what)) = tools() {
        bail!(
            "{what}; the server is built without the page then and says so. \
             Install Node.js {}.{} or newer with npm (Debian: apt-get install nodejs npm)",
            NODE_MIN.0,
            NODE_MIN.1
        );
    }
    let folder = folder();
    install(&folder)?;
    npm(&folder, &["run", "--silent", "generate"])?;
    npm(&folder, &["run", "--silent", "check"])?;
    npm(&folder, &["run", "--silent", "build"])?;
    sizes(&folder.join("dist/assets"))
}

/// Build the page where that can be done; say why not elsewhere, and go on.
pub fn run_or_say() {
    if let Err(error) = run() {
        eprintln!("note: the server comes without its dashboard: {error:#}");
    }
}

/// Where the page's sources lie.
pub fn folder() -> PathBuf {
    crate::root().join("server/dashboard")
}

/// Whether Node.js and npm are here and new enough.
pub fn tools() -> Result<(), Missing> {
    let Some(version) = version_of("node") else {
        return Err(Missing("Node.js is not here".to_owned()));
    };
    let mut numbers = version
        .trim_start_matches('v')
        .split('.')
        .map(|n| n.parse().unwrap_or(0));
    let found: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found < NODE_MIN {
        return Err(Missing(format!("Node.js {version} is too old")));
    }
    if version_of("npm").is_none() {
        return Err(Missing("npm is not here".to_owned()));
    }
    Ok(())
}

/// Install exactly what the lock file names, unless it is installed already.
pub fn install(folder: &Path) -> Result<()> {
    let lock = std::fs::metadata(folder.join("package-lock.json")).and_then(|m| m.modified());
    let installed = std::fs::metadata(folder.join("node_modules/.package-lock.json"))
        .and_then(|m| m.modified());
    if matches!((lock, installed), (Ok(lock), Ok(installed)) if installed >= lock) {
        return Ok(());
    }
    npm(folder, &["ci", "--no-audit", "--no-fund"])
}

/// Run npm in a folder.
pub fn npm(folder: &Path, arguments: &[&str]) -> Result<()> {
    // Browsers come from the system: no package may fetch its own.
    build::run(
        Command::new("npm")
            .args(arguments)
            .current_dir(folder)
            .env("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1"),
    )
}

fn version_of(program: &str) -> Option<String> {
    let output = Command::new(program)
        .arg("--version")
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// Say what a browser loads; more script than the budget is an error.
fn sizes(assets: &Path) -> Result<()> {
    let mut scripts = 0;
    for entry in std::fs::read_dir(assets)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "js") {
            scripts += gzipped(&path)?;
        }
    }
    let budget = 400 * 1024;
    println!(
        "scripts: {} KiB gzip of {} KiB",
        scripts / 1024,
        budget / 1024
    );
    if scripts > budget {
        bail!("the page loads more script than its budget: leave something out");
    }
    Ok(())
}

fn gzipped(path: &Path) -> Result<usize> {
    let output = Command::new("gzip").arg("-c").arg(path).output()?;
    if !output.status.success() {
        bail!("`gzip -c {}` ended with {}", path.display(), output.status);
    }
    Ok(output.stdout.len())
}
