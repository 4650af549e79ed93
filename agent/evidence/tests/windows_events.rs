//! What the detector makes of courses of events, in every order and form they come in.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use ringward_evidence::finding::{Finding, Item};
use ringward_evidence::windows::event::{Datum, EventTime};
use ringward_evidence::windows::{self, Detector, EventRecord, Kind};

/// Writes a log's events with rising record ids, a second apart.
#[derive(Default)]
struct Log {
    events: Vec<EventRecord>,
    clock_s: i64,
}

const SCM: &str = "Service Control Manager";
const KERNEL_POWER: &str = "Microsoft-Windows-Kernel-Power";
const KERNEL_GENERAL: &str = "Microsoft-Windows-Kernel-General";
const KERNEL_BOOT: &str = "Microsoft-Windows-Kernel-Boot";
const WER_SYSTEM: &str = "Microsoft-Windows-WER-SystemErrorReporting";

impl Log {
    fn add(&mut self, provider: &str, event_id: u32, data: &[(&str, &str)]) -> &mut Self {
        self.clock_s += 1;
        let data = data.iter().map(|(name, value)| Datum {
            name: (*name).into(),
            value: (*value).into(),
        });
        self.events.push(EventRecord {
            provider: provider.into(),
            event_id,
            record_id: 100 + self.events.len() as u64,
            time: Some(EventTime((1_700_000_000 + self.clock_s) * 1_000_000)),
            channel: "System".into(),
            computer: "HOST".into(),
            data: data.collect(),
            ..EventRecord::default()
        });
        self
    }

    fn wait(&mut self, seconds: i64) -> &mut Self {
        self.clock_s += seconds;
        self
    }

    /// A boot after a proper shutdown: the event log starts first, the kernel's events of before
    /// and after the boot are flushed then.
    fn boot(&mut self) -> &mut Self {
        self.add("EventLog", 6009, &[]).add("EventLog", 6005, &[]);
        self.add(KERNEL_GENERAL, 13, &[])
            .add(KERNEL_GENERAL, 12, &[])
    }

    /// A boot after a stop that was none.
    fn boot_after_crash(&mut self) -> &mut Self {
        self.add(KERNEL_GENERAL, 12, &[]).add("EventLog", 6008, &[]);
        self.add("EventLog", 6009, &[]).add("EventLog", 6005, &[])
    }

    fn shut_down(&mut self) -> &mut Self {
        self.add("User32", 1074, &[]).add("EventLog", 6006, &[])
    }

    fn kernel_power(&mut self, code: &str, param: &str) -> &mut Self {
        let data = [
            ("BugcheckCode", code),
            ("BugcheckParameter1", param),
            ("BugcheckParameter2", "0x0"),
            ("BugcheckParameter3", "0x0"),
            ("BugcheckParameter4", "0x0"),
            ("SleepInProgress", "0"),
            ("PowerButtonTimestamp", "0"),
        ];
        self.add(KERNEL_POWER, 41, &data)
    }

    fn report(&mut self, code: &str, param: &str, minidump: &str) -> &mut Self {
        let zero = "0x0000000000000000";
        let text = format!("{code} ({param}, {zero}, {zero}, {zero})");
        let path = format!(r"C:\Windows\Minidump\{minidump}.dmp");
        let data = [("param1", &*text), ("param2", &*path), ("param3", minidump)];
        self.add(WER_SYSTEM, 1001, &data)
    }

    fn boot_status(&mut self, last_boot_id: &str) -> &mut Self {
        let data = [
            ("LastShutdownGood", "false"),
            ("LastBootGood", "false"),
            ("LastBootId", last_boot_id),
        ];
        self.add(KERNEL_BOOT, 20, &data)
    }

    fn service_crash(&mut self, key: &str, count: &str) -> &mut Self {
        let data = [("param1", key), ("param2", count), ("param3", "60000")];
        self.add(SCM, 7031, &data)
    }

    fn findings(&self) -> Vec<Finding> {
        findings(&self.events)
    }

    fn kinds(&self) -> Vec<&'static str> {
        self.findings().iter().map(|finding| finding.kind).collect()
    }
}

fn findings(events: &[EventRecord]) -> Vec<Finding> {
    let mut detector = Detector::default();
    for event in events {
        detector.push(event);
    }
    detector.finish()
}

