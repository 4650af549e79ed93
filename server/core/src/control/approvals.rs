//! Commands as people ask for them: authorised first, then held back where a second person is needed.
//!
//! [`Control::command`] carries out what is authorised; only [`Control::ask_for`] is called for
//! people.

use super::Control;
use super::command::{Act, conflict, not_found, said};
use super::orders::{Leave, PROTECTED};
use crate::event::{Effect, Notice};
use crate::people::Scope;
use crate::record::{Record, RecordKey};
use crate::salt::{derived_id, sha256};
use crate::second::{ApprovalRecord, GLASS_DAY, GLASS_PER_DAY, KEPT, WAITING_MAX, digest};
use crate::slips::{Slip, slipped};
use ringward_domain::command::{Action, Command, Outcome, Refusal};
use ringward_domain::host::Labels;
use ringward_domain::limits::REASON_BYTES_MAX;
use ringward_domain::manifest::RevertClass;
use ringward_domain::order::Origin;
use ringward_domain::order_spec::{ApprovalState, ApprovalView, OrderKind, OrderTargets};
use ringward_domain::people::{Caller, Permission};
use ringward_domain::{ApprovalId, HostId, Sha256, Timestamp};

/// Hosts listed of one approval.
const LISTED_MAX: usize = 1000;

type Asked = Result<(Outcome, Vec<Effect>), Refusal>;

fn denied(what: impl Into<String>, why: impl Into<String>, next: impl Into<String>) -> Refusal {
    Refusal::Denied {
        what: what.into(),
        why: why.into(),
        next: next.into(),
    }
}

/// What an action needs; the calls of the protocol declare the same.
#[must_use]
pub fn permission_of(action: &Action) -> Permission {
    match action {
        Action::Pause(_) | Action::Abort(_) | Action::StopAll => Permission::Stop,
        Action::StartRollout { .. }
        | Action::Rollback { .. }
        | Action::Resume(_)
        | Action::ResumeAll
        | Action::MarkGood(_)
        | Action::MarkBad(_)
        | Action::LiftBar(_) => Permission::Rollout,
        Action::SetLabels(..)
        | Action::ApproveHost(_)
        | Action::RetireHost(_)
        | Action::Freeze(_)
        | Action::Unfreeze(_)
        | Action::UnfenceHost(_)
        | Action::ReplaceHost(_) => Permission::Host,
        Action::Order(_) | Action::CancelOrder(_) => Permission::Contain,
        Action::Approve(..) | Action::Deny(_) | Action::Endorse(..) => Permission::Approve,
        Action::ApplyPolicy(_) => Permission::Policy,
        Action::Grant(..) => Permission::People,
    }
}

/// The one host an action is about.
fn one_host(action: &Action) -> Option<HostId> {
    match action {
        Action::SetLabels(host, _)
        | Action::ApproveHost(host)
        | Action::RetireHost(host)
        | Action::Freeze(host)
        | Action::Unfreeze(host)
        | Action::UnfenceHost(host)
        | Action::ReplaceHost(host) => Some(*host),
        _ => None,
    }
}

impl Control {
    /// Carries out what a person asks for, if that person may; where a second one is needed, keeps it
    /// until that one has approved exactly this.
    ///
    /// # Errors
    /// Why it was refused; then nothing has changed.
    pub fn ask_for(&mut self, caller: &Caller, command: &Command, now: Timestamp) -> Asked {
        self.set_now(now);
        let command = Command {
            actor: caller.name.clone(),
            ..command.clone()
        };
        if command.reason.len() > REASON_BYTES_MAX {
            return self.command(&command, now);
        }
        if let Some(done) = self.requests.get(&command.request)
            && !slipped(Slip::RepeatedAgain)
            && done.action == command.action
            && self.people.may(caller, permission_of(&command.action))
        {
            return Ok((done.outcome.clone(), Vec::new()));
        }
        let mut leave = self.authorise(caller, &command.action)?;
        match &command.action {
            Action::Approve(id, digest) => return self.approve_as(caller, *id, digest, &command),
            Action::Deny(id) => return self.deny_as(caller, *id, &command),
            _ => {}
        }
        let (outcome, act) = self.decide_with(&command, &leave)?;
        let needs = self.needs(&command.action, &act);
        if needs.is_empty() {
            return self.perform(&command, outcome, act);
        }
        if caller.break_glass {
            self.may_break_glass(caller, &command.action)?;
            leave.origin = Origin::BreakGlass;
            let (mut outcome, act) = self.decide_with(&command, &leave)?;
            outcome.warnings.insert(
                0,
                format!("alone, by breaking the glass, where {}", needs.join("; ")),
            );
            if !command.dry_run {
                self.broke_glass(caller, &command, &outcome, needs);
            }
            return self.perform(&command, outcome, act);
        }
        self.propose(caller, command, outcome, &act, needs)
    }

