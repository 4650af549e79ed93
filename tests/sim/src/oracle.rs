//! What never bends (DESIGN §2), watched from outside: by what the hosts did and what the store
//! holds, not by what either core believes.

use crate::host::SimHost;
use crate::scenario::{self, Harm, Scenario};
use crate::store::Durable;
use crate::window::window_at_most;
use ringward_domain::ids::ReleaseDigest;
use ringward_domain::ledger::{AttemptPhase, Installed, Ledger, RevertWhy};
use ringward_domain::report::{Decision, HaltWhy, RolloutState, Standing};
use ringward_domain::session::{ToAgent, ToServer};
use ringward_domain::signal::{Signal, SignalKind};
use ringward_domain::{AssignmentKind, HostId, Millis, Nonce, RolloutId, Timestamp};
use ringward_server_core::control::Control;
use ringward_server_core::event::Effect;
use ringward_server_core::record::{Record, RecordKey};
use ringward_server_core::rollout::Rollout;
use ringward_server_core::rollout::member::{Ending, Lane, Stage};
use std::collections::{BTreeMap, BTreeSet};

/// What one agent process was told and did; times are of the host's boot-time clock.
#[derive(Debug, Default)]
pub struct Watch {
    requested: BTreeMap<Nonce, Timestamp>,
    life: BTreeMap<Nonce, Millis>,
    first_begin: BTreeMap<Nonce, Timestamp>,
    begun: BTreeMap<Nonce, u64>,
    /// Real time since which the trial could soak in this process.
    soaks_since: u64,
    slept_ms: u64,
    jumped: bool,
    reverted: BTreeSet<ReleaseDigest>,
}

impl Watch {
    /// A new process knows nothing of the one before.
    pub fn starts(&mut self, now: u64) {
        *self = Self {
            soaks_since: now,
            reverted: std::mem::take(&mut self.reverted),
            ..Self::default()
        };
    }

    /// The process is told something.
    pub fn told(&mut self, message: &ToAgent, now: u64) {
        match message {
            ToAgent::Grant { nonce, life } => {
                self.life.entry(*nonce).or_insert(*life);
            }
            ToAgent::Begun { nonce } => {
                self.begun.entry(*nonce).or_insert(now);
            }
            _ => {}
        }
    }

    /// A slot changed: soak can begin.
    pub fn switched(&mut self, now: u64) {
        self.soaks_since = now;
        self.slept_ms = 0;
        self.jumped = false;
    }

    /// The host was asleep.
    pub fn slept(&mut self, ms: u64) {
        self.slept_ms += ms;
    }

    /// Its clock jumped: nobody can tell how long anything took.
    pub fn jumped(&mut self) {
        self.jumped = true;
    }
}

/// The watcher.
#[derive(Debug)]
pub struct Oracle {
    /// The first thing that bent.
    pub bent: Option<String>,
    soak_ms: u64,
    silence: Millis,
    attribution: Millis,
    /// What each nonce was asked for.
    nonces: BTreeMap<Nonce, (RolloutId, ReleaseDigest)>,
    /// When the new release became bad, durably; real time.
    bad_since: Option<u64>,
    heard: BTreeMap<HostId, Timestamp>,
    absent: BTreeSet<HostId>,
    started: Timestamp,
    resumed: BTreeSet<RolloutId>,
    decisions: u64,
    /// Grants made: said again, they are not made again.
    granted: BTreeSet<Nonce>,
    /// Hosts that ran the new release at any time.
    exposed: BTreeSet<HostId>,
}

impl Oracle {
    /// Nothing bent yet.
    #[must_use]
    pub fn new(scenario: &Scenario) -> Self {
        Self {
            bent: None,
            soak_ms: scenario.soak_ms,
            silence: Millis(scenario.silence_ms),
            attribution: Millis::hours(1),
            nonces: BTreeMap::new(),
            bad_since: None,
            heard: BTreeMap::new(),
            absent: BTreeSet::new(),
            started: Timestamp(0),
            resumed: BTreeSet::new(),
            decisions: 0,
            granted: BTreeSet::new(),
            exposed: BTreeSet::new(),
        }
    }

    /// Something bent.
    pub fn bend(&mut self, what: String) {
        self.bent.get_or_insert(what);
    }

