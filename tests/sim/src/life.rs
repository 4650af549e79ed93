//! Hosts on, off, asleep, and hurt by what they run.

use crate::host::{Process, facts};
use crate::scenario::{self, Harm};
use crate::world::{Occurrence, World};
use ringward_agent_core::event::Started;
use ringward_agent_core::{Event, Machine};
use ringward_domain::signal::{SignalDraft, SignalKind};
use ringward_domain::{Absence, AgentStart, Millis, Timestamp};
use ringward_guard::{BootLoader, GuardAction, LedgerFile, codec, decide};

impl World {
    /// What the release that runs does to this host.
    pub(crate) fn harm_now(&self, host: usize) -> Harm {
        self.scenario.harm_of(self.hosts[host].running(), host)
    }

    /// A release begins to run; if it is a bad one, its harm is on the way.
    pub(crate) fn release_runs(&mut self, host: usize) {
        self.hosts[host].run += 1;
        let run = self.hosts[host].run;
        let strikes = match self.harm_now(host) {
            Harm::None | Harm::Probes => return,
            Harm::CrashLoop(after) | Harm::Panic(after) => after,
            Harm::Dark => 300,
            Harm::NetworkLost => {
                // Sessions break at once; the host notices that it reaches nobody.
                self.break_session(host);
                20_000
            }
            Harm::AfterProof(after) => self.scenario.soak_ms + self.scenario.soak_ms / 2 + after,
        };
        self.after(strikes, Occurrence::Harm { host, run });
    }

    pub(crate) fn harm(&mut self, host: usize, run: u64) {
        if self.hosts[host].run != run || !self.hosts[host].on {
            return;
        }
        if self.hosts[host].asleep {
            self.after(1_000, Occurrence::Harm { host, run });
            return;
        }
        match self.harm_now(host) {
            Harm::None | Harm::Probes => {}
            Harm::CrashLoop(_) | Harm::AfterProof(_) => {
                let draft = SignalDraft {
                    kind: SignalKind::CrashLoop,
                    key: format!("crash-loop:{run}"),
                    boot: self.hosts[host].boot_id(),
                    at_boottime: Millis(self.hosts[host].clock(self.now).0),
                    title: "demo.service restarts again and again".to_owned(),
                    signature: "demo.service".to_owned(),
                    evidence: "{}".to_owned(),
                };
                self.step(host, Event::Signal(draft));
                // It goes on looping: a later agent process sees it too.
                self.after(60_000, Occurrence::Harm { host, run });
            }
            Harm::Panic(_) => {
                let for_ms = self.random.between(1_000, 20_000);
                self.down(host, false, for_ms);
            }
            Harm::Dark => {
                let for_ms = self.random.between(600_000, 2_400_000);
                self.down(host, false, for_ms);
            }
            Harm::NetworkLost => {
                self.step(host, Event::NetworkReachable(false));
                self.after(60_000, Occurrence::Harm { host, run });
            }
        }
    }

    /// The host stops. A clean stop leaves its marker.
    pub(crate) fn down(&mut self, host: usize, clean: bool, for_ms: u64) {
        if !self.hosts[host].on {
            return;
        }
        if clean {
            self.step(host, Event::Stopping);
        }
        self.break_session(host);
        let sim = &mut self.hosts[host];
        sim.session = None;
        sim.process = None;
        sim.on = false;
        sim.asleep = false;
        sim.run += 1;
        sim.backlog.clear();
        sim.last_stop_clean = clean;
        self.after(for_ms, Occurrence::Boot { host });
    }

    /// The host boots: first the guard, then the release, a little later the agent.
    pub(crate) fn boot(&mut self, host: usize) {
        let now = self.now;
        let sim = &mut self.hosts[host];
        if sim.on {
            return;
        }
        sim.on = true;
        sim.boots += 1;
        sim.booted_at = now;
        sim.jumped = 0;
        self.guard(host);
        self.release_runs(host);
        let boot = self.hosts[host].boots;
        let takes = self.random.between(400, 3_000);
        self.after(takes, Occurrence::Start { host, boot });
    }

    fn guard(&mut self, host: usize) {
        let sim = &mut self.hosts[host];
        let ledger = sim.ledger();
        let boot = sim.boot_id();
        let mut write = |ledger: Box<ringward_domain::ledger::Ledger>| {
            let file = LedgerFile {
                ledger: *ledger,
                kept: Vec::new(),
            };
            sim.ledger = codec::encode(&file);
        };
        match decide(&ledger, boot, BootLoader::Silent) {
            GuardAction::Nothing | GuardAction::AlreadyNoted => {}
            GuardAction::NoteBoot(noted) => write(noted),
            GuardAction::GoBack { ledger, to, .. } => {
                write(ledger);
                sim.slot = to;
            }
            GuardAction::FinishGoingBack { left, to, .. } => {
                if sim.slot.as_ref().is_some_and(|slot| slot.release == left) {
                    sim.slot = to;
                }
            }
        }
    }

