//! The store in memory: for tests and simulations, and the model the embedded one is compared with.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::lease::Lease;
use crate::prepared::{Prepared, check_key, check_value, refuse_trim};
use crate::{
    Batch, Bounds, Change, Changes, Committed, Fence, HOST_ATTRIBUTES, Key, Store, StoreError,
    StoredAudit, StoredSignal, Versioned,
};

/// Everything in memory; gone with the process.
#[derive(Debug)]
pub struct Mem {
    state: Mutex<State>,
    hint: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    bounds: Bounds,
    seq: u64,
    values: BTreeMap<Key, Versioned>,
    requests: BTreeMap<[u8; 16], u64>,
    request_order: VecDeque<(u64, [u8; 16])>,
    feed: VecDeque<(u64, Vec<Key>)>,
    feed_changes: usize,
    feed_floor: u64,
    /// With the seq of the commit that wrote it.
    signals: BTreeMap<(u64, u64), (u64, Vec<u8>)>,
    audit: Vec<StoredAudit>,
    leases: BTreeMap<String, Lease>,
}

impl Default for Mem {
    fn default() -> Self {
        Self::new(Bounds::default())
    }
}

impl Mem {
    /// An empty store.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            state: Mutex::new(State {
                bounds,
                ..State::default()
            }),
            hint: watch::Sender::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic under this lock can only come from an allocation; the state stays usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn commit(&mut self, prepared: Prepared) -> Committed {
        let batch = &prepared.batch;
        if let Some(seq) = self.requests.get(&batch.request_id) {
            return Committed::Ok(*seq);
        }
        if let Some(fence) = &batch.fence {
            let held = self.leases.get(&fence.name);
            if held.is_none_or(|lease| lease.token != fence.token) {
                return Committed::Fenced;
            }
        }
        let conflicts: Vec<Key> = batch
            .checks
            .iter()
            .filter(|(key, version)| self.values.get(key).map(|v| v.version) != *version)
            .map(|(key, _)| key.clone())
            .collect();
        if !conflicts.is_empty() {
            return Committed::Conflict(conflicts);
        }
        self.seq += 1;
        self.feed_change(&prepared);
        self.write(prepared);
        Committed::Ok(self.seq)
    }

    fn write(&mut self, prepared: Prepared) {
        let (batch, version) = (prepared.batch, self.seq);
        self.requests.insert(batch.request_id, version);
        self.request_order.push_back((version, batch.request_id));
        if self.request_order.len() > self.bounds.requests.max(1) {
            self.forget_request();
        }
        for (key, value) in batch.puts {
            self.values.insert(key, Versioned { version, value });
        }
        for key in batch.deletes {
            self.values.remove(&key);
        }
        for (entry, leaf_hash) in batch.audit.into_iter().zip(prepared.leaf_hashes) {
            self.audit.push(StoredAudit {
                index: self.audit.len() as u64,
                leaf_hash,
                entry,
            });
        }
        for (host, seq, value) in batch.signals {
            let stored = self.signals.entry((host, seq));
            stored.or_insert((version, value));
        }
    }

    fn feed_change(&mut self, prepared: &Prepared) {
        let keys: Vec<Key> = prepared.changed().into_iter().cloned().collect();
        if keys.is_empty() {
            return;
        }
        self.feed_changes += keys.len();
        self.feed.push_back((self.seq, keys));
        while self.feed_changes > self.bounds.changes && self.feed.len() > 1 {
            self.forget_change();
        }
    }

    fn forget_change(&mut self) -> u64 {
        let Some((seq, keys)) = self.feed.pop_front() else {
            return 0;
        };
        self.feed_changes -= keys.len();
        self.feed_floor = seq;
        keys.len() as u64
    }

    fn forget_request(&mut self) {
        if let Some((_, id)) = self.request_order.pop_front() {
            self.requests.remove(&id);
        }
    }

    fn changes(&self, after: u64, limit: usize) -> Changes {
        if after < self.feed_floor {
            return Changes::Compacted(self.feed_floor);
        }
        let mut page = Vec::new();
        let later = self.feed.iter().skip_while(|(seq, _)| *seq <= after);
        for (seq, keys) in later {
            if !page.is_empty() && page.len() + keys.len() > limit {
                break;
            }
            page.extend(keys.iter().map(|key| Change {
                seq: *seq,
                key: key.clone(),
            }));
        }
        Changes::Page(page)
    }

    fn trim(&mut self, kind: &str, before: u64) -> Result<u64, StoreError> {
        let mut dropped = 0;
        match kind {
            "signal" => {
                let all = self.signals.len();
                self.signals.retain(|_, (seq, _)| *seq >= before);
                dropped = (all - self.signals.len()) as u64;
            }
            "change" => {
                while self.feed.front().is_some_and(|(seq, _)| *seq < before) {
                    dropped += self.forget_change();
                }
            }
            "request" => {
                while self.request_order.front().is_some_and(|r| r.0 < before) {
                    self.forget_request();
                    dropped += 1;
                }
            }
            _ => return Err(refuse_trim(kind)),
        }
        Ok(dropped)
    }
}

