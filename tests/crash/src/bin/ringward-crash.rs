//! Records a workload and cuts its power everywhere; started by `cargo xtask crash-test`.

use clap::{Parser, Subcommand};
use ringward_crash::replay::{self, Depth, Subject};
use ringward_crash::{agent, store};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "ringward-crash", about = "Power cuts at every file call")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// The side that is recorded
    Workload {
        /// Which
        subject: Subject,
        /// Folder to work in
        #[arg(long)]
        dir: PathBuf,
        /// Steps of the workload
        #[arg(long)]
        steps: u64,
        /// Chooses its content
        #[arg(long)]
        seed: u64,
        /// A fault to plant
        #[arg(long)]
        plant: Option<String>,
    },
    /// Record and replay until so many distinct states were opened, of store and agent together
    Replay {
        /// Distinct states
        #[arg(long, default_value_t = 5_000)]
        states: usize,
        /// The first seed
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

fn main() -> ExitCode {
    match carry_out(Cli::parse().verb) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(verb: Verb) -> anyhow::Result<bool> {
    match verb {
        Verb::Workload {
            subject,
            dir,
            steps,
            seed,
            plant,
        } => {
            match subject {
                Subject::Store => store::workload(&dir, steps, seed, plant.as_deref())?,
                Subject::Agent => agent::workload(&dir, steps, seed, plant.as_deref())?,
            }
            Ok(true)
        }
        Verb::Replay { states, seed } => replay_until(states, seed),
    }
}

fn replay_until(states: usize, first_seed: u64) -> anyhow::Result<bool> {
    let program = std::env::current_exe()?;
    let (mut reached, mut broken) = (0, 0);
    println!("subject  seed  file calls  cuts at  distinct states  broken");
    for seed in first_seed.. {
        for subject in [Subject::Store, Subject::Agent] {
            let depth = Depth {
                steps: 48,
                random: 6,
                stride: 1,
                seed,
                stop_at_first: false,
            };
            let outcome = replay::run(&program, subject, None, &depth)?;
            println!(
                "{:<7}  {seed:>4}  {:>10}  {:>7}  {:>15}  {:>6}",
                format!("{subject:?}").to_lowercase(),
                outcome.calls,
                outcome.boundaries,
                outcome.states,
                outcome.broken
            );
            for example in &outcome.examples {
                println!("  {example}");
            }
            reached += outcome.states;
            broken += outcome.broken;
        }
        if reached >= states {
            break;
        }
    }
    println!("{reached} distinct states, {broken} broken");
    Ok(broken == 0)
}
