//! What others change on this machine: drivers and their content files, services, installed programs,
//! hotfixes. Each change is a fingerprint, so that the server can lay it beside the failures of other
//! hosts.

use super::folders;
use crate::collect::{Place, Seen, Teller};
use crate::windows::places;
use ring::digest;
use ringward_domain::signal::{SignalDraft, SignalKind};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};
use windows_registry::LOCAL_MACHINE;

/// Looked at when a watched folder tells, and this often: names, sizes and times only, some
/// milliseconds. What came within a boot that died is found by the first look of the next one.
const EVERY: Duration = Duration::from_secs(60);
/// An update writes many files; it is looked at when it has written for this long.
const SETTLE: Duration = Duration::from_secs(2);
const SERVICES: &str = r"SYSTEM\CurrentControlSet\Services";
const PROGRAMS: [&str; 2] = [
    r"SOFTWARE\Microsoft\Windows\CurrentVersion\Uninstall",
    r"SOFTWARE\WOW6432Node\Microsoft\Windows\CurrentVersion\Uninstall",
];
const PACKAGES: &str =
    r"SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\Packages";
const HOTFIX: &str = "Package_for_";
/// Things remembered; the memory of what was told holds 4096 in all.
const THINGS_MAX: usize = 3800;
/// Changes told of one look; the rest is counted in words.
const TOLD_MAX: usize = 100;
const DEPTH_MAX: usize = 2;
/// Content of a changed file is hashed up to this size.
const HASHED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Everything there is: what it is, and how it is now.
type Things = BTreeMap<String, String>;

fn drivers() -> PathBuf {
    places::windows().join(r"System32\drivers")
}

fn look(watched: &[PathBuf]) -> Things {
    let mut things = Things::new();
    files(&drivers(), 0, &mut things);
    for path in watched {
        match path.is_dir() {
            true => files(path, 0, &mut things),
            false => file(path, &mut things),
        }
    }
    services(&mut things);
    programs(&mut things);
    hotfixes(&mut things);
    while things.len() > THINGS_MAX {
        things.pop_last();
    }
    things
}

/// Drivers, and content that drivers read: one vendor's file beside them can stop every machine.
fn files(folder: &Path, depth: usize, things: &mut Things) {
    let Ok(entries) = folder.read_dir() else {
        return;
    };
    for entry in entries.take(THINGS_MAX).flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth < DEPTH_MAX => files(&path, depth + 1, things),
            Ok(kind) if kind.is_file() => file(&path, things),
            _ => {}
        }
    }
}

fn file(path: &Path, things: &mut Things) {
    let Ok(found) = path.symlink_metadata() else {
        return;
    };
    let changed = found.modified().ok();
    let changed = changed.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let changed = changed.map_or(0, |since| since.as_secs());
    let now = format!("{} {changed}", found.len());
    things.insert(format!("file {}", path.display()), now);
}

fn services(things: &mut Things) {
    let Ok(services) = LOCAL_MACHINE.open(SERVICES) else {
        return;
    };
    for name in services.keys().into_iter().flatten() {
        // Per-user copies come and go with every logon.
        let is_per_user = name.rsplit_once('_').is_some_and(|(_, id)| {
            id.len() >= 4 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
        });
        let Ok(service) = services.open(&name) else {
            continue;
        };
        let Ok(image) = service.get_string("ImagePath") else {
            continue;
        };
        let start = service.get_u32("Start").unwrap_or(u32::MAX);
        if !is_per_user {
            things.insert(format!("service {name}"), format!("start {start} {image}"));
        }
    }
}

fn programs(things: &mut Things) {
    for place in PROGRAMS {
        let Ok(programs) = LOCAL_MACHINE.open(place) else {
            continue;
        };
        for key in programs.keys().into_iter().flatten() {
            let Ok(program) = programs.open(&key) else {
                continue;
            };
            let name = program.get_string("DisplayName").unwrap_or(key);
            if let Ok(version) = program.get_string("DisplayVersion") {
                things.insert(format!("program {name}"), version);
            }
        }
    }
}

fn hotfixes(things: &mut Things) {
    let Ok(packages) = LOCAL_MACHINE.open(PACKAGES) else {
        return;
    };
    for key in packages.keys().into_iter().flatten() {
        if let Some(name) = key.strip_prefix(HOTFIX) {
            let state = packages.open(&key).ok();
            let state = state.and_then(|key| key.get_u32("CurrentState").ok());
            things.insert(
                format!("hotfix {name}"),
                format!("state {}", state.unwrap_or(0)),
            );
        }
    }
}

