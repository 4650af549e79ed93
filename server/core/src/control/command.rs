//! Commands of admins: decided first, by the same code for a dry run, then carried out.

use super::orders::Leave;
use super::{Control, REQUESTS_MAX};
use crate::event::Effect;
use crate::policy::Policy;
use crate::record::{Record, RecordKey, RequestRecord};
use crate::rollout::Rollout;
use ringward_domain::command::{Action, Command, Outcome, Refusal};
use ringward_domain::host::Labels;
use ringward_domain::ids::{OrderId, ReleaseDigest, RolloutId};
use ringward_domain::limits::REASON_BYTES_MAX;
use ringward_domain::manifest::Signature;
use ringward_domain::order_spec::OrderKind;
use ringward_domain::people::Grant;
use ringward_domain::{HostId, Timestamp};

/// What a command will do, decided and not yet done.
#[derive(Debug)]
pub(super) enum Act {
    /// Start this rollout; a rollback also makes what it leaves bad.
    Start(Box<Rollout>),
    /// Bar what is to be left; nobody has to go back.
    Bar(ReleaseDigest),
    Pause(RolloutId),
    Resume(RolloutId),
    Abort(RolloutId),
    Andon(bool),
    MarkGood(ReleaseDigest),
    LiftBar(ReleaseDigest),
    SetLabels(HostId, Labels),
    Approve(HostId),
    Retire(HostId),
    Freeze(HostId, bool),
    Unfence(HostId),
    Replace {
        old: HostId,
        new: HostId,
    },
    Policy(Box<Policy>),
    Order(Box<super::orders::Decision>),
    CancelOrder(OrderId),
    Endorse(OrderId, Box<Signature>),
    Grant(String, Vec<Grant>),
}

/// An outcome with its act.
pub(super) type Decided = Result<(Outcome, Act), Refusal>;

/// An outcome of one sentence.
pub(super) fn said(summary: impl Into<String>) -> Outcome {
    Outcome {
        summary: summary.into(),
        rollout: None,
        hosts: Vec::new(),
        left_out: Vec::new(),
        warnings: Vec::new(),
        order: None,
        approval: None,
    }
}

/// A refusal for something that does not exist.
pub(super) fn not_found(what: &str, id: impl ToString, next: &str) -> Refusal {
    Refusal::NotFound {
        what: what.to_owned(),
        id: id.to_string(),
        next: next.to_owned(),
    }
}

/// A refusal for something that is right in itself.
pub(super) fn conflict(
    what: impl Into<String>,
    why: impl Into<String>,
    next: impl Into<String>,
) -> Refusal {
    Refusal::Conflict {
        what: what.into(),
        why: why.into(),
        next: next.into(),
    }
}

impl Control {
    /// Carries out a command, or says what it would do. A repeated request id answers what the
    /// first did and does nothing; the last 1,000 are remembered.
    ///
    /// # Errors
    /// Why it was refused; then nothing has changed.
    pub fn command(
        &mut self,
        command: &Command,
        now: Timestamp,
    ) -> Result<(Outcome, Vec<Effect>), Refusal> {
        self.set_now(now);
        if command.reason.len() > REASON_BYTES_MAX {
            let why = format!(
                "{} bytes; at most {REASON_BYTES_MAX} do",
                command.reason.len()
            );
            return Err(Refusal::Invalid {
                field: "reason".to_owned(),
                why,
            });
        }
        if let Some(done) = self.requests.get(&command.request) {
            return match done.action == command.action {
                true => Ok((done.outcome.clone(), Vec::new())),
                false => Err(conflict(
                    "the command",
                    "its request id was used for another command",
                    "draw a new request id for each command",
                )),
            };
        }
        let (outcome, act) = self.decide_with(command, &Leave::trusted())?;
        self.perform(command, outcome, act)
    }

