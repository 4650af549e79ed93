//! Webhooks: what `ringward_server_core::webhooks` decides, carried out. What stands and what waits is
//! in the store before it is sent, so that a restart neither forgets nor repeats it.

mod send;
mod target;

pub use send::{Failed, signature};
pub use target::{Target, WebhookFile};

use crate::actor::{Gone, Handle, Seen};
use crate::clock::unix_ms;
use crate::metrics::Metrics;
use crate::pki::random;
use crate::storage::{META, batch, to_json};
use ringward_domain::Timestamp;
use ringward_server_core::webhooks::{Alert, Delivery, Endpoint, Kind, Moment, Outbox};
use ringward_store::{AnyStore, Committed, Fence, Key, Store, StoreError};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

/// How often it is looked what stands.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Messages on their way at once.
const SENDING_MAX: usize = 8;

/// All webhooks of this server.
pub struct Webhooks {
    targets: Vec<Target>,
    endpoints: Vec<Endpoint>,
    outbox: Mutex<Outbox>,
    /// By message and endpoint.
    sending: Mutex<BTreeSet<(String, String)>>,
    places: Arc<Semaphore>,
    wake: Notify,
    store: Arc<AnyStore>,
    fence: Fence,
    metrics: Arc<Metrics>,
}

/// How one webhook does.
#[derive(Debug, Clone)]
pub struct View {
    /// Its name.
    pub name: String,
    /// Scheme, host and port.
    pub place: String,
    /// What it hears of.
    pub kinds: Vec<&'static str>,
    /// Messages that wait for it.
    pub waiting: usize,
    /// Why the newest of them did not arrive; may be empty.
    pub trouble: String,
}

fn key() -> Key {
    Key {
        kind: META,
        id: b"webhooks".to_vec(),
    }
}

fn random_u64() -> u64 {
    u64::from_be_bytes(random::<8>())
}

impl Webhooks {
    /// With what an earlier run left in the store.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn restore(
        targets: Vec<Target>,
        store: Arc<AnyStore>,
        fence: Fence,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        let kept = store.get(&key()).await?;
        let mut outbox: Outbox = kept
            .and_then(|value| serde_json::from_slice(&value.value).ok())
            .unwrap_or_default();
        let endpoints: Vec<Endpoint> = targets.iter().map(|t| t.endpoint.clone()).collect();
        outbox.keep_only(&endpoints);
        Ok(Self {
            targets,
            endpoints,
            outbox: Mutex::new(outbox),
            sending: Mutex::default(),
            places: Arc::new(Semaphore::new(SENDING_MAX)),
            wake: Notify::new(),
            store,
            fence,
            metrics,
        })
    }

    /// Works until `stop`.
    pub async fn run(self: Arc<Self>, handle: Handle, stop: CancellationToken) {
        let mut written = self.outbox().clone();
        loop {
            let Ok((alerts, now)) = self.look(&handle).await else {
                return;
            };
            let at = Moment {
                now,
                unix_ms: unix_ms(),
            };
            self.outbox()
                .observe(alerts, &self.endpoints, at, &mut random_u64);
            self.count();
            self.write(&mut written).await;
            self.send_due(now);
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
        self.write(&mut written).await;
    }

    async fn look(self: &Arc<Self>, handle: &Handle) -> Result<(Vec<Alert>, Timestamp), Gone> {
        let webhooks = Arc::clone(self);
        let look = move |seen: &Seen<'_>| {
            let now = seen.now;
            let words = |kind, subject: &str| webhooks.outbox().needs_words(kind, subject, now);
            (seen.control.alerts(&words), now)
        };
        handle.ask(look).await
    }

    fn count(&self) {
        let outbox = self.outbox();
        for (kind, gauge) in Kind::ALL.into_iter().zip(&self.metrics.alerts) {
            gauge.set(outbox.standing(kind) as u64);
        }
    }

    /// Writes what changed. A store that fails must not keep people from hearing of it. Where nobody
    /// is told there is nothing to remember: who is named later hears of all that stands then.
    async fn write(&self, written: &mut Outbox) {
        let now = self.outbox().clone();
        if now == *written || self.targets.is_empty() {
            return;
        }
        let mut write = batch(&self.fence);
        write.puts = vec![(key(), to_json(&now))];
        match self.store.commit(write).await {
            Ok(Committed::Ok(_)) => *written = now,
            Ok(_) => tracing::warn!("webhooks are not written: another server decides"),
            Err(error) => tracing::warn!(%error, "webhooks are not written; tried again"),
        }
    }

    fn send_due(self: &Arc<Self>, now: Timestamp) {
        let due: Vec<Delivery> = self.outbox().due(now).cloned().collect();
        for delivery in due {
            let Some(target) = self.target(&delivery.endpoint).cloned() else {
                continue;
            };
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
                return;
            };
            let way = (delivery.id.clone(), delivery.endpoint.clone());
            if !self.sending().insert(way.clone()) {
                continue;
            }
            let webhooks = Arc::clone(self);
            tokio::spawn(async move {
                let sent = send::send(&target, &delivery, unix_ms() / 1000).await;
                webhooks.sent(&way, &sent, now);
                drop(place);
            });
        }
    }

    fn sent(&self, way: &(String, String), sent: &Result<(), Failed>, now: Timestamp) {
        let (id, endpoint) = (way.0.as_str(), way.1.as_str());
        match sent {
            Ok(()) => self.outbox().delivered(id, endpoint),
            Err(why) => {
                tracing::warn!(webhook = endpoint, id, %why, "a message did not arrive");
                let said = why.to_string();
                self.outbox()
                    .failed((id, endpoint), &said, why.is_gone(), now, &mut random_u64);
            }
        }
        self.sending().remove(way);
        self.wake.notify_one();
    }

    /// How each webhook does, as the settings list them.
    pub fn views(&self) -> Vec<View> {
        let outbox = self.outbox();
        let view = |target: &Target| {
            let name = &target.endpoint.name;
            View {
                name: name.clone(),
                place: target.place(),
                kinds: target
                    .endpoint
                    .kinds
                    .iter()
                    .map(|kind| kind.name())
                    .collect(),
                waiting: outbox.waiting(name),
                trouble: outbox.trouble(name).to_owned(),
            }
        };
        self.targets.iter().map(view).collect()
    }

    /// Dead letters, newest first; and how many were dropped for newer ones.
    pub fn dead(&self) -> (Vec<Delivery>, u64) {
        let outbox = self.outbox();
        (outbox.dead().cloned().collect(), outbox.dropped)
    }

    /// Sends a message of a person's own; its id, or nothing where there is no such webhook.
    pub fn test(&self, name: &str, by: &str, now: Timestamp) -> Option<String> {
        let endpoint = self.target(name)?.endpoint.clone();
        let at = Moment {
            now,
            unix_ms: unix_ms(),
        };
        let id = self.outbox().test(&endpoint, by, at, &mut random_u64);
        self.wake.notify_one();
        id
    }

    /// Sends dead letters again, one or all; how many.
    pub fn replay(&self, id: Option<&str>, now: Timestamp) -> usize {
        let count = self.outbox().replay(id, now);
        self.wake.notify_one();
        count
    }

    fn target(&self, name: &str) -> Option<&Target> {
        self.targets.iter().find(|t| t.endpoint.name == name)
    }

    // A panic while one was held leaves it whole: each change is one call of the pure part.
    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sending(&self) -> MutexGuard<'_, BTreeSet<(String, String)>> {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
