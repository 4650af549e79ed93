//! Every Linux parser behind one signature, for fuzzers and robustness tests.

use crate::linux::{bootloader, journal, klog, pstore, units, wtmp};

/// A parser that is fed any bytes; it may neither panic nor run away.
pub type Target = fn(&[u8]);

/// Name and entry point of every Linux parser; those of Windows are fuzzed through [`crate::windows::read`].
pub const TARGETS: &[(&str, Target)] = &[
    ("klog", |bytes| drop(klog::read(bytes))),
    ("pstore", pstore_records),
    ("wtmp", |bytes| drop(wtmp::read(bytes))),
    ("journal-json", |mut bytes| {
        let mut reader = journal::Reader::default();
        drop(journal::json::read(&mut bytes, &mut reader));
        drop(reader.finish());
    }),
    ("journal-export", |mut bytes| {
        let mut reader = journal::Reader::default();
        drop(journal::export::read(&mut bytes, &mut reader));
        drop(reader.finish());
    }),
    ("journal-file", |mut bytes| {
        let mut reader = journal::Reader::default();
        drop(journal::file::read(&mut bytes, &mut reader));
        drop(reader.finish());
    }),
    ("units-show", |bytes| drop(units::read_show(bytes))),
    ("units-text", |bytes| {
        let mut text = units::Text::default();
        String::from_utf8_lossy(bytes)
            .lines()
            .for_each(|line| text.push(line));
        drop(text.finish());
    }),
    ("grubenv", |bytes| drop(bootloader::read_grubenv(bytes))),
    ("boot-count", |bytes| {
        drop(bootloader::read_boot_count(&String::from_utf8_lossy(bytes)))
    }),
    ("inspect", inspect_one),
];

/// A folder of records: split at form feeds, named in order.
fn pstore_records(bytes: &[u8]) {
    let names: Vec<String> = (0..16).map(|id| format!("dmesg-efi-{id}")).collect();
    let records: Vec<pstore::Record<'_>> = bytes
        .split(|&b| b == 0x0c)
        .zip(&names)
        .map(|(bytes, name)| pstore::Record { name, bytes })
        .collect();
    drop(pstore::read(&records));
}

struct One<'a>(&'a [u8]);

impl crate::inspect::Open for One<'_> {
    fn open(&mut self, _index: usize) -> std::io::Result<Box<dyn crate::source::Source + '_>> {
        Ok(Box::new(self.0))
    }
}

/// One artefact whose name is its first line.
fn inspect_one(bytes: &[u8]) {
    let end = bytes.iter().position(|&b| b == b'\n').unwrap_or(0).min(256);
    let path = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let listing = [crate::inspect::Artefact { path }];
    crate::inspect::inspect(
        &listing,
        &mut One(bytes.get(end + 1..).unwrap_or(&[])),
        &mut |path, item| {
            drop(crate::inspect::json_line(path, &item));
        },
    );
}
