//! Hosts on the wire.

use crate::code::Coded;
use crate::error::DecodeError;
use crate::field::{clip, labels, message, messages, text, texts};
use crate::pb;
use ringward_domain::host::{Arch, Facts, GuardTier, HostState, Labels, Os};
use ringward_domain::limits::{LABEL_BYTES_MAX, LABELS_MAX, REASON_BYTES_MAX};
use ringward_domain::report::HostView;
use ringward_domain::{HostId, Millis};

/// Signals that a host's view carries at most.
pub const VIEW_SIGNALS_MAX: usize = 50;
const ATTENTION_MAX: usize = 64;

impl From<Facts> for pb::Facts {
    fn from(facts: Facts) -> Self {
        let short = |text| clip(text, LABEL_BYTES_MAX);
        Self {
            hostname: short(facts.hostname),
            os: facts.os.code(),
            os_build: short(facts.os_build),
            arch: facts.arch.code(),
            kernel: short(facts.kernel),
            model: short(facts.model),
            fingerprint: short(facts.fingerprint),
            memory_mib: facts.memory_mib,
            cpus: facts.cpus,
            guard_tier: facts.guard_tier.code(),
        }
    }
}

impl TryFrom<pb::Facts> for Facts {
    type Error = DecodeError;
    fn try_from(facts: pb::Facts) -> Result<Self, DecodeError> {
        Ok(Self {
            hostname: text("hostname", facts.hostname, LABEL_BYTES_MAX)?,
            os: Os::decode("os", facts.os)?,
            os_build: text("os_build", facts.os_build, LABEL_BYTES_MAX)?,
            arch: Arch::decode("arch", facts.arch)?,
            kernel: text("kernel", facts.kernel, LABEL_BYTES_MAX)?,
            model: text("model", facts.model, LABEL_BYTES_MAX)?,
            fingerprint: text("fingerprint", facts.fingerprint, LABEL_BYTES_MAX)?,
            memory_mib: facts.memory_mib,
            cpus: facts.cpus,
            guard_tier: GuardTier::decode("guard_tier", facts.guard_tier)?,
        })
    }
}

impl From<HostView> for pb::HostView {
    fn from(host: HostView) -> Self {
        Self {
            id: host.id.0,
            state: host.state.code(),
            facts: Some(host.facts.into()),
            labels: host.labels,
            agent_version: clip(host.agent_version, LABEL_BYTES_MAX),
            connected: host.connected,
            last_seen_ms: host.last_seen_ms.0,
            observed: Some(host.observed.into()),
            attention: host
                .attention
                .into_iter()
                .take(ATTENTION_MAX)
                .map(|line| clip(line, REASON_BYTES_MAX))
                .collect(),
            signals: host
                .signals
                .into_iter()
                .take(VIEW_SIGNALS_MAX)
                .map(Into::into)
                .collect(),
        }
    }
}

impl TryFrom<pb::HostView> for HostView {
    type Error = DecodeError;
    fn try_from(host: pb::HostView) -> Result<Self, DecodeError> {
        Ok(Self {
            id: HostId(host.id),
            state: HostState::decode("state", host.state)?,
            facts: message("facts", host.facts)?,
            labels: labels("labels", host.labels)?,
            agent_version: text("agent_version", host.agent_version, LABEL_BYTES_MAX)?,
            connected: host.connected,
            last_seen_ms: Millis(host.last_seen_ms),
            observed: message("observed", host.observed)?,
            attention: texts("attention", host.attention, ATTENTION_MAX, REASON_BYTES_MAX)?,
            signals: messages("signals", host.signals, VIEW_SIGNALS_MAX)?,
        })
    }
}

/// Narrows a listing of hosts; what is left empty does not narrow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostFilter {
    /// Start of the id or of the host name, in either case.
    pub query: String,
    /// One of these states.
    pub states: Vec<HostState>,
    /// All of these labels.
    pub labels: Labels,
    /// Only hosts that a person should look at.
    pub attention_only: bool,
}

impl HostFilter {
    /// Whether the filter lets a host through; `attention` is asked only where that matters.
    #[must_use]
    pub fn matches(
        &self,
        id: HostId,
        state: HostState,
        facts: &Facts,
        labels: &Labels,
        attention: impl FnOnce() -> bool,
    ) -> bool {
        let starts = |text: &str| {
            text.get(..self.query.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(&self.query))
        };
        (self.query.is_empty() || starts(&id.to_string()) || starts(&facts.hostname))
            && (self.states.is_empty() || self.states.contains(&state))
            && self
                .labels
                .iter()
                .all(|(key, value)| labels.get(key) == Some(value))
            && (!self.attention_only || attention())
    }
}

impl From<HostFilter> for pb::HostFilter {
    fn from(filter: HostFilter) -> Self {
        Self {
            query: clip(filter.query, LABEL_BYTES_MAX),
            states: filter.states.into_iter().map(Coded::code).collect(),
            labels: filter.labels,
            attention_only: filter.attention_only,
        }
    }
}

impl TryFrom<pb::HostFilter> for HostFilter {
    type Error = DecodeError;
    fn try_from(filter: pb::HostFilter) -> Result<Self, DecodeError> {
        Ok(Self {
            query: text("query", filter.query, LABEL_BYTES_MAX)?,
            states: crate::field::list("states", filter.states, LABELS_MAX, |code| {
                HostState::decode("", code)
            })?,
            labels: labels("labels", filter.labels)?,
            attention_only: filter.attention_only,
        })
    }
}

/// A page of hosts, with what the filter kept back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostPage {
    /// The hosts, without their signals.
    pub hosts: Vec<HostView>,
    /// Gives the next page; empty after the last.
    pub next: Vec<u8>,
    /// Hosts that meet the filter, on all pages.
    pub total: u64,
    /// Hosts of the fleet that do not meet it.
    pub filtered_out: u64,
}

impl From<HostPage> for pb::ListHostsResponse {
    fn from(page: HostPage) -> Self {
        Self {
            hosts: page.hosts.into_iter().map(Into::into).collect(),
            next_page_token: page.next,
            total: page.total,
            filtered_out: page.filtered_out,
        }
    }
}

impl TryFrom<pb::ListHostsResponse> for HostPage {
    type Error = DecodeError;
    fn try_from(page: pb::ListHostsResponse) -> Result<Self, DecodeError> {
        Ok(Self {
            hosts: messages("hosts", page.hosts, crate::page::SIZE_MAX)?,
            next: page.next_page_token,
            total: page.total,
            filtered_out: page.filtered_out,
        })
    }
}
