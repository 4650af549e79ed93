//! Making a batch durable, however long that takes.
//!
//! The decisions are ahead of the disk here, so a batch is never given up: it is tried again, under
//! the same request id, until it is durable or this server must end. Meanwhile nothing is sent or
//! answered, hosts keep their spools, and the fleet clock stands still.

use super::batch::Work;
use super::{Actor, Ask, LEASE_EVERY};
use crate::error::ServerError;
use crate::storage::{CLOCK, LEASE, LEASE_TTL_MS, META, Settled, commit};
use ringward_store::{Batch, Fence, Key, Store, StoreError};
use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

/// First pause after a failure of the store.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest one: a disk with room again is noticed within two seconds.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How something that must not fail ended.
enum Ended<T> {
    Done(T),
    /// The server stops.
    Stopped,
}

impl Actor {
    /// Writes a batch; `false` where the server stops before it is durable.
    pub(super) async fn persist(&mut self, work: &mut Work) -> Result<bool, ServerError> {
        let started = Instant::now();
        let signals = work.signals() as u64;
        for mut batch in work.commits(&self.fence) {
            batch.puts.push((
                Key {
                    kind: META,
                    id: CLOCK.to_vec(),
                },
                self.clock.read().0.to_be_bytes().to_vec(),
            ));
            if !self.persist_one(batch).await? {
                return Ok(false);
            }
        }
        self.clock_written = Instant::now();
        self.metrics.commits.add_one();
        self.metrics.signals_durable.add(signals);
        let took_ms = started.elapsed().as_secs_f64() * 1000.0;
        self.metrics.commit_ms.record_ms(took_ms);
        Ok(true)
    }

    async fn persist_one(&mut self, batch: Batch) -> Result<bool, ServerError> {
        let store = std::sync::Arc::clone(&self.store);
        let settled = self
            .insist("writing", || commit(&store, batch.clone()))
            .await;
        match settled {
            Ended::Stopped => Ok(false),
            Ended::Done(Settled::Ok) => Ok(true),
            Ended::Done(Settled::Fenced) => Err(ServerError::Fenced { lease: LEASE }),
            Ended::Done(Settled::Conflict) => Err(ServerError::Inconsistent {
                what: "the store reports a conflict for a commit without checks".to_owned(),
            }),
        }
    }

    /// Renews the lease when it is time; `false` where the server stops.
    pub(super) async fn renew_lease(&mut self) -> Result<bool, ServerError> {
        if self.lease_renewed.elapsed() < LEASE_EVERY {
            return Ok(true);
        }
        let store = std::sync::Arc::clone(&self.store);
        let (holder, now_ms) = (self.holder.clone(), self.clock.read().0);
        let renewed = self
            .insist("renewing the lease", || {
                store.lease(LEASE, &holder, now_ms, LEASE_TTL_MS)
            })
            .await;
        match renewed {
            Ended::Stopped => Ok(false),
            Ended::Done(fence) if fence.as_ref() == Some(&self.fence) => {
                self.lease_renewed = Instant::now();
                Ok(true)
            }
            Ended::Done(Some(Fence { .. }) | None) => Err(ServerError::Fenced { lease: LEASE }),
        }
    }

    /// Tries until the store answers, with growing pauses; questions are answered meanwhile.
    async fn insist<T, F: Future<Output = Result<T, StoreError>>>(
        &mut self,
        doing: &'static str,
        mut attempt: impl FnMut() -> F,
    ) -> Ended<T> {
        let mut pause = PAUSE_MIN;
        loop {
            // Never cut short: what was begun is waited for, even when the server stops.
            let answer = self.answering(attempt()).await;
            match answer {
                Ok(value) => {
                    self.store_works();
                    return Ended::Done(value);
                }
                Err(error) => self.store_fails(doing, &error),
            }
            let stop = self.stop.clone();
            let stopped = self
                .answering(async {
                    tokio::select! {
                        () = stop.cancelled() => true,
                        () = tokio::time::sleep(pause) => false,
                    }
                })
                .await;
            if stopped {
                return Ended::Stopped;
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Waits for something and answers questions meanwhile.
    pub(super) async fn answering<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            let ask: Ask = tokio::select! {
                biased;
                done = &mut work => return done,
                Some(ask) = self.asks.recv() => ask,
            };
            self.answer(ask);
        }
    }

    fn store_works(&mut self) {
        if self.metrics.store_failing.get() == 1 {
            self.metrics.store_failing.set(0);
            self.health.set_failing(None);
            tracing::warn!("the store works again");
        }
    }

    fn store_fails(&mut self, doing: &'static str, error: &StoreError) {
        self.metrics.commit_failures.add_one();
        if self.metrics.store_failing.get() == 0 {
            tracing::error!(%error, doing, "the store fails; nothing is answered until it works");
        }
        self.metrics.store_failing.set(1);
        self.health
            .set_failing(Some(format!("the store fails: {error}")));
    }
}
