//! The readers of Linux evidence. Real artefacts are seeds where they lie beside the repository; those
//! made here are there always. What came of an input is which facts it held, so that inputs which lead
//! elsewhere are kept.

use super::targets::{Came, Target};
use ringward_evidence::finding::Item;
use ringward_evidence::fuzz::TARGETS;
use ringward_evidence::inspect::json_line;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Of a sample; larger ones cost inputs per second and lead nowhere else.
const SAMPLE_BYTES_MAX: usize = 24 * 1024;
const SAMPLES_MAX: usize = 60;
/// A line of findings is one signal's evidence; more than that is a reader without bounds.
const LINE_BYTES_MAX: usize = 64 * 1024;

const WORDS: &[&str] = &[
    "\n",
    "\0",
    "\u{c}",
    "\u{1b}[31m",
    "[ 1.0] ",
    "[    1.000000][ T12] ",
    "<4>",
    "BUG: ",
    "INFO: ",
    "WARNING: CPU: 0 PID: 1 at ",
    "Kernel panic - not syncing: ",
    "Call Trace:\n",
    "RIP: 0010:f+0x1/0x2\n",
    " ? f+0x1/0x2 [m]\n",
    "Modules linked in: ",
    "---[ end trace ",
    "invoked oom-killer: ",
    "blocked for more than 120 seconds",
    "#1 Part1\n",
    "MESSAGE=",
    "_BOOT_ID=",
    "__CURSOR=",
    "\"MESSAGE\":",
    "NRestarts=",
    "Result=",
    "boot_counter=",
    "+3-0.conf",
    "LPKSHHRH",
];

/// One target for each reader.
pub fn all() -> Vec<Target> {
    let pairs = TARGETS.iter().zip(RUN.iter().zip(SEEDS));
    pairs
        .map(|((name, _), (run, seeds))| Target {
            name: Box::leak(format!("evidence-{name}").into_boxed_str()),
            words: WORDS,
            seeds,
            run: *run,
        })
        .collect()
}

/// A function pointer cannot capture: one function for each place in the list of readers.
macro_rules! each {
    ($with:ident: $($index:literal)*) => { [$(|given: &[u8]| $with($index, given)),*] };
}
macro_rules! seeds {
    ($($index:literal)*) => { [$(|| seeds_of(TARGETS[$index].0)),*] };
}
const RUN: [fn(&[u8]) -> Came; TARGETS.len()] = each!(feed: 0 1 2 3 4 5 6 7 8 9 10);
const SEEDS: [fn() -> Vec<Vec<u8>>; TARGETS.len()] = seeds!(0 1 2 3 4 5 6 7 8 9 10);

/// Each fact is one printable line, and no larger than a signal.
fn feed(index: usize, bytes: &[u8]) -> Came {
    let items = (TARGETS[index].1)(bytes);
    let mut told = BTreeSet::new();
    for item in &items {
        let line = json_line("fuzzed", item);
        if line.len() > LINE_BYTES_MAX {
            return Err(format!("a line of {} bytes: {line:.200}", line.len()));
        }
        if line.chars().any(char::is_control) {
            return Err(format!("a control character in {line:?}"));
        }
        told.insert(shape(item));
    }
    let is_read = items.is_empty() || items.iter().any(|item| item.finding().is_some());
    let told: Vec<String> = told.into_iter().collect();
    let told = told.join(" ");
    Ok(if is_read { format!("ok {told}") } else { told })
}

/// The kind of a finding with what is known of it, as letters: digits do not tell outcomes apart.
fn shape(item: &Item) -> String {
    let finding = match item {
        Item::Unreadable(gap) => return gap.error.clone(),
        Item::Finding(finding) => finding,
    };
    let known = [
        (finding.module.is_some(), 'm'),
        (finding.function.is_some(), 'f'),
        (finding.title.len() > 80, 'l'),
    ];
    let known: String = known
        .iter()
        .filter_map(|(is, letter)| is.then_some(*letter))
        .collect();
    let facts = u8::try_from(finding.evidence.len().min(25)).unwrap_or(25);
    format!("{}.{known}{}", finding.kind, char::from(b'a' + facts))
}

