//! The store as the daemon uses it: which kinds there are, commits whose outcome is settled, and the
//! lease without which nothing is written.

use crate::clock::unix_ms;
use crate::config::{Config, Engine};
use crate::error::ServerError;
use crate::pki::random;
use ringward_domain::{HostId, Timestamp};
use ringward_server_core::event::AuditEntry;
use ringward_server_core::record::{Record, RecordKey};
use ringward_store::{AnyStore, Batch, Committed, Fence, HOST_ATTRIBUTES, Key, Store, StoreError};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// The one lease of a server: who decides.
pub const LEASE: &str = "control";
/// How long the lease lasts without renewal, on the fleet clock.
pub const LEASE_TTL_MS: u64 = 15_000;
/// Things read in one page.
const PAGE: usize = 512;
/// Tries to settle a commit whose outcome is unknown before it counts as a failure of the store.
const SETTLE_TRIES: u32 = 5;

/// Kinds of the records that `Control` owns, in the order in which they are restored.
pub const RECORD_KINDS: [&str; 13] = [
    "control",
    "release",
    "host",
    "rollout",
    "cohort",
    "member",
    "request",
    "incident",
    "background",
    "person",
    "order",
    "order-host",
    "approval",
];
/// Kind of the fleet clock and other single values.
pub const META: &str = "meta";
/// Id of the fleet clock within [`META`].
pub const CLOCK: &[u8] = b"clock";

/// Opens the store that the settings name.
///
/// # Errors
/// Where it cannot be opened.
pub async fn open(config: &Config) -> Result<Arc<AnyStore>, ServerError> {
    match config.engine {
        Engine::Mem => Ok(Arc::new(AnyStore::mem())),
        Engine::Sled => {
            let folder = config.data.store();
            let opened = tokio::task::spawn_blocking(move || {
                AnyStore::sled(&folder, ringward_store::Options::default())
            })
            .await
            .map_err(|_| ServerError::Inconsistent {
                what: "opening the store ended in a panic".to_owned(),
            })?;
            opened.map(Arc::new).map_err(|source| ServerError::Store {
                doing: "opening the store",
                source,
            })
        }
    }
}

/// Where a record of `Control` is kept.
pub fn record_key(key: &RecordKey) -> Key {
    let [
        control,
        release,
        host,
        rollout,
        cohort,
        member,
        request,
        incident,
        background,
        person,
        order,
        order_host,
        approval,
    ] = RECORD_KINDS;
    let pair = |a: u64, b: &[u8]| [&a.to_be_bytes(), b].concat();
    let (kind, id) = match key {
        RecordKey::Control => (control, b"control".to_vec()),
        RecordKey::Host(id) => (host, id.0.to_be_bytes().to_vec()),
        RecordKey::Release(digest) => (release, digest.0.to_vec()),
        RecordKey::Rollout(id) => (rollout, id.0.to_be_bytes().to_vec()),
        RecordKey::Cohort(id, part) => (cohort, pair(id.0, &part.to_be_bytes())),
        RecordKey::Member(id, of) => (member, pair(id.0, &of.0.to_be_bytes())),
        RecordKey::Request(id) => (request, id.0.to_vec()),
        RecordKey::Incident(number) => (incident, number.to_be_bytes().to_vec()),
        RecordKey::Background => (background, b"background".to_vec()),
        RecordKey::Person(name) => (person, name.as_bytes().to_vec()),
        RecordKey::Order(id) => (order, id.0.to_be_bytes().to_vec()),
        RecordKey::OrderHost(id, of) => (order_host, pair(id.0, &of.0.to_be_bytes())),
        RecordKey::Approval(id) => (approval, id.0.to_be_bytes().to_vec()),
    };
    Key { kind, id }
}

/// Every record of `Control`.
///
/// # Errors
/// Where the store fails or a record cannot be read.
pub async fn load_records(store: &AnyStore) -> Result<Vec<Record>, ServerError> {
    let mut records = Vec::new();
    for kind in RECORD_KINDS {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = store
                .list(kind, after.as_deref(), PAGE)
                .await
                .map_err(|source| ServerError::Store {
                    doing: "reading the records",
                    source,
                })?;
            for (key, value) in &page {
                let record = serde_json::from_slice(&value.value).map_err(|error| {
                    ServerError::Inconsistent {
                        what: format!("a stored {} cannot be read: {error}", key.kind),
                    }
                })?;
                records.push(record);
            }
            match page.last() {
                Some((last, _)) if page.len() == PAGE => after = Some(last.id.clone()),
                _ => break,
            }
        }
    }
    Ok(records)
}

