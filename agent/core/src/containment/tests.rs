//! Orders against a host that dies anywhere, a firewall, disk and network that fail, and a server
//! that may be stolen.
#![allow(clippy::unwrap_used)]

mod histories;

use super::policy::{OrderPolicy, Rate, Vouch};
use super::record::{OrdersRecord, Stage};
use super::*;
use ringward_domain::order::{Once, Order, OrderState, Origin, Quarantine, Warrant};
use ringward_domain::{BootId, KeyId};

/// How the world treats the host.
#[derive(Debug, Clone, Copy)]
struct World {
    server_before: bool,
    server_after: bool,
    link: bool,
    disk: bool,
    firewall: bool,
}

const WELL: World = World {
    server_before: true,
    server_after: true,
    link: true,
    disk: true,
    firewall: true,
};

/// A host: what its disk and kernel hold, and the process, if one runs.
struct Host {
    core: Containment,
    policy: OrderPolicy,
    disk: Option<OrdersRecord>,
    /// Rules stand in the kernel now; and would be loaded at the next boot.
    rules: bool,
    rules_at_boot: bool,
    boot: u8,
    awake: Millis,
    powered: Millis,
    world: World,
    queue: Vec<Deed>,
    isolations: Vec<Millis>,
    reboots: Vec<Millis>,
    collections: usize,
}

impl Host {
    fn new(policy: OrderPolicy) -> Self {
        let mut host = Self {
            core: Containment::start(OrdersStarted::default(), BootId([1; 16]), Millis::ZERO),
            policy,
            disk: None,
            rules: false,
            rules_at_boot: false,
            boot: 1,
            awake: Millis::ZERO,
            powered: Millis::ZERO,
            world: WELL,
            queue: Vec::new(),
            isolations: Vec::new(),
            reboots: Vec::new(),
            collections: 0,
        };
        host.start();
        host
    }

    fn start(&mut self) {
        let started = OrdersStarted {
            record: self.disk.clone(),
            stands: self.rules,
            able: true,
            policy: self.policy.clone(),
        };
        self.queue.clear();
        self.core = Containment::start(started, BootId([self.boot; 16]), self.awake);
        // The rules' text is kept by who made them; a process does not need to know it.
        self.settle();
    }

    fn reboot(&mut self) {
        self.boot += 1;
        self.awake = Millis::ZERO;
        self.rules = self.rules_at_boot;
        self.start();
    }

    fn settle(&mut self) {
        let deeds = self.core.settle(self.awake, self.world.link);
        self.queue.extend(deeds);
    }

    /// One deed that waits is carried out and answered.
    fn one(&mut self) -> bool {
        if self.queue.is_empty() {
            return false;
        }
        match self.queue.remove(0) {
            Deed::Write(record) => {
                if self.world.disk {
                    self.disk = Some(*record);
                }
                self.core.on_written(self.world.disk, self.awake);
            }
            Deed::Isolate(_) => {
                assert!(
                    matches!(
                        self.disk.as_ref().map(|record| &record.stage),
                        Some(Stage::Closing { .. } | Stage::Closed { .. })
                    ),
                    "isolated before the disk says so: {:?}",
                    self.disk
                );
                let outcome = match self.world.firewall {
                    true => Ok(Vec::new()),
                    false => Err(IsolateFailure::Firewall),
                };
                if outcome.is_ok() {
                    // What the disk says is closed is put back, not closed once more.
                    let anew = matches!(
                        self.disk.as_ref().map(|record| &record.stage),
                        Some(Stage::Closing { .. })
                    );
                    if anew && !self.rules {
                        self.isolations.push(self.powered);
                    }
                    (self.rules, self.rules_at_boot) = (true, true);
                }
                self.core.on_isolated(outcome, self.awake);
            }
            Deed::EndIsolation => {
                if self.world.firewall {
                    (self.rules, self.rules_at_boot) = (false, false);
                }
                self.core
                    .on_isolation_ended(self.world.firewall, self.awake);
            }
            Deed::Prove => {
                let reached = match self.rules {
                    true => self.world.server_after,
                    false => self.world.server_before,
                };
                self.core.on_server_proved(reached);
            }
            Deed::Reboot => {
                self.reboots.push(self.powered);
                self.reboot();
                return true;
            }
            Deed::Collect => {
                self.collections += 1;
                self.core.on_collected(true);
            }
        }
        self.settle();
        true
    }

    fn quiet(&mut self) {
        for _ in 0..200 {
            if !self.one() {
                return;
            }
        }
        panic!("never at rest: {:?}", self.core.record);
    }

    /// Time passes, in the steps that the machine asks for.
    fn pass(&mut self, time: Millis) {
        let end = self.awake + time;
        for _ in 0..2_000 {
            self.quiet();
            let next = self.core.wakeup().filter(|at| *at < end).unwrap_or(end);
            let next = Millis(next.0.max(self.awake.0 + 1).min(end.0));
            self.powered += next - self.awake;
            self.awake = next;
            self.settle();
            if self.awake >= end {
                break;
            }
        }
        self.quiet();
    }

    fn told(&self) -> ContainmentObserved {
        self.core.observed(self.awake).containment
    }

    fn want(&mut self, generation: u64, containment: Wanted) {
        let wanted = OrdersDesired {
            containment,
            ..OrdersDesired::default()
        };
        self.core
            .on_desired((Epoch(1), Generation(generation)), wanted);
        self.settle();
    }

    fn closed(&self) -> bool {
        self.rules && matches!(self.told(), ContainmentObserved::Closed { .. })
    }
}

fn quarantine(order: u64, life: Option<Millis>) -> Wanted {
    Wanted::Quarantined(Box::new(Quarantine {
        order: OrderId(order),
        allow: Vec::new(),
        life,
        warrant: warrant(),
    }))
}