    /// What a caller may do with this action.
    fn authorise(&self, caller: &Caller, action: &Action) -> Result<Leave, Refusal> {
        let permission = permission_of(action);
        let scope = self.people.scope(caller, permission);
        let whole = scope == (Scope::All, Scope::All);
        let refuse = |why: String| {
            Err(denied(
                format!("{permission:?}").to_lowercase(),
                why,
                "ask an admin for the role (`ringwardctl people list` shows who holds what)",
            ))
        };
        if scope.0 == Scope::Nothing || scope.1 == Scope::Nothing {
            return refuse(format!("{} holds no role that carries it", caller.name));
        }
        let outside = |id: HostId, labels: &Labels| {
            let covered = scope.0.covers_both(&scope.1, labels);
            (!covered).then(|| format!("{id} is outside the grants of {}", caller.name))
        };
        if let Some(id) = one_host(action) {
            // Whether it exists is not told to who may not see it.
            let now = self.hosts.get(&id).map(|host| &host.record.labels);
            let after = match action {
                Action::SetLabels(_, labels) => Some(labels),
                _ => None,
            };
            for labels in [now, after].into_iter().flatten() {
                if let Some(why) = outside(id, labels) {
                    return refuse(why);
                }
            }
            if now.is_none() && !whole {
                return refuse(format!("{id} is outside the grants of {}", caller.name));
            }
        } else if let Action::CancelOrder(id) | Action::Endorse(id, _) = action {
            for (host, _) in self.orders.parts(*id) {
                let labels = self.hosts.get(&host).map(|host| &host.record.labels);
                if let Some(why) = labels.and_then(|labels| outside(host, labels)) {
                    return refuse(why);
                }
            }
        } else if !whole
            && !matches!(
                action,
                Action::Order(_) | Action::Approve(..) | Action::Deny(_)
            )
        {
            return refuse(format!(
                "it is about the whole fleet, and the grants of {} are not",
                caller.name
            ));
        }
        Ok(Leave {
            scope,
            ..Leave::trusted()
        })
    }

    /// Why a second person is needed; nothing where one is enough (DESIGN §2.8).
    pub(super) fn needs(&self, action: &Action, act: &Act) -> Vec<String> {
        let mut needs = Vec::new();
        match (action, act) {
            (_, Act::Order(decision)) => {
                let spec = &decision.record.spec;
                if decision.protected > 0 && !slipped(Slip::ProtectionIgnored) {
                    needs.push(format!("{} of the hosts are protected", decision.protected));
                }
                if spec.over_cap && decision.beyond > 0 {
                    needs.push(format!("{} hosts go beyond a cap", decision.beyond));
                }
                if let OrderKind::Quarantine { allow, .. } = &spec.kind {
                    let wide = allow.iter().filter(|allowed| allowed.is_wide());
                    needs.extend(wide.map(|wide| format!("{wide} leaves much open")));
                }
            }
            (_, Act::Policy(_)) if slipped(Slip::LoosensAlone) => {}
            (_, Act::Grant(..)) if slipped(Slip::GrantsAlone) => {}
            (_, Act::Policy(policy)) => needs.extend(policy.loosened(&self.policy)),
            (_, Act::Grant(name, grants)) => {
                let added = self.people.added(name, grants);
                needs.extend(
                    added
                        .iter()
                        .map(|grant| format!("{name} becomes {}", grant.role)),
                );
            }
            (Action::SetLabels(id, labels), _) => {
                if let Some(host) = self.hosts.get(id)
                    && host.record.labels.contains_key(PROTECTED)
                    && host.record.labels.get(PROTECTED) != labels.get(PROTECTED)
                {
                    needs.push(format!("{id} loses its protection"));
                }
            }
            (Action::StartRollout { release }, _) => {
                let release = self.releases.get(release);
                if release.is_some_and(|r| r.manifest.revert_class == RevertClass::Irreversible) {
                    needs.push("the release cannot be taken back".to_owned());
                }
            }
            _ => {}
        }
        needs
    }

