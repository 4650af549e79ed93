//! Rollback of named hosts: an order carried out by a rollout of exactly these hosts.

use super::Control;
use crate::rollout::member::{Ending, Stage};
use crate::rollout::{PlannedRing, Rollout};
use crate::salt::{Salt, derived_id};
use ringward_domain::command::{Action, Command};
use ringward_domain::ids::{ReleaseDigest, RequestId, RolloutId};
use ringward_domain::order::OrderFailure;
use ringward_domain::order_spec::{NotDone, OrderKind, Progress};
use ringward_domain::{AssignmentKind, HostId, OrderId, PackageName, Version};
use std::collections::BTreeMap;

impl Control {
    /// Hosts let in by a rollback order go back at once, each from what it runs: the caps let them
    /// in, so the window does not hold them again. What they leave is not barred on the fleet.
    pub(super) fn roll_back_hosts(
        &mut self,
        id: OrderId,
        package: &PackageName,
        to: Option<&Version>,
        hosts: &[HostId],
    ) {
        let mut by_release: BTreeMap<ReleaseDigest, Vec<HostId>> = BTreeMap::new();
        for host in hosts {
            let runs = self
                .hosts
                .get(host)
                .and_then(|h| h.package(package)?.running);
            match runs {
                Some(release) => by_release.entry(release).or_default().push(*host),
                None => self.rollback_failed(id, *host),
            }
        }
        for (leave, hosts) in by_release {
            let target = self
                .releases
                .get(&leave)
                .and_then(|left| self.target(left, to).ok());
            let Some(target) = target.cloned() else {
                for host in hosts {
                    self.rollback_failed(id, host);
                }
                continue;
            };
            let rollout = self.hosts_rollout(id, &target, &hosts);
            let rollout_id = rollout.id;
            let order = self.orders.order(id);
            let (actor, reason) = order.map_or_else(Default::default, |order| {
                (order.author.clone(), order.reason.clone())
            });
            let command = Command {
                request: RequestId([0; 16]),
                actor,
                reason,
                dry_run: false,
                action: Action::StopAll,
            };
            self.start(rollout, &command);
            for host in hosts {
                self.orders
                    .change(id, host, |part| part.rollout = Some(rollout_id));
            }
        }
    }

    fn hosts_rollout(
        &self,
        id: OrderId,
        target: &crate::release::ReleaseRecord,
        hosts: &[HostId],
    ) -> Rollout {
        let order = self.orders.order(id);
        let (actor, reason) = order.map_or_else(Default::default, |order| {
            (order.author.clone(), order.reason.clone())
        });
        let first = hosts.first().map_or(0, |host| host.0);
        let seed = [id.0, first, self.next_rollout]
            .map(u64::to_be_bytes)
            .concat();
        let rings = [PlannedRing {
            name: super::rollback::rollback_ring(),
            hosts: hosts
                .iter()
                .map(|host| (*host, self.hosts.get(host).map_or(0, |h| h.group())))
                .collect(),
        }];
        let command = Command {
            request: RequestId([0; 16]),
            actor,
            reason,
            dry_run: false,
            action: Action::StopAll,
        };
        let spec = self.spec(target, AssignmentKind::Rollback, &command);
        let mut rollout = Rollout::new(
            RolloutId(derived_id("ringward host rollback v1\n", &seed)),
            spec,
            self.policy.pace,
            Salt::new(&target.release, &self.policy.digest()),
            &rings,
            self.now,
        );
        for host in hosts {
            rollout.failed_before(*host, self.now);
        }
        rollout
    }

    fn rollback_failed(&mut self, id: OrderId, host: HostId) {
        self.orders.change(id, host, |part| {
            part.progress = Progress::Failed(NotDone::Failed(OrderFailure::System));
        });
    }

    /// Takes in how the rollouts of a host's rollback orders stand.
    pub(super) fn rollbacks_heard(&mut self, host: HostId) {
        for id in self.orders.of_host(host) {
            let is_rollback = self
                .orders
                .order(id)
                .is_some_and(|order| matches!(order.spec.kind, OrderKind::Rollback { .. }));
            let rollout = self.orders.part(id, host).and_then(|part| part.rollout);
            let Some(rollout) = rollout.filter(|_| is_rollback) else {
                continue;
            };
            let stage = self
                .rollouts
                .get(&rollout)
                .and_then(|rollout| rollout.member(host))
                .map(|member| member.stage.clone());
            let progress = match stage {
                Some(Stage::AlreadyThere | Stage::Ended(Ending::Confirmed, _)) => Progress::Done,
                Some(Stage::Ended(..)) | None => {
                    Progress::Failed(NotDone::Failed(OrderFailure::System))
                }
                Some(Stage::Refused(_)) => Progress::Failed(NotDone::Refused(
                    ringward_domain::order::OrderRefusal::LocalPolicy,
                )),
                Some(Stage::Exposed(_)) => Progress::Delivered,
                Some(Stage::Waiting | Stage::Granted(_) | Stage::Deferred(_)) => continue,
            };
            self.orders.change(id, host, |part| {
                if !part.progress.is_over() {
                    part.progress = progress;
                }
            });
        }
    }
}
