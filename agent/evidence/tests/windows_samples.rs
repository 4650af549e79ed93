//! Windows evidence of real machines (`../shared/samples` beside the repository).
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use ringward_evidence::finding::{Finding, Item};
use ringward_evidence::windows;
use ringward_evidence::windows::{Detector, Dump, Kind};

/// Reads a sample, or says that it is not here.
fn sample(path: &str) -> Option<Vec<u8>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/samples");
    let bytes = std::fs::read(root.join(path)).ok();
    if bytes.is_none() {
        eprintln!("skipped: samples not here ({path})");
    }
    bytes
}

/// The findings and the errors of a sample, read as what it is sniffed to be.
fn inspect(path: &str) -> Option<(Vec<Finding>, Vec<String>)> {
    let bytes = sample(path)?;
    let kind = windows::sniff(path, &bytes[..bytes.len().min(4096)]).expect("a known kind");
    let (mut findings, mut errors) = (Vec::new(), Vec::new());
    for item in windows::read(kind, path, &bytes) {
        match item {
            Item::Finding(finding) => findings.push(finding),
            Item::Unreadable(gap) => errors.push(gap.error),
        }
    }
    Some((findings, errors))
}

fn kinds(findings: &[Finding]) -> Vec<&'static str> {
    findings.iter().map(|finding| finding.kind).collect()
}

fn text<'a>(finding: &'a Finding, pointer: &str) -> &'a str {
    let value = finding
        .evidence
        .get(pointer.split('/').next().unwrap())
        .unwrap();
    let rest = pointer.split('/').skip(1);
    rest.fold(value, |value, name| &value[name])
        .as_str()
        .unwrap()
}

#[test]
fn a_triage_dump_names_the_driver_its_parameter_points_into() {
    let Some((findings, errors)) = inspect("kdmp/triage_x64.dmp") else {
        return;
    };
    assert!(errors.is_empty(), "{errors:?}");
    let [finding] = findings.as_slice() else {
        panic!("{findings:?}")
    };
    assert_eq!(finding.kind, "bugcheck");
    assert_eq!(finding.module.as_deref(), Some("amdppm.sys"));
    assert_eq!(text(finding, "code"), "0x1000007e");
    assert_eq!(text(finding, "name"), "SYSTEM_THREAD_EXCEPTION_NOT_HANDLED");
    assert_eq!(text(finding, "blame/offset"), "0x334c");
    assert_eq!(text(finding, "blame/by"), "parameter 2");
    assert_eq!(text(finding, "blame/driver/size"), "0x3b000");
    assert_eq!(text(finding, "system_time"), "2021-02-21T01:38:22.987765Z");
    assert_eq!(finding.evidence["build"], 19041);
    assert_eq!(finding.evidence["machine"], "x64");
    assert_eq!(finding.evidence["cpus"], 16);
    assert_eq!(finding.evidence["uptime_s"], 3.747_069_7);
    assert_eq!(finding.evidence["driver_count"], 0x97);
    let unloaded = serde_json::json!(["dam.sys", "WdBoot.sys", "hwpolicy.sys", "mcupdate.dll"]);
    assert_eq!(finding.evidence["unloaded_drivers"], unloaded);
}

#[test]
fn the_drivers_of_a_triage_dump_are_those_an_independent_reader_found() {
    let Some(bytes) = sample("kdmp/triage_x64.dmp") else {
        return;
    };
    let Some(expected) = sample("kdmp/triage_x64.expected.json") else {
        return;
    };
    let expected: serde_json::Value = serde_json::from_slice(&expected).unwrap();
    let triage = Dump::read(&bytes).unwrap().triage.unwrap();
    let mut expected: Vec<(u64, String, String, String)> = expected["drivers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|driver| {
            let text = |name: &str| driver[name].as_str().unwrap().to_owned();
            let base = u64::from_str_radix(&text("base")[2..], 16).unwrap();
            (base, text("name"), text("size"), text("f78"))
        })
        .collect();
    expected.sort();
    let found: Vec<_> = triage
        .drivers
        .iter()
        .map(|driver| {
            let hex = |number: u32| format!("{number:#x}");
            let path = driver.path.clone().unwrap();
            (driver.base, path, hex(driver.size), hex(driver.checksum))
        })
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn the_blame_survives_every_cut_that_leaves_it_and_none_that_does_not() {
    let Some(bytes) = sample("kdmp/triage_x64.dmp") else {
        return;
    };
    // The driver list and its names end well before 0x1a000; after that nothing blame needs.
    let lens = (0..0x3000).chain((0x3000..0x1b000).step_by(61));
    for len in lens.chain([bytes.len() - 1]) {
        match Dump::read(&bytes[..len]) {
            Ok(dump) => {
                assert_eq!(dump.code, 0x1000_007e);
                match dump.blame() {
                    Ok(blame) => assert_eq!(
                        (blame.module.as_str(), blame.offset),
                        ("amdppm.sys", 0x334c)
                    ),
                    Err(_) => assert!(len < 0x1a000, "blame lost at {len:#x}"),
                }
                assert_eq!(dump.gaps.is_empty(), len > 0x13_a28c, "cut at {len:#x}");
            }
            Err(_) => assert!(len < 0x60, "bugcheck lost at {len:#x}"),
        }
    }
}

