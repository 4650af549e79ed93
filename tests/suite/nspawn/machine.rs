//! One container: its root, its boots, commands inside it.

use anyhow::{Context, Result, bail};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The agent's state folder, below the root.
pub const STATE: &str = "var/lib/ringward-agent";

/// A boot takes a second on an idle machine; on one with thirty processes in its queue, a minute.
const BOOT_PATIENCE: Duration = Duration::from_secs(300);
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A container over a read-only base.
pub struct Machine {
    nspawn: PathBuf,
    work: PathBuf,
    running: Option<Boot>,
    /// The wire of its only network device; without one it has none.
    bridge: Option<String>,
}

struct Boot {
    child: Child,
    /// Its PID 1, as this system numbers it.
    leader: u32,
}

fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("starting {command:?}"))?;
    match status.success() {
        true => Ok(()),
        false => bail!("{command:?} ended with {status}"),
    }
}

impl Machine {
    /// A fresh layer over `base`.
    pub fn prepare(nspawn: &Path, base: &Path, work: &Path) -> Result<Self> {
        let machine = Self {
            nspawn: nspawn.to_owned(),
            work: work.to_owned(),
            running: None,
            bridge: None,
        };
        machine.unmount();
        if work.exists() {
            std::fs::remove_dir_all(work)
                .with_context(|| format!("emptying {}", work.display()))?;
        }
        for folder in ["upper", "layer", "root"] {
            std::fs::create_dir_all(work.join(folder))?;
        }
        let layers = format!(
            "lowerdir={},upperdir={},workdir={}",
            base.display(),
            work.join("upper").display(),
            work.join("layer").display()
        );
        run(Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o", &layers])
            .arg(work.join("root")))?;
        Ok(machine)
    }

    /// From the next boot on the container is on this bridge, or on none.
    pub fn use_bridge(&mut self, bridge: Option<&str>) {
        self.bridge = bridge.map(str::to_owned);
    }

    /// The container's root, as this system sees it.
    pub fn root(&self) -> PathBuf {
        self.work.join("root")
    }

