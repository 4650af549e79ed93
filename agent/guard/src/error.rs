//! What can go wrong on the way back.

use std::path::PathBuf;

/// Why the ledger or a slot could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// A file operation failed.
    #[error("{doing} {}; check that the disk is mounted, writable and not full", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The ledger was written by a newer version.
    #[error(
        "the ledger has format {found}, this version knows {known}; nothing was changed: install a \
         version that knows it"
    )]
    Newer {
        /// Format found.
        found: u64,
        /// Newest format known here.
        known: u64,
    },
    /// The ledger cannot be trusted.
    #[error(
        "the ledger is damaged at line {line}: {why}; nothing was changed: run `ringward-agent doctor`"
    )]
    Damaged {
        /// Line, from 1; 0 for the file as a whole.
        line: usize,
        /// How.
        why: String,
    },
    /// A switch to something that is not there.
    #[error("{package} has no complete tree of {release}; it must be prepared again")]
    NoTree {
        /// The package.
        package: String,
        /// The release.
        release: String,
    },
}

impl GuardError {
    pub(crate) fn file(
        doing: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File {
            doing,
            path,
            source,
        }
    }

    pub(crate) fn damaged(line: usize, why: impl Into<String>) -> Self {
        Self::Damaged {
            line,
            why: why.into(),
        }
    }
}
