//! Grants and `Begin`: the law of who may switch (DESIGN §4). Invitations are only hints.

use super::Rollout;
use super::Status;
use super::member::{Exposure, Grant, Invite, Phase, Readiness, Stage};
use super::ring::Claim;
use crate::planted::{Bug, planted};
use ringward_domain::ids::{AgentStart, BootId, Nonce, SignalSeq};
use ringward_domain::ledger::NotSwitchedWhy;
use ringward_domain::report::{RolloutState, WaitWhy};
use ringward_domain::session::BeginRefusal;
use ringward_domain::{AssignmentKind, HostId, Millis, Timestamp};

/// Who asks, for a grant or to begin.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Names the attempt.
    pub nonce: Nonce,
    /// The running boot.
    pub boot: BootId,
    /// The running agent process.
    pub agent_start: AgentStart,
    /// Why the host may not take part now, whatever the window says.
    pub blocked: Option<WaitWhy>,
    /// First signal that the host has not spooled yet, as far as known.
    pub next_signal: SignalSeq,
    /// Boot-time clock of the host now, as far as known.
    pub boottime: Millis,
}

/// Answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrantAnswer {
    /// May begin within this life, counted by the agent from its request.
    Grant(Millis),
    /// Not now.
    Wait(WaitWhy),
}

/// Answer to a `Begin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeginAnswer {
    /// The exposure is recorded: switch.
    Begun,
    /// Do not switch; the nonce is dead.
    Refused(BeginRefusal),
    /// This rollout knows nothing of the nonce.
    Unknown,
}

/// Longest pause before a host that did not switch is invited again.
const BACKOFF_MAX: Millis = Millis::mins(10);

impl Rollout {
    /// A host asks for a grant. The same nonce again gets the same answer.
    pub fn request(&mut self, host: HostId, ask: &Ask, now: Timestamp) -> GrantAnswer {
        let Some(i) = self.member_index(host) else {
            return GrantAnswer::Wait(WaitWhy::NotItsTurn);
        };
        if ask.blocked.is_none() {
            self.readiness(host, Readiness::Ready, now);
        }
        match &self.members[i].stage {
            Stage::Granted(grant)
                if grant.nonce == ask.nonce
                    && grant.boot == ask.boot
                    && grant.agent_start == ask.agent_start
                    && now <= grant.expires =>
            {
                return GrantAnswer::Grant(self.pace.grant_life);
            }
            _ if self.members[i].dead.contains(&ask.nonce) => {
                return GrantAnswer::Wait(WaitWhy::NotItsTurn);
            }
            // The host gave up its older request: its place is free for the newer one.
            Stage::Granted(grant) => {
                let older = grant.nonce;
                self.enter(i, now, Stage::Waiting);
                self.members[i].bury(older);
            }
            Stage::Waiting | Stage::Deferred(_) => {}
            Stage::AlreadyThere | Stage::Refused(_) | Stage::Exposed(_) | Stage::Ended(..) => {
                return GrantAnswer::Wait(WaitWhy::NotItsTurn);
            }
        }
        match self.why_not(i, ask.blocked.clone(), now) {
            Some(why) => {
                self.uninvite(i, now);
                GrantAnswer::Wait(why)
            }
            None => {
                self.grant(i, ask, now);
                GrantAnswer::Grant(self.pace.grant_life)
            }
        }
    }

    fn grant(&mut self, i: usize, ask: &Ask, now: Timestamp) {
        let express = self.members[i].failed_before && self.express_left(now) > 0;
        let grant = Grant {
            nonce: ask.nonce,
            boot: ask.boot,
            agent_start: ask.agent_start,
            expires: now + self.pace.grant_life,
            express,
        };
        self.enter(i, now, Stage::Granted(Box::new(grant)));
    }

    /// Its place is no longer kept; it waits in the queue again.
    fn uninvite(&mut self, i: usize, now: Timestamp) {
        if self.members[i].invite != Invite::None || self.members[i].stalled {
            self.change(i, now, |member| {
                member.invite = Invite::None;
                member.stalled = false;
            });
        }
    }

