//! The one task that owns [`Control`]: everything that happens goes through it, in batches; what a
//! batch puts is one durable commit, and only then is anything of it sent or answered.

mod batch;
mod handle;
mod notes;
mod persist;
mod seen;
mod series;
mod sessions;
mod touched;
mod watch;

pub use handle::{Ask, Gone, Handle, Health};
pub use notes::{By, Notes};
pub use seen::{Rings, Seen};
pub use series::{BUCKET_MS, Series};
pub use sessions::{Session, SessionId, queue};
pub use touched::Change;
pub use watch::WatchHub;
pub(crate) use watch::is_active;

use crate::clock::{FleetClock, unix_ms};
use crate::error::ServerError;
use crate::metrics::Metrics;
use crate::storage::flush_heard;
use batch::{Work, sign};
use ringward_domain::command::{Action, Command, Outcome, Refusal};
use ringward_domain::host::HostState;
use ringward_domain::people::Caller;
use ringward_domain::session::{Hello, ToServer};
use ringward_domain::{HostId, Millis, RolloutId, Timestamp};
use ringward_server_core::control::{Control, Enrolment, NotAdmitted};
use ringward_server_core::event::{Effect, Event, Notice};
use ringward_server_core::release::ReleaseRecord;
use ringward_store::{AnyStore, Fence};
use sessions::Sessions;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use touched::Touched;
use watch::Feed;

/// Events taken into one batch: as many as fit a group commit without letting the first wait.
const BATCH_MAX: usize = 512;
/// The actor looks at its clock at least this often.
const LOOK: Duration = Duration::from_millis(250);
/// Shortest wait for a deadline: many that fall together become one batch.
const TURN: Duration = Duration::from_millis(1);
/// How often the fleet clock is written down while nothing else is.
const CLOCK_EVERY: Duration = Duration::from_secs(5);
/// A session that was replaced is listened to for two heartbeats and this.
const LINGER: Duration = Duration::from_secs(1);
/// How often it is flushed when hosts were heard of: lists and expiries of hosts are in minutes.
const HEARD_EVERY: Millis = Millis::secs(60);
/// Longest time that a backup may hold the decisions.
const HOLD_MAX: Duration = Duration::from_secs(60);
/// How often the lease is renewed: three tries within its life.
const LEASE_EVERY: Duration = Duration::from_secs(5);

/// Something for the actor, stamped when it was received.
#[derive(Debug)]
pub struct Input {
    /// When it came in.
    pub at: Instant,
    /// What.
    pub what: What,
}

/// The closed set of things the actor takes.
#[derive(Debug)]
pub enum What {
    /// A host opened a session and said hello.
    Connected {
        /// From its certificate.
        host: HostId,
        /// Where answers go.
        session: Session,
        /// What it said.
        hello: Box<Hello>,
        /// Whether it may go on; answered when durable.
        reply: oneshot::Sender<Result<(), NotAdmitted>>,
    },
    /// A message within a session.
    Message {
        /// From whom.
        host: HostId,
        /// In which session.
        session: SessionId,
        /// What.
        message: ToServer,
    },
    /// A session ended.
    Disconnected {
        /// Whose.
        host: HostId,
        /// Which.
        session: SessionId,
    },
    /// Everything before this is durable; nothing more is decided until `released`.
    Hold {
        /// Told when it is so.
        held: oneshot::Sender<()>,
        /// Dropped or sent to go on.
        released: oneshot::Receiver<()>,
    },
    /// A token was spent for this host; answers how it stands when durable.
    Enrol {
        /// Who.
        enrolment: Box<Enrolment>,
        /// How it stands.
        reply: oneshot::Sender<HostState>,
    },
    /// A halt is durable and told; it took so long from the event that decided it.
    HaltTimed {
        /// Of which rollout.
        rollout: RolloutId,
        /// From the receipt of the deciding event.
        ms: u64,
    },
    /// A person orders something; answered when durable.
    Command {
        /// Who, where it is a person; the program itself may everything.
        caller: Option<Box<Caller>>,
        /// What.
        command: Box<Command>,
        /// What it did.
        reply: oneshot::Sender<Result<Outcome, Refusal>>,
    },
    /// A release was verified and its artefacts are stored; answered when durable.
    Publish {
        /// The release.
        record: Box<ReleaseRecord>,
        /// Whether it was there already.
        reply: oneshot::Sender<Result<bool, Refusal>>,
    },
}

