//! Typed calls of the admin API.

mod audit;
mod incidents;
mod tokens;
mod webhooks;

pub use incidents::SuspectsNow;
pub use tokens::CreatedToken;

use crate::context::Context;
use crate::error::Error;
use ring::rand::SecureRandom;
use ringward_domain::command::{Action, Outcome};
use ringward_domain::manifest::Envelope;
use ringward_domain::report::{HostView, MemberView, ReleaseView, RolloutView};
use ringward_domain::{
    HostId, Millis, PackageName, ReleaseDigest, RequestId, RingName, RolloutId, Sha256,
};
use ringward_wire::command::Act;
use ringward_wire::host::{HostFilter, HostPage};
use ringward_wire::page::{PageRequest, SIZE_MAX};
use ringward_wire::policy::PolicyView;
use ringward_wire::release::ReleaseDetail;
use ringward_wire::report::{MemberKind, MembersRequest};
use ringward_wire::watch::{Andon, WatchEvent};
use ringward_wire::{DecodeError, client, pb};
use rustls::ClientConfig;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use pb::approval_service_client::ApprovalServiceClient;
use pb::fleet_service_client::FleetServiceClient;
use pb::identity_service_client::IdentityServiceClient;
use pb::order_service_client::OrderServiceClient;
use pb::people_service_client::PeopleServiceClient;
use pb::policy_service_client::PolicyServiceClient;
use pb::release_service_client::ReleaseServiceClient;
use pb::rollout_service_client::RolloutServiceClient;
use pb::watch_service_client::WatchServiceClient;

/// Time for one call; the server bounds its own work at 10 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes of one answer: a full page of hosts with all they report.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Pages that one listing follows: 1,000,000 hosts.
pub(crate) const PAGES_MAX: usize = 1000;

/// A connection to a server's admin listener. Cheap to clone; all calls may run at once.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Wire,
}

/// A connection, and what goes along with each call on it.
pub(crate) type Wire = InterceptedService<Channel, Bearer>;

/// The API token that goes along with each call, where one stands for the certificate.
#[derive(Debug, Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            let metadata = request.metadata_mut();
            metadata.insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// How a server stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerStatus {
    /// Its version.
    pub version: String,
    /// Hosts that are not retired.
    pub hosts: u64,
    /// Hosts with a session now.
    pub connected: u64,
    /// Distinct stored signals, where they were asked for.
    pub signals_stored: Option<u64>,
    /// Raised by a restore.
    pub epoch: u64,
    /// Its fleet clock.
    pub fleet_clock: Millis,
}

/// A release just published.
#[derive(Debug, Clone)]
pub struct Published {
    /// What was done.
    pub outcome: Outcome,
    /// The release; `None` on a dry run.
    pub release: Option<ReleaseView>,
}

/// An order in earnest with a new request id.
///
/// # Panics
/// When the operating system gives no random bytes: nothing safe can be done then.
#[must_use]
#[allow(clippy::expect_used)]
pub fn act(reason: &str) -> Act {
    let mut id = [0; 16];
    ring::rand::SystemRandom::new()
        .fill(&mut id)
        .expect("the operating system gives random bytes");
    Act {
        request: RequestId(id),
        reason: reason.to_owned(),
        dry_run: false,
        break_glass: false,
    }
}

pub(crate) fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

pub(crate) fn answered<P, D>(
    doing: &'static str,
    answer: Result<Response<P>, Status>,
) -> Result<D, Error>
where
    D: TryFrom<P, Error = DecodeError>,
{
    D::try_from(taken(doing, answer)?).map_err(unreadable(doing))
}

pub(crate) fn taken<P>(
    doing: &'static str,
    answer: Result<Response<P>, Status>,
) -> Result<P, Error> {
    match answer {
        Ok(response) => Ok(response.into_inner()),
        Err(status) => Err(Error::Server {
            doing,
            status: Box::new(status),
        }),
    }
}

pub(crate) fn unreadable(doing: &'static str) -> impl Fn(DecodeError) -> Error {
    move |source| Error::Answer { doing, source }
}

