//! Counts that follow every change of a member: its ring's, its group's, its deadline.

use super::Rollout;
use super::kinds::Fares;
use super::member::{self, Ending, Member, Stage};
use super::ring::Tally;
use ringward_domain::{HostId, Timestamp};

/// Confirmed exposures whose time an estimate looks at.
const SAMPLES_MAX: usize = 1001;

impl Rollout {
    pub(super) fn member_index(&self, host: HostId) -> Option<usize> {
        self.index.get(&host).copied()
    }

    pub(super) fn tally(&self, i: usize, now: Timestamp) -> Tally {
        let member = &self.members[i];
        let busy = self.groups.get(&member.group).map_or(0, |g| g.busy)
            > u64::from(occupies_group(member));
        Tally::of(member, member.not_before > now, busy)
    }

    pub(super) fn count_in(&mut self, i: usize, now: Timestamp) {
        let tally = self.tally(i, now);
        let member = &self.members[i];
        let ring = &mut self.rings[member.ring];
        ring.members += 1;
        ring.add(i, tally);
        self.count_grant(i, true);
        self.time_switch(i);
    }

    /// Takes down how long a host took that is confirmed now.
    fn time_switch(&mut self, i: usize) {
        if let Stage::Ended(Ending::Confirmed, exposure) = &self.members[i].stage
            && let Some(at) = exposure.applied_at
            && self.switching.len() < SAMPLES_MAX
        {
            self.switching.push(at.since(exposure.begun_at));
        }
    }

    fn count_grant(&mut self, i: usize, more: bool) {
        let Stage::Granted(grant) = &self.members[i].stage else {
            return;
        };
        let counter = match (grant.express, self.adds_reboot(self.members[i].ring)) {
            (true, _) => &mut self.express_grants,
            (false, true) => &mut self.verify_grants,
            (false, false) => return,
        };
        *counter = if more {
            *counter + 1
        } else {
            counter.saturating_sub(1)
        };
    }

    /// The one way a member changes: its ring's counts, its group and its deadline follow.
    pub(super) fn change(&mut self, i: usize, now: Timestamp, edit: impl FnOnce(&mut Member)) {
        let ring = self.members[i].ring;
        let before = self.tally(i, now);
        let busy_before = occupies_group(&self.members[i]);
        self.rings[ring].remove(i, before);
        self.count_grant(i, false);
        let fared = Fares::of(&self.members[i]);
        let was_over = matches!(self.members[i].stage, Stage::Ended(..));
        edit(&mut self.members[i]);
        if !was_over {
            self.time_switch(i);
        }
        self.count_grant(i, true);
        self.count_site(i, fared, Fares::of(&self.members[i]), now);
        let busy_after = occupies_group(&self.members[i]);
        let group = self.members[i].group;
        if group != 0 && busy_before != busy_after {
            let entry = self.groups.entry(group).or_default();
            entry.busy = if busy_after {
                entry.busy + 1
            } else {
                entry.busy.saturating_sub(1)
            };
        }
        let after = self.tally(i, now);
        self.rings[ring].add(i, after);
        self.touched.insert(i);
        self.schedule(i);
        if group != 0 && busy_before != busy_after {
            self.recount_group(group, i, busy_before, now);
        }
    }

    /// Places other members of a group in their queues anew after one of it became busy or free.
    fn recount_group(&mut self, group: u64, changed: usize, was_busy: bool, now: Timestamp) {
        let Some(entry) = self.groups.get(&group) else {
            return;
        };
        let (peers, busy_now) = (entry.members.clone(), entry.busy);
        let busy_then = if was_busy {
            busy_now + 1
        } else {
            busy_now.saturating_sub(1)
        };
        for i in peers.into_iter().filter(|i| *i != changed) {
            let member = &self.members[i];
            let own = u64::from(occupies_group(member));
            let then = Tally::of(member, member.not_before > now, busy_then > own);
            let after = Tally::of(member, member.not_before > now, busy_now > own);
            let ring = &mut self.rings[member.ring];
            ring.remove(i, then);
            ring.add(i, after);
        }
    }

    /// A member's stage changes: it is written down.
    pub(super) fn enter(&mut self, i: usize, now: Timestamp, stage: Stage) {
        self.change(i, now, |member| {
            member.stage = stage;
            member.since = now;
            member.invite = member::Invite::None;
            member.stalled = false;
        });
        self.dirty.insert(i);
    }
}

/// Whether this member keeps others of its redundancy group from being exposed.
pub(super) fn occupies_group(member: &Member) -> bool {
    let invited = member.grantable() && matches!(member.invite, member::Invite::Until(_));
    invited || member.lane().is_some() || member.lost()
}
