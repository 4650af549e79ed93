//! Slots: complete trees of releases, and one link that says which is current.
//!
//! ```text
//! <root>/slots/<package>/<digest>/           the tree; there whole or not at all
//! <root>/slots/<package>/<digest>.version    its version, as text
//! <root>/slots/<package>/<digest>.manifest   its manifest, as signed
//! <root>/slots/<package>/current             link to <digest>, replaced by rename
//! ```

use crate::error::GuardError;
use crate::files::Files;
use ringward_domain::PackageName;
use ringward_domain::ReleaseDigest;
use ringward_domain::ledger::{AttemptPhase, Installed, Ledger};
use ringward_domain::observed::PackageObserved;
use std::path::{Path, PathBuf};

/// The slots under one state folder.
#[derive(Debug, Clone)]
pub struct Slots<F> {
    files: F,
    root: PathBuf,
}

impl<F: Files> Slots<F> {
    /// The slots of this state folder.
    pub fn new(files: F, root: &Path) -> Self {
        Self {
            files,
            root: root.join("slots"),
        }
    }

    fn package(&self, package: &PackageName) -> PathBuf {
        self.root.join(package.as_str())
    }

    /// Where the tree of a release lies, or will lie.
    #[must_use]
    pub fn tree(&self, package: &PackageName, release: &ReleaseDigest) -> PathBuf {
        self.package(package).join(release.to_string())
    }

    /// The link to the current tree.
    #[must_use]
    pub fn current(&self, package: &PackageName) -> PathBuf {
        self.package(package).join("current")
    }

    fn beside(&self, package: &PackageName, release: &ReleaseDigest, what: &str) -> PathBuf {
        self.package(package).join(format!("{release}.{what}"))
    }

