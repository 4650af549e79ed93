//! The run: a queue of occurrences in real time, and the loop that lets them happen.

use crate::host::SimHost;
use crate::network::Weather;
use crate::oracle::Oracle;
use crate::random::Random;
use crate::scenario::Scenario;
use crate::server::SimServer;
use ringward_agent_core::Event;
use ringward_domain::ledger::Installed;
use ringward_domain::session::{ToAgent, ToServer};
use std::collections::BTreeMap;

/// Something that happens at a time. `process`, `session`, `run` and `boot` name what it is meant
/// for; if that is gone, it happens to nobody.
#[derive(Debug, Clone)]
pub enum Occurrence {
    /// A timer of an agent.
    Wake { host: usize, process: u64 },
    /// An answer, or something observed.
    Step {
        host: usize,
        process: u64,
        event: Box<Event>,
    },
    /// The one atomic moment of a switch.
    SlotChanges {
        host: usize,
        process: u64,
        to: Option<Installed>,
    },
    /// A release hurts its host.
    Harm { host: usize, run: u64 },
    /// An agent opens a session.
    Connect { host: usize, process: u64 },
    /// A host learns that its session is gone.
    SessionGone { host: usize, session: u64 },
    /// The server learns that a session is gone.
    ServerMisses { host: usize, session: u64 },
    /// A host falls asleep for so long.
    Sleep { host: usize, for_ms: u64 },
    /// It wakes up.
    WakeUp { host: usize, slept_ms: u64 },
    /// It stops, in order or not, and boots after so long.
    Down {
        host: usize,
        clean: bool,
        for_ms: u64,
    },
    /// It has booted.
    Boot { host: usize },
    /// Its agent starts.
    Start { host: usize, boot: u64 },
    /// Something goes wrong on it.
    HostFault { host: usize },
    /// Its disk takes writes again.
    DiskFree { host: usize },
    /// A message reaches the server.
    ToServer {
        host: usize,
        session: u64,
        message: Box<ToServer>,
    },
    /// A message reaches a host.
    ToAgent {
        host: usize,
        session: u64,
        message: Box<ToAgent>,
    },
    /// The oldest commit is durable.
    Committed { run: u64 },
    /// A deadline of the server.
    Tick { run: u64 },
    /// The server starts.
    ServerStarts,
    /// Something goes wrong with it.
    ServerFault,
    /// A person looks, and acts.
    Operator,
    /// The storm is over.
    Heals,
}

/// How a run ended.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Real time of its end, ms.
    pub ended_at_ms: u64,
    /// Occurrences.
    pub steps: u64,
    /// Switches made.
    pub switches: u64,
    /// Starts of the server.
    pub server_starts: u64,
    /// Starts of agents.
    pub agent_starts: u64,
    /// Times a rollout was resumed or rolled back by the person.
    pub interventions: u64,
}

/// A fleet, its server, its network, and the oracle.
#[derive(Debug)]
pub struct World {
    pub(crate) scenario: Scenario,
    pub(crate) random: Random,
    /// Real time, ms.
    pub(crate) now: u64,
    queue: BTreeMap<(u64, u64), Occurrence>,
    order: u64,
    pub(crate) weather: Weather,
    pub(crate) healed: bool,
    pub(crate) hosts: Vec<SimHost>,
    pub(crate) server: SimServer,
    pub(crate) oracle: Oracle,
    pub(crate) processes: u64,
    pub(crate) sessions: u64,
    pub(crate) report: Report,
    pub(crate) ended: bool,
    /// Print what happens.
    pub trace: bool,
}

/// A healed run must end within this: rings times (window rounds times soak), silence deadlines and
/// the longest backoffs in it.
const PROGRESS_MS: u64 = 12 * 3_600_000;
/// Occurrences of one run at most: a loop that makes no progress is a failure too.
const STEPS_MAX: u64 = 3_000_000;

