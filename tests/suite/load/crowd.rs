//! Agents by the thousand: one task each, all following the same orders.

use crate::dialect::{Dialect, Heard};
use crate::line::{self, Target};
use anyhow::{Result, bail};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;

/// Bytes read at once.
const READ: usize = 4 * 1024;
/// Bytes that must be allowed before anything is sent: the largest batch of signals takes less.
const CREDIT_MIN: i64 = 32 * 1024;
/// A real agent's pauses between tries: 1 s doubled up to 60 s, each jittered down to a half.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Connections being opened at once, where agents do not come of their own accord.
const OPENING: usize = 64;

/// What all agents should do; each makes it so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Orders {
    /// Keep a session.
    pub connected: bool,
    /// Come back as real agents do, each after its own pause, instead of one after another.
    pub by_themselves: bool,
    /// Heartbeats sent by each so far.
    pub beats: u64,
    /// Time over which the agents spread a heartbeat; none: all at once.
    pub spread: Duration,
    /// Signals told by each so far, counted from 1.
    pub signals: u64,
    /// Signals in one message.
    pub batch: u64,
    /// With each step another hundredth of the agents opens a new session.
    pub churn: u64,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Counts {
    /// Sessions that stand now.
    pub ready: AtomicU64,
    /// Sessions that stood, ever.
    pub opened: AtomicU64,
    /// Tries that failed.
    pub failed: AtomicU64,
    /// Heartbeats sent.
    pub beats: AtomicU64,
    /// Heartbeats echoed.
    pub echoes: AtomicU64,
    /// Signals that are durable, over all agents.
    pub durable: AtomicU64,
}

struct Shared {
    target: Mutex<Target>,
    counts: Counts,
    opening: Semaphore,
    started: Instant,
    /// When each agent was told last, µs since the start; its lowest bit says whether all is stopped.
    told: Vec<AtomicU64>,
    /// Signals of each agent that are durable.
    durable: Vec<AtomicU32>,
    /// When hosts said that a release failed on them.
    failed: Mutex<Vec<u64>>,
}

/// The crowd.
pub struct Crowd {
    shared: Arc<Shared>,
    orders: watch::Sender<Orders>,
    tasks: Vec<JoinHandle<()>>,
}

/// Makes the dialect of an agent: its number, and the seq of its next signal.
pub type Speak<D> = fn(usize, u64) -> D;

