//! A real Windows machine.
#![allow(unsafe_code)]

pub mod child;
mod collect;
mod event_log;
mod facts;
pub mod folders;
mod isolation;
mod log;
mod notify;
pub mod packages;
pub mod places;
mod power;
mod safe_boot;
mod service;
mod setup;

pub use WindowsHost as Machine;
pub use log::log_writer;
pub use notify::Notifier;
pub use power::{awake, boottime};
pub use service::{NAME as SERVICE, stop_requested, under_service_manager};
pub use setup::{SetUpError, purge, set_up, start};

use crate::collect::{Place, Teller};
use crate::host::{Host, HostError, HostEvent, InstallError, StopReason};
use crate::isolation::{IsolationError, Plan};
use crate::{marker, probe};
use ringward_domain::host::{Facts, GuardTier};
use ringward_domain::manifest::{Installer, Probe};
use ringward_domain::signal::SignalKind;
use ringward_domain::{BootId, Millis, PackageName, Timestamp};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use tokio::sync::{Mutex, mpsc};
use windows_service::service::{ServiceAccess, ServiceState};
use windows_service::service_manager::{ServiceManager, ServiceManagerAccess};

/// What the host says of itself waits to be told up to here; more is in the log alone.
const TOLD_MAX: usize = 8;
const ARMED: &str = "guard-armed";
/// What stands in it where the machine did not come back by itself before.
const ARMED_AND_SET: &str = "armed, AutoReboot was 0\n";

/// The machine this process runs on.
#[derive(Debug)]
pub struct WindowsHost {
    root: PathBuf,
    boot: BootId,
    last_stop_clean: Option<bool>,
    boot_before: Option<BootId>,
    watched: Vec<PathBuf>,
    sources: Mutex<Option<Sources>>,
    /// What the host itself has to say, and where that waits to be told.
    tell: mpsc::Sender<HostEvent>,
    told: Mutex<mpsc::Receiver<HostEvent>>,
}

/// Where events come from; they start with the first question.
struct Sources {
    collectors: mpsc::Receiver<HostEvent>,
    power: mpsc::Receiver<service::PowerEvent>,
    /// Dropped with the next question: by then the daemon has dealt with it.
    dealing_with: Option<std::sync::mpsc::Sender<()>>,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sources")
    }
}

/// Facts of this machine, without taking hold of it.
#[must_use]
pub fn facts() -> Facts {
    facts::collect()
}

/// Where the guard has a place in this machine's boot.
#[must_use]
pub fn guard_tier() -> GuardTier {
    facts::guard_tier()
}

/// Whether the boot loader of this boot counts the tries of entries: none does here.
#[must_use]
pub fn loader_counts() -> bool {
    false
}

/// By what this machine is isolated where that is ordered; the program is of no use here.
///
/// # Errors
/// By nothing, and why.
pub async fn isolation_means(_program: Option<&Path>) -> Result<&'static str, IsolationError> {
    isolation::means()
}

impl WindowsHost {
    /// Take hold of the machine; the clean-stop marker in `root` (the state folder) is consumed.
    ///
    /// # Errors
    /// The boot cannot be told, or the state folder cannot be written.
    pub fn open(root: &Path) -> Result<Self, HostError> {
        let boot = ringward_guard::windows::boot_id().map_err(|source| HostError::File {
            doing: "keeping the boot id in",
            path: format!(r"HKLM\{}", ringward_guard::windows::KEY),
            next: "run the agent as a service under LocalSystem, or as administrator",
            source,
        })?;
        let last_stop_clean = marker::consume(root, boot)?;
        let boot_before = marker::boot_before(root);
        let (tell, told) = mpsc::channel(TOLD_MAX);
        Ok(Self {
            root: root.to_owned(),
            boot,
            last_stop_clean,
            boot_before,
            watched: Vec::new(),
            sources: Mutex::default(),
            tell,
            told: Mutex::new(told),
        })
    }

    /// For a program that isolates hosts, where one is configured; Windows has its own and needs none.
    #[must_use]
    pub fn with_firewall(self, _program: Option<PathBuf>) -> Self {
        self
    }

    /// Tells people of a package that is not as it should be, once a boot.
    fn say(&self, package: &PackageName, words: &str) {
        let title = format!("{package}: {words}");
        tracing::warn!(title);
        let (tell, boot) = (self.tell.clone(), self.boot);
        let key = format!("msi:{package}:{boot}");
        let draft = Teller { tell, boot }.draft(SignalKind::AgentDegraded, key, title);
        // A full queue means that the same was said before; the log has it.
        let _ = self.tell.try_send(HostEvent::Signal(draft));
    }

    fn start(&self) -> Sources {
        Sources {
            collectors: collect::start(
                Place {
                    root: self.root.clone(),
                    boot: self.boot,
                    boot_before: self.boot_before,
                },
                self.watched.clone(),
            ),
            power: service::power_events(),
            dealing_with: None,
        }
    }
}

fn service_running(name: &str) -> Result<(), String> {
    let asked = |error: windows_service::Error| format!("asking for service {name}: {error:?}");
    let manager = ServiceManager::local_computer(None::<&str>, ServiceManagerAccess::CONNECT)
        .map_err(asked)?;
    let service = manager
        .open_service(name, ServiceAccess::QUERY_STATUS)
        .map_err(asked)?;
    match service.query_status().map_err(asked)?.current_state {
        ServiceState::Running => Ok(()),
        state => Err(format!("service {name} is {state:?}")),
    }
}

