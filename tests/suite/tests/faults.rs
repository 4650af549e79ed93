//! Short runs of the harnesses in every test run; the long ones are `cargo xtask fault-test`,
//! `hostile-test` and `fuzz`.
#![allow(clippy::unwrap_used)]

use ringward_agent::counters::told_so_far;
use ringward_agent_os::fake::Script;
use ringward_suite::hostile::Sabotage as Sabotaged;
use ringward_suite::hosts::AgentProcess;
use ringward_suite::kills::Sabotage;
use ringward_suite::lab::Lab;
use ringward_suite::process::{Programs, limit_file_bytes, limit_open_files, output, wait_for};
use ringward_suite::{hostile, hosts, kills, lab};
use ringward_wire::token::EnrolmentToken;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
        sabotage: None,
    };
    let outcome = kills::run(Programs::new(programs), dir.path(), &options)
        .await
        .unwrap();
    assert_eq!(outcome.faults(), Vec::<String>::new(), "{outcome:?}");
    assert!(outcome.server_kills > 0 && outcome.agent_kills > 0 && outcome.told > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_finds_lost_writes_forgotten_orders_and_a_lost_spool() {
    let Some(programs) = programs() else { return };
    for (sabotage, agents, found) in [
        (Sabotage::LoseWrites, 0, ["signals were acknowledged"; 2]),
        (Sabotage::ForgetOrders, 0, ["of them twice"; 2]),
        // Whether the lost records had been told depends on the moment of the kill.
        (
            Sabotage::LoseSpool,
            1,
            ["never came to a spool", "gaps in those of"],
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let options = kills::Options {
            kills: 4,
            hosts: 2,
            per_s: 20,
            agents,
            seed: Some(1),
            seconds: 60,
            sabotage: Some(sabotage),
        };
        let faults = match kills::run(Programs::new(programs.clone()), dir.path(), &options).await {
            Ok(outcome) => outcome.faults(),
            Err(error) => vec![format!("{error:#}")],
        };
        assert!(
            faults
                .iter()
                .any(|fault| found.iter().any(|words| fault.contains(words))),
            "{sabotage:?}: {faults:?}"
        );
    }
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
        sabotage: None,
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hostile_run_finds_a_server_that_stalls_ends_grows_or_loses() {
    let Some(programs) = programs() else { return };
    for (sabotage, found) in [
        (Sabotaged::Stall, "honest signals took"),
        (Sabotaged::End, "ended with"),
        (Sabotaged::Grow, "memory grew"),
        (Sabotaged::Lose, "are stored"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let options = hostile::Options {
            frames: 200,
            rate: 400,
            hosts: 6,
            quiet: 2,
            families: vec![hostile::Family::PingFlood],
            json: None,
            ignore_times: sabotage != Sabotaged::Stall,
            sabotage: Some(sabotage),
        };
        let run = hostile::run(
            Programs::new(programs.clone()),
            Path::new(HARNESS),
            dir.path(),
            &options,
        );
        let faults = match run.await {
            Ok(outcome) => outcome.faults(),
            Err(error) => vec![format!("{error:#}")],
        };
        assert!(
            faults.iter().any(|fault| fault.contains(found)),
            "{sabotage:?}: {faults:?}"
        );
    }
}

/// Waits until a file holds some words.
async fn says(path: &Path, words: &str) {
    wait_for(words, Duration::from_secs(60), async || {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        Ok(text.contains(words).then_some(()))
    })
    .await
    .unwrap();
}

/// Signals in the store, where it can be read at this moment: with a full disk it is opened anew.
async fn count(lab: &Lab) -> Option<u64> {
    let status = lab.client().status(true).await;
    status.ok().and_then(|status| status.signals_stored)
}

async fn stored(lab: &Lab) -> u64 {
    wait_for("a count of signals", Duration::from_secs(20), async || {
        Ok(count(lab).await)
    })
    .await
    .unwrap()
}

/// Waits until the store takes in no signal for a second, of ten that are made.
async fn stalled(lab: &Lab) {
    wait_for("a full disk", Duration::from_secs(60), async || {
        let before = count(lab).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok((count(lab).await == before).then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_on_either_side_is_outlived_and_nothing_is_lost() {
    let Some(programs) = programs() else { return };
    let dir = tempfile::tempdir().unwrap();
    let lab = Lab::set_up(Programs::new(programs), dir.path())
        .await
        .unwrap();
    let script = Script {
        changes_per_s: 10,
        ..hosts::script("full")
    };
    let mut agent = AgentProcess::enrol(&lab, &script).await.unwrap();
    let log = lab.dir().join("server.log");
    let stored_more = async |than: u64| {
        wait_for("more signals", Duration::from_secs(60), async || {
            Ok(count(&lab).await.filter(|now| *now > than))
        })
        .await
        .unwrap()
    };
    stored_more(0).await;
    limit_file_bytes(lab.server_pid().unwrap(), Some(0)).unwrap();
    // Its log is on the full disk too: that it fails is seen by nothing coming in any more.
    stalled(&lab).await;
    limit_file_bytes(lab.server_pid().unwrap(), None).unwrap();
    says(&log, "the store works again").await;
    stored_more(stored(&lab).await).await;
    limit_file_bytes(agent.pid().unwrap(), Some(0)).unwrap();
    stalled(&lab).await;
    limit_file_bytes(agent.pid().unwrap(), None).unwrap();
    stored_more(stored(&lab).await).await;
    let quiet = Script {
        changes_per_s: 0,
        ..script
    };
    quiet.write(&agent.root()).unwrap();
    wait_for("every signal stored", Duration::from_secs(60), async || {
        Ok((stored(&lab).await == told_so_far(&agent.root())).then_some(()))
    })
    .await
    .unwrap();
    agent.stop().await.unwrap();
    lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_a_free_descriptor_goes_on_when_there_is_one_again() {
    let Some(programs) = programs() else { return };
    let dir = tempfile::tempdir().unwrap();
    let lab = Lab::set_up(Programs::new(programs), dir.path())
        .await
        .unwrap();
    let (pid, address) = (lab.server_pid().unwrap(), lab.addresses().unwrap().agents);
    let open = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .count() as u64;
    limit_open_files(pid, open + 4).unwrap();
    let mut held = Vec::new();
    for _ in 0..12 {
        held.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    says(&lab.dir().join("server.log"), "accept failed").await;
    // Who is connected already notices nothing.
    lab.client().status(true).await.unwrap();
    drop(held);
    limit_open_files(pid, 4_096).unwrap();
    let mut agent = AgentProcess::enrol(&lab, &hosts::script("after"))
        .await
        .unwrap();
    wait_for("the host connected", Duration::from_secs(60), async || {
        Ok((lab.client().status(false).await?.connected > 0).then_some(()))
    })
    .await
    .unwrap();
    agent.stop().await.unwrap();
    lab.stop().await.unwrap();
}

/// What of a secret must be in no log: itself, and each long line of it.
fn traces(secret: &str) -> Vec<String> {
    let lines = secret.lines().filter(|line| !line.starts_with("-----"));
    let lines = lines.filter(|line| line.len() >= 16).map(str::to_owned);
    lines.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_in_any_log_even_at_the_finest_level() {
    let Some(programs) = programs() else { return };
    let dir = tempfile::tempdir().unwrap();
    let lab = Lab::set_up_at(Programs::new(programs), dir.path(), Some("trace"))
        .await
        .unwrap();
    let token = lab.token(1).await.unwrap();
    let read: EnrolmentToken = token.parse().unwrap();
    let mut secrets = vec![token.clone(), read.secret.hash().to_string()];
    let raw = read.secret.expose();
    secrets.push(raw.iter().map(|byte| format!("{byte:02x}")).collect());
    secrets.push(format!("{raw:?}"));
    let mut agent = AgentProcess::enrol_with(&lab, &hosts::script("canary"), &token, Some("trace"))
        .await
        .unwrap();
    wait_for("the host connected", Duration::from_secs(60), async || {
        Ok((lab.client().status(false).await?.connected > 0).then_some(()))
    })
    .await
    .unwrap();
    let login = lab.dir().join("server");
    let login = output(
        &lab.programs().path("ringward-server"),
        lab::words(["login", "--data"], &login),
    )
    .await
    .unwrap();
    secrets.extend(
        login
            .split_whitespace()
            .filter(|word| word.len() >= 16)
            .map(str::to_owned),
    );
    let mut open = vec![lab.dir().to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.to_string_lossy().into_owned();
            if path.is_dir() {
                open.push(path);
            } else if name.contains("key") && name.ends_with(".pem") || name.ends_with(".key") {
                secrets.extend(traces(&std::fs::read_to_string(path).unwrap()));
            }
        }
    }
    agent.stop().await.unwrap();
    let logs = lab.server_log() + &std::fs::read_to_string(agent.log()).unwrap();
    lab.stop().await.unwrap();
    assert!(
        logs.contains("TRACE"),
        "the logs are not at the finest level"
    );
    // Two keys and more, the token in three forms: else nothing is proven.
    assert!(secrets.len() >= 8, "{} secrets", secrets.len());
    for secret in &secrets {
        let at = logs.find(secret.as_str());
        let around = at.map(|at| {
            logs[at.saturating_sub(300)..at]
                .lines()
                .last()
                .unwrap_or_default()
        });
        assert!(
            at.is_none(),
            "a secret of {} characters is in a log: {around:?}…",
            secret.len()
        );
    }
}
