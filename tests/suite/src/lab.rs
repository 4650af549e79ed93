//! One real server with its own CA in a folder of its own, and the admin's way to it.

use crate::process::{Programs, Running, outlasting_a_full_disk, output, wait_for};
use anyhow::{Context as _, Result};
use ringwardctl::client::Client;
use ringwardctl::context::Context;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Seconds where a real fleet has minutes and hours: the least that a policy may say.
pub const POLICY: &str = "soak_s = 1\nheartbeat_s = 1\nsilence_reboot_s = 8\nsilence_s = 8\n\
    restart_grace_s = 1\nattribution_s = 5\n[caps_per_hour]\nreboots = 50\n\
    [brakes]\nhosts_per_hour = 10000\nring_hosts_per_hour = 10000\nisolated = 10000\n[[ring]]\nname = \"all\"\n";

/// Where a server listens.
#[derive(Debug, Clone, Copy, serde::Deserialize)]
pub struct Addresses {
    /// For agents.
    pub agents: SocketAddr,
    /// For people.
    pub admins: SocketAddr,
}

/// A server and what is needed to speak to it.
pub struct Lab {
    programs: Programs,
    dir: PathBuf,
    context: PathBuf,
    client: Client,
    server: Option<Running>,
    env: Vec<(OsString, OsString)>,
}

impl Lab {
    /// Makes and starts a server in `dir`.
    ///
    /// # Errors
    /// A program cannot be started, or the server does not answer.
    pub async fn set_up(programs: Programs, dir: &Path) -> Result<Self> {
        Self::set_up_at(programs, dir, None).await
    }

    /// The same, with the server's log at a level.
    ///
    /// # Errors
    /// As [`Lab::set_up`].
    pub async fn set_up_at(
        programs: Programs,
        dir: &Path,
        log: Option<&'static str>,
    ) -> Result<Self> {
        Self::set_up_with(programs, dir, log, POLICY, &[]).await
    }

    /// The same, with a policy, and with other numbers in the server's settings.
    ///
    /// # Errors
    /// As [`Lab::set_up`].
    pub async fn set_up_with(
        programs: Programs,
        dir: &Path,
        log: Option<&'static str>,
        policy: &str,
        settings: &[(&str, usize)],
    ) -> Result<Self> {
        let data = dir.join("server");
        std::fs::create_dir_all(dir)?;
        let rings = dir.join("rings.toml");
        std::fs::write(&rings, policy)?;
        let keys = dir.join("release-keys");
        output(
            &programs.path("ringwardctl"),
            words(["keys", "init", "--dir"], &keys),
        )
        .await?;
        let mut init = words(
            [
                "init",
                "--agent-address",
                "127.0.0.1:0",
                "--admin-address",
                "127.0.0.1:0",
                "--data",
            ],
            &data,
        );
        init.extend(words(["--rings"], &rings));
        init.extend(words(["--release-root"], &keys.join("release-root.json")));
        output(&programs.path("ringward-server"), init).await?;
        let file = data.join("server.toml");
        let mut text = std::fs::read_to_string(&file)?;
        for (name, value) in settings {
            let before = format!("\n{name} = ");
            let (head, rest) = text
                .split_once(&before)
                .with_context(|| format!("server.toml has no {name}"))?;
            let tail = rest.split_once('\n').map_or("", |(_, tail)| tail);
            text = format!("{head}{before}{value}\n{tail}");
        }
        std::fs::write(&file, text)?;
        let context = data.join("admin.context.toml");
        let level = log.map(|level| ("RINGWARD_LOG".into(), level.into()));
        let env: Vec<_> = level.into_iter().collect();
        let server = Some(start(&programs, dir, &env)?);
        let client = reach(&context).await?;
        Ok(Self {
            programs,
            dir: dir.to_owned(),
            context,
            client,
            server,
            env,
        })
    }

    /// The folder of everything.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The built programs.
    #[must_use]
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// The admin's connection.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Where the server listens.
    ///
    /// # Errors
    /// It did not write that down.
    pub fn addresses(&self) -> Result<Addresses> {
        let path = self.dir.join("server").join("run").join("addresses.json");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("reading {}", path.display()))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// The admin's context file.
    #[must_use]
    pub fn context(&self) -> &Path {
        &self.context
    }

    /// What the server wrote to its log.
    #[must_use]
    pub fn server_log(&self) -> String {
        std::fs::read_to_string(self.dir.join("server.log")).unwrap_or_default()
    }

    /// The server's process id, while it runs.
    #[must_use]
    pub fn server_pid(&self) -> Option<u32> {
        self.server.as_ref().and_then(Running::pid)
    }

