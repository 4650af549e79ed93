//! Words of a host, announced absence, and return.

use super::Rollout;
use super::member::{Ending, Readiness, Stage};
use ringward_domain::absence::Absence;
use ringward_domain::{HostId, Millis, Timestamp};

impl Rollout {
    /// The host said something.
    pub fn heard(&mut self, host: HostId, now: Timestamp) {
        let Some(i) = self.member_index(host) else {
            return;
        };
        let late = self.members[i].late;
        match &mut self.members[i].stage {
            Stage::Exposed(exposure) => exposure.heard = exposure.heard.max(now),
            Stage::Ended(Ending::Silent, _) if !late => {
                self.change(i, now, |member| member.late = true);
                self.dirty.insert(i);
            }
            _ => {}
        }
    }

    /// The host is too new for its failure alone to halt by a hard rule.
    pub fn newcomer(&mut self, host: HostId, now: Timestamp) {
        if let Some(i) = self.member_index(host) {
            self.edit_exposure(i, now, |exposure| exposure.newcomer = true);
        }
    }

    /// Hosts of this kind take so long to come back from a reboot that silence counts only after
    /// this time.
    pub fn slow_to_return(&mut self, host: HostId, patience: Millis, now: Timestamp) {
        if let Some(i) = self.member_index(host)
            && patience > self.pace.silence_reboot
        {
            self.edit_exposure(i, now, |exposure| exposure.patience = patience);
        }
    }

    /// The host said that it will be away; only an exposed host's soak cares.
    pub fn absent(&mut self, host: HostId, absence: Absence, now: Timestamp) {
        let Some(i) = self.member_index(host) else {
            return;
        };
        if matches!(&self.members[i].stage, Stage::Exposed(exposure) if exposure.absent.is_none()) {
            self.edit_exposure(i, now, |exposure| exposure.absent = Some((absence, now)));
        }
    }

    /// The host is back: with a new session, or awake again. What it refused it is asked once more,
    /// since another agent or another policy of its own may be there now.
    pub fn back(&mut self, host: HostId, now: Timestamp) {
        let Some(i) = self.member_index(host) else {
            return;
        };
        if matches!(self.members[i].stage, Stage::Refused(_)) {
            self.enter(i, now, Stage::Waiting);
        }
        if matches!(&self.members[i].stage, Stage::Exposed(exposure) if exposure.absent.is_some()) {
            self.edit_exposure(i, now, |exposure| {
                if let Some((_, since)) = exposure.absent.take() {
                    exposure.away += now.since(since);
                }
                exposure.heard = exposure.heard.max(now);
            });
        }
    }

    /// A host away for too long loses its slot without credit; it soaks on after its return.
    pub(super) fn free_slot(&mut self, i: usize, now: Timestamp) {
        self.edit_exposure(i, now, |exposure| exposure.slotless = true);
    }

    pub(super) fn edit_exposure(
        &mut self,
        i: usize,
        now: Timestamp,
        edit: impl FnOnce(&mut super::member::Exposure),
    ) {
        self.change(i, now, |member| {
            if let Stage::Exposed(exposure) | Stage::Ended(_, exposure) = &mut member.stage {
                edit(exposure);
            }
        });
        self.dirty.insert(i);
    }

    /// A proven host that is gone without a word within the attribution time counts as silent in the
    /// end; one that is there, or said that it would be away, does not.
    pub(super) fn follow_proven(&mut self, i: usize, readiness: Readiness, now: Timestamp) {
        let Stage::Ended(Ending::Confirmed, exposure) = &mut self.members[i].stage else {
            return;
        };
        match readiness {
            Readiness::Unreachable => {
                exposure.gone.get_or_insert(now);
            }
            _ => exposure.gone = None,
        }
        self.schedule(i);
    }
}
