//! `ringward-server run`: put together, serve, stop in bounded time.

use crate::accounts::Accounts;
use crate::actor::{Actor, Handle, Health, Notes, Series, Start};
use crate::api::{
    AgentApi, Allowances, ApprovalApi, AuditApi, Door, FleetApi, IdentityApi, OrderApi,
    OverviewApi, PeopleApi, PolicyApi, ReleaseApi, RolloutApi, Shared, SuspectApi, TrustApi,
    WatchApi, WebhookApi,
};
use crate::artefacts::Artefacts;
use crate::audit::AuditLog;
use crate::backup;
use crate::clock::{FleetClock, unix_ms};
use crate::config::{Config, ListenerFile};
use crate::data_dir::{check_private, create_private_dir, read_bounded, write_whole};
use crate::error::ServerError;
use crate::init::server_names;
use crate::listener::{AdminPages, Gate, Listener, Serve, admin_tls, agent_tls, bind};
use crate::metrics::Metrics;
use crate::overview::Overview;
use crate::pki::{Pki, Which};
use crate::retention::Retention;
use crate::storage::{self, CLOCK, LEASE, LEASE_TTL_MS, META};
use crate::tokens::Tokens;
use crate::web;
use crate::webhooks::{Target, Webhooks};
use ringward_domain::Timestamp;
use ringward_server_core::control::Control;
use ringward_server_core::policy::Policy;
use ringward_store::{AnyStore, Fence, Key, Store};
use ringward_wire::pb::agent_service_server::AgentServiceServer;
use ringward_wire::pb::approval_service_server::ApprovalServiceServer;
use ringward_wire::pb::audit_service_server::AuditServiceServer;
use ringward_wire::pb::fleet_service_server::FleetServiceServer;
use ringward_wire::pb::identity_service_server::IdentityServiceServer;
use ringward_wire::pb::order_service_server::OrderServiceServer;
use ringward_wire::pb::overview_service_server::OverviewServiceServer;
use ringward_wire::pb::people_service_server::PeopleServiceServer;
use ringward_wire::pb::policy_service_server::PolicyServiceServer;
use ringward_wire::pb::release_service_server::ReleaseServiceServer;
use ringward_wire::pb::rollout_service_server::RolloutServiceServer;
use ringward_wire::pb::suspect_service_server::SuspectServiceServer;
use ringward_wire::pb::trust_service_server::TrustServiceServer;
use ringward_wire::pb::watch_service_server::WatchServiceServer;
use ringward_wire::pb::webhook_service_server::WebhookServiceServer;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;

/// Releases that may be uploaded at once.
const UPLOADS: usize = 4;
/// Bytes of a ring policy.
const POLICY_BYTES_MAX: u64 = 256 * 1024;

/// Where a running server listens; also in `run/addresses.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// The agents' listener.
    pub agents: SocketAddr,
    /// The admins' listener.
    pub admins: SocketAddr,
    /// The dashboard's plain listener on loopback, where there is one.
    #[serde(default)]
    pub dashboard: Option<SocketAddr>,
}

/// A server that runs.
pub struct Running {
    /// Where it listens.
    pub addresses: Addresses,
    stop: CancellationToken,
    actor_stop: CancellationToken,
    actor: JoinHandle<Result<(), ServerError>>,
    tasks: TaskTracker,
    drain: std::time::Duration,
}

struct Pages {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
}

impl AdminPages for Pages {
    fn metrics(&self) -> String {
        self.metrics.render()
    }
    fn not_ready(&self) -> Option<String> {
        self.health.not_ready()
    }
}

/// Runs a server until `stop` fires, then drains it.
///
/// # Errors
/// Where it cannot start, or must not go on.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), ServerError> {
    start(config).await?.until(stop).await
}

/// Starts a server on the store that its settings name.
///
/// # Errors
/// Where settings, certificates, store or addresses cannot be used.
pub async fn start(config: Config) -> Result<Running, ServerError> {
    let store = storage::open(&config).await?;
    start_on(config, store).await
}

