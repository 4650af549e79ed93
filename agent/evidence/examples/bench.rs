//! What evidence of Windows costs: `cargo xtask bench evidence`.
//!
//! CPU time and peak memory as the kernel counts them, of this one thread.
#![allow(clippy::unwrap_used)]

#[allow(dead_code, missing_docs)]
#[path = "../tests/draft/mod.rs"]
mod draft;

use draft::{Draft, THEIRS};
use ringward_evidence::windows::{Detector, Dump, Kind, feed, parse_event};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const RECORDS: u64 = 60_000;
const RECORDS_S_MAX: f64 = 3.0;
const MEMORY_MIB_MAX: f64 = 64.0;
const VERDICT_MS_MAX: f64 = 50.0;
const RUNS: usize = 21;
/// Verdicts a run: the kernel counts a thread's time by ticks of some milliseconds.
const BATCH: u32 = 100;
/// Logs of real machines, of which one of 60,000 records is put together.
const LOGS: [&str; 4] = [
    "evtxrs__system",
    "python-evtx__system",
    "dfirmuseum_win10_belkasoft__System",
    "dfirmuseum_server2022_apt__System",
];

/// Seconds this thread was on a core.
fn cpu_s() -> f64 {
    let told = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    let nanos: f64 = told.split_whitespace().next().unwrap().parse().unwrap();
    nanos / 1e9
}

/// The most memory this process ever had.
fn peak_mib() -> f64 {
    let told = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = told.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: f64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib / 1024.0
}

fn samples() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/samples")
}

/// Renumbers a chunk's records from `next` on; answers the number after the last.
fn renumber(chunk: &mut [u8], mut next: u64) -> u64 {
    let mut at = 0x200;
    while chunk.get(at..at + 4) == Some(&[0x2a, 0x2a, 0, 0]) {
        chunk[at + 8..at + 16].copy_from_slice(&next.to_le_bytes());
        next += 1;
        let size: [u8; 4] = chunk[at + 4..at + 8].try_into().unwrap();
        at += (u32::from_le_bytes(size) as usize).max(0x18);
    }
    next
}

/// Chunks of real logs, one after the other until there are enough records.
fn long_log() -> Option<Vec<u8>> {
    let mut chunks = Vec::new();
    for name in LOGS {
        let log = std::fs::read(samples().join(format!("evtx/{name}.evtx"))).ok()?;
        let whole = log[0x1000..].chunks_exact(0x10000);
        chunks.extend(
            whole
                .filter(|chunk| chunk.starts_with(b"ElfChnk"))
                .map(<[u8]>::to_vec),
        );
    }
    let mut log = b"ElfFile\0".to_vec();
    log.resize(0x1000, 0);
    let mut next = 1;
    for mut chunk in chunks.into_iter().cycle() {
        if next > RECORDS {
            break;
        }
        next = renumber(&mut chunk, next);
        log.append(&mut chunk);
    }
    Some(log)
}

/// What a busy machine's log says, rendered: mostly nothing of interest.
fn rendered(record: u64) -> String {
    let (provider, id, data) = match record % 100 {
        0 => (
            "Service Control Manager",
            7031,
            "<Data Name='param1'>Spooler</Data><Data Name='param2'>1</Data><Data Name='param3'>60000</Data><Data Name='param4'>1</Data><Data Name='param5'>Restart</Data><Binary>530070006F006F006C00650072000000</Binary>",
        ),
        1 => ("EventLog", 6005, ""),
        2 => (
            "Microsoft-Windows-Kernel-Power",
            41,
            "<Data Name='BugcheckCode'>126</Data><Data Name='BugcheckParameter1'>0xffffffffc0000005</Data><Data Name='BugcheckParameter2'>0x2</Data><Data Name='BugcheckParameter3'>0x3</Data><Data Name='BugcheckParameter4'>0x4</Data><Data Name='SleepInProgress'>0</Data><Data Name='PowerButtonTimestamp'>0</Data>",
        ),
        _ => (
            "Microsoft-Windows-Kernel-General",
            16,
            "<Data Name='HiveNameLength'>71</Data><Data Name='HiveName'>\\??\\C:\\ProgramData\\Microsoft\\Windows\\AppRepository\\Packages\\x</Data>",
        ),
    };
    format!(
        "<Event xmlns='http://schemas.microsoft.com/win/2004/08/events/event'><System>\
         <Provider Name='{provider}' Guid='{{a68ca8b7-004f-d7b6-a698-07e2de0f1f5d}}'/>\
         <EventID Qualifiers='16384'>{id}</EventID><Version>0</Version><Level>4</Level><Task>0</Task>\
         <Opcode>0</Opcode><Keywords>0x8080000000000000</Keywords>\
         <TimeCreated SystemTime='2026-11-23T10:{:02}:{:02}.1234567Z'/>\
         <EventRecordID>{record}</EventRecordID><Correlation/>\
         <Execution ProcessID='4' ThreadID='8'/><Channel>System</Channel>\
         <Computer>bench</Computer><Security/></System><EventData>{data}</EventData></Event>",
        record / 60 % 60,
        record % 60
    )
}