    /// Whether the release's tree is complete on disk.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn has(&self, package: &PackageName, release: &ReleaseDigest) -> Result<bool, GuardError> {
        let tree = self.tree(package, release);
        let found = self.files.is_folder(&tree);
        found.map_err(GuardError::file("looking for", &tree))
    }

    /// The manifest kept beside a tree, as signed.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn manifest(
        &self,
        package: &PackageName,
        release: &ReleaseDigest,
    ) -> Result<Option<Vec<u8>>, GuardError> {
        let path = self.beside(package, release, "manifest");
        let bytes = self.files.read(&path);
        bytes.map_err(GuardError::file("reading", &path))
    }

    /// Moves a staged tree (on the same file system, verified) into its slot. Every file of it is
    /// made durable before the one rename that makes the slot exist. Already there: the staged tree
    /// is dropped.
    ///
    /// # Errors
    /// When a file operation fails: the slot then does not exist, or exists whole.
    pub fn install_tree(
        &self,
        package: &PackageName,
        what: &Installed,
        staged: &Path,
        manifest: &[u8],
    ) -> Result<(), GuardError> {
        let folder = self.package(package);
        self.create_folder(&folder)?;
        let version = self.beside(package, &what.release, "version");
        self.write_durably(&version, what.version.as_str().as_bytes())?;
        self.write_durably(&self.beside(package, &what.release, "manifest"), manifest)?;
        if self.has(package, &what.release)? {
            let removed = self.files.remove_tree(staged);
            removed.map_err(GuardError::file("removing", staged))?;
            return self.sync(&folder);
        }
        self.sync_tree(staged)?;
        let tree = self.tree(package, &what.release);
        let moved = self.files.rename(staged, &tree);
        moved.map_err(GuardError::file("moving the staged tree to", &tree))?;
        self.sync(&folder)
    }

    /// Makes a release current: one rename, durable when this answers. Current already: made sure
    /// of.
    ///
    /// # Errors
    /// [`GuardError::NoTree`] without a complete tree; when a file operation fails, the old release
    /// is still current, or the new one already.
    pub fn switch(&self, package: &PackageName, to: &Installed) -> Result<(), GuardError> {
        if !self.has(package, &to.release)? {
            return Err(GuardError::NoTree {
                package: package.to_string(),
                release: to.release.to_string(),
            });
        }
        let folder = self.package(package);
        let (current, new) = (self.current(package), folder.join("current.new"));
        let target = PathBuf::from(to.release.to_string());
        if self.target(&current)?.as_ref() != Some(&target) {
            self.remove(&new)?;
            self.files
                .link(&target, &new)
                .map_err(GuardError::file("linking", &new))?;
            self.files
                .rename(&new, &current)
                .map_err(GuardError::file("replacing", &current))?;
        }
        self.sync(&folder)
    }

    /// Makes an earlier release current again, or none.
    ///
    /// # Errors
    /// As [`Slots::switch`].
    pub fn revert(&self, package: &PackageName, to: Option<&Installed>) -> Result<(), GuardError> {
        match to {
            Some(to) => self.switch(package, to),
            None => {
                self.remove(&self.current(package))?;
                let folder = self.package(package);
                match self.files.is_folder(&folder) {
                    Ok(true) => self.sync(&folder),
                    Ok(false) => Ok(()),
                    Err(source) => Err(GuardError::file("looking for", &folder)(source)),
                }
            }
        }
    }

    /// The release a package's current slot holds. A link to a tree that is not there holds none.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn running(&self, package: &PackageName) -> Result<Option<ReleaseDigest>, GuardError> {
        let Some(target) = self.target(&self.current(package))? else {
            return Ok(None);
        };
        let named = target.to_str().and_then(|text| text.parse().ok());
        Ok(match named {
            Some(release) if self.has(package, &release)? => Some(release),
            _ => None,
        })
    }

    /// What every package runs, from the slots, and what is committed, from the ledger.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn inspect(&self, ledger: &Ledger) -> Result<Vec<PackageObserved>, GuardError> {
        let names = self.files.list(&self.root);
        let names = names.map_err(GuardError::file("listing", &self.root))?;
        let mut packages: Vec<PackageName> = names
            .iter()
            .filter_map(|name| name.to_str()?.parse().ok())
            .collect();
        packages.sort();
        packages
            .into_iter()
            .map(|package| {
                let running = self.running(&package)?;
                let known = ledger.packages.get(&package);
                let committed = known.and_then(|known| known.committed.clone());
                let running_version = match &running {
                    Some(release) => self.version(&package, release, ledger)?,
                    None => None,
                };
                Ok(PackageObserved {
                    running_version,
                    running,
                    committed: committed.as_ref().map(|c| c.release),
                    committed_version: committed.map(|c| c.version),
                    package,
                })
            })
            .collect()
    }

    fn version(
        &self,
        package: &PackageName,
        release: &ReleaseDigest,
        ledger: &Ledger,
    ) -> Result<Option<ringward_domain::Version>, GuardError> {
        let path = self.beside(package, release, "version");
        let bytes = self.files.read(&path);
        let bytes = bytes.map_err(GuardError::file("reading", &path))?;
        let written = bytes
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .and_then(|text| text.parse().ok());
        Ok(written.or_else(|| {
            known_to(ledger, package)
                .find(|known| known.release == *release)
                .map(|known| known.version.clone())
        }))
    }

    /// Removes trees that nothing needs: all but the current one, the committed one and what the
    /// open or newest attempt goes from and to. A tree is given another name before it is removed,
    /// so that a slot never exists in part.
    ///
    /// # Errors
    /// When a file operation fails; what is left is removed next time.
    pub fn prune(&self, package: &PackageName, ledger: &Ledger) -> Result<(), GuardError> {
        let folder = self.package(package);
        let running = self.running(package)?;
        let keep: Vec<String> = keep(ledger, package)
            .into_iter()
            .chain(running)
            .map(|release| release.to_string())
            .collect();
        let names = self.files.list(&folder);
        for name in names.map_err(GuardError::file("listing", &folder))? {
            let Some(name) = name.to_str() else { continue };
            let stem = name.split('.').next().unwrap_or_default();
            let ours = stem.parse::<ReleaseDigest>().is_ok();
            if !ours || keep.iter().any(|kept| kept == stem) {
                continue;
            }
            let path = folder.join(name);
            if name == stem {
                let gone = folder.join(format!("{stem}.gone"));
                // Of a removal that was cut short, and in the way of the rename.
                self.remove_tree(&gone)?;
                let renamed = self.files.rename(&path, &gone);
                renamed.map_err(GuardError::file("setting aside", &path))?;
                // Or a cut could leave the old name with half of what it stood for.
                self.sync(&folder)?;
                self.remove_tree(&gone)?;
            } else if name.ends_with(".gone") {
                self.remove_tree(&path)?;
            } else {
                self.remove(&path)?;
            }
        }
        Ok(())
    }

    fn remove_tree(&self, path: &Path) -> Result<(), GuardError> {
        let removed = self.files.remove_tree(path);
        removed.map_err(GuardError::file("removing", path))
    }

    fn remove(&self, path: &Path) -> Result<(), GuardError> {
        let removed = self.files.remove(path);
        removed.map_err(GuardError::file("removing", path))
    }

    fn sync(&self, path: &Path) -> Result<(), GuardError> {
        let synced = self.files.sync(path);
        synced.map_err(GuardError::file("syncing", path))
    }

    fn target(&self, link: &Path) -> Result<Option<PathBuf>, GuardError> {
        let target = self.files.link_target(link);
        target.map_err(GuardError::file("reading the link", link))
    }

    /// Makes the package's folder, and the folders that name it, durable.
    fn create_folder(&self, folder: &Path) -> Result<(), GuardError> {
        let made = self.files.create_folder(folder);
        made.map_err(GuardError::file("making", folder))?;
        self.sync(&self.root)?;
        match self.root.parent() {
            Some(state) => self.sync(state),
            None => Ok(()),
        }
    }

    fn write_durably(&self, path: &Path, bytes: &[u8]) -> Result<(), GuardError> {
        let written = self.files.write(path, bytes);
        written.map_err(GuardError::file("writing", path))?;
        self.sync(path)
    }

    /// Depth first, so that a folder is synced after what it names. Bounded by the tree, which the
    /// installer bounds.
    fn sync_tree(&self, folder: &Path) -> Result<(), GuardError> {
        let mut open = vec![folder.to_owned()];
        let mut seen = Vec::new();
        while let Some(folder) = open.pop() {
            let names = self.files.list(&folder);
            for name in names.map_err(GuardError::file("listing", &folder))? {
                let path = folder.join(name);
                let is_folder = self.files.is_folder(&path);
                if is_folder.map_err(GuardError::file("looking at", &path))? {
                    open.push(path);
                } else {
                    self.sync(&path)?;
                }
            }
            seen.push(folder);
        }
        seen.iter().rev().try_for_each(|folder| self.sync(folder))
    }
}

