//! The demo's fleet: one server process, three agent processes, two hundred simulated hosts.

use super::chaos::Chaos;
use super::crowd::Crowd;
use super::story::Story;
use super::{POLICY, REAL, SIMULATED};
use crate::hosts::write_private;
use crate::lab::words;
use crate::process::{Programs, Running, outlasting_a_full_disk, output, wait_for};
use crate::slots;
use anyhow::{Context as _, Result, bail};
use ringward_agent::counters::told_so_far;
use ringward_agent::fleet::{self, Fleet};
use ringward_agent_os::fake::{OnLethal, Script};
use ringward_domain::command::{Action, Outcome};
use ringward_domain::report::{MemberView, RolloutState, RolloutView};
use ringward_domain::{Millis, PackageName, ReleaseDigest, RolloutId};
use ringwardctl::client::{Client, act};
use ringwardctl::context::Context;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One published release.
#[derive(Debug, Clone)]
pub struct Release {
    /// Its version.
    pub version: String,
    /// Its digest.
    pub digest: ReleaseDigest,
}

/// Everything that runs.
pub struct Demo {
    /// The package that is rolled out.
    pub package: PackageName,
    /// The window with which the newest rollout began.
    pub first_window: u64,
    pub(super) programs: Programs,
    pub(super) dir: PathBuf,
    pub(super) context: PathBuf,
    client: Client,
    /// State folder by host name.
    roots: BTreeMap<String, PathBuf>,
    pub(super) server: Option<Running>,
    pub(super) agents: Vec<Running>,
    fleet: Fleet,
    pub(super) chaos: Option<Chaos>,
}

fn script(hostname: String, index: usize) -> Script {
    let sites = ["berlin", "lyon", "osaka", "quito"];
    Script {
        hostname,
        os_build: format!("Scripted {}", 10 + index % 3),
        model: format!("{}-{}", sites[index % sites.len()], index % 5),
        boot_ms: Millis(1000),
        on_lethal: if index.is_multiple_of(2) {
            OnLethal::GoDark
        } else {
            OnLethal::CrashLoop
        },
        dies_after_ms: Millis(300),
        dark_ms: Millis::secs(25),
        changes_per_s: 0,
        ..Script::default()
    }
}

impl Demo {
    /// Makes a server with its own CA, starts it, and enrols every host.
    ///
    /// # Errors
    /// Something could not be started, or did not come up.
    pub async fn set_up(
        programs: Programs,
        dir: &Path,
        chaos: Option<Chaos>,
        crowd: Crowd,
        story: &mut Story,
    ) -> Result<Self> {
        story.chapter("A server with its own CA, three agent processes and 200 simulated hosts");
        story.say("demo policy: rings 1/9/90 %, soak 3 s, heartbeat 1 s, apply at most 1 s, simulated reboot 1 s,");
        story.say("             silence 8 s, restart grace 2 s, attribution 5 s, 20 reboots an hour; otherwise the defaults");
        let data = dir.join("server");
        std::fs::create_dir_all(dir)?;
        let policy = dir.join("rings.toml");
        let (rings, simulated) = match crowd.hosts {
            0 => (POLICY.to_owned(), SIMULATED),
            _ => (super::crowd::policy(), crowd.sessions.saturating_sub(REAL)),
        };
        std::fs::write(&policy, rings)?;
        let ctl = programs.path("ringwardctl");
        let keys = dir.join("release-keys");
        output(&ctl, words(["keys", "init", "--dir"], &keys)).await?;
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
        init.extend(words(["--rings"], &policy));
        init.extend(words(["--release-root"], &keys.join("release-root.json")));
        output(&programs.path("ringward-server"), init).await?;
        // Two people from the start: what needs a second person can be looked at.
        std::fs::write(data.join("seats"), "admin\nbea\n")?;
        if crowd.hosts > 0 {
            super::crowd::seed(&data, crowd.hosts).await?;
            story.say(&format!("{} hosts are in the store", crowd.hosts));
        }
        let server = Some(start_server(&programs, dir)?);
        let context = data.join("admin.context.toml");
        let client = reach(&context).await?;
        story.say("the server is up");
        let token = output(
            &ctl,
            context_args(
                &context,
                [
                    "tokens",
                    "create",
                    "--uses",
                    &(simulated + REAL).to_string(),
                    "-o",
                    "json",
                ],
            ),
        )
        .await?;
        let token: serde_json::Value = serde_json::from_str(&token)
            .context("reading the answer of ringwardctl tokens create")?;
        let token = token["token"]
            .as_str()
            .context("ringwardctl tokens create printed no token")?
            .to_owned();
        let mut demo = Self {
            package: "endpoint-shield".parse()?,
            first_window: 0,
            fleet: simulate(&dir.join("hosts"), &token, simulated, crowd.starts()).await?,
            programs,
            dir: dir.to_owned(),
            context,
            client,
            roots: BTreeMap::new(),
            server,
            agents: Vec::new(),
            chaos,
        };
        for member in demo.fleet.members() {
            demo.roots
                .insert(sim_name(member.index), member.state_dir.clone());
        }
        for index in 0..REAL {
            demo.start_agent(index, &token).await?;
        }
        let hosts = (simulated + REAL) as u64;
        wait_for(
            "every host connected",
            Duration::from_secs(120),
            async || Ok((demo.connected().await? == hosts).then_some(())),
        )
        .await?;
        story.say(&format!(
            "{hosts} hosts are enrolled and connected over mutual TLS"
        ));
        Ok(demo)
    }

