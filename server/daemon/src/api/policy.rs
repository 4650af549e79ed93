//! The ring policy.

use super::{Shared, admin, breaks_glass, carry_out};
use ringward_domain::command::Action;
use ringward_wire::command::Act;
use ringward_wire::pb::policy_service_server::PolicyService;
use ringward_wire::{command, pb, status};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The policy service.
#[derive(Clone)]
pub struct PolicyApi(pub Arc<Shared>);

#[tonic::async_trait]
impl PolicyService for PolicyApi {
    async fn check(
        &self,
        request: Request<pb::CheckPolicyRequest>,
    ) -> Result<Response<pb::Outcome>, Status> {
        let admin = admin(&request)?;
        let policy = request.into_inner().policy_toml;
        if policy.len() > command::POLICY_BYTES_MAX {
            return Err(status::bad_field("policy_toml", "is larger than 256 KiB"));
        }
        // The same code as in earnest, under a request id that nobody else has.
        let act = Act {
            request: ringward_domain::RequestId(crate::pki::random()),
            reason: "check".to_owned(),
            dry_run: true,
            break_glass: false,
        };
        let command = act.command(&admin.signature(), Action::ApplyPolicy(policy));
        let outcome = self.0.handle.command(command).await?;
        let outcome = outcome.map_err(|refusal| status::refused(&refusal))?;
        Ok(Response::new(outcome.into()))
    }

    async fn apply(
        &self,
        request: Request<pb::ApplyPolicyRequest>,
    ) -> Result<Response<pb::Outcome>, Status> {
        let admin = admin(&request)?;
        let request = request.into_inner();
        let caller = admin.caller(breaks_glass(request.act.as_ref()));
        let command = command::apply_policy(request, &admin.signature());
        carry_out(&self.0.handle, caller, command).await
    }

    async fn get(
        &self,
        request: Request<pb::GetPolicyRequest>,
    ) -> Result<Response<pb::PolicyView>, Status> {
        admin(&request)?;
        let view = self.0.handle.ask(|seen| seen.policy()).await?;
        Ok(Response::new(view.into()))
    }
}
