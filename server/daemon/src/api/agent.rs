//! What agents call.

use super::{Shared, host, host_renewing, peer, session, token_refused};
use crate::artefacts::Reading;
use crate::clock::unix_ms;
use crate::error::{ServerError, chain};
use crate::listener::Identity;
use crate::pki::{HostIdentity, HostRequest, Which};
use crate::release_check::load_root;
use ringward_domain::host::HostState;
use ringward_domain::{HostId, ReleaseDigest, Sha256};
use ringward_server_core::control::Enrolment;
use ringward_wire::enrolment::{Certificates, EnrolRequest, Enrolled, renewal};
use ringward_wire::pb::agent_service_server::AgentService;
use ringward_wire::{pb, status};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

/// How long a download waits for its turn before the host is told to come back.
const DOWNLOAD_WAIT: Duration = Duration::from_secs(5);
/// How often a download looks whether its host was revoked: five seconds are promised.
const REVOKED_LOOK: Duration = Duration::from_secs(2);
/// Chunks read ahead of a download.
const READ_AHEAD: usize = 2;

/// The agents' service.
#[derive(Clone)]
pub struct AgentApi(pub Arc<Shared>);

type Chunks = ReceiverStream<Result<pb::ArtefactChunk, Status>>;

#[tonic::async_trait]
impl AgentService for AgentApi {
    async fn enroll(
        &self,
        request: Request<pb::EnrollRequest>,
    ) -> Result<Response<pb::EnrollResponse>, Status> {
        let peer = peer(&request)?;
        if !matches!(peer.identity, Identity::None | Identity::Host(_)) {
            return Err(Status::permission_denied("only hosts enrol"));
        }
        let address = peer.address;
        // One enrolment a connection: it ends once this is answered, and the next of that address
        // gets its turn.
        let _over = peer.closing.clone().drop_guard();
        let request = EnrolRequest::try_from(request.into_inner())?;
        match self.enrol(request, address.ip()).await {
            Ok(enrolled) => {
                self.0.metrics.enrolled.add_one();
                tracing::info!(%address, host = %enrolled.host, "host enrolled");
                Ok(Response::new(enrolled.into()))
            }
            Err(error) => {
                self.0.metrics.enrolments_refused.add_one();
                tracing::info!(%address, code = ?error.code(), why = error.message(), "enrolment refused");
                Err(error)
            }
        }
    }

    async fn renew(
        &self,
        request: Request<pb::RenewRequest>,
    ) -> Result<Response<pb::RenewResponse>, Status> {
        let (identity, expired) = host_renewing(&request, &self.0.metrics)?;
        let over = expired.then(|| peer(&request).map(|peer| peer.closing.clone().drop_guard()));
        let _over = over.transpose()?;
        self.known(identity.host).await?;
        let wanted = read_request(&renewal(request.into_inner())?)?;
        if expired {
            self.check_same_key(&identity, wanted.key_hash()).await?;
        }
        self.note_key(&identity, wanted.key_hash()).await?;
        let certificates = self.issue(identity.host, &wanted)?;
        tracing::info!(host = %identity.host, "certificate renewed");
        Ok(Response::new(certificates.into()))
    }

    type SessionStream = session::Outbound;

    async fn session(
        &self,
        request: Request<Streaming<pb::AgentFrame>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let identity = host(&request, &self.0.metrics)?;
        if self.0.pki.is_leaving(&identity.issuer) {
            self.0.metrics.connections_leaving_authority.add_one();
        }
        let peer = peer(&request)?;
        let closing = session::Closing {
            connection: peer.closing.clone(),
            server: peer.stop.clone(),
        };
        let frames = request.into_inner();
        let outbound = session::open(Arc::clone(&self.0), identity.host, frames, closing).await?;
        Ok(Response::new(outbound))
    }

