//! The event loop over the server's rollout machine.

use super::chance::Chance;
use super::hosts::{HostSim, Kind, Life, Step};
use super::outcome::Run;
use super::population::{self, host, index};
use super::scenario::{Scenario, When};
use ringward_domain::ids::{AgentStart, BootId, Nonce, ReleaseDigest, RolloutId, SignalSeq};
use ringward_domain::observed::{AttemptObserved, PhaseObserved};
use ringward_domain::signal::{Signal, SignalKind};
use ringward_domain::{AssignmentKind, Millis, PackageName, Timestamp};
use ringward_server_core::rollout::member::Readiness;
use ringward_server_core::rollout::{
    Ask, AttemptSeen, BeginAnswer, GrantAnswer, News, Rollout, SignalSeen, Spec, Status,
};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

const RELEASE: ReleaseDigest = ReleaseDigest([9; 32]);
/// Longest run; a rollout that is not through by then is stuck.
const HORIZON: Millis = Millis::hours(24 * 14);
/// The server plans soon after something changed; many changes make one plan.
const PLAN_AFTER_MS: u64 = 1000;

pub(super) struct Engine<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) kinds: Vec<population::Kind>,
    pub(super) hosts: Vec<HostSim>,
    pub(super) rollout: Rollout,
    pub(super) chance: Chance,
    pub(super) now: Timestamp,
    pub(super) start: Timestamp,
    pub(super) counted_to: Timestamp,
    pub(super) exposed: u64,
    pub(super) offline: bool,
    pub(super) outage_ends: Timestamp,
    package: PackageName,
    heap: BinaryHeap<Reverse<(u64, u32, u32, Kind)>>,
    order: u32,
    planned: Option<u64>,
    soak: Millis,
    held_since: Option<Timestamp>,
    completed_at: Option<Timestamp>,
    run: Run,
}

impl<'a> Engine<'a> {
    pub(super) fn new(scenario: &'a Scenario, hosts: u32, seed: u64) -> Self {
        let kinds = population::draw(scenario, hosts, &mut Chance::new(seed, 1));
        let (rings, pace, salt) = population::rings(&kinds, seed);
        let start = Timestamp(Millis::hours(72).0);
        let package: PackageName = "content".parse().expect("a valid name");
        let spec = Spec {
            kind: AssignmentKind::Install,
            package: package.clone(),
            release: RELEASE,
            version: "2.0.0".parse().expect("a valid version"),
            boots: scenario.boots,
            leaves: None,
            expires_unix_s: None,
            number: 1,
            started_by: "sim".into(),
            reason: String::new(),
            started_unix_ms: 0,
        };
        let mut rollout = Rollout::new(RolloutId(1), spec, pace, salt, &rings, start);
        rollout.classify(|host| population::words(&kinds[index(host) as usize]));
        let mut engine = Self {
            scenario,
            hosts: vec![HostSim::default(); kinds.len()],
            kinds,
            rollout,
            chance: Chance::new(seed, 2),
            now: start,
            start,
            counted_to: start,
            exposed: 0,
            offline: false,
            outage_ends: start,
            package,
            heap: BinaryHeap::new(),
            order: 0,
            planned: None,
            soak: pace.soak,
            held_since: None,
            completed_at: None,
            run: Run {
                seed,
                hosts,
                ..Run::default()
            },
        };
        engine.history();
        engine.begin();
        engine
    }

    fn begin(&mut self) {
        for i in 0..self.hosts.len() as u32 {
            self.rollout.readiness(host(i), Readiness::Ready, self.now);
            self.next_reboot(i);
            if let Some(asleep) = self.scenario.sleep.as_ref().map(|s| s.asleep) {
                let wait = if self.chance.hits(asleep) {
                    0
                } else {
                    self.chance.wait(self.sleep_wait())
                };
                self.at(wait, i, Kind::Sleep);
            }
            if self.kinds[i as usize].lies {
                let wait = self.chance.wait(86_400_000.0);
                self.at(wait, i, Kind::Lie);
            }
        }
        if let Some(outage) = &self.scenario.outage {
            let begins = ((outage.from_h + self.chance.unit() * (outage.to_h - outage.from_h))
                * 3.6e6) as u64;
            let ends = begins + outage.minutes * 60_000;
            self.outage_ends = self.start + Millis(ends);
            self.at(begins, 0, Kind::OutageBegins);
            self.at(ends, 0, Kind::OutageEnds);
        }
        self.plan_soon();
    }

