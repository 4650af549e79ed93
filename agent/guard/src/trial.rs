//! While a release is on trial the host must come back by itself from whatever it does: a stock kernel
//! waits for ever after a panic (`kernel.panic=0`), and nobody watches over a hang.
//!
//! What is changed is remembered in a folder that does not outlive the boot, and put back when the
//! trial ends. Nothing is written to the host's own settings: the guard does this anew in each boot.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Seconds from a panic to the reboot: time for the record of it to reach the disk, or a person's eye.
pub const PANIC_REBOOT_S: u32 = 30;
/// Seconds without a sign of life from PID 1 after which the machine's watchdog resets it.
pub const WATCHDOG_S: u32 = 60;
/// Where the kernel's setting is.
pub const PANIC_FILE: &str = "/proc/sys/kernel/panic";
/// Where what was changed is remembered; lost with the boot, like the change itself. An initramfs
/// hands it over to the system it starts.
pub const REMEMBERED: &str = "/run/ringward";
/// PID 1 takes this up when it starts: of use to a guard that runs in the initramfs, before it.
pub const MANAGER_CONF: &str = "/run/systemd/system.conf.d/90-ringward-trial.conf";

/// The places, so that tests have their own.
#[derive(Debug, Clone)]
pub struct Settings {
    panic: PathBuf,
    remembered: PathBuf,
    manager_conf: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            panic: PathBuf::from(PANIC_FILE),
            remembered: PathBuf::from(REMEMBERED),
            manager_conf: PathBuf::from(MANAGER_CONF),
        }
    }
}

impl Settings {
    /// From other places than the real ones.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self {
            panic: root.join("panic"),
            remembered: root.join("remembered"),
            manager_conf: root.join("conf.d/trial.conf"),
        }
    }

    fn memory(&self) -> PathBuf {
        self.remembered.join("kernel.panic")
    }

    /// The kernel reboots after a panic, from now on. A host that is set to reboot already, at once
    /// or later, keeps its own time. Idempotent.
    ///
    /// # Errors
    /// The kernel's setting cannot be read or written: this host waits for a person after a panic.
    pub fn begin(&self) -> io::Result<()> {
        let now = fs::read_to_string(&self.panic)?;
        if now.trim() == "0" {
            fs::create_dir_all(&self.remembered)?;
            fs::write(self.memory(), &now)?;
            fs::write(&self.panic, format!("{PANIC_REBOOT_S}\n"))?;
        }
        Ok(())
    }

    /// PID 1, which is not started yet, will feed the machine's watchdog.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn ask_for_watchdog(&self) -> io::Result<()> {
        if let Some(folder) = self.manager_conf.parent() {
            fs::create_dir_all(folder)?;
        }
        let text = format!("[Manager]\nRuntimeWatchdogSec={WATCHDOG_S}\n");
        fs::write(&self.manager_conf, text)
    }

    /// As it was before [`Settings::begin`]. Idempotent.
    ///
    /// # Errors
    /// The kernel's setting cannot be written.
    pub fn end(&self) -> io::Result<()> {
        match fs::read_to_string(self.memory()) {
            Ok(before) => {
                let now = fs::read_to_string(&self.panic)?;
                // Changed by somebody else in between: theirs is the last word.
                if now.trim() == PANIC_REBOOT_S.to_string() {
                    fs::write(&self.panic, before)?;
                }
                fs::remove_file(self.memory())?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        match fs::remove_file(&self.manager_conf) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// systemd's watchdog over D-Bus, as far as it answers: switched on where it is off, and off again
/// where we switched it on.
pub mod watchdog {
    use super::{Command, REMEMBERED, Stdio, WATCHDOG_S, fs, io};
    use std::path::Path;

    const PROPERTY: [&str; 4] = [
        "org.freedesktop.systemd1",
        "/org/freedesktop/systemd1",
        "org.freedesktop.systemd1.Manager",
        "RuntimeWatchdogUSec",
    ];

    fn busctl(verb: &str, value: &[&str]) -> io::Result<String> {
        let output = Command::new("/usr/bin/busctl")
            .args(["--timeout=5", verb])
            .args(PROPERTY)
            .args(value)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            false => Err(io::Error::other(format!(
                "busctl {verb} ended with {}",
                output.status
            ))),
        }
    }

    fn memory() -> std::path::PathBuf {
        Path::new(REMEMBERED).join("watchdog")
    }

    /// On, where the machine has one and nobody uses it.
    ///
    /// # Errors
    /// systemd does not answer or has no watchdog.
    pub fn begin() -> io::Result<()> {
        if !Path::new("/dev/watchdog").exists() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the machine has none",
            ));
        }
        if busctl("get-property", &[])? == "t 0" {
            fs::create_dir_all(REMEMBERED)?;
            fs::write(memory(), "t 0\n")?;
            let usec = (u64::from(WATCHDOG_S) * 1_000_000).to_string();
            busctl("set-property", &["t", &usec])?;
        }
        Ok(())
    }

    /// Off, where we switched it on.
    ///
    /// # Errors
    /// systemd does not answer.
    pub fn end() -> io::Result<()> {
        if memory().exists() {
            busctl("set-property", &["t", "0"])?;
            fs::remove_file(memory())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn place(name: &str, panic: &str) -> (PathBuf, Settings) {
        let root =
            std::env::temp_dir().join(format!("ringward-trial-{name}-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join("panic"), panic).unwrap();
        let settings = Settings::at(&root);
        (root, settings)
    }

    #[test]
    fn a_stock_kernel_reboots_during_a_trial_and_waits_again_after_it() {
        let (root, settings) = place("stock", "0\n");
        settings.begin().unwrap();
        settings.begin().unwrap();
        settings.ask_for_watchdog().unwrap();
        assert_eq!(fs::read_to_string(root.join("panic")).unwrap(), "30\n");
        settings.end().unwrap();
        settings.end().unwrap();
        assert_eq!(fs::read_to_string(root.join("panic")).unwrap(), "0\n");
        assert!(!root.join("conf.d/trial.conf").exists());
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn what_a_host_has_set_itself_is_left_alone() {
        for own in ["5\n", "-1\n"] {
            let (root, settings) = place("own", own);
            settings.begin().unwrap();
            assert_eq!(fs::read_to_string(root.join("panic")).unwrap(), own);
            settings.end().unwrap();
            assert_eq!(fs::read_to_string(root.join("panic")).unwrap(), own);
            fs::remove_dir_all(root).unwrap();
        }
    }

    #[test]
    fn a_change_by_somebody_else_during_the_trial_stays() {
        let (root, settings) = place("changed", "0\n");
        settings.begin().unwrap();
        fs::write(root.join("panic"), "10\n").unwrap();
        settings.end().unwrap();
        assert_eq!(fs::read_to_string(root.join("panic")).unwrap(), "10\n");
        fs::remove_dir_all(root).unwrap();
    }
}
