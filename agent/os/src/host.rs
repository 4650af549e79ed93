//! What the daemon asks of a host, whatever it is.

use crate::isolation::{IsolationError, Plan};
use ringward_domain::host::Facts;
use ringward_domain::manifest::{Installer, Probe};
use ringward_domain::signal::SignalDraft;
use ringward_domain::{Absence, BootId, Millis, PackageName, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::future::Future;
use std::net::IpAddr;
use std::path::PathBuf;

/// Why the host could not do or tell something.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A file of the host or of ours could not be read or written.
    #[error("{doing} {path}; {next}")]
    File {
        /// What was being done (`reading the boot id from`).
        doing: &'static str,
        /// To which file.
        path: String,
        /// What to do next.
        next: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// What was read makes no sense.
    #[error("{what} is not what it should be: {why}; {next}")]
    Malformed {
        /// What was read.
        what: String,
        /// What is wrong with it.
        why: String,
        /// What to do next.
        next: &'static str,
    },
    /// The machine is gone in the middle of it; nothing more happens in this boot. Only a scripted
    /// host lives to say this.
    #[error("the machine lost power")]
    PowerLost,
    /// A command of the OS failed.
    #[error("running {command}: {why}; {next}")]
    Command {
        /// The command line.
        command: String,
        /// How it ended.
        why: String,
        /// What to do next.
        next: &'static str,
    },
}

/// Why a package of the system's own format is not installed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InstallError {
    /// Another installer is at work; nothing was touched.
    #[error("another installer is at work: {0}")]
    Busy(String),
    /// It failed. What the slot names may be half there: it is made whole by the next install.
    #[error("{0}")]
    Failed(String),
    /// This host takes no such packages.
    #[error("{0}")]
    Unsupported(String),
}

/// Why the agent stopped, as written into the clean-stop marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopReason {
    /// A person or an upgrade stopped the service.
    UserStop,
    /// The agent reboots the host on its own behalf.
    AgentReboot,
    /// The system goes down, whether for good or to come back is not known.
    SystemShutdown,
}

/// Something that a host tells unasked.
#[derive(Debug, Clone)]
pub enum HostEvent {
    /// A collector observed a fact.
    Signal(SignalDraft),
    /// The OS says that the host will be away.
    GoingAway(Absence),
    /// The machine is gone this instant: no last word, no marker. Only a scripted host lives to say
    /// this.
    PowerLost,
}

