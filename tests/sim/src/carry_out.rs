//! An agent's process: its steps, and the effects it wants carried out.

use crate::scenario::{self, Harm};
use crate::world::{Occurrence, World};
use ringward_agent_core::event::{PrepareFailure, SwitchFailure};
use ringward_agent_core::{Effect, Event};
use ringward_domain::ids::SignalSeq;
use ringward_domain::ledger::Installed;
use ringward_domain::limits::SIGNALS_PER_BATCH_MAX;
use ringward_domain::observed::PrepareError;
use ringward_domain::session::{ToAgent, ToServer};
use ringward_guard::{LedgerFile, codec};

impl World {
    pub(crate) fn wake(&mut self, host: usize, process: u64) {
        let now = self.now;
        let due = self.hosts[host]
            .process
            .as_ref()
            .is_some_and(|p| p.number == process && p.wake_at == Some(now));
        if due {
            if let Some(p) = self.hosts[host].process.as_mut() {
                p.wake_at = None;
            }
            self.step_of(host, process, Event::Timer);
        }
    }

    /// Steps a process, if it still runs; a sleeping host gets it later.
    pub(crate) fn step_of(&mut self, host: usize, process: u64, event: Event) {
        if self.hosts[host].asleep {
            let event = Box::new(event);
            self.hosts[host].backlog.push(Occurrence::Step {
                host,
                process,
                event,
            });
            return;
        }
        if self.hosts[host].process.as_ref().map(|p| p.number) == Some(process) {
            self.step(host, event);
        }
    }

    pub(crate) fn step(&mut self, host: usize, event: Event) {
        if let Event::Message(message) = &event {
            self.hosts[host].watch.told(message, self.now);
        }
        let clock = self.hosts[host].clock(self.now);
        let Some(process) = self.hosts[host].process.as_mut() else {
            return;
        };
        let effects = process.machine.step(event, clock);
        self.carry_out(host, effects);
    }

    /// Carries a list of effects out, in order; the process may die at any place of it.
    pub(crate) fn carry_out(&mut self, host: usize, effects: Vec<Effect>) {
        let dies_at = if self.random.permille(self.cut_permille()) {
            Some(self.random.below(effects.len() as u64 + 1) as usize)
        } else {
            None
        };
        let mut not_spooled = None;
        for (index, effect) in effects.into_iter().enumerate() {
            if dies_at == Some(index) {
                self.kill_agent(host);
                return;
            }
            match effect {
                Effect::WriteLedger(ledger) => {
                    if self.hosts[host].disk_full {
                        if let Some(seq) = not_spooled {
                            self.step(host, Event::SpoolFailed { seq });
                        }
                        self.step(host, Event::LedgerFailed);
                        return;
                    }
                    self.oracle.ledger_written(
                        &mut self.hosts[host],
                        &ledger,
                        self.now,
                        &self.scenario,
                    );
                    let file = LedgerFile {
                        ledger: *ledger,
                        kept: Vec::new(),
                    };
                    self.hosts[host].ledger = codec::encode(&file);
                }
                Effect::Spool(signal) => {
                    if self.hosts[host].disk_full {
                        not_spooled = Some(signal.seq);
                        continue;
                    }
                    let host = &mut self.hosts[host];
                    host.spool_next = signal.seq.next();
                    host.spool.insert(signal.seq, signal);
                }
                other => self.perform(host, other),
            }
        }
        if let Some(seq) = not_spooled {
            self.step(host, Event::SpoolFailed { seq });
        }
        self.schedule_wake(host);
    }

    fn cut_permille(&self) -> u64 {
        if self.healed {
            0
        } else {
            self.scenario.cut_permille
        }
    }

    fn schedule_wake(&mut self, host: usize) {
        let now = self.now;
        let sim = &mut self.hosts[host];
        let Some(at) = sim.process.as_ref().and_then(|p| p.machine.next_wakeup()) else {
            return;
        };
        // A wake-up that is due already comes at once, yet after what else happens now.
        let at = sim.real(at).max(now + 1);
        if let Some(process) = sim.process.as_mut()
            && process.wake_at != Some(at)
        {
            process.wake_at = Some(at);
            let process = process.number;
            self.at(at, Occurrence::Wake { host, process });
        }
    }

