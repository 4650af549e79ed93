//! A server that rewrites its audit log is found out by the hosts that were shown it.

use crate::support::Server;
use ringward_agent::audit::Kept;
use ringward_agent::config::Settings;
use ringward_agent::counters::Counters;
use ringward_agent::enroll::enroll;
use ringward_agent::scripted;
use ringward_agent_os::Host;
use ringward_agent_os::fake::{Script, ScriptedHost};
use ringward_agent_os::machine::Notifier;
use ringward_domain::signal::SignalKind;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Runs the agent of a state folder until what it keeps and what the server saw fit.
async fn run_until(
    server: &Server,
    state_dir: &Path,
    kept: impl Fn(&Kept) -> bool,
    seen: impl Fn(&crate::support::State) -> bool,
) {
    let (stop, stopped) = watch::channel(false);
    let settings = Settings::scripted(state_dir).unwrap();
    let counters = Arc::new(Counters::open(state_dir).unwrap());
    let agent =
        tokio::spawn(
            async move { scripted::run(&settings, counters, Notifier::silent, stopped).await },
        );
    server.until("what the server is to see", seen).await;
    let waiting = async {
        while !kept(&Kept::load(state_dir).unwrap()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting)
        .await
        .expect("the agent keeps what it was shown");
    stop.send_replace(true);
    agent.await.unwrap().unwrap();
}

fn follows(size: u64) -> impl Fn(&Kept) -> bool {
    move |kept| kept.head.is_some_and(|head| head.size == size)
}

/// Distinct forks: one that was told just before a stop is told again under the same key.
fn forks(state: &crate::support::State) -> usize {
    let told = state.signals.values();
    let forks = told.filter(|signal| signal.kind == SignalKind::AuditFork);
    forks
        .map(|signal| &signal.key)
        .collect::<BTreeSet<_>>()
        .len()
}

#[tokio::test]
async fn a_server_that_rewrites_an_entry_is_reported_and_an_honest_one_is_not() {
    let server = Server::start().await;
    let root = tempfile::tempdir().unwrap();
    Script::default().write(root.path()).unwrap();
    let facts = ScriptedHost::open(root.path()).unwrap().facts();
    enroll(root.path(), &server.token(), facts).await.unwrap();
    server.note(|state| state.audit = vec!["a".into(), "b".into(), "c".into()]);
    run_until(&server, root.path(), follows(3), |_| true).await;
    server.note(|state| state.audit.push("d".into()));
    run_until(&server, root.path(), follows(4), |_| true).await;
    assert_eq!(server.state().audit_known, [0, 3]);
    assert_eq!(forks(&server.state()), 0);
    server.note(|state| state.audit[1] = "B".into());
    let one = |state: &crate::support::State| forks(state) == 1;
    run_until(&server, root.path(), |kept| kept.forks.len() == 1, one).await;
    assert_eq!(Kept::load(root.path()).unwrap().forks[0].known.size, 4);
    server.note(|state| state.audit.push("e".into()));
    run_until(&server, root.path(), follows(5), |_| true).await;
    assert_eq!(forks(&server.state()), 1, "told once");
}