pub(crate) fn read<D, P>(doing: &'static str, messages: Vec<P>) -> Result<Vec<D>, Error>
where
    D: TryFrom<P, Error = DecodeError>,
{
    messages
        .into_iter()
        .map(D::try_from)
        .collect::<Result<_, _>>()
        .map_err(unreadable(doing))
}

macro_rules! service {
    ($name:ident, $client:ident) => {
        pub(crate) fn $name(&self) -> $client<Wire> {
            $client::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
        }
    };
}

impl Client {
    service!(fleet, FleetServiceClient);
    service!(identity_service, IdentityServiceClient);
    service!(release_service, ReleaseServiceClient);
    service!(rollout_service, RolloutServiceClient);
    service!(policy_service, PolicyServiceClient);
    service!(watch_service, WatchServiceClient);
    service!(order_service, OrderServiceClient);
    service!(approval_service, ApprovalServiceClient);
    service!(people_service, PeopleServiceClient);

    /// Connects as the context says.
    ///
    /// # Errors
    /// Certificates that cannot be used, a server that is not reached.
    pub async fn connect(context: &Context) -> Result<Self, Error> {
        let config = Arc::new(context.client_config()?);
        let channel = client::channel(&context.server, config).await?;
        let bearer = Bearer(context.bearer()?);
        Ok(Self {
            channel: InterceptedService::new(channel, bearer),
        })
    }

    /// Connects to the admin listener at `address` (`host:port`).
    ///
    /// # Errors
    /// A server that is not reached.
    pub async fn connect_with(address: &str, config: Arc<ClientConfig>) -> Result<Self, Error> {
        let channel = client::channel(address, config).await?;
        Ok(Self {
            channel: InterceptedService::new(channel, Bearer(None)),
        })
    }

    /// Orders an action. The same act twice does it once.
    ///
    /// # Errors
    /// A refusal of the server, or no answer; here and in every call below.
    pub async fn command(&self, act: Act, action: Action) -> Result<Outcome, Error> {
        let act = Some(pb::Act::from(act));
        let (mut rollouts, mut releases, mut fleet) =
            (self.rollout_service(), self.release_service(), self.fleet());
        let on_rollout = |rollout: RolloutId, act| {
            request(pb::RolloutCommand {
                act,
                rollout: rollout.0,
            })
        };
        let on_release = |release: ReleaseDigest, act| {
            request(pb::ReleaseCommand {
                act,
                release: release.0.to_vec(),
            })
        };
        let on_host = |host: HostId, act| request(pb::HostCommand { act, host: host.0 });
        let all = |act| request(pb::FleetCommand { act });
        let (doing, answer) = match action {
            Action::StartRollout { release } => {
                let order = pb::StartRequest {
                    act,
                    release: release.0.to_vec(),
                };
                ("starting the rollout", rollouts.start(request(order)).await)
            }
            Action::Rollback { leave, to } => {
                let order = pb::RollbackRequest {
                    act,
                    leave: leave.0.to_vec(),
                    to: to.map(Into::into),
                };
                ("rolling back", rollouts.rollback(request(order)).await)
            }
            Action::Pause(id) => ("pausing", rollouts.pause(on_rollout(id, act)).await),
            Action::Resume(id) => ("resuming", rollouts.resume(on_rollout(id, act)).await),
            Action::Abort(id) => ("aborting", rollouts.abort(on_rollout(id, act)).await),
            Action::StopAll => ("stopping all", rollouts.stop_all(all(act)).await),
            Action::ResumeAll => ("resuming all", rollouts.resume_all(all(act)).await),
            Action::MarkGood(id) => (
                "marking good",
                releases.mark_good(on_release(id, act)).await,
            ),
            Action::MarkBad(id) => ("marking bad", releases.mark_bad(on_release(id, act)).await),
            Action::LiftBar(id) => (
                "lifting the bar",
                releases.lift_bar(on_release(id, act)).await,
            ),
            Action::SetLabels(host, labels) => {
                let order = pb::SetLabelsRequest {
                    act,
                    host: host.0,
                    labels,
                };
                ("setting labels", fleet.set_labels(request(order)).await)
            }
            Action::ApproveHost(id) => ("approving", fleet.approve_host(on_host(id, act)).await),
            Action::RetireHost(id) => ("retiring", fleet.retire_host(on_host(id, act)).await),
            Action::Freeze(id) => ("freezing", fleet.freeze(on_host(id, act)).await),
            Action::Unfreeze(id) => ("unfreezing", fleet.unfreeze(on_host(id, act)).await),
            Action::UnfenceHost(id) => {
                let mut hosts = self.identity_service();
                ("lifting the fence", hosts.unfence(on_host(id, act)).await)
            }
            Action::ReplaceHost(id) => {
                let mut hosts = self.identity_service();
                ("replacing", hosts.replace(on_host(id, act)).await)
            }
            Action::ApplyPolicy(policy_toml) => {
                let order = pb::ApplyPolicyRequest { act, policy_toml };
                let mut policies = self.policy_service();
                ("applying the policy", policies.apply(request(order)).await)
            }
            Action::Order(_)
            | Action::CancelOrder(_)
            | Action::Endorse(..)
            | Action::Approve(..)
            | Action::Deny(_)
            | Action::Grant(..) => return self.people_command(act, action).await,
        };
        answered(doing, answer)
    }

    /// One page of hosts.
    ///
    /// # Errors
    /// See [`command`](Self::command).
    pub async fn host_page(
        &self,
        filter: &HostFilter,
        page: PageRequest,
    ) -> Result<HostPage, Error> {
        let query = pb::ListHostsRequest {
            filter: Some(filter.clone().into()),
            page_size: u32::try_from(page.size).unwrap_or(u32::MAX),
            page_token: page.after,
        };
        answered(
            "listing hosts",
            self.fleet().list_hosts(request(query)).await,
        )
    }

    /// Every host that meets the filter, and what the filter kept back.
    ///
    /// # Errors
    /// See [`command`](Self::command).
    pub async fn hosts(&self, filter: &HostFilter) -> Result<HostPage, Error> {
        let mut all = HostPage::default();
        for _ in 0..PAGES_MAX {
            let page = PageRequest {
                size: SIZE_MAX,
                after: std::mem::take(&mut all.next),
            };
            let HostPage {
                hosts,
                next,
                total,
                filtered_out,
            } = self.host_page(filter, page).await?;
            all.hosts.extend(hosts);
            (all.next, all.total, all.filtered_out) = (next, total, filtered_out);
            if all.next.is_empty() {
                break;
            }
        }
        Ok(all)
    }

    /// One host with its newest signals.
    ///
    /// # Errors
    /// See [`command`](Self::command).
    pub async fn host(&self, host: HostId) -> Result<HostView, Error> {
        let query = request(pb::GetHostRequest { host: host.0 });
        answered("reading the host", self.fleet().get_host(query).await)
    }

    /// Publishes a release: its envelope, and the files of its artefacts (not read on a dry run).
    ///
    /// # Errors
    /// A file that cannot be read; see [`command`](Self::command).
    pub async fn publish(
        &self,
        act: Act,
        envelope: Envelope,
        artefacts: Vec<(Sha256, PathBuf)>,
    ) -> Result<Published, Error> {
        let doing = "publishing";
        let artefacts = if act.dry_run { Vec::new() } else { artefacts };
        let start = pb::PublishStart {
            act: Some(act.into()),
            envelope: Some(envelope.into()),
        };
        let (parts, feeder) = crate::upload::parts(start, artefacts);
        let answer = self.release_service().publish(parts).await;
        // A file that could not be read ends the stream early, and the server's complaint about
        // that is only the consequence.
        feeder.finished().await?;
        let answer = taken(doing, answer)?;
        let release = answer.release.map(ReleaseView::try_from).transpose();
        Ok(Published {
            outcome: outcome(doing, answer.outcome)?,
            release: release.map_err(unreadable(doing))?,
        })
    }

    /// Releases, newest first; of one package or of all.
    ///
    /// # Errors
    /// See [`command`](Self::command).
    pub async fn releases(&self, package: Option<&PackageName>) -> Result<Vec<ReleaseView>, Error> {
        let doing = "listing releases";
        let (mut releases, mut page_token) = (Vec::new(), Vec::new());
        for _ in 0..PAGES_MAX {
            let query = pb::ListReleasesRequest {
                package: package.map(ToString::to_string).unwrap_or_default(),
                page_size: SIZE_MAX as u32,
                page_token,
            };
            let page = taken(doing, self.release_service().list(request(query)).await)?;
            releases.extend(read::<ReleaseView, _>(doing, page.releases)?);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        Ok(releases)
    }

    /// One release with its manifest.
    ///
    /// # Errors
    /// See [`command`](Self::command).
    pub async fn release(&self, release: ReleaseDigest) -> Result<ReleaseDetail, Error> {
        let query = request(pb::GetReleaseDetailRequest {
            release: release.0.to_vec(),
        });
        answered(
            "reading the release",
            self.release_service().get(query).await,
        )
    }

    /// Rollouts, newest first, and the andon while it is pulled.
    ///
    /// # Errors
    /// See [`command`](Self::command).
    pub async fn rollouts(
        &self,
        active_only: bool,
    ) -> Result<(Vec<RolloutView>, Option<Andon>), Error> {
        let doing = "listing rollouts";
        let (mut rollouts, mut andon, mut page_token) = (Vec::new(), None, Vec::new());
        for _ in 0..PAGES_MAX {
            let query = pb::ListRolloutsRequest {
                active_only,
                page_size: 0,
                page_token,
            };
            let page = taken(doing, self.rollout_service().list(request(query)).await)?;
            rollouts.extend(read::<RolloutView, _>(doing, page.rollouts)?);
            andon = page.andon;
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        let andon = andon.map(Andon::try_from).transpose();
        Ok((rollouts, andon.map_err(unreadable(doing))?))
    }

    /// One rollout.
    ///
    /// # Errors
    /// See [`command`](Self::command).
    pub async fn rollout(&self, rollout: RolloutId) -> Result<RolloutView, Error> {
        let query = request(pb::GetRolloutRequest { rollout: rollout.0 });
        answered(
            "reading the rollout",
            self.rollout_service().get(query).await,
        )
    }

    /// The hosts of a rollout: of one ring or all, in states of these kinds or all.
    ///
    /// # Errors
    /// See [`command`](Self::command).
    pub async fn members(
        &self,
        rollout: RolloutId,
        ring: Option<RingName>,
        kinds: Vec<MemberKind>,
    ) -> Result<Vec<MemberView>, Error> {
        let doing = "listing the rollout's hosts";
        let (mut members, mut after) = (Vec::new(), Vec::new());
        for _ in 0..PAGES_MAX {
            let query = MembersRequest {
                rollout,
                ring: ring.clone(),
                kinds: kinds.clone(),
                page: PageRequest {
                    size: SIZE_MAX,
                    after,
                },
            };
            let page = self.rollout_service().members(request(query.into())).await;
            let page = taken(doing, page)?;
            members.extend(read::<MemberView, _>(doing, page.members)?);
            after = page.next_page_token;
            if after.is_empty() {
                break;
            }
        }
        Ok(members)
    }

    /// What a ring policy (TOML) would mean.
    ///
    /// # Errors
    /// See [`command`](Self::command).
    pub async fn check_policy(&self, policy_toml: String) -> Result<Outcome, Error> {
        let query = request(pb::CheckPolicyRequest { policy_toml });
        answered(
            "checking the policy",
            self.policy_service().check(query).await,
        )
    }

    /// The ring policy in force.
    ///
    /// # Errors
    /// See [`command`](Self::command).
    pub async fn policy(&self) -> Result<PolicyView, Error> {
        let query = request(pb::GetPolicyRequest {});
        answered("reading the policy", self.policy_service().get(query).await)
    }

    /// How the server stands; with `count_signals` also how many signals it stores.
    ///
    /// # Errors
    /// See [`command`](Self::command).
    pub async fn status(&self, count_signals: bool) -> Result<ServerStatus, Error> {
        let query = request(pb::StatusRequest { count_signals });
        let answer = taken(
            "asking for the server's status",
            self.fleet().status(query).await,
        )?;
        Ok(ServerStatus {
            version: answer.version,
            hosts: answer.hosts,
            connected: answer.connected,
            signals_stored: answer.signals_stored,
            epoch: answer.epoch,
            fleet_clock: Millis(answer.fleet_clock_ms),
        })
    }

    /// Follows these rollouts, or with none named every one that is not over.
    ///
    /// # Errors
    /// See [`command`](Self::command).
    pub async fn watch(&self, rollouts: &[RolloutId]) -> Result<Watch, Error> {
        let query = pb::WatchRequest {
            rollouts: rollouts.iter().map(|rollout| rollout.0).collect(),
        };
        let stream = self.watch_service().watch(query).await;
        Ok(Watch {
            stream: taken("watching", stream)?,
        })
    }
}

pub(crate) fn outcome(doing: &'static str, outcome: Option<pb::Outcome>) -> Result<Outcome, Error> {
    Outcome::try_from(outcome.unwrap_or_default()).map_err(unreadable(doing))
}

/// What happens, as it happens.
#[derive(Debug)]
pub struct Watch {
    stream: Streaming<pb::WatchEvent>,
}

impl Watch {
    /// The next event; `None` when the server ends the watch. Kinds of events that this version does
    /// not know are passed over.
    ///
    /// # Errors
    /// A lost connection, or an event that cannot be read.
    pub async fn next(&mut self) -> Result<Option<WatchEvent>, Error> {
        loop {
            let message = self
                .stream
                .message()
                .await
                .map_err(|status| Error::Server {
                    doing: "watching",
                    status: Box::new(status),
                })?;
            let Some(message) = message else {
                return Ok(None);
            };
            match WatchEvent::try_from(message) {
                Ok(event) => return Ok(Some(event)),
                Err(error) if error.is_unknown() => {}
                Err(source) => {
                    return Err(Error::Answer {
                        doing: "watching",
                        source,
                    });
                }
            }
        }
    }
}
