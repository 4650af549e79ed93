//! A small fleet of model hosts around the real control, on a network that loses, doubles and delays;
//! and an oracle that only reads what is sent.

use ringward_domain::command::{Action, Command, Outcome, Refusal};
use ringward_domain::host::{Arch, Facts, GuardTier, Os};
use ringward_domain::ids::*;
use ringward_domain::observed::Observed;
use ringward_domain::order::*;
use ringward_domain::order_spec::*;
use ringward_domain::people::{Caller, Grant, Proof, Role};
use ringward_domain::session::{Heartbeat, Hello, ToAgent, ToServer};
use ringward_domain::{Desired, HostId, Millis, Timestamp};
use ringward_server_core::control::{Control, Enrolment};
use ringward_server_core::event::{Effect, Event};
use ringward_server_core::policy::{HourlyCap, Policy};
use ringward_server_core::record::{Record, RecordKey};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A small generator of its own (xorshift64*), so that a failing seed replays anywhere.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    pub fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 33) % n
    }
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A host that does what it is told, by levels.
#[derive(Default)]
pub struct ModelHost {
    accepted: (Epoch, Generation),
    pub desired: Option<Desired>,
    pub orders: OrdersObserved,
    pub done: BTreeSet<OrderId>,
    refuses: bool,
    up: bool,
    to_host: VecDeque<ToAgent>,
}

impl ModelHost {
    fn take(&mut self, message: ToAgent) {
        let ToAgent::Desired(desired) = message else {
            return;
        };
        let order = (desired.epoch, desired.generation);
        if order < self.accepted {
            return;
        }
        self.accepted = order;
        self.obey(&desired);
        self.desired = Some(*desired);
    }

    fn obey(&mut self, desired: &Desired) {
        match &desired.orders.containment {
            Containment::Unsaid => {}
            Containment::Open => self.orders.containment = ContainmentObserved::Open,
            Containment::Quarantined(q) if self.obeyed(q.order) => {}
            Containment::Quarantined(q) => {
                self.orders.containment = match self.refuses {
                    true => ContainmentObserved::Refused(q.order, OrderRefusal::RateLimit),
                    false => ContainmentObserved::Closed {
                        order: q.order,
                        left: q.life,
                    },
                };
            }
        }
        let wanted: Vec<OrderId> = desired.orders.once.iter().map(|order| order.id).collect();
        self.orders.once.retain(|told| wanted.contains(&told.order));
        for id in wanted {
            if self.orders.once.iter().all(|told| told.order != id) {
                // Done once, whatever is repeated.
                self.done.insert(id);
                self.orders.once.push(OrderObserved {
                    order: id,
                    state: OrderState::Done,
                });
            }
        }
    }

    /// Whether it took up this order, or said that it will not.
    fn obeyed(&self, id: OrderId) -> bool {
        let isolates = match self.orders.containment {
            ContainmentObserved::Closed { order, .. } => order == id,
            ContainmentObserved::Refused(order, _) => order == id,
            _ => false,
        };
        isolates || self.done.contains(&id)
    }

    fn observed(&self) -> Observed {
        Observed {
            orders: self.orders.clone(),
            ..Observed::default()
        }
    }
}

pub const PEOPLE: [&str; 5] = ["ada", "bea", "cid", "dan", "eve"];

/// The oracle's own book of what was ordered with whose word.
struct Book {
    /// Orders that two people gave beyond the caps.
    beyond: BTreeSet<OrderId>,
    glass: BTreeSet<OrderId>,
    told: BTreeSet<(HostId, OrderId)>,
    /// When each host was disrupted last.
    disrupted: BTreeMap<HostId, Timestamp>,
    /// Who holds the approver's role since when.
    approver_since: BTreeMap<String, Timestamp>,
    /// Hosts an hour: the design's default, or what two people made of it.
    cap: HourlyCap,
    protected: BTreeSet<HostId>,
}

pub struct World {
    pub control: Control,
    pub now: Timestamp,
    pub chance: Chance,
    pub hosts: BTreeMap<HostId, ModelHost>,
    durable: BTreeMap<RecordKey, Record>,
    book: Book,
    requests: u64,
    pub approved: u64,
    pub over_caps: u64,
}

const POLICY: &str =
    "[[ring]]\nname = \"canary\"\nselector = \"canary\"\n[[ring]]\nname = \"rest\"\n";

fn facts(n: u64) -> Facts {
    Facts {
        hostname: format!("host-{n}"),
        os: Os::Linux,
        os_build: String::new(),
        arch: Arch::X86_64,
        kernel: String::new(),
        model: String::new(),
        fingerprint: String::new(),
        memory_mib: 1,
        cpus: 1,
        guard_tier: GuardTier::Service,
    }
}

