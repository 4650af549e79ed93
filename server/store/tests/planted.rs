//! A fault planted on purpose is found by the crash model.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::disk::{TestDisk, lay_down};
use common::options;
use common::workload::{check, commit};
use ringward_store::{Bounds, Committed, Options, PlantedBug, Sled, Store};

/// Crashes while a commit waits for its sync; what the check then says.
async fn crash_before_the_sync(bug: Option<PlantedBug>) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let disk = Arc::new(TestDisk::new(&path));
    let options_of_disk = Options {
        disk: disk.clone(),
        ..options(Bounds::default())
    };
    let store = Sled::open(&path, options_of_disk).unwrap();
    for n in 1..=5 {
        store.commit(commit(1, n)).await.unwrap();
    }
    store.plant(bug);
    let gate = disk.close_gate();
    let mut sixth = std::pin::pin!(store.commit(commit(1, 6)));
    let early = tokio::select! {
        answer = &mut sixth => Some(answer),
        () = disk.at_gate() => None,
    };
    let early = match early {
        Some(answer) => Some(answer),
        None => tokio::select! {
            biased;
            answer = &mut sixth => Some(answer),
            () = std::future::ready(()) => None,
        },
    };
    disk.at_gate().await;
    let left = lay_down(&disk.durable());
    drop(gate);
    let acknowledged = if matches!(early, Some(Ok(Committed::Ok(6)))) {
        6
    } else {
        5
    };
    let after = Sled::open(left.path(), options(Bounds::default())).unwrap();
    check(&after, 1, acknowledged, 6).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledging_before_durable_is_found() {
    assert_eq!(crash_before_the_sync(None).await, Ok(()));
    let found = crash_before_the_sync(Some(PlantedBug::AcknowledgeBeforeDurable)).await;
    assert!(found.unwrap_err().contains("6 were acknowledged"));
}

/// How many of 200 spends at once are told that they took the one use of a token.
async fn race_for_one_use(bug: Option<PlantedBug>) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let store = Sled::open(dir.path().join("store"), options(Bounds::default())).unwrap();
    let store = Arc::new(store);
    let token = common::key("token", b"one use");
    let made = store.commit(common::put(1, token.clone(), b"unused"));
    let Committed::Ok(version) = made.await.unwrap() else {
        panic!("not written");
    };
    store.plant(bug);
    let mut spends = tokio::task::JoinSet::new();
    for spender in 2..202 {
        let (store, token) = (Arc::clone(&store), token.clone());
        spends.spawn(async move {
            let mut spend = common::put(spender, token.clone(), spender.to_string());
            spend.checks.push((token, Some(version)));
            matches!(store.commit(spend).await.unwrap(), Committed::Ok(_))
        });
    }
    let won = spends.join_all().await;
    won.into_iter().filter(|won| *won).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_spent_twice_is_found() {
    assert_eq!(race_for_one_use(None).await, 1);
    assert!(race_for_one_use(Some(PlantedBug::ChecksIgnored)).await > 1);
}
