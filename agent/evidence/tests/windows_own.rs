//! Logs and dumps of our own making, in the binary forms, of machines that no sample is of: other
//! drivers, other builds, codes that blame nobody. What is true of the samples must be true of these.
#![allow(clippy::unwrap_used)]

#[allow(dead_code, missing_docs)]
mod draft;

use draft::log::{Record, log};
use draft::{Draft, NT, OTHER, THEIRS};
use proptest::prelude::*;
use ringward_evidence::finding::{Finding, Item};
use ringward_evidence::windows::{Detector, Dump, Kind, feed, read};

const POWER: &str = "Microsoft-Windows-Kernel-Power";
const GENERAL: &str = "Microsoft-Windows-Kernel-General";
const WER: &str = "Microsoft-Windows-WER-SystemErrorReporting";
const SCM: &str = "Service Control Manager";
/// 2026-01-01, in units of 100 ns since 1601.
const START: u64 = 134_117_280_000_000_000;

/// A log that grows an event a second.
struct Writer(Vec<Record>);

impl Writer {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn add(&mut self, provider: &'static str, event_id: u16, data: &[(&'static str, &str)]) {
        let id = 1000 + self.0.len() as u64;
        self.0.push(Record {
            provider,
            event_id,
            id,
            filetime: START + id * 10_000_000,
            data: data
                .iter()
                .map(|(key, said)| (*key, (*said).to_owned()))
                .collect(),
        });
    }

    /// A boot; what the shutdown before left is flushed in it.
    fn boot(&mut self) {
        self.add(GENERAL, 12, &[]);
        self.add("EventLog", 6009, &[]);
        self.add("EventLog", 6005, &[]);
    }

    fn shut_down(&mut self) {
        self.add("EventLog", 6006, &[]);
        self.add(GENERAL, 13, &[]);
    }

    /// What the boot after a stop says of it; code 0 for a power loss.
    fn died(&mut self, code: u32, params: [u64; 4]) {
        let told: Vec<String> = params.iter().map(|param| format!("{param:#x}")).collect();
        let code = code.to_string();
        self.add(
            POWER,
            41,
            &[
                ("BugcheckCode", &code),
                ("BugcheckParameter1", &told[0]),
                ("BugcheckParameter2", &told[1]),
                ("BugcheckParameter3", &told[2]),
                ("BugcheckParameter4", &told[3]),
                ("SleepInProgress", "0"),
                ("PowerButtonTimestamp", "0"),
            ],
        );
    }

    fn reported(&mut self, code: u32, params: [u64; 4], dump: &str) {
        let [p1, p2, p3, p4] = params.map(|param| format!("{param:#018x}"));
        let told = format!("{code:#010x} ({p1}, {p2}, {p3}, {p4})");
        let id = "00000000-0000-0000-0000-000000000000";
        self.add(
            WER,
            1001,
            &[("param1", &told), ("param2", dump), ("param3", id)],
        );
    }

    fn findings(&self) -> Vec<Finding> {
        let items = read(Kind::EventLog, "System.evtx", &log(&self.0));
        let finding = |item| match item {
            Item::Finding(finding) => finding,
            Item::Unreadable(gap) => panic!("{gap:?}"),
        };
        items.into_iter().map(finding).collect()
    }

    fn kinds(&self) -> Vec<&'static str> {
        self.findings().iter().map(|finding| finding.kind).collect()
    }
}

fn machine(code: u32, params: [u64; 4]) -> Draft {
    Draft::x64(code, params)
}

#[test]
fn a_binary_log_is_read_as_what_was_written() {
    let mut writer = Writer::new();
    writer.boot();
    writer.boot();
    writer.died(0xd1, [0x10, 2, 0, THEIRS + 0x40]);
    writer.reported(
        0xd1,
        [0x10, 2, 0, THEIRS + 0x40],
        r"C:\Windows\Minidump\112326-1-01.dmp",
    );
    let findings = writer.findings();
    assert_eq!(writer.kinds(), ["bugcheck"]);
    assert_eq!(findings[0].evidence["code"], "0xd1");
    assert_eq!(findings[0].evidence["minidump"], "112326-1-01");
    assert_eq!(findings[0].evidence["events"].as_array().unwrap().len(), 2);
}

