//! Carrying out what the machine decided, in the order it gave.

use super::Agent;
use crate::link::chain;
use ringward_agent_core::event::SwitchFailure;
use ringward_agent_core::{Effect, Event};
use ringward_agent_os::{Host, HostError, StopReason};
use ringward_domain::ids::SignalSeq;
use ringward_domain::ledger::{Installed, Ledger};
use ringward_domain::limits::SIGNALS_PER_BATCH_MAX;
use ringward_domain::session::{ToAgent, ToServer};
use ringward_domain::signal::{Signal, SignalDraft, SignalKind};
use ringward_domain::{Millis, PackageName};
use ringward_guard::{GuardError, LedgerFile};
use ringward_wire::session::signals_that_fit;
use std::collections::VecDeque;
use std::time::Duration;

/// Whether the machine beneath is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Go,
    PowerLost,
}

impl<H: Host> Agent<H> {
    /// Carry out effects in order; what comes of them goes to the end of `events`. A failed ledger
    /// write drops the rest and is told before everything else.
    pub(super) async fn carry_out(
        &mut self,
        effects: Vec<Effect>,
        events: &mut VecDeque<Event>,
    ) -> Flow {
        for effect in effects {
            match effect {
                Effect::WriteLedger(ledger) => {
                    if !self.write_ledger(*ledger) {
                        events.push_front(Event::LedgerFailed);
                        return Flow::Go;
                    }
                }
                Effect::Send(message) => self.send(message, events),
                Effect::SendSignals { from } => self.send_signals(from, events),
                Effect::Spool(signal) => self.spool(&signal, events),
                Effect::TrimSpool { through } => {
                    if let Err(error) = self.spool.acknowledge(through) {
                        tracing::warn!(error = chain(&error), "acknowledged signals stay for now");
                    }
                }
                Effect::Connect { after } => self.link.connect(Duration::from_millis(after.0)),
                Effect::Disconnect => self.session_over(),
                Effect::Prepare {
                    rollout,
                    package,
                    release,
                    version,
                    kind,
                } => self.prepare(rollout, package, release, version, kind),
                Effect::DropPrepared => self.drop_prepared(),
                Effect::Switch { package, to } => {
                    if let Flow::PowerLost = self.switch(&package, &to, events) {
                        return Flow::PowerLost;
                    }
                }
                Effect::Revert { package, to } => {
                    if let Flow::PowerLost = self.revert(&package, to.as_ref(), events) {
                        return Flow::PowerLost;
                    }
                }
                Effect::ArmGuard => log("arming the guard", self.host.arm_guard()),
                Effect::DisarmGuard => log("disarming the guard", self.host.disarm_guard()),
                Effect::Reboot => self.reboot().await,
                Effect::RunProbes(probes) => self.run_probes(probes),
                Effect::WriteOrders(record) => self.write_orders(&record, events),
                Effect::Isolate { allow } => self.isolate(allow),
                Effect::EndIsolation => self.end_isolation(),
                Effect::ProveServer => self.prove_server(),
                Effect::Collect => {
                    let collected = self.host.collect_anew();
                    let done = collected.is_ok();
                    log("collecting evidence anew", collected);
                    events.push_back(Event::Collected(done));
                }
            }
        }
        Flow::Go
    }

    fn write_ledger(&mut self, ledger: Ledger) -> bool {
        let file = LedgerFile {
            ledger,
            kept: self.ledger_kept.clone(),
        };
        let written = self.ledger.write(&file);
        if let Err(error) = &written {
            tracing::error!(
                error = chain(error),
                "the ledger is not written; nothing is switched"
            );
        }
        written.is_ok()
    }

    pub(super) fn send(&mut self, message: ToServer, events: &mut VecDeque<Event>) {
        if !self.link.send(message) {
            tracing::warn!("the server does not read; the session is closed");
            self.session_over();
            events.push_back(Event::Disconnected);
        }
    }

