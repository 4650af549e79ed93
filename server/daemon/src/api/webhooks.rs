//! Webhooks for people.

use super::{Shared, admin, not_found, plain_outcome};
use crate::pki::AdminIdentity;
use ringward_server_core::event::AuditEntry;
use ringward_wire::command::Act;
use ringward_wire::pb;
use ringward_wire::pb::webhook_service_server::WebhookService;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The webhook service.
#[derive(Clone)]
pub struct WebhookApi(pub Arc<Shared>);

type Answer<T> = Result<Response<T>, Status>;

fn done(words: String) -> Response<pb::Outcome> {
    Response::new(plain_outcome(words).into())
}

impl WebhookApi {
    async fn note(
        &self,
        admin: &AdminIdentity,
        action: &str,
        what: &str,
        act: &Act,
    ) -> Result<(), Status> {
        let noted = self.0.accounts.note(AuditEntry {
            actor: admin.signature(),
            action: action.to_owned(),
            object: what.to_owned(),
            reason: act.reason.clone(),
        });
        noted.await.map_err(super::people::account_failed)
    }
}

#[tonic::async_trait]
impl WebhookService for WebhookApi {
    async fn list(
        &self,
        request: Request<pb::ListWebhooksRequest>,
    ) -> Answer<pb::ListWebhooksResponse> {
        admin(&request)?;
        let views = self.0.webhooks.views().into_iter();
        let webhooks = views.map(|view| pb::WebhookView {
            name: view.name,
            place: view.place,
            events: view.kinds.into_iter().map(str::to_owned).collect(),
            waiting: u32::try_from(view.waiting).unwrap_or(u32::MAX),
            trouble: view.trouble,
        });
        Ok(Response::new(pb::ListWebhooksResponse {
            webhooks: webhooks.collect(),
        }))
    }

    async fn test(&self, request: Request<pb::TestWebhookRequest>) -> Answer<pb::Outcome> {
        let admin = admin(&request)?;
        let request = request.into_inner();
        let act = Act::decode(request.act)?;
        let unknown = || {
            let next = "list them with `ringwardctl webhooks list`";
            not_found("webhook", request.name.clone(), next)
        };
        if act.dry_run {
            let views = self.0.webhooks.views();
            let known = views.iter().any(|view| view.name == request.name);
            return match known {
                true => Ok(done(format!("{} would get a message", request.name))),
                false => Err(unknown()),
            };
        }
        let now = self.0.handle.ask(|seen| seen.now).await?;
        let id = self.0.webhooks.test(&request.name, &admin.signature(), now);
        let id = id.ok_or_else(unknown)?;
        self.note(&admin, "webhook test", &request.name, &act)
            .await?;
        Ok(done(format!("{id} is on its way to {}", request.name)))
    }

    async fn dead(
        &self,
        request: Request<pb::ListDeadLettersRequest>,
    ) -> Answer<pb::ListDeadLettersResponse> {
        admin(&request)?;
        let (letters, dropped) = self.0.webhooks.dead();
        let letter = |letter: ringward_server_core::webhooks::Delivery| pb::DeadLetter {
            id: letter.id,
            webhook: letter.endpoint,
            event: letter.kind.name().to_owned(),
            made_unix_ms: letter.made_unix_ms,
            tries: letter.tries,
            why: letter.why,
        };
        Ok(Response::new(pb::ListDeadLettersResponse {
            letters: letters.into_iter().map(letter).collect(),
            dropped,
        }))
    }

    async fn replay(&self, request: Request<pb::ReplayWebhookRequest>) -> Answer<pb::Outcome> {
        let admin = admin(&request)?;
        let request = request.into_inner();
        let act = Act::decode(request.act)?;
        let one = (!request.id.is_empty()).then_some(request.id.as_str());
        if act.dry_run {
            let (letters, _) = self.0.webhooks.dead();
            let meant = letters.iter().filter(|l| one.is_none_or(|id| l.id == id));
            return Ok(done(format!("{} messages would go again", meant.count())));
        }
        let now = self.0.handle.ask(|seen| seen.now).await?;
        let count = self.0.webhooks.replay(one, now);
        if count == 0 && one.is_some() {
            let next = "list them with `ringwardctl webhooks dead`";
            return Err(not_found("dead letter", request.id, next));
        }
        let what = one.unwrap_or("all dead letters");
        self.note(&admin, "webhook replay", what, &act).await?;
        Ok(done(format!("{count} messages go again")))
    }
}
