//! One release walking the rings, clocked by survival (DESIGN §4).
//!
//! The machine stands alone: it is told what hosts do and answers; [`Rollout::drain`] says what has
//! to be written and who is to be invited. Members are kept in the order of exposure and named by
//! their index inside; every event costs `O(log n)`.

pub mod member;
pub mod order;
pub mod record;
pub mod ring;

mod absence;
mod attempt;
mod bookkeeping;
mod cause;
mod deadline;
mod forecast;
mod grant;
mod judge;
mod kinds;
mod plan;
mod view;

pub use attempt::{AttemptSeen, SignalSeen};
pub use grant::{Ask, BeginAnswer, GrantAnswer};
pub use judge::News;

use crate::evidence::Evidence;
use crate::policy::Pace;
use crate::salt::Salt;
use bookkeeping::occupies_group;
use member::{Ending, Member, Readiness, Stage};
use record::{COHORT_HOSTS_MAX, CohortRecord, MemberRecord, RolloutRecord};
use ring::{Ring, RingRecord};
use ringward_domain::ids::{ReleaseDigest, RolloutId};
use ringward_domain::incident::SuspectView;
use ringward_domain::report::{HaltWhy, HoldWhy, RolloutState};
use ringward_domain::{AssignmentKind, HostId, Millis, PackageName, Timestamp, Version};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Deferrals of one host that its ring waits for; later it is a straggler that may still ask.
pub const DEFERRALS_AWAITED_MAX: u8 = 4;

/// What a rollout brings, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// Install or rollback.
    pub kind: AssignmentKind,
    /// The package.
    pub package: PackageName,
    /// The release it brings.
    pub release: ReleaseDigest,
    /// Its version.
    pub version: Version,
    /// The release takes effect only after a boot.
    pub boots: bool,
    /// The release left, with its version (rollbacks).
    pub leaves: Option<(ReleaseDigest, Version)>,
    /// When the manifest expires, Unix seconds.
    #[serde(default)]
    pub expires_unix_s: Option<u64>,
    /// Orders rollouts by their start; the newest of a package prevails.
    pub number: u64,
    /// By whom it was started.
    pub started_by: String,
    /// For what reason, in a person's words.
    pub reason: String,
    /// When, Unix milliseconds, for display only.
    pub started_unix_ms: u64,
}

/// How a rollout stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Status {
    /// Exposes hosts.
    Running,
    /// Exposes nobody for now; lifts itself.
    Held(HoldWhy),
    /// Stopped by the verdict; a person lifts it. With the sentence of the verdict.
    Halted(HaltWhy, String),
    /// Stopped by a person, for this reason.
    Paused(String),
    /// Every ring is complete; stragglers still come.
    Completed,
    /// Ended by a person, for this reason.
    Aborted(String),
}

impl Status {
    /// The state without its reason.
    #[must_use]
    pub fn state(&self) -> RolloutState {
        match self {
            Self::Running => RolloutState::Running,
            Self::Held(_) => RolloutState::Held,
            Self::Halted(..) => RolloutState::Halted,
            Self::Paused(_) => RolloutState::Paused,
            Self::Completed => RolloutState::Completed,
            Self::Aborted(_) => RolloutState::Aborted,
        }
    }
}

/// One ring as planned: its name and hosts in the order of exposure.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedRing {
    /// Its name.
    pub name: ringward_domain::RingName,
    /// Its hosts with their redundancy groups (zero for none).
    pub hosts: Vec<(HostId, u64)>,
}

/// One rollout.
#[derive(Debug, Clone)]
pub struct Rollout {
    /// Its id.
    pub id: RolloutId,
    /// What it brings.
    pub spec: Spec,
    /// How carefully.
    pub pace: Pace,
    salt: Salt,
    status: Status,
    /// The andon: rollbacks go on.
    andon: bool,
    /// The manifest expired, as the edge says.
    expired: bool,
    rings: Vec<Ring>,
    current: usize,
    window: u64,
    members: Vec<Member>,
    index: BTreeMap<HostId, usize>,
    groups: BTreeMap<u64, Group>,
    /// Strata of each member, by its index.
    kinds: Vec<crate::strata::Kinds>,
    sites: Vec<kinds::Site>,
    /// Sites that went silent with nobody unexposed there.
    silent_sites: BTreeSet<u16>,
    evidence: Evidence,
    started_at: Timestamp,
    evidence_to_halt_ms: Option<u64>,
    /// Who was suspected when it halted.
    suspects: Vec<SuspectView>,
    /// How long the first confirmed hosts took from `Begin` to the first word on the release.
    switching: Vec<Millis>,
    /// Until then agents come back after a restart of the server.
    grace_until: Timestamp,
    deadlines: BTreeSet<(Timestamp, usize)>,
    /// `Begin`s of the last hour that a cap counts.
    verify_boots: VecDeque<Timestamp>,
    express_begins: VecDeque<Timestamp>,
    verify_grants: u64,
    express_grants: u64,
    dirty: BTreeSet<usize>,
    dirty_self: bool,
    invites: Vec<usize>,
    touched: BTreeSet<usize>,
    news: Vec<News>,
}

