//! A fleet of small agents around the real control, with a network that loses, doubles and delays,
//! and a server that restarts from its records. Invariants are checked at every effect.

use crate::agent::{Agent, Fate};
use ringward_domain::command::{Action, Command, Outcome, Refusal};
use ringward_domain::ids::{Epoch, Generation, RequestId, Sha256};
use ringward_domain::manifest::{Artefact, BootNeed, Envelope, Installer, Manifest, RevertClass};
use ringward_domain::report::{RolloutState, RolloutView, Standing};
use ringward_domain::session::{ToAgent, ToServer};
use ringward_domain::{HostId, Millis, Nonce, ReleaseDigest, RolloutId, Timestamp};
use ringward_server_core::control::{Control, Enrolment};
use ringward_server_core::event::{Effect, Event};
use ringward_server_core::policy::Policy;
use ringward_server_core::record::{Record, RecordKey};
use ringward_server_core::release::ReleaseRecord;
use std::collections::{BTreeMap, BTreeSet};

pub const DEMO: &str = r#"
soak_s = 3
heartbeat_s = 1
silence_reboot_s = 8
silence_s = 8
restart_grace_s = 2
attribution_s = 5
[[ring]]
name = "canary"
percent = 1
[[ring]]
name = "early"
percent = 9
[[ring]]
name = "broad"
percent = 90
"#;

pub const STEP: Millis = Millis(250);

#[derive(Debug, Clone)]
enum Letter {
    Up(ToServer),
    Down(ToAgent),
}

/// How bad the network and the machines are, in parts of a thousand a message or step.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trouble {
    pub doubled: u64,
    pub delayed: u64,
    pub session_lost: u64,
    pub agent_restart: u64,
    pub server_restart: u64,
    pub sleep: u64,
    pub admin: u64,
}

pub struct World {
    pub control: Control,
    pub now: Timestamp,
    pub agents: BTreeMap<HostId, Agent>,
    pub records: BTreeMap<RecordKey, Record>,
    pub trouble: Trouble,
    /// When each letter arrives; letters of one host in one direction keep their order.
    mail: BTreeMap<(Timestamp, u64), (HostId, u64, Letter)>,
    sessions: BTreeMap<HostId, u64>,
    last_mail: BTreeMap<(HostId, bool), Timestamp>,
    letters: u64,
    requests: u64,
    random: u64,
    newest: BTreeMap<HostId, (Epoch, Generation)>,
    begun_sent: BTreeSet<(HostId, Nonce)>,
    /// Notices of halts with the time.
    pub halts: Vec<Timestamp>,
}

impl World {
    pub fn new(
        hosts: u64,
        policy: &str,
        seed: u64,
        fate_of: fn(HostId, &ReleaseDigest) -> Fate,
    ) -> Self {
        let now = Timestamp(1_000);
        let mut world = Self {
            control: Control::new(Policy::parse(policy).unwrap(), now),
            now,
            agents: BTreeMap::new(),
            records: BTreeMap::new(),
            trouble: Trouble::default(),
            mail: BTreeMap::new(),
            sessions: BTreeMap::new(),
            last_mail: BTreeMap::new(),
            letters: 0,
            requests: 0,
            random: seed | 1,
            newest: BTreeMap::new(),
            begun_sent: BTreeSet::new(),
            halts: Vec::new(),
        };
        for i in 1..=hosts {
            world.enrol(HostId(i), fate_of);
        }
        world
    }

    pub fn enrol(&mut self, id: HostId, fate_of: fn(HostId, &ReleaseDigest) -> Fate) {
        let enrolment = Enrolment {
            host: id,
            facts: Agent::facts(id),
            labels: BTreeMap::new(),
            key: Sha256([0; 32]),
            pending: false,
            ephemeral: None,
        };
        let effects = self.control.enrol(enrolment, self.now);
        self.apply(effects);
        self.agents.insert(id, Agent::new(id, fate_of));
    }

    /// The host loses everything and comes back as a fresh installation with its identity.
    pub fn reimage(&mut self, id: HostId, fate_of: fn(HostId, &ReleaseDigest) -> Fate) {
        self.disconnect(id);
        let switches = self.agents[&id].switches.len() as u64;
        self.agents
            .insert(id, Agent::anew(id, fate_of, 1000 + switches));
    }

