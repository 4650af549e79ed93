//! The readers of Windows evidence. What came of an input is what they found and what they could not
//! read, so that inputs which lead elsewhere are kept.

use super::draft::log::{Record, chunk};
use super::draft::{Draft, OTHER, THEIRS};
use super::targets::{Came, Target};
use ringward_evidence::finding::Item;
use ringward_evidence::windows::{Dump, Kind, read};

/// An event log, events as text, and a dump.
pub fn all() -> Vec<Target> {
    let dump_words: &[&str] = &["TRGD", "PAGE", "PAGEDU64", "PAGEDUMP", "MDMP", "a\0.\0s\0"];
    vec![
        Target {
            name: "evidence-event-log",
            words: &["ElfChnk\0", "**\0\0", "\x0f\x01\x01\0\x0c\x01", "\x02\x04"],
            seeds: logs,
            run: |bytes| outcome(Kind::EventLog, bytes),
        },
        Target {
            name: "evidence-event-text",
            words: &["<", ">", "<Event>", "</Event>", "<Data Name='", "&#", "|"],
            seeds: texts,
            run: |bytes| {
                let told = outcome(Kind::EventXml, bytes)?;
                Ok(format!("{told} {}", outcome(Kind::EventText, bytes)?))
            },
        },
        Target {
            name: "evidence-dump",
            words: dump_words,
            seeds: dumps,
            run: dump,
        },
    ]
}

fn outcome(kind: Kind, bytes: &[u8]) -> Came {
    let items = read(kind, "fuzzed", bytes);
    let told = |item: &Item| match item {
        Item::Finding(finding) => finding.kind.to_owned(),
        Item::Unreadable(gap) => gap.error.clone(),
    };
    let is_finding = |item: &Item| matches!(item, Item::Finding(_));
    let taken = items.is_empty() || items.iter().any(is_finding);
    let mut told: Vec<String> = items.iter().map(told).collect();
    told.dedup();
    let told = told.join(" ");
    Ok(if taken { format!("ok {told}") } else { told })
}

/// A dump names nobody that it does not list.
fn dump(bytes: &[u8]) -> Came {
    let told = outcome(Kind::Dump, bytes)?;
    let Ok(dump) = Dump::read(bytes) else {
        return Ok(told);
    };
    match (dump.blame(), &dump.triage) {
        (Err(nobody), _) => Ok(format!("{told} {nobody}")),
        (Ok(blame), None) => Err(format!("{} is blamed without a list", blame.module)),
        (Ok(blame), Some(triage)) => {
            let loaded = triage.drivers.iter().filter_map(|driver| driver.file());
            let unloaded = triage.unloaded.iter().map(|driver| driver.name.as_str());
            match loaded.chain(unloaded).any(|name| name == blame.module) {
                true => Ok(format!("{told} {:?}", blame.by)),
                false => Err(format!("{} is blamed and not in the dump", blame.module)),
            }
        }
    }
}

/// What a machine that died of a driver has in its log, and services that crash.
fn events() -> Vec<Record> {
    let record = |id, provider, event_id, data: &[(&'static str, &str)]| Record {
        provider,
        event_id,
        id,
        filetime: 134_000_000_000_000_000 + id * 10_000_000,
        data: data
            .iter()
            .map(|(key, said)| (*key, (*said).into()))
            .collect(),
    };
    let power = [
        ("BugcheckCode", "209"),
        ("BugcheckParameter1", "0x10"),
        ("SleepInProgress", "0"),
        ("PowerButtonTimestamp", "0"),
    ];
    let service = [("param1", "Spooler"), ("param2", "3"), ("param3", "60000")];
    vec![
        record(7, "Microsoft-Windows-Kernel-General", 12, &[]),
        record(8, "EventLog", 6008, &[("", "12:00")]),
        record(9, "EventLog", 6005, &[]),
        record(10, "Microsoft-Windows-Kernel-Power", 41, &power),
        record(
            11,
            "Microsoft-Windows-WER-SystemErrorReporting",
            1001,
            &[
                ("param1", "0x000000d1 (0x10, 0x2, 0x0, 0x3)"),
                ("param2", "C:\\x.dmp"),
            ],
        ),
        record(12, "Service Control Manager", 7031, &service),
        record(13, "volmgr", 161, &[]),
    ]
}

fn logs() -> Vec<Vec<u8>> {
    let events = events();
    let mut seeds: Vec<Vec<u8>> = events
        .iter()
        .map(|event| chunk(std::slice::from_ref(event)).0)
        .collect();
    seeds.push(chunk(&events).0);
    seeds
}

fn texts() -> Vec<Vec<u8>> {
    let event = |event: &Record| {
        let data = event.data.iter();
        let data: String = data
            .map(|(key, said)| format!("<Data Name='{key}'>{said}</Data>"))
            .collect();
        format!(
            "<Event><System><Provider Name='{}'/><EventID>{}</EventID><EventRecordID>{}\
             </EventRecordID><Computer>HOST</Computer></System><EventData>{data}</EventData></Event>\n",
            event.provider, event.event_id, event.id
        )
    };
    let all: String = events().iter().map(event).collect();
    let wide: Vec<u8> = all.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let lines = "Service Control Manager | EventID 7031 | Channel System | 2026-11-23 | \
                 EventRecordID 12 | HOST\nData:\nSpooler\n3\n60000\n1\nRestart\n";
    vec![
        all.into_bytes(),
        [&[0xff, 0xfe], wide.as_slice()].concat(),
        lines.as_bytes().to_vec(),
    ]
}

fn dumps() -> Vec<Vec<u8>> {
    let mut wide = Draft::x64(0xd1, [0, 2, 0, OTHER + 0x77]);
    wide.unloaded = vec![("gone.sys", THEIRS + 0x20_0000, THEIRS + 0x21_0000)];
    let mut narrow = Draft::x86(0x50, [1, 0, THEIRS + 0x10, 0]);
    narrow.stack.push(0x8300_0010);
    let mut arm = Draft::x64(0xc2, [7, 0, 0, 0]);
    arm.machine = 0xaa64;
    let mut full = Draft::x64(0x133, [0; 4]);
    full.dump_type = 1;
    [wide, narrow, arm, full].map(|draft| draft.build()).into()
}
