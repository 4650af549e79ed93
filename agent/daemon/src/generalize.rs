//! Making a machine an image: what makes this host this host goes, what it runs stays.

use crate::identity;
use ringward_domain::ledger::{AttemptPhase, Ledger};
use ringward_guard::{GuardError, LedgerFile, LedgerStore, SystemFiles};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// What belongs to one host alone, in the order in which it goes: without its identity nothing else
/// of a half-done work can speak for the host any more.
const OWN: [&str; 7] = [
    "identity/host.toml",
    "identity",
    "audit-head.json",
    "spool",
    "staging",
    "signals-told",
    "release-root.json",
];

/// Why a machine was not made an image.
#[derive(Debug, thiserror::Error)]
pub enum GeneralizeError {
    /// A release is on trial.
    #[error(
        "a release is on trial on this host ({phase:?}): an image of it would never prove it; wait \
         until it is committed, or take it back with `ringward-agent rescue --revert`"
    )]
    OnTrial {
        /// How far it got.
        phase: AttemptPhase,
    },
    /// The ledger cannot be read or written.
    #[error("the ledger")]
    Ledger(#[from] GuardError),
    /// Something cannot be removed.
    #[error("removing {path}; stop the agent, check the state folder's owner, then run it again")]
    Remove {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Removes from a state folder what makes this host this host. The slots and what is committed in
/// them stay, so that the image's hosts begin with it as their proven release.
///
/// # Errors
/// A release is on trial (then nothing was touched), or something cannot be removed.
pub fn generalize(state_dir: &Path) -> Result<(), GeneralizeError> {
    let store = LedgerStore::new(SystemFiles, state_dir);
    let file = store.read()?;
    let attempt = file.as_ref().and_then(|file| file.ledger.attempt.as_ref());
    if let Some(attempt) = attempt
        && matches!(attempt.phase, AttemptPhase::Switching | AttemptPhase::Trial)
    {
        return Err(GeneralizeError::OnTrial {
            phase: attempt.phase,
        });
    }
    for name in OWN {
        remove(&state_dir.join(name))?;
    }
    if let Some(file) = file {
        store.write(&LedgerFile {
            ledger: Ledger {
                packages: file.ledger.packages,
                ..Ledger::default()
            },
            kept: file.kept,
        })?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), GeneralizeError> {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(source) if source.kind() != ErrorKind::NotFound => Err(GeneralizeError::Remove {
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

/// Whether a state folder belongs to one host.
#[must_use]
pub fn is_general(state_dir: &Path) -> bool {
    !identity::exists(state_dir)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ringward_domain::ledger::{Attempt, Installed, PackageLedger};
    use ringward_domain::{
        AssignmentKind, BootId, Epoch, Generation, Millis, Nonce, ReleaseDigest, RolloutId,
    };

    fn installed() -> Installed {
        Installed {
            release: ReleaseDigest([1; 32]),
            version: "1.0".parse().unwrap(),
        }
    }

    fn state_folder(phase: AttemptPhase) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for folder in ["identity", "spool", "staging", "slots/demo"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        for file in [
            "identity/host.toml",
            "identity/key.pem",
            "audit-head.json",
            "spool/1",
            "slots/demo/tool",
        ] {
            std::fs::write(root.path().join(file), "x").unwrap();
        }
        let committed = PackageLedger {
            committed: Some(installed()),
            history: Vec::new(),
        };
        let ledger = Ledger {
            accepted: (Epoch(3), Generation(9)),
            packages: [("demo".parse().unwrap(), committed)].into(),
            attempt: Some(Attempt {
                nonce: Nonce([1; 16]),
                rollout: RolloutId(1),
                kind: AssignmentKind::Install,
                package: "demo".parse().unwrap(),
                to: installed(),
                from: None,
                boot_required: false,
                soak: Millis(1),
                switched_in: BootId([1; 16]),
                boots: Vec::new(),
                phase,
            }),
            burned: vec![Nonce([2; 16])],
            bars: [ReleaseDigest([9; 32])].into(),
        };
        let store = LedgerStore::new(SystemFiles, root.path());
        store
            .write(&LedgerFile {
                ledger,
                kept: Vec::new(),
            })
            .unwrap();
        root
    }

    #[test]
    fn an_image_keeps_what_it_runs_and_nothing_of_who_it_was() {
        let root = state_folder(AttemptPhase::Committed);
        assert!(!is_general(root.path()));
        generalize(root.path()).unwrap();
        assert!(is_general(root.path()));
        for gone in ["identity", "spool", "staging", "audit-head.json"] {
            assert!(!root.path().join(gone).exists(), "{gone}");
        }
        assert!(root.path().join("slots/demo/tool").exists());
        let store = LedgerStore::new(SystemFiles, root.path());
        let ledger = store.read().unwrap().unwrap().ledger;
        assert_eq!(
            ledger.packages[&"demo".parse().unwrap()].committed,
            Some(installed())
        );
        assert_eq!(ledger.accepted, (Epoch(0), Generation(0)));
        assert!(ledger.attempt.is_none() && ledger.burned.is_empty() && ledger.bars.is_empty());
        generalize(root.path()).unwrap();
    }

    #[test]
    fn a_host_with_a_release_on_trial_is_left_as_it_is() {
        for phase in [AttemptPhase::Switching, AttemptPhase::Trial] {
            let root = state_folder(phase);
            let error = generalize(root.path()).unwrap_err().to_string();
            assert!(error.contains("on trial"), "{error}");
            assert!(!is_general(root.path()));
        }
    }
}
