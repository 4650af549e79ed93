//! The audit log as hosts and people check it: its Merkle tree, grown from what the store holds.
//!
//! The store shows only what is durable, so no head is ever shown that a crash could take back.

use ringward_domain::{AuditHead, AuditShown, Sha256};
use ringward_store::{AnyStore, Store, StoreError, StoredAudit};
use ringward_wire::merkle::Tree;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Entries read in one page.
const PAGE: usize = 512;
/// The store is asked for new entries at most this often: thousands of sessions ask at once when a
/// fleet reconnects.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The audit log of a server.
#[derive(Debug)]
pub struct AuditLog {
    store: Arc<AnyStore>,
    grown: Mutex<Grown>,
}

#[derive(Debug, Default)]
struct Grown {
    tree: Tree,
    looked: Option<Instant>,
}

impl Grown {
    /// Takes in what the log has gained; where it was done a moment ago, only if `now` is wanted.
    async fn catch_up(&mut self, store: &AnyStore, now: bool) -> Result<(), StoreError> {
        if !now && self.looked.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return Ok(());
        }
        loop {
            let page = store.audit(self.tree.size(), PAGE).await?;
            for entry in &page {
                if entry.index != self.tree.size() {
                    return Err(StoreError::Damaged {
                        what: "the audit log".to_owned(),
                        why: format!("entry {} is missing", self.tree.size()),
                    });
                }
                self.tree.push(Sha256(entry.leaf_hash));
            }
            if page.len() < PAGE {
                self.looked = Some(Instant::now());
                return Ok(());
            }
        }
    }
}

impl AuditLog {
    /// The log in this store.
    pub fn new(store: Arc<AnyStore>) -> Self {
        Self {
            store,
            grown: Mutex::default(),
        }
    }

    /// The head now.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn head(&self) -> Result<AuditHead, StoreError> {
        let mut grown = self.grown.lock().await;
        grown.catch_up(&self.store, true).await?;
        Ok(grown.tree.head())
    }

    /// The head of about now, with the proof that it only adds to the first `from` entries.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn shown(&self, from: u64) -> Result<AuditShown, StoreError> {
        self.show(from, false).await
    }

    /// The same with the head of this very moment.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn shown_now(&self, from: u64) -> Result<AuditShown, StoreError> {
        self.show(from, true).await
    }

    async fn show(&self, from: u64, now: bool) -> Result<AuditShown, StoreError> {
        let mut grown = self.grown.lock().await;
        grown.catch_up(&self.store, now).await?;
        let needs = grown.tree.needs(from);
        let leaves = match needs.is_empty() || from == 0 {
            true => Vec::new(),
            false => {
                let count = usize::try_from(needs.end - needs.start).unwrap_or(usize::MAX);
                let page = self.store.audit(needs.start, count).await?;
                page.iter().map(|entry| Sha256(entry.leaf_hash)).collect()
            }
        };
        grown
            .tree
            .shown(from, &leaves)
            .ok_or_else(|| StoreError::Damaged {
                what: "the audit log".to_owned(),
                why: format!("the entries before {from} are not all there"),
            })
    }

    /// A page of entries from `from` on, with the head that covers them.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn page(
        &self,
        from: u64,
        limit: usize,
    ) -> Result<(Vec<StoredAudit>, AuditHead), StoreError> {
        let entries = self.store.audit(from, limit).await?;
        Ok((entries, self.head().await?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ringward_store::Batch;
    use ringward_wire::merkle::verify_growth;

    async fn write(store: &AnyStore, from: u64, count: u64) {
        let batch = Batch {
            request_id: crate::pki::random(),
            audit: (from..from + count)
                .map(|i| format!("{{\"n\":{i}}}").into_bytes())
                .collect(),
            ..Batch::default()
        };
        store.commit(batch).await.unwrap();
    }

    #[tokio::test]
    async fn each_head_is_proved_to_add_to_every_head_before() {
        let store = Arc::new(AnyStore::mem());
        let log = AuditLog::new(Arc::clone(&store));
        let mut heads = vec![log.head().await.unwrap()];
        let mut written = 0;
        for count in [1, 30, 33, 64, 700, 5] {
            write(&store, written, count).await;
            written += count;
            let head = log.head().await.unwrap();
            assert_eq!(head.size, written);
            for known in &heads {
                let shown = log.shown_now(known.size).await.unwrap();
                assert_eq!(shown.head, head);
                assert_eq!(verify_growth(known, &shown), Ok(()));
            }
            heads.push(head);
        }
    }

    #[tokio::test]
    async fn a_log_that_lost_its_tail_is_seen_by_who_saw_it() {
        let store = Arc::new(AnyStore::mem());
        write(&store, 0, 40).await;
        let known = AuditLog::new(store).head().await.unwrap();
        let restored = Arc::new(AnyStore::mem());
        write(&restored, 0, 39).await;
        let log = AuditLog::new(Arc::clone(&restored));
        let shown = log.shown(known.size).await.unwrap();
        assert!(verify_growth(&known, &shown).is_err());
        write(&restored, 100, 40).await;
        let shown = log.head().await.unwrap();
        assert_eq!(shown.size, 79);
        let shown = log.shown(known.size).await.unwrap();
        assert!(verify_growth(&known, &shown).is_err());
    }
}
