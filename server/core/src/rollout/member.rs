//! One host's part in a rollout.

use ringward_domain::absence::Absence;
use ringward_domain::cause::Cause;
use ringward_domain::ids::{AgentStart, BootId, Nonce, SignalSeq};
use ringward_domain::ledger::{NotSwitchedWhy, RevertWhy};
use ringward_domain::observed::RefuseWhy;
use ringward_domain::report::{FailureWhy, MemberState, WaitWhy};
use ringward_domain::{HostId, Millis, Timestamp};
use serde::{Deserialize, Serialize};

/// Dead nonces remembered a host: only attempts younger than a grant's life can still be asked for.
const DEAD_MAX: usize = 4;

/// One host's part in a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// The host.
    pub host: HostId,
    /// Index of its ring.
    pub ring: usize,
    /// Its redundancy group; zero for none.
    #[serde(default)]
    pub group: u64,
    /// How it stands.
    pub stage: Stage,
    /// Since when.
    pub since: Timestamp,
    /// Came back after its silence deadline.
    #[serde(default)]
    pub late: bool,
    /// Failed on the release that this rollback leaves: goes ahead of the window.
    #[serde(default)]
    pub failed_before: bool,
    /// Times it was granted and did not switch.
    #[serde(default)]
    pub deferrals: u8,
    /// Not invited before.
    #[serde(default)]
    pub not_before: Timestamp,
    /// Nonces that can never begin any more, newest last.
    #[serde(default)]
    pub dead: Vec<Nonce>,
    /// What the host is ready for, as far as known.
    #[serde(skip, default)]
    pub readiness: Readiness,
    /// Was reachable before it became unreachable.
    #[serde(skip, default)]
    pub dropped: bool,
    /// Whether it was told that a request has a chance.
    #[serde(skip, default)]
    pub invite: Invite,
    /// Prepares for too long, or does not ask: the ring does not wait for it.
    #[serde(skip, default)]
    pub stalled: bool,
    /// Where it stands in the queue of deadlines.
    #[serde(skip, default)]
    pub timer: Option<Timestamp>,
}

/// How a host stands in a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Stage {
    /// Not exposed.
    Waiting,
    /// Ran the wanted release before its turn came.
    AlreadyThere,
    /// Will not install it.
    Refused(RefuseWhy),
    /// Holds a grant.
    Granted(Box<Grant>),
    /// Its `Begin` is recorded.
    Exposed(Box<Exposure>),
    /// The grant or exposure proved not switched; grantable again after a while.
    Deferred(NotSwitchedWhy),
    /// The exposure resolved with credit or failure, or was ended by a rollback.
    Ended(Ending, Box<Exposure>),
}

/// A permission to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Names it.
    pub nonce: Nonce,
    /// The boot it was given to.
    pub boot: BootId,
    /// The agent process it was given to.
    pub agent_start: AgentStart,
    /// A `Begin` after this is refused.
    pub expires: Timestamp,
    /// Ahead of the window (rollback of a failed host).
    #[serde(default)]
    pub express: bool,
}

/// A host exposed to the release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exposure {
    /// Names the attempt.
    pub nonce: Nonce,
    /// When its `Begin` was recorded.
    pub begun_at: Timestamp,
    /// The boot in which it began.
    pub boot: BootId,
    /// The agent process that began.
    pub agent_start: AgentStart,
    /// Boot-time clock of the host at `Begin`.
    #[serde(default)]
    pub boottime: Millis,
    /// First signal that can have been observed after `Begin`.
    #[serde(default)]
    pub first_signal: SignalSeq,
    /// How far the host says it is.
    pub phase: Phase,
    /// First word that it is on the release.
    #[serde(default)]
    pub applied_at: Option<Timestamp>,
    /// The host says that it soaked in full.
    #[serde(default)]
    pub committed: bool,
    /// Away as announced, since when.
    #[serde(default)]
    pub absent: Option<(Absence, Timestamp)>,
    /// Time away in all, without the present absence.
    #[serde(default)]
    pub away: Millis,
    /// Was away too long and lost its slot; soaks on without credit to the window.
    #[serde(default)]
    pub slotless: bool,
    /// Reboots during the exposure.
    #[serde(default)]
    pub reboots: bool,
    /// Ahead of the window.
    #[serde(default)]
    pub express: bool,
    /// The host was too new at `Begin` for its failure alone to halt by a hard rule.
    #[serde(default)]
    pub newcomer: bool,
    /// Silence allowed beyond the policy's: its kind is slow to come back from a reboot.
    #[serde(default)]
    pub patience: Millis,
    /// Last word of the host, or when silence starts to run.
    pub heard: Timestamp,
    /// What the host told of its failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Box<Cause>>,
    /// After confirmation: unannounced gone since.
    #[serde(skip, default)]
    pub gone: Option<Timestamp>,
}

/// How far an exposed host says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Phase {
    /// Nothing heard since `Begin`.
    Begun,
    /// On the release.
    Applied,
    /// Reboots into it.
    Rebooting,
    /// Healthy on it so far.
    Soaking,
}

/// How an exposure ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// Proven.
    Confirmed,
    /// Failed with a word.
    Failed(FailureWhy),
    /// Went back by itself.
    Reverted(RevertWhy),
    /// Not heard of until its deadline.
    Silent,
    /// A rollback took it off the release before it was proven: neither credit nor failure.
    RolledBack,
}

