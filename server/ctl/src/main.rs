//! `ringwardctl`: see `--help`.

use clap::Parser;
use ringwardctl::args::Cli;
use ringwardctl::error::exit;
use ringwardctl::ui::note;
use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() {
                exit::USAGE
            } else {
                exit::OK
            };
            // Nobody can be told that the terminal is gone.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match ringwardctl::run::run(cli).await {
        Ok(()) => ExitCode::from(exit::OK),
        Err(error) => {
            note(error.render().trim_end());
            ExitCode::from(error.exit_code())
        }
    }
}
