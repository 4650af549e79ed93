//! Windows artefacts: event logs, rendered event XML and kernel dumps.
//!
//! Every log, whatever its form, becomes [`event::EventRecord`]s for one [`detector::Detector`];
//! every dump becomes a [`dump::Dump`]. [`sniff`] says which reader an artefact belongs to and
//! [`read`] runs it.

pub mod bugcheck;
pub mod detector;
pub mod dump;
pub mod event;
mod log;
mod text;
mod xml;

use crate::finding::Item;

pub use detector::Detector;
pub use dump::Dump;
pub use event::EventRecord;
pub use xml::parse_event;

/// The forms of Windows evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A binary event log (`.evtx`), or chunks of one.
    EventLog,
    /// Text holding `<Event>` elements, in UTF-8 or UTF-16.
    EventXml,
    /// One event as lines: a header line with `|` between its fields, then the event data.
    EventText,
    /// A crash dump. User-mode dumps are of this kind too, so that reading says what they are.
    Dump,
}

/// Which reader an artefact belongs to, from its name and its first bytes (4 KiB are plenty);
/// `None` when it is not Windows evidence.
pub fn sniff(name: &str, head: &[u8]) -> Option<Kind> {
    const LOG: [&[u8]; 2] = [b"ElfFile\0", b"ElfChnk\0"];
    const DUMP: [&[u8]; 4] = [b"PAGEDU", b"MDMP", b"PMDM", b"USERDU"];
    let starts = |magics: &[&[u8]]| magics.iter().any(|magic| head.starts_with(magic));
    if starts(&LOG) {
        return Some(Kind::EventLog);
    }
    if starts(&DUMP) {
        return Some(Kind::Dump);
    }
    let text = xml::decode(head.get(..4096).unwrap_or(head));
    if xml::looks_like_events(&text) {
        return Some(Kind::EventXml);
    }
    if text::looks_like_event(&text) {
        return Some(Kind::EventText);
    }
    let name = name.to_ascii_lowercase();
    if name.ends_with(".evtx") {
        return Some(Kind::EventLog);
    }
    name.ends_with(".dmp").then_some(Kind::Dump)
}

/// Reads one artefact to its end. `name` is the file's name, which for a minidump is what the
/// event log calls it. Time and memory are linear in `bytes.len()`; nothing panics.
pub fn read(kind: Kind, name: &str, bytes: &[u8]) -> Vec<Item> {
    if kind == Kind::EventXml {
        return xml::read(bytes);
    }
    let mut detector = Detector::default();
    let gaps = feed(kind, name, bytes, &mut detector);
    let findings = detector.finish().into_iter().map(Item::from);
    gaps.into_iter().chain(findings).collect()
}

/// Feeds one artefact of a machine to its detector and returns what could not be read. Given a
/// machine's System log, then its Application log, then its dumps, the detector tells one
/// finding a stop; events of a text are taken for one machine's.
pub fn feed(kind: Kind, name: &str, bytes: &[u8], detector: &mut Detector) -> Vec<Item> {
    match kind {
        Kind::EventLog => log::feed(bytes, detector),
        Kind::EventXml => xml::feed(bytes, detector),
        Kind::EventText => text::feed(bytes, detector),
        Kind::Dump => dump::feed(name, bytes, detector),
    }
}
