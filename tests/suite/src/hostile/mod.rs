//! Hostile and broken clients beside honest hosts: what they cost the server, and what the honest
//! ones notice.

mod attack;
mod families;
pub mod h2;

pub use attack::{Attackers, attack};
pub use families::Family;

use crate::account::Process;
use crate::chatter::{self, Count};
use crate::hosts;
use crate::lab::Lab;
use crate::process::{Programs, wait_for};
use anyhow::{Context as _, Result};
use attack::Tally;
use clap::ValueEnum as _;
use comfy_table::{ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};
use ringward_agent::identity::Identity;
use ringward_domain::HostId;
use ringward_store::{AnyStore, Store as _};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// The server's memory may grow by so much.
const GROWTH_KIB_MAX: u64 = 64 * 1024;
/// What the honest hosts' slowest percent may take, against the same without an attack.
const P99_RATIO_MAX: f64 = 2.0;
/// How long a sabotaged server stands still.
const STALL: Duration = Duration::from_secs(2);
/// Signals read from the store in one go.
const PAGE: usize = 512;
/// Fewer times than this say nothing about a percentile.
const TIMES_MIN: usize = 200;

/// What a person asks for.
#[derive(Debug, Clone, clap::Parser)]
pub struct Options {
    /// Hostile frames in all, spread over the families
    #[arg(long, default_value_t = 1_000_000)]
    pub frames: u64,
    /// Hostile frames a second, over all connections of a family; 0 for as many as go through
    #[arg(long, default_value_t = 10_000)]
    pub rate: u64,
    /// Honest hosts
    #[arg(long, default_value_t = 200)]
    pub hosts: usize,
    /// How long the honest hosts are watched alone
    #[arg(long, default_value_t = 20, value_name = "SECONDS")]
    pub quiet: u64,
    /// Only these families
    #[arg(long, value_enum, value_delimiter = ',')]
    pub families: Vec<Family>,
    /// Write the outcome as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Do not judge times: for machines that do other things meanwhile
    #[arg(long)]
    pub ignore_times: bool,
    /// Does what a server with a bug would do, which this harness has to find
    #[arg(long, value_enum, hide = true)]
    pub sabotage: Option<Sabotage>,
}

/// What a server with a bug would do under an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Sabotage {
    /// It stands still for two seconds.
    Stall,
    /// It ends.
    End,
    /// It holds more than it may.
    Grow,
    /// It loses what it acknowledged: an honest signal more is counted than was made.
    Lose,
}

/// One family's row.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Which.
    pub family: Family,
    /// What it did.
    #[serde(flatten)]
    pub tally: Tally,
    /// How long it took.
    pub seconds: f64,
    /// The server's largest resident memory meanwhile, over that before all attacks.
    pub growth_kib: i64,
    /// Signals of honest hosts made durable meanwhile.
    pub honest_signals: usize,
    /// What their slowest percent took.
    pub honest_p99_ms: f64,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// Honest hosts.
    pub hosts: usize,
    /// Hostile frames sent.
    pub frames: u64,
    /// By family.
    pub rows: Vec<Row>,
    /// Signals of honest hosts that took part in `quiet_p99_ms`.
    pub quiet_signals: usize,
    /// What the slowest percent of honest signals took without an attack.
    pub quiet_p99_ms: f64,
    /// What it took over all attacks.
    pub attacked_p99_ms: f64,
    /// Resident memory of the server before the attacks.
    pub before_kib: u64,
    /// Its largest growth.
    pub growth_kib: i64,
    /// Signals that honest hosts made, and that are in the store.
    pub told: u64,
    /// See `told`.
    pub stored: u64,
    /// Sessions that honest hosts had to open.
    pub sessions: u64,
    /// Whether the times are to be judged.
    pub times_count: bool,
}