    /// Carries out what was decided, unless it was only asked what it would do.
    pub(super) fn perform(
        &mut self,
        command: &Command,
        outcome: Outcome,
        act: Act,
    ) -> Result<(Outcome, Vec<Effect>), Refusal> {
        if command.dry_run {
            return Ok((outcome, Vec::new()));
        }
        self.audit_command(command, &outcome);
        self.remember(command, &outcome);
        self.carry_out(act, command);
        self.want_plan();
        Ok((outcome, self.finish()))
    }

    pub(super) fn decide_with(&self, command: &Command, leave: &Leave) -> Decided {
        match &command.action {
            Action::StartRollout { release } => self.decide_start(*release, command),
            Action::Rollback { leave, to } => self.decide_rollback(*leave, to.as_ref(), command),
            Action::Pause(id) => self.decide_pause(*id),
            Action::Resume(id) => self.decide_resume(*id),
            Action::Abort(id) => self.decide_abort(*id),
            Action::StopAll => Ok((
                said("every rollout is paused; rollbacks go on"),
                Act::Andon(true),
            )),
            Action::ResumeAll => Ok((
                said("rollouts go on where nothing else stopped them"),
                Act::Andon(false),
            )),
            Action::MarkGood(release) => self.decide_good(*release),
            Action::MarkBad(release) => self.decide_bad(*release),
            Action::LiftBar(release) => self.decide_lift(*release),
            Action::SetLabels(host, labels) => self.decide_labels(*host, labels),
            Action::ApproveHost(host) => self.decide_approve(*host),
            Action::RetireHost(host) => self.decide_retire(*host),
            Action::Freeze(host) => self.decide_freeze(*host, true),
            Action::Unfreeze(host) => self.decide_freeze(*host, false),
            Action::UnfenceHost(host) => self.decide_unfence(*host),
            Action::ReplaceHost(host) => self.decide_replace(*host),
            Action::ApplyPolicy(text) => decide_policy(text),
            Action::Order(spec) => self.decide_order(spec, command, leave),
            Action::CancelOrder(id) => self.decide_cancel(*id),
            Action::Endorse(id, signature) => self.decide_endorse(*id, signature),
            Action::Grant(name, grants) => self.decide_grant(name, grants),
            Action::Approve(..) | Action::Deny(_) => Err(conflict(
                "deciding on an approval",
                "only a person can",
                "ask as one",
            )),
        }
    }

    pub(super) fn carry_out(&mut self, act: Act, command: &Command) {
        match act {
            Act::Start(rollout) => self.start(*rollout, command),
            Act::Bar(release) => self.bar(release, &command.reason),
            Act::Pause(id) => {
                self.with(id, |rollout, _| rollout.pause(command.reason.clone()));
            }
            Act::Resume(id) => {
                self.with(id, |rollout, _| rollout.resume());
            }
            Act::Abort(id) => {
                self.with(id, |rollout, _| rollout.abort(command.reason.clone()));
                self.refresh_all();
            }
            Act::Andon(on) => self.set_andon(on),
            Act::MarkGood(release) => self.mark_good(release),
            Act::LiftBar(release) => self.lift_bar(release),
            Act::SetLabels(host, labels) => self.set_labels(host, labels),
            Act::Approve(host) => self.approve(host),
            Act::Retire(host) => self.retire(host),
            Act::Freeze(host, frozen) => self.freeze(host, frozen),
            Act::Unfence(host) => self.unfence(host),
            Act::Replace { old, new } => self.replace(old, new),
            Act::Policy(policy) => {
                self.policy = *policy;
                self.maintenance_changed();
                self.out.control = true;
                self.refresh_all();
            }
            Act::Order(decision) => self.give_order(*decision),
            Act::CancelOrder(id) => self.cancel_order(id),
            Act::Endorse(id, signature) => self.endorse_order(id, *signature),
            Act::Grant(name, grants) => self.grant(&name, &grants),
        }
    }

