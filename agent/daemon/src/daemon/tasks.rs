//! What takes time runs beside the loop and brings its result back as a happening.

use super::{Agent, TaskResult, installs};
use crate::enroll;
use crate::identity::{self, Identity};
use crate::link::chain;
use crate::prepare::{Order, Workshop, authority_bundles};
use ringward_agent_os::Host;
use ringward_domain::ids::{ReleaseDigest, RolloutId};
use ringward_domain::manifest::Probe;
use ringward_domain::{AssignmentKind, PackageName, Version};
use ringward_wire::authority::follow_all;
use ringward_wire::enrolment::Certificates;
use ringward_wire::pb;
use ringward_wire::pb::agent_service_client::AgentServiceClient;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, timeout};
use tonic::transport::Channel;

/// How often the certificate's age is looked at, and a failed renewal tried again.
const RENEWAL_EVERY: Duration = Duration::from_secs(3600);
/// The server answers a renewal within this.
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(20);

/// What a look after certificate and authorities came to.
#[derive(Debug)]
pub(super) struct Looked {
    /// The authorities are others now, and kept.
    followed: bool,
    /// Where a new certificate was asked for.
    renewed: Option<Result<Certificates, String>>,
}

/// When certificate and authorities were looked at last.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    looked: Option<Instant>,
}

impl Renewal {
    /// Once an hour.
    fn due(&mut self) -> bool {
        if self.looked.is_some_and(|at| at.elapsed() < RENEWAL_EVERY) {
            return false;
        }
        self.looked = Some(Instant::now());
        true
    }
}

/// Whether two thirds of the certificate's life have passed. The wall clock serves here alone: a wrong
/// one renews early or late, and the server judges.
fn is_ageing(state_dir: &Path) -> bool {
    match identity::validity(state_dir) {
        Ok((from, until)) => {
            let life = until.duration_since(from).unwrap_or_default();
            SystemTime::now() >= from + life * 2 / 3
        }
        Err(error) => {
            tracing::warn!(error = chain(&error), "the certificate's age is unknown");
            false
        }
    }
}

impl<H: Host> Agent<H> {
    pub(super) fn prepare(
        &mut self,
        rollout: RolloutId,
        package: PackageName,
        release: ReleaseDigest,
        version: Version,
        kind: AssignmentKind,
    ) {
        self.drop_prepared();
        let workshop = Workshop {
            state_dir: self.state_dir.clone(),
            root: self.release_root.clone(),
            facts: self.host.facts(),
            ledger: self.machine.ledger().clone(),
            channel: self.channel.clone(),
            mirrors: self.mirrors.clone(),
        };
        let order = Order {
            package,
            release,
            version,
            kind,
        };
        let (tell, number) = (self.tell.clone(), self.preparation);
        let host = Arc::clone(&self.host);
        let task = tokio::spawn(async move {
            let outcome = match workshop.prepare(&order).await {
                Ok(manifest) => installs::keep_before(&*host, &order, manifest).await,
                Err(error) => Err(error),
            };
            let (package, version) = (&order.package, &order.version);
            match &outcome {
                Ok(_) => tracing::info!(%package, %version, "ready to switch"),
                Err(error) => tracing::warn!(%package, %version, error = chain(error), "not ready"),
            }
            let outcome = outcome.map(Box::new).map_err(|error| error.failure());
            let result = TaskResult::Prepared {
                number,
                rollout,
                release,
                outcome,
            };
            // Nobody is left to be told when this fails.
            let _ = tell.send(result).await;
        });
        self.preparing = Some(task.abort_handle());
    }

    pub(super) fn drop_prepared(&mut self) {
        self.preparation += 1;
        if let Some(task) = self.preparing.take() {
            task.abort();
        }
    }

    pub(super) fn run_probes(&mut self, probes: Vec<Probe>) {
        if let Some(round) = self.probing.take() {
            round.abort();
        }
        let (tell, host) = (self.tell.clone(), Arc::clone(&self.host));
        let task = tokio::spawn(async move {
            let mut failed = Vec::new();
            for probe in &probes {
                if let Err(why) = host.probe(probe).await {
                    tracing::warn!(why, "a probe failed");
                    failed.push(name_of(probe));
                }
            }
            let _ = tell.send(TaskResult::Probed { failed }).await;
        });
        self.probing = Some(task.abort_handle());
    }