    /// One real agent process over its scripted machine.
    async fn start_agent(&mut self, index: usize, token: &str) -> Result<()> {
        let name = format!("real-{index}");
        let root = self.dir.join(&name);
        std::fs::create_dir_all(&root)?;
        script(name.clone(), SIMULATED + index).write(&root)?;
        let config = self.dir.join(format!("{name}.toml"));
        std::fs::write(
            &config,
            format!("state_dir = {:?}\nadapter = \"scripted\"\n", root),
        )?;
        let secret = self.dir.join(format!("{name}.token"));
        write_private(&secret, token)?;
        let agent = self.programs.path("ringward-agent");
        let mut enrol = words(["enroll", "--config"], &config);
        enrol.extend(words(["--token-file"], &secret));
        output(&agent, enrol).await?;
        std::fs::remove_file(&secret)?;
        let running = self.run_agent(index)?;
        self.agents.push(running);
        self.roots.insert(name, root);
        Ok(())
    }

    pub(super) fn run_agent(&self, index: usize) -> Result<Running> {
        let name = format!("real-{index}");
        let config = self.dir.join(format!("{name}.toml"));
        let log = self.dir.join(format!("{name}.log"));
        Running::start(
            &name,
            &self.programs.path("ringward-agent"),
            words(["run", "--config"], &config),
            &log,
        )
    }

    /// One look at a rollout; under chaos the server may be away for a while.
    async fn look(&self, id: RolloutId) -> Result<Option<RolloutView>> {
        if self.chaos.is_none() {
            return Ok(Some(self.client.rollout(id).await?));
        }
        let answer = tokio::time::timeout(Duration::from_secs(2), self.client.rollout(id)).await;
        Ok(answer.ok().and_then(Result::ok))
    }

    /// The admin's connection.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The state folder of a host.
    #[must_use]
    pub fn root_of(&self, hostname: &str) -> Option<&Path> {
        self.roots.get(hostname).map(PathBuf::as_path)
    }

    /// What a lethal release does to a host.
    #[must_use]
    pub fn script_of(&self, hostname: &str) -> Option<OnLethal> {
        Script::read(self.root_of(hostname)?)
            .ok()
            .map(|script| script.on_lethal)
    }

