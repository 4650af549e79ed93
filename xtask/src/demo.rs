//! `cargo xtask demo`: builds the real programs and hands over to `ringward-demo`.

use crate::{build, dashboard};
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

#[derive(clap::Args, Default)]
pub struct Args {
    /// End by itself and judge the outcome instead of leaving the server running
    #[arg(long)]
    pub headless: bool,
    /// Kill server and agent in the middle of each rollout, tear a spool, fill the server's disk
    #[arg(long)]
    pub chaos: bool,
    /// Write the outcome as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Keep the demo's folder (default: a new temporary one, removed at the end)
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<()> {
    if !args.headless {
        dashboard::run_or_say();
    }
    let programs = build::binaries(&[
        "ringward-server",
        "ringward-agent",
        "ringward-guard",
        "ringwardctl",
        "ringward-demo",
    ])?;
    let mut demo = Command::new(programs.join("ringward-demo"));
    demo.arg("--programs").arg(&programs);
    if args.headless {
        demo.arg("--headless");
    }
    if args.chaos {
        demo.arg("--chaos");
    }
    for (flag, path) in [("--json", &args.json), ("--dir", &args.dir)] {
        if let Some(path) = path {
            demo.arg(flag).arg(path);
        }
    }
    build::run(&mut demo)
}
