//! Starting a rollout: rings are drawn, membership is frozen.

use super::command::{Act, Decided, conflict, not_found, said};
use super::{Control, ROLLOUTS_KEPT};
use crate::host::Host;
use crate::record::{Record, RecordKey};
use crate::release::ReleaseRecord;
use crate::rollout::order::{Candidate, plan_rings, ring_of_late};
use crate::rollout::{PlannedRing, Rollout, Spec, Status};
use crate::salt::{Salt, derived_id};
use ringward_domain::command::{Command, Outcome, Refusal};
use ringward_domain::host::HostState;
use ringward_domain::ids::{ReleaseDigest, RequestId, RolloutId};
use ringward_domain::{AssignmentKind, HostId};
use std::collections::BTreeMap;

/// Hosts listed in an answer, a ring.
const LISTED_MAX: usize = 1000;
/// Members of a redundancy group above which a person is warned that one at a time takes long.
const GROUP_USUAL_MAX: usize = 64;

impl Control {
    pub(super) fn decide_start(&self, digest: ReleaseDigest, command: &Command) -> Decided {
        let release = self.releases.get(&digest).ok_or_else(|| {
            not_found(
                "release",
                digest,
                "list them with `ringwardctl releases list`",
            )
        })?;
        self.may_start(release)?;
        let mut left_out = Vec::new();
        let fleet: Vec<&Host> = self
            .hosts
            .values()
            .filter(|host| host.record.state != HostState::Retired)
            .collect();
        let candidates: Vec<Candidate<'_>> = fleet
            .iter()
            .filter_map(|host| match left_out_why(host, release) {
                Some(why) => {
                    left_out.push((host.record.id, why));
                    None
                }
                None => Some(candidate(host)),
            })
            .collect();
        let salt = Salt::new(&digest, &self.policy.digest());
        let (rings, none) = plan_rings(&self.policy.rings, &candidates, salt);
        left_out.extend(
            none.into_iter()
                .map(|host| (host, "no ring's selector matches its labels".to_owned())),
        );
        if rings.iter().all(|ring| ring.hosts.is_empty()) {
            let why = left_out
                .first()
                .map_or("no host is enrolled".to_owned(), |(_, why)| {
                    format!("no host can take it, the first one because: {why}")
                });
            return Err(conflict(
                format!("starting a rollout of {}", release.title()),
                why,
                "enrol and approve hosts, or change the rings",
            ));
        }
        let spec = self.spec(release, AssignmentKind::Install, command);
        let mut rollout = Rollout::new(
            rollout_id(command.request),
            spec,
            self.policy.pace,
            salt,
            &rings,
            self.now,
        );
        rollout.control_history(&self.control_history());
        let mut outcome = said(format!(
            "{} goes to {} hosts in {} rings",
            release.title(),
            rollout.members().len(),
            rings.len()
        ));
        outcome.rollout = Some(rollout.id);
        left_out.truncate(LISTED_MAX);
        outcome.left_out = left_out;
        outcome.warnings = self.start_warnings(&rollout, &rings);
        list_rings(&mut outcome, &rings);
        Ok((outcome, Act::Start(Box::new(rollout))))
    }

    fn may_start(&self, release: &ReleaseRecord) -> Result<(), Refusal> {
        if release.barred() {
            return Err(Refusal::Barred {
                package: release.manifest.package.clone(),
                version: release.manifest.version.clone(),
                why: "it was rolled back or marked bad".to_owned(),
            });
        }
        let what = format!("starting a rollout of {}", release.title());
        if release
            .manifest
            .expires_unix_s
            .is_some_and(|at| self.wall_unix_ms / 1000 >= at)
        {
            return Err(conflict(
                what,
                "its manifest has expired",
                "publish a newly signed one",
            ));
        }
        for rollout in self.rollouts_of_package(&release.manifest.package) {
            let active = matches!(
                rollout.status(),
                Status::Running | Status::Held(_) | Status::Paused(_)
            );
            let same = rollout.spec.release == release.release
                && matches!(rollout.status(), Status::Halted(..) | Status::Completed);
            if active || same {
                let why = format!(
                    "{} of {} {} is {}",
                    rollout.id,
                    rollout.spec.package,
                    rollout.spec.version,
                    rollout.status().state()
                );
                return Err(conflict(
                    what,
                    why,
                    "wait for it, resume it, or abort it first",
                ));
            }
        }
        Ok(())
    }

