//! Power cuts at every file operation of ledger, slots and guard.
#![allow(clippy::unwrap_used)]

mod fault;

use fault::{Choices, FaultyFiles};
use ringward_domain::ledger::{
    Attempt, AttemptPhase, Installed, Ledger, PackageLedger, RevertWhy, TrialBoot,
};
use ringward_domain::{
    AssignmentKind, BootId, Epoch, Generation, Millis, Nonce, PackageName, ReleaseDigest, RolloutId,
};
use ringward_guard::run::{Did, run};
use ringward_guard::{BootLoader, Files, LedgerFile, LedgerStore, Slots};
use std::path::Path;

const ROOT: &str = "/state";
const SEEDS: u64 = 24;

fn root() -> &'static Path {
    Path::new(ROOT)
}

fn package() -> PackageName {
    "demo".parse().unwrap()
}

fn release(n: u8) -> Installed {
    Installed {
        release: ReleaseDigest([n; 32]),
        version: format!("1.{n}").parse().unwrap(),
    }
}

/// Ledgers of different lengths, so that a torn one cannot pass for another.
fn ledger(n: u64) -> LedgerFile {
    let bars = (0..n).map(|i| ReleaseDigest([i as u8; 32])).collect();
    LedgerFile {
        ledger: Ledger {
            accepted: (Epoch(1), Generation(n)),
            bars,
            ..Ledger::default()
        },
        kept: Vec::new(),
    }
}

/// Cuts the power after `cut` operations of five ledger writes; answers the states found that are
/// neither the last acknowledged ledger nor the one being written.
fn ledger_after_cut(
    cut: usize,
    seed: u64,
    forget: Option<fn(&Path) -> bool>,
) -> Result<(), String> {
    let files = FaultyFiles::new(root());
    if let Some(forget) = forget {
        files.forget_syncs(forget);
    }
    files.cut_after(cut);
    let store = LedgerStore::new(files.clone(), root());
    let written = (1..=5)
        .take_while(|n| store.write(&ledger(*n)).is_ok())
        .count() as u64;
    let after = files.after_power_cut(&mut Choices(seed));
    let found = LedgerStore::new(after, root()).read();
    match found {
        Ok(None) if written == 0 => Ok(()),
        Ok(Some(file)) if file == ledger(written) || file == ledger(written + 1) => Ok(()),
        other => Err(format!("after {written} writes: {other:?}")),
    }
}

#[test]
fn a_cut_leaves_the_old_ledger_or_the_new_one() {
    for cut in 0..=20 {
        for seed in 0..SEEDS {
            let outcome = ledger_after_cut(cut, seed, None);
            assert!(outcome.is_ok(), "cut {cut} seed {seed}: {outcome:?}");
        }
    }
}

#[test]
fn a_forgotten_sync_of_file_or_folder_would_be_noticed() {
    let forgets: [fn(&Path) -> bool; 2] =
        [|path| path.ends_with("ledger.new"), |path| path == root()];
    for forget in forgets {
        let noticed = (0..=20)
            .flat_map(|cut| (0..SEEDS).map(move |seed| (cut, seed)))
            .any(|(cut, seed)| ledger_after_cut(cut, seed, Some(forget)).is_err());
        assert!(noticed);
    }
}

/// Stages a tree of three files and installs it.
fn install(files: &FaultyFiles, n: u8) -> Result<(), ringward_guard::GuardError> {
    let staged = root().join("staging").join(format!("tree-{n}"));
    let stage = || -> std::io::Result<()> {
        files.create_folder(&staged.join("bin"))?;
        files.write(&staged.join("bin/app"), &[n; 64])?;
        files.write(&staged.join("bin/lib"), &[n; 32])?;
        files.write(&staged.join("conf"), &[n; 16])
    };
    stage().map_err(|source| ringward_guard::GuardError::File {
        doing: "staging",
        path: staged.clone(),
        source,
    })?;
    Slots::new(files.clone(), root()).install_tree(&package(), &release(n), &staged, b"{}")
}

fn assert_whole(files: &FaultyFiles, n: u8, context: &str) {
    let tree = Slots::new(files.clone(), root()).tree(&package(), &release(n).release);
    for (name, length) in [("bin/app", 64), ("bin/lib", 32), ("conf", 16)] {
        let content = files.read(&tree.join(name)).unwrap();
        assert_eq!(content, Some(vec![n; length]), "{context}: {name} of {n}");
    }
}

