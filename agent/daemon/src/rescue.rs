//! `ringward-agent rescue`: takes a host back with files alone, from an initramfs, a live medium or
//! another system that mounted its disk. No service, network or identity is needed.

use crate::config::{ConfigError, File};
use ringward_agent_os::machine::places;
use ringward_domain::ledger::{AttemptPhase, Installed, Ledger};
use ringward_domain::observed::PackageObserved;
use ringward_guard::{
    GuardAction, GuardError, LedgerFile, LedgerStore, Slots, SystemFiles, rescue, staged,
};
use std::fmt;
use std::path::{Component, Path, PathBuf};

/// Why the host was not rescued. Nothing is half done.
#[derive(Debug, thiserror::Error)]
pub enum RescueError {
    /// The settings of the foreign root are unusable.
    #[error(transparent)]
    Settings(#[from] ConfigError),
    /// There is no agent's state.
    #[error(
        "{path} holds no state of an agent (no ledger, no slots): mount the disk that does, and name \
         its root, or the state folder itself"
    )]
    NoState {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The state folder lies behind a link that leads out of the root.
    #[error(
        "{path} leads to {real}, outside of the root: name the state folder of the host to rescue"
    )]
    Outside {
        /// As named.
        path: PathBuf,
        /// Where it leads.
        real: PathBuf,
    },
    /// A path cannot be looked at.
    #[error("looking at {path}: mount it and name it anew")]
    Unreachable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Ledger or slots.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// Nothing to go back from.
    #[error("nothing is on trial, nothing was changed{hint}")]
    NothingOnTrial {
        /// What else could be meant.
        hint: &'static str,
    },
}

/// What a host's disk says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    /// The agent's state folder.
    pub state_dir: PathBuf,
    /// What each package runs.
    pub packages: Vec<PackageObserved>,
    /// The ledger.
    pub ledger: Ledger,
}

/// What a rescue did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WentBack {
    /// The package.
    pub package: String,
    /// What was left.
    pub left: String,
    /// What it runs again; `None` = nothing.
    pub to: Option<String>,
    /// The release is a package of the system's own installer (deb, rpm, msi), which does not run here:
    /// the system still has what was left, until the agent starts in a usual boot.
    pub still_installed: bool,
}

/// The state folder under `root`: `root` itself, or where its settings say, or the default.
///
/// # Errors
/// There is none, or it leads out of `root`.
pub fn state_dir(root: &Path) -> Result<PathBuf, RescueError> {
    if holds_state(root) {
        return Ok(root.to_owned());
    }
    let settings = root.join(places::SETTINGS_IN_ROOT);
    let settings = match settings.exists() {
        true => File::read(&settings)?,
        false => File::default(),
    };
    let named = settings.merge(None).validate()?.state_dir;
    // Without the host's own root: its slash, or the letter that its volume had there.
    let beneath = named
        .components()
        .filter(|part| matches!(part, Component::Normal(_)));
    let path = root.join(beneath.collect::<PathBuf>());
    let real = |path: &Path| {
        path.canonicalize()
            .map_err(|source| RescueError::Unreachable {
                path: path.to_owned(),
                source,
            })
    };
    if !path.exists() || !holds_state(&path) {
        return Err(RescueError::NoState { path });
    }
    let (real_root, real_path) = (real(root)?, real(&path)?);
    match real_path.starts_with(&real_root) {
        true => Ok(real_path),
        false => Err(RescueError::Outside {
            path,
            real: real_path,
        }),
    }
}

fn holds_state(path: &Path) -> bool {
    path.join("ledger").is_file() || path.join("slots").is_dir()
}

/// Looks, without changing anything.
///
/// # Errors
/// No state, or an unreadable one.
pub fn list(root: &Path) -> Result<Overview, RescueError> {
    let state_dir = state_dir(root)?;
    let file = LedgerStore::new(SystemFiles, &state_dir).read()?;
    let ledger = file.unwrap_or_default().ledger;
    let packages = Slots::new(SystemFiles, &state_dir).inspect(&ledger)?;
    Ok(Overview {
        state_dir,
        packages,
        ledger,
    })
}

