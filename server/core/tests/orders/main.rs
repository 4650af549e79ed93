//! Random histories of orders, approvals, role changes and restarts.
//!
//! `RINGWARD_ORDER_HISTORIES=10000 cargo test -p ringward-server-core --test orders` runs the long tier.
#![allow(clippy::unwrap_used, missing_docs)]

#[cfg(feature = "planted-bugs")]
mod planted;
mod rules;
mod world;

use ringward_domain::command::Action;
use ringward_domain::order::Containment;
use ringward_domain::order_spec::*;
use ringward_domain::{Desired, HostId, Millis, OrderId};
use world::{PEOPLE, World};

fn kind(world: &mut World) -> OrderKind {
    match world.chance.below(10) {
        0..4 => OrderKind::Quarantine {
            allow: match world.chance.below(8) {
                0 => vec!["0.0.0.0/0".parse().unwrap()],
                _ => Vec::new(),
            },
            life: None,
        },
        4..6 => OrderKind::Reboot,
        6..8 => OrderKind::Release,
        8 => OrderKind::Freeze,
        _ => OrderKind::Collect,
    }
}

fn targets(world: &mut World) -> OrderTargets {
    match world.chance.below(6) {
        0 => OrderTargets::Everything,
        1 => OrderTargets::Selector("canary".to_owned()),
        2 => OrderTargets::Ring("rest".parse().unwrap()),
        _ => {
            let hosts: Vec<HostId> = world.hosts.keys().copied().collect();
            let many = 1 + world.chance.below(4);
            let pick = |_| hosts[world.chance.below(hosts.len() as u64) as usize];
            OrderTargets::Hosts((0..many).map(pick).collect())
        }
    }
}

fn policy(world: &mut World) -> String {
    let hour = 1 + world.chance.below(50);
    format!("[brakes]\nhosts_per_hour = {hour}\n[[ring]]\nname = \"rest\"\n")
}

fn step(world: &mut World) {
    let who = PEOPLE[world.chance.below(PEOPLE.len() as u64) as usize];
    let glass = world.chance.one_in(8);
    let caller = world.caller(who, glass);
    match world.chance.below(20) {
        0..6 => {
            let spec = OrderSpec {
                kind: kind(world),
                targets: targets(world),
                ticket: String::new(),
                life: Millis::mins(1 + world.chance.below(300)),
                protected: world.chance.one_in(4),
                over_cap: world.chance.one_in(2),
                endorsers: 0,
            };
            let _ = world.ask(&caller, Action::Order(Box::new(spec)));
        }
        6..10 => {
            let waiting = world.control.approval_views();
            if let Some(view) = waiting.first() {
                let mut digest = view.digest;
                digest.0[0] ^= u8::from(world.chance.one_in(6));
                let id = view.id;
                let _ = match world.chance.one_in(5) {
                    true => world.ask(&caller, Action::Deny(id)),
                    false => world.ask(&caller, Action::Approve(id, digest)),
                };
            }
        }
        10 | 11 => {
            let person = PEOPLE[world.chance.below(5) as usize].to_owned();
            let roles = world.roles();
            let _ = world.ask(&caller, Action::Grant(person, roles));
        }
        12 => {
            let orders = world.control.order_views();
            if let Some(order) = orders.first() {
                let _ = world.ask(&caller, Action::CancelOrder(order.id));
            }
        }
        13 if world.chance.one_in(2) => {
            // Anybody may try; nobody may loosen it alone, and nobody else's word is enough here.
            let text = policy(world);
            let mut caller = caller;
            caller.break_glass = false;
            let before = world.control.policy().brakes;
            let asked = world.ask(&caller, Action::ApplyPolicy(text));
            let after = world.control.policy().brakes;
            assert!(after.loosened(&before).is_empty(), "{asked:?}");
        }
        14 => world.restart(),
        15 | 16 => {
            let minutes = [1, 10, 61, 24 * 60][world.chance.below(4) as usize];
            world.pass(Millis::mins(minutes));
        }
        _ => {
            for id in world.hosts.keys().copied().collect::<Vec<_>>() {
                match world.chance.below(8) {
                    0 => world.disconnect(id),
                    1 => world.connect(id),
                    _ => world.talk(id, false),
                }
            }
        }
    }
}

