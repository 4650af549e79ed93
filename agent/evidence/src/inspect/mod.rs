//! `inspect`: any artefact or folder of artefacts in, findings and gaps out.
//!
//! The caller lists artefacts and opens them; this engine tells what each one is, puts records of
//! one folder together, and reads large logs through windows, so that a log of any size needs the
//! same memory.

mod machine;
mod packed;
mod sniff;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{MAIN_SEPARATOR, Path};

use crate::finding::Item;
use crate::linux::klog::{KernelLog, Origin, ROW_BYTES_MAX};
use crate::linux::{bootloader, journal, pstore, units, wtmp};
use crate::source::{Cursor, Source, Step, read_all};
use crate::windows;
use machine::Machine;

pub use sniff::{HEAD_BYTES, Kind, sniff};

/// Most artefacts of one call.
pub const ARTEFACTS_MAX: usize = 100_000;
/// Most bytes of an artefact that has to be in memory as a whole; the child that parses has 64 MiB.
pub const WHOLE_BYTES_MAX: usize = 24 * 1024 * 1024;
/// Most bytes of a kernel dump: its headers and lists lie in front.
const DUMP_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most bytes of `systemctl show`: 10,000 units of 6 KiB would be more than anybody sends.
const SHOW_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most bytes of a GRUB environment; a sound one has 1 KiB.
const GRUBENV_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of all pstore records of one folder together.
const FOLDER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One artefact of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artefact {
    /// Path as the caller names it, `/` between folders; only shown and grouped by.
    pub path: String,
}

impl Artefact {
    /// The one at a path of this system.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self {
            path: path.to_string_lossy().replace(MAIN_SEPARATOR, "/"),
        }
    }

    fn folder(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    fn name(&self) -> &str {
        self.path
            .rsplit_once('/')
            .map_or(self.path.as_str(), |(_, name)| name)
    }
}

/// Opens the artefacts of a listing.
pub trait Open {
    /// Opens the artefact with that index of the listing.
    ///
    /// # Errors
    /// Whatever the medium reports; it becomes a gap and the next artefact is read.
    fn open(&mut self, index: usize) -> io::Result<Box<dyn Source + '_>>;
}

/// Reads all artefacts of a listing. Every item goes to `sink` with the path it belongs to: a
/// file's, or the folder's where several files tell one fact.
pub fn inspect(listing: &[Artefact], files: &mut dyn Open, sink: &mut dyn FnMut(&str, Item)) {
    let kept = listing.len().min(ARTEFACTS_MAX);
    if listing.len() > kept {
        let error = format!(
            "{} artefacts, only the first {ARTEFACTS_MAX} are read",
            listing.len()
        );
        sink("", Item::unreadable(&error, 0));
    }
    let listing = &listing[..kept];
    let mut engine = Engine {
        listing,
        files,
        sink,
        kinds: Vec::with_capacity(kept),
        groups: BTreeMap::new(),
        done: BTreeSet::new(),
        machine: None,
    };
    engine.recognise();
    engine.machine = Machine::of(listing, &engine.kinds);
    for index in 0..listing.len() {
        engine.read(index);
    }
}

/// One line of `ringward-agent inspect --json`: the item's own object with its `path`.
#[must_use]
pub fn json_line(path: &str, item: &Item) -> String {
    let mut value = serde_json::to_value(item).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        object.insert("path".to_owned(), crate::text::evidence(path).into());
    }
    value.to_string()
}

fn windows_bytes_max(kind: windows::Kind) -> usize {
    match kind {
        windows::Kind::Dump => DUMP_BYTES_MAX,
        _ => WHOLE_BYTES_MAX,
    }
}

fn unopened(error: &io::Error) -> Item {
    Item::unreadable(&format!("opening failed: {error}"), 0)
}

/// Files of one folder that tell one story.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Pstore,
    Journal,
}