/// The actor's own state.
pub struct Actor {
    control: Control,
    clock: FleetClock,
    store: Arc<AnyStore>,
    fence: Fence,
    holder: String,
    sessions: Sessions,
    inputs: mpsc::Receiver<Input>,
    asks: mpsc::Receiver<Ask>,
    /// What the actor tells itself: sessions it closed.
    own: VecDeque<Input>,
    notes: Notes,
    series: Series,
    touched: RefCell<Touched>,
    hub: WatchHub,
    feed: Feed,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    clock_written: Instant,
    lease_renewed: Instant,
    /// Up to when it was flushed when hosts were heard of.
    heard_flushed: Timestamp,
    flushing: Option<JoinHandle<()>>,
    /// Somebody copies what is written: nothing is, until this is released.
    hold: Option<oneshot::Receiver<()>>,
    first: Vec<Effect>,
}

/// What an actor starts from.
pub struct Start {
    /// Restored from the store.
    pub control: Control,
    /// Resumed from the store.
    pub clock: FleetClock,
    /// Where everything is written.
    pub store: Arc<AnyStore>,
    /// The lease taken.
    pub fence: Fence,
    /// As whom the lease was taken.
    pub holder: String,
    /// What people were told of.
    pub notes: Notes,
    /// What happened over time.
    pub series: Series,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Ends the actor.
    pub stop: CancellationToken,
    /// Events that may wait.
    pub queue: usize,
    /// What the start itself led to.
    pub first: Vec<Effect>,
}

impl Actor {
    /// The actor and the way to reach it.
    pub fn new(start: Start) -> (Self, Handle) {
        let (inputs_in, inputs) = mpsc::channel(start.queue);
        let (asks_in, asks) = mpsc::channel(start.queue);
        let hub = WatchHub::default();
        let health = Arc::new(Health::default());
        let handle = Handle::new(inputs_in, asks_in, hub.clone(), Arc::clone(&health));
        let now = Instant::now();
        let heard_flushed = start.clock.read();
        let actor = Self {
            control: start.control,
            clock: start.clock,
            store: start.store,
            fence: start.fence,
            holder: start.holder,
            sessions: Sessions::new(Arc::clone(&start.metrics)),
            inputs,
            asks,
            own: VecDeque::new(),
            notes: start.notes,
            series: start.series,
            touched: RefCell::default(),
            feed: Feed::default(),
            hub,
            health,
            metrics: start.metrics,
            stop: start.stop,
            clock_written: now,
            lease_renewed: now,
            heard_flushed,
            flushing: None,
            hold: None,
            first: start.first,
        };
        (actor, handle)
    }

    /// Ends the actor when it is cancelled.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Works until it is stopped, or until it must not go on.
    ///
    /// # Errors
    /// Where another server took the lease, or the store contradicts itself.
    pub async fn run(mut self) -> Result<(), ServerError> {
        let mut taken = Vec::with_capacity(BATCH_MAX);
        let mut first = Work::default();
        first.absorb(std::mem::take(&mut self.first), Instant::now());
        if !self.settle(first).await? {
            return Ok(());
        }
        self.health.set_ready();
        loop {
            if !self.wait(&mut taken).await {
                return Ok(());
            }
            let mut work = Work::default();
            let now = self.clock.look(Instant::now());
            self.control.wall_clock(unix_ms());
            for input in self
                .own
                .drain(..)
                .chain(taken.drain(..))
                .collect::<Vec<_>>()
            {
                self.touched.get_mut().input(&input);
                self.take(input, now, &mut work);
            }
            self.tick(now, &mut work);
            self.observe(&mut work);
            if !self.settle(work).await? {
                return Ok(());
            }
            self.flush_heard(now);
            if let Some(released) = self.hold.take() {
                // Questions are answered meanwhile; the fleet clock loses what is above its step.
                let _ = self
                    .answering(tokio::time::timeout(HOLD_MAX, released))
                    .await;
            }
            self.feed_watchers(now);
        }
    }

    /// Waits for something to do, answering questions meanwhile; `false` at the end.
    async fn wait(&mut self, taken: &mut Vec<Input>) -> bool {
        let deadline = self.control.next_deadline();
        let due = match deadline.map(|deadline| self.clock.until(deadline)) {
            _ if !self.own.is_empty() => Duration::ZERO,
            Some(until) => until.clamp(TURN, LOOK),
            None => LOOK,
        };
        let timer = tokio::time::sleep(due);
        tokio::pin!(timer);
        loop {
            // Fair on purpose: neither questions nor events may starve the other.
            tokio::select! {
                () = self.stop.cancelled() => return false,
                Some(ask) = self.asks.recv() => {
                    self.clock.look(Instant::now());
                    self.answer(ask);
                }
                n = self.inputs.recv_many(taken, BATCH_MAX) => return n > 0,
                () = &mut timer => return true,
            }
        }
    }

