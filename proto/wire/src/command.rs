//! What admins order, and what came of it.

use crate::error::DecodeError;
use crate::field::{clip, id, list, maybe_parse, need, size, text, texts};
use crate::page::SIZE_MAX;
use crate::pb;
use crate::report::{NOTES_MAX, RINGS_MAX};
use ringward_domain::command::{Action, Command, Outcome};
use ringward_domain::limits::{LABEL_BYTES_MAX, REASON_BYTES_MAX};
use ringward_domain::{ApprovalId, HostId, OrderId, ReleaseDigest, RequestId, RolloutId};

/// Bytes of a ring policy.
pub const POLICY_BYTES_MAX: usize = 256 * 1024;

/// Under which id, why, and whether in earnest a person orders something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// Makes the command idempotent.
    pub request: RequestId,
    /// Why, in the person's words.
    pub reason: String,
    /// Say what would happen, and do nothing.
    pub dry_run: bool,
    /// Do it alone where two people are needed.
    pub break_glass: bool,
}

impl Act {
    /// The command this makes of an action.
    #[must_use]
    pub fn command(self, actor: &str, action: Action) -> Command {
        Command {
            request: self.request,
            actor: actor.to_owned(),
            reason: self.reason,
            dry_run: self.dry_run,
            action,
        }
    }

    /// Reads the `act` of any request.
    ///
    /// # Errors
    /// An absent act, a request id that is not 16 bytes, a reason too long.
    pub fn decode(act: Option<pb::Act>) -> Result<Self, DecodeError> {
        let act = need("act", act)?;
        Ok(Self {
            request: id("act.request_id", &act.request_id)?,
            reason: text("act.reason", act.reason, REASON_BYTES_MAX)?,
            dry_run: act.dry_run,
            break_glass: act.break_glass,
        })
    }
}

impl From<Act> for pb::Act {
    fn from(act: Act) -> Self {
        Self {
            request_id: act.request.0.to_vec(),
            reason: clip(act.reason, REASON_BYTES_MAX),
            dry_run: act.dry_run,
            break_glass: act.break_glass,
        }
    }
}

type Read = Result<Command, DecodeError>;

/// Reads the order of a rollout; `actor` is the subject of the verified certificate, here and below.
///
/// # Errors
/// Each field that cannot be what it is, here and below.
pub fn start(request: pb::StartRequest, actor: &str) -> Read {
    let release = id("release", &request.release)?;
    Ok(Act::decode(request.act)?.command(actor, Action::StartRollout { release }))
}

/// Reads the order of a rollback.
///
/// # Errors
/// See [`start`].
pub fn rollback(request: pb::RollbackRequest, actor: &str) -> Read {
    let leave = id("leave", &request.leave)?;
    let to = maybe_parse("to", request.to.as_deref())?;
    Ok(Act::decode(request.act)?.command(actor, Action::Rollback { leave, to }))
}

/// Reads an order for one rollout, as in `on_rollout(request, actor, Action::Pause)`.
///
/// # Errors
/// See [`start`].
pub fn on_rollout(
    request: pb::RolloutCommand,
    actor: &str,
    action: impl FnOnce(RolloutId) -> Action,
) -> Read {
    Ok(Act::decode(request.act)?.command(actor, action(RolloutId(request.rollout))))
}

/// Reads an order for one release, as in `on_release(request, actor, Action::MarkBad)`.
///
/// # Errors
/// See [`start`].
pub fn on_release(
    request: pb::ReleaseCommand,
    actor: &str,
    action: impl FnOnce(ReleaseDigest) -> Action,
) -> Read {
    let release = id("release", &request.release)?;
    Ok(Act::decode(request.act)?.command(actor, action(release)))
}

/// Reads an order for one host, as in `on_host(request, actor, Action::Freeze)`.
///
/// # Errors
/// See [`start`].
pub fn on_host(
    request: pb::HostCommand,
    actor: &str,
    action: impl FnOnce(HostId) -> Action,
) -> Read {
    Ok(Act::decode(request.act)?.command(actor, action(HostId(request.host))))
}

