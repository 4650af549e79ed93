//! What people and other parts read.

use super::Control;
use crate::host::Host;
use crate::policy::Policy;
use crate::release::ReleaseRecord;
use crate::rollout::Rollout;
use crate::rollout::member::{Ending, Member, Stage};
use crate::selector::Selector;
use ringward_domain::host::{GuardTier, HostState};
use ringward_domain::ids::{Epoch, ReleaseDigest, RolloutId, Sha256};
use ringward_domain::report::{
    HostView, MemberState, MemberView, ReleaseView, RolloutState, RolloutView,
};
use ringward_domain::{AssignmentKind, HostId, Timestamp};
use std::collections::BTreeMap;
use std::ops::Bound;

impl Control {
    /// Whether a host may have a session: known and not retired.
    #[must_use]
    pub fn admits(&self, host: HostId) -> bool {
        self.hosts
            .get(&host)
            .is_some_and(|host| host.record.state != HostState::Retired && !host.record.fenced)
    }

    /// SHA-256 of a host's public key as enrolled.
    #[must_use]
    pub fn host_key(&self, host: HostId) -> Option<Sha256> {
        self.hosts.get(&host).and_then(|host| host.record.key)
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Whether every rollout but rollbacks is paused.
    #[must_use]
    pub fn andon(&self) -> bool {
        self.andon
    }

    /// The epoch of the orders given.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The fleet clock as told last.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// How many hosts are known, retired ones not counted, and how many have a session.
    #[must_use]
    pub fn host_counts(&self) -> (u64, u64) {
        let known = self
            .hosts
            .values()
            .filter(|host| host.record.state != HostState::Retired);
        known.fold((0, 0), |(all, here), host| {
            (all + 1, here + u64::from(host.session.is_some()))
        })
    }

    /// A release as published.
    #[must_use]
    pub fn release(&self, release: ReleaseDigest) -> Option<&ReleaseRecord> {
        self.releases.get(&release)
    }

    /// A rollout itself.
    #[must_use]
    pub fn rollout(&self, rollout: RolloutId) -> Option<&Rollout> {
        self.rollouts.get(&rollout)
    }

    /// Every rollout by its start, oldest first, with how it stands.
    #[must_use]
    pub fn rollouts(&self) -> Vec<(RolloutId, RolloutState)> {
        let mut all: Vec<&Rollout> = self.rollouts.values().collect();
        all.sort_by_key(|rollout| rollout.spec.number);
        all.into_iter()
            .map(|rollout| (rollout.id, rollout.status().state()))
            .collect()
    }

    /// One rollout for people.
    #[must_use]
    pub fn rollout_view(&self, rollout: RolloutId) -> Option<RolloutView> {
        let rollout = self.rollouts.get(&rollout)?;
        let mut view = rollout.view(&|host| self.hostname(host), self.now);
        view.notes.extend(self.maintenance_note(rollout));
        if view.state == RolloutState::Halted && view.kind == AssignmentKind::Install {
            view.proposal = self.proposal(Some(view.release));
            view.notes.extend(self.newcomers_note(rollout));
        }
        Some(view)
    }

    /// Who reported what the halt rests on may be new here.
    fn newcomers_note(&self, rollout: &Rollout) -> Option<String> {
        let (all, new) = rollout.failures().fold((0u64, 0u64), |(all, new), member| {
            let newcomer = member.exposure().is_some_and(|e| e.newcomer);
            (all + 1, new + u64::from(newcomer))
        });
        (new > 0)
            .then(|| format!("{new} of {all} failed hosts were enrolled less than a day before"))
    }

    /// A page of a rollout's members in the order of exposure: those that `wanted` picks, after the
    /// first `skip` of them, at most `limit`.
    #[must_use]
    pub fn members(
        &self,
        rollout: RolloutId,
        wanted: &dyn Fn(&MemberState) -> bool,
        skip: usize,
        limit: usize,
    ) -> Option<Vec<MemberView>> {
        let rollout = self.rollouts.get(&rollout)?;
        let views = rollout
            .members()
            .iter()
            .filter(|member| wanted(&rollout.state_of(member, self.now)));
        let page = views.skip(skip).take(limit);
        Some(
            page.map(|member| rollout.member_view(member, &|host| self.hostname(host), self.now))
                .collect(),
        )
    }

    fn hostname(&self, host: HostId) -> String {
        self.hosts
            .get(&host)
            .map_or(String::new(), |host| host.record.facts.hostname.clone())
    }

    /// One host; its signals lie in the store alone.
    #[must_use]
    pub fn host_view(&self, id: HostId) -> Option<HostView> {
        self.hosts.get(&id).map(|host| self.view_of(host))
    }

    /// Up to where a host's signals are stored without a gap; 0 for a host that is not known.
    #[must_use]
    pub fn signals_through(&self, id: HostId) -> u64 {
        self.hosts
            .get(&id)
            .map_or(0, |host| host.record.signals_through.0)
    }

    /// A page of hosts by id, after `after`, at most `limit`; retired ones only where asked for.
    #[must_use]
    pub fn hosts(
        &self,
        selector: Option<&Selector>,
        retired: bool,
        after: Option<HostId>,
        limit: usize,
    ) -> Vec<HostView> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let hosts = self
            .hosts
            .range((from, Bound::Unbounded))
            .map(|(_, host)| host);
        let wanted = hosts.filter(|host| retired || host.record.state != HostState::Retired);
        let picked = wanted.filter(|host| selector.is_none_or(|s| s.matches(&host.record.labels)));
        picked.take(limit).map(|host| self.view_of(host)).collect()
    }

