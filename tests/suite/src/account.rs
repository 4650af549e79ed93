//! What the kernel says of a process.

use crate::lab::Lab;
use anyhow::{Context, Result};
use std::time::{Duration, Instant};

/// A process as the kernel accounts for it.
#[derive(Debug, Clone, Copy)]
pub struct Process(pub u32);

impl Process {
    /// The server's.
    ///
    /// # Errors
    /// It does not run.
    pub fn of_server(lab: &Lab) -> Result<Self> {
        lab.server_pid()
            .map(Self)
            .context("the server does not run")
    }

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
