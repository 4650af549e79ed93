//! The scripted host: one simulated machine with a real state folder, real slots and a real guard,
//! whose boots, crashes and outages follow a script. The daemon on top of it is the real one.

mod boot;
mod guard;
mod isolation;
mod machine;
pub mod script;
#[cfg(test)]
mod tests;

pub use boot::PowerUp;
pub use isolation::ISOLATION_FILE;
pub use script::{Behaviour, Firewall, OnLethal, Script};

use crate::host::{Host, HostError, HostEvent, StopReason};
use crate::isolation::{IsolationError, Plan};
use crate::{machine as real, marker, probe};
use machine::{Machine, Power};
use ring::digest;
use ringward_domain::host::{Arch, Facts, GuardTier, Os};
use ringward_domain::manifest::Probe;
use ringward_domain::signal::{SignalDraft, SignalKind};
use ringward_domain::{BootId, Millis, PackageName, Timestamp};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Events that wait for the daemon; a scripted host tells little.
const EVENTS_MAX: usize = 16;
/// An orderly shutdown takes this long, in which last words still leave the machine.
const SHUTDOWN: Duration = Duration::from_millis(100);

/// One simulated machine; clones are handles of the same one.
#[derive(Debug, Clone)]
pub struct ScriptedHost(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    /// As read last; read again at each turn of events, so that it may be rewritten meanwhile.
    script: Mutex<Script>,
    running: Mutex<Running>,
    power: watch::Sender<Power>,
    tell: mpsc::Sender<HostEvent>,
    told: tokio::sync::Mutex<mpsc::Receiver<HostEvent>>,
    /// When it told of its last change by script, and how many there were.
    changes: Mutex<(tokio::time::Instant, u64)>,
    /// When its services began to start: with the boot, or with the switch after it.
    starting: Mutex<tokio::time::Instant>,
}

/// The present boot.
#[derive(Debug, Clone)]
struct Running {
    machine: Machine,
    last_stop_clean: Option<bool>,
}

impl ScriptedHost {
    /// Take hold of the machine in `root`; a machine without a past is made, and is off. Call
    /// [`ScriptedHost::power_up`] before the daemon runs on it.
    ///
    /// # Errors
    /// The root cannot be read, or its script makes no sense.
    pub fn open(root: &Path) -> Result<Self, HostError> {
        let script = Script::read(root)?;
        let machine = Machine::read(root)?;
        let (tell, told) = mpsc::channel(EVENTS_MAX);
        let (power, _) = watch::channel(machine.power);
        Ok(Self(Arc::new(Inner {
            root: root.to_owned(),
            script: Mutex::new(script),
            running: Mutex::new(Running {
                machine,
                last_stop_clean: None,
            }),
            power,
            tell,
            told: tokio::sync::Mutex::new(told),
            changes: Mutex::new((tokio::time::Instant::now(), 0)),
            starting: Mutex::new(tokio::time::Instant::now()),
        })))
    }

    /// Bring the machine up: off the network for as long as the script says, the guard deciding at
    /// each boot, as many boots as it takes until one lives. Returns at once where it runs.
    ///
    /// # Errors
    /// The root cannot be read or written.
    pub async fn power_up(&self) -> Result<PowerUp, HostError> {
        let mut machine = self.running().machine.clone();
        let done = boot::until_alive(&self.0.root, &self.script(), &mut machine).await?;
        let last_stop_clean = marker::consume(&self.0.root, machine.boot)?;
        *self.running() = Running {
            machine,
            last_stop_clean,
        };
        let mut told = self.0.told.lock().await;
        while told.try_recv().is_ok() {}
        drop(told);
        *self.starting() = tokio::time::Instant::now();
        self.0.power.send_replace(Power::On);
        if script::behaviour(&self.0.root) == Behaviour::Lethal {
            self.suffer();
        }
        Ok(done)
    }

    /// Let the machine tell something now, as a test wants it. Dropped where too much waits already.
    pub fn inject(&self, event: HostEvent) {
        if matches!(event, HostEvent::PowerLost) {
            self.cut(Power::Panicked);
        } else {
            let _ = self.0.tell.try_send(event);
        }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.0
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn script(&self) -> Script {
        let mut script = self.0.script.lock().unwrap_or_else(PoisonError::into_inner);
        match Script::read(&self.0.root) {
            Ok(read) => *script = read,
            Err(error) => tracing::warn!(%error, "the script stays as it was"),
        }
        script.clone()
    }

    /// The next change that the script wants told; never, where it wants none.
    async fn scripted_change(&self) -> HostEvent {
        let per_s = self.script().changes_per_s.min(1_000);
        if per_s == 0 {
            return std::future::pending().await;
        }
        let last = self.changes().0;
        tokio::time::sleep_until(last + Duration::from_secs(1) / per_s).await;
        let mut changes = self.changes();
        *changes = (tokio::time::Instant::now(), changes.1 + 1);
        let (boot, at) = (self.boot(), self.boottime());
        HostEvent::Signal(SignalDraft {
            kind: SignalKind::Change,
            key: format!("change:{boot}:{}:{}", at.0, changes.1),
            boot,
            at_boottime: Millis(at.0),
            title: "a file was changed".to_owned(),
            signature: String::new(),
            evidence: String::new(),
        })
    }

    fn changes(&self) -> MutexGuard<'_, (tokio::time::Instant, u64)> {
        self.0
            .changes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn starting(&self) -> MutexGuard<'_, tokio::time::Instant> {
        self.0
            .starting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine is gone from now on. What it was is written first, so that a process that dies
    /// with it does not bring it back alive.
    fn cut(&self, how: Power) {
        let mut running = self.running();
        running.machine.power = how;
        if let Err(error) = running.machine.write(&self.0.root) {
            tracing::warn!(%error, "the scripted machine forgets how it went down");
        }
        drop(running);
        self.0.power.send_replace(how);
    }

    /// A lethal release is current in a machine that runs: let the script take its course.
    fn suffer(&self) {
        let (host, boot, script) = (self.clone(), self.boot(), self.script());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(script.dies_after_ms.0)).await;
            let still = host.boot() == boot
                && *host.0.power.borrow() == Power::On
                && script::behaviour(&host.0.root) == Behaviour::Lethal;
            match script.on_lethal {
                _ if !still => {}
                OnLethal::CrashLoop => host.cut(Power::Panicked),
                OnLethal::GoDark => host.cut(Power::Dark),
                OnLethal::ServiceCrashLoop => {
                    let _ = host.0.tell.try_send(HostEvent::Signal(crash_loop(&host)));
                }
            }
        });
    }
}

