//! Signals: observed facts of a host, with evidence and a de-duplication key.

use crate::ids::{BootId, ReleaseDigest, SignalSeq};
use crate::time::Millis;
use serde::{Deserialize, Serialize};

/// What was observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignalKind {
    /// A boot that follows a stop without clean-stop marker; the reason is unknown.
    UncleanBoot,
    /// A Linux kernel panic.
    KernelPanic,
    /// A Windows bugcheck (BSOD).
    Bugcheck,
    /// A kernel oops or warning that did not stop the machine.
    KernelOops,
    /// A service whose restart counter grows.
    CrashLoop,
    /// A service that failed and stays down.
    ServiceFailed,
    /// The kernel killed a process for memory.
    OomKill,
    /// A process dumped core.
    Coredump,
    /// The boot ended in an emergency, rescue or safe mode.
    DegradedBoot,
    /// A health probe of the release's manifest failed.
    ProbeFailed,
    /// The guard took the host back alone.
    GuardReverted,
    /// The agent took the host back alone.
    SelfReverted,
    /// Something on the host was changed by somebody else.
    Change,
    /// The server's audit log contradicts what this host was shown before.
    AuditFork,
    /// The agent lacks something it needs; it works on, degraded.
    AgentDegraded,
    /// A kind that this version does not know; the number is kept and passed on.
    Unknown(i32),
}

impl SignalKind {
    /// Whether it tells of a failure of the host that a release in trial can be blamed for.
    #[must_use]
    pub fn is_failure(self) -> bool {
        match self {
            Self::UncleanBoot
            | Self::KernelPanic
            | Self::Bugcheck
            | Self::CrashLoop
            | Self::ServiceFailed
            | Self::DegradedBoot
            | Self::ProbeFailed
            | Self::GuardReverted
            | Self::SelfReverted => true,
            Self::KernelOops
            | Self::OomKill
            | Self::Coredump
            | Self::Change
            | Self::AuditFork
            | Self::AgentDegraded
            | Self::Unknown(_) => false,
        }
    }
}

/// One observed fact as the agent reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// Position in the host's spool.
    pub seq: SignalSeq,
    /// What was observed.
    pub kind: SignalKind,
    /// De-duplication key, unique within the host: two sources of one fact share it, and later
    /// evidence for the same key enriches the earlier signal.
    pub key: String,
    /// The boot it belongs to (of a panic: the boot that died).
    pub boot: BootId,
    /// Boot-time clock of that boot when it was observed; zero where unknown.
    pub at_boottime: Millis,
    /// The release in trial on this host at that time, if any.
    pub release: Option<ReleaseDigest>,
    /// One line for people, at most [`TITLE_BYTES_MAX`](crate::limits::TITLE_BYTES_MAX).
    pub title: String,
    /// What recurs on other hosts with the same cause (bugcheck + module, panic function, unit);
    /// empty where nothing recurs.
    pub signature: String,
    /// Further facts as JSON, at most [`EVIDENCE_BYTES_MAX`](crate::limits::EVIDENCE_BYTES_MAX).
    pub evidence: String,
}

/// A signal before it has a place in the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalDraft {
    /// See [`Signal::kind`].
    pub kind: SignalKind,
    /// See [`Signal::key`].
    pub key: String,
    /// See [`Signal::boot`].
    pub boot: BootId,
    /// See [`Signal::at_boottime`].
    pub at_boottime: Millis,
    /// See [`Signal::title`].
    pub title: String,
    /// See [`Signal::signature`].
    pub signature: String,
    /// See [`Signal::evidence`].
    pub evidence: String,
}
