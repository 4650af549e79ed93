//! A host of nothing but signals: it numbers them, sends each until the server says that it is durable,
//! and forgets it then. What the server acknowledged and does not have is missing for good.

use anyhow::{Context as _, Result};
use ringward_agent::identity::Identity;
use ringward_domain::observed::Observed;
use ringward_domain::session::{Hello, PROTOCOL, ToAgent, ToServer};
use ringward_domain::signal::Signal;
use ringward_domain::{AgentStart, BootId, Epoch, Generation, Millis, SignalSeq};
use ringward_wire::pb::agent_service_client::AgentServiceClient;
use ringward_wire::session::signals_that_fit;
use ringward_wire::{client, pb};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// Pause before a session is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// What one chatterer has done.
#[derive(Debug, Default)]
pub struct Count {
    /// Signals numbered.
    pub told: AtomicU64,
    /// Signals that the server says are durable.
    pub acknowledged: AtomicU64,
    /// Sessions that were welcomed.
    pub sessions: AtomicU64,
    /// No further signal is made.
    pub quiet: AtomicBool,
    /// How long each signal took from its making until it was durable; empty where nobody asked.
    pub times: Option<Mutex<Vec<Duration>>>,
}

impl Count {
    /// One that keeps times.
    #[must_use]
    pub fn timed() -> Self {
        Self {
            times: Some(Mutex::default()),
            ..Self::default()
        }
    }

    /// The times kept since this was asked last.
    pub fn take_times(&self) -> Vec<Duration> {
        let times = self.times.as_ref();
        times.map_or_else(Vec::new, |times| {
            std::mem::take(&mut *times.lock().unwrap_or_else(PoisonError::into_inner))
        })
    }
}

/// The hello of a host that runs nothing.
#[must_use]
pub fn hello(hostname: &str, next: u64) -> Hello {
    Hello {
        protocol_min: PROTOCOL,
        protocol_max: PROTOCOL,
        capabilities: Vec::new(),
        agent_version: "0.1.0".to_owned(),
        boot: BootId([1; 16]),
        agent_start: AgentStart([2; 16]),
        boottime: Millis(1_000),
        last_stop_clean: Some(true),
        accepted: (Epoch(0), Generation(0)),
        next_signal: SignalSeq(next),
        facts: crate::hosts::facts(hostname),
        observed: Observed::default(),
    }
}

/// Opens a session with the identity in a state folder.
///
/// # Errors
/// No connection, or the server refuses.
pub async fn open(
    identity: &Identity,
    hello: Hello,
) -> Result<(mpsc::Sender<pb::AgentFrame>, Streaming<pb::ServerFrame>)> {
    let address = identity
        .host
        .servers
        .first()
        .context("the identity names no server")?;
    let channel = client::channel(address, Arc::clone(&identity.tls)).await?;
    let (out, frames) = mpsc::channel(64);
    out.send(ToServer::Hello(Box::new(hello)).into()).await?;
    let answers = AgentServiceClient::new(channel)
        .session(ReceiverStream::new(frames))
        .await?;
    Ok((out, answers.into_inner()))
}

struct Chatter {
    state_dir: PathBuf,
    every: Duration,
    /// Signals that are not known to be durable, each with when it was made.
    waiting: VecDeque<(Signal, Instant)>,
    count: Arc<Count>,
}

/// Chatters until the count is quiet and nothing waits.
///
/// # Errors
/// The identity cannot be read.
pub async fn run(state_dir: &Path, per_s: u32, count: Arc<Count>) -> Result<()> {
    let identity = Identity::load(state_dir)?;
    let every = Duration::from_secs(1) / per_s.max(1);
    let mut chatter = Chatter {
        state_dir: state_dir.to_owned(),
        every,
        waiting: VecDeque::new(),
        count,
    };
    while !(chatter.count.quiet.load(Relaxed) && chatter.waiting.is_empty()) {
        // A session that cannot be had, or ends, is what the test is about: the next one goes on.
        let session =
            tokio::time::timeout(Duration::from_secs(5), open(&identity, chatter.hello())).await;
        if let Ok(Ok((out, answers))) = session {
            let _ = chatter.session(out, answers).await;
        }
        chatter.make_for(PAUSE).await;
    }
    Ok(())
}

impl Chatter {
    fn hello(&self) -> Hello {
        let name = self
            .state_dir
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        hello(&name.unwrap_or_default(), self.count.told.load(Relaxed) + 1)
    }

    fn make(&mut self) -> Option<Signal> {
        if self.count.quiet.load(Relaxed) {
            return None;
        }
        let seq = self.count.told.fetch_add(1, Relaxed) + 1;
        let signal = crate::hosts::change(seq, "chatter");
        self.waiting.push_back((signal.clone(), Instant::now()));
        Some(signal)
    }

    /// Signals go on while there is no server.
    async fn make_for(&mut self, pause: Duration) {
        let end = tokio::time::Instant::now() + pause;
        while tokio::time::Instant::now() < end {
            tokio::time::sleep(self.every.min(pause)).await;
            self.make();
        }
    }

    async fn session(
        &mut self,
        out: mpsc::Sender<pb::AgentFrame>,
        mut answers: Streaming<pb::ServerFrame>,
    ) -> Result<()> {
        let mut unsent: Vec<Signal> = self
            .waiting
            .iter()
            .map(|(signal, _)| signal.clone())
            .collect();
        let mut tick = tokio::time::interval(self.every);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut welcome = false;
        loop {
            while welcome && !unsent.is_empty() {
                let rest = unsent.split_off(signals_that_fit(&unsent));
                out.send(ToServer::Signals(std::mem::replace(&mut unsent, rest)).into())
                    .await?;
            }
            if self.count.quiet.load(Relaxed) && self.waiting.is_empty() {
                return Ok(());
            }
            tokio::select! {
                frame = answers.message() => match frame?.map(ToAgent::try_from) {
                    None => return Ok(()),
                    Some(Ok(ToAgent::Welcome { .. })) => {
                        welcome = true;
                        self.count.sessions.fetch_add(1, Relaxed);
                    }
                    Some(Ok(ToAgent::SignalsDurable { through })) => self.acknowledged(through),
                    Some(Ok(ToAgent::ComeBack { .. })) => return Ok(()),
                    Some(_) => {}
                },
                _ = tick.tick() => unsent.extend(self.make()),
            }
        }
    }

    fn acknowledged(&mut self, through: SignalSeq) {
        while let Some((signal, made)) = self.waiting.front() {
            if signal.seq > through {
                break;
            }
            if let Some(times) = &self.count.times {
                let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
                times.push(made.elapsed());
            }
            self.waiting.pop_front();
        }
        self.count.acknowledged.fetch_max(through.0, Relaxed);
    }
}
