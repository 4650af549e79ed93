//! Decisions of people about who a host is.

use super::{Shared, admin, carry_out};
use ringward_domain::HostId;
use ringward_domain::command::Action;
use ringward_wire::pb::identity_service_server::IdentityService;
use ringward_wire::{command, pb};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The identity service.
#[derive(Clone)]
pub struct IdentityApi(pub Arc<Shared>);

type Answer = Result<Response<pb::Outcome>, Status>;

#[tonic::async_trait]
impl IdentityService for IdentityApi {
    async fn unfence(&self, request: Request<pb::HostCommand>) -> Answer {
        self.on_host(request, Action::UnfenceHost).await
    }

    async fn replace(&self, request: Request<pb::HostCommand>) -> Answer {
        self.on_host(request, Action::ReplaceHost).await
    }
}

impl IdentityApi {
    async fn on_host(
        &self,
        request: Request<pb::HostCommand>,
        action: fn(HostId) -> Action,
    ) -> Answer {
        let admin = admin(&request)?;
        let command = command::on_host(request.into_inner(), &admin.signature(), action);
        carry_out(&self.0.handle, admin.caller(false), command).await
    }
}
