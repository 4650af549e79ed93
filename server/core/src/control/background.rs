//! The control group: what happens to hosts that nothing is rolled out to, at the same time
//! (DESIGN §4). Reboots and host-days are its units; failure signals and hosts that do not return
//! are its failures.

use super::Control;
use crate::baseline::{Counts, History};
use crate::host::Host;
use crate::record::{BackgroundRecord, Record};
use crate::returns::Returns;
use crate::rollout::Status;
use ringward_domain::host::HostState;
use ringward_domain::ids::RolloutId;
use ringward_domain::signal::Signal;
use ringward_domain::{AssignmentKind, HostId, Millis, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Age at which a host is compared with and believed alone.
const DAY: Millis = Millis::hours(24);
/// Hosts of that age from which on newer ones are told apart; a young fleet has no others.
const MATURE_MIN: u64 = 20;
/// Sessions that end within this time end together.
const TOGETHER: Millis = Millis::mins(2);
/// How often it is written down: a crash forgets so much of 72 h at most.
const WRITE_EVERY: Millis = Millis::mins(10);
/// Sites remembered as silent or not.
const SITES_MAX: usize = 10_000;
const REBOOT: Counts = Counts {
    reboots: 1.0,
    reboot_failures: 0,
    days: 0.0,
    time_failures: 0,
};
const NO_SHOW: Counts = Counts {
    reboot_failures: 1,
    ..REBOOT
};
const WHILE_RUNNING: Counts = Counts {
    reboots: 0.0,
    reboot_failures: 0,
    days: 0.0,
    time_failures: 1,
};

/// Clocks and counts of the control group.
#[derive(Debug)]
pub(super) struct Background {
    /// Host-time is counted up to here.
    counted_to: Timestamp,
    /// Control hosts with a session now.
    present: u64,
    /// When hosts become controls again.
    exposed: BTreeSet<(Timestamp, HostId)>,
    /// Control hosts gone without a word, and when that counts as a failure to return.
    gone: BTreeSet<(Timestamp, HostId)>,
    /// Planning wanted at that time.
    plan_at: Option<Timestamp>,
    /// The last 72 h.
    history: History,
    /// How long hosts of a kind take to come back.
    returns: Returns,
    /// Hosts that are too new, and when they no longer are.
    maturing: BTreeSet<(Timestamp, HostId)>,
    /// Hosts old enough.
    mature: u64,
    /// Whether a site went silent as a whole, known until then.
    sites: BTreeMap<String, (Timestamp, bool)>,
    /// When it is written down next.
    write_at: Timestamp,
}

impl Background {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            counted_to: now,
            present: 0,
            exposed: BTreeSet::new(),
            gone: BTreeSet::new(),
            plan_at: None,
            history: History::default(),
            returns: Returns::default(),
            maturing: BTreeSet::new(),
            mature: 0,
            sites: BTreeMap::new(),
            write_at: now + WRITE_EVERY,
        }
    }

    /// Goes on from what was written down.
    pub(super) fn restore(&mut self, record: BackgroundRecord, now: Timestamp) {
        self.returns = Returns::from_newest(&record.returns);
        self.history = History::from_hours(record.hours, now);
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        let first = |set: &BTreeSet<(Timestamp, HostId)>| set.first().map(|(at, _)| *at);
        [
            first(&self.exposed),
            first(&self.gone),
            first(&self.maturing),
            self.plan_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

impl Control {
    /// After a restart: plan again once the agents had time to come back.
    pub(super) fn plan_when_agents_had_time(&mut self) {
        let longest = self.rollouts.values().map(|r| r.pace.restart_grace).max();
        self.background.plan_at = longest.map(|grace| self.now + grace);
        let exposed = self
            .hosts
            .values()
            .filter(|h| h.exposed_until > self.now)
            .map(|h| (h.exposed_until, h.record.id));
        self.background.exposed = exposed.collect();
    }

    /// Control time is counted before anything of this moment changes it.
    pub(super) fn background_tick(&mut self) {
        self.count_time();
        let now = self.now;
        if self.background.plan_at.is_some_and(|at| at <= now) {
            self.background.plan_at = None;
            self.want_plan();
        }
        self.mature();
        while let Some((_, id)) = self
            .background
            .exposed
            .first()
            .copied()
            .filter(|(at, _)| *at <= now)
        {
            self.background.exposed.pop_first();
            self.recount(id);
        }
        while let Some((_, id)) = self
            .background
            .gone
            .first()
            .copied()
            .filter(|(at, _)| *at <= now)
        {
            self.background.gone.pop_first();
            if let Some(host) = self.hosts.get_mut(&id) {
                host.gone_at = None;
            }
            if !self.whole_site_gone(id) {
                self.control_failed(id, &NO_SHOW, None);
                self.suspects_failed(id);
            }
        }
    }

    /// Writes the control down where it is time to.
    pub(super) fn write_background(&mut self) {
        if self.background.write_at > self.now {
            return;
        }
        self.background.write_at = self.now + WRITE_EVERY;
        let record = BackgroundRecord {
            hours: self.background.history.hours(),
            returns: self.background.returns.newest(),
        };
        self.out.put(Record::Background(Box::new(record)));
    }

    /// A host was enrolled: whoever can enrol hosts could otherwise make a control of his own, or halt
    /// what he likes.
    pub(super) fn watch_age(&mut self, id: HostId) {
        if let Some(host) = self.hosts.get(&id) {
            let until = host.record.enrolled_at + DAY;
            self.background.maturing.insert((until, id));
        }
    }

    fn mature(&mut self) {
        let before = self.background.mature;
        while let Some((at, id)) = self.background.maturing.first().copied()
            && at <= self.now
        {
            self.background.maturing.pop_first();
            self.background.mature += 1;
            self.recount(id);
        }
        if before < MATURE_MIN && self.background.mature >= MATURE_MIN {
            // From now on age counts: the new ones leave the control.
            let new: Vec<HostId> = self.background.maturing.iter().map(|(_, id)| *id).collect();
            for id in new {
                self.recount(id);
            }
        }
    }

    /// Whether a host is too new to be compared with, or to be believed alone.
    pub(super) fn is_newcomer(&self, host: &Host) -> bool {
        self.background.mature >= MATURE_MIN && host.record.enrolled_at + DAY > self.now
    }

    /// Whether most control hosts of a host's site are gone with it: that is the site's network, and
    /// counting it would blind the verdict to real failures for days.
    fn whole_site_gone(&mut self, id: HostId) -> bool {
        let site_of = |host: &Host| host.record.labels.get("site").cloned();
        let Some(site) = self.hosts.get(&id).and_then(site_of) else {
            return false;
        };
        if let Some((until, gone)) = self.background.sites.get(&site)
            && self.now < *until
        {
            return *gone;
        }
        let same = |id: &HostId| self.hosts.get(id).and_then(site_of).as_ref() == Some(&site);
        let soon = (self.now + TOGETHER, HostId(u64::MAX));
        let gone = 1 + self
            .background
            .gone
            .range(..=soon)
            .filter(|(_, id)| same(id))
            .count();
        let together = gone >= 3 && {
            let here = self.hosts.values().filter(|host| host.in_control);
            gone > here
                .filter(|host| host.record.labels.get("site") == Some(&site))
                .count()
        };
        if self.background.sites.len() >= SITES_MAX {
            self.background.sites.clear();
        }
        self.background
            .sites
            .insert(site, (self.now + Millis::mins(1), together));
        together
    }

    fn control_failed(&mut self, id: HostId, counts: &Counts, signature: Option<&str>) {
        self.count_control(counts);
        for rollout in self.compared() {
            if let Some(rollout) = self.rollouts.get_mut(&rollout) {
                rollout.control_failure_of(id, signature);
            }
        }
    }

    fn count_time(&mut self) {
        let passed = self.now.since(self.background.counted_to);
        self.background.counted_to = self.now;
        let days = passed.0 as f64 / DAY.0 as f64 * self.background.present as f64;
        if days > 0.0 {
            self.count_control(&Counts {
                days,
                ..Counts::default()
            });
        }
    }

    /// Rollouts that the control is compared with.
    fn compared(&self) -> Vec<RolloutId> {
        let runs = |status: &Status| {
            matches!(
                status,
                Status::Running | Status::Held(_) | Status::Paused(_) | Status::Completed
            )
        };
        self.rollouts
            .values()
            .filter(|r| r.spec.kind == AssignmentKind::Install && runs(r.status()))
            .map(|r| r.id)
            .collect()
    }

    fn count_control(&mut self, counts: &Counts) {
        self.background.history.add(self.now, counts);
        for id in self.compared() {
            if let Some(rollout) = self.rollouts.get_mut(&id) {
                rollout.control_counted(counts);
                if rollout.changed() {
                    self.out.rollouts.insert(id);
                }
            }
        }
    }

    /// What happened to the control in the 72 h until now.
    pub(super) fn control_history(&self) -> Counts {
        self.background.history.sum(self.now)
    }

    /// A host has a session again; after a reboot with its last word before.
    pub(super) fn control_returned(
        &mut self,
        id: HostId,
        silent_since: Option<Timestamp>,
        rebooted: bool,
    ) {
        let gone = self.hosts.get_mut(&id).and_then(|host| host.gone_at.take());
        if let Some(at) = gone {
            self.background.gone.remove(&(at, id));
        }
        let unexposed = self
            .hosts
            .get(&id)
            .is_some_and(|host| host.exposed_until <= self.now);
        let newcomer = self
            .hosts
            .get(&id)
            .is_some_and(|host| self.is_newcomer(host));
        if rebooted && unexposed && newcomer {
            // Neither control nor exposed.
        } else if rebooted && unexposed {
            if let (Some(since), Some(host)) = (silent_since, self.hosts.get(&id)) {
                let time = self.now.since(since);
                self.background.returns.took(&host.record.facts.model, time);
            }
            self.count_control(&REBOOT);
        } else if rebooted {
            for rollout in self.rollouts_of(id) {
                self.quietly(rollout, |rollout, now| rollout.rebooted(id, now));
            }
        }
        self.recount(id);
    }

    /// A session ended; without announcement the host has to come back in time.
    pub(super) fn control_gone(&mut self, id: HostId) {
        let at = self.now + self.policy.pace.silence_reboot.max(self.patience_with(id));
        if let Some(host) = self.hosts.get_mut(&id)
            && host.in_control
            && host.record.absent.is_none()
        {
            host.gone_at = Some(at);
            self.background.gone.insert((at, id));
        }
        self.recount(id);
    }

    /// Silence allowed to a host of this kind while it reboots.
    pub(super) fn patience_with(&self, id: HostId) -> Millis {
        self.hosts.get(&id).map_or(Millis::ZERO, |host| {
            self.background.returns.patience(&host.record.facts.model)
        })
    }

    /// A host began a release: it is no control until then.
    pub(super) fn control_exposed(&mut self, id: HostId, until: Timestamp) {
        if let Some(host) = self.hosts.get_mut(&id) {
            self.background.exposed.remove(&(host.exposed_until, id));
            host.exposed_until = host.exposed_until.max(until);
            self.background.exposed.insert((host.exposed_until, id));
        }
        self.recount(id);
    }

    /// A control host said something of itself.
    pub(super) fn control_heard(&mut self, id: HostId, signal: &Signal) {
        if signal.kind.is_failure() && self.hosts.get(&id).is_some_and(|host| host.in_control) {
            self.control_failed(id, &WHILE_RUNNING, Some(&signal.signature));
        }
    }

    /// Whether a host counts as control is decided anew.
    pub(super) fn recount(&mut self, id: HostId) {
        self.count_time();
        let now = self.now;
        let newcomer = self
            .hosts
            .get(&id)
            .is_some_and(|host| self.is_newcomer(host));
        let Some(host) = self.hosts.get_mut(&id) else {
            return;
        };
        let is = host.session.is_some()
            && !newcomer
            && host.record.state == HostState::Active
            && host.exposed_until <= now;
        match (host.in_control, is) {
            (false, true) => self.background.present += 1,
            (true, false) => self.background.present = self.background.present.saturating_sub(1),
            _ => {}
        }
        host.in_control = is;
    }
}
