//! The one closed set of things an agent does.

use crate::orders::OrdersRecord;
use ringward_domain::ids::{ReleaseDigest, RolloutId, SignalSeq};
use ringward_domain::ledger::{Installed, Ledger};
use ringward_domain::manifest::Probe;
use ringward_domain::net::Allowed;
use ringward_domain::session::ToServer;
use ringward_domain::signal::Signal;
use ringward_domain::{AssignmentKind, Millis, PackageName, Version};

/// Something to do. Effects of one list are carried out (or, where they take long, started) in order
/// and before the next event is told. After a ledger write that fails the rest of its list is dropped;
/// the failure comes back as an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Write and fsync the ledger before the next effect.
    WriteLedger(Box<Ledger>),
    /// Send on the session; dropped when there is none.
    Send(ToServer),
    /// Read up to a batch of signals from the spool, from this seq on, and send them.
    SendSignals {
        /// First seq to send.
        from: SignalSeq,
    },
    /// Append to the spool and fsync before the next effect.
    Spool(Signal),
    /// Everything up to and with this seq may go from the spool.
    TrimSpool {
        /// Cumulative.
        through: SignalSeq,
    },
    /// Open a session after this long (backoff and jitter included; the address list rotates by one
    /// with each). Replaces one still waited for.
    Connect {
        /// How long to wait first.
        after: Millis,
    },
    /// Close the session; not answered by an event.
    Disconnect,
    /// Fetch, verify and stage a release; answered by `Event::Prepared`.
    Prepare {
        /// For which rollout.
        rollout: RolloutId,
        /// The package.
        package: PackageName,
        /// Which release.
        release: ReleaseDigest,
        /// Its version.
        version: Version,
        /// Install, or rollback to a release of the ledger's history.
        kind: AssignmentKind,
    },
    /// Stop preparing; staged content may go.
    DropPrepared,
    /// Make the staged release current: one atomic switch. Answered by `Event::Switched`.
    Switch {
        /// The package.
        package: PackageName,
        /// To what.
        to: Installed,
    },
    /// Make an earlier release current again (`None`: nothing installed). Answered by
    /// `Event::Switched`.
    Revert {
        /// The package.
        package: PackageName,
        /// To what.
        to: Option<Installed>,
    },
    /// Arm the guard: from now on it counts boots. Idempotent.
    ArmGuard,
    /// Disarm the guard. Idempotent.
    DisarmGuard,
    /// Reboot the host, guard armed before.
    Reboot,
    /// Run one round of probes; answered by `Event::Probes`.
    RunProbes(Vec<Probe>),
    /// Write and fsync the record of orders; answered by `Event::OrdersWritten`.
    WriteOrders(Box<OrdersRecord>),
    /// Cut the host off but for the control servers and this list, now and in the boots to come, or
    /// change what stays open; answered by `Event::Isolated`.
    Isolate {
        /// What else stays reachable.
        allow: Vec<Allowed>,
    },
    /// Take the isolation back, where there is one; answered by `Event::IsolationEnded`.
    EndIsolation,
    /// Reach any server over a new connection, within 15 s; answered by `Event::ServerProved`.
    ProveServer,
    /// Look through the host's crash evidence anew; answered by `Event::Collected`.
    Collect,
}