fn line(what: &str, now: &str) -> String {
    format!("{what}\t{now}").replace(['\n', '\r'], "?")
}

/// What is otherwise than it was told.
fn changed<'a>(things: &'a Things, seen: &Seen) -> Vec<(&'a String, &'a String)> {
    let is_new = |(what, now): &(&String, &String)| !seen.has(&line(what, now));
    things.iter().filter(is_new).collect()
}

fn draft(teller: &Teller, what: &str, now: &str) -> SignalDraft {
    let path = what.strip_prefix("file ").map(Path::new);
    let hash = path.filter(|path| {
        let size = path.metadata().map(|found| found.len());
        size.is_ok_and(|size| size <= HASHED_BYTES_MAX)
    });
    let content = hash.and_then(|path| std::fs::read(path).ok());
    let of_state = || digest::digest(&digest::SHA256, line(what, now).as_bytes());
    let sha256 = content
        .map(|content| digest::digest(&digest::SHA256, &content))
        .unwrap_or_else(of_state);
    let sha256 = crate::hex(sha256.as_ref());
    let key = format!("change:{what}:{sha256}");
    SignalDraft {
        signature: key.clone(),
        evidence: json!({"what": what, "now": now, "sha256": sha256}).to_string(),
        ..teller.draft(SignalKind::Change, key, format!("{what} was changed"))
    }
}

pub(super) async fn watch(place: Place, watched: Vec<PathBuf>, teller: Teller) {
    let mut seen = Seen::open(&place.root, "changes-seen");
    // A file is replaced by renaming another one over it: its folder tells.
    let folder = |path: &PathBuf| match path.is_dir() {
        true => path.clone(),
        false => path.parent().unwrap_or(path).to_owned(),
    };
    let watched_folders = watched.iter().map(folder).chain([drivers()]);
    let mut told = folders::told(watched_folders.collect());
    loop {
        let asked = watched.clone();
        let Ok(things) = tokio::task::spawn_blocking(move || look(&asked)).await else {
            return;
        };
        if !seen.is_first() {
            let changed = changed(&things, &seen);
            if changed.len() > TOLD_MAX {
                tracing::warn!(
                    changes = changed.len(),
                    "only {TOLD_MAX} changes are told one by one"
                );
            }
            for (what, now) in changed.into_iter().take(TOLD_MAX) {
                if !teller.tell(draft(&teller, what, now)).await {
                    return;
                }
            }
        }
        seen.keep(things.iter().map(|(what, now)| line(what, now)).collect());
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            Some(()) = told.recv() => tokio::time::sleep(SETTLE).await,
        }
        if teller.tell.is_closed() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_content_file_beside_the_drivers_is_a_change_also_after_a_restart() {
        let root = tempfile::tempdir().unwrap();
        let vendor = root.path().join("drivers").join("Vendor");
        std::fs::create_dir_all(&vendor).unwrap();
        let look = || {
            let mut things = Things::new();
            files(&root.path().join("drivers"), 0, &mut things);
            things
        };
        let mut seen = Seen::open(root.path(), "seen");
        seen.keep(look().iter().map(|(what, now)| line(what, now)).collect());
        std::fs::write(vendor.join("C-00000291-00000000-00000032.sys"), b"0").unwrap();
        let seen = Seen::open(root.path(), "seen");
        let things = look();
        let changed = changed(&things, &seen);
        assert_eq!(changed.len(), 1);
        assert!(changed[0].0.ends_with("C-00000291-00000000-00000032.sys"));
    }

    #[test]
    fn the_machine_is_looked_at_whatever_it_lacks() {
        assert!(look(&[]).len() <= THINGS_MAX);
    }

    #[test]
    fn what_the_settings_name_is_looked_at_too() {
        let root = tempfile::tempdir().unwrap();
        let (folder, file) = (root.path().join("content"), root.path().join("policy.bin"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("C-291.sys"), b"0").unwrap();
        std::fs::write(&file, b"0").unwrap();
        let things = look(&[folder.clone(), file.clone(), root.path().join("nowhere")]);
        for path in [folder.join("C-291.sys"), file] {
            assert!(things.contains_key(&format!("file {}", path.display())));
        }
    }
}
