//! Who vouches for an order: endorsements of pinned keys over exactly what is ordered, the proof that
//! the endorsed hosts hold this one, and the order's time. What follows from it the machine decides.

use ring::{digest, signature};
use ringward_agent_core::orders::{Vouch, Vouched};
use ringward_domain::ids::KeyId;
use ringward_domain::limits::{ENDORSEMENTS_MAX, TARGET_PROOF_MAX};
use ringward_domain::order::{Containment, Endorsed, OrdersDesired, Targets, Warrant, statement};
use ringward_domain::{AuditHead, HostId, OrderId};
use ringward_wire::merkle;

/// Vouched for, for each order of a desired state.
#[must_use]
pub fn vouch(
    desired: &OrdersDesired,
    host: HostId,
    endorsers: &[[u8; 32]],
    now_unix_ms: u64,
) -> Vouched {
    let mut vouched = Vouched::new();
    if let Containment::Quarantined(quarantine) = &desired.containment {
        let what = Endorsed::Quarantine {
            allow: &quarantine.allow,
            life: quarantine.life,
        };
        let of = of_warrant(
            quarantine.order,
            what,
            &quarantine.warrant,
            host,
            endorsers,
            now_unix_ms,
        );
        vouched.insert(quarantine.order, of);
    }
    for order in &desired.once {
        let what = Endorsed::Once(order.act);
        let of = of_warrant(order.id, what, &order.warrant, host, endorsers, now_unix_ms);
        // Two orders under one id vouch for neither.
        if vouched.insert(order.id, of).is_some() {
            vouched.insert(order.id, Vouch::default());
        }
    }
    vouched
}

fn of_warrant(
    order: OrderId,
    what: Endorsed<'_>,
    warrant: &Warrant,
    host: HostId,
    endorsers: &[[u8; 32]],
    now_unix_ms: u64,
) -> Vouch {
    let expired = warrant.not_after_unix_ms != 0 && warrant.not_after_unix_ms < now_unix_ms;
    let Some(targets) = &warrant.targets else {
        return Vouch {
            expired,
            ..Vouch::default()
        };
    };
    let said = statement(
        order,
        what,
        warrant.not_after_unix_ms,
        targets.count,
        &targets.root,
    );
    let valid = warrant
        .endorsements
        .iter()
        .take(ENDORSEMENTS_MAX)
        .filter(|endorsement| {
            endorsers.iter().any(|key| {
                key_id(key) == endorsement.key
                    && signature::UnparsedPublicKey::new(&signature::ED25519, key)
                        .verify(&said, &endorsement.signature)
                        .is_ok()
            })
        });
    Vouch {
        endorsers: valid.map(|endorsement| endorsement.key).collect(),
        named: names(targets, host),
        expired,
    }
}

fn key_id(key: &[u8; 32]) -> KeyId {
    let mut id = [0; 32];
    id.copy_from_slice(digest::digest(&digest::SHA256, key).as_ref());
    KeyId(id)
}

