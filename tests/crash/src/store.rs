//! The store's workload, and what must be there after a cut.

use crate::replay::Told;
use anyhow::{Context, Result, bail};
use ringward_store::{Batch, Bounds, Committed, Disk, Key, Options, OsDisk, Sled, Store};
use std::collections::BTreeMap;
use std::fs::File;
use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// The store is closed and opened again after so many commits: each opening writes a snapshot.
const REOPEN_EVERY: u64 = 12;

/// A disk on which steps can be left out.
#[derive(Debug)]
struct Careless {
    skips_data: bool,
    skips_folder: bool,
}

impl Disk for Careless {
    fn sync_data(&self, file: &File, path: &Path) -> io::Result<()> {
        match self.skips_data {
            true => Ok(()),
            false => OsDisk.sync_data(file, path),
        }
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        match self.skips_folder {
            true => Ok(()),
            false => OsDisk.sync_folder(folder),
        }
    }

    fn free_bytes(&self, _folder: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

fn options(plant: Option<&str>) -> Options {
    Options {
        cache_bytes: 1 << 20,
        min_free_bytes: 0,
        disk: Arc::new(Careless {
            skips_data: plant == Some("relies-on-sync-file-range"),
            skips_folder: plant == Some("store-folder-not-synced"),
        }),
        bounds: Bounds {
            requests: 40,
            changes: 60,
        },
        ..Options::default()
    }
}

fn open(dir: &Path, plant: Option<&str>) -> Result<Sled> {
    let store = Sled::open(dir.join("store"), options(plant))?;
    #[cfg(feature = "planted-bugs")]
    store.plant(match plant {
        Some("acknowledge-before-durable") => {
            Some(ringward_store::PlantedBug::AcknowledgeBeforeDurable)
        }
        Some("request-ids-forgotten") => Some(ringward_store::PlantedBug::RequestIdsForgotten),
        _ => None,
    });
    Ok(store)
}

/// The n-th commit: some hosts written and deleted, one audit entry, signals; now and then values of
/// many pages.
fn commit(seed: u64, n: u64) -> Batch {
    let mut random = fastrand::Rng::with_seed(seed.wrapping_mul(1_000_003).wrapping_add(n));
    let host = |id: u8| Key {
        kind: "host",
        id: vec![id],
    };
    let puts = if n % 7 == 3 { 20 } else { random.u64(0..5) };
    let longest = if n.is_multiple_of(5) { 9_000 } else { 300 };
    Batch {
        request_id: {
            let mut id = [0xaa; 16];
            id[..8].copy_from_slice(&n.to_be_bytes());
            id
        },
        puts: (0..puts)
            .map(|_| {
                (
                    host(random.u8(0..30)),
                    vec![n as u8; random.usize(0..longest)],
                )
            })
            .collect(),
        deletes: (0..random.u64(0..3))
            .map(|_| host(random.u8(0..30)))
            .collect(),
        audit: vec![n.to_string().into_bytes()],
        signals: (0..random.u64(0..4))
            .map(|seq| (random.u64(0..9), n * 4 + seq, vec![n as u8; 100]))
            .collect(),
        ..Batch::default()
    }
}

fn wait<T>(work: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(2)
        .build()?;
    Ok(runtime.block_on(work))
}

/// The recorded side: commits one after the other, says what is acknowledged.
///
/// # Errors
/// The store fails, which it must not.
pub fn workload(dir: &Path, steps: u64, seed: u64, plant: Option<&str>) -> Result<()> {
    let mut store = None;
    let work = async {
        for n in 1..=steps {
            if n % REOPEN_EVERY == 1 {
                store = None;
            }
            let store = match &mut store {
                Some(store) => store,
                none => none.insert(open(dir, plant)?),
            };
            println!("begin {n}");
            match store.commit(commit(seed, n)).await? {
                Committed::Ok(seq) if seq == n => println!("done {n}"),
                other => bail!("commit {n} was answered {other:?}"),
            }
        }
        Ok(())
    };
    wait(work)?
}

/// Whether the store opens and holds all that was acknowledged, and whole commits only.
///
/// # Errors
/// What is wrong.
pub fn check(dir: &Path, seed: u64, told: Told, plant: Option<&str>) -> Result<()> {
    let store = open(dir, plant).context("it does not open")?;
    wait(look(&store, seed, told))?
}

async fn look(store: &Sled, seed: u64, told: Told) -> Result<()> {
    let audit = store.audit(0, 100_000).await?;
    let there = audit.len() as u64;
    if there < told.done || there > told.begun {
        bail!("{there} commits are there");
    }
    let (mut hosts, mut signals) = (BTreeMap::new(), BTreeMap::new());
    for (n, entry) in (1..=there).zip(&audit) {
        if entry.index != n - 1 || entry.entry != n.to_string().as_bytes() {
            bail!("audit entry {} stands in place {n}", entry.index);
        }
        let made = commit(seed, n);
        hosts.extend(made.puts);
        for key in &made.deletes {
            hosts.remove(key);
        }
        for (host, seq, value) in made.signals {
            signals.insert((host, seq), value);
        }
    }
    let listed = store.list("host", None, 1000).await?;
    let listed: BTreeMap<_, _> = listed.into_iter().map(|(k, v)| (k, v.value)).collect();
    if listed != hosts {
        bail!("the hosts are not those of {there} commits");
    }
    let stored = store.signals(None, None, 100_000).await?;
    let stored: BTreeMap<_, _> = stored
        .into_iter()
        .map(|s| ((s.host, s.seq), s.value))
        .collect();
    if stored != signals {
        bail!("the signals are not those of {there} commits");
    }
    // Whoever was not answered asks again: what was done is not done twice, and the store goes on.
    for n in there.max(1)..=there + 1 {
        match store.commit(commit(seed, n)).await? {
            Committed::Ok(seq) if seq == n => {}
            other => bail!("commit {n} asked again was answered {other:?}"),
        }
    }
    Ok(())
}
