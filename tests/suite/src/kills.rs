//! SIGKILLs of server and agents at random moments under a stream of signals, counted exactly: every
//! signal that was durable with an agent, or acknowledged to one, is in the store, and no other.

mod sabotage;

use crate::chatter::{self, Count};
use crate::hosts::{self, AgentProcess};
use crate::lab::Lab;
use crate::process::{Programs, wait_for};
use anyhow::{Context as _, Result, bail};
use ringward_agent::counters::told_so_far;
use ringward_agent::spool::{DiskFiles, Spool};
use ringward_agent_os::fake::Script;
use ringward_store::{AnyStore, Store as _};
use ringward_wire::command::Act;
use ringward_wire::token::TokenSpec;
use ringwardctl::client::{Client, act};
use ringwardctl::context::Context;
pub use sabotage::Sabotage;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// What the reason of every order begins with.
const ORDER: &str = "order ";
/// A server that is killed again and again answers within this time.
const PATIENCE: Duration = Duration::from_secs(60);
/// A server that says it is ready answers a question within this time, however much it stores.
const ANSWERS: Duration = Duration::from_secs(5);
/// Signals read from the store in one page.
const PAGE: usize = 4_096;

/// What a person asks for.
#[derive(Debug, Clone, clap::Parser)]
pub struct Options {
    /// SIGKILLs: of the server, and every third of an agent process
    #[arg(long, default_value_t = 1_000)]
    pub kills: u64,
    /// Hosts that send signals through a session of their own
    #[arg(long, default_value_t = 8)]
    pub hosts: usize,
    /// Signals a second of each of them
    #[arg(long, default_value_t = 20)]
    pub per_s: u32,
    /// Real agent processes, each with spool, ledger and guard, 10 signals a second
    #[arg(long, default_value_t = 2)]
    pub agents: usize,
    /// Repeats the moments of an earlier run
    #[arg(long)]
    pub seed: Option<u64>,
    /// Ends before all kills are done, after so many seconds; 0 for no limit
    #[arg(long, default_value_t = 0)]
    pub seconds: u64,
    /// Does harm on purpose while the server is down, which this harness has to find
    #[arg(long, value_enum, hide = true)]
    pub sabotage: Option<Sabotage>,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Outcome {
    /// SIGKILLs of the server.
    pub server_kills: u64,
    /// SIGKILLs of an agent.
    pub agent_kills: u64,
    /// Signals made by hosts, or durable in an agent's spool.
    pub told: u64,
    /// Distinct signals in the store, read from end to end after the server has stopped.
    pub stored: u64,
    /// The same as the server counted them.
    pub counted: u64,
    /// Hosts whose stored signals are not numbered from 1 without a gap.
    pub hosts_with_gaps: u64,
    /// The longest that a server took from its start until it answered.
    pub start_ms_max: u64,
    /// The longest that it took to count its signals after that.
    pub count_ms_max: u64,
    /// Signals a second, over the whole run.
    pub signals_per_s: u64,
    /// Sessions the server welcomed.
    pub sessions: u64,
    /// Damaged places in the agents' spools.
    pub spool_damaged: u64,
    /// Signals that an agent counted and was killed before it wrote.
    pub cut_before_spool: u64,
    /// A person's orders, one at each kill of the server, each repeated under its request id until it
    /// was answered.
    pub orders: u64,
    /// What those orders did, in the store.
    pub orders_done: u64,
    /// Orders that were done more than once.
    pub orders_doubled: u64,
}

impl Outcome {
    /// Every promise that was not kept.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let promises = [
            (
                self.told == self.stored,
                format!("{} signals told, {} stored", self.told, self.stored),
            ),
            (
                self.counted == self.stored && self.hosts_with_gaps == 0,
                format!(
                    "{} signals stored, {} counted, gaps in those of {} hosts",
                    self.stored, self.counted, self.hosts_with_gaps
                ),
            ),
            (
                u128::from(self.count_ms_max) <= ANSWERS.as_millis(),
                format!("counting took {} ms", self.count_ms_max),
            ),
            (
                self.spool_damaged == 0,
                format!("{} damaged places in spools", self.spool_damaged),
            ),
            (
                self.orders_done == self.orders && self.orders_doubled == 0,
                format!(
                    "{} orders, {} done, {} of them twice",
                    self.orders, self.orders_done, self.orders_doubled
                ),
            ),
            (
                self.cut_before_spool <= self.agent_kills,
                format!(
                    "{} signals never came to a spool in {} kills",
                    self.cut_before_spool, self.agent_kills
                ),
            ),
        ];
        promises
            .into_iter()
            .filter(|(kept, _)| !kept)
            .map(|(_, fault)| fault)
            .collect()
    }
}

