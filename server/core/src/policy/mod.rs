//! The ring policy: which hosts come when, and how carefully.
//!
//! Text is parsed ([`raw`]) and then validated into [`Policy`]; nothing else is ever in force.

mod loosened;
mod raw;

use crate::brakes::Brakes;
use crate::maintenance::MaintenanceWindow;
use crate::salt::sha256;
use crate::selector::Selector;
use crate::window::WindowPolicy;
use ringward_domain::ids::Sha256;
use ringward_domain::{Millis, RingName};
use serde::{Deserialize, Serialize};

/// Rings of one policy at most.
pub const RINGS_MAX: usize = 32;

/// A validated ring policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// The text it was read from.
    pub text: String,
    /// The rings in order of exposure; at least one.
    pub rings: Vec<RingPolicy>,
    /// Times, shares and caps.
    pub pace: Pace,
    /// When hosts may begin an install; always where none binds them.
    pub maintenance: Vec<MaintenanceWindow>,
    /// Caps on what takes hosts out of service.
    pub brakes: Brakes,
}

/// Who belongs to one ring. The first ring that matches a host wins.
#[derive(Debug, Clone, PartialEq)]
pub struct RingPolicy {
    /// Its name, unique in the policy.
    pub name: RingName,
    /// Only hosts with such labels; `None` = every host.
    pub selector: Option<Selector>,
    /// Takes this part of the hosts its selector picks (of the fleet without one), rounded up, in
    /// salted order, `0 < percent <= 100`. `None`, or the last ring: all that are left.
    pub percent: Option<f64>,
}

/// How carefully a rollout proceeds. Frozen when a rollout starts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pace {
    /// How long a release must stay healthy on a host before it counts as proven there.
    pub soak: Millis,
    /// How often a host says that it lives.
    pub heartbeat: Millis,
    /// Silence after `Begin` that counts as failure where the host reboots.
    pub silence_reboot: Millis,
    /// Silence after `Begin` that counts as failure where nothing reboots.
    pub silence: Millis,
    /// After a start of the server, how long agents have to come back before silence runs again.
    pub restart_grace: Millis,
    /// How long after its `Begin` a host's failure counts against the release.
    pub attribution: Millis,
    /// How long a grant lives from its request.
    pub grant_life: Millis,
    /// How long an exposed host that announced its absence keeps its slot.
    pub away_slot: Millis,
    /// Hosts of the first ring reboot after the switch and soak after that boot.
    pub verify_boot: bool,
    /// Share of a ring that may be in flight (0..=1).
    pub cap_share: f64,
    /// Share of a ring with which it starts, at most two hosts (0..=1).
    pub start_share: f64,
    /// Probability with which a clean release may be halted.
    pub alpha: f64,
    /// Reboots an hour that `verify_boot` may add.
    pub reboot_cap: HourlyCap,
    /// Hosts an hour that already failed and are rolled back ahead of the window.
    pub rollback_cap: HourlyCap,
}

/// A bound on acts an hour: `max(least, share of the fleet rounded up)`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HourlyCap {
    /// So many in any fleet.
    pub least: u64,
    /// Part of the fleet (0..=1).
    pub share: f64,
}

impl HourlyCap {
    /// The bound in a fleet of this size.
    #[must_use]
    pub fn of(self, fleet: u64) -> u64 {
        self.least
            .max((fleet as f64 * self.share.clamp(0.0, 1.0)).ceil() as u64)
    }
}

impl Default for Pace {
    fn default() -> Self {
        let window = WindowPolicy::default();
        Self {
            soak: Millis::mins(15),
            heartbeat: Millis::secs(10),
            silence_reboot: Millis::mins(10),
            silence: Millis::secs(60),
            restart_grace: Millis::mins(2),
            attribution: Millis::hours(72),
            grant_life: Millis::secs(60),
            away_slot: Millis::mins(30),
            verify_boot: true,
            cap_share: window.cap_share,
            start_share: window.start_share,
            alpha: 1e-3,
            reboot_cap: HourlyCap {
                least: 2,
                share: 0.01,
            },
            rollback_cap: HourlyCap {
                least: 5,
                share: 0.05,
            },
        }
    }
}

impl Pace {
    /// The constants of the window.
    #[must_use]
    pub fn window(&self) -> WindowPolicy {
        WindowPolicy {
            start_share: self.start_share,
            cap_share: self.cap_share,
            ..WindowPolicy::default()
        }
    }

