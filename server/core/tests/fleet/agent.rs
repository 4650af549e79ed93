//! A small agent that follows the protocol, and a script of what releases do to its host.

use ringward_domain::host::{Arch, Facts, GuardTier, Os};
use ringward_domain::ids::{AgentStart, BootId, Epoch, Generation, SignalSeq};
use ringward_domain::ledger::{NotSwitchedWhy, RevertWhy};
use ringward_domain::observed::{
    AttemptObserved, Observed, PackageObserved, PhaseObserved, PrepareState, Preparing, RefuseWhy,
};
use ringward_domain::session::{Begin, Heartbeat, Hello, RequestGrant, ToAgent, ToServer};
use ringward_domain::{
    Assignment, Desired, HostId, Millis, Nonce, ReleaseDigest, Timestamp, Version,
};
use std::collections::BTreeSet;

/// What a release does to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Works.
    Fine,
    /// Kills the host at the switch; dark until the guard has reverted it and it comes back.
    Dark,
    /// Crash-loops; the guard reverts and the host says so.
    Reverts,
    /// The host will not take it, as it says once it has looked.
    Refuses,
}

/// How long a dark host stays dark.
const DARK: Millis = Millis::secs(60);
const APPLY: Millis = Millis(500);
const PREPARE: Millis = Millis::secs(1);

#[derive(Debug, Clone)]
pub struct Agent {
    pub id: HostId,
    pub fate_of: fn(HostId, &ReleaseDigest) -> Fate,
    pub connected: bool,
    pub dark_until: Option<Timestamp>,
    /// Asleep, as it announced.
    pub asleep_until: Timestamp,
    boots: u64,
    starts: u64,
    nonces: u64,
    pub accepted: (Epoch, Generation),
    pub desired: Option<Desired>,
    pub running: Option<(ReleaseDigest, Version)>,
    pub committed: Option<(ReleaseDigest, Version)>,
    /// Slot to go back to.
    previous: Option<(ReleaseDigest, Version)>,
    pub attempt: Option<AttemptObserved>,
    pub bars: BTreeSet<ReleaseDigest>,
    burned: BTreeSet<Nonce>,
    preparing: Option<(Assignment, Timestamp)>,
    asked: Option<(RequestGrant, Timestamp)>,
    retry_at: Timestamp,
    beginning: Option<(Nonce, Timestamp)>,
    phase_at: Timestamp,
    next_beat: Timestamp,
    soak: Millis,
    reboots: bool,
    pub switches: Vec<(Nonce, ReleaseDigest)>,
    pub begun: BTreeSet<Nonce>,
}

impl Agent {
    pub fn new(id: HostId, fate_of: fn(HostId, &ReleaseDigest) -> Fate) -> Self {
        Self {
            id,
            fate_of,
            connected: false,
            dark_until: None,
            asleep_until: Timestamp(0),
            boots: 1,
            starts: 1,
            nonces: 0,
            accepted: (Epoch(0), Generation(0)),
            desired: None,
            running: None,
            committed: None,
            previous: None,
            attempt: None,
            bars: BTreeSet::new(),
            burned: BTreeSet::new(),
            preparing: None,
            asked: None,
            retry_at: Timestamp(0),
            beginning: None,
            phase_at: Timestamp(0),
            next_beat: Timestamp(0),
            soak: Millis::ZERO,
            reboots: false,
            switches: Vec::new(),
            begun: BTreeSet::new(),
        }
    }

    /// A fresh installation: other boots, processes and nonces than before.
    pub fn anew(id: HostId, fate_of: fn(HostId, &ReleaseDigest) -> Fate, from: u64) -> Self {
        Self {
            boots: from,
            starts: from,
            nonces: from,
            ..Self::new(id, fate_of)
        }
    }

    fn bytes(&self, of: u64, n: u64) -> [u8; 16] {
        let mut raw = [0; 16];
        raw[..8].copy_from_slice(&self.id.0.to_be_bytes());
        raw[8] = of as u8;
        raw[9..].copy_from_slice(&n.to_be_bytes()[1..]);
        raw
    }