impl Outcome {
    /// Every promise that was not kept.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.growth_kib > GROWTH_KIB_MAX as i64 {
            faults.push(format!(
                "the server's memory grew by {} KiB, at most {GROWTH_KIB_MAX} may be",
                self.growth_kib
            ));
        }
        if self.told != self.stored {
            faults.push(format!(
                "honest hosts told {} signals, {} are stored",
                self.told, self.stored
            ));
        }
        let ratio = self.attacked_p99_ms / self.quiet_p99_ms.max(1.0);
        if self.times_count && ratio > P99_RATIO_MAX {
            faults.push(format!(
                "honest signals took {:.0} ms at p99, {:.0} ms without attack",
                self.attacked_p99_ms, self.quiet_p99_ms
            ));
        }
        for row in &self.rows {
            if row.tally.frames == 0 {
                faults.push(format!("{:?} sent nothing: nothing is proven", row.family));
            }
        }
        faults
    }

    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table
            .load_style(UTF8_FULL_CONDENSED)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_header([
                "family",
                "frames",
                "connections",
                "refused",
                "s",
                "memory KiB",
                "honest p99 ms",
                "of signals",
            ]);
        for row in &self.rows {
            table.add_row([
                row.family
                    .to_possible_value()
                    .map_or_else(String::new, |value| value.get_name().to_owned()),
                row.tally.frames.to_string(),
                row.tally.connections.to_string(),
                row.tally.refused.to_string(),
                format!("{:.1}", row.seconds),
                format!("{:+}", row.growth_kib),
                format!("{:.1}", row.honest_p99_ms),
                row.honest_signals.to_string(),
            ]);
        }
        table.add_row([
            "all".to_owned(),
            self.frames.to_string(),
            String::new(),
            String::new(),
            String::new(),
            format!("{:+}", self.growth_kib),
            format!("{:.1}", self.attacked_p99_ms),
            format!("{} hosts", self.hosts),
        ]);
        table.add_row([
            "without attack".to_owned(),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
            format!("{} in all", self.before_kib),
            format!("{:.1}", self.quiet_p99_ms),
            self.quiet_signals.to_string(),
        ]);
        table.to_string()
    }
}

struct Run {
    lab: Lab,
    /// The honest ones.
    hosts: Vec<HostId>,
    counts: Vec<Arc<Count>>,
    honest: JoinSet<Result<()>>,
    largest_kib: Arc<AtomicU64>,
    before_kib: u64,
    sabotage: Option<Sabotage>,
}

/// Attacks and measures; `program` is the one that carries out `attack`.
///
/// # Errors
/// Something cannot be started, or the server ended.
pub async fn run(
    programs: Programs,
    program: &Path,
    dir: &Path,
    options: &Options,
) -> Result<Outcome> {
    let families = match options.families.as_slice() {
        [] => Family::value_variants(),
        chosen => chosen,
    };
    let mut run = Run::set_up(programs, dir, options.hosts).await?;
    // The first seconds pay for all that is done once.
    tokio::time::sleep(Duration::from_secs(options.quiet / 4)).await;
    run.take_times();
    tokio::time::sleep(Duration::from_secs(options.quiet)).await;
    let quiet = run.take_times();
    run.before_kib = run.memory_kib()?;
    run.largest_kib.store(run.before_kib, Relaxed);
    run.sabotage = options.sabotage;
    let (mut rows, mut all, mut left) = (Vec::new(), Vec::new(), options.frames);
    for (done, family) in families.iter().enumerate() {
        let share = left / (families.len() - done) as u64;
        let (row, times) = run.suffer(program, *family, share, options.rate).await?;
        println!(
            "{:>18}: {} frames, {:+} KiB, honest p99 {:.1} ms",
            format!("{family:?}"),
            row.tally.frames,
            row.growth_kib,
            row.honest_p99_ms
        );
        left = left.saturating_sub(row.tally.frames);
        rows.push(row);
        all.extend(times);
    }
    let mut outcome = Outcome {
        hosts: options.hosts,
        frames: options.frames - left,
        quiet_signals: quiet.len(),
        quiet_p99_ms: p99_ms(quiet),
        attacked_p99_ms: p99_ms(all),
        before_kib: run.before_kib,
        growth_kib: rows.iter().map(|row| row.growth_kib).max().unwrap_or(0),
        rows,
        told: 0,
        stored: 0,
        sessions: 0,
        times_count: !options.ignore_times,
    };
    run.settle(&mut outcome).await?;
    Ok(outcome)
}

impl Run {
    async fn set_up(programs: Programs, dir: &Path, hosts: usize) -> Result<Self> {
        let lab = Lab::set_up(programs, dir).await?;
        let mut run = Self {
            hosts: Vec::new(),
            counts: Vec::new(),
            honest: JoinSet::new(),
            largest_kib: Arc::default(),
            before_kib: 0,
            sabotage: None,
            lab,
        };
        for folder in hosts::enrol(&run.lab, "honest", hosts).await? {
            run.hosts.push(Identity::load(&folder)?.host.host);
            let count = Arc::new(Count::timed());
            run.counts.push(Arc::clone(&count));
            run.honest
                .spawn(async move { chatter::run(&folder, 1, count).await });
        }
        wait_for(
            "every honest host welcomed",
            Duration::from_secs(60),
            async || {
                let welcomed = |count: &Arc<Count>| count.sessions.load(Relaxed) > 0;
                Ok(run.counts.iter().all(welcomed).then_some(()))
            },
        )
        .await?;
        Ok(run)
    }