    fn chance(&mut self, per_mille: u64) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        per_mille > 0 && self.random % 1000 < per_mille
    }

    pub fn publish(&mut self, n: u8) -> ReleaseDigest {
        let release = ReleaseDigest([n; 32]);
        let artefact = Artefact {
            os: ringward_domain::host::Os::Linux,
            arch: None,
            sha256: Sha256([n; 32]),
            size: 1,
        };
        let manifest = Manifest {
            format: 1,
            package: "app".parse().unwrap(),
            version: format!("1.{n}").parse().unwrap(),
            security_floor: None,
            expires_unix_s: None,
            artefacts: vec![artefact],
            installer: Installer::Bundle,
            revert_class: RevertClass::Atomic,
            boot: BootNeed::None,
            probes: Vec::new(),
        };
        let envelope = Envelope {
            payload: Vec::new(),
            signatures: Vec::new(),
        };
        let record = ReleaseRecord {
            release,
            manifest,
            envelope,
            standing: Standing::Unproven,
            published_unix_ms: u64::from(n),
            published_by: "ann".into(),
        };
        let effects = self.control.publish(record, self.now).unwrap();
        self.apply(effects);
        release
    }

    pub fn request(&mut self, action: Action, dry_run: bool) -> Command {
        self.requests += 1;
        let mut raw = [7; 16];
        raw[..8].copy_from_slice(&self.requests.to_be_bytes());
        Command {
            request: RequestId(raw),
            actor: "ann".into(),
            reason: "test".into(),
            dry_run,
            action,
        }
    }

    pub fn act(&mut self, action: Action) -> Result<Outcome, Refusal> {
        let command = self.request(action, false);
        self.send_command(&command)
    }

    pub fn send_command(&mut self, command: &Command) -> Result<Outcome, Refusal> {
        let (outcome, effects) = self.control.command(command, self.now)?;
        self.apply(effects);
        Ok(outcome)
    }

    pub fn start(&mut self, release: ReleaseDigest) -> RolloutId {
        self.act(Action::StartRollout { release })
            .unwrap()
            .rollout
            .unwrap()
    }

    pub fn view(&self, rollout: RolloutId) -> RolloutView {
        self.control.rollout_view(rollout).unwrap()
    }

    pub fn state(&self, rollout: RolloutId) -> RolloutState {
        self.control.rollout(rollout).unwrap().status().state()
    }

    /// Hands an event to the control and checks that no grant went out at a full window.
    pub fn handle(&mut self, event: Event) {
        let flights = |control: &Control| -> BTreeMap<RolloutId, u64> {
            control
                .rollouts()
                .into_iter()
                .filter_map(|(id, _)| control.rollout(id).map(|r| (id, r.in_flight())))
                .collect()
        };
        let before = flights(&self.control);
        let effects = self.control.handle(event, self.now);
        for (id, after) in flights(&self.control) {
            let rollout = self.control.rollout(id).unwrap();
            let had = before.get(&id).copied().unwrap_or(0);
            assert!(
                after <= had || had < rollout.window(),
                "{id}: from {had} to {after} in flight at window {}",
                rollout.window()
            );
        }
        self.apply(effects);
    }

    fn apply(&mut self, effects: Vec<Effect>) {
        let mut written: BTreeSet<RecordKey> = BTreeSet::new();
        let mut sends = false;
        for effect in effects {
            match effect {
                Effect::Put(record) => {
                    assert!(!sends, "a record is written after something was sent");
                    written.insert(record.key());
                    self.records.insert(record.key(), *record);
                }
                Effect::Delete(key) => {
                    assert!(!sends, "a record is deleted after something was sent");
                    self.records.remove(&key);
                }
                Effect::Send(host, message) => {
                    sends = true;
                    self.check_sent(host, &message, &written);
                    self.post(host, Letter::Down(*message));
                }
                Effect::Close(host) => self.lose_session(host),
                Effect::Notice(ringward_server_core::event::Notice::Halted { .. }) => {
                    self.halts.push(self.now)
                }
                Effect::StoreSignal(..) | Effect::Audit(_) | Effect::Notice(_) => {}
            }
        }
    }

    fn check_sent(&mut self, host: HostId, message: &ToAgent, written: &BTreeSet<RecordKey>) {
        match message {
            ToAgent::Desired(desired) => {
                let order = (desired.epoch, desired.generation);
                let newest = self.newest.entry(host).or_insert(order);
                assert!(order >= *newest, "{host}: {order:?} after {newest:?}");
                *newest = order;
                for assignment in &desired.assignments {
                    let release = self.control.release(assignment.release).unwrap();
                    let exposed = matches!(
                        self.control
                            .rollout(assignment.rollout)
                            .and_then(|r| r.member(host))
                            .map(|m| m.exposure().is_some()),
                        Some(true)
                    );
                    assert!(
                        !release.barred() || exposed,
                        "a barred release is assigned to {host}"
                    );
                }
            }
            ToAgent::Grant { nonce, .. } => {
                self.check_durable(host, *nonce, written);
                let rollouts = self.control.rollouts();
                let mut granted = rollouts
                    .iter()
                    .filter_map(|(id, _)| self.control.rollout(*id));
                let of =
                    granted.find(|r| r.member(host).is_some_and(|m| m.nonce() == Some(*nonce)));
                let release = of.unwrap().spec.release;
                assert!(
                    !self.control.release(release).unwrap().barred(),
                    "a barred release is granted"
                );
            }
            ToAgent::Begun { nonce } => {
                self.check_durable(host, *nonce, written);
                self.begun_sent.insert((host, *nonce));
            }
            _ => {}
        }
    }

    /// The record that stands for a grant or a `Begin` is durable before the answer goes out, now
    /// or since the first time it was given.
    fn check_durable(&self, host: HostId, nonce: Nonce, _written: &BTreeSet<RecordKey>) {
        let durable = self.records.values().any(|record| match record {
            Record::Member(member) => {
                member.member.host == host && member.member.nonce() == Some(nonce)
            }
            _ => false,
        });
        assert!(
            durable,
            "{host}: {nonce} was answered before it was durable"
        );
    }

    fn post(&mut self, host: HostId, letter: Letter) {
        let up = matches!(letter, Letter::Up(_));
        let late = if self.chance(self.trouble.delayed) {
            Millis(200 * (1 + self.letters % 100))
        } else {
            Millis(20)
        };
        let earliest = self.last_mail.get(&(host, up)).copied().unwrap_or_default();
        let at = (self.now + late).max(earliest);
        self.last_mail.insert((host, up), at);
        let session = self.sessions.get(&host).copied().unwrap_or(0);
        self.letters += 1;
        self.mail
            .insert((at, self.letters), (host, session, letter.clone()));
        if self.chance(self.trouble.doubled) {
            self.letters += 1;
            let again = at + Millis(37 * (self.letters % 1000));
            self.mail
                .insert((again, self.letters), (host, session, letter));
        }
    }

    fn lose_session(&mut self, host: HostId) {
        let Some(agent) = self.agents.get_mut(&host) else {
            return;
        };
        if agent.connected {
            agent.dropped();
            *self.sessions.entry(host).or_default() += 1;
            self.last_mail.remove(&(host, true));
            self.last_mail.remove(&(host, false));
        }
    }

    pub fn disconnect(&mut self, host: HostId) {
        self.lose_session(host);
        self.handle(Event::Disconnected { host });
    }

    fn connect(&mut self, host: HostId) {
        let agent = self.agents.get_mut(&host).unwrap();
        agent.connected = true;
        let hello = Box::new(agent.hello(self.now));
        *self.sessions.entry(host).or_default() += 1;
        self.handle(Event::Connected { host, hello });
    }

    /// The server stops and goes on from what was durable.
    pub fn restart_server(&mut self) {
        // What is read back is what was written, through the format of the store.
        let read =
            |record: &Record| serde_json::from_slice(&serde_json::to_vec(record).unwrap()).unwrap();
        let records: Vec<Record> = self.records.values().map(read).collect();
        let clock = Control::clock(&records);
        assert!(clock <= self.now);
        let hosts: Vec<HostId> = self.agents.keys().copied().collect();
        for host in hosts {
            self.lose_session(host);
        }
        self.control = Control::restore(Policy::parse(DEMO).unwrap(), records, self.now).unwrap();
    }

    /// One step of time.
    pub fn step(&mut self) {
        self.now = self.now + STEP;
        if self.chance(self.trouble.server_restart) {
            self.restart_server();
        }
        if self.chance(self.trouble.admin) {
            self.meddle();
        }
        while let Some((&(at, n), _)) = self.mail.first_key_value() {
            if at > self.now {
                break;
            }
            let (host, session, letter) = self.mail.remove(&(at, n)).unwrap();
            self.deliver(host, session, letter);
        }
        let hosts: Vec<HostId> = self.agents.keys().copied().collect();
        for host in hosts {
            self.live(host);
        }
        for _ in 0..100 {
            if self.control.next_deadline().is_none_or(|at| at > self.now) {
                return;
            }
            self.handle(Event::Tick);
        }
        panic!(
            "deadlines never end: {:?} at {:?}",
            self.control.next_deadline(),
            self.now
        );
    }

    fn deliver(&mut self, host: HostId, session: u64, letter: Letter) {
        let same = self.sessions.get(&host).copied().unwrap_or(0) == session;
        match letter {
            // A server may hear late words of an older session through a slow edge.
            Letter::Up(message) => self.handle(Event::Message { host, message }),
            Letter::Down(message) if same => {
                let now = self.now;
                let agent = self.agents.get_mut(&host).unwrap();
                if agent.connected && agent.alive(now) {
                    let said = agent.receive(message, now);
                    for (nonce, _) in &agent.switches {
                        assert!(
                            self.begun_sent.contains(&(host, *nonce)),
                            "{host} switched without Begun"
                        );
                    }
                    for message in said {
                        self.post(host, Letter::Up(message));
                    }
                }
            }
            Letter::Down(_) => {}
        }
    }

    /// A person does something, allowed or not.
    fn meddle(&mut self) {
        let rollouts = self.control.rollouts();
        let (Some((id, _)), pick) = (rollouts.last().copied(), self.random % 7) else {
            return;
        };
        let release = self.control.rollout(id).unwrap().spec.release;
        let action = match pick {
            0 => Action::Pause(id),
            1 | 2 => Action::Resume(id),
            3 => Action::StopAll,
            4 => Action::ResumeAll,
            5 => Action::Freeze(HostId(1)),
            _ if self.random.is_multiple_of(5) => Action::Rollback {
                leave: release,
                to: None,
            },
            _ => Action::Unfreeze(HostId(1)),
        };
        let _ = self.act(action);
    }

    fn live(&mut self, host: HostId) {
        let now = self.now;
        if self.chance(self.trouble.sleep) && self.agents[&host].connected {
            let message = ToServer::Absent(ringward_domain::Absence::Suspend);
            self.handle(Event::Message { host, message });
            let long = Millis::secs(1 + self.random % 50 * (1 + self.random % 50));
            self.agents.get_mut(&host).unwrap().asleep_until = now + long;
        }
        let (lost, restart) = (
            self.chance(self.trouble.session_lost),
            self.chance(self.trouble.agent_restart),
        );
        let agent = self.agents.get_mut(&host).unwrap();
        agent.dawn(now);
        if !agent.alive(now) {
            if agent.connected {
                self.disconnect(host);
            }
            return;
        }
        if restart {
            agent.restart(now);
        }
        if (lost || restart) && agent.connected {
            self.disconnect(host);
            return;
        }
        if !agent.connected {
            self.connect(host);
            return;
        }
        let (said, rebooted) = agent.poll(now);
        for message in said {
            self.post(host, Letter::Up(message));
        }
        if rebooted {
            self.disconnect(host);
        }
    }

    /// Steps until a condition holds; `false` if it does not within this time.
    pub fn until(&mut self, within: Millis, holds: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + within;
        while self.now < end {
            if holds(self) {
                return true;
            }
            self.step();
        }
        holds(self)
    }
}
