//! Who may do what: roles, and the permissions they carry.

use crate::ids::Sha256;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Roles one person holds at most.
pub const GRANTS_MAX: usize = 16;

/// What a person is trusted with. No role contains another; a person holds as many as needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Looks.
    Viewer,
    /// Runs rollouts and looks after hosts.
    Operator,
    /// Isolates, reboots and rolls back hosts on a bad day, and may stop everything.
    Responder,
    /// Is the second person.
    Approver,
    /// Decides on policy and on who may do what.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Viewer,
        Self::Operator,
        Self::Responder,
        Self::Approver,
        Self::Admin,
    ];

    /// Whether the role carries a permission. Every role looks.
    #[must_use]
    pub const fn allows(self, permission: Permission) -> bool {
        match permission {
            Permission::Read | Permission::Themselves => true,
            Permission::Stop => !matches!(self, Self::Viewer),
            Permission::Rollout | Permission::Host => matches!(self, Self::Operator),
            Permission::Contain => matches!(self, Self::Responder),
            Permission::Approve => matches!(self, Self::Approver),
            Permission::Policy | Permission::People => matches!(self, Self::Admin),
            Permission::Agent | Permission::Enrol => false,
        }
    }

    /// As people write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Responder => "responder",
            Self::Approver => "approver",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What one call needs; declared at each call of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Permission {
    /// Look at hosts, releases, rollouts, orders, the audit log.
    Read,
    /// What every known caller may: ask who they are.
    Themselves,
    /// Pause, stop everything, and abort: always makes the fleet stand still.
    Stop,
    /// Publish releases, start and resume rollouts, roll back.
    Rollout,
    /// Labels, approval, freezes, retirement, enrolment tokens.
    Host,
    /// Orders to hosts: quarantine, release, reboot, rollback.
    Contain,
    /// Approve what somebody else asked for.
    Approve,
    /// The ring policy and its brakes.
    Policy,
    /// Grants, accounts, API tokens of others, webhooks.
    People,
    /// An agent with its host's certificate.
    Agent,
    /// An enrolment token: no certificate yet.
    Enrol,
}

/// One role, on the whole fleet or on part of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Grant {
    /// The role.
    pub role: Role,
    /// Only for hosts with such labels (a label selector); `None`: the whole fleet.
    pub selector: Option<String>,
}

/// Who calls, as verified at the edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Name of the person: the certificate's common name, or the account's.
    pub name: String,
    /// SHA-256 of the certificate's public key, where a certificate was shown.
    pub key: Option<Sha256>,
    /// How they proved it.
    pub by: Proof,
    /// Does it alone where two are needed, and says so.
    pub break_glass: bool,
}

/// How a caller proved who they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// A client certificate.
    Certificate,
    /// A browser's session.
    Session,
    /// An API token; it carries at most these roles of its owner, and never approves.
    Token(Vec<Grant>),
}
