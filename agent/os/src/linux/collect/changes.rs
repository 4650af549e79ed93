//! What others change on this host: package databases, kernels. Each change is a fingerprint, so that
//! the server can lay it beside the failures of other hosts.

use super::watcher::Watcher;
use crate::collect::{Place, Seen, Teller};
use ring::digest;
use ringward_domain::signal::{SignalDraft, SignalKind};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::timeout;

/// Files whose content is fingerprinted.
const WATCHED: [&str; 4] = [
    "/var/lib/dpkg/status",
    "/var/lib/rpm/rpmdb.sqlite",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
    "/boot/grub/grubenv",
];
/// Folders whose names are: kernels come and go here.
const LISTED: [&str; 2] = ["/boot", "/lib/modules"];
/// An installation writes its database once a package; it is over when this long nothing happened.
const SETTLE: Duration = Duration::from_secs(10);
/// A flood of changes is looked at this often all the same.
const SETTLE_TURNS_MAX: usize = 30;
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;
const NAMES_MAX: usize = 4096;
/// Files of one folder that the settings name.
const ASKED_FILES_MAX: usize = 512;

/// A watched thing as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fingerprint {
    sha256: String,
    size: u64,
}

fn of_file(path: &Path) -> Option<Fingerprint> {
    let mut file = std::fs::File::open(path).ok()?.take(FILE_BYTES_MAX);
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut part = vec![0; 64 * 1024];
    let mut size = 0;
    loop {
        match file.read(&mut part) {
            Ok(0) => break,
            Ok(read) => {
                hash.update(&part[..read]);
                size += read as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    let sha256 = crate::hex(hash.finish().as_ref());
    Some(Fingerprint { sha256, size })
}

fn of_folder(path: &Path) -> Option<Fingerprint> {
    let names: BTreeSet<String> = path
        .read_dir()
        .ok()?
        .take(NAMES_MAX)
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    let text: String = names.iter().map(|name| format!("{name}\n")).collect();
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    Some(Fingerprint {
        sha256: crate::hex(hash.as_ref()),
        size: names.len() as u64,
    })
}

/// The files whose content counts: the usual ones, and those the settings name, in folders each file.
fn content(asked: &[PathBuf]) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = WATCHED.map(PathBuf::from).into();
    for path in asked {
        match path.read_dir() {
            Ok(entries) => {
                let mut names: Vec<PathBuf> = entries
                    .take(NAMES_MAX)
                    .filter_map(|entry| Some(entry.ok()?.path()))
                    .filter(|path| path.symlink_metadata().is_ok_and(|meta| meta.is_file()))
                    .collect();
                names.sort();
                files.extend(names.into_iter().take(ASKED_FILES_MAX));
            }
            Err(_) => files.push(path.clone()),
        }
    }
    files
}

/// Everything that is there, by path.
fn look(files: &[PathBuf], folders: &[PathBuf]) -> BTreeMap<String, Fingerprint> {
    let files = files.iter().map(|path| (path, of_file(path)));
    let folders = folders.iter().map(|path| (path, of_folder(path)));
    files
        .chain(folders)
        .filter_map(|(path, now)| Some((path.display().to_string(), now?)))
        .collect()
}

fn lines(now: &BTreeMap<String, Fingerprint>) -> BTreeSet<String> {
    now.iter()
        .map(|(path, print)| format!("{path} {}", print.sha256))
        .collect()
}

/// What is otherwise than it was told.
fn changed(now: &BTreeMap<String, Fingerprint>, seen: &Seen) -> Vec<(String, Fingerprint)> {
    let is_new = |path: &str, print: &Fingerprint| !seen.has(&format!("{path} {}", print.sha256));
    now.iter()
        .filter(|(path, print)| is_new(path, print))
        .map(|(path, print)| (path.clone(), print.clone()))
        .collect()
}

fn draft(teller: &Teller, path: &str, print: &Fingerprint) -> SignalDraft {
    let key = format!("change:{path}:{}", print.sha256);
    let title = format!("{path} was changed");
    SignalDraft {
        signature: key.clone(),
        evidence: json!({"path": path, "sha256": print.sha256, "size": print.size}).to_string(),
        ..teller.draft(SignalKind::Change, key, title)
    }
}

pub(super) async fn watch(place: Place, watched: Vec<PathBuf>, teller: Teller) {
    let folders = LISTED.map(PathBuf::from);
    let mut seen = Seen::open(&place.root, "changes-seen");
    let Ok(watcher) = Watcher::new() else {
        teller.lacks("sight of changes", "no inotify").await;
        return;
    };
    let above = WATCHED.iter().filter_map(|path| Path::new(path).parent());
    // A file is replaced by renaming another one over it: its folder tells, and a folder tells itself.
    let asked = watched
        .iter()
        .flat_map(|path| [Some(path.as_path()), path.parent()]);
    let places: BTreeSet<&Path> = above
        .chain(folders.iter().map(PathBuf::as_path))
        .chain(asked.flatten())
        .collect();
    for folder in places {
        // Not there: another distribution's database.
        let _ = watcher.add(folder);
    }
    loop {
        let now = look(&content(&watched), &folders);
        if !seen.is_first() {
            for (path, print) in changed(&now, &seen) {
                if !teller.tell(draft(&teller, &path, &print)).await {
                    return;
                }
            }
        }
        seen.keep(lines(&now));
        if watcher.next().await.is_err() {
            return;
        }
        for _ in 0..SETTLE_TURNS_MAX {
            if timeout(SETTLE, watcher.next()).await.is_err() {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_new_file_in_a_folder_the_settings_name_is_told_by_its_own_name() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("content");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("C-290.sys"), "good").unwrap();
        let asked = [folder.clone()];
        let mut seen = Seen::open(root.path(), "seen");
        seen.keep(lines(&look(&content(&asked), &[])));
        std::fs::write(folder.join("C-291.sys"), "bad").unwrap();
        let new = changed(&look(&content(&asked), &[]), &seen);
        let paths: Vec<&str> = new.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, [folder.join("C-291.sys").display().to_string()]);
    }

    #[test]
    fn a_change_while_the_agent_was_down_is_seen_at_its_start() {
        let root = tempfile::tempdir().unwrap();
        let status = root.path().join("status");
        let boot = root.path().join("boot");
        std::fs::create_dir(&boot).unwrap();
        std::fs::write(&status, "Package: a\n").unwrap();
        let (files, folders) = ([status.clone()], [boot.clone()]);
        let mut seen = Seen::open(root.path(), "seen");
        seen.keep(lines(&look(&files, &folders)));
        assert!(changed(&look(&files, &folders), &seen).is_empty());
        std::fs::write(&status, "Package: b\n").unwrap();
        std::fs::write(boot.join("vmlinuz-2"), "").unwrap();
        let seen = Seen::open(root.path(), "seen");
        let paths: Vec<String> = changed(&look(&files, &folders), &seen)
            .into_iter()
            .map(|(path, _)| path)
            .collect();
        assert_eq!(
            paths,
            [boot.display().to_string(), status.display().to_string()]
        );
    }
}
