//! Which host belongs to which ring, and who comes first within it.

use super::PlannedRing;
use crate::host::group_of;
use crate::policy::RingPolicy;
use crate::salt::Salt;
use ringward_domain::HostId;
use ringward_domain::host::Labels;
use std::collections::BTreeMap;

/// A host as far as rings and order care.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The host.
    pub host: HostId,
    /// Labels of the server.
    pub labels: &'a Labels,
    /// Hardware model it reports.
    pub model: &'a str,
    /// OS build it reports.
    pub os_build: &'a str,
}

/// Puts every host into the first ring that matches it, ordered within. Also the hosts that no ring
/// takes. The same input gives the same plan.
#[must_use]
pub fn plan_rings(
    rings: &[RingPolicy],
    fleet: &[Candidate<'_>],
    salt: Salt,
) -> (Vec<PlannedRing>, Vec<HostId>) {
    let mut left: Vec<(u64, u32)> = fleet
        .iter()
        .zip(0..)
        .map(|(c, i)| (salt.place(c.host), i))
        .collect();
    left.sort_unstable();
    let (traits, kinds) = traits_of(fleet);
    let mut planned = Vec::with_capacity(rings.len());
    for (at, ring) in rings.iter().enumerate() {
        let picked = |i: u32| {
            ring.selector
                .as_ref()
                .is_none_or(|s| s.matches(fleet[i as usize].labels))
        };
        let takes_rest = at + 1 == rings.len() || ring.percent.is_none();
        let quota = match ring.percent {
            Some(percent) if !takes_rest => {
                let base = match ring.selector {
                    None => fleet.len(),
                    Some(_) => (0..fleet.len() as u32).filter(|i| picked(*i)).count(),
                };
                // 1e-9 keeps 1 % of 200 at 2 although 0.01 has no exact double.
                (base as f64 * percent / 100.0 - 1e-9).ceil() as usize
            }
            _ => usize::MAX,
        };
        let mut taken = Vec::new();
        left.retain(|(place, i)| {
            let take = taken.len() < quota && picked(*i);
            if take {
                taken.push((*place, *i));
            }
            !take
        });
        planned.push(PlannedRing {
            name: ring.name.clone(),
            hosts: ordered(&taken, fleet, &traits, kinds),
        });
    }
    (
        planned,
        left.into_iter()
            .map(|(_, i)| fleet[i as usize].host)
            .collect(),
    )
}

/// The ring a host that comes later belongs to: the first whose selector matches and that takes
/// every such host, otherwise the last one that matches.
#[must_use]
pub fn ring_of_late(rings: &[RingPolicy], labels: &Labels) -> Option<usize> {
    let matching = || {
        rings
            .iter()
            .enumerate()
            .filter(|(_, ring)| ring.selector.as_ref().is_none_or(|s| s.matches(labels)))
    };
    let whole = matching().find(|(_, ring)| ring.percent.is_none());
    whole.or(matching().next_back()).map(|(i, _)| i)
}

/// What orders a host within its ring. Drawn up once in the order of the fleet: looked up in salted
/// order, labels would cost a cache miss each.
struct Traits {
    criticality: u8,
    /// Model, OS build and site, with the criticality, as a small number.
    kind: usize,
    group: u64,
}

fn traits_of(fleet: &[Candidate<'_>]) -> (Vec<Traits>, usize) {
    let mut kinds: BTreeMap<(&str, &str, &str, u8), usize> = BTreeMap::new();
    let traits = fleet.iter().map(|candidate| {
        let site = candidate.labels.get("site").map_or("", String::as_str);
        let criticality = criticality(candidate.labels);
        let next = kinds.len();
        let kind = (candidate.model, candidate.os_build, site, criticality);
        Traits {
            criticality,
            kind: *kinds.entry(kind).or_insert(next),
            group: group_of(candidate.labels),
        }
    });
    let traits = traits.collect();
    (traits, kinds.len())
}

/// Low criticality first; within it one of every kind (model, OS build, site) before a second of
/// any; within that by salt.
fn ordered(
    ring: &[(u64, u32)],
    fleet: &[Candidate<'_>],
    traits: &[Traits],
    kinds: usize,
) -> Vec<(HostId, u64)> {
    let mut seen = vec![0u32; kinds];
    // `ring` is in salted order, so the salt also decides who stands for a kind.
    let keyed = ring.iter().map(|(place, i)| {
        let of = &traits[*i as usize];
        let rank = seen[of.kind];
        seen[of.kind] += 1;
        (of.criticality, rank, *place, *i)
    });
    let mut keyed: Vec<(u8, u32, u64, u32)> = keyed.collect();
    keyed.sort_unstable();
    let host = |i: u32| (fleet[i as usize].host, traits[i as usize].group);
    keyed.into_iter().map(|(_, _, _, i)| host(i)).collect()
}

/// Low before normal before high; unknown words count as high.
fn criticality(labels: &Labels) -> u8 {
    match labels.get("criticality").map(String::as_str) {
        Some("low") => 0,
        None | Some("normal" | "") => 1,
        Some(_) => 2,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn ring(name: &str, selector: Option<&str>, percent: Option<f64>) -> RingPolicy {
        RingPolicy {
            name: name.parse().unwrap(),
            selector: selector.map(|s| s.parse().unwrap()),
            percent,
        }
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn fleet(labels: &[Labels]) -> Vec<Candidate<'_>> {
        labels
            .iter()
            .zip(1..)
            .map(|(labels, i)| Candidate {
                host: HostId(i),
                labels,
                model: "m",
                os_build: "b",
            })
            .collect()
    }

    fn demo() -> Vec<RingPolicy> {
        vec![
            ring("canary", None, Some(1.0)),
            ring("early", None, Some(9.0)),
            ring("broad", None, Some(90.0)),
        ]
    }

    #[test]
    fn shares_are_rounded_up_and_the_last_ring_takes_the_rest() {
        for (size, expected) in [
            (0, [0, 0, 0]),
            (1, [1, 0, 0]),
            (5, [1, 1, 3]),
            (50, [1, 5, 44]),
            (200, [2, 18, 180]),
            (203, [3, 19, 181]),
        ] {
            let all = vec![Labels::new(); size];
            let (rings, none) = plan_rings(&demo(), &fleet(&all), Salt(1));
            assert_eq!(
                rings.iter().map(|r| r.hosts.len()).collect::<Vec<_>>(),
                expected,
                "{size}"
            );
            assert!(none.is_empty());
        }
    }

    #[test]
    fn the_first_matching_ring_wins_and_hosts_without_a_ring_are_told() {
        let rings = [
            ring("lab", Some("site=lab"), None),
            ring("half", Some("env"), Some(50.0)),
            ring("rest", Some("env"), None),
        ];
        let all = [
            labels(&[("site", "lab"), ("env", "a")]),
            labels(&[("env", "a")]),
            labels(&[("env", "b")]),
            labels(&[]),
        ];
        let (planned, none) = plan_rings(&rings, &fleet(&all), Salt(3));
        // Three hosts have the label env, half of them is two, rounded up; one is in the lab already.
        assert_eq!(
            planned.iter().map(|r| r.hosts.len()).collect::<Vec<_>>(),
            [1, 2, 0]
        );
        assert_eq!(none, [HostId(4)]);
        assert_eq!(ring_of_late(&rings, &all[0]), Some(0));
        assert_eq!(ring_of_late(&rings, &all[1]), Some(2));
        assert_eq!(ring_of_late(&rings, &all[3]), None);
    }

    #[test]
    fn low_criticality_and_one_of_every_kind_come_first() {
        let high = labels(&[("criticality", "high")]);
        let low = labels(&[("criticality", "low")]);
        let plain = Labels::new();
        let mut all = Vec::new();
        for i in 1..=30u64 {
            let (labels, model) = match i {
                1 => (&high, "a"),
                2 => (&low, "a"),
                3 => (&plain, "rare"),
                _ => (&plain, "a"),
            };
            all.push(Candidate {
                host: HostId(i),
                labels,
                model,
                os_build: "b",
            });
        }
        let (planned, _) = plan_rings(&[ring("all", None, None)], &all, Salt(9));
        let order: Vec<u64> = planned[0].hosts.iter().map(|(host, _)| host.0).collect();
        assert_eq!(order[0], 2);
        assert!(order[1..3].contains(&3), "{order:?}");
        assert_eq!(order[29], 1);
    }

    proptest! {
        #[test]
        fn every_host_is_in_exactly_one_ring_or_told_as_left_out(size in 0usize..300, salt in any::<u64>(), a in 0.1f64..50.0, b in 0.1f64..50.0) {
            let all: Vec<Labels> = (0..size).map(|i| if i % 3 == 0 { labels(&[("env", "x")]) } else { Labels::new() }).collect();
            let rings = [ring("a", Some("env"), Some(a)), ring("b", None, Some(b)), ring("c", Some("!env"), None)];
            let fleet = fleet(&all);
            let (planned, none) = plan_rings(&rings, &fleet, Salt(salt));
            let mut seen: Vec<HostId> = planned.iter().flat_map(|r| r.hosts.iter().map(|(h, _)| *h)).chain(none).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (1..=size as u64).map(HostId).collect::<Vec<_>>());
            prop_assert_eq!(plan_rings(&rings, &fleet, Salt(salt)).0, planned);
        }
    }
}