impl Crowd {
    /// Agents that do nothing yet, one for each TLS identity.
    pub fn new<D: Dialect>(
        target: Target,
        identities: &[Arc<ClientConfig>],
        speak: Speak<D>,
    ) -> Self {
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            counts: Counts::default(),
            opening: Semaphore::new(OPENING),
            started: Instant::now(),
            told: identities.iter().map(|_| AtomicU64::new(0)).collect(),
            durable: identities.iter().map(|_| AtomicU32::new(0)).collect(),
            failed: Mutex::default(),
        });
        let (orders, _) = watch::channel(Orders::default());
        let tasks = identities.iter().enumerate().map(|(index, tls)| {
            let agent = Agent {
                index,
                tls: Arc::clone(tls),
                shared: Arc::clone(&shared),
                orders: orders.subscribe(),
                speak,
                beats: 0,
                churned: 0,
            };
            tokio::spawn(agent.live())
        });
        let tasks = tasks.collect();
        Self {
            shared,
            orders,
            tasks,
        }
    }

    /// What came of the orders.
    pub fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.shared.told.len() as u64
    }

    /// The server is somewhere else now.
    pub fn moved(&self, target: Target) {
        *self.shared.target.lock().unwrap_or_else(|e| e.into_inner()) = target;
    }

    /// Changes the orders.
    pub fn order(&self, change: impl FnOnce(&mut Orders)) {
        self.orders.send_modify(change);
    }

    /// Signals of each agent that the server called durable.
    pub fn durable(&self) -> impl Iterator<Item = u64> + '_ {
        self.shared
            .durable
            .iter()
            .map(|n| u64::from(n.load(Relaxed)))
    }

    /// When hosts said that a release failed on them, since this was asked last; in order.
    pub fn take_failed(&self) -> Vec<u64> {
        let mut failed = self.shared.failed.lock().unwrap_or_else(|e| e.into_inner());
        let mut failed = std::mem::take(&mut *failed);
        failed.sort_unstable();
        failed
    }

    /// Microseconds on the crowd's clock.
    pub fn now_us(&self) -> u64 {
        micros(self.shared.started)
    }

    /// When each agent was told that all is stopped, or is not, if that was after `since_us`.
    pub fn told(&self, stopped: bool, since_us: u64) -> Vec<u64> {
        let told = self.shared.told.iter().map(|at| at.load(Relaxed));
        told.filter(|at| (at & 1 == 1) == stopped && at >> 1 >= since_us)
            .map(|at| at >> 1)
            .collect()
    }

    /// Waits until `is_so`, or fails after `patience`.
    ///
    /// # Errors
    /// It did not become so; `what` says what.
    pub async fn until(
        &self,
        what: &str,
        patience: Duration,
        mut is_so: impl FnMut(&Counts) -> bool,
    ) -> Result<()> {
        let end = Instant::now() + patience;
        while !is_so(self.counts()) {
            if Instant::now() > end {
                bail!(
                    "{what} did not come about within {} s: {:?}",
                    patience.as_secs(),
                    self.counts()
                );
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

struct Agent<D> {
    index: usize,
    tls: Arc<ClientConfig>,
    shared: Arc<Shared>,
    orders: watch::Receiver<Orders>,
    speak: Speak<D>,
    beats: u64,
    churned: u64,
}

impl<D: Dialect> Agent<D> {
    async fn live(mut self) {
        let mut tries = 0;
        loop {
            if self
                .orders
                .wait_for(|orders| orders.connected)
                .await
                .is_err()
            {
                return;
            }
            let by_themselves = self.orders.borrow().by_themselves;
            // An error is a session that ended, or was not to be had: the next one goes on.
            let welcomed = self.session(by_themselves).await.unwrap_or_else(|_| {
                self.shared.counts.failed.fetch_add(1, Relaxed);
                false
            });
            tries = if welcomed { 0 } else { tries + 1 };
            let bound = PAUSE_MIN.saturating_mul(1 << tries.min(6)).min(PAUSE_MAX);
            let pause = bound.mul_f64(0.5 + fastrand::f64() / 2.0);
            if self.orders.borrow().connected {
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// One session; whether it was welcomed.
    async fn session(&mut self, by_themselves: bool) -> Result<bool> {
        let target = *self.shared.target.lock().unwrap_or_else(|e| e.into_inner());
        let shared = Arc::clone(&self.shared);
        let mut turn = match by_themselves {
            true => None,
            false => Some(shared.opening.acquire().await?),
        };
        let stream = line::open(target, self.index, Arc::clone(&self.tls)).await?;
        let told = u64::from(self.shared.durable[self.index].load(Relaxed));
        let mut talk = Talk {
            stream,
            dialect: (self.speak)(self.index, told + 1),
            inbox: Vec::new(),
            out: Vec::new(),
            heard: Vec::new(),
            ready: false,
            asked: told,
            beat_at: None,
            ended: false,
        };
        talk.dialect.greeting(&mut talk.out);
        talk.flush().await?;
        let mut buffer = Vec::new();
        let ended = loop {
            if talk.ready {
                turn = None;
            }
            let orders = *self.orders.borrow_and_update();
            let churned = (orders.churn as usize + self.index).is_multiple_of(100);
            let leaves = orders.churn != self.churned && churned && talk.ready;
            self.churned = orders.churn;
            if !orders.connected || talk.ended || leaves {
                break Ok(());
            }
            if let Err(error) = self.follow(&orders, &mut talk).await {
                break Err(error);
            }
            buffer.clear();
            buffer.reserve(READ);
            let beat_at = talk.beat_at.unwrap_or_else(tokio::time::Instant::now);
            tokio::select! {
                read = talk.stream.read_buf(&mut buffer) => match read {
                    Ok(0) => break Ok(()),
                    Ok(_) => {
                        talk.inbox.extend(&buffer);
                        if let Err(error) = self.take(&mut talk).await {
                            break Err(error);
                        }
                    }
                    Err(error) => break Err(error.into()),
                },
                changed = self.orders.changed() => if changed.is_err() {
                    break Ok(());
                },
                () = tokio::time::sleep_until(beat_at), if talk.beat_at.is_some() => {}
            }
            if talk.inbox.is_empty() {
                // Ten thousand buffers that are empty should take no memory.
                talk.inbox = Vec::new();
                talk.out = Vec::new();
                buffer = Vec::new();
            }
        };
        drop(turn);
        if talk.ready {
            self.shared.counts.ready.fetch_sub(1, Relaxed);
        }
        ended.map(|()| talk.ready)
    }

    async fn follow(&mut self, orders: &Orders, talk: &mut Talk<D>) -> Result<()> {
        if !talk.ready {
            return Ok(());
        }
        // The rest follows when the server has given leave for more bytes.
        if self.beats < orders.beats && !orders.spread.is_zero() && talk.beat_at.is_none() {
            let wait = orders.spread.mul_f64(fastrand::f64());
            talk.beat_at = Some(tokio::time::Instant::now() + wait);
        }
        if talk
            .beat_at
            .is_some_and(|at| at > tokio::time::Instant::now())
        {
            return Ok(());
        }
        talk.beat_at = None;
        while self.beats < orders.beats && talk.dialect.credit() >= CREDIT_MIN {
            self.beats += 1;
            talk.dialect.beat(&mut talk.out);
            talk.flush().await?;
            self.shared.counts.beats.fetch_add(1, Relaxed);
        }
        let durable = u64::from(self.shared.durable[self.index].load(Relaxed));
        let has_leave = talk.dialect.credit() >= CREDIT_MIN;
        if durable < orders.signals && talk.asked <= durable && has_leave {
            let count = orders.batch.max(1).min(orders.signals - durable);
            talk.asked = durable + count;
            talk.dialect.signals(durable + 1, count, &mut talk.out);
            talk.flush().await?;
        }
        Ok(())
    }

    async fn take(&self, talk: &mut Talk<D>) -> Result<()> {
        talk.dialect
            .take(&mut talk.inbox, &mut talk.out, &mut talk.heard)?;
        let counts = &self.shared.counts;
        for heard in talk.heard.drain(..) {
            match heard {
                Heard::Ready if !talk.ready => {
                    talk.ready = true;
                    counts.ready.fetch_add(1, Relaxed);
                    counts.opened.fetch_add(1, Relaxed);
                }
                Heard::Told { stopped } => {
                    let at = micros(self.shared.started) << 1 | u64::from(stopped);
                    self.shared.told[self.index].store(at, Relaxed);
                }
                Heard::Durable(through) => {
                    let through32 = u32::try_from(through).unwrap_or(u32::MAX);
                    let before = self.shared.durable[self.index].fetch_max(through32, Relaxed);
                    let more = through32.saturating_sub(before);
                    counts.durable.fetch_add(u64::from(more), Relaxed);
                }
                Heard::Fails => {
                    let at = micros(self.shared.started);
                    let mut failed = self.shared.failed.lock().unwrap_or_else(|e| e.into_inner());
                    failed.push(at);
                }
                Heard::Echo => {
                    counts.echoes.fetch_add(1, Relaxed);
                }
                Heard::Ended => talk.ended = true,
                Heard::Ready | Heard::Answer => {}
            }
        }
        talk.flush().await
    }
}

/// A connection and what is said on it.
struct Talk<D> {
    stream: TlsStream<TcpStream>,
    dialect: D,
    inbox: Vec<u8>,
    out: Vec<u8>,
    heard: Vec<Heard>,
    ready: bool,
    /// Signals sent in this session.
    asked: u64,
    /// When the next heartbeat is due.
    beat_at: Option<tokio::time::Instant>,
    ended: bool,
}

impl<D> Talk<D> {
    /// Sends what there is to say, as one TLS record.
    async fn flush(&mut self) -> Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.stream.write_all(&self.out).await?;
        self.out.clear();
        self.stream.flush().await?;
        Ok(())
    }
}
