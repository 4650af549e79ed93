//! What the server wants of a host, on the wire.

use crate::code::Coded;
use crate::error::DecodeError;
use crate::field::{id, ids, malformed, messages, parse};
use crate::pb;
use ringward_domain::limits::{BARS_MAX, PACKAGES_MAX};
use ringward_domain::{
    Assignment, AssignmentKind, Desired, Epoch, Generation, Millis, ReleaseDigest, RolloutId,
};
use std::collections::BTreeSet;

fn bytes(releases: &[ReleaseDigest]) -> Vec<Vec<u8>> {
    releases.iter().map(|release| release.0.to_vec()).collect()
}

impl From<Desired> for pb::Desired {
    fn from(desired: Desired) -> Self {
        Self {
            epoch: desired.epoch.0,
            generation: desired.generation.0,
            assignments: desired.assignments.into_iter().map(Into::into).collect(),
            bars: bytes(&desired.bars),
            lifted: bytes(&desired.lifted),
            heartbeat_ms: desired.heartbeat.0,
            orders: crate::order::desired_to_wire(desired.orders),
            stopped: desired.stopped,
        }
    }
}

impl TryFrom<pb::Desired> for Desired {
    type Error = DecodeError;
    fn try_from(desired: pb::Desired) -> Result<Self, DecodeError> {
        let assignments: Vec<Assignment> =
            messages("assignments", desired.assignments, PACKAGES_MAX)?;
        let packages: BTreeSet<_> = assignments.iter().map(|a| &a.package).collect();
        if packages.len() < assignments.len() {
            return Err(malformed("assignments", "two of them name one package"));
        }
        if desired.heartbeat_ms == 0 {
            return Err(malformed("heartbeat_ms", "must be at least 1"));
        }
        Ok(Self {
            epoch: Epoch(desired.epoch),
            generation: Generation(desired.generation),
            assignments,
            bars: ids("bars", desired.bars, BARS_MAX)?,
            lifted: ids("lifted", desired.lifted, BARS_MAX)?,
            heartbeat: Millis(desired.heartbeat_ms),
            orders: crate::order::desired_from_wire(desired.orders)?,
            stopped: desired.stopped,
        })
    }
}

impl From<Assignment> for pb::Assignment {
    fn from(assignment: Assignment) -> Self {
        Self {
            rollout: assignment.rollout.0,
            kind: assignment.kind.code(),
            package: assignment.package.into(),
            release: assignment.release.0.to_vec(),
            version: assignment.version.into(),
            soak_ms: assignment.soak.0,
            verify_boot: assignment.verify_boot,
            invited: assignment.invited,
        }
    }
}

impl TryFrom<pb::Assignment> for Assignment {
    type Error = DecodeError;
    fn try_from(assignment: pb::Assignment) -> Result<Self, DecodeError> {
        Ok(Self {
            rollout: RolloutId(assignment.rollout),
            kind: AssignmentKind::decode("kind", assignment.kind)?,
            package: parse("package", &assignment.package)?,
            release: id("release", &assignment.release)?,
            version: parse("version", &assignment.version)?,
            soak: Millis(assignment.soak_ms),
            verify_boot: assignment.verify_boot,
            invited: assignment.invited,
        })
    }
}
