//! Incidents: what failing hosts have in common, with a rollout or without (DESIGN §5).

use super::Control;
use crate::event::Notice;
use crate::salt::sha256;
use crate::suspects::{CHANGES_MAX, Suspects};
use ringward_domain::ids::Sha256;
use ringward_domain::signal::{Signal, SignalKind};
use ringward_domain::{HostId, Millis, Timestamp};
use std::collections::{BTreeSet, VecDeque};

/// Candidates are ranked at most so often: 10,000 of them take a millisecond, and a mass failure
/// brings thousands of events a second.
const RANK_EVERY: Millis = Millis::secs(10);

/// Changes under watch since the server started.
#[derive(Debug, Default)]
pub(super) struct Incident {
    suspects: Suspects,
    /// When a failure is too old to be blamed on a change.
    forget: VecDeque<(Timestamp, HostId)>,
    told: BTreeSet<Sha256>,
    rank_at: Timestamp,
}

impl Control {
    /// A host is under watch.
    pub(super) fn suspects_watch(&mut self, id: HostId) {
        self.incident.suspects.host(id);
    }

    /// A host tells of a change or of a failure.
    pub(super) fn suspects_weigh(&mut self, id: HostId, signal: &Signal) {
        if signal.kind == SignalKind::Change {
            let name = if signal.signature.is_empty() {
                &signal.key
            } else {
                &signal.signature
            };
            let fingerprint = sha256(name.as_bytes());
            self.incident.suspects.took(id, fingerprint, &signal.title);
        } else if signal.kind.is_failure() {
            self.suspects_failed(id);
        }
    }

    /// A host failed: whoever cannot be explained by chance is named once.
    pub(super) fn suspects_failed(&mut self, id: HostId) {
        let now = self.now;
        let incident = &mut self.incident;
        while let Some((_, old)) = incident
            .forget
            .front()
            .copied()
            .filter(|(at, _)| *at <= now)
        {
            incident.forget.pop_front();
            incident.suspects.forget(old);
            incident.suspects.host(old);
        }
        if incident.suspects.failed(id) {
            let until = now + self.policy.pace.attribution;
            incident.forget.push_back((until, id));
        }
        if now < incident.rank_at || incident.told.len() >= CHANGES_MAX {
            return;
        }
        incident.rank_at = now + RANK_EVERY;
        let Some(first) = incident.suspects.ranking(1).into_iter().find(|s| s.named) else {
            return;
        };
        if first
            .changes
            .iter()
            .any(|change| incident.told.contains(change))
        {
            return;
        }
        incident.told.extend(first.changes.iter().copied());
        let at_risk = first.exposed.saturating_sub(first.failed);
        let line = format!(
            "incident: {}; {at_risk} hosts with it are at risk",
            first.sentence()
        );
        self.out.notice(Notice::Line(line));
    }
}
