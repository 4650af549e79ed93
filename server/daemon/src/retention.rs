//! Old signals go, by the policy of `[retention]`: by age, and by how many there are.
//!
//! Age is counted on the fleet clock, which only advances while the server runs: a wall clock that
//! jumps ten years ahead throws nothing away. Marks in the store say up to which commit how many
//! signals had been written at which time: one an hour, and one for each eighth of `signals_max`, so
//! that what is over it goes in strokes of an eighth (a stroke reads all that is stored once).

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
/// How often it is asked how many there are, which costs nothing.
const EVERY: Duration = Duration::from_secs(60);
/// How fine the age of signals is known.
const MARK_MS: u64 = 3_600_000;
/// Marks read in one page.
const PAGE: usize = 1000;
/// Strokes in which `signals_max` is kept.
const STROKES: u64 = 8;
const DAY_MS: u64 = 86_400_000;

/// How many signals are kept.
#[derive(Debug, Clone, Copy)]
pub struct Kept {
    /// Signals older than so many days of the server's work go; 0 keeps all.
    pub days: u32,
    /// Most signals; above, the oldest go. 0 is no bound.
    pub most: u64,
}

/// What keeps a server's signals bounded.
pub struct Retention {
    /// Where they are.
    pub store: Arc<AnyStore>,
    /// Only who decides throws away.
    pub fence: Fence,
    /// The policy.
    pub kept: Kept,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// What was so at some time.
#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    at: Timestamp,
    /// Signals ever written, and those that were there then.
    written: u64,
    present: u64,
    /// Its commit: what has an earlier one was written before.
    version: u64,
}

impl Retention {
    /// Works until `stop`.
    pub async fn run(self, handle: Handle, stop: CancellationToken) {
        loop {
            if let Ok(now) = handle.ask(|seen| seen.now).await {
                match self.trim(now).await {
                    Ok(0) => {}
                    Ok(gone) => tracing::info!(
                        gone,
                        days = self.kept.days,
                        most = self.kept.most,
                        "old signals went"
                    ),
                    Err(error) => tracing::warn!(%error, "old signals stay for now"),
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    /// Throws away what the policy does not keep, and sets a mark when one is due; answers how many
    /// signals went.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn trim(&self, now: Timestamp) -> Result<u64, StoreError> {
        if self.kept.days == 0 && self.kept.most == 0 {
            return Ok(0);
        }
        let marks = self.marks().await?;
        let last = marks.last().copied();
        let present = self.store.count_signals().await?;
        let written = last.map_or(present, |last| {
            last.written + present.saturating_sub(last.present)
        });
        let due = last.is_none_or(|last| {
            now.0.saturating_sub(last.at.0) >= MARK_MS
                || self.kept.most > 0 && written - last.written >= self.stroke()
        });
        if !due {
            return Ok(0);
        }
        // Fenced: who decides no more throws nothing away.
        if !self.note(now, [written, present], &[]).await? {
            return Ok(0);
        }
        let past = marks.iter().rposition(|mark| {
            self.too_old(mark, now) || present > self.kept.most && self.too_many(mark, written)
        });
        let Some(past) = past else {
            return Ok(0);
        };
        let gone = self.store.trim("signal", marks[past].version).await?;
        self.metrics.signals_trimmed.add(gone);
        let present = present.saturating_sub(gone);
        // What the earlier marks said is done.
        self.note(now, [written, present], &marks[..past]).await?;
        Ok(gone)
    }

    /// Sets a mark, and takes those away that are done; whether this server still may.
    async fn note(
        &self,
        now: Timestamp,
        counts: [u64; 2],
        done: &[Mark],
    ) -> Result<bool, StoreError> {
        let mut write = batch(&self.fence);
        write.puts = vec![(mark(now), counts.map(u64::to_be_bytes).concat())];
        write.deletes = done.iter().map(|done| mark(done.at)).collect();
        Ok(matches!(self.store.commit(write).await?, Committed::Ok(_)))
    }

    fn stroke(&self) -> u64 {
        (self.kept.most / STROKES).max(1)
    }

    fn too_old(&self, mark: &Mark, now: Timestamp) -> bool {
        let days = u64::from(self.kept.days) * DAY_MS;
        self.kept.days > 0 && now.0.checked_sub(days).is_some_and(|old| mark.at.0 <= old)
    }

    /// Enough was written since to do without all before.
    fn too_many(&self, mark: &Mark, written: u64) -> bool {
        let enough = self.kept.most.saturating_sub(self.stroke());
        self.kept.most > 0 && written.saturating_sub(mark.written) >= enough
    }

    /// All of them, the oldest first: an hour each for as long as signals are kept.
    async fn marks(&self) -> Result<Vec<Mark>, StoreError> {
        let mut marks: Vec<Mark> = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.store.list(MARK, after.as_deref(), PAGE).await?;
            let full = page.len() == PAGE;
            after = page.last().map(|(key, _)| key.id.clone());
            marks.extend(page.iter().map(|(key, stored)| Mark {
                at: Timestamp(number(&key.id, 0)),
                written: number(&stored.value, 0),
                present: number(&stored.value, 8),
                version: stored.version,
            }));
            if !full {
                return Ok(marks);
            }
        }
    }
}

/// Eight bytes at an offset; marks of the first release had none.
fn number(bytes: &[u8], at: usize) -> u64 {
    let eight = bytes.get(at..at + 8);
    eight.map_or(0, |eight| {
        eight.iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
    })
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

    async fn retention(days: u32) -> Retention {
        keeping(Kept { days, most: 0 }).await
    }

    async fn keeping(kept: Kept) -> Retention {
        let store = AnyStore::mem();
        let fence = store.lease(LEASE, "test", 0, 1_000).await.unwrap().unwrap();
        Retention {
            store: Arc::new(store),
            fence,
            kept,
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
    #[tokio::test]
    async fn what_is_over_the_most_goes_oldest_first_and_the_newest_always_stay() {
        let most = 80;
        let mut full = keeping(Kept { days: 0, most }).await;
        for n in 0..1_000 {
            store_signals(&full, n + 1, 1).await;
            full.trim(Timestamp(n)).await.unwrap();
            let there = stored(&full).await;
            // An eighth may be over before the next stroke.
            assert!(
                there.len() as u64 <= most + most / STROKES,
                "{}",
                there.len()
            );
            assert!(there.len() as u64 >= (n + 1).min(most - most / STROKES));
            assert!(there.windows(2).all(|two| two[0] + 1 == two[1]));
            assert_eq!(there.last(), Some(&(n + 1)));
            if n % 97 == 0 {
                // A restart knows no more than what is stored.
                full = Retention {
                    store: Arc::clone(&full.store),
                    fence: full.fence.clone(),
                    ..full
                };
            }
        }
        let marks = full.store.list(MARK, None, 1000).await.unwrap();
        assert!(marks.len() as u64 <= STROKES + 2, "{}", marks.len());
        assert_eq!(
            full.metrics.signals_trimmed.get(),
            1_000 - stored(&full).await.len() as u64
        );
    }

    #[tokio::test]
    async fn a_mark_without_a_count_as_the_first_release_wrote_it_still_ends_by_age() {
        let old = keeping(Kept { days: 1, most: 100 }).await;
        store_signals(&old, 1, 5).await;
        let mut write = batch(&old.fence);
        write.puts = vec![(mark(day(0)), Vec::new())];
        old.store.commit(write).await.unwrap();
        store_signals(&old, 6, 5).await;
        assert_eq!(old.trim(day(2)).await.unwrap(), 5);
        assert_eq!(stored(&old).await, (6..=10).collect::<Vec<_>>());
    }
}
