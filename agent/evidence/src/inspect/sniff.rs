//! What an artefact is, from its name and its first bytes. Content goes before name: support
//! bundles rename everything.

use crate::linux::{bootloader, journal, pstore, units, wtmp};
use crate::windows;

/// Bytes of the beginning that [`sniff`] wants.
pub const HEAD_BYTES: usize = 16 * 1024;

/// What an artefact is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Kernel messages, systemd's lines, or any other text.
    Text,
    /// One pstore record.
    Pstore,
    /// systemd's concatenation of the records beside it.
    PstoreText,
    /// Login records.
    Wtmp,
    /// A journal file.
    JournalFile,
    /// `journalctl -o json`.
    JournalJson,
    /// The journal export format.
    JournalExport,
    /// `systemctl show`.
    UnitShow,
    /// GRUB's environment block.
    Grubenv,
    /// A boot entry whose name counts attempts.
    BootEntry,
    /// Windows evidence.
    Windows(windows::Kind),
    /// Nothing in it.
    Empty,
    /// Zeros only.
    Zeros,
    /// Packed by a common program.
    Packed(&'static str),
    /// None of these.
    Unknown,
}

/// Tells what an artefact is. `name` is the file's own name, `head` its first [`HEAD_BYTES`] (or
/// all of it), `size` its size in bytes.
#[must_use]
pub fn sniff(name: &str, head: &[u8], size: u64) -> Kind {
    if bootloader::boot_count(name).is_some() {
        return Kind::BootEntry;
    }
    if head.is_empty() {
        return Kind::Empty;
    }
    if head.iter().all(|&b| b == 0) {
        return Kind::Zeros;
    }
    by_magic(name, head)
        .or_else(|| pstore_kind(name, head))
        .or_else(|| windows::sniff(name, head).map(Kind::Windows))
        .or_else(|| structured(head))
        .unwrap_or_else(|| by_shape(name, head, size))
}

fn by_magic(name: &str, head: &[u8]) -> Option<Kind> {
    const PACKED: [(&[u8], &str); 5] = [
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\x1f\x8b", "gzip"),
        (b"\xfd7zXZ\0", "xz"),
        (b"BZh", "bzip2"),
        (b"PK\x03\x04", "zip"),
    ];
    if head.starts_with(journal::file::MAGIC) {
        return Some(Kind::JournalFile);
    }
    if head.starts_with(bootloader::GRUBENV_MAGIC) || name == "grubenv" {
        return Some(Kind::Grubenv);
    }
    PACKED
        .iter()
        .find(|(magic, _)| head.starts_with(magic))
        .map(|(_, with)| Kind::Packed(with))
}

fn pstore_kind(name: &str, head: &[u8]) -> Option<Kind> {
    if name == "dmesg.txt" {
        return Some(Kind::PstoreText);
    }
    (pstore::parse_name(name).is_some() || pstore::is_record(head)).then_some(Kind::Pstore)
}

fn structured(head: &[u8]) -> Option<Kind> {
    if journal::json::is_json(head) {
        return Some(Kind::JournalJson);
    }
    if journal::export::is_export(head) {
        return Some(Kind::JournalExport);
    }
    (is_mostly_text(head) && units::is_show(&String::from_utf8_lossy(head)))
        .then_some(Kind::UnitShow)
}

fn by_shape(name: &str, head: &[u8], size: u64) -> Kind {
    let named = ["wtmp", "utmp", "btmp"]
        .iter()
        .any(|part| name.contains(part));
    let text = is_mostly_text(head);
    if !text
        && size >= 384
        && (named || wtmp::layout(head).is_some_and(|layout| whole_records(head, layout)))
    {
        return Kind::Wtmp;
    }
    if text { Kind::Text } else { Kind::Unknown }
}

/// Whether at least half of the records in the head are readable: chance finds one, not most.
fn whole_records(head: &[u8], layout: wtmp::Layout) -> bool {
    let total = head.len() / layout.record_bytes;
    wtmp::records(head).0.len() * 2 >= total.max(1)
}

/// Text with a few torn bytes is still text; consoles add escapes, torn dumps add NULs.
fn is_mostly_text(head: &[u8]) -> bool {
    let odd = head
        .iter()
        .filter(|&&b| (b < 0x20 && !matches!(b, b'\n' | b'\r' | b'\t' | 0x1b)) || b == 0x7f)
        .count();
    odd * 10 <= head.len()
}

/// A cheap test before a line is decoded a second time.
pub(super) fn may_tell_of_units(line: &[u8]) -> bool {
    line.windows(8)
        .any(|window| window == b"systemd[" || window == b"(Result:")
        || line.starts_with("●".as_bytes())
        || line.starts_with("×".as_bytes())
        || line.starts_with("○".as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_goes_before_name() {
        assert_eq!(sniff("renamed.bin", b"LPKSHHRH\0\0", 10), Kind::JournalFile);
        assert_eq!(sniff("x", b"Panic#1 Part2\n<4>[ 1.0] x", 25), Kind::Pstore);
        assert_eq!(
            sniff("x", b"{\"__CURSOR\":\"s=1\"}\n", 20),
            Kind::JournalJson
        );
        assert_eq!(sniff("x", b"__CURSOR=s=1;i=1\n", 17), Kind::JournalExport);
        assert_eq!(sniff("kern.log", b"[    1.0] hello\n", 16), Kind::Text);
        assert_eq!(sniff("arch+3-1.conf", b"", 0), Kind::BootEntry);
        assert_eq!(sniff("x", &[0; 64], 64), Kind::Zeros);
    }
}
