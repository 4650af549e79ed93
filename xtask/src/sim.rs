//! `cargo xtask sim`: rollouts over fleets of any size, on the server's own machine.

use anyhow::{Context, bail};
use std::process::Command;

/// Builds the simulator optimised and runs it with these arguments.
pub fn run(args: &[String]) -> anyhow::Result<()> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let status = Command::new(cargo)
        .current_dir(super::root())
        .args([
            "run",
            "--quiet",
            "--release",
            "--package",
            "ringward-sim",
            "--bin",
            "ringward-sim",
            "--",
        ])
        .args(args)
        // The link-time optimisation of what ships takes minutes and gains the simulator a tenth.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
        .status()
        .context("cannot start cargo for the simulator")?;
    if !status.success() {
        bail!("the simulator ended with {status}; its own words stand above");
    }
    Ok(())
}
