//! Every developer verb of Ringward: `cargo xtask --help`.

mod build;
mod check_deps;
mod ci;
mod demo;
mod dist;
mod lexer;
mod tests;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Developer verbs of Ringward",
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build, start a server with 203 hosts, walk a good and a bad release, roll back, tell the story
    Demo(demo::Args),
    /// Run every test that needs no root and no special machine
    Test {
        /// Passed on to the test runner
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Make .deb and .rpm of agent, server and ringwardctl
    Dist(dist::Args),
    /// What continuous integration runs: fmt, clippy, check-deps, test, headless demo
    Ci,
    /// Hold the arrows between the crates and the bans in the pure ones
    CheckDeps,
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Demo(args) => demo::run(&args),
        Verb::Test { args } => tests::run(&args),
        Verb::Dist(args) => dist::run(&args),
        Verb::Ci => ci::run(),
        Verb::CheckDeps => check_deps::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The top of the repository.
fn root() -> PathBuf {
    let mut dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    dir.pop();
    dir
}
