//! Kernel dumps of every width and type, made by hand, whole, cut and lying.
#![allow(clippy::unwrap_used)]

#[allow(dead_code, missing_docs)]
mod draft;

use draft::{Draft, NT, OTHER, THEIRS};
use proptest::prelude::*;
use ringward_evidence::finding::Item;
use ringward_evidence::windows::dump::{By, DumpError, DumpType};
use ringward_evidence::windows::{self, Dump, Kind};

impl Draft {
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
        (3, DumpType::Header),
        (7, DumpType::Automatic),
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
