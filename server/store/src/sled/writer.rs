//! The one thread that writes: gathers a group, decides it, writes it as one batch, makes it durable,
//! answers. When the database fails it is opened again, and what is there then is the answer.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use ::sled::Db;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use super::Options;
use super::folder::{Folder, Opened};
use super::group::{Answer, Group, Work};
use super::rows::{COUNTERS_ROW, FORMAT, FORMAT_ROW};
use super::state::State;
use super::view::{View, read_failed};
use crate::{Committed, StoreError};

/// Most jobs of a group.
const GROUP_JOBS: usize = 512;

/// A group takes no further job from here on. With the largest commit on top it stays below a
/// segment, so that sled reuses none that an unsynced group replaced.
pub(super) const GROUP_BYTES: usize = 256 << 10;

/// Between two tries to open a failed database again.
const RETRY: Duration = Duration::from_millis(250);

/// Rows of a group, sorted; `None` deletes.
type Rows = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// One thing asked of the writer.
#[derive(Debug)]
pub(super) struct Job {
    pub work: Work,
    pub reply: oneshot::Sender<Result<Answer, StoreError>>,
    /// Its place in the bounded queue, kept until it is answered.
    pub _place: OwnedSemaphorePermit,
}

/// Where an answer goes, and the request id that settles it should the group fail.
struct Waiting {
    reply: oneshot::Sender<Result<Answer, StoreError>>,
    request_id: Option<[u8; 16]>,
    _place: OwnedSemaphorePermit,
}

/// The open database.
struct Base {
    db: Db,
    file: std::fs::File,
    state: State,
}

/// Why the database must be opened again.
#[derive(Debug, Clone)]
struct Broken {
    why: String,
    /// Whether pages may be lost from the system's cache, so that the file must be written anew.
    rewrite: bool,
    tried: Option<Instant>,
}

/// The writer.
pub(super) struct Writer {
    folder: Folder,
    options: Options,
    view: Arc<View>,
    hint: watch::Sender<u64>,
    jobs: Receiver<Job>,
    base: Option<Base>,
    broken: Option<Broken>,
    /// Jobs of the last group: as many are worth a short wait.
    expected: usize,
    #[cfg(feature = "planted-bugs")]
    pub planted: Arc<std::sync::Mutex<Option<crate::PlantedBug>>>,
}

impl Writer {
    /// Opens the folder; also the names of files that had to be set aside.
    pub fn open(
        folder: Folder,
        options: Options,
        hint: watch::Sender<u64>,
        jobs: Receiver<Job>,
    ) -> Result<(Self, Vec<String>), StoreError> {
        let mut writer = Self {
            folder,
            options,
            view: Arc::default(),
            hint,
            jobs,
            base: None,
            broken: None,
            expected: 1,
            #[cfg(feature = "planted-bugs")]
            planted: Arc::default(),
        };
        let set_aside = writer.open_base(false)?;
        Ok((writer, set_aside))
    }

