//! Evidence and verdict: every resolution is weighed on the event that brings it.

use super::cause::with_causes;
use super::member::{Ending, Exposure, Phase, Stage};
use super::ring::Bucket;
use super::{Rollout, Status};
use crate::evidence::Outcome;
use crate::planted::{Bug, planted};
use crate::verdict::{self, Limits};
use crate::window::{RingWindow, window};
use ringward_domain::ids::ReleaseDigest;
use ringward_domain::incident::SuspectView;
use ringward_domain::ledger::RevertWhy;
use ringward_domain::report::{Decision, HaltWhy, HoldWhy, VerdictReport};
use ringward_domain::{HostId, Timestamp};

/// What people should hear of a rollout.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// An exposure ended with credit or failure.
    Ended(HostId, Ending),
    /// Halted, with the verdict's sentence.
    Halted(HaltWhy, String),
    /// Holds.
    Held(HoldWhy),
    /// A hold lifted itself.
    Lifted,
    /// A ring is complete.
    RingComplete(usize),
    /// Every ring is complete.
    Completed(ReleaseDigest),
}

impl Rollout {
    /// What the verdict is held to in this ring.
    pub(super) fn limits(&self, ring: usize, exhausted: bool) -> Limits {
        let ring = ring.min(self.rings.len().saturating_sub(1));
        Limits {
            alpha: self.pace.alpha,
            ring,
            ring_size: self.rings.get(ring).map_or(0, |ring| ring.members),
            fleet_size: self.members.len() as u64,
            ring_exhausted: exhausted,
            site_silent_without_control: self.site_without_control(),
            release_expired: self.expired,
        }
    }

    /// The verdict now, with all figures.
    #[must_use]
    pub fn verdict(&self, now: Timestamp) -> VerdictReport {
        verdict::verdict(
            &self.evidence,
            &self.limits(self.current, self.exhausted(now)),
        )
    }

    /// Nothing is in flight in the ring under way and nobody of it can be granted.
    pub(super) fn exhausted(&self, now: Timestamp) -> bool {
        now >= self.grace_until
            && self
                .rings
                .get(self.current)
                .is_some_and(|ring| ring.in_flight + ring.express + ring.awaited == 0)
    }

    /// An exposure ends with credit or failure.
    pub(super) fn resolve(
        &mut self,
        i: usize,
        ending: Ending,
        signature: Option<String>,
        now: Timestamp,
    ) {
        let Stage::Exposed(exposure) = &self.members[i].stage else {
            return;
        };
        let exposure: Box<Exposure> = exposure.clone();
        let (host, ring) = (self.members[i].host, self.members[i].ring);
        let (kinds, rebooted) = (self.kinds_of(i), exposure.reboots);
        let came_back = exposure.phase == Phase::Soaking;
        let newcomer = exposure.newcomer;
        self.evidence.elapse(now);
        self.enter(i, now, Stage::Ended(ending, exposure));
        if !came_back && ending != Ending::RolledBack {
            self.evidence.returned(kinds, rebooted);
        }
        match ending {
            Ending::Confirmed => self.evidence.resolved(ring, host, &Outcome::Confirmed),
            Ending::RolledBack => self.evidence.uncounted(ring),
            Ending::Silent if planted(Bug::SilenceNotCounted) => self.evidence.uncounted(ring),
            Ending::Silent | Ending::Failed(_) | Ending::Reverted(_) => {
                let signature = signature.filter(|_| !newcomer);
                self.evidence
                    .resolved(ring, host, &Outcome::Failed { signature });
                if newcomer {
                    self.evidence.newcomer_failed(ring);
                }
                self.evidence.failed_in(kinds);
            }
        }
        self.news.push(News::Ended(host, ending));
        self.weigh(ring, now);
    }

