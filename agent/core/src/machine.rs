//! The machine: what it holds, and the order in which one step settles it.

use crate::attempt::Progress;
use crate::containment::Containment;
use crate::event::Started;
use crate::link::Link;
use crate::observe::Told;
use crate::outbox::Outbox;
use crate::prepare::Preparation;
use crate::random::Random;
use crate::revert::Reverting;
use crate::signals::Signals;
use crate::soak::AwakeClock;
use crate::trial::Trial;
use crate::{Effect, Event};
use ringward_domain::host::Facts;
use ringward_domain::ledger::{Attempt, AttemptPhase, Installed, Ledger, NotSwitchedWhy};
use ringward_domain::observed::AttemptObserved;
use ringward_domain::session::{ToAgent, ToServer};
use ringward_domain::{
    Absence, AgentStart, BootId, Desired, Millis, PackageName, ReleaseDigest, Timestamp,
};
use std::collections::BTreeMap;

/// How long a failed ledger write waits for its next try.
const LEDGER_RETRY: Millis = Millis::secs(5);
/// An announced absence that did not come about is forgotten after this long awake.
const AWAY_FORGOTTEN: Millis = Millis::mins(2);

/// The whole agent as a value. See the crate's documentation for the contract.
#[derive(Debug)]
pub struct Machine {
    pub(crate) boot: BootId,
    pub(crate) agent_start: AgentStart,
    pub(crate) facts: Facts,
    pub(crate) agent_version: String,
    pub(crate) last_stop_clean: Option<bool>,
    pub(crate) random: Random,
    pub(crate) clock: AwakeClock,
    pub(crate) ledger: Ledger,
    /// `false`: the ledger on disk is not ours to write; report only.
    pub(crate) acts: bool,
    /// When the ledger is to be written again after a failure.
    pub(crate) ledger_retry: Option<Timestamp>,
    /// What the current slot of each package holds.
    pub(crate) slots: BTreeMap<PackageName, Option<Installed>>,
    pub(crate) link: Link,
    pub(crate) signals: Signals,
    pub(crate) desired: Option<Desired>,
    pub(crate) preparation: Preparation,
    pub(crate) progress: Progress,
    pub(crate) trial: Option<Trial>,
    pub(crate) reverting: Option<Reverting>,
    /// When the reboot into a trial was asked for last.
    pub(crate) rebooting: Option<Timestamp>,
    /// Whether the guard was told to arm (`Some`), as far as this process knows.
    pub(crate) armed: Option<bool>,
    /// A burned attempt that must be told beside the trial it would have ended.
    pub(crate) aside: Option<AttemptObserved>,
    pub(crate) told: Told,
    pub(crate) containment: Containment,
    /// The time of the step under way.
    pub(crate) seen: Timestamp,
    away_since: Option<Timestamp>,
    stopped: bool,
    pub(crate) out: Outbox,
}

impl Machine {
    /// Begins with what the daemon found; `now` is the boot-time clock.
    #[must_use]
    pub fn start(started: Started, now: Timestamp) -> (Self, Vec<Effect>) {
        let mut machine = Self {
            boot: started.boot,
            agent_start: started.agent_start,
            facts: started.facts,
            agent_version: started.agent_version,
            last_stop_clean: started.last_stop_clean,
            random: Random::new(started.seed),
            clock: AwakeClock::default(),
            acts: started.ledger.is_some(),
            ledger: started.ledger.unwrap_or_default(),
            ledger_retry: None,
            slots: BTreeMap::new(),
            link: Link::default(),
            signals: Signals::new(started.spool),
            desired: None,
            preparation: Preparation::default(),
            progress: Progress::Idle { not_before: now },
            trial: None,
            reverting: None,
            rebooting: None,
            armed: None,
            aside: None,
            told: Told::default(),
            containment: Containment::start(
                started.orders,
                started.boot,
                now.since(Timestamp::default()),
            ),
            seen: now,
            away_since: None,
            stopped: false,
            out: Outbox::default(),
        };
        machine.recover(started.slots, started.trial_manifest, now);
        machine.link_start();
        machine.settle(now);
        let effects = machine.out.take(&machine.ledger);
        (machine, effects)
    }

    /// Takes one event and answers what is to be done. `now` must not be earlier than at the step
    /// before; if it is, time stands still.
    pub fn step(&mut self, event: Event, now: Timestamp) -> Vec<Effect> {
        if self.stopped {
            return Vec::new();
        }
        self.seen = now;
        match event {
            Event::Connected => self.on_connected(now),
            Event::Disconnected => self.on_disconnected(now),
            Event::Message(message) => self.on_message(message, now),
            Event::Timer => {}
            Event::Prepared {
                rollout,
                release,
                outcome,
            } => self.on_prepared(rollout, release, outcome, now),
            Event::Switched(outcome) => self.on_switched(outcome, now),
            Event::LedgerFailed => self.on_ledger_failed(now),
            Event::SpoolFailed { seq } => {
                self.signals.failed(seq, now);
                return Vec::new(); // a ledger failure of the same list may follow
            }
            Event::Probes { failed } => self.on_probes(&failed, now),
            Event::Signal(draft) => self.on_signal(draft, now),
            Event::GoingAway(absence) => self.on_going_away(absence, now),
            Event::Resumed { slept } => self.on_resumed(slept, now),
            Event::NetworkReachable(reachable) => self.on_network(reachable, now),
            Event::Vouched(vouched) => self.containment.on_vouched(vouched),
            Event::OrdersWritten(written) => self.containment.on_written(written, self.awake(now)),
            Event::Isolated(outcome) => self.containment.on_isolated(outcome, self.awake(now)),
            Event::IsolationEnded(ended) => {
                self.containment.on_isolation_ended(ended, self.awake(now));
            }
            Event::ServerProved(reached) => self.containment.on_server_proved(reached),
            Event::Collected(outcome) => self.containment.on_collected(outcome),
            Event::Stopping => return self.on_stopping(now),
        }
        self.settle(now);
        self.out.take(&self.ledger)
    }

