//! Crashes of the embedded store: only what was synced before is there, torn writes of what was not.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::disk::{Numbers, TestDisk, lay_down, torn};
use common::workload::{check, commit};
use common::{options, written};
use ringward_store::{AnyStore, Bounds, Committed, Options, Sled, Store};

fn on(disk: &Arc<TestDisk>) -> Options {
    Options {
        disk: disk.clone(),
        ..options(Bounds::default())
    }
}

fn fresh() -> (tempfile::TempDir, Arc<TestDisk>, Sled) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let disk = Arc::new(TestDisk::new(&path));
    let store = Sled::open(&path, on(&disk)).unwrap();
    (dir, disk, store)
}

fn open(path: &Path) -> Result<Sled, String> {
    Sled::open(path, options(Bounds::default())).map_err(|why| why.to_string())
}

async fn acknowledge(store: &Sled, seed: u64, commits: std::ops::RangeInclusive<u64>) {
    for n in commits {
        let answer = store.commit(commit(seed, n)).await.unwrap();
        assert_eq!(answer, Committed::Ok(n));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_only_synced_bytes_remain() {
    let (_dir, disk, store) = fresh();
    for n in 1..=60 {
        acknowledge(&store, 1, n..=n).await;
        if n % 6 == 0 {
            let left = lay_down(&disk.durable());
            check(&open(left.path()).unwrap(), 1, n, n).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn torn_unsynced_writes_leave_whole_commits_only() {
    for seed in 0..12 {
        let (_dir, disk, store) = fresh();
        let mut numbers = Numbers(seed);
        let acknowledged = 1 + numbers.below(80);
        acknowledge(&store, seed, 1..=acknowledged).await;
        let gate = disk.close_gate();
        let issued = acknowledged + 1;
        let under_way = store.commit(commit(seed, issued));
        let mut under_way = std::pin::pin!(under_way);
        tokio::select! {
            answer = &mut under_way => panic!("answered before it was synced: {answer:?}"),
            () = disk.at_gate() => {}
        }
        let (durable, written) = (disk.durable(), disk.written());
        for trial in 0..8 {
            let left = lay_down(&torn(&durable, &written, &mut numbers));
            let opened = open(left.path());
            let checked = match &opened {
                Ok(store) => check(store, seed, acknowledged, issued).await,
                Err(why) => Err(why.clone()),
            };
            assert_eq!(checked, Ok(()), "seed {seed}, trial {trial}");
        }
        drop(gate);
        assert_eq!(under_way.await.unwrap(), Committed::Ok(issued));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn torn_writes_do_no_harm_where_old_segments_are_written_over() {
    let (_dir, disk, store) = fresh();
    let mut numbers = Numbers(99);
    // Some 15 MB over segments of 2 MiB, without keeping an image of each step.
    disk.set_lying(true);
    acknowledge(&store, 9, 1..=1400).await;
    disk.set_lying(false);
    for acknowledged in 1401..=1440 {
        acknowledge(&store, 9, acknowledged..=acknowledged).await;
        if acknowledged % 5 > 0 {
            continue;
        }
        let durable = disk.durable();
        disk.set_lying(true);
        let more = acknowledged + 1;
        let gate = disk.close_gate();
        let mut under_way = std::pin::pin!(store.commit(commit(9, more)));
        tokio::select! {
            answer = &mut under_way => panic!("answered before it was synced: {answer:?}"),
            () = disk.at_gate() => {}
        }
        let left = lay_down(&torn(&durable, &disk.written(), &mut numbers));
        let checked = check(&open(left.path()).unwrap(), 9, acknowledged, more).await;
        assert_eq!(checked, Ok(()), "after {acknowledged}");
        drop(gate);
        under_way.await.unwrap();
        disk.set_lying(false);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_goes_on_after_crash_upon_crash() {
    let (_dir, disk, store) = fresh();
    let (mut disk, mut store, mut lefts) = (disk, store, Vec::new());
    for round in 0..12_u64 {
        acknowledge(&store, 5, round * 25 + 1..=round * 25 + 25).await;
        let left = lay_down(&disk.durable());
        drop(store);
        disk = Arc::new(TestDisk::new(left.path()));
        store = Sled::open(left.path(), on(&disk)).unwrap();
        lefts.push(left);
        let there = round * 25 + 25;
        check(&store, 5, there, there).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_drops_syncs_is_found_by_this_model() {
    let (_dir, disk, store) = fresh();
    acknowledge(&store, 2, 1..=5).await;
    disk.set_lying(true);
    acknowledge(&store, 2, 6..=9).await;
    let left = lay_down(&disk.durable());
    let checked = check(&open(left.path()).unwrap(), 2, 9, 9).await;
    assert!(checked.unwrap_err().contains("9 were acknowledged"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_a_commit_only_once_it_is_durable() {
    let (_dir, disk, store) = fresh();
    let store = AnyStore::Sled(store);
    let first = common::put(1, common::key("k", "a"), "old");
    let first = written(&store, first).await;
    let gate = disk.close_gate();
    let mut second = common::put(2, common::key("k", "a"), "new");
    second.puts.push((common::key("k", "b"), b"new".to_vec()));
    second.audit.push(b"new".to_vec());
    let mut under_way = std::pin::pin!(store.commit(second));
    tokio::select! {
        answer = &mut under_way => panic!("answered before it was synced: {answer:?}"),
        () = disk.at_gate() => {}
    }
    let seen = store.list("k", None, 10).await.unwrap();
    assert_eq!(seen.len(), 1);
    assert_eq!(
        (seen[0].1.version, &seen[0].1.value[..]),
        (first, &b"old"[..])
    );
    assert_eq!(store.get(&common::key("k", "b")).await.unwrap(), None);
    assert_eq!(store.audit(0, 9).await.unwrap(), []);
    assert_eq!(common::page(store.changes(first, 9).await), []);
    drop(gate);
    let Committed::Ok(second) = under_way.await.unwrap() else {
        panic!("not written");
    };
    let seen = store.list("k", None, 10).await.unwrap();
    assert!(
        seen.iter()
            .all(|(_, v)| v.version == second && v.value == b"new")
    );
    assert_eq!((seen.len(), store.audit(0, 9).await.unwrap().len()), (2, 1));
}
