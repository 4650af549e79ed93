//! `bench fleet`: the real server and so many agents.

mod artefacts;
mod halts;
mod release;
mod storm;

use crate::crowd::Crowd;
use crate::dialect::Grpc;
use crate::enrol::{self, Known};
use crate::figure::Figure;
use crate::line::Target;
use crate::subject::{PATIENCE, Subject, Teller};
use anyhow::{Context, Result};
use ringward_suite::account::Process;
use ringward_suite::lab::Lab;
use ringward_suite::process::Programs;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// One ring and the pace of a real fleet.
const POLICY: &str = "heartbeat_s = 10\nverify_boot = false\n[[ring]]\nname = \"all\"\n";
/// No signal is dropped for newer ones: those acknowledged are counted.
pub const KEEPS_ALL: (&str, usize) = ("signals_max", 0);
/// Rounds of heartbeats in one measurement.
const ROUNDS: u64 = 12;
/// Times that everybody is told something, either way.
const TOLD: usize = 8;
/// Times that all sessions are opened.
const CONNECTS: usize = 3;
/// Signals of each agent in one measurement, and in one message.
const SIGNALS: u64 = 16;
const BATCH: u64 = 4;

/// What a person asks for.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Agents
    #[arg(long, default_value_t = 1_000)]
    pub agents: usize,
    /// Write the figures as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Heartbeats of each agent in all: 360 are an hour's
    #[arg(long, default_value_t = 360)]
    pub heartbeats: u64,
    /// Further hosts that the server knows and that are away
    #[arg(long, default_value_t = 0)]
    pub known: u64,
}

/// The figures by their names, each with how often it was seen and how far apart.
#[derive(Debug, Default, Serialize)]
pub struct Outcome {
    /// Agents.
    pub agents: usize,
    /// Medians, by name.
    #[serde(flatten)]
    pub values: BTreeMap<&'static str, f64>,
    /// Their spread.
    pub spread: BTreeMap<&'static str, Figure>,
}

impl Outcome {
    /// Keeps a figure, and says it.
    pub fn note(&mut self, name: &'static str, seen: &[f64]) {
        let figure = Figure::of(seen);
        println!(
            "{name:<28} {:>12.2}   n={} {:.2}..{:.2}",
            figure.value, figure.n, figure.min, figure.max
        );
        self.values.insert(name, figure.value);
        self.spread.insert(name, figure);
    }
}

/// A real server whose fleet is enrolled and away.
pub struct Fleet {
    /// The server.
    pub lab: Lab,
    /// Its hosts.
    pub known: Vec<Known>,
    /// Resident memory of the fresh server, before any host.
    pub base_kib: f64,
    /// What enrolling took.
    pub enrol_wall_s: f64,
    /// Processor time of the server for it.
    pub enrol_cpu_s: f64,
}

/// Where the server's agents go.
pub fn target(lab: &Lab) -> Result<Target> {
    Ok(Target {
        address: lab.addresses()?.agents,
        plain_first: false,
    })
}

impl Fleet {
    /// A fresh server with so many hosts and these numbers in its settings, started again after they
    /// were enrolled.
    ///
    /// # Errors
    /// The server does not come up, or refuses a host.
    pub async fn set_up(
        programs: Programs,
        dir: &Path,
        agents: usize,
        known: u64,
        settings: &[(&str, usize)],
    ) -> Result<Self> {
        let mut settings = settings.to_vec();
        settings.push(("agent_connections", agents + 2_000));
        let mut lab = Lab::set_up_with(programs, dir, Some("warn"), POLICY, &settings).await?;
        if known > 0 {
            lab.pause().await?;
            ringward_suite::demo::seed(&dir.join("server"), known).await?;
            lab.start_server().await?;
        }
        Process::of_server(&lab)?.settled_cpu_s().await?;
        let base_kib = Process::of_server(&lab)?.rss_kib()?;
        println!("keys and requests for {agents} hosts ...");
        let requests = enrol::requests(agents)?;
        let token = lab.token(agents).await?;
        println!("enrolling ...");
        let before = Process::of_server(&lab)?.settled_cpu_s().await?;
        let began = Instant::now();
        let known = enrol::enrol(target(&lab)?, &token, requests).await?;
        let enrol_wall_s = began.elapsed().as_secs_f64();
        let enrol_cpu_s = Process::of_server(&lab)?.settled_cpu_s().await? - before;
        lab.pause().await?;
        lab.start_server().await?;
        Process::of_server(&lab)?.settled_cpu_s().await?;
        Ok(Self {
            lab,
            known,
            base_kib,
            enrol_wall_s,
            enrol_cpu_s,
        })
    }

