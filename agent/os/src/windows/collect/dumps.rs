//! Evidence that a boot left behind: small dumps, the header of a large one, and whatever a person or
//! the rescue put into the state folder's `evidence`. Read by a child without rights.

use super::{SharedFeed, locked};
use crate::collect::{Place, Seen, Teller};
use crate::host::HostEvent;
use crate::parse;
use crate::windows::{places, safe_boot};
use ringward_evidence::inspect::Artefact;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// A dump is written in the boot after the one it is of: soon, or after minutes on a slow disk.
const AGAIN: [Duration; 4] = [
    Duration::from_secs(3),
    Duration::from_secs(10),
    Duration::from_secs(60),
    Duration::from_secs(240),
];
/// Afterwards only a person puts something there.
const LATER: Duration = Duration::from_secs(300);
const FILES_MAX: usize = 256;
const DEPTH_MAX: usize = 2;
/// Bytes of one file that reach the child; of a dump of gigabytes the header is enough.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
const LARGE_DUMP_BYTES: u64 = 64 * 1024;
/// Bytes of all files of one child; the rest waits for the next.
const ROUND_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A file that may be evidence.
#[derive(Debug, Clone)]
struct Candidate {
    path: PathBuf,
    bytes: u64,
    /// Tells a new file of an old name.
    entry: String,
}

fn folders(place: &Place) -> Vec<PathBuf> {
    let minidumps = safe_boot::minidump_dir().map(|named| {
        // As the registry has it: `%SystemRoot%\Minidump`, rarely expanded.
        let windows = places::windows();
        match named.to_ascii_lowercase().strip_prefix(r"%systemroot%\") {
            Some(rest) => windows.join(rest),
            None => PathBuf::from(named),
        }
    });
    let minidumps = minidumps.unwrap_or_else(|| places::windows().join("Minidump"));
    vec![minidumps, place.root.join("evidence")]
}

fn candidates(place: &Place) -> Vec<Candidate> {
    let mut found = Vec::new();
    for folder in folders(place) {
        walk(&folder, 0, &mut found);
    }
    add(
        &places::windows().join("MEMORY.DMP"),
        LARGE_DUMP_BYTES,
        &mut found,
    );
    found
}

fn walk(folder: &Path, depth: usize, into: &mut Vec<Candidate>) {
    let Ok(entries) = folder.read_dir() else {
        return;
    };
    let entries = entries.take(FILES_MAX).flatten().map(|entry| entry.path());
    let mut entries: Vec<PathBuf> = entries.collect();
    entries.sort();
    for path in entries {
        match path.symlink_metadata() {
            Ok(found) if found.is_dir() && !found.is_symlink() && depth < DEPTH_MAX => {
                walk(&path, depth + 1, into);
            }
            Ok(_) => add(&path, FILE_BYTES_MAX, into),
            Err(_) => {}
        }
    }
}

fn add(path: &Path, bytes_max: u64, into: &mut Vec<Candidate>) {
    let Ok(found) = path.symlink_metadata() else {
        return;
    };
    if !found.is_file() || into.len() == FILES_MAX {
        return;
    }
    let changed = found.modified().ok();
    let changed = changed.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let changed = changed.map_or(0, |since| since.as_secs());
    into.push(Candidate {
        entry: format!("{}:{}:{changed}", path.display(), found.len()),
        bytes: found.len().min(bytes_max),
        path: path.to_owned(),
    });
}

pub(super) async fn watch(place: Place, feed: SharedFeed, teller: Teller) {
    let mut seen = Seen::open(&place.root, "artefacts-seen");
    if seen.is_first() {
        // What lay here before the agent came tells nothing of what happens under it.
        seen.keep(entries(&candidates(&place)));
    }
    let mut pauses = AGAIN.into_iter();
    loop {
        // The log comes first: a dump then finds its stop.
        tokio::time::sleep(pauses.next().unwrap_or(LATER)).await;
        if !look(&place, &feed, &teller, &mut seen).await {
            return;
        }
    }
}

fn entries(found: &[Candidate]) -> BTreeSet<String> {
    found.iter().map(|file| file.entry.clone()).collect()
}

/// One look; `false` when nobody listens.
async fn look(place: &Place, feed: &SharedFeed, teller: &Teller, seen: &mut Seen) -> bool {
    let found = candidates(place);
    let mut bytes = 0;
    let mut waiting = BTreeSet::new();
    let mut files = Vec::new();
    for file in found.iter().filter(|file| !seen.has(&file.entry)) {
        bytes += file.bytes;
        if bytes > ROUND_BYTES_MAX && !files.is_empty() {
            waiting.insert(file.entry.clone());
            continue;
        }
        match read(file) {
            Some(content) => {
                files.push((Artefact::at(&file.path).path, content));
            }
            // Being written, or held by a scanner: looked at again.
            None => drop(waiting.insert(file.entry.clone())),
        }
    }
    if files.is_empty() {
        return true;
    }
    match parse::in_child(files).await {
        Ok(told) => {
            let drafts = {
                let mut feed = locked(feed);
                let mut drafts: Vec<_> = told
                    .into_iter()
                    .filter_map(|found| feed.found(found))
                    .collect();
                drafts.extend(feed.drain());
                feed.keep(None);
                drafts
            };
            for draft in drafts {
                if teller.tell.send(HostEvent::Signal(draft)).await.is_err() {
                    return false;
                }
            }
        }
        Err(error) => {
            let why = error.to_string();
            if !teller.lacks("sight of evidence left behind", &why).await {
                return false;
            }
        }
    }
    seen.keep(entries(&found).difference(&waiting).cloned().collect());
    true
}

fn read(file: &Candidate) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(&file.path).ok()?;
    opened.take(file.bytes).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}
