//! The gRPC services: wire types in, the actor's answers out.

mod agent;
mod allowance;
mod audit;
mod fleet;
mod gate;
mod identity;
mod orders;
mod overview;
mod people;
mod policy;
mod release;
mod rollout;
mod session;
mod suspects;
mod trust;
mod watch;
mod webhooks;

pub use agent::AgentApi;
pub use allowance::Allowances;
pub use audit::AuditApi;
pub use fleet::FleetApi;
pub use gate::Door;
pub use identity::IdentityApi;
pub use orders::{ApprovalApi, OrderApi};
pub use overview::OverviewApi;
pub use people::PeopleApi;
pub use policy::PolicyApi;
pub use release::ReleaseApi;
pub use rollout::RolloutApi;
pub use suspects::SuspectApi;
pub use trust::TrustApi;
pub use watch::WatchApi;
pub use webhooks::WebhookApi;

use crate::accounts::Accounts;
use crate::actor::{Gone, Handle};
use crate::artefacts::Artefacts;
use crate::audit::AuditLog;
use crate::config::{CertificatesFile, Limits};
use crate::data_dir::DataDir;
use crate::listener::{Identity, Peer};
use crate::metrics::Metrics;
use crate::pki::{AdminIdentity, HostIdentity, Pki};
use crate::tokens::{TokenError, Tokens};
use ringward_domain::Sha256;
use ringward_domain::command::{Command, Outcome, Refusal};
use ringward_domain::people::{Caller, Permission};
use ringward_server_core::people::Scope;
use ringward_store::{AnyStore, StoreError};
use ringward_wire::error::DecodeError;
use ringward_wire::{pb, status};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tonic::{Code, Request, Response, Status};

