//! The ledger file: replaced whole, so that a cut at any moment leaves the old one or the new one.

use crate::codec::{self, LedgerFile};
use crate::error::GuardError;
use crate::files::Files;
use std::path::{Path, PathBuf};

/// `<root>/ledger`.
#[derive(Debug, Clone)]
pub struct LedgerStore<F> {
    files: F,
    root: PathBuf,
}

impl<F: Files> LedgerStore<F> {
    /// The ledger in this state folder.
    pub fn new(files: F, root: &Path) -> Self {
        Self {
            files,
            root: root.to_owned(),
        }
    }

    /// The ledger; `None` on a host that never had one.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or was written by a newer version.
    pub fn read(&self) -> Result<Option<LedgerFile>, GuardError> {
        let path = self.root.join("ledger");
        let bytes = self.files.read(&path);
        let bytes = bytes.map_err(GuardError::file("reading", &path))?;
        bytes.map(|bytes| codec::decode(&bytes)).transpose()
    }

    /// Writes it durably: when this answers, the new ledger is on disk.
    ///
    /// # Errors
    /// When a file operation fails; the old ledger is then still there, or the new one already.
    pub fn write(&self, file: &LedgerFile) -> Result<(), GuardError> {
        let (path, new) = (self.root.join("ledger"), self.root.join("ledger.new"));
        self.files
            .write(&new, &codec::encode(file))
            .map_err(GuardError::file("writing", &new))?;
        self.files
            .sync(&new)
            .map_err(GuardError::file("syncing", &new))?;
        self.files
            .rename(&new, &path)
            .map_err(GuardError::file("replacing", &path))?;
        self.files
            .sync(&self.root)
            .map_err(GuardError::file("syncing", &self.root))
    }
}
