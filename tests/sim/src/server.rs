//! The server: its core, its sessions, its store, and its crashes.

use crate::host::facts;
use crate::scenario::{self, Scenario};
use crate::store::{Outgoing, Store};
use crate::world::{Occurrence, World};
use ringward_domain::host::Labels;
use ringward_domain::ids::Sha256;
use ringward_domain::session::{ToAgent, ToServer};
use ringward_domain::{HostId, Timestamp};
use ringward_server_core::control::{Control, Enrolment};
use ringward_server_core::event::{Effect, Event};
use ringward_server_core::policy::Policy;
use std::collections::BTreeMap;

/// The server process, when it runs.
#[derive(Debug)]
pub struct Running {
    /// The core.
    pub control: Control,
    /// Fleet clock at its start, and real time of it.
    base: (Timestamp, u64),
    /// Counts its starts.
    pub run: u64,
    tick_at: Option<u64>,
    committing: bool,
}

/// The server with what survives it.
#[derive(Debug)]
pub struct SimServer {
    /// Store and commits under way.
    pub store: Store,
    /// The process.
    pub running: Option<Running>,
    policy: Policy,
    runs: u64,
    /// Session of each host, as the server sees it.
    sessions: BTreeMap<HostId, u64>,
    /// When the newest message to each host arrives.
    arrivals: BTreeMap<HostId, u64>,
}

impl SimServer {
    /// A server that never ran.
    #[must_use]
    pub fn new(scenario: &Scenario, _seed: u64) -> Self {
        Self {
            store: Store::default(),
            running: None,
            policy: Policy::parse(&scenario.policy).expect("the scenario writes valid policies"),
            runs: 0,
            sessions: BTreeMap::new(),
            arrivals: BTreeMap::new(),
        }
    }

    /// Whether it runs.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.running.is_some()
    }

    /// The fleet clock.
    #[must_use]
    pub fn clock(&self, now: u64) -> Timestamp {
        self.running.as_ref().map_or(Timestamp(0), |running| {
            let (base, at) = running.base;
            Timestamp(base.0 + now.saturating_sub(at))
        })
    }

    /// For a message about a run without an end.
    #[must_use]
    pub fn how_it_stands(&self) -> String {
        let Some(running) = self.running.as_ref() else {
            return "server down".to_owned();
        };
        let mut text = String::new();
        for host in running.control.hosts(None, true, None, 100) {
            text.push_str(&format!(
                "{} connected={} seen {} ago: {:?}\n",
                host.id, host.connected, host.last_seen_ms, host.observed
            ));
        }
        for (id, state) in running.control.rollouts() {
            let Some(view) = running.control.rollout_view(id) else {
                continue;
            };
            text.push_str(&format!(
                "{id} {:?} {state}: {}\n",
                view.kind, view.state_reason
            ));
            for ring in &view.rings {
                text.push_str(&format!("  {ring:?}\n"));
            }
            for member in running
                .control
                .members(id, &|_| true, 0, 100)
                .unwrap_or_default()
            {
                text.push_str(&format!("  {} {:?}\n", member.host, member.state));
            }
        }
        text
    }
}

impl World {
    pub(crate) fn server_starts(&mut self) {
        if self.server.is_up() {
            return;
        }
        self.report.server_starts += 1;
        self.server.runs += 1;
        let run = self.server.runs;
        let policy = self.server.policy.clone();
        let first = self.server.store.durable.records.is_empty();
        let records = self.server.store.durable.read_back();
        let base = Control::clock(&records);
        let control = match first {
            true => Control::new(policy, base),
            false => match Control::restore(policy, records, base) {
                Ok(control) => control,
                Err(error) => {
                    self.oracle
                        .bend(format!("the server cannot go on: {error}"));
                    return;
                }
            },
        };
        self.server.running = Some(Running {
            control,
            base: (base, self.now),
            run,
            tick_at: None,
            committing: false,
        });
        self.oracle.server_started(base);
        if first {
            self.fill_server();
        }
        self.wall_clock();
        self.take(Vec::new());
    }

