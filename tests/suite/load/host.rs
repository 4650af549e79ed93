//! What an invented host says of itself.

use ringward_domain::observed::{Observed, PackageObserved};
use ringward_domain::session::{Hello, PROTOCOL, PROTOCOL_MIN};
use ringward_domain::{
    AgentStart, BootId, Epoch, Generation, Millis, PackageName, ReleaseDigest, SignalSeq, Version,
};
use ringward_suite::hosts;
use std::sync::LazyLock;
use std::time::Instant;

const BOOT: BootId = BootId([1; 16]);
static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The name of host number `index`.
pub fn name(index: usize) -> String {
    format!("load-{index:06}")
}

/// The boot-time clock of every host: a hello must be younger than what was heard before it.
pub fn boottime() -> Millis {
    let passed = STARTED.elapsed().as_millis();
    Millis(1_000 + u64::try_from(passed).unwrap_or(u64::MAX))
}

/// The one package it runs.
pub fn packages() -> Vec<PackageObserved> {
    let version = "4.1.2".parse::<Version>().ok();
    let release = Some(ReleaseDigest([7; 32]));
    let packages = "edge-sensor".parse::<PackageName>().ok();
    let packages = packages.map(|package| PackageObserved {
        package,
        running: release,
        running_version: version.clone(),
        committed: release,
        committed_version: version,
    });
    packages.into_iter().collect()
}

/// The hello of a host that runs one package.
pub fn hello(index: usize, next_signal: u64) -> Hello {
    Hello {
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL,
        capabilities: Vec::new(),
        agent_version: "0.1.0".to_owned(),
        boot: BOOT,
        agent_start: AgentStart([2; 16]),
        boottime: boottime(),
        last_stop_clean: Some(true),
        accepted: (Epoch(0), Generation(0)),
        next_signal: SignalSeq(next_signal),
        facts: hosts::facts(&name(index)),
        observed: Observed {
            packages: packages(),
            ..Observed::default()
        },
    }
}
