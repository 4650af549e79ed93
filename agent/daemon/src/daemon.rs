//! The daemon: one loop over one closed set of happenings. The machine decides; this carries out.

mod effects;
mod installs;
mod orders;
mod start;
mod tasks;

pub use start::StartError;

use crate::audit::Witness;
use crate::config::Settings;
use crate::counters::Counters;
use crate::link::{DRAIN, Link, LinkEvent, Tagged, chain};
use crate::spool::{DiskFiles, Spool};
use effects::Flow;
use installs::Installed;
use orders::{OrdersEdge, OrdersResult};
use ringward_agent_core::event::{PrepareFailure, SwitchFailure};
use ringward_agent_core::{Event, Machine};
use ringward_agent_os::machine::Notifier;
use ringward_agent_os::{Host, HostEvent, StopReason};
use ringward_domain::ids::{ReleaseDigest, RolloutId};
use ringward_domain::manifest::{Manifest, ReleaseRoot};
use ringward_domain::session::{ToAgent, ToServer};
use ringward_domain::{Absence, Millis};
use ringward_guard::{LedgerStore, Slots, SystemFiles};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tasks::Looked;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tonic::transport::Channel;

/// Results of tasks that wait for the loop.
const RESULTS_MAX: usize = 16;
/// The loop looks around at least this often, so that a suspend is noticed.
const TURN_MAX: Duration = Duration::from_secs(60);
/// A machine that asks for a time that has passed gets this pause: never a busy loop.
const TURN_MIN: Duration = Duration::from_millis(1);
/// A difference of boot-time clock and awake clock up to this is rounding, not sleep.
const ASLEEP_MIN: Millis = Millis(1000);

/// How a run of the daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// In good order, marker written.
    Stopped,
    /// The scripted machine beneath is gone.
    PowerLost,
}

/// Everything that can happen to the loop.
#[derive(Debug)]
enum Happening {
    Link(Tagged),
    Task(TaskResult),
    Host(HostEvent),
    Timer,
    Stop,
}

/// A task brought its result.
#[derive(Debug)]
enum TaskResult {
    Prepared {
        number: u64,
        rollout: RolloutId,
        release: ReleaseDigest,
        outcome: Result<Box<Manifest>, PrepareFailure>,
    },
    Probed {
        failed: Vec<String>,
    },
    Looked(Looked),
    Installed(Installed),
    /// A failed install was undone.
    Undone(SwitchFailure),
    Orders(OrdersResult),
}

/// One agent.
struct Agent<H> {
    host: Arc<H>,
    state_dir: PathBuf,
    machine: Machine,
    ledger: LedgerStore<SystemFiles>,
    /// Lines of a newer version in the ledger, written back as they were.
    ledger_kept: Vec<String>,
    slots: Slots<SystemFiles>,
    spool: Spool<DiskFiles>,
    release_root: Option<ReleaseRoot>,
    counters: Arc<Counters>,
    link: Link,
    link_events: mpsc::Receiver<Tagged>,
    /// Connection of the present session, for fetching.
    channel: Option<Channel>,
    draining: Option<JoinHandle<()>>,
    results: mpsc::Receiver<TaskResult>,
    tell: mpsc::Sender<TaskResult>,
    /// Number of the newest preparation: results of older ones are nobody's.
    preparation: u64,
    preparing: Option<AbortHandle>,
    probing: Option<AbortHandle>,
    mirrors: crate::prepare::Mirrors,
    renewal: tasks::Renewal,
    audit: Witness,
    orders: OrdersEdge,
    notifier: Notifier,
    asleep: Millis,
    dropped_told: u64,
    stop: watch::Receiver<bool>,
    stopping: bool,
}

