//! One ring of a rollout with its counts, kept as members change.

use super::member::{Ending, Exposure, Invite, Lane, Member, Phase, Readiness, Stage};
use ringward_domain::RingName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What is written down of a ring.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RingRecord {
    /// Its name.
    pub name: RingName,
    /// Members without those that joined later.
    pub size: u64,
    /// A person resumed the rollout in spite of this ring: its share no longer matters.
    #[serde(default)]
    pub accepted: bool,
    /// The window with which the ring before it ended.
    #[serde(default)]
    pub previous_window: u64,
    /// Members never exposed when it completed.
    #[serde(default)]
    pub stragglers: u64,
}

/// A ring with counts of its members.
#[derive(Debug, Clone)]
pub struct Ring {
    /// What is written down.
    pub record: RingRecord,
    /// Members, with those that joined later.
    pub members: u64,
    /// Members by what people read, see [`Bucket`].
    buckets: [u64; Bucket::ALL],
    /// Live grants and unresolved exposures in the window.
    pub in_flight: u64,
    /// The same ahead of the window.
    pub express: u64,
    /// Members the ring waits for: they may become grantable by themselves.
    pub awaited: u64,
    /// Members told that a request has a chance, a place being kept for them.
    pub invited: u64,
    /// Members that could be invited now, by index.
    pub queue: BTreeSet<usize>,
    /// The same, of members that go ahead of the window.
    pub express_queue: BTreeSet<usize>,
    /// What people read of it beyond the buckets.
    pub(super) shown: Shown,
}

/// Kept with every change, for people who look at a rollout of 100,000 hosts five times a second: to go
/// through its members each time took the server a third of a core.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown {
    /// Members that wait and are not ready, by what they are.
    pub(super) unready: Vec<(Readiness, u64)>,
    /// Members that wait and are ready, by what may keep them.
    pub(super) ready: Vec<(Claim, u64)>,
    /// Members still to be exposed that can be, and those under way.
    pub(super) coming: u64,
    /// Members still to be exposed that cannot be now.
    pub(super) idle: u64,
    /// Of those still to be exposed, members outside of their maintenance windows.
    pub(super) outside_maintenance: u64,
    /// Members that failed with a word or went back, by index.
    pub(super) failed: BTreeSet<usize>,
    /// Members that went silent, by index.
    pub(super) silent: BTreeSet<usize>,
}

/// What of a ready member itself decides why it is not granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) group_busy: bool,
    pub(super) failed_before: bool,
    pub(super) invited: bool,
}

/// The part of a [`Tally`] that is kept in [`Shown`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Standing {
    waits: Option<Waits>,
    coming: bool,
    idle: bool,
    outside_maintenance: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    Unready(Readiness),
    Ready(Claim),
}

impl Standing {
    fn of(member: &Member, claim: Claim) -> Self {
        let waits = match (&member.stage, member.readiness) {
            (Stage::Waiting, Readiness::Ready) => Some(Waits::Ready(claim)),
            (Stage::Waiting, other) => Some(Waits::Unready(other)),
            _ => None,
        };
        let soon = matches!(
            member.readiness,
            Readiness::Ready | Readiness::Preparing | Readiness::OtherTrial
        );
        let under_way = matches!(member.stage, Stage::Granted(_) | Stage::Exposed(_));
        Self {
            waits,
            coming: under_way || member.grantable() && soon,
            idle: member.grantable() && !soon,
            outside_maintenance: member.grantable()
                && member.readiness == Readiness::OutsideMaintenance,
        }
    }
}

fn count<K: PartialEq>(counts: &mut Vec<(K, u64)>, key: K, more: bool) {
    let found = counts.iter().position(|(known, _)| *known == key);
    match (found, more) {
        (Some(at), true) => counts[at].1 += 1,
        (Some(at), false) => {
            counts[at].1 -= 1;
            if counts[at].1 == 0 {
                counts.swap_remove(at);
            }
        }
        (None, true) => counts.push((key, 1)),
        (None, false) => debug_assert!(false, "what was counted in is counted out"),
    }
}

impl Shown {
    /// Whether both count the same, in whatever order.
    #[cfg(debug_assertions)]
    pub(super) fn agrees(&self, other: &Self) -> bool {
        let same = |one: &Self, other: &Self| {
            one.unready
                .iter()
                .all(|count| other.unready.contains(count))
                && one.ready.iter().all(|count| other.ready.contains(count))
        };
        let rest = |shown: &Self| (shown.coming, shown.idle, shown.outside_maintenance);
        same(self, other)
            && same(other, self)
            && rest(self) == rest(other)
            && self.failed == other.failed
            && self.silent == other.silent
    }

    pub(super) fn count(&mut self, index: usize, tally: Tally, more: bool) {
        let standing = tally.standing;
        match standing.waits {
            Some(Waits::Unready(readiness)) => count(&mut self.unready, readiness, more),
            Some(Waits::Ready(claim)) => count(&mut self.ready, claim, more),
            None => {}
        }
        let step = |counter: &mut u64, counted: bool| match more {
            true => *counter += u64::from(counted),
            false => *counter -= u64::from(counted),
        };
        step(&mut self.coming, standing.coming);
        step(&mut self.idle, standing.idle);
        step(&mut self.outside_maintenance, standing.outside_maintenance);
        let set = match tally.bucket {
            Bucket::Failed | Bucket::Reverted => &mut self.failed,
            Bucket::Silent => &mut self.silent,
            _ => return,
        };
        match more {
            true => set.insert(index),
            false => set.remove(&index),
        };
    }
}

