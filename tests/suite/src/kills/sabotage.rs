//! Harm done on purpose while a process is down: what a server or agent with a bug would have done. The
//! harness has to find each.

use super::open_store;
use anyhow::{Context as _, Result};
use ringward_store::{Batch, Store as _};
use std::path::{Path, PathBuf};

/// What harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Sabotage {
    /// After the second kill the store is again what it was after the first, as where acknowledged
    /// writes were not durable.
    LoseWrites,
    /// Answered orders are forgotten with each kill, so that one that is repeated happens again.
    ForgetOrders,
    /// An agent's newest records are gone with each kill, as where the spool was not synced.
    LoseSpool,
}

impl Sabotage {
    /// Once the server is dead.
    pub(super) async fn at_server(self, lab: &Path, kills: u64) -> Result<()> {
        let (store, copy) = (lab.join("server").join("store"), lab.join("store-before"));
        match (self, kills) {
            (Self::LoseWrites, 1) => copy_folder(&store, &copy),
            (Self::LoseWrites, 2) => {
                std::fs::remove_dir_all(&store)?;
                std::fs::rename(&copy, &store).context("putting the older store back")
            }
            (Self::ForgetOrders, _) => forget_orders(store).await,
            _ => Ok(()),
        }
    }

    /// Once an agent is dead.
    pub(super) fn at_agent(self, root: &Path) -> Result<()> {
        if self != Self::LoseSpool {
            return Ok(());
        }
        let folder = root.join("spool");
        let mut segments = Vec::new();
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            segments.push((entry.file_name(), entry.metadata()?.len()));
        }
        segments.sort();
        let (newest, bytes) = segments.pop().context("the spool has no segment")?;
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(folder.join(newest))?;
        file.set_len(bytes / 2).context("cutting the spool")
    }
}

async fn forget_orders(store: PathBuf) -> Result<()> {
    let store = open_store(store).await?;
    let known = store.list("token-request", None, 100_000).await?;
    let forget = Batch {
        request_id: fastrand::u128(1..).to_be_bytes(),
        deletes: known.into_iter().map(|(key, _)| key).collect(),
        ..Batch::default()
    };
    store.commit(forget).await?;
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy_folder(&entry.path(), &target)?,
            false => drop(std::fs::copy(entry.path(), target)?),
        }
    }
    Ok(())
}