/// One line of the table; whether the goal is met.
fn told(what: &str, seen: f64, unit: &str, goal: f64) -> bool {
    let met = seen <= goal;
    let verdict = if met { "met" } else { "MISSED" };
    println!("{what:<52} {seen:>8.2} {unit:<4} goal {goal} {unit}: {verdict}");
    met
}

fn from_log() -> bool {
    let Some(log) = long_log() else {
        println!("skipped: samples not here (60,000 records of real logs)");
        return true;
    };
    let (mut detector, before) = (Detector::default(), cpu_s());
    let gaps = feed(Kind::EventLog, "System.evtx", &log, &mut detector).len();
    let seen = cpu_s() - before;
    println!(
        "a log of {RECORDS} records, {} MiB, {gaps} gaps, {} boots",
        log.len() >> 20,
        detector.boots().len()
    );
    told(
        "records of a log in the file's own form, CPU",
        seen,
        "s",
        RECORDS_S_MAX,
    ) & told(
        "peak memory, the log itself included",
        peak_mib(),
        "MiB",
        MEMORY_MIB_MAX,
    )
}

fn live() -> bool {
    let (mut detector, mut seen) = (Detector::default(), 0.0);
    let (mut findings, mut bytes) = (0, 0);
    // As they come: a batch, then what is new of it.
    for batch in 0..RECORDS / 32 {
        let batch: Vec<String> = (batch * 32..(batch + 1) * 32).map(rendered).collect();
        let before = cpu_s();
        for xml in &batch {
            bytes += xml.len();
            detector.push(&parse_event(xml).unwrap());
        }
        findings += detector.drain().len();
        seen += cpu_s() - before;
    }
    println!(
        "{RECORDS} rendered events, {} MiB, {findings} findings",
        bytes >> 20
    );
    told(
        "records as the live log renders them, CPU",
        seen,
        "s",
        RECORDS_S_MAX,
    ) & told("peak memory", peak_mib(), "MiB", MEMORY_MIB_MAX)
}

fn verdict(what: &str, bytes: &[u8]) -> bool {
    let mut times: Vec<f64> = (0..RUNS)
        .map(|_| {
            let before = cpu_s();
            for _ in 0..BATCH {
                let dump = Dump::read(std::hint::black_box(bytes)).unwrap();
                std::hint::black_box(dump.finding("x.dmp"));
            }
            (cpu_s() - before) * 1000.0 / f64::from(BATCH)
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let blamed = Dump::read(bytes).unwrap().blame().map(|blame| blame.module);
    println!(
        "{what}, {} KiB: {}",
        bytes.len() >> 10,
        blamed.as_deref().unwrap_or("nobody")
    );
    told(
        "a dump's verdict, CPU, mean of 100, worst of 21",
        times[RUNS - 1],
        "ms",
        VERDICT_MS_MAX,
    )
}

fn main() -> ExitCode {
    if !Path::new("/proc/self/schedstat").exists() {
        println!("skipped: this kernel counts no CPU time per thread (/proc/self/schedstat)");
        return ExitCode::SUCCESS;
    }
    let params = [0xffff_ffff_c000_0005, THEIRS + 0x1a5, 0x2, 0x3];
    let mut large = Draft::x64(0x1000_007e, params);
    for n in 0..1000 {
        large.drivers.push((
            r"\SystemRoot\System32\drivers\filler.sys",
            0x1000 * n,
            0x800,
        ));
    }
    large.stack = (0..32_768).map(|n| THEIRS + n).collect();
    // The smallest first, for the peak only grows.
    let mut met = verdict("a dump of 1,004 drivers, written here", &large.build());
    match std::fs::read(samples().join("kdmp/triage_x64.dmp")) {
        Ok(dump) => met &= verdict("a dump of a real machine", &dump),
        Err(_) => println!("skipped: samples not here (kdmp/triage_x64.dmp)"),
    }
    met &= live();
    met &= from_log();
    ExitCode::from(u8::from(!met))
}