fn crash_loop(host: &impl Host) -> SignalDraft {
    SignalDraft {
        kind: SignalKind::CrashLoop,
        key: format!("crash-loop:scripted.service:{}", host.boot()),
        boot: host.boot(),
        at_boottime: Millis(host.boottime().0),
        title: "scripted.service restarted 3 times in 15 s".to_owned(),
        signature: "crash-loop:scripted.service".to_owned(),
        evidence: r#"{"restarts":3,"unit":"scripted.service"}"#.to_owned(),
    }
}

impl Host for ScriptedHost {
    fn boot(&self) -> BootId {
        self.running().machine.boot
    }

    fn boottime(&self) -> Timestamp {
        let booted_at = self.running().machine.booted_at;
        Timestamp(real::boottime().since(booted_at).0)
    }

    fn awake(&self) -> Millis {
        self.running().machine.awake()
    }

    fn facts(&self) -> Facts {
        let script = self.script();
        let fingerprint = digest::digest(&digest::SHA256, script.hostname.as_bytes());
        Facts {
            hostname: script.hostname,
            os: Os::Linux,
            os_build: script.os_build,
            arch: Arch::X86_64,
            kernel: "scripted".to_owned(),
            model: script.model,
            fingerprint: crate::hex(fingerprint.as_ref()),
            memory_mib: 1024,
            cpus: 1,
            guard_tier: GuardTier::Service,
        }
    }

    fn last_stop_clean(&self) -> Option<bool> {
        self.running().last_stop_clean
    }

    fn mark_clean_stop(&self, reason: StopReason) -> Result<(), HostError> {
        marker::write(&self.0.root, self.boot(), reason)
    }

    fn arm_guard(&self) -> Result<(), HostError> {
        // The scripted boot always asks the guard, and the guard asks the ledger.
        Ok(())
    }

    fn disarm_guard(&self) -> Result<(), HostError> {
        Ok(())
    }

    async fn reboot(&self) -> Result<(), HostError> {
        let host = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(SHUTDOWN).await;
            host.cut(Power::Rebooting);
        });
        Ok(())
    }

    fn activate(&self, package: &PackageName) -> Result<(), HostError> {
        *self.starting() = tokio::time::Instant::now();
        if script::behaviour_of(&self.0.root, package) == Behaviour::Lethal {
            match self.script().on_lethal {
                OnLethal::GoDark => {
                    self.cut(Power::Dark);
                    return Err(HostError::PowerLost);
                }
                OnLethal::CrashLoop | OnLethal::ServiceCrashLoop => self.suffer(),
            }
        }
        Ok(())
    }

    async fn probe(&self, wanted: &Probe) -> Result<(), String> {
        match wanted {
            // Units of a scripted machine are active while it runs at all, once they have started.
            Probe::Unit { .. } => {
                let up = *self.starting() + boot::duration(self.script().starts_ms);
                tokio::time::sleep_until(up).await;
                Ok(())
            }
            Probe::Tcp { port, timeout_ms } => probe::tcp(*port, *timeout_ms).await,
            Probe::Http {
                port,
                path,
                timeout_ms,
            } => probe::http(*port, path, *timeout_ms).await,
        }
    }

    async fn next_event(&self) -> HostEvent {
        let mut power = self.0.power.subscribe();
        let mut told = self.0.told.lock().await;
        tokio::select! {
            biased;
            _ = power.wait_for(|power| *power != Power::On) => HostEvent::PowerLost,
            Some(event) = told.recv() => event,
            change = self.scripted_change() => change,
        }
    }

    fn gateway_reachable(&self) -> Option<bool> {
        Some(true)
    }

    async fn system_stopping(&self) -> bool {
        false
    }

    async fn can_isolate(&self) -> bool {
        self.script().firewall != Firewall::Absent
    }

    async fn isolate(&self, plan: &Plan) -> Result<(), IsolationError> {
        isolation::close(self, plan)
    }

    async fn end_isolation(&self) -> Result<(), IsolationError> {
        isolation::open(self)
    }

    async fn is_isolated(&self) -> bool {
        isolation::stands(self)
    }
}
