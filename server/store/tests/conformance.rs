//! What every store must do, run on each of them.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::future::Future;
use std::task::{Context, Poll, Waker};

use common::{Kind, Rig, batch, key, page, put, request, written};
use ringward_store::{
    Batch, Bounds, Changes, Committed, Fence, HOST_ATTRIBUTES, MAX_COMMIT_BYTES, Store, StoreError,
};

macro_rules! conformance {
    ($($name:ident),* $(,)?) => {
        mod mem {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(super::Kind::Mem).await; })*
        }
        mod sled {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(super::Kind::Sled).await; })*
        }
    };
}

conformance!(
    a_check_compares_versions_and_absence,
    a_refused_commit_writes_nothing_at_all,
    a_lost_fence_is_refused_inside_the_commit,
    the_same_request_id_answers_what_the_first_did,
    one_request_id_from_many_tasks_is_written_once,
    the_feed_has_no_gap_under_concurrent_commits,
    a_page_of_the_feed_ends_with_a_whole_commit,
    an_old_place_in_the_feed_is_told_to_list_again,
    paging_loses_and_doubles_nothing_while_others_write,
    kinds_that_begin_alike_are_listed_apart,
    signals_are_idempotent_by_host_and_seq,
    signals_are_paged_by_host_and_seq,
    audit_entries_get_consecutive_indexes_and_leaf_hashes,
    a_lease_token_grows_and_survives,
    trim_keeps_to_its_bound_and_never_touches_the_audit_log,
    request_ids_are_remembered_up_to_the_bound,
    a_hint_resolves_after_a_commit_and_not_before,
    long_values_come_back_whole,
    host_attributes_are_written_in_bulk_and_stay_out_of_the_feed,
    impossible_batches_are_refused,
);

async fn a_check_compares_versions_and_absence(kind: Kind) {
    let mut rig = Rig::new(kind);
    let host = key("host", "a");
    let absent = Batch {
        checks: vec![(host.clone(), None)],
        ..put(1, host.clone(), "one")
    };
    let first = written(rig.store(), absent.clone()).await;
    rig.reopen();
    let store = rig.store();
    let again = Batch {
        request_id: request(2),
        ..absent
    };
    let refused = store.commit(again).await.unwrap();
    assert_eq!(refused, Committed::Conflict(vec![host.clone()]));
    let checked = |n, version| Batch {
        checks: vec![(host.clone(), version), (key("host", "b"), None)],
        ..put(n, host.clone(), "two")
    };
    let second = written(store, checked(3, Some(first))).await;
    assert!(second > first);
    let stale = store.commit(checked(4, Some(first))).await.unwrap();
    assert_eq!(stale, Committed::Conflict(vec![host.clone()]));
    let stored = store.get(&host).await.unwrap().unwrap();
    assert_eq!((stored.version, stored.value), (second, b"two".to_vec()));
    let gone = Batch {
        deletes: vec![host.clone()],
        ..checked(5, Some(second))
    };
    written(store, gone).await;
    assert_eq!(store.get(&host).await.unwrap(), None);
}

async fn a_refused_commit_writes_nothing_at_all(kind: Kind) {
    let mut rig = Rig::new(kind);
    let (kept, other) = (key("host", "kept"), key("host", "other"));
    let seq = written(rig.store(), put(1, kept.clone(), "kept")).await;
    let refused = Batch {
        checks: vec![(other.clone(), Some(7))],
        deletes: vec![kept.clone()],
        audit: vec![b"{}".to_vec()],
        signals: vec![(1, 1, b"s".to_vec())],
        ..put(2, other.clone(), "other")
    };
    let answer = rig.store().commit(refused).await.unwrap();
    assert_eq!(answer, Committed::Conflict(vec![other.clone()]));
    rig.reopen();
    let store = rig.store();
    assert_eq!(store.get(&kept).await.unwrap().unwrap().version, seq);
    assert_eq!(store.get(&other).await.unwrap(), None);
    assert_eq!(store.audit(0, 10).await.unwrap(), []);
    assert_eq!(store.signals(None, None, 10).await.unwrap(), []);
    assert_eq!(page(store.changes(0, 10).await), [(seq, kept)]);
}

