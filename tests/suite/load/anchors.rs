//! `bench anchors`: the same work on Ringward and on what its users might build on instead, in turn.

use crate::crowd::Crowd;
use crate::dialect::{Dialect, Grpc, Mqtt, Nats, Raw, mqtt, nats};
use crate::figure::Figure;
use crate::fleet::{Fleet, KEEPS_ALL};
use crate::line::{self, Target};
use crate::pki;
use crate::subject::{Subject, Teller};
use anyhow::{Context, Result};
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use ringward_suite::account::Process;
use ringward_suite::process::{Programs, wait_for};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio_rustls::rustls::ClientConfig;

/// What a person asks for.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Agents
    #[arg(long, default_value_t = 1_000)]
    pub agents: usize,
    /// Write the figures as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Times that each has its turn
    #[arg(long, default_value_t = 3)]
    pub turns: usize,
    /// Rounds of heartbeats in a turn
    #[arg(long, default_value_t = 12)]
    pub rounds: u64,
}

/// Times that everybody is told something in one turn.
const TOLD: usize = 4;

const FIGURES: [&str; 7] = [
    "rss_kib_per_agent_idle",
    "rss_kib_per_agent",
    "heartbeats_per_core_s",
    "pause_all_ms",
    "pause_p99_ms",
    "pause_cpu_us_per_agent",
    "sessions_per_core_s",
];

type Seen = BTreeMap<&'static str, Vec<f64>>;

#[derive(Serialize)]
struct Outcome {
    agents: usize,
    missing: Vec<String>,
    figures: BTreeMap<&'static str, BTreeMap<&'static str, Figure>>,
    ratios: BTreeMap<&'static str, BTreeMap<&'static str, f64>>,
}

/// Measures.
///
/// # Errors
/// Something does not come about.
pub async fn run(options: &Options, programs: Programs, dir: &Path) -> Result<()> {
    let tls = dir.join("anchors");
    let clients = pki::make(&tls, options.agents + 1)?;
    let mut subjects = Vec::new();
    // They live as long as they are measured.
    let mut children = Vec::new();
    let mut missing = Vec::new();
    for anchor in [
        Anchor::Tonic,
        Anchor::Rustls,
        Anchor::Nats,
        Anchor::Mosquitto,
    ] {
        match anchor.start(&tls, &clients).await {
            Ok((subject, child)) => {
                subjects.push(subject);
                children.push(child);
            }
            Err(why) => {
                println!("missing: {why:#}");
                missing.push(format!("{why:#}"));
            }
        }
    }
    let fleet = Fleet::set_up(programs, dir, options.agents, 0, &[KEEPS_ALL]).await?;
    subjects.push(fleet.subject()?);
    let mut seen: BTreeMap<&'static str, Seen> = BTreeMap::new();
    for turn in 0..options.turns {
        for subject in &mut subjects {
            println!("turn {} of {}: {}", turn + 1, options.turns, subject.name);
            let seen = seen.entry(subject.name).or_default();
            if let Err(why) = work(subject, options.rounds, seen).await {
                // The others can be compared all the same.
                let why = format!("{}: {why:#}", subject.name);
                println!("missing: {why}");
                missing.push(why);
                subject.crowd.order(|orders| orders.connected = false);
            }
        }
    }
    report(options, missing, &seen)
}

async fn work(subject: &mut Subject, rounds: u64, seen: &mut Seen) -> Result<()> {
    let mut note = |name, value| seen.entry(name).or_default().push(value);
    note("sessions_per_core_s", subject.connect().await?.0);
    note("rss_kib_per_agent_idle", subject.kib_per_agent()?);
    note("heartbeats_per_core_s", subject.beats(rounds).await?);
    for round in 0..TOLD {
        // Only our own tells two things apart.
        let stopped = !matches!(subject.teller, Teller::Admin(_)) || round % 2 == 0;
        let told = subject.tell(stopped).await?;
        note("pause_all_ms", told.last_ms);
        note("pause_p99_ms", told.p99_ms);
        note("pause_cpu_us_per_agent", told.cpu_us);
    }
    note("rss_kib_per_agent", subject.kib_per_agent()?);
    subject.disconnect().await
}

