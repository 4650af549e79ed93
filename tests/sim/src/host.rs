//! One host: what its disk holds, what its process knows, and whether it is on.

use crate::oracle::Watch;
use crate::scenario::{self, Scenario};
use crate::world::Occurrence;
use ringward_agent_core::Machine;
use ringward_domain::host::{Arch, Facts, GuardTier, Os};
use ringward_domain::ids::SignalSeq;
use ringward_domain::ledger::{Installed, Ledger, PackageLedger};
use ringward_domain::observed::PackageObserved;
use ringward_domain::signal::Signal;
use ringward_domain::{BootId, HostId, PackageName, Timestamp};
use ringward_guard::{LedgerFile, codec};
use std::collections::BTreeMap;

/// The one package of these runs.
#[must_use]
pub fn package() -> PackageName {
    "demo".parse().expect("a package name")
}

/// A running agent.
#[derive(Debug)]
pub struct Process {
    /// Counts all processes of the run.
    pub number: u64,
    /// The core.
    pub machine: Machine,
    /// When it is to be woken, real time.
    pub wake_at: Option<u64>,
}

/// A host.
#[derive(Debug)]
pub struct SimHost {
    /// Its identity.
    pub id: HostId,
    /// Switched on and booted.
    pub on: bool,
    /// Suspended.
    pub asleep: bool,
    /// Counts its boots.
    pub boots: u64,
    /// Real time of its boot.
    pub booted_at: u64,
    /// How far its boot-time clock is ahead of the time since the boot.
    pub jumped: u64,
    /// Whether the last stop left its marker.
    pub last_stop_clean: bool,
    /// The ledger file.
    pub ledger: Vec<u8>,
    /// What the current slot holds.
    pub slot: Option<Installed>,
    /// The spool file, untrimmed signals only.
    pub spool: BTreeMap<SignalSeq, Signal>,
    /// Next free seq of the spool.
    pub spool_next: SignalSeq,
    /// Writes fail.
    pub disk_full: bool,
    /// The agent.
    pub process: Option<Process>,
    /// The open session, by number.
    pub session: Option<u64>,
    /// When the newest message of the session arrives at the server: later ones come after it.
    pub arrival: u64,
    /// Changes with the release that runs; a harm strikes only the run it was meant for.
    pub run: u64,
    /// What came while it slept.
    pub backlog: Vec<Occurrence>,
    /// Guards what its process does.
    pub watch: Watch,
}

impl SimHost {
    /// A host that has proven the old release.
    #[must_use]
    pub fn new(index: usize) -> Self {
        let known = PackageLedger {
            committed: Some(scenario::installed(scenario::OLD)),
            history: Vec::new(),
        };
        let ledger = Ledger {
            packages: [(package(), known)].into(),
            ..Ledger::default()
        };
        Self {
            id: HostId(0xA000 + index as u64),
            on: false,
            asleep: false,
            boots: 0,
            booted_at: 0,
            jumped: 0,
            last_stop_clean: true,
            ledger: codec::encode(&LedgerFile {
                ledger,
                kept: Vec::new(),
            }),
            slot: Some(scenario::installed(scenario::OLD)),
            spool: BTreeMap::new(),
            spool_next: SignalSeq(1),
            disk_full: false,
            process: None,
            session: None,
            arrival: 0,
            run: 0,
            backlog: Vec::new(),
            watch: Watch::default(),
        }
    }

    /// This boot's id.
    #[must_use]
    pub fn boot_id(&self) -> BootId {
        let mut raw = [0; 16];
        raw[..8].copy_from_slice(&self.id.0.to_be_bytes());
        raw[8..].copy_from_slice(&self.boots.to_be_bytes());
        BootId(raw)
    }

    /// The host's boot-time clock.
    #[must_use]
    pub fn clock(&self, now: u64) -> Timestamp {
        Timestamp(now.saturating_sub(self.booted_at) + self.jumped)
    }

    /// When its boot-time clock shows `at`, real time.
    #[must_use]
    pub fn real(&self, at: Timestamp) -> u64 {
        (at.0 + self.booted_at).saturating_sub(self.jumped)
    }

    /// The ledger on disk.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        // The runs only write what `encode` wrote; damage is the guard's own tests' concern.
        codec::decode(&self.ledger)
            .expect("a ledger written by encode")
            .ledger
    }

    /// Number of the release that runs.
    #[must_use]
    pub fn running(&self) -> u8 {
        self.slot.as_ref().map_or(0, |slot| slot.release.0[0])
    }

    /// What the slot shows at a start of the agent.
    #[must_use]
    pub fn inspect(&self) -> PackageObserved {
        PackageObserved {
            package: package(),
            running: self.slot.as_ref().map(|slot| slot.release),
            running_version: self.slot.as_ref().map(|slot| slot.version.clone()),
            committed: None,
            committed_version: None,
        }
    }
}

/// What a host tells of itself.
#[must_use]
pub fn facts(index: usize, _scenario: &Scenario) -> Facts {
    Facts {
        hostname: format!("host-{index}"),
        os: Os::Linux,
        os_build: format!("Debian {}", 11 + index % 2),
        arch: Arch::X86_64,
        kernel: "6.1".to_owned(),
        model: format!("model-{}", index % 3),
        fingerprint: format!("{index:064x}"),
        memory_mib: 2048,
        cpus: 2,
        guard_tier: GuardTier::Service,
    }
}
