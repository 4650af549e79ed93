//! What of orders survives a restart: one small record, written before the act it describes.

use ringward_domain::net::Allowed;
use ringward_domain::order::{Once, OrderRefusal, OrderState, UndoneWhy};
use ringward_domain::{BootId, Epoch, Generation, Millis, OrderId};
use serde::{Deserialize, Serialize};

/// Format of the record that this version writes.
pub const FORMAT: u32 = 1;

/// Orders whose endorsements are remembered as spent. By default 8 acts a day need one, so this
/// reaches back a month; an order's time ends long before.
pub const SPENT_MAX: usize = 256;

/// Everything about orders that a restart must not lose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrdersRecord {
    /// Its format.
    pub format: u32,
    /// Newest desired state whose orders were taken up.
    pub accepted: (Epoch, Generation),
    /// How the host stands, or what it was about to become.
    pub stage: Stage,
    /// Powered-on time of this host, all boots together, when this was written.
    pub powered: Millis,
    /// In which boot that was.
    pub boot: BootId,
    /// And at which time awake of that boot.
    pub awake: Millis,
    /// When the host was isolated lately, in powered-on time.
    pub isolated_at: Vec<Millis>,
    /// When it was rebooted by order lately, in powered-on time.
    pub rebooted_at: Vec<Millis>,
    /// When its evidence was collected by order lately, in powered-on time.
    pub collected_at: Vec<Millis>,
    /// Orders to be done once, until the server withdraws them.
    pub once: Vec<OnceRecord>,
    /// Endorsed orders that were obeyed, oldest first; at most [`SPENT_MAX`].
    #[serde(default)]
    pub spent: Vec<OrderId>,
}

/// An order to be done once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnceRecord {
    /// Which.
    pub order: OrderId,
    /// What.
    pub act: Once,
    /// How it stands.
    pub state: OrderState,
    /// The boot in which it was taken up.
    pub boot: BootId,
}

/// What isolates the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// By which order.
    pub order: OrderId,
    /// What stays reachable beside the control servers.
    pub allow: Vec<Allowed>,
    /// Powered-on time until it ends by itself; `None`: until released.
    pub life: Option<Millis>,
}

/// How the host stands. A stage is on disk before its act begins.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Nothing of ours isolates it.
    #[default]
    Open,
    /// Open, and the named order is over for this host.
    Settled {
        /// Which.
        order: OrderId,
        /// How it ended.
        how: Ending,
    },
    /// About to close, or closed this very moment.
    Closing {
        /// How.
        isolation: Isolation,
        /// Whether the server was reachable just before; `None`: to be found out.
        reachable: Option<bool>,
        /// Powered-on time since which it counts, where it only changes what stays open.
        since: Option<Millis>,
    },
    /// Closed.
    Closed {
        /// How.
        isolation: Isolation,
        /// Since when, in powered-on time.
        since: Millis,
        /// Whether the server was reached since.
        proof: Proof,
    },
    /// About to open, or opened this very moment.
    Opening {
        /// What isolated it.
        order: OrderId,
        /// What becomes of it.
        then: Option<Ending>,
    },
}

/// How an order ended that the server still wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Its life is over.
    Expired,
    /// It was tried and undone.
    Undone(UndoneWhy),
    /// The host would not.
    Refused(OrderRefusal),
}

/// Whether the server was reached through the closed net.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// Not yet.
    Pending {
        /// Whether it was reachable just before.
        reachable: bool,
        /// Tries begun.
        tries: u32,
    },
    /// It was.
    Proven,
    /// It was not, and was not before either: nothing is learned from that, the host stays isolated.
    Unproven,
}

impl OrdersRecord {
    /// A host that never had an order.
    #[must_use]
    pub fn new(boot: BootId) -> Self {
        Self {
            format: FORMAT,
            accepted: (Epoch(0), Generation(0)),
            stage: Stage::Open,
            powered: Millis::ZERO,
            boot,
            awake: Millis::ZERO,
            isolated_at: Vec::new(),
            rebooted_at: Vec::new(),
            collected_at: Vec::new(),
            once: Vec::new(),
            spent: Vec::new(),
        }
    }
}
