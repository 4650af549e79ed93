//! `cargo xtask ci`: what must hold before anything lands.

use crate::{build, check_deps, demo, tests, vm_test, windows};
use anyhow::{Context, Result};
use std::time::Instant;

pub fn run() -> Result<()> {
    step("formatting", || {
        build::run(build::cargo().args(["fmt", "--all", "--check"]))
    })?;
    step("dependency arrows", check_deps::run)?;
    step("clippy", || {
        build::run(build::cargo().args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "-D",
            "warnings",
        ]))
    })?;
    step("tests", || tests::run(&[]))?;
    step("Windows", windows::run_ci)?;
    step("headless demo", || {
        let report = build::target_dir()?.join("demo.json");
        demo::run(&demo::Args {
            headless: true,
            json: Some(report),
            ..demo::Args::default()
        })
    })?;
    // A kernel that panics at each boot, under QEMU: some minutes, and only where root and Debian's
    // archive are at hand.
    step("a machine that panics", || {
        vm_test::run(&vm_test::Args::default())
    })
}

fn step(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("==> {name}");
    let begun = Instant::now();
    work().with_context(|| name.to_owned())?;
    eprintln!("==> {name}: done in {:.0} s", begun.elapsed().as_secs_f64());
    Ok(())
}
