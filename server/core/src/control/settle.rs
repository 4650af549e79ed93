//! After every event: changes of rollouts are written, told and followed up.

use super::{CLOCK_EVERY, Control};
use crate::event::{Effect, Notice};
use crate::record::Record;
use crate::rollout::member::{Ending, Stage};
use crate::rollout::{Changes, News};
use ringward_domain::ids::RolloutId;
use ringward_domain::report::Standing;
use ringward_domain::{AssignmentKind, HostId};

/// Rounds of readiness and changes that follow from each other; each host changes state at most
/// once or twice, so this is never reached.
const ROUNDS_MAX: usize = 16;

impl Control {
    /// Lets every deadline take effect and plans.
    pub(super) fn tick(&mut self) {
        let now = self.now;
        let due: Vec<RolloutId> = self
            .rollouts
            .values()
            .filter(|r| r.next_deadline().is_some_and(|at| at <= now))
            .map(|r| r.id)
            .collect();
        for id in due {
            self.with(id, |rollout, now| rollout.tick(now));
        }
        self.background_tick();
        self.incident_tick();
        let clock = self.clock_at <= now;
        if clock {
            self.clock_at = now + CLOCK_EVERY;
            self.out.control = true;
            self.expire_ephemeral();
            self.look_at_maintenance();
            self.write_background();
        }
        if clock {
            self.orders_tick();
            self.approvals_tick();
        }
        if clock || self.plan_at.is_some_and(|at| at <= now) {
            self.plan();
        }
    }

    /// Plans every rollout; twice in a row changes nothing.
    fn plan(&mut self) {
        self.plan_at = None;
        let wall_s = self.wall_unix_ms / 1000;
        let now = self.now;
        for (id, rollout) in &mut self.rollouts {
            rollout.set_expired(rollout.spec.expires_unix_s.is_some_and(|at| wall_s >= at));
            rollout.plan(now);
            if rollout.changed() {
                self.out.rollouts.insert(*id);
            }
        }
    }

    /// Makes up the effects of what happened.
    pub(super) fn finish(&mut self) -> Vec<Effect> {
        for _ in 0..ROUNDS_MAX {
            let rollouts = std::mem::take(&mut self.out.rollouts);
            for id in &rollouts {
                if let Some(changes) = self
                    .rollouts
                    .get_mut(id)
                    .map(crate::rollout::Rollout::drain)
                {
                    self.follow(*id, changes);
                }
            }
            for id in std::mem::take(&mut self.out.readiness) {
                self.refresh_readiness(id);
            }
            if self.out.rollouts.is_empty() && self.out.readiness.is_empty() {
                break;
            }
        }
        self.put_orders();
        if std::mem::take(&mut self.out.all_desired) {
            let all: Vec<HostId> = self.hosts.keys().copied().collect();
            for id in all {
                self.out.desired.entry(id).or_insert(false);
            }
        }
        for (id, force) in std::mem::take(&mut self.out.desired) {
            self.refresh_desired(id, force);
        }
        for id in std::mem::take(&mut self.out.hosts) {
            if let Some(host) = self.hosts.get(&id) {
                self.out.put(Record::Host(Box::new(host.record.clone())));
            }
        }
        if std::mem::take(&mut self.out.control) {
            let record = self.control_record();
            self.out.put(Record::Control(Box::new(record)));
        }
        std::mem::take(&mut self.out).into_effects()
    }

    fn follow(&mut self, id: RolloutId, changes: Changes) {
        let Some(rollout) = self.rollouts.get(&id) else {
            return;
        };
        if changes.rollout {
            self.out.put(Record::Rollout(Box::new(rollout.record())));
        }
        for member in changes
            .members
            .iter()
            .filter_map(|host| rollout.member_record(*host))
        {
            self.out.put(Record::Member(Box::new(member)));
        }
        self.note_trials(id, &changes.touched);
        for host in changes.touched {
            self.out.desired.entry(host).or_insert(false);
        }
        for host in changes.invites {
            self.out.desired.insert(host, true);
        }
        for news in changes.news {
            self.tell(id, news);
        }
    }

