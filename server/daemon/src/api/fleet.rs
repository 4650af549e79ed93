//! Hosts and the tokens by which new ones join.

use super::{
    Shared, admin, breaks_glass, carry_out, not_found, plain_outcome, scope, store_failed,
    token_refused, whole,
};
use crate::actor::Seen;
use crate::pki::random;
use crate::tokens::Order;
use ringward_domain::HostId;
use ringward_domain::command::{Action, Refusal};
use ringward_domain::people::Permission;
use ringward_domain::signal::Signal;
use ringward_store::Store;
use ringward_wire::command::Act;
use ringward_wire::host::{HostFilter, HostPage};
use ringward_wire::page::PageRequest;
use ringward_wire::pb::fleet_service_server::FleetService;
use ringward_wire::token::{EnrolmentToken, Secret, TokenSpec};
use ringward_wire::{command, pb, status};
use std::collections::VecDeque;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// Newest signals shown of one host.
const SIGNALS_SHOWN: usize = 50;
/// Signals read in one page of a host.
const SIGNALS_PAGE: usize = 512;

/// The fleet service.
#[derive(Clone)]
pub struct FleetApi(pub Arc<Shared>);

type Answer = Result<Response<pb::Outcome>, Status>;

fn order(act: Act, actor: &str) -> Order {
    Order {
        request: act.request,
        actor: actor.to_owned(),
        reason: act.reason,
        dry_run: act.dry_run,
    }
}

#[tonic::async_trait]
impl FleetService for FleetApi {
    async fn list_hosts(
        &self,
        request: Request<pb::ListHostsRequest>,
    ) -> Result<Response<pb::ListHostsResponse>, Status> {
        let scope = scope(&self.0.handle, &*admin(&request)?, Permission::Read).await?;
        let request = request.into_inner();
        let page = PageRequest::decode(request.page_size, request.page_token)?;
        let filter = HostFilter::try_from(request.filter.unwrap_or_default())?;
        let after = match page.after.as_slice() {
            [] => None,
            raw => Some(HostId(u64::from_be_bytes(raw.try_into().map_err(
                |_| status::bad_field("page_token", "is not of this listing"),
            )?))),
        };
        let answer = self
            .0
            .handle
            .ask(move |seen| {
                // One more than fits says that there is a next page.
                let (mut hosts, total, all) =
                    seen.hosts(&scope, &filter, after, page.size.saturating_add(1));
                let more = hosts.len() > page.size;
                hosts.truncate(page.size);
                let next = match hosts.last() {
                    Some(last) if more => last.id.0.to_be_bytes().to_vec(),
                    _ => Vec::new(),
                };
                HostPage {
                    hosts,
                    next,
                    total,
                    filtered_out: all - total,
                }
            })
            .await?;
        Ok(Response::new(answer.into()))
    }

    async fn get_host(
        &self,
        request: Request<pb::GetHostRequest>,
    ) -> Result<Response<pb::HostView>, Status> {
        let scope = scope(&self.0.handle, &*admin(&request)?, Permission::Read).await?;
        let id = HostId(request.into_inner().host);
        let look = move |seen: &Seen<'_>| (seen.host(id), seen.control.signals_through(id));
        let (view, through) = self.0.handle.ask(look).await?;
        // What a caller may not see does not exist for them.
        let view = view.filter(|host| scope.0.covers_both(&scope.1, &host.labels));
        let mut view = view.ok_or_else(|| {
            not_found(
                "host",
                id.to_string(),
                "list them with `ringwardctl hosts list`",
            )
        })?;
        view.signals = self.newest_signals(id, through).await?;
        Ok(Response::new(view.into()))
    }

    async fn create_token(
        &self,
        request: Request<pb::CreateTokenRequest>,
    ) -> Result<Response<pb::CreateTokenResponse>, Status> {
        let admin = admin(&request)?;
        let request = request.into_inner();
        let act = Act::decode(request.act)?;
        let spec = request
            .spec
            .ok_or_else(|| status::bad_field("spec", "must be set"))?;
        let spec = TokenSpec::try_from(spec).map_err(|error| error.within("spec"))?;
        let scope = scope(&self.0.handle, &admin, Permission::Host).await?;
        if !scope.0.covers_both(&scope.1, &spec.labels) {
            return Err(status::refused(&Refusal::Denied {
                what: "making a token for hosts with these labels".to_owned(),
                why: format!("they are outside the grants of {}", admin.name),
                next: "give the token labels within them".to_owned(),
            }));
        }
        let secret = Secret::new(random());
        let order = order(act, &admin.signature());
        let (view, made) = self
            .0
            .tokens
            .create(&order, spec, &secret)
            .await
            .map_err(token_refused)?;
        if order.dry_run {
            let summary = format!("would make a token for {} hosts", view.spec.uses);
            return Ok(Response::new(pb::CreateTokenResponse {
                outcome: Some(plain_outcome(summary).into()),
                token: String::new(),
                view: None,
            }));
        }
        let (summary, token) = if made {
            tracing::info!(actor = admin.name, token = view.id, "token made");
            let token = EnrolmentToken {
                addresses: vec![self.0.agent_address.clone()],
                ca: self.0.root_key_hash,
                secret,
            };
            let summary = format!("made token {} for {} hosts", view.id, view.spec.uses);
            (summary, token.to_text())
        } else {
            let summary = format!("token {} was made by this request before", view.id);
            (summary, String::new())
        };
        Ok(Response::new(pb::CreateTokenResponse {
            outcome: Some(plain_outcome(summary).into()),
            token,
            view: Some(view.into()),
        }))
    }