struct Engine<'a> {
    listing: &'a [Artefact],
    files: &'a mut dyn Open,
    sink: &'a mut dyn FnMut(&str, Item),
    kinds: Vec<Option<Kind>>,
    groups: BTreeMap<(Group, &'a str), Vec<usize>>,
    done: BTreeSet<(Group, &'a str)>,
    /// The Windows machine whose log and dumps tell its stops together; taken when it was read.
    machine: Option<Machine>,
}

impl<'a> Engine<'a> {
    /// Tells what each artefact is, from its name and its beginning.
    fn recognise(&mut self) {
        for (index, artefact) in self.listing.iter().enumerate() {
            let kind = match self.head(index) {
                Ok((head, size)) => Some(sniff(artefact.name(), &head, size)),
                Err(error) => {
                    (self.sink)(&artefact.path, unopened(&error));
                    None
                }
            };
            let group = match kind {
                Some(Kind::Pstore) => Some(Group::Pstore),
                Some(Kind::JournalFile) => Some(Group::Journal),
                _ => None,
            };
            if let Some(group) = group {
                self.groups
                    .entry((group, artefact.folder()))
                    .or_default()
                    .push(index);
            }
            self.kinds.push(kind);
        }
    }

    fn head(&mut self, index: usize) -> io::Result<(Vec<u8>, u64)> {
        let mut source = self.files.open(index)?;
        let mut head = vec![0; HEAD_BYTES];
        let length = source.read_at(0, &mut head)?;
        head.truncate(length);
        Ok((head, source.size()))
    }

    fn gap(&mut self, index: usize, error: &str, offset: u64) {
        (self.sink)(&self.listing[index].path, Item::unreadable(error, offset));
    }

    fn read(&mut self, index: usize) {
        let Some(kind) = self.kinds.get(index).copied().flatten() else {
            return;
        };
        match kind {
            Kind::Pstore => self.grouped(Group::Pstore, index),
            Kind::JournalFile => self.grouped(Group::Journal, index),
            Kind::PstoreText
                if self
                    .groups
                    .contains_key(&(Group::Pstore, self.listing[index].folder())) =>
            {
                // systemd's own copy of the records beside it.
            }
            Kind::Text | Kind::PstoreText => self.text(index),
            Kind::JournalJson => self.streamed(index, journal::json::read),
            Kind::JournalExport => self.streamed(index, journal::export::read),
            Kind::UnitShow => self.whole(index, SHOW_BYTES_MAX, |_, bytes| units::read_show(bytes)),
            Kind::Wtmp => self.whole(index, wtmp::BYTES_MAX, |_, bytes| wtmp::read(bytes)),
            Kind::Grubenv => self.whole(index, GRUBENV_BYTES_MAX, |_, bytes| {
                bootloader::read_grubenv(bytes)
            }),
            Kind::BootEntry => {
                if let Some(finding) = bootloader::read_boot_count(self.listing[index].name()) {
                    (self.sink)(&self.listing[index].path, finding.into());
                }
            }
            Kind::Windows(kind) => match self.machine.as_ref() {
                Some(machine) if machine.has(index) => self.windows_machine(),
                _ => self.whole(index, windows_bytes_max(kind), |name, bytes| {
                    windows::read(kind, name, bytes)
                }),
            },
            Kind::Empty => {}
            Kind::Zeros => self.gap(index, "nothing but zeros", 0),
            Kind::Packed(with) => self.packed(index, with),
            Kind::Unknown => self.gap(index, "no evidence of a kind known here, not read", 0),
        }
    }

    /// An artefact that is parsed in memory; what lies beyond the bound is told.
    fn whole(
        &mut self,
        index: usize,
        bytes_max: usize,
        parse: impl FnOnce(&str, &[u8]) -> Vec<Item>,
    ) {
        let artefact = &self.listing[index];
        let read = self.files.open(index).and_then(|mut source| {
            let bytes = read_all(&mut *source, bytes_max)?;
            Ok((bytes, source.size()))
        });
        match read {
            Ok((bytes, size)) => {
                for item in parse(artefact.name(), &bytes) {
                    (self.sink)(&artefact.path, item);
                }
                if size > bytes_max as u64 {
                    self.gap(
                        index,
                        &format!("{size} bytes, only the first {bytes_max} are read"),
                        bytes_max as u64,
                    );
                }
            }
            Err(error) => self.gap(index, &format!("reading failed: {error}"), 0),
        }
    }

    /// All of the machine's artefacts through one detector, when its first member comes up.
    fn windows_machine(&mut self) {
        let Some(mut machine) = self.machine.take() else {
            return;
        };
        let mut detector = windows::Detector::default();
        for index in machine.members() {
            if let Some(Kind::Windows(kind)) = self.kinds[index] {
                self.whole(index, windows_bytes_max(kind), |name, bytes| {
                    windows::feed(kind, name, bytes, &mut detector)
                });
            }
        }
        let path = &self.listing[machine.log()].path;
        for finding in detector.finish() {
            (self.sink)(path, finding.into());
        }
        machine.close();
        self.machine = Some(machine);
    }

    /// What is in a packed artefact, as if it lay there unpacked; as much as memory may hold.
    fn packed(&mut self, index: usize, with: &str) {
        let path = &self.listing[index].path;
        let read = self.files.open(index).and_then(|mut source| {
            let mut bytes = read_all(&mut *source, WHOLE_BYTES_MAX)?;
            let unpacked = packed::unpack(with, &bytes, WHOLE_BYTES_MAX);
            bytes.clear();
            Ok(unpacked)
        });
        match read {
            Ok(Ok(inner)) => {
                let listing = [Artefact {
                    path: packed::inner_path(path).to_owned(),
                }];
                if packed::is_packed(&inner.bytes) {
                    return self.gap(index, "packed twice: unpack it first", 0);
                }
                let mut file = packed::InMemory(&inner.bytes);
                inspect(&listing, &mut file, &mut |_, item| (self.sink)(path, item));
                if let Some(why) = inner.cut {
                    self.gap(index, &why, inner.bytes.len() as u64);
                }
            }
            Ok(Err(why)) => self.gap(index, &why, 0),
            Err(error) => self.gap(index, &format!("reading failed: {error}"), 0),
        }
    }

    fn streamed(
        &mut self,
        index: usize,
        parse: fn(&mut dyn Source, &mut journal::Reader) -> Vec<Item>,
    ) {
        let path = &self.listing[index].path;
        match self.files.open(index) {
            Ok(mut source) => {
                let mut reader = journal::Reader::default();
                let gaps = parse(&mut *source, &mut reader);
                for item in reader.finish().into_iter().chain(gaps) {
                    (self.sink)(path, item);
                }
            }
            Err(error) => (self.sink)(path, unopened(&error)),
        }
    }

    /// Kernel messages and systemd's lines, in one pass.
    fn text(&mut self, index: usize) {
        let path = &self.listing[index].path;
        let mut source = match self.files.open(index) {
            Ok(source) => source,
            Err(error) => return (self.sink)(path, unopened(&error)),
        };
        let mut log = KernelLog::new(Origin::default());
        let mut services = units::Text::default();
        let mut cursor = Cursor::new(&mut *source);
        let mut line = Vec::new();
        loop {
            match cursor.line(&mut line, ROW_BYTES_MAX) {
                Ok(Step::Line(_)) => {}
                Ok(Step::End) => break,
                Err(error) => {
                    let offset = cursor.offset();
                    (self.sink)(
                        path,
                        Item::unreadable(&format!("reading failed: {error}"), offset),
                    );
                    break;
                }
            }
            log.push(&line);
            if sniff::may_tell_of_units(&line) {
                services.push(&String::from_utf8_lossy(&line));
            }
            for item in log.take() {
                (self.sink)(path, item);
            }
        }
        log.finish();
        for item in log.take().into_iter().chain(services.finish()) {
            (self.sink)(path, item);
        }
    }

    /// Reads a group once, when its first member comes up.
    fn grouped(&mut self, group: Group, index: usize) {
        let key = (group, self.listing[index].folder());
        if !self.done.insert(key) {
            return;
        }
        let members = self.groups.get(&key).cloned().unwrap_or_default();
        match group {
            Group::Pstore => self.pstore(key.1, &members),
            Group::Journal => self.journal(key.1, members),
        }
    }

    fn pstore(&mut self, folder: &str, members: &[usize]) {
        let mut records = Vec::new();
        let mut left = FOLDER_BYTES_MAX;
        for &index in members {
            let read = self
                .files
                .open(index)
                .and_then(|mut source| read_all(&mut *source, left.min(pstore::RECORD_BYTES_MAX)));
            match read {
                Ok(_) if left == 0 => self.gap(
                    index,
                    "more than 16 MiB of records in one folder, not read",
                    0,
                ),
                Ok(bytes) => {
                    left -= bytes.len();
                    records.push((self.listing[index].name(), bytes));
                }
                Err(error) => self.gap(index, &format!("reading failed: {error}"), 0),
            }
        }
        let records: Vec<pstore::Record<'_>> = records
            .iter()
            .map(|(name, bytes)| pstore::Record { name, bytes })
            .collect();
        for item in pstore::read(&records) {
            (self.sink)(folder, item);
        }
    }

    /// All journal files of a folder belong to one machine: boots run through several of them.
    fn journal(&mut self, folder: &str, members: Vec<usize>) {
        let mut ordered = Vec::new();
        for index in members {
            let first = self
                .head(index)
                .ok()
                .and_then(|(head, _)| journal::file::header(&head));
            ordered.push((
                first.map(|header| (header.sequence, header.seqnum_first)),
                index,
            ));
        }
        ordered.sort();
        let mut reader = journal::Reader::default();
        for (_, index) in ordered {
            let path = &self.listing[index].path;
            match self.files.open(index) {
                Ok(mut source) => {
                    for gap in journal::file::read(&mut *source, &mut reader) {
                        (self.sink)(path, gap);
                    }
                }
                Err(error) => (self.sink)(path, unopened(&error)),
            }
        }
        for item in reader.finish() {
            (self.sink)(folder, item);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(Vec<Option<&'static [u8]>>);

    impl Open for Folder {
        fn open(&mut self, index: usize) -> io::Result<Box<dyn Source + '_>> {
            match self.0.get(index) {
                Some(Some(bytes)) => Ok(Box::new(*bytes)),
                _ => Err(io::Error::from(io::ErrorKind::PermissionDenied)),
            }
        }
    }

    fn run(files: &[(&str, Option<&'static [u8]>)]) -> Vec<(String, Item)> {
        let listing: Vec<Artefact> = files
            .iter()
            .map(|(path, _)| Artefact {
                path: (*path).to_owned(),
            })
            .collect();
        let mut folder = Folder(files.iter().map(|(_, bytes)| *bytes).collect());
        let mut items = Vec::new();
        inspect(&listing, &mut folder, &mut |path, item| {
            items.push((path.to_owned(), item))
        });
        items
    }

    const PANIC: &[u8] = b"Panic#1 Part1\n<0>[    1.000000] Kernel panic - not syncing: x\n";

    #[test]
    fn an_artefact_that_cannot_be_opened_hides_no_other() {
        let items = run(&[
            ("a/locked", None),
            (
                "a/kern.log",
                Some(b"[ 1.0] Kernel panic - not syncing: x\n"),
            ),
        ]);
        assert!(matches!(&items[0], (path, Item::Unreadable(_)) if path == "a/locked"));
        assert!(
            matches!(&items[1], (path, Item::Finding(found)) if path == "a/kern.log" && found.kind == "kernel-panic")
        );
    }

    #[test]
    fn records_of_a_folder_are_one_fact_and_their_copy_is_not_told_again() {
        let items = run(&[
            ("p/dmesg-efi-1", Some(PANIC)),
            (
                "p/dmesg-efi-2",
                Some(b"Panic#1 Part2\n<6>[    0.500000] older\n"),
            ),
            ("p/dmesg.txt", Some(PANIC)),
            ("q/dmesg-efi-1", Some(PANIC)),
        ]);
        let folders: Vec<&str> = items.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(folders, ["p", "q"]);
    }

    #[test]
    fn each_line_is_one_object_with_its_path() {
        let items = run(&[("z", Some(&[0; 16]))]);
        let line = json_line(&items[0].0, &items[0].1);
        assert_eq!(
            line,
            r#"{"error":"nothing but zeros","offset":0,"path":"z"}"#
        );
    }
}