#[test]
fn a_healthy_year_is_silent() {
    let mut writer = Writer::new();
    for _ in 0..400 {
        writer.boot();
        writer.add(SCM, 7036, &[("param1", "Spooler"), ("param2", "running")]);
        writer.add(POWER, 109, &[("ShutdownActionType", "5")]);
        writer.shut_down();
    }
    assert!(log(&writer.0).len() > 3 * 0x1_0000, "over several chunks");
    assert_eq!(writer.findings(), []);
}

#[test]
fn a_clean_stop_between_two_bugchecks_takes_neither_away() {
    let mut writer = Writer::new();
    writer.boot();
    for code in [0x50, 0x133] {
        writer.boot();
        writer.died(code, [1, 2, 3, 4]);
        writer.shut_down();
        writer.boot();
    }
    assert_eq!(writer.kinds(), ["bugcheck", "bugcheck"]);
    writer.boot();
    writer.died(0, [0; 4]);
    assert_eq!(writer.kinds(), ["bugcheck", "bugcheck", "power-loss"]);
}

#[test]
fn a_kernel_power_event_of_an_older_template_without_names_is_read_by_place() {
    let mut writer = Writer::new();
    writer.boot();
    writer.boot();
    let data = ["209", "0x10", "0x2", "0x0", "0x3", "false", "0"];
    writer.add(POWER, 41, &data.map(|said| ("", said)));
    let findings = writer.findings();
    assert_eq!(findings[0].evidence["code"], "0xd1");
}

#[test]
fn dump_and_log_of_one_stop_are_one_finding_that_names_the_driver_whatever_comes_first() {
    let params = [0xffff_ffff_c000_0005, OTHER + 0x1234, 1, 2];
    // The log tells the bare code, the minidump its own.
    let dump = machine(0x1000_007e, params).build();
    let mut writer = Writer::new();
    writer.boot();
    writer.boot();
    writer.died(0x7e, params);
    let written = log(&writer.0);
    let sources = [
        (Kind::EventLog, "System.evtx", written.as_slice()),
        (Kind::Dump, "112326-9-01.dmp", dump.as_slice()),
    ];
    for order in [[0, 1], [1, 0]] {
        let mut detector = Detector::default();
        for (kind, name, bytes) in order.map(|index| sources[index]) {
            assert_eq!(feed(kind, name, bytes, &mut detector), []);
        }
        let findings = detector.finish();
        let [finding] = findings.as_slice() else {
            panic!("{findings:?}")
        };
        assert_eq!(finding.module.as_deref(), Some("other.sys"));
        assert!(finding.title.ends_with("in other.sys"), "{}", finding.title);
        assert_eq!(finding.evidence["dump"]["blame"]["offset"], "0x1234");
    }
}

#[test]
fn names_and_builds_are_the_dumps_own() {
    for name in [
        r"\SystemRoot\System32\drivers\ACME64.SYS",
        r"\??\C:\ProgramData\Wächter\wächter.sys",
        "flat.sys",
        r"\SystemRoot\system32\ntfsx.sys",
        r"\SystemRoot\system32\halcyon.sys",
        r"\SystemRoot\system32\win32kfull.sys",
    ] {
        let mut draft = machine(0x50, [1, 0, THEIRS + 8, 0]);
        draft.drivers[2].0 = name;
        for build in [9600_u32, 17763, 22631, 26100] {
            let mut bytes = draft.build();
            bytes[0x0c..0x10].copy_from_slice(&build.to_le_bytes());
            let dump = Dump::read(&bytes).unwrap();
            assert_eq!(dump.build, Some(build));
            let blame = dump.blame().unwrap();
            assert_eq!(Some(blame.module.as_str()), name.rsplit('\\').next());
        }
    }
}