fn seeds_of(name: &str) -> Vec<Vec<u8>> {
    let mut seeds = samples(name);
    seeds.extend(made(name));
    seeds
}

/// Folders of samples that a reader is for, and how their files' names end.
fn places(name: &str) -> &'static [(&'static str, &'static str)] {
    match name {
        "klog" => &[("linux-oops", ""), ("own-vm/kdump/crash", "")],
        "pstore" => &[("own-vm/pstore", ""), ("pstore", "")],
        "wtmp" => &[("wtmp", ""), ("own-vm/wtmp", ".bin")],
        "journal-json" => &[("own-vm/journal", ".json"), ("own-vm/services", ".json")],
        "journal-export" => &[("journal/export-format", ""), ("own-vm", ".export")],
        "units-show" => &[("own-vm/services", ".txt")],
        "units-text" => &[("systemd", ".txt"), ("own-vm/services", ".txt")],
        "grubenv" => &[("greenboot", "")],
        _ => &[],
    }
}

fn samples(name: &str) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/samples");
    let mut seeds = Vec::new();
    for (folder, ending) in places(name) {
        let mut files = Vec::new();
        walk(&root.join(folder), &mut files);
        files.retain(|file| file.to_string_lossy().ends_with(ending));
        files.sort();
        let step = files.len().div_ceil(SAMPLES_MAX).max(1);
        for file in files.iter().step_by(step) {
            let Ok(mut bytes) = std::fs::read(file) else {
                continue;
            };
            bytes.truncate(SAMPLE_BYTES_MAX);
            seeds.push(bytes);
        }
    }
    seeds
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = folder.read_dir() else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => walk(&path, files),
            false => files.push(path),
        }
    }
}

const KLOG: &str = "[    3.100000] shield: loading out-of-tree module taints kernel.\n\
    [   12.000001] BUG: unable to handle page fault for address: ffffffffc0de0000\n\
    [   12.000002] #PF: supervisor write access in kernel mode\n\
    [   12.000003] Oops: 0002 [#1] PREEMPT SMP NOPTI\n\
    [   12.000004] CPU: 0 PID: 77 Comm: insmod Tainted: G           O       6.1.0-18-amd64 #1\n\
    [   12.000005] RIP: 0010:shield_tick.isra.0+0x1a/0x30 [shield]\n\
    [   12.000006] Call Trace:\n[   12.000007]  <TASK>\n\
    [   12.000008]  ? do_one_initcall+0x56/0x230\n[   12.000009]  call_timer_fn+0x24/0x130\n\
    [   12.000010]  </TASK>\n[   12.000011] Modules linked in: shield(O+) ext4\n\
    [   12.000012] ---[ end trace 0000000000000000 ]---\n\
    [   13.000000] INFO: task kworker/0:1:99 blocked for more than 120 seconds.\n\
    [   13.100000] watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [cc1:4242]\n\
    [   14.000000] cc1 invoked oom-killer: gfp_mask=0x100cca(GFP_HIGHUSER), order=0, oom_score_adj=0\n\
    [   14.000001] Out of memory: Killed process 4242 (cc1) total-vm:90kB, anon-rss:80kB\n\
    [   15.000000] BUG: KASAN: slab-use-after-free in shield_free+0x1/0x2\n\
    [   15.000001] Read of size 8 at addr ffff888000000000 by task a/1\n\
    [   16.000000] Kernel panic - not syncing: Fatal exception in interrupt\n";
