//! Orders to hosts as the host sees them: levels within [`Desired`](crate::Desired), and what the
//! host reports of each.
//!
//! Quarantine, freeze and pins are states: the host is in them as long as its desired state says so,
//! and release is their absence. Reboot and collect are done once: the host remembers, durably and
//! before the act, which ids it took up, and reports each until the server withdraws it.

use crate::ids::{KeyId, OrderId, Sha256};
use crate::manifest::Signature;
use crate::net::Allowed;
use crate::time::Millis;
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// Capability of an agent that can isolate its host.
pub const CAPABILITY_QUARANTINE: &str = "quarantine";
/// Capability of an agent that takes orders at all.
pub const CAPABILITY_ORDERS: &str = "orders";

/// What people want of a host beside its releases. The default says nothing: it comes from a server
/// that knows no orders, and changes nothing on the host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OrdersDesired {
    /// Whether the host should be isolated.
    pub containment: Containment,
    /// The host takes no changes; the server grants none either.
    pub frozen: bool,
    /// Paths of others whose content is kept at its good copy; at most
    /// [`PINS_MAX`](crate::limits::PINS_MAX).
    pub pins: Vec<String>,
    /// To be done once each; at most [`ORDERS_MAX`](crate::limits::ORDERS_MAX). An order that is no
    /// longer here was withdrawn: what has not begun does not begin.
    pub once: Vec<Order>,
}

/// Whether a host should be isolated.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Containment {
    /// The server says nothing of it: the host stays as it is.
    #[default]
    Unsaid,
    /// Open; what isolated it before is undone.
    Open,
    /// Isolated.
    Quarantined(Box<Quarantine>),
}

/// How a host should be isolated. Control servers, loopback, DHCP, neighbour discovery, and DNS to
/// the configured resolvers (only where servers are known by name) always stay open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// The order it belongs to; another id is a new quarantine, whose life starts anew.
    pub order: OrderId,
    /// What else stays reachable; at most [`ALLOW_MAX`](crate::limits::ALLOW_MAX).
    pub allow: Vec<Allowed>,
    /// Ends by itself after so much powered-on time since it closed; `None`: until released.
    pub life: Option<Millis>,
    /// What the host checks before it obeys.
    pub warrant: Warrant,
}

/// One thing to be done once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Names it for ever.
    pub id: OrderId,
    /// What.
    pub act: Once,
    /// What the host checks before it obeys.
    pub warrant: Warrant,
}

/// What can be ordered to be done once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Once {
    /// Reboot, guard armed first.
    Reboot,
    /// Look through the host's crash evidence anew and report what it holds.
    Collect,
}

/// By whose word an order is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The server, by itself.
    Automatic,
    /// One person.
    Person,
    /// One person and a second one.
    TwoPersons,
    /// One person alone, where two were needed and none was there.
    BreakGlass,
}

/// What a host checks before it obeys an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warrant {
    /// By whose word; claimed by the server, proved only by endorsements.
    pub origin: Origin,
    /// Not begun after this, by the host's wall clock where it has one; display and a second line of
    /// defence, for the server withdraws what has expired. Zero: none.
    pub not_after_unix_ms: u64,
    /// Which hosts the order names; needed where it is endorsed.
    pub targets: Option<Targets>,
    /// Signatures (Ed25519) of approvers' keys, which the server does not hold, over
    /// [`statement`]; at most [`ENDORSEMENTS_MAX`](crate::limits::ENDORSEMENTS_MAX).
    pub endorsements: Vec<Signature>,
}

/// Proof that a host is among those an order names: an RFC 6962 tree whose leaves are the hosts' ids
/// (8 bytes, big endian) in ascending order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets {
    /// Hosts named.
    pub count: u64,
    /// Root over all of them.
    pub root: Sha256,
    /// This host's place among them, from 0.
    pub index: u64,
    /// Inclusion proof; at most [`TARGET_PROOF_MAX`](crate::limits::TARGET_PROOF_MAX).
    pub proof: Vec<Sha256>,
}

/// What an endorsement is asked for; the same for every host of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endorsed<'a> {
    /// An isolation.
    Quarantine {
        /// What else stays reachable.
        allow: &'a [Allowed],
        /// Its life.
        life: Option<Millis>,
    },
    /// An act.
    Once(Once),
}