impl World {
    /// A world before its first moment.
    #[must_use]
    pub fn new(scenario: Scenario) -> Self {
        let mut random = Random::new(scenario.seed);
        let hosts = (0..scenario.hosts).map(SimHost::new).collect();
        let server = SimServer::new(&scenario, random.any());
        let mut world = Self {
            weather: scenario.weather,
            oracle: Oracle::new(&scenario),
            random,
            now: 0,
            queue: BTreeMap::new(),
            order: 0,
            healed: false,
            hosts,
            server,
            processes: 0,
            sessions: 0,
            report: Report::default(),
            ended: false,
            trace: false,
            scenario,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        self.at(0, Occurrence::ServerStarts);
        for host in 0..self.hosts.len() {
            let boots = 1_000 + self.random.below(20_000);
            self.at(boots, Occurrence::Boot { host });
            let fault = self.random.below(2 * self.scenario.host_faults_every_ms);
            self.at(60_000 + fault, Occurrence::HostFault { host });
        }
        let fault = self.random.below(2 * self.scenario.server_faults_every_ms);
        self.at(60_000 + fault, Occurrence::ServerFault);
        self.at(40_000, Occurrence::Operator);
        self.at(self.scenario.heals_at_ms, Occurrence::Heals);
    }

    /// Lets something happen at a time, or now if that has passed.
    pub(crate) fn at(&mut self, at: u64, what: Occurrence) {
        self.order += 1;
        self.queue.insert((at.max(self.now), self.order), what);
    }

    pub(crate) fn after(&mut self, ms: u64, what: Occurrence) {
        self.at(self.now + ms, what);
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// What bent, and when.
    pub fn run(mut self) -> Result<Report, String> {
        let deadline = self.scenario.heals_at_ms + PROGRESS_MS;
        while let Some(((at, _), what)) = self.queue.pop_first() {
            self.now = at;
            self.report.steps += 1;
            if self.now > deadline || self.report.steps > STEPS_MAX {
                let stands = self.how_it_stands();
                return Err(format!(
                    "no end {} s after the storm: {stands}",
                    (self.now - self.scenario.heals_at_ms) / 1000
                ));
            }
            if self.trace {
                self.show(&what);
            }
            self.happen(what);
            if let Some(bent) = self.oracle.bent.take() {
                return Err(format!("at {} ms: {bent}", self.now));
            }
            if self.ended {
                break;
            }
        }
        self.report.ended_at_ms = self.now;
        Ok(self.report)
    }

    fn show(&self, what: &Occurrence) {
        match what {
            Occurrence::Wake { .. } | Occurrence::Tick { .. } | Occurrence::Committed { .. } => {}
            Occurrence::ToServer { message, .. } if matches!(**message, ToServer::Heartbeat(_)) => {
            }
            other => {
                let text = format!("{other:?}");
                eprintln!(
                    "{:>9} {}",
                    self.now,
                    text.chars().take(400).collect::<String>()
                );
            }
        }
    }

    fn happen(&mut self, what: Occurrence) {
        match what {
            Occurrence::Wake { host, process } => self.wake(host, process),
            Occurrence::Step {
                host,
                process,
                event,
            } => self.step_of(host, process, *event),
            Occurrence::SlotChanges { host, process, to } => self.slot_changes(host, process, to),
            Occurrence::Harm { host, run } => self.harm(host, run),
            Occurrence::Connect { host, process } => self.connect(host, process),
            Occurrence::SessionGone { host, session } => self.session_gone(host, session),
            Occurrence::ServerMisses { host, session } => self.server_misses(host, session),
            Occurrence::Sleep { host, for_ms } => self.sleep(host, for_ms),
            Occurrence::WakeUp { host, slept_ms } => self.wake_up(host, slept_ms),
            Occurrence::Down {
                host,
                clean,
                for_ms,
            } => self.down(host, clean, for_ms),
            Occurrence::Boot { host } => self.boot(host),
            Occurrence::Start { host, boot } => self.start_agent(host, boot),
            Occurrence::HostFault { host } => self.host_fault(host),
            Occurrence::DiskFree { host } => self.hosts[host].disk_full = false,
            Occurrence::ToServer {
                host,
                session,
                message,
            } => self.reaches_server(host, session, *message),
            Occurrence::ToAgent {
                host,
                session,
                message,
            } => self.reaches_agent(host, session, *message),
            Occurrence::Committed { run } => self.committed(run),
            Occurrence::Tick { run } => self.tick(run),
            Occurrence::ServerStarts => self.server_starts(),
            Occurrence::ServerFault => self.server_fault(),
            Occurrence::Operator => self.operator(),
            Occurrence::Heals => self.heals(),
        }
    }

    /// Index of a host by its id.
    pub(crate) fn index_of(&self, id: ringward_domain::HostId) -> Option<usize> {
        self.hosts.iter().position(|host| host.id == id)
    }

    fn how_it_stands(&self) -> String {
        let hosts: Vec<String> = self
            .hosts
            .iter()
            .map(|host| {
                format!(
                    "{} on={} asleep={} session={:?} runs {} attempt {:?}",
                    host.id,
                    host.on,
                    host.asleep,
                    host.session,
                    host.running(),
                    host.ledger().attempt.map(|a| (a.rollout, a.phase))
                )
            })
            .collect();
        format!("{}\n{}", self.server.how_it_stands(), hosts.join("\n"))
    }
}
