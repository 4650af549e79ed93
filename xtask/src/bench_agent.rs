//! `cargo xtask bench agent`: what an idle agent costs, beside Debian's zabbix_agentd in the same run.

use crate::{build, dist, nspawn_test};
use anyhow::Result;
use std::process::Command;

#[derive(clap::Args)]
pub struct Args {
    /// How long to watch
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    pub seconds: u64,
}

pub fn run(args: &Args) -> Result<()> {
    let folder = build::target_dir()?.join("nspawn");
    if let Err(why) = nspawn_test::prepare(&folder) {
        println!("skipped: {why:#}");
        return Ok(());
    }
    let out = folder.join("bench");
    // The agent as it is shipped; of the others only that they are there matters.
    for (debug, names) in [
        (true, &["ringward-server", "ringwardctl"][..]),
        (false, &["ringward-agent"]),
    ] {
        let args = dist::Args {
            package_version: Some("0.1.0".to_owned()),
            debug,
            out: Some(out.clone()),
        };
        dist::make(&args, names)?;
    }
    let test = build::binaries(&["ringward-nspawn"])?.join("ringward-nspawn");
    build::run(
        nspawn_test::over(&mut Command::new(test), &folder)
            .arg("--first")
            .arg(&out)
            .arg("--second")
            .arg(&out)
            .args(["--bench", &args.seconds.to_string()]),
    )
}
