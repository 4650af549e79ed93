//! Hosts for a lab: identities in state folders, enrolled by a token.

use crate::lab::Lab;
use crate::process::{Programs, Running, outlasting_a_full_disk, output};
use anyhow::Result;
use ringward_agent::enroll;
use ringward_agent_os::fake::{OnLethal, Script};
use ringward_domain::host::{Arch, Facts, GuardTier, Os};
use ringward_domain::signal::{Signal, SignalKind};
use ringward_domain::{BootId, Millis, SignalSeq};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use tokio::task::JoinSet;

/// Enrolments under way at one time.
const ENROLMENTS_MAX: usize = 8;

/// The script of a quick, well-behaved host.
#[must_use]
pub fn script(hostname: &str) -> Script {
    Script {
        hostname: hostname.to_owned(),
        boot_ms: Millis(300),
        on_lethal: OnLethal::CrashLoop,
        ..Script::default()
    }
}

/// What an invented host knows of itself.
#[must_use]
pub fn facts(hostname: &str) -> Facts {
    Facts {
        hostname: hostname.to_owned(),
        os: Os::Linux,
        os_build: "Scripted 1".to_owned(),
        arch: Arch::X86_64,
        kernel: "scripted".to_owned(),
        model: "scripted".to_owned(),
        // 64 hexadecimal digits that differ from host to host.
        fingerprint: hostname
            .bytes()
            .cycle()
            .take(32)
            .enumerate()
            .map(|(i, b)| format!("{:02x}", b ^ i as u8))
            .collect(),
        memory_mib: 1024,
        cpus: 1,
        guard_tier: GuardTier::Service,
    }
}

/// What an invented host tells of a watched file; `about` is in its key.
#[must_use]
pub fn change(seq: u64, about: &str) -> Signal {
    Signal {
        seq: SignalSeq(seq),
        kind: SignalKind::Change,
        key: format!("{about}:{seq}"),
        boot: BootId([1; 16]),
        at_boottime: Millis(seq),
        release: None,
        title: "/etc/edge-sensor/rules.d/291.rules was changed".to_owned(),
        signature: "rules.d/*.rules".to_owned(),
        evidence: r#"{"sha256":"9f2c","size":40960,"owner":"root"}"#.to_owned(),
    }
}

/// Enrols so many hosts without any machine under them; answers their state folders.
///
/// # Errors
/// The server refuses one.
pub async fn enrol(lab: &Lab, base: &str, count: usize) -> Result<Vec<PathBuf>> {
    let token = lab.token(count).await?;
    let mut folders = Vec::new();
    let mut tasks: JoinSet<Result<()>> = JoinSet::new();
    for index in 0..count {
        let name = format!("{base}-{index:03}");
        let folder = lab.dir().join(&name);
        std::fs::create_dir_all(&folder)?;
        folders.push(folder.clone());
        if tasks.len() >= ENROLMENTS_MAX {
            tasks.join_next().await.transpose()?.transpose()?;
        }
        let token = token.clone();
        tasks.spawn(async move {
            enroll::enroll(&folder, &token, facts(&name)).await?;
            Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(folders)
}

/// A real agent process over a scripted machine.
#[derive(Debug)]
pub struct AgentProcess {
    name: String,
    dir: PathBuf,
    programs: Programs,
    running: Option<Running>,
    env: Vec<(OsString, OsString)>,
}

impl AgentProcess {
    /// Enrols an agent and starts it.
    ///
    /// # Errors
    /// The agent cannot be started, or the server refuses it.
    pub async fn enrol(lab: &Lab, script: &Script) -> Result<Self> {
        Self::enrol_with(lab, script, &lab.token(1).await?, None).await
    }

    /// The same with a token, and its log at a level.
    ///
    /// # Errors
    /// As [`AgentProcess::enrol`].
    pub async fn enrol_with(
        lab: &Lab,
        script: &Script,
        token: &str,
        level: Option<&'static str>,
    ) -> Result<Self> {
        let mut agent = Self {
            name: script.hostname.clone(),
            dir: lab.dir().to_owned(),
            programs: lab.programs().clone(),
            running: None,
            env: level
                .map(|level| ("RINGWARD_LOG".into(), level.into()))
                .into_iter()
                .collect(),
        };
        std::fs::create_dir_all(agent.root())?;
        script.write(&agent.root())?;
        std::fs::write(
            agent.config(),
            format!("state_dir = {:?}\nadapter = \"scripted\"\n", agent.root()),
        )?;
        let secret = agent.dir.join(format!("{}.token", agent.name));
        write_private(&secret, token)?;
        let mut words = crate::lab::words(["enroll", "--config"], &agent.config());
        words.extend(crate::lab::words(["--token-file"], &secret));
        output(&agent.programs.path("ringward-agent"), words).await?;
        std::fs::remove_file(&secret)?;
        agent.start()?;
        Ok(agent)
    }

    /// Its state folder.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.dir.join(&self.name)
    }

    fn config(&self) -> PathBuf {
        self.dir.join(format!("{}.toml", self.name))
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.join(format!("{}.log", self.name))
    }

    /// Starts it where it was left.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&mut self) -> Result<()> {
        let words = crate::lab::words(["run", "--config"], &self.config());
        let (program, words) = outlasting_a_full_disk(&self.programs.path("ringward-agent"), words);
        let log = self.log();
        let started = Running::start_in(&self.name, &program, words, &log, &self.env)?;
        self.running = Some(started);
        Ok(())
    }

    /// Gives it these variables too, from its next start on.
    pub fn set_env(&mut self, env: Vec<(OsString, OsString)>) {
        self.env.extend(env);
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().and_then(Running::pid)
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub async fn kill(&mut self) -> Result<()> {
        match self.running.take() {
            Some(running) => running.kill().await,
            None => Ok(()),
        }
    }

    /// SIGTERM, and its end.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub async fn stop(&mut self) -> Result<()> {
        match self.running.take() {
            Some(running) => running.stop(std::time::Duration::from_secs(10)).await,
            None => Ok(()),
        }
    }
}

pub(crate) fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    Ok(())
}
