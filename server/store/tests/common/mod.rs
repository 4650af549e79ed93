//! Both stores behind one rig, and short ways to say a batch.
#![allow(dead_code, clippy::unwrap_used)]

pub mod disk;
pub mod workload;

use ringward_store::{
    AnyStore, Batch, Bounds, Changes, Committed, Key, Mem, Options, Sled, Store, StoreError,
};
use tempfile::TempDir;

/// Which store a suite runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Mem,
    Sled,
}

/// A store that can be opened again.
pub struct Rig {
    store: Option<AnyStore>,
    bounds: Bounds,
    dir: Option<TempDir>,
}

/// Options that leave nothing free and keep the given bounds.
pub fn options(bounds: Bounds) -> Options {
    Options {
        min_free_bytes: 0,
        bounds,
        ..Options::default()
    }
}

impl Rig {
    pub fn new(kind: Kind) -> Self {
        Self::bounded(kind, Bounds::default())
    }

    pub fn bounded(kind: Kind, bounds: Bounds) -> Self {
        let mut rig = Self {
            store: None,
            bounds,
            dir: None,
        };
        match kind {
            Kind::Mem => rig.store = Some(AnyStore::Mem(Mem::new(bounds))),
            Kind::Sled => {
                rig.dir = Some(tempfile::tempdir().unwrap());
                rig.reopen();
            }
        }
        rig
    }

    /// Closes and opens the store on disk; the one in memory has nothing to open.
    pub fn reopen(&mut self) {
        if let Some(dir) = &self.dir {
            self.store = None;
            let path = dir.path().join("store");
            self.store = Some(AnyStore::Sled(
                Sled::open(path, options(self.bounds)).unwrap(),
            ));
        }
    }

    pub fn store(&self) -> &AnyStore {
        self.store.as_ref().unwrap()
    }

    /// The store to share between tasks.
    pub fn into_shared(mut self) -> (std::sync::Arc<AnyStore>, Option<TempDir>) {
        (
            std::sync::Arc::new(self.store.take().unwrap()),
            self.dir.take(),
        )
    }
}

pub fn key(kind: &'static str, id: impl AsRef<[u8]>) -> Key {
    Key {
        kind,
        id: id.as_ref().to_vec(),
    }
}

/// A request id from a number, never all zeros.
pub fn request(n: u64) -> [u8; 16] {
    let mut id = [0xaa; 16];
    id[..8].copy_from_slice(&n.to_be_bytes());
    id
}

pub fn batch(n: u64) -> Batch {
    Batch {
        request_id: request(n),
        ..Batch::default()
    }
}

pub fn put(n: u64, key: Key, value: impl AsRef<[u8]>) -> Batch {
    Batch {
        puts: vec![(key, value.as_ref().to_vec())],
        ..batch(n)
    }
}

/// Commits and expects it to be written.
pub async fn written(store: &AnyStore, batch: Batch) -> u64 {
    match store.commit(batch).await.unwrap() {
        Committed::Ok(seq) => seq,
        other => panic!("not written: {other:?}"),
    }
}

pub fn page(changes: Result<Changes, StoreError>) -> Vec<(u64, Key)> {
    match changes.unwrap() {
        Changes::Page(page) => page.into_iter().map(|c| (c.seq, c.key)).collect(),
        Changes::Compacted(seq) => panic!("compacted up to {seq}"),
    }
}
