//! Typed calls for webhooks.

use super::{ANSWER_BYTES_MAX, Client, Wire, answered, request, taken};
use crate::error::Error;
use ringward_domain::command::Outcome;
use ringward_wire::command::Act;
use ringward_wire::pb;
use ringward_wire::pb::webhook_service_client::WebhookServiceClient;

impl Client {
    fn webhook_service(&self) -> WebhookServiceClient<Wire> {
        WebhookServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// Every webhook of the server's settings.
    ///
    /// # Errors
    /// A refusal of the server, or no answer; here and in every call below.
    pub async fn webhooks(&self) -> Result<Vec<pb::WebhookView>, Error> {
        let query = request(pb::ListWebhooksRequest {});
        let answer = self.webhook_service().list(query).await;
        Ok(taken("listing webhooks", answer)?.webhooks)
    }

    /// Sends one message, to try the way.
    ///
    /// # Errors
    /// See [`webhooks`](Self::webhooks).
    pub async fn test_webhook(&self, act: Act, name: String) -> Result<Outcome, Error> {
        let act = Some(act.into());
        let order = request(pb::TestWebhookRequest { act, name });
        answered(
            "trying the webhook",
            self.webhook_service().test(order).await,
        )
    }

    /// Messages that could not be delivered, and how many were dropped for newer ones.
    ///
    /// # Errors
    /// See [`webhooks`](Self::webhooks).
    pub async fn dead_letters(&self) -> Result<pb::ListDeadLettersResponse, Error> {
        let query = request(pb::ListDeadLettersRequest {});
        taken(
            "listing dead letters",
            self.webhook_service().dead(query).await,
        )
    }

    /// Sends them again: one by its id, or all.
    ///
    /// # Errors
    /// See [`webhooks`](Self::webhooks).
    pub async fn replay(&self, act: Act, id: String) -> Result<Outcome, Error> {
        let act = Some(act.into());
        let order = request(pb::ReplayWebhookRequest { act, id });
        answered("sending again", self.webhook_service().replay(order).await)
    }
}
