//! The host's own account of itself on the wire.

use crate::code::Coded;
use crate::error::{DecodeError, Fault};
use crate::field::{id, ids, maybe, maybe_id, maybe_parse, message, messages, parse};
use crate::pb;
use crate::pb::phase_observed::Phase;
use crate::pb::prepare_state::State;
use ringward_domain::ledger::{FailWhy, NotSwitchedWhy, RevertWhy};
use ringward_domain::limits::{BARS_MAX, PACKAGES_MAX};
use ringward_domain::observed::{
    AttemptObserved, Observed, PackageObserved, PhaseObserved, PrepareError, PrepareState,
    Preparing, RefuseWhy,
};
use ringward_domain::{Millis, RolloutId};

pub(crate) const UNIT: pb::Unit = pb::Unit {};

impl From<Observed> for pb::Observed {
    fn from(observed: Observed) -> Self {
        Self {
            packages: observed.packages.into_iter().map(Into::into).collect(),
            preparing: observed.preparing.map(Into::into),
            attempt: observed.attempt.map(Into::into),
            bars: observed.bars.iter().map(|bar| bar.0.to_vec()).collect(),
            orders: crate::order::observed_to_wire(observed.orders),
        }
    }
}

impl TryFrom<pb::Observed> for Observed {
    type Error = DecodeError;
    fn try_from(observed: pb::Observed) -> Result<Self, DecodeError> {
        Ok(Self {
            packages: messages("packages", observed.packages, PACKAGES_MAX)?,
            preparing: maybe("preparing", observed.preparing)?,
            attempt: maybe("attempt", observed.attempt)?,
            bars: ids("bars", observed.bars, BARS_MAX)?,
            orders: crate::order::observed_from_wire(observed.orders)?,
        })
    }
}

impl From<PackageObserved> for pb::PackageObserved {
    fn from(package: PackageObserved) -> Self {
        Self {
            package: package.package.into(),
            running: package.running.map(|r| r.0.to_vec()),
            running_version: package.running_version.map(Into::into),
            committed: package.committed.map(|r| r.0.to_vec()),
            committed_version: package.committed_version.map(Into::into),
        }
    }
}

impl TryFrom<pb::PackageObserved> for PackageObserved {
    type Error = DecodeError;
    fn try_from(package: pb::PackageObserved) -> Result<Self, DecodeError> {
        let running_version = package.running_version.as_deref();
        let committed_version = package.committed_version.as_deref();
        Ok(Self {
            package: parse("package", &package.package)?,
            running: maybe_id("running", package.running.as_deref())?,
            running_version: maybe_parse("running_version", running_version)?,
            committed: maybe_id("committed", package.committed.as_deref())?,
            committed_version: maybe_parse("committed_version", committed_version)?,
        })
    }
}

impl From<Preparing> for pb::Preparing {
    fn from(preparing: Preparing) -> Self {
        Self {
            rollout: preparing.rollout.0,
            release: preparing.release.0.to_vec(),
            state: Some(preparing.state.into()),
        }
    }
}

impl TryFrom<pb::Preparing> for Preparing {
    type Error = DecodeError;
    fn try_from(preparing: pb::Preparing) -> Result<Self, DecodeError> {
        Ok(Self {
            rollout: RolloutId(preparing.rollout),
            release: id("release", &preparing.release)?,
            state: message("state", preparing.state)?,
        })
    }
}

impl From<PrepareState> for pb::PrepareState {
    fn from(state: PrepareState) -> Self {
        Self {
            state: Some(match state {
                PrepareState::Working => State::Working(UNIT),
                PrepareState::Ready => State::Ready(UNIT),
                PrepareState::Retrying(why) => State::Retrying(why.code()),
                PrepareState::Refused(why) => State::Refused(why.code()),
            }),
        }
    }
}

impl TryFrom<pb::PrepareState> for PrepareState {
    type Error = DecodeError;
    fn try_from(state: pb::PrepareState) -> Result<Self, DecodeError> {
        match state.state.ok_or_else(unknown_body)? {
            State::Working(pb::Unit {}) => Ok(Self::Working),
            State::Ready(pb::Unit {}) => Ok(Self::Ready),
            State::Retrying(code) => PrepareError::decode("retrying", code).map(Self::Retrying),
            State::Refused(code) => RefuseWhy::decode("refused", code).map(Self::Refused),
        }
    }
}

impl From<AttemptObserved> for pb::AttemptObserved {
    fn from(attempt: AttemptObserved) -> Self {
        Self {
            nonce: attempt.nonce.0.to_vec(),
            rollout: attempt.rollout.0,
            package: attempt.package.into(),
            release: attempt.release.0.to_vec(),
            phase: Some(attempt.phase.into()),
        }
    }
}

impl TryFrom<pb::AttemptObserved> for AttemptObserved {
    type Error = DecodeError;
    fn try_from(attempt: pb::AttemptObserved) -> Result<Self, DecodeError> {
        Ok(Self {
            nonce: id("nonce", &attempt.nonce)?,
            rollout: RolloutId(attempt.rollout),
            package: parse("package", &attempt.package)?,
            release: id("release", &attempt.release)?,
            phase: message("phase", attempt.phase)?,
        })
    }
}

impl From<PhaseObserved> for pb::PhaseObserved {
    fn from(phase: PhaseObserved) -> Self {
        Self {
            phase: Some(match phase {
                PhaseObserved::Switching => Phase::Switching(UNIT),
                PhaseObserved::Applied => Phase::Applied(UNIT),
                PhaseObserved::Rebooting => Phase::Rebooting(UNIT),
                PhaseObserved::Soaking { soaked } => Phase::Soaking(pb::SoakingObserved {
                    soaked_ms: soaked.0,
                }),
                PhaseObserved::Committed => Phase::Committed(UNIT),
                PhaseObserved::Reverted(why) => Phase::Reverted(why.code()),
                PhaseObserved::Failed(why) => Phase::Failed(why.code()),
                PhaseObserved::NotSwitched(why) => Phase::NotSwitched(why.code()),
            }),
        }
    }
}

impl TryFrom<pb::PhaseObserved> for PhaseObserved {
    type Error = DecodeError;
    fn try_from(phase: pb::PhaseObserved) -> Result<Self, DecodeError> {
        match phase.phase.ok_or_else(unknown_body)? {
            Phase::Switching(pb::Unit {}) => Ok(Self::Switching),
            Phase::Applied(pb::Unit {}) => Ok(Self::Applied),
            Phase::Rebooting(pb::Unit {}) => Ok(Self::Rebooting),
            Phase::Soaking(pb::SoakingObserved { soaked_ms }) => Ok(Self::Soaking {
                soaked: Millis(soaked_ms),
            }),
            Phase::Committed(pb::Unit {}) => Ok(Self::Committed),
            Phase::Reverted(code) => RevertWhy::decode("reverted", code).map(Self::Reverted),
            Phase::Failed(code) => FailWhy::decode("failed", code).map(Self::Failed),
            Phase::NotSwitched(code) => {
                NotSwitchedWhy::decode("not_switched", code).map(Self::NotSwitched)
            }
        }
    }
}

/// A choice of which nothing known is set: the peer is newer, or it set nothing, which looks alike.
pub(crate) fn unknown_body() -> DecodeError {
    DecodeError::new("", Fault::Unknown { value: 0 })
}