    /// What readers see.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view)
    }

    /// Runs until the last sender of jobs is gone.
    pub fn run(mut self) {
        loop {
            let first = if self.broken.is_some() {
                match self.jobs.recv_timeout(RETRY) {
                    Ok(job) => job,
                    Err(RecvTimeoutError::Timeout) => {
                        // Without a job too, so that readers get their database back.
                        let _ = self.open_again();
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            } else {
                match self.jobs.recv() {
                    Ok(job) => job,
                    Err(_) => break,
                }
            };
            let group = self.gather(first);
            self.expected = group.len();
            self.write(group);
        }
        self.close();
    }

    /// The jobs queued by now; waits up to `linger` only while fewer came than last time.
    fn gather(&self, first: Job) -> Vec<Job> {
        let began = Instant::now();
        let mut bytes = first.work.bytes();
        let mut group = vec![first];
        while group.len() < GROUP_JOBS && bytes < GROUP_BYTES {
            let job = match self.jobs.try_recv() {
                Ok(job) => job,
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {
                    let left = self.options.linger.saturating_sub(began.elapsed());
                    if group.len() >= self.expected || left.is_zero() {
                        break;
                    }
                    match self.jobs.recv_timeout(left) {
                        Ok(job) => job,
                        Err(_) => break,
                    }
                }
            };
            bytes += job.work.bytes();
            group.push(job);
        }
        group
    }

    fn write(&mut self, group: Vec<Job>) {
        if let Err(why) = self.open_again() {
            for job in group {
                answer(job.reply, Err(failed(&why)));
            }
            return;
        }
        let group = self.refuse_without_room(group);
        if group.is_empty() {
            return;
        }
        let (works, waiting): (Vec<Work>, Vec<Waiting>) = group.into_iter().map(split).unzip();
        #[cfg(feature = "planted-bugs")]
        let works = self.with_planted(works);
        let (answers, rows) = match self.decide(works) {
            Ok(decided) => decided,
            Err(why) => {
                // Nothing of this group was written. sled may have met a failure of its own
                // background writes, so what it holds is not trusted; damaged rows stay as they are.
                let rewrite = matches!(why, StoreError::Failed { .. });
                self.broke(why.to_string(), rewrite);
                // Tried again with the next job, or after a while; the jobs are told either way.
                let _ = self.open_again();
                for waiting in waiting {
                    answer(waiting.reply, Err(failed(&why.to_string())));
                }
                return;
            }
        };
        if rows.is_empty() {
            deliver(waiting, answers);
            return;
        }
        self.write_rows(&rows, waiting, answers);
    }

    #[cfg(not(feature = "planted-bugs"))]
    fn write_rows(&mut self, rows: &Rows, waiting: Vec<Waiting>, answers: Vec<Answer>) {
        self.make_durable(rows, waiting, answers);
    }

    #[cfg(feature = "planted-bugs")]
    fn planted(&self) -> Option<crate::PlantedBug> {
        *self
            .planted
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    #[cfg(feature = "planted-bugs")]
    fn with_planted(&mut self, mut works: Vec<Work>) -> Vec<Work> {
        match (self.planted(), &mut self.base) {
            (Some(crate::PlantedBug::RequestIdsForgotten), Some(base)) => {
                base.state.requests.clear();
            }
            (Some(crate::PlantedBug::ChecksIgnored), _) => {
                for work in &mut works {
                    if let Work::Commit(prepared) = work {
                        prepared.batch.checks.clear();
                    }
                }
            }
            _ => {}
        }
        works
    }

    #[cfg(feature = "planted-bugs")]
    fn write_rows(&mut self, rows: &Rows, waiting: Vec<Waiting>, answers: Vec<Answer>) {
        match self.planted() {
            Some(crate::PlantedBug::AcknowledgeBeforeDurable) => {
                deliver(waiting, answers);
                self.make_durable(rows, Vec::new(), Vec::new());
            }
            _ => self.make_durable(rows, waiting, answers),
        }
    }

    fn make_durable(&mut self, rows: &Rows, waiting: Vec<Waiting>, answers: Vec<Answer>) {
        let written = catch_unwind(AssertUnwindSafe(|| self.apply(rows)));
        match written.unwrap_or_else(|_| Err(("sled gave up while writing".into(), true))) {
            Ok(()) => {
                self.view.reveal();
                let newest = answers.iter().filter_map(|answer| match answer {
                    Answer::Committed(Committed::Ok(seq)) => Some(*seq),
                    _ => None,
                });
                if let Some(seq) = newest.max() {
                    self.hint.send_replace(seq);
                }
                deliver(waiting, answers);
            }
            Err((why, rewrite)) => {
                self.broke(why, rewrite);
                self.settle(waiting, answers);
            }
        }
    }

    /// Writes the rows and makes them durable; readers see them only afterwards.
    fn apply(&self, rows: &Rows) -> Result<(), (String, bool)> {
        let Some(base) = &self.base else {
            return Err(("the database is closed".into(), false));
        };
        let mut batch = ::sled::Batch::default();
        let mut before = BTreeMap::new();
        for (row, value) in rows {
            before.insert(row.clone(), base.db.get(row).map_err(sled_broke)?);
            match value {
                Some(value) => batch.insert(row.as_slice(), value.as_slice()),
                None => batch.remove(row.as_slice()),
            }
        }
        self.view.cover(before);
        base.db.apply_batch(batch).map_err(sled_broke)?;
        base.db.flush().map_err(sled_broke)?;
        let path = self.folder.db_path();
        let synced = self.options.disk.sync_data(&base.file, &path);
        synced.map_err(|why| (format!("syncing {}: {why}", path.display()), true))
    }

    /// After a failed write: what the database holds when it is open again is what was done.
    fn settle(&mut self, waiting: Vec<Waiting>, answers: Vec<Answer>) {
        let why = self.broken.as_ref().map(|broken| broken.why.clone());
        let why = why.unwrap_or_default();
        let open = self.open_again().is_ok();
        for (waiting, decided) in waiting.into_iter().zip(answers) {
            let wrote = matches!(decided, Answer::Committed(Committed::Ok(_)));
            let found = match (&waiting.request_id, &self.base) {
                (Some(id), Some(base)) if open => base.state.requests.get(id),
                _ => None,
            };
            let settled = match found {
                Some(seq) => Ok(Answer::Committed(Committed::Ok(*seq))),
                None if wrote && !open => Ok(Answer::Committed(Committed::Unknown)),
                None => Err(failed(&why)),
            };
            answer(waiting.reply, settled);
        }
    }

    fn decide(&mut self, works: Vec<Work>) -> Result<(Vec<Answer>, Rows), StoreError> {
        let bounds = self.options.bounds;
        let Some(base) = &mut self.base else {
            return Err(failed("the database is closed"));
        };
        let decided = catch_unwind(AssertUnwindSafe(|| {
            let mut group = Group::new(&base.db, &mut base.state, bounds);
            let answers: Result<Vec<Answer>, StoreError> =
                works.into_iter().map(|work| group.add(work)).collect();
            Ok((answers?, group.finish()))
        }));
        decided.unwrap_or_else(|_| Err(failed("sled gave up while reading")))
    }

    /// Answers the jobs for which the disk has no room, before sled is touched; the others remain.
    /// Jobs that make room may use the reserve down to a quarter.
    fn refuse_without_room(&self, group: Vec<Job>) -> Vec<Job> {
        let least = self.options.min_free_bytes;
        // Where the system does not say, the write itself will.
        let free = self.options.disk.free_bytes(self.folder.path());
        let free = free.unwrap_or(u64::MAX);
        if free >= least {
            return group;
        }
        let mut remaining = Vec::new();
        for job in group {
            if job.work.frees() && free >= least / 4 {
                remaining.push(job);
                continue;
            }
            let known = match (&job.work, &self.base) {
                (Work::Commit(prepared), Some(base)) => {
                    base.state.requests.get(&prepared.batch.request_id)
                }
                _ => None,
            };
            let refused = match known {
                Some(seq) => Ok(Answer::Committed(Committed::Ok(*seq))),
                None => Err(StoreError::Failed {
                    doing: format!("writing the store in {}", self.folder.path().display()),
                    why: format!("{free} bytes are free, it leaves {least} untouched"),
                    next: "free disk space; the store goes on by itself",
                }),
            };
            answer(job.reply, refused);
        }
        remaining
    }

    fn broke(&mut self, why: String, rewrite: bool) {
        self.broken = Some(Broken {
            why,
            rewrite,
            tried: None,
        });
    }

    /// Opens a broken database again, at most every [`RETRY`]; `Err` says why it is not open.
    fn open_again(&mut self) -> Result<(), String> {
        let Some(broken) = &mut self.broken else {
            return Ok(());
        };
        if broken.tried.is_some_and(|tried| tried.elapsed() < RETRY) {
            return Err(broken.why.clone());
        }
        broken.tried = Some(Instant::now());
        let rewrite = broken.rewrite;
        let free = self.options.disk.free_bytes(self.folder.path());
        if free.is_ok_and(|free| free < self.options.min_free_bytes / 4) {
            // Opening writes a snapshot. Readers keep the old database until there is room.
            return Err(broken.why.clone());
        }
        self.close();
        let opened = self.open_base(rewrite).map_err(|why| why.to_string());
        if let (Err(why), Some(broken)) = (&opened, &mut self.broken) {
            broken.why.clone_from(why);
        } else {
            self.broken = None;
        }
        opened.map(|_| ())
    }

    fn open_base(&mut self, rewrite: bool) -> Result<Vec<String>, StoreError> {
        let Opened {
            db,
            file,
            set_aside,
        } = self.folder.open(&self.options, rewrite)?;
        let state = match State::load(&db)? {
            Some(state) if state.counted_anew => {
                // Readers see the row, and it says nothing of signals yet.
                self.write_first(&db, &file, &state)?;
                state
            }
            Some(state) => state,
            None => {
                let state = State::default();
                self.write_first(&db, &file, &state)?;
                state
            }
        };
        self.view.show(db.clone());
        self.base = Some(Base { db, file, state });
        Ok(set_aside)
    }

    /// Writes what must be there before anything else is.
    fn write_first(&self, db: &Db, file: &std::fs::File, state: &State) -> Result<(), StoreError> {
        let mut batch = ::sled::Batch::default();
        batch.insert(FORMAT_ROW, &FORMAT.to_be_bytes());
        batch.insert(COUNTERS_ROW, state.counters.bytes());
        db.apply_batch(batch).map_err(|why| read_failed(&why))?;
        db.flush().map_err(|why| read_failed(&why))?;
        let synced = self.options.disk.sync_data(file, &self.folder.db_path());
        synced.map_err(|why| failed(&why.to_string()))
    }

    fn close(&mut self) {
        let (shown, base) = (self.view.hide(), self.base.take());
        // A failed sled may panic once more when it is dropped; it is gone either way.
        let _ = catch_unwind(AssertUnwindSafe(|| drop((shown, base))));
    }
}

fn split(job: Job) -> (Work, Waiting) {
    let request_id = match &job.work {
        Work::Commit(prepared) => Some(prepared.batch.request_id),
        _ => None,
    };
    let waiting = Waiting {
        reply: job.reply,
        request_id,
        _place: job._place,
    };
    (job.work, waiting)
}

fn deliver(waiting: Vec<Waiting>, answers: Vec<Answer>) {
    for (waiting, decided) in waiting.into_iter().zip(answers) {
        answer(waiting.reply, Ok(decided));
    }
}

fn answer(reply: oneshot::Sender<Result<Answer, StoreError>>, answer: Result<Answer, StoreError>) {
    // Whoever asked may have gone away; what was done stays done.
    let _ = reply.send(answer);
}

/// What sled's failure means: only a full disk surely loses no page already written.
fn sled_broke(why: ::sled::Error) -> (String, bool) {
    let full = matches!(&why, ::sled::Error::Io(why) if why.kind() == io::ErrorKind::StorageFull);
    (why.to_string(), !full)
}

fn failed(why: &str) -> StoreError {
    StoreError::Failed {
        doing: "writing the store".into(),
        why: why.to_owned(),
        next: "ask again with the same request id; free disk space or mend the disk if it stays so",
    }
}
