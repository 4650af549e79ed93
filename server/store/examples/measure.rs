//! Commits per second with 1 and 64 committers beside the bare sync of the same disk, and bytes a
//! signal: `cargo run --release -p ringward-store --example measure [FOLDER]`. Figures only.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringward_store::{Batch, Committed, Key, Options, Sled, Store};

const SPAN: Duration = Duration::from_secs(3);

fn batch(committer: u64, n: u64) -> Batch {
    let mut request_id = [1; 16];
    request_id[..8].copy_from_slice(&committer.to_be_bytes());
    request_id[8..].copy_from_slice(&n.to_be_bytes());
    let member = Key {
        kind: "member",
        id: (committer * 1000 + n % 1000).to_be_bytes().to_vec(),
    };
    Batch {
        request_id,
        puts: vec![(member, vec![7; 200])],
        audit: vec![vec![b'a'; 120]],
        ..Batch::default()
    }
}

async fn commits(store: &Arc<Sled>, committers: u64) -> u64 {
    let tasks: Vec<_> = (0..committers)
        .map(|committer| {
            let (store, began) = (Arc::clone(store), Instant::now());
            tokio::spawn(async move {
                let mut n = 0;
                while began.elapsed() < SPAN {
                    let answer = store.commit(batch(committer + committers * 100, n)).await;
                    assert!(matches!(answer, Ok(Committed::Ok(_))));
                    n += 1;
                }
                n
            })
        })
        .collect();
    let mut sum = 0;
    for task in tasks {
        sum += task.await.unwrap();
    }
    sum / SPAN.as_secs()
}

fn bare_syncs(folder: &Path) -> u64 {
    let mut file = std::fs::File::create(folder.join("anchor")).unwrap();
    let (began, mut n) = (Instant::now(), 0);
    while began.elapsed() < SPAN {
        file.write_all(&[7; 400]).unwrap();
        file.sync_data().unwrap();
        n += 1;
    }
    n / SPAN.as_secs()
}

#[tokio::main]
async fn main() {
    let folder = std::env::args().nth(1).map(Into::into);
    let base: std::path::PathBuf = folder.unwrap_or_else(std::env::temp_dir);
    let dir = tempfile::tempdir_in(base).unwrap();
    println!("bare 400-byte write + sync: {} /s", bare_syncs(dir.path()));
    let store = Sled::open(dir.path().join("commits"), Options::default()).unwrap();
    let store = Arc::new(store);
    for committers in [1, 64] {
        let rate = commits(&store, committers).await;
        println!("commits with {committers} at once: {rate} /s");
    }
    let path = dir.path().join("signals");
    let store = Sled::open(&path, Options::default()).unwrap();
    let (hosts, each) = (1000_u64, 200_u64);
    let began = Instant::now();
    for seq in 0..each {
        let signals = (0..hosts).map(|host| (host, seq, vec![host as u8; 200]));
        store.add_signals(signals.collect()).await.unwrap();
    }
    let took = began.elapsed().as_secs_f64();
    let count = hosts * each;
    drop(store);
    let bytes = std::fs::metadata(path.join("db")).unwrap().len();
    println!("signals of 200 bytes: {:.0} /s", count as f64 / took);
    println!("bytes a signal on disk: {:.0}", bytes as f64 / count as f64);
    let began = Instant::now();
    drop(Sled::open(&path, Options::default()).unwrap());
    println!("opening it again: {} ms", began.elapsed().as_millis());
}
