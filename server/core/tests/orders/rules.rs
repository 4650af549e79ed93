//! Single rules of orders and approvals, by hand.

use super::world::World;
use ringward_domain::command::{Action, Refusal};
use ringward_domain::order_spec::*;
use ringward_domain::people::{Grant, Role};
use ringward_domain::{HostId, Millis, Sha256};

fn quarantine(targets: OrderTargets) -> OrderSpec {
    OrderSpec {
        kind: OrderKind::Quarantine {
            allow: Vec::new(),
            life: None,
        },
        targets,
        ticket: String::new(),
        life: Millis::hours(1),
        protected: false,
        over_cap: false,
        endorsers: 0,
    }
}

fn order(spec: OrderSpec) -> Action {
    Action::Order(Box::new(spec))
}

/// A world whose network is quiet and whose asks are never dry runs by chance.
fn asked(
    world: &mut World,
    who: &str,
    glass: bool,
    action: Action,
) -> Result<ringward_domain::command::Outcome, Refusal> {
    loop {
        let caller = world.caller(who, glass);
        let before = world.control.order_views().len() + world.control.approval_views().len();
        let outcome = world.ask(&caller, action.clone())?;
        let after = world.control.order_views().len() + world.control.approval_views().len();
        let decides = matches!(
            action,
            Action::Approve(..) | Action::Deny(_) | Action::CancelOrder(_) | Action::Grant(..)
        );
        if after > before || decides {
            return Ok(outcome);
        }
    }
}

fn whole(role: Role) -> Grant {
    Grant {
        role,
        selector: None,
    }
}

#[test]
fn an_empty_selector_and_a_life_in_the_past_are_refused_with_the_word_to_use() {
    let mut world = World::new(1);
    let empty = quarantine(OrderTargets::Selector(" ".to_owned()));
    let caller = world.caller("ada", false);
    let refused = world.ask(&caller, order(empty)).unwrap_err().to_string();
    assert!(refused.contains("--everything"), "{refused}");
    let past = OrderSpec {
        life: Millis::ZERO,
        ..quarantine(OrderTargets::Everything)
    };
    assert!(matches!(
        world.ask(&caller, order(past)),
        Err(Refusal::Invalid { .. })
    ));
}

#[test]
fn everything_by_one_person_stays_under_the_cap_and_the_rest_waits() {
    let mut world = World::new(2);
    let done = asked(
        &mut world,
        "ada",
        false,
        order(quarantine(OrderTargets::Everything)),
    );
    let order = world
        .control
        .order_view(done.unwrap().order.unwrap())
        .unwrap();
    let [over_cap, pending, ..] = order.counts;
    assert!(pending <= 2, "{order:?}");
    assert!(over_cap > 0, "{order:?}");
}

#[test]
fn a_stranger_a_twin_and_the_author_are_no_second_person() {
    let mut world = World::new(3);
    let wide = OrderSpec {
        over_cap: true,
        ..quarantine(OrderTargets::Everything)
    };
    let waits = asked(&mut world, "ada", false, order(wide)).unwrap();
    let (id, digest) = waits.approval.unwrap();
    assert_eq!(world.control.order_views().len(), 0);
    for who in ["ada", "cid"] {
        let caller = world.caller(who, false);
        let refused = world.ask(&caller, Action::Approve(id, digest));
        assert!(matches!(refused, Err(Refusal::Denied { .. })), "{who}");
    }
    let mut twin = world.caller("bea", false);
    twin.key = world.caller("ada", false).key;
    assert!(world.ask(&twin, Action::Approve(id, digest)).is_err());
}

#[test]
fn an_approval_is_of_exactly_what_was_shown_and_only_once() {
    let mut world = World::new(4);
    let wide = OrderSpec {
        over_cap: true,
        ..quarantine(OrderTargets::Everything)
    };
    let waits = asked(&mut world, "ada", false, order(wide)).unwrap();
    let (id, digest) = waits.approval.unwrap();
    let caller = world.caller("bea", false);
    let other = world.ask(&caller, Action::Approve(id, Sha256([0; 32])));
    assert!(matches!(other, Err(Refusal::Conflict { .. })));
    loop {
        asked(&mut world, "bea", false, Action::Approve(id, digest)).unwrap();
        if !world.control.order_views().is_empty() {
            break; // the first may have been a dry run
        }
    }
    assert!(world.ask(&caller, Action::Approve(id, digest)).is_err());
}