    /// Why a waiting member is not granted now.
    pub(super) fn why_not(
        &self,
        i: usize,
        blocked: Option<WaitWhy>,
        now: Timestamp,
    ) -> Option<WaitWhy> {
        if blocked.is_some() {
            return blocked;
        }
        let member = &self.members[i];
        let own = u64::from(super::bookkeeping::occupies_group(member));
        let group = self.groups.get(&member.group);
        let claim = Claim {
            group_busy: group.is_some_and(|group| group.busy > own),
            failed_before: member.failed_before,
            invited: matches!(member.invite, Invite::Until(_)),
        };
        self.why_not_claim(member.ring, claim, member.not_before <= now, now)
    }

    /// The same of any member of a ring that stands so.
    pub(super) fn why_not_claim(
        &self,
        ring: usize,
        claim: Claim,
        is_due: bool,
        now: Timestamp,
    ) -> Option<WaitWhy> {
        if let Some(state) = self.not_exposing() {
            return Some(WaitWhy::NotRunning(state));
        }
        if ring > self.current {
            return Some(WaitWhy::EarlierRing);
        }
        if self.starting(now) {
            return Some(WaitWhy::ServerStarting);
        }
        if claim.group_busy {
            return Some(WaitWhy::RedundancyGroup);
        }
        if claim.failed_before && self.express_left(now) > 0 {
            return None;
        }
        if self.in_flight() >= self.window {
            return Some(WaitWhy::WindowFull);
        }
        if self.adds_reboot(ring) && self.reboots_left(now) == 0 {
            return Some(WaitWhy::Capped);
        }
        let room = self.in_flight() + self.invited() < self.window && is_due;
        (!claim.invited && !room).then_some(WaitWhy::NotItsTurn)
    }

    /// The state that keeps it from exposing hosts. Rollbacks go on under pause and andon.
    pub(super) fn not_exposing(&self) -> Option<RolloutState> {
        let rollback = self.spec.kind == AssignmentKind::Rollback;
        match &self.status {
            Status::Running | Status::Completed if self.andon && !rollback => {
                Some(RolloutState::Paused)
            }
            Status::Running | Status::Completed => None,
            Status::Paused(_) if rollback => None,
            Status::Held(_) | Status::Halted(..) | Status::Paused(_) | Status::Aborted(_) => {
                Some(self.status.state())
            }
        }
    }

    /// After a restart nobody new is exposed while it is not known how the exposed ones fare.
    pub(super) fn starting(&self, now: Timestamp) -> bool {
        self.spec.kind == AssignmentKind::Install && now < self.grace_until && self.in_flight() > 0
    }

    pub(super) fn express_left(&self, now: Timestamp) -> u64 {
        let cap = self.pace.rollback_cap.of(self.members.len() as u64);
        cap.saturating_sub(last_hour(&self.express_begins, now) + self.express_grants)
    }

    pub(super) fn reboots_left(&self, now: Timestamp) -> u64 {
        let cap = self.pace.reboot_cap.of(self.members.len() as u64);
        cap.saturating_sub(last_hour(&self.verify_boots, now) + self.verify_grants)
    }

    /// A host announces its switch. Idempotent by nonce; everything that speaks against it refuses
    /// and kills the nonce.
    pub fn begin(
        &mut self,
        host: HostId,
        ask: &Ask,
        refusal: Option<BeginRefusal>,
        now: Timestamp,
    ) -> BeginAnswer {
        let Some(i) = self.member_index(host) else {
            return BeginAnswer::Unknown;
        };
        let member = &self.members[i];
        match &member.stage {
            Stage::Exposed(exposure) if exposure.nonce == ask.nonce => {
                let same = exposure.boot == ask.boot && exposure.agent_start == ask.agent_start;
                return if same {
                    BeginAnswer::Begun
                } else {
                    BeginAnswer::Refused(BeginRefusal::OtherBoot)
                };
            }
            Stage::Granted(grant) if grant.nonce == ask.nonce => {
                let why = self.why_refuse(grant, ask, refusal, now);
                return self.settle_begin(i, ask, why, now);
            }
            _ if member.dead.contains(&ask.nonce) && planted(Bug::DoubleBegun) => {
                return BeginAnswer::Begun;
            }
            Stage::Granted(_) if member.dead.contains(&ask.nonce) => {
                return BeginAnswer::Refused(BeginRefusal::Superseded);
            }
            _ => {}
        }
        match member.nonce() == Some(ask.nonce) || member.dead.contains(&ask.nonce) {
            true => BeginAnswer::Refused(BeginRefusal::NoGrant),
            false => BeginAnswer::Unknown,
        }
    }

