//! How long it takes from the event that decides a halt until people and hosts are told of it.

use super::Outcome;
use super::release::publish;
use crate::figure::percentile;
use crate::subject::Subject;
use anyhow::{Context, Result};
use ringward_domain::command::Action;
use ringward_suite::lab::Lab;
use ringward_wire::watch::WatchEvent;
use ringwardctl::client::{Watch, act};
use std::time::Duration;
use tokio::time::timeout;

/// Halts; each takes two canaries.
const HALTS: usize = 120;
/// Failures that halt a rollout of a young fleet.
const DECIDING: usize = 2;
const PATIENCE: Duration = Duration::from_secs(60);
/// How often every host says that it lives, meanwhile.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Halts a rollout again and again while everybody sends heartbeats.
///
/// # Errors
/// The server refuses, or does not halt.
pub async fn run(outcome: &mut Outcome, lab: &Lab, subject: &Subject) -> Result<()> {
    if subject.crowd.len() < 3 * HALTS as u64 {
        println!(
            "halt_p99_ms: skipped: {} halts need three hosts each",
            HALTS
        );
        return Ok(());
    }
    let release = publish(lab, "9.0", b"9.0").await?.release;
    let crowd = &subject.crowd;
    crowd.order(|orders| orders.spread = HEARTBEAT);
    crowd.take_failed();
    let started = lab
        .client()
        .command(act("measured"), Action::StartRollout { release })
        .await?;
    let rollout = started.rollout.context("a rollout")?;
    let mut watch = lab.client().watch(&[rollout]).await?;
    let mut beat = tokio::time::interval(HEARTBEAT);
    let (mut seen, mut server) = (Vec::new(), Vec::new());
    for halt in 0..HALTS {
        if halt > 0 {
            crowd.take_failed();
            lab.client()
                .command(act("measured"), Action::Resume(rollout))
                .await?;
        }
        let told = async {
            loop {
                tokio::select! {
                    told = halted(&mut watch) => return told,
                    _ = beat.tick() => crowd.order(|orders| orders.beats += 1),
                }
            }
        };
        timeout(PATIENCE, told)
            .await
            .context("waiting for a halt")??;
        let at = crowd.now_us();
        let failed = crowd.take_failed();
        let deciding = failed
            .get(DECIDING - 1)
            .context("a halt without failures")?;
        seen.push(at.saturating_sub(*deciding) as f64 / 1000.0);
        let view = lab.client().rollout(rollout).await?;
        server.extend(view.evidence_to_halt_ms.map(|ms| ms as f64));
    }
    crowd.order(|orders| orders.spread = Duration::ZERO);
    lab.client()
        .command(act("measured"), Action::Abort(rollout))
        .await?;
    outcome.note("halt_ms", &seen);
    outcome.note("halt_server_ms", &server);
    seen.sort_by(f64::total_cmp);
    outcome.note("halt_p99_ms", &[percentile(&seen, 0.99)]);
    Ok(())
}

async fn halted(watch: &mut Watch) -> Result<()> {
    while let Some(event) = watch.next().await? {
        if let WatchEvent::Notice { line, .. } = event
            && line.starts_with("halted")
        {
            return Ok(());
        }
    }
    anyhow::bail!("the server ended the watch")
}
