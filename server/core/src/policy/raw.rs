//! The policy as written, before it is checked.

use super::{HourlyCap, Pace, Policy, PolicyError, RINGS_MAX, RingPolicy};
use crate::maintenance::{self, RawWindow};
use crate::selector::Selector;
use ringward_domain::{Millis, RingName};
use serde::Deserialize;
use std::collections::BTreeSet;

/// Bytes of a policy at most.
const TEXT_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPolicy {
    #[serde(default)]
    ring: Vec<RawRing>,
    soak_s: Option<u64>,
    heartbeat_s: Option<u64>,
    silence_reboot_s: Option<u64>,
    silence_s: Option<u64>,
    restart_grace_s: Option<u64>,
    attribution_s: Option<u64>,
    grant_life_s: Option<u64>,
    away_slot_s: Option<u64>,
    verify_boot: Option<bool>,
    cap_share: Option<f64>,
    start_share: Option<f64>,
    alpha: Option<f64>,
    #[serde(default)]
    caps_per_hour: RawCaps,
    #[serde(default)]
    maintenance: Vec<RawWindow>,
    #[serde(default)]
    brakes: super::loosened::RawBrakes,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRing {
    name: String,
    selector: Option<String>,
    percent: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCaps {
    reboots: Option<u64>,
    reboots_share: Option<f64>,
    rollbacks: Option<u64>,
    rollbacks_share: Option<f64>,
}

pub(super) fn refuse<T>(
    field: impl Into<String>,
    why: impl Into<String>,
) -> Result<T, PolicyError> {
    Err(PolicyError {
        field: field.into(),
        why: why.into(),
    })
}

/// Seconds within bounds, both allowed.
fn secs(
    field: &str,
    given: Option<u64>,
    default: Millis,
    least: u64,
    most: u64,
) -> Result<Millis, PolicyError> {
    match given {
        None => Ok(default),
        Some(s) if (least..=most).contains(&s) => Ok(Millis::secs(s)),
        Some(s) => refuse(
            field,
            format!("{s} s does not do; use {least} to {most} seconds"),
        ),
    }
}

/// A number above zero, at most `most`.
pub(super) fn share(
    field: &str,
    given: Option<f64>,
    default: f64,
    most: f64,
) -> Result<f64, PolicyError> {
    match given {
        None => Ok(default),
        Some(x) if x > 0.0 && x <= most => Ok(x),
        Some(x) => refuse(
            field,
            format!("{x} does not do; use more than 0 and at most {most}"),
        ),
    }
}

impl RawPolicy {
    pub(super) fn parse(text: &str) -> Result<Self, PolicyError> {
        if text.len() > TEXT_BYTES_MAX {
            return refuse(
                "text",
                format!("{} bytes; at most {TEXT_BYTES_MAX} are read", text.len()),
            );
        }
        toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = text.bytes().take(start).filter(|b| *b == b'\n').count() + 1;
            PolicyError {
                field: format!("line {line}"),
                why: error.message().to_owned(),
            }
        })
    }

    pub(super) fn validate(self, text: &str) -> Result<Policy, PolicyError> {
        let pace = self.pace()?;
        let brakes = self.brakes.validate()?;
        let rings = rings(self.ring)?;
        Ok(Policy {
            text: text.to_owned(),
            rings,
            pace,
            maintenance: maintenance::validate(self.maintenance)?,
            brakes,
        })
    }

    fn pace(&self) -> Result<Pace, PolicyError> {
        const DAY: u64 = 24 * 3600;
        let usual = Pace::default();
        let heartbeat = secs("heartbeat_s", self.heartbeat_s, usual.heartbeat, 1, 600)?;
        let pace = Pace {
            soak: secs("soak_s", self.soak_s, usual.soak, 1, 30 * DAY)?,
            heartbeat,
            silence_reboot: secs(
                "silence_reboot_s",
                self.silence_reboot_s,
                usual.silence_reboot,
                1,
                DAY,
            )?,
            silence: secs("silence_s", self.silence_s, usual.silence, 1, DAY)?,
            restart_grace: secs(
                "restart_grace_s",
                self.restart_grace_s,
                usual.restart_grace,
                1,
                3600,
            )?,
            attribution: secs(
                "attribution_s",
                self.attribution_s,
                usual.attribution,
                1,
                90 * DAY,
            )?,
            grant_life: secs("grant_life_s", self.grant_life_s, usual.grant_life, 5, 3600)?,
            away_slot: secs("away_slot_s", self.away_slot_s, usual.away_slot, 1, DAY)?,
            verify_boot: self.verify_boot.unwrap_or(usual.verify_boot),
            cap_share: share("cap_share", self.cap_share, usual.cap_share, 1.0)?,
            start_share: share("start_share", self.start_share, usual.start_share, 1.0)?,
            alpha: share("alpha", self.alpha, usual.alpha, 0.1)?,
            reboot_cap: HourlyCap {
                least: self.caps_per_hour.reboots.unwrap_or(usual.reboot_cap.least),
                share: share(
                    "caps_per_hour.reboots_share",
                    self.caps_per_hour.reboots_share,
                    usual.reboot_cap.share,
                    1.0,
                )?,
            },
            rollback_cap: HourlyCap {
                least: self
                    .caps_per_hour
                    .rollbacks
                    .unwrap_or(usual.rollback_cap.least),
                share: share(
                    "caps_per_hour.rollbacks_share",
                    self.caps_per_hour.rollbacks_share,
                    usual.rollback_cap.share,
                    1.0,
                )?,
            },
        };
        check_together(&pace)?;
        Ok(pace)
    }
}