async fn a_lost_fence_is_refused_inside_the_commit(kind: Kind) {
    let mut rig = Rig::new(kind);
    let planner = key("plan", "p");
    let unknown = Fence {
        name: "planner".into(),
        token: 1,
    };
    let fenced = |n, fence: &Fence| Batch {
        fence: Some(fence.clone()),
        ..put(n, planner.clone(), "x")
    };
    let refused = rig.store().commit(fenced(1, &unknown)).await.unwrap();
    assert_eq!(refused, Committed::Fenced);
    let mine = rig.store().lease("planner", "a", 0, 10).await.unwrap();
    let mine = mine.unwrap();
    written(rig.store(), fenced(2, &mine)).await;
    rig.reopen();
    written(rig.store(), fenced(3, &mine)).await;
    let theirs = rig.store().lease("planner", "b", 10, 10).await.unwrap();
    let theirs = theirs.unwrap();
    rig.reopen();
    let refused = rig.store().commit(fenced(4, &mine)).await.unwrap();
    assert_eq!(refused, Committed::Fenced);
    written(rig.store(), fenced(5, &theirs)).await;
}

async fn the_same_request_id_answers_what_the_first_did(kind: Kind) {
    let mut rig = Rig::new(kind);
    let host = key("host", "a");
    let first = Batch {
        checks: vec![(host.clone(), None)],
        audit: vec![b"{\"n\":1}".to_vec()],
        ..put(1, host.clone(), "first")
    };
    let seq = written(rig.store(), first.clone()).await;
    let later = written(rig.store(), put(2, host.clone(), "later")).await;
    assert_eq!(written(rig.store(), first.clone()).await, seq);
    rig.reopen();
    assert_eq!(written(rig.store(), first.clone()).await, seq);
    let stored = rig.store().get(&host).await.unwrap().unwrap();
    assert_eq!((stored.version, stored.value), (later, b"later".to_vec()));
    assert_eq!(rig.store().audit(0, 10).await.unwrap().len(), 1);
    // One that wrote nothing decides anew.
    let refused = Batch {
        checks: vec![(host.clone(), None)],
        ..put(3, host.clone(), "third")
    };
    let answer = rig.store().commit(refused.clone()).await.unwrap();
    assert_eq!(answer, Committed::Conflict(vec![host.clone()]));
    let gone = Batch {
        deletes: vec![host],
        ..batch(4)
    };
    written(rig.store(), gone).await;
    written(rig.store(), refused).await;
}

async fn one_request_id_from_many_tasks_is_written_once(kind: Kind) {
    let (store, _dir) = Rig::new(kind).into_shared();
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let audited = Batch {
                    audit: vec![b"once".to_vec()],
                    ..put(1, key("token", "t"), "spent")
                };
                written(&store, audited).await
            })
        })
        .collect();
    let mut seqs = BTreeSet::new();
    for task in tasks {
        seqs.insert(task.await.unwrap());
    }
    assert_eq!(seqs.len(), 1);
    assert_eq!(store.audit(0, 100).await.unwrap().len(), 1);
}

async fn the_feed_has_no_gap_under_concurrent_commits(kind: Kind) {
    const WRITERS: u64 = 8;
    const EACH: u64 = 25;
    let (store, _dir) = Rig::new(kind).into_shared();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut done = Vec::new();
                for n in 0..EACH {
                    let mut batch = put(writer * 1000 + n + 1, key("w", [writer as u8]), [n as u8]);
                    batch.puts.push((key("n", [writer as u8, n as u8]), vec![]));
                    done.push(written(&store, batch).await);
                }
                done
            })
        })
        .collect();
    let mut seen: Vec<u64> = Vec::new();
    while seen.len() < (2 * WRITERS * EACH) as usize {
        let hint = store.hint();
        let after = seen.last().copied().unwrap_or(0);
        let page = page(store.changes(after, 7).await);
        if page.is_empty() {
            hint.await;
        }
        seen.extend(page.into_iter().map(|(seq, _)| seq));
    }
    assert!(seen.is_sorted());
    let mut written = Vec::new();
    for writer in writers {
        let mine = writer.await.unwrap();
        assert!(mine.is_sorted());
        written.extend(mine);
    }
    written.sort_unstable();
    seen.dedup();
    assert_eq!(seen, written);
}

