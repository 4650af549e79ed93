//! Strata, suspects, incidents and forecasts on the wire.

use crate::error::DecodeError;
use crate::field::{Result, clip, messages, text, texts};
use crate::pb;
use ringward_domain::incident::{
    ForecastView, INCIDENT_HOSTS_MAX, IncidentView, StratumView, SuspectView,
};
use ringward_domain::limits::{REASON_BYTES_MAX, TITLE_BYTES_MAX};
use ringward_domain::{HostId, Millis};

/// Strata of one verdict.
pub const STRATA_MAX: usize = 8;
/// Suspects of one answer.
pub const SUSPECTS_MAX: usize = 100;
/// Incidents of one answer.
pub const INCIDENTS_MAX: usize = 100;
/// Changes that stand as one suspect.
const CHANGES_MAX: usize = 20;

/// The first few of a list, so that an honest sender is never refused.
pub(crate) fn few<D, P: From<D>>(list: Vec<D>, max: usize) -> Vec<P> {
    list.into_iter().take(max).map(Into::into).collect()
}

impl From<StratumView> for pb::StratumView {
    fn from(stratum: StratumView) -> Self {
        Self {
            dimension: clip(stratum.dimension, TITLE_BYTES_MAX),
            value: clip(stratum.value, TITLE_BYTES_MAX),
            failed: stratum.failed,
            trials: stratum.trials,
            e_value: stratum.e_value,
        }
    }
}

impl TryFrom<pb::StratumView> for StratumView {
    type Error = DecodeError;
    fn try_from(stratum: pb::StratumView) -> Result<Self> {
        Ok(Self {
            dimension: text("dimension", stratum.dimension, TITLE_BYTES_MAX)?,
            value: text("value", stratum.value, TITLE_BYTES_MAX)?,
            failed: stratum.failed,
            trials: stratum.trials,
            e_value: stratum.e_value,
        })
    }
}

impl From<SuspectView> for pb::SuspectView {
    fn from(suspect: SuspectView) -> Self {
        let changes = suspect.changes.into_iter().take(CHANGES_MAX);
        Self {
            changes: changes.map(|c| clip(c, REASON_BYTES_MAX)).collect(),
            more: suspect.more,
            exposed: suspect.exposed,
            failed: suspect.failed,
            others: suspect.others,
            others_failed: suspect.others_failed,
            chance: suspect.chance,
            named: suspect.named,
            sentence: clip(suspect.sentence, REASON_BYTES_MAX),
        }
    }
}

impl TryFrom<pb::SuspectView> for SuspectView {
    type Error = DecodeError;
    fn try_from(suspect: pb::SuspectView) -> Result<Self> {
        Ok(Self {
            changes: texts("changes", suspect.changes, CHANGES_MAX, REASON_BYTES_MAX)?,
            more: suspect.more,
            exposed: suspect.exposed,
            failed: suspect.failed,
            others: suspect.others,
            others_failed: suspect.others_failed,
            chance: suspect.chance,
            named: suspect.named,
            sentence: text("sentence", suspect.sentence, REASON_BYTES_MAX)?,
        })
    }
}

impl From<ForecastView> for pb::ForecastView {
    fn from(forecast: ForecastView) -> Self {
        Self {
            remaining_ms: forecast.remaining_ms.map(|ms| ms.0),
            limited_by: clip(forecast.limited_by, REASON_BYTES_MAX),
            not_counted: forecast.not_counted,
        }
    }
}

impl TryFrom<pb::ForecastView> for ForecastView {
    type Error = DecodeError;
    fn try_from(forecast: pb::ForecastView) -> Result<Self> {
        Ok(Self {
            remaining_ms: forecast.remaining_ms.map(Millis),
            limited_by: text("limited_by", forecast.limited_by, REASON_BYTES_MAX)?,
            not_counted: forecast.not_counted,
        })
    }
}

impl From<IncidentView> for pb::IncidentView {
    fn from(incident: IncidentView) -> Self {
        let hosts = |hosts: Vec<HostId>| {
            let known = hosts.into_iter().take(INCIDENT_HOSTS_MAX);
            known.map(|host| host.0).collect()
        };
        Self {
            number: incident.number,
            opened_unix_ms: incident.opened_unix_ms,
            closed: incident.closed,
            cause: clip(incident.cause, REASON_BYTES_MAX),
            failed: incident.failed,
            failed_hosts: hosts(incident.failed_hosts),
            suspects: few(incident.suspects, SUSPECTS_MAX),
            at_risk: hosts(incident.at_risk),
            at_risk_count: incident.at_risk_count,
            proposal: clip(incident.proposal, REASON_BYTES_MAX),
        }
    }
}

impl TryFrom<pb::IncidentView> for IncidentView {
    type Error = DecodeError;
    fn try_from(incident: pb::IncidentView) -> Result<Self> {
        let hosts = |hosts: Vec<u64>| {
            let known = hosts.into_iter().take(INCIDENT_HOSTS_MAX);
            known.map(HostId).collect()
        };
        Ok(Self {
            number: incident.number,
            opened_unix_ms: incident.opened_unix_ms,
            closed: incident.closed,
            cause: text("cause", incident.cause, REASON_BYTES_MAX)?,
            failed: incident.failed,
            failed_hosts: hosts(incident.failed_hosts),
            suspects: messages("suspects", incident.suspects, SUSPECTS_MAX)?,
            at_risk: hosts(incident.at_risk),
            at_risk_count: incident.at_risk_count,
            proposal: text("proposal", incident.proposal, REASON_BYTES_MAX)?,
        })
    }
}

/// Incidents of an answer.
///
/// # Errors
/// What is malformed, by its field.
pub fn incidents(answer: pb::ListIncidentsResponse) -> Result<Vec<IncidentView>> {
    messages("incidents", answer.incidents, INCIDENTS_MAX)
}

/// Suspects of an answer.
///
/// # Errors
/// What is malformed, by its field.
pub fn suspects(answer: pb::ListSuspectsResponse) -> Result<Vec<SuspectView>> {
    messages("suspects", answer.suspects, SUSPECTS_MAX)
}