/// Everybody back, every message through: all that is open settles, and host and server agree.
fn settles(world: &mut World) {
    let ids: Vec<HostId> = world.hosts.keys().copied().collect();
    for id in &ids {
        world.connect(*id);
    }
    for _ in 0..60 {
        for id in &ids {
            world.talk(*id, true);
        }
        world.pass(Millis::mins(65));
        for id in &ids {
            world.connect(*id);
        }
    }
    for id in &ids {
        world.talk(*id, true);
        world.talk(*id, true);
    }
    for order in world.control.order_views() {
        let [_, pending, delivered, ..] = order.counts;
        assert_eq!(pending + delivered, 0, "{order:?}");
    }
    for (id, host) in &world.hosts {
        let desired = host.desired.as_ref().unwrap();
        let [wanted_order, once] = [
            isolation(desired),
            desired.orders.once.first().map(|o| o.id),
        ];
        for order in [wanted_order, once].into_iter().flatten() {
            let parts = world.control.order_hosts(order, None, usize::MAX).unwrap();
            let part = parts.iter().find(|part| part.host == *id).unwrap();
            let ended = matches!(part.progress, Progress::Cancelled | Progress::Expired);
            assert!(!ended, "{id} is wanted to obey {order}: {part:?}");
        }
        let closed = matches!(
            host.orders.containment,
            ringward_domain::order::ContainmentObserved::Closed { .. }
        );
        let wanted = matches!(desired.orders.containment, Containment::Quarantined(_));
        assert_eq!(closed, wanted, "{id}: {:?}", host.orders);
    }
}

fn isolation(desired: &Desired) -> Option<OrderId> {
    match &desired.orders.containment {
        Containment::Quarantined(quarantine) => Some(quarantine.order),
        _ => None,
    }
}

/// One history; answers approvals and hosts beyond a cap.
fn history(seed: u64) -> (u64, u64) {
    let seated: &[&str] = match seed % 2 {
        0 => &["ada", "bea"],
        _ => &["ada", "bea", "dan", "eve"],
    };
    let mut world = World::seated(seed, seated);
    for _ in 0..60 {
        step(&mut world);
    }
    settles(&mut world);
    (world.approved, world.over_caps)
}

#[test]
fn no_history_passes_a_cap_without_a_second_person_and_every_history_settles() {
    let histories = std::env::var("RINGWARD_ORDER_HISTORIES");
    let histories: u64 = histories.ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    // Replays one: RINGWARD_ORDER_HISTORY=3605.
    if let Some(seed) = std::env::var("RINGWARD_ORDER_HISTORY")
        .ok()
        .and_then(|n| n.parse().ok())
    {
        history(seed);
        return;
    }
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let share = |thread| {
        let (mut approved, mut over) = (0, 0);
        for seed in (thread..histories).step_by(threads as usize) {
            let Ok((a, o)) = std::panic::catch_unwind(|| history(seed)) else {
                panic!("history {seed} failed; it is replayed by its number alone");
            };
            approved += a;
            over += o;
        }
        (approved, over)
    };
    let (mut approved, mut over) = (0, 0);
    std::thread::scope(|scope| {
        let shares: Vec<_> = (0..threads)
            .map(|t| scope.spawn(move || share(t)))
            .collect();
        for share in shares {
            let (a, o) = share.join().expect("a history failed; it is named above");
            approved += a;
            over += o;
        }
    });
    // A test in which nobody ever approves, or nothing ever goes beyond a cap, would prove nothing.
    assert!(approved > histories / 10, "{approved} approvals");
    assert!(over > 0, "no order went beyond a cap by two people's word");
    println!(
        "{histories} histories, {approved} approvals, {over} hosts beyond a cap by two people"
    );
}
