//! The agent's workload over its real files: ledger, slots and spool; and what must be there after a
//! cut.

use crate::replay::Told;
use anyhow::{Context, Result, bail};
use ringward_agent::spool::{self, DiskFiles, Spool};
use ringward_domain::ledger::{Installed, Ledger};
use ringward_domain::signal::{Signal, SignalKind};
use ringward_domain::{BootId, Epoch, Generation, Millis, PackageName, ReleaseDigest, SignalSeq};
use ringward_guard::{Files, LedgerFile, LedgerStore, Slots, SystemFiles};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// What one step does; the steps go round.
const ROUND: u64 = 8;
/// Signals the server has seen lag so far behind those made.
const UNACKNOWLEDGED: u64 = 12;
/// Bytes that the spool may take, far more than the workload's.
const SPOOL_BYTES: u64 = 1 << 20;

/// The machine's files, with syncs left out where a planted bug leaves them out.
#[derive(Debug, Clone)]
struct Careless(Option<String>);

impl Careless {
    fn forgets(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match self.0.as_deref() {
            Some("ledger-not-synced") => name == "ledger.new",
            Some("ledger-folder-not-synced") => name == "root",
            Some("slot-files-not-synced") => name.starts_with("file-"),
            Some("slot-folder-not-synced") => name == "demo",
            Some("slot-tree-not-synced") => name.starts_with("tree-") || name == "bin",
            _ => false,
        }
    }
}

impl Files for Careless {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        SystemFiles.read(path)
    }
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if self.0.as_deref() == Some("ledger-written-in-place") && path.ends_with("ledger.new") {
            // Found by its name: the old content is gone before the new one is there.
            SystemFiles.write(&path.with_file_name("ledger"), bytes)?;
        }
        SystemFiles.write(path, bytes)
    }
    fn sync(&self, path: &Path) -> io::Result<()> {
        match self.forgets(path) {
            true => Ok(()),
            false => SystemFiles.sync(path),
        }
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.0.as_deref() == Some("slot-removed-before-switch") && to.ends_with("current") {
            SystemFiles.remove(to)?;
        }
        SystemFiles.rename(from, to)
    }
    fn link(&self, target: &Path, link: &Path) -> io::Result<()> {
        SystemFiles.link(target, link)
    }
    fn link_target(&self, link: &Path) -> io::Result<Option<PathBuf>> {
        SystemFiles.link_target(link)
    }
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        SystemFiles.create_folder(path)
    }
    fn is_folder(&self, path: &Path) -> io::Result<bool> {
        SystemFiles.is_folder(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        SystemFiles.list(path)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        SystemFiles.remove(path)
    }
    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        SystemFiles.remove_tree(path)
    }
}

/// The spool's files, with syncs left out where a planted bug leaves them out.
struct CarelessSpool(DiskFiles, Option<String>);

impl spool::Files for CarelessSpool {
    fn list(&self) -> io::Result<Vec<u64>> {
        self.0.list()
    }
    fn read(&self, number: u64) -> io::Result<Vec<u8>> {
        self.0.read(number)
    }
    fn append(&mut self, number: u64, bytes: &[u8], sync: bool) -> io::Result<()> {
        let sync = sync && self.1.as_deref() != Some("spool-not-synced");
        self.0.append(number, bytes, sync)
    }
    fn replace(&mut self, number: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.replace(number, bytes)
    }
    fn sync_folder(&mut self) -> io::Result<()> {
        match self.1.as_deref() == Some("spool-folder-not-synced") {
            true => Ok(()),
            false => self.0.sync_folder(),
        }
    }
    fn remove(&mut self, number: u64) -> io::Result<()> {
        self.0.remove(number)
    }
}

fn package() -> Result<PackageName> {
    Ok("demo".parse()?)
}

fn release(n: u64) -> Result<Installed> {
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&n.to_be_bytes());
    Ok(Installed {
        release: ReleaseDigest(digest),
        version: format!("1.{n}").parse()?,
    })
}

/// The ledger after its n-th write; its length differs from write to write.
fn ledger(n: u64) -> Result<LedgerFile> {
    let known = ringward_domain::ledger::PackageLedger {
        committed: Some(release(n / ROUND)?),
        history: Vec::new(),
    };
    Ok(LedgerFile {
        ledger: Ledger {
            accepted: (Epoch(1), Generation(n)),
            bars: (0..n % 5).map(|i| ReleaseDigest([i as u8; 32])).collect(),
            packages: [(package()?, known)].into(),
            ..Ledger::default()
        },
        kept: Vec::new(),
    })
}

fn files_of(n: u64) -> Vec<(String, Vec<u8>)> {
    let longest = 5_000 + (n as usize % 3) * 2_000;
    vec![
        ("file-a".to_owned(), vec![n as u8; 100]),
        ("bin/file-b".to_owned(), vec![n as u8; longest]),
        ("bin/file-c".to_owned(), vec![n as u8; 700]),
    ]
}

fn signal(seq: u64) -> Signal {
    Signal {
        seq: SignalSeq(seq),
        kind: SignalKind::Bugcheck,
        key: format!("unit:{seq}"),
        boot: BootId([1; 16]),
        at_boottime: Millis(seq),
        release: None,
        title: "x".repeat(seq as usize % 400),
        signature: String::new(),
        evidence: String::new(),
    }
}