struct Run {
    lab: Lab,
    agents: Vec<AgentProcess>,
    counts: Vec<Arc<Count>>,
    chatter: JoinSet<Result<()>>,
    orders: JoinSet<Result<Act>>,
    spec: TokenSpec,
    random: fastrand::Rng,
    sabotage: Option<Sabotage>,
    outcome: Outcome,
}

/// Kills and counts.
///
/// # Errors
/// Something does not come up again.
pub async fn run(programs: Programs, dir: &Path, options: &Options) -> Result<Outcome> {
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
    println!("{} kills, --seed {seed}", options.kills);
    let mut run = Run::set_up(programs, dir, options, fastrand::Rng::with_seed(seed)).await?;
    let begun = Instant::now();
    for kill in 1..=options.kills {
        run.strike(kill)
            .await
            .with_context(|| format!("kill {kill}, --seed {seed}"))?;
        if kill.is_multiple_of(50) {
            println!(
                "{kill} kills, {} signals, {:.0} s",
                run.told_by_hosts(),
                begun.elapsed().as_secs_f64()
            );
        }
        if options.seconds > 0 && begun.elapsed().as_secs() >= options.seconds {
            break;
        }
    }
    run.settle(begun).await
}

impl Run {
    async fn set_up(
        programs: Programs,
        dir: &Path,
        options: &Options,
        random: fastrand::Rng,
    ) -> Result<Self> {
        let lab = Lab::set_up(programs, dir).await?;
        let folders = hosts::enrol(&lab, "chatter", options.hosts).await?;
        let tokens = lab.client().tokens().await?;
        let token = tokens.first().context("the hosts came without a token")?;
        let mut run = Self {
            agents: Vec::new(),
            counts: Vec::new(),
            chatter: JoinSet::new(),
            orders: JoinSet::new(),
            spec: token.spec.clone(),
            random,
            sabotage: options.sabotage,
            outcome: Outcome::default(),
            lab,
        };
        for index in 0..options.agents {
            let script = Script {
                changes_per_s: 10,
                ..hosts::script(&format!("agent-{index}"))
            };
            run.agents
                .push(AgentProcess::enrol(&run.lab, &script).await?);
        }
        for folder in folders {
            let count = Arc::new(Count::default());
            run.counts.push(Arc::clone(&count));
            let per_s = options.per_s;
            run.chatter
                .spawn(async move { chatter::run(&folder, per_s, count).await });
        }
        Ok(run)
    }

    fn sum(&self, of: fn(&Count) -> u64) -> u64 {
        self.counts.iter().map(|count| of(count)).sum()
    }

    fn told_by_hosts(&self) -> u64 {
        self.sum(|count| count.told.load(Relaxed))
    }

    /// Waits until something was acknowledged since the last start, then for a random moment.
    async fn strike(&mut self, kill: u64) -> Result<()> {
        let before = self.sum(|count| count.acknowledged.load(Relaxed));
        wait_for(
            "an acknowledgement of the server",
            Duration::from_secs(30),
            async || {
                Ok((self.sum(|count| count.acknowledged.load(Relaxed)) > before).then_some(()))
            },
        )
        .await?;
        tokio::time::sleep(Duration::from_millis(self.random.u64(0..250))).await;
        if kill.is_multiple_of(3) && !self.agents.is_empty() {
            let index = self.random.usize(0..self.agents.len());
            self.agents[index].kill().await?;
            self.outcome.agent_kills += 1;
            if let Some(sabotage) = self.sabotage {
                sabotage.at_agent(&self.agents[index].root())?;
            }
            return self.agents[index].start();
        }
        self.lab.check()?;
        self.order();
        let acknowledged = self.sum(|count| count.acknowledged.load(Relaxed));
        self.lab.kill_server().await?;
        self.outcome.server_kills += 1;
        if let Some(sabotage) = self.sabotage {
            sabotage
                .at_server(self.lab.dir(), self.outcome.server_kills)
                .await?;
        }
        let begun = Instant::now();
        self.lab.start_server().await?;
        let started = Instant::now();
        let status = self.lab.client().status(true).await?;
        let stored = status
            .signals_stored
            .context("the server counts no signals")?;
        let ms = |longest: u64, took: Duration| longest.max(took.as_millis() as u64);
        self.outcome.start_ms_max = ms(self.outcome.start_ms_max, started - begun);
        self.outcome.count_ms_max = ms(self.outcome.count_ms_max, started.elapsed());
        if stored < acknowledged {
            // Lost for good: nothing that follows could be counted.
            bail!("{acknowledged} signals were acknowledged, {stored} are stored after the kill");
        }
        Ok(())
    }