    /// Releases and hosts of a new server.
    fn fill_server(&mut self) {
        let clock = self.server.clock(self.now);
        let mut all = Vec::new();
        let hosts: Vec<HostId> = self.hosts.iter().map(|host| host.id).collect();
        let Some(running) = self.server.running.as_mut() else {
            return;
        };
        for release in [scenario::OLD, scenario::NEW] {
            let record = scenario::published(release, self.scenario.boots);
            if let Ok(effects) = running.control.publish(record, clock) {
                all.push(effects);
            }
        }
        for (index, host) in hosts.into_iter().enumerate() {
            let enrolment = Enrolment {
                host,
                facts: facts(index, &self.scenario),
                labels: Labels::new(),
                key: Sha256([index as u8; 32]),
                pending: false,
                ephemeral: None,
            };
            all.push(running.control.enrol(enrolment, clock));
        }
        for effects in all {
            self.take(effects);
        }
        // Set up before the run: durable before anything goes wrong.
        while self.server.store.waiting() > 0 {
            self.server.store.commit();
        }
    }

    /// A wall clock that may be ten years off must change nothing.
    fn wall_clock(&mut self) {
        const YEAR_MS: u64 = 365 * 24 * 3_600_000;
        let real = 56 * YEAR_MS + self.now;
        let shown = match (self.scenario.wrong_clocks, self.random.below(3)) {
            (true, 0) => real + 10 * YEAR_MS,
            (true, 1) => real - 10 * YEAR_MS,
            _ => real,
        };
        if let Some(running) = self.server.running.as_mut() {
            running.control.wall_clock(shown);
        }
    }

    /// Hands an event to the core, checks, and queues what follows.
    fn handle(&mut self, event: Event) {
        let clock = self.server.clock(self.now);
        let ticked = matches!(event, Event::Tick);
        let Some(running) = self.server.running.as_mut() else {
            return;
        };
        let effects = running.control.handle(event, clock);
        self.oracle
            .decided(&running.control, &effects, ticked, clock);
        self.take(effects);
    }

    /// Queues effects of the core, and wakes it when it wants.
    pub(crate) fn take(&mut self, effects: Vec<Effect>) {
        self.server.store.take(effects);
        self.commit_soon();
        let now = self.now;
        let clock = self.server.clock(now);
        let Some(running) = self.server.running.as_mut() else {
            return;
        };
        if let Some(at) = running.control.next_deadline() {
            let at = now + at.0.saturating_sub(clock.0).max(1);
            if running
                .tick_at
                .is_none_or(|known| at < known || known < now)
            {
                running.tick_at = Some(at);
                let run = running.run;
                self.at(at, Occurrence::Tick { run });
            }
        }
    }

    fn commit_soon(&mut self) {
        let slow = !self.healed && self.random.permille(10);
        let takes = match slow {
            true => self.random.below(3_000),
            false => self.random.between(1, 20),
        };
        let waiting = self.server.store.waiting() > 0;
        if let Some(running) = self.server.running.as_mut()
            && waiting
            && !running.committing
        {
            running.committing = true;
            let run = running.run;
            self.after(takes, Occurrence::Committed { run });
        }
    }

    pub(crate) fn committed(&mut self, run: u64) {
        let Some(running) = self.server.running.as_mut().filter(|r| r.run == run) else {
            return;
        };
        running.committing = false;
        let outgoing = self.server.store.commit();
        self.oracle.durable(&self.server.store.durable, self.now);
        for out in outgoing {
            match out {
                Outgoing::Send(host, message) => self.send_to_agent(host, *message),
                Outgoing::Close(host) => {
                    if let Some(session) = self.server.sessions.remove(&host)
                        && let Some(host) = self.index_of(host)
                    {
                        self.after(20, Occurrence::SessionGone { host, session });
                    }
                    self.handle(Event::Disconnected { host });
                }
            }
        }
        self.commit_soon();
    }

