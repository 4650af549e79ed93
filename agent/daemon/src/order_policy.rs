//! `[orders]` and `[isolation]` of `agent.toml`: what this host lets itself be ordered.

use crate::config::ConfigError;
use ringward_agent_core::orders::{Act, OrderPolicy, Rate};
use ringward_domain::Millis;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Keys that may endorse, at most.
const ENDORSERS_MAX: usize = 16;
/// Orders of one kind a day, at most.
const PER_DAY_MAX: usize = 1000;

/// `[orders]` as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrdersFile {
    quarantines_per_day: Option<usize>,
    reboots_per_day: Option<usize>,
    collections_per_day: Option<usize>,
    quarantine_hours_max: Option<u64>,
    wide_allow: Option<bool>,
    #[serde(default)]
    endorsers: Vec<String>,
    endorsers_needed: Option<usize>,
    endorsed: Option<Vec<EndorsedAct>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum EndorsedAct {
    Quarantine,
    Reboot,
    Collect,
}

/// `[isolation]` as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IsolationFile {
    nft: Option<PathBuf>,
}

/// What is decided of orders.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OrderSettings {
    /// What the machine enforces.
    pub policy: OrderPolicy,
    /// Public keys (Ed25519) whose endorsements count.
    pub endorsers: Vec<[u8; 32]>,
    /// The firewall's program, where it is not where distributions put it.
    pub nft: Option<PathBuf>,
}

fn invalid(field: &'static str, why: impl Into<String>) -> ConfigError {
    ConfigError::Invalid {
        field,
        why: why.into(),
    }
}

fn a_day(field: &'static str, asked: Option<usize>, usual: Rate) -> Result<Rate, ConfigError> {
    match asked {
        None => Ok(usual),
        Some(max) if max <= PER_DAY_MAX => Ok(Rate { max, ..usual }),
        Some(_) => Err(invalid(
            field,
            format!("must be 0-{PER_DAY_MAX} (0 forbids)"),
        )),
    }
}

impl OrdersFile {
    /// Complete and check.
    ///
    /// # Errors
    /// Names the field and what would do.
    pub fn validate(self, isolation: IsolationFile) -> Result<OrderSettings, ConfigError> {
        let usual = OrderPolicy::default();
        let endorsers = self.keys()?;
        let needed = self.endorsers_needed.unwrap_or(endorsers.len());
        if needed > endorsers.len() || (needed == 0 && !endorsers.is_empty()) {
            return Err(invalid(
                "orders.endorsers_needed",
                "must be from 1 to the number of orders.endorsers",
            ));
        }
        if isolation.nft.as_ref().is_some_and(|nft| !nft.is_absolute()) {
            return Err(invalid("isolation.nft", "must be an absolute path"));
        }
        let life_max = match self.quarantine_hours_max {
            None => None,
            Some(hours @ 1..=8760) => Some(Millis::hours(hours)),
            Some(_) => return Err(invalid("orders.quarantine_hours_max", "must be 1-8760")),
        };
        let policy = OrderPolicy {
            quarantines: a_day(
                "orders.quarantines_per_day",
                self.quarantines_per_day,
                usual.quarantines,
            )?,
            reboots: a_day(
                "orders.reboots_per_day",
                self.reboots_per_day,
                usual.reboots,
            )?,
            collections: a_day(
                "orders.collections_per_day",
                self.collections_per_day,
                usual.collections,
            )?,
            life_max,
            wide_allow: self.wide_allow.unwrap_or(usual.wide_allow),
            endorsers: needed,
            endorsed: self.endorsed.map_or(usual.endorsed, |acts| {
                acts.into_iter().map(Act::from).collect()
            }),
        };
        Ok(OrderSettings {
            policy,
            endorsers,
            nft: isolation.nft,
        })
    }

    fn keys(&self) -> Result<Vec<[u8; 32]>, ConfigError> {
        let keys: BTreeSet<[u8; 32]> = self
            .endorsers
            .iter()
            .map(|text| {
                // A public key and an id of 32 bytes are written alike.
                text.parse::<ringward_domain::Sha256>()
                    .map(|bytes| bytes.0)
                    .map_err(|_| {
                        invalid(
                            "orders.endorsers",
                            format!("holds {text:?}, which is not 64 hexadecimal digits"),
                        )
                    })
            })
            .collect::<Result<_, _>>()?;
        if keys.len() != self.endorsers.len() || keys.len() > ENDORSERS_MAX {
            return Err(invalid(
                "orders.endorsers",
                format!("must be at most {ENDORSERS_MAX} distinct keys"),
            ));
        }
        Ok(keys.into_iter().collect())
    }
}

impl From<EndorsedAct> for Act {
    fn from(act: EndorsedAct) -> Self {
        match act {
            EndorsedAct::Quarantine => Self::Quarantine,
            EndorsedAct::Reboot => Self::Reboot,
            EndorsedAct::Collect => Self::Collect,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Result<OrderSettings, String> {
        let file: OrdersFile = toml::from_str(text).map_err(|error| error.to_string())?;
        file.validate(IsolationFile::default())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_written_is_the_default_policy() {
        assert_eq!(read("").unwrap(), OrderSettings::default());
    }

    #[test]
    fn pinned_keys_are_all_needed_unless_said_otherwise() {
        let keys = format!("endorsers = ['{}', '{}']", "ab".repeat(32), "cd".repeat(32));
        assert_eq!(read(&keys).unwrap().policy.endorsers, 2);
        let one = format!("{keys}\nendorsers_needed = 1");
        assert_eq!(read(&one).unwrap().policy.endorsers, 1);
    }

    #[test]
    fn every_bad_value_is_named() {
        let key = "ab".repeat(32);
        for (text, field) in [
            ("reboots_per_day = 1001".to_owned(), "reboots_per_day"),
            (
                "quarantine_hours_max = 0".to_owned(),
                "quarantine_hours_max",
            ),
            ("endorsers = ['zz']".to_owned(), "orders.endorsers"),
            (
                format!("endorsers = ['{key}', '{key}']"),
                "orders.endorsers",
            ),
            ("endorsers_needed = 1".to_owned(), "endorsers_needed"),
            (
                format!("endorsers = ['{key}']\nendorsers_needed = 0"),
                "endorsers_needed",
            ),
            ("endorsed = ['everything']".to_owned(), "everything"),
            ("rebots_per_day = 1".to_owned(), "rebots_per_day"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(field), "{text}: {error}");
        }
    }
}