fn report(
    options: &Options,
    missing: Vec<String>,
    seen: &BTreeMap<&'static str, Seen>,
) -> Result<()> {
    let mut outcome = Outcome {
        agents: options.agents,
        missing,
        figures: BTreeMap::new(),
        ratios: BTreeMap::new(),
    };
    for (subject, seen) in seen {
        let figures = seen.iter().map(|(name, seen)| (*name, Figure::of(seen)));
        outcome.figures.insert(subject, figures.collect());
    }
    let own = outcome.figures.get("ringward").cloned().unwrap_or_default();
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    let head = FIGURES.iter().map(|name| (*name).to_owned());
    table.set_header(std::iter::once(String::new()).chain(head));
    for (subject, figures) in &outcome.figures {
        let mut ratios = BTreeMap::new();
        let cells = FIGURES.map(|name| {
            let (Some(figure), Some(own)) = (figures.get(name), own.get(name)) else {
                return String::new();
            };
            let ratio = own.value / figure.value;
            ratios.insert(name, ratio);
            format!(
                "{:.1} ({:.1}-{:.1})\nours: x{ratio:.2}",
                figure.value, figure.min, figure.max
            )
        });
        let name = std::iter::once((*subject).to_owned());
        table.add_row(name.chain(cells));
        outcome.ratios.insert(subject, ratios);
    }
    println!("{table}");
    for name in &outcome.missing {
        println!("missing: {name}");
    }
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_vec_pretty(&outcome)?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// What Ringward is compared with.
#[derive(Debug, Clone, Copy)]
enum Anchor {
    Tonic,
    Rustls,
    Nats,
    Mosquitto,
}

impl Anchor {
    async fn start(self, tls: &Path, clients: &[Arc<ClientConfig>]) -> Result<(Subject, Child)> {
        let (publisher, agents) = clients.split_first().context("clients")?;
        match self {
            Self::Tonic => own("tonic echo", "serve-echo", tls, agents, Grpc::session).await,
            Self::Rustls => {
                own("rustls loop", "serve-raw", tls, agents, |_, _| {
                    Raw::default()
                })
                .await
            }
            Self::Nats => {
                let port = free_port()?;
                let path = tls.join("nats.conf");
                std::fs::write(&path, nats_conf(tls, port))?;
                let program = debian("nats-server")?;
                let child = child(Command::new(program).arg("-c").arg(&path))?;
                let target = up(port, true).await?;
                let (mut told, mut hello) = (Vec::new(), Vec::new());
                nats::tell(&mut told);
                Nats::default().greeting(&mut hello);
                // It hears nothing of what it tells.
                hello.truncate(hello.iter().position(|b| *b == b'\n').unwrap_or(0) + 1);
                let teller = publish(target, publisher, &hello, told).await?;
                subject("nats-server", child, target, agents, teller, |_, _| {
                    Nats::default()
                })
                .await
            }
            Self::Mosquitto => {
                let port = free_port()?;
                let path = tls.join("mosquitto.conf");
                std::fs::write(&path, mosquitto_conf(tls, port))?;
                let program = debian("mosquitto")?;
                let child = child(Command::new(program).arg("-c").arg(&path))?;
                let target = up(port, false).await?;
                let (mut told, mut hello) = (Vec::new(), Vec::new());
                mqtt::tell(&mut told);
                Mqtt::new(usize::MAX).connect(&mut hello);
                let teller = publish(target, publisher, &hello, told).await?;
                subject("mosquitto", child, target, agents, teller, |index, _| {
                    Mqtt::new(index)
                })
                .await
            }
        }
    }
}

/// A program of Debian's.
fn debian(name: &str) -> Result<PathBuf> {
    let places = ["/usr/sbin", "/usr/bin"].map(|dir| Path::new(dir).join(name));
    places
        .into_iter()
        .find(|path| path.exists())
        .with_context(|| format!("{name} is not installed (`apt-get install {name}`)"))
}

fn child(command: &mut Command) -> Result<Child> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {:?}", command.as_std()))
}

async fn own<D: Dialect>(
    name: &'static str,
    verb: &str,
    tls: &Path,
    agents: &[Arc<ClientConfig>],
    speak: crate::crowd::Speak<D>,
) -> Result<(Subject, Child)> {
    let program = std::env::current_exe()?;
    let mut child = child(Command::new(program).arg(verb).arg(tls))?;
    let said = child.stdout.as_mut().context("its output")?;
    let mut address = String::new();
    tokio::io::BufReader::new(said)
        .read_line(&mut address)
        .await?;
    let target = Target {
        address: address.trim().parse().context("its address")?,
        plain_first: false,
    };
    let teller = Teller::Line(child.stdin.take().context("its input")?);
    subject(name, child, target, agents, teller, speak).await
}

async fn subject<D: Dialect>(
    name: &'static str,
    child: Child,
    target: Target,
    agents: &[Arc<ClientConfig>],
    teller: Teller,
    speak: crate::crowd::Speak<D>,
) -> Result<(Subject, Child)> {
    let process = Process(child.id().context("a process")?);
    process.settled_cpu_s().await?;
    let subject = Subject {
        name,
        process,
        crowd: Crowd::new(target, agents, speak),
        teller,
        base_kib: process.rss_kib()?,
    };
    Ok((subject, child))
}

async fn publish(
    target: Target,
    tls: &Arc<ClientConfig>,
    hello: &[u8],
    told: Vec<u8>,
) -> Result<Teller> {
    let mut stream = line::open(target, usize::MAX, Arc::clone(tls)).await?;
    stream.write_all(hello).await?;
    stream.flush().await?;
    // An answer to it, where there is one, is not needed.
    let mut thrown = [0; 256];
    let _ = tokio::time::timeout(Duration::from_millis(300), stream.read(&mut thrown)).await;
    Ok(Teller::Publisher(Box::new(stream), told))
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?
        .local_addr()?
        .port())
}

async fn up(port: u16, plain_first: bool) -> Result<Target> {
    let address = ([127, 0, 0, 1], port).into();
    wait_for(
        "the broker's listener",
        Duration::from_secs(10),
        async || {
            Ok(tokio::net::TcpStream::connect(address)
                .await
                .is_ok()
                .then_some(()))
        },
    )
    .await?;
    Ok(Target {
        address,
        plain_first,
    })
}

fn nats_conf(tls: &Path, port: u16) -> String {
    let tls = tls.display();
    format!(
        "listen: \"127.0.0.1:{port}\"\nmax_connections: 20000\nwrite_deadline: \"60s\"\n\
         tls {{\n cert_file: \"{tls}/server.pem\"\n key_file: \"{tls}/server.key\"\n \
         ca_file: \"{tls}/ca.pem\"\n verify: true\n timeout: 30\n}}\n"
    )
}

fn mosquitto_conf(tls: &Path, port: u16) -> String {
    let tls = tls.display();
    format!(
        "user root\nlog_type none\nset_tcp_nodelay true\nlistener {port} 127.0.0.1\n\
         cafile {tls}/ca.pem\ncertfile {tls}/server.pem\nkeyfile {tls}/server.key\n\
         require_certificate true\nallow_anonymous true\n"
    )
}