    pub fn facts(id: HostId) -> Facts {
        Facts {
            hostname: format!("host-{}", id.0),
            os: Os::Linux,
            os_build: format!("Debian {}", 11 + id.0 % 2),
            arch: Arch::X86_64,
            kernel: "6.1".into(),
            model: format!("model-{}", id.0 % 3),
            fingerprint: String::new(),
            memory_mib: 1,
            cpus: 1,
            guard_tier: GuardTier::Service,
        }
    }

    pub fn hello(&self, now: Timestamp) -> Hello {
        Hello {
            protocol_min: 1,
            protocol_max: 1,
            capabilities: Vec::new(),
            agent_version: "1".into(),
            boot: BootId(self.bytes(1, self.boots)),
            agent_start: AgentStart(self.bytes(2, self.starts)),
            boottime: Millis(now.0),
            last_stop_clean: None,
            accepted: self.accepted,
            next_signal: SignalSeq(1),
            facts: Self::facts(self.id),
            observed: self.observed(),
        }
    }

    pub fn observed(&self) -> Observed {
        let split = |at: &Option<(ReleaseDigest, Version)>| {
            (at.as_ref().map(|r| r.0), at.as_ref().map(|r| r.1.clone()))
        };
        let ((running, running_version), (committed, committed_version)) =
            (split(&self.running), split(&self.committed));
        let package = "app".parse().unwrap();
        Observed {
            packages: vec![PackageObserved {
                package,
                running,
                running_version,
                committed,
                committed_version,
            }],
            preparing: self
                .preparing
                .as_ref()
                .map(|(assignment, ready)| Preparing {
                    rollout: assignment.rollout,
                    release: assignment.release,
                    state: match *ready == Timestamp(0) {
                        true if self.refuses(assignment) => {
                            PrepareState::Refused(RefuseWhy::Platform)
                        }
                        true => PrepareState::Ready,
                        false => PrepareState::Working,
                    },
                }),
            attempt: self.attempt.clone(),
            bars: self.bars.iter().copied().collect(),
            orders: Default::default(),
        }
    }

    fn refuses(&self, assignment: &Assignment) -> bool {
        (self.fate_of)(self.id, &assignment.release) == Fate::Refuses
    }

    /// Whether it runs at all.
    pub fn alive(&self, now: Timestamp) -> bool {
        self.asleep_until <= now && self.dark_until.is_none_or(|until| until <= now)
    }

    /// The agent process dies and starts again.
    pub fn restart(&mut self, now: Timestamp) {
        self.starts += 1;
        self.asked = None;
        if let Some((nonce, _)) = self.beginning.take() {
            self.not_switched(nonce, NotSwitchedWhy::Restarted);
        }
        self.preparing = None;
        self.phase_at = now;
    }

    fn not_switched(&mut self, nonce: Nonce, why: NotSwitchedWhy) {
        self.burned.insert(nonce);
        let (rollout, release) = match &self.asked {
            Some((request, _)) => (request.rollout, request.release),
            None => return,
        };
        self.asked = None;
        self.attempt = Some(AttemptObserved {
            nonce,
            rollout,
            package: "app".parse().unwrap(),
            release,
            phase: PhaseObserved::NotSwitched(why),
        });
    }

    fn phase(&self) -> Option<PhaseObserved> {
        self.attempt.as_ref().map(|attempt| attempt.phase)
    }

    fn in_trial(&self) -> bool {
        matches!(
            self.phase(),
            Some(PhaseObserved::Applied | PhaseObserved::Rebooting | PhaseObserved::Soaking { .. })
        )
    }

