//! Orders on a scripted machine: the whole daemon between a server's word and the host's firewall.

use crate::daemon::start;
use crate::support::Server;
use ringward_agent_os::fake::{Firewall, ISOLATION_FILE, OnLethal, Script};
use ringward_domain::OrderId;
use ringward_domain::order::{
    Containment, ContainmentObserved, Once, Order, OrderRefusal, OrderState, OrdersDesired, Origin,
    Quarantine, UndoneWhy, Warrant,
};
use std::path::Path;

fn warrant() -> Warrant {
    Warrant {
        origin: Origin::Person,
        not_after_unix_ms: 0,
        targets: None,
        endorsements: Vec::new(),
    }
}

fn quarantine(order: u64) -> OrdersDesired {
    OrdersDesired {
        containment: Containment::Quarantined(Box::new(Quarantine {
            order: OrderId(order),
            allow: vec!["tcp/22@192.0.2.9".parse().unwrap()],
            life: None,
            warrant: warrant(),
        })),
        ..OrdersDesired::default()
    }
}

fn open() -> OrdersDesired {
    OrdersDesired {
        containment: Containment::Open,
        ..OrdersDesired::default()
    }
}

async fn told(server: &Server, wanted: ContainmentObserved) {
    server
        .until(&format!("{wanted:?}"), |state| {
            let observed = state.observed.as_ref();
            observed.is_some_and(|observed| observed.orders.containment == wanted)
        })
        .await;
}

fn closed(order: u64) -> ContainmentObserved {
    ContainmentObserved::Closed {
        order: OrderId(order),
        left: None,
    }
}

fn isolated(root: &Path) -> bool {
    root.join(ISOLATION_FILE).exists()
}

fn with_firewall(root: &Path, firewall: Firewall) {
    let mut script = Script::read(root).unwrap();
    script.firewall = firewall;
    script.write(root).unwrap();
}

#[tokio::test]
async fn a_quarantined_host_keeps_its_server_and_is_freed_by_a_word() {
    let server = Server::start().await;
    let agent = start(&server, OnLethal::CrashLoop).await;
    server.order(quarantine(1));
    told(&server, closed(1)).await;
    let text = std::fs::read_to_string(agent.path().join(ISOLATION_FILE)).unwrap();
    assert!(
        text.contains("allow list") && text.contains("DHCP"),
        "{text}"
    );
    server.order(open());
    told(&server, ContainmentObserved::Open).await;
    assert!(!isolated(agent.path()));
}

#[tokio::test]
async fn a_restarted_agent_holds_the_quarantine_without_a_word_of_the_server() {
    let server = Server::start().await;
    let agent = start(&server, OnLethal::CrashLoop).await;
    server.order(quarantine(1));
    told(&server, closed(1)).await;
    let root = agent.stop().await;
    assert!(isolated(root.path()), "a stop of the agent opens nothing");
    // Somebody removed the rules while no agent ran; the server says nothing of orders.
    std::fs::remove_file(root.path().join(ISOLATION_FILE)).unwrap();
    server.state().observed = None;
    server.order(OrdersDesired::default());
    let agent = crate::daemon::run(root);
    told(&server, closed(1)).await;
    assert!(isolated(agent.path()));
}

#[tokio::test]
async fn a_firewall_that_refuses_is_told_and_the_host_stays_open() {
    let server = Server::start().await;
    let agent = start(&server, OnLethal::CrashLoop).await;
    with_firewall(agent.path(), Firewall::Refuses);
    server.order(quarantine(1));
    let undone = ContainmentObserved::Undone(OrderId(1), UndoneWhy::Firewall);
    told(&server, undone).await;
    assert!(!isolated(agent.path()));
}

#[tokio::test]
async fn a_host_without_a_firewall_refuses_in_its_own_words() {
    let server = Server::start().await;
    let agent = start(&server, OnLethal::CrashLoop).await;
    let root = agent.stop().await;
    with_firewall(root.path(), Firewall::Absent);
    let _agent = crate::daemon::run(root);
    server.order(quarantine(1));
    let refused = ContainmentObserved::Refused(OrderId(1), OrderRefusal::Unsupported);
    told(&server, refused).await;
}

#[tokio::test]
async fn a_reboot_by_order_happens_once() {
    let server = Server::start().await;
    let agent = start(&server, OnLethal::CrashLoop).await;
    server.until("a session", |state| state.hellos == 1).await;
    server.order(OrdersDesired {
        once: vec![Order {
            id: OrderId(9),
            act: Once::Reboot,
            warrant: warrant(),
        }],
        ..OrdersDesired::default()
    });
    server
        .until("the reboot told done", |state| {
            let once = state
                .observed
                .as_ref()
                .map(|observed| &observed.orders.once);
            once.is_some_and(|once| once.iter().any(|told| told.state == OrderState::Done))
        })
        .await;
    assert_eq!(server.state().hellos, 2);
    drop(agent);
}
