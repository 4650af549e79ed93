//! What a collector has told before, kept over restarts of the agent: one line an entry.

use crate::marker::{read_small, write_durably};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Most entries kept; with more the oldest names go, and at worst something is told twice, which its
/// key makes harmless.
const ENTRIES_MAX: usize = 4096;

/// A set of lines in a file of the state folder.
#[derive(Debug)]
pub(crate) struct Seen {
    path: PathBuf,
    entries: BTreeSet<String>,
    is_first: bool,
}

impl Seen {
    /// What was kept under this name; unreadable counts as nothing.
    pub(crate) fn open(root: &Path, name: &str) -> Self {
        let path = root.join(name);
        let text = read_small(&path).ok().flatten();
        Self {
            is_first: text.is_none(),
            entries: text
                .iter()
                .flat_map(|text| text.lines())
                .take(ENTRIES_MAX)
                .map(str::to_owned)
                .collect(),
            path,
        }
    }

    /// Whether nothing was ever kept: what is there now was there before the agent.
    pub(crate) fn is_first(&self) -> bool {
        self.is_first
    }

    pub(crate) fn has(&self, entry: &str) -> bool {
        self.entries.contains(entry)
    }

    /// The first entry that begins so.
    #[cfg_attr(
        windows,
        allow(dead_code, reason = "asked by the reader of the kernel log")
    )]
    pub(crate) fn first_with(&self, prefix: &str) -> Option<&str> {
        self.entries
            .iter()
            .map(String::as_str)
            .find(|entry| entry.starts_with(prefix))
    }

    /// Keeps these entries instead; written only where something changed.
    pub(crate) fn keep(&mut self, entries: BTreeSet<String>) {
        if !self.is_first && entries == self.entries {
            return;
        }
        self.is_first = false;
        self.entries = entries.into_iter().take(ENTRIES_MAX).collect();
        let lines: String = self
            .entries
            .iter()
            .map(|entry| format!("{entry}\n"))
            .collect();
        if let Err(error) = write_durably(&self.path, lines.as_bytes()) {
            tracing::warn!(%error, "what was told is not remembered, and told again after a restart");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_told_is_remembered_over_a_restart() {
        let root = tempfile::tempdir().unwrap();
        let mut seen = Seen::open(root.path(), "seen");
        assert!(seen.is_first());
        seen.keep(["a".to_owned()].into());
        let seen = Seen::open(root.path(), "seen");
        assert!(!seen.is_first() && seen.has("a") && !seen.has("b"));
    }
}
