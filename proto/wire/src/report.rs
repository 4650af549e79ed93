//! What people read of rollouts, on the wire.

use crate::code::{Coded, signal_code, signal_kind};
use crate::error::DecodeError;
use crate::field::{
    clip, id, list, maybe, maybe_id, maybe_parse, message, messages, parse, text, texts,
};
use crate::incident::{STRATA_MAX, SUSPECTS_MAX, few};
use crate::observed::{UNIT, unknown_body};
use crate::page::{PageRequest, SIZE_MAX};
use crate::pb;
use ringward_domain::cause::CAUSES_MAX;
use ringward_domain::ledger::{FailWhy, NotSwitchedWhy, RevertWhy};
use ringward_domain::limits::{LABEL_BYTES_MAX, REASON_BYTES_MAX, TITLE_BYTES_MAX};
use ringward_domain::observed::RefuseWhy;
use ringward_domain::report::{
    Decision, FailureWhy, HaltWhy, HoldWhy, MemberState, MemberView, RingState, RingView,
    RolloutState, RolloutView, VerdictReport, WaitWhy,
};
use ringward_domain::{Absence, AssignmentKind, HostId, Millis, RingName, RolloutId};

/// Rings of one policy.
pub const RINGS_MAX: usize = 64;
/// Notes on one rollout, and warnings of one outcome.
pub const NOTES_MAX: usize = 64;

impl From<WaitWhy> for pb::WaitWhy {
    fn from(why: WaitWhy) -> Self {
        use pb::WaitKind as Kind;
        let (mut absence, mut rollout_state) = (0, 0);
        let kind = match why {
            WaitWhy::WindowFull => Kind::WindowFull,
            WaitWhy::EarlierRing => Kind::EarlierRing,
            WaitWhy::NotItsTurn => Kind::NotItsTurn,
            WaitWhy::Unreachable => Kind::Unreachable,
            WaitWhy::Preparing => Kind::Preparing,
            WaitWhy::PrepareFailing => Kind::PrepareFailing,
            WaitWhy::Away(how) => {
                absence = how.code();
                Kind::Away
            }
            WaitWhy::Frozen => Kind::Frozen,
            WaitWhy::Barred => Kind::Barred,
            WaitWhy::OtherTrial => Kind::OtherTrial,
            WaitWhy::Capped => Kind::Capped,
            WaitWhy::NotRunning(state) => {
                rollout_state = state.code();
                Kind::NotRunning
            }
            WaitWhy::ServerStarting => Kind::ServerStarting,
            WaitWhy::RedundancyGroup => Kind::RedundancyGroup,
            WaitWhy::NotActive => Kind::NotActive,
            WaitWhy::OutsideMaintenance => Kind::OutsideMaintenance,
        };
        Self {
            kind: kind as i32,
            absence,
            rollout_state,
        }
    }
}

/// A number of a oneof-like kind that this version may not know.
fn kind<K: TryFrom<i32>>(code: i32) -> Result<K, DecodeError> {
    K::try_from(code)
        .map_err(|_| DecodeError::new("kind", crate::error::Fault::Unknown { value: code }))
}

fn missing_kind() -> DecodeError {
    DecodeError::new("kind", crate::error::Fault::Missing)
}

impl TryFrom<pb::WaitWhy> for WaitWhy {
    type Error = DecodeError;
    fn try_from(why: pb::WaitWhy) -> Result<Self, DecodeError> {
        use pb::WaitKind as Kind;
        Ok(match kind::<Kind>(why.kind)? {
            Kind::Unspecified => return Err(missing_kind()),
            Kind::WindowFull => Self::WindowFull,
            Kind::EarlierRing => Self::EarlierRing,
            Kind::NotItsTurn => Self::NotItsTurn,
            Kind::Unreachable => Self::Unreachable,
            Kind::Preparing => Self::Preparing,
            Kind::PrepareFailing => Self::PrepareFailing,
            Kind::Away => Self::Away(Absence::decode("absence", why.absence)?),
            Kind::Frozen => Self::Frozen,
            Kind::Barred => Self::Barred,
            Kind::OtherTrial => Self::OtherTrial,
            Kind::Capped => Self::Capped,
            Kind::NotRunning => {
                Self::NotRunning(RolloutState::decode("rollout_state", why.rollout_state)?)
            }
            Kind::ServerStarting => Self::ServerStarting,
            Kind::RedundancyGroup => Self::RedundancyGroup,
            Kind::NotActive => Self::NotActive,
            Kind::OutsideMaintenance => Self::OutsideMaintenance,
        })
    }
}