    /// Follows to other authorities, and renews the certificate where it is time or they are others.
    pub(super) fn renew_when_due(&mut self) {
        let Some(channel) = self.channel.clone() else {
            return;
        };
        if !self.renewal.due() {
            return;
        }
        let (tell, state_dir) = (self.tell.clone(), self.state_dir.clone());
        tokio::spawn(async move {
            let followed = follow_authorities(channel.clone(), &state_dir).await;
            let renewed = match followed || is_ageing(&state_dir) {
                true => Some(renew(channel, &state_dir).await),
                false => None,
            };
            let looked = Looked { followed, renewed };
            let _ = tell.send(TaskResult::Looked(looked)).await;
        });
    }

    /// The next session uses the new certificate and authorities; the present one goes on.
    pub(super) fn on_looked(&mut self, looked: Looked) {
        let kept = match &looked.renewed {
            None => Ok(()),
            Some(Err(why)) => Err(why.clone()),
            Some(Ok(certificates)) => {
                identity::keep_renewed(&self.state_dir, certificates).map_err(|error| chain(&error))
            }
        };
        match (&kept, &looked.renewed) {
            (Err(why), _) => tracing::warn!(
                why,
                "the certificate is not renewed; tried again in an hour"
            ),
            (Ok(()), Some(_)) => tracing::info!("the certificate is renewed"),
            (Ok(()), None) => {}
        }
        if !looked.followed && looked.renewed.is_none() {
            return;
        }
        match Identity::load(&self.state_dir) {
            Ok(identity) => self.link.set_tls(identity.tls),
            Err(error) => tracing::error!(error = chain(&error), "the identity"),
        }
    }
}

/// Follows the authorities as far as the server has newer bundles; whether there were any. Whatever
/// fails here, those known so far stay in force.
async fn follow_authorities(channel: Channel, state_dir: &Path) -> bool {
    let mut followed = false;
    loop {
        let known = match identity::authority(state_dir) {
            Ok(known) => known,
            Err(error) => {
                tracing::error!(error = chain(&error), "the authorities");
                return followed;
            }
        };
        let newer = match authority_bundles(channel.clone(), known.version).await {
            Ok(newer) if !newer.is_empty() => newer,
            Ok(_) => return followed,
            Err(error) => {
                tracing::warn!(error = chain(&error), "no newer authorities");
                return followed;
            }
        };
        let (next, refused) = follow_all(&known, &newer);
        if let Some(error) = refused {
            tracing::error!(%error, "a bundle of authorities of the server is not followed");
        }
        if next.version == known.version {
            return followed;
        }
        if let Err(error) = identity::keep_authority(state_dir, &next) {
            tracing::error!(error = chain(&error), "newer authorities are not kept");
            return followed;
        }
        let (version, roots) = (next.version, next.roots.len());
        tracing::info!(version, roots, "servers are known by other authorities");
        followed = true;
    }
}

async fn renew(channel: Channel, state_dir: &Path) -> Result<Certificates, String> {
    let key = identity::key_pem(state_dir).map_err(|error| chain(&error))?;
    // The same key: the certificate alone changes, in one atomic step.
    let csr_der = enroll::request_for(&key).map_err(|error| chain(&error))?;
    let mut client = AgentServiceClient::new(channel);
    let answer = timeout(RENEWAL_TIMEOUT, client.renew(pb::RenewRequest { csr_der }))
        .await
        .map_err(|_| "the server did not answer".to_owned())?
        .map_err(|status| status.message().to_owned())?;
    Certificates::try_from(answer.into_inner()).map_err(|error| error.to_string())
}

/// How a probe is called in reports.
fn name_of(probe: &Probe) -> String {
    match probe {
        Probe::Unit { name } => format!("unit {name}"),
        Probe::Tcp { port, .. } => format!("tcp {port}"),
        Probe::Http { port, path, .. } => format!("http {port}{path}"),
    }
}
