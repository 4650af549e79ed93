//! What members are (strata), which sites are silent, and the control: what the verdict compares with.

use super::Rollout;
use super::member::{Ending, Member, Readiness, Stage};
use crate::baseline::Counts;
use crate::strata::{DIMENSIONS, Kinds, NO_KINDS, SITE, Strata};
use ringward_domain::{HostId, Millis, Timestamp};

/// Hosts of a site that must be silent before it is the site and not the hosts.
const SITE_HOSTS_MIN: u64 = 3;
/// Hosts that become unreachable within this time do it together; sessions of one cut end within the
/// keepalive of 40 s.
const TOGETHER: Millis = Millis::mins(2);

/// How the hosts of one site fare that no exposure under way concerns.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Site {
    waiting_up: u64,
    waiting_down: u64,
    proven_up: u64,
    proven_down: u64,
    /// The newest times at which hosts there became unreachable, oldest first.
    drops: [Timestamp; SITE_HOSTS_MIN as usize],
    /// Its unexposed hosts became unreachable together and are not back.
    silent: bool,
    /// Its proven hosts did.
    proven_silent: bool,
}

/// What a site's silence says of a silent exposure there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SiteSays {
    /// Others there are heard: it is the host.
    Heard,
    /// Unexposed hosts there are silent too: it is the network.
    Silent,
    /// All that can be seen is silent, but none of it is unexposed.
    SilentWithoutControl,
}

impl Site {
    fn says(&self) -> SiteSays {
        match (self.silent, self.waiting_up + self.waiting_down) {
            (true, _) => SiteSays::Silent,
            // Proven hosts run the release: they show that the site is silent, not that the release
            // is innocent.
            (false, ..SITE_HOSTS_MIN) if self.proven_silent => SiteSays::SilentWithoutControl,
            _ => SiteSays::Heard,
        }
    }

    /// Hosts that died one by one over days are no silent site; those that drop together are.
    fn judge(&mut self, dropped: Option<Timestamp>) {
        let (up, down) = (self.waiting_up, self.waiting_down);
        let (proven_up, proven_down) = (self.proven_up, self.proven_down);
        if let Some(now) = dropped {
            self.drops.rotate_left(1);
            self.drops[self.drops.len() - 1] = now;
            let together = now.since(self.drops[0]) <= TOGETHER;
            self.silent |= together && down >= SITE_HOSTS_MIN && down > up;
            self.proven_silent |=
                together && proven_down >= SITE_HOSTS_MIN && proven_down >= 9 * proven_up;
        }
        self.silent &= down > up;
        self.proven_silent &= proven_down >= 9 * proven_up && proven_down > 0;
    }

    fn slot(&mut self, fares: Fares) -> Option<&mut u64> {
        match fares {
            Fares::WaitingUp => Some(&mut self.waiting_up),
            Fares::WaitingDown => Some(&mut self.waiting_down),
            Fares::ProvenUp => Some(&mut self.proven_up),
            Fares::ProvenDown => Some(&mut self.proven_down),
            Fares::Untold => None,
        }
    }
}

/// Where a member is counted at its site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fares {
    WaitingUp,
    WaitingDown,
    ProvenUp,
    ProvenDown,
    Untold,
}

impl Fares {
    pub(super) fn of(member: &Member) -> Self {
        let unreachable = member.readiness == Readiness::Unreachable;
        let away = matches!(member.readiness, Readiness::Away(_));
        match &member.stage {
            _ if away => Self::Untold,
            Stage::Waiting | Stage::Deferred(_) if unreachable && !member.dropped => Self::Untold,
            Stage::Waiting | Stage::Deferred(_) => {
                if unreachable {
                    Self::WaitingDown
                } else {
                    Self::WaitingUp
                }
            }
            Stage::Ended(Ending::Confirmed, _) => {
                if unreachable {
                    Self::ProvenDown
                } else {
                    Self::ProvenUp
                }
            }
            _ => Self::Untold,
        }
    }
}