    fn perform(&mut self, host: usize, effect: Effect) {
        let Some(process) = self.hosts[host].process.as_ref().map(|p| p.number) else {
            return;
        };
        match effect {
            Effect::Send(message) => self.send_to_server(host, message),
            Effect::SendSignals { from } => self.send_signals(host, from),
            Effect::TrimSpool { through } => self.trim(host, through),
            Effect::Connect { after } => self.after(after.0, Occurrence::Connect { host, process }),
            Effect::Disconnect => self.close_session(host),
            Effect::Prepare {
                rollout, release, ..
            } => {
                let failed = !self.healed && self.random.permille(50);
                let number = release.0[0];
                let outcome = match failed {
                    true => Err(PrepareFailure::Retry(PrepareError::Download)),
                    false => Ok(Box::new(scenario::manifest(number, self.scenario.boots))),
                };
                let takes = self.random.between(50, 8_000);
                let event = Event::Prepared {
                    rollout,
                    release,
                    outcome,
                };
                self.answer(host, process, takes, event);
            }
            Effect::Switch { to, .. } => {
                self.oracle.switches(&mut self.hosts[host], &to, self.now);
                self.report.switches += 1;
                self.switch(host, process, Some(to));
            }
            Effect::Revert { to, .. } => {
                self.oracle
                    .goes_back(host, &self.hosts[host], &self.scenario);
                self.switch(host, process, to);
            }
            Effect::Reboot => {
                let for_ms = self.random.between(1_000, 30_000);
                self.after(
                    300,
                    Occurrence::Down {
                        host,
                        clean: true,
                        for_ms,
                    },
                );
            }
            Effect::RunProbes(_) => {
                let sick = self.harm_now(host) == Harm::Probes;
                let failed = if sick {
                    vec!["demo.service".to_owned()]
                } else {
                    Vec::new()
                };
                let takes = self.random.between(5, 200);
                self.answer(host, process, takes, Event::Probes { failed });
            }
            Effect::WriteLedger(_)
            | Effect::Spool(_)
            | Effect::DropPrepared
            | Effect::ArmGuard
            | Effect::DisarmGuard => {}
            // No order is given in these runs; `agent/core` walks through orders on its own.
            Effect::WriteOrders(_)
            | Effect::Isolate { .. }
            | Effect::EndIsolation
            | Effect::ProveServer
            | Effect::Collect => {}
        }
    }

    fn answer(&mut self, host: usize, process: u64, after: u64, event: Event) {
        let event = Box::new(event);
        self.after(
            after,
            Occurrence::Step {
                host,
                process,
                event,
            },
        );
    }

    /// The slot changes at one moment of the switch; the process hears of it a moment later, unless
    /// it or its host dies in between.
    fn switch(&mut self, host: usize, process: u64, to: Option<Installed>) {
        let fails = !self.healed && self.random.permille(20);
        let changes = self.random.between(10, 3_000);
        let answers = changes + self.random.between(1, 500);
        let outcome = match fails {
            true => Err(SwitchFailure::Install),
            false => {
                self.after(changes, Occurrence::SlotChanges { host, process, to });
                Ok(())
            }
        };
        self.answer(host, process, answers, Event::Switched(outcome));
    }

    pub(crate) fn slot_changes(&mut self, host: usize, process: u64, to: Option<Installed>) {
        if self.hosts[host].asleep {
            let late = Occurrence::SlotChanges { host, process, to };
            self.hosts[host].backlog.push(late);
            return;
        }
        if self.hosts[host].process.as_ref().map(|p| p.number) == Some(process) {
            self.hosts[host].slot = to;
            self.hosts[host].watch.switched(self.now);
            if self.hosts[host].running() == scenario::NEW {
                self.oracle.exposed(self.hosts[host].id);
            }
            let awaits_boot = self.scenario.boots && self.hosts[host].running() == scenario::NEW;
            if !awaits_boot {
                self.release_runs(host);
            }
        }
    }

    fn send_signals(&mut self, host: usize, from: SignalSeq) {
        let signals: Vec<_> = self.hosts[host]
            .spool
            .range(from..)
            .take(SIGNALS_PER_BATCH_MAX)
            .map(|(_, signal)| signal.clone())
            .collect();
        if !signals.is_empty() {
            self.send_to_server(host, ToServer::Signals(signals));
        }
    }