    fn answer(&self, ask: Ask) {
        ask(&self.seen(self.clock.read()));
    }

    fn seen(&self, now: Timestamp) -> Seen<'_> {
        Seen {
            control: &self.control,
            now,
            notes: &self.notes,
            series: &self.series,
            touched: &self.touched,
            sessions: self.sessions.len(),
        }
    }

    /// Takes down what people want to see over time.
    fn observe(&mut self, work: &mut Work) {
        self.touched.get_mut().work(work);
        if self.feed.is_due() {
            self.series.look(&self.control);
        }
        self.series.take(work, &self.control);
    }

    fn take(&mut self, input: Input, now: Timestamp, work: &mut Work) {
        let at = input.at;
        match input.what {
            What::Connected {
                host,
                session,
                hello,
                reply,
            } => {
                let admitted = self.admit(host, &hello, now, at, work);
                if admitted.is_ok() {
                    self.open(host, session, &hello);
                    let effects = self.control.handle(Event::Connected { host, hello }, now);
                    work.absorb(effects, at);
                }
                work.reply(move || {
                    let _ = reply.send(admitted);
                });
            }
            What::Message {
                host,
                session,
                message,
            } => {
                if self.sessions.is_current(host, session) {
                    let effects = self.control.handle(Event::Message { host, message }, now);
                    work.absorb(effects, at);
                } else if let ToServer::Heartbeat(beat) = &message
                    && self.sessions.is_leaving(host, session)
                {
                    let effects = self.control.still_speaks(host, beat.boottime, now);
                    work.absorb(effects, at);
                }
            }
            What::Disconnected { host, session } => {
                if self.sessions.forget(host, session) {
                    let effects = self.control.handle(Event::Disconnected { host }, now);
                    work.absorb(effects, at);
                }
            }
            What::Hold { held, released } => {
                self.hold = Some(released);
                work.reply(move || {
                    let _ = held.send(());
                });
            }
            What::Enrol { enrolment, reply } => {
                let host = enrolment.host;
                work.absorb(self.control.enrol(*enrolment, now), at);
                if let Some(view) = self.control.host_view(host) {
                    let state = view.state;
                    work.reply(move || {
                        let _ = reply.send(state);
                    });
                }
            }
            What::HaltTimed { rollout, ms } => {
                let effects = self.control.halt_durable(rollout, ms);
                work.absorb(effects, at);
            }
            What::Command {
                caller,
                command,
                reply,
            } => {
                let answer = self.command(caller.as_deref(), &command, now, at, work);
                work.reply(move || drop(reply.send(answer)));
            }
            What::Publish { record, reply } => {
                let effects = self.control.publish(*record, now);
                let answer = effects.map(|effects| {
                    let already = effects.is_empty();
                    work.absorb(effects, at);
                    already
                });
                work.reply(move || drop(reply.send(answer)));
            }
        }
    }

    /// Whether a host with a valid certificate may have a session.
    fn admit(
        &mut self,
        host: HostId,
        hello: &Hello,
        now: Timestamp,
        at: Instant,
        work: &mut Work,
    ) -> Result<(), NotAdmitted> {
        let (admitted, effects) = self.control.admit(host, hello, now);
        work.absorb(effects, at);
        match admitted {
            Ok(()) => {}
            Err(NotAdmitted::Stale) => self.metrics.hellos_stale.add_one(),
            Err(NotAdmitted::Fenced) => self.metrics.sessions_fenced.add_one(),
            Err(NotAdmitted::Unknown | NotAdmitted::Retired) => {
                self.metrics.sessions_revoked.add_one();
            }
        }
        admitted
    }

    /// Opens a session. One of the very same boot and agent before it is listened to a while longer:
    /// an agent left it, a second machine with this identity did not.
    fn open(&mut self, host: HostId, session: Session, hello: &Hello) {
        let twice = self
            .control
            .is_session_of(host, hello.boot, hello.agent_start);
        let Some(leaving) = self.sessions.open(host, session, twice) else {
            return;
        };
        let patience = Duration::from_millis(self.control.policy().pace.heartbeat.times(2).0);
        tokio::spawn(async move {
            tokio::time::sleep(patience + LINGER).await;
            leaving.cancel();
        });
    }

    fn command(
        &mut self,
        caller: Option<&Caller>,
        command: &Command,
        now: Timestamp,
        at: Instant,
        work: &mut Work,
    ) -> Result<Outcome, Refusal> {
        let (outcome, effects) = match caller {
            None => self.control.command(command, now)?,
            Some(caller) => {
                if let Some(key) = caller.key {
                    self.control.saw_certificate(&caller.name, key);
                }
                let (outcome, mut effects) = self.control.ask_for(caller, command, now)?;
                sign(&mut effects, &caller.name, &command.actor);
                (outcome, effects)
            }
        };
        let done = outcome.approval.is_none();
        if done && !command.dry_run && !effects.is_empty() {
            self.notes.note(command, work);
        }
        work.absorb(effects, at);
        if let (Action::RetireHost(host), false) = (&command.action, command.dry_run) {
            // Whoever is retired is cut off with this commit, whatever else follows from it.
            work.close(*host);
        }
        Ok(outcome)
    }

    /// Lets deadlines pass. The evidence of a silence is its deadline, not our being late for it.
    fn tick(&mut self, now: Timestamp, work: &mut Work) {
        let Some(deadline) = self.control.next_deadline() else {
            return;
        };
        if deadline <= now {
            let at = self.clock.instant_of(deadline);
            let effects = self.control.handle(Event::Tick, now);
            work.absorb(effects, at);
        }
    }

    /// Makes a batch durable, then lets out what it sends and answers; `false` at the end.
    async fn settle(&mut self, mut work: Work) -> Result<bool, ServerError> {
        if !self.renew_lease().await? {
            return Ok(false);
        }
        let idle = self.clock_written.elapsed() < CLOCK_EVERY;
        if (work.writes() || !idle) && !self.persist(&mut work).await? {
            return Ok(false);
        }
        for (host, message) in work.sends.drain(..) {
            if let Some(session) = self.sessions.send(host, message) {
                // It reads too slowly: closed, and the decisions hear of it.
                self.tell_self(What::Disconnected { host, session });
            }
        }
        for host in work.closes.drain(..) {
            if let Some(session) = self.sessions.close(host) {
                self.tell_self(What::Disconnected { host, session });
            }
        }
        for (notice, evidence) in std::mem::take(&mut work.notices) {
            self.announce(notice, evidence);
        }
        for reply in work.replies.drain(..) {
            reply();
        }
        Ok(true)
    }

    fn tell_self(&mut self, what: What) {
        self.own.push_back(Input {
            at: Instant::now(),
            what,
        });
    }

    /// Tells people, and takes the time of a halt: it is durable and told to the hosts by now.
    fn announce(&mut self, notice: Notice, evidence: Instant) {
        match notice {
            Notice::Halted {
                rollout,
                release,
                reason,
            } => {
                let took = evidence.elapsed();
                let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                self.metrics.halts.add_one();
                self.metrics.halt_ms.record_ms(took.as_secs_f64() * 1000.0);
                tracing::warn!(%rollout, %release, reason, took_ms = ms, "rollout halted");
                self.tell_self(What::HaltTimed { rollout, ms });
                self.hub.notice(format!("halted: {reason}"), Some(rollout));
            }
            Notice::Line(line) => {
                tracing::info!("{line}");
                self.hub.notice(line, None);
            }
        }
    }

    /// Flushes when hosts were heard of, beside the decisions: nothing waits for it.
    fn flush_heard(&mut self, now: Timestamp) {
        let busy = self
            .flushing
            .as_ref()
            .is_some_and(|task| !task.is_finished());
        if busy || now.since(self.heard_flushed) < HEARD_EVERY {
            return;
        }
        let heard = self.control.heard_since(self.heard_flushed);
        self.heard_flushed = now;
        if heard.is_empty() {
            return;
        }
        let (store, metrics) = (Arc::clone(&self.store), Arc::clone(&self.metrics));
        self.flushing = Some(tokio::spawn(async move {
            if let Err(error) = flush_heard(&store, heard).await {
                // The next flush has all that is newer.
                metrics.heard_unflushed.add_one();
                tracing::warn!(%error, "it is not flushed when hosts were heard of");
            }
        }));
    }

    fn feed_watchers(&mut self, now: Timestamp) {
        if !self.feed.is_due() {
            return;
        }
        let seen = Seen {
            control: &self.control,
            now,
            notes: &self.notes,
            series: &self.series,
            touched: &self.touched,
            sessions: self.sessions.len(),
        };
        self.feed.tell(&self.hub, &seen, &self.metrics);
    }
}
