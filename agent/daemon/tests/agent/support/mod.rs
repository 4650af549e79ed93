//! A server of the agents' protocol, just clever enough to lead agents through their work: its own
//! CA, mutual TLS over loopback, and a script in place of decisions.

mod authority;
mod io;
mod recorded;

pub use authority::Authority;
pub use recorded::Recorded;

use io::{TlsIo, accept};
use ring::digest;
use ring::signature::{Ed25519KeyPair, KeyPair};
use ringward_domain::desired::{Assignment, AssignmentKind, Desired};
use ringward_domain::host::{Arch, HostState, Os};
use ringward_domain::ids::KeyId;
use ringward_domain::manifest::{
    Artefact, BootNeed, Envelope, Installer, Manifest, ROOT_CONTEXT, ReleaseRoot, RevertClass,
    SIGNING_CONTEXT, Signature,
};
use ringward_domain::observed::Observed;
use ringward_domain::order::OrdersDesired;
use ringward_domain::session::{ToAgent, ToServer};
use ringward_domain::signal::Signal;
use ringward_domain::{
    Absence, Epoch, Generation, HostId, Millis, PackageName, ReleaseDigest, RolloutId, Sha256,
    Version,
};
use ringward_wire::enrolment::{Certificates, EnrolRequest, Enrolled};
use ringward_wire::merkle::{Tree, leaf};
use ringward_wire::pb;
use ringward_wire::pb::agent_service_server::{AgentService, AgentServiceServer};
use ringward_wire::pb::trust_service_server::{TrustService, TrustServiceServer};
use ringward_wire::token::{EnrolmentToken, Secret, sha256};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

pub const HOST: HostId = HostId(0xa1);
const SECRET: [u8; 32] = [42; 32];
const MINUTE: Duration = Duration::from_secs(60);
/// How long the certificates made here are valid from now on.
pub const MONTH: Duration = Duration::from_secs(30 * 86_400);

/// What the server has seen and is to do.
#[derive(Default)]
pub struct State {
    pub desired: Option<Desired>,
    pub releases: BTreeMap<ReleaseDigest, Envelope>,
    pub artefacts: BTreeMap<Sha256, Vec<u8>>,
    /// The next fetch breaks after this many bytes.
    pub break_fetch_after: Option<usize>,
    /// Offsets that were asked for.
    pub offsets: Vec<u64>,
    pub secret_spent: bool,
    pub observed: Option<Observed>,
    pub signals: BTreeMap<u64, Signal>,
    pub absent: Vec<Absence>,
    pub hellos: u32,
    pub begun: u32,
    /// Release roots after the first.
    pub roots: Vec<Envelope>,
    /// Bundles of authorities after the first.
    pub bundles: Vec<Envelope>,
    /// The audit log, as its entries; fewer than one tile.
    pub audit: Vec<String>,
    /// Heads that hosts said they keep.
    pub audit_known: Vec<u64>,
    pub renewals: u32,
    /// How old the certificate of an enrolment claims to be.
    pub certificate_age: Duration,
    /// What a server of an earlier version answered, in place of answers of this one.
    pub recorded: Option<Recorded>,
    push: Option<mpsc::Sender<Result<pb::ServerFrame, Status>>>,
}

#[derive(Clone)]
pub struct Server {
    state: Arc<Mutex<State>>,
    changed: Arc<watch::Sender<u64>>,
    authority: Arc<Authority>,
    pub address: String,
}