/// A redundancy group within a rollout.
#[derive(Debug, Clone, Default)]
struct Group {
    members: Vec<usize>,
    /// Members in flight, invited or lost.
    busy: u64,
}

/// What has to be done after a rollout changed.
#[derive(Debug, Default)]
pub struct Changes {
    /// The rollout itself has to be written.
    pub rollout: bool,
    /// Members to be written.
    pub members: Vec<HostId>,
    /// Members whose part changed in any way, written or not.
    pub touched: Vec<HostId>,
    /// Members to be told that a request has a chance, in order.
    pub invites: Vec<HostId>,
    /// What people should hear.
    pub news: Vec<News>,
}

impl Rollout {
    /// A rollout over planned rings; every member waits.
    #[must_use]
    pub fn new(
        id: RolloutId,
        spec: Spec,
        pace: Pace,
        salt: Salt,
        rings: &[PlannedRing],
        now: Timestamp,
    ) -> Self {
        let records = rings.iter().map(|ring| RingRecord {
            name: ring.name.clone(),
            size: ring.hosts.len() as u64,
            accepted: false,
            previous_window: 0,
            stragglers: 0,
        });
        let record = RolloutRecord {
            id,
            spec,
            pace,
            salt,
            status: Status::Running,
            rings: records.collect(),
            current: 0,
            evidence: Evidence::default(),
            started_at: now,
            evidence_to_halt_ms: None,
            suspects: Vec::new(),
        };
        let mut rollout = Self::empty(record);
        let members = rings.iter().enumerate().flat_map(|(ring, planned)| {
            planned
                .hosts
                .iter()
                .map(move |(host, group)| Member::new(*host, ring, *group, now))
        });
        rollout.fill(members.collect());
        rollout.dirty_self = true;
        rollout.renew_window();
        rollout
    }

    /// From what was written down. Cohorts and members may come in any order.
    ///
    /// Every open grant counts as just received and silence starts anew after the restart grace.
    #[must_use]
    pub fn restore(
        record: RolloutRecord,
        mut cohorts: Vec<CohortRecord>,
        changed: Vec<Member>,
        now: Timestamp,
    ) -> Self {
        let started_at = record.started_at;
        let mut rollout = Self::empty(record);
        cohorts.sort_by_key(|cohort| cohort.part);
        let mut members: Vec<Member> = cohorts
            .iter()
            .flat_map(|cohort| {
                cohort
                    .hosts
                    .iter()
                    .map(|(host, group)| Member::new(*host, cohort.ring, *group, started_at))
            })
            .collect();
        let place: BTreeMap<HostId, usize> = members
            .iter()
            .enumerate()
            .map(|(i, m)| (m.host, i))
            .collect();
        for member in changed {
            match place.get(&member.host) {
                Some(i) => members[*i] = member,
                None => members.push(member),
            }
        }
        members.retain(|member| member.ring < rollout.rings.len());
        rollout.grace_until = now + rollout.pace.restart_grace;
        for member in &mut members {
            rollout.restart_clocks(member, now);
        }
        rollout.fill(members);
        rollout.renew_window();
        rollout
    }

    fn restart_clocks(&mut self, member: &mut Member, now: Timestamp) {
        let (grace, pace) = (self.grace_until, self.pace);
        let hour_ago = now - Millis::hours(1);
        // Nothing of these is known any more, whoever hands the member over.
        (member.readiness, member.invite) = (Readiness::default(), member::Invite::None);
        (member.stalled, member.timer) = (false, None);
        match &mut member.stage {
            Stage::Granted(grant) => grant.expires = now + pace.grant_life,
            // An announced absence may have ended unseen; the host says so when it is back.
            Stage::Exposed(exposure) => exposure.heard = grace,
            Stage::Ended(Ending::Confirmed, exposure) => exposure.gone = Some(grace),
            _ => {}
        }
        if let Stage::Exposed(exposure) | Stage::Ended(_, exposure) = &member.stage
            && exposure.begun_at > hour_ago
        {
            if exposure.express {
                self.express_begins.push_back(exposure.begun_at);
            } else if self.adds_reboot(member.ring) {
                self.verify_boots.push_back(exposure.begun_at);
            }
        }
    }