async fn a_page_of_the_feed_ends_with_a_whole_commit(kind: Kind) {
    let rig = Rig::new(kind);
    let store = rig.store();
    let mut seqs = Vec::new();
    for n in 0..3_u8 {
        let puts = (0..3_u8).map(|at| (key("k", [n, at]), vec![])).collect();
        let commit = Batch {
            puts,
            ..batch(u64::from(n) + 1)
        };
        seqs.push(written(store, commit).await);
    }
    let count = |changes| {
        page(changes)
            .into_iter()
            .map(|(seq, _)| seq)
            .collect::<Vec<_>>()
    };
    assert_eq!(count(store.changes(0, 0).await), [seqs[0]; 3]);
    assert_eq!(count(store.changes(0, 2).await), [seqs[0]; 3]);
    assert_eq!(count(store.changes(0, 5).await), [seqs[0]; 3]);
    assert_eq!(count(store.changes(0, 6).await).len(), 6);
    assert_eq!(count(store.changes(seqs[1], 9).await), [seqs[2]; 3]);
    assert_eq!(count(store.changes(u64::MAX, 9).await), [0; 0]);
}

async fn an_old_place_in_the_feed_is_told_to_list_again(kind: Kind) {
    let bounds = Bounds {
        changes: 10,
        ..Bounds::default()
    };
    let mut rig = Rig::bounded(kind, bounds);
    let mut seqs = Vec::new();
    for n in 1..=30 {
        seqs.push(written(rig.store(), put(n, key("k", n.to_be_bytes()), "v")).await);
    }
    rig.reopen();
    let Changes::Compacted(floor) = rig.store().changes(seqs[3], 100).await.unwrap() else {
        panic!("nothing was compacted");
    };
    assert_eq!(floor, seqs[19]);
    let rest: Vec<u64> = page(rig.store().changes(floor, 100).await)
        .into_iter()
        .map(|(seq, _)| seq)
        .collect();
    assert_eq!(rest, seqs[20..]);
    assert_eq!(rig.store().trim("change", seqs[25]).await.unwrap(), 5);
    rig.reopen();
    let compacted = rig.store().changes(floor, 100).await.unwrap();
    assert_eq!(compacted, Changes::Compacted(seqs[24]));
    assert_eq!(page(rig.store().changes(seqs[24], 100).await).len(), 5);
}

async fn paging_loses_and_doubles_nothing_while_others_write(kind: Kind) {
    let (store, _dir) = Rig::new(kind).into_shared();
    let stable: Vec<Vec<u8>> = (0..200_u16)
        .map(|n| vec![(n >> 8) as u8, n as u8, 0])
        .collect();
    let puts = stable.iter().map(|id| (key("host", id), id.clone()));
    let all = Batch {
        puts: puts.collect(),
        ..batch(1)
    };
    written(&store, all).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let churn = {
        let store = store.clone();
        tokio::spawn(async move {
            let mut n = 2;
            while !*stopped.borrow() {
                let id = ((n * 37) % 200) as u16;
                let id = key("host", [(id >> 8) as u8, id as u8, 1]);
                let mut change = put(n, id.clone(), "churn");
                if n % 3 == 0 {
                    change.puts.clear();
                    change.deletes.push(id);
                }
                written(&store, change).await;
                n += 1;
            }
        })
    };
    for _ in 0..5 {
        let (mut seen, mut after) = (Vec::new(), None::<Vec<u8>>);
        loop {
            let page = store.list("host", after.as_deref(), 7).await.unwrap();
            assert!(page.len() <= 7);
            let Some((last, _)) = page.last() else { break };
            after = Some(last.id.clone());
            seen.extend(page.into_iter().map(|(key, _)| key.id));
        }
        assert!(seen.is_sorted_by(|a, b| a < b));
        seen.retain(|id| id[2] == 0);
        assert_eq!(seen, stable);
    }
    stop.send(true).unwrap();
    churn.await.unwrap();
}

