//! Login records and units.

use std::fs;

use ringward_evidence::linux::wtmp;

use super::{findings, found, row, samples};

#[test]
fn login_records_of_every_size_tell_crashes() {
    let Some(samples) = samples() else { return };
    let ends = |path: &str| -> Vec<String> {
        let items = wtmp::read(&fs::read(samples.join(path)).unwrap());
        findings(items)
            .iter()
            .map(|f| f.evidence["end"].as_str().unwrap().to_owned())
            .collect()
    };
    let truth: [(&str, &[&str]); 9] = [
        (
            "own-vm/wtmp/wtmp.bin",
            &["crash", "crash", "crash", "current"],
        ),
        (
            "own-vm/wtmp/wtmp-after-powercut.bin",
            &["crash", "crash", "crash", "crash", "current"],
        ),
        (
            "own-vm/wtmp/wtmp-after-clean.bin",
            &["crash", "crash", "crash", "crash", "shutdown", "current"],
        ),
        ("wtmp/plaso.utmp", &["current"]),
        ("wtmp/plaso.utmp_x86_64", &["shutdown"]),
        ("wtmp/plaso.utmp_aarch64", &["shutdown"]),
        ("wtmp/plaso.utmp_s390", &["shutdown"]),
        ("wtmp/utmprs.basic64.utmp", &["current"]),
        ("wtmp/utmprs.with_host_32.utmp", &["current"]),
    ];
    for (path, expected) in truth {
        assert_eq!(ends(path), expected, "{path}");
    }
    let (good, bad) = wtmp::records(&fs::read(samples.join("wtmp/plaso.utmp_corrupted")).unwrap());
    let users: Vec<&str> = good.iter().map(|record| record.user.as_str()).collect();
    assert_eq!(users, ["alice", "bob"]);
    assert_eq!(bad.len(), 3);
    row(
        "login records",
        truth.len() + 1,
        truth.len() + 1,
        "384 and 400 bytes, both byte orders",
    );
}

#[test]
fn crash_looping_units_are_told_from_their_counters() {
    let Some(samples) = samples() else { return };
    let truth = [
        (
            "own-vm/services/crashloop-unit.json",
            "unit-crash-loop",
            "crasher.service",
            Some(5),
        ),
        (
            "own-vm/services/crashloop-pid1.export",
            "unit-crash-loop",
            "crasher.service",
            Some(5),
        ),
        (
            "own-vm/services/crashloop-unit.txt",
            "unit-crash-loop",
            "crasher.service",
            Some(5),
        ),
        (
            "own-vm/services/exitcode-loop.json",
            "unit-crash-loop",
            "ex.service",
            Some(5),
        ),
        (
            "own-vm/services/start-limit-hit.json",
            "unit-failed",
            "sl.service",
            Some(0),
        ),
        (
            "own-vm/services/systemctl-show-crasher.txt",
            "unit-crash-loop",
            "crasher.service",
            Some(5),
        ),
        (
            "own-vm/services/systemctl-show-exitcode-loop.txt",
            "unit-crash-loop",
            "ex.service",
            Some(5),
        ),
        (
            "own-vm/services/systemctl-status-crasher.txt",
            "unit-crash-loop",
            "crasher.service",
            None,
        ),
        (
            "systemd/status_beszel-hub_start-limit-hit.txt",
            "unit-crash-loop",
            "beszel-hub.service",
            Some(5),
        ),
        (
            "systemd/status_snapd_journald_start-limit-hit.txt",
            "unit-failed",
            "systemd-journald.service",
            None,
        ),
        (
            "systemd/status_snapd_old_start-limit.txt",
            "unit-failed",
            "systemd-journald.service",
            None,
        ),
        (
            "systemd/journal_exit-code_masks_start-limit_systemd32203.txt",
            "unit-failed",
            "foo.service",
            None,
        ),
    ];
    for (path, kind, unit, restarts) in truth {
        let found = found(&samples.join(path));
        let unit = found
            .iter()
            .find(|f| f.evidence.get("unit").is_some_and(|name| name == unit))
            .unwrap();
        assert_eq!(unit.kind, kind, "{path}");
        if let Some(restarts) = restarts {
            assert_eq!(unit.evidence["restarts"], restarts, "{path}");
        }
    }
    row("units", truth.len(), truth.len(), "journal, show, status");
    let cores = found(&samples.join("own-vm/services/coredump-journal.json"));
    assert_eq!(cores.iter().filter(|f| f.kind == "coredump").count(), 5);
}

#[test]
fn healthy_artefacts_raise_no_alarm() {
    let Some(samples) = samples() else { return };
    let quiet = [
        "own-vm/services/systemctl-show-pstore.txt",
        "own-vm/services/kernel-boot.json",
        "own-vm/dmesg-boot0.txt",
        "own-vm/pstore/efi/dmesg-next-boot.txt",
        "greenboot",
    ];
    for path in quiet {
        let found = found(&samples.join(path));
        let alarm = found
            .iter()
            .find(|f| !matches!(f.kind, "boot" | "boot-loader"));
        assert_eq!(alarm, None, "{path}");
    }
    row(
        "healthy artefacts without alarm",
        quiet.len(),
        quiet.len(),
        "",
    );
}
