//! Caps on what takes hosts out of service, over quarantine, reboot and unpaced rollback together
//! (DESIGN §2.8): the control plane must never be the next outage.

use crate::policy::HourlyCap;
use crate::slips::{Slip, slipped};
use ringward_domain::order_spec::CapKind;
use ringward_domain::{HostId, Millis, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The time over which the caps count.
pub const HOUR: Millis = Millis::hours(1);
/// How far above the caps one person alone may go by breaking the glass: never without bound, for a
/// stolen account can break it too.
pub const GLASS_TIMES: u64 = 5;

/// The caps in force.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Brakes {
    /// Hosts of the fleet an hour.
    pub hour: HourlyCap,
    /// Hosts of one ring an hour.
    pub ring: HourlyCap,
    /// Hosts isolated at once.
    pub share: HourlyCap,
}

impl Default for Brakes {
    fn default() -> Self {
        Self {
            hour: HourlyCap {
                least: 2,
                share: 0.01,
            },
            // A ring is smaller than the fleet: a canary of 20 loses at most two hosts an hour.
            ring: HourlyCap {
                least: 2,
                share: 0.05,
            },
            share: HourlyCap {
                least: 5,
                share: 0.1,
            },
        }
    }
}

impl Brakes {
    /// What is looser here than in `before`, in words.
    #[must_use]
    pub fn loosened(&self, before: &Self) -> Vec<String> {
        let caps = [
            ("hosts disrupted an hour", self.hour, before.hour),
            ("hosts of a ring disrupted an hour", self.ring, before.ring),
            ("hosts isolated at once", self.share, before.share),
        ];
        caps.into_iter()
            .filter(|(_, is, was)| is.least > was.least || is.share > was.share)
            .map(|(what, is, was)| {
                format!(
                    "{what}: max({}, {} %) instead of max({}, {} %)",
                    is.least,
                    is.share * 100.0,
                    was.least,
                    was.share * 100.0
                )
            })
            .collect()
    }
}

/// Where a host stands, as far as the caps care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its ring, by number.
    pub ring: usize,
    /// Its redundancy group; 0: none.
    pub group: u64,
}

/// How loaded the caps are now.
#[derive(Debug, Default)]
pub struct Load {
    fleet: u64,
    rings: BTreeMap<usize, u64>,
    groups: BTreeMap<u64, u64>,
    /// Hosts disrupted within the hour.
    hour: BTreeSet<HostId>,
    hour_by_ring: BTreeMap<usize, u64>,
    /// Hosts of a group that are isolated, or were disrupted within the hour.
    out_of_group: BTreeMap<u64, u64>,
    out: BTreeSet<HostId>,
    isolated: BTreeSet<HostId>,
}

impl Load {
    /// Of a fleet, with these hosts disrupted at these times and those isolated now.
    #[must_use]
    pub fn new(
        fleet: impl Iterator<Item = Place>,
        disrupted: impl Iterator<Item = (HostId, Timestamp, Place)>,
        isolated: impl Iterator<Item = (HostId, Place)>,
        now: Timestamp,
    ) -> Self {
        let mut load = Self::default();
        for place in fleet {
            load.fleet += 1;
            *load.rings.entry(place.ring).or_default() += 1;
            *load.groups.entry(place.group).or_default() += 1;
        }
        for (host, at, place) in disrupted {
            if now.since(at) < HOUR {
                load.disrupt(host, place);
            }
        }
        for (host, place) in isolated {
            load.isolate(host, place);
        }
        load
    }

    fn leaves_group(&mut self, host: HostId, place: Place) {
        if self.out.insert(host) && place.group != 0 {
            *self.out_of_group.entry(place.group).or_default() += 1;
        }
    }

    /// Counts a host that is disrupted.
    pub fn disrupt(&mut self, host: HostId, place: Place) {
        if self.hour.insert(host) {
            *self.hour_by_ring.entry(place.ring).or_default() += 1;
        }
        self.leaves_group(host, place);
    }

    /// Counts a host that is isolated.
    pub fn isolate(&mut self, host: HostId, place: Place) {
        self.isolated.insert(host);
        self.leaves_group(host, place);
    }

