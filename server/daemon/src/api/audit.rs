//! The audit log, for people who read and check it.

use super::{Shared, admin, store_failed};
use ringward_wire::page::PageRequest;
use ringward_wire::pb;
use ringward_wire::pb::audit_service_server::AuditService;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The audit service.
#[derive(Clone)]
pub struct AuditApi(pub Arc<Shared>);

#[tonic::async_trait]
impl AuditService for AuditApi {
    async fn list(
        &self,
        request: Request<pb::ListAuditRequest>,
    ) -> Result<Response<pb::ListAuditResponse>, Status> {
        admin(&request)?;
        let request = request.into_inner();
        let page = PageRequest::decode(request.page_size, Vec::new())?;
        let (entries, head) = self
            .0
            .audit
            .page(request.from, page.size)
            .await
            .map_err(|error| store_failed(&error))?;
        let entries = entries.into_iter().map(|stored| pb::AuditRecord {
            index: stored.index,
            entry: stored.entry,
            leaf_hash: stored.leaf_hash.to_vec(),
        });
        Ok(Response::new(pb::ListAuditResponse {
            entries: entries.collect(),
            size: head.size,
        }))
    }

    async fn head(
        &self,
        request: Request<pb::AuditHeadRequest>,
    ) -> Result<Response<pb::AuditHead>, Status> {
        admin(&request)?;
        let from = request.into_inner().from;
        let shown = self.0.audit.shown_now(from).await;
        let shown = shown.map_err(|error| store_failed(&error))?;
        Ok(Response::new(shown.into()))
    }
}
