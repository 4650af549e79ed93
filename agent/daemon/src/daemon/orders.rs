//! Orders at the edge: their record on disk, the firewall, and whether a server can be reached.

use super::{Agent, TaskResult};
use crate::link::chain;
use crate::order_policy::OrderSettings;
use crate::servers::Servers;
use crate::vouch::vouch;
use ringward_agent_core::Event;
use ringward_agent_core::orders::{FORMAT, IsolateFailure, OrdersRecord, OrdersStarted};
use ringward_agent_os::isolation::{Ground, Plan};
use ringward_agent_os::marker::{read_small, write_durably};
use ringward_agent_os::{Host, IsolationError};
use ringward_domain::net::Allowed;
use ringward_domain::{Desired, HostId};
use ringward_wire::client;
use rustls::ClientConfig;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout};

const FILE: &str = "orders.json";
/// A server that is reached answers the handshake within this.
const PROOF: Duration = Duration::from_secs(15);
/// While the host is isolated its servers are looked up this often; and this often while there is no
/// session, for then they may have moved.
const FOLLOW: Duration = Duration::from_secs(60);
const FOLLOW_LOST: Duration = Duration::from_secs(5);

/// What came of it.
#[derive(Debug)]
pub(super) enum OrdersResult {
    Isolated(Result<Vec<String>, IsolateFailure>),
    IsolationEnded(bool),
    ServerProved(bool),
}

/// The edge's own memory.
#[derive(Debug)]
pub(super) struct OrdersEdge {
    host: HostId,
    endorsers: Vec<[u8; 32]>,
    pub(super) servers: Servers,
    /// What stays open beside the servers, while the host is isolated.
    standing: Option<Vec<Allowed>>,
    followed: Option<Instant>,
    following: Option<AbortHandle>,
}

impl OrdersEdge {
    pub(super) fn new(host: HostId, servers: Servers, settings: &OrderSettings) -> Self {
        Self {
            host,
            endorsers: settings.endorsers.clone(),
            servers,
            standing: None,
            followed: None,
            following: None,
        }
    }
}

/// What is found of orders at a start.
pub(super) async fn look<H: Host>(
    host: &H,
    state_dir: &Path,
    settings: &OrderSettings,
) -> OrdersStarted {
    OrdersStarted {
        record: read(state_dir),
        stands: host.is_isolated().await,
        able: host.can_isolate().await,
        policy: settings.policy.clone(),
    }
}

/// `None` where there is none, or none to be trusted: what the rules in the kernel say stays then.
fn read(state_dir: &Path) -> Option<OrdersRecord> {
    let damaged = |why: String| tracing::error!(why, "the record of orders cannot be used");
    let text = read_small(&state_dir.join(FILE))
        .map_err(|error| damaged(chain(&error)))
        .ok()??;
    let record: OrdersRecord = serde_json::from_str(&text)
        .map_err(|error| damaged(error.to_string()))
        .ok()?;
    if record.format != FORMAT {
        damaged(format!("it has format {}, not {FORMAT}", record.format));
        return None;
    }
    Some(record)
}

impl<H: Host> Agent<H> {
    /// Who vouches for the orders of what the server wants now.
    pub(super) fn vouch(&self, desired: &Desired) -> Event {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_unix_ms = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
        let edge = &self.orders;
        Event::Vouched(vouch(
            &desired.orders,
            edge.host,
            &edge.endorsers,
            now_unix_ms,
        ))
    }

    pub(super) fn write_orders(&self, record: &OrdersRecord, events: &mut VecDeque<Event>) {
        let text = serde_json::to_vec(record).expect("a record of plain values always serialises");
        let written = write_durably(&self.state_dir.join(FILE), &text);
        if let Err(error) = &written {
            tracing::error!(error = chain(error), "the record of orders is not written");
        }
        events.push_back(Event::OrdersWritten(written.is_ok()));
    }

    pub(super) fn isolate(&mut self, allow: Vec<Allowed>) {
        self.stop_following();
        self.orders.standing = Some(allow.clone());
        let (tell, host) = (self.tell.clone(), Arc::clone(&self.host));
        let servers = self.orders.servers.clone();
        tokio::spawn(async move {
            if !servers.all_known() {
                servers.resolve().await;
            }
            let outcome = match close(&*host, &servers, allow).await {
                Ok(()) => {
                    let escapes = host.escapes().await;
                    tracing::warn!(?escapes, "this host is isolated");
                    Ok(escapes)
                }
                Err(error) => {
                    tracing::error!(error = chain(&error), "this host is not isolated");
                    Err(match error {
                        IsolationError::Unsupported { .. } => IsolateFailure::Unsupported,
                        IsolationError::Refused { .. } => IsolateFailure::Firewall,
                        IsolationError::Disk(_) => IsolateFailure::Disk,
                    })
                }
            };
            let result = TaskResult::Orders(OrdersResult::Isolated(outcome));
            // Nobody is left to be told when this fails.
            let _ = tell.send(result).await;
        });
    }