/// The kind of a [`MemberState`], without its reason: what listings narrow by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // Each is the kind of the state of the same name.
pub enum MemberKind {
    Waiting,
    Granted,
    Begun,
    Applied,
    Rebooting,
    Soaking,
    Confirmed,
    AlreadyThere,
    Failed,
    Reverted,
    Silent,
    Refused,
    Deferred,
    Away,
}

impl From<&MemberState> for MemberKind {
    fn from(state: &MemberState) -> Self {
        match state {
            MemberState::Waiting(_) => Self::Waiting,
            MemberState::Granted => Self::Granted,
            MemberState::Begun => Self::Begun,
            MemberState::Applied => Self::Applied,
            MemberState::Rebooting => Self::Rebooting,
            MemberState::Soaking => Self::Soaking,
            MemberState::Confirmed => Self::Confirmed,
            MemberState::AlreadyThere => Self::AlreadyThere,
            MemberState::Failed(_) => Self::Failed,
            MemberState::Reverted(_) => Self::Reverted,
            MemberState::Silent => Self::Silent,
            MemberState::Refused(_) => Self::Refused,
            MemberState::Deferred(_) => Self::Deferred,
            MemberState::Away(_) => Self::Away,
        }
    }
}

/// Asks for the hosts of a rollout, narrowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MembersRequest {
    /// The rollout.
    pub rollout: RolloutId,
    /// Only this ring's; `None` for all.
    pub ring: Option<RingName>,
    /// Only those in a state of one of these kinds; empty for all.
    pub kinds: Vec<MemberKind>,
    /// Which page.
    pub page: PageRequest,
}

impl From<MembersRequest> for pb::MembersRequest {
    fn from(request: MembersRequest) -> Self {
        Self {
            rollout: request.rollout.0,
            ring: request.ring.map(Into::into).unwrap_or_default(),
            kinds: request.kinds.into_iter().map(Coded::code).collect(),
            page_size: u32::try_from(request.page.size).unwrap_or(u32::MAX),
            page_token: request.page.after,
        }
    }
}

impl TryFrom<pb::MembersRequest> for MembersRequest {
    type Error = DecodeError;
    fn try_from(request: pb::MembersRequest) -> Result<Self, DecodeError> {
        let ring = Some(request.ring.as_str()).filter(|ring| !ring.is_empty());
        Ok(Self {
            rollout: RolloutId(request.rollout),
            ring: maybe_parse("ring", ring)?,
            kinds: list("kinds", request.kinds, NOTES_MAX, |code| {
                MemberKind::decode("", code)
            })?,
            page: PageRequest::decode(request.page_size, request.page_token)?,
        })
    }
}

impl From<MemberState> for pb::MemberState {
    fn from(state: MemberState) -> Self {
        use pb::member_state::Detail;
        let kind = MemberKind::from(&state).code();
        let detail = match state {
            MemberState::Waiting(why) => Some(Detail::Waiting(why.into())),
            MemberState::Failed(why) => Some(Detail::Failed(why.into())),
            MemberState::Reverted(why) => Some(Detail::Reverted(why.code())),
            MemberState::Refused(why) => Some(Detail::Refused(why.code())),
            MemberState::Deferred(why) => Some(Detail::Deferred(why.code())),
            MemberState::Away(how) => Some(Detail::Away(how.code())),
            MemberState::Granted
            | MemberState::Begun
            | MemberState::Applied
            | MemberState::Rebooting
            | MemberState::Soaking
            | MemberState::Confirmed
            | MemberState::AlreadyThere
            | MemberState::Silent => None,
        };
        Self { kind, detail }
    }
}

