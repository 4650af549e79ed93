//! What waits for a second person: the exact command, bound by a digest to exactly what it would do.

use crate::salt::sha256;
use ringward_domain::command::{Action, Command};
use ringward_domain::order_spec::{ApprovalState, OrderTargets};
use ringward_domain::{ApprovalId, HostId, Millis, Sha256, Timestamp};
use serde::{Deserialize, Serialize};

/// How long something waits for a second person, on the fleet clock: a working shift is longer, so
/// that whoever approves still knows what it was about.
pub const WAITS: Millis = Millis::hours(4);
/// Waiting at once at most.
pub const WAITING_MAX: usize = 64;
/// Kept at most, those that wait always among them.
pub const KEPT: usize = 256;
/// Glass broken in a day at most, on the whole server: a stolen account must not go on for ever.
pub const GLASS_PER_DAY: usize = 3;
/// The time over which that counts.
pub const GLASS_DAY: Millis = Millis::hours(24);

/// Something that waits for a second person, or waited.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApprovalRecord {
    /// Its id.
    pub id: ApprovalId,
    /// The command; of an order, its targets are the exact hosts.
    pub command: Command,
    /// SHA-256 over what would be done.
    pub digest: Sha256,
    /// In one sentence.
    pub summary: String,
    /// Why a second person is needed.
    pub needs: Vec<String>,
    /// Public key of the author's certificate.
    pub author_key: Option<Sha256>,
    /// Fleet clock when it was asked for.
    pub asked_at: Timestamp,
    /// How it stands.
    pub state: ApprovalState,
    /// The author did it alone.
    #[serde(default)]
    pub glass: bool,
}

impl ApprovalRecord {
    /// Until it expires; nothing when it is over.
    #[must_use]
    pub fn left(&self, now: Timestamp) -> Millis {
        match self.state {
            ApprovalState::Waiting => (self.asked_at + WAITS).since(now),
            _ => Millis::ZERO,
        }
    }

    /// The exact hosts it names, if it is an order.
    #[must_use]
    pub fn hosts(&self) -> &[HostId] {
        match &self.command.action {
            Action::Order(spec) => match &spec.targets {
                OrderTargets::Hosts(hosts) => hosts,
                _ => &[],
            },
            _ => &[],
        }
    }
}

/// SHA-256 over a command and the state it builds on: another author, host, limit or policy in force
/// makes another digest.
#[must_use]
pub fn digest(command: &Command, basis: &Sha256) -> Sha256 {
    #[derive(Serialize)]
    struct Signed<'a> {
        actor: &'a str,
        reason: &'a str,
        request: String,
        action: &'a Action,
        basis: String,
    }
    let signed = Signed {
        actor: &command.actor,
        reason: &command.reason,
        request: command.request.to_string(),
        action: &command.action,
        basis: basis.to_string(),
    };
    // Plain structures with string keys only: this cannot fail, and nothing equals an empty digest
    // by chance.
    let bytes = serde_json::to_vec(&signed).unwrap_or_default();
    sha256(&[b"ringward approval v1\n".as_slice(), &bytes].concat())
}
