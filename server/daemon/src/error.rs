//! Errors of the server's edge. Each names what was being done, to what, and what to do next; the
//! cause stands behind it as its source.

use std::io;
use std::path::{Path, PathBuf};

/// Why the server could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A file could not be read, written or checked.
    #[error("{doing} {}", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something is not as it must be; nothing was changed.
    #[error("{what}; {next}")]
    Refused {
        /// What is wrong.
        what: String,
        /// What to do next.
        next: String,
    },
    /// A certificate or key could not be made or read.
    #[error("{doing}")]
    Certificate {
        /// What was being done.
        doing: String,
        /// What the library said.
        source: rcgen::Error,
    },
    /// TLS could not be set up.
    #[error("{doing}")]
    Tls {
        /// What was being done.
        doing: &'static str,
        /// What the library said.
        source: rustls::Error,
    },
    /// An address could not be listened on.
    #[error("listening on {address} for {who}; choose another address in server.toml")]
    Listen {
        /// The address.
        address: String,
        /// For whom.
        who: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The store could not be opened or failed for good.
    #[error("{doing}")]
    Store {
        /// What was being done.
        doing: &'static str,
        /// What the store said.
        source: ringward_store::StoreError,
    },
    /// Another server took the lease: this one must not go on.
    #[error(
        "another server holds the lease `{lease}`: this one stopped before it could do harm; \
         run only one server on a data directory"
    )]
    Fenced {
        /// The lease's name.
        lease: &'static str,
    },
    /// What the store holds does not fit what this server knows.
    #[error("{what}; run `ringward-server doctor --data DIR`, then start again")]
    Inconsistent {
        /// What does not fit.
        what: String,
    },
}

impl ServerError {
    /// Wraps what the system said about a file.
    pub(crate) fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File {
            doing,
            path,
            source,
        }
    }

    /// A refusal with what to do next.
    pub(crate) fn refused(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Refused {
            what: what.into(),
            next: next.into(),
        }
    }
}

/// An error and everything behind it, for a person: `what: because: because`.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