impl World {
    /// Ada and Bea hold every role from the start.
    pub fn new(seed: u64) -> Self {
        Self::seated(seed, &["ada", "bea"])
    }

    /// With these people seated.
    pub fn seated(seed: u64, seated: &[&str]) -> Self {
        let mut chance = Chance::new(seed);
        let now = Timestamp(1_000_000);
        let mut world = Self {
            control: Control::new(Policy::parse(POLICY).unwrap(), now),
            now,
            hosts: BTreeMap::new(),
            durable: BTreeMap::new(),
            book: Book {
                beyond: BTreeSet::new(),
                glass: BTreeSet::new(),
                told: BTreeSet::new(),
                disrupted: BTreeMap::new(),
                approver_since: BTreeMap::new(),
                cap: HourlyCap {
                    least: 2,
                    share: 0.01,
                },
                protected: BTreeSet::new(),
            },
            requests: 0,
            approved: 0,
            over_caps: 0,
            chance: Chance::new(seed ^ 0xabcd),
        };
        let names: Vec<String> = seated.iter().map(|name| (*name).to_owned()).collect();
        let effects = world.control.seat(&names, now);
        for name in names {
            world.book.approver_since.insert(name, Timestamp(0));
        }
        world.apply(effects);
        for n in 1..=8 + chance.below(30) {
            let mut labels = BTreeMap::new();
            for (one_in, key, value) in
                [(8, "protected", ""), (3, "canary", ""), (4, "group", "db")]
            {
                if chance.one_in(one_in) {
                    labels.insert(key.to_owned(), value.to_owned());
                }
            }
            if labels.contains_key("protected") {
                world.book.protected.insert(HostId(n));
            }
            let enrolment = Enrolment {
                host: HostId(n),
                facts: facts(n),
                labels,
                key: Sha256([n as u8; 32]),
                pending: false,
                ephemeral: None,
            };
            let effects = world.control.enrol(enrolment, now);
            world.apply(effects);
            let refuses = chance.one_in(10);
            world.hosts.insert(
                HostId(n),
                ModelHost {
                    refuses,
                    ..ModelHost::default()
                },
            );
            world.connect(HostId(n));
        }
        world
    }

    fn apply(&mut self, effects: Vec<Effect>) {
        let mut told = Vec::new();
        for effect in effects {
            match effect {
                Effect::Put(record) => {
                    self.durable.insert(record.key(), *record);
                }
                Effect::Delete(key) => {
                    self.durable.remove(&key);
                }
                Effect::Send(host, message) => {
                    if let ToAgent::Desired(desired) = &*message {
                        let orders = self.disruptions(host, desired);
                        told.extend(orders.into_iter().map(|id| (self.word(id), host, id)));
                    }
                    let host = self.hosts.get_mut(&host).unwrap();
                    host.to_host.push_back(*message);
                }
                _ => {}
            }
        }
        // Of one moment: whom one person disrupts keeps the caps before whom two take beyond them.
        told.sort_by_key(|(word, ..)| *word);
        for (_, host, order) in told {
            self.told(host, order);
        }
    }

    /// By whose word an order is: one person's, one's who broke the glass, two people's.
    fn word(&self, order: OrderId) -> u8 {
        u8::from(self.book.glass.contains(&order)) + 2 * u8::from(self.book.beyond.contains(&order))
    }

    /// Orders told to a host for the first time that take it out of service.
    fn disruptions(&self, host: HostId, desired: &Desired) -> Vec<OrderId> {
        let isolates = match &desired.orders.containment {
            Containment::Quarantined(quarantine) => Some(quarantine.order),
            _ => None,
        };
        let reboots = desired.orders.once.iter();
        let reboots = reboots.filter(|order| order.act == Once::Reboot);
        let mut all: Vec<OrderId> = isolates.into_iter().chain(reboots.map(|o| o.id)).collect();
        all.retain(|order| !self.book.told.contains(&(host, *order)));
        all
    }

    /// The oracle: every first word of a disruption keeps the caps, or two people said otherwise.
    fn told(&mut self, host: HostId, order: OrderId) {
        if self.book.told.insert((host, order)) {
            assert!(
                self.word(order) > 0 || !self.book.protected.contains(&host),
                "{order} reaches {host}, which is protected, by one person"
            );
            self.disrupted(host, order);
        }
    }

