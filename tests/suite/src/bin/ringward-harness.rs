//! The long runs over real processes; started by `cargo xtask kill-test`, `hostile` and `fuzz`.

use clap::{Parser, Subcommand};
use ringward_suite::kills;
use ringward_suite::process::Programs;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "ringward-harness", about = "Long runs over real processes")]
struct Cli {
    /// Folder with the built programs
    #[arg(
        long,
        value_name = "DIR",
        global = true,
        default_value = "target/debug"
    )]
    programs: PathBuf,
    /// Keep everything in this folder (default: a new one, removed at the end)
    #[arg(long, value_name = "DIR", global = true)]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// SIGKILL server and agents at random moments under a stream of signals, and count
    KillTest(kills::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    match carry_out(Cli::parse()).await {
        Ok(faults) if faults.is_empty() => ExitCode::SUCCESS,
        Ok(faults) => {
            for fault in faults {
                eprintln!("NOT AS PROMISED: {fault}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn carry_out(cli: Cli) -> anyhow::Result<Vec<String>> {
    let temporary = tempfile::tempdir()?;
    let dir = cli.dir.unwrap_or_else(|| temporary.path().to_owned());
    let programs = Programs::new(cli.programs);
    match cli.verb {
        Verb::KillTest(options) => {
            let outcome = kills::run(programs, &dir, &options).await?;
            println!("{}", serde_json::to_string_pretty(&outcome)?);
            Ok(outcome.faults())
        }
    }
}