async fn kinds_that_begin_alike_are_listed_apart(kind: Kind) {
    let rig = Rig::new(kind);
    for (n, kind) in (1..).zip(["host", "hosts", "hos"]) {
        written(rig.store(), put(n, key(kind, [0, 255]), kind)).await;
    }
    for kind in ["host", "hosts", "hos"] {
        let listed = rig.store().list(kind, None, 10).await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].0, key(kind, [0, 255]));
        assert_eq!(listed[0].1.value, kind.as_bytes());
        let after = rig.store().list(kind, Some(&[0, 255]), 10).await.unwrap();
        assert_eq!(after, []);
    }
}

async fn signals_are_idempotent_by_host_and_seq(kind: Kind) {
    let mut rig = Rig::new(kind);
    let first = vec![(1, 1, b"a".to_vec()), (1, 2, b"b".to_vec())];
    rig.store().add_signals(first.clone()).await.unwrap();
    rig.reopen();
    rig.store().add_signals(first).await.unwrap();
    let with_others = Batch {
        signals: vec![(1, 2, b"other".to_vec()), (1, 3, b"c".to_vec())],
        ..batch(1)
    };
    written(rig.store(), with_others).await;
    let stored = rig.store().signals(None, None, 10).await.unwrap();
    assert_eq!(rig.store().count_signals().await.unwrap(), 3);
    let stored: Vec<_> = stored.into_iter().map(|s| (s.seq, s.value)).collect();
    let expected = [(1, b"a".to_vec()), (2, b"b".to_vec()), (3, b"c".to_vec())];
    assert_eq!(stored, expected);
}

async fn signals_are_paged_by_host_and_seq(kind: Kind) {
    let mut rig = Rig::new(kind);
    let hosts = [0, 1, 2, u64::MAX];
    let all: Vec<(u64, u64)> = hosts.iter().flat_map(|h| (0..5).map(|s| (*h, s))).collect();
    let signals = all.iter().rev().map(|(h, s)| (*h, *s, vec![7])).collect();
    rig.store().add_signals(signals).await.unwrap();
    rig.reopen();
    for host in [None, Some(0), Some(2), Some(u64::MAX), Some(9)] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = rig.store().signals(host, after, 3).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some((last.host, last.seq));
            seen.extend(page.iter().map(|s| (s.host, s.seq)));
        }
        let mut expected = all.clone();
        expected.retain(|(of, _)| host.is_none_or(|host| host == *of));
        assert_eq!(seen, expected);
    }
    let earlier = rig.store().signals(Some(2), Some((1, 4)), 1).await.unwrap();
    assert_eq!((earlier[0].host, earlier[0].seq), (2, 0));
}

async fn audit_entries_get_consecutive_indexes_and_leaf_hashes(kind: Kind) {
    let mut rig = Rig::new(kind);
    let audited = |n, entries: &[&str]| Batch {
        audit: entries.iter().map(|e| e.as_bytes().to_vec()).collect(),
        ..batch(n)
    };
    written(rig.store(), audited(1, &["", "one"])).await;
    let refused = Batch {
        checks: vec![(key("host", "x"), Some(1))],
        ..audited(2, &["never"])
    };
    rig.store().commit(refused).await.unwrap();
    rig.reopen();
    written(rig.store(), audited(3, &["two"])).await;
    let log = rig.store().audit(0, 10).await.unwrap();
    let entries: Vec<_> = log.iter().map(|a| (a.index, a.entry.as_slice())).collect();
    assert_eq!(entries, [(0, &b""[..]), (1, b"one"), (2, b"two")]);
    // The leaf hash of the empty entry: SHA-256 of one zero byte.
    let empty = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d";
    let hex: String = log[0]
        .leaf_hash
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    assert_eq!(hex, empty);
    assert_eq!(rig.store().audit(1, 1).await.unwrap(), log[1..2]);
    assert_eq!(rig.store().audit(u64::MAX, 1).await.unwrap(), []);
}