#[test]
fn a_user_mode_dump_is_no_kernel_dump() {
    for name in [
        "test",
        "linux-mini",
        "invalid-parameter",
        "invalid-range",
        "invalid-record-count",
    ] {
        let path = format!("mdmp/rust-minidump__{name}.dmp");
        let Some((findings, errors)) = inspect(&path) else {
            return;
        };
        assert!(findings.is_empty(), "{findings:?}");
        assert!(errors[0].contains("not a kernel dump"), "{errors:?}");
    }
}

#[test]
fn one_log_holds_one_bugcheck_and_one_power_loss() {
    let Some((findings, errors)) = inspect("evtx/python-evtx__system.evtx") else {
        return;
    };
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(kinds(&findings), ["bugcheck", "power-loss"]);
    assert_eq!(text(&findings[0], "code"), "0x10001");
    assert_eq!(text(&findings[0], "dump_path"), r"C:\Windows\MEMORY.DMP");
    assert_eq!(text(&findings[0], "minidump"), "040612-50390-01");
    assert_eq!(text(&findings[0], "last_alive"), "2012-04-06T13:59:13.029Z");
    assert_eq!(text(&findings[1], "last_alive"), "2012-04-06T19:09:23.331Z");
    assert_eq!(findings[0].evidence["events"].as_array().unwrap().len(), 3);
}

#[test]
fn kernel_power_after_a_proper_shutdown_is_no_crash() {
    let path = "evtx/dfirmuseum_win10_belkasoft__System.evtx";
    let Some((findings, _)) = inspect(path) else {
        return;
    };
    assert_eq!(kinds(&findings), ["power-loss"; 3]);
    let records = |finding: &Finding| finding.evidence["events"].to_string();
    for (finding, record) in findings
        .iter()
        .zip(["record 749", "record 894", "record 1679"])
    {
        assert!(records(finding).contains(record), "{finding:?}");
    }
    for doubtful in ["record 1162", "record 1621"] {
        assert!(
            !findings
                .iter()
                .any(|finding| records(finding).contains(doubtful))
        );
    }
    // Boots 9 and 10 left no log before the one that told of them.
    assert_eq!(findings[1].evidence["boots_without_log"], 2);
}

#[test]
fn healthy_logs_are_silent() {
    for name in ["artemis_win__System", "dfirmuseum_server2022_apt__System"] {
        let Some((findings, errors)) = inspect(&format!("evtx/{name}.evtx")) else {
            return;
        };
        assert!(findings.is_empty(), "{name}: {findings:?}");
        assert!(errors.is_empty(), "{name}: {errors:?}");
    }
}

#[test]
fn a_corrupt_record_is_one_gap_and_per_user_services_are_no_crashes() {
    let path = "evtx/sample-with-zero-data-size-event.evtx";
    let Some((findings, errors)) = inspect(path) else {
        return;
    };
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!(errors.len(), 1, "{errors:?}");
}

#[test]
fn crashed_programs_are_told_and_other_error_reports_are_not() {
    let path = "evtx/dfirmuseum_win2012r2_szechuan__Application.evtx";
    if let Some((findings, _)) = inspect(path) {
        assert_eq!(kinds(&findings), ["application-crash"]);
        assert_eq!(text(&findings[0], "program"), "spoolsv.exe");
        assert_eq!(text(&findings[0], "exception"), "0xc0000005");
    }
    let path = "evtx/hayabusa_deepblue__many-events-application.evtx";
    if let Some((findings, _)) = inspect(path) {
        assert_eq!(kinds(&findings), ["application-crash"]);
        assert_eq!(text(&findings[0], "program"), "rundll32.exe");
    }
}

