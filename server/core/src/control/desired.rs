//! The desired state of hosts: a level, composed anew whenever something may have changed it.

use super::{Control, GENERATIONS_RESERVED};
use crate::host::Host;
use crate::rollout::member::{Ending, Invite, Member, Stage};
use crate::rollout::{Rollout, Status};
use ringward_domain::host::HostState;
use ringward_domain::ids::{Generation, ReleaseDigest};
use ringward_domain::limits::{BARS_MAX, PACKAGES_MAX};
use ringward_domain::session::ToAgent;
use ringward_domain::{Assignment, AssignmentKind, Desired, HostId, PackageName};

impl Control {
    /// Every host's desired state may have changed.
    pub(super) fn refresh_all(&mut self) {
        self.out.all_desired = true;
    }

    /// Sends a host its desired state if that changed (or in any case, with `force`).
    pub(super) fn refresh_desired(&mut self, id: HostId, force: bool) {
        let Some(host) = self.hosts.get(&id) else {
            return;
        };
        let Some(session) = &host.session else {
            return;
        };
        let mut desired = self.desired(host);
        if let Some((sent, _)) = &session.sent {
            desired.generation = sent.generation;
            if desired == *sent && !force {
                return;
            }
        }
        desired.generation = self.next_generation();
        let now = self.now;
        if let Some(session) = self
            .hosts
            .get_mut(&id)
            .and_then(|host| host.session.as_mut())
        {
            session.sent = Some((desired.clone(), now));
            self.out.send(id, ToAgent::Desired(Box::new(desired)));
        }
    }

    /// Generations grow over the whole fleet; a block is reserved durably before it is used.
    fn next_generation(&mut self) -> Generation {
        self.generation = self.generation.next();
        self.reserve_generations();
        self.generation
    }

    pub(super) fn reserve_generations(&mut self) {
        if self.generation >= self.generation_reserved {
            self.generation_reserved =
                Generation(self.generation.0.saturating_add(GENERATIONS_RESERVED));
            self.out.control = true;
        }
    }

    fn desired(&self, host: &Host) -> Desired {
        let mut assignments = Vec::new();
        if host.record.state == HostState::Active {
            for package in self.packages_of(host) {
                let found = self
                    .assigned(host, &package)
                    .and_then(|r| r.member(host.record.id).map(|m| assignment(r, m)));
                assignments.extend(found);
            }
            assignments.truncate(PACKAGES_MAX);
        }
        let fleet = self
            .barred
            .iter()
            .filter(|release| !host.record.lifted.contains(*release));
        let mut bars: Vec<ReleaseDigest> = fleet.chain(host.record.bars.iter()).copied().collect();
        bars.sort_unstable();
        bars.dedup();
        bars.truncate(BARS_MAX);
        Desired {
            epoch: self.epoch,
            generation: Generation::default(),
            assignments,
            bars,
            lifted: host.record.lifted.iter().copied().take(BARS_MAX).collect(),
            heartbeat: self.policy.pace.heartbeat,
            orders: self.orders.desired(host.record.id, host.record.frozen),
            stopped: self.andon,
        }
    }

    fn packages_of(&self, host: &Host) -> Vec<PackageName> {
        let mut packages: Vec<PackageName> = host
            .rollouts
            .iter()
            .filter_map(|id| self.rollouts.get(id))
            .map(|r| r.spec.package.clone())
            .collect();
        packages.sort_unstable();
        packages.dedup();
        packages
    }

    /// The rollout whose release this host should run: the newest that still has a say.
    pub(super) fn assigned(&self, host: &Host, package: &PackageName) -> Option<&Rollout> {
        let rollouts = host
            .rollouts
            .iter()
            .rev()
            .filter_map(|id| self.rollouts.get(id));
        rollouts
            .filter(|rollout| rollout.spec.package == *package)
            .find(|rollout| self.has_say(host, rollout))
    }

    fn has_say(&self, host: &Host, rollout: &Rollout) -> bool {
        let Some(member) = rollout.member(host.record.id) else {
            return false;
        };
        let release = rollout.spec.release;
        let package = host.package(&rollout.spec.package);
        let barred = self.barred.contains(&release) || host.bars(&release);
        match &member.stage {
            // What has begun goes on until a rollback takes it off.
            Stage::Exposed(_) => true,
            Stage::Waiting | Stage::Deferred(_) | Stage::Granted(_) => {
                let running = package.and_then(|p| p.running_version.as_ref());
                let newer = running.is_some_and(|running| *running > rollout.spec.version);
                let back = rollout.spec.kind == AssignmentKind::Install && newer;
                !matches!(rollout.status(), Status::Aborted(_)) && !barred && !back
            }
            Stage::AlreadyThere | Stage::Ended(Ending::Confirmed, _) => {
                !barred && package.is_some_and(|p| p.running == Some(release))
            }
            Stage::Refused(_) | Stage::Ended(..) => false,
        }
    }
}

fn assignment(rollout: &Rollout, member: &Member) -> Assignment {
    let spec = &rollout.spec;
    Assignment {
        rollout: rollout.id,
        kind: spec.kind,
        package: spec.package.clone(),
        release: spec.release,
        version: spec.version.clone(),
        soak: rollout.pace.soak,
        verify_boot: rollout.verify_boot(member.ring),
        invited: !member.grantable() || member.invite != Invite::None,
    }
}