/// The same event as Windows renders it.
fn render(event: &EventRecord) -> String {
    let data = event.data.iter();
    let data: String = data
        .map(|datum| format!("<Data Name='{}'>{}</Data>", datum.name, datum.value))
        .collect();
    format!(
        "<Event xmlns='http://schemas.microsoft.com/win/2004/08/events/event'><System>\
         <Provider Name='{}' Guid='{{0}}'/><EventID Qualifiers='1'>{}</EventID><Version>0</Version>\
         <TimeCreated SystemTime='{}'/><EventRecordID>{}</EventRecordID><Channel>{}</Channel>\
         <Computer>{}</Computer></System><EventData>{data}</EventData></Event>",
        event.provider,
        event.event_id,
        event.time.unwrap(),
        event.record_id,
        event.channel,
        event.computer,
    )
}

#[test]
fn all_sources_of_one_stop_are_one_finding() {
    let mut log = Log::default();
    log.boot()
        .boot_after_crash()
        .kernel_power("80", "0xffffc08e5cac74a0");
    log.report("0x00000050", "0xffffc08e5cac74a0", "071924-1-01");
    let findings = log.findings();
    let [finding] = findings.as_slice() else {
        panic!("{findings:?}")
    };
    assert_eq!(finding.kind, "bugcheck");
    assert_eq!(finding.evidence["code"], "0x50");
    assert_eq!(finding.evidence["minidump"], "071924-1-01");
    assert_eq!(finding.evidence["events"].as_array().unwrap().len(), 3);
}

#[test]
fn the_boots_of_a_crash_loop_are_told_apart_even_when_their_bugchecks_are_equal() {
    let mut log = Log::default();
    for _ in 0..5 {
        log.boot_after_crash().kernel_power("239", "0x0");
    }
    let findings = log.findings();
    assert_eq!(findings.len(), 5);
    let mut keys: Vec<&str> = findings
        .iter()
        .map(|finding| finding.key.as_str())
        .collect();
    keys.dedup();
    assert_eq!(keys.len(), 5);
}

#[test]
fn a_report_written_a_boot_late_adds_to_the_stop_it_is_of() {
    let mut log = Log::default();
    log.boot().boot_after_crash().kernel_power("209", "0x10");
    log.boot_after_crash()
        .kernel_power("0", "0x0")
        .report("0x000000d1", "0x10", "a");
    let findings = log.findings();
    assert_eq!(log.kinds(), ["bugcheck", "power-loss"]);
    assert_eq!(findings[0].evidence["minidump"], "a");
}

#[test]
fn a_stop_after_a_proper_shutdown_needs_more_than_the_kernels_flag() {
    let mut log = Log::default();
    log.boot().shut_down().boot().kernel_power("0", "0x0");
    assert!(log.findings().is_empty());
    let mut detector = Detector::default();
    log.events.iter().for_each(|event| detector.push(event));
    assert!(detector.boots()[1].doubtful_stop, "it is counted, though");

    let mut log = Log::default();
    log.boot().shut_down().boot().kernel_power("159", "0x3");
    assert_eq!(
        log.kinds(),
        ["bugcheck"],
        "a bugcheck while shutting down is one"
    );

    let mut log = Log::default();
    log.boot().boot().kernel_power("0", "0x0");
    assert_eq!(log.kinds(), ["power-loss"], "the log before did not end");
}

#[test]
fn lost_records_leave_the_shutdown_before_unknown() {
    let mut log = Log::default();
    log.boot().shut_down().boot().kernel_power("0", "0x0");
    let mut detector = Detector::default();
    for (index, event) in log.events.iter().enumerate() {
        if index == 3 {
            detector.records_lost();
        }
        detector.push(event);
    }
    assert_eq!(detector.finish()[0].kind, "power-loss");
}

#[test]
fn a_held_power_button_is_told_as_such() {
    let mut log = Log::default();
    log.boot_after_crash();
    log.add(
        KERNEL_POWER,
        41,
        &[
            ("BugcheckCode", "0"),
            ("PowerButtonTimestamp", "130849833260468750"),
        ],
    );
    assert_eq!(log.kinds(), ["power-button-hold"]);
}