    /// What this pace gives up against the defaults, in words.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let usual = Self::default();
        let mut notes = Vec::new();
        let mut shorter = |what: &str, is: Millis, default: Millis| {
            if is < default {
                notes.push(format!("{what} {is} instead of {default}"));
            }
        };
        shorter("soak", self.soak, usual.soak);
        shorter("attribution time", self.attribution, usual.attribution);
        shorter(
            "silence deadline with reboot",
            self.silence_reboot,
            usual.silence_reboot,
        );
        shorter(
            "silence deadline without reboot",
            self.silence,
            usual.silence,
        );
        shorter("restart grace", self.restart_grace, usual.restart_grace);
        let mut larger = |what: &str, is: f64, default: f64| {
            if is > default {
                notes.push(format!("{what} {is} instead of {default}"));
            }
        };
        larger("share of a ring in flight", self.cap_share, usual.cap_share);
        larger(
            "share of a ring at the start",
            self.start_share,
            usual.start_share,
        );
        larger(
            "hourly share of reboots",
            self.reboot_cap.share,
            usual.reboot_cap.share,
        );
        larger(
            "hourly reboots",
            self.reboot_cap.least as f64,
            usual.reboot_cap.least as f64,
        );
        larger(
            "hourly share of rollbacks of failed hosts",
            self.rollback_cap.share,
            usual.rollback_cap.share,
        );
        larger(
            "hourly rollbacks of failed hosts",
            self.rollback_cap.least as f64,
            usual.rollback_cap.least as f64,
        );
        if self.alpha < usual.alpha {
            notes.push(format!(
                "halts later: alpha {} instead of {}",
                self.alpha, usual.alpha
            ));
        }
        if self.silence_reboot > usual.silence_reboot || self.silence > usual.silence {
            notes.push(format!(
                "silence is noticed later: {} with reboot, {} without",
                self.silence_reboot, self.silence
            ));
        }
        if !self.verify_boot {
            notes.push("boot unproven: the first ring does not reboot after the switch".to_owned());
        }
        notes
    }
}

/// Why a text is not a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ring policy, {field}: {why}")]
pub struct PolicyError {
    /// The field (`ring[1].selector`), or the line where the text is not TOML.
    pub field: String,
    /// What is wrong and what would do.
    pub why: String,
}

impl Policy {
    /// Reads and checks a policy.
    ///
    /// # Errors
    /// The first field that cannot be what it is, and what would do.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        raw::RawPolicy::parse(text)?.validate(text)
    }

    /// SHA-256 of its text: names the policy in records and in the order of hosts.
    #[must_use]
    pub fn digest(&self) -> Sha256 {
        sha256(self.text.as_bytes())
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::parse(DEFAULT).expect("the default policy is checked by a test")
    }
}

/// The policy of a new server, as a file to start from.
pub const DEFAULT: &str = r#"# Ring policy of Ringward; every value below is the default.
soak_s = 900             # healthy time on a host before a release counts as proven there
heartbeat_s = 10
silence_reboot_s = 600   # silence that counts as failure where the host reboots
silence_s = 60           # and where it does not
restart_grace_s = 120    # for agents to come back after a start of the server
attribution_s = 259200   # failures so long after the switch count against the release
grant_life_s = 60
away_slot_s = 1800       # a host that announced its absence keeps its slot so long
verify_boot = true       # hosts of the first ring reboot, and soak after that boot
cap_share = 0.2          # of a ring in flight at most
start_share = 0.05       # of a ring in flight at the start, at most two hosts
alpha = 0.001            # probability with which a clean release may be halted

[caps_per_hour]          # the larger of number and share of the fleet
reboots = 2
reboots_share = 0.01
rollbacks = 5
rollbacks_share = 0.05

# The first ring that matches a host wins. `selector` picks hosts by label, for example
# "site=berlin,env in (a,b),!protected"; `percent` takes that part of them (of the fleet without a
# selector), rounded up, in an order that differs for every release. The last ring takes the rest.
[[ring]]
name = "canary"
percent = 1

[[ring]]
name = "early"
percent = 9

[[ring]]
name = "broad"
percent = 90

