//! What keeps a host from taking part, whatever windows say.

use super::Control;
use crate::host::Host;
use crate::rollout::Rollout;
use crate::rollout::member::{Readiness, Stage};
use ringward_domain::host::HostState;
use ringward_domain::ids::RolloutId;
use ringward_domain::observed::PrepareState;
use ringward_domain::report::WaitWhy;
use ringward_domain::session::BeginRefusal;
use ringward_domain::{AssignmentKind, HostId};

impl Control {
    /// Tells every rollout of a host what the host is ready for.
    pub(super) fn refresh_readiness(&mut self, id: HostId) {
        let Some(host) = self.hosts.get(&id) else {
            return;
        };
        let found: Vec<(RolloutId, Readiness)> = host
            .rollouts
            .iter()
            .filter_map(|rollout| self.rollouts.get(rollout))
            .filter(|rollout| rollout.member(id).is_some())
            .map(|rollout| (rollout.id, self.readiness(host, rollout)))
            .collect();
        for (rollout, readiness) in found {
            let Some(rollout) = self.rollouts.get_mut(&rollout) else {
                continue;
            };
            if rollout
                .member(id)
                .is_some_and(|member| member.readiness != readiness)
            {
                rollout.readiness(id, readiness, self.now);
                let rollout = rollout.id;
                self.touch(rollout);
            }
        }
    }

    fn readiness(&self, host: &Host, rollout: &Rollout) -> Readiness {
        if host.record.state != HostState::Active {
            return Readiness::NotActive;
        }
        if let Some(absence) = host.record.absent {
            return Readiness::Away(absence);
        }
        if host.session.is_none() {
            return Readiness::Unreachable;
        }
        match self.blocked(host, rollout) {
            Some(WaitWhy::Frozen) => return Readiness::Frozen,
            Some(WaitWhy::Barred) => return Readiness::Barred,
            Some(_) => return Readiness::OtherTrial,
            None => {}
        }
        let release = rollout.spec.release;
        let package = host.package(&rollout.spec.package);
        if package.is_some_and(|p| p.running == Some(release) && p.committed == Some(release)) {
            return Readiness::Runs;
        }
        let preparing = host.observed.preparing.as_ref();
        match preparing
            .filter(|p| p.rollout == rollout.id && p.release == release)
            .map(|p| p.state)
        {
            Some(PrepareState::Ready) if !self.may_begin_now(host, rollout) => {
                Readiness::OutsideMaintenance
            }
            Some(PrepareState::Ready) => Readiness::Ready,
            Some(PrepareState::Retrying(_)) => Readiness::PrepareFailing,
            Some(PrepareState::Refused(why)) => Readiness::Refuses(why),
            Some(PrepareState::Working) => Readiness::Preparing,
            // It was taken off the release when it refused, and has nothing to say of it since.
            None => match rollout.member(host.record.id).map(|member| &member.stage) {
                Some(Stage::Refused(why)) => Readiness::Refuses(*why),
                _ => Readiness::Preparing,
            },
        }
    }

    /// Why an active, present host may not take part in a rollout now.
    pub(super) fn blocked(&self, host: &Host, rollout: &Rollout) -> Option<WaitWhy> {
        if host.record.state != HostState::Active {
            return Some(WaitWhy::NotActive);
        }
        if host.record.frozen {
            return Some(WaitWhy::Frozen);
        }
        if self.barred.contains(&rollout.spec.release) || host.bars(&rollout.spec.release) {
            return Some(WaitWhy::Barred);
        }
        let other = host
            .trials
            .iter()
            .any(|id| *id != rollout.id && !self.gives_way(*id, rollout));
        other.then_some(WaitWhy::OtherTrial)
    }

    /// Whether a trial gives way to this rollout: a rollback of the very release on trial.
    fn gives_way(&self, trial: RolloutId, to: &Rollout) -> bool {
        let leaves = to.spec.leaves.as_ref().map(|(release, _)| *release);
        to.spec.kind == AssignmentKind::Rollback
            && self
                .rollouts
                .get(&trial)
                .is_some_and(|trial| Some(trial.spec.release) == leaves)
    }

    /// The same as a refusal of `Begin`.
    pub(super) fn refusal(&self, host: &Host, rollout: &Rollout) -> Option<BeginRefusal> {
        self.blocked(host, rollout).map(|why| match why {
            WaitWhy::Frozen => BeginRefusal::Frozen,
            WaitWhy::Barred => BeginRefusal::Barred,
            WaitWhy::OtherTrial => BeginRefusal::Superseded,
            _ => BeginRefusal::NoGrant,
        })
    }
}
