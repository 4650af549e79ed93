#![allow(clippy::unwrap_used)]

use super::*;
use ringward_domain::ids::{Nonce, ReleaseDigest, RolloutId};
use ringward_domain::ledger::{Attempt, AttemptPhase, Installed, Ledger, RevertWhy};
use ringward_domain::{AssignmentKind, Version};
use ringward_guard::{LedgerFile, LedgerStore, Slots, SystemFiles};

fn package() -> PackageName {
    "demo".parse().unwrap()
}

fn installed(n: u8) -> Installed {
    Installed {
        release: ReleaseDigest([n; 32]),
        version: format!("1.{n}").parse::<Version>().unwrap(),
    }
}

fn root_with(on_lethal: OnLethal) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let script = Script {
        boot_ms: Millis(1),
        dies_after_ms: Millis(1),
        dark_ms: Millis(20),
        on_lethal,
        ..Script::default()
    };
    script.write(root.path()).unwrap();
    root
}

/// Put a release into its slot.
fn stage(root: &Path, what: &Installed, behaviour: &str) {
    let staged = root.join("staged");
    std::fs::create_dir(&staged).unwrap();
    std::fs::write(staged.join(script::BEHAVIOUR_FILE), behaviour).unwrap();
    let slots = Slots::new(SystemFiles, root);
    slots
        .install_tree(&package(), what, &staged, b"{}")
        .unwrap();
}

/// A host that runs 1.1 proven, has 1.2 (lethal) staged, and has written that it switches to it.
fn switching(root: &Path, boot: BootId) -> Slots<SystemFiles> {
    stage(root, &installed(1), "good");
    stage(root, &installed(2), "lethal");
    let slots = Slots::new(SystemFiles, root);
    slots.switch(&package(), &installed(1)).unwrap();
    let ledger = Ledger {
        attempt: Some(Attempt {
            nonce: Nonce([1; 16]),
            rollout: RolloutId(1),
            kind: AssignmentKind::Install,
            package: package(),
            to: installed(2),
            from: Some(installed(1)),
            boot_required: false,
            soak: Millis::secs(3),
            switched_in: boot,
            boots: Vec::new(),
            phase: AttemptPhase::Switching,
        }),
        ..Ledger::default()
    };
    let file = LedgerFile {
        ledger,
        ..LedgerFile::default()
    };
    LedgerStore::new(SystemFiles, root).write(&file).unwrap();
    slots.switch(&package(), &installed(2)).unwrap();
    slots
}

fn phase(root: &Path) -> AttemptPhase {
    let file = LedgerStore::new(SystemFiles, root).read().unwrap().unwrap();
    file.ledger.attempt.unwrap().phase
}

#[tokio::test]
async fn a_machine_boots_once_and_keeps_its_boot_over_a_restart_of_the_process() {
    let root = root_with(OnLethal::CrashLoop);
    let host = ScriptedHost::open(root.path()).unwrap();
    assert_eq!(host.power_up().await.unwrap().boots, 1);
    assert_eq!(host.last_stop_clean(), None);
    let again = ScriptedHost::open(root.path()).unwrap();
    assert_eq!(again.power_up().await.unwrap().boots, 0);
    assert_eq!(again.boot(), host.boot());
    assert!(again.awake().0 <= again.boottime().0);
}

#[tokio::test]
async fn an_ordered_reboot_is_clean_and_a_loss_of_power_is_not() {
    let root = root_with(OnLethal::CrashLoop);
    let host = ScriptedHost::open(root.path()).unwrap();
    host.power_up().await.unwrap();
    let first = host.boot();
    host.mark_clean_stop(StopReason::AgentReboot).unwrap();
    host.reboot().await.unwrap();
    assert!(matches!(host.next_event().await, HostEvent::PowerLost));
    host.power_up().await.unwrap();
    assert_ne!(host.boot(), first);
    assert_eq!(host.last_stop_clean(), Some(true));
    host.inject(HostEvent::PowerLost);
    assert!(matches!(host.next_event().await, HostEvent::PowerLost));
    host.power_up().await.unwrap();
    assert_eq!(host.last_stop_clean(), Some(false));
}

