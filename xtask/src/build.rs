//! Running cargo and friends from the top of the repository.

use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// The cargo that runs this verb.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(crate::root());
    // What the cargo that runs this verb said of xtask is not for what is built by it: ring's build
    // script looks at it, and everything above was compiled again after each verb.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&*name);
        }
    }
    command
}

/// Run a command to its end; its failure is ours.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command
        .status()
        .with_context(|| format!("starting `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}

/// As a person would type it.
pub fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Build binaries with the profile that tests use, and return the folder they are in. Of the whole
/// workspace: libraries then have the features that the tests gave them, and are not compiled again.
pub fn binaries(names: &[&str]) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--workspace"]);
    for name in names {
        command.args(["--bin", name]);
    }
    run(&mut command)?;
    Ok(target_dir()?.join("debug"))
}

/// Build binaries as they are shipped, and return the folder they are in.
pub fn release_binaries(names: &[&str]) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--release", "--locked"]);
    if names.contains(&"ringward-server") {
        command.args(["--features", "ringward-server/jemalloc"]);
    }
    for name in names {
        command.args(["--bin", name]);
    }
    run(&mut command)?;
    Ok(target_dir()?.join("release"))
}

/// Programs that run on every host: small before fast.
const ON_EVERY_HOST: [&str; 2] = ["ringward-agent", "ringward-guard"];

/// Build binaries as they are shipped, and return the paths of all.
pub fn shipped(names: &[&str]) -> Result<Vec<PathBuf>> {
    let (small, fast): (Vec<&str>, Vec<&str>) =
        names.iter().partition(|name| ON_EVERY_HOST.contains(name));
    let mut paths = Vec::new();
    if !small.is_empty() {
        let mut command = cargo();
        command.args(["build", "--locked", "--profile", "dist"]);
        // By themselves: what only the server asks of a library does not go to every host.
        for name in &small {
            command.args(["--package", name, "--bin", name]);
        }
        run(&mut command)?;
        let folder = target_dir()?.join("dist");
        paths.extend(small.iter().map(|name| folder.join(name)));
    }
    if !fast.is_empty() {
        let folder = release_binaries(&fast)?;
        paths.extend(fast.iter().map(|name| folder.join(name)));
    }
    Ok(paths)
}

/// Version of the workspace.
pub fn version() -> Result<String> {
    let metadata = metadata()?;
    let packages = metadata["packages"].as_array();
    let own = packages
        .into_iter()
        .flatten()
        .find(|package| package["name"] == "ringward-agent");
    let version = own.and_then(|package| package["version"].as_str());
    Ok(version
        .context("cargo metadata names no version")?
        .to_owned())
}

/// Where cargo puts what it builds.
pub fn target_dir() -> Result<PathBuf> {
    let metadata = metadata()?;
    let dir = metadata["target_directory"]
        .as_str()
        .context("cargo metadata names no target folder")?;
    Ok(dir.into())
}

/// `cargo metadata` of the workspace.
pub fn metadata() -> Result<serde_json::Value> {
    let output = cargo()
        .args(["metadata", "--format-version", "1", "--locked"])
        .output()
        .context("starting cargo metadata")?;
    if !output.status.success() {
        bail!(
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    serde_json::from_slice(&output.stdout).context("reading the answer of cargo metadata")
}