    fn empty(record: RolloutRecord) -> Self {
        Self {
            id: record.id,
            spec: record.spec,
            pace: record.pace,
            salt: record.salt,
            status: record.status,
            andon: false,
            expired: false,
            rings: record.rings.into_iter().map(Ring::new).collect(),
            current: record.current,
            window: 1,
            members: Vec::new(),
            index: BTreeMap::new(),
            groups: BTreeMap::new(),
            kinds: Vec::new(),
            sites: Vec::new(),
            silent_sites: BTreeSet::new(),
            evidence: record.evidence,
            started_at: record.started_at,
            evidence_to_halt_ms: record.evidence_to_halt_ms,
            suspects: record.suspects,
            switching: Vec::new(),
            grace_until: Timestamp::default(),
            deadlines: BTreeSet::new(),
            verify_boots: VecDeque::new(),
            express_begins: VecDeque::new(),
            verify_grants: 0,
            express_grants: 0,
            dirty: BTreeSet::new(),
            dirty_self: false,
            invites: Vec::new(),
            touched: BTreeSet::new(),
            news: Vec::new(),
        }
    }

    fn fill(&mut self, members: Vec<Member>) {
        let mut sorted: Vec<(HostId, usize)> = members
            .iter()
            .enumerate()
            .map(|(i, m)| (m.host, i))
            .collect();
        sorted.sort_unstable();
        self.index = sorted.into_iter().collect();
        for (i, member) in members.iter().enumerate().filter(|(_, m)| m.group != 0) {
            let group = self.groups.entry(member.group).or_default();
            group.members.push(i);
            group.busy += u64::from(occupies_group(member));
        }
        self.members = members;
        let mut times: Vec<VecDeque<Timestamp>> = vec![
            std::mem::take(&mut self.verify_boots),
            std::mem::take(&mut self.express_begins),
        ];
        for log in &mut times {
            log.make_contiguous().sort_unstable();
        }
        self.express_begins = times.pop().unwrap_or_default();
        self.verify_boots = times.pop().unwrap_or_default();
        for i in 0..self.members.len() {
            self.count_in(i, Timestamp::default());
            self.schedule(i);
        }
    }

    /// Adds a host that came after the start; a host that is a member already stays as it is.
    pub fn join(&mut self, host: HostId, ring: usize, group: u64, now: Timestamp) {
        if self.index.contains_key(&host) || ring >= self.rings.len() {
            return;
        }
        let i = self.members.len();
        self.members.push(Member::new(host, ring, group, now));
        self.index.insert(host, i);
        if group != 0 {
            self.groups.entry(group).or_default().members.push(i);
        }
        if self.kinds.len() == i {
            self.kinds.push(crate::strata::NO_KINDS);
        }
        self.count_in(i, now);
        self.dirty.insert(i);
        self.touched.insert(i);
    }

    /// Marks a member of a rollback as failed on the release it leaves, before it started.
    pub fn failed_before(&mut self, host: HostId, now: Timestamp) {
        if let Some(i) = self.member_index(host) {
            self.change(i, now, |m| m.failed_before = true);
            self.dirty.insert(i);
        }
    }

    /// Whether `verify_boot` makes hosts of this ring reboot although the release needs no boot.
    fn adds_reboot(&self, ring: usize) -> bool {
        self.verify_boot(ring) && !self.spec.boots
    }

    /// Whether hosts of this ring reboot after the switch.
    #[must_use]
    pub fn verify_boot(&self, ring: usize) -> bool {
        self.pace.verify_boot && ring == 0 && self.spec.kind == AssignmentKind::Install
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// The evidence.
    #[must_use]
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// A host's part in it.
    #[must_use]
    pub fn member(&self, host: HostId) -> Option<&Member> {
        self.member_index(host).map(|i| &self.members[i])
    }

    /// All members in the order of exposure, those that joined later at the end.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The rings with their counts.
    #[must_use]
    pub fn rings(&self) -> &[Ring] {
        &self.rings
    }

    /// Index of the ring under way; the number of rings when all are complete.
    #[must_use]
    pub fn current(&self) -> usize {
        self.current
    }

    /// Live grants and unresolved exposures that count against the window.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.rings.iter().map(|ring| ring.in_flight).sum()
    }

    /// The in-flight number at which no further grant is made.
    #[must_use]
    pub fn window(&self) -> u64 {
        self.window
    }