async fn a_lease_token_grows_and_survives(kind: Kind) {
    let mut rig = Rig::new(kind);
    let first = rig.store().lease("planner", "a", 100, 10).await.unwrap();
    let first = first.unwrap();
    let renewed = rig.store().lease("planner", "a", 105, 10).await.unwrap();
    assert_eq!(renewed, Some(first.clone()));
    rig.reopen();
    let held = rig.store().lease("planner", "b", 114, 10).await.unwrap();
    assert_eq!(held, None);
    let taken = rig.store().lease("planner", "b", 115, 10).await.unwrap();
    assert!(taken.unwrap().token > first.token);
    let other = rig.store().lease("other", "a", 115, 10).await.unwrap();
    assert!(other.is_some());
}

async fn trim_keeps_to_its_bound_and_never_touches_the_audit_log(kind: Kind) {
    let mut rig = Rig::new(kind);
    let mut seqs = Vec::new();
    for n in 1..=6 {
        let commit = Batch {
            signals: vec![(n % 2, n, b"s".to_vec())],
            audit: vec![b"a".to_vec()],
            ..put(n, key("k", [0]), "v")
        };
        seqs.push(written(rig.store(), commit).await);
    }
    for kind in ["audit", "host"] {
        let refused = rig.store().trim(kind, u64::MAX).await;
        assert!(matches!(refused, Err(StoreError::Failed { .. })), "{kind}");
    }
    assert_eq!(rig.store().trim("signal", seqs[2]).await.unwrap(), 2);
    assert_eq!(rig.store().trim("signal", seqs[2]).await.unwrap(), 0);
    assert_eq!(rig.store().trim("change", seqs[1]).await.unwrap(), 1);
    assert_eq!(rig.store().trim("request", seqs[3]).await.unwrap(), 3);
    rig.reopen();
    let left = rig.store().signals(None, None, 10).await.unwrap();
    assert_eq!(left.iter().map(|s| s.seq).collect::<Vec<_>>(), [4, 6, 3, 5]);
    assert_eq!(page(rig.store().changes(seqs[0], 10).await).len(), 5);
    assert_eq!(rig.store().audit(0, 10).await.unwrap().len(), 6);
    let known = written(rig.store(), put(4, key("k", [0]), "again")).await;
    assert_eq!(known, seqs[3]);
    let forgotten = written(rig.store(), put(3, key("k", [0]), "again")).await;
    assert!(forgotten > seqs[5]);
    assert_eq!(rig.store().trim("signal", u64::MAX).await.unwrap(), 4);
    assert_eq!(rig.store().audit(0, 10).await.unwrap().len(), 6);
}

async fn request_ids_are_remembered_up_to_the_bound(kind: Kind) {
    let bounds = Bounds {
        requests: 4,
        ..Bounds::default()
    };
    let mut rig = Rig::bounded(kind, bounds);
    let mut seqs = Vec::new();
    for n in 1..=5 {
        seqs.push(written(rig.store(), put(n, key("k", [0]), "v")).await);
    }
    rig.reopen();
    for n in 2..=5 {
        let again = written(rig.store(), put(n, key("k", [0]), "v")).await;
        assert_eq!(again, seqs[n as usize - 1]);
    }
    let forgotten = written(rig.store(), put(1, key("k", [0]), "v")).await;
    assert!(forgotten > seqs[4]);
}

