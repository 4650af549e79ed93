//! The command line.

use clap::{Args, Parser, Subcommand};
use ringward_agent::config::{Adapter, File, Settings};
use ringward_agent::counters::Counters;
use ringward_agent::rescue::RescueError;
use ringward_agent::{
    daemon, doctor, enroll, error_chain, generalize, identity, inspect, rescue, scripted, status,
};
use ringward_agent_os::fake::ScriptedHost;
use ringward_agent_os::machine::Notifier;
use ringward_agent_os::machine::{self, Machine, places};
use ringward_agent_os::{Host, HostError};
use ringward_domain::host::{Facts, HostState};
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

/// Longest token text; what is longer is none.
const TOKEN_BYTES_MAX: u64 = 8192;

/// The Ringward agent of this host.
#[derive(Debug, Parser)]
#[command(name = "ringward-agent", version, about)]
pub(crate) struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Give this host its identity, by a token from `ringwardctl tokens create`.
    Enroll {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        token: Token,
    },
    /// Run the agent; ends when the service manager or a person asks it to (SIGTERM, Ctrl-C).
    Run {
        #[command(flatten)]
        place: Place,
    },
    /// Complete an installation; the Windows installer calls it.
    #[command(hide = cfg!(unix))]
    Setup {
        /// Start the agent, where this host is enrolled.
        #[arg(long)]
        start: bool,
        /// Remove identity, ledger, slots and settings.
        #[arg(long, conflicts_with = "start")]
        purge: bool,
    },
    /// Do the work on a package of the system's own format; `ringward-package@.service` calls it.
    #[command(hide = true)]
    Package {
        #[command(flatten)]
        place: Place,
        /// What to do, and the package's name.
        work: String,
    },
    /// Show what this host runs and what is on trial.
    Status {
        #[command(flatten)]
        place: Place,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make this machine an image: its identity, spool and audit head go, what it runs stays.
    ///
    /// Stop the agent first. Each machine made of the image enrols with a token of its own.
    Generalize {
        #[command(flatten)]
        place: Place,
    },
    /// Look for what stands in this agent's way; exit status 1 where something does.
    Doctor {
        #[command(flatten)]
        place: Place,
    },
    /// Read crash evidence offline: logs, journals, pstore, wtmp, dumps, event logs, whole folders.
    ///
    /// Exit status: 0 everything was read, whatever it told; 3 something could not be read (said in
    /// place, the rest was read); 1 the output could not be written; 2 wrong arguments.
    Inspect {
        /// Files and folders; links in them are not followed.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// One JSON object a line: kind, key, title, module, function, evidence, path; or error,
        /// offset, path for what could not be read.
        #[arg(long)]
        json: bool,
    },
    /// Take a host back from the release on trial with files alone, from a live medium or initramfs.
    ///
    /// Exit status: 0 listed or went back; 4 there was nothing to go back from; 1 could not act,
    /// nothing half done; 2 wrong arguments.
    Rescue {
        /// Root of the host to rescue, or its agent's state folder.
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
        /// Only look (the default).
        #[arg(long, conflicts_with_all = ["revert", "committed"])]
        list: bool,
        /// Go back.
        #[arg(long)]
        revert: bool,
        /// Also from a newest release that had proven itself.
        #[arg(long, requires = "revert")]
        committed: bool,
    },
}

/// The verb with which the agent starts its child that parses; not for people.
pub(crate) fn is_parse_child() -> bool {
    std::env::args_os()
        .nth(1)
        .is_some_and(|verb| verb == ringward_agent_os::parse::VERB)
}

/// By then the first session stands and every collector has looked around once.
const STARTED: Duration = Duration::from_secs(15);
/// Something could not be read.
const EXIT_GAPS: u8 = 3;
/// There was nothing to go back from.
const EXIT_NOTHING: u8 = 4;

/// Where settings and state are.
#[derive(Debug, Args)]
struct Place {
    /// Settings file [default: /etc/ringward/agent.toml or %ProgramData%\Ringward\agent.toml, where it is there].
    #[arg(long)]
    config: Option<PathBuf>,
    /// State folder; wins over the settings.
    #[arg(long)]
    state_dir: Option<PathBuf>,
}

/// Where the token comes from. Never an argument: every user of a machine reads those.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Token {
    /// File that holds the token.
    #[arg(long)]
    token_file: Option<PathBuf>,
    /// Read the token from standard input.
    #[arg(long)]
    token_stdin: bool,
}

/// Why the program failed, in one line.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error_chain(&error))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Log lines where people look for them on this OS.
pub(crate) fn log() {
    let asked = std::env::var("RINGWARD_LOG").ok();
    let filter = asked
        .and_then(|words| words.parse::<Targets>().ok())
        .unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(machine::log_writer)
        // A line lost to a full disk must not become a panic of whoever wrote it.
        .log_internal_errors(false)
        .without_time()
        .with_ansi(false);
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .init();
}

impl Place {
    fn settings(self) -> Result<Settings, Failure> {
        let file = match self.config {
            Some(path) => File::read(&path)?,
            None if places::settings().exists() => File::read(&places::settings())?,
            None => File::default(),
        };
        Ok(file.merge(self.state_dir).validate()?)
    }
}