fn warrant() -> Warrant {
    Warrant {
        origin: Origin::Person,
        not_after_unix_ms: 0,
        targets: None,
        endorsements: Vec::new(),
    }
}

fn isolated() -> Host {
    let mut host = Host::new(OrderPolicy::default());
    host.want(1, quarantine(1, None));
    host.quiet();
    assert!(host.closed(), "{:?}", host.told());
    host
}

#[test]
fn an_isolation_closes_proves_and_ends_by_release() {
    let mut host = isolated();
    host.want(2, Wanted::Open);
    host.quiet();
    assert!(!host.rules && host.told() == ContainmentObserved::Open);
    assert_eq!(host.disk.as_ref().unwrap().stage, Stage::Open);
}

#[test]
fn a_net_that_cuts_off_the_server_is_opened_within_a_minute() {
    let mut host = Host::new(OrderPolicy::default());
    host.world.server_after = false;
    host.want(1, quarantine(1, None));
    host.pass(Millis::secs(59));
    assert!(host.rules, "given up before the third try");
    host.pass(Millis::secs(2));
    assert!(!host.rules);
    let undone = ContainmentObserved::Undone(OrderId(1), UndoneWhy::ServerUnreachable);
    assert_eq!(host.told(), undone);
    host.world.server_after = true;
    host.pass(Millis::hours(1));
    assert_eq!(host.told(), undone, "an order is tried once");
}

#[test]
fn a_server_that_was_unreachable_before_too_frees_nobody() {
    let mut host = Host::new(OrderPolicy::default());
    host.world.link = false;
    (host.world.server_before, host.world.server_after) = (false, false);
    host.want(1, quarantine(1, None));
    host.pass(Millis::hours(1));
    assert!(host.closed(), "{:?}", host.told());
}

#[test]
fn once_proven_a_lost_server_undoes_nothing() {
    let mut host = isolated();
    host.world.link = false;
    (host.world.server_before, host.world.server_after) = (false, false);
    host.pass(Millis::hours(30));
    host.reboot();
    host.pass(Millis::hours(30));
    assert!(host.closed(), "{:?}", host.told());
}

#[test]
fn a_life_counts_powered_on_time_over_reboots() {
    let mut host = Host::new(OrderPolicy::default());
    host.want(1, quarantine(1, Some(Millis::hours(24))));
    host.pass(Millis::hours(10));
    host.reboot();
    host.pass(Millis::hours(13));
    assert!(host.closed(), "{:?}", host.told());
    host.pass(Millis::mins(61) + CLOCK_EVERY);
    assert!(!host.rules);
    assert_eq!(host.told(), ContainmentObserved::Expired(OrderId(1)));
}

#[test]
fn a_full_disk_refuses_to_isolate_and_never_to_release() {
    let mut host = Host::new(OrderPolicy::default());
    host.world.disk = false;
    host.want(1, quarantine(1, None));
    host.pass(Millis::mins(1));
    assert_eq!(
        host.told(),
        ContainmentObserved::Undone(OrderId(1), UndoneWhy::Disk)
    );
    let mut host = isolated();
    host.world.disk = false;
    host.want(2, Wanted::Open);
    host.pass(Millis::mins(1));
    assert!(!host.rules);
}

#[test]
fn a_refused_change_leaves_the_standing_isolation() {
    let mut host = isolated();
    let Wanted::Quarantined(mut wide) = quarantine(2, None) else {
        unreachable!();
    };
    wide.allow = vec!["0.0.0.0/0".parse().unwrap()];
    host.want(2, Wanted::Quarantined(wide));
    host.quiet();
    assert!(host.closed());
    let observed = host.core.observed(host.awake);
    let refused = OrderState::Refused(OrderRefusal::AllowTooWide);
    assert!(
        observed
            .once
            .iter()
            .any(|told| told.order == OrderId(2) && told.state == refused)
    );
}

#[test]
fn rules_without_a_record_stay_until_a_server_says_open() {
    let mut host = Host::new(OrderPolicy::default());
    (host.rules, host.rules_at_boot) = (true, true);
    host.disk = None;
    host.start();
    host.pass(Millis::hours(1));
    assert!(host.rules);
    host.want(1, Wanted::Open);
    host.quiet();
    assert!(!host.rules);
}

#[test]
fn a_reboot_by_order_is_made_once_and_told_done() {
    let mut host = Host::new(OrderPolicy::default());
    let wanted = OrdersDesired {
        once: vec![Order {
            id: OrderId(5),
            act: Once::Reboot,
            warrant: warrant(),
        }],
        ..OrdersDesired::default()
    };
    for generation in 1..4 {
        let order = (Epoch(1), Generation(generation));
        host.core.on_desired(order, wanted.clone());
        host.settle();
        host.quiet();
    }
    assert_eq!(host.reboots.len(), 1);
    let told = host.core.observed(host.awake).once;
    assert_eq!(told[0].state, OrderState::Done);
}

#[test]
fn a_disk_and_a_firewall_that_fail_together_let_it_sleep_until_it_tries_again() {
    let mut host = Host::new(OrderPolicy::default());
    let failing = World {
        server_before: false,
        server_after: false,
        link: false,
        disk: true,
        firewall: false,
    };
    host.world = failing;
    host.want(1, quarantine(1, None));
    host.quiet();
    host.world.disk = false;
    host.pass(Millis::secs(14));
    // Told something new, which the disk has not taken yet, it waits for the disk alone.
    host.world = WELL;
    host.want(100, quarantine(99, None));
    host.quiet();
    assert!(host.core.wakeup().is_none_or(|at| at > host.awake));
    host.pass(Millis::mins(1));
    assert!(host.closed(), "{:?}", host.told());
}