    /// Nothing is in flight and nobody will be exposed without a person's word.
    #[must_use]
    pub fn rests(&self) -> bool {
        let final_word = matches!(
            self.status,
            Status::Completed | Status::Halted(..) | Status::Aborted(_)
        );
        final_word
            && self
                .rings
                .iter()
                .all(|ring| ring.in_flight + ring.express == 0)
    }

    /// Members told that a request has a chance, for whom a place is kept.
    fn invited(&self) -> u64 {
        self.rings.iter().map(|ring| ring.invited).sum()
    }

    /// Whether [`drain`](Self::drain) has something to say.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.dirty_self
            || !self.dirty.is_empty()
            || !self.touched.is_empty()
            || !self.invites.is_empty()
            || !self.news.is_empty()
    }

    /// What has to be written, said and told since the last call.
    pub fn drain(&mut self) -> Changes {
        let host = |rollout: &Self, i: usize| rollout.members[i].host;
        let members = std::mem::take(&mut self.dirty);
        let touched = std::mem::take(&mut self.touched);
        let invites = std::mem::take(&mut self.invites);
        Changes {
            rollout: std::mem::take(&mut self.dirty_self),
            members: members.into_iter().map(|i| host(self, i)).collect(),
            touched: touched.into_iter().map(|i| host(self, i)).collect(),
            invites: invites.into_iter().map(|i| host(self, i)).collect(),
            news: std::mem::take(&mut self.news),
        }
    }

    /// What is written down of the rollout itself.
    #[must_use]
    pub fn record(&self) -> RolloutRecord {
        RolloutRecord {
            id: self.id,
            spec: self.spec.clone(),
            pace: self.pace,
            salt: self.salt,
            status: self.status.clone(),
            rings: self.rings.iter().map(|ring| ring.record.clone()).collect(),
            current: self.current,
            evidence: self.evidence.clone(),
            started_at: self.started_at,
            evidence_to_halt_ms: self.evidence_to_halt_ms,
            suspects: self.suspects.clone(),
        }
    }

    /// What is written down of one member.
    #[must_use]
    pub fn member_record(&self, host: HostId) -> Option<MemberRecord> {
        self.member(host).map(|member| MemberRecord {
            rollout: self.id,
            member: member.clone(),
        })
    }

    /// The members as they are at the start, in parts.
    #[must_use]
    pub fn cohort_records(&self) -> Vec<CohortRecord> {
        let mut parts = Vec::new();
        for ring in self.members.chunk_by(|a, b| a.ring == b.ring) {
            for hosts in ring.chunks(COHORT_HOSTS_MAX) {
                parts.push(CohortRecord {
                    rollout: self.id,
                    part: parts.len() as u32,
                    ring: hosts[0].ring,
                    hosts: hosts.iter().map(|m| (m.host, m.group)).collect(),
                });
            }
        }
        parts
    }

    /// Tells what a waiting host is ready for; costs nothing where nothing changed.
    pub fn readiness(&mut self, host: HostId, readiness: Readiness, now: Timestamp) {
        let Some(i) = self.member_index(host) else {
            return;
        };
        if self.members[i].readiness != readiness {
            self.ready_changed(i, readiness, now);
        }
    }

    fn ready_changed(&mut self, i: usize, readiness: Readiness, now: Timestamp) {
        self.change(i, now, |member| {
            member.dropped =
                readiness == Readiness::Unreachable && member.readiness != Readiness::Unreachable;
            member.readiness = readiness;
            member.stalled = false;
            if readiness != Readiness::Ready {
                member.invite = member::Invite::None;
            }
            if member.grantable() {
                member.since = now;
            }
        });
        self.follow_proven(i, readiness, now);
        match (&self.members[i].stage, readiness) {
            (Stage::Waiting | Stage::Deferred(_), Readiness::Runs) => {
                self.enter(i, now, Stage::AlreadyThere)
            }
            (Stage::Waiting | Stage::Deferred(_), Readiness::Refuses(why)) => {
                self.enter(i, now, Stage::Refused(why))
            }
            (Stage::AlreadyThere, Readiness::Refuses(why)) => {
                self.enter(i, now, Stage::Refused(why))
            }
            // Both are levels: a late word of an older time must not keep a host out for ever.
            (
                Stage::Refused(_),
                Readiness::Ready | Readiness::OutsideMaintenance | Readiness::Preparing,
            )
            | (
                Stage::AlreadyThere,
                Readiness::Ready
                | Readiness::OutsideMaintenance
                | Readiness::Preparing
                | Readiness::PrepareFailing,
            ) => self.enter(i, now, Stage::Waiting),
            _ => {}
        }
    }
}