/// When each host was heard of last, as far as it was flushed.
///
/// # Errors
/// Where the store fails.
pub async fn load_heard(store: &AnyStore) -> Result<Vec<(HostId, Timestamp)>, ServerError> {
    let mut heard = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = store
            .list(HOST_ATTRIBUTES, after.as_deref(), PAGE)
            .await
            .map_err(|source| ServerError::Store {
                doing: "reading when hosts were heard of",
                source,
            })?;
        for (key, value) in &page {
            let id = key.id.as_slice().try_into().map(u64::from_be_bytes);
            let at = value.value.as_slice().try_into().map(u64::from_be_bytes);
            // What cannot be read says nothing; the host's silence counts from the start then.
            if let (Ok(id), Ok(at)) = (id, at) {
                heard.push((HostId(id), Timestamp(at)));
            }
        }
        match page.last() {
            Some((last, _)) if page.len() == PAGE => after = Some(last.id.clone()),
            _ => return Ok(heard),
        }
    }
}

/// Flushes when hosts were heard of, all of them in one go.
///
/// # Errors
/// Where the store fails.
pub async fn flush_heard(
    store: &AnyStore,
    heard: Vec<(HostId, Timestamp)>,
) -> Result<(), StoreError> {
    let rows = heard.into_iter();
    let rows = rows.map(|(id, at)| (id.0.to_be_bytes().to_vec(), at.0.to_be_bytes().to_vec()));
    store.put_hosts(rows.collect()).await
}

/// One line of the audit log as it is stored.
#[derive(Serialize)]
struct AuditLine<'a> {
    /// Wall clock, for people.
    at_unix_ms: u64,
    #[serde(flatten)]
    entry: &'a AuditEntry,
}

/// The bytes of an audit entry.
pub fn audit_bytes(entry: &AuditEntry) -> Vec<u8> {
    to_json(&AuditLine {
        at_unix_ms: unix_ms(),
        entry,
    })
}

/// Our own plain structures as JSON.
///
/// # Panics
/// Never: none of them has a map with keys that are no strings, or a serialiser that fails.
pub fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain structures become JSON")
}

/// A batch with a request id of its own.
pub fn batch(fence: &Fence) -> Batch {
    Batch {
        request_id: random::<16>(),
        fence: Some(fence.clone()),
        ..Batch::default()
    }
}

/// How a settled commit ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// Durable.
    Ok,
    /// A checked key was otherwise; nothing was written.
    Conflict,
    /// Another server holds the lease; nothing was written.
    Fenced,
}

/// Commits, and asks again by request id where the outcome is not known.
///
/// # Errors
/// Where the store fails, or cannot say.
pub async fn commit(store: &AnyStore, batch: Batch) -> Result<Settled, StoreError> {
    for attempt in 0..SETTLE_TRIES {
        match store.commit(batch.clone()).await? {
            Committed::Ok(_) => return Ok(Settled::Ok),
            Committed::Conflict(_) => return Ok(Settled::Conflict),
            Committed::Fenced => return Ok(Settled::Fenced),
            Committed::Unknown => {
                tokio::time::sleep(Duration::from_millis(10 << attempt)).await;
            }
        }
    }
    Err(StoreError::Failed {
        doing: "settling a commit by its request id".to_owned(),
        why: "the store does not know either".to_owned(),
        next: "the same commit is asked for again",
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ringward_domain::RolloutId;

    #[test]
    fn record_keys_do_not_collide_and_sort_by_rollout() {
        let keys = [
            RecordKey::Control,
            RecordKey::Host(HostId(1)),
            RecordKey::Rollout(RolloutId(1)),
            RecordKey::Cohort(RolloutId(1), 2),
            RecordKey::Member(RolloutId(1), HostId(2)),
            RecordKey::Member(RolloutId(2), HostId(1)),
        ]
        .map(|key| record_key(&key));
        let mut unique = keys.to_vec();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), keys.len());
        assert!(keys[4] < keys[5]);
    }

    #[tokio::test]
    async fn a_commit_of_a_former_holder_is_fenced() {
        let store = AnyStore::mem();
        let old = store.lease(LEASE, "a", 0, 10).await.unwrap().unwrap();
        let new = store.lease(LEASE, "b", 20, 10).await.unwrap().unwrap();
        let mut late = batch(&old);
        late.puts.push((
            Key {
                kind: META,
                id: b"x".to_vec(),
            },
            vec![1],
        ));
        assert_eq!(commit(&store, late).await.unwrap(), Settled::Fenced);
        let mut good = batch(&new);
        good.puts.push((
            Key {
                kind: META,
                id: b"x".to_vec(),
            },
            vec![2],
        ));
        assert_eq!(commit(&store, good).await.unwrap(), Settled::Ok);
    }
}