    /// Copies a folder's files to `/srv/<name>`.
    pub fn copy_in(&self, folder: &Path, name: &str) -> Result<()> {
        let to = self.root().join("srv").join(name);
        std::fs::create_dir_all(&to)?;
        for entry in folder.read_dir()? {
            let path = entry?.path();
            if let Some(name) = path.file_name() {
                std::fs::copy(&path, to.join(name))
                    .with_context(|| format!("copying {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// Installs a package of Debian while the container is off; this system's network fetches it.
    pub fn add_package(&self, name: &str) -> Result<()> {
        let root = self.root();
        std::fs::copy("/etc/resolv.conf", root.join("etc/resolv.conf"))?;
        // Nothing is started by the installation.
        std::fs::write(root.join("usr/sbin/policy-rc.d"), "#!/bin/sh\nexit 101\n")?;
        run(Command::new("chmod")
            .arg("755")
            .arg(root.join("usr/sbin/policy-rc.d")))?;
        let line = format!(
            "apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends {name}"
        );
        run(Command::new("chroot")
            .arg(&root)
            .args(["/usr/bin/env", "-i", PATH, "/bin/sh", "-c", &line])
            .stdout(Stdio::null())
            .stderr(Stdio::null()))
        .with_context(|| format!("Debian's archive does not give {name}"))
    }

    /// Boots it; answers the seconds until systemd came to rest.
    pub fn boot(&mut self) -> Result<f64> {
        let begun = Instant::now();
        let log = File::create(self.work.join("console.log"))?;
        let network = match &self.bridge {
            Some(bridge) => format!("--network-bridge={bridge}"),
            None => "--private-network".to_owned(),
        };
        let child = Command::new(&self.nspawn)
            .args([
                "-q",
                "--register=no",
                "--keep-unit",
                &network,
                "--link-journal=no",
            ])
            .args(["--console=pipe", "--boot", "-M", "ringward-test", "-D"])
            .arg(self.root())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", self.nspawn.display()))?;
        let pid = child.id();
        self.running = Some(Boot { child, leader: 0 });
        let leader = self.wait_for("PID 1 of the container", BOOT_PATIENCE, |_| {
            Ok(leader_of(pid))
        })?;
        if let Some(running) = &mut self.running {
            running.leader = leader;
        }
        self.wait_for("a booted system", BOOT_PATIENCE, |machine| {
            let state = machine.say("systemctl is-system-running || true")?;
            Ok(matches!(state.trim(), "running" | "degraded").then_some(()))
        })?;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Runs a shell line inside; its failure is an error with its words.
    pub fn say(&self, line: &str) -> Result<String> {
        let Some(boot) = &self.running else {
            bail!("the container does not run");
        };
        let output = Command::new("nsenter")
            .args([
                "-a",
                "-t",
                &boot.leader.to_string(),
                "/usr/bin/env",
                "-i",
                PATH,
                "HOME=/root",
            ])
            .args(["/bin/sh", "-c", line])
            .stdin(Stdio::null())
            .output()
            .context("starting nsenter")?;
        let words = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!(
                "`{line}` ended with {}: {words}{}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(words)
    }

    /// Asks until there is an answer.
    pub fn wait_for<T>(
        &self,
        what: &str,
        patience: Duration,
        mut ask: impl FnMut(&Self) -> Result<Option<T>>,
    ) -> Result<T> {
        ringward_suite::wait::until(what, patience, Duration::from_millis(50), || ask(self))
    }

    /// The agent's words of this boot.
    pub fn agent_log(&self) -> Result<String> {
        self.say("journalctl -b -u ringward-agent -o cat --no-pager")
    }

    /// Waits until the agent's log of this boot holds a word.
    pub fn agent_says(&self, word: &str, patience: Duration) -> Result<String> {
        self.wait_for(
            &format!("{word:?} in the agent's log"),
            patience,
            |machine| {
                let log = machine.agent_log()?;
                Ok(log
                    .lines()
                    .find(|line| line.contains(word))
                    .map(str::to_owned))
            },
        )
    }

    /// Shuts down in good order.
    pub fn shut_down(&mut self) -> Result<()> {
        self.say("systemctl --no-block poweroff")?;
        self.ended()
    }

    /// Kills PID 1: nobody gets to say a last word.
    pub fn power_cut(&mut self) -> Result<()> {
        let Some(boot) = &self.running else {
            return Ok(());
        };
        run(Command::new("kill").args(["-KILL", &boot.leader.to_string()]))?;
        self.ended()
    }

    fn ended(&mut self) -> Result<()> {
        let Some(mut boot) = self.running.take() else {
            return Ok(());
        };
        let end = Instant::now() + BOOT_PATIENCE;
        while boot.child.try_wait()?.is_none() {
            if Instant::now() >= end {
                boot.child.kill()?;
                boot.child.wait()?;
                bail!("the container did not stop");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// What helps to understand a scene that failed.
    pub fn last_words(&self) -> String {
        let journal = self.say(
            "journalctl -b -o short-monotonic --no-pager -n 40; systemctl --failed --no-pager",
        );
        let console = std::fs::read_to_string(self.work.join("console.log")).unwrap_or_default();
        format!(
            "{}\n{console}",
            journal.unwrap_or_else(|error| format!("{error:#}"))
        )
    }

    fn unmount(&self) {
        let root = self.root();
        if root.exists() {
            // Fails where nothing is mounted, which is as good.
            let _ = Command::new("umount")
                .arg(&root)
                .stderr(Stdio::null())
                .status();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Err(error) = self.power_cut() {
            eprintln!("stopping the container: {error:#}");
        }
        self.unmount();
    }
}

/// The child of nspawn that is PID 1 inside.
fn leader_of(nspawn: u32) -> Option<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{nspawn}/task")).ok()?;
    let children = tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok())
        .collect::<String>();
    children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .find(|pid: &u32| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let inner = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            inner.is_some_and(|pids| {
                pids.split_whitespace().count() > 1 && pids.trim_end().ends_with("\t1")
            })
        })
}
