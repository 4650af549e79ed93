//! Journal files as systemd writes them, read by one pass over their objects.
//!
//! Objects lie one behind another, so the pass needs neither hash tables nor entry arrays: their
//! offsets, which crafted files turn into circles, are never followed. An entry names its fields by
//! offset; small fields of interest are remembered on the way, messages are fetched when an entry of
//! interest asks for them. Where an object is broken the pass goes on at the next plausible one.

use std::collections::BTreeMap;

use super::entry::{Entry, FIELDS, VALUE_BYTES_MAX, ids};
use super::reader::Reader;
use crate::finding::Item;
use crate::source::Source;
use crate::text;

/// First bytes of a journal file.
pub const MAGIC: &[u8; 8] = b"LPKSHHRH";

const HEADER_BYTES_MIN: u64 = 208;
const OBJECT_BYTES: u64 = 16;
const DATA: u8 = 1;
const ENTRY: u8 = 3;
/// Largest object of a kind we skip or read: a core dump of 768 MiB is the largest systemd stores.
const OBJECT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Most field objects remembered, and most bytes of their values.
const KEPT_MAX: usize = 100_000;
const KEPT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most offsets remembered of fields nobody wants: 4 MiB.
const IDLE_MAX: usize = 512 * 1024;
/// Most values fetched out of order in one file: a crafted one could ask for the same ones for ever.
const FETCHES_MAX: usize = 300_000;
/// Most fields of one entry looked at.
const ITEMS_MAX: usize = 256;
/// Most broken places named one by one.
const BAD_MAX: u64 = 20;
/// Most broken places in a file before the rest is given up.
const BROKEN_MAX: u64 = 10_000;
/// Most bytes of one object read at once.
const READ_BYTES_MAX: usize = 8 * 1024;
/// Bytes read ahead.
const WINDOW_BYTES: usize = 64 * 1024;

/// Flags of an object: how its value is compressed.
const XZ: u8 = 1;
const LZ4: u8 = 2;
const ZSTD: u8 = 4;

/// What the header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Id of the sequence the entries count in.
    pub sequence: String,
    /// Number of the first entry.
    pub seqnum_first: u64,
    header_bytes: u64,
    compact: bool,
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..at + 8)
        .and_then(|bytes| bytes.first_chunk::<8>())
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Reads the header; `None` where it is none.
#[must_use]
pub fn header(bytes: &[u8]) -> Option<Header> {
    let header_bytes = u64_at(bytes, 88);
    let plausible = bytes.starts_with(MAGIC)
        && bytes.len() as u64 >= HEADER_BYTES_MIN
        && (HEADER_BYTES_MIN..=4_096).contains(&header_bytes);
    plausible.then(|| Header {
        sequence: text::hex(&bytes[72..88]),
        seqnum_first: u64_at(bytes, 168),
        header_bytes,
        compact: bytes[12] & 16 != 0,
    })
}

/// A window over a source that is read nearly in order.
struct Window<'a> {
    source: &'a mut dyn Source,
    bytes: Vec<u8>,
    base: u64,
}

impl Window<'_> {
    /// Up to `length` bytes at `offset`; fewer at the end or where the medium fails.
    fn get(&mut self, offset: u64, length: usize) -> &[u8] {
        let inside =
            offset >= self.base && offset + length as u64 <= self.base + self.bytes.len() as u64;
        if !inside {
            self.base = offset;
            self.bytes.resize(WINDOW_BYTES.max(length), 0);
            let read = self.source.read_at(offset, &mut self.bytes).unwrap_or(0);
            self.bytes.truncate(read);
        }
        let start = usize::try_from(offset - self.base)
            .unwrap_or(usize::MAX)
            .min(self.bytes.len());
        let end = start.saturating_add(length).min(self.bytes.len());
        &self.bytes[start..end]
    }
}

struct Object {
    kind: u8,
    flags: u8,
    bytes: u64,
}

