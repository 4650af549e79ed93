//! Either store behind one type, so that the daemon needs no type parameter.

use std::future::Future;
use std::path::Path;

use crate::{
    Batch, Bounds, Changes, Committed, Fence, Key, Mem, Options, Sled, Store, StoreError,
    StoredAudit, StoredSignal, Versioned,
};

/// One of the stores.
#[derive(Debug)]
pub enum AnyStore {
    /// In memory.
    Mem(Mem),
    /// Embedded, on disk.
    Sled(Sled),
}

impl AnyStore {
    /// An empty store in memory.
    pub fn mem() -> Self {
        Self::Mem(Mem::new(Bounds::default()))
    }

    /// Opens the embedded store in a folder, made if absent. Blocks: call it before serving.
    ///
    /// # Errors
    /// As [`Sled::open`].
    pub fn sled(path: &Path, options: Options) -> Result<Self, StoreError> {
        Sled::open(path, options).map(Self::Sled)
    }
}

macro_rules! on_either {
    ($self:ident, $store:ident => $call:expr) => {
        match $self {
            AnyStore::Mem($store) => $call.await,
            AnyStore::Sled($store) => $call.await,
        }
    };
}

impl Store for AnyStore {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, StoreError> {
        on_either!(self, store => store.get(key))
    }

    async fn list(
        &self,
        kind: &'static str,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Key, Versioned)>, StoreError> {
        on_either!(self, store => store.list(kind, after, limit))
    }

    async fn list_all(
        &self,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Versioned)>, StoreError> {
        on_either!(self, store => store.list_all(after, limit))
    }

    async fn commit(&self, batch: Batch) -> Result<Committed, StoreError> {
        on_either!(self, store => store.commit(batch))
    }

    async fn put_hosts(&self, hosts: Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), StoreError> {
        on_either!(self, store => store.put_hosts(hosts))
    }

    async fn add_signals(&self, signals: Vec<(u64, u64, Vec<u8>)>) -> Result<(), StoreError> {
        on_either!(self, store => store.add_signals(signals))
    }

    async fn signals(
        &self,
        host: Option<u64>,
        after: Option<(u64, u64)>,
        limit: usize,
    ) -> Result<Vec<StoredSignal>, StoreError> {
        on_either!(self, store => store.signals(host, after, limit))
    }

    async fn count_signals(&self) -> Result<u64, StoreError> {
        on_either!(self, store => store.count_signals())
    }

    async fn audit(&self, from: u64, limit: usize) -> Result<Vec<StoredAudit>, StoreError> {
        on_either!(self, store => store.audit(from, limit))
    }

    async fn changes(&self, after: u64, limit: usize) -> Result<Changes, StoreError> {
        on_either!(self, store => store.changes(after, limit))
    }

    fn hint(&self) -> impl Future<Output = ()> + Send {
        // Both are made here, at the call, so that nothing committed after it is missed.
        let (mem, sled) = match self {
            Self::Mem(store) => (Some(store.hint()), None),
            Self::Sled(store) => (None, Some(store.hint())),
        };
        async move {
            if let Some(hint) = mem {
                hint.await;
            }
            if let Some(hint) = sled {
                hint.await;
            }
        }
    }

    async fn lease(
        &self,
        name: &str,
        holder: &str,
        now_ms: u64,
        ttl_ms: u64,
    ) -> Result<Option<Fence>, StoreError> {
        on_either!(self, store => store.lease(name, holder, now_ms, ttl_ms))
    }

    async fn trim(&self, kind: &'static str, before: u64) -> Result<u64, StoreError> {
        on_either!(self, store => store.trim(kind, before))
    }
}
