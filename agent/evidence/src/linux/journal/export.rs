//! The journal export format: `NAME=value` lines, binary values with a length, entries parted by an
//! empty line. Lengths are untrusted: nothing is reserved for them.

use super::entry::{Entry, VALUE_BYTES_MAX};
use super::reader::Reader;
use crate::finding::Item;
use crate::source::{Cursor, Source, Step};

/// Longest text line read; longer values are cut, as they are kept to 2 KiB anyway.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// Most unreadable fields named one by one.
const BAD_MAX: u64 = 20;

/// Whether bytes begin like this form.
#[must_use]
pub fn is_export(head: &[u8]) -> bool {
    // An excerpt may begin in the middle of an entry, so any line of the head may tell.
    let mut marks = 0;
    for line in head.split(|&b| b == b'\n').take(400) {
        let name = line.split(|&b| b == b'=').next().unwrap_or(&[]);
        marks += match name {
            b"__CURSOR" if line.starts_with(b"__CURSOR=s=") => 2,
            b"__REALTIME_TIMESTAMP" | b"__MONOTONIC_TIMESTAMP" | b"_BOOT_ID" => 1,
            _ => 0,
        };
    }
    marks >= 2
}

/// Field names: capitals, digits, underscores; at most 64 bytes.
fn is_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name
            .iter()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_')
}

/// Reads a source into a reader; what could not be read comes back.
pub fn read(source: &mut dyn Source, reader: &mut Reader) -> Vec<Item> {
    let mut gaps = Gaps::default();
    let mut cursor = Cursor::new(source);
    let mut line = Vec::new();
    let mut entry = Entry::default();
    loop {
        let offset = cursor.offset();
        match cursor.line(&mut line, LINE_BYTES_MAX) {
            Ok(Step::Line(_)) => {}
            Ok(Step::End) => break,
            Err(error) => {
                gaps.add(&format!("reading failed: {error}"), offset);
                break;
            }
        }
        if line.is_empty() {
            flush(&mut entry, reader);
        } else if let Some(equals) = line.iter().position(|&b| b == b'=') {
            if is_name(&line[..equals]) {
                let name = String::from_utf8_lossy(&line[..equals]).into_owned();
                entry.set(&name, &line[equals + 1..]);
            } else {
                gaps.add("a field name with forbidden characters, skipped", offset);
            }
        } else if is_name(&line) {
            if let Some(gap) = binary(&mut cursor, &line, &mut entry) {
                gaps.add(&gap, offset);
                break;
            }
        } else {
            gaps.add("neither a field nor an entry's end, skipped", offset);
        }
    }
    flush(&mut entry, reader);
    gaps.finish()
}

fn flush(entry: &mut Entry, reader: &mut Reader) {
    if !entry.is_empty() {
        reader.push(entry);
        *entry = Entry::default();
    }
}

/// `NAME\n<length as 8 bytes, little endian><bytes>\n`; what went wrong, where something did.
fn binary(cursor: &mut Cursor<'_>, name: &[u8], entry: &mut Entry) -> Option<String> {
    let mut value = Vec::new();
    match cursor.bytes(&mut value, 8, 8) {
        Ok(true) => {}
        Ok(false) => return Some("cut short inside a length".to_owned()),
        Err(error) => return Some(format!("reading failed: {error}")),
    }
    let length = value
        .first_chunk::<8>()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes));
    match cursor.bytes(&mut value, length, VALUE_BYTES_MAX) {
        Ok(true) => {}
        Ok(false) => return Some(format!("a value of {length} bytes reaches beyond the end")),
        Err(error) => return Some(format!("reading failed: {error}")),
    }
    entry.set(&String::from_utf8_lossy(name), &value);
    let mut end = Vec::new();
    match cursor.line(&mut end, 1) {
        Ok(_) if end.is_empty() => None,
        Ok(_) => Some("a value is longer than its length says".to_owned()),
        Err(error) => Some(format!("reading failed: {error}")),
    }
}

#[derive(Default)]
struct Gaps {
    items: Vec<Item>,
    more: u64,
}

impl Gaps {
    fn add(&mut self, error: &str, offset: u64) {
        if (self.items.len() as u64) < BAD_MAX {
            self.items.push(Item::unreadable(
                &format!("journal export: {error}"),
                offset,
            ));
        } else {
            self.more += 1;
        }
    }

    fn finish(mut self) -> Vec<Item> {
        if self.more > 0 {
            self.items.push(Item::unreadable(
                &format!("journal export: {} further gaps", self.more),
                0,
            ));
        }
        self.items
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beyond_the_end_is_told_and_the_entry_before_it_kept() {
        let mut bytes = b"__CURSOR=s=a;i=1;b=bb\n_BOOT_ID=bb\nMESSAGE\n".to_vec();
        bytes.extend_from_slice(&u64::MAX.to_le_bytes());
        bytes.extend_from_slice(b"x\n");
        let mut reader = Reader::default();
        let gaps = read(&mut bytes.as_slice(), &mut reader);
        assert_eq!(gaps.len(), 1);
        assert!(
            reader
                .finish()
                .iter()
                .any(|item| item.finding().is_some_and(|f| f.kind == "boot"))
        );
    }
}