/// Goes back from the release on trial; with `committed` also from the newest release that had
/// proven itself. The ledger says so before the slot changes; the release is barred on this host.
///
/// # Errors
/// Nothing to go back from, no tree to go back to, or the disk cannot be written.
pub fn revert(root: &Path, committed: bool) -> Result<WentBack, RescueError> {
    let state_dir = state_dir(root)?;
    let store = LedgerStore::new(SystemFiles, &state_dir);
    let slots = Slots::new(SystemFiles, &state_dir);
    let LedgerFile { ledger, kept } = store.read()?.unwrap_or_default();
    let left = left(&ledger);
    let (package, to) = match rescue(&ledger, committed) {
        GuardAction::GoBack {
            ledger: after,
            package,
            to,
        } => {
            needs_tree(&slots, &package, to.as_ref())?;
            let ledger = *after;
            store.write(&LedgerFile { ledger, kept })?;
            (package, to)
        }
        GuardAction::FinishGoingBack {
            package,
            left: release,
            to,
        } if slots.running(&package)? == Some(release) => {
            needs_tree(&slots, &package, to.as_ref())?;
            (package, to)
        }
        _ => {
            return Err(RescueError::NothingOnTrial {
                hint: hint(&ledger),
            });
        }
    };
    slots.revert(&package, to.as_ref())?;
    let still_installed = staged::noted(SystemFiles, &state_dir, &package)?.is_some();
    Ok(WentBack {
        still_installed,
        package: package.to_string(),
        left,
        to: to.map(|to| to.version.to_string()),
    })
}

fn left(ledger: &Ledger) -> String {
    let attempt = ledger.attempt.as_ref();
    attempt.map_or_else(String::new, |attempt| attempt.to.version.to_string())
}

fn hint(ledger: &Ledger) -> &'static str {
    match ledger.attempt.as_ref().map(|attempt| attempt.phase) {
        Some(AttemptPhase::Committed) => {
            ": the newest release had proven itself; --committed takes it back all the same"
        }
        Some(AttemptPhase::Reverted(_)) => ": the host has gone back already",
        _ => "",
    }
}

/// Before anything is written: is there something to go back to?
fn needs_tree(
    slots: &Slots<SystemFiles>,
    package: &ringward_domain::PackageName,
    to: Option<&Installed>,
) -> Result<(), GuardError> {
    match to {
        Some(to) if !slots.has(package, &to.release)? => Err(GuardError::NoTree {
            package: package.to_string(),
            release: to.release.to_string(),
        }),
        _ => Ok(()),
    }
}

impl fmt::Display for Overview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "state folder  {}", self.state_dir.display())?;
        for package in &self.packages {
            let version = |version: &Option<ringward_domain::Version>| {
                version
                    .as_ref()
                    .map_or_else(|| "nothing".to_owned(), ToString::to_string)
            };
            writeln!(
                f,
                "{}: runs {}, proven {}",
                package.package,
                version(&package.running_version),
                version(&package.committed_version)
            )?;
        }
        match &self.ledger.attempt {
            None => writeln!(f, "no attempt"),
            Some(attempt) => {
                let from = attempt.from.as_ref();
                let from =
                    from.map_or_else(|| "nothing".to_owned(), |from| from.version.to_string());
                let bad = attempt.boots.iter().filter(|boot| !boot.healthy).count();
                writeln!(
                    f,
                    "newest attempt: {} from {from} to {}: {}, {} boots, {bad} of them unproven",
                    attempt.package,
                    attempt.to.version,
                    words(attempt.phase),
                    attempt.boots.len(),
                )
            }
        }
    }
}

fn words(phase: AttemptPhase) -> String {
    match phase {
        AttemptPhase::Switching => "on trial (the switch may have been cut)".to_owned(),
        AttemptPhase::Trial => "on trial".to_owned(),
        AttemptPhase::Committed => "proven".to_owned(),
        AttemptPhase::Reverted(why) => format!("taken back ({why:?})"),
        AttemptPhase::Failed(why) => format!("failed ({why:?})"),
        AttemptPhase::NotSwitched(why) => format!("not switched ({why:?})"),
    }
}

