//! `ringward-server`: `init`, `run`, `trust-root`, `doctor`.

use clap::{Parser, Subcommand};
use ringward_server::{Config, DataDir, InitOptions, ServerError, chain};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// The Ringward control server.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make a data directory: authority, settings, ring policy, first admin.
    Init {
        /// Directory to make; must not exist or be empty.
        #[arg(long)]
        data: PathBuf,
        /// Address at which hosts reach this server.
        #[arg(long, value_name = "HOST:PORT")]
        agent_address: String,
        /// Address at which admins reach this server.
        #[arg(long, value_name = "HOST:PORT")]
        admin_address: String,
        /// Name of the first admin.
        #[arg(long, default_value = "admin")]
        admin: String,
        /// Ring policy to begin with (TOML).
        #[arg(long)]
        rings: Option<PathBuf>,
        /// Release root to trust from the start (`ringwardctl keys init` writes one).
        #[arg(long)]
        release_root: Option<PathBuf>,
    },
    /// Serve a data directory until SIGTERM or SIGINT.
    Run {
        /// The data directory.
        #[arg(long)]
        data: PathBuf,
    },
    /// Trust these release keys from now on (a running server takes them at once).
    TrustRoot {
        /// The data directory.
        #[arg(long)]
        data: PathBuf,
        /// The release root (JSON, public keys only).
        file: PathBuf,
    },
    /// Look a data directory over; the server must not be running.
    Doctor {
        /// The data directory.
        #[arg(long)]
        data: PathBuf,
    },
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_env("RINGWARD_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    match carry_out(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ringward-server: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn carry_out(verb: Verb) -> Result<ExitCode, ServerError> {
    match verb {
        Verb::Init {
            data,
            agent_address,
            admin_address,
            admin,
            rings,
            release_root,
        } => {
            let made = ringward_server::init(&InitOptions {
                data,
                agent_address,
                admin_address,
                admin,
                rings,
                release_root,
            })?;
            println!("{}", made.next_steps());
        }
        Verb::Run { data } => serve(Config::load(DataDir::new(data))?)?,
        Verb::TrustRoot { data, file } => {
            let root = ringward_server::trust_root(&DataDir::new(data), &file)?;
            println!(
                "trusting release root version {}: {} of {} keys must sign",
                root.version,
                root.threshold,
                root.keys.len()
            );
        }
        Verb::Doctor { data } => {
            let findings = ringward_server::doctor(&Config::load(DataDir::new(data))?)?;
            println!("{findings}");
            if !findings.is_healthy() {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[tokio::main]
async fn serve(config: Config) -> Result<(), ServerError> {
    let stop = CancellationToken::new();
    let on_signal = stop.clone();
    let listen = |kind| {
        signal(kind).map_err(|source| ServerError::File {
            doing: "listening for signals of",
            path: "/proc/self".into(),
            source,
        })
    };
    let (mut terminate, mut interrupt) = (
        listen(SignalKind::terminate())?,
        listen(SignalKind::interrupt())?,
    );
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        on_signal.cancel();
    });
    ringward_server::run(config, stop).await
}
