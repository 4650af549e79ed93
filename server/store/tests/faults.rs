//! A full disk, a failing one, torn files, two processes: what the embedded store makes of them.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::disk::TestDisk;
use common::workload::{check, commit};
use common::{options, put};
use ringward_store::{Bounds, Committed, Options, Sled, Store, StoreError, doctor};

fn fresh() -> (tempfile::TempDir, Arc<TestDisk>, Sled) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let disk = Arc::new(TestDisk::new(&path));
    let options = Options {
        disk: disk.clone(),
        min_free_bytes: 1000,
        ..options(Bounds::default())
    };
    let store = Sled::open(&path, options).unwrap();
    (dir, disk, store)
}

/// Asks again with the same request id until it is written, for at most ten seconds.
async fn until_written(store: &Sled, seed: u64, n: u64) -> u64 {
    let began = Instant::now();
    loop {
        match store.commit(commit(seed, n)).await {
            Ok(Committed::Ok(seq)) => return seq,
            other => assert!(began.elapsed() < Duration::from_secs(10), "{other:?}"),
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_keeps_reads_and_recovers_by_itself() {
    let (_dir, disk, store) = fresh();
    let seq = until_written(&store, 1, 1).await;
    disk.set_free(999);
    for _ in 0..3 {
        let refused = store.commit(commit(1, 2)).await;
        let Err(StoreError::Failed { why, next, .. }) = refused else {
            panic!("not refused: {refused:?}");
        };
        assert!(why.contains("999 bytes are free"), "{why}");
        assert!(next.contains("free disk space"));
    }
    assert!(store.add_signals(vec![(1, 1, vec![1])]).await.is_err());
    assert!(store.put_hosts(vec![(vec![1], vec![1])]).await.is_err());
    assert!(store.lease("planner", "a", 0, 1).await.is_err());
    assert_eq!(store.audit(0, 9).await.unwrap().len(), 1);
    // What was written before is known, and making room is allowed from the reserve.
    assert_eq!(until_written(&store, 1, 1).await, seq);
    store.trim("change", seq + 1).await.unwrap();
    disk.set_free(1000);
    assert_eq!(store.commit(commit(1, 2)).await.unwrap(), Committed::Ok(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_is_settled_and_nothing_happens_twice() {
    let (_dir, disk, store) = fresh();
    for n in 1..=20 {
        disk.set_failing(n % 2 == 0);
        if n % 2 == 0 {
            let answer = store.commit(commit(3, n)).await;
            let settled = matches!(
                answer,
                Ok(Committed::Unknown) | Err(StoreError::Failed { .. })
            );
            assert!(settled, "acknowledged without a sync: {answer:?}");
            disk.set_failing(false);
        }
        assert_eq!(until_written(&store, 3, n).await, n);
    }
    check(&store, 3, 20, 20).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_get_their_database_back_without_any_writer_asking() {
    let (_dir, disk, store) = fresh();
    until_written(&store, 4, 1).await;
    disk.set_failing(true);
    store.commit(commit(4, 2)).await.ok();
    disk.set_failing(false);
    let began = Instant::now();
    while store.audit(0, 9).await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(10));
        tokio::task::yield_now().await;
    }
}

#[test]
fn opening_twice_is_refused_in_words() {
    let (dir, _disk, store) = fresh();
    let path = dir.path().join("store");
    let again = Sled::open(&path, Options::default());
    let why = again.unwrap_err().to_string();
    assert!(why.contains("it is open already"), "{why}");
    let report = doctor(&path).unwrap();
    assert!(report.problems[0].contains("it is open already"));
    drop(store);
    Sled::open(&path, Options::default()).unwrap();
}

/// A closed store of 30 commits, opened often enough to have a snapshot.
async fn closed(path: &Path) {
    for part in 0..3 {
        let store = Sled::open(path, options(Bounds::default())).unwrap();
        for n in part * 10 + 1..=part * 10 + 10 {
            until_written(&store, 6, n).await;
        }
    }
    drop(Sled::open(path, options(Bounds::default())).unwrap());
}

fn snapshot(path: &Path) -> String {
    let names = fs::read_dir(path).unwrap();
    let mut names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.find(|name| name.starts_with("snap.")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_snapshot_is_set_aside_and_rebuilt_from_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    closed(path).await;
    for keep in [0, 1, 11, 12, 13, 40] {
        let name = snapshot(path);
        let bytes = fs::read(path.join(&name)).unwrap();
        fs::write(path.join(&name), &bytes[..keep]).unwrap();
        let report = doctor(path).unwrap();
        assert!(!report.snapshots[0].sound);
        assert!(report.healthy(), "{report}");
        assert!(report.set_aside.last().unwrap().contains(&name));
        let store = Sled::open(path, options(Bounds::default())).unwrap();
        check(&store, 6, 30, 30).await.unwrap();
    }
    assert_eq!(doctor(path).unwrap().set_aside.len(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unfinished_snapshot_and_torn_settings_are_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    closed(path).await;
    let unfinished = path.join("snap.FFFFFFFFFFFFFFFF.generating");
    fs::write(&unfinished, b"half a snap").unwrap();
    let conf = fs::read(path.join("conf")).unwrap();
    fs::write(path.join("conf"), &conf[..conf.len() - 2]).unwrap();
    let store = Sled::open(path, options(Bounds::default())).unwrap();
    assert_eq!(store.set_aside().len(), 2);
    check(&store, 6, 30, 30).await.unwrap();
    drop(store);
    assert!(doctor(path).unwrap().healthy());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_checks_out_but_misleads_is_set_aside_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    closed(path).await;
    let name = snapshot(path);
    let mut bytes = vec![0xff; 64];
    let crc = crc32fast::hash(&bytes).to_le_bytes();
    bytes.extend(64_u64.to_le_bytes());
    bytes.extend(crc);
    fs::write(path.join(&name), bytes).unwrap();
    let store = Sled::open(path, options(Bounds::default())).unwrap();
    assert_eq!(store.set_aside(), [name]);
    check(&store, 6, 30, 30).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_counts_what_is_there_and_names_what_is_not() {
    let dir = tempfile::tempdir().unwrap();
    assert!(!doctor(dir.path()).unwrap().healthy());
    assert!(doctor(&dir.path().join("nowhere")).is_err());
    closed(dir.path()).await;
    let report = doctor(dir.path()).unwrap();
    assert!(report.healthy(), "{report}");
    assert_eq!(report.rows["audit entry"], 30);
    assert_eq!(report.rows["request id"], 30);
    assert_eq!(report.side_files, 0);
    let said = report.to_string();
    assert!(said.contains("audit entry: 30") && said.ends_with("healthy"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_stays_bounded_while_the_same_things_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let bounds = Bounds {
        requests: 100,
        changes: 100,
    };
    let store = Sled::open(dir.path(), options(bounds)).unwrap();
    for n in 1..=4000 {
        let key = common::key("host", [(n % 50) as u8]);
        let answer = store.commit(put(n, key, vec![n as u8; 3000])).await;
        assert_eq!(answer.unwrap(), Committed::Ok(n));
    }
    drop(store);
    // 12 MB were written, 150 kB of it lives; sled keeps some 2 MiB segments before it reuses them.
    let bytes = fs::metadata(dir.path().join("db")).unwrap().len();
    assert!(bytes <= 24 << 20, "{bytes} bytes");
    let report = doctor(dir.path()).unwrap();
    assert!(report.healthy(), "{report}");
    assert_eq!(
        (report.rows["request id"], report.rows["change"]),
        (100, 100)
    );
}
