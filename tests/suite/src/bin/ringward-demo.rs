//! The story of a bad update, told by real processes; started by `cargo xtask demo`.

use clap::Parser;
use ringward_suite::demo;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    match demo::run(demo::Options::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