impl TryFrom<pb::MemberState> for MemberState {
    type Error = DecodeError;
    fn try_from(state: pb::MemberState) -> Result<Self, DecodeError> {
        use pb::MemberKind as Kind;
        use pb::member_state::Detail;
        let why = |field: &str| DecodeError::new(field, crate::error::Fault::Missing);
        Ok(match (kind::<Kind>(state.kind)?, state.detail) {
            (Kind::Unspecified, _) => return Err(missing_kind()),
            (Kind::Waiting, Some(Detail::Waiting(why))) => {
                Self::Waiting(message("waiting", Some(why))?)
            }
            (Kind::Waiting, _) => return Err(why("waiting")),
            (Kind::Granted, _) => Self::Granted,
            (Kind::Begun, _) => Self::Begun,
            (Kind::Applied, _) => Self::Applied,
            (Kind::Rebooting, _) => Self::Rebooting,
            (Kind::Soaking, _) => Self::Soaking,
            (Kind::Confirmed, _) => Self::Confirmed,
            (Kind::AlreadyThere, _) => Self::AlreadyThere,
            (Kind::Failed, Some(Detail::Failed(why))) => {
                Self::Failed(message("failed", Some(why))?)
            }
            (Kind::Failed, _) => return Err(why("failed")),
            (Kind::Reverted, Some(Detail::Reverted(code))) => {
                Self::Reverted(RevertWhy::decode("reverted", code)?)
            }
            (Kind::Reverted, _) => return Err(why("reverted")),
            (Kind::Silent, _) => Self::Silent,
            (Kind::Refused, Some(Detail::Refused(code))) => {
                Self::Refused(RefuseWhy::decode("refused", code)?)
            }
            (Kind::Refused, _) => return Err(why("refused")),
            (Kind::Deferred, Some(Detail::Deferred(code))) => {
                Self::Deferred(NotSwitchedWhy::decode("deferred", code)?)
            }
            (Kind::Deferred, _) => return Err(why("deferred")),
            (Kind::Away, Some(Detail::Away(code))) => Self::Away(Absence::decode("away", code)?),
            (Kind::Away, _) => return Err(why("away")),
        })
    }
}

impl From<FailureWhy> for pb::FailureWhy {
    fn from(why: FailureWhy) -> Self {
        use pb::failure_why::Why;
        Self {
            why: Some(match why {
                FailureWhy::Install(why) => Why::Install(why.code()),
                FailureWhy::Signal(kind) => Why::Signal(signal_code(kind)),
                FailureWhy::WrongRelease => Why::WrongRelease(UNIT),
            }),
        }
    }
}

impl TryFrom<pb::FailureWhy> for FailureWhy {
    type Error = DecodeError;
    fn try_from(why: pb::FailureWhy) -> Result<Self, DecodeError> {
        use pb::failure_why::Why;
        match why.why.ok_or_else(unknown_body)? {
            Why::Install(code) => FailWhy::decode("install", code).map(Self::Install),
            Why::Signal(code) => Ok(Self::Signal(signal_kind(code))),
            Why::WrongRelease(pb::Unit {}) => Ok(Self::WrongRelease),
        }
    }
}

impl From<Decision> for pb::Decision {
    fn from(decision: Decision) -> Self {
        use pb::decision::Decision as Choice;
        Self {
            decision: Some(match decision {
                Decision::Continue => Choice::Continue(UNIT),
                Decision::Hold(why) => Choice::Hold(why.code()),
                Decision::Halt(why) => Choice::Halt(why.into()),
            }),
        }
    }
}

impl TryFrom<pb::Decision> for Decision {
    type Error = DecodeError;
    fn try_from(decision: pb::Decision) -> Result<Self, DecodeError> {
        use pb::decision::Decision as Choice;
        match decision.decision.ok_or_else(unknown_body)? {
            Choice::Continue(pb::Unit {}) => Ok(Self::Continue),
            Choice::Hold(code) => HoldWhy::decode("hold", code).map(Self::Hold),
            Choice::Halt(why) => message("halt", Some(why)).map(Self::Halt),
        }
    }
}

impl From<HaltWhy> for pb::HaltWhy {
    fn from(why: HaltWhy) -> Self {
        use pb::halt_why::Why;
        Self {
            why: Some(match why {
                HaltWhy::EvidenceOfHarm { e_value, threshold } => {
                    Why::EvidenceOfHarm(pb::EvidenceOfHarm { e_value, threshold })
                }
                HaltWhy::MaxFailed { failed, max_failed } => {
                    Why::MaxFailed(pb::MaxFailed { failed, max_failed })
                }
                HaltWhy::RepeatedSignature { signature, hosts } => {
                    Why::RepeatedSignature(pb::RepeatedSignature {
                        signature: clip(signature, TITLE_BYTES_MAX),
                        hosts,
                    })
                }
                HaltWhy::RingBelowShare { confirmed, failed } => {
                    Why::RingBelowShare(pb::RingBelowShare { confirmed, failed })
                }
            }),
        }
    }
}

