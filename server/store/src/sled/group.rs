//! One group of writes, decided one after the other and written as one batch.

use std::collections::BTreeMap;

use ::sled::{Db, IVec};

use super::rows::{
    AUDIT, CHANGE, COUNTERS_ROW, Payload, REQUEST, SIGNAL, head_len, key_bytes, lease_bytes,
    lease_row, number, number_row, pair_row, payload, value_row,
};
use super::state::{Counters, State};
use super::view::read_failed;
use crate::lease::Lease;
use crate::prepared::Prepared;
use crate::{Bounds, Committed, Fence, HOST_ATTRIBUTES, Key, StoreError};

/// Rows one write may drop to keep the bounds, so that a lowered bound is reached in steps.
pub(super) const TRIM_ROWS: u64 = 2048;

/// What the writer is asked to do.
#[derive(Debug)]
pub(super) enum Work {
    Commit(Box<Prepared>),
    Hosts(Vec<(Vec<u8>, Vec<u8>)>),
    Signals(Vec<(u64, u64, Vec<u8>)>),
    Lease {
        name: String,
        holder: String,
        now_ms: u64,
        ttl_ms: u64,
    },
    /// Drops at most [`TRIM_ROWS`] changes below a seq.
    TrimChanges(u64),
    /// Drops at most [`TRIM_ROWS`] request ids below a seq.
    TrimRequests(u64),
    /// Drops these signals (host, seq).
    DropSignals(Vec<(u64, u64)>),
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Committed(Committed),
    Done,
    Lease(Option<Fence>),
    Dropped(u64),
}

impl Work {
    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Commit(prepared) => {
                let batch = &prepared.batch;
                let puts: usize = batch.puts.iter().map(|(k, v)| k.id.len() + v.len()).sum();
                let audit: usize = batch.audit.iter().map(Vec::len).sum();
                puts + audit + batch.signals.iter().map(|(_, _, v)| v.len()).sum::<usize>()
            }
            Self::Hosts(hosts) => hosts.iter().map(|(id, value)| id.len() + value.len()).sum(),
            Self::Signals(signals) => signals.iter().map(|(_, _, value)| value.len()).sum(),
            Self::Lease { .. } => 64,
            Self::TrimChanges(_) | Self::TrimRequests(_) => TRIM_ROWS as usize * 16,
            Self::DropSignals(signals) => signals.len() * 16,
        }
    }

    /// Whether it makes room.
    pub fn frees(&self) -> bool {
        matches!(
            self,
            Self::TrimChanges(_) | Self::TrimRequests(_) | Self::DropSignals(_)
        )
    }
}