const EXPORT: &str = "__CURSOR=s=a;i=1;b=00112233445566778899aabbccddeeff\n__REALTIME_TIMESTAMP=1763888000000000\n\
    __MONOTONIC_TIMESTAMP=5000000\n_BOOT_ID=00112233445566778899aabbccddeeff\n_TRANSPORT=kernel\nPRIORITY=0\n\
    MESSAGE=Kernel panic - not syncing: shield\n\n";
const RESTART: &str = "{\"__REALTIME_TIMESTAMP\":\"1763888000000000\",\"__MONOTONIC_TIMESTAMP\":\"7000000\",\
    \"_BOOT_ID\":\"00112233445566778899aabbccddeeff\",\"_PID\":\"1\",\"UNIT\":\"a.service\",\"N_RESTARTS\":\"5\",\
    \"MESSAGE_ID\":\"5eb03494b6584870a536b337290809b3\",\"MESSAGE\":\"a.service: Scheduled restart job\"}\n";
const SHOW: &str = "Type=simple\nRestart=always\nId=a.service\nResult=exit-code\nNRestarts=7\nExecMainStatus=3\n\
    LoadState=loaded\nActiveState=failed\nSubState=failed\n\nId=b.service\nResult=success\nNRestarts=0\n";
const UNIT_LINES: &str = "Nov 23 03:35:44 h systemd[1]: a.service: Main process exited, code=exited, status=1/FAILURE\n\
    Nov 23 03:35:44 h systemd[1]: a.service: Failed with result 'exit-code'.\n\
    Nov 23 03:35:45 h systemd[1]: a.service: Scheduled restart job, restart counter is at 5.\n\
    × b.service - B\n     Active: failed (Result: core-dump) since Mon\n";

fn made(name: &str) -> Vec<Vec<u8>> {
    let texts: Vec<String> = match name {
        "klog" => vec![KLOG.to_owned()],
        "pstore" => vec![format!(
            "Panic#2 Part2\n{}\u{c}Panic#2 Part1\n{}",
            &KLOG[..600],
            &KLOG[600..]
        )],
        "journal-json" => vec![RESTART.to_owned()],
        "journal-export" => vec![EXPORT.to_owned()],
        "units-show" => vec![SHOW.to_owned()],
        "units-text" => vec![UNIT_LINES.to_owned()],
        "grubenv" => vec![grubenv()],
        "boot-count" => vec![
            "debian-6.1+3-0.conf".to_owned(),
            "a+0-3.efi".to_owned(),
            "b+2.conf".to_owned(),
        ],
        "wtmp" => return vec![wtmp()],
        "journal-file" => return vec![journal_file(false), journal_file(true)],
        "inspect" => return inspected(),
        _ => Vec::new(),
    };
    texts.into_iter().map(String::into_bytes).collect()
}

/// One artefact of each kind under a name of its own.
fn inspected() -> Vec<Vec<u8>> {
    let named = [
        ("dmesg.txt", "klog"),
        ("dmesg-efi-1", "pstore"),
        ("x.json", "journal-json"),
        ("x.export", "journal-export"),
        ("show", "units-show"),
        ("status", "units-text"),
        ("grubenv", "grubenv"),
        ("wtmp", "wtmp"),
        ("system.journal", "journal-file"),
    ];
    let one = |(name, of): (&str, &str)| {
        let artefacts = seeds_of(of).into_iter().take(8);
        artefacts
            .map(|bytes| [name.as_bytes(), b"\n", &bytes].concat())
            .collect::<Vec<_>>()
    };
    named.into_iter().flat_map(one).collect()
}

fn grubenv() -> String {
    let text = "# GRUB Environment Block\nboot_success=0\nboot_counter=-1\nboot_indeterminate=1\nsaved_entry=a\n";
    format!("{text}{}", "#".repeat(1_024 - text.len()))
}