    /// Runs `ringwardctl` with the admin's context.
    ///
    /// # Errors
    /// It fails; its words are in the error.
    pub async fn ctl(&self, args: &[&str]) -> Result<String> {
        let context = [
            OsString::from("--context"),
            self.context.as_os_str().to_owned(),
        ];
        let args = context.into_iter().chain(args.iter().map(OsString::from));
        output(&self.programs.path("ringwardctl"), args).await
    }

    /// A token for so many hosts.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn token(&self, uses: usize) -> Result<String> {
        let answer = self
            .ctl(&[
                "tokens",
                "create",
                "--uses",
                &uses.to_string(),
                "-o",
                "json",
            ])
            .await?;
        let answer: serde_json::Value = serde_json::from_str(&answer)
            .context("reading the answer of ringwardctl tokens create")?;
        Ok(answer["token"]
            .as_str()
            .context("ringwardctl tokens create printed no token")?
            .to_owned())
    }

    /// Ends the server in good order; [`Lab::start_server`] starts it again.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub async fn stop_server(&mut self) -> Result<()> {
        match self.server.take() {
            Some(server) => server.stop(Duration::from_secs(15)).await,
            None => Ok(()),
        }
    }

    /// Lets the server stand still for a while (SIGSTOP).
    ///
    /// # Errors
    /// It does not run.
    pub async fn stall_server(&self, pause: Duration) -> Result<()> {
        let server = self.server.as_ref().context("the server does not run")?;
        server.pause(pause).await
    }

    /// Ends the server as if it had ended by itself: [`Lab::check`] says so.
    ///
    /// # Errors
    /// It does not run.
    pub async fn end_server(&mut self) -> Result<()> {
        let server = self.server.as_mut().context("the server does not run")?;
        server.end().await
    }

    /// Runs `ringward-server` with one verb over the lab's data directory.
    ///
    /// # Errors
    /// It fails; its words are in the error.
    pub async fn server_verb(&self, verb: &str, more: &[&str]) -> Result<String> {
        let mut words = words([verb, "--data"], &self.dir.join("server"));
        words.extend(more.iter().map(OsString::from));
        output(&self.programs.path("ringward-server"), words).await
    }

    /// SIGKILL to the server.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub async fn kill_server(&mut self) -> Result<()> {
        match self.server.take() {
            Some(server) => server.kill().await,
            None => Ok(()),
        }
    }

    /// Starts the server again and waits for its answer.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start_server(&mut self) -> Result<()> {
        self.start_server_unreached()?;
        self.client = reach(&self.context).await?;
        Ok(())
    }

    /// Starts the server again; nobody may be able to reach it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_server_unreached(&mut self) -> Result<()> {
        self.server = Some(start(&self.programs, &self.dir, &self.env)?);
        Ok(())
    }

    /// Gives the server these variables too, from its next start on.
    pub fn set_env(&mut self, env: Vec<(OsString, OsString)>) {
        self.env.extend(env);
    }

    /// Fails where the server has ended by itself.
    ///
    /// # Errors
    /// It ended; its last words are in the error.
    pub fn check(&mut self) -> Result<()> {
        self.server.as_mut().map_or(Ok(()), Running::check)
    }

    /// Ends the server in good order, to be started again.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub async fn pause(&mut self) -> Result<()> {
        match self.server.take() {
            Some(server) => server.stop(Duration::from_secs(30)).await,
            None => Ok(()),
        }
    }

    /// Ends the server in good order.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub async fn stop(self) -> Result<()> {
        match self.server {
            Some(server) => server.stop(Duration::from_secs(15)).await,
            None => Ok(()),
        }
    }
}

fn start(programs: &Programs, dir: &Path, env: &[(OsString, OsString)]) -> Result<Running> {
    let (program, args) = outlasting_a_full_disk(
        &programs.path("ringward-server"),
        words(["run", "--data"], &dir.join("server")),
    );
    let log = dir.join("server.log");
    Running::start_in("ringward-server", &program, args, &log, env)
}

async fn reach(context: &Path) -> Result<Client> {
    wait_for(
        "an answer of the server",
        Duration::from_secs(30),
        async || {
            let context = Context::load(Some(context))?;
            match Client::connect(&context).await {
                Ok(client) => Ok(client.status(false).await.is_ok().then_some(client)),
                Err(_) => Ok(None),
            }
        },
    )
    .await
}

/// Words of a command line that end in a path.
#[must_use]
pub fn words<const N: usize>(words: [&str; N], path: &Path) -> Vec<OsString> {
    words
        .iter()
        .map(OsString::from)
        .chain([path.as_os_str().to_owned()])
        .collect()
}