    fn disrupted(&mut self, host: HostId, order: OrderId) {
        let now = self.now;
        let young = |at: &Timestamp| now.since(*at) < Millis::hours(1);
        self.book.disrupted.insert(host, now);
        let within = self.book.disrupted.values().filter(|at| young(at)).count() as u64;
        let fleet = self.hosts.len() as u64;
        let times = if self.book.glass.contains(&order) {
            5
        } else {
            1
        };
        let cap = self.book.cap.of(fleet) * times;
        // A host takes one place, however often it is meant; that it has one lets nobody in beyond.
        if within > cap {
            self.over_caps += 1;
            let recent: Vec<_> = self
                .book
                .disrupted
                .iter()
                .filter(|(_, at)| young(at))
                .collect();
            assert!(
                self.book.beyond.contains(&order),
                "{order} disrupts {host} at {now:?}: {within} hosts within the hour, cap {cap}, one \
                 person: {recent:?}, {:?} {:?}",
                self.durable
                    .values()
                    .filter_map(|record| match record {
                        Record::OrderHost(p) => Some((
                            p.host.0,
                            p.order,
                            p.part.admitted,
                            p.part.stands,
                            p.part.progress
                        )),
                        _ => None,
                    })
                    .filter(|p| recent.iter().any(|(h, _)| h.0 == p.0))
                    .collect::<Vec<_>>(),
                self.control.order_view(order),
            );
        }
    }

    pub fn caller(&self, name: &str, break_glass: bool) -> Caller {
        // Dan and Eve share a certificate: they are one person.
        let key = match name {
            "eve" => 3,
            other => PEOPLE.iter().position(|p| *p == other).unwrap_or(0) as u8,
        };
        Caller {
            name: name.to_owned(),
            key: Some(Sha256([key; 32])),
            by: Proof::Certificate,
            break_glass,
        }
    }

    pub fn ask(&mut self, caller: &Caller, action: Action) -> Result<Outcome, Refusal> {
        self.requests += 1;
        let mut request = [0; 16];
        request[..8].copy_from_slice(&self.requests.to_be_bytes());
        let command = Command {
            request: RequestId(request),
            actor: caller.name.clone(),
            reason: "history".to_owned(),
            dry_run: self.chance.one_in(10),
            action,
        };
        let approval = match &command.action {
            Action::Approve(id, _) => self.waiting(*id),
            _ => None,
        };
        self.control
            .saw_certificate(&caller.name, caller.key.unwrap());
        let before = self.control.policy().brakes;
        let held = self.grants();
        let (outcome, effects) = self.control.ask_for(caller, &command, self.now)?;
        let after = self.control.policy().brakes;
        if approval.is_none() {
            let loosened = after.loosened(&before);
            // Where nobody else could approve, one may do it alone: loudly, three times a day.
            let alone = caller.break_glass && outcome.warnings.iter().any(|w| w.contains("glass"));
            assert!(
                loosened.is_empty() || alone,
                "one person loosened {loosened:?}"
            );
            let added: Vec<_> = self.grants().difference(&held).cloned().collect();
            assert!(added.is_empty() || alone, "one person granted {added:?}");
        }
        self.book.cap = after.hour;
        if command.dry_run {
            assert!(effects.is_empty(), "a dry run did something");
            return Ok(outcome);
        }
        if let Some(approval) = &approval {
            assert!(
                matches!(command.action, Action::Approve(_, shown) if shown == approval.digest),
                "approved under another digest"
            );
            self.second_person_was_right(caller, approval);
            self.approved += 1;
        }
        if let Some(order) = outcome.order {
            if approval.is_some() {
                self.book.beyond.insert(order);
            } else if caller.break_glass {
                self.book.glass.insert(order);
            }
        }
        self.apply(effects);
        self.note_approvers();
        // The same request again answers the same and does nothing.
        if self.chance.one_in(4)
            && let Ok((again, effects)) = self.control.ask_for(caller, &command, self.now)
        {
            assert_eq!(again.summary, outcome.summary);
            assert!(effects.is_empty());
        }
        Ok(outcome)
    }

    fn grants(&self) -> BTreeSet<(String, Grant)> {
        let of = |p: ringward_server_core::people::PersonRecord| {
            let grants = p.grants.into_iter();
            grants.map(move |held| (p.name.clone(), held.grant))
        };
        self.control.people().into_iter().flat_map(of).collect()
    }

    fn waiting(&self, id: ApprovalId) -> Option<ApprovalView> {
        let mut views = self.control.approval_views().into_iter();
        views.find(|view| view.id == id)
    }

