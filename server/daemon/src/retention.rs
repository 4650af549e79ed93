//! Old signals go, by the policy of `[retention]`.
//!
//! Age is counted on the fleet clock, which only advances while the server runs: a wall clock that
//! jumps ten years ahead throws nothing away. Marks in the store say up to which commit things were
//! written at which time, one an hour.

use crate::actor::Handle;
use crate::metrics::Metrics;
use crate::storage::batch;
use ringward_domain::Timestamp;
use ringward_store::{AnyStore, Committed, Fence, Key, Store, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Kind of the marks: the id is the fleet clock, the version the commit.
const MARK: &str = "retention-mark";
/// How often old things go, and how fine their age is known.
const EVERY: Duration = Duration::from_secs(3600);
/// Marks read in one page: more than 1,000 days of them are never kept.
const PAGE: usize = 1000;
const DAY_MS: u64 = 86_400_000;

/// What keeps a server's signals bounded.
pub struct Retention {
    /// Where they are.
    pub store: Arc<AnyStore>,
    /// Only who decides throws away.
    pub fence: Fence,
    /// Signals older than so many days of the server's work go; 0 keeps all.
    pub signals_days: u32,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

impl Retention {
    /// Works until `stop`.
    pub async fn run(self, handle: Handle, stop: CancellationToken) {
        loop {
            if let Ok(now) = handle.ask(|seen| seen.now).await {
                match self.trim(now).await {
                    Ok(0) => {}
                    Ok(gone) => tracing::info!(gone, days = self.signals_days, "old signals went"),
                    Err(error) => tracing::warn!(%error, "old signals stay for now"),
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    /// Sets a mark and throws away what is older than the policy says; answers how many signals.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn trim(&self, now: Timestamp) -> Result<u64, StoreError> {
        if self.signals_days == 0 {
            return Ok(0);
        }
        let mut write = batch(&self.fence);
        write.puts = vec![(mark(now), Vec::new())];
        if !matches!(self.store.commit(write).await?, Committed::Ok(_)) {
            return Ok(0);
        }
        let Some(old) = now.0.checked_sub(u64::from(self.signals_days) * DAY_MS) else {
            return Ok(0); // The server itself is younger than that.
        };
        let marks = self.store.list(MARK, None, PAGE).await?;
        let mut past: Vec<_> = marks
            .into_iter()
            .filter(|(key, _)| key.id.as_slice() <= old.to_be_bytes().as_slice())
            .collect();
        let Some((_, newest)) = past.pop() else {
            return Ok(0);
        };
        let gone = self.store.trim("signal", newest.version).await?;
        self.metrics.signals_trimmed.add(gone);
        // What the earlier marks said is done.
        let mut write = batch(&self.fence);
        write.deletes = past.into_iter().map(|(key, _)| key).collect();
        self.store.commit(write).await?;
        Ok(gone)
    }
}

fn mark(at: Timestamp) -> Key {
    Key {
        kind: MARK,
        id: at.0.to_be_bytes().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::storage::LEASE;

    async fn retention(signals_days: u32) -> Retention {
        let store = AnyStore::mem();
        let fence = store.lease(LEASE, "test", 0, 1_000).await.unwrap().unwrap();
        Retention {
            store: Arc::new(store),
            fence,
            signals_days,
            metrics: Arc::default(),
        }
    }

    async fn store_signals(retention: &Retention, from: u64, count: u64) {
        let mut write = batch(&retention.fence);
        write.signals = (from..from + count).map(|seq| (1, seq, vec![1])).collect();
        retention.store.commit(write).await.unwrap();
    }

    async fn stored(retention: &Retention) -> Vec<u64> {
        let all = retention.store.signals(None, None, 1000).await.unwrap();
        all.into_iter().map(|signal| signal.seq).collect()
    }

    fn day(n: u64) -> Timestamp {
        Timestamp(n * DAY_MS)
    }

    #[tokio::test]
    async fn what_is_older_than_the_policy_says_goes_and_nothing_else() {
        let retention = retention(30).await;
        for n in 0..40 {
            store_signals(&retention, n + 1, 1).await;
            retention.trim(day(n)).await.unwrap();
        }
        // Of day 39 everything from day 9 on is younger than 30 days; the mark of day 9 was set
        // after that day's signal.
        assert_eq!(stored(&retention).await, (11..=40).collect::<Vec<_>>());
        let marks = retention.store.list(MARK, None, 1000).await.unwrap();
        assert!(marks.len() <= 31, "{}", marks.len());
        assert_eq!(retention.metrics.signals_trimmed.get(), 10);
    }

    #[tokio::test]
    async fn a_fleet_clock_that_stands_still_throws_nothing_away_and_zero_days_keep_all() {
        let standing = retention(1).await;
        for n in 0..20 {
            store_signals(&standing, n + 1, 1).await;
            standing.trim(day(7)).await.unwrap();
        }
        let young = retention(30).await;
        store_signals(&young, 1, 5).await;
        young.trim(day(0)).await.unwrap();
        young.trim(day(29)).await.unwrap();
        assert_eq!(stored(&young).await.len(), 5);
        assert_eq!(stored(&standing).await.len(), 20);
        let kept = retention(0).await;
        store_signals(&kept, 1, 5).await;
        assert_eq!(kept.trim(day(1000)).await.unwrap(), 0);
        assert_eq!(stored(&kept).await.len(), 5);
    }
}
