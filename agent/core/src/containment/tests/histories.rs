//! Random histories of a host: orders, deaths, failing parts and a server that lies.

use super::*;
use proptest::prelude::*;

/// What can happen next.
#[derive(Debug, Clone)]
enum Turn {
    Want(Wanting),
    One,
    Quiet,
    Pass(u64),
    Kill,
    Reboot,
    World(World),
}

#[derive(Debug, Clone)]
struct Wanting {
    generation: u64,
    isolation: Option<(u64, Option<u64>)>,
    open: bool,
    once: Vec<(u64, bool)>,
    endorsed: bool,
}

fn turn() -> impl Strategy<Value = Turn> {
    let wanting = (
        0u64..60,
        proptest::option::of((1u64..6, proptest::option::of(1u64..200))),
        any::<bool>(),
        proptest::collection::vec((10u64..30, any::<bool>()), 0..3),
        any::<bool>(),
    )
        .prop_map(|(generation, isolation, open, once, endorsed)| Wanting {
            generation,
            isolation,
            open,
            once,
            endorsed,
        });
    let world = (
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(
            |(server_before, server_after, link, disk, firewall)| World {
                server_before,
                server_after,
                link,
                disk,
                firewall,
            },
        );
    prop_oneof![
        4 => wanting.prop_map(Turn::Want),
        6 => Just(Turn::One),
        3 => Just(Turn::Quiet),
        4 => (1u64..200_000).prop_map(Turn::Pass),
        2 => Just(Turn::Kill),
        1 => Just(Turn::Reboot),
        1 => world.prop_map(Turn::World),
    ]
}

fn strict() -> OrderPolicy {
    let two = Rate {
        max: 2,
        within: Millis::hours(1),
    };
    OrderPolicy {
        quarantines: two,
        reboots: two,
        endorsers: 1,
        ..OrderPolicy::default()
    }
}

fn apply(host: &mut Host, wanting: &Wanting) {
    let containment = match (wanting.isolation, wanting.open) {
        (Some((order, life)), _) => quarantine(order, life.map(Millis::secs)),
        (None, true) => Wanted::Open,
        (None, false) => Wanted::Unsaid,
    };
    let once = wanting.once.iter().map(|(id, reboot)| Order {
        id: OrderId(*id),
        act: if *reboot { Once::Reboot } else { Once::Collect },
        warrant: warrant(),
    });
    let once: Vec<Order> = once.collect();
    let vouch = Vouch {
        endorsers: [KeyId([1; 32])].into(),
        named: true,
        expired: false,
    };
    let mut vouched = Vouched::new();
    if wanting.endorsed {
        let ids = wanting.isolation.iter().map(|(order, _)| OrderId(*order));
        vouched.extend(
            ids.chain(once.iter().map(|o| o.id))
                .map(|id| (id, vouch.clone())),
        );
    }
    host.core.on_vouched(vouched);
    let wanted = OrdersDesired {
        containment,
        once,
        ..OrdersDesired::default()
    };
    let order = (Epoch(1), Generation(wanting.generation));
    host.core.on_desired(order, wanted);
    host.settle();
}

fn play(host: &mut Host, turn: &Turn) {
    match turn {
        Turn::Want(wanting) => apply(host, wanting),
        Turn::One => drop(host.one()),
        Turn::Quiet => host.quiet(),
        Turn::Pass(ms) => host.pass(Millis(*ms)),
        Turn::Kill => host.start(),
        Turn::Reboot => host.reboot(),
        Turn::World(world) => host.world = *world,
    }
}

/// Most in any window of an hour of powered-on time. A power cut may lose [`CLOCK_EVERY`] of it.
fn most_in_an_hour(at: &[Millis]) -> usize {
    let window = Millis::hours(1).0 - CLOCK_EVERY.0;
    at.iter()
        .map(|from| {
            at.iter()
                .filter(|to| (from.0..from.0 + window).contains(&to.0))
                .count()
        })
        .max()
        .unwrap_or(0)
}

fn cases() -> ProptestConfig {
    // The long tier: RINGWARD_ORDER_HISTORIES=10000.
    let histories = option_env!("RINGWARD_ORDER_HISTORIES").and_then(|n| n.parse().ok());
    ProptestConfig {
        cases: histories.unwrap_or(256),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn whatever_happens_the_host_comes_to_what_is_wanted(
        turns in proptest::collection::vec(turn(), 1..80),
        release in any::<bool>(),
    ) {
        let mut host = Host::new(OrderPolicy {
            quarantines: Rate { max: 1000, within: Millis::hours(1) },
            ..OrderPolicy::default()
        });
        for turn in &turns {
            play(&mut host, turn);
        }
        host.world = WELL;
        host.want(100, if release { Wanted::Open } else { quarantine(99, None) });
        host.pass(Millis::mins(5));
        // An order of before may have restarted it: a server tells each new session again.
        host.want(100, if release { Wanted::Open } else { quarantine(99, None) });
        host.pass(Millis::mins(5));
        prop_assert_eq!(host.rules, !release, "{:?}", host.told());
        prop_assert_eq!(host.rules_at_boot, !release);
        host.reboot();
        host.pass(Millis::mins(5));
        prop_assert_eq!(host.rules, !release, "after a reboot: {:?}", host.told());
        let told = host.told();
        prop_assert!(match release {
            true => told == ContainmentObserved::Open,
            false => told == ContainmentObserved::Closed { order: OrderId(99), left: None },
        }, "{:?}", told);
    }

    #[test]
    fn no_server_gets_past_the_hosts_own_policy(
        turns in proptest::collection::vec(turn(), 1..120),
    ) {
        let mut host = Host::new(strict());
        for turn in &turns {
            play(&mut host, turn);
        }
        prop_assert!(most_in_an_hour(&host.isolations) <= 2, "{:?}", host.isolations);
        prop_assert!(most_in_an_hour(&host.reboots) <= 2, "{:?}", host.reboots);
    }

    #[test]
    fn without_an_endorsement_nothing_is_done(
        mut turns in proptest::collection::vec(turn(), 1..80),
    ) {
        for turn in &mut turns {
            if let Turn::Want(wanting) = turn {
                wanting.endorsed = false;
            }
        }
        let mut host = Host::new(strict());
        for turn in &turns {
            play(&mut host, turn);
        }
        prop_assert!(host.isolations.is_empty() && host.reboots.is_empty());
    }

    #[test]
    fn an_attacker_on_the_wire_frees_nobody(
        turns in proptest::collection::vec(turn(), 1..80),
    ) {
        let mut host = Host::new(OrderPolicy {
            quarantines: Rate { max: 1000, within: Millis::hours(1) },
            ..OrderPolicy::default()
        });
        // The order came, and from then on nothing gets through.
        let cut = World { server_before: false, server_after: false, link: false, ..WELL };
        host.world = cut;
        host.want(70, quarantine(50, None));
        host.pass(Millis::mins(2));
        for turn in &turns {
            match turn {
                Turn::Want(_) | Turn::World(_) => {}
                turn => play(&mut host, turn),
            }
        }
        host.pass(Millis::mins(5));
        prop_assert!(host.closed(), "{:?}", host.told());
    }
}