/// Boot, run level, login, shutdown, boot: records of 384 bytes.
fn wtmp() -> Vec<u8> {
    let records = [
        (2_u16, "~", "reboot"),
        (1, "~", "runlevel"),
        (7, "pts/0", "root"),
        (1, "~", "shutdown"),
        (2, "~", "reboot"),
    ];
    let mut bytes = Vec::new();
    for (n, (kind, line, user)) in records.into_iter().enumerate() {
        let mut record = vec![0; 384];
        record[..2].copy_from_slice(&kind.to_le_bytes());
        record[8..8 + line.len()].copy_from_slice(line.as_bytes());
        record[44..44 + user.len()].copy_from_slice(user.as_bytes());
        let at = 1_763_888_000_u32 + 60 * u32::try_from(n).unwrap_or(0);
        record[340..344].copy_from_slice(&at.to_le_bytes());
        bytes.extend(record);
    }
    bytes
}

/// The entries of a panic and of a crash loop, as journald lays them out.
fn journal_file(compact: bool) -> Vec<u8> {
    let mut file = vec![0; 264];
    file[..8].copy_from_slice(b"LPKSHHRH");
    file[12] = if compact { 16 } else { 0 };
    file[16] = 1;
    file[72..88].fill(0x5a);
    file[88..96].copy_from_slice(&264_u64.to_le_bytes());
    file[168..176].copy_from_slice(&1_u64.to_le_bytes());
    let object = |file: &mut Vec<u8>, kind: u8, body: &[u8]| {
        let at = file.len() as u64;
        let length = 16 + body.len() as u64;
        file.extend([kind, 0, 0, 0, 0, 0, 0, 0]);
        file.extend(length.to_le_bytes());
        file.extend(body);
        file.resize(file.len().next_multiple_of(8), 0);
        at
    };
    let entries: [&[&str]; 3] = [
        &[
            "_TRANSPORT=kernel",
            "PRIORITY=0",
            "MESSAGE=Kernel panic - not syncing: shield",
        ],
        &[
            "_PID=1",
            "UNIT=a.service",
            "N_RESTARTS=5",
            "MESSAGE_ID=5eb03494b6584870a536b337290809b3",
        ],
        &["MESSAGE_ID=98268866d1d54a499c4e98921d93bc40", "_PID=1"],
    ];
    for (n, fields) in (1_u64..).zip(entries) {
        let mut offsets = Vec::new();
        for field in fields {
            let body = [&vec![0; if compact { 56 } else { 48 }], field.as_bytes()].concat();
            offsets.push(object(&mut file, 1, &body));
        }
        let mut body = Vec::new();
        for number in [n, 1_763_888_000_000_000 + n, 5_000_000 * n] {
            body.extend(number.to_le_bytes());
        }
        body.extend([0x11; 16]);
        body.extend([0; 8]);
        for at in offsets {
            match compact {
                true => body.extend(&at.to_le_bytes()[..4]),
                false => body.extend([at.to_le_bytes(), [0; 8]].concat()),
            }
        }
        object(&mut file, 3, &body);
    }
    file
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A seed that says nothing leads no fuzzer anywhere.
    #[test]
    fn each_reader_finds_something_in_what_is_made_for_it() {
        for target in all() {
            let name = target.name.strip_prefix("evidence-").unwrap();
            let found: Vec<String> = made(name)
                .iter()
                .map(|seed| (target.run)(seed).unwrap())
                .collect();
            let found = found.join(", ");
            assert!(
                found.contains("ok ") && found.contains('.'),
                "{name}: {found}"
            );
        }
    }

    #[test]
    fn both_layouts_of_a_journal_file_tell_the_same() {
        let tell = |compact| {
            let index = TARGETS
                .iter()
                .position(|(name, _)| *name == "journal-file")
                .unwrap();
            feed(index, &journal_file(compact)).unwrap()
        };
        assert_eq!(tell(false), tell(true));
        assert!(tell(false).contains("kernel-panic"), "{}", tell(false));
        assert!(tell(false).contains("unit-crash-loop"), "{}", tell(false));
    }
}
