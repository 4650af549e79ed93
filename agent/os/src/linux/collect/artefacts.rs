//! Evidence that a boot left behind: kernel records in pstore and what systemd makes of them, kernel
//! logs saved by kdump. It comes after the boot that follows, often minutes later.
//!
//! The files are a stranger's work. They are read by a child without rights, which is started for
//! them and gone after them.

use super::watcher::Watcher;
use crate::collect::{Found, Place, Seen, Teller};
use crate::parse;
use ringward_domain::Millis;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::timeout;

const PSTORE: [&str; 2] = ["/sys/fs/pstore", "/var/lib/systemd/pstore"];
const KDUMP: &str = "/var/crash";
/// systemd-pstore and kdump may come after the agent: looked at again without being told to.
const AGAIN: [Duration; 3] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(300),
];
/// A folder that was touched is looked at when this long nothing more happened in it.
const SETTLE: Duration = Duration::from_secs(2);
/// A folder that never comes to rest is looked at this often all the same.
const SETTLE_TURNS_MAX: usize = 30;
const DEPTH_MAX: usize = 4;
const FILES_MAX: usize = 1024;
/// Bytes of one file that reach the child.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Bytes of all files of one child.
const ROUND_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A file that may be evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    path: PathBuf,
    size: u64,
    /// Tells a new file of an old name.
    entry: String,
}

/// All files worth reading under the two kinds of folders.
fn candidates(pstore: &[&Path], kdump: &Path) -> Vec<Candidate> {
    let mut found = Vec::new();
    for folder in pstore {
        walk(folder, 0, &|_| true, &mut found);
    }
    // The dump itself is gigabytes of the machine's memory: never read.
    let is_log = |name: &str| name.starts_with("dmesg") || name == "vmcore-dmesg.txt";
    walk(kdump, 0, &is_log, &mut found);
    found
}

fn walk(folder: &Path, depth: usize, wanted: &dyn Fn(&str) -> bool, into: &mut Vec<Candidate>) {
    let Ok(entries) = folder.read_dir() else {
        return;
    };
    let mut entries: Vec<PathBuf> = entries
        .take(FILES_MAX)
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .collect();
    entries.sort();
    for path in entries {
        let Ok(metadata) = path.symlink_metadata() else {
            continue;
        };
        let name = path.file_name().and_then(|name| name.to_str());
        if metadata.is_dir() && depth < DEPTH_MAX {
            walk(&path, depth + 1, wanted, into);
        } else if metadata.is_file() && name.is_some_and(wanted) && into.len() < FILES_MAX {
            into.push(Candidate {
                entry: format!("{}:{}:{}", path.display(), metadata.len(), metadata.mtime())
                    .replace('\n', "?"),
                size: metadata.len(),
                path,
            });
        }
    }
}

/// The new ones, whole folders together (records of one panic lie in one), as many as one child takes.
fn new_files(found: &[Candidate], seen: &Seen) -> Vec<Candidate> {
    let mut folders: BTreeMap<Option<&Path>, Vec<&Candidate>> = BTreeMap::new();
    for candidate in found {
        folders
            .entry(candidate.path.parent())
            .or_default()
            .push(candidate);
    }
    let mut bytes = 0;
    let mut new = Vec::new();
    for files in folders.into_values() {
        if files.iter().any(|file| !seen.has(&file.entry)) {
            for file in files {
                bytes += file.size.min(FILE_BYTES_MAX);
                if bytes <= ROUND_BYTES_MAX {
                    new.push(file.clone());
                }
            }
        }
    }
    new
}