#[test]
fn a_cut_during_install_and_switch_leaves_a_whole_slot_current() {
    let workload = |files: &FaultyFiles| -> Result<(), ringward_guard::GuardError> {
        let slots = Slots::new(files.clone(), root());
        install(files, 2)?;
        slots.switch(&package(), &release(2))?;
        slots.prune(&package(), &Ledger::default())
    };
    let prepared = || {
        let files = FaultyFiles::new(root());
        install(&files, 1).unwrap();
        Slots::new(files.clone(), root())
            .switch(&package(), &release(1))
            .unwrap();
        files
    };
    let files = prepared();
    let before = files.operations();
    workload(&files).unwrap();
    for cut in 0..files.operations() - before {
        for seed in 0..SEEDS {
            let files = prepared();
            files.cut_after(cut);
            let done = workload(&files);
            assert!(done.is_err(), "the cut came too late");
            let after = files.after_power_cut(&mut Choices(seed));
            let running = Slots::new(after.clone(), root())
                .running(&package())
                .unwrap();
            let context = format!("cut {cut} seed {seed}");
            match running {
                Some(found) if found == release(1).release => assert_whole(&after, 1, &context),
                Some(found) if found == release(2).release => assert_whole(&after, 2, &context),
                other => panic!("{context}: runs {other:?}"),
            }
            install(&after, 2).unwrap();
            let slots = Slots::new(after.clone(), root());
            slots.switch(&package(), &release(2)).unwrap();
            assert_whole(&after, 2, &context);
        }
    }
}

fn on_trial(boots: &[u8]) -> LedgerFile {
    let known = PackageLedger {
        committed: Some(release(1)),
        history: Vec::new(),
    };
    let ledger = Ledger {
        packages: [(package(), known)].into(),
        attempt: Some(Attempt {
            nonce: Nonce([1; 16]),
            rollout: RolloutId(1),
            kind: AssignmentKind::Install,
            package: package(),
            to: release(2),
            from: Some(release(1)),
            boot_required: true,
            soak: Millis::secs(60),
            switched_in: BootId([0; 16]),
            boots: boots
                .iter()
                .map(|n| TrialBoot {
                    boot: BootId([*n; 16]),
                    healthy: false,
                })
                .collect(),
            phase: AttemptPhase::Trial,
        }),
        ..Ledger::default()
    };
    LedgerFile {
        ledger,
        kept: vec!["newer words are kept".to_owned()],
    }
}

#[test]
fn a_guard_cut_at_any_point_of_going_back_gets_there_in_a_later_boot() {
    let prepared = || {
        let files = FaultyFiles::new(root());
        for n in [1, 2] {
            install(&files, n).unwrap();
        }
        let slots = Slots::new(files.clone(), root());
        slots.switch(&package(), &release(2)).unwrap();
        let store = LedgerStore::new(files.clone(), root());
        store.write(&on_trial(&[1, 2])).unwrap();
        files
    };
    let files = prepared();
    let before = files.operations();
    let did = run(files.clone(), root(), BootId([3; 16]), BootLoader::Silent).unwrap();
    assert!(matches!(did, Did::WentBack { .. }), "{did:?}");
    for cut in 0..files.operations() - before {
        for seed in 0..SEEDS {
            let files = prepared();
            files.cut_after(cut);
            run(files.clone(), root(), BootId([3; 16]), BootLoader::Silent).unwrap_err();
            let mut choices = Choices(seed);
            let after = files.after_power_cut(&mut choices);
            run(after.clone(), root(), BootId([4; 16]), BootLoader::Silent).unwrap();
            let settled = after.after_power_cut(&mut choices);
            let running = Slots::new(settled.clone(), root()).running(&package());
            assert_eq!(running.unwrap(), Some(release(1).release), "{cut} {seed}");
            let file = LedgerStore::new(settled, root()).read().unwrap().unwrap();
            let phase = file.ledger.attempt.unwrap().phase;
            assert_eq!(phase, AttemptPhase::Reverted(RevertWhy::BadBoots));
            assert!(file.ledger.bars.contains(&release(2).release));
            assert_eq!(file.kept, on_trial(&[]).kept);
        }
    }
}