    pub(super) fn at(&mut self, after_ms: u64, i: u32, kind: Kind) {
        self.order = self.order.wrapping_add(1);
        self.heap
            .push(Reverse((self.now.0 + after_ms, self.order, i, kind)));
    }

    pub(super) fn plan_soon(&mut self) {
        let at = self.now.0 + PLAN_AFTER_MS;
        if self.planned.is_none() {
            self.planned = Some(at);
            self.at(PLAN_AFTER_MS, 0, Kind::Plan);
        }
    }

    /// Runs to the end.
    pub(super) fn run(mut self) -> Run {
        let end = self.start + HORIZON;
        loop {
            let deadline = self.rollout.next_deadline().map_or(u64::MAX, |at| at.0);
            let event = self.heap.peek().map_or(u64::MAX, |Reverse((at, ..))| *at);
            let at = deadline.min(event);
            if at > end.0 || self.over() {
                break;
            }
            self.now = Timestamp(at.max(self.now.0));
            if deadline <= event {
                self.rollout.tick(self.now);
            } else if let Some(Reverse((_, _, i, kind))) = self.heap.pop() {
                self.happens(i, kind);
            }
            if self.rollout.changed() {
                self.note();
            }
        }
        self.finish()
    }

    fn over(&self) -> bool {
        match self.rollout.status() {
            Status::Halted(..) => self.rollout.in_flight() == 0,
            Status::Completed => self
                .completed_at
                .is_some_and(|at| self.now >= at + Millis::hours(self.scenario.watch_after_h)),
            _ => false,
        }
    }

    fn happens(&mut self, i: u32, kind: Kind) {
        let cut = self.is_cut_off(i)
            && matches!(
                kind,
                Kind::Ask
                    | Kind::Booted
                    | Kind::Heartbeat
                    | Kind::Soaked
                    | Kind::Applied
                    | Kind::Lie
            );
        if cut {
            // What it has to say, it says when the network is back.
            let wait = self.outage_over().since(self.now).0 + self.chance.below(10_000);
            return self.at(wait, i, kind);
        }
        match kind {
            Kind::Ask => self.ask(i),
            Kind::Applied => self.applied(i),
            Kind::Booted => self.booted(i),
            Kind::Heartbeat => self.heartbeat(i),
            Kind::Soaked => self.soaked(i),
            Kind::Burns => self.burns(i),
            Kind::Reboot => self.reboots(i),
            Kind::NoShow => self.no_show(i),
            Kind::Sleep => self.falls_asleep(i),
            Kind::Wake => self.wakes(i),
            Kind::Lie => self.lies(i),
            Kind::OutageBegins => self.outage(true),
            Kind::OutageEnds => self.outage(false),
            Kind::Plan => {
                self.planned = None;
                self.count_time();
                self.rollout.plan(self.now);
            }
        }
    }

    fn note(&mut self) {
        let changes = self.rollout.drain();
        for invited in changes.invites {
            let wait = self.chance.between(50, 2000);
            self.at(wait, index(invited), Kind::Ask);
        }
        let seconds = self.now.since(self.start).as_secs_f64();
        for news in changes.news {
            match news {
                News::Ended(_, ending)
                    if !matches!(
                        ending,
                        ringward_server_core::rollout::member::Ending::Confirmed
                    ) =>
                {
                    self.run.t_first_evidence_s.get_or_insert(seconds);
                }
                News::Halted(_, sentence) => {
                    self.run.t_halt_s = Some(seconds);
                    self.run.halt_reason = sentence;
                    let total = self.rollout.evidence().total();
                    self.run.exposed = total.exposed;
                    self.run.resolved = total.confirmed + total.failed;
                }
                News::Held(_) => self.held_since = Some(self.now),
                News::Lifted => self.lifted(),
                News::Completed(_) => {
                    self.run.t_done_s = Some(seconds);
                    self.completed_at = Some(self.now);
                }
                News::Ended(..) | News::RingComplete(_) => {}
            }
        }
        self.plan_soon();
    }