impl Host for WindowsHost {
    fn boot(&self) -> BootId {
        self.boot
    }

    fn boottime(&self) -> Timestamp {
        boottime()
    }

    fn awake(&self) -> Millis {
        awake()
    }

    fn facts(&self) -> Facts {
        facts()
    }

    fn last_stop_clean(&self) -> Option<bool> {
        self.last_stop_clean
    }

    fn mark_clean_stop(&self, reason: StopReason) -> Result<(), HostError> {
        marker::write(&self.root, self.boot, reason)
    }

    fn arm_guard(&self) -> Result<(), HostError> {
        let path = self.root.join(ARMED);
        // Armed twice must not forget how the machine was before.
        let was_set = marker::read_small(&path)?.is_some_and(|text| text == ARMED_AND_SET);
        let stays_down = safe_boot::reboots_by_itself() == Some(false);
        let text = match was_set || stays_down {
            true => ARMED_AND_SET,
            false => "armed\n",
        };
        marker::write_durably(&path, text.as_bytes())?;
        if stays_down {
            set_auto_reboot(true)?;
        }
        Ok(())
    }

    fn disarm_guard(&self) -> Result<(), HostError> {
        let path = self.root.join(ARMED);
        if marker::read_small(&path)?.is_some_and(|text| text == ARMED_AND_SET) {
            set_auto_reboot(false)?;
        }
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(HostError::File {
                doing: "removing",
                path: path.display().to_string(),
                next: "check that the state folder is writable",
                source,
            }),
            _ => Ok(()),
        }
    }

    async fn reboot(&self) -> Result<(), HostError> {
        power::reboot()
    }

    fn activate(&self, _package: &PackageName) -> Result<(), HostError> {
        // A bundle is files behind one junction; whoever uses them follows it.
        Ok(())
    }

    async fn install(&self, package: &PackageName) -> Result<(), InstallError> {
        let outcome = packages::install(&self.root, package).await;
        match &outcome {
            Ok(true) => self.say(
                package,
                "files in use are replaced at the next boot: a reboot is pending",
            ),
            Err(InstallError::Unsupported(why)) => self.say(package, why),
            _ => {}
        }
        outcome.map(|_| ())
    }

    async fn keep_before(
        &self,
        package: &PackageName,
        installer: Installer,
    ) -> Result<(), InstallError> {
        packages::keep(&self.root, package, installer)
    }

    async fn probe(&self, wanted: &Probe) -> Result<(), String> {
        match wanted {
            Probe::Unit { name } => service_running(name),
            Probe::Tcp { port, timeout_ms } => probe::tcp(*port, *timeout_ms).await,
            Probe::Http {
                port,
                path,
                timeout_ms,
            } => probe::http(*port, path, *timeout_ms).await,
        }
    }

    async fn next_event(&self) -> HostEvent {
        let mut sources = self.sources.lock().await;
        let sources = sources.get_or_insert_with(|| self.start());
        sources.dealing_with = None;
        let mut told = self.told.lock().await;
        tokio::select! {
            biased;
            Some(event) = told.recv() => event,
            Some(power) = sources.power.recv() => {
                sources.dealing_with = Some(power.dealt_with);
                power.event
            }
            Some(event) = sources.collectors.recv() => event,
            // Every collector said what it lacks and ended.
            else => std::future::pending().await,
        }
    }

    fn watch(&mut self, paths: &[PathBuf]) {
        self.watched = paths.to_vec();
    }

    fn gateway_reachable(&self) -> Option<bool> {
        None
    }

    async fn system_stopping(&self) -> bool {
        service::is_system_stopping()
    }

    async fn can_isolate(&self) -> bool {
        let means = isolation::means();
        if let Err(error) = &means {
            tracing::warn!(%error, "no isolation on this host");
        }
        means.is_ok()
    }

    async fn isolate(&self, plan: &Plan) -> Result<(), IsolationError> {
        let plan = plan.clone();
        answered(move || isolation::close(&plan)).await
    }

    async fn end_isolation(&self) -> Result<(), IsolationError> {
        answered(isolation::open).await
    }

    async fn is_isolated(&self) -> bool {
        tokio::task::spawn_blocking(isolation::stands)
            .await
            .unwrap_or(false)
    }

    async fn escapes(&self) -> Vec<String> {
        isolation::escapes()
    }

    fn resolvers(&self) -> BTreeSet<IpAddr> {
        isolation::resolvers()
    }
}

/// The filtering engine is asked over a call that may take its time.
async fn answered(
    ask: impl FnOnce() -> Result<(), IsolationError> + Send + 'static,
) -> Result<(), IsolationError> {
    let asked = tokio::task::spawn_blocking(ask).await;
    asked.unwrap_or_else(|error| {
        Err(IsolationError::Refused {
            why: error.to_string(),
            next: "look at the agent's log",
        })
    })
}

fn set_auto_reboot(reboots: bool) -> Result<(), HostError> {
    safe_boot::set_reboots_by_itself(reboots).map_err(|why| HostError::Command {
        command: "setting AutoReboot in CrashControl".to_owned(),
        why,
        next: "run the agent as a service under LocalSystem",
    })
}
