//! `bench soak`: churn for minutes with a fault a minute; what grows is named with its confidence.

use crate::crowd::Counts;
use crate::dialect::Grpc;
use crate::enrol::Known;
use crate::fleet::{Fleet, target};
use crate::line::{self, Target};
use crate::subject::{PATIENCE, Subject};
use anyhow::{Context, Result};
use ringward_suite::account::Process;
use ringward_suite::process::Programs;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinHandle;

/// What a person asks for.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Agents
    #[arg(long, default_value_t = 500)]
    pub agents: usize,
    /// How long
    #[arg(long, default_value_t = 10)]
    pub minutes: u64,
    /// Write the figures as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// How often the server is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// Share of the time that does not count: buffers and caches fill first.
const WARM_UP: f64 = 0.3;
/// Signals of each agent that the server keeps: a store that fills for 400 days would say nothing of
/// what grows and should not.
const KEPT: usize = 20;
/// How long a connection lives: h2 keeps the room that a burst took for as long as the connection is
/// there, so that with 30 minutes, as usual, memory settles only after an hour.
const CONNECTION_AGE_S: usize = 120;
/// Connections of one fault.
const ATTACKERS: usize = 50;

/// What grows, or does not: a straight line through the looks.
#[derive(Debug, Clone, Serialize)]
struct Slope {
    what: &'static str,
    /// At the beginning of the line and at its end.
    first: f64,
    last: f64,
    per_minute: f64,
    /// Half the width of its 95 % interval.
    plus_minus: f64,
    flat: bool,
}

#[derive(Serialize)]
struct Outcome {
    agents: usize,
    minutes: u64,
    looks: usize,
    sessions: u64,
    heartbeats: u64,
    signals: u64,
    slopes: Vec<Slope>,
    /// What the slopes were drawn through, and the warm-up before it.
    looked: Vec<Look>,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Look {
    minute: f64,
    /// As [`LOOKED_AT`] names them.
    values: [f64; 4],
}

const LOOKED_AT: [&str; 4] = ["rss_kib", "descriptors", "files", "store_kib"];

/// Churns.
///
/// # Errors
/// The server ends, or the agents do not come back.
pub async fn run(options: &Options, programs: Programs, dir: &Path) -> Result<()> {
    let mut fleet = {
        let settings = [
            ("signals_max", (KEPT * options.agents).max(1_000)),
            ("connection_age_s", CONNECTION_AGE_S),
        ];
        Fleet::set_up(programs, dir, options.agents + ATTACKERS, 0, &settings).await?
    };
    // Of their own: two machines with one identity are both refused until a person has looked.
    let attackers = fleet.known.split_off(options.agents);
    let mut subject = fleet.subject()?;
    subject.connect().await?;
    let began = Instant::now();
    let end = Duration::from_secs(60 * options.minutes);
    let mut looks = Vec::new();
    let mut minute = 0;
    let mut fault: Option<JoinHandle<()>> = None;
    let server = dir.join("server");
    while began.elapsed() < end {
        churn(&mut subject).await?;
        fleet.lab.check()?;
        let passed = began.elapsed().as_secs() / 60;
        if passed >= minute {
            if let Some(fault) = fault.take() {
                fault.abort();
            }
            fault = Some(attack(minute, target(&fleet.lab)?, attackers.clone()));
            minute = passed + 1;
        }
        looks.push(Look {
            minute: began.elapsed().as_secs_f64() / 60.0,
            values: look(subject.process, &server)?,
        });
        tokio::time::sleep(LOOK).await;
    }
    report(options, &subject, &looks)
}

/// A round of everything: heartbeats, signals, the andon, and a tenth of an hour's reconnects.
async fn churn(subject: &mut Subject) -> Result<()> {
    let goal = subject.crowd.counts().durable.load(Relaxed) + subject.crowd.len();
    subject.crowd.order(|orders| {
        orders.by_themselves = true;
        orders.beats += 1;
        orders.signals += 1;
        orders.churn += 1;
    });
    let all = subject.crowd.len();
    let done =
        |counts: &Counts| counts.durable.load(Relaxed) >= goal && counts.ready.load(Relaxed) == all;
    subject
        .crowd
        .until("a round of signals", PATIENCE, done)
        .await?;
    for stopped in [true, false] {
        subject.teller.tell(stopped).await?;
    }
    Ok(())
}

/// Each minute another kind of bad client, beside everybody else.
fn attack(minute: u64, target: Target, known: Vec<Known>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut held = Vec::new();
        for (index, known) in known.into_iter().enumerate() {
            let Ok(mut stream) = line::open(target, index, Arc::clone(&known.tls)).await else {
                continue;
            };
            let bytes: Vec<u8> = match minute % 4 {
                // Opens a session, sends and never reads.
                0 => session(index),
                // Half a preface, and then nothing.
                1 => b"PRI * HTTP/2.0\r\n".to_vec(),
                // No HTTP at all.
                2 => vec![0xff; 4096],
                // Goes at once.
                _ => Vec::new(),
            };
            let _ = stream.write_all(&bytes).await;
            if minute % 4 < 2 {
                held.push(stream);
            }
        }
        std::future::pending::<()>().await;
        drop(held);
    })
}

