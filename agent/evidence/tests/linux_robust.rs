//! Hostile bytes: no parser panics, none runs away, whatever it is fed.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use ringward_evidence::finding::Item;
use ringward_evidence::fuzz::TARGETS;
use ringward_evidence::inspect::{Artefact, Open, inspect};
use ringward_evidence::linux::klog;
use ringward_evidence::source::Source;

fn feed(bytes: &[u8]) {
    for (_, target) in TARGETS {
        target(bytes);
    }
}

/// Words the parsers look for: random bytes alone rarely get past the first test.
fn words() -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<&'static [u8]> = vec![
        b"[    1.000000] ",
        b"[ 1.0][ T12] ",
        b"[ 1.0][ C0] ",
        b"\n",
        b"<4>",
        b"BUG: ",
        b"WARNING: ",
        b"INFO: ",
        b"KASAN: use-after-free in ",
        b"Read of size 8",
        b"Call Trace:",
        b" foo+0x1/0x2",
        b" ? bar+0x3/0x4",
        b"RIP: 0010:baz+0x1/0x2",
        b"Kernel panic - not syncing: ",
        b"---[ end trace ",
        b"Panic#1 Part1\n",
        b"\x0c",
        b"invoked oom-killer:",
        b"Killed process 12 (x)",
        b"oom-kill:constraint=",
        b"__CURSOR=s=a;i=1;b=2\n",
        b"_BOOT_ID=ab\n",
        b"MESSAGE\n",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        b"{\"_BOOT_ID\":\"a\"}\n",
        b"Result=",
        b"# GRUB Environment Block\n",
        b"boot_counter=-1\n",
        b"+1-2.conf\n",
        b"LPKSHHRH",
        b"\0\0\0\0\0\0\0\0",
        b"blocked for more than 120 seconds",
        b"at: [<ffffffff8232bf0e>] ",
        b"systemd[1]: a.service: ",
        b"Modules linked in: ",
        b"Tainted: G W 5.1 #1",
        b"Allocated in ",
        b"last function: ",
        b" from [<c005ccb8>] (",
    ];
    prop::collection::vec(
        prop_oneof![
            4 => prop::sample::select(words).prop_map(<[u8]>::to_vec),
            1 => prop::collection::vec(any::<u8>(), 0..24),
        ],
        0..80,
    )
    .prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_harm_no_parser(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        feed(&bytes);
    }

    #[test]
    fn random_words_harm_no_parser(bytes in words()) {
        feed(&bytes);
    }

    #[test]
    fn titles_and_keys_never_carry_control_characters(bytes in words()) {
        for item in klog::read(&bytes) {
            if let Item::Finding(finding) = item {
                prop_assert!(!finding.title.chars().any(char::is_control));
                prop_assert!(!finding.key.chars().any(char::is_control));
                prop_assert!(finding.title.chars().count() <= 201);
            }
        }
    }
}

fn samples() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/samples");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: samples not here");
    None
}

/// A small generator, so that a failing seed can be replayed.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % (below.max(1) as u64)).unwrap()
    }
}

#[test]
fn torn_and_flipped_samples_harm_no_parser() {
    let Some(samples) = samples() else { return };
    let packed = fs::read(samples.join("journal/user-1000.journal.zst")).unwrap();
    let mut journal = Vec::with_capacity(64 << 20);
    ruzstd::decoding::FrameDecoder::new()
        .decode_all_to_vec(&packed, &mut journal)
        .unwrap();
    journal.truncate(512 * 1024);
    let mut originals = vec![journal];
    for path in [
        "own-vm/wtmp/wtmp-after-clean.bin",
        "wtmp/plaso.utmp_s390",
        "own-vm/pstore/efi/pstore/179541118/dmesg-efi-179541118401001",
        "own-vm/services/crashloop-pid1.export",
        "own-vm/services/crashloop-unit.json",
        "greenboot/greenboot-rs__grubenv",
        "linux-oops/satyr/rhbz-827868",
        "linux-oops/oom/cadvisor_oom_03.txt",
        "journal/export-format/systemd_fuzz__crash-nul-in-field-name",
    ] {
        originals.push(fs::read(samples.join(path)).unwrap());
    }
    for (index, original) in originals.iter().enumerate() {
        let mut random = Random(index as u64 + 1);
        for _ in 0..12 {
            let mut bytes = original.clone();
            bytes.truncate(random.next(original.len()) + 1);
            for _ in 0..=random.next(20) {
                let at = random.next(bytes.len());
                bytes[at] ^= 1 << random.next(8);
            }
            feed(&bytes);
        }
    }
}

