//! The embedded store: sled 0.34 used so that its known faults do no harm.
//!
//! One thread writes; every group is one `apply_batch`, a `flush`, and a `sync_data` on a second
//! handle of the `db` file, because sled's own `sync_file_range` flushes neither the file's size nor
//! the device's cache. Readers never see what is not durable.

mod disk;
pub(crate) mod folder;
mod group;
pub(crate) mod inspect;
mod rows;
mod state;
mod view;
mod writer;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot, watch};

pub use disk::{Disk, OsDisk};

use self::folder::Folder;
use self::group::{Answer, TRIM_ROWS, Work};
use self::rows::{
    AUDIT, CHANGE, COUNTERS_ROW, SIGNAL, VALUE, key_from, kind_end, number, number_row, pair_row,
    table_end, value_row,
};
use self::state::Counters;
use self::view::{Look, Row, View, next_row};
use self::writer::{GROUP_BYTES, Job, Writer};
use crate::prepared::{Prepared, check_key, check_value, refuse_trim};
use crate::{
    Batch, Bounds, Change, Changes, Committed, Fence, HOST_ATTRIBUTES, Key, Store, StoreError,
    StoredAudit, StoredSignal, Versioned,
};

/// Signals looked at in one step of a trim.
const TRIM_SCAN: usize = 1024;

/// How the embedded store runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// sled's page cache, in bytes.
    pub cache_bytes: u64,
    /// Writes are refused while the file system has fewer free bytes.
    pub min_free_bytes: u64,
    /// Writes that may wait for the writer; further ones wait at their callers.
    pub queue: usize,
    /// Longest wait for further writes while several writers are about.
    pub linger: Duration,
    /// What is remembered.
    pub bounds: Bounds,
    /// The steps that make things durable.
    pub disk: Arc<dyn Disk>,
}

impl Default for Options {
    /// 32 MiB of cache, 64 MiB left free, 1,024 queued writes, groups of 1 ms.
    fn default() -> Self {
        Self {
            cache_bytes: 8 << 20,
            min_free_bytes: 64 << 20,
            queue: 1024,
            linger: Duration::from_millis(1),
            bounds: Bounds::default(),
            disk: Arc::new(OsDisk),
        }
    }
}

/// The embedded store. Dropping it finishes the queued writes and closes the database.
#[derive(Debug)]
pub struct Sled {
    view: Arc<View>,
    hint: watch::Sender<u64>,
    places: Arc<Semaphore>,
    jobs: Option<SyncSender<Job>>,
    writer: Option<JoinHandle<()>>,
    set_aside: Vec<String>,
    #[cfg(feature = "planted-bugs")]
    planted: Arc<std::sync::Mutex<Option<crate::PlantedBug>>>,
}

impl Sled {
    /// Opens the store in a folder, made if absent. Blocks: call it before serving. Torn snapshots
    /// are set aside (see [`Sled::set_aside`]) and rebuilt from the log.
    ///
    /// # Errors
    /// `Failed` if it is open already or the folder or disk does not allow it; `Damaged` if the log
    /// itself cannot be read.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self, StoreError> {
        let queue = options.queue.clamp(1, 1 << 16);
        let (jobs, queued) = sync_channel(queue);
        let hint = watch::Sender::new(0);
        let folder = Folder::take(path.as_ref(), &options)?;
        let (writer, set_aside) = Writer::open(folder, options, hint.clone(), queued)?;
        let view = writer.view();
        #[cfg(feature = "planted-bugs")]
        let planted = Arc::clone(&writer.planted);
        let thread = std::thread::Builder::new().name("ringward-store".into());
        let thread = thread.spawn(move || writer.run());
        let thread = thread.map_err(|why| StoreError::Failed {
            doing: "starting the store's writer".into(),
            why: why.to_string(),
            next: "raise the limit of threads",
        })?;
        Ok(Self {
            view,
            hint,
            places: Arc::new(Semaphore::new(queue)),
            jobs: Some(jobs),
            writer: Some(thread),
            set_aside,
            #[cfg(feature = "planted-bugs")]
            planted,
        })
    }

    /// Names of the files that had to be set aside at this opening; they are in `set-aside/`.
    pub fn set_aside(&self) -> &[String] {
        &self.set_aside
    }

    /// Plants a fault, or takes it out.
    #[cfg(feature = "planted-bugs")]
    pub fn plant(&self, bug: Option<crate::PlantedBug>) {
        *self
            .planted
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = bug;
    }

    /// Hands work to the writer; `None` if it went away without an answer.
    async fn ask(&self, work: Work) -> Option<Result<Answer, StoreError>> {
        let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
        let (reply, answer) = oneshot::channel();
        let job = Job {
            work,
            reply,
            _place: place,
        };
        // There are as many places as the channel holds, so it is never full.
        self.jobs.as_ref()?.try_send(job).ok()?;
        answer.await.ok()
    }

    async fn told(&self, work: Work) -> Result<Answer, StoreError> {
        self.ask(work).await.unwrap_or_else(|| Err(writer_gone()))
    }

    async fn read<T: Send + 'static>(
        &self,
        reader: impl FnOnce(&View) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let view = Arc::clone(&self.view);
        let read = tokio::task::spawn_blocking(move || reader(&view)).await;
        read.unwrap_or_else(|why| {
            Err(StoreError::Failed {
                doing: "reading the store".into(),
                why: why.to_string(),
                next: "ask again; if it stays so run `ringward-server doctor`",
            })
        })
    }

    async fn trim_steps(&self, work: impl Fn() -> Work) -> Result<u64, StoreError> {
        let mut dropped = 0;
        loop {
            let Answer::Dropped(step) = self.told(work()).await? else {
                return Err(writer_gone());
            };
            dropped += step;
            if step < TRIM_ROWS {
                return Ok(dropped);
            }
        }
    }

    async fn trim_signals(&self, before: u64) -> Result<u64, StoreError> {
        let (mut dropped, mut start) = (0, vec![SIGNAL]);
        loop {
            let from = start.clone();
            let page = self.read(move |view| {
                view.scan(from, &table_end(SIGNAL), TRIM_SCAN, |_, row| {
                    let (host, seq) = signal_of(row)?;
                    Ok((host, seq, number(&row.1, 0, "a signal")?))
                })
            });
            let page = page.await?;
            let Some((host, seq, _)) = page.last() else {
                return Ok(dropped);
            };
            start = next_row(pair_row(SIGNAL, *host, *seq));
            let old = page.into_iter().filter(|(_, _, version)| *version < before);
            let old: Vec<(u64, u64)> = old.map(|(host, seq, _)| (host, seq)).collect();
            if old.is_empty() {
                continue;
            }
            if let Answer::Dropped(step) = self.told(Work::DropSignals(old)).await? {
                dropped += step;
            }
        }
    }
}

