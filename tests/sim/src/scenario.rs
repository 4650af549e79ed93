//! What a run is about: fleet, policy, releases, what they do to hosts, and how bad the world is.
//! Everything follows from the seed.

use crate::network::Weather;
use crate::random::Random;
use ringward_domain::ReleaseDigest;
use ringward_domain::host::Os;
use ringward_domain::ids::Sha256;
use ringward_domain::ledger::Installed;
use ringward_domain::manifest::{
    Artefact, BootNeed, Envelope, Installer, Manifest, Probe, RevertClass,
};
use ringward_domain::report::Standing;
use ringward_server_core::release::ReleaseRecord;

/// What a release does to a host that runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// Nothing.
    None,
    /// A service crash-loops so many ms after it began to run.
    CrashLoop(u64),
    /// The kernel panics so many ms after it began to run, in each boot.
    Panic(u64),
    /// The host dies, comes back after a long time and dies again before its agent starts.
    Dark,
    /// The health probes fail.
    Probes,
    /// The host loses its network.
    NetworkLost,
    /// A service crash-loops so many ms after the host proved the release.
    AfterProof(u64),
}

/// One run.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Names the run.
    pub seed: u64,
    /// Hosts of the fleet.
    pub hosts: usize,
    /// The ring policy.
    pub policy: String,
    /// Soak in ms, as the policy says.
    pub soak_ms: u64,
    /// Longest silence in ms that the policy lets pass, restart grace included.
    pub silence_ms: u64,
    /// Hosts that the new release harms, in a thousand, and how.
    pub harmed_permille: u64,
    /// What it does to them.
    pub harm: Harm,
    /// Whether the new release needs a boot.
    pub boots: bool,
    /// The network while the storm lasts.
    pub weather: Weather,
    /// When the storm ends, ms.
    pub heals_at_ms: u64,
    /// Between two faults of a host, ms on average; and whether they come at all.
    pub host_faults_every_ms: u64,
    /// The same for the server.
    pub server_faults_every_ms: u64,
    /// Effect lists cut by a crash of the agent, in a thousand.
    pub cut_permille: u64,
    /// Whether clocks of hosts jump and the server's wall clock is wrong.
    pub wrong_clocks: bool,
}

const MINUTE: u64 = 60_000;

impl Scenario {
    /// The run of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5CE7_A810);
        let policy = Policy {
            soak_s: [30, 60, 120][random.below(3) as usize],
            silence_s: [45, 60][random.below(2) as usize],
            silence_reboot_s: 180,
            restart_grace_s: 30,
            grant_life_s: [10, 20, 60][random.below(3) as usize],
            verify_boot: random.permille(400),
            rings: random.between(1, 3),
            cap_percent: [20, 20, 50, 100][random.below(4) as usize],
        };
        let harm = match random.below(8) {
            0 | 1 => Harm::None,
            2 => Harm::CrashLoop(random.between(500, 20_000)),
            3 => Harm::Panic(random.between(500, 20_000)),
            4 => Harm::Dark,
            5 => Harm::Probes,
            6 => Harm::NetworkLost,
            _ => Harm::AfterProof(random.between(1_000, 90_000)),
        };
        Self {
            seed,
            hosts: random.between(2, 12) as usize,
            soak_ms: policy.soak_s * 1000,
            silence_ms: (policy.silence_reboot_s + policy.restart_grace_s) * 1000,
            policy: policy.text(),
            harmed_permille: [300, 700, 1000][random.below(3) as usize],
            harm,
            boots: random.permille(250),
            weather: Weather::storm(&mut random),
            heals_at_ms: random.between(15, 50) * MINUTE,
            host_faults_every_ms: [MINUTE, 4 * MINUTE, 20 * MINUTE, 1000 * MINUTE]
                [random.below(4) as usize],
            server_faults_every_ms: [2 * MINUTE, 6 * MINUTE, 1000 * MINUTE]
                [random.below(3) as usize],
            cut_permille: [0, 0, 5, 20][random.below(4) as usize],
            wrong_clocks: random.permille(500),
        }
    }

    /// Whether the new release is bad for anyone.
    #[must_use]
    pub fn harmful(&self) -> bool {
        self.harm != Harm::None
    }

    /// What a release does to a host, by their numbers.
    #[must_use]
    pub fn harm_of(&self, release: u8, host: usize) -> Harm {
        let mut dice = Random::new(self.seed ^ (host as u64) << 32 ^ 0xBAD);
        if release == NEW && dice.permille(self.harmed_permille) {
            self.harm
        } else {
            Harm::None
        }
    }
}

/// The figures of a ring policy.
struct Policy {
    soak_s: u64,
    silence_s: u64,
    silence_reboot_s: u64,
    restart_grace_s: u64,
    grant_life_s: u64,
    verify_boot: bool,
    rings: u64,
    cap_percent: u64,
}

impl Policy {
    fn text(&self) -> String {
        let mut text = format!(
            "soak_s = {}\nheartbeat_s = 10\nsilence_s = {}\nsilence_reboot_s = {}\n\
             restart_grace_s = {}\ngrant_life_s = {}\nattribution_s = 3600\nverify_boot = {}\n\
             away_slot_s = 300\ncap_share = {}\nstart_share = 0.2\n\
             [caps_per_hour]\nreboots = 100\nrollbacks = 100\n",
            self.soak_s,
            self.silence_s,
            self.silence_reboot_s,
            self.restart_grace_s,
            self.grant_life_s,
            self.verify_boot,
            self.cap_percent as f64 / 100.0,
        );
        for ring in 0..self.rings {
            text.push_str(&format!("[[ring]]\nname = \"ring-{ring}\"\n"));
            if ring + 1 < self.rings {
                text.push_str("percent = 30\n");
            }
        }
        text
    }
}

/// The release every host starts with.
pub const OLD: u8 = 1;
/// The release that is rolled out.
pub const NEW: u8 = 2;

/// A release by its number.
#[must_use]
pub fn digest(release: u8) -> ReleaseDigest {
    ReleaseDigest([release; 32])
}

/// A release as it stands in slots and ledgers.
#[must_use]
pub fn installed(release: u8) -> Installed {
    Installed {
        release: digest(release),
        version: format!("1.{release}").parse().expect("digits and a dot"),
    }
}

/// Its manifest.
#[must_use]
pub fn manifest(release: u8, boots: bool) -> Manifest {
    Manifest {
        format: 1,
        package: "demo".parse().expect("a package name"),
        version: installed(release).version,
        security_floor: None,
        expires_unix_s: None,
        artefacts: vec![Artefact {
            os: Os::Linux,
            arch: None,
            sha256: Sha256([release; 32]),
            size: 1,
        }],
        installer: Installer::Bundle,
        revert_class: RevertClass::Atomic,
        boot: if boots && release == NEW {
            BootNeed::Required
        } else {
            BootNeed::None
        },
        probes: vec![Probe::Unit {
            name: "demo.service".to_owned(),
        }],
    }
}

/// As published.
#[must_use]
pub fn published(release: u8, boots: bool) -> ReleaseRecord {
    ReleaseRecord {
        release: digest(release),
        manifest: manifest(release, boots),
        envelope: Envelope {
            payload: Vec::new(),
            signatures: Vec::new(),
        },
        standing: if release == OLD {
            Standing::Good
        } else {
            Standing::Unproven
        },
        published_unix_ms: 0,
        published_by: "author".to_owned(),
    }
}
