//! Orders as people give them, and how they stand, host by host.

use crate::ids::{ApprovalId, HostId, KeyId, OrderId, ReleaseDigest, RingName, Sha256};
use crate::net::Allowed;
use crate::order::{Endorsed, Once, OrderFailure, OrderRefusal, Origin, UndoneWhy, statement};
use crate::time::Millis;
use crate::version::{PackageName, Version};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Hosts of one order at most: a larger emergency is ordered ring by ring.
pub const ORDER_HOSTS_MAX: usize = 10_000;
/// Bytes of a ticket's name.
pub const TICKET_BYTES_MAX: usize = 128;
/// Life of an order that names none: hosts that were not reached by then are left in peace.
pub const ORDER_LIFE: Millis = Millis::hours(24);
/// Longest life of an order.
pub const ORDER_LIFE_MAX: Millis = Millis::hours(30 * 24);
/// Life of a quarantine that names none.
pub const QUARANTINE_LIFE: Millis = Millis::hours(24);

/// An order as asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderSpec {
    /// What.
    pub kind: OrderKind,
    /// To whom.
    pub targets: OrderTargets,
    /// Name of a ticket elsewhere; may be empty.
    pub ticket: String,
    /// Hosts that did not begin by then are left in peace.
    pub life: Millis,
    /// Protected hosts too; else they are left out. Needs a second person.
    pub protected: bool,
    /// All at once, beyond the hourly caps; else the rest waits its turn. Needs a second person.
    pub over_cap: bool,
    /// Told to nobody before so many people's keys endorsed it, for hosts whose own policy asks for
    /// that; at most [`ENDORSEMENTS_MAX`](crate::limits::ENDORSEMENTS_MAX).
    #[serde(default)]
    pub endorsers: u32,
}

/// What hosts can be ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrderKind {
    /// Isolate.
    Quarantine {
        /// What stays reachable beside the control servers.
        allow: Vec<Allowed>,
        /// Powered-on time until it ends by itself; `None`: until released.
        life: Option<Millis>,
    },
    /// End an isolation.
    Release,
    /// Go back to an earlier release of a package, at once.
    Rollback {
        /// The package.
        package: PackageName,
        /// Where to; `None`: the newest release in good standing.
        to: Option<Version>,
    },
    /// Take no changes.
    Freeze,
    /// Take changes again.
    Unfreeze,
    /// Keep this path of others at its good copy.
    Pin(String),
    /// Let it change again.
    Unpin(String),
    /// Reboot, guard armed first.
    Reboot,
    /// Look through crash evidence anew.
    Collect,
}

impl OrderKind {
    /// Whether it takes a host out of service, and counts towards the caps.
    #[must_use]
    pub const fn disrupts(&self) -> bool {
        matches!(
            self,
            Self::Quarantine { .. } | Self::Reboot | Self::Rollback { .. }
        )
    }

    /// What an endorsement of it is asked for; `None` where no host asks for any.
    #[must_use]
    pub fn endorsed(&self) -> Option<Endorsed<'_>> {
        match self {
            Self::Quarantine { allow, life } => Some(Endorsed::Quarantine { allow, life: *life }),
            Self::Reboot => Some(Endorsed::Once(Once::Reboot)),
            Self::Collect => Some(Endorsed::Once(Once::Collect)),
            _ => None,
        }
    }

    /// As people write it.
    #[must_use]
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Quarantine { .. } => "quarantine",
            Self::Release => "release",
            Self::Rollback { .. } => "rollback",
            Self::Freeze => "freeze",
            Self::Unfreeze => "unfreeze",
            Self::Pin(_) => "pin",
            Self::Unpin(_) => "unpin",
            Self::Reboot => "reboot",
            Self::Collect => "collect",
        }
    }
}

/// To whom an order goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrderTargets {
    /// These.
    Hosts(Vec<HostId>),
    /// All whose labels match; never empty.
    Selector(String),
    /// All that fall into this ring of the policy in force.
    Ring(RingName),
    /// All that run this release now.
    Release(ReleaseDigest),
    /// The whole fleet, said in so many words.
    Everything,
}

