//! A release on trial, written to a host's disk as the agent would have written it.

use anyhow::{Context, Result};
use ringward_domain::ledger::{Attempt, AttemptPhase, Installed, PackageLedger};
use ringward_domain::{
    AssignmentKind, BootId, Millis, Nonce, PackageName, ReleaseDigest, RolloutId,
};
use ringward_guard::{LedgerStore, Slots, SystemFiles};
use std::path::Path;

/// The package that is on trial.
pub const PACKAGE: &str = "endpoint-shield";

fn release(n: u8) -> Result<Installed> {
    Ok(Installed {
        release: ReleaseDigest([n; 32]),
        version: format!("1.{n}").parse()?,
    })
}

/// 1.1 runs on trial, 1.0 lies beside it, proven. `fill` adds files to the tree of 1.0 and of 1.1.
///
/// # Errors
/// The state folder cannot be written.
pub fn write(state: &Path, fill: impl Fn(&str, &Path) -> Result<()>) -> Result<()> {
    let package: PackageName = PACKAGE.parse()?;
    let slots = Slots::new(SystemFiles, state);
    for n in [0, 1] {
        let staged = state.join("staging/trial");
        std::fs::create_dir_all(&staged)?;
        std::fs::write(staged.join("version"), format!("1.{n}"))?;
        fill(&format!("1.{n}"), &staged)?;
        slots.install_tree(&package, &release(n)?, &staged, b"")?;
    }
    slots.switch(&package, &release(1)?)?;
    let store = LedgerStore::new(SystemFiles, state);
    let mut file = store.read()?.unwrap_or_default();
    let known = PackageLedger {
        committed: Some(release(0)?),
        history: Vec::new(),
    };
    file.ledger.packages.insert(package.clone(), known);
    file.ledger.attempt = Some(Attempt {
        nonce: Nonce([7; 16]),
        rollout: RolloutId(1),
        kind: AssignmentKind::Install,
        package,
        to: release(1)?,
        from: Some(release(0)?),
        boot_required: true,
        soak: Millis::secs(3600),
        switched_in: BootId([0; 16]),
        boots: Vec::new(),
        phase: AttemptPhase::Trial,
    });
    Ok(store.write(&file)?)
}

/// The version that is current, from the tree itself.
///
/// # Errors
/// Nothing is current.
pub fn running(state: &Path) -> Result<String> {
    let path = state.join(format!("slots/{PACKAGE}/current/version"));
    std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}
