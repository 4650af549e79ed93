//! What befalls the demo under `--chaos`: in the middle of each rollout server and one agent are killed
//! and that agent's spool is torn; in the first one the server's disk is full for ten seconds.

use crate::process::limit_file_bytes;
use anyhow::{Context, Result};
use ringward_domain::RolloutId;
use ringward_domain::report::{RolloutState, RolloutView};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the server's disk is full.
const FULL: Duration = Duration::from_secs(10);
/// Rollouts of the demo: a good one, a lethal one, the way back.
const ROLLOUTS: u64 = 3;
/// What the server says when a write succeeds after some that failed.
const WORKS_AGAIN: &str = "the store works again";
/// The first bytes of a record whose rest never came to the disk.
const TORN: [u8; 13] = [0xf5, 0x52, 0x57, 0xfe, 1, 0x40, 0, 0, 0, 9, 0, 0, 0];

/// What was done; part of the outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// SIGKILLs of the server.
    pub server_kills: u64,
    /// SIGKILLs of an agent.
    pub agent_kills: u64,
    /// Spools whose last record was torn.
    pub spool_tears: u64,
    /// How long every write of the server failed.
    pub disk_full_ms: u64,
    /// Whether the server met the full disk, and went on when there was room.
    pub disk_full_outlived: bool,
}

impl Report {
    /// What chaos meant to do and did not: then nothing is proven.
    pub fn faults(&self) -> Vec<String> {
        let meant = [
            (
                self.server_kills == ROLLOUTS,
                format!(
                    "the server was killed {} times, not {ROLLOUTS}",
                    self.server_kills
                ),
            ),
            (
                self.agent_kills == ROLLOUTS,
                format!(
                    "an agent was killed {} times, not {ROLLOUTS}",
                    self.agent_kills
                ),
            ),
            (
                self.spool_tears == ROLLOUTS,
                format!(
                    "a spool was torn {} times, not {ROLLOUTS}",
                    self.spool_tears
                ),
            ),
            (
                self.disk_full_outlived,
                format!(
                    "no write of the server failed and then worked; its disk was full for {} ms",
                    self.disk_full_ms
                ),
            ),
        ];
        meant
            .into_iter()
            .filter(|(done, _)| !done)
            .map(|(_, fault)| fault)
            .collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outlived = if self.disk_full_outlived {
            "outlived"
        } else {
            "NOT OUTLIVED"
        };
        write!(
            f,
            "{} SIGKILLs of the server, {} of an agent, {} torn spools, disk full for {} ms ({outlived})",
            self.server_kills, self.agent_kills, self.spool_tears, self.disk_full_ms
        )
    }
}

/// The next thing that befalls the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// SIGKILL to server and agent.
    Kill,
    /// No room on the server's disk.
    FillDisk,
}

/// What was done so far, and what is still to come.
#[derive(Debug, Default)]
pub struct Chaos {
    /// What was done.
    pub report: Report,
    struck: BTreeSet<RolloutId>,
    full_since: Option<Instant>,
    was_full: bool,
}

impl Chaos {
    /// Whether a rollout just ordered is struck at once: its hosts may all be done before anybody could
    /// see one of them on the way, as those of a rollback are that healed themselves.
    pub fn strikes_at_once(&mut self, id: RolloutId) -> bool {
        self.struck.insert(id)
    }

    /// What befalls a rollout that stands as `view` says; asked several times a second.
    pub fn next_blow(&mut self, view: &RolloutView) -> Option<Blow> {
        if self.full_since.is_some() {
            return None;
        }
        let in_flight = view.rings.iter().any(|ring| ring.in_flight > 0);
        if view.state != RolloutState::Running || !in_flight {
            return None;
        }
        if self.struck.insert(view.id) {
            return Some(Blow::Kill);
        }
        (!self.was_full && view.rings.iter().any(|ring| ring.confirmed > 0))
            .then_some(Blow::FillDisk)
    }

    /// Whether the disk was full for as long as it was meant to be.
    pub fn is_full_long_enough(&self) -> bool {
        self.full_since.is_some_and(|since| since.elapsed() >= FULL)
    }

    /// From now on every write of the server to a file fails.
    pub fn fill_disk(&mut self, server: Option<u32>) -> Result<()> {
        limit_file_bytes(server.context("the server does not run")?, Some(0))?;
        self.was_full = true;
        self.full_since = Some(Instant::now());
        Ok(())
    }

    /// Its writes work again.
    pub fn free_disk(&mut self, server: Option<u32>) -> Result<()> {
        limit_file_bytes(server.context("the server does not run")?, None)?;
        let full = self
            .full_since
            .take()
            .map_or(Duration::ZERO, |since| since.elapsed());
        self.report.disk_full_ms += u64::try_from(full.as_millis()).unwrap_or(u64::MAX);
        Ok(())
    }

    /// Leaves the beginning of a record at the end of the newest file of a spool that nobody has open.
    pub fn tear_spool(&mut self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder)?;
        let files = std::fs::read_dir(folder)?.collect::<std::io::Result<Vec<_>>>()?;
        let newest = files
            .iter()
            .map(std::fs::DirEntry::path)
            .filter(|path| path.extension().is_some_and(|e| e == "log"))
            .max();
        let path = newest.unwrap_or_else(|| folder.join(format!("{:016x}.log", 1)));
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)?;
        file.write_all(&TORN)
            .with_context(|| format!("tearing {}", path.display()))?;
        self.report.spool_tears += 1;
        Ok(())
    }

    /// What was done, by the server's log too.
    pub fn report(&self, log: &str) -> Report {
        Report {
            disk_full_outlived: self.was_full && log.contains(WORKS_AGAIN),
            ..self.report.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chaos_that_did_less_than_it_meant_is_a_fault() {
        let all = Report {
            server_kills: 3,
            agent_kills: 3,
            spool_tears: 3,
            disk_full_ms: 10_000,
            disk_full_outlived: true,
        };
        assert_eq!(all.faults(), Vec::<String>::new());
        assert_eq!(
            Report {
                server_kills: 2,
                ..all.clone()
            }
            .faults()
            .len(),
            1
        );
        assert_eq!(
            Report {
                disk_full_outlived: false,
                ..all
            }
            .faults()
            .len(),
            1
        );
    }
}
