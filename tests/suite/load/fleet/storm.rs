//! The server dies with everybody connected and signals under way; everybody comes back by himself.

use super::{Fleet, Outcome, target};
use crate::crowd::Counts;
use crate::subject::{PATIENCE, Subject};
use anyhow::{Context, Result};
use ringward_store::{AnyStore, Options, Store};
use ringward_suite::account::Process;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Signals of each agent that are under way when the server dies.
const SIGNALS: u64 = 8;

/// Kills the server and waits until everybody is back and settled; counts what was lost.
///
/// # Errors
/// Somebody does not come back.
pub async fn run(outcome: &mut Outcome, fleet: &mut Fleet, subject: &mut Subject) -> Result<()> {
    let all = subject.crowd.len();
    let goal = subject.crowd.counts().durable.load(Relaxed) + SIGNALS * all;
    subject.crowd.order(|orders| {
        orders.by_themselves = true;
        orders.signals += SIGNALS;
        orders.batch = 2;
    });
    // In the middle of it: some are durable and told so, some are not.
    let begun = |counts: &Counts| counts.durable.load(Relaxed) >= goal - SIGNALS * all * 3 / 4;
    subject
        .crowd
        .until("a quarter of the signals", PATIENCE, begun)
        .await?;
    let began = Instant::now();
    fleet.lab.kill_server().await?;
    let promised: Vec<u64> = subject.crowd.durable().collect();
    // The listener takes another port: a restart elsewhere would be known by its name.
    fleet.lab.start_server().await?;
    subject.crowd.moved(target(&fleet.lab)?);
    subject.process = Process::of_server(&fleet.lab)?;
    let up_s = began.elapsed().as_secs_f64();
    let settled =
        |counts: &Counts| counts.ready.load(Relaxed) == all && counts.durable.load(Relaxed) >= goal;
    subject
        .crowd
        .until("everybody back", PATIENCE, settled)
        .await?;
    outcome.note("storm_s", &[began.elapsed().as_secs_f64()]);
    outcome.note("storm_server_up_s", &[up_s]);
    outcome.note("storm_cpu_s", &[subject.process.settled_cpu_s().await?]);
    let failed = subject.crowd.counts().failed.load(Relaxed);
    outcome.note("storm_failed_tries", &[failed as f64]);
    subject.disconnect().await?;
    let known: Vec<u64> = fleet.known.iter().map(|known| known.host.0).collect();
    fleet.lab.pause().await?;
    let folder = fleet.lab.dir().join("server").join("store");
    let now: Vec<u64> = subject.crowd.durable().collect();
    let mut lost = 0;
    for promised in [promised, now] {
        lost += missing(&folder, &known, &promised).await?;
    }
    outcome.note("storm_lost", &[lost as f64]);
    Ok(())
}

/// Signals that were called durable and are not in the store, of every host from 1 on.
async fn missing(folder: &Path, hosts: &[u64], promised: &[u64]) -> Result<u64> {
    let store = tokio::time::timeout(Duration::from_secs(60), async {
        AnyStore::sled(folder, Options::default()).context("opening the store")
    })
    .await??;
    let mut lost = 0;
    for (host, promised) in hosts.iter().zip(promised) {
        let (mut after, mut there) = (None, 0);
        loop {
            let page = store.signals(Some(*host), after, 512).await?;
            there += page.iter().filter(|signal| signal.seq <= *promised).count() as u64;
            match page.last() {
                Some(last) if page.len() == 512 => after = Some((*host, last.seq)),
                _ => break,
            }
        }
        lost += promised.saturating_sub(there);
    }
    Ok(lost)
}