    fn second_person_was_right(&self, caller: &Caller, approval: &ApprovalView) {
        assert_eq!(approval.state, ApprovalState::Waiting);
        assert!(approval.left > Millis::ZERO, "approved when it had expired");
        assert_ne!(approval.author, caller.name, "approved by its author");
        let author = self.caller(&approval.author, false);
        assert_ne!(author.key, caller.key, "approved by a twin");
        let since = self.book.approver_since.get(&caller.name);
        let held = since.map(|since| self.now.since(*since));
        assert!(
            held.is_some_and(|held| held >= Millis::hours(24) || since == Some(&Timestamp(0))),
            "{} held the role for {held:?}",
            caller.name
        );
    }

    /// The oracle's own clock of who is an approver.
    fn note_approvers(&mut self) {
        for person in PEOPLE {
            let people = self.control.people();
            let holds = people.iter().any(|p| {
                p.name == person && p.grants.iter().any(|g| g.grant.role == Role::Approver)
            });
            match holds {
                false => drop(self.book.approver_since.remove(person)),
                true => {
                    let since = self.book.approver_since.entry(person.to_owned());
                    since.or_insert(self.now);
                }
            }
        }
    }

    pub fn restart(&mut self) {
        let records: Vec<Record> = self.durable.values().cloned().collect();
        let policy = self.control.policy().clone();
        self.control = Control::restore(policy, records, self.now).unwrap();
        for host in self.hosts.values_mut() {
            host.up = false;
            host.to_host.clear();
        }
    }

    pub fn pass(&mut self, time: Millis) {
        let end = self.now + time;
        // Deadlines pass in order, at most so many a step.
        for _ in 0..2_000 {
            let due = self.control.next_deadline().filter(|due| *due <= end);
            let Some(due) = due else {
                break;
            };
            self.now = self.now.max(due);
            let effects = self.control.handle(Event::Tick, self.now);
            self.apply(effects);
        }
        self.now = end;
        let effects = self.control.handle(Event::Tick, self.now);
        self.apply(effects);
    }

    pub fn connect(&mut self, id: HostId) {
        let host = self.hosts.get_mut(&id).unwrap();
        host.up = true;
        host.to_host.clear();
        // What it was told and never heard disrupts it when it is told again, whenever that is.
        let unheard = |(to, order): &(HostId, OrderId)| *to == id && !host.obeyed(*order);
        self.book.told.retain(|told| !unheard(told));
        let hello = Hello {
            protocol_min: 1,
            protocol_max: 1,
            capabilities: vec![CAPABILITY_ORDERS.to_owned()],
            agent_version: String::new(),
            boot: BootId([id.0 as u8; 16]),
            agent_start: AgentStart([id.0 as u8; 16]),
            boottime: Millis(self.now.0),
            last_stop_clean: None,
            accepted: host.accepted,
            next_signal: SignalSeq(1),
            facts: facts(id.0),
            observed: host.observed(),
        };
        let event = Event::Connected {
            host: id,
            hello: Box::new(hello),
        };
        let effects = self.control.handle(event, self.now);
        self.apply(effects);
    }

    pub fn disconnect(&mut self, id: HostId) {
        self.hosts.get_mut(&id).unwrap().up = false;
        let effects = self
            .control
            .handle(Event::Disconnected { host: id }, self.now);
        self.apply(effects);
    }

    /// One host takes its messages and speaks; the network may lose, double or reorder each.
    pub fn talk(&mut self, id: HostId, fair: bool) {
        let host = self.hosts.get_mut(&id).unwrap();
        if !host.up {
            return;
        }
        while let Some(message) = host.to_host.pop_front() {
            if !fair && self.chance.one_in(4) {
                continue;
            }
            if !fair && self.chance.one_in(4) {
                host.take(message.clone());
            }
            host.take(message);
        }
        let beat = ToServer::Heartbeat(Heartbeat {
            accepted: host.accepted,
            boottime: Millis(self.now.0),
            soaked: None,
        });
        let observed = ToServer::Observed(Box::new(host.observed()));
        let mut says = vec![observed, beat];
        if !fair {
            if self.chance.one_in(2) {
                says.reverse();
            }
            if self.chance.one_in(4) {
                says.push(says[0].clone());
            }
            if self.chance.one_in(4) {
                says.remove(0);
            }
        }
        for message in says {
            let event = Event::Message { host: id, message };
            let effects = self.control.handle(event, self.now);
            self.apply(effects);
        }
    }

    pub fn roles(&mut self) -> Vec<Grant> {
        let mut grants = Vec::new();
        for role in Role::ALL {
            if self.chance.one_in(2) {
                let selector = self.chance.one_in(4) && role != Role::Admin;
                grants.push(Grant {
                    role,
                    selector: selector.then(|| "canary".to_owned()),
                });
            }
        }
        grants
    }
}