impl Drop for Sled {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            // It catches its panics; there is nobody left to tell.
            let _ = writer.join();
        }
    }
}

impl Store for Sled {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, StoreError> {
        let row = value_row(key.kind, &key.id);
        self.read(move |view| {
            view.look(|look| {
                let stored = look.row(&row)?;
                stored.map(|stored| versioned(look, &stored)).transpose()
            })
        })
        .await
    }

    async fn list(
        &self,
        kind: &'static str,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Key, Versioned)>, StoreError> {
        let start = match after {
            Some(after) => next_row(value_row(kind, after)),
            None => value_row(kind, &[]),
        };
        self.read(move |view| {
            view.scan(start, &kind_end(kind), limit, |look, (row, stored)| {
                let id = row[kind.len() + 2..].to_vec();
                Ok((Key { kind, id }, versioned(look, stored)?))
            })
        })
        .await
    }

    async fn list_all(
        &self,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Versioned)>, StoreError> {
        let start = match after {
            Some(after) => next_row(value_row(after.kind, &after.id)),
            None => vec![VALUE],
        };
        self.read(move |view| {
            view.scan(start, &table_end(VALUE), limit, |look, (row, stored)| {
                Ok((key_from(&row[1..])?, versioned(look, stored)?))
            })
        })
        .await
    }

    async fn commit(&self, batch: Batch) -> Result<Committed, StoreError> {
        let prepared = Box::new(Prepared::new(batch)?);
        match self.ask(Work::Commit(prepared)).await {
            Some(Ok(Answer::Committed(committed))) => Ok(committed),
            Some(Err(why)) => Err(why),
            Some(Ok(_)) | None => Ok(Committed::Unknown),
        }
    }

    async fn put_hosts(&self, hosts: Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), StoreError> {
        for (id, value) in &hosts {
            check_key(HOST_ATTRIBUTES, id)?;
            check_value("the attributes of a host", value)?;
        }
        for part in parts(hosts, |(id, value)| id.len() + value.len()) {
            self.told(Work::Hosts(part)).await?;
        }
        Ok(())
    }

    async fn add_signals(&self, signals: Vec<(u64, u64, Vec<u8>)>) -> Result<(), StoreError> {
        for (_, _, value) in &signals {
            check_value("a signal", value)?;
        }
        for part in parts(signals, |(_, _, value)| value.len()) {
            self.told(Work::Signals(part)).await?;
        }
        Ok(())
    }

    async fn signals(
        &self,
        host: Option<u64>,
        after: Option<(u64, u64)>,
        limit: usize,
    ) -> Result<Vec<StoredSignal>, StoreError> {
        let first = host.map_or(vec![SIGNAL], |host| number_row(SIGNAL, host));
        let after = after.map(|(host, seq)| next_row(pair_row(SIGNAL, host, seq)));
        let start = after.map_or(first.clone(), |after| after.max(first));
        let end = host.and_then(|host| host.checked_add(1));
        let end = end.map_or(table_end(SIGNAL), |host| number_row(SIGNAL, host));
        self.read(move |view| {
            view.scan(start, &end, limit, |look, row| {
                let (host, seq) = signal_of(row)?;
                let value = look.bytes(after_head(row, 8)?)?;
                Ok(StoredSignal { host, seq, value })
            })
        })
        .await
    }

