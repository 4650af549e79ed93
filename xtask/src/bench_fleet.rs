//! `cargo xtask bench fleet | anchors | soak`: the release build of the server under load.

use crate::build;
use crate::harness::Args;
use anyhow::Result;
use std::process::Command;

pub fn run(verb: &str, args: &Args) -> Result<()> {
    let programs =
        build::release_binaries(&["ringward-server", "ringwardctl", "ringward-fleet-load"])?;
    let mut load = Command::new(programs.join("ringward-fleet-load"));
    load.arg(verb).args(&args.args);
    build::run(load.arg("--programs").arg(&programs))
}
