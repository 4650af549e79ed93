//! A disk that can fail, wait, lie and forget: after a crash only what was synced is there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard};

use ringward_store::Disk;
use tempfile::TempDir;
use tokio::sync::watch;

/// Files by their path below the store's folder.
pub type Image = BTreeMap<PathBuf, Vec<u8>>;

#[derive(Debug)]
struct State {
    free_bytes: u64,
    failing: bool,
    lying: bool,
    gate_closed: bool,
    durable: Image,
}

/// The disk. Everything goes to the real folder; `durable` is what a crash leaves.
#[derive(Debug)]
pub struct TestDisk {
    folder: PathBuf,
    state: Mutex<State>,
    opened: Condvar,
    waiting: watch::Sender<bool>,
}

impl TestDisk {
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            state: Mutex::new(State {
                free_bytes: u64::MAX,
                failing: false,
                lying: false,
                gate_closed: false,
                durable: Image::new(),
            }),
            opened: Condvar::new(),
            waiting: watch::Sender::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn set_free(&self, bytes: u64) {
        self.state().free_bytes = bytes;
    }

    /// Syncs of the database fail from now on, or no longer.
    pub fn set_failing(&self, failing: bool) {
        self.state().failing = failing;
    }

    /// Syncs of the database succeed without effect.
    pub fn set_lying(&self, lying: bool) {
        self.state().lying = lying;
    }

    /// Syncs of the database wait until the gate is dropped.
    pub fn close_gate(&self) -> Gate<'_> {
        self.state().gate_closed = true;
        Gate(self)
    }

    /// Resolves once a sync waits at the gate.
    pub async fn at_gate(&self) {
        let mut waiting = self.waiting.subscribe();
        waiting.wait_for(|waiting| *waiting).await.unwrap();
    }

    /// What a crash now would leave.
    pub fn durable(&self) -> Image {
        self.state().durable.clone()
    }

    /// What is written, durable or not.
    pub fn written(&self) -> Image {
        image(&self.folder)
    }
}

/// Opens when dropped, by a failing test too: a store waits for its writer when it is dropped.
pub struct Gate<'a>(&'a TestDisk);

impl Drop for Gate<'_> {
    fn drop(&mut self) {
        self.0.state().gate_closed = false;
        self.0.opened.notify_all();
    }
}

impl Disk for TestDisk {
    fn sync_data(&self, file: &File, path: &Path) -> io::Result<()> {
        if path.file_name().is_none_or(|name| name != "db") {
            return file.sync_data();
        }
        let mut state = self.state();
        while state.gate_closed {
            self.waiting.send_replace(true);
            state = self.opened.wait(state).unwrap();
        }
        self.waiting.send_replace(false);
        if state.failing {
            return Err(io::Error::other("planted: the device does not answer"));
        }
        if !state.lying {
            state.durable = image(&self.folder);
        }
        Ok(())
    }

    fn sync_folder(&self, _folder: &Path) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self, _folder: &Path) -> io::Result<u64> {
        Ok(self.state().free_bytes)
    }
}

/// Reads a folder; the lock file is no part of it.
pub fn image(folder: &Path) -> Image {
    let mut image = Image::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().to_owned();
            if path.is_dir() {
                folders.push(path);
            } else if name != Path::new("lock") {
                // A file sled removes meanwhile is gone, as it may be after a crash.
                if let Ok(bytes) = fs::read(&path) {
                    image.insert(name, bytes);
                }
            }
        }
    }
    image
}

/// Lays an image down in a folder of its own.
pub fn lay_down(image: &Image) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in image {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    fs::create_dir_all(dir.path().join("blobs")).unwrap();
    dir
}

/// Numbers from a seed (splitmix64).
#[derive(Debug, Clone)]
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A crash in which of the unsynced writes to `db` any sectors may have arrived, the file's length
/// being anywhere between.
pub fn torn(durable: &Image, written: &Image, numbers: &mut Numbers) -> Image {
    const SECTOR: usize = 512;
    let mut torn = durable.clone();
    let db = Path::new("db");
    let (old, new) = (&durable[db], &written[db]);
    let shorter = old.len().min(new.len());
    let longer = old.len().max(new.len()) - shorter;
    let len = shorter + numbers.below(longer as u64 + 1) as usize;
    let mut bytes = old.clone();
    bytes.resize(len, 0);
    let chance = 1 + numbers.below(15);
    for (at, sector) in bytes.chunks_mut(SECTOR).enumerate() {
        let new = new.get(at * SECTOR..).unwrap_or_default();
        let arrives = numbers.below(16) < chance;
        let len = sector.len().min(new.len());
        if arrives {
            sector[..len].copy_from_slice(&new[..len]);
        }
    }
    torn.insert(db.to_owned(), bytes);
    torn
}
