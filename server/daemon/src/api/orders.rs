//! Orders to hosts, and what waits for a second person.

use super::{Shared, admin, breaks_glass, carry_out, not_found, page_of};
use ring::signature::{ED25519, UnparsedPublicKey};
use ringward_domain::command::Action;
use ringward_domain::order_spec::{ApprovalState, OrderTargets, OrderView};
use ringward_domain::people::Permission;
use ringward_domain::{HostId, OrderId};
use ringward_wire::page::PageRequest;
use ringward_wire::pb::approval_service_server::ApprovalService;
use ringward_wire::pb::order_service_server::OrderService;
use ringward_wire::token::sha256;
use ringward_wire::{pb, people, status};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The order service.
#[derive(Clone)]
pub struct OrderApi(pub Arc<Shared>);

/// The approval service.
#[derive(Clone)]
pub struct ApprovalApi(pub Arc<Shared>);

type Answer<T> = Result<Response<T>, Status>;

/// The hosts of an order are listed by their own call.
fn without_hosts(mut view: OrderView) -> pb::OrderView {
    view.spec.targets = OrderTargets::Hosts(Vec::new());
    view.into()
}

fn no_order(id: OrderId) -> Status {
    let next = "list them with `ringwardctl orders list`";
    not_found("order", id.to_string(), next)
}

#[tonic::async_trait]
impl OrderService for OrderApi {
    async fn place(&self, request: Request<pb::PlaceOrderRequest>) -> Answer<pb::Outcome> {
        let admin = admin(&request)?;
        let request = request.into_inner();
        let caller = admin.caller(breaks_glass(request.act.as_ref()));
        let command = people::place(request, &admin.signature());
        carry_out(&self.0.handle, caller, command).await
    }

    async fn cancel(&self, request: Request<pb::OrderCommand>) -> Answer<pb::Outcome> {
        let admin = admin(&request)?;
        let command = people::cancel(request.into_inner(), &admin.signature());
        carry_out(&self.0.handle, admin.caller(false), command).await
    }

    async fn endorse(&self, request: Request<pb::EndorseRequest>) -> Answer<pb::Outcome> {
        let admin = admin(&request)?;
        let (command, key) = people::endorse(request.into_inner(), &admin.signature())?;
        if let Action::Endorse(id, signature) = &command.action {
            let id = *id;
            let said = self.0.handle.ask(move |seen| {
                let known = seen.control.order_view(id).is_some();
                known.then(|| seen.control.order_statement(id).unwrap_or_default())
            });
            let said = said.await?.ok_or_else(|| no_order(id))?;
            let valid = UnparsedPublicKey::new(&ED25519, key).verify(&said, &signature.signature);
            if sha256(&key).0 != signature.key.0 || valid.is_err() {
                return Err(status::bad_field(
                    "signature",
                    "is not of this key over what the order says, to all of its hosts",
                ));
            }
        }
        carry_out(&self.0.handle, admin.caller(false), Ok(command)).await
    }

    async fn list(
        &self,
        request: Request<pb::ListOrdersRequest>,
    ) -> Answer<pb::ListOrdersResponse> {
        admin(&request)?;
        let request = request.into_inner();
        let page = PageRequest::decode(request.page_size, request.page_token)?;
        let orders = self.0.handle.ask(|seen| seen.control.order_views()).await?;
        let (orders, next_page_token) = page_of(orders, &page.after, page.size, |order| {
            order.id.0.to_be_bytes().to_vec()
        });
        Ok(Response::new(pb::ListOrdersResponse {
            orders: orders.into_iter().map(without_hosts).collect(),
            next_page_token,
        }))
    }

    async fn get(&self, request: Request<pb::GetOrderRequest>) -> Answer<pb::OrderView> {
        admin(&request)?;
        let id = OrderId(request.into_inner().order);
        let view = self
            .0
            .handle
            .ask(move |seen| seen.control.order_view(id))
            .await?;
        Ok(Response::new(without_hosts(
            view.ok_or_else(|| no_order(id))?,
        )))
    }

    async fn hosts(
        &self,
        request: Request<pb::OrderHostsRequest>,
    ) -> Answer<pb::OrderHostsResponse> {
        let scope = super::scope(&self.0.handle, &*admin(&request)?, Permission::Read).await?;
        let request = request.into_inner();
        let page = PageRequest::decode(request.page_size, request.page_token)?;
        let after = match page.after.as_slice() {
            [] => None,
            raw => Some(HostId(u64::from_be_bytes(raw.try_into().map_err(
                |_| status::bad_field("page_token", "is not of this listing"),
            )?))),
        };
        let (id, size) = (OrderId(request.order), page.size);
        let hosts = self
            .0
            .handle
            .ask(move |seen| {
                let mut hosts = seen.control.order_hosts(id, after, usize::MAX)?;
                hosts.retain(|host| {
                    let labels = seen.host(host.host).map(|view| view.labels);
                    labels.is_some_and(|labels| scope.0.covers_both(&scope.1, &labels))
                });
                hosts.truncate(size + 1);
                Some(hosts)
            })
            .await?;
        let mut hosts = hosts.ok_or_else(|| no_order(id))?;
        let more = hosts.len() > size;
        hosts.truncate(size);
        let next_page_token = match hosts.last() {
            Some(last) if more => last.host.0.to_be_bytes().to_vec(),
            _ => Vec::new(),
        };
        Ok(Response::new(pb::OrderHostsResponse {
            hosts: hosts.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }
}

#[tonic::async_trait]
impl ApprovalService for ApprovalApi {
    async fn list(
        &self,
        request: Request<pb::ListApprovalsRequest>,
    ) -> Answer<pb::ListApprovalsResponse> {
        admin(&request)?;
        let waiting_only = request.into_inner().waiting_only;
        let mut views = self
            .0
            .handle
            .ask(|seen| seen.control.approval_views())
            .await?;
        views.retain(|view| !waiting_only || view.state == ApprovalState::Waiting);
        Ok(Response::new(pb::ListApprovalsResponse {
            approvals: views.into_iter().map(Into::into).collect(),
        }))
    }

    async fn approve(&self, request: Request<pb::ApproveRequest>) -> Answer<pb::Outcome> {
        let admin = admin(&request)?;
        let command = people::approve(request.into_inner(), &admin.signature());
        carry_out(&self.0.handle, admin.caller(false), command).await
    }

    async fn deny(&self, request: Request<pb::ApprovalCommand>) -> Answer<pb::Outcome> {
        let admin = admin(&request)?;
        let command = people::deny(request.into_inner(), &admin.signature());
        carry_out(&self.0.handle, admin.caller(false), command).await
    }
}
