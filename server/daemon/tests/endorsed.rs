//! An order that waits for endorsements, over real connections: told to nobody before, and then with
//! what a host needs to check it.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{Server, act, hello};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use ringward_domain::AuditHead;
use ringward_domain::order::{CAPABILITY_ORDERS, Endorsed, Once, Order, statement};
use ringward_domain::order_spec::OrderView;
use ringward_domain::session::ToAgent;
use ringward_server::config::Engine;
use ringward_wire::pb::order_service_client::OrderServiceClient;
use ringward_wire::token::sha256;
use ringward_wire::{merkle, pb};
use tonic::Code;

fn once(message: &ToAgent) -> Option<Vec<Order>> {
    match message {
        ToAgent::Desired(desired) => Some(desired.orders.once.clone()),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_waits_for_its_endorsement_and_carries_it() {
    let server = Server::start_with(Engine::Mem, &["bea"]).await;
    let token = server.token(3).await;
    let mut hosts = Vec::new();
    for _ in 0..3 {
        hosts.push(server.enrol(&token).await.unwrap());
    }
    let mut greeting = hello();
    greeting.capabilities = vec![CAPABILITY_ORDERS.to_owned()];
    let mut session = server.session(&hosts[1], greeting).await.unwrap();
    let mut orders = OrderServiceClient::new(server.admin().await);
    let to = pb::order_to::To::Hosts(pb::HostList {
        hosts: hosts.iter().map(|host| host.id.0).collect(),
    });
    let spec = pb::OrderSpec {
        kind: Some(pb::order_spec::Kind::Collect(pb::Unit {})),
        to: Some(pb::OrderTo { to: Some(to) }),
        life_ms: 3_600_000,
        endorsers: 1,
        ..pb::OrderSpec::default()
    };
    let placed = orders
        .place(pb::PlaceOrderRequest {
            act: act("look"),
            spec: Some(spec),
        })
        .await
        .unwrap()
        .into_inner();
    let id = placed.order.expect("an order was given");
    assert!(
        placed.warnings.iter().any(|w| w.contains("endorse")),
        "{placed:?}"
    );
    let view = orders.get(pb::GetOrderRequest { order: id }).await.unwrap();
    let view: OrderView = view.into_inner().try_into().unwrap();
    assert_eq!(view.counts[1], 3, "{view:?}");

    // What is signed is made by the person's own program, from the hosts as listed.
    let mut ids: Vec<u64> = hosts.iter().map(|host| host.id.0).collect();
    ids.sort_unstable();
    let mut tree = merkle::Tree::default();
    ids.iter()
        .for_each(|id| tree.push(merkle::leaf(&id.to_be_bytes())));
    let said = view.statement(3, &tree.head().root).unwrap();
    let key = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
    let public: [u8; 32] = key.public_key().as_ref().try_into().unwrap();
    let endorse = |said: &[u8]| pb::EndorseRequest {
        act: act("I saw it"),
        order: id,
        signature: Some(pb::Signature {
            key: sha256(&public).0.to_vec(),
            signature: key.sign(said).as_ref().to_vec(),
        }),
        public_key: public.to_vec(),
    };
    let other = orders
        .endorse(endorse(b"something else"))
        .await
        .unwrap_err();
    assert_eq!(other.code(), Code::InvalidArgument);
    orders.endorse(endorse(&said)).await.unwrap();
    let again = orders.endorse(endorse(&said)).await.unwrap_err();
    assert_eq!(again.code(), Code::FailedPrecondition, "{again:?}");

    let told = session
        .until(|message| once(message).filter(|orders| !orders.is_empty()))
        .await;
    let (order, targets) = (&told[0], told[0].warrant.targets.clone().unwrap());
    let head = AuditHead {
        size: targets.count,
        root: targets.root,
    };
    let leaf = merkle::leaf(&hosts[1].id.0.to_be_bytes());
    assert!(merkle::includes(
        &head,
        targets.index,
        &leaf,
        &targets.proof
    ));
    let what = Endorsed::Once(Once::Collect);
    let not_after = order.warrant.not_after_unix_ms;
    let said = statement(order.id, what, not_after, targets.count, &targets.root);
    let endorsement = &order.warrant.endorsements[0];
    UnparsedPublicKey::new(&ED25519, public)
        .verify(&said, &endorsement.signature)
        .unwrap();
}
