//! Load on a real server and on what it is compared with; started by `cargo xtask bench`.

mod anchors;
mod call;
mod crowd;
mod dialect;
mod enrol;
mod figure;
mod fleet;
mod host;
mod line;
mod pki;
mod servers;
mod soak;
mod subject;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use ringward_suite::process::Place;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "ringward-fleet-load", about = "Load on a real server")]
struct Cli {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// The real server and so many agents
    Fleet(fleet::Options),
    /// The same work on the server and on what it is compared with, in turn
    Anchors(anchors::Options),
    /// Churn with faults for minutes: slopes of memory, descriptors and files
    Soak(soak::Options),
    /// A bare tonic echo
    #[command(hide = true)]
    ServeEcho {
        /// Folder with `ca.pem`, `server.pem` and `server.key`
        tls: PathBuf,
    },
    /// A bare loop over rustls
    #[command(hide = true)]
    ServeRaw {
        /// Folder with `ca.pem`, `server.pem` and `server.key`
        tls: PathBuf,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match carry_out(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn carry_out(cli: Cli) -> Result<()> {
    let (programs, dir, _temporary) = cli.place.settle()?;
    match cli.verb {
        Verb::Fleet(options) => {
            descriptors(options.agents)?;
            fleet::run(&options, programs, &dir).await
        }
        Verb::Anchors(options) => {
            descriptors(options.agents)?;
            anchors::run(&options, programs, &dir).await
        }
        Verb::Soak(options) => {
            descriptors(options.agents)?;
            soak::run(&options, programs, &dir).await
        }
        Verb::ServeEcho { tls } => servers::echo(&tls).await,
        Verb::ServeRaw { tls } => servers::raw(&tls).await,
    }
}

/// Raises the limit of descriptors, for us and for the servers we start.
fn descriptors(agents: usize) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let wanted = agents as u64 + 1_000;
    if limit.maximum.is_some_and(|most| most < wanted) {
        bail!(
            "{agents} agents need {wanted} descriptors and this user may have {}; raise the hard limit (ulimit -Hn)",
            limit.maximum.unwrap_or_default()
        );
    }
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).context("raising the limit of descriptors")
}
