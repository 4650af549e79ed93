//! Arbitrary orders and what hosts report of them.

use super::{millis, pick};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use ringward_domain::ids::*;
use ringward_domain::manifest::Signature;
use ringward_domain::net::Allowed;
use ringward_domain::order::*;

fn order() -> BoxedStrategy<OrderId> {
    any::<u64>().prop_map(OrderId).boxed()
}

fn hash() -> BoxedStrategy<Sha256> {
    any::<[u8; 32]>().prop_map(Sha256).boxed()
}

fn allowed() -> BoxedStrategy<Allowed> {
    pick(&[
        "10.1.2.3",
        "10.0.0.0/8",
        "2001:db8::/32",
        "tcp/443@10.1.2.3",
    ])
    .prop_map(|text| text.parse().unwrap())
    .boxed()
}

fn warrant() -> BoxedStrategy<Warrant> {
    let targets = (any::<(u64, u64)>(), hash(), vec(hash(), 0..4)).prop_map(
        |((count, index), root, proof)| Targets {
            count,
            root,
            index,
            proof,
        },
    );
    let endorsement = (any::<[u8; 32]>(), any::<[u8; 32]>()).prop_map(|(key, half)| Signature {
        key: KeyId(key),
        signature: [half, half].concat(),
    });
    (
        pick(&[
            Origin::Automatic,
            Origin::Person,
            Origin::TwoPersons,
            Origin::BreakGlass,
        ]),
        any::<u64>(),
        option::of(targets),
        vec(endorsement, 0..3),
    )
        .prop_map(
            |(origin, not_after_unix_ms, targets, endorsements)| Warrant {
                origin,
                not_after_unix_ms,
                targets,
                endorsements,
            },
        )
        .boxed()
}

pub fn desired() -> BoxedStrategy<OrdersDesired> {
    let quarantine = (
        order(),
        vec(allowed(), 0..4),
        option::of(millis()),
        warrant(),
    )
        .prop_map(|(order, allow, life, warrant)| {
            Containment::Quarantined(Box::new(Quarantine {
                order,
                allow,
                life,
                warrant,
            }))
        });
    let containment = prop_oneof![
        Just(Containment::Unsaid),
        Just(Containment::Open),
        quarantine
    ];
    let once = (order(), pick(&[Once::Reboot, Once::Collect]), warrant())
        .prop_map(|(id, act, warrant)| Order { id, act, warrant });
    (
        containment,
        any::<bool>(),
        vec("[ -~]{1,40}", 0..3),
        vec(once, 0..3),
    )
        .prop_map(|(containment, frozen, pins, once)| OrdersDesired {
            containment,
            frozen,
            pins,
            once,
        })
        .boxed()
}

fn refusal() -> BoxedStrategy<OrderRefusal> {
    pick(&[
        OrderRefusal::LocalPolicy,
        OrderRefusal::RateLimit,
        OrderRefusal::Quorum,
        OrderRefusal::NotNamed,
        OrderRefusal::Expired,
        OrderRefusal::AllowTooWide,
        OrderRefusal::Unsupported,
    ])
}

pub fn observed() -> BoxedStrategy<OrdersObserved> {
    let undone = pick(&[
        UndoneWhy::ServerUnreachable,
        UndoneWhy::Firewall,
        UndoneWhy::Disk,
    ]);
    let containment = prop_oneof![
        Just(ContainmentObserved::Open),
        order().prop_map(ContainmentObserved::Closing),
        (order(), option::of(millis()))
            .prop_map(|(order, left)| ContainmentObserved::Closed { order, left }),
        order().prop_map(ContainmentObserved::Expired),
        (order(), undone).prop_map(|(order, why)| ContainmentObserved::Undone(order, why)),
        (order(), refusal()).prop_map(|(order, why)| ContainmentObserved::Refused(order, why)),
    ];
    let state = prop_oneof![
        pick(&[OrderState::Taken, OrderState::Running, OrderState::Done]),
        pick(&[
            OrderFailure::System,
            OrderFailure::Disk,
            OrderFailure::Interrupted
        ])
        .prop_map(OrderState::Failed),
        refusal().prop_map(OrderState::Refused),
    ];
    let once = (order(), state).prop_map(|(order, state)| OrderObserved { order, state });
    (containment, vec("[ -~]{1,40}", 0..3), vec(once, 0..3))
        .prop_map(|(containment, escapes, once)| OrdersObserved {
            containment,
            escapes,
            once,
        })
        .boxed()
}
