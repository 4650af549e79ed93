//! What can go wrong at the command line, with the exit code and the next step of each.

use crate::words::clean;
use ringward_domain::report::RolloutState;
use ringward_domain::{OrderId, RolloutId};
use ringward_wire::client::ConnectError;
use ringward_wire::tls::TlsError;
use ringward_wire::{DecodeError, status};
use std::path::{Path, PathBuf};
use tonic::{Code, Status};

/// Exit codes, as `--help` lists them.
pub mod exit {
    /// Done.
    pub const OK: u8 = 0;
    /// Failed, or the server refused.
    pub const FAILED: u8 = 1;
    /// The command line makes no sense.
    pub const USAGE: u8 = 2;
    /// The rollout waited for halted or was aborted.
    pub const HALTED: u8 = 3;
    /// The server cannot be reached, or does not know the admin.
    pub const UNREACHABLE: u8 = 4;
    /// The command touches many hosts and nobody said yes.
    pub const UNCONFIRMED: u8 = 5;
    /// The time given to wait ran out.
    pub const TIMEOUT: u8 = 6;
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something in the command line, or in a file it names, cannot be what it is.
    #[error("{what}")]
    Usage {
        /// What is wrong.
        what: String,
        /// What to do next.
        next: String,
    },
    /// The context cannot be used.
    #[error("using the context {path}: {why}")]
    Context {
        /// The context file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// What to do next.
        next: String,
    },
    /// TLS cannot be set up from the context.
    #[error("setting up TLS")]
    Tls(#[from] TlsError),
    /// The server was not reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server refused or failed.
    #[error("{doing}: {}", cause(.status))]
    Server {
        /// What was being done.
        doing: &'static str,
        /// What the server said.
        status: Box<Status>,
    },
    /// The server's answer cannot be read.
    #[error("reading the server's answer to {doing}")]
    Answer {
        /// What was being done.
        doing: &'static str,
        /// What is wrong with it.
        #[source]
        source: DecodeError,
    },
    /// A file cannot be read or written.
    #[error("{doing} {path}")]
    File {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// Nothing, or more than one thing, goes by that name.
    #[error("{what} {text:?}: {why}")]
    Unresolved {
        /// Kind of thing.
        what: &'static str,
        /// As asked for.
        text: String,
        /// Which ones could have been meant.
        why: String,
        /// What to do next.
        next: String,
    },
    /// The audit log is not what it should be, or not what it was.
    #[error("the audit log: {what}")]
    Audit {
        /// What does not fit.
        what: String,
    },
    /// The command touches many hosts and nobody said yes.
    #[error("nothing was done: this touches {hosts} hosts and was not confirmed")]
    Unconfirmed {
        /// How many.
        hosts: usize,
    },
    /// The rollout that was waited for stopped.
    #[error("rollout {rollout} is {state}: {reason}")]
    Stopped {
        /// Which.
        rollout: RolloutId,
        /// How it stands.
        state: RolloutState,
        /// Why.
        reason: String,
    },
    /// The time given to watch an order ran out.
    #[error("waiting for order {order}: the time ran out ({state})")]
    OrderTimeout {
        /// Which.
        order: OrderId,
        /// How it stands.
        state: String,
    },
    /// The time given to wait ran out.
    #[error("rollout {rollout} is still {state} after {waited_s} s")]
    Timeout {
        /// Which.
        rollout: RolloutId,
        /// How it stands.
        state: RolloutState,
        /// Time waited.
        waited_s: u64,
    },
}

impl Error {
    /// A failed file operation.
    pub fn file(doing: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::File {
            doing,
            path: path.to_owned(),
            source,
        }
    }

    /// A mistake in the command line or in a file it names.
    pub fn usage(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Usage {
            what: what.into(),
            next: next.into(),
        }
    }

    /// Whether asking again later may help: the server was not reached.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Connect(_) => true,
            Self::Server { status, .. } => status.code() == Code::Unavailable,
            _ => false,
        }
    }

    /// The exit code, see [`exit`].
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage { .. } => exit::USAGE,
            Self::Context { .. } | Self::Tls(_) | Self::Connect(_) => exit::UNREACHABLE,
            Self::Server { status, .. } => match status.code() {
                Code::Unavailable | Code::Unauthenticated | Code::PermissionDenied => {
                    exit::UNREACHABLE
                }
                _ => exit::FAILED,
            },
            Self::Answer { .. }
            | Self::File { .. }
            | Self::Unresolved { .. }
            | Self::Audit { .. } => exit::FAILED,
            Self::Unconfirmed { .. } => exit::UNCONFIRMED,
            Self::Stopped { .. } => exit::HALTED,
            Self::Timeout { .. } | Self::OrderTimeout { .. } => exit::TIMEOUT,
        }
    }

    /// What to do next, where something helps.
    #[must_use]
    pub fn next(&self) -> Option<String> {
        let text = match self {
            Self::Usage { next, .. }
            | Self::Context { next, .. }
            | Self::Unresolved { next, .. } => next.clone(),
            Self::Tls(_) => {
                "check ca, certificate and key of the context (`ringwardctl context show`)".into()
            }
            Self::Connect(_) => {
                "check that the server runs and that `ringwardctl context show` names its admin \
                 address"
                    .into()
            }
            Self::Server { status, .. } => return status::next(status).or_else(|| by_code(status)),
            Self::Answer { .. } => "use a ringwardctl as new as the server".into(),
            Self::File { .. } => return None,
            Self::Audit { .. } => {
                "find out who could write to the server's store; a server restored \
                                   from a backup looks the same, and its log says so"
                    .into()
            }
            Self::Unconfirmed { .. } => {
                "look at the list above, then run it again with --yes".into()
            }
            Self::Stopped { rollout, .. } => {
                format!("look at it with `ringwardctl rollouts show {rollout}`")
            }
            Self::OrderTimeout { order, .. } => {
                format!("it goes on; `ringwardctl orders watch {order}` follows it")
            }
            Self::Timeout { rollout, .. } => {
                format!("it goes on; `ringwardctl rollouts watch {rollout}` follows it")
            }
        };
        Some(text)
    }

    /// The error with its causes and the next step, ready for a terminal.
    #[must_use]
    pub fn render(&self) -> String {
        let mut said = self.to_string();
        let mut text = format!("error: {}\n", clean(&said));
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            // Some libraries repeat their cause within themselves, and tonic's "transport error" says
            // nothing: say each thing once.
            if !said.contains(&cause_text) && cause_text != "transport error" {
                text.push_str(&format!("  because: {}\n", clean(&cause_text)));
                said = cause_text;
            }
            source = cause.source();
        }
        if let Some(next) = self.next() {
            text.push_str(&format!("next: {}\n", clean(&next)));
        }
        text
    }
}

/// What the server said, without the next step, which is told apart.
fn cause(status: &Status) -> String {
    let said = status.message();
    let next = status::next(status).unwrap_or_default();
    let cause = said.strip_suffix(&next).unwrap_or(said);
    cause.trim_end_matches("; ").to_owned()
}

fn by_code(status: &Status) -> Option<String> {
    let text = match status.code() {
        Code::Unavailable => "check that the server runs, then try again",
        Code::Unauthenticated => {
            "the server does not know this certificate; ask for a new context file"
        }
        Code::PermissionDenied => "ask an admin whose certificate allows this",
        Code::DeadlineExceeded => {
            "the server is slow or gone; what was ordered may have been done: look before trying \
             again"
        }
        Code::Unimplemented => "the server is older than this ringwardctl; update it",
        Code::ResourceExhausted => "wait a moment, then try again",
        _ => return None,
    };
    Some(text.to_owned())
}
