//! Kernel dumps of every width and type, made by hand, whole, cut and lying.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use ringward_evidence::finding::Item;
use ringward_evidence::windows::dump::{By, DumpError, DumpType};
use ringward_evidence::windows::{self, Dump, Kind};

/// A dump to be written: the fields a test cares for.
#[derive(Clone)]
struct Draft {
    is_64_bit: bool,
    machine: u32,
    dump_type: u32,
    code: u32,
    params: [u64; 4],
    pc: u64,
    drivers: Vec<(&'static str, u64, u32)>,
    unloaded: Vec<(&'static str, u64, u64)>,
    stack: Vec<u64>,
}

const NT: u64 = 0xffff_f800_0000_0000;
const HAL: u64 = NT + 0x0200_0000;
const THEIRS: u64 = NT + 0x0300_0000;
const OTHER: u64 = NT + 0x0400_0000;

impl Draft {
    fn x64(code: u32, params: [u64; 4]) -> Self {
        Self {
            is_64_bit: true,
            machine: 0x8664,
            dump_type: 4,
            code,
            params,
            pc: NT + 0x1234,
            drivers: vec![
                (r"\SystemRoot\system32\ntoskrnl.exe", NT, 0x0100_0000),
                (r"\SystemRoot\system32\hal.dll", HAL, 0x6000),
                (r"\??\C:\Program Files\Acme\acme.sys", THEIRS, 0x9000),
                (r"\SystemRoot\System32\drivers\other.sys", OTHER, 0x9000),
            ],
            unloaded: Vec::new(),
            stack: vec![NT + 0x2000, HAL + 0x100],
        }
    }

    /// The same on 32 bits, where addresses have no upper half.
    fn x86(code: u32, params: [u64; 4]) -> Self {
        let low = |address: u64| (address & 0x0fff_ffff) | 0x8000_0000;
        let mut draft = Self::x64(
            code,
            params.map(|param| if param > 0xffff { low(param) } else { param }),
        );
        draft.is_64_bit = false;
        draft.machine = 0x14c;
        draft.pc = low(draft.pc);
        for driver in &mut draft.drivers {
            driver.1 = low(driver.1);
        }
        for word in &mut draft.stack {
            *word = low(*word);
        }
        draft
    }

    fn build(&self) -> Vec<u8> {
        let header_len = if self.is_64_bit { 0x2000 } else { 0x1000 };
        let mut out = Out {
            bytes: b"PAGE".repeat(header_len / 4),
            is_64_bit: self.is_64_bit,
        };
        out.bytes[..8].copy_from_slice(if self.is_64_bit {
            b"PAGEDU64"
        } else {
            b"PAGEDUMP"
        });
        let pick = |wide: usize, narrow: usize| if self.is_64_bit { wide } else { narrow };
        out.u32(0x0c, 19045);
        out.u32(pick(0x30, 0x20), self.machine);
        out.u32(pick(0x34, 0x24), 4);
        out.u32(pick(0x38, 0x28), self.code);
        for (index, param) in self.params.iter().enumerate() {
            out.address(pick(0x40 + 8 * index, 0x2c + 4 * index), *param);
        }
        let pc_at = match self.machine {
            0xaa64 => 0x348 + 0x108,
            0x8664 => 0x348 + 0xf8,
            _ => 0x320 + 0xb8,
        };
        out.address(pc_at, self.pc);
        out.u32(pick(0xf98, 0xf88), self.dump_type);
        out.u64(pick(0xfa8, 0xfc0), 133_652_736_000_000_000);
        out.u64(pick(0x1030, 0xfb8), 600_000_000);
        if self.dump_type == 4 {
            self.build_triage(&mut out, header_len);
        }
        out.bytes
    }

    fn build_triage(&self, out: &mut Out, block: usize) {
        let pick = |wide: usize, narrow: usize| if self.is_64_bit { wide } else { narrow };
        out.bytes.resize(block + 0x60, 0);
        let names: Vec<usize> = self
            .drivers
            .iter()
            .map(|driver| out.name(driver.0))
            .collect();
        let (list, stride) = (out.bytes.len(), pick(0x90, 0x4c));
        out.bytes.resize(list + stride * self.drivers.len(), 0);
        for (index, (_, base, size)) in self.drivers.iter().enumerate() {
            let entry = list + stride * index;
            out.u32(entry, names[index] as u32);
            out.address(entry + pick(0x38, 0x1c), *base);
            out.u32(entry + pick(0x48, 0x24), *size);
            out.u32(entry + pick(0x80, 0x44), 0xc0de);
            out.u32(entry + pick(0x88, 0x48), 0x5f00_0000);
        }
        let (unloaded, stride) = (out.bytes.len(), pick(0x38, 0x28));
        let first = unloaded + pick(8, 4);
        out.bytes.resize(first + stride * self.unloaded.len(), 0);
        out.u32(unloaded, self.unloaded.len() as u32);
        for (index, (name, start, end)) in self.unloaded.iter().enumerate() {
            let entry = first + stride * index;
            for (at, unit) in name.encode_utf16().enumerate() {
                let at = entry + pick(0x10, 0x08) + 2 * at;
                out.bytes[at..at + 2].copy_from_slice(&unit.to_le_bytes());
            }
            out.address(entry + pick(0x28, 0x20), *start);
            out.address(entry + pick(0x30, 0x24), *end);
        }
        let (stack, width) = (out.bytes.len(), pick(8, 4));
        out.bytes.resize(stack + width * self.stack.len(), 0);
        for (index, word) in self.stack.iter().enumerate() {
            out.address(stack + width * index, *word);
        }
        let end = out.bytes.len();
        out.bytes.extend(b"TRGD");
        let fields = [
            (0x04, end + 4),
            (0x08, end),
            (0x18, unloaded),
            (0x28, stack),
            (0x2c, width * self.stack.len()),
            (0x30, list),
            (0x34, self.drivers.len()),
        ];
        for (offset, value) in fields {
            out.u32(block + offset, value as u32);
        }
    }

    fn read(&self) -> Dump {
        let dump = Dump::read(&self.build()).unwrap();
        assert_eq!(dump.gaps, []);
        dump
    }

    /// Who is blamed, where, and by what; or why nobody is.
    fn blamed(&self) -> Result<(String, u64, By), &'static str> {
        let blame = self.read().blame()?;
        Ok((blame.module, blame.offset, blame.by))
    }
}

struct Out {
    bytes: Vec<u8>,
    is_64_bit: bool,
}

impl Out {
    fn u32(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, at: usize, value: u64) {
        self.bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    fn address(&mut self, at: usize, value: u64) {
        if self.is_64_bit {
            self.u64(at, value);
        } else {
            self.u32(at, value as u32);
        }
    }

    /// Appends a counted name and says where.
    fn name(&mut self, name: &str) -> usize {
        let at = self.bytes.len();
        let units: Vec<u16> = name.encode_utf16().collect();
        self.bytes.extend((units.len() as u32).to_le_bytes());
        self.bytes
            .extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
        self.bytes.extend([0, 0]);
        at
    }
}

fn at(module: &str, offset: u64, by: By) -> Result<(String, u64, By), &'static str> {
    Ok((module.to_owned(), offset, by))
}

#[test]
fn the_parameter_that_holds_the_faulting_code_is_the_codes_own() {
    let theirs = THEIRS + 0x1a5;
    for (code, parameter) in [
        (0x50, 3),
        (0x0a, 4),
        (0xd1, 4),
        (0x1e, 2),
        (0x3b, 2),
        (0x7e, 2),
        (0x8e, 2),
        (0x116, 2),
        (0x1000_007e, 2),
        (0x1000_008e, 2),
    ] {
        let mut params = [OTHER + 8; 4];
        params[parameter - 1] = theirs;
        let expected = at("acme.sys", 0x1a5, By::Parameter(parameter as u8));
        assert_eq!(Draft::x64(code, params).blamed(), expected, "{code:#x}");
        assert_eq!(
            Draft::x86(code, params).blamed(),
            expected,
            "{code:#x} on x86"
        );
    }
}

#[test]
fn a_parameter_in_the_kernel_hands_on_to_the_context_and_then_to_the_stack() {
    let mut draft = Draft::x64(0xd1, [0, 2, 0, NT + 0x77]);
    draft.stack.extend([THEIRS + 0x10, OTHER + 0x20]);
    assert_eq!(draft.blamed(), at("acme.sys", 0x10, By::Stack));
    draft.pc = OTHER + 0x30;
    assert_eq!(draft.blamed(), at("other.sys", 0x30, By::Context));
}

#[test]
fn nobody_is_blamed_where_only_the_kernel_is_on_the_stack() {
    assert!(Draft::x64(0xd1, [0, 2, 0, NT + 0x77]).blamed().is_err());
    assert!(Draft::x86(0x50, [1, 0, 0, 0]).blamed().is_err());
}

#[test]
fn codes_whose_victim_need_not_be_the_cause_blame_nobody() {
    for code in [0x9f, 0x133, 0x124, 0x1a, 0x1c8, 0xe2, 0xef] {
        let mut draft = Draft::x64(code, [THEIRS; 4]);
        draft.pc = THEIRS;
        draft.stack = vec![THEIRS];
        assert!(draft.blamed().is_err(), "{code:#x}");
        assert_eq!(draft.read().finding("a.dmp").module, None);
    }
}

#[test]
fn code_that_is_no_longer_loaded_is_named() {
    let mut draft = Draft::x64(0xce, [0, 0, THEIRS + 0x20_0010, 0]);
    draft.unloaded = vec![("gone.sys", THEIRS + 0x20_0000, THEIRS + 0x21_0000)];
    assert_eq!(draft.blamed(), at("gone.sys", 0x10, By::Unloaded));
    draft = Draft::x86(0xce, draft.params);
    draft.unloaded = vec![("gone.sys", 0x8320_0000, 0x8321_0000)];
    assert_eq!(draft.blamed(), at("gone.sys", 0x10, By::Unloaded));
    assert_eq!(draft.read().triage.unwrap().unloaded[0].name, "gone.sys");
}

#[test]
fn an_arm64_context_has_its_counter_elsewhere() {
    let mut draft = Draft::x64(0xc2, [7, 0, 0, 0]);
    draft.machine = 0xaa64;
    draft.pc = THEIRS + 0x44;
    assert_eq!(draft.blamed(), at("acme.sys", 0x44, By::Context));
}

#[test]
fn other_types_give_their_header_and_blame_nobody() {
    let types = [
        (1, DumpType::Full),
        (2, DumpType::Kernel),
        (5, DumpType::BitmapFull),
        (6, DumpType::BitmapKernel),
        (9, DumpType::Other(Some(9))),
    ];
    for (number, dump_type) in types {
        for mut draft in [
            Draft::x64(0x50, [1, 2, THEIRS, 4]),
            Draft::x86(0x50, [1, 2, THEIRS, 4]),
        ] {
            draft.dump_type = number;
            let dump = draft.read();
            assert_eq!(dump.dump_type, dump_type);
            assert_eq!(
                (dump.code, dump.build, dump.cpus),
                (0x50, Some(19045), Some(4))
            );
            assert_eq!(dump.up_time_100ns, Some(600_000_000));
            assert_eq!(
                dump.system_time.unwrap().to_string(),
                "2024-07-12T16:00:00Z"
            );
            assert!(dump.blame().is_err());
        }
    }
}

#[test]
fn unused_words_of_the_header_are_absent() {
    let bytes = b"PAGEDU64".iter().chain(b"PAGE".iter().cycle()).copied();
    let dump = Dump::read(&bytes.take(0x2000).collect::<Vec<_>>()).unwrap();
    assert_eq!((dump.build, dump.machine, dump.cpus), (None, None, None));
    assert_eq!((dump.system_time, dump.up_time_100ns), (None, None));
    assert_eq!(dump.dump_type, DumpType::Other(None));
}

#[test]
fn every_cut_tells_the_bugcheck_or_that_it_is_cut_and_never_another_driver() {
    let mut wide = Draft::x64(0xd1, [0, 2, 0, OTHER + 0x77]);
    // The earlier driver is on the stack, so that a reader that loses the later one is tempted.
    wide.stack = vec![THEIRS + 0x10];
    let mut narrow = Draft::x86(0xd1, wide.params);
    narrow.stack = vec![0x8300_0010];
    for draft in [wide, narrow] {
        let bytes = draft.build();
        for len in 0..bytes.len() {
            match Dump::read(&bytes[..len]) {
                Err(error) => {
                    assert!(len < 0x60);
                    assert!(matches!(error, DumpError::Cut { .. } | DumpError::Unknown));
                }
                Ok(dump) => {
                    assert_eq!(dump.code, 0xd1);
                    assert!(!dump.gaps.is_empty(), "nothing said of the cut at {len:#x}");
                    if let Ok(blame) = dump.blame() {
                        assert_eq!(blame.module, "other.sys", "cut at {len:#x}");
                    }
                }
            }
        }
    }
}

#[test]
fn lying_lengths_end_the_lists_and_are_told() {
    let bytes = Draft::x64(0xd1, [0, 2, 0, OTHER + 0x77]).build();
    for field in [0x18, 0x28, 0x2c, 0x30, 0x34] {
        for lie in [0, 1, 0x7fff_fff0, u32::MAX] {
            let mut lying = bytes.clone();
            lying[0x2000 + field..0x2004 + field].copy_from_slice(&lie.to_le_bytes());
            let dump = Dump::read(&lying).unwrap();
            assert_eq!(dump.code, 0xd1);
            if let Ok(blame) = dump.blame() {
                assert_eq!(blame.module, "other.sys");
            }
        }
    }
    let mut many = bytes;
    many[0x2034..0x2038].copy_from_slice(&u32::MAX.to_le_bytes());
    let dump = Dump::read(&many).unwrap();
    assert!(dump.triage.unwrap().drivers.len() <= 2048);
    assert!(!dump.gaps.is_empty());
}

#[test]
fn a_dump_adds_its_driver_to_the_stop_the_log_tells_of_before_or_after_it() {
    let dump = Draft::x64(0xd1, [0x10, 2, 0, OTHER + 0x77]).build();
    let param = format!("{:#x}", OTHER + 0x77);
    let log = format!(
        "<Event><System><Provider Name='Microsoft-Windows-Kernel-Power'/><EventID>41</EventID>\
         <EventRecordID>7</EventRecordID><Computer>HOST</Computer></System><EventData>\
         <Data Name='BugcheckCode'>209</Data><Data Name='BugcheckParameter1'>0x10</Data>\
         <Data Name='BugcheckParameter2'>0x2</Data><Data Name='BugcheckParameter3'>0x0</Data>\
         <Data Name='BugcheckParameter4'>{param}</Data></EventData></Event>"
    );
    let sources = [
        (Kind::EventXml, "log.xml", log.as_bytes()),
        (Kind::Dump, "071924-1-01.dmp", dump.as_slice()),
        // The complete dump of the same stop knows no drivers, and takes none away.
        (Kind::Dump, "MEMORY.DMP", &dump[..0x2000]),
    ];
    for order in [[0, 1, 2], [1, 0, 2], [2, 1, 0], [0, 2, 1]] {
        let mut detector = windows::Detector::default();
        for (kind, name, bytes) in order.map(|index| sources[index]) {
            windows::feed(kind, name, bytes, &mut detector);
        }
        let findings = detector.finish();
        let [finding] = findings.as_slice() else {
            panic!("{order:?}: {findings:?}")
        };
        assert_eq!(finding.module.as_deref(), Some("other.sys"), "{order:?}");
        assert_eq!(finding.key, "windows/host/boot-7-0");
        assert_eq!(finding.evidence["dump"]["blame"]["offset"], "0x77");
    }
}

#[test]
fn a_dump_of_another_stop_is_a_finding_of_its_own() {
    let mut detector = windows::Detector::default();
    for param in [0x10, 0x20] {
        let dump = Draft::x64(0xd1, [param, 2, 0, OTHER + 0x77]).build();
        windows::feed(Kind::Dump, "a.dmp", &dump, &mut detector);
    }
    let findings = detector.finish();
    assert_eq!(findings.len(), 2);
    assert_ne!(findings[0].key, findings[1].key);
}

#[test]
fn what_is_no_dump_is_one_gap() {
    for bytes in [
        &b""[..],
        b"PAGE",
        b"PAGEDUXX",
        b"MDMP\x93\xa7",
        b"USERDU64",
        b"hello",
    ] {
        let items = windows::read(Kind::Dump, "x.dmp", bytes);
        assert!(
            matches!(items.as_slice(), [Item::Unreadable(_)]),
            "{items:?}"
        );
    }
}

proptest! {
    #[test]
    fn any_bytes_after_the_signature_are_read_without_panic(
        wide in any::<bool>(),
        mut bytes in proptest::collection::vec(any::<u8>(), 0..0x2400),
        triage in any::<bool>(),
    ) {
        let signature = if wide { b"PAGEDU64" } else { b"PAGEDUMP" };
        bytes.splice(..bytes.len().min(8), *signature);
        let at = if wide { 0xf98 } else { 0xf88 };
        if triage && bytes.len() > at + 4 {
            bytes[at..at + 4].copy_from_slice(&4u32.to_le_bytes());
        }
        prop_assert!(!windows::read(Kind::Dump, "x.dmp", &bytes).is_empty());
    }

    #[test]
    fn a_dump_with_any_words_changed_still_tells_one_bugcheck(
        changes in proptest::collection::vec((0x2000usize..0x2700, any::<u32>()), 1..8),
    ) {
        let mut bytes = Draft::x64(0xd1, [0, 2, 0, OTHER + 0x77]).build();
        for (at, word) in changes {
            let at = at.min(bytes.len() - 4);
            bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        let items = windows::read(Kind::Dump, "x.dmp", &bytes);
        let findings = items.iter().filter(|item| matches!(item, Item::Finding(_)));
        prop_assert_eq!(findings.count(), 1);
    }
}
