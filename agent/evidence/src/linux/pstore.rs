//! Persistent-store dumps: the last kernel messages before a crash, kept by firmware or RAM.
//!
//! A back end splits one dump into records. `Part1` is always the *newest* text; part numbers grow
//! into the past. Three archive layouts exist: one folder a crash named by the record id (ERST), one
//! folder named by ten seconds of time (EFI), and flat files (RAM). All are read the same way:
//! records are put in order by id, a repeated part number begins another dump.

use serde_json::Value;

use super::klog::{KernelLog, Origin};
use crate::finding::{Finding, Item};
use crate::text;

/// Most records of one folder.
pub const RECORDS_MAX: usize = 4_096;
/// Most bytes of one record; the largest back end keeps 1 MiB.
pub const RECORD_BYTES_MAX: usize = 2 * 1024 * 1024;

/// One record of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// File name without folders.
    pub name: &'a str,
    /// Content.
    pub bytes: &'a [u8],
}

/// What a record's file name says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// `efi`, `erst`, `ramoops`, ...
    pub backend: String,
    /// The id, digits only, without leading zeros.
    pub id: String,
    /// Whether the kernel left it compressed (`.enc.z`).
    pub compressed: bool,
}

/// Splits `dmesg-<backend>-<id>[.enc.z]`; `None` for other files.
///
/// ```
/// use ringward_evidence::linux::pstore::parse_name;
/// assert_eq!(parse_name("dmesg-ramoops-0").unwrap().backend, "ramoops");
/// assert!(parse_name("dmesg.txt").is_none());
/// ```
#[must_use]
pub fn parse_name(name: &str) -> Option<Name> {
    let (rest, compressed) = match name.strip_suffix(".enc.z") {
        Some(rest) => (rest, true),
        None => (name, false),
    };
    let at = rest.find("dmesg-")?;
    // Support bundles prefix the original name; a path separator is not part of one.
    let (backend, id) = rest[at + "dmesg-".len()..].rsplit_once('-')?;
    let digits = !id.is_empty() && id.len() <= 24 && id.bytes().all(|b| b.is_ascii_digit());
    (digits && !backend.is_empty() && backend.len() <= 32).then(|| Name {
        backend: backend.to_owned(),
        id: id.trim_start_matches('0').to_owned(),
        compressed,
    })
}

/// The first line of a record: `Panic#2 Part1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heading {
    /// `Panic`, `Oops`, `Emergency`, `Shutdown`, ...
    pub reason: String,
    /// The kernel's count of dumps since boot.
    pub count: u32,
    /// Part of this dump, 1 = newest.
    pub part: u32,
}

/// Splits the heading off a record.
#[must_use]
pub fn heading(bytes: &[u8]) -> (Option<Heading>, &[u8]) {
    let end = bytes.iter().take(80).position(|&b| b == b'\n');
    let Some(end) = end else { return (None, bytes) };
    let parsed = std::str::from_utf8(&bytes[..end]).ok().and_then(|line| {
        let (dump, part) = line.trim().split_once(" Part")?;
        let (reason, count) = dump.split_once('#')?;
        let word =
            !reason.is_empty() && reason.bytes().all(|b| b.is_ascii_alphabetic() || b == b' ');
        word.then_some(Heading {
            reason: reason.to_owned(),
            count: count.trim().parse().ok()?,
            part: part.trim().parse().ok()?,
        })
    });
    match parsed {
        Some(heading) => (Some(heading), &bytes[end + 1..]),
        None => (None, bytes),
    }
}

/// Whether bytes begin like a record.
#[must_use]
pub fn is_record(bytes: &[u8]) -> bool {
    heading(bytes).0.is_some()
}

/// One dump: all records of one crash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dump {
    /// Why the kernel dumped.
    pub reason: Option<String>,
    /// Back end.
    pub backend: String,
    /// Id of the record of the newest part.
    pub record: String,
    /// Parts present, newest first.
    pub parts: Vec<u32>,
    /// Oldest text first, without headings.
    pub text: Vec<u8>,
}

impl Dump {
    /// Part numbers below the highest one that are not there.
    #[must_use]
    pub fn missing(&self) -> Vec<u32> {
        let highest = self.parts.iter().copied().max().unwrap_or(0).min(10_000);
        (1..highest)
            .filter(|part| !self.parts.contains(part))
            .collect()
    }
}