    /// Something must hold.
    pub fn require(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.bend(what());
        }
    }

    // ----- hosts -----

    /// A host sends: a `Begin` only while its grant lives, counted from the request (§4).
    pub fn sends(&mut self, host: &mut SimHost, message: &ToServer, now: u64) {
        let clock = host.clock(now);
        match message {
            ToServer::RequestGrant(request) => {
                host.watch.requested.entry(request.nonce).or_insert(clock);
                self.nonces
                    .insert(request.nonce, (request.rollout, request.release));
            }
            ToServer::Begin(begin) => {
                host.watch.first_begin.entry(begin.nonce).or_insert(clock);
                let requested = host.watch.requested.get(&begin.nonce).copied();
                let life = host.watch.life.get(&begin.nonce).copied();
                let alive = requested
                    .zip(life)
                    .is_some_and(|(requested, life)| clock.since(requested) < life);
                let id = host.id;
                self.require(alive, || {
                    format!(
                        "{id} sent Begin for {} after the life of its grant",
                        begin.nonce
                    )
                });
            }
            _ => {}
        }
    }

    /// A host switches: written down first, by a `Begun` of this very process within 10 s, and never
    /// to what it or the fleet went back from (§2.2, §2.5, §4).
    pub fn switches(&mut self, host: &mut SimHost, to: &Installed, now: u64) {
        let id = host.id;
        let clock = host.clock(now);
        let ledger = host.ledger();
        let Some(attempt) = ledger
            .attempt
            .as_ref()
            .filter(|attempt| attempt.phase == AttemptPhase::Switching && attempt.to == *to)
        else {
            self.bend(format!("{id} switches without having written it down"));
            return;
        };
        let nonce = attempt.nonce;
        let watch = &host.watch;
        let begun = watch.begun.contains_key(&nonce);
        self.require(begun, || format!("{id} switches without Begun for {nonce}"));
        let in_time = watch
            .first_begin
            .get(&nonce)
            .is_some_and(|first| clock.since(*first) <= Millis::secs(10));
        self.require(in_time, || {
            format!("{id} switches by a Begun that came too late")
        });
        self.require(!ledger.bars.contains(&to.release), || {
            format!("{id} switches to what it bars")
        });
        self.require(!watch.reverted.contains(&to.release), || {
            format!("{id} switches again to what it went back from")
        });
        // A Begun given just before may still arrive within its 10 s.
        let bad = self.bad_since.is_some_and(|since| now > since + 10_500);
        self.require(
            !(bad && to.release == scenario::digest(scenario::NEW)),
            || format!("{id} installs the release that was rolled back"),
        );
    }

    /// A host runs the new release.
    pub fn exposed(&mut self, host: HostId) {
        self.exposed.insert(host);
    }

    /// At the end the server knows of every host that ever ran the release, and of every one that
    /// went back alone as a failure (§2.1: nothing slips through).
    pub fn accounts(&mut self, install: &Rollout, hosts: &[SimHost]) {
        for host in hosts {
            let stage = install.member(host.id).map(|member| &member.stage);
            let ran = self.exposed.contains(&host.id);
            let known = matches!(stage, Some(Stage::Ended(..)));
            self.require(known || !ran, || {
                format!(
                    "{} ran the release, the server has it as {stage:?}",
                    host.id
                )
            });
            let bars = host
                .ledger()
                .bars
                .contains(&scenario::digest(scenario::NEW));
            let failed = matches!(
                stage,
                Some(Stage::Ended(
                    Ending::Failed(_) | Ending::Reverted(_) | Ending::Silent | Ending::RolledBack,
                    _
                ))
            );
            self.require(failed || !bars, || {
                format!(
                    "{} went back alone, the server has it as {stage:?}",
                    host.id
                )
            });
        }
    }

    /// A host goes back alone: only from a release that hurts it (§2.6).
    pub fn goes_back(&mut self, index: usize, host: &SimHost, scenario: &Scenario) {
        let ledger = host.ledger();
        let Some(attempt) = ledger.attempt.as_ref() else {
            self.bend(format!(
                "{} goes back without having written it down",
                host.id
            ));
            return;
        };
        let AttemptPhase::Reverted(why) = attempt.phase else {
            self.bend(format!(
                "{} goes back without having written the reason",
                host.id
            ));
            return;
        };
        let hurt = scenario.harm_of(attempt.to.release.0[0], index) != Harm::None;
        self.require(hurt || why == RevertWhy::BadBoots, || {
            format!(
                "{} went back ({why:?}) from a release that did nothing to it",
                host.id
            )
        });
    }

    /// A ledger is written: desired states only grow, bars stay, soak is time awake (§2.9, §2.5, §2.1).
    pub fn ledger_written(
        &mut self,
        host: &mut SimHost,
        new: &Ledger,
        now: u64,
        _scenario: &Scenario,
    ) {
        let old = host.ledger();
        let id = host.id;
        self.require(new.accepted >= old.accepted, || {
            format!("{id} accepted {:?} after {:?}", new.accepted, old.accepted)
        });
        self.require(old.bars.is_subset(&new.bars), || {
            format!("{id} forgot a bar")
        });
        let Some(attempt) = new.attempt.as_ref() else {
            return;
        };
        let before = old.attempt.as_ref().filter(|b| b.nonce == attempt.nonce);
        let before = before.map(|b| b.phase);
        match attempt.phase {
            AttemptPhase::Committed
                if before.is_some() && before != Some(AttemptPhase::Committed) =>
            {
                let awake = now
                    - host.watch.soaks_since
                    - host.watch.slept_ms.min(now - host.watch.soaks_since);
                let enough = host.watch.jumped || awake + 100 >= self.soak_ms;
                self.require(enough, || {
                    format!(
                        "{id} committed after {awake} ms awake of {} ms soak",
                        attempt.soak.0
                    )
                });
            }
            AttemptPhase::Reverted(_) => {
                host.watch.reverted.insert(attempt.to.release);
            }
            _ => {}
        }
    }

    // ----- server -----

    /// The server started, with this fleet clock.
    pub fn server_started(&mut self, clock: Timestamp) {
        self.started = clock;
        self.heard.clear();
        self.absent.clear();
    }

    /// The server took a message of a host.
    pub fn heard(&mut self, host: HostId, absent: bool, clock: Timestamp) {
        self.heard.insert(host, clock);
        if absent {
            self.absent.insert(host);
        } else {
            self.absent.remove(&host);
        }
    }

    /// A person resumed a halted rollout: its evidence starts anew.
    pub fn resumed(&mut self, rollout: RolloutId) {
        self.resumed.insert(rollout);
    }

    /// Something became durable.
    pub fn durable(&mut self, durable: &Durable, now: u64) {
        let key = RecordKey::Release(scenario::digest(scenario::NEW));
        if let Some(Record::Release(release)) = durable.records.get(&key)
            && release.standing == Standing::Bad
        {
            self.bad_since.get_or_insert(now);
        }
    }

    /// A message leaves the server: everything it rests on must be durable (§4, §2.10).
    pub fn released(&mut self, host: &SimHost, message: &ToAgent, durable: &Durable) {
        match message {
            ToAgent::Grant { nonce, .. } => {
                self.require_member(host.id, *nonce, durable, "Grant");
            }
            ToAgent::Begun { nonce } => self.require_member(host.id, *nonce, durable, "Begun"),
            ToAgent::SignalsDurable { through } => {
                for seq in host.spool.keys().filter(|seq| *seq <= through) {
                    let stored = durable.signals.contains_key(&(host.id, *seq));
                    let id = host.id;
                    self.require(stored, || {
                        format!("signal {seq} of {id} was acknowledged before it was durable")
                    });
                }
            }
            _ => {}
        }
    }

    fn require_member(&mut self, host: HostId, nonce: Nonce, durable: &Durable, what: &str) {
        let known = self.nonces.get(&nonce).and_then(|(rollout, _)| {
            match durable.records.get(&RecordKey::Member(*rollout, host)) {
                Some(Record::Member(member)) => Some(member),
                _ => None,
            }
        });
        let stands = known.is_some_and(|record| record.member.nonce() == Some(nonce));
        self.require(stands, || {
            format!("{what} for {nonce} of {host} went out, and no durable record stands behind it: it went out before it was durable, or for a dead nonce")
        });
    }

    /// The core decided: windows, silence, halts (§2.3, §2.1, §3).
    pub fn decided(
        &mut self,
        control: &Control,
        effects: &[Effect],
        ticked: bool,
        clock: Timestamp,
    ) {
        self.decisions += 1;
        for effect in effects {
            if let Effect::Send(host, message) = effect
                && let ToAgent::Grant { nonce, .. } = message.as_ref()
            {
                self.granted(control, *host, *nonce);
            }
        }
        let changed = effects
            .iter()
            .any(|effect| matches!(effect, Effect::Put(record) if matches!(**record, Record::Rollout(_) | Record::Member(_))));
        let looks = changed || (ticked && self.decisions.is_multiple_of(8));
        if !looks {
            return;
        }
        for (id, state) in control.rollouts() {
            let Some(rollout) = control.rollout(id) else {
                continue;
            };
            self.silence(rollout, clock);
            self.evidence(rollout, state, ticked, clock);
            if self.decisions.is_multiple_of(4) {
                self.replanning(rollout, clock);
            }
        }
    }

    /// In flight never exceeds the window by a grant; what a released grant may still begin is in
    /// flight (§2.3).
    fn granted(&mut self, control: &Control, host: HostId, nonce: Nonce) {
        let Some((rollout, _)) = self.nonces.get(&nonce).copied() else {
            self.bend(format!("a grant for a nonce nobody asked with: {nonce}"));
            return;
        };
        let Some(rollout) = control
            .rollout(rollout)
            .filter(|_| self.granted.insert(nonce))
        else {
            return;
        };
        let members = rollout.members();
        let own = members.iter().find(|member| member.host == host);
        if own.and_then(|m| m.lane()) != Some(Lane::Window) {
            return;
        }
        let in_flight = members
            .iter()
            .filter(|m| m.lane() == Some(Lane::Window))
            .count() as u64;
        // Stragglers of complete rings come under the window of the ring that is open.
        let ring = rollout
            .current()
            .min(rollout.rings().len().saturating_sub(1));
        let window = window_at_most(rollout, ring, control.now());
        self.require(in_flight <= window, || {
            format!(
                "a grant made {in_flight} in flight in {}, the window is {window}",
                rollout.id
            )
        });
    }

    /// An exposed host is not silent for longer than its deadline without being named (§2.1).
    fn silence(&mut self, rollout: &Rollout, clock: Timestamp) {
        let slack = Millis::secs(30);
        for member in rollout.members() {
            let Stage::Exposed(exposure) = &member.stage else {
                continue;
            };
            if exposure.absent.is_some() || exposure.slotless || self.absent.contains(&member.host)
            {
                continue;
            }
            let heard = self
                .heard
                .get(&member.host)
                .copied()
                .unwrap_or(self.started);
            let quiet = clock.since(heard.max(self.started).max(exposure.begun_at));
            let host = member.host;
            self.require(quiet <= self.silence + slack, || {
                format!(
                    "{host} is silent for {quiet} after Begin and not named: {:?} at {clock:?} deadline {:?} timer {:?}",
                    member.stage, rollout.next_deadline(), member.timer
                )
            });
        }
    }

    /// Failed exposures all count, and what they prove halts with the event that proves it (§2.1, §3).
    fn evidence(&mut self, rollout: &Rollout, state: RolloutState, ticked: bool, clock: Timestamp) {
        let report = rollout.verdict(clock);
        if !self.resumed.contains(&rollout.id) {
            let failed = rollout.members().iter().filter(|m| {
                matches!(
                    m.stage,
                    Stage::Ended(Ending::Failed(_) | Ending::Reverted(_) | Ending::Silent, _)
                )
            });
            let failed = failed.count() as u64;
            self.require(report.failed >= failed, || {
                format!(
                    "{failed} exposures failed in {}, {} are counted",
                    rollout.id, report.failed
                )
            });
        }
        let halts = matches!(
            report.decision,
            Decision::Halt(
                HaltWhy::MaxFailed { .. }
                    | HaltWhy::EvidenceOfHarm { .. }
                    | HaltWhy::RepeatedSignature { .. }
            )
        );
        let runs = matches!(state, RolloutState::Running | RolloutState::Held);
        self.require(!(halts && runs && !ticked), || {
            format!("{} runs on although: {}", rollout.id, report.sentence)
        });
    }

    /// Planning twice changes nothing (§3).
    fn replanning(&mut self, rollout: &Rollout, clock: Timestamp) {
        let mut copy = rollout.clone();
        copy.plan(clock);
        let _ = copy.drain();
        copy.plan(clock);
        let changes = copy.drain();
        let still = !changes.rollout
            && changes.members.is_empty()
            && changes.invites.is_empty()
            && changes.news.is_empty();
        self.require(still, || {
            format!("planning {} twice changed {changes:?}", rollout.id)
        });
    }

    /// A crash loop within the attribution time leaves no host confirmed (§4, verdict).
    pub fn weighed(
        &mut self,
        control: &Control,
        host: HostId,
        signals: &[Signal],
        clock: Timestamp,
    ) {
        for signal in signals.iter().filter(|s| s.kind == SignalKind::CrashLoop) {
            for (id, _) in control.rollouts() {
                let Some(rollout) = control
                    .rollout(id)
                    .filter(|r| r.spec.kind == AssignmentKind::Install)
                else {
                    continue;
                };
                let Some(Stage::Ended(Ending::Confirmed, exposure)) =
                    rollout.member(host).map(|m| &m.stage)
                else {
                    continue;
                };
                let after = signal.seq >= exposure.first_signal
                    && signal.boot == exposure.boot
                    && signal.at_boottime > exposure.boottime + Millis::mins(1);
                let within = clock <= exposure.begun_at + Millis(self.attribution.0 / 2);
                self.require(!(after && within), || {
                    format!("{host} crash-looped after it was confirmed, and still is")
                });
            }
        }
    }
}
