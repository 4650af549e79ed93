//! A spool as an earlier version left it on disk. `golden/spool-1.txt` is of the first form and stays as
//! it is; `RINGWARD_BLESS=1` writes it anew, which is right only before a form is released.

use ringward_agent::spool::{DiskFiles, Spool};
use ringward_domain::signal::{Signal, SignalKind};
use ringward_domain::{BootId, Millis, ReleaseDigest, SignalSeq};
use std::path::{Path, PathBuf};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/spool-1.txt")
}

fn signal(seq: u64) -> Signal {
    Signal {
        seq: SignalSeq(seq),
        kind: SignalKind::KernelOops,
        key: format!("oops-{seq}"),
        boot: BootId([1; 16]),
        at_boottime: Millis(seq * 1_000),
        release: seq.is_multiple_of(2).then_some(ReleaseDigest([7; 32])),
        title: format!("oops \u{2116} {seq}"),
        signature: "sig".to_owned(),
        evidence: "{\"line\":\"\\u0000\"}".to_owned(),
    }
}

fn open(folder: &Path) -> Spool<DiskFiles> {
    Spool::open(DiskFiles::new(folder).unwrap(), 1 << 20).unwrap()
}

/// Five signals, of which two are acknowledged.
fn bless() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path());
    for seq in 1..=5 {
        spool.append(&signal(seq)).unwrap();
    }
    spool.acknowledge(SignalSeq(2)).unwrap();
    drop(spool);
    let mut text = String::from("# five signals, two acknowledged: one line a segment\n");
    let mut files: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let name = file.file_name().unwrap().to_str().unwrap();
        text.push_str(&format!("{name} {digits}\n"));
    }
    std::fs::write(fixture(), text).unwrap();
}

#[test]
fn a_spool_of_the_first_form_gives_back_what_waits_and_goes_on() {
    if std::env::var_os("RINGWARD_BLESS").is_some() {
        bless();
    }
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(fixture()).unwrap();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, digits) = line.split_once(' ').unwrap();
        let pairs = (0..digits.len()).step_by(2);
        let bytes: Vec<u8> = pairs
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
            .collect();
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let mut spool = open(folder.path());
    assert_eq!(spool.range(), (SignalSeq(3), SignalSeq(6)));
    assert_eq!(spool.losses().damaged, 0);
    let waiting = spool.read(SignalSeq(3), 10).unwrap();
    assert_eq!(waiting, [signal(3), signal(4), signal(5)]);
    spool.append(&signal(6)).unwrap();
    drop(spool);
    assert_eq!(open(folder.path()).range(), (SignalSeq(3), SignalSeq(7)));
}