    pub fn receive(&mut self, message: ToAgent, now: Timestamp) -> Vec<ToServer> {
        match message {
            ToAgent::Desired(desired) if (desired.epoch, desired.generation) > self.accepted => {
                self.accept(*desired, now)
            }
            ToAgent::Grant { nonce, life } => match &self.asked {
                Some((request, at))
                    if request.nonce == nonce
                        && now.since(*at) < life
                        && self.beginning.is_none()
                        && !self.burned.contains(&nonce) =>
                {
                    self.beginning = Some((nonce, now + Millis::secs(10)));
                    vec![ToServer::Begin(Begin { nonce })]
                }
                _ => Vec::new(),
            },
            ToAgent::Wait {
                nonce, retry_after, ..
            } => {
                if self
                    .asked
                    .as_ref()
                    .is_some_and(|(request, _)| request.nonce == nonce)
                    && self.beginning.is_none()
                {
                    self.asked = None;
                    self.retry_at = now + retry_after;
                }
                Vec::new()
            }
            ToAgent::Begun { nonce } => self.switch(nonce, now),
            ToAgent::BeginRefused { nonce, .. }
                if self.beginning.is_some_and(|(begun, _)| begun == nonce) =>
            {
                self.beginning = None;
                self.not_switched(nonce, NotSwitchedWhy::BeginRefused);
                vec![ToServer::Observed(Box::new(self.observed()))]
            }
            _ => Vec::new(),
        }
    }

    fn accept(&mut self, desired: Desired, now: Timestamp) -> Vec<ToServer> {
        self.accepted = (desired.epoch, desired.generation);
        for lifted in &desired.lifted {
            self.bars.remove(lifted);
        }
        let wanted = desired.assignments.first().cloned();
        self.desired = Some(desired);
        let same =
            |a: &Assignment, b: &Assignment| (a.rollout, a.release) == (b.rollout, b.release);
        match (&wanted, &self.preparing) {
            (Some(new), Some((old, _))) if same(new, old) => {
                self.preparing.as_mut().unwrap().0 = new.clone()
            }
            (Some(new), _)
                if self.running.as_ref().map(|r| r.0) != Some(new.release)
                    && !self.bars.contains(&new.release) =>
            {
                self.preparing = Some((new.clone(), now + PREPARE));
            }
            _ => self.preparing = None,
        }
        if wanted.is_some_and(|a| a.invited) {
            self.retry_at = now;
        }
        vec![ToServer::Observed(Box::new(self.observed()))]
    }

    fn switch(&mut self, nonce: Nonce, now: Timestamp) -> Vec<ToServer> {
        let asked = self.asked;
        let (Some((begun, _)), Some((request, _))) = (self.beginning, asked) else {
            return Vec::new();
        };
        if begun != nonce || self.burned.contains(&nonce) {
            return Vec::new();
        }
        self.begun.insert(nonce);
        let assignment = self
            .desired
            .as_ref()
            .and_then(|d| d.assignments.iter().find(|a| a.rollout == request.rollout))
            .cloned();
        self.beginning = None;
        let Some(assignment) = assignment else {
            self.not_switched(nonce, NotSwitchedWhy::Superseded);
            return vec![ToServer::Observed(Box::new(self.observed()))];
        };
        self.asked = None;
        self.switches.push((nonce, assignment.release));
        let on_trial = self.in_trial();
        let old = self
            .running
            .replace((assignment.release, assignment.version.clone()));
        self.previous = if on_trial {
            self.committed.clone()
        } else {
            old
        };
        self.soak = assignment.soak;
        self.reboots = assignment.verify_boot;
        self.preparing = None;
        self.phase_at = now;
        let package = "app".parse().unwrap();
        let release = assignment.release;
        self.attempt = Some(AttemptObserved {
            nonce,
            rollout: assignment.rollout,
            package,
            release,
            phase: PhaseObserved::Applied,
        });
        if (self.fate_of)(self.id, &release) == Fate::Dark {
            self.dark_until = Some(now + DARK);
            return Vec::new();
        }
        vec![ToServer::Observed(Box::new(self.observed()))]
    }