fn stage(dir: &Path, n: u64) -> Result<PathBuf> {
    let staged = dir.join("staging").join(format!("tree-{n}"));
    std::fs::create_dir_all(staged.join("bin"))?;
    for (name, bytes) in files_of(n) {
        std::fs::write(staged.join(name), bytes)?;
    }
    Ok(staged)
}

/// Signals that are in the spool after this step, and how many of them the server has.
fn signals_after(step: u64) -> (u64, u64) {
    let made = (1..=step).filter(|step| step % ROUND >= 4).count() as u64;
    let known = made.saturating_sub(UNACKNOWLEDGED);
    (made, known)
}

/// The recorded side. Of a round's steps one installs, one switches, one prunes, one writes the ledger,
/// the others append to the spool.
///
/// # Errors
/// A file operation fails, which it must not.
pub fn workload(dir: &Path, steps: u64, _seed: u64, plant: Option<&str>) -> Result<()> {
    let files = Careless(plant.map(str::to_owned));
    let (slots, ledgers) = (
        Slots::new(files.clone(), dir),
        LedgerStore::new(files.clone(), dir),
    );
    let disk = DiskFiles::new(&dir.join("spool"))?;
    let mut spool = Spool::open(CarelessSpool(disk, plant.map(str::to_owned)), SPOOL_BYTES)?;
    for step in 1..=steps {
        println!("begin {step}");
        let n = step / ROUND;
        match step % ROUND {
            0 => {
                let staged = stage(dir, n)?;
                slots.install_tree(&package()?, &release(n)?, &staged, b"{}")?;
            }
            1 if n > 0 => slots.switch(&package()?, &release(n)?)?,
            2 if n > 0 => slots.prune(&package()?, &ledger(step)?.ledger)?,
            1..=3 => ledgers.write(&ledger(step)?)?,
            _ => {
                let (made, known) = signals_after(step);
                spool.append(&signal(made))?;
                spool.acknowledge(SignalSeq(known))?;
            }
        }
        println!("done {step}");
    }
    Ok(())
}

/// Whether spool, ledger and slots hold what was done, and nothing in part.
///
/// # Errors
/// What is wrong.
pub fn check(dir: &Path, _seed: u64, told: Told) -> Result<()> {
    check_spool(dir, told)?;
    check_ledger(dir, told)?;
    check_slots(dir, told)
}

fn check_spool(dir: &Path, told: Told) -> Result<()> {
    let mut spool = Spool::open(DiskFiles::new(&dir.join("spool"))?, SPOOL_BYTES)
        .context("the spool does not open")?;
    let found: Vec<u64> = spool
        .read(SignalSeq(1), 10_000)?
        .iter()
        .map(|signal| signal.seq.0)
        .collect();
    let (done, _) = signals_after(told.done);
    let (begun, known) = signals_after(told.begun);
    let expected: Vec<u64> = (known + 1..=done).collect();
    let there: Vec<u64> = found
        .iter()
        .copied()
        .filter(|seq| *seq > known && *seq <= done)
        .collect();
    if there != expected {
        bail!("the spool holds {there:?}, {expected:?} were durable and not given up");
    }
    if let Some(wrong) = found.iter().find(|seq| **seq > begun) {
        bail!("the spool holds {wrong}, which was never made");
    }
    let next = spool.range().1.0;
    if next <= done {
        bail!("the spool gives number {next} out again");
    }
    Ok(())
}

/// The newest ledger write at or before a step.
fn ledger_at(step: u64) -> Option<u64> {
    (1..=step)
        .rev()
        .find(|step| matches!((step % ROUND, step / ROUND), (1 | 2, 0) | (3, _)))
}

fn check_ledger(dir: &Path, told: Told) -> Result<()> {
    let found = LedgerStore::new(SystemFiles, dir)
        .read()
        .context("the ledger cannot be read")?;
    let allowed = [ledger_at(told.done), ledger_at(told.begun)];
    for step in allowed {
        if found == step.map(ledger).transpose()? {
            return Ok(());
        }
    }
    let accepted = found.map(|file| file.ledger.accepted);
    bail!("the ledger is {accepted:?}, neither of {allowed:?}")
}

/// The release current after a step.
fn current_at(step: u64) -> Option<u64> {
    (1..=step)
        .rev()
        .find(|step| step % ROUND == 1 && step / ROUND > 0)
        .map(|step| step / ROUND)
}

fn check_slots(dir: &Path, told: Told) -> Result<()> {
    let slots = Slots::new(SystemFiles, dir);
    let found = slots.running(&package()?)?;
    let allowed = [current_at(told.done), current_at(told.begun)];
    let mut current = None;
    for n in allowed {
        let named = n.map(release).transpose()?.map(|known| known.release);
        if named == found {
            current = Some(n);
        }
    }
    let Some(current) = current else {
        bail!("the current slot holds {found:?}, neither of {allowed:?}");
    };
    // Every slot that exists is whole, the current one among them.
    for n in (0..=told.begun / ROUND).chain(current) {
        if !slots.has(&package()?, &release(n)?.release)? {
            continue;
        }
        let tree = slots.tree(&package()?, &release(n)?.release);
        for (name, bytes) in files_of(n) {
            if SystemFiles.read(&tree.join(&name))?.as_ref() != Some(&bytes) {
                bail!("{name} of release {n} is not whole");
            }
        }
    }
    Ok(())
}