/// Reads a source into a reader; what could not be read comes back.
pub fn read(source: &mut dyn Source, reader: &mut Reader) -> Vec<Item> {
    let size = source.size();
    let mut head = vec![0; 512];
    let length = source.read_at(0, &mut head).unwrap_or(0);
    let Some(header) = header(&head[..length]) else {
        return vec![Item::unreadable("journal file: the header is none", 0)];
    };
    let mut fetcher = Window {
        source,
        bytes: Vec::new(),
        base: 0,
    };
    let mut walk = Walk {
        header: &header,
        kept: BTreeMap::new(),
        kept_bytes: 0,
        idle: Vec::new(),
        items: Vec::new(),
        broken: 0,
        fetches: 0,
        last_seqnum: None,
    };
    let mut offset = header.header_bytes.next_multiple_of(8);
    while offset + OBJECT_BYTES <= size {
        let Some(object) = walk.object(&mut fetcher, offset, size) else {
            // Unwritten space at the end is zero; anything else is damage.
            match walk.next_plausible(&mut fetcher, offset, size) {
                Some(next) => offset = next,
                None => break,
            }
            continue;
        };
        match object.kind {
            DATA => walk.data(&mut fetcher, offset, &object),
            ENTRY => walk.entry(&mut fetcher, offset, &object, reader),
            _ => {}
        }
        offset = (offset + object.bytes).next_multiple_of(8);
    }
    walk.finish()
}

struct Walk<'h> {
    header: &'h Header,
    /// Field objects of interest by offset; messages are not among them.
    kept: BTreeMap<u64, (&'static str, String)>,
    kept_bytes: usize,
    /// Offsets of fields nobody wants, ascending as the pass goes: they need no second look.
    idle: Vec<u64>,
    items: Vec<Item>,
    broken: u64,
    fetches: usize,
    last_seqnum: Option<u64>,
}

