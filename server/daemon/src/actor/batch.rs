//! What one batch of events comes to: what is written, and what waits for that.

use crate::storage::{audit_bytes, record_key, to_json};
use ringward_domain::session::ToAgent;
use ringward_domain::signal::SignalKind;
use ringward_domain::{HostId, ReleaseDigest};
use ringward_server_core::event::{Effect, Notice};
use ringward_server_core::record::Record;
use ringward_store::{Batch, Fence, Key, MAX_COMMIT_BYTES};
use std::collections::BTreeMap;
use std::time::Instant;

/// What a store counts for an item beside its bytes, and a little more.
const ITEM_BYTES: usize = 64;
/// Room for the fleet clock in each commit.
const RESERVED_BYTES: usize = 1024;

/// Has a caller's deeds say by what they were asked for: a token's are told from its owner's.
pub(super) fn sign(effects: &mut [Effect], caller: &str, signature: &str) {
    for effect in effects {
        if let Effect::Audit(entry) = effect
            && entry.actor == caller
        {
            signature.clone_into(&mut entry.actor);
        }
    }
}

/// The work of one batch.
#[derive(Default)]
pub(super) struct Work {
    /// Newest wish for each key: a record, or that it goes.
    records: BTreeMap<Key, Option<Box<Record>>>,
    /// Values of the daemon's own.
    values: Vec<(Key, Vec<u8>)>,
    audit: Vec<Vec<u8>>,
    signals: Vec<(u64, u64, Vec<u8>)>,
    /// What those signals are, for the series.
    seen: Vec<(SignalKind, Option<ReleaseDigest>)>,
    /// Sent once everything is durable, in this order.
    pub(super) sends: Vec<(HostId, ToAgent)>,
    /// Closed after that.
    pub(super) closes: Vec<HostId>,
    /// Told after that, each with the receipt of the event that led to it.
    pub(super) notices: Vec<(Notice, Instant)>,
    /// Answered after that.
    pub(super) replies: Vec<Box<dyn FnOnce() + Send>>,
}

impl Work {
    /// Adds what came of an event received at `at`.
    pub(super) fn absorb(&mut self, effects: Vec<Effect>, at: Instant) {
        for effect in effects {
            match effect {
                Effect::Put(record) => {
                    self.records.insert(record_key(&record.key()), Some(record));
                }
                Effect::Delete(key) => {
                    self.records.insert(record_key(&key), None);
                }
                Effect::StoreSignal(host, signal) => {
                    self.seen.push((signal.kind, signal.release));
                    self.signals
                        .push((host.0, signal.seq.0, to_json(signal.as_ref())));
                }
                Effect::Audit(entry) => self.audit.push(audit_bytes(&entry)),
                Effect::Send(host, message) => self.sends.push((host, *message)),
                Effect::Close(host) => self.closes.push(host),
                Effect::Notice(notice) => self.notices.push((notice, at)),
            }
        }
    }

    /// Writes a value of the daemon's own.
    pub(super) fn put(&mut self, key: Key, value: Vec<u8>) {
        self.values.push((key, value));
    }

    /// Answers something once everything is durable.
    pub(super) fn reply(&mut self, reply: impl FnOnce() + Send + 'static) {
        self.replies.push(Box::new(reply));
    }

    /// Closes a host's session once everything is durable.
    pub(super) fn close(&mut self, host: HostId) {
        self.closes.push(host);
    }

    /// Whether anything has to be written.
    pub(super) fn writes(&self) -> bool {
        !(self.records.is_empty()
            && self.values.is_empty()
            && self.audit.is_empty()
            && self.signals.is_empty())
    }

    /// Hosts whose own record, or whose part in a rollout, is written.
    pub(super) fn hosts_written(&self) -> impl Iterator<Item = HostId> + '_ {
        self.records.keys().filter_map(|key| {
            let id = match key.kind {
                "host" => key.id.as_slice(),
                // The rollout's id comes first.
                "member" => key.id.get(8..)?,
                _ => return None,
            };
            Some(HostId(u64::from_be_bytes(id.try_into().ok()?)))
        })
    }

    /// Kinds of the signals in it, each with the release in trial on its host.
    pub(super) fn signals_seen(&self) -> &[(SignalKind, Option<ReleaseDigest>)] {
        &self.seen
    }

    /// Signals in it.
    pub(super) fn signals(&self) -> usize {
        self.signals.len()
    }

    /// Takes what is to be written, as few commits as the store's bound allows. What says that a
    /// thing exists (its rollout, the server's own record) comes last, so that a crash between two
    /// commits leaves parts without a whole, which nobody looks for, and never a whole without parts.
    pub(super) fn commits(&mut self, fence: &Fence) -> Vec<Batch> {
        let mut commits = vec![crate::storage::batch(fence)];
        let mut bytes = 0;
        let mut last = |size: usize, commits: &mut Vec<Batch>| {
            if bytes + size > MAX_COMMIT_BYTES - RESERVED_BYTES {
                commits.push(crate::storage::batch(fence));
                bytes = 0;
            }
            bytes += size;
            commits.len() - 1
        };
        for signal in std::mem::take(&mut self.signals) {
            let at = last(signal.2.len() + ITEM_BYTES, &mut commits);
            commits[at].signals.push(signal);
        }
        let records = std::mem::take(&mut self.records);
        let (wholes, parts): (Vec<_>, Vec<_>) = records
            .into_iter()
            .partition(|(key, _)| matches!(key.kind, "rollout" | "control" | "request" | "order"));
        for (key, record) in parts.into_iter().chain(wholes) {
            match record {
                Some(record) => {
                    let value = to_json(&record);
                    let size = key.id.len() + value.len() + ITEM_BYTES;
                    let at = last(size, &mut commits);
                    commits[at].puts.push((key, value));
                }
                None => {
                    let at = last(key.id.len() + ITEM_BYTES, &mut commits);
                    commits[at].deletes.push(key);
                }
            }
        }
        for (key, value) in std::mem::take(&mut self.values) {
            let at = last(key.id.len() + value.len() + ITEM_BYTES, &mut commits);
            commits[at].puts.push((key, value));
        }
        for entry in std::mem::take(&mut self.audit) {
            let at = last(entry.len() + ITEM_BYTES, &mut commits);
            commits[at].audit.push(entry);
        }
        commits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringward_server_core::event::AuditEntry;

    fn fence() -> Fence {
        Fence {
            name: "test".to_owned(),
            token: 1,
        }
    }

    fn audit(reason: String) -> Effect {
        Effect::Audit(AuditEntry {
            actor: "ada".to_owned(),
            action: "test".to_owned(),
            object: "nothing".to_owned(),
            reason,
        })
    }

    #[test]
    fn a_batch_too_large_for_one_commit_becomes_several() {
        let mut work = Work::default();
        let effects = (0..40).map(|_| audit("x".repeat(100_000))).collect();
        work.absorb(effects, Instant::now());
        assert!(work.writes());
        let commits = work.commits(&fence());
        assert!(commits.len() >= 4);
        assert_eq!(commits.iter().map(|c| c.audit.len()).sum::<usize>(), 40);
        for commit in &commits {
            let bytes: usize = commit.audit.iter().map(|a| a.len() + ITEM_BYTES).sum();
            assert!(bytes <= MAX_COMMIT_BYTES);
        }
        assert!(!work.writes());
    }

    #[test]
    fn a_notice_alone_writes_nothing() {
        let mut work = Work::default();
        let line = Effect::Notice(Notice::Line("hello".to_owned()));
        work.absorb(vec![line], Instant::now());
        assert!(!work.writes());
        assert_eq!(work.notices.len(), 1);
    }
}