    pub(crate) fn start_agent(&mut self, host: usize, boot: u64) {
        let sim = &self.hosts[host];
        if !sim.on || sim.boots != boot || sim.process.is_some() {
            return;
        }
        if sim.asleep {
            let late = Occurrence::Start { host, boot };
            self.hosts[host].backlog.push(late);
            return;
        }
        self.processes += 1;
        self.report.agent_starts += 1;
        let seed = self.random.bytes();
        let sim = &mut self.hosts[host];
        let ledger = sim.ledger();
        let trial = ledger.attempt.as_ref().map(|attempt| {
            Box::new(scenario::manifest(
                attempt.to.release.0[0],
                self.scenario.boots,
            ))
        });
        let unacked = sim.spool.keys().next().copied().unwrap_or(sim.spool_next);
        let mut start = [0; 16];
        start[8..].copy_from_slice(&self.processes.to_be_bytes());
        let started = Started {
            orders: Default::default(),
            boot: sim.boot_id(),
            agent_start: AgentStart(start),
            seed,
            ledger: Some(ledger),
            trial_manifest: trial,
            slots: vec![sim.inspect()],
            facts: facts(host, &self.scenario),
            agent_version: "0.1.0".to_owned(),
            last_stop_clean: Some(sim.last_stop_clean),
            spool: (unacked, sim.spool_next),
        };
        sim.watch.starts(self.now);
        let (machine, effects) = Machine::start(started, sim.clock(self.now));
        sim.process = Some(Process {
            number: self.processes,
            machine,
            wake_at: None,
        });
        self.carry_out(host, effects);
    }

    /// The agent dies; its service manager starts it again.
    pub(crate) fn kill_agent(&mut self, host: usize) {
        if self.hosts[host].process.take().is_none() {
            return;
        }
        self.close_session(host);
        let boot = self.hosts[host].boots;
        let again = self.random.between(100, 3_000);
        self.after(again, Occurrence::Start { host, boot });
    }

    /// The host falls asleep, mostly after saying so.
    pub(crate) fn sleep(&mut self, host: usize, for_ms: u64) {
        if !self.hosts[host].on || self.hosts[host].asleep {
            return;
        }
        self.hosts[host].asleep = true;
        if self.random.permille(600) {
            self.break_session(host);
        }
        let wakes = Occurrence::WakeUp {
            host,
            slept_ms: for_ms,
        };
        self.after(for_ms, wakes);
    }

    pub(crate) fn wake_up(&mut self, host: usize, slept_ms: u64) {
        if !self.hosts[host].on || !self.hosts[host].asleep {
            return;
        }
        self.hosts[host].asleep = false;
        self.hosts[host].watch.slept(slept_ms);
        let slept = Millis(slept_ms);
        self.step(host, Event::Resumed { slept });
        let process = self.hosts[host].process.as_ref().map(|p| p.number);
        if let Some(process) = process {
            let at = self.now + 1;
            if let Some(p) = self.hosts[host].process.as_mut() {
                p.wake_at = Some(at);
            }
            self.at(at, Occurrence::Wake { host, process });
        }
        for late in std::mem::take(&mut self.hosts[host].backlog) {
            let wait = 1 + self.random.below(500);
            self.after(wait, late);
        }
    }

    /// Announces a suspend, then lets it happen.
    pub(crate) fn suspend(&mut self, host: usize) {
        let for_ms = match self.random.below(3) {
            0 => self.random.between(1_000, 20_000),
            1 => self.random.between(20_000, 300_000),
            _ => self.random.between(300_000, 3_000_000),
        };
        if self.random.permille(900) {
            self.step(host, Event::GoingAway(Absence::Suspend));
        }
        let soon = self.random.below(500);
        self.after(soon, Occurrence::Sleep { host, for_ms });
    }

    /// The host's boot-time clock jumps forward, as after a stopped virtual machine goes on.
    pub(crate) fn clock_jumps(&mut self, host: usize) {
        let jump = self.random.below(600_000);
        self.hosts[host].jumped += jump;
        self.hosts[host].watch.jumped();
        if let Some(process) = self.hosts[host].process.as_mut() {
            let (number, at) = (process.number, self.now + 1);
            process.wake_at = Some(at);
            self.at(
                at,
                Occurrence::Wake {
                    host,
                    process: number,
                },
            );
        }
        debug_assert!(self.hosts[host].clock(self.now) >= Timestamp(jump));
    }
}
