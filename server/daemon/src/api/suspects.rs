//! Incidents and suspects, as people read them.

use super::{Shared, admin, not_found, whole};
use ringward_domain::people::Permission;
use ringward_wire::incident::{INCIDENTS_MAX, SUSPECTS_MAX};
use ringward_wire::pb;
use ringward_wire::pb::suspect_service_server::SuspectService;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// Suspects answered where no number is asked for.
const SUSPECTS_USUAL: usize = 20;

/// The suspect service.
#[derive(Clone)]
pub struct SuspectApi(pub Arc<Shared>);

#[tonic::async_trait]
impl SuspectService for SuspectApi {
    async fn list_incidents(
        &self,
        request: Request<pb::ListIncidentsRequest>,
    ) -> Result<Response<pb::ListIncidentsResponse>, Status> {
        let admin = admin(&request)?;
        whole(&self.0.handle, &admin, Permission::Read).await?;
        let all = request.into_inner().all;
        let ask = self
            .0
            .handle
            .ask(move |seen| seen.control.incidents(all))
            .await?;
        let incidents = ask.into_iter().take(INCIDENTS_MAX).map(Into::into);
        Ok(Response::new(pb::ListIncidentsResponse {
            incidents: incidents.collect(),
        }))
    }

    async fn get_incident(
        &self,
        request: Request<pb::GetIncidentRequest>,
    ) -> Result<Response<pb::IncidentView>, Status> {
        let admin = admin(&request)?;
        whole(&self.0.handle, &admin, Permission::Read).await?;
        let number = request.into_inner().number;
        let view = self
            .0
            .handle
            .ask(move |seen| seen.control.incident(number))
            .await?;
        let view = view.ok_or_else(|| {
            not_found(
                "incident",
                number.to_string(),
                "list them with `ringwardctl incidents list --all`",
            )
        })?;
        Ok(Response::new(view.into()))
    }

    async fn list_suspects(
        &self,
        request: Request<pb::ListSuspectsRequest>,
    ) -> Result<Response<pb::ListSuspectsResponse>, Status> {
        let admin = admin(&request)?;
        whole(&self.0.handle, &admin, Permission::Read).await?;
        let limit = match request.into_inner().limit as usize {
            0 => SUSPECTS_USUAL,
            limit => limit.min(SUSPECTS_MAX),
        };
        let (suspects, (hosts, failed, untold)) = self
            .0
            .handle
            .ask(move |seen| (seen.control.suspects(limit), seen.control.watched()))
            .await?;
        Ok(Response::new(pb::ListSuspectsResponse {
            suspects: suspects.into_iter().map(Into::into).collect(),
            hosts,
            failed,
            untold,
        }))
    }
}