#[test]
fn an_id_of_another_provider_is_another_event() {
    let mut log = Log::default();
    for provider in [
        "Microsoft-Windows-Kernel-Processor-Power",
        "EventLog",
        "Disk",
        SCM,
    ] {
        log.add(provider, 41, &[("BugcheckCode", "80")]);
        log.add(provider, 1001, &[("param1", "0x00000050 (0x0)")]);
    }
    assert!(log.findings().is_empty());
}

#[test]
fn a_dump_that_could_not_be_written_proves_a_bugcheck_of_unknown_code() {
    let mut log = Log::default();
    log.boot_after_crash()
        .add("volmgr", 161, &[])
        .kernel_power("0", "0x0");
    let findings = log.findings();
    assert_eq!(log.kinds(), ["bugcheck"]);
    assert_eq!(findings[0].evidence.get("code"), None);
    assert_eq!(findings[0].evidence["dump_write_failed"], true);
}

#[test]
fn boots_that_left_no_log_are_told_by_the_loaders_counter() {
    let mut log = Log::default();
    log.boot()
        .boot_status("6")
        .shut_down()
        .boot()
        .boot_status("7");
    assert!(log.findings().is_empty());
    log.shut_down().boot().boot_status("13");
    assert_eq!(log.kinds(), ["boots-without-log"]);
    assert_eq!(log.findings()[0].evidence["boots_without_log"], 5);
    log.kernel_power("80", "0x1");
    assert_eq!(log.kinds(), ["bugcheck"], "one finding for the boot");
    assert_eq!(log.findings()[0].evidence["boots_without_log"], 5);
}

#[test]
fn boots_that_died_before_their_log_make_no_snapshot_of_a_stop() {
    let mut log = Log::default();
    log.boot()
        .boot_status("6")
        .shut_down()
        .boot()
        .boot_status("10");
    log.kernel_power("0", "0x0");
    assert_eq!(log.kinds(), ["boots-without-log"]);
}

#[test]
fn one_unlogged_boot_and_a_counter_set_back_are_not_told() {
    let mut log = Log::default();
    log.boot()
        .boot_status("6")
        .shut_down()
        .boot()
        .boot_status("8");
    log.shut_down()
        .boot()
        .boot_status("2")
        .shut_down()
        .boot()
        .boot_status("3");
    assert!(log.findings().is_empty());
}

#[test]
fn a_service_that_crashes_again_and_again_is_a_loop() {
    let mut log = Log::default();
    log.boot()
        .service_crash("Acme", "1")
        .wait(60)
        .service_crash("Acme", "2");
    assert_eq!(log.kinds(), ["service-crash"]);
    log.wait(60).service_crash("Acme", "3");
    assert_eq!(log.kinds(), ["service-crash-loop"]);
}

#[test]
fn growth_counts_even_where_the_events_between_are_missing() {
    let mut log = Log::default();
    log.boot()
        .service_crash("Acme", "1")
        .wait(600)
        .service_crash("Acme", "9");
    assert_eq!(log.kinds(), ["service-crash-loop"]);
}

#[test]
fn a_counter_that_forgets_hides_no_loop_but_logons_make_none() {
    for (service, kinds) in [
        ("Acme", &["service-crash-loop"][..]),
        ("CDPUserSvc_4a3f2", &[]),
    ] {
        let mut log = Log::default();
        log.boot();
        for _ in 0..4 {
            log.wait(60).service_crash(service, "1");
        }
        assert_eq!(log.kinds(), kinds);
    }
}

#[test]
fn crashes_spread_over_days_are_no_loop() {
    let mut log = Log::default();
    log.boot();
    for count in ["1", "2", "3", "4"] {
        log.service_crash("Acme", count).wait(86_400);
    }
    assert_eq!(log.kinds(), ["service-crash"]);
}

#[test]
fn services_that_end_with_the_machine_or_the_logon_do_not_crash() {
    let mut log = Log::default();
    log.boot()
        .wait(600)
        .service_crash("OneSyncSvc_4a3f2", "1")
        .service_crash("Acme", "1");
    log.wait(8).add("EventLog", 6006, &[]).boot();
    assert!(log.findings().is_empty(), "{:?}", log.findings());

    let mut log = Log::default();
    log.boot()
        .add("User32", 1074, &[])
        .service_crash("Acme", "1")
        .wait(999);
    assert!(log.findings().is_empty());
}

