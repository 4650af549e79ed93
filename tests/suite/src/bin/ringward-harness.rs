//! The long runs over real processes; started by `cargo xtask fault-test`, `hostile-test`,
//! `token-race` and `fuzz`.

use clap::{Parser, Subcommand};
use ringward_suite::process::Place;
use ringward_suite::{fuzz, hostile, kills, race, told};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "ringward-harness", about = "Long runs over real processes")]
struct Cli {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// SIGKILL server and agents at random moments under a stream of signals, and count
    FaultTest(kills::Options),
    /// Hostile clients of many kinds beside honest hosts
    HostileTest(hostile::Options),
    /// One-use tokens spent by many hosts in the same moment
    TokenRace(race::Options),
    /// How long an order to a whole fleet takes until every host has it
    Orders(told::Options),
    /// Parsers under mutated inputs
    Fuzz(fuzz::Options),
    /// The attackers' side of `hostile-test`
    #[command(hide = true)]
    Attack {
        /// What to do
        orders: PathBuf,
    },
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
    let (programs, dir, _temporary) = cli.place.settle()?;
    match cli.verb {
        Verb::HostileTest(options) => {
            let program = std::env::current_exe()?;
            let outcome = hostile::run(programs, &program, &dir, &options).await?;
            println!("{}", outcome.table());
            if let Some(file) = &options.json {
                std::fs::write(file, serde_json::to_string_pretty(&outcome)? + "\n")?;
            }
            Ok(outcome.faults())
        }
        Verb::Attack { orders } => {
            hostile::attack(&orders).await?;
            Ok(Vec::new())
        }
        Verb::TokenRace(options) => {
            let outcome = race::run(programs, &dir, &options).await?;
            let text = serde_json::to_string_pretty(&outcome)?;
            println!("{text}");
            if let Some(file) = &options.json {
                std::fs::write(file, text + "\n")?;
            }
            Ok(outcome.faults())
        }
        Verb::Orders(options) => {
            told::run(programs, &dir, &options).await?;
            Ok(Vec::new())
        }
        Verb::Fuzz(options) => {
            bound_memory();
            fuzz::run(&options)
        }
        Verb::FaultTest(options) => {
            let outcome = kills::run(programs, &dir, &options).await?;
            println!("{}", serde_json::to_string_pretty(&outcome)?);
            Ok(outcome.faults())
        }
    }
}

/// An input that makes a parser take gigabytes is a finding; without the right to be bound the machine
/// is the bound.
fn bound_memory() {
    let limit = Rlimit {
        current: Some(4 << 30),
        maximum: None,
    };
    let _ = setrlimit(Resource::As, limit);
}
