//! `cargo xtask test`: cargo-nextest where it is installed, `cargo test` elsewhere.

use crate::build;
use anyhow::Result;
use std::process::Stdio;

pub fn run(args: &[String]) -> Result<()> {
    let nextest = build::cargo()
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let mut command = build::cargo();
    if nextest {
        command.args([
            "nextest",
            "run",
            "--workspace",
            "--locked",
            "--no-fail-fast",
        ]);
    } else {
        command.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
    }
    build::run(command.args(args))?;
    planted(nextest)
}

/// The harnesses must find the bugs planted for them; that needs a feature no shipped build has.
fn planted(nextest: bool) -> Result<()> {
    let mut command = build::cargo();
    command.args(if nextest {
        &["nextest", "run"][..]
    } else {
        &["test"][..]
    });
    command.args([
        "--locked",
        "-p",
        "ringward-sim",
        "--features",
        "planted-bugs",
        "--test",
        "planted",
    ]);
    build::run(&mut command)
}