impl Server {
    /// Listen on a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = Arc::new(Authority::new());
        let server = Self {
            state: Arc::default(),
            changed: Arc::new(watch::channel(0).0),
            address: listener.local_addr().unwrap().to_string(),
            authority: Arc::clone(&authority),
        };
        let (give, take) = mpsc::channel::<Result<TlsIo, std::io::Error>>(16);
        tokio::spawn(accept(listener, authority.server_config(), give));
        let service = AgentServiceServer::new(server.clone());
        let trust = TrustServiceServer::new(server.clone());
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .add_service(trust)
                .serve_with_incoming(ReceiverStream::new(take)),
        );
        server
    }

    pub fn token(&self) -> String {
        EnrolmentToken {
            addresses: vec![self.address.clone()],
            ca: self.authority.root_hash(),
            secret: Secret::new(SECRET),
        }
        .to_text()
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn note(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.send_modify(|n| *n += 1);
    }

    /// Wait until what was seen fits; a test that waits in vain says for what.
    pub async fn until(&self, what: &str, holds: impl Fn(&State) -> bool) {
        let mut changed = self.changed.subscribe();
        let waiting = async {
            loop {
                changed.mark_unchanged();
                if holds(&self.state()) {
                    return;
                }
                changed.changed().await.unwrap();
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await;
        assert!(
            waited.is_ok(),
            "waited in vain for: {what}; observed {:?}",
            self.state().observed
        );
    }

    /// Publish a release of one tar bundle with these files.
    pub fn publish(&self, version: &str, files: &[(&str, &str)], keys: &[u8]) -> ReleaseDigest {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder
                .append_data(&mut header, path, content.as_bytes())
                .unwrap();
        }
        let bundle = builder.into_inner().unwrap();
        let manifest = Manifest {
            format: 1,
            package: package(),
            version: version.parse().unwrap(),
            security_floor: None,
            expires_unix_s: None,
            artefacts: vec![Artefact {
                os: Os::Linux,
                arch: Some(Arch::X86_64),
                sha256: sha256(&bundle),
                size: bundle.len() as u64,
            }],
            installer: Installer::Bundle,
            revert_class: RevertClass::Atomic,
            boot: BootNeed::None,
            probes: Vec::new(),
        };
        let payload = serde_json::to_vec(&manifest).unwrap();
        let release = ReleaseDigest(sha256(&payload).0);
        let message = [SIGNING_CONTEXT, &payload].concat();
        let signatures = keys.iter().map(|key| sign(*key, &message)).collect();
        self.note(|state| {
            state.artefacts.insert(sha256(&bundle), bundle);
            state.releases.insert(
                release,
                Envelope {
                    payload,
                    signatures,
                },
            );
        });
        release
    }

    /// Want a release on the host, and say so at once where it is connected.
    pub fn want(
        &self,
        release: ReleaseDigest,
        version: &str,
        kind: AssignmentKind,
        verify_boot: bool,
    ) {
        self.note(|state| {
            let generation = state
                .desired
                .as_ref()
                .map_or(1, |desired| desired.generation.0 + 1);
            let desired = Desired {
                epoch: Epoch(1),
                generation: Generation(generation),
                assignments: vec![Assignment {
                    rollout: RolloutId(generation),
                    kind,
                    package: package(),
                    release,
                    version: version.parse::<Version>().unwrap(),
                    soak: Millis(500),
                    verify_boot,
                    invited: true,
                }],
                bars: Vec::new(),
                lifted: Vec::new(),
                heartbeat: Millis(200),
                orders: Default::default(),
                stopped: false,
            };
            if let Some(push) = &state.push {
                let _ = push.try_send(Ok(ToAgent::Desired(Box::new(desired.clone())).into()));
            }
            state.desired = Some(desired);
        });
    }

    /// Want these orders of the host, and say so at once where it is connected.
    pub fn order(&self, orders: OrdersDesired) {
        self.note(|state| {
            let generation = state
                .desired
                .as_ref()
                .map_or(1, |desired| desired.generation.0 + 1);
            let desired = Desired {
                epoch: Epoch(1),
                generation: Generation(generation),
                assignments: Vec::new(),
                bars: Vec::new(),
                lifted: Vec::new(),
                heartbeat: Millis(200),
                orders,
                stopped: false,
            };
            if let Some(push) = &state.push {
                let _ = push.try_send(Ok(ToAgent::Desired(Box::new(desired.clone())).into()));
            }
            state.desired = Some(desired);
        });
    }

    fn answers(&self, message: ToServer) -> Vec<ToAgent> {
        let recorded = self.state().recorded.clone();
        if let Some(recorded) = recorded {
            let answers = recorded.answers(&message);
            self.note(|state| match message {
                ToServer::Observed(observed) => state.observed = Some(*observed),
                ToServer::Begin(_) => state.begun += 1,
                _ => {}
            });
            return answers;
        }
        let mut answers = Vec::new();
        self.note(|state| match message {
            ToServer::Hello(hello) => {
                state.hellos += 1;
                state.observed = Some(hello.observed);
                answers.push(ToAgent::Welcome { protocol: 1 });
                answers.extend(
                    state
                        .desired
                        .clone()
                        .map(|desired| ToAgent::Desired(Box::new(desired))),
                );
            }
            ToServer::Heartbeat(_) => {}
            ToServer::Signals(signals) => {
                let through = signals.iter().map(|signal| signal.seq).max();
                answers.extend(through.map(|through| ToAgent::SignalsDurable { through }));
                state
                    .signals
                    .extend(signals.into_iter().map(|signal| (signal.seq.0, signal)));
            }
            ToServer::Observed(observed) => state.observed = Some(*observed),
            ToServer::RequestGrant(request) => answers.push(ToAgent::Grant {
                nonce: request.nonce,
                life: Millis::secs(60),
            }),
            ToServer::Begin(begin) => {
                state.begun += 1;
                answers.push(ToAgent::Begun { nonce: begin.nonce });
            }
            ToServer::Absent(absence) => state.absent.push(absence),
            ToServer::AuditKnown { size } => {
                state.audit_known.push(size);
                let mut tree = Tree::default();
                for entry in &state.audit {
                    tree.push(leaf(entry.as_bytes()));
                }
                let shown = tree.shown(size, &[]).unwrap();
                answers.push(ToAgent::AuditHead(Box::new(shown)));
            }
        });
        answers
    }
}

pub fn package() -> PackageName {
    "demo".parse().unwrap()
}

fn key_pair(key: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[key; 32]).unwrap()
}

