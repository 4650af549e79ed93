//! What the server writes down, one record a thing. Unknown fields are ignored on reading, new ones
//! have defaults, so that version N-1 reads what N wrote.

use crate::baseline::Counts;
use crate::host::HostRecord;
use crate::orders::{OrderHostRecord, OrderRecord};
use crate::people::PersonRecord;
use crate::release::ReleaseRecord;
use crate::rollout::record::{CohortRecord, MemberRecord, RolloutRecord};
use crate::second::ApprovalRecord;
use ringward_domain::command::{Action, Outcome};
use ringward_domain::ids::{
    ApprovalId, Epoch, Generation, OrderId, ReleaseDigest, RequestId, RolloutId,
};
use ringward_domain::incident::SuspectView;
use ringward_domain::{HostId, Millis, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Key of a record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RecordKey {
    /// Epoch, generation reserve, andon, policy in force, fleet clock.
    Control,
    /// A host.
    Host(HostId),
    /// A release.
    Release(ReleaseDigest),
    /// A rollout with its rings and evidence.
    Rollout(RolloutId),
    /// A part of a rollout's members in the order of exposure, frozen at its start.
    Cohort(RolloutId, u32),
    /// A host's part in a rollout, once it differs from how it started.
    Member(RolloutId, HostId),
    /// A command carried out.
    Request(RequestId),
    /// A surge of failures, by its number.
    Incident(u64),
    /// What the control group went through in the last 72 h.
    Background,
    /// A person and what they may do.
    Person(String),
    /// An order to hosts.
    Order(OrderId),
    /// A host's part in an order.
    OrderHost(OrderId, HostId),
    /// Something that waits, or waited, for a second person.
    Approval(ApprovalId),
}

/// A record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// See [`RecordKey::Control`].
    Control(Box<ControlRecord>),
    /// See [`RecordKey::Host`].
    Host(Box<HostRecord>),
    /// See [`RecordKey::Release`].
    Release(Box<ReleaseRecord>),
    /// See [`RecordKey::Rollout`].
    Rollout(Box<RolloutRecord>),
    /// See [`RecordKey::Cohort`].
    Cohort(Box<CohortRecord>),
    /// See [`RecordKey::Member`].
    Member(Box<MemberRecord>),
    /// See [`RecordKey::Request`].
    Request(Box<RequestRecord>),
    /// See [`RecordKey::Incident`].
    Incident(Box<IncidentRecord>),
    /// See [`RecordKey::Background`].
    Background(Box<BackgroundRecord>),
    /// See [`RecordKey::Person`].
    Person(Box<PersonRecord>),
    /// See [`RecordKey::Order`].
    Order(Box<OrderRecord>),
    /// See [`RecordKey::OrderHost`].
    OrderHost(Box<OrderHostRecord>),
    /// See [`RecordKey::Approval`].
    Approval(Box<ApprovalRecord>),
}

impl Record {
    /// Where it is kept.
    #[must_use]
    pub fn key(&self) -> RecordKey {
        match self {
            Self::Control(_) => RecordKey::Control,
            Self::Host(host) => RecordKey::Host(host.id),
            Self::Release(release) => RecordKey::Release(release.release),
            Self::Rollout(rollout) => RecordKey::Rollout(rollout.id),
            Self::Cohort(cohort) => RecordKey::Cohort(cohort.rollout, cohort.part),
            Self::Member(member) => RecordKey::Member(member.rollout, member.member.host),
            Self::Request(request) => RecordKey::Request(request.request),
            Self::Incident(incident) => RecordKey::Incident(incident.number),
            Self::Background(_) => RecordKey::Background,
            Self::Person(person) => RecordKey::Person(person.name.clone()),
            Self::Order(order) => RecordKey::Order(order.id),
            Self::OrderHost(part) => RecordKey::OrderHost(part.order, part.host),
            Self::Approval(approval) => RecordKey::Approval(approval.id),
        }
    }
}

/// The server's own state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlRecord {
    /// Raised by a person's restore of the server.
    pub epoch: Epoch,
    /// Generations below this one may have been sent; a restart goes on from here.
    pub generation_reserved: Generation,
    /// Every rollout but rollbacks is paused.
    pub andon: bool,
    /// The ring policy in force, as its text.
    pub policy: String,
    /// The fleet clock when this was written; it never resumes below.
    pub clock: Timestamp,
    /// Number of the next rollout: orders them by their start.
    #[serde(default)]
    pub next_rollout: u64,
    /// Number of the next command: the oldest ones are forgotten.
    #[serde(default)]
    pub next_request: u64,
}

/// A surge of failures. Suspects stand as they were ranked last.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct IncidentRecord {
    /// Orders incidents by when they were opened, from 1.
    pub number: u64,
    /// When it was opened, Unix milliseconds, for display only.
    pub opened_unix_ms: u64,
    /// What opened it, in words.
    pub cause: String,
    /// Fleet clock of its newest failure.
    pub last_failure: Timestamp,
    /// No further failure for a day.
    pub closed: bool,
    /// Hosts that failed in it.
    pub failed: u64,
    /// They, newest first, bounded.
    pub failed_hosts: Vec<HostId>,
    /// Who is suspected, most first.
    #[serde(default)]
    pub suspects: Vec<SuspectView>,
    /// Hosts with the first suspect that did not fail, bounded.
    #[serde(default)]
    pub at_risk: Vec<HostId>,
    /// How many they are.
    #[serde(default)]
    pub at_risk_count: u64,
    /// The release of ours that is suspected first, or that was halted.
    #[serde(default)]
    pub release: Option<ReleaseDigest>,
}

/// The control group, written down every ten minutes: a server that restarts must not judge a release
/// by the ceiling for a fleet that it has watched for years.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct BackgroundRecord {
    /// Hours of the fleet clock and what happened in each, oldest first, at most 72.
    pub hours: Vec<(u64, Counts)>,
    /// Newest times to come back from a reboot by kind of host, oldest first, bounded.
    #[serde(default)]
    pub returns: BTreeMap<String, Vec<Millis>>,
}

/// A command carried out, and what it answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// Its id.
    pub request: RequestId,
    /// Orders commands by when they were carried out.
    pub number: u64,
    /// What was asked for: the same id with another action is refused.
    pub action: Action,
    /// What was answered.
    pub outcome: Outcome,
}