    /// Hosts with a session.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn connected(&self) -> Result<u64> {
        Ok(self.client.status(false).await?.connected)
    }

    /// Distinct signals in the store.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn stored(&self) -> Result<u64> {
        self.client
            .status(true)
            .await?
            .signals_stored
            .context("the server did not count its signals")
    }

    /// Signals counted by all agents before they spooled them.
    ///
    /// # Errors
    /// A count cannot be read.
    pub fn sent(&self) -> Result<u64> {
        Ok(self.roots.values().map(|root| told_so_far(root)).sum())
    }

    /// Hosts whose own slots hold this release.
    #[must_use]
    pub fn running(&self, release: &Release) -> u64 {
        slots::count_running(
            self.roots.values().map(PathBuf::as_path),
            &self.package,
            release.digest,
        )
    }

    /// Signs a bundle whose `behaviour` file says how scripted hosts fare on it, and publishes it.
    ///
    /// # Errors
    /// Signing or publishing failed.
    pub async fn publish(&self, version: &str, behaviour: &str) -> Result<Release> {
        let tree = self.dir.join(format!("bundle-{version}"));
        std::fs::create_dir_all(&tree)?;
        std::fs::write(tree.join("behaviour"), behaviour)?;
        std::fs::write(tree.join("VERSION"), version)?;
        let ctl = self.programs.path("ringwardctl");
        let releases = self.dir.join("releases");
        let key = self.dir.join("release-keys").join("release-1.key");
        let mut sign = words(
            [
                "releases",
                "sign",
                "--package",
                self.package.as_str(),
                "--version",
                version,
                "--probe",
                "unit:endpoint-shield.service",
                "--bundle",
            ],
            &tree,
        );
        sign.extend(words(["--key"], &key));
        sign.extend(words(["--out"], &releases));
        output(&ctl, sign).await?;
        let file = releases.join(format!("{}-{version}.release.json", self.package));
        let publish = context_args(
            &self.context,
            [
                "releases",
                "publish",
                &file.to_string_lossy(),
                "--reason",
                "demo",
                "--yes",
            ],
        );
        output(&ctl, publish).await?;
        let releases = self.client.releases(Some(&self.package)).await?;
        let published = releases.into_iter().find(|r| r.version.as_str() == version);
        let published =
            published.with_context(|| format!("{version} is not among the published releases"))?;
        Ok(Release {
            version: version.to_owned(),
            digest: published.release,
        })
    }

    /// The same dry run that a person would make tells which hosts come first; the script lets them
    /// go dark and crash-loop in turn, so that both kinds of failure are exposed.
    ///
    /// # Errors
    /// The server refuses, or a script cannot be written.
    pub async fn script_canaries(&self, release: &Release) -> Result<String> {
        let mut dry = act("demo: who comes first?");
        dry.dry_run = true;
        let plan = self
            .client
            .command(
                dry,
                Action::StartRollout {
                    release: release.digest,
                },
            )
            .await?;
        let names: BTreeMap<_, _> = self.hostnames().await?;
        let mut told = Vec::new();
        for (i, host) in plan
            .hosts
            .iter()
            .flat_map(|(_, hosts)| hosts)
            .take(8)
            .enumerate()
        {
            let name = names
                .get(host)
                .context("the dry run names an unknown host")?;
            let root = self
                .root_of(name)
                .context("the dry run names a host that is not ours")?;
            let mut script = Script::read(root)?;
            script.on_lethal = if i.is_multiple_of(2) {
                OnLethal::GoDark
            } else {
                OnLethal::CrashLoop
            };
            script.write(root)?;
            told.push(format!(
                "{name} {}",
                if i.is_multiple_of(2) {
                    "goes dark"
                } else {
                    "crash-loops"
                }
            ));
        }
        Ok(told.join(", "))
    }

    async fn hostnames(&self) -> Result<BTreeMap<ringward_domain::HostId, String>> {
        let page = self
            .client
            .hosts(&ringward_wire::host::HostFilter::default())
            .await?;
        Ok(page
            .hosts
            .into_iter()
            .map(|host| (host.id, host.facts.hostname))
            .collect())
    }

    /// Starts a rollout and tells it until it completes or halts.
    ///
    /// # Errors
    /// The server refuses, or nothing comes of it within six minutes.
    pub async fn start(&mut self, release: &Release, story: &mut Story) -> Result<RolloutView> {
        let outcome = self
            .client
            .command(
                act("demo"),
                Action::StartRollout {
                    release: release.digest,
                },
            )
            .await?;
        self.follow(outcome, story).await
    }

    /// Brings every host back from a release.
    ///
    /// # Errors
    /// The server refuses, or it does not end within six minutes.
    pub async fn roll_back(&mut self, release: &Release, story: &mut Story) -> Result<RolloutView> {
        story.say(&format!(
            "$ ringwardctl rollouts rollback {} --reason demo",
            release.version
        ));
        let outcome = self
            .client
            .command(
                act("demo"),
                Action::Rollback {
                    leave: release.digest,
                    to: None,
                },
            )
            .await?;
        if let (Some(id), Some(mut chaos)) = (outcome.rollout, self.chaos.take()) {
            let done = match chaos.strikes_at_once(id) {
                true => self.strike(&mut chaos, story).await,
                false => Ok(()),
            };
            self.chaos = Some(chaos);
            done?;
        }
        self.follow(outcome, story).await
    }

    async fn follow(&mut self, outcome: Outcome, story: &mut Story) -> Result<RolloutView> {
        story.say(&outcome.summary);
        let id: RolloutId = outcome.rollout.context("the server started no rollout")?;
        self.first_window = 0;
        // A rollout of the demo takes 80 s; a machine that is busy with other builds needed 130.
        let end = tokio::time::Instant::now() + Duration::from_secs(360);
        loop {
            self.check()?;
            self.free_disk(story)?;
            let Some(view) = self.look(id).await? else {
                if tokio::time::Instant::now() >= end {
                    bail!("the server does not answer");
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            };
            if self.first_window == 0 {
                self.first_window = view.rings.first().map_or(0, |ring| ring.window);
            }
            story.rollout(&view);
            self.suffer(&view, story).await?;
            if matches!(
                view.state,
                RolloutState::Completed | RolloutState::Halted | RolloutState::Aborted
            ) {
                for host in &view.silent_hosts {
                    story.say(&named(host, "is silent"));
                }
                for host in &view.failed_hosts {
                    story.say(&named(host, "failed"));
                }
                return Ok(view);
            }
            if tokio::time::Instant::now() >= end {
                bail!(
                    "{} {} is still {} after six minutes: {}",
                    view.package,
                    view.version,
                    view.state,
                    view.state_reason
                );
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn check(&mut self) -> Result<()> {
        if let Some(server) = &mut self.server {
            server.check()?;
        }
        self.agents.iter_mut().try_for_each(Running::check)
    }

    /// How a person goes on from here.
    #[must_use]
    pub fn invitation(&self) -> String {
        format!(
            "the server runs on at {} until Ctrl-C; look around with:\n  {} login --data {}    (prints a link into the dashboard)\n  export RINGWARD_CONTEXT={}\n  {} rollouts list\n  {} hosts list",
            Context::load(Some(&self.context))
                .map_or_else(|_| "its address".to_owned(), |context| context.server),
            self.programs.path("ringward-server").display(),
            self.dir.join("server").display(),
            self.context.display(),
            self.programs.path("ringwardctl").display(),
            self.programs.path("ringwardctl").display(),
        )
    }

    /// Ends everything in good order.
    ///
    /// # Errors
    /// A process cannot be waited for.
    pub async fn stop(self) -> Result<()> {
        let patience = Duration::from_secs(10);
        for agent in self.agents {
            agent.stop(patience).await?;
        }
        tokio::time::timeout(patience, self.fleet.stop())
            .await
            .ok()
            .transpose()?;
        match self.server {
            Some(server) => server.stop(patience).await,
            None => Ok(()),
        }
    }
}

pub(super) fn start_server(programs: &Programs, dir: &Path) -> Result<Running> {
    let data = dir.join("server");
    let (program, words) = outlasting_a_full_disk(
        &programs.path("ringward-server"),
        words(["run", "--data"], &data),
    );
    Running::start("ringward-server", &program, words, &dir.join("server.log"))
}

fn named(host: &MemberView, what: &str) -> String {
    let why = host.cause.as_ref().map(|cause| cause.title.as_str());
    let (name, id, why) = (&host.hostname, host.host, why.unwrap_or("no word of why"));
    format!("{name} ({id}) {what}: {:?}; {why}", host.state)
}

fn sim_name(index: usize) -> String {
    format!("sim-{index:03}")
}

async fn simulate(
    base: &Path,
    token: &str,
    hosts: usize,
    starts: fn(usize) -> Millis,
) -> Result<Fleet> {
    let scripts: Vec<Script> = (0..hosts)
        .map(|index| Script {
            starts_ms: starts(index),
            ..script(sim_name(index), index)
        })
        .collect();
    fleet::enroll(base, token, &scripts).await?;
    Ok(Fleet::start(base, hosts)?)
}

pub(super) async fn reach(context: &Path) -> Result<Client> {
    wait_for(
        "an answer of the server",
        Duration::from_secs(20),
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

fn context_args<const N: usize>(context: &Path, rest: [&str; N]) -> Vec<OsString> {
    words(["--context"], context)
        .into_iter()
        .chain(rest.iter().map(OsString::from))
        .collect()
}