    /// A host that was proven, or was taken off the release, failed within the attribution time.
    pub(super) fn fail_after_end(
        &mut self,
        i: usize,
        ending: Ending,
        signature: Option<&str>,
        now: Timestamp,
    ) {
        if planted(Bug::EvidenceDroppedAfterResolution) {
            // Its deadline must not come back for ever.
            self.edit_exposure(i, now, |exposure| exposure.gone = None);
            return;
        }
        let Stage::Ended(before, exposure) = &self.members[i].stage else {
            return;
        };
        let (before, exposure) = (*before, exposure.clone());
        let (host, ring, kinds) = (self.members[i].host, self.members[i].ring, self.kinds_of(i));
        let signature = signature.filter(|_| !exposure.newcomer);
        self.evidence.elapse(now);
        if matches!(before, Ending::Confirmed | Ending::RolledBack) {
            // Certainty that the release did it decays over the attribution time.
            self.evidence.fade(
                now.since(exposure.begun_at).0 as f64 / self.pace.attribution.0.max(1) as f64,
            );
        }
        match before {
            Ending::Confirmed => self.evidence.failed_after_confirm(ring, host, signature),
            Ending::RolledBack => {
                self.evidence.returned(kinds, exposure.reboots);
                self.evidence.resolved(
                    ring,
                    host,
                    &Outcome::Failed {
                        signature: signature.map(str::to_owned),
                    },
                );
            }
            // Counted already; a cause that arrives later still tells of what recurs.
            Ending::Failed(_) | Ending::Reverted(_) | Ending::Silent => {
                self.evidence.note_signature(host, signature);
                self.weigh(ring, now);
                return;
            }
        }
        self.evidence.failed_in(kinds);
        self.enter(i, now, Stage::Ended(ending, exposure));
        self.news.push(News::Ended(host, ending));
        self.weigh(ring, now);
    }

    /// Renews the window and lets the evidence halt. Called on the event, never later.
    fn weigh(&mut self, ring: usize, now: Timestamp) {
        self.dirty_self = true;
        self.renew_window();
        if planted(Bug::HaltOnlyInPlanner) {
            return;
        }
        for ring in [Some(self.current), (ring != self.current).then_some(ring)]
            .into_iter()
            .flatten()
        {
            if let Decision::Halt(why) = verdict::decide(&self.evidence, &self.limits(ring, false))
            {
                return self.halt(why, ring, now);
            }
        }
    }

    pub(super) fn halt(&mut self, why: HaltWhy, ring: usize, now: Timestamp) {
        if matches!(self.status, Status::Halted(..) | Status::Aborted(_)) {
            return;
        }
        let sentence =
            verdict::verdict(&self.evidence, &self.limits(ring, self.exhausted(now))).sentence;
        self.status = Status::Halted(why.clone(), sentence.clone());
        self.evidence_to_halt_ms = None;
        self.dirty_self = true;
        let (failed, causes) = self.causes();
        let told = with_causes(&sentence, failed, &causes);
        self.news.push(News::Halted(why, told));
    }

    /// The window of the ring under way.
    pub(super) fn renew_window(&mut self) {
        let index = self.current.min(self.rings.len().saturating_sub(1));
        let Some(ring) = self.rings.get(index) else {
            return;
        };
        let confirmed = self.evidence.ring(index).confirmed;
        if planted(Bug::WindowFromConfirmedOnly) {
            self.window = confirmed.saturating_add(2);
            return;
        }
        let place = RingWindow {
            index,
            size: ring.members,
            confirmed,
            previous: ring.record.previous_window,
        };
        self.window = window(&self.evidence, &place, &self.pace.window());
    }

    /// Reboots and host-days of unexposed hosts, with their failures.
    pub fn control(&mut self, units: f64, failures: u64) {
        self.evidence.control(units, failures);
        // Time alone is written with the next event: losing some of it only makes the rate higher.
        self.dirty_self |= failures > 0;
    }

    /// Who is suspected as it halts, most first.
    pub fn blamed(&mut self, suspects: Vec<SuspectView>) {
        self.suspects = suspects;
        self.dirty_self = true;
    }