#[test]
fn a_service_restarted_by_its_own_updater_did_not_crash() {
    let mut log = Log::default();
    log.boot().service_crash("Acme", "1").wait(60);
    log.add(
        SCM,
        7032,
        &[
            ("param1", "1"),
            ("param2", "x"),
            ("param3", "Acme"),
            ("param4", "%%1056"),
        ],
    );
    assert!(log.findings().is_empty());
}

#[test]
fn a_storm_of_failed_starts_is_one_finding() {
    let mut log = Log::default();
    log.boot();
    for index in 0..40 {
        let name = format!("svc{index}");
        log.add(SCM, 7009, &[("param1", "30000"), ("param2", &name)]);
        log.add(SCM, 7000, &[("param1", &name), ("param2", "%%1053")]);
    }
    let findings = log.findings();
    assert_eq!(log.kinds(), ["service-start-storm"]);
    assert_eq!(findings[0].evidence["count"], 40);

    let mut log = Log::default();
    log.boot();
    for index in 0..40 {
        log.wait(86_400)
            .add(SCM, 7000, &[("param1", &format!("svc{index}"))]);
    }
    assert!(log.findings().is_empty(), "one a day is none");
}

#[test]
fn a_detector_saved_and_loaded_goes_on_where_it_was() {
    let mut log = Log::default();
    log.boot()
        .service_crash("Acme", "1")
        .boot_after_crash()
        .kernel_power("80", "0x1");
    log.report("0x00000050", "0x1", "a").shut_down().boot();
    let mut detector = Detector::default();
    let mut told = Vec::new();
    for event in &log.events {
        detector.push(event);
        told.extend(detector.drain());
        let saved = serde_json::to_string(&detector).unwrap();
        detector = serde_json::from_str(&saved).unwrap();
    }
    let key = |finding: &Finding| finding.key.clone();
    let last = told
        .iter()
        .rfind(|finding| finding.kind == "bugcheck")
        .unwrap();
    let at_once = log.findings();
    let expected = at_once
        .iter()
        .find(|finding| finding.kind == "bugcheck")
        .unwrap();
    assert_eq!(last, expected, "the last word is the whole");
    let first = told
        .iter()
        .find(|finding| finding.kind != "service-crash")
        .unwrap();
    assert_eq!(key(first), key(expected), "the first word has its key");
}

#[test]
fn events_delivered_twice_count_once() {
    let mut log = Log::default();
    log.boot()
        .boot_after_crash()
        .kernel_power("80", "0x1")
        .service_crash("Acme", "1");
    let twice: Vec<_> = log
        .events
        .iter()
        .flat_map(|event| [event.clone(), event.clone()])
        .collect();
    assert_eq!(findings(&twice), log.findings());
    let again: Vec<_> = log.events.iter().chain(&log.events).cloned().collect();
    assert_eq!(findings(&again), log.findings());
}

#[test]
fn text_in_utf16_and_newest_first_tells_the_same() {
    let mut log = Log::default();
    log.boot()
        .boot_after_crash()
        .kernel_power("80", "0x1")
        .report("0x00000050", "0x1", "a");
    let rendered: Vec<String> = log.events.iter().rev().map(render).collect();
    let text = format!(
        "<?xml version='1.0'?><Events>{}</Events>",
        rendered.join("\r\n")
    );
    let expected: Vec<Item> = log.findings().into_iter().map(Item::from).collect();
    assert_eq!(
        windows::sniff("export", text.as_bytes()),
        Some(Kind::EventXml)
    );
    assert_eq!(windows::read(Kind::EventXml, "", text.as_bytes()), expected);
    let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let marked = [b"\xff\xfe", &wide[..]].concat();
    for bytes in [wide, marked] {
        assert_eq!(windows::sniff("export", &bytes), Some(Kind::EventXml));
        assert_eq!(windows::read(Kind::EventXml, "", &bytes), expected);
    }
}

