//! The whole server as one machine: hosts, releases, rollouts, commands.
//!
//! One task owns it and calls [`Control::handle`], [`Control::command`] and
//! [`Control::handle`]`(Event::Tick)` at [`Control::next_deadline`]. Time is the fleet clock, which
//! never runs backwards; the wall clock is told by [`Control::wall_clock`] for display, expiry and
//! maintenance windows.

mod alerts;
mod approvals;
mod background;
mod command;
mod desired;
mod grants;
mod holds;
mod host_acts;
mod host_rollback;
mod identity;
mod incident;
mod maintenance;
mod order_caps;
mod order_views;
mod orders;
mod out;
mod people;
mod publish;
mod readiness;
mod restore;
mod rollback;
mod session;
mod settle;
mod signals;
mod start;
mod views;

pub use approvals::permission_of;
pub use identity::{Incarnations, NotAdmitted};
pub use publish::Enrolment;
pub use restore::RestoreError;

use crate::event::{Effect, Event};
use crate::host::Hosts;
use crate::policy::Policy;
use crate::record::RequestRecord;
use crate::release::ReleaseRecord;
use crate::rollout::Rollout;
use out::Out;
use ringward_domain::ids::{
    ApprovalId, Epoch, Generation, ReleaseDigest, RequestId, RolloutId, Sha256,
};
use ringward_domain::{HostId, Millis, PackageName, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// How long planning waits for more events to plan for.
const PLAN_DELAY: Millis = Millis(10);
/// How often the fleet clock is written and rollouts are planned anyway (hourly caps set free).
const CLOCK_EVERY: Millis = Millis::secs(10);
/// Generations reserved with one write.
const GENERATIONS_RESERVED: u64 = 10_000;
/// Commands remembered, so that a repeated one answers what the first did.
const REQUESTS_MAX: usize = 1000;
/// Rollouts of one package kept; older ones that rest are deleted when another starts.
const ROLLOUTS_KEPT: usize = 32;

/// The server's state and decisions.
#[derive(Debug)]
pub struct Control {
    now: Timestamp,
    wall_unix_ms: u64,
    epoch: Epoch,
    generation: Generation,
    generation_reserved: Generation,
    andon: bool,
    policy: Policy,
    next_rollout: u64,
    next_request: u64,
    hosts: Hosts,
    releases: BTreeMap<ReleaseDigest, ReleaseRecord>,
    /// Releases in bad standing: what every host is told not to install.
    barred: BTreeSet<ReleaseDigest>,
    rollouts: BTreeMap<RolloutId, Rollout>,
    /// Rollouts of a package by number, oldest first.
    by_package: BTreeMap<PackageName, BTreeMap<u64, RolloutId>>,
    requests: BTreeMap<RequestId, RequestRecord>,
    requests_by_number: BTreeMap<u64, RequestId>,
    /// Newest host of each fingerprint.
    fingerprints: BTreeMap<u64, HostId>,
    /// Hosts that leave when they were silent for long enough.
    ephemeral: BTreeSet<HostId>,
    plan_at: Option<Timestamp>,
    clock_at: Timestamp,
    background: background::Background,
    incident: incident::Incident,
    /// Which maintenance windows of the policy are open, as looked at last.
    maintenance_open: Vec<bool>,
    orders: crate::orders::Orders,
    people: crate::people::People,
    approvals: BTreeMap<ApprovalId, crate::second::ApprovalRecord>,
    /// Public keys of the certificates each name came with, since the start.
    keys_seen: BTreeMap<String, BTreeSet<Sha256>>,
    /// Name of the machine this server runs on; empty where unknown.
    own_hostname: String,
    /// Hosts that were shown another audit log than before, and when they said so last.
    forks: BTreeMap<HostId, Timestamp>,
    out: Out,
}

impl Control {
    /// A new server with this policy, empty.
    #[must_use]
    pub fn new(policy: Policy, now: Timestamp) -> Self {
        Self {
            now,
            wall_unix_ms: 0,
            epoch: Epoch(1),
            generation: Generation::default(),
            generation_reserved: Generation::default(),
            andon: false,
            policy,
            next_rollout: 1,
            next_request: 1,
            hosts: Hosts::default(),
            releases: BTreeMap::new(),
            barred: BTreeSet::new(),
            rollouts: BTreeMap::new(),
            by_package: BTreeMap::new(),
            requests: BTreeMap::new(),
            requests_by_number: BTreeMap::new(),
            fingerprints: BTreeMap::new(),
            ephemeral: BTreeSet::new(),
            plan_at: None,
            clock_at: now,
            background: background::Background::new(now),
            incident: incident::Incident::new(now),
            maintenance_open: Vec::new(),
            orders: crate::orders::Orders::default(),
            people: crate::people::People::default(),
            approvals: BTreeMap::new(),
            keys_seen: BTreeMap::new(),
            own_hostname: String::new(),
            forks: BTreeMap::new(),
            out: Out::default(),
        }
    }

    /// Takes in an event; says what to do.
    ///
    /// Effects are ordered: everything written, then notices, then what is sent and closed. Nothing
    /// may be sent before all that is written is durable.
    pub fn handle(&mut self, event: Event, now: Timestamp) -> Vec<Effect> {
        self.set_now(now);
        match event {
            Event::Connected { host, hello } => self.connected(host, *hello),
            Event::Message { host, message } => self.message(host, message),
            Event::Disconnected { host } => self.disconnected(host),
            Event::Tick => self.tick(),
        }
        self.finish()
    }

    /// When the next `Event::Tick` is due, on the fleet clock.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let rollouts = self
            .rollouts
            .values()
            .filter_map(Rollout::next_deadline)
            .min();
        [
            Some(self.clock_at),
            self.plan_at,
            rollouts,
            self.background.next_deadline(),
            self.incident.next_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Tells the wall clock: it stands in reports and decides whether a manifest has expired and
    /// whether a maintenance window is open, and nothing else. Where it is wrong, hosts are exposed at
    /// other times of day; never more of them, and never with less proof.
    pub fn wall_clock(&mut self, unix_ms: u64) {
        self.wall_unix_ms = unix_ms;
    }

    /// Tells the name of the machine that the server runs on: it is protected.
    pub fn runs_on(&mut self, hostname: &str) {
        hostname.clone_into(&mut self.own_hostname);
    }

    /// Tells how long it took from the event that decided a halt until it was durable and sent.
    pub fn halt_durable(&mut self, rollout: RolloutId, ms: u64) -> Vec<Effect> {
        if let Some(rollout) = self.rollouts.get_mut(&rollout) {
            rollout.halted_after(ms);
        }
        self.touch(rollout);
        self.finish()
    }

    /// Raises the epoch after a restore from a backup, by a person's act: orders given before it
    /// are older than any given from now on.
    pub fn raise_epoch(&mut self, now: Timestamp) -> Vec<Effect> {
        self.set_now(now);
        self.epoch = self.epoch.next();
        self.out.audit(
            "ringward",
            "server restore",
            "epoch",
            &format!("epoch {}", self.epoch),
        );
        self.out.control = true;
        self.refresh_all();
        self.finish()
    }

    fn set_now(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
    }

    /// A rollout changed: it is drained when the effects are made up, and planned soon.
    fn touch(&mut self, rollout: RolloutId) {
        self.out.rollouts.insert(rollout);
        self.want_plan();
    }

    fn want_plan(&mut self) {
        self.plan_at.get_or_insert(self.now + PLAN_DELAY);
    }
}