    pub(super) fn end_isolation(&mut self) {
        self.stop_following();
        self.orders.standing = None;
        let (tell, host) = (self.tell.clone(), Arc::clone(&self.host));
        tokio::spawn(async move {
            let ended = host.end_isolation().await;
            match &ended {
                Ok(()) => tracing::warn!("this host is open"),
                Err(error) => tracing::error!(error = chain(error), "the isolation is not ended"),
            }
            let result = TaskResult::Orders(OrdersResult::IsolationEnded(ended.is_ok()));
            let _ = tell.send(result).await;
        });
    }

    pub(super) fn prove_server(&self) {
        let (tell, servers) = (self.tell.clone(), self.orders.servers.clone());
        let tls = self.link.tls();
        tokio::spawn(async move {
            let reached = timeout(PROOF, reach(&servers, &tls)).await.unwrap_or(false);
            tracing::info!(reached, "looked for a server over a new connection");
            let result = TaskResult::Orders(OrdersResult::ServerProved(reached));
            let _ = tell.send(result).await;
        });
    }

    pub(super) fn on_orders_result(&mut self, result: OrdersResult, events: &mut VecDeque<Event>) {
        events.push_back(match result {
            OrdersResult::Isolated(outcome) => {
                self.orders.followed = Some(Instant::now());
                Event::Isolated(outcome)
            }
            OrdersResult::IsolationEnded(ended) => Event::IsolationEnded(ended),
            OrdersResult::ServerProved(reached) => Event::ServerProved(reached),
        });
    }

    fn stop_following(&mut self) {
        if let Some(task) = self.orders.following.take() {
            task.abort();
        }
    }

    fn follow_at(&self) -> Option<Instant> {
        self.orders.standing.as_ref()?;
        let every = match self.channel {
            Some(_) => FOLLOW,
            None => FOLLOW_LOST,
        };
        Some(self.orders.followed? + every)
    }

    /// Time until the servers are looked up next.
    pub(super) fn next_follow(&self) -> Duration {
        self.follow_at().map_or(Duration::MAX, |at| {
            at.saturating_duration_since(Instant::now())
        })
    }

    /// An isolated host lets its servers through wherever their names lead now.
    pub(super) fn follow_servers(&mut self) {
        let due = self.follow_at().is_some_and(|at| at <= Instant::now());
        let Some(allow) = self.orders.standing.clone().filter(|_| due) else {
            return;
        };
        self.orders.followed = Some(Instant::now());
        if self
            .orders
            .following
            .as_ref()
            .is_some_and(|task| !task.is_finished())
        {
            return;
        }
        let (host, servers) = (Arc::clone(&self.host), self.orders.servers.clone());
        let task = tokio::spawn(async move {
            servers.resolve().await;
            if let Err(error) = close(&*host, &servers, allow).await {
                tracing::warn!(error = chain(&error), "the isolation stays as it was");
            }
        });
        self.orders.following = Some(task.abort_handle());
    }

    /// The servers' addresses while the net is open: they are needed when it closes.
    pub(super) fn learn_servers(&self) {
        let servers = self.orders.servers.clone();
        if servers.named() {
            tokio::spawn(async move { servers.resolve().await });
        }
    }
}

async fn close<H: Host>(
    host: &H,
    servers: &Servers,
    allow: Vec<Allowed>,
) -> Result<(), IsolationError> {
    let ground = Ground {
        servers: servers.addresses(),
        named: servers.named(),
        resolvers: host.resolvers(),
        allow,
    };
    host.isolate(&Plan::of(&ground)).await
}

/// Whether any server proves to be ours over a new connection.
async fn reach(servers: &Servers, tls: &Arc<ClientConfig>) -> bool {
    let mut tries = JoinSet::new();
    for address in servers.names() {
        let (address, tls) = (address.clone(), Arc::clone(tls));
        tries.spawn(async move { client::channel(&address, tls).await.is_ok() });
    }
    while let Some(reached) = tries.join_next().await {
        if reached.unwrap_or(false) {
            return true;
        }
    }
    false
}
