//! Going on from what was written down.

use super::Control;
use crate::host::{Host, HostRecord};
use crate::planted::{Bug, planted};
use crate::policy::{Policy, PolicyError};
use crate::record::{ControlRecord, Record};
use crate::rollout::Rollout;
use crate::rollout::member::Member;
use crate::rollout::record::{CohortRecord, RolloutRecord};
use ringward_domain::host::HostState;
use ringward_domain::ids::RolloutId;
use ringward_domain::report::Standing;
use ringward_domain::{HostId, Timestamp};
use std::collections::BTreeMap;

/// Why the server cannot go on from its records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The policy in force cannot be read by this version.
    #[error(
        "reading the ring policy in force from the store: run the version of the server that wrote it"
    )]
    Policy(#[from] PolicyError),
}

#[derive(Default)]
struct Parts {
    rollout: Option<RolloutRecord>,
    cohorts: Vec<CohortRecord>,
    members: Vec<Member>,
}

impl Control {
    /// What the fleet clock must resume from at least.
    #[must_use]
    pub fn clock<'a>(records: impl IntoIterator<Item = &'a Record>) -> Timestamp {
        let times = records.into_iter().map(|record| match record {
            Record::Control(control) => control.clock,
            Record::Host(host) => host.enrolled_at,
            Record::Rollout(rollout) => rollout.started_at,
            Record::Member(member) => member.member.since,
            Record::Incident(incident) => incident.last_failure,
            Record::Order(order) => order.issued_at,
            Record::Approval(approval) => approval.asked_at,
            Record::Release(_)
            | Record::Cohort(_)
            | Record::Request(_)
            | Record::Background(_)
            | Record::Person(_)
            | Record::OrderHost(_) => Timestamp::default(),
        });
        times.max().unwrap_or_default()
    }

    /// Goes on from the records of an earlier run, at a fleet clock of at least
    /// [`Control::clock`]. `policy` counts where none was in force yet.
    ///
    /// # Errors
    /// The policy in force cannot be read by this version.
    pub fn restore(
        policy: Policy,
        records: Vec<Record>,
        now: Timestamp,
    ) -> Result<Self, RestoreError> {
        let mut control = Self::new(policy, now.max(Self::clock(&records)));
        let mut parts: BTreeMap<RolloutId, Parts> = BTreeMap::new();
        let mut order_parts = Vec::new();
        for record in records {
            match record {
                Record::Control(record) => control.restore_control(&record)?,
                Record::Host(record) => {
                    let fork = record.fork_seen.map(|at| (record.id, at));
                    control.forks.extend(fork);
                    control.take_in_host(*record);
                }
                Record::Release(record) => {
                    control.releases.insert(record.release, *record);
                }
                Record::Rollout(record) => {
                    let id = record.id;
                    parts.entry(id).or_default().rollout = Some(*record);
                }
                Record::Cohort(record) => {
                    let id = record.rollout;
                    parts.entry(id).or_default().cohorts.push(*record);
                }
                Record::Member(record) => {
                    let id = record.rollout;
                    parts.entry(id).or_default().members.push(record.member);
                }
                Record::Incident(record) => control.incident.restore(*record),
                Record::Background(record) => {
                    let now = control.now;
                    control.background.restore(*record, now);
                }
                Record::Request(record) => {
                    control
                        .requests_by_number
                        .insert(record.number, record.request);
                    control.requests.insert(record.request, *record);
                }
                Record::Person(record) => control.people.restore(*record),
                Record::Order(record) => control.orders.restore(*record),
                Record::OrderHost(record) => order_parts.push(*record),
                Record::Approval(record) => {
                    control.approvals.insert(record.id, *record);
                }
            }
        }
        for part in order_parts {
            control.orders.restore_part(part);
        }
        for host in control.orders.hosts() {
            control.orders.unheard(host);
        }
        if planted(Bug::BarForgottenAfterRestart) {
            control.forget_bars();
        }
        control.barred = control
            .releases
            .values()
            .filter(|r| r.barred())
            .map(|r| r.release)
            .collect();
        let mut whole: Vec<(RolloutRecord, Parts)> = parts
            .into_values()
            .filter_map(|mut part| part.rollout.take().map(|r| (r, part)))
            .collect();
        // A host's rollouts stand in the order of their start.
        whole.sort_by_key(|(record, _)| record.spec.number);
        for (record, part) in whole {
            let rollout = Rollout::restore(record, part.cohorts, part.members, control.now);
            control.take_in(rollout);
        }
        let known: Vec<HostId> = control.hosts.keys().copied().collect();
        for id in known {
            control.watch_age(id);
            control.suspects_watch(id);
        }
        // Hosts that said they would be away are not gone without a word.
        let away = control.hosts.values().filter(|h| h.record.absent.is_some());
        for id in away.map(|host| host.record.id).collect::<Vec<_>>() {
            control.refresh_readiness(id);
        }
        control.want_plan();
        control.plan_when_agents_had_time();
        Ok(control)
    }

    fn take_in_host(&mut self, record: HostRecord) {
        if record.state != HostState::Retired {
            self.note_fingerprint(record.id, &record.facts.fingerprint);
            if record.ephemeral.is_some() {
                self.ephemeral.insert(record.id);
            }
        }
        let mut host = Host::new(record);
        host.heard_before = self.now;
        self.hosts.insert(host);
    }

    fn restore_control(&mut self, record: &ControlRecord) -> Result<(), RestoreError> {
        self.policy = Policy::parse(&record.policy)?;
        self.epoch = record.epoch;
        self.generation = record.generation_reserved;
        self.generation_reserved = record.generation_reserved;
        self.andon = record.andon;
        self.next_rollout = record.next_rollout;
        self.next_request = record.next_request;
        Ok(())
    }

    /// Adds a rollout, new or restored, and tells its members' hosts of it.
    pub(super) fn take_in(&mut self, mut rollout: Rollout) {
        let (id, number) = (rollout.id, rollout.spec.number);
        rollout.set_andon(self.andon);
        rollout.classify(|host| {
            self.hosts
                .get(&host)
                .map(crate::host::Host::words)
                .unwrap_or_default()
        });
        for member in rollout.members() {
            if let Some(host) = self.hosts.get_mut(&member.host) {
                host.rollouts.push(id);
                if let Some(exposure) = member.exposure() {
                    let until = exposure.begun_at + rollout.pace.attribution;
                    host.exposed_until = host.exposed_until.max(until);
                }
                if member.lane().is_some()
                    || matches!(member.stage, crate::rollout::member::Stage::Exposed(_))
                {
                    host.trials.insert(id);
                }
            }
        }
        self.by_package
            .entry(rollout.spec.package.clone())
            .or_default()
            .insert(number, id);
        self.next_rollout = self.next_rollout.max(number + 1);
        self.incident.recall(&rollout, self.now);
        self.rollouts.insert(id, rollout);
    }

    fn forget_bars(&mut self) {
        for release in self.releases.values_mut().filter(|r| r.barred()) {
            release.standing = Standing::Unproven;
        }
        for host in self.hosts.values_mut() {
            host.record.bars.clear();
        }
    }

    /// What is written down of the server itself.
    pub(super) fn control_record(&self) -> ControlRecord {
        ControlRecord {
            epoch: self.epoch,
            generation_reserved: self.generation_reserved,
            andon: self.andon,
            policy: self.policy.text.clone(),
            clock: self.now,
            next_rollout: self.next_rollout,
            next_request: self.next_request,
        }
    }
}
