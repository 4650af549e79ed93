//! A store as an earlier version left it on disk: it opens, says what it said, and goes on.
//!
//! `golden/store-1` is of format 1, written before signals were counted: 20 commits, a long value, a
//! lease, host attributes, the oldest changes trimmed. A later format gets a folder of its own; this one
//! stays as it is.
#![allow(clippy::unwrap_used)]

use ringward_store::{
    Batch, Changes, Committed, HOST_ATTRIBUTES, Key, Options, Sled, Store, doctor,
};
use std::path::{Path, PathBuf};

/// A copy to work with.
fn store(dir: &Path) -> PathBuf {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/store-1");
    let copy = dir.join("store");
    std::fs::create_dir(&copy).unwrap();
    for name in ["conf", "db"] {
        std::fs::copy(golden.join(name), copy.join(name)).unwrap();
    }
    copy
}

fn open(path: &Path) -> Sled {
    Sled::open(path, Options::default()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_format_1_says_what_it_said() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&store(dir.path()));
    let hosts = store.list("host", None, 100).await.unwrap();
    let hosts: Vec<(u8, String)> = hosts
        .into_iter()
        .map(|(key, value)| (key.id[0], String::from_utf8(value.value).unwrap()))
        .collect();
    let newest = [14, 15, 16, 17, 18, 19, 13];
    let expected = (0..7).zip(newest.map(|n| format!("host {n}")));
    assert_eq!(hosts, expected.collect::<Vec<_>>());
    let rollouts = store.list("rollout", None, 100).await.unwrap();
    assert_eq!(rollouts.len(), 19);
    let long = rollouts.iter().find(|(key, _)| key.id == [5]).unwrap();
    assert_eq!(long.1.value, vec![5; 9_000]);
    let heard = Key {
        kind: HOST_ATTRIBUTES,
        id: vec![1],
    };
    assert_eq!(store.get(&heard).await.unwrap().unwrap().value, b"heard");
    let signals = store.signals(None, None, 100).await.unwrap();
    assert_eq!(signals.len(), 60);
    assert!(signals.iter().any(|s| s.value == b"signal 13 2"));
    assert_eq!(store.count_signals().await.unwrap(), 60);
    let audit = store.audit(0, 100).await.unwrap();
    assert_eq!(audit.len(), 20);
    assert_eq!(audit[7].entry, b"{\"n\":7}");
    // The oldest changes were trimmed, the others are there.
    assert!(matches!(
        store.changes(0, 100).await.unwrap(),
        Changes::Compacted(_)
    ));
    let Changes::Page(page) = store.changes(10, 100).await.unwrap() else {
        panic!("compacted too far");
    };
    assert!(!page.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_format_1_goes_on_as_if_it_had_always_been_this_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = store(dir.path());
    {
        let store = open(&path);
        // A request of then is answered as it was then.
        let again = Batch {
            request_id: [20; 16],
            ..Batch::default()
        };
        let Committed::Ok(seq) = store.commit(again).await.unwrap() else {
            panic!("a commit of then is forgotten");
        };
        // Its lease is still held, by the same.
        assert_eq!(
            store
                .lease("control", "second", 2_000, 15_000)
                .await
                .unwrap(),
            None
        );
        let fence = store.lease("control", "first", 2_000, 15_000).await;
        let next = Batch {
            request_id: [99; 16],
            fence: fence.unwrap(),
            signals: vec![(1, 1, b"known".to_vec()), (9, 1, b"new".to_vec())],
            audit: vec![b"next".to_vec()],
            ..Batch::default()
        };
        let Committed::Ok(newer) = store.commit(next).await.unwrap() else {
            panic!("it does not take a commit");
        };
        assert!(newer > seq);
        let last = store.audit(20, 10).await.unwrap();
        assert_eq!((last.len(), last[0].index), (1, 20));
    }
    let store = open(&path);
    let counted = store.count_signals().await.unwrap();
    let there = store.signals(None, None, 100).await.unwrap().len() as u64;
    assert_eq!(counted, there);
    assert!(counted >= 61);
    drop(store);
    let report = doctor(&path).unwrap();
    assert!(report.healthy(), "{report}");
}
