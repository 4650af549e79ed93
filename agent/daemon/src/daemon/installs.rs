//! Releases that the system's own installer puts in place. The slot is re-pointed first, as with every
//! release; the work that follows takes from seconds to minutes, and heartbeats go on meanwhile.

use super::{Agent, TaskResult, stopped};
use crate::link::chain;
use crate::prepare::{NotReady, Order, kept_manifest};
use ringward_agent_core::Event;
use ringward_agent_core::event::SwitchFailure;
use ringward_agent_os::machine::Notifier;
use ringward_agent_os::{Host, InstallError};
use ringward_domain::manifest::{Installer, Manifest};
use ringward_domain::{AssignmentKind, PackageName, ReleaseDigest};
use ringward_guard::{LedgerStore, SystemFiles, staged};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Work that a start found unfinished is tried so often, this long apart: the installer of somebody
/// else may hold the system for a while after a boot.
const TRIES: u32 = 20;
const TRY_AGAIN: Duration = Duration::from_secs(30);
/// A start waits no longer for it; heartbeats matter more then.
const START_WAITS: Duration = Duration::from_secs(600);
/// Below the watchdog's limit of 180 s.
const PING: Duration = Duration::from_secs(30);
/// The agent's own package: its installer waits for the agent, so the agent never waits for it.
const OWN: &str = "ringward-agent";

/// The end of one piece of work.
#[derive(Debug)]
pub(super) struct Installed {
    package: PackageName,
    /// What ran before a switch; `None` on the way back.
    forward_from: Option<Option<ReleaseDigest>>,
    outcome: Result<(), InstallError>,
}

/// Keeps the way back from a first release before anybody asks for a grant.
pub(super) async fn keep_before<H: Host>(
    host: &H,
    order: &Order,
    manifest: Manifest,
) -> Result<Manifest, NotReady> {
    if manifest.installer == Installer::Bundle || order.kind == AssignmentKind::Rollback {
        return Ok(manifest);
    }
    match host.keep_before(&order.package, manifest.installer).await {
        Ok(()) => Ok(manifest),
        Err(InstallError::Unsupported(why)) => Err(NotReady::Installer(why)),
        Err(error) => Err(NotReady::NoWayBack(error.to_string())),
    }
}

/// The package whose slot was re-pointed while the system does not have it yet: a cut in the middle,
/// or the guard's way back.
fn unfinished(state_dir: &Path) -> Option<PackageName> {
    let file = LedgerStore::new(SystemFiles, state_dir).read().ok()??;
    let package = file.ledger.attempt?.package;
    staged::noted(SystemFiles, state_dir, &package).ok()??;
    let is_done = staged::is_done(SystemFiles, state_dir, &package);
    (!is_done.unwrap_or(true)).then_some(package)
}

/// Completes at the start what was left unfinished, before the machine takes the slot for the truth.
pub(super) async fn complete<H: Host>(
    host: &H,
    state_dir: &Path,
    notifier: &mut Notifier,
    mut stop: watch::Receiver<bool>,
) {
    let Some(package) = unfinished(state_dir).filter(|package| package.as_str() != OWN) else {
        return;
    };
    tracing::warn!(%package, "the system does not have yet what the slot names");
    // The service is up: what is left to do may take longer than a start may.
    notifier.ready();
    let work = async {
        for _ in 0..TRIES {
            match host.install(&package).await {
                Ok(()) => return tracing::info!(%package, "the system has it now"),
                Err(InstallError::Unsupported(why)) => {
                    return tracing::error!(%package, why, "it stays as it is");
                }
                Err(error) => tracing::warn!(%package, error = chain(&error), "tried again"),
            }
            host.sleep(TRY_AGAIN).await;
        }
    };
    let pings = async {
        loop {
            tokio::time::sleep(PING).await;
            notifier.ping();
        }
    };
    tokio::select! {
        () = work => {}
        () = pings => {}
        () = stopped(&mut stop) => {}
        () = tokio::time::sleep(START_WAITS) => {
            tracing::error!(%package, "the agent goes on without it");
        }
    }
}

impl<H: Host> Agent<H> {
    /// Whether this release is the system installer's to put in place.
    pub(super) fn is_staged(&self, package: &PackageName, release: &ReleaseDigest) -> bool {
        kept_manifest(&self.slots, package, release)
            .is_some_and(|(_, manifest)| manifest.installer != Installer::Bundle)
    }

    /// Whether the system's installer ever put a release of this package in place.
    pub(super) fn was_staged(&self, package: &PackageName) -> bool {
        staged::noted(SystemFiles, &self.state_dir, package).is_ok_and(|noted| noted.is_some())
    }

    /// Has the system's installer follow the slot; answered by [`TaskResult::Installed`].
    pub(super) fn install(
        &self,
        package: &PackageName,
        forward_from: Option<Option<ReleaseDigest>>,
    ) {
        let (tell, host, package) = (self.tell.clone(), Arc::clone(&self.host), package.clone());
        tokio::spawn(async move {
            let outcome = host.install(&package).await;
            let installed = Installed {
                package,
                forward_from,
                outcome,
            };
            // Nobody is left to be told when this fails.
            let _ = tell.send(TaskResult::Installed(installed)).await;
        });
    }

    pub(super) fn on_installed(&mut self, installed: Installed, events: &mut VecDeque<Event>) {
        let Installed {
            package,
            forward_from,
            outcome,
        } = installed;
        tracing::info!(%package, installed = outcome.is_ok(), "the installer ended");
        let told = outcome.map_err(|error| {
            tracing::error!(%package, error = chain(&error), "the release is not installed");
            match error {
                InstallError::Busy(_) => SwitchFailure::Busy,
                InstallError::Failed(_) | InstallError::Unsupported(_) => SwitchFailure::Install,
            }
        });
        if let (Err(failure), Some(before)) = (&told, forward_from) {
            self.put_back(&package, before);
            if *failure != SwitchFailure::Busy {
                // What the failed installer left is made whole again; the failure is told then.
                return self.install_again(package, *failure);
            }
        }
        events.push_back(Event::Switched(told));
    }

    /// Puts what was there before back in place after a failure, then tells of the failure.
    fn install_again(&self, package: PackageName, failure: SwitchFailure) {
        let (tell, host) = (self.tell.clone(), Arc::clone(&self.host));
        tokio::spawn(async move {
            if let Err(error) = host.install(&package).await {
                tracing::error!(%package, error = chain(&error), "what was there before is not whole");
            }
            let _ = tell.send(TaskResult::Undone(failure)).await;
        });
    }
}