/// Run one agent on a host until `stop` turns true or the (scripted) machine is gone.
///
/// # Errors
/// What stands in the way of a start: no identity, an unusable state folder.
pub async fn run<H: Host>(
    settings: &Settings,
    host: Arc<H>,
    counters: Arc<Counters>,
    mut notifier: Notifier,
    stop: watch::Receiver<bool>,
) -> Result<Ended, StartError> {
    let orders = orders::look(&*host, &settings.state_dir, &settings.orders).await;
    installs::complete(&*host, &settings.state_dir, &mut notifier, stop.clone()).await;
    let (mut agent, first) = Agent::start(settings, host, counters, notifier, stop, orders)?;
    agent.notifier.ready();
    let untold = agent
        .audit
        .untold(agent.host.boot(), Millis(agent.host.boottime().0));
    let mut events: VecDeque<_> = untold.into_iter().map(Event::Signal).collect();
    if let Flow::PowerLost = agent.carry_out(first, &mut events).await {
        return Ok(Ended::PowerLost);
    }
    loop {
        if let Flow::PowerLost = agent.settle(&mut events).await {
            return Ok(agent.vanish());
        }
        if agent.stopping {
            return Ok(agent.finish().await);
        }
        match agent.next().await {
            Happening::Host(HostEvent::PowerLost) => return Ok(agent.vanish()),
            happening => agent.translate(happening, &mut events).await,
        }
        agent.notice_sleep(&mut events);
        agent.notifier.ping();
    }
}

/// Resolves when `stop` turns true or nobody is left to turn it.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

impl<H: Host> Agent<H> {
    async fn next(&mut self) -> Happening {
        let pause = self.next_turn();
        let host = Arc::clone(&self.host);
        tokio::select! {
            biased;
            event = host.next_event() => Happening::Host(event),
            () = stopped(&mut self.stop) => Happening::Stop,
            Some(result) = self.results.recv() => Happening::Task(result),
            Some(tagged) = self.link_events.recv() => Happening::Link(tagged),
            () = host.sleep(pause) => Happening::Timer,
        }
    }

    fn next_turn(&self) -> Duration {
        let now = self.host.boottime();
        let machine = self.machine.next_wakeup().map_or(TURN_MAX, |at| {
            Duration::from_millis(at.since(now).0).max(TURN_MIN)
        });
        machine
            .min(TURN_MAX)
            .min(self.notifier.next_ping())
            .min(self.next_follow())
    }

    /// Step the machine through what waits, and through what carrying out its effects brings about.
    async fn settle(&mut self, events: &mut VecDeque<Event>) -> Flow {
        while let Some(event) = events.pop_front() {
            let effects = self.machine.step(event, self.host.boottime());
            if let Flow::PowerLost = self.carry_out(effects, events).await {
                return Flow::PowerLost;
            }
        }
        Flow::Go
    }

    /// What a happening means to the machine.
    async fn translate(&mut self, happening: Happening, events: &mut VecDeque<Event>) {
        match happening {
            Happening::Link(tagged) => {
                if self.link.is_present(&tagged) {
                    self.on_link(tagged.event, events);
                }
            }
            Happening::Task(result) => self.on_result(result, events),
            Happening::Host(HostEvent::Signal(draft)) => events.push_back(Event::Signal(draft)),
            Happening::Host(HostEvent::GoingAway(absence)) => {
                events.push_back(Event::GoingAway(absence));
            }
            Happening::Host(HostEvent::PowerLost) => {}
            Happening::Timer => {
                self.renew_when_due();
                self.follow_servers();
                events.push_back(Event::Timer);
            }
            Happening::Stop => self.on_stop(events).await,
        }
    }