    async fn count_signals(&self) -> Result<u64, StoreError> {
        self.read(|view| Ok(shown_counters(view)?.signals)).await
    }

    async fn audit(&self, from: u64, limit: usize) -> Result<Vec<StoredAudit>, StoreError> {
        self.read(move |view| {
            let start = number_row(AUDIT, from);
            view.scan(start, &table_end(AUDIT), limit, audit_of)
        })
        .await
    }

    async fn changes(&self, after: u64, limit: usize) -> Result<Changes, StoreError> {
        self.read(move |view| changes(view, after, limit)).await
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
        check_key(name, holder.as_bytes())?;
        let work = Work::Lease {
            name: name.to_owned(),
            holder: holder.to_owned(),
            now_ms,
            ttl_ms,
        };
        match self.told(work).await? {
            Answer::Lease(fence) => Ok(fence),
            _ => Err(writer_gone()),
        }
    }

    async fn trim(&self, kind: &'static str, before: u64) -> Result<u64, StoreError> {
        match kind {
            "signal" => self.trim_signals(before).await,
            "change" => self.trim_steps(|| Work::TrimChanges(before)).await,
            "request" => self.trim_steps(|| Work::TrimRequests(before)).await,
            _ => Err(refuse_trim(kind)),
        }
    }
}

/// A page of the feed, ending with a whole commit.
fn changes(view: &View, after: u64, limit: usize) -> Result<Changes, StoreError> {
    let (limit, end) = (limit.max(1), table_end(CHANGE));
    let start = number_row(CHANGE, after.saturating_add(1));
    let mut page = view.scan(start, &end, limit.saturating_add(1), change_of)?;
    if page.len() > limit {
        let cut = page[limit].seq;
        page.retain(|change| change.seq < cut);
        if page.is_empty() {
            let rest = number_row(CHANGE, cut.saturating_add(1));
            page = view.scan(number_row(CHANGE, cut), &rest, usize::MAX, change_of)?;
        }
    }
    // Read last: had anything been trimmed while the page was read, the floor says so.
    let floor = shown_counters(view)?.feed_floor;
    if after < floor {
        return Ok(Changes::Compacted(floor));
    }
    Ok(Changes::Page(page))
}

/// The counters as readers may see them.
fn shown_counters(view: &View) -> Result<Counters, StoreError> {
    view.look(|look| {
        let counters = look.row(COUNTERS_ROW)?;
        let counters = counters.map(|bytes| Counters::read(&bytes)).transpose()?;
        Ok(counters.unwrap_or_default())
    })
}

fn change_of(_: &Look<'_>, (row, key): &Row) -> Result<Change, StoreError> {
    Ok(Change {
        seq: number(row, 1, "a change")?,
        key: key_from(key)?,
    })
}

fn signal_of((row, _): &Row) -> Result<(u64, u64), StoreError> {
    Ok((number(row, 1, "a signal")?, number(row, 9, "a signal")?))
}

fn audit_of(look: &Look<'_>, row: &Row) -> Result<StoredAudit, StoreError> {
    let (head, payload) = row
        .1
        .split_first_chunk()
        .ok_or_else(|| rows::damaged("an audit entry", "it is too short"))?;
    Ok(StoredAudit {
        index: number(&row.0, 1, "an audit entry")?,
        leaf_hash: *head,
        entry: look.bytes(payload)?,
    })
}

fn after_head((_, stored): &Row, head: usize) -> Result<&[u8], StoreError> {
    let after = stored.get(head..);
    after.ok_or_else(|| rows::damaged("a value", "it is too short"))
}

fn versioned(look: &Look<'_>, stored: &[u8]) -> Result<Versioned, StoreError> {
    Ok(Versioned {
        version: number(stored, 0, "a value")?,
        value: look.bytes(&stored[8..])?,
    })
}

/// Cuts a bulk write into works of about one group each.
fn parts<T>(items: Vec<T>, bytes: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let (mut parts, mut sum) = (Vec::new(), GROUP_BYTES);
    for item in items {
        let size = bytes(&item) + crate::limits::ITEM_BYTES;
        if sum + size > GROUP_BYTES {
            parts.push(Vec::new());
            sum = 0;
        }
        sum += size;
        if let Some(part) = parts.last_mut() {
            part.push(item);
        }
    }
    parts
}

fn writer_gone() -> StoreError {
    StoreError::Failed {
        doing: "writing the store".into(),
        why: "its writer stopped".into(),
        next: "restart ringward-server",
    }
}