    /// Keeps a command until a second person comes.
    fn propose(
        &mut self,
        caller: &Caller,
        command: Command,
        outcome: Outcome,
        act: &Act,
        needs: Vec<String>,
    ) -> Asked {
        let exact = exact_command(&command, act);
        let id = ApprovalId(derived_id("ringward approval v1\n", &command.request.0));
        let digest = digest(&exact, &self.basis(&exact.action));
        let mut answer = Outcome {
            summary: format!("waits for a second person: {}", outcome.summary),
            approval: Some((id, digest)),
            order: None,
            rollout: None,
            ..outcome.clone()
        };
        answer.warnings.extend(needs.iter().cloned());
        if !self.people.has_second(&caller.name, self.now) {
            answer.warnings.push(
                "nobody else has been an approver for 24 h: seat one, or do it alone with --break-glass"
                    .to_owned(),
            );
        }
        if command.dry_run {
            return Ok((answer, Vec::new()));
        }
        let waiting = self.approvals.values().filter(|a| a.is_waiting());
        if waiting.count() >= WAITING_MAX {
            return Err(conflict(
                "asking for a second person",
                format!("{WAITING_MAX} commands wait for one already"),
                "approve or deny some of them",
            ));
        }
        self.out.audit(
            &caller.name,
            "approval ask",
            &id.to_string(),
            &outcome.summary,
        );
        let line = format!("{} waits for a second person: {}", id, outcome.summary);
        self.out.notice(Notice::Line(line));
        self.remember(&command, &answer);
        self.put_approval(ApprovalRecord {
            id,
            command: exact,
            digest,
            summary: outcome.summary,
            needs,
            author_key: caller.key,
            asked_at: self.now,
            state: ApprovalState::Waiting,
            glass: false,
        });
        Ok((answer, self.finish()))
    }

    /// What a command builds on and its digest covers.
    fn basis(&self, action: &Action) -> Sha256 {
        match action {
            Action::ApplyPolicy(_) => self.policy.digest(),
            Action::Grant(name, _) => {
                let held = self.people.grants(name);
                sha256(&serde_json::to_vec(held).unwrap_or_default())
            }
            Action::SetLabels(id, _) => {
                let labels = self.hosts.get(id).map(|host| &host.record.labels);
                sha256(&serde_json::to_vec(&labels).unwrap_or_default())
            }
            _ => sha256(b""),
        }
    }

    fn approve_as(
        &mut self,
        caller: &Caller,
        id: ApprovalId,
        shown: &Sha256,
        by: &Command,
    ) -> Asked {
        let approval = self.second_person(caller, id)?.clone();
        let what = format!("approving {id}");
        if approval.digest != *shown && !slipped(Slip::DigestNotCompared) {
            return Err(conflict(
                what,
                "it is not what was shown: the digest differs",
                "look at it again with `ringwardctl approvals list`",
            ));
        }
        let author = Caller {
            name: approval.command.actor.clone(),
            key: approval.author_key,
            by: ringward_domain::people::Proof::Certificate,
            break_glass: false,
        };
        // Roles may have changed since: the author must still be allowed what was asked for.
        let mut leave = self.authorise(&author, &approval.command.action)?;
        leave.origin = Origin::TwoPersons;
        leave.approved_by.clone_from(&caller.name);
        let (outcome, act) = self.decide_with(&approval.command, &leave)?;
        let exact = exact_command(&approval.command, &act);
        if digest(&exact, &self.basis(&exact.action)) != approval.digest {
            return Err(conflict(
                what,
                "the fleet, the policy or the grants changed since: it would do something else now",
                "deny it, and let it be asked for again",
            ));
        }
        if by.dry_run {
            return Ok((outcome, Vec::new()));
        }
        self.out.audit(
            &caller.name,
            "approval approve",
            &id.to_string(),
            &by.reason,
        );
        self.put_approval(ApprovalRecord {
            state: ApprovalState::Approved(caller.name.clone()),
            ..approval.clone()
        });
        self.remember(by, &outcome);
        self.audit_command(&approval.command, &outcome);
        self.carry_out(act, &approval.command);
        self.want_plan();
        Ok((outcome, self.finish()))
    }

