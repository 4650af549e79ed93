//! Pause, resume, abort, the andon, and how the fleet thinks of releases.

use super::Control;
use super::command::{Act, Decided, conflict, not_found, said};
use crate::record::Record;
use crate::release::ReleaseRecord;
use crate::rollout::{Rollout, Status};
use ringward_domain::command::Refusal;
use ringward_domain::ids::{ReleaseDigest, RolloutId};
use ringward_domain::report::Standing;

impl Control {
    fn known_rollout(&self, id: RolloutId) -> Result<&Rollout, Refusal> {
        self.rollouts
            .get(&id)
            .ok_or_else(|| not_found("rollout", id, "list them with `ringwardctl rollouts list`"))
    }

    fn known_release(&self, digest: ReleaseDigest) -> Result<&ReleaseRecord, Refusal> {
        self.releases.get(&digest).ok_or_else(|| {
            not_found(
                "release",
                digest,
                "list them with `ringwardctl releases list`",
            )
        })
    }

    pub(super) fn decide_pause(&self, id: RolloutId) -> Decided {
        let rollout = self.known_rollout(id)?;
        match rollout.status() {
            Status::Running | Status::Held(_) => {
                let summary = format!("{id} is paused; {} in flight go on", rollout.in_flight());
                Ok((said(summary), Act::Pause(id)))
            }
            status => Err(conflict(
                format!("pausing {id}"),
                format!("it is {}", status.state()),
                "there is nothing to pause",
            )),
        }
    }

    pub(super) fn decide_resume(&self, id: RolloutId) -> Decided {
        let rollout = self.known_rollout(id)?;
        if self.barred.contains(&rollout.spec.release) {
            let (package, version) = (rollout.spec.package.clone(), rollout.spec.version.clone());
            return Err(Refusal::Barred {
                package,
                version,
                why: "it was rolled back or marked bad".to_owned(),
            });
        }
        match rollout.status() {
            Status::Paused(_) => Ok((said(format!("{id} goes on")), Act::Resume(id))),
            Status::Halted(_, sentence) => {
                let mut outcome = said(format!(
                    "{id} goes on although it was halted; its evidence starts anew, its window at the start"
                ));
                outcome
                    .warnings
                    .push(format!("it was halted because: {sentence}"));
                Ok((outcome, Act::Resume(id)))
            }
            status => Err(conflict(
                format!("resuming {id}"),
                format!("it is {}", status.state()),
                "only a paused or halted rollout can be resumed",
            )),
        }
    }

    pub(super) fn decide_abort(&self, id: RolloutId) -> Decided {
        let rollout = self.known_rollout(id)?;
        match rollout.status() {
            Status::Aborted(_) => Err(conflict(
                format!("aborting {id}"),
                "it is aborted",
                "there is nothing to do",
            )),
            _ => {
                let mut outcome = said(format!(
                    "{id} is aborted for good; {} in flight go on",
                    rollout.in_flight()
                ));
                let there = rollout
                    .members()
                    .iter()
                    .filter(|m| m.exposure().is_some())
                    .count();
                if there > 0 {
                    outcome.warnings.push(format!("{there} hosts began the release and stay as they are; `ringwardctl rollouts rollback` brings them back"));
                }
                Ok((outcome, Act::Abort(id)))
            }
        }
    }

    pub(super) fn set_andon(&mut self, on: bool) {
        self.andon = on;
        self.out.control = true;
        for rollout in self.rollouts.values_mut() {
            rollout.set_andon(on);
        }
        self.refresh_all();
    }

    pub(super) fn decide_good(&self, digest: ReleaseDigest) -> Decided {
        let release = self.known_release(digest)?;
        if release.barred() {
            return Err(conflict(
                format!("marking {} good", release.title()),
                "it is barred",
                "lift the bar first with `ringwardctl releases lift-bar`",
            ));
        }
        Ok((
            said(format!("{} is in good standing", release.title())),
            Act::MarkGood(digest),
        ))
    }

    pub(super) fn decide_bad(&self, digest: ReleaseDigest) -> Decided {
        let release = self.known_release(digest)?;
        let mut outcome = said(format!("{} is barred on the fleet", release.title()));
        let running = self
            .hosts
            .values()
            .filter(|host| super::start::runs(host, Some(digest)))
            .count();
        if running > 0 {
            outcome.warnings.push(format!(
                "{running} hosts run it; `ringwardctl rollouts rollback` brings them back"
            ));
        }
        Ok((outcome, Act::Bar(digest)))
    }

    pub(super) fn decide_lift(&self, digest: ReleaseDigest) -> Decided {
        let release = self.known_release(digest)?;
        let hosts = self
            .hosts
            .values()
            .filter(|host| host.bars(&digest))
            .count();
        if !release.barred() && hosts == 0 {
            return Err(conflict(
                format!("lifting the bar of {}", release.title()),
                "it is barred nowhere",
                "there is nothing to lift",
            ));
        }
        Ok((
            said(format!(
                "{} may be rolled out again; {hosts} hosts had barred it themselves",
                release.title()
            )),
            Act::LiftBar(digest),
        ))
    }

    pub(super) fn mark_good(&mut self, digest: ReleaseDigest) {
        self.set_standing(digest, Standing::Good);
    }

    fn set_standing(&mut self, digest: ReleaseDigest, standing: Standing) {
        if let Some(release) = self.releases.get_mut(&digest) {
            release.standing = standing;
            let record = release.clone();
            self.out.put(Record::Release(Box::new(record)));
        }
    }

    pub(super) fn lift_bar(&mut self, digest: ReleaseDigest) {
        if self.barred.remove(&digest) {
            self.set_standing(digest, Standing::Unproven);
        }
        for host in self.hosts.values_mut().filter(|host| host.bars(&digest)) {
            host.record.bars.remove(&digest);
            host.record.lifted.insert(digest);
            self.out.hosts.insert(host.record.id);
        }
        self.out.readiness.extend(self.hosts.keys().copied());
        self.refresh_all();
    }
}
