//! What is simulated, as readable TOML.

use serde::{Deserialize, Serialize};

/// One scenario. Rates are probabilities, times as their names say.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// What happens, in a sentence.
    pub what: String,
    /// Hosts where the command line says nothing.
    #[serde(default = "hundred_thousand")]
    pub hosts: u32,
    /// Fleets of these sizes in turn, whatever the command line says.
    #[serde(default)]
    pub sizes: Vec<u32>,
    /// Probability that a reboot or an exposure fails although nothing is wrong.
    #[serde(default = "one_in_ten_thousand")]
    pub base: f64,
    /// The release takes effect after a boot.
    #[serde(default = "yes")]
    pub boots: bool,
    /// What the release does to hosts; nothing in clean scenarios.
    #[serde(default)]
    pub harm: Option<Harm>,
    /// Background failures recur with a few signatures.
    #[serde(default)]
    pub recurring: Option<Recurring>,
    /// The base rate changes for all hosts alike.
    #[serde(default)]
    pub drift: Option<Drift>,
    /// Hosts sleep.
    #[serde(default)]
    pub sleep: Option<Sleep>,
    /// A site loses its network for a while.
    #[serde(default)]
    pub outage: Option<Outage>,
    /// Hosts that report failures that never were, and no others.
    #[serde(default)]
    pub liars: Option<Liars>,
    /// Changes that others make, without a rollout.
    #[serde(default)]
    pub vendor: Option<Vendor>,
    /// Hours looked at after the last ring completed.
    #[serde(default)]
    pub watch_after_h: u64,
}

/// What the release does.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Harm {
    /// Share of the hosts concerned that it kills.
    pub share: f64,
    /// Only hosts of one hardware model, this share of the fleet.
    #[serde(default)]
    pub model_share: Option<f64>,
    /// When it kills.
    pub when: When,
    /// Whether the host can say so afterwards.
    #[serde(default)]
    pub signalled: bool,
    /// Mean time to death of a slow burn, hours.
    #[serde(default)]
    pub mean_h: f64,
}

/// When a release kills.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// As soon as it is on the host.
    Switch,
    /// In the first boot on it.
    Boot,
    /// Some time later.
    Later,
}

/// Background failures that recur.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recurring {
    /// Share of background failures with a signature.
    pub share: f64,
    /// Distinct signatures.
    pub signatures: u32,
}

/// A base rate that changes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drift {
    /// By this factor.
    pub factor: f64,
    /// So long after the start of the rollout, hours.
    pub at_h: f64,
}

/// Hosts that sleep.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sleep {
    /// Share of hosts asleep at any time.
    pub asleep: f64,
    /// Share of sleeps announced.
    pub announced: f64,
    /// Mean length, hours.
    pub mean_h: f64,
}

/// A site without network.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    /// Its share of the fleet.
    pub share: f64,
    /// Begins evenly between these hours after the start.
    pub from_h: f64,
    /// See `from_h`.
    pub to_h: f64,
    /// Lasts so long.
    pub minutes: u64,
}

/// Hosts that lie.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Liars {
    /// Their share.
    pub share: f64,
    /// False reports a day of each.
    pub reports_per_day: f64,
}

/// Changes that others make.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vendor {
    /// Unrelated changes under way.
    pub unrelated: u32,
    /// Share of its takers that the bad one kills; zero on quiet days.
    pub kills: f64,
    /// Share of the fleet that takes it.
    pub takers: f64,
}

/// What is written to the JSON of a summary.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Oracle {
    /// Exposures that a test knowing the harm would need: ln(1/α) / KL(q‖p₀).
    pub exposures: f64,
    /// The harm, as a rate over all exposures.
    pub rate: f64,
}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// What the text lacks.
    pub fn parse(text: &str) -> Result<Self, String> {
        let scenario: Self = toml::from_str(text).map_err(|e| e.to_string())?;
        scenario.check()?;
        Ok(scenario)
    }

    fn check(&self) -> Result<(), String> {
        let rate = |name: &str, value: f64| match value {
            v if (0.0..=1.0).contains(&v) => Ok(()),
            v => Err(format!("{name} = {v} is no share; use 0..=1")),
        };
        rate("base", self.base)?;
        if let Some(harm) = &self.harm {
            rate("harm.share", harm.share)?;
            rate("harm.model_share", harm.model_share.unwrap_or(0.0))?;
        }
        if let Some(sleep) = &self.sleep {
            rate("sleep.asleep", sleep.asleep)?;
            rate("sleep.announced", sleep.announced)?;
        }
        if let Some(outage) = &self.outage {
            rate("outage.share", outage.share)?;
        }
        Ok(())
    }

    /// Hosts of this seed's fleet.
    #[must_use]
    pub fn fleet_of(&self, hosts: u32, seed: u64) -> u32 {
        match self.sizes.len() {
            0 => hosts,
            n => self.sizes[(seed % n as u64) as usize],
        }
    }

    /// Whether nothing is wrong with the release.
    #[must_use]
    pub fn clean(&self) -> bool {
        self.harm.is_none() && self.vendor.is_none()
    }

    /// What the best test would need, at this α: whole hosts, since nobody exposes three quarters of one.
    #[must_use]
    pub fn oracle(&self, alpha: f64) -> Option<Oracle> {
        let harm = self.harm.as_ref()?;
        let q = harm.share * harm.model_share.unwrap_or(1.0);
        let p = self.base.max(1e-9);
        let rest = if q < 1.0 {
            (1.0 - q) * ((1.0 - q) / (1.0 - p)).ln()
        } else {
            0.0
        };
        let divergence = q * (q / p).ln() + rest;
        (divergence > 0.0).then(|| Oracle {
            exposures: ((1.0 / alpha).ln() / divergence).ceil(),
            rate: q,
        })
    }
}

fn hundred_thousand() -> u32 {
    100_000
}

fn one_in_ten_thousand() -> f64 {
    1e-4
}

fn yes() -> bool {
    true
}