#[test]
fn a_kernel_by_any_of_its_names_is_nobody() {
    for kernel in [
        "ntoskrnl.exe",
        "ntkrnlmp.exe",
        "NTKRNLPA.EXE",
        "ntkrpamp.exe",
    ] {
        let mut draft = machine(0x1000_007e, [5, NT + 0x100, 0, 0]);
        draft.drivers[0].0 = kernel;
        assert!(draft_blame(&draft).is_err(), "{kernel}");
        draft.stack.push(THEIRS + 0x20);
        assert_eq!(draft_blame(&draft).unwrap(), "acme.sys", "{kernel}");
    }
    for bystander in [
        "dump_storport.sys",
        "crashdmp.sys",
        "VerifierExt.sys",
        "halmacpi.dll",
    ] {
        let mut draft = machine(0x1000_007e, [5, THEIRS + 0x100, 0, 0]);
        draft.drivers[2].0 = bystander;
        assert!(draft_blame(&draft).is_err(), "{bystander}");
    }
}

fn draft_blame(draft: &Draft) -> Result<String, &'static str> {
    let dump = Dump::read(&draft.build()).unwrap();
    dump.blame().map(|blame| blame.module)
}

#[test]
fn codes_of_watchdogs_hardware_hypervisor_and_processes_blame_nobody() {
    for code in [
        0x133,
        0x101,
        0x1ca,
        0x9f,
        0x124,
        0x9c,
        0xef,
        0xf4,
        0x6b,
        0xc000_021a,
        0x20001,
        0x18b,
        0x1a,
        0x4e,
        0x7a,
        0x7b,
        0xed,
        0x74,
        0x51,
        0xa5,
        0xe2,
        0xdead_dead,
    ] {
        let mut draft = machine(code, [THEIRS; 4]);
        (draft.pc, draft.stack) = (THEIRS, vec![THEIRS, OTHER]);
        assert!(draft_blame(&draft).is_err(), "{code:#x}");
        let finding = Dump::read(&draft.build()).unwrap().finding("x.dmp");
        assert_eq!(finding.module, None);
        let told = finding.evidence["blame"]["nobody"].as_str();
        assert!(told.is_some_and(|why| !why.is_empty()), "{code:#x}");
    }
}

#[test]
fn an_address_at_the_edge_of_a_driver_is_its_own_and_one_beyond_is_not() {
    let at = |address| draft_blame(&machine(0x50, [1, 0, address, 0]));
    assert_eq!(at(THEIRS).unwrap(), "acme.sys");
    assert_eq!(at(THEIRS + 0x8fff).unwrap(), "acme.sys");
    assert!(at(THEIRS + 0x9000).is_err());
    assert!(at(THEIRS - 1).is_err());
    assert!(at(u64::MAX).is_err());
}

proptest! {
    #[test]
    fn any_driver_at_any_place_is_named_by_the_parameter_of_its_code(
        stem in "[a-z][a-z0-9]{1,7}",
        slot in 0_u64..4000,
        offset in 0_u64..0x9000,
        (code, parameter) in prop_oneof![
            Just((0x50_u32, 3_usize)), Just((0xd1, 4)), Just((0x0a, 4)), Just((0x3b, 2)),
            Just((0x1e, 2)), Just((0x1000_008e, 2)), Just((0x116, 2)),
        ],
    ) {
        prop_assume!(!["hal", "dump", "ntkr", "ntoskrnl"].iter().any(|own| stem.starts_with(own)));
        let base = OTHER + 0x10_0000 * (slot + 1);
        let name: &'static str = format!(r"\SystemRoot\System32\drivers\{stem}.sys").leak();
        let mut params = [0_u64; 4];
        params[parameter - 1] = base + offset;
        let mut draft = machine(code, params);
        draft.drivers.push((name, base, 0x9000));
        let dump = Dump::read(&draft.build()).unwrap();
        let blame = dump.blame().unwrap();
        prop_assert_eq!(blame.module, format!("{stem}.sys"));
        prop_assert_eq!(blame.offset, offset);
    }

    #[test]
    fn a_log_cut_or_changed_anywhere_is_read_on(
        cut in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut writer = Writer::new();
        writer.boot();
        writer.boot();
        writer.died(0x50, [1, 2, 3, 4]);
        let whole = log(&writer.0);
        let used = 0x1000 + 0x200 + 6 * 1200;
        let mut bytes = whole.clone();
        bytes[at.index(used)] = byte;
        bytes.truncate(0x1000 + cut.index(whole.len() - 0x1000));
        let items = read(Kind::EventLog, "", &bytes);
        prop_assert!(items.len() <= 8, "{items:?}");
    }
}