    /// The server's memory now.
    fn memory_kib(&self) -> Result<u64> {
        let held = match self.sabotage {
            Some(Sabotage::Grow) => GROWTH_KIB_MAX + 1024,
            _ => 0,
        };
        Ok(Process::of_server(&self.lab)?.rss_kib()? as u64 + held)
    }

    async fn sabotage_server(&mut self) -> Result<()> {
        match self.sabotage {
            Some(Sabotage::Stall) => self.lab.stall_server(STALL).await,
            Some(Sabotage::End) => self.lab.end_server().await,
            Some(Sabotage::Grow | Sabotage::Lose) | None => Ok(()),
        }
    }

    fn take_times(&self) -> Vec<Duration> {
        self.counts
            .iter()
            .flat_map(|count| count.take_times())
            .collect()
    }

    /// Lets one family loose in a process of its own, which yields to everything else: what is measured
    /// is the server's cost, not the attackers'.
    async fn suffer(
        &mut self,
        program: &Path,
        family: Family,
        frames: u64,
        rate: u64,
    ) -> Result<(Row, Vec<Duration>)> {
        let attackers = Attackers::prepare(&self.lab, program, family).await?;
        self.take_times();
        self.largest_kib.store(self.memory_kib()?, Relaxed);
        let began = Instant::now();
        let mut watch = tokio::time::interval(Duration::from_millis(100));
        let attacked = attackers.strike(frames, rate);
        tokio::pin!(attacked);
        self.sabotage_server().await?;
        let tally = loop {
            tokio::select! {
                tally = &mut attacked => break tally?,
                _ = watch.tick() => {
                    self.lab.check()?;
                    self.largest_kib.fetch_max(self.memory_kib()?, Relaxed);
                }
            }
        };
        self.lab.check()?;
        self.largest_kib.fetch_max(self.memory_kib()?, Relaxed);
        let times = self.take_times();
        let row = Row {
            family,
            tally,
            seconds: began.elapsed().as_secs_f64(),
            growth_kib: self.largest_kib.load(Relaxed) as i64 - self.before_kib as i64,
            honest_signals: times.len(),
            honest_p99_ms: p99_ms(times.clone()),
        };
        Ok((row, times))
    }

    async fn settle(mut self, outcome: &mut Outcome) -> Result<()> {
        for count in &self.counts {
            count.quiet.store(true, Relaxed);
        }
        let drained = async {
            while let Some(ended) = self.honest.join_next().await {
                ended??;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(Duration::from_secs(60), drained)
            .await
            .context("honest hosts do not get rid of their signals")??;
        let sum = |of: fn(&Count) -> u64| self.counts.iter().map(|count| of(count)).sum::<u64>();
        // A host that knew of the planted loss would wait for it to the end.
        let lost = u64::from(matches!(self.sabotage, Some(Sabotage::Lose)));
        outcome.told = sum(|count| count.told.load(Relaxed)) + lost;
        outcome.sessions = sum(|count| count.sessions.load(Relaxed));
        self.lab.check()?;
        let store = self.lab.dir().join("server").join("store");
        self.lab.stop().await?;
        outcome.stored = stored_of(&store, &self.hosts).await?;
        Ok(())
    }
}

/// Signals of these hosts in the store: attackers may have made some too.
async fn stored_of(folder: &Path, hosts: &[HostId]) -> Result<u64> {
    let store = AnyStore::sled(folder, ringward_store::Options::default())?;
    let mut stored = 0;
    for host in hosts {
        let mut after = None;
        loop {
            let page = store.signals(Some(host.0), after, PAGE).await?;
            stored += page.len() as u64;
            match page.last() {
                Some(last) if page.len() == PAGE => after = Some((host.0, last.seq)),
                _ => break,
            }
        }
    }
    Ok(stored)
}

/// What the slowest percent took; the largest of all where there are too few to tell.
fn p99_ms(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    let at = match times.len() {
        0 => return 0.0,
        few if few < TIMES_MIN => few - 1,
        many => many * 99 / 100,
    };
    times[at].as_secs_f64() * 1000.0
}