    /// The server with a crowd of these hosts.
    ///
    /// # Errors
    /// It does not run.
    pub fn subject(&self) -> Result<Subject> {
        let identities: Vec<_> = self.known.iter().map(|known| known.tls.clone()).collect();
        Ok(Subject {
            name: "ringward",
            process: Process::of_server(&self.lab)?,
            crowd: Crowd::new(target(&self.lab)?, &identities, Grpc::session),
            teller: Teller::Admin(self.lab.client().clone()),
            base_kib: self.base_kib,
        })
    }
}

/// Measures.
///
/// # Errors
/// Something does not come about.
pub async fn run(options: &Options, programs: Programs, dir: &Path) -> Result<()> {
    let mut outcome = Outcome {
        agents: options.agents,
        ..Outcome::default()
    };
    let mut fleet =
        Fleet::set_up(programs, dir, options.agents, options.known, &[KEEPS_ALL]).await?;
    let agents = options.agents as f64;
    outcome.note("enrol_per_s", &[agents / fleet.enrol_wall_s]);
    outcome.note("enrol_per_core_s", &[agents / fleet.enrol_cpu_s]);
    let restored_kib = Process::of_server(&fleet.lab)?.rss_kib()?;
    outcome.note("rss_kib_base", &[fleet.base_kib]);
    outcome.note(
        "rss_kib_per_agent_known",
        &[(restored_kib - fleet.base_kib) / agents],
    );
    let mut subject = fleet.subject()?;
    sessions(&mut outcome, &subject).await?;
    outcome.note("rss_kib_per_agent_idle", &[subject.kib_per_agent()?]);
    heartbeats(&mut outcome, &subject, options.heartbeats).await?;
    outcome.note("rss_kib_per_agent", &[subject.kib_per_agent()?]);
    pauses(&mut outcome, &mut subject).await?;
    signals(&mut outcome, &subject, &dir.join("server").join("store")).await?;
    outcome.note("rss_kib_per_agent_after_all", &[subject.kib_per_agent()?]);
    artefacts::run(&mut outcome, &fleet).await?;
    halts::run(&mut outcome, &fleet.lab, &subject).await?;
    storm::run(&mut outcome, &mut fleet, &mut subject).await?;
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_vec_pretty(&outcome)?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

async fn sessions(outcome: &mut Outcome, subject: &Subject) -> Result<()> {
    let (mut per_core, mut wall) = (Vec::new(), Vec::new());
    for round in 0..CONNECTS {
        if round > 0 {
            subject.disconnect().await?;
        }
        let (per_core_s, wall_s) = subject.connect().await?;
        per_core.push(per_core_s);
        wall.push(subject.crowd.len() as f64 / wall_s);
    }
    outcome.note("sessions_per_core_s", &per_core);
    outcome.note("sessions_per_s", &wall);
    Ok(())
}

async fn heartbeats(outcome: &mut Outcome, subject: &Subject, each: u64) -> Result<()> {
    let mut per_core = Vec::new();
    for _ in 0..each.div_ceil(ROUNDS).max(1) {
        per_core.push(subject.beats(ROUNDS).await?);
    }
    outcome.note("heartbeats_per_core_s", &per_core);
    Ok(())
}

async fn pauses(outcome: &mut Outcome, subject: &mut Subject) -> Result<()> {
    let (mut last, mut p99, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TOLD {
        for stopped in [true, false] {
            let told = subject.tell(stopped).await?;
            last.push(told.last_ms);
            p99.push(told.p99_ms);
            cpu.push(told.cpu_us);
        }
    }
    outcome.note("pause_all_ms", &last);
    outcome.note("pause_p99_ms", &p99);
    outcome.note("pause_cpu_us_per_agent", &cpu);
    Ok(())
}

async fn signals(outcome: &mut Outcome, subject: &Subject, store: &Path) -> Result<()> {
    let (mut per_s, mut per_core, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    let each = (200_000 / subject.crowd.len()).clamp(SIGNALS, 64);
    for _ in 0..3 {
        let size = folder_bytes(store)?;
        let before = subject.process.settled_cpu_s().await?;
        let goal = subject.crowd.counts().durable.load(Relaxed) + each * subject.crowd.len();
        let began = Instant::now();
        subject.crowd.order(|orders| {
            orders.batch = BATCH;
            orders.signals += each;
        });
        let done = |counts: &crate::crowd::Counts| counts.durable.load(Relaxed) >= goal;
        subject
            .crowd
            .until("durable signals", PATIENCE, done)
            .await?;
        let told = (each * subject.crowd.len()) as f64;
        per_s.push(told / began.elapsed().as_secs_f64());
        per_core.push(told / (subject.process.settled_cpu_s().await? - before));
        bytes.push((folder_bytes(store)? as f64 - size as f64) / told);
    }
    outcome.note("signals_durable_per_s", &per_s);
    outcome.note("signals_per_core_s", &per_core);
    outcome.note("store_bytes_per_signal", &bytes);
    Ok(())
}

fn folder_bytes(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder)? {
        let meta = entry?.metadata()?;
        sum += if meta.is_file() { meta.len() } else { 0 };
    }
    Ok(sum)
}