/// Reads an order for the fleet: [`Action::StopAll`] or [`Action::ResumeAll`].
///
/// # Errors
/// See [`start`].
pub fn on_fleet(request: pb::FleetCommand, actor: &str, action: Action) -> Read {
    Ok(Act::decode(request.act)?.command(actor, action))
}

/// Reads an order of labels.
///
/// # Errors
/// See [`start`].
pub fn set_labels(request: pb::SetLabelsRequest, actor: &str) -> Read {
    let labels = crate::field::labels("labels", request.labels)?;
    let action = Action::SetLabels(HostId(request.host), labels);
    Ok(Act::decode(request.act)?.command(actor, action))
}

/// Reads an order of a policy.
///
/// # Errors
/// See [`start`].
pub fn apply_policy(request: pb::ApplyPolicyRequest, actor: &str) -> Read {
    let policy = text("policy_toml", request.policy_toml, POLICY_BYTES_MAX)?;
    Ok(Act::decode(request.act)?.command(actor, Action::ApplyPolicy(policy)))
}

/// Of more than 1,000 hosts left out the rest is counted in a warning, so that nothing is dropped
/// without a word.
impl From<Outcome> for pb::Outcome {
    fn from(mut outcome: Outcome) -> Self {
        if outcome.left_out.len() > SIZE_MAX {
            let rest = outcome.left_out.len() - SIZE_MAX;
            outcome.left_out.truncate(SIZE_MAX);
            outcome.warnings.insert(
                0,
                format!("{rest} more hosts are left out and not listed here"),
            );
        }
        Self {
            summary: clip(outcome.summary, REASON_BYTES_MAX),
            rollout: outcome.rollout.map(|rollout| rollout.0),
            hosts: outcome
                .hosts
                .into_iter()
                .map(|(ring, hosts)| pb::RingHosts {
                    ring: clip(ring, LABEL_BYTES_MAX),
                    hosts: hosts
                        .into_iter()
                        .take(SIZE_MAX)
                        .map(|host| host.0)
                        .collect(),
                })
                .collect(),
            left_out: outcome
                .left_out
                .into_iter()
                .map(|(host, why)| pb::LeftOut {
                    host: host.0,
                    why: clip(why, REASON_BYTES_MAX),
                })
                .collect(),
            warnings: outcome
                .warnings
                .into_iter()
                .take(NOTES_MAX)
                .map(|warning| clip(warning, REASON_BYTES_MAX))
                .collect(),
            order: outcome.order.map(|order| order.0),
            approval: outcome.approval.map(|(id, digest)| pb::PendingApproval {
                id: id.0,
                digest: digest.0.to_vec(),
            }),
        }
    }
}

impl TryFrom<pb::Outcome> for Outcome {
    type Error = DecodeError;
    fn try_from(outcome: pb::Outcome) -> Result<Self, DecodeError> {
        Ok(Self {
            summary: text("summary", outcome.summary, REASON_BYTES_MAX)?,
            rollout: outcome.rollout.map(RolloutId),
            hosts: list("hosts", outcome.hosts, RINGS_MAX, |ring| {
                size("hosts", ring.hosts.len(), SIZE_MAX, "elements")?;
                Ok((
                    text("ring", ring.ring, LABEL_BYTES_MAX)?,
                    ring.hosts.into_iter().map(HostId).collect(),
                ))
            })?,
            left_out: list("left_out", outcome.left_out, SIZE_MAX, |left| {
                Ok((HostId(left.host), text("why", left.why, REASON_BYTES_MAX)?))
            })?,
            warnings: texts("warnings", outcome.warnings, NOTES_MAX, REASON_BYTES_MAX)?,
            order: outcome.order.map(OrderId),
            approval: outcome
                .approval
                .map(|a| {
                    Ok::<_, DecodeError>((ApprovalId(a.id), id("approval.digest", &a.digest)?))
                })
                .transpose()?,
        })
    }
}
