//! A real Linux machine with systemd.

pub mod child;
mod collect;
mod dbus;
mod facts;
pub mod folders;
mod gateway;
mod isolation;
pub mod memory;
mod notify;
pub mod packages;
pub mod places;
mod setup;
mod stop;
mod stop_witness;
mod timer;

pub use LinuxHost as Machine;
pub use notify::Notifier;
pub use setup::{SetUpError, purge, set_up, start};
pub use stop::{log_writer, stop_requested, under_service_manager};

use crate::collect::Place;
use crate::host::{Host, HostError, HostEvent, InstallError, StopReason};
use crate::isolation::{IsolationError, Plan};
use crate::{marker, probe};
use isolation::Isolation;
use ringward_domain::host::{Facts, GuardTier};
use ringward_domain::manifest::{Installer, Probe};
use ringward_domain::{BootId, Millis, PackageName, Timestamp};
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

const SYSTEMCTL: &str = "/usr/bin/systemctl";
/// systemd answers such questions in milliseconds; a hanging D-Bus must not hold the agent.
const SYSTEMCTL_TIMEOUT: Duration = Duration::from_secs(5);
const ARMED: &str = "guard-armed";
const TRIAL_UNIT: &str = "ringward-trial.service";

/// Milliseconds since boot, time asleep included.
#[must_use]
pub fn boottime() -> Timestamp {
    Timestamp(millis(ClockId::Boottime))
}

/// Milliseconds since boot, time asleep left out.
#[must_use]
pub fn awake() -> Millis {
    Millis(millis(ClockId::Monotonic))
}

fn millis(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}

/// The machine this process runs on.
#[derive(Debug)]
pub struct LinuxHost {
    root: PathBuf,
    boot: BootId,
    last_stop_clean: Option<bool>,
    boot_before: Option<BootId>,
    watched: Vec<PathBuf>,
    timer: std::sync::OnceLock<Option<timer::Timer>>,
    /// What the collectors tell; they start with the first question.
    events: tokio::sync::Mutex<Option<tokio::sync::mpsc::Receiver<HostEvent>>>,
    isolation: Isolation,
}

/// Facts of this machine, without taking hold of it.
#[must_use]
pub fn facts() -> Facts {
    facts::collect(Path::new("/"))
}

/// Where the guard has a place in this machine's boot.
#[must_use]
pub fn guard_tier() -> GuardTier {
    facts::guard_tier(Path::new("/"))
}

/// Whether the boot loader of this boot counts the tries of entries.
#[must_use]
pub fn loader_counts() -> bool {
    facts::loader_counts(Path::new("/"))
}

/// By what this machine is isolated where that is ordered: by this `nft`, or by the system's.
///
/// # Errors
/// By nothing, and why.
pub async fn isolation_means(program: Option<&Path>) -> Result<&'static str, IsolationError> {
    isolation::means(program).await
}

impl LinuxHost {
    /// Take hold of the machine; the clean-stop marker in `root` (the state folder) is consumed.
    ///
    /// # Errors
    /// The kernel's boot id cannot be read, or the state folder cannot be written.
    pub fn open(root: &Path) -> Result<Self, HostError> {
        let boot = boot_id(Path::new("/proc/sys/kernel/random/boot_id"))?;
        let up = Duration::from_millis(boottime().0);
        let ask = |before| stop_witness::ask(before, up);
        let last_stop_clean = marker::consume_with(root, boot, ask)?;
        let boot_before = marker::boot_before(root);
        Ok(Self {
            root: root.to_owned(),
            boot,
            last_stop_clean,
            boot_before,
            watched: Vec::new(),
            timer: std::sync::OnceLock::new(),
            events: tokio::sync::Mutex::default(),
            isolation: Isolation::new(root, None, boot),
        })
    }

    /// Use this `nft` instead of the system's.
    #[must_use]
    pub fn with_firewall(mut self, program: Option<PathBuf>) -> Self {
        self.isolation = Isolation::new(&self.root, program, self.boot);
        self
    }

    async fn next_collected(&self) -> HostEvent {
        let mut events = self.events.lock().await;
        let events = events.get_or_insert_with(|| {
            let place = Place {
                root: self.root.clone(),
                boot: self.boot,
                boot_before: self.boot_before,
            };
            collect::start(place, self.watched.clone())
        });
        match events.recv().await {
            Some(event) => event,
            // Every collector said what it lacks and ended.
            None => std::future::pending().await,
        }
    }
}