# When hosts may begin an install: without any such table always. A host under several may begin in
# each of them. Rollbacks never wait. `days` name the day on which the window opens; it takes effect,
# also on rollouts under way, as soon as the policy is applied.
# [[maintenance]]
# name = "berlin-nights"
# selector = "site=berlin"        # every host without it
# days = ["sat", "sun"]           # every day without it
# from = "22:00"
# until = "05:00"                 # of the next day, where it is not later than `from`
# zone = "Europe/Berlin"          # UTC without it
"#;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The policy of the demo.
    const DEMO: &str = r#"
        soak_s = 3
        heartbeat_s = 1
        silence_reboot_s = 8
        silence_s = 8
        restart_grace_s = 2
        attribution_s = 5
        [[ring]]
        name = "canary"
        percent = 1
        [[ring]]
        name = "early"
        percent = 9
        [[ring]]
        name = "broad"
        percent = 90
    "#;

    #[test]
    fn the_default_text_is_the_default_policy() {
        let policy = Policy::parse(DEFAULT).unwrap();
        assert_eq!(policy.pace, Pace::default());
        assert!(policy.pace.notes().is_empty(), "{:?}", policy.pace.notes());
    }

    #[test]
    fn the_demo_policy_reads_and_says_what_it_gives_up() {
        let policy = Policy::parse(DEMO).unwrap();
        assert_eq!(
            policy
                .rings
                .iter()
                .filter_map(|r| r.percent)
                .collect::<Vec<_>>(),
            [1.0, 9.0, 90.0]
        );
        let pace = policy.pace;
        assert_eq!(
            (
                pace.soak,
                pace.heartbeat,
                pace.silence,
                pace.restart_grace,
                pace.attribution
            ),
            (
                Millis::secs(3),
                Millis::secs(1),
                Millis::secs(8),
                Millis::secs(2),
                Millis::secs(5)
            )
        );
        let notes = pace.notes().join("; ");
        for told in [
            "soak 3 s instead of 15 min",
            "attribution time 5 s",
            "restart grace 2 s",
        ] {
            assert!(notes.contains(told), "{notes}");
        }
    }

    #[test]
    fn each_nonsense_is_refused_by_the_name_of_its_field() {
        let ring = "[[ring]]\nname = \"a\"\n";
        for (text, field) in [
            ("", "ring"),
            ("ring = []", "ring"),
            ("[[ring]]\nname = \"A\"", "ring[0].name"),
            (&format!("{ring}percent = 1\n{ring}"), "ring[1].name"),
            (&format!("{ring}percent = 0"), "ring[0].percent"),
            (&format!("{ring}percent = 101"), "ring[0].percent"),
            (&format!("{ring}percent = nan"), "ring[0].percent"),
            (
                &format!("{ring}percent = 60\n[[ring]]\nname = \"b\"\npercent = 60"),
                "ring[1].percent",
            ),
            (&format!("{ring}selector = \"a=\""), "ring[0].selector"),
            (&format!("{ring}[[ring]]\nname = \"b\""), "ring[0]"),
            (&format!("soak_s = 0\n{ring}"), "soak_s"),
            (&format!("soak_s = -3\n{ring}"), "line 1"),
            (&format!("soak = 3\n{ring}"), "line 1"),
            (&format!("silence_s = 20\n{ring}"), "silence_s"),
            (
                &format!("silence_reboot_s = 30\n{ring}"),
                "silence_reboot_s",
            ),
            (&format!("attribution_s = 60\n{ring}"), "attribution_s"),
            (&format!("grant_life_s = 1\n{ring}"), "grant_life_s"),
            (&format!("alpha = 1\n{ring}"), "alpha"),
            (&format!("cap_share = 0\n{ring}"), "cap_share"),
            (&format!("start_share = 0.5\n{ring}"), "start_share"),
            (
                &format!("{ring}[caps_per_hour]\nreboots_share = 2"),
                "caps_per_hour.reboots_share",
            ),
        ] {
            let error = Policy::parse(text).unwrap_err();
            assert!(error.field.contains(field), "{text}\n{error}");
            assert!(!error.why.is_empty());
        }
    }

    #[test]
    fn caps_are_rounded_up_and_never_below_their_least() {
        let cap = HourlyCap {
            least: 2,
            share: 0.01,
        };
        assert_eq!(
            [0, 1, 203, 100_000].map(|fleet| cap.of(fleet)),
            [2, 2, 3, 1000]
        );
    }
}
