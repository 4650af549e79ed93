//! A recorded server of protocol version 1 leads the agent of today through an installation.

use crate::daemon::{phase, start};
use crate::support::{Recorded, Server};
use ringward_agent_os::fake::OnLethal;
use ringward_domain::observed::PhaseObserved;

#[tokio::test]
async fn a_recorded_server_of_protocol_1_leads_through_an_installation_today() {
    let server = Server::start().await;
    let release = server.publish("1.0", &[("behaviour", "good\n")], &[1]);
    server.note(|state| state.recorded = Some(Recorded::installs(release)));
    let agent = start(&server, OnLethal::CrashLoop).await;
    server
        .until("1.0 committed", |state| {
            phase(state.observed.as_ref()) == Some((release, PhaseObserved::Committed))
        })
        .await;
    assert_eq!(server.state().begun, 1);
    agent.stop().await;
}