    /// The ledger as it will stand once every effect given out is carried out.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// When `Event::Timer` is next wanted.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        if self.stopped {
            return None;
        }
        let away = self
            .away_since
            .map(|since| self.clock.to_boottime(since + AWAY_FORGOTTEN));
        [
            self.ledger_retry,
            away,
            self.link_wakeup(),
            self.signals.wakeup(self.link.is_up(), self.ledger_retry),
            self.preparation.wakeup(),
            self.progress_wakeup(),
            self.trial_wakeup(),
            self.revert_wakeup(),
            self.orders_wakeup(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn on_message(&mut self, message: ToAgent, now: Timestamp) {
        match message {
            ToAgent::Welcome { protocol } => self.on_welcome(protocol, now),
            ToAgent::Desired(desired) => self.on_desired(*desired, now),
            ToAgent::Grant { nonce, life } => self.on_grant(nonce, life, now),
            ToAgent::Wait {
                nonce, retry_after, ..
            } => self.on_wait(nonce, retry_after, now),
            ToAgent::Begun { nonce } => self.on_begun(nonce, now),
            ToAgent::BeginRefused { nonce, why } => self.on_begin_refused(nonce, why, now),
            ToAgent::SignalsDurable { through } => self.on_signals_durable(through),
            ToAgent::ComeBack { after } => self.on_come_back(after),
            // Kept and checked by the daemon; no decision follows from it.
            ToAgent::AuditHead(_) => {}
        }
    }

    /// Everything that time or a changed level brings about, in an order in which each part sees
    /// what the parts before it decided.
    fn settle(&mut self, now: Timestamp) {
        if self.ledger_retry.is_some_and(|at| at <= now) {
            self.ledger_retry = None;
            self.write_ledger();
        }
        if self
            .away_since
            .is_some_and(|since| self.clock.awake(now).since(since) >= AWAY_FORGOTTEN)
        {
            self.away_since = None;
        }
        self.settle_trial(now);
        self.settle_progress(now);
        self.settle_desired(now);
        self.settle_request(now);
        self.settle_link(now);
        self.settle_orders(now);
        self.settle_signals(now);
        self.tell();
        self.settle_reboot(now);
        self.settle_revert(now);
        self.settle_guard();
    }

    fn on_going_away(&mut self, absence: Absence, now: Timestamp) {
        self.away_since = Some(self.clock.awake(now));
        self.give_up_progress(
            match absence {
                Absence::Suspend => NotSwitchedWhy::Suspended,
                Absence::PowerOff | Absence::UserStop => NotSwitchedWhy::Restarted,
            },
            now,
        );
        if self.link.is_up() {
            self.out.send(ToServer::Absent(absence));
        }
    }

    fn on_resumed(&mut self, slept: Millis, now: Timestamp) {
        self.clock.slept(slept);
        self.trial_slept(now);
        self.away_since = None;
        self.give_up_begin_after_suspend(now);
        self.heartbeat_soon(now);
    }

    fn on_stopping(&mut self, now: Timestamp) -> Vec<Effect> {
        self.give_up_progress(NotSwitchedWhy::Restarted, now);
        self.tell();
        self.out.act(Effect::Disconnect);
        self.stopped = true;
        self.out.take(&self.ledger)
    }

    fn on_ledger_failed(&mut self, now: Timestamp) {
        self.ledger_retry = Some(now + LEDGER_RETRY);
        self.told.forget();
        self.armed = None;
        self.rebooting = None;
        self.undo_unwritten_switch(now);
        self.undo_unwritten_revert();
    }

    /// Marks the ledger for writing at the end of this step. A machine that may not act writes
    /// nothing: the file belongs to a newer version, or to a person who looks into the damage.
    pub(crate) fn write_ledger(&mut self) {
        if self.acts {
            self.out.ledger();
        }
    }

    /// Whether new attempts may begin now.
    pub(crate) fn may_begin(&self) -> bool {
        self.acts
            && self.ledger_retry.is_none()
            && self.away_since.is_none()
            && self.reverting.is_none()
            && self.link.is_up()
    }

    /// What the package's current slot holds.
    pub(crate) fn running(&self, package: &PackageName) -> Option<&Installed> {
        self.slots.get(package).and_then(Option::as_ref)
    }

    /// The ledger's attempt while it is switching or on trial.
    pub(crate) fn open_attempt(&self) -> Option<&Attempt> {
        self.ledger.attempt.as_ref().filter(|attempt| {
            matches!(attempt.phase, AttemptPhase::Switching | AttemptPhase::Trial)
        })
    }

    /// Whether this host must not install the release: reverted from by itself, or barred by the
    /// server. A full list of own bars bars everything: better no update than a forgotten bar.
    pub(crate) fn is_barred(&self, release: &ReleaseDigest) -> bool {
        self.ledger.bars.contains(release)
            || self.ledger.bars.len() >= ringward_domain::limits::BARS_MAX
            || self
                .desired
                .as_ref()
                .is_some_and(|desired| desired.bars.contains(release))
    }
}
