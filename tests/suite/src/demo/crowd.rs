//! Hosts that exist in the server's store only: a large fleet without its machines, for measuring
//! what looking at one costs.

use anyhow::{Context, Result, bail};
use ringward_domain::host::{Arch, Facts, GuardTier, HostState, Os};
use ringward_domain::observed::PackageObserved;
use ringward_domain::{HostId, Millis, PackageName, ReleaseDigest, Version};
use ringward_server::storage::{Settled, batch, commit, record_key, to_json};
use ringward_server_core::host::HostRecord;
use ringward_server_core::record::{Record, RecordKey};
use ringward_store::{AnyStore, Fence, Options, Store};
use std::path::Path;

/// Records in one commit.
const PART: u64 = 1_000;
const LEASE: &str = "crowd";
/// Rings of the hosts that have a session come first: the crowd is known by a label of its own, waits
/// in the last ring, and makes the rollout as large as the fleet.
const RINGS: &str = r#"
[[ring]]
name = "canary"
selector = "!criticality"
percent = 0.5

[[ring]]
name = "broad"
selector = "!criticality"

[[ring]]
name = "crowd"
"#;
const SITES: &[&str] = &["ber", "lis", "osl", "sin", "yyz"];

/// Services of its hosts start within this; a probe waits for them so long.
const STARTS_MAX: Millis = Millis::secs(4);

/// How large a fleet is to be looked at.
#[derive(Debug, Clone, Copy)]
pub struct Crowd {
    /// Hosts in the store only; 0: the demo as everybody knows it.
    pub hosts: u64,
    /// Hosts with a session beside them.
    pub sessions: usize,
}

impl Crowd {
    /// When the services of each host have started. Among a crowd no two in a row are equally fast:
    /// hosts that are move in step, and a rollout then has something to tell about twice a second.
    pub(super) fn starts(self) -> fn(usize) -> Millis {
        match self.hosts {
            0 => |_| Millis::ZERO,
            _ => |index| Millis(index as u64 * 61 % 100 * STARTS_MAX.0 / 100),
        }
    }
}

/// The demo's policy with rings for a crowd.
pub(super) fn policy() -> String {
    let pace = super::POLICY.split("[[ring]]").next().unwrap_or_default();
    format!("{pace}{RINGS}")
}

/// Writes `hosts` hosts into the store of a server that does not run.
///
/// # Errors
/// The store cannot be written.
pub async fn seed(data: &Path, hosts: u64) -> Result<()> {
    let folder = data.join("store");
    let store = AnyStore::sled(&folder, Options::default()).context("opening the store")?;
    let fence: Fence = store
        .lease(LEASE, LEASE, 0, 1)
        .await
        .context("taking a lease")?
        .context("somebody else has the lease")?;
    for from in (0..hosts).step_by(PART as usize) {
        let mut part = batch(&fence);
        for index in from..hosts.min(from + PART) {
            let record = host(index)?;
            let key = record_key(&RecordKey::Host(record.id));
            part.puts
                .push((key, to_json(&Record::Host(Box::new(record)))));
        }
        match commit(&store, part).await.context("writing hosts")? {
            Settled::Ok => {}
            other => bail!("writing hosts: {other:?}"),
        }
    }
    Ok(())
}

fn host(index: u64) -> Result<HostRecord> {
    let of =
        |words: &[&str], by: u64| words[((index / by) % words.len() as u64) as usize].to_owned();
    let os_build = of(
        &[
            "Debian 12",
            "Debian 13",
            "Ubuntu 24.04",
            "RHEL 9.6",
            "SLES 15",
        ],
        1,
    );
    let package: PackageName = "edge-sensor".parse()?;
    let version: Version = of(&["4.1.2", "4.1.3"], 7).parse()?;
    let release = Some(ReleaseDigest([7; 32]));
    // Through JSON: what a record gains later has a default there.
    let record = serde_json::json!({
        // Spread, as issued ids are.
        "id": HostId((index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        "state": HostState::Active,
        "facts": Facts {
            hostname: format!("{}-desk-{index:06}", of(SITES, 1_000)),
            os: Os::Linux,
            os_build,
            arch: Arch::X86_64,
            kernel: "6.12.41".to_owned(),
            model: of(&["OptiPlex 7010", "ThinkCentre M70q", "KVM"], 3),
            fingerprint: format!("{index:064x}"),
            memory_mib: 8_192,
            cpus: 4,
            guard_tier: GuardTier::Service,
        },
        "labels": {
            "site": of(SITES, 1_000),
            "criticality": of(&["low", "low", "low", "high"], 1),
        },
        "agent_version": "0.1.0",
        "packages": [PackageObserved {
            package,
            running: release,
            running_version: Some(version.clone()),
            committed: release,
            committed_version: Some(version),
        }],
    });
    serde_json::from_value(record).context("making the record of a host")
}
