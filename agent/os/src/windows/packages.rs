//! Windows Installer packages as releases. The slot names what should be installed and is written before
//! anything is done; msiexec makes the system have it, and the outcome is noted beside the slots:
//!
//! ```text
//! <root>\slots\<package>\current      what should be installed; without it, what was there before
//! <root>\slots\<package>\before\      the vault: the package that others had installed, or a note that
//!                                     there was none
//! <root>\slots\<package>\outcome      `ok <release>` when the system has it
//! <root>\slots\<package>\msiexec.log  what the last call said
//! ```
//!
//! So a cut at any moment ends in the same work done again. It runs where Windows Installer does:
//! neither in Safe Mode nor in WinRE.

mod database;

use crate::host::InstallError;
use crate::marker::write_durably;
use crate::msi::{self, Ended, Product, Step};
use crate::windows::safe_boot;
use ringward_domain::PackageName;
use ringward_domain::manifest::{Installer, MSI};
use ringward_guard::{GuardError, Slots, SystemFiles, staged};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// Another installation is waited for so often, this long apart; then it is told as busy.
const BUSY_TRIES: u32 = 6;
const BUSY_PAUSE: Duration = Duration::from_secs(10);
/// A package of gigabytes on a slow disk.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// The agent's own package.
const OWN: &str = "ringward-agent";
/// In the vault, where nothing was installed before.
const ABSENT: &str = "package.msi.absent";

/// Never called: there is no unit here that would.
///
/// # Errors
/// Always.
pub fn run(_state: &Path, _instance: &str) -> Result<String, String> {
    Err("Windows Installer packages need no unit".to_owned())
}

/// Whether the system's programs belong to an image that packages cannot change: never here.
#[must_use]
pub fn read_only_usr(_root: &Path) -> Option<String> {
    None
}

fn guard_failed(error: GuardError) -> InstallError {
    InstallError::Failed(error.to_string())
}

fn io_failed(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> InstallError {
    let path = path.display().to_string();
    move |error| InstallError::Failed(format!("{doing} {path}: {error}"))
}

/// One package's place in the slots.
struct PackageSlot<'a> {
    root: &'a Path,
    package: &'a PackageName,
}

/// Why no package of this kind can be installed now.
fn cannot(package: &PackageName, installer: Installer) -> Option<String> {
    match installer {
        Installer::Bundle => None,
        Installer::Deb | Installer::Rpm => Some("deb and rpm are for Linux hosts".to_owned()),
        Installer::Msi if package.as_str() == OWN => Some(
            "the agent's own MSI is installed by whatever installed it: it would end this agent \
             in the middle of its work"
                .to_owned(),
        ),
        Installer::Msi => safe_boot::safe_mode().map(|mode| {
            format!(
                "Windows Installer does not run in {mode}: nothing is installed or taken back \
                 before the next usual boot"
            )
        }),
    }
}

/// Makes the system have what the slot of this package names. `true` where a reboot completes it.
pub(super) async fn install(root: &Path, package: &PackageName) -> Result<bool, InstallError> {
    if let Some(why) = cannot(package, Installer::Msi) {
        return Err(InstallError::Unsupported(why));
    }
    PackageSlot { root, package }.install().await
}

/// Puts the package that others installed into the vault, where no release of ours is the way back.
pub(super) fn keep(
    root: &Path,
    package: &PackageName,
    installer: Installer,
) -> Result<(), InstallError> {
    if let Some(why) = cannot(package, installer) {
        return Err(InstallError::Unsupported(why));
    }
    PackageSlot { root, package }.keep()
}

