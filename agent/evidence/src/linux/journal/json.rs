//! `journalctl -o json`: one object a line.

use serde_json::Value;

use super::entry::Entry;
use super::reader::Reader;
use crate::finding::Item;
use crate::source::{Cursor, Source, Step};

/// Longest line read. A core dump inside an entry is longer and not needed.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;
/// Most unreadable lines named one by one.
const BAD_MAX: u64 = 20;

/// One line to an entry; `None` where it is no journal entry.
#[must_use]
pub fn entry(line: &[u8]) -> Option<Entry> {
    let Ok(Value::Object(object)) = serde_json::from_slice(line) else {
        return None;
    };
    let mut entry = Entry::default();
    for (name, value) in &object {
        match value {
            Value::String(text) => entry.set(name, text.as_bytes()),
            Value::Number(number) => entry.set(name, number.to_string().as_bytes()),
            Value::Array(values) => array(&mut entry, name, values),
            _ => {}
        }
    }
    (!entry.is_empty()).then_some(entry)
}

/// Binary values come as an array of bytes, repeated fields as an array of values: the first counts.
fn array(entry: &mut Entry, name: &str, values: &[Value]) {
    let bytes: Option<Vec<u8>> = values
        .iter()
        .map(|value| value.as_u64().and_then(|byte| u8::try_from(byte).ok()))
        .collect();
    match (bytes, values.first()) {
        (Some(bytes), _) if !bytes.is_empty() => entry.set(name, &bytes),
        (_, Some(Value::String(text))) => entry.set(name, text.as_bytes()),
        _ => {}
    }
}

/// Whether bytes begin like this form.
#[must_use]
pub fn is_json(head: &[u8]) -> bool {
    let line = head
        .split(|&b| b == b'\n')
        .find(|line| !line.is_empty())
        .unwrap_or(&[]);
    line.starts_with(b"{")
        && [
            "\"__REALTIME_TIMESTAMP\"",
            "\"__MONOTONIC_TIMESTAMP\"",
            "\"_BOOT_ID\"",
            "\"__CURSOR\"",
        ]
        .iter()
        .any(|name| {
            head.windows(name.len())
                .any(|window| window == name.as_bytes())
        })
}

/// Reads a source into a reader; what could not be read comes back.
pub fn read(source: &mut dyn Source, reader: &mut Reader) -> Vec<Item> {
    let mut items = Vec::new();
    let mut bad = 0_u64;
    let mut cursor = Cursor::new(source);
    let mut line = Vec::new();
    loop {
        let offset = cursor.offset();
        let cut = match cursor.line(&mut line, LINE_BYTES_MAX) {
            Ok(Step::Line(cut)) => cut,
            Ok(Step::End) => break,
            Err(error) => {
                items.push(Item::unreadable(
                    &format!("journal lines: reading failed: {error}"),
                    offset,
                ));
                break;
            }
        };
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match entry(&line) {
            Some(entry) => reader.push(&entry),
            None => {
                bad += 1;
                if bad <= BAD_MAX {
                    let why = if cut {
                        "longer than 1 MiB"
                    } else {
                        "no journal entry"
                    };
                    items.push(Item::unreadable(
                        &format!("journal line: {why}, skipped"),
                        offset,
                    ));
                }
            }
        }
    }
    if bad > BAD_MAX {
        items.push(Item::unreadable(
            &format!("journal lines: {} further ones skipped", bad - BAD_MAX),
            0,
        ));
    }
    items
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn binary_and_repeated_values_are_read() {
        let entry = entry(br#"{"_BOOT_ID":"ab","MESSAGE":[104,105],"_PID":["1","2"],"OTHER":"x"}"#)
            .unwrap();
        assert_eq!(
            (entry.get("MESSAGE"), entry.get("_PID"), entry.fields.len()),
            (Some("hi"), Some("1"), 3)
        );
    }

    #[test]
    fn the_cursor_gives_the_order() {
        let entry = entry(br#"{"__CURSOR":"s=ff;i=1a;b=cc;m=1;t=2;x=3"}"#).unwrap();
        assert_eq!(
            (
                entry.seqnum,
                entry.sequence.as_str(),
                entry.boot_id.as_str()
            ),
            (Some(26), "ff", "cc")
        );
    }
}