impl TryFrom<pb::HaltWhy> for HaltWhy {
    type Error = DecodeError;
    fn try_from(why: pb::HaltWhy) -> Result<Self, DecodeError> {
        use pb::halt_why::Why;
        Ok(match why.why.ok_or_else(unknown_body)? {
            Why::EvidenceOfHarm(pb::EvidenceOfHarm { e_value, threshold }) => {
                Self::EvidenceOfHarm { e_value, threshold }
            }
            Why::MaxFailed(pb::MaxFailed { failed, max_failed }) => {
                Self::MaxFailed { failed, max_failed }
            }
            Why::RepeatedSignature(pb::RepeatedSignature { signature, hosts }) => {
                Self::RepeatedSignature {
                    signature: text("repeated_signature.signature", signature, TITLE_BYTES_MAX)?,
                    hosts,
                }
            }
            Why::RingBelowShare(pb::RingBelowShare { confirmed, failed }) => {
                Self::RingBelowShare { confirmed, failed }
            }
        })
    }
}

impl From<VerdictReport> for pb::VerdictReport {
    fn from(verdict: VerdictReport) -> Self {
        Self {
            decision: Some(verdict.decision.into()),
            sentence: clip(verdict.sentence, REASON_BYTES_MAX),
            failed: verdict.failed,
            confirmed: verdict.confirmed,
            censored: verdict.censored,
            control_failures: verdict.control_failures,
            control_units: verdict.control_units,
            p0: verdict.p0,
            upper_bound: verdict.upper_bound,
            e_value: verdict.e_value,
            e_threshold: verdict.e_threshold,
            max_failed: verdict.max_failed,
            smallest_detectable_rate: verdict.smallest_detectable_rate,
            failures_to_halt: verdict.failures_to_halt,
            assumed: verdict.assumed,
            strata: few(verdict.strata, STRATA_MAX),
        }
    }
}

impl TryFrom<pb::VerdictReport> for VerdictReport {
    type Error = DecodeError;
    fn try_from(verdict: pb::VerdictReport) -> Result<Self, DecodeError> {
        Ok(Self {
            decision: message("decision", verdict.decision)?,
            sentence: text("sentence", verdict.sentence, REASON_BYTES_MAX)?,
            failed: verdict.failed,
            confirmed: verdict.confirmed,
            censored: verdict.censored,
            control_failures: verdict.control_failures,
            control_units: verdict.control_units,
            p0: verdict.p0,
            upper_bound: verdict.upper_bound,
            e_value: verdict.e_value,
            e_threshold: verdict.e_threshold,
            max_failed: verdict.max_failed,
            smallest_detectable_rate: verdict.smallest_detectable_rate,
            failures_to_halt: verdict.failures_to_halt,
            assumed: verdict.assumed,
            strata: messages("strata", verdict.strata, STRATA_MAX)?,
        })
    }
}

impl From<MemberView> for pb::MemberView {
    fn from(member: MemberView) -> Self {
        Self {
            host: member.host.0,
            hostname: clip(member.hostname, LABEL_BYTES_MAX),
            state: Some(member.state.into()),
            late: member.late,
            nonce: member.nonce.map(|nonce| nonce.0.to_vec()),
            for_ms: member.for_ms.0,
            cause: member.cause.map(Into::into),
        }
    }
}

impl TryFrom<pb::MemberView> for MemberView {
    type Error = DecodeError;
    fn try_from(member: pb::MemberView) -> Result<Self, DecodeError> {
        Ok(Self {
            host: HostId(member.host),
            hostname: text("hostname", member.hostname, LABEL_BYTES_MAX)?,
            state: message("state", member.state)?,
            late: member.late,
            nonce: maybe_id("nonce", member.nonce.as_deref())?,
            for_ms: Millis(member.for_ms),
            cause: maybe("cause", member.cause)?,
        })
    }
}

impl From<RingView> for pb::RingView {
    fn from(ring: RingView) -> Self {
        Self {
            name: ring.name.into(),
            state: ring.state.code(),
            members: ring.members,
            in_flight: ring.in_flight,
            window: ring.window,
            waiting: ring.waiting,
            soaking: ring.soaking,
            confirmed: ring.confirmed,
            already_there: ring.already_there,
            failed: ring.failed,
            reverted: ring.reverted,
            silent: ring.silent,
            deferred: ring.deferred,
            refused: ring.refused,
            away: ring.away,
            stragglers: ring.stragglers,
            waits: ring
                .waits
                .into_iter()
                .map(|(why, hosts)| pb::WaitCount {
                    why: Some(why.into()),
                    hosts,
                })
                .collect(),
        }
    }
}

