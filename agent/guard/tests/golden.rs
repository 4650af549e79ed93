//! A ledger as an earlier version left it on disk. `golden/ledger-1.txt` is of format 1 and stays as it
//! is; `RINGWARD_BLESS=1` writes it anew, which is right only before a format is released.
#![allow(clippy::unwrap_used)]

use ringward_domain::ledger::{
    Attempt, AttemptPhase, Installed, Ledger, PackageLedger, RevertWhy, TrialBoot,
};
use ringward_domain::{
    AssignmentKind, BootId, Epoch, Generation, Millis, Nonce, ReleaseDigest, RolloutId,
};
use ringward_guard::LedgerFile;
use ringward_guard::codec::{decode, encode};
use std::path::{Path, PathBuf};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/ledger-1.txt")
}

/// Every kind of line, and one of a version to come.
fn full() -> LedgerFile {
    let installed = |n: u8| Installed {
        release: ReleaseDigest([n; 32]),
        version: format!("1.{n}").parse().unwrap(),
    };
    let package = PackageLedger {
        committed: Some(installed(2)),
        history: vec![installed(1), installed(2)],
    };
    let attempt = Attempt {
        nonce: Nonce([0xa1; 16]),
        rollout: RolloutId(0x0102_0304_0506_0708),
        kind: AssignmentKind::Install,
        package: "demo".parse().unwrap(),
        to: installed(3),
        from: Some(installed(2)),
        boot_required: true,
        soak: Millis(900_000),
        switched_in: BootId([0xb1; 16]),
        boots: vec![
            TrialBoot {
                boot: BootId([0xb2; 16]),
                healthy: false,
            },
            TrialBoot {
                boot: BootId([0xb3; 16]),
                healthy: true,
            },
        ],
        phase: AttemptPhase::Reverted(RevertWhy::BadBoots),
    };
    LedgerFile {
        ledger: Ledger {
            accepted: (Epoch(2), Generation(77)),
            packages: [("demo".parse().unwrap(), package)].into(),
            attempt: Some(attempt),
            burned: vec![Nonce([0xc1; 16])],
            bars: [ReleaseDigest([3; 32])].into(),
        },
        kept: vec!["newer than this version knows".to_owned()],
    }
}

#[test]
fn a_ledger_of_format_1_reads_as_it_was_meant_and_is_written_as_it_was() {
    if std::env::var_os("RINGWARD_BLESS").is_some() {
        std::fs::write(fixture(), encode(&full())).unwrap();
    }
    let bytes = std::fs::read(fixture()).unwrap();
    let read = decode(&bytes).unwrap();
    assert_eq!(read, full());
    // A version that does not know a line keeps it: nothing is lost on the way back up.
    assert_eq!(
        String::from_utf8(encode(&read)).unwrap(),
        String::from_utf8(bytes).unwrap()
    );
}