/// One host. Calls are cheap unless they are `async`; none of them panics.
pub trait Host: Send + Sync + 'static {
    /// The running boot.
    fn boot(&self) -> BootId;
    /// Milliseconds since boot, time asleep included (`CLOCK_BOOTTIME`).
    fn boottime(&self) -> Timestamp;
    /// Milliseconds since boot, time asleep left out (`CLOCK_MONOTONIC`).
    fn awake(&self) -> Millis;
    /// What is known of the host.
    fn facts(&self) -> Facts;
    /// Whether the stop before this boot was clean; `None` where it cannot be known (first start).
    fn last_stop_clean(&self) -> Option<bool>;
    /// Write and fsync the clean-stop marker.
    ///
    /// # Errors
    /// The marker could not be made durable: the next boot will count as unclean.
    fn mark_clean_stop(&self, reason: StopReason) -> Result<(), HostError>;
    /// Arm the guard: it counts boots from now on.
    ///
    /// # Errors
    /// The guard is not armed.
    fn arm_guard(&self) -> Result<(), HostError>;
    /// Disarm the guard.
    ///
    /// # Errors
    /// The guard stays armed, which is harmless: the ledger tells it that nothing is on trial.
    fn disarm_guard(&self) -> Result<(), HostError>;
    /// Reboot the host. Returns when the reboot is under way.
    fn reboot(&self) -> impl Future<Output = Result<(), HostError>> + Send;
    /// A release of this package became current (or went back): let the OS take notice.
    ///
    /// # Errors
    /// The OS refused; the caller puts the earlier release back.
    fn activate(&self, package: &PackageName) -> Result<(), HostError>;
    /// Make the system have what the slot of this package names, by its own installer.
    ///
    /// # Errors
    /// [`InstallError`]; done again it ends as if done once.
    fn install(
        &self,
        package: &PackageName,
    ) -> impl Future<Output = Result<(), InstallError>> + Send {
        let why = format!("this host's adapter installs no packages ({package})");
        async { Err(InstallError::Unsupported(why)) }
    }
    /// Put what others installed of this package into the vault, as the way back from a first release.
    ///
    /// # Errors
    /// There would be no way back.
    fn keep_before(
        &self,
        package: &PackageName,
        installer: Installer,
    ) -> impl Future<Output = Result<(), InstallError>> + Send {
        let why = format!("this host's adapter installs no {installer:?} packages ({package})");
        async { Err(InstallError::Unsupported(why)) }
    }
    /// One probe, answering within its own timeout (5 s where it has none).
    ///
    /// # Errors
    /// In words, why it did not pass.
    fn probe(&self, probe: &Probe) -> impl Future<Output = Result<(), String>> + Send;
    /// The next thing the host tells. Safe to drop and call again.
    fn next_event(&self) -> impl Future<Output = HostEvent> + Send;
    /// Tell every change of these files and folders too.
    fn watch(&mut self, paths: &[PathBuf]) {
        if !paths.is_empty() {
            tracing::warn!(
                "this host's adapter watches no paths; `watch` in agent.toml does nothing"
            );
        }
    }
    /// The start is over: what it needed and the rest of the run does not may go.
    fn started(&self) {}
    /// Waits so long. Safe to drop and call again; one at a time.
    fn sleep(&self, pause: std::time::Duration) -> impl Future<Output = ()> + Send {
        tokio::time::sleep(pause)
    }
    /// Whether the default gateway answers; `None` where it cannot be known.
    fn gateway_reachable(&self) -> Option<bool>;
    /// Whether the whole system is going down (then a stop of the service is no act of a person).
    fn system_stopping(&self) -> impl Future<Output = bool> + Send;
    /// Whether a system that is going down is known to stay off; `false` where that cannot be told.
    fn stays_off(&self) -> impl Future<Output = bool> + Send {
        async { false }
    }
    /// Look through the crash evidence of this host anew; what it tells comes as events.
    ///
    /// # Errors
    /// It cannot be looked for.
    fn collect_anew(&self) -> Result<(), HostError> {
        Ok(())
    }
    /// Whether this host has what [`Host::isolate`] needs.
    fn can_isolate(&self) -> impl Future<Output = bool> + Send {
        async { false }
    }
    /// Cut this host off but for what the plan permits, in one step, now and in the boots to come;
    /// or change what it permits.
    ///
    /// # Errors
    /// Nothing changed.
    fn isolate(&self, plan: &Plan) -> impl Future<Output = Result<(), IsolationError>> + Send {
        let _ = plan;
        async {
            Err(IsolationError::Unsupported {
                why: "its adapter knows no firewall".to_owned(),
                next: "update the agent",
            })
        }
    }
    /// Take the isolation back; everything else stays as it is. Does nothing where there is none.
    ///
    /// # Errors
    /// The host may be isolated still.
    fn end_isolation(&self) -> impl Future<Output = Result<(), IsolationError>> + Send {
        async { Ok(()) }
    }
    /// Whether rules of ours isolate this host now, whoever loaded them.
    fn is_isolated(&self) -> impl Future<Output = bool> + Send {
        async { false }
    }
    /// Ways past the isolation that this host has, in words.
    fn escapes(&self) -> impl Future<Output = Vec<String>> + Send {
        async { Vec::new() }
    }
    /// The resolvers that this host is configured with.
    fn resolvers(&self) -> BTreeSet<IpAddr> {
        BTreeSet::new()
    }
}