#[tokio::test]
async fn a_lethal_release_kills_each_boot_until_the_guard_goes_back() {
    let root = root_with(OnLethal::CrashLoop);
    let host = ScriptedHost::open(root.path()).unwrap();
    host.power_up().await.unwrap();
    let slots = switching(root.path(), host.boot());
    host.activate(&package()).unwrap();
    assert!(matches!(host.next_event().await, HostEvent::PowerLost));
    // Two boots are noted and die, the third finds two bad ones and goes back.
    let up = host.power_up().await.unwrap();
    assert_eq!(
        up,
        PowerUp {
            boots: 3,
            reverted: true
        }
    );
    assert_eq!(
        slots.running(&package()).unwrap(),
        Some(installed(1).release)
    );
    assert_eq!(
        phase(root.path()),
        AttemptPhase::Reverted(RevertWhy::BadBoots)
    );
    assert_eq!(
        host.last_stop_clean(),
        Some(false),
        "boots without an agent died too"
    );
}

#[tokio::test]
async fn a_machine_that_goes_dark_is_gone_with_the_switch_and_heals_in_the_dark() {
    let root = root_with(OnLethal::GoDark);
    let host = ScriptedHost::open(root.path()).unwrap();
    host.power_up().await.unwrap();
    let slots = switching(root.path(), host.boot());
    assert!(matches!(
        host.activate(&package()),
        Err(HostError::PowerLost)
    ));
    // The process that simulates it dies too, and its successor finds it dark.
    let host = ScriptedHost::open(root.path()).unwrap();
    let began = tokio::time::Instant::now();
    assert!(host.power_up().await.unwrap().reverted);
    assert!(began.elapsed() >= Duration::from_millis(20));
    assert_eq!(
        slots.running(&package()).unwrap(),
        Some(installed(1).release)
    );
}

#[tokio::test]
async fn a_crash_looping_service_leaves_the_machine_alive_and_is_told() {
    let root = root_with(OnLethal::ServiceCrashLoop);
    let host = ScriptedHost::open(root.path()).unwrap();
    host.power_up().await.unwrap();
    switching(root.path(), host.boot());
    host.activate(&package()).unwrap();
    let HostEvent::Signal(draft) = host.next_event().await else {
        panic!("no signal came");
    };
    assert_eq!(draft.kind, SignalKind::CrashLoop);
    assert_eq!(draft.boot, host.boot());
}

#[tokio::test]
async fn a_service_answers_once_it_has_started_after_the_boot_and_after_each_switch() {
    let root = root_with(OnLethal::CrashLoop);
    let starts_ms = Millis(60);
    let script = Script {
        starts_ms,
        ..Script::read(root.path()).unwrap()
    };
    script.write(root.path()).unwrap();
    let host = ScriptedHost::open(root.path()).unwrap();
    let unit = Probe::Unit {
        name: "demo.service".to_owned(),
    };
    let began = tokio::time::Instant::now();
    host.power_up().await.unwrap();
    host.probe(&unit).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(starts_ms.0));

    let began = tokio::time::Instant::now();
    host.activate(&package()).unwrap();
    host.probe(&unit).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(starts_ms.0));
}

#[tokio::test]
async fn a_lethal_release_without_a_way_back_does_not_boot_for_ever() {
    let root = root_with(OnLethal::CrashLoop);
    stage(root.path(), &installed(2), "lethal");
    let slots = Slots::new(SystemFiles, root.path());
    slots.switch(&package(), &installed(2)).unwrap();
    let host = ScriptedHost::open(root.path()).unwrap();
    let up = host.power_up().await.unwrap();
    assert!(!up.reverted && up.boots > 2);
}
