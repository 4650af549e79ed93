//! What people read of a rollout. "Not now" always has its reason.

use super::cause::with_causes;
use super::member::{Ending, Invite, Member, Readiness, Stage};
use super::ring::{Bucket, Ring, Shown};
use super::{Rollout, Status};
use ringward_domain::cause::CauseCount;
use ringward_domain::report::{MemberState, MemberView, RingState, RingView, RolloutView, WaitWhy};
use ringward_domain::{HostId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Hosts listed by name at most.
const NAMED_MAX: usize = 1000;

impl Rollout {
    /// The whole rollout. `hostname` tells a host's name.
    #[must_use]
    pub fn view(&self, hostname: &dyn Fn(HostId) -> String, now: Timestamp) -> RolloutView {
        let named = |of: fn(&Shown) -> &BTreeSet<usize>| {
            let found = self.indices(of, NAMED_MAX).into_iter();
            let views = found.map(|i| self.member_view(&self.members[i], hostname, now));
            views.collect()
        };
        let (failed, causes) = self.causes();
        RolloutView {
            id: self.id,
            kind: self.spec.kind,
            package: self.spec.package.clone(),
            version: self.spec.version.clone(),
            release: self.spec.release,
            leaves: self
                .spec
                .leaves
                .as_ref()
                .map(|(_, version)| version.clone()),
            state: self.shown_state(),
            state_reason: self.state_reason(now, failed, &causes),
            started_unix_ms: self.spec.started_unix_ms,
            started_by: self.spec.started_by.clone(),
            reason: self.spec.reason.clone(),
            rings: self.ring_views(now),
            verdict: self.verdict(now),
            silent_hosts: named(|shown| &shown.silent),
            failed_hosts: named(|shown| &shown.failed),
            evidence_to_halt_ms: self.evidence_to_halt_ms,
            notes: self.pace.notes(),
            suspects: self.suspects.clone(),
            proposal: String::new(),
            forecast: self.forecast(),
            causes,
        }
    }

    fn shown_state(&self) -> ringward_domain::report::RolloutState {
        match &self.status {
            Status::Running | Status::Held(_) => self.not_exposing().unwrap_or(self.status.state()),
            status => status.state(),
        }
    }

    fn state_reason(&self, now: Timestamp, failed: u64, causes: &[CauseCount]) -> String {
        match &self.status {
            Status::Running if self.not_exposing().is_some() => {
                "every rollout is paused (stop-all); rollbacks go on".to_owned()
            }
            Status::Running if self.starting(now) => WaitWhy::ServerStarting.to_string(),
            Status::Running | Status::Completed => String::new(),
            Status::Held(_) => self.verdict(now).sentence,
            Status::Halted(_, halted) => with_causes(halted, failed, causes),
            Status::Paused(reason) | Status::Aborted(reason) => reason.clone(),
        }
    }

    /// Members of all rings in the order of exposure, at most so many.
    fn indices(&self, of: fn(&Shown) -> &BTreeSet<usize>, most: usize) -> Vec<usize> {
        let rings = self.rings.iter();
        let mut found: Vec<usize> = rings
            .flat_map(|ring| of(&ring.shown).iter().take(most).copied())
            .collect();
        found.sort_unstable();
        found.truncate(most);
        found
    }

    /// Members whose exposure counts as failed, in the order of exposure.
    pub fn failures(&self) -> impl Iterator<Item = &Member> {
        let mut found = self.indices(|shown| &shown.failed, usize::MAX);
        found.extend(self.indices(|shown| &shown.silent, usize::MAX));
        found.sort_unstable();
        found.into_iter().map(|i| &self.members[i])
    }

    /// Members still to be exposed that wait for a maintenance window.
    #[must_use]
    pub fn outside_maintenance(&self) -> u64 {
        let rings = self.rings.iter();
        rings.map(|ring| ring.shown.outside_maintenance).sum()
    }

    /// Counts everything anew and compares: every test and simulation with assertions is a test of the
    /// counts that follow each change.
    #[cfg(debug_assertions)]
    fn assert_counts(&self, now: Timestamp) {
        for (index, ring) in self.rings.iter().enumerate() {
            let mut counted = Shown::default();
            let mut waits: BTreeMap<WaitWhy, u64> = BTreeMap::new();
            for i in (0..self.members.len()).filter(|i| self.members[*i].ring == index) {
                counted.count(i, self.tally(i, now), true);
                if matches!(self.members[i].stage, Stage::Waiting) {
                    *waits.entry(self.wait(i, now)).or_default() += 1;
                }
            }
            assert!(
                counted.agrees(&ring.shown),
                "{counted:?}, not {:?}",
                ring.shown
            );
            assert_eq!(waits, self.waits(index, ring, now));
        }
    }

    fn ring_views(&self, now: Timestamp) -> Vec<RingView> {
        #[cfg(debug_assertions)]
        self.assert_counts(now);
        let rings = self.rings.iter().enumerate();
        rings
            .map(|(i, ring)| self.ring_view(i, ring, self.waits(i, ring, now)))
            .collect()
    }

    /// Why members of a ring wait, without looking at each of them.
    fn waits(&self, index: usize, ring: &Ring, now: Timestamp) -> BTreeMap<WaitWhy, u64> {
        let mut waits = BTreeMap::new();
        for (readiness, members) in &ring.shown.unready {
            let why = readiness.wait().unwrap_or(WaitWhy::NotItsTurn);
            *waits.entry(why).or_default() += members;
        }
        for (claim, members) in &ring.shown.ready {
            // Whether its next try is due makes no difference to the words.
            let why = self.why_not_claim(index, *claim, true, now);
            let why = why.unwrap_or(match claim.invited {
                true => WaitWhy::Preparing,
                false => WaitWhy::NotItsTurn,
            });
            *waits.entry(why).or_default() += members;
        }
        waits
    }

    fn ring_view(&self, i: usize, ring: &Ring, waits: BTreeMap<WaitWhy, u64>) -> RingView {
        let state = match i.cmp(&self.current) {
            std::cmp::Ordering::Less => RingState::Complete,
            std::cmp::Ordering::Equal => RingState::Open,
            std::cmp::Ordering::Greater => RingState::Waiting,
        };
        let open = state == RingState::Open && self.not_exposing().is_none();
        let mut waits: Vec<(WaitWhy, u64)> = waits.into_iter().collect();
        waits.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        RingView {
            name: ring.record.name.clone(),
            state,
            members: ring.members,
            in_flight: ring.in_flight + ring.express,
            window: if open { self.window } else { 0 },
            waiting: ring.count(Bucket::Waiting),
            soaking: ring.count(Bucket::Soaking),
            confirmed: ring.count(Bucket::Confirmed),
            already_there: ring.count(Bucket::AlreadyThere),
            failed: ring.count(Bucket::Failed),
            reverted: ring.count(Bucket::Reverted),
            silent: ring.count(Bucket::Silent),
            deferred: ring.count(Bucket::Deferred),
            refused: ring.count(Bucket::Refused),
            away: ring.count(Bucket::Away),
            stragglers: if state == RingState::Complete {
                ring.count(Bucket::Waiting)
            } else {
                0
            },
            waits,
        }
    }

    /// One member as people read it.
    #[must_use]
    pub fn member_view(
        &self,
        member: &Member,
        hostname: &dyn Fn(HostId) -> String,
        now: Timestamp,
    ) -> MemberView {
        MemberView {
            host: member.host,
            hostname: hostname(member.host),
            state: self.state_of(member, now),
            late: member.late,
            nonce: member.nonce(),
            for_ms: now.since(member.since),
            cause: self.cause_shown(member),
        }
    }

    /// How a member stands, with the reason of every wait.
    #[must_use]
    pub fn state_of(&self, member: &Member, now: Timestamp) -> MemberState {
        match &member.stage {
            Stage::Waiting => match self.member_index(member.host) {
                Some(i) => MemberState::Waiting(self.wait(i, now)),
                None => MemberState::Waiting(WaitWhy::NotItsTurn),
            },
            Stage::AlreadyThere => MemberState::AlreadyThere,
            Stage::Refused(why) => MemberState::Refused(*why),
            Stage::Granted(_) => MemberState::Granted,
            Stage::Exposed(exposure) => exposure.state(),
            Stage::Deferred(why) => MemberState::Deferred(*why),
            Stage::Ended(ending, _) => match ending {
                Ending::Confirmed => MemberState::Confirmed,
                Ending::Failed(why) => MemberState::Failed(*why),
                Ending::Reverted(why) => MemberState::Reverted(*why),
                Ending::Silent => MemberState::Silent,
                Ending::RolledBack => {
                    MemberState::Reverted(ringward_domain::ledger::RevertWhy::Ordered)
                }
            },
        }
    }

    fn wait(&self, i: usize, now: Timestamp) -> WaitWhy {
        let readiness = self.members[i].readiness;
        // Whether the host is there matters first, then whether its turn has come, then the rest.
        match readiness {
            Readiness::Ready => {
                self.why_not(i, None, now)
                    .unwrap_or(match self.members[i].invite {
                        Invite::None | Invite::Lapsed => WaitWhy::NotItsTurn,
                        Invite::Until(_) => WaitWhy::Preparing,
                    })
            }
            other => other.wait().unwrap_or(WaitWhy::NotItsTurn),
        }
    }
}
