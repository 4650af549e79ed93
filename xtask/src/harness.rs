//! The long runs against faults: built, then handed over to the programs of `tests/`.

use crate::build;
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

/// Passed on to the harness.
#[derive(clap::Args)]
pub struct Args {
    /// Programs as they are shipped, not as tests use them; comes first
    #[arg(long)]
    release: bool,
    /// Options of the harness; `--help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<String>,
}

impl Args {
    fn build(&self, names: &[&str]) -> Result<PathBuf> {
        match self.release {
            true => build::release_binaries(names),
            false => build::binaries(names),
        }
    }
}

/// SIGKILLs, hostile clients: over the real programs.
pub fn run(verb: &str, args: &Args) -> Result<()> {
    let programs = args.build(&[
        "ringward-server",
        "ringward-agent",
        "ringward-guard",
        "ringwardctl",
        "ringward-harness",
    ])?;
    let mut harness = Command::new(programs.join("ringward-harness"));
    harness.arg(verb).args(&args.args);
    harness.arg("--programs").arg(&programs);
    build::run(&mut harness)
}

/// Parsers under mutated inputs.
pub fn fuzz(args: &Args) -> Result<()> {
    let programs = args.build(&["ringward-harness"])?;
    let mut harness = Command::new(programs.join("ringward-harness"));
    build::run(harness.arg("fuzz").args(&args.args))
}

/// Power cuts at every file call.
pub fn crash(args: &Args) -> Result<()> {
    let programs = args.build(&["ringward-crash"])?;
    let mut crash = Command::new(programs.join("ringward-crash"));
    build::run(crash.arg("replay").args(&args.args))
}