/// Starts a server on a store that is open already.
///
/// # Errors
/// As [`start`].
pub async fn start_on(config: Config, store: Arc<AnyStore>) -> Result<Running, ServerError> {
    let metrics = Arc::new(Metrics::default());
    let pki = Pki::load(&config.data.pki())?;
    let artefacts = Artefacts::open(config.data.artefacts())?;
    check_private(config.data.root())?;
    let (agents_tcp, agents_at) = bind(config.agents.listen, "agents").await?;
    let (admins_tcp, admins_at) = bind(config.admins.listen, "admins").await?;
    let dashboard = match config.dashboard {
        None => None,
        Some(address) => Some(web::bind(address).await?),
    };
    let addresses = Addresses {
        agents: agents_at,
        admins: admins_at,
        dashboard: dashboard.as_ref().map(|(_, address)| *address),
    };
    let holder = crate::pki::holder(&pki)?;
    let (actor, handle, fence) = restore(&config, Arc::clone(&store), holder, &metrics).await?;
    let actor_stop = actor.stop_token();
    let agents_tls = agent_tls(&pki, &server_names(&config.agents.address)?)?;
    let admins_tls = admin_tls(
        &pki,
        &server_names(&config.admins.address)?,
        config.admins.certificate_only,
    )?;
    let webhooks = Target::load(&config.webhooks, &config.data)?;
    let webhooks = Webhooks::restore(
        webhooks,
        Arc::clone(&store),
        fence.clone(),
        Arc::clone(&metrics),
    )
    .await;
    let webhooks = Arc::new(webhooks.map_err(|source| ServerError::Store {
        doing: "reading what webhooks wait for",
        source,
    })?);
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let shared = Arc::new(Shared {
        sessions: Arc::new(web::Sessions::new(stop.child_token())),
        webhooks: Arc::clone(&webhooks),
        handle: handle.clone(),
        accounts: Arc::new(Accounts::new(
            Arc::clone(&store),
            fence.clone(),
            stop.child_token(),
        )),
        tokens: Tokens::new(Arc::clone(&store), fence.clone()),
        root_key_hash: pki.root_key_hash()?,
        pki,
        artefacts,
        allowances: Allowances::default(),
        downloads: Arc::new(Semaphore::new(config.limits.downloads)),
        uploads: Semaphore::new(UPLOADS),
        audit: AuditLog::new(Arc::clone(&store)),
        store,
        data: config.data.clone(),
        certificates: config.certificates.clone(),
        agent_address: told(&config.agents, agents_at),
        limits: config.limits.clone(),
        metrics: Arc::clone(&metrics),
    });
    let (agents, admins) = services(&shared, &handle);
    let ways = Arc::new(web::Ways {
        data: config.data.clone(),
        accounts: Arc::clone(&shared.accounts),
        sessions: Arc::clone(&shared.sessions),
    });
    let listener = |which, tcp, tls, serve| {
        let listener = Listener::new(
            which,
            tcp,
            tls,
            config.limits.clone(),
            Arc::clone(&metrics),
            serve,
        );
        tasks.spawn(listener.run(stop.clone(), tasks.clone()));
    };
    if let Some((tcp, address)) = dashboard {
        let sign_in = web::SignIn::plain(Arc::clone(&ways), address);
        let dashboard =
            web::Dashboard::new(tcp, address, admins.clone(), sign_in, stop.child_token());
        tasks.spawn(dashboard.run(tasks.clone()));
    }
    let backups = backup::listen(
        &config.data,
        &shared.store,
        &shared.artefacts,
        &handle,
        stop.child_token(),
    )?;
    tasks.spawn(backups);
    tasks.spawn(webhooks.run(handle.clone(), stop.child_token()));
    let retention = Retention {
        store: Arc::clone(&shared.store),
        fence,
        kept: config.signals,
        metrics: Arc::clone(&metrics),
    };
    tasks.spawn(retention.run(handle.clone(), stop.child_token()));
    listener(Which::Agents, agents_tcp, agents_tls, agents);
    let admins = admins.with_sign_in(web::SignIn::over_tls(ways, admins_at));
    listener(Which::Admins, admins_tcp, admins_tls, admins);
    write_addresses(&config, &addresses)?;
    tracing::info!(agents = %addresses.agents, admins = %addresses.admins, "serving");
    Ok(Running {
        addresses,
        stop,
        actor_stop,
        actor: tokio::spawn(actor.run()),
        tasks,
        drain: config.limits.drain(),
    })
}