#[test]
fn a_broken_event_does_not_hide_the_next() {
    let mut log = Log::default();
    log.boot_after_crash().kernel_power("80", "0x1");
    let good = render(&log.events[4]);
    let broken = [
        "<Event><System>",
        "<Event></Evnt></Event>",
        "<Event><System/></Event>",
        "<Event",
    ];
    for broken in broken {
        let text = format!("{broken}{good}{broken}");
        let items = windows::read(Kind::EventXml, "", text.as_bytes());
        let findings = items.iter().filter_map(Item::finding);
        assert_eq!(
            findings.map(|finding| finding.kind).collect::<Vec<_>>(),
            ["bugcheck"]
        );
        assert!(items.len() > 1, "{broken} is told");
    }
}

#[test]
fn deep_and_huge_events_are_refused() {
    let deep = format!("<Event>{}</Event>", "<a>".repeat(10_000));
    let huge = format!("<Event><System>{}</System></Event>", " ".repeat(2 << 20));
    for text in [deep, huge] {
        let items = windows::read(Kind::EventXml, "", text.as_bytes());
        assert!(matches!(items.as_slice(), [Item::Unreadable(_)]));
    }
}

#[test]
fn what_is_no_windows_evidence_is_left_to_others() {
    for bytes in [
        &b""[..],
        b"<html>",
        b"<EventLog>x",
        b"Oops: 0002 [#1] SMP",
        b"{\"a\":1}",
    ] {
        assert_eq!(windows::sniff("kern.log", bytes), None, "{bytes:?}");
    }
}

fn any_event() -> impl Strategy<Value = (usize, u64)> {
    (0usize..12, 0u64..4)
}

proptest! {
    #[test]
    fn any_course_of_events_is_taken_and_one_stop_is_told_once(
        course in proptest::collection::vec(any_event(), 0..60),
    ) {
        let mut log = Log::default();
        let mut powers = 0;
        for (what, number) in course {
            let text = number.to_string();
            match what {
                0 => log.boot(),
                1 => log.boot_after_crash(),
                2 => log.shut_down(),
                3 => {
                    powers += 1;
                    log.kernel_power("209", &text)
                }
                4 => log.report("0x000000d1", &format!("0x{number}"), &text),
                5 => log.service_crash("Acme", &text),
                6 => log.boot_status(&text),
                7 => log.add("EventLog", 6008, &[]),
                8 => log.add(KERNEL_GENERAL, 13, &[]),
                9 => log.add("volmgr", 161, &[]),
                10 => log.wait(4000),
                _ => log.add(SCM, 7000, &[("param1", &text)]),
            };
        }
        let findings = log.findings();
        let mut keys: Vec<&str> = findings.iter().map(|finding| finding.key.as_str()).collect();
        keys.sort_unstable();
        let count = keys.len();
        keys.dedup();
        prop_assert_eq!(keys.len(), count, "one key, one finding");
        let bugchecks = findings.iter().filter(|finding| finding.kind == "bugcheck").count();
        prop_assert!(bugchecks >= powers, "no stop is lost: {} of {}", bugchecks, powers);
    }

    #[test]
    fn any_text_is_read_without_panic(text in "(<Event>|</Event>|<Data|[<>&;\"'/=]|[a-z0-9 \u{e9}\u{200e}]{0,9}){0,60}") {
        windows::read(Kind::EventXml, "", text.as_bytes());
        windows::read(Kind::EventText, "", text.as_bytes());
        let _ = windows::parse_event(&text);
    }

    #[test]
    fn any_value_in_an_event_is_taken(value in "\\PC{0,40}", position in 0usize..7) {
        let mut log = Log::default();
        log.boot_after_crash().kernel_power("80", "0x1").report("0x50", "0x1", "a");
        for event in &mut log.events {
            if let Some(datum) = event.data.get_mut(position) {
                datum.value.clone_from(&value);
            }
            event.binary = value.clone().into_bytes();
            event.version = value.len() as u8;
        }
        prop_assert!(!log.findings().is_empty());
    }

    #[test]
    fn any_bytes_are_read_as_a_log_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..0x3000)) {
        let log = [b"ElfFile\0".as_slice(), &[0; 0xff8], b"ElfChnk\0", &bytes].concat();
        prop_assert!(!windows::read(Kind::EventLog, "", &log).is_empty());
        windows::read(Kind::EventLog, "", &bytes);
    }
}