fn session(index: usize) -> Vec<u8> {
    use crate::dialect::Dialect;
    let mut out = Vec::new();
    let mut grpc = Grpc::session(index, 1);
    grpc.greeting(&mut out);
    for _ in 0..100 {
        grpc.beat(&mut out);
    }
    out
}

fn look(process: Process, server: &Path) -> Result<[f64; 4]> {
    let (mut files, mut bytes) = (0, 0);
    let mut folders = vec![server.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => folders.push(entry.path()),
                Ok(meta) => {
                    files += 1;
                    bytes += meta.len();
                }
                // Gone between the list and the look.
                Err(_) => {}
            }
        }
    }
    Ok([
        process.rss_kib()?,
        process.descriptors()? as f64,
        f64::from(files),
        bytes as f64 / 1024.0,
    ])
}

/// Least squares with the usual interval of the slope (Student's t at many looks is 1.96).
fn slope(what: &'static str, points: &[(f64, f64)]) -> Slope {
    let n = points.len() as f64;
    let mean_x = points.iter().map(|p| p.0).sum::<f64>() / n;
    let mean_y = points.iter().map(|p| p.1).sum::<f64>() / n;
    let sxx: f64 = points.iter().map(|p| (p.0 - mean_x).powi(2)).sum();
    let sxy: f64 = points.iter().map(|p| (p.0 - mean_x) * (p.1 - mean_y)).sum();
    let b = sxy / sxx;
    let at = |x: f64| mean_y + b * (x - mean_x);
    let rest: f64 = points.iter().map(|p| (p.1 - at(p.0)).powi(2)).sum();
    // Looks that follow each other are alike; the effective number of them is smaller.
    let errors: Vec<f64> = points.iter().map(|p| p.1 - at(p.0)).collect();
    let lag: f64 = errors.windows(2).map(|w| w[0] * w[1]).sum();
    let rho = if rest > 0.0 {
        (lag / rest).clamp(0.0, 0.99)
    } else {
        0.0
    };
    let effective = (n * (1.0 - rho) / (1.0 + rho)).max(3.0);
    let plus_minus = 1.96 * (rest / (effective - 2.0) / (sxx * effective / n)).sqrt();
    Slope {
        what,
        first: points.first().map_or(f64::NAN, |p| at(p.0)),
        last: points.last().map_or(f64::NAN, |p| at(p.0)),
        per_minute: b,
        plus_minus,
        flat: b.abs() <= plus_minus,
    }
}

fn report(options: &Options, subject: &Subject, looks: &[Look]) -> Result<()> {
    let from = (looks.len() as f64 * WARM_UP) as usize;
    let counted = &looks[from..];
    let counts = subject.crowd.counts();
    let slopes = LOOKED_AT.iter().enumerate().map(|(at, what)| {
        let points: Vec<_> = counted.iter().map(|l| (l.minute, l.values[at])).collect();
        slope(what, &points)
    });
    let outcome = Outcome {
        agents: options.agents,
        minutes: options.minutes,
        looks: counted.len(),
        sessions: counts.opened.load(Relaxed),
        heartbeats: counts.beats.load(Relaxed),
        signals: counts.durable.load(Relaxed),
        slopes: slopes.collect(),
        looked: looks.to_vec(),
    };
    for slope in &outcome.slopes {
        println!(
            "{:<12} {:>12.1} -> {:>12.1}   {:+.2} ± {:.2} a minute{}",
            slope.what,
            slope.first,
            slope.last,
            slope.per_minute,
            slope.plus_minus,
            if slope.flat { ", flat" } else { "" }
        );
    }
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_vec_pretty(&outcome)?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_flat_and_a_leak_is_not() {
        fastrand::seed(7);
        let noise: Vec<_> = (0..200)
            .map(|i| (f64::from(i) / 12.0, 1000.0 + fastrand::f64()))
            .collect();
        assert!(slope("noise", &noise).flat);
        let leak: Vec<_> = noise.iter().map(|(x, y)| (*x, y + x * 0.5)).collect();
        let leak = slope("leak", &leak);
        assert!(!leak.flat);
        assert!((leak.per_minute - 0.5).abs() <= 0.1, "{leak:?}");
    }
}
