//! Rollback: a rollout back to an earlier release, for the hosts on or begun on the one left.

use super::Control;
use super::command::{Act, Decided, conflict, not_found, said};
use super::start::{list_rings, rollout_id, runs};
use crate::host::Host;
use crate::record::Record;
use crate::release::ReleaseRecord;
use crate::rollout::member::{Ending, Stage};
use crate::rollout::{PlannedRing, Rollout, Status};
use crate::salt::Salt;
use ringward_domain::command::{Command, Refusal};
use ringward_domain::host::HostState;
use ringward_domain::ids::ReleaseDigest;
use ringward_domain::report::Standing;
use ringward_domain::{AssignmentKind, HostId, RingName, Version};

/// A host's part in what a rollback leaves.
struct OnRelease {
    host: HostId,
    place: u64,
    group: u64,
    failed: bool,
}

impl Control {
    pub(super) fn decide_rollback(
        &self,
        leave: ReleaseDigest,
        to: Option<&Version>,
        command: &Command,
    ) -> Decided {
        let left = self.releases.get(&leave).ok_or_else(|| {
            not_found(
                "release",
                leave,
                "list them with `ringwardctl releases list`",
            )
        })?;
        let target = self.target(left, to)?;
        let what = format!("rolling back {}", left.title());
        let under_way = self.rollouts_of_package(&left.manifest.package).find(|r| {
            let same = r
                .spec
                .leaves
                .as_ref()
                .is_some_and(|(release, _)| *release == leave);
            same && matches!(
                r.status(),
                Status::Running | Status::Held(_) | Status::Paused(_) | Status::Halted(..)
            )
        });
        if let Some(rollout) = under_way {
            return Err(conflict(
                what,
                format!(
                    "{} does that already and is {}",
                    rollout.id,
                    rollout.status().state()
                ),
                "watch it, resume it, or abort it first",
            ));
        }
        let salt = Salt::new(&target.release, &self.policy.digest());
        let members = self.hosts_on(left, salt);
        if members.is_empty() {
            return Ok((
                said(format!("{} is barred; no host runs it", left.title())),
                Act::Bar(leave),
            ));
        }
        let hosts = members.iter().map(|m| (m.host, m.group)).collect();
        let rings = [PlannedRing {
            name: rollback_ring(),
            hosts,
        }];
        let mut spec = self.spec(target, AssignmentKind::Rollback, command);
        spec.leaves = Some((leave, left.manifest.version.clone()));
        let mut rollout = Rollout::new(
            rollout_id(command.request),
            spec,
            self.policy.pace,
            salt,
            &rings,
            self.now,
        );
        for member in members.iter().filter(|m| m.failed) {
            rollout.failed_before(member.host, self.now);
        }
        let mut outcome = said(format!(
            "{} hosts go back from {} to {}; {} is barred",
            members.len(),
            left.title(),
            target.title(),
            left.title()
        ));
        outcome.rollout = Some(rollout.id);
        let failed = members.iter().filter(|m| m.failed).count();
        if failed > 0 {
            outcome.warnings.push(format!(
                "{failed} of them failed on it and go ahead of the window, at most {} an hour",
                self.policy.pace.rollback_cap.of(members.len() as u64)
            ));
        }
        list_rings(&mut outcome, &rings);
        Ok((outcome, Act::Start(Box::new(rollout))))
    }

    pub(super) fn target(
        &self,
        left: &ReleaseRecord,
        to: Option<&Version>,
    ) -> Result<&ReleaseRecord, Refusal> {
        let package = &left.manifest.package;
        let others = self
            .releases
            .values()
            .filter(|r| r.manifest.package == *package && r.release != left.release);
        let target = match to {
            Some(version) => others.into_iter().find(|r| r.manifest.version == *version),
            None => others
                .into_iter()
                .filter(|r| r.standing == Standing::Good)
                .max_by(|a, b| a.manifest.version.cmp(&b.manifest.version)),
        };
        let Some(target) = target else {
            let (id, next) = match to {
                Some(version) => (
                    format!("{package} {version}"),
                    "list them with `ringwardctl releases list`",
                ),
                None => (
                    format!("{package} in good standing"),
                    "name the version with --to, or `ringwardctl releases mark-good` one",
                ),
            };
            return Err(not_found("release", id, next));
        };
        if target.barred() {
            let (package, version) = (package.clone(), target.manifest.version.clone());
            return Err(Refusal::Barred {
                package,
                version,
                why: "it was rolled back or marked bad itself".to_owned(),
            });
        }
        if let Some(floor) = left
            .manifest
            .security_floor
            .as_ref()
            .filter(|floor| target.manifest.version < **floor)
        {
            let what = format!("going back to {}", target.title());
            return Err(conflict(
                what,
                format!("{} forbids versions below {floor}", left.title()),
                "choose a newer version, or publish a fixed one",
            ));
        }
        Ok(target)
    }

    /// Hosts on the release, or begun on it, those that failed first.
    fn hosts_on(&self, left: &ReleaseRecord, salt: Salt) -> Vec<OnRelease> {
        let rollouts: Vec<&Rollout> = self
            .rollouts_of_package(&left.manifest.package)
            .filter(|r| r.spec.release == left.release)
            .collect();
        let active = self
            .hosts
            .values()
            .filter(|host| host.record.state == HostState::Active);
        let mut found: Vec<OnRelease> = active
            .filter_map(|host| on_release(host, left, &rollouts, salt))
            .collect();
        found.sort_unstable_by_key(|m| (!m.failed, m.place));
        found
    }

    /// Bars a release on the fleet; what rolls it out ends.
    pub(super) fn bar(&mut self, release: ReleaseDigest, reason: &str) {
        let Some(record) = self.releases.get_mut(&release) else {
            return;
        };
        record.standing = Standing::Bad;
        let record = record.clone();
        self.out.put(Record::Release(Box::new(record)));
        self.barred.insert(release);
        let ended: Vec<_> = self
            .rollouts
            .values()
            .filter(|r| {
                r.spec.release == release
                    && matches!(
                        r.status(),
                        Status::Running | Status::Held(_) | Status::Paused(_)
                    )
            })
            .map(|r| r.id)
            .collect();
        for id in ended {
            self.with(id, |rollout, _| {
                rollout.abort(format!("the release was barred: {reason}"))
            });
        }
        self.out.readiness.extend(self.hosts.keys().copied());
        self.refresh_all();
    }
}

fn on_release(
    host: &Host,
    left: &ReleaseRecord,
    rollouts: &[&Rollout],
    salt: Salt,
) -> Option<OnRelease> {
    let id = host.record.id;
    let stages = || {
        rollouts
            .iter()
            .filter_map(|r| r.member(id))
            .map(|m| &m.stage)
    };
    let failed = stages().any(|s| {
        matches!(
            s,
            Stage::Ended(Ending::Failed(_) | Ending::Silent | Ending::Reverted(_), _)
        )
    });
    let begun = stages().any(|s| matches!(s, Stage::Exposed(_)));
    (failed || begun || runs(host, Some(left.release))).then(|| OnRelease {
        host: id,
        place: salt.place(id),
        group: host.group(),
        failed,
    })
}

pub(super) fn rollback_ring() -> RingName {
    "rollback".parse().expect("a fixed name that fits")
}