#[test]
fn ten_exits_in_a_second_are_a_loop_and_one_failed_start_a_boot_is_none() {
    let Some((findings, errors)) = inspect("evtx/evtxrs__system.evtx") else {
        return;
    };
    assert!(errors.is_empty(), "the dirty tail is read: {errors:?}");
    assert_eq!(kinds(&findings), ["service-exit-loop"]);
    assert_eq!(text(&findings[0], "service"), "UI0Detect");
    assert_eq!(findings[0].evidence["count"], 10);
}

#[test]
fn rendered_events_say_the_same_through_every_template() {
    let expected = [
        ("e6008_win11_TOOTHLESS.xml", Some(("unclean-stop", None))),
        (
            "kp41_v2_win7_pastebin_LvYSkguB.xml",
            Some(("power-loss", None)),
        ),
        (
            "kp41_v5_bugcheckinfofromefi_pastebin_PsQtPiQU.xml",
            Some(("power-loss", None)),
        ),
        ("kp41_v6_pastebin_Lgz3RHNH.xml", Some(("power-loss", None))),
        (
            "kp41_v6_bugcheck1A_driverdocs1815_PARTIAL.xml",
            Some(("bugcheck", Some("0x1a"))),
        ),
        (
            "wer1001_bugcheck116_pastebin_tDddGFUg.xml",
            Some(("bugcheck", Some("0x116"))),
        ),
        (
            "wer_app1001_BlueScreen_pastebin_3wFPCxFi.txt",
            Some(("bugcheck", Some("0x119"))),
        ),
        ("wer_app1001_LiveKernelEvent_pastebin_BcPAVF7a.txt", None),
        (
            "volmgr161_dump_failed_pastebin_JEzk0Z0m.xml",
            Some(("dump-write-failed", None)),
        ),
        ("scm7000_win10_pastebin_nZJ71YhV.xml", None),
        ("scm7024_scm-manager_401.xml", None),
    ];
    for (file, expected) in expected {
        let Some((findings, errors)) = inspect(&format!("evtx-xml/{file}")) else {
            return;
        };
        assert!(errors.is_empty(), "{file}: {errors:?}");
        let found = findings.first().map(|finding| {
            let code = finding.evidence.get("code");
            (finding.kind, code.map(|code| code.as_str().unwrap()))
        });
        assert_eq!(found, expected, "{file}");
        assert!(findings.len() <= 1, "{file}");
    }
}

#[test]
fn a_blue_screen_report_names_its_parameters_and_minidump() {
    let path = "evtx-xml/wer_app1001_BlueScreen_pastebin_3wFPCxFi.txt";
    let Some((findings, _)) = inspect(path) else {
        return;
    };
    let params = serde_json::json!([
        "0x2",
        "0xffffffffc000000d",
        "0xffff8a82289b72e0",
        "0xffffbb8dc74a5e90"
    ]);
    assert_eq!(findings[0].evidence["params"], params);
    assert_eq!(text(&findings[0], "minidump"), "021024-5656-01");
}

#[test]
fn a_log_tells_the_same_whether_its_ring_starts_at_its_oldest_chunk_or_elsewhere() {
    let Some(bytes) = sample("evtx/python-evtx__system.evtx") else {
        return;
    };
    let straight = windows::read(Kind::EventLog, "", &bytes);
    let chunks: Vec<&[u8]> = bytes[0x1000..].chunks(0x10000).collect();
    for turn in [1, chunks.len() / 2] {
        let mut turned = bytes[..0x1000].to_vec();
        let ring = chunks[turn..].iter().chain(&chunks[..turn]);
        turned.extend(ring.flat_map(|chunk| chunk.iter()));
        assert_eq!(windows::read(Kind::EventLog, "", &turned), straight);
    }
}

#[test]
fn the_boots_of_a_log_are_counted_without_its_fast_startups() {
    let Some(bytes) = sample("evtx/dfirmuseum_win10_belkasoft__System.evtx") else {
        return;
    };
    let mut detector = Detector::default();
    windows::feed(Kind::EventLog, "System.evtx", &bytes, &mut detector);
    let boots = detector.boots();
    assert_eq!(boots.iter().map(|boot| boot.fast_startups).sum::<u32>(), 3);
    assert_eq!(boots.iter().filter(|boot| boot.doubtful_stop).count(), 2);
    assert_eq!(boots.len(), 22, "{boots:#?}");
}