    fn lifted(&mut self) {
        if let Some(since) = self.held_since.take()
            && self.now.since(since) > Millis::mins(30)
        {
            self.run.holds_over_30min += 1;
        }
    }

    fn finish(mut self) -> Run {
        self.lifted();
        let total = self.rollout.evidence().total();
        self.run.halted = matches!(self.rollout.status(), Status::Halted(..));
        if !self.run.halted {
            self.run.exposed = total.exposed;
            self.run.resolved = total.confirmed + total.failed;
        }
        self.run.failed = total.failed;
        self.run.lost = self
            .hosts
            .iter()
            .filter(|h| h.life == Life::Dead && (h.on_release || h.step != Step::None))
            .count() as u64;
        self.run.false_halt = self.run.halted && self.scenario.clean();
        self.run
    }

    // ----- one attempt -----

    fn ask(&mut self, i: u32) {
        let h = &mut self.hosts[i as usize];
        if h.life != Life::Up || h.step != Step::None || h.on_release {
            return;
        }
        h.tries = h.tries.wrapping_add(1);
        let ask = Ask {
            nonce: self.nonce(i),
            boot: self.boot(i),
            agent_start: AgentStart([1; 16]),
            blocked: None,
            next_signal: SignalSeq(1),
            boottime: Millis(1),
        };
        if !matches!(
            self.rollout.request(host(i), &ask, self.now),
            GrantAnswer::Grant(_)
        ) {
            return;
        }
        if self.rollout.begin(host(i), &ask, None, self.now) != BeginAnswer::Begun {
            return;
        }
        self.exposed += 1;
        self.hosts[i as usize].step = Step::Applying;
        let whole = self.chance.between(60_000, 600_000);
        let applying = (whole as f64 * (0.3 + 0.4 * self.chance.unit())) as u64;
        // The rest of it is the boot; both ends are drawn at once so that the whole is 1-10 min.
        self.at(applying, i, Kind::Applied);
        self.at(whole, i, Kind::Booted);
    }

    fn applied(&mut self, i: u32) {
        if self.hosts[i as usize].life != Life::Up {
            return self.retry_awake(i, Kind::Applied);
        }
        self.hosts[i as usize].on_release = true;
        if self.harms(i, When::Switch) {
            return self.dies_of_it(i);
        }
        let ring = self.rollout.member(host(i)).map_or(0, |m| m.ring);
        let reboots = self.scenario.boots || self.rollout.verify_boot(ring);
        self.says(
            i,
            if reboots {
                PhaseObserved::Rebooting
            } else {
                PhaseObserved::Soaking {
                    soaked: Millis::ZERO,
                }
            },
        );
        self.rollout.heard(host(i), self.now);
        if !reboots {
            self.hosts[i as usize].step = Step::Soaking;
            if self.chance.hits(self.base_now()) {
                self.fails_silently_or_with_word(i);
            }
            return;
        }
        self.hosts[i as usize].step = Step::Booting;
        self.hosts[i as usize].boots += 1;
        if self.harms(i, When::Boot) {
            self.dies_of_it(i);
        } else if self.chance.hits(self.base_now()) {
            self.fails_silently_or_with_word(i);
        }
    }

    fn harms(&self, i: u32, when: When) -> bool {
        self.kinds[i as usize].harmed && self.scenario.harm.as_ref().is_some_and(|h| h.when == when)
    }

    fn dies_of_it(&mut self, i: u32) {
        if self.scenario.harm.as_ref().is_some_and(|h| h.signalled) {
            self.signals(i, SignalKind::Bugcheck, "0x50 content.sys");
        } else {
            self.die(i);
        }
    }

    /// A failure that the release has no part in.
    pub(super) fn fails_silently_or_with_word(&mut self, i: u32) {
        match self.background_signature() {
            Some(signature) => self.signals(i, SignalKind::Bugcheck, &signature),
            None => self.die(i),
        }
    }