pub(super) async fn watch(place: Place, teller: Teller) {
    let mut seen = Seen::open(&place.root, "artefacts-seen");
    let pstore = PSTORE.map(Path::new);
    if seen.is_first() {
        // What lay here before the agent came tells nothing of what happens under it.
        keep(&mut seen, &candidates(&pstore, Path::new(KDUMP)));
    }
    let watcher = Watcher::new().ok();
    if let Some(watcher) = &watcher {
        for folder in [PSTORE[1], KDUMP] {
            // Not there on machines without: nothing to watch.
            let _ = watcher.add(Path::new(folder));
        }
    }
    let mut pauses = AGAIN.into_iter();
    loop {
        if !look(&place, &teller, &mut seen).await {
            return;
        }
        match (pauses.next(), &watcher) {
            (Some(pause), Some(watcher)) => drop(timeout(pause, watcher.next()).await),
            (Some(pause), None) => tokio::time::sleep(pause).await,
            (None, Some(watcher)) if watcher.next().await.is_ok() => {}
            (None, _) => return,
        }
        if let Some(watcher) = &watcher {
            settle(watcher).await;
        }
    }
}

/// Waits until the folders were left alone for a while, or long enough.
async fn settle(watcher: &Watcher) {
    for _ in 0..SETTLE_TURNS_MAX {
        if !timeout(SETTLE, watcher.next())
            .await
            .is_ok_and(|next| next.is_ok())
        {
            return;
        }
    }
}

fn keep(seen: &mut Seen, found: &[Candidate]) {
    let entries: BTreeSet<String> = found.iter().map(|file| file.entry.clone()).collect();
    seen.keep(entries);
}

/// One look; `false` when nobody listens.
async fn look(place: &Place, teller: &Teller, seen: &mut Seen) -> bool {
    let found = candidates(&PSTORE.map(Path::new), Path::new(KDUMP));
    let new = new_files(&found, seen);
    if new.is_empty() {
        return true;
    }
    let files = new.iter().filter_map(|file| {
        use std::io::Read;
        let mut bytes = Vec::new();
        let opened = std::fs::File::open(&file.path).ok()?;
        opened.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        Some((file.path.display().to_string(), bytes))
    });
    match parse::in_child(files.collect()).await {
        Ok(told) => {
            for found in told {
                if !tell(place, teller, found).await {
                    return false;
                }
            }
        }
        Err(error) => {
            if !teller
                .lacks("sight of evidence left behind", &error.to_string())
                .await
            {
                return false;
            }
        }
    }
    keep(seen, &found);
    true
}

async fn tell(place: &Place, teller: &Teller, found: Found) -> bool {
    let at = found.evidence.get("monotonic_us").and_then(|n| n.as_u64());
    let at = at.map_or(Millis::ZERO, |us| Millis(us / 1000));
    // Of the boot that died, which is the one before wherever it was seen.
    let boot = place.boot_before.unwrap_or(place.boot);
    match found.draft(boot, at) {
        Some(draft) => teller.tell(draft).await,
        None => true,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn write(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn memory_dumps_are_never_read_and_their_logs_are() {
        let root = tempfile::tempdir().unwrap();
        let crash = root.path().join("crash");
        write(&crash.join("202611230900/vmcore"), "memory");
        write(&crash.join("202611230900/dmesg.202611230900"), "log");
        write(&crash.join("127.0.0.1-x/vmcore-dmesg.txt"), "log");
        let found = candidates(&[], &crash);
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn a_folder_with_one_new_record_is_read_whole_and_only_once() {
        let root = tempfile::tempdir().unwrap();
        let (pstore, crash) = (root.path().join("pstore"), root.path().join("crash"));
        write(&pstore.join("1/dmesg-efi-1"), "one");
        write(&pstore.join("2/dmesg-efi-1"), "one");
        let mut seen = Seen::open(root.path(), "seen");
        keep(&mut seen, &candidates(&[&pstore], &crash));
        let found = candidates(&[&pstore], &crash);
        assert!(new_files(&found, &seen).is_empty());
        write(&pstore.join("2/dmesg-efi-2"), "two");
        let found = candidates(&[&pstore], &crash);
        assert_eq!(new_files(&found, &seen).len(), 2);
        keep(&mut seen, &found);
        assert!(new_files(&found, &seen).is_empty());
    }
}
