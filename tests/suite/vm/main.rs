//! Whole Debian machines under QEMU: panics, a real initrd, a `/var` of its own, power cuts.
//! `cargo xtask vm-test` prepares what this needs and starts it as root.

mod control;
mod cuts;
mod guest;
mod image;
mod replay;
mod scenes;

use anyhow::Result;
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// What the verb hands over.
#[derive(Parser, Clone)]
#[command(name = "ringward-vm", about = "Ringward on whole Debian machines")]
struct Options {
    /// A Debian root folder with QEMU and its firmware
    #[arg(long)]
    tools: PathBuf,
    /// A Debian root folder with a kernel, only read
    #[arg(long)]
    base: PathBuf,
    /// The driver that panics its kernel
    #[arg(long)]
    module: PathBuf,
    /// Folder with the agent's package
    #[arg(long)]
    packages: PathBuf,
    /// Folder with server and ringwardctl
    #[arg(long)]
    programs: PathBuf,
    /// Folder to work in; emptied
    #[arg(long)]
    work: PathBuf,
    /// All scenes, all moments
    #[arg(long)]
    full: bool,
    /// Only scenes whose name holds this
    #[arg(long)]
    only: Option<String>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            eprintln!("{failed} scenes did not come about");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Plays the scenes, each on a machine of its own. Answers how many failed.
fn run(options: &Options) -> Result<usize> {
    let begun = Instant::now();
    let (mut played, mut failed) = (0, 0);
    for scene in scenes::ALL {
        let asked = match &options.only {
            Some(word) => scene.name.contains(word.as_str()),
            None => options.full || scene.is_short,
        };
        if !asked {
            continue;
        }
        played += 1;
        let at = Instant::now();
        match (scene.play)(options) {
            Ok(words) => println!(
                "ok      {}: {words} ({:.0} s)",
                scene.name,
                at.elapsed().as_secs_f64()
            ),
            Err(error) => {
                failed += 1;
                println!("FAILED  {}: {error:#}", scene.name);
            }
        }
    }
    println!("{played} scenes in {:.0} s", begun.elapsed().as_secs_f64());
    Ok(failed)
}
