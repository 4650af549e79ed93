//! Short runs of the harnesses in every test run; the long ones are `cargo xtask fault-test`,
//! `hostile-test` and `fuzz`.
#![allow(clippy::unwrap_used)]

use ringward_suite::process::Programs;
use ringward_suite::{hostile, kills};
use std::path::{Path, PathBuf};

const HARNESS: &str = env!("CARGO_BIN_EXE_ringward-harness");

/// The folder of the built programs; they are there where the whole workspace is tested.
fn programs() -> Option<PathBuf> {
    let folder = Path::new(HARNESS).parent()?;
    let built = ["ringward-server", "ringward-agent", "ringwardctl"]
        .iter()
        .all(|name| folder.join(name).exists());
    if !built {
        println!("skipped: server, agent and ringwardctl are not built; test the whole workspace");
    }
    built.then(|| folder.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_nothing_happens_twice_when_processes_are_killed() {
    let Some(programs) = programs() else { return };
    let dir = tempfile::tempdir().unwrap();
    let options = kills::Options {
        kills: 6,
        hosts: 4,
        per_s: 20,
        agents: 1,
        seed: None,
        seconds: 60,
    };
    let outcome = kills::run(Programs::new(programs), dir.path(), &options)
        .await
        .unwrap();
    assert_eq!(outcome.faults(), Vec::<String>::new(), "{outcome:?}");
    assert!(outcome.server_kills > 0 && outcome.agent_kills > 0 && outcome.told > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_clients_of_every_family_cost_honest_hosts_nothing() {
    let Some(programs) = programs() else { return };
    let dir = tempfile::tempdir().unwrap();
    let options = hostile::Options {
        frames: 4_000,
        rate: 0,
        hosts: 10,
        quiet: 1,
        families: Vec::new(),
        json: None,
        ignore_times: true,
    };
    let outcome = hostile::run(
        Programs::new(programs),
        Path::new(HARNESS),
        dir.path(),
        &options,
    )
    .await
    .unwrap();
    assert_eq!(
        outcome.faults(),
        Vec::<String>::new(),
        "{}",
        outcome.table()
    );
    assert!(outcome.rows.len() >= 12 && outcome.told > 0);
}