fn boot_id(path: &Path) -> Result<BootId, HostError> {
    let text = std::fs::read_to_string(path).map_err(|source| HostError::File {
        doing: "reading the boot id from",
        path: path.display().to_string(),
        next: "mount /proc for the agent",
        source,
    })?;
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    digits.parse().map_err(|error| HostError::Malformed {
        what: format!("the boot id in {}", path.display()),
        why: format!("{error}"),
        next: "mount /proc for the agent",
    })
}

/// Ask systemd; the answer counts, whatever the exit status: `is-active` fails for what is not.
async fn ask_systemd(arguments: &[&str]) -> Result<String, HostError> {
    let output = systemctl(arguments).await?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn systemctl_failed(arguments: &[&str], why: String) -> HostError {
    HostError::Command {
        command: format!("{SYSTEMCTL} {}", arguments.join(" ")),
        why,
        next: "check that systemd runs this machine and answers",
    }
}

async fn systemctl(arguments: &[&str]) -> Result<Output, HostError> {
    let mut command = Command::new(SYSTEMCTL);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    timeout(SYSTEMCTL_TIMEOUT, command.output())
        .await
        .map_err(|_| {
            let seconds = SYSTEMCTL_TIMEOUT.as_secs();
            systemctl_failed(arguments, format!("no answer within {seconds} s"))
        })?
        .map_err(|error| systemctl_failed(arguments, error.to_string()))
}

/// Lets the host reboot by itself while a release is on trial. The agent's own unit may not write to
/// the kernel's settings, so another one does. The guard does the same at each boot of the trial, so
/// that what fails here is told and no more.
fn trial_unit(verb: &'static str) {
    tokio::spawn(async move {
        let arguments = ["--no-block", verb, TRIAL_UNIT];
        let failed = match systemctl(&arguments).await {
            Ok(output) if output.status.success() => return,
            Ok(output) => systemctl_failed(&arguments, output.status.to_string()),
            Err(error) => error,
        };
        tracing::warn!("this host may not reboot by itself before its next boot: {failed}");
    });
}

async fn unit_active(name: &str) -> Result<(), String> {
    if name.is_empty() || name.starts_with('-') || name.contains(|c: char| c.is_control()) {
        return Err(format!("{name:?} is no unit's name"));
    }
    match ask_systemd(&["is-active", name]).await {
        Ok(state) if state == "active" => Ok(()),
        Ok(state) => Err(format!("unit {name} is {state}")),
        Err(error) => Err(error.to_string()),
    }
}

impl Host for LinuxHost {
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
        marker::write_durably(&self.root.join(ARMED), b"armed\n")?;
        trial_unit("start");
        Ok(())
    }

    fn disarm_guard(&self) -> Result<(), HostError> {
        let path = self.root.join(ARMED);
        trial_unit("stop");
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
        // What was installed since the guard was armed may have brought a boot entry.
        if self.root.join(ARMED).exists() {
            let arguments = ["reload", TRIAL_UNIT];
            let failed = match systemctl(&arguments).await {
                Ok(output) if output.status.success() => None,
                Ok(output) => Some(systemctl_failed(&arguments, output.status.to_string())),
                Err(error) => Some(error),
            };
            if let Some(failed) = failed {
                tracing::warn!("a boot entry of this release may not reboot by itself: {failed}");
            }
        }
        let arguments = ["--no-block", "reboot"];
        let output = systemctl(&arguments).await?;
        match output.status.success() {
            true => Ok(()),
            false => Err(systemctl_failed(&arguments, output.status.to_string())),
        }
    }

    fn activate(&self, _package: &PackageName) -> Result<(), HostError> {
        // A bundle is files behind one link; whoever uses them follows the link.
        Ok(())
    }

    async fn install(&self, package: &PackageName) -> Result<(), InstallError> {
        packages::install(&self.root, package).await
    }

    async fn keep_before(
        &self,
        package: &PackageName,
        installer: Installer,
    ) -> Result<(), InstallError> {
        packages::keep(&self.root, package, installer).await
    }

    async fn probe(&self, wanted: &Probe) -> Result<(), String> {
        match wanted {
            Probe::Unit { name } => unit_active(name).await,
            Probe::Tcp { port, timeout_ms } => probe::tcp(*port, *timeout_ms).await,
            Probe::Http {
                port,
                path,
                timeout_ms,
            } => probe::http(*port, path, *timeout_ms).await,
        }
    }

    async fn next_event(&self) -> HostEvent {
        tokio::select! {
            event = self.isolation.next_event() => event,
            event = self.next_collected() => event,
        }
    }

    fn watch(&mut self, paths: &[PathBuf]) {
        self.watched = paths.to_vec();
    }

    fn started(&self) {
        memory::give_back();
    }

    async fn sleep(&self, pause: Duration) {
        let timer = self.timer.get_or_init(|| timer::Timer::new().ok());
        match timer {
            Some(timer) if timer.sleep(pause).await.is_ok() => {}
            _ => tokio::time::sleep(pause).await,
        }
    }

    fn gateway_reachable(&self) -> Option<bool> {
        gateway::reachable(Path::new("/proc/net/route"), Path::new("/proc/net/arp"))
    }

    async fn system_stopping(&self) -> bool {
        match ask_systemd(&["is-system-running"]).await {
            Ok(state) => state == "stopping",
            // Not known to be a person's act: nothing is announced, the silence deadline stays.
            Err(_) => true,
        }
    }

    fn collect_anew(&self) -> Result<(), HostError> {
        // The collectors begin anew with the next question; each knows what it has told already.
        match self.events.try_lock() {
            Ok(mut events) => *events = None,
            Err(_) => tracing::debug!("the collectors are just being asked"),
        }
        Ok(())
    }

    async fn can_isolate(&self) -> bool {
        self.isolation.able().await
    }

    async fn isolate(&self, plan: &Plan) -> Result<(), IsolationError> {
        self.isolation.close(plan).await
    }

    async fn end_isolation(&self) -> Result<(), IsolationError> {
        self.isolation.open().await
    }

    async fn is_isolated(&self) -> bool {
        self.isolation.stands().await
    }

    async fn escapes(&self) -> Vec<String> {
        isolation::escapes().await
    }

    fn resolvers(&self) -> BTreeSet<IpAddr> {
        isolation::resolvers(Path::new("/"))
    }

    async fn stays_off(&self) -> bool {
        let jobs = ask_systemd(&["list-jobs", "--no-legend"]).await;
        jobs.is_ok_and(|jobs| switches_off(&jobs))
    }
}