fn sign(key: u8, message: &[u8]) -> Signature {
    let pair = key_pair(key);
    let mut id = [0; 32];
    id.copy_from_slice(digest::digest(&digest::SHA256, pair.public_key().as_ref()).as_ref());
    Signature {
        key: KeyId(id),
        signature: pair.sign(message).as_ref().to_vec(),
    }
}

/// One of key 1 has to sign.
fn release_root() -> ReleaseRoot {
    let public: [u8; 32] = key_pair(1).public_key().as_ref().try_into().unwrap();
    ReleaseRoot {
        version: 1,
        threshold: 1,
        keys: vec![Sha256(public).to_string()],
    }
}

/// The root after another: these keys from now on, signed by those.
pub fn next_root(version: u64, keys: &[u8], by: &[u8]) -> Envelope {
    let public = |key: &u8| {
        let raw: [u8; 32] = key_pair(*key).public_key().as_ref().try_into().unwrap();
        Sha256(raw).to_string()
    };
    let root = ReleaseRoot {
        version,
        threshold: 1,
        keys: keys.iter().map(public).collect(),
    };
    let payload = serde_json::to_vec(&root).unwrap();
    let message = [ROOT_CONTEXT, &payload].concat();
    Envelope {
        signatures: by.iter().map(|key| sign(*key, &message)).collect(),
        payload,
    }
}

#[tonic::async_trait]
impl TrustService for Server {
    async fn release_roots(
        &self,
        _: Request<pb::ReleaseRootsRequest>,
    ) -> Result<Response<pb::ReleaseRootsResponse>, Status> {
        let roots = self.state().roots.clone();
        Ok(Response::new(pb::ReleaseRootsResponse {
            roots: roots.into_iter().map(Into::into).collect(),
        }))
    }

    async fn authority_bundles(
        &self,
        _: Request<pb::AuthorityBundlesRequest>,
    ) -> Result<Response<pb::AuthorityBundlesResponse>, Status> {
        let bundles = self.state().bundles.clone();
        Ok(Response::new(pb::AuthorityBundlesResponse {
            bundles: bundles.into_iter().map(Into::into).collect(),
        }))
    }
}