impl TryFrom<pb::RingView> for RingView {
    type Error = DecodeError;
    fn try_from(ring: pb::RingView) -> Result<Self, DecodeError> {
        Ok(Self {
            name: parse("name", &ring.name)?,
            state: RingState::decode("state", ring.state)?,
            members: ring.members,
            in_flight: ring.in_flight,
            window: ring.window,
            waiting: ring.waiting,
            soaking: ring.soaking,
            confirmed: ring.confirmed,
            already_there: ring.already_there,
            failed: ring.failed,
            reverted: ring.reverted,
            silent: ring.silent,
            deferred: ring.deferred,
            refused: ring.refused,
            away: ring.away,
            stragglers: ring.stragglers,
            waits: list("waits", ring.waits, NOTES_MAX, |count| {
                Ok((message("why", count.why)?, count.hosts))
            })?,
        })
    }
}

fn members(hosts: Vec<MemberView>) -> Vec<pb::MemberView> {
    hosts.into_iter().take(SIZE_MAX).map(Into::into).collect()
}

impl From<RolloutView> for pb::RolloutView {
    fn from(rollout: RolloutView) -> Self {
        Self {
            id: rollout.id.0,
            kind: rollout.kind.code(),
            package: rollout.package.into(),
            version: rollout.version.into(),
            release: rollout.release.0.to_vec(),
            leaves: rollout.leaves.map(Into::into),
            state: rollout.state.code(),
            state_reason: clip(rollout.state_reason, REASON_BYTES_MAX),
            started_unix_ms: rollout.started_unix_ms,
            started_by: clip(rollout.started_by, TITLE_BYTES_MAX),
            reason: clip(rollout.reason, REASON_BYTES_MAX),
            rings: rollout.rings.into_iter().map(Into::into).collect(),
            verdict: Some(rollout.verdict.into()),
            silent_hosts: members(rollout.silent_hosts),
            failed_hosts: members(rollout.failed_hosts),
            evidence_to_halt_ms: rollout.evidence_to_halt_ms,
            notes: rollout
                .notes
                .into_iter()
                .take(NOTES_MAX)
                .map(|note| clip(note, REASON_BYTES_MAX))
                .collect(),
            suspects: few(rollout.suspects, SUSPECTS_MAX),
            proposal: clip(rollout.proposal, REASON_BYTES_MAX),
            forecast: rollout.forecast.map(Into::into),
            causes: few(rollout.causes, CAUSES_MAX),
        }
    }
}

impl TryFrom<pb::RolloutView> for RolloutView {
    type Error = DecodeError;
    fn try_from(rollout: pb::RolloutView) -> Result<Self, DecodeError> {
        Ok(Self {
            id: RolloutId(rollout.id),
            kind: AssignmentKind::decode("kind", rollout.kind)?,
            package: parse("package", &rollout.package)?,
            version: parse("version", &rollout.version)?,
            release: id("release", &rollout.release)?,
            leaves: maybe_parse("leaves", rollout.leaves.as_deref())?,
            state: RolloutState::decode("state", rollout.state)?,
            state_reason: text("state_reason", rollout.state_reason, REASON_BYTES_MAX)?,
            started_unix_ms: rollout.started_unix_ms,
            started_by: text("started_by", rollout.started_by, TITLE_BYTES_MAX)?,
            reason: text("reason", rollout.reason, REASON_BYTES_MAX)?,
            rings: messages("rings", rollout.rings, RINGS_MAX)?,
            verdict: message("verdict", rollout.verdict)?,
            silent_hosts: messages("silent_hosts", rollout.silent_hosts, SIZE_MAX)?,
            failed_hosts: messages("failed_hosts", rollout.failed_hosts, SIZE_MAX)?,
            evidence_to_halt_ms: rollout.evidence_to_halt_ms,
            notes: texts("notes", rollout.notes, NOTES_MAX, REASON_BYTES_MAX)?,
            suspects: messages("suspects", rollout.suspects, SUSPECTS_MAX)?,
            proposal: text("proposal", rollout.proposal, REASON_BYTES_MAX)?,
            forecast: maybe("forecast", rollout.forecast)?,
            causes: messages("causes", rollout.causes, CAUSES_MAX)?,
        })
    }
}