/// What a waiting host is ready for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Readiness {
    /// No session.
    #[default]
    Unreachable,
    /// Downloads or verifies.
    Preparing,
    /// Preparing failed; tried again by the host.
    PrepareFailing,
    /// Announced its absence.
    Away(Absence),
    /// Frozen by a person.
    Frozen,
    /// The release is barred on it.
    Barred,
    /// Has another release on trial.
    OtherTrial,
    /// Pending or retired.
    NotActive,
    /// Will not install it.
    Refuses(RefuseWhy),
    /// Ready, but none of its maintenance windows is open.
    OutsideMaintenance,
    /// Runs the wanted release and no attempt of this rollout is known.
    Runs,
    /// Can switch at once.
    Ready,
}

/// Whether a waiting host was told that a request has a chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Invite {
    /// No.
    #[default]
    None,
    /// Yes, and a place is kept for it until then.
    Until(Timestamp),
    /// Yes, but it did not ask in time.
    Lapsed,
}

/// Which lane of the window a host occupies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Counts against the window.
    Window,
    /// Rollback of a failed host, ahead of the window.
    Express,
}

impl Member {
    /// A member that waits.
    #[must_use]
    pub fn new(host: HostId, ring: usize, group: u64, now: Timestamp) -> Self {
        Self {
            host,
            ring,
            group,
            stage: Stage::Waiting,
            since: now,
            late: false,
            failed_before: false,
            deferrals: 0,
            not_before: Timestamp::default(),
            dead: Vec::new(),
            readiness: Readiness::default(),
            dropped: false,
            invite: Invite::None,
            stalled: false,
            timer: None,
        }
    }

    /// The lane it occupies, while granted or exposed and not resolved.
    #[must_use]
    pub fn lane(&self) -> Option<Lane> {
        let lane = |express| if express { Lane::Express } else { Lane::Window };
        match &self.stage {
            Stage::Granted(grant) => Some(lane(grant.express)),
            Stage::Exposed(exposure) if !exposure.slotless => Some(lane(exposure.express)),
            _ => None,
        }
    }

    /// Whether it could be granted if all else allowed it.
    #[must_use]
    pub fn grantable(&self) -> bool {
        matches!(self.stage, Stage::Waiting | Stage::Deferred(_))
    }

    /// The attempt it is in, or was in.
    #[must_use]
    pub fn nonce(&self) -> Option<Nonce> {
        match &self.stage {
            Stage::Granted(grant) => Some(grant.nonce),
            Stage::Exposed(exposure) | Stage::Ended(_, exposure) => Some(exposure.nonce),
            _ => None,
        }
    }

    /// The exposure, under way or ended.
    #[must_use]
    pub fn exposure(&self) -> Option<&Exposure> {
        match &self.stage {
            Stage::Exposed(exposure) | Stage::Ended(_, exposure) => Some(exposure),
            _ => None,
        }
    }

    /// Never let this nonce begin again.
    pub fn bury(&mut self, nonce: Nonce) {
        if !self.dead.contains(&nonce) {
            self.dead.push(nonce);
        }
        if self.dead.len() > DEAD_MAX {
            self.dead.remove(0);
        }
    }

    /// Went silent and was not heard of since.
    #[must_use]
    pub fn lost(&self) -> bool {
        matches!(self.stage, Stage::Ended(Ending::Silent, _)) && !self.late
    }
}

impl Ending {
    /// Whether it counts against the release.
    #[must_use]
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Failed(_) | Self::Reverted(_) | Self::Silent)
    }
}

impl Exposure {
    /// Time on the release without announced absences.
    #[must_use]
    pub fn on_release(&self, now: Timestamp) -> Millis {
        let present = self
            .absent
            .map_or(Millis::ZERO, |(_, since)| now.since(since));
        self.applied_at
            .map_or(Millis::ZERO, |at| now.since(at) - self.away - present)
    }

    /// What people read.
    #[must_use]
    pub fn state(&self) -> MemberState {
        if let Some((absence, _)) = self.absent {
            return MemberState::Away(absence);
        }
        match self.phase {
            Phase::Begun => MemberState::Begun,
            Phase::Applied => MemberState::Applied,
            Phase::Rebooting => MemberState::Rebooting,
            Phase::Soaking => MemberState::Soaking,
        }
    }
}

impl Readiness {
    /// Why a host in this condition waits; `None` if it is not the reason.
    #[must_use]
    pub fn wait(self) -> Option<WaitWhy> {
        Some(match self {
            Self::Unreachable => WaitWhy::Unreachable,
            Self::Preparing | Self::Runs => WaitWhy::Preparing,
            Self::PrepareFailing => WaitWhy::PrepareFailing,
            Self::Away(absence) => WaitWhy::Away(absence),
            Self::Frozen => WaitWhy::Frozen,
            Self::Barred => WaitWhy::Barred,
            Self::OtherTrial => WaitWhy::OtherTrial,
            Self::NotActive => WaitWhy::NotActive,
            Self::Refuses(_) => WaitWhy::PrepareFailing,
            Self::OutsideMaintenance => WaitWhy::OutsideMaintenance,
            Self::Ready => return None,
        })
    }
}
