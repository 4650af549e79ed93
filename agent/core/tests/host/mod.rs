//! A host that carries out effects and checks, at each of them, what must never bend.
#![allow(clippy::unwrap_used, dead_code)]

use ringward_agent_core::event::Started;
use ringward_agent_core::{Effect, Event, Machine};
use ringward_domain::host::{Arch, Facts, GuardTier, Os};
use ringward_domain::ids::SignalSeq;
use ringward_domain::ledger::{AttemptPhase, Installed, Ledger, PackageLedger};
use ringward_domain::limits::BURNED_MAX;
use ringward_domain::manifest::{BootNeed, Installer, Manifest, Probe, RevertClass};
use ringward_domain::observed::PackageObserved;
use ringward_domain::session::{ToAgent, ToServer};
use ringward_domain::signal::Signal;
use ringward_domain::{
    AgentStart, Assignment, AssignmentKind, BootId, Desired, Epoch, Generation, Millis, Nonce,
    PackageName, ReleaseDigest, RolloutId, Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};

pub fn package() -> PackageName {
    "demo".parse().unwrap()
}

pub fn release(n: u8) -> ReleaseDigest {
    ReleaseDigest([n; 32])
}

pub fn installed(n: u8) -> Installed {
    Installed {
        release: release(n),
        version: format!("1.{n}").parse().unwrap(),
    }
}

pub fn manifest(n: u8) -> Box<Manifest> {
    Box::new(Manifest {
        format: 1,
        package: package(),
        version: installed(n).version,
        security_floor: None,
        expires_unix_s: None,
        artefacts: Vec::new(),
        installer: Installer::Bundle,
        revert_class: RevertClass::Atomic,
        boot: BootNeed::None,
        probes: vec![Probe::Unit {
            name: "demo.service".to_owned(),
        }],
    })
}

pub fn facts() -> Facts {
    Facts {
        hostname: "host".to_owned(),
        os: Os::Linux,
        os_build: "Debian 12".to_owned(),
        arch: Arch::X86_64,
        kernel: "6.1".to_owned(),
        model: "vm".to_owned(),
        fingerprint: String::new(),
        memory_mib: 1024,
        cpus: 2,
        guard_tier: GuardTier::Service,
    }
}

/// A desired state with one assignment: install of release `n`, invited.
pub fn desired(generation: u64, n: u8) -> Desired {
    Desired {
        epoch: Epoch(1),
        generation: Generation(generation),
        assignments: vec![Assignment {
            rollout: RolloutId(u64::from(n)),
            kind: AssignmentKind::Install,
            package: package(),
            release: release(n),
            version: installed(n).version,
            soak: Millis::secs(60),
            verify_boot: false,
            invited: true,
        }],
        bars: Vec::new(),
        lifted: Vec::new(),
        heartbeat: Millis::secs(10),
        orders: Default::default(),
        stopped: false,
    }
}

/// The host, its disk, and what its process was told.
pub struct Host {
    pub machine: Machine,
    pub now: Timestamp,
    /// What is on disk.
    pub ledger: Ledger,
    pub slot: Option<Installed>,
    pub spool: Vec<Signal>,
    pub boot: u8,
    starts: u64,
    /// Everything sent since the last `take_sent`.
    pub sent: Vec<ToServer>,
    /// Acts asked for and not answered yet.
    pub asked: Vec<Effect>,
    pub reboots: usize,
    pub connect: Option<Millis>,
    /// The next ledger writes fail.
    pub full_disk: bool,
    /// Dies after so many effects.
    pub cut_after: Option<usize>,
    pub dead: bool,
    requested: BTreeMap<Nonce, Timestamp>,
    life: BTreeMap<Nonce, Millis>,
    first_begin: BTreeMap<Nonce, Timestamp>,
    begun: BTreeSet<Nonce>,
    held: Option<Desired>,
    /// Every release whose bar was ever lifted.
    lifted: BTreeSet<ReleaseDigest>,
}

impl Host {
    pub fn new() -> Self {
        Self::with_ledger(Ledger::default(), None)
    }

