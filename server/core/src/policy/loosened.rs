//! The brakes as written, and what a new policy loosens against the one in force.

use super::raw::{refuse, share};
use super::{HourlyCap, Pace, Policy, PolicyError, RingPolicy};
use crate::brakes::Brakes;
use serde::Deserialize;

/// The `[brakes]` table: hosts in numbers, and as shares of fleet or ring.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBrakes {
    hosts_per_hour: Option<u64>,
    hosts_per_hour_share: Option<f64>,
    ring_hosts_per_hour: Option<u64>,
    ring_hosts_per_hour_share: Option<f64>,
    isolated: Option<u64>,
    isolated_share: Option<f64>,
}

impl RawBrakes {
    pub(super) fn validate(&self) -> Result<Brakes, PolicyError> {
        let usual = Brakes::default();
        let cap = |name: &str, least: Option<u64>, part: Option<f64>, usual: HourlyCap| {
            if least == Some(0) {
                return refuse(
                    format!("brakes.{name}"),
                    "0 would let nobody be helped; use at least 1",
                );
            }
            Ok(HourlyCap {
                least: least.unwrap_or(usual.least),
                share: share(&format!("brakes.{name}_share"), part, usual.share, 1.0)?,
            })
        };
        Ok(Brakes {
            hour: cap(
                "hosts_per_hour",
                self.hosts_per_hour,
                self.hosts_per_hour_share,
                usual.hour,
            )?,
            ring: cap(
                "ring_hosts_per_hour",
                self.ring_hosts_per_hour,
                self.ring_hosts_per_hour_share,
                usual.ring,
            )?,
            share: cap("isolated", self.isolated, self.isolated_share, usual.share)?,
        })
    }
}

impl Policy {
    /// What this policy loosens against the one in force, in words; empty where it only tightens.
    #[must_use]
    pub fn loosened(&self, before: &Self) -> Vec<String> {
        let mut words = self.brakes.loosened(&before.brakes);
        words.extend(pace_loosened(&self.pace, &before.pace));
        words.extend(rings_loosened(&self.rings, &before.rings));
        words
    }
}

fn pace_loosened(is: &Pace, was: &Pace) -> Vec<String> {
    let times = [
        ("soak", is.soak < was.soak, is.soak, was.soak),
        (
            "attribution time",
            is.attribution < was.attribution,
            is.attribution,
            was.attribution,
        ),
        (
            "silence with reboot",
            is.silence_reboot > was.silence_reboot,
            is.silence_reboot,
            was.silence_reboot,
        ),
        ("silence", is.silence > was.silence, is.silence, was.silence),
        (
            "restart grace",
            is.restart_grace > was.restart_grace,
            is.restart_grace,
            was.restart_grace,
        ),
    ];
    let mut words: Vec<String> = times
        .into_iter()
        .filter(|(_, looser, ..)| *looser)
        .map(|(what, _, is, was)| format!("{what} {is} instead of {was}"))
        .collect();
    let shares = [
        ("window", is.cap_share, was.cap_share),
        ("start", is.start_share, was.start_share),
        ("reboots an hour", is.reboot_cap.share, was.reboot_cap.share),
        (
            "least reboots an hour",
            is.reboot_cap.least as f64,
            was.reboot_cap.least as f64,
        ),
        (
            "rollbacks an hour",
            is.rollback_cap.share,
            was.rollback_cap.share,
        ),
        (
            "least rollbacks an hour",
            is.rollback_cap.least as f64,
            was.rollback_cap.least as f64,
        ),
        // A smaller alpha halts later.
        ("1 / alpha", 1.0 / is.alpha, 1.0 / was.alpha),
    ];
    words.extend(
        shares
            .into_iter()
            .filter(|(_, is, was)| is > was)
            .map(|(what, is, was)| format!("{what} {is} instead of {was}")),
    );
    if was.verify_boot && !is.verify_boot {
        words.push("the first ring proves no boot any more".to_owned());
    }
    words
}

/// Rings may be added in front; any other change of who comes when is a loosening, for it can bring
/// hosts forward.
fn rings_loosened(is: &[RingPolicy], was: &[RingPolicy]) -> Vec<String> {
    let before = is.len().checked_sub(was.len());
    match before.and_then(|skip| is.get(skip..)) {
        Some(tail) if tail == was => Vec::new(),
        _ => vec!["hosts may come earlier: the rings are others".to_owned()],
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn policy(text: &str) -> Policy {
        Policy::parse(text).unwrap()
    }

    const RINGS: &str = "[[ring]]\nname = \"canary\"\npercent = 1.0\n[[ring]]\nname = \"rest\"\n";

    #[test]
    fn tighter_is_not_looser() {
        let before = policy(RINGS);
        assert!(before.loosened(&before).is_empty());
        for text in ["soak_s = 99999\n", "cap_share = 0.1\n"] {
            assert_eq!(policy(&format!("{text}{RINGS}")).loosened(&before), [""; 0]);
        }
        let front = format!("[[ring]]\nname = \"first\"\npercent = 0.1\n{RINGS}");
        assert!(policy(&front).loosened(&before).is_empty());
    }

    #[test]
    fn each_brake_that_gives_way_is_named() {
        let before = policy(RINGS);
        for (text, named) in [
            ("soak_s = 60\n", "soak"),
            ("cap_share = 0.5\n", "window"),
            ("alpha = 0.0001\n", "alpha"),
            ("verify_boot = false\n", "boot"),
            ("[brakes]\nhosts_per_hour_share = 0.2\n", "an hour"),
            ("[brakes]\nisolated = 50\n", "isolated"),
        ] {
            let words = policy(&format!("{text}{RINGS}")).loosened(&before);
            assert!(words.iter().any(|w| w.contains(named)), "{text}: {words:?}");
        }
        let fewer = policy("[[ring]]\nname = \"rest\"\n");
        assert!(!fewer.loosened(&before).is_empty());
    }

    #[test]
    fn brakes_of_nothing_are_refused() {
        for text in [
            "hosts_per_hour = 0",
            "isolated_share = 0.0",
            "isolated_share = 2.0",
        ] {
            assert!(
                Policy::parse(&format!("[brakes]\n{text}\n{RINGS}")).is_err(),
                "{text}"
            );
        }
    }
}