    /// How long it took from the deciding event to the durable halt, as the edge measured it.
    pub fn halted_after(&mut self, ms: u64) {
        if self.evidence_to_halt_ms.is_none() && matches!(self.status, Status::Halted(..)) {
            self.evidence_to_halt_ms = Some(ms);
            self.dirty_self = true;
        }
    }

    /// Pause by a person. `false` if it does not run.
    pub fn pause(&mut self, reason: String) -> bool {
        let runs = matches!(self.status, Status::Running | Status::Held(_));
        if runs {
            self.status = Status::Paused(reason);
            self.dirty_self = true;
        }
        runs
    }

    /// Resume of a pause or a halt by a person. `false` if neither is the case.
    ///
    /// After a halt the evidence starts anew, the window at its start: otherwise it would halt at
    /// once again. The ring under way no longer has to reach its share.
    pub fn resume(&mut self) -> bool {
        match self.status {
            Status::Paused(_) => {}
            Status::Halted(..) => {
                self.evidence.begin_anew();
                if let Some(ring) = self.rings.get_mut(self.current) {
                    ring.record.accepted = true;
                    ring.record.previous_window = 0;
                }
            }
            _ => return false,
        }
        self.suspects.clear();
        self.status = self.under_way();
        self.dirty_self = true;
        self.renew_window();
        true
    }

    /// Running, or completed where no ring is left.
    pub(super) fn under_way(&self) -> Status {
        if self.current < self.rings.len() {
            Status::Running
        } else {
            Status::Completed
        }
    }

    /// End by a person. `false` if it was ended before.
    pub fn abort(&mut self, reason: String) -> bool {
        let ends = !matches!(self.status, Status::Aborted(_));
        if ends {
            self.status = Status::Aborted(reason);
            self.dirty_self = true;
        }
        ends
    }

    /// The andon; rollbacks do not care.
    pub fn set_andon(&mut self, on: bool) {
        self.andon = on;
    }

    /// Whether the manifest has expired, as the edge's wall clock says.
    pub fn set_expired(&mut self, expired: bool) {
        self.expired = expired;
    }

    /// A rollback's `Begin` of this host is recorded: what it is exposed to here ends without
    /// credit or failure.
    pub fn rolled_back(&mut self, host: HostId, now: Timestamp) {
        if let Some(i) = self.member_index(host) {
            self.resolve(i, Ending::RolledBack, None, now);
        }
    }

    /// A cause that recurs where many hosts go back by themselves.
    pub(super) fn signature_of(why: RevertWhy) -> Option<String> {
        match why {
            RevertWhy::BadBoots => Some("boot loop".to_owned()),
            RevertWhy::CrashLoop
            | RevertWhy::ProbesFailed
            | RevertWhy::NetworkLost
            | RevertWhy::Ordered
            | RevertWhy::Rescue => None,
        }
    }

    /// The host says how far it is.
    pub(super) fn set_phase(&mut self, i: usize, phase: Phase, committed: bool, now: Timestamp) {
        let Stage::Exposed(exposure) = &self.members[i].stage else {
            return;
        };
        let known = exposure.phase == phase
            && exposure.applied_at.is_some()
            && exposure.committed >= committed;
        if !known {
            let back = phase == Phase::Soaking && exposure.phase != Phase::Soaking;
            let reboots = exposure.reboots;
            if back {
                self.evidence.returned(self.kinds_of(i), reboots);
            }
            self.edit_exposure(i, now, |exposure| {
                exposure.phase = phase;
                exposure.committed |= committed;
                exposure.applied_at.get_or_insert(now);
            });
            self.members[i].since = now;
        }
        self.confirm_if_soaked(i, now);
    }

    /// Members of the ring never exposed.
    pub(super) fn never_exposed(&self, ring: usize) -> u64 {
        self.rings[ring].count(Bucket::Waiting)
    }
}