    /// A host that has proven release `n` and runs it.
    pub fn on_release(n: u8) -> Self {
        let known = PackageLedger {
            committed: Some(installed(n)),
            history: Vec::new(),
        };
        let ledger = Ledger {
            packages: [(package(), known)].into(),
            ..Ledger::default()
        };
        Self::with_ledger(ledger, Some(installed(n)))
    }

    pub fn with_ledger(ledger: Ledger, slot: Option<Installed>) -> Self {
        let started = started(1, 1, &ledger, slot.as_ref(), 1);
        let (machine, effects) = Machine::start(started, Timestamp(1_000));
        let mut host = Self {
            machine,
            now: Timestamp(1_000),
            ledger,
            slot,
            spool: Vec::new(),
            boot: 1,
            starts: 1,
            sent: Vec::new(),
            asked: Vec::new(),
            reboots: 0,
            connect: None,
            full_disk: false,
            cut_after: None,
            dead: false,
            requested: BTreeMap::new(),
            life: BTreeMap::new(),
            first_begin: BTreeMap::new(),
            begun: BTreeSet::new(),
            held: None,
            lifted: BTreeSet::new(),
        };
        host.carry_out(effects);
        host
    }

    /// A new process, in a new boot if `reboot`; the clock of a new boot starts anew.
    pub fn restart(&mut self, reboot: bool) {
        if reboot {
            self.boot += 1;
            self.now = Timestamp(500);
        }
        self.starts += 1;
        let next = self.spool.len() as u64 + 1;
        let started = started(
            self.boot,
            self.starts,
            &self.ledger,
            self.slot.as_ref(),
            next,
        );
        self.dead = false;
        self.cut_after = None;
        self.asked.clear();
        self.requested.clear();
        self.life.clear();
        self.first_begin.clear();
        self.begun.clear();
        self.held = None;
        let (machine, effects) = Machine::start(started, self.now);
        self.machine = machine;
        self.carry_out(effects);
    }

    pub fn step(&mut self, event: Event) {
        if self.dead {
            return;
        }
        if let Event::Message(message) = &event {
            self.note_message(message.clone());
        }
        let effects = self.machine.step(event, self.now);
        self.carry_out(effects);
    }

    pub fn message(&mut self, message: ToAgent) {
        self.step(Event::Message(message));
    }

    fn note_message(&mut self, message: ToAgent) {
        match message {
            ToAgent::Grant { nonce, life } => {
                self.life.entry(nonce).or_insert(life);
            }
            ToAgent::Begun { nonce } => {
                self.begun.insert(nonce);
            }
            ToAgent::Desired(desired) => {
                let order = (desired.epoch, desired.generation);
                self.lifted.extend(&desired.lifted);
                let held = self.held.as_ref().map(|held| (held.epoch, held.generation));
                if held.is_none_or(|held| held < order) && order >= self.machine.ledger().accepted {
                    self.held = Some(*desired);
                }
            }
            _ => {}
        }
    }

    /// Runs due timers until nothing is due at `now`.
    pub fn settle(&mut self) {
        for _ in 0..400 {
            match self.machine.next_wakeup() {
                Some(at) if at <= self.now && !self.dead => self.step(Event::Timer),
                _ => return,
            }
        }
        panic!(
            "the machine wants to be woken for ever at {:?}: {:?}",
            self.now, self.machine
        );
    }

    /// Time passes, every wake-up on the way at its time.
    pub fn pass(&mut self, time: Millis) {
        let end = self.now + time;
        for _ in 0..100_000 {
            self.settle();
            self.answer_probes(true);
            match self.machine.next_wakeup() {
                Some(at) if at <= end && !self.dead => {
                    self.now = at;
                    self.step(Event::Timer);
                }
                _ => {
                    self.now = end;
                    return;
                }
            }
        }
        panic!("too many wake-ups in {time}");
    }

