//! What a question to the actor sees, in the words of the reports.

use super::notes::Notes;
use super::series::Series;
use super::touched::{Change, Touched};
use ringward_domain::host::HostState;
use ringward_domain::manifest::Envelope;
use ringward_domain::report::{HostView, MemberState, MemberView, ReleaseView, RolloutView};
use ringward_domain::{AssignmentKind, HostId, ReleaseDigest, RingName, RolloutId, Timestamp};
use ringward_server_core::control::Control;
use ringward_server_core::host::Host;
use ringward_server_core::people::Scope;
use ringward_server_core::policy::RingPolicy;
use ringward_server_core::rollout::Rollout;
use ringward_server_core::rollout::order::{Candidate, plan_rings};
use ringward_server_core::salt::Salt;
use ringward_wire::host::HostFilter;
use ringward_wire::pb;
use ringward_wire::policy::{PolicyView, RingSummary};
use ringward_wire::watch::Andon;
use std::cell::RefCell;

/// Rollouts looked through for the ring of a host: the newest usually has it.
const RING_ROLLOUTS: usize = 8;

/// The decisions at one moment.
pub struct Seen<'a> {
    /// The decisions.
    pub control: &'a Control,
    /// The fleet clock.
    pub now: Timestamp,
    /// What people were told of.
    pub notes: &'a Notes,
    /// What happened over time.
    pub series: &'a Series,
    /// Hosts that look different since somebody asked.
    pub(super) touched: &'a RefCell<Touched>,
    /// Sessions open.
    pub sessions: usize,
}