    fn deny_as(&mut self, caller: &Caller, id: ApprovalId, by: &Command) -> Asked {
        let approval = self.waiting(id)?.clone();
        let mut outcome = said(format!("denied: {}", approval.summary));
        outcome
            .warnings
            .push(format!("{} may ask for it again", approval.command.actor));
        if by.dry_run {
            return Ok((outcome, Vec::new()));
        }
        self.out
            .audit(&caller.name, "approval deny", &id.to_string(), &by.reason);
        self.put_approval(ApprovalRecord {
            state: ApprovalState::Denied(caller.name.clone()),
            ..approval
        });
        self.remember(by, &outcome);
        Ok((outcome, self.finish()))
    }

    fn waiting(&self, id: ApprovalId) -> Result<&ApprovalRecord, Refusal> {
        let next = "list them with `ringwardctl approvals list`";
        let approval = self
            .approvals
            .get(&id)
            .ok_or_else(|| not_found("approval", id, next))?;
        let why = match &approval.state {
            ApprovalState::Waiting if approval.left(self.now).0 > 0 => return Ok(approval),
            ApprovalState::Expired if slipped(Slip::ExpiredApproved) => return Ok(approval),
            ApprovalState::Waiting | ApprovalState::Expired => "it expired".to_owned(),
            ApprovalState::Approved(by) => format!("{by} approved it already"),
            ApprovalState::Denied(by) => format!("{by} denied it"),
        };
        Err(conflict(
            format!("deciding on {id}"),
            why,
            "let it be asked for again",
        ))
    }

    /// What waits, if this caller may be its second person.
    fn second_person(&self, caller: &Caller, id: ApprovalId) -> Result<&ApprovalRecord, Refusal> {
        let approval = self.waiting(id)?;
        let refuse = |why: &str| {
            Err(denied(
                format!("approving {id}"),
                why,
                "ask somebody else who has been an approver for 24 h",
            ))
        };
        if approval.command.actor == caller.name && !slipped(Slip::AuthorApproves) {
            return refuse("the second person is not the one who asked");
        }
        // Its author has that certificate too: what is planted there is found there.
        let twin = slipped(Slip::TwinApproves) || slipped(Slip::AuthorApproves);
        if caller.key.is_some() && caller.key == approval.author_key && !twin {
            return refuse("it was asked for with the same certificate");
        }
        if self.shares_certificate(&caller.name, &approval.command.actor) && !twin {
            return refuse("the same certificate was seen with both names");
        }
        let scope = match slipped(Slip::NoviceApproves) {
            true => self.people.scope(caller, Permission::Approve).0,
            false => self.people.approves(&caller.name, self.now),
        };
        if scope == Scope::Nothing {
            return refuse("the role has not been held for 24 h");
        }
        let covered = match (approval.hosts(), one_host(&approval.command.action)) {
            ([], None) => scope == Scope::All,
            (hosts, one) => hosts.iter().chain(&one).all(|id| {
                let host = self.hosts.get(id);
                host.is_some_and(|host| scope.covers(&host.record.labels))
            }),
        };
        if !covered {
            return refuse("not all of it is within the grants of the second person");
        }
        Ok(approval)
    }

