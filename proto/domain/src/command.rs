//! What admins command. Each command carries a request id: repeated, it answers what it did first.

use crate::host::Labels;
use crate::ids::{ApprovalId, HostId, OrderId, ReleaseDigest, RequestId, RolloutId, Sha256};
use crate::manifest::Signature;
use crate::order_spec::OrderSpec;
use crate::people::Grant;
use crate::version::{PackageName, Version};
use serde::{Deserialize, Serialize};

/// A command of a person, with who and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Makes it idempotent.
    pub request: RequestId,
    /// Who: the subject of the admin's verified certificate.
    pub actor: String,
    /// Why, in the person's words; at most
    /// [`REASON_BYTES_MAX`](crate::limits::REASON_BYTES_MAX).
    pub reason: String,
    /// Say what would happen, by the same code, and do nothing.
    pub dry_run: bool,
    /// What.
    pub action: Action,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Start a rollout of a published release over the rings in force.
    StartRollout {
        /// The release.
        release: ReleaseDigest,
    },
    /// Bring hosts from `leave` back to `to`, or to the newest good release they have proven.
    Rollback {
        /// The release to leave; it becomes bad.
        leave: ReleaseDigest,
        /// Where to; `None` = the package's newest release in good standing.
        to: Option<Version>,
    },
    /// No further grants; exposures under way go on.
    Pause(RolloutId),
    /// Lift a pause or a halt.
    Resume(RolloutId),
    /// End for good.
    Abort(RolloutId),
    /// The andon: pause every rollout but rollbacks.
    StopAll,
    /// Lift the andon.
    ResumeAll,
    /// Set a release's standing to good.
    MarkGood(ReleaseDigest),
    /// Set a release's standing to bad: barred on the fleet.
    MarkBad(ReleaseDigest),
    /// Lift bars of a release: on the fleet and on every host.
    LiftBar(ReleaseDigest),
    /// Replace a host's labels.
    SetLabels(HostId, Labels),
    /// Let a pending host take part.
    ApproveHost(HostId),
    /// Take a host out of the fleet; its certificate is revoked.
    RetireHost(HostId),
    /// A host takes no changes.
    Freeze(HostId),
    /// Undo a freeze.
    Unfreeze(HostId),
    /// Let a host connect again whose identity two machines had used.
    UnfenceHost(HostId),
    /// The host is the machine that another host with its fingerprint was: that one leaves.
    ReplaceHost(HostId),
    /// Put another ring policy in force (TOML, already parsed and checked by the same code).
    ApplyPolicy(String),
    /// Order hosts something beside releases.
    Order(Box<OrderSpec>),
    /// End an order: what is not done yet is not done.
    CancelOrder(OrderId),
    /// Carry a person's signature with an order, for hosts that ask for it; checked at the edge.
    Endorse(OrderId, Signature),
    /// Say yes, as the second person, to exactly this.
    Approve(ApprovalId, Sha256),
    /// Say no.
    Deny(ApprovalId),
    /// Replace all grants of a person.
    Grant(String, Vec<Grant>),
}

/// What a command did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// In one sentence.
    pub summary: String,
    /// The rollout started, if one was.
    pub rollout: Option<RolloutId>,
    /// Hosts concerned, ring by ring in the order of exposure; at most 1,000 a ring.
    pub hosts: Vec<(String, Vec<HostId>)>,
    /// What was not counted, and why.
    pub left_out: Vec<(HostId, String)>,
    /// What a person should know before saying yes.
    pub warnings: Vec<String>,
    /// The order given, if one was.
    pub order: Option<OrderId>,
    /// It was not done: it waits for a second person, who approves exactly this digest.
    pub approval: Option<(ApprovalId, Sha256)>,
}

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// No such thing.
    #[error("{what} {id} does not exist; {next}")]
    NotFound {
        /// Kind of thing.
        what: String,
        /// As asked for.
        id: String,
        /// What to do next.
        next: String,
    },
    /// A field cannot be what it is.
    #[error("{field}: {why}")]
    Invalid {
        /// The field's path.
        field: String,
        /// What is wrong and what would do.
        why: String,
    },
    /// Right in itself, not in this state.
    #[error("{what} is not possible now: {why}; {next}")]
    Conflict {
        /// What was asked for.
        what: String,
        /// Why not.
        why: String,
        /// What to do next.
        next: String,
    },
    /// This caller may not.
    #[error("{what} is not allowed: {why}; {next}")]
    Denied {
        /// What was asked for.
        what: String,
        /// Why not.
        why: String,
        /// What to do next.
        next: String,
    },
    /// The release may not go to anyone.
    #[error("{package} {version} is barred: {why}; lift it with `ringwardctl releases lift-bar`")]
    Barred {
        /// The package.
        package: PackageName,
        /// Its version.
        version: Version,
        /// Why.
        why: String,
    },
}
