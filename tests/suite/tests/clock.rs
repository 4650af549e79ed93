//! Wall clocks that are ten years wrong, at a server and at a host, from their start and in the middle
//! of their work: nothing is lost, nothing is done, and when the clock is right again all goes on.
#![allow(clippy::unwrap_used)]

use ringward_agent::counters::told_so_far;
use ringward_agent_os::fake::Script;
use ringward_suite::clock::{Clock, TEN_YEARS_S};
use ringward_suite::hosts::{self, AgentProcess};
use ringward_suite::lab::Lab;
use ringward_suite::process::{Programs, wait_for};
use std::path::{Path, PathBuf};
use std::time::Duration;

const HARNESS: &str = env!("CARGO_BIN_EXE_ringward-harness");
const PATIENCE: Duration = Duration::from_secs(90);

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

struct Scene {
    lab: Lab,
    agent: AgentProcess,
    script: Script,
}

impl Scene {
    async fn set_up(programs: PathBuf, dir: &Path) -> Self {
        let lab = Lab::set_up(Programs::new(programs), dir).await.unwrap();
        let script = Script {
            changes_per_s: 10,
            ..hosts::script("clock")
        };
        let agent = AgentProcess::enrol(&lab, &script).await.unwrap();
        Self { lab, agent, script }
    }

    async fn stored(&self) -> u64 {
        let status = self.lab.client().status(true).await.unwrap();
        status.signals_stored.unwrap()
    }

    async fn stores_more(&self) {
        let before = self.stored().await;
        wait_for("more signals", PATIENCE, async || {
            Ok((self.stored().await > before).then_some(()))
        })
        .await
        .unwrap();
    }

    /// The host goes on noticing things, whoever can be told of them.
    async fn tells_more(&self) {
        let before = told_so_far(&self.agent.root());
        wait_for("more to tell", PATIENCE, async || {
            Ok((told_so_far(&self.agent.root()) > before + 5).then_some(()))
        })
        .await
        .unwrap();
    }

    /// Everything that was ever told is stored, and nothing was done on the host.
    async fn settle(mut self) {
        let quiet = Script {
            changes_per_s: 0,
            ..self.script.clone()
        };
        quiet.write(&self.agent.root()).unwrap();
        wait_for("every signal stored", PATIENCE, async || {
            Ok((self.stored().await == told_so_far(&self.agent.root())).then_some(()))
        })
        .await
        .unwrap();
        let look = ringward_agent::status::look(&self.agent.root());
        let ledger = look.ledger.unwrap_or_default();
        assert!(ledger.attempt.is_none(), "{ledger:?}");
        self.agent.stop().await.unwrap();
        self.lab.check().unwrap();
        self.lab.stop().await.unwrap();
    }
}

fn clock(dir: &Path) -> Option<Clock> {
    match Clock::new(dir, "wrong") {
        Ok(clock) => Some(clock),
        Err(why) => {
            println!("skipped: {why:#}");
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_whose_clock_is_ten_years_wrong_loses_nothing() {
    let Some(programs) = programs() else { return };
    let dir = tempfile::tempdir().unwrap();
    let Some(clock) = clock(dir.path()) else {
        return;
    };
    let mut scene = Scene::set_up(programs, dir.path()).await;
    scene.stores_more().await;
    scene.agent.set_env(clock.env());
    for years in [TEN_YEARS_S, -TEN_YEARS_S] {
        // In the middle of a session: it goes on, for nothing of it looks at the wall clock.
        clock.set(0).unwrap();
        scene.agent.stop().await.unwrap();
        scene.agent.start().unwrap();
        scene.stores_more().await;
        clock.set(years).unwrap();
        scene.stores_more().await;
        // From the start: no server can prove itself, and the host says so.
        scene.agent.stop().await.unwrap();
        let said = std::fs::read_to_string(scene.agent.log()).unwrap().len();
        scene.agent.start().unwrap();
        scene.tells_more().await;
        wait_for("a word of the certificate", PATIENCE, async || {
            let log = std::fs::read_to_string(scene.agent.log())?;
            Ok(log[said..].contains("certificate").then_some(()))
        })
        .await
        .unwrap();
        clock.set(0).unwrap();
        scene.stores_more().await;
    }
    scene.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_clock_is_ten_years_wrong_loses_nothing_and_comes_back() {
    let Some(programs) = programs() else { return };
    let dir = tempfile::tempdir().unwrap();
    let Some(clock) = clock(dir.path()) else {
        return;
    };
    let mut scene = Scene::set_up(programs, dir.path()).await;
    scene.stores_more().await;
    scene.lab.set_env(clock.env());
    for years in [TEN_YEARS_S, -TEN_YEARS_S] {
        clock.set(0).unwrap();
        scene.lab.stop_server().await.unwrap();
        scene.lab.start_server().await.unwrap();
        scene.stores_more().await;
        clock.set(years).unwrap();
        scene.stores_more().await;
        // Started with it, nobody's certificate is valid; it waits, and its own is not spoiled.
        scene.lab.stop_server().await.unwrap();
        scene.lab.start_server_unreached().unwrap();
        scene.tells_more().await;
        scene.lab.check().unwrap();
        scene.lab.stop_server().await.unwrap();
        clock.set(0).unwrap();
        scene.lab.start_server().await.unwrap();
        scene.stores_more().await;
    }
    scene.settle().await;
}