    fn revert(&mut self, now: Timestamp) {
        if let Some(attempt) = &mut self.attempt {
            attempt.phase = PhaseObserved::Reverted(RevertWhy::BadBoots);
            self.bars.insert(attempt.release);
        }
        self.running = self.previous.clone();
        self.phase_at = now;
    }

    /// Comes back from the dark, already reverted by its guard.
    pub fn dawn(&mut self, now: Timestamp) -> bool {
        let dawned = self.dark_until.is_some_and(|until| until <= now);
        if dawned {
            self.dark_until = None;
            self.boots += 2;
            self.starts += 1;
            self.revert(now);
        }
        dawned
    }

    /// What it does of itself at this time. `true`: it lost its session (a reboot).
    pub fn poll(&mut self, now: Timestamp) -> (Vec<ToServer>, bool) {
        let mut said = Vec::new();
        let mut rebooted = false;
        if let Some((_, ready)) = &mut self.preparing
            && *ready != Timestamp(0)
            && *ready <= now
        {
            *ready = Timestamp(0);
            said.push(ToServer::Observed(Box::new(self.observed())));
        }
        if let Some((nonce, until)) = self.beginning {
            if until <= now {
                self.beginning = None;
                self.not_switched(nonce, NotSwitchedWhy::NoBegun);
                said.push(ToServer::Observed(Box::new(self.observed())));
            } else {
                said.push(ToServer::Begin(Begin { nonce }));
            }
        }
        let soaked = now.since(self.phase_at);
        match self.phase() {
            Some(PhaseObserved::Applied) if soaked >= APPLY => {
                rebooted = self.reboots;
                self.reached(
                    PhaseObserved::Soaking {
                        soaked: Millis::ZERO,
                    },
                    now,
                );
                said.push(ToServer::Observed(Box::new(self.observed())));
            }
            Some(PhaseObserved::Soaking { .. }) => {
                let fate = self
                    .attempt
                    .as_ref()
                    .map(|a| (self.fate_of)(self.id, &a.release));
                if fate == Some(Fate::Reverts) && soaked >= Millis::secs(1) {
                    self.revert(now);
                    self.boots += 1;
                    rebooted = true;
                } else if soaked >= self.soak {
                    self.reached(PhaseObserved::Committed, now);
                    self.committed = self.running.clone();
                    said.push(ToServer::Observed(Box::new(self.observed())));
                }
            }
            _ => {}
        }
        self.ask(now, &mut said);
        if self.next_beat <= now {
            self.next_beat = now + Millis::secs(1);
            said.push(ToServer::Heartbeat(Heartbeat {
                accepted: self.accepted,
                boottime: Millis(now.0),
                soaked: None,
            }));
        }
        if rebooted {
            self.starts += 1;
            self.boots += 1;
        }
        (said, rebooted)
    }

    fn reached(&mut self, phase: PhaseObserved, now: Timestamp) {
        if let Some(attempt) = &mut self.attempt {
            attempt.phase = phase;
        }
        self.phase_at = now;
    }

    fn ask(&mut self, now: Timestamp, said: &mut Vec<ToServer>) {
        if self
            .asked
            .as_ref()
            .is_some_and(|(_, at)| self.beginning.is_none() && now.since(*at) > Millis::secs(60))
        {
            self.asked = None;
        }
        let Some((assignment, Timestamp(0))) = &self.preparing else {
            return;
        };
        if assignment.invited
            && !self.refuses(assignment)
            && self.asked.is_none()
            && self.beginning.is_none()
            && self.retry_at <= now
        {
            self.nonces += 1;
            let nonce = Nonce(self.bytes(3, self.nonces));
            let request = RequestGrant {
                nonce,
                rollout: assignment.rollout,
                release: assignment.release,
            };
            self.asked = Some((request, now));
            said.push(ToServer::RequestGrant(request));
        }
    }

    /// The session is gone: what was asked on it is asked anew.
    pub fn dropped(&mut self) {
        self.connected = false;
        if self.beginning.is_none() {
            self.asked = None;
        }
    }
}
