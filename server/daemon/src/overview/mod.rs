//! The fleet as people see it at a glance: one picture for everybody who looks, kept while somebody
//! does, and told as changes. Each host is put into words once, not once a reader.

mod picture;
mod turn;

pub use picture::Picture;

use crate::actor::{Change, Gone, Handle, Rings, Seen};
use picture::Row;
use ringward_domain::HostId;
use ringward_domain::host::{HostState, Labels, Os};
use ringward_domain::observed::PhaseObserved;
use ringward_domain::report::HostView;
use ringward_wire::pb::{FleetFeed, HostGlance};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Hosts put into words between two looks at the clock.
const PAGE: usize = 100;
/// Pause between two looks: readers see a change within it.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long the picture is kept fresh after somebody looked: a page that is loaded anew finds it.
const KEEP: Duration = Duration::from_secs(60);

/// Hosts as they look now; without a row those that are no longer there.
type Rows = Vec<(HostId, Option<Row>)>;

/// The picture, and whoever looks at it.
pub struct Overview {
    handle: Handle,
    picture: Mutex<Option<Picture>>,
    looked: Mutex<Option<Instant>>,
    revision: watch::Sender<u64>,
    works: tokio::sync::Mutex<()>,
}

impl Overview {
    /// Without a picture until somebody looks.
    pub fn new(handle: Handle) -> Arc<Self> {
        Arc::new(Self {
            handle,
            picture: Mutex::default(),
            looked: Mutex::default(),
            revision: watch::Sender::new(0),
            works: tokio::sync::Mutex::default(),
        })
    }

    /// What a reader does not have yet, in parts; waits where the picture is not painted yet.
    ///
    /// # Errors
    /// Where the server stops.
    pub async fn since(
        self: &Arc<Self>,
        picture: u64,
        revision: u64,
        texts: u32,
    ) -> Result<Vec<FleetFeed>, Gone> {
        let mut painted = self.revision.subscribe();
        self.look();
        loop {
            painted.borrow_and_update();
            let parts = self
                .picture()
                .as_ref()
                .map(|p| p.since(picture, revision, texts));
            if let Some(parts) = parts.filter(|parts| !parts.is_empty()) {
                return Ok(parts);
            }
            painted.changed().await.map_err(|_| Gone)?;
        }
    }

    fn look(self: &Arc<Self>) {
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        if self.try_work().is_some() {
            let this = Arc::clone(self);
            tokio::spawn(async move { this.keep_fresh().await });
        }
    }

    fn is_watched(&self) -> bool {
        let looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.is_some_and(|at| at.elapsed() < KEEP)
    }

    fn try_work(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        self.works.try_lock().ok()
    }

    fn picture(&self) -> MutexGuard<'_, Option<Picture>> {
        self.picture.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn keep_fresh(&self) {
        // Two that come at once: one works, the other finds it done.
        let Some(_alone) = self.try_work() else {
            return;
        };
        while self.is_watched() {
            if self.refresh().await.is_err() {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        *self.picture() = None;
    }

    async fn refresh(&self) -> Result<(), Gone> {
        let change = self.handle.ask(|seen| seen.take_touched()).await?;
        let fresh = self.picture().as_ref().is_none_or(Picture::is_full);
        if fresh {
            *self.picture() = Some(Picture::blank());
        }
        match change {
            Change::Hosts(hosts) if !fresh => {
                self.read(move |seen, after| {
                    let rings = seen.rings();
                    let from = after.map_or(0, |last| hosts.partition_point(|id| *id <= last));
                    let page = hosts[from..].iter().take(PAGE);
                    page.map(|id| (*id, seen.host(*id).map(|view| row(seen, &rings, view))))
                        .collect()
                })
                .await?;
            }
            Change::Hosts(_) | Change::Everything => self.read_all().await?,
        }
        let clock = self.handle.ask(|seen| seen.now.0).await?;
        let revision = self.picture().as_mut().map(|picture| picture.seal(clock));
        self.revision.send_replace(revision.unwrap_or_default());
        Ok(())
    }

    async fn read_all(&self) -> Result<(), Gone> {
        self.read(|seen, after| {
            let rings = seen.rings();
            let hosts = seen.control.hosts(None, true, after, PAGE).into_iter();
            let rows = hosts.map(|view| (view.id, Some(row(seen, &rings, view))));
            rows.collect()
        })
        .await
    }

    /// Reads what `page` answers, hosts by id, in turns of the task that decides.
    async fn read(
        &self,
        page: impl Fn(&Seen<'_>, Option<HostId>) -> Rows + Send + Sync + 'static,
    ) -> Result<(), Gone> {
        let page = Arc::new(page);
        let mut after = None;
        loop {
            let page = Arc::clone(&page);
            let ask = move |seen: &Seen<'_>| {
                let over = turn::Clock::start();
                turn::take(after, PAGE, || over.is_over(), |after| page(seen, after))
            };
            let (rows, next) = self.handle.ask(ask).await?;
            self.put(rows);
            if next.is_none() {
                return Ok(());
            }
            after = next;
        }
    }

    fn put(&self, rows: Rows) {
        if let Some(picture) = self.picture().as_mut() {
            for (id, row) in rows {
                picture.put(id, row);
            }
        }
    }
}

fn row(seen: &Seen<'_>, rings: &Rings<'_>, host: HostView) -> Row {
    let os = match host.facts.os {
        Os::Linux => "Linux",
        Os::Windows => "Windows",
    };
    let running = host
        .observed
        .packages
        .iter()
        .map(|p| match &p.running_version {
            Some(version) => format!("{} {version}", p.package),
            None => format!("{} ?", p.package),
        });
    Row {
        glance: glance(&host),
        ring: rings.of(host.id),
        system: format!("{os} {}", host.facts.os_build),
        labels: label_text(&host.labels),
        running: running.collect::<Vec<_>>().join(", "),
        attention: host.attention.join("; "),
        heard_ms: match host.connected {
            true => 0,
            // Never since the server started: as long ago as can be.
            false => seen.now.0.saturating_sub(host.last_seen_ms.0).max(1),
        },
        hostname: host.facts.hostname,
    }
}

fn glance(host: &HostView) -> HostGlance {
    if host.state == HostState::Retired {
        return HostGlance::Retired;
    }
    if !host.attention.is_empty() && host.state != HostState::Pending {
        return HostGlance::Attention;
    }
    if host.state == HostState::Pending {
        return HostGlance::Pending;
    }
    if !host.connected {
        return HostGlance::Silent;
    }
    match host.observed.attempt.as_ref().map(|attempt| &attempt.phase) {
        Some(
            PhaseObserved::Switching
            | PhaseObserved::Applied
            | PhaseObserved::Rebooting
            | PhaseObserved::Soaking { .. },
        ) => HostGlance::Trial,
        _ => HostGlance::Well,
    }
}

fn label_text(labels: &Labels) -> String {
    let pairs = labels.iter().map(|(key, value)| format!("{key}={value}"));
    pairs.collect::<Vec<_>>().join(" ")
}