impl Rollout {
    /// Tells what every member is: OS build, model, driver set, site (empty where unknown). Called
    /// after the start and after a restart; the counts of strata are made anew.
    pub fn classify(&mut self, words: impl Fn(HostId) -> [String; DIMENSIONS]) {
        let strata = self.evidence.strata_mut();
        *strata = Strata::default();
        self.kinds = self
            .members
            .iter()
            .map(|member| strata.join(&words(member.host)))
            .collect();
        for i in 0..self.members.len() {
            let failed = match &self.members[i].stage {
                Stage::Ended(Ending::Silent | Ending::Failed(_) | Ending::Reverted(_), _) => true,
                Stage::Ended(Ending::Confirmed, _) => false,
                _ => continue,
            };
            let kinds = self.kinds[i];
            self.evidence.strata_mut().trial(kinds);
            if failed {
                self.evidence.failed_in(kinds);
            }
        }
        self.sites.clear();
        for i in 0..self.members.len() {
            self.count_site(
                i,
                Fares::Untold,
                Fares::of(&self.members[i]),
                Timestamp::default(),
            );
        }
    }

    pub(super) fn kinds_of(&self, i: usize) -> Kinds {
        self.kinds.get(i).copied().unwrap_or(NO_KINDS)
    }

    /// A member's place in the counts of its site changes.
    pub(super) fn count_site(&mut self, i: usize, before: Fares, after: Fares, now: Timestamp) {
        let site = usize::from(self.kinds_of(i)[SITE]);
        if before == after || site == usize::from(u16::MAX) {
            return;
        }
        if self.sites.len() <= site {
            self.sites.resize(site + 1, Site::default());
        }
        let site = &mut self.sites[site];
        if let Some(count) = site.slot(before) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = site.slot(after) {
            *count += 1;
        }
        let dropped = matches!(after, Fares::WaitingDown | Fares::ProvenDown);
        site.judge(dropped.then_some(now));
    }

    /// What the site of a silent member says of it; remembered where it makes the rollout hold.
    pub(super) fn site_says(&mut self, i: usize) -> SiteSays {
        let site = self.kinds_of(i)[SITE];
        let says = self
            .sites
            .get(usize::from(site))
            .map_or(SiteSays::Heard, Site::says);
        if says == SiteSays::SilentWithoutControl {
            self.silent_sites.insert(site);
        }
        says
    }

    /// Whether some site is silent and nobody unexposed is there to tell why.
    pub(super) fn site_without_control(&self) -> bool {
        self.silent_sites.iter().any(|site| {
            self.sites
                .get(usize::from(*site))
                .is_some_and(|s| s.says() == SiteSays::SilentWithoutControl)
        })
    }

    // ----- control -----

    /// What happened to comparable hosts in the 72 h before the start.
    pub fn control_history(&mut self, counts: &Counts) {
        self.evidence.control_before(counts);
        self.dirty_self = true;
    }

    /// What happens to unexposed hosts meanwhile.
    pub fn control_counted(&mut self, counts: &Counts) {
        self.evidence.control_counted(counts);
        // Time alone is written with the next event: losing some of it only makes the rate higher.
        self.dirty_self |= counts.reboot_failures + counts.time_failures > 0;
    }

    /// A control host's failure counted before had this cause, and the host is of these strata.
    pub fn control_failure_of(&mut self, host: HostId, signature: Option<&str>) {
        let kinds = self
            .member_index(host)
            .map_or(NO_KINDS, |i| self.kinds_of(i));
        self.evidence.control_failed(kinds, signature);
    }

    /// An exposed host rebooted again: one more trial, like a reboot of the control.
    pub fn rebooted(&mut self, host: HostId, now: Timestamp) {
        let Some(i) = self.member_index(host) else {
            return;
        };
        let in_time = self.members[i]
            .exposure()
            .is_some_and(|e| now <= e.begun_at + self.pace.attribution);
        if in_time && matches!(self.members[i].stage, Stage::Ended(Ending::Confirmed, _)) {
            let kinds = self.kinds_of(i);
            self.evidence.rebooted(kinds);
        }
    }
}
