//! Rollouts, as people order and read them.

use super::{Shared, admin, breaks_glass, carry_out, not_found, page_of};
use crate::actor::is_active;
use ringward_domain::command::Action;
use ringward_domain::report::MemberState;
use ringward_domain::{HostId, RolloutId};
use ringward_wire::page::PageRequest;
use ringward_wire::pb::rollout_service_server::RolloutService;
use ringward_wire::report::{MemberKind, MembersRequest};
use ringward_wire::{command, pb, status};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The rollout service.
#[derive(Clone)]
pub struct RolloutApi(pub Arc<Shared>);

type Answer = Result<Response<pb::Outcome>, Status>;

impl RolloutApi {
    async fn on_rollout(
        &self,
        request: Request<pb::RolloutCommand>,
        action: fn(RolloutId) -> Action,
    ) -> Answer {
        let admin = admin(&request)?;
        let command = command::on_rollout(request.into_inner(), &admin.signature(), action);
        carry_out(&self.0.handle, admin.caller(false), command).await
    }

    async fn on_fleet(&self, request: Request<pb::FleetCommand>, action: Action) -> Answer {
        let admin = admin(&request)?;
        let command = command::on_fleet(request.into_inner(), &admin.signature(), action);
        carry_out(&self.0.handle, admin.caller(false), command).await
    }
}

fn no_rollout(id: RolloutId) -> Status {
    not_found(
        "rollout",
        id.to_string(),
        "list them with `ringwardctl rollouts list`",
    )
}

#[tonic::async_trait]
impl RolloutService for RolloutApi {
    async fn start(&self, request: Request<pb::StartRequest>) -> Answer {
        let admin = admin(&request)?;
        let request = request.into_inner();
        let caller = admin.caller(breaks_glass(request.act.as_ref()));
        let command = command::start(request, &admin.signature());
        carry_out(&self.0.handle, caller, command).await
    }

    async fn rollback(&self, request: Request<pb::RollbackRequest>) -> Answer {
        let admin = admin(&request)?;
        let command = command::rollback(request.into_inner(), &admin.signature());
        carry_out(&self.0.handle, admin.caller(false), command).await
    }

    async fn pause(&self, request: Request<pb::RolloutCommand>) -> Answer {
        self.on_rollout(request, Action::Pause).await
    }

    async fn resume(&self, request: Request<pb::RolloutCommand>) -> Answer {
        self.on_rollout(request, Action::Resume).await
    }

    async fn abort(&self, request: Request<pb::RolloutCommand>) -> Answer {
        self.on_rollout(request, Action::Abort).await
    }

    async fn stop_all(&self, request: Request<pb::FleetCommand>) -> Answer {
        self.on_fleet(request, Action::StopAll).await
    }

    async fn resume_all(&self, request: Request<pb::FleetCommand>) -> Answer {
        self.on_fleet(request, Action::ResumeAll).await
    }

    async fn list(
        &self,
        request: Request<pb::ListRolloutsRequest>,
    ) -> Result<Response<pb::ListRolloutsResponse>, Status> {
        admin(&request)?;
        let request = request.into_inner();
        let page = PageRequest::decode(request.page_size, request.page_token)?;
        let (rollouts, andon) = self
            .0
            .handle
            .ask(|seen| (seen.rollouts(), seen.andon()))
            .await?;
        let wanted = rollouts
            .into_iter()
            .filter(|view| !request.active_only || is_active(view))
            .collect();
        let (rollouts, next_page_token) = page_of(wanted, &page.after, page.size, |view| {
            view.id.0.to_be_bytes().to_vec()
        });
        Ok(Response::new(pb::ListRolloutsResponse {
            rollouts: rollouts.into_iter().map(Into::into).collect(),
            next_page_token,
            andon: andon.map(Into::into),
        }))
    }

    async fn get(
        &self,
        request: Request<pb::GetRolloutRequest>,
    ) -> Result<Response<pb::RolloutView>, Status> {
        admin(&request)?;
        let id = RolloutId(request.into_inner().rollout);
        let view = self.0.handle.ask(move |seen| seen.rollout(id)).await?;
        let view = view.ok_or_else(|| no_rollout(id))?;
        Ok(Response::new(view.into()))
    }

    async fn members(
        &self,
        request: Request<pb::MembersRequest>,
    ) -> Result<Response<pb::MembersResponse>, Status> {
        admin(&request)?;
        let request = MembersRequest::try_from(request.into_inner())?;
        let (id, size) = (request.rollout, request.page.size);
        let after = match request.page.after.as_slice() {
            [] => None,
            raw => Some(HostId(u64::from_be_bytes(raw.try_into().map_err(
                |_| status::bad_field("page_token", "is not of this listing"),
            )?))),
        };
        let mut members = self
            .0
            .handle
            .ask(move |seen| {
                let kinds = &request.kinds;
                let wanted = |state: &MemberState| {
                    kinds.is_empty() || kinds.contains(&MemberKind::from(state))
                };
                seen.members(id, request.ring.as_ref(), &wanted, after, size)
            })
            .await?
            .ok_or_else(|| no_rollout(id))?;
        let more = members.len() > size;
        members.truncate(size);
        let next_page_token = match members.last() {
            Some(last) if more => last.host.0.to_be_bytes().to_vec(),
            _ => Vec::new(),
        };
        Ok(Response::new(pb::MembersResponse {
            members: members.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }
}