    pub(super) fn audit_command(&mut self, command: &Command, outcome: &Outcome) {
        let (action, object) = match &command.action {
            Action::StartRollout { release } => ("rollout start", release.to_string()),
            Action::Rollback { leave, .. } => ("rollout rollback", leave.to_string()),
            Action::Pause(id) => ("rollout pause", id.to_string()),
            Action::Resume(id) => ("rollout resume", id.to_string()),
            Action::Abort(id) => ("rollout abort", id.to_string()),
            Action::StopAll => ("fleet stop-all", String::new()),
            Action::ResumeAll => ("fleet resume-all", String::new()),
            Action::MarkGood(release) => ("release mark-good", release.to_string()),
            Action::MarkBad(release) => ("release mark-bad", release.to_string()),
            Action::LiftBar(release) => ("release lift-bar", release.to_string()),
            Action::SetLabels(host, _) => ("host label", host.to_string()),
            Action::ApproveHost(host) => ("host approve", host.to_string()),
            Action::RetireHost(host) => ("host retire", host.to_string()),
            Action::Freeze(host) => ("host freeze", host.to_string()),
            Action::Unfreeze(host) => ("host unfreeze", host.to_string()),
            Action::UnfenceHost(host) => ("host unfence", host.to_string()),
            Action::ReplaceHost(host) => ("host replace", host.to_string()),
            Action::ApplyPolicy(_) => ("policy apply", String::new()),
            Action::Order(spec) => (order_words(&spec.kind), String::new()),
            Action::CancelOrder(id) => ("order cancel", id.to_string()),
            Action::Endorse(id, _) => ("order endorse", id.to_string()),
            Action::Approve(id, _) => ("approval approve", id.to_string()),
            Action::Deny(id) => ("approval deny", id.to_string()),
            Action::Grant(name, _) => ("people grant", name.clone()),
        };
        let object = outcome
            .rollout
            .map(|rollout| rollout.to_string())
            .or(outcome.order.map(|order| order.to_string()))
            .unwrap_or(object);
        let reason = if command.reason.is_empty() {
            &outcome.summary
        } else {
            &command.reason
        };
        self.out.audit(&command.actor, action, &object, reason);
    }

    pub(super) fn remember(&mut self, command: &Command, outcome: &Outcome) {
        let record = RequestRecord {
            request: command.request,
            number: self.next_request,
            action: command.action.clone(),
            outcome: outcome.clone(),
        };
        self.next_request += 1;
        self.out.control = true;
        self.out.put(Record::Request(Box::new(record.clone())));
        self.requests_by_number
            .insert(record.number, record.request);
        self.requests.insert(record.request, record);
        while self.requests.len() > REQUESTS_MAX {
            let Some((_, oldest)) = self.requests_by_number.pop_first() else {
                break;
            };
            self.requests.remove(&oldest);
            self.out.delete(RecordKey::Request(oldest));
        }
    }
}

fn order_words(kind: &OrderKind) -> &'static str {
    match kind {
        OrderKind::Quarantine { .. } => "order quarantine",
        OrderKind::Release => "order release",
        OrderKind::Rollback { .. } => "order rollback",
        OrderKind::Freeze => "order freeze",
        OrderKind::Unfreeze => "order unfreeze",
        OrderKind::Pin(_) => "order pin",
        OrderKind::Unpin(_) => "order unpin",
        OrderKind::Reboot => "order reboot",
        OrderKind::Collect => "order collect",
    }
}

fn decide_policy(text: &str) -> Decided {
    let policy = Policy::parse(text).map_err(|error| Refusal::Invalid {
        field: format!("policy.{}", error.field),
        why: error.why,
    })?;
    let names: Vec<&str> = policy.rings.iter().map(|ring| ring.name.as_str()).collect();
    let mut outcome = said(format!(
        "rings {}; rollouts under way keep theirs",
        names.join(", ")
    ));
    outcome.warnings = policy.pace.notes();
    Ok((outcome, Act::Policy(Box::new(policy))))
}