impl Seen<'_> {
    /// Whether a host with a valid certificate is still part of the fleet.
    pub fn admits(&self, host: HostId) -> bool {
        self.control.admits(host)
    }

    /// A page of the hosts in `scope` that `wanted` picks, retired ones too, by id after `after`;
    /// with how many it picks in all, and how many there are in that scope.
    pub fn hosts(
        &self,
        scope: &(Scope, Scope),
        wanted: &HostFilter,
        after: Option<HostId>,
        limit: usize,
    ) -> (Vec<HostView>, u64, u64) {
        let picks = |host: &Host| {
            let record = &host.record;
            let attention = || self.control.requires_attention(host);
            let labels = &record.labels;
            wanted.matches(record.id, record.state, &record.facts, labels, attention)
        };
        let seen = |host: &Host| scope.0.covers_both(&scope.1, &host.record.labels);
        self.control.host_page(&seen, &picks, after, limit)
    }

    /// What looks different since this was asked last.
    pub fn take_touched(&self) -> Change {
        let newest = self.control.rollouts().last().map(|(id, _)| *id);
        self.touched.borrow_mut().take(newest)
    }

    /// The rings that hosts are in now.
    pub fn rings(&self) -> Rings<'_> {
        let newest = self.control.rollouts().into_iter().rev();
        let newest = newest
            .take(RING_ROLLOUTS)
            .filter_map(|(id, _)| self.control.rollout(id));
        Rings(
            newest
                .filter(|rollout| rollout.spec.kind == AssignmentKind::Install)
                .collect(),
        )
    }

    /// One host.
    pub fn host(&self, host: HostId) -> Option<HostView> {
        self.control.host_view(host)
    }

    /// Every rollout, newest first.
    pub fn rollouts(&self) -> Vec<RolloutView> {
        let newest_first = self.control.rollouts().into_iter().rev();
        newest_first
            .filter_map(|(id, _)| self.control.rollout_view(id))
            .collect()
    }

    /// One rollout.
    pub fn rollout(&self, id: RolloutId) -> Option<RolloutView> {
        self.control.rollout_view(id)
    }

    /// A page of a rollout's members by host id: of one ring (`None`: of all), of the
    /// states `wanted` picks, after `after`. One more than `limit` says that there is a next page.
    pub fn members(
        &self,
        id: RolloutId,
        ring: Option<&RingName>,
        wanted: &dyn Fn(&MemberState) -> bool,
        after: Option<HostId>,
        limit: usize,
    ) -> Option<Vec<MemberView>> {
        let rollout = self.control.rollout(id)?;
        let named: Vec<bool> = rollout
            .rings()
            .iter()
            .map(|r| ring.is_none_or(|ring| r.record.name == *ring))
            .collect();
        let mut members: Vec<_> = rollout
            .members()
            .iter()
            .filter(|member| {
                named.get(member.ring).copied().unwrap_or(false)
                    && after.is_none_or(|after| member.host > after)
                    && wanted(&rollout.state_of(member, self.now))
            })
            .collect();
        members.sort_unstable_by_key(|member| member.host);
        let hostname = |host| {
            let view = self.control.host_view(host);
            view.map_or_else(String::new, |view| view.facts.hostname)
        };
        let page = members.into_iter().take(limit.saturating_add(1));
        Some(
            page.map(|member| rollout.member_view(member, &hostname, self.now))
                .collect(),
        )
    }

    /// Every release, newest first.
    pub fn releases(&self) -> Vec<ReleaseView> {
        self.control.releases()
    }

    /// One release.
    pub fn release(&self, release: ReleaseDigest) -> Option<ReleaseView> {
        let mut views = self.control.releases().into_iter();
        views.find(|view| view.release == release)
    }

    /// What was signed of a release.
    pub fn envelope(&self, release: ReleaseDigest) -> Option<Envelope> {
        self.control.release(release).map(|r| r.envelope.clone())
    }

    /// The andon, while it is pulled.
    pub fn andon(&self) -> Option<Andon> {
        self.control.andon().then(|| Andon {
            actor: self.notes.andon.actor.clone(),
            reason: self.notes.andon.reason.clone(),
            since_unix_ms: self.notes.andon.at_unix_ms,
        })
    }

    /// The policy in force, with the hosts that each ring would take now.
    pub fn policy(&self) -> PolicyView {
        let policy = self.control.policy();
        let hosts = self.control.hosts(None, false, None, usize::MAX);
        let fleet: Vec<_> = hosts
            .iter()
            .filter(|host| host.state == HostState::Active)
            .map(|host| Candidate {
                host: host.id,
                labels: &host.labels,
                model: &host.facts.model,
                os_build: &host.facts.os_build,
            })
            .collect();
        // Which host falls into which ring differs for every release; how many do does not.
        let salt = Salt::new(&ReleaseDigest([0; 32]), &policy.digest());
        let (planned, _) = plan_rings(&policy.rings, &fleet, salt);
        let rings = policy.rings.iter().zip(&planned).enumerate();
        PolicyView {
            policy_toml: policy.text.clone(),
            rings: rings
                .map(|(i, (ring, planned))| RingSummary {
                    name: ring.name.clone(),
                    matches: matches(ring, i + 1 == policy.rings.len()),
                    hosts: planned.hosts.len() as u64,
                    soak_ms: policy.pace.soak,
                    verify_boot: policy.pace.verify_boot && i == 0,
                })
                .collect(),
            applied_by: self.notes.policy.actor.clone(),
            applied_unix_ms: self.notes.policy.at_unix_ms,
        }
    }

    /// The server in numbers; stored signals are not counted here.
    pub fn status(&self) -> pb::StatusResponse {
        let (hosts, connected) = self.control.host_counts();
        pb::StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hosts,
            connected,
            signals_stored: None,
            epoch: self.control.epoch().0,
            fleet_clock_ms: self.now.0,
        }
    }
}

/// The newest rollouts, found once for many hosts.
pub struct Rings<'a>(Vec<&'a Rollout>);

impl Rings<'_> {
    /// The ring of a host in the newest rollout it takes part in; empty where it takes part in none.
    pub fn of(&self, host: HostId) -> String {
        let ring = self.0.iter().find_map(|rollout| {
            let ring = rollout.member(host)?.ring;
            Some(rollout.rings().get(ring)?.record.name.to_string())
        });
        ring.unwrap_or_default()
    }
}

/// Which hosts a ring takes, in words.
fn matches(ring: &RingPolicy, is_last: bool) -> String {
    let of = match &ring.selector {
        Some(selector) => format!("hosts with {selector}"),
        None => "hosts".to_owned(),
    };
    match ring.percent {
        Some(percent) if !is_last => format!("{percent} % of the {of}"),
        Some(_) | None => format!("all {of} that are left"),
    }
}