    pub fn answer_probes(&mut self, pass: bool) {
        while let Some(index) = self
            .asked
            .iter()
            .position(|asked| matches!(asked, Effect::RunProbes(_)))
        {
            self.asked.remove(index);
            let failed = if pass {
                vec![]
            } else {
                vec!["demo".to_owned()]
            };
            self.step(Event::Probes { failed });
        }
    }

    pub fn take_sent(&mut self) -> Vec<ToServer> {
        std::mem::take(&mut self.sent)
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        assert!(effects.len() < 64, "{} effects in one step", effects.len());
        for effect in effects {
            if let Some(left) = self.cut_after.as_mut() {
                if *left == 0 {
                    self.dead = true;
                    return;
                }
                *left -= 1;
            }
            if let Effect::WriteLedger(ledger) = effect {
                if self.full_disk {
                    self.step(Event::LedgerFailed);
                    return;
                }
                self.write_ledger(*ledger);
                continue;
            }
            self.check(&effect);
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Send(message) => {
                match &message {
                    ToServer::RequestGrant(request) => {
                        self.requested.entry(request.nonce).or_insert(self.now);
                    }
                    ToServer::Begin(begin) => {
                        self.first_begin.entry(begin.nonce).or_insert(self.now);
                    }
                    _ => {}
                }
                self.sent.push(message);
            }
            Effect::Spool(signal) => {
                assert_eq!(signal.seq, SignalSeq(self.spool.len() as u64 + 1));
                self.spool.push(signal);
            }
            Effect::Connect { after } => self.connect = Some(after),
            Effect::Reboot => self.reboots += 1,
            Effect::Prepare { .. }
            | Effect::Switch { .. }
            | Effect::Revert { .. }
            | Effect::RunProbes(_)
            | Effect::SendSignals { .. } => self.asked.push(effect),
            Effect::WriteLedger(_)
            | Effect::TrimSpool { .. }
            | Effect::Disconnect
            | Effect::DropPrepared
            | Effect::ArmGuard
            | Effect::DisarmGuard
            | Effect::WriteOrders(_)
            | Effect::Isolate { .. }
            | Effect::EndIsolation
            | Effect::ProveServer
            | Effect::Collect => {}
        }
    }

    fn write_ledger(&mut self, ledger: Ledger) {
        assert!(
            ledger.accepted >= self.ledger.accepted,
            "went back to an older desired state"
        );
        assert!(ledger.burned.len() <= BURNED_MAX);
        for bar in self.ledger.bars.difference(&ledger.bars) {
            let lifted = self.lifted.contains(bar);
            assert!(lifted, "a bar vanished");
        }
        self.ledger = ledger;
    }

    /// DESIGN §2 and §4 at the moment of each act.
    fn check(&self, effect: &Effect) {
        let attempt = self.ledger.attempt.as_ref();
        match effect {
            Effect::Send(ToServer::Begin(begin)) => {
                let requested = self.requested[&begin.nonce];
                let life = self.life[&begin.nonce];
                assert!(
                    self.now.since(requested) < life,
                    "Begin after the grant's life of {life} from its request"
                );
            }
            Effect::Switch { to, .. } => {
                let attempt = attempt.expect("a switch without a ledger entry");
                assert_eq!(
                    attempt.phase,
                    AttemptPhase::Switching,
                    "not written down first"
                );
                assert_eq!(&attempt.to, to);
                let nonce = attempt.nonce;
                assert!(self.begun.contains(&nonce), "no Begun in this process");
                let begin = self.first_begin[&nonce];
                assert!(
                    self.now.since(begin) <= Millis::secs(10),
                    "Begun came too late"
                );
                assert!(!self.ledger.burned.contains(&nonce), "a burned nonce");
                assert!(
                    !self.ledger.bars.contains(&to.release),
                    "barred by the host"
                );
                let held = self.held.as_ref().expect("nothing desired");
                assert!(!held.bars.contains(&to.release), "barred by the server");
                assert!(held.assignments.iter().any(|a| a.release == to.release));
            }
            Effect::Revert { to, .. } => {
                let attempt = attempt.expect("a way back without a ledger entry");
                assert!(matches!(attempt.phase, AttemptPhase::Reverted(_)));
                let left = &attempt.to.release;
                assert!(self.ledger.bars.contains(left) || self.lifted.contains(left));
                assert_eq!(&attempt.from, to);
            }
            Effect::Reboot => {
                let attempt = attempt.expect("a reboot without a ledger entry");
                assert!(attempt.boot_required);
            }
            _ => {}
        }
    }