fn known_to<'a>(ledger: &'a Ledger, package: &PackageName) -> impl Iterator<Item = &'a Installed> {
    let known = ledger.packages.get(package);
    let proven = known
        .into_iter()
        .flat_map(|known| known.committed.iter().chain(&known.history));
    let attempt = ledger.attempt.as_ref();
    let attempt = attempt.filter(|attempt| attempt.package == *package);
    let attempted = attempt
        .into_iter()
        .flat_map(|attempt| std::iter::once(&attempt.to).chain(&attempt.from));
    proven.chain(attempted)
}

/// Committed and its predecessor, and both ends of the newest attempt; of one that went back only
/// where it came from.
fn keep(ledger: &Ledger, package: &PackageName) -> Vec<ReleaseDigest> {
    let known = ledger.packages.get(package);
    let previous = known.and_then(|known| known.history.last());
    let committed = known.and_then(|known| known.committed.as_ref());
    let attempt = ledger.attempt.as_ref();
    let attempt = attempt.filter(|attempt| attempt.package == *package);
    let ends = attempt.map(|attempt| {
        let left = matches!(attempt.phase, AttemptPhase::Reverted(_));
        let to = Some(&attempt.to).filter(|_| !left);
        to.into_iter().chain(&attempt.from)
    });
    committed
        .into_iter()
        .chain(previous)
        .chain(ends.into_iter().flatten())
        .map(|installed| installed.release)
        .collect()
}