    fn send_to_agent(&mut self, id: HostId, message: ToAgent) {
        let Some(host) = self.index_of(id) else {
            return;
        };
        self.oracle
            .released(&self.hosts[host], &message, &self.server.store.durable);
        let Some(session) = self.server.sessions.get(&id).copied() else {
            return;
        };
        let after = self.server.arrivals.get(&id).copied().unwrap_or_default();
        let boxed = Box::new(message);
        if let Some(at) = self.weather.arrival(&mut self.random, self.now, after) {
            self.server.arrivals.insert(id, at);
            let message = boxed.clone();
            self.at(
                at,
                Occurrence::ToAgent {
                    host,
                    session,
                    message,
                },
            );
        }
        if let Some(at) = self.weather.echo(&mut self.random, self.now) {
            self.at(
                at,
                Occurrence::ToAgent {
                    host,
                    session,
                    message: boxed,
                },
            );
        }
    }

    pub(crate) fn tick(&mut self, run: u64) {
        let now = self.now;
        let due = self.server.running.as_mut().is_some_and(|running| {
            let due = running.run == run && running.tick_at == Some(now);
            if due {
                running.tick_at = None;
            }
            due
        });
        if due {
            self.handle(Event::Tick);
            if self.random.permille(100) {
                self.wall_clock();
            }
        }
    }

    /// A message at the server's door: sessions are told apart there, as the daemon does.
    pub(crate) fn reaches_server(&mut self, host: usize, session: u64, message: ToServer) {
        if !self.server.is_up() {
            return;
        }
        let id = self.hosts[host].id;
        let current = self.server.sessions.get(&id).copied();
        match message {
            ToServer::Hello(hello) => {
                // A session is opened once; an older one that comes late is a half-open connection.
                if current == Some(session)
                    || (current > Some(session) && self.random.permille(500))
                {
                    return;
                }
                if let Some(older) = self.server.sessions.insert(id, session) {
                    self.after(
                        20,
                        Occurrence::SessionGone {
                            host,
                            session: older,
                        },
                    );
                }
                self.server.arrivals.insert(id, self.now);
                if self.hosts[host].session != Some(session) {
                    self.after(40_000, Occurrence::ServerMisses { host, session });
                }
                self.oracle.heard(id, false, self.server.clock(self.now));
                self.handle(Event::Connected { host: id, hello });
            }
            message => {
                let late = current != Some(session);
                if current.is_none() || (late && self.random.permille(500)) {
                    return;
                }
                let absent = matches!(message, ToServer::Absent(_));
                let clock = self.server.clock(self.now);
                self.oracle.heard(id, absent, clock);
                let crash_loops = match &message {
                    ToServer::Signals(signals) => signals.clone(),
                    _ => Vec::new(),
                };
                self.handle(Event::Message { host: id, message });
                if let Some(running) = self.server.running.as_ref() {
                    self.oracle
                        .weighed(&running.control, id, &crash_loops, clock);
                }
            }
        }
    }

    pub(crate) fn server_misses(&mut self, host: usize, session: u64) {
        let id = self.hosts[host].id;
        if self.server.is_up() && self.server.sessions.get(&id) == Some(&session) {
            self.server.sessions.remove(&id);
            self.handle(Event::Disconnected { host: id });
        }
    }

    /// The server dies between any effect and its durability.
    pub(crate) fn server_crashes(&mut self) {
        if self.server.running.take().is_none() {
            return;
        }
        let kept = self.random.below(self.server.store.waiting() as u64 + 1);
        self.server.store.crash(kept as usize);
        self.oracle.durable(&self.server.store.durable, self.now);
        self.server.sessions.clear();
        self.server.arrivals.clear();
        for host in 0..self.hosts.len() {
            if let Some(session) = self.hosts[host].session {
                let learns = self.random.below(20_000);
                self.after(learns, Occurrence::SessionGone { host, session });
            }
        }
        let away = match self.random.below(3) {
            0 => self.random.below(2_000),
            1 => self.random.below(30_000),
            _ => self.random.below(900_000),
        };
        self.after(away, Occurrence::ServerStarts);
    }
}