    fn send_signals(&mut self, from: SignalSeq, events: &mut VecDeque<Event>) {
        match self.spool.read(from, SIGNALS_PER_BATCH_MAX) {
            Ok(mut signals) if !signals.is_empty() => {
                signals.truncate(signals_that_fit(&signals));
                self.send(ToServer::Signals(signals), events);
            }
            Ok(_) => {
                // Damaged or dropped: there is nothing of them left to wait for.
                let through = SignalSeq(self.spool.range().1.0.saturating_sub(1));
                events.push_back(Event::Message(ToAgent::SignalsDurable { through }));
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), "signals are sent later");
            }
        }
    }

    fn spool(&mut self, signal: &Signal, events: &mut VecDeque<Event>) {
        tracing::info!(kind = ?signal.kind, key = signal.key, "{}", signal.title);
        self.counters.signal_told();
        if let Err(error) = self.spool.append(signal) {
            tracing::warn!(error = chain(&error), "a signal waits in memory");
            self.counters.signal_untold();
            events.push_back(Event::SpoolFailed { seq: signal.seq });
        }
        let losses = self.spool.losses();
        self.counters.set_losses(losses.dropped, losses.damaged);
        if losses.dropped > self.dropped_told {
            // Told once for all that is dropped until the next start: the signal that says so must
            // not itself fill the spool.
            if self.dropped_told == 0 {
                events.push_back(Event::Signal(self.spool_full(losses.dropped)));
            }
            self.dropped_told = losses.dropped;
        }
    }

    fn spool_full(&self, dropped: u64) -> SignalDraft {
        let boot = self.host.boot();
        SignalDraft {
            kind: SignalKind::AgentDegraded,
            key: format!("spool-full:{boot}"),
            boot,
            at_boottime: Millis(self.host.boottime().0),
            title: "the signal spool is full: the oldest signals are dropped".to_owned(),
            signature: String::new(),
            evidence: format!("{{\"dropped\":{dropped}}}"),
        }
    }

    fn switch(
        &mut self,
        package: &PackageName,
        to: &Installed,
        events: &mut VecDeque<Event>,
    ) -> Flow {
        let before = self.slots.running(package).ok().flatten();
        let outcome = match self.slots.switch(package, to) {
            Err(error) => Err(switch_failure(&error)),
            Ok(()) if self.is_staged(package, &to.release) => {
                self.install(package, Some(before));
                return Flow::Go;
            }
            Ok(()) => match self.host.activate(package) {
                Ok(()) => Ok(()),
                Err(HostError::PowerLost) => return Flow::PowerLost,
                Err(error) => {
                    tracing::error!(error = chain(&error), %package, "the release is not taken up");
                    self.put_back(package, before);
                    Err(SwitchFailure::Install)
                }
            },
        };
        tracing::info!(%package, version = %to.version, switched = outcome.is_ok(), "switch");
        events.push_back(Event::Switched(outcome));
        Flow::Go
    }

    pub(super) fn put_back(
        &self,
        package: &PackageName,
        before: Option<ringward_domain::ReleaseDigest>,
    ) {
        let ledger = self.machine.ledger();
        let from = ledger
            .attempt
            .as_ref()
            .and_then(|attempt| attempt.from.as_ref());
        let to = from.filter(|from| Some(from.release) == before);
        if let Err(error) = self.slots.revert(package, to) {
            tracing::error!(error = chain(&error), %package, "the earlier release is not put back");
        }
    }

    fn revert(
        &mut self,
        package: &PackageName,
        to: Option<&Installed>,
        events: &mut VecDeque<Event>,
    ) -> Flow {
        let outcome = self
            .slots
            .revert(package, to)
            .map_err(|error| switch_failure(&error));
        if outcome.is_ok() {
            if self.was_staged(package) {
                self.install(package, None);
                return Flow::Go;
            }
            match self.host.activate(package) {
                Ok(()) => {}
                Err(HostError::PowerLost) => return Flow::PowerLost,
                Err(error) => {
                    tracing::error!(error = chain(&error), %package, "the release is not taken up");
                }
            }
        }
        tracing::warn!(%package, reverted = outcome.is_ok(), "going back");
        events.push_back(Event::Switched(outcome));
        Flow::Go
    }

    async fn reboot(&mut self) {
        tracing::warn!("rebooting the host");
        log(
            "writing the clean-stop marker",
            self.host.mark_clean_stop(StopReason::AgentReboot),
        );
        log("rebooting", self.host.reboot().await);
    }
}

fn switch_failure(error: &GuardError) -> SwitchFailure {
    tracing::error!(error = chain(error), "the switch is not made");
    match error {
        GuardError::File { .. } => SwitchFailure::Disk,
        GuardError::NoTree { .. } | GuardError::Newer { .. } | GuardError::Damaged { .. } => {
            SwitchFailure::Install
        }
    }
}

fn log(doing: &'static str, outcome: Result<(), HostError>) {
    if let Err(error) = outcome {
        tracing::error!(error = chain(&error), "{doing} failed");
    }
}