    /// A person orders something while the server is killed, and asks again until there is an answer;
    /// at the end of the run once more, as one does whose answer was lost.
    fn order(&mut self) {
        self.outcome.orders += 1;
        let (context, spec) = (self.lab.context().to_owned(), self.spec.clone());
        let order = act(&format!("{ORDER}{}", self.outcome.orders));
        self.orders.spawn(async move {
            wait_for("an answer to an order", PATIENCE, async || {
                let context = Context::load(Some(&context))?;
                let asked = async {
                    let client = Client::connect(&context).await?;
                    client.create_token(order.clone(), spec.clone()).await
                };
                let answer = tokio::time::timeout(Duration::from_secs(3), asked).await;
                Ok(matches!(answer, Ok(Ok(_))).then_some(()))
            })
            .await?;
            Ok(order)
        });
    }

    async fn count_orders(&mut self) -> Result<()> {
        while let Some(answered) = self.orders.join_next().await {
            let order = answered??;
            let client = self.lab.client();
            client.create_token(order, self.spec.clone()).await?;
        }
        let mut done: Vec<String> = self
            .lab
            .client()
            .tokens()
            .await?
            .into_iter()
            .map(|token| token.reason)
            .filter(|reason| reason.starts_with(ORDER))
            .collect();
        done.sort_unstable();
        let all = done.len() as u64;
        done.dedup();
        self.outcome.orders_done = done.len() as u64;
        self.outcome.orders_doubled = all - self.outcome.orders_done;
        Ok(())
    }

    async fn settle(mut self, begun: Instant) -> Result<Outcome> {
        for count in &self.counts {
            count.quiet.store(true, Relaxed);
        }
        for agent in &self.agents {
            Script {
                changes_per_s: 0,
                ..Script::read(&agent.root())?
            }
            .write(&agent.root())?;
        }
        let seconds = begun.elapsed().as_secs().max(1);
        let drained = async {
            while let Some(ended) = self.chatter.join_next().await {
                ended??;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(Duration::from_secs(60), drained)
            .await
            .context("hosts do not get rid of their signals")??;
        let roots: Vec<PathBuf> = self.agents.iter().map(AgentProcess::root).collect();
        wait_for(
            "every agent's spool acknowledged",
            Duration::from_secs(90),
            async || {
                let waiting: u64 = roots
                    .iter()
                    .map(|root| ringward_agent::status::look(root).signals_waiting)
                    .sum();
                Ok((waiting == 0).then_some(()))
            },
        )
        .await?;
        for agent in &mut self.agents {
            agent.stop().await?;
        }
        self.count_orders().await?;
        self.outcome.told = self.told_by_hosts();
        for root in &roots {
            let (durable, damaged) = spooled(root)?;
            self.outcome.told += durable;
            self.outcome.spool_damaged += damaged;
            self.outcome.cut_before_spool += told_so_far(root).saturating_sub(durable);
        }
        self.outcome.sessions = self.sum(|count| count.sessions.load(Relaxed));
        self.outcome.signals_per_s = self.outcome.told / seconds;
        let status = self.lab.client().status(true).await?;
        self.outcome.counted = status
            .signals_stored
            .context("the server counts no signals")?;
        self.lab.check()?;
        let store = self.lab.dir().join("server").join("store");
        self.lab.stop().await?;
        (self.outcome.stored, self.outcome.hosts_with_gaps) = stored(store).await?;
        Ok(self.outcome)
    }
}

/// The store of a stopped server.
async fn open_store(folder: PathBuf) -> Result<AnyStore> {
    let open = move || AnyStore::sled(&folder, ringward_store::Options::default());
    Ok(tokio::task::spawn_blocking(open).await??)
}

/// Signals in the store of a stopped server, and how many hosts' are not numbered without a gap.
async fn stored(folder: PathBuf) -> Result<(u64, u64)> {
    let store = open_store(folder).await?;
    let (mut hosts, mut after) = (BTreeMap::<u64, (u64, u64)>::new(), None);
    loop {
        let page = store.signals(None, after, PAGE).await?;
        for signal in &page {
            let (count, last) = hosts.entry(signal.host).or_default();
            (*count, *last) = (*count + 1, signal.seq);
        }
        match page.last() {
            Some(last) => after = Some((last.host, last.seq)),
            None => break,
        }
    }
    let gaps = hosts.values().filter(|(count, last)| count != last).count();
    Ok((hosts.values().map(|host| host.0).sum(), gaps as u64))
}

/// Signals that ever were durable in the spool of a stopped agent, and its damaged places.
fn spooled(root: &Path) -> Result<(u64, u64)> {
    let spool = Spool::open(DiskFiles::new(&root.join("spool"))?, u64::MAX)?;
    let (_, next) = spool.range();
    if next.0 == 0 {
        bail!("the spool in {} has no number free", root.display());
    }
    Ok((next.0 - 1, spool.losses().damaged))
}
