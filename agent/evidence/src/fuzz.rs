//! Every Linux parser behind one signature, for fuzzers and robustness tests.

use crate::finding::Item;
use crate::linux::{bootloader, journal, klog, pstore, units, wtmp};

/// A parser that is fed any bytes; it may neither panic nor run away. What it found comes back, so that
/// a fuzzer can tell inputs apart.
pub type Target = fn(&[u8]) -> Vec<Item>;

/// Name and entry point of every Linux parser; those of Windows are fuzzed through [`crate::windows::read`].
pub const TARGETS: &[(&str, Target)] = &[
    ("klog", klog::read),
    ("pstore", pstore_records),
    ("wtmp", wtmp::read),
    ("journal-json", |mut bytes| {
        let mut reader = journal::Reader::default();
        let mut items = journal::json::read(&mut bytes, &mut reader);
        items.extend(reader.finish());
        items
    }),
    ("journal-export", |mut bytes| {
        let mut reader = journal::Reader::default();
        let mut items = journal::export::read(&mut bytes, &mut reader);
        items.extend(reader.finish());
        items
    }),
    ("journal-file", |mut bytes| {
        let mut reader = journal::Reader::default();
        let mut items = journal::file::read(&mut bytes, &mut reader);
        items.extend(reader.finish());
        items
    }),
    ("units-show", units::read_show),
    ("units-text", |bytes| {
        let mut text = units::Text::default();
        String::from_utf8_lossy(bytes)
            .lines()
            .for_each(|line| text.push(line));
        text.finish()
    }),
    ("grubenv", bootloader::read_grubenv),
    ("boot-count", |bytes| {
        let counted = bootloader::read_boot_count(&String::from_utf8_lossy(bytes));
        counted.into_iter().map(Item::from).collect()
    }),
    ("inspect", inspect_one),
];

/// A folder of records: split at form feeds, named in order.
fn pstore_records(bytes: &[u8]) -> Vec<Item> {
    let names: Vec<String> = (0..16).map(|id| format!("dmesg-efi-{id}")).collect();
    let records: Vec<pstore::Record<'_>> = bytes
        .split(|&b| b == 0x0c)
        .zip(&names)
        .map(|(bytes, name)| pstore::Record { name, bytes })
        .collect();
    pstore::read(&records)
}

struct One<'a>(&'a [u8]);

impl crate::inspect::Open for One<'_> {
    fn open(&mut self, _index: usize) -> std::io::Result<Box<dyn crate::source::Source + '_>> {
        Ok(Box::new(self.0))
    }
}

/// One artefact whose name is its first line.
fn inspect_one(bytes: &[u8]) -> Vec<Item> {
    let end = bytes.iter().position(|&b| b == b'\n').unwrap_or(0).min(256);
    let path = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let listing = [crate::inspect::Artefact { path }];
    let mut items = Vec::new();
    crate::inspect::inspect(
        &listing,
        &mut One(bytes.get(end + 1..).unwrap_or(&[])),
        &mut |_, item| items.push(item),
    );
    items
}