/// The group under way.
pub(super) struct Group<'a> {
    db: &'a Db,
    state: &'a mut State,
    bounds: Bounds,
    was: Counters,
    /// Sorted, as the batch is written.
    rows: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl<'a> Group<'a> {
    pub fn new(db: &'a Db, state: &'a mut State, bounds: Bounds) -> Self {
        let was = state.counters;
        Self {
            db,
            state,
            bounds,
            was,
            rows: BTreeMap::new(),
        }
    }

    /// The rows to write; none if nothing changes.
    pub fn finish(mut self) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
        if self.state.counters != self.was {
            let counters = self.state.counters.bytes();
            self.rows.insert(COUNTERS_ROW.to_vec(), Some(counters));
        }
        self.rows
    }

    /// Decides one work and adds its rows. After an error the state is no longer that of the disk.
    pub fn add(&mut self, work: Work) -> Result<Answer, StoreError> {
        Ok(match work {
            Work::Commit(prepared) => Answer::Committed(self.commit(*prepared)?),
            Work::Hosts(hosts) => self.hosts(hosts)?,
            Work::Signals(signals) => {
                let version = self.state.counters.seq + 1;
                if self.signals(version, signals)? {
                    self.state.counters.seq = version;
                }
                Answer::Done
            }
            Work::Lease {
                name,
                holder,
                now_ms,
                ttl_ms,
            } => self.lease(name, &holder, now_ms, ttl_ms),
            Work::TrimChanges(before) => Answer::Dropped(self.trim_changes(before)),
            Work::TrimRequests(before) => Answer::Dropped(self.trim_requests(before)),
            Work::DropSignals(signals) => self.drop_signals(&signals)?,
        })
    }

    fn commit(&mut self, prepared: Prepared) -> Result<Committed, StoreError> {
        let batch = &prepared.batch;
        if let Some(seq) = self.state.requests.get(&batch.request_id) {
            return Ok(Committed::Ok(*seq));
        }
        if let Some(fence) = &batch.fence {
            let held = self.state.leases.get(&fence.name);
            if held.is_none_or(|lease| lease.token != fence.token) {
                return Ok(Committed::Fenced);
            }
        }
        let mut conflicts = Vec::new();
        for (key, version) in &batch.checks {
            if self.version(key)? != *version {
                conflicts.push(key.clone());
            }
        }
        if !conflicts.is_empty() {
            return Ok(Committed::Conflict(conflicts));
        }
        self.state.counters.seq += 1;
        let seq = self.state.counters.seq;
        self.remember_request(seq, batch.request_id);
        self.remember_changes(seq, &prepared);
        self.write(seq, prepared)?;
        Ok(Committed::Ok(seq))
    }

    fn write(&mut self, seq: u64, prepared: Prepared) -> Result<(), StoreError> {
        let batch = prepared.batch;
        for (key, value) in &batch.puts {
            self.put(value_row(key.kind, &key.id), &seq.to_be_bytes(), value)?;
        }
        for key in &batch.deletes {
            self.remove(value_row(key.kind, &key.id))?;
        }
        for (entry, leaf_hash) in batch.audit.iter().zip(&prepared.leaf_hashes) {
            let row = number_row(AUDIT, self.state.counters.audit_next);
            self.put(row, leaf_hash, entry)?;
            self.state.counters.audit_next += 1;
        }
        self.signals(seq, batch.signals)?;
        Ok(())
    }

    fn remember_request(&mut self, seq: u64, id: [u8; 16]) {
        self.rows
            .insert(number_row(REQUEST, seq), Some(id.to_vec()));
        self.state.requests.insert(id, seq);
        self.state.request_order.push_back((seq, id));
        let mut dropped = 0;
        while self.state.request_order.len() > self.bounds.requests.max(1) && dropped < TRIM_ROWS {
            self.forget_request();
            dropped += 1;
        }
    }

    fn remember_changes(&mut self, seq: u64, prepared: &Prepared) {
        let changed = prepared.changed();
        if changed.is_empty() {
            return;
        }
        let changes = changed.len() as u64;
        for (key, at) in changed.into_iter().zip(0..) {
            self.rows
                .insert(pair_row(CHANGE, seq, at), Some(key_bytes(key)));
        }
        self.state.feed.push_back((seq, changes));
        self.state.feed_changes += changes;
        let mut dropped = 0;
        let bound = self.bounds.changes as u64;
        while self.state.feed_changes > bound && self.state.feed.len() > 1 && dropped < TRIM_ROWS {
            dropped += self.forget_change();
        }
    }

    fn forget_request(&mut self) {
        if let Some((seq, id)) = self.state.request_order.pop_front() {
            self.state.requests.remove(&id);
            self.rows.insert(number_row(REQUEST, seq), None);
        }
    }

    fn forget_change(&mut self) -> u64 {
        let Some((seq, changes)) = self.state.feed.pop_front() else {
            return 0;
        };
        for at in 0..changes {
            self.rows.insert(pair_row(CHANGE, seq, at), None);
        }
        self.state.feed_changes -= changes;
        self.state.counters.feed_floor = seq;
        changes
    }

    fn trim_changes(&mut self, before: u64) -> u64 {
        let mut dropped = 0;
        while dropped < TRIM_ROWS && self.state.feed.front().is_some_and(|c| c.0 < before) {
            dropped += self.forget_change();
        }
        dropped
    }

    fn trim_requests(&mut self, before: u64) -> u64 {
        let mut dropped = 0;
        let oldest = |state: &State| state.request_order.front().map(|request| request.0);
        while dropped < TRIM_ROWS && oldest(self.state).is_some_and(|seq| seq < before) {
            self.forget_request();
            dropped += 1;
        }
        dropped
    }

    fn hosts(&mut self, hosts: Vec<(Vec<u8>, Vec<u8>)>) -> Result<Answer, StoreError> {
        self.state.counters.seq += 1;
        let version = self.state.counters.seq.to_be_bytes();
        for (id, value) in &hosts {
            self.put(value_row(HOST_ATTRIBUTES, id), &version, value)?;
        }
        Ok(Answer::Done)
    }

    /// Adds the signals that are not there yet; whether there were any.
    fn signals(
        &mut self,
        version: u64,
        signals: Vec<(u64, u64, Vec<u8>)>,
    ) -> Result<bool, StoreError> {
        let mut added = false;
        for (host, seq, value) in signals {
            let row = pair_row(SIGNAL, host, seq);
            if self.row(&row)?.is_none() {
                self.put(row, &version.to_be_bytes(), &value)?;
                self.state.counters.signals += 1;
                added = true;
            }
        }
        Ok(added)
    }

    fn drop_signals(&mut self, signals: &[(u64, u64)]) -> Result<Answer, StoreError> {
        let mut dropped = 0;
        for (host, seq) in signals {
            dropped += u64::from(self.remove(pair_row(SIGNAL, *host, *seq))?);
        }
        self.state.counters.signals = self.state.counters.signals.saturating_sub(dropped);
        Ok(Answer::Dropped(dropped))
    }

    fn lease(&mut self, name: String, holder: &str, now_ms: u64, ttl_ms: u64) -> Answer {
        let current = self.state.leases.get(&name);
        let Some(lease) = Lease::ask(current, holder, now_ms, ttl_ms) else {
            return Answer::Lease(None);
        };
        let token = lease.token;
        self.rows
            .insert(lease_row(&name), Some(lease_bytes(&lease)));
        self.state.leases.insert(name.clone(), lease);
        Answer::Lease(Some(Fence { name, token }))
    }

    fn version(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        let row = self.row(&value_row(key.kind, &key.id))?;
        row.map(|row| number(&row, 0, "a value")).transpose()
    }

    fn row(&self, row: &[u8]) -> Result<Option<IVec>, StoreError> {
        match self.rows.get(row) {
            Some(written) => Ok(written.as_deref().map(IVec::from)),
            None => self.db.get(row).map_err(|why| read_failed(&why)),
        }
    }

    fn put(&mut self, row: Vec<u8>, head: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.remove_overflow(&row)?;
        let (bytes, overflow) = payload(head, value, self.state.counters.overflow_next);
        if !overflow.is_empty() {
            self.state.counters.overflow_next += 1;
        }
        self.rows.insert(row, Some(bytes));
        let overflow = overflow.into_iter().map(|(row, chunk)| (row, Some(chunk)));
        self.rows.extend(overflow);
        Ok(())
    }

    /// Whether it was there.
    fn remove(&mut self, row: Vec<u8>) -> Result<bool, StoreError> {
        let there = self.remove_overflow(&row)?;
        if there {
            self.rows.insert(row, None);
        }
        Ok(there)
    }

    /// Removes the overflow of a row's value; whether the row was there.
    fn remove_overflow(&mut self, row: &[u8]) -> Result<bool, StoreError> {
        let Some(stored) = self.row(row)? else {
            return Ok(false);
        };
        if let Some(head) = row.first().and_then(|table| head_len(*table)) {
            let payload = stored.get(head..).unwrap_or_default();
            for overflow in Payload::read(payload)?.overflow() {
                self.rows.insert(overflow, None);
            }
        }
        Ok(true)
    }
}