    /// A page of those `seen` hosts that `wanted` picks, by id after `after`, at most `limit`; with
    /// how many it picks in all and how many are seen. Only the hosts of the page are put into words.
    #[must_use]
    pub fn host_page(
        &self,
        seen: &dyn Fn(&Host) -> bool,
        wanted: &dyn Fn(&Host) -> bool,
        after: Option<HostId>,
        limit: usize,
    ) -> (Vec<HostView>, u64, u64) {
        let mut page = Vec::new();
        let (mut picked, mut all) = (0, 0);
        for host in self.hosts.values().filter(|host| seen(host)) {
            all += 1;
            if !wanted(host) {
                continue;
            }
            picked += 1;
            if page.len() < limit && after.is_none_or(|after| host.record.id > after) {
                page.push(self.view_of(host));
            }
        }
        (page, picked, all)
    }

    /// Whether a person should look at a host.
    #[must_use]
    pub fn requires_attention(&self, host: &Host) -> bool {
        !self.attention(host).is_empty()
    }

    fn view_of(&self, host: &Host) -> HostView {
        HostView {
            id: host.record.id,
            state: host.record.state,
            facts: host.record.facts.clone(),
            labels: host.record.labels.clone(),
            agent_version: host.record.agent_version.clone(),
            connected: host.session.is_some(),
            last_seen_ms: self.now.since(host.last_heard.unwrap_or(host.heard_before)),
            observed: host.observed.clone(),
            attention: self.attention(host),
            signals: Vec::new(),
        }
    }

    fn attention(&self, host: &Host) -> Vec<String> {
        let mut lines = Vec::new();
        if host.record.state == HostState::Pending {
            lines.push("waits for approval".to_owned());
        }
        if host.record.fenced {
            lines.push(
                "fenced: two machines use its identity; `ringward-agent generalize` on the copy, \
                 then `ringwardctl hosts unfence`"
                    .to_owned(),
            );
        }
        if let Some(old) = host.record.replaces {
            lines.push(format!(
                "has the fingerprint of {old}: the same machine installed anew? `ringwardctl hosts \
                 replace` says so"
            ));
        }
        if host.record.frozen {
            lines.push("frozen by a person".to_owned());
        }
        if host.session.is_some() && host.record.facts.guard_tier == GuardTier::None {
            lines.push("cannot self-heal: no guard is armed before a reboot".to_owned());
        }
        for rollout in host.rollouts.iter().filter_map(|id| self.rollouts.get(id)) {
            let member = rollout.member(host.record.id);
            if let Some(words) = member.and_then(trouble) {
                lines.push(format!(
                    "{words} on {} {} ({})",
                    rollout.spec.package, rollout.spec.version, rollout.id
                ));
            }
        }
        for release in host.record.bars.iter().filter(|release| host.bars(release)) {
            let title = self
                .releases
                .get(release)
                .map_or_else(|| release.to_string(), ReleaseRecord::title);
            lines.push(format!("bars {title}"));
        }
        lines
    }

    /// Every release, newest first.
    #[must_use]
    pub fn releases(&self) -> Vec<ReleaseView> {
        let mut running: BTreeMap<ReleaseDigest, u64> = BTreeMap::new();
        for host in self
            .hosts
            .values()
            .filter(|host| host.record.state != HostState::Retired)
        {
            for release in host.observed.packages.iter().filter_map(|p| p.running) {
                *running.entry(release).or_default() += 1;
            }
        }
        let views = self
            .releases
            .values()
            .map(|r| release_view(r, running.get(&r.release).copied().unwrap_or(0)));
        let mut views: Vec<ReleaseView> = views.collect();
        views.sort_by(|a, b| {
            b.published_unix_ms
                .cmp(&a.published_unix_ms)
                .then_with(|| b.version.cmp(&a.version))
        });
        views
    }
}

fn release_view(release: &ReleaseRecord, hosts_running: u64) -> ReleaseView {
    ReleaseView {
        release: release.release,
        package: release.manifest.package.clone(),
        version: release.manifest.version.clone(),
        standing: release.standing,
        published_unix_ms: release.published_unix_ms,
        signed_by: release
            .envelope
            .signatures
            .iter()
            .map(|s| s.key.to_string().chars().take(12).collect())
            .collect(),
        bytes: release
            .manifest
            .artefacts
            .iter()
            .map(|a| a.size)
            .fold(0, u64::saturating_add),
        hosts_running,
    }
}

/// What a person should know of a member.
fn trouble(member: &Member) -> Option<&'static str> {
    match (&member.stage, member.late) {
        (Stage::Ended(Ending::Silent, _), false) => Some("went silent"),
        (Stage::Ended(Ending::Silent, _), true) => Some("was silent, back late"),
        (Stage::Ended(Ending::Failed(_), _), _) => Some("failed"),
        (Stage::Ended(Ending::Reverted(_), _), _) => Some("went back by itself"),
        (Stage::Refused(_), _) => Some("refused"),
        _ => None,
    }
}
