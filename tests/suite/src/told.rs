//! How long an order to a whole fleet takes until every host has it: `cargo xtask bench orders`.

use crate::account::Process;
use crate::chatter::{hello, open};
use crate::hosts::enrol;
use crate::lab::Lab;
use crate::process::{Programs, wait_for};
use anyhow::{Context as _, Result, ensure};
use ringward_agent::identity::Identity;
use ringward_domain::RequestId;
use ringward_domain::command::Action;
use ringward_domain::order::{CAPABILITY_ORDERS, CAPABILITY_QUARANTINE, Containment};
use ringward_domain::order_spec::{OrderKind, OrderSpec, OrderTargets};
use ringward_domain::session::ToAgent;
use ringward_domain::{Millis, OrderId};
use ringward_wire::command::Act;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};

/// Patience with a host that was not told.
const PATIENCE: Duration = Duration::from_secs(60);
/// Patience with a thousand handshakes on a machine that has other work.
const UP: Duration = Duration::from_secs(300);
/// Sessions being opened at one time: a server lets in 16 unauthenticated connections an address.
const OPENING_MAX: usize = 12;
/// Pauses of a host that was turned away: at first, and at most.
const BACKOFF_MS: (u64, u64) = (100, 5_000);

/// Options of the measurement.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Simulated hosts, each with a session of its own over mutual TLS
    #[arg(long, default_value_t = 1_000)]
    hosts: usize,
    /// Quarantines of the whole fleet, each released again
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// A host was told: isolated by this order, or open.
type Told = (Option<OrderId>, Instant);

/// Measures and prints; answers nothing wrong.
///
/// # Errors
/// Server or hosts cannot be set up, or a host is not told within a minute.
pub async fn run(programs: Programs, dir: &Path, options: &Options) -> Result<()> {
    let lab = Lab::set_up_at(programs, dir, Some("warn")).await?;
    let (tell, mut told) = mpsc::channel(options.hosts.max(1));
    let opening = Arc::new(Semaphore::new(OPENING_MAX));
    for folder in enrol(&lab, "told", options.hosts).await? {
        tokio::spawn(host(folder, Arc::clone(&opening), tell.clone()));
    }
    drop(tell);
    wait_for("every host's session", UP, async || {
        let status = lab.client().status(false).await?;
        Ok((status.connected as usize == options.hosts).then_some(()))
    })
    .await?;
    println!(
        "{} hosts in session; milliseconds from asking",
        options.hosts
    );
    println!("round  order      answered  first  median   last  server CPU");
    for round in 1..=options.rounds {
        for (name, kind) in [
            (
                "quarantine",
                OrderKind::Quarantine {
                    allow: Vec::new(),
                    life: None,
                },
            ),
            ("release", OrderKind::Release),
        ] {
            let line = order(&lab, kind, options.hosts, &mut told).await?;
            println!("{round:5}  {name:10} {line}");
        }
    }
    lab.stop().await
}

async fn order(
    lab: &Lab,
    kind: OrderKind,
    hosts: usize,
    told: &mut mpsc::Receiver<Told>,
) -> Result<String> {
    while told.try_recv().is_ok() {}
    let isolates = matches!(kind, OrderKind::Quarantine { .. });
    let spec = OrderSpec {
        kind,
        targets: OrderTargets::Everything,
        ticket: String::new(),
        life: Millis::hours(1),
        protected: false,
        over_cap: false,
        endorsers: 0,
    };
    let act = Act {
        request: RequestId(std::array::from_fn(|_| fastrand::u8(..))),
        reason: "measuring".to_owned(),
        dry_run: false,
        break_glass: false,
    };
    let (server, before) = (Process::of_server(lab)?, Process::of_server(lab)?.cpu_s()?);
    let asked = Instant::now();
    let command = lab.client().command(act, Action::Order(Box::new(spec)));
    let (outcome, times) = tokio::join!(
        async { (command.await, asked.elapsed()) },
        all_told(told, hosts, isolates, asked)
    );
    let (mut times, (outcome, answered)) = (times?, outcome);
    let order = outcome?.order;
    ensure!(order.is_some(), "no order was given");
    times.sort_unstable();
    let at = |of: usize| times.get(of).map_or(0, Duration::as_millis);
    Ok(format!(
        "{:8} {:6} {:7} {:6} {:8} ms",
        answered.as_millis(),
        at(0),
        at(hosts / 2),
        at(hosts - 1),
        ((server.cpu_s()? - before) * 1e3).round()
    ))
}

/// Waits until so many hosts were told.
async fn all_told(
    told: &mut mpsc::Receiver<Told>,
    hosts: usize,
    isolates: bool,
    asked: Instant,
) -> Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(hosts);
    while times.len() < hosts {
        let next = tokio::time::timeout(PATIENCE, told.recv()).await;
        let next = next.with_context(|| format!("{} of {hosts} were told", times.len()))?;
        let (order, at) = next.context("no host listens any more")?;
        if order.is_some() == isolates && at >= asked {
            times.push(at - asked);
        }
    }
    Ok(times)
}

/// One host: a session that says when what is wanted of it changed, opened anew when it ends.
async fn host(folder: PathBuf, opening: Arc<Semaphore>, tell: mpsc::Sender<Told>) -> Result<()> {
    let identity = Identity::load(&folder)?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let mut hello = hello(&name, 1);
    hello.capabilities = vec![
        CAPABILITY_ORDERS.to_owned(),
        CAPABILITY_QUARANTINE.to_owned(),
    ];
    let (mut before, mut backoff_ms) = (None, BACKOFF_MS.0);
    while !tell.is_closed() {
        let turn = opening.acquire().await?;
        let session = open(&identity, hello.clone()).await;
        drop(turn);
        if let Ok((_out, mut answers)) = session {
            backoff_ms = BACKOFF_MS.0;
            while let Ok(Some(frame)) = answers.message().await {
                let at = Instant::now();
                let ToAgent::Desired(desired) = ToAgent::try_from(frame)? else {
                    continue;
                };
                let now = match desired.orders.containment {
                    Containment::Quarantined(quarantine) => Some(quarantine.order),
                    Containment::Open | Containment::Unsaid => None,
                };
                if now != before {
                    before = now;
                    tell.send((now, at)).await?;
                }
            }
        }
        let jitter_ms = fastrand::u64(backoff_ms / 2..=backoff_ms);
        tokio::time::sleep(Duration::from_millis(jitter_ms)).await;
        backoff_ms = (backoff_ms * 2).min(BACKOFF_MS.1);
    }
    Ok(())
}
