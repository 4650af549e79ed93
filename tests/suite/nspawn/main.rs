//! A whole Debian system in a container: the packages, systemd, a server, a crash-looping unit, power
//! cuts, and the guard. `cargo xtask nspawn-test` prepares what this needs and starts it as root.

mod bench;
mod machine;
mod quarantine;
mod rpms;
mod scenes;
mod staged;

use anyhow::Result;
use clap::Parser;
use machine::Machine;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// What the verb hands over.
#[derive(Parser)]
#[command(
    name = "ringward-nspawn",
    about = "Ringward on a whole Debian system in a container"
)]
struct Options {
    /// The program systemd-nspawn
    #[arg(long)]
    nspawn: PathBuf,
    /// A Debian root folder, only read
    #[arg(long)]
    base: PathBuf,
    /// Folder with the packages of version 1
    #[arg(long)]
    first: PathBuf,
    /// Folder with the packages of version 2
    #[arg(long)]
    second: PathBuf,
    /// Folder to work in; emptied
    #[arg(long)]
    work: PathBuf,
    /// Only scenes whose name holds this, and the first two
    #[arg(long, value_name = "WORD")]
    only: Option<String>,
    /// Measure the idle agent for so many seconds instead of playing the scenes
    #[arg(long, value_name = "SECONDS")]
    bench: Option<u64>,
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

/// Plays the scenes in order: each goes on where the one before ended. Answers how many failed.
fn run(options: &Options) -> Result<usize> {
    let mut machine = Machine::prepare(&options.nspawn, &options.base, &options.work)?;
    machine.copy_in(&options.first, "first")?;
    machine.copy_in(&options.second, "second")?;
    if let Some(seconds) = options.bench {
        machine.add_package("zabbix-agent")?;
        machine.boot()?;
        bench::run(&mut machine, seconds)?;
        machine.power_cut()?;
        return Ok(0);
    }
    std::fs::write(machine.root().join("srv/rings.toml"), scenes::RINGS)?;
    rpms::prepare(&machine)?;
    let begun = Instant::now();
    let seconds = machine.boot()?;
    println!("a Debian system is up after {seconds:.1} s");
    let (mut played, mut failed) = (0, 0);
    for (n, (name, scene)) in scenes::ALL.iter().enumerate() {
        let is_asked = |word: &String| n < scenes::ENROLLED || name.contains(word);
        if !options.only.as_ref().is_none_or(is_asked) {
            continue;
        }
        played += 1;
        let at = Instant::now();
        match scene(&mut machine) {
            Ok(words) => println!(
                "ok      {name}: {words} ({:.1} s)",
                at.elapsed().as_secs_f64()
            ),
            Err(error) => {
                failed += 1;
                println!("FAILED  {name}: {error:#}");
                println!("{}", machine.last_words());
            }
        }
    }
    machine.power_cut()?;
    println!("{played} scenes in {:.0} s", begun.elapsed().as_secs_f64());
    Ok(failed)
}