async fn a_hint_resolves_after_a_commit_and_not_before(kind: Kind) {
    let (store, _dir) = Rig::new(kind).into_shared();
    written(&store, put(1, key("k", [0]), "v")).await;
    let mut context = Context::from_waker(Waker::noop());
    let mut early = Box::pin(store.hint());
    assert_eq!(early.as_mut().poll(&mut context), Poll::Pending);
    // Made before the commit, looked at only after it.
    let late = store.hint();
    let other = {
        let store = store.clone();
        tokio::spawn(async move { written(&store, put(2, key("k", [0]), "v")).await })
    };
    early.await;
    other.await.unwrap();
    late.await;
}

async fn long_values_come_back_whole(kind: Kind) {
    let mut rig = Rig::new(kind);
    let long = |n: usize| -> Vec<u8> { (0..n).map(|i| (i % 251) as u8).collect() };
    let sizes = [0_usize, 4096, 4097, 50_000, 300_000];
    let commit = Batch {
        puts: sizes.map(|n| (key("k", n.to_be_bytes()), long(n))).to_vec(),
        audit: vec![long(20_000)],
        signals: vec![(1, 1, long(9_000))],
        ..batch(1)
    };
    written(rig.store(), commit).await;
    rig.reopen();
    let listed = rig.store().list("k", None, 10).await.unwrap();
    let values: Vec<_> = listed.into_iter().map(|(_, v)| v.value).collect();
    assert_eq!(values, sizes.map(long));
    assert_eq!(
        rig.store().audit(0, 1).await.unwrap()[0].entry,
        long(20_000)
    );
    let signals = rig.store().signals(None, None, 1).await.unwrap();
    assert_eq!(signals[0].value, long(9_000));
    // Shorter, longer, gone, within one commit too.
    let changed = Batch {
        puts: vec![
            (key("k", 300_000_usize.to_be_bytes()), long(10)),
            (key("k", 4096_usize.to_be_bytes()), long(70_000)),
            (key("k", 4096_usize.to_be_bytes()), long(5_000)),
        ],
        deletes: vec![key("k", 50_000_usize.to_be_bytes())],
        ..batch(2)
    };
    written(rig.store(), changed).await;
    rig.reopen();
    let listed = rig.store().list("k", None, 10).await.unwrap();
    let sizes: Vec<_> = listed.into_iter().map(|(_, v)| v.value.len()).collect();
    assert_eq!(sizes, [0, 5_000, 4097, 10]);
}

async fn host_attributes_are_written_in_bulk_and_stay_out_of_the_feed(kind: Kind) {
    let mut rig = Rig::new(kind);
    let hosts = |value: u8| -> Vec<(Vec<u8>, Vec<u8>)> {
        (0..100_u8).map(|id| (vec![id], vec![value; 9])).collect()
    };
    rig.store().put_hosts(hosts(1)).await.unwrap();
    rig.store().put_hosts(hosts(2)).await.unwrap();
    rig.reopen();
    let stored = rig.store().list(HOST_ATTRIBUTES, None, 1000).await.unwrap();
    assert_eq!(stored.len(), 100);
    assert!(stored.iter().all(|(_, v)| v.value == [2; 9]));
    assert_eq!(page(rig.store().changes(0, 10).await), []);
}

async fn impossible_batches_are_refused(kind: Kind) {
    let rig = Rig::new(kind);
    let zero = Batch {
        request_id: [0; 16],
        ..put(1, key("k", "a"), "v")
    };
    let refused = [
        zero,
        put(1, key("k", "a"), vec![0; MAX_COMMIT_BYTES]),
        put(1, key("k\0", "a"), "v"),
        put(1, key("", "a"), "v"),
        put(1, key("k", [0; 257]), "v"),
    ];
    for batch in refused {
        let answer = rig.store().commit(batch).await;
        assert!(matches!(answer, Err(StoreError::Failed { .. })));
    }
    let all = rig.store().list("k", None, 10).await.unwrap();
    assert_eq!(all, []);
}