/// Values that are fine alone and nonsense together.
fn check_together(pace: &Pace) -> Result<(), PolicyError> {
    let three = pace.heartbeat.times(3);
    if pace.silence < three {
        return refuse(
            "silence_s",
            format!(
                "{} is under three heartbeats ({three}): one lost message would count as failure",
                pace.silence
            ),
        );
    }
    if pace.silence_reboot < pace.silence {
        return refuse(
            "silence_reboot_s",
            format!(
                "{} is under silence_s ({}); a reboot takes longer than none",
                pace.silence_reboot, pace.silence
            ),
        );
    }
    if pace.attribution < pace.soak {
        return refuse(
            "attribution_s",
            format!(
                "{} is under the soak ({}): failures in soak must count",
                pace.attribution, pace.soak
            ),
        );
    }
    if pace.start_share > pace.cap_share {
        return refuse(
            "start_share",
            format!(
                "{} is over cap_share ({})",
                pace.start_share, pace.cap_share
            ),
        );
    }
    Ok(())
}

fn rings(raw: Vec<RawRing>) -> Result<Vec<RingPolicy>, PolicyError> {
    if raw.is_empty() || raw.len() > RINGS_MAX {
        return refuse(
            "ring",
            format!(
                "{} rings; write 1 to {RINGS_MAX} tables [[ring]] with a name",
                raw.len()
            ),
        );
    }
    let last = raw.len() - 1;
    let mut names = BTreeSet::new();
    let mut rings: Vec<RingPolicy> = Vec::with_capacity(raw.len());
    let mut fleet_percent = 0.0;
    for (i, ring) in raw.into_iter().enumerate() {
        let name: RingName = match ring.name.parse() {
            Ok(name) => name,
            Err(_) => {
                return refuse(
                    format!("ring[{i}].name"),
                    format!(
                        "{:?} does not do; use 1-40 of a-z, 0-9 and -, starting with a letter",
                        ring.name
                    ),
                );
            }
        };
        if !names.insert(name.clone()) {
            return refuse(
                format!("ring[{i}].name"),
                format!("a ring before it is called {name} too; give each its own name"),
            );
        }
        let selector = ring
            .selector
            .as_deref()
            .map(str::parse::<Selector>)
            .transpose();
        let selector = selector.map_err(|error| PolicyError {
            field: format!("ring[{i}].selector"),
            why: error.to_string(),
        })?;
        let percent = ring.percent;
        if let Some(percent) = percent {
            if !(percent > 0.0 && percent <= 100.0) {
                return refuse(
                    format!("ring[{i}].percent"),
                    format!("{percent} does not do; use more than 0 and at most 100"),
                );
            }
            if selector.is_none() {
                fleet_percent += percent;
                if fleet_percent > 100.000_001 {
                    return refuse(
                        format!("ring[{i}].percent"),
                        format!(
                            "the rings up to this one take {fleet_percent} % of the fleet; 100 is all of it"
                        ),
                    );
                }
            }
        } else if selector.is_none() && i != last {
            return refuse(
                format!("ring[{i}]"),
                "takes every host, but rings follow; give it a percent or a selector, or make it the last",
            );
        }
        rings.push(RingPolicy {
            name,
            selector,
            percent,
        });
    }
    Ok(rings)
}