    fn on_link(&mut self, event: LinkEvent, events: &mut VecDeque<Event>) {
        match event {
            LinkEvent::Up(channel) => {
                tracing::info!("connected");
                self.channel = Some(channel);
                self.counters.session_up();
                self.renew_when_due();
                self.learn_servers();
                events.push_back(Event::NetworkReachable(true));
                events.push_back(Event::Connected);
            }
            LinkEvent::Message(message) => {
                self.watch_audit(&message, events);
                if let ToAgent::Desired(desired) = &message {
                    events.push_back(self.vouch(desired));
                }
                events.push_back(Event::Message(message));
            }
            LinkEvent::Down(why) => {
                tracing::info!(why, "no session");
                if self.channel.is_none() {
                    let gateway = self.host.gateway_reachable();
                    // Not known is not "no": only a proven loss may ever take a host back.
                    events.push_back(Event::NetworkReachable(gateway.unwrap_or(true)));
                }
                self.session_over();
                events.push_back(Event::Disconnected);
            }
        }
    }

    /// Asks once a session for the audit log's head, and checks each one shown.
    fn watch_audit(&mut self, message: &ToAgent, events: &mut VecDeque<Event>) {
        match message {
            ToAgent::Welcome { .. } => {
                let size = self.audit.known_size();
                self.send(ToServer::AuditKnown { size }, events);
            }
            ToAgent::AuditHead(shown) => {
                let now = Millis(self.host.boottime().0);
                let drafts = self.audit.take(shown, self.host.boot(), now);
                events.extend(drafts.into_iter().map(Event::Signal));
            }
            _ => {}
        }
    }

    fn session_over(&mut self) {
        self.channel = None;
        self.counters.session_down();
        self.draining = self.link.close().or(self.draining.take());
    }

    fn on_result(&mut self, result: TaskResult, events: &mut VecDeque<Event>) {
        match result {
            TaskResult::Prepared {
                number,
                rollout,
                release,
                outcome,
            } => {
                if number == self.preparation {
                    self.preparing = None;
                    events.push_back(Event::Prepared {
                        rollout,
                        release,
                        outcome,
                    });
                }
            }
            TaskResult::Probed { failed } => {
                self.probing = None;
                events.push_back(Event::Probes { failed });
            }
            TaskResult::Looked(looked) => self.on_looked(looked),
            TaskResult::Installed(installed) => self.on_installed(installed, events),
            TaskResult::Undone(failure) => events.push_back(Event::Switched(Err(failure))),
            TaskResult::Orders(result) => self.on_orders_result(result, events),
        }
    }

    async fn on_stop(&mut self, events: &mut VecDeque<Event>) {
        self.stopping = true;
        self.notifier.stopping();
        let (absence, reason) = match self.host.system_stopping().await {
            false => (Some(Absence::UserStop), StopReason::UserStop),
            true if self.host.stays_off().await => {
                (Some(Absence::PowerOff), StopReason::SystemShutdown)
            }
            true => (None, StopReason::SystemShutdown),
        };
        events.extend(absence.map(Event::GoingAway));
        events.push_back(Event::Stopping);
        if let Err(error) = self.host.mark_clean_stop(reason) {
            tracing::error!(error = chain(&error), "the next boot will count as unclean");
        }
    }

    /// The last words leave, for as long as [`DRAIN`] allows.
    async fn finish(mut self) -> Ended {
        self.stop_tasks();
        if let Some(session) = self.draining.take() {
            let bound = DRAIN + Duration::from_millis(500);
            let abort = session.abort_handle();
            if tokio::time::timeout(bound, session).await.is_err() {
                abort.abort();
            }
        }
        self.counters.session_down();
        tracing::info!("stopped");
        Ended::Stopped
    }

    /// Without a last word.
    fn vanish(mut self) -> Ended {
        self.stop_tasks();
        self.link.abort();
        self.counters.session_down();
        Ended::PowerLost
    }

    fn stop_tasks(&mut self) {
        for task in [self.preparing.take(), self.probing.take()]
            .into_iter()
            .flatten()
        {
            task.abort();
        }
    }

    fn notice_sleep(&mut self, events: &mut VecDeque<Event>) {
        let asleep = Millis(self.host.boottime().0) - self.host.awake();
        let slept = asleep - self.asleep;
        if slept > ASLEEP_MIN {
            self.asleep = asleep;
            events.push_back(Event::Resumed { slept });
        }
    }
}