/// What every service needs.
pub struct Shared {
    /// Who outside of this server is told.
    pub webhooks: Arc<crate::webhooks::Webhooks>,
    /// The way to the decisions.
    pub handle: Handle,
    /// Browsers that are signed in.
    pub sessions: Arc<crate::web::Sessions>,
    /// Passwords and API tokens.
    pub accounts: Arc<Accounts>,
    /// Enrolment tokens.
    pub tokens: Tokens,
    /// The authority.
    pub pki: Pki,
    /// SHA-256 of the root's key, as tokens name it.
    pub root_key_hash: Sha256,
    /// Artefacts of releases.
    pub artefacts: Artefacts,
    /// How much each host may still say.
    pub allowances: Allowances,
    /// Bounds downloads.
    pub downloads: Arc<Semaphore>,
    /// Bounds uploads.
    pub uploads: Semaphore,
    /// The audit log's tree.
    pub audit: AuditLog,
    /// Signals are read here.
    pub store: Arc<AnyStore>,
    /// The data directory.
    pub data: DataDir,
    /// Lifetimes of certificates.
    pub certificates: CertificatesFile,
    /// Address that hosts are told.
    pub agent_address: String,
    /// Bounds.
    pub limits: Limits,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

impl From<Gone> for Status {
    fn from(gone: Gone) -> Self {
        Self::unavailable(gone.to_string())
    }
}

/// The peer of a request.
fn peer<T>(request: &Request<T>) -> Result<&Peer, Status> {
    request
        .extensions()
        .get::<Peer>()
        .ok_or_else(|| Status::internal("the connection's peer is not known"))
}

/// The host that calls.
fn host<T>(request: &Request<T>, metrics: &Metrics) -> Result<Arc<HostIdentity>, Status> {
    match &peer(request)?.identity {
        Identity::Host(identity) => Ok(Arc::clone(identity)),
        Identity::Expired(_) => {
            metrics.calls_unauthenticated.add_one();
            Err(status::problem(
                Code::Unauthenticated,
                "this host's certificate has expired",
                "a running agent renews it by itself within 180 days; later, enrol it again",
            ))
        }
        Identity::None | Identity::Admin(_) => {
            metrics.calls_unauthenticated.add_one();
            Err(status::problem(
                Code::Unauthenticated,
                "this call needs a host's certificate",
                "enrol the host with `ringward-agent enroll`",
            ))
        }
    }
}

/// The host that calls to renew its certificate, which may have expired.
fn host_renewing<T>(
    request: &Request<T>,
    metrics: &Metrics,
) -> Result<(Arc<HostIdentity>, bool), Status> {
    match &peer(request)?.identity {
        Identity::Expired(identity) => Ok((Arc::clone(identity), true)),
        _ => host(request, metrics).map(|identity| (identity, false)),
    }
}

/// The admin who calls.
fn admin<T>(request: &Request<T>) -> Result<Arc<AdminIdentity>, Status> {
    match &peer(request)?.identity {
        Identity::Admin(identity) => Ok(Arc::clone(identity)),
        Identity::None | Identity::Host(_) | Identity::Expired(_) => Err(status::problem(
            Code::Unauthenticated,
            "this call needs an admin's certificate",
            "use a context file that `ringward-server init` wrote",
        )),
    }
}

/// Over which hosts a caller holds a permission.
async fn scope(
    handle: &Handle,
    admin: &AdminIdentity,
    permission: Permission,
) -> Result<(Scope, Scope), Status> {
    let caller = admin.caller(false);
    Ok(handle
        .ask(move |seen| seen.control.scope(&caller, permission))
        .await?)
}

/// What concerns the whole fleet needs a grant over the whole fleet.
async fn whole(
    handle: &Handle,
    admin: &AdminIdentity,
    permission: Permission,
) -> Result<(), Status> {
    if scope(handle, admin, permission).await? == (Scope::All, Scope::All) {
        return Ok(());
    }
    Err(status::refused(&Refusal::Denied {
        what: "this call".to_owned(),
        why: format!(
            "it is about the whole fleet, and the grants of {} are not",
            admin.name
        ),
        next: "ask an admin for the role over the whole fleet".to_owned(),
    }))
}

/// What the store's failure is to a caller.
fn store_failed(error: &StoreError) -> Status {
    tracing::error!(%error, "answering a call");
    status::problem(
        Code::Unavailable,
        "the server's store fails at this moment",
        "try again; its log says more, and `ringward-server doctor` looks it over",
    )
}

fn token_refused(error: TokenError) -> Status {
    match error {
        TokenError::Refused(refusal) => status::refused(&refusal),
        TokenError::Store(error) => store_failed(&error),
        TokenError::Busy | TokenError::Fenced => Status::unavailable(error.to_string()),
        TokenError::Unknown
        | TokenError::Elsewhere { .. }
        | TokenError::NotMeant { .. }
        | TokenError::Expired
        | TokenError::Revoked
        | TokenError::UsedUp => Status::permission_denied(error.to_string()),
    }
}

fn not_found(what: &str, id: String, next: &str) -> Status {
    status::refused(&Refusal::NotFound {
        what: what.to_owned(),
        id,
        next: next.to_owned(),
    })
}

/// A command read from the wire, carried out.
async fn carry_out(
    handle: &Handle,
    caller: Caller,
    command: Result<Command, DecodeError>,
) -> Result<Response<pb::Outcome>, Status> {
    let command = command?;
    let named = (command.actor.clone(), command.request, command.dry_run);
    let outcome = handle
        .ask_for(caller, command)
        .await?
        .map_err(|refusal| status::refused(&refusal))?;
    let (actor, request_id, dry_run) = named;
    tracing::info!(actor, %request_id, dry_run, summary = outcome.summary, "order carried out");
    Ok(Response::new(outcome.into()))
}

/// Whether a call says that it does alone what takes two.
fn breaks_glass(act: Option<&pb::Act>) -> bool {
    act.is_some_and(|act| act.break_glass)
}

/// An outcome without hosts.
fn plain_outcome(summary: impl Into<String>) -> Outcome {
    Outcome {
        summary: summary.into(),
        rollout: None,
        hosts: Vec::new(),
        left_out: Vec::new(),
        warnings: Vec::new(),
        order: None,
        approval: None,
    }
}

/// One page of a list that lies in memory, ordered by `key`.
fn page_of<T>(
    items: Vec<T>,
    after: &[u8],
    size: usize,
    key: impl Fn(&T) -> Vec<u8>,
) -> (Vec<T>, Vec<u8>) {
    let mut page = Vec::new();
    let mut next = Vec::new();
    let mut passed = after.is_empty();
    for item in items {
        if !passed {
            passed = key(&item) == after;
            continue;
        }
        if page.len() == size {
            next = page.last().map(&key).unwrap_or_default();
            break;
        }
        page.push(item);
    }
    (page, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_cover_a_list_once() {
        let items: Vec<u8> = (1..=7).collect();
        let mut seen = Vec::new();
        let mut after = Vec::new();
        for _ in 0..4 {
            let (page, next) = page_of(items.clone(), &after, 3, |n| vec![*n]);
            seen.extend(page);
            after = next;
            if after.is_empty() {
                break;
            }
        }
        assert_eq!(seen, items);
    }
}