    async fn get_release(
        &self,
        request: Request<pb::GetReleaseRequest>,
    ) -> Result<Response<pb::GetReleaseResponse>, Status> {
        let identity = host(&request, &self.0.metrics)?;
        self.known(identity.host).await?;
        let release = ReleaseDigest::try_from(request.into_inner().release.as_slice())
            .map_err(|error| status::bad_field("release", &error.to_string()))?;
        let envelope = self
            .0
            .handle
            .ask(move |seen| seen.envelope(release))
            .await?
            .ok_or_else(|| Status::not_found(format!("release {release} is not published")))?;
        Ok(Response::new(pb::GetReleaseResponse {
            envelope: Some(envelope.into()),
        }))
    }

    type FetchArtifactStream = Chunks;

    async fn fetch_artifact(
        &self,
        request: Request<pb::FetchArtifactRequest>,
    ) -> Result<Response<Self::FetchArtifactStream>, Status> {
        let identity = host(&request, &self.0.metrics)?;
        self.known(identity.host).await?;
        let request = request.into_inner();
        let sha256 = Sha256::try_from(request.sha256.as_slice())
            .map_err(|error| status::bad_field("sha256", &error.to_string()))?;
        let turn =
            tokio::time::timeout(DOWNLOAD_WAIT, Arc::clone(&self.0.downloads).acquire_owned())
                .await
                .map_err(|_| {
                    self.0.metrics.downloads_refused.add_one();
                    Status::resource_exhausted("too many downloads at once; try again later")
                })?
                .map_err(|_| Status::unavailable("the server is stopping"))?;
        let (artefacts, offset) = (self.0.artefacts.clone(), request.offset);
        let (reading, size) = blocking(move || artefacts.read(sha256, offset))
            .await?
            .ok_or_else(|| Status::not_found(format!("artefact {sha256} is not here")))?;
        if offset > size {
            return Err(status::bad_field(
                "offset",
                &format!("is beyond the artefact's {size} bytes"),
            ));
        }
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        let shared = Arc::clone(&self.0);
        tokio::spawn(async move {
            let _turn = turn;
            let _open = shared.metrics.downloads_open.hold();
            tokio::select! {
                () = send_chunks(&shared, reading, &sender) => {}
                () = revoked(&shared, identity.host) => {
                    let cut = Status::permission_denied("this host is not part of the fleet any more");
                    let _ = sender.try_send(Err(cut));
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Ends when the host is not to be served any more: a download may take hours.
async fn revoked(shared: &Shared, host: HostId) {
    loop {
        tokio::time::sleep(REVOKED_LOOK).await;
        if shared.handle.ask(move |seen| seen.admits(host)).await != Ok(true) {
            shared.metrics.sessions_revoked.add_one();
            return;
        }
    }
}

async fn send_chunks(
    shared: &Shared,
    mut reading: Reading,
    sender: &mpsc::Sender<Result<pb::ArtefactChunk, Status>>,
) {
    loop {
        let read = blocking(move || {
            let chunk = reading.chunk();
            chunk.map(|chunk| (reading, chunk))
        });
        let chunk = match read.await {
            Ok((_, None)) => return,
            Ok((back, Some((offset, data)))) => {
                reading = back;
                shared.metrics.artefact_bytes_sent.add(data.len() as u64);
                Ok(pb::ArtefactChunk { offset, data })
            }
            Err(error) => {
                // The host resumes at its offset; what came so far is good.
                let _ = sender.send(Err(error)).await;
                return;
            }
        };
        if sender.send(chunk).await.is_err() {
            return;
        }
    }
}

/// Runs file work where it may block.
pub(super) async fn blocking<T, E>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Status>
where
    T: Send + 'static,
    E: std::error::Error + Send + 'static,
{
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Status::internal("file work ended in a panic"))?
        .map_err(|error| {
            tracing::error!(error = chain(&error), "file work failed");
            Status::unavailable("the server's disk fails at this moment; try again later")
        })
}

fn read_request(der: &[u8]) -> Result<HostRequest, Status> {
    HostRequest::read(der).map_err(|error| status::bad_field("csr_der", &chain(&error)))
}

fn internal(error: &ServerError) -> Status {
    tracing::error!(error = chain(error), "answering a call");
    Status::internal("the server could not do its part; its log says why")
}

impl AgentApi {
    async fn enrol(&self, request: EnrolRequest, from: IpAddr) -> Result<Enrolled, Status> {
        let shared = &self.0;
        let wanted = read_request(&request.csr_der)?;
        let spent = shared
            .tokens
            .spend(&request.secret, wanted.key_hash(), from, &request.facts)
            .await
            .map_err(token_refused)?;
        tracing::info!(host = %spent.host, token = spent.token, repeated = spent.repeated, "token spent");
        let state = shared
            .handle
            .enrol(Enrolment {
                host: spent.host,
                facts: request.facts,
                labels: spent.spec.labels,
                key: wanted.key_hash(),
                pending: !spent.spec.approve,
                ephemeral: spent.spec.ephemeral_ms,
            })
            .await?;
        let data = shared.data.clone();
        let release_root = blocking(move || load_root(&data)).await?;
        Ok(Enrolled {
            host: spent.host,
            certificates: self.issue(spent.host, &wanted)?,
            release_root,
            state,
            authority_version: shared.pki.bundle_version(),
        })
    }

    fn issue(&self, host: HostId, wanted: &HostRequest) -> Result<Certificates, Status> {
        let pki = &self.0.pki;
        let issued = pki
            .authority(Which::Agents)
            .issue_host(host, wanted, self.0.certificates.host_days)
            .map_err(|error| internal(&error))?;
        let intermediate = pki
            .intermediate_der(Which::Agents)
            .map_err(|error| internal(&error))?;
        let roots = pki.roots_der().map_err(|error| internal(&error))?;
        tracing::debug!(%host, until_unix_s = issued.not_after_unix_s, now_unix_ms = unix_ms(), "certificate issued");
        Ok(Certificates {
            chain_der: vec![issued.der, intermediate.to_vec()],
            roots_der: roots.iter().map(|root| root.to_vec()).collect(),
        })
    }

    /// Refuses hosts that are retired or not known, whatever their certificate says.
    async fn known(&self, host: HostId) -> Result<(), Status> {
        if self.0.handle.ask(move |seen| seen.admits(host)).await? {
            return Ok(());
        }
        self.0.metrics.sessions_revoked.add_one();
        Err(status::problem(
            Code::PermissionDenied,
            "this host is not part of the fleet any more",
            "enrol it again with a new token",
        ))
    }

    /// An expired certificate proves less than a valid one: only the key that the server knows of
    /// this host may renew it, and only for itself.
    async fn check_same_key(&self, identity: &HostIdentity, key: Sha256) -> Result<(), Status> {
        let host = identity.host;
        let known = self
            .0
            .handle
            .ask(move |seen| seen.control.host_key(host))
            .await?;
        if known == Some(identity.key) && key == identity.key {
            return Ok(());
        }
        Err(status::problem(
            Code::PermissionDenied,
            "an expired certificate is renewed for the host's own key only",
            "enrol the host again with a new token",
        ))
    }

    /// Notes the key of a renewal that is another than before.
    async fn note_key(&self, identity: &HostIdentity, key: Sha256) -> Result<(), Status> {
        if identity.key == key {
            return Ok(());
        }
        let host = identity.host;
        let view = self.0.handle.ask(move |seen| seen.host(host)).await?;
        let Some(view) = view else {
            return Err(Status::not_found(format!("host {host} is not known")));
        };
        self.0
            .handle
            .enrol(Enrolment {
                host,
                facts: view.facts,
                labels: view.labels,
                key,
                pending: view.state == HostState::Pending,
                ephemeral: None,
            })
            .await?;
        Ok(())
    }
}
