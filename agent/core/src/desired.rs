//! The desired state: a level, ordered by (epoch, generation); older ones are refused for ever.

use crate::Machine;
use crate::planted::{Bug, planted};
use crate::prepare::Want;
use ringward_domain::ledger::{AttemptPhase, NotSwitchedWhy};
use ringward_domain::limits::PACKAGES_MAX;
use ringward_domain::observed::RefuseWhy;
use ringward_domain::{Assignment, AssignmentKind, Desired, Timestamp};

impl Machine {
    pub(crate) fn on_desired(&mut self, mut desired: Desired, now: Timestamp) {
        let order = (desired.epoch, desired.generation);
        if !self.acts {
            // The net is not the ledger's: a host must be isolated and freed all the same.
            self.take_orders(order, std::mem::take(&mut desired.orders));
            // It takes no orders, yet the server may still say how often it wants to hear of it.
            desired.assignments.clear();
            self.desired = Some(desired);
            return;
        }
        let older = order < self.ledger.accepted;
        if older && !planted(Bug::OlderGenerationAccepted) {
            return;
        }
        if order == self.ledger.accepted && self.desired.is_some() {
            return; // a repetition
        }
        desired.assignments.truncate(PACKAGES_MAX);
        self.take_orders(order, std::mem::take(&mut desired.orders));
        if order != self.ledger.accepted {
            self.ledger.accepted = order;
            for release in &desired.lifted {
                self.ledger.bars.remove(release);
            }
            self.write_ledger();
        }
        self.preparation.forget_refusals_not_in(&desired);
        if desired.assignments.iter().any(|a| a.invited) {
            self.invited(now);
        }
        self.desired = Some(desired);
    }

    /// Brings preparation and progress in line with what is wanted now.
    pub(crate) fn settle_desired(&mut self, now: Timestamp) {
        let want = self.wanted().map(Want::of);
        let refusal = want.as_ref().and_then(|want| self.refuses(want));
        if let Some(target) = self.progress.target()
            && (refusal.is_some() || want.as_ref().is_none_or(|want| !want.is(target)))
        {
            self.give_up_progress(NotSwitchedWhy::Superseded, now);
        }
        if self.progress.is_switching() {
            return; // a switch under way is not interrupted, and its staged content stays
        }
        let delay = self.prepare_delay(want.as_ref());
        if self.preparation.set_want(want, refusal, now + delay) {
            self.out.free(crate::Effect::DropPrepared);
        }
        self.settle_prepare(now);
    }

    /// The one assignment to work on: rollbacks first, refused ones last (only to be reported).
    fn wanted(&self) -> Option<&Assignment> {
        let desired = self.desired.as_ref()?;
        let frozen = self.containment.frozen();
        let open = |assignment: &&Assignment| {
            self.is_to_do(assignment) && !(frozen && assignment.kind == AssignmentKind::Install)
        };
        let rank = |assignment: &&Assignment| {
            let refused = self.refuses(&Want::of(assignment)).is_some();
            (refused, assignment.kind == AssignmentKind::Install)
        };
        desired.assignments.iter().filter(open).min_by_key(rank)
    }

    fn is_to_do(&self, assignment: &Assignment) -> bool {
        if self
            .running(&assignment.package)
            .is_some_and(|running| running.release == assignment.release)
        {
            return false;
        }
        if self.reverting.is_some() {
            return false;
        }
        match self.ledger.attempt.as_ref() {
            Some(attempt) => match attempt.phase {
                // A host on trial takes nothing else but the way back from that release.
                AttemptPhase::Trial => match attempt.kind {
                    AssignmentKind::Install => {
                        assignment.kind == AssignmentKind::Rollback
                            && assignment.package == attempt.package
                    }
                    AssignmentKind::Rollback => self.rollback_is_unhealthy(),
                },
                AttemptPhase::Switching => {
                    self.progress.is_switching()
                        && attempt.rollout == assignment.rollout
                        && attempt.to.release == assignment.release
                }
                // One try a rollout: what failed here fails again, and a person must look. The way
                // back is tried for ever.
                AttemptPhase::Failed(_) => {
                    attempt.kind == AssignmentKind::Rollback
                        || attempt.rollout != assignment.rollout
                        || attempt.to.release != assignment.release
                }
                AttemptPhase::Committed
                | AttemptPhase::Reverted(_)
                | AttemptPhase::NotSwitched(_) => true,
            },
            None => true,
        }
    }

    /// Why this host will not take it, whatever the server says.
    pub(crate) fn refuses(&self, want: &Want) -> Option<RefuseWhy> {
        if self.is_barred(&want.release) {
            return Some(RefuseWhy::Barred);
        }
        if want.kind == AssignmentKind::Rollback && !self.is_in_history(want) {
            return Some(RefuseWhy::UnknownHistory);
        }
        self.preparation.refusal(want)
    }

    /// Whether the release was proven on this host, by the ledger.
    fn is_in_history(&self, want: &Want) -> bool {
        self.ledger
            .packages
            .get(&want.package)
            .is_some_and(|package| {
                package
                    .committed
                    .iter()
                    .chain(&package.history)
                    .any(|known| known.release == want.release)
            })
    }
}