    /// Whether somebody may do alone what takes two.
    fn may_break_glass(&self, caller: &Caller, action: &Action) -> Result<(), Refusal> {
        let refuse = |why: String, next: &str| Err(denied("breaking the glass", why, next));
        // Who loosens brakes or grants alone could then do anything: only where nobody else is there.
        let bounded = matches!(action, Action::Order(_));
        if !bounded && self.people.has_second(&caller.name, self.now) {
            return refuse(
                "it is for orders; this loosens a brake, and there are others who could approve it"
                    .to_owned(),
                "ask for it without --break-glass",
            );
        }
        let broken = self
            .approvals
            .values()
            .filter(|a| a.glass && self.now.since(a.asked_at) < GLASS_DAY);
        if broken.count() >= GLASS_PER_DAY {
            return refuse(
                format!("it was broken {GLASS_PER_DAY} times in 24 h"),
                "find a second person",
            );
        }
        Ok(())
    }

    fn broke_glass(
        &mut self,
        caller: &Caller,
        command: &Command,
        outcome: &Outcome,
        needs: Vec<String>,
    ) {
        let id = ApprovalId(derived_id("ringward glass v1\n", &command.request.0));
        let line = format!(
            "BREAK-GLASS: {} alone: {} ({})",
            caller.name, outcome.summary, command.reason
        );
        self.out
            .audit(&caller.name, "break-glass", &id.to_string(), &line);
        self.out.notice(Notice::Line(line));
        self.put_approval(ApprovalRecord {
            id,
            command: command.clone(),
            digest: digest(command, &self.basis(&command.action)),
            summary: outcome.summary.clone(),
            needs,
            author_key: caller.key,
            asked_at: self.now,
            state: ApprovalState::Approved(caller.name.clone()),
            glass: true,
        });
    }

    fn put_approval(&mut self, record: ApprovalRecord) {
        self.out.put(Record::Approval(Box::new(record.clone())));
        self.approvals.insert(record.id, record);
        if self.approvals.len() <= KEPT {
            return;
        }
        let over = self
            .approvals
            .values()
            .filter(|a| !a.is_waiting() && self.now.since(a.asked_at) >= GLASS_DAY);
        let oldest = over.min_by_key(|a| a.asked_at).map(|a| a.id);
        if let Some(id) = oldest {
            self.approvals.remove(&id);
            self.out.delete(RecordKey::Approval(id));
        }
    }

    /// What nobody came for expires.
    pub(super) fn approvals_tick(&mut self) {
        let now = self.now;
        let expired: Vec<ApprovalRecord> = self
            .approvals
            .values()
            .filter(|a| a.is_waiting() && a.left(now).0 == 0)
            .cloned()
            .collect();
        for approval in expired {
            self.put_approval(ApprovalRecord {
                state: ApprovalState::Expired,
                ..approval
            });
        }
    }

    /// What waits for a second person, or waited, newest first.
    #[must_use]
    pub fn approval_views(&self) -> Vec<ApprovalView> {
        let mut all: Vec<&ApprovalRecord> = self.approvals.values().collect();
        all.sort_by_key(|a| (std::cmp::Reverse(a.asked_at), a.id));
        let view = |a: &ApprovalRecord| ApprovalView {
            id: a.id,
            digest: a.digest,
            summary: a.summary.clone(),
            needs: a.needs.clone(),
            author: a.command.actor.clone(),
            reason: a.command.reason.clone(),
            state: a.state.clone(),
            left: a.left(self.now),
            hosts: a.hosts().iter().copied().take(LISTED_MAX).collect(),
        };
        all.into_iter().map(view).collect()
    }
}

impl ApprovalRecord {
    fn is_waiting(&self) -> bool {
        self.state == ApprovalState::Waiting
    }
}

/// The command with its targets as exact hosts: those it was decided for, and no others.
fn exact_command(command: &Command, act: &Act) -> Command {
    let mut exact = command.clone();
    exact.dry_run = false;
    if let (Action::Order(spec), Act::Order(decision)) = (&mut exact.action, act) {
        spec.targets = OrderTargets::Hosts(decision.parts.iter().map(|(host, _)| *host).collect());
    }
    if let (Action::Grant(_, grants), Act::Grant(_, decided)) = (&mut exact.action, act) {
        grants.clone_from(decided);
    }
    exact
}