/// How one host of an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// Waits for room under a cap.
    OverCap(CapKind),
    /// Not told yet, or no word that it heard.
    Pending,
    /// It knows.
    Delivered,
    /// Done.
    Done,
    /// Not done, and not tried again.
    Failed(NotDone),
    /// The order's life ended first.
    Expired,
    /// A person ended it first.
    Cancelled,
}

impl Progress {
    /// Whether nothing more comes of it.
    #[must_use]
    pub const fn is_over(self) -> bool {
        !matches!(self, Self::OverCap(_) | Self::Pending | Self::Delivered)
    }
}

/// Which cap is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CapKind {
    /// Hosts of the fleet an hour.
    Hour,
    /// Hosts of its ring an hour.
    Ring,
    /// Hosts of its redundancy group at once.
    Group,
    /// Part of the fleet isolated at once.
    Share,
}

impl fmt::Display for CapKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hour => "hourly cap of the fleet",
            Self::Ring => "hourly cap of its ring",
            Self::Group => "cap of its redundancy group",
            Self::Share => "share of the fleet isolated at once",
        })
    }
}

/// Why a host did not do what it was ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotDone {
    /// It refused.
    Refused(OrderRefusal),
    /// It tried.
    Failed(OrderFailure),
    /// It isolated itself and undid it.
    Undone(UndoneWhy),
    /// A later order took this one's place.
    Superseded(OrderId),
    /// It left the fleet.
    Retired,
}

/// An order as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderView {
    /// Its id.
    pub id: OrderId,
    /// What was asked for; its targets are the exact hosts.
    pub spec: OrderSpec,
    /// By whom.
    pub author: String,
    /// Why.
    pub reason: String,
    /// By whose word.
    pub origin: Origin,
    /// Who approved it; empty where nobody had to.
    pub approved_by: String,
    /// When it was given.
    pub issued_unix_ms: u64,
    /// How many hosts stand how: over cap, pending, delivered, done, failed, expired, cancelled.
    pub counts: [u64; 7],
    /// Life left.
    pub left: Millis,
    /// Keys that endorsed it.
    pub endorsed_by: Vec<KeyId>,
}

impl OrderView {
    /// What endorsements of it sign, over these hosts: the root of their tree and how many they are.
    /// `None` for what no host asks endorsements for.
    #[must_use]
    pub fn statement(&self, hosts: u64, root: &Sha256) -> Option<Vec<u8>> {
        let not_after_unix_ms = not_after_unix_ms(self.issued_unix_ms, self.spec.life);
        let what = self.spec.kind.endorsed()?;
        Some(statement(self.id, what, not_after_unix_ms, hosts, root))
    }
}

/// When an order's time ends, by the wall clock.
#[must_use]
pub const fn not_after_unix_ms(issued_unix_ms: u64, life: Millis) -> u64 {
    issued_unix_ms.saturating_add(life.0)
}

/// One host of an order as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderHostView {
    /// The host.
    pub host: HostId,
    /// Its name.
    pub hostname: String,
    /// How it stands.
    pub progress: Progress,
}

/// Something that waits for a second person, or waited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalView {
    /// Its id.
    pub id: ApprovalId,
    /// SHA-256 over exactly what would be done.
    pub digest: Sha256,
    /// What, in one sentence.
    pub summary: String,
    /// Why a second person is needed.
    pub needs: Vec<String>,
    /// Who asked.
    pub author: String,
    /// Why.
    pub reason: String,
    /// How it stands.
    pub state: ApprovalState,
    /// Until it expires; zero when it is over.
    pub left: Millis,
    /// Hosts it names, at most 1,000.
    pub hosts: Vec<HostId>,
}

/// How an approval stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ApprovalState {
    /// Waits.
    Waiting,
    /// Approved by this person, and done.
    Approved(String),
    /// Denied by this person.
    Denied(String),
    /// Nobody came.
    Expired,
}
