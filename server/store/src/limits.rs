//! Bounds of what is stored and of what one commit may carry.

/// Largest commit, counting keys, values, audit entries, signals and 32 bytes for each item.
/// Half a sled segment (2 MiB): a batch that spans more than two segments could be torn by a crash
/// after the segments it replaces were reused.
pub const MAX_COMMIT_BYTES: usize = 1 << 20;

/// Longest id within a kind. sled's index pages hold up to 256 keys and must stay small enough to
/// live in the log (a quarter of a segment); larger ones become side files it never syncs.
pub const MAX_ID_BYTES: usize = 256;

/// Longest kind.
pub const MAX_KIND_BYTES: usize = 64;

/// What one item costs beside its bytes, in the sum held against [`MAX_COMMIT_BYTES`].
pub(crate) const ITEM_BYTES: usize = 32;

/// How much a store remembers before it drops the oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Request ids of commits that wrote (about 64 bytes of memory each).
    pub requests: usize,
    /// Changes in the feed; the newest commit always stays whole.
    pub changes: usize,
}

impl Default for Bounds {
    /// 65,536 request ids: a minute at 1,000 commits/s, far beyond any retry. 131,072 changes.
    fn default() -> Self {
        Self {
            requests: 1 << 16,
            changes: 1 << 17,
        }
    }
}