    /// Carries out the switch or revert asked for and answers it.
    pub fn answer_switch(&mut self, ok: bool) {
        let Some(index) = self
            .asked
            .iter()
            .position(|asked| matches!(asked, Effect::Switch { .. } | Effect::Revert { .. }))
        else {
            return;
        };
        let outcome = if ok {
            match self.asked.remove(index) {
                Effect::Switch { to, .. } => self.slot = Some(to),
                Effect::Revert { to, .. } => self.slot = to,
                _ => {}
            }
            Ok(())
        } else {
            self.asked.remove(index);
            Err(ringward_agent_core::event::SwitchFailure::Install)
        };
        self.step(Event::Switched(outcome));
    }

    pub fn answer_prepare(&mut self) {
        while let Some(index) = self
            .asked
            .iter()
            .position(|asked| matches!(asked, Effect::Prepare { .. }))
        {
            if let Effect::Prepare {
                rollout, release, ..
            } = self.asked.remove(index)
            {
                let outcome = Ok(manifest(release.0[0]));
                self.step(Event::Prepared {
                    rollout,
                    release,
                    outcome,
                });
            }
        }
    }

    /// Connects and takes a desired state until a grant is asked for; answers its nonce.
    pub fn until_requested(&mut self, desired: Desired) -> Nonce {
        self.step(Event::Connected);
        self.message(ToAgent::Welcome { protocol: 1 });
        self.message(ToAgent::Desired(Box::new(desired)));
        self.pass(Millis::secs(10));
        self.answer_prepare();
        self.requested_now().expect("no grant was asked for")
    }

    pub fn requested_now(&mut self) -> Option<Nonce> {
        self.take_sent()
            .into_iter()
            .rev()
            .find_map(|sent| match sent {
                ToServer::RequestGrant(request) => Some(request.nonce),
                _ => None,
            })
    }

    pub fn grant(&mut self, nonce: Nonce) {
        let life = Millis::secs(60);
        self.message(ToAgent::Grant { nonce, life });
    }

    /// Up to the trial of release `n` in the same boot.
    pub fn until_trial(&mut self, desired: Desired) -> Nonce {
        let nonce = self.until_requested(desired);
        self.grant(nonce);
        self.message(ToAgent::Begun { nonce });
        self.answer_switch(true);
        nonce
    }

    pub fn phase(&self) -> Option<AttemptPhase> {
        self.ledger.attempt.as_ref().map(|attempt| attempt.phase)
    }

    pub fn switches_asked(&self) -> usize {
        let switch = |asked: &&Effect| matches!(asked, Effect::Switch { .. });
        self.asked.iter().filter(switch).count()
    }
}

fn started(
    boot: u8,
    start: u64,
    ledger: &Ledger,
    slot: Option<&Installed>,
    next_signal: u64,
) -> Started {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&start.to_be_bytes());
    let trial = ledger
        .attempt
        .as_ref()
        .map(|attempt| manifest(attempt.to.release.0[0]));
    Started {
        orders: Default::default(),
        boot: BootId([boot; 16]),
        agent_start: AgentStart(seed[..16].try_into().unwrap()),
        seed,
        ledger: Some(ledger.clone()),
        trial_manifest: trial,
        slots: vec![PackageObserved {
            package: package(),
            running: slot.map(|slot| slot.release),
            running_version: slot.map(|slot| slot.version.clone()),
            committed: None,
            committed_version: None,
        }],
        facts: facts(),
        agent_version: "0.1.0".to_owned(),
        last_stop_clean: Some(true),
        spool: (SignalSeq(next_signal), SignalSeq(next_signal)),
    }
}