fn names(targets: &Targets, host: HostId) -> bool {
    let head = AuditHead {
        size: targets.count,
        root: targets.root,
    };
    targets.proof.len() <= TARGET_PROOF_MAX
        && merkle::includes(
            &head,
            targets.index,
            &merkle::leaf(&host.0.to_be_bytes()),
            &targets.proof,
        )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};
    use ringward_domain::Millis;
    use ringward_domain::manifest::Signature;
    use ringward_domain::order::{Once, Order, Origin};

    const HOST: HostId = HostId(7);

    fn key(seed: u8) -> (Ed25519KeyPair, [u8; 32]) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let public = pair.public_key().as_ref().try_into().unwrap();
        (pair, public)
    }

    /// An order to reboot two hosts, this one and another, endorsed by key 1.
    fn endorsed() -> Order {
        let leaves = [HOST, HostId(9)].map(|host| merkle::leaf(&host.0.to_be_bytes()));
        let mut tree = merkle::Tree::default();
        leaves.iter().for_each(|leaf| tree.push(*leaf));
        let targets = Targets {
            count: 2,
            root: tree.head().root,
            index: 0,
            proof: vec![leaves[1]],
        };
        let (id, what) = (OrderId(3), Endorsed::Once(Once::Reboot));
        let said = statement(id, what, 5_000, targets.count, &targets.root);
        let (pair, public) = key(1);
        Order {
            id,
            act: Once::Reboot,
            warrant: Warrant {
                origin: Origin::Person,
                not_after_unix_ms: 5_000,
                targets: Some(targets),
                endorsements: vec![Signature {
                    key: key_id(&public),
                    signature: pair.sign(&said).as_ref().to_vec(),
                }],
            },
        }
    }

    fn look(order: Order, now_unix_ms: u64) -> Vouch {
        let id = order.id;
        let desired = OrdersDesired {
            once: vec![order],
            ..OrdersDesired::default()
        };
        vouch(&desired, HOST, &[key(1).1, key(2).1], now_unix_ms)[&id].clone()
    }

    #[test]
    fn an_endorsed_order_is_vouched_for_on_the_hosts_it_names() {
        let found = look(endorsed(), 5_000);
        assert_eq!(found.endorsers.len(), 1);
        assert!(found.named && !found.expired);
        assert!(look(endorsed(), 5_001).expired);
    }

    #[test]
    fn an_endorsement_of_anything_else_counts_for_nothing() {
        let mut changed = Vec::new();
        let mut order = endorsed();
        order.act = Once::Collect;
        changed.push(order);
        let mut order = endorsed();
        order.id = OrderId(4);
        changed.push(order);
        let mut order = endorsed();
        order.warrant.not_after_unix_ms = 9_000;
        changed.push(order);
        let mut order = endorsed();
        order.warrant.targets.as_mut().unwrap().count = 3;
        changed.push(order);
        let mut order = endorsed();
        order.warrant.endorsements[0].key = key_id(&key(2).1);
        changed.push(order);
        for order in changed {
            assert!(look(order.clone(), 0).endorsers.is_empty(), "{order:?}");
        }
    }

    #[test]
    fn one_key_counts_once_however_often_it_signed() {
        let mut order = endorsed();
        let again = order.warrant.endorsements[0].clone();
        order.warrant.endorsements.push(again);
        assert_eq!(look(order, 0).endorsers.len(), 1);
    }

    #[test]
    fn a_host_that_the_order_does_not_name_is_not_named() {
        let order = endorsed();
        let desired = OrdersDesired {
            once: vec![order],
            ..OrdersDesired::default()
        };
        let found = vouch(&desired, HostId(8), &[key(1).1], 0);
        assert!(!found[&OrderId(3)].named);
    }

    #[test]
    fn a_quarantine_is_vouched_for_with_its_allow_list_and_life() {
        use ringward_domain::order::Quarantine;
        let mut quarantine = Quarantine {
            order: OrderId(3),
            allow: vec!["10.0.0.1".parse().unwrap()],
            life: Some(Millis::hours(1)),
            warrant: endorsed().warrant,
        };
        let (pair, public) = key(1);
        let targets = quarantine.warrant.targets.clone().unwrap();
        let what = Endorsed::Quarantine {
            allow: &quarantine.allow,
            life: quarantine.life,
        };
        let said = statement(OrderId(3), what, 5_000, targets.count, &targets.root);
        quarantine.warrant.endorsements[0].signature = pair.sign(&said).as_ref().to_vec();
        let look = |quarantine: &Quarantine| {
            let desired = OrdersDesired {
                containment: Containment::Quarantined(Box::new(quarantine.clone())),
                ..OrdersDesired::default()
            };
            vouch(&desired, HOST, &[public], 0)[&OrderId(3)]
                .endorsers
                .len()
        };
        assert_eq!(look(&quarantine), 1);
        let mut longer = quarantine.clone();
        longer.life = None;
        assert_eq!(look(&longer), 0);
        let mut wider = quarantine.clone();
        wider.allow.clear();
        assert_eq!(look(&wider), 0);
    }
}
