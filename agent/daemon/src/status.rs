//! What an agent's state folder tells, read without touching it.

use crate::counters;
use crate::identity::{self, HostFile};
use crate::link::chain;
use crate::spool::{DiskFiles, Spool};
use ringward_domain::PackageName;
use ringward_domain::ledger::Ledger;
use ringward_domain::observed::PackageObserved;
use ringward_guard::{LedgerStore, Slots, SystemFiles};
use serde::Serialize;
use std::fmt;
use std::path::Path;
use std::time::UNIX_EPOCH;

/// One look at a state folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The host's id, where it is enrolled.
    pub host: Option<String>,
    /// Its servers.
    pub servers: Vec<String>,
    /// End of its certificate, Unix seconds.
    pub certificate_until_unix_s: Option<u64>,
    /// What each package runs, from the slots, and what is committed, from the ledger.
    pub packages: Vec<PackageObserved>,
    /// The ledger; absent where it cannot be read.
    pub ledger: Option<Ledger>,
    /// Signals told over the life of this state folder.
    pub signals_told: u64,
    /// Signals in the spool that the server is not known to have.
    pub signals_waiting: u64,
    /// What cannot be read, in words.
    pub problems: Vec<String>,
}

/// Look at a state folder.
#[must_use]
pub fn look(state_dir: &Path) -> Status {
    let mut problems = Vec::new();
    let mut note = |error: &dyn std::error::Error| problems.push(chain(error));
    let host = HostFile::load(state_dir).map_err(|error| note(&error)).ok();
    let until = identity::validity(state_dir).ok().map(|(_, until)| until);
    let ledger = match LedgerStore::new(SystemFiles, state_dir).read() {
        Ok(file) => Some(file.unwrap_or_default().ledger),
        Err(error) => {
            note(&error);
            None
        }
    };
    let slots = Slots::new(SystemFiles, state_dir);
    let packages = slots
        .inspect(&ledger.clone().unwrap_or_default())
        .map_err(|error| note(&error))
        .unwrap_or_default();
    Status {
        servers: host
            .as_ref()
            .map(|host| host.servers.clone())
            .unwrap_or_default(),
        host: host.map(|host| host.host.to_string()),
        certificate_until_unix_s: until
            .and_then(|until| until.duration_since(UNIX_EPOCH).ok())
            .map(|since| since.as_secs()),
        packages,
        ledger,
        signals_told: counters::told_so_far(state_dir),
        signals_waiting: waiting(state_dir),
        problems,
    }
}

fn waiting(state_dir: &Path) -> u64 {
    let folder = state_dir.join("spool");
    if !folder.is_dir() {
        return 0;
    }
    let spool = DiskFiles::new(&folder)
        .ok()
        .and_then(|files| Spool::open(files, u64::MAX).ok());
    spool.map_or(0, |mut spool| {
        let from = spool.range().0;
        spool
            .read(from, usize::MAX)
            .map_or(0, |found| found.len() as u64)
    })
}

/// The version a package's current slot holds, read from the slot itself.
#[must_use]
pub fn running_version(state_dir: &Path, package: &PackageName) -> Option<String> {
    let slots = Slots::new(SystemFiles, state_dir);
    let found = slots.inspect(&Ledger::default()).ok()?;
    let package = found.into_iter().find(|found| found.package == *package)?;
    package.running_version.map(|version| version.to_string())
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.as_deref().unwrap_or("not enrolled");
        writeln!(f, "host      {host}")?;
        writeln!(f, "servers   {}", self.servers.join(", "))?;
        for package in &self.packages {
            let running = package.running_version.as_ref().map(ToString::to_string);
            let committed = package.committed_version.as_ref().map(ToString::to_string);
            writeln!(
                f,
                "package   {} runs {}, proven {}",
                package.package,
                running.as_deref().unwrap_or("nothing"),
                committed.as_deref().unwrap_or("nothing"),
            )?;
        }
        if let Some(attempt) = self
            .ledger
            .as_ref()
            .and_then(|ledger| ledger.attempt.as_ref())
        {
            writeln!(
                f,
                "attempt   {} {}: {:?}",
                attempt.package, attempt.to.version, attempt.phase
            )?;
        }
        writeln!(
            f,
            "signals   {} told, {} not known to be at the server",
            self.signals_told, self.signals_waiting
        )?;
        for problem in &self.problems {
            writeln!(f, "problem   {problem}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn looking_at_an_empty_folder_says_so_and_leaves_it_empty() {
        let root = tempfile::tempdir().unwrap();
        let status = look(root.path());
        assert_eq!(status.host, None);
        assert!(
            status.problems[0].contains("enroll"),
            "{:?}",
            status.problems
        );
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
        assert!(status.to_string().contains("not enrolled"));
    }
}
