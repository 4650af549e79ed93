//! Children that never outlive their parent, with their words kept in a file each.

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// The built programs.
#[derive(Debug, Clone)]
pub struct Programs(PathBuf);

impl Programs {
    /// In this folder.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// One of them.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

/// Where a long run finds its programs and keeps its files.
#[derive(Debug, Clone, clap::Args)]
pub struct Place {
    /// Folder with the built programs (default: where this one is)
    #[arg(long, value_name = "DIR", global = true)]
    programs: Option<PathBuf>,
    /// Keep everything in this folder (default: a new one, removed at the end)
    #[arg(long, value_name = "DIR", global = true)]
    dir: Option<PathBuf>,
}

impl Place {
    /// The programs, the folder, and what removes a folder that was not asked for.
    ///
    /// # Errors
    /// No folder can be made, or this program does not know where it is.
    pub fn settle(self) -> Result<(Programs, PathBuf, tempfile::TempDir)> {
        let temporary = tempfile::tempdir().context("making a folder for the run")?;
        let programs = match self.programs {
            Some(programs) => programs,
            None => std::env::current_exe()
                .context("looking for the built programs")?
                .parent()
                .map(Path::to_owned)
                .unwrap_or_default(),
        };
        let dir = self.dir.unwrap_or_else(|| temporary.path().to_owned());
        Ok((Programs::new(programs), dir, temporary))
    }
}

/// A process that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct Running {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Running {
    /// Starts `program`; what it says goes to `log`.
    ///
    /// # Errors
    /// The program or the log cannot be opened.
    pub fn start<S: AsRef<OsStr>>(
        name: &str,
        program: &Path,
        args: impl IntoIterator<Item = S>,
        log: &Path,
    ) -> Result<Self> {
        Self::start_in(name, program, args, log, &[])
    }

    /// The same with some variables of its environment.
    ///
    /// # Errors
    /// As [`Running::start`].
    pub fn start_in<S: AsRef<OsStr>>(
        name: &str,
        program: &Path,
        args: impl IntoIterator<Item = S>,
        log: &Path,
        env: &[(OsString, OsString)],
    ) -> Result<Self> {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("opening the log {}", log.display()))?;
        let child = Command::new(program)
            .args(args)
            .envs(env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        Ok(Self {
            name: name.to_owned(),
            log: log.to_owned(),
            child,
        })
    }

    /// Fails with the end of its log when the process has ended by itself.
    ///
    /// # Errors
    /// It ended.
    pub fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!(
                "{} ended with {status}; its last words:\n{}",
                self.name,
                last_lines(&self.log, 20)
            );
        }
        Ok(())
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// SIGSTOP for a while.
    ///
    /// # Errors
    /// The process is gone.
    pub async fn pause(&self, pause: Duration) -> Result<()> {
        let pid = self.child.id().and_then(unix_pid);
        let pid = pid.with_context(|| format!("{} is gone", self.name))?;
        kill_process(pid, Signal::STOP)?;
        tokio::time::sleep(pause).await;
        Ok(kill_process(pid, Signal::CONT)?)
    }

    /// SIGKILL, as if it had ended by itself.
    ///
    /// # Errors
    /// The process cannot be waited for.
    pub async fn end(&mut self) -> Result<()> {
        let killed = self.child.kill().await;
        killed.with_context(|| format!("ending {}", self.name))
    }

    /// SIGKILL: no last word, no flush, no unlock. Returns when the process is gone.
    ///
    /// # Errors
    /// The process cannot be waited for.
    pub async fn kill(mut self) -> Result<()> {
        self.child
            .kill()
            .await
            .with_context(|| format!("killing {}", self.name))
    }

    /// SIGTERM, then SIGKILL after `patience`.
    ///
    /// # Errors
    /// The process cannot be waited for.
    pub async fn stop(mut self, patience: Duration) -> Result<()> {
        if let Some(pid) = self.child.id().and_then(unix_pid) {
            // Gone already is as good as told.
            let _ = kill_process(pid, Signal::TERM);
        }
        if tokio::time::timeout(patience, self.child.wait())
            .await
            .is_err()
        {
            self.child
                .kill()
                .await
                .with_context(|| format!("stopping {}", self.name))?;
        }
        Ok(())
    }
}

/// The largest file that a running process may write, or none; what the process hits is a write that
/// fails, as on a full disk. It must ignore SIGXFSZ: see [`outlasting_a_full_disk`].
///
/// # Errors
/// The process is gone.
pub fn limit_file_bytes(pid: u32, bytes_max: Option<u64>) -> Result<()> {
    let pid = unix_pid(pid).context("no process id")?;
    let limit = Rlimit {
        current: bytes_max,
        maximum: None,
    };
    prlimit(Some(pid), Resource::Fsize, limit).context("limiting the size of a process's files")?;
    Ok(())
}

/// Program and arguments that run `program` so that a write past [`limit_file_bytes`] fails instead of
/// ending it. The process id is that of the program.
pub fn outlasting_a_full_disk(
    program: &Path,
    args: impl IntoIterator<Item = OsString>,
) -> (PathBuf, Vec<OsString>) {
    let shell = ["-c", "trap '' XFSZ; exec \"$0\" \"$@\""].map(OsString::from);
    let words = shell
        .into_iter()
        .chain([program.as_os_str().to_owned()])
        .chain(args);
    ("/bin/sh".into(), words.collect())
}

/// How many files a running process may have open from now on; what it hits is an `accept` or `open` that
/// fails.
///
/// # Errors
/// The process is gone.
pub fn limit_open_files(pid: u32, files_max: u64) -> Result<()> {
    let pid = unix_pid(pid).context("no process id")?;
    let limit = Rlimit {
        current: Some(files_max),
        // A child's upper bound is ours; nobody may raise it.
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    prlimit(Some(pid), Resource::Nofile, limit).context("limiting a process's open files")?;
    Ok(())
}

fn unix_pid(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

fn last_lines(path: &Path, count: usize) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Runs a program to its end and returns what it said; its failure is an error with its words.
///
/// # Errors
/// It cannot be started, or fails.
pub async fn output<S: AsRef<OsStr>>(
    program: &Path,
    args: impl IntoIterator<Item = S>,
) -> Result<String> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    let shown = format!("{:?}", command.as_std());
    let output = command
        .output()
        .await
        .with_context(|| format!("starting {shown}"))?;
    if !output.status.success() {
        bail!(
            "{shown} ended with {}:\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Asks until the answer is `Some`, or the patience is at its end.
///
/// # Errors
/// The question itself fails, or the time is over: then `what` says what did not come about.
pub async fn wait_for<T, F: Future<Output = Result<Option<T>>>>(
    what: &str,
    patience: Duration,
    mut ask: impl FnMut() -> F,
) -> Result<T> {
    let end = Instant::now() + patience;
    loop {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        if Instant::now() >= end {
            bail!("{what} did not come about within {} s", patience.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