    /// Whether one more host may be disrupted now, under so many times the caps (1 unless somebody
    /// breaks the glass).
    ///
    /// # Errors
    /// The first cap in the way.
    pub fn room(
        &self,
        brakes: &Brakes,
        host: HostId,
        place: Place,
        isolates: bool,
        times: u64,
    ) -> Result<(), CapKind> {
        // A host takes one place within the hour, however often it is meant. It is no way in either:
        // where two people went beyond a cap, what they took back is not one person's to order again.
        let itself = u64::from(self.hour.contains(&host));
        let free = itself == 1 && slipped(Slip::TakenBackIsFree);
        if !free && self.hour.len() as u64 - itself >= brakes.hour.of(self.fleet) * times {
            return Err(CapKind::Hour);
        }
        let ring = self.rings.get(&place.ring).copied().unwrap_or(0);
        let of_ring = self.hour_by_ring.get(&place.ring).copied().unwrap_or(0);
        if !free && of_ring.saturating_sub(itself) >= brakes.ring.of(ring) * times {
            return Err(CapKind::Ring);
        }
        if place.group != 0 && !self.isolated.contains(&host) {
            let size = self.groups.get(&place.group).copied().unwrap_or(1);
            let out = self.out_of_group.get(&place.group).copied().unwrap_or(0);
            let out = out.saturating_sub(u64::from(self.out.contains(&host)));
            if out >= group_cap(size) {
                return Err(CapKind::Group);
            }
        }
        let isolated = self.isolated.len() as u64;
        if isolates
            && !self.isolated.contains(&host)
            && isolated >= brakes.share.of(self.fleet) * times
        {
            return Err(CapKind::Share);
        }
        Ok(())
    }
}

/// Hosts of a redundancy group that may be out at once: fewer than half, so that what needs a quorum
/// keeps one; of two hosts one, of one host that one.
#[must_use]
pub fn group_cap(size: u64) -> u64 {
    (size.saturating_sub(1) / 2).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(fleet: u64, out: u64, group: u64) -> Load {
        let place = Place { ring: 0, group };
        Load::new(
            (0..fleet).map(|_| place),
            (0..out).map(|n| (HostId(n), Timestamp(0), place)),
            std::iter::empty(),
            Timestamp(1),
        )
    }

    #[test]
    fn the_default_caps_are_those_of_the_design() {
        let brakes = Brakes::default();
        let place = Place { ring: 0, group: 0 };
        for (fleet, cap) in [(5, 2), (200, 2), (300, 3), (10_000, 100)] {
            let next = HostId(1_000_000);
            assert_eq!(
                load(fleet, cap - 1, 0).room(&brakes, next, place, true, 1),
                Ok(())
            );
            assert_eq!(
                load(fleet, cap, 0).room(&brakes, next, place, true, 1),
                Err(CapKind::Hour)
            );
        }
    }

    #[test]
    fn a_redundancy_group_keeps_its_quorum() {
        for (size, cap) in [(1, 1), (2, 1), (3, 1), (4, 1), (5, 2), (7, 3)] {
            assert_eq!(group_cap(size), cap, "{size}");
        }
        let place = Place { ring: 0, group: 9 };
        let of = load(3, 1, 9);
        assert_eq!(
            of.room(&Brakes::default(), HostId(50), place, false, 1),
            Err(CapKind::Group)
        );
    }

    #[test]
    fn what_two_people_took_back_is_not_one_persons_to_order_again() {
        let brakes = Brakes::default();
        let place = Place { ring: 0, group: 0 };
        let beyond = load(100, 50, 0);
        let again = beyond.room(&brakes, HostId(7), place, true, 1);
        assert_eq!(again, Err(CapKind::Hour));
        let within = load(100, 2, 0);
        assert_eq!(within.room(&brakes, HostId(1), place, true, 1), Ok(()));
    }

    #[test]
    fn an_hour_later_there_is_room_again() {
        let place = Place { ring: 0, group: 0 };
        let out = (0..2).map(|n| (HostId(n), Timestamp(0), place));
        let later = Timestamp(0) + HOUR;
        let load = Load::new((0..5).map(|_| place), out, std::iter::empty(), later);
        let brakes = Brakes::default();
        assert_eq!(load.room(&brakes, HostId(7), place, true, 1), Ok(()));
    }
}
