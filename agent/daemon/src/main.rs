//! `ringward-agent`: the program around the library. Settings, a runtime, a signal to stop.

mod cli;

use clap::Parser;
use ringward_agent_os::machine;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    machine::under_service_manager(program)
}

fn program() -> ExitCode {
    // Before anything else: the child that parses needs no arguments, no log and no runtime.
    if cli::is_parse_child() {
        return ExitCode::from(u8::from(ringward_agent::parse_child::run().is_err()));
    }
    let cli = cli::Cli::parse();
    cli::log();
    // One thread: an idle agent has nothing to share between two.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(cli::run(cli)),
        Err(error) => Err(cli::Failure::from(error)),
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            // A service of Windows has no console. Where the log takes nothing nobody can be told.
            let _ = writeln!(machine::log_writer(), "ringward-agent: {failure}");
            ExitCode::FAILURE
        }
    }
}
