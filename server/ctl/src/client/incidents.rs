//! Incidents and suspects.

use super::{ANSWER_BYTES_MAX, Client, Wire, answered, request, taken, unreadable};
use crate::error::Error;
use ringward_domain::incident::{IncidentView, SuspectView};
use ringward_wire::pb;
use ringward_wire::pb::suspect_service_client::SuspectServiceClient;

/// What failing hosts have in common now.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct SuspectsNow {
    /// Most suspected first.
    pub suspects: Vec<SuspectView>,
    /// Hosts under watch.
    pub hosts: u64,
    /// Hosts that failed within the attribution time.
    pub failed: u64,
    /// Changes not followed because there are too many.
    pub untold: u64,
}

impl Client {
    fn suspect_service(&self) -> SuspectServiceClient<Wire> {
        SuspectServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// Incidents, newest first; those that are over only if `all`.
    ///
    /// # Errors
    /// See [`command`](Self::command).
    pub async fn incidents(&self, all: bool) -> Result<Vec<IncidentView>, Error> {
        let doing = "listing incidents";
        let query = request(pb::ListIncidentsRequest { all });
        let answer = taken(doing, self.suspect_service().list_incidents(query).await)?;
        ringward_wire::incident::incidents(answer).map_err(unreadable(doing))
    }

    /// One incident.
    ///
    /// # Errors
    /// See [`command`](Self::command).
    pub async fn incident(&self, number: u64) -> Result<IncidentView, Error> {
        let query = request(pb::GetIncidentRequest { number });
        answered(
            "reading the incident",
            self.suspect_service().get_incident(query).await,
        )
    }

    /// What failing hosts have in common now, at most `limit` groups of changes.
    ///
    /// # Errors
    /// See [`command`](Self::command).
    pub async fn suspects(&self, limit: u32) -> Result<SuspectsNow, Error> {
        let doing = "listing suspects";
        let query = request(pb::ListSuspectsRequest { limit });
        let answer = taken(doing, self.suspect_service().list_suspects(query).await)?;
        let (hosts, failed, untold) = (answer.hosts, answer.failed, answer.untold);
        Ok(SuspectsNow {
            suspects: ringward_wire::incident::suspects(answer).map_err(unreadable(doing))?,
            hosts,
            failed,
            untold,
        })
    }
}
