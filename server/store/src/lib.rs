//! Durable state behind one trait (DESIGN §7), shaped for an embedded store now and replicated SQL
//! next. No sled or SQL type crosses it.

mod any;
mod doctor;
mod kinds;
mod lease;
mod limits;
mod mem;
#[cfg(feature = "planted-bugs")]
mod planted;
mod prepared;
mod sled;

use std::future::Future;

pub use any::AnyStore;
pub use doctor::{Report, SnapshotFile, doctor};
pub use limits::{Bounds, MAX_COMMIT_BYTES, MAX_ID_BYTES, MAX_KIND_BYTES};
pub use mem::Mem;
#[cfg(feature = "planted-bugs")]
pub use planted::PlantedBug;
pub use sled::{Disk, Options, OsDisk, Sled};

/// Kind under which [`Store::put_hosts`] keeps its values; read them with `get` and `list`.
pub const HOST_ATTRIBUTES: &str = "host-attributes";

/// A key: a kind (one byte string without NUL) and an id within it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Kind of thing (`host`, `rollout`, `member`, …).
    pub kind: &'static str,
    /// Its id within the kind; sorts as bytes.
    pub id: Vec<u8>,
}

impl Key {
    /// A key whose kind was read from outside the program, as a restore does.
    ///
    /// # Errors
    /// More kinds than a program could know.
    pub fn read(kind: &str, id: Vec<u8>) -> Result<Self, StoreError> {
        let kind = kinds::intern(kind.as_bytes())?;
        Ok(Self { kind, id })
    }
}

/// A value with its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// Sequence number of the commit that wrote it; grows with each write of the key.
    pub version: u64,
    /// The bytes.
    pub value: Vec<u8>,
}

/// A fencing token of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// The lease's name.
    pub name: String,
    /// Grows with each change of holder.
    pub token: u64,
}

/// Everything one commit does, all or nothing.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Makes it idempotent: the same id again answers what the first did. Random, 16 bytes; all
    /// zeros is refused. Only commits that wrote are remembered ([`Bounds::requests`] of them): a
    /// conflict or a lost fence wrote nothing, so asking again decides anew.
    pub request_id: [u8; 16],
    /// Must still be held.
    pub fence: Option<Fence>,
    /// Keys that must have these versions; `None` = must not exist.
    pub checks: Vec<(Key, Option<u64>)>,
    /// Writes.
    pub puts: Vec<(Key, Vec<u8>)>,
    /// Deletions; done after the writes. Deleting what is not there is no error.
    pub deletes: Vec<Key>,
    /// Audit entries (JSON); each gets the next consecutive index and its RFC 6962 leaf hash.
    pub audit: Vec<Vec<u8>>,
    /// Signals: (host, seq, bytes); idempotent by (host, seq): the first stays.
    pub signals: Vec<(u64, u64, Vec<u8>)>,
}

/// How a commit ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// Durable, with its sequence number.
    Ok(u64),
    /// These keys did not have the checked versions; nothing was written.
    Conflict(Vec<Key>),
    /// The fence is no longer held; nothing was written.
    Fenced,
    /// Not known whether it was written: ask again with the same request id.
    Unknown,
}

/// Why the store could not answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk or database failed, or what was asked is refused; nothing was acknowledged.
    #[error("{doing}: {why}; {next}")]
    Failed {
        /// What was being done, to what.
        doing: String,
        /// Why it failed.
        why: String,
        /// What to do next.
        next: &'static str,
    },
    /// What is stored cannot be read.
    #[error("{what} is damaged: {why}; run `ringward-server doctor`")]
    Damaged {
        /// What.
        what: String,
        /// How.
        why: String,
    },
}

/// One change in the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Sequence number of its commit.
    pub seq: u64,
    /// The key written or deleted.
    pub key: Key,
}

/// Answer of the change feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    /// In commit order, without gaps.
    Page(Vec<Change>),
    /// Older changes are gone: list again, then go on after this seq.
    Compacted(u64),
}

/// A stored signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSignal {
    /// Host.
    pub host: u64,
    /// Seq within the host.
    pub seq: u64,
    /// Bytes as given.
    pub value: Vec<u8>,
}

/// A stored audit entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAudit {
    /// Consecutive from 0.
    pub index: u64,
    /// SHA-256(0x00 ‖ entry), RFC 6962 §2.1.
    pub leaf_hash: [u8; 32],
    /// The entry as given.
    pub entry: Vec<u8>,
}

/// Durable state. Every method is safe to call from many tasks; commits are grouped (1-5 ms).
pub trait Store: Send + Sync + 'static {
    /// One value.
    fn get(&self, key: &Key) -> impl Future<Output = Result<Option<Versioned>, StoreError>> + Send;
    /// A page of one kind in key order, after `after` (exclusive), at most `limit`.
    fn list(
        &self,
        kind: &'static str,
        after: Option<&[u8]>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(Key, Versioned)>, StoreError>> + Send;
    /// A page of every kind in order of kind and id, after `after` (exclusive), at most `limit`: what
    /// a backup reads.
    fn list_all(
        &self,
        after: Option<&Key>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(Key, Versioned)>, StoreError>> + Send;
    /// One-shot, all or nothing; answers after it is durable.
    fn commit(&self, batch: Batch) -> impl Future<Output = Result<Committed, StoreError>> + Send;
    /// Bulk idempotent writes (id, value) of host attributes that need no check (last seen, facts),
    /// under the kind [`HOST_ATTRIBUTES`]. They are not in the change feed. Not atomic as a whole.
    fn put_hosts(
        &self,
        hosts: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Bulk idempotent signals (host, seq, bytes): the first of a (host, seq) stays. Not atomic as a
    /// whole: after an error ask again with the same.
    fn add_signals(
        &self,
        signals: Vec<(u64, u64, Vec<u8>)>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// A page of signals: of one host (`Some`) or all, in (host, seq) order after `after`.
    fn signals(
        &self,
        host: Option<u64>,
        after: Option<(u64, u64)>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<StoredSignal>, StoreError>> + Send;
    /// Number of signals, kept with each write: asking costs the same however many there are.
    fn count_signals(&self) -> impl Future<Output = Result<u64, StoreError>> + Send;
    /// A page of audit entries from `from` on.
    fn audit(
        &self,
        from: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<StoredAudit>, StoreError>> + Send;
    /// Changes of the commits after `after`, in commit order without gaps. A page ends with a whole
    /// commit, so it holds more than `limit` when its first commit alone does.
    fn changes(
        &self,
        after: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Changes, StoreError>> + Send;
    /// Resolves when something was committed after the call (lossy: may wake for nothing).
    fn hint(&self) -> impl Future<Output = ()> + Send;
    /// Take or renew a lease; `None` while another holds it. `now_ms` and `ttl_ms` on the store's
    /// own clock of the caller. Renewed in time it keeps its token; taken after its end the token
    /// grows, whoever takes it.
    fn lease(
        &self,
        name: &str,
        holder: &str,
        now_ms: u64,
        ttl_ms: u64,
    ) -> impl Future<Output = Result<Option<Fence>, StoreError>> + Send;
    /// Drop old things of a kind (`signal`, `change`, `request`; `audit` and all else refuse) that
    /// were written by commits with a seq below `before`; answers how many.
    fn trim(
        &self,
        kind: &'static str,
        before: u64,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;
}