    async fn list_tokens(
        &self,
        request: Request<pb::ListTokensRequest>,
    ) -> Result<Response<pb::ListTokensResponse>, Status> {
        admin(&request)?;
        let request = request.into_inner();
        let page = PageRequest::decode(request.page_size, request.page_token)?;
        let (tokens, next_page_token) = self
            .0
            .tokens
            .list(&page.after, page.size)
            .await
            .map_err(token_refused)?;
        Ok(Response::new(pb::ListTokensResponse {
            tokens: tokens.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn revoke_token(&self, request: Request<pb::RevokeTokenRequest>) -> Answer {
        let admin = admin(&request)?;
        whole(&self.0.handle, &admin, Permission::Host).await?;
        let request = request.into_inner();
        let order = order(Act::decode(request.act)?, &admin.signature());
        let (view, alive) = self
            .0
            .tokens
            .revoke(&order, &request.id)
            .await
            .map_err(token_refused)?;
        let summary = match (alive, order.dry_run) {
            (true, false) => format!("token {} is revoked", view.id),
            (true, true) => format!("would revoke token {}", view.id),
            (false, _) => format!("token {} was revoked before", view.id),
        };
        Ok(Response::new(plain_outcome(summary).into()))
    }

    async fn set_labels(&self, request: Request<pb::SetLabelsRequest>) -> Answer {
        let admin = admin(&request)?;
        let request = request.into_inner();
        let caller = admin.caller(breaks_glass(request.act.as_ref()));
        let command = command::set_labels(request, &admin.signature());
        carry_out(&self.0.handle, caller, command).await
    }

    async fn approve_host(&self, request: Request<pb::HostCommand>) -> Answer {
        self.on_host(request, Action::ApproveHost).await
    }

    async fn retire_host(&self, request: Request<pb::HostCommand>) -> Answer {
        self.on_host(request, Action::RetireHost).await
    }

    async fn freeze(&self, request: Request<pb::HostCommand>) -> Answer {
        self.on_host(request, Action::Freeze).await
    }

    async fn unfreeze(&self, request: Request<pb::HostCommand>) -> Answer {
        self.on_host(request, Action::Unfreeze).await
    }

    async fn status(
        &self,
        request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        admin(&request)?;
        let signals_stored = match request.into_inner().count_signals {
            true => {
                let counted = self.0.store.count_signals().await;
                Some(counted.map_err(|error| store_failed(&error))?)
            }
            false => None,
        };
        let mut answer = self.0.handle.ask(|seen| seen.status()).await?;
        answer.signals_stored = signals_stored;
        Ok(Response::new(answer))
    }
}

impl FleetApi {
    async fn on_host(
        &self,
        request: Request<pb::HostCommand>,
        action: fn(HostId) -> Action,
    ) -> Answer {
        let admin = admin(&request)?;
        let command = command::on_host(request.into_inner(), &admin.signature(), action);
        carry_out(&self.0.handle, admin.caller(false), command).await
    }

    /// The newest signals of a host, newest first, from the store: the end of its stream is read, and
    /// further back only where numbers are missing.
    async fn newest_signals(&self, host: HostId, through: u64) -> Result<Vec<Signal>, Status> {
        let mut span = SIGNALS_SHOWN as u64;
        loop {
            let from = through.saturating_sub(span);
            let newest = self.signals_after(host, from).await?;
            if newest.len() >= SIGNALS_SHOWN || from == 0 {
                return Ok(newest);
            }
            span = span.saturating_mul(64);
        }
    }

    /// The newest of a host's signals after `from`, newest first.
    async fn signals_after(&self, host: HostId, from: u64) -> Result<Vec<Signal>, Status> {
        let mut newest = VecDeque::new();
        let mut after = (from > 0).then_some((host.0, from));
        loop {
            let page = self.0.store.signals(Some(host.0), after, SIGNALS_PAGE);
            let page = page.await.map_err(|error| store_failed(&error))?;
            let full = page.len() == SIGNALS_PAGE;
            for stored in page {
                after = Some((stored.host, stored.seq));
                // One that cannot be read is not worth losing the others for.
                if let Ok(signal) = serde_json::from_slice::<Signal>(&stored.value) {
                    newest.push_front(signal);
                    newest.truncate(SIGNALS_SHOWN);
                }
            }
            if !full {
                return Ok(newest.into());
            }
        }
    }
}