    fn booted(&mut self, i: u32) {
        let h = self.hosts[i as usize];
        match h.life {
            Life::Dead => return,
            Life::Asleep => return self.retry_awake(i, Kind::Booted),
            Life::Up if h.step == Step::Applying => return self.at(30_000, i, Kind::Booted),
            Life::Up => {}
        }
        self.hosts[i as usize].step = Step::Soaking;
        self.says(
            i,
            PhaseObserved::Soaking {
                soaked: Millis::ZERO,
            },
        );
        self.rollout.heard(host(i), self.now);
        if self.harms(i, When::Later) {
            let mean = self.scenario.harm.as_ref().map_or(1.0, |h| h.mean_h) * 3.6e6;
            let wait = self.chance.wait(mean);
            self.at(wait, i, Kind::Burns);
        }
        let ring = self.rollout.member(host(i)).map_or(0, |m| m.ring);
        let floor = if self.scenario.boots || self.rollout.verify_boot(ring) {
            8 * 60_000
        } else {
            50_000
        };
        let mut beat = floor;
        while beat < self.soak.0 {
            self.at(beat, i, Kind::Heartbeat);
            beat += floor;
        }
        self.at(self.soak.0, i, Kind::Soaked);
    }

    fn heartbeat(&mut self, i: u32) {
        if self.hosts[i as usize].life == Life::Up {
            self.rollout.heard(host(i), self.now);
        }
    }

    fn soaked(&mut self, i: u32) {
        let h = self.hosts[i as usize];
        if h.life == Life::Asleep {
            return self.retry_awake(i, Kind::Soaked);
        }
        if h.life == Life::Dead || h.step != Step::Soaking {
            return;
        }
        self.hosts[i as usize].step = Step::Done;
        self.rollout.heard(host(i), self.now);
        self.says(i, PhaseObserved::Committed);
    }

    fn burns(&mut self, i: u32) {
        if self.hosts[i as usize].life == Life::Up {
            self.dies_of_it(i);
        }
    }

    /// A host that sleeps does it after waking up; its soak counts awake time only.
    fn retry_awake(&mut self, i: u32, kind: Kind) {
        if self.hosts[i as usize].life == Life::Asleep {
            let later = if kind == Kind::Soaked {
                self.soak.0 / 2
            } else {
                300_000
            };
            self.at(later, i, kind);
        }
    }

    fn nonce(&self, i: u32) -> Nonce {
        let mut nonce = [0; 16];
        nonce[..4].copy_from_slice(&i.to_be_bytes());
        nonce[4] = self.hosts[i as usize].tries;
        Nonce(nonce)
    }

    fn boot(&self, i: u32) -> BootId {
        let mut boot = [0; 16];
        boot[..4].copy_from_slice(&i.to_be_bytes());
        boot[4..6].copy_from_slice(&self.hosts[i as usize].boots.to_be_bytes());
        BootId(boot)
    }

    fn says(&mut self, i: u32, phase: PhaseObserved) {
        let attempt = AttemptObserved {
            nonce: self.nonce(i),
            rollout: RolloutId(1),
            package: self.package.clone(),
            release: RELEASE,
            phase,
        };
        let seen = AttemptSeen {
            attempt: Some(&attempt),
            running: Some(RELEASE),
            boot: self.boot(i),
            agent_start: AgentStart([1; 16]),
            hello: false,
            next_signal: SignalSeq(1),
            boottime: Millis(1),
        };
        self.rollout.observed(host(i), &seen, self.now);
    }

    pub(super) fn signals(&mut self, i: u32, kind: SignalKind, signature: &str) {
        let signal = Signal {
            seq: SignalSeq(1),
            kind,
            key: String::new(),
            boot: self.boot(i),
            at_boottime: Millis(2),
            release: Some(RELEASE),
            title: String::new(),
            signature: signature.to_owned(),
            evidence: String::new(),
        };
        self.rollout.signal(
            host(i),
            &SignalSeen {
                signal: &signal,
                boots: &[],
            },
            self.now,
        );
    }
}
