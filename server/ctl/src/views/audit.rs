//! The audit log as people read it.

use super::table;
use crate::words::{clean, count, short, time};
use serde::Serialize;

/// One entry, taken apart as far as it can be read.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// Consecutive from 0.
    pub index: u64,
    /// The entry as it was hashed; its text where it is no JSON.
    pub entry: serde_json::Value,
}

impl Entry {
    /// Takes an entry apart.
    #[must_use]
    pub fn read(index: u64, text: &str) -> Self {
        let entry = serde_json::from_str(text).unwrap_or_else(|_| text.into());
        Self { index, entry }
    }

    fn text(&self, field: &str) -> &str {
        self.entry
            .get(field)
            .and_then(serde_json::Value::as_str)
            .unwrap_or_default()
    }
}

/// A listing.
#[must_use]
pub fn list(entries: &[Entry], size: u64) -> String {
    if entries.is_empty() {
        return format!(
            "No entry here; the log has {}.\n",
            count(size, "entry", "entries")
        );
    }
    let rows = entries
        .iter()
        .map(|entry| {
            let at = entry.entry.get("at_unix_ms");
            vec![
                entry.index.to_string(),
                time(at.and_then(serde_json::Value::as_u64).unwrap_or_default()),
                short(entry.text("actor"), 24),
                clean(entry.text("action")),
                short(entry.text("object"), 40),
                short(entry.text("reason"), 60),
            ]
        })
        .collect();
    table(
        &["INDEX", "TIME", "ACTOR", "ACTION", "OBJECT", "REASON"],
        rows,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_is_no_json_is_shown_all_the_same() {
        let entries = [
            Entry::read(
                7,
                r#"{"at_unix_ms":0,"actor":"ada","action":"token create","object":"x","reason":"y"}"#,
            ),
            Entry::read(8, "\u{1b}[2J"),
        ];
        let text = list(&entries, 9);
        assert!(
            text.contains("token create") && text.contains("ada"),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'));
        assert!(list(&[], 9).contains("9 entries"));
    }
}