impl Store for Mem {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, StoreError> {
        Ok(self.state().values.get(key).cloned())
    }

    async fn list(
        &self,
        kind: &'static str,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Key, Versioned)>, StoreError> {
        let key = |id: &[u8]| Key {
            kind,
            id: id.to_vec(),
        };
        let start = after.map_or(Bound::Included(key(&[])), |id| Bound::Excluded(key(id)));
        let state = self.state();
        let rows = state.values.range((start, Bound::Unbounded));
        Ok(rows
            .take_while(|(key, _)| key.kind == kind)
            .take(limit)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }

    async fn list_all(
        &self,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Versioned)>, StoreError> {
        let start = after.map_or(Bound::Unbounded, |key| Bound::Excluded(key.clone()));
        let state = self.state();
        let rows = state.values.range((start, Bound::Unbounded)).take(limit);
        Ok(rows
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }

    async fn commit(&self, batch: Batch) -> Result<Committed, StoreError> {
        let prepared = Prepared::new(batch)?;
        let committed = self.state().commit(prepared);
        if let Committed::Ok(seq) = &committed {
            self.hint.send_replace(*seq);
        }
        Ok(committed)
    }

    async fn put_hosts(&self, hosts: Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), StoreError> {
        for (id, value) in &hosts {
            check_key(HOST_ATTRIBUTES, id)?;
            check_value("the attributes of a host", value)?;
        }
        if hosts.is_empty() {
            return Ok(());
        }
        let mut state = self.state();
        state.seq += 1;
        let version = state.seq;
        for (id, value) in hosts {
            let kind = HOST_ATTRIBUTES;
            let value = Versioned { version, value };
            state.values.insert(Key { kind, id }, value);
        }
        Ok(())
    }

    async fn add_signals(&self, signals: Vec<(u64, u64, Vec<u8>)>) -> Result<(), StoreError> {
        for (_, _, value) in &signals {
            check_value("a signal", value)?;
        }
        let mut state = self.state();
        let version = state.seq + 1;
        for (host, seq, value) in signals {
            if !state.signals.contains_key(&(host, seq)) {
                state.seq = version;
                state.signals.insert((host, seq), (version, value));
            }
        }
        Ok(())
    }

    async fn signals(
        &self,
        host: Option<u64>,
        after: Option<(u64, u64)>,
        limit: usize,
    ) -> Result<Vec<StoredSignal>, StoreError> {
        let first = (host.unwrap_or(0), 0);
        let start = match after {
            Some(after) if after >= first => Bound::Excluded(after),
            _ => Bound::Included(first),
        };
        let state = self.state();
        let rows = state.signals.range((start, Bound::Unbounded));
        Ok(rows
            .take_while(|((of, _), _)| host.is_none_or(|host| host == *of))
            .take(limit)
            .map(|((host, seq), (_, value))| StoredSignal {
                host: *host,
                seq: *seq,
                value: value.clone(),
            })
            .collect())
    }

    async fn count_signals(&self) -> Result<u64, StoreError> {
        Ok(self.state().signals.len() as u64)
    }

    async fn audit(&self, from: u64, limit: usize) -> Result<Vec<StoredAudit>, StoreError> {
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let state = self.state();
        Ok(state.audit.iter().skip(from).take(limit).cloned().collect())
    }

    async fn changes(&self, after: u64, limit: usize) -> Result<Changes, StoreError> {
        Ok(self.state().changes(after, limit))
    }

    fn hint(&self) -> impl Future<Output = ()> + Send {
        let mut seen = self.hint.subscribe();
        async move {
            // An error means that the store is gone: a wake-up for nothing.
            let _ = seen.changed().await;
        }
    }

    async fn lease(
        &self,
        name: &str,
        holder: &str,
        now_ms: u64,
        ttl_ms: u64,
    ) -> Result<Option<Fence>, StoreError> {
        let mut state = self.state();
        let Some(lease) = Lease::ask(state.leases.get(name), holder, now_ms, ttl_ms) else {
            return Ok(None);
        };
        let (name, token) = (name.to_owned(), lease.token);
        state.leases.insert(name.clone(), lease);
        Ok(Some(Fence { name, token }))
    }

    async fn trim(&self, kind: &'static str, before: u64) -> Result<u64, StoreError> {
        self.state().trim(kind, before)
    }
}
