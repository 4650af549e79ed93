//! The state of the machine as a whole: a boot that ended in emergency or rescue mode, a disk that
//! leaves the agent no room.

use crate::collect::{Place, Teller, room};
use crate::linux::{ARMED, ask_systemd, facts};
use ringward_domain::host::GuardTier;
use ringward_domain::signal::{SignalDraft, SignalKind};
use rustix::fs::{StatVfsMountFlags, statvfs};
use std::path::Path;
use std::time::Duration;

/// systemd has come to rest by then, or never will.
const AFTER_START: [Duration; 3] = [
    Duration::from_secs(2),
    Duration::from_secs(30),
    Duration::from_secs(120),
];

/// A trial that begins just now has its settings only when its unit has run: what is told was so before
/// and after this pause.
const SETTLED: Duration = Duration::from_secs(15);

/// What the agent lacks of its disk, in words.
fn disk(root: &Path) -> Option<String> {
    let stat = match statvfs(root) {
        Ok(stat) => stat,
        Err(error) => return Some(format!("{}: {error}", root.display())),
    };
    if stat.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Some(format!("{} is on a read-only disk", root.display()));
    }
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    room::too_little(root, free)
}

/// A boot that ended where nobody works.
fn degraded(answer: &str, teller: &Teller) -> Option<SignalDraft> {
    (answer == "maintenance").then(|| {
        let key = format!("degraded-boot:{}", teller.boot);
        let title = "the boot ended in emergency or rescue mode".to_owned();
        teller.draft(SignalKind::DegradedBoot, key, title)
    })
}

/// Why this host cannot come back by itself from a release that kills it; `root` is where `/proc`,
/// `/etc` and `/run` are found.
fn cannot_heal(root: &Path, armed: bool) -> Option<&'static str> {
    if facts::guard_tier(root) == GuardTier::None {
        return Some("the guard has no place in its boot; enable ringward-guard.service");
    }
    let panic = std::fs::read_to_string(root.join("proc/sys/kernel/panic"));
    let waits = panic.is_ok_and(|seconds| seconds.trim() == "0");
    (armed && waits).then_some(
        "a release is on trial and the kernel waits for a person after a panic; see why \
         ringward-trial.service does not set kernel.panic",
    )
}

/// What [`cannot_heal`] says before and after a pause.
async fn cannot_heal_still(
    root: &Path,
    armed: &Path,
    pause: impl Future<Output = ()>,
) -> Option<&'static str> {
    let look = || cannot_heal(root, armed.exists());
    let first = look()?;
    pause.await;
    look().filter(|again| *again == first)
}

pub(super) async fn watch(place: Place, teller: Teller) {
    let mut heal_told = false;
    let armed = place.root.join(ARMED);
    for pause in AFTER_START {
        tokio::time::sleep(pause).await;
        let settled = tokio::time::sleep(SETTLED);
        if !heal_told && let Some(why) = cannot_heal_still(Path::new("/"), &armed, settled).await {
            heal_told = true;
            if !teller.lacks("a way to heal this host by itself", why).await {
                return;
            }
        }
        if let Ok(answer) = ask_systemd(&["is-system-running"]).await
            && let Some(draft) = degraded(&answer, &teller)
        {
            if !teller.tell(draft).await {
                return;
            }
            break;
        }
    }
    room::watch(&place.root, &teller, disk).await;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ringward_domain::BootId;

    #[test]
    fn only_maintenance_is_a_degraded_boot() {
        let (tell, _events) = tokio::sync::mpsc::channel(1);
        let teller = Teller {
            tell,
            boot: BootId([1; 16]),
        };
        assert!(degraded("maintenance", &teller).is_some());
        for state in ["running", "degraded", "starting", "stopping", ""] {
            assert!(degraded(state, &teller).is_none(), "{state}");
        }
    }

    #[test]
    fn a_host_that_would_stand_still_after_a_panic_says_so_while_a_release_is_on_trial() {
        let root = tempfile::tempdir().unwrap();
        let file = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let none = cannot_heal(root.path(), false).unwrap();
        assert!(none.contains("no place"), "{none}");
        file(
            "etc/systemd/system/sysinit.target.wants/ringward-guard.service",
            "",
        );
        file("usr/lib/ringward/ringward-guard", "");
        file("proc/sys/kernel/panic", "0\n");
        assert_eq!(cannot_heal(root.path(), false), None);
        let stands = cannot_heal(root.path(), true).unwrap();
        assert!(stands.contains("kernel.panic"), "{stands}");
        file("proc/sys/kernel/panic", "30\n");
        assert_eq!(cannot_heal(root.path(), true), None);
    }

    #[tokio::test]
    async fn a_trial_whose_settings_come_a_moment_later_is_nothing_to_tell() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let file = |path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        file(
            "etc/systemd/system/sysinit.target.wants/ringward-guard.service",
            "",
        );
        file("usr/lib/ringward/ringward-guard", "");
        file("proc/sys/kernel/panic", "0\n");
        file("armed", "");
        let armed = root.join("armed");
        let told = cannot_heal_still(root, &armed, async {
            file("proc/sys/kernel/panic", "30\n");
        });
        assert_eq!(told.await, None);
        file("proc/sys/kernel/panic", "0\n");
        let told = cannot_heal_still(root, &armed, async {}).await;
        assert!(told.is_some_and(|why| why.contains("kernel.panic")));
    }

    #[test]
    fn a_disk_with_room_lacks_nothing_and_a_read_only_one_says_so() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(disk(root.path()), None);
        assert!(disk(Path::new("/nowhere")).is_some());
    }
}