    fn note_trials(&mut self, id: RolloutId, touched: &[HostId]) {
        let Some(rollout) = self.rollouts.get(&id) else {
            return;
        };
        for host_id in touched {
            let on_trial = rollout
                .member(*host_id)
                .is_some_and(|m| matches!(m.stage, Stage::Granted(_) | Stage::Exposed(_)));
            let Some(host) = self.hosts.get_mut(host_id) else {
                continue;
            };
            let changed = if on_trial {
                host.trials.insert(id)
            } else {
                host.trials.remove(&id)
            };
            if changed && host.rollouts.len() > 1 {
                self.out.readiness.insert(*host_id);
            }
        }
    }

    fn tell(&mut self, id: RolloutId, news: News) {
        let Some(rollout) = self.rollouts.get(&id) else {
            return;
        };
        let (spec, object) = (&rollout.spec, id.to_string());
        let title = format!("{} {}", spec.package, spec.version);
        let release = spec.release;
        let install = spec.kind == AssignmentKind::Install;
        match news {
            News::Ended(_, Ending::Confirmed) => {}
            News::Ended(host, ending) => self.tell_failure(host, &object, &title, release, ending),
            News::Halted(_, reason) => {
                self.incident_of_halt(id, &reason);
                self.out.audit("ringward", "rollout halt", &object, &reason);
                let rollout = id;
                self.out.notice(Notice::Halted {
                    rollout,
                    release,
                    reason,
                });
            }
            News::Held(_) => {
                let sentence = rollout.verdict(self.now).sentence;
                self.out
                    .audit("ringward", "rollout hold", &object, &sentence);
                self.out
                    .notice(Notice::Line(format!("{title}: {sentence}")));
            }
            News::Lifted => self.out.notice(Notice::Line(format!("{title}: goes on"))),
            News::RingComplete(ring) => {
                let name = rollout
                    .rings()
                    .get(ring)
                    .map_or(String::new(), |ring| ring.record.name.to_string());
                self.out.audit("ringward", "ring complete", &object, &name);
                self.out
                    .notice(Notice::Line(format!("{title}: ring {name} is complete")));
            }
            News::Completed(_) => {
                self.out.audit("ringward", "rollout complete", &object, "");
                self.out
                    .notice(Notice::Line(format!("{title}: every ring is complete")));
                if install {
                    self.prove(release);
                }
            }
        }
    }

    fn tell_failure(
        &mut self,
        host: HostId,
        object: &str,
        title: &str,
        release: ringward_domain::ReleaseDigest,
        ending: Ending,
    ) {
        let what = match ending {
            Ending::Silent => "went silent",
            Ending::Reverted(_) => "went back by itself",
            Ending::RolledBack => "was taken off it by a rollback",
            Ending::Failed(_) | Ending::Confirmed => "failed",
        };
        if !matches!(ending, Ending::RolledBack | Ending::Confirmed) {
            self.suspects_failed(host);
        }
        let line = format!("{host} {what} on {title}");
        self.out
            .audit(&format!("host {host}"), "exposure ended", object, &line);
        self.out.notice(Notice::Line(line));
        if let (Ending::Reverted(_), Some(known)) = (ending, self.hosts.get_mut(&host))
            && !known.record.lifted.contains(&release)
            && known.record.bars.insert(release)
        {
            self.out.hosts.insert(host);
        }
    }

    /// A release that went through every ring is in good standing.
    fn prove(&mut self, release: ringward_domain::ReleaseDigest) {
        if let Some(record) = self
            .releases
            .get_mut(&release)
            .filter(|r| r.standing == Standing::Unproven)
        {
            record.standing = Standing::Good;
            let record = record.clone();
            self.out.put(Record::Release(Box::new(record)));
        }
    }
}