    fn trim(&mut self, host: usize, through: SignalSeq) {
        let sim = &mut self.hosts[host];
        let kept = sim.spool.split_off(&through.next());
        for seq in std::mem::replace(&mut sim.spool, kept).into_keys() {
            let stored = self
                .server
                .store
                .durable
                .signals
                .contains_key(&(sim.id, seq));
            self.oracle.require(stored, || {
                format!(
                    "{} trimmed signal {seq}, which the store does not hold",
                    sim.id
                )
            });
        }
    }

    fn send_to_server(&mut self, host: usize, message: ToServer) {
        self.oracle.sends(&mut self.hosts[host], &message, self.now);
        let Some(session) = self.hosts[host].session else {
            return;
        };
        if self.harm_now(host) == Harm::NetworkLost {
            return;
        }
        if self.weather.breaks(&mut self.random) {
            self.break_session(host);
            return;
        }
        let after = self.hosts[host].arrival;
        let boxed = Box::new(message);
        if let Some(at) = self.weather.arrival(&mut self.random, self.now, after) {
            self.hosts[host].arrival = at;
            let message = boxed.clone();
            self.at(
                at,
                Occurrence::ToServer {
                    host,
                    session,
                    message,
                },
            );
        }
        // A Hello opens a connection, and TLS lets nobody replay one; it may come late, not twice.
        if let Some(at) = self.weather.echo(&mut self.random, self.now)
            && !matches!(*boxed, ToServer::Hello(_))
        {
            self.at(
                at,
                Occurrence::ToServer {
                    host,
                    session,
                    message: boxed,
                },
            );
        }
    }

    /// A message for a host. One of another session is told all the same: networks, proxies and
    /// queues have done stranger things, and nothing may come of it.
    pub(crate) fn reaches_agent(&mut self, host: usize, session: u64, message: ToAgent) {
        if self.hosts[host].asleep {
            let message = Box::new(message);
            self.hosts[host].backlog.push(Occurrence::ToAgent {
                host,
                session,
                message,
            });
            return;
        }
        if self.harm_now(host) == Harm::NetworkLost {
            return;
        }
        let own = self.hosts[host].session == Some(session);
        if own
            || matches!(
                message,
                ToAgent::Begun { .. } | ToAgent::Grant { .. } | ToAgent::Desired(_)
            )
        {
            self.step(host, Event::Message(message));
        }
    }

    pub(crate) fn connect(&mut self, host: usize, process: u64) {
        if self.hosts[host].asleep {
            self.hosts[host]
                .backlog
                .push(Occurrence::Connect { host, process });
            return;
        }
        if self.hosts[host].process.as_ref().map(|p| p.number) != Some(process)
            || self.hosts[host].session.is_some()
        {
            return;
        }
        let reachable = self.server.is_up() && self.harm_now(host) != Harm::NetworkLost;
        let broken = self.random.permille(self.weather.broken_permille * 5);
        if reachable && !broken {
            self.sessions += 1;
            self.hosts[host].session = Some(self.sessions);
            self.hosts[host].arrival = self.now;
            self.step(host, Event::Connected);
        } else {
            self.step(host, Event::Disconnected);
        }
    }

    /// The process closes its session in order.
    pub(crate) fn close_session(&mut self, host: usize) {
        if let Some(session) = self.hosts[host].session.take() {
            self.after(10, Occurrence::ServerMisses { host, session });
        }
    }

    /// A session breaks: each side learns of it in its own time.
    pub(crate) fn break_session(&mut self, host: usize) {
        if let Some(session) = self.hosts[host].session {
            let (here, there) = (self.random.below(30_000), self.random.below(40_000));
            self.after(here, Occurrence::SessionGone { host, session });
            self.after(there, Occurrence::ServerMisses { host, session });
        }
    }

    pub(crate) fn session_gone(&mut self, host: usize, session: u64) {
        if self.hosts[host].asleep {
            self.hosts[host]
                .backlog
                .push(Occurrence::SessionGone { host, session });
            return;
        }
        if self.hosts[host].session == Some(session) {
            self.hosts[host].session = None;
            self.step(host, Event::Disconnected);
        }
    }
}
