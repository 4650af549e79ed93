//! `ringward-server`: `init`, `run`, `login`, `admin`, `trust-root`, `backup`, `restore`, `doctor`.

mod cli;

use clap::Parser;
use cli::{Cli, Verb};
use ringward_server::backup::Restored;
use ringward_server::{Config, DataDir, InitOptions, ServerError, chain};
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Connections of agents live for hours between buffers of handshakes that live for milliseconds; this
/// one gives the pages of those back (see `.cargo/config.toml`).
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_env("RINGWARD_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A line lost to a full disk must not become a panic of whoever wrote it.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal())
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
        Verb::Login { data, admin } => {
            let made = ringward_server::new_login_word(&DataDir::new(data), &admin)?;
            match made.link {
                Some(link) => println!("{link}"),
                None => println!("{}", made.word),
            }
        }
        Verb::Admin { data, name } => {
            let config = Config::load(DataDir::new(data))?;
            let path = ringward_server::new_admin(&config, &name)?;
            println!(
                "{} is {name}'s: hand it over, remove it here, and grant them a role with\n  \
                 ringwardctl people grant {name} --role ROLE",
                path.display()
            );
        }
        Verb::TrustRoot { data, file } => {
            let root = ringward_server::trust_root(&DataDir::new(data), &file)?;
            println!(
                "trusting release root version {}: {} of {} keys must sign",
                root.version,
                root.threshold,
                root.keys.len()
            );
        }
        Verb::RotateAuthority {
            data,
            root_key,
            finish,
        } => {
            let config = Config::load(DataDir::new(data))?;
            println!(
                "{}",
                ringward_server::rotate_authority(&config, root_key.as_deref(), finish)?
            );
        }
        Verb::AdminContext { data, admin } => {
            let config = Config::load(DataDir::new(data))?;
            let path = ringward_server::admin_context(&config, &admin)?;
            println!("wrote {}, readable by its owner only", path.display());
        }
        Verb::Backup { data, to } => {
            let lines = backup(&Config::load(DataDir::new(data))?, &to)?;
            println!(
                "wrote {lines} lines to {}, readable by its owner only",
                to.display()
            );
        }
        Verb::Restore { data, from } => {
            let restored = restore(&DataDir::new(&data), &from)?;
            println!("{}", restored.words(&data));
        }
        Verb::Doctor { data, audit_head } => {
            let config = Config::load(DataDir::new(data))?;
            let findings = ringward_server::doctor(&config, &audit_head);
            println!("{findings}");
            if !findings.is_healthy() {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[tokio::main]
async fn backup(config: &Config, to: &Path) -> Result<u64, ServerError> {
    ringward_server::backup::take(config, to).await
}

#[tokio::main]
async fn restore(data: &DataDir, from: &Path) -> Result<Restored, ServerError> {
    ringward_server::backup::restore(data, from).await
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