type Frames = ReceiverStream<Result<pb::ServerFrame, Status>>;
type Chunks = ReceiverStream<Result<pb::ArtefactChunk, Status>>;

#[tonic::async_trait]
impl AgentService for Server {
    async fn enroll(
        &self,
        request: Request<pb::EnrollRequest>,
    ) -> Result<Response<pb::EnrollResponse>, Status> {
        let request = EnrolRequest::try_from(request.into_inner())?;
        let spent = std::mem::replace(&mut self.state().secret_spent, true);
        if spent || request.secret.expose() != &SECRET {
            return Err(Status::permission_denied("the token is spent"));
        }
        let age = self.state().certificate_age.max(MINUTE);
        let enrolled = Enrolled {
            host: HOST,
            certificates: Certificates {
                chain_der: self.authority.issue(&request.csr_der, age, MONTH),
                roots_der: vec![self.authority.root_der()],
            },
            release_root: Some(release_root()),
            state: HostState::Active,
            authority_version: 1,
        };
        Ok(Response::new(enrolled.into()))
    }

    async fn renew(
        &self,
        request: Request<pb::RenewRequest>,
    ) -> Result<Response<pb::RenewResponse>, Status> {
        self.note(|state| state.renewals += 1);
        let certificates = Certificates {
            chain_der: self
                .authority
                .issue(&request.into_inner().csr_der, MINUTE, MONTH),
            roots_der: vec![self.authority.root_der()],
        };
        Ok(Response::new(certificates.into()))
    }

    type SessionStream = Frames;
    async fn session(
        &self,
        request: Request<Streaming<pb::AgentFrame>>,
    ) -> Result<Response<Frames>, Status> {
        let mut frames = request.into_inner();
        let (answer, answers) = mpsc::channel(64);
        self.note(|state| state.push = Some(answer.clone()));
        let server = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(frame)) = frames.message().await {
                let message = ToServer::try_from(frame).unwrap();
                for reply in server.answers(message) {
                    let _ = answer.send(Ok(reply.into())).await;
                }
            }
            // The agent ended its side: ours ends with the last sender.
            server.note(|state| state.push = None);
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn get_release(
        &self,
        request: Request<pb::GetReleaseRequest>,
    ) -> Result<Response<pb::GetReleaseResponse>, Status> {
        let release = ReleaseDigest::try_from(request.into_inner().release.as_slice()).unwrap();
        let envelope = self.state().releases.get(&release).cloned();
        let envelope = envelope.ok_or_else(|| Status::not_found("no such release"))?;
        Ok(Response::new(pb::GetReleaseResponse {
            envelope: Some(envelope.into()),
        }))
    }

    type FetchArtifactStream = Chunks;
    async fn fetch_artifact(
        &self,
        request: Request<pb::FetchArtifactRequest>,
    ) -> Result<Response<Chunks>, Status> {
        let request = request.into_inner();
        let wanted = Sha256::try_from(request.sha256.as_slice()).unwrap();
        let (bytes, break_after) = {
            let mut state = self.state();
            state.offsets.push(request.offset);
            let bytes = state.artefacts.get(&wanted).cloned();
            (bytes.unwrap_or_default(), state.break_fetch_after.take())
        };
        let (give, take) = mpsc::channel(4);
        tokio::spawn(async move {
            let mut offset = request.offset as usize;
            let end = break_after.map_or(bytes.len(), |n| (offset + n).min(bytes.len()));
            while offset < end {
                let data = bytes[offset..(offset + 512).min(end)].to_vec();
                let chunk = pb::ArtefactChunk {
                    offset: offset as u64,
                    data,
                };
                offset += chunk.data.len();
                let _ = give.send(Ok(chunk)).await;
            }
            if break_after.is_some() {
                let _ = give.send(Err(Status::unavailable("cut"))).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(take)))
    }
}
