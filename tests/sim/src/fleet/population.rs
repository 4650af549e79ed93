//! Who is in the fleet: kinds of hardware, builds, driver sets and sites, and what the release does
//! to whom.

use super::chance::Chance;
use super::scenario::Scenario;
use ringward_domain::HostId;
use ringward_domain::host::Labels;
use ringward_domain::ids::{ReleaseDigest, Sha256};
use ringward_server_core::policy::{Pace, Policy};
use ringward_server_core::rollout::PlannedRing;
use ringward_server_core::rollout::order::{Candidate, plan_rings};
use ringward_server_core::salt::Salt;

/// Hardware models; sizes fall like 1/(rank + 3), the largest about 10 %.
pub const MODELS: u16 = 40;
/// OS builds, 10 % to 40 %.
pub const BUILDS: u16 = 5;
/// Driver sets.
pub const DRIVERS: u16 = 12;
/// Sites of equal size beside one that may be given a share.
pub const SITES: u16 = 25;
/// The model a scenario harms.
pub const HARMED_MODEL: u16 = MODELS;

/// What one host is.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Hardware model.
    pub model: u16,
    /// OS build.
    pub build: u8,
    /// Driver set.
    pub drivers: u8,
    /// Site; 0 is the one that loses its network.
    pub site: u8,
    /// The release kills it.
    pub harmed: bool,
    /// Reports what never was.
    pub lies: bool,
}

/// Hosts are named 1..=n.
#[must_use]
pub fn host(i: u32) -> HostId {
    HostId(u64::from(i) + 1)
}

/// The index of a host.
#[must_use]
pub fn index(host: HostId) -> u32 {
    (host.0 - 1) as u32
}

/// Draws the fleet.
#[must_use]
pub fn draw(scenario: &Scenario, hosts: u32, chance: &mut Chance) -> Vec<Kind> {
    let weights: Vec<f64> = (0..MODELS).map(|r| 1.0 / (f64::from(r) + 3.0)).collect();
    let sum: f64 = weights.iter().sum();
    let mut steps: Vec<f64> = Vec::with_capacity(weights.len());
    for weight in weights {
        steps.push(steps.last().copied().unwrap_or(0.0) + weight / sum);
    }
    let outage = scenario
        .outage
        .as_ref()
        .map_or(1.0 / f64::from(SITES), |o| o.share);
    let (share, model_share) = scenario
        .harm
        .as_ref()
        .map_or((0.0, None), |h| (h.share, h.model_share));
    let liars = scenario.liars.as_ref().map_or(0.0, |l| l.share);
    (0..hosts)
        .map(|_| {
            let u = chance.unit();
            let mut model = steps
                .partition_point(|s| *s < u)
                .min(usize::from(MODELS) - 1) as u16;
            let harmed = match model_share {
                Some(part) => {
                    if chance.hits(part) {
                        model = HARMED_MODEL;
                    }
                    model == HARMED_MODEL && chance.hits(share)
                }
                None => chance.hits(share),
            };
            let site = if chance.hits(outage) {
                0
            } else {
                1 + chance.below(u64::from(SITES) - 1) as u8
            };
            let build = [0, 0, 0, 0, 1, 1, 1, 2, 3, 4][chance.below(10) as usize];
            Kind {
                model,
                build,
                drivers: chance.below(u64::from(DRIVERS)) as u8,
                site,
                harmed,
                lies: chance.hits(liars),
            }
        })
        .collect()
}

/// Words for what a host is, in the order of the strata: OS build, model, driver set, site.
#[must_use]
pub fn words(kind: &Kind) -> [String; 4] {
    [
        format!("build {}", kind.build),
        format!("model {}", kind.model),
        format!("drivers {}", kind.drivers),
        format!("site {}", kind.site),
    ]
}

/// The rings of 1, 9 and 90 %, as the server plans them.
#[must_use]
pub fn rings(kinds: &[Kind], seed: u64) -> (Vec<PlannedRing>, Pace, Salt) {
    let policy = Policy::default();
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&seed.to_be_bytes());
    let salt = Salt::new(&ReleaseDigest(digest), &Sha256([7; 32]));
    let labels: Vec<Labels> = (0..SITES)
        .map(|s| Labels::from([("site".to_owned(), format!("site {s}"))]))
        .collect();
    let models: Vec<String> = (0..=MODELS).map(|m| format!("model {m}")).collect();
    let builds: Vec<String> = (0..BUILDS).map(|b| format!("build {b}")).collect();
    let fleet: Vec<Candidate<'_>> = kinds
        .iter()
        .zip(0..)
        .map(|(kind, i)| Candidate {
            host: host(i),
            labels: &labels[usize::from(kind.site)],
            model: &models[usize::from(kind.model)],
            os_build: &builds[usize::from(kind.build)],
        })
        .collect();
    (plan_rings(&policy.rings, &fleet, salt).0, policy.pace, salt)
}
