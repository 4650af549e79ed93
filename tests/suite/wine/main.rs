//! An agent on a Windows of Wine's, from its MSI on: a real server on this machine, releases, a machine
//! that dies of a driver again and again, the guard. `cargo xtask windows-test` prepares what this
//! needs and starts it. What Wine only pretends is listed in `deploy/rescue/README.md`.

#[path = "../../../agent/evidence/tests/draft/mod.rs"]
#[allow(dead_code, missing_docs)]
mod draft;
mod machine;
mod msi;
mod scenes;

use anyhow::Result;
use clap::Parser;
use machine::Machine;
use ringward_suite::control::Control;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Seconds where a fleet has minutes and hours; Wine is up again within half a minute. A boot counts as
/// healthy after the soak, so a machine must have died before.
const POLICY: &str = "soak_s = 25\nheartbeat_s = 2\nsilence_reboot_s = 240\nsilence_s = 120\n\
    restart_grace_s = 10\nattribution_s = 600\nverify_boot = false\n[caps_per_hour]\nreboots = 50\n\
    [[ring]]\nname = \"all\"\n";

/// What the verb hands over.
#[derive(Parser)]
#[command(name = "ringward-wine", about = "Ringward on a Windows of Wine's")]
struct Options {
    /// Folder with server and ringwardctl
    #[arg(long)]
    programs: PathBuf,
    /// The agent's MSI
    #[arg(long)]
    first: PathBuf,
    /// The same of a later version
    #[arg(long)]
    second: PathBuf,
    /// Folder with MSIs of somebody else's product, `acme-VERSION.msi`
    #[arg(long)]
    products: PathBuf,
    /// A Wine prefix with nothing of ours in it
    #[arg(long)]
    prefix: PathBuf,
    /// Folder to work in; emptied
    #[arg(long)]
    work: PathBuf,
}

/// What the scenes go on with.
struct Stage {
    options: Options,
    machine: Machine,
    control: Control,
}

fn main() -> ExitCode {
    match run(Options::parse()) {
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

/// Plays the scenes in order: each goes on where the one before ended, and none after one that failed.
fn run(options: Options) -> Result<usize> {
    if options.work.exists() {
        std::fs::remove_dir_all(&options.work)?;
    }
    let fleet = options.work.join("fleet");
    let control = Control::start(&options.programs, &fleet, "127.0.0.1", POLICY)?;
    let machine = Machine::new(&options.prefix)?;
    let mut stage = Stage {
        options,
        machine,
        control,
    };
    let begun = Instant::now();
    for (name, scene) in scenes::ALL {
        let at = Instant::now();
        match scene(&mut stage) {
            Ok(words) => println!(
                "ok      {name}: {words} ({:.0} s)",
                at.elapsed().as_secs_f64()
            ),
            Err(error) => {
                println!("FAILED  {name}: {error:#}");
                println!("{}", stage.machine.last_words());
                return Ok(1);
            }
        }
    }
    println!(
        "{} scenes in {:.0} s",
        scenes::ALL.len(),
        begun.elapsed().as_secs_f64()
    );
    Ok(0)
}
