//! The one closed set of things that can happen to an agent.

use crate::orders::{IsolateFailure, OrdersStarted, Vouched};
use ringward_domain::host::Facts;
use ringward_domain::ids::{AgentStart, ReleaseDigest, RolloutId, SignalSeq};
use ringward_domain::ledger::Ledger;
use ringward_domain::manifest::Manifest;
use ringward_domain::observed::{PackageObserved, PrepareError, RefuseWhy};
use ringward_domain::session::ToAgent;
use ringward_domain::signal::SignalDraft;
use ringward_domain::{Absence, BootId, Millis};

/// What the daemon found when it started.
#[derive(Debug, Clone)]
pub struct Started {
    /// This boot. (`now` at the start is its boot-time clock.)
    pub boot: BootId,
    /// This process: random.
    pub agent_start: AgentStart,
    /// Seed of jitter and nonces: random.
    pub seed: [u8; 32],
    /// The ledger as read from disk (the guard may have written it since); `None` where it cannot
    /// be trusted (written by a newer version, damaged): the agent then reports and takes no orders.
    pub ledger: Option<Ledger>,
    /// Manifest of the release that the ledger's attempt switched to, as kept beside its tree: it
    /// names the probes. `None` where there is none; a trial without it earns no soak.
    pub trial_manifest: Option<Box<Manifest>>,
    /// What the slots hold, read from the slots themselves.
    pub slots: Vec<PackageObserved>,
    /// Facts of the host.
    pub facts: Facts,
    /// Version of the agent.
    pub agent_version: String,
    /// Whether the stop before this boot left its clean-stop marker; `None` where unknown.
    pub last_stop_clean: Option<bool>,
    /// First seq that is not yet durable at the server, and the next free one.
    pub spool: (SignalSeq, SignalSeq),
    /// What was found of orders.
    pub orders: OrdersStarted,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// The session is open; the machine says Hello.
    Connected,
    /// The session ended or could not be opened; the machine asks for a new one in due time. Not
    /// sent for a session that the machine itself ended by `Effect::Disconnect`.
    Disconnected,
    /// A message came.
    Message(ToAgent),
    /// `next_wakeup` is reached (or passed; early and late wake-ups do no harm).
    Timer,
    /// A preparation ended. A result for another (rollout, release) than the wanted one is ignored.
    Prepared {
        /// For which rollout.
        rollout: RolloutId,
        /// Which release.
        release: ReleaseDigest,
        /// Verified manifest, or why not.
        outcome: Result<Box<Manifest>, PrepareFailure>,
    },
    /// `Effect::Switch` or `Effect::Revert` was carried out, or failed and changed nothing.
    Switched(Result<(), SwitchFailure>),
    /// A ledger write failed: nothing after it in its list was carried out. Told before any other
    /// event; only `SpoolFailed` of the same list may come before or after it.
    LedgerFailed,
    /// `Effect::Spool` of this seq failed: it is not in the spool, and the seq is free again. The rest
    /// of its list is carried out all the same; then this is told before any other event.
    SpoolFailed {
        /// Which.
        seq: SignalSeq,
    },
    /// A round of probes ended: the names of those that failed.
    Probes {
        /// Empty when all passed.
        failed: Vec<String>,
    },
    /// A collector observed a fact.
    Signal(SignalDraft),
    /// The OS says that the host will be away.
    GoingAway(Absence),
    /// The host is back from a suspend that lasted this long. Told before any other event: the
    /// daemon compares the boot-time clock with the awake clock before each step.
    Resumed {
        /// Time asleep, by the boot-time clock against the awake clock.
        slept: Millis,
    },
    /// Neither server nor gateway can be reached (`false`) or one of them can (`true`). `false` is
    /// only told where this host's gateway is known to answer: where it never does, losing the
    /// server alone would look like losing the network.
    NetworkReachable(bool),
    /// Who vouches for the orders of the desired state that is told next; told before each.
    Vouched(Vouched),
    /// `Effect::WriteOrders` was carried out, or failed.
    OrdersWritten(bool),
    /// `Effect::Isolate` was carried out, with the ways past it that were found; or it failed and
    /// changed nothing.
    Isolated(Result<Vec<String>, IsolateFailure>),
    /// `Effect::EndIsolation` was carried out, or failed.
    IsolationEnded(bool),
    /// `Effect::ProveServer` ended: whether a server was reached.
    ServerProved(bool),
    /// `Effect::Collect` was carried out, or failed.
    Collected(bool),
    /// A person or the OS stops the daemon.
    Stopping,
}

/// Why a preparation ended without a release ready to switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrepareFailure {
    /// Tried again with growing delay.
    Retry(PrepareError),
    /// Final for this release on this host.
    Refused(RefuseWhy),
}

/// Why a switch was not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SwitchFailure {
    /// The installer or the switch reported an error.
    Install,
    /// Disk full or read-only.
    Disk,
    /// Another installer was at work: nothing was touched, and it may be tried again.
    Busy,
}
