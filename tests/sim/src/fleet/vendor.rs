//! Changes that others make, without any rollout: who is to blame?

use super::chance::Chance;
use super::outcome::Run;
use super::population::host;
use super::scenario::{Scenario, Vendor};
use ringward_domain::ids::Sha256;
use ringward_server_core::suspects::Suspects;

/// The change that kills, where one does.
const GUILTY: u32 = 0;
/// Changes that came with the guilty one, on its takers and as many others.
const COMPANIONS: u32 = 3;

/// One day of a fleet in which vendors change things. The ranking is asked on every failure, as an
/// incident would; what it ever named counts.
#[must_use]
pub fn run(scenario: &Scenario, hosts: u32, seed: u64) -> Run {
    let Some(vendor) = &scenario.vendor else {
        return Run {
            seed,
            hosts,
            ..Run::default()
        };
    };
    let mut chance = Chance::new(seed, 4);
    let mut suspects = Suspects::default();
    for i in 0..hosts {
        suspects.host(host(i));
    }
    unrelated(vendor, hosts, &mut suspects, &mut chance);
    let mut failing: Vec<u32> = Vec::new();
    for i in 0..hosts {
        let taker = chance.hits(vendor.takers);
        let along = chance.hits(vendor.takers);
        if taker && vendor.kills > 0.0 {
            suspects.took(host(i), fingerprint(GUILTY), "the guilty one");
        }
        for companion in 1..=COMPANIONS {
            if taker || along {
                suspects.took(host(i), fingerprint(companion), "a companion");
            }
        }
        if chance.hits(scenario.base) || taker && chance.hits(vendor.kills) {
            failing.push(i);
        }
    }
    // Failures come in any order.
    for k in (1..failing.len()).rev() {
        failing.swap(k, chance.below(k as u64 + 1) as usize);
    }
    let mut named = false;
    for (k, i) in failing.iter().enumerate() {
        suspects.failed(host(*i));
        if k < 50 {
            named |= suspects.ranking(1).first().is_some_and(|s| s.named);
        }
    }
    let ranking = suspects.ranking(20);
    let rank = ranking
        .iter()
        .position(|s| s.changes.first() == Some(&fingerprint(GUILTY)));
    Run {
        seed,
        hosts,
        failed: failing.len() as u64,
        lost: failing.len() as u64,
        halt_reason: ranking.first().map(|s| s.sentence()).unwrap_or_default(),
        guilty_rank: rank.map(|r| r as u64 + 1),
        named: Some(u64::from(named || ranking.iter().any(|s| s.named))),
        ..Run::default()
    }
}

/// Shares of the fleet from 0.1 % to 30 %, evenly in the logarithm.
fn unrelated(vendor: &Vendor, hosts: u32, suspects: &mut Suspects, chance: &mut Chance) {
    for c in 0..vendor.unrelated {
        let share = 0.001 * 300f64.powf(chance.unit());
        let gap = 1.0 / share;
        // Exponential gaps between takers: as many steps as takers.
        let mut at = chance.wait(gap) as u32;
        while at < hosts {
            suspects.took(host(at), fingerprint(1000 + c), "unrelated");
            at += 1 + chance.wait(gap) as u32;
        }
    }
}

fn fingerprint(c: u32) -> Sha256 {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&c.to_be_bytes());
    Sha256(bytes)
}