/// A log that is never in memory as a whole.
struct Endless {
    line: Vec<u8>,
    size: u64,
    largest_read: usize,
}

impl Source for &mut Endless {
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.largest_read = self.largest_read.max(into.len());
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap();
        let length = into.len().min(left);
        for (index, byte) in into[..length].iter_mut().enumerate() {
            let at = (offset + index as u64) % self.line.len() as u64;
            *byte = self.line[usize::try_from(at).unwrap()];
        }
        Ok(length)
    }

    fn size(&self) -> u64 {
        self.size
    }
}

impl Open for Endless {
    fn open(&mut self, _index: usize) -> io::Result<Box<dyn Source + '_>> {
        Ok(Box::new(self))
    }
}

fn endless(line: &str, size: u64) -> (Vec<Item>, usize) {
    let listing = [Artefact {
        path: "kern.log".to_owned(),
    }];
    let mut log = Endless {
        line: line.as_bytes().to_vec(),
        size,
        largest_read: 0,
    };
    let mut items = Vec::new();
    inspect(&listing, &mut log, &mut |_, item| items.push(item));
    (items, log.largest_read)
}

#[test]
fn a_log_is_read_through_a_window_and_a_flood_is_bounded() {
    let line = "[    1.000000] WARNING: CPU: 0 PID: 1 at a.c:1 f+0x1/0x2\n";
    let (items, largest_read) = endless(line, 100_000 * line.len() as u64);
    assert!(largest_read <= 128 * 1024);
    assert_eq!(items.len(), 1);
    let flood: String = (0..3_000)
        .map(|us| format!("[    1.{us:06}] WARNING: CPU: 0 PID: 1 at a.c:1 f+0x1/0x2\n"))
        .collect();
    let items = klog::read(flood.as_bytes());
    assert_eq!(
        items.len(),
        1_001,
        "a thousand findings and one word about the rest"
    );
}

#[test]
fn a_line_without_an_end_is_read_in_bounded_memory() {
    let (items, largest_read) = endless("BUG: x ", 8 << 20);
    assert!(largest_read <= 128 * 1024);
    assert_eq!(items.len(), 1);
}

#[test]
fn names_with_escapes_are_made_harmless() {
    let report = "[ 1.0] BUG: unable to handle kernel paging request\n[ 1.0] CPU: 0 PID: 1 Comm: a\x1b[31m\0\x07b Not tainted 6.1 #1\n[ 1.0] RIP: 0010:foo+0x1/0x2 [ev\x1bil]\n";
    for item in klog::read(report.as_bytes()) {
        let line = ringward_evidence::inspect::json_line("p\x1b\n", &item);
        assert!(
            !line.contains("\\u001b") && !line.contains('\x1b') && !line.contains("\\u0000"),
            "{line}"
        );
    }
}

/// Where a log comes from is told with each of its findings: cleaned, as what it says is.
#[test]
fn the_origin_of_a_log_carries_no_control_characters() {
    use ringward_evidence::inspect::json_line;
    use ringward_evidence::linux::pstore;
    let record = pstore::Record {
        name: "dmesg-efi-\u{7f}\u{9b}31m",
        bytes: b"Panic#1 Part1\n<0>[    1.000000] Kernel panic - not syncing: x\n",
    };
    let items = pstore::read(&[record]);
    assert!(items.iter().any(|item| item.finding().is_some()));
    for item in items {
        let line = json_line("x", &item);
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}
