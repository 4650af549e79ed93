//! The head of the server's audit log, as hosts keep and check it.

use crate::ids::Sha256;
use serde::{Deserialize, Serialize};

/// Size and root of an audit log: an RFC 6962 Merkle tree over its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    /// Entries in it.
    pub size: u64,
    /// Merkle tree hash over all of them.
    pub root: Sha256,
}

/// A head, with the proof that it only adds to a smaller one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditShown {
    /// The head now.
    pub head: AuditHead,
    /// Size of the log that the proof starts from.
    pub from: u64,
    /// RFC 6962 consistency proof from `from` to the head's size, at most
    /// [`AUDIT_PROOF_MAX`](crate::limits::AUDIT_PROOF_MAX) hashes; empty where `from` is 0, the
    /// head's size, or beyond it.
    pub proof: Vec<Sha256>,
}
