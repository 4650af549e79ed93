//! Deadlines: grants that expire, silence, announced absence, soak, invitations.
//!
//! One entry a member at most, never later than its true deadline. Words of a host move its silence
//! deadline without touching the queue: an early entry is looked at, found not due and put back.

use super::Rollout;
use super::kinds::SiteSays;
use super::member::{Ending, Exposure, Invite, Member, Readiness, Stage};
use ringward_domain::ledger::NotSwitchedWhy;
use ringward_domain::{Millis, Timestamp};

/// A ring does not wait longer than this for a host that prepares or soaks something else.
const PATIENCE: Millis = Millis::mins(30);
/// Nor longer than this for a maintenance window to open: long enough for daily ones, also over a
/// change of summer time. Hosts with rarer ones follow as stragglers.
const MAINTENANCE_PATIENCE: Millis = Millis::hours(25);

impl Rollout {
    /// When [`tick`](Self::tick) has something to do, at the earliest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Lets every deadline up to `now` take effect.
    pub fn tick(&mut self, now: Timestamp) {
        while let Some((at, i)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.deadlines.remove(&(at, i));
            self.members[i].timer = None;
            self.expire(i, now);
            self.schedule(i);
        }
    }

    pub(super) fn schedule(&mut self, i: usize) {
        let Some(due) = self.due(&self.members[i]) else {
            return;
        };
        match self.members[i].timer {
            Some(at) if at <= due => return,
            Some(at) => {
                self.deadlines.remove(&(at, i));
            }
            None => {}
        }
        self.deadlines.insert((due, i));
        self.members[i].timer = Some(due);
    }

    fn due(&self, member: &Member) -> Option<Timestamp> {
        match &member.stage {
            Stage::Waiting | Stage::Deferred(_) => self.due_waiting(member),
            Stage::Granted(grant) => Some(grant.expires + Millis(1)),
            Stage::Exposed(exposure) => self.due_exposed(member, exposure),
            Stage::Ended(Ending::Confirmed, exposure) => exposure
                .gone
                .filter(|gone| *gone <= exposure.begun_at + self.pace.attribution)
                .map(|gone| gone + self.pace.silence_reboot.max(exposure.patience)),
            Stage::AlreadyThere | Stage::Refused(_) | Stage::Ended(..) => None,
        }
    }

    fn due_waiting(&self, member: &Member) -> Option<Timestamp> {
        if let Invite::Until(at) = member.invite {
            return Some(at);
        }
        if member.not_before > Timestamp::default() {
            return Some(member.not_before);
        }
        let patience = match member.readiness {
            Readiness::Preparing | Readiness::OtherTrial => PATIENCE,
            Readiness::OutsideMaintenance => MAINTENANCE_PATIENCE,
            _ => return None,
        };
        (!member.stalled && member.ring <= self.current).then(|| member.since + patience)
    }

    fn due_exposed(&self, member: &Member, exposure: &Exposure) -> Option<Timestamp> {
        if let Some((_, since)) = exposure.absent {
            return (!exposure.slotless).then(|| since + self.pace.away_slot);
        }
        let silent = self.silent_at(member, exposure);
        Some(
            self.soaked_at(member, exposure)
                .map_or(silent, |soaked| soaked.min(silent)),
        )
    }

    /// When the host counts as silent unless it says something before. A host that lives but says
    /// nothing new of its attempt for an hour and four soaks is silent too: one stuck host must not
    /// keep a ring open for ever.
    fn silent_at(&self, member: &Member, exposure: &Exposure) -> Timestamp {
        let floor = if exposure.reboots {
            self.pace.silence_reboot.max(exposure.patience)
        } else {
            self.pace.silence
        };
        let stuck = member.since.max(self.grace_until)
            + exposure.away
            + Millis::hours(1)
            + self.pace.soak.times(4);
        stuck.min(exposure.heard + floor)
    }

    /// When the host is confirmed, by the server's clock too; `None` while it is not known to be
    /// healthy for so long.
    fn soaked_at(&self, member: &Member, exposure: &Exposure) -> Option<Timestamp> {
        let connected = !matches!(
            member.readiness,
            Readiness::Unreachable | Readiness::Away(_)
        );
        (connected && exposure.committed && exposure.absent.is_none())
            .then(|| {
                exposure
                    .applied_at
                    .map(|at| at + exposure.away + self.pace.soak)
            })
            .flatten()
    }

    fn expire(&mut self, i: usize, now: Timestamp) {
        match &self.members[i].stage {
            Stage::Waiting | Stage::Deferred(_) => self.expire_waiting(i, now),
            Stage::Granted(grant) if grant.expires < now => {
                self.defer(i, NotSwitchedWhy::NoBegun, now)
            }
            Stage::Exposed(_) => self.expire_exposed(i, now),
            Stage::Ended(Ending::Confirmed, _) => self.expire_confirmed(i, now),
            Stage::Granted(_) | Stage::AlreadyThere | Stage::Refused(_) | Stage::Ended(..) => {}
        }
    }

    fn expire_waiting(&mut self, i: usize, now: Timestamp) {
        let due = self
            .due_waiting(&self.members[i])
            .is_some_and(|at| at <= now);
        if !due {
            return;
        }
        self.change(i, now, |member| match member.invite {
            Invite::Until(_) => {
                member.invite = Invite::Lapsed;
                member.stalled = true;
            }
            Invite::None | Invite::Lapsed if member.not_before > Timestamp::default() => {
                member.not_before = Timestamp::default();
            }
            Invite::None | Invite::Lapsed => member.stalled = true,
        });
    }

    fn expire_exposed(&mut self, i: usize, now: Timestamp) {
        let Stage::Exposed(exposure) = &self.members[i].stage else {
            return;
        };
        if let Some((_, since)) = exposure.absent {
            if !exposure.slotless && since + self.pace.away_slot <= now {
                self.free_slot(i, now);
            }
            return;
        }
        if self.silent_at(&self.members[i], exposure) <= now {
            if self.site_says(i) != SiteSays::Heard {
                // Its whole site is silent: the deadline starts anew, the slot stays taken.
                self.edit_exposure(i, now, |exposure| exposure.heard = now);
                self.members[i].since = now;
                return;
            }
            self.resolve(i, Ending::Silent, None, now);
        } else if self
            .soaked_at(&self.members[i], exposure)
            .is_some_and(|at| at <= now)
        {
            self.resolve(i, Ending::Confirmed, None, now);
        }
    }

    fn expire_confirmed(&mut self, i: usize, now: Timestamp) {
        if self.due(&self.members[i]).is_some_and(|at| at <= now) {
            if self.site_says(i) != SiteSays::Heard {
                return self.edit_exposure(i, now, |exposure| exposure.gone = Some(now));
            }
            self.fail_after_end(i, Ending::Silent, None, now);
        }
    }

    /// Confirms a host whose soak is over, without waiting for a tick.
    pub(super) fn confirm_if_soaked(&mut self, i: usize, now: Timestamp) {
        if let Stage::Exposed(exposure) = &self.members[i].stage
            && self
                .soaked_at(&self.members[i], exposure)
                .is_some_and(|at| at <= now)
        {
            self.resolve(i, Ending::Confirmed, None, now);
        }
    }
}