impl Token {
    fn read(self) -> Result<String, Failure> {
        let mut text = String::new();
        match self.token_file {
            Some(path) => {
                let file = std::fs::File::open(&path).map_err(|error| {
                    Failure(format!(
                        "reading the token from {}: {error}",
                        path.display()
                    ))
                })?;
                file.take(TOKEN_BYTES_MAX).read_to_string(&mut text)?;
            }
            None => {
                std::io::stdin()
                    .take(TOKEN_BYTES_MAX)
                    .read_to_string(&mut text)?;
            }
        }
        Ok(text)
    }
}

/// Run the verb.
///
/// # Errors
/// In one line, what failed, why, and what to do next.
pub(crate) async fn run(cli: Cli) -> Result<ExitCode, Failure> {
    match cli.verb {
        Verb::Enroll { place, token } => enroll(place.settings()?, token.read()?).await,
        Verb::Run { place } => {
            let settings = place.settings()?;
            let stop = machine::stop_requested()?;
            run_agent(&settings, stop).await?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Setup { start, purge } => set_up(start, purge),
        Verb::Status { place, json } => {
            let status = status::look(&place.settings()?.state_dir);
            match json {
                true => println!("{}", serde_json::to_string_pretty(&status)?),
                false => print!("{status}"),
            }
            Ok(ExitCode::SUCCESS)
        }
        Verb::Generalize { place } => {
            generalize::generalize(&place.settings()?.state_dir)?;
            println!("this machine is an image now; enrol each copy with `ringward-agent enroll`");
            Ok(ExitCode::SUCCESS)
        }
        Verb::Doctor { place } => {
            let findings = doctor::examine(&place.settings()?).await;
            for finding in &findings {
                println!("{finding}");
            }
            let healthy = findings.iter().all(|finding| finding.outcome.is_ok());
            Ok(ExitCode::from(u8::from(!healthy)))
        }
        Verb::Inspect { paths, json } => inspect_paths(&paths, json),
        Verb::Package { place, work } => {
            let said = machine::packages::run(&place.settings()?.state_dir, &work);
            println!("{}", said.map_err(Failure)?);
            Ok(ExitCode::SUCCESS)
        }
        Verb::Rescue {
            root,
            list: _,
            revert,
            committed,
        } => rescue_host(&root, revert, committed),
    }
}

fn set_up(start: bool, purge: bool) -> Result<ExitCode, Failure> {
    match (start, purge) {
        (_, true) => machine::purge()?,
        (true, _) if identity::exists(&places::state_dir()) => machine::start()?,
        (true, _) => println!("not started: enrol this host first"),
        _ => machine::set_up()?,
    }
    Ok(ExitCode::SUCCESS)
}

fn inspect_paths(paths: &[PathBuf], json: bool) -> Result<ExitCode, Failure> {
    let form = match json {
        true => inspect::Form::Json,
        false => inspect::Form::Human,
    };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    match inspect::run(paths, form, &mut out) {
        Ok(told) if told.gaps == 0 => Ok(ExitCode::SUCCESS),
        Ok(_) => Ok(ExitCode::from(EXIT_GAPS)),
        // `| head` has read enough: nobody's failure.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(Failure(format!("writing what was found: {error}"))),
    }
}

fn rescue_host(root: &Path, revert: bool, committed: bool) -> Result<ExitCode, Failure> {
    if !revert {
        print!("{}", rescue::list(root)?);
        return Ok(ExitCode::SUCCESS);
    }
    match rescue::revert(root, committed) {
        Ok(went) => {
            println!("{went}");
            Ok(ExitCode::SUCCESS)
        }
        Err(nothing @ RescueError::NothingOnTrial { .. }) => {
            println!("{nothing}");
            Ok(ExitCode::from(EXIT_NOTHING))
        }
        Err(error) => Err(error.into()),
    }
}

async fn enroll(settings: Settings, token: String) -> Result<ExitCode, Failure> {
    let facts = facts(&settings)?;
    let (host, state) = enroll::enroll(&settings.state_dir, &token, facts).await?;
    match state {
        HostState::Active => println!("enrolled as {host}; start it with `ringward-agent run`"),
        HostState::Pending => {
            println!("enrolled as {host}; it takes part after `ringwardctl hosts approve {host}`");
        }
        HostState::Retired => println!("enrolled as {host}, which is retired"),
    }
    Ok(ExitCode::SUCCESS)
}

fn facts(settings: &Settings) -> Result<Facts, HostError> {
    ringward_agent::identity::state_folder(&settings.state_dir).map_err(|error| {
        HostError::Malformed {
            what: settings.state_dir.display().to_string(),
            why: error_chain(&error),
            next: "run as the user that owns the state folder",
        }
    })?;
    match settings.adapter {
        Adapter::Machine => Ok(machine::facts()),
        Adapter::Scripted => Ok(ScriptedHost::open(&settings.state_dir)?.facts()),
    }
}

async fn run_agent(settings: &Settings, stop: watch::Receiver<bool>) -> Result<(), Failure> {
    let counters = Arc::new(Counters::open(&settings.state_dir)?);
    match settings.adapter {
        Adapter::Scripted => {
            scripted::run(settings, counters, Notifier::of_service, stop).await?;
        }
        Adapter::Machine => {
            let mut host =
                Machine::open(&settings.state_dir)?.with_firewall(settings.orders.nft.clone());
            host.watch(&settings.watch);
            let host = Arc::new(host);
            let started = Arc::clone(&host);
            tokio::spawn(async move {
                tokio::time::sleep(STARTED).await;
                started.started();
            });
            daemon::run(settings, host, counters, Notifier::of_service(), stop).await?;
        }
    }
    Ok(())
}