struct Parsed<'a> {
    name: Name,
    heading: Option<Heading>,
    body: &'a [u8],
}

/// Puts the records of one folder together.
#[must_use]
pub fn dumps(records: &[Record<'_>]) -> (Vec<Dump>, Vec<Item>) {
    let mut items = Vec::new();
    let mut parsed = Vec::new();
    for record in records.iter().take(RECORDS_MAX) {
        let name = parse_name(record.name).unwrap_or_else(|| Name {
            backend: "unknown".to_owned(),
            id: String::new(),
            compressed: false,
        });
        if name.compressed {
            let error = format!(
                "pstore record {}: left compressed by the kernel, its dictionary is not known here",
                text::clean(record.name, 80)
            );
            items.push(Item::unreadable(&error, 0));
            continue;
        }
        let bytes = &record.bytes[..record.bytes.len().min(RECORD_BYTES_MAX)];
        let (heading, body) = heading(bytes);
        parsed.push(Parsed {
            name,
            heading,
            body,
        });
    }
    // Ids are decimal numbers of up to 24 digits: longer is larger.
    parsed.sort_by(|a, b| {
        (&a.name.backend, a.name.id.len(), &a.name.id).cmp(&(
            &b.name.backend,
            b.name.id.len(),
            &b.name.id,
        ))
    });
    let mut groups: Vec<Vec<Parsed<'_>>> = Vec::new();
    for record in parsed {
        let group = groups
            .iter_mut()
            .rev()
            .find(|group| same_dump(group, &record));
        match group {
            Some(group) => group.push(record),
            None => groups.push(vec![record]),
        }
    }
    (groups.into_iter().map(join).collect(), items)
}

/// Whether a record belongs to a dump begun before: same back end, reason and count, and a part
/// number not seen yet. Records without a heading stand alone.
fn same_dump(group: &[Parsed<'_>], record: &Parsed<'_>) -> bool {
    let (Some(heading), Some(first)) = (
        &record.heading,
        group.first().and_then(|first| first.heading.as_ref()),
    ) else {
        return false;
    };
    let same = group
        .first()
        .is_some_and(|first| first.name.backend == record.name.backend)
        && first.reason == heading.reason
        && first.count == heading.count;
    let part_taken = group.iter().any(|other| {
        other
            .heading
            .as_ref()
            .is_some_and(|other| other.part == heading.part)
    });
    same && !part_taken && close_in_time(group, record)
}

/// EFI ids begin with the second of writing: parts of one dump lie within seconds of each other.
fn close_in_time(group: &[Parsed<'_>], record: &Parsed<'_>) -> bool {
    if !record.name.backend.starts_with("efi") {
        return true;
    }
    let second = |name: &Name| {
        name.id
            .get(..10)
            .and_then(|second| second.parse::<u64>().ok())
    };
    match (
        group.last().and_then(|last| second(&last.name)),
        second(&record.name),
    ) {
        (Some(before), Some(now)) => now.saturating_sub(before) <= 30,
        _ => true,
    }
}

fn join(mut group: Vec<Parsed<'_>>) -> Dump {
    let part = |record: &Parsed<'_>| record.heading.as_ref().map_or(1, |heading| heading.part);
    group.sort_by_key(|record| part(record));
    let newest = group.first();
    let mut dump = Dump {
        reason: newest
            .and_then(|record| record.heading.as_ref())
            .map(|heading| heading.reason.clone()),
        backend: newest.map_or_else(String::new, |record| record.name.backend.clone()),
        record: newest.map_or_else(String::new, |record| record.name.id.clone()),
        parts: group.iter().map(part).collect(),
        text: Vec::new(),
    };
    for record in group.iter().rev() {
        dump.text.extend_from_slice(record.body);
        if !record.body.ends_with(b"\n") {
            dump.text.push(b'\n');
        }
    }
    dump
}

/// Reads the records of one folder: the findings of each dump, with the record in their evidence.
#[must_use]
pub fn read(records: &[Record<'_>]) -> Vec<Item> {
    let (dumps, mut items) = dumps(records);
    for dump in dumps {
        items.extend(read_dump(&dump));
    }
    items
}

/// Reads one dump put together.
#[must_use]
pub fn read_dump(dump: &Dump) -> Vec<Item> {
    let facts: Vec<(&'static str, Value)> = vec![
        ("pstore_backend", dump.backend.clone().into()),
        ("pstore_record", dump.record.clone().into()),
        ("pstore_reason", dump.reason.clone().into()),
        ("pstore_parts", dump.parts.len().into()),
        ("pstore_parts_missing", dump.missing().into()),
    ];
    let mut log = KernelLog::new(Origin {
        facts: facts.clone(),
    });
    for line in dump.text.split(|&b| b == b'\n') {
        log.push(line);
    }
    log.finish();
    let mut items = log.take();
    let panic = dump.reason.as_deref() == Some("Panic");
    // Old kernels dump before they print the word "panic": the last report is what the dump is of.
    let told = |finding: &Finding| {
        finding.evidence.contains_key("hash")
            && (!panic || finding.evidence["panicked"] == Value::Bool(true))
    };
    if !items
        .iter_mut()
        .filter_map(finding_mut)
        .any(|finding| told(finding))
    {
        let last = items
            .iter_mut()
            .filter_map(finding_mut)
            .rfind(|finding| finding.evidence.contains_key("hash"));
        match last {
            Some(last) => {
                last.evidence.insert("panicked".to_owned(), panic.into());
            }
            None => items.extend(bare(dump, facts).map(Item::from)),
        }
    }
    items
}

fn finding_mut(item: &mut Item) -> Option<&mut Finding> {
    match item {
        Item::Finding(finding) => Some(finding),
        Item::Unreadable(_) => None,
    }
}

/// The dump says "panic" and its text lost the report: that there was one is still a fact.
fn bare(dump: &Dump, facts: Vec<(&'static str, Value)>) -> Option<Finding> {
    let (kind, title) = match dump.reason.as_deref()? {
        "Panic" => ("kernel-panic", "kernel panic: the dump holds no report"),
        "Oops" => ("kernel-oops", "Oops: the dump holds no report"),
        _ => return None,
    };
    let key = format!("pstore:{}:{}", dump.backend, dump.record);
    Some(
        facts
            .into_iter()
            .fold(Finding::new(kind, &key, title), |finding, (name, value)| {
                finding.with(name, value)
            }),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn record<'a>(name: &'a str, bytes: &'a str) -> Record<'a> {
        Record {
            name,
            bytes: bytes.as_bytes(),
        }
    }

    #[test]
    fn the_first_part_is_the_newest() {
        let records = [
            record("dmesg-efi-179541118401001", "Panic#1 Part1\nnew\n"),
            record("dmesg-efi-179541118402001", "Panic#1 Part2\nold\n"),
        ];
        let (dumps, items) = dumps(&records);
        assert_eq!((dumps.len(), items.len()), (1, 0));
        assert_eq!(dumps[0].text, b"old\nnew\n");
        assert_eq!(dumps[0].parts, [1, 2]);
    }

    #[test]
    fn a_repeated_part_begins_another_dump() {
        let records = [
            record("dmesg-erst-7711229732582326273", "Panic#1 Part1\na\n"),
            record("dmesg-erst-7711229732582326274", "Panic#1 Part2\nb\n"),
            record("dmesg-erst-7711229839956508673", "Panic#1 Part1\nc\n"),
        ];
        let texts: Vec<Vec<u8>> = dumps(&records)
            .0
            .into_iter()
            .map(|dump| dump.text)
            .collect();
        assert_eq!(texts, [b"b\na\n".to_vec(), b"c\n".to_vec()]);
    }

    #[test]
    fn missing_parts_are_told() {
        let records = [
            record("dmesg-efi-1", "Panic#1 Part1\n"),
            record("dmesg-efi-4", "Panic#1 Part4\n"),
        ];
        assert_eq!(dumps(&records).0[0].missing(), [2, 3]);
    }

    #[test]
    fn a_panic_without_a_report_is_still_a_panic() {
        let items = read(&[record("dmesg-efi-1", "Panic#1 Part1\n\0\0\0")]);
        assert_eq!(items[0].finding().unwrap().kind, "kernel-panic");
    }

    #[test]
    fn compressed_records_are_named_not_guessed() {
        let items = read(&[record("dmesg-efi-12.enc.z", "x")]);
        assert!(matches!(&items[..], [Item::Unreadable(_)]));
    }
}
