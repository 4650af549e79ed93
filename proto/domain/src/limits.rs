//! Bounds on what either side accepts from the other.

/// Signals in one batch.
pub const SIGNALS_PER_BATCH_MAX: usize = 64;
/// Bytes of a signal's title.
pub const TITLE_BYTES_MAX: usize = 256;
/// Bytes of a signal's evidence (JSON).
pub const EVIDENCE_BYTES_MAX: usize = 4096;
/// Packages one host reports.
pub const PACKAGES_MAX: usize = 64;
/// Bars one host keeps or is told.
pub const BARS_MAX: usize = 256;
/// Labels of one host.
pub const LABELS_MAX: usize = 64;
/// Bytes of a label's or fact's key or value.
pub const LABEL_BYTES_MAX: usize = 128;
/// Bytes of a manifest's payload.
pub const MANIFEST_BYTES_MAX: usize = 16 * 1024;
/// Signatures on one envelope.
pub const SIGNATURES_MAX: usize = 16;
/// Bytes of a bundle, packed.
pub const BUNDLE_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// Hashes of an audit log's consistency proof: one a level of a tree of 2^64 entries, and one more.
pub const AUDIT_PROOF_MAX: usize = 65;
/// Bytes of a reason or note typed by a person.
pub const REASON_BYTES_MAX: usize = 4096;
/// Burned nonces a host remembers; one is burned per refused or expired attempt, and only attempts
/// younger than a grant's life can still be answered.
pub const BURNED_MAX: usize = 32;
/// Committed releases a host remembers as its own signed history.
pub const HISTORY_MAX: usize = 16;
/// Bad boots of a trial after which the guard reverts (DESIGN §6).
pub const BAD_BOOTS_MAX: u32 = 2;
/// Orders that stand for one host at once, and whose progress it reports.
pub const ORDERS_MAX: usize = 8;
/// Entries of a quarantine's allow list.
pub const ALLOW_MAX: usize = 64;
/// Paths pinned on one host.
pub const PINS_MAX: usize = 32;
/// Endorsements of one order.
pub const ENDORSEMENTS_MAX: usize = 4;
/// Hashes that prove a host to be among an order's: one a level of a tree of 2^32 hosts.
pub const TARGET_PROOF_MAX: usize = 33;
/// Ways past its isolation that a host reports.
pub const ESCAPES_MAX: usize = 16;
