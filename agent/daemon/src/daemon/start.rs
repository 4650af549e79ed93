//! Bringing an agent up: what is on disk is read, nothing is decided.

use super::orders::OrdersEdge;
use super::tasks::Renewal;
use super::{Agent, RESULTS_MAX};
use crate::AGENT_VERSION;
use crate::audit::Witness;
use crate::config::Settings;
use crate::counters::Counters;
use crate::identity::{self, Identity, IdentityError};
use crate::link::{Link, chain};
use crate::prepare::{Mirrors, kept_manifest};
use crate::servers::Servers;
use crate::spool::{DiskFiles, Spool, SpoolError};
use ring::rand::{SecureRandom, SystemRandom};
use ringward_agent_core::event::Started;
use ringward_agent_core::orders::OrdersStarted;
use ringward_agent_core::{Effect, Machine};
use ringward_agent_os::Host;
use ringward_agent_os::machine::Notifier;
use ringward_domain::ledger::Ledger;
use ringward_domain::manifest::Manifest;
use ringward_domain::{AgentStart, Millis};
use ringward_guard::{GuardError, LedgerFile, LedgerStore, Slots, SystemFiles};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Messages of the session that wait for the loop; beyond that the server is not read.
const LINK_EVENTS_MAX: usize = 64;

/// What stands in the way of a start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No identity, or an unusable one.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The state folder cannot be used.
    #[error("using the state folder {path}; check its owner, mode and free space")]
    StateDir {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The spool's folder cannot be used.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The slots cannot be read.
    #[error("reading the slots")]
    Slots(#[source] GuardError),
    /// The host cannot be asked.
    #[error(transparent)]
    Host(#[from] ringward_agent_os::HostError),
    /// The kernel gives no random bytes.
    #[error("the kernel's random source does not answer; the agent draws no identities without it")]
    Random,
}

fn random<const N: usize>() -> Result<[u8; N], StartError> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| StartError::Random)?;
    Ok(bytes)
}

/// The ledger, or `None` where it must not be touched.
fn read_ledger(store: &LedgerStore<SystemFiles>) -> Option<LedgerFile> {
    match store.read() {
        Ok(file) => Some(file.unwrap_or_default()),
        Err(error) => {
            tracing::error!(
                error = chain(&error),
                "this agent reports and takes no orders"
            );
            None
        }
    }
}

fn trial_manifest(slots: &Slots<SystemFiles>, ledger: &Ledger) -> Option<Box<Manifest>> {
    let attempt = ledger.attempt.as_ref()?;
    let (_, manifest) = kept_manifest(slots, &attempt.package, &attempt.to.release)?;
    Some(Box::new(manifest))
}

fn open_spool(state_dir: &Path, bytes_max: u64) -> Result<Spool<DiskFiles>, StartError> {
    let folder = state_dir.join("spool");
    identity::private_folder(&folder)?;
    let files = DiskFiles::new(&folder).map_err(|source| StartError::StateDir {
        path: folder,
        source,
    })?;
    let spool = Spool::open(files, bytes_max)?;
    let losses = spool.losses();
    if losses.damaged > 0 {
        tracing::warn!(
            places = losses.damaged,
            "the signal spool was damaged; the rest of it is whole"
        );
    }
    Ok(spool)
}

impl<H: Host> Agent<H> {
    pub(super) fn start(
        settings: &Settings,
        host: Arc<H>,
        counters: Arc<Counters>,
        notifier: Notifier,
        stop: watch::Receiver<bool>,
        orders: OrdersStarted,
    ) -> Result<(Self, Vec<Effect>), StartError> {
        let state_dir = settings.state_dir.clone();
        let identity = Identity::load(&state_dir)?;
        let ledger = LedgerStore::new(SystemFiles, &state_dir);
        let slots = Slots::new(SystemFiles, &state_dir);
        let file = read_ledger(&ledger);
        let (known, ledger_kept) =
            file.map_or((None, Vec::new()), |file| (Some(file.ledger), file.kept));
        let spool = open_spool(&state_dir, settings.spool_bytes_max)?;
        counters.set_losses(0, spool.losses().damaged);
        let now = host.boottime();
        let started = Started {
            boot: host.boot(),
            agent_start: AgentStart(random()?),
            seed: random()?,
            slots: slots
                .inspect(&known.clone().unwrap_or_default())
                .map_err(StartError::Slots)?,
            trial_manifest: known
                .as_ref()
                .and_then(|known| trial_manifest(&slots, known)),
            ledger: known,
            facts: host.facts(),
            agent_version: AGENT_VERSION.to_owned(),
            last_stop_clean: host.last_stop_clean(),
            spool: spool.range(),
            orders,
        };
        let (machine, effects) = Machine::start(started, now);
        let (tell_link, link_events) = mpsc::channel(LINK_EVENTS_MAX);
        let (tell, results) = mpsc::channel(RESULTS_MAX);
        let servers = match settings.servers.is_empty() {
            true => identity.host.servers.clone(),
            false => settings.servers.clone(),
        };
        tracing::info!(host = %identity.host.host, boot = %host.boot(), "agent {AGENT_VERSION} starts");
        let agent = Self {
            asleep: Millis(now.0) - host.awake(),
            host,
            machine,
            ledger,
            ledger_kept,
            slots,
            spool,
            release_root: identity::release_root(&state_dir)?,
            mirrors: Mirrors::new(&settings.mirrors),
            renewal: Renewal::default(),
            audit: Witness::open(&state_dir),
            orders: OrdersEdge::new(
                identity.host.host,
                Servers::new(servers.clone(), &state_dir),
                &settings.orders,
            ),
            state_dir,
            counters,
            link: Link::new(servers, identity.tls, tell_link),
            link_events,
            channel: None,
            draining: None,
            results,
            tell,
            preparation: 0,
            preparing: None,
            probing: None,
            notifier,
            dropped_told: 0,
            stop,
            stopping: false,
        };
        Ok((agent, effects))
    }
}
