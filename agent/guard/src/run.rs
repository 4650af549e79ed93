//! One run of the guard: read, decide, write, act, say it in one line.

use crate::codec::LedgerFile;
use crate::decide::{BootLoader, GuardAction, decide};
use crate::error::GuardError;
use crate::files::Files;
use crate::slots::Slots;
use crate::store::LedgerStore;
use ringward_domain::BootId;
use std::fmt;
use std::path::Path;

/// What the guard did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Did {
    /// Nothing is on trial on this host.
    NothingOnTrial,
    /// This boot was noted before.
    NotedBefore,
    /// Noted this boot of a trial as bad until proven; so many bad boots before it.
    Noted {
        /// Unmarked boots, this one included.
        unproven_boots: usize,
    },
    /// Went back, or finished going back.
    WentBack {
        /// The package.
        package: String,
        /// The version it runs again; `None` = nothing.
        to: Option<String>,
    },
}

impl fmt::Display for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingOnTrial => f.write_str("nothing is on trial"),
            Self::NotedBefore => f.write_str("this boot was noted before"),
            Self::Noted { unproven_boots } => {
                write!(f, "a release is on trial: {unproven_boots} unproven boots")
            }
            Self::WentBack {
                package,
                to: Some(to),
            } => write!(f, "{package} went back to {to}"),
            Self::WentBack { package, to: None } => {
                write!(f, "{package} was removed: it ran nothing before")
            }
        }
    }
}

/// Reads the ledger, decides, writes, acts.
///
/// # Errors
/// When the ledger or a slot cannot be read or written; see [`GuardError`].
pub fn run<F: Files + Clone>(
    files: F,
    root: &Path,
    boot: BootId,
    loader: BootLoader,
) -> Result<Did, GuardError> {
    let store = LedgerStore::new(files.clone(), root);
    let slots = Slots::new(files, root);
    let Some(LedgerFile { ledger, kept }) = store.read()? else {
        return Ok(Did::NothingOnTrial);
    };
    match decide(&ledger, boot, loader) {
        GuardAction::Nothing => Ok(Did::NothingOnTrial),
        GuardAction::AlreadyNoted => Ok(Did::NotedBefore),
        GuardAction::NoteBoot(noted) => {
            let boots = noted.attempt.iter().flat_map(|attempt| &attempt.boots);
            let unproven_boots = boots.filter(|boot| !boot.healthy).count();
            let ledger = *noted;
            store.write(&LedgerFile { ledger, kept })?;
            Ok(Did::Noted { unproven_boots })
        }
        GuardAction::GoBack {
            ledger,
            package,
            to,
        } => {
            let ledger = *ledger;
            store.write(&LedgerFile { ledger, kept })?;
            slots.revert(&package, to.as_ref())?;
            Ok(went_back(&package, to))
        }
        GuardAction::FinishGoingBack { package, left, to } => {
            if slots.running(&package)? != Some(left) {
                return Ok(Did::NothingOnTrial);
            }
            slots.revert(&package, to.as_ref())?;
            Ok(went_back(&package, to))
        }
    }
}

fn went_back(
    package: &ringward_domain::PackageName,
    to: Option<ringward_domain::ledger::Installed>,
) -> Did {
    Did::WentBack {
        package: package.to_string(),
        to: to.map(|to| to.version.to_string()),
    }
}