impl Walk<'_> {
    fn object(&self, window: &mut Window<'_>, offset: u64, size: u64) -> Option<Object> {
        let head = window.get(offset, 16);
        if head.len() < 16 {
            return None;
        }
        let object = Object {
            kind: head[0],
            flags: head[1],
            bytes: u64_at(head, 8),
        };
        let minimum = match object.kind {
            DATA | ENTRY => 64,
            1..=7 => OBJECT_BYTES + 1,
            _ => return None,
        };
        let plausible = object.flags <= ZSTD
            && head[2..8].iter().all(|&b| b == 0)
            && (minimum..=OBJECT_BYTES_MAX).contains(&object.bytes)
            && offset
                .checked_add(object.bytes)
                .is_some_and(|end| end <= size);
        plausible.then_some(object)
    }

    /// The next object behind a broken place, telling of the gap unless it is the empty tail.
    fn next_plausible(&mut self, window: &mut Window<'_>, from: u64, size: u64) -> Option<u64> {
        let mut offset = from + 8;
        let mut damaged = window.get(from, 16).iter().any(|&b| b != 0);
        let found = loop {
            if offset + OBJECT_BYTES > size {
                break None;
            }
            let word = window.get(offset, 8);
            if word.iter().all(|&b| b == 0) {
                offset += 8;
                continue;
            }
            damaged = true;
            if self.object(window, offset, size).is_some() {
                break Some(offset);
            }
            offset += 8;
        };
        if damaged {
            self.gap(&format!("no object for {} bytes", offset - from), from);
        }
        found.filter(|_| self.broken < BROKEN_MAX)
    }

    fn gap(&mut self, error: &str, offset: u64) {
        self.broken += 1;
        if self.broken <= BAD_MAX {
            self.items
                .push(Item::unreadable(&format!("journal file: {error}"), offset));
        }
    }

    fn payload_offset(&self) -> u64 {
        if self.header.compact { 72 } else { 64 }
    }

    /// The value of a field object, decompressed, cut to what is kept.
    fn value(
        &self,
        window: &mut Window<'_>,
        offset: u64,
        object: &Object,
    ) -> Result<Vec<u8>, &'static str> {
        let start = self.payload_offset();
        let length = object.bytes.saturating_sub(start);
        let kept = usize::try_from(length)
            .unwrap_or(usize::MAX)
            .min(READ_BYTES_MAX);
        let raw = window.get(offset + start, kept);
        match object.flags {
            0 => Ok(raw[..raw.len().min(VALUE_BYTES_MAX + 64)].to_vec()),
            ZSTD => zstd(raw),
            LZ4 => lz4(raw),
            XZ => Err("a value compressed with XZ, which is not read here"),
            _ => Err("a value with two compressions at once"),
        }
    }

    /// Remembers small fields of interest.
    fn data(&mut self, window: &mut Window<'_>, offset: u64, object: &Object) {
        if object.flags != 0 || object.bytes > 1_024 {
            return;
        }
        let Ok(value) = self.value(window, offset, object) else {
            return;
        };
        let Some((name, value)) = split(&value) else {
            self.idle(offset);
            return;
        };
        let wanted =
            name != "MESSAGE" && (name != "MESSAGE_ID" || ids::ALL.contains(&value.as_str()));
        if wanted && self.kept.len() < KEPT_MAX && self.kept_bytes + value.len() <= KEPT_BYTES_MAX {
            self.kept_bytes += value.len();
            self.kept.insert(offset, (name, value));
        } else if name == "MESSAGE_ID" {
            self.idle(offset);
        }
    }

    fn idle(&mut self, offset: u64) {
        if self.idle.len() < IDLE_MAX && self.idle.last().is_none_or(|&last| last < offset) {
            self.idle.push(offset);
        }
    }

    fn entry(
        &mut self,
        window: &mut Window<'_>,
        offset: u64,
        object: &Object,
        reader: &mut Reader,
    ) {
        let width = if self.header.compact { 4 } else { 16 };
        let length = usize::try_from(object.bytes)
            .unwrap_or(usize::MAX)
            .min(64 + ITEMS_MAX * width);
        let raw = window.get(offset, length).to_vec();
        if raw.len() < 64 {
            return;
        }
        let mut entry = Entry {
            sequence: self.header.sequence.clone(),
            seqnum: Some(u64_at(&raw, 16)),
            realtime_us: Some(u64_at(&raw, 24)),
            monotonic_us: Some(u64_at(&raw, 32)),
            boot_id: text::hex(&raw[40..56]),
            ..Entry::default()
        };
        if raw[40..56].iter().all(|&b| b == 0) || entry.seqnum == Some(0) {
            self.gap("an entry without a boot, skipped", offset);
            return;
        }
        // Entries found again inside damage would be told twice.
        if self
            .last_seqnum
            .is_some_and(|last| entry.seqnum.is_some_and(|now| now <= last))
        {
            self.gap("an entry out of sequence, skipped", offset);
            return;
        }
        self.last_seqnum = entry.seqnum;
        let mut unknown = Vec::new();
        for item in raw[64..].chunks_exact(width) {
            let at = if width == 4 {
                item.first_chunk::<4>()
                    .map_or(0, |bytes| u64::from(u32::from_le_bytes(*bytes)))
            } else {
                u64_at(item, 0)
            };
            match self.kept.get(&at) {
                Some((name, value)) => entry.set(name, value.as_bytes()),
                None if self.idle.binary_search(&at).is_ok() => {}
                None => unknown.push(at),
            }
        }
        let wanted = entry.get("_TRANSPORT") == Some("kernel")
            || entry
                .get("MESSAGE_ID")
                .is_some_and(|id| ids::ALL.contains(&id));
        if wanted {
            self.fetch(window, &unknown, &mut entry);
        }
        reader.push(&entry);
    }

    /// Reads the fields of an entry of interest that were not remembered.
    fn fetch(&mut self, window: &mut Window<'_>, offsets: &[u64], entry: &mut Entry) {
        let size = window.source.size();
        // A second window would thrash the first: single reads are small and rare.
        for &at in offsets {
            if at % 8 != 0 || at < self.header.header_bytes {
                continue;
            }
            self.fetches += 1;
            if self.fetches > FETCHES_MAX {
                if self.fetches == FETCHES_MAX + 1 {
                    self.gap(
                        "more messages than are read of one file, the rest is left out",
                        at,
                    );
                }
                return;
            }
            let mut far = Window {
                source: &mut *window.source,
                bytes: Vec::new(),
                base: 0,
            };
            let Some(object) = self.object_exact(&mut far, at, size) else {
                continue;
            };
            match self.value_exact(&mut far, at, &object) {
                Ok(value) => {
                    if let Some((name, value)) = split(&value) {
                        entry.set(name, value.as_bytes());
                    }
                }
                Err(error) => self.gap(error, at),
            }
        }
    }

    fn object_exact(&self, window: &mut Window<'_>, offset: u64, size: u64) -> Option<Object> {
        let mut head = [0_u8; 16];
        if window.source.read_at(offset, &mut head).ok()? < 16 {
            return None;
        }
        window.base = offset;
        window.bytes = head.to_vec();
        self.object(window, offset, size)
            .filter(|object| object.kind == DATA)
    }

    fn value_exact(
        &self,
        window: &mut Window<'_>,
        offset: u64,
        object: &Object,
    ) -> Result<Vec<u8>, &'static str> {
        let length = usize::try_from(object.bytes)
            .unwrap_or(usize::MAX)
            .min(READ_BYTES_MAX + 72);
        let mut bytes = vec![0; length];
        let read = window.source.read_at(offset, &mut bytes).unwrap_or(0);
        bytes.truncate(read);
        window.base = offset;
        window.bytes = bytes;
        self.value(window, offset, object)
    }

    fn finish(mut self) -> Vec<Item> {
        if self.broken > BAD_MAX {
            let error = format!(
                "journal file: {} further broken places",
                self.broken - BAD_MAX
            );
            self.items.push(Item::unreadable(&error, 0));
        }
        self.items
    }
}

