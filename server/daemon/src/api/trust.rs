//! The keys that may sign releases and the authorities that vouch for servers, told to hosts as they
//! change.

use super::agent::blocking;
use super::{Shared, host};
use crate::release_check::load_chain;
use ringward_wire::authority::{self, BUNDLES_MAX};
use ringward_wire::pb;
use ringward_wire::pb::trust_service_server::TrustService;
use ringward_wire::roots::{ROOTS_MAX, read};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The trust service.
#[derive(Clone)]
pub struct TrustApi(pub Arc<Shared>);

#[tonic::async_trait]
impl TrustService for TrustApi {
    async fn release_roots(
        &self,
        request: Request<pb::ReleaseRootsRequest>,
    ) -> Result<Response<pb::ReleaseRootsResponse>, Status> {
        host(&request, &self.0.metrics)?;
        let after = request.into_inner().after_version;
        let data = self.0.data.clone();
        let chain = blocking(move || load_chain(&data)).await?;
        let newer = |signed: &_| read(signed).is_ok_and(|root| root.version > after);
        let roots = chain.into_iter().filter(newer).take(ROOTS_MAX);
        Ok(Response::new(pb::ReleaseRootsResponse {
            roots: roots.map(Into::into).collect(),
        }))
    }

    async fn authority_bundles(
        &self,
        request: Request<pb::AuthorityBundlesRequest>,
    ) -> Result<Response<pb::AuthorityBundlesResponse>, Status> {
        host(&request, &self.0.metrics)?;
        let after = request.into_inner().after_version;
        let newer = |signed: &&_| authority::read(signed).is_ok_and(|b| b.version > after);
        let bundles = self.0.pki.bundles().iter().filter(newer);
        Ok(Response::new(pb::AuthorityBundlesResponse {
            bundles: bundles.take(BUNDLES_MAX).cloned().map(Into::into).collect(),
        }))
    }
}
