//! `cargo xtask netns-test`: quarantine between network namespaces, with the real programs.
//!
//! Needs root, iproute2, nftables and a kernel with network namespaces; says "skipped" and why where
//! one is missing.

use crate::build;
use anyhow::{Context, Result, bail};
use std::process::{Command, Stdio};

#[derive(clap::Args)]
pub struct Args {
    /// Only scenes whose name holds this
    #[arg(long)]
    pub only: Option<String>,
}

pub fn run(args: &Args) -> Result<()> {
    if let Err(why) = usable() {
        println!("skipped: {why:#}");
        return Ok(());
    }
    let programs = build::binaries(&[
        "ringward-agent",
        "ringward-server",
        "ringwardctl",
        "ringward-netns",
    ])?;
    let mut test = Command::new(programs.join("ringward-netns"));
    test.arg("run")
        .arg("--programs")
        .arg(&programs)
        .arg("--work")
        .arg(build::target_dir()?.join("netns"));
    if let Some(only) = &args.only {
        test.arg("--only").arg(only);
    }
    build::run(&mut test)
}

fn usable() -> Result<()> {
    let words = |program: &str, args: &[&str]| -> Result<String> {
        let output = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("{program} is not there (install iproute2 and nftables)"))?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            bail!("{program} {}: {}", args.join(" "), why.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    if words("id", &["-u"])?.trim() != "0" {
        bail!("namespaces need root");
    }
    words("nft", &["--version"])?;
    words("nsenter", &["--version"])?;
    let space = format!("rw{}-try", std::process::id());
    words("ip", &["netns", "add", &space])?;
    let tables = words("ip", &["netns", "exec", &space, "nft", "list", "tables"]);
    words("ip", &["netns", "del", &space])?;
    tables.map(drop).context("no nftables in a namespace")
}
