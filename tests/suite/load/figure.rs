//! Figures with how often and how far apart they were seen, and what the system says of a process.

use anyhow::{Context, Result};
use serde::Serialize;
use std::time::{Duration, Instant};

/// A figure: the median of what was seen.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// Median.
    pub value: f64,
    /// How often it was measured.
    pub n: usize,
    /// Least.
    pub min: f64,
    /// Most.
    pub max: f64,
}

impl Figure {
    /// Of what was seen; at least one.
    pub fn of(seen: &[f64]) -> Self {
        let mut sorted = seen.to_vec();
        sorted.sort_by(f64::total_cmp);
        Self {
            value: percentile(&sorted, 0.5),
            n: sorted.len(),
            min: sorted.first().copied().unwrap_or(f64::NAN),
            max: sorted.last().copied().unwrap_or(f64::NAN),
        }
    }
}

/// The value below which `share` of the sorted ones lie.
pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let at = (last as f64 * share).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

/// A process as the kernel accounts for it.
#[derive(Debug, Clone, Copy)]
pub struct Process(pub u32);

impl Process {
    /// Processor time used so far, user and system, of all its threads.
    ///
    /// # Errors
    /// The process is gone.
    pub fn cpu_s(self) -> Result<f64> {
        let path = format!("/proc/{}/stat", self.0);
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        // The name, in brackets, may hold spaces; user and system time are fields 14 and 15.
        let rest = text.rsplit_once(") ").context("a stat line")?.1;
        let mut ticks = rest.split(' ').skip(11).map(str::parse::<u64>);
        let mut next = || ticks.next().context("a stat line")?.context("a stat line");
        Ok((next()? + next()?) as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// Resident memory.
    ///
    /// # Errors
    /// The process is gone.
    pub fn rss_kib(self) -> Result<f64> {
        let path = format!("/proc/{}/status", self.0);
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        kib.context("the kernel names no VmRSS")
    }

    /// Open descriptors.
    ///
    /// # Errors
    /// The process is gone.
    pub fn descriptors(self) -> Result<usize> {
        let path = format!("/proc/{}/fd", self.0);
        let entries = std::fs::read_dir(&path).with_context(|| format!("listing {path}"))?;
        Ok(entries.count())
    }

    /// Waits until it has next to nothing to do, and answers its processor time then.
    ///
    /// # Errors
    /// The process is gone, or does not come to rest.
    pub async fn settled_cpu_s(self) -> Result<f64> {
        const LOOK: Duration = Duration::from_millis(250);
        /// Two ticks of the kernel's clock.
        const REST_S: f64 = 0.02;
        let began = Instant::now();
        let mut before = self.cpu_s()?;
        loop {
            tokio::time::sleep(LOOK).await;
            let now = self.cpu_s()?;
            if now - before <= REST_S {
                return Ok(now);
            }
            if began.elapsed() > Duration::from_secs(120) {
                anyhow::bail!("process {} does not come to rest", self.0);
            }
            before = now;
        }
    }
}
