//! What an agent has done, for people and for checks from outside.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

const FILE: &str = "signals-told";

/// Counters of one agent over all its boots in this state folder.
#[derive(Debug, Default)]
pub struct Counters {
    signals_told: AtomicU64,
    signals_dropped: AtomicU64,
    spool_damaged: AtomicU64,
    sessions: AtomicU64,
    connected: AtomicBool,
    file: Mutex<Option<File>>,
}

impl Counters {
    /// Counters that go on where the file in the state folder says, and keep it up to date: twenty
    /// digits written in place, so that a killed process loses no count. Not synced: after a power
    /// cut the file may be behind.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        let path = state_dir.join(FILE);
        let told = told_so_far(state_dir);
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .open(path)?;
        let counters = Self::default();
        counters.signals_told.store(told, Relaxed);
        *counters.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        Ok(counters)
    }

    /// A signal is about to go into the spool.
    pub(crate) fn signal_told(&self) {
        self.signals_told.fetch_add(1, Relaxed);
        self.write();
    }

    /// It did not get in, and comes again.
    pub(crate) fn signal_untold(&self) {
        self.signals_told.fetch_sub(1, Relaxed);
        self.write();
    }

    fn write(&self) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = file.as_mut() {
            let text = format!("{:020}\n", self.signals_told());
            let written = file
                .seek(SeekFrom::Start(0))
                .and_then(|_| file.write_all(text.as_bytes()));
            if let Err(error) = written {
                tracing::debug!(%error, "the count of signals is not kept");
            }
        }
    }

    pub(crate) fn set_losses(&self, dropped: u64, damaged: u64) {
        self.signals_dropped.store(dropped, Relaxed);
        self.spool_damaged.store(damaged, Relaxed);
    }

    pub(crate) fn session_up(&self) {
        self.sessions.fetch_add(1, Relaxed);
        self.connected.store(true, Relaxed);
    }

    pub(crate) fn session_down(&self) {
        self.connected.store(false, Relaxed);
    }

    /// Signals counted before they went into the spool, each once.
    #[must_use]
    pub fn signals_told(&self) -> u64 {
        self.signals_told.load(Relaxed)
    }

    /// Signals dropped from a full spool since the start.
    #[must_use]
    pub fn signals_dropped(&self) -> u64 {
        self.signals_dropped.load(Relaxed)
    }

    /// Damaged places found in the spool at the start.
    #[must_use]
    pub fn spool_damaged(&self) -> u64 {
        self.spool_damaged.load(Relaxed)
    }

    /// Sessions opened since the start.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.sessions.load(Relaxed)
    }

    /// Whether a session stands.
    #[must_use]
    pub fn connected(&self) -> bool {
        self.connected.load(Relaxed)
    }
}

/// The count of signals kept in a state folder; zero without one.
#[must_use]
pub fn told_so_far(state_dir: &Path) -> u64 {
    std::fs::read_to_string(state_dir.join(FILE))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_count_goes_on_after_a_restart() {
        let root = tempfile::tempdir().unwrap();
        let counters = Counters::open(root.path()).unwrap();
        for _ in 0..3 {
            counters.signal_told();
        }
        counters.signal_untold();
        assert_eq!(Counters::open(root.path()).unwrap().signals_told(), 2);
        assert_eq!(told_so_far(root.path()), 2);
    }
}
