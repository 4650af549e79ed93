//! Releases that the system's own installer puts in place (deb, rpm): the slot says what should be
//! installed, this what was done about it.
//!
//! The guard stands where no installer runs. What it can do at once is hold the package's units back:
//! their drop-ins ask for a file that it makes in `/run`, so that nothing has to be loaded again; the
//! agent has the package before it installed later in the same boot and takes the file away.

use crate::error::GuardError;
use crate::files::Files;
use crate::slots::Slots;
use ringward_domain::PackageName;
use ringward_domain::ledger::{AttemptPhase, Ledger};
use std::path::{Path, PathBuf};

/// Where the files are that hold units back; gone with the boot.
pub const HELD: &str = "/run/ringward/held";

/// The file that says what the system has of a package.
#[must_use]
pub fn outcome(root: &Path, package: &PackageName) -> PathBuf {
    root.join("slots").join(package.as_str()).join("outcome")
}

/// The word for what the slot names now.
fn wanted<F: Files + Clone>(
    files: F,
    root: &Path,
    package: &PackageName,
) -> Result<String, GuardError> {
    let running = Slots::new(files, root).running(package)?;
    Ok(running.map_or_else(|| "ok before".to_owned(), |release| format!("ok {release}")))
}

/// Notes durably that the system has what the slot names.
///
/// # Errors
/// When a file operation fails.
pub fn note_done<F: Files + Clone>(
    files: F,
    root: &Path,
    package: &PackageName,
) -> Result<(), GuardError> {
    let word = wanted(files.clone(), root, package)?;
    note(files, root, package, &word)
}

/// Notes durably how the work on a package stands.
///
/// # Errors
/// When a file operation fails.
pub fn note<F: Files>(
    files: F,
    root: &Path,
    package: &PackageName,
    word: &str,
) -> Result<(), GuardError> {
    let path = outcome(root, package);
    let new = path.with_extension("new");
    let folder = path.parent().unwrap_or(root);
    let done = files
        .write(&new, word.as_bytes())
        .and_then(|()| files.sync(&new))
        .and_then(|()| files.rename(&new, &path))
        .and_then(|()| files.sync(folder));
    done.map_err(GuardError::file("writing", &path))
}

/// The outcome of the work on a package; `None` where it never was the system installer's.
///
/// # Errors
/// When the disk cannot be read.
pub fn noted<F: Files>(
    files: F,
    root: &Path,
    package: &PackageName,
) -> Result<Option<String>, GuardError> {
    let path = outcome(root, package);
    let bytes = files.read(&path);
    let bytes = bytes.map_err(GuardError::file("reading", &path))?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// Whether the system has what the slot names.
///
/// # Errors
/// When the disk cannot be read.
pub fn is_done<F: Files + Clone>(
    files: F,
    root: &Path,
    package: &PackageName,
) -> Result<bool, GuardError> {
    let noted = noted(files.clone(), root, package)?;
    Ok(noted == Some(wanted(files, root, package)?))
}

/// The package that the ledger says went back, if the system still has the release it left.
///
/// # Errors
/// When the disk cannot be read.
pub fn held<F: Files + Clone>(
    files: F,
    root: &Path,
    ledger: &Ledger,
) -> Result<Option<PackageName>, GuardError> {
    let Some(attempt) = ledger.attempt.as_ref() else {
        return Ok(None);
    };
    let went_back = matches!(attempt.phase, AttemptPhase::Reverted(_));
    if !went_back || noted(files.clone(), root, &attempt.package)?.is_none() {
        return Ok(None);
    }
    let done = is_done(files, root, &attempt.package)?;
    Ok((!done).then(|| attempt.package.clone()))
}

/// Holds the units of a package back in this boot.
///
/// # Errors
/// When a file operation fails.
pub fn hold<F: Files>(files: F, folder: &Path, package: &PackageName) -> Result<(), GuardError> {
    let path = folder.join(package.as_str());
    let made = files.create_folder(folder);
    let made = made.and_then(|()| files.write(&path, b"held\n"));
    made.map_err(GuardError::file("writing", &path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::files::SystemFiles;
    use ringward_domain::ledger::{Attempt, Installed, RevertWhy};
    use ringward_domain::{AssignmentKind, BootId, Millis, Nonce, ReleaseDigest, RolloutId};

    fn release(n: u8) -> Installed {
        Installed {
            release: ReleaseDigest([n; 32]),
            version: "1.0".parse().unwrap(),
        }
    }

    fn ledger(phase: AttemptPhase) -> Ledger {
        Ledger {
            attempt: Some(Attempt {
                nonce: Nonce([1; 16]),
                rollout: RolloutId(1),
                kind: AssignmentKind::Install,
                package: "demo".parse().unwrap(),
                to: release(2),
                from: Some(release(1)),
                boot_required: false,
                soak: Millis::secs(1),
                switched_in: BootId([1; 16]),
                boots: Vec::new(),
                phase,
            }),
            ..Ledger::default()
        }
    }

    #[test]
    fn units_are_held_back_until_the_package_before_is_installed_again() {
        let root = tempfile::tempdir().unwrap();
        let (root, package) = (root.path(), "demo".parse().unwrap());
        let slots = Slots::new(SystemFiles, root);
        for n in [1, 2] {
            let staged = root.join(format!("staged-{n}"));
            std::fs::create_dir(&staged).unwrap();
            slots
                .install_tree(&package, &release(n), &staged, b"")
                .unwrap();
        }
        let back = ledger(AttemptPhase::Reverted(RevertWhy::BadBoots));
        slots.switch(&package, &release(2)).unwrap();
        assert_eq!(held(SystemFiles, root, &back).unwrap(), None, "a bundle");
        note_done(SystemFiles, root, &package).unwrap();
        assert!(is_done(SystemFiles, root, &package).unwrap());
        slots.switch(&package, &release(1)).unwrap();
        assert!(!is_done(SystemFiles, root, &package).unwrap());
        let trial = ledger(AttemptPhase::Trial);
        assert_eq!(held(SystemFiles, root, &trial).unwrap(), None, "on trial");
        let held_now = held(SystemFiles, root, &back).unwrap();
        assert_eq!(held_now, Some(package.clone()));
        hold(SystemFiles, &root.join("run/held"), &package).unwrap();
        assert!(root.join("run/held/demo").exists());
        note_done(SystemFiles, root, &package).unwrap();
        assert_eq!(held(SystemFiles, root, &back).unwrap(), None);
        slots.revert(&package, None).unwrap();
        assert_eq!(held(SystemFiles, root, &back).unwrap(), Some(package));
    }
}