    pub(super) fn rollouts_of_package(
        &self,
        package: &ringward_domain::PackageName,
    ) -> impl DoubleEndedIterator<Item = &Rollout> {
        self.by_package
            .get(package)
            .into_iter()
            .flat_map(|ids| ids.values())
            .filter_map(|id| self.rollouts.get(id))
    }

    pub(super) fn spec(
        &self,
        release: &ReleaseRecord,
        kind: AssignmentKind,
        command: &Command,
    ) -> Spec {
        Spec {
            kind,
            package: release.manifest.package.clone(),
            release: release.release,
            version: release.manifest.version.clone(),
            boots: release.boots(),
            leaves: None,
            expires_unix_s: release
                .manifest
                .expires_unix_s
                .filter(|_| kind == AssignmentKind::Install),
            number: self.next_rollout,
            started_by: command.actor.clone(),
            reason: command.reason.clone(),
            started_unix_ms: self.wall_unix_ms,
        }
    }

    fn start_warnings(&self, rollout: &Rollout, rings: &[PlannedRing]) -> Vec<String> {
        let mut warnings = rollout.pace.notes();
        let away = rollout
            .members()
            .iter()
            .filter(|m| self.hosts.get(&m.host).is_none_or(|h| h.session.is_none()))
            .count();
        if away > 0 {
            warnings.push(format!("{away} of {} hosts have no session now; they join as stragglers when they are back", rollout.members().len()));
        }
        if rollout.verify_boot(0)
            && !rollout.spec.boots
            && let Some(first) = rings.first()
        {
            warnings.push(format!(
                "hosts of ring {} reboot after the switch (verify_boot)",
                first.name
            ));
        }
        if let Some(rate) = rollout.verdict(self.now).smallest_detectable_rate {
            warnings.push(format!(
                "the smallest failure rate that a fleet of this size can detect is {:.2} %",
                rate * 100.0
            ));
        }
        let mut groups: BTreeMap<u64, usize> = BTreeMap::new();
        for member in rollout.members().iter().filter(|m| m.group != 0) {
            *groups.entry(member.group).or_default() += 1;
        }
        if let Some(size) = groups
            .values()
            .max()
            .filter(|size| **size > GROUP_USUAL_MAX)
        {
            warnings.push(format!(
                "a redundancy group has {size} hosts; only one of them is exposed at a time"
            ));
        }
        warnings
    }

    /// Puts a decided rollout into force.
    pub(super) fn start(&mut self, rollout: Rollout, command: &Command) {
        let id = rollout.id;
        if let Some((leaves, _)) = rollout.spec.leaves.clone() {
            self.bar(leaves, &command.reason);
        }
        let package = rollout.spec.package.clone();
        for cohort in rollout.cohort_records() {
            self.out.put(Record::Cohort(Box::new(cohort)));
        }
        let hosts: Vec<HostId> = rollout.members().iter().map(|m| m.host).collect();
        self.take_in(rollout);
        self.next_rollout += 1;
        self.out.control = true;
        self.touch(id);
        self.out.readiness.extend(hosts.iter().copied());
        self.out
            .desired
            .extend(hosts.into_iter().map(|host| (host, false)));
        self.forget_oldest(&package);
    }

    /// Rollouts of a package are kept up to a number; the oldest that rest go.
    fn forget_oldest(&mut self, package: &ringward_domain::PackageName) {
        let Some(ids) = self
            .by_package
            .get(package)
            .filter(|ids| ids.len() > ROLLOUTS_KEPT)
        else {
            return;
        };
        let rests = |id: &&RolloutId| self.rollouts.get(id).is_some_and(Rollout::rests);
        let surplus = ids.len() - ROLLOUTS_KEPT;
        let gone: Vec<RolloutId> = ids.values().filter(rests).take(surplus).copied().collect();
        for id in gone {
            let Some(rollout) = self.rollouts.remove(&id) else {
                continue;
            };
            if let Some(ids) = self.by_package.get_mut(package) {
                ids.remove(&rollout.spec.number);
            }
            self.out.delete(RecordKey::Rollout(id));
            for cohort in rollout.cohort_records() {
                self.out.delete(RecordKey::Cohort(id, cohort.part));
            }
            for member in rollout.members() {
                self.out.delete(RecordKey::Member(id, member.host));
                if let Some(host) = self.hosts.get_mut(&member.host) {
                    host.rollouts.retain(|other| *other != id);
                }
            }
        }
    }