    fn why_refuse(
        &self,
        grant: &Grant,
        ask: &Ask,
        refusal: Option<BeginRefusal>,
        now: Timestamp,
    ) -> Option<BeginRefusal> {
        if now > grant.expires {
            return Some(BeginRefusal::Expired);
        }
        if grant.boot != ask.boot || grant.agent_start != ask.agent_start {
            return Some(BeginRefusal::OtherBoot);
        }
        refusal.or(self.not_exposing().map(|_| BeginRefusal::NotRunning))
    }

    fn settle_begin(
        &mut self,
        i: usize,
        ask: &Ask,
        refused: Option<BeginRefusal>,
        now: Timestamp,
    ) -> BeginAnswer {
        match refused {
            Some(why) => {
                let deferred = match why {
                    BeginRefusal::Expired => NotSwitchedWhy::NoBegun,
                    BeginRefusal::OtherBoot => NotSwitchedWhy::Restarted,
                    _ => NotSwitchedWhy::BeginRefused,
                };
                self.defer(i, deferred, now);
                BeginAnswer::Refused(why)
            }
            None => {
                self.expose(i, ask, now);
                BeginAnswer::Begun
            }
        }
    }

    /// From here on the host counts.
    pub(super) fn expose(&mut self, i: usize, ask: &Ask, now: Timestamp) {
        let ring = self.members[i].ring;
        let express = matches!(&self.members[i].stage, Stage::Granted(grant) if grant.express);
        if express {
            self.express_begins.push_back(now);
            forget_old(&mut self.express_begins, now);
        } else if self.adds_reboot(ring) {
            self.verify_boots.push_back(now);
            forget_old(&mut self.verify_boots, now);
        }
        let exposure = Exposure {
            nonce: ask.nonce,
            begun_at: now,
            boot: ask.boot,
            agent_start: ask.agent_start,
            boottime: ask.boottime,
            first_signal: ask.next_signal,
            phase: Phase::Begun,
            applied_at: None,
            committed: false,
            absent: None,
            away: Millis::ZERO,
            slotless: false,
            reboots: self.spec.boots || self.verify_boot(ring),
            express,
            newcomer: false,
            patience: Millis::ZERO,
            heard: now,
            cause: None,
            gone: None,
        };
        self.enter(i, now, Stage::Exposed(Box::new(exposure)));
        self.evidence.elapse(now);
        self.evidence.exposed(ring);
        self.dirty_self = true;
    }

    /// A grant or exposure that proved not switched: its nonce is dead, the host may try again.
    pub(super) fn defer(&mut self, i: usize, why: NotSwitchedWhy, now: Timestamp) {
        let Some(nonce) = self.members[i].nonce() else {
            return;
        };
        let begun = matches!(self.members[i].stage, Stage::Exposed(_));
        let ring = self.members[i].ring;
        let its_own = !matches!(
            why,
            NotSwitchedWhy::BeginRefused | NotSwitchedWhy::Superseded
        );
        let heartbeat = self.pace.heartbeat;
        self.change(i, now, |member| {
            member.bury(nonce);
            member.deferrals = member.deferrals.saturating_add(u8::from(its_own));
            let pause = heartbeat.times(1 << member.deferrals.min(10));
            member.not_before = now + pause.min(BACKOFF_MAX);
        });
        self.enter(i, now, Stage::Deferred(why));
        if begun {
            self.evidence.uncounted(ring);
            self.dirty_self = true;
        }
    }

    /// A grant of this host is withdrawn, because a rollback of what it runs comes first.
    pub fn withdraw(&mut self, host: HostId, now: Timestamp) {
        if let Some(i) = self.member_index(host)
            && matches!(self.members[i].stage, Stage::Granted(_))
        {
            self.defer(i, NotSwitchedWhy::Superseded, now);
        }
    }
}

fn last_hour(log: &std::collections::VecDeque<Timestamp>, now: Timestamp) -> u64 {
    log.iter()
        .rev()
        .take_while(|at| **at + Millis::hours(1) > now)
        .count() as u64
}

fn forget_old(log: &mut std::collections::VecDeque<Timestamp>, now: Timestamp) {
    while log.front().is_some_and(|at| *at + Millis::hours(1) <= now) {
        log.pop_front();
    }
}
