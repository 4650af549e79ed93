//! Journal files and exports.

use std::fs;
use std::path::Path;

use ringward_evidence::linux::journal;

use super::{files, findings, found, row, samples};

/// Unpacks a journal sample next to nothing else.
fn unpacked(path: &Path) -> Vec<u8> {
    let packed = fs::read(path).unwrap();
    let mut decoder = ruzstd::decoding::FrameDecoder::new();
    let mut bytes = Vec::with_capacity(64 << 20);
    decoder.decode_all_to_vec(&packed, &mut bytes).unwrap();
    bytes
}

#[test]
fn boots_without_a_clock_are_all_found_in_order() {
    let Some(samples) = samples() else { return };
    let folder = samples.join("journal");
    let mut reader = journal::Reader::default();
    let mut paths = Vec::new();
    files(&folder, &mut paths);
    let mut journals = 0;
    for path in paths
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "zst"))
    {
        if path.parent() != Some(folder.as_path()) {
            continue;
        }
        let bytes = unpacked(path);
        assert!(
            journal::file::read(&mut bytes.as_slice(), &mut reader).is_empty(),
            "{}",
            path.display()
        );
        journals += 1;
    }
    let table = fs::read_to_string(folder.join("no-rtc.list-boots.expected.json")).unwrap();
    let table: serde_json::Value = serde_json::from_str(&table).unwrap();
    let expected: Vec<&str> = table
        .as_array()
        .unwrap()
        .iter()
        .map(|boot| boot["boot_id"].as_str().unwrap())
        .collect();
    assert_eq!(reader.boot_order(), expected);
    let found = findings(reader.finish());
    let events = fs::read_to_string(folder.join("no-rtc.pid1-events.expected.json")).unwrap();
    let events: serde_json::Value = serde_json::from_str(&events).unwrap();
    let mut good = 0;
    for event in events.as_array().unwrap() {
        let boot = event["_BOOT_ID"].as_str().unwrap();
        let seen = match event["UNIT"].as_str() {
            None => found
                .iter()
                .any(|f| f.key == format!("boot:{boot}") && f.evidence["started_up"] == true),
            Some(unit) => found.iter().any(|f| f.key == format!("unit:{unit}:{boot}")),
        };
        good += usize::from(seen);
        if !seen {
            println!("unseen {event}");
        }
    }
    let total = events.as_array().unwrap().len();
    row(
        "journal files: boots",
        expected.len(),
        expected.len(),
        &format!("{journals} files"),
    );
    row("journal files: events of PID 1", good, total, "");
    assert_eq!(good, total);
}

#[test]
fn corrupt_journals_end_and_keep_what_is_readable() {
    let Some(samples) = samples() else { return };
    let folder = samples.join("journal/corrupted");
    let mut reader = journal::Reader::default();
    for name in [
        "systemd_corrupted_1.zst",
        "systemd_corrupted_2.zst",
        "artemis__bad_recursive.journal.zst",
    ] {
        let bytes = unpacked(&folder.join(name));
        let _ = journal::file::read(&mut bytes.as_slice(), &mut reader);
    }
    let archive = unpacked(&folder.join("afl-corrupted-journals.tar.zst"));
    let mut files = 0;
    for start in archive
        .windows(8)
        .enumerate()
        .filter(|(_, w)| *w == journal::file::MAGIC)
        .map(|(at, _)| at)
    {
        let end = archive.len().min(start + 256 * 1024);
        let _ = journal::file::read(&mut &archive[start..end], &mut reader);
        files += 1;
    }
    row(
        "corrupt journals: read to the end",
        files + 3,
        files + 3,
        "",
    );
    assert!(files > 100);
    let _ = reader.finish();
}

#[test]
fn clean_and_unclean_boots_of_a_real_machine_are_told() {
    let Some(samples) = samples() else { return };
    let own = samples.join("own-vm/journal");
    let clean = found(&own.join("clean-shutdown-boot.full.json"));
    assert_eq!(
        clean.iter().find(|f| f.kind == "boot").unwrap().evidence["end"],
        "shutdown"
    );
    let mut reader = journal::Reader::default();
    for path in ["unclean-boot-1.full.json", "clean-shutdown-boot.full.json"] {
        let bytes = fs::read(own.join(path)).unwrap();
        assert!(journal::json::read(&mut bytes.as_slice(), &mut reader).is_empty());
    }
    let boots = findings(reader.finish());
    let ends: Vec<&str> = boots
        .iter()
        .filter(|f| f.key.starts_with("boot:"))
        .map(|f| f.evidence["end"].as_str().unwrap())
        .collect();
    assert_eq!(ends, ["unclean", "shutdown"]);
}