impl PackageSlot<'_> {
    fn slot(&self) -> PathBuf {
        self.root.join("slots").join(self.package.as_str())
    }

    /// The package file that should be installed; `None` where nothing should be.
    fn wanted(&self) -> Result<Option<PathBuf>, InstallError> {
        let slots = Slots::new(SystemFiles, self.root);
        let running = slots.running(self.package).map_err(guard_failed)?;
        let folder = match &running {
            Some(release) => self.slot().join(release.to_string()),
            None => self.slot().join("before"),
        };
        let file = folder.join(MSI);
        if file.is_file() {
            return Ok(Some(file));
        }
        if running.is_none() && folder.join(ABSENT).is_file() {
            return Ok(None);
        }
        Err(InstallError::Failed(format!(
            "{} holds no package: there is nothing to install, and nothing is removed",
            folder.display()
        )))
    }

    /// The product's family, by any package of it that is here: all releases share it.
    fn family(&self) -> Result<Product, InstallError> {
        let slot = self.slot();
        let entries = slot.read_dir().map_err(io_failed("listing", &slot))?;
        let mut files = entries.flatten().map(|entry| entry.path().join(MSI));
        let file = files.find(|file| file.is_file());
        let file = file
            .ok_or_else(|| InstallError::Failed(format!("{} holds no package", slot.display())))?;
        database::describe(&file).map_err(InstallError::Failed)
    }

    async fn install(&self) -> Result<bool, InstallError> {
        let file = self.wanted()?;
        let wanted = file.as_deref().map(database::describe).transpose();
        let wanted = wanted.map_err(InstallError::Failed)?;
        let upgrade = match &wanted {
            Some(wanted) => wanted.upgrade.clone(),
            None => self.family()?.upgrade,
        };
        let steps = msi::steps(wanted.as_ref(), &database::installed(&upgrade));
        if !steps.is_empty() {
            staged::note(SystemFiles, self.root, self.package, "at work").map_err(guard_failed)?;
        }
        let mut needs_reboot = false;
        for step in &steps {
            needs_reboot |= self.take(step, file.as_deref()).await?;
        }
        let left = msi::steps(wanted.as_ref(), &database::installed(&upgrade));
        if !left.is_empty() {
            return Err(InstallError::Failed(format!(
                "msiexec said it was done, but there is still to do: {left:?}"
            )));
        }
        staged::note_done(SystemFiles, self.root, self.package).map_err(guard_failed)?;
        Ok(needs_reboot)
    }

    /// One call of msiexec; whether a reboot completes it.
    async fn take(&self, step: &Step, file: Option<&Path>) -> Result<bool, InstallError> {
        for _ in 0..BUSY_TRIES {
            match msi::ended(self.call(step, file).await?, step) {
                Ended::Done => return Ok(false),
                Ended::RebootPending => return Ok(true),
                Ended::Busy => tokio::time::sleep(BUSY_PAUSE).await,
                Ended::Failed(why) => {
                    let log = self.slot().join("msiexec.log");
                    return Err(InstallError::Failed(format!("{why} ({})", log.display())));
                }
            }
        }
        Err(InstallError::Busy(
            "Windows Installer has another installation under way".to_owned(),
        ))
    }

    async fn call(&self, step: &Step, file: Option<&Path>) -> Result<u32, InstallError> {
        let mut command = Command::new("msiexec.exe");
        match (step, file) {
            (Step::Remove(code), _) => command.arg("/x").arg(code),
            (Step::Install, Some(file)) => command.arg("/i").arg(file),
            (Step::Install, None) => {
                return Err(InstallError::Failed(
                    "there is no package to install".to_owned(),
                ));
            }
        };
        command
            .args(["/qn", "/norestart", "REBOOT=ReallySuppress", "/l*v"])
            .arg(self.slot().join("msiexec.log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let failed = |why: String| InstallError::Failed(format!("running msiexec: {why}"));
        match timeout(PATIENCE, command.status()).await {
            // Left to end by itself: an installer that is killed leaves the most behind.
            Err(_) => Err(failed(format!(
                "no end within {} min",
                PATIENCE.as_secs() / 60
            ))),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Ok(Ok(status)) => status
                .code()
                .map(i32::cast_unsigned)
                .ok_or_else(|| failed("it ended without a code".to_owned())),
        }
    }

    fn keep(&self) -> Result<(), InstallError> {
        let slots = Slots::new(SystemFiles, self.root);
        if slots.running(self.package).map_err(guard_failed)?.is_some() {
            return Ok(());
        }
        let vault = self.slot().join("before");
        let family = self.family()?;
        std::fs::create_dir_all(&vault).map_err(io_failed("making", &vault))?;
        let (kept, absent) = (vault.join(MSI), vault.join(ABSENT));
        let installed = database::installed(&family.upgrade);
        let Some(present) = installed.first() else {
            let _ = std::fs::remove_file(&kept);
            return write_durably(&absent, b"")
                .map_err(|error| InstallError::Failed(error.to_string()));
        };
        let fits = |file: &Path| database::describe(file).is_ok_and(|told| told == *present);
        if !fits(&kept) {
            let cached = database::cached(&present.code).ok_or_else(|| {
                InstallError::Failed(format!("Windows Installer has no copy of {present}"))
            })?;
            if !database::is_whole(&cached).map_err(InstallError::Failed)? {
                return Err(InstallError::Failed(format!(
                    "the copy that Windows Installer keeps of {present} has no files in it: \
                     it is no way back"
                )));
            }
            if !fits(&cached) {
                return Err(InstallError::Failed(format!(
                    "{} is not what is installed ({present})",
                    cached.display()
                )));
            }
            let bytes = std::fs::read(&cached).map_err(io_failed("reading", &cached))?;
            write_durably(&kept, &bytes)
                .map_err(|error| InstallError::Failed(error.to_string()))?;
        }
        let _ = std::fs::remove_file(&absent);
        Ok(())
    }
}