/// What people count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bucket {
    /// Not exposed.
    Waiting,
    /// Granted, begun, applied or rebooting.
    Early,
    /// Soaking.
    Soaking,
    /// Exposed and away as announced.
    Away,
    /// Confirmed.
    Confirmed,
    /// Already on the wanted release.
    AlreadyThere,
    /// Failed with a word.
    Failed,
    /// Went back by itself.
    Reverted,
    /// Silent.
    Silent,
    /// Ended without credit or failure.
    Deferred,
    /// Refused.
    Refused,
}

impl Bucket {
    const ALL: usize = 11;

    /// Where a member is counted.
    #[must_use]
    pub fn of(member: &Member) -> Self {
        match &member.stage {
            Stage::Waiting => Self::Waiting,
            Stage::AlreadyThere => Self::AlreadyThere,
            Stage::Refused(_) => Self::Refused,
            Stage::Granted(_) => Self::Early,
            Stage::Exposed(exposure) => Self::of_exposure(exposure),
            Stage::Deferred(_) | Stage::Ended(Ending::RolledBack, _) => Self::Deferred,
            Stage::Ended(Ending::Confirmed, _) => Self::Confirmed,
            Stage::Ended(Ending::Failed(_), _) => Self::Failed,
            Stage::Ended(Ending::Reverted(_), _) => Self::Reverted,
            Stage::Ended(Ending::Silent, _) => Self::Silent,
        }
    }

    fn of_exposure(exposure: &Exposure) -> Self {
        match (exposure.absent, exposure.phase) {
            (Some(_), _) => Self::Away,
            (None, Phase::Soaking) => Self::Soaking,
            (None, Phase::Begun | Phase::Applied | Phase::Rebooting) => Self::Early,
        }
    }
}

/// Where one member is counted; compared before and after each change of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    bucket: Bucket,
    lane: Option<Lane>,
    invited: bool,
    awaited: bool,
    queued: bool,
    express: bool,
    standing: Standing,
}

impl Tally {
    /// `backing_off`: its next try is not due yet. `group_busy`: another host of its group is in
    /// flight, invited or lost.
    pub(super) fn of(member: &Member, backing_off: bool, group_busy: bool) -> Self {
        let ready = member.grantable() && member.readiness == Readiness::Ready;
        let invited = member.grantable() && matches!(member.invite, Invite::Until(_));
        let soon = match member.readiness {
            Readiness::Ready => !group_busy,
            Readiness::Preparing
            | Readiness::OtherTrial
            | Readiness::OutsideMaintenance
            | Readiness::Runs => true,
            _ => false,
        };
        // A host that never managed to switch is asked again, but no ring waits for it for ever.
        let tries_left = member.deferrals < super::DEFERRALS_AWAITED_MAX;
        Self {
            bucket: Bucket::of(member),
            lane: member.lane(),
            invited,
            awaited: member.grantable() && !member.stalled && tries_left && (invited || soon),
            queued: ready && member.invite == Invite::None && !backing_off && !group_busy,
            express: member.failed_before,
            standing: Standing::of(
                member,
                Claim {
                    group_busy,
                    failed_before: member.failed_before,
                    invited,
                },
            ),
        }
    }
}

impl Ring {
    pub(super) fn new(record: RingRecord) -> Self {
        Self {
            record,
            members: 0,
            buckets: [0; Bucket::ALL],
            in_flight: 0,
            express: 0,
            awaited: 0,
            invited: 0,
            queue: BTreeSet::new(),
            express_queue: BTreeSet::new(),
            shown: Shown::default(),
        }
    }

    /// How many members are counted there.
    #[must_use]
    pub fn count(&self, bucket: Bucket) -> u64 {
        self.buckets[bucket as usize]
    }

    pub(super) fn add(&mut self, index: usize, tally: Tally) {
        self.buckets[tally.bucket as usize] += 1;
        match tally.lane {
            Some(Lane::Window) => self.in_flight += 1,
            Some(Lane::Express) => self.express += 1,
            None => {}
        }
        self.shown.count(index, tally, true);
        self.awaited += u64::from(tally.awaited);
        self.invited += u64::from(tally.invited);
        if tally.queued {
            self.queue_of(tally.express).insert(index);
        }
    }

    pub(super) fn remove(&mut self, index: usize, tally: Tally) {
        self.buckets[tally.bucket as usize] -= 1;
        match tally.lane {
            Some(Lane::Window) => self.in_flight -= 1,
            Some(Lane::Express) => self.express -= 1,
            None => {}
        }
        self.shown.count(index, tally, false);
        self.awaited -= u64::from(tally.awaited);
        self.invited -= u64::from(tally.invited);
        if tally.queued {
            self.queue_of(tally.express).remove(&index);
        }
    }

    fn queue_of(&mut self, express: bool) -> &mut BTreeSet<usize> {
        if express {
            &mut self.express_queue
        } else {
            &mut self.queue
        }
    }
}