impl Running {
    /// Serves until `stop` fires, then drains.
    ///
    /// # Errors
    /// Where the server must not go on.
    pub async fn until(mut self, stop: CancellationToken) -> Result<(), ServerError> {
        let ended = tokio::select! {
            () = stop.cancelled() => None,
            ended = &mut self.actor => Some(joined(ended)),
        };
        match ended {
            // It stopped by itself: nothing may be answered any more.
            Some(ended) => {
                self.stop.cancel();
                ended
            }
            None => self.stop().await,
        }
    }

    /// Stops in bounded time: hosts are asked to come back, calls end, what was decided is written.
    ///
    /// # Errors
    /// Where the actor ended by an error of its own.
    pub async fn stop(self) -> Result<(), ServerError> {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(self.drain, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("connections did not end in time: cut");
        }
        self.actor_stop.cancel();
        tracing::info!("stopped");
        match tokio::time::timeout(self.drain, self.actor).await {
            Ok(ended) => joined(ended),
            // The store hangs: nothing was acknowledged that is not written.
            Err(_) => Ok(()),
        }
    }
}

fn joined(
    ended: Result<Result<(), ServerError>, tokio::task::JoinError>,
) -> Result<(), ServerError> {
    ended.unwrap_or_else(|error| {
        Err(ServerError::Inconsistent {
            what: format!("the deciding task ended: {error}"),
        })
    })
}

/// Restores the decisions under the lease.
async fn restore(
    config: &Config,
    store: Arc<AnyStore>,
    holder: String,
    metrics: &Arc<Metrics>,
) -> Result<(Actor, Handle, Fence), ServerError> {
    let failed = |doing| move |source| ServerError::Store { doing, source };
    let clock_key = Key {
        kind: META,
        id: CLOCK.to_vec(),
    };
    let written = store
        .get(&clock_key)
        .await
        .map_err(failed("reading the fleet clock"))?
        .and_then(|value| value.value.as_slice().try_into().ok())
        .map_or(0, u64::from_be_bytes);
    let records = storage::load_records(&store).await?;
    let clock = Timestamp(written).max(Control::clock(&records));
    let fence = store
        .lease(LEASE, &holder, clock.0, LEASE_TTL_MS)
        .await
        .map_err(failed("taking the lease"))?
        .ok_or(ServerError::Fenced { lease: LEASE })?;
    let policy = first_policy(&config.data.rings())?;
    let notes = store
        .get(&Notes::key())
        .await
        .map_err(failed("reading the notes"))?
        .and_then(|value| serde_json::from_slice(&value.value).ok())
        .unwrap_or_default();
    let series = store
        .get(&Series::key())
        .await
        .map_err(failed("reading the series"))?
        .and_then(|value| serde_json::from_slice(&value.value).ok())
        .unwrap_or_default();
    let count = records.len();
    let mut control =
        Control::restore(policy, records, clock).map_err(|error| ServerError::Inconsistent {
            what: crate::error::chain(&error),
        })?;
    control.wall_clock(unix_ms());
    for (host, at) in storage::load_heard(&store).await? {
        control.heard_before(host, at);
    }
    if let Some(name) = hostname() {
        control.runs_on(&name);
    }
    let first = control.seat(&config.data.first_people(), clock);
    tracing::info!(records = count, fleet_clock_ms = clock.0, "state restored");
    let (actor, handle) = Actor::new(Start {
        control,
        clock: FleetClock::resume(clock, Instant::now()),
        store,
        fence: fence.clone(),
        holder,
        notes,
        series,
        metrics: Arc::clone(metrics),
        stop: CancellationToken::new(),
        queue: config.limits.event_queue,
        first,
    });
    Ok((actor, handle, fence))
}