#[test]
fn a_changed_fleet_voids_what_was_asked_for_and_time_expires_it() {
    let mut world = World::new(5);
    let wide = OrderSpec {
        over_cap: true,
        ..quarantine(OrderTargets::Everything)
    };
    let waits = asked(&mut world, "ada", false, order(wide)).unwrap();
    let (id, digest) = waits.approval.unwrap();
    let named = world.control.approval_views()[0].hosts.clone();
    let retire = Action::RetireHost(*named.first().unwrap());
    let caller = world.caller("ada", false);
    while world.control.admits(*named.first().unwrap()) {
        world.ask(&caller, retire.clone()).unwrap();
    }
    let bea = world.caller("bea", false);
    assert!(world.ask(&bea, Action::Approve(id, digest)).is_err());
    world.pass(Millis::hours(5));
    assert_eq!(
        world.control.approval_views()[0].state,
        ApprovalState::Expired
    );
}

#[test]
fn glass_is_bounded_and_never_unbinds_the_brakes() {
    let mut world = World::new(6);
    let wide = || OrderSpec {
        over_cap: true,
        ..quarantine(OrderTargets::Everything)
    };
    let done = asked(&mut world, "ada", true, order(wide())).unwrap();
    let order_view = world.control.order_view(done.order.unwrap()).unwrap();
    assert!(order_view.counts[1] <= 10, "{order_view:?}");
    assert_eq!(
        order_view.origin,
        ringward_domain::order::Origin::BreakGlass
    );
    let caller = world.caller("ada", true);
    let loose = "[brakes]\nhosts_per_hour = 1000\n[[ring]]\nname = \"rest\"\n".to_owned();
    let refused = world.ask(&caller, Action::ApplyPolicy(loose));
    assert!(
        matches!(refused, Err(Refusal::Denied { .. })),
        "{refused:?}"
    );
    let broken = (0..40).filter(|_| world.ask(&caller, order(wide())).is_ok());
    assert!(broken.count() < 40);
    let glass = world.control.approval_views();
    assert!(glass.len() <= 3, "{}", glass.len());
}

#[test]
fn hosts_that_come_back_are_no_way_around_the_bound_on_glass() {
    let mut world = World::new(6);
    let ids: Vec<HostId> = world.hosts.keys().copied().collect();
    assert!(ids.len() > 12, "{}", ids.len());
    for id in &ids {
        world.disconnect(*id);
    }
    let wide = OrderSpec {
        over_cap: true,
        ..quarantine(OrderTargets::Everything)
    };
    asked(&mut world, "ada", true, order(wide)).unwrap();
    // The oracle in the world fails at the eleventh.
    for id in &ids {
        world.connect(*id);
    }
    let view = world.control.order_views().remove(0);
    let [over_cap, ..] = view.counts;
    assert!(over_cap > 0, "{view:?}");
}

#[test]
fn protected_hosts_are_left_out_unless_two_people_say_so() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        let outcome = asked(
            &mut world,
            "ada",
            false,
            order(quarantine(OrderTargets::Everything)),
        );
        let outcome = outcome.unwrap();
        let protected: Vec<HostId> = outcome
            .left_out
            .iter()
            .filter(|(_, why)| why.starts_with("protected"))
            .map(|(host, _)| *host)
            .collect();
        let Some(host) = protected.first() else {
            continue;
        };
        let only = OrderSpec {
            protected: true,
            ..quarantine(OrderTargets::Hosts(vec![*host]))
        };
        let waits = asked(&mut world, "ada", false, order(only)).unwrap();
        assert!(waits.approval.is_some(), "{waits:?}");
        return;
    }
    panic!("no world had a protected host");
}

#[test]
fn grants_need_a_second_person_and_the_last_admin_stays() {
    let mut world = World::new(8);
    let roles = vec![whole(Role::Approver)];
    let waits = asked(&mut world, "ada", false, Action::Grant("cid".into(), roles)).unwrap();
    assert!(waits.approval.is_some());
    let caller = world.caller("ada", false);
    let lonely = vec![whole(Role::Viewer)];
    let mut refused = 0;
    for person in ["ada", "bea"] {
        for _ in 0..20 {
            let asked = world.ask(&caller, Action::Grant(person.into(), lonely.clone()));
            refused += u32::from(asked.is_err());
        }
    }
    assert!(refused > 0, "both admins were taken away");
}
