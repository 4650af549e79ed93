//! Effects under construction: what changed is remembered and written once, at the end, before
//! anything is sent.

use crate::event::{AuditEntry, Effect, Notice};
use crate::planted::{Bug, planted};
use crate::record::{Record, RecordKey};
use ringward_domain::HostId;
use ringward_domain::ids::RolloutId;
use ringward_domain::session::ToAgent;
use ringward_domain::signal::Signal;
use std::collections::{BTreeMap, BTreeSet};

/// What one event led to so far.
#[derive(Debug, Default)]
pub(super) struct Out {
    /// The control record has to be written.
    pub control: bool,
    /// Hosts to be written.
    pub hosts: BTreeSet<HostId>,
    /// Rollouts to be looked at for changes.
    pub rollouts: BTreeSet<RolloutId>,
    /// Hosts whose desired state may have changed; `true`: send it even if it did not.
    pub desired: BTreeMap<HostId, bool>,
    /// Hosts whose readiness may have changed.
    pub readiness: BTreeSet<HostId>,
    /// Every host's desired state may have changed.
    pub all_desired: bool,
    puts: BTreeMap<RecordKey, Record>,
    deletes: BTreeSet<RecordKey>,
    signals: Vec<(HostId, Box<Signal>)>,
    audit: Vec<AuditEntry>,
    notices: Vec<Notice>,
    sends: Vec<(HostId, ToAgent)>,
    closes: Vec<HostId>,
}

impl Out {
    pub fn put(&mut self, record: Record) {
        let key = record.key();
        self.deletes.remove(&key);
        self.puts.insert(key, record);
    }

    pub fn delete(&mut self, key: RecordKey) {
        self.puts.remove(&key);
        self.deletes.insert(key);
    }

    pub fn signal(&mut self, host: HostId, signal: Signal) {
        self.signals.push((host, Box::new(signal)));
    }

    pub fn audit(&mut self, actor: &str, action: &str, object: &str, reason: &str) {
        self.audit.push(AuditEntry {
            actor: actor.to_owned(),
            action: action.to_owned(),
            object: object.to_owned(),
            reason: reason.to_owned(),
        });
    }

    pub fn notice(&mut self, notice: Notice) {
        self.notices.push(notice);
    }

    pub fn send(&mut self, host: HostId, message: ToAgent) {
        self.sends.push((host, message));
    }

    pub fn close(&mut self, host: HostId) {
        self.closes.push(host);
    }

    /// The effects in their order: written, said, sent.
    pub fn into_effects(self) -> Vec<Effect> {
        let mut effects = Vec::new();
        let sends: Vec<Effect> = self
            .sends
            .into_iter()
            .map(|(host, message)| Effect::Send(host, Box::new(message)))
            .collect();
        let (early, sends) = match planted(Bug::AcknowledgeBeforeDurable) {
            true => (sends, Vec::new()),
            false => (Vec::new(), sends),
        };
        effects.extend(early);
        effects.extend(
            self.puts
                .into_values()
                .map(|record| Effect::Put(Box::new(record))),
        );
        effects.extend(self.deletes.into_iter().map(Effect::Delete));
        effects.extend(
            self.signals
                .into_iter()
                .map(|(host, signal)| Effect::StoreSignal(host, signal)),
        );
        effects.extend(self.audit.into_iter().map(Effect::Audit));
        effects.extend(self.notices.into_iter().map(Effect::Notice));
        effects.extend(sends);
        effects.extend(self.closes.into_iter().map(Effect::Close));
        effects
    }
}