/// `NAME=value` of a field of interest.
fn split(value: &[u8]) -> Option<(&'static str, String)> {
    let equals = value.iter().take(64).position(|&b| b == b'=')?;
    let name = FIELDS
        .iter()
        .find(|name| name.as_bytes() == &value[..equals])?;
    let rest = &value[equals + 1..];
    Some((
        name,
        String::from_utf8_lossy(&rest[..rest.len().min(VALUE_BYTES_MAX)]).into_owned(),
    ))
}

/// Largest window a zstd frame may ask for; systemd writes 2 MiB at most.
pub(crate) const ZSTD_WINDOW_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// The memory a zstd frame asks its reader for (RFC 8878, 3.1.1.1).
pub(crate) fn zstd_window_bytes(raw: &[u8]) -> Option<u64> {
    let descriptor = *raw.get(4)?;
    if descriptor & 0x20 == 0 {
        let window = *raw.get(5)?;
        let base = 1_u64 << (10 + (window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    // A single segment: the window is the content, whose size follows the dictionary id.
    let at = 5 + [0, 1, 2, 4][usize::from(descriptor & 3)];
    let width = [1, 2, 4, 8][usize::from(descriptor >> 6)];
    let mut wide = [0_u8; 8];
    wide[..width].copy_from_slice(raw.get(at..at + width)?);
    Some(u64::from_le_bytes(wide))
}

/// The beginning of a zstd frame's content.
fn zstd(raw: &[u8]) -> Result<Vec<u8>, &'static str> {
    use ruzstd::decoding::StreamingDecoder;
    use ruzstd::io::Read;
    if zstd_window_bytes(raw).is_none_or(|bytes| bytes > ZSTD_WINDOW_BYTES_MAX) {
        return Err("a zstd value that asks for more than 8 MiB");
    }
    let mut decoder = StreamingDecoder::new(raw).map_err(|_| "a zstd value with a broken frame")?;
    let mut out = vec![0; VALUE_BYTES_MAX + 64];
    let mut filled = 0;
    while filled < out.len() {
        match decoder.read(&mut out[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            // The object was cut to its beginning: what came out so far is right.
            Err(_) if filled > 0 => break,
            Err(_) => return Err("a zstd value with broken content"),
        }
    }
    out.truncate(filled);
    Ok(out)
}

/// Largest LZ4 value decompressed; the length stands before the data and is untrusted.
const LZ4_BYTES_MAX: u64 = 256 * 1024;

fn lz4(raw: &[u8]) -> Result<Vec<u8>, &'static str> {
    let length = u64_at(raw, 0);
    if length > LZ4_BYTES_MAX || raw.len() < 8 {
        return Err("an LZ4 value longer than 256 KiB");
    }
    let length = usize::try_from(length).unwrap_or(0);
    lz4_flex::block::decompress(&raw[8..], length).map_err(|_| "an LZ4 value with broken content")
}