impl fmt::Display for WentBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (package, left) = (&self.package, &self.left);
        match &self.to {
            Some(to) => write!(f, "{package} went back from {left} to {to}")?,
            None => write!(f, "{package} {left} was removed: it ran nothing before")?,
        }
        match self.still_installed {
            true => write!(
                f,
                "; the system itself still has {left}: its installer runs neither here nor in Safe \
                 Mode, and the agent has it go back at its start in the next usual boot"
            ),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ringward_domain::ledger::{Attempt, PackageLedger, RevertWhy};
    use ringward_domain::{
        AssignmentKind, BootId, Millis, Nonce, PackageName, ReleaseDigest, RolloutId,
    };

    fn release(n: u8) -> Installed {
        Installed {
            release: ReleaseDigest([n; 32]),
            version: format!("1.{n}").parse().unwrap(),
        }
    }

    /// A root with package `demo` on trial: 1.1 runs, 1.0 lies beside it.
    fn host(phase: AttemptPhase) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let state = root.path().join("var/lib/ringward-agent");
        let package: PackageName = "demo".parse().unwrap();
        let slots = Slots::new(SystemFiles, &state);
        for n in [0, 1] {
            let staged = state.join("staging");
            std::fs::create_dir_all(&staged).unwrap();
            std::fs::write(staged.join("version.txt"), format!("{n}")).unwrap();
            slots
                .install_tree(&package, &release(n), &staged, b"manifest")
                .unwrap();
        }
        slots.switch(&package, &release(1)).unwrap();
        let known = PackageLedger {
            committed: Some(release(0)),
            history: Vec::new(),
        };
        let ledger = Ledger {
            packages: [(package.clone(), known)].into(),
            attempt: Some(Attempt {
                nonce: Nonce([1; 16]),
                rollout: RolloutId(1),
                kind: AssignmentKind::Install,
                package,
                to: release(1),
                from: Some(release(0)),
                boot_required: true,
                soak: Millis::secs(60),
                switched_in: BootId([0; 16]),
                boots: Vec::new(),
                phase,
            }),
            ..Ledger::default()
        };
        LedgerStore::new(SystemFiles, &state)
            .write(&LedgerFile {
                ledger,
                kept: vec!["later-format line".to_owned()],
            })
            .unwrap();
        root
    }

    fn running(root: &Path) -> String {
        let current = root.join("var/lib/ringward-agent/slots/demo/current/version.txt");
        std::fs::read_to_string(current).unwrap()
    }

    #[test]
    fn a_foreign_root_goes_back_and_its_ledger_says_who_did_it() {
        let root = host(AttemptPhase::Trial);
        assert_eq!(running(root.path()), "1");
        let overview = list(root.path()).unwrap().to_string();
        assert!(overview.contains("runs 1.1, proven 1.0"), "{overview}");
        let went = revert(root.path(), false).unwrap();
        assert_eq!(went.to_string(), "demo went back from 1.1 to 1.0");
        assert_eq!(running(root.path()), "0");
        let after = list(root.path()).unwrap().ledger;
        assert_eq!(
            after.attempt.unwrap().phase,
            AttemptPhase::Reverted(RevertWhy::Rescue)
        );
        assert!(after.bars.contains(&release(1).release));
        let again = revert(root.path(), false).unwrap_err().to_string();
        assert!(again.contains("gone back already"), "{again}");
    }

    #[test]
    fn a_release_of_the_systems_installer_is_told_as_still_installed() {
        let root = host(AttemptPhase::Trial);
        let state = root.path().join("var/lib/ringward-agent");
        staged::note_done(SystemFiles, &state, &"demo".parse().unwrap()).unwrap();
        let went = revert(root.path(), false).unwrap();
        assert!(went.still_installed);
        let told = went.to_string();
        assert!(
            told.contains("still has 1.1") && told.contains("Safe Mode"),
            "{told}"
        );
        let done = staged::is_done(SystemFiles, &state, &"demo".parse().unwrap());
        assert!(!done.unwrap(), "the agent has it made good");
    }

    #[test]
    fn a_proven_release_is_left_alone_unless_told() {
        let root = host(AttemptPhase::Committed);
        let why = revert(root.path(), false).unwrap_err().to_string();
        assert!(why.contains("--committed"), "{why}");
        assert_eq!(running(root.path()), "1");
        revert(root.path(), true).unwrap();
        assert_eq!(running(root.path()), "0");
    }

    #[test]
    fn without_a_tree_to_go_back_to_nothing_is_written() {
        let root = host(AttemptPhase::Trial);
        let state = root.path().join("var/lib/ringward-agent");
        let tree = state.join(format!("slots/demo/{}", release(0).release));
        std::fs::remove_dir_all(tree).unwrap();
        let before = std::fs::read(state.join("ledger")).unwrap();
        assert!(revert(root.path(), false).is_err());
        assert_eq!(std::fs::read(state.join("ledger")).unwrap(), before);
    }

    #[test]
    fn a_state_folder_outside_of_the_root_is_refused() {
        let victim = host(AttemptPhase::Trial);
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("var")).unwrap();
        std::os::unix::fs::symlink(victim.path().join("var/lib"), root.path().join("var/lib"))
            .unwrap();
        assert!(matches!(
            revert(root.path(), false),
            Err(RescueError::Outside { .. })
        ));
        assert_eq!(running(victim.path()), "1");
        let empty = tempfile::tempdir().unwrap();
        assert!(matches!(
            list(empty.path()),
            Err(RescueError::NoState { .. })
        ));
    }
}