/// Whether the jobs of a system that stops end in darkness and not in another boot.
fn switches_off(jobs: &str) -> bool {
    let wanted = |target: &str| {
        jobs.lines()
            .any(|job| job.split_whitespace().any(|word| word == target))
    };
    let off = wanted("poweroff.target") || wanted("halt.target");
    off && !wanted("reboot.target") && !wanted("kexec.target")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_boot_id_is_the_kernels_own() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("boot_id");
        std::fs::write(&path, "0a1b2c3d-0000-4000-8000-00000000abcd\n").unwrap();
        assert_eq!(
            boot_id(&path).unwrap().to_string(),
            "0a1b2c3d00004000800000000000abcd"
        );
        std::fs::write(&path, "nonsense").unwrap();
        assert!(boot_id(&path).unwrap_err().to_string().contains("boot id"));
    }

    #[test]
    fn the_clock_with_suspend_is_never_behind_the_one_without() {
        let awake_first = awake();
        assert!(boottime().0 >= awake_first.0);
    }

    #[test]
    fn only_a_machine_that_stays_off_announces_it() {
        for (jobs, off) in [
            (
                "12 poweroff.target start waiting\n13 dbus.service stop running",
                true,
            ),
            ("7 halt.target start waiting", true),
            ("12 reboot.target start waiting", false),
            (
                "12 kexec.target start waiting\n13 poweroff.target stop done",
                false,
            ),
            ("", false),
        ] {
            assert_eq!(switches_off(jobs), off, "{jobs}");
        }
    }

    #[tokio::test]
    async fn a_unit_name_cannot_become_an_option() {
        let why = unit_active("--version").await.unwrap_err();
        assert!(why.contains("no unit's name"), "{why}");
    }
}
