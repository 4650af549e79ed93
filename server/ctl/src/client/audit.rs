//! The audit log.

use super::{ANSWER_BYTES_MAX, Client, Wire, answered, request, taken};
use crate::error::Error;
use ringward_domain::AuditShown;
use ringward_wire::pb;
use ringward_wire::pb::audit_service_client::AuditServiceClient;

/// Entries in one page.
const PAGE: u32 = 1000;

impl Client {
    fn audit_service(&self) -> AuditServiceClient<Wire> {
        AuditServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// A page of entries from an index on, and how many there are in all.
    ///
    /// # Errors
    /// A refusal of the server, or no answer.
    pub async fn audit_page(&self, from: u64) -> Result<(Vec<pb::AuditRecord>, u64), Error> {
        let doing = "reading the audit log";
        let wanted = pb::ListAuditRequest {
            from,
            page_size: PAGE,
        };
        let page = taken(doing, self.audit_service().list(request(wanted)).await)?;
        Ok((page.entries, page.size))
    }

    /// The head, with the proof that it only adds to the log of a smaller size.
    ///
    /// # Errors
    /// A refusal of the server, or no answer.
    pub async fn audit_head(&self, from: u64) -> Result<AuditShown, Error> {
        let wanted = pb::AuditHeadRequest { from };
        let head = self.audit_service().head(request(wanted)).await;
        answered("reading the audit log's head", head)
    }
}
