//! A batch checked and hashed on its caller's thread, so that the writer only decides and writes.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use crate::limits::{ITEM_BYTES, MAX_COMMIT_BYTES, MAX_ID_BYTES, MAX_KIND_BYTES};
use crate::{Batch, Key, StoreError};

/// A batch within its limits, with the leaf hash of each audit entry.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// As given.
    pub batch: Batch,
    /// One for each of `batch.audit`.
    pub leaf_hashes: Vec<[u8; 32]>,
}

/// SHA-256(0x00 ‖ entry), RFC 6962 §2.1.
pub(crate) fn leaf_hash(entry: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update([0])
        .chain_update(entry)
        .finalize()
        .into()
}

impl Prepared {
    /// Checks a batch against the limits.
    pub fn new(batch: Batch) -> Result<Self, StoreError> {
        if batch.request_id == [0; 16] {
            return Err(refused(
                "its request id is all zeros",
                "give each commit a random request id",
            ));
        }
        let checked = batch.checks.iter().map(|(key, _)| key);
        let keys = checked
            .chain(batch.puts.iter().map(|(key, _)| key))
            .chain(&batch.deletes);
        let mut bytes = 0;
        for key in keys {
            check_key(key.kind, &key.id)?;
            bytes += ITEM_BYTES + key.kind.len() + key.id.len();
        }
        let values = batch.puts.iter().map(|(_, value)| value);
        let signals = batch.signals.iter().map(|(_, _, value)| value);
        for value in values.chain(&batch.audit).chain(signals) {
            bytes += ITEM_BYTES + value.len();
        }
        if bytes > MAX_COMMIT_BYTES {
            return Err(refused(
                &format!("it holds {bytes} bytes of at most {MAX_COMMIT_BYTES}"),
                "split it into several commits",
            ));
        }
        let leaf_hashes = batch.audit.iter().map(|entry| leaf_hash(entry)).collect();
        Ok(Self { batch, leaf_hashes })
    }

    /// The keys it writes or deletes, each once, in key order.
    pub fn changed(&self) -> BTreeSet<&Key> {
        let puts = self.batch.puts.iter().map(|(key, _)| key);
        puts.chain(&self.batch.deletes).collect()
    }
}

/// Refuses keys that could not be stored apart from others.
pub(crate) fn check_key(kind: &str, id: &[u8]) -> Result<(), StoreError> {
    let next = "use a shorter key without NUL in its kind";
    if kind.is_empty() || kind.len() > MAX_KIND_BYTES || kind.contains('\0') {
        return Err(refused(
            &format!("the kind {kind:?} is not 1 to {MAX_KIND_BYTES} bytes without NUL"),
            next,
        ));
    }
    if id.len() > MAX_ID_BYTES {
        return Err(refused(
            &format!(
                "an id of kind {kind} has {} bytes of at most {MAX_ID_BYTES}",
                id.len()
            ),
            next,
        ));
    }
    Ok(())
}

/// Refuses a single value of a bulk write that no commit could hold.
pub(crate) fn check_value(what: &str, value: &[u8]) -> Result<(), StoreError> {
    if value.len() + ITEM_BYTES + MAX_ID_BYTES > MAX_COMMIT_BYTES {
        return Err(refused(
            &format!("{what} has {} bytes", value.len()),
            "keep a value below 1 MiB",
        ));
    }
    Ok(())
}

/// What `trim` answers for a kind it does not trim.
pub(crate) fn refuse_trim(kind: &str) -> StoreError {
    let why = match kind {
        "audit" => "the audit log is never trimmed",
        _ => "only `signal`, `change` and `request` are trimmed",
    };
    StoreError::Failed {
        doing: format!("trimming `{kind}`"),
        why: why.into(),
        next: "trim another kind",
    }
}

fn refused(why: &str, next: &'static str) -> StoreError {
    StoreError::Failed {
        doing: "checking a commit".into(),
        why: why.into(),
        next,
    }
}
