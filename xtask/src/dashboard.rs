//! `cargo xtask dashboard`: builds the page that the server embeds. Nothing else of the workspace
//! needs Node.js: a server built without the page says how to get it.

use crate::build;
use anyhow::{Context, Result, bail};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

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
    generate(&folder)?;
    npm(&folder, &["run", "--silent", "check"])?;
    npm(&folder, &["run", "--silent", "build"])?;
    sizes(&folder.join("dist/assets"))
}

/// Build the page where that is due.
pub fn run_if_due() -> Result<()> {
    match is_fresh() {
        true => Ok(()),
        false => run(),
    }
}

/// Build the page where that can be done and is due; say why not elsewhere, and go on.
pub fn run_or_say() {
    if let Err(error) = run_if_due() {
        let built = folder().join("dist/index.html").exists();
        let instead = match built {
            true => "the server keeps the dashboard built before",
            false => "the server comes without its dashboard and says so on a plain page",
        };
        eprintln!("note: {instead}: {error:#}");
    }
}

/// Whether the page was built after everything it is made of.
fn is_fresh() -> bool {
    let folder = folder();
    let Some(built) = modified(&folder.join("dist/index.html")) else {
        return false;
    };
    let sources = [
        folder.join("src"),
        folder.join("public"),
        folder.join("package-lock.json"),
        folder.join("vite.config.ts"),
        folder.join("index.html"),
        crate::root().join("proto/wire/ringward/v1"),
    ];
    let generated = folder.join("src/gen");
    let newest = sources.iter().map(|path| newest(path, &generated)).max();
    newest.is_some_and(|newest| newest.is_some_and(|newest| newest <= built))
}

/// When the newest file under a path was changed.
fn newest(path: &Path, except: &Path) -> Option<SystemTime> {
    if path == except {
        return None;
    }
    match std::fs::read_dir(path) {
        Ok(entries) => entries
            .flatten()
            .filter_map(|entry| newest(&entry.path(), except))
            .max(),
        Err(_) => modified(path),
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|m| m.modified()).ok()
}

/// Generate the types of the API from the .proto files, without `protoc`.
fn generate(folder: &Path) -> Result<()> {
    let descriptors = build::cargo()
        .args(["run", "--quiet", "--package", "ringward-wire"])
        .args(["--example", "descriptors"])
        .stderr(Stdio::inherit())
        .output()
        .context("starting cargo for the protocol's descriptors")?;
    if !descriptors.status.success() {
        bail!(
            "making the protocol's descriptors ended with {}",
            descriptors.status
        );
    }
    let mut node = Command::new("npm")
        .args(["run", "--silent", "generate"])
        .current_dir(folder)
        .stdin(Stdio::piped())
        .spawn()
        .context("starting `npm run generate`")?;
    if let Some(mut input) = node.stdin.take() {
        input
            .write_all(&descriptors.stdout)
            .context("handing the protocol's descriptors to `npm run generate`")?;
    }
    let status = node.wait().context("waiting for `npm run generate`")?;
    if !status.success() {
        bail!("`npm run generate` ended with {status}");
    }
    Ok(())
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
    // Without a registry this ends within half a minute instead of npm's ten.
    let patience = ["--fetch-timeout=15000", "--fetch-retries=1"];
    let arguments = [
        &["ci", "--no-audit", "--no-fund", "--prefer-offline"][..],
        &patience,
    ]
    .concat();
    npm(folder, &arguments)
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
