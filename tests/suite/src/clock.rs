//! Processes whose wall clock is wrong, and steps while they run.

use anyhow::{Context as _, Result, bail};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

const SHIM: &str = include_str!("clock.c");
/// What a battery that died in storage, or a hand that slipped, makes of a clock.
pub const TEN_YEARS_S: i64 = 10 * 365 * 86_400;

/// A wall clock that can be moved.
#[derive(Debug)]
pub struct Clock {
    shim: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// One in a folder, right at first.
    ///
    /// # Errors
    /// This system has no preloading, or no C compiler.
    pub fn new(folder: &Path, name: &str) -> Result<Self> {
        if !cfg!(all(target_os = "linux", target_env = "gnu")) {
            bail!("moving a process's clock needs Linux with glibc");
        }
        let (source, shim) = (folder.join("clock.c"), folder.join("clock.so"));
        std::fs::write(&source, SHIM)?;
        let built = Command::new("cc")
            .args(["-O1", "-shared", "-fPIC", "-o"])
            .args([&shim, &source])
            .output()
            .context("there is no C compiler `cc`")?;
        if !built.status.success() {
            let said = String::from_utf8_lossy(&built.stderr).into_owned();
            bail!("the C compiler does not build the clock library: {said}");
        }
        let clock = Self {
            shim,
            file: folder.join(format!("{name}.shift")),
        };
        clock.set(0)?;
        Ok(clock)
    }

    /// The environment of a process that has this clock.
    #[must_use]
    pub fn env(&self) -> Vec<(OsString, OsString)> {
        vec![
            ("LD_PRELOAD".into(), self.shim.clone().into()),
            ("CLOCK_SHIFT".into(), self.file.clone().into()),
        ]
    }

    /// Moves it to so many seconds from the truth, at once.
    ///
    /// # Errors
    /// The file that says so cannot be written.
    pub fn set(&self, shift_s: i64) -> Result<()> {
        use std::os::unix::fs::FileExt as _;
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(false);
        // In place: running processes look at these very bytes.
        let file = file.open(&self.file)?;
        Ok(file.write_all_at(&shift_s.to_ne_bytes(), 0)?)
    }
}
