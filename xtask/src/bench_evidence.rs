//! `cargo xtask bench evidence`: what reading event logs and dumps costs.

use crate::build;
use anyhow::Result;

pub fn run() -> Result<()> {
    build::run(build::cargo().args([
        "run",
        "--release",
        "--locked",
        "-p",
        "ringward-evidence",
        "--example",
        "bench",
    ]))
}