    /// A host that came after the start joins what is rolled out to hosts like it.
    pub(super) fn join_late(&mut self, id: HostId) {
        let packages: Vec<_> = self.by_package.keys().cloned().collect();
        for package in packages {
            let Some((rollout, ring, group)) = self.joins(id, &package) else {
                continue;
            };
            self.with(rollout, |rollout, now| rollout.join(id, ring, group, now));
            if let Some(host) = self.hosts.get_mut(&id) {
                host.rollouts.push(rollout);
                // The newest comes last.
                let number = |id: &RolloutId| self.rollouts.get(id).map_or(0, |r| r.spec.number);
                host.rollouts.sort_by_key(number);
            }
            self.out.readiness.insert(id);
            self.out.desired.entry(id).or_insert(false);
        }
    }

    /// The newest rollout of a package that takes newcomers like this host, unless it is a member.
    fn joins(
        &self,
        id: HostId,
        package: &ringward_domain::PackageName,
    ) -> Option<(RolloutId, usize, u64)> {
        let host = self
            .hosts
            .get(&id)
            .filter(|host| host.record.state == HostState::Active)?;
        for rollout in self.rollouts_of_package(package).rev() {
            let takes = match rollout.spec.kind {
                AssignmentKind::Rollback => {
                    !matches!(rollout.status(), Status::Aborted(_))
                        && runs(host, rollout.spec.leaves.as_ref().map(|l| l.0))
                }
                AssignmentKind::Install => {
                    matches!(
                        rollout.status(),
                        Status::Running | Status::Held(_) | Status::Paused(_) | Status::Completed
                    ) && self
                        .releases
                        .get(&rollout.spec.release)
                        .is_some_and(|r| !r.barred() && left_out_why(host, r).is_none())
                }
            };
            if rollout.member(id).is_some() {
                return None;
            }
            if takes {
                let ring = match rollout.spec.kind {
                    AssignmentKind::Rollback => 0,
                    AssignmentKind::Install => self.late_ring(host, rollout)?,
                };
                return Some((rollout.id, ring, host.group()));
            }
        }
        None
    }

    fn late_ring(&self, host: &Host, rollout: &Rollout) -> Option<usize> {
        let policy = &self.policy.rings[ring_of_late(&self.policy.rings, &host.record.labels)?];
        let rings = rollout.rings();
        // The rings of the rollout are those of its start; a renamed one stands at the end.
        Some(
            rings
                .iter()
                .position(|ring| ring.record.name == policy.name)
                .unwrap_or(rings.len() - 1),
        )
    }
}

/// Whether a host runs a release, proven or not.
pub(super) fn runs(host: &Host, release: Option<ReleaseDigest>) -> bool {
    release.is_some()
        && host
            .observed
            .packages
            .iter()
            .any(|p| p.running == release || p.committed == release)
}

/// The id of the rollout that this request starts: a repeated request names the same.
pub(super) fn rollout_id(request: RequestId) -> RolloutId {
    RolloutId(derived_id("ringward rollout v1\n", &request.0))
}

fn candidate(host: &Host) -> Candidate<'_> {
    let record = &host.record;
    Candidate {
        host: record.id,
        labels: &record.labels,
        model: &record.facts.model,
        os_build: &record.facts.os_build,
    }
}

/// Why a host takes no part in a rollout of this release.
fn left_out_why(host: &Host, release: &ReleaseRecord) -> Option<String> {
    let facts = &host.record.facts;
    if host.record.state == HostState::Pending {
        return Some("waits for approval".to_owned());
    }
    let fits = |a: &ringward_domain::manifest::Artefact| {
        a.os == facts.os && a.arch.is_none_or(|arch| arch == facts.arch)
    };
    if !release.manifest.artefacts.iter().any(fits) {
        return Some(format!(
            "the release has no artefact for {:?} {:?}",
            facts.os, facts.arch
        ));
    }
    let running = host
        .package(&release.manifest.package)
        .and_then(|p| p.running_version.as_ref());
    let newer = running.filter(|running| **running > release.manifest.version)?;
    Some(format!(
        "runs the newer {newer}; a rollback brings hosts back"
    ))
}

pub(super) fn list_rings(outcome: &mut Outcome, rings: &[PlannedRing]) {
    outcome.hosts = rings
        .iter()
        .map(|ring| {
            (
                ring.name.to_string(),
                ring.hosts
                    .iter()
                    .map(|(host, _)| *host)
                    .take(LISTED_MAX)
                    .collect(),
            )
        })
        .collect();
}
