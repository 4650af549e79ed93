//! What happens to the server and what it does.

use crate::record::{Record, RecordKey};
use ringward_domain::HostId;
use ringward_domain::ids::{ReleaseDigest, RolloutId};
use ringward_domain::session::{Hello, ToAgent, ToServer};
use ringward_domain::signal::Signal;
use serde::{Deserialize, Serialize};

/// Something that happened. Identity was verified at the edge.
#[derive(Debug, Clone)]
pub enum Event {
    /// A host opened a session (a newer session of the same host replaces the older).
    Connected {
        /// From its certificate.
        host: HostId,
        /// What it said.
        hello: Box<Hello>,
    },
    /// A message within a session; `Hello` never comes here.
    Message {
        /// From whom.
        host: HostId,
        /// What.
        message: ToServer,
    },
    /// A session ended.
    Disconnected {
        /// Whose.
        host: HostId,
    },
    /// A deadline may have passed; see `Control::next_deadline`.
    Tick,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Write a record.
    Put(Box<Record>),
    /// Delete a record.
    Delete(RecordKey),
    /// Write a signal (idempotent by host and seq).
    StoreSignal(HostId, Box<Signal>),
    /// Append to the audit log.
    Audit(AuditEntry),
    /// Send once everything above is durable.
    Send(HostId, Box<ToAgent>),
    /// Close the host's session.
    Close(HostId),
    /// Tell people.
    Notice(Notice),
}

/// One line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Who: an admin's subject, `host h-…`, or `ringward` itself.
    pub actor: String,
    /// What, as noun and verb (`rollout start`, `rollout halt`).
    pub action: String,
    /// On what.
    pub object: String,
    /// Why, in words.
    pub reason: String,
}

/// Something people should hear of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Notice {
    /// A rollout halted.
    Halted {
        /// Which rollout.
        rollout: RolloutId,
        /// Which release.
        release: ReleaseDigest,
        /// Why, in words.
        reason: String,
    },
    /// Anything else worth a line in the log and the event stream.
    Line(String),
}