/// The name of this machine, as agents report it too.
fn hostname() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// The policy of `rings.toml`: in force until another is applied.
fn first_policy(path: &Path) -> Result<Policy, ServerError> {
    if !path.exists() {
        return Ok(Policy::default());
    }
    let bytes = read_bounded(path, POLICY_BYTES_MAX)?;
    Policy::parse(&String::from_utf8_lossy(&bytes)).map_err(|error| {
        ServerError::refused(format!("{}: {error}", path.display()), "mend that line")
    })
}

fn services(shared: &Arc<Shared>, handle: &Handle) -> (Serve, Serve) {
    let limits = &shared.limits;
    let (agent_bytes, admin_bytes) = (limits.agent_message_bytes, limits.admin_message_bytes);
    let agents = Routes::default().add_service(
        AgentServiceServer::new(AgentApi(Arc::clone(shared)))
            .max_decoding_message_size(agent_bytes),
    );
    let agents = agents.add_service(
        TrustServiceServer::new(TrustApi(Arc::clone(shared)))
            .max_decoding_message_size(agent_bytes),
    );
    let admins = Routes::default()
        .add_service(
            FleetServiceServer::new(FleetApi(Arc::clone(shared)))
                .max_decoding_message_size(admin_bytes),
        )
        .add_service(
            ReleaseServiceServer::new(ReleaseApi(Arc::clone(shared)))
                .max_decoding_message_size(admin_bytes),
        )
        .add_service(
            RolloutServiceServer::new(RolloutApi(Arc::clone(shared)))
                .max_decoding_message_size(admin_bytes),
        )
        .add_service(
            SuspectServiceServer::new(SuspectApi(Arc::clone(shared)))
                .max_decoding_message_size(admin_bytes),
        )
        .add_service(
            PolicyServiceServer::new(PolicyApi(Arc::clone(shared)))
                .max_decoding_message_size(admin_bytes),
        )
        .add_service(
            WatchServiceServer::new(WatchApi(Arc::clone(shared)))
                .max_decoding_message_size(admin_bytes),
        )
        .add_service(
            IdentityServiceServer::new(IdentityApi(Arc::clone(shared)))
                .max_decoding_message_size(admin_bytes),
        )
        .add_service(
            AuditServiceServer::new(AuditApi(Arc::clone(shared)))
                .max_decoding_message_size(admin_bytes),
        )
        .add_service(
            OverviewServiceServer::new(OverviewApi {
                shared: Arc::clone(shared),
                overview: Overview::new(handle.clone()),
            })
            .max_decoding_message_size(admin_bytes),
        )
        .add_service(
            OrderServiceServer::new(OrderApi(Arc::clone(shared)))
                .max_decoding_message_size(admin_bytes),
        )
        .add_service(
            ApprovalServiceServer::new(ApprovalApi(Arc::clone(shared)))
                .max_decoding_message_size(admin_bytes),
        )
        .add_service(
            WebhookServiceServer::new(WebhookApi(Arc::clone(shared)))
                .max_decoding_message_size(admin_bytes),
        )
        .add_service(
            PeopleServiceServer::new(PeopleApi(Arc::clone(shared)))
                .max_decoding_message_size(admin_bytes),
        );
    let metrics = &shared.metrics;
    let door = Arc::new(Door {
        handle: handle.clone(),
        accounts: Arc::clone(&shared.accounts),
    });
    let pages = Pages {
        metrics: Arc::clone(metrics),
        health: Arc::clone(handle.health()),
    };
    (
        Serve::agents(
            agents,
            Arc::clone(&door) as Arc<dyn Gate>,
            Arc::clone(metrics),
            limits.unary_timeout(),
        ),
        Serve::admins(
            admins,
            door,
            Arc::new(pages),
            Arc::clone(metrics),
            limits.unary_timeout(),
        ),
    )
}

/// The address that clients are told: with port 0 the one really taken.
fn told(listener: &ListenerFile, taken: SocketAddr) -> String {
    match listener.address.strip_suffix(":0") {
        Some(host) => format!("{host}:{}", taken.port()),
        None => listener.address.clone(),
    }
}

fn write_addresses(config: &Config, addresses: &Addresses) -> Result<(), ServerError> {
    let path = config.data.addresses();
    if let Some(folder) = path.parent() {
        create_private_dir(folder)?;
    }
    write_whole(&path, &storage::to_json(addresses), 0o644)
}
