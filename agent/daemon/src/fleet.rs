//! Many scripted hosts in one process: each with its own state folder, identity and session, each the
//! same daemon. For demo and tests.

use crate::config::{ConfigError, Settings};
use crate::counters::Counters;
use crate::daemon::StartError;
use crate::enroll::{self, EnrollError};
use crate::identity::{self, HostFile};
use crate::{scripted, status};
use ringward_agent_os::fake::{Script, ScriptedHost};
use ringward_agent_os::machine::Notifier;
use ringward_agent_os::{Host, HostError};
use ringward_domain::{HostId, PackageName};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// Enrolments under way at one time: the server makes a signature for each.
const ENROLMENTS_MAX: usize = 16;

/// Why a fleet does not run.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// A host could not be enrolled.
    #[error("enrolling scripted host {index}")]
    Enroll {
        /// Which, from 0.
        index: usize,
        /// Why.
        #[source]
        source: EnrollError,
    },
    /// A host's folder cannot be used.
    #[error("setting up scripted host {index}")]
    Host {
        /// Which, from 0.
        index: usize,
        /// Why.
        #[source]
        source: HostError,
    },
    /// A host's folder cannot be made.
    #[error("making {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The settings of a host are wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A host did not start.
    #[error("starting scripted host {index}")]
    Start {
        /// Which, from 0.
        index: usize,
        /// Why.
        #[source]
        source: StartError,
    },
    /// A task of the fleet was ended from outside.
    #[error("a task of the fleet was ended from outside")]
    Interrupted,
}

/// One host of a fleet.
#[derive(Debug, Clone)]
pub struct Member {
    /// From 0.
    pub index: usize,
    /// Its state folder.
    pub state_dir: PathBuf,
    /// Its id.
    pub host: HostId,
    /// What it has done.
    pub counters: Arc<Counters>,
}

/// A running fleet.
#[derive(Debug)]
pub struct Fleet {
    members: Vec<Member>,
    tasks: JoinSet<Result<(), FleetError>>,
    stop: watch::Sender<bool>,
}

/// Prepare the state folders of `scripts.len()` hosts under `base` and enrol those that are not: the
/// hosts are named by their scripts, the folders by their index.
///
/// # Errors
/// The first host that could not be set up or enrolled.
pub async fn enroll(base: &Path, token: &str, scripts: &[Script]) -> Result<(), FleetError> {
    let turns = Arc::new(Semaphore::new(ENROLMENTS_MAX));
    let mut tasks = JoinSet::new();
    for (index, script) in scripts.iter().enumerate() {
        let state_dir = folder(base, index);
        std::fs::create_dir_all(&state_dir).map_err(|source| FleetError::Folder {
            path: state_dir.clone(),
            source,
        })?;
        let failed = |source| FleetError::Host { index, source };
        script.write(&state_dir).map_err(failed)?;
        if identity::exists(&state_dir) {
            continue;
        }
        let facts = ScriptedHost::open(&state_dir).map_err(failed)?.facts();
        let (token, turns) = (token.to_owned(), Arc::clone(&turns));
        tasks.spawn(async move {
            let _turn = turns.acquire().await;
            enroll::enroll(&state_dir, &token, facts)
                .await
                .map_err(|source| FleetError::Enroll { index, source })
        });
    }
    while let Some(outcome) = tasks.join_next().await {
        outcome.map_err(|_| FleetError::Interrupted)??;
    }
    Ok(())
}

fn folder(base: &Path, index: usize) -> PathBuf {
    base.join(format!("host-{index:05}"))
}

impl Fleet {
    /// Run `count` enrolled hosts under `base`.
    ///
    /// # Errors
    /// The first host whose identity or folder cannot be used.
    pub fn start(base: &Path, count: usize) -> Result<Self, FleetError> {
        let (stop, stopped) = watch::channel(false);
        let mut fleet = Self {
            members: Vec::new(),
            tasks: JoinSet::new(),
            stop,
        };
        for index in 0..count {
            let state_dir = folder(base, index);
            let start = move |source| FleetError::Start { index, source };
            let host = HostFile::load(&state_dir)
                .map_err(|error| start(error.into()))?
                .host;
            let counters = Counters::open(&state_dir).map_err(|source| FleetError::Folder {
                path: state_dir.clone(),
                source,
            })?;
            let counters = Arc::new(counters);
            let settings = Settings::scripted(&state_dir)?;
            fleet.members.push(Member {
                index,
                state_dir,
                host,
                counters: Arc::clone(&counters),
            });
            let stop = stopped.clone();
            fleet.tasks.spawn(async move {
                scripted::run(&settings, counters, Notifier::silent, stop)
                    .await
                    .map_err(start)
            });
        }
        Ok(fleet)
    }

    /// Its hosts.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Signals counted by all agents before they went into their spools.
    #[must_use]
    pub fn signals_told(&self) -> u64 {
        self.members
            .iter()
            .map(|member| member.counters.signals_told())
            .sum()
    }

    /// Hosts whose current slot of this package holds this version, read from each slot.
    #[must_use]
    pub fn running(&self, package: &PackageName, version: &str) -> usize {
        let runs = |member: &&Member| {
            status::running_version(&member.state_dir, package).as_deref() == Some(version)
        };
        self.members.iter().filter(runs).count()
    }

    /// Stop every agent in good order.
    ///
    /// # Errors
    /// The first agent that had ended with one.
    pub async fn stop(mut self) -> Result<(), FleetError> {
        self.stop.send_replace(true);
        let mut first = Ok(());
        while let Some(outcome) = self.tasks.join_next().await {
            let outcome = outcome.unwrap_or(Err(FleetError::Interrupted));
            first = first.and(outcome);
        }
        first
    }

    /// Resolves when an agent ends by itself, which none should.
    ///
    /// # Errors
    /// Why it ended.
    pub async fn first_end(&mut self) -> Result<(), FleetError> {
        match self.tasks.join_next().await {
            Some(Ok(outcome)) => outcome,
            Some(Err(_)) => Err(FleetError::Interrupted),
            None => std::future::pending().await,
        }
    }
}