/// The bytes that approvers endorse: one line a fact, so that a person can read what they sign.
#[must_use]
pub fn statement(
    order: OrderId,
    what: Endorsed<'_>,
    not_after_unix_ms: u64,
    hosts: u64,
    root: &Sha256,
) -> Vec<u8> {
    let mut text = format!("ringward order v1\norder {order}\n");
    // Writing to a String cannot fail.
    let _ = match what {
        Endorsed::Once(Once::Reboot) => writeln!(text, "reboot"),
        Endorsed::Once(Once::Collect) => writeln!(text, "collect"),
        Endorsed::Quarantine { allow, life } => {
            let _ = match life {
                Some(life) => writeln!(text, "quarantine {} ms", life.0),
                None => writeln!(text, "quarantine until-released"),
            };
            allow
                .iter()
                .try_for_each(|allowed| writeln!(text, "allow {allowed}"))
        }
    };
    let _ = writeln!(
        text,
        "not-after-unix-ms {not_after_unix_ms}\nhosts {hosts}\ntargets {root}"
    );
    text.into_bytes()
}

/// What a host reports of its isolation and its orders: a level, repeated in Hello.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OrdersObserved {
    /// How it stands with its isolation.
    pub containment: ContainmentObserved,
    /// Ways past the isolation that it found, in words (an XDP program, a macvlan, a container
    /// bridge); at most [`ESCAPES_MAX`](crate::limits::ESCAPES_MAX).
    pub escapes: Vec<String>,
    /// Each order taken up or refused, until the server withdraws it; at most
    /// [`ORDERS_MAX`](crate::limits::ORDERS_MAX).
    pub once: Vec<OrderObserved>,
}

/// How a host stands with its isolation.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContainmentObserved {
    /// Nothing of ours isolates it.
    #[default]
    Open,
    /// The net is closed and the server is not proven reachable yet.
    Closing(OrderId),
    /// Isolated.
    Closed {
        /// By which order.
        order: OrderId,
        /// Powered-on time until it ends by itself; `None`: until released.
        left: Option<Millis>,
    },
    /// Ended by itself; open.
    Expired(OrderId),
    /// Tried, and open again.
    Undone(OrderId, UndoneWhy),
    /// Will not isolate itself; open.
    Refused(OrderId, OrderRefusal),
}

/// Why an isolation was tried and undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UndoneWhy {
    /// The server was reachable before and not after: three tries in 60 s.
    ServerUnreachable,
    /// The firewall took no rules.
    Firewall,
    /// The disk is full or read-only: it would not survive a reboot.
    Disk,
}

/// One order as the host sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderObserved {
    /// Which.
    pub order: OrderId,
    /// How it stands.
    pub state: OrderState,
}

/// How an order stands on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrderState {
    /// Accepted; waits for its moment.
    Taken,
    /// Under way.
    Running,
    /// Done; a reboot is done when the next boot reports it.
    Done,
    /// Tried and failed.
    Failed(OrderFailure),
    /// Will not be done.
    Refused(OrderRefusal),
}

/// Why an order failed on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrderFailure {
    /// The system refused or reported an error.
    System,
    /// The disk is full or read-only.
    Disk,
    /// The host restarted in between, and the order is not one that may be repeated.
    Interrupted,
}

/// Why a host refuses an order, whatever the server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrderRefusal {
    /// Its local policy forbids it.
    LocalPolicy,
    /// Its local policy allows fewer in this time.
    RateLimit,
    /// Its local policy wants more valid endorsements.
    Quorum,
    /// The endorsed order does not name this host.
    NotNamed,
    /// Its time has passed, or its endorsement: it was obeyed before.
    Expired,
    /// The allow list is wider than its local policy permits.
    AllowTooWide,
    /// This host cannot do it (no usable firewall, no agent support).
    Unsupported,
}

/// Who may endorse orders, as an agent's local policy pins it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Endorsers {
    /// Distinct keys that must sign; 0: none needed.
    pub threshold: u32,
    /// Their ids.
    pub keys: Vec<KeyId>,
}
