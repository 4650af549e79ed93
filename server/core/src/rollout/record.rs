//! What is written down of a rollout.

use super::member::Member;
use super::ring::RingRecord;
use super::{Spec, Status};
use crate::evidence::Evidence;
use crate::policy::Pace;
use crate::salt::Salt;
use ringward_domain::ids::RolloutId;
use ringward_domain::incident::SuspectView;
use ringward_domain::{HostId, Timestamp};
use serde::{Deserialize, Serialize};

/// A rollout without its members.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutRecord {
    /// Its id.
    pub id: RolloutId,
    /// What it brings to whom.
    pub spec: Spec,
    /// How carefully; frozen at the start.
    pub pace: Pace,
    /// Order of hosts.
    pub salt: Salt,
    /// How it stands.
    pub status: Status,
    /// Its rings.
    pub rings: Vec<RingRecord>,
    /// The ring under way; the number of rings when all are complete.
    pub current: usize,
    /// Everything known for and against the release.
    pub evidence: Evidence,
    /// Fleet clock when it was started.
    pub started_at: Timestamp,
    /// Deciding event received to halt decided, in ms.
    #[serde(default)]
    pub evidence_to_halt_ms: Option<u64>,
    /// Who was suspected when it halted.
    #[serde(default)]
    pub suspects: Vec<SuspectView>,
}

/// A part of a rollout's members as they were at its start, in the order of exposure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CohortRecord {
    /// The rollout.
    pub rollout: RolloutId,
    /// Which part, counted from zero over all rings.
    pub part: u32,
    /// Index of the ring.
    pub ring: usize,
    /// The hosts, at most [`COHORT_HOSTS_MAX`], each with its redundancy group (zero for none).
    pub hosts: Vec<(HostId, u64)>,
}

/// Hosts of one cohort record at most.
pub const COHORT_HOSTS_MAX: usize = 1000;

/// A member whose stage differs from how it started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// The rollout.
    pub rollout: RolloutId,
    /// The member.
    pub member: Member,
}
